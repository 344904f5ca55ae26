"""Regularize fine-tuning where labels are few: L2-SP, DELTA, BSS, LwF.

Each function returns a method for `phases.Phase`, which adds a term to the loss of the
labels. The saved model does not contain it; validation losses are without it.

A published comparison with ResNet50 on CUB-200 (accuracy with 15, 30, 50 and 100 % of
the labels, https://github.com/thuml/Transfer-Learning-Library): plain fine-tuning 51.2,
64.6, 74.6, 81.8; BSS 53.4, 66.7, 76.0, 82.0; DELTA 54.8, 67.3, 76.3, 82.3; LwF 56.7,
66.8, 73.4, 81.5.
"""

from collections.abc import Sequence

import keras
from keras import ops

from keras_tl import errors
from keras_tl.models import freezing, splitting
from keras_tl.training.terms import Method, Term


def l2_sp(*, alpha: float = 0.01, beta: float = 0.01) -> Method:
    """Penalize the distance of pretrained weights to their start, and the head's to 0.

    alpha / 2 * sum (w - w_start)^2 + beta / 2 * sum w_head^2, over all weights that
    train when the phase begins.

    Args:
        alpha: Weight of the penalty on pretrained weights, at least 0.
        beta: Weight of the penalty on the head's weights, at least 0.

    Raises:
        InputError: A value below 0.

    Reference:
        Li et al., "Explicit inductive bias for transfer learning", 2018,
        arXiv:1802.01483.
    """
    errors.check_at_least("alpha", alpha, 0)
    errors.check_at_least("beta", beta, 0)

    def method(model, steps):
        head, pretrained = _weights(model)
        start = [ops.copy(weight) for weight in pretrained]

        def penalty(batch):
            moved = [w - s for w, s in zip(pretrained, start, strict=True)]
            return alpha / 2 * _squares(moved) + beta / 2 * _squares(head)

        return Term(penalty)

    return method


def delta(layers: Sequence[str], *, alpha: float = 0.01, beta: float = 0.01) -> Method:
    """Penalize the change of the feature maps of some layers since the start.

    alpha / 2 * sum (map - map_start)^2, a mean over the batch, and beta / 2 * sum
    w_head^2. Without the paper's attention, which weights channels by how much the loss
    depends on each. Each step runs the layers a second time with their weights of the
    start.

    Args:
        layers: Names of layers among those that train, or above them.
        alpha: Weight of the penalty on the maps, at least 0.
        beta: Weight of the penalty on the head's weights, at least 0.

    Raises:
        InputError: No layers, an unknown one, or a value below 0.

    Reference:
        Li et al., "DELTA: Deep learning transfer using feature map with attention",
        2019, arXiv:1901.09229.
    """
    errors.check_at_least("len(layers)", len(layers), 1)
    errors.check_at_least("alpha", alpha, 0)
    errors.check_at_least("beta", beta, 0)

    def method(model, steps):
        start = _copy(model, layers)
        head, _ = _weights(model)

        def penalty(batch):
            before = start(batch.inputs, training=False)
            changes = [
                batch.outputs[name] - ops.stop_gradient(before[name]) for name in layers
            ]
            maps = batch.mean(sum(map(_squares_of_rows, changes)))
            return alpha / 2 * maps + beta / 2 * _squares(head)

        return Term(penalty, layers=layers)

    return method


def bss(layer: str = "pool", *, eta: float = 1e-3, k: int = 1) -> Method:
    """Penalize the smallest singular values of the features of a batch.

    eta * sum of the k smallest squared singular values of the matrix `(batch,
    features)`: directions with small singular values transfer badly. Rows of weight 0
    are left out; the others count equally, whatever their weight.

    Args:
        layer: Name of the layer whose output are the features, `(batch, features)`.
        eta: Weight of the penalty, at least 0.
        k: Number of singular values, at least 1; all where the matrix has fewer.

    Raises:
        InputError: An unknown layer, one whose output is no vector, or a value out of
            range.

    Reference:
        Chen et al., "Catastrophic forgetting meets negative transfer: batch spectral
        shrinkage for safe transfer learning", NeurIPS 2019.
    """
    errors.check_at_least("eta", eta, 0)
    errors.check_at_least("k", k, 1)

    def method(model, steps):
        splitting.check_vector(model, layer)

        def penalty(batch):
            features = ops.cast(batch.outputs[layer], "float32")
            return eta * _smallest_squares(features, batch.sample_weight, k)

        return Term(penalty, layers=[layer], of_rows=False)

    return method


def lwf(
    old_head: keras.Layer,
    layer: str = "pool",
    *,
    alpha: float = 1.0,
    temperature: float = 2.0,
) -> Method:
    """Penalize changes of an old task's predictions: learning without forgetting.

    alpha * temperature^2 * KL(p_start, p), a mean over the batch, where p is the
    softmax of the old logits divided by `temperature`. The old head does not train; in
    the paper it does, slowly. Each step runs the layers a second time with their
    weights of the start.

    Args:
        old_head: Layer or model from the output of `layer` to the old task's logits,
            such as the last layer of a classifier for ImageNet, without its softmax.
        layer: Name of the layer whose output are the features.
        alpha: Weight of the penalty, at least 0.
        temperature: Greater than 0; a higher one gives unlikely classes more influence.

    Raises:
        InputError: An unknown layer, or a value out of range.

    Reference:
        Li and Hoiem, "Learning without forgetting", 2016, arXiv:1606.09282.
    """
    errors.check_at_least("alpha", alpha, 0)
    errors.check_above("temperature", temperature, 0)

    def method(model, steps):
        start = _copy(model, [layer])

        def penalty(batch):
            before, now = (
                ops.log_softmax(ops.cast(old_head(x), "float32") / temperature)
                for x in (
                    start(batch.inputs, training=False)[layer],
                    batch.outputs[layer],
                )
            )
            divergence = ops.sum(ops.exp(before) * (before - now), axis=-1)
            return alpha * temperature**2 * batch.mean(divergence)

        return Term(penalty, layers=[layer])

    return method


def _smallest_squares(features, sample_weight, k):
    """Add up the k smallest squared singular values of the rows that count."""
    count, width = ops.shape(features)[0], features.shape[1]
    if sample_weight is not None:
        counts = ops.reshape(sample_weight, (-1, 1)) != 0
        features = ops.where(counts, features, 0.0)
        count = ops.sum(ops.cast(counts, "int32"))
    if features.shape[0] is not None and features.shape[0] > width:
        features = ops.transpose(features)
    # Squared singular values are the eigenvalues of F F', the smallest first; before
    # them come zeros, one for each row too many.
    squares = ops.matmul(features, ops.transpose(features))
    values, _ = ops.linalg.eigh(squares)
    side = ops.shape(values)[0]
    place = ops.arange(side) - (side - ops.minimum(count, width))
    return ops.sum(ops.where((place >= 0) & (place < k), values, 0.0))


def _copy(model, layers):
    """Copy a model as it is now, with the outputs of some of its layers."""
    known = splitting.outputs(model)
    for name in layers:
        if name not in known:
            raise errors.unknown("layers", name, known)
    # Held by the penalty alone, so that nothing saves or counts its weights.
    copy = keras.models.clone_model(model)
    copy.set_weights(model.get_weights())
    outputs = splitting.outputs(copy)
    return keras.Model(splitting.inputs(copy), {name: outputs[name] for name in layers})


def _weights(model):
    """Return the weights that train: those of the head, and the others."""
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
