"""Zero-shot learning: classes without a single image, known by their descriptions.

Each class has a vector: its attributes, or the vectors of its words, see
`data.descriptions`. A linear map from features to such vectors is learned from the
classes that have images, the seen ones; an image belongs to the class whose vector
agrees best with its mapped features, and that class may be an unseen one. `eszsl`
solves for the map, `devise` trains it. Seen classes score higher than unseen ones:
where both can occur, `calibration` says how much to subtract from their scores.

Published for the proposed splits, ResNet101 and attributes made by people (Xian et al.,
2018, arXiv:1707.00600): ESZSL names the right one of the unseen classes for 53.9 % of
the images of birds (CUB, 50 of 200 classes unseen) and for 58.2 % of animals (AWA1, 10
of 50).
"""

import functools
import itertools
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import keras
import numpy as np
from keras import ops
from scipy import linalg

from keras_tl import errors
from keras_tl.data.sources import read_all
from keras_tl.data.splits import Splits
from keras_tl.models import heads
from keras_tl.training.terms import Method, Term


def eszsl(
    features: np.ndarray,
    labels: np.ndarray,
    vectors: np.ndarray,
    *,
    gamma: float = 1.0,
    lam: float = 1.0,
) -> np.ndarray:
    """Solve for the map from features to vectors of classes.

    W = (X'X + gamma I)^-1 X'Y S (S'S + lam I)^-1, where X are the features `(count,
    width)`, S the vectors `(classes, attributes)`, and Y `(count, classes)` is 1 for
    the class of an example and -1 for the others. It minimizes the sum of the squares
    of X W S' - Y, gamma times that of W S', lam times that of X W, and gamma lam times
    that of W.

    Args:
        features: Features of the examples, `(count, width)`; best with mean 0 and
            deviation 1, see `solver`.
        labels: Class of each, int `(count,)`.
        vectors: Vector of each seen class, `(classes, attributes)`.
        gamma: Regularization of features, above 0; it grows with the number of
            examples.
        lam: Regularization of vectors, above 0.

    Returns:
        W, float64 `(width, attributes)`: `features @ W @ vectors.T` are the scores of
        any classes, also of others than those of `labels`.

    Raises:
        InputError: Arrays that do not fit together, or a value out of range.

    Reference:
        Romera-Paredes and Torr, "An embarrassingly simple approach to zero-shot
        learning", 2015, https://proceedings.mlr.press/v37/romera-paredes15.html.

    >>> W = eszsl(np.eye(2), [0, 1], np.eye(2), gamma=1.0, lam=1.0)
    >>> np.round(W, 9).tolist()
    [[0.25, -0.25], [-0.25, 0.25]]
    """
    vectors = _matrix("vectors", vectors)
    solved = ridge(features, labels, len(vectors), gamma=gamma)
    return through(solved, vectors, lam=lam)


def ridge(
    features: np.ndarray, labels: np.ndarray, num_classes: int, *, gamma: float
) -> np.ndarray:
    """Solve for a linear classifier, the part of `eszsl` that knows no vectors.

    Args:
        features: See `eszsl`.
        labels: See `eszsl`.
        num_classes: Number of the seen classes.
        gamma: See `eszsl`.

    Returns:
        (X'X + gamma I)^-1 X'Y, float64 `(width, num_classes)`.

    Raises:
        InputError: See `eszsl`.
    """
    x = _matrix("features", features)
    labels = np.asarray(labels)
    errors.check_above("gamma", gamma, 0)
    if labels.shape != (len(x),):
        raise errors.expected("labels", f"have shape ({len(x)},)", labels.shape)
    if len(labels) and not 0 <= labels.min() <= labels.max() < num_classes:
        raise errors.expected(
            "labels", f"be in [0, {num_classes}), one for each vector", labels.max()
        )
    y = np.where(labels[:, None] == np.arange(num_classes), 1.0, -1.0)
    return _solve(x.T @ x, x.T @ y, gamma)


