"""Bad texts and bad sound on the command line: one clear sentence each."""

import re

import numpy as np
import pytest

from keras_tl import errors
from keras_tl.data import datasets
from keras_tl.data.tables import Columns
from keras_tl.models import audio_backbones

MINILM = ("run", "minilm_sentiment", "--epochs=1", "--fine-tune-epochs=0")


@pytest.fixture
def table(tmp_path):
    """Function that writes a folder with a table of 40 reviews, and returns it."""

    def write(change=lambda rows: None, head=("label", "text"), encoding="utf-8"):
        rows = [
            [("bad", "good")[n % 2], f"the {('bad', 'good')[n % 2]} café number {n}"]
            for n in range(40)
        ]
        change(rows)
        folder = tmp_path / "reviews"
        folder.mkdir()
        lines = ["\t".join(row) for row in (head, *rows)]
        (folder / "train.tsv").write_bytes("\n".join(lines).encode(encoding))
        return folder

    return write


def refused(call, capsys, *arguments) -> str:
    """Run a command that has to end with one sentence, and return it."""
    capsys.readouterr()
    assert call(*arguments) == 2
    output = capsys.readouterr()
    assert "Traceback" not in output.err
    return output.err.partition("error: ")[2].strip()


def test_a_table_in_another_encoding(call, capsys, table, tiny_bert, tmp_path):
    data = table(encoding="cp1252")
    error = refused(
        call, capsys, *MINILM, "--data", data, "--weights", tiny_bert, "--out=r"
    )
    assert error == (
        f"{data}/train.tsv must be in utf-8, and line 2 is not: invalid continuation "
        "byte at byte 26 of the file. In cp1252, which Windows often writes, it reads "
        "'bad\\tthe bad café number 0'. Save the file as UTF-8, or name its encoding: "
        "--encoding cp1252."
    )


def test_an_empty_text(call, capsys, table, tiny_bert):
    def empty(rows):
        rows[4][1] = "  "

    data = table(empty)
    error = refused(
        call, capsys, *MINILM, "--data", data, "--weights", tiny_bert, "--out=r"
    )
    assert error == (
        f"1 text in {data} cannot be used:\n  train.tsv:6: is empty\nRemove or repair "
        "them, or leave them out with `bad_files='skip'` (on the command line: "
        "--bad-files skip)."
    )


def test_a_label_column_that_is_missing(call, capsys, table, tiny_bert):
    def without_labels(rows):
        rows[:] = [row[1:] for row in rows]

    data = table(without_labels, head=("text",))
    error = refused(
        call, capsys, *MINILM, "--data", data, "--weights", tiny_bert, "--out=r"
    )
    assert error == (
        "Table train.tsv must have a column of labels. Its columns are text, such as "
        "text='the bad café number 0'. Name it with --label-column; several are "
        "separated by commas."
    )
    with pytest.raises(errors.InputError) as raised:
        datasets.load(data, columns=Columns(label="stars"))
    assert str(raised.value) == (
        "`label_column` must be a column of table train.tsv. Received: "
        "label_column='stars'. Its columns are text."
    )


def test_a_text_that_is_too_long_is_cut_which_is_said(call, capsys, text_run):
    assert call("predict", text_run, "good film", "bad film good film bad") == 0
    assert "1 of 2 texts is cut: longer than 4 tokens." in capsys.readouterr().err
    assert call("predict", text_run, "good film") == 0
    assert "cut" not in capsys.readouterr().err


@pytest.fixture
def recordings(tmp_path):
    """Function that writes a clip of sound into a folder of 24, and returns both."""
    soundfile = pytest.importorskip("soundfile")
    folder = tmp_path / "recordings"
    folder.mkdir()

    def write(name, seed=0, rate=8_000, channels=1, seconds=0.2):
        times = np.arange(round(seconds * rate)) / rate
        pitch = np.random.default_rng(seed).uniform(200, 2_000)
        wave = 0.5 * np.sin(2 * np.pi * pitch * times)
        wave = wave[:, None] * np.linspace(0.5, 1, channels)
        soundfile.write(folder / name, wave, rate)
        return folder / name

    for n in range(24):
        write(f"{('no', 'yes')[n % 2]}_{'abc'[n % 3]}_{n}.wav", n)
    return folder, write


def test_a_clip_of_zero_length(call, capsys, recordings, tmp_path, monkeypatch):
    monkeypatch.setattr(audio_backbones, "check", lambda weights: None)
    folder, write = recordings
    write("yes_c_99.wav", seconds=0)
    error = refused(
        call, capsys, "run", "spoken_digits", "--data", folder, "--weights", tmp_path
    )
    assert error.splitlines()[:2] == [
        f"1 clip in {folder} cannot be used:",
        "  yes_c_99.wav: holds no samples: its length is zero",
    ]


def test_a_clip_of_zero_length_is_not_predicted(call, capsys, recordings, sound_run):
    _, write = recordings
    path = write("empty.wav", seconds=0)
    error = refused(call, capsys, "predict", sound_run[0], path)
    assert error == (
        f"1 of 1 input cannot be used:\n  {path}: holds no samples: its length is zero"
    )


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        ({"rate": 44_100}, "Resampled to 8,000 Hz: 1 clip."),
        ({"channels": 6}, "All channels averaged: 1 clip."),
        ({"seconds": 0.5}, "Cut to their loudest 0.20 seconds: 1 clip."),
    ],
)
def test_what_is_changed_of_a_clip_is_said(
    call, capsys, recordings, sound_run, options, sentence
):
    _, write = recordings
    capsys.readouterr()
    assert call("predict", sound_run[0], write("a.wav"), write("b.wav", **options)) == 0
    assert sentence in capsys.readouterr().err.splitlines()
    assert call("predict", sound_run[0], write("a.wav")) == 0
    assert not re.search("Resampled|averaged|Cut", capsys.readouterr().err)
