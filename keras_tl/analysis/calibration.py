"""Probabilities that can be believed, and answers that are withheld.

Everything here is computed from logits and labels of validation examples; nothing
trains.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from scipy import special

from keras_tl import errors
from keras_tl.analysis import unlike

# How logits become an answer, by the activation that the manifest names.
ACTIVATIONS = {
    "softmax": lambda logits: special.softmax(logits, axis=-1),
    "sigmoid": special.expit,
    "linear": lambda logits: logits,
}
# Share of right answers that a run asks for, where nothing else is wanted.
PRECISION = 0.95
# Standard deviation of the logarithm of the temperature, before any example is seen.
_PRIOR = 0.5
# Temperatures are looked for between this and its inverse.
_LARGEST = 20.0
BINS = 15
# Fewest validation examples for which a threshold of abstaining is set, and fewest
# examples with and without a label for a threshold of its own.
FEWEST, FEWEST_OF_LABEL = 20, 5


def fit_temperature(logits: np.ndarray, labels: np.ndarray) -> float:
    """Compute the temperature by which logits are divided to be calibrated.

    It maximizes the likelihood of the labels, as in Guo et al., On Calibration of
    Modern Neural Networks, 2017, arXiv:1706.04599, times a log-normal prior around 1:
    few examples, which may all be right, change little.

    Args:
        logits: `(count, outputs)`.
        labels: Classes `(count,)`, or 0 and 1 for each label, `(count, outputs)`.

    Returns:
        Temperature above 0: above 1 for a model that is too sure. The most probable
        class never changes.

    >>> logits = np.array([[4.0, 0.0]] * 1000)
    >>> round(fit_temperature(logits, np.array([0] * 750 + [1] * 250)), 1)
    3.6
    """

    # Takes a fifth of a second, which who only predicts need not wait.
    from scipy import optimize

    def cost(log_temperature):
        scaled = logits / np.exp(log_temperature)
        if labels.ndim == 1:
            chosen = scaled[np.arange(len(labels)), labels]
            loss = (special.logsumexp(scaled, axis=1) - chosen).sum()
        else:
            loss = (np.logaddexp(0, scaled) - labels * scaled).sum()
        return loss + (log_temperature / _PRIOR) ** 2 / 2

    logits = np.asarray(logits, "float64")
    bounds = (-np.log(_LARGEST), np.log(_LARGEST))
    lowest = optimize.minimize_scalar(cost, bounds=bounds, method="bounded")
    return float(np.exp(lowest.x))


@dataclass(frozen=True, eq=False)
class Reliability:
    """How often answers are right, among those of about the same confidence.

    Attributes:
        confidence: Mean confidence of each bin that has answers, in [0, 1].
        accuracy: Share of right answers in each.
        count: Number of answers in each.
    """

    confidence: np.ndarray
    accuracy: np.ndarray
    count: np.ndarray

    @property
    def error(self) -> float:
        """Expected calibration error: the mean distance of the two, in [0, 1]."""
        distances = np.abs(self.confidence - self.accuracy)
        return float((distances * self.count).sum() / self.count.sum())


def reliability(
    confidence: np.ndarray, correct: np.ndarray, *, bins: int = BINS
) -> Reliability:
    """Compare the confidence of answers with how often they are right.

    Bins of equal width, as in Guo et al., 2017, arXiv:1706.04599.

    Args:
        confidence: Probability of each answer, `(count,)`, in [0, 1].
        correct: Whether each is right.
        bins: Number of bins.

    >>> confidence = np.array([0.9, 0.9, 0.6, 0.6])
    >>> round(reliability(confidence, np.array([1, 1, 1, 0])).error, 3)
    0.1
    """
    errors.check_at_least("bins", bins, 1)
    place = np.minimum((confidence * bins).astype("int64"), bins - 1)
    count = np.bincount(place, minlength=bins)
    used = count > 0
    means = [
        np.bincount(place, values, minlength=bins)[used] / count[used]
        for values in (confidence, correct)
    ]
    return Reliability(*means, count[used])


@dataclass(frozen=True)
class Abstaining:
    """From which confidence on a model answers.

    Attributes:
        precision: Share of right answers that was asked for, in (0, 1].
        threshold: Least confidence of an answer, in [0, 1].
        coverage: Share of the validation examples that are answered.
    """

    precision: float
    threshold: float
    coverage: float


def abstain(
    confidence: np.ndarray, correct: np.ndarray, precision: float
) -> Abstaining | None:
    """Choose the confidence from which on enough answers are right.

    The lowest threshold at which the answers of validation have the wanted precision,
    see Geifman and El-Yaniv, Selective Classification for Deep Neural Networks, 2017,
    arXiv:1705.08500. On other examples the precision varies around it.

    Args:
        confidence: Probability of each answer, `(count,)`.
        correct: Whether each is right.
        precision: Wanted share of right answers, in (0, 1].

    Returns:
        `None` where no threshold reaches it, or for fewer than 20 examples.

    >>> abstain(np.linspace(0, 1, 100), np.arange(100) >= 60, 0.8).coverage
    0.5
    """
    if not 0 < precision <= 1:
        raise errors.expected("precision", "be in (0, 1]", precision)
    if len(confidence) < FEWEST:
        return None
    order = np.argsort(-confidence, kind="stable")
    ordered = confidence[order]
    share = np.cumsum(np.asarray(correct, "float64")[order]) / np.arange(
        1, len(order) + 1
    )
    # Equal confidences are answered together.
    last = np.append(ordered[1:] < ordered[:-1], True)
    reached = np.flatnonzero(last & (share >= precision))
    if not len(reached):
        return None
    end = reached[-1]
    threshold = 0.0 if end == len(order) - 1 else float(ordered[end])
    return Abstaining(precision, threshold, (int(end) + 1) / len(order))


def label_thresholds(probabilities: np.ndarray, labels: np.ndarray) -> list[float]:
    """Choose the probability from which on each label is taken to be there.

    The one with the highest F1 on validation; 0.5 for a label that fewer than 5
    examples have, or lack.

    Args:
        probabilities: `(count, labels)`.
        labels: 0 and 1, of the same shape.

    >>> columns = np.array([[0.1, 0.2, 0.3, 0.4]]).T.repeat(5, axis=0)
    >>> label_thresholds(columns, columns > 0.25)
    [0.25]
    """
    thresholds = []
    for values, truth in zip(probabilities.T, np.asarray(labels, bool).T, strict=True):
        if min(truth.sum(), (~truth).sum()) < FEWEST_OF_LABEL:
            thresholds.append(0.5)
            continue
        distinct = np.unique(values)
        # Between two values, so that rounding cannot decide.
        cuts = np.append((distinct[1:] + distinct[:-1]) / 2, distinct[0])
        hits = [(truth & (values >= cut)).sum() for cut in cuts]
        named = [(values >= cut).sum() for cut in cuts]
        f1 = 2 * np.array(hits) / (truth.sum() + np.array(named))
        thresholds.append(float(cuts[f1.argmax()]))
    return thresholds


@dataclass(frozen=True)
class Rules:
    """How the logits of a run become answers; its `answers.json` holds them.

    Attributes:
        temperature: What logits are divided by.
        abstain: From which confidence on the model answers; always if `None`.
        thresholds: Of several labels, the probability from which on each is there.
        unlike: Distance from which on an example is unlike the training examples, see
            `unlike.distance`.
    """

    temperature: float = 1.0
    abstain: Abstaining | None = None
    thresholds: Sequence[float] | None = None
    unlike: float | None = None

    @classmethod
    def of(cls, kept: object) -> "Rules":
        """Read the rules that `dataclasses.asdict` has made values for JSON of.

        Raises:
            InputError: Something else.
        """
        try:
            abstain = kept.get("abstain")
            rules = cls(**{**kept, "abstain": abstain and Abstaining(**abstain)})
            right = 0 < float(rules.temperature) < np.inf
        except (AttributeError, TypeError, ValueError):
            right = False
        if not right:
            raise errors.expected("answers", "be what a run saves", kept)
        return rules

    def values(self, logits: np.ndarray, activation: str) -> np.ndarray:
        """Return calibrated answers, float32 of the shape of `logits`."""
        if activation == "linear":
            return logits
        values = ACTIVATIONS[activation](logits / self.temperature)
        return values.astype("float32")

    def present(self, values: np.ndarray) -> np.ndarray:
        """Return which of several labels are there, bool, by their probabilities."""
        return values >= (0.5 if self.thresholds is None else np.array(self.thresholds))

    def confidence(
        self, logits: np.ndarray, labels: np.ndarray
    ) -> tuple[np.ndarray, np.ndarray]:
        """Return the probability of each answer of a classifier, and if it is right.

        Args:
            logits: `(count, outputs)`.
            labels: Classes `(count,)`; or 0 and 1, `(count, outputs)`: then each is an
                answer of its own, that the label is there.
        """
        if labels.ndim == 1:
            values = self.values(logits, "softmax")
            return values.max(axis=1), values.argmax(axis=1) == labels
        values = self.values(logits, "sigmoid")
        return values.ravel(), np.asarray(labels, bool).ravel()


def rules_of(
    logits: np.ndarray,
    labels: np.ndarray,
    activation: str,
    *,
    precision: float = PRECISION,
    distances: np.ndarray | None = None,
) -> Rules:
    """Choose the rules of a model by its validation examples.

    Args:
        logits: `(count, outputs)`.
        labels: Classes, rows of labels, or numbers.
        activation: "softmax", "sigmoid" or "linear".
        precision: Wanted share of right answers, in (0, 1].
        distances: Distance of each to the training examples, if it is known.
    """
    limit = None if distances is None else unlike.threshold(distances)
    if activation == "linear":
        return Rules(unlike=limit)
    temperature = fit_temperature(logits, labels)
    rules = Rules(temperature, unlike=limit)
    if activation == "sigmoid":
        values = rules.values(logits, activation)
        return replace(rules, thresholds=label_thresholds(values, labels))
    confidence, correct = rules.confidence(logits, labels)
    return replace(rules, abstain=abstain(confidence, correct, precision))


@dataclass(frozen=True)
class Judgement:
    """What the rules of a model do on examples that they were not chosen by.

    Attributes:
        rules: The rules.
        before: Reliability with a temperature of 1.
        after: Reliability with that of the rules.
        count: Number of examples.
        answered: How many of them the model answers.
        right: How many of these answers are right.
    """

    rules: Rules
    before: Reliability
    after: Reliability
    count: int
    answered: int
    right: int

    def as_dict(self) -> dict:
        """Return all numbers as plain values for JSON."""
        abstain = self.rules.abstain
        return {
            "temperature": self.rules.temperature,
            "error_before": self.before.error,
            "error_after": self.after.error,
            "precision_wanted": abstain.precision if abstain else None,
            "threshold": abstain.threshold if abstain else None,
            "coverage": self.answered / self.count,
            "precision": self.right / self.answered if self.answered else None,
        }

    @property
    def curves(self) -> dict[str, tuple[np.ndarray, np.ndarray, np.ndarray]]:
        """Name -> what `figures.reliability` draws."""
        pairs = {"as trained": self.before, "with temperature": self.after}
        return {
            name: (one.confidence, one.accuracy, one.count)
            for name, one in pairs.items()
        }

    @property
    def sentences(self) -> list[str]:
        """What the rules do, for people."""
        texts = [
            f"Expected calibration error on the test split: {self.before.error:.3f}, "
            f"with the temperature {self.rules.temperature:.2f} that validation chose "
            f"{self.after.error:.3f}."
        ]
        abstain = self.rules.abstain
        if abstain is None and self.rules.thresholds is None:
            texts.append(
                "The model always answers, and never says that it is not sure: for "
                f"that at least {FEWEST} validation examples are needed, the most "
                f"confident of which have a precision of {PRECISION:g}."
            )
        if abstain is not None:
            share = 100 * self.right / max(1, self.answered)
            if abstain.threshold:
                texts.append(
                    f"With a confidence of at least {abstain.threshold:.2f}, chosen "
                    f"for a precision of {abstain.precision:g} on validation, the "
                    f"model answers {self.answered:,} of {self.count:,} test examples, "
                    f"and {share:.1f} % of these answers are right."
                )
            else:
                texts.append(
                    f"On validation at least {abstain.precision:g} of all answers were "
                    "right without abstaining, so the model never says that it is not "
                    f"sure; of {self.count:,} test examples {share:.1f} % are right."
                )
        return texts


def judge(rules: Rules, logits: np.ndarray, labels: np.ndarray) -> Judgement:
    """Measure the rules of a classifier on test examples.

    Args:
        rules: The rules.
        logits: `(count, outputs)`.
        labels: Classes, or rows of labels.
    """
    before, after = (
        reliability(*one.confidence(logits, labels)) for one in (Rules(), rules)
    )
    confidence, correct = rules.confidence(logits, labels)
    answered = confidence >= (rules.abstain.threshold if rules.abstain else 0.0)
    return Judgement(
        rules,
        before,
        after,
        len(answered),
        int(answered.sum()),
        int(correct[answered].sum()),
    )
