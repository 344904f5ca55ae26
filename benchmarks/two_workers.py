"""Whether every recipe gives on two workers what it gives on one.

Each recipe runs with tiny settings, seconds long, once alone and once as two processes
of this machine, each with a folder, a cache and temporary files of its own, as on two
machines. Dropout draws other numbers on other devices and is switched off on both
sides; the table says where there is some.

    python -m benchmarks.two_workers NAME...          # show
    python -m benchmarks.two_workers [NAME...] --keep # and write; all take half an hour
"""

import argparse
import csv
import datetime
import importlib
import json
import os
import re
import runpy
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from benchmarks import clusters, harness, pages, tiny_recipes
from keras_tl import config, files

NAME = "two_workers"
# Seconds after which a run counts as hanging.
LONGEST = 480
# Measurements that are other ones in every run; and counts of answers, where accuracies
# and losses tell more.
LEFT_OUT = ("second", "memory", "mib", "megabyte", "date", "load")
LEFT_OUT += ("confusion", "only_", "per_class", "p_value")
# Layers that draw random numbers while training.
RANDOM = ("Dropout", "SpatialDropout1D", "SpatialDropout2D", "GaussianNoise")
SAID = "random layers:"


def work(arguments: list[str]) -> None:
    """Be a run: the command line without dropout, and say whether there was some."""
    import keras_tl.quiet  # noqa: F401  Before Keras.

    import keras

    drawn = set()

    def without(kind):
        def call(self, inputs, training=False):
            if training and getattr(self, "rate", 1):
                drawn.add(kind.__name__)
            return inputs

        kind.call = call

    for name in RANDOM:
        without(getattr(keras.layers, name))
    sys.argv = ["keras-tl", *arguments]
    try:
        runpy.run_module("keras_tl", run_name="__main__")
    finally:
        print(SAID, ", ".join(sorted(drawn)) or "none", flush=True)


class Process:
    """A run in a folder of its own."""

    def __init__(self, folder: Path, arguments: list[str], **environment: str):
        self.folder = folder
        for name in ("here", "temporary"):
            (folder / name).mkdir(parents=True)
        own = {
            "TMPDIR": str(folder / "temporary"),
            "KERAS_TL_CACHE": str(folder / "cache"),
            "PYTHONPATH": str(harness.ROOT),
            "TF_CPP_MIN_LOG_LEVEL": "3",
        }
        with open(folder / "output.txt", "w", encoding="utf-8") as output:
            self.process = subprocess.Popen(
                [sys.executable, "-m", f"benchmarks.{NAME}", "--work", *arguments],
                cwd=folder / "here",
                env={**os.environ, **own, **environment},
                stdout=output,
                stderr=subprocess.STDOUT,
            )

    def end(self, until: float) -> int | None:
        """Wait for the end; return the status, or `None` where it did not end."""
        try:
            return self.process.wait(max(1, until - time.monotonic()))
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()
            return None

    @property
    def results(self) -> Path:
        """Folder of the run."""
        return self.folder / "here" / "run"

    @property
    def output(self) -> str:
        """What it has printed."""
        return (self.folder / "output.txt").read_text(encoding="utf-8")

    def wrote(self) -> list[str]:
        """Return the names of what it has left."""
        return sorted(
            str(path.relative_to(self.folder))
            for name in ("here", "temporary")
            for path in (self.folder / name).iterdir()
        )


def arguments_of(name: str, folder: Path) -> list[str]:
    """Return the arguments of a run, whose settings and data are written."""
    if name in tiny_recipes.TRAINED:
        return [*tiny_recipes.train(name, folder / "data"), "--out", "run"]
    recipe, more = tiny_recipes.VARIANTS.get(name, (name, {}))
    module = importlib.import_module(f"recipes.{recipe}")
    settings = tiny_recipes.settings(recipe, folder / "data") | more
    path = folder / "settings.json"
    files.write_json(path, config.to_json(module.Config(**settings)))
    return ["run", recipe, "--config", str(path), "--out", "run"]


def compare(name: str, folder: Path) -> dict:
    """Do a run alone and on two workers, and compare what came out."""
    arguments = arguments_of(name, folder)
    started = time.monotonic()
    alone = Process(folder / "alone", arguments)
    statuses = [alone.end(started + LONGEST)]
    seconds = [time.monotonic() - started]
    row = {"recipe": name, "statuses": statuses, "seconds": seconds}
    if statuses != [0]:
        return row | {"error": last(alone.output)}
    addresses = clusters.free_addresses(2)
    started = time.monotonic()
    workers = [
        Process(
            folder / f"worker-{rank}",
            arguments,
            TF_CONFIG=clusters.environment(addresses, rank)["TF_CONFIG"],
        )
        for rank in range(2)
    ]
    statuses += [worker.end(started + LONGEST) for worker in workers]
    seconds.append(time.monotonic() - started)
    row["random"] = said(alone.output)
    if statuses[1:] != [0, 0]:
        # Of worker 1 too where it says something else, without folders of this machine.
        problems = dict.fromkeys(
            re.sub(rf"\S*{re.escape(folder.name)}\S*", "FOLDER", last(one.output))
            for one in workers
        )
        return row | {"error": "; ".join(problems)}
    row["wrote"] = workers[1].wrote()
    return row | differences(alone, workers[0])


