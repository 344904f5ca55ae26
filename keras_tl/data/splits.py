"""Examples with their labels, and the three splits of a dataset."""

import errno
import hashlib
import math
import os
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Literal

import numpy as np
import psutil

from keras_tl import errors, progress
from keras_tl.data import sources
from keras_tl.data.choices import Resize, Task
from keras_tl.data.sources import NOUNS, Examples, Source

# Label of a training example whose class is not known.
UNKNOWN = -1

# Number of classes that are named when data are described.
_MOST_CLASSES = 10


@dataclass(frozen=True)
class Split:
    """Examples and their labels.

    Attributes:
        inputs: A source of examples, or what `sources.as_source` makes one of: an
            array, or image files.
        labels: int32 `(count,)`, each the number of a class, or -1 where it is not
            known; or float32 `(count, n)`: several labels of an example, each 0 or 1,
            or numbers to be predicted, NaN where they are not known; n is 0 where
            there is nothing to label. Examples of an unknown label can train, see
            `pipeline.Training`, but not be evaluated.
        targets: Further values to learn for each example, float32 `(count, n)`, for
            `methods.distillation` and `methods.multi_task`, which know what the columns
            mean; `None` where there are none.
        copies: How many times `inputs` and `labels` hold every example, each copy
            augmented already, one copy after the other.
        beside: How many of the examples, the last ones, stand beside the others in
            every batch, see `beside`.
        views: How many rows of a batch an example has, each changed at random by draws
            of its own: 1, or 2, in adjacent rows. Of copies, the first half are then
            the first views and the others the second.

    >>> split = Split(np.zeros((5, 8, 8, 3), "uint8"), [0, 1, 0, 1, 0]).at_size(4)
    >>> split.read([0, 3]).shape
    (2, 4, 4, 3)
    """

    inputs: Source = field(repr=False)
    labels: np.ndarray = field(repr=False)
    targets: np.ndarray | None = field(default=None, repr=False)
    copies: int = 1
    beside: int = 0
    views: int = 1

    def __post_init__(self):
        object.__setattr__(self, "inputs", sources.as_source(self.inputs))
        object.__setattr__(self, "labels", _as_labels(self.labels))
        for name, values in (("labels", self.labels), ("targets", self.targets)):
            if values is not None and len(values) != len(self.inputs):
                raise errors.expected(
                    name,
                    f"have {errors.counted(len(self.inputs), 'entry', 'entries')}, one "
                    "for each example",
                    len(values),
                )

    def __len__(self) -> int:
        return len(self.labels)

    @property
    def known(self) -> np.ndarray:
        """Whether the label of each example is known, bool `(count,)`."""
        if self.labels.ndim == 1:
            return self.labels >= 0
        return ~np.isnan(self.labels).any(axis=1)

    def read(self, indices: Sequence[int] | np.ndarray) -> Examples:
        """Read some examples, in the order of `indices`, as the model takes them."""
        return self.inputs.read(indices)

    def at_size(self, image_size: int, resize: Resize | None = None) -> "Split":
        """Return the same examples, images read as squares of `image_size` pixels.

        Args:
            image_size: Side of the squares.
            resize: How an image becomes a square, see `images.decode`; `None` leaves
                that as it is.
        """
        return replace(self, inputs=self.inputs.at_size(image_size, resize))

    def take(self, indices: Sequence[int] | np.ndarray) -> "Split":
        """Keep only the examples at `indices`, in that order."""
        indices = np.asarray(indices, "int64")
        last = indices >= len(self) - self.beside
        # Examples beside the others stay behind them.
        indices = np.concatenate([indices[~last], indices[last]])
        return replace(
            self,
            inputs=self.inputs.take(indices),
            labels=self.labels[indices],
            targets=None if self.targets is None else self.targets[indices],
            beside=int(last.sum()),
        )


def _as_labels(labels) -> np.ndarray:
    labels = np.asarray(labels)
    if not len(labels) or (labels.dtype.kind in "iub" and labels.size == len(labels)):
        return labels.astype("int32").reshape(-1)
    labels = labels.astype("float32")
    return labels if labels.ndim == 2 else labels.reshape(len(labels), -1)


