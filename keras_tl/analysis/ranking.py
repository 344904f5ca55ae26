"""Rank the backbones at hand for a user's data, without training them.

Each candidate runs once over the examples, frozen, up to the features that a new head
would get; these are kept for the training of whichever is chosen. `transferability` has
the scores.
"""

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

import keras
import numpy as np

from keras_tl import environment, errors
from keras_tl.analysis import transferability
from keras_tl.data import splits as data_splits
from keras_tl.data.splits import Split, Splits
from keras_tl.models import (
    backbones,
    catalog,
    freezing,
    heads,
    hub_backbones,
    splitting,
)
from keras_tl.training import features, store

# Side of the images, where nothing else is wanted.
IMAGE_SIZE = 96
# Examples of a step, and over how many steps the time of an image is measured.
BATCH_SIZE, TIMED_STEPS = 64, 2


@dataclass(frozen=True)
class Candidate:
    """A backbone with weights, that might be trained.

    Attributes:
        backbone: A key of `catalog.BACKBONES`; or "hub:" and a preset of KerasHub or a
            folder with one, see `hub_backbones`.
        weights: "imagenet", `None` for random weights, or a file; see `backbones.load`.
        image_size: Side of the square images, in pixels.
        preprocessing: See `backbones.load`.
        alpha: See `backbones.load`.
        classifier: File of the same weights with their ImageNet classifier, which LEEP
            and NCE need; `None` looks for it in `weights`.
        accuracy: Top-1 accuracy on ImageNet, in [0, 1]; `None` takes that of the table
            for its ImageNet weights.
    """

    backbone: str
    weights: str | Path | None = "imagenet"
    image_size: int = IMAGE_SIZE
    preprocessing: str | None = None
    alpha: float | None = None
    classifier: Path | None = None
    accuracy: float | None = None

    def __post_init__(self):
        if self.is_of_hub:
            hub_backbones.check(self.preset)
        catalog.check(self.backbone, self.weights, self.image_size, self.preprocessing)
        if self.classifier is not None:
            catalog.check_file(Path(self.classifier))

    @property
    def is_of_hub(self) -> bool:
        """Whether it is a preset of KerasHub."""
        return self.backbone.startswith(catalog.HUB)

    @property
    def preset(self) -> str:
        """Name or folder of the preset of KerasHub."""
        return self.backbone.removeprefix(catalog.HUB)

    @property
    def name(self) -> str:
        """Name for people, which tells it from others.

        >>> Candidate("mobilenet", alpha=0.25).name
        'mobilenet 0.25'
        >>> Candidate("efficientnet_lite0", None).name
        'efficientnet_lite0, random'
        """
        if self.is_of_hub:
            return Path(self.preset).name
        width = "" if self.alpha is None else f" {self.alpha:g}"
        if self.weights == "imagenet":
            return f"{self.backbone}{width}"
        if self.weights is None:
            return f"{self.backbone}{width}, random"
        file = Path(self.weights).name.removesuffix(".h5").removesuffix(".weights")
        return f"{self.backbone}{width}, {file}"

    @property
    def imagenet_accuracy(self) -> float | None:
        """Top-1 accuracy on ImageNet where it is stated, in [0, 1].

        >>> Candidate("vgg16", None).imagenet_accuracy
        0.001
        """
        if self.accuracy is not None or self.is_of_hub:
            return self.accuracy
        if self.weights is None:
            return 1 / backbones.CLASSES
        of_table = self.weights == "imagenet" and self.alpha in (None, 1.0)
        return catalog.find(self.backbone).accuracy if of_table else None


def at_hand(image_size: int | None = None) -> list[Candidate]:
    """List the candidates whose weights are on this machine already.

    The embedded backbone, and those whose ImageNet weights are in Keras's folder, by
    the names of the files there; nothing is downloaded.

    Args:
        image_size: Side of the images, see `named`; backbones that do not take it are
            left out.
    """
    folder = environment.keras_folder() / "models"
    listed = []
    for backbone in catalog.BACKBONES.values():
        if image_size is not None and image_size < backbone.smallest_size:
            continue
        for alpha in backbone.alphas or (None,):
            own = backbone.constructor is None
            if own or (folder / backbone.file_name(alpha)).is_file():
                width = None if alpha == 1 else alpha
                listed.append(named(backbone.name, image_size, alpha=width))
    return listed


