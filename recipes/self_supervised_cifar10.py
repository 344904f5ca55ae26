"""Learn from images without labels, then from few with: SimCLR and its kin.

Workflow: a small residual network is pre-trained on images whose labels are not looked
at, by SimCLR, Barlow Twins, the prediction of rotations, or that of a large network's
features, and a linear probe follows it; with few labels of each class a head is fitted
on its frozen features, then all of it is fine-tuned. Beside it the same network from
scratch, with the same labels, and the large one that ImageNet has taught, frozen. As
many labels again select the epoch. With weights the methods train a pretrained network
on, as one does with unlabelled photos of one's own, beside the same network as it is. A
study that was killed continues with `--resume`.
What to learn from it: what images without labels are worth where labels are few, and
that weights of ImageNet, where they fit, are worth far more than a few minutes of
pre-training of one's own.

Source: SimCLR: Chen et al., 2020, arXiv:2002.05709; Barlow Twins: Zbontar et al., 2021,
arXiv:2103.03230; rotations: Gidaris et al., 2018, arXiv:1803.07728; features of a
teacher: Romero et al., 2015, arXiv:1412.6550. SimCLR's authors reach 94.0 % on CIFAR-10
by a linear classifier, with a ResNet-50, 1,000 epochs of 50,000 images and all labels:
some thousand times of what is computed here.
Data: CIFAR-10 from `tensorflow_datasets` (160 MB download), or `--dataset
cifar10_sample`, or `--data FOLDER`. `--unlabelled FOLDER` are images to pre-train on,
in place of the training images; those that validation or test have are left out.
Expected:
    small_resnet, 32 px, cifar10, 5,000 train, 5,000 test:
      1 labels, from scratch 0.138 (0.100 to 0.158, 3 seeds), 17 s each
      10 labels, from scratch 0.269 (0.245 to 0.287, 3 seeds), 17 s each
      100 labels, from scratch 0.387 (0.371 to 0.395, 3 seeds), 19 s each
      1 labels, SimCLR 0.166 (0.143 to 0.181, 3 seeds), 324 s each
      10 labels, SimCLR 0.317 (0.311 to 0.324, 3 seeds), 15 s each
      2006 s on 2 cores, AMD EPYC with avx512_bf16
      Keras 3.15.1, TensorFlow 2.21.0, 2026-11-30
    more in docs/results.md
Run:
    keras-tl run self_supervised_cifar10
    keras-tl run self_supervised_cifar10 --methods SimCLR "Barlow Twins" rotation
    keras-tl run self_supervised_cifar10 --data my_photos --unlabelled many_photos \
        --backbone efficientnet_lite0 --weights imagenet --image-size 96 \
        --pretraining-batch 128
"""

# %%
import functools
import math
import time
from dataclasses import dataclass, replace
from pathlib import Path

import keras_tl.quiet  # noqa: F401  Before Keras.

import keras

from keras_tl import config, errors, files
from keras_tl.analysis import evaluation, figures, probe, study
from keras_tl.config import RunSettings
from keras_tl.data import augment, datasets, folders, splits
from keras_tl.data.settings import DataSettings
from keras_tl.methods import distillation, self_supervised
from keras_tl.models import backbones, freezing, heads
from keras_tl.models.settings import BackboneSettings
from keras_tl.training import objectives, phases, placement
from keras_tl.training.settings import ChooseBy, TrainingSettings

SCRATCH, PRETRAINED, IMAGENET = "from scratch", "as pretrained", "ImageNet"
TERMS = {
    "SimCLR": self_supervised.simclr,
    "Barlow Twins": self_supervised.barlow_twins,
}
METHODS = (*TERMS, "rotation", "distillation")


