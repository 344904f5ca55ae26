"""How far the answers of `keras-tl train` can be believed.

A model is trained on each dataset; of its answers on the test images it is measured how
well its probabilities are calibrated, how many it gives where most are to be right, and
how well several scores tell its test images from those of the other datasets: the area
under the ROC curve, 0.5 by chance and 1 without an error. Photographs are those of a
folder with real data, which is not part of the project.

    python -m benchmarks.answers DATA           # show, ten minutes
    python -m benchmarks.answers DATA --keep    # and write the results
"""

import argparse
import datetime
import os
import subprocess
import sys
import tempfile
from pathlib import Path

import numpy as np
from sklearn import metrics

from benchmarks import accuracy, harness, pages
from benchmarks.checks import images
from keras_tl import files
from keras_tl.analysis import unlike
from keras_tl.deploy import artifact

NAME = "answers"
OWN = ("hymenoptera", "pacs_photo", "cifar10_sample", "digits")
OTHERS = (*OWN, "pacs_sketch")
# The score that a run uses.
TAKEN = "5th neighbour"
# Most images of another dataset.
MOST = 300


def trained(folder: Path, out: Path, minutes: float) -> artifact.Artifact:
    """Train on a dataset, or load what was trained before."""
    if not (out / "manifest.json").exists():
        command = [sys.executable, "-m", "keras_tl", "train", folder, "--out", out]
        subprocess.run(
            [*map(str, command), "--minutes", str(minutes)],
            check=True,
            env={**os.environ, "KERAS_TL_CACHE": str(out.parent / "cache")},
            capture_output=True,
        )
    model = artifact.load(out)
    model.convert()
    return model


def scores(model: artifact.Artifact, paths: list[Path]) -> dict[str, np.ndarray]:
    """Compute how unlike the training images some images are, by several scores."""
    source = model.source(paths)
    batches = [model.outputs(source.read([index])) for index in range(len(paths))]
    outputs = {
        name: np.concatenate([batch[name] for batch in batches])
        for name in ("logits", "embedding")
    }
    given = model.judge(outputs)
    logits, temperature = outputs["logits"], model.rules.temperature
    own = model.examples.embeddings
    return {
        "probability": -given.values.max(axis=1),
        "energy": unlike.energy(logits / temperature),
        "nearest neighbour": unlike.distance(given.embeddings, own, 1),
        "5th neighbour": unlike.distance(given.embeddings, own, 5),
        "20th neighbour": unlike.distance(given.embeddings, own, 20),
        "class means": to_class_means(given.embeddings, model),
    }


def to_class_means(embeddings: np.ndarray, model: artifact.Artifact) -> np.ndarray:
    """Compute Mahalanobis' distance to the nearest class, arXiv:1807.03888."""
    kept = model.examples
    classes = np.unique(kept.labels)
    means = np.stack([kept.embeddings[kept.labels == c].mean(axis=0) for c in classes])
    centred = kept.embeddings - means[np.searchsorted(classes, kept.labels)]
    # With fewer images than features the covariance needs some of the identity.
    covariance = centred.T @ centred / len(centred)
    level = np.trace(covariance) / len(covariance)
    inverse = np.linalg.inv(0.9 * covariance + 0.1 * level * np.eye(len(covariance)))
    differences = embeddings[:, None] - means
    return np.einsum("ncf,fg,ncg->nc", differences, inverse, differences).min(axis=1)


def measure(target: str, state: Path, real: Path, minutes: float) -> dict:
    """Measure the answers of a model of one dataset."""
    for name in OTHERS:
        accuracy.write_folder(name, real, state / "images" / name)
    out = state / "runs" / f"{target}-{minutes:g}"
    model = trained(state / "images" / target, out, minutes)
    own = scores(model, images(state / "images" / target, "test"))
    told = {}
    for other in OTHERS:
        if other != target:
            paths = images(state / "images" / other, "test")[:MOST]
            theirs = scores(model, paths)
            told[other] = {
                name: float(
                    metrics.roc_auc_score(
                        [0] * len(own[name]) + [1] * len(paths),
                        np.concatenate([own[name], theirs[name]]),
                    )
                )
                for name in own
            }
    kept = files.read_json(out / "metrics.json")
    return {
        "target": target,
        "test": len(own["energy"]),
        "accuracy": list(kept["models"].values())[-1]["accuracy"],
        **kept["calibration"],
        "told": told,
    }


def main() -> None:
    """Measure all datasets, and show or keep the results."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("data", type=Path)
    parser.add_argument("--minutes", type=float, default=2.0, help="of each training")
    parser.add_argument("--targets", nargs="+", default=OWN, choices=OWN)
    parser.add_argument("--state", type=Path, default=None)
    parser.add_argument("--keep", action="store_true", help="write the results")
    options = parser.parse_args()
    state = options.state or Path(tempfile.mkdtemp())
    rows = []
    for target in options.targets:
        rows.append(measure(target, state, options.data, options.minutes))
        print(rows[-1], flush=True)
    if options.keep:
        record = {"date": datetime.date.today().isoformat(), "rows": rows}
        record |= {"minutes": options.minutes, "taken": TAKEN}
        pages.keep(NAME, record | harness.machine())


if __name__ == "__main__":
    main()