def through(solved: np.ndarray, vectors: np.ndarray, *, lam: float) -> np.ndarray:
    """Send a linear classifier through the vectors of its classes; see `eszsl`.

    Args:
        solved: What `ridge` returns.
        vectors: See `eszsl`.
        lam: See `eszsl`.

    Returns:
        What `eszsl` returns.

    Raises:
        InputError: Not one vector for each class, or a value out of range.
    """
    s = _matrix("vectors", vectors)
    errors.check_above("lam", lam, 0)
    if len(s) != solved.shape[1]:
        raise errors.expected("vectors", f"have {solved.shape[1]} rows", s.shape)
    return _solve(s.T @ s, (solved @ s).T, lam).T


# From classes and gamma to what `ridge` returns for them, and its scores of validation.
Solve = Callable[[tuple[int, ...], float], tuple[np.ndarray, np.ndarray]]


def solver(features: Splits) -> Solve:
    """Return a function that solves for some of the classes, for each choice once.

    Features are scaled to mean 0 and deviation 1 over the examples of these classes:
    nothing depends on those of others.

    Args:
        features: Features `(count, ...)`, which are flattened, and labels of all
            classes; the test split is not read.

    Returns:
        A function from classes, in order, and gamma for each of their examples, to the
        linear classifier that `ridge` finds for scaled features, as it is for unscaled
        ones, `(width + 1, classes)`, the last row being its bias; and to its scores of
        the validation examples of all classes.
    """
    train, labels = read_all(features.train.inputs), features.train.labels
    train = _matrix("features", train.reshape(len(train), -1))
    validation = with_one(read_all(features.validation.inputs))
    every = range(len(features.class_names))
    sums = np.stack([train[labels == one].sum(axis=0) for one in every], axis=1)
    counts = np.array([(labels == one).sum() for one in every])
    whole = train.T @ train

    @functools.lru_cache(maxsize=32)
    def squares(one):
        return train[labels == one].T @ train[labels == one]

    @functools.cache
    def solve(classes, gamma):
        columns = list(classes)
        count = max(1, counts[columns].sum())
        # Few classes are left out: what they add is subtracted.
        gram = whole - sum(squares(one) for one in every if one not in classes)
        mean = sums[:, columns].sum(axis=1) / count
        variance = np.diag(gram) / count - mean**2
        deviation = np.sqrt(np.where(variance > 1e-9, variance, 1.0))
        gram = (gram - count * np.outer(mean, mean)) / np.outer(deviation, deviation)
        # X'Y of features with mean 0: what is added to a column of Y changes nothing.
        products = 2 * (sums[:, columns] - np.outer(mean, counts[columns]))
        kernel = _solve(gram, products / deviation[:, None], gamma * count)
        kernel = kernel / deviation[:, None]
        solved = np.concatenate([kernel, -mean[None] @ kernel])
        return solved, validation @ solved

    return solve


def with_one(features: np.ndarray) -> np.ndarray:
    """Return flattened features with a 1 behind them, which a bias is multiplied by.

    >>> with_one(np.array([[2.0, 3.0]])).tolist()
    [[2.0, 3.0, 1.0]]
    """
    features = features.reshape(len(features), -1)
    return np.concatenate([features, np.ones((len(features), 1))], axis=1)


@dataclass(frozen=True)
class Learned:
    """A map of `eszsl`, by the settings that tell held-out classes best.

    Attributes:
        mapped: The map from features with a 1 behind them, see `with_one`, float64
            `(width + 1, attributes)`.
        gamma: Regularization of features, for each example.
        lam: Regularization of vectors.
        validation: Accuracy on the held-out pairs, in [0, 1], the mean over pairs.
        subtract: What `calibration` says, the median over pairs.
    """

    mapped: np.ndarray
    gamma: float
    lam: float
    validation: float
    subtract: float


