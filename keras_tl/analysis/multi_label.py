"""Evaluate models that predict several labels for each example."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cached_property

import numpy as np
from matplotlib.figure import Figure
from scipy import special
from sklearn import metrics

from keras_tl import errors
from keras_tl.analysis import evaluation


@dataclass(frozen=True, eq=False)
class Evaluation:
    """Predictions of several labels for each example, and what follows from them.

    A label is predicted where its probability is above one half.

    Attributes:
        labels: float32 `(count, labels)`, each 0 or 1.
        logits: float32 `(count, labels)`, finite.
        class_names: One for each label.
        baseline: Accuracy of predicting for each label what is more frequent in the
            training data; `None` if those are not known.
        seed: Seed of the bootstrap.
    """

    labels: np.ndarray = field(repr=False)
    logits: np.ndarray = field(repr=False)
    class_names: tuple[str, ...]
    baseline: float | None = None
    seed: int = 0

    metric = "accuracy"
    baseline_name = "majority of each label"

    @cached_property
    def scores(self) -> np.ndarray:
        """Share of the labels of each example that are predicted correctly."""
        return ((self.logits > 0) == (self.labels > 0.5)).mean(axis=1)

    @cached_property
    def value(self) -> float:
        """Share of all labels that are predicted correctly, in [0, 1]."""
        return float(self.scores.mean())

    @cached_property
    def interval(self) -> tuple[float, float]:
        """95 % bootstrap interval of the accuracy, over test examples.

        Where all labels are right, or all wrong, which a bootstrap would take for
        certain, that of Wilson.
        """
        if self.value in (0, 1):
            count = len(self.scores)
            return evaluation.wilson_interval(round(self.value * count), count)
        return evaluation.bootstrap_interval(self.scores, seed=self.seed)

    @cached_property
    def exact(self) -> float:
        """Share of the examples of which all labels are predicted correctly."""
        return float((self.scores == 1).mean())

    @cached_property
    def per_class(self) -> list[dict[str, str | float | int]]:
        """Per label `name, precision, recall, f1, support`; 0 where undefined."""
        scores = metrics.precision_recall_fscore_support(
            self.labels > 0.5, self.logits > 0, zero_division=0
        )
        keys = ("name", "precision", "recall", "f1", "support")
        columns = [self.class_names, *(column.tolist() for column in scores)]
        return [dict(zip(keys, row, strict=True)) for row in zip(*columns, strict=True)]

    @property
    def details(self) -> dict[str, str]:
        """Further numbers for people: name -> text."""
        f1 = evaluation.macro(self.per_class)["f1"]
        return {"all labels correct": f"{self.exact:.3f}", "macro F1": f"{f1:.3f}"}

    @property
    def notes(self) -> list[str]:
        """Sentences that belong to the numbers."""
        return evaluation.notes(self.per_class)

    mistakes_title = "Examples with the most wrong labels"

    def format(self, value: float) -> str:
        """Return an accuracy as text, in percent."""
        return f"{100 * value:.1f} %"

    def difference(self, compared: evaluation.Comparison) -> str:
        """Return a difference of accuracies with its interval as text, in points."""
        return compared.in_points()

    def headline(self, noun: str) -> str:
        """Return the numbers behind the accuracy as text."""
        return (
            f"mean over {errors.counted(len(self.class_names), 'label')} of "
            f"{len(self.labels):,} {noun}"
        )

    def charts(self) -> list[tuple[Figure, str]]:
        """Draw nothing: the table of labels has all."""
        return []

    def mistakes(self, count: int) -> list[tuple[int, str, str]]:
        """Find the examples with the most wrong labels, the worst first.

        Returns:
            Index of the example, predicted and true labels as texts, at most `count`.
        """
        order = np.argsort(self.scores, kind="stable")[:count]
        return [
            (
                int(index),
                self._names(self.logits[index] > 0),
                self._names(self.labels[index] > 0.5),
            )
            for index in order
            if self.scores[index] < 1
        ]

    def _names(self, chosen) -> str:
        names = [
            name for name, one in zip(self.class_names, chosen, strict=True) if one
        ]
        return ", ".join(names) or "none"

    def as_dict(self) -> dict[str, object]:
        """Return all numbers as plain values for JSON."""
        return {
            "count": len(self.labels),
            "accuracy": self.value,
            "accuracy_interval": list(self.interval),
            "majority_baseline": self.baseline,
            "exact": self.exact,
            "per_class": self.per_class,
        }

    def answers(self) -> np.ndarray:
        """Return the probability of each label, float32 `(count, labels)`."""
        return special.expit(self.logits)


def evaluate(
    labels: np.ndarray,
    logits: np.ndarray,
    class_names: Sequence[str],
    *,
    train_labels: np.ndarray | None = None,
    seed: int = 0,
) -> Evaluation:
    """Measure predictions of several labels. Arguments are those of `Evaluation`.

    >>> evaluate(np.eye(2), 4 * np.eye(2) - 2, ["red", "round"]).value
    1.0
    """
    labels = np.asarray(labels, "float32")
    logits = evaluation.checked_logits(logits, labels.shape)
    baseline = None
    if train_labels is not None:
        known = train_labels[~np.isnan(train_labels).any(axis=1)]
        baseline = float(np.mean(labels == (known.mean(axis=0) > 0.5)))
    return Evaluation(labels, logits, tuple(class_names), baseline, seed)
