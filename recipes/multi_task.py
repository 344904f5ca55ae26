"""Several tasks on the same images: one backbone, one pass, two heads.

Workflow: images that have two labels each, what they show and in which style; a head
for each on one backbone, whose last blocks train with both; beside it a network of its
own for each task. One pass of the shared one answers both. A study that was killed
continues with `--resume`.
What to learn from it: how much a second task costs, or helps, the first; and that one
network of two heads takes half the memory and time of two networks.

Source: Caruana, "Multitask learning", 1997, https://doi.org/10.1023/A:1007379606734.
Data: `--data FOLDER`, folders of folders of images, FOLDER/DOMAIN/CLASS/image.jpg, with
the same classes in every domain, such as PACS (Li et al., 2017, arXiv:1710.03077):
photos, paintings, cartoons and sketches of seven kinds of things.
Expected:
    efficientnet_lite0, 96 px, pacs, 2,324 train, 498 test:
      class, alone 0.794 (0.775 to 0.819, 3 seeds), 24 s each
      domain, alone 0.954 (0.950 to 0.960, 3 seeds), 24 s each
      class, together 0.788 (0.783 to 0.799, 3 seeds), 24 s each
      domain, together 0.942 (0.936 to 0.946, 3 seeds), 24 s each
      287 s on 2 cores, AMD EPYC with avx512_bf16
      Keras 3.15.1, TensorFlow 2.21.0, 2026-11-25
Run:
    keras-tl run multi_task --data pacs
"""

# %%
import functools
import time
from dataclasses import dataclass, replace
from pathlib import Path

import keras_tl.quiet  # noqa: F401  Before Keras.

import keras
import numpy as np

from keras_tl import config, errors
from keras_tl.analysis import evaluation, figures, study
from keras_tl.config import RunSettings
from keras_tl.data import folders, splits
from keras_tl.data.settings import FolderSettings
from keras_tl.methods import multi_task
from keras_tl.models import backbones, freezing, heads, saving
from keras_tl.models.settings import BackboneSettings
from keras_tl.training import optimizers, phases, placement
from keras_tl.training.settings import TrainingSettings

METHODS = ("class alone", "domain alone", "together")


@dataclass(frozen=True)
class Config(RunSettings, TrainingSettings, BackboneSettings, FolderSettings):
    """Several tasks on the same images: one backbone, one pass, two heads."""

    data: Path | None = None  # Folder of domains, each a folder of classes.
    blocks: int = 3  # Blocks of the backbone that train, from the output back.
    domain_weight: float = 1.0  # Weight of the domain in the common loss.
    epochs: int = 10  # Most epochs of a trial.
    learning_rate: float = 1e-3  # Adam's learning rate for the heads.
    backbone_rate: float = 0.1  # Factor of the learning rate for pretrained layers.
    seeds: int = 3  # Trials of each method, with seeds one after the other.

    def __post_init__(self):
        if self.data is None:
            layout = "FOLDER/DOMAIN/CLASS/image.jpg"
            raise errors.expected("data", f"name a folder of domains, {layout}", None)
        super().__post_init__()
        for name in ("blocks", "epochs", "seeds"):
            errors.check_at_least(name, getattr(self, name), 1)
        for name in ("domain_weight", "backbone_rate"):
            errors.check_at_least(name, getattr(self, name), 0)
        errors.check_above("learning_rate", self.learning_rate, 0)


# %% [markdown]
# ## Data
# Every domain is split on its own, so that all three splits have all domains.


# %%
def build_data(settings: Config) -> tuple[splits.Splits, list[str]]:
    domains = folders.domains_from_folder(
        settings.data, seed=settings.seed, bad_files=settings.bad_files
    )
    names = list(domains)
    limited = [
        splits.limit(domain, settings.limit, seed=settings.seed)
        for domain in domains.values()
    ]

    def joined(name):
        pieces = [getattr(domain, name) for domain in limited]
        numbers = np.repeat(np.arange(len(pieces)), [len(piece) for piece in pieces])
        whole = functools.reduce(splits.join, pieces)
        return multi_task.label(whole, {"domain": (numbers, len(pieces))})

    whole = {name: joined(name) for name in ("train", "validation", "test")}
    origin = f"Domains: {', '.join(names)}. In each: {limited[0].origin}"
    data = replace(limited[0], origin=origin, **whole)
    print(data)
    sized = data.at_size(settings.image_size).map(splits.read_once)
    return sized, names


