"""Update with new classes: what a model forgets, and what prevents it.

Workflow: a pretrained backbone learns all classes but the last ones; then come these,
and its head grows. Naive fine-tuning sees the new images alone; elastic weight
consolidation (EWC) and learning without forgetting (LwF) see these too, and hold on to
weights or answers; rehearsal sees some old images of each class besides, and holds on
to the answers. For comparison, the model of before, and one that learns all classes at
once from all images. A study that was killed continues with `--resume`.
What to learn from it: that new images alone cost the old classes, how many old images
have to be kept, and how far that is from training anew. `keras-tl update` does the same
with a finished run, and refuses an update that has made the old classes worse.

Source: rehearsal with exemplars: Rebuffi et al., "iCaRL", 2017, arXiv:1611.07725; EWC:
Kirkpatrick et al., "Overcoming catastrophic forgetting in neural networks", 2017,
arXiv:1612.00796; LwF: Li and Hoiem, "Learning without forgetting", 2016,
arXiv:1606.09282. That the last two fail where old and new classes share a head, and no
old image is seen: van de Ven and Tolias, "Three scenarios for continual learning",
2019, arXiv:1904.07734.
Data: the CIFAR-10 sample inside the package, `--dataset digits`, any of TFDS, or
`--data FOLDER`.
Expected:
    efficientnet_lite0, 96 px, cifar10_sample, 2,000 train, 1,500 test:
      all, before 0.646 (0.645 to 0.647, 2 seeds), 54 s each
      all, naive 0.199 (0.197 to 0.201, 2 seeds), 25 s each
      all, EWC 0.300 (0.277 to 0.324, 2 seeds), 10 s each
      all, LwF 0.199 (0.197 to 0.201, 2 seeds), 5.6 s each
      all, rehearsal of 20 0.778 (0.777 to 0.779, 2 seeds), 4.8 s each
      342 s on 2 cores, AMD EPYC with avx512_bf16
      Keras 3.15.1, TensorFlow 2.21.0, 2026-11-29
    more in docs/results.md
Run:
    keras-tl run update_with_new_classes
    keras-tl run update_with_new_classes --exemplars 5 20 --seeds 5
"""

# %%
import functools
import time
from dataclasses import dataclass, replace

import keras_tl.quiet  # noqa: F401  Before Keras.

import keras
import numpy as np

from keras_tl import config, errors
from keras_tl.analysis import evaluation, figures, study
from keras_tl.config import RunSettings
from keras_tl.data import datasets, splits
from keras_tl.data.settings import DataSettings
from keras_tl.deploy import update, update_data
from keras_tl.models import backbones, freezing, heads, saving
from keras_tl.models.settings import BackboneSettings
from keras_tl.training import phases, placement
from keras_tl.training.settings import ChooseBy, TrainingSettings

METHODS = {"naive": "naive", "EWC": "ewc", "LwF": "lwf"}
BEFORE, EVERYTHING = "before", "everything"


@dataclass(frozen=True)
class Config(RunSettings, TrainingSettings, BackboneSettings, DataSettings):
    """Update with new classes: what a model forgets, and what prevents it."""

    new_classes: int = 2  # Number of classes, the last ones, that come later.
    # Old training images of each class that rehearsal sees; each number is a method.
    exemplars: tuple[int, ...] = (20, 100)
    blocks: int = 4  # Blocks of the backbone that are fine-tuned, from the output back.
    update_blocks: int = 0  # Blocks that an update trains; 0 trains the head alone.
    epochs: int = 8  # Most epochs of the head, and of fine-tuning.
    update_epochs: int = 30  # Most epochs of an update.
    learning_rate: float = 1e-3  # Adam's learning rate for the head.
    choose_by: ChooseBy = "accuracy"  # Validation metric that selects the epoch.
    seeds: int = 3  # Trials of each method, with seeds one after the other.

    def __post_init__(self):
        super().__post_init__()
        for name in ("new_classes", "blocks", "epochs", "update_epochs", "seeds"):
            errors.check_at_least(name, getattr(self, name), 1)
        errors.check_at_least("update_blocks", self.update_blocks, 0)
        errors.check_at_least("exemplars", min(self.exemplars, default=0), 1)
        errors.check_above("learning_rate", self.learning_rate, 0)


# %% [markdown]
# ## Data
# The last classes come later. Of the old images, rehearsal keeps as many of each class.


# %%
def build_data(settings: Config) -> splits.Splits:
    data = datasets.from_settings(settings)
    known = len(data.class_names) - settings.new_classes
    if known < 2:
        raise errors.expected(
            "new_classes",
            f"be at most {len(data.class_names) - 2}: at least 2 classes come first",
            settings.new_classes,
        )
    print(data)
    print(f"Later come: {', '.join(data.class_names[known:])}.")
    return data


