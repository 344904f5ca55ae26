"""Importance weighting: examples of a source count as often as a target has the like.

Where two domains have the same kinds of examples in other proportions, the loss of the
target is that of the source with the weights p_target(x) / p_source(x): covariate
shift. Where the target has what the source has not, no weights make up for it.
"""

import keras
import numpy as np
from keras import ops
from sklearn.decomposition import PCA
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import StratifiedKFold
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from threadpoolctl import threadpool_limits

from keras_tl import errors
from keras_tl.training.terms import Method, Term

# Strengths of the regularization to choose from, scikit-learn's `C`, and most columns.
_STRENGTHS = (1e-4, 1e-3, 1e-2, 1e-1, 1.0)
_MOST_COLUMNS = 64


def odds(
    source: np.ndarray, target: np.ndarray, *, seed: int, folds: int = 5
) -> np.ndarray:
    """Estimate how much more frequent the like of each source example is in the target.

    A logistic regression tells the domains apart by the principal components of their
    features; for each example it is fitted to the other folds, since an example that it
    has seen would look typical of its own domain. Its odds, times the ratio of the
    sizes, estimate the ratio of the densities. Of several strengths of regularization,
    that with the lowest loss on the examples left out is taken.

    Args:
        source: Features of the source, `(count, features)`.
        target: Those of the target, without labels, of as many features.
        seed: Seed of the folds.
        folds: Number of folds, at least 2, and at most the examples of either domain.

    Returns:
        float32 `(count,)`, at least 0, with mean 1.

    Raises:
        InputError: Features that are no vectors of one length, or too few examples.

    Reference:
        Bickel et al., "Discriminative learning for differing training and test
        distributions", 2007, https://doi.org/10.1145/1273496.1273507; Shimodaira,
        2000, https://doi.org/10.1016/S0378-3758(00)00115-4, for the weighted loss.

    >>> source, target = np.array([[0.0], [1.0]] * 40), np.array([[1.0]] * 40)
    >>> weights = odds(source, target, seed=0)
    >>> bool((weights[1::2] > 2 * weights[::2]).all())
    True
    """
    _check(source, target, folds)
    both = np.concatenate([source, target])
    of_target = np.repeat([0, 1], [len(source), len(target)])
    smallest = len(both) - -(-len(both) // folds)  # Examples outside a fold.
    columns = min(_MOST_COLUMNS, both.shape[1], smallest)
    folding = StratifiedKFold(folds, shuffle=True, random_state=seed)
    scores = {strength: np.empty(len(both)) for strength in _STRENGTHS}
    # Problems of this size are solved faster by one thread, see `probe.fit_with`.
    with threadpool_limits(1):
        for inside, outside in folding.split(both, of_target):
            reduce = make_pipeline(StandardScaler(), PCA(columns, random_state=seed))
            seen = reduce.fit_transform(both[inside])
            unseen = reduce.transform(both[outside])
            for strength, row in scores.items():
                model = LogisticRegression(C=strength, max_iter=1000)
                model.fit(seen, of_target[inside])
                # The logarithm of the odds.
                row[outside] = model.decision_function(unseen)

    def loss(row):
        return np.logaddexp(0, np.where(of_target, -row, row)).mean()

    best = min(scores.values(), key=loss)
    ratios = np.exp(best[: len(source)].clip(-30, 30))
    return (ratios / ratios.mean()).astype("float32")


def _check(source, target, folds):
    for name, values in (("source", source), ("target", target)):
        if values.ndim != 2 or values.shape[1] != source.shape[-1]:
            shapes = f"{source.shape} and {target.shape}"
            raise errors.expected(name, "be vectors of one length", shapes)
        if not 2 <= folds <= len(values):
            raise errors.expected(
                "folds", f"be in [2, {len(values)}], the examples of {name}", folds
            )


def effective_sample_size(weights: np.ndarray) -> float:
    """Return how many equally weighted examples tell as much as weighted ones.

    Args:
        weights: At least 0, not all 0, `(count,)`.

    Returns:
        (sum of weights)^2 / sum of squared weights, in [1, count].

    Reference:
        Kish, "Survey sampling", 1965.

    >>> [effective_sample_size(weights) for weights in ([1, 1, 0], [1, 1, 1, 1])]
    [2.0, 4.0]
    """
    weights = np.asarray(weights, float)
    return float(weights.sum() ** 2 / np.square(weights).sum())


def flattened(weights: np.ndarray, exponent: float) -> np.ndarray:
    """Return weights to a power, with mean 1.

    Few large weights make the loss vary; a low exponent trades that for bias.

    Args:
        weights: At least 0, `(count,)`.
        exponent: At least 0: 0 weights all alike, 1 leaves the weights as they are.

    >>> flattened(np.array([1.0, 9.0]), 0.5).tolist()
    [0.5, 1.5]
    """
    errors.check_at_least("exponent", exponent, 0)
    powers = np.asarray(weights) ** exponent
    return powers / powers.mean()


def weighted() -> Method:
    """Weight the loss of each example by its target, such as `odds` gives it.

    Returns:
        A method for `phases.Phase` whose training examples have one number each as
        `targets`. Validation losses are those of the labels, without weights.
    """

    def loss(batch):
        costs = keras.losses.categorical_crossentropy(
            batch.labels, batch.logits, from_logits=True
        )
        return batch.mean(costs * ops.reshape(batch.targets, (-1,)))

    return lambda model, steps: Term(loss, label_weight=0.0)
