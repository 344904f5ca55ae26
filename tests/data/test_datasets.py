import hashlib
import json
import socket
import time

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
        ("bad_image", "bad_images", tables.from_table),
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


def test_unknown_dataset_names_the_nearest():
    with pytest.raises(errors.InputError, match="Did you mean.*cifar10"):
        datasets.load("cifar_10")


def test_dataset_without_images_is_refused():
    with pytest.raises(errors.InputError, match="features 'image' and 'label'"):
        datasets.load("imdb_reviews")


def test_a_dataset_that_cannot_be_fetched_names_the_one_that_needs_no_download(
    monkeypatch, tmp_path
):
    import tensorflow_datasets as tfds

    def no_network(*args, **options):
        raise OSError("no network")

    monkeypatch.setattr(tfds.core.DatasetBuilder, "download_and_prepare", no_network)
    with pytest.raises(errors.InputError, match="no network.*cifar10_sample needs no"):
        datasets.load("mnist")


def test_without_a_network_a_download_fails_in_seconds(monkeypatch, tmp_path):
    import tensorflow_datasets as tfds

    slept, builder = [], tfds.builder("mnist", data_dir=tmp_path)

    def no_network(*args):
        raise socket.gaierror(-2, "Name or service not known")

    monkeypatch.setattr(socket, "getaddrinfo", no_network)
    monkeypatch.setattr(time, "sleep", slept.append)
    monkeypatch.setattr(tfds, "builder", lambda name: builder)
    wanted = (
        r"'mnist' is not in .*storage\.googleapis\.com cannot be reached; check the "
        r"network.*\. The dataset cifar10_sample needs no download\."
    )
    for name in ("http_proxy", "https_proxy", "all_proxy"):
        monkeypatch.delenv(name, raising=False)
        monkeypatch.delenv(name.upper(), raising=False)
    with pytest.raises(errors.InputError, match=wanted):
        datasets.load("mnist")
    # Four files at a time.
    assert sum(slept) < 10


def test_a_host_that_never_answers_is_asked_for_seconds(monkeypatch, tmp_path):
    import requests
    import tensorflow_datasets as tfds

    waited, builder = [], tfds.builder("mnist", data_dir=tmp_path)

    def send(self, request, timeout=None, **options):
        waited.append(timeout)
        raise requests.ConnectTimeout("too late", request=request)

    monkeypatch.setattr(requests.adapters.HTTPAdapter, "send", send)
    monkeypatch.setattr(tfds, "builder", lambda name: builder)
    with pytest.raises(errors.InputError, match="cannot be reached"):
        datasets.load("mnist")
    assert set(waited) == {10}


@pytest.fixture
def make_builder(tmp_path):
    """A small TFDS dataset, written by TFDS itself."""
    import tensorflow_datasets as tfds

    def make(shape, splits):
        with tfds.core.registered.skip_registration():

            class Tiny(tfds.core.GeneratorBasedBuilder):
                VERSION = tfds.core.Version("1.0.0")
                __module__ = "tiny"

                def _info(self):
                    return tfds.core.DatasetInfo(
                        builder=self,
                        features=tfds.features.FeaturesDict(
                            {
                                "image": tfds.features.Image(shape=shape),
                                "label": tfds.features.ClassLabel(names=["ant", "bee"]),
                            }
                        ),
                        supervised_keys=("image", "label"),
                    )

                def _split_generators(self, manager):
                    return {
                        name: self.examples(count, 100 * number)
                        for number, (name, count) in enumerate(splits.items())
                    }

                def examples(self, count, brightness):
                    for index in range(count):
                        height = shape[0] or 5 + index % 4
                        size = (height, shape[1] or 6, shape[2])
                        image = np.full(size, brightness + index, "uint8")
                        yield index, {"image": image, "label": index % 2}

                def _generate_examples(self):
                    raise AssertionError

        return Tiny(data_dir=tmp_path)

    return make


@pytest.mark.parametrize("shape", [(4, 4, 3), (4, 4, 1), (None, None, 3)])
@pytest.mark.parametrize("official", ["test", "validation", None])
def test_tfds_datasets_of_any_image_size_give_three_splits(
    make_builder, monkeypatch, shape, official
):
    import tensorflow_datasets as tfds

    counts = {"train": 40} | ({official: 6} if official else {})
    builder = make_builder(shape, counts)
    monkeypatch.setattr(tfds, "builder", lambda name: builder)
    data = datasets.from_tfds("tiny").at_size(4)
    expected = [36, 4, 6] if official else [30, 4, 6]
    assert [len(split) for _, split in data.items()] == expected
    assert data.class_names == ("ant", "bee")
    for _, split in data.items():
        pixels = split.read(np.arange(len(split)))
        assert pixels.shape == (len(split), 4, 4, 3)
        np.testing.assert_array_equal(pixels[:, 0, 0, 0] % 2, split.labels)


@pytest.mark.real
def test_cifar10_of_tfds_loads_with_its_official_test_split(real_data):
    data = datasets.from_tfds("cifar10")
    assert [len(split) for _, split in data.items()] == [45_000, 5_000, 10_000]
    assert data.class_names[3] == "cat"


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
