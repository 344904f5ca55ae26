"""Pretrained backbones, and the facts that travel with their weights."""

import functools
import importlib
import os
from dataclasses import dataclass
from pathlib import Path

import keras

from keras_tl import errors
from keras_tl.models import efficientnet_lite

IMAGENET_MEAN = (0.485, 0.456, 0.406)
IMAGENET_STD = (0.229, 0.224, 0.225)

# How raw RGB pixels in [0, 255] become what the weights were trained on: the channel
# order, then `scale * x + offset` per channel. The names are those of Keras's
# `imagenet_utils.preprocess_input`; "lite" is EfficientNet-Lite's.
PREPROCESSING = {
    "tf": ("RGB", 1 / 127.5, -1.0),
    "torch": (
        "RGB",
        [1 / (255 * std) for std in IMAGENET_STD],
        [-mean / std for mean, std in zip(IMAGENET_MEAN, IMAGENET_STD, strict=True)],
    ),
    "caffe": ("BGR", 1.0, [-103.939, -116.779, -123.68]),
    "lite": ("RGB", 1 / 128, -127 / 128),
    "none": ("RGB", 1.0, 0.0),
}


@dataclass(frozen=True)
class Backbone:
    """What has to be known of a backbone besides its layers.

    Attributes:
        name: The name that `load` takes, and the name of the model it gives.
        constructor: Name in `keras.applications`, or `None` for the embedded one.
        preprocessing: Key of `PREPROCESSING` its ImageNet weights were trained with.
        native_size: Side in pixels of the images it was trained on.
        smallest_size: Smallest side it takes.
        stride: Pixels of the image per cell of the final feature map.
        block: Regular expression; its first group names the block of a layer.
        licence: Licence of the weights, where one is stated.
        source: Where the weights come from.
        alphas: Widths with ImageNet weights; `()` where the width is fixed.
    """

    name: str
    constructor: str | None
    preprocessing: str
    native_size: int
    smallest_size: int
    stride: int
    block: str
    licence: str
    source: str
    alphas: tuple[float, ...] = ()


_KERAS = "https://keras.io/api/applications/"

BACKBONES = {
    backbone.name: backbone
    for backbone in [
        Backbone(
            name="efficientnet_lite0",
            constructor=None,
            preprocessing="lite",
            native_size=224,
            smallest_size=32,
            stride=32,
            block=r"(block\d[a-d])_",
            licence="Apache-2.0",
            source="travels with keras-tl, see keras_tl/assets/efficientnet_lite0",
        ),
        Backbone(
            name="vgg16",
            constructor="VGG16",
            preprocessing="caffe",
            native_size=224,
            smallest_size=32,
            stride=32,
            block=r"(block\d)_",
            licence="CC BY 4.0",
            source=_KERAS + "vgg/, ported from the Oxford Visual Geometry Group",
        ),
        Backbone(
            name="resnet50",
            constructor="ResNet50",
            preprocessing="caffe",
            native_size=224,
            smallest_size=32,
            stride=32,
            block=r"(conv\d_block\d)_",
            licence="MIT",
            source=_KERAS + "resnet/, ported from Kaiming He's models",
        ),
        Backbone(
            name="mobilenet_v2",
            constructor="MobileNetV2",
            preprocessing="tf",
            native_size=224,
            smallest_size=32,
            stride=32,
            block=r"(block_\d+)_",
            licence="Apache-2.0",
            source=_KERAS + "mobilenet/",
            alphas=(0.35, 0.5, 0.75, 1.0, 1.3, 1.4),
        ),
        Backbone(
            name="mobilenet",
            constructor="MobileNet",
            preprocessing="tf",
            native_size=224,
            smallest_size=32,
            stride=32,
            block=r"conv_(?:dw|pad|pw)_(\d+)(?:_|$)",
            licence="Apache-2.0",
            source=_KERAS + "mobilenet/",
            alphas=(0.25, 0.5, 0.75, 1.0),
        ),
    ]
}


