"""The core on JAX where TensorFlow cannot be imported; run as a script.

`models`, `methods`, `training.features`, `training.optimizers` and `analysis` are
written on Keras and numpy: a frozen stem runs once, a head is fitted to its features
with a rate of its own and held to its start, the whole is evaluated and drawn; two
devices give the weights of one; a second head learns along; a heat map has its
gradient, and so have the pixels of a picture. Every module of `models`, `methods` and
`analysis` can be imported.
"""

import importlib
import importlib.util
import os
import pkgutil
import sys
import tempfile
from pathlib import Path


class Blocked:
    """Makes TensorFlow impossible to import where it is installed."""

    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] == "tensorflow":
            raise ModuleNotFoundError(f"No module named {name!r}", name=name)


def train(devices):
    """Train all of a small model that one device and several would see differently.

    BatchNormalization, dropout and clipping depend on all rows of a batch.

    Returns:
        The weights, and the logits of some images, in batches that devices can share
        and in batches that they cannot.
    """
    import keras
    import numpy as np
    from keras import layers

    from keras_tl.data.sources import Arrays
    from keras_tl.training import features, placement

    place = placement.choose(devices)
    placement.check_batch_size(place, 16)
    keras.utils.set_random_seed(0)
    rng = np.random.default_rng(0)
    images = rng.random((48, 8, 8, 3), "float32")
    with place.scope():
        image = keras.Input((8, 8, 3))
        x = layers.Conv2D(8, 3, use_bias=False)(image)
        x = layers.ReLU()(layers.BatchNormalization()(x))
        x = layers.Dropout(0.3)(layers.GlobalAveragePooling2D()(x))
        model = keras.Model(image, layers.Dense(3)(x))
        model.compile(
            keras.optimizers.SGD(0.1, momentum=0.9, global_clipnorm=0.5),
            keras.losses.SparseCategoricalCrossentropy(from_logits=True),
            **placement.compile_options(place, 1),
        )
    placement.check_model(place, model)
    model.fit(images, rng.integers(0, 3, 48), batch_size=16, epochs=3, verbose=0)
    logits = [features.run(model, Arrays(images), rows) for rows in (16, 7)]
    return place, [*model.get_weights(), *logits]


def check_devices():
    """Check that two devices give the weights of one, and that one is one again."""
    import keras
    import numpy as np

    from keras_tl import errors
    from keras_tl.training import features, placement

    one, wanted = train(["cpu:0"])
    two, trained = train(None)
    second, alone = train(["CPU:1"])
    assert (one.strategy, two.devices) == (None, ("CPU:0", "CPU:1")), (one, two)
    assert (one.replicas, two.replicas, second.replicas) == (1, 2, 1)
    for values in (trained, alone):
        for a, b in zip(wanted, values, strict=True):
            np.testing.assert_allclose(a, b, atol=1e-5)
    assert "DataParallel: global batch 16 = 2 x 8" in two.describe(16, 0.1)

    placement.choose(["CPU:0"])
    assert keras.distribution.distribution() is None
    model = keras.Sequential([keras.Input((2,)), keras.layers.Dense(1)])
    two = placement.choose()
    # Else each device would predict all rows.
    batch = features._over_devices(np.zeros((16, 2)), 16)
    assert [shard.data.shape for shard in batch.addressable_shards] == [(8, 2)] * 2
    for refused in (
        lambda: placement.check_model(two, model),
        lambda: placement.check_batch_size(two, 7),
        lambda: placement.choose(["CPU:2"]),
    ):
        try:
            refused()
        except errors.InputError:
            continue
        raise AssertionError("It was not refused.")
    placement.choose(["CPU:0"])


