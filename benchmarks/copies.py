"""What augmentation gains on a frozen backbone, and what it costs, by number of copies.

A head on a frozen EfficientNet-Lite0, 96 px, on the CIFAR-10 sample: without
augmentation, with k changed copies of each image that run once, and with new changes in
every epoch, for which the whole network runs every time.

    python -m benchmarks.copies            # measure and show, some minutes
    python -m benchmarks.copies --keep     # and write results/copies.json
"""

import sys
import time

import numpy as np

from benchmarks import harness, pages

EPOCHS, SEEDS, COPIES = 20, (0, 1, 2), (1, 2, 4, 8)
# The article's changes, as in recipes/vgg16_cifar10.py.
ARTICLE = {
    "rotation_range": 15,
    "width_shift_range": 0.1,
    "height_shift_range": 0.1,
    "shear_range": 0.1,
    "zoom_range": 0.1,
    "horizontal_flip": True,
}


def fit(data, seed: int, copies: int | None) -> tuple[float, float]:
    """Fit a head; `None` copies are no augmentation, 0 are new changes every epoch.

    Returns:
        Test accuracy, and the seconds that the phase took.
    """
    import keras

    from keras_tl.analysis import evaluation
    from keras_tl.data import augment
    from keras_tl.models import backbones, freezing, heads
    from keras_tl.training import phases, placement

    keras.utils.set_random_seed(seed)
    backbone = backbones.load("efficientnet_lite0", image_size=96)
    freezing.freeze(backbone)
    model = heads.attach(backbone, len(data.class_names))
    setup = phases.Setup(
        placement.choose(["CPU:0"]),
        batch_size=32,
        seed=seed,
        augment=None if copies is None else augment.image_data_generator(**ARTICLE),
        augmented_copies=copies or 0,
    )
    started = time.perf_counter()
    phases.fit(model, data, setup, phases.Phase(epochs=EPOCHS, patience=EPOCHS))
    seconds = time.perf_counter() - started
    logits = evaluation.predict(model, data.test)
    return float((logits.argmax(1) == data.test.labels).mean()), seconds


def main() -> None:
    """Measure every way with every seed, one seed of all ways after the other."""
    from keras_tl.data import datasets, splits

    data = datasets.load().at_size(96).map(splits.read_once)
    ways = {"none": None, **{f"{k} copies": k for k in COPIES}, "new every epoch": 0}
    runs = {name: [] for name in ways}
    for seed in SEEDS:
        for name, copies in ways.items():
            accuracy, seconds = fit(data, seed, copies)
            runs[name].append({"seed": seed, "accuracy": accuracy, "seconds": seconds})
            print(f"{name}, seed {seed}: {accuracy:.3f}, {seconds:.0f} s", flush=True)
    for name in ways:
        values = [run["accuracy"] for run in runs[name]]
        print(
            f"{name:<16}{np.mean(values):.3f}  {min(values):.3f} to {max(values):.3f}"
        )
    if "--keep" in sys.argv:
        about = {"epochs": EPOCHS, "ways": runs, **harness.machine()}
        pages.keep("copies", about)


if __name__ == "__main__":
    main()
