"""How much faster two workers are than one, where each has one core of a processor.

A round measures every case with one process on one core, with one on two cores, and
with two processes on a core each, one after the other.

    python -m benchmarks.worker_scaling          # some minutes
    python -m benchmarks.worker_scaling --keep   # and write results and pages
"""

import datetime
import json
import os
import statistics
import subprocess
import sys
import time
from collections.abc import Callable

from benchmarks import clusters, harness, pages

ROUNDS, IMAGES, BATCH = 3, 512, 32


def features() -> float:
    """Time the features of a frozen backbone, in seconds for all images."""
    from keras_tl.data import datasets
    from keras_tl.models import backbones
    from keras_tl.training import features as extraction
    from keras_tl.training import placement

    placement.choose()
    images = datasets.load(count=IMAGES).at_size(96).train.take(range(IMAGES)).inputs
    backbone = backbones.load("efficientnet_lite0", image_size=96)
    extraction.run(backbone, images.take(range(2 * BATCH)), BATCH)  # Is traced.
    started = time.perf_counter()
    extraction.run(backbone, images, BATCH)
    return time.perf_counter() - started


def training(build: Callable, image_size: int) -> float:
    """Time the training of all layers, in seconds of an epoch."""
    import keras

    from keras_tl.data import datasets, splits
    from keras_tl.models import freezing, heads
    from keras_tl.training import phases, placement

    place = placement.choose()
    keras.utils.set_random_seed(0)
    data = datasets.load(count=IMAGES).at_size(image_size).map(splits.read_once)
    with place.scope():
        model = heads.attach(build(), len(data.class_names))
        freezing.unfreeze(model)
    setup = phases.Setup(place, batch_size=BATCH, choose_by="last")
    history = phases.fit(model, data, setup, phases.Phase(3, 1e-3))
    # The first epoch is traced.
    return min(history["seconds"][1:])


def vgg16() -> float:
    """Time the training of VGG16, whose many weights are all exchanged."""
    from keras_tl.models import backbones

    return training(lambda: backbones.load("vgg16", weights=None, image_size=32), 32)


def efficientnet() -> float:
    """Time the training of EfficientNet-Lite0, which computes much with few weights."""
    from keras_tl.models import backbones

    return training(lambda: backbones.load("efficientnet_lite0", image_size=96), 96)


# Name of a case -> what it is, and what times it in a worker.
CASES = {
    "features": ("features of a frozen EfficientNet-Lite0, 96 px", features),
    "efficientnet": ("all of EfficientNet-Lite0, 96 px", efficientnet),
    "vgg16": ("all of VGG16, 32 px, 59 MB of gradients a step", vgg16),
}


def measure(case: str, cores: list[set[int]]) -> float:
    """Return the seconds of a case, by a process for each set of cores."""
    count = len(cores)
    addresses = clusters.free_addresses(count)
    command = [sys.executable, "-m", "benchmarks.worker_scaling", case]
    processes = [
        subprocess.Popen(
            [*command, ",".join(map(str, cores[rank]))],
            env=clusters.environment(addresses, rank),
            stdout=subprocess.PIPE,
            text=True,
        )
        for rank in range(count)
    ]
    outputs = [process.communicate()[0] for process in processes]
    if any(process.returncode for process in processes):
        raise RuntimeError(f"{case} on {cores} has failed.")
    # All wait for the last.
    return max(json.loads(output.splitlines()[-1]) for output in outputs)


def main() -> None:
    """Measure all cases in every round."""
    given = [argument for argument in sys.argv[1:] if argument != "--keep"]
    if len(given) == 2:
        os.sched_setaffinity(0, {int(core) for core in given[1].split(",")})
        print(json.dumps(CASES[given[0]][1]()))
        return
    first, second = sorted(os.sched_getaffinity(0))[:2]
    processes = {
        "one core": [{first}],
        "two cores": [{first, second}],
        "two workers": [{first}, {second}],
    }
    seconds: dict[str, dict[str, list[float]]] = {
        case: {name: [] for name in processes} for case in CASES
    }
    for _ in range(ROUNDS):
        for case, of_case in seconds.items():
            for name, cores in processes.items():
                of_case[name].append(measure(case, cores))
                print(case, name, f"{of_case[name][-1]:.2f} s", flush=True)
    rows = []
    for case, of_case in seconds.items():
        ratios = [
            one / two
            for one, two in zip(
                of_case["one core"], of_case["two workers"], strict=True
            )
        ]
        rows.append(
            {
                "case": CASES[case][0],
                "seconds": {name: statistics.median(s) for name, s in of_case.items()},
                "speed_up": [min(ratios), statistics.median(ratios), max(ratios)],
            }
        )
    if "--keep" in sys.argv:
        date = datetime.date.today().isoformat()
        about = {"rounds": ROUNDS, "images": IMAGES, "batch": BATCH}
        about |= {"date": date, **harness.machine()}
        pages.keep("worker_scaling", {"rows": rows, **about})


if __name__ == "__main__":
    main()
