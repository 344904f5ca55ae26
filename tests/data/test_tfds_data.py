import re
import socket
import time

import numpy as np
import pytest

from keras_tl import errors
from keras_tl.data import datasets, tfds_data
from keras_tl.data.stored import Reading
from keras_tl.data.tables import Columns


def test_unknown_dataset_names_the_nearest():
    with pytest.raises(errors.InputError, match="Did you mean.*cifar10"):
        datasets.load("cifar_10")


@pytest.mark.parametrize(
    ("name", "options", "message"),
    [
        ("imdb_reviews", {"kind": "image"}, "have one feature of images.*images: none"),
        ("glue/mnli", {}, "clips: premise, hypothesis. Name one: .*--input-column"),
        ("glue/sst2", {"columns": Columns("idx")}, "holds images.*clips: sentence"),
        ("glue/stsb", {"columns": Columns("sentence1")}, "classes.*that do: none"),
    ],
)
def test_a_dataset_of_something_else_is_refused(name, options, message):
    with pytest.raises(errors.InputError, match=message):
        datasets.load(name, **options)


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
def make_builder(tmp_path, monkeypatch):
    """A small dataset that TFDS itself has written, under any name.

    `example(split, index)` returns the example, whose class is `index % 2`, or the
    whole row; without `key`, TFDS is not told what the examples are.
    """
    import tensorflow_datasets as tfds

    def make(features, splits, example, key=None):
        names = ["ant", "bee"]
        features |= {"label": tfds.features.ClassLabel(names=names)}
        with tfds.core.registered.skip_registration():

            class Tiny(tfds.core.GeneratorBasedBuilder):
                VERSION = tfds.core.Version("1.0.0")
                __module__ = "tiny"

                def _info(self):
                    return tfds.core.DatasetInfo(
                        builder=self,
                        features=tfds.features.FeaturesDict(features),
                        supervised_keys=(key, "label") if key else None,
                    )

                def _split_generators(self, manager):
                    return {
                        name: self.rows(name, count) for name, count in splits.items()
                    }

                def rows(self, split, count):
                    for index in range(count):
                        row = example(split, index)
                        if not isinstance(row, dict):
                            row = {next(iter(features)): row}
                        yield index, {"label": index % 2} | row

                def _generate_examples(self):
                    raise AssertionError

        builder = Tiny(data_dir=tmp_path)
        monkeypatch.setattr(tfds, "builder", lambda name: builder)

    return make


@pytest.mark.parametrize("shape", [(4, 4, 3), (4, 4, 1), (None, None, 3)])
@pytest.mark.parametrize("official", ["test", "validation", None])
def test_tfds_datasets_of_any_image_size_give_three_splits(
    make_builder, shape, official
):
    import tensorflow_datasets as tfds

    def image(split, index):
        height = shape[0] or 5 + index % 4
        brightness = 100 * (split != "train") + index
        return np.full((height, shape[1] or 6, shape[2]), brightness, "uint8")

    counts = {"train": 40} | ({official: 6} if official else {})
    features = {"image": tfds.features.Image(shape=shape)}
    make_builder(features, counts, image, "image")
    data = tfds_data.load("tiny").at_size(4)
    expected = [36, 4, 6] if official else [30, 4, 6]
    assert [len(split) for _, split in data.items()] == expected
    assert data.class_names == ("ant", "bee")
    for _, split in data.items():
        pixels = split.read(np.arange(len(split)))
        assert pixels.shape == (len(split), 4, 4, 3)
        np.testing.assert_array_equal(pixels[:, 0, 0, 0] % 2, split.labels)


