"""Copies of an example never stand on both sides of a split."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from keras_tl import errors
from keras_tl.analysis import folds
from keras_tl.data import datasets
from keras_tl.data.splits import Split, copies
from keras_tl.data.text import Texts


def images(count, seed=0):
    return np.random.default_rng(seed).integers(0, 256, (count, 4, 4, 3), "uint8")


def contents(split):
    return {row.tobytes() for row in split.read(range(len(split)))}


@given(
    repeats=st.lists(st.integers(1, 5), min_size=60, max_size=60),
    seed=st.integers(0, 3),
)
@settings(max_examples=25, deadline=None)
def test_drawn_splits_and_folds_share_no_image(repeats, seed):
    pixels = np.repeat(images(60), repeats, axis=0)
    labels = np.repeat(np.arange(60) % 2, repeats)
    data = datasets.from_arrays((pixels, labels), seed=seed, validation=0.2)
    train, validation, test = (contents(split) for _, split in data.items())
    assert len(train | validation | test) == len(train) + len(validation) + len(test)
    for split in (data.validation, data.test):
        assert len(split) == len(contents(split))
    rows = [row.tobytes() for row in pixels]
    count = sum(row in train for row in rows)
    assert len(data.train) == count
    left_out = len(pixels) - sum(len(split) for _, split in data.items())
    assert (f"copies of drawn examples {left_out}." in data.origin) == (left_out > 0)
    whole = Split(pixels, labels)
    (numbers,) = copies(whole)
    for learned, tested in folds.split(labels, 3, groups=numbers, seed=seed):
        assert not contents(whole.take(learned)) & contents(whole.take(tested))


@pytest.mark.parametrize("seed", range(4))
def test_a_block_of_equal_images_counts_once_in_a_split_that_is_drawn(seed):
    pixels = np.concatenate([images(100), np.zeros((40, 4, 4, 3), "uint8")])
    labels = np.concatenate([np.arange(100) % 2, np.zeros(40, int)])
    data = datasets.from_arrays(
        (pixels, labels), validation=0.2, test_share=0.2, seed=seed
    )
    assert (len(data.validation), len(data.test)) in ((17, 21), (16, 21), (17, 20))


def test_without_copies_nothing_is_drawn_in_another_way():
    labels = np.arange(40) % 2
    distinct = folds.split(labels, 4, groups=np.arange(40))
    for (one, _), (other, _) in zip(distinct, folds.split(labels, 4), strict=True):
        np.testing.assert_array_equal(one, other)


def test_test_images_that_are_given_for_training_too_are_left_out_and_counted():
    pixels, labels = images(60), np.arange(60) % 2
    with pytest.warns(errors.InputWarning, match="10 training examples"):
        data = datasets.from_arrays((pixels, labels), (pixels[5:15], labels[5:15]))
    assert not contents(data.test) & (contents(data.train) | contents(data.validation))
    assert len(data.test) == 10
    with pytest.raises(errors.InputError, match="All training examples"):
        datasets.from_arrays((pixels, labels), (pixels, labels))


def test_equal_pixels_are_equal_in_any_format_and_type_of_file(tmp_path):
    (pixels,) = images(1)
    paths = [tmp_path / f"one.{end}" for end in ("png", "bmp", "webp")]
    for path in paths:
        Image.fromarray(pixels).save(path, lossless=True)
    (numbers,) = copies(Split(paths, [0, 0, 1]))
    assert numbers.tolist() == [0, 0, 0]


def test_texts_are_equal_whatever_the_length_of_their_neighbours():
    one, other = Split(Texts(["a", "bb"]), [0, 1]), Split(Texts(["a", "long"]), [0, 1])
    assert [numbers.tolist() for numbers in copies(one, other)] == [[0, 1], [0, 2]]