def named(name: str, image_size: int | None = None, **options) -> Candidate:
    """Return a candidate by its name, at a size that suits it.

    Args:
        name: See `Candidate.backbone`.
        image_size: Side of the images. `None` is 96 pixels, or as many as the last
            feature map needs for 3x3 cells (InceptionV3: 139); of a preset of KerasHub
            see `hub_backbones.size_of`.
        **options: Other attributes of `Candidate`.

    Raises:
        InputError: An unknown name, or options that do not go together.
    """
    errors.check_options(options, Candidate)
    if name.startswith(catalog.HUB):
        side = hub_backbones.size_of(name.removeprefix(catalog.HUB), image_size)
        return Candidate(name, image_size=side, **options)
    backbone = catalog.find(name)
    size = image_size or max(IMAGE_SIZE, backbone.roomy_size)
    if options.get("weights", "imagenet") == "imagenet" and backbone.file:
        file = backbone.file_name(options.get("alpha"), classifier=True)
        path = environment.keras_folder() / "models" / file
        options = {"classifier": path if path.is_file() else None, **options}
    return Candidate(name, image_size=size, **options)


def load(candidate: Candidate) -> keras.Model:
    """Load the backbone of a candidate.

    Raises:
        InputError: Weights that cannot be had or do not fit.
    """
    return backbones.load(
        candidate.backbone,
        weights=candidate.weights,
        image_size=candidate.image_size,
        preprocessing=candidate.preprocessing,
        alpha=candidate.alpha,
    )


def pooled(backbone: keras.Model, num_classes: int) -> keras.Model:
    """Return the frozen part of `backbone` under a new head: images to a vector.

    It is the stem that `phases.fit` runs once when a head is trained on the frozen
    backbone, so that training finds these features in the cache.
    """
    freezing.freeze(backbone)
    model = heads.attach(backbone, num_classes)
    _, tensor = splitting.frozen_cut(model)
    return splitting.split_at(model, tensor)[0]


def memory(model: keras.Model, batch_size: int = 1) -> int:
    """Compute the bytes that prediction needs: weights, and activations alive at once.

    Args:
        model: A functional model.
        batch_size: Number of examples of a step.

    >>> dense = keras.layers.Dense(2)
    >>> memory(keras.Sequential([keras.Input((4,)), dense]))
    64
    """
    steps = splitting.nodes(model)
    last = {}
    for index, (_, inputs, _) in enumerate(steps):
        last.update((id(tensor), index) for tensor in inputs)
    alive, most = {}, 0
    for index, (_, _, outputs) in enumerate(steps):
        alive.update((id(tensor), _size(tensor)) for tensor in outputs)
        most = max(most, sum(alive.values()))
        alive = {key: size for key, size in alive.items() if last.get(key, 0) > index}
    weights = sum(_size(weight) for weight in model.weights)
    return weights + batch_size * most


def _size(tensor):
    shape = [length for length in tensor.shape if length is not None]
    return int(np.prod(shape, dtype="int64")) * 4


@dataclass(frozen=True, eq=False)
class Measured:
    """What was measured of a candidate.

    Attributes:
        candidate: The candidate.
        scores: Name -> score, see `transferability.measure`; more is better.
        correct: Name -> whether each held-out example was classified correctly.
        parameters: Number of weights of the backbone.
        megabytes: Size of these weights as float32, in MB.
        memory: MB that predicting one image takes, see `memory`.
        seconds: Time for loading it, its features and scores; less where features were
            in the cache.
        milliseconds: Time of one image, in a step of 64.
    """

    candidate: Candidate
    scores: dict[str, float]
    correct: dict[str, np.ndarray] = field(repr=False)
    parameters: int
    megabytes: float
    memory: float
    seconds: float
    milliseconds: float

    @property
    def name(self) -> str:
        """Name of the candidate."""
        return self.candidate.name