def load(
    name: str,
    *,
    weights: str | Path | None = "imagenet",
    image_size: int = 224,
    preprocessing: str | None = None,
    alpha: float | None = None,
) -> keras.Model:
    """Load a backbone without its classifier.

    The model is functional and flat: preprocessing, then every layer of the backbone,
    each within reach of `model.get_layer`. Nothing is frozen yet.

    Args:
        name: A key of `BACKBONES`.
        weights: "imagenet", `None` for random weights, or a file that the same
            architecture's `save_weights` wrote (`.weights.h5` or `.h5`).
        image_size: Side of the square images, in pixels.
        preprocessing: A key of `PREPROCESSING`, when the weights in a file were
            trained under another contract than the backbone's own: torchvision's
            VGG16, for instance, under "torch".
        alpha: Width multiplier, for MobileNet and MobileNetV2. `None` means 1.

    Returns:
        A `keras.Model` from raw images `(batch, image_size, image_size, 3)`, RGB in
        [0, 255], to features `(batch, rows, columns, channels)`.

    Raises:
        InputError: An unknown name, an image too small, or weights that cannot be
            had or do not fit.

    >>> load("efficientnet_lite0", image_size=96).output.shape
    (None, 3, 3, 1280)
    """
    backbone = find(name)
    check_image_size(name, image_size)
    contract = preprocessing or backbone.preprocessing
    if contract not in PREPROCESSING:
        raise errors.unknown("preprocessing", contract, PREPROCESSING)
    if alpha is not None and not backbone.alphas:
        raise errors.expected("alpha", f"be left out: {name} has one width", alpha)
    if weights == "imagenet" and alpha not in (None, *backbone.alphas):
        raise errors.expected(
            "alpha", f"be one of {backbone.alphas} to have ImageNet weights", alpha
        )

    image = keras.Input((image_size, image_size, 3), name="image")
    x = preprocess(image, contract)
    if backbone.constructor is None:
        model = keras.Model(image, efficientnet_lite.efficientnet_lite0(x), name=name)
        if weights == "imagenet":
            efficientnet_lite.load_embedded_weights(model)
    else:
        build = functools.partial(
            getattr(keras.applications, backbone.constructor),
            include_top=False,
            **({"alpha": alpha or 1.0} if backbone.alphas else {}),
        )
        shape = (image_size, image_size, 3)
        layers = build(weights=None, input_tensor=x, input_shape=shape)
        model = keras.Model(image, layers.output, name=name)
        if weights == "imagenet":
            model.set_weights(_imagenet_weights(name, build))
    if weights not in ("imagenet", None):
        _load_file(model, Path(weights))
    _warn_of_few_cells(model, backbone, image_size)
    return model


def find(name: str) -> Backbone:
    """Look up the facts about a backbone.

    Raises:
        InputError: There is none of that name; the nearest are named.
    """
    if name not in BACKBONES:
        raise errors.unknown("backbone", name, BACKBONES)
    return BACKBONES[name]


def check_image_size(name: str, image_size: int) -> None:
    """Raise `InputError` for an image that is too small for a backbone."""
    backbone = find(name)
    if image_size < backbone.smallest_size:
        raise errors.expected(
            "image_size",
            f"be at least {backbone.smallest_size}, the smallest {name} takes",
            image_size,
        )


def _warn_of_few_cells(model, backbone, image_size):
    # What is left of an image in a map of 1x1 cells has lost its layout: CIFAR-10 at 32
    # pixels in VGG16 scores far below the same images scaled up.
    cells = model.output.shape[1]
    if cells < 3:
        errors.warn(
            f"At {image_size} pixels the last feature map of {backbone.name} has only "
            f"{cells}x{cells} cells; images of {3 * backbone.stride} pixels give at "
            "least 3x3 and usually a much better accuracy."
        )


def preprocess(image: keras.KerasTensor, contract: str) -> keras.KerasTensor:
    """Put a preprocessing contract into the graph, as plain operations and layers.

    Args:
        image: Raw RGB `(batch, height, width, 3)` in [0, 255].
        contract: A key of `PREPROCESSING`.
    """
    order, scale, offset = PREPROCESSING[contract]
    if order == "BGR":
        image = keras.ops.flip(image, axis=-1)
    return keras.layers.Rescaling(scale, offset, name="preprocess")(image)


def _imagenet_weights(name, build):
    """Fetch the ImageNet weights through Keras, or say what would have to be where."""
    wanted = {}
    module = importlib.import_module(build.func.__module__)
    get_file = module.file_utils.get_file

    def remember(file_name, origin, cache_subdir="", file_hash=None, **options):
        wanted.update(name=file_name, folder=cache_subdir, hash=file_hash)
        return get_file(
            file_name, origin, cache_subdir=cache_subdir, file_hash=file_hash, **options
        )

    module.file_utils.get_file = remember
    try:
        shape = (find(name).native_size, find(name).native_size, 3)
        return build(weights="imagenet", input_shape=shape).get_weights()
    except Exception as error:  # Whatever the download ran into.
        if not wanted:
            raise
        home = Path(os.environ.get("KERAS_HOME", "~/.keras")).expanduser()
        checked = f" (md5 {wanted['hash']})" if wanted["hash"] else ""
        raise errors.InputError(
            f"The ImageNet weights of {name} could not be had: {error} Wanted is the "
            f"file {wanted['name']}{checked}; put it into "
            f"{home / wanted['folder']} to work offline. "
            "The backbone efficientnet_lite0 needs no download."
        ) from error
    finally:
        module.file_utils.get_file = get_file


def _load_file(model, path):
    if not path.is_file():
        raise errors.expected("weights", "be 'imagenet' or an existing file", str(path))
    if not path.name.endswith((".weights.h5", ".h5")):
        raise errors.expected(
            "weights", "be a file that ends in .weights.h5 or .h5", str(path)
        )
    try:
        model.load_weights(path)
    except Exception as error:
        raise errors.InputError(
            f"`weights` must fit {model.name} without its classifier. {path} does "
            f"not: {str(error).splitlines()[0]}"
        ) from error
