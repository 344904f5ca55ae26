"""Self-supervised learning: features from images without any label.

`simclr` and `barlow_twins` see every image twice in a batch, each time changed at
random, and bring the two together; `in_views` prepares the data for them. `rotations`
makes a task with labels of its own: by how much an image was turned.

Published, ResNet-50 on ImageNet, a linear classifier on the frozen features (per cent):
rotation prediction 55.4 (with a wider network), SimCLR 69.3, Barlow Twins 73.2, with
all labels from the start 76.5.
"""

import functools
from collections.abc import Sequence
from dataclasses import dataclass, replace

import keras
import numpy as np
from keras import ops

from keras_tl import errors
from keras_tl.data.sources import Source, Wrapper
from keras_tl.data.splits import Split, Splits, without_labels
from keras_tl.models import splitting
from keras_tl.training.terms import Method, Term

# Names of the classes of `rotations`.
TURNS = ("0 degrees", "90 degrees", "180 degrees", "270 degrees")
# Name of the head of a method, which trains along and is not saved.
_PROJECTION = "/projection"


def in_views(splits: Splits) -> Splits:
    """Show every training image twice in a batch, each time changed at random.

    Args:
        splits: Images; their labels do not matter.

    Returns:
        The same images without labels, and the number of each as its target.
    """
    numbered = without_labels(splits).map(_numbered)
    return replace(numbered, train=replace(numbered.train, views=2))


def _numbered(split: Split) -> Split:
    return replace(split, targets=np.arange(len(split), dtype="float32")[:, None])


def simclr(
    layer: str = "pool", *, temperature: float = 0.5, widths: Sequence[int] = (128, 64)
) -> Method:
    """Learn to tell the other view of an image from all other views of a batch.

    A projection head g, dense layers with ReLU between them, maps features to vectors
    z. The loss is the mean over views i of -log(exp(s_ij / t) / sum over k of
    exp(s_ik / t)), where j is the other view of the image of i, k runs over all views
    but i, s is the cosine of two z and t the temperature.

    Args:
        layer: Name of the layer whose output are the features, `(batch, features)`.
        temperature: Above 0; low ones look at the most similar images above all.
        widths: Widths of the layers of the projection head, at least one.

    Returns:
        A method for `phases.Phase`, for the data of `in_views`, with
        `Setup(objective=Unlabelled(), choose_by="last")`.

    Raises:
        InputError: A value out of range, an unknown layer, or one whose output is no
            vector.

    Reference:
        Chen et al., "A simple framework for contrastive learning of visual
        representations", 2020, arXiv:2002.05709, with the temperature of its
        experiments on CIFAR-10.
    """
    errors.check_above("temperature", temperature, 0)
    loss = functools.partial(contrastive_loss, temperature=temperature)
    return _projected(layer, widths, False, loss)


def barlow_twins(
    layer: str = "pool",
    *,
    off_diagonal: float = 5e-3,
    widths: Sequence[int] = (256,) * 2,
) -> Method:
    """Make each output of two views agree over a batch, and different ones independent.

    From the outputs z of a projection head, with batch normalization between its
    layers, the correlation C_ab of column a of the one view with column b of the other
    is computed over the images of a batch. The loss is sum over a of (1 - C_aa)^2 +
    off_diagonal * sum over a != b of C_ab^2, divided by the number of columns, so that
    it does not grow with them.

    Args:
        layer: See `simclr`.
        off_diagonal: Weight of the second sum, at least 0.
        widths: See `simclr`; the paper has three layers of 8,192.

    Returns:
        A method for `phases.Phase`, see `simclr`.

    Raises:
        InputError: As `simclr`.

    Reference:
        Zbontar et al., "Barlow Twins: Self-supervised learning via redundancy
        reduction", 2021, arXiv:2103.03230.
    """
    errors.check_at_least("off_diagonal", off_diagonal, 0)
    loss = functools.partial(correlation_loss, off_diagonal=off_diagonal)
    return _projected(layer, widths, True, loss)


def contrastive_loss(vectors, numbers, weights, temperature=0.5):
    """Compute the loss of `simclr`.

    Args:
        vectors: float32 `(batch, width)`.
        numbers: Number of the image of each row, float32 `(batch,)`.
        weights: 0 for rows that fill up a batch, which are in no pair, `(batch,)`.
        temperature: Above 0.

    Returns:
        float32 scalar, at least 0; 0 where no image has two views.

    >>> vectors = ops.array([[1.0, 0.0], [2.0, 0.0], [0.0, 1.0], [0.0, 3.0]])
    >>> numbers, ones = ops.array([0.0, 0.0, 1.0, 1.0]), ops.ones(4)
    >>> round(float(contrastive_loss(vectors, numbers, ones, 1.0)), 4)
    0.5514
    """
    norms = ops.sqrt(ops.sum(ops.square(vectors), axis=-1, keepdims=True))
    directions = vectors / ops.maximum(norms, 1e-6)
    similar = ops.matmul(directions, ops.transpose(directions)) / temperature
    counts = ops.cast(weights != 0, "float32")
    pairs = counts[:, None] * counts[None, :] * (1 - ops.eye(ops.shape(vectors)[0]))
    same = pairs * ops.cast(numbers[:, None] == numbers[None, :], "float32")
    # Nothing is told from itself, nor from a row that fills up.
    denominators = ops.logsumexp(similar + (pairs - 1) * 1e9, axis=-1, keepdims=True)
    costs = same * (denominators - similar)
    return ops.sum(costs) / ops.maximum(ops.sum(same), 1.0)


