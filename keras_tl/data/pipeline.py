"""From examples to batches: shuffled, augmented, padded, weighted, prefetched.

The order is fixed: cache (`splits.read_once`) -> shuffle -> batch -> augment ->
prefetch. Everything random is computed from (seed, epoch, example index) alone, so
that an epoch can be made again at any time: a resumed run sees what the uninterrupted
one would have seen.
"""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from keras_tl import errors
from keras_tl.data.splits import Split

if TYPE_CHECKING:
    import tensorflow as tf

# Uniform random numbers that an augmentation may use for one image.
DRAWS = 16

# Most bytes of an array that TensorFlow gets a copy of, to read rows without Python.
IN_GRAPH = 2**28

Augmentation = Callable[["tf.Tensor", "tf.Tensor"], "tf.Tensor"]
# From images, one-hot labels and draws to images and labels.
Mixing = Callable[
    ["tf.Tensor", "tf.Tensor", "tf.Tensor"], "tuple[tf.Tensor, tf.Tensor]"
]


@dataclass(frozen=True)
class Training:
    """Training batches, epoch by epoch.

    A batch is `(x, y, sample_weight)`, always of `batch_size` rows. The last batch of
    an epoch is filled up with copies whose `sample_weight` is 0; the others weigh
    `rows / examples` of the epoch, 1 when nothing is filled up, so that means over an
    epoch are means over its examples.

    Attributes:
        split: Where the examples come from.
        batch_size: Rows of a batch, over all devices.
        seed: What, with the epoch's number, decides order and augmentation.
        augment: Function from a batch of images and uniform random numbers
            `(batch, DRAWS)` in [0, 1) to a batch of images of the same shape. Not asked
            where the split holds `augmented_copies`: each epoch reads the next of them.
        num_classes: Makes labels one-hot, float32 `(batch, num_classes)`; `None` leaves
            them int32 `(batch,)`. The targets of `split`, where it has some, stand
            behind them in columns of their own.
        mix: Mixes images and one-hot labels of a batch, after `augment`.
        class_weights: How much an example of each class weighs, `(num_classes,)`, as
            from `splits.class_weights`; mixed labels weigh what their parts do. `None`
            is 1 for all.
    """

    split: Split
    batch_size: int
    seed: int
    augment: Augmentation | None = None
    num_classes: int | None = None
    mix: Mixing | None = None
    class_weights: Sequence[float] | None = None

    def __post_init__(self):
        errors.check_at_least("batch_size", self.batch_size, 1)
        if self.class_weights is not None:
            _check_weights(self.class_weights, self.num_classes)
        if self.mix is not None and self.num_classes is None:
            raise errors.InputError("`mix` needs `num_classes`: it mixes labels too.")
        if self.mix is not None and self.split.targets is not None:
            raise errors.InputError(
                "`mix` must be None where there is more to learn than the labels: it "
                "knows nothing of the other targets."
            )

    @property
    def steps(self) -> int:
        """Number of batches in an epoch."""
        return math.ceil(self._count / self.batch_size)

    @property
    def _count(self):
        return len(self.split) // (self.split.augmented_copies or 1)

    def epoch(self, epoch: int) -> "tf.data.Dataset":
        """Give the batches of one epoch, the first being number 0."""
        dataset, go_to = self.epochs()
        go_to(epoch)
        return dataset

    def epochs(self) -> "tuple[tf.data.Dataset, Callable[[int], None]]":
        """Give a dataset of one epoch, and a function that says of which.

        A pass over the dataset gives the epoch that was set before it began, 0 at
        first: for `fit`, with a callback that sets each epoch as it begins.
        """
        import tensorflow as tf

        count, rows = self._count, self.steps * self.batch_size
        copies = self.split.augmented_copies
        augment, copies = (None, copies) if copies else (self.augment, 1)
        weights = tf.constant(_weights(count, rows))
        number = tf.Variable(0, dtype=tf.int64)

        def one_epoch(_):
            draws = _draws(count, self.seed, number)
            order = tf.argsort(draws[:, DRAWS], stable=True)
            order = tf.concat([order, tf.repeat(order[-1:], rows - count)], 0)
            place = order + count * tf.cast(number % copies, order.dtype)
            return tf.data.Dataset.from_tensor_slices(
                (place, tf.gather(draws[:, :DRAWS], order), weights)
            ).batch(self.batch_size, drop_remainder=True)

        batches = tf.data.Dataset.range(1).flat_map(one_epoch)
        dataset = _read(
            batches, self.split, self.batch_size, self.num_classes, augment, self.mix
        )
        if self.class_weights is not None:
            by_class = tf.constant(self.class_weights, tf.float32)
            dataset = dataset.map(
                lambda x, y, weights: (
                    x,
                    y,
                    weights * tf.linalg.matvec(y[:, : self.num_classes], by_class),
                )
            )
        known = tf.data.experimental.assert_cardinality(self.steps)
        return dataset.apply(known), number.assign


