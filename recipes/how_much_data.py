"""How much data: a learning curve, its forecast, and what to label next.

Workflow: features of a frozen backbone, computed once. A linear classifier learns from
more and more of the training images; a power law through the smaller sizes forecasts
the largest one, which is then looked at, and what twice and ten times the images would
give. Then the same number of labels is spent in three ways: on random images, on those
that the classifier is least sure of (margin), and on those that are unlike all labelled
ones (core-set).
What to learn from it: more images help less and less, so that a few sizes tell what
ten times as many would give; and whether choosing what to label is worth it.

Source: power laws: Hestness et al., 2017, arXiv:1712.00409; core-set: Sener and
Savarese, 2018, arXiv:1708.00489, who gain with some thousand labels on CIFAR-10, while
a network learns from scratch.
Data: the CIFAR-10 sample inside the package, any of TFDS, or `--data FOLDER`.
Expected:
    efficientnet_lite0, 96 px, cifar10_sample, 2,000 train, 1,500 test:
      40 labels, random 0.471 (0.404 to 0.521, 10 seeds), 0.7 s each
      80 labels, random 0.574 (0.530 to 0.615, 10 seeds), 0.7 s each
      160 labels, random 0.673 (0.647 to 0.701, 10 seeds), 0.7 s each
      320 labels, random 0.723 (0.702 to 0.738, 10 seeds), 0.7 s each
      40 labels, margin 0.436 (0.346 to 0.533, 10 seeds), 0.8 s each
      26 s on 2 cores, AMD EPYC with avx512_bf16
      Keras 3.15.1, TensorFlow 2.21.0, 2026-11-30
    more in docs/results.md
Run:
    keras-tl run how_much_data
    keras-tl run how_much_data --data my_photos --labels 40 80 160
"""

# %%
import functools
import time
from dataclasses import dataclass

import keras_tl.quiet  # noqa: F401  Before Keras.

import keras
import numpy as np

from keras_tl import config, errors, files
from keras_tl.analysis import (
    figures,
    label_next,
    learning_curve,
    probe,
    ranking,
    study,
)
from keras_tl.config import RunSettings
from keras_tl.data import datasets, splits
from keras_tl.data.settings import DataSettings
from keras_tl.data.sources import read_all
from keras_tl.models import backbones
from keras_tl.models.settings import BackboneSettings
from keras_tl.training import features, store
from keras_tl.training.settings import CacheSettings


@dataclass(frozen=True)
class Config(RunSettings, CacheSettings, BackboneSettings, DataSettings):
    """How much data: a learning curve, its forecast, and what to label next."""

    accuracy: float = 0.9  # Accuracy that is wanted, in (0, 1).
    repeats: int = 5  # Draws of images for each size of the curve.
    start: int = 20  # Images that are labelled at first, drawn at random.
    labels: tuple[int, ...] = (40, 80, 160, 320)  # Images labelled after each round.
    seeds: int = 10  # Trials, with seeds one after the other.

    def __post_init__(self):
        super().__post_init__()
        errors.check_at_least("repeats", self.repeats, 2)
        errors.check_at_least("seeds", self.seeds, 1)
        errors.check_at_least("start", self.start, 2)
        errors.check_at_least("labels", min(self.labels, default=0), 1)
        counts = [self.start, *self.labels]
        if counts != sorted(set(counts)):
            expectation = f"ascend, from more than start={self.start}"
            raise errors.expected("labels", expectation, self.labels)
        if not 0 < self.accuracy < 1:
            raise errors.expected("accuracy", "be in (0, 1)", self.accuracy)


# %% [markdown]
# ## Data


# %%
def build_data(settings: Config) -> splits.Splits:
    data = datasets.from_settings(settings)
    print(data)
    if max(settings.labels) > len(data.train):
        expectation = f"be at most {len(data.train)}, the training images"
        raise errors.expected("labels", expectation, settings.labels)
    return data.at_size(settings.image_size)


# %% [markdown]
# ## Features


# %%
def build_model(settings: Config, num_classes: int) -> keras.Model:
    return ranking.pooled(backbones.from_settings(settings), num_classes)


# %% [markdown]
# ## The curve
# The largest size is forecast from the smaller ones before it is used.


