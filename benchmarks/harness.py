"""Measure cases side by side: each round runs every case once, in random order.

Each case lives in a process of its own, so that memory and threads are its own. A ratio
is formed inside a round and the median taken over rounds: what else the machine does
then slows both sides alike.
"""

import argparse
import functools
import importlib
import importlib.metadata
import json
import os
import platform
import random
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

ROOT = Path(__file__).parents[1]
# Seconds from which on a case is done once in a round, compiled or not.
LONG = 60

# A case, once built, does its work and says how many items that was.
Case = Callable[[], Callable[[], int]]


class MissingError(Exception):
    """A case that cannot run here, and why."""


def check_bfloat16() -> None:
    """Raise `MissingError` where the processor does not compute with bfloat16."""
    from keras_tl.training import placement

    if placement.choose(precision="auto").precision != "mixed_bfloat16":
        raise MissingError("this processor has no bfloat16")


@dataclass(frozen=True)
class Benchmark:
    """Cases that do the same work, of which one is ours.

    Attributes:
        title: What is measured, for people.
        item: What is counted: "image", "step", "command".
        cases: Name -> function that builds the case and gives what one call of does it.
        ours: Name of the case that is compared with the others.
        at_least: Name of another case -> how many times as fast ours has to be.
        at_most: The same, for a case that ours may be slower than.
        ratio: What rate of ours divided by rate of another case says, for people.
        limit: What bounds it from below, for people.
        seconds: About how long one case runs in one round.
    """

    title: str
    item: str
    cases: dict[str, Case]
    ours: str
    at_least: dict[str, float] = field(default_factory=dict)
    at_most: dict[str, float] = field(default_factory=dict)
    ratio: str = "keras_tl is so many times as fast"
    limit: str = ""
    seconds: float = 1.0


class Worker:
    """A process that runs one case."""

    def __init__(self, module: str, benchmark: str, case: str):
        # A file, since nobody reads along: a pipe would fill up and stop the process.
        self.printed = tempfile.TemporaryFile("w+")  # noqa: SIM115
        self.process = subprocess.Popen(
            [sys.executable, "-m", "benchmarks.harness", module, benchmark, case],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self.printed,
            text=True,
            cwd=ROOT,
            env={**os.environ, "TF_CPP_MIN_LOG_LEVEL": "3", "PYTHONWARNINGS": "ignore"},
        )

    def ask(self, **message) -> dict:
        """Send a message and wait for the answer.

        Raises:
            RuntimeError: The process ended; the message says what it printed.
        """
        try:
            self.process.stdin.write(json.dumps(message) + "\n")
            self.process.stdin.flush()
        except BrokenPipeError:
            pass
        line = self.process.stdout.readline()
        if not line:
            self.printed.seek(0)
            raise RuntimeError(self.printed.read()[-2000:])
        return json.loads(line)

    def end(self) -> None:
        """End the process."""
        self.process.kill()
        self.process.communicate()
        self.printed.close()


def serve(module: str, benchmark: str, case: str) -> None:
    """Be the process of one case: answer messages from standard input."""
    answers = os.fdopen(os.dup(1), "w")
    # What libraries print must not stand among the answers.
    os.dup2(2, 1)
    build = importlib.import_module(module).BENCHMARKS[benchmark].cases[case]

    def answer(**values):
        print(json.dumps(values), file=answers, flush=True)

    sys.stdin.readline()
    try:
        run = build()
        started = time.perf_counter()
        run()
        if time.perf_counter() - started < LONG:
            # The first call compiles; the time of the second says how many to do.
            started = time.perf_counter()
            run()
        answer(seconds=time.perf_counter() - started)
    except (MissingError, ImportError) as error:
        answer(missing=str(error))
        return
    for line in sys.stdin:
        times = json.loads(line)["times"]
        cpu, started, items = _cpu_seconds(), time.perf_counter(), 0
        for _ in range(times):
            items += run()
        seconds = time.perf_counter() - started
        peak = max(
            resource.getrusage(who).ru_maxrss
            for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)
        )
        answer(
            seconds=seconds,
            cpu_seconds=_cpu_seconds() - cpu,
            items=items,
            peak_mib=peak / 1024,
        )


def _cpu_seconds():
    both = (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)
    return sum(used.ru_utime + used.ru_stime for used in map(resource.getrusage, both))


