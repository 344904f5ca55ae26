"""Cheap runs that each replace one part of a training by one that is known to work.

All of them but the first learn on features that were computed once. How much better
than the run a rung is tells what the part that it replaces costs; `diagnosis` compares
them.
"""

import contextlib
import logging
import time
from collections.abc import Iterator
from dataclasses import dataclass, field, replace

import keras
import numpy as np
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import (
    StratifiedKFold,
    cross_val_predict,
    train_test_split,
)
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from threadpoolctl import threadpool_limits

from keras_tl import errors, progress
from keras_tl.analysis import preprocessing_checks, probe
from keras_tl.data.sources import Arrays, read_all
from keras_tl.data.splits import Split, Splits, balanced, read_once
from keras_tl.models import backbones, catalog, freezing, heads, splitting, taps
from keras_tl.training import features, store, workers

# The backbone that others are compared with, and the side of the images for it: those
# of `doctor`, whose features are in the store after `keras-tl check`.
REFERENCE, IMAGE_SIZE = "efficientnet_lite0", 96
# An ordinary training of a head: rate and examples of a step, and its length, of few
# examples at least so many steps.
RATES, BATCH_SIZE = (1e-3, 1e-4, 1e-2), 32
EPOCHS, STEPS = 20, 300
# Share of the accuracy of a linear classifier that another order of the outputs has to
# reach.
MENDED = 0.8
# Weights of a head from which on it is not trained again.
LARGEST_HEAD = 8_000_000
# Width of the hidden layer that stands for more capacity.
HIDDEN = 256
# Images on which ways to prepare pixels are tried, and seconds that may take.
TRIED, SECONDS = (60, 240), 40.0
# How much better another preparation has to be there to be measured on all images.
BETTER = 0.03
# Ways that are compared there.
FINALISTS = 3
# Fewest examples to choose the regularization of a classifier with; it, otherwise.
FEWEST, REGULARIZATION = 40, 0.01
# Ways to prepare pixels in [0, 255]: name of `catalog.PREPROCESSING` -> what they are
# then, for people. "lite" is all but "tf".
_WAYS = {
    "tf": "in [-1, 1]",
    "torch": "in [0, 1], normalized by mean and deviation of ImageNet",
    "caffe": "in [0, 255] minus the mean of ImageNet",
    "none": "in [0, 255]",
}
_UNIT = ("RGB", 1 / 255, 0.0)
# The names of the rungs.
RUN, REORDERED, RETRAINED, LINEAR = "run", "reordered", "same head", "linear probe"
BEFORE, EARLIER, PREPARED = "frozen backbone", "earlier block", "other preprocessing"
COMPARED, RANDOM, SHUFFLED = "reference backbone", "random backbone", "shuffled labels"
CAPACITY = "hidden layer"


@dataclass(frozen=True, eq=False)
class Rung:
    """One cheap run.

    Attributes:
        name: What it is.
        correct: Whether each validation example is answered correctly, bool `(count,)`.
        about: What is replaced, for people.
    """

    name: str
    correct: np.ndarray = field(repr=False)
    about: str

    @property
    def accuracy(self) -> float:
        """Accuracy on validation, in [0, 1]."""
        return float(self.correct.mean())


@dataclass(frozen=True, eq=False)
class Ladder:
    """The rungs, and the features with the highest accuracy of a linear classifier.

    Attributes:
        rungs: Name -> rung. What cannot be measured is not among them.
        best: Those features of all splits, `(count, features)`.
        reference: Features of the reference backbone.
        train_accuracy: Accuracy of the run on training examples, in [0, 1].
        test: Whether the run answers each test example correctly.
        preprocessing: How the pixels are prepared in the rung `other preprocessing`.
        block: Block whose features the rung `earlier block` takes.
    """

    rungs: dict[str, Rung]
    best: Splits = field(repr=False)
    reference: Splits = field(repr=False)
    train_accuracy: float
    test: np.ndarray = field(repr=False)
    preprocessing: str | None = None
    block: str | None = None


