"""Draw the sample of CIFAR-10 again: `{train,validation,test}.webp` and `sample.json`.

    python -m keras_tl.assets.cifar10_sample.draw FOLDER

reads `tensorflow_datasets`' "cifar10" (downloaded when it is not there). Training and
validation images come from the official training split, test images from the official
test split; every split is balanced. `sample.json` records which images were drawn, by
their number in the official files.
"""

import argparse
import json
from pathlib import Path

import numpy as np
from PIL import Image

SEED = 2009
COUNTS = {"train": 2000, "validation": 500, "test": 1500}
COLUMNS = 50


def official(split: str) -> tuple[np.ndarray, np.ndarray, list[str]]:
    """Read an official split in its official order: images, labels, class names."""
    import tensorflow_datasets as tfds

    dataset, info = tfds.load(
        "cifar10", split=split, with_info=True, batch_size=-1, as_supervised=False
    )
    arrays = tfds.as_numpy(dataset)
    # TFDS shuffles while it writes; ids such as b"train_16399" keep the order.
    order = np.argsort([int(name.rsplit(b"_", 1)[1]) for name in arrays["id"]])
    names = info.features["label"].names
    return arrays["image"][order], arrays["label"][order], names


def draw(
    labels: np.ndarray, count: int, rng: np.random.Generator, taken: np.ndarray
) -> np.ndarray:
    """Draw `count` indices, as many of each class, none of `taken`, in mixed order."""
    each = count // len(np.unique(labels))
    chosen = [
        rng.choice(np.setdiff1d(np.flatnonzero(labels == label), taken), each, False)
        for label in np.unique(labels)
    ]
    return rng.permutation(np.concatenate(chosen))


def sheet(images: np.ndarray) -> Image.Image:
    """Lay out `(count, 32, 32, 3)` images in rows of `COLUMNS`."""
    count, height, width, _ = images.shape
    rows = count // COLUMNS
    grid = images.reshape(rows, COLUMNS, height, width, 3).swapaxes(1, 2)
    return Image.fromarray(grid.reshape(rows * height, COLUMNS * width, 3))


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("folder", type=Path, help="where to write the five files")
    folder = parser.parse_args().folder
    rng = np.random.default_rng(SEED)
    record = {"seed": SEED, "source": "CIFAR-10 (Krizhevsky, 2009)", "splits": {}}
    taken = {"train": np.array([], "int64"), "test": np.array([], "int64")}
    for split, count in COUNTS.items():
        source = "test" if split == "test" else "train"
        images, labels, names = official(source)
        chosen = draw(labels, count, rng, taken[source])
        taken[source] = np.concatenate([taken[source], chosen])
        sheet(images[chosen]).save(
            folder / f"{split}.webp", lossless=True, quality=100, method=6, exact=True
        )
        record["splits"][split] = {
            "official_split": source,
            "official_index": chosen.tolist(),
            "labels": labels[chosen].tolist(),
        }
    record["class_names"] = names
    (folder / "sample.json").write_text(json.dumps(record) + "\n")


if __name__ == "__main__":
    main()
