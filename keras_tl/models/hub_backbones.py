"""Load pretrained image encoders of KerasHub: ViT, DINOv2, DINOv3, SigLIP and others.

Needs the extra `hub`. A preset is a name of KerasHub, which downloads it, or a folder
that `save_to_preset` wrote. Its own preprocessing is part of the model that is
returned, which takes raw pixels as those of `backbones` do.
"""

import functools
import inspect
from pathlib import Path

import keras
from keras import ops

from keras_tl import environment, errors
from keras_tl.models import backbones, catalog, untrusted

# Files of a folder that `save_to_preset` wrote; the second is the preprocessing.
CONFIG, CONVERTER = "config.json", "image_converter.json"
# Attribute of an encoder that holds its blocks, by the name of its class.
BLOCKS = {
    "ViTEncoder": "encoder_layers",
    "DINOV2Encoder": "layers",
    "DINOV3Encoder": "layers",
}
# Side of the images of an encoder that takes any.
SIDE = 224
# Layers whose description holds what they do not take.
MENDED = ("ViTPatchingAndEmbedding", "ViTEncoderBlock")
# Encoders whose position embeddings are computed for any size of images.
ANY_SIZE = ("DINOV2Backbone", "DINOV3Backbone")
# Encoders whose first token stands for the whole image.
CLASS_TOKEN = ("ViTBackbone", *ANY_SIZE)


def load(
    preset: Path | str,
    *,
    image_size: int | None = None,
    weights: bool = True,
    preprocessing: str | None = None,
) -> keras.Model:
    """Load an image encoder of KerasHub as a flat backbone.

    Args:
        preset: Name of a preset of KerasHub, or a folder with one.
        image_size: Side of the square images, see `size_of`: an encoder that takes one
            size only, such as ViT, has that one.
        weights: Whether to load the weights; `False` draws random ones.
        preprocessing: A key of `catalog.PREPROCESSING` for a preset that has none of
            its own; where it has, that one holds.

    Returns:
        A `keras.Model` from raw images `(batch, image_size, image_size, 3)`, RGB in
        [0, 255], to a feature map, or to a vector: of transformers the class token
        where they have one, or what their own pooling gives. Its name is that of the
        preset; `freezing.blocks` knows its blocks. Nothing is frozen yet.

    Raises:
        InputError: KerasHub is not installed, the preset cannot be loaded, has no
            preprocessing, holds no image encoder, or one that cannot be saved.
    """
    check(preset)
    environment.use_standard_keras()
    side = size_of(preset, image_size)
    encoder = _encoder(preset, side, weights)
    image = keras.Input((side, side, 3), name="image")
    x = _preprocess(image, preset, preprocessing)
    features = _flat(encoder, x)
    if type(encoder).__name__ in CLASS_TOKEN and _has_class_token(encoder):
        # Taken by its place, so that the model is saved without code of ours.
        features = ops.take(features, 0, axis=1)
    model = keras.Model(image, features, name=Path(str(preset)).name)
    _check_described(model)
    return model


def check(preset: Path | str) -> None:
    """Raise `InputError` for a preset that `load` would refuse, before it loads."""
    errors.check_installed("keras_hub", extra="hub")
    folder = Path(preset)
    if folder.is_dir() and not (folder / CONFIG).is_file():
        raise errors.expected(
            "preset",
            f"be a folder that has {CONFIG}",
            str(preset),
            "See save_to_preset.",
        )


