"""The core from numpy arrays, by batch size: what any backend of Keras can run.

`python -m benchmarks core_extraction core_head core_fine_tuning --backend jax` runs it
where TensorFlow is not installed.
"""

import functools

import numpy as np

from benchmarks.harness import Benchmark

SIZE, IMAGES, CLASSES = 96, 256, 10
BATCHES = (16, 64, 256)


def _pixels():
    rng = np.random.default_rng(0)
    return rng.integers(0, 256, (IMAGES, SIZE, SIZE, 3), dtype="uint8")


def _classifier(unfreeze_from=None):
    import keras

    from keras_tl.models import backbones, freezing, heads

    backbone = backbones.load("vgg16", weights=None, image_size=SIZE)
    freezing.freeze(backbone)
    model = heads.attach(backbone, CLASSES)
    if unfreeze_from:
        freezing.unfreeze_from(model, unfreeze_from)
    model.compile(
        keras.optimizers.Adam(1e-4),
        keras.losses.SparseCategoricalCrossentropy(from_logits=True),
    )
    return model


def extraction(batch):
    """The frozen stem over the images, as `training.features` runs it."""
    from keras_tl.data.splits import Split
    from keras_tl.models import splitting
    from keras_tl.training import features

    model = _classifier()
    stem, _ = splitting.split_at(model, splitting.frozen_cut(model)[1])
    split = Split(_pixels(), np.zeros(IMAGES))

    def run():
        features.run(stem, split, batch)
        return IMAGES

    return run


def head(batch):
    """Epochs of the head on features."""
    from keras_tl.models import splitting

    model = _classifier()
    _, tail = splitting.split_at(model, splitting.frozen_cut(model)[1])
    tail.compile(model.optimizer.__class__(1e-3), model.loss)
    count = 40 * IMAGES
    features = np.random.default_rng(0).random((count, *tail.input_shape[1:]))
    features, labels = features.astype("float32"), np.arange(count) % CLASSES

    def run():
        tail.fit(features, labels, batch_size=batch, verbose=0)
        return count

    return run


def fine_tuning(batch):
    """Epochs with the last block trainable, through the whole network."""
    model, pixels = _classifier("block5"), _pixels()
    labels = np.arange(IMAGES) % CLASSES

    def run():
        model.fit(pixels, labels, batch_size=batch, verbose=0)
        return IMAGES

    return run


def _benchmark(title, case, limit):
    return Benchmark(
        title=f"{title}, VGG16, {SIZE} px, from numpy arrays",
        item="image",
        cases={f"batch {batch}": functools.partial(case, batch) for batch in BATCHES},
        ours=f"batch {BATCHES[-1]}",
        ratio=f"batch {BATCHES[-1]} is so many times as fast",
        limit=limit,
        seconds=0,
    )


BENCHMARKS = {
    "core_extraction": _benchmark(
        "Extraction of features", extraction, "5.6 GFLOP an image"
    ),
    "core_head": _benchmark("Epochs of the head", head, "31 kFLOP an image"),
    "core_fine_tuning": _benchmark(
        "Fine-tuning of the last block", fine_tuning, "7 GFLOP an image"
    ),
}
