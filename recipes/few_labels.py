"""Few labels: what holds fine-tuning back, and when that pays.

Workflow: 10, 25 or 100 labels a class, drawn anew with every seed; on each draw a
linear probe, plain fine-tuning, fine-tuning held back by L2-SP, DELTA, BSS or LoRA, and
a small network from scratch. All fine-tune the same blocks for the same number of
steps; as many labels again choose the epoch. What stays frozen runs once for all
trials. A study that was killed goes on with the trial it was killed in.
What to learn from it: how far a linear probe goes with few labels, what a regularizer
adds to fine-tuning there, and how little it adds once there are many. A way is compared
with plain fine-tuning on the same labels, so that the draw does not hide the gain.

Source: the comparison of https://github.com/thuml/Transfer-Learning-Library
(ResNet50 on CUB-200, accuracy at 15, 30, 50 and 100 % of the labels: plain 51.2, 64.6,
74.6, 81.8; BSS 53.4, 66.7, 76.0, 82.0; DELTA 54.8, 67.3, 76.3, 82.3), which has bird
species, everything trainable, SGD, and the best epoch on the test images.
Data: the CIFAR-10 sample inside the package, any of TFDS, or `--data FOLDER`.
Expected: not measured
Run:
    keras-tl run few_labels
    keras-tl run few_labels --labels 10 25 100 200 --seeds 5
"""

# %%
import functools
import math
import time
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal

import keras
import numpy as np

from keras_tl import config, errors
from keras_tl.analysis import evaluation, figures, probe, study
from keras_tl.data import augment, sources, splits
from keras_tl.methods import lora, regularizers
from keras_tl.models import backbones, freezing, heads, small_cnn
from keras_tl.training import features, optimizers, phases, placement, store

WAYS = (
    *("from scratch", "linear probe", "fine-tuning"),
    *("L2-SP", "DELTA", "BSS", "LoRA"),
)


@dataclass(frozen=True)
class Config:
    """Few labels: what holds fine-tuning back, and when that pays."""

    dataset: str = "cifar10_sample"  # That, digits, or a name that TFDS knows.
    data: Path | None = None  # Folder of your own images, in place of the dataset.
    bad_images: Literal["error", "skip"] = "error"  # What to do with broken files.
    backbone: str = "efficientnet_lite0"  # Name of the pretrained backbone.
    weights: str | None = "imagenet"  # "imagenet", a file, or None: random ones.
    preprocessing: str | None = None  # Contract of the weights, if not the backbone's.
    image_size: int = 96  # Side of the square images, in pixels.
    labels: tuple[int, ...] = (10, 25)  # Numbers of labels of each class to try.
    ways: tuple[str, ...] = WAYS  # What to compare; fine-tuning is always among them.
    blocks: int = 3  # Blocks of the backbone that are fine-tuned, from the output back.
    rank: int = 4  # Of LoRA's changes.
    steps: int = 200  # Steps of training of each trial.
    learning_rate: float = 1e-3  # Adam's rate for the head, and for LoRA.
    backbone_rate: float = 0.1  # Factor of the rate for pretrained layers.
    batch_size: int = 32  # Images per step, over all devices.
    seeds: int = 3  # Trials of each setting, with seeds one after the other.
    limit: int | None = None  # Keep at most this many images of each split.
    cache: bool = True  # Keep what frozen layers give, on disk, for other trials.
    seed: int = 0  # Seed of the first trial, and of the splits.
    out: Path | None = None  # New folder for the results; runs/few_labels if None.
    resume: Path | None = None  # Folder of an interrupted run to go on with.

    def __post_init__(self):
        backbones.check(self.backbone, self.weights, self.image_size)
        for name in ("blocks", "rank", "steps", "batch_size", "seeds"):
            errors.check_at_least(name, getattr(self, name), 1)
        for count in self.labels or (0,):
            errors.check_at_least("labels", count, 1)
        for way in self.ways:
            if way not in WAYS:
                raise errors.unknown("ways", way, WAYS)


# %% [markdown]
# ## Data
# As many labels of each class to learn from, and as many again, where there are, to
# choose by. The test images are those of the whole dataset.


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
    fewest = min(np.bincount(data.train.labels, minlength=len(data.class_names)))
    if max(settings.labels) > fewest:
        raise errors.expected(
            "labels",
            f"be at most {fewest}, which the smallest class has for training",
            settings.labels,
        )
    return data


def draw(data: splits.Splits, labels: int, seed: int):
    count = labels * len(data.class_names)

    def some(split):
        return split.take(splits.balanced(split.labels, count, seed))

    return replace(data, train=some(data.train), validation=some(data.validation))


# %% [markdown]
# ## Model
# The same blocks train in every way; LoRA trains small changes of their kernels.


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
# ## Ways
# Each gives what trained, the validation accuracy of the epoch it kept, and the logits
# of the test images.


# %%
def from_scratch(settings, data, setup, way):
    """A small network on images of 32 pixels, turned into their mirror images."""
    with setup.placement.scope():
        model = heads.attach(small_cnn.small_cnn(image_size=32), len(data.class_names))
    setup = replace(setup, augment=augment.flip_and_crop)
    return fit(settings, model, data.at_size(32).map(splits.in_memory), setup, way)


