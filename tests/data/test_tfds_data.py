import socket
import time

import numpy as np
import pytest

from keras_tl import errors
from keras_tl.data import datasets, tfds_data


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
    data = tfds_data.load("tiny").at_size(4)
    expected = [36, 4, 6] if official else [30, 4, 6]
    assert [len(split) for _, split in data.items()] == expected
    assert data.class_names == ("ant", "bee")
    for _, split in data.items():
        pixels = split.read(np.arange(len(split)))
        assert pixels.shape == (len(split), 4, 4, 3)
        np.testing.assert_array_equal(pixels[:, 0, 0, 0] % 2, split.labels)


@pytest.mark.real
def test_cifar10_of_tfds_loads_with_its_official_test_split(real_data):
    data = tfds_data.load("cifar10")
    assert [len(split) for _, split in data.items()] == [45_000, 5_000, 10_000]
    assert data.class_names[3] == "cat"
