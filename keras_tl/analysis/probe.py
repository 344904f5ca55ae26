"""Classifiers on frozen features: logistic regression, nearest neighbours, SVM.

Each is scikit-learn's, on features scaled to mean 0 and deviation 1; validation chooses
its one setting.
"""

import warnings
from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np
from sklearn.base import ClassifierMixin
from sklearn.exceptions import ConvergenceWarning
from sklearn.linear_model import LogisticRegression
from sklearn.neighbors import KNeighborsClassifier
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.svm import SVC
from threadpoolctl import threadpool_limits

from keras_tl import errors
from keras_tl.data.sources import read_all
from keras_tl.data.splits import Split

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


@dataclass(frozen=True)
class Probe:
    """A classifier on features, and how it was chosen.

    Attributes:
        kind: A key of `KINDS`.
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
        """Return the logistic regression as one layer on unscaled features.

        Returns:
            Kernel `(features, num_classes)` and bias `(num_classes,)`, the scaler
            inside them.

        Raises:
            InputError: The probe is of another kind.
        """
        if self.kind != "logistic regression":
            raise errors.expected("kind", "be 'logistic regression'", self.kind)
        scaler, linear = self.pipeline[0], self.pipeline[1]
        kernel, bias = linear.coef_.T, linear.intercept_
        if kernel.shape[1] == 1:
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
    if kind not in KINDS:
        raise errors.unknown("kind", kind, KINDS)
    _, _, build = KINDS[kind]
    pipeline = make_pipeline(StandardScaler(), build(setting))
    # Problems of this size are solved faster by one thread; several, on a machine that
    # has other work, wait for one another most of the time.
    with threadpool_limits(1), warnings.catch_warnings():
        # With little regularisation; the accuracy on validation decides.
        warnings.simplefilter("ignore", ConvergenceWarning)
        pipeline.fit(read_all(train.inputs), train.labels)
    return Probe(kind, setting, None, pipeline)


def fit(kind: str, train: Split, validation: Split) -> Probe:
    """Fit a classifier to features; validation chooses its setting.

    Args:
        kind: "k-NN", "SVM" or "logistic regression".
        train: Features `(count, features)` and labels, with every class at least once.
        validation: The same, of other images.

    Returns:
        The classifier with the highest accuracy on validation, of equal ones the first.

    Raises:
        InputError: An unknown kind.
    """
    if kind not in KINDS:
        raise errors.unknown("kind", kind, KINDS)
    best = None
    for value in KINDS[kind][1]:
        if kind == "k-NN" and value > len(train):
            continue
        fitted = fit_with(kind, value, train)
        inputs = read_all(validation.inputs)
        score = fitted.pipeline.score(inputs, validation.labels)
        if best is None or score > best.validation:
            best = replace(fitted, validation=float(score))
    return best
