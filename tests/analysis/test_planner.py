"""The planner decides by what was measured, and each decision has its reason."""

import dataclasses

import keras
import numpy as np
import pytest

from keras_tl.analysis import planner
from keras_tl.data import datasets
from keras_tl.data.splits import Split
from keras_tl.models import backbones, freezing, heads

BLOCKS = {name: [name] for name in ("stem", "block1", "block2", "block3", "block4")}
SIMILAR = planner.Similarity({"block1": 0.5, "block2": 0.6, "block4": 0.8}, 0.8)
DIFFERENT = planner.Similarity({"block1": 0.5, "block2": 0.8, "block4": 0.81}, 0.5)


def decided(colours, each, measured, epochs):
    count = each * len(colours.class_names)
    pixels = np.zeros((count, 1, 1, 1), "uint8")
    labels = np.arange(count) % len(colours.class_names)
    data = dataclasses.replace(colours, train=Split(pixels, labels))
    decisions = planner.fine_tuning(data, BLOCKS, measured, epochs)
    assert all(decision.reason for decision in decisions)
    return {decision.name: decision.value for decision in decisions}


def test_images_are_similar_where_the_last_blocks_help():
    assert SIMILAR.is_similar
    assert not DIFFERENT.is_similar
    assert SIMILAR.survives_flips
    assert not DIFFERENT.survives_flips


@pytest.mark.parametrize("each", [1, 20, 1000])
def test_all_layers_are_fine_tuned_where_there_is_time(colours, each):
    enough = planner.ENOUGH_EPOCHS
    upper = planner.freeze_points(BLOCKS)["upper half"]
    for measured in (SIMILAR, DIFFERENT, None):
        assert decided(colours, each, measured, enough)["freeze"] == "none"
        assert decided(colours, each, measured, enough - 1)["freeze"] == upper


def test_images_are_changed_where_there_is_time_and_mirrored_where_that_is_harmless(
    colours,
):
    enough = planner.LONG_EPOCHS
    assert decided(colours, 20, SIMILAR, enough)["augment"] == "zoom_and_flip"
    assert decided(colours, 20, DIFFERENT, enough)["augment"] == "zoom"
    assert decided(colours, 20, None, enough)["augment"] == "zoom"
    assert decided(colours, 20, SIMILAR, enough - 1)["augment"] == "none"
    # Of frozen layers, changed images would not be the same twice.
    assert decided(colours, 20, SIMILAR, 1)["augment"] == "none"


@pytest.mark.parametrize("number", range(1, 9))
def test_similarity_is_measured_on_any_number_of_blocks(number, colours):
    image = keras.Input((8, 8, 3))
    x = keras.layers.Rescaling(1 / 255)(image)
    for index in range(1, number + 1):
        x = keras.layers.Conv2D(4, 1, name=f"block{index}_conv")(x)
    backbone = keras.Model(image, x)
    names = [f"block{index}" for index in range(1, number + 1)]
    assert list(freezing.blocks(backbone)) == names
    measured = planner.measure_similarity(backbone, colours)
    # Up to five of them, without the first where there are others, and with the last.
    assert len(measured.curve) == min(5, max(1, number - 1))
    assert number < 2 or names[0] not in measured.curve
    assert names[-1] in measured.curve


@pytest.mark.slow
@pytest.mark.parametrize(("name", "similar"), [("cifar10_sample", 1), ("digits", 0)])
def test_photographs_are_similar_to_those_of_imagenet_and_digits_are_not(name, similar):
    data = datasets.load(name).at_size(96)
    backbone = backbones.load("efficientnet_lite0", image_size=96)
    model = heads.attach(backbone, len(data.class_names))
    measured = planner.measure_similarity(model, data)
    assert measured.is_similar == bool(similar)
    assert set(measured.curve) <= set(freezing.blocks(model))
