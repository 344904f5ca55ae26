"""Whether scores of frozen features predict which backbone is best when fine-tuned.

For each target and backbone: all scores of `ranking.measure`, and the accuracy on test
images after training, a head first and then the last quarter of the blocks as well.
Backbones of random weights are among them as traps. Then, for each score, the weighted
tau between score and accuracy, and the regret: by how much the backbone with the
highest score stays below the best. Weights and photographs are those of a folder with
real data, which is not part of the project.

    python -m benchmarks.ranking DATA WEIGHTS           # measure and show, an hour
    python -m benchmarks.ranking DATA WEIGHTS --keep    # and write the results

DATA is the folder with `data` and `weights`, WEIGHTS one with `resnet50.weights.h5`. A
study that was stopped goes on where it was: finished trials are in `--state FOLDER`.
"""

import argparse
import datetime
import functools
import sys
import tempfile
from dataclasses import replace
from pathlib import Path

import numpy as np

from benchmarks import harness, pages

SIZE, SEED, LIMITS = 96, 0, {"train": 400, "validation": 200, "test": 600}
HEAD_EPOCHS, EPOCHS, QUARTER = 30, 4, 4
TARGETS = ("pacs_photo", "pacs_sketch", "cifar10_sample", "hymenoptera", "digits")
SCORES = ("logistic", "ridge", "neighbours", "LogME", "H-score", "LEEP", "NCE")
BASELINE = "imagenet_accuracy"


def candidates(real: Path, weights: Path) -> list:
    """List the backbones: five with weights of ImageNet, and two traps without.

    The accuracies of ImageNet are those that Keras states of the architectures; of
    MobileNet with a quarter of the width, that of its authors (arXiv:1704.04861,
    table 6).
    """
    from keras_tl.analysis.candidates import Images, named

    vgg = real / "weights/vgg16_torchvision_notop.weights.h5"
    mobile = real / "weights/mobilenetv2_torchvision.weights.h5"
    return [
        named("efficientnet_lite0"),
        named("mobilenet", alpha=0.25, accuracy=0.506),
        Images("mobilenet_v2", mobile, preprocessing="torch", accuracy=0.713),
        Images("resnet50", weights / "resnet50.weights.h5", accuracy=0.749),
        Images("vgg16", vgg, preprocessing="torch", accuracy=0.713),
        Images("efficientnet_lite0", None),
        Images("mobilenet", None, alpha=0.25),
    ]


def target(name: str, real: Path):
    """Load a target, its test split large enough to tell backbones apart."""
    from keras_tl.data import datasets
    from keras_tl.data.sources import Arrays, read_all
    from keras_tl.data.splits import balanced

    if name.startswith("pacs") or name == "hymenoptera":
        folder = real / "data" / name.replace("_", "/")
        data = datasets.load(folder, bad_files="skip", image_size=SIZE).at_size(SIZE)
        parts = [part for _, part in data.items()]
        images = np.concatenate([read_all(part.inputs) for part in parts])
        labels = np.concatenate([part.labels for part in parts])
        data = datasets.from_arrays(
            (images, labels),
            class_names=list(data.class_names),
            validation=0.25,
            test_share=0.45,
            seed=SEED,
        )
    else:
        data = datasets.load(name, seed=SEED).at_size(SIZE)
    chosen = {}
    for split, part in data.items():
        part = part.take(balanced(part.labels, LIMITS[split], SEED))
        chosen[split] = replace(part, inputs=Arrays(read_all(part.inputs)))
    return replace(data, **chosen)


def turned(data):
    """Turn all images by 180 degrees: some kernels are kept turned, see its README."""
    from keras_tl.data.sources import Arrays

    return data.map(
        lambda part: replace(part, inputs=Arrays(part.inputs.values[:, ::-1, ::-1]))
    )


