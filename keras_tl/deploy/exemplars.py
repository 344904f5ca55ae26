"""Images that a run keeps of its data, so that it can be updated when they are gone.

`exemplars.zip` in the run's folder: JPEGs at the side that the model takes, at most so
many of each class of each split. Nothing but an update needs it; it can be deleted.
"""

import io
import zipfile
from collections import defaultdict
from pathlib import Path

import numpy as np
from PIL import Image

from keras_tl import files
from keras_tl.data import splits
from keras_tl.data.sources import ImageFiles
from keras_tl.data.splits import Split, Splits
from keras_tl.deploy import artifact

FILE = "exemplars.zip"
# Images of each class that are kept, and most of all classes: some to rehearse and to
# choose the epoch by, more to notice what an update has made worse.
OF_EACH = {"train": 20, "validation": 10, "test": 50}
MOST = {"train": 1000, "validation": 500, "test": 2500}
# Of JPEG, without reduced colours: what a model answers hardly changes.
_QUALITY = 95


def save(folder: Path, data: Splits, image_size: int | None) -> dict | None:
    """Write the exemplars of a run, in one step.

    Args:
        folder: The run's folder.
        data: The data that its model was trained on.
        image_size: Side of the images that the model takes.

    Returns:
        What the manifest says of them: hash, and the number of each split; `None` where
        the examples are no images of one class each, and nothing is kept.

    Raises:
        InputError: The disk is full, or the folder cannot be written to.
    """
    images = all(split.inputs.kind == "image" for _, split in data.items())
    if not images or image_size is None or data.task != "single-label":
        return None
    counts = {}
    with (
        files.atomic(folder / FILE) as temporary,
        zipfile.ZipFile(temporary, "w") as archive,
    ):
        for name, split in data.at_size(image_size).items():
            kept = chosen(name, split, len(data.class_names))
            counts[name] = len(kept)
            for start in range(0, len(kept), 256):
                rows = kept[start : start + 256]
                for index, pixels in zip(rows, split.read(rows), strict=True):
                    label = split.labels[index]
                    # A date of its own would give every file another hash.
                    entry = zipfile.ZipInfo(f"{name}/{label}/{index:07}.jpg")
                    archive.writestr(entry, _encoded(pixels))
    return {"counts": counts, "sha256": files.sha256(folder / FILE)}


def chosen(name: str, split: Split, classes: int) -> np.ndarray:
    """Choose the examples of a split that are kept: the same number of each class.

    Args:
        name: Name of the split.
        split: The split; examples whose label is not known are left out.
        classes: Number of classes.

    Returns:
        Sorted indices.
    """
    known = np.flatnonzero(split.known)
    # Copies of an image, and examples beside the others, come after them.
    known = known[known < len(split) // split.copies]
    count = min(OF_EACH[name], max(1, MOST[name] // classes))
    return known[splits.of_each(split.labels[known], count, seed=0)]


def of_run(model: artifact.Artifact) -> Splits | None:
    """Load the exemplars of a run.

    Returns:
        Splits of its classes; `None` where it keeps none.

    Raises:
        InputError: The file is not the one that the run saved.
    """
    path, about = model.folder / FILE, model.manifest.get("exemplars")
    if about is None or not path.is_file():
        return None
    artifact.check_hash(path, about.get("sha256") if isinstance(about, dict) else None)
    contents, labels = defaultdict(list), defaultdict(list)
    with zipfile.ZipFile(path) as archive:
        for name in sorted(archive.namelist()):
            split, label, _ = name.split("/")
            contents[split].append(archive.read(name))
            labels[split].append(int(label))
    kept = {
        name: Split(
            ImageFiles(tuple(contents[name]), model.image_size, model.resize),
            np.array(labels[name], "int32"),
        )
        for name in OF_EACH
    }
    return Splits(
        **kept,
        class_names=model.class_names,
        origin="The images that the run kept.",
        task="single-label",
    )


def _encoded(pixels) -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, "jpeg", quality=_QUALITY, subsampling=0)
    return buffer.getvalue()
