"""Rank backbones for a task without training them: scores of frozen features.

Features are an array `(count, width)`, labels integers `(count,)`, both of labelled
examples of the task. More is better for every score. LogME, H-score, LEEP and NCE are
computed on the training examples alone; probes and nearest neighbours are judged on
examples that they were not fitted to.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np
from scipy import linalg
from sklearn.covariance import ledoit_wolf
from sklearn.model_selection import StratifiedKFold
from sklearn.neighbors import KNeighborsClassifier
from sklearn.preprocessing import StandardScaler
from threadpoolctl import threadpool_limits

from keras_tl import errors, progress
from keras_tl.analysis import probe as probes
from keras_tl.analysis.evaluation import softmax, wilson_interval
from keras_tl.data.splits import Split

# Iterations after which LogME's fixed point has converged on any data we know.
MOST_ITERATIONS = 200
# Settings C of the logistic regression, the strongest penalty first.
INVERSE_PENALTIES = (1e-4, 1e-3, 1e-2, 1e-1)
# Strengths of the ridge classifier, relative to the variance of all features.
STRENGTHS = tuple(10.0**power for power in range(-4, 5))


def log_me(features: np.ndarray, labels: np.ndarray) -> float:
    """Compute LogME, the logarithm of maximum evidence, per example.

    Each class, as a column of zeros and ones, is explained by a Bayesian linear model
    on the features; the variances of its prior and of the noise are those under which
    the column is most probable. The mean over classes, per example, is the score.

    Args:
        features: `(count, width)`, of training examples.
        labels: Integers `(count,)`, of at least two classes.

    Raises:
        InputError: Features or labels of another kind.

    Reference:
        You et al., "LogME: practical assessment of pre-trained models for transfer
        learning", 2021, arXiv:2102.11005; fixed-point iteration on the singular values
        of You et al., "Ranking and tuning pre-trained models", 2021, arXiv:2110.10545.

    >>> rng = np.random.default_rng(0)
    >>> labels = np.arange(60) % 2
    >>> noise = rng.normal(size=(60, 3))
    >>> log_me(noise + 3 * labels[:, None], labels) > log_me(noise, labels)
    True
    """
    features, labels = _checked(features, labels)
    directions, squares = _directions(features)
    # The unit of the features changes nothing but the variance of their weights.
    squares = squares / (squares.mean() if len(squares) else 1)
    columns = _one_hot(labels)
    projected = (directions.T @ columns) ** 2
    # What no linear model explains.
    rest = np.maximum((columns**2).sum(axis=0) - projected.sum(axis=0), 0)
    return float(
        np.mean(
            [
                _evidence(squares, projected[:, k], rest[k], len(labels))
                for k in range(columns.shape[1])
            ]
        )
    )


def _evidence(squares, projected, rest, count):
    """Maximize the log evidence of one column of labels, per example.

    Args:
        squares: Squared singular values of the features, `(rank,)`.
        projected: Squared coordinates of the column along the left singular vectors.
        rest: Squared length of the column outside of their span.
        count: Number of examples.
    """
    prior, noise = 1.0, 1.0  # Precisions: inverse variances of weights and of noise.
    for _ in range(MOST_ITERATIONS):
        ratio = prior / noise
        effective = (squares / (squares + ratio)).sum()
        length = (squares * projected / (squares + ratio) ** 2).sum()
        residual = (projected * (ratio / (squares + ratio)) ** 2).sum() + rest
        # Labels explained without error, or not at all, have no finite optimum.
        prior = effective / max(length, 1e-12)
        noise = (count - effective) / max(residual, 1e-12)
        if abs(prior / noise - ratio) <= 1e-6 * ratio:
            break
    ratio = prior / noise
    length = (squares * projected / (squares + ratio) ** 2).sum()
    residual = (projected * (ratio / (squares + ratio)) ** 2).sum() + rest
    evidence = (
        count * np.log(noise / (2 * np.pi))
        - np.log1p(squares / ratio).sum()
        - noise * residual
        - prior * length
    )
    return evidence / (2 * count)


def h_score(
    features: np.ndarray, labels: np.ndarray, *, shrinkage: float | None = None
) -> float:
    """Compute the regularised H-score: variance between classes over all variance.

    The trace of the inverse covariance of the features times the covariance of their
    class means, each example having the mean of its class. Without shrinkage it lies
    between 0 and the number of classes less 1, and no invertible linear map of the
    features changes it; where there are more features than examples, it says nothing.

    Args:
        features: `(count, width)`, of training examples.
        labels: Integers `(count,)`, of at least two classes.
        shrinkage: Share of the covariance that is replaced by its mean variance, in
            [0, 1]; `None` estimates it, see `sklearn.covariance.ledoit_wolf`. 0 is the
            H-score without regularisation.

    Raises:
        InputError: Features, labels or shrinkage of another kind.

    Reference:
        Bao et al., "An information-theoretic approach to transferability in task
        transfer learning", 2019, doi:10.1109/ICIP.2019.8803726; regularised: Ibrahim
        et al., "Newer is not always better", 2021, arXiv:2110.06893.

    >>> labels = np.array([0, 0, 1, 1])
    >>> round(h_score(np.array([[1.0], [1], [2], [2]]), labels, shrinkage=0), 6)
    1.0
    """
    features, labels = _checked(features, labels)
    if shrinkage is not None and not 0 <= shrinkage <= 1:
        raise errors.expected("shrinkage", "be in [0, 1]", shrinkage)
    centred = features - features.mean(axis=0)
    if shrinkage is None:
        covariance, shrinkage = ledoit_wolf(centred, assume_centered=True)
    else:
        covariance = centred.T @ centred / len(centred)
        mean = np.trace(covariance) / len(covariance)
        covariance = (1 - shrinkage) * covariance
        covariance += shrinkage * mean * np.eye(len(covariance))
    columns = _one_hot(labels)
    counts = columns.sum(axis=0)
    means = (columns.T @ centred) / counts[:, None]
    weighted = means * np.sqrt(counts / len(labels))[:, None]
    try:
        solved = linalg.solve(covariance, weighted.T, assume_a="pos")
    except linalg.LinAlgError:
        # Features that never vary, or more of them than examples.
        solved = linalg.lstsq(covariance, weighted.T)[0]
    return float((1 - shrinkage) * (weighted * solved.T).sum())


def leep(source_probabilities: np.ndarray, labels: np.ndarray) -> float:
    """Compute LEEP, the log expected empirical prediction of a source classifier.

    The mean log-likelihood of the labels under a classifier that predicts the source
    classes first and from these the label, with the frequencies that it saw. At most 0.

    Args:
        source_probabilities: Probabilities of the source classes, such as ImageNet's,
            for the training examples: `(count, source classes)`, rows sum to 1.
        labels: Integers `(count,)`, of at least two classes.

    Raises:
        InputError: Values of another kind.

    Reference:
        Nguyen et al., "LEEP: a new measure to evaluate transferability of learned
        representations", 2020, arXiv:2002.12462, equations 1 and 2.

    >>> leep(np.array([[1.0, 0], [1, 0], [0, 1], [0, 1]]), np.array([0, 0, 1, 1]))
    0.0
    """
    source, labels = _checked(source_probabilities, labels, "source_probabilities")
    if source.min() < 0 or not np.allclose(source.sum(axis=1), 1, atol=1e-3):
        raise errors.expected(
            "source_probabilities",
            "be probabilities, whose rows sum to 1",
            f"rows that sum to {source.sum(axis=1).min():.3g} and more",
        )
    joint = _one_hot(labels).T @ source
    conditional = joint / np.maximum(joint.sum(axis=0), 1e-300)
    expected = (conditional.T[:, labels] * source.T).sum(axis=0)
    return float(np.log(np.maximum(expected, 1e-300)).mean())


def nce(source_labels: np.ndarray, labels: np.ndarray) -> float:
    """Compute the negative conditional entropy of the labels given source labels.

    In nats, at most 0: 0 where the source class says which label an example has.

    Args:
        source_labels: Integers `(count,)`: the source class, such as of ImageNet, that
            a classifier predicts for each training example.
        labels: Integers `(count,)`, of at least two classes.

    Raises:
        InputError: Labels of another kind.

    Reference:
        Tran et al., "Transferability and hardness of supervised classification tasks",
        2019, arXiv:1908.08142.

    >>> round(nce(np.array([0, 0, 1, 1]), np.array([0, 1, 0, 1])), 6) == round(
    ...     float(-np.log(2)), 6
    ... )
    True
    """
    source = np.unique(np.asarray(source_labels), return_inverse=True)[1]
    source = np.eye(source.max(initial=0) + 1)[source.reshape(-1)]
    _, labels = _checked(source, labels, "source_labels")
    joint = _one_hot(labels).T @ source / len(labels)
    share = joint.sum(axis=0, keepdims=True)
    logs = np.log(np.where(joint > 0, joint / share, 1))
    return float((joint * logs).sum())


def k_nearest(train: Split, held_out: Split, *, neighbours: int = 5) -> np.ndarray:
    """Classify held-out examples by their nearest training examples, by cosine.

    Args:
        train: Features and labels.
        held_out: The same, of other examples.
        neighbours: Number of neighbours that vote; at most as many as there are.

    Returns:
        Whether each held-out example is classified correctly, bool `(count,)`.
    """
    neighbours = min(neighbours, len(train))
    classifier = KNeighborsClassifier(neighbours, metric="cosine")
    scaler = StandardScaler().fit(_array(train))
    classifier.fit(scaler.transform(_array(train)), train.labels)
    with threadpool_limits(1):
        predicted = classifier.predict(scaler.transform(_array(held_out)))
    return predicted == held_out.labels


def logistic(train: Split, held_out: Split, *, seed: int = 0) -> np.ndarray:
    """Classify held-out examples by a logistic regression on features.

    Its one setting is selected on a fifth of the training examples, so that the
    held-out ones are read once.

    Args:
        train: Features and labels.
        held_out: The same, of other examples.
        seed: Seed of the drawing of that fifth.

    Returns:
        Whether each held-out example is classified correctly, bool `(count,)`.
    """
    kind, setting = "logistic regression", INVERSE_PENALTIES[0]
    features = Split(_array(train), train.labels)
    rarest = int(np.unique(train.labels, return_counts=True)[1].min())
    if rarest > 1:
        folds = StratifiedKFold(min(5, rarest), shuffle=True, random_state=seed)
        rows, chosen = next(folds.split(train.labels, train.labels))
        rows, chosen = features.take(rows), features.take(chosen)
        fits = [probes.fit_with(kind, value, rows) for value in INVERSE_PENALTIES]
        inputs = chosen.inputs.values
        right = [fit.pipeline.score(inputs, chosen.labels) for fit in fits]
        setting = fits[int(np.argmax(right))].setting
    logits = probes.fit_with(kind, setting, features).logits(_array(held_out))
    return _right(logits, held_out.labels, train.labels)


def ridge(features: np.ndarray, labels: np.ndarray) -> np.ndarray:
    """Predict each example by a ridge classifier that is fitted to all others.

    Leaving one out needs no new fit: one eigenvalue decomposition gives all of these
    predictions, for every strength; the strength with the least squared error of them
    is taken. Copies of an example that are among the others make it look easier;
    features that say nothing come out below chance, since the class of the example that
    is left out is the rarer one then.

    Args:
        features: `(count, width)`.
        labels: Integers `(count,)`, of at least two classes.

    Returns:
        Scores of each class, float64 `(count, classes)`, the largest of a row being
        the prediction.

    Raises:
        InputError: Features or labels of another kind.

    Reference:
        Rifkin and Lippert, "Notes on regularized least squares", 2007,
        http://cbcl.mit.edu/publications/ps/MIT-CSAIL-TR-2007-025.pdf
    """
    features, labels = _checked(features, labels)
    columns, count = _one_hot(labels), len(labels)
    spread = features.std(axis=0)
    # Features of random weights may be tiny, and say something all the same.
    scale = np.where(spread > 1e-6 * spread.max(), spread, np.inf)
    directions, values = _directions((features - features.mean(axis=0)) / scale)
    centred = columns - columns.mean(axis=0)
    rotated = directions.T @ centred
    best, least = None, np.inf
    for strength in STRENGTHS:
        kept = values / (values + strength * max(values.sum() / count, 1e-12))
        residual = centred - directions @ (kept[:, None] * rotated)
        # The mean is fitted as well, 1 / count is its share of each prediction: that of
        # all examples would tell the label that is left out.
        influence = (directions**2) @ kept + 1 / count
        left_out = residual / np.maximum(1 - influence, 1e-6)[:, None]
        error = (left_out**2).mean()
        if error < least:
            best, least = columns - left_out, error
    return best


def _directions(features):
    """Compute the left singular vectors with a value, and the squared values."""
    count, width = features.shape
    # Threads that wait for one another, on a machine with other work, make it slower.
    with threadpool_limits(1):
        gram = features.T @ features if width < count else features @ features.T
        values, vectors = linalg.eigh(gram, driver="evd")
    kept = values > max(values[-1], 0) * 1e-10
    values, vectors = values[kept], vectors[:, kept]
    if width < count:
        vectors = features @ (vectors / np.sqrt(values))
    return vectors, values


# Scores that say for each example whether, or how well, it is predicted.
DECISIONS = ("logistic", "ridge", "neighbours")


def measure(
    train: Split,
    validation: Split,
    source_probabilities: np.ndarray | None = None,
    *,
    seed: int = 0,
) -> tuple[dict[str, float], dict[str, np.ndarray]]:
    """Compute all scores of one backbone's features.

    Args:
        train: Features `(count, width)` and labels, of at least two classes.
        validation: The same, of other examples of these classes.
        source_probabilities: See `leep`; `None` where the backbone's classifier is not
            known: LEEP and NCE are left out then.
        seed: Seed of the examples that select the setting of a probe.

    Returns:
        Name -> score; and name -> whether each example was classified correctly while
        it was held out, bool, for each of `DECISIONS`: of validation for "logistic" and
        "neighbours"; for "ridge" of training and validation, in that order.

    Raises:
        InputError: Features or labels of another kind.
    """
    features, labels = _checked(_array(train), train.labels)
    every = np.concatenate([features, _array(validation)])
    every_label = np.concatenate([train.labels, validation.labels])
    deciding = {
        "logistic": lambda: logistic(train, validation, seed=seed),
        "ridge": lambda: _right(ridge(every, every_label), every_label, every_label),
        "neighbours": lambda: k_nearest(train, validation),
    }
    others = {
        "LogME": lambda: log_me(features, labels),
        "H-score": lambda: h_score(features, labels),
    }
    if source_probabilities is not None:
        others["LEEP"] = lambda: leep(source_probabilities, labels)
        others["NCE"] = lambda: nce(source_probabilities.argmax(axis=1), labels)
    functions = deciding | others
    values = {}
    with threadpool_limits(1):
        for name in progress.track(functions, "scores", len(functions)):
            values[name] = functions[name]()
    scores = {name: float(np.mean(value)) for name, value in values.items()}
    return scores, {name: values[name] for name in deciding}


def _right(scores, labels, fitted):
    """Return whether the class with the highest score is the label of each example."""
    return np.unique(fitted)[scores.argmax(axis=1)] == labels


def source_probabilities(
    features: np.ndarray, kernel: np.ndarray, bias: np.ndarray
) -> np.ndarray:
    """Apply the classifier that a backbone was trained with to its pooled features.

    Args:
        features: `(count, width)`.
        kernel: `(width, source classes)`.
        bias: `(source classes,)`.
    """
    return softmax(np.asarray(features, "float64") @ kernel + bias)


@dataclass(frozen=True)
class Place:
    """The place of a backbone among others.

    Attributes:
        name: Name of the backbone.
        value: Its score, the mean over examples.
        interval: 95 % interval of the score: Wilson's where examples are right or
            wrong, else from a bootstrap.
        rank: 1 for the best.
        rank_interval: 95 % bootstrap interval of the rank.
        tied: Whether the difference to the first may be chance: the 95 % interval of
            the paired difference holds 0. The first is tied with itself.
    """

    name: str
    value: float
    interval: tuple[float, float]
    rank: int
    rank_interval: tuple[int, int]
    tied: bool


@dataclass(frozen=True)
class Order:
    """Backbones in the order of a score.

    Attributes:
        places: The best first.
    """

    places: tuple[Place, ...] = field(repr=False)

    @property
    def first(self) -> Place:
        """The one with the highest score."""
        return self.places[0]

    @property
    def tied(self) -> list[str]:
        """Names of those that cannot be told from the first, itself among them."""
        return [place.name for place in self.places if place.tied]


def order(
    values: Mapping[str, np.ndarray], *, seed: int = 0, resamples: int = 2000
) -> Order:
    """Order backbones by the mean of a value per example, with intervals.

    All backbones are resampled together: a difference between two of them is one
    between predictions of the same examples.

    Args:
        values: Name -> one number for each example, the same examples in each.
        seed: Seed of the bootstrap.
        resamples: Number of resamples.

    Raises:
        InputError: No backbone, or different numbers of examples.

    >>> good, bad = np.arange(100) < 90, np.arange(100) < 50
    >>> ordered = order({"bad": bad, "good": good, "same": good})
    >>> ordered.first.name, ordered.tied
    ('good', ['good', 'same'])
    """
    errors.check_at_least("len(values)", len(values), 1)
    table = np.stack(_same_length(values)).astype("float64")
    right_or_wrong = np.isin(table, (0, 1)).all()
    names, count = list(values), table.shape[1]
    rng = np.random.default_rng(seed)
    draws = rng.multinomial(count, np.full(count, 1 / count), size=resamples)
    means = draws @ table.T / count
    best = np.argsort(-table.mean(axis=1), kind="stable")
    # Of equal means, ranks are shared: neither is before the other.
    ranks = (means[:, :, None] < means[:, None, :]).sum(axis=2) + 1
    behind = means[:, best[0]][:, None] - means
    places = []
    for number, index in enumerate(best, start=1):
        interval = np.quantile(means[:, index], [0.025, 0.975]).tolist()
        if right_or_wrong:
            # Where all are right, so are all resamples: their interval has no width.
            interval = wilson_interval(int(table[index].sum()), count)
        first, last = np.quantile(ranks[:, index], [0.025, 0.975], method="nearest")
        places.append(
            Place(
                names[index],
                float(table[index].mean()),
                tuple(interval),
                number,
                (int(min(first, number)), int(max(last, number))),
                bool(np.quantile(behind[:, index], 0.025) <= 0),
            )
        )
    return Order(tuple(places))


def _same_length(values):
    lengths = {name: len(value) for name, value in values.items()}
    if len(set(lengths.values())) != 1:
        raise errors.expected(
            "values", "have a number for the same examples each", lengths
        )
    return [np.asarray(value) for value in values.values()]


def _array(split: Split) -> np.ndarray:
    """Read all features of a split."""
    return np.asarray(split.inputs.read(np.arange(len(split))), "float64")


def _one_hot(labels: np.ndarray) -> np.ndarray:
    """Turn labels 0, 1, ... into columns of zeros and ones."""
    return np.eye(labels.max() + 1)[labels]


def _checked(
    features: np.ndarray, labels: np.ndarray, argument: str = "features"
) -> tuple[np.ndarray, np.ndarray]:
    """Check features and labels; number the labels that occur 0, 1, ..."""
    features = np.asarray(features, "float64")
    labels = np.asarray(labels)
    if features.ndim != 2 or not features.size or not np.isfinite(features).all():
        raise errors.InputError(
            f"`{argument}` must be finite numbers (count, width). Received: shape "
            f"{features.shape}, {(~np.isfinite(features)).sum()} not finite."
        )
    if labels.shape != (len(features),) or labels.dtype.kind not in "iu":
        raise errors.InputError(
            f"`labels` must be integers, one for each of {len(features)} examples. "
            f"Received: {labels.dtype} of shape {labels.shape}."
        )
    classes, labels = np.unique(labels, return_inverse=True)
    if len(classes) < 2:
        raise errors.expected("labels", "be of at least two classes", classes.tolist())
    return features, labels
