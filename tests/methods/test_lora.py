import keras
import numpy as np
import pytest
from keras import layers

from keras_tl import errors
from keras_tl.methods import lora
from keras_tl.models import freezing, heads, text_backbones
from keras_tl.training import phases


@pytest.fixture
def classifier(make_backbone):
    keras.utils.set_random_seed(0)
    return heads.attach(make_backbone(), 3, dropout=0.0)


def values(model):
    """Weights by path, but for what random layers draw from."""
    return {w.path: keras.ops.convert_to_numpy(w) for w in model.weights}


def test_a_model_just_adapted_predicts_what_it_did(classifier, colours):
    before = classifier.predict(colours.test.inputs.pixels, verbose=0)
    lora.enable(classifier, rank=2)
    after = classifier.predict(colours.test.inputs.pixels, verbose=0)
    np.testing.assert_array_equal(after, before)


def test_training_moves_the_changes_and_the_head_alone(classifier, colours, here):
    start = values(classifier)
    said = lora.enable(classifier, rank=2)
    phases.fit(
        classifier, colours, here, phases.fine_tuning(epochs=2, learning_rate=0.05)
    )
    moved = {
        path
        for path, value in values(classifier).items()
        if path in start and not np.array_equal(value, start[path])
    }
    assert moved == {"logits/kernel", "logits/bias"}
    assert any(
        value.any()
        for path, value in values(classifier).items()
        if path.endswith("lora_kernel_b")
    )
    assert said.adapted == ("block1_conv", "block2_conv")


def test_the_effective_kernel_is_the_sum_of_the_paper():
    image = keras.Input((5,))
    body = layers.Dense(4, name="body")
    model = keras.Model(image, layers.Dense(2, name="logits")(body(image)))
    kernel = body.get_weights()[0]
    lora.enable(model, rank=2, alpha=3.0)
    b = np.arange(8, dtype="float32").reshape(2, 4)
    body.lora_kernel_b.assign(b)
    a = keras.ops.convert_to_numpy(body.lora_kernel_a)
    np.testing.assert_allclose(body.kernel, kernel + 3 / 2 * a @ b, rtol=1e-5)


def test_unfreezing_later_does_not_move_what_lora_holds(classifier):
    lora.enable(classifier, rank=2)
    freezing.unfreeze(classifier)
    training = {weight.path for weight in classifier.trainable_weights}
    assert not training & {"block1_conv/kernel", "block2_conv/bias"}
    assert "block2_conv/lora_kernel_a" in training
    freezing.freeze_up_to(classifier, "block1")
    training = {weight.path for weight in classifier.trainable_weights}
    assert {path.partition("/")[0] for path in training} == {"block2_conv", "logits"}


def test_the_frozen_part_below_is_run_once(classifier, colours, here):
    freezing.freeze_up_to(classifier, "block1")
    lora.enable(classifier)
    part, _ = phases.precompute_frozen(classifier, colours, here)
    assert "block1_conv" not in {layer.name for layer in part.layers}


def test_merged_is_a_plain_model_that_predicts_the_same(
    classifier, colours, here, tmp_path
):
    lora.enable(classifier, rank=2)
    phases.fit(
        classifier, colours, here, phases.fine_tuning(epochs=2, learning_rate=0.05)
    )
    merged = lora.merge(classifier)
    assert not any("lora" in weight.path for weight in merged.weights)
    images = colours.test.inputs.pixels
    wanted = classifier.predict(images, verbose=0)
    np.testing.assert_allclose(merged.predict(images, verbose=0), wanted, atol=1e-5)
    merged.save(tmp_path / "m.keras")
    again = keras.models.load_model(tmp_path / "m.keras")
    assert again.count_params() == merged.count_params()
    np.testing.assert_array_equal(
        again.predict(images, verbose=0), merged.predict(images, verbose=0)
    )


