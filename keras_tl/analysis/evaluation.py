"""Evaluate classifiers: metrics with intervals, and paired tests between two."""

import itertools
import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from functools import cached_property
from typing import TYPE_CHECKING

import numpy as np
from matplotlib.figure import Figure
from scipy import special, stats
from sklearn import metrics

from keras_tl import errors
from keras_tl.analysis import figures
from keras_tl.data.splits import UNKNOWN, Split
from keras_tl.training import features

if TYPE_CHECKING:
    import keras


def predict(model: "keras.Model", split: Split, *, batch_size: int = 64) -> np.ndarray:
    """Compute the outputs of every example, in the order of the split, in one pass.

    Returns:
        float32 array `(len(split), num_classes)`.

    Raises:
        InputError: Some logits are NaN or infinite.
    """
    return checked_logits(features.run(model, split.inputs, batch_size))


def accuracy(model: "keras.Model", split: Split) -> float:
    """Compute the share of a split's examples that `model` classifies correctly.

    In [0, 1]; `evaluate` measures more, for a result that is to be reported.

    Raises:
        InputError: Some logits are NaN or infinite.
    """
    return float((predict(model, split).argmax(1) == split.labels).mean())


def softmax(logits: np.ndarray) -> np.ndarray:
    """Compute probabilities from logits along the last axis, without overflow.

    >>> softmax(np.array([[1000.0, 1000.0], [0.0, np.log(3.0)]])).round(2).tolist()
    [[0.5, 0.5], [0.25, 0.75]]
    """
    powers = np.exp(logits - np.max(logits, axis=-1, keepdims=True))
    return powers / powers.sum(axis=-1, keepdims=True)


def bootstrap_interval(
    values: np.ndarray, *, seed: int = 0, resamples: int = 2000, level: float = 0.95
) -> tuple[float, float]:
    """Compute an interval of the mean over other samples of the same kind.

    The percentile bootstrap of B. Efron, R. J. Tibshirani, An Introduction to the
    Bootstrap, 1993, chapter 13: draw as many of `values` `(count,)` as there are,
    with replacement, take the mean, repeat. The middle `level` of the means is the
    interval. Equal values have an interval of width 0.

    >>> bootstrap_interval(np.array([0, 1] * 50))
    (0.4, 0.6)
    """
    values = _checked_numbers(values)
    # A resample is known by how often it drew each value. Right and wrong are two
    # values, so this is one binomial number instead of `count` indices.
    distinct, counts = np.unique(values, return_counts=True)
    draw = np.random.default_rng(seed).multinomial
    share = counts / len(values)
    sums = [draw(len(values), share) @ distinct for _ in range(resamples)]
    low, high = np.quantile(sums, [(1 - level) / 2, (1 + level) / 2]) / len(values)
    return float(low), float(high)


def wilson_interval(right: int, count: int) -> tuple[float, float]:
    """Compute an interval of a share over other samples of the same kind.

    The 95 % score interval of Wilson, 1927, https://doi.org/10.2307/2276774, which has
    a width also where all are right.

    >>> [round(end, 3) for end in wilson_interval(145, 153)]
    [0.9, 0.973]
    """
    test = stats.binomtest(right, count)
    return tuple(float(end) for end in test.proportion_ci(0.95, method="wilson"))


def exact_interval(right: int, count: int) -> tuple[float, float]:
    """Compute an interval of a share that holds for any number of examples.

    The 95 % interval of Clopper and Pearson, 1934, https://doi.org/10.2307/2331986,
    which is never too narrow, as that of Wilson can be for a handful of examples.

    >>> [round(end, 3) for end in exact_interval(2, 2)]
    [0.158, 1.0]
    """
    test = stats.binomtest(right, count)
    return tuple(float(end) for end in test.proportion_ci(0.95, method="exact"))


def in_points(difference: float, interval: tuple[float, float]) -> str:
    """Return a difference of shares, with its 95 % interval, as text.

    >>> in_points(0.125, (-0.01, 0.26))
    '+12.5 points (95 % interval -1.0 to +26.0)'
    """
    low, high = (f"{100 * end:+.1f}" for end in interval)
    return f"{100 * difference:+.1f} points (95 % interval {low} to {high})"


