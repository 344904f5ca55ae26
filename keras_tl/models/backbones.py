"""Pretrained backbones, and the facts that travel with their weights."""

import functools
import inspect
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
# `imagenet_utils.preprocess_input`; "lite" is EfficientNet-Lite's, "none" is for
# backbones that begin with layers of their own for it.
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
        roomy_size: Side from which on the last feature map has at least 3x3 cells.
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
    roomy_size: int
    block: str
    licence: str
    source: str
    alphas: tuple[float, ...] = ()


_KERAS = "https://keras.io/api/applications/"


def _family(
    page: str,
    members: dict[str, tuple[str, int]],
    *,
    preprocessing: str,
    block: str,
    licence: str,
    smallest_size: int = 32,
    roomy_size: int = 96,
    alphas: tuple[float, ...] = (),
) -> list[Backbone]:
    """Describe the members of a family: name -> constructor and native size."""
    return [
        Backbone(
            name=name,
            constructor=constructor,
            preprocessing=preprocessing,
            native_size=native_size,
            smallest_size=smallest_size,
            roomy_size=roomy_size,
            block=block,
            licence=licence,
            source=f"{_KERAS}{page}/",
            alphas=alphas,
        )
        for name, (constructor, native_size) in members.items()
    ]


_FAMILIES = [
    [
        Backbone(
            name="efficientnet_lite0",
            constructor=None,
            preprocessing="lite",
            native_size=224,
            smallest_size=32,
            roomy_size=96,
            block=r"(block\d[a-d])_",
            licence="Apache-2.0",
            source="travels with keras-tl, see keras_tl/assets/efficientnet_lite0",
        )
    ],
    _family(
        "vgg",
        {"vgg16": ("VGG16", 224), "vgg19": ("VGG19", 224)},
        preprocessing="caffe",
        block=r"(block\d)_",
        licence="CC BY 4.0",
    ),
    _family(
        "resnet",
        {f"resnet{depth}": (f"ResNet{depth}", 224) for depth in (50, 101, 152)},
        preprocessing="caffe",
        block=r"(conv\d_block\d+)_",
        licence="MIT",
    ),
    _family(
        "resnet",
        {f"resnet{depth}_v2": (f"ResNet{depth}V2", 224) for depth in (50, 101, 152)},
        preprocessing="tf",
        block=r"(conv\d_block\d+)_",
        licence="MIT",
    ),
    _family(
        "mobilenet",
        {"mobilenet": ("MobileNet", 224)},
        preprocessing="tf",
        block=r"conv_(?:dw|pad|pw)_(\d+)(?:_|$)",
        licence="Apache-2.0",
        alphas=(0.25, 0.5, 0.75, 1.0),
    ),
    _family(
        "mobilenet",
        {"mobilenet_v2": ("MobileNetV2", 224)},
        preprocessing="tf",
        block=r"(block_\d+)_",
        licence="Apache-2.0",
        alphas=(0.35, 0.5, 0.75, 1.0, 1.3, 1.4),
    ),
    _family(
        "mobilenet",
        {
            "mobilenet_v3_small": ("MobileNetV3Small", 224),
            "mobilenet_v3_large": ("MobileNetV3Large", 224),
        },
        preprocessing="none",
        block=r"(expanded_conv(?:_\d+)?)_[a-z]",
        licence="Apache-2.0",
        alphas=(0.75, 1.0),
    ),
    _family(
        "densenet",
        {f"densenet{depth}": (f"DenseNet{depth}", 224) for depth in (121, 169, 201)},
        preprocessing="torch",
        block=r"(conv\d_block\d+)_",
        licence="BSD-3-Clause",
    ),
    _family(
        "efficientnet",
        {
            f"efficientnet_b{number}": (f"EfficientNetB{number}", size)
            for number, size in enumerate((224, 240, 260, 300, 380, 456, 528, 600))
        },
        preprocessing="none",
        block=r"(block\d[a-z])_",
        licence="Apache-2.0",
    ),
    _family(
        "efficientnet_v2",
        {
            f"efficientnet_v2_{kind.lower()}": (f"EfficientNetV2{kind}", size)
            for kind, size in {
                **{"B0": 224, "B1": 240, "B2": 260, "B3": 300},
                **{"S": 384, "M": 480, "L": 480},
            }.items()
        },
        preprocessing="none",
        block=r"(block\d[a-z]+)_",
        licence="Apache-2.0",
    ),
    _family(
        "convnext",
        {
            f"convnext_{kind.lower()}": (f"ConvNeXt{kind}", 224)
            for kind in ("Tiny", "Small", "Base", "Large", "XLarge")
        },
        preprocessing="none",
        block=r".*?(stage_\d_block_\d+)_",
        licence="not stated by Keras",
    ),
    _family(
        "nasnet",
        {"nasnet_mobile": ("NASNetMobile", 224), "nasnet_large": ("NASNetLarge", 331)},
        preprocessing="tf",
        block=r"(?:normal|reduction)_concat_(\w+)$",
        licence="Apache-2.0",
    ),
    _family(
        "inceptionv3",
        {"inception_v3": ("InceptionV3", 299)},
        preprocessing="tf",
        block=r"(mixed\d+)$",
        licence="Apache-2.0",
        smallest_size=75,
        roomy_size=139,
    ),
    _family(
        "inceptionresnetv2",
        {"inception_resnet_v2": ("InceptionResNetV2", 299)},
        preprocessing="tf",
        block=r"(mixed_\d\w|block\d+_\d+)",
        licence="Apache-2.0",
        smallest_size=75,
        roomy_size=139,
    ),
    _family(
        "xception",
        {"xception": ("Xception", 299)},
        preprocessing="tf",
        block=r"(block\d+)_",
        licence="not stated by Keras",
        smallest_size=71,
    ),
]
BACKBONES = {backbone.name: backbone for family in _FAMILIES for backbone in family}


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
        name: A key of `BACKBONES`: all of `keras.applications`, and the embedded one.
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
    check(name, weights, image_size)
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
        load_weights(model, weights)
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


