"""Compare gradual unfreezing, discriminative rates and progressive resizing.

Workflow: every trial fits a new head on a frozen backbone, then trains its last blocks
for the same number of epochs. Plain: all at once, at one rate. Gradual: one block more
in each epoch, from the top. Discriminative: rates that fall from block to block.
Resizing: the head and half of the epochs on small images. Validation chooses the rate
of each way, and the epoch; the stages of `gradual` have one each, so that it has fewer
to choose from. A study that was killed goes on with the trial it was killed in.
What to learn from it: what each technique adds to plain fine-tuning at a rate that
suits that, which of them minds another rate less, and what time small images save: most
where many layers train on many images, since frozen layers run once anyhow.

Source: Howard and Ruder, "Universal language model fine-tuning", 2018,
arXiv:1801.06146; Tan and Le, "EfficientNetV2", 2021, arXiv:2104.00298 (resizing), and
https://www.fast.ai/posts/2018-04-30-dawnbench-fastai.html.
Data: the CIFAR-10 sample inside the package, `--dataset digits`, any of TFDS, or
`--data FOLDER`.
Expected:
    efficientnet_lite0, 96 px, cifar10_sample, 500 train, 1,500 test:
      plain (rate 0.0003) 0.751 (0.745 to 0.757, 3 seeds), 25 s each
      gradual (rate 0.0003) 0.742 (0.734 to 0.751, 3 seeds), 26 s each
      discriminative (rate 0.001) 0.749 (0.741 to 0.757, 3 seeds), 25 s each
      gradual+discriminative (rate 0.001) 0.742 (0.739 to 0.746, 3 seeds), 28 s each
      resizing (rate 0.0003) 0.731 (0.711 to 0.745, 3 seeds), 25 s each
      718 s on 1 core, AMD EPYC with avx512_bf16
      Keras 3.15.1, TensorFlow 2.21.0, 2026-11-25
Run:
    keras-tl run gradual_unfreezing
    keras-tl run gradual_unfreezing --ways plain resizing --blocks 16 --rates 1e-4 3e-4
"""

# %%
import functools
import time
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal

import keras

from keras_tl import config, errors
from keras_tl.analysis import evaluation, figures, study
from keras_tl.data import sources, splits
from keras_tl.models import backbones, freezing, heads, resizing
from keras_tl.training import phases, placement, stages, store


@dataclass(frozen=True)
class Config:
    """Compare gradual unfreezing, discriminative rates and progressive resizing."""

    dataset: str = "cifar10_sample"  # cifar10_sample, digits, or a name of TFDS.
    data: Path | None = None  # Folder of your own images, in place of the dataset.
    bad_images: Literal["error", "skip"] = "error"  # What to do with broken files.
    backbone: str = "efficientnet_lite0"  # Name of the pretrained backbone.
    weights: str | None = "imagenet"  # "imagenet", a file, or None: random ones.
    preprocessing: str | None = None  # Contract of the weights, if not the backbone's.
    image_size: int = 96  # Side of the square images, in pixels.
    small_size: int = 64  # Side of those that `resizing` begins with.
    images: int = 500  # Most training images to use.
    ways: tuple[str, ...] = (  # Ways to fine-tune, to be compared.
        *("plain", "gradual", "discriminative"),
        *("gradual+discriminative", "resizing"),
    )
    rates: tuple[float, ...] = (3e-4, 1e-3)  # Adam's rates to try with each.
    decay: float = 1 / 2.6  # Factor of the rate from block to block: discriminative.
    blocks: int = 4  # Blocks that train, from the output back.
    head_epochs: int = 5  # Epochs of the new head alone.
    epochs: int = 8  # Epochs after that; `gradual` spends one on each block first.
    seeds: int = 3  # Trials of each setting, with seeds one after the other.
    batch_size: int = 32  # Images per step, over all devices.
    limit: int | None = None  # Keep at most this many images of each split.
    cache: bool = True  # Keep what frozen layers give, on disk, for other trials.
    seed: int = 0  # Seed of the first trial, and of the splits.
    out: Path | None = None  # New folder; runs/gradual_unfreezing if None.
    resume: Path | None = None  # Folder of an interrupted run to go on with.

    def __post_init__(self):
        for size in (self.small_size, self.image_size):
            backbones.check(self.backbone, self.weights, size)
        for name in ("images", "blocks", "head_epochs", "seeds", "batch_size"):
            errors.check_at_least(name, getattr(self, name), 1)
        for way in self.ways or ("",):
            if way not in Config.ways:
                raise errors.unknown("ways", way, Config.ways)
        errors.check_at_least("epochs", self.epochs, 2)
        gradual = any("gradual" in way for way in self.ways)
        if gradual and self.epochs <= self.blocks:
            wanted = (
                f"be at least {self.blocks + 1} for gradual, one more than `blocks`"
            )
            raise errors.expected("epochs", wanted, self.epochs)
        if not 0 < self.decay <= 1:
            raise errors.expected("decay", "be in (0, 1]", self.decay)
        if min(self.rates, default=0) <= 0:
            raise errors.expected("rates", "be greater than 0", self.rates)