def learn(
    solve: Solve,
    labels: np.ndarray,
    seen: Sequence[int],
    vectors: np.ndarray,
    *,
    most: int = 28,
    seed: int = 0,
    gammas: Sequence[float] = (1.0, 10.0, 100.0),
    lams: Sequence[float] = (0.1, 1.0, 10.0),
) -> Learned:
    """Learn a map, its regularization chosen without an example of an unseen class.

    Pairs of the seen classes are left out, one after the other, and told from each
    other by what is learned from the other seen classes: what is best at that is best
    for truly unseen ones, as far as one can know.

    Args:
        solve: What `solver` returns.
        labels: Labels of the validation examples.
        seen: The seen classes, in order, at least 4.
        vectors: Vectors of all classes.
        most: Largest number of pairs, see `pairs`.
        seed: Seed of the drawing of pairs.
        gammas: Values of gamma to choose from.
        lams: Values of lam to choose from.

    Raises:
        InputError: Fewer than 4 classes.
    """
    errors.check_at_least("len(seen)", len(seen), 4)
    folds, columns = pairs(seen, most, seed), list(seen)

    def scores(gamma, lam):
        for pair in folds:
            rest = tuple(one for one in seen if one not in pair)
            solved = through(solve(rest, gamma)[1], vectors[list(rest)], lam=lam)
            yield pair, solved @ vectors[columns].T

    accuracies = {
        setting: float(
            np.mean([among(one, labels, seen, pair) for pair, one in scores(*setting)])
        )
        for setting in itertools.product(gammas, lams)
    }
    best = max(accuracies, key=accuracies.get)
    known = np.isin(labels, seen)
    places = np.searchsorted(seen, labels[known])
    values = [
        calibration(one[known], places, ~np.isin(seen, pair))
        for pair, one in scores(*best)
    ]
    solved, _ = solve(tuple(seen), best[0])
    mapped = through(solved, vectors[columns], lam=best[1])
    return Learned(mapped, *best, accuracies[best], float(np.median(values)))


def among(
    scores: np.ndarray,
    labels: np.ndarray,
    classes: Sequence[int],
    pair: Sequence[int],
) -> float:
    """Return the accuracy on the examples of some classes, no other being possible.

    >>> scores, labels = np.array([[9, 1, 0], [9, 0, 1]]), np.array([1, 1])
    >>> among(scores, labels, classes=[0, 1, 2], pair=[1, 2])
    0.5
    """
    rows = np.isin(labels, pair)
    chosen = scores[rows][:, np.searchsorted(classes, pair)].argmax(axis=1)
    return float(np.mean(np.asarray(pair)[chosen] == labels[rows]))


def pairs(classes: Sequence[int], most: int, seed: int) -> list[tuple[int, int]]:
    """Return all pairs of classes, or as many as wanted, drawn evenly.

    >>> pairs(range(3), 9, seed=0)
    [(0, 1), (0, 2), (1, 2)]
    """
    every = list(itertools.combinations(classes, 2))
    order = np.random.default_rng(seed).permutation(len(every))[:most]
    return [every[number] for number in sorted(order)]


def attach(backbone: keras.Model, vectors: np.ndarray) -> keras.Model:
    """Attach a map to vectors of classes, which stay as they are; see `devise`.

    Args:
        backbone: Model to features, as `heads.attach` takes it.
        vectors: Vector of each seen class, `(classes, attributes)`; best of length 1.

    Returns:
        An uncompiled model from the backbone's input to `logits`, float32 `(batch,
        classes)`: the products of the vectors with the output of the layer `semantic`,
        `(batch, attributes)`, whose weights train.
    """
    vectors = _matrix("vectors", vectors)
    x = heads.vector(backbone.outputs[0])
    x = keras.layers.Dense(vectors.shape[1], name="semantic")(x)
    model = heads.classify(backbone, x, len(vectors), dropout=0.0)
    logits = model.get_layer("logits")
    logits.set_weights([vectors.T, np.zeros(len(vectors))])
    logits.trainable = False
    return model


