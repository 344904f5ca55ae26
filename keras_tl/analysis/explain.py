"""What a classifier looks at: heat maps of its answers, and how true they are."""

from collections.abc import Callable

import keras
import numpy as np

from keras_tl import errors
from keras_tl.models import splitting
from keras_tl.training import gradients

# Images that are computed at a time.
_BATCH = 16


def grad_cam(
    model: keras.Model,
    images: np.ndarray,
    outputs: np.ndarray,
    *,
    at: str | None = None,
) -> np.ndarray:
    """Compute which places of images speak for an output.

    Grad-CAM of Selvaraju et al., 2017, arXiv:1610.02391: the channels of a feature map,
    each weighted with the mean of its gradient, without what speaks against it.

    Args:
        model: A functional or sequential model from images to logits, flat or with
            models inside.
        images: As the model takes them, `(count, height, width, 3)`.
        outputs: Index of the output to explain, for each image, `(count,)`.
        at: Name of the layer whose feature map is taken, one of
            `splitting.cut_points`. `None` takes the last one.

    Returns:
        float32 `(count, rows, columns)`, in [0, 1], of the size of the feature map.
        Each has its maximum at 1, unless nothing speaks for the output.

    Raises:
        InputError: There is no feature map, or none of the name `at`.

    >>> layers = [keras.layers.Conv2D(4, 3), keras.layers.Flatten()]
    >>> layers = [keras.Input((8, 8, 3)), *layers, keras.layers.Dense(2)]
    >>> images = np.zeros((1, 8, 8, 3), "float32")
    >>> grad_cam(keras.Sequential(layers), images, np.array([0])).shape
    (1, 6, 6)
    """
    stem, tail, as_grid = _cut(model, at)

    def one_batch(batch, chosen):
        features = keras.ops.convert_to_numpy(stem(batch, training=False))
        _, slopes = gradients.of_sum(_logit(tail, chosen), features)
        features, slopes = as_grid(features), as_grid(slopes)
        weights = slopes.mean(axis=(1, 2), keepdims=True)
        return np.maximum((features * weights).sum(axis=-1), 0)

    maps = _in_batches(one_batch, images, outputs)
    highest = maps.max(axis=(1, 2), keepdims=True)
    return maps / np.where(highest > 0, highest, 1)


def integrated_gradients(
    model: keras.Model,
    images: np.ndarray,
    outputs: np.ndarray,
    *,
    baseline: float = 0.0,
    steps: int = 32,
) -> np.ndarray:
    """Compute what each pixel adds to an output, beside an image without content.

    Sundararajan et al., 2017, arXiv:1703.01365. Over all pixels and channels it adds
    up to the difference of the two logits, the better the more steps.

    Args:
        model: A functional or sequential model from images to logits.
        images: As the model takes them, `(count, height, width, 3)`.
        outputs: Index of the output to explain, for each image, `(count,)`.
        baseline: Value of all pixels of the image without content.
        steps: Number of images between the two.

    Returns:
        float32, of the shape of `images`.
    """
    errors.check_at_least("steps", steps, 1)

    def one_batch(batch, chosen):
        total = np.zeros(batch.shape, "float32")
        for step in range(steps):
            between = baseline + (step + 0.5) / steps * (batch - baseline)
            total += gradients.of_sum(_logit(model, chosen), between)[1]
        return total / steps * (batch - baseline)

    return _in_batches(one_batch, np.asarray(images, "float32"), outputs)


def token_weights(
    model: keras.Model, ids: np.ndarray, outputs: np.ndarray, *, steps: int = 16
) -> np.ndarray | None:
    """Compute what each token adds to an output, by integrated gradients.

    As `integrated_gradients`, on the vectors of the tokens, beside a text of nothing
    but tokens that fill up. What is explained is the logit of the output less the mean
    of all logits, which is all that softmax sees. Over the tokens it adds up to the
    difference to the other text, the better the more steps.

    Args:
        model: A functional model from token ids to logits.
        ids: int `(count, tokens)`, 0 fills up.
        outputs: Index of the output to explain, for each text, `(count,)`.
        steps: Number of texts between the two.

    Returns:
        float32 `(count, tokens)`; `None` where the model has no layer that turns ids
        into vectors.

    >>> layers = [keras.layers.Embedding(4, 2), keras.layers.Flatten()]
    >>> layers = [keras.Input((3,), dtype="int32"), *layers, keras.layers.Dense(2)]
    >>> ids, model = np.array([[1, 2, 0]]), keras.Sequential(layers)
    >>> float(token_weights(model, ids, np.array([1]))[0, 2])
    0.0
    """
    errors.check_at_least("steps", steps, 1)
    tokens = splitting.functional(model).inputs[0]
    vectors = next(
        (
            made[0]
            for _, given, made in splitting.nodes(model)
            if given and given[0] is tokens and len(made[0].shape) == 3
        ),
        None,
    )
    if vectors is None or not len(ids):
        return None
    embed = keras.Model(tokens, vectors)
    rest = keras.Model([vectors, tokens], model.outputs[0])
    empty = keras.ops.convert_to_numpy(embed(np.zeros_like(ids[:1]), training=False))

    def one_batch(given, chosen):
        given = keras.ops.convert_to_tensor(given, "int32")
        full = keras.ops.convert_to_numpy(embed(given, training=False))

        def centred(x):
            logits = rest([x, given], training=False)
            one_hot = keras.ops.one_hot(chosen, logits.shape[-1], dtype=logits.dtype)
            return keras.ops.sum(logits * one_hot, -1) - keras.ops.mean(logits, -1)

        total = np.zeros(full.shape, "float32")
        for step in range(steps):
            between = empty + (step + 0.5) / steps * (full - empty)
            total += gradients.of_sum(centred, between)[1]
        return (total / steps * (full - empty)).sum(axis=-1)

    return _in_batches(one_batch, ids, outputs)


