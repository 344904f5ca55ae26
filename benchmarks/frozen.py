"""Training on a frozen backbone: run once, beside run again in every epoch."""

import dataclasses
import functools
import tempfile
from pathlib import Path

import numpy as np

from benchmarks.harness import Benchmark

CLASSES, BATCH, EPOCHS = 10, 32, 10


def _data(size, images):
    from keras_tl.data.splits import Split, Splits

    def split(count, seed):
        rng = np.random.default_rng(seed)
        pixels = rng.integers(0, 256, (count, size, size, 3), dtype="uint8")
        return Split(pixels, np.arange(count) % CLASSES)

    names = [str(index) for index in range(CLASSES)]
    made = (split(images, 0), split(images // 10, 1), split(CLASSES, 2))
    return Splits(*made, names, "Random pixels.")


def guide(backbone, size, images, unfreeze_from=None):
    """The way of https://keras.io/guides/transfer_learning/, as it is copied."""
    import keras
    import tensorflow as tf

    from keras_tl.models import backbones, freezing

    data = _data(size, images)

    def dataset(split):
        return tf.data.Dataset.from_tensor_slices((split.images, split.labels))

    train = dataset(data.train).shuffle(images).batch(BATCH).prefetch(tf.data.AUTOTUNE)
    validation = dataset(data.validation).batch(BATCH).prefetch(tf.data.AUTOTUNE)

    def run():
        keras.utils.set_random_seed(0)
        base = backbones.load(backbone, weights=None, image_size=size)
        base.trainable = False
        if unfreeze_from:
            freezing.unfreeze_from(base, unfreeze_from)
        inputs = keras.Input((size, size, 3))
        x = base(inputs, training=False)
        x = keras.layers.GlobalAveragePooling2D()(x)
        x = keras.layers.Dropout(0.2)(x)
        model = keras.Model(inputs, keras.layers.Dense(CLASSES)(x))
        model.compile(
            optimizer=keras.optimizers.Adam(1e-4),
            loss=keras.losses.SparseCategoricalCrossentropy(from_logits=True),
            metrics=["accuracy"],
        )
        model.fit(train, validation_data=validation, epochs=EPOCHS, verbose=0)
        return images * EPOCHS

    return run


def ours(backbone, size, images, unfreeze_from=None, *, on_disk=False):
    """The same with `fit_head` or `fine_tune`, from an empty cache every time."""
    import keras

    from keras_tl.models import backbones, freezing, heads
    from keras_tl.training import features, phases, placement, store

    data = _data(size, images)
    setup = phases.Setup(placement.choose(["CPU:0"]), batch_size=BATCH)
    if on_disk:
        features._fit_in_memory = lambda stem, count: False
    fit = phases.fine_tune if unfreeze_from else phases.fit_head

    def run():
        keras.utils.set_random_seed(0)
        base = backbones.load(backbone, weights=None, image_size=size)
        freezing.freeze(base)
        model = heads.attach(base, CLASSES)
        if unfreeze_from:
            freezing.unfreeze_from(model, unfreeze_from)
        with tempfile.TemporaryDirectory() as folder:
            cache = store.Cache(Path(folder)) if on_disk else None
            fit(
                model,
                data,
                dataclasses.replace(setup, cache=cache),
                epochs=EPOCHS,
                learning_rate=1e-4,
                patience=EPOCHS,
            )
        return images * EPOCHS

    return run


def _benchmark(title, at_least, **options):
    return Benchmark(
        title=f"{title}: {options['images']:,} images, {EPOCHS} epochs, batch {BATCH}",
        item="image and epoch",
        cases={
            "keras_tl": functools.partial(ours, **options),
            "keras_tl, cache on disk": functools.partial(ours, **options, on_disk=True),
            "Keras guide": functools.partial(guide, **options),
        },
        ours="keras_tl",
        at_least=at_least,
        limit=f"one pass over the images: {EPOCHS} times",
        seconds=0,
    )


BENCHMARKS = {
    "frozen_vgg16": _benchmark(
        "Head on a frozen VGG16, 32 px",
        {"Keras guide": 11, "keras_tl, cache on disk": 0.8},
        backbone="vgg16",
        size=32,
        images=2000,
    ),
    "frozen_mobilenet_v2": _benchmark(
        "Head on a frozen MobileNetV2, 96 px",
        {"Keras guide": 8, "keras_tl, cache on disk": 0.8},
        backbone="mobilenet_v2",
        size=96,
        images=2000,
    ),
    "last_block_vgg16": _benchmark(
        "Last block of VGG16, 32 px",
        {"Keras guide": 2},
        backbone="vgg16",
        size=32,
        images=1000,
        unfreeze_from="block5",
    ),
}