def attach_scaled(features: np.ndarray, vectors: np.ndarray) -> keras.Model:
    """Build a map from features, scaled to mean 0 and deviation 1; see `attach`.

    Args:
        features: Features that the scale is measured on, `(count, width)`.
        vectors: See `attach`.

    Returns:
        As `attach`; before `semantic` comes the layer `scale`.
    """
    start = keras.Input(features.shape[1:], name="features")
    scale = keras.layers.Normalization(name="scale")
    scale.adapt(features)
    return attach(keras.Model(start, scale(start)), vectors)


def mapped_by(model: keras.Model) -> np.ndarray:
    """Return the map of a model of `attach_scaled`, for features with a 1 behind them.

    Returns:
        `(width + 1, attributes)`, as `Learned.mapped`.
    """
    scale = model.get_layer("scale")
    mean, variance = (np.ravel(one) for one in (scale.mean, scale.variance))
    kernel, bias = model.get_layer("semantic").get_weights()
    kernel = kernel / np.maximum(np.sqrt(variance), 1e-7)[:, None]
    return np.concatenate([kernel, [bias - mean @ kernel]])


def devise(*, margin: float = 0.1) -> Method:
    """Rank the vector of the right class above those of the others.

    sum_j max(0, margin - s_y + s_j), over the classes j other than the right one, y;
    s are the logits of `attach`, of vectors of length 1. It takes the place of the loss
    of the labels, also in validation.

    Args:
        margin: By how much the right class has to score higher, at least 0.

    Returns:
        A method for `phases.Phase`.

    Raises:
        InputError: A value below 0.

    Reference:
        Frome et al., "DeViSE: A deep visual-semantic embedding model", 2013,
        https://papers.nips.cc/paper/5204. There the network that computes the features
        is trained on, too, and word vectors have 500 numbers.
    """
    errors.check_at_least("margin", margin, 0)

    def ranking(batch):
        scores, labels = ops.cast(batch.logits, "float32"), batch.labels
        if len(labels.shape) < 2 or labels.shape[-1] != scores.shape[-1]:
            labels = ops.one_hot(ops.reshape(labels, (-1,)), scores.shape[-1])
        labels = ops.cast(labels, "float32")
        right = ops.sum(labels * scores, axis=-1, keepdims=True)
        costs = (1 - labels) * ops.relu(margin - right + scores)
        return batch.mean(ops.sum(costs, axis=-1))

    return lambda model, steps: Term(ranking, label_weight=0.0, in_validation=True)


@dataclass(frozen=True)
class Generalized:
    """How often images are named right where seen and unseen classes can occur.

    Attributes:
        seen: Accuracy on seen classes, the mean over classes, in [0, 1].
        unseen: The same of unseen classes.
    """

    seen: float
    unseen: float

    @property
    def harmonic(self) -> float:
        """The harmonic mean of both, 0 where one of them is.

        >>> Generalized(0.9, 0.45).harmonic, Generalized(1.0, 0.0).harmonic
        (0.6, 0.0)
        """
        total = self.seen + self.unseen
        return 2 * self.seen * self.unseen / total if total else 0.0

    def as_dict(self, prefix: str = "") -> dict[str, float]:
        """Return all three numbers, their names with a prefix."""
        names = ("seen", "unseen", "harmonic")
        return {f"{prefix}{name}": getattr(self, name) for name in names}


def generalized(
    scores: np.ndarray, labels: np.ndarray, seen: np.ndarray, subtract: float = 0.0
) -> Generalized:
    """Measure scores of seen and unseen classes together.

    Args:
        scores: Score of each class for each example, `(count, classes)`.
        labels: Class of each example, int `(count,)`.
        seen: Whether each class was seen, bool `(classes,)`.
        subtract: What is subtracted from the scores of seen classes, see `calibration`.

    Raises:
        InputError: No example of a seen class, or none of an unseen one.

    Reference:
        Xian et al., 2018, arXiv:1707.00600, for the harmonic mean.
    """
    seen = np.asarray(seen, bool)
    labels = np.asarray(labels)
    right = (scores - subtract * seen).argmax(axis=1) == labels
    return Generalized(*(_by_class(right, labels, part) for part in (seen, ~seen)))


