"""Labelled examples that are read by index, and the three splits they come in."""

import hashlib
import math
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np
import psutil

from keras_tl import errors, progress
from keras_tl.data import images as image_files


@dataclass(frozen=True)
class Split:
    """Examples and their labels.

    Attributes:
        images: Either an array `(count, ...)`, or what is indexed like one: uint8 RGB
            images `(count, height, width, 3)` in [0, 255], or features of any shape;
            or one image file per example, as its path or its content.
        labels: int32 `(count,)`, each in [0, num_classes).
        image_size: Side in pixels of the squares that `read` gives. `None` gives
            the rows of an array as they are.
        augmented_copies: Where above 0, `images` and `labels` hold every example this
            many times, each copy changed already, one copy behind the other.
        targets: What else there is to learn of each example, float32 `(count, n)`, for
            `methods.distillation` and `methods.multi_task`: they know what the columns
            mean. `None` is nothing.

    >>> split = Split(np.zeros((5, 8, 8, 3), "uint8"), [0, 1, 0, 1, 0], image_size=4)
    >>> split.read([0, 3]).shape
    (2, 4, 4, 3)
    """

    images: np.ndarray | Sequence[Path | bytes] = field(repr=False)
    labels: np.ndarray = field(repr=False)
    image_size: int | None = None
    augmented_copies: int = 0
    targets: np.ndarray | None = field(default=None, repr=False)

    def __post_init__(self):
        object.__setattr__(self, "labels", np.asarray(self.labels, "int32").reshape(-1))
        if len(self.images) != len(self.labels):
            raise errors.expected(
                "labels",
                f"have one entry for each of the {len(self.images)} images",
                len(self.labels),
            )
        if self.targets is not None and len(self.targets) != len(self.labels):
            raise errors.expected(
                "targets",
                f"have one row for each of the {len(self.labels)} examples",
                len(self.targets),
            )

    def __len__(self) -> int:
        return len(self.labels)

    def read(self, indices: Sequence[int] | np.ndarray) -> np.ndarray:
        """Read some examples, in the order of `indices`.

        Returns:
            Array `(len(indices), ...)`: uint8 `(n, image_size, image_size, 3)` for
            images, the rows as they are for features.
        """
        if not is_array(self.images):
            paths = [self.images[index] for index in indices]
            return image_files.read(paths, self.image_size)
        rows = self.images[np.asarray(indices)]
        if self.image_size is None:
            return rows
        return image_files.resize(rows, self.image_size)

    def at_size(self, image_size: int) -> "Split":
        """Let `read` give square images of `image_size` pixels."""
        errors.check_at_least("image_size", image_size, 1)
        return replace(self, image_size=image_size)

    def take(self, indices: Sequence[int] | np.ndarray) -> "Split":
        """Keep only the examples at `indices`, in that order."""
        indices = np.asarray(indices, "int64")
        if is_array(self.images):
            kept = self.images[indices]
        else:
            kept = tuple(self.images[index] for index in indices)
        targets = None if self.targets is None else self.targets[indices]
        return replace(self, images=kept, labels=self.labels[indices], targets=targets)


def is_array(images) -> bool:
    """Say whether images are an array or rows of a cache, not a list of files."""
    return hasattr(images, "dtype")