def check(name: str, weights: str | Path | None, image_size: int) -> None:
    """Raise `InputError` for what `load` would not take, before it is called."""
    backbone = find(name)
    if weights not in ("imagenet", None):
        _check_file(Path(weights))
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
            f"{cells}x{cells} cells; images of {backbone.roomy_size} pixels give at "
            "least 3x3 and usually a much better accuracy."
        )


def preprocess(image: keras.KerasTensor, contract: str) -> keras.KerasTensor:
    """Put a preprocessing contract into the graph, as plain operations and layers.

    Args:
        image: Raw RGB `(batch, height, width, 3)` in [0, 255].
        contract: A key of `PREPROCESSING`.
    """
    order, scale, offset = PREPROCESSING[contract]
    if contract == "none":
        return image
    if order == "BGR":
        image = keras.ops.flip(image, axis=-1)
    return keras.layers.Rescaling(scale, offset, name="preprocess")(image)


def _imagenet_weights(name, build):
    """Fetch the ImageNet weights through Keras, or say what would have to be where."""
    wanted = {}
    # The module whose `get_file` every constructor calls.
    module = inspect.getmodule(keras.utils.get_file)
    get_file = module.get_file

    def remember(file_name, origin, cache_subdir="", file_hash=None, **options):
        wanted.update(name=file_name, folder=cache_subdir, hash=file_hash)
        return get_file(
            file_name, origin, cache_subdir=cache_subdir, file_hash=file_hash, **options
        )

    module.get_file = remember
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
        module.get_file = get_file


def load_weights(model: keras.Model, path: str | Path) -> None:
    """Give `model` the weights of a file.

    Args:
        model: The architecture that the file was saved from.
        path: What `save_weights` wrote, `.weights.h5` or `.h5`.

    Raises:
        InputError: There is no such file, or it does not fit.
    """
    _check_file(Path(path))
    try:
        model.load_weights(path)
    except Exception as error:  # Keras and h5py raise nearly any type.
        raise errors.InputError(
            f"`weights` must fit {model.name} without its classifier. {path} does "
            f"not: {str(error).splitlines()[0]}"
        ) from error


def _check_file(path):
    if not path.is_file():
        raise errors.expected(
            "weights", "be 'imagenet', None or an existing file", str(path)
        )
    if not path.name.endswith((".weights.h5", ".h5")):
        raise errors.expected(
            "weights", "be a file that ends in .weights.h5 or .h5", str(path)
        )
