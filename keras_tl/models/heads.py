"""Attach a new classifier to a backbone."""

from collections.abc import Sequence

import keras
import numpy as np

from keras_tl import errors
from keras_tl.models import freezing, splitting


def attach(
    backbone: keras.Model, num_classes: int, *, dropout: float = 0.2
) -> keras.Model:
    """Attach a linear classifier to `backbone`: pool, dropout, logits.

    Args:
        backbone: Model to features `(batch, rows, columns, channels)`, of which the
            mean over rows and columns is taken, `(batch, steps, channels)`, of which
            the mean over steps is taken, or `(batch, channels)`.
        num_classes: Width of the new output; 1 for a number to be predicted.
        dropout: Fraction of the pooled features dropped in training, in [0, 1).

    Returns:
        A flat, uncompiled `keras.Model` from the backbone's input to `logits`: float32
        `(batch, num_classes)` under every precision policy, without softmax (losses
        take `from_logits=True`). It shares the layers of `backbone`. The new layers
        are `pool`, `dropout` and `logits`, with the prefix `new_` where `backbone` has
        layers of such names.

    Raises:
        InputError: A value out of range, or a backbone without a graph or with several
            outputs.

    >>> backbone = keras.Sequential([keras.Input((8, 8, 3)), keras.layers.Conv2D(4, 3)])
    >>> attach(backbone, 10).output.shape
    (None, 10)
    """
    _check(num_classes, dropout)
    _check_graph(backbone, "backbone")
    prefix = _prefix(backbone)
    x = backbone.outputs[0]
    if len(x.shape) == 4:
        x = keras.layers.GlobalAveragePooling2D(name=_free(x, f"{prefix}pool"))(x)
    elif len(x.shape) == 3:
        x = keras.layers.GlobalAveragePooling1D(name=_free(x, f"{prefix}pool"))(x)
    return classify(backbone, x, num_classes, dropout, prefix=prefix)


def attach_mlp(
    backbone: keras.Model,
    num_classes: int,
    *,
    hidden: Sequence[int] = (4096, 4096),
    dropout: float = 0.5,
) -> keras.Model:
    """Attach hidden layers and a classifier to `backbone`.

    The head that VGG16 had on ImageNet, and that many articles put back: features
    flattened, ReLU layers, dropout before the logits. On small data it has far more
    weights than there is to learn from; `attach` is the better start.

    Args:
        backbone: Model from images to features `(batch, rows, columns, channels)`.
        num_classes: Width of the new output; 1 for a number to be predicted.
        hidden: Width of each hidden layer.
        dropout: Fraction dropped before the logits in training, in [0, 1).

    Returns:
        As `attach`; the new layers are `flatten`, `hidden_1` and so on, `dropout` and
        `logits`, or these with the prefix `new_`.

    Raises:
        InputError: As `attach`.

    Reference:
        Simonyan and Zisserman, "Very deep convolutional networks", 2014,
        arXiv:1409.1556.

    >>> backbone = keras.Sequential([keras.Input((8, 8, 3)), keras.layers.Conv2D(4, 3)])
    >>> attach_mlp(backbone, 10, hidden=[32]).get_layer("hidden_1").units
    32
    """
    _check(num_classes, dropout)
    _check_graph(backbone, "backbone")
    prefix = _prefix(backbone)
    x = backbone.outputs[0]
    x = keras.layers.Flatten(name=_free(x, f"{prefix}flatten"))(x)
    for number, units in enumerate(hidden, start=1):
        errors.check_at_least("hidden", units, 1)
        name = _free(x, f"{prefix}hidden_{number}")
        x = keras.layers.Dense(units, activation="relu", name=name)(x)
    return classify(backbone, x, num_classes, dropout, prefix=prefix)


def replace(
    classifier: keras.Model,
    num_classes: int,
    *,
    at: str | None = None,
    dropout: float = 0.0,
) -> keras.Model:
    """Replace the classifier of a trained model by a new one.

    Args:
        classifier: A functional model, or a sequential one that is built, with one
            output.
        num_classes: Width of the new output; 1 for a number to be predicted.
        at: Name of the layer after which to cut. `None` cuts before the last layer
            that has weights: the features that the old classifier saw.
        dropout: Fraction of the features dropped in training, in [0, 1).

    Returns:
        An uncompiled model from the old input to new `logits`. It shares the layers up
        to the cut, trainable or not as they are; a feature map is pooled first.

    Raises:
        InputError: A model without a graph, with what to do; or an unknown layer.

    >>> old = keras.Sequential([keras.Input((4,)), *map(keras.layers.Dense, (8, 1000))])
    >>> replace(old, 10).count_params()
    130
    """
    _check(num_classes, dropout)
    _check_graph(classifier, "classifier")
    model = _with_graph(classifier)
    outputs = splitting.outputs(model)
    if at is None:
        weighted = [
            inputs[0]
            for operation, inputs, _ in splitting.nodes(model)
            if getattr(operation, "weights", None)
        ]
        if not weighted:
            raise errors.expected(
                "classifier", "have a layer with weights to replace", model.name
            )
        x = weighted[-1]
    elif at in outputs:
        x = outputs[at]
    else:
        raise errors.unknown("at", at, outputs)
    return classify(model, vector(x), num_classes, dropout)


