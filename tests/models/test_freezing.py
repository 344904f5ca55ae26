import keras
import numpy as np
import pytest

from keras_tl import errors
from keras_tl.models import freezing, heads
from keras_tl.training import phases


def trains(model):
    """Names of the layers that Keras would train."""
    ids = {id(weight) for weight in model.trainable_weights}
    return {
        layer.name
        for layer in freezing.leaves(model)
        if any(id(weight) in ids for weight in layer.weights)
    }


@pytest.fixture
def classifier(make_backbone):
    return heads.attach(make_backbone(), 3)


def test_freeze_freezes_everything(classifier):
    freezing.freeze(classifier)
    assert trains(classifier) == set()


def test_freezing_the_backbone_leaves_the_head(make_backbone):
    backbone = make_backbone()
    model = heads.attach(backbone, 3)
    freezing.freeze(backbone)
    assert trains(model) == {"logits"}


def test_freeze_up_to_takes_a_block_or_a_layer(classifier):
    freezing.freeze_up_to(classifier, "block1")
    assert trains(classifier) == {"block2_conv", "block2_bn", "logits"}
    freezing.freeze_up_to(classifier, "block2_conv")
    assert trains(classifier) == {"block2_bn", "logits"}


def test_the_head_alone_is_what_heads_put_there(make_backbone):
    backbone = make_backbone()
    top = keras.layers.Conv2D(4, 1, name="top_conv")(backbone.output)
    backbone = keras.Model(backbone.input, top)
    model = heads.attach_mlp(backbone, 3, hidden=[5, 4])
    freezing.unfreeze_head(model)
    assert trains(model) == {"hidden_1", "hidden_2", "logits"}
    # A model of somebody else's: the last layer that has weights.
    freezing.unfreeze_head(backbone)
    assert trains(backbone) == {"top_conv"}


def test_unfreezing_skips_batch_normalization_unless_asked(classifier):
    freezing.freeze(classifier)
    freezing.unfreeze_from(classifier, "block2")
    assert trains(classifier) == {"block2_conv", "logits"}
    freezing.unfreeze(classifier)
    assert trains(classifier) == {"block1_conv", "block2_conv", "logits"}
    freezing.unfreeze(classifier, batch_normalization=True)
    assert {"block1_bn", "block2_bn"} <= trains(classifier)


def test_train_only_takes_the_named_layers(classifier):
    freezing.train_only(classifier, ["block2_bn", "logits"])
    assert trains(classifier) == {"block2_bn", "logits"}
    with pytest.raises(errors.InputError, match="Did you mean block2_conv"):
        freezing.train_only(classifier, ["block2_con"])


@pytest.mark.parametrize(
    ("count", "expected"),
    [
        (0, {"logits"}),
        (1, {"block2_conv", "logits"}),
        (2, {"block1_conv", "block2_conv", "logits"}),
    ],
)
def test_blocks_are_counted_from_the_output(classifier, count, expected):
    freezing.unfreeze_blocks(classifier, count)
    assert trains(classifier) == expected


def test_blocks_of_a_model_with_other_names_are_not_known():
    model = keras.Sequential([keras.Input((4,)), keras.layers.Dense(2, name="fc")])
    with pytest.raises(errors.InputError, match="blocks of .* are not known"):
        freezing.unfreeze_blocks(model, 1)


def test_what_lies_between_the_last_block_and_the_head_belongs_to_that_block():
    names = ("block1_a", "block2_a", "top", "logits")
    found = [keras.layers.Dense(4, name=name) for name in names]
    model = keras.Sequential([keras.Input((4,)), *found])
    freezing.unfreeze_blocks(model, 0)
    assert trains(model) == {"logits"}
    freezing.unfreeze_blocks(model, 1)
    assert trains(model) == {"block2_a", "top", "logits"}