def difference_interval(only_a: int, only_b: int, count: int) -> tuple[float, float]:
    """Compute an interval of the difference of two shares of the same examples.

    The 95 % interval of A. Agresti, Y. Min, Simple Improved Confidence Intervals for
    Comparing Matched Proportions, 2005, https://doi.org/10.1002/sim.1781, which has a
    width also where both models are right for the same examples.

    Args:
        only_a: Number of examples that only A gets right.
        only_b: Number of examples that only B gets right.
        count: Number of all examples.

    Returns:
        The ends of the interval of B's share minus A's, in [-1, 1].

    >>> [round(end, 3) for end in difference_interval(20, 30, 400)]
    [-0.01, 0.06]
    >>> [round(end, 3) for end in difference_interval(0, 0, 20)]
    [-0.089, 0.089]
    """
    only_a, only_b, count = only_a + 0.5, only_b + 0.5, count + 2
    difference = (only_b - only_a) / count
    deviation = np.sqrt(only_a + only_b - count * difference**2) / count
    half = stats.norm.ppf(0.975) * deviation
    return max(-1.0, float(difference - half)), min(1.0, float(difference + half))


def seed_summary(values: Sequence[float]) -> dict[str, float | list[float] | None]:
    """Summarise one number per seed.

    Returns:
        `n, mean, min, max`; `sd`, the standard deviation with n - 1; `interval`, the
        95 % t-interval of the mean. The last two are `None` for one seed.

    >>> seed_summary([0.5, 0.75])["mean"]
    0.625
    """
    values = _checked_numbers(values)
    count, mean = len(values), float(values.mean())
    summary = {"n": count, "mean": mean, "sd": None, "interval": None}
    summary |= {"min": float(values.min()), "max": float(values.max())}
    if count > 1:
        summary["sd"] = float(values.std(ddof=1))
        half = float(stats.t.ppf(0.975, count - 1)) * summary["sd"] / count**0.5
        summary["interval"] = [mean - half, mean + half]
    return summary


def pairs_interval(
    values: Mapping[tuple[str, str], float],
) -> tuple[float, float, float]:
    """Average a number for each pair of things, with an interval over the things.

    Pairs that share one are alike, so that there is less to learn from all pairs than
    from as many independent numbers: each thing is left out once (the jackknife).

    Args:
        values: A number for each pair.

    Returns:
        The mean over pairs, and its 95 % t-interval, whose ends are `nan` where no pair
        is left without one of the things.

    Reference:
        Arvesen, "Jackknifing U-statistics", 1969, Annals of Mathematical Statistics 40.

    >>> pairs = {("a", "b"): 0.5, ("a", "c"): 0.75, ("b", "c"): 1.0}
    >>> [round(value, 2) for value in pairs_interval(pairs)]
    [0.75, -0.49, 1.99]
    """
    numbers = _checked_numbers(list(values.values()))
    mean = float(numbers.mean())
    things = list(dict.fromkeys(itertools.chain.from_iterable(values)))
    without = [
        [value for pair, value in zip(values, numbers, strict=True) if one not in pair]
        for one in things
    ]
    count = len(things)
    if count < 3 or not all(without):
        return mean, math.nan, math.nan
    means = np.array([np.mean(rest) for rest in without])
    error = math.sqrt((count - 1) / count * float(np.sum((means - means.mean()) ** 2)))
    half = float(stats.t.ppf(0.975, count - 1)) * error
    return mean, mean - half, mean + half