def deletion(
    model: keras.Model,
    images: np.ndarray,
    outputs: np.ndarray,
    maps: np.ndarray,
    *,
    share: float = 0.2,
    blocks: int = 8,
    fill: float = 127.5,
) -> np.ndarray:
    """Compute how far a probability falls without the most important part of images.

    The deletion of Petsiuk et al., RISE, 2018, arXiv:1806.07421, at one share, and by
    square blocks: single pixels that are taken away are noise, which costs a model
    more than what they show. A map that names what the model uses lowers the
    probability more than a random one.

    Args:
        model: A model from images to logits, of one label.
        images: As the model takes them, `(count, height, width, 3)`.
        outputs: Index of the output whose probability is taken, for each image.
        maps: Importance of each place, `(count, rows, columns)`.
        share: Share of the blocks that are taken away, in (0, 1].
        blocks: Number of blocks along each side.
        fill: Value of their pixels afterwards.

    Returns:
        float32 `(count,)`: probability before, minus that afterwards.
    """
    if not 0 < share <= 1:
        raise errors.expected("share", "be in (0, 1]", share)
    images = np.asarray(images, "float32")
    importance = resized(maps, (blocks, blocks)).reshape(len(images), -1)
    count = max(1, round(share * blocks**2))
    taken = np.zeros(importance.shape, bool)
    chosen = np.argsort(-importance, axis=1, kind="stable")[:, :count]
    np.put_along_axis(taken, chosen, True, axis=1)
    rows, columns = (
        np.minimum(np.arange(size) * blocks // size, blocks - 1)
        for size in images.shape[1:3]
    )
    taken = taken.reshape(-1, blocks, blocks)[:, rows][:, :, columns, None]

    def probabilities(batch, chosen):
        logits = model(batch, training=False)
        values = keras.ops.convert_to_numpy(keras.ops.softmax(logits))
        return values[np.arange(len(chosen)), chosen]

    before = _in_batches(probabilities, images, outputs)
    return before - _in_batches(probabilities, np.where(taken, fill, images), outputs)


def resized(maps: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """Resize heat maps `(count, rows, columns)` to a size of height and width."""
    if maps.shape[1:] == tuple(size):
        return maps
    pixels = keras.ops.image.resize(
        maps[..., None], size, interpolation="bilinear", antialias=True
    )
    return keras.ops.convert_to_numpy(pixels)[..., 0]


def _logit(model: keras.Model, outputs: np.ndarray) -> Callable:
    """Return the function from inputs to the logit of each that is to be explained."""

    def function(x):
        logits = model(x, training=False)
        chosen = keras.ops.one_hot(outputs, logits.shape[-1], dtype=logits.dtype)
        return keras.ops.sum(logits * chosen, axis=-1)

    return function


def _in_batches(function, images, outputs) -> np.ndarray:
    """Run a function of a batch over all images; outputs go with them."""
    outputs = np.asarray(outputs)
    if outputs.shape != (len(images),):
        raise errors.expected(
            "outputs", "have one index for each example", list(outputs.shape)
        )
    parts = [
        function(
            np.asarray(images[start : start + _BATCH], "float32"),
            outputs[start : start + _BATCH],
        )
        for start in range(0, len(images), _BATCH)
    ]
    return np.concatenate(parts).astype("float32")


def _cut(model, at):
    """Cut a model at a feature map; return also how features become a grid."""
    cuts = dict(splitting.cut_points(model))
    grids = {name: _grid(tensor) for name, tensor in cuts.items()}
    names = [name for name, grid in grids.items() if grid is not None]
    if not names:
        raise errors.expected(
            "model",
            "have a layer with a feature map that all paths lead through",
            model.name,
        )
    if at is not None and at not in names:
        raise errors.unknown("at", at, names)
    name = at or names[-1]
    return *splitting.split_at(model, cuts[name]), grids[name]


def _grid(tensor) -> Callable | None:
    """Return the function from features to `(count, rows, columns, channels)`.

    Tokens of a transformer are taken to be the patches of a square image, after those
    that stand for the whole image.
    """
    if len(tensor.shape) == 4:
        return lambda features: features
    if len(tensor.shape) != 3 or tensor.shape[1] is None:
        return None
    side = int(tensor.shape[1] ** 0.5)
    if side < 2 or tensor.shape[1] - side**2 > 8:
        return None
    return lambda features: features[:, -(side**2) :].reshape(
        len(features), side, side, features.shape[-1]
    )