def measure(module: str, name: str, benchmark: Benchmark, rounds: int) -> dict:
    """Run all cases of a benchmark side by side.

    Returns:
        What goes into the result file: for each case its rate and memory, for each
        other case the ratio of ours to it, round by round.

    Raises:
        MissingError: Ours cannot run here.
    """
    workers, times, missing = {}, {}, {}
    for case in benchmark.cases:
        worker = Worker(module, name, case)
        first = worker.ask(warm=True)
        if "missing" in first:
            missing[case] = first["missing"]
            print(f"  {case}: skipped, {first['missing']}", flush=True)
            worker.end()
            if case == benchmark.ours:
                for other in workers.values():
                    other.end()
                raise MissingError(first["missing"])
            continue
        workers[case] = worker
        times[case] = max(1, round(benchmark.seconds / max(first["seconds"], 1e-6)))
        print(f"  {case}: {first['seconds']:.3g} s", flush=True)
    seen = {case: [] for case in workers}
    order = list(workers)
    for number in range(rounds):
        random.Random(number).shuffle(order)
        for case in order:
            seen[case].append(workers[case].ask(times=times[case]))
        print(f"  round {number + 1} of {rounds}", flush=True)
    for worker in workers.values():
        worker.end()
    return {
        "title": benchmark.title,
        "item": benchmark.item,
        "limit": benchmark.limit,
        "ours": benchmark.ours,
        "at_least": benchmark.at_least,
        "at_most": benchmark.at_most,
        "ratio": benchmark.ratio,
        "missing": missing,
        "cases": {case: _rates(runs) for case, runs in seen.items()},
        "ratios": {
            case: _ratios(seen[benchmark.ours], runs)
            for case, runs in seen.items()
            if case != benchmark.ours
        },
    }


def _rates(runs):
    return {
        "items_per_second": _spread([one["items"] / one["seconds"] for one in runs]),
        "items_per_cpu_second": _spread(
            [one["items"] / max(one["cpu_seconds"], 1e-9) for one in runs]
        ),
        "peak_mib": max(one["peak_mib"] for one in runs),
    }


def _ratios(ours, theirs):
    def ratios(seconds):
        return _spread(
            [
                (our["items"] / max(our[seconds], 1e-9))
                / (their["items"] / max(their[seconds], 1e-9))
                for our, their in zip(ours, theirs, strict=True)
            ]
        )

    return {"wall": ratios("seconds"), "cpu": ratios("cpu_seconds")}


def _spread(values):
    return {
        "median": statistics.median(values),
        "lowest": min(values),
        "highest": max(values),
    }


def parse() -> argparse.Namespace:
    """Read the command line of `python -m benchmarks`."""
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks",
        description="Measure the core beside what it is compared with.",
    )
    parser.add_argument("names", nargs="*", help="which benchmarks; all by default")
    parser.add_argument("--list", action="store_true", help="name them and stop")
    parser.add_argument("--rounds", type=int, default=7, help="at least 7 are kept")
    parser.add_argument(
        "--backend",
        default="tensorflow",
        choices=("tensorflow", "jax"),
        help="of Keras; jax runs the benchmarks called core_*",
    )
    parser.add_argument(
        "--keep", action="store_true", help="write results/ and README.md beside it"
    )
    return parser.parse_args()


def trials(targets, candidates, trial: Callable, folder: Path):
    """Run a trial of every candidate on every target, each kept once it is finished.

    Args:
        targets: Pairs of a name and what a trial is given of the target.
        candidates: Have a `name` each.
        trial: Called with a candidate and a target; returns a dictionary.
        folder: Holds the trials that are finished, which are not run again.

    Yields:
        One dictionary for each trial, with the name of its target.
    """
    from keras_tl.analysis import study

    folder.mkdir(parents=True, exist_ok=True)
    for name, target in targets:
        for candidate in candidates:
            key = f"{name}-{candidate.name}".replace(" ", "_").replace(",", "")
            run = functools.partial(trial, candidate, target)
            made = study.run_once(folder, key, run)
            print(f"{key}: {made['seconds']:.0f} s", flush=True)
            yield {"target": name, **made}


def machine() -> dict:
    """Describe the machine and the versions of a measurement."""
    from keras_tl import environment

    versions = environment.versions()
    if os.environ.get("KERAS_BACKEND") == "jax":
        versions["jax"] = importlib.metadata.version("jax")
    return {
        "machine": environment.machine(),
        "versions": versions,
        "load": os.getloadavg()[0],
        "python": platform.python_version(),
    }


if __name__ == "__main__":
    # Not this module, which is another one here: cases raise `harness.MissingError`.
    from benchmarks import harness

    harness.serve(*sys.argv[1:])
