"""Save a model for use, without what only its training needs."""

import contextlib
from collections.abc import Iterator
from pathlib import Path

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
    layers = [model, *model._flatten_layers()]
    compiled = {
        id(layer): layer for layer in layers if getattr(layer, "compiled", False)
    }
    optimizers = [(layer, layer.optimizer) for layer in compiled.values()]
    try:
        for layer, _ in optimizers:
            layer.optimizer, layer.compiled = None, False
        yield
    finally:
        for layer, optimizer in optimizers:
            layer.optimizer, layer.compiled = optimizer, True
