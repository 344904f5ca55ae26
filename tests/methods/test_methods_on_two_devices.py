"""What methods add to the loss counts once, on however many devices.

Keras divides its own loss by the number of devices, whose gradients are added.
"""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]

pytestmark = pytest.mark.slow

# TensorFlow fixes its devices when it starts, so this needs a process of its own.
SCRIPT = """
import dataclasses, functools, json
import keras, numpy as np, tensorflow as tf
from keras import layers
cpu = tf.config.list_physical_devices("CPU")[0]
tf.config.set_logical_device_configuration(
    cpu, [tf.config.LogicalDeviceConfiguration()] * 2
)
from keras_tl.data.splits import Split, Splits, beside
from keras_tl.methods import distillation, multi_task, regularizers
from keras_tl.training import phases, placement, terms

def split(count, seed):
    rng = np.random.default_rng(seed)
    images = rng.integers(0, 256, (count, 8, 8, 3), dtype="uint8")
    targets = rng.normal(size=(count, 3)).astype("float32")
    return Split(images, rng.integers(0, 3, count), targets=targets)

# 21 = a full batch of 16 and one of 5: the last is filled up.
taught = Splits(split(21, 0), split(16, 1), split(8, 2), "abc", "Noise.")
plain = taught.map(lambda split: dataclasses.replace(split, targets=None))
tasks = taught.map(lambda split: multi_task.label(
    split, {"task": (split.targets.argmax(1), 3)}
))

def joint(model, steps):
    heads = multi_task.heads(model, {"task": 3})
    heads["task"].set_weights([np.ones((4, 3)), np.zeros(3)])
    return multi_task.learn(heads, {"task": 3.0})(model, steps)

# 21 images of each half: every device must get both halves, in pairs.
others = dataclasses.replace(split(30, 3), targets=None)
paired = dataclasses.replace(plain, train=beside(plain.train, others))

def near(model, steps):
    def loss(batch):
        features = batch.outputs["pool"]
        apart = keras.ops.sum((features[::2] - features[1::2]) ** 2, -1)
        return batch.progress * keras.ops.mean(apart)
    return terms.Term(loss, layers=["pool"])

def old_head():
    # Its answers must depend on the features.
    begin = keras.initializers.RandomNormal(stddev=2.0, seed=1)
    head = layers.Dense(5, kernel_initializer=begin)
    head.build((None, 4))
    return head

METHODS = {
    "distillation": (taught, lambda: distillation.from_teacher()),
    "multi_task": (tasks, lambda: joint),
    "l2_sp": (plain, lambda: regularizers.l2_sp(alpha=1.0, beta=1.0)),
    "delta": (plain, lambda: regularizers.delta(["conv"], alpha=1.0, beta=1.0)),
    "lwf": (plain, lambda: regularizers.lwf(old_head(), alpha=10.0)),
    "beside": (paired, lambda: near),
}

def train(name, place):
    keras.utils.set_random_seed(0)
    data, build = METHODS[name]
    with place.scope():
        image = keras.Input((8, 8, 3), name="image")
        x = layers.Rescaling(1 / 127.5, -1)(image)
        x = layers.Conv2D(4, 3, name="conv")(x)
        x = layers.GlobalAveragePooling2D(name="pool")(x)
        model = keras.Model(image, layers.Dense(3, name="logits")(x))
        method = build()
    setup = phases.Setup(place, batch_size=16)
    # Adam would hide a gradient that is too large.
    sgd = functools.partial(keras.optimizers.SGD, momentum=0.9)
    phase = phases.Phase(3, 0.05, optimizer=sgd, method=method, patience=9)
    history = phases.fit(model, data, setup, phase)
    return [*model.get_weights(), np.array(history["loss"]),
            np.array(history["val_loss"])]

# Once: a second strategy on the same devices would get in the way of the first.
places = [placement.choose(devices) for devices in (["CPU:0"], ["CPU:0", "CPU:1"])]

def apart(name):
    one, two = [train(name, place) for place in places]
    return max(float(np.abs(a - b).max()) for a, b in zip(one, two, strict=True))

print(json.dumps({name: apart(name) for name in METHODS}))
"""
METHODS = ("distillation", "multi_task", "l2_sp", "delta", "lwf", "beside")


@pytest.fixture(scope="module")
def apart():
    ended = subprocess.run(
        [sys.executable, "-c", SCRIPT],
        env={**os.environ, "PYTHONPATH": str(ROOT), "TF_CPP_MIN_LOG_LEVEL": "3"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert ended.returncode == 0, ended.stderr
    return json.loads(ended.stdout.splitlines()[-1])


@pytest.mark.parametrize("name", METHODS)
def test_two_devices_give_what_one_gives(apart, name):
    assert apart[name] < 1e-4
