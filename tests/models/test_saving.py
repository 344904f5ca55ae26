"""A saved model is its weights, whatever has been done with it before."""

import io
import json
import zipfile

import h5py
import keras
import numpy as np
import pytest

from keras_tl import errors
from keras_tl.models import heads
from keras_tl.models.saving import save_model

PIXELS = np.random.default_rng(0).integers(0, 256, (12, 8, 8, 3)).astype("float32")
LABELS = np.arange(12) % 3


def flat(make_backbone):
    return heads.attach(make_backbone(), 3)


def nested(make_backbone):
    """A model within a model within a model; the inner ones were trained before."""
    inner = keras.Sequential(
        [
            keras.Input((8, 8, 4)),
            keras.layers.GlobalAveragePooling2D(),
            keras.layers.Dense(7),
        ],
        name="inner",
    )
    image = keras.Input((8, 8, 3))
    middle = keras.Model(image, inner(make_backbone()(image)), name="middle")
    for model, shape in ((inner, (8, 8, 4)), (middle, (8, 8, 3))):
        model.compile(keras.optimizers.Adam(), "mse")
        model.fit(np.ones((4, *shape)), np.ones((4, 7)), verbose=0)
    outer = keras.Input((8, 8, 3))
    return keras.Model(outer, keras.layers.Dense(3)(middle(outer)))


def several_optimizers(make_backbone):
    """A model with an optimizer of its own besides that of `compile`."""

    class Two(keras.Model):
        pass

    single = heads.attach(make_backbone(), 3)
    model = Two(single.inputs, single.outputs)
    model.other = keras.optimizers.Adam()
    model.other.build(model.trainable_variables)
    return model


def train(model, epochs=1):
    model.fit(PIXELS, LABELS, batch_size=4, epochs=epochs, shuffle=False, verbose=0)


def compile_model(model, optimizer):
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    model.compile(optimizer, loss, metrics=["accuracy"])


def members(path):
    """Return the config of an archive, and the names of all its weights."""
    names = []
    with zipfile.ZipFile(path) as archive:
        config = json.loads(archive.read("config.json"))
        with h5py.File(io.BytesIO(archive.read("model.weights.h5"))) as weights:
            weights.visit(names.append)
    return config, names


@pytest.mark.parametrize("make", [flat, nested])
@pytest.mark.parametrize(
    "optimizer",
    [
        lambda: keras.optimizers.Adam(0.01, use_ema=True),
        lambda: keras.optimizers.LossScaleOptimizer(keras.optimizers.Adam(0.01)),
    ],
    ids=["averaging", "scaling the loss"],
)
def test_a_trained_model_is_saved_like_one_that_was_never_compiled(
    make_backbone, tmp_path, make, optimizer
):
    keras.utils.set_random_seed(0)
    model = make(make_backbone)
    before, after = tmp_path / "before.keras", tmp_path / "after.keras"
    save_model(model, before)
    compile_model(model, optimizer())
    train(model)
    save_model(model, after)
    assert members(after) == members(before)
    assert not [name for name in members(after)[1] if "optimizer" in name]
    assert abs(after.stat().st_size / before.stat().st_size - 1) < 0.01
    loaded = keras.models.load_model(after)
    for ours, theirs in zip(loaded.get_weights(), model.get_weights(), strict=True):
        np.testing.assert_array_equal(ours, theirs)
    np.testing.assert_array_equal(loaded(PIXELS), model(PIXELS))


def test_an_optimizer_under_any_name_is_left_out(make_backbone, tmp_path):
    model = several_optimizers(make_backbone)
    save_model(model, tmp_path / "model.keras")
    assert not [n for n in members(tmp_path / "model.keras")[1] if "other" in n]
    assert model.other.built


@pytest.mark.parametrize("make", [flat, nested])
def test_a_model_trains_on_as_if_it_had_not_been_saved(make_backbone, tmp_path, make):
    weights = []
    for save in (True, False):
        keras.utils.set_random_seed(0)
        model = make(make_backbone)
        compile_model(model, keras.optimizers.Adam(0.01))
        train(model, 2)
        if save:
            save_model(model, tmp_path / "model.keras")
        train(model, 2)
        weights.append([*model.get_weights(), *model.optimizer.variables])
    for saved, unsaved in zip(*weights, strict=True):
        np.testing.assert_array_equal(saved, unsaved)


def test_a_model_that_cannot_be_saved_stays_compiled(
    make_backbone, tmp_path, monkeypatch
):
    model = nested(make_backbone)
    compile_model(model, "adam")

    def full(self, path, **options):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(keras.Model, "save", full)
    with pytest.raises(errors.InputError, match="No space left"):
        save_model(model, tmp_path / "model.keras")
    train(model)
    assert model.get_compile_config()["optimizer"]
    assert model.get_layer("middle").optimizer.built