def said(output: str) -> str:
    """Return which random layers a run has said that there are."""
    lines = [line for line in output.splitlines() if line.startswith(SAID)]
    return lines[-1].removeprefix(SAID).strip() if lines else "unknown"


def last(output: str) -> str:
    """Return the last line that a run has printed."""
    lines = [line for line in output.splitlines() if not line.startswith(SAID)]
    errors = [line for line in lines if "rror" in line]
    return (errors or lines or [""])[-1].strip()


def differences(one: Process, other: Process) -> dict:
    """Compare the numbers of two runs, and which examples they were tested on."""
    numbers = [measured(run.results) | printed(run.output) for run in (one, other)]
    shared = numbers[0].keys() & numbers[1].keys()
    apart = {key: abs(numbers[0][key] - numbers[1][key]) for key in shared}
    rates = {k: v for k, v in apart.items() if "accuracy" in k or "validation" in k}
    others = {k: v for k, v in apart.items() if k not in rates}
    tested = [examples(run.results) for run in (one, other)]
    made = [{path.name for path in run.results.iterdir()} for run in (one, other)]
    return {
        "numbers": len(shared),
        "accuracies": max(rates.values(), default=0.0),
        "others": max(others.values(), default=0.0),
        "where": sorted(apart, key=apart.get, reverse=True)[:3],
        "tested": [len(those) for those in tested],
        "same": tested[0] == tested[1],
        "files": sorted(made[0] ^ made[1]),
    }


def measured(folder: Path) -> dict[str, float]:
    """Return the numbers that a run has measured: metrics, history and trials."""
    numbers: dict[str, float] = {}

    def add(name, value):
        if any(word in name.lower() for word in LEFT_OUT):
            return
        if isinstance(value, dict):
            for key, inner in value.items():
                add(f"{name} {key}", inner)
        elif isinstance(value, list):
            for index, inner in enumerate(value):
                add(f"{name} {index}", inner)
        elif isinstance(value, int | float):
            numbers[name] = float(value)

    manifest = files.read_json(folder / "manifest.json")
    add("trials", manifest.get("trials", []))
    if (folder / "metrics.json").exists():
        add("metrics", files.read_json(folder / "metrics.json"))
    for path in sorted(folder.glob("*.csv")):
        if path.name in ("predictions.csv", "trials.csv"):
            continue
        with open(path, newline="", encoding="utf-8") as file:
            for index, cells in enumerate(csv.DictReader(file)):
                for key, cell in cells.items():
                    try:
                        add(f"{path.name} {index} {key}", float(cell))
                    except (TypeError, ValueError):
                        continue
    return numbers


def printed(output: str) -> dict[str, float]:
    """Return the numbers of the epochs that a run has printed, to three digits.

    What a study trains leaves no history. Which epochs are printed depends on the time
    that they take; the last of a phase always is.
    """
    numbers, phase = {}, 0
    for line in output.splitlines():
        phase += line.endswith("parameters train")
        epoch = re.search(r"  epoch (\d+)/\d+  ", line)
        if epoch is not None:
            for name, value in re.findall(r"(accuracy|validation|loss) ([\d.]+)", line):
                numbers[f"phase {phase} epoch {epoch[1]} {name}"] = float(value)
    return numbers


def examples(folder: Path) -> list[str]:
    """Return what each example that a run was tested on is called, in their order."""
    path = folder / "predictions.csv"
    if not path.exists():
        return []
    with open(path, newline="", encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    return [",".join([*row.values()][:2]) for row in rows]


def main() -> None:
    """Compare recipes, and show or keep the result."""
    parser = argparse.ArgumentParser(prog=f"python -m benchmarks.{NAME}")
    parser.add_argument("names", nargs="*", help="recipes; by default all")
    parser.add_argument("--keep", action="store_true", help="write the results")
    parser.add_argument("--folder", type=Path, help="keep what the runs wrote in there")
    arguments = parser.parse_args()
    paths = sorted((harness.ROOT / "recipes").glob("[!_]*.py"))
    path = pages.RESULTS / NAME / f"{NAME}.json"
    known = json.loads(path.read_text())["recipes"] if path.exists() else []
    rows = {row["recipe"]: row for row in known}
    every = [path.stem for path in paths]
    every += [*tiny_recipes.VARIANTS, *tiny_recipes.TRAINED]
    for name in arguments.names or every:
        prefix = f"{name.replace(' ', '_')}-"
        folder = Path(tempfile.mkdtemp(dir=arguments.folder, prefix=prefix))
        row = compare(name, folder)
        if arguments.folder is None:
            shutil.rmtree(folder)
        print(json.dumps(row), flush=True)
        rows[name] = row
        if arguments.keep:
            result = {
                "date": datetime.date.today().isoformat(),
                **harness.machine(),
                "recipes": [rows[name] for name in sorted(rows)],
            }
            pages.keep(NAME, result)


if __name__ == "__main__":
    if sys.argv[1:2] == ["--work"]:
        work(sys.argv[2:])
    else:
        main()