def build_material(settings: Config, data, exemplars: int, seed: int):
    """Split the data into those of the old classes and those of the new ones."""
    known = len(data.class_names) - settings.new_classes
    old = {n: s.take(np.flatnonzero(s.labels < known)) for n, s in data.items()}
    new = {n: s.take(np.flatnonzero(s.labels >= known)) for n, s in data.items()}
    names = data.class_names
    first = replace(data, **old, class_names=names[:known])
    kept = splits.of_each(first.train.labels, exemplars, seed=seed)
    return update_data.Material(
        replace(first, train=first.train.take(kept)), new, names
    )


# %% [markdown]
# ## Model
# A head on the backbone, whose last blocks are fine-tuned once the head is fitted.


# %%
def build_model(settings: Config, num_classes: int) -> keras.Model:
    model = heads.attach(backbones.from_settings(settings), num_classes)
    freezing.unfreeze_blocks(model, settings.blocks)
    return model


def learn(settings: Config, data, place, setup) -> keras.Model:
    """Train a model on all images of some classes: its head, then the last blocks."""
    with place.scope():
        model = build_model(settings, len(data.class_names))
    part, inputs = phases.precompute_frozen(model, data, setup, test=False)
    freezing.unfreeze_head(part)
    phases.fit(part, inputs, setup, phases.Phase(settings.epochs))
    freezing.unfreeze_blocks(part, settings.blocks)
    phases.fit(part, inputs, setup, phases.fine_tuning(settings.epochs))
    return model


# %% [markdown]
# ## Trials
# The model of before is kept in the run's folder, and every update begins with it.


# %%
def trial(settings, data, place, run, name: str, method: str, seed: int) -> study.Row:
    keras.utils.set_random_seed(seed)
    setup = phases.setup(settings, place, data, run, trial=name, seed=seed)
    counts = {f"rehearsal of {count}": count for count in settings.exemplars}
    # EWC and the training of before see all old images, at their time.
    count = counts.get(method, len(data.train))
    material = build_material(settings, data, count, seed)
    joined = material.joined()
    path = run.folder / f"before-seed-{seed}.keras"
    if method in (BEFORE, EVERYTHING):
        learned = material.old if method == BEFORE else joined
        model = learn(settings, learned, place, setup)
        logits = evaluation.predict(model, joined.test)
        if method == BEFORE:
            saving.save(model, path)
    else:
        with place.scope():
            model = keras.models.load_model(path, compile=False)
        logits = update.grow(
            model,
            material,
            setup,
            METHODS.get(method, "rehearsal"),
            blocks=settings.update_blocks,
            epochs=settings.update_epochs,
            learning_rate=settings.learning_rate,
        ).after
    # The old test images come first.
    labels = joined.test.labels
    right = logits.argmax(1) == labels
    is_new = labels >= len(material.old.class_names)
    return {
        "method": method,
        "seed": seed,
        "old": float(right[~is_new].mean()),
        "new": float(right[is_new].mean()),
        "all": float(right.mean()),
    }


def methods(settings: Config) -> list[str]:
    """Name the methods, in the order of the tables."""
    rehearsals = [f"rehearsal of {count}" for count in settings.exemplars]
    return [BEFORE, *METHODS, *rehearsals, EVERYTHING]


def plan(settings, data, place, run) -> dict:
    """Name the trials: every method with every seed, the model of before first."""
    trials = {}
    for seed in range(settings.seed, settings.seed + settings.seeds):
        for method in methods(settings):
            name = f"{method.replace(' ', '-')}-seed-{seed}"
            one = functools.partial(trial, settings, data, place, run)
            trials[name] = functools.partial(one, name, method, seed)
    return trials


def by_classes(rows) -> list[study.Row]:
    """Make a row of each trial for all classes, the old ones and the new ones."""
    return [
        {"classes": classes, "method": row["method"], "seed": row["seed"]}
        | {"accuracy": row[classes], "seconds": row["seconds"]}
        | {"trial": f"{row['method']}-seed-{row['seed']}"}
        for classes in ("all", "old", "new")
        for row in rows
    ]


def show(settings, rows, folder) -> None:
    summaries = study.summarize(rows, ["classes", "method"])
    study.show("Test accuracy on all classes, the old and the new ones", summaries)
    gains = study.gains(rows, ["classes"], "method", "naive")
    study.show("Gain over naive fine-tuning", gains)
    figure = figures.lines(
        study.series(summaries, "method", "classes"),
        methods(settings),
        "Method",
        "Test accuracy",
    )
    figures.save(figure, folder / "update_with_new_classes.png")


# %% [markdown]
# ## Run


# %%
def main(settings: Config) -> dict:
    started = time.perf_counter()
    place, settings = placement.from_settings(settings)
    data = build_data(settings)
    # Raises now rather than in a trial.
    build_model(settings, len(data.class_names))
    about = splits.describe(data)
    run = config.start_run("update_with_new_classes", settings, started, about)
    print(place.describe(settings.batch_size, settings.learning_rate))
    sized = data.at_size(settings.image_size).map(splits.read_once)
    rows = by_classes(study.run(run.folder, plan(settings, sized, place, run)))
    show(settings, rows, run.folder)
    return study.save(run, rows=rows, by=["classes", "method"], base="naive")


# %% tags=["script"]
if __name__ == "__main__":
    config.run(main, Config)