@dataclass(frozen=True)
class Augmented:
    """The examples of the first epochs of `Training`, as a split of changed copies.

    Each is what its epoch shows, and can be made again alone.

    Attributes:
        split: The examples as they are.
        augment: See `Training`.
        seed: See `Training`.
        augmented_copies: Number of epochs, one behind the other.
    """

    split: Split
    augment: Augmentation
    seed: int
    augmented_copies: int

    @property
    def labels(self) -> np.ndarray:
        """Labels of the examples, once for each copy."""
        return np.tile(self.split.labels, self.augmented_copies)

    @property
    def targets(self) -> np.ndarray | None:
        """What else there is to learn of each, once for each copy."""
        if self.split.targets is None:
            return None
        return np.tile(self.split.targets, (self.augmented_copies, 1))

    def __len__(self) -> int:
        return len(self.split) * self.augmented_copies

    def read(self, indices: Sequence[int] | np.ndarray) -> np.ndarray:
        """Read some examples, in the order of `indices`, and change them."""
        import tensorflow as tf

        epochs, examples = np.divmod(np.asarray(indices), len(self.split))
        draws = np.empty((len(examples), DRAWS), "float32")
        for epoch in np.unique(epochs):
            of_epoch = _draws(len(self.split), self.seed, epoch)[:, :DRAWS].numpy()
            draws[epochs == epoch] = of_epoch[examples[epochs == epoch]]
        images = tf.constant(self.split.read(examples))
        return self.augment(images, tf.constant(draws)).numpy()


def in_whole_numbers(augment: Augmentation) -> Augmentation:
    """Round what an augmentation gives, and clip it to [0, 255], as uint8."""

    def rounded(images, draws):
        import tensorflow as tf

        return tf.saturate_cast(tf.round(augment(images, draws)), tf.uint8)

    return rounded


def _draws(count, seed, epoch):
    """Draw a row of random numbers for each example; the last column orders them."""
    import tensorflow as tf

    seeds = tf.stack([tf.constant(seed, tf.int64), tf.cast(epoch, tf.int64)])
    return tf.random.stateless_uniform([count, DRAWS + 1], seeds)


def evaluation(
    split: Split, batch_size: int, num_classes: int | None = None
) -> "tf.data.Dataset":
    """Give the examples of a split once, in order, never shuffled or augmented.

    Batches are as in `Training`: the last one is filled up with copies of weight 0.
    """
    import tensorflow as tf

    errors.check_at_least("batch_size", batch_size, 1)
    count = len(split)
    rows = math.ceil(count / batch_size) * batch_size
    order = np.minimum(np.arange(rows), count - 1)
    batches = tf.data.Dataset.from_tensor_slices(
        (order, np.zeros((rows, 0), "float32"), _weights(count, rows))
    ).batch(batch_size, drop_remainder=True)
    return _read(batches, split, batch_size, num_classes)


def _check_weights(weights, num_classes):
    if num_classes is None or len(weights) != num_classes:
        raise errors.expected(
            "class_weights", f"have one for each of {num_classes} classes", weights
        )
    if min(weights) < 0:
        raise errors.expected("class_weights", "not be negative", weights)


def _weights(count, rows):
    weights = np.zeros(rows, "float32")
    weights[:count] = rows / count
    return weights


def _read(batches, split, batch_size, num_classes, augment=None, mix=None):
    import tensorflow as tf

    example = split.read([0])
    labels = tf.constant(split.labels)
    targets = None if split.targets is None else tf.constant(split.targets)
    in_graph = None
    # Rows that are read as they are: features, or images of the wanted size.
    as_they_are = getattr(split.images, "shape", ())[1:] == example.shape[1:]
    if as_they_are and getattr(split.images, "nbytes", 2**63) <= IN_GRAPH:
        in_graph = tf.constant(split.images)

    def read(order, draws, weights):
        if in_graph is None:
            x = tf.numpy_function(split.read, [order], example.dtype, stateful=False)
        else:
            x = tf.gather(in_graph, order)
        x.set_shape((batch_size, *example.shape[1:]))
        if augment is not None:
            x = augment(x, draws)
        y = tf.gather(labels, order)
        if num_classes is not None:
            y = tf.one_hot(y, num_classes)
        if mix is not None:
            x, y = mix(x, y, draws)
        if targets is not None and num_classes is not None:
            y = tf.concat([y, tf.gather(targets, order)], axis=-1)
        return x, y, weights

    return batches.map(read, tf.data.AUTOTUNE, deterministic=True).prefetch(
        tf.data.AUTOTUNE
    )
