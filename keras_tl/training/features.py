"""Run the frozen part of a model once and train the rest on what it gave."""

import math
from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np
import psutil

from keras_tl import errors, progress
from keras_tl.data.splits import Split, Splits

if TYPE_CHECKING:
    import keras


def extract(
    stem: "keras.Model", split: Split, *, batch_size: int = 64, what: str = "features"
) -> Split:
    """Run `stem` once over a split.

    Args:
        stem: Model from the split's examples to one tensor of features.
        split: The examples.
        batch_size: Examples per step; every step has this many, so that nothing is
            traced twice.
        what: Word for the progress display.

    Returns:
        A split with the same labels whose examples are the features, a float array
        `(count, ...)` in memory; ask `fits` first.
    """
    errors.check_at_least("batch_size", batch_size, 1)
    errors.check_at_least("len(split)", len(split), 1)
    count = len(split)
    features = None
    steps = math.ceil(count / batch_size)
    for step in progress.track(range(steps), what, steps):
        rows = np.arange(step * batch_size, (step + 1) * batch_size)
        batch = stem.predict_on_batch(split.read(np.minimum(rows, count - 1)))
        # A model built under a strategy gives all rows once for each replica.
        batch = batch[:batch_size]
        if features is None:
            features = np.empty((count, *batch.shape[1:]), batch.dtype)
        kept = rows < count
        features[rows[kept]] = batch[kept]
    return Split(features, split.labels)


def extract_all(stem: "keras.Model", splits: Splits) -> Splits:
    """Run `stem` once over all three splits. See `extract`.

    Raises:
        InputError: The features would not fit into the memory that is free.
    """
    count = sum(len(split) for _, split in splits.items())
    if not fits(stem, count):
        raise errors.InputError(
            f"The features of {count:,} images, {stem.outputs[0].shape[1:]} each, do "
            "not fit into the memory that is free. Give fewer images (`limit`), or a "
            "smaller `image_size`."
        )
    parts = {
        name: extract(stem, split, what=f"features, {name}")
        for name, split in splits.items()
    }
    return replace(splits, **parts)


def fits(stem: "keras.Model", count: int, *, share: float = 0.5) -> bool:
    """Say whether the features of `count` examples take at most a share of free RAM."""
    needed = count * math.prod(stem.outputs[0].shape[1:]) * 4
    return needed <= share * psutil.virtual_memory().available
