import sys

import pytest

from keras_tl import errors
from keras_tl.analysis import figures, search

SPACE = {
    "head": ("linear", "hidden"),
    "blocks": search.Range(0, 3),
    "rate": search.Range(1e-4, 1e-1, log=True),
    "dropout": search.Range(0.0, 0.5),
}
START = {"head": "hidden", "blocks": 0, "rate": 1e-3, "dropout": 0.5}


def measure(values):
    """A landscape with one top, at two blocks without dropout."""
    return {"validation": 0.9 - abs(values["blocks"] - 2) / 10 - values["dropout"] / 5}


def run(folder, objective=measure, trials=7, seed=0, **settings):
    folder.mkdir(exist_ok=True)
    settings = {"space": SPACE, "start": START} | settings
    rows = search.run(
        folder, objective, settings.pop("space"), trials=trials, seed=seed, **settings
    )
    return [{k: v for k, v in row.items() if k != "seconds"} for row in rows]


@pytest.fixture(autouse=True)
def no_graphs(monkeypatch):
    """Nothing here makes a graph, and looking for some takes long."""
    monkeypatch.setattr("keras.backend.clear_session", lambda: None)


def rows_of(objective, trials):
    """The rows of a search that keeps nothing."""
    rows = [{"trial": 1, **START, **objective(START)}]
    for number in range(2, trials + 1):
        values = search.suggest(SPACE, rows, seed=0)
        rows.append({"trial": number, **values, **objective(values)})
    return rows


def test_a_killed_search_goes_on_with_the_trials_it_would_have_had(tmp_path):
    whole = run(tmp_path / "whole")
    done = []

    def killed(values):
        if len(done) == 5:
            raise KeyboardInterrupt
        done.append(values)
        return measure(values)

    with pytest.raises(KeyboardInterrupt, match="Finished trials are kept"):
        run(tmp_path / "parts", killed)
    assert len(list((tmp_path / "parts" / "trials").iterdir())) == 5
    again = []
    assert run(tmp_path / "parts", lambda v: again.append(v) or measure(v)) == whole
    assert len(again) == 2
    # Were it not for the seed, nothing would be left to chance.
    assert run(tmp_path / "other", seed=1) != whole


def test_more_trials_begin_with_the_same_ones(tmp_path):
    assert run(tmp_path / "more", trials=7)[:6] == run(tmp_path / "few", trials=6)


def test_the_first_trial_is_what_one_would_have_taken(tmp_path):
    first, *others = run(tmp_path / "a")
    assert first == {"trial": 1, **START, **measure(START)}
    assert all({name: row[name] for name in SPACE} != START for row in others)
    assert [row["trial"] for row in others] == list(range(2, 8))


def test_suggestions_lie_in_the_space_and_are_of_its_kind():
    rows = []
    for number in range(1, 30):
        values = search.suggest(SPACE, rows, seed=0)
        assert list(values) == list(SPACE)
        assert all(values[name] in tried for name, tried in SPACE.items())
        assert isinstance(values["blocks"], int)
        rows.append({"trial": number, **values, **measure(values)})
    assert {row["blocks"] for row in rows} == {0, 1, 2, 3}
    # On a logarithmic scale, half of what is drawn at random is in the lower half.
    drawn = [search.suggest(SPACE, [], seed=seed)["rate"] for seed in range(40)]
    assert 10 < sum(rate < 10**-2.5 for rate in drawn) < 30


def test_what_the_trials_gave_decides_what_comes_next():
    rows = rows_of(measure, trials=40)
    early, late = rows[1 : search.STARTUP], rows[-10:]

    def mean(some):
        return sum(row["validation"] for row in some) / len(some)

    assert mean(late) > mean(early)
    assert search.best(rows)["blocks"] == 2


def test_where_trials_failed_fewer_are_suggested():
    def diverges(values):
        return {"failed": "NaN"} if values["rate"] > 1e-2 else measure(values)

    rows = rows_of(diverges, trials=40)
    failed = [row["trial"] for row in rows if "failed" in row]
    # A third of the space fails, on its logarithmic scale.
    assert 0 < len(failed) < 40 / 4
    assert "failed" not in search.best(rows)


def test_a_trial_that_fails_is_kept_and_the_search_goes_on(tmp_path, capsys):
    def fails(values):
        if values != START:
            raise errors.InputError("The loss is NaN.")
        return measure(values)

    _, second, third = run(tmp_path / "a", fails, trials=3)
    assert second["failed"] == third["failed"] == "The loss is NaN."
    assert "validation" not in second
    assert "of 3: failed (best so far: 0.600, trial 1)" in capsys.readouterr().out