def linear_probe(settings, data, setup, way):
    """Logistic regression on the pooled features of the frozen backbone."""
    model = build_model(settings, len(data.class_names))
    stem = keras.Model(model.inputs[0], model.get_layer("pool").output)
    inputs = features.extract_all(stem, at_size(settings, data), cache=setup.cache)
    found = probe.fit("logistic regression", inputs.train, inputs.validation)
    logits = found.logits(inputs.test.images[:])
    return freezing.report(model).head, found.validation, logits


def fine_tune(settings, data, setup, way):
    """The last blocks and the head, held back by what `way` names."""
    with setup.placement.scope():
        model = build_model(settings, len(data.class_names))
    pattern = backbones.find(settings.backbone).block
    freezing.unfreeze_blocks(model, settings.blocks, pattern)
    slow, regularizer = {r"^(?!.*logits/)": settings.backbone_rate}, None
    if way == "LoRA":
        with setup.placement.scope():
            print(lora.enable(model, rank=settings.rank))
        # Its changes begin at 0: they have further to go than pretrained weights.
        slow = {}
    elif way != "fine-tuning":
        ends = [names[-1] for names in freezing.blocks(model, pattern).values()]
        regularizer = {
            "L2-SP": regularizers.l2_sp(),
            "DELTA": regularizers.delta(ends[-settings.blocks :]),
            "BSS": regularizers.bss(),
        }[way]
    part, inputs = phases.without_frozen_stem(model, at_size(settings, data), setup)
    return fit(settings, part, inputs, setup, way, slow, regularizer)


def fit(settings, model, inputs, setup, way, slow=None, regularizer=None):
    steps = math.ceil(len(inputs.train) / settings.batch_size)
    epochs = math.ceil(settings.steps / steps)
    history = phases.fit_head(
        model,
        inputs,
        setup,
        epochs=epochs,
        learning_rate=settings.learning_rate,
        optimizer=functools.partial(optimizers.layerwise, "adam", factors=slow or {}),
        regularizer=regularizer,
        # The rate falls to 0 over all epochs: none ends before.
        patience=epochs,
        phase=way,
    )
    validation = history["val_accuracy"][history["kept"].index(1)]
    logits = evaluation.predict(model, inputs.test)
    return freezing.report(model).trainable, validation, logits


def at_size(settings, data):
    return data.at_size(settings.image_size).map(splits.in_memory)


# %% [markdown]
# ## A trial


# %%
def trial(settings, data, place, labels: int, way: str, seed: int) -> study.Row:
    keras.utils.set_random_seed(seed)
    drawn = draw(data, labels, seed)
    setup = phases.Setup(
        place,
        batch_size=settings.batch_size,
        seed=seed,
        cache=store.Cache() if settings.cache else None,
    )
    own = {"from scratch": from_scratch, "linear probe": linear_probe}
    trained = own.get(way, fine_tune)(settings, drawn, setup, way)
    trainable, validation, logits = trained
    return {
        "labels": labels,
        "way": way,
        "trainable": trainable,
        "seed": seed,
        "validation": validation,
        "accuracy": float((logits.argmax(1) == drawn.test.labels).mean()),
    }


# %% [markdown]
# ## Run


# %%
def main(settings: Config) -> dict:
    started = time.perf_counter()
    place = placement.choose()
    data = build_data(settings)
    build_model(settings, len(data.class_names))
    run = config.start_run("few_labels", settings)
    said = place.describe(settings.batch_size, settings.learning_rate)
    print(f"Results go to {run}. {said}")

    ways = [way for way in WAYS if way in (*settings.ways, "fine-tuning")]
    trials = {
        f"{labels}-labels-{way.replace(' ', '-')}-seed-{seed}": functools.partial(
            trial, settings, data, place, labels, way, seed
        )
        for seed in range(settings.seed, settings.seed + settings.seeds)
        for labels in settings.labels
        for way in ways
    }
    rows = study.run(run, trials)
    found = study.summarize(rows, ["labels", "way", "trainable"])
    study.show("Test accuracy by labels a class", found)
    if len(ways) > 1:
        gains = study.gains(rows, ["labels"], "way", "fine-tuning")
        study.show("Gain over plain fine-tuning on the same labels", gains)

    figure = figures.lines(
        {
            way: [
                (
                    settings.labels.index(row["labels"]),
                    row["mean"],
                    row["low"],
                    row["high"],
                )
                for row in found
                if row["way"] == way
            ]
            for way in ways
        },
        [str(labels) for labels in settings.labels],
        "Labels of each class",
        "Test accuracy",
    )
    figures.save(figure, run / "few_labels.png")
    return study.save(
        run,
        recipe="few_labels",
        settings=settings,
        data=splits.describe(data),
        rows=rows,
        seconds=time.perf_counter() - started,
    )


# %% tags=["script"]
if __name__ == "__main__":
    config.run(main, Config)