def climb(
    model: keras.Model,
    data: Splits,
    *,
    before: keras.Model | None = None,
    cache: store.Cache | None = None,
    seed: int = 0,
) -> Ladder:
    """Measure all rungs for a trained classifier.

    Args:
        model: From raw images to logits.
        data: Its data, images with single labels, at its size.
        before: Its backbone as it was before it was trained, from raw images to a
            feature map; `None` where that is not known.
        cache: Where features are kept, see `features.extract`.
        seed: Seed of all that is drawn.
    """
    made = _Rungs(data, cache, seed)
    with _many_models():
        stem, answers = _run_and_head(made, model)
        block = None if before is None else _blocks(made, before)
        preprocessing = _preprocessing(made, stem if before is None else before)
        reference = _references(made)
        best = made.best()
        _controls(made, best)
    return Ladder(
        made.rungs,
        best,
        reference,
        float((answers["train"] == data.train.labels).mean()),
        answers["test"] == data.test.labels,
        preprocessing,
        block,
    )


@contextlib.contextmanager
def _many_models():
    """Leave out TensorFlow's warning that several models are traced, which is slow."""
    logger = logging.getLogger("tensorflow")
    level = logger.level
    logger.setLevel(logging.ERROR)
    try:
        yield
    finally:
        logger.setLevel(level)


class _Rungs:
    """The rungs that were made, and the features that a linear classifier was put on.

    Attributes:
        data: The images.
        cache: See `climb`.
        seed: See `climb`.
        rungs: Name -> rung.
    """

    def __init__(self, data, cache, seed):
        self.data, self.cache, self.seed = data, cache, seed
        self.rungs: dict[str, Rung] = {}
        self._features: dict[str, tuple[float, Splits]] = {}

    def add(self, name: str, answers: np.ndarray, about: str) -> None:
        """Add the answers of a run for the validation examples."""
        self.rungs[name] = Rung(name, answers == self.data.validation.labels, about)

    def extract(self, model: keras.Model, data: Splits | None = None) -> Splits:
        """Run a model over all images."""
        return features.extract_all(model, data or self.data, cache=self.cache)

    def probe(self, name: str, made: Splits, about: str, fitting=None) -> None:
        """Add a logistic regression on features, which may be fitted already."""
        fitted, held = fitting or fit(made.train, self.seed)
        answers = fitted.pipeline.predict(read_all(made.validation.inputs))
        self.add(name, answers, about)
        self._features[name] = held, made

    def best(self) -> Splits:
        """Return the features with the highest accuracy on held-out training examples.

        Validation chooses nothing: it tells what the parts cost. Those of the run are
        not among them, as they may have seen the labels of all training examples.
        """
        others = [pair for name, pair in self._features.items() if name != LINEAR]
        return max(others, key=lambda pair: pair[0])[1]


def _run_and_head(made: _Rungs, model) -> tuple[keras.Model, dict[str, np.ndarray]]:
    """Add the run, its head trained again, and a linear classifier in its place.

    Returns:
        The model below the head, and the answers of the run for each split.
    """
    stem, tail = cut(model)
    maps, train = made.extract(stem), made.data.train
    logits = {
        name: tail.predict(read_all(part.inputs), batch_size=64, verbose=0)
        for name, part in maps.items()
    }
    answers = {name: rows.argmax(axis=1) for name, rows in logits.items()}
    made.add(RUN, answers["validation"], "the run as it is")
    if tail.count_params() <= LARGEST_HEAD:
        for rate in progress.track(RATES, "training the head again", len(RATES)):
            again, by_epoch = retrained(tail, maps, rate, made.seed)
            most = int(np.argmax(by_epoch))
            name = RETRAINED if rate == RATES[0] else f"{RETRAINED}, rate {rate:g}"
            about = (
                f"its head, trained again for {len(by_epoch)} epochs with Adam at "
                f"{rate:g}; best after epoch {most + 1}: {100 * by_epoch[most]:.1f} %"
            )
            made.add(name, again, about)
    pooled = maps.map(_pooled)
    made.probe(LINEAR, pooled, "logistic regression in place of the head")
    order = reordered(logits["train"], train.labels)
    other = order[answers["validation"]]
    # Of a head that has learned little, chance finds a better order as well.
    reached = (other == made.data.validation.labels).mean()
    mended = reached >= MENDED * made.rungs[LINEAR].accuracy
    if mended and (order != np.arange(len(order))).any():
        made.add(REORDERED, other, "the outputs of the run in another order")
    return stem, answers