def test_a_trial_without_a_finite_accuracy_has_failed(tmp_path):
    def second_is_nan(values):
        return {"validation": 0.5 if values == START else float("nan")}

    _, second = run(tmp_path / "a", second_is_nan, trials=2)
    assert "must be finite" in second["failed"]


def test_each_trial_is_a_line_with_the_best_so_far(tmp_path, capsys):
    rows = run(tmp_path / "a", trials=3)
    lines = capsys.readouterr().out.splitlines()
    assert lines[0] == (
        "Trial 1 of 3: 0.600 (best so far: 0.600, trial 1): head hidden, blocks 0, "
        "rate 0.001, dropout 0.5"
    )
    best = search.best(rows)
    assert f"best so far: {best['validation']:.3f}, trial {best['trial']}" in lines[2]
    assert len(lines) == 3


def test_the_table_has_the_best_first(capsys):
    rows = [
        {"trial": 1, **START, "validation": 0.5, "seconds": 1.0},
        {"trial": 2, **START, "failed": "It did.", "seconds": 1.0},
        {"trial": 3, **START, "validation": 0.75, "seconds": 1.0},
    ]
    search.show(rows, SPACE)
    shown = capsys.readouterr().out
    assert shown.index("0.750") < shown.index("0.500") < shown.index("failed")


def test_of_equal_trials_the_first_is_the_best():
    rows = [{"trial": n, "validation": 0.5} for n in (1, 2)]
    assert search.best(rows)["trial"] == 1


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"trials": 0}, "`trials` must be at least 1"),
        ({"start": {"head": "linear"}}, "a value for each of head, blocks"),
        ({"start": START | {"blocks": 4}}, "be in blocks="),
        ({"start": START | {"blocks": 1.5}}, "be in blocks="),
        ({"start": START | {"head": "big"}}, "be in head="),
    ],
)
def test_what_cannot_be_searched_is_refused_before_a_trial(settings, message, tmp_path):
    with pytest.raises(errors.InputError, match=message):
        run(tmp_path / "a", pytest.fail, **settings)
    assert not list((tmp_path / "a").iterdir())


def test_with_no_trial_left_there_is_no_best():
    rows = [{"trial": n, "failed": f"Reason {n}."} for n in (1, 2)]
    with pytest.raises(errors.InputError, match=r"all 2 failed.*Reason 1\."):
        search.best(rows)


def test_a_first_trial_that_fails_ends_the_search(tmp_path):
    def fails(values):
        raise errors.InputError("The loss is NaN.")

    with pytest.raises(errors.InputError, match="NaN"):
        run(tmp_path / "a", fails)
    assert not list((tmp_path / "a").glob("trials/*.json"))


@pytest.mark.parametrize(
    ("arguments", "message"),
    [((1, 1), "greater than low=1"), ((0, 1, True), "greater than 0 with `log`")],
)
def test_a_range_that_holds_nothing_is_refused(arguments, message):
    with pytest.raises(errors.InputError, match=message):
        search.Range(*arguments)


def test_without_optuna_the_error_names_the_extra(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "optuna", None)
    monkeypatch.setattr(
        "importlib.util.find_spec", lambda name: None if name == "optuna" else name
    )
    with pytest.raises(errors.InputError, match=r'"keras-tl\[search\]"'):
        run(tmp_path / "a")


def test_the_figure_shows_every_trial_at_each_of_its_settings():
    rows = [
        {"trial": 1, **START, "validation": 0.5},
        {"trial": 2, **START, "failed": "It did."},
        {"trial": 3, **START, "blocks": 2, "head": "linear", "validation": 0.75},
        {"trial": 4, **START, "blocks": 3, "validation": 0.7},
    ]
    figure = figures.trials(rows, search.describe(SPACE))
    top, head, blocks, rate, dropout = figure.axes

    def points(axes, label):
        return [
            (float(x), float(y))
            for line in axes.lines
            if line.get_label() == label
            for x, y in line.get_xydata()
        ]

    assert points(top, "start") == [(1, 0.5)]
    assert points(top, "trial") == [(3, 0.75), (4, 0.7)]
    assert points(top, "best") == [(3, 0.75)]
    assert [x for x, _ in points(top, "failed")] == [2]
    assert [y for _, y in points(top, "best so far")] == [0.5, 0.5, 0.75, 0.75]
    assert points(blocks, "trial") == [(2, 0.75), (3, 0.7)]
    assert points(head, "trial") == [(0, 0.75), (1, 0.7)]
    assert [t.get_text() for t in head.get_xticklabels()] == ["linear", "hidden"]
    assert rate.get_xscale() == "log"
    assert dropout.get_xscale() == "linear"
    shown = {text.get_text() for text in figure.legends[0].get_texts()}
    assert shown == {"start", "trial", "best", "failed", "best so far"}
