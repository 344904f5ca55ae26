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
        constructor: Name in `keras.applications`, or `None` for those of our own.
        preprocessing: Key of `PREPROCESSING` its ImageNet weights were trained with.
        native_size: Side in pixels of the images it was trained on.
        smallest_size: Smallest side it takes.
        roomy_size: Side from which on the last feature map has at least 3x3 cells.
        block: Regular expression; its first group names the block of a layer.
        licence: Licence of the weights, where one is stated.
        source: Where the weights come from.
        file: Name of the file of its ImageNet weights without the classifier in Keras's
            folder `models`; `{alpha}` stands for the width.
        accuracy: Top-1 accuracy of the ImageNet weights, in [0, 1], of the full width,
            as the source states it; `None` where it states none.
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
    file: str | None = None
    accuracy: float | None = None
    alphas: tuple[float, ...] = ()

    @property
    def has_imagenet(self) -> bool:
        """Whether there are weights of ImageNet for it."""
        return self.constructor is not None or self.name == EMBEDDED

    def file_name(self, alpha: float | None = None, *, classifier: bool = False) -> str:
        """Return the name of the file of ImageNet weights that Keras looks for.

        Args:
            alpha: Width multiplier; `None` means 1.
            classifier: Whether the weights of the classifier are wanted as well.

        >>> find("mobilenet").file_name(0.25)
        'mobilenet_2_5_224_tf_no_top.h5'
        >>> find("vgg16").file_name(classifier=True)
        'vgg16_weights_tf_dim_ordering_tf_kernels.h5'
        """
        width = f"{float(alpha or 1)}"
        if self.constructor == "MobileNet":
            width = {"0.25": "2_5", "0.5": "5_0", "0.75": "7_5", "1.0": "1_0"}[width]
        name = (self.file or "").replace("{alpha}", width)
        if classifier:
            name = re.sub("_no_?top(_v2)?", "", name)
        return name


_KERAS = "https://keras.io/api/applications/"
_KERNELS = "{name}_weights_tf_dim_ordering_tf_kernels_notop.h5"


def _family(
    page: str,
    members: dict[str, tuple[str, int, float | None]],
    *,
    file: str,
    preprocessing: str,
    block: str,
    licence: str,
    smallest_size: int = 32,
    roomy_size: int = 96,
    alphas: tuple[float, ...] = (),
) -> list[Backbone]:
    """Describe the members of a family: name -> constructor, native size, accuracy.

    Accuracies are those of https://keras.io/api/applications/. In `file`, `{name}`
    stands for the name that Keras has in its files, `{kind}` for the last word of ours.
    """
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
            file=_with_name(file, name, constructor),
            accuracy=accuracy,
            alphas=alphas,
        )
        for name, (constructor, native_size, accuracy) in members.items()
    ]


