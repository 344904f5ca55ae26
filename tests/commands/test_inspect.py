"""Promises about `keras-tl inspect`."""

import json
import subprocess
import sys
import zipfile

import keras
import pytest

from keras_tl import files


def test_a_run_is_shown_without_loading_keras(call, capsys, run):
    path = run[0] / "model.keras"
    assert call("inspect", path) == 0
    shown = capsys.readouterr().out
    assert f"Keras {keras.__version__}" in shown
    assert files.sha256(path) in shown
    assert f"{run[1].count_params():,}" in shown
    for name in ("block1_conv", "Conv2D", "BatchNormalization", "? x 8 x 8 x 3"):
        assert name in shown
    assert "nothing was found" in shown
    script = f"""
import sys
sys.argv = ["keras-tl", "inspect", {str(path)!r}]
from keras_tl import cli
cli.main()
assert not {{"keras", "tensorflow"}} & set(sys.modules)
"""
    subprocess.run([sys.executable, "-c", script], check=True, capture_output=True)


def test_json_has_the_same_and_nothing_else_is_printed(call, capsys, run):
    path = run[0] / "model.keras"
    capsys.readouterr()
    assert call("inspect", path, "--json") == 0
    about = json.loads(capsys.readouterr().out)
    assert about["parameters"] == run[1].count_params()
    assert [layer["name"] for layer in about["layers"]] == [
        layer.name for layer in run[1].layers
    ]
    counts = [layer.count_params() for layer in run[1].layers]
    assert [layer["parameters"] for layer in about["layers"]] == counts
    assert about["sha256"] == files.sha256(path)
    assert about["problems"] == []


def test_what_loading_would_refuse_is_listed_with_status_1(call, capsys, tmp_path):
    path = tmp_path / "model.keras"
    image = keras.Input((2,))
    keras.Model(image, keras.layers.Lambda(lambda x: x)(image)).save(path)
    with zipfile.ZipFile(path, "a") as archive:
        archive.writestr("../evil", "x")
    assert call("inspect", path) == 1
    shown = capsys.readouterr().out
    assert "- The file holds a Lambda layer: Python code that would run here." in shown
    assert "- The file holds the path ../evil, which leaves the archive." in shown


def test_long_models_are_cut_in_words(call, capsys, run):
    assert call("inspect", run[0] / "model.keras", "--layers", 2) == 0
    shown = capsys.readouterr().out
    left = len(run[1].layers) - 2
    assert f"{left} further layers: --layers {left + 2}" in shown
    assert "block2_conv" not in shown


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["text.keras"], "truncated, damaged or no .keras file"),
        (["."], "is a folder"),
        (["absent.keras"], "There is no model file absent.keras"),
        (["model.pb"], "`file` must end in .keras, .h5"),
        (["text.keras", "--seconds", "0"], "`seconds` must be greater than 0"),
        (["text.keras", "--megabytes", "1"], "`megabytes` must be at least 512"),
        (["text.keras", "--layers", "-1"], "`layers` must be at least 0"),
    ],
)
def test_what_cannot_be_read_is_one_line_with_status_2(
    call, capsys, tmp_path, monkeypatch, arguments, message
):
    monkeypatch.chdir(tmp_path)
    for name in ("text.keras", "model.pb"):
        (tmp_path / name).write_text("a text")
    assert call("inspect", *arguments) == 2
    out, err = capsys.readouterr()
    assert not out
    assert message in err
    assert len(err.splitlines()) == 1