def measure(
    candidate: Candidate,
    data: Splits,
    *,
    cache: store.Cache | None = None,
    seed: int = 0,
    build: Callable[[Candidate], keras.Model] = load,
) -> Measured:
    """Run a candidate over training and validation examples, and score its features.

    The test split is not read.

    Args:
        candidate: The candidate.
        data: Images with single labels, at the candidate's size.
        cache: Where features are kept for training, see `features.extract`.
        seed: Seed of the examples that select the setting of a probe.
        build: Function that returns the backbone.

    Raises:
        InputError: Data of another kind, or weights that cannot be had.
    """
    _check_data(data)
    started = time.perf_counter()
    backbone = build(candidate)
    stem = pooled(backbone, len(data.class_names))
    train, validation = (
        features.extract(
            stem, part, cache=cache, batch_size=BATCH_SIZE, title=f"features, {name}"
        )
        for name, part in (("train", data.train), ("validation", data.validation))
    )
    probabilities = _source_probabilities(candidate, train)
    scores, correct = transferability.measure(
        train, validation, probabilities, seed=seed
    )
    seconds = time.perf_counter() - started
    return Measured(
        candidate,
        scores,
        correct,
        backbone.count_params(),
        backbone.count_params() * 4 / 1e6,
        memory(backbone) / 1e6,
        seconds,
        _milliseconds(stem, data.validation),
    )


def _check_data(data):
    if data.task != "single-label":
        raise errors.expected(
            "data", "have one class for each example to rank backbones", data.task
        )
    if not data.train.known.all():
        raise errors.expected("data", "have a label for every training example", "-1")


def _source_probabilities(candidate, train: Split) -> np.ndarray | None:
    """Predict ImageNet's classes from features, where the classifier is known."""
    path = candidate.classifier
    if path is None and candidate.weights not in ("imagenet", None):
        path = candidate.weights
    if path is None or candidate.is_of_hub:
        return None
    values = train.inputs.read(np.arange(len(train)))
    linear = backbones.classifier(path, values.shape[1])
    if linear is None:
        return None
    return transferability.source_probabilities(values, *linear)


def _milliseconds(stem, split) -> float:
    """Measure the time of an image in a step, the first step left out."""
    rows = np.arange(BATCH_SIZE) % len(split)
    images = split.read(rows)
    stem.predict_on_batch(images)
    started = time.perf_counter()
    for _ in range(TIMED_STEPS):
        stem.predict_on_batch(images)
    return (time.perf_counter() - started) * 1000 / TIMED_STEPS / BATCH_SIZE


