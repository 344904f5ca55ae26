"""Magnitude pruning: the smallest weights become zero and stay so while others train.

Zeros are compressed by what packs a file; they are not skipped by an ordinary runtime.
"""

import keras
import numpy as np
from keras import ops

from keras_tl import errors

# Kernels with fewer weights stay whole: there is nothing to gain.
FEWEST = 1000


class _Held(keras.constraints.Constraint):
    """Keep some weights at zero, after each step of an optimizer.

    Attributes:
        mask: 0 for these weights, else 1; of the shape of the kernel.
    """

    def __init__(self, mask: np.ndarray):
        self.mask = mask

    def __call__(self, weights):
        return weights * ops.cast(self.mask, weights.dtype)


def kernels(model: keras.Model) -> list[keras.Variable]:
    """List the weights that `prune` changes: kernels of Conv2D and Dense that train.

    Those of frozen layers could not make up for what is missing. Depthwise kernels,
    and those of fewer than 1,000 weights, are left out, as in the paper for MobileNet.
    """
    kinds = (keras.layers.Conv2D, keras.layers.Dense)
    trained = [
        layer.kernel
        for layer in model._flatten_layers()
        if type(layer) in kinds and layer.trainable
    ]
    return [kernel for kernel in trained if np.prod(kernel.shape) >= FEWEST]


def prune(model: keras.Model, sparsity: float) -> None:
    """Set the smallest weights of each kernel to zero, and hold them there.

    They stay zero in any training that follows, until `release`; what was zero before
    stays. Of a model that is saved the zeros stay, and are trained again after loading.

    Args:
        model: The model, which is changed.
        sparsity: Share of the weights of each kernel that become zero, in [0, 1).

    Raises:
        InputError: `sparsity` is out of range, or the model has no such kernel.

    >>> model = keras.Sequential([keras.Input((40,)), keras.layers.Dense(50)])
    >>> prune(model, 0.75)
    >>> sparsity_of(model)
    0.75
    """
    _check(sparsity)
    pruned = kernels(model)
    if not pruned:
        raise errors.InputError(
            f"The model {model.name} has no kernel of a Conv2D or Dense layer that "
            f"trains and has at least {FEWEST:,} weights to prune."
        )
    for kernel in pruned:
        weights = ops.convert_to_numpy(kernel)
        count = round(sparsity * weights.size)
        mask = np.ones(weights.size, "float32")
        # Stable, so that the weights that are zero already come first.
        mask[np.argsort(np.abs(weights), axis=None, kind="stable")[:count]] = 0
        mask = mask.reshape(weights.shape)
        kernel.assign(weights * mask)
        kernel.constraint = _Held(mask)


def release(model: keras.Model) -> None:
    """Remove the masks, so that all weights train again."""
    for kernel in kernels(model):
        if isinstance(kernel.constraint, _Held):
            kernel.constraint = None


def sparsity_of(model: keras.Model) -> float:
    """Return the share of zeros among the weights that `prune` changes, in [0, 1]."""
    values = [ops.convert_to_numpy(kernel) for kernel in kernels(model)]
    zeros = sum(int((value == 0).sum()) for value in values)
    return zeros / max(1, sum(value.size for value in values))


def schedule(sparsity: float, steps: int) -> list[float]:
    """Return the sparsities of some steps, with training after each.

    They rise quickly at first, where many weights do not matter, and slowly at the end:
    sparsity * (1 - (1 - step / steps)^3).

    Args:
        sparsity: That of the last step, in [0, 1).
        steps: Number of steps, at least 1.

    Raises:
        InputError: A value out of range.

    Reference:
        Zhu and Gupta, "To prune, or not to prune: exploring the efficacy of pruning for
        model compression", 2017, arXiv:1710.01878, equation 1.

    >>> [round(share, 3) for share in schedule(0.8, 2)]
    [0.7, 0.8]
    """
    _check(sparsity)
    errors.check_at_least("steps", steps, 1)
    return [sparsity * (1 - (1 - step / steps) ** 3) for step in range(1, steps + 1)]


def _check(sparsity):
    if not 0 <= sparsity < 1:
        raise errors.expected("sparsity", "be in [0, 1)", sparsity)
