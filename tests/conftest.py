import os
from pathlib import Path

# TensorFlow's messages at start-up would drown pytest's.
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import keras
import numpy as np
import pytest
from keras import layers

from keras_tl.data.splits import Split, Splits
from keras_tl.training import phases, placement

ROOT = Path(__file__).parents[1]


@pytest.fixture(autouse=True)
def cache(monkeypatch, tmp_path):
    """A cache of features of each test's own: none finds what another has made."""
    monkeypatch.setenv("KERAS_TL_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"


@pytest.fixture
def colours():
    """A toy set that can be learned: three classes, each of its own colour."""

    def split(count, seed):
        rng = np.random.default_rng(seed)
        labels = np.arange(count) % 3
        images = rng.integers(0, 100, (count, 8, 8, 3))
        images[np.arange(count), :, :, labels] += 100
        return Split(images.astype("uint8"), labels)

    return Splits(
        split(50, 0), split(20, 1), split(31, 2), ["red", "green", "blue"], "A toy set."
    )


@pytest.fixture
def make_backbone():
    """A tiny backbone with what real ones have: convolution, normalization, a skip."""

    def make(image_size=8):
        image = keras.Input((image_size, image_size, 3), name="image")
        x = layers.Rescaling(1 / 127.5, -1, name="preprocess")(image)
        x = layers.Conv2D(4, 3, padding="same", name="block1_conv")(x)
        x = layers.BatchNormalization(name="block1_bn")(x)
        x = layers.ReLU(name="block1_relu")(x)
        skip = x
        x = layers.Conv2D(4, 3, padding="same", name="block2_conv")(x)
        x = layers.BatchNormalization(name="block2_bn")(x)
        x = layers.Add(name="block2_add")([x, skip])
        return keras.Model(image, x, name="tiny")

    return make


@pytest.fixture
def here():
    """Training on one device."""
    return phases.Setup(placement.choose(["CPU:0"]))


@pytest.fixture
def real_data():
    """The folder of real data and weights; the test is skipped where there is none."""
    folder = os.environ.get("KERAS_TL_TEST_DATA")
    if not folder:
        pytest.skip("KERAS_TL_TEST_DATA names no folder with real data and weights")
    return Path(folder)
