"""Which part fails: plant a fault into a training, and let a diagnosis name it.

Workflow: a linear head on a frozen backbone is trained in an ordinary way, and again
with one fault at a time: labels shuffled, pixels that are not scaled, random weights, a
head with one unit in the middle, a rate that is too low, three images of each class,
test images in the dark. Each time all that is seen is a low accuracy. The diagnosis
then replaces one part after the other by what is known to work, on features that are
computed once, and names the part whose replacement gains most.
What to learn from it: how to tell causes of a low accuracy apart that look the same,
by runs that take seconds.

Source: one thing at a time, from simple to complex, as A. Karpathy has it in "A recipe
for training neural networks", 2019, https://karpathy.github.io/2019/04/25/recipe/;
shuffled labels: Zhang et al., 2016, arXiv:1611.03530.
Data: the CIFAR-10 sample inside the package, any of TFDS, or `--data FOLDER`.
Expected:
    efficientnet_lite0, 96 px, cifar10_sample, 600 train, 600 test:
      none 0.720, 39 s each
      labels shuffled 0.093, 37 s each
      raw pixels 0.430, 41 s each
      random weights 0.100, 43 s each
      one unit 0.173, 41 s each
      302 s on 2 cores, AMD EPYC with avx512_bf16
      Keras 3.15.1, TensorFlow 2.21.0, 2026-11-30
    more in docs/results.md
Run:
    keras-tl run which_part_fails
    keras-tl run which_part_fails --data my_photos --faults none "dark test"
"""

# %%
import functools
import time
from dataclasses import dataclass, replace

import keras_tl.quiet  # noqa: F401  Before Keras.

import keras
import numpy as np

from keras_tl import config, errors
from keras_tl.analysis import diagnosis, evaluation, figures, study
from keras_tl.config import RunSettings
from keras_tl.data import datasets, splits
from keras_tl.data.settings import DataSettings
from keras_tl.data.sources import read_all
from keras_tl.data.splits import Split, Splits
from keras_tl.models import backbones, freezing, heads
from keras_tl.models.settings import BackboneSettings
from keras_tl.training import phases, placement
from keras_tl.training.settings import TrainingSettings

# Fault -> the part that is at fault.
FAULTS = {
    "none": "nothing",
    "labels shuffled": "labels",
    "raw pixels": "preprocessing",
    "random weights": "backbone",
    "one unit": "head",
    "rate too low": "optimisation",
    "three of each class": "too little data",
    "dark test": "shift",
}


@dataclass(frozen=True)
class Config(RunSettings, TrainingSettings, BackboneSettings, DataSettings):
    """Which part fails: plant a fault into a training, and let a diagnosis name it."""

    faults: tuple[str, ...] = (  # Faults to plant, one at a time.
        "none",
        "labels shuffled",
        "raw pixels",
        "random weights",
        "one unit",
        "rate too low",
        "three of each class",
        "dark test",
    )
    limit: int | None = 600  # Images of each split at most.
    epochs: int = 30  # Epochs of the head.
    learning_rate: float = 1e-3  # Learning rate of the head.
    seeds: int = 1  # Trials of each fault, with seeds one after the other.

    def __post_init__(self):
        super().__post_init__()
        for name in ("epochs", "seeds"):
            errors.check_at_least(name, getattr(self, name), 1)
        errors.check_above("learning_rate", self.learning_rate, 0)
        for fault in self.faults:
            if fault not in FAULTS:
                raise errors.unknown("faults", fault, FAULTS)


# %% [markdown]
# ## Data
# Some faults are in the data: the model is trained on what it is given.


# %%
def build_data(settings: Config) -> Splits:
    data = datasets.from_settings(settings)
    print(data)
    return data.at_size(settings.image_size).map(splits.read_once)


def with_fault(data: Splits, fault: str, seed: int) -> Splits:
    rng = np.random.default_rng(seed)
    if fault == "labels shuffled":
        return data.map(lambda part: replace(part, labels=rng.permutation(part.labels)))
    if fault == "three of each class":
        few = splits.balanced(data.train.labels, 3 * len(data.class_names), seed)
        return replace(data, train=data.train.take(few))
    if fault == "dark test":
        dark = (read_all(data.test.inputs) * 0.08).astype("uint8")
        return replace(data, test=Split(dark, data.test.labels))
    return data


# %% [markdown]
# ## Model
# Others are in the model. The backbone is returned as well, as it is before training.


# %%
def build_model(settings: Config, num_classes: int, fault: str = "none"):
    if fault == "random weights":
        settings = replace(settings, weights=None)
    if fault == "raw pixels":
        settings = replace(settings, preprocessing="none")
    backbone = backbones.from_settings(settings)
    if fault == "one unit":
        model = heads.attach_mlp(heads.pool(backbone), num_classes, hidden=[1])
    else:
        model = heads.attach(backbone, num_classes)
    return model, backbone


# %% [markdown]
# ## One trial


# %%
def trial(settings: Config, data: Splits, place, run, name, seed: int, fault: str):
    keras.utils.set_random_seed(seed)
    data = with_fault(data, fault, seed)
    with place.scope():
        model, backbone = build_model(settings, len(data.class_names), fault)
    freezing.unfreeze_head(model)
    setup = phases.setup(settings, place, data, run, trial=name, seed=seed)
    rate = 1e-6 if fault == "rate too low" else settings.learning_rate
    phases.fit(model, data, setup, phases.Phase(settings.epochs, rate))
    verdict = diagnosis.diagnose(
        model, data, before=backbone, cache=setup.cache, seed=seed
    )
    print(f"{fault}: {verdict.sentence()}")
    return {
        "method": fault,
        "seed": seed,
        "accuracy": evaluation.accuracy(model, data.test),
        "at_fault": FAULTS[fault],
        "verdict": verdict.verdict,
        "confidence": verdict.confidence,
        **{f"cost of {part.name}": part.cost for part in verdict.parts},
    }


# %% [markdown]
# ## Run


# %%
def main(settings: Config) -> dict:
    started = time.perf_counter()
    place, settings = placement.from_settings(settings)
    data = build_data(settings)
    run = config.start_run("which_part_fails", settings, started, splits.describe(data))
    one = functools.partial(trial, settings, data, place, run)
    seeds = range(settings.seed, settings.seed + settings.seeds)
    rows = study.run(run.folder, study.grid(one, seed=seeds, fault=settings.faults))
    for row in rows:
        right = "named" if row["verdict"] == row["at_fault"] else row["verdict"]
        print(f"{row['method']:<20} {row['accuracy']:.3f}  {row['at_fault']}: {right}")
    named = sum(row["verdict"] == row["at_fault"] for row in rows)
    print(f"Named: {named} of {len(rows)}.")
    study.show("Test accuracy", study.summarize(rows, ["method"]))
    costs = {
        row["method"]: [row.get(f"cost of {part}", 0.0) for part in diagnosis.PARTS]
        for row in rows
    }
    figure = figures.costs(costs, diagnosis.PARTS, FAULTS)
    figures.save(figure, run.folder / "costs.png")
    return study.save(run, rows=rows, by=["method"])


# %% tags=["script"]
if __name__ == "__main__":
    config.run(main, Config)