@pytest.mark.parametrize(
    "holder",
    [
        lambda x: layers.MultiHeadAttention(2, 3, name="attention")(x, x),
        lambda x: layers.Bidirectional(layers.LSTM(3, return_sequences=True))(x),
    ],
)
def test_layers_that_hold_layers_are_merged_with_their_weights(holder):
    sequence = keras.Input((5, 4))
    x = layers.Dense(6, name="body")(holder(sequence))
    x = layers.GlobalAveragePooling1D(name="pool")(x)
    model = keras.Model(sequence, layers.Dense(3, name="logits")(x))
    assert "body" in lora.enable(model, rank=2).adapted
    body = model.get_layer("body")
    body.lora_kernel_b.assign(np.ones(body.lora_kernel_b.shape))
    data = np.random.default_rng(0).normal(size=(2, 5, 4))
    wanted = model.predict(data, verbose=0)
    merged = lora.merge(model)
    np.testing.assert_allclose(merged.predict(data, verbose=0), wanted, atol=1e-5)


def test_a_layer_without_lora_is_reported():
    image = keras.Input((8, 8, 3))
    x = layers.DepthwiseConv2D(3, name="depthwise")(image)
    x = layers.Conv2D(4, 1, name="pointwise")(x)
    model = heads.attach(keras.Model(image, x), 3)
    total = model.count_params()
    said = lora.enable(model, rank=2)
    assert said.adapted == ("pointwise",)
    assert said.skipped == {"depthwise": "DepthwiseConv2D"}
    # A is (1 * 1 * 3, 2), B is (2, 4), and the head 4 * 3 + 3.
    assert said.trainable == 6 + 8 + 15
    assert said.total == total
    assert "1 DepthwiseConv2D" in str(said)


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"rank": 0}, "rank=0"),
        ({"alpha": 0.0}, "alpha"),
    ],
)
def test_what_cannot_work_is_said_and_nothing_is_changed(classifier, options, said):
    count = len(classifier.weights)
    with pytest.raises(errors.InputError, match=said):
        lora.enable(classifier, **options)
    assert len(classifier.weights) == count


def test_nothing_to_adapt_is_said(classifier):
    freezing.train_only(classifier, ["block2_bn", "logits"])
    with pytest.raises(errors.InputError, match="can: block1_conv, block2_conv"):
        lora.enable(classifier)


def test_a_second_time_is_refused(classifier):
    lora.enable(classifier)
    with pytest.raises(errors.InputError, match="already"):
        lora.enable(classifier)


@pytest.mark.slow
def test_the_kernels_inside_of_composite_layers_are_adapted(tiny_bert, tmp_path):
    encoder = text_backbones.load(tiny_bert, sequence_length=6)
    model = heads.attach(encoder, 2, dropout=0.0)
    freezing.unfreeze_blocks(model, 1)
    tokens = np.array([[2, 4, 5, 7, 3, 0], [2, 6, 3, 0, 0, 0]], "int32")
    before = model.predict(tokens, verbose=0)
    report = lora.enable(model, rank=2)
    # Query, key, value and output of the attention, and both of the feed-forward part.
    assert len(report.adapted) == 6
    assert all("transformer_layer_1" in path for path in report.adapted)
    np.testing.assert_allclose(model.predict(tokens, verbose=0), before, atol=1e-6)
    training = [weight.path for weight in model.trainable_weights]
    assert len(training) == 2 * 6 + 2
    assert all("lora_kernel" in path or "logits" in path for path in training)
    kernels = {w.path: w.numpy() for w in model.weights}
    model.compile("adam", keras.losses.SparseCategoricalCrossentropy(from_logits=True))
    model.fit(tokens, np.array([0, 1]), epochs=3, verbose=0)
    for weight in model.weights:
        moved = not np.array_equal(kernels[weight.path], weight.numpy())
        assert moved == (weight.path in training), weight.path
    merged = lora.merge(model)
    merged.save(tmp_path / "merged.keras")
    again = keras.models.load_model(tmp_path / "merged.keras")
    assert not any("lora" in weight.path for weight in again.weights)
    np.testing.assert_allclose(
        again.predict(tokens, verbose=0), model.predict(tokens, verbose=0), atol=1e-5
    )
    with pytest.raises(errors.InputError, match="low-rank changes already"):
        lora.enable(model)
