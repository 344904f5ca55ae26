"""What happens to a run of two workers when one of them fails, and what is lost.

Faults are injected into real runs of `keras-tl run quickstart` by two processes; what
is resumed is compared with a run without a fault, bit for bit.

    python -m benchmarks.worker_faults          # some minutes
    python -m benchmarks.worker_faults --keep   # and write results and page
"""

import contextlib
import datetime
import signal
import socket
import sys
import tempfile
import threading
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np

from benchmarks import clusters, harness, pages
from keras_tl import files

# Seconds that workers wait for one another.
PATIENCE = "8"
# Read by Python when it starts: what is another on one of the workers.
SITE = """
import importlib.metadata, os
wrong = os.environ.get("WRONG_VERSION")
if wrong:
    real = importlib.metadata.version
    importlib.metadata.version = lambda n: "0.0.1" if n == wrong else real(n)
"""


class Pair:
    """Two workers that run the recipe, whose output is collected.

    Args:
        *options: Options of the recipe, for both.
        addresses: Their addresses; by default free ones.
        of_rank: Variables of the environment, and options, of one of them alone.
    """

    def __init__(self, *options: object, addresses=None, of_rank=None):
        self.addresses = addresses or clusters.free_addresses(2)
        self.started, self.ended_at = [], {}
        self._outputs: dict[int, tuple[str, str]] = {}
        for rank in range(2):
            variables, own = (of_rank or {}).get(rank, ({}, ()))
            command = ["-m", "keras_tl", "run", "quickstart", *options, *own]
            self.started.append(
                clusters.start(
                    self.addresses,
                    rank,
                    *command,
                    **{"KERAS_TL_PATIENCE": PATIENCE, **variables},
                )
            )
        self._threads = [
            threading.Thread(target=self._collect, args=(rank,), daemon=True)
            for rank in range(2)
        ]
        for thread in self._threads:
            thread.start()

    def _collect(self, rank):
        self._outputs[rank] = self.started[rank].communicate()
        self.ended_at[rank] = time.monotonic()

    def wait_for(self, path: Path, seconds: float = 120.0) -> None:
        """Wait until a file is there."""
        end = time.monotonic() + seconds
        while not path.exists():
            if time.monotonic() > end or any(p.poll() for p in self.started):
                raise RuntimeError(f"{path} was not written: {self._outputs}")
            time.sleep(0.05)

    def finish(self, seconds: float = 180.0) -> None:
        """Wait for both to end; those that do not are killed."""
        for thread in self._threads:
            thread.join(seconds)
        for process in self.started:
            process.kill()
        for thread in self._threads:
            thread.join()

    def statuses(self) -> list[int]:
        """Return the exit status of each."""
        return [process.returncode for process in self.started]

    def message(self, rank: int) -> str:
        """Return the last line of errors or warnings of a worker, without its name."""
        lines = [
            line.partition("quickstart: ")[2]
            for line in self._outputs[rank][1].splitlines()
            if ("error: " in line or "warning: " in line) and "At 32 pixels" not in line
        ]
        text = (lines or ["nothing"])[-1].partition(": ")[2]
        for number, address in enumerate(self.addresses):
            text = text.replace(address, f"address {number}")
        return text


def outcome(folder: Path) -> dict:
    """Return weights and numbers of a run."""
    weights = clusters.weights(folder)
    values = {name: weight.tobytes() for name, weight in weights.items()}
    return {"metrics": files.read_json(folder / "metrics.json"), **values}


def lost(folder: Path, whole: dict) -> str:
    """Resume a run, and return what it lacks against one without a fault."""
    pair = Pair("--resume", folder)
    pair.finish()
    if any(pair.statuses()):
        return f"it cannot be resumed: {pair.message(0)}"
    own = outcome(folder)
    same = own == whole
    return (
        "nothing: resumed, every weight and number is the same"
        if same
        else "**other numbers**"
    )


def killed(folder: Path, whole: dict, *, rank: int, file: str) -> dict:
    """Kill a worker a moment after a file of the run was written."""
    out = folder / "run"
    pair = Pair(*clusters.QUICK, "--out", out)
    pair.wait_for(out / file)
    time.sleep(0.2)
    moment = time.monotonic()
    pair.started[rank].send_signal(signal.SIGKILL)
    pair.finish()
    other = 1 - rank
    return {
        "happened": pair.message(other),
        "status": pair.statuses()[other],
        "seconds": pair.ended_at[other] - moment,
        "lost": lost(out, whole),
    }


def interrupted(folder: Path, whole: dict) -> dict:
    """Interrupt one worker with Ctrl-C."""
    out = folder / "run"
    pair = Pair(*clusters.QUICK, "--out", out)
    pair.wait_for(out / "state" / "fine-tuning.npz")
    moment = time.monotonic()
    pair.started[1].send_signal(signal.SIGINT)
    pair.finish()
    return {
        "happened": pair.message(0),
        "status": pair.statuses()[0],
        "seconds": pair.ended_at[0] - moment,
        "lost": lost(out, whole),
    }


