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
# Of those that compare rows with one another, and of the others, some and the rest.
SOME = ("distillation", "l2_sp", "domains", "contrast")
OTHERS = ("multi_task", "delta", "lwf", "beside", "ewc", "views", "statistics", "pairs")


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


@pytest.mark.parametrize(
    "names",
    [
        pytest.param(SOME, marks=pytest.mark.slow, id="some"),
        pytest.param(OTHERS, marks=pytest.mark.exhaustive, id="others"),
    ],
)
def test_two_devices_give_what_one_gives(names):
    apart = json.loads(run("apart", *names).splitlines()[-1])
    assert apart.keys() == set(names)
    assert max(apart.values()) < 1e-4, apart


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """Return the folders of what one process trains, and of what two train."""
    alone, together = (tmp_path_factory.mktemp(name) for name in ("one", "two"))
    run("train", alone)
    for status, _, problems in clusters.run(2, SCRIPT, "train", together):
        assert status == 0, problems
    return alone, together


@pytest.mark.exhaustive
@pytest.mark.parametrize("name", SOME + OTHERS)
def test_two_workers_give_what_one_machine_gives(trained, name):
    alone, together = trained
    with np.load(alone / f"{name}-0.npz") as one:
        for rank in range(2):
            with np.load(together / f"{name}-{rank}.npz") as other:
                for key in one:
                    assert np.abs(one[key] - other[key]).max() < 1e-4, (rank, key)
