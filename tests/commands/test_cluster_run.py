"""`keras-tl cluster run`: what is refused before Ray starts, and what Ray does."""

import json
import os
import signal
import subprocess
import sys
import time
import types

import numpy as np
import psutil
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from benchmarks import clusters
from keras_tl import cli, errors
from keras_tl.commands import cluster
from keras_tl.commands.settings import ClusterRun

needs_ray = pytest.mark.skipif(
    not errors.is_installed("ray"), reason='needs Ray: pip install "keras-tl[ray]"'
)
OWN = {"workers": 2, "restarts": 0, "cpus-per-worker": 4, "address": "auto"}
SHORT = [*clusters.QUICK, "--epochs", "1", "--fine-tune-epochs", "3"]


@given(st.permutations(list(OWN)), st.lists(st.integers(0, 4), min_size=4), st.data())
@settings(deadline=None, max_examples=20)
def test_options_of_the_workers_stand_anywhere_among_those_of_the_recipe(
    names, places, data
):
    words = [[option] for option in ["--limit=60", "--no-cache", "--epochs=4"]]
    for name, place in zip(names, places, strict=False):
        equals = data.draw(st.booleans())
        value = str(OWN[name])
        words.insert(place, [f"--{name}={value}"] if equals else [f"--{name}", value])
    flat = [word for group in words for word in group]
    workers, command, recipe = cli.cluster_settings(["run", "quickstart", *flat])
    assert workers == ClusterRun(2, address="auto", cpus_per_worker=4, restarts=0)
    assert command == ["run", "quickstart", "--limit=60", "--no-cache", "--epochs=4"]
    assert (recipe.limit, recipe.cache, recipe.epochs) == (60, False, 4)


def test_train_takes_its_data_before_its_options(tmp_path):
    words = ["train", str(tmp_path), "--workers", "3", "--minutes", "2"]
    workers, command, train = cli.cluster_settings(["run", *words])
    assert workers.workers == 3
    assert command == ["train", str(tmp_path), "--minutes", "2"]
    assert train.minutes == 2


@pytest.mark.parametrize(
    ("words", "problem"),
    [
        ("walk", "Received: action='walk'"),
        ("run quikstart --workers 2", "Did you mean quickstart?"),
        ("run quickstart --workers 0", "`workers` must be at least 1"),
        ("run quickstart --workers", "`--workers` must be followed by a value"),
        ("run quickstart --workers 2 --restarts -1", "`restarts` must be at least 0"),
        ("run quickstart --workers 2 --gpus-per-worker -1", "`gpus_per_worker` must"),
        ("run quickstart --workers 2 --address ray://a:1", "a machine of the cluster"),
        ("run quickstart --workers 2 --epochs -3", "`epochs` must be at least 1"),
        ("run quickstart --workers 2 --batch-size 33", "nearest: 32 or 34"),
        ("run quickstart --workers 2 --data ./absent", "Received: data='absent'"),
        ("run train --workers 2 --minutes 1", "DATA must come before the options"),
        ("run quickstart --workers 2 --resume absent", "absent/config.json"),
    ],
)
def test_bad_input_is_one_sentence_before_ray_starts(words, problem, call, capsys):
    assert call("cluster", *words.split()) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert problem in line
    assert "ray" not in sys.modules


def test_the_extra_is_named_where_ray_is_missing(call, capsys, monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(errors, "is_installed", lambda module: False)
    assert call("cluster", "run", "quickstart", "--workers", "2") == 2
    assert capsys.readouterr().err == (
        "keras-tl: error: This needs ray, which is not installed: pip install "
        '"keras-tl[ray]"\n'
    )
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("name", cli.recipe_names())
def test_the_options_of_every_recipe_are_read_without_keras(name, capsys):
    with pytest.raises(SystemExit, match="0"):
        cli.recipe_settings(cli.recipe_path(name), ["--help"])
    assert f"keras-tl run {name}" in capsys.readouterr().out


def program(code):
    """Start Python, its input a pipe."""
    return subprocess.Popen(
        [sys.executable, "-c", f"from keras_tl.commands import cluster\n{code}"],
        env={**os.environ, "PYTHONPATH": str(clusters.ROOT)},
        stdin=subprocess.PIPE,
        stderr=subprocess.PIPE,
    )


def test_a_worker_ends_with_the_process_that_started_it():
    process = program("import time; cluster.end_with_parent(); time.sleep(60)")
    process.stdin.close()
    assert process.wait(timeout=30) == 75
    process.stderr.close()


def test_a_worker_that_is_done_ends_by_itself():
    process = program("cluster.end_with_parent()")
    assert (process.wait(timeout=30), process.stderr.read()) == (0, b"")
    process.stdin.close()
    process.stderr.close()


def work(monkeypatch, tmp_path, rank, command):
    """Run what Ray calls on the machine of a worker; return what it reports."""
    context = types.SimpleNamespace(get_world_rank=lambda: rank)
    train = types.SimpleNamespace(get_context=lambda: context)
    monkeypatch.setitem(sys.modules, "ray", types.SimpleNamespace(train=train))
    monkeypatch.setenv("PYTHONPATH", str(clusters.ROOT))
    events = []
    task = {
        "command": command,
        "again": [*command[:2], "--resume", "run"],
        "folder": str(tmp_path / "run"),
        "logs": str(tmp_path / "run-workers"),
        "directory": str(tmp_path),
        "events": types.SimpleNamespace(put=events.append),
    }
    cluster._work(task)
    return events


def test_bad_input_of_a_worker_is_not_tried_again(monkeypatch, tmp_path):
    (tmp_path / "run-workers").mkdir()
    events = work(monkeypatch, tmp_path, 0, ["show", "nope"])
    assert [kind for kind, *_ in events] == ["start", "line", "end"]
    assert events[1][2].startswith("keras-tl: error: `recipe` must be one of")
    assert events[2] == ("end", 0, 2)


def test_the_output_of_other_workers_goes_to_their_logs(monkeypatch, tmp_path):
    (tmp_path / "run-workers").mkdir()
    assert work(monkeypatch, tmp_path, 1, ["show", "quickstart"]) == [("end", 1, 0)]
    log = (tmp_path / "run-workers" / "worker-1.log").read_text()
    assert log == cli.recipe_path("quickstart").read_text()


def test_a_worker_goes_on_with_the_run_that_was_begun(monkeypatch, tmp_path):
    (tmp_path / "run-workers").mkdir()
    (tmp_path / "run" / "state").mkdir(parents=True)
    events = work(monkeypatch, tmp_path, 0, ["run", "quickstart", "--epochs", "1"])
    assert "run/config.json" in events[1][2]
    assert events[-1] == ("end", 0, 2)


def test_a_machine_that_does_not_share_the_folder_is_named(monkeypatch, tmp_path):
    line, end = work(monkeypatch, tmp_path, 1, ["list"])
    assert f"does not see {tmp_path}: all machines must share it." in line[2]
    assert end == ("end", 1, 2)


def test_a_run_that_is_complete_is_not_begun_again(monkeypatch, tmp_path):
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "manifest.json").touch()
    assert work(monkeypatch, tmp_path, 1, ["run", "quickstart"]) == []


