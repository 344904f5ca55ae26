"""Which part of a training run costs the accuracy, and what to try next.

Each part is replaced by one that is known to work, see `ladder`: what the accuracy on
validation gains is what the part costs. Labels, amount of data and differences between
the splits are measured on the best of the features. The part with the largest cost is
the verdict, and its confidence is how often it is that over a bootstrap.
"""

import itertools
from collections.abc import Mapping
from dataclasses import dataclass, field

import keras
import numpy as np
from sklearn.model_selection import StratifiedKFold, cross_val_predict
from threadpoolctl import threadpool_limits

from keras_tl import errors
from keras_tl.analysis import (
    feature_checks,
    findings,
    ladder,
    learning_curve,
    probe,
    records,
    split_checks,
)
from keras_tl.analysis.ladder import Ladder
from keras_tl.data.sources import read_all
from keras_tl.data.splits import Split, Splits, read_once
from keras_tl.training import store

NOTHING = "nothing"
# What a verdict can be -> what to try, where nothing better is known.
ADVICE = {
    "data": "Look at the images and the splits: keras-tl check DATA --page check.html.",
    "labels": "Look at the labels: keras-tl check DATA --page check.html lists those "
    "that are probably wrong.",
    "backbone": "Take another backbone, or its published weights: keras-tl rank DATA.",
    "preprocessing": "Prepare the pixels as the weights were trained with.",
    "head": "Use a linear head on the pooled features: `heads.attach`.",
    "optimisation": "Train the head with Adam at 1e-3 until validation gets no better, "
    "and fine-tune at a hundredth of that.",
    "too little data": "Label more examples: keras-tl curve DATA forecasts how many.",
    "shift": "Draw the splits from all examples together, or train on examples like "
    "those that the model will meet.",
    NOTHING: "Look at the mistakes in the report, or compare backbones: keras-tl rank "
    "DATA.",
}
PARTS = tuple(ADVICE)[:-1]
MORE = "Put more examples into validation; --limit may leave some out."
# Confidence below which nothing can be said, not even that nothing is wrong.
UNSURE = 0.5
# Samples of the bootstrap; share of accuracy from which on a cost is a verdict.
SAMPLES, LEAST = 1000, 0.05
# How many times the examples the cost of too little data is forecast for.
TIMES = 4
# Correlation of neighbouring pixels below which an image is noise.
_NOISE = 0.3
# Area under the ROC curve up to which nothing tells two classes apart, and examples of
# each that such a statement takes.
_MIXED, _FEWEST = 0.65, 15
# Area under it from which on train and another split differ in their images.
_DIFFERENT = 0.65
# Training examples of a class, on average, below which nothing is left unexplained.
_ENOUGH = 20
# Parts whose cost no rung makes good.
_LEARNED = ("labels", "too little data", "shift")
# What is left unexplained from which on the images do not tell the classes.
_LEFT = 0.35


@dataclass(frozen=True, eq=False)
class Part:
    """What a part of the run costs.

    Attributes:
        name: One of `PARTS`.
        samples: Its cost in accuracy in each sample of the bootstrap, `(SAMPLES,)`.
        evidence: What was measured, as a sentence.
        advice: What to try, as a sentence.
    """

    name: str
    samples: np.ndarray = field(repr=False)
    evidence: str
    advice: str

    @property
    def cost(self) -> float:
        """Mean cost, in [0, 1]."""
        return float(self.samples.mean())

    @property
    def interval(self) -> tuple[float, float]:
        """Ends of its 90 % interval."""
        low, high = np.quantile(self.samples, [0.05, 0.95])
        return float(low), float(high)


@dataclass(frozen=True, eq=False)
class Diagnosis:
    """The verdict, and what it rests on.

    Attributes:
        verdict: One of `PARTS`, or "nothing" where no part costs much.
        confidence: Share of the samples of the bootstrap with this verdict.
        parts: All parts that could be measured, the most expensive first.
        ladder: The runs that were made.
    """

    verdict: str
    confidence: float
    parts: tuple[Part, ...]
    ladder: Ladder = field(repr=False)

    @property
    def advice(self) -> str:
        """The one next thing to try."""
        if self.verdict != NOTHING:
            return self.parts[0].advice
        return MORE if self.confidence < UNSURE else ADVICE[NOTHING]

    def sentence(self) -> str:
        """Return the verdict as a sentence."""
        first = self.parts[0]
        low, high = (100 * end for end in first.interval)
        if self.verdict == NOTHING:
            count = len(self.ladder.rungs[ladder.RUN].correct)
            largest = (
                f"The most expensive, {first.name!r}, costs {low:.0f} to {high:.0f} "
                "points."
            )
            if self.confidence < UNSURE:
                return (
                    f"No part can be named: {count} validation examples are too few "
                    f"to tell. {largest}"
                )
            return (
                f"No part of the run costs {100 * LEAST:.0f} points or more "
                f"(confidence {self.confidence:.2f}). {largest}"
            )
        return (
            f"What costs most is the part {first.name!r}: {100 * first.cost:.0f} "
            f"points (90 % interval {low:.0f} to {high:.0f}; confidence "
            f"{self.confidence:.2f}). {first.evidence}"
        )


