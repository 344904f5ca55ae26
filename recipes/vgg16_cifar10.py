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
    vgg16, vgg16_torchvision_notop.weights.h5, 96 px, mixed_bfloat16, augmented, 4
        copies, cifar10, 45,000 train, 10,000 test:
      frozen 0.831 ± 0.007
      fine-tuned 0.929 ± 0.005
      2566 s (features 1195 s, head 11 s, fine-tuning 1314 s) on 2 cores, AMD EPYC with
        avx512_bf16
      Keras 3.15.1, TensorFlow 2.21.0, 2026-11-25
    vgg16, vgg16_torchvision_notop.weights.h5, 96 px, cifar10, 45,000 train, 10,000
        test:
      frozen 0.833 ± 0.007
      fine-tuned 0.912 ± 0.005
      6382 s (69 % of the features found) on 2 cores, AMD EPYC
      Keras 3.15.1, TensorFlow 2.21.0, 2026-11-21
Run:
    keras-tl run vgg16_cifar10 --limit 10000
    keras-tl run vgg16_cifar10 --dataset cifar10_sample --augment
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
from keras_tl.models import backbones, freezing, heads
from keras_tl.training import phases, placement, store


@dataclass(frozen=True)
class Config:
    """Move VGG16 from ImageNet to CIFAR-10: a new head, then the last block."""

    dataset: str = "cifar10"  # A name that TFDS knows, or cifar10_sample.
    data: Path | None = None  # Folder of your own images, in place of the dataset.
    bad_images: Literal["error", "skip"] = "error"  # What to do with broken files.
    backbone: str = "vgg16"  # Name of the pretrained backbone.
    weights: str | None = "imagenet"  # "imagenet", a file, or None: random ones.
    preprocessing: str | None = None  # Contract of the weights, if not the backbone's.
    image_size: int = 96  # Side of the square images, in pixels.
    epochs: int = 30  # Most epochs for the new head.
    learning_rate: float = 1e-3  # Adam's rate for the new head.
    unfreeze_from: str = "block5"  # Layer or block from which on to fine-tune.
    fine_tune_epochs: int = 3  # Most epochs of fine-tuning.
    fine_tune_learning_rate: float = 1e-4  # Adam's rate for fine-tuning.
    augment: bool = False  # The article's random changes, new ones in every epoch.
    augmented_copies: int = 0  # With --augment: change each image this often, run once.
    choose_by: Literal["loss", "accuracy"] = "loss"  # What of validation chooses.
    precision: placement.Precision = "float32"  # Of the layers; the logits are float32.
    batch_size: int = 64  # Images per step, over all devices.
    limit: int | None = None  # Keep at most this many images of each split.
    cache: bool = True  # Keep what frozen layers give for later runs, on disk.
    seed: int = 0  # Seed of weights, shuffling, dropout and splits.
    tensorboard: bool = False  # Write event files for TensorBoard.
    out: Path | None = None  # New folder for the results; runs/vgg16_cifar10 if None.
    resume: Path | None = None  # Folder of an interrupted run to go on with.

    def __post_init__(self):
        if self.tensorboard:
            errors.check_installed("tensorboard", extra="tensorboard")
        backbones.check(self.backbone, self.weights, self.image_size)
        for name in ("epochs", "fine_tune_epochs", "batch_size"):
            errors.check_at_least(name, getattr(self, name), 1)
        errors.check_at_least("augmented_copies", self.augmented_copies, 0)
        if self.augmented_copies and not self.augment:
            raise errors.expected(
                "augmented_copies", "be 0 without --augment", self.augmented_copies
            )


# %% [markdown]
# ## Data
# Images stay raw, in [0, 255]: the model does its own preprocessing. The changes are
# those of the article; they are drawn anew in every epoch, and only for training.

# %%
ARTICLE = {
    "rotation_range": 15,
    "width_shift_range": 0.1,
    "height_shift_range": 0.1,
    "shear_range": 0.1,
    "zoom_range": 0.1,
    "horizontal_flip": True,
    "fill_mode": "nearest",
}


def build_data(settings: Config) -> splits.Splits:
    data = sources.load(
        settings.dataset,
        folder=settings.data,
        bad_images=settings.bad_images,
        count=settings.limit,
        seed=settings.seed,
    )
    print(data)
    return data.at_size(settings.image_size)


# %% [markdown]
# ## Model
# Head replacement: VGG16 comes without its classifier, a linear one takes its place.
# What will be fine-tuned is unfrozen once to find what stays frozen in both phases.


# %%
def build_model(settings: Config, num_classes: int) -> keras.Model:
    backbone = backbones.load(
        settings.backbone,
        weights=settings.weights,
        preprocessing=settings.preprocessing,
        image_size=settings.image_size,
    )
    freezing.freeze(backbone)
    return heads.attach(backbone, num_classes)


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
    freezing.unfreeze_from(model, settings.unfreeze_from)
    run = config.start_run("vgg16_cifar10", settings)
    said = place.describe(settings.batch_size, settings.learning_rate)
    print(f"Results go to {run}. {said}")

    setup = phases.Setup(
        place,
        batch_size=settings.batch_size,
        seed=settings.seed,
        augment=augment.image_data_generator(**ARTICLE) if settings.augment else None,
        augmented_copies=settings.augmented_copies,
        choose_by=settings.choose_by,
        cache=store.Cache() if settings.cache else None,
        state=run / "state",
        tensorboard=run / "tensorboard" if settings.tensorboard else None,
    )
    # What stays frozen in both phases runs once, for both and for the test.
    part, inputs = phases.without_frozen_stem(model, data, setup)
    freezing.freeze_up_to(model, "pool")
    print(f"Head: {freezing.report(model)}")
    head = phases.fit_head(
        part,
        inputs,
        setup,
        epochs=settings.epochs,
        learning_rate=settings.learning_rate,
    )
    frozen = keras.models.clone_model(part)
    frozen.set_weights(part.get_weights())

    freezing.unfreeze_from(model, settings.unfreeze_from)
    print(f"Fine-tuning: {freezing.report(model)}")
    tuned = phases.fine_tune(
        part,
        inputs,
        setup,
        epochs=settings.fine_tune_epochs,
        learning_rate=settings.fine_tune_learning_rate,
    )

    results = summary.test(
        {"frozen": (frozen, inputs.test), "fine-tuned": (part, inputs.test)}, data
    )
    summary.show(results)
    metrics = artifact.save(
        run,
        model,
        recipe="vgg16_cifar10",
        settings=settings,
        data=data,
        results=results,
        histories={"head": head, "fine-tuning": tuned},
        seconds=time.perf_counter() - started,
        cache=setup.cache,
    )
    shutil.rmtree(setup.state)
    return metrics


# %% tags=["script"]
if __name__ == "__main__":
    config.run(main, Config)
