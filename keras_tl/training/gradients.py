"""Gradients that Keras itself has no function for: of inputs, and between devices."""

import functools
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
    values, gradients = _with_gradients(function, x)
    return keras.ops.convert_to_numpy(values), keras.ops.convert_to_numpy(gradients)


def _with_gradients(function, x):
    backend = keras.backend.backend()
    if backend == "tensorflow":
        import tensorflow as tf

        with tf.GradientTape() as tape:
            tape.watch(x)
            values = function(x)
        return values, tape.gradient(values, x)
    if backend == "jax":
        import jax

        values, pull_back = jax.vjp(function, x)
        (gradients,) = pull_back(keras.ops.ones_like(values))
        return values, gradients
    raise NotImplementedError(f"There are no gradients on the backend {backend}.")


def rows_of_all(values):
    """Return the rows that all devices of a training step have, in their order.

    A gradient of these goes to the device that has the row.

    Args:
        values: Tensors `(rows of a device, ...)`, such as in a dictionary.

    Returns:
        The same with `(rows of the batch, ...)`: on one device as they are, and on JAX,
        which runs a step as one program over all devices.
    """
    if keras.backend.backend() != "tensorflow":
        return values
    import tensorflow as tf

    alone = tf.distribute.get_strategy().num_replicas_in_sync == 1
    if alone or tf.distribute.in_cross_replica_context():
        return values
    context = tf.distribute.get_replica_context()

    def gathered(own):
        if 0 in own.shape[1:]:
            return own  # Without columns, on which TensorFlow would crash.
        rows = own.shape[0] and own.shape[0] * context.num_replicas_in_sync
        # A copy, since an argument of the step is on no device that TensorFlow knows.
        every = context.all_gather(tf.identity(own), 0)
        return tf.ensure_shape(every, (rows, *own.shape[1:]))

    return keras.tree.map_structure(gathered, values)


def compiled(function: Callable) -> Callable:
    """Compile a function together with the gradient of the sum of its values.

    Args:
        function: As for `of_sum`.

    Returns:
        Function from a batch of inputs, a float32 tensor, to what `of_sum` returns for
        it, as tensors.

    Raises:
        NotImplementedError: Keras runs on another backend than TensorFlow or JAX.

    >>> values, gradients = compiled(lambda x: keras.ops.sum(x**2, axis=-1))(
    ...     keras.ops.array([[1.0, 2.0]])
    ... )
    >>> keras.ops.convert_to_numpy(gradients).tolist()
    [[2.0, 4.0]]
    """
    whole = functools.partial(_with_gradients, function)
    backend = keras.backend.backend()
    if backend == "tensorflow":
        import tensorflow as tf

        return tf.function(whole)
    if backend == "jax":
        import jax

        return jax.jit(whole)
    return whole