def _with_name(file: str, name: str, constructor: str) -> str:
    """Fill in the name of a backbone, or its last word, in that of its file.

    >>> _with_name("{name}_notop.h5", "efficientnet_v2_b0", "EfficientNetV2B0")
    'efficientnetv2-b0_notop.h5'
    """
    own = constructor.lower().replace("efficientnetv2", "efficientnetv2-")
    return file.replace("{name}", own).replace("{kind}", name.rpartition("_")[2])


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
            # https://github.com/tensorflow/tpu/tree/master/models/official/efficientnet/lite
            accuracy=0.751,
        ),
        Backbone(
            name="small_resnet",
            constructor=None,
            preprocessing="tf",
            native_size=32,
            smallest_size=16,
            roomy_size=16,
            block=r"(block\d)_",
            licence="that of keras-tl; it has no weights of ImageNet",
            source="arXiv:1512.03385, section 4.2; `pretrain_then_transfer` trains it",
        ),
    ],
    _family(
        "vgg",
        {"vgg16": ("VGG16", 224, 0.713), "vgg19": ("VGG19", 224, 0.713)},
        file=_KERNELS,
        preprocessing="caffe",
        block=r"(block\d)_",
        licence="CC BY 4.0",
    ),
    _family(
        "resnet",
        {
            f"resnet{depth}": (f"ResNet{depth}", 224, accuracy)
            for depth, accuracy in {50: 0.749, 101: 0.764, 152: 0.766}.items()
        },
        file=_KERNELS,
        preprocessing="caffe",
        block=r"(conv\d_block\d+)_",
        licence="MIT",
    ),
    _family(
        "resnet",
        {
            f"resnet{depth}_v2": (f"ResNet{depth}V2", 224, accuracy)
            for depth, accuracy in {50: 0.760, 101: 0.772, 152: 0.780}.items()
        },
        file=_KERNELS,
        preprocessing="tf",
        block=r"(conv\d_block\d+)_",
        licence="MIT",
    ),
    _family(
        "mobilenet",
        {"mobilenet": ("MobileNet", 224, 0.704)},
        file="mobilenet_{alpha}_224_tf_no_top.h5",
        preprocessing="tf",
        block=r"conv_(?:dw|pad|pw)_(\d+)(?:_|$)",
        licence="Apache-2.0",
        alphas=(0.25, 0.5, 0.75, 1.0),
    ),
    _family(
        "mobilenet",
        {"mobilenet_v2": ("MobileNetV2", 224, 0.713)},
        file="mobilenet_v2_weights_tf_dim_ordering_tf_kernels_{alpha}_224_no_top.h5",
        preprocessing="tf",
        block=r"(block_\d+)_",
        licence="Apache-2.0",
        alphas=(0.35, 0.5, 0.75, 1.0, 1.3, 1.4),
    ),
    _family(
        "mobilenet",
        {
            f"mobilenet_v3_{kind}": (f"MobileNetV3{kind.title()}", 224, None)
            for kind in ("small", "large")
        },
        file="weights_mobilenet_v3_{kind}_224_{alpha}_float_no_top_v2.h5",
        preprocessing="none",
        block=r"(expanded_conv(?:_\d+)?)_[a-z]",
        licence="Apache-2.0",
        alphas=(0.75, 1.0),
    ),
    _family(
        "densenet",
        {
            f"densenet{depth}": (f"DenseNet{depth}", 224, accuracy)
            for depth, accuracy in {121: 0.750, 169: 0.762, 201: 0.773}.items()
        },
        file=_KERNELS,
        preprocessing="torch",
        block=r"(conv\d_block\d+)_",
        licence="BSD-3-Clause",
    ),
    _family(
        "efficientnet",
        {
            f"efficientnet_b{number}": (f"EfficientNetB{number}", size, accuracy)
            for number, (size, accuracy) in enumerate(
                [
                    *((224, 0.771), (240, 0.791), (260, 0.801), (300, 0.816)),
                    *((380, 0.829), (456, 0.836), (528, 0.840), (600, 0.843)),
                ]
            )
        },
        file="{name}_notop.h5",
        preprocessing="none",
        block=r"(block\d[a-z])_",
        licence="Apache-2.0",
    ),
    _family(
        "efficientnet_v2",
        {
            f"efficientnet_v2_{kind.lower()}": (f"EfficientNetV2{kind}", size, accuracy)
            for kind, size, accuracy in [
                *(("B0", 224, 0.787), ("B1", 240, 0.798), ("B2", 260, 0.805)),
                *(("B3", 300, 0.820), ("S", 384, 0.839), ("M", 480, 0.853)),
                ("L", 480, 0.857),
            ]
        },
        file="{name}_notop.h5",
        preprocessing="none",
        block=r"(block\d[a-z]+)_",
        licence="Apache-2.0",
    ),
    _family(
        "convnext",
        {
            f"convnext_{kind.lower()}": (f"ConvNeXt{kind}", 224, accuracy)
            for kind, accuracy in {
                **{"Tiny": 0.813, "Small": 0.823, "Base": 0.853},
                **{"Large": 0.863, "XLarge": 0.867},
            }.items()
        },
        file="convnext_{kind}_notop.h5",
        preprocessing="none",
        block=r".*?(stage_\d_block_\d+)_",
        licence="not stated by Keras",
    ),
    _family(
        "nasnet",
        {
            "nasnet_mobile": ("NASNetMobile", 224, 0.744),
            "nasnet_large": ("NASNetLarge", 331, 0.825),
        },
        file="nasnet_{kind}_no_top.h5",
        preprocessing="tf",
        block=r"(?:normal|reduction)_concat_(\w+)$",
        licence="Apache-2.0",
    ),
    _family(
        "inceptionv3",
        {"inception_v3": ("InceptionV3", 299, 0.779)},
        file="inception_v3_weights_tf_dim_ordering_tf_kernels_notop.h5",
        preprocessing="tf",
        block=r"(mixed\d+)$",
        licence="Apache-2.0",
        smallest_size=75,
        roomy_size=139,
    ),
    _family(
        "inceptionresnetv2",
        {"inception_resnet_v2": ("InceptionResNetV2", 299, 0.803)},
        file="inception_resnet_v2_weights_tf_dim_ordering_tf_kernels_notop.h5",
        preprocessing="tf",
        block=r"(mixed_\d\w|block\d+_\d+)",
        licence="Apache-2.0",
        smallest_size=75,
        roomy_size=139,
    ),
    _family(
        "xception",
        {"xception": ("Xception", 299, 0.790)},
        file=_KERNELS,
        preprocessing="tf",
        block=r"(block\d+)_",
        licence="not stated by Keras",
        smallest_size=71,
    ),
]
BACKBONES = {backbone.name: backbone for family in _FAMILIES for backbone in family}

