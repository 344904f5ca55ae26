"""Zero-shot: name classes without an image of them, by words that describe them.

Workflow: each class has the word vector of its name. Two classes are left out, and a
map from a frozen backbone's features to word vectors is learned from the others, by
ESZSL and by DeViSE: which of the two does an image show? And with all classes to choose
from? That for every pair; beside it ESZSL with random vectors for words, and on pixels,
without a backbone. ESZSL on all images is kept as a model, also of classes that are
described and have no image. A study that was killed continues with `--resume`.
What to learn from it: unseen classes are told from each other far better than by
chance, but not where words do not say how things look; among all classes they are
hardly ever answered until the scores of seen ones are lowered, which costs these.
ImageNet, from which the backbone has learned, has images of these classes or of near
relatives: they are unseen by the map alone.

Source: Romera-Paredes and Torr, 2015, and Frome et al., 2013, see `methods.zero_shot`;
the same 8 and 2 classes of CIFAR-10 in Socher et al., "Zero-shot learning through
cross-modal transfer", 2013, arXiv:1301.3666, whose features are learned on CIFAR-10
itself, without ImageNet.
Data: the CIFAR-10 sample inside the package, any of TFDS, or `--data FOLDER`; `--glove
FILE`, see `word_vectors.load`. `--classes FILE` describes classes by words or
attributes, see `descriptions.load`: more of them than there are images of.
Expected:
    efficientnet_lite0, 128 px, cifar10_sample, 2,000 train, 1,500 test:
      ESZSL, pixels 0.653 (0.360 to 0.847, 45 pairs), 0.6 s each
      ESZSL, random vectors 0.495 (0.163 to 0.937, 45 pairs), 1.6 s each
      DeViSE 0.718 (0.303 to 0.950, 45 pairs), 3.2 s each
      ESZSL 0.787 (0.287 to 0.973, 45 pairs), 0.6 s each
      494 s (features 1 s, 100 % of the features from the cache) on 2 cores, AMD EPYC
        with avx512_bf16
      Keras 3.15.1, TensorFlow 2.21.0, 2026-11-29
Run:
    keras-tl run zero_shot_cifar10 --glove glove.6B.50d.txt
    keras-tl run zero_shot_cifar10 --data my_photos --classes attributes.csv
"""

# %%
import functools
import time
from dataclasses import dataclass, replace
from pathlib import Path

import keras_tl.quiet  # noqa: F401  Before Keras.

import keras
import numpy as np

from keras_tl import config, errors, files
from keras_tl.analysis import evaluation, figures, study, summary
from keras_tl.config import RunSettings
from keras_tl.data import datasets, descriptions, splits
from keras_tl.data.settings import DataSettings
from keras_tl.data.sources import read_all
from keras_tl.deploy import run_folder
from keras_tl.methods import zero_shot
from keras_tl.models import backbones, freezing, taps, word_vectors
from keras_tl.models.settings import BackboneSettings
from keras_tl.training import features, phases, placement
from keras_tl.training.settings import TrainingSettings

METHODS = ("ESZSL, pixels", "ESZSL, random vectors", "DeViSE", "ESZSL")


@dataclass(frozen=True)
class Config(RunSettings, TrainingSettings, BackboneSettings, DataSettings):
    """Zero-shot: name classes without an image of them, by words that describe them."""

    image_size: int = 128  # Side of the square images, in pixels.
    glove: Path | None = None  # File of pretrained word vectors.
    # Table of classes and their words or attributes; by default their names are words.
    classes: Path | None = None
    pairs: int = 45  # Most pairs of classes to leave out, drawn evenly.
    # Most pairs of the seen classes that are left out once more to choose settings.
    inner_pairs: int = 28
    methods: tuple[str, ...] = METHODS  # Methods to compare, besides ESZSL.
    margin: float = 0.1  # By how much DeViSE wants the right class to score higher.
    epochs: int = 10  # Longest training of DeViSE.
    learning_rate: float = 1e-3  # Adam's learning rate for DeViSE.

    def __post_init__(self):
        super().__post_init__()
        for name in ("pairs", "inner_pairs", "epochs"):
            errors.check_at_least(name, getattr(self, name), 1)
        for name in ("margin", "learning_rate"):
            errors.check_above(name, getattr(self, name), 0)
        if self.glove is None and self.classes is None:
            hint = "Or describe the classes by attributes, with `--classes`."
            raise errors.expected("glove", "name a file of word vectors", None, hint)
        for method in self.methods:
            if method not in METHODS:
                raise errors.unknown("methods", method, METHODS)


