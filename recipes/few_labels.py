"""Few labels: regularized fine-tuning compared with a linear probe.

Workflow: few labels of each class, drawn anew with every seed; on each draw a linear
probe; from its head, plain fine-tuning, and fine-tuning regularized by L2-SP, DELTA
(without its attention), BSS or LoRA; and a small network from scratch. All fine-tune
the same blocks for the same number of steps; as many labels again select the epoch. A
study that was killed continues with `--resume`.
What to learn from it: how accurate a linear probe is with few labels, and what
regularization adds to fine-tuning with few labels and with many. A method is compared
with plain fine-tuning on the same labels, so that the draw does not hide the gain. All
methods share one learning rate, which was searched for none of them: with another, a
small gain may be a loss.

Source: the probe first: Kumar et al., "Fine-tuning can distort pretrained features and
underperform out-of-distribution", 2022, arXiv:2202.10054; the comparison of
https://github.com/thuml/Transfer-Learning-Library with ResNet50 on birds (CUB-200), all
of it trainable, at 15, 30, 50 and 100 % of the labels: plain 51.2, 64.6, 74.6, 81.8;
DELTA 54.8, 67.3, 76.3, 82.3.
Data: the CIFAR-10 sample inside the package, any of TFDS, or `--data FOLDER`.
Expected:
    efficientnet_lite0, 96 px, cifar10_sample, 2,000 train, 1,500 test:
      10 labels, from scratch 0.206 (0.193 to 0.220, 5 seeds), 20 s each
      10 labels, linear probe 0.590 (0.552 to 0.611, 5 seeds), 10 s each
      10 labels, fine-tuning 0.631 (0.610 to 0.663, 5 seeds), 69 s each
      10 labels, L2-SP 0.632 (0.611 to 0.652, 5 seeds), 65 s each
      10 labels, DELTA 0.625 (0.603 to 0.643, 5 seeds), 78 s each
      4955 s on 1 core, AMD EPYC with avx512_bf16
      Keras 3.15.1, TensorFlow 2.21.0, 2026-11-25
    more in docs/results.md
Run:
    keras-tl run few_labels
    keras-tl run few_labels --labels 10 25 100 --seeds 5
"""

# %%
import functools
import math
import time
from dataclasses import dataclass

import keras_tl.quiet  # noqa: F401  Before Keras.

import keras

from keras_tl import config, errors
from keras_tl.analysis import evaluation, figures, study
from keras_tl.config import RunSettings
from keras_tl.data import augment, datasets, splits
from keras_tl.data.settings import DataSettings
from keras_tl.methods import lora, regularizers
from keras_tl.models import backbones, freezing, heads, saving, small_cnn
from keras_tl.models.settings import BackboneSettings
from keras_tl.training import optimizers, phases, placement
from keras_tl.training.settings import ChooseBy, TrainingSettings

METHODS = (
    *("from scratch", "linear probe", "fine-tuning"),
    *("L2-SP", "DELTA", "BSS", "LoRA"),
)


@dataclass(frozen=True)
class Config(RunSettings, TrainingSettings, BackboneSettings, DataSettings):
    """Few labels: regularized fine-tuning compared with a linear probe."""

    labels: tuple[int, ...] = (10, 25)  # Numbers of labels of each class to try.
    methods: tuple[str, ...] = METHODS  # Methods to compare, besides fine-tuning.
    blocks: int = 8  # Blocks of the backbone that are fine-tuned, from the output back.
    penalty_scale: float = 1.0  # Factor of the published weights of the penalties.
    rank: int = 4  # Rank of LoRA's low-rank changes of the kernels.
    steps: int = 200  # Steps of the head, and as many of fine-tuning.
    learning_rate: float = 1e-3  # Adam's learning rate for the head, and for LoRA.
    backbone_rate: float = 0.1  # Factor of the learning rate for pretrained layers.
    choose_by: ChooseBy = "accuracy"  # Validation metric that selects the epoch.
    seeds: int = 3  # Trials of each setting, with seeds one after the other.

    def __post_init__(self):
        super().__post_init__()
        for name in ("blocks", "rank", "steps", "seeds"):
            errors.check_at_least(name, getattr(self, name), 1)
        for name in ("penalty_scale", "backbone_rate"):
            errors.check_at_least(name, getattr(self, name), 0)
        errors.check_above("learning_rate", self.learning_rate, 0)
        errors.check_at_least("labels", min(self.labels, default=0), 1)
        for method in self.methods:
            if method not in METHODS:
                raise errors.unknown("methods", method, METHODS)


# %% [markdown]
# ## Data
# As many labels of each class to learn from, and as many again, where there are, to
# select by. The test images are those of the whole dataset.


# %%
def build_data(settings: Config) -> splits.Splits:
    data = datasets.from_settings(settings)
    print(data)
    return data


# %% [markdown]
# ## Model
# A linear probe trains the head alone. All other methods but the small network train
# the same blocks; LoRA trains low-rank changes of their kernels.