@dataclass(frozen=True)
class Config(RunSettings, TrainingSettings, BackboneSettings, DataSettings):
    """Learn from images without labels, then from few with: SimCLR and its kin."""

    dataset: str = "cifar10"  # A TFDS dataset, or cifar10_sample, or digits.
    limit: int | None = 5_000  # Keep at most this many images of each split.
    unlabelled: Path | None = None  # Folder of images to pre-train on.
    labels: tuple[int, ...] = (1, 10, 100)  # Numbers of labels of each class to try.
    methods: tuple[str, ...] = ("SimCLR", "distillation")  # Methods to compare.
    backbone: str = "small_resnet"  # Name of the network.
    weights: str | None = None  # None: random ones; or a file, or "imagenet".
    image_size: int = 32  # Side of the square images, in pixels.
    epochs: int = 16  # Epochs of pre-training; the last is kept.
    pretraining_batch: int = 256  # Rows of a batch of pre-training, two for each image.
    learning_rate: float = 1e-3  # Adam's learning rate.
    steps: int = 200  # Steps of the head, and as many of fine-tuning.
    choose_by: ChooseBy = "accuracy"  # Validation metric that selects the epoch.
    seeds: int = 3  # Trials of each setting, with seeds one after the other.

    def __post_init__(self):
        super().__post_init__()
        for name in ("epochs", "steps", "seeds", "pretraining_batch"):
            errors.check_at_least(name, getattr(self, name), 1)
        errors.check_above("learning_rate", self.learning_rate, 0)
        errors.check_at_least("labels", min(self.labels, default=0), 1)
        if self.unlabelled is not None:
            errors.check_folder("unlabelled", self.unlabelled, "It holds images.")
        for method in self.methods:
            if method not in METHODS:
                raise errors.unknown("methods", method, METHODS)


# %% [markdown]
# ## Data
# All training images without their labels, and few with.


# %%
def build_data(settings: Config) -> tuple[splits.Splits, splits.Split]:
    """Return the data, and the images to pre-train on."""
    data = datasets.from_settings(settings)
    print(data)
    if settings.unlabelled is None:
        return data, data.train
    pool = folders.unlabelled(
        settings.unlabelled, data.class_names, bad_files=settings.bad_files
    )
    apart = splits.without_copies(pool, data.validation, data.test)
    print(
        f"{len(apart):,} images without labels; {len(pool) - len(apart):,} left out "
        "that validation or test have."
    )
    return data, apart


# %% [markdown]
# ## Pre-training
# A method's own head is not kept. The probe takes labels, but chooses nothing.


# %%
def build_model(settings: Config, method: str) -> keras.Model:
    if method == IMAGENET:
        return backbones.load("efficientnet_lite0", image_size=96)
    return backbones.from_settings(settings)


def pretrain(settings, data, pool, place, run, method: str, seed: int) -> Path:
    """Pre-train on a pool of images, and return the file of the weights."""
    path = run.folder / "pretrained" / f"{method}-{seed}.weights.h5"
    if path.exists():
        return path
    keras.utils.set_random_seed(seed)
    with place.scope():
        backbone = build_model(settings, method)
        model = pooled = heads.pool(backbone)
        if method == "rotation":
            model = heads.attach(backbone, len(self_supervised.TURNS))
    freezing.unfreeze(model, batch_normalization=True)
    probed = splits.few(data, max(settings.labels), seed=seed)
    probed = probed.at_size(settings.image_size)
    # No label chooses the epoch: few validation images suffice.
    few = data.validation.take(range(min(256, len(data.validation))))
    data = replace(data, train=pool, validation=few).at_size(settings.image_size)
    changes, term = augment.crop_and_colour(), None
    if method == "rotation":
        data, changes = self_supervised.rotations(data), augment.flip_and_crop
    elif method == "distillation":
        teacher = heads.pool(build_model(settings, IMAGENET))
        data, changes = (
            distillation.teach_features(teacher, data),
            augment.flip_and_crop,
        )
        term = distillation.from_features(data.train.targets.shape[1])
    else:
        data, term = self_supervised.in_views(data), TERMS[method]()
    options = {
        "seed": seed,
        "batch_size": settings.pretraining_batch,
        "objective": objectives.of(data),
        "augment": changes,
        "choose_by": "last",
    }
    setup = phases.setup(
        settings, place, data, run, trial=f"{method}-{seed}", **options
    )
    phase = phases.Phase(
        settings.epochs,
        settings.learning_rate,
        method=term,
        name=method,
        probe=probe.follow(pooled, probed),
    )
    phases.fit(model, data, setup, phase)
    path.parent.mkdir(exist_ok=True)
    with files.atomic(path) as temporary:
        backbone.save_weights(temporary)
    return path