def main():
    os.environ["KERAS_BACKEND"] = "jax"
    os.environ["JAX_PLATFORMS"] = "cpu"
    os.environ["XLA_FLAGS"] = "--xla_force_host_platform_device_count=2"
    if importlib.util.find_spec("tensorflow"):
        sys.meta_path.insert(0, Blocked())

    import keras
    import numpy as np

    from keras_tl import analysis, methods, models
    from keras_tl.analysis import evaluation, explain, figures
    from keras_tl.data.splits import Split
    from keras_tl.methods import multi_task, regularizers, style
    from keras_tl.models import backbones, freezing, heads, splitting, taps
    from keras_tl.training import features, optimizers, store
    from keras_tl.training.terms import TermModel

    assert keras.backend.backend() == "jax"
    check_devices()
    for room in (models, methods, analysis):
        for module in pkgutil.iter_modules(room.__path__, f"{room.__name__}."):
            importlib.import_module(module.name)
    keras.utils.set_random_seed(0)
    backbone = backbones.load("efficientnet_lite0", image_size=96)
    freezing.freeze(backbone)
    model = heads.attach(backbone, 3, dropout=0.0)
    stem, tail = splitting.split_at(model, splitting.frozen_cut(model)[1])

    rng = np.random.default_rng(0)
    labels = np.arange(60) % 3
    pixels = rng.integers(0, 100, (60, 96, 96, 3))
    pixels[np.arange(60), :, :, labels] += 100
    split = Split(pixels.astype("uint8"), labels)
    with tempfile.TemporaryDirectory() as folder:
        first, again = store.Cache(Path(folder)), store.Cache(Path(folder))
        kept = features.extract(stem, split, cache=first)
        found = features.extract(stem, split, cache=again)
    assert (first.made, again.found) == (60, 60)
    np.testing.assert_array_equal(kept.inputs.values, found.inputs.values)

    method = regularizers.l2_sp(alpha=0.01, beta=1e-4)
    held = TermModel(tail, method(tail, 40), num_labels=None, steps=40)
    held.compile(
        optimizer=optimizers.layerwise("adam", {"logits": 0.5})(0.02),
        loss=keras.losses.SparseCategoricalCrossentropy(from_logits=True),
    )
    held.fit(kept.inputs.values, kept.labels, epochs=20, verbose=0)
    logits = evaluation.predict(model, split)
    result = evaluation.evaluate(labels, logits, ("red", "green", "blue"))
    assert result.accuracy > 0.9, result.accuracy
    figures.confusion(result.confusion, result.class_names)

    # The map of an average is known without a gradient.
    some, chosen = pixels[:2].astype("float32"), labels[:2]
    outputs = taps.with_features(model)(some, training=False)
    kernel = np.asarray(taps.last_dense(model).kernel)[:, chosen].T[:, None, None]
    wanted = np.maximum((np.asarray(outputs["feature_map"]) * kernel).sum(-1), 0)
    wanted = wanted / wanted.max(axis=(1, 2), keepdims=True)
    maps = explain.grad_cam(model, some, chosen)
    np.testing.assert_allclose(maps, wanted, atol=1e-4)

    # "domain" comes before "logits" in the alphabet, in which JAX gives predictions.
    tasks = multi_task.heads(model, {"domain": 2})
    targets = multi_task.label(split, {"domain": (labels == 0, 2)}).targets
    method = multi_task.learn(tasks)
    joint = TermModel(tail, method(tail, 12), num_labels=3, steps=12)
    columns = np.concatenate([np.eye(3)[labels], targets], axis=1)
    # Without a rate, the last epoch sees the weights that predict.
    for rate in (0.02, 0.0):
        joint.compile(
            optimizer=keras.optimizers.Adam(rate),
            loss=keras.losses.CategoricalCrossentropy(from_logits=True),
            weighted_metrics=[keras.metrics.CategoricalAccuracy(name="accuracy")],
        )
        seen = joint.fit(kept.inputs.values, columns, epochs=3, verbose=0).history
    said = multi_task.attach(tail, tasks).predict(kept.inputs.values, verbose=0)
    right = (said["domain"].argmax(1) == (labels == 0)).mean()
    assert abs(seen["domain_accuracy"][-1] - right) < 1e-6, (seen, right)
    right = (said["logits"].argmax(1) == labels).mean()
    assert abs(seen["accuracy"][-1] - right) < 1e-6, (seen, right)

    # A picture gets the style of another: gradients with respect to its pixels.
    network = taps.maps(backbone, ["stem_conv"])
    grams = style.style_of(network, pixels[1], ["stem_conv"])
    objective = style.Objective(network, grams, ["stem_conv"])
    _, losses = style.optimize(objective, pixels[0].astype("uint8"), steps=10)
    assert losses[-1] < 0.7 * losses[0], losses
    assert "tensorflow" not in sys.modules


if __name__ == "__main__":
    main()
