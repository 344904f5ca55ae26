"""FixMatch: confident answers for images without labels become their labels."""

from collections.abc import Sequence
from dataclasses import replace

import keras
import numpy as np
from keras import ops

from keras_tl import errors
from keras_tl.data import pipeline, splits
from keras_tl.data.pipeline import Augmentation
from keras_tl.data.splits import Split
from keras_tl.training.terms import Method, Term


def two_views(
    split: Split,
    weak: Augmentation,
    strong: Augmentation,
    *,
    seed: int,
    copies: int = 4,
) -> Split:
    """Change each image weakly and strongly, for adjacent rows of a batch.

    The changed images are computed once, and what is frozen runs once over them.

    Args:
        split: Training images.
        weak: Small changes, such as `augment.flip_and_crop`.
        strong: Large ones, such as `augment.crop_and_colour()`.
        seed: Seed of the changes.
        copies: Number of weak and of strong copies of each image; each epoch takes the
            next of both. At least 1.

    Returns:
        All copies, with the labels that there were.
    """
    both = splits.join(
        pipeline.with_copies(split, weak, seed, copies),
        pipeline.with_copies(split, strong, seed + 1, copies),
    )
    return replace(both, copies=2 * copies, views=2)


def keep_labels(
    split: Split, labelled: Sequence[int] | np.ndarray, *, share: float = 0.125
) -> Split:
    """Keep the labels of some examples, and remove those of all.

    Args:
        split: Training examples with single labels, or their `two_views`, also as
            features.
        labelled: Indices of the examples whose labels may be seen.
        share: Share of the labelled examples in an epoch, in (0, 1): they occur as
            often as it takes, and all of `split` once, without labels.

    Returns:
        A training split of the labelled examples and of those without labels.

    Raises:
        InputError: A value out of range, or other labels than one for each example.

    >>> split = Split(np.arange(8.0).reshape(4, 2), [0, 1, 0, 1])
    >>> keep_labels(split, [0, 1], share=0.5).labels.tolist()
    [0, 1, 0, 1, -1, -1, -1, -1]
    """
    if not 0 < share < 1:
        raise errors.expected("share", "be in (0, 1)", share)
    if split.labels.ndim != 1:
        raise errors.expected(
            "split", "have one class for each example", split.labels.shape
        )
    errors.check_at_least("len(labelled)", len(labelled), 1)
    count = len(split) // split.copies
    wanted = max(len(labelled), round(share / (1 - share) * count))
    places = np.concatenate([np.resize(labelled, wanted), np.arange(count)])
    every = np.arange(split.copies)[:, None] * count + places
    made = split.take(every.reshape(-1))
    known = np.tile(np.arange(len(places)) < wanted, split.copies)
    return replace(made, labels=np.where(known, made.labels, splits.UNKNOWN))


def fixmatch(
    *, threshold: float = 0.95, weight: float = 1.0, aligned: bool = True
) -> Method:
    """Learn to answer for a strongly changed image as for the weakly changed one.

    weight * mean over the images u without labels of 1(max q >= threshold) * -log p(s)
    [argmax q], where q are the probabilities for the weak view of u, which are taken
    as given, and p(s) those for the strong one. In the paper a batch has seven times as
    many images without labels, and labelled ones are changed weakly alone; here both
    views of them count.

    With few labels a head soon answers with the classes that it knows best. Aligned, q
    is divided by its mean over the images of the batch without labels, and scaled to
    add up to 1 again: answers are spread over all classes, as ReMixMatch has it. That
    supposes that all classes are about equally frequent among them.

    Args:
        threshold: Probability from which on an answer is a label, in [0, 1].
        weight: Weight of the term, at least 0.
        aligned: Whether to spread the answers over all classes.

    Returns:
        A method for `phases.Phase`, for what `keep_labels` makes of `two_views`.

    Raises:
        InputError: A value out of range.

    Reference:
        Sohn et al., "FixMatch: Simplifying semi-supervised learning with consistency
        and confidence", 2020, arXiv:2001.07685; on CIFAR-10 with 4 and 25 labels of
        each class 86.2 % and 94.9 % (RandAugment, WRN-28-2 from scratch, a million
        steps). Alignment: Berthelot et al., "ReMixMatch", 2019, arXiv:1911.09785, with
        the batch in place of a running mean, and equal classes.
    """
    errors.check_at_least("weight", weight, 0)
    if not 0 <= threshold <= 1:
        raise errors.expected("threshold", "be in [0, 1]", threshold)

    def loss(batch):
        weights = ops.reshape(batch.sample_weight, (-1,))
        return weight * consistency_loss(batch.logits, weights, threshold, aligned)

    return lambda model, steps: Term(loss, of_rows=False)


def consistency_loss(logits, weights, threshold=0.95, aligned=False):
    """Compute the loss of `fixmatch`.

    Args:
        logits: `(batch, num_classes)`; the weak and the strong view of an image in
            adjacent rows.
        weights: 0 for rows of images without labels, `(batch,)`.
        threshold: In [0, 1].
        aligned: See `fixmatch`.

    Returns:
        float32 scalar, at least 0; 0 where all images have labels.

    >>> logits = ops.array([[9.0, 0.0], [0.0, 0.0], [1.0, 0.0], [5.0, 0.0]])
    >>> round(float(consistency_loss(logits, ops.zeros(4))), 4)  # log(2) / 2
    0.3466
    """
    logits = ops.cast(logits, "float32")
    pairs = ops.reshape(logits, (-1, 2, logits.shape[-1]))
    without = ops.cast(ops.reshape(weights, (-1, 2))[:, 0] == 0, "float32")
    given = ops.softmax(ops.stop_gradient(pairs[:, 0]))
    if aligned:
        mean = ops.sum(without[:, None] * given, axis=0)
        mean = mean / ops.maximum(ops.sum(without), 1.0)
        given = given / ops.maximum(mean, 1e-6)
        given = given / ops.sum(given, axis=-1, keepdims=True)
    sure = ops.cast(ops.max(given, axis=-1) >= threshold, "float32")
    costs = keras.losses.sparse_categorical_crossentropy(
        ops.argmax(given, axis=-1), pairs[:, 1], from_logits=True
    )
    return ops.sum(sure * without * costs) / ops.maximum(ops.sum(without), 1.0)