def diagnose(
    model: keras.Model,
    data: Splits,
    *,
    before: keras.Model | None = None,
    cache: store.Cache | None = None,
    seed: int = 0,
) -> Diagnosis:
    """Measure what each part of a run costs, and name the most expensive.

    Args:
        model: The trained classifier, from raw images to logits.
        data: Its data, images with single labels. The test examples are read for one
            thing: whether they differ from the training examples.
        before: The backbone before it was trained, see `ladder.climb`.
        cache: See `features.extract`.
        seed: Seed of all that is drawn.

    Raises:
        InputError: Data of another kind, or too few.
    """
    check(data)
    data = data.map(read_once)
    climbed = ladder.climb(model, data, before=before, cache=cache, seed=seed)
    rng = np.random.default_rng(seed)
    costs = [
        *_of_rungs(climbed, rng),
        _of_images(data, rng),
        _of_labels(climbed, data, rng),
        _of_splits(climbed, rng, seed),
        _of_amount(climbed, data, seed),
    ]
    costs = [cost for cost in costs if cost is not None]
    left = [] if is_small(data) else _unexplained(costs, climbed)
    return judge([*costs, *left], climbed)


def is_small(data: Splits) -> bool:
    """Return whether a low accuracy may come from the number of examples alone."""
    return len(data.train) < _ENOUGH * len(data.class_names)


def check(data: Splits) -> None:
    """Raise `InputError` for data that cannot be diagnosed."""
    kind = data.train.inputs.kind
    if kind != "image" or data.task != "single-label":
        raise errors.expected(
            "data", "be images with one class each", f"{kind}, {data.task}"
        )
    counts = np.bincount(data.train.labels, minlength=len(data.class_names))
    if counts.min() < 2:
        raise errors.InputError(
            f"A diagnosis needs at least 2 training examples of each class. "
            f"{data.class_names[int(counts.argmin())]!r} has {counts.min()}."
        )


def judge(costs: list[Part], climbed: Ladder) -> Diagnosis:
    """Compare the costs of the parts.

    Args:
        costs: Those that could be measured.
        climbed: The ladder they come from.
    """
    highest = {part.name: part for part in sorted(costs, key=_cost)}
    parts = tuple(sorted(highest.values(), key=_cost, reverse=True))
    table = np.stack([part.samples for part in parts])
    winners = np.where(table.max(axis=0) < LEAST, -1, table.argmax(axis=0))
    first = parts[0]
    if first.cost < LEAST or first.interval[0] <= 0:
        return Diagnosis(NOTHING, float((winners == -1).mean()), parts, climbed)
    return Diagnosis(first.name, float((winners == 0).mean()), parts, climbed)


def _cost(part: Part) -> float:
    return part.cost


# %% What the rungs say

# The order in which parts are replaced: part and rung; what was replaced stays so.
_CHAIN = (
    ("labels", ladder.REORDERED),
    ("optimisation", ladder.RETRAINED),
    ("head", ladder.LINEAR),
    ("optimisation", ladder.BEFORE),
    ("preprocessing", ladder.PREPARED),
    ("backbone", ladder.EARLIER),
    ("backbone", ladder.COMPARED),
)


def _of_rungs(climbed: Ladder, rng) -> list[Part]:
    """Compute what head, optimisation, preprocessing and backbone cost."""
    rungs = climbed.rungs
    count = len(rungs[ladder.RUN].correct)
    weights = rng.multinomial(count, np.full(count, 1 / count), SAMPLES) / count
    reached = weights @ rungs[ladder.RUN].correct
    costs, steps = {}, {}
    for part, name in _CHAIN:
        if name not in rungs:
            continue
        value = weights @ rungs[name].correct
        gain = np.maximum(value - reached, 0)
        costs[part] = costs.get(part, 0) + gain
        if gain.mean() > steps.get(part, (0, ""))[0]:
            steps[part] = gain.mean(), name
        reached = np.maximum(reached, value)
    own = rungs[ladder.RUN].accuracy
    parts = []
    for part, samples in costs.items():
        name = steps.get(part, (0, ladder.RUN))[1]
        rung = rungs[name]
        about = rung.about.partition(";")[0]
        evidence = (
            f"With {about}, {_percent(rung.accuracy)} of the validation examples are "
            f"right; with the run as it is, {_percent(own)}."
        )
        parts.append(Part(part, samples, evidence, _advice(part, name, climbed)))
    return parts


