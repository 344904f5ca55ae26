"""A small residual network for images of 32 pixels: what pre-training begins with."""

import keras
from keras import layers

from keras_tl import environment, errors


def small_resnet(
    *, image_size: int = 32, widths: tuple[int, ...] = (32, 64, 128)
) -> keras.Model:
    """Build a residual network of one block a stage, with random weights.

    A convolution, then for each width a block of two convolutions with batch
    normalization and a skip connection, of which all but the first halve the image: the
    network of 8 layers of the paper's section 4.2, with wider stages and projections.

    Args:
        image_size: Side of the square images, in pixels, at least 8.
        widths: Number of channels of each block.

    Returns:
        A model from raw images `(batch, image_size, image_size, 3)`, RGB in [0, 255],
        to the mean of its last feature map, `(batch, widths[-1])`, the layer "pool".

    Reference:
        He et al., "Deep residual learning for image recognition", 2015,
        arXiv:1512.03385.

    >>> small_resnet().output.shape
    (None, 128)
    """
    image_size = errors.side("image_size", image_size, 8)
    environment.use_standard_keras()
    image = keras.Input((image_size, image_size, 3), name="image")
    x = layers.Rescaling(1 / 127.5, -1.0, name="preprocess")(image)
    x = _convolution(x, widths[0], "stem")
    for number, width in enumerate(widths, start=1):
        x = _block(x, width, 1 if number == 1 else 2, f"block{number}")
    x = layers.GlobalAveragePooling2D(name="pool")(x)
    return keras.Model(image, x, name="small_resnet")


def _block(x, width, strides, name):
    """Add two convolutions, and what they change to what there was."""
    changed = _convolution(x, width, f"{name}_1", strides)
    changed = _convolution(changed, width, f"{name}_2", activation=False)
    if strides != 1 or x.shape[-1] != width:
        skip = layers.Conv2D(
            width, 1, strides, use_bias=False, name=f"{name}_skip_conv"
        )(x)
        x = layers.BatchNormalization(name=f"{name}_skip_bn")(skip)
    x = layers.Add(name=f"{name}_add")([x, changed])
    return layers.ReLU(name=f"{name}_relu")(x)


def _convolution(x, width, name, strides=1, *, activation=True):
    """Add a convolution with batch normalization and, where asked, ReLU."""
    x = layers.Conv2D(
        width, 3, strides, padding="same", use_bias=False, name=f"{name}_conv"
    )(x)
    x = layers.BatchNormalization(name=f"{name}_bn")(x)
    return layers.ReLU(name=f"{name}_relu")(x) if activation else x