@dataclass(frozen=True)
class Splits:
    """The three splits of one dataset.

    Attributes:
        train: Examples that the weights are fitted to.
        validation: Examples that select epochs and settings.
        test: Examples that are read once, at the end, for the reported number.
        class_names: Name of each class, or of each column of float labels.
        origin: How the three splits were made, as a sentence for people.
        task: "single-label", one class for each example; "multi-label", any number of
            labels; "regression", numbers to be predicted; or "unlabelled", where there
            is no label. By default as the labels look: float ones are several labels
            where all of them are 0 or 1.
    """

    train: Split
    validation: Split
    test: Split
    class_names: tuple[str, ...]
    origin: str
    task: Task | Literal["unlabelled"] | None = None

    def __post_init__(self):
        object.__setattr__(self, "class_names", tuple(self.class_names))
        if self.task is None:
            object.__setattr__(self, "task", _task(self.train))
        for name, split in self.items():
            if not len(split):
                raise errors.InputError(
                    f"The {name} split is empty. {self.origin} "
                    "Give more examples, or put some into a folder of that name."
                )
            if name != "train" and not split.known.all():
                raise errors.InputError(
                    f"Every example of the {name} split must have a label. Received: "
                    f"{(~split.known).sum()} of {len(split)} without."
                )
            self._check_labels(name, split.labels)

    def _check_labels(self, name, labels):
        count = len(self.class_names)
        if labels.ndim == 2:
            if labels.shape[1] != count:
                raise errors.expected(
                    "class_names",
                    f"have {errors.counted(labels.shape[1], 'name')}, one for each "
                    "column of labels",
                    list(self.class_names),
                )
            return
        if count < 2:
            raise errors.expected(
                "data",
                "have at least two classes",
                list(self.class_names),
                "A classifier with one class has nothing to learn.",
            )
        low, high = int(labels.min()), int(labels.max())
        if low < UNKNOWN or high >= count:
            raise errors.InputError(
                f"Labels of the {name} split must be in [0, {count - 1}], one for "
                f"each of {count} classes. Received labels from {low} to {high}."
            )

    def __str__(self) -> str:
        """Describe the data in lines: sizes, origin, and the classes with counts."""
        numbers = counts(self)
        total = sum(len(split) for _, split in self.items())
        noun = NOUNS.get(self.train.inputs.kind, "examples")
        number = len(self.class_names)
        learned = {
            "single-label": f"of {number} classes",
            "multi-label": f"with {errors.counted(number, 'label')}, any number of "
            "them each",
            "regression": f"with {errors.counted(number, 'number')} each to be "
            "predicted",
            "unlabelled": "without labels",
        }[self.task]
        lines = [f"{total:,} {noun} {learned}: {numbers}.", self.origin]
        if self.train.labels.ndim == 1:
            lines.append(f"Classes: {self._count_classes()}.")
        return "\n".join(lines)

    def _count_classes(self) -> str:
        number = len(self.class_names)
        counts = {
            name: np.bincount(split.labels[split.known], minlength=number)
            for name, split in self.items()
        }
        totals = sum(counts.values())
        texts = []
        for index, class_name in enumerate(self.class_names[:_MOST_CLASSES]):
            absent = [name for name, values in counts.items() if not values[index]]
            without = f" (none in {' and '.join(absent)})" if absent else ""
            texts.append(f"{class_name} {totals[index]:,}{without}")
        if number > _MOST_CLASSES:
            texts.append(f"and {number - _MOST_CLASSES:,} more")
        return ", ".join(texts)

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

    def at_size(self, image_size: int, resize: Resize | None = None) -> "Splits":
        """Return the same data, images read as squares; see `Split.at_size`."""
        return self.map(lambda split: split.at_size(image_size, resize))


def counts(parts: "Splits | Mapping[str, Split]") -> str:
    """Count the examples of each split, for people.

    >>> one = Split(np.zeros((1500, 1, 1, 3), "uint8"), np.zeros(1500, "int32"))
    >>> counts({"train": one})
    'train 1,500'
    """
    return ", ".join(f"{name} {len(split):,}" for name, split in parts.items())


def _task(split):
    if split.labels.ndim == 1:
        return "single-label"
    if not split.labels.shape[1]:
        return "unlabelled"
    known = split.labels[split.known]
    return "multi-label" if np.isin(known, (0, 1)).all() else "regression"


