"""Faults are injected into real runs: some of those of the benchmark, end to end."""

import sys

import pytest

from benchmarks import injected_faults

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(sys.platform != "linux", reason="limits and signals of Linux"),
]


@pytest.fixture
def place(tmp_path):
    return injected_faults.Place(tmp_path)


def test_a_run_that_is_killed_at_any_file_goes_on_to_the_same_result(place):
    name = "quickstart"
    for file in ("head.npz", "model.keras"):
        fault = {"move": injected_faults.move_of(place, name, file), "when": "before"}
        row = injected_faults.killed(place, name, f"before {file}", [fault])
        assert (row["happened"], row["lost"]) == ("resumed 1x", "nothing")


def test_a_study_that_is_killed_goes_on_to_the_same_result(place):
    name = "hyperparameter_search"
    number = injected_faults.move_of(place, name, "trials/*")
    fault = {"move": number, "when": "before"}
    row = injected_faults.killed(place, name, "before the last trial", [fault])
    assert (row["happened"], row["lost"]) == ("resumed 1x", "nothing")


def test_a_process_with_too_little_memory_halves_its_batches(place):
    (row,) = injected_faults.small_memories(place)
    assert "results differ" in row["lost"], row
    assert "trained in batches of [32.0, 32.0]" in row["happened"]


def test_what_is_lost_is_noticed(place):
    whole = injected_faults.whole_run(place, "hyperparameter_search")
    assert injected_faults.lost(whole, whole) == "nothing"
    assert injected_faults.lost(place.path("absent"), whole) == "**the run**"
    other = place.path("other")
    other.mkdir()
    text = (whole / "manifest.json").read_text()
    (other / "manifest.json").write_text(text.replace('"accuracy": 0', '"accuracy": 1'))
    assert "trials" in injected_faults.lost(other, whole)