@dataclass(frozen=True)
class Splits:
    """The three splits of one dataset.

    Attributes:
        train: What weights are fitted to.
        validation: What chooses: epochs, settings, early stopping.
        test: What is read once, at the end, for the reported number.
        class_names: Name of each label, in the order of the labels.
        origin: How the three splits came about, as a sentence for people.
    """

    train: Split
    validation: Split
    test: Split
    class_names: tuple[str, ...]
    origin: str

    def __post_init__(self):
        object.__setattr__(self, "class_names", tuple(self.class_names))
        count = len(self.class_names)
        if count < 2:
            raise errors.expected(
                "data",
                "have at least two classes",
                list(self.class_names),
                "A classifier with one class has nothing to learn.",
            )
        for name, split in self.items():
            if not len(split):
                raise errors.InputError(
                    f"The {name} split is empty. {self.origin} "
                    "Give more images, or put some into a folder of that name."
                )
            low, high = int(split.labels.min()), int(split.labels.max())
            if low < 0 or high >= count:
                raise errors.InputError(
                    f"Labels of the {name} split must be in [0, {count - 1}], one for "
                    f"each of {count} classes. Received labels from {low} to {high}."
                )

    def __str__(self) -> str:
        counts = ", ".join(f"{name} {len(split):,}" for name, split in self.items())
        total = sum(len(split) for _, split in self.items())
        return (
            f"{total:,} images of {len(self.class_names)} classes: {counts}. "
            f"{self.origin}"
        )

    def items(self) -> list[tuple[str, Split]]:
        """Pairs of name and split, in the order train, validation, test."""
        return [
            ("train", self.train),
            ("validation", self.validation),
            ("test", self.test),
        ]

    def map(self, function) -> "Splits":
        """Apply `function` to each of the three splits."""
        return replace(self, **{name: function(split) for name, split in self.items()})

    def at_size(self, image_size: int) -> "Splits":
        """Let all three splits give square images of `image_size` pixels."""
        return self.map(lambda split: split.at_size(image_size))


def describe(splits: Splits) -> dict:
    """Say what a manifest has to know of the data: sizes, classes, origin, content.

    Returns:
        JSON-ready; `sha256` changes with any pixel, file, label or target of any split.
    """
    digest = hashlib.sha256()
    for _, split in splits.items():
        digest.update(split.labels.tobytes())
        if split.targets is not None:
            digest.update(np.ascontiguousarray(split.targets).data)
        if is_array(split.images):
            digest.update(np.ascontiguousarray(split.images[:]).data)
        else:
            for file in split.images:
                digest.update(file if isinstance(file, bytes) else file.read_bytes())
    return {
        "origin": splits.origin,
        "counts": {name: len(split) for name, split in splits.items()},
        "classes": list(splits.class_names),
        "sha256": digest.hexdigest(),
    }


def limit(splits: Splits, count: int | None, *, seed: int) -> Splits:
    """Keep at most `count` examples of each split, as evenly over classes as it goes.

    Each class gives its share of `count`; what a small class cannot give, the others
    do. `None` keeps everything.
    """
    if count is None:
        return splits
    errors.check_at_least("limit", count, 1)
    return splits.map(lambda split: split.take(balanced(split.labels, count, seed)))


def join(first: Split, second: Split) -> Split:
    """Put the examples of two splits of one dataset behind one another.

    Raises:
        InputError: Their targets do not go together.

    >>> one = Split(np.zeros((2, 8, 8, 3), "uint8"), [0, 1])
    >>> len(join(one, one))
    4
    """
    if is_array(first.images):
        images = np.concatenate([first.images, second.images])
    else:
        images = (*first.images, *second.images)
    labels = np.concatenate([first.labels, second.labels])
    targets, others = first.targets, second.targets
    shapes = [None if t is None else t.shape[1:] for t in (targets, others)]
    if shapes[0] != shapes[1]:
        raise errors.InputError(
            "Two splits can be joined where both have the same targets, or none. "
            f"Received targets of shapes: {shapes[0]}, {shapes[1]}."
        )
    if targets is not None:
        targets = np.concatenate([targets, others])
    return replace(first, images=images, labels=labels, targets=targets)


