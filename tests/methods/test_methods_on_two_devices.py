"""What methods add to the loss counts once, on however many devices.

Keras divides its own loss by the number of devices, whose gradients are added.
TensorFlow fixes its devices when it starts, so this needs processes of their own.
"""

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from benchmarks import clusters

SCRIPT = Path(__file__).with_name("methods_script.py")
METHODS = ("distillation", "multi_task", "l2_sp", "delta", "lwf", "beside")
METHODS += ("domains", "ewc", "views", "statistics", "contrast", "pairs")


def run(*arguments):
    """Run the script on this machine alone; return what it has printed."""
    alone = {name: v for name, v in os.environ.items() if name != "TF_CONFIG"}
    ended = subprocess.run(
        [sys.executable, SCRIPT, *arguments],
        env={**alone, "PYTHONPATH": str(clusters.ROOT), "TF_CPP_MIN_LOG_LEVEL": "3"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert ended.returncode == 0, ended.stderr
    return ended.stdout


@pytest.fixture(scope="module")
def apart():
    return json.loads(run().splitlines()[-1])


@pytest.mark.slow
@pytest.mark.parametrize("name", METHODS)
def test_two_devices_give_what_one_gives(apart, name):
    assert apart[name] < 1e-4


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """Return the folders of what one process trains, and of what two train."""
    alone, together = (tmp_path_factory.mktemp(name) for name in ("one", "two"))
    run(alone)
    for status, _, problems in clusters.run(2, SCRIPT, together):
        assert status == 0, problems
    return alone, together


@pytest.mark.exhaustive
@pytest.mark.parametrize("name", METHODS)
def test_two_workers_give_what_one_machine_gives(trained, name):
    alone, together = trained
    with np.load(alone / f"{name}-0.npz") as one:
        for rank in range(2):
            with np.load(together / f"{name}-{rank}.npz") as other:
                for key in one:
                    assert np.abs(one[key] - other[key]).max() < 1e-4, (rank, key)
