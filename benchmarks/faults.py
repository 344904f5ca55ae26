"""Faults planted into trainings, for the diagnosis to name.

Each changes one thing in a healthy run: a linear head on the frozen embedded backbone,
trained for 30 epochs with Adam at 1e-3.
"""

from collections.abc import Callable
from dataclasses import dataclass, replace

import keras
import numpy as np

from keras_tl.data.sources import read_all
from keras_tl.data.splits import Split, Splits, balanced
from keras_tl.models import backbones, catalog, freezing, heads, splitting

SIZE, EPOCHS, RATE, BATCH = 96, 30, 1e-3, 32


@dataclass(frozen=True)
class Planted:
    """A run with a fault.

    Attributes:
        model: Trained, from raw images to logits.
        data: The data as the run has seen them.
        before: The backbone as it was loaded.
    """

    model: keras.Model
    data: Splits
    before: keras.Model


@dataclass(frozen=True)
class Fault:
    """A kind of fault.

    Attributes:
        verdict: What the diagnosis should name.
        about: What is wrong, for people.
        plant: Function from clean data and a seed to the run.
    """

    verdict: str
    about: str
    plant: Callable[[Splits, int], Planted]


def load(**options) -> keras.Model:
    """Load the embedded backbone."""
    return backbones.load("efficientnet_lite0", image_size=SIZE, **options)


def run(
    data: Splits,
    seed: int,
    *,
    backbone: Callable[[], keras.Model] = load,
    attach: Callable = heads.attach,
    rate: float = RATE,
    epochs: int = EPOCHS,
    batch: int = BATCH,
) -> Planted:
    """Train a head on frozen features."""
    keras.utils.set_random_seed(seed)
    before = backbone()
    model = attach(before, len(data.class_names))
    freezing.freeze(before)
    cut = dict(splitting.cut_points(model))[before.layers[-1].name]
    stem, tail = splitting.split_at(model, cut)
    values = stem.predict(read_all(data.train.inputs), batch_size=64, verbose=0)
    tail.trainable = True
    fit(tail, values, data.train.labels, rate, epochs, batch)
    return Planted(model, data, before)


def fit(model, inputs, labels, rate, epochs, batch=BATCH) -> None:
    """Train what can be trained of a model."""
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    model.compile(keras.optimizers.Adam(rate), loss)
    model.fit(inputs, labels, batch_size=batch, epochs=epochs, verbose=0)


def relabelled(data: Splits, change: Callable) -> Splits:
    """Change the labels of all splits."""
    return data.map(lambda part: replace(part, labels=change(part.labels)))


def redrawn(data: Splits, change: Callable, names=("train", "validation", "test")):
    """Change the images of some splits."""
    parts = {
        name: Split(change(read_all(part.inputs)).astype("uint8"), part.labels)
        for name, part in data.items()
        if name in names
    }
    return replace(data, **parts)


# %% Labels


def shuffled(data, seed):
    """Shuffle all labels."""
    rng = np.random.default_rng(seed)
    return run(relabelled(data, rng.permutation), seed)


def noisy(data, seed):
    """Draw 40 % of the labels at random."""
    rng = np.random.default_rng(seed)

    def change(labels):
        drawn = rng.integers(len(data.class_names), size=len(labels))
        return np.where(rng.random(len(labels)) < 0.4, drawn, labels)

    return run(relabelled(data, change), seed)


def exchanged(data, seed):
    """Exchange the labels of two classes for half of their images."""
    rng = np.random.default_rng(seed)

    def change(labels):
        of_pair = (labels < 2) & (rng.random(len(labels)) < 0.5)
        return np.where(of_pair, 1 - labels, labels)

    return run(relabelled(data, change), seed)


# %% Backbone and preprocessing


def random(data, seed):
    """Leave the backbone at random weights."""
    return run(data, seed, backbone=lambda: load(weights=None))


def damaged(data, seed):
    """Add noise to the weights of the backbone."""
    rng = np.random.default_rng(seed)

    def backbone():
        made = load()
        for layer in made.layers:
            if "conv" in layer.name and layer.weights:
                weights = layer.get_weights()
                layer.set_weights(
                    [w + rng.normal(0, 1.5 * w.std(), w.shape) for w in weights]
                )
        return made

    return run(data, seed, backbone=backbone)


def prepared(change: Callable) -> Callable:
    """Return a fault in which pixels reach the backbone otherwise."""

    def plant(data, seed):
        def backbone():
            inner = load()
            image = keras.Input((SIZE, SIZE, 3), name="image")
            graph = splitting.split_at(inner, splitting.outputs(inner)["preprocess"])[1]
            return keras.Model(image, _inlined(graph, change(image)), name=inner.name)

        return run(data, seed, backbone=backbone)

    return plant


def _inlined(graph, x):
    """Apply the layers of a graph one by one, so that the model stays flat."""
    made = {id(graph.inputs[0]): x}
    for operation, inputs, outputs in splitting.nodes(graph):
        if inputs:
            given = [made[id(tensor)] for tensor in inputs]
            made[id(outputs[0])] = operation(given if len(given) > 1 else given[0])
    return made[id(graph.outputs[0])]


def _contract(image, name):
    order, scale, offset = catalog.PREPROCESSING[name]
    image = keras.ops.flip(image, axis=-1) if order == "BGR" else image
    return keras.layers.Rescaling(scale, offset, name="preprocess")(image)


# %% Head and optimisation


