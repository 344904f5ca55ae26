"""Pretrained image backbones, and the facts that belong to their weights.

Neither Keras nor TensorFlow is imported here: settings are checked before they load.
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from keras_tl import errors

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
    """Facts about a backbone, besides its layers.

    Attributes:
        name: Name that `backbones.load` takes, and of the model it returns.
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

# Blocks of the encoders that `models.text_backbones` loads.
TRANSFORMER_BLOCK = r"(transformer_layer_\d+)"


def find(name: str) -> Backbone:
    """Return the facts about a backbone.

    Raises:
        InputError: There is none of that name; the nearest are named.
    """
    if name not in BACKBONES:
        raise errors.unknown("backbone", name, BACKBONES)
    return BACKBONES[name]


def check(
    name: str,
    weights: str | Path | None,
    image_size: int,
    preprocessing: str | None = None,
) -> None:
    """Raise `InputError` for arguments that `load` would refuse, before loading."""
    backbone = find(name)
    if preprocessing is not None and preprocessing not in PREPROCESSING:
        raise errors.unknown("preprocessing", preprocessing, PREPROCESSING)
    if weights not in ("imagenet", None):
        check_file(Path(weights))
    if image_size < backbone.smallest_size:
        raise errors.expected(
            "image_size",
            f"be at least {backbone.smallest_size}, the smallest {name} takes",
            image_size,
        )


def check_file(path: Path) -> None:
    """Raise `InputError` for a path that is no file of weights."""
    if not path.is_file():
        raise errors.expected(
            "weights", "be 'imagenet', None or an existing file", str(path)
        )
    if not path.name.endswith((".weights.h5", ".h5")):
        raise errors.expected(
            "weights", "be a file that ends in .weights.h5 or .h5", str(path)
        )


def block_pattern(model_name: str, layer_names: Sequence[str]) -> str | None:
    """Return the pattern that names the blocks of a model's layers.

    Args:
        model_name: Name of a backbone of the table, or of a model built on one.
        layer_names: Names of its layers.

    Returns:
        A regular expression whose first group is the name of a layer's block: that of
        the backbone, or for a model of another name the one of the table that matches
        most of its layers; `None` where none matches any.

    >>> block_pattern("my_model", ["block1_conv", "block2_conv", "logits"])
    '(block\\\\d)_'
    """
    name = model_name.removesuffix("_tail").removesuffix("_stem")
    if name in BACKBONES:
        return BACKBONES[name].block
    patterns = dict.fromkeys(backbone.block for backbone in BACKBONES.values())
    matches = {
        pattern: sum(bool(re.match(pattern, layer)) for layer in layer_names)
        for pattern in [*patterns, TRANSFORMER_BLOCK]
    }
    best = max(matches, key=matches.get)
    return best if matches[best] else None
