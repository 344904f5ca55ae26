"""A folder of photos as training batches: the first time, and once it was read."""

import functools
import tempfile
from pathlib import Path

import numpy as np

from benchmarks.harness import Benchmark

IMAGES, SIZE, BATCH = 512, 224, 32
# Width and height of the files, as cameras and collections have them.
SIDES = {"500 px": (500, 375), "12 megapixels": (4000, 3000)}


def photos(sides, count):
    """Write photos, scaled up from the CIFAR-10 sample, with some noise."""
    from PIL import Image

    from keras_tl.data import datasets

    sample = datasets.load().train
    rng = np.random.default_rng(0)
    noise = rng.normal(0, 6, (sides[1], sides[0], 1))
    folder = Path(tempfile.mkdtemp(prefix="photos-"))
    for index in range(count):
        label = folder / str(sample.labels[index])
        label.mkdir(exist_ok=True)
        image = Image.fromarray(sample.read([index])[0])
        image = image.resize(sides, Image.Resampling.BICUBIC)
        pixels = np.clip(np.asarray(image) + noise, 0, 255).astype("uint8")
        Image.fromarray(pixels).save(label / f"{index}.jpg", quality=85)
    return folder


def _epochs(dataset, count, go_to=None):
    epoch = 0

    def run():
        nonlocal epoch
        if go_to is not None:
            go_to(epoch)
            epoch += 1
        for _ in dataset:
            pass
        return count

    return run


def ours(sides, count, *, read_once):
    """The files through `pipeline.Training`, read once or in every epoch."""
    from keras_tl.data import pipeline, splits

    paths = sorted(photos(sides, count).rglob("*.jpg"))
    labels = [int(path.parent.name) for path in paths]
    split = splits.Split(paths, labels, image_size=SIZE)
    if read_once:
        split = splits.read_once(split)
    dataset, go_to = pipeline.Training(split, BATCH, seed=0).epochs()
    return _epochs(dataset, count, go_to)


def keras_way(sides, count):
    """`keras.utils.image_dataset_from_directory`, shuffled and prefetched."""
    import keras
    import tensorflow as tf

    dataset = keras.utils.image_dataset_from_directory(
        photos(sides, count),
        image_size=(SIZE, SIZE),
        batch_size=BATCH,
        crop_to_aspect_ratio=True,
        seed=0,
        verbose=False,
    )
    return _epochs(dataset.prefetch(tf.data.AUTOTUNE), count)


def _benchmark(title, sides, count, at_least, *, read_once):
    return Benchmark(
        title=f"{title}, {sides}, to {SIZE} px, batch {BATCH}",
        item="image",
        cases={
            "keras_tl": functools.partial(
                ours, SIDES[sides], count, read_once=read_once
            ),
            "image_dataset_from_directory": functools.partial(
                keras_way, SIDES[sides], count
            ),
        },
        ours="keras_tl",
        at_least={"image_dataset_from_directory": at_least},
        limit="decoding each file once",
        seconds=1.0,
    )


BENCHMARKS = {
    "folder_first": _benchmark(
        "First epoch on a folder of JPEGs", "500 px", IMAGES, 1.3, read_once=False
    ),
    "folder_later": _benchmark(
        "Later epochs on a folder of JPEGs", "500 px", IMAGES, 15, read_once=True
    ),
    "folder_photos": _benchmark(
        "First epoch on a folder of JPEGs", "12 megapixels", 32, 1.3, read_once=False
    ),
}
