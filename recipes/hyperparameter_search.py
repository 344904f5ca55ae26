"""Search for hyper-parameters: head, freeze point, rates, augmentation.

Workflow: one backbone; each trial trains it with other hyper-parameters, which Optuna
suggests from what the earlier ones gave on validation; the first has the usual ones.
What no trial trains runs once, before all of them. At the end the usual and the best
are trained again and read the test images, once. A killed search goes on where it was.
What to learn from it: how much, or how little, a search gives beside good defaults. The
best of many trials on one small validation split was chosen for being high there, so
that its validation accuracy is too good: the test says what it is worth. A dozen trials
in seven dimensions are little more than a random search.

Source: Akiba et al., "Optuna", 2019, arXiv:1907.10902.
Data: the CIFAR-10 sample inside the package, `--dataset digits`, any of TFDS, or
`--data FOLDER`.
Expected:
    efficientnet_lite0, 96 px, cifar10_sample, 2,000 train, 1,500 test:
      defaults 0.777 ± 0.021
      best of 12 trials 0.798 ± 0.020
      330 s (features 15 s, best trial 13 s, 25 % of the features found) on 1 core, AMD
        EPYC with avx512_bf16
      Keras 3.15.1, TensorFlow 2.21.0, 2026-11-25
Run:
    pip install -e ".[search]"
    keras-tl run hyperparameter_search
"""

# %%
import functools
import time
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal

import keras

from keras_tl import config, errors, files
from keras_tl.analysis import figures, search, summary
from keras_tl.data import augment, pipeline, sources, splits
from keras_tl.deploy import artifact
from keras_tl.models import backbones, freezing, heads, splitting
from keras_tl.training import features, optimizers, phases, placement, store

SPACE = {
    "hidden": (0, 64, 256),  # Width of a hidden layer in the head; 0 has none.
    "dropout": search.Range(0.0, 0.6),
    "blocks": search.Range(0, 3),  # That train, from the output back; 0 is the head.
    "learning_rate": search.Range(3e-4, 1e-2, log=True),  # Of the head.
    "backbone_rate": search.Range(0.01, 1.0, log=True),  # Factor for what is below it.
    "label_smoothing": search.Range(0.0, 0.2),
    "copies": (0, 4),  # Changed copies of each image; 0 trains on the images.
}
CHANGE = augment.random_resized_crop(scale=(0.5, 1.0))
DEFAULTS = {  # What one would take without a search; the first trial.
    "hidden": 0,
    "dropout": 0.2,
    "blocks": 3,
    "learning_rate": 1e-3,
    "backbone_rate": 0.1,
    "label_smoothing": 0.0,
    "copies": 0,
}


@dataclass(frozen=True)
class Config:
    """Search for hyper-parameters: head, freeze point, rates, augmentation."""

    dataset: str = "cifar10_sample"  # cifar10_sample, digits, or a name of TFDS.
    data: Path | None = None  # Folder of your own images, in place of the dataset.
    bad_images: Literal["error", "skip"] = "error"  # What to do with broken files.
    backbone: str = "efficientnet_lite0"  # Name of the pretrained backbone.
    weights: str | None = "imagenet"  # "imagenet", a file, or None: random ones.
    preprocessing: str | None = None  # Contract of the weights, if not the backbone's.
    image_size: int = 96  # Side of the square images, in pixels.
    trials: int = 12  # Number of trials, with that of the defaults.
    epochs: int = 10  # Most epochs of a trial.
    batch_size: int = 32  # Images per step, over all devices.
    limit: int | None = None  # Keep at most this many images of each split.
    cache: bool = True  # Keep what no trial trains for later runs, on disk.
    seed: int = 0  # Seed of the splits, of the suggestions, and of every trial.
    out: Path | None = None  # New folder; runs/hyperparameter_search if None.
    resume: Path | None = None  # Folder of an interrupted run to go on with.

    def __post_init__(self):
        errors.check_installed("optuna", extra="search")
        backbones.check(self.backbone, self.weights, self.image_size)
        for name, least in (("trials", 2), ("epochs", 1), ("batch_size", 1)):
            errors.check_at_least(name, getattr(self, name), least)


# %% [markdown]
# ## Data


# %%
def build_data(settings: Config) -> splits.Splits:
    data = sources.load(
        settings.dataset,
        folder=settings.data,
        bad_images=settings.bad_images,
        count=settings.limit,
        seed=settings.seed,
    )
    print(data)
    return data.at_size(settings.image_size).map(splits.read_once)


