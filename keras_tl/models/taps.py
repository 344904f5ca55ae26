"""Features from any layers of a model, in one pass; those that its classifier sees."""

from collections.abc import Sequence

import keras
import numpy as np

from keras_tl import errors
from keras_tl.models import freezing, heads, splitting


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


def maps(model: keras.Model, names: Sequence[str]) -> keras.Model:
    """Build a model of the feature maps of several layers, for images of any size.

    Args:
        model: A functional model whose layers up to these are convolutions and pooling.
        names: Layers.

    Returns:
        A model from images `(batch, height, width, 3)` to a dictionary of feature maps
        by the names of their layers. It has copies of the layers, which are frozen.

    Raises:
        InputError: No names, or one that is not a layer's.

    >>> layers = [keras.layers.Conv2D(4, 3, name="a"), keras.layers.Conv2D(6, 3)]
    >>> model = keras.Sequential([keras.Input((8, 8, 3)), *layers])
    >>> maps(model, ["a"]).output["a"].shape
    (None, None, None, 4)
    """
    outputs = splitting.outputs(model)
    errors.check_at_least("len(names)", len(names), 1)
    for name in names:
        if name not in outputs:
            raise errors.unknown("names", name, outputs)
    x = splitting.inputs(model)
    part = keras.Model(x, {name: outputs[name] for name in names}, name=model.name)
    anew = keras.Input((None, None, x.shape[-1]), name=x.name)
    copy = keras.models.clone_model(part, input_tensors=anew)
    copy.set_weights(part.get_weights())
    freezing.freeze(copy)
    return copy


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


def with_features(model: keras.Model) -> keras.Model:
    """Build a model that also returns what its classifier sees.

    Returns:
        A model from the input of `model` to a dictionary: its `logits`; where they are
        a Dense layer's, `embedding`, the vector that this layer takes; and where that
        is the average of a feature map, `feature_map`. It shares all layers.

    >>> layers = [keras.layers.Conv2D(4, 3), keras.layers.GlobalAveragePooling2D()]
    >>> head = [keras.layers.Dropout(0.2), keras.layers.Dense(2)]
    >>> model = keras.Sequential([keras.Input((8, 8, 3)), *layers, *head])
    >>> {name: x.shape for name, x in with_features(model).output.items()}
    {'logits': (None, 2), 'embedding': (None, 4), 'feature_map': (None, 6, 6, 4)}
    """
    logits = splitting.functional(model).outputs[0]
    outputs = {"logits": logits}
    producers = splitting.producers(model)
    classifier, (x, *_) = producers[id(logits)]
    if last_dense(model) is classifier:
        while isinstance(producers[id(x)][0], keras.layers.Dropout):
            x = producers[id(x)][1][0]
        outputs["embedding"] = x
        pool, inputs = producers[id(x)]
        if isinstance(pool, keras.layers.GlobalAveragePooling2D):
            outputs["feature_map"] = inputs[0]
    return keras.Model(splitting.inputs(model), outputs, name=model.name)


def last_dense(model: keras.Model) -> keras.layers.Dense | None:
    """Return the Dense layer that makes the logits of a model, if one does."""
    output = splitting.functional(model).outputs[0]
    layer, inputs = splitting.producers(model)[id(output)]
    is_dense = type(layer) is keras.layers.Dense and len(inputs[0].shape) == 2
    return layer if is_dense else None
