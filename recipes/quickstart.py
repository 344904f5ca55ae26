"""Fine-tune a pretrained EfficientNet-Lite0 on CIFAR-10 images, or on your own.

Workflow: put a new head on the frozen backbone and train it, unfreeze the last blocks
and fine-tune, evaluate on the test split beside a small CNN trained from scratch, save,
load again, classify a few images.

Source: the two phases of https://keras.io/guides/transfer_learning/.
Data: a sample of CIFAR-10 that travels with the package (2,000 training, 500
validation, 1,500 test images of 32x32), or `--data FOLDER` with one sub-folder of
images per class.
Expected:
    efficientnet_lite0, 128 px, mixed_bfloat16, cifar10_sample, 2,000 train, 1,500 test:
      from scratch 0.440 ± 0.025 (0.432 to 0.456, 3 seeds)
      frozen 0.813 ± 0.020 (0.809 to 0.815, 3 seeds)
      fine-tuned 0.869 ± 0.017 (0.861 to 0.874, 3 seeds)
      113 s (features 11 s, head 2 s, fine-tuning 73 s) on 2 cores, AMD EPYC with
        avx512_bf16
      Keras 3.15.1, TensorFlow 2.21.0, 2026-11-25
    efficientnet_lite0, 128 px, cifar10_sample, 2,000 train, 1,500 test:
      from scratch 0.435 ± 0.025 (0.433 to 0.437, 3 seeds)
      frozen 0.816 ± 0.019 (0.815 to 0.819, 3 seeds)
      fine-tuned 0.876 ± 0.016 (0.873 to 0.881, 3 seeds)
      211 s on 2 cores, AMD EPYC
      Keras 3.15.1, TensorFlow 2.21.0, 2026-11-21
Run:
    keras-tl run quickstart
    keras-tl run quickstart --data my_photos --out runs/my_photos
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
from keras_tl.training import phases, placement, store


@dataclass(frozen=True)
class Config:
    """Fine-tune a pretrained EfficientNet-Lite0 on CIFAR-10 images, or on your own."""

    data: Path | None = None  # Folder of images; the CIFAR-10 sample by default.
    bad_images: Literal["error", "skip"] = "error"  # What to do with broken files.
    weights: str | None = "imagenet"  # "imagenet", a file, or None: random ones.
    image_size: int = 128  # Side of the square images, in pixels.
    epochs: int = 30  # Most epochs for the new head.
    fine_tune_epochs: int = 4  # Most epochs of fine-tuning.
    scratch_epochs: int = 12  # Most epochs for the small CNN.
    precision: placement.Precision = "float32"  # Of the layers; the logits are float32.
    batch_size: int = 32  # Images per step, over all devices.
    limit: int | None = None  # Keep at most this many images of each split.
    cache: bool = True  # Keep what frozen layers give for later runs, on disk.
    seed: int = 0  # Seed of weights, shuffling, dropout and splits.
    tensorboard: bool = False  # Write event files for TensorBoard.
    out: Path | None = None  # New folder for the results; runs/quickstart by default.
    resume: Path | None = None  # Folder of an interrupted run to go on with.

    def __post_init__(self):
        if self.tensorboard:
            errors.check_installed("tensorboard", extra="tensorboard")
        backbones.check("efficientnet_lite0", self.weights, self.image_size)
        for name in ("epochs", "fine_tune_epochs", "scratch_epochs", "batch_size"):
            errors.check_at_least(name, getattr(self, name), 1)


# %% [markdown]
# ## Data
# Images stay raw, in [0, 255]: the model does its own preprocessing, so that training
# and later use cannot disagree about it. Validation chooses, test only reports.


# %%
def build_data(settings: Config) -> splits.Splits:
    data = sources.load(
        folder=settings.data,
        bad_images=settings.bad_images,
        count=settings.limit,
        seed=settings.seed,
    )
    print(data)
    return data


# %% [markdown]
# ## Model
# The pretrained backbone is frozen, BatchNormalization with it. Only the new head
# trains, so that its random weights cannot spoil the pretrained ones.


# %%
def build_model(settings: Config, num_classes: int) -> keras.Model:
    backbone = backbones.load(
        "efficientnet_lite0", weights=settings.weights, image_size=settings.image_size
    )
    freezing.freeze(backbone)
    return heads.attach(backbone, num_classes)


# %% [markdown]
# ## Baseline
# The same images at 32 pixels, no pretrained weights: what transfer has to beat.


# %%
def train_from_scratch(settings, data, setup):
    with setup.placement.scope():
        convolutions = small_cnn.small_cnn(image_size=32)
        model = heads.attach_mlp(convolutions, len(data.class_names), hidden=(128,))
    phases.fit_head(
        model,
        data.at_size(32).map(splits.read_once),
        replace(setup, augment=augment.flip_and_crop),
        epochs=settings.scratch_epochs,
        phase="from scratch",
    )
    return model


# %% [markdown]
# ## Run


# %%
def main(settings: Config) -> dict:
    started = time.perf_counter()
    keras.utils.set_random_seed(settings.seed)
    place = placement.choose(precision=settings.precision)
    settings = replace(settings, precision=place.precision)
    data = build_data(settings)
    with place.scope():
        model = build_model(settings, len(data.class_names))
    run = config.start_run("quickstart", settings)
    print(f"Results go to {run}. {place.describe(settings.batch_size, 1e-3)}")

    setup = phases.Setup(
        place,
        batch_size=settings.batch_size,
        seed=settings.seed,
        cache=store.Cache() if settings.cache else None,
        state=run / "state",
        tensorboard=run / "tensorboard" if settings.tensorboard else None,
    )
    scratch = train_from_scratch(settings, data, setup)

    sized = data.at_size(settings.image_size).map(splits.read_once)
    head = phases.fit_head(model, sized, setup, epochs=settings.epochs)
    frozen = keras.models.clone_model(model)
    frozen.set_weights(model.get_weights())

    freezing.unfreeze_from(model, "block5a")
    print(freezing.report(model))
    tuned = phases.fine_tune(
        model, sized, setup, epochs=settings.fine_tune_epochs, learning_rate=2e-4
    )

    results = summary.test(
        {
            "from scratch": (scratch, data.test.at_size(32)),
            "frozen": (frozen, sized.test),
            "fine-tuned": (model, sized.test),
        },
        data,
    )
    summary.show(results)
    metrics = artifact.save(
        run,
        model,
        recipe="quickstart",
        settings=settings,
        data=data,
        results=results,
        histories={"head": head, "fine-tuning": tuned},
        seconds=time.perf_counter() - started,
        cache=setup.cache,
    )
    shutil.rmtree(setup.state)

    # What was saved is used as anybody would use it.
    probabilities = artifact.load(run).predict(
        sized.test.read(range(min(5, len(sized.test))))
    )
    summary.show_predictions(probabilities, data)
    return metrics


# %% tags=["script"]
if __name__ == "__main__":
    config.run(main, Config)