# %%
def build_model(settings: Config, num_classes: int, method: str) -> keras.Model:
    if method == "from scratch":
        return heads.attach(small_cnn.small_cnn(image_size=32), num_classes)
    model = heads.attach(backbones.from_settings(settings), num_classes)
    freezing.unfreeze_blocks(model, 0 if method == "linear probe" else settings.blocks)
    return model


def build_penalty(settings: Config, model: keras.Model, method: str):
    """Return the penalty of a method, at its published weight times `penalty_scale`."""
    if method == "L2-SP":
        return regularizers.l2_sp(alpha=0.01 * settings.penalty_scale)
    if method == "DELTA":
        ends = [layers[-1] for layers in freezing.blocks(model).values()]
        return regularizers.delta(
            ends[-settings.blocks :], alpha=0.01 * settings.penalty_scale
        )
    if method == "BSS":
        return regularizers.bss(eta=1e-3 * settings.penalty_scale)
    return None


# %% [markdown]
# ## A trial
# A random head would send the first steps of fine-tuning astray; so it is fitted alone
# first. Where no epoch of fine-tuning does better on validation, the probe stays.


# %%
def fine_tune(settings, part, inputs, setup, method: str, epochs: int) -> None:
    freezing.unfreeze_blocks(part, settings.blocks)
    # Pretrained weights move slowly; LoRA's changes begin at 0 and have further to go.
    rate = settings.backbone_rate
    if method == "LoRA":
        print(lora.enable(part, rank=settings.rank))
        rate = 1.0
    phase = phases.fine_tuning(
        epochs,
        settings.learning_rate,
        optimizer=optimizers.slow_backbone(rate),
        method=build_penalty(settings, part, method),
        patience=epochs,
        name=method,
        first_epoch=epochs,
    )
    phases.fit(part, inputs, setup, phase)


def trial(settings, data, place, run, name, labels: int, method: str, seed: int):
    keras.utils.set_random_seed(seed)
    data = splits.few(data, labels, seed=seed)
    with place.scope():
        model = build_model(settings, len(data.class_names), method)
    scratch = method == "from scratch"
    changes = {"augment": augment.flip_and_crop if scratch else None}
    setup = phases.setup(settings, place, data, run, trial=name, seed=seed, **changes)
    sized = data.at_size(32 if scratch else settings.image_size)
    part, inputs = phases.precompute_frozen(model, sized, setup)
    epochs = math.ceil(
        settings.steps / math.ceil(len(data.train) / settings.batch_size)
    )
    alone = method in ("from scratch", "linear probe")
    if not alone:
        freezing.unfreeze_head(part)
    phase = phases.Phase(
        epochs,
        settings.learning_rate,
        patience=epochs,
        name=method if alone else "head",
    )
    phases.fit(part, inputs, setup, phase)
    if not alone:
        fine_tune(settings, part, inputs, setup, method, epochs)
    if method == "LoRA":
        # As a plain model, with the changes added into its kernels.
        saving.save(lora.merge(model), run.folder / "lora.keras")
    return {
        "labels": labels,
        "method": method,
        "trainable": freezing.report(part).trainable,
        "seed": seed,
        "validation": evaluation.accuracy(part, inputs.validation),
        "accuracy": evaluation.accuracy(part, inputs.test),
    }


def plan(settings, data, place, run) -> dict:
    """Name the trials: every method with every number of labels and every seed."""
    methods = [m for m in METHODS if m in (*settings.methods, "fine-tuning")]
    seeds = range(settings.seed, settings.seed + settings.seeds)
    one = functools.partial(trial, settings, data, place, run)
    return study.grid(one, seed=seeds, labels=settings.labels, method=methods)


def show(settings, rows, folder) -> None:
    summaries = study.summarize(rows, ["labels", "method", "trainable"])
    study.show("Test accuracy by labels of each class", summaries)
    if len({row["method"] for row in rows}) > 1:
        gains = study.gains(rows, ["labels"], "method", "fine-tuning")
        study.show("Gain over plain fine-tuning on the same labels", gains)
    figure = study.chart(summaries, "labels", "method", "Labels of each class")
    figures.save(figure, folder / "few_labels.png")


# %% [markdown]
# ## Run


# %%
def main(settings: Config) -> dict:
    started = time.perf_counter()
    place, settings = placement.from_settings(settings)
    data = build_data(settings)
    # Both raise now rather than in a trial.
    splits.few(data, max(settings.labels), seed=settings.seed)
    build_model(settings, len(data.class_names), "fine-tuning")
    run = config.start_run("few_labels", settings, started, splits.describe(data))
    print(place.describe(settings.batch_size, settings.learning_rate))
    rows = study.run(run.folder, plan(settings, data, place, run))
    show(settings, rows, run.folder)
    return study.save(run, rows=rows, by=["labels", "method"], base="fine-tuning")


# %% tags=["script"]
if __name__ == "__main__":
    config.run(main, Config)
