"""Several tasks on the same images: one backbone, one pass, two heads.

Workflow: images that have two labels each, what they show and in which style; a head
for each on one backbone, whose last blocks train with both; beside it a network of its
own for each task. Both answers of the shared one come out of one pass. A killed study
goes on where it was.
What to learn from it: what a second task costs, or gives, the first; and that one
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
from typing import Literal

import keras
import numpy as np

from keras_tl import config, errors, files
from keras_tl.analysis import evaluation, figures, study
from keras_tl.data import folders, splits
from keras_tl.methods import multi_task
from keras_tl.models import backbones, freezing, heads
from keras_tl.training import optimizers, phases, placement, store

WAYS = ("class alone", "domain alone", "together")


@dataclass(frozen=True)
class Config:
    """Several tasks on the same images: one backbone, one pass, two heads."""

    data: Path | None = None  # Folder of domains, each with a sub-folder per class.
    bad_images: Literal["error", "skip"] = "error"  # What to do with broken files.
    backbone: str = "efficientnet_lite0"  # Name of the pretrained backbone.
    weights: str | None = "imagenet"  # "imagenet", a file, or None: random ones.
    preprocessing: str | None = None  # Contract of the weights, if not the backbone's.
    image_size: int = 96  # Side of the square images, in pixels.
    blocks: int = 3  # Blocks of the backbone that train, from the output back.
    domain_weight: float = 1.0  # How much the domain counts in the common loss.
    epochs: int = 10  # Most epochs of a trial.
    learning_rate: float = 1e-3  # Adam's rate for the heads.
    backbone_rate: float = 0.1  # Factor of the rate for pretrained layers.
    batch_size: int = 32  # Images per step, over all devices.
    seeds: int = 3  # Trials of each way, with seeds one after the other.
    limit: int | None = None  # Keep at most this many images of each split and domain.
    cache: bool = True  # Keep what frozen layers give, on disk, for other trials.
    seed: int = 0  # Seed of the first trial, and of the splits.
    out: Path | None = None  # New folder for the results; runs/multi_task if None.
    resume: Path | None = None  # Folder of an interrupted run to go on with.

    def __post_init__(self):
        backbones.check(self.backbone, self.weights, self.image_size)
        if self.data is None or not Path(self.data).is_dir():
            raise errors.expected("data", "be a folder that exists", self.data)
        for name in ("blocks", "epochs", "batch_size", "seeds"):
            errors.check_at_least(name, getattr(self, name), 1)
        for name in ("domain_weight", "backbone_rate"):
            errors.check_at_least(name, getattr(self, name), 0)
        errors.check_above("learning_rate", self.learning_rate, 0)


# %% [markdown]
# ## Data
# Every domain is split on its own, so that all three splits have all domains.


# %%
def build_data(settings: Config) -> tuple[splits.Splits, list[str]]:
    found = folders.domains_from_folder(
        settings.data, seed=settings.seed, bad_images=settings.bad_images
    )
    names = list(found)
    found = [
        splits.limit(domain, settings.limit, seed=settings.seed)
        for domain in found.values()
    ]

    def joined(name):
        parts = [getattr(domain, name) for domain in found]
        domains = np.repeat(np.arange(len(found)), [len(part) for part in parts])
        whole = functools.reduce(splits.join, parts)
        return multi_task.label(whole, {"domain": (domains, len(found))})

    whole = {name: joined(name) for name in ("train", "validation", "test")}
    origin = f"Domains: {', '.join(names)}. In each: "
    data = replace(found[0], origin=origin + found[0].origin, **whole)
    print(data)
    sized = data.at_size(settings.image_size).map(splits.read_once)
    return sized, names


def of_domains(data: splits.Splits, domains: list[str]) -> splits.Splits:
    """The same images with their domain for the only label."""

    def change(split):
        return replace(split, labels=split.targets.argmax(1), targets=None)

    return replace(data.map(change), class_names=tuple(domains))


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
# ## A trial


# %%
def trial(settings, data, domains, place, run: Path, way: str, seed: int) -> study.Row:
    keras.utils.set_random_seed(seed)
    if way == "class alone":
        data = data.map(lambda split: replace(split, targets=None))
    elif way == "domain alone":
        data = of_domains(data, domains)
    with place.scope():
        model = build_model(settings, len(data.class_names))
        tasks = multi_task.heads(model, {"domain": len(domains)})
    setup = phases.Setup(
        place,
        batch_size=settings.batch_size,
        seed=seed,
        cache=store.Cache() if settings.cache else None,
    )
    part, inputs = phases.without_frozen_stem(model, data, setup)
    slow = {r"^(?!(.*/)?(logits|domain)/)": settings.backbone_rate}
    weights = {"domain": settings.domain_weight}
    phases.fit_head(
        part,
        inputs,
        setup,
        epochs=settings.epochs,
        learning_rate=settings.learning_rate,
        optimizer=functools.partial(optimizers.layerwise, "adam", factors=slow),
        regularizer=multi_task.learn(tasks, weights) if way == "together" else None,
        patience=settings.epochs,
        phase=way,
    )
    own = evaluation.accuracy(part, inputs.test)
    row = {"way": way, "seed": seed, "parameters": model.count_params()}
    if way != "together":
        return row | {way.split()[0]: own}
    row["parameters"] += tasks["domain"].count_params()
    both = multi_task.attach(part, tasks)
    domain = keras.Model(both.inputs[0], both.output["domain"])
    of_domain = replace(inputs.test, labels=inputs.test.targets.argmax(1))
    if seed == settings.seed:
        with files.atomic(run / "model.keras") as temporary:
            multi_task.attach(model, tasks).save(temporary, include_optimizer=False)
    return row | {"class": own, "domain": evaluation.accuracy(domain, of_domain)}


# %% [markdown]
# ## Run


# %%
def main(settings: Config) -> dict:
    started = time.perf_counter()
    place = placement.choose()
    data, domains = build_data(settings)
    build_model(settings, len(data.class_names))  # Raises now rather than in a trial.
    run = config.start_run("multi_task", settings)
    said = place.describe(settings.batch_size, settings.learning_rate)
    print(f"Results go to {run}. {said}")
    one = functools.partial(trial, settings, data, domains, place, run)
    trials = {
        f"{way.replace(' ', '-')}-seed-{seed}": functools.partial(one, way, seed)
        for seed in range(settings.seed, settings.seed + settings.seeds)
        for way in WAYS
    }
    rows = [
        {"task": task, "way": "together" if row["way"] == "together" else "alone"}
        | {name: row[name] for name in ("seed", "parameters", "seconds")}
        | {"accuracy": row[task]}
        for row in study.run(run, trials)
        for task in ("class", "domain")
        if task in row
    ]
    found = study.summarize(rows, ["task", "way"])
    study.show("Test accuracy", found)
    study.show("Gain", study.gains(rows, ["task"], "way", "alone"))
    bars = [
        (f"{row['task']}, {row['way']}", row["mean"], (row["low"], row["high"]))
        for row in found
    ]
    figures.save(figures.comparison(bars), run / "tasks.png")
    return study.save(
        run,
        recipe="multi_task",
        settings=settings,
        data=splits.describe(data) | {"domains": domains},
        rows=rows,
        by=["task", "way"],
        seconds=time.perf_counter() - started,
    )


# %% tags=["script"]
if __name__ == "__main__":
    config.run(main, Config)