def _advice(part, name, climbed: Ladder) -> str:
    if name == ladder.REORDERED:
        return "Compare the order of the class names with that of the labels."
    if name == ladder.PREPARED:
        return f"Prepare the pixels otherwise: as {climbed.preprocessing}."
    if name == ladder.EARLIER:
        return f"Attach the head to an earlier layer: {climbed.block}."
    if name == ladder.BEFORE:
        return "Fine-tune at a hundredth of the rate, or leave the backbone frozen."
    return ADVICE[part]


# %% Data and labels


def _of_images(data: Splits, rng) -> Part:
    """Compute which share of the images is empty, or a copy in another split."""
    noticed = split_checks.copies(records.of_splits(data))
    copies = [one for one in noticed if one.code.endswith("across-splits")]
    counts = [len(part) for _, part in data.items()]
    starts = np.cumsum([0, *counts])
    members = {index for one in copies for index in one.pictures}
    shares = [
        sum(start <= index < start + count for index in members) / count
        for start, count in zip(starts, counts, strict=False)
    ]
    empty = np.concatenate(
        [is_empty(read_all(part.inputs)) for _, part in data.items()]
    )
    shared, blank = max(shares[1:]), float(empty.mean())
    if blank >= shared:
        count, share = len(empty), blank
        evidence = f"{_percent(blank)} of the images show nothing."
        advice = "Leave out the images without content, and find where they come from."
    else:
        count, share = min(counts[1:]), shared
        evidence = f"{_percent(shared)} of a split have copies in another."
        advice = "Leave out the copies: keras-tl check DATA --fix-list copies.txt."
    samples = rng.binomial(count, share, SAMPLES) / count
    return Part("data", samples, evidence, advice)


def is_empty(images: np.ndarray) -> np.ndarray:
    """Return which images are of one colour, or noise.

    Args:
        images: `(count, height, width, 3)`.

    >>> noise = np.random.default_rng(0).integers(0, 256, (1, 32, 32, 3))
    >>> is_empty(noise).tolist(), is_empty(np.zeros((1, 8, 8, 3))).tolist()
    ([True], [True])
    """
    grey = images.astype("float32").mean(axis=3)
    grey -= grey.mean(axis=(1, 2), keepdims=True)
    power = (grey**2).mean(axis=(1, 2))
    alike = [(grey[:, 1:] * grey[:, :-1]), (grey[:, :, 1:] * grey[:, :, :-1])]
    alike = np.mean([one.mean(axis=(1, 2)) for one in alike], axis=0)
    return (power < 4) | (alike < _NOISE * power)


def _of_labels(climbed: Ladder, data: Splits, rng) -> Part | None:
    """Compute which share of the training labels is wrong."""
    train = climbed.best.train
    seen = ~is_empty(read_all(data.train.inputs))
    values, labels = read_all(train.inputs)[seen], train.labels[seen]
    counts = np.bincount(labels, minlength=len(data.class_names))
    if counts.min() < 5 or len(labels) < 50:
        return None
    probabilities = feature_checks.out_of_fold(values, labels)
    noise = feature_checks.suspected_noise(probabilities, labels)
    share = noise.share if noise.evidence >= feature_checks.CERTAIN else 0.0
    share *= 1 - 1 / len(counts)
    evidence = f"By their features, {_percent(share)} of the training labels are wrong."
    groups = mixed(probabilities, labels)
    of_groups = sum(
        counts[list(group)].sum() * (1 - 1 / len(group)) for group in groups
    )
    if of_groups > share * len(labels):
        share = of_groups / len(labels)
        names = "; ".join(
            findings.named([repr(data.class_names[number]) for number in group])
            for group in groups
        )
        evidence = f"No feature tells these classes apart, as if mixed: {names}."
    samples = rng.binomial(len(labels), share, SAMPLES) / len(labels)
    return Part("labels", samples, evidence, ADVICE["labels"])


def mixed(probabilities: np.ndarray, labels: np.ndarray) -> list[tuple[int, ...]]:
    """Find groups of classes that are not told apart at all.

    Args:
        probabilities: Of classifiers that have not seen the example,
            `(count, num_classes)`.
        labels: Class of each example, `(count,)`.

    Returns:
        The classes of each group of two or more.

    >>> labels = np.arange(90) % 3
    >>> probabilities = np.eye(3)[np.where(labels == 2, 2, np.arange(90) // 2 % 2)]
    >>> mixed(probabilities, labels)
    [(0, 1)]
    """
    from scipy.sparse.csgraph import connected_components
    from sklearn.metrics import roc_auc_score

    counts = np.bincount(labels, minlength=probabilities.shape[1])
    logarithms = np.log(np.maximum(probabilities, 1e-12))
    alike = np.zeros((len(counts), len(counts)), bool)
    for first, second in itertools.combinations(range(len(counts)), 2):
        if min(counts[first], counts[second]) < _FEWEST:
            continue
        of_pair = np.isin(labels, [first, second])
        score = logarithms[of_pair, first] - logarithms[of_pair, second]
        area = roc_auc_score(labels[of_pair] == first, score)
        alike[first, second] = area < _MIXED
    _, groups = connected_components(alike, directed=False)
    members = [tuple(np.flatnonzero(groups == n).tolist()) for n in np.unique(groups)]
    return [group for group in members if len(group) > 1]