@dataclass(frozen=True, eq=False)
class Evaluation:
    """Predictions of a classifier for labelled examples, and what follows from them.

    Attributes:
        labels: int32 `(count,)`, each in [0, num_classes).
        logits: float32 `(count, num_classes)`, finite.
        class_names: One per class, in the order of the labels.
        majority_baseline: Accuracy of always predicting the class that is most frequent
            in the training labels; `None` if those are not known.
        seed: Seed of the bootstrap.
    """

    labels: np.ndarray = field(repr=False)
    logits: np.ndarray = field(repr=False)
    class_names: tuple[str, ...]
    majority_baseline: float | None = None
    seed: int = 0

    metric = "accuracy"
    baseline_name = "majority class"

    @property
    def value(self) -> float:
        """The accuracy, which is what models are compared by."""
        return self.accuracy

    @property
    def interval(self) -> tuple[float, float]:
        """95 % interval of the accuracy."""
        return self.accuracy_interval

    @property
    def baseline(self) -> float | None:
        """Accuracy of always predicting the most frequent class."""
        return self.majority_baseline

    @property
    def scores(self) -> np.ndarray:
        """1 for each example that is predicted correctly, else 0."""
        return self.correct.astype("int64")

    @property
    def details(self) -> dict[str, str]:
        """Further numbers for people: name -> text."""
        f1, loss = self.macro["f1"], self.cross_entropy
        return {"macro F1": f"{f1:.3f}", "cross-entropy": f"{loss:.3f}"}

    @property
    def notes(self) -> list[str]:
        """Sentences that belong to the numbers."""
        return notes(self.per_class)

    mistakes_title = "Most confident mistakes"

    def format(self, value: float) -> str:
        """Return an accuracy as text, in percent."""
        return f"{100 * value:.1f} %"

    def difference(self, compared: "Comparison") -> str:
        """Return a difference of accuracies with its interval as text, in points."""
        return compared.in_points()

    def headline(self, noun: str) -> str:
        """Return the numbers behind the accuracy as text."""
        return f"{self.correct.sum():,} of {len(self.labels):,} test {noun}"

    def charts(self) -> list[tuple[Figure, str]]:
        """Draw the confusion matrix, and describe it."""
        figure = figures.confusion(self.confusion, self.class_names)
        return [(figure, f"Most often confused: {self._most_confused()}.")]

    def _most_confused(self) -> str:
        names, counts = self.class_names, self.confusion
        wrong = counts * (1 - np.eye(len(names), dtype=counts.dtype))
        order = np.argsort(-wrong, axis=None, kind="stable")[:3]
        pairs = [np.unravel_index(index, wrong.shape) for index in order]
        texts = [
            f"{names[true]} taken for {names[predicted]}, {wrong[true, predicted]:,} "
            f"of {counts[true].sum():,}"
            for true, predicted in pairs
            if wrong[true, predicted]
        ]
        return "; ".join(texts) or "nothing"

    def mistakes(self, count: int) -> list[tuple[int, str, str]]:
        """Find the wrong predictions with the highest probability, the highest first.

        Returns:
            Index of the example, prediction and true class as texts, at most `count`.
        """
        wrong = np.flatnonzero(~self.correct)
        # In float32 many would be exactly 1.
        highest = softmax(self.logits[wrong].astype("float64")).max(axis=1)
        order = np.argsort(-highest, kind="stable")[:count]
        return [
            (
                int(wrong[place]),
                f"{self.class_names[self.predictions[wrong[place]]]} "
                f"{100 * highest[place]:.1f} %",
                self.class_names[self.labels[wrong[place]]],
            )
            for place in order
        ]

    def answers(self) -> np.ndarray:
        """Return the probability of each class, float32 `(count, num_classes)`."""
        return softmax(self.logits)

    @cached_property
    def predictions(self) -> np.ndarray:
        """Most likely class of each example, int32 `(count,)`."""
        return self.logits.argmax(axis=1).astype("int32")

    @cached_property
    def correct(self) -> np.ndarray:
        """Whether each prediction is right, bool `(count,)`."""
        return self.predictions == self.labels

    @cached_property
    def accuracy(self) -> float:
        """Share of right predictions, in [0, 1]."""
        return float(self.correct.mean())

    @cached_property
    def accuracy_interval(self) -> tuple[float, float]:
        """95 % interval of the accuracy, over test images of the same kind."""
        return wilson_interval(int(self.correct.sum()), len(self.labels))

    @cached_property
    def cross_entropy(self) -> float:
        """Mean negative log probability of the true class, in nats."""
        logs = special.log_softmax(self.logits.astype("float64"), axis=1)
        return float(-logs[np.arange(len(logs)), self.labels].mean())

    @cached_property
    def confusion(self) -> np.ndarray:
        """Counts `(num_classes, num_classes)`; row = true class, column = predicted."""
        classes = range(len(self.class_names))
        return metrics.confusion_matrix(self.labels, self.predictions, labels=classes)

    @cached_property
    def per_class(self) -> list[dict[str, str | float | int]]:
        """Per class `name, precision, recall, f1, support`; 0 where undefined."""
        classes = range(len(self.class_names))
        scores = metrics.precision_recall_fscore_support(
            self.labels, self.predictions, labels=classes, zero_division=0
        )
        keys = ("name", "precision", "recall", "f1", "support")
        columns = [self.class_names, *(column.tolist() for column in scores)]
        return [dict(zip(keys, row, strict=True)) for row in zip(*columns, strict=True)]

    @property
    def macro(self) -> dict[str, float]:
        """Mean `precision, recall, f1` over classes with examples, each counting alike.

        A class without a test example has no recall: it would count as 0.
        """
        return macro(self.per_class)

    def top_k(self, k: int) -> float:
        """Compute the share of examples whose class is among the `k` most likely.

        Of equal logits the first counts as higher, as in `predictions`: a model that
        says nothing gets no credit, and `top_k(1)` is the accuracy.
        """
        if not 1 <= k <= len(self.class_names):
            raise errors.expected("k", f"be in [1, {len(self.class_names)}]", k)
        likely = np.argsort(-self.logits, axis=1, kind="stable")[:, :k]
        return float((likely == self.labels[:, None]).any(axis=1).mean())

    def as_dict(self) -> dict[str, object]:
        """Return all numbers ready for JSON; `top_k` from three classes on."""
        k = min(5, len(self.class_names) - 1)
        return {
            "count": len(self.labels),
            "accuracy": self.accuracy,
            "accuracy_interval": list(self.accuracy_interval),
            "majority_baseline": self.majority_baseline,
            "cross_entropy": self.cross_entropy,
            **({"top_k": {"k": k, "accuracy": self.top_k(k)}} if k > 1 else {}),
            "macro": self.macro,
            "per_class": self.per_class,
            "confusion": self.confusion.tolist(),
        }


