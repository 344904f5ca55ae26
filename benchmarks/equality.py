"""How far the weights of several devices are from those of one, for the same batches.

A row is one process, `python -m benchmarks.equality ENGINE CASE`, that trains on one
device and on several, of its own or of further processes, and prints its largest
differences as JSON. A further engine is an entry of `ENGINES`: the environment of its
process, and the cases that it can train.

Sums in another order differ in their last digits, and training can make more of it. So
one device also trains from a start that differs in the last digits; what that changes
is the measure for what several devices change.

    python -m benchmarks.equality            # measure and show, some minutes
    python -m benchmarks.equality --keep     # and write results/equality
"""

import contextlib
import dataclasses
import datetime
import functools
import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Callable
from dataclasses import dataclass

from benchmarks import clusters, harness, pages
from keras_tl import environment

EPOCHS, BATCH, IMAGES = 2, 32, 320
# Numbers that layers compute with -> about their last digit, as a share.
LAST_DIGIT = {"float32": 1e-7, "mixed_bfloat16": 2**-8}


@dataclass(frozen=True)
class Case:
    """A model that is trained, and how.

    Attributes:
        title: What it is, for people.
        build: Function from a number of classes to the model.
        size: Side of the images.
        augment: Whether images are changed anew in every epoch.
        whole: Whether devices must see all rows of a batch together: it trains
            BatchNormalization, draws dropout and clips gradients.
        precision: Name of the dtype policy.
    """

    title: str
    build: Callable
    size: int
    augment: bool
    whole: bool = False
    precision: str = "float32"


def small_cnn(classes: int):
    """Build a small CNN without dropout, all of which trains."""
    from keras_tl.models import heads, small_cnn

    model = heads.attach(small_cnn.small_cnn(), classes, dropout=0)
    # Devices of TensorFlow draw other dropout than one device.
    model.get_layer("spatial_dropout").rate = 0.0
    return model


def head(classes: int):
    """Build a head on a frozen backbone."""
    from keras_tl.models import backbones, freezing, heads

    backbone = backbones.load("efficientnet_lite0", image_size=64)
    freezing.freeze(backbone)
    return heads.attach(backbone, classes, dropout=0)


def small_resnet(classes: int):
    """Build a small network with BatchNormalization and dropout; all of it trains."""
    import keras

    from keras_tl.models import heads, small_resnet

    image = keras.Input((32, 32, 3), name="image")
    x = keras.layers.Rescaling(1 / 127.5, -1)(image)
    backbone = keras.Model(image, small_resnet.small_resnet(x))
    return heads.attach(backbone, classes, dropout=0.2)


CNN = Case("small CNN, all of it, 32 px", small_cnn, 32, augment=False)
HEAD = Case("head on a frozen EfficientNet-Lite0, 64 px", head, 64, augment=False)
CASES = {
    "cnn": CNN,
    "cnn_augmented": dataclasses.replace(CNN, augment=True),
    "head": HEAD,
    "head_augmented": dataclasses.replace(HEAD, augment=True),
    "cnn_bfloat16": dataclasses.replace(
        CNN, title=f"{CNN.title}, mixed bfloat16", precision="mixed_bfloat16"
    ),
    "whole": Case(
        "small ResNet that trains BatchNormalization, with dropout and clipping, 32 px",
        small_resnet,
        32,
        augment=True,
        whole=True,
    ),
}


@dataclass(frozen=True)
class Engine:
    """What trains on several devices.

    Attributes:
        title: What it is, for people.
        environment: Variables of the process, which decide its devices.
        whole: Whether it can train cases that are `whole`.
        devices: Number of devices.
        network: What connects devices that are processes of their own: "loopback", or
            "namespaces", each of which has network devices of its own; `None` where
            one process has all devices.
    """

    title: str
    environment: dict[str, str]
    whole: bool = False
    devices: int = 2
    network: str | None = None


