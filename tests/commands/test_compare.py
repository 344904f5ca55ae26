"""Promises about `keras-tl compare`."""

import csv
import json
import shutil

import pytest


@pytest.fixture
def two(run, tmp_path, monkeypatch):
    """Two runs on the same data, both always right; the second has another seed."""
    monkeypatch.chdir(tmp_path)
    shutil.copytree(run[0], tmp_path / "other")
    settings = json.loads((tmp_path / "other/config.json").read_text())
    (tmp_path / "other/config.json").write_text(json.dumps(settings | {"seed": 4}))
    return "run", "other"


def one_line(call, capsys, *arguments) -> str:
    capsys.readouterr()
    assert call("compare", *arguments) == 2
    (line,) = capsys.readouterr().err.splitlines()
    return line


def change(folder, **values):
    """Replace entries of a manifest."""
    path = folder / "manifest.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | values))


def test_it_prints_both_tables_and_writes_a_page(call, capsys, two, tmp_path):
    path = tmp_path / "other/predictions.csv"
    with open(path, newline="") as file:
        head, *rows = csv.reader(file)
    for row in rows[:9]:
        row[2] = "blue" if row[1] == "red" else "red"
    with open(path, "w", newline="") as file:
        csv.writer(file).writerows([head, *rows])
    assert call("compare", *two) == 0
    shown = capsys.readouterr().out
    assert "100.0 %" in shown
    assert "71.0 %" in shown  # 22 of 31.
    assert "-29.0 points (95 % interval" in shown
    assert "Page: compare.html" in shown
    text = (tmp_path / "compare.html").read_text()
    assert "<td>0</td><td>9</td>" in text
    assert '<th scope="row">seed</th><td>3</td><td>4</td>' in text


def test_nothing_is_overwritten(call, capsys, two, tmp_path):
    assert call("compare", *two) == 0
    first = (tmp_path / "compare.html").read_bytes()
    assert call("compare", *two) == 0
    assert (tmp_path / "compare.html").read_bytes() == first
    assert (tmp_path / "compare-2.html").exists()
    assert call("compare", *two, "--out", "mine.html") == 0
    assert (tmp_path / "mine.html").exists()
    error = one_line(call, capsys, *two, "--out", "mine.html")
    assert "`out` must name what does not exist yet" in error


def test_runs_in_folders_of_the_same_name_are_told_apart(call, capsys, two, tmp_path):
    (tmp_path / "b").mkdir()
    shutil.move(tmp_path / "other", tmp_path / "b/run")
    assert call("compare", "run", "b/run") == 0
    assert "b/run" in capsys.readouterr().out


def test_what_cannot_be_compared_ends_in_one_sentence_and_leaves_no_page(
    call, capsys, two, tmp_path
):
    assert "at least two" in one_line(call, capsys)
    assert "at least two" in one_line(call, capsys, "run")
    assert "name each run once" in one_line(call, capsys, "run", "./other/../run")
    assert "finished run" in one_line(call, capsys, "run", "absent")
    study = tmp_path / "study"
    study.mkdir()
    (study / "config.json").write_text("{}")
    assert "interrupted" in one_line(call, capsys, "run", "study")
    (study / "manifest.json").write_text('{"trials": []}')
    assert "This is a study" in one_line(call, capsys, "run", "study")
    (tmp_path / "other/predictions.csv").rename(tmp_path / "kept.csv")
    assert "must hold predictions.csv" in one_line(call, capsys, *two)
    columns = [f'{name},"{name}, predicted"' for name in ("red", "green", "blue")]
    table = f"index,{','.join(columns)}\n0,1,1,0,0,0,0\n"
    (tmp_path / "other/predictions.csv").write_text(table)
    change(tmp_path / "other", objective="regression", activation="linear")
    error = one_line(call, capsys, *two)
    assert "different tasks cannot be compared" in error
    assert "other, which is regression" in error
    assert not list(tmp_path.glob("*.html"))


def test_runs_of_other_test_examples_are_shown_without_a_test(
    call, capsys, two, tmp_path
):
    change(tmp_path / "other", data={"sha256": "another"})
    assert call("compare", *two) == 0
    shown = capsys.readouterr().out
    assert "other was tested on other examples than run" in shown
    assert "verdict" not in shown


def test_the_help_fits_into_80_columns(call, capsys, monkeypatch):
    monkeypatch.setenv("COLUMNS", "80")
    assert call("compare", "--help") == 0
    lines = capsys.readouterr().out.splitlines()
    assert max(map(len, lines)) <= 80 < 10 * len(lines)