def of_domains(data: splits.Splits, domains: list[str]) -> splits.Splits:
    """Return the same images with their domain as the only label."""

    def change(split):
        return replace(split, labels=split.targets.argmax(1), targets=None)

    return replace(data.map(change), class_names=tuple(domains))


# %% [markdown]
# ## Model


# %%
def build_model(settings: Config, num_classes: int) -> keras.Model:
    model = heads.attach(backbones.from_settings(settings), num_classes)
    freezing.unfreeze_blocks(model, settings.blocks)
    return model


# %% [markdown]
# ## A trial


# %%
def trial(settings, data, domains, place, run, name, method: str, seed: int):
    keras.utils.set_random_seed(seed)
    if method == "class alone":
        data = data.map(lambda split: replace(split, targets=None))
    elif method == "domain alone":
        data = of_domains(data, domains)
    with place.scope():
        model = build_model(settings, len(data.class_names))
        tasks = multi_task.heads(model, {"domain": len(domains)})
    together = method == "together"
    weights = {"domain": settings.domain_weight}
    phase = phases.Phase(
        settings.epochs,
        settings.learning_rate,
        optimizer=optimizers.slow_backbone(
            settings.backbone_rate, heads=list(tasks) if together else ()
        ),
        method=multi_task.learn(tasks, weights) if together else None,
        patience=settings.epochs,
        name=method,
    )
    setup = phases.setup(settings, place, data, run, trial=name, seed=seed)
    part, inputs = phases.precompute_frozen(model, data, setup)
    phases.fit(part, inputs, setup, phase)
    if together and seed == settings.seed:
        saving.save(multi_task.attach(model, tasks), run.folder / "model.keras")
    extra = tasks["domain"].count_params() if together else 0
    row = {"method": method, "seed": seed, "parameters": model.count_params() + extra}
    return row | measure(part, inputs.test, tasks, method)


def measure(part, test, tasks, method) -> dict:
    """Compute the test accuracy of each task that a model has learned."""
    own = evaluation.accuracy(part, test)
    if method != "together":
        return {method.split()[0]: own}
    both = multi_task.attach(part, tasks)
    domain = keras.Model(both.inputs[0], both.output["domain"])
    of_domain = replace(test, labels=test.targets.argmax(1))
    return {
        "class": own,
        "domain": evaluation.accuracy(domain, of_domain),
    }


def by_task(rows) -> list[dict]:
    """Turn a row for each trial into a row for each task."""
    return [
        {"task": task, "method": "together" if "together" in row["method"] else "alone"}
        | {name: row[name] for name in ("seed", "parameters", "seconds")}
        | {"accuracy": row[task]}
        for row in rows
        for task in ("class", "domain")
        if task in row
    ]


# %% [markdown]
# ## Run


# %%
def main(settings: Config) -> dict:
    started = time.perf_counter()
    place, settings = placement.from_settings(settings)
    data, domains = build_data(settings)
    build_model(settings, len(data.class_names))  # Raises now rather than in a trial.
    described = splits.describe(data) | {"domains": domains}
    run = config.start_run("multi_task", settings, started, described)
    print(place.describe(settings.batch_size, settings.learning_rate))
    trials = {}
    for seed in range(settings.seed, settings.seed + settings.seeds):
        for method in METHODS:
            name = f"{method.replace(' ', '-')}-seed-{seed}"
            one = functools.partial(trial, settings, data, domains, place, run, name)
            trials[name] = functools.partial(one, method, seed)
    rows = by_task(study.run(run.folder, trials))
    summaries = study.summarize(rows, ["task", "method"])
    study.show("Test accuracy", summaries)
    study.show("Gain", study.gains(rows, ["task"], "method", "alone"))
    bars = [
        (f"{row['task']}, {row['method']}", row["mean"], (row["low"], row["high"]))
        for row in summaries
    ]
    figures.save(figures.comparison(bars), run.folder / "tasks.png")
    return study.save(run, rows=rows, by=["task", "method"], base="alone")


# %% tags=["script"]
if __name__ == "__main__":
    config.run(main, Config)
