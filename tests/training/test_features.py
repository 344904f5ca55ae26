"""A frozen stem runs once for each image, and what it gave is never stale."""

import dataclasses
import os
import signal
import subprocess
import sys
from pathlib import Path

import keras
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from keras import layers

from keras_tl import errors
from keras_tl.data import pipeline
from keras_tl.data.sources import read_all
from keras_tl.data.splits import Split
from keras_tl.models import freezing, heads
from keras_tl.training import features, phases, store

ROOT = Path(__file__).parents[2]


@pytest.fixture
def counted(make_backbone, monkeypatch):
    """A stem, and the images it was run on."""
    stem, seen = make_backbone(), []
    real = stem.predict_on_batch

    def predict_on_batch(images):
        seen.append(len(np.unique(images, axis=0)))
        return real(images)

    monkeypatch.setattr(stem, "predict_on_batch", predict_on_batch)
    return stem, seen


def test_features_are_those_of_the_stem_one_by_one(make_backbone, colours):
    backbone = make_backbone()
    split = features.extract(backbone, colours.train, batch_size=16)
    assert len(split) == 50
    for index in (0, 15, 16, 49):
        one = backbone(colours.train.inputs.pixels[index : index + 1])
        np.testing.assert_allclose(split.inputs.values[index], one[0], atol=1e-5)
    np.testing.assert_array_equal(split.labels, colours.train.labels)


def test_what_is_kept_is_what_the_stem_gives_and_it_does_not_run_again(
    counted, colours
):
    stem, seen = counted
    direct = features.extract(stem, colours.train, batch_size=16)
    seen.clear()
    first, again = store.Cache(), store.Cache()
    kept = features.extract(stem, colours.train, batch_size=16, cache=first)
    assert sum(seen) == 50
    found = features.extract(stem, colours.train, batch_size=16, cache=again)
    assert sum(seen) == 50
    assert (first.made, first.found, again.made, again.found) == (50, 0, 0, 50)
    np.testing.assert_array_equal(kept.inputs.values, direct.inputs.values)
    np.testing.assert_array_equal(found.inputs.values, direct.inputs.values)
    np.testing.assert_array_equal(found.labels, direct.labels)


