"""A model as one compiled function, for use after training.

A run's model is converted for LiteRT once. With LiteRT (extra `export`) neither
TensorFlow nor Keras is imported to use it from then on; without, TensorFlow's own
interpreter runs it. A run that cannot be converted is a TensorFlow function, for many
examples one whose weights are constants.
"""

import importlib.util
import os
import threading
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from keras_tl import errors, files
from keras_tl.deploy import conversion

if TYPE_CHECKING:
    import keras

LITERT = "model.tflite"


# Of what `taps.with_features` makes of a model; the last two where it has them.
OUTPUTS = ("logits", "embedding", "feature_map")


@dataclass(frozen=True)
class Compiled:
    """A model as a function, which threads can share.

    Attributes:
        function: From a batch of inputs, as the model takes them, to the outputs of
            `taps.with_features`, float32.
        input_shape: Shape of one example; `None` where any number is taken.
        num_outputs: Number of the logits of an example.
    """

    function: Callable[[np.ndarray], dict[str, np.ndarray]]
    input_shape: tuple[int | None, ...]
    num_outputs: int

    def __call__(self, inputs: np.ndarray) -> dict[str, np.ndarray]:
        return self.function(inputs)


def has_litert() -> bool:
    """Return whether LiteRT is installed."""
    return errors.is_installed("ai_edge_litert")


def runtime() -> str | None:
    """Return what a LiteRT model is run with: "LiteRT", or TensorFlow's part of it.

    That takes the seconds of importing TensorFlow, but not those of loading the model
    with Keras and of tracing it. `None` where neither is installed.
    """
    if has_litert():
        return "LiteRT"
    spec = importlib.util.find_spec("tensorflow")
    if spec is None or spec.origin is None:
        return None
    # Asking for the module itself would import TensorFlow.
    part = Path(spec.origin).parent / "lite" / "python" / "interpreter.py"
    return "the LiteRT in TensorFlow" if part.is_file() else None


def _interpreter(path):
    """Return the interpreter of a LiteRT model, on all cores."""
    if has_litert():
        from ai_edge_litert.interpreter import Interpreter
    else:
        import tensorflow as tf

        Interpreter = tf.lite.Interpreter
    with warnings.catch_warnings():
        # TensorFlow's says that it is going to be a package of its own.
        warnings.simplefilter("ignore")
        return Interpreter(str(path), num_threads=os.cpu_count())


def converted(folder: Path, model_sha256: str) -> bool:
    """Return whether a run has a LiteRT model, undamaged and of its present model.

    Args:
        folder: The run's folder.
        model_sha256: Hash of its `model.keras`.
    """
    path, about = folder / LITERT, folder / f"{LITERT}.json"
    if not (path.exists() and about.exists()):
        return False
    try:
        return files.read_json(about) == _about(path, model_sha256)
    except errors.InputError:
        return False


def convert(model: "keras.Model", folder: Path, model_sha256: str) -> None:
    """Write the LiteRT model of a run into its folder; takes some seconds.

    Weights and computations are float32: its logits are those of `model` but for
    rounding, which is larger where that computes with 16 bits. LiteRT has no 16-bit
    operations of its own on a CPU.

    Raises:
        InputError: The folder cannot be written to, or LiteRT has no operation for a
            part of the model.
    """
    from keras_tl.models import taps

    whole = taps.with_features(conversion.in_float32(model))
    with files.atomic(folder / LITERT) as temporary:
        conversion.litert(whole, temporary)
    about = _about(folder / LITERT, model_sha256)
    files.write_json(folder / f"{LITERT}.json", about)


def _about(path, model_sha256) -> dict:
    """Return what is written beside a LiteRT model, of this version of its outputs."""
    return {
        "model_sha256": model_sha256,
        "sha256": files.sha256(path),
        "outputs": list(OUTPUTS),
    }


def litert(folder: Path) -> Compiled:
    """Load a run's LiteRT model; examples run one by one, as fast as batches."""
    interpreter = _interpreter(folder / LITERT)
    names = interpreter.get_signature_runner().get_output_details()
    places = {name: details["index"] for name, details in names.items()}
    interpreter.allocate_tensors()
    details = interpreter.get_input_details()[0]
    # An interpreter has one example in it at a time. It computes on all cores, so that
    # one for each thread would take memory and be no faster.
    lock = threading.Lock()

    def run(inputs):
        rows = {name: [] for name in places}
        for row in np.asarray(inputs, details["dtype"]):
            with lock:
                interpreter.set_tensor(details["index"], row[None])
                interpreter.invoke()
                for name, place in places.items():
                    rows[name].append(interpreter.get_tensor(place)[0])
        return {name: np.stack(values) for name, values in rows.items()}

    shape = tuple(details["shape"][1:].tolist())
    return Compiled(run, shape, int(names["logits"]["shape"][-1]))


def traced(model: "keras.Model") -> Compiled:
    """Build a TensorFlow function of a model; takes about a second.

    Raises:
        InputError: The model has not one input and one row of outputs.
    """
    function = _trace(model)
    return _compiled(model, function)


def frozen(model: "keras.Model") -> Compiled:
    """Build a TensorFlow function of a model, with its weights as constants.

    It is a sixth to a quarter faster than that of `traced`; a model of a hundred
    megabytes takes several seconds more to build.

    Raises:
        InputError: The model has not one input and one row of outputs.
    """
    # No public name leads here in TensorFlow 2.
    from tensorflow.python.framework import convert_to_constants

    traced = _trace(model)
    constant = convert_to_constants.convert_variables_to_constants_v2(traced)
    # Outputs of a dictionary are in the order of their names.
    names = sorted(traced.structured_outputs)
    return _compiled(
        model, lambda inputs: dict(zip(names, constant(inputs), strict=True))
    )


def _trace(model):
    """Return the TensorFlow function of a model, for batches of any size."""
    import tensorflow as tf

    from keras_tl.models import taps

    if len(model.inputs) != 1 or len(model.outputs) != 1 or model.outputs[0].ndim != 2:
        raise errors.InputError(
            f"The model {model.name} must have one input, and one output of a row for "
            f"each example. Received: {model.inputs}, {model.outputs}."
        )
    shape, dtype = model.inputs[0].shape[1:], model.inputs[0].dtype
    whole = taps.with_features(model)

    def run(inputs):
        outputs = whole(inputs, training=False)
        return {name: tf.cast(values, "float32") for name, values in outputs.items()}

    return tf.function(run).get_concrete_function(tf.TensorSpec((None, *shape), dtype))


def _compiled(model, function):
    """Return the function of a model with its shapes."""
    import tensorflow as tf

    inputs, outputs = model.inputs[0], model.outputs[0]

    def run(batch):
        made = function(tf.cast(batch, inputs.dtype))
        return {name: values.numpy() for name, values in made.items()}

    return Compiled(run, tuple(inputs.shape[1:]), outputs.shape[-1])
