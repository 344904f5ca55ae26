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
import functools
import time
from dataclasses import dataclass
from pathlib import Path

import keras_tl.quiet  # noqa: F401  Before Keras.

import keras

from keras_tl import config, errors
from keras_tl.analysis import summary
from keras_tl.config import RunSettings
from keras_tl.data import augment, datasets, splits
from keras_tl.data.settings import Augment, AugmentSettings, DataSettings
from keras_tl.deploy import artifact, run_folder
from keras_tl.models import backbones, catalog, heads, small_cnn
from keras_tl.training import phases, placement
from keras_tl.training.settings import StartSettings, TrainingSettings


@dataclass(frozen=True)
class Config(
    RunSettings, StartSettings, TrainingSettings, AugmentSettings, DataSettings
):
    """Train a small CNN on CIFAR-10 from scratch: the baseline of every transfer."""

    dataset: str = "cifar10"  # A TFDS dataset, or cifar10_sample, or digits.
    weights: Path | None = None  # A file of weights to begin with, .weights.h5.
    image_size: int = 32  # Side of the square images, in pixels.
    epochs: int = 30  # Most epochs.
    learning_rate: float = 1e-3  # Adam's learning rate at the start.
    augment: Augment = "flip_and_crop"  # Random changes of the training images.
    average_weights: bool = False  # Keep the running average of the weights (EMA).
    batch_size: int = 64  # Images per step, over all devices.

    def __post_init__(self):
        super().__post_init__()
        if self.weights is not None:
            catalog.check_file(Path(self.weights))
        errors.check_at_least("image_size", self.image_size, 8)
        errors.check_at_least("epochs", self.epochs, 1)
        errors.check_above("learning_rate", self.learning_rate, 0)


# %% [markdown]
# ## Data
# Images stay raw, in [0, 255]: the model does its own preprocessing.


# %%
def build_data(settings: Config) -> splits.Splits:
    data = datasets.from_settings(settings)
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
    place, settings = placement.from_settings(settings)
    data = build_data(settings)
    with place.scope():
        model = build_model(settings, len(data.class_names))
    about = splits.describe(data)
    if settings.start_from is not None:
        artifact.copy_weights(settings.start_from, model, about)
    run = config.start_run("cnn_cifar10", settings, started, about)
    print(place.describe(settings.batch_size, settings.learning_rate))
    changes = augment.from_settings(settings)
    setup = phases.setup(settings, place, data, run, **changes)
    phase = phases.Phase(
        settings.epochs,
        settings.learning_rate,
        keep_start=settings.start_from is not None,
        optimizer=functools.partial(
            keras.optimizers.Adam, use_ema=settings.average_weights
        ),
        name="from scratch",
    )
    history = phases.fit(model, data, setup, phase)
    results = summary.evaluate_models({"from scratch": (model, data.test)}, data)
    summary.show(results)
    histories = {"from scratch": history}
    return run_folder.save(run, model, data=data, results=results, histories=histories)


# %% tags=["script"]
if __name__ == "__main__":
    config.run(main, Config)
