"""What docs/vgg16_cifar10.md says that the article's code does, tried again."""

import importlib
import re
from pathlib import Path

import keras
import numpy as np
import pytest

PAGE = (Path(__file__).parents[1] / "docs" / "vgg16_cifar10.md").read_text()
ROWS = dict(re.findall(r"^\| (\d+) \| (.*) \|$", PAGE, re.MULTILINE))


def test_all_sixteen_are_on_the_page():
    assert sorted(map(int, ROWS)) == list(range(1, 17))


def test_1_the_generator_is_not_where_it_was():
    module = importlib.import_module("keras.preprocessing.image")
    assert not hasattr(module, "ImageDataGenerator")
    assert "ImportError" in ROWS["1"]


def test_2_without_a_shape_nothing_can_be_flattened_into_a_dense_layer():
    base = keras.applications.VGG16(weights=None, include_top=False)
    x = keras.layers.Flatten()(base.output)
    with pytest.raises(ValueError, match="fully-defined"):
        keras.layers.Dense(4096)(x)


def test_3_and_4_the_head_is_larger_than_the_backbone():
    base = keras.applications.VGG16(
        weights=None, include_top=False, input_shape=(32, 32, 3)
    )
    x = keras.layers.Flatten()(base.output)
    for units in (4096, 4096, 1000):
        x = keras.layers.Dense(units)(x)
    model = keras.Model(base.input, x)
    assert f"{model.count_params() - base.count_params():,}" in ROWS["3"]
    assert f"{512 * 10 + 10:,} weights" in ROWS["3"]


def compiled(loss):
    model = keras.Sequential([keras.Input((4,)), keras.layers.Dense(10)])
    model.compile("rmsprop", loss)
    return model


def test_5_labels_and_loss_do_not_fit():
    model = compiled("categorical_crossentropy")
    with pytest.raises(ValueError, match="same shape"):
        model.fit(np.zeros((8, 4)), np.zeros((8, 1), int), verbose=0)


def test_6_divided_by_255_is_not_what_vgg16_was_trained_on():
    pixels = np.random.default_rng(0).uniform(0, 255, (1, 4, 4, 3))
    wanted = keras.applications.vgg16.preprocess_input(pixels.copy())
    assert wanted.min() < -50
    assert (pixels / 255).max() <= 1


def test_9_fit_generator_is_gone():
    assert not hasattr(keras.Model, "fit_generator")


def test_10_half_a_step_is_no_step():
    with pytest.raises(TypeError, match="float"):
        compiled("mse").fit(
            np.zeros((50, 4)), np.zeros((50, 10)), steps_per_epoch=50 / 32, verbose=0
        )


def test_12_what_was_not_saved_cannot_be_loaded(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(FileNotFoundError):
        keras.models.load_model("model.h5")


@pytest.mark.parametrize(("size", "cells"), [(32, 1), (96, 3)])
def test_13_the_map_of_a_small_image_has_one_cell(size, cells):
    shape = (size, size, 3)
    base = keras.applications.VGG16(weights=None, include_top=False, input_shape=shape)
    assert base.output.shape[1:3] == (cells, cells)
    assert f"{cells}x{cells}" in ROWS["13"]
