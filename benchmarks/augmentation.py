"""Augmentation with the settings of the articles: uint8 in RAM to float batches."""

import functools

import numpy as np

from benchmarks.harness import Benchmark, MissingError

ROTATION, SHIFT, SHEAR, ZOOM = 15, 0.1, 0.1, 0.1


def _images(size, count):
    rng = np.random.default_rng(0)
    return rng.integers(0, 256, (count, size, size, 3), dtype="uint8")


def _drain(dataset, count):
    def run():
        for _ in dataset:
            pass
        return count

    return run


def _batches(images, batch, change):
    """The usual pipeline around what changes a batch."""
    import tensorflow as tf

    dataset = tf.data.Dataset.from_tensor_slices(images).shuffle(len(images))
    dataset = dataset.batch(batch, drop_remainder=True)
    if change is not None:
        dataset = dataset.map(change, tf.data.AUTOTUNE)
    return _drain(dataset.prefetch(tf.data.AUTOTUNE), len(images))


def ours(size, count, batch):
    """One warp per image, through the pipeline that training uses."""
    from keras_tl.data import augment, pipeline
    from keras_tl.data.splits import Split

    function = augment.image_data_generator(
        rotation_range=ROTATION,
        width_shift_range=SHIFT,
        height_shift_range=SHIFT,
        shear_range=SHEAR,
        zoom_range=ZOOM,
        horizontal_flip=True,
    )
    split = Split(_images(size, count), np.zeros(count))
    return _drain(pipeline.Training(split, batch, 0, function).epoch(0), count)


def none(size, count, batch):
    """No augmentation: what the pipeline itself allows."""
    from keras_tl.data import pipeline
    from keras_tl.data.splits import Split

    split = Split(_images(size, count), np.zeros(count))
    return _drain(pipeline.Training(split, batch, 0).epoch(0), count)


def image_data_generator(size, count, batch):
    """Keras's `ImageDataGenerator.flow`."""
    from keras.src.legacy.preprocessing.image import ImageDataGenerator

    generator = ImageDataGenerator(
        rotation_range=ROTATION,
        width_shift_range=SHIFT,
        height_shift_range=SHIFT,
        shear_range=SHEAR,
        zoom_range=ZOOM,
        horizontal_flip=True,
    )
    flow = generator.flow(_images(size, count), np.zeros(count), batch_size=batch)
    # It is slow: part of an epoch says as much.
    steps = max(1, 256 // batch)

    def run():
        for _ in range(steps):
            next(flow)
        return steps * batch

    return run


def stacked_layers(size, count, batch):
    """The layers that replaced it, one behind the other."""
    from keras import layers

    options = {"fill_mode": "nearest", "interpolation": "bilinear"}
    stack = [
        layers.RandomRotation(ROTATION / 360, **options),
        layers.RandomTranslation(SHIFT, SHIFT, **options),
        layers.RandomShear(SHEAR, 0.0, **options),
        layers.RandomZoom((-ZOOM, ZOOM), (-ZOOM, ZOOM), **options),
        layers.RandomFlip("horizontal"),
    ]

    def change(images):
        for layer in stack:
            images = layer(images, training=True)
        return images

    return _batches(_images(size, count // 4), batch, change)


def opencv(size, count, batch):
    """OpenCV's warpAffine, image by image, inside tf.data."""
    import tensorflow as tf

    try:
        import cv2
    except ImportError as error:
        raise MissingError("needs opencv-python-headless, extra bench") from error

    cv2.setNumThreads(1)
    rng = np.random.default_rng(0)
    centre = (size - 1) / 2

    def warp(images):
        changed = np.empty_like(images)
        for index, image in enumerate(images):
            turn, shear = np.deg2rad(rng.uniform(-1, 1, 2) * [ROTATION, SHEAR])
            tx, ty = rng.uniform(-SHIFT, SHIFT, 2) * size
            zx, zy = rng.uniform(1 - ZOOM, 1 + ZOOM, 2)
            matrix = np.array(
                [
                    [np.cos(turn) * zx, -np.sin(turn + shear) * zy, tx],
                    [np.sin(turn) * zx, np.cos(turn + shear) * zy, ty],
                ]
            )
            matrix[:, 2] += centre - matrix[:, :2] @ [centre, centre]
            if rng.random() < 0.5:
                image = image[:, ::-1]
            cv2.warpAffine(
                image,
                matrix,
                (size, size),
                changed[index],
                cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP,
                cv2.BORDER_REPLICATE,
            )
        return changed

    def change(images):
        changed = tf.numpy_function(warp, [images], tf.uint8, stateful=False)
        return tf.cast(tf.ensure_shape(changed, images.shape), tf.float32)

    return _batches(_images(size, count), batch, change)


def albumentations(size, count, batch):
    """Albumentations, image by image, inside tf.data."""
    import tensorflow as tf

    try:
        import albumentations as library
    except ImportError as error:
        raise MissingError("needs albumentations, extra bench") from error

    compose = library.Compose(
        [
            library.Affine(
                rotate=(-ROTATION, ROTATION),
                translate_percent={"x": (-SHIFT, SHIFT), "y": (-SHIFT, SHIFT)},
                shear=(-SHEAR, SHEAR),
                scale={"x": (1 - ZOOM, 1 + ZOOM), "y": (1 - ZOOM, 1 + ZOOM)},
                border_mode=1,
            ),
            library.HorizontalFlip(p=0.5),
        ]
    )

    def warp(images):
        return np.stack([compose(image=image)["image"] for image in images])

    def change(images):
        changed = tf.numpy_function(warp, [images], tf.uint8, stateful=False)
        return tf.cast(tf.ensure_shape(changed, images.shape), tf.float32)

    return _batches(_images(size, count // 2), batch, change)


def _benchmark(size, count, batch, at_least):
    options = {"size": size, "count": count, "batch": batch}
    cases = {
        "keras_tl": ours,
        "ImageDataGenerator.flow": image_data_generator,
        "stacked Keras layers": stacked_layers,
        "OpenCV in tf.data": opencv,
        "albumentations": albumentations,
        "no augmentation": none,
    }
    return Benchmark(
        title=f"Augmentation of {size} px images, batch {batch}",
        item="image",
        cases={n: functools.partial(case, **options) for n, case in cases.items()},
        ours="keras_tl",
        at_least=at_least,
        limit="the pipeline without augmentation, last row",
        seconds=2.0,
    )


BENCHMARKS = {
    "augmentation_32": _benchmark(
        32,
        8192,
        128,
        {
            "ImageDataGenerator.flow": 10,
            "stacked Keras layers": 5,
            "OpenCV in tf.data": 0.9,
        },
    ),
    "augmentation_224": _benchmark(
        224,
        512,
        64,
        {
            "ImageDataGenerator.flow": 10,
            "stacked Keras layers": 10,
            "OpenCV in tf.data": 0.9,
        },
    ),
}
