"""Classifiers on frozen features: logistic regression, nearest neighbours, SVM.

Each is scikit-learn's, on features scaled to mean 0 and deviation 1; validation chooses
its one setting. A bag of words takes texts, and is what they tell without transfer.
"""

import warnings
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np
from sklearn.base import ClassifierMixin
from sklearn.exceptions import ConvergenceWarning
from sklearn.feature_extraction.text import TfidfVectorizer
from sklearn.linear_model import LogisticRegression, Ridge
from sklearn.multiclass import OneVsRestClassifier
from sklearn.neighbors import KNeighborsClassifier
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.svm import SVC
from threadpoolctl import threadpool_limits

from keras_tl import errors
from keras_tl.data.choices import Task
from keras_tl.data.sources import read_all
from keras_tl.data.splits import Split, Splits, read_once

if TYPE_CHECKING:
    import keras

# Name -> setting that validation selects, its values, and how to build it.
KINDS: dict[str, tuple[str, tuple, Callable]] = {
    "k-NN": (
        "neighbours",
        (1, 5, 10, 20),
        lambda value: KNeighborsClassifier(value, metric="cosine"),
    ),
    "SVM": ("C", (0.1, 1.0, 10.0), lambda value: SVC(C=value)),
    "logistic regression": (
        "C",
        (1e-4, 1e-3, 1e-2, 1e-1, 1.0),
        lambda value: LogisticRegression(C=value, max_iter=300),
    ),
}
# The same for several labels of an example, and for numbers to be predicted.
KINDS_OF_OTHERS: dict[str, tuple[str, tuple, Callable]] = {
    "one against rest": (
        "C",
        KINDS["logistic regression"][1],
        lambda value: OneVsRestClassifier(LogisticRegression(C=value, max_iter=300)),
    ),
    "ridge regression": (
        "alpha",
        (1.0, 10.0, 100.0, 1e3, 1e4),
        lambda value: Ridge(alpha=value),
    ),
}
# The same for texts as they are: how often each of their words occurs in a text, a rare
# word counting more, and logistic regression on that.
KINDS_OF_TEXTS: dict[str, tuple[str, tuple, Callable]] = {
    "bag of words": (
        "C",
        (0.1, 1.0, 10.0, 100.0),
        lambda value: LogisticRegression(C=value, max_iter=300),
    ),
}
# Task of `Splits` -> the linear kind for it.
LINEAR = {
    "single-label": "logistic regression",
    "multi-label": "one against rest",
    "regression": "ridge regression",
}


@dataclass(frozen=True)
class Probe:
    """A classifier on features, and how it was chosen.

    Attributes:
        kind: A kind that `fit` takes.
        setting: The value of its one setting that validation chose.
        validation: Accuracy on validation, in [0, 1]; `None` where nothing was chosen.
        pipeline: The scaler and the classifier, of scikit-learn.
    """

    kind: str
    setting: float
    validation: float | None
    pipeline: ClassifierMixin

    def logits(self, features: np.ndarray) -> np.ndarray:
        """Score every class of every example.

        Returns:
            float32 `(count, num_classes)`, the largest of a row being the prediction:
            logits of logistic regression, logarithms of the neighbours' shares,
            one-against-rest decisions of the SVM.
        """
        if self.kind == "k-NN":
            shares = self.pipeline.predict_proba(features)
            return np.log(np.maximum(shares, 1e-6)).astype("float32")
        scores = self.pipeline.decision_function(features)
        if scores.ndim == 1:
            # Two classes have one score, that of the second.
            scores = np.stack([np.zeros_like(scores), scores], axis=1)
        return scores.astype("float32")

    def dense(self) -> tuple[np.ndarray, np.ndarray]:
        """Return a linear classifier or regression as one layer on unscaled features.

        Returns:
            Kernel `(features, outputs)` and bias `(outputs,)`, the scaler inside them.

        Raises:
            InputError: The probe is not linear.
        """
        scaler, linear = self.pipeline[0], self.pipeline[1]
        if self.kind == "one against rest":
            coefficients = [_binary(one, scaler) for one in linear.estimators_]
            kernel = np.stack([weights for weights, _ in coefficients], axis=1)
            bias = np.array([constant for _, constant in coefficients])
        elif self.kind in LINEAR.values():
            kernel, bias = linear.coef_.T, linear.intercept_
        else:
            raise errors.unknown("kind", self.kind, LINEAR.values())
        if kernel.ndim == 1:
            kernel, bias = kernel[:, None], np.atleast_1d(bias)
        if self.kind == "logistic regression" and kernel.shape[1] == 1:
            kernel = np.concatenate([np.zeros_like(kernel), kernel], axis=1)
            bias = np.concatenate([[0.0], bias])
        kernel = kernel / scaler.scale_[:, None]
        bias = bias - scaler.mean_ @ kernel
        return kernel.astype("float32"), bias.astype("float32")


