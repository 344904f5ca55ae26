import json
import tempfile
import time
import warnings
from pathlib import Path

import keras
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from keras_tl import errors, files
from keras_tl.analysis import figures, study
from keras_tl.config import Run, RunSettings


def trials(done, fails=()):
    def make(name, accuracy):
        def trial():
            if name in fails:
                raise KeyboardInterrupt
            done.append(name)
            return {"blocks": int(name[0]), "accuracy": accuracy}

        return trial

    values = {"0-a": 0.5, "0-b": 0.7, "1-a": 0.9}
    return {name: make(name, value) for name, value in values.items()}


def test_a_killed_study_goes_on_with_the_trial_it_was_killed_in(tmp_path):
    done = []
    with pytest.raises(KeyboardInterrupt):
        study.run(tmp_path, trials(done, fails={"0-b"}))
    rows = study.run(tmp_path, trials(done))
    assert done == ["0-a", "0-b", "1-a"]
    assert [row["accuracy"] for row in rows] == [0.5, 0.7, 0.9]
    assert all(row["seconds"] >= 0 for row in rows)


def test_a_grid_has_a_trial_for_every_combination_under_a_name_of_its_own(tmp_path):
    def trial(name, seed, method, rate):
        return {"name": name, "seed": seed, "method": method, "accuracy": rate}

    axes = {"seed": range(2), "method": ("plain", "LoRA, all")}
    grid = study.grid(trial, **axes, rate=(0.5, 0.25))
    assert list(grid)[:3] == [
        "seed-0-plain-rate-0.5",
        "seed-0-plain-rate-0.25",
        "seed-0-LoRA,-all-rate-0.5",
    ]
    rows = study.run(tmp_path, grid)
    assert [row["name"] for row in rows] == list(grid)
    assert len({tuple(row.values()) for row in rows}) == len(grid) == 8
    (plain, lora) = study.summarize(rows, ["method"], over="folds")
    assert (plain["method"], plain["folds"], lora["mean"]) == ("plain", 4, 0.375)


def test_a_chart_has_a_line_for_each_value_of_a_setting():
    rows = [
        {"labels": labels, "method": method, "accuracy": labels / 10, "seconds": 1}
        for labels in (1, 8)
        for method in ("frozen", "fine-tuned")
    ]
    summaries = study.summarize(rows, ["labels", "method"])
    (axes,) = study.chart(summaries, "labels", "method", "Labels of each class").axes
    assert [tick.get_text() for tick in axes.get_xticklabels()] == ["1", "8"]
    assert axes.get_xlabel() == "Labels of each class"
    assert len(axes.lines) >= 2


def test_a_trial_that_cannot_be_done_is_named_and_the_others_are_kept(tmp_path):
    def diverges():
        raise errors.InputError("The loss was nan.")

    first = next(iter(trials([]).values()))
    with pytest.raises(errors.InputError, match="trial wild .* The loss was nan"):
        study.run(tmp_path, {"0-a": first, "wild": diverges})
    assert [path.name for path in (tmp_path / "trials").iterdir()] == ["0-a.json"]


@settings(deadline=None, max_examples=20)
@given(st.data())
def test_a_damaged_result_of_a_trial_is_made_again(data):
    row = {"blocks": 2, "accuracy": 0.625, "network": "tiny", "pair": ("a", 1)}
    wanted = {**row, "pair": ["a", 1]}
    with tempfile.TemporaryDirectory() as folder:
        folder = Path(folder)
        with pytest.MonkeyPatch.context() as patch:
            # It takes longer than all the rest.
            patch.setattr(study.keras.backend, "clear_session", lambda: None)
            first = study.run_once(folder, "one", lambda: dict(row))
        (path,) = (folder / "trials").iterdir()
        content = bytearray(path.read_bytes())
        if data.draw(st.booleans(), label="truncate"):
            del content[data.draw(st.integers(0, len(content) - 2)) :]
        else:
            place = data.draw(st.integers(0, len(content) - 2))
            content[place] ^= data.draw(st.integers(1, 127))
        path.write_bytes(content)
        with (
            warnings.catch_warnings(record=True) as shown,
            pytest.MonkeyPatch.context() as patch,
        ):
            patch.setattr(study.keras.backend, "clear_session", lambda: None)
            warnings.simplefilter("always")
            again = study.run_once(folder, "one", lambda: dict(row))
    if not shown:  # White space, or the name of the checksum.
        assert again == first or "checksum" not in content.decode(errors="replace")
    assert {name: again.get(name) for name in wanted} == wanted


def test_a_study_says_how_long_it_may_still_take(tmp_path, capsys):
    (tmp_path / "trials").mkdir()
    files.write_json(tmp_path / "trials" / "slow.json", {"seconds": 600})
    slow = dict.fromkeys(("slow", "again", "last"), dict)
    study.run(tmp_path, slow)
    shown = capsys.readouterr().out
    assert "Trial 2 of 3, about 20 min left: again" in shown
    assert "Trial 3 of 3, about 5 min left: last" in shown


