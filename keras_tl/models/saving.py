"""Save a model for use, without what only its training needs."""

import contextlib
import io
import zipfile
from collections.abc import Iterator
from pathlib import Path

import h5py
import keras

from keras_tl import files


def save(model: keras.Model, path: Path | str) -> None:
    """Write a `.keras` file in one step: an error leaves the old file as it was.

    Optimizers are left out. Keras writes those of compiled models, with twice the size
    of the weights for Adam, whatever `include_optimizer` is. The model stays compiled,
    and trains on with the state that its optimizer has.

    Args:
        model: The model.
        path: The file.

    Raises:
        InputError: The disk is full, or the folder cannot be written to.
    """
    with files.atomic(path) as temporary, _without_optimizers(model):
        model.save(temporary)


@contextlib.contextmanager
def _without_optimizers(model) -> Iterator[None]:
    # Of a model whose layers were frozen since, Keras keeps the optimizer as well.
    layers = {id(layer): layer for layer in [model, *model._flatten_layers()]}
    kept = [
        (layer, layer.optimizer, layer.compiled)
        for layer in layers.values()
        if getattr(layer, "optimizer", None) is not None
    ]
    try:
        for layer, *_ in kept:
            layer.optimizer, layer.compiled = None, False
        yield
    finally:
        for layer, optimizer, compiled in kept:
            layer.optimizer, layer.compiled = optimizer, compiled


def count_parameters(path: Path | str) -> int:
    """Count the parameters of a saved model, as `model.count_params()` would.

    Args:
        path: A `.keras` file, whose layers are not built for it.
    """
    count = 0

    def add(name, item):
        nonlocal count
        parts = name.split("/")
        # Neither what only training needs, nor the state of random layers.
        is_weight = parts[0] != "optimizer" and "seed_generator" not in parts
        if isinstance(item, h5py.Dataset) and is_weight:
            count += item.size

    with zipfile.ZipFile(path) as archive:
        content = io.BytesIO(archive.read("model.weights.h5"))
    with h5py.File(content) as weights:
        weights.visititems(add)
    return count