def start(*arguments):
    """Start `keras-tl cluster run quickstart` on two workers of Ray."""
    command = ["-m", "keras_tl", "cluster", "run", "quickstart", "--workers", "2"]
    quiet = {"PYTHONPATH": str(clusters.ROOT), "TF_CPP_MIN_LOG_LEVEL": "3"}
    return subprocess.Popen(
        [sys.executable, *command, *map(str, arguments)],
        env={**os.environ, **quiet},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def workers_of(folder):
    """Return the processes of the workers of a run, by their ranks."""
    processes = {}
    for process in psutil.process_iter(["cmdline"]):
        words = process.info["cmdline"] or []
        if cluster._PROGRAM in words and str(folder) in words:
            config = json.loads(process.environ()["TF_CONFIG"])
            processes[config["task"]["index"]] = process
    return processes


def wait_for(path, process):
    while not path.exists():
        assert process.poll() is None, process.communicate()
        time.sleep(0.05)


@needs_ray
@pytest.mark.slow
def test_ray_goes_on_after_a_worker_was_killed_to_what_plain_workers_give(tmp_path):
    plain, folder = tmp_path / "plain", tmp_path / "ray"
    quickstart = ("-m", "keras_tl", "run", "quickstart", *SHORT)
    for status, _, problems in clusters.run(2, *quickstart, "--out", plain):
        assert status == 0, problems

    process = start(*SHORT, "--out", folder)
    wait_for(folder / "state" / "fine-tuning.npz", process)
    workers_of(folder)[1].send_signal(signal.SIGKILL)
    output, problems = process.communicate(timeout=300)
    assert process.returncode == 0, problems
    log = f"{folder}-workers/worker-1.log"
    assert f"worker 1 has ended with status 137; its output is in {log}" in problems
    assert "All workers start again: restart 1 of 3." in output
    assert output.count("head  epoch 1/1") == 1
    first, again = clusters.weights(plain), clusters.weights(folder)
    assert first.keys() == again.keys()
    for name in first:
        np.testing.assert_array_equal(first[name], again[name])
    assert not (folder / "state").exists()
    assert {path.name for path in plain.iterdir()} == {
        path.name for path in folder.iterdir()
    }
    assert [path.name for path in tmp_path.glob("ray-workers/*")] == ["worker-1.log"]


@needs_ray
@pytest.mark.slow
def test_ctrl_c_ends_all_workers_and_says_how_to_go_on(tmp_path):
    folder = tmp_path / "run"
    process = start(*SHORT, "--out", folder)
    wait_for(folder / "state" / "head.npz", process)
    process.send_signal(signal.SIGINT)
    _, problems = process.communicate(timeout=60)
    assert process.returncode == 130
    assert problems.splitlines()[-1] == (
        f"keras-tl: interrupted. Continue with keras-tl cluster run quickstart "
        f"--resume {folder} --workers 2"
    )
    ended = time.monotonic() + 20
    while workers_of(folder) and time.monotonic() < ended:
        time.sleep(0.1)
    assert not workers_of(folder)


@needs_ray
@pytest.mark.slow
def test_an_address_without_a_cluster_is_refused_at_once(tmp_path):
    (address,) = clusters.free_addresses(1)
    for wrong in (address, "10.0.0.1"):
        process = start("--address", wrong, "--out", tmp_path / "run")
        _, problems = process.communicate(timeout=60)
        assert process.returncode == 2
        assert (
            f"`address` must be that of a Ray cluster. Received: address='{wrong}'"
            in (problems)
        )
    assert not list(tmp_path.iterdir())


@needs_ray
@pytest.mark.slow
def test_what_all_workers_refuse_ends_the_run_at_once(tmp_path):
    process = start("--limit", "60", "--strategy=mirrored", "--out", tmp_path / "run")
    output, problems = process.communicate(timeout=200)
    assert process.returncode == 2
    assert "`strategy` must be auto or multiworker" in output
    assert "restart" not in output + problems
    assert not (tmp_path / "run").exists()
