"""Faults are injected into real runs: some of those of the benchmark, end to end."""

import json
import shutil
import sys
import zipfile

import h5py
import pytest

from benchmarks import injected_faults


@pytest.fixture
def place(tmp_path):
    if sys.platform != "linux":
        pytest.skip("limits and signals are those of Linux")
    return injected_faults.Place(tmp_path)


@pytest.mark.parametrize(
    "file",
    [
        pytest.param("head.npz", marks=pytest.mark.slow),
        pytest.param("model.keras", marks=pytest.mark.exhaustive),
    ],
)
def test_a_run_that_is_killed_at_any_file_goes_on_to_the_same_result(place, file):
    number = injected_faults.move_of(place, "quickstart", file)
    fault = {"move": number, "when": "before"}
    row = injected_faults.killed(place, "quickstart", f"before {file}", [fault])
    assert (row["happened"], row["lost"]) == ("resumed 1x", "nothing")


@pytest.mark.exhaustive
def test_a_process_with_too_little_memory_halves_its_batches(place):
    (row,) = injected_faults.small_memories(place)
    assert "results differ" in row["lost"], row
    assert "trained in batches of [32.0, 32.0]" in row["happened"]


def write_model(run, value):
    with h5py.File(run / "weights.h5", "w") as file:
        file["layers/dense/vars/0"] = [1.0, value]
    with zipfile.ZipFile(run / "model.keras", "w") as archive:
        archive.write(run / "weights.h5", "model.weights.h5")
    (run / "weights.h5").unlink()


def test_whatever_differs_is_named_as_lost(tmp_path):
    whole, run = tmp_path / "whole", tmp_path / "run"
    whole.mkdir()
    write_model(whole, 2.0)
    (whole / "metrics.json").write_text('{"accuracy": 0.5}')
    (whole / "predictions.csv").write_text("/a/b/1.png,cat\n")
    manifest = {"trials": [{"accuracy": 0.5, "seconds": 1}]}
    (whole / "manifest.json").write_text(json.dumps(manifest))

    def other(change):
        shutil.rmtree(run, ignore_errors=True)
        shutil.copytree(whole, run)
        change()
        return injected_faults.lost(run, whole)

    assert other(lambda: None) == "nothing"
    changed = {
        "**layers/dense/vars/0**": lambda: write_model(run, 2.0000002),
        "**metrics.json**": lambda: (run / "metrics.json").write_text("{}"),
        "**files**": lambda: (run / ".unfinished-a").touch(),
        "**trials**": lambda: (run / "manifest.json").write_text(
            json.dumps({"trials": [{"accuracy": 0.6, "seconds": 1}]})
        ),
        "**the run**": lambda: (run / "manifest.json").unlink(),
    }
    assert {name: other(change) for name, change in changed.items()} == {
        name: name for name in changed
    }
    manifest["trials"][0]["seconds"] = 2
    moved = json.dumps(manifest)
    assert other(lambda: (run / "manifest.json").write_text(moved)) == "nothing"