def test_rows_that_differ_in_their_seed_alone_are_put_together(tmp_path, capsys):
    rows = study.run(tmp_path, trials([]))
    first, second = study.summarize(rows, ["blocks"])
    assert (first["blocks"], first["seeds"]) == (0, 2)
    assert (first["low"], first["high"]) == (0.5, 0.7)
    assert first["mean"] == pytest.approx(0.6)
    assert second["mean"] == 0.9
    study.show("A title", [first, second])
    shown = capsys.readouterr().out
    assert "0.600 (0.500 to 0.700)" in shown
    assert "the lowest and the highest" in shown


def test_ways_are_compared_seed_by_seed(capsys):
    # Seeds differ much, the gain is the same in both.
    accuracies = {"plain": (0.2, 0.8), "held": (0.25, 0.85), "worse": (0.1, 0.8)}
    rows = [
        {"labels": 10, "way": way, "seed": seed, "accuracy": accuracy}
        for way, values in accuracies.items()
        for seed, accuracy in enumerate(values)
    ]
    held, worse = study.gains(rows, ["labels"], "way", "plain")
    assert (held["labels"], held["way"], held["seeds"]) == (10, "held", 2)
    for key in ("gain", "low", "high"):
        assert held[key] == pytest.approx(0.05)
    # Mean -0.05, deviation 0.0707; t(0.975, 1) = 12.706.
    assert worse["gain"] == pytest.approx(-0.05)
    half = 12.706 * 0.0707107 / 2**0.5
    assert worse["high"] - worse["gain"] == pytest.approx(half, rel=1e-3)
    study.show("Gains", [held])
    shown = capsys.readouterr().out
    assert "+0.050 (+0.050 to +0.050)" in shown
    assert "t-interval" in shown
    with pytest.raises(errors.InputError, match="'seed': 0"):
        study.gains(rows[1:], ["labels"], "way", "plain")


def test_the_precision_outlives_a_trial(tmp_path):
    before = keras.config.dtype_policy()
    try:
        keras.config.set_dtype_policy("mixed_bfloat16")
        study.run(tmp_path, trials([]))
        assert keras.config.dtype_policy().name == "mixed_bfloat16"
    finally:
        keras.config.set_dtype_policy(before)


def test_one_seed_has_a_gain_and_no_interval(capsys):
    rows = [{"way": w, "seed": 0, "accuracy": a} for w, a in (("a", 0.5), ("b", 0.6))]
    (gain,) = study.gains(rows, [], "way", "a")
    assert (gain["low"], gain["high"]) == (None, None)
    study.show("Gains", [gain])
    shown = capsys.readouterr().out
    assert "+0.100" in shown
    assert "brackets" not in shown


def test_validation_chooses_a_setting_for_each_way_on_average_over_seeds():
    def row(way, rate, seed, validation):
        # Where validation is low the test accuracy is high: it must not choose.
        measured = {"validation": validation, "accuracy": 1 - validation, "seconds": 1}
        return {"way": way, "rate": rate, "seed": seed} | measured

    rows = [
        row("plain", 0.1, 0, 0.5),
        row("plain", 0.1, 1, 0.5),
        row("plain", 0.2, 0, 0.9),
        row("plain", 0.2, 1, 0.0),
        row("gradual", 0.1, 0, 0.3),
        row("gradual", 0.2, 0, 0.4),
    ]
    assert study.choose(rows, ["way"], ["rate"]) == [rows[0], rows[1], rows[5]]
    assert study.choose(rows, ["way"], []) == rows
    assert study.choose(rows, [], ["way", "rate"]) == rows[:2]


def test_what_is_saved_holds_every_trial(tmp_path):
    rows = study.run(tmp_path, trials([]))
    run = Run("a", RunSettings(), tmp_path, time.perf_counter(), {})
    saved = study.save(run, rows=rows, by=["blocks"], base="plain")
    assert saved["title"] == "Settings of every run."
    assert saved["base"] == "plain"
    assert json.loads((tmp_path / "manifest.json").read_text()) == saved
    assert (saved["trials"], saved["by"], saved["over"]) == (rows, ["blocks"], [])
    lines = (tmp_path / "trials.csv").read_text().splitlines()
    assert lines[0] == "blocks,accuracy,seconds"
    assert len(lines) == 4


def test_a_study_without_trials_is_refused(tmp_path):
    with pytest.raises(errors.InputError, match="trials"):
        study.run(tmp_path, {})


def test_the_figure_shows_each_series_and_names_each_place():
    points = [(0, 0.5, 0.4, 0.6), (1, 0.7, 0.7, 0.7)]
    figure = figures.lines(
        {"200 images": points, "$x": points}, ["head", "all"], "What trains", "Accuracy"
    )
    (axes,) = figure.axes
    assert [tick.get_text() for tick in axes.get_xticklabels()] == ["head", "all"]
    assert [line.get_ydata().tolist() for line in axes.lines] == [[0.5, 0.7]] * 2
    shown = [text.get_text() for text in figure.legends[0].get_texts()]
    assert shown == ["200 images", "$x"]