def fit_with(kind: str, setting: float, train: Split) -> Probe:
    """Fit a classifier to features, with a setting that is given.

    Args:
        kind: See `fit`.
        setting: The value of its one setting, see `KINDS`.
        train: See `fit`.

    Raises:
        InputError: An unknown kind.
    """
    _, _, build = _kind(kind)
    first = _Scaler()
    if kind in KINDS_OF_TEXTS:
        # Words of one letter are words, too.
        first = TfidfVectorizer(token_pattern=r"(?u)\b\w+\b")
    pipeline = make_pipeline(first, build(setting))
    # Problems of this size are solved faster by one thread; several, on a machine that
    # has other work, wait for one another most of the time.
    with threadpool_limits(1), warnings.catch_warnings():
        # With little regularisation; the accuracy on validation decides.
        warnings.simplefilter("ignore", ConvergenceWarning)
        pipeline.fit(read_all(train.inputs), train.labels)
    return Probe(kind, setting, None, pipeline)


# Share of the usual deviation below which a feature counts as constant. Encoders have
# outputs whose last scale is all but 0.
_STILL = 1e-6


class _Scaler(StandardScaler):
    """Scale each feature to a deviation of 1, but those that hardly change.

    Divided by a deviation of 1e-33, as an output of MiniLM has it, the weight of a
    feature would be so large that a step of fine-tuning cannot be computed.
    """

    def fit(self, X, y=None, sample_weight=None):
        """Compute mean and deviation of each feature."""
        super().fit(X, y, sample_weight)
        self.scale_[self.scale_ < _STILL * np.median(self.scale_)] = 1.0
        return self


def _kind(kind):
    every = KINDS | KINDS_OF_OTHERS | KINDS_OF_TEXTS
    if kind not in every:
        raise errors.unknown("kind", kind, every)
    return every[kind]


def _binary(classifier, scaler) -> tuple[np.ndarray, float]:
    """Return weights and bias of one label; of one that never changes, a constant."""
    if hasattr(classifier, "coef_"):
        return classifier.coef_[0], float(classifier.intercept_[0])
    always = bool(np.ravel(classifier.predict(scaler.mean_[None]))[0])
    return np.zeros(len(scaler.mean_)), 10.0 if always else -10.0


def linear(train: Split, validation: Split, task: Task) -> Probe:
    """Fit the linear classifier, or regression, for a task. See `fit`."""
    return fit(LINEAR[task], train, validation)


def fit_head(model: "keras.Model", features: Splits) -> None:
    """Put the best linear classifier, or regression, into the head of a model.

    Args:
        model: Its head is one layer, as that of `heads.attach`.
        features: What that layer takes, see `phases.precompute_frozen`.
    """
    from keras_tl.models import freezing

    (layer,) = [layer for layer in freezing.head(model) if layer.weights]
    fitted = linear(features.train, features.validation, features.task)
    layer.set_weights(fitted.dense())


def follow(backbone: "keras.Model", splits: Splits) -> Callable[[int], float]:
    """Return a function that fits a linear classifier on features as they are now.

    For the attribute `probe` of a phase that trains the backbone, with or without
    labels: how good its features have become for a task is seen while it trains.

    Args:
        backbone: From inputs to features `(batch, features)`; nothing in it changes.
        splits: The task, whose validation split chooses the setting of the classifier.

    Returns:
        Function from the number of an epoch, which does not matter, to the accuracy on
        validation, in [0, 1], or to R2 of numbers.
    """
    kept = [read_once(split) for split in (splits.train, splits.validation)]

    def measure(epoch):
        train, validation = (
            replace(split, inputs=backbone.predict(read_all(split.inputs), verbose=0))
            for split in kept
        )
        return linear(train, validation, splits.task).validation

    return measure


def fit(kind: str, train: Split, validation: Split) -> Probe:
    """Fit a classifier to features; validation chooses its setting.

    Args:
        kind: "k-NN", "SVM" or "logistic regression", for single labels; "one against
            rest" for several labels, "ridge regression" for numbers; "bag of words"
            for texts with single labels.
        train: Features `(count, features)`, or texts, see `text.as_written`, and
            labels, with every class at least once.
        validation: The same, of other examples.

    Returns:
        The classifier with the highest score on validation, of equal ones the first:
        the accuracy, of all labels together where there are several, or R2 of numbers.

    Raises:
        InputError: An unknown kind.
    """
    best = None
    for value in _kind(kind)[1]:
        if kind == "k-NN" and value > len(train):
            continue
        fitted = fit_with(kind, value, train)
        inputs = read_all(validation.inputs)
        score = fitted.pipeline.score(inputs, validation.labels)
        if best is None or score > best.validation:
            best = replace(fitted, validation=float(score))
    return best
