"""Learning curves: accuracy by the number of training examples, and its forecast.

A linear classifier is fitted to frozen features of more and more training examples, and
a power law to its errors: how many more examples does an accuracy need, and of which
classes?
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace

import keras
import numpy as np

from keras_tl import errors, progress
from keras_tl.analysis import evaluation, probe
from keras_tl.data.sources import read_all
from keras_tl.data.splits import Split, Splits, read_once
from keras_tl.models import freezing, heads
from keras_tl.training import phases

# Points of a curve, and draws of examples at each.
POINTS, REPEATS = 7, 5
# The classifier; most and fewest examples that choose its regularization.
_KIND = probe.LINEAR["single-label"]
_SELECTING, _FEWEST = 500, 20
# The regularization where no examples choose it.
_SETTING = 0.01
# Exponents of the power law to choose from.
_EXPONENTS = np.linspace(0.05, 1.5, 30)
# Samples of the bootstrap, and the share of them in an interval.
_SAMPLES, LEVEL = 500, 0.9
# How many times the measured examples a forecast goes to.
FARTHEST = 100


@dataclass(frozen=True, eq=False)
class Curve:
    """Which validation examples were answered correctly, by the training examples.

    Attributes:
        sizes: Numbers of training examples, ascending.
        correct: For each size, bool `(repeats, examples)`; all training examples can be
            drawn once only.
        labels: Class of each validation example, `(examples,)`.
        class_names: One for each class.
        counts: Number of training examples of each class at the largest size.
    """

    sizes: tuple[int, ...]
    correct: tuple[np.ndarray, ...] = field(repr=False)
    labels: np.ndarray = field(repr=False)
    class_names: tuple[str, ...] = field(repr=False)
    counts: tuple[int, ...] = field(repr=False)

    def rows(self) -> list[dict]:
        """Return size, mean accuracy, lowest, highest and number of draws of each."""
        rows = []
        for size, correct in zip(self.sizes, self.correct, strict=True):
            each = correct.mean(axis=1)
            row = {"examples": size, "accuracy": float(each.mean())}
            row |= {"low": float(each.min()), "high": float(each.max())}
            rows.append(row | {"draws": len(each)})
        return rows

    def until(self, size: int) -> "Curve":
        """Return the curve without the sizes above one."""
        kept = [n for n, one in enumerate(self.sizes) if one <= size]
        return Curve(
            tuple(self.sizes[n] for n in kept),
            tuple(self.correct[n] for n in kept),
            self.labels,
            self.class_names,
            self.counts,
        )


def sizes_of(count: int, num_classes: int, points: int = POINTS) -> tuple[int, ...]:
    """Return numbers of examples to train on, each about twice the one before.

    Args:
        count: Number of training examples; the last of the sizes.
        num_classes: Number of classes; the first size has at least two of each.
        points: Most sizes.

    Raises:
        InputError: There are too few examples for three sizes.

    >>> sizes_of(1600, 10)
    (25, 50, 100, 200, 400, 800, 1600)
    """
    errors.check_at_least("points", points, 3)
    smallest = max(2 * num_classes, 6)
    if count < 3 * smallest:
        raise errors.InputError(
            f"A learning curve needs at least {3 * smallest} training examples, "
            f"{smallest} for its first point. Received: {count}."
        )
    first = max(smallest, count / 2 ** (points - 1))
    made = np.geomspace(first, count, points).round().astype(int)
    return tuple(int(size) for size in dict.fromkeys(made))


# From training examples, and those in no draw, to the answers for validation.
Learn = Callable[[Split, Split], np.ndarray]


def measure(
    train: Split,
    validation: Split,
    class_names: Sequence[str],
    *,
    sizes: Sequence[int] | None = None,
    repeats: int = REPEATS,
    seed: int = 0,
    learn: Learn | None = None,
) -> Curve:
    """Train on more and more examples, and judge each training on validation.

    Of each size several draws are made, each with the classes in the proportions of all
    training examples; a smaller draw is part of a larger one. The examples of
    validation choose nothing, and no training has seen them.

    Args:
        train: Features `(count, features)` with single labels; or what `learn` takes.
        validation: The same, of other examples.
        class_names: One for each class.
        sizes: Numbers of training examples, ascending; by default those of `sizes_of`.
        repeats: Number of draws of each size, at least 2.
        seed: Seed of the draws.
        learn: How to train; `linear` if `None`.

    Raises:
        InputError: Labels of another task, or too few examples.
    """
    for part in (train, validation):
        if part.labels.ndim != 1:
            raise errors.expected("labels", "be one class each", part.labels.shape)
    errors.check_at_least("repeats", repeats, 2)
    counts = np.bincount(train.labels, minlength=len(class_names))
    if counts.min() < 2:
        raise errors.InputError(
            f"A learning curve needs at least 2 training examples of each class. "
            f"{class_names[int(counts.argmin())]!r} has {counts.min()}."
        )
    if learn is None:
        train, validation = read_once(train), read_once(validation)
        learn = linear(validation)
    sizes = sizes_of(len(train), len(class_names)) if sizes is None else tuple(sizes)
    orders = [drawing_order(train.labels, seed + n) for n in range(repeats)]
    draws = [(s, n) for s in sizes for n in range(1 if s == len(train) else repeats)]
    correct: dict[int, list] = {size: [] for size in sizes}
    for size, number in progress.track(draws, "learning curve", len(draws)):
        part = train.take(np.sort(orders[number][:size]))
        rest = train.take(np.sort(orders[number][size:][:_SELECTING]))
        correct[size].append(learn(part, rest) == validation.labels)
    return Curve(
        sizes,
        tuple(np.array(rows) for rows in correct.values()),
        np.asarray(validation.labels),
        tuple(class_names),
        tuple(int(count) for count in counts),
    )


def linear(validation: Split) -> Learn:
    """Return a function that fits a logistic regression to features.

    The examples that are in no draw choose the regularization, once for each number of
    training examples; where there are few of them, that of the number before is taken.

    Args:
        validation: Features that are answered.
    """
    values = read_all(validation.inputs)
    settings: dict[int, float] = {}

    def learn(part, rest):
        size = len(part)
        if size not in settings:
            if len(rest) >= _FEWEST or (len(rest) and not settings):
                settings[size] = probe.fit(_KIND, part, rest).setting
            else:
                settings[size] = [_SETTING, *settings.values()][-1]
        return probe.fit_with(_KIND, settings[size], part).pipeline.predict(values)

    return learn


# Epochs of the head, and of the blocks after it, for each draw of `fine_tuned`.
_HEAD_EPOCHS, _EPOCHS, _QUARTER = 30, 5, 4


def fine_tuned(
    load: Callable[[], keras.Model],
    validation: Split,
    class_names: Sequence[str],
    setup: phases.Setup,
) -> Learn:
    """Return a function that trains a head, and then the last quarter of the blocks.

    The examples that are in no draw choose the epoch; where there are few of them, the
    last epoch is taken.

    Args:
        load: Loads the backbone, with the same weights each time.
        validation: Examples that are answered.
        class_names: One for each class.
        setup: How to train.
    """

    def learn(part, rest):
        keras.utils.set_random_seed(setup.seed)
        model = heads.attach(load(), len(class_names))
        few = len(rest) < _FEWEST
        chosen = replace(setup, choose_by="last" if few else setup.choose_by)
        selecting = part if few else rest
        data = Splits(part, selecting, selecting, tuple(class_names), "A draw.")
        freezing.unfreeze_head(model)
        phases.fit(model, data, chosen, phases.Phase(_HEAD_EPOCHS))
        blocks = len(freezing.blocks(model))
        freezing.unfreeze_blocks(model, max(1, blocks // _QUARTER))
        phases.fit(model, data, chosen, phases.fine_tuning(_EPOCHS))
        return evaluation.predict(model, validation).argmax(axis=1)

    return learn


def drawing_order(labels: np.ndarray, seed: int) -> np.ndarray:
    """Return an order in which every beginning has the classes in their proportions.

    Args:
        labels: Class of each example, `(count,)`.
        seed: Seed of the order.

    Returns:
        Indices `(count,)`. The first ones are one example of each class.

    >>> order = drawing_order(np.array([0] * 6 + [1] * 3), 0)
    >>> sorted(np.array([0] * 6 + [1] * 3)[order[:3]].tolist())
    [0, 0, 1]
    """
    rng = np.random.default_rng(seed)
    places = np.empty(len(labels))
    for label in np.unique(labels):
        members = rng.permutation(np.flatnonzero(labels == label))
        places[members] = (np.arange(len(members)) + rng.random()) / len(members)
        places[members[0]] -= 1  # Before all others.
    return np.argsort(places, kind="stable")


@dataclass(frozen=True, eq=False)
class Forecast:
    """Power laws that the points of a curve allow: error = a + b * examples^-c.

    Attributes:
        laws: float `(samples, 3)`: a, b and c of each sample of the bootstrap.
        noise: Deviation of the accuracy between draws of one size.
        measured: Largest size that was measured.
        reached: Accuracy that was measured with it, in [0, 1].
    """

    laws: np.ndarray = field(repr=False)
    noise: float
    measured: int
    reached: float

    def accuracy(self, examples: int, seed: int = 0) -> tuple[float, float, float]:
        """Return the accuracy that a number of training examples would give.

        Args:
            examples: At least 1.
            seed: Seed of the noise of a draw.

        Returns:
            The median, and the ends of a 90 % interval for the accuracy of one training
            with so many examples, all in [0, 1].
        """
        errors.check_at_least("examples", examples, 1)
        a, b, c = self.laws.T
        noise = np.random.default_rng(seed).normal(0, self.noise, len(a))
        reached = 1 - a - b * float(examples) ** -c
        low, high = np.quantile((reached + noise).clip(0, 1), _ends())
        return float(np.median(reached).clip(0, 1)), float(low), float(high)

    def examples_for(self, accuracy: float) -> tuple[float, float, float]:
        """Return how many training examples an accuracy needs.

        Args:
            accuracy: In (0, 1).

        Returns:
            The median, and the ends of a 90 % interval; infinity where the power law
            never reaches it.
        """
        if not 0 < accuracy < 1:
            raise errors.expected("accuracy", "be in (0, 1)", accuracy)
        a, b, c = self.laws.T
        room = 1 - accuracy - a
        with np.errstate(divide="ignore", over="ignore"):
            needed = np.where(
                room > 0, (b / np.where(room > 0, room, 1)) ** (1 / c), np.inf
            )
        needed = np.maximum(needed, 1)
        # An infinite one cannot be interpolated: take those that are there.
        low, middle, high = np.quantile(
            needed, [_ends()[0], 0.5, _ends()[1]], method="nearest"
        )
        return float(middle), float(low), float(high)

    def ahead(self, first: int, times: int = 10) -> list[tuple[float, ...]]:
        """Return what `figures.learning_curve` draws of the forecast.

        Args:
            first: Number of examples to begin with.
            times: How many times the measured examples to go to.

        Returns:
            Number of examples, accuracy, and the ends of its interval, of 40 points.
        """
        examples = np.geomspace(first, times * self.measured, 40)
        return [(one, *self.accuracy(int(one))) for one in examples]

    def sentence(self, accuracy: float) -> str:
        """Return a sentence that names how many examples an accuracy needs."""
        middle, low, high = self.examples_for(accuracy)
        wanted = f"{100 * accuracy:g} %"
        most = FARTHEST * self.measured
        if self.reached >= accuracy:
            return (
                f"{wanted} are reached with the {self.measured:,} examples there are."
            )
        if low > most:
            return (
                f"{wanted} are out of reach: even {most:,} training examples, "
                f"{FARTHEST} times as many, would not give them with this backbone, "
                "frozen."
            )
        # The power law can reach earlier what was not reached yet.
        low, middle = max(low, self.measured), max(middle, self.measured)
        ends = [f"{_rounded(low):,}"]
        ends.append(f"{_rounded(high):,}" if high <= most else f"more than {most:,}")
        about = f"about {_rounded(middle):,}" if middle <= most else f"over {most:,}"
        return (
            f"{wanted} need {about} training examples (90 % interval {ends[0]} to "
            f"{ends[1]}); there are {self.measured:,}."
        )


def _ends():
    return [(1 - LEVEL) / 2, (1 + LEVEL) / 2]


def _rounded(number) -> int:
    """Round to two digits: nobody knows more.

    >>> _rounded(1234.5), _rounded(7)
    (1200, 7)
    """
    digits = max(0, int(np.floor(np.log10(max(number, 1)))) - 1)
    return int(round(number, -digits))


def forecast(curve: Curve, *, seed: int = 0) -> Forecast:
    """Fit power laws to a curve, with what other draws would change.

    A sample of the bootstrap draws the repeats of each size and the validation examples
    anew,
    and fits error = a + b * examples^-c to the means, with a, b at least 0 and larger
    sizes weighted more.

    Args:
        curve: At least 3 sizes.
        seed: Seed of the bootstrap.

    Raises:
        InputError: Fewer than 3 sizes.

    Reference:
        Hestness et al., "Deep learning scaling is predictable, empirically", 2017,
        arXiv:1712.00409; Figueroa et al., "Predicting sample size required for
        classification performance", 2012, https://doi.org/10.1186/1472-6947-12-8, for
        the weights; Mahmood et al., "How much more data do I need?", 2022,
        arXiv:2207.01725, for how wrong extrapolation can be.
    """
    errors.check_at_least("len(curve.sizes)", len(curve.sizes), 3)
    rng = np.random.default_rng(seed)
    count = len(curve.labels)
    sampled = np.empty((_SAMPLES, len(curve.sizes)))
    for row in sampled:
        weights = rng.multinomial(count, np.full(count, 1 / count)) / count
        for place, correct in enumerate(curve.correct):
            repeats = rng.integers(len(correct), size=len(correct))
            row[place] = 1 - (correct[repeats] @ weights).mean()
    several = [correct.mean(axis=1) for correct in curve.correct if len(correct) > 1]
    noise = np.sqrt(np.mean([each.var(ddof=1) for each in several[-2:]]))
    laws = power_laws(np.array(curve.sizes), sampled)
    reached = float(curve.correct[-1].mean())
    return Forecast(laws, float(noise), curve.sizes[-1], reached)


def power_laws(sizes: np.ndarray, error_rates: np.ndarray) -> np.ndarray:
    """Fit error = a + b * size^-c to the error rates of several samples.

    Args:
        sizes: `(points,)`, each at least 1.
        error_rates: `(samples, points)`, in [0, 1].

    Returns:
        a, b and c of each sample, `(samples, 3)`: by least squares, weighted with the
        square root of the size, over a grid of exponents c, with a and b at least 0.

    >>> sizes = np.array([10, 100, 1000])
    >>> power_laws(sizes, 0.1 + 0.8 * sizes[None] ** -0.5).round(2).tolist()
    [[0.1, 0.8, 0.5]]
    """
    weights = np.sqrt(sizes) / np.sqrt(sizes).sum()
    best = np.full(len(error_rates), np.inf)
    laws = np.zeros((len(error_rates), 3))
    for exponent in _EXPONENTS:
        x = sizes.astype(float) ** -exponent
        mean_x, mean_y = weights @ x, error_rates @ weights
        centred = x - mean_x
        slope = error_rates @ (weights * centred) / (weights @ centred**2)
        constant = mean_y - slope * mean_x
        # At the edge of what is allowed: no constant, or no slope.
        alone = error_rates @ (weights * x) / (weights @ x**2)
        for a, b in (
            (constant, slope),
            (np.zeros_like(alone), alone),
            (mean_y, np.zeros_like(alone)),
        ):
            apart = error_rates - a[:, None] - b[:, None] * x
            cost = np.where((a >= 0) & (b >= 0), apart**2 @ weights, np.inf)
            better = cost < best - 1e-15
            best = np.where(better, cost, best)
            laws[better] = np.stack([a, b, np.full_like(a, exponent)], axis=1)[better]
    return laws


def classes(curve: Curve, *, seed: int = 0) -> list[dict]:
    """Compute which classes gain most from more examples.

    Args:
        curve: At least 3 sizes.
        seed: Seed of the bootstrap.

    Returns:
        One row for each class, the largest expected gain first: its name, its training
        examples, its accuracy now, and `gain`, what twice the examples of all classes
        would add to it, with the ends of a 90 % interval, `low` and `high`; `None` for
        classes without a validation example.
    """
    rows = []
    for number, name in enumerate(curve.class_names):
        members = curve.labels == number
        row = {"class": name, "examples": curve.counts[number]}
        if not members.any():
            rows.append(row | dict.fromkeys(("accuracy", "gain", "low", "high")))
            continue
        part = Curve(
            curve.sizes,
            tuple(correct[:, members] for correct in curve.correct),
            curve.labels[members],
            curve.class_names,
            curve.counts,
        )
        _, b, c = forecast(part, seed=seed).laws.T
        largest = float(curve.sizes[-1])
        row["accuracy"] = float(part.correct[-1].mean())
        gains = b * (largest**-c - (2 * largest) ** -c)
        gains = np.minimum(gains, 1 - row["accuracy"])  # Nobody is right more often.
        low, middle, high = np.quantile(gains, [_ends()[0], 0.5, _ends()[1]])
        rows.append(row | {"gain": middle, "low": low, "high": high})
    return sorted(rows, key=lambda row: -(row["gain"] or 0))