# %% [markdown]
# ## Data
# Images, and a vector for each class that is described: first those with images.


# %%
def build_data(settings: Config) -> splits.Splits:
    data = datasets.from_settings(settings)
    if len(data.class_names) < 6:
        hint = "Two are left out, and two of the others to choose settings."
        raise errors.expected("data", "have 6 classes", len(data.class_names), hint)
    print(data)
    return data.at_size(settings.image_size).map(splits.read_once)


def describe(settings: Config, class_names) -> tuple[list[str], np.ndarray]:
    """Return the names of all classes that are described, and their vectors."""
    described = descriptions.of_classes(settings.classes, class_names)
    words, table = [], np.zeros((0, 1))
    if settings.glove is not None:
        words, table = word_vectors.load(settings.glove)
    return list(described), descriptions.vectors(described, words, table)


# %% [markdown]
# ## Model


# %%
def build_model(settings: Config) -> tuple[keras.Model, keras.Model]:
    """Return the frozen backbone, and the model of its pooled features."""
    backbone = backbones.from_settings(settings)
    freezing.freeze(backbone)
    stem, _ = taps.pooled(backbone, [freezing.leaves(backbone)[-1].name])
    return backbone, stem


# %% [markdown]
# ## DeViSE
# The map is trained, for seen classes to be ranked right; validation images of these
# select the epoch.


# %%
def train(settings, inputs, seen, vectors, place, run, name, seed) -> np.ndarray:
    keras.utils.set_random_seed(seed)
    of_seen = splits.of_classes(inputs, seen)
    values = read_all(of_seen.train.inputs)
    with place.scope():
        model = zero_shot.attach_scaled(values, vectors[list(seen)])
    setup = phases.setup(settings, place, of_seen, run, trial=name, seed=seed)
    method, rate = zero_shot.devise(margin=settings.margin), settings.learning_rate
    phase = phases.Phase(settings.epochs, rate, method=method, name="DeViSE")
    phases.fit(model, of_seen, setup, phase)
    return zero_shot.mapped_by(model)


# %% [markdown]
# ## Trials
# A pair that is left out counts as a seed.


# %%
def learn(settings, material, seen, vectors) -> zero_shot.Learned:
    inputs, solve = material
    labels, most = inputs.validation.labels, settings.inner_pairs
    return zero_shot.learn(solve, labels, seen, vectors, most=most, seed=settings.seed)


def trial(settings, material, vectors, place, run, name, method, pair, seed):
    material = material["pixels" if "pixels" in method else "features"]
    inputs, _ = material
    every = range(len(inputs.class_names))
    seen = tuple(one for one in every if one not in pair)
    vectors = vectors[: len(every)]
    if "random" in method:
        vectors = np.random.default_rng(seed).standard_normal(vectors.shape)
        vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    test, labels = inputs.test.inputs, inputs.test.labels
    test = zero_shot.with_one(read_all(test))
    row = {"method": method, "pair": " and ".join(inputs.class_names[c] for c in pair)}
    if method == "DeViSE":
        mapped = train(settings, inputs, seen, vectors, place, run, name, seed)
        scores = test @ mapped @ vectors.T
    else:
        learned = learn(settings, material, seen, vectors)
        scores = test @ learned.mapped @ vectors.T
        row["validation"] = learned.validation
        for prefix, value in (("", 0.0), ("stacked_", learned.subtract)):
            both = zero_shot.generalized(scores, labels, np.isin(every, seen), value)
            row |= both.as_dict(prefix)
    count = int(np.isin(labels, pair).sum())
    row["accuracy"] = zero_shot.among(scores, labels, every, pair)
    low, high = evaluation.wilson_interval(round(row["accuracy"] * count), count)
    return row | {"low": low, "high": high, "seed": seed}


