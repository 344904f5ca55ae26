"""The phases on two logical CPUs give the weights of one device, for the same data.

Frozen, then fine-tuned with a learning rate for each block and clipped gradients; on
TensorFlow, and on JAX where it is installed too.
"""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from keras_tl import errors

ROOT = Path(__file__).parents[2]

pytestmark = pytest.mark.slow

# What makes two devices of the processor. Both fix their devices when they start, so
# this needs a process of its own.
ENVIRONMENT = {
    "tensorflow": {},
    "jax": {
        "XLA_FLAGS": "--xla_force_host_platform_device_count=2",
        "JAX_PLATFORMS": "cpu",
    },
}

SCRIPT = """
import json
import keras, numpy as np, tensorflow as tf
from keras import layers
cpu = tf.config.list_physical_devices("CPU")[0]
tf.config.set_logical_device_configuration(
    cpu, [tf.config.LogicalDeviceConfiguration()] * 2
)
from functools import partial
from keras_tl.analysis import evaluation
from keras_tl.data import augment
from keras_tl.data.splits import Split, Splits
from keras_tl.models import freezing, heads
from keras_tl.training import optimizers, phases, placement

def split(count, seed):
    rng = np.random.default_rng(seed)
    images = rng.integers(0, 256, (count, 8, 8, 3), dtype="uint8")
    return Split(images, rng.integers(0, 3, count))

# 41 = 2 full batches of 16 and one of 9: the last is filled up.
data = Splits(split(41, 0), split(19, 1), split(8, 2), "abc", "Noise.")

def train(devices, crop):
    place = placement.choose(devices)
    keras.utils.set_random_seed(0)
    with place.scope():
        image = keras.Input((8, 8, 3), name="image")
        x = layers.Rescaling(1 / 127.5, -1)(image)
        x = layers.Conv2D(4, 3, name="block1_conv")(x)
        x = layers.BatchNormalization(name="block1_bn")(x)
        x = layers.Conv2D(4, 3, activation="relu", name="block2_conv")(x)
        backbone = keras.Model(image, x)
        freezing.freeze(backbone)
        model = heads.attach(backbone, 3, dropout=0)
    setup = phases.Setup(place, batch_size=16)
    head = phases.fit(model, data, setup, phases.Phase(3, patience=9))
    freezing.unfreeze(model)
    setup = phases.Setup(place, batch_size=16, augment=crop)
    factors = {"block1": 0.1, "block2": 0.5}
    # A limit below most gradients.
    slow = optimizers.layerwise("adamw", factors, clipvalue=0.001)
    tuned = phases.fit(model, data, setup,
                       phases.fine_tuning(3, 0.01, patience=9, optimizer=slow))
    del head["seconds"], tuned["seconds"]
    logits = evaluation.predict(model, data.test, batch_size=4)
    return model.get_weights(), head, tuned, logits

crop = partial(augment.flip_and_crop, padding=2)
one, two = train(["CPU:0"], crop), train(["CPU:0", "CPU:1"], crop)
def apart(a, b):
    return max(float(np.abs(np.subtract(x, y)).max()) for x, y in zip(a, b))

print(json.dumps({
    "weights": apart(one[0], two[0]),
    "head": apart(one[1].values(), two[1].values()),
    "tuned": apart(one[2].values(), two[2].values()),
    "logits": apart(one[3], two[3]),
    "rows": two[3].shape[0],
    "epochs": len(two[2]["loss"]),
    "distribution": type(keras.distribution.distribution()).__name__,
}))
"""


@pytest.fixture(scope="module", params=ENVIRONMENT)
def apart(request):
    if not errors.is_installed(request.param):
        pytest.skip(f"{request.param} is not installed")
    path = os.pathsep.join([str(ROOT), os.environ.get("PYTHONPATH", "")])
    ended = subprocess.run(
        [sys.executable, "-c", SCRIPT],
        env={
            **os.environ,
            "PYTHONPATH": path,
            "TF_CPP_MIN_LOG_LEVEL": "3",
            "KERAS_BACKEND": request.param,
            **ENVIRONMENT[request.param],
        },
        capture_output=True,
        text=True,
        check=False,
    )
    assert ended.returncode == 0, ended.stderr
    return {"backend": request.param, **json.loads(ended.stdout.splitlines()[-1])}


@pytest.mark.parametrize("what", ["weights", "head", "tuned", "logits"])
def test_two_devices_give_what_one_gives(apart, what):
    assert apart["epochs"] == 3
    assert apart[what] < 1e-4


def test_keras_distributes_on_jax_alone(apart):
    # On TensorFlow its DataParallel does nothing and says nothing.
    wanted = {"tensorflow": "NoneType", "jax": "DataParallel"}
    assert apart["distribution"] == wanted[apart["backend"]]


def test_a_prediction_has_one_row_for_each_image(apart):
    assert apart["rows"] == 8
