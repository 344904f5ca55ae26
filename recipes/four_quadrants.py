"""Four quadrants: what to freeze, with few or many labels, similar or different.

Workflow: two datasets, one similar to the photographs of ImageNet and one different,
each with few and with many labels of a class. In each of the four the planner of
`keras-tl train` measures how similar the images are, decides what stays frozen and how
images are changed at random, and trains once; beside it everything that it could have
decided is tried. All begin with the same linear probe and train for as many steps, and
validation selects the epoch. A study that was killed continues with `--resume`.
What to learn from it: what the choice is worth in each quadrant, and what a plan made
beforehand loses against trying everything and letting validation choose: its regret,
at a part of the seconds. The planner's limits were set on these data and others: the
regret on data that it has not seen may be larger.

Source: the four quadrants of https://cs231n.github.io/transfer-learning/; Yosinski et
al., "How transferable are features in deep neural networks?", 2014, arXiv:1411.1792.
Data: the CIFAR-10 sample inside the package and scikit-learn's digits, or others by
`--similar` and `--different`: folders, tables, or names of datasets.
Expected:
    efficientnet_lite0, 96 px, cifar10_sample and digits:
      few, similar, plan 0.673, 55 s each
      few, similar, linear probe 0.637, 6.8 s each
      few, similar, last blocks 0.657, 21 s each
      few, similar, last blocks, zoom 0.663, 56 s each
      few, similar, last blocks, zoom_and_flip 0.652, 53 s each
      2758 s on 2 cores, AMD EPYC with avx512_bf16
      Keras 3.15.1, TensorFlow 2.21.0, 2026-11-29
    more in docs/results.md
Run:
    keras-tl run four_quadrants
    keras-tl run four_quadrants --seeds 3 --different DATA
"""

# %%
import functools
import math
import time
from dataclasses import dataclass, replace

import keras_tl.quiet  # noqa: F401  Before Keras.

import keras

from keras_tl import config, errors
from keras_tl.analysis import evaluation, figures, planner, probe, study
from keras_tl.config import RunSettings
from keras_tl.data import augment, datasets, splits
from keras_tl.data.settings import Augment, AugmentSettings
from keras_tl.models import backbones, freezing, heads
from keras_tl.models.settings import BackboneSettings
from keras_tl.training import phases, placement
from keras_tl.training.settings import ChooseBy, TrainingSettings

PLAN, PROBE = "plan", "linear probe"


@dataclass(frozen=True)
class Config(RunSettings, TrainingSettings, BackboneSettings):
    """Four quadrants: what to freeze, with few or many labels, similar or different."""

    similar: str = "cifar10_sample"  # Data like the photographs of ImageNet.
    different: str = "digits"  # Data unlike them.
    limit: int | None = None  # Keep at most this many images of each split.
    few: int = 10  # Labels of each class, where there are few.
    many: int = 50  # Labels of each class, where there are many.
    # Random changes of the training images that are tried.
    augmentations: tuple[Augment, ...] = ("none", "zoom", "zoom_and_flip")
    steps: int = 150  # Steps of fine-tuning: few labels have more epochs.
    learning_rate: float = 2e-4  # Adam's learning rate of fine-tuning.
    choose_by: ChooseBy = "accuracy"  # Validation metric that selects the epoch.
    seeds: int = 1  # Draws of the labels, with seeds one after the other.

    def __post_init__(self):
        super().__post_init__()
        for name in ("few", "steps", "seeds"):
            errors.check_at_least(name, getattr(self, name), 1)
        errors.check_at_least("len(augmentations)", len(self.augmentations), 1)
        if self.limit is not None:
            errors.check_at_least("limit", self.limit, 1)
        errors.check_at_least("many", self.many, self.few)
        errors.check_above("learning_rate", self.learning_rate, 0)


# %% [markdown]
# ## Data and model
# The same labels are drawn for all methods, and as many again, where there are, to
# select by.


# %%
def build_data(settings: Config) -> dict[str, splits.Splits]:
    data = {}
    for kind in (settings.similar, settings.different):
        loaded = datasets.load(kind, count=settings.limit)
        print(loaded)
        data[kind] = loaded.at_size(settings.image_size)
    return data


def build_model(settings: Config, num_classes: int) -> keras.Model:
    return heads.attach(backbones.from_settings(settings), num_classes)


def quadrants(settings: Config) -> dict[str, tuple[str, int]]:
    """Return name -> data and labels of a class."""
    return {
        f"{amount}, {kind}": (getattr(settings, kind), getattr(settings, amount))
        for kind in ("similar", "different")
        for amount in ("few", "many")
    }


