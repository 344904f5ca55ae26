"""Pseudo labels: sure answers for images without labels become their labels.

Workflow: each training image is changed weakly and strongly, some times, and what is
frozen runs once over all copies; a head begins as a logistic regression on the features
of few labelled images, then trains with FixMatch: where it is sure about the weakly
changed image, it learns the same answer for the strongly changed one. Beside it the
same head without that, on the same labels, and one with all of the labels. No label of
another image chooses the epoch, which is the last. A study that was killed continues
with `--resume`.
What to learn from it: what images without labels add to a good pretrained network, and
that confident answers can be wrong in the same way again and again.

Source: FixMatch: Sohn et al., 2020, arXiv:2001.07685, with the alignment of ReMixMatch,
arXiv:1911.09785. On CIFAR-10 with 4 and 25 labels of each class 86.2 % and 94.9 %, from
scratch, with 50,000 images, a million steps and a threshold of 0.95.
Data: a sample of CIFAR-10 that travels with keras-tl, or `--data FOLDER`; `--unlabelled
FOLDER` has images for the training beside those of the data.
Expected:
    efficientnet_lite0, 96 px, cifar10_sample, 2,000 train, 1,500 test:
      4 labels, few labels 0.556 (0.527 to 0.573, 3 seeds), 4.3 s each
      4 labels, FixMatch 0.602 (0.582 to 0.625, 3 seeds), 4.5 s each
      4 labels, all labels 0.780 (0.776 to 0.784, 3 seeds), 4.4 s each
      25 labels, few labels 0.716 (0.703 to 0.727, 3 seeds), 4.4 s each
      25 labels, FixMatch 0.720 (0.709 to 0.736, 3 seeds), 4.5 s each
      79 s on 2 cores, AMD EPYC with avx512_bf16
      Keras 3.15.1, TensorFlow 2.21.0, 2026-11-30
    more in docs/results.md
Run:
    keras-tl run pseudo_labels
    keras-tl run pseudo_labels --data my_photos --unlabelled many_photos
"""

# %%
import functools
import time
from dataclasses import dataclass, replace
from pathlib import Path

import keras_tl.quiet  # noqa: F401  Before Keras.

import keras

from keras_tl import config, errors
from keras_tl.analysis import evaluation, figures, probe, study
from keras_tl.config import RunSettings
from keras_tl.data import augment, datasets, folders, splits
from keras_tl.data.settings import DataSettings
from keras_tl.methods import fixmatch
from keras_tl.models import backbones, freezing, heads
from keras_tl.models.settings import BackboneSettings
from keras_tl.training import phases, placement
from keras_tl.training.settings import TrainingSettings

# The base line, FixMatch, and the line above them.
METHODS = ("few labels", "FixMatch", "all labels")


@dataclass(frozen=True)
class Config(RunSettings, TrainingSettings, BackboneSettings, DataSettings):
    """Pseudo labels: sure answers for images without labels become their labels."""

    unlabelled: Path | None = None  # Folder of further images to train on.
    labels: tuple[int, ...] = (4, 25)  # Numbers of labels of each class to try.
    copies: int = 4  # Weakly changed copies of each image, and as many strong ones.
    threshold: float = 0.7  # Probability from which on an answer is a label.
    blocks: int = 0  # Blocks of the backbone that train, from the output back.
    epochs: int = 30  # Passes over all training images.
    learning_rate: float = 1e-3  # Adam's learning rate.
    batch_size: int = 128  # Rows per step: half as many images, over all devices.
    seeds: int = 3  # Trials of each setting, with seeds one after the other.

    def __post_init__(self):
        super().__post_init__()
        for name in ("copies", "epochs", "seeds"):
            errors.check_at_least(name, getattr(self, name), 1)
        errors.check_at_least("blocks", self.blocks, 0)
        errors.check_at_least("labels", min(self.labels, default=0), 1)
        errors.check_above("learning_rate", self.learning_rate, 0)
        fixmatch.fixmatch(threshold=self.threshold)  # Raises now for a wrong one.
        if self.unlabelled is not None:
            errors.check_folder("unlabelled", self.unlabelled, "It holds images.")


# %% [markdown]
# ## Data
# All training images, changed weakly and strongly. Those of a folder without labels
# stand behind the others.