def plan(settings, material, vectors, place, run) -> dict:
    """Name the trials: every method with every pair of classes left out."""
    classes, trials = range(len(material["features"][0].class_names)), {}
    pairs = zero_shot.pairs(classes, settings.pairs, settings.seed)
    methods = [m for m in METHODS if m in (*settings.methods, "ESZSL")]
    for seed, pair in enumerate(pairs, start=settings.seed):
        for method in methods:
            words = f"{method} {'-'.join(str(one) for one in pair)}"
            name = words.replace(",", "").replace(" ", "-")
            one = functools.partial(trial, settings, material, vectors, place, run)
            trials[name] = functools.partial(one, name, method, pair, seed)
    return trials


# %% [markdown]
# ## Results


# %%
def show(rows, folder) -> None:
    summaries = study.over_pairs(rows, "method", chance=0.5)
    for row in summaries:
        print(
            f"{row['method']}: {row['mean']:.3f} of the images of two unseen classes "
            f"({row['low']:.3f} to {row['high']:.3f}, chance 0.5), above chance for "
            f"{row['above']} of {row['pairs']} pairs, below it for {row['below']}."
        )
        if "harmonic" in row:
            print(
                f"    Among all classes: harmonic mean {row['harmonic']:.3f}, with "
                f"calibrated stacking {row['stacked_harmonic']:.3f} (seen "
                f"{row['stacked_seen']:.3f}, unseen {row['stacked_unseen']:.3f})."
            )
    bars = [(r["method"], r["mean"], (r["low"], r["high"])) for r in summaries]
    figures.save(figures.comparison(bars), folder / "zero_shot.png")


def final(settings, backbone, material, names, vectors) -> keras.Model:
    """Learn from all classes that have images; return a model of all described ones."""
    seen = tuple(range(len(material[0].class_names)))
    learned = learn(settings, material, seen, vectors)
    *kernel, bias = learned.mapped @ vectors.T
    # The scores of seen classes are too high where there are unseen ones.
    if len(names) > len(seen):
        bias = bias - learned.subtract * np.isin(np.arange(len(names)), seen)
    layer = freezing.leaves(backbone)[-1].name
    return taps.classifier(backbone, [layer], np.array(kernel), bias)


# %% [markdown]
# ## Run


# %%
def main(settings: Config) -> dict:
    started = time.perf_counter()
    place, settings = placement.from_settings(settings)
    data = build_data(settings)
    names, vectors = describe(settings, data.class_names)
    backbone, stem = build_model(settings)
    about = splits.describe(data)
    run = config.start_run("zero_shot_cifar10", settings, started, about)
    cache = phases.setup(settings, place, data, run).cache
    inputs = features.extract_all(stem, data, cache=cache)
    material = {"features": inputs, "pixels": data.at_size(16)}
    material = {name: (one, zero_shot.solver(one)) for name, one in material.items()}
    rows = study.run(run.folder, plan(settings, material, vectors, place, run))
    show(rows, run.folder)
    if settings.weights == "imagenet":
        print("The backbone has learned from ImageNet, which may have images of them.")

    model = final(settings, backbone, material["features"], names, vectors)
    whole = replace(data, class_names=names)
    results = summary.evaluate_models({"ESZSL": (model, whole.test)}, whole)
    files.write_csv(run.folder / "trials.csv", rows)
    further = {"by": ["method"], "over": [], "compared": "method", "trials": rows}
    saved = {"data": whole, "results": results, "histories": {}, "cache": cache}
    return run_folder.save(run, model, **saved, further=further)


# %% tags=["script"]
if __name__ == "__main__":
    config.run(main, Config)
