"""What the checks of data need to know of each example, wherever it comes from."""

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np

from keras_tl import progress
from keras_tl.data import assembly, duplicates, images
from keras_tl.data.choices import Task
from keras_tl.data.splits import Split, Splits

# Side of the pictures of examples in memory, and pixels from which on the likeness of
# images means something: handwritten digits are alike without being copies.
_SIDE, _SMALLEST = 256, 32


@dataclass(frozen=True)
class Records:
    """The examples of a dataset, in one order, with what is known of each.

    Attributes:
        names: Name of each example: its path below the folder, or split and index.
        splits: Name of the split of each.
        labels: Label of each: the name of its class, names of its labels, or numbers;
            `None` where it is not known.
        task: See `Splits.task`.
        pixels: Hash of the content of each; equal ones are copies.
        near: Pairs of indices of images that are nearly the same, int64 `(pairs, 2)`.
        paths: File of each; empty for examples in memory.
        sizes: Width and height of each image, int64 `(count, 2)`; empty for others.
        thumbnails: uint8 `(count, 16, 16, 3)`, each image stretched to a square.
        squares: uint8 `(count, side, side, 3)`, the squares that a model would see;
            `None` where there was no room for them.
        grouped: Whether it is known which examples belong together.
        drawn: Whether some splits are still to be drawn from train, so that those given
            are not all.
    """

    names: tuple[str, ...]
    splits: np.ndarray
    labels: tuple
    task: Task
    pixels: tuple[bytes, ...]
    near: np.ndarray = field(default_factory=lambda: np.empty((0, 2), "int64"))
    paths: tuple[Path, ...] = ()
    sizes: np.ndarray = field(default_factory=lambda: np.empty((0, 2), "int64"))
    thumbnails: np.ndarray | None = field(default=None, repr=False)
    squares: np.ndarray | None = field(default=None, repr=False)
    grouped: bool = False
    drawn: bool = False

    def __len__(self) -> int:
        return len(self.names)

    def named(self, indices: Sequence[int]) -> tuple[str, ...]:
        """Return the names of some examples."""
        return tuple(self.names[index] for index in indices)

    def files(self, indices: Sequence[int]) -> tuple[Path, ...]:
        """Return the files of some examples; none for examples in memory."""
        return tuple(self.paths[index] for index in indices) if self.paths else ()


def of_content(content: assembly.Content) -> Records:
    """Return the records of image files that have been read."""
    files = content.files
    squares = [file.checked.example for file in files]
    known = bool(files) and all(square is not None for square in squares)
    near = [
        pair
        for pair in content.near
        if min(side for index in pair for side in files[index].checked.size)
        >= _SMALLEST
    ]
    return Records(
        tuple(assembly.short(file.path, content.folder) for file in files),
        np.array([file.split for file in files], "U10"),
        tuple(file.label for file in files),
        content.task,
        tuple(file.checked.hash for file in files),
        np.array(near, "int64").reshape(-1, 2),
        tuple(file.path for file in files),
        np.array([file.checked.size for file in files], "int64").reshape(-1, 2),
        np.stack([file.checked.thumbnail for file in files]) if files else None,
        np.stack(squares) if known else None,
        any(file.entry.group is not None for file in files),
        len({file.split for file in files}) < len(assembly.NAMES),
    )


def of_splits(splits: Splits) -> Records:
    """Return the records of three splits, of any kind of examples."""
    pairs = splits.items()
    hashes = [digest for _, split in pairs for digest in split.inputs.hashes()]
    looks, thumbnails, sizes = _looks(splits)
    near = np.empty((0, 2), "int64")
    large = np.flatnonzero(sizes.min(axis=1) >= _SMALLEST) if len(looks) else ()
    if len(large):
        near = large[duplicates.near(looks[large], thumbnails[large])]
    return Records(
        tuple(name for key, split in pairs for name in _names(key, split)),
        np.array([key for key, split in pairs for _ in range(len(split))], "U10"),
        tuple(label for _, split in pairs for label in _labels(splits, split)),
        splits.task,
        tuple(hashes),
        near,
        _paths(splits),
        sizes,
        thumbnails,
        _squares(splits),
    )


def _names(key, split):
    names = split.inputs.names(range(len(split)))
    return names or [f"{key}[{index}]" for index in range(len(split))]


def _paths(splits) -> tuple[Path, ...]:
    names = [split.inputs.names(range(len(split))) for _, split in splits.items()]
    if any(each is None for each in names):
        return ()
    return tuple(Path(name) for each in names for name in each)


def _labels(splits, split):
    if split.labels.ndim == 1:
        classes = splits.class_names
        return [classes[label] if label >= 0 else None for label in split.labels]
    if splits.task == "regression":
        return [tuple(map(float, row)) for row in split.labels]
    return [
        tuple(splits.class_names[column] for column in np.flatnonzero(row == 1))
        for row in split.labels
    ]


def _looks(splits):
    """Return perceptual hashes, thumbnails and sizes of the images of all splits."""
    looks, thumbnails, sizes = [], [], []
    total = sum(len(split) for _, split in splits.items())
    if splits.train.inputs.kind != "image":
        return np.empty(0, "uint64"), None, np.empty((0, 2), "int64")
    for picture in progress.track(_pictures(splits), "comparing images", total):
        look, thumbnail = images.look(picture)
        looks.append(look)
        thumbnails.append(thumbnail)
        sizes.append(picture.shape[1::-1])
    return np.array(looks, "uint64"), np.stack(thumbnails), np.array(sizes, "int64")


def _pictures(splits):
    for _, split in splits.items():
        for start in range(0, len(split), 256):
            rows = range(start, min(start + 256, len(split)))
            yield from split.inputs.preview(rows, _SIDE)


def _squares(splits) -> np.ndarray | None:
    values = [_in_memory(split) for _, split in splits.items()]
    if any(each is None or each.shape[1:] != values[0].shape[1:] for each in values):
        return None
    return np.concatenate(values)


def _in_memory(split: Split) -> np.ndarray | None:
    values = split.inputs.in_memory() if split.inputs.kind == "image" else None
    return values if values is not None and values.ndim == 4 else None


def take(records: Records, indices: Sequence[int]) -> Records:
    """Keep some examples, in the order of `indices`; pairs of copies are left out."""
    indices = np.asarray(indices, "int64")
    if len(indices) == len(records) and (indices == np.arange(len(records))).all():
        return records

    def rows(values):
        return None if values is None else values[indices]

    return replace(
        records,
        names=records.named(indices),
        splits=records.splits[indices],
        labels=tuple(records.labels[index] for index in indices),
        pixels=tuple(records.pixels[index] for index in indices),
        near=np.empty((0, 2), "int64"),
        paths=records.files(indices),
        sizes=rows(records.sizes) if len(records.sizes) else records.sizes,
        thumbnails=rows(records.thumbnails),
        squares=rows(records.squares),
    )