@given(
    before=st.lists(st.integers(0, 19), max_size=20),
    now=st.lists(st.integers(0, 19), min_size=1, max_size=30),
    batch_size=st.integers(1, 9),
)
@settings(deadline=None, max_examples=25)
def test_only_new_images_run_whatever_was_there_before(
    before, now, batch_size, tmp_path_factory
):
    image = keras.Input((3,))
    stem = keras.Model(image, layers.Rescaling(2.0)(image))
    run, real = [], stem.predict_on_batch

    def predict_on_batch(images):
        run.append(images)
        return real(images)

    stem.predict_on_batch = predict_on_batch
    pixels = np.arange(60, dtype="float32").reshape(20, 3)
    cache = store.Cache(tmp_path_factory.mktemp("cache"))
    if before:
        features.extract(stem, Split(pixels[before], before), cache=cache)
    run.clear()
    split = features.extract(
        stem, Split(pixels[now], now), cache=cache, batch_size=batch_size
    )
    np.testing.assert_allclose(split.inputs.values, 2 * pixels[now])
    new = set(now) - set(before)
    ran = {tuple(row) for batch in run for row in batch}
    assert ran == {tuple(pixels[index]) for index in new}
    assert len(run) == -(-len(new) // batch_size)
    assert cache.made == len(new | set(before))


def without_time(history):
    return {name: values for name, values in history.items() if name != "seconds"}


def test_rows_that_stay_on_disk_train_as_those_in_memory(
    make_backbone, colours, here, monkeypatch
):
    setup = dataclasses.replace(here, cache=store.Cache(), batch_size=16)
    histories, weights = [], []
    for in_memory in (True, False):
        monkeypatch.setattr(features, "_fits_in_memory", lambda *_, m=in_memory: m)
        keras.utils.set_random_seed(0)
        backbone = make_backbone()
        freezing.freeze(backbone)
        model = heads.attach(backbone, 3)
        histories.append(phases.fit(model, colours, setup, phases.Phase(epochs=3)))
        weights.append(model.get_weights())
    assert setup.cache.made == len(colours.train) + len(colours.validation)
    assert setup.cache.found == setup.cache.made
    assert without_time(histories[0]) == without_time(histories[1])
    for one, other in zip(*weights, strict=True):
        np.testing.assert_array_equal(one, other)


def brighter(images, draws):
    return keras.ops.cast(images, "float32") * (0.5 + draws[:, :1, None, None])


def test_copies_are_what_the_first_epochs_of_training_show(colours):
    copies = pipeline.with_copies(colours.train, brighter, seed=3, copies=2)
    read = copies.read(np.arange(len(copies)))
    training = pipeline.Training(colours.train, 50, 3, brighter)
    for epoch in range(2):
        ((shown, _, _),) = training.epoch(epoch)
        own = read[50 * epoch : 50 * (epoch + 1)]
        assert sorted(map(bytes, np.asarray(shown))) == sorted(map(bytes, own))
        one = copies.read([50 * epoch + 7])
        np.testing.assert_array_equal(one[0], own[7])
    assert not np.array_equal(read[:50], read[50:])
    np.testing.assert_array_equal(copies.labels[50:], colours.train.labels)


def test_as_many_copies_as_epochs_give_what_fresh_augmentation_gives(
    make_backbone, colours, here
):
    histories, weights = [], []
    for copies in (0, 3):
        keras.utils.set_random_seed(0)
        backbone = make_backbone()
        freezing.freeze(backbone)
        model = heads.attach(backbone, 3)
        model.get_layer("dropout").rate = 0.0
        setup = dataclasses.replace(
            here, augment=brighter, augmented_copies=copies, batch_size=16, seed=5
        )
        histories.append(phases.fit(model, colours, setup, phases.Phase(epochs=3)))
        weights.append(model.get_weights())
    for name in without_time(histories[0]):
        np.testing.assert_allclose(histories[0][name], histories[1][name], atol=1e-5)
    for one, other in zip(*weights, strict=True):
        np.testing.assert_allclose(one, other, atol=1e-5)


def test_phases_share_copies_that_were_made_once(
    make_backbone, colours, here, monkeypatch
):
    backbone = make_backbone()
    freezing.freeze(backbone)
    model = heads.attach(backbone, 3)
    cache = store.Cache()
    setup = dataclasses.replace(here, augment=brighter, augmented_copies=2, cache=cache)
    freezing.unfreeze_from(model, "block2")
    part, inputs = phases.precompute_frozen(model, colours, setup)
    assert len(inputs.train) == 2 * len(colours.train)
    assert cache.made == len(inputs.train) + 20 + 31
    history = phases.fit(part, inputs, setup, phases.fine_tuning(epochs=3))
    assert len(history["loss"]) == 3
    # Nothing of the images was asked for again.
    assert cache.made == len(inputs.train) + 20 + 31


def test_without_a_stem_copies_are_made_fresh(make_backbone, colours, here):
    model = heads.attach(make_backbone(), 3)
    setup = dataclasses.replace(here, augment=brighter, augmented_copies=2)
    part, inputs = phases.precompute_frozen(model, colours, setup)
    assert part is model
    assert len(inputs.train) == len(colours.train)
    assert len(phases.fit(model, colours, setup, phases.Phase(epochs=1))["loss"]) == 1


def test_an_interruption_keeps_what_was_made(counted, colours, monkeypatch):
    stem, seen = counted
    real = stem.predict_on_batch

    def interrupted(images):
        if len(seen) == 2:
            raise KeyboardInterrupt
        return real(images)

    monkeypatch.setattr(stem, "predict_on_batch", interrupted)
    with pytest.raises(KeyboardInterrupt):
        features.extract(stem, colours.train, batch_size=16, cache=store.Cache())
    monkeypatch.setattr(stem, "predict_on_batch", real)
    cache = store.Cache()
    features.extract(stem, colours.train, batch_size=16, cache=cache)
    assert (cache.found, cache.made) == (32, 18)


class ResourceExhaustedError(Exception):
    """An error that is called as TensorFlow's is."""


def small_memory(monkeypatch, model, limit, error):
    """Let a model raise an error for batches of more than `limit` examples."""
    real, sizes = model.predict_on_batch, []

    def predict_on_batch(examples):
        sizes.append(len(examples))
        if len(examples) > limit:
            raise error
        return real(examples)

    monkeypatch.setattr(model, "predict_on_batch", predict_on_batch)
    return sizes


@pytest.mark.parametrize("kept", [False, True])
@pytest.mark.parametrize(
    "error",
    [
        MemoryError(),
        ResourceExhaustedError("OOM when allocating tensor with shape[9]"),
        RuntimeError("RESOURCE_EXHAUSTED: Out of memory while trying to allocate 9"),
    ],
    ids=lambda error: type(error).__name__,
)
def test_batches_for_which_the_memory_is_too_small_are_halved(
    kept, error, counted, colours, monkeypatch
):
    stem, _ = counted
    whole = features.extract(stem, colours.train, batch_size=32)
    sizes = small_memory(monkeypatch, stem, 10, error)
    cache = store.Cache() if kept else None
    with pytest.warns(errors.InputWarning, match="memory is too small for") as shown:
        small = features.extract(stem, colours.train, batch_size=32, cache=cache)
    assert sizes == [32, 16, *[8] * 7]
    warned = [str(one.message) for one in shown if one.category == errors.InputWarning]
    assert "too small for 16 examples at once: from now on 8 are" in warned[1]
    np.testing.assert_allclose(
        read_all(small.inputs), read_all(whole.inputs), rtol=1e-5, atol=1e-6
    )


def test_an_example_that_does_not_fit_and_other_errors_are_raised(
    counted, colours, monkeypatch
):
    stem, _ = counted
    sizes = small_memory(monkeypatch, stem, 0, MemoryError("none left"))
    with (
        pytest.warns(errors.InputWarning, match="too small for [42] "),
        pytest.raises(MemoryError, match="none left"),
    ):
        features.run(stem, colours.train.inputs, 4)
    assert sizes == [4, 2, 1]
    sizes = small_memory(monkeypatch, stem, 0, ValueError("a shape"))
    with pytest.raises(ValueError, match="a shape"):
        features.run(stem, colours.train.inputs, 4)
    assert sizes == [4]


KILLED = """
import os, signal, sys
import keras, numpy as np
from keras_tl.data.splits import Split
from keras_tl.training import features, store
store.SHARD_BYTES = 1
image = keras.Input((3,))
stem = keras.Model(image, keras.layers.Rescaling(2.0)(image))
calls, real = [], stem.predict_on_batch
def predict_on_batch(images):
    calls.append(1)
    if len(calls) == 3 and "kill" in sys.argv:
        os.kill(os.getpid(), signal.SIGKILL)
    return real(images)
stem.predict_on_batch = predict_on_batch
pixels = np.arange(60, dtype="float32").reshape(20, 3)
cache = store.Cache()
split = features.extract(stem, Split(pixels, pixels[:, 0]), cache=cache, batch_size=4)
np.testing.assert_allclose(split.inputs.values, 2 * pixels)
print(cache.found, cache.made)
"""


@pytest.mark.slow
def test_a_killed_extraction_goes_on_where_it_was(cache):
    def run(*arguments):
        return subprocess.run(
            [sys.executable, "-c", KILLED, *arguments],
            env={**os.environ, "PYTHONPATH": str(ROOT)},
            capture_output=True,
            text=True,
            check=False,
        )

    assert run("kill").returncode == -signal.SIGKILL
    ended = run()
    assert ended.returncode == 0, ended.stderr
    assert ended.stdout.split() == ["8", "12"]


def test_without_room_nothing_runs_and_nothing_is_written(
    counted, colours, monkeypatch, cache
):
    stem, seen = counted
    monkeypatch.setattr(features, "_fits_in_memory", lambda *_: False)
    monkeypatch.setattr(features, "_fits_on_disk", lambda *_: False)
    for one in (None, store.Cache()):
        with pytest.raises(errors.InputError, match="50 examples, .* neither"):
            features.extract(stem, colours.train, cache=one)
        with pytest.raises(errors.InputError, match="101 examples, .* neither"):
            features.extract_all(stem, colours, cache=one)
    assert not seen
    assert not cache.exists()


def test_room_is_half_of_what_is_free(make_backbone, monkeypatch, cache):
    stem = make_backbone()
    row = 8 * 8 * 4 * 4
    free = type("", (), {"available": 200 * row, "free": 400 * row})
    monkeypatch.setattr(features.psutil, "virtual_memory", lambda: free)
    monkeypatch.setattr(features.shutil, "disk_usage", lambda folder: free)
    assert features.has_room(stem, 100)
    assert not features.has_room(stem, 101)
    assert features.has_room(stem, 200, store.Cache())
    assert not features.has_room(stem, 201, store.Cache())


class Scale(layers.Layer):
    """A layer of somebody's own."""

    def call(self, inputs):
        return 2 * inputs


def stem(
    constant=2.0, units=3, dtype="float32", weight="ones", image=(4,), name=None, own=0
):
    inputs = keras.Input(image, name=name)
    x = layers.Dense(
        units, kernel_initializer=weight, dtype=dtype, name=name and f"{name}_dense"
    )(inputs * constant)
    return keras.Model(inputs, Scale()(x) if own else x, name=name)


@pytest.mark.parametrize(
    "change",
    [
        {"constant": 3.0},
        {"units": 4},
        {"dtype": "bfloat16"},
        {"weight": "zeros"},
        {"image": (5,)},
        {"own": 1},
    ],
    ids=lambda change: next(iter(change)),
)
def test_another_stem_has_another_fingerprint(change):
    assert features.fingerprint(stem()) != features.fingerprint(stem(**change))


def test_the_same_stem_has_the_same_fingerprint_whatever_it_is_called():
    one = stem()
    named = stem(name="other")
    named.trainable = False
    assert features.fingerprint(one) == features.fingerprint(named)
    assert features.fingerprint(stem(own=1)) == features.fingerprint(stem(own=1))


def test_a_setting_is_not_taken_for_a_name():
    def activated(function):
        image = keras.Input((4,))
        return keras.Model(image, layers.Activation(function, name=function)(image))

    assert features.fingerprint(activated("relu")) != (
        features.fingerprint(activated("tanh"))
    )


def test_policies_of_numbers_are_not_names():
    def rescaled(dtype):
        image = keras.Input((4,), name=dtype)
        return keras.Model(image, layers.Rescaling(2.0, dtype=dtype)(image))

    assert features.fingerprint(rescaled("float32")) != (
        features.fingerprint(rescaled("bfloat16"))
    )


def helper(x):
    return x * GAIN


GAIN = 1.0


class Helped(keras.layers.Layer):
    shift = 0.0

    def call(self, x):
        return helper(x) + self.shift


class Inherited(Helped):
    pass


def of_layer(layer):
    return features.fingerprint(keras.Sequential([keras.Input((4,)), layer]))


@pytest.mark.parametrize(
    "build",
    [
        Helped,
        Inherited,
        lambda: layers.Lambda(helper),
        lambda: layers.Lambda(lambda x: helper(x)),
        lambda: layers.Activation(helper),
        lambda: layers.Dense(2, kernel_initializer="ones", activation=helper),
        lambda: layers.Lambda((lambda inner: lambda x: inner(x))(helper)),
    ],
)
def test_code_and_all_that_it_reads_decide_the_fingerprint(build, monkeypatch):
    before = of_layer(build())
    assert of_layer(build()) == before
    with monkeypatch.context() as patch:
        patch.setitem(globals(), "GAIN", 2.0)
        assert of_layer(build()) != before
    with monkeypatch.context() as patch:
        patch.setattr(helper, "__code__", (lambda x: x + GAIN).__code__)
        assert of_layer(build()) != before


def test_functions_of_keras_differ_by_their_place():
    one, other = (
        of_layer(layers.Lambda(module.preprocess_input))
        for module in (keras.applications.vgg16, keras.applications.resnet_v2)
    )
    assert one != other


def test_what_a_layer_keeps_beside_its_configuration_counts():
    def shifted(value):
        layer = Helped()
        layer.shift = value
        layer.call = lambda x: x
        return of_layer(layer)

    assert shifted(1.0) != shifted(2.0)
    assert shifted(np.ones(4)) == shifted(np.ones(4)) != shifted(np.zeros(4))
    one, other = np.ones(4), np.zeros(4)
    assert shifted([one, other, one]) != shifted([one, other, other])
    # A value that cannot be described is never found again.
    assert len({shifted(object()) for _ in range(2)}) == 2


def test_a_layer_without_a_configuration_runs_without_the_cache(colours, tmp_path):
    class Without(layers.Layer):
        def __init__(self, factor):
            super().__init__()
            self.factor = factor

        def call(self, x):
            return 2.0 * x

    model = keras.Sequential(
        [keras.Input((8, 8, 3)), Without(object()), layers.Flatten()]
    )
    with pytest.warns(errors.InputWarning, match="get_config"):
        features.extract(model, colours.train, cache=store.Cache(tmp_path))
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("blocked", ["file", "read-only"])
def test_a_cache_that_cannot_be_used_costs_a_warning_and_no_run(
    blocked, colours, tmp_path, monkeypatch
):
    folder = tmp_path / "cache"
    if blocked == "file":
        folder.write_text("not a folder")
    else:
        # The user that runs the tests may be allowed to write anywhere.
        monkeypatch.setattr(store, "check_usable", denied)
    model = keras.Sequential([keras.Input((8, 8, 3)), layers.Flatten()])
    with pytest.warns(errors.InputWarning, match="--no-cache"):
        extracted = features.extract(model, colours.train, cache=store.Cache(folder))
    np.testing.assert_array_equal(
        read_all(extracted.inputs), features.run(model, colours.train.inputs)
    )


def denied(folder):
    raise PermissionError(13, "Permission denied", str(folder))


def test_another_version_or_device_has_another_fingerprint(monkeypatch):
    one = stem()
    found = {features.fingerprint(one)}
    monkeypatch.setattr(keras, "__version__", "0")
    found.add(features.fingerprint(one))
    monkeypatch.setattr(keras.distribution, "list_devices", lambda: ["gpu:0"])
    found.add(features.fingerprint(one))
    assert len(found) == 3


def test_preprocessing_and_weights_of_a_backbone_are_in_its_fingerprint(make_backbone):
    one, other = make_backbone(), make_backbone()
    assert features.fingerprint(one) != features.fingerprint(other)
    other.set_weights(one.get_weights())
    assert features.fingerprint(one) == features.fingerprint(other)
    config = other.get_config()
    config["layers"][1]["config"]["scale"] = 1 / 255
    scaled = keras.Model.from_config(config)
    scaled.set_weights(one.get_weights())
    assert features.fingerprint(one) != features.fingerprint(scaled)