def calibration(scores: np.ndarray, labels: np.ndarray, seen: np.ndarray) -> float:
    """Choose what to subtract from the scores of seen classes: calibrated stacking.

    Of all values, the one with the highest harmonic mean of the accuracies on seen and
    unseen classes. Examples of classes that are truly unseen are not to be had: leave
    out some of the seen ones, and take these for unseen.

    Args:
        scores: See `generalized`.
        labels: See `generalized`.
        seen: See `generalized`.

    Returns:
        The value; where several are as good, the middle of them.

    Raises:
        InputError: See `generalized`.

    Reference:
        Chao et al., "An empirical study and analysis of generalized zero-shot learning
        for object recognition in the wild", 2016, arXiv:1605.04253.

    >>> scores = np.array([[0.9, 0.1], [0.6, 0.4]])
    >>> round(calibration(scores, np.array([0, 1]), np.array([True, False])), 6)
    0.5
    """
    seen = np.asarray(seen, bool)
    labels = np.asarray(labels)
    inside = np.where(seen, scores, -np.inf), np.where(seen, -np.inf, scores)
    # Below its margin an example goes to a seen class, above it to an unseen one.
    margins = inside[0].max(axis=1) - inside[1].max(axis=1)
    order = np.argsort(margins, kind="stable")
    steps = np.concatenate([[margins[order[0]] - 1], margins[order]])
    steps = np.append(steps, margins[order[-1]] + 1)
    shares = [
        np.append(0.0, np.cumsum(_weights(one, labels, part)[order]))
        for one, part in zip(inside, (seen, ~seen), strict=True)
    ]
    of_seen, of_unseen = shares[0][-1] - shares[0], shares[1]
    total = of_seen + of_unseen
    means = 2 * of_seen * of_unseen / np.where(total > 0, total, 1.0)
    # Nothing lies between equal margins.
    means[steps[1:] - steps[:-1] <= 0] = -1.0
    best = np.flatnonzero(np.isclose(means, means.max()))
    middle = best[len(best) // 2]
    return float((steps[middle] + steps[middle + 1]) / 2)


def _weights(scores, labels, part) -> np.ndarray:
    """Return what each example adds to the accuracy on some classes, if right."""
    present = [one for one in np.flatnonzero(part) if (labels == one).any()]
    if not present:
        raise _nothing_to_measure(labels)
    weights = np.zeros(len(labels))
    for one in present:
        rows = labels == one
        weights[rows] = (scores[rows].argmax(axis=1) == one) / rows.sum()
    return weights / len(present)


def _nothing_to_measure(labels):
    return errors.expected(
        "labels",
        "have examples of seen and of unseen classes",
        sorted(set(labels.tolist())),
    )


def _solve(gram, right, regularization) -> np.ndarray:
    """Return (gram + regularization I)^-1 right, of a symmetric matrix."""
    whole = gram + regularization * np.eye(len(gram))
    return linalg.solve(whole, right, assume_a="pos")


def _by_class(right, labels, part) -> float:
    shares = [
        right[labels == label].mean()
        for label in np.flatnonzero(part)
        if (labels == label).any()
    ]
    if not shares:
        raise _nothing_to_measure(labels)
    return float(np.mean(shares))


def _matrix(name, values) -> np.ndarray:
    values = np.asarray(values, "float64")
    if values.ndim != 2 or not values.size or not np.isfinite(values).all():
        raise errors.expected(
            name, "be finite numbers in rows and columns", values.shape
        )
    return values