def trial(candidate, data, folder: Path) -> dict:
    """Score a backbone on a target, then train it there."""
    import keras

    from keras_tl.analysis import evaluation, ranking
    from keras_tl.models import freezing, heads
    from keras_tl.training import phases, placement, store

    if "mobilenetv2_torchvision" in str(candidate.weights):
        data = turned(data)
    keras.utils.set_random_seed(SEED)
    backbone = candidate.load(data)
    cache = store.Cache(folder)
    measured = ranking.measure(
        candidate, data, cache=cache, seed=SEED, backbone=backbone
    )
    keras.utils.set_random_seed(SEED)
    model = heads.attach(backbone, len(data.class_names))
    setup = phases.Setup(
        placement.choose(["CPU:0"]), batch_size=32, seed=SEED, cache=cache
    )
    freezing.unfreeze_head(model)
    phases.fit(model, data, setup, phases.Phase(HEAD_EPOCHS))
    row = {"frozen": evaluation.accuracy(model, data.test)}
    count = max(1, len(freezing.blocks(model)) // QUARTER)
    freezing.unfreeze_blocks(model, count)
    phases.fit(model, data, setup, phases.fine_tuning(EPOCHS))
    row["accuracy"] = evaluation.accuracy(model, data.test)
    return {
        "name": measured.name,
        **measured.scores,
        BASELINE: candidate.imagenet_accuracy,
        **row,
        "blocks": count,
        "scoring_seconds": round(measured.seconds, 2),
        "correct": {
            k: "".join("01"[int(v)] for v in row_)
            for k, row_ in measured.correct.items()
        },
    }


def summary(rows: list[dict]) -> list[dict]:
    """Compute weighted tau and regret of each score on each target."""
    from scipy import stats

    made = []
    for name in dict.fromkeys(row["target"] for row in rows):
        of_target = [row for row in rows if row["target"] == name]
        best = max(row["accuracy"] for row in of_target)
        for score in (*SCORES, BASELINE):
            known = [row for row in of_target if row.get(score) is not None]
            if len(known) < 2:
                continue
            values = [row[score] for row in known]
            tau = stats.weightedtau(values, [row["accuracy"] for row in known])
            chosen = max(known, key=lambda row: row[score])
            made.append(
                {
                    "target": name,
                    "score": score,
                    "backbones": len(known),
                    "tau": float(tau.statistic),
                    "choice": chosen["name"],
                    "regret": best - chosen["accuracy"],
                }
            )
    return made


def show(rows: list[dict]) -> None:
    """Print tau and regret, a line for each score."""
    made = summary(rows)
    for score in (*SCORES, BASELINE):
        of_score = [row for row in made if row["score"] == score]
        if of_score:
            tau = np.mean([row["tau"] for row in of_score])
            cells = "  ".join(
                f"{r['target']} {r['tau']:.2f} ({100 * r['regret']:.1f})"
                for r in of_score
            )
            print(f"{score:<18}{tau:.3f}  {cells}")


def main() -> None:
    """Run all trials, target by target; keep and show what they give."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.ranking")
    parser.add_argument("data", type=Path)
    parser.add_argument("weights", type=Path)
    parser.add_argument("--state", type=Path)
    parser.add_argument("--targets", nargs="+", choices=TARGETS, default=TARGETS)
    parser.add_argument("--keep", action="store_true")
    arguments = parser.parse_args()
    folder = arguments.state or Path(tempfile.mkdtemp())
    run = functools.partial(trial, folder=folder / "cache")
    targets = ((name, target(name, arguments.data)) for name in arguments.targets)
    backbones = candidates(arguments.data, arguments.weights)
    rows = list(harness.trials(targets, backbones, run, folder))
    show(rows)
    if arguments.keep:
        about = {"size": SIZE, "limits": LIMITS, "seed": SEED, "trials": rows}
        today = datetime.datetime.now(datetime.UTC).date().isoformat()
        about |= {"summary": summary(rows), "date": today, **harness.machine()}
        pages.keep("ranking", about)


if __name__ == "__main__":
    sys.exit(main())
