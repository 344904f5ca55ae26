"""Whether the diagnosis names faults that were planted.

For each data set and kind of fault: a run with the fault, and the verdict. Photographs
are those of a folder with real data, which is not part of the project.

    python -m benchmarks.diagnosis DATA           # measure and show
    python -m benchmarks.diagnosis DATA --keep    # and write the results

A study that was stopped goes on where it was: finished trials are in `--state FOLDER`.
"""

import argparse
import datetime
import sys
import tempfile
from dataclasses import dataclass, replace
from pathlib import Path

from benchmarks import harness, pages
from benchmarks.forecast import SIZE, examples

SEED, LIMITS = 0, {"train": 600, "validation": 200, "test": 200}
TARGETS = ("pacs_photo", "hymenoptera", "cifar10_sample")


@dataclass(frozen=True)
class Kind:
    """A kind of fault as a candidate."""

    name: str
    fault: object
    hidden: bool = False


def kinds() -> list[Kind]:
    """List the kinds of faults."""
    from benchmarks import faults, faults_hidden

    known = [Kind(name, fault) for name, fault in faults.FAULTS.items()]
    hidden = faults_hidden.FAULTS.items()
    return known + [Kind(name, fault, hidden=True) for name, fault in hidden]


def target(name: str, real: Path):
    """Load a data set as three splits in memory."""
    from keras_tl.data import datasets
    from keras_tl.data.sources import read_all
    from keras_tl.data.splits import balanced, read_once

    split, class_names = examples(name, real)
    data = datasets.from_arrays(
        (read_all(split.inputs), split.labels),
        class_names=list(class_names),
        validation=0.25,
        test_share=0.25,
        seed=SEED,
    )
    chosen = {}
    for part, one in data.items():
        one = one.take(balanced(one.labels, LIMITS[part], SEED))
        chosen[part] = read_once(one)
    return replace(data, **chosen)


def trial(kind: Kind, data, folder: Path) -> dict:
    """Plant a fault, and diagnose the run."""
    from keras_tl.analysis import diagnosis, evaluation
    from keras_tl.data.sources import read_all
    from keras_tl.data.splits import Split
    from keras_tl.training import store

    planted = kind.fault.plant(data, SEED)
    seen = planted.data.map(lambda part: Split(read_all(part.inputs), part.labels))
    made = diagnosis.diagnose(
        planted.model,
        seen,
        before=planted.before,
        cache=store.Cache(folder),
        seed=SEED,
    )
    rungs = {name: rung.accuracy for name, rung in made.ladder.rungs.items()}
    test = evaluation.accuracy(planted.model, planted.data.test)
    return {
        "kind": kind.name,
        "about": kind.fault.about,
        "hidden": kind.hidden,
        "wanted": kind.fault.verdict,
        "verdict": made.verdict,
        "confidence": made.confidence,
        "validation": rungs["run"],
        "test": test,
        "rungs": rungs,
        "parts": diagnosis.rows(made),
    }


def show(trials: list[dict]) -> None:
    """Print wanted and given verdicts, and the recall of each kind."""
    for row in trials:
        costs = [f"{one['part']} {100 * one['cost']:.0f}" for one in row["parts"]]
        mark = "  " if row["wanted"] == row["verdict"] else "X "
        print(
            f"{mark}{row['target']:<15}{row['kind']:<24}{row['wanted']:<16}"
            f"{row['verdict']:<16}{row['confidence']:.2f}  {', '.join(costs[:4])}"
        )
    for hidden in (False, True):
        of = [row for row in trials if row["hidden"] == hidden]
        if of:
            print(
                f"Mean recall{', hidden kinds' * hidden}: {pages.mean_recall(of):.3f}"
            )


def main() -> None:
    """Run all trials; keep and show what they give."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.diagnosis")
    parser.add_argument("data", type=Path)
    parser.add_argument("--state", type=Path)
    parser.add_argument("--targets", nargs="+", choices=TARGETS, default=TARGETS)
    parser.add_argument("--kinds", nargs="+")
    parser.add_argument("--keep", action="store_true")
    arguments = parser.parse_args()
    folder = arguments.state or Path(tempfile.mkdtemp())

    def run(kind, data):
        return trial(kind, data, folder / "cache")

    chosen = [k for k in kinds() if not arguments.kinds or k.name in arguments.kinds]
    targets = ((name, target(name, arguments.data)) for name in arguments.targets)
    trials = list(harness.trials(targets, chosen, run, folder))
    show(trials)
    if arguments.keep:
        about = {"size": SIZE, "limits": LIMITS, "seed": SEED, "trials": trials}
        today = datetime.datetime.now(datetime.UTC).date().isoformat()
        about |= {"date": today, **harness.machine()}
        pages.keep("diagnosis", about)


if __name__ == "__main__":
    sys.exit(main())
