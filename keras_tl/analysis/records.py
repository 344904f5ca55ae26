"""What the checks of data need to know of each example, wherever it comes from."""

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np

from keras_tl import progress
from keras_tl.data import assembly, duplicates, images, splits, waves
from keras_tl.data.choices import Task
from keras_tl.data.kinds import Checked
from keras_tl.data.sources import NOUNS, Source
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
        kind: Kind of the examples, see `Source.kind`.
        near: Pairs of indices of examples that are nearly the same, int64 `(pairs, 2)`.
        paths: File of each; empty for examples in memory.
        checked: Result of decoding each file; empty for examples in memory.
        groups: Group of each, `None` where it has none; empty where none are known.
        texts: Each text; empty for other kinds.
        source: All examples; `None` where their files are enough.
        sizes: Width and height of each image, int64 `(count, 2)`; empty for others.
        thumbnails: uint8 `(count, 16, 16, 3)`, each image stretched to a square.
        squares: uint8 `(count, side, side, 3)`, the squares that a model would see;
            `None` where there was no room for them.
        drawn: Whether some splits are still to be drawn from train, so that those given
            are not all.
    """

    names: tuple[str, ...]
    splits: np.ndarray
    labels: tuple
    task: Task
    pixels: tuple[bytes, ...]
    kind: str = "image"
    near: np.ndarray = field(default_factory=lambda: np.empty((0, 2), "int64"))
    paths: tuple[Path, ...] = ()
    checked: tuple[Checked, ...] = field(default=(), repr=False)
    groups: tuple[str | None, ...] = ()
    texts: tuple[str, ...] = field(default=(), repr=False)
    source: Source | None = field(default=None, repr=False)
    sizes: np.ndarray = field(default_factory=lambda: np.empty((0, 2), "int64"))
    thumbnails: np.ndarray | None = field(default=None, repr=False)
    squares: np.ndarray | None = field(default=None, repr=False)
    drawn: bool = False

    def __len__(self) -> int:
        return len(self.names)

    @property
    def grouped(self) -> bool:
        """Whether it is known which examples belong together."""
        return any(group is not None for group in self.groups)

    @property
    def nouns(self) -> str:
        """Name of several examples, for people."""
        return NOUNS.get(self.kind, "examples")

    @property
    def noun(self) -> str:
        """Name of one example, for people."""
        return self.nouns.removesuffix("s")

    def named(self, indices: Sequence[int]) -> tuple[str, ...]:
        """Return the names of some examples."""
        return tuple(self.names[index] for index in indices)

    def files(self, indices: Sequence[int]) -> tuple[Path, ...]:
        """Return the files of some examples; none for examples in memory."""
        return tuple(self.paths[index] for index in indices) if self.paths else ()


def of_content(content: assembly.Content) -> Records:
    """Return the records of files that have been read."""
    files, kind = content.files, content.kind.name
    texts = tuple(f.checked.text for f in files) if kind == "text" else ()
    records = Records(
        tuple(assembly.short(file.path, content.folder) for file in files),
        np.array([file.split for file in files], "U10"),
        tuple(file.label for file in files),
        content.task,
        tuple(file.checked.hash for file in files),
        kind,
        near=content.near,
        paths=tuple(file.path for file in files),
        checked=tuple(file.checked for file in files),
        groups=tuple(file.entry.group for file in files),
        texts=texts,
        drawn=len({file.split for file in files}) < len(assembly.NAMES),
    )
    if not files or kind == "text":
        return records
    thumbnails = np.stack([file.checked.thumbnail for file in files])
    if kind != "image":
        return replace(records, thumbnails=thumbnails)
    sizes = np.array([file.checked.size for file in files], "int64").reshape(-1, 2)
    squares = [file.checked.example for file in files]
    known = all(square is not None for square in squares)
    large = sizes.min(axis=1) >= _SMALLEST
    return replace(
        records,
        near=content.near[large[content.near].all(axis=1)],
        sizes=sizes,
        thumbnails=thumbnails,
        squares=np.stack(squares) if known else None,
    )


def of_splits(data: Splits) -> Records:
    """Return the records of three splits, of any kind of examples."""
    pairs = data.items()
    kind = data.train.inputs.kind
    records = Records(
        tuple(name for key, split in pairs for name in _names(key, split)),
        np.array([key for key, split in pairs for _ in range(len(split))], "U10"),
        tuple(label for _, split in pairs for label in _labels(data, split)),
        data.task,
        tuple(digest for _, split in pairs for digest in split.inputs.hashes()),
        kind,
        paths=_paths(data),
    )
    if kind == "image":
        return _of_images(records, data)
    every = splits.join(splits.join(data.train, data.validation), data.test).inputs
    records = replace(records, source=every)
    if kind == "text":
        texts = tuple(every.preview(range(len(every))) or ())
        return replace(records, texts=texts, near=duplicates.near_texts(texts))
    if kind == "audio" and records.paths:
        return _of_clips(records)
    return records


def _of_images(records, data) -> Records:
    """Add what the images of splits look like."""
    looks, thumbnails, sizes = _looks(data)
    large = np.flatnonzero(sizes.min(axis=1) >= _SMALLEST)
    near = np.empty((0, 2), "int64")
    if len(large):
        near = large[duplicates.near(looks[large], thumbnails[large])]
    return replace(
        records,
        near=near,
        sizes=sizes,
        thumbnails=thumbnails,
        squares=_squares(data),
    )


def _of_clips(records) -> Records:
    """Add what decoding the files of clips tells of them."""
    with ThreadPoolExecutor() as pool:
        results = pool.map(waves.check_file, records.paths)
        title, count = "comparing clips", len(records)
        checked = tuple(progress.track(results, title, count))
    if any(one.problem for one in checked):
        return records
    looks = np.array([one.look for one in checked], "uint64")
    thumbnails = np.stack([one.thumbnail for one in checked])
    near = duplicates.near(looks, thumbnails)
    return replace(records, checked=checked, thumbnails=thumbnails, near=near)


def _names(key, split):
    names = split.inputs.names(range(len(split)))
    return names or [f"{key}[{index}]" for index in range(len(split))]


def _paths(data) -> tuple[Path, ...]:
    places = [_places(split.inputs) for _, split in data.items()]
    if any(each is None for each in places):
        return ()
    every = (one for each in places for one in each)
    return tuple(one if isinstance(one, Path) else Path(one) for one in every)


def _places(inputs) -> list[Path] | list[str] | None:
    """Return the files of examples, or, of texts in a table, their names."""
    every = range(len(inputs))
    return inputs.files(every) or inputs.names(every)


def _labels(data, split):
    if split.labels.ndim == 1:
        classes = data.class_names
        return [classes[label] if label >= 0 else None for label in split.labels]
    if data.task == "regression":
        return [tuple(map(float, row)) for row in split.labels]
    return [
        tuple(data.class_names[column] for column in np.flatnonzero(row == 1))
        for row in split.labels
    ]


def _looks(data):
    """Return perceptual hashes, thumbnails and sizes of the images of all splits."""
    looks, thumbnails, sizes = [], [], []
    total = sum(len(split) for _, split in data.items())
    for picture in progress.track(_pictures(data), "comparing images", total):
        look, thumbnail = images.look(picture)
        looks.append(look)
        thumbnails.append(thumbnail)
        sizes.append(picture.shape[1::-1])
    return np.array(looks, "uint64"), np.stack(thumbnails), np.array(sizes, "int64")


def _pictures(data):
    for _, split in data.items():
        for start in range(0, len(split), 256):
            rows = range(start, min(start + 256, len(split)))
            yield from split.inputs.preview(rows, _SIDE)


def _squares(data) -> np.ndarray | None:
    values = [_in_memory(split) for _, split in data.items()]
    if any(each is None or each.shape[1:] != values[0].shape[1:] for each in values):
        return None
    return np.concatenate(values)


def _in_memory(split: Split) -> np.ndarray | None:
    values = split.inputs.in_memory()
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
        checked=_some(records.checked, indices),
        groups=_some(records.groups, indices),
        texts=_some(records.texts, indices),
        source=records.source and records.source.take(indices),
        sizes=rows(records.sizes) if len(records.sizes) else records.sizes,
        thumbnails=rows(records.thumbnails),
        squares=rows(records.squares),
    )


def _some(values, indices) -> tuple:
    return tuple(values[index] for index in indices) if values else ()
