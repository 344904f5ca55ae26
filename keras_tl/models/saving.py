"""Save models without what only their training needs."""

import contextlib
from pathlib import Path

import keras

from keras_tl import files


def save_model(model: keras.Model, path: Path | str) -> None:
    """Save a model as `.keras`, without optimizers, in one step.

    An optimizer can take twice the space of the weights, and Keras writes those of
    compiled models into `.keras` files also with `include_optimizer=False`. The file is
    that of a model which was never compiled; `model` itself stays as it is, and trains
    on as if it had not been saved.

    Args:
        model: The model; models within it can be compiled as well.
        path: The file, which ends in `.keras`. An error leaves an old file as it was.

    Raises:
        InputError: The disk is full, or the folder cannot be written to.
    """
    with files.atomic(path) as temporary, _without_optimizers(model):
        model.save(temporary)


@contextlib.contextmanager
def _without_optimizers(model):
    """Hide from Keras what compiling has added to a model and the models within it."""
    hidden = []
    try:
        for layer in model._flatten_layers():
            attributes = vars(layer)
            names = [
                name
                for name, value in attributes.items()
                if isinstance(value, keras.optimizers.Optimizer)
                or name == "_compile_config"
            ]
            hidden.append((attributes, {name: attributes[name] for name in names}))
            for name in names:
                del attributes[name]
        yield
    finally:
        for attributes, values in hidden:
            attributes.update(values)
