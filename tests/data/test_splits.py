import dataclasses
import errno

import numpy as np
import psutil
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from keras_tl import errors
from keras_tl.data import splits
from keras_tl.data.splits import Split, Splits


def make(labels, classes=3):
    split = Split(np.zeros((len(labels), 2, 2, 3), "uint8"), labels)
    return Splits(split, split, split, [f"class {i}" for i in range(classes)], "Made.")


@given(st.lists(st.integers(0, 3), min_size=1, max_size=60), st.integers(1, 70))
def test_balanced_takes_from_each_class_as_evenly_as_it_goes(labels, count):
    labels = np.array(labels)
    chosen = splits.balanced(labels, count, seed=0)
    assert len(set(chosen)) == len(chosen) == min(count, len(labels))
    taken = np.bincount(labels[chosen], minlength=4)
    there = np.bincount(labels, minlength=4)
    # A class that gives fewer than another has given everything.
    for one in range(4):
        assert taken[one] == there[one] or taken[one] >= taken.max() - 1


def test_balanced_depends_on_the_seed_alone():
    labels = np.arange(100) % 4
    first = splits.balanced(labels, 10, seed=1)
    np.testing.assert_array_equal(first, splits.balanced(labels, 10, seed=1))
    assert not np.array_equal(first, splits.balanced(labels, 10, seed=2))


def test_limit_keeps_images_with_their_labels():
    images = np.arange(30, dtype="uint8")[:, None, None, None] * np.ones((1, 2, 2, 3))
    split = Split(images.astype("uint8"), np.arange(30) % 3)
    data = splits.limit(Splits(split, split, split, "abc", "Made."), 9, seed=0)
    assert len(data.train) == len(data.test) == 9
    np.testing.assert_array_equal(
        data.train.inputs.pixels[:, 0, 0, 0] % 3, data.train.labels
    )


@pytest.mark.parametrize("labels", [[0, 1, 3], [-2, 0, 1]])
def test_labels_outside_the_classes_are_refused(labels):
    with pytest.raises(errors.InputError, match=r"in \[0, 2\].*Received labels from"):
        make(labels)


def test_one_class_is_refused():
    with pytest.raises(errors.InputError, match="at least two classes"):
        make([0, 0], classes=1)


def test_an_empty_split_is_named():
    full, empty = Split(np.zeros((3, 2, 2, 3)), [0, 1, 1]), Split(np.zeros((0, 2)), [])
    with pytest.raises(errors.InputError, match="validation split is empty"):
        Splits(full, empty, full, "ab", "Made.")


def test_labels_must_be_as_many_as_images():
    with pytest.raises(errors.InputError, match="3 entries, one for each example"):
        Split(np.zeros((3, 2, 2, 3)), [0, 1])


def test_targets_must_be_as_many_as_examples():
    with pytest.raises(
        errors.InputError, match="3 entries, one for each example.*targets=2"
    ):
        Split(np.zeros((3, 2, 2, 3)), [0, 1, 1], targets=np.zeros((2, 4)))


@pytest.fixture
def free(monkeypatch):
    """Say how much is free, in memory and on disk."""

    def say(memory, disk):
        found = psutil.virtual_memory()._replace(available=memory)
        monkeypatch.setattr(psutil, "virtual_memory", lambda: found)
        there = psutil.disk_usage("/")._replace(free=disk)
        monkeypatch.setattr(psutil, "disk_usage", lambda path: there)

    return say


@pytest.mark.parametrize("memory", [2**30, 0])
def test_images_read_once_are_what_reading_gives(tmp_path, free, memory):
    paths = []
    for index in range(3):
        pixels = np.random.default_rng(index).integers(0, 256, (9, 7, 3), dtype="uint8")
        paths.append(tmp_path / f"{index}.png")
        Image.fromarray(pixels).save(paths[-1])
    split = Split(tuple(paths), [0, 1, 0]).at_size(4)
    free(memory, disk=2**30)
    kept = splits.read_once(split)
    values = kept.inputs.in_memory()
    assert values is not None
    assert isinstance(values, np.memmap) == (not memory)
    before = split.read([2, 0])
    for path in paths:
        path.unlink()
    np.testing.assert_array_equal(kept.read([2, 0]), before)


