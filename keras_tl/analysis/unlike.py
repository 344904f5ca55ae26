"""How unlike the training examples an example is, by what the model sees in it."""

import numpy as np

from keras_tl import errors

# Which of the nearest training examples counts, see `benchmarks.answers`.
NEIGHBOURS = 5
# Share of validation examples that are within the threshold.
WITHIN = 0.95


def energy(logits: np.ndarray) -> np.ndarray:
    """Compute the energy of each example: the higher, the less the model knows it.

    Liu et al., Energy-based Out-of-distribution Detection, 2020, arXiv:2010.03759.

    Args:
        logits: `(count, outputs)`.

    >>> energy(np.array([[0.0, 0.0]])).round(3).tolist()
    [-0.693]
    """
    largest = logits.max(axis=1)
    return -largest - np.log(np.exp(logits - largest[:, None]).sum(axis=1))


def distance(
    embeddings: np.ndarray, references: np.ndarray, neighbours: int = NEIGHBOURS
) -> np.ndarray:
    """Compute the distance of examples to the nearest of the training examples.

    Euclidean, between embeddings of length 1, to the k-th nearest, as in Sun et al.,
    Out-of-Distribution Detection with Deep Nearest Neighbors, 2022, arXiv:2204.06507.

    Args:
        embeddings: `(count, features)`.
        references: Those of training examples, `(number, features)`.
        neighbours: Which of the nearest, from 1 on; the last where there are fewer.

    Returns:
        `(count,)`, in [0, 2].

    >>> distance(np.array([[2.0, 0.0], [0.0, 3.0]]), np.array([[1.0, 0.0]])).tolist()
    [0.0, 1.4142135623730951]
    """
    cosines = normalized(embeddings) @ normalized(references).T
    return to_nearest(cosines, neighbours)


def to_nearest(cosines: np.ndarray, neighbours: int = NEIGHBOURS) -> np.ndarray:
    """Return the `distance` of examples, whose cosines `(count, number)` are known."""
    errors.check_at_least("neighbours", neighbours, 1)
    neighbours = min(neighbours, cosines.shape[1])
    nearest = np.partition(cosines, -neighbours, axis=1)[:, -neighbours]
    return np.sqrt(np.maximum(0.0, 2 - 2 * nearest))


def normalized(embeddings: np.ndarray) -> np.ndarray:
    """Return embeddings divided by their lengths; those of length 0 as they are."""
    lengths = np.linalg.norm(embeddings, axis=1, keepdims=True)
    return embeddings / np.where(lengths > 0, lengths, 1)


def threshold(distances: np.ndarray) -> float:
    """Return the distance that 95 % of the validation examples are within."""
    return float(np.quantile(distances, WITHIN))