# %% [markdown]
# ## What could be decided
# The probe alone, or what is fine-tuned and how images are changed.


# %%
def alternatives(settings: Config, model: keras.Model) -> dict[str, tuple[str, str]]:
    """Return the name of a method -> block up to which is frozen, and augmentation."""
    methods = {PROBE: ("all", "none")}
    points = planner.freeze_points(freezing.blocks(model))
    for trains, freeze in points.items():
        for change in settings.augmentations:
            name = trains if change == "none" else f"{trains}, {change}"
            methods[name] = (freeze, change)
    return methods


def epochs(settings: Config, data: splits.Splits) -> int:
    return math.ceil(settings.steps / math.ceil(len(data.train) / settings.batch_size))


def decide(settings: Config, model: keras.Model, data: splits.Splits):
    """Plan as `keras-tl train` does, and print the reasons."""
    measured = planner.measure_similarity(model, data, seed=settings.seed)
    blocks = freezing.blocks(model)
    decisions = planner.fine_tuning(data, blocks, measured, epochs(settings, data))
    for decision in decisions:
        print(decision)
    values = {decision.name: decision.value for decision in decisions}
    return values["freeze"], values["augment"]


# %% [markdown]
# ## A trial
# All begin with the head of the linear probe; where no epoch of fine-tuning does better
# on validation, it stays.


# %%
def start_at_probe(model: keras.Model, data: splits.Splits, setup) -> None:
    freezing.unfreeze_head(model)
    _, features = phases.precompute_frozen(model, data, setup, test=False)
    probe.fit_head(model, features)


def trial(settings, data, place, run, name, quadrant: str, method: str, seed: int):
    keras.utils.set_random_seed(seed)
    kind, labels = quadrants(settings)[quadrant]
    data = splits.few(data[kind], labels, seed=seed)
    with place.scope():
        model = build_model(settings, len(data.class_names))
    setup = phases.setup(settings, place, data, run, trial=name, seed=seed)
    start_at_probe(model, data, setup)
    if method == PLAN:
        freeze, change = decide(replace(settings, seed=seed), model, data)
    else:
        freeze, change = alternatives(settings, model)[method]
    if freeze != "all":
        freezing.unfreeze_above(model, freeze)
        changes = augment.from_settings(AugmentSettings(augment=change))
        count = epochs(settings, data)
        phase = phases.fine_tuning(count, settings.learning_rate, patience=count)
        phases.fit(model, data, replace(setup, **changes), phase)
    return {
        "quadrant": quadrant,
        "method": method,
        "freeze": freeze,
        "augment": change,
        "seed": seed,
        "validation": evaluation.accuracy(model, data.validation),
        "accuracy": evaluation.accuracy(model, data.test),
    }


def plan(settings, data, place, run) -> dict:
    """Name the trials: in each quadrant the plan, then all alternatives."""
    model = build_model(settings, 2)
    trials = {}
    for seed in range(settings.seed, settings.seed + settings.seeds):
        for quadrant in quadrants(settings):
            for method in (PLAN, *alternatives(settings, model)):
                name = f"{quadrant}-{method}-seed-{seed}".replace(", ", "-")
                name = name.replace(" ", "-")
                one = functools.partial(trial, settings, data, place, run, name)
                trials[name] = functools.partial(one, quadrant, method, seed)
    return trials


def show(rows, folder) -> None:
    summaries = study.summarize(rows, ["quadrant", "method"])
    study.show("Test accuracy in each quadrant", summaries)
    regrets = study.regrets(rows, "quadrant", "method", PLAN)
    study.show("The plan beside trying everything", regrets)
    panels = {}
    for row in summaries:
        values = tuple(row[name] for name in ("mean", "low", "high"))
        panels.setdefault(row["quadrant"], {})[row["method"]] = values
    figure = figures.panels(panels, PLAN, "test accuracy")
    figures.save(figure, folder / "four_quadrants.png")


# %% [markdown]
# ## Run


# %%
def main(settings: Config) -> dict:
    started = time.perf_counter()
    place, settings = placement.from_settings(settings)
    data = build_data(settings)
    for one in data.values():  # Raises now rather than in a trial.
        splits.few(one, settings.many, seed=settings.seed)
    first = data[settings.similar]
    run = config.start_run("four_quadrants", settings, started, splits.describe(first))
    print(place.describe(settings.batch_size, settings.learning_rate))
    rows = study.run(run.folder, plan(settings, data, place, run))
    show(rows, run.folder)
    return study.save(run, rows=rows, by=["quadrant", "method"], base=PLAN)


# %% tags=["script"]
if __name__ == "__main__":
    config.run(main, Config)
