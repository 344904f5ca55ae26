"""Promises about `keras-tl diagnose`."""

import json

import numpy as np
import pytest
from PIL import Image

from keras_tl.analysis import diagnosis

pytestmark = pytest.mark.filterwarnings("ignore::keras_tl.errors.InputWarning")


def one_line(call, capsys, *arguments) -> str:
    capsys.readouterr()
    assert call("diagnose", *arguments) == 2
    (line,) = [
        line for line in capsys.readouterr().err.splitlines() if "error:" in line
    ]
    return line


def test_what_cannot_be_diagnosed_ends_in_one_sentence(call, capsys, tmp_path, run):
    of_script, _ = run
    assert "names no data" in one_line(call, capsys, of_script)
    assert "be the folder of a run" in one_line(call, capsys, tmp_path / "none")
    (study := tmp_path / "study").mkdir()
    (study / "config.json").write_text("{}")
    (study / "manifest.json").write_text('{"trials": []}')
    assert "This is a study" in one_line(call, capsys, study)
    assert "`limit`" in one_line(call, capsys, of_script, "--limit", 3)


@pytest.fixture
def trained(call, tmp_path):
    """Return the data of a short run, and the run."""
    folder = tmp_path / "photos"
    folder.mkdir()
    rng = np.random.default_rng(0)
    for number, name in enumerate(("cat", "dog", "owl")):
        (folder / name).mkdir()
        for index in range(40):
            pixels = rng.integers(0, 60, (40, 40, 3)) + np.arange(40)[:, None, None]
            pixels[5 : 15 + 5 * number, 10:30, number] += 100
            Image.fromarray(pixels.astype("uint8")).save(folder / name / f"{index}.png")
    run = folder.parent / "run"
    flags = ("--image-size", 32, "--epochs", 1, "--batch-size", 16)
    flags += ("--fine-tune-epochs", 0, "--scratch-epochs", 1)
    assert call("run", "quickstart", "--data", folder, *flags, "--out", run) == 0
    return folder, run


@pytest.mark.slow
def test_the_diagnosis_of_a_run_is_written_and_added_to_its_report(
    call, capsys, trained
):
    folder, run = trained
    before = {path.name: path.read_bytes() for path in run.iterdir() if path.is_file()}
    capsys.readouterr()
    assert call("diagnose", run) == 0
    shown = capsys.readouterr().out
    assert "What each part costs" in shown
    assert "To try next: " in shown
    result = json.loads((run / "diagnosis.json").read_text())
    assert result["verdict"] in (*diagnosis.PARTS, diagnosis.NOTHING)
    assert {part["part"] for part in result["parts"]} <= set(diagnosis.PARTS)
    assert result["sentence"] in " ".join(shown.split())
    assert {"machine", "versions", "date", "seed", "data"} <= set(result)
    report = (run / "report.html").read_text()
    assert report.count("<h2>Diagnosis</h2>") == 1
    # Nothing else has changed, and a second time nothing is added.
    for name, content in before.items():
        if name != "report.html":
            assert (run / name).read_bytes() == content
    assert call("diagnose", run) == 0
    assert len((run / "report.html").read_text()) == len(report)
    again = json.loads((run / "diagnosis.json").read_text())
    assert again["parts"] == result["parts"]
    # The data are elsewhere now.
    folder.rename(folder.with_name("elsewhere"))
    assert "cannot be loaded" in one_line(call, capsys, run)