ENGINES = {
    "mirrored": Engine(
        "TensorFlow, `MirroredStrategy`", {"KERAS_BACKEND": "tensorflow"}
    ),
    "jax": Engine(
        "JAX, `DataParallel`",
        {
            "KERAS_BACKEND": "jax",
            "JAX_PLATFORMS": "cpu",
            "XLA_FLAGS": "--xla_force_host_platform_device_count=2",
        },
        whole=True,
    ),
    "workers": Engine(
        "TensorFlow, a process each, `MultiWorkerMirroredStrategy`",
        {"KERAS_BACKEND": "tensorflow"},
        network="loopback",
    ),
    "four_workers": Engine(
        "TensorFlow, a process each, `MultiWorkerMirroredStrategy`",
        {"KERAS_BACKEND": "tensorflow"},
        devices=4,
        network="loopback",
    ),
    "namespaces": Engine(
        "the same, each in a network namespace of its own",
        {"KERAS_BACKEND": "tensorflow"},
        network="namespaces",
    ),
}
# Of engines that are another in the network alone, the cases that are trained.
FEW = {"four_workers": ("cnn_augmented",), "namespaces": ("cnn_augmented", "head")}


def row(engine: str, case: str) -> dict:
    """Compute one row, in a process in which Keras has not been loaded."""
    os.environ.update(ENGINES[engine].environment)
    if engine == "mirrored":
        import tensorflow as tf

        tf.config.set_logical_device_configuration(
            tf.config.list_physical_devices("CPU")[0],
            [tf.config.LogicalDeviceConfiguration()] * ENGINES[engine].devices,
        )
    data = load(CASES[case])
    one = train(data, CASES[case], ["CPU:0"])
    if ENGINES[engine].network:
        several = by_workers(engine, case)
    else:
        devices = [f"CPU:{number}" for number in range(ENGINES[engine].devices)]
        several = train(data, CASES[case], devices)
    digit = LAST_DIGIT[CASES[case].precision]
    nudged = train(data, CASES[case], ["CPU:0"], digit)
    return {
        "weights": _apart(one["weights"], several["weights"]),
        "losses": _apart(one["losses"], several["losses"]),
        "nudged": _apart(one["weights"], nudged["weights"]),
        "moved": _apart(one["weights"], one["start"]),
    }


def load(case: Case):
    """Load the images of a case."""
    from keras_tl.data import datasets, splits

    data = datasets.load(count=IMAGES).at_size(case.size)
    return data.map(splits.read_once)


def by_workers(engine: str, case: str) -> dict:
    """Train a case with a process for each device; return what `train` does."""
    import numpy as np

    count = ENGINES[engine].devices
    with contextlib.ExitStack() as stack:
        folder = stack.enter_context(tempfile.TemporaryDirectory())
        if ENGINES[engine].network == "namespaces":
            prefixes, addresses = stack.enter_context(namespaces(count))
        else:
            prefixes, addresses = [[]] * count, clusters.free_addresses(count)
        processes = [
            stack.enter_context(
                subprocess.Popen(
                    [
                        *(*prefixes[rank], sys.executable, "-m", "benchmarks.equality"),
                        *(engine, case, f"{folder}/{rank}.npz"),
                    ],
                    env=clusters.environment(addresses, rank),
                )
            )
            for rank in range(count)
        ]
        statuses = [process.wait() for process in processes]
        if any(statuses):
            raise RuntimeError("A worker has failed.")
        results = []
        for rank in range(count):
            with np.load(f"{folder}/{rank}.npz") as saved:
                weights = [saved[f"arr_{n}"] for n in range(len(saved.files) - 1)]
                results.append({"weights": weights, "losses": saved["losses"]})
    apart = max(_apart(results[0]["weights"], one["weights"]) for one in results)
    if apart:
        raise RuntimeError(f"The workers have other weights than each other: {apart}.")
    return results[0]