@dataclass(frozen=True, eq=False)
class Ranking:
    """Candidates in the order of the score that decides.

    Attributes:
        measured: The candidates, the best first.
        order: Their places, with intervals and ties.
        decision: Name of the score that decides.
    """

    measured: tuple[Measured, ...] = field(repr=False)
    order: transferability.Order = field(repr=False)
    decision: str

    @property
    def best(self) -> Measured:
        """The candidate with the highest score."""
        return self.measured[0]

    @property
    def smallest(self) -> Measured:
        """The one with the fewest weights among those tied with the first."""
        tied = set(self.order.tied)
        return min(
            (one for one in self.measured if one.name in tied),
            key=lambda one: one.parameters,
        )

    @property
    def strongest(self) -> Measured:
        """The one tied with the first that has the highest accuracy on ImageNet.

        Where none of them states it, the first.
        """
        tied = set(self.order.tied)
        return max(
            (one for one in self.measured if one.name in tied),
            key=lambda one: one.candidate.imagenet_accuracy or 0.0,
        )

    def rows(self) -> list[dict]:
        """Return a row for each candidate, ready for JSON and CSV, the best first."""
        by_accuracy = sorted(
            (one for one in self.measured if one.candidate.imagenet_accuracy),
            key=lambda one: -one.candidate.imagenet_accuracy,
        )
        imagenet = {one.name: rank for rank, one in enumerate(by_accuracy, start=1)}
        return [
            {
                "name": one.name,
                "rank": place.rank,
                "rank_low": place.rank_interval[0],
                "rank_high": place.rank_interval[1],
                "tied_with_first": place.tied,
                "expected_accuracy": place.value,
                "low": place.interval[0],
                "high": place.interval[1],
                **one.scores,
                "imagenet_accuracy": one.candidate.imagenet_accuracy,
                "imagenet_rank": imagenet.get(one.name),
                "parameters": one.parameters,
                "megabytes": round(one.megabytes, 2),
                "memory_megabytes": round(one.memory, 2),
                "milliseconds_per_image": round(one.milliseconds, 3),
                "seconds": round(one.seconds, 2),
                "image_size": one.candidate.image_size,
            }
            for one, place in zip(self.measured, self.order.places, strict=True)
        ]

    def sentence(self) -> str:
        """Return which candidate to train, and why, as sentences."""
        first, tied = self.order.first, self.order.tied
        low, high = (f"{100 * end:.1f}" for end in first.interval)
        text = (
            f"{first.name} has the highest expected accuracy: {100 * first.value:.1f} "
            f"% [{low}, {high}] of a probe on its frozen features."
        )
        if len(self.measured) == 1:
            return text
        if len(tied) == 1:
            return (
                f"{text} No other one reaches it: each difference is more than chance."
            )
        others = [name for name in tied if name != first.name]
        text += f" Tied with it, within chance: {_listed(others)}."
        if self.smallest.name != first.name:
            text += f" The smallest of these is {self.smallest.name}."
        return text


def _listed(names: Sequence[str]) -> str:
    """Join names for a sentence.

    >>> _listed(["a", "b", "c"])
    'a; b; c'
    """
    return "; ".join(names)


def rank(
    candidates: Sequence[Candidate],
    data: Splits,
    *,
    cache: store.Cache | None = None,
    decision: str = transferability.DECISIONS[0],
    seed: int = 0,
) -> Ranking:
    """Rank candidates for some data, without training them.

    Args:
        candidates: At least one, each with a name of its own.
        data: Images with single labels; each candidate gets them at its size. The test
            split is not read.
        cache: Where features are kept for the training of the chosen one.
        decision: Score that decides, of `transferability.DECISIONS`.
        seed: Seed of the examples that select the setting of a probe, and of the
            bootstrap.

    Raises:
        InputError: No candidate, two of one name, data of another kind, or weights
            that cannot be had.
    """
    errors.check_at_least("len(candidates)", len(candidates), 1)
    if decision not in transferability.DECISIONS:
        raise errors.unknown("decision", decision, transferability.DECISIONS)
    names = [candidate.name for candidate in candidates]
    if len(set(names)) < len(names):
        raise errors.expected("candidates", "have names of their own", names)
    _check_data(data)
    measured, read = [], {}
    for number, candidate in enumerate(candidates, start=1):
        print(f"Candidate {number} of {len(names)}: {candidate.name}", flush=True)
        size = candidate.image_size
        if size not in read:
            # The images of one size at a time are in memory.
            read = {size: _read(data, size)}
        measured.append(measure(candidate, read[size], cache=cache, seed=seed))
        policy = keras.config.dtype_policy()
        keras.backend.clear_session()
        keras.config.set_dtype_policy(policy)
    return ordered(measured, decision, seed=seed)


def ordered(measured: Sequence[Measured], decision: str, *, seed: int = 0) -> Ranking:
    """Order candidates that were measured on the same data.

    Args:
        measured: See `measure`.
        decision: Score that decides, of `transferability.DECISIONS`.
        seed: Seed of the bootstrap.
    """
    by_name = {one.name: one for one in measured}
    values = {one.name: one.correct[decision] for one in measured}
    order = transferability.order(values, seed=seed)
    return Ranking(
        tuple(by_name[place.name] for place in order.places), order, decision
    )


def _read(data, size):
    """Read the images of training and validation once; leave those of test alone."""
    sized = data.at_size(size)
    return replace(
        sized,
        train=data_splits.read_once(sized.train),
        validation=data_splits.read_once(sized.validation),
    )
