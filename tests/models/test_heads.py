import keras
import numpy as np
import pytest

from keras_tl import errors
from keras_tl.models import heads


def test_head_pools_drops_and_gives_logits(make_backbone):
    model = heads.attach(make_backbone(), 5, dropout=0.3)
    assert [layer.name for layer in model.layers[-3:]] == ["pool", "dropout", "logits"]
    assert model.output.shape == (None, 5)
    assert model.get_layer("dropout").rate == 0.3
    assert model.get_layer("logits").activation is keras.activations.linear


def test_logits_are_float32_under_every_precision(make_backbone):
    keras.config.set_dtype_policy("mixed_bfloat16")
    try:
        model = heads.attach(make_backbone(), 5)
        assert model.get_layer("block1_conv").compute_dtype == "bfloat16"
        assert model(np.zeros((1, 8, 8, 3), "uint8")).dtype == "float32"
    finally:
        keras.config.set_dtype_policy("float32")


def test_mlp_head_has_the_hidden_layers_asked_for(make_backbone):
    model = heads.attach_mlp(make_backbone(), 5, hidden=(7, 6), dropout=0)
    names = [layer.name for layer in model.layers[-4:]]
    assert names == ["flatten", "hidden_1", "hidden_2", "logits"]
    assert model.get_layer("hidden_1").kernel.shape == (8 * 8 * 4, 7)
    assert model.get_layer("hidden_2").kernel.shape == (7, 6)


def test_head_and_backbone_share_their_layers(make_backbone):
    backbone = make_backbone()
    model = heads.attach(backbone, 5)
    assert model.get_layer("block1_conv") is backbone.get_layer("block1_conv")
    assert not model.compiled


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"num_classes": 0}, "at least 1"),
        ({"num_classes": 3, "dropout": 1.0}, r"in \[0, 1\)"),
        ({"num_classes": 3, "dropout": -0.1}, "dropout=-0.1"),
    ],
)
def test_bad_input_is_named(make_backbone, arguments, message):
    with pytest.raises(errors.InputError, match=message):
        heads.attach(make_backbone(), **arguments)
    with pytest.raises(errors.InputError, match="hidden"):
        heads.attach_mlp(make_backbone(), 3, hidden=[0])


def classifiers():
    """Classifiers of 1,000 classes, of every kind that has a graph."""
    image = keras.Input((8, 8, 3), name="image")
    x = keras.layers.Conv2D(4, 3, name="conv")(image)
    pooled = keras.layers.GlobalAveragePooling2D(name="pooled")(x)
    yield (
        "functional",
        keras.Model(image, keras.layers.Dense(1000, activation="softmax")(pooled)),
    )
    separate = keras.layers.Dense(1000)(pooled)
    yield "separate softmax", keras.Model(image, keras.layers.Softmax()(separate))
    convolution = keras.layers.Conv2D(1000, 1)(x)
    yield (
        "convolutional",
        keras.Model(image, keras.layers.GlobalAveragePooling2D()(convolution)),
    )
    layers = [
        keras.layers.Conv2D(4, 3, name="conv"),
        keras.layers.GlobalAveragePooling2D(name="pooled"),
        keras.layers.Dense(1000),
    ]
    yield "sequential", keras.Sequential([keras.Input((8, 8, 3)), *layers])
    called = keras.Sequential([keras.layers.Flatten(), keras.layers.Dense(1000)])
    called(np.zeros((1, 8, 8, 3), "float32"))
    yield "called sequential", called
    nested = keras.Model(image, x, name="nested")
    outer = keras.Input((8, 8, 3))
    y = keras.layers.GlobalAveragePooling2D(name="pooled")(nested(outer))
    yield "nested", keras.Model(outer, keras.layers.Dense(1000)(y))


@pytest.mark.parametrize(
    "classifier", [pytest.param(model, id=name) for name, model in classifiers()]
)
def test_replaced_classifier_keeps_the_features_and_saves_bit_equal(
    classifier, tmp_path
):
    pixels = np.random.default_rng(0).integers(0, 256, (2, 8, 8, 3), dtype="uint8")
    before = [weight.numpy() for weight in classifier.weights]
    model = heads.replace(classifier, 7, dropout=0.1)
    assert model.output.shape == (None, 7)
    kept = model.weights[:-2]
    assert len(kept) == len(before) - 2
    for weight, value in zip(kept, before, strict=False):
        np.testing.assert_array_equal(weight, value)
    model.save(tmp_path / "model.keras")
    loaded = keras.models.load_model(tmp_path / "model.keras")
    np.testing.assert_array_equal(loaded(pixels), model(pixels))


def test_the_cut_can_be_named(make_backbone):
    old = heads.attach_mlp(make_backbone(), 5, hidden=(7, 6), dropout=0.5)
    model = heads.replace(old, 3, at="hidden_1", dropout=0.2)
    assert model.layers[-3] is old.get_layer("hidden_1")
    assert model.get_layer("logits").kernel.shape == (7, 3)
    again = heads.replace(old, 3, dropout=0.2)
    assert again.layers[-2].name == "new_dropout"
    with pytest.raises(errors.InputError, match="Did you mean hidden_"):
        heads.replace(old, 3, at="hiden_1")


def test_a_backbone_with_its_imagenet_classifier_can_get_another():
    old = keras.applications.MobileNetV2(
        weights=None, alpha=0.35, input_shape=(32, 32, 3)
    )
    model = heads.replace(old, 10)
    assert model.output.shape == (None, 10)
    assert model.get_layer("logits").kernel.shape == (1280, 10)


class Subclassed(keras.Model):
    def call(self, x):
        return x


@pytest.mark.parametrize(
    ("model", "message"),
    [
        (keras.Sequential([keras.layers.Dense(3)]), "Call it once on a batch"),
        (Subclassed(), "class Subclassed.*Build a functional model around"),
        (keras.Sequential([keras.Input((2, 2, 3)), keras.layers.Flatten()]), "weights"),
    ],
)
def test_a_model_whose_classifier_cannot_be_found_says_what_to_do(model, message):
    with pytest.raises(errors.InputError, match=message):
        heads.replace(model, 3)


@pytest.mark.parametrize("old", [2, 8, 17])
@pytest.mark.parametrize("count", [3, 64])
def test_the_old_logits_of_a_wider_head_are_equal_bit_for_bit(
    make_backbone, old, count
):
    model = heads.attach(make_backbone(), old)
    rng = np.random.default_rng(0)
    images = rng.integers(0, 256, (count, 8, 8, 3), dtype="uint8")
    before = model.predict_on_batch(images)
    wider = heads.widen(model, old + 5)
    after = wider.predict_on_batch(images)
    np.testing.assert_array_equal(after[:, :old], before)
    np.testing.assert_array_equal(after[:, old:], 0)
    assert heads.widen(wider, old + 5) is wider


def test_a_head_that_cannot_grow_is_named(make_backbone):
    with pytest.raises(errors.InputError, match="at least 4"):
        heads.widen(heads.attach(make_backbone(), 4), 3)
    with pytest.raises(errors.InputError, match="end in a Dense layer"):
        heads.widen(make_backbone(), 3)
