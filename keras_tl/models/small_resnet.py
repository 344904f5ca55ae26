"""A small residual network for images of 32 pixels: what pre-training begins with."""

import keras
from keras import layers

# Number of channels of each block.
WIDTHS = (32, 64, 128)


def small_resnet(x: keras.KerasTensor) -> keras.KerasTensor:
    """Add a residual network of one block a stage, with random weights.

    A convolution, then three blocks of two convolutions with batch normalization and a
    skip connection, of which all but the first halve the image: the network of 8 layers
    of the paper's section 4.2, with wider stages and projections.

    Args:
        x: Preprocessed images, `(batch, height, width, 3)`.

    Returns:
        Its last feature map, `(batch, height / 4, width / 4, 128)`.

    Reference:
        He et al., "Deep residual learning for image recognition", 2015,
        arXiv:1512.03385.

    >>> small_resnet(keras.Input((32, 32, 3))).shape
    (None, 8, 8, 128)
    """
    x = _convolution(x, WIDTHS[0], "stem")
    for number, width in enumerate(WIDTHS, start=1):
        x = _block(x, width, 1 if number == 1 else 2, f"block{number}")
    return x


def _block(x, width, strides, name):
    """Add two convolutions, and what they change to what there was."""
    changed = _convolution(x, width, f"{name}_1", strides)
    changed = _convolution(changed, width, f"{name}_2", activation=False)
    if strides != 1 or x.shape[-1] != width:
        skip = layers.Conv2D(
            width, 1, strides, use_bias=False, name=f"{name}_skip_conv"
        )(x)
        x = _normalization(f"{name}_skip_bn")(skip)
    x = layers.Add(name=f"{name}_add")([x, changed])
    return layers.ReLU(name=f"{name}_relu")(x)


def _convolution(x, width, name, strides=1, *, activation=True):
    """Add a convolution with batch normalization and, where asked, ReLU."""
    x = layers.Conv2D(
        width, 3, strides, padding="same", use_bias=False, name=f"{name}_conv"
    )(x)
    x = _normalization(f"{name}_bn")(x)
    return layers.ReLU(name=f"{name}_relu")(x) if activation else x


def _normalization(name):
    # Few images are few steps: Keras's momentum of 0.99 would need some hundred of them
    # until the statistics of validation are those of training.
    return layers.BatchNormalization(momentum=0.9, name=name)
