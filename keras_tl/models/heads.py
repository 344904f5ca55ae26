"""Put a new classifier on a backbone."""

from collections.abc import Sequence

import keras

from keras_tl import errors


def attach(
    backbone: keras.Model, num_classes: int, *, dropout: float = 0.2
) -> keras.Model:
    """Put a linear classifier on top of `backbone`: pool, dropout, logits.

    Args:
        backbone: Model from images to features `(batch, rows, columns, channels)`.
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
    x = keras.layers.GlobalAveragePooling2D(name="pool")(backbone.outputs[0])
    return _classify(backbone, x, num_classes, dropout)


def attach_mlp(
    backbone: keras.Model,
    num_classes: int,
    *,
    hidden: Sequence[int] = (4096, 4096),
    dropout: float = 0.5,
) -> keras.Model:
    """Put hidden layers and a classifier on top of `backbone`.

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
    return _classify(backbone, x, num_classes, dropout)


def _classify(backbone, x, num_classes, dropout):
    if dropout:
        x = keras.layers.Dropout(dropout, name="dropout")(x)
    # Softmax and losses lose their small differences in half precision.
    logits = keras.layers.Dense(num_classes, name="logits", dtype="float32")(x)
    return keras.Model(backbone.inputs[0], logits, name=backbone.name)


def _check(num_classes, dropout):
    if num_classes < 2:
        raise errors.expected("num_classes", "be at least 2", num_classes)
    if not 0 <= dropout < 1:
        raise errors.expected("dropout", "be in [0, 1)", dropout)
