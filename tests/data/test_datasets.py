import hashlib
import json

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from keras_tl import errors
from keras_tl.data import datasets, folders, tables


def test_sample_is_balanced_and_its_splits_share_nothing():
    data = datasets.sample()
    assert [len(split) for _, split in data.items()] == [2000, 500, 1500]
    for _, split in data.items():
        assert len(set(np.bincount(split.labels))) == 1
    hashes = [
        {hashlib.sha256(image.tobytes()).digest() for image in split.inputs.pixels}
        for _, split in data.items()
    ]
    assert sum(map(len, hashes)) == len(set.union(*hashes)) == 4000


def test_sample_stays_small_and_says_its_terms():
    size = sum(path.stat().st_size for path in datasets.SAMPLE.glob("*.webp"))
    assert size < 9_000_000
    readme = (datasets.SAMPLE / "README.md").read_text()
    for said in ("states none", "not** covered", "Krizhevsky", "trying things out"):
        assert said in readme


def test_sample_record_names_every_image():
    record = json.loads((datasets.SAMPLE / "sample.json").read_text())
    drawn = {name: part["official_index"] for name, part in record["splits"].items()}
    assert not set(drawn["train"]) & set(drawn["validation"])
    assert record["seed"] == 2009


@pytest.mark.real
def test_sample_is_what_the_official_files_hold(real_data):
    from keras_tl.assets.cifar10_sample import draw

    record = json.loads((datasets.SAMPLE / "sample.json").read_text())
    images, labels, names = draw.official("test")
    chosen = record["splits"]["test"]["official_index"]
    data = datasets.sample()
    np.testing.assert_array_equal(images[chosen], data.test.inputs.pixels)
    np.testing.assert_array_equal(labels[chosen], data.test.labels)
    assert tuple(names) == data.class_names


@settings(max_examples=25, deadline=None)
@given(st.integers(10, 40), st.integers(2, 4), st.integers(0, 3), st.booleans())
def test_splits_of_arrays_are_stratified_and_share_nothing(
    each, classes, seed, with_test
):
    count = each * classes
    images = np.zeros((count, 2, 2, 3), "uint8")
    images[:, 0, 0, 0], images[:, 0, 0, 1] = np.arange(count) // 256, np.arange(count)
    labels = np.arange(count) % classes
    test = (images[:classes] + 128, labels[:classes]) if with_test else None
    data = datasets.from_arrays((images, labels), test, seed=seed, validation=0.2)
    seen = [
        {tuple(image[0, 0, :2]) for image in split.inputs.pixels}
        for _, split in data.items()
    ]
    if not with_test:
        assert sum(map(len, seen)) == len(set.union(*seen)) == count
    assert not seen[0] & seen[1]
    for _, split in data.items():
        assert set(split.labels) == set(range(classes))
        found = np.bincount(split.labels)
        assert found.max() - found.min() <= 1


@pytest.mark.parametrize(
    ("option", "right", "read"),
    [
        ("colums", "columns", datasets.load),
        ("imagesize", "image_size", datasets.load),
        ("leaveout", "leave_out", folders.from_folder),
        ("bad_image", "bad_files", tables.from_table),
    ],
)
def test_a_misspelled_option_is_named_with_the_right_one(option, right, read):
    with pytest.raises(errors.InputError, match=rf"'{option}'\. Did you mean {right}"):
        read("absent", **{option: None})


def test_the_same_seed_gives_the_same_splits():
    arrays = np.arange(120, dtype="uint8").reshape(40, 1, 1, 3), np.arange(40) % 2
    one, same, other = (datasets.from_arrays(arrays, seed=seed) for seed in (0, 0, 1))
    np.testing.assert_array_equal(one.test.inputs.pixels, same.test.inputs.pixels)
    assert not np.array_equal(one.test.inputs.pixels, other.test.inputs.pixels)


@pytest.mark.parametrize("axes", [(40, 2, 2), (40, 2, 2, 1)])
def test_grey_images_become_rgb(axes):
    grey = np.arange(160, dtype="uint8").reshape(axes)
    labels = np.arange(40) % 2
    data = datasets.from_arrays((grey, labels), (grey[:4] + 90, labels[:4]))
    wanted = np.stack([grey.reshape(40, 2, 2)] * 3, axis=-1)
    np.testing.assert_array_equal(data.test.read(range(4)), wanted[:4] + 90)
    both = np.concatenate([data.train.read(range(36)), data.validation.read(range(4))])
    assert {image.tobytes() for image in both} == {image.tobytes() for image in wanted}