def describe(splits: Splits) -> dict:
    """Return the sizes, classes, origin and content hash of the data.

    Returns:
        Ready for JSON; `sha256` changes with any example, label or target of any split.
    """
    digest = hashlib.sha256()
    for _, split in splits.items():
        digest.update(split.inputs.digest().encode())
        digest.update(split.labels.tobytes())
        if split.targets is not None:
            digest.update(np.ascontiguousarray(split.targets).data)
    return {
        "origin": splits.origin,
        "counts": {name: len(split) for name, split in splits.items()},
        "classes": list(splits.class_names),
        "sha256": digest.hexdigest(),
    }


def limit(splits: Splits, count: int | None, *, seed: int) -> Splits:
    """Keep at most `count` examples of each split, balanced over the classes.

    Each class gets an equal share of `count`; what a small class cannot fill, the
    others do. `None` keeps everything.
    """
    if count is None:
        return splits
    errors.check_at_least("limit", count, 1)
    return splits.map(lambda split: split.take(balanced(split.labels, count, seed)))


def join(first: Split, second: Split) -> Split:
    """Return the examples of two splits of one dataset, one after the other.

    Raises:
        InputError: Examples or targets of the two do not go together.

    >>> one = Split(np.zeros((2, 8, 8, 3), "uint8"), [0, 1])
    >>> len(join(one, one))
    4
    """
    targets, others = first.targets, second.targets
    shapes = [None if t is None else t.shape[1:] for t in (targets, others)]
    if shapes[0] != shapes[1]:
        raise errors.InputError(
            "Two splits can be joined where both have the same targets, or none. "
            f"Received targets of shapes: {shapes[0]}, {shapes[1]}."
        )
    if targets is not None:
        targets = np.concatenate([targets, others])
    return replace(
        first,
        inputs=sources.concatenate(first.inputs, second.inputs),
        labels=np.concatenate([first.labels, second.labels]),
        targets=targets,
    )


def beside(first: Split, second: Split) -> Split:
    """Add the examples of another split beside those of a training split.

    Every batch then has as many rows of `second` as of `first`, in turns: rows 0, 2,
    4, ... are of `first`, rows 1, 3, 5, ... of `second`. An epoch is one pass over
    `first`; `second` is passed over again and again in an order of its own.

    Args:
        first: The labelled examples of a training split.
        second: Examples of the same kind and shape, such as those of another domain;
            their labels are removed.

    Returns:
        A training split; its second part has unknown labels and weight 0, so that it
        counts in no loss and no accuracy but those of a method that looks at it.

    >>> one = Split(np.zeros((2, 8, 8, 3), "uint8"), [0, 1])
    >>> beside(one, one).labels.tolist()
    [0, 1, -1, -1]
    """
    return replace(join(first, unlabelled(second)), beside=len(second))


def unlabelled(split: Split) -> Split:
    """Return the same examples without their labels."""
    empty = UNKNOWN if split.labels.ndim == 1 else np.nan
    return replace(split, labels=np.full_like(split.labels, empty))


def without_labels(splits: Splits) -> Splits:
    """Return the same examples for a method that needs no labels.

    Returns:
        Splits whose task is "unlabelled"; labels have no columns.

    >>> split = Split(np.zeros((4, 2)), [0, 1, 0, 1])
    >>> without_labels(Splits(split, split, split, ["a", "b"], "Toy.")).task
    'unlabelled'
    """
    empty = {name: _without_labels(split) for name, split in splits.items()}
    return replace(splits, **empty, class_names=(), task=None)


def _without_labels(split: Split) -> Split:
    return replace(split, labels=np.zeros((len(split), 0)))


