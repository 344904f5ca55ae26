"""Folders that Hugging Face's `datasets` has saved."""

import io

import numpy as np
import pytest

from keras_tl import errors
from keras_tl.data import datasets
from keras_tl.data.tables import Columns

hf = pytest.importorskip("datasets")


def save(folder, columns, features=None, **splits):
    """Save a dataset whose splits take their rows from a function of name and index."""
    parts = {
        name: hf.Dataset.from_dict(
            {
                key: [make(name, n) for n in range(count)]
                for key, make in columns.items()
            },
            features=features,
        )
        for name, count in splits.items()
    }
    hf.DatasetDict(parts).save_to_disk(folder)
    return folder


def sentence(split, index):
    insect = ("ant", "bee")[index % 2]
    return f"I saw the {insect} number {index} of the {split} in our garden."


@pytest.mark.parametrize("labels", ["names", "numbers", "classes"])
def test_texts_are_loaded_and_described(tmp_path, labels):
    values = ("ant", "bee") if labels == "names" else (0, 1)
    if labels == "numbers":
        values = (3, 11)
    features = {"review": hf.Value("string"), "label": hf.Value("int64")}
    if labels == "names":
        features["label"] = hf.Value("string")
    if labels == "classes":
        features["label"] = hf.ClassLabel(names=["ant", "bee"])
    columns = {"review": sentence, "label": lambda split, n: values[n % 2]}
    folder = save(tmp_path / "a", columns, hf.Features(features), train=40, test=6)
    data = datasets.load(folder)
    assert [len(split) for _, split in data.items()] == [34, 6, 6]
    assert data.train.inputs.kind == "text"
    names = ("3", "11") if labels == "numbers" else ("ant", "bee")
    assert data.class_names == names
    for _, split in data.items():
        shown = split.inputs.preview(range(len(split)))
        for one, label in zip(shown, split.labels, strict=True):
            assert ("ant", "bee")[label] in one
    assert data.origin.endswith("Each text has 12 words. Language: English.")
    with pytest.raises(errors.InputError, match="one feature of images.*images: none"):
        datasets.load(folder, kind="image")


def test_a_test_without_labels_is_none(tmp_path):
    def label(split, index):
        return -1 if split == "test" else index % 2

    columns = {"text": sentence, "label": label}
    features = {"text": hf.Value("string"), "label": hf.ClassLabel(names=["a", "b"])}
    sizes = {"train": 40, "validation": 6, "test": 8}
    data = datasets.load(save(tmp_path / "a", columns, hf.Features(features), **sizes))
    assert "test is its official validation split" in data.origin


def test_sound_is_read_from_its_files_without_the_decoder_of_the_library(tmp_path):
    soundfile = pytest.importorskip("soundfile")

    def tone(split, index):
        times = np.arange(800 + 10 * index) / 8_000
        pitch = 50 + 10 * index + 1_000 * (index % 2)
        buffer = io.BytesIO()
        wave = 0.5 * np.sin(2 * np.pi * pitch * times)
        soundfile.write(buffer, wave, 8_000, format=("WAV", "FLAC")[index % 2])
        return {"bytes": buffer.getvalue() if index else b"", "path": None}

    columns = {"clip": tone, "label": lambda split, n: "ab"[n % 2]}
    # Encoding, too, would need that decoder.
    stored = hf.Dataset.from_list(
        [{key: make("train", n) for key, make in columns.items()} for n in range(40)]
    )
    folder = tmp_path / "a"
    stored.cast_column("clip", hf.Audio(decode=False)).save_to_disk(folder)
    with pytest.raises(errors.InputError, match=r"0 of train: it is empty \(0 bytes\)"):
        datasets.load(folder)
    data = datasets.load(folder, bad_files="skip", seconds=0.1)
    assert sum(len(split) for _, split in data.items()) == 39
    for _, split in data.items():
        waves = split.read(range(len(split)))
        assert waves.shape == (len(split), 1_600)
        high = np.abs(np.fft.rfft(waves)).argmax(axis=1) > 100
        np.testing.assert_array_equal(high, split.labels)
    assert "at 8,000 Hz; resampled to 16,000 Hz and read as 0.10 seconds" in data.origin


def test_columns_that_are_missing_or_of_something_else_are_named(tmp_path):
    columns = {"title": sentence, "body": sentence, "score": lambda split, n: n / 2}
    folder = save(tmp_path / "a", columns, train=40)
    for columns, message in (
        (Columns(), "be a column of .*Its columns are title, body, score"),
        (Columns(label="score"), "clips: title, body. Name one"),
        (Columns("text", "score"), "holds images, texts or clips.*title, body"),
        (Columns("body", "score"), "hold classes: texts or whole numbers"),
    ):
        with pytest.raises(errors.InputError, match=message):
            datasets.load(folder, columns=columns)
