"""Trains with every method that adds to the loss: what tests on several devices start.

python methods_script.py apart NAME...  # on one logical CPU and on two: prints how far
python methods_script.py train FOLDER   # where TF_CONFIG says: writes what came out
"""

import dataclasses
import functools
import json
import sys

import keras_tl.quiet  # noqa: F401

import keras
import numpy as np
from keras import layers

from keras_tl.data import augment
from keras_tl.data.splits import Split, Splits, beside
from keras_tl.methods import (
    distillation,
    domain_adaptation,
    ewc,
    fixmatch,
    multi_task,
    regularizers,
    self_supervised,
    sentence_pairs,
)
from keras_tl.training import objectives, phases, placement, terms, workers


def split(count, seed):
    """Make noise with three classes, and numbers to learn."""
    rng = np.random.default_rng(seed)
    images = rng.integers(0, 256, (count, 8, 8, 3), dtype="uint8")
    targets = rng.normal(size=(count, 3)).astype("float32")
    return Split(images, rng.integers(0, 3, count), targets=targets)


# 21 = a full batch of 16 and one of 5: the last is filled up.
taught = Splits(split(21, 0), split(16, 1), split(8, 2), "abc", "Noise.")
plain = taught.map(lambda split: dataclasses.replace(split, targets=None))
tasks = taught.map(
    lambda split: multi_task.label(split, {"task": (split.targets.argmax(1), 3)})
)


def joint(model, steps):
    """Learn two tasks."""
    heads = multi_task.heads(model, {"task": 3})
    heads["task"].set_weights([np.ones((4, 3)), np.zeros(3)])
    return multi_task.learn(heads, {"task": 3.0})(model, steps)


# 21 images of each half: every device must get both halves, in pairs.
others = dataclasses.replace(split(30, 3), targets=None)
paired = dataclasses.replace(plain, train=beside(plain.train, others))


def near(model, steps):
    """Bring the features of the two kinds of a batch together."""

    def loss(batch):
        features = batch.outputs["pool"]
        apart = keras.ops.sum((features[::2] - features[1::2]) ** 2, -1)
        return batch.progress * keras.ops.mean(apart)

    return terms.Term(loss, layers=["pool"], of_rows=False)


def old_head():
    """Return a head of before."""
    # Its answers must depend on the features.
    begin = keras.initializers.RandomNormal(stddev=2.0, seed=1)
    head = layers.Dense(5, kernel_initializer=begin)
    head.build((None, 4))
    return head


def important(model, steps):
    """Keep weights by the information in them."""
    return ewc.ewc(ewc.fisher(model, plain.test), strength=5.0)(model, steps)


def viewed():
    """Return images of which five have labels; both views of each are rows."""
    changes = (augment.flip_and_crop, augment.crop_and_colour())
    views = fixmatch.two_views(plain.train, *changes, seed=0, copies=2)
    return dataclasses.replace(
        plain, train=fixmatch.keep_labels(views, range(5), share=0.25)
    )


def numbered():
    """Return images whose two views are rows of a batch."""
    return self_supervised.in_views(plain)


METHODS = {
    "distillation": (taught, lambda: distillation.from_teacher()),
    "multi_task": (tasks, lambda: joint),
    "l2_sp": (plain, lambda: regularizers.l2_sp(alpha=1.0, beta=1.0)),
    "delta": (plain, lambda: regularizers.delta(["conv"], alpha=1.0, beta=1.0)),
    "lwf": (plain, lambda: regularizers.lwf(old_head(), alpha=10.0)),
    "beside": (paired, lambda: near),
    "domains": (paired, domain_adaptation.dann),
    "ewc": (plain, lambda: important),
    "views": (viewed, lambda: fixmatch.fixmatch(threshold=0.4)),
    "statistics": (paired, domain_adaptation.coral),
    "contrast": (numbered, lambda: self_supervised.simclr(widths=(8, 4))),
    "pairs": (plain, sentence_pairs.cosine),
}
# Name of a method -> other settings of its phase.
OPTIONS = {
    "contrast": {
        "objective": objectives.Unlabelled(),
        "choose_by": "last",
        "augment": augment.flip_and_crop,
    }
}


def train(name, place):
    """Train with a method; return the weights and the losses."""
    keras.utils.set_random_seed(0)
    data, build = METHODS[name]
    # Not before the devices are chosen: it uses TensorFlow.
    data = data() if callable(data) else data
    with place.scope():
        image = keras.Input((8, 8, 3), name="image")
        x = layers.Rescaling(1 / 127.5, -1)(image)
        x = layers.Conv2D(4, 3, name="conv")(x)
        x = layers.GlobalAveragePooling2D(name="pool")(x)
        model = keras.Model(image, layers.Dense(3, name="logits")(x))
        method = build()
    setup = phases.Setup(place, batch_size=16, **OPTIONS.get(name, {}))
    # Adam would hide a gradient that is too large.
    sgd = functools.partial(keras.optimizers.SGD, momentum=0.9)
    phase = phases.Phase(3, 0.05, optimizer=sgd, method=method, patience=9)
    history = phases.fit(model, data, setup, phase)
    return [
        *model.get_weights(),
        np.array(history["loss"]),
        np.array(history["val_loss"]),
    ]


def main(task: str, *arguments: str) -> None:
    """Train with some methods on one device and on two, or with all by a worker."""
    if task == "apart":
        import tensorflow as tf

        tf.config.set_logical_device_configuration(
            tf.config.list_physical_devices("CPU")[0],
            [tf.config.LogicalDeviceConfiguration()] * 2,
        )
        places = [placement.choose(names) for names in (["CPU:0"], ["CPU:0", "CPU:1"])]
        print(json.dumps({name: apart(name, places) for name in arguments}))
        return
    (folder,) = arguments
    place = placement.choose()
    connected = workers.current()
    rank = 0 if connected is None else connected.cluster.rank
    for name in METHODS:
        np.savez(f"{folder}/{name}-{rank}", *train(name, place))


def apart(name, places):
    """Return the largest difference between devices."""
    one, two = [train(name, place) for place in places]
    return max(float(np.abs(a - b).max()) for a, b in zip(one, two, strict=True))


if __name__ == "__main__":
    main(*sys.argv[1:])