def of_unlabelled(split: Split, origin: str, *, seed: int) -> Splits:
    """Divide examples for a method that needs no labels.

    Args:
        split: At least 3 examples; their labels are not kept.
        origin: Where they come from, as a sentence.
        seed: Seed of the drawing.

    Returns:
        Splits whose task is "unlabelled": a tenth of the examples each, at least 1 and
        at most 64, for validation and test, the rest for training.

    Raises:
        InputError: There are fewer than 3 examples.

    >>> of_unlabelled(Split(np.zeros((40, 2)), [0] * 40), "Toy.", seed=0).task
    'unlabelled'
    """
    errors.check_at_least("len(split)", len(split), 3)
    split = _without_labels(split)
    order = np.random.default_rng(seed).permutation(len(split))
    few = min(64, max(1, len(split) // 10))
    parts = np.split(order, [few, 2 * few])
    validation, test, train = (split.take(np.sort(part)) for part in parts)
    return Splits(train, validation, test, (), origin)


def of_classes(splits: Splits, classes: Sequence[int]) -> Splits:
    """Keep the examples of some classes alone, which are numbered from 0 on.

    Args:
        splits: Examples with single labels.
        classes: Numbers of the classes, in ascending order.

    >>> split = Split(np.zeros((4, 2)), [0, 1, 2, 2])
    >>> some = of_classes(Splits(split, split, split, ["a", "b", "c"], "Toy."), [0, 2])
    >>> some.class_names, some.train.labels.tolist()
    (('a', 'c'), [0, 1, 1])
    """

    def keep(split):
        kept = split.take(np.flatnonzero(np.isin(split.labels, classes)))
        return replace(kept, labels=np.searchsorted(classes, kept.labels))

    names = [splits.class_names[number] for number in classes]
    return replace(
        splits,
        **{name: keep(split) for name, split in splits.items()},
        class_names=names,
    )


def few(splits: Splits, labels: int, *, seed: int) -> Splits:
    """Keep a number of labels of each class for training, and as many for validation.

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


def divide(split: Split, count: int, seed: int) -> tuple[Split, Split]:
    """Draw examples of a split, balanced over its classes.

    Args:
        split: The examples.
        count: Number of examples to draw, see `limit`.
        seed: Seed of the drawing.

    Returns:
        Those that were drawn, and the others, both in their order.

    >>> drawn, others = divide(Split(np.zeros((6, 2)), [0, 0, 0, 1, 1, 1]), 2, seed=0)
    >>> drawn.labels.tolist(), others.labels.tolist()
    ([0, 1], [0, 0, 1, 1])
    """
    chosen = balanced(split.labels, count, seed)
    others = np.setdiff1d(np.arange(len(split)), chosen)
    return split.take(chosen), split.take(others)


def class_weights(labels: np.ndarray, num_classes: int) -> list[float]:
    """Compute weights with mean 1 by which every class counts alike.

    Args:
        labels: int `(count,)`, of the training split.
        num_classes: Number of classes.

    Returns:
        count / (num_classes * examples of the class), for each class.

    Raises:
        InputError: A class has no examples, or an example has no single class.

    Reference:
        https://scikit-learn.org/stable/modules/generated/sklearn.utils.class_weight.compute_class_weight.html

    >>> class_weights(np.array([0, 0, 0, 1]), 2)
    [0.6666666666666666, 2.0]
    """
    if np.ndim(labels) != 1:
        raise errors.expected(
            "class_weights",
            "be left out where examples have several labels, or numbers",
            f"labels {np.shape(labels)}",
        )
    counts = np.bincount(labels, minlength=num_classes)
    if not counts.all():
        raise errors.expected(
            "labels", "have examples of every class", f"none of class {counts.argmin()}"
        )
    return (len(labels) / (num_classes * counts)).tolist()


def balanced(labels: np.ndarray, count: int, seed: int) -> np.ndarray:
    """Select `count` examples, as many of each class as possible.

    Args:
        labels: As those of a `Split`. Rows of several labels are balanced over their
            combinations, numbers to be predicted not at all.
        count: Number of examples.
        seed: Seed of the drawing.

    Returns:
        Sorted indices, `min(count, len(labels))` of them.

    >>> balanced(np.array([0, 0, 0, 0, 1, 1]), 4, seed=0).size
    4
    """
    if labels.ndim == 2 and not labels.shape[1]:
        labels = np.zeros(len(labels), "int64")
    elif labels.ndim == 2:
        rows, combination = np.unique(labels, axis=0, return_inverse=True)
        binary = np.isin(rows, (0, 1)).all()
        labels = combination.reshape(-1) if binary else np.zeros(len(labels), "int64")
    order = np.random.default_rng(seed).permutation(len(labels))
    # The n-th example of each class comes before any (n+1)-th.
    rank = np.empty(len(labels), "int64")
    for label in np.unique(labels):
        of_class = order[labels[order] == label]
        rank[of_class] = np.arange(len(of_class))
    by_rank = order[np.argsort(rank[order], kind="stable")]
    return np.sort(by_rank[:count])


def of_each(labels: np.ndarray, count: int, *, seed: int) -> np.ndarray:
    """Draw at most a number of examples of each class.

    Args:
        labels: int `(count,)`, the class of each example.
        count: Examples of each class, at least 1; all of a class that has fewer.
        seed: Seed of the drawing.

    Returns:
        Sorted indices.

    >>> of_each(np.array([0, 0, 0, 1]), 2, seed=0).size
    3
    """
    errors.check_at_least("count", count, 1)
    order = np.random.default_rng(seed).permutation(len(labels))
    kept = [order[labels[order] == label][:count] for label in np.unique(labels)]
    return np.sort(np.concatenate([np.empty(0, "int64"), *kept]))


def copies(*splits: Split) -> list[np.ndarray]:
    """Number examples by their content: equal ones have the same number.

    Args:
        splits: Splits of one kind of examples, which are read once; images are equal
            where all pixels are, whatever the format of their files.

    Returns:
        For each split, int64 `(len(split),)`.

    >>> split = Split(np.uint8([[1, 2], [3, 4], [1, 2]]), [0, 0, 0])
    >>> copies(split, split.take([1]))
    [array([0, 1, 0]), array([1])]
    """
    numbers = {}
    return [
        np.array(
            [numbers.setdefault(row, len(numbers)) for row in split.inputs.hashes()],
            "int64",
        )
        for split in splits
    ]


def without_copies(split: Split, *others: Split) -> Split:
    """Leave out the examples of a split that stand in others as well.

    >>> split = Split(np.uint8([[1, 2], [3, 4], [1, 2]]), [0, 1, 0])
    >>> without_copies(split, split.take([1])).labels.tolist()
    [0, 0]
    """
    numbers, *taken = copies(split, *others)
    again = np.isin(numbers, np.concatenate([*taken, np.empty(0, "int64")]))
    return split.take(np.flatnonzero(~again)) if again.any() else split


def _on_disk(shape, dtype, needed, share) -> np.ndarray:
    """Return an array in a temporary file, for which room is set aside at once.

    Raises:
        OSError: There is no such folder, or no room in it.
    """
    disk = psutil.disk_usage(tempfile.gettempdir()).free
    if needed > share * disk:
        reason = f"{disk / 2**30:.1f} GiB are free in {tempfile.gettempdir()}"
        raise OSError(errno.ENOSPC, reason)
    # Without a name in any folder: nothing is left behind, however it ends.
    with tempfile.TemporaryFile() as file:
        # Otherwise a disk that becomes full would end the process by a signal.
        if hasattr(os, "posix_fallocate"):
            os.posix_fallocate(file.fileno(), 0, needed)
        else:
            os.truncate(file.fileno(), needed)
        return np.memmap(file, dtype, "r+", shape=shape)


def read_once(split: Split, *, share: float = 0.5) -> Split:
    """Read every example once and keep the result, as long as it is used.

    For images: decode and resize each once. The result is kept in memory, or, where
    that would take more than `share` of the free memory, in a temporary file (in the
    folder that `TMPDIR` names) that is removed when the program ends. Where the disk
    has too little room as well, the split is returned as it is, with a warning, and
    reads its files in every epoch. The room is checked before anything is read.

    Returns:
        A split whose inputs are one array, or `split` itself.

    Raises:
        InputError: An example cannot be used.
    """
    inputs = split.inputs
    if inputs.in_memory() is not None or not len(split):
        return split
    example = inputs.read([0])
    if isinstance(example, dict):
        return split
    shape = (len(split), *example.shape[1:])
    needed = math.prod(shape) * example.dtype.itemsize
    memory = psutil.virtual_memory().available
    if needed <= share * memory:
        values = np.empty(shape, example.dtype)
    else:
        try:
            values = _on_disk(shape, example.dtype, needed, share)
        except OSError as error:
            errors.warn(
                f"{len(split):,} examples of shape {shape[1:]} take "
                f"{needed / 2**30:.1f} GiB, of {memory / 2**30:.1f} GiB free in memory "
                f"and too few in the temporary folder ({error.strerror}): they are "
                "read again in every epoch."
            )
            return split
    blocks = range(0, len(split), 256)
    noun = NOUNS.get(inputs.kind, "examples")
    for start in progress.track(blocks, f"reading {noun}", len(blocks)):
        rows = np.arange(start, min(start + 256, len(split)))
        values[rows] = inputs.read(rows)
    return replace(split, inputs=sources.Stored(inputs, values, inputs.kind))
