"""Cross-validation: use every labelled image to learn from and to judge.

Workflow: the images run once through a frozen backbone; a fresh head is fitted for each
of ten folds and judged on the images it did not see; then leaving out one image at a
time, on fewer of them. With `--fine-tune`, every fold fine-tunes the last blocks too,
from the pretrained weights. A run that was killed goes on with the fold it was killed
in.
What to learn from it: how far apart the folds are, which is how lucky a single split of
that size can be; and how near their mean comes to images that nobody had touched.

Source: https://scikit-learn.org/stable/modules/cross_validation.html. Folds learn from
the same images, so that no unbiased variance can be had from one cross-validation
(Bengio and Grandvalet, 2004, https://www.jmlr.org/papers/v5/grandvalet04a.html).
Data: the CIFAR-10 sample inside the package, any of TFDS, or `--data FOLDER`.
Expected:
    efficientnet_lite0, 96 px, cifar10_sample, 2,000 train, 1,500 test:
      head 0.782 (0.740 to 0.808, 10 folds), 0.2 s each
      head, test 0.784, 0.2 s each
      head, leaving out 1 of 200 0.720, 4.8 s each
      7 s on 2 cores, AMD EPYC with avx512_bf16
      Keras 3.15.1, TensorFlow 2.21.0, 2026-11-25
Run:
    keras-tl run cross_validation
    keras-tl run cross_validation --data my_photos --fine-tune
"""

# %%
import functools
import time
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal

import keras
import numpy as np
import psutil

from keras_tl import config, errors
from keras_tl.analysis import evaluation, figures, folds, study
from keras_tl.data import sources, splits
from keras_tl.models import backbones, freezing, heads
from keras_tl.training import features, phases, placement, store


@dataclass(frozen=True)
class Config:
    """Cross-validation: use every labelled image to learn from and to judge."""

    dataset: str = "cifar10_sample"  # cifar10_sample, digits, or a name of TFDS.
    data: Path | None = None  # Folder of your own images, in place of the dataset.
    bad_images: Literal["error", "skip"] = "error"  # What to do with broken files.
    backbone: str = "efficientnet_lite0"  # Name of the pretrained backbone.
    weights: str | None = "imagenet"  # "imagenet", a file, or None: random ones.
    preprocessing: str | None = None  # Contract of the weights, if not the backbone's.
    image_size: int = 96  # Side of the square images, in pixels.
    folds: int = 10  # Number of folds.
    one_out: int = 200  # Images of the study that leaves one out; 0 is none.
    fine_tune: bool = False  # Also fine-tune in every fold.
    blocks: int = 2  # Blocks of the backbone to fine-tune, from the output back.
    epochs: int = 5  # Most epochs of each phase of fine-tuning.
    batch_size: int = 32  # Images per step, over all devices.
    limit: int | None = None  # Keep at most this many images of each split.
    cache: bool = True  # Keep what frozen layers give, on disk, for later runs.
    seed: int = 0  # Seed of the folds and of training.
    out: Path | None = None  # New folder; runs/cross_validation if None.
    resume: Path | None = None  # Folder of an interrupted run to go on with.

    def __post_init__(self):
        backbones.check(self.backbone, self.weights, self.image_size)
        least = {"folds": 2, "one_out": 0, "blocks": 0, "epochs": 1, "batch_size": 1}
        for name, minimum in least.items():
            errors.check_at_least(name, getattr(self, name), minimum)


# %% [markdown]
# ## Data
# Training and validation images together are divided into folds. The test images are
# kept apart: they say how good the estimate was.


# %%
def build_data(settings: Config) -> tuple[splits.Splits, splits.Split]:
    """Load the data, and what of it is divided into folds."""
    data = sources.load(
        settings.dataset,
        folder=settings.data,
        bad_images=settings.bad_images,
        count=settings.limit,
        seed=settings.seed,
    )
    pool = splits.join(data.train, data.validation)
    print(f"{data} Divided into folds: {len(pool):,}.")
    return data, at_size(settings, pool)


def at_size(settings: Config, split: splits.Split) -> splits.Split:
    return splits.read_once(split.at_size(settings.image_size))


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
    model = heads.attach(backbone, num_classes)
    pattern = backbones.find(settings.backbone).block
    freezing.unfreeze_blocks(model, settings.blocks, pattern)
    return model


# %% [markdown]
# ## Trials
# Features of the frozen backbone serve all folds. Fine-tuning begins in every fold with
# a model of its own, and chooses its epochs on a tenth of what the fold learns from.


