"""Move VGG16 from ImageNet to CIFAR-10: a new head, then the last block.

Workflow: VGG16 without its ImageNet classifier, frozen; a new head is trained on it;
the last block is unfrozen and fine-tuned at a small rate; both are evaluated on the
test split, the model is saved and can be loaded again.

Source: the workflow of many articles, with their errors mended one by one: see
docs/vgg16_cifar10.md. Images are scaled up from 32 pixels, since VGG16 shrinks 32
pixels to a single cell.
Data: CIFAR-10 from `tensorflow_datasets` (60,000 images of 32x32, 160 MB download),
`--dataset cifar10_sample` without a download, or `--data FOLDER`. Keras downloads the
ImageNet weights of VGG16, 59 MB, unless `--weights` names a file.
Expected:
    vgg16, vgg16_torchvision_notop.weights.h5, 96 px, cifar10, 10,000 train, 10,000
        test:
      frozen 0.818 ± 0.007 (0.817 to 0.820, 3 seeds)
      fine-tuned 0.873 ± 0.006 (0.871 to 0.875, 3 seeds)
      2620 s on 2 cores, AMD EPYC
      Keras 3.15.1, TensorFlow 2.21.0, 2026-11-21
    more in docs/results.md
Run:
    keras-tl run vgg16_cifar10 --limit 10000
    keras-tl run vgg16_cifar10 --dataset cifar10_sample --augment flip_and_crop
"""

# %%
import time
from dataclasses import dataclass

import keras_tl.quiet  # noqa: F401  Before Keras.

import keras

from keras_tl import config, errors
from keras_tl.analysis import figures, summary
from keras_tl.config import RunSettings
from keras_tl.data import augment, datasets, splits
from keras_tl.data.settings import AugmentSettings, DataSettings
from keras_tl.deploy import artifact, run_folder
from keras_tl.models import backbones, freezing, heads
from keras_tl.models.settings import BackboneSettings
from keras_tl.training import phases, placement, rate_finder
from keras_tl.training.settings import StartSettings, TrainingSettings


@dataclass(frozen=True)
class Config(
    RunSettings,
    StartSettings,
    TrainingSettings,
    AugmentSettings,
    BackboneSettings,
    DataSettings,
):
    """Move VGG16 from ImageNet to CIFAR-10: a new head, then the last block."""

    dataset: str = "cifar10"  # A TFDS dataset, or cifar10_sample, or digits.
    backbone: str = "vgg16"  # Name of the pretrained backbone.
    epochs: int = 30  # Most epochs for the new head.
    learning_rate: float = 1e-3  # Adam's learning rate for the new head.
    unfreeze_from: str = "block5"  # Layer or block from which on to fine-tune.
    fine_tune_epochs: int = 3  # Most epochs of fine-tuning; 0 leaves it out.
    fine_tune_learning_rate: float = 1e-4  # Adam's learning rate for fine-tuning.
    find_rate: bool = False  # First draw the loss at growing rates of fine-tuning.
    batch_size: int = 64  # Images per step, over all devices.

    def __post_init__(self):
        super().__post_init__()
        errors.check_at_least("epochs", self.epochs, int(self.start_from is None))
        errors.check_at_least("fine_tune_epochs", self.fine_tune_epochs, 0)
        for name in ("learning_rate", "fine_tune_learning_rate"):
            errors.check_above(name, getattr(self, name), 0)


# %% [markdown]
# ## Data
# Images stay raw, in [0, 255]: the model does its own preprocessing. With `--augment
# image_data_generator`, the changes are those of the articles, for training alone.


# %%
def build_data(settings: Config) -> splits.Splits:
    data = datasets.from_settings(settings)
    print(data)
    return data.at_size(settings.image_size)


# %% [markdown]
# ## Model
# Head replacement: VGG16 comes without its classifier, a linear one takes its place.
# The layers to fine-tune are unfrozen first, which shows the layers frozen throughout.


# %%
def build_model(settings: Config, num_classes: int) -> keras.Model:
    backbone = backbones.from_settings(settings)
    freezing.freeze(backbone)
    model = heads.attach(backbone, num_classes)
    freezing.unfreeze_from(model, settings.unfreeze_from)
    return model


# %% [markdown]
# ## Learning rate
# The loss at rates that grow from step to step; the model stays as it is.


# %%
def find_rate(part, inputs, setup, phase, run) -> None:
    tested = rate_finder.find(part, inputs, setup, phase)
    print(tested)
    suggestions = {"valley": tested.valley, "steepest": tested.steepest}
    figure = figures.learning_rates(
        tested.rates, tested.losses, tested.smoothed, suggestions
    )
    figures.save(figure, run.folder / "learning_rates.png")


# %% [markdown]
# ## Run


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
    run = config.start_run("vgg16_cifar10", settings, started, about)
    print(place.describe(settings.batch_size, settings.learning_rate))
    changes = augment.from_settings(settings)
    setup = phases.setup(settings, place, data, run, **changes)

    # Layers that are frozen in both phases run once, for both and for the test.
    part, inputs = phases.precompute_frozen(model, data, setup)
    freezing.freeze_up_to(model, "pool")
    print(f"Head: {freezing.report(model)}")
    phase = phases.Phase(
        settings.epochs,
        settings.learning_rate,
        keep_start=settings.start_from is not None,
    )
    head = phases.fit(part, inputs, setup, phase)
    frozen = keras.models.clone_model(part)
    frozen.set_weights(part.get_weights())

    freezing.unfreeze_from(model, settings.unfreeze_from)
    print(f"Fine-tuning: {freezing.report(model)}")
    phase = phases.fine_tuning(
        settings.fine_tune_epochs, settings.fine_tune_learning_rate
    )
    if settings.find_rate:
        find_rate(part, inputs, setup, phase, run)
    tuned = phases.fit(part, inputs, setup, phase)

    before = settings.before_tuning
    models = {before: (frozen, inputs.test), "fine-tuned": (part, inputs.test)}
    models = summary.without_rejected(models, {"fine-tuned": tuned})
    results = summary.evaluate_models(models, data)
    summary.show(results)
    return run_folder.save(
        run,
        model,
        data=data,
        results=results,
        histories={"head": head, "fine-tuning": tuned},
        cache=setup.cache,
    )


# %% tags=["script"]
if __name__ == "__main__":
    config.run(main, Config)