def _unexplained(costs: list[Part], climbed: Ladder) -> list[Part]:
    """Return what no part explains, where it is much: the images then show little."""
    best = max(rung.accuracy for rung in climbed.rungs.values())
    known = sum(part.samples for part in costs if part.name in _LEARNED)
    samples = np.maximum(1 - best - known, 0)
    if samples.mean() < _LEFT:
        return []
    evidence = (
        f"No features tell more than {_percent(best)} of the validation examples, and "
        "neither labels nor their number explain that: the images do not show the "
        "classes."
    )
    return [Part("data", samples, evidence, ADVICE["data"])]


# %% Splits and amount


def _of_splits(climbed: Ladder, rng, seed: int) -> Part | None:
    """Compare the accuracy within training, over folds, with that on other splits."""
    best = climbed.best
    counts = np.bincount(best.train.labels)
    if counts[counts > 0].min() < 5:
        return None
    fitted, _ = ladder.fit(best.train, seed)
    folds = StratifiedKFold(5, shuffle=True, random_state=0)
    values = read_all(best.train.inputs)
    with threadpool_limits(1):
        inside = cross_val_predict(
            probe.fit_with(fitted.kind, fitted.setting, best.train).pipeline,
            values,
            best.train.labels,
            cv=folds,
        )
    inside = inside == best.train.labels
    made = []
    for name in ("validation", "test"):
        part = getattr(best, name)
        outside = fitted.pipeline.predict(read_all(part.inputs)) == part.labels
        samples = _drawn(inside, rng) - _drawn(outside, rng)
        area = feature_checks.separability(
            read_all(climbed.reference.train.inputs),
            read_all(getattr(climbed.reference, name).inputs),
        )
        different = area >= _DIFFERENT
        evidence = (
            "With the best of the features, a classifier answers "
            f"{_percent(inside.mean())} of the training examples that it has not seen, "
            f"and {_percent(outside.mean())} of those of {name}; the images of the two "
            f"are told apart with an area under the ROC curve of {area:.2f}."
        )
        kind = "shift" if different else "labels"
        advice = ADVICE["shift"] if different else f"Look at the labels of {name}."
        made.append(Part(kind, np.maximum(samples, 0), evidence, advice))
    return max(made, key=lambda part: part.cost)


def _drawn(correct, rng):
    return rng.binomial(len(correct), correct.mean(), SAMPLES) / len(correct)


def _of_amount(climbed: Ladder, data: Splits, seed: int) -> Part:
    """Forecast what several times the examples would add."""
    best = climbed.best
    train = read_once(best.train)
    forecast = amount(train, best.validation, data.class_names, seed)
    count = len(train)
    evidence = (
        f"With {TIMES * count:,} training examples in place of {count:,}, the accuracy "
        f"of the best features is forecast to rise by {_percent(forecast.mean())}."
    )
    return Part("too little data", forecast, evidence, ADVICE["too little data"])


def amount(
    train: Split, validation: Split, class_names: tuple[str, ...], seed: int
) -> np.ndarray:
    """Return what `TIMES` the examples would add, in samples of a bootstrap."""
    sizes = tuple(dict.fromkeys(len(train) // n for n in (8, 4, 2, 1)))
    least = len(class_names)
    sizes = [size for size in sizes if size >= least]
    if len(sizes) < 3:
        sizes = sorted({least, (least + len(train)) // 2, len(train)})
    curve = learning_curve.measure(
        train, validation, class_names, sizes=sorted(sizes), seed=seed
    )
    forecast = learning_curve.forecast(curve, seed=seed)
    _, b, c = forecast.laws.T
    gains = b * (float(len(train)) ** -c - float(TIMES * len(train)) ** -c)
    gains = np.minimum(gains, 1 - forecast.reached)
    return np.resize(gains, SAMPLES)


def _percent(share: float) -> str:
    return f"{100 * share:.1f} %"


def rows(diagnosis: Diagnosis) -> list[Mapping]:
    """Return part, cost and interval of each, for tables."""
    return [
        {
            "part": part.name,
            "cost": part.cost,
            "low": part.interval[0],
            "high": part.interval[1],
            "evidence": part.evidence,
        }
        for part in diagnosis.parts
    ]