def evaluate(
    labels: np.ndarray,
    logits: np.ndarray,
    class_names: Sequence[str],
    *,
    train_labels: np.ndarray | None = None,
    seed: int = 0,
) -> Evaluation:
    """Measure predictions for labelled examples, after checking them.

    Args and shapes are those of `Evaluation`; `train_labels`, the labels that the
    model learned from, decide which class the majority baseline predicts; -1 is none.

    >>> evaluation = evaluate([0, 1, 1, 1], [[2, 0], [0, 1], [3, 1], [0, 4]], "ab")
    >>> evaluation.accuracy, evaluation.confusion.tolist()
    (0.75, [[1, 0], [1, 2]])
    """
    labels = _checked_labels("labels", labels, len(class_names))
    logits = checked_logits(logits, (len(labels), len(class_names)))
    baseline = None
    if train_labels is not None:
        train_labels = np.asarray(train_labels)
        known = train_labels[train_labels != UNKNOWN]
        known = _checked_labels("train_labels", known, len(class_names))
        baseline = float(np.mean(labels == np.bincount(known).argmax()))
    return Evaluation(labels, logits, tuple(class_names), baseline, seed)


def macro(per_class: Sequence[Mapping]) -> dict[str, float]:
    """Average `precision, recall, f1` over the classes that have examples.

    Args:
        per_class: Rows with these and `support`, the number of examples.

    >>> row = {"precision": 1.0, "recall": 1.0, "f1": 1.0, "support": 3}
    >>> macro([row, dict.fromkeys(row, 0)])["f1"]
    1.0
    """
    rows = [row for row in per_class if row["support"]]
    keys = ("precision", "recall", "f1")
    return {key: float(np.mean([row[key] for row in rows])) for key in keys}


def notes(per_class: Sequence[Mapping]) -> list[str]:
    """Name the classes that have no examples, in a sentence, if there are any."""
    absent = [row["name"] for row in per_class if not row["support"]]
    if not absent:
        return []
    more = f" and {len(absent) - 10} more" if len(absent) > 10 else ""
    return [
        "Without a test example, and so left out of macro averages: "
        f"{', '.join(absent[:10])}{more}."
    ]


@dataclass(frozen=True)
class Comparison:
    """Model B compared with model A, on the same examples.

    Attributes:
        difference: Mean score of B minus mean score of A, such as of accuracies.
        interval: 95 % interval of the difference, see `compare`.
        only_a: Number of examples with a better score by A.
        only_b: Number of examples with a better score by B.
        p_value: Probability of so uneven a division of these by chance.
    """

    difference: float
    interval: tuple[float, float]
    only_a: int
    only_b: int
    p_value: float

    @property
    def verdict(self) -> str:
        """Result of the test of B against A, at the 5 % level, in words."""
        # Three digits where the verdict may hang on the third.
        text = f"= {self.p_value:.{2 if self.p_value >= 0.1 else 3}f}"
        text = "< .001" if self.p_value < 0.001 else text.replace("= 0.", "= .")
        if self.p_value >= 0.05:
            return f"no significant difference (p {text})"
        direction = "better" if self.difference > 0 else "worse"
        return f"significantly {direction} (p {text})"

    def in_points(self) -> str:
        """Return a difference of shares, with its interval, as text."""
        return in_points(self.difference, self.interval)

    def as_dict(self) -> dict[str, object]:
        """Return all numbers, and the verdict, as plain values for JSON."""
        return asdict(self) | {"interval": [*self.interval], "verdict": self.verdict}


