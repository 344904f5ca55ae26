"""From examples to batches: shuffled, augmented, padded, weighted, prefetched.

The order is fixed: cache (`splits.read_once`) -> shuffle -> batch -> augment ->
prefetch. Everything random is computed from (seed, epoch, example index) alone, so
that an epoch can be made again at any time: a resumed run sees what the uninterrupted
one would have seen.
"""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np

from keras_tl import errors
from keras_tl.data.sources import Source, Wrapper
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
class Share:
    """Rows of every batch that one process reads: those of its devices.

    Attributes:
        first: Number of its first device among all.
        count: Number of its devices.
        total: Number of all devices, each of which gets the same number of rows.

    >>> Share(first=1, count=1, total=2).of(np.arange(8).reshape(2, 4)).tolist()
    [[2, 3], [6, 7]]
    """

    first: int = 0
    count: int = 1
    total: int = 1

    def of(self, batches: np.ndarray) -> np.ndarray:
        """Cut batches `(steps, rows, ...)` to `(steps * count, rows / total, ...)`."""
        steps, rows, *shape = batches.shape
        each = rows // self.total
        devices = np.reshape(batches, (steps, self.total, each, *shape))
        own = devices[:, self.first : self.first + self.count]
        return np.reshape(own, (steps * self.count, each, *shape))


