"""Learn from images without labels, then from few with: SimCLR and its kin.

Workflow: a small residual network is pre-trained on images whose labels are not looked
at, by SimCLR, Barlow Twins or the prediction of rotations; with few labels of each
class a head is fitted on its frozen features, then all of it is fine-tuned. Beside it
the same network from scratch, with the same labels, and a larger one that ImageNet has
taught. As many labels again select the epoch. A study that was killed continues with
`--resume`.
What to learn from it: what images without labels are worth where labels are few, and
that weights of ImageNet, where they fit, are worth far more than a few minutes of
pre-training of one's own.

Source: SimCLR: Chen et al., 2020, arXiv:2002.05709; Barlow Twins: Zbontar et al., 2021,
arXiv:2103.03230; rotations: Gidaris et al., 2018, arXiv:1803.07728. SimCLR's authors
reach 94.0 % on CIFAR-10 by a linear classifier, with a ResNet-50, 1,000 epochs of
50,000 images and all labels: some thousand times of what is computed here.
Data: CIFAR-10 from `tensorflow_datasets` (160 MB download), or `--dataset
cifar10_sample`, or `--data FOLDER`.
Expected: not measured
Run:
    keras-tl run self_supervised_cifar10
    keras-tl run self_supervised_cifar10 --methods SimCLR "Barlow Twins" rotation
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
from keras_tl.data import augment, datasets, splits
from keras_tl.data.settings import DataSettings
from keras_tl.methods import self_supervised
from keras_tl.models import backbones, freezing, heads, small_resnet
from keras_tl.training import objectives, phases, placement
from keras_tl.training.settings import ChooseBy, TrainingSettings

SCRATCH, IMAGENET = "from scratch", "ImageNet"
TERMS = {
    "SimCLR": self_supervised.simclr,
    "Barlow Twins": self_supervised.barlow_twins,
}
METHODS = (*TERMS, "rotation")


@dataclass(frozen=True)
class Config(RunSettings, TrainingSettings, DataSettings):
    """Learn from images without labels, then from few with: SimCLR and its kin."""

    dataset: str = "cifar10"  # A TFDS dataset, or cifar10_sample, or digits.
    limit: int | None = 10_000  # Keep at most this many images of each split.
    labels: tuple[int, ...] = (1, 10, 100)  # Numbers of labels of each class to try.
    methods: tuple[str, ...] = ("SimCLR",)  # Ways to pre-train, to compare.
    epochs: int = 10  # Epochs of pre-training; the last is kept.
    pretraining_batch: int = 512  # Rows of a batch of pre-training, two for each image.
    learning_rate: float = 1e-3  # Adam's learning rate.
    steps: int = 200  # Steps of the head, and as many of fine-tuning.
    choose_by: ChooseBy = "accuracy"  # Validation metric that selects the epoch.
    seeds: int = 3  # Trials of each setting, with seeds one after the other.

    def __post_init__(self):
        super().__post_init__()
        for name in ("epochs", "steps", "seeds"):
            errors.check_at_least(name, getattr(self, name), 1)
        errors.check_above("learning_rate", self.learning_rate, 0)
        errors.check_at_least("labels", min(self.labels, default=0), 1)
        for method in self.methods:
            if method not in METHODS:
                raise errors.unknown("methods", method, METHODS)


# %% [markdown]
# ## Data
# All training images without their labels, and few with.


# %%
def build_data(settings: Config) -> splits.Splits:
    data = datasets.from_settings(settings)
    print(data)
    return data


# %% [markdown]
# ## Pre-training
# The images are changed at random, and the method learns from what stays the same. Its
# own head is not kept.


# %%
def pretrain(settings, data, place, run, method: str, seed: int) -> Path:
    """Pre-train the small network, and return the file of its weights."""
    path = run.folder / "pretrained" / f"{method}-{seed}.weights.h5"
    if path.exists():
        return path
    keras.utils.set_random_seed(seed)
    with place.scope():
        backbone = model = small_resnet.small_resnet()
        if method == "rotation":
            model = heads.attach(backbone, len(self_supervised.TURNS))
    # No label chooses the epoch: few validation images suffice.
    few = data.validation.take(range(min(256, len(data.validation))))
    data = replace(data, validation=few)
    changes, term = augment.crop_and_colour(), None
    if method == "rotation":
        data, changes = self_supervised.rotations(data), augment.flip_and_crop
    else:
        data, term = self_supervised.in_views(data), TERMS[method]()
    options = {
        "seed": seed,
        "batch_size": settings.pretraining_batch,
        "objective": objectives.of(data),
        "augment": changes,
        "choose_by": "last",
    }
    setup = phases.setup(settings, place, data, run, **options)
    name = f"{method} {seed}"
    phase = phases.Phase(
        settings.epochs, settings.learning_rate, method=term, name=name
    )
    phases.fit(model, data, setup, phase)
    path.parent.mkdir(exist_ok=True)
    with files.atomic(path) as temporary:
        backbone.save_weights(temporary)
    return path


# %% [markdown]
# ## A trial
# Each draw of labels has a pre-training of its own. A head on frozen features is fitted
# first; where no epoch of fine-tuning does better on validation, it stays.


# %%
def build_model(settings, data, place, run, method: str, seed: int) -> keras.Model:
    with place.scope():
        if method == IMAGENET:
            backbone = backbones.load("efficientnet_lite0", image_size=96)
        else:
            backbone = small_resnet.small_resnet()
        model = heads.attach(backbone, len(data.class_names))
    if method in METHODS:
        weights = pretrain(settings, data.at_size(32), place, run, method, seed)
        backbones.load_weights(backbone, weights)
    return model


def trial(settings, data, place, run, name, labels: int, method: str, seed: int):
    keras.utils.set_random_seed(seed)
    model = build_model(settings, data, place, run, method, seed)
    data = splits.few(data, labels, seed=seed).at_size(96 if method == IMAGENET else 32)
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
        epochs,
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


def plan(settings, data, place, run) -> dict:
    """Name the trials: every method with every number of labels and every seed."""
    methods = [SCRATCH, *settings.methods, IMAGENET]
    seeds = range(settings.seed, settings.seed + settings.seeds)
    one = functools.partial(trial, settings, data, place, run)
    return study.grid(one, seed=seeds, method=methods, labels=settings.labels)


def show(rows, folder) -> None:
    summaries = study.summarize(rows, ["labels", "method"])
    study.show("Test accuracy by labels of each class", summaries)
    gains = study.gains(rows, ["labels"], "method", SCRATCH)
    study.show("Gain over no pre-training on the same labels", gains)
    figure = study.chart(summaries, "labels", "method", "Labels of each class")
    figures.save(figure, folder / "self_supervised.png")


# %% [markdown]
# ## Run


# %%
def main(settings: Config) -> dict:
    started = time.perf_counter()
    place, settings = placement.from_settings(settings)
    data = build_data(settings)
    # Raises now rather than in a trial.
    splits.few(data, max(settings.labels), seed=settings.seed)
    described = splits.describe(data)
    run = config.start_run("self_supervised_cifar10", settings, started, described)
    print(place.describe(settings.batch_size, settings.learning_rate))
    rows = study.run(run.folder, plan(settings, data, place, run))
    show(rows, run.folder)
    return study.save(
        run, rows=rows, by=["labels", "method"], base=SCRATCH, network="small ResNet"
    )


# %% tags=["script"]
if __name__ == "__main__":
    config.run(main, Config)
