"""Hold fine-tuning back where labels are few: L2-SP, DELTA, BSS, LwF.

Each function gives a regularizer, which the phases take: a function from the part that
trains to a model with the same layers and one more term in its loss. What is saved is
the plain model, which knows nothing of it. Validation losses are without the term.

What they buy, in a published comparison with ResNet50 on CUB-200 (accuracy at 15, 30,
50 and 100 % of the labels, https://github.com/thuml/Transfer-Learning-Library): plain
51.2, 64.6, 74.6, 81.8; BSS 53.4, 66.7, 76.0, 82.0; DELTA 54.8, 67.3, 76.3, 82.3; LwF
56.7, 66.8, 73.4, 81.5.
"""

from collections.abc import Callable, Mapping, Sequence

import keras
from keras import ops

from keras_tl import errors
from keras_tl.models import freezing, splitting
from keras_tl.training.phases import Regularizer

Penalty = Callable[
    [keras.KerasTensor, Mapping[str, keras.KerasTensor], keras.KerasTensor | None],
    keras.KerasTensor,
]


class Regularized(keras.Model):
    """A classifier with one more term in the loss it trains with.

    Args:
        model: Functional classifier; its layers are shared.
        taps: Names of layers whose outputs the term needs.
        penalty: Function from a batch as `model` takes it, the outputs of `taps`, by
            name, and the weights of the rows, or `None`, to a number. Rows of weight 0
            fill up a batch and must not count.

    Raises:
        InputError: An unknown layer.
    """

    def __init__(self, model: keras.Model, taps: Sequence[str], penalty: Penalty):
        found = splitting.outputs(model)
        for name in taps:
            if name not in found:
                raise errors.unknown("layers", name, found)
        outputs = {_LOGITS: model.outputs[0], **{name: found[name] for name in taps}}
        super().__init__(model.inputs[0], outputs, name=model.name)
        self._penalty = penalty

    def compute_loss(
        self, x=None, y=None, y_pred=None, sample_weight=None, training=True
    ):
        loss = super().compute_loss(x, y, y_pred[_LOGITS], sample_weight, training)
        if not training:
            return loss
        term = self._penalty(x, y_pred, sample_weight)
        # As Keras's own: divided by the number of devices, which are added up.
        return loss + self._aggregate_additional_loss(term)

    def compute_metrics(self, x, y, y_pred, sample_weight=None):
        return super().compute_metrics(x, y, y_pred[_LOGITS], sample_weight)


# No layer can have this name.
_LOGITS = "/logits"


def mean_over_rows(
    costs: keras.KerasTensor, sample_weight: keras.KerasTensor | None
) -> keras.KerasTensor:
    """Average over a batch as Keras's losses do: a row of weight 0 counts for nothing.

    Args:
        costs: One number for each row, `(batch,)`.
        sample_weight: Weight of each row, or `None` for 1.

    >>> float(mean_over_rows(ops.array([3.0, 5.0]), ops.array([2.0, 0.0])))
    3.0
    """
    costs = ops.cast(costs, "float32")
    if sample_weight is not None:
        costs = costs * ops.cast(ops.reshape(sample_weight, (-1,)), "float32")
    return ops.mean(costs)


def l2_sp(*, alpha: float = 0.01, beta: float = 0.01) -> Regularizer:
    """Pull pretrained weights to where they began, and the head's to 0.

    alpha / 2 * sum (w - w_start)^2 + beta / 2 * sum w_head^2, over all weights that
    train when the phase begins.

    Args:
        alpha: Strength for pretrained weights, at least 0.
        beta: Strength for the head's.

    Raises:
        InputError: A value below 0.

    Reference:
        Li et al., "Explicit inductive bias for transfer learning", 2018,
        arXiv:1802.01483.
    """
    errors.check_at_least("alpha", alpha, 0)
    errors.check_at_least("beta", beta, 0)

    def regularize(model):
        head, pretrained = _weights(model)
        start = [ops.copy(weight) for weight in pretrained]

        def penalty(x, outputs, sample_weight):
            moved = [w - s for w, s in zip(pretrained, start, strict=True)]
            return alpha / 2 * _squares(moved) + beta / 2 * _squares(head)

        return Regularized(model, [], penalty)

    return regularize


def delta(
    layers: Sequence[str], *, alpha: float = 0.01, beta: float = 0.01
) -> Regularizer:
    """Pull the feature maps of some layers to what they were at the start.

    alpha / 2 * sum (map - map_start)^2, a mean over the batch, and beta / 2 * sum
    w_head^2. Without the paper's attention, which weighs channels by what the loss
    gains from each. A second pass through the part that trains is run in each step.

    Args:
        layers: Names of layers among or above those that train.
        alpha: Strength for the maps, at least 0.
        beta: Strength for the head's weights.

    Raises:
        InputError: No layers, an unknown one, or a value below 0.

    Reference:
        Li et al., "DELTA: Deep learning transfer using feature map with attention",
        2019, arXiv:1901.09229.
    """
    errors.check_at_least("len(layers)", len(layers), 1)
    errors.check_at_least("alpha", alpha, 0)
    errors.check_at_least("beta", beta, 0)

    def regularize(model):
        before = _as_it_is(model, layers)
        head, _ = _weights(model)

        def penalty(x, outputs, sample_weight):
            then = before(x, training=False)
            apart = [outputs[name] - ops.stop_gradient(then[name]) for name in layers]
            maps = mean_over_rows(sum(map(_squares_of_rows, apart)), sample_weight)
            return alpha / 2 * maps + beta / 2 * _squares(head)

        return Regularized(model, layers, penalty)

    return regularize


