"""Fine-tune a pretrained EfficientNet-Lite0 on CIFAR-10 images, or on your own.

Workflow: put a new head on the frozen backbone and train it, unfreeze the last blocks
and fine-tune, evaluate on the test split beside a small CNN trained from scratch, save,
load again, classify a few images.

Source: the two phases of https://keras.io/guides/transfer_learning/.
Data: a sample of CIFAR-10 that travels with the package (2,000 training, 500
validation, 1,500 test images of 32x32), or `--data FOLDER` with one sub-folder of
images per class.
Expected:
    efficientnet_lite0, 128 px, cifar10_sample, 2,000 train, 1,500 test:
      from scratch 0.435 ± 0.025 (0.433 to 0.437, 3 seeds)
      frozen 0.816 ± 0.019 (0.815 to 0.819, 3 seeds)
      fine-tuned 0.876 ± 0.016 (0.873 to 0.881, 3 seeds)
      211 s on 2 cores, AMD EPYC
      Keras 3.15.1, TensorFlow 2.21.0, 2026-11-21
    more in docs/results.md
Run:
    keras-tl run quickstart
    keras-tl run quickstart --data my_photos --out runs/my_photos
"""

# %%
import time
from dataclasses import dataclass, replace

import keras_tl.quiet  # noqa: F401  Before Keras.

import keras

from keras_tl import config, errors
from keras_tl.analysis import summary
from keras_tl.config import RunSettings
from keras_tl.data import augment, datasets, splits
from keras_tl.data.settings import AugmentSettings, DataSettings
from keras_tl.deploy import artifact, run_folder
from keras_tl.models import backbones, freezing, heads, small_cnn
from keras_tl.models.settings import BackboneSettings
from keras_tl.training import phases, placement
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
    """Fine-tune a pretrained EfficientNet-Lite0 on CIFAR-10 images, or on your own."""

    image_size: int = 128  # Side of the square images, in pixels.
    blocks: int = 8  # Blocks of the backbone to fine-tune, from the output back.
    epochs: int = 30  # Most epochs for the new head.
    fine_tune_epochs: int = 4  # Most epochs of fine-tuning; 0 leaves it out.
    scratch_epochs: int = 12  # Most epochs for the small CNN; 0 leaves it out.

    def __post_init__(self):
        super().__post_init__()
        errors.check_at_least("blocks", self.blocks, 1)
        errors.check_at_least("epochs", self.epochs, int(self.start_from is None))
        for name in ("fine_tune_epochs", "scratch_epochs"):
            errors.check_at_least(name, getattr(self, name), 0)


# %% [markdown]
# ## Data
# Images stay raw, in [0, 255]: the model does its own preprocessing, so that training
# and later use cannot disagree about it. Validation selects, test only reports.


# %%
def build_data(settings: Config) -> splits.Splits:
    data = datasets.from_settings(settings)
    print(data)
    return data


# %% [markdown]
# ## Model
# The pretrained backbone is frozen, BatchNormalization with it. Only the new head
# trains, so that its random weights cannot spoil the pretrained ones.


# %%
def build_model(settings: Config, num_classes: int) -> keras.Model:
    model = heads.attach(backbones.from_settings(settings), num_classes)
    freezing.unfreeze_blocks(model, settings.blocks)  # Raises now if there are fewer.
    freezing.unfreeze_head(model)
    return model


# %% [markdown]
# ## Baseline
# The same images at 32 pixels, no pretrained weights: what transfer has to beat.


# %%
def train_from_scratch(settings, data, setup):
    with setup.placement.scope():
        convolutions = small_cnn.small_cnn(image_size=32)
        model = heads.attach_mlp(convolutions, len(data.class_names), hidden=(128,))
    history = phases.fit(
        model,
        data.at_size(32).map(splits.read_once),
        replace(setup, augment=augment.flip_and_crop, mix=None, augmented_copies=0),
        phases.Phase(settings.scratch_epochs, name="from scratch"),
    )
    return model, history


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
    run = config.start_run("quickstart", settings, started, about)
    print(place.describe(settings.batch_size, 1e-3))
    changes = augment.from_settings(settings)
    setup = phases.setup(settings, place, data, run, **changes)
    scratch, baseline = train_from_scratch(settings, data, setup)
    sized = data.at_size(settings.image_size).map(splits.read_once)
    phase = phases.Phase(settings.epochs, keep_start=settings.start_from is not None)
    head = phases.fit(model, sized, setup, phase)
    frozen = keras.models.clone_model(model)
    frozen.set_weights(model.get_weights())

    freezing.unfreeze_blocks(model, settings.blocks)
    tuning = phases.fine_tuning(settings.fine_tune_epochs, 2e-4)
    tuned = phases.fit(model, sized, setup, tuning)

    models = {
        "from scratch": (scratch, data.test.at_size(32)),
        settings.before_tuning: (frozen, sized.test),
        "fine-tuned": (model, sized.test),
    }
    trained = {"from scratch": baseline, "fine-tuned": tuned}
    results = summary.evaluate_models(summary.without_rejected(models, trained), data)
    summary.show(results)
    metrics = run_folder.save(
        run,
        model,
        data=data,
        results=results,
        histories={"head": head, "fine-tuning": tuned},
        cache=setup.cache,
    )

    # The saved model is used as anybody would use it.
    first = sized.test.read(range(min(5, len(sized.test))))
    summary.show_predictions(artifact.load(run.folder).predict(first), data)
    return metrics


# %% tags=["script"]
if __name__ == "__main__":
    config.run(main, Config)
