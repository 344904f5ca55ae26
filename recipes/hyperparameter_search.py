"""Search for hyper-parameters: head, freeze point, rates, augmentation.

Workflow: one backbone; each trial trains it with other hyper-parameters, which Optuna
suggests from the validation accuracies so far; the first has the usual values. Layers
that no trial trains run once, before all of them. At the end the usual values and the
best are trained again and evaluated on the test images, once. A search that was killed
continues with `--resume`.
What to learn from it: how much, or how little, a search gains over good defaults. The
best of many trials on one small validation split was selected for its accuracy there,
which is therefore too high: the test measures the gain. A dozen trials in seven
dimensions are little more than a random search.

Source: Akiba et al., "Optuna", 2019, arXiv:1907.10902.
Data: the CIFAR-10 sample inside the package, `--dataset digits`, any of TFDS, or
`--data FOLDER`.
Expected:
    efficientnet_lite0, 96 px, cifar10_sample, 2,000 train, 1,500 test:
      defaults 0.777 ± 0.021
      best of 12 trials 0.798 ± 0.020
      330 s (features 15 s, best trial 13 s, 25 % of the features from the cache) on 1
        core, AMD EPYC with avx512_bf16
      Keras 3.15.1, TensorFlow 2.21.0, 2026-11-25
Run:
    pip install -e ".[search]"
    keras-tl run hyperparameter_search
"""

# %%
import functools
import time
from dataclasses import dataclass, replace

import keras_tl.quiet  # noqa: F401  Before Keras.

import keras

from keras_tl import config, errors, files
from keras_tl.analysis import figures, search, summary
from keras_tl.config import RunSettings
from keras_tl.data import augment, datasets, pipeline, splits
from keras_tl.data.settings import DataSettings
from keras_tl.deploy import run_folder
from keras_tl.models import backbones, freezing, heads, splitting
from keras_tl.models.settings import BackboneSettings
from keras_tl.training import features, optimizers, phases, placement
from keras_tl.training.settings import TrainingSettings

SPACE = {
    "hidden": (0, 64, 256),  # Width of a hidden layer in the head; 0 has none.
    "dropout": search.Range(0.0, 0.6),
    "blocks": search.Range(0, 3),  # That train, from the output back; 0 is the head.
    "learning_rate": search.Range(3e-4, 1e-2, log=True),  # Of the head.
    "backbone_rate": search.Range(0.01, 1.0, log=True),  # Factor for what is below it.
    "label_smoothing": search.Range(0.0, 0.2),
    "copies": (0, 4),  # Augmented copies of each image; 0 trains on the images.
}
CHANGE = augment.random_resized_crop(scale=(0.5, 1.0))
DEFAULTS = {  # The usual values without a search; the first trial.
    "hidden": 0,
    "dropout": 0.2,
    "blocks": 3,
    "learning_rate": 1e-3,
    "backbone_rate": 0.1,
    "label_smoothing": 0.0,
    "copies": 0,
}


@dataclass(frozen=True)
class Config(RunSettings, TrainingSettings, BackboneSettings, DataSettings):
    """Search for hyper-parameters: head, freeze point, rates, augmentation."""

    trials: int = 12  # Number of trials, with that of the defaults.
    epochs: int = 10  # Most epochs of a trial.

    def __post_init__(self):
        super().__post_init__()
        errors.check_installed("optuna", extra="search")
        for name, least in (("trials", 2), ("epochs", 1)):
            errors.check_at_least(name, getattr(self, name), least)


# %% [markdown]
# ## Data


# %%
def build_data(settings: Config) -> splits.Splits:
    data = datasets.from_settings(settings)
    print(data)
    return data.at_size(settings.image_size).map(splits.read_once)


# %% [markdown]
# ## Model