def few(splits: Splits, labels: int, *, seed: int) -> Splits:
    """Keep a number of labels of each class for training, and as many to choose by.

    Validation keeps all that it has where that is less; test stays as it is.

    Args:
        splits: The data.
        labels: Number of examples of each class, at least 1.
        seed: Seed of the drawing.

    Raises:
        InputError: Some class has fewer training examples.
    """
    errors.check_at_least("labels", labels, 1)
    counts = np.bincount(splits.train.labels, minlength=len(splits.class_names))
    if labels > counts.min():
        raise errors.expected(
            "labels",
            f"be at most {counts.min()}, the number of training examples of "
            f"{splits.class_names[counts.argmin()]}",
            labels,
        )

    def drawn(split):
        return split.take(balanced(split.labels, labels * len(counts), seed))

    return replace(
        splits, train=drawn(splits.train), validation=drawn(splits.validation)
    )


def class_weights(labels: np.ndarray, num_classes: int) -> list[float]:
    """Weigh examples so that every class counts alike, and their mean is 1.

    Args:
        labels: int `(count,)`, of the training split.
        num_classes: Number of classes.

    Returns:
        count / (num_classes * examples of the class), for each class.

    Raises:
        InputError: A class has no examples.

    Reference:
        https://scikit-learn.org/stable/modules/generated/sklearn.utils.class_weight.compute_class_weight.html

    >>> class_weights(np.array([0, 0, 0, 1]), 2)
    [0.6666666666666666, 2.0]
    """
    counts = np.bincount(labels, minlength=num_classes)
    if not counts.all():
        raise errors.expected(
            "labels", "have examples of every class", f"none of class {counts.argmin()}"
        )
    return (len(labels) / (num_classes * counts)).tolist()


def balanced(labels: np.ndarray, count: int, seed: int) -> np.ndarray:
    """Choose `count` examples, as evenly over the classes as it goes.

    Returns:
        Sorted indices, `min(count, len(labels))` of them.

    >>> balanced(np.array([0, 0, 0, 0, 1, 1]), 4, seed=0).size
    4
    """
    order = np.random.default_rng(seed).permutation(len(labels))
    # The n-th example of each class comes before any (n+1)-th.
    rank = np.empty(len(labels), "int64")
    for label in np.unique(labels):
        of_class = order[labels[order] == label]
        rank[of_class] = np.arange(len(of_class))
    by_rank = order[np.argsort(rank[order], kind="stable")]
    return np.sort(by_rank[:count])


def read_once(split: Split, *, share: float = 0.5) -> Split:
    """Decode and resize every image once and keep the result, as long as it is used.

    In memory, or, where that would take more than `share` of what is free now, in a
    temporary file (`TMPDIR` says where) that is gone when the program ends. Where the
    disk has no such share free either, the split is given back as it is, with a
    warning, and goes on reading its files in every epoch. Room is looked for before
    anything is read.

    Returns:
        A split whose images are one uint8 array, or `split` itself.

    Raises:
        InputError: An image cannot be used.
    """
    if split.image_size is None or (
        is_array(split.images)
        and split.images.shape[1:3] == (split.image_size, split.image_size)
    ):
        return split
    shape = (len(split), split.image_size, split.image_size, 3)
    needed = math.prod(shape)
    memory = psutil.virtual_memory().available
    disk = psutil.disk_usage(tempfile.gettempdir()).free
    if needed <= share * memory:
        decoded = np.empty(shape, "uint8")
    elif needed <= share * disk:
        # Without a name in any folder: nothing is left behind, however it ends.
        with tempfile.TemporaryFile() as file:
            decoded = np.memmap(file, "uint8", "w+", shape=shape)
    else:
        errors.warn(
            f"{len(split):,} images of {split.image_size} pixels take "
            f"{needed / 2**30:.1f} GiB, of {memory / 2**30:.1f} GiB free in memory and "
            f"{disk / 2**30:.1f} GiB in {tempfile.gettempdir()}: they are read and "
            "resized again in every epoch."
        )
        return split
    blocks = range(0, len(split), 256)
    for start in progress.track(blocks, "reading images", len(blocks)):
        rows = np.arange(start, min(start + 256, len(split)))
        decoded[rows] = split.read(rows)
    return replace(split, images=decoded)
