"""A model as one compiled function, for use after training.

With LiteRT (extra `export`), a run's model is converted once; from then on neither
TensorFlow nor Keras is imported to use it. Without it, a TensorFlow function, for many
examples one whose weights are constants.
"""

import importlib.util
import os
import threading
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from keras_tl import files

if TYPE_CHECKING:
    import keras

LITERT = "model.tflite"

# From a batch of inputs, as the model takes them, to float32 logits. Threads share it.
Logits = Callable[[np.ndarray], np.ndarray]


def has_litert() -> bool:
    """Return whether LiteRT is installed."""
    return importlib.util.find_spec("ai_edge_litert") is not None


def converted(folder: Path, model_sha256: str) -> bool:
    """Return whether a run has a LiteRT model, undamaged and of its present model.

    Args:
        folder: The run's folder.
        model_sha256: Hash of its `model.keras`.
    """
    path, about = folder / LITERT, folder / f"{LITERT}.json"
    if not (path.exists() and about.exists()):
        return False
    wanted = {"model_sha256": model_sha256, "sha256": files.sha256(path)}
    return files.read_json(about) == wanted


def convert(model: "keras.Model", folder: Path, model_sha256: str) -> None:
    """Write the LiteRT model of a run into its folder; takes some seconds.

    Weights and computations are float32: its logits are those of `model` but for
    rounding, which is larger where that computes with 16 bits. LiteRT has no 16-bit
    operations of its own on a CPU.

    Raises:
        InputError: The folder cannot be written to.
    """
    with files.atomic(folder / LITERT) as temporary:
        _in_float32(model).export(temporary, format="litert", verbose=False)
    about = {"model_sha256": model_sha256, "sha256": files.sha256(folder / LITERT)}
    files.write_json(folder / f"{LITERT}.json", about)


def _in_float32(model):
    """Return a model whose layers all compute in float32, with the same weights."""
    import keras

    if all(layer.compute_dtype == "float32" for layer in model._flatten_layers()):
        return model

    def plain(layer):
        return type(layer).from_config({**layer.get_config(), "dtype": "float32"})

    copy = keras.models.clone_model(model, clone_function=plain)
    copy.set_weights(model.get_weights())
    return copy


def litert(folder: Path) -> Logits:
    """Load a run's LiteRT model; examples run one by one, as fast as batches."""
    from ai_edge_litert.interpreter import Interpreter

    interpreter = Interpreter(str(folder / LITERT), num_threads=os.cpu_count())
    interpreter.allocate_tensors()
    details = interpreter.get_input_details()[0]
    target = interpreter.get_output_details()[0]["index"]
    # An interpreter has one example in it at a time. It computes on all cores, so that
    # one for each thread would take memory and be no faster.
    lock = threading.Lock()

    def logits(inputs):
        rows = []
        for row in np.asarray(inputs, details["dtype"]):
            with lock:
                interpreter.set_tensor(details["index"], row[None])
                interpreter.invoke()
                rows.append(interpreter.get_tensor(target)[0])
        return np.stack(rows)

    return logits


def traced(model: "keras.Model") -> Logits:
    """Build a TensorFlow function of a model; takes about a second."""
    import tensorflow as tf

    function, dtype = _trace(model)
    return lambda inputs: function(tf.cast(inputs, dtype)).numpy()


def frozen(model: "keras.Model") -> Logits:
    """Build a TensorFlow function of a model, with its weights as constants.

    It is a sixth to a quarter faster than that of `traced`; a model of a hundred
    megabytes takes several seconds more to build.
    """
    import tensorflow as tf

    # No public name leads here in TensorFlow 2.
    from tensorflow.python.framework import convert_to_constants

    function, dtype = _trace(model)
    constant = convert_to_constants.convert_variables_to_constants_v2(function)

    def logits(inputs):
        (values,) = constant(tf.cast(inputs, dtype))
        return values.numpy()

    return logits


def _trace(model):
    """Return the TensorFlow function of a model, and the type of its inputs."""
    import tensorflow as tf

    inputs = model.inputs[0]
    spec = tf.TensorSpec((None, *inputs.shape[1:]), inputs.dtype)
    function = tf.function(lambda x: model(x, training=False))
    return function.get_concrete_function(spec), spec.dtype