# %% [markdown]
# ## Data and model


# %%
def build_data(settings: Config) -> splits.Splits:
    data = sources.load(
        settings.dataset,
        folder=settings.data,
        bad_images=settings.bad_images,
        count=settings.limit,
        seed=settings.seed,
    )
    chosen = splits.balanced(data.train.labels, settings.images, settings.seed)
    data = replace(data, train=data.train.take(chosen))
    print(data)
    return data


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
# ## Ways to fine-tune
# A decay of 1 is one rate for all. Once all blocks train, `gradual` goes on as the
# others do. Epochs are counted on from phase to phase: each has an order of its own.


# %%
def fine_tune(
    settings, model, data, setup, way, rate, epochs, done
) -> list[phases.History]:
    what = (model, data, setup, backbones.find(settings.backbone).block)
    decay = settings.decay if "discriminative" in way else 1.0
    how = {"blocks": settings.blocks, "learning_rate": rate, "decay": decay}
    found = []
    if "gradual" in way:
        found += stages.unfreeze_gradually(*what, **how, first_epoch=done).values()
    left, done = epochs - len(found), done + len(found)
    named = {"phase": f"{way} from epoch {done + 1}", "first_epoch": done}
    last = stages.fine_tune_blocks(*what, **how, **named, epochs=left, patience=left)
    return [*found, last]


# %% [markdown]
# ## A trial
# What stays frozen runs once for each size. The model for large images has the layers
# of the one for small images, with what they have learned.


# %%
def trial(settings, data, place, way: str, rate: float, seed: int) -> study.Row:
    keras.utils.set_random_seed(seed)
    setup = phases.Setup(
        place,
        batch_size=settings.batch_size,
        seed=seed,
        choose_by="accuracy",
        cache=store.Cache() if settings.cache else None,
    )
    size, half = settings.image_size, settings.epochs // 2
    plan = [(size, settings.epochs)]
    if way == "resizing":
        plan = [(settings.small_size, half), (size, settings.epochs - half)]
    with place.scope():
        model = build_model(settings, len(data[size].class_names))
    found = []
    for size, epochs in plan:
        with place.scope():
            model = resizing.at_size(model, size)
        part, inputs = phases.without_frozen_stem(model, data[size], setup)
        if not found:
            freezing.unfreeze_head(part)
            found += [phases.fit_head(part, inputs, setup, epochs=settings.head_epochs)]
        done = sum(len(history["loss"]) for history in found)
        found += fine_tune(settings, part, inputs, setup, way, rate, epochs, done)
    return {
        "way": way,
        "rate": rate,
        "seed": seed,
        "trainable": freezing.report(part).trainable,
        "epochs": sum(len(history["loss"]) for history in found),
        "validation": evaluation.accuracy(part, inputs.validation),
        "accuracy": evaluation.accuracy(part, inputs.test),
    }


# %% [markdown]
# ## Run


# %%
def main(settings: Config) -> dict:
    started = time.perf_counter()
    place = placement.choose()
    data = build_data(settings)
    model = build_model(settings, len(data.class_names))
    resizing.at_size(model, settings.small_size)  # Raises now rather than in a trial.
    run = config.start_run("gradual_unfreezing", settings)
    said = place.describe(settings.batch_size, max(settings.rates))
    print(f"Results go to {run}. {said} {freezing.report(model)}")
    sizes = (settings.small_size, settings.image_size)
    at_size = {size: data.at_size(size).map(splits.read_once) for size in sizes}
    one = functools.partial(trial, settings, at_size, place)
    trials = {
        f"{way}-rate-{rate}-seed-{seed}": functools.partial(one, way, rate, seed)
        for seed in range(settings.seed, settings.seed + settings.seeds)
        for way in settings.ways
        for rate in settings.rates
    }
    rows = study.run(run, trials)
    study.show("Test accuracy of each way", study.summarize(rows, ["way", "rate"]))
    chosen = study.choose(rows, ["way"], ["rate"])
    if "plain" in settings.ways and len(settings.ways) > 1:
        gains = study.gains(chosen, [], "way", "plain")
        study.show("Gain over plain fine-tuning, each way at its own rate", gains)
    bars = [
        (f"{row['way']}, {row['rate']:g}", row["mean"], (row["low"], row["high"]))
        for row in study.summarize(chosen, ["way", "rate"])
    ]
    figures.save(figures.comparison(bars), run / "ways.png")
    return study.save(
        run,
        recipe="gradual_unfreezing",
        settings=settings,
        data=splits.describe(data),
        rows=rows,
        by=["way"],
        over=["rate"],
        seconds=time.perf_counter() - started,
    )


# %% tags=["script"]
if __name__ == "__main__":
    config.run(main, Config)
