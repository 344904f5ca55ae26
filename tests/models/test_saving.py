import zipfile

import h5py
import keras
import numpy as np
import pytest

from keras_tl.models import freezing, saving

RNG = np.random.default_rng(0)
INPUTS = RNG.normal(size=(32, 6)).astype("float32")
LABELS = RNG.integers(0, 3, 32)


def build():
    keras.utils.set_random_seed(0)
    inner = keras.Sequential([keras.Input((6,)), keras.layers.Dense(40, "relu")])
    inner.compile("adam", "mse")
    inner.optimizer.build(inner.trainable_variables)
    inputs = keras.Input((6,))
    return keras.Model(inputs, keras.layers.Dense(3)(inner(inputs)))


def compiled(optimizer):
    model = build()
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    model.compile(optimizer, loss, metrics=["accuracy"])
    return model


def weights_in(path):
    names = []
    with (
        zipfile.ZipFile(path) as archive,
        archive.open("model.weights.h5") as file,
        h5py.File(file) as weights,
    ):
        weights.visit(names.append)
    return names


def adam():
    return keras.optimizers.Adam()


def scaled():
    return keras.optimizers.LossScaleOptimizer(keras.optimizers.Adam())


@pytest.mark.parametrize("optimizer", [adam, scaled])
def test_a_trained_model_is_saved_without_its_optimizer(tmp_path, optimizer):
    model = compiled(optimizer())
    saving.save(model, tmp_path / "before.keras")
    model.fit(INPUTS, LABELS, epochs=2, verbose=0)
    saving.save(model, tmp_path / "after.keras")
    sizes = [(tmp_path / f"{n}.keras").stat().st_size for n in ("before", "after")]
    assert sizes[1] == pytest.approx(sizes[0], rel=0.05)
    assert not [name for name in weights_in(tmp_path / "after.keras") if "opt" in name]
    loaded = keras.models.load_model(tmp_path / "after.keras")
    for one, other in zip(loaded.weights, model.weights, strict=True):
        np.testing.assert_array_equal(one, other)


def test_a_model_whose_layers_were_frozen_since_is_saved_without_its_optimizer(
    tmp_path,
):
    model = compiled(adam())
    model.fit(INPUTS, LABELS, epochs=1, verbose=0)
    freezing.freeze(model)
    optimizer = model.optimizer
    saving.save(model, tmp_path / "model.keras")
    assert not [name for name in weights_in(tmp_path / "model.keras") if "opt" in name]
    assert model.optimizer is optimizer


def test_training_goes_on_as_if_nothing_had_been_saved(tmp_path):
    weights = []
    for save in (False, True):
        model = compiled(adam())
        model.fit(INPUTS, LABELS, epochs=2, verbose=0, shuffle=False)
        if save:
            saving.save(model, tmp_path / "model.keras")
        model.fit(INPUTS, LABELS, epochs=2, verbose=0, shuffle=False)
        weights.append(model.get_weights())
    for one, other in zip(*weights, strict=True):
        np.testing.assert_array_equal(one, other)
