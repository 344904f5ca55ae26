"""Trains as one process, or as one of several: what `test_workers` starts.

python worker_script.py CASE FOLDER
"""

import functools
import sys
import time
from dataclasses import replace

import keras_tl.quiet  # noqa: F401

import keras
import numpy as np
from keras import layers

from keras_tl.analysis import evaluation
from keras_tl.data import augment, random_layers
from keras_tl.data.sources import ImageArray
from keras_tl.data.splits import Split, Splits
from keras_tl.models import freezing, heads
from keras_tl.training import optimizers, phases, placement, workers


class SlowImages(ImageArray):
    """Images on a disk that takes its time."""

    def read(self, indices):
        """Read some images after a while."""
        time.sleep(1.5)
        return super().read(indices)


def split(count, seed):
    """Make noise with three classes."""
    rng = np.random.default_rng(seed)
    images = rng.integers(0, 256, (count, 8, 8, 3), dtype="uint8")
    return Split(images, rng.integers(0, 3, count))


# Two full batches of 16, and one of 9: the last is filled up.
DATA = Splits(split(41, 0), split(19, 1), split(7, 2), "abc", "Noise.")
SGD = functools.partial(keras.optimizers.SGD, momentum=0.9)
CROP = functools.partial(augment.flip_and_crop, padding=2)


def build(place):
    """Build a small network without dropout."""
    keras.utils.set_random_seed(0)
    with place.scope():
        image = keras.Input((8, 8, 3), name="image")
        x = layers.Rescaling(1 / 127.5, -1)(image)
        x = layers.Conv2D(4, 3, name="block1_conv")(x)
        x = layers.BatchNormalization(name="block1_bn")(x)
        x = layers.Conv2D(4, 3, activation="relu", name="block2_conv")(x)
        return heads.attach(keras.Model(image, x), 3, dropout=0)


def frozen_then_tuned(place):
    """Train the head, then all layers with a rate for each block."""
    model = build(place)
    freezing.freeze(model)
    freezing.unfreeze_head(model)
    setup = phases.Setup(place, batch_size=16)
    head = phases.fit(model, DATA, setup, phases.Phase(3, patience=9))
    freezing.unfreeze(model)
    setup = phases.Setup(place, batch_size=16, augment=CROP)
    slow = optimizers.layerwise("adamw", {"block1": 0.1, "block2": 0.5})
    phase = phases.fine_tuning(3, 0.01, patience=9, optimizer=slow)
    return model, {**head, **phases.fit(model, DATA, setup, phase)}


def mixed(place):
    """Mix images with others of their batch."""
    model = build(place)
    freezing.unfreeze(model)
    mix = random_layers.cut_mix()
    setup = phases.Setup(place, batch_size=16, mix=mix, choose_by="last")
    return model, phases.fit(model, DATA, setup, phases.Phase(2, 0.01, optimizer=SGD))


def synchronized(place):
    """Train BatchNormalization by the statistics of all devices, and clip."""
    model = build(place)
    model.trainable = True
    setup = phases.Setup(place, batch_size=16, choose_by="last")
    clipped = functools.partial(SGD, global_clipnorm=0.1)
    phase = phases.Phase(2, 0.01, optimizer=clipped)
    return model, phases.fit(model, DATA, setup, phase)


CASES = {
    "frozen then tuned": frozen_then_tuned,
    "images mixed": mixed,
    "synchronized and clipped": synchronized,
}


def main(case: str, folder: str) -> None:
    """Run a case, and write what came out."""
    place = placement.choose()
    connected = workers.current()
    rank = 0 if connected is None else connected.cluster.rank
    if case == "equal":
        for name, train in CASES.items():
            model, history = train(place)
            del history["seconds"]
            logits = evaluation.predict(model, DATA.test, batch_size=4)
            values = {"logits": logits, "history": np.array(list(history.values()))}
            np.savez(f"{folder}/{name}-{rank}", *model.get_weights(), **values)
        return
    data = DATA
    if case == "other labels" and rank == 1:
        data = replace(DATA, train=replace(DATA.train, labels=1 - DATA.train.labels))
    if case == "slow" and rank == 1:
        pixels = DATA.train.inputs.read(range(41))
        data = replace(DATA, train=replace(DATA.train, inputs=SlowImages(pixels)))
    model = build(place)
    freezing.freeze(model)
    freezing.unfreeze_head(model)
    phases.fit(model, data, phases.Setup(place, batch_size=16), phases.Phase(2))


if __name__ == "__main__":
    main(*sys.argv[1:])
