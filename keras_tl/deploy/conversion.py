"""Convert a trained model to the formats of other runtimes.

Every conversion computes in float32, and has one input, `inputs`, and named outputs.
LiteRT files are made for its own operations alone: what would need those of TensorFlow
would be converted, and then fail where it is used.
"""

import contextlib
import logging
import os
import re
import tempfile
import warnings
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from keras_tl import errors

if TYPE_CHECKING:
    import keras

# Operations of TensorFlow that layers of Keras 3.15 use and LiteRT has none for; found
# by converting a model of each layer.
WITHOUT_LITERT = frozenset(
    {
        *("AsString", "AvgPool3D", "DenseBincount", "LookupTableFindV2", "MaxPool3D"),
        *("ResizeArea", "ResizeBicubic", "ScaleAndTranslate"),
        "StringToHashBucketFast",
    }
)


def layers_of_16_bits(model: "keras.Model") -> str | None:
    """Return what the layers of a model compute with, where it is not float32."""
    types = {layer.compute_dtype for layer in model._flatten_layers()}
    return ", ".join(sorted(types - {"float32"})) or None


def in_float32(model: "keras.Model") -> "keras.Model":
    """Return a model whose layers all compute in float32, with the same weights."""
    import keras

    if all(layer.compute_dtype == "float32" for layer in model._flatten_layers()):
        return model

    def plain(layer):
        return type(layer).from_config({**layer.get_config(), "dtype": "float32"})

    copy = keras.models.clone_model(model, clone_function=plain)
    copy.set_weights(model.get_weights())
    return copy


def check_litert(model: "keras.Model") -> None:
    """Refuse a model that has a layer without a LiteRT operation; nothing is converted.

    Raises:
        InputError: The layers and the operations of TensorFlow that they need.
    """
    found, names = {}, {layer.name for layer in model._flatten_layers()} - {model.name}
    graph = _function(model, 1).get_concrete_function().graph
    # Inner functions have their operations, and no names of layers.
    for operation in graph.get_operations():
        if operation.type in WITHOUT_LITERT:
            # Keras numbers the calls of a layer: "resize_1/..." is of "resize".
            scopes = [re.sub(r"_\d+$", "", n) for n in operation.name.split("/")]
            scopes += operation.name.split("/")
            known = [name for name in scopes if name in names]
            found.setdefault(operation.type, set()).update(known[-1:])
    if found:
        texts = [
            f"{kind} in {', '.join(sorted(layers)) or model.name}"
            for kind, layers in sorted(found.items())
        ]
        raise errors.InputError(
            f"LiteRT has no operation for {'; '.join(texts)}. Take the format onnx or "
            "savedmodel."
        )


def litert(
    model: "keras.Model", path: Path, sample: Iterable[np.ndarray] | None = None
) -> None:
    """Write a model for LiteRT, for one example at a time.

    Args:
        model: A model from one input to logits, or to a dictionary of outputs, in
            float32.
        path: The new file.
        sample: Representative examples `(1, ...)`, as the model takes them. With them
            weights and activations become int8, weights of convolutions with a scale
            for each channel (Jacob et al., 2018, arXiv:1712.05877); input and output
            stay as they are.

    Raises:
        InputError: LiteRT has no operation for a part of the model.
    """
    import tensorflow as tf

    with tempfile.TemporaryDirectory() as folder, _quiet(), _refused("LiteRT"):
        _save(model, folder, batch=1)
        converter = tf.lite.TFLiteConverter.from_saved_model(folder)
        if sample is not None:
            converter.optimizations = [tf.lite.Optimize.DEFAULT]
            converter.representative_dataset = lambda: ([one] for one in sample)
        content = converter.convert()
    path.write_bytes(content)


def onnx(model: "keras.Model", path: Path) -> None:
    """Write a model for ONNX Runtime, for batches of any size.

    Args:
        model: A model from one input to a dictionary of outputs, in float32.
        path: The new file.

    Raises:
        InputError: ONNX has no operation for a part of the model.
    """
    function = _function(model, None)
    with _quiet(), _refused("ONNX"):
        model.export(
            path, "onnx", verbose=False, input_signature=list(function.input_signature)
        )


def saved_model(model: "keras.Model", folder: Path) -> None:
    """Write a TensorFlow SavedModel, with the signature `serving_default`.

    Its input is called `inputs`, and its outputs have names, as TensorFlow Serving
    takes them.

    Args:
        model: As for `onnx`.
        folder: The new folder.
    """
    with _quiet():
        _save(model, folder, batch=None)


def _save(model, folder, batch: int | None):
    """Write a SavedModel; that of `keras.Model.export` has all weights twice."""
    import tensorflow as tf

    module = tf.Module()
    module.serve = _function(model, batch)
    signature = module.serve.get_concrete_function()
    module.weights = list(signature.graph.variables)
    tf.saved_model.save(module, str(folder), {"serving_default": signature})


def _function(model, batch):
    """Return a model as a TensorFlow function from `inputs` to its named outputs."""
    import tensorflow as tf

    tensor = model.inputs[0]
    spec = tf.TensorSpec((batch, *tensor.shape[1:]), tensor.dtype, name="inputs")

    def named(inputs):
        outputs = model(inputs, training=False)
        return outputs if isinstance(outputs, dict) else {"logits": outputs}

    return tf.function(named, input_signature=[spec], autograph=False)


@contextlib.contextmanager
def _refused(runtime: str) -> Iterator[None]:
    """Raise `InputError` in one sentence for what a converter cannot do."""
    try:
        yield
    # Converters raise types of their own, and RuntimeError and ValueError.
    except Exception as error:
        missing = re.findall(r"\b(?:tf\.)?([A-Z]\w+)\(tensor<", str(error))
        cause, reason = "it", errors.reason(error)
        if missing:
            cause = f"the operations {', '.join(sorted(set(missing)))}"
            reason = f"{runtime} has none of these"
        raise errors.InputError(
            f"The model cannot be converted for {runtime}, because of {cause}: "
            f"{reason}."
        ) from error


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Leave out what converters print, also from C++, unless they fail."""
    loggers = [logging.getLogger(name) for name in ("tensorflow", "tf2onnx", "absl")]
    levels = [logger.level for logger in loggers]
    for logger in loggers:
        logger.setLevel(logging.ERROR)
    kept = os.dup(2)
    try:
        with open(os.devnull, "wb") as nothing:
            os.dup2(nothing.fileno(), 2)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        os.dup2(kept, 2)
        os.close(kept)
        for logger, level in zip(loggers, levels, strict=True):
            logger.setLevel(level)
