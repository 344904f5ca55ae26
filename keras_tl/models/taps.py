"""Features from any layers of a model, in one pass."""

from collections.abc import Sequence

import keras
import numpy as np

from keras_tl import errors
from keras_tl.models import heads, splitting


def pooled(
    model: keras.Model, names: Sequence[str]
) -> tuple[keras.Model, dict[str, slice]]:
    """Build a model of the pooled outputs of several layers, side by side.

    Args:
        model: A functional model.
        names: Layers; a feature map is averaged over its rows and columns, anything
            else flattened.

    Returns:
        A model from the input of `model` to `(batch, features)`, and the columns of
        each layer in it.

    Raises:
        InputError: No names, one twice, or one that is not a layer's.

    >>> layers = [keras.layers.Conv2D(4, 3, name="a"), keras.layers.Conv2D(6, 3)]
    >>> model = keras.Sequential([keras.Input((8, 8, 3)), *layers])
    >>> pooled(model, ["a", layers[1].name])[1]["a"]
    slice(0, 4, None)
    """
    outputs = splitting.outputs(model)
    errors.check_at_least("len(names)", len(names), 1)
    if len(set(names)) < len(names):
        raise errors.expected("names", "name each layer once", list(names))
    columns, parts, start = {}, [], 0
    for name in names:
        if name not in outputs:
            raise errors.unknown("names", name, outputs)
        x = heads.vector(outputs[name], prefix=f"{name}_")
        columns[name] = slice(start, start + x.shape[-1])
        parts.append(x)
        start = columns[name].stop
    whole = keras.layers.Concatenate(name="features")(parts) if parts[1:] else parts[0]
    return keras.Model(model.inputs[0], whole, name=f"{model.name}_taps"), columns


def classifier(
    model: keras.Model, names: Sequence[str], kernel: np.ndarray, bias: np.ndarray
) -> keras.Model:
    """Build a classifier with given weights on the features of `pooled`.

    Args:
        model: A functional model.
        names: As for `pooled`.
        kernel: `(features, num_classes)`.
        bias: `(num_classes,)`.

    Returns:
        An uncompiled model from the input of `model` to `logits`, float32.

    Raises:
        InputError: What `pooled` raises, or weights of another shape.
    """
    features, _ = pooled(model, names)
    width = features.outputs[0].shape[-1]
    if kernel.shape != (width, len(bias)):
        raise errors.expected("kernel", f"be {(width, len(bias))}", kernel.shape)
    made = heads.classify(model, features.outputs[0], len(bias), dropout=0.0)
    made.get_layer("logits").set_weights([kernel, bias])
    return made