def bottleneck(backbone, num_classes):
    """Attach a head that passes everything through one unit."""
    x = keras.layers.GlobalAveragePooling2D()(backbone.output)
    x = keras.layers.Dense(1, activation="relu", name="hidden_1")(x)
    logits = keras.layers.Dense(num_classes, name="logits")(x)
    return keras.Model(backbone.input, logits, name=backbone.name)


def dead(backbone, num_classes):
    """Attach a head whose hidden units begin far below zero."""
    x = keras.layers.GlobalAveragePooling2D()(backbone.output)
    low = keras.initializers.Constant(-30.0)
    x = keras.layers.Dense(
        64, activation="relu", bias_initializer=low, name="hidden_1"
    )(x)
    logits = keras.layers.Dense(num_classes, name="logits")(x)
    return keras.Model(backbone.input, logits, name=backbone.name)


def destroyed(data, seed):
    """Fine-tune all layers at a rate that is too high."""
    planted = run(data, seed)
    own = load()
    model = heads.attach(own, len(data.class_names))
    model.set_weights(planted.model.get_weights())
    freezing.unfreeze(model)
    fit(model, read_all(data.train.inputs), data.train.labels, 0.03, 1)
    return Planted(model, data, planted.before)


# %% Data, amount and shift


def few(data, seed):
    """Keep three training images of each class."""
    chosen = balanced(data.train.labels, 3 * len(data.class_names), seed)
    return run(replace(data, train=data.train.take(chosen)), seed)


def blank(data, seed):
    """Make half of the images of all splits black."""
    rng = np.random.default_rng(seed)
    return run(redrawn(data, lambda x: x * (rng.random((len(x), 1, 1, 1)) < 0.5)), seed)


def noise(data, seed):
    """Replace all images by random pixels."""
    rng = np.random.default_rng(seed)
    return run(redrawn(data, lambda x: rng.integers(0, 256, x.shape)), seed)


def leaking(data, seed):
    """Replace half of validation and test by training images."""
    rng = np.random.default_rng(seed)

    def mixed(part):
        own = rng.permutation(len(part))[: len(part) // 2]
        others = rng.permutation(len(data.train))[: len(part) - len(own)]
        images = [read_all(part.inputs)[own], read_all(data.train.inputs)[others]]
        labels = [part.labels[own], data.train.labels[others]]
        return Split(np.concatenate(images), np.concatenate(labels))

    data = replace(data, validation=mixed(data.validation), test=mixed(data.test))
    return run(data, seed)


def test_images(change: Callable) -> Callable:
    """Return a fault in which the test images were changed."""

    def plant(data, seed):
        rng = np.random.default_rng(seed)
        return run(redrawn(data, lambda x: change(x, rng), ("test",)), seed)

    return plant


FAULTS = {
    "healthy": Fault("nothing", "nothing is wrong", run),
    "all labels shuffled": Fault("labels", "labels of all splits shuffled", shuffled),
    "40 % label noise": Fault("labels", "40 % of all labels drawn at random", noisy),
    "two classes exchanged": Fault(
        "labels", "labels of two classes exchanged for half of their images", exchanged
    ),
    "random weights": Fault("backbone", "backbone without pretrained weights", random),
    "damaged weights": Fault("backbone", "noise added to all convolutions", damaged),
    "scaled twice": Fault(
        "preprocessing",
        "pixels in [0, 1] before a preprocessing for [0, 255]",
        prepared(lambda x: _contract(keras.layers.Rescaling(1 / 255)(x), "lite")),
    ),
    "wrong contract": Fault(
        "preprocessing",
        "the preprocessing of caffe in place of its own",
        prepared(lambda x: _contract(x, "caffe")),
    ),
    "raw pixels": Fault(
        "preprocessing",
        "pixels in [0, 255] without any preprocessing",
        prepared(lambda x: keras.layers.Rescaling(1.0, name="preprocess")(x)),
    ),
    "bottleneck": Fault(
        "head",
        "a hidden layer of one unit",
        lambda data, seed: run(data, seed, attach=bottleneck),
    ),
    "dead units": Fault(
        "head",
        "a hidden layer whose units are never active",
        lambda data, seed: run(data, seed, attach=dead),
    ),
    "rate too low": Fault(
        "optimisation", "rate of 1e-6", lambda data, seed: run(data, seed, rate=1e-6)
    ),
    "rate too high": Fault(
        "optimisation",
        "a rate of 10 with a hidden layer",
        lambda data, seed: run(
            data,
            seed,
            rate=10.0,
            attach=lambda b, n: heads.attach_mlp(heads.pool(b), n, hidden=[256]),
        ),
    ),
    "one step": Fault(
        "optimisation",
        "a single step of training",
        lambda data, seed: run(data, seed, epochs=1, batch=len(data.train)),
    ),
    "backbone destroyed": Fault(
        "optimisation", "all layers fine-tuned at a rate of 0.03", destroyed
    ),
    "three per class": Fault(
        "too little data", "three training images of each class", few
    ),
    "half blank": Fault("data", "half of all images black", blank),
    "random pixels": Fault("data", "images of random pixels", noise),
    "leaking splits": Fault(
        "data", "half of validation and test are training images", leaking
    ),
    "dark test images": Fault(
        "shift",
        "test images at 8 % of the brightness",
        test_images(lambda x, _: x * 0.08),
    ),
    "noisy test images": Fault(
        "shift",
        "test images under noise",
        test_images(lambda x, rng: (x + rng.normal(0, 90, x.shape)).clip(0, 255)),
    ),
}