# %%
def judge(way: str, fold: int, labels: np.ndarray, logits: np.ndarray) -> study.Row:
    right = logits.argmax(1) == labels
    return {
        "way": way,
        "fold": fold,
        "images": len(labels),
        "right": int(right.sum()),
        "accuracy": float(right.mean()),
        # What is left in memory must not grow from fold to fold.
        "memory_mib": round(psutil.Process().memory_info().rss / 2**20),
    }


def fit_heads(inputs: splits.Split, found: list, way: str, fold: int) -> study.Row:
    logits = folds.predict(inputs, found)
    judged = np.concatenate([part for _, part in found])
    return judge(way, fold, inputs.labels[judged], logits[judged])


def fine_tune(settings, data, pool, place, found: folds.Fold, fold: int) -> study.Row:
    keras.utils.set_random_seed(settings.seed)
    learnt, judged = found
    tenth = splits.balanced(pool.labels[learnt], len(learnt) // 10, settings.seed)
    parts = replace(
        data,
        train=pool.take(np.delete(learnt, tenth)),
        validation=pool.take(learnt[tenth]),
        test=pool.take(judged),
    )
    with place.scope():
        model = build_model(settings, len(data.class_names))
    setup = phases.Setup(
        place,
        batch_size=settings.batch_size,
        seed=settings.seed,
        cache=store.Cache() if settings.cache else None,
    )
    part, inputs = phases.without_frozen_stem(model, parts, setup)
    freezing.unfreeze_head(model)
    phases.fit_head(part, inputs, setup, epochs=settings.epochs)
    pattern = backbones.find(settings.backbone).block
    freezing.unfreeze_blocks(model, settings.blocks, pattern)
    phases.fine_tune(part, inputs, setup, epochs=settings.epochs)
    logits = evaluation.predict(part, inputs.test)
    return judge("fine-tuned", fold, parts.test.labels, logits)


# %% [markdown]
# ## Run


# %%
def main(settings: Config) -> dict:
    started = time.perf_counter()
    place = placement.choose()
    data, pool = build_data(settings)
    divided = folds.split(pool.labels, settings.folds, seed=settings.seed)
    # Two of each class: one to leave out, and another to learn from.
    least = 2 * len(np.unique(pool.labels))
    errors.check_at_least("one_out", settings.one_out or least, least)
    keras.utils.set_random_seed(settings.seed)
    model = build_model(settings, len(data.class_names))
    run = config.start_run("cross_validation", settings)
    print(f"Results go to {run}.")
    cache = store.Cache() if settings.cache else None
    stem = keras.Model(model.inputs[0], model.get_layer("pool").output)
    inputs, test = (
        features.extract(stem, split, cache=cache, what="features")
        for split in (pool, at_size(settings, data.test))
    )
    # From the disk into memory, where they are not there already.
    inputs, test = (replace(s, images=s.images[:]) for s in (inputs, test))
    trials = {
        f"head-fold-{n}": functools.partial(fit_heads, inputs, [fold], "head", n)
        for n, fold in enumerate(divided, start=1)
    }
    # What the folds stand for: a head on all of them, on images that they never saw.
    whole = splits.join(inputs, test)
    last = [(np.arange(len(pool)), np.arange(len(pool), len(whole)))]
    trials["head-test"] = functools.partial(fit_heads, whole, last, "head, test", 0)
    if settings.one_out:
        few = inputs.take(splits.balanced(pool.labels, settings.one_out, settings.seed))
        alone = folds.leave_one_out(few.labels)
        name = f"head, leaving out 1 of {len(few)}"
        trials["head-one-out"] = functools.partial(fit_heads, few, alone, name, 0)
    if settings.fine_tune:
        one = functools.partial(fine_tune, settings, data, pool, place)
        for n, fold in enumerate(divided, start=1):
            trials[f"fine-tuned-fold-{n}"] = functools.partial(one, fold, n)
    rows = study.run(run, trials)
    found = study.summarize(rows, ["way"])
    for row in found:
        row["folds"] = row.pop("seeds")
    study.show("Accuracy, mean and range of the folds", found)
    names = [f"{row['way']} {row['fold'] or ''}" for row in rows]
    around = [evaluation.wilson_interval(row["right"], row["images"]) for row in rows]
    bars = zip(names, [row["accuracy"] for row in rows], around, strict=True)
    figures.save(figures.comparison(list(bars)), run / "folds.png")
    return study.save(
        run,
        recipe="cross_validation",
        settings=settings,
        data=splits.describe(data),
        rows=rows,
        by=["way"],
        seconds=time.perf_counter() - started,
    )


# %% tags=["script"]
if __name__ == "__main__":
    config.run(main, Config)
