"""Train a small CNN on CIFAR-10 from scratch: the baseline of every transfer.

Workflow: two convolutions and two hidden layers with random weights, random flips and
shifted crops, early stopping on validation, evaluation on the test split.

Source: the network that many articles train on CIFAR-10, some of which call it transfer
learning; nothing in it is pretrained. Crops as in He et al., arXiv:1512.03385.
Data: CIFAR-10 from `tensorflow_datasets` (60,000 images of 32x32, 160 MB download), or
`--dataset cifar10_sample`, or `--data FOLDER`.
Expected:
    small CNN, 32 px, cifar10, 10,000 train, 10,000 test:
      from scratch 0.704 ± 0.009 (0.694 to 0.721, 3 seeds)
      2384 s on 2 cores, AMD EPYC
      Keras 3.15.1, TensorFlow 2.21.0, 2026-11-21
Run:
    keras-tl run cnn_cifar10 --limit 10000
    keras-tl run cnn_cifar10 --dataset cifar10_sample
"""

# %%
import shutil
import time
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal

import keras

from keras_tl import config, errors
from keras_tl.analysis import summary
from keras_tl.data import augment, sources, splits
from keras_tl.deploy import artifact
from keras_tl.models import backbones, freezing, heads, small_cnn
from keras_tl.training import phases, placement


@dataclass(frozen=True)
class Config:
    """Train a small CNN on CIFAR-10 from scratch: the baseline of every transfer."""

    dataset: str = "cifar10"  # A name that TFDS knows, or cifar10_sample.
    data: Path | None = None  # Folder of your own images, in place of the dataset.
    bad_images: Literal["error", "skip"] = "error"  # What to do with broken files.
    weights: Path | None = None  # A file of weights to begin with, .weights.h5.
    image_size: int = 32  # Side of the square images, in pixels.
    epochs: int = 30  # Most epochs.
    learning_rate: float = 1e-3  # Adam's rate at the start.
    precision: placement.Precision = "float32"  # Of the layers; the logits are float32.
    batch_size: int = 64  # Images per step, over all devices.
    limit: int | None = None  # Keep at most this many images of each split.
    seed: int = 0  # Seed of weights, shuffling, dropout and splits.
    tensorboard: bool = False  # Write event files for TensorBoard.
    out: Path | None = None  # New folder for the results; runs/cnn_cifar10 if None.
    resume: Path | None = None  # Folder of an interrupted run to go on with.

    def __post_init__(self):
        if self.tensorboard:
            errors.check_installed("tensorboard", extra="tensorboard")
        errors.check_at_least("image_size", self.image_size, 8)
        errors.check_at_least("epochs", self.epochs, 1)
        errors.check_at_least("batch_size", self.batch_size, 1)


# %% [markdown]
# ## Data
# Images stay raw, in [0, 255]: the model does its own preprocessing.


# %%
def build_data(settings: Config) -> splits.Splits:
    data = sources.load(
        settings.dataset,
        folder=settings.data,
        bad_images=settings.bad_images,
        count=settings.limit,
        seed=settings.seed,
    )
    print(data)
    return data.at_size(settings.image_size).map(splits.read_once)


# %%
def build_model(settings: Config, num_classes: int) -> keras.Model:
    convolutions = small_cnn.small_cnn(image_size=settings.image_size)
    model = heads.attach_mlp(convolutions, num_classes, hidden=(1024, 512))
    if settings.weights is not None:
        backbones.load_weights(model, settings.weights)
    return model


# %% [markdown]
# ## Run
# Augmentation differs in every epoch: it is drawn from seed, epoch and example.


# %%
def main(settings: Config) -> dict:
    started = time.perf_counter()
    keras.utils.set_random_seed(settings.seed)
    place = placement.choose(precision=settings.precision)
    settings = replace(settings, precision=place.precision)
    data = build_data(settings)
    with place.scope():
        model = build_model(settings, len(data.class_names))
    print(freezing.report(model))
    run = config.start_run("cnn_cifar10", settings)
    said = place.describe(settings.batch_size, settings.learning_rate)
    print(f"Results go to {run}. {said}")

    setup = phases.Setup(
        place,
        batch_size=settings.batch_size,
        seed=settings.seed,
        augment=augment.flip_and_crop,
        state=run / "state",
        tensorboard=run / "tensorboard" if settings.tensorboard else None,
    )
    history = phases.fit_head(
        model,
        data,
        setup,
        epochs=settings.epochs,
        learning_rate=settings.learning_rate,
        phase="from scratch",
    )
    results = summary.test({"from scratch": (model, data.test)}, data)
    summary.show(results)
    metrics = artifact.save(
        run,
        model,
        recipe="cnn_cifar10",
        settings=settings,
        data=data,
        results=results,
        histories={"from scratch": history},
        seconds=time.perf_counter() - started,
    )
    shutil.rmtree(setup.state)
    return metrics


# %% tags=["script"]
if __name__ == "__main__":
    config.run(main, Config)
