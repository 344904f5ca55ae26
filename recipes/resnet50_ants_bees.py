"""Tell ants from bees: ResNet50 fine-tuned, and as feature extractor.

Workflow: the PyTorch tutorial's, which many articles copy: ResNet pretrained on
ImageNet, once with all layers training on random parts of the images, once with a new
head on frozen features; SGD with momentum, a rate of 0.001 that falls to a tenth every
7 epochs, 25 epochs. Here weights of the best epoch are kept, BatchNormalization keeps
its statistics, and pretrained layers move at a tenth of the rate: at the full one, and
with statistics that stay, training can end in a loss of NaN.
What to learn from it: how little 153 images tell. The published .935, .948 and .961 are
143, 145 and 147 of them, each the best epoch on the images it was chosen with.

Source: https://pytorch.org/tutorials/beginner/transfer_learning_tutorial.html.
Data: `--data FOLDER`, https://download.pytorch.org/tutorial/hymenoptera_data.zip or any
of your own. As published, the number is reported on the images in `val`; the epoch is
chosen on others, drawn from `train`. `--report-on test` lets `val` choose.
Expected:
    resnet50, resnet50_notop.weights.h5, 224 px, hymenoptera, 208 train, 153 test:
      feature extractor 0.943 ± 0.038 (0.941 to 0.948, 3 seeds)
      fine-tuned 0.941 ± 0.038 (0.928 to 0.948, 3 seeds)
      1128 s (features 0 s, fine-tuning 1078 s, 100 % of the features found) on 2 cores,
        AMD EPYC with avx512_bf16
      Keras 3.15.1, TensorFlow 2.21.0, 2026-11-25
Run:
    keras-tl run resnet50_ants_bees --data hymenoptera_data
    keras-tl run resnet50_ants_bees --data my_photos --backbone mobilenet_v2
"""

# %%
import functools
import shutil
import time
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal

import keras

from keras_tl import config, errors
from keras_tl.analysis import summary
from keras_tl.data import augment, folders, splits
from keras_tl.deploy import artifact
from keras_tl.models import backbones, freezing, heads
from keras_tl.training import optimizers, phases, placement, schedules, store


@dataclass(frozen=True)
class Config:
    """Tell ants from bees: ResNet50 fine-tuned, and as feature extractor."""

    data: Path | None = None  # Folder of images; it has to be given.
    bad_images: Literal["error", "skip"] = "skip"  # What to do with broken files.
    report_on: Literal["validation", "test"] = "validation"  # Images of the number.
    backbone: str = "resnet50"  # Name of the pretrained backbone.
    weights: str | None = "imagenet"  # "imagenet", a file, or None: random ones.
    preprocessing: str | None = None  # Contract of the weights, if not the backbone's.
    image_size: int = 224  # Side of the square images, in pixels.
    epochs: int = 25  # Epochs of each of the two.
    learning_rate: float = 1e-3  # Rate of SGD, with a momentum of 0.9.
    backbone_rate: float = 0.1  # Factor of the rate for pretrained layers.
    decay_every: int = 7  # Epochs after which the rate falls to a tenth.
    precision: placement.Precision = "float32"  # Of the layers; the logits are float32.
    batch_size: int = 4  # Images per step, over all devices.
    limit: int | None = None  # Keep at most this many images of each split.
    cache: bool = True  # Keep what frozen layers give for later runs, on disk.
    seed: int = 0  # Seed of weights, shuffling, augmentation and splits.
    tensorboard: bool = False  # Write event files for TensorBoard.
    out: Path | None = None  # New folder; runs/resnet50_ants_bees if None.
    resume: Path | None = None  # Folder of an interrupted run to go on with.

    def __post_init__(self):
        if self.data is None:
            raise errors.InputError(
                "`data` must name a folder of images, one sub-folder per class. Ants "
                "and bees: https://download.pytorch.org/tutorial/hymenoptera_data.zip"
            )
        if self.tensorboard:
            errors.check_installed("tensorboard", extra="tensorboard")
        backbones.check(self.backbone, self.weights, self.image_size)
        for name in ("epochs", "decay_every", "batch_size"):
            errors.check_at_least(name, getattr(self, name), 1)
        errors.check_above("learning_rate", self.learning_rate, 0)
        errors.check_at_least("backbone_rate", self.backbone_rate, 0)


# %% [markdown]
# ## Data
# The tutorial chooses the epoch on the images that it reports. Here others choose, a
# part of `train`.


# %%
def build_data(settings: Config) -> splits.Splits:
    data = folders.from_folder(
        settings.data, seed=settings.seed, bad_images=settings.bad_images
    )
    if settings.report_on == "validation":
        origin = f"{data.origin} Here validation and test have changed places."
        data = replace(data, validation=data.test, test=data.validation, origin=origin)
    data = splits.limit(data, settings.limit, seed=settings.seed)
    print(data)
    return data.at_size(settings.image_size).map(splits.read_once)


# %% [markdown]
# ## Model


# %%
def build_model(settings: Config, num_classes: int) -> keras.Model:
    backbone = backbones.load(
        settings.backbone,
        weights=settings.weights,
        preprocessing=settings.preprocessing,
        image_size=settings.image_size,
    )
    freezing.freeze(backbone)
    return heads.attach(backbone, num_classes, dropout=0.0)


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
        frozen = build_model(settings, len(data.class_names))
        model = build_model(settings, len(data.class_names))
    run = config.start_run("resnet50_ants_bees", settings)
    said = place.describe(settings.batch_size, settings.learning_rate)
    print(f"Results go to {run}. {said}")
    setup = phases.Setup(
        place,
        batch_size=settings.batch_size,
        seed=settings.seed,
        cache=store.Cache() if settings.cache else None,
        state=run / "state",
        tensorboard=run / "tensorboard" if settings.tensorboard else None,
    )
    as_published = {
        "epochs": settings.epochs,
        "learning_rate": settings.learning_rate,
        "schedule": schedules.step_decay(every=settings.decay_every),
        "patience": settings.epochs,
    }
    sgd = functools.partial(optimizers.layerwise, "sgd", momentum=0.9)

    # Frozen: the backbone runs once over the images as they are.
    print(f"Feature extractor: {freezing.report(frozen)}")
    part, inputs = phases.without_frozen_stem(frozen, data, setup)
    phases.fit_head(
        part,
        inputs,
        setup,
        optimizer=functools.partial(sgd, factors={}),
        phase="feature extractor",
        **as_published,
    )

    # Everything trains, from a new head, on other parts of the images in every epoch.
    freezing.unfreeze(model)
    print(f"Fine-tuned: {freezing.report(model)}")
    changing = replace(setup, augment=augment.random_resized_crop())
    slow = {r"^(?!.*logits/)": settings.backbone_rate}
    tuned = phases.fit_head(
        model,
        data,
        changing,
        optimizer=functools.partial(sgd, factors=slow),
        phase="fine-tuning",
        **as_published,
    )

    results = summary.test(
        {"feature extractor": (part, inputs.test), "fine-tuned": (model, data.test)},
        data,
    )
    summary.show(results)
    metrics = artifact.save(
        run,
        model,
        recipe="resnet50_ants_bees",
        settings=settings,
        data=data,
        results=results,
        histories={"fine-tuning": tuned},
        seconds=time.perf_counter() - started,
        cache=setup.cache,
    )
    shutil.rmtree(setup.state)
    return metrics


# %% tags=["script"]
if __name__ == "__main__":
    config.run(main, Config)
