"""The planner decides by what was measured, and each decision has its reason."""

import dataclasses

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


def test_more_is_fine_tuned_the_more_images_there_are(colours):
    frozen = [
        ["none", *BLOCKS].index(decided(colours, each, SIMILAR, 6)["freeze"])
        for each in (planner.FEW_EACH - 1, planner.FEW_EACH, planner.MANY_EACH)
    ]
    assert frozen == sorted(frozen, reverse=True)
    assert frozen[-1] == 0 < frozen[1]


def test_all_is_fine_tuned_where_images_are_different_and_there_is_time(colours):
    few = planner.FEW_EACH - 1
    assert decided(colours, few, DIFFERENT, planner.ENOUGH_EPOCHS)["freeze"] == "none"
    hurried = decided(colours, few, DIFFERENT, planner.ENOUGH_EPOCHS - 1)
    assert hurried["freeze"] == planner.freeze_points(BLOCKS)["upper half"]


def test_images_are_changed_where_there_is_time_and_mirrored_where_that_is_harmless(
    colours,
):
    many, enough = planner.MANY_EACH, planner.LONG_EPOCHS
    assert decided(colours, many, SIMILAR, enough)["augment"] == "zoom_and_flip"
    assert decided(colours, many, DIFFERENT, enough)["augment"] == "zoom"
    assert decided(colours, many, SIMILAR, enough - 1)["augment"] == "none"


@pytest.mark.slow
@pytest.mark.parametrize(("name", "similar"), [("cifar10_sample", 1), ("digits", 0)])
def test_photographs_are_similar_to_those_of_imagenet_and_digits_are_not(name, similar):
    data = datasets.load(name).at_size(96)
    backbone = backbones.load("efficientnet_lite0", image_size=96)
    model = heads.attach(backbone, len(data.class_names))
    measured = planner.measure_similarity(model, data)
    assert measured.is_similar == bool(similar)
    assert set(measured.curve) <= set(freezing.blocks(model))
