"""Test accuracy in a given time: `keras-tl train` beside the code of the Keras guide.

Both get the same images in the same splits, the same backbone with the same weights,
the same minutes and the same cores; each is a process of its own, one after the other,
and its time counts from its start to its exit. The guide has neither a time nor a
choice of epochs: half of the time trains the head on the frozen backbone, half the
whole model at 1e-5, as in https://keras.io/guides/transfer_learning/. With the
interpreter of an environment that has PyTorch (`--torch`), its tutorial and fastai run
as well, see accuracy_torch.py. Photographs are those of a folder with real data, which
is not part of the project.

    python -m benchmarks.accuracy DATA --minutes 2 5 --seeds 0 1 2           # show
    python -m benchmarks.accuracy DATA --minutes 2 5 --seeds 0 1 2 --keep    # and write

Finished trials are in `--state FOLDER`; a benchmark that was stopped goes on there, and
`--finished` takes what is there alone. With `--minutes 0` the recipe `quickstart` runs
as long as it does.
"""

import argparse
import contextlib
import datetime
import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
from PIL import Image

from benchmarks import harness, pages
from keras_tl import files

TARGETS = ("hymenoptera", "pacs_photo", "pacs_sketch", "cifar10_sample", "digits")
# Of TensorFlow Datasets, 60,000 images: only where it is asked for.
LARGE = "cifar10"
IMAGE_SIZE, BATCH = 160, 32


def write_folder(target: str, real: Path, folder: Path) -> None:
    """Write the three splits of a target as folders of images, once."""
    from keras_tl.data import datasets

    if folder.exists():
        return
    name = target
    if target.startswith("pacs_"):
        name = real / "data" / "pacs" / target.removeprefix("pacs_")
    elif target == "hymenoptera":
        name = real / "data" / target
    data = datasets.load(name, bad_files="skip")
    for split_name, split in data.items():
        for index, label in enumerate(split.labels):
            place = folder / split_name / data.class_names[label]
            place.mkdir(parents=True, exist_ok=True)
            paths = getattr(split.inputs, "paths", None)
            if paths is None:
                image = Image.fromarray(split.read([index])[0])
                image.save(place / f"{index:05}.png")
            else:
                path = Path(paths[index])
                (place / f"{index:05}{path.suffix}").write_bytes(path.read_bytes())


def ours(folder: Path, minutes: float, seed: int, out: Path) -> float:
    """Train with `keras-tl train`; return the test accuracy."""
    command = [sys.executable, "-m", "keras_tl", "train", folder]
    command += ["--minutes", minutes, "--seed", seed, "--out", out / "run"]
    _run(command, KERAS_TL_CACHE=str(out / "cache"))
    models = json.loads((out / "run" / "metrics.json").read_text())["models"]
    return list(models.values())[-1]["accuracy"]


def quickstart(folder: Path, minutes: float, seed: int, out: Path) -> float:
    """Run the recipe `quickstart`, which has no time; return the test accuracy."""
    command = [sys.executable, "-m", "keras_tl", "run", "quickstart", "--data", folder]
    command += ["--scratch-epochs", 0, "--seed", seed, "--out", out / "run"]
    _run(command, KERAS_TL_CACHE=str(out / "cache"))
    models = json.loads((out / "run" / "metrics.json").read_text())["models"]
    return list(models.values())[-1]["accuracy"]


def keras_guide(folder: Path, minutes: float, seed: int, out: Path) -> float:
    """Train as the Keras guide does; return the test accuracy."""
    result = out / "accuracy.json"
    arguments = [folder, minutes, seed, result]
    _run([sys.executable, "-m", "benchmarks.accuracy", "guide", *arguments])
    return json.loads(result.read_text())


def export_weights(path: Path) -> None:
    """Write the backbone's weights in PyTorch's layout, in the order of its layers."""
    import keras

    from keras_tl.models import backbones

    arrays = []
    for layer in backbones.load("efficientnet_lite0", image_size=IMAGE_SIZE).layers:
        if isinstance(layer, keras.layers.DepthwiseConv2D):
            arrays.append(layer.get_weights()[0].transpose(2, 3, 0, 1))
        elif isinstance(layer, keras.layers.Conv2D):
            arrays.append(layer.get_weights()[0].transpose(3, 2, 0, 1))
        elif isinstance(layer, keras.layers.BatchNormalization):
            arrays += layer.get_weights()
    path.parent.mkdir(parents=True, exist_ok=True)
    np.savez(path, *arrays)


def with_torch(name: str, python: Path, weights: Path):
    """Return a contender that runs under an interpreter which has PyTorch."""

    def run(folder: Path, minutes: float, seed: int, out: Path) -> float:
        result = out / "accuracy.json"
        script = Path(__file__).with_name("accuracy_torch.py")
        end = time.time() + 60 * minutes
        _run([python, script, name, folder, end, seed, weights, result])
        return json.loads(result.read_text())

    return run


CONTENDERS = {"keras-tl train": ours, "Keras guide": keras_guide}
TORCH_CONTENDERS = ("PyTorch tutorial", "fastai")


def _run(command, **variables):
    process = subprocess.run(
        list(map(str, command)),
        capture_output=True,
        text=True,
        check=False,
        env={**os.environ, "TF_CPP_MIN_LOG_LEVEL": "3", **variables},
    )
    if process.returncode:
        sys.exit(f"{process.stdout[-2000:]}\n{process.stderr[-2000:]}")


def _end(until):
    """Build a callback that ends training in the middle of an epoch."""
    import keras

    def stop(batch, logs):
        if time.perf_counter() > until:
            raise TimeoutError

    return keras.callbacks.LambdaCallback(on_train_batch_end=stop)


