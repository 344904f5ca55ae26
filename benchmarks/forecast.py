"""Whether the interval of a forecast of accuracy holds what more examples then give.

For each data set, backbone and draw: a learning curve on frozen features, of which the
largest size, twice the one before, or the two largest, four times, are hidden; the
forecast from the others, and the accuracy that was measured. Photographs and weights
are those of a folder with real data, which is not part of the project.

    python -m benchmarks.forecast DATA           # measure and show, 15 minutes
    python -m benchmarks.forecast DATA --keep    # and write the results

DATA is the folder with `data` and `weights`. A study that was stopped goes on where it
was: finished trials are in `--state FOLDER`.
"""

import argparse
import datetime
import sys
import tempfile
from pathlib import Path

import numpy as np

from benchmarks import harness, pages

SIZE, SEEDS, HELD = 96, 5, 0.35
TARGETS = (
    *("pacs_photo", "pacs_art_painting", "pacs_cartoon", "pacs_sketch"),
    *("hymenoptera", "cifar10_sample", "digits"),
)
# How many sizes are hidden -> how many times the examples are forecast.
HIDDEN = {1: 2, 2: 4}


def candidates() -> list:
    """List the backbones: two with weights of ImageNet, and one without."""
    from keras_tl.analysis.candidates import Images, named

    return [
        named("efficientnet_lite0"),
        named("mobilenet", alpha=0.25),
        Images("efficientnet_lite0", None, image_size=SIZE),
    ]


def examples(name: str, real: Path):
    """Return all examples of a data set as one split, and the names of its classes."""
    from keras_tl.data import datasets
    from keras_tl.data.sources import Arrays, read_all
    from keras_tl.data.splits import Split

    place, options = name, {}
    if name.startswith("pacs") or name == "hymenoptera":
        place = real / "data" / name.replace("_", "/", 1)
        options = {"bad_files": "skip", "image_size": SIZE}
    data = datasets.load(place, **options).at_size(SIZE)
    parts = [part for _, part in data.items()]
    pixels = np.concatenate([read_all(part.inputs) for part in parts])
    labels = np.concatenate([part.labels for part in parts])
    return Split(Arrays(pixels), labels), data.class_names


def trial(candidate, target) -> dict:
    """Forecast what is hidden, for several draws of training examples."""
    import keras
    from sklearn.model_selection import train_test_split

    from keras_tl.analysis import learning_curve, ranking
    from keras_tl.data.splits import Splits
    from keras_tl.training import features

    split, class_names = target
    keras.utils.set_random_seed(0)
    data = Splits(split, split, split, class_names, "All examples.")
    stem = ranking.pooled(candidate.load(data), len(class_names))
    made = features.extract(stem, split)
    rows = []
    for seed in range(SEEDS):
        train, held = train_test_split(
            np.arange(len(split)),
            test_size=HELD,
            stratify=split.labels,
            random_state=seed,
        )
        curve = learning_curve.measure(
            made.take(train), made.take(held), class_names, seed=seed
        )
        for hidden, times in HIDDEN.items():
            *_, last = curve.sizes[:-hidden]
            forecast = learning_curve.forecast(curve.until(last), seed=seed)
            middle, low, high = forecast.accuracy(curve.sizes[-1])
            reached = float(curve.correct[-1].mean())
            row = {"seed": seed, "times": times, "from": last}
            row |= {"examples": curve.sizes[-1], "accuracy": reached}
            row |= {"forecast": middle, "low": low, "high": high}
            rows.append(row | {"inside": bool(low <= reached <= high)})
    return {"name": candidate.name, "rows": rows}


def summary(trials: list[dict]) -> list[dict]:
    """Compute for each data set, and for all, how often the interval held."""
    rows = [{"target": one["target"], **row} for one in trials for row in one["rows"]]
    made = []
    for times in HIDDEN.values():
        for name in [*dict.fromkeys(row["target"] for row in rows), "all"]:
            of = [
                r for r in rows if r["times"] == times and name in (r["target"], "all")
            ]
            apart = [abs(row["forecast"] - row["accuracy"]) for row in of]
            widths = [row["high"] - row["low"] for row in of]
            made.append(
                {
                    "target": name,
                    "times": times,
                    "forecasts": len(of),
                    "inside": sum(row["inside"] for row in of) / len(of),
                    "error": float(np.mean(apart)),
                    "width": float(np.mean(widths)),
                }
            )
    return made


def show(trials: list[dict]) -> None:
    """Print a line for each data set."""
    for row in summary(trials):
        print(
            f"{row['target']:<20}{row['times']} times  {row['forecasts']:>3} forecasts"
            f"  {100 * row['inside']:.0f} % inside  error {100 * row['error']:.1f}"
            f"  width {100 * row['width']:.1f}"
        )


def main() -> None:
    """Run all trials; keep and show what they give."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.forecast")
    parser.add_argument("data", type=Path)
    parser.add_argument("--state", type=Path)
    parser.add_argument("--targets", nargs="+", choices=TARGETS, default=TARGETS)
    parser.add_argument("--keep", action="store_true")
    arguments = parser.parse_args()
    folder = arguments.state or Path(tempfile.mkdtemp())
    targets = ((name, examples(name, arguments.data)) for name in arguments.targets)
    trials = list(harness.trials(targets, candidates(), trial, folder))
    show(trials)
    if arguments.keep:
        about = {"size": SIZE, "seeds": SEEDS, "held": HELD, "trials": trials}
        today = datetime.datetime.now(datetime.UTC).date().isoformat()
        about |= {"summary": summary(trials), "date": today, **harness.machine()}
        pages.keep("forecast", about)


if __name__ == "__main__":
    sys.exit(main())
