"""Compare gradual unfreezing, discriminative rates and progressive resizing.

Workflow: every trial fits a new head on a frozen backbone, then trains its last blocks
for the same number of epochs. Plain: all at once, at one learning rate. Gradual: one
block more in each epoch, from the output back. Discriminative: learning rates that fall
from block to block. Resizing: the head and half of the epochs on small images.
Validation selects the learning rate of each method, and the epoch; the stages of
`gradual` have one each, so that there are fewer to select from. A study that was killed
continues with `--resume`.
What to learn from it: what each technique adds to plain fine-tuning at a learning rate
that suits the latter, which of them is less sensitive to the rate, and how much time
small images save: most where many layers train on many images, since frozen layers run
once in any case.

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
    keras-tl run gradual_unfreezing --methods plain resizing --rates 3e-4 --blocks 16
"""

# %%
import functools
import time
from dataclasses import dataclass, replace

import keras_tl.quiet  # noqa: F401  Before Keras.

import keras

from keras_tl import config, errors
from keras_tl.analysis import evaluation, figures, study
from keras_tl.config import RunSettings
from keras_tl.data import datasets, splits
from keras_tl.data.settings import DataSettings
from keras_tl.models import backbones, catalog, freezing, heads, resizing
from keras_tl.models.settings import BackboneSettings
from keras_tl.training import phases, placement, stages
from keras_tl.training.settings import ChooseBy, TrainingSettings

METHODS = (
    *("plain", "gradual", "discriminative"),
    *("gradual+discriminative", "resizing", "one cycle"),
)


@dataclass(frozen=True)
class Config(RunSettings, TrainingSettings, BackboneSettings, DataSettings):
    """Compare gradual unfreezing, discriminative rates and progressive resizing."""

    small_size: int = 64  # Side of the images that `resizing` begins with.
    images: int = 500  # Most training images to use.
    methods: tuple[str, ...] = METHODS[:-1]  # Methods to compare; also "one cycle".
    rates: tuple[float, ...] = (3e-4, 1e-3)  # Adam's learning rates to try with each.
    decay: float = 1 / 2.6  # Factor of the rate from block to block: discriminative.
    blocks: int = 4  # Blocks that train, from the output back.
    head_epochs: int = 5  # Epochs of the new head alone.
    epochs: int = 8  # Epochs after that; `gradual` spends one on each block first.
    choose_by: ChooseBy = "accuracy"  # Validation metric that selects the epoch.
    seeds: int = 3  # Trials of each setting, with seeds one after the other.

    def __post_init__(self):
        super().__post_init__()
        smallest = catalog.find(self.backbone).smallest_size
        errors.check_at_least("small_size", self.small_size, smallest)
        for name in ("images", "blocks", "head_epochs", "seeds"):
            errors.check_at_least(name, getattr(self, name), 1)
        for method in self.methods or ("",):
            if method not in METHODS:
                raise errors.unknown("methods", method, METHODS)
        errors.check_at_least("epochs", self.epochs, 2)
        gradual = any("gradual" in method for method in self.methods)
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
    data = datasets.from_settings(settings)
    chosen = splits.balanced(data.train.labels, settings.images, settings.seed)
    data = replace(data, train=data.train.take(chosen))
    print(data)
    return data


def build_model(settings: Config, num_classes: int) -> keras.Model:
    model = heads.attach(backbones.from_settings(settings), num_classes)
    freezing.unfreeze_blocks(model, settings.blocks)
    return model


# %% [markdown]
# ## Methods of fine-tuning
# A decay of 1 is one rate for all. Once all blocks train, `gradual` continues as the
# others do. Epochs are counted on from phase to phase: each has an order of its own.
# `one cycle` is fastai's `fine_tune`, which trains all blocks.


# %%
def fine_tune(
    settings, model, data, setup, method, rate, epochs, done
) -> list[phases.History]:
    decay = settings.decay if "discriminative" in method else 1.0
    options = {"blocks": settings.blocks, "decay": decay}
    histories = []
    if "gradual" in method:
        phase = phases.Phase(1, rate, name="", first_epoch=done)
        stage = stages.unfreeze_gradually(model, data, setup, phase, **options)
        histories += stage.values()
    left, done = epochs - len(histories), done + len(histories)
    name = f"{method} from epoch {done + 1}"
    phase = phases.fine_tuning(left, rate, patience=left, name=name, first_epoch=done)
    last = stages.fine_tune_blocks(model, data, setup, phase, **options)
    return [*histories, last]