@dataclass(frozen=True)
class Training:
    """Training batches, epoch by epoch.

    A batch is `(x, y, sample_weight)`, always of `batch_size` rows. The last batch of
    an epoch is filled up with copies whose `sample_weight` is 0, and so are examples
    whose label is not known; the others weigh `rows / examples` of the epoch, 1 when
    nothing is filled up, so that means over an epoch are means over its examples.
    Where the split has examples `beside` the others, every second row is one of them;
    where its examples have two `views`, both stand in adjacent rows.

    Attributes:
        split: The examples.
        batch_size: Rows of a batch, over all devices; an even number where the split
            has examples beside the others, or two views of each.
        seed: Decides, with the number of the epoch, order and augmentation.
        augment: Function from a batch of images and uniform random numbers
            `(batch, DRAWS)` in [0, 1) to a batch of images. Not called where the split
            holds augmented copies: each epoch reads the next of them.
        num_classes: Makes integer labels one-hot, float32 `(batch, num_classes)`, all 0
            for a label that is not known. `None` leaves them int32 `(batch,)`, and
            float labels as they are. The targets of `split`, where it has some, stand
            behind them in columns of their own.
        mix: Mixes images and one-hot labels of a batch, after `augment`.
        class_weights: Weight of an example of each class, `(num_classes,)`, as from
            `splits.class_weights`; mixed labels are weighted by their shares. `None`
            is 1 for all.
        weights: Weight of each example, float32 `(len(split),)`; `None` is 1 where the
            label is known, and 0 where it is not.
        share: Rows of each batch that are read; by default all. A batch is then a batch
            of one device.
    """

    split: Split
    batch_size: int
    seed: int
    augment: Augmentation | None = None
    num_classes: int | None = None
    mix: Mixing | None = None
    class_weights: Sequence[float] | None = None
    weights: np.ndarray | None = None
    share: Share = Share()

    def __post_init__(self):
        errors.check_at_least("batch_size", self.batch_size, 1)
        if self.class_weights is not None:
            _check_class_weights(self.class_weights, self.num_classes)
        if self.mix is not None and self.num_classes is None:
            raise errors.InputError("`mix` needs `num_classes`: it mixes labels too.")
        if self.mix is not None and self.split.targets is not None:
            raise errors.InputError(
                "`mix` must be None where there is more to learn than the labels: it "
                "does not mix the other targets."
            )
        if self._in_turns and self.batch_size % 2:
            raise errors.expected(
                "batch_size",
                "be even where every second row is of other examples or another view",
                self.batch_size,
            )

    @property
    def steps(self) -> int:
        """Number of batches in an epoch."""
        return math.ceil(self._count / self._rows)

    @property
    def full_steps(self) -> int:
        """Number of batches in an epoch that are not filled up, at least 1."""
        return max(1, self._count // self._rows)

    @property
    def _count(self):
        """Number of examples that an epoch passes over once."""
        return len(self.split) // self.split.copies - self.split.beside

    @property
    def _rows(self):
        """Number of them in a batch."""
        return self.batch_size // 2 if self._in_turns else self.batch_size

    @property
    def _in_turns(self):
        """Whether every second row is of other examples, or another view."""
        return self.split.beside or self.split.views == 2

    def epoch(self, epoch: int) -> "tf.data.Dataset":
        """Return the batches of one epoch, the first being number 0."""
        dataset, set_epoch = self.epochs()
        set_epoch(epoch)
        return dataset

    def epochs(self) -> "tuple[tf.data.Dataset, Callable[[int], None]]":
        """Return a dataset of one epoch, and a function that sets its number.

        A pass over the dataset is the epoch that was set before its first batch was
        asked for, 0 at first: for `fit`, with a callback that sets each epoch as it
        begins.
        """
        import tensorflow as tf

        # Computed here and not by the dataset: TensorFlow optimizes what a dataset
        # computes again for each pass, which takes longer than an epoch of features.
        example_weights = self._example_weights()

        def rows(epoch):
            with tf.device("CPU:0"):
                batches = self._batches(epoch, example_weights)
                # A mixed row depends on the others of its batch, also on those that
                # other processes read.
                return batches if self.mix else [self.share.of(r) for r in batches]

        with tf.device("CPU:0"):
            batches = [tf.Variable(values) for values in rows(0)]

        def set_epoch(epoch):
            for variable, values in zip(batches, rows(epoch), strict=True):
                variable.assign(values)

        augment = self.augment if self.split.copies == 1 else None
        dataset = _read(
            batches,
            self.split,
            self.num_classes,
            augment,
            self.mix,
            self.class_weights,
            self.share,
        )
        return dataset, set_epoch

    def _batches(self, epoch, example_weights):
        """Return the places of an epoch's rows, their draws and their weights."""
        import tensorflow as tf

        split = self.split
        count = len(split) // split.copies
        with tf.device("CPU:0"):
            places, draws = self._order(epoch)
            filled = np.arange(len(places)) < self._count
            weights = tf.gather(example_weights, places) * filled.astype("f4")
            if split.beside:
                others, other_draws = self._order_beside(epoch)
                places = _in_turns(places, others)
                draws = _in_turns(draws, other_draws)
                weights = _in_turns(weights, tf.zeros_like(weights))
            elif split.views == 2:
                others = _draws(self._count, self.seed, -1 - epoch)[:, :DRAWS]
                draws = _in_turns(draws, tf.gather(others, places))
                weights = _in_turns(weights, weights)
                # Of images that are changed already, the second half of the copies.
                behind = count * (split.copies // 2)
                places = _in_turns(places, places + behind)
            places += count * (epoch % max(1, split.copies // split.views))
            return [
                tf.reshape(rows, (self.steps, self.batch_size, *rows.shape[1:]))
                for rows in (places, draws, weights)
            ]

    def _example_weights(self):
        """Compute the weight of each example, so that those of an epoch add up to rows.

        Rows are all rows of the epoch's batches, as Keras divides a loss by them.
        """
        weights = self.weights
        if weights is None:
            weights = self.split.known.astype("float32")
        weights = np.asarray(weights, "float32")[: self._count]
        total = weights.sum()
        if not total:
            raise errors.InputError(
                "No example of the training split has a label that is known, so that "
                "there is nothing to learn."
            )
        return weights * np.float32(self.steps * self.batch_size / float(total))

    def _order(self, epoch):
        """Return the places of an epoch's examples, filled up, and their draws."""
        import tensorflow as tf

        draws = _draws(self._count, self.seed, epoch)
        order = tf.argsort(draws[:, DRAWS], stable=True)
        missing = self.steps * self._rows - self._count
        order = tf.concat([order, tf.repeat(order[-1:], missing)], 0)
        return order, tf.gather(draws[:, :DRAWS], order)

    def _order_beside(self, epoch):
        """Return the places of the examples beside those of an epoch, and their draws.

        Pass follows pass over them, through all epochs, each in an order of its own.
        """
        import tensorflow as tf

        count, rows = self.split.beside, self.steps * self._rows
        places = tf.range(rows, dtype=tf.int64) + epoch * rows
        first = places[0] // count

        def one_pass(number):
            # Negative: passes over these must not draw what epochs over others do.
            draws = _draws(count, self.seed, -1 - number)
            order = tf.argsort(draws[:, DRAWS], stable=True)
            return tf.gather(draws, order), order

        draws, order = tf.map_fn(
            one_pass,
            tf.range(first, places[-1] // count + 1),
            fn_output_signature=(
                tf.TensorSpec((count, DRAWS + 1), tf.float32),
                tf.TensorSpec((count,), tf.int32),
            ),
        )
        wanted = tf.stack([places // count - first, places % count], axis=1)
        draws = tf.gather_nd(draws, wanted)[:, :DRAWS]
        return tf.gather_nd(order, wanted) + self._count, draws


def _in_turns(first, second):
    """Alternate the rows of two tensors: first, second, first, ..."""
    import tensorflow as tf

    pairs = tf.stack([first, second], axis=1)
    return tf.reshape(pairs, tf.concat([[-1], tf.shape(first)[1:]], 0))


@dataclass(frozen=True, eq=False)
class Augmented(Wrapper):
    """Augmented copies of images: those that the first epochs of `Training` show.

    Each can be computed again alone.

    Attributes:
        source: The images as they are.
        augment: See `Training`.
        seed: See `Training`.
        copies: Number of epochs; their copies stand one epoch after the other.
    """

    source: Source
    augment: Augmentation
    seed: int
    copies: int

    def __len__(self) -> int:
        return len(self.source) * self.copies

    def read(self, indices: Sequence[int] | np.ndarray) -> np.ndarray:
        """Read some images, in the order of `indices`, and augment them."""
        import tensorflow as tf

        epochs, examples = np.divmod(np.asarray(indices), len(self.source))
        draws = np.empty((len(examples), DRAWS), "float32")
        for epoch in np.unique(epochs):
            of_epoch = _draws(len(self.source), self.seed, epoch)[:, :DRAWS].numpy()
            draws[epochs == epoch] = of_epoch[examples[epochs == epoch]]
        images = tf.constant(self.source.read(examples))
        return self.augment(images, tf.constant(draws)).numpy()

    def preview(self, indices, side=128) -> Sequence | None:
        """Return the images as they are."""
        return self.source.preview(np.asarray(indices) % len(self.source), side)


def with_copies(split: Split, augment: Augmentation, seed: int, copies: int) -> Split:
    """Replace the images of a split by augmented copies of them.

    Args:
        split: The images as they are.
        augment: See `Training`.
        seed: See `Training`.
        copies: Number of copies of each image, at least 1.

    Returns:
        A split of `copies * len(split)` examples, computed when they are read.

    Raises:
        InputError: The augmentation of an image depends on the others of its batch.
    """
    errors.check_at_least("copies", copies, 1)
    targets, inputs = split.targets, Augmented(split.inputs, augment, seed, copies)
    _check_alone(inputs)
    return replace(
        split,
        inputs=inputs,
        labels=np.concatenate([split.labels] * copies),
        targets=None if targets is None else np.concatenate([targets] * copies),
        copies=copies,
    )


def _check_alone(inputs):
    """Refuse augmentations by batch: a copy would be another when it is made again."""
    some = range(min(3, len(inputs)))
    together = inputs.read(some)
    for index in some:
        if not np.allclose(inputs.read([index])[0], together[index], atol=0.5):
            raise errors.expected(
                "augment",
                "change each image by its own draws alone, where copies are made",
                getattr(inputs.augment, "__qualname__", inputs.augment),
                "Augment anew in every epoch instead: `augmented_copies=0`.",
            )


def in_whole_numbers(augment: Augmentation) -> Augmentation:
    """Return an augmentation whose result is rounded and clipped to uint8 [0, 255]."""

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
    split: Split,
    batch_size: int,
    num_classes: int | None = None,
    share: Share = Share(),
) -> "tf.data.Dataset":
    """Return the examples of a split once, in order, never shuffled or augmented.

    Batches are as in `Training`: the last one is filled up with copies of weight 0.
    """
    import tensorflow as tf

    errors.check_at_least("batch_size", batch_size, 1)
    count, steps = len(split), math.ceil(len(split) / batch_size)
    rows = np.arange(steps * batch_size).reshape(steps, batch_size)
    places = np.minimum(rows, count - 1)
    draws = np.zeros((steps, batch_size, 0), "float32")
    weights = np.where(rows < count, rows.size / count, 0).astype("float32")
    batches = [tf.constant(share.of(rows)) for rows in (places, draws, weights)]
    return _read(batches, split, num_classes)


def _check_class_weights(weights, num_classes):
    if num_classes is None or len(weights) != num_classes:
        raise errors.expected(
            "class_weights", f"have one for each of {num_classes} classes", weights
        )
    if min(weights) < 0:
        raise errors.expected("class_weights", "not be negative", weights)


def _read(
    batches,
    split,
    num_classes,
    augment=None,
    mix=None,
    class_weights=None,
    share=None,
) -> "tf.data.Dataset":
    """Return the examples of `batches`: places, draws and weights, `(steps, rows)`.

    With `mix`, these are all rows of a step, of which those of `share` are returned.
    """
    import tensorflow as tf

    steps, batch_size = batches[0].shape
    per_step = share.count if mix is not None else 1
    read = _reader(split.inputs, batch_size)
    one_hot = num_classes is not None and split.labels.ndim == 1
    # Labels that are not known have weight 0; the loss of their rows must be finite.
    labels = tf.constant(np.nan_to_num(split.labels))
    targets = None if split.targets is None else tf.constant(split.targets)

    def batch(step):
        places, draws, weights = (tf.gather(rows, step // per_step) for rows in batches)
        x = read(places)
        if augment is not None:
            x = augment(x, draws)
        y = tf.gather(labels, places)
        if one_hot:
            y = tf.one_hot(y, num_classes)
        if mix is not None:
            x, y = mix(x, y, draws)
        if class_weights is not None:
            by_class = tf.constant(class_weights, tf.float32)
            weights *= tf.linalg.matvec(y, by_class)
        if targets is not None and y.shape.rank == 2:
            y = tf.concat([y, tf.gather(targets, places)], axis=-1)
        if mix is not None and share.total > 1:
            count = batch_size // share.total
            own = (share.first + step % per_step) * count + tf.range(
                count, dtype="int64"
            )
            x, y, weights = (tf.gather(rows, own) for rows in (x, y, weights))
        return x, y, weights

    return (
        tf.data.Dataset.range(steps * per_step)
        .map(batch, tf.data.AUTOTUNE, deterministic=True)
        .prefetch(tf.data.AUTOTUNE)
    )


def _reader(source, batch_size):
    """Return a function from indices to examples, as TensorFlow operations."""
    import tensorflow as tf

    values = source.in_memory()
    if values is not None and values.nbytes <= IN_GRAPH:
        in_graph = tf.constant(values)
        return lambda order: tf.gather(in_graph, order)
    example = source.read([0])
    flat = tf.nest.flatten(example)

    def read(order):
        tensors = tf.numpy_function(
            lambda indices: tf.nest.flatten(source.read(indices)),
            [order],
            [array.dtype for array in flat],
            stateful=False,
        )
        for tensor, array in zip(tensors, flat, strict=True):
            tensor.set_shape((batch_size, *array.shape[1:]))
        return tf.nest.pack_sequence_as(example, tensors)

    return read
