"""A folder that Hugging Face's `datasets` has saved, as three splits."""

from pathlib import Path

import numpy as np

from keras_tl import errors
from keras_tl.data import layout, stored, tables
from keras_tl.data.splits import UNKNOWN, Splits
from keras_tl.data.stored import Reading

# Types of columns of texts, and of whole numbers.
_TEXT = ("string", "large_string")
_WHOLE = ("bool", "int8", "int16", "int32", "int64", "uint8", "uint16", "uint32")


def is_saved(data: object) -> bool:
    """Return whether a folder is one that Hugging Face's `datasets` has saved."""
    if not isinstance(data, str | Path):
        return False
    names = ("dataset_dict.json", "dataset_info.json")
    return any(Path(data, name).is_file() for name in names)


def load(
    path: Path | str,
    columns: tables.Columns | None = None,
    reading: Reading | None = None,
) -> Splits:
    """Load images, texts or sound that Hugging Face's `datasets` has saved to a folder.

    Args:
        path: Folder that `Dataset.save_to_disk` or `DatasetDict.save_to_disk` wrote.
        columns: Names of the columns of examples and labels; by default "image",
            "audio", "text" or "sentence", or the only one that holds such, and "label".
        reading: How examples are read.

    Raises:
        InputError: The extra `hf` is not installed, the columns are missing, the labels
            are no classes, or an example cannot be used.
    """
    errors.check_installed("datasets", extra="hf")
    import datasets

    columns, reading = columns or tables.Columns(), reading or Reading()
    saved = datasets.load_from_disk(str(path))
    if not isinstance(saved, datasets.DatasetDict):
        saved = {"train": saved}
    by_split = {layout.split_of(name) or name: part for name, part in saved.items()}
    features = next(iter(by_split.values())).features
    label = columns.label or "label"
    if label not in features:
        raise errors.expected(
            "label_column",
            f"be a column of {path}",
            label,
            f"Its columns are {', '.join(features)}.",
        )
    kinds = {
        key: kind
        for key, feature in features.items()
        if key != label and (kind := _kind(feature))
    }
    key = stored.choose(str(path), kinds, columns.input, kind=reading.kind)
    names, numbers = _classes(by_split, label)

    def read(split):
        part = by_split[split]
        labels = np.array([numbers[value] for value in part[label]], "int32")
        return _read(part, key, kinds[key]), labels

    name = f"Hugging Face dataset {Path(path).name}"
    return stored.make(name, kinds[key], list(by_split), read, names, reading)


def _classes(by_split, label) -> tuple[list[str], dict]:
    """Return the names of the classes, and the number of each value of a label."""
    feature = next(iter(by_split.values())).features[label]
    names, unknown = getattr(feature, "names", None), {None: UNKNOWN}
    if names is not None:
        return names, {number: number for number in range(-1, len(names))} | unknown
    if getattr(feature, "dtype", "") not in (*_TEXT, *_WHOLE):
        wanted = "hold classes: texts or whole numbers"
        raise errors.expected("label_column", wanted, label)
    values = {value for part in by_split.values() for value in part[label]}
    values = sorted(values - {None})
    numbers = {value: number for number, value in enumerate(values)}
    return [str(value) for value in values], numbers | unknown


def _kind(feature) -> str | None:
    """Return the kind of the examples that a feature holds, if it can hold any."""
    import datasets

    if isinstance(feature, datasets.Image):
        return "image"
    if isinstance(feature, datasets.Audio):
        return "audio"
    return "text" if getattr(feature, "dtype", "") in _TEXT else None


def _read(part, key, kind) -> tuple:
    """Return texts, or the contents of the files, which are not decoded here."""
    import datasets

    if kind == "text":
        return tuple(one or "" for one in part[key])
    feature = {"image": datasets.Image, "audio": datasets.Audio}[kind]
    cells = part.cast_column(key, feature(decode=False))[key]
    try:
        return tuple(
            Path(cell["path"]).read_bytes() if cell["bytes"] is None else cell["bytes"]
            for cell in cells
        )
    except OSError as error:
        raise errors.InputError(
            f"A file of the dataset cannot be read: {error}. Save it with its files: "
            "`save_to_disk` embeds those that exist."
        ) from error
