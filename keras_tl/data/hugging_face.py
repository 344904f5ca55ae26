"""A folder that Hugging Face's `datasets` has saved, as three splits."""

from dataclasses import replace
from pathlib import Path

import numpy as np

from keras_tl import errors
from keras_tl.data import drawing, layout, tables
from keras_tl.data.sources import ImageFiles
from keras_tl.data.splits import Split, Splits


def is_saved(data: object) -> bool:
    """Return whether a folder is one that Hugging Face's `datasets` has saved."""
    if not isinstance(data, str | Path):
        return False
    names = ("dataset_dict.json", "dataset_info.json")
    return any(Path(data, name).is_file() for name in names)


def load(
    path: Path | str, columns: tables.Columns | None = None, *, seed: int = 0
) -> Splits:
    """Load a dataset of images that Hugging Face's `datasets` has saved to a folder.

    Args:
        path: Folder that `Dataset.save_to_disk` or `DatasetDict.save_to_disk` wrote.
        columns: Names of the columns of images and labels, by default "image" and
            "label".
        seed: Seed of the drawing of splits that are missing.

    Raises:
        InputError: The extra `hf` is not installed, the columns are missing, or the
            labels are no classes.
    """
    errors.check_installed("datasets", extra="hf")
    import datasets

    columns = columns or tables.Columns()
    image, label = columns.input or "image", columns.label or "label"
    stored = datasets.load_from_disk(str(path))
    if not isinstance(stored, datasets.DatasetDict):
        stored = {"train": stored}
    by_split = {layout.split_of(name) or name: part for name, part in stored.items()}
    features = next(iter(by_split.values())).features
    for argument, name in (("image", image), ("label", label)):
        if name not in features:
            raise errors.expected(
                f"{argument}_column",
                f"be a column of {path}",
                name,
                f"Its columns are {', '.join(features)}.",
            )
    if "train" not in by_split:
        raise errors.expected("data", "have a split called train", list(stored))
    names = getattr(features[label], "names", None)
    if names is None:
        names = sorted({str(value) for value in by_split["train"][label]})

    def split_of(part):
        part = part.cast_column(image, datasets.Image(decode=False))
        content = [
            cell["bytes"] or Path(cell["path"]).read_bytes() for cell in part[image]
        ]
        labels = [
            value if isinstance(value, int) else names.index(str(value))
            for value in part[label]
        ]
        return Split(ImageFiles(tuple(content)), np.array(labels, "int32"))

    official = next((s for s in ("test", "validation") if s in by_split), None)
    splits = drawing.complete(
        split_of(by_split["train"]),
        split_of(by_split[official]) if official else None,
        names,
        0.15,
        0.15,
        seed,
    )
    test = f"test is its {official} split, " if official else ""
    origin = f"Hugging Face dataset {Path(path).name}: {test}{splits.origin}"
    return replace(splits, origin=origin)
