"""Cross-validation: use every labelled image for training and for validation.

Workflow: the images run once through a frozen backbone; a fresh head is fitted for each
of ten folds and tested on the images it did not see; then leaving out one image at a
time, on fewer of them. With `--fine-tune`, every fold fine-tunes the last blocks too,
from the pretrained weights. A run that was killed continues with `--resume`.
What to learn from it: how far apart the folds are, which is the luck in one split of
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

import keras_tl.quiet  # noqa: F401  Before Keras.

import keras
import numpy as np
import psutil

from keras_tl import config, errors
from keras_tl.analysis import evaluation, figures, folds, study
from keras_tl.config import RunSettings
from keras_tl.data import datasets, splits
from keras_tl.data.settings import DataSettings
from keras_tl.models import backbones, freezing, heads
from keras_tl.models.settings import BackboneSettings
from keras_tl.training import features, phases, placement
from keras_tl.training.settings import TrainingSettings


@dataclass(frozen=True)
class Config(RunSettings, TrainingSettings, BackboneSettings, DataSettings):
    """Cross-validation: use every labelled image for training and for validation."""

    folds: int = 10  # Most folds; no more than images of the rarest class.
    leave_one_out: int = 200  # Images of which one at a time is left out; 0 is none.
    fine_tune: bool = False  # Also fine-tune in every fold.
    blocks: int = 2  # Blocks of the backbone to fine-tune, from the output back.
    epochs: int = 5  # Most epochs of each phase of fine-tuning.

    def __post_init__(self):
        super().__post_init__()
        least = {"folds": 2, "leave_one_out": 0, "blocks": 0, "epochs": 1}
        for name, minimum in least.items():
            errors.check_at_least(name, getattr(self, name), minimum)


# %% [markdown]
# ## Data
# Training and validation images together are divided into folds. The test images are
# kept apart: they show how good the estimate was.


# %%
def build_data(settings: Config) -> tuple[splits.Splits, splits.Split, splits.Split]:
    """Load the data, the images that are divided into folds, and the test images."""
    data = datasets.from_settings(settings)
    pool = splits.join(data.train, data.validation)
    print(f"{data}\nDivided into folds: {len(pool):,}.")
    sized = [s.at_size(settings.image_size) for s in (pool, data.test)]
    return data, *map(splits.read_once, sized)


# %% [markdown]
# ## Model


# %%
def build_model(settings: Config, num_classes: int) -> keras.Model:
    model = heads.attach(backbones.from_settings(settings), num_classes)
    freezing.unfreeze_blocks(model, settings.blocks)
    return model


# %% [markdown]
# ## Trials
# Features of the frozen backbone serve all folds. Fine-tuning begins in every fold with
# a model of its own, and selects its epochs on a tenth of what the fold learns from.


# %%
def measure(method: str, fold: int, labels: np.ndarray, logits: np.ndarray):
    right = logits.argmax(1) == labels
    return {
        "method": method,
        "fold": fold,
        "images": len(labels),
        "right": int(right.sum()),
        "accuracy": float(right.mean()),
        # The memory in use must not grow from fold to fold.
        "memory_mib": round(psutil.Process().memory_info().rss / 2**20),
    }


def fit_heads(inputs: splits.Split, divided: list, method: str, fold: int) -> study.Row:
    logits = folds.predict(inputs, divided)
    judged = np.concatenate([test for _, test in divided])
    return measure(method, fold, inputs.labels[judged], logits[judged])


def fine_tune(
    settings, data, pool, copies, place, run, fold: int, indices
) -> study.Row:
    keras.utils.set_random_seed(settings.seed)
    train, held_out = indices
    drawn = splits.balanced(pool.labels[train], len(train) // 10, settings.seed)
    tenth = np.isin(copies[train], copies[train][drawn])
    data = replace(
        data,
        train=pool.take(train[~tenth]),
        validation=pool.take(train[tenth]),
        test=pool.take(held_out),
    )
    with place.scope():
        model = build_model(settings, len(data.class_names))
    setup = phases.setup(settings, place, data, run, trial=f"fold-{fold}")
    part, inputs = phases.precompute_frozen(model, data, setup)
    freezing.unfreeze_head(model)
    phases.fit(part, inputs, setup, phases.Phase(settings.epochs))
    freezing.unfreeze_blocks(model, settings.blocks)
    phases.fit(part, inputs, setup, phases.fine_tuning(settings.epochs))
    logits = evaluation.predict(part, inputs.test)
    return measure("fine-tuned", fold, data.test.labels, logits)


def plan(settings, inputs, first, test, divided) -> dict:
    """Name the trials of heads on frozen features."""
    trials = {
        f"head-fold-{n}": functools.partial(fit_heads, inputs, [fold], "head", n)
        for n, fold in enumerate(divided, start=1)
    }
    # What the folds estimate: a head on all of them, on images that they never saw.
    whole = splits.join(inputs, test)
    last = [(np.arange(len(inputs)), np.arange(len(inputs), len(whole)))]
    trials["head-test"] = functools.partial(fit_heads, whole, last, "head, test", 0)
    if settings.leave_one_out:
        count = settings.leave_one_out
        few = inputs.take(first)
        few = few.take(splits.balanced(few.labels, count, settings.seed))
        alone = folds.leave_one_out(few.labels)
        name = f"head, leaving out 1 of {len(few)}"
        trials["head-one-out"] = functools.partial(fit_heads, few, alone, name, 0)
    return trials


# Beginning of a row's name -> its meaning, the longer names first.
ROWS = {
    "head, test": "One head, fitted on all images of the folds, judged by the test "
    "images: what the folds estimate.",
    "head, leaving out": "A head for each of these few images, fitted on the others of "
    "them alone and judged by that one.",
    "head": "A head on frozen features for each fold, fitted on the other folds and "
    "judged by this one.",
    "fine-tuned": "The same with the last blocks fine-tuned as well, in each fold.",
}


def show(rows, folder) -> None:
    summaries = study.summarize(rows, ["method"], over="folds")
    study.show("Accuracy, mean and range of the folds", summaries)
    for row in summaries:
        of_method = [each for each in rows if each["method"] == row["method"]]
        right, count = (sum(r[name] for r in of_method) for name in ("right", "images"))
        low, high = evaluation.wilson_interval(right, count)
        begin = next(begin for begin in ROWS if row["method"].startswith(begin))
        print(
            f"{row['method']}: {right:,} of {count:,} right, {right / count:.3f}, 95 % "
            f"interval {low:.3f} to {high:.3f}. {ROWS[begin]}"
        )
    bars = [
        (
            f"{row['method']} {row['fold'] or ''}",
            row["accuracy"],
            evaluation.wilson_interval(row["right"], row["images"]),
        )
        for row in rows
    ]
    figures.save(figures.comparison(bars), folder / "folds.png")


# %% [markdown]
# ## Run


# %%
def main(settings: Config) -> dict:
    started = time.perf_counter()
    place, settings = placement.from_settings(settings)
    data, pool, test = build_data(settings)
    # Copies of an image are tested once, by a model that saw none of them.
    (copies,) = splits.copies(pool)
    _, first = np.unique(copies, return_index=True)
    of_class = np.bincount(pool.labels[first])
    count = min(settings.folds, max(2, int(of_class.min())))
    if count < settings.folds:
        rarest = data.class_names[of_class.argmin()]
        print(f"{count} folds, since {rarest} has {of_class.min()} images in them.")
    divided = folds.split(pool.labels, count, groups=copies, seed=settings.seed)
    divided = [(train, test[np.isin(test, first)]) for train, test in divided]
    # Two of each class: one to leave out, and another to learn from.
    least = 2 * len(np.unique(pool.labels))
    errors.check_at_least("leave_one_out", settings.leave_one_out or least, least)
    keras.utils.set_random_seed(settings.seed)
    model = build_model(settings, len(data.class_names))
    run = config.start_run("cross_validation", settings, started, splits.describe(data))
    cache = phases.setup(settings, place, data, run).cache
    stem = keras.Model(model.inputs[0], model.get_layer("pool").output)
    inputs, features_of_test = (
        features.extract(stem, split, cache=cache) for split in (pool, test)
    )
    trials = plan(settings, inputs, first, features_of_test, divided)
    if settings.fine_tune:
        one = functools.partial(fine_tune, settings, data, pool, copies, place, run)
        for n, fold in enumerate(divided, start=1):
            trials[f"fine-tuned-fold-{n}"] = functools.partial(one, n, fold)
    rows = study.run(run.folder, trials)
    show(rows, run.folder)
    return study.save(run, rows=rows, by=["method"])


# %% tags=["script"]
if __name__ == "__main__":
    config.run(main, Config)