@pytest.mark.parametrize(
    ("images", "labels", "message"),
    [
        (np.zeros((4, 2, 2, 3)), [0, 1, 0, 1], "must be uint8.*float64.*not rescale"),
        (np.zeros((4, 2, 2, 4), "uint8"), [0, 1, 0, 1], "Leave out the channel"),
        (np.zeros((4, 3, 2, 2), "uint8"), [0, 1, 0, 1], "The channels come last"),
        ([np.zeros((2, 2, 3)), np.zeros((3, 2, 3))], [0, 1], "images of one size"),
        (np.zeros((4, 2, 2, 3), "uint8"), [0.0, 1, 0, 1], "must be integers"),
        (np.zeros((0, 2, 2, 3), "uint8"), np.zeros(0, int), "train split is empty"),
    ],
)
def test_arrays_that_cannot_be_used_are_refused(images, labels, message):
    with pytest.raises(errors.InputError, match=message):
        datasets.from_arrays((images, np.array(labels)))


@pytest.mark.parametrize(
    ("labels", "names"),
    [
        ([1, 2], ("1", "2")),
        ([-1, 1], ("-1", "1")),
        ([10, 400], ("10", "400")),
        (["cat", "a dog"], ("a dog", "cat")),
        ([True, False], ("False", "True")),
        (np.uint8([3, 250]), ("3", "250")),
    ],
)
def test_each_label_that_occurs_is_a_class_named_after_itself(labels, names):
    pixels = np.arange(40 * 12, dtype="uint16").reshape(40, 2, 2, 3).astype("uint8")
    pixels[:, 0, 0, 0] = np.arange(40)
    order = np.arange(40) % 2
    given = np.array(labels)[order]
    data = datasets.from_arrays((pixels, given))
    assert data.class_names == names
    for _, split in data.items():
        for image, label in zip(
            split.read(range(len(split))), split.labels, strict=True
        ):
            assert names[label] == str(given[image[0, 0, 0]])


@pytest.mark.parametrize(
    ("train", "test", "names", "message"),
    [
        ([1, 2], None, ["a", "b"], "train labels must be among 0, 1.*also: 2"),
        ([-1, 0], None, ["a", "b"], "Received also: -1"),
        ([0, 1], [0, 2], None, "test labels must be among 0, 1.*also: 2"),
        (["a", "b"], ["a", "c"], None, "test labels must be among a, b.*also: c"),
        ([0.0, 1.0], None, None, "integers, strings or booleans.*float64"),
    ],
)
def test_labels_of_no_class_are_refused(train, test, names, message):
    pixels = np.random.default_rng(0).integers(0, 256, (40, 2, 2, 3), "uint8")
    order = np.arange(40) % 2
    if test is not None:
        test = (255 - pixels, np.array(test)[order])
    with pytest.raises(errors.InputError, match=message):
        datasets.from_arrays((pixels, np.array(train)[order]), test, class_names=names)


def noise(count):
    return np.random.default_rng(0).integers(0, 256, (count, 4, 4, 3), "uint8")


def test_one_image_with_two_labels_is_named():
    images, labels = noise(40), np.arange(40) % 2
    both = np.concatenate([images, images[[7]]]), np.append(labels, 1 - labels[7])
    with pytest.warns(errors.InputWarning, match=r"^2 training .* index 7 and 40"):
        datasets.from_arrays(both)


@pytest.mark.parametrize(
    ("arrays", "message"),
    [
        ([noise(40), np.arange(40) % 2], "a pair of images and labels"),
        ([(noise(40), np.eye(2)[np.arange(40) % 2])], r"labels\.argmax\(axis=1\)"),
        ([(noise(4), np.arange(4) % 2)], "4 different ones of 2 classes, 2 of the"),
        ([(noise(9), np.arange(9) // 8)], "1 of the rarest"),
    ],
)
def test_arrays_that_cannot_be_used_say_what_is_expected(arrays, message):
    with pytest.raises(errors.InputError, match=message):
        datasets.from_arrays(*arrays)