def size_of(preset: Path | str, image_size: int | None = None) -> int:
    """Return the side of the images that a preset takes.

    Args:
        preset: See `load`.
        image_size: The side that is wanted; `None` takes that of the preset, 224 where
            it has none.

    Returns:
        `image_size` where the encoder takes any; for DINOv2 and DINOv3 the next
        multiple of their patches; otherwise the side it was made for.

    Raises:
        InputError: As `load`.
    """
    kind, side, patch = _shape(str(preset))
    if kind in ANY_SIZE and image_size is not None:
        return -(-image_size // patch) * patch
    if side is None:
        return errors.side("image_size", image_size or SIDE, 32)
    return side


@functools.lru_cache(maxsize=32)
def _shape(preset):
    """Return class, side of the images or `None`, and size of a patch of a preset."""
    encoder = _encoder(preset, None, weights=False)
    side = encoder.inputs[0].shape[1]
    patch = getattr(encoder, "patch_size", 1)
    patch = patch[0] if isinstance(patch, tuple | list) else patch
    return type(encoder).__name__, side, patch


def _encoder(preset, side, weights) -> keras.Model:
    """Load the encoder of images, of a model of images and text its half."""
    import keras_hub

    untrusted.check_preset(preset)
    options = {}
    if side is not None and _shape(str(preset))[0] in ANY_SIZE:
        options["image_shape"] = (side, side, 3)
    try:
        model = keras_hub.models.Backbone.from_preset(
            str(preset), load_weights=weights, **options
        )
    except Exception as error:  # KerasHub raises nearly any type.
        raise errors.InputError(
            f"The preset {preset} cannot be loaded: {errors.reason(error)}."
        ) from error
    model = getattr(model, "vision_encoder", model)
    shapes = [tuple(tensor.shape) for tensor in model.inputs]
    if len(shapes) != 1 or len(shapes[0]) != 4 or shapes[0][-1] != 3:
        raise errors.InputError(
            f"The preset {preset} holds no encoder of RGB images: its inputs are "
            f"{shapes}."
        )
    return model


def _check_described(model):
    """Raise `InputError` for a model with layers that cannot be saved."""
    for layer in model.layers:
        _mend(type(layer))
        try:
            layer.get_config()
        except Exception as error:  # Slips in KerasHub's code, of any type.
            raise errors.InputError(
                f"{model.name} cannot be used: KerasHub's {type(layer).__name__} does "
                "not describe itself, so that a model with it can neither be saved nor "
                "have its features kept."
            ) from error


def _mend(kind):
    """Make a layer of KerasHub one that can be loaded again.

    Some of KerasHub 0.32 describe themselves with numbers that they do not take, and
    without a setting that they do; a model saved with them could not be loaded. Saved
    by the description that is made here, it can, anywhere.
    """
    if kind.__name__ not in MENDED or hasattr(kind, "described"):
        return
    kind.described = kind.get_config

    def get_config(self):
        config = self.described()
        known = inspect.signature(kind.__init__).parameters
        config = {k: v for k, v in config.items() if k in known or k in _OF_LAYERS}
        if "use_patch_bias" in known:
            config["use_patch_bias"] = self.use_patch_bias
        return config

    kind.get_config = get_config


# What the description of every layer has.
_OF_LAYERS = ("name", "trainable", "dtype")


def _preprocess(image, preset, contract):
    """Apply the preprocessing of a preset in the graph: scale, then offset."""
    import keras_hub

    try:
        converter = keras_hub.layers.ImageConverter.from_preset(str(preset))
    except Exception as error:  # KerasHub raises nearly any type.
        if contract is None:
            raise errors.InputError(
                f"The preset {preset} has no preprocessing ({CONVERTER}): save the "
                "image converter with the backbone, or name the `preprocessing`: "
                f"{', '.join(catalog.PREPROCESSING)}."
            ) from error
        return backbones.preprocess(image, contract)
    scale = 1.0 if converter.scale is None else converter.scale
    offset = 0.0 if converter.offset is None else converter.offset
    return keras.layers.Rescaling(_plain(scale), _plain(offset), name="preprocess")(
        image
    )


def _plain(value):
    """Return a number or a list of three, of what a converter holds."""
    if isinstance(value, int | float):
        return float(value)
    return [float(one) for one in value]


def _flat(encoder, x):
    """Apply every layer of an encoder to `x`, and the blocks that one holds one by one.

    Its layers are shared, not copied.
    """

    def call(layer, *args, **kwargs):
        attribute = BLOCKS.get(type(layer).__name__)
        if attribute is None:
            return layer(*args, **kwargs)
        return _unrolled(layer, getattr(layer, attribute), *args, **kwargs)

    # Its input as a plain tensor, not in a dictionary.
    plain = keras.Model(encoder.inputs[0], encoder.outputs[0])
    shape = tuple(x.shape[1:])
    unrolled = keras.models.clone_model(
        plain,
        keras.Input(shape),
        clone_function=lambda layer: layer,
        call_function=call,
    )
    return unrolled.call(x)


def _unrolled(encoder, blocks, x, **options):
    """Apply the blocks of an encoder, and return what the encoder itself would."""
    stages = {}
    for number, block in enumerate(blocks, start=1):
        x = block(x, **{k: v for k, v in options.items() if v is not None})
        stages[f"stage{number}"] = x
    if type(encoder).__name__.startswith("DINO"):
        return x, stages
    return encoder.layer_norm(x)


def _has_class_token(encoder) -> bool:
    return getattr(encoder, "use_class_token", True)