def test_reading_once_looks_for_room_before_it_takes_any(free):
    split = Split(np.zeros((10, 8, 8, 3), "uint8"), [0] * 10).at_size(16)
    needed = 10 * 16 * 16 * 3
    free(memory=2 * needed - 1, disk=2 * needed - 1)
    with pytest.warns(errors.InputWarning, match="again in every epoch"):
        assert splits.read_once(split) is split
    free(memory=2 * needed - 1, disk=2 * needed)
    assert isinstance(splits.read_once(split).inputs.in_memory(), np.memmap)
    free(memory=2 * needed, disk=0)
    assert not isinstance(splits.read_once(split).inputs.in_memory(), np.memmap)


def test_a_disk_that_is_full_after_all_costs_time_and_not_the_run(free, monkeypatch):
    """Writing where no room was set aside would end the process by a signal."""
    split = Split(np.zeros((10, 8, 8, 3), "uint8"), [0] * 10).at_size(16)
    free(memory=0, disk=2**30)

    def full(*_):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(splits.os, "posix_fallocate", full, raising=False)
    with pytest.warns(errors.InputWarning, match="No space left.*again in every"):
        assert splits.read_once(split) is split
    monkeypatch.setattr(splits.tempfile, "gettempdir", full)
    with pytest.warns(errors.InputWarning, match="again in every epoch"):
        assert splits.read_once(split) is split
    free(memory=2**30, disk=0)
    assert splits.read_once(split) is not split


def test_description_changes_with_every_pixel_and_label():
    data = make([0, 1, 2])
    before = splits.describe(data)
    assert before["counts"] == {"train": 3, "validation": 3, "test": 3}
    original = data.test.inputs.pixels
    pixels = original.copy()
    pixels[0, 0, 0, 0] = 1
    for test in (Split(pixels, [0, 1, 2]), Split(original, [0, 2, 1])):
        changed = splits.describe(dataclasses.replace(data, test=test))
        assert changed["sha256"] != before["sha256"]
    seen = {before["sha256"]}
    for value in (0, 1):
        targets = np.full((3, 2), value, "float32")
        test = dataclasses.replace(data.test, targets=targets)
        seen.add(splits.describe(dataclasses.replace(data, test=test))["sha256"])
    assert len(seen) == 3


def test_join_keeps_images_with_their_labels_whether_arrays_or_files(tmp_path):
    rng = np.random.default_rng(0)
    pixels = rng.integers(0, 256, (5, 8, 8, 3)).astype("uint8")
    files = []
    for index, image in enumerate(pixels):
        files.append(tmp_path / f"{index}.png")
        Image.fromarray(image).save(files[-1])
    for images in (pixels, files):
        whole = splits.Split(images, np.arange(5)).at_size(8)
        joined = splits.join(whole.take([3, 4]), whole.take([0, 2]))
        assert joined.labels.tolist() == [3, 4, 0, 2]
        np.testing.assert_array_equal(joined.read(range(4)), pixels[[3, 4, 0, 2]])


def test_join_keeps_the_targets_of_both_or_refuses():
    plain = Split(np.zeros((2, 2, 2, 3)), [0, 1])
    one = dataclasses.replace(plain, targets=np.array([[1.0], [2.0]]))
    assert splits.join(one, one).targets.ravel().tolist() == [1, 2, 1, 2]
    wide = dataclasses.replace(plain, targets=np.zeros((2, 3)))
    for first, second in ((one, plain), (plain, one), (one, wide)):
        with pytest.raises(errors.InputError, match="same targets, or none"):
            splits.join(first, second)


def test_classes_are_weighted_only_where_each_example_has_one():
    several = np.eye(3, dtype="int64")[[0, 1, 2, 2]]
    with pytest.raises(errors.InputError, match="class_weights.*several labels"):
        splits.class_weights(several, 3)
