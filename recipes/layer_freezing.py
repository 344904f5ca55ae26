"""Which layers to freeze: accuracy and time of every freeze point.

Workflow: one backbone and one head, trained with every block frozen, with the last one
unfrozen, the last two, and so on up to everything; on few images and on many; with
several seeds. Pretrained layers train at a tenth of the head's learning rate. Frozen
layers run once for all trials that share them. A study that was killed continues with
`--resume`.
What to learn from it: how little is gained below a certain block, and that the point
moves with the number of images and with how far they are from ImageNet.

Source: Yosinski et al., "How transferable are features in deep neural networks?", 2014,
arXiv:1411.1792. They train on half of ImageNet and transfer to the other half; here
ImageNet transfers to these images.
Data: the CIFAR-10 sample inside the package, `--dataset digits` for images far from
photographs (scikit-learn's, 8x8 pixels), any of TFDS, or `--data FOLDER`.
Expected:
    efficientnet_lite0, 96 px, cifar10_sample, 2,000 train, 1,500 test:
      200 images: the head alone 0.580 (0.565 to 0.594, 3 seeds)
      200 images: the last 4 blocks, chosen by validation 0.648 (0.643 to 0.653, 3
        seeds)
      200 images: everything 0.640 (0.596 to 0.664, 3 seeds)
      2,000 images: the head alone 0.759 (0.755 to 0.763, 3 seeds)
      2,000 images: the last 16 blocks, chosen by validation 0.851 (0.837 to 0.859, 3
        seeds)
      5103 s on 1 core, AMD EPYC with avx512_bf16
      Keras 3.15.1, TensorFlow 2.21.0, 2026-11-25
    more in docs/results.md
Run:
    keras-tl run layer_freezing --every 2
    keras-tl run layer_freezing --dataset digits --sizes 100 800
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
from keras_tl.models import backbones, freezing, heads
from keras_tl.models.settings import BackboneSettings
from keras_tl.training import optimizers, phases, placement
from keras_tl.training.settings import TrainingSettings


@dataclass(frozen=True)
class Config(RunSettings, TrainingSettings, BackboneSettings, DataSettings):
    """Which layers to freeze: accuracy and time of every freeze point."""

    sizes: tuple[int, ...] = (200, 2000)  # Numbers of training images to try.
    every: int = 1  # Step between freeze points, in blocks.
    seeds: int = 3  # Trials of each setting, with seeds one after the other.
    epochs: int = 10  # Most epochs of a trial.
    learning_rate: float = 1e-3  # Adam's learning rate for the head.
    backbone_rate: float = 0.1  # Factor of the learning rate for pretrained layers.

    def __post_init__(self):
        super().__post_init__()
        for name in ("every", "seeds", "epochs"):
            errors.check_at_least(name, getattr(self, name), 1)
        errors.check_above("learning_rate", self.learning_rate, 0)
        errors.check_at_least("backbone_rate", self.backbone_rate, 0)
        for size in self.sizes or (0,):
            errors.check_at_least("sizes", size, 1)


# %% [markdown]
# ## Data
# A small training set is a subset of a large one, balanced over the classes. All trials
# share validation and test.


# %%
def build_data(settings: Config) -> splits.Splits:
    data = datasets.from_settings(settings)
    print(data)
    if max(settings.sizes) > len(data.train):
        raise errors.expected(
            "sizes", f"be at most {len(data.train)}, all there are", settings.sizes
        )
    return data.at_size(settings.image_size).map(splits.read_once)


# %% [markdown]
# ## Model
# `blocks` counts what trains, from the output back: 0 is the head alone, one more than
# there are is everything.


# %%
def build_model(settings: Config, num_classes: int, blocks: int) -> keras.Model:
    model = heads.attach(backbones.from_settings(settings), num_classes)
    if blocks > len(freezing.blocks(model)):
        freezing.unfreeze(model)
    else:
        freezing.unfreeze_blocks(model, blocks)
    return model


# %% [markdown]
# ## A trial


# %%
def trial(settings, data, place, run, name, images: int, blocks: int, seed: int):
    keras.utils.set_random_seed(seed)
    chosen = splits.balanced(data.train.labels, images, settings.seed)
    data = replace(data, train=data.train.take(chosen))
    with place.scope():
        model = build_model(settings, len(data.class_names), blocks)
    setup = phases.setup(settings, place, data, run, trial=name, seed=seed)
    part, inputs = phases.precompute_frozen(model, data, setup)
    phase = phases.Phase(
        settings.epochs,
        settings.learning_rate,
        optimizer=optimizers.slow_backbone(settings.backbone_rate),
        name=f"{blocks} blocks",
    )
    history = phases.fit(part, inputs, setup, phase)
    return {
        "images": images,
        "blocks": blocks,
        "trainable": freezing.report(model).trainable,
        "seed": seed,
        "epochs": len(history["loss"]),
        "validation": history["val_accuracy"][history["kept"].index(1)],
        "accuracy": evaluation.accuracy(part, inputs.test),
    }


def plan(settings, data, place, run, points) -> dict:
    """Name the trials: every freeze point, number of images and seed."""
    seeds = range(settings.seed, settings.seed + settings.seeds)
    one = functools.partial(trial, settings, data, place, run)
    return study.grid(one, seed=seeds, images=settings.sizes, blocks=points)


# %% [markdown]
# ## Run


# %%
def main(settings: Config) -> dict:
    started = time.perf_counter()
    place, settings = placement.from_settings(settings)
    data = build_data(settings)
    names = list(freezing.blocks(build_model(settings, len(data.class_names), 0)))
    run = config.start_run("layer_freezing", settings, started, splits.describe(data))
    print(place.describe(settings.batch_size, settings.learning_rate))
    points = sorted({*range(0, len(names) + 1, settings.every), len(names) + 1})
    rows = study.run(run.folder, plan(settings, data, place, run, points))

    summaries = study.summarize(rows, ["images", "blocks", "trainable"])
    study.show("Test accuracy by number of blocks that train", summaries)
    series = study.series(summaries, "blocks", "images")
    labels = ["head", *(f"+ {name}" for name in reversed(names)), "all"]
    figure = figures.lines(
        {f"{images} images": line for images, line in series.items()},
        [labels[point] for point in points],
        "Layers that train",
        "Test accuracy",
    )
    figures.save(figure, run.folder / "freezing.png")
    return study.save(run, rows=rows, by=["images", "blocks"])


# %% tags=["script"]
if __name__ == "__main__":
    config.run(main, Config)