# %%
def measure(settings: Config, made: splits.Splits, folder) -> None:
    curve = learning_curve.measure(
        made.train,
        made.validation,
        made.class_names,
        repeats=settings.repeats,
        seed=settings.seed,
    )
    rows = curve.rows()
    *_, before, last = curve.sizes
    hidden = learning_curve.forecast(curve.until(before)).accuracy(last)
    reached = rows[-1]["accuracy"]
    print(
        f"{last:,} images: {reached:.3f}; forecast from at most {before:,}: "
        f"{hidden[0]:.3f} ({hidden[1]:.3f} to {hidden[2]:.3f})."
    )
    forecast = learning_curve.forecast(curve)
    print(forecast.sentence(settings.accuracy))
    classes = learning_curve.classes(curve)
    for row in classes[:3]:
        print(f"Twice the images would add {row['gain']:+.3f} to {row['class']}.")
    ahead = forecast.ahead(curve.sizes[0])
    figure = figures.learning_curve(rows, ahead, settings.accuracy)
    figures.save(figure, folder / "curve.png")
    files.write_csv(folder / "curve.csv", rows)
    files.write_csv(folder / "classes.csv", classes)


# %% [markdown]
# ## What to label next
# Each round labels what the method chooses, and fits a classifier to all that is
# labelled. Validation images choose its regularization, as few as are labelled.


# %%
def trial(settings, made: splits.Splits, name, seed: int, method: str) -> dict:
    rng = np.random.default_rng(seed)
    train = splits.read_once(made.train)
    pool = rng.permutation(len(train))
    labelled, pool = pool[: settings.start], pool[settings.start :]
    row = {"method": method, "seed": seed}
    for count in settings.labels:
        known = train.take(labelled)
        wanted = count - len(labelled)
        features = train.read(pool)
        chosen = label_next.order(method, known, features, wanted, seed=seed)
        labelled = np.concatenate([labelled, pool[chosen]])
        pool = np.delete(pool, chosen)
        row[f"accuracy_{count}"] = judge(made, train.take(labelled), seed)
    return row | {"accuracy": row[f"accuracy_{settings.labels[-1]}"]}


def judge(made, known, seed: int) -> float:
    """Return the accuracy on the test images of a classifier on what is labelled."""
    few = splits.of_each(made.validation.labels, 1, seed=seed)
    rest = np.setdiff1d(np.arange(len(made.validation)), few)[: len(known) - len(few)]
    selecting = made.validation.take(np.sort(np.concatenate([few, rest])))
    fitted = probe.fit("logistic regression", known, selecting)
    # Some classes may have no label yet: numbers of classes, not of columns.
    answers = fitted.pipeline.predict(read_all(made.test.inputs))
    return float((answers == made.test.labels).mean())


# %% [markdown]
# ## Run


# %%
def main(settings: Config) -> dict:
    started = time.perf_counter()
    data = build_data(settings)
    model = build_model(settings, len(data.class_names))
    run = config.start_run("how_much_data", settings, started, splits.describe(data))
    cache = store.Cache() if settings.cache else None
    made = features.extract_all(model, data, cache=cache)
    measure(settings, made, run.folder)
    one = functools.partial(trial, settings, made)
    base = label_next.METHODS[0]
    seeds = range(settings.seed, settings.seed + settings.seeds)
    rows = study.run(run.folder, study.grid(one, seed=seeds, method=label_next.METHODS))
    rounds = [
        {"labels": count, "method": row["method"], "seed": row["seed"]}
        | {"accuracy": row[f"accuracy_{count}"], "seconds": row["seconds"]}
        | {"trial": f"seed-{row['seed']}-{row['method']}"}
        for row in rows
        for count in settings.labels
    ]
    summaries = study.summarize(rounds, ["labels", "method"])
    study.show("Test accuracy by labelled images", summaries)
    study.show("Gain", study.gains(rounds, ["labels"], "method", base))
    figure = study.chart(summaries, "labels", "method", "Labelled images")
    figures.save(figure, run.folder / "label_next.png")
    return study.save(run, rows=rounds, by=["labels", "method"], base=base)


# %% tags=["script"]
if __name__ == "__main__":
    config.run(main, Config)
