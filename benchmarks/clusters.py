"""Workers of a cluster as processes of this machine."""

import io
import json
import os
import socket
import subprocess
import sys
import zipfile
from pathlib import Path

import h5py
import numpy as np

ROOT = Path(__file__).parents[1]
# Options of quickstart with which it takes seconds.
QUICK = [
    *("--limit", "60", "--image-size", "32", "--scratch-epochs", "0", "--epochs", "4"),
    *("--fine-tune-epochs", "6", "--no-cache", "--batch-size", "8"),
]


def free_addresses(count: int) -> list[str]:
    """Return addresses of this machine at which nobody listens."""
    sockets = [socket.socket() for _ in range(count)]
    for one in sockets:
        one.bind(("127.0.0.1", 0))
    addresses = [f"127.0.0.1:{one.getsockname()[1]}" for one in sockets]
    for one in sockets:
        one.close()
    return addresses


def environment(addresses: list[str], rank: int, **others: str) -> dict[str, str]:
    """Return the environment of a worker."""
    task = {"type": "worker", "index": rank}
    config = json.dumps({"cluster": {"worker": addresses}, "task": task})
    quiet = {"PYTHONPATH": str(ROOT), "TF_CPP_MIN_LOG_LEVEL": "3"}
    return {**os.environ, **quiet, "TF_CONFIG": config, **others}


def start(addresses, rank, *arguments, **others) -> subprocess.Popen:
    """Start Python as a worker, its output in pipes."""
    return subprocess.Popen(
        [sys.executable, *map(str, arguments)],
        env=environment(addresses, rank, **others),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def run(count: int, *arguments, **others) -> list[tuple[int, str, str]]:
    """Run Python as all workers; return status, output and errors of each."""
    addresses = free_addresses(count)
    started = [start(addresses, rank, *arguments, **others) for rank in range(count)]
    ended = []
    try:
        for process in started:
            output, problems = process.communicate(timeout=240)
            ended.append((process.returncode, output, problems))
    finally:
        for process in started:
            process.kill()
    return ended


def weights(folder):
    """Return the weights of the model of a run."""
    with zipfile.ZipFile(folder / "model.keras") as archive:
        content = io.BytesIO(archive.read("model.weights.h5"))
    values = {}

    def keep(name, item):
        if isinstance(item, h5py.Dataset):
            values[name] = np.array(item)

    with h5py.File(content) as file:
        file.visititems(keep)
    return values
