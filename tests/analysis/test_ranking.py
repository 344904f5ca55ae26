import json
from dataclasses import replace

import keras
import numpy as np
import pytest

from keras_tl import errors
from keras_tl.analysis import candidates, ranking, transferability
from keras_tl.data.splits import Split, Splits
from keras_tl.models import backbones, catalog, freezing, heads
from keras_tl.training import phases, store


@pytest.fixture
def keras_folder(tmp_path, monkeypatch):
    """A folder of Keras without any weights."""
    (tmp_path / "keras/models").mkdir(parents=True)
    monkeypatch.setenv("KERAS_HOME", str(tmp_path / "keras"))
    return tmp_path / "keras/models"


@pytest.fixture
def squares():
    """Images of 32 pixels that can be told apart by their colours."""

    def split(count, seed):
        rng = np.random.default_rng(seed)
        labels = np.arange(count) % 2
        images = rng.integers(0, 150, (count, 32, 32, 3))
        images[np.arange(count), :, :, labels] += 60
        return Split(images.astype("uint8"), labels)

    return Splits(split(40, 0), split(30, 1), split(10, 2), ["a", "b"], "Squares.")


@pytest.fixture
def tiny(monkeypatch, make_backbone):
    """Candidates are small backbones: a good one, and one that sees nothing."""

    def load(candidate, data):
        keras.utils.set_random_seed(0)
        backbone = make_backbone(candidate.image_size)
        if candidate.weights is None:
            # Its features are all 0: each weight of the last convolution is.
            for weight in backbone.get_layer("block1_conv").weights:
                weight.assign(keras.ops.zeros_like(weight))
            for weight in backbone.get_layer("block2_conv").weights:
                weight.assign(keras.ops.zeros_like(weight))
        return backbone

    monkeypatch.setattr(candidates.Images, "load", load)


def test_candidates_at_hand_are_known_by_the_names_of_files(keras_folder):
    assert [one.name for one in candidates.at_hand()] == ["efficientnet_lite0"]
    for name in ("mobilenet_2_5_224_tf_no_top.h5", "mobilenet_2_5_224_tf.h5"):
        (keras_folder / name).touch()
    name = "inception_v3_weights_tf_dim_ordering_tf_kernels_notop.h5"
    (keras_folder / name).touch()
    (keras_folder / "unknown_notop.h5").touch()
    by_name = {one.name: one for one in candidates.at_hand()}
    assert list(by_name) == ["efficientnet_lite0", "mobilenet 0.25", "inception_v3"]
    mobilenet = by_name["mobilenet 0.25"]
    assert mobilenet.classifier == keras_folder / "mobilenet_2_5_224_tf.h5"
    assert mobilenet.imagenet_accuracy is None
    # At 96 pixels its last feature map would have one cell.
    assert by_name["inception_v3"].image_size == 139
    assert by_name["inception_v3"].imagenet_accuracy == 0.779
    assert candidates.named("inception_v3", 100).image_size == 100
    # It takes no smaller images than 75 pixels, the others do.
    assert [one.name for one in candidates.at_hand(64)] == list(by_name)[:2]


def test_a_misspelled_option_is_named_with_the_right_one():
    with pytest.raises(errors.InputError, match="Did you mean alpha"):
        candidates.named("mobilenet", alfa=0.25)


def test_the_features_of_a_ranking_serve_the_training(
    tiny, squares, here, tmp_path, capsys
):
    folder = tmp_path / "features"
    candidate = candidates.Images("efficientnet_lite0", image_size=32)
    ranking.rank([candidate], squares, cache=store.Cache(folder))
    assert "Candidate 1 of 1: efficientnet_lite0" in capsys.readouterr().out
    # As a recipe does it, with the same weights.
    backbone = candidate.load(squares)
    freezing.freeze(backbone)
    model = heads.attach(backbone, 2)
    cache = store.Cache(folder)
    setup = replace(here, cache=cache)
    phases.fit(model, squares.at_size(32), setup, phases.Phase(1))
    assert (cache.made, cache.found) == (0, 70)


def test_a_blind_backbone_is_last_and_the_test_split_is_not_read(tiny, squares):
    class Unreadable(Split):
        def at_size(self, *arguments):
            return self

        def read(self, indices):
            raise AssertionError("the test split was read")

    data = replace(squares, test=Unreadable(squares.test.inputs, squares.test.labels))
    both = [
        candidates.Images("efficientnet_lite0", None, 32),
        candidates.Images("efficientnet_lite0", image_size=32),
    ]
    ranked = ranking.rank(both, data)
    rows = ranked.rows()
    assert [row["name"] for row in rows] == [
        "efficientnet_lite0",
        "efficientnet_lite0, random",
    ]
    assert rows[0]["expected_accuracy"] > 0.9
    assert not rows[1]["tied_with_first"]
    assert rows[0]["imagenet_rank"] == 1
    assert rows[1]["imagenet_accuracy"] == 0.001
    assert "No other one reaches it" in ranked.sentence()
    json.dumps(rows)