# %% [markdown]
# ## Model


# %%
def build_model(settings: Config, num_classes: int, values: dict) -> keras.Model:
    backbone = backbones.load(
        settings.backbone,
        weights=settings.weights,
        preprocessing=settings.preprocessing,
        image_size=settings.image_size,
    )
    x = heads.vector(backbone.outputs[0])
    if values["hidden"]:
        x = keras.layers.Dense(values["hidden"], activation="relu", name="hidden_1")(x)
    model = heads.classify(backbone, x, num_classes, values["dropout"])
    pattern = backbones.find(settings.backbone).block
    freezing.unfreeze_blocks(model, values["blocks"], pattern)
    return model


# %% [markdown]
# ## Trials
# Below the most blocks that any trial trains, nothing ever changes: that part runs once
# over the images and once over their changed copies, before the first trial.


# %%
def share_stem(stem, data, cache, seed) -> dict[int, splits.Splits]:
    shared = {0: features.extract_all(stem, data, cache=cache)}
    for copies in filter(None, SPACE["copies"]):
        changed = pipeline.Augmented(data.train, CHANGE, seed, copies)
        train = features.extract(stem, changed, cache=cache, what="features, copies")
        shared[copies] = replace(shared[0], train=train)
    return shared


def train(settings, shared, cut, setup, values):
    keras.utils.set_random_seed(settings.seed)
    inputs = shared[values["copies"]]
    with setup.placement.scope():
        model = build_model(settings, len(inputs.class_names), values)
        _, part = splitting.split_at(model, splitting.cut_points(model)[cut][1])
    pretrained = r"^(?!.*(hidden_1|logits)/)"
    slow = {pretrained: values["backbone_rate"]} if values["blocks"] else {}
    history = phases.fit_head(
        part,
        inputs,
        replace(setup, label_smoothing=values["label_smoothing"]),
        epochs=settings.epochs,
        learning_rate=values["learning_rate"],
        optimizer=functools.partial(optimizers.layerwise, "adam", factors=slow),
        phase="trial",
    )
    return model, part, history


# %% [markdown]
# ## Run


# %%
def main(settings: Config) -> dict:
    started = time.perf_counter()
    place = placement.choose()
    data = build_data(settings)
    keras.utils.set_random_seed(settings.seed)
    most = DEFAULTS | {"blocks": SPACE["blocks"].high}
    with place.scope():
        model = build_model(settings, len(data.class_names), most)
    name, tensor = splitting.frozen_cut(model)
    stem, _ = splitting.split_at(model, tensor)
    # The number of the cut: Keras counts on in some names of another model.
    cut = len(splitting.cut_points(stem))
    run = config.start_run("hyperparameter_search", settings)
    print(f"Results go to {run}. What is up to {name} runs once for all trials.")
    cache = store.Cache() if settings.cache else None
    setup = phases.Setup(place, batch_size=settings.batch_size, seed=settings.seed)
    shared = share_stem(stem, data, cache, settings.seed)
    fit = functools.partial(train, settings, shared, cut, setup)

    def objective(values: dict) -> dict:
        _, _, history = fit(values)
        validation = history["val_accuracy"][history["kept"].index(1)]
        return {"validation": validation, "epochs": len(history["loss"])}

    many = {"trials": settings.trials, "seed": settings.seed}
    rows = search.run(run, objective, SPACE, start=DEFAULTS, **many)
    search.show(rows, SPACE)
    files.write_csv(run / "trials.csv", rows)
    figures.save(figures.trials(rows, SPACE), run / "trials.png")

    print("The defaults and the best are trained once more, to read the test images.")
    best, tested = search.best(rows), {}
    chosen = {"defaults": DEFAULTS, f"best of {settings.trials} trials": best}
    for name, values in chosen.items():
        model, part, history = fit(values)
        tested[name] = part, shared[values["copies"]].test
    results = summary.test(tested, data)
    summary.show(results)
    print(f"Validation said {best['validation']:.3f} of the best, chosen for that.")
    return artifact.save(
        run,
        model,
        recipe="hyperparameter_search",
        settings=settings,
        data=data,
        results=results,
        histories={"best trial": history},
        seconds=time.perf_counter() - started,
        cache=cache,
    )


# %% tags=["script"]
if __name__ == "__main__":
    config.run(main, Config)