@contextlib.contextmanager
def namespaces(count: int):
    """Make connected network namespaces; yield how to run in each, and addresses.

    Linux alone has them, and only its administrator can make them.
    """
    names = [f"keras-tl-{number}" for number in range(count)]

    def ip(*arguments):
        subprocess.run(["ip", *arguments], check=True)

    try:
        ip("link", "add", "keras-tl", "type", "bridge")
        ip("link", "set", "keras-tl", "up")
        for number, name in enumerate(names):
            ip("netns", "add", name)
            ip(
                *("link", "add", f"ktl{number}", "type", "veth"),
                *("peer", "name", "eth0", "netns", name),
            )
            ip("link", "set", f"ktl{number}", "master", "keras-tl", "up")
            own = f"10.213.7.{number + 1}/24"
            ip("-n", name, "address", "add", own, "dev", "eth0")
            for device in ("lo", "eth0"):
                ip("-n", name, "link", "set", device, "up")
        yield (
            [["ip", "netns", "exec", name] for name in names],
            [f"10.213.7.{number + 1}:2222" for number in range(count)],
        )
    finally:
        for name in names:
            subprocess.run(["ip", "netns", "delete", name], check=False)
        subprocess.run(["ip", "link", "delete", "keras-tl"], check=False)


def _apart(some, others):
    """Return the largest difference between two lists of arrays."""
    import numpy as np

    pairs = zip(some, others, strict=True)
    return max(float(np.abs(one - other).max()) for one, other in pairs)


def train(data, case: Case, devices: list[str] | None, nudge: float = 0.0) -> dict:
    """Train a case; return its weights before and after, and its losses.

    The start of what trains is changed by the share `nudge`, at random.
    """
    import keras
    import numpy as np

    from keras_tl.data import augment
    from keras_tl.training import phases, placement

    place = placement.choose(devices, precision=case.precision)
    keras.utils.set_random_seed(0)
    with place.scope():
        model = case.build(len(data.class_names))
    setup = phases.Setup(
        place,
        batch_size=BATCH,
        choose_by="last",
        augment=(
            functools.partial(augment.flip_and_crop, padding=4)
            if case.augment
            else None
        ),
    )
    # Adam would hide gradients that are summed instead of averaged.
    clipping = {"global_clipnorm": 1.0} if case.whole else {}
    sgd = functools.partial(keras.optimizers.SGD, momentum=0.9, **clipping)
    rng = np.random.default_rng(0)
    for weight in model.trainable_weights if nudge else ():
        weight.assign(weight * (1 + nudge * rng.standard_normal(weight.shape)))
    start = model.get_weights()
    history = phases.fit(model, data, setup, phases.Phase(EPOCHS, 0.01, optimizer=sgd))
    return {"start": start, "weights": model.get_weights(), "losses": history["loss"]}


def measure(engine: str, case: str) -> dict:
    """Compute one row in a process of its own."""
    ended = subprocess.run(
        [sys.executable, "-m", "benchmarks.equality", engine, case],
        env={**os.environ, "TF_CPP_MIN_LOG_LEVEL": "3"},
        cwd=harness.ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    if ended.returncode:
        raise RuntimeError(ended.stderr[-2000:])
    measured = json.loads(ended.stdout.splitlines()[-1])
    about = {"engine": ENGINES[engine].title, "devices": ENGINES[engine].devices}
    about |= {"model": CASES[case].title, "augmented": CASES[case].augment}
    return about | measured


def main() -> None:
    """Measure every case on every engine that can train it."""
    if len(sys.argv) == 3:
        print(json.dumps(row(*sys.argv[1:])))
        return
    if len(sys.argv) == 4:
        import numpy as np

        case = CASES[sys.argv[2]]
        trained = train(load(case), case, None)
        np.savez(sys.argv[3], *trained["weights"], losses=trained["losses"])
        return
    rows = []
    for name, engine in ENGINES.items():
        for key, case in CASES.items():
            if (engine.whole or not case.whole) and key in FEW.get(name, CASES):
                rows.append(measure(name, key))
                print(rows[-1], flush=True)
    if "--keep" in sys.argv:
        about = harness.machine()
        about["versions"]["jax"] = environment.version("jax")
        about |= {"epochs": EPOCHS, "batch": BATCH, "images": IMAGES}
        date = datetime.date.today().isoformat()
        pages.keep("equality", {"date": date, "rows": rows, **about})


if __name__ == "__main__":
    main()
