"""Attach a new classifier to a backbone."""

from collections.abc import Sequence

import keras

from keras_tl import errors
from keras_tl.models import splitting


def attach(
    backbone: keras.Model, num_classes: int, *, dropout: float = 0.2
) -> keras.Model:
    """Attach a linear classifier to `backbone`: pool, dropout, logits.

    Args:
        backbone: Model to features `(batch, rows, columns, channels)`, of which the
            mean over rows and columns is taken, `(batch, steps, channels)`, of which
            the mean over steps is taken, or `(batch, channels)`.
        num_classes: Width of the new output.
        dropout: Fraction of the pooled features dropped in training, in [0, 1).

    Returns:
        A flat, uncompiled `keras.Model` from the backbone's input to `logits`: float32
        `(batch, num_classes)` under every precision policy, without softmax (losses
        take `from_logits=True`). It shares the layers of `backbone`. The new layers
        are `pool`, `dropout` and `logits`.

    >>> backbone = keras.Sequential([keras.Input((8, 8, 3)), keras.layers.Conv2D(4, 3)])
    >>> attach(backbone, 10).output.shape
    (None, 10)
    """
    _check(num_classes, dropout)
    x = backbone.outputs[0]
    if len(x.shape) == 4:
        x = keras.layers.GlobalAveragePooling2D(name="pool")(x)
    elif len(x.shape) == 3:
        x = keras.layers.GlobalAveragePooling1D(name="pool")(x)
    return classify(backbone, x, num_classes, dropout)


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
        num_classes: Width of the new output.
        hidden: Width of each hidden layer.
        dropout: Fraction dropped before the logits in training, in [0, 1).

    Returns:
        As `attach`; the new layers are `flatten`, `hidden_1` and so on, `dropout` and
        `logits`.

    Reference:
        Simonyan and Zisserman, "Very deep convolutional networks", 2014,
        arXiv:1409.1556.

    >>> backbone = keras.Sequential([keras.Input((8, 8, 3)), keras.layers.Conv2D(4, 3)])
    >>> attach_mlp(backbone, 10, hidden=[32]).get_layer("hidden_1").units
    32
    """
    _check(num_classes, dropout)
    x = keras.layers.Flatten(name="flatten")(backbone.outputs[0])
    for number, units in enumerate(hidden, start=1):
        errors.check_at_least("hidden", units, 1)
        x = keras.layers.Dense(units, activation="relu", name=f"hidden_{number}")(x)
    return classify(backbone, x, num_classes, dropout)


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
            input and one output.
        num_classes: Width of the new output.
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


def _with_graph(model):
    """Return the functional model behind `model`; raise where there is none."""
    if isinstance(model, keras.Sequential):
        if not model.built:
            raise errors.InputError(
                f"`classifier` must be built: the sequential model {model.name!r} does "
                "not know its input yet. Call it once on a batch of images, or begin "
                "it with `keras.Input`."
            )
        # Rebuilt, since the graph of a model that was called has that batch's size.
        image = x = keras.Input(model.input_shape[1:])
        for layer in model.layers:
            x = layer(x)
        return keras.Model(image, x, name=model.name)
    if not hasattr(model, "_nodes_by_depth"):
        raise errors.InputError(
            f"`classifier` must be a functional model. {model.name!r} is of the class "
            f"{type(model).__name__}, whose layers are known only to its code. Build a "
            "functional model around the part that gives features: "
            "`x = keras.Input(...); keras.Model(x, part(x))`, then `heads.attach`."
        )
    return model


def classify(
    backbone: keras.Model, x: keras.KerasTensor, num_classes: int, dropout: float
) -> keras.Model:
    """Build the model from the input of `backbone` to `logits` on a vector `x` in it.

    Args:
        backbone: Model whose input and name the new one has.
        x: `(batch, features)`.
        num_classes: Width of the new output.
        dropout: Fraction of the features dropped in training, in [0, 1).
    """
    if dropout:
        # A model whose classifier is replaced may keep a layer of that name.
        taken = any(layer.name == "dropout" for layer in backbone.layers)
        name = "new_dropout" if taken else "dropout"
        x = keras.layers.Dropout(dropout, name=name)(x)
    # Softmax and losses lose their small differences in half precision.
    logits = keras.layers.Dense(num_classes, name="logits", dtype="float32")(x)
    return keras.Model(backbone.inputs[0], logits, name=backbone.name)


def _check(num_classes, dropout):
    if num_classes < 2:
        raise errors.expected("num_classes", "be at least 2", num_classes)
    if not 0 <= dropout < 1:
        raise errors.expected("dropout", "be in [0, 1)", dropout)
