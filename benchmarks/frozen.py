"""Training on a frozen backbone: run once, beside run again in every epoch."""

import dataclasses
import functools
import tempfile
from pathlib import Path

import numpy as np

from benchmarks.harness import Benchmark, check_bfloat16

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


def _guide(backbone, size, images, unfreeze_from=None, batch=BATCH):
    """The way of https://keras.io/guides/transfer_learning/, as it is copied.

    Gives a function that builds the model, and one that fits it for some epochs.
    """
    import keras
    import tensorflow as tf

    from keras_tl.models import backbones, freezing

    data = _data(size, images)

    def dataset(split):
        return tf.data.Dataset.from_tensor_slices((split.inputs.pixels, split.labels))

    train = dataset(data.train).shuffle(images).batch(batch).prefetch(tf.data.AUTOTUNE)
    validation = dataset(data.validation).batch(batch).prefetch(tf.data.AUTOTUNE)

    def build():
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
        return model

    def fit(model, epochs):
        model.fit(train, validation_data=validation, epochs=epochs, verbose=0)
        return images * epochs

    return build, fit


def guide(backbone, size, images, **options):
    """Build and train the guide's way, from nothing every time."""
    build, fit = _guide(backbone, size, images, **options)
    return lambda: fit(build(), EPOCHS)


def guide_epoch(backbone, size, images):
    """An epoch the guide's way, of a model that is built and compiled."""
    build, fit = _guide(backbone, size, images)
    return functools.partial(fit, build(), 1)


def ours(
    backbone,
    size,
    images,
    unfreeze_from=None,
    batch=BATCH,
    *,
    on_disk=False,
    precision="float32",
):
    """The same with `phases.fit`, from an empty cache every time."""
    import keras

    from keras_tl.models import backbones, freezing, heads
    from keras_tl.training import features, phases, placement, store

    if precision != "float32":
        check_bfloat16()
    data = _data(size, images)
    place = placement.choose(["CPU:0"], precision=precision)
    setup = phases.Setup(place, batch_size=batch)
    if on_disk:
        features._fits_in_memory = lambda stem, count: False
    build = phases.fine_tuning if unfreeze_from else phases.Phase
    phase = build(EPOCHS, 1e-4, patience=EPOCHS)

    def run():
        keras.utils.set_random_seed(0)
        base = backbones.load(backbone, weights=None, image_size=size)
        freezing.freeze(base)
        model = heads.attach(base, CLASSES)
        if unfreeze_from:
            freezing.unfreeze_from(model, unfreeze_from)
        with tempfile.TemporaryDirectory() as folder:
            cache = store.Cache(Path(folder)) if on_disk else None
            phases.fit(model, data, dataclasses.replace(setup, cache=cache), phase)
        return images * EPOCHS

    return run


def head_epochs(backbone, size, images):
    """Epochs of `phases.fit` on features that were extracted before."""
    import keras

    from keras_tl.models import backbones, freezing, heads
    from keras_tl.training import phases, placement

    keras.utils.set_random_seed(0)
    base = backbones.load(backbone, weights=None, image_size=size)
    freezing.freeze(base)
    model = heads.attach(base, CLASSES)
    setup = phases.Setup(placement.choose(["CPU:0"]), batch_size=BATCH)
    part, features = phases.precompute_frozen(model, _data(size, images), setup)
    # As many as make what a phase sets up once small, as it is in a long training.
    epochs = 10 * EPOCHS

    def run():
        phases.fit(part, features, setup, phases.Phase(epochs=epochs, patience=epochs))
        return images * epochs

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


def _in_bfloat16(title, at_least, **options):
    return Benchmark(
        title=f"{title}: {options['images']:,} images, {EPOCHS} epochs, batch {BATCH}",
        item="image and epoch",
        cases={
            "keras_tl, bfloat16": functools.partial(
                ours, **options, precision="mixed_bfloat16"
            ),
            "Keras guide, float32": functools.partial(guide, **options),
        },
        ours="keras_tl, bfloat16",
        at_least=at_least,
        limit=f"one pass over the images: {EPOCHS} times what bfloat16 gains",
        seconds=0,
    )


def _epochs(title, at_least, **options):
    return Benchmark(
        title=f"{title}: {options['images']:,} images, batch {BATCH}",
        item="image",
        cases={
            "keras_tl, an epoch on features": functools.partial(head_epochs, **options),
            "Keras guide, an epoch": functools.partial(guide_epoch, **options),
        },
        ours="keras_tl, an epoch on features",
        at_least=at_least,
        limit="the multiplications of the head alone, 0.03 MFLOP an image",
        seconds=0,
    )


VGG16 = {"backbone": "vgg16", "size": 32}
LAST_BLOCK = {**VGG16, "images": 1000, "unfreeze_from": "block5", "batch": 128}
MOBILENET_V2 = {"backbone": "mobilenet_v2", "size": 96}

BENCHMARKS = {
    "frozen_vgg16": _benchmark(
        "Head on a frozen VGG16, 32 px",
        {"Keras guide": 11, "keras_tl, cache on disk": 0.8},
        **VGG16,
        images=4000,
    ),
    "frozen_vgg16_bfloat16": _in_bfloat16(
        "Head on a frozen VGG16, 32 px",
        {"Keras guide, float32": 16},
        **VGG16,
        images=4000,
    ),
    "head_vgg16": _epochs(
        "The head alone, VGG16, 32 px",
        {"Keras guide, an epoch": 90},
        **VGG16,
        images=10_000,
    ),
    "frozen_mobilenet_v2": _benchmark(
        "Head on a frozen MobileNetV2, 96 px",
        {"Keras guide": 8, "keras_tl, cache on disk": 0.8},
        **MOBILENET_V2,
        images=4000,
    ),
    "head_mobilenet_v2": _epochs(
        "The head alone, MobileNetV2, 96 px",
        {"Keras guide, an epoch": 40},
        **MOBILENET_V2,
        images=10_000,
    ),
    "last_block_vgg16": Benchmark(
        title=f"Last block of VGG16, 32 px: 1,000 images, {EPOCHS} epochs, batch 128",
        item="image and epoch",
        cases={
            "keras_tl": functools.partial(ours, **LAST_BLOCK),
            "Keras guide": functools.partial(guide, **LAST_BLOCK),
        },
        ours="keras_tl",
        at_least={"Keras guide": 2},
        limit="the multiplications of the last block and one pass below it: 3.3 times",
        seconds=0,
    ),
}
