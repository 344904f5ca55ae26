"""Gradients with respect to inputs, which Keras itself has no function for."""

from collections.abc import Callable

import keras
import numpy as np


def of_sum(function: Callable, inputs: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Compute a function, and the gradient of the sum of its values.

    Args:
        function: From a batch of inputs, a tensor, to one value for each, a tensor
            `(count,)`, by Keras's operations and models.
        inputs: `(count, ...)`.

    Returns:
        The values `(count,)`, and the gradients, of the shape of `inputs`; float32.
        Where no value depends on the other inputs, each gradient is that of its own.

    Raises:
        NotImplementedError: Keras runs on another backend than TensorFlow or JAX.

    >>> def squared(x):
    ...     return keras.ops.sum(x**2, axis=-1)
    >>> values, gradients = of_sum(squared, np.array([[1.0, 2.0]]))
    >>> values.tolist(), gradients.tolist()
    ([5.0], [[2.0, 4.0]])
    """
    x = keras.ops.convert_to_tensor(inputs, "float32")
    backend = keras.backend.backend()
    if backend == "tensorflow":
        import tensorflow as tf

        with tf.GradientTape() as tape:
            tape.watch(x)
            values = function(x)
        gradients = tape.gradient(values, x)
    elif backend == "jax":
        import jax

        values, pull_back = jax.vjp(function, x)
        (gradients,) = pull_back(keras.ops.ones_like(values))
    else:
        raise NotImplementedError(f"There are no gradients on the backend {backend}.")
    return keras.ops.convert_to_numpy(values), keras.ops.convert_to_numpy(gradients)