@pytest.mark.parametrize("key", ["text", "sentence", "review"])
def test_texts_of_tfds_are_loaded_and_described(make_builder, key):
    import tensorflow_datasets as tfds

    def text(split, index):
        # As in GLUE, the labels of the test are kept secret.
        label = -1 if split == "test" else index % 2
        insect = ("ant", "bee")[index % 2]
        content = f"I saw the {insect} number {index} of the {split} in our garden."
        return {key: content, "label": label, "idx": index}

    features = {key: tfds.features.Text(), "idx": np.int32}
    make_builder(features, {"train": 40, "validation": 6, "test": 8}, text)
    data = datasets.load("tiny")
    assert [len(split) for _, split in data.items()] == [36, 4, 6]
    assert data.train.inputs.kind == "text"
    for _, split in data.items():
        shown = split.inputs.preview(range(len(split)))
        for one, label in zip(shown, split.labels, strict=True):
            assert data.class_names[label] in one
    assert data.origin == (
        "TFDS's tiny: test is its official validation split, validation drawn from the "
        "training examples, stratified, seed 0. Each text has 12 words. Language: "
        "English."
    )
    with pytest.raises(errors.InputError, match="one feature of clips.*clips: none"):
        datasets.load("tiny", kind="audio")


@pytest.mark.parametrize("dtype", ["int16", "int64"])
def test_sound_of_tfds_is_resampled_and_checked(make_builder, dtype):
    import tensorflow_datasets as tfds

    pytest.importorskip("soundfile")

    def tone(split, index):
        times = np.arange(800 + 10 * index) / 8_000
        silent = (split, index) == ("test", 3)
        pitch = 50 + 10 * index + 1_000 * (index % 2) + 5 * (split == "test")
        wave = 9_000 * np.sin(2 * np.pi * pitch * times) * (not silent)
        return np.rint(wave).astype(dtype)

    feature = tfds.features.Audio(sample_rate=8_000, dtype=np.dtype(dtype).type)
    make_builder({"audio": feature}, {"train": 40, "test": 6}, tone, "audio")
    with pytest.raises(errors.InputError) as raised:
        tfds_data.load("tiny")
    message = re.sub("number [0-5] of", "number N of", str(raised.value))
    assert message == (
        "1 clip of 46 cannot be used, the first number N of test: it is silent: "
        "digital silence. Leave them out with `bad_files='skip'` (on the command line: "
        "--bad-files skip)."
    )
    data = datasets.load("tiny", bad_files="skip", rate=16_000, seconds=0.1)
    assert [len(split) for _, split in data.items()] == [36, 4, 5]
    assert data.train.inputs.input_spec()["rate"] == 16_000
    for _, split in data.items():
        waves = split.read(range(len(split)))
        assert waves.shape == (len(split), 1_600)
        high = np.abs(np.fft.rfft(waves)).argmax(axis=1) > 100
        np.testing.assert_array_equal(high, split.labels)
    assert "Length 0.10 to 0.15 seconds, median 0.12, at 8,000 Hz; resampled" in (
        data.origin
    )
    assert "Left out: 1 clip that cannot be used, the first number" in data.origin


def test_what_a_dataset_does_not_say_of_its_sound_is_named(make_builder):
    import tensorflow_datasets as tfds

    def click(split, index):
        return np.arange(100) * 2**20

    features = {"audio": tfds.features.Audio()}
    make_builder(features, {"train": 4}, click, "audio")
    with pytest.raises(errors.InputError, match="must say the rate of its sound"):
        tfds_data.load("tiny")
    features = {"audio": tfds.features.Audio(sample_rate=8_000)}
    make_builder(features, {"train": 4}, click, "audio")
    with pytest.raises(errors.InputError, match="must have 16 bits. Received: 103,809"):
        tfds_data.load("tiny")


def test_an_empty_text_of_tfds_is_named(make_builder):
    import tensorflow_datasets as tfds

    def text(split, index):
        return " " if index == 7 else f"number {index}"

    make_builder({"text": tfds.features.Text()}, {"train": 40}, text, "text")
    with pytest.raises(
        errors.InputError, match="1 text .*number [0-9]+ of train: it is em"
    ):
        tfds_data.load("tiny")
    data = tfds_data.load("tiny", reading=Reading(bad_files="skip"))
    assert sum(len(split) for _, split in data.items()) == 39
    assert "Left out: 1 text that cannot be used" in data.origin


@pytest.mark.real
def test_cifar10_of_tfds_loads_with_its_official_test_split(real_data):
    data = tfds_data.load("cifar10")
    assert [len(split) for _, split in data.items()] == [45_000, 5_000, 10_000]
    assert data.class_names[3] == "cat"
