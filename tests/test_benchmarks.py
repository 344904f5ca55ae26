"""Benchmarks measure side by side, and their page says what their files say."""

import ast
import dataclasses
import importlib
import json
from pathlib import Path

import pytest

from benchmarks import __main__ as command
from benchmarks import harness, pages, start_up

ROOT = Path(__file__).parents[1]


def test_the_page_is_what_the_result_files_say():
    assert (pages.FOLDER / "README.md").read_text() == pages.page()


def test_every_kept_result_is_of_a_benchmark_with_enough_rounds():
    known = {name for module in command.MODULES for name in module.BENCHMARKS}
    for path in pages.RESULTS.glob("*.json"):
        assert path.stem.removesuffix("-jax") in known
        assert json.loads(path.read_text())["rounds"] >= 7


def test_every_ratio_that_is_wanted_is_of_a_case():
    for module in command.MODULES:
        for benchmark in module.BENCHMARKS.values():
            wanted = {*benchmark.at_least, *benchmark.at_most, benchmark.ours}
            assert wanted <= set(benchmark.cases)


def test_cases_run_side_by_side_and_ratios_are_formed_in_a_round(capsys):
    whole = start_up.BENCHMARKS["start_up"]
    names = ("keras-tl --help", "keras-tl list")
    small = dataclasses.replace(
        whole,
        cases={name: whole.cases[name] for name in names},
        ours="keras-tl list",
        at_most={"keras-tl --help": 100},
    )
    result = harness.measure("benchmarks.start_up", "start_up", small, rounds=2)
    assert set(result["cases"]) == set(names)
    (ratio,) = result["ratios"].values()
    assert 0 < ratio["wall"]["lowest"] <= ratio["wall"]["highest"]
    head, rows = pages.table(result)
    assert [row[0] for row in rows] == list(names)
    assert {len(row) for row in rows} == {len(head)}
    assert rows[0][4] == "at most 100"
    assert "round 2 of 2" in capsys.readouterr().out


def test_a_process_says_why_its_case_cannot_run(monkeypatch, tmp_path, capsys):
    (tmp_path / "absent.py").write_text(
        "from benchmarks.harness import Benchmark, MissingError\n"
        "def absent():\n"
        "    raise MissingError('needs another library')\n"
        "BENCHMARKS = {'one': Benchmark('One', 'image', {'ours': absent}, 'ours')}\n"
    )
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    whole = harness.Benchmark("One", "image", {"ours": None}, "ours")
    with pytest.raises(harness.MissingError, match="needs another library"):
        harness.measure("absent", "one", whole, rounds=1)
    assert "ours: skipped, needs another library" in capsys.readouterr().out


def test_a_case_that_cannot_run_is_skipped_with_its_reason(monkeypatch):
    class Worker:
        def __init__(self, module, benchmark, case):
            self.case = case

        def ask(self, **message):
            if "warm" in message and self.case == "theirs":
                return {"missing": "needs another library"}
            if "warm" in message:
                return {"seconds": 0.1}
            return {"seconds": 2.0, "cpu_seconds": 3.0, "items": 4, "peak_mib": 5}

        def end(self):
            pass

    monkeypatch.setattr(harness, "Worker", Worker)
    cases = {"ours": None, "theirs": None, "guide": None}
    benchmark = harness.Benchmark("A title", "image", cases, "ours", {"guide": 2})
    result = harness.measure("module", "name", benchmark, rounds=2)
    assert result["missing"] == {"theirs": "needs another library"}
    assert result["ratios"]["guide"]["wall"]["median"] == 1
    assert pages.table(result)[1][-1][:2] == ["theirs", "skipped"]


@pytest.mark.parametrize(
    "path", sorted(pages.FOLDER.glob("*.py")), ids=lambda p: p.stem
)
def test_every_name_that_a_benchmark_imports_exists(path):
    # Most are imported inside functions, which only a long measurement calls.
    for node in ast.walk(ast.parse(path.read_text())):
        if not isinstance(node, ast.ImportFrom) or not node.module:
            continue
        if node.module.split(".")[0] in ("keras_tl", "benchmarks"):
            module = importlib.import_module(node.module)
            for name in node.names:
                if not hasattr(module, name.name):
                    importlib.import_module(f"{node.module}.{name.name}")


def test_a_perfect_score_has_tau_one_and_no_regret():
    from benchmarks import ranking

    accuracies = {"a": 0.9, "b": 0.8, "c": 0.5}
    rows = [
        {
            "target": "photos",
            "name": name,
            "accuracy": accuracy,
            "LogME": 2 * accuracy,
            "H-score": -accuracy,
            "LEEP": None,
        }
        for name, accuracy in accuracies.items()
    ]
    by_score = {row["score"]: row for row in ranking.summary(rows)}
    assert set(by_score) == {"LogME", "H-score"}
    assert by_score["LogME"]["tau"] == pytest.approx(1)
    assert by_score["LogME"]["regret"] == 0
    assert by_score["H-score"]["tau"] == pytest.approx(-1)
    assert by_score["H-score"]["choice"] == "c"
    assert by_score["H-score"]["regret"] == pytest.approx(0.4)


def test_the_page_on_more_data_states_the_coverage_that_was_measured():
    result = json.loads((pages.RESULTS / "forecast" / "forecast.json").read_text())
    rows = [row for trial in result["trials"] for row in trial["rows"]]
    text = " ".join((ROOT / "docs" / "how_to" / "more_data.md").read_text().split())
    errors = []
    for times, phrase in ((2, "in {} of {} cases"), (4, "in {} of {};")):
        of = [row for row in rows if row["times"] == times]
        assert phrase.format(sum(row["inside"] for row in of), len(of)) in text
        errors.append(sum(abs(r["forecast"] - r["accuracy"]) for r in of) / len(of))
    stated = " and ".join(f"{100 * error:.1f}" for error in errors)
    assert f"off by {stated} points on average" in text


def test_the_page_on_diagnosis_states_the_recall_that_was_measured():
    path = pages.RESULTS / "diagnosis" / "diagnosis.json"
    trials = json.loads(path.read_text())["trials"]
    text = " ".join((ROOT / "docs" / "how_to" / "diagnose.md").read_text().split())
    recalls, counts = [], []
    for hidden in (False, True):
        of = [trial for trial in trials if trial["hidden"] == hidden]
        recalls.append(pages.mean_recall(of))
        counts.append(len({trial["kind"] for trial in of}))
    assert f"the mean recall is {recalls[0]:.3f} over {counts[0]} kinds" in text
    assert f"and {recalls[1]:.3f} over {counts[1]} kinds by another hand" in text
    assert min(recalls) >= 0.8