# %% [markdown]
# ## A trial
# Each draw of labels has a pre-training of its own. Where no epoch of fine-tuning does
# better on validation than the head on frozen features, that stays.


# %%
def trial(settings, data, pool, place, run, name, labels: int, method: str, seed: int):
    keras.utils.set_random_seed(seed)
    with place.scope():
        backbone = build_model(settings, method)
        model = heads.attach(backbone, len(data.class_names))
    if method in METHODS:
        weights = pretrain(settings, data, pool, place, run, method, seed)
        backbones.load_weights(backbone, weights)
    data = splits.few(data, labels, seed=seed).at_size(backbone.input_shape[1])
    batch = min(settings.batch_size, len(data.train))
    epochs = math.ceil(settings.steps / math.ceil(len(data.train) / batch))
    options = {"trial": name, "seed": seed, "batch_size": batch}
    setup = phases.setup(settings, place, data, run, **options)
    row = {"labels": labels, "method": method, "seed": seed, "probe": None}
    if method == SCRATCH:
        freezing.unfreeze(model, batch_normalization=True)
    else:
        freezing.unfreeze_head(model)
        part, features = phases.precompute_frozen(model, data, setup)
        probe.fit_head(part, features)
        row["probe"] = evaluation.accuracy(part, features.test)
        freezing.unfreeze(model)
    phase = phases.fine_tuning(
        0 if method == IMAGENET else epochs,
        settings.learning_rate,
        patience=epochs,
        keep_start=method != SCRATCH,
        name=method,
    )
    phases.fit(model, data, replace(setup, augment=augment.flip_and_crop), phase)
    return row | {
        "validation": evaluation.accuracy(model, data.validation),
        "accuracy": evaluation.accuracy(model, data.test),
    }


def base(settings) -> str:
    """Return what the methods are compared with: the same network without them."""
    return SCRATCH if settings.weights is None else PRETRAINED


def plan(settings, data, pool, place, run) -> dict:
    """Name the trials: every method with every number of labels and every seed."""
    above = [IMAGENET] if settings.weights is None else []
    methods = [base(settings), *settings.methods, *above]
    seeds = range(settings.seed, settings.seed + settings.seeds)
    one = functools.partial(trial, settings, data, pool, place, run)
    return study.grid(one, seed=seeds, method=methods, labels=settings.labels)


def show(settings, rows, folder) -> None:
    summaries = study.summarize(rows, ["labels", "method"])
    study.show("Test accuracy by labels of each class", summaries)
    gains = study.gains(rows, ["labels"], "method", base(settings))
    study.show(f"Gain over {base(settings)} on the same labels", gains)
    figure = study.chart(summaries, "labels", "method", "Labels of each class")
    figures.save(figure, folder / "self_supervised.png")


# %% [markdown]
# ## Run


# %%
def main(settings: Config) -> dict:
    started = time.perf_counter()
    place, settings = placement.from_settings(settings)
    data, pool = build_data(settings)
    # Raises now rather than in a trial.
    splits.few(data, max(settings.labels), seed=settings.seed)
    described = splits.describe(data)
    run = config.start_run("self_supervised_cifar10", settings, started, described)
    print(place.describe(settings.batch_size, settings.learning_rate))
    rows = study.run(run.folder, plan(settings, data, pool, place, run))
    show(settings, rows, run.folder)
    by = ["labels", "method"]
    return study.save(run, rows=rows, by=by, base=base(settings))


# %% tags=["script"]
if __name__ == "__main__":
    config.run(main, Config)