def compare(a: Evaluation, b: Evaluation, *, seed: int = 0) -> Comparison:
    """Compare two models, as they are, on the same examples.

    For classifiers the exact test of Q. McNemar, Note on the Sampling Error of the
    Difference Between Correlated Proportions, 1947,
    https://doi.org/10.1007/BF02295996: if both are equally good, an example that only
    one gets right is a coin flip. Its fitness for classifiers, and that it ignores the
    spread between training runs: T. G. Dietterich, Approximate Statistical Tests for
    Comparing Supervised Classification Learning Algorithms, 1998,
    https://doi.org/10.1162/089976698300017197. For scores that are numbers it is the
    signed-rank test of F. Wilcoxon, Individual Comparisons by Ranking Methods, 1945,
    https://doi.org/10.2307/3001968, which weighs how large each difference is. The
    interval is that of `difference_interval`, and of a bootstrap for scores that are
    numbers.
    """
    if not np.array_equal(a.labels, b.labels):
        raise errors.InputError(
            "`a` and `b` must be evaluated on the same examples in the same order. "
            f"Received: different labels, {len(a.labels)} and {len(b.labels)} of them."
        )
    gain = b.scores - a.scores
    only_a, only_b = int((gain < 0).sum()), int((gain > 0).sum())
    # Two that are never right alone: nothing speaks against their being equal.
    both = only_a + only_b
    if np.isin(gain, (-1, 0, 1)).all():
        p_value = float(stats.binomtest(only_b, both).pvalue) if both else 1.0
        interval = difference_interval(only_a, only_b, len(gain))
    else:
        p_value = float(stats.wilcoxon(gain).pvalue)
        interval = bootstrap_interval(gain, seed=seed)
    return Comparison(float(gain.mean()), interval, only_a, only_b, p_value)


def holm(p_values: Sequence[float]) -> list[float]:
    """Correct p-values for the number of tests: at 5 %, one in 20 would come by chance.

    The step-down method of S. Holm, A Simple Sequentially Rejective Multiple Test
    Procedure, Scandinavian Journal of Statistics 6, 1979: where all below 0.05 are
    called significant, the probability of any wrong one is 5 % at most, however the
    tests depend on one another.

    Args:
        p_values: One for each test, in [0, 1].

    Returns:
        The corrected ones, in the same order.

    >>> [round(value, 3) for value in holm([0.01, 0.04, 0.03])]
    [0.03, 0.06, 0.06]
    """
    values = _checked_numbers(p_values)
    order = np.argsort(values, kind="stable")
    times = len(values) - np.arange(len(values))
    corrected = np.empty_like(values)
    corrected[order] = np.minimum(1, np.maximum.accumulate(times * values[order]))
    return corrected.tolist()


def _checked_numbers(values: Sequence[float]) -> np.ndarray:
    values = np.asarray(values, "float64")
    if values.ndim != 1 or not len(values) or not np.isfinite(values).all():
        raise errors.expected("values", "be a list of finite numbers", values)
    return values


def _checked_labels(argument: str, labels: np.ndarray, num_classes: int) -> np.ndarray:
    labels = np.asarray(labels)
    received = f"{labels.dtype} of shape {labels.shape}"
    if labels.ndim == 1 and labels.size and labels.dtype.kind in "iu":
        if labels.min() >= 0 and labels.max() < num_classes:
            return labels.astype("int32")
        received = f"labels from {labels.min()} to {labels.max()}"
    raise errors.InputError(
        f"`{argument}` must be integers (count,) in [0, {num_classes - 1}], for "
        f"{num_classes} classes. Received: {received}."
    )


def checked_logits(logits: np.ndarray, shape: tuple | None = None) -> np.ndarray:
    logits = np.asarray(logits, "float32")
    if shape and logits.shape != shape:
        raise errors.InputError(
            f"`logits` must have shape {shape}: a row for each label, a column for "
            f"each class name. Received: shape {logits.shape}."
        )
    bad = np.flatnonzero(~np.isfinite(logits).all(axis=-1))
    if len(bad):
        raise errors.InputError(
            f"`logits` must be finite. Received: NaN or infinity in {len(bad)} of "
            f"{errors.counted(len(logits), 'row')}, first in row {bad[0]}. If training "
            "diverged, lower the learning rate; with float16, use bfloat16 or float32."
        )
    return logits