def widen(model: keras.Model, num_classes: int) -> keras.Model:
    """Add classes to the head of a trained classifier, which keeps its old logits.

    The weights of the old classes are copied bit for bit; those of the new ones are 0,
    so that their logits are. The old logits of a batch are those of before, bit for
    bit; of one image alone, a processor may add up a head of hundreds of classes in
    another order.

    Args:
        model: A functional model whose last layer is Dense and gives logits.
        num_classes: Width of the output; not less than it is.

    Returns:
        An uncompiled model, which shares all layers but the last, trainable or not as
        they are; `model` itself where it has so many classes already.

    Raises:
        InputError: A model that ends otherwise, or fewer classes than it has.

    >>> old = keras.Sequential([keras.Input((4,)), *map(keras.layers.Dense, (8, 2))])
    >>> widen(old, 5).output.shape
    (None, 5)
    """
    _check_graph(model, "model")
    layer, inputs, _ = splitting.nodes(model)[-1]
    if type(layer) is not keras.layers.Dense or len(inputs[0].shape) != 2:
        raise errors.expected(
            "model",
            "end in a Dense layer on a vector of features",
            f"{model.name}, which ends in {layer.name} ({type(layer).__name__})",
        )
    errors.check_at_least("num_classes", num_classes, layer.units)
    if num_classes == layer.units:
        return model
    wider = keras.layers.Dense.from_config(
        {**layer.get_config(), "units": num_classes, "kernel_initializer": "zeros"}
    )
    logits = wider(inputs[0])
    more = num_classes - layer.units
    wider.set_weights(
        [
            np.pad(weight, [(0, 0)] * (weight.ndim - 1) + [(0, more)])
            for weight in layer.get_weights()
        ]
    )
    return keras.Model(splitting.inputs(model), logits, name=model.name)


def pool(backbone: keras.Model) -> keras.Model:
    """Return a backbone whose output is a vector: the mean of its feature map.

    >>> map_of = keras.Sequential([keras.Input((8, 8, 3)), keras.layers.Conv2D(4, 3)])
    >>> pool(map_of).output.shape, pool(map_of).layers[-1].name
    ((None, 4), 'pool')
    """
    _check_graph(backbone, "backbone")
    x = vector(backbone.outputs[0])
    return keras.Model(splitting.inputs(backbone), x, name=backbone.name)


def vector(x: keras.KerasTensor, prefix: str = "") -> keras.KerasTensor:
    """Reduce features to a vector: average feature maps, flatten anything else.

    Args:
        x: Output of a layer, of any shape.
        prefix: Prefix of the name of the layer that is added, `pool` or `flatten`.
    """
    if len(x.shape) == 4:
        return keras.layers.GlobalAveragePooling2D(name=f"{prefix}pool")(x)
    if len(x.shape) > 2:
        return keras.layers.Flatten(name=f"{prefix}flatten")(x)
    return x


def _prefix(backbone) -> str:
    """Return a prefix with which no weights of `backbone` count as those of a head."""
    layers = [layer for layer in freezing.leaves(backbone) if layer.weights]
    prefix = ""
    while any(freezing.is_of_head(layer, prefix) for layer in layers):
        prefix += "new_"
    return prefix


def _check_graph(model, argument):
    """Raise `InputError` for a model to which nothing can be attached."""
    if isinstance(model, keras.Sequential) and not model.built:
        raise errors.InputError(
            f"`{argument}` must be built: the sequential model {model.name!r} does "
            "not know its input yet. Call it once on a batch of images, or begin "
            "it with `keras.Input`."
        )
    if not splitting.has_graph(model):
        raise errors.InputError(
            f"`{argument}` must be a functional model. {model.name!r} is of the class "
            f"{type(model).__name__}, whose layers are known only to its code. Build a "
            "functional model around the part that gives features: "
            "`x = keras.Input(...); keras.Model(x, part(x))`, then `heads.attach`."
        )
    splitting.check_single_output(model)


def _with_graph(classifier):
    """Return the functional model behind `classifier`."""
    if not isinstance(classifier, keras.Sequential):
        return classifier
    # Rebuilt, since the graph of a model that was called has that batch's size.
    image = x = keras.Input(classifier.input_shape[1:])
    for layer in classifier.layers:
        x = layer(x)
    return keras.Model(image, x, name=classifier.name)


def classify(
    backbone: keras.Model,
    x: keras.KerasTensor,
    num_classes: int,
    dropout: float,
    *,
    prefix: str = "",
) -> keras.Model:
    """Build the model from the input of `backbone` to `logits` on a vector `x` in it.

    Args:
        backbone: Model whose input and name the new one has.
        x: `(batch, features)`.
        num_classes: Width of the new output; 1 for a number to be predicted.
        dropout: Fraction of the features dropped in training, in [0, 1).
        prefix: Prefix of the names of the new layers.
    """
    if dropout:
        x = keras.layers.Dropout(dropout, name=_free(x, f"{prefix}dropout"))(x)
    # Softmax and losses lose their small differences in half precision.
    name = _free(x, f"{prefix}logits")
    logits = keras.layers.Dense(num_classes, name=name, dtype="float32")(x)
    return keras.Model(splitting.inputs(backbone), logits, name=backbone.name)


def _free(x, name) -> str:
    """Return a name that no operation that leads to `x` has."""
    seen, tensors = set(), [x]
    while tensors:
        operation = tensors.pop()._keras_history.operation
        if id(operation) not in seen:
            seen.add(id(operation))
            tensors += [
                tensor
                for node in operation._inbound_nodes
                for tensor in node.input_tensors
            ]
            if operation.name == name:
                return _free(x, f"new_{name}")
    return name


def _check(num_classes, dropout):
    errors.check_at_least("num_classes", num_classes, 1)
    if not 0 <= dropout < 1:
        raise errors.expected("dropout", "be in [0, 1)", dropout)
