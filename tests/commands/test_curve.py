"""Promises about `keras-tl curve`."""

import csv
import json

import numpy as np
import pytest
from PIL import Image

pytestmark = pytest.mark.filterwarnings("ignore::keras_tl.errors.InputWarning")


def one_line(call, capsys, *arguments) -> str:
    capsys.readouterr()
    assert call("curve", *arguments) == 2
    (line,) = [
        line for line in capsys.readouterr().err.splitlines() if "error:" in line
    ]
    return line


def images(folder, of_each, classes=("cat", "dog")):
    rng = np.random.default_rng(0)
    for number, name in enumerate(classes):
        (folder / name).mkdir(parents=True)
        for index in range(of_each):
            pixels = rng.integers(0, 120, (40, 40, 3))
            pixels[..., number % 3] += 100
            Image.fromarray(pixels.astype("uint8")).save(folder / name / f"{index}.png")
    return folder


def test_it_measures_prints_and_writes(call, tmp_path, capsys):
    out = tmp_path / "curve"
    flags = ("--limit", 240, "--image-size", 32, "--accuracy", 0.9, "--repeats", 2)
    assert call("curve", "cifar10_sample", *flags, "--out", out) == 0
    shown = capsys.readouterr().out
    assert "Features: efficientnet_lite0." in shown
    assert "Accuracy by training examples" in shown
    assert "What twice the examples would add" in shown
    assert "90 % need" in shown or "90 % are out of reach" in shown
    result = json.loads((out / "curve.json").read_text())
    assert [row["examples"] for row in result["curve"]][-1] == 240
    assert result["wanted"] == 0.9
    assert len(result["classes"]) == 10
    assert {"machine", "versions", "date", "seed", "data"} <= set(result)
    with open(out / "curve.csv", newline="") as file:
        rows = list(csv.DictReader(file))
    assert float(rows[-1]["accuracy"]) > float(rows[0]["accuracy"])
    assert (out / "curve.png").stat().st_size > 5000
    assert {path.name for path in out.iterdir()} == {
        *("curve.json", "curve.csv", "classes.csv", "curve.png"),
    }


def test_what_cannot_have_a_curve_ends_in_one_sentence_and_leaves_nothing(
    call, capsys, tmp_path, run
):
    out = tmp_path / "new"
    three = images(tmp_path / "three", 3)
    assert "at least" in one_line(call, capsys, three, "--out", out)
    study = tmp_path / "study"
    study.mkdir()
    (study / "config.json").write_text("{}")
    (study / "manifest.json").write_text('{"trials": []}')
    assert "This is a study" in one_line(call, capsys, study, "--out", out)
    of_script, _ = run
    assert "names no data" in one_line(call, capsys, of_script, "--out", out)
    for flags, wanted in (
        (["--accuracy", "1.5"], "`accuracy` must be in (0, 1)"),
        (["--repeats", "1"], "`repeats`"),
        (["--backbone", "vgg61"], "or vgg16?"),
        (["--weights", "vgg16"], "NAME=FILE"),
        (["--out", str(three)], "does not exist yet"),
        (["--unlabelled", str(three)], "`out` must be given"),
        (["--unlabelled", str(three), "--label", "0", "--out", "x"], "`label`"),
    ):
        assert wanted in one_line(call, capsys, "cifar10_sample", *flags)
    assert not out.exists()


def test_images_to_label_next_are_listed_with_what_choosing_them_gains(
    call, tmp_path, capsys
):
    folder = images(tmp_path / "photos", 60)
    (pool := tmp_path / "pool").mkdir()
    for path in (folder / "cat").glob("1*.png"):
        path.rename(pool / path.name)
    out = tmp_path / "out"
    flags = ("--image-size", 32, "--repeats", 2, "--label", 5, "--out", out)
    assert call("curve", folder, "--unlabelled", pool, *flags) == 0
    assert "rather than at random changes the accuracy by" in capsys.readouterr().out
    with open(out / "label_next.csv", newline="") as file:
        rows = list(csv.DictReader(file))
    assert [row["place"] for row in rows] == list("12345")
    assert {row["file"] for row in rows} <= {str(path) for path in pool.iterdir()}


@pytest.mark.slow
def test_a_curve_of_fine_tuned_models_is_measured_on_request(call, tmp_path, capsys):
    folder = images(tmp_path / "photos", 20)
    flags = ("--image-size", 32, "--fine-tune")
    assert call("curve", folder, *flags) == 0
    shown = capsys.readouterr().out
    assert "fine-tuning" in shown
    assert "Accuracy by training examples" in shown


@pytest.mark.slow
def test_the_model_and_the_data_of_a_run_are_taken(call, tmp_path, capsys):
    folder, run = images(tmp_path / "photos", 40), tmp_path / "run"
    sizes = ("--image-size", 32, "--epochs", 1, "--fine-tune-epochs", 1)
    flags = (*sizes, "--scratch-epochs", 1, "--batch-size", 16)
    assert call("run", "quickstart", "--data", folder, *flags, "--out", run) == 0
    capsys.readouterr()
    assert call("curve", run, "--accuracy", 0.5) == 0
    of_run = capsys.readouterr().out
    assert "Features: efficientnet_lite0, before the run trained it." in of_run
    assert "50 % are reached with the" in of_run
    # The same as of the data: what was fine-tuned has seen the labels of all of them.
    assert call("curve", folder, "--image-size", 32, "--accuracy", 0.5) == 0
    of_data = capsys.readouterr().out
    report = (run / "report.html").read_text()
    assert report.count("<h2>More data</h2>") == 1
    table = of_run[of_run.index("Accuracy by training") : of_run.index("Added to")]
    assert table == of_data[of_data.index("Accuracy by training") :]
    assert "`backbone` must be left out" in one_line(
        call, capsys, run, "--backbone", "vgg16"
    )
    # The data are elsewhere now.
    folder.rename(tmp_path / "moved")
    assert "cannot be loaded" in one_line(call, capsys, run)


@pytest.mark.slow
def test_texts_and_sound_have_curves_without_any_weights(
    call, capsys, reviews, tones, tiny_bert, tmp_path
):
    assert call("curve", reviews / "train.tsv") == 0
    assert "Features: bag of words." in capsys.readouterr().out
    assert call("curve", reviews / "train.tsv", "--backbone", tiny_bert) == 0
    assert call("curve", tones) == 0
    shown = capsys.readouterr().out
    assert "Features: log-mel statistics." in shown


def test_words_that_all_texts_have_do_not_disturb_the_curve(call, capsys, tmp_path):
    good, bad = ("great", "lovely", "fine"), ("awful", "dull", "bad")
    rows = ["text\tlabel"]
    for number in range(90):
        label, words = [("pos", good), ("neg", bad)][number % 2]
        rows.append(f"the film is {words[number // 2 % 3]} number {number}\t{label}")
    path = tmp_path / "texts.tsv"
    path.write_text("\n".join(rows))
    assert call("curve", path, "--out", tmp_path / "out") == 0
    measured = json.loads((tmp_path / "out" / "curve.json").read_text())["curve"]
    assert measured[-1]["accuracy"] > 0.95
