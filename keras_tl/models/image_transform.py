"""A network from images to pictures of the same size, for style transfer."""

import keras
import numpy as np
from keras import layers

from keras_tl import errors

# The picture is halved twice: its sides have to be multiples of this.
STRIDE = 4


def load(width: int = 16, blocks: int = 3) -> keras.Model:
    """Build an image transformation network with random weights.

    Convolutions that halve the image twice, residual blocks, and convolutions behind
    nearest-neighbour upsampling, each with instance normalization; borders are
    reflected. The paper has a width of 32 and 5 blocks, and learned upsampling, which
    leaves checkerboards.

    Args:
        width: Channels of the first layer; the blocks have four times as many.
        blocks: Number of residual blocks.

    Returns:
        A `keras.Model` from images `(batch, height, width, 3)`, RGB in [0, 255], whose
        sides are multiples of 4, to pictures of the same shape and range.

    Reference:
        Johnson et al., 2016, arXiv:1603.08155, with instance normalization as in
        Ulyanov et al., 2016, arXiv:1607.08022.

    >>> load().count_params()
    276131
    """
    errors.check_at_least("width", width, 1)
    errors.check_at_least("blocks", blocks, 0)
    image = keras.Input((None, None, 3), name="image")
    x = layers.Rescaling(1 / 127.5, -1, name="preprocess")(image)
    x = _convolution(x, width, 9, "down1")
    x = _convolution(x, 2 * width, 3, "down2", strides=2)
    x = _convolution(x, 4 * width, 3, "down3", strides=2)
    for number in range(1, blocks + 1):
        changed = _convolution(x, 4 * width, 3, f"block{number}_1")
        changed = _convolution(changed, 4 * width, 3, f"block{number}_2", relu=False)
        x = layers.Add(name=f"block{number}_add")([x, changed])
    for number, channels in enumerate((2 * width, width), start=1):
        x = layers.UpSampling2D(name=f"up{number}")(x)
        x = _convolution(x, channels, 3, f"up{number}")
    x = _padded(x, 9)
    x = layers.Conv2D(3, 9, activation="sigmoid", dtype="float32", name="picture")(x)
    x = layers.Rescaling(255.0, dtype="float32", name="pixels")(x)
    return keras.Model(image, x, name="image_transform")


def _convolution(x, channels, size, name, *, strides=1, relu=True):
    x = layers.Conv2D(channels, size, strides, use_bias=False, name=f"{name}_conv")(
        _padded(x, size)
    )
    x = layers.GroupNormalization(groups=-1, epsilon=1e-5, name=f"{name}_norm")(x)
    return layers.ReLU(name=f"{name}_relu")(x) if relu else x


def _padded(x, size):
    around = (size // 2, size // 2)
    return keras.ops.pad(x, [(0, 0), around, around, (0, 0)], mode="reflect")


def apply(model: keras.Model, image: np.ndarray) -> np.ndarray:
    """Change one image of any size.

    Args:
        model: What `load` returned, trained.
        image: `(height, width, 3)`, RGB in [0, 255].

    Returns:
        uint8 `(height, width, 3)`.
    """
    height, width = image.shape[:2]
    around = ((0, -height % STRIDE), (0, -width % STRIDE), (0, 0))
    padded = np.pad(np.asarray(image, "float32"), around, mode="edge")
    picture = keras.ops.convert_to_numpy(model(padded[None], training=False))[0]
    return np.rint(picture[:height, :width]).clip(0, 255).astype("uint8")