# %%
def build_data(settings: Config) -> splits.Splits:
    data = datasets.from_settings(settings)
    print(data)
    for labels in settings.labels:
        splits.few(data, labels, seed=settings.seed)  # Raises now, not in a trial.
    if settings.unlabelled is not None:
        pool = folders.unlabelled(
            settings.unlabelled, data.class_names, bad_files=settings.bad_files
        )
        apart = splits.without_copies(pool, data.train, data.validation, data.test)
        print(f"{len(apart):,} further images without labels.")
        data = replace(data, train=splits.join(data.train, apart))
    return data.at_size(settings.image_size)


# %% [markdown]
# ## Model


# %%
def build_model(settings: Config, num_classes: int) -> keras.Model:
    model = heads.attach(backbones.from_settings(settings), num_classes)
    freezing.unfreeze_blocks(model, settings.blocks)
    freezing.unfreeze_head(model)
    return model


# %% [markdown]
# ## Features
# What is frozen runs once over the images as they are, and over all changed copies.


# %%
def precompute(settings, model, data, setup):
    """Return the layers that train, the images as they take them, and the copies."""
    part, inputs = phases.precompute_frozen(model, data, setup)
    changed = fixmatch.two_views(
        data.train,
        augment.flip_and_crop,
        augment.crop_and_colour(),
        seed=settings.seed,
        copies=settings.copies,
    )
    views = replace(data, train=changed, validation=data.validation.take([0]))
    _, made = phases.precompute_frozen(model, views, setup, test=False)
    return part, inputs, made.train


# %% [markdown]
# ## A trial
# The head begins as a logistic regression, whose setting few validation labels choose.


# %%
def trial(settings, place, run, made, name, seed: int, labels: int, method: str):
    part, inputs, views = made
    keras.utils.set_random_seed(seed)
    with place.scope():
        model = keras.models.clone_model(part)
    model.set_weights(part.get_weights())
    labelled = splits.of_each(inputs.train.labels, labels, seed=seed)
    labelled = labelled[inputs.train.known[labelled]]
    selecting = splits.of_each(inputs.validation.labels, labels, seed=seed)
    few = replace(
        inputs,
        train=inputs.train.take(labelled),
        validation=inputs.validation.take(selecting),
    )
    options = {"trial": name, "seed": seed, "choose_by": "last"}
    setup = phases.setup(settings, place, few, run, **options)
    freezing.unfreeze_head(model)
    head, features = phases.precompute_frozen(model, few, setup)
    probe.fit_head(head, features)
    row = {"labels": labels, "method": method, "seed": seed}
    row["probe"] = evaluation.accuracy(model, few.test)

    freezing.unfreeze(model)
    train, term = views, None
    if method != "all labels":
        train = fixmatch.keep_labels(views, labelled)
    if method == "FixMatch":
        term = fixmatch.fixmatch(threshold=settings.threshold)
    phase = phases.Phase(
        settings.epochs, settings.learning_rate, method=term, name=method
    )
    phases.fit(model, replace(few, train=train), setup, phase)
    return row | {
        "validation": evaluation.accuracy(model, few.validation),
        "accuracy": evaluation.accuracy(model, few.test),
    }


def show(rows, folder) -> None:
    summaries = study.summarize(rows, ["labels", "method"])
    study.show("Test accuracy by labels of each class", summaries)
    gains = study.gains(rows, ["labels"], "method", METHODS[0])
    study.show("Gain over few labels alone", gains)
    figure = study.chart(summaries, "labels", "method", "Labels of each class")
    figures.save(figure, folder / "pseudo_labels.png")


# %% [markdown]
# ## Run


# %%
def main(settings: Config) -> dict:
    started = time.perf_counter()
    place, settings = placement.from_settings(settings)
    data = build_data(settings)
    with place.scope():
        model = build_model(settings, len(data.class_names))
    run = config.start_run("pseudo_labels", settings, started, splits.describe(data))
    print(place.describe(settings.batch_size, settings.learning_rate))
    setup = phases.setup(settings, place, data, run)
    made = precompute(settings, model, data, setup)
    seeds = range(settings.seed, settings.seed + settings.seeds)
    one = functools.partial(trial, settings, place, run, made)
    plan = study.grid(one, seed=seeds, labels=settings.labels, method=METHODS)
    rows = study.run(run.folder, plan)
    show(rows, run.folder)
    return study.save(run, rows=rows, by=["labels", "method"], base=METHODS[0])


# %% tags=["script"]
if __name__ == "__main__":
    config.run(main, Config)