def guide(folder: Path, minutes: float, seed: int) -> float:
    """Run the code of the guide until the time is over, and test it."""
    started = time.perf_counter()
    import keras

    from keras_tl.models import backbones

    keras.utils.set_random_seed(seed)
    load = keras.utils.image_dataset_from_directory
    size = (IMAGE_SIZE, IMAGE_SIZE)
    options = {"image_size": size, "batch_size": BATCH, "label_mode": "int"}
    train = load(str(folder / "train"), seed=seed, **options).cache()
    test = load(str(folder / "test"), shuffle=False, **options)
    augmentation = [
        keras.layers.RandomFlip("horizontal"),
        keras.layers.RandomRotation(0.1),
    ]

    def augment(x, y):
        for layer in augmentation:
            x = layer(x)
        return x, y

    train = train.map(augment).prefetch(2)
    base = backbones.load("efficientnet_lite0", image_size=IMAGE_SIZE)
    base.trainable = False
    inputs = keras.Input((*size, 3))
    x = base(inputs, training=False)
    x = keras.layers.GlobalAveragePooling2D()(x)
    x = keras.layers.Dropout(0.2)(x)
    classes = len(list((folder / "train").iterdir()))
    model = keras.Model(inputs, keras.layers.Dense(classes)(x))

    def fit(rate, until):
        model.compile(
            keras.optimizers.Adam(rate),
            keras.losses.SparseCategoricalCrossentropy(from_logits=True),
            metrics=["accuracy"],
        )
        with contextlib.suppress(TimeoutError):
            model.fit(train, epochs=1000, callbacks=[_end(until)], verbose=0)

    reserve = 8 + 0.04 * 60 * minutes
    fit(1e-3, started + 60 * minutes / 2)
    base.trainable = True
    fit(1e-5, started + 60 * minutes - reserve)
    return float(model.evaluate(test, verbose=0, return_dict=True)["accuracy"])


def main() -> None:
    """Measure all contenders, and show or keep the results."""
    if sys.argv[1:2] == ["guide"]:
        folder, minutes, seed, result = sys.argv[2:]
        files.write_json(Path(result), guide(Path(folder), float(minutes), int(seed)))
        return
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("data", type=Path)
    parser.add_argument("--minutes", type=float, nargs="+", default=[2.0, 5.0, 10.0])
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    known = (*TARGETS, LARGE)
    parser.add_argument("--targets", nargs="+", default=TARGETS, choices=known)
    parser.add_argument("--state", type=Path, default=None)
    parser.add_argument("--torch", type=Path, help="an interpreter that has PyTorch")
    names = (*CONTENDERS, *TORCH_CONTENDERS)
    parser.add_argument("--only", nargs="+", choices=names, help="of the contenders")
    parser.add_argument("--finished", action="store_true", help="run nothing more")
    parser.add_argument("--keep", action="store_true", help="write the results")
    options = parser.parse_args()
    if options.finished:
        rows = [files.read_json(path) for path in options.state.glob("*-*-*-*.json")]
        write(sorted(rows, key=lambda row: (row["target"], row["minutes"])), options)
        return
    state = options.state or Path(tempfile.mkdtemp())
    contenders = dict(CONTENDERS)
    if options.torch is not None:
        weights = state / "weights.npz"
        if not weights.exists():
            export_weights(weights)
        for name in TORCH_CONTENDERS:
            contenders[name] = with_torch(name, options.torch, weights)
    if options.only:
        contenders = {name: contenders[name] for name in options.only}
    rows = []
    for minutes in options.minutes:
        if not minutes:
            contenders = {"quickstart": quickstart}
        for target in options.targets:
            folder = state / "images" / target
            write_folder(target, options.data, folder)
            for seed in options.seeds:
                for name, contender in contenders.items():
                    case = {"target": target, "minutes": minutes, "seed": seed}
                    rows.append(trial(state, folder, name, contender, case))
    write(rows, options)


def write(rows: list[dict], options) -> None:
    """Show the results, and keep them where that was asked for."""
    show(rows)
    if options.keep:
        record = {"date": datetime.date.today().isoformat(), "rows": rows}
        # Trials were run at different times, one at a time.
        pages.keep("accuracy", record | harness.machine() | {"load": None})


def trial(state: Path, folder: Path, name: str, contender, case: dict) -> dict:
    """Run one contender once, or return what it has done before."""
    kept = "-".join([*(f"{value}" for value in case.values()), name.replace(" ", "_")])
    kept = state / f"{kept}.json"
    if kept.exists():
        return files.read_json(kept)
    started = time.perf_counter()
    with tempfile.TemporaryDirectory() as out:
        accuracy = contender(folder, case["minutes"], case["seed"], Path(out))
    row = {
        **case,
        "test": sum(1 for path in (folder / "test").rglob("*") if path.is_file()),
        "name": name,
        "accuracy": accuracy,
        "seconds": round(time.perf_counter() - started, 1),
    }
    print(row, flush=True)
    files.write_json(kept, row)
    return row


def show(rows: list[dict]) -> None:
    """Print the mean accuracy of each contender, and the seconds it took."""
    cases = dict.fromkeys((row["minutes"], row["target"], row["name"]) for row in rows)
    for minutes, target, name in cases:
        same = [
            row
            for row in rows
            if (row["minutes"], row["target"], row["name"]) == (minutes, target, name)
        ]
        mean = np.mean([row["accuracy"] for row in same])
        seconds = max(row["seconds"] for row in same)
        print(f"{minutes:g} minutes, {target}: {name} {mean:.3f} ({seconds:.0f} s)")


if __name__ == "__main__":
    main()
