"""What to label next: which of many examples without labels would teach most.

A linear classifier on frozen features knows what it is not sure of (`margin`), and the
features know what is unlike all that is labelled (`core_set`).
"""

import numpy as np

from keras_tl import errors
from keras_tl.analysis import evaluation, probe
from keras_tl.data import splits
from keras_tl.data.sources import read_all
from keras_tl.data.splits import Split, read_once

METHODS = ("random", "margin", "core-set")


def order(
    method: str, labelled: Split, pool: np.ndarray, count: int, *, seed: int = 0
) -> np.ndarray:
    """Return which examples of a pool to label, the first one first.

    Args:
        method: One of `METHODS`.
        labelled: Features and labels that there are, with at least two classes.
        pool: Features of the examples without labels, `(examples, features)`.
        count: How many to choose, at least 1 and at most all.
        seed: Seed of "random", and of the order of equal ones.

    Returns:
        Indices into `pool`, `(count,)`.

    Raises:
        InputError: An unknown method, or more examples than there are.
    """
    if method not in METHODS:
        raise errors.unknown("method", method, METHODS)
    if not 1 <= count <= len(pool):
        raise errors.expected("count", f"be in [1, {len(pool)}]", count)
    shuffled = np.random.default_rng(seed).permutation(len(pool))
    if method == "random":
        return shuffled[:count]
    if method == "core-set":
        known = read_all(labelled.inputs)
        return shuffled[core_set(known, pool[shuffled], count)]
    fitted = probe.fit_with("logistic regression", _STRENGTH, labelled)
    shares = evaluation.softmax(fitted.logits(pool[shuffled]))
    return shuffled[np.argsort(margin(shares), kind="stable")[:count]]


# Regularization of the classifier: few labels choose none.
_STRENGTH = 1e-2
# Seeds with which a method is compared.
SEEDS = 10


def gains(
    method: str, train: Split, validation: Split, *, seeds: int = SEEDS
) -> list[float]:
    """Measure on examples with labels what choosing them gains over random ones.

    A tenth of the training examples, at least two of each class, count as labelled; as
    many again are chosen from the others, by the method and at random.

    Args:
        method: One of `METHODS`.
        train: Features and single labels.
        validation: The same, of examples that judge.
        seeds: Number of draws.

    Returns:
        The accuracy on validation by the method minus that by random ones, of each
        draw.

    Raises:
        InputError: Too few training examples.
    """
    train, validation = read_once(train), read_once(validation)
    classes = len(np.unique(train.labels))
    start = max(len(train) // 10, 2 * classes)
    errors.check_at_least("len(train)", len(train), 3 * start)
    values = read_all(validation.inputs)
    made = []
    for seed in range(seeds):
        first = splits.balanced(train.labels, start, seed)
        rest = np.setdiff1d(np.arange(len(train)), first)
        reached = []
        for one in (method, METHODS[0]):
            chosen = order(one, train.take(first), train.read(rest), start, seed=seed)
            known = train.take(np.concatenate([first, rest[chosen]]))
            fitted = probe.fit_with("logistic regression", _STRENGTH, known)
            answers = fitted.pipeline.predict(values)
            reached.append(float((answers == validation.labels).mean()))
        made.append(reached[0] - reached[1])
    return made


def margin(probabilities: np.ndarray) -> np.ndarray:
    """Compute how much more probable the first answer is than the second.

    Args:
        probabilities: `(examples, classes)`, at least two classes.

    Returns:
        `(examples,)` in [0, 1]; near 0 where the classifier is not sure.

    Reference:
        Scheffer et al., "Active hidden Markov models for information extraction",
        2001, https://doi.org/10.1007/3-540-44816-0_31.

    >>> margin(np.array([[0.5, 0.25, 0.25], [0.75, 0.25, 0.0]])).tolist()
    [0.25, 0.5]
    """
    if probabilities.ndim != 2 or probabilities.shape[1] < 2:
        raise errors.expected(
            "probabilities", "have at least two classes", probabilities.shape
        )
    highest = np.sort(probabilities, axis=1)[:, -2:]
    return highest[:, 1] - highest[:, 0]


def core_set(labelled: np.ndarray, pool: np.ndarray, count: int) -> np.ndarray:
    """Choose examples so that each of the pool has a labelled one nearby.

    Greedy: always that whose nearest labelled or chosen example is farthest, by the
    angle between features.

    Args:
        labelled: Features with labels, `(examples, features)`.
        pool: Features without labels.
        count: How many to choose.

    Returns:
        Indices into `pool`, `(count,)`, in the order of choice.

    Reference:
        Sener and Savarese, "Active learning for convolutional neural networks: a
        core-set approach", 2018, arXiv:1708.00489.

    >>> core_set(np.array([[1.0, 0.0]]), np.array([[2.0, 0.1], [0.0, 1.0]]), 2).tolist()
    [1, 0]
    """
    known, others = _directions(labelled), _directions(pool)
    nearest = (others @ known.T).max(axis=1)  # Cosine to the nearest: high is near.
    chosen = []
    for _ in range(count):
        nearest[chosen] = np.inf
        farthest = int(nearest.argmin())
        chosen.append(farthest)
        nearest = np.maximum(nearest, others @ others[farthest])
    return np.array(chosen)


def _directions(features):
    norms = np.linalg.norm(features, axis=1, keepdims=True)
    return features / np.maximum(norms, 1e-12)