def test_ties_are_said(tiny, squares):
    both = [
        candidates.Images("efficientnet_lite0", image_size=32),
        candidates.Images("mobilenet_v2", image_size=32),
    ]
    ranked = ranking.rank(both, squares)
    assert len(ranked.order.tied) == 2
    assert ranked.strongest.candidate.backbone == "efficientnet_lite0"
    assert "Tied with it, within chance: " in ranked.sentence()
    assert all(row["tied_with_first"] for row in ranked.rows())


def test_bad_input_is_refused_before_anything_runs(squares, tiny):
    one = candidates.Images("efficientnet_lite0", image_size=32)
    with pytest.raises(errors.InputError, match="names of their own"):
        ranking.rank([one, one], squares)
    with pytest.raises(errors.InputError, match="decision"):
        ranking.rank([one], squares, decision="accuracy")
    with pytest.raises(errors.InputError, match="at least 1"):
        ranking.rank([], squares)
    numbers = Split(squares.train.inputs, np.linspace(0, 1, 40)[:, None])
    others = Split(squares.validation.inputs, np.linspace(0, 2, 30)[:, None])
    data = Splits(numbers, others, others, ["age"], "Numbers.")
    with pytest.raises(errors.InputError, match="one class for each example"):
        ranking.rank([one], data)
    with pytest.raises(errors.InputError, match="backbone"):
        candidates.named("mobilenet_v9")


def test_memory_is_that_of_weights_and_of_what_is_alive():
    x = image = keras.Input((8, 8, 3))
    x = keras.layers.Conv2D(4, 1, use_bias=False)(x)
    skip = x
    x = keras.layers.ReLU()(x)
    x = keras.layers.Add()([x, skip])
    # Three maps of 4 channels at the sum: its two inputs and its output.
    assert ranking.memory(keras.Model(image, x)) == 4 * (12 + 3 * 8 * 8 * 4)
    assert ranking.memory(keras.Model(image, x), 2) == 4 * (12 + 2 * 3 * 8 * 8 * 4)


def test_the_classifier_of_a_file_is_found(tmp_path):
    image = keras.Input((8, 8, 3))
    x = keras.layers.Conv2D(5, 3)(image)
    x = keras.layers.GlobalAveragePooling2D()(x)
    model = keras.Model(image, keras.layers.Dense(1000)(x))
    model.save_weights(tmp_path / "top.weights.h5")
    kernel, bias = backbones.classifier(tmp_path / "top.weights.h5", 5)
    np.testing.assert_array_equal(kernel, model.layers[-1].kernel)
    np.testing.assert_array_equal(bias, model.layers[-1].bias)
    assert backbones.classifier(tmp_path / "top.weights.h5", 6) is None
    (tmp_path / "bad.h5").write_text("no weights")
    with pytest.raises(errors.InputError, match="is truncated, damaged"):
        backbones.classifier(tmp_path / "bad.h5", 5)


def test_leep_and_nce_are_there_where_the_classifier_is(tiny, squares, tmp_path):
    image = keras.Input((8,))
    dense = keras.Model(image, keras.layers.Dense(1000)(keras.layers.Dense(4)(image)))
    dense.save_weights(tmp_path / "top.weights.h5")
    candidate = candidates.Images(
        "efficientnet_lite0", image_size=32, classifier=tmp_path / "top.weights.h5"
    )
    scores = ranking.rank([candidate], squares).best.scores
    assert scores["LEEP"] <= 0
    assert scores["NCE"] <= 0


def test_every_decision_can_be_taken(tiny, squares):
    one = candidates.Images("efficientnet_lite0", image_size=32)
    measured = [ranking.measure(one, squares.at_size(32))]
    for decision in transferability.DECISIONS:
        ranked = ranking.ordered(measured, decision)
        assert ranked.order.first.value == measured[0].scores[decision]


def test_every_backbone_of_keras_has_a_file():
    for backbone in catalog.BACKBONES.values():
        if backbone.constructor:
            assert backbone.file_name().endswith(".h5")
            assert "top" not in backbone.file_name(classifier=True)
