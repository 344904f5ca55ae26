"""Run benchmarks and show them: `python -m benchmarks [NAME ...] [--keep]`."""

import os
import sys

from rich.console import Console
from rich.table import Table

from benchmarks import (
    augmentation,
    core,
    folders,
    frozen,
    harness,
    packed,
    pages,
    prediction,
    start_up,
    step,
)
from keras_tl import config, errors, files

MODULES = (frozen, step, augmentation, folders, packed, prediction, core, start_up)


def main() -> None:
    """Run the benchmarks that were named."""
    arguments = harness.parse()
    known = {name: module for module in MODULES for name in module.BENCHMARKS}
    if arguments.list:
        for name, module in known.items():
            print(f"{name:<22}{module.BENCHMARKS[name].title}")
        return
    if arguments.backend != "tensorflow":
        # The other benchmarks measure what only TensorFlow has.
        known = {name: module for name, module in known.items() if module is core}
    with config.error_exit("python -m benchmarks"):
        for name in arguments.names:
            if name not in known:
                raise errors.unknown("benchmark", name, known)
        errors.check_at_least("rounds", arguments.rounds, 7 if arguments.keep else 1)
        os.environ["KERAS_BACKEND"] = arguments.backend
        suffix = "" if arguments.backend == "tensorflow" else f"-{arguments.backend}"
        for name in arguments.names or known:
            benchmark = known[name].BENCHMARKS[name]
            print(f"{name}: {benchmark.title}", flush=True)
            try:
                result = harness.measure(
                    known[name].__name__, name, benchmark, arguments.rounds
                )
            except harness.MissingError:
                # Said already: without ours there is nothing to compare.
                continue
            show(result)
            if arguments.keep:
                result |= {"rounds": arguments.rounds, **harness.machine()}
                pages.RESULTS.mkdir(exist_ok=True)
                result["backend"] = arguments.backend
                files.write_json(pages.RESULTS / f"{name}{suffix}.json", result)
        if arguments.keep:
            pages.write()


def show(result: dict) -> None:
    """Print a benchmark as a table."""
    head, rows = pages.table(result)
    table = Table(*head)
    for row in rows:
        table.add_row(*row)
    Console().print(table)


if __name__ == "__main__":
    sys.exit(main())