def throttled(folder: Path, whole: dict) -> dict:
    """Stop one worker again and again, so that it has a fifth of its processor."""
    out = folder / "run"
    pair = Pair(*clusters.QUICK, "--out", out)
    pair.wait_for(out / "config.json")
    moment = time.monotonic()
    while pair.started[1].poll() is None and pair.started[0].poll() is None:
        for order, seconds in ((signal.SIGSTOP, 0.8), (signal.SIGCONT, 0.2)):
            with contextlib.suppress(ProcessLookupError):
                pair.started[1].send_signal(order)
            time.sleep(seconds)
    with contextlib.suppress(ProcessLookupError):
        pair.started[1].send_signal(signal.SIGCONT)
    pair.finish()
    same = not any(pair.statuses()) and outcome(out) == whole
    return {
        "happened": pair.message(0),
        "status": pair.statuses()[0],
        "seconds": pair.ended_at[0] - moment,
        "lost": "nothing: the same weights and numbers"
        if same
        else "**other numbers**",
    }


def refused(folder: Path, whole: dict, *, addresses=None, of_rank=None) -> dict:
    """Start workers that cannot work together."""
    out = folder / "run"
    moment = time.monotonic()
    pair = Pair(*clusters.QUICK, "--out", out, addresses=addresses, of_rank=of_rank)
    pair.finish()
    begun = out.exists()
    return {
        "happened": pair.message(0),
        "status": pair.statuses()[0],
        "seconds": max(pair.ended_at.values()) - moment,
        "lost": "nothing: a run was begun" if begun else "nothing: no run was begun",
    }


def other_data(folder: Path, whole: dict) -> dict:
    """Have one worker read other images."""
    from PIL import Image

    rng = np.random.default_rng(0)
    for name in ("own", "other"):
        for label in ("cat", "dog"):
            place = folder / name / label
            place.mkdir(parents=True)
            for number in range(20):
                pixels = rng.integers(0, 256, (32, 32, 3), "uint8")
                Image.fromarray(pixels).save(place / f"{number}.png")
    data = {0: ({}, ("--data", folder / "own")), 1: ({}, ("--data", folder / "other"))}
    return refused(folder, whole, of_rank=data)


def taken(folder: Path, whole: dict) -> dict:
    """Have another program listen at the port of a worker."""
    with socket.socket() as server:
        server.bind(("", 0))
        server.listen()
        address = f"127.0.0.1:{server.getsockname()[1]}"
        addresses = [address, *clusters.free_addresses(1)]
        return refused(folder, whole, addresses=addresses)


def wrong_version(folder: Path, whole: dict, package: str) -> dict:
    """Have one worker with another version of a package."""
    (folder / "site").mkdir()
    (folder / "site" / "sitecustomize.py").write_text(SITE)
    path = f"{folder / 'site'}:{harness.ROOT}"
    changed = {1: ({"WRONG_VERSION": package, "PYTHONPATH": path}, ())}
    return refused(folder, whole, of_rank=changed)


# Fault, for people -> what injects it.
FAULTS: dict[str, Callable[[Path, dict], dict]] = {
    "a worker is killed in the middle of an epoch": lambda folder, whole: killed(
        folder, whole, rank=1, file="state/fine-tuning.npz"
    ),
    "the chief is killed in the middle of an epoch": lambda folder, whole: killed(
        folder, whole, rank=0, file="state/fine-tuning.npz"
    ),
    "a worker is killed before the first epoch ends": lambda folder, whole: killed(
        folder, whole, rank=1, file="config.json"
    ),
    "the chief is killed while it writes the results": lambda folder, whole: killed(
        folder, whole, rank=0, file="model.keras"
    ),
    "Ctrl-C on one worker": interrupted,
    "a worker has a fifth of its processor": throttled,
    "one machine does not come": lambda folder, whole: refused(
        folder,
        whole,
        of_rank={1: ({"TF_CONFIG": '{"cluster": {}}'}, ("--out", folder / "alone"))},
    ),
    "an address that does not exist": lambda folder, whole: refused(
        folder,
        whole,
        addresses=[*clusters.free_addresses(1), "no-such-machine.invalid:2222"],
    ),
    "a port that another program has": taken,
    "another version of TensorFlow on one worker": lambda folder, whole: wrong_version(
        folder, whole, "tensorflow"
    ),
    "another batch size on one worker": lambda folder, whole: refused(
        folder, whole, of_rank={1: ({}, ("--batch-size", "16"))}
    ),
    "other images on one worker": other_data,
}


def measure(wanted: str = "") -> list[dict]:
    """Inject every fault whose name has `wanted` in it."""
    rows = []
    with tempfile.TemporaryDirectory() as parent:
        whole = Path(parent) / "whole"
        pair = Pair(*clusters.QUICK, "--out", whole)
        pair.finish()
        if any(pair.statuses()):
            raise RuntimeError(pair.message(0))
        values = outcome(whole)
        for number, (fault, inject) in enumerate(FAULTS.items()):
            if wanted in fault:
                folder = Path(parent) / str(number)
                folder.mkdir()
                row = {"fault": fault, **inject(folder, values)}
                text = row["happened"].replace(f"{folder}/", "")
                rows.append({**row, "happened": text})
                print(rows[-1], flush=True)
    return rows


def main() -> None:
    """Inject the faults, and keep what came of them."""
    given = [argument for argument in sys.argv[1:] if argument != "--keep"]
    # A shell starts what runs in the background, and all that it starts, deaf to it.
    signal.signal(signal.SIGINT, signal.default_int_handler)
    rows = measure(*given)
    if "--keep" in sys.argv:
        date = datetime.date.today().isoformat()
        pages.keep("worker_faults", {"date": date, "rows": rows, **harness.machine()})


if __name__ == "__main__":
    main()