# %%
def build_model(settings: Config, num_classes: int, values: dict) -> keras.Model:
    backbone = backbones.from_settings(settings)
    x = heads.vector(backbone.outputs[0])
    if values["hidden"]:
        x = keras.layers.Dense(values["hidden"], activation="relu", name="hidden_1")(x)
    model = heads.classify(backbone, x, num_classes, values["dropout"])
    freezing.unfreeze_blocks(model, values["blocks"])
    return model


# %% [markdown]
# ## Trials
# Below the most blocks that any trial trains, nothing ever changes: that part runs once
# over the images and once over their augmented copies, before the first trial.


# %%
def share_stem(settings, data, place, cache):
    """Run what no trial trains; return its features, and the number of its cut."""
    most = DEFAULTS | {"blocks": SPACE["blocks"].high}
    with place.scope():
        model = build_model(settings, len(data.class_names), most)
    name, tensor = splitting.frozen_cut(model)
    stem, _ = splitting.split_at(model, tensor)
    print(f"All layers up to {name} run once for all trials.")
    shared = {0: features.extract_all(stem, data, cache=cache)}
    for copies in filter(None, SPACE["copies"]):
        changed = pipeline.with_copies(data.train, CHANGE, settings.seed, copies)
        train = features.extract(stem, changed, cache=cache, title="features, copies")
        shared[copies] = replace(shared[0], train=train)
    # A number, since Keras counts on in some names of another model.
    return shared, len(splitting.cut_points(stem))


def train(settings, shared, cut, setup, values):
    keras.utils.set_random_seed(settings.seed)
    inputs = shared[values["copies"]]
    with setup.placement.scope():
        model = build_model(settings, len(inputs.class_names), values)
        _, part = splitting.split_at(model, splitting.cut_points(model)[cut][1])
    phase = phases.Phase(
        settings.epochs,
        values["learning_rate"],
        optimizer=optimizers.slow_backbone(values["backbone_rate"]),
        name="trial",
    )
    smoothed = replace(setup, label_smoothing=values["label_smoothing"])
    return model, part, phases.fit(part, inputs, smoothed, phase)


def search_values(settings, folder, fit) -> list[dict]:
    """Try values, and show their results on validation."""

    def objective(values: dict) -> dict:
        _, _, history = fit(values)
        validation = history["val_accuracy"][history["kept"].index(1)]
        return {"validation": validation, "epochs": len(history["loss"])}

    many = {"trials": settings.trials, "seed": settings.seed}
    rows = search.run(folder, objective, SPACE, start=DEFAULTS, **many)
    search.show(rows, SPACE)
    files.write_csv(folder / "trials.csv", rows)
    figure = figures.trials(rows, search.describe(SPACE))
    figures.save(figure, folder / "trials.png")
    return rows


# %% [markdown]
# ## Run


# %%
def main(settings: Config) -> dict:
    started = time.perf_counter()
    place, settings = placement.from_settings(settings)
    data = build_data(settings)
    build_model(
        settings, len(data.class_names), DEFAULTS
    )  # Raises before there is a run.
    run = config.start_run(
        "hyperparameter_search", settings, started, splits.describe(data)
    )
    setup = phases.setup(settings, place, data, run, trial="trial")
    keras.utils.set_random_seed(settings.seed)
    shared, cut = share_stem(settings, data, place, setup.cache)
    fit = functools.partial(train, settings, shared, cut, setup)
    best = search.best(search_values(settings, run.folder, fit))

    print("The defaults and the best are trained once more, to read the test images.")
    tested = {}
    chosen = {"defaults": DEFAULTS, f"best of {settings.trials} trials": best}
    for name, values in chosen.items():
        model, part, history = fit(values)
        tested[name] = part, shared[values["copies"]].test
    results = summary.evaluate_models(tested, data)
    summary.show(results)
    print(f"Validation accuracy of the best, selected by it: {best['validation']:.3f}.")
    return run_folder.save(
        run,
        model,
        data=data,
        results=results,
        histories={"best trial": history},
        cache=setup.cache,
    )


# %% tags=["script"]
if __name__ == "__main__":
    config.run(main, Config)
