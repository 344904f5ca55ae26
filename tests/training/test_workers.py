"""Several processes of this machine stand for several machines."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from types import SimpleNamespace

import keras
import numpy as np
import pytest
from keras import layers

from benchmarks import clusters
from benchmarks.clusters import QUICK, weights
from keras_tl import environment
from keras_tl.cluster import Cluster
from keras_tl.errors import InputError
from keras_tl.training import checks, progress, workers

SCRIPT = Path(__file__).with_name("worker_script.py")
CASES = ["frozen then tuned", "images mixed", "synchronized and clipped"]

needs_processes = pytest.mark.slow
FOUR_PROCESSES = pytest.param(4, marks=pytest.mark.exhaustive)


def test_other_versions_of_keras_are_refused(monkeypatch):
    monkeypatch.setattr(environment, "version", lambda package: "3.16.0")
    with pytest.raises(InputError, match=r"`keras` must have a version 3\.15\.x"):
        workers._check_keras()


@pytest.fixture
def second(monkeypatch):
    """This process is the second of two workers, whose first has given answers."""

    def connect(*answers):
        left = iter(answers)

        def gather_bytes(content):
            return [next(left), content]

        cluster = Cluster(("a:1", "b:1"), 1)
        connected = SimpleNamespace(cluster=cluster, gather_bytes=gather_bytes)
        monkeypatch.setattr(workers, "_CURRENT", connected)

    return connect


def test_a_phase_begins_with_the_weights_of_the_chief(second):
    models = [keras.Sequential([keras.Input((3,)), layers.Dense(2)]) for _ in range(2)]
    chief, own = (model.get_weights() for model in models)
    assert np.abs(chief[0] - own[0]).max() > 0
    content = b"".join(array.tobytes() for array in chief)
    second(b"another digest", b"true", content)
    checks.share_weights(models[1])
    for one, other in zip(chief, models[1].get_weights(), strict=True):
        np.testing.assert_array_equal(one, other)


def test_all_workers_stop_in_the_same_epoch_where_a_loss_is_not_finite(second):
    stop = progress.StopOnNonFinite()
    stop.set_params({"steps": 4})
    stop.on_epoch_begin(0)
    with pytest.raises(FloatingPointError, match="after step 2 of epoch 1"):
        stop.on_train_batch_end(1, {"loss": np.nan})
    second()
    # The others have begun the next step, and wait in it.
    stop.on_train_batch_end(1, {"loss": np.nan})
    with pytest.raises(FloatingPointError, match="in epoch 1"):
        stop.on_epoch_end(0, {"loss": np.nan})


@pytest.fixture(scope="module")
def one(tmp_path_factory):
    """Return the folder of what one process trains."""
    folder = tmp_path_factory.mktemp("one")
    alone = {name: v for name, v in os.environ.items() if name != "TF_CONFIG"}
    subprocess.run(
        [sys.executable, SCRIPT, "equal", folder],
        env={**alone, "PYTHONPATH": str(clusters.ROOT), "TF_CPP_MIN_LOG_LEVEL": "3"},
        check=True,
    )
    return folder


@pytest.mark.parametrize(
    "count", [pytest.param(2, marks=needs_processes), FOUR_PROCESSES]
)
def test_several_processes_give_what_one_gives(one, tmp_path, count):
    for status, _, problems in clusters.run(count, SCRIPT, "equal", tmp_path):
        assert status == 0, problems
    for case in CASES:
        with np.load(one / f"{case}-0.npz") as alone:
            for rank in range(count):
                with np.load(tmp_path / f"{case}-{rank}.npz") as together:
                    assert together["logits"].shape == (7, 3)
                    for name in alone:
                        apart = np.abs(alone[name] - together[name]).max()
                        assert apart < 1e-5, f"{case}, worker {rank}: {name}"


@needs_processes
def test_other_labels_on_one_worker_are_refused_before_the_first_step(tmp_path):
    for status, output, problems in clusters.run(2, SCRIPT, "other labels", tmp_path):
        assert status == 1
        assert "must have the same labels of the training split" in problems
        assert "epoch" not in output


WAITS = """
import time
from keras_tl.training import placement
placement.choose()
print("connected", flush=True)
time.sleep(100)
"""


@needs_processes
def test_a_worker_ends_by_the_signal_that_schedulers_send():
    addresses = clusters.free_addresses(2)
    started = [clusters.start(addresses, rank, "-c", WAITS) for rank in range(2)]
    try:
        for process in started:
            assert process.stdout.readline() == "connected\n"
        started[1].send_signal(signal.SIGTERM)
        assert started[1].wait(10) == -signal.SIGTERM
    finally:
        for process in started:
            process.kill()
            process.communicate()


@needs_processes
def test_a_slow_worker_is_named(tmp_path):
    for status, _, problems in clusters.run(2, SCRIPT, "slow", tmp_path):
        assert status == 0, problems
        assert "InputWarning: worker 1 (127.0.0.1:" in problems
        assert "All wait for it." in problems


def recipe(*arguments, kill=None):
    """Run a recipe on two workers, kill one, and return what came of both.

    Args:
        *arguments: Options of the recipe.
        kill: File whose appearance is the moment at which worker 1 is killed.

    Returns:
        Status, output, errors and seconds until the end after the kill, of each.
    """
    addresses = clusters.free_addresses(2)
    command = ["-m", "keras_tl", "run", "quickstart", *arguments]
    started = [clusters.start(addresses, rank, *command) for rank in range(2)]
    killed = time.monotonic()
    try:
        if kill is not None:
            while not kill.exists():
                assert started[1].poll() is None
                time.sleep(0.05)
            time.sleep(0.3)
            started[1].send_signal(signal.SIGKILL)
            killed = time.monotonic()
        ended = []
        for process in started:
            output, problems = process.communicate(timeout=240)
            seconds = time.monotonic() - killed
            ended.append((process.returncode, output, problems, seconds))
    finally:
        for process in started:
            process.kill()
    return ended, addresses


@needs_processes
def test_a_worker_that_is_killed_ends_the_others_and_all_go_on_to_the_same(tmp_path):
    whole, broken = tmp_path / "whole", tmp_path / "broken"
    ended, _ = recipe(*QUICK, "--out", whole)
    assert [status for status, *_ in ended] == [0, 0], ended

    ended, addresses = recipe(
        *QUICK, "--out", broken, kill=broken / "state" / "fine-tuning.npz"
    )
    status, _, problems, seconds = ended[0]
    assert ended[1][0] == -signal.SIGKILL
    assert status == 75
    assert seconds < 30
    (line,) = [one for one in problems.splitlines() if "error" in one.lower()]
    assert line == (
        f"keras-tl run quickstart: error: worker 1 ({addresses[1]}) has ended, or "
        f"cannot be reached any more, so that worker 0 ({addresses[0]}) ends too. "
        f"Start all workers again. Continue with --resume {broken}"
    )

    ended, _ = recipe("--resume", broken)
    assert [status for status, *_ in ended] == [0, 0], ended
    assert "epoch 1/6" not in ended[0][1]
    first, again = (weights(folder) for folder in (whole, broken))
    assert first.keys() == again.keys()
    for name in first:
        np.testing.assert_array_equal(first[name], again[name])
    metrics = [
        json.loads((folder / "metrics.json").read_text()) for folder in (whole, broken)
    ]
    assert metrics[0] == metrics[1]
    # The chief alone has written something.
    assert {path.name for path in tmp_path.iterdir()} == {"whole", "broken"}
