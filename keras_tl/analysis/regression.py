"""Evaluate models that predict numbers."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cached_property

import numpy as np
from matplotlib.figure import Figure
from sklearn import metrics

from keras_tl.analysis import evaluation, figures


@dataclass(frozen=True, eq=False)
class Evaluation:
    """Predicted numbers beside the true ones, and what follows from them.

    Attributes:
        labels: float32 `(count, columns)`, the true numbers.
        logits: float32 `(count, columns)`, the predicted ones.
        class_names: Name of each column.
        baseline: Mean absolute error of always predicting the mean of the training
            data; `None` if that is not known.
        seed: Seed of the bootstrap.
    """

    labels: np.ndarray = field(repr=False)
    logits: np.ndarray = field(repr=False)
    class_names: tuple[str, ...]
    baseline: float | None = None
    seed: int = 0

    metric = "mean_absolute_error"
    baseline_name = "mean of the training data"

    @cached_property
    def scores(self) -> np.ndarray:
        """Negative absolute error of each example, so that more is better."""
        return -np.abs(self.logits - self.labels).mean(axis=1)

    @cached_property
    def value(self) -> float:
        """Mean absolute error, in the unit of the labels."""
        return float(-self.scores.mean())

    @cached_property
    def interval(self) -> tuple[float, float]:
        """95 % bootstrap interval of the mean absolute error, over test examples."""
        return evaluation.bootstrap_interval(-self.scores, seed=self.seed)

    @cached_property
    def root_mean_squared_error(self) -> float:
        """Root of the mean squared error, in the unit of the labels."""
        return float(metrics.root_mean_squared_error(self.labels, self.logits))

    @cached_property
    def r2(self) -> float:
        """Share of the variance that is explained, at most 1; NaN for one example."""
        if len(self.labels) < 2:
            return float("nan")
        return float(metrics.r2_score(self.labels, self.logits))

    @property
    def details(self) -> dict[str, str]:
        """Further numbers for people: name -> text."""
        return {
            "root mean squared error": f"{self.root_mean_squared_error:.3f}",
            "R²": f"{self.r2:.3f}",
        }

    notes = ()

    mistakes_title = "Largest errors"

    def format(self, value: float) -> str:
        """Return an error as text."""
        return f"{value:.3f}"

    def difference(self, compared: evaluation.Comparison) -> str:
        """Return a difference of errors with its interval as text."""
        # Scores are errors below 0, so that the ends change places.
        high, low = (f"{-end:+.3f}" for end in compared.interval)
        return f"error {-compared.difference:+.3f} (95 % interval {low} to {high})"

    def headline(self, noun: str) -> str:
        """Return the numbers behind the error as text."""
        return f"mean over {len(self.labels):,} test {noun}"

    def charts(self) -> list[tuple[Figure, str]]:
        """Draw the predicted numbers against the true ones."""
        figure = figures.true_against_predicted(
            self.labels, self.logits, self.class_names
        )
        return [(figure, "Predicted numbers against the true ones.")]

    def mistakes(self, count: int) -> list[tuple[int, str, str]]:
        """Find the examples with the largest errors, the largest first.

        Returns:
            Index of the example, predicted and true numbers as texts, at most `count`.
        """
        order = np.argsort(self.scores, kind="stable")[:count]
        return [
            (int(index), _text(self.logits[index]), _text(self.labels[index]))
            for index in order
        ]

    def as_dict(self) -> dict[str, object]:
        """Return all numbers as plain values for JSON."""
        return {
            "count": len(self.labels),
            "mean_absolute_error": self.value,
            "mean_absolute_error_interval": list(self.interval),
            "baseline": self.baseline,
            "root_mean_squared_error": self.root_mean_squared_error,
            "r2": self.r2,
        }

    def answers(self) -> np.ndarray:
        """Return the predicted numbers, float32 `(count, columns)`."""
        return self.logits


def _text(numbers) -> str:
    return ", ".join(f"{number:.3g}" for number in numbers)


def evaluate(
    labels: np.ndarray,
    logits: np.ndarray,
    class_names: Sequence[str],
    *,
    train_labels: np.ndarray | None = None,
    seed: int = 0,
) -> Evaluation:
    """Measure predicted numbers. Arguments are those of `Evaluation`.

    >>> evaluate([[1.0], [2.0]], [[1.5], [2.5]], ["age"]).value
    0.5
    """
    labels = np.asarray(labels, "float32")
    logits = evaluation.checked_logits(logits, labels.shape)
    baseline = None
    if train_labels is not None:
        baseline = float(np.abs(labels - np.nanmean(train_labels, axis=0)).mean())
    return Evaluation(labels, logits, tuple(class_names), baseline, seed)