def _blocks(made: _Rungs, before) -> str | None:
    """Add linear classifiers on the backbone before training: its end, and a block.

    Returns:
        The block whose features held-out training examples like best.
    """
    blocks, columns = _taps(before)
    every = made.extract(blocks)
    parts = {
        name: every.map(lambda split, name=name: _some(split, columns[name]))
        for name in columns
    }
    *earlier, last = parts
    about = "logistic regression on the backbone as it was before the run"
    made.probe(BEFORE, parts[last], about)
    if not earlier:
        return None
    fittings = {name: fit(parts[name].train, made.seed) for name in earlier}
    block = max(earlier, key=lambda name: fittings[name][1])
    about = f"logistic regression on the features of {block}"
    made.probe(EARLIER, parts[block], about, fittings[block])
    return block


def _preprocessing(made: _Rungs, backbone) -> str | None:
    """Add a linear classifier on pixels that are prepared otherwise, where that helps.

    Returns:
        How they are prepared.
    """
    other = other_preprocessing(backbone, made.data, made.cache, made.seed)
    if other is None:
        return None
    name, model = other
    part = made.extract(model).map(_pooled)
    made.probe(PREPARED, part, f"logistic regression, with the pixels as {name}")
    return name


def _references(made: _Rungs) -> Splits:
    """Add linear classifiers on the reference backbone, pretrained and random.

    Returns:
        The features of the pretrained one.
    """
    images, parts = made.data.at_size(IMAGE_SIZE), {}
    for name, weights in ((COMPARED, "imagenet"), (RANDOM, None)):
        keras.utils.set_random_seed(made.seed)
        backbone = backbones.load(REFERENCE, weights=weights, image_size=IMAGE_SIZE)
        parts[name] = made.extract(heads.pool(backbone), images)
        of = "with weights of ImageNet" if weights else "with random weights"
        made.probe(name, parts[name], f"logistic regression on {REFERENCE} {of}")
    return parts[COMPARED]


def _controls(made: _Rungs, best: Splits) -> None:
    """Add more capacity, and labels that mean nothing, on the best of the features."""
    hidden = keras.Sequential(
        [
            keras.Input(best.train.inputs.read([0]).shape[1:]),
            keras.layers.Dense(HIDDEN, activation="relu"),
            keras.layers.Dropout(0.5),
            keras.layers.Dense(len(made.data.class_names)),
        ]
    )
    answers, _ = retrained(hidden, best, RATES[0], made.seed)
    about = f"a hidden layer of {HIDDEN} on the best of these features"
    made.add(CAPACITY, answers, about)
    rng = np.random.default_rng(made.seed)
    mixed = replace(best.train, labels=rng.permutation(best.train.labels))
    fitted, _ = fit(mixed, made.seed)
    answers = fitted.pipeline.predict(read_all(best.validation.inputs))
    made.add(SHUFFLED, answers, "the best of these with shuffled training labels")


# %% The run and its head


def cut(model: keras.Model) -> tuple[keras.Model, keras.Model]:
    """Cut a classifier at the last feature map, or before its head.

    Raises:
        InputError: The model has no such place.

    >>> layers = [keras.layers.Conv2D(4, 3), keras.layers.Flatten()]
    >>> model = keras.Sequential([keras.Input((8, 8, 3)), *layers])
    >>> model.add(keras.layers.Dense(2))
    >>> cut(model)[1].input_shape
    (None, 6, 6, 4)
    """
    splitting.check_single_output(model)
    points = splitting.cut_points(model)
    weighted = _weighted(model)
    points = [one for one in points if id(one[1]) in weighted]
    maps = [tensor for _, tensor in points if len(tensor.shape) > 2]
    if not maps:
        raise errors.InputError(
            f"{model.name} has no feature map after a layer with weights, on which the "
            "head could be told from the backbone."
        )
    return splitting.split_at(model, maps[-1])


def _weighted(model) -> set[int]:
    """Return the tensors that come after a layer with weights, by their ids."""
    after = set()
    for operation, inputs, outputs in splitting.nodes(model):
        if getattr(operation, "weights", None) or any(id(x) in after for x in inputs):
            after |= {id(tensor) for tensor in outputs}
    return after