# %% [markdown]
# ## A trial
# What stays frozen runs once for each size. The model for large images has the layers
# of the one for small images, with what they have learned.


# %%
def train(settings, model, data, setup, method: str, rate: float):
    """Train a model; return the model that was trained, its data, and the histories."""
    size, half = settings.image_size, settings.epochs // 2
    if method == "one cycle":
        histories = stages.fit_and_fine_tune(
            model,
            data[size],
            setup,
            epochs=settings.epochs,
            head_epochs=settings.head_epochs,
            learning_rate=2 * rate,
        )
        return model, data[size], list(histories.values())
    plan = [(size, settings.epochs)]
    if method == "resizing":
        plan = [(settings.small_size, half), (size, settings.epochs - half)]
    histories = []
    for size, epochs in plan:
        with setup.placement.scope():
            model = resizing.at_size(model, size)
        part, inputs = phases.precompute_frozen(model, data[size], setup)
        if not histories:
            freezing.unfreeze_head(part)
            head = phases.Phase(settings.head_epochs)
            histories += [phases.fit(part, inputs, setup, head)]
        done = sum(len(history["loss"]) for history in histories)
        histories += fine_tune(
            settings, part, inputs, setup, method, rate, epochs, done
        )
    return part, inputs, histories


def trial(settings, data, place, run, name, method: str, rate: float, seed: int):
    keras.utils.set_random_seed(seed)
    largest = data[settings.image_size]
    with place.scope():
        model = build_model(settings, len(largest.class_names))
    setup = phases.setup(settings, place, largest, run, trial=name, seed=seed)
    part, inputs, histories = train(settings, model, data, setup, method, rate)
    return {
        "method": method,
        "rate": rate,
        "seed": seed,
        "trainable": freezing.report(part).trainable,
        "epochs": sum(len(history["loss"]) for history in histories),
        "validation": evaluation.accuracy(part, inputs.validation),
        "accuracy": evaluation.accuracy(part, inputs.test),
    }


def plan(settings, data, place, run) -> dict:
    """Name the trials: every method with every learning rate and every seed."""
    seeds = range(settings.seed, settings.seed + settings.seeds)
    one = functools.partial(trial, settings, data, place, run)
    return study.grid(one, seed=seeds, method=settings.methods, rate=settings.rates)


def show(settings, rows, folder) -> None:
    table = study.summarize(rows, ["method", "rate"])
    study.show("Test accuracy of each method", table)
    chosen = study.choose(rows, ["method"], ["rate"])
    if "plain" in settings.methods and len(settings.methods) > 1:
        gains = study.gains(chosen, [], "method", "plain")
        study.show("Gain over plain fine-tuning, each method at its own rate", gains)
    bars = [
        (f"{row['method']}, {row['rate']:g}", row["mean"], (row["low"], row["high"]))
        for row in study.summarize(chosen, ["method", "rate"])
    ]
    figures.save(figures.comparison(bars), folder / "methods.png")


# %% [markdown]
# ## Run


# %%
def main(settings: Config) -> dict:
    started = time.perf_counter()
    place, settings = placement.from_settings(settings)
    data = build_data(settings)
    model = build_model(settings, len(data.class_names))
    resizing.at_size(model, settings.small_size)  # Raises now rather than in a trial.
    run = config.start_run(
        "gradual_unfreezing", settings, started, splits.describe(data)
    )
    print(place.describe(settings.batch_size, max(settings.rates)))
    print(freezing.report(model))
    sizes = (settings.small_size, settings.image_size)
    at_size = {size: data.at_size(size).map(splits.read_once) for size in sizes}
    rows = study.run(run.folder, plan(settings, at_size, place, run))
    show(settings, rows, run.folder)
    compared = {"by": ["method"], "over": ["rate"], "base": "plain"}
    return study.save(run, rows=rows, **compared)


# %% tags=["script"]
if __name__ == "__main__":
    config.run(main, Config)
