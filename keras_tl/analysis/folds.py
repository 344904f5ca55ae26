"""Cross-validation: each example is predicted once, by a model trained without it."""

from collections.abc import Sequence

import numpy as np
from sklearn import model_selection

from keras_tl import errors, progress
from keras_tl.analysis import probe
from keras_tl.data.splits import Split

# Indices of the training examples of a fold, and of its test examples.
Fold = tuple[np.ndarray, np.ndarray]


def split(
    labels: np.ndarray,
    folds: int,
    *,
    groups: Sequence | None = None,
    seed: int = 0,
) -> list[Fold]:
    """Divide examples into folds that have the same share of every class.

    Args:
        labels: Integers `(examples,)`.
        folds: Number of folds, at least 2.
        groups: One value for each example, such as its patient or its camera, or what
            `splits.copies` returns; examples of one group come into the same fold.
            `None` is a group for each.
        seed: Seed of the drawing.

    Returns:
        For each fold, the training indices and the test indices; each example is
        a test example of exactly one.

    Raises:
        InputError: More folds than examples of some class, or than groups; or groups so
            uneven that a class is missing where a fold learns.

    Reference:
        https://scikit-learn.org/stable/modules/cross_validation.html

    >>> [test.tolist() for _, test in split(np.array([0, 0, 1, 1]), 2)]
    [[1, 2], [0, 3]]
    """
    labels = np.asarray(labels)
    errors.check_at_least("folds", folds, 2)
    classes, counts = np.unique(labels, return_counts=True)
    if counts.min() < folds:
        raise errors.expected(
            "folds",
            f"be at most {counts.min()}, the number of examples of class "
            f"{classes[counts.argmin()]}",
            folds,
            "Give fewer folds, or more examples of that class.",
        )
    groups = _checked(groups, labels)
    if groups is None:
        cut = model_selection.StratifiedKFold(folds, shuffle=True, random_state=seed)
        return list(cut.split(labels, labels))
    if len(np.unique(groups)) < folds:
        raise errors.expected(
            "folds", f"be at most {len(np.unique(groups))}, the number of groups", folds
        )
    cut = model_selection.StratifiedGroupKFold(folds, shuffle=True, random_state=seed)
    return _whole(list(cut.split(labels, labels, groups)), labels)


def leave_one_out(labels: np.ndarray, *, groups: Sequence | None = None) -> list[Fold]:
    """Make a fold of each example, or of each group.

    Raises:
        InputError: A class with one example, or in one group only: nothing is left to
            learn it from.

    >>> len(leave_one_out(np.array([0, 0, 1, 1])))
    4
    """
    labels = np.asarray(labels)
    groups = _checked(groups, labels)
    if groups is None:
        errors.check_at_least("len(labels)", len(labels), 2)
        folds = list(model_selection.LeaveOneOut().split(labels))
    else:
        if len(np.unique(groups)) < 2:
            raise errors.expected("groups", "be at least two", groups[:1].tolist())
        cut = model_selection.LeaveOneGroupOut()
        folds = list(cut.split(labels, labels, groups))
    return _whole(folds, labels)


def predict(
    features: Split,
    folds: Sequence[Fold],
    *,
    kind: str = "logistic regression",
    setting: float = 0.01,
) -> np.ndarray:
    """Predict every example by a new classifier on features, one for each fold.

    The features come from a frozen network that was not trained on these labels;
    made once, they serve all folds.

    Args:
        features: `(examples, features)` and labels.
        folds: See `split`.
        kind: A key of `probe.KINDS`.
        setting: The value of its one setting. It is the same for all folds: chosen by
            their own accuracy, it would make that too good.

    Returns:
        Logits, float32 `(examples, num_classes)`, each row by the classifier that did
        not learn from it; -inf for a class of which that saw no example.

    Raises:
        InputError: A fold that learns from one class only, or an unknown kind.

    >>> rng = np.random.default_rng(0)
    >>> labels = np.repeat([0, 1], 20)
    >>> points = rng.normal(labels[:, None], 0.1, (40, 3))
    >>> logits = predict(Split(points, labels), split(labels, 5))
    >>> float((logits.argmax(1) == labels).mean())
    1.0
    """
    logits = np.full((len(features), int(features.labels.max()) + 1), np.nan, "float32")
    for train, test in progress.track(folds, "folds", len(folds)):
        known = np.unique(features.labels[train])
        if len(known) < 2:
            raise errors.expected(
                "folds", "each learn from several classes", f"class {known[0]} alone"
            )
        fitted = probe.fit_with(kind, setting, features.take(train))
        logits[test] = -np.inf
        logits[np.ix_(test, known)] = fitted.logits(features.read(test))
    return logits


def _checked(groups, labels):
    """Return the groups; `None` where each example is a group of its own."""
    if groups is None:
        return None
    groups = np.asarray(groups)
    if groups.shape != labels.shape:
        raise errors.expected(
            "groups", f"have one entry for each of {len(labels)} labels", groups.shape
        )
    return None if len(np.unique(groups)) == len(labels) else groups


def _whole(folds, labels):
    classes = np.unique(labels)
    for train, test in folds:
        missing = np.setdiff1d(classes, labels[train])
        if len(missing):
            raise errors.InputError(
                f"Class {missing[0]} has examples in one fold only, of "
                f"{errors.counted(len(test), 'example')}: nothing is left to "
                "learn it from. Give more examples of it, or fewer folds."
            )
    return folds
