"""Rank candidates for a user's data, without training them.

Each candidate runs once over the examples, frozen, up to the features that a new head
would get; these are kept for the training of whichever is chosen. `transferability` has
the scores.
"""

import time
from collections.abc import Sequence
from dataclasses import dataclass, field, replace

import keras
import numpy as np

from keras_tl import errors
from keras_tl.analysis import transferability
from keras_tl.analysis.candidates import Candidate
from keras_tl.data import splits as data_splits
from keras_tl.data.splits import Split, Splits
from keras_tl.models import freezing, heads, splitting
from keras_tl.training import features, store

# Examples of a step, and over how many steps the time of an example is measured.
BATCH_SIZE, TIMED_STEPS = 64, 2


def pooled(backbone: keras.Model, num_classes: int) -> keras.Model:
    """Return the frozen part of `backbone` under a new head: examples to a vector.

    It is the stem that `phases.fit` runs once when a head is trained on the frozen
    backbone, so that training finds these features in the cache.
    """
    freezing.freeze(backbone)
    model = heads.attach(backbone, num_classes)
    _, tensor = splitting.frozen_cut(model)
    return splitting.split_at(model, tensor)[0]


def features_of(
    stem: keras.Model, data: Splits, *, cache: store.Cache | None = None
) -> tuple[Split, Split]:
    """Run a model over the training and validation examples, once for each.

    Args:
        stem: From the examples to a vector of features, see `pooled`.
        data: The examples; the test split is not read.
        cache: See `features.extract`.
    """
    return tuple(
        features.extract(
            stem, part, cache=cache, batch_size=BATCH_SIZE, title=f"features, {name}"
        )
        for name, part in (("train", data.train), ("validation", data.validation))
    )


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
        memory: MB that predicting one example takes, see `memory`.
        seconds: Time for loading it, its features and scores; less where features were
            in the cache.
        milliseconds: Time of one example, in a step of 64.
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
    backbone: keras.Model | None = None,
) -> Measured:
    """Run a candidate over training and validation examples, and score its features.

    The test split is not read.

    Args:
        candidate: The candidate.
        data: Examples with single labels, as `Candidate.prepare` returns them.
        cache: Where features are kept for training, see `features.extract`.
        seed: Seed of the examples that select the setting of a probe.
        backbone: The model of the candidate, where it is loaded already.

    Raises:
        InputError: Data of another kind, or weights that cannot be had.
    """
    _check_data(data)
    started = time.perf_counter()
    backbone = candidate.load(data) if backbone is None else backbone
    stem = pooled(backbone, len(data.class_names))
    train, validation = features_of(stem, data, cache=cache)
    probabilities = candidate.source_probabilities(train)
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


def _milliseconds(stem, split) -> float:
    """Measure the time of an example in a step, the first step left out."""
    rows = np.arange(BATCH_SIZE) % len(split)
    examples = split.read(rows)
    stem.predict_on_batch(examples)
    started = time.perf_counter()
    for _ in range(TIMED_STEPS):
        stem.predict_on_batch(examples)
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
                "milliseconds_per_example": round(one.milliseconds, 3),
                "seconds": round(one.seconds, 2),
                "is_baseline": one.candidate.is_baseline,
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
        data: Examples of the candidates' kind with single labels; each candidate gets
            them as it takes them. The test split is not read.
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
    kind = data.train.inputs.kind
    others = [candidate.name for candidate in candidates if candidate.kind != kind]
    if others:
        raise errors.expected("candidates", f"take the kind {kind!r}", others)
    measured, read = [], {}
    for number, candidate in enumerate(candidates, start=1):
        print(f"Candidate {number} of {len(names)}: {candidate.name}", flush=True)
        form = candidate.form
        if form not in read:
            # The examples of one form at a time are in memory.
            read = {form: _read(candidate.prepare(data))}
        measured.append(measure(candidate, read[form], cache=cache, seed=seed))
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


def _read(data):
    """Read the examples of training and validation once; leave those of test alone."""
    return replace(
        data,
        train=data_splits.read_once(data.train),
        validation=data_splits.read_once(data.validation),
    )
