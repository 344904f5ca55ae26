"""Load pretrained image backbones; `catalog` has the table of them."""

import functools
import hashlib
import inspect
import math
import os
from pathlib import Path

import h5py
import keras
import numpy as np

from keras_tl import environment, errors
from keras_tl.models import catalog, efficientnet_lite, small_resnet, untrusted
from keras_tl.models.settings import BackboneSettings

CLASSES = 1000  # Of ImageNet.

# Backbones of our own -> function from preprocessed images to features.
_OWN = {
    "efficientnet_lite0": efficientnet_lite.efficientnet_lite0,
    "small_resnet": small_resnet.small_resnet,
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
        name: A key of `catalog.BACKBONES`: all of `keras.applications`, the embedded
            one, and a small one without pretrained weights; or "hub:" and a preset of
            KerasHub, see `hub_backbones`.
        weights: "imagenet", `None` for random weights, or a file that the same
            architecture's `save_weights` wrote (`.weights.h5` or `.h5`).
        image_size: Side of the square images, in pixels; one that a preset takes.
        preprocessing: A key of `catalog.PREPROCESSING`, when the weights in a file were
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
    image_size = errors.side("image_size", image_size)
    catalog.check(name, weights, image_size, preprocessing)
    if name.startswith(catalog.HUB):
        return _of_hub(name, weights, image_size, preprocessing, alpha)
    backbone = catalog.find(name)
    contract = preprocessing or backbone.preprocessing
    if alpha is not None and not backbone.alphas:
        raise errors.expected("alpha", f"be left out: {name} has one width", alpha)
    if weights == "imagenet" and alpha not in (None, *backbone.alphas):
        raise errors.expected(
            "alpha", f"be one of {backbone.alphas} to have ImageNet weights", alpha
        )
    environment.use_standard_keras()

    image = keras.Input((image_size, image_size, 3), name="image")
    x = preprocess(image, contract)
    if backbone.constructor is None:
        model = keras.Model(image, _OWN[name](x), name=name)
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


def _of_hub(name, weights, image_size, preprocessing, alpha):
    """Load a preset of KerasHub, at a size that it takes."""
    from keras_tl.models import hub_backbones

    preset = name.removeprefix(catalog.HUB)
    if alpha is not None:
        raise errors.expected("alpha", f"be left out: {name} has one width", alpha)
    side = hub_backbones.size_of(preset, image_size)
    if side != image_size:
        raise errors.expected("image_size", f"be {side} with {name}", image_size)
    return hub_backbones.load(
        preset,
        image_size=side,
        weights=weights is not None,
        preprocessing=preprocessing,
    )


def from_settings(settings: BackboneSettings) -> keras.Model:
    """Load the backbone that the settings of a recipe name. See `load`."""
    return load(
        settings.backbone,
        weights=settings.weights,
        preprocessing=settings.preprocessing,
        image_size=settings.image_size,
    )


def named(settings, image_size: int) -> keras.Model:
    """Load the backbone that the settings of a command name, maybe with its width.

    Args:
        settings: With `backbone`, see `catalog.width`, `weights` and `preprocessing`.
        image_size: Side of the images.
    """
    name, alpha = catalog.width(settings.backbone)
    return load(
        name,
        weights=settings.weights or "imagenet",
        image_size=image_size,
        preprocessing=settings.preprocessing,
        alpha=alpha,
    )


def _warn_of_few_cells(model, backbone, image_size):
    # A map of 1x1 cells no longer has the layout of an image: CIFAR-10 at 32
    # pixels in VGG16 scores far below the same images scaled up.
    cells = model.output.shape[1]
    if cells < 3:
        errors.warn(
            f"At {image_size} pixels the last feature map of {backbone.name} has only "
            f"{cells}x{cells} cells; images of {backbone.roomy_size} pixels give at "
            "least 3x3 and usually a much better accuracy."
        )


def preprocess(image: keras.KerasTensor, contract: str) -> keras.KerasTensor:
    """Apply a preprocessing contract in the graph, as plain operations and layers.

    Args:
        image: Raw RGB `(batch, height, width, 3)` in [0, 255].
        contract: A key of `catalog.PREPROCESSING`.
    """
    order, scale, offset = catalog.PREPROCESSING[contract]
    if contract == "none":
        return image
    if order == "BGR":
        image = keras.ops.flip(image, axis=-1)
    return keras.layers.Rescaling(scale, offset, name="preprocess")(image)


def _imagenet_weights(name, build):
    """Fetch the ImageNet weights through Keras, or name the file and its place."""
    wanted = {}
    # The module whose `get_file` every constructor calls.
    module = inspect.getmodule(keras.utils.get_file)
    get_file = module.get_file

    def remember(file_name, origin, cache_subdir="", file_hash=None, **options):
        path = environment.keras_folder() / cache_subdir / file_name
        wanted.update(path=path, hash=file_hash)
        # Keras overlooks files in a folder that it cannot write to.
        if not os.access(path.parent, os.W_OK) and _is_file(path, file_hash):
            return str(path)
        return get_file(
            file_name, origin, cache_subdir=cache_subdir, file_hash=file_hash, **options
        )

    module.get_file = remember
    try:
        shape = (catalog.find(name).native_size, catalog.find(name).native_size, 3)
        return build(weights="imagenet", input_shape=shape).get_weights()
    except Exception as error:  # Whatever the download ran into.
        if not wanted:
            raise
        path, file_hash = wanted["path"], wanted["hash"]
        checked = f" ({_algorithm(file_hash)} {file_hash})" if file_hash else ""
        raise errors.InputError(
            f"The ImageNet weights of {name} could not be loaded: "
            f"{errors.reason(error)}. To work offline, put the file {path.name}"
            f"{checked} into {path.parent}. The backbone efficientnet_lite0 needs no "
            "download."
        ) from error
    finally:
        module.get_file = get_file


def _algorithm(file_hash: str) -> str:
    """Name the algorithm of a hash by its length, as Keras tells them apart.

    >>> _algorithm("0" * 32), _algorithm("0" * 64)
    ('md5', 'sha256')
    """
    return "sha256" if len(file_hash) == 64 else "md5"


def _is_file(path: Path, file_hash: str | None) -> bool:
    """Return whether there is a file, with the hash if one is known."""
    if not path.is_file() or file_hash is None:
        return path.is_file()
    with open(path, "rb") as file:
        digest = hashlib.file_digest(file, _algorithm(file_hash))
    return digest.hexdigest() == file_hash


def load_weights(model: keras.Model, path: str | Path) -> None:
    """Load the weights of a file into `model`.

    Args:
        model: The architecture that the file was saved from.
        path: What `save_weights` wrote, `.weights.h5` or `.h5`.

    Raises:
        InputError: There is no such file, or it does not fit.
    """
    catalog.check_file(Path(path))
    untrusted.check(path)
    try:
        model.load_weights(path)
    except Exception as error:  # Keras and h5py raise nearly any type.
        raise errors.InputError(
            f"`weights` must fit {model.name} without its classifier. {path} does "
            f"not: {errors.reason(error)}."
        ) from error


def classifier(path: str | Path, width: int) -> tuple[np.ndarray, np.ndarray] | None:
    """Read the ImageNet classifier of a file of weights, where it is linear.

    Args:
        path: What `save_weights` wrote, with the classifier; `.weights.h5` or `.h5`.
        width: Number of pooled features of the backbone.

    Returns:
        Kernel `(width, 1000)` and bias `(1000,)`; `None` where the file has no layer
        from so many features to so many classes.

    Raises:
        InputError: There is no such file, or it cannot be read.
    """
    catalog.check_file(Path(path))
    untrusted.check(path)
    try:
        with h5py.File(path) as file:
            groups = [file]
            for group in groups:
                groups += [one for one in group.values() if isinstance(one, h5py.Group)]
                arrays = [
                    one for one in group.values() if isinstance(one, h5py.Dataset)
                ]
                kernels = [one for one in arrays if _ends_in(one, (width, CLASSES))]
                biases = [one for one in arrays if one.shape == (CLASSES,)]
                if kernels and biases:
                    kernel = np.asarray(kernels[0]).reshape(width, CLASSES)
                    return kernel, np.asarray(biases[0])
    except OSError as error:
        raise errors.InputError(
            f"{path} cannot be read as weights: {errors.reason(error)}."
        ) from error
    return None


def _ends_in(array, shape):
    # A convolution of one pixel is a layer on features as well.
    return array.shape[-2:] == shape and math.prod(array.shape) == math.prod(shape)
