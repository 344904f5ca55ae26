"""EfficientNet-Lite0, the backbone whose ImageNet weights travel with the package."""

from pathlib import Path
from zipfile import BadZipFile

import keras
import numpy as np
from keras import layers

from keras_tl import errors

ASSET = Path(__file__).parents[1] / "assets" / "efficientnet_lite0" / "weights.npz"

# repeats, kernel size, strides of the first block, expansion, output channels
STAGES = [
    (1, 3, 1, 1, 16),
    (2, 3, 2, 6, 24),
    (2, 5, 2, 6, 40),
    (3, 3, 2, 6, 80),
    (3, 5, 1, 6, 112),
    (4, 5, 2, 6, 192),
    (1, 3, 1, 6, 320),
]


def efficientnet_lite0(inputs: keras.KerasTensor) -> keras.KerasTensor:
    """Build EfficientNet-Lite0 without its classifier, with random weights.

    Against EfficientNet-B0 it has no squeeze-and-excitation and ReLU6 in place of
    swish, so that it quantizes well and runs on phones. Layers are named as in
    `keras.applications.EfficientNetB0`: `block1a_...` to `block7a_...`.

    Args:
        inputs: Preprocessed images `(batch, height, width, 3)`, (x - 127) / 128.

    Returns:
        Features `(batch, ceil(height / 32), ceil(width / 32), 1280)` in [0, 6].

    Reference:
        Tan and Le, "EfficientNet", 2019, arXiv:1905.11946; the Lite variants:
        https://github.com/tensorflow/tpu/tree/master/models/official/efficientnet/lite
    """
    x = _convolution(inputs, 32, 3, 2, "stem")
    for stage, (repeats, kernel_size, strides, expansion, channels) in enumerate(
        STAGES, start=1
    ):
        for repeat in range(repeats):
            x = _inverted_residual(
                x,
                channels,
                kernel_size,
                strides if repeat == 0 else 1,
                expansion,
                name=f"block{stage}{'abcd'[repeat]}",
            )
    return _convolution(x, 1280, 1, 1, "top")


def _inverted_residual(x, channels, kernel_size, strides, expansion, name):
    shortcut = x
    if expansion != 1:
        x = _convolution(x, x.shape[-1] * expansion, 1, 1, f"{name}_expand")
    x = layers.DepthwiseConv2D(
        kernel_size, strides, "same", use_bias=False, name=f"{name}_dwconv"
    )(x)
    x = layers.BatchNormalization(epsilon=1e-3, name=f"{name}_bn")(x)
    x = layers.ReLU(6.0, name=f"{name}_relu")(x)
    x = layers.Conv2D(channels, 1, use_bias=False, name=f"{name}_project_conv")(x)
    x = layers.BatchNormalization(epsilon=1e-3, name=f"{name}_project_bn")(x)
    if x.shape[-1] == shortcut.shape[-1] and strides == 1:
        x = layers.Add(name=f"{name}_add")([x, shortcut])
    return x


def _convolution(x, channels, kernel_size, strides, name):
    x = layers.Conv2D(
        channels, kernel_size, strides, "same", use_bias=False, name=f"{name}_conv"
    )(x)
    x = layers.BatchNormalization(epsilon=1e-3, name=f"{name}_bn")(x)
    return layers.ReLU(6.0, name=f"{name}_relu")(x)


def load_embedded_weights(model: keras.Model) -> None:
    """Load the ImageNet weights inside the package into `model`.

    They are stored as float16 and used as float32. The asset's README says where
    they come from and how to make them again.

    Args:
        model: A model that holds every layer of `efficientnet_lite0`.

    Raises:
        InputError: The asset is damaged.
    """
    try:
        with open(ASSET, "rb") as file:
            arrays = np.load(file, allow_pickle=False)
            weights = {name: arrays[name].astype("float32") for name in arrays.files}
    except (OSError, ValueError, EOFError, AttributeError, BadZipFile) as error:
        raise errors.InputError(
            f"The embedded weights {ASSET} cannot be read ({error}). "
            "Install keras-tl again."
        ) from error
    for name, value in weights.items():
        layer, variable = name.split("/")
        getattr(model.get_layer(layer), variable).assign(value)