# The backbone that travels with the package.
EMBEDDED = "efficientnet_lite0"
# Prefix of the names of KerasHub's presets, see `hub_backbones`.
HUB = "hub:"
# Blocks of the encoders that `models.text_backbones` and `models.hub_backbones` load.
ENCODER_BLOCKS = (
    r"(transformer_layer_\d+)",
    r"(?:\w+_)?((?:transformer|encoder)_block_\d+)$",
    r"(layers_\d+)$",
    r"(block_\d+_\d+)$",
    r"(stack\d+_block\d+)_",
)


def find(name: str) -> Backbone:
    """Return the facts about a backbone.

    Raises:
        InputError: There is none of that name; the nearest are named.
    """
    if name.startswith(HUB):
        raise errors.expected(
            "backbone",
            "be one of `keras.applications` here",
            name,
            "KerasHub's differ.",
        )
    if name not in BACKBONES:
        raise errors.unknown("backbone", name, BACKBONES)
    return BACKBONES[name]


def width(name: str) -> tuple[str, float | None]:
    """Take the width from the name of a backbone, where it has one.

    >>> width("mobilenet:0.25"), width("hub:folder")
    (('mobilenet', 0.25), ('hub:folder', None))
    """
    if name.startswith(HUB):
        return name, None
    base, colon, width = name.partition(":")
    backbone = find(base)
    if not colon:
        return base, None
    if width not in map(str, backbone.alphas):
        hint = f"{base} has one width." if not backbone.alphas else ""
        known = " or ".join(f"{base}:{one}" for one in backbone.alphas) or base
        raise errors.expected("backbone", f"be {known}", name, hint)
    return base, float(width)


def check(
    name: str,
    weights: str | Path | None,
    image_size: int,
    preprocessing: str | None = None,
) -> None:
    """Raise `InputError` for arguments that `load` would refuse, before loading."""
    if name.startswith(HUB):
        errors.check_installed("keras_hub", extra="hub")
        if weights not in ("imagenet", None):
            raise errors.expected(
                "weights", f"be left out with {name}, a preset with weights", weights
            )
    backbone = None if name.startswith(HUB) else find(name)
    if preprocessing is not None and preprocessing not in PREPROCESSING:
        raise errors.unknown("preprocessing", preprocessing, PREPROCESSING)
    if weights not in ("imagenet", None):
        check_file(Path(weights))
    if weights == "imagenet" and backbone is not None and not backbone.has_imagenet:
        hint = "`keras-tl run pretrain_then_transfer` writes such a file."
        expectation = f"be a file or None with {name}, which ImageNet has not taught"
        raise errors.expected("weights", expectation, weights, hint)
    smallest = 32 if backbone is None else backbone.smallest_size
    if image_size < smallest:
        raise errors.expected(
            "image_size",
            f"be at least {smallest}, the smallest {name} takes",
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
        for pattern in [*patterns, *ENCODER_BLOCKS]
    }
    best = max(matches, key=matches.get)
    return best if matches[best] else None