def reordered(logits: np.ndarray, labels: np.ndarray) -> np.ndarray:
    """Return for each output the class that it stands for, as training examples say.

    Args:
        logits: `(count, num_classes)`.
        labels: Class of each example, `(count,)`.

    >>> reordered(np.eye(3), np.array([1, 2, 0])).tolist()
    [1, 2, 0]
    """
    from scipy.optimize import linear_sum_assignment
    from sklearn.metrics import confusion_matrix

    classes = range(logits.shape[1])
    counts = confusion_matrix(labels, logits.argmax(axis=1), labels=classes)
    # Of equally good orders, that of the outputs.
    rows, columns = linear_sum_assignment(
        counts + 1e-3 * np.eye(len(counts)), maximize=True
    )
    order = np.empty(len(counts), "int64")
    order[columns] = rows
    return order


def retrained(
    head: keras.Model, data: Splits, rate: float, seed: int
) -> tuple[np.ndarray, list[float]]:
    """Train a head anew, from fresh weights, in an ordinary way.

    Args:
        head: From features to logits, or to probabilities.
        data: Features that it takes.
        rate: Learning rate of Adam.
        seed: Seed of weights and order.

    Returns:
        Its answers for validation, and its accuracy there after each epoch.
    """
    keras.utils.set_random_seed(seed)
    fresh = keras.models.clone_model(head)
    freezing.unfreeze(fresh, batch_normalization=True)
    probabilities = splitting.ends_in(fresh, ("softmax",)) is not None
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=not probabilities)
    fresh.compile(keras.optimizers.Adam(rate), loss, metrics=["accuracy"])
    train, validation = (
        (read_all(part.inputs), part.labels) for part in (data.train, data.validation)
    )
    # Few examples are passed over several times in what counts as an epoch.
    times = max(1, STEPS * BATCH_SIZE // (EPOCHS * len(train[1])))
    rows = np.tile(np.arange(len(train[1])), times)
    history = fresh.fit(
        train[0][rows],
        train[1][rows],
        validation_data=validation,
        batch_size=BATCH_SIZE,
        epochs=EPOCHS,
        verbose=0,
    )
    answers = fresh.predict(validation[0], batch_size=64, verbose=0).argmax(axis=1)
    return answers, history.history["val_accuracy"]


# %% Features


def _pooled(split: Split) -> Split:
    values = read_all(split.inputs)
    if values.ndim > 2:
        values = values.mean(axis=tuple(range(1, values.ndim - 1)))
    return replace(split, inputs=Arrays(values))


def _some(split: Split, columns: slice) -> Split:
    return replace(split, inputs=Arrays(read_all(split.inputs)[:, columns]))


def _taps(backbone) -> tuple[keras.Model, dict[str, slice]]:
    """Build a model of the pooled outputs of some blocks, the last of them the end."""
    try:
        blocks = freezing.blocks(backbone)
    except errors.InputError:  # They have no names that are known.
        blocks = {}
    cuts = {name for name, _ in splitting.cut_points(backbone)}
    ends = [[name for name in names if name in cuts][-1:] for names in blocks.values()]
    ends = [name for one in ends for name in one]
    last = splitting.nodes(backbone)[-1][0].name
    # A quarter, a half and three quarters of the way.
    chosen = {ends[len(ends) * n // 4] for n in (1, 2, 3)} if len(ends) > 3 else set()
    names = [name for name in ends if name in chosen and name != last]
    return taps.pooled(backbone, [*names, last])


def fit(train: Split, seed: int) -> tuple[probe.Probe, float]:
    """Fit a logistic regression; a quarter of the examples chooses its setting.

    Args:
        train: Features `(count, features)` with single labels.
        seed: Seed of the drawing of that quarter.

    Returns:
        The classifier, fitted to all of them, and its accuracy on that quarter when it
        was fitted to the others; 0 where there are too few to choose.
    """
    kind, setting, held = probe.LINEAR["single-label"], REGULARIZATION, 0.0
    train = read_once(train)
    counts = np.bincount(train.labels)
    if len(train) >= FEWEST and counts[counts > 0].min() >= 2:
        rest, quarter = train_test_split(
            np.arange(len(train)),
            test_size=0.25,
            stratify=train.labels,
            random_state=seed,
        )
        chosen = probe.fit(kind, train.take(rest), train.take(quarter))
        setting, held = chosen.setting, chosen.validation
    return probe.fit_with(kind, setting, train), held


# %% Preprocessing


def other_preprocessing(
    backbone: keras.Model, data: Splits, cache: store.Cache | None, seed: int
) -> tuple[str, keras.Model] | None:
    """Find another way to prepare the pixels by which a backbone knows more.

    Args:
        backbone: From raw images to features, with its preprocessing inside.
        data: Images; some training images are looked at.
        cache: See `features.extract`.
        seed: Seed of the choice of images.

    Returns:
        What is done to pixels, for people, and a model that does so: `None` where no
        way is better, or where the first layer with weights cannot be told.
    """
    core = _after_preprocessing(backbone)
    if core is None:
        return None
    part = data.train.take(balanced(data.train.labels, TRIED[1], seed))
    part = read_once(part)
    few = part.take(np.arange(min(16, len(part)))).inputs
    features.run(backbone, few, 16)  # Is traced.
    started = time.perf_counter()
    features.run(backbone, few, 16)
    each = workers.from_chief((time.perf_counter() - started) / 16)
    ways = dict(_ways())
    most = int(SECONDS / max(each, 1e-4) / len(ways))
    if most < len(part):
        part = part.take(balanced(part.labels, max(TRIED[0], most), seed))
    counts = np.bincount(part.labels)
    if len(counts[counts > 0]) < 2 or counts[counts > 0].min() < 5:
        return None
    pixels = read_all(part.inputs).astype("float32")
    scores = {None: _score(features.extract(backbone, part, cache=cache))}
    for name, way in progress.track(ways.items(), "other preprocessing", len(ways)):
        values = replace(part, inputs=Arrays(_prepared(pixels, way)))
        scores[name] = _score(features.extract(core, values, cache=cache))
    better = [name for name, score in scores.items() if score >= scores[None] + BETTER]
    if not better:
        return None
    # The best of so few images are compared on all training images.
    final = {}
    for name in sorted(better, key=scores.get, reverse=True)[:FINALISTS]:
        model = _with(core, backbone, ways[name])
        final[name] = model, _score(features.extract(model, data.train, cache=cache))
    best = max(final, key=lambda name: final[name][1])
    return best, final[best][0]


def _ways() -> Iterator[tuple[str, tuple]]:
    """Yield ways to prepare pixels: name for people, order, scale and offset."""
    known = {text: catalog.PREPROCESSING[name] for name, text in _WAYS.items()}
    for text, (order, scale, offset) in {**known, "in [0, 1]": _UNIT}.items():
        yield f"{order} {text}", (order, scale, offset)
        other = "BGR" if order == "RGB" else "RGB"
        yield f"{other} {text}", (other, scale, offset)
        if order == "RGB":
            # 255 minus the pixels, and then the same.
            offset = np.asarray(offset) + 255 * np.asarray(scale)
            yield f"inverted {order} {text}", (order, -np.asarray(scale), offset)


def _prepared(pixels, way):
    order, scale, offset = way
    if order == "BGR":
        pixels = pixels[..., ::-1]
    return pixels * np.float32(scale) + np.float32(offset)


def _with(core, backbone, way) -> keras.Model:
    """Build the model that prepares raw images in one way."""
    order, scale, offset = way
    x = image = keras.Input(backbone.input_shape[1:])
    if order == "BGR":
        x = keras.ops.flip(x, axis=-1)
    scale, offset = np.asarray(scale).tolist(), np.asarray(offset).tolist()
    x = keras.layers.Rescaling(scale, offset)(x)
    return keras.Model(image, core(x), name=f"{backbone.name}_prepared")


def _after_preprocessing(backbone) -> keras.Model | None:
    """Return the backbone from its first layer with weights on."""
    tensor = preprocessing_checks.before_weights(splitting.functional(backbone))
    if len(tensor.shape) != 4 or tensor.shape[-1] != 3:
        return None
    if any(tensor is own for own in splitting.functional(backbone).inputs):
        return backbone
    if not any(tensor is one for _, one in splitting.cut_points(backbone)):
        return None
    return splitting.split_at(backbone, tensor)[1]


def _score(part: Split) -> float:
    """Return the accuracy of a classifier on features, over folds."""
    values = read_all(_pooled(part).inputs)
    model = make_pipeline(
        StandardScaler(), LogisticRegression(C=REGULARIZATION, max_iter=200)
    )
    folds = StratifiedKFold(5, shuffle=True, random_state=0)
    with threadpool_limits(1):
        answers = cross_val_predict(model, values, part.labels, cv=folds)
    return float((answers == part.labels).mean())