def bss(layer: str = "pool", *, eta: float = 1e-3, k: int = 1) -> Regularizer:
    """Shrink the smallest singular values of a batch's features.

    eta * sum of the k smallest squared singular values of the matrix `(batch,
    features)`: directions with little in them transfer badly. Rows of weight 0, which
    fill up a batch, are left out; the others count alike, whatever they weigh. On
    several devices, each looks at the matrix of its own rows.

    Args:
        layer: Name of the layer that gives the features, `(batch, features)`.
        eta: Strength, at least 0.
        k: Number of values, at least 1; where the smaller side of the matrix has
            fewer, all.

    Raises:
        InputError: An unknown layer, one whose output is no vector, or a value out of
            range.

    Reference:
        Chen et al., "Catastrophic forgetting meets negative transfer: batch spectral
        shrinkage for safe transfer learning", NeurIPS 2019.
    """
    errors.check_at_least("eta", eta, 0)
    errors.check_at_least("k", k, 1)

    def regularize(model):
        found = splitting.outputs(model)
        if layer not in found:
            raise errors.unknown("layer", layer, found)
        shape = found[layer].shape
        if len(shape) != 2:
            raise errors.expected("layer", "give (batch, features)", f"{layer} {shape}")

        def penalty(x, outputs, sample_weight):
            features = ops.cast(outputs[layer], "float32")
            count, width = ops.shape(features)[0], shape[1]
            if sample_weight is not None:
                seen = ops.reshape(sample_weight, (-1, 1)) != 0
                features = ops.where(seen, features, 0.0)
                count = ops.sum(ops.cast(seen, "int32"))
            if features.shape[0] is not None and features.shape[0] > width:
                features = ops.transpose(features)
            # Squared singular values are the eigenvalues of F F', the smallest first;
            # before them come zeros, as many as it has rows too many.
            squares = ops.matmul(features, ops.transpose(features))
            values, _ = ops.linalg.eigh(squares)
            side = ops.shape(values)[0]
            place = ops.arange(side) - (side - ops.minimum(count, width))
            return eta * ops.sum(ops.where((place >= 0) & (place < k), values, 0.0))

        return Regularized(model, [layer], penalty)

    return regularize


def lwf(
    old_head: keras.Layer,
    layer: str = "pool",
    *,
    alpha: float = 1.0,
    temperature: float = 2.0,
) -> Regularizer:
    """Keep what the old task's head says of the images: learning without forgetting.

    alpha * temperature^2 * KL(p_start, p), a mean over the batch, where p is the
    softmax of the old logits divided by `temperature`. The old head stays as it is;
    in the paper it trains on, slowly. A second pass through the part that trains is
    run in each step.

    Args:
        old_head: Layer or model from what `layer` gives to the old task's logits, such
            as the last layer of a classifier for ImageNet, without its softmax.
        layer: Name of the layer that gives the features.
        alpha: Strength, at least 0.
        temperature: Greater than 0; higher ones look at unlikely classes more.

    Raises:
        InputError: An unknown layer, or a value out of range.

    Reference:
        Li and Hoiem, "Learning without forgetting", 2016, arXiv:1606.09282.
    """
    errors.check_at_least("alpha", alpha, 0)
    errors.check_above("temperature", temperature, 0)

    def regularize(model):
        before = _as_it_is(model, [layer])

        def penalty(x, outputs, sample_weight):
            then, now = (
                ops.log_softmax(ops.cast(old_head(seen), "float32") / temperature)
                for seen in (before(x, training=False)[layer], outputs[layer])
            )
            divergence = ops.sum(ops.exp(then) * (then - now), axis=-1)
            return alpha * temperature**2 * mean_over_rows(divergence, sample_weight)

        return Regularized(model, [layer], penalty)

    return regularize


def _as_it_is(model, layers):
    """Copy a model, to be asked later for what `layers` give now."""
    # Held by the penalty alone, so that nothing saves or counts its weights.
    copy = keras.models.clone_model(model)
    copy.set_weights(model.get_weights())
    return Regularized(copy, layers, None)


def _weights(model):
    """Give the weights that train: the head's, and the others."""
    head = {
        id(weight)
        for layer in freezing.head(model)
        for weight in layer.trainable_weights
    }
    training = model.trainable_weights
    return (
        [weight for weight in training if id(weight) in head],
        [weight for weight in training if id(weight) not in head],
    )


def _squares(tensors):
    # In half precision, sums of many lose most of them, or overflow.
    squares = (ops.sum(ops.square(ops.cast(t, "float32"))) for t in tensors)
    return sum(squares, start=0.0)


def _squares_of_rows(tensor):
    squares = ops.square(ops.cast(tensor, "float32"))
    return ops.sum(squares, axis=tuple(range(1, len(tensor.shape))))