def test_block1_is_not_block10():
    model = keras.Sequential([keras.Input((4,))])
    for number in (1, 2, 10):
        model.add(keras.layers.Dense(4, name=f"block{number}_dense"))
    freezing.freeze(model)
    freezing.unfreeze_from(model, "block10")
    assert trains(model) == {"block10_dense"}
    freezing.freeze(model)
    freezing.unfreeze_from(model, "block1")
    assert trains(model) == {"block1_dense", "block2_dense", "block10_dense"}


def test_nested_models_are_frozen_by_their_layers(make_backbone):
    image = keras.Input((8, 8, 3))
    nested = make_backbone()
    x = keras.layers.GlobalAveragePooling2D()(nested(image))
    model = keras.Model(image, keras.layers.Dense(3, name="logits")(x))
    nested.trainable = False
    freezing.unfreeze_from(model, "block2")
    assert trains(model) == {"block2_conv", "logits"}
    freezing.freeze(model)
    assert trains(model) == set()


def test_frozen_weights_and_statistics_stay_while_the_rest_moves(
    classifier, colours, here
):
    freezing.freeze(classifier)
    freezing.unfreeze_from(classifier, "block2")
    before = {w.path: w.numpy().copy() for w in classifier.weights}
    phases.fit(
        classifier, colours, here, phases.fine_tuning(epochs=2, learning_rate=0.01)
    )
    moved = {
        w.path
        for w in classifier.weights
        if not np.array_equal(w.numpy(), before[w.path])
    }
    assert moved == {
        "block2_conv/kernel",
        "block2_conv/bias",
        "logits/kernel",
        "logits/bias",
    }


def test_batch_normalization_keeps_its_statistics_under_plain_fit_too(
    classifier, colours
):
    freezing.unfreeze(classifier)
    classifier.compile("sgd", keras.losses.SparseCategoricalCrossentropy(True))
    statistics = classifier.get_layer("block1_bn").moving_mean
    before = statistics.numpy().copy()
    classifier.fit(
        colours.train.inputs.pixels, colours.train.labels, epochs=2, verbose=0
    )
    np.testing.assert_array_equal(statistics.numpy(), before)


def test_after_a_change_fit_says_compile_instead_of_training_the_old_weights(
    classifier, colours
):
    classifier.compile("sgd", keras.losses.SparseCategoricalCrossentropy(True))
    classifier.fit(colours.train.inputs.pixels, colours.train.labels, verbose=0)
    freezing.freeze_up_to(classifier, "block2")
    with pytest.raises(ValueError, match="compile"):
        classifier.fit(colours.train.inputs.pixels, colours.train.labels, verbose=0)


def test_report_tells_the_truth(classifier):
    freezing.freeze(classifier)
    freezing.unfreeze_from(classifier, "block2")
    report = freezing.report(classifier)
    rows = {name: (kind, count, moves) for name, kind, count, moves in report.rows}
    assert rows["block1_conv"] == ("Conv2D", 3 * 3 * 3 * 4 + 4, False)
    assert rows["block2_conv"] == ("Conv2D", 3 * 3 * 4 * 4 + 4, True)
    assert rows["block2_bn"] == ("BatchNormalization", 16, False)
    assert report.head == 4 * 3 + 3
    assert report.trainable == 148 + 15
    assert report.trainable + report.frozen == classifier.count_params()
    assert "15" in str(report)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda m: freezing.unfreeze_from(m, "block3"), "Did you mean block"),
        (lambda m: freezing.freeze_up_to(m, "blokc2_conv"), "block2_conv"),
        (lambda m: freezing.unfreeze_blocks(m, 3), r"in \[0, 2\]"),
    ],
)
def test_a_freeze_point_that_is_not_there_is_named_and_nothing_changes(
    classifier, change, message
):
    freezing.freeze_up_to(classifier, "block1")
    before = trains(classifier)
    with pytest.raises(errors.InputError, match=message):
        change(classifier)
    assert trains(classifier) == before