def correlation_loss(vectors, numbers, weights, off_diagonal=5e-3):
    """Compute the loss of `barlow_twins`.

    Args:
        vectors: float32 `(batch, width)`; the two views of an image in adjacent rows.
        numbers: Number of the image of each row; what the rows are tells as much.
        weights: 0 for rows that fill up a batch, which do not count, `(batch,)`.
        off_diagonal: Weight of what is off the diagonal, at least 0.

    Returns:
        float32 scalar, at least 0.

    >>> views = ops.array([[1.0, 1.0], [1.0, 1.0], [-1.0, -1.0], [-1.0, -1.0]])
    >>> loss = correlation_loss(views, None, ops.ones(4), 0.5)
    >>> round(float(loss), 3)  # (0 + 0.5 * 2) / 2
    0.5
    """
    width = vectors.shape[-1]
    pairs = ops.reshape(vectors, (-1, 2, width))
    counts = ops.cast(ops.reshape(weights, (-1, 2))[:, :1] != 0, "float32")
    number = ops.maximum(ops.sum(counts), 1.0)

    def standardized(view):
        centred = view - ops.sum(counts * view, axis=0) / number
        variance = ops.sum(counts * ops.square(centred), axis=0) / number
        return counts * centred / ops.sqrt(variance + 1e-5)

    first, second = standardized(pairs[:, 0]), standardized(pairs[:, 1])
    correlations = ops.matmul(ops.transpose(first), second) / number
    diagonal = ops.diagonal(correlations)
    on = ops.sum(ops.square(1 - diagonal))
    off = ops.sum(ops.square(correlations)) - ops.sum(ops.square(diagonal))
    return (on + off_diagonal * off) / width


def rotations(splits: Splits) -> Splits:
    """Make a task of images without labels: by how much each was turned.

    Args:
        splits: Square images; their labels do not matter.

    Returns:
        Four times as many examples, each image turned by 0, 90, 180 and 270 degrees
        counter-clockwise, with the turn as the label, see `TURNS`.

    Reference:
        Gidaris et al., "Unsupervised representation learning by predicting image
        rotations", 2018, arXiv:1803.07728.

    >>> images = np.arange(12, dtype="uint8").reshape(1, 2, 2, 3)
    >>> one = Split(images, np.zeros(1, int))
    >>> turned = rotations(Splits(one, one, one, ["a", "b"], "Toy."))
    >>> turned.train.labels.tolist(), turned.train.read([1])[0, :, :, 0].tolist()
    ([0, 1, 2, 3], [[3, 9], [0, 6]])
    """
    turned = {
        name: replace(
            split,
            inputs=_Turned(split.inputs),
            labels=np.tile(np.arange(len(TURNS)), len(split)),
            targets=None,
        )
        for name, split in splits.items()
    }
    return replace(splits, **turned, class_names=TURNS, task="single-label")


@dataclass(frozen=True, eq=False)
class _Turned(Wrapper):
    """Each image four times, turned by 0, 90, 180 and 270 degrees."""

    source: Source

    def __len__(self) -> int:
        return len(TURNS) * len(self.source)

    def read(self, indices):
        """Read some images, and turn each as its number says."""
        places, turns = np.divmod(np.asarray(indices, "int64"), len(TURNS))
        images = np.array(self.source.read(places))
        for turn in range(1, len(TURNS)):
            chosen = turns == turn
            images[chosen] = np.rot90(images[chosen], turn, axes=(1, 2))
        return images

    def at_size(self, image_size, resize=None):
        """Return the same images at another size, turned as these."""
        return replace(self, source=self.source.at_size(image_size, resize))

    def preview(self, indices, side=128):
        """Return the images as they are."""
        return self.source.preview(np.asarray(indices) // len(TURNS), side)


def _projected(layer, widths, normalized, loss_of) -> Method:
    """Return a method whose loss is of the projected features."""
    if not widths:
        raise errors.expected("widths", "have at least one number", widths)
    for width in widths:
        errors.check_at_least("widths", width, 1)

    def method(model, steps):
        splitting.check_vector(model, layer)
        head = _projection(
            splitting.outputs(model)[layer].shape[-1], widths, normalized
        )

        def loss(batch):
            vectors = ops.cast(batch.outputs[_PROJECTION], "float32")
            weights = ops.reshape(batch.sample_weight, (-1,))
            return loss_of(vectors, batch.targets[:, 0], weights)

        heads = {_PROJECTION: (head, layer)}
        return Term(loss, heads=heads, label_weight=0.0, of_rows=False)

    return method


def _projection(width, widths, normalized) -> keras.Model:
    """Build a projection head from vectors of a width."""
    *hidden, last = widths
    layers = [keras.Input((width,))]
    for units in hidden:
        layers.append(keras.layers.Dense(units, use_bias=not normalized))
        layers += [keras.layers.BatchNormalization()] * normalized
        layers.append(keras.layers.ReLU())
    layers.append(keras.layers.Dense(last, use_bias=False, dtype="float32"))
    return keras.Sequential(layers)
