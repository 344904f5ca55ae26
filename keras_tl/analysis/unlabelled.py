"""What the answers of a model say about it, where there are no labels."""

import numpy as np

from keras_tl.analysis.evaluation import checked_logits, softmax


def information(logits: np.ndarray) -> float:
    """Compute how much the answers for examples without labels depend on them.

    The mutual information of example and answer: the entropy of the mean of all
    probabilities, minus the mean of their entropies. It is high where each answer is
    certain and all classes are answered, and so ranks models, or settings of a method,
    without a label; a model can be certain and wrong all the same. It supposes that the
    classes are about equally frequent.

    Args:
        logits: Outputs of a classifier, float `(count, num_classes)`.

    Returns:
        In nats, in [0, log(num_classes)]; more is better.

    Raises:
        InputError: Logits of another shape, or that are not finite.

    Reference:
        Bridle et al., "Unsupervised classifiers, mutual information and 'phantom
        targets'", NIPS 1991; for domains: Morerio et al., "Minimal-entropy correlation
        alignment", 2018, arXiv:1711.10288.

    >>> round(information(np.array([[99.0, 0.0], [0.0, 99.0]])), 3)
    0.693
    >>> round(information(np.array([[99.0, 0.0], [99.0, 0.0]])), 3)
    0.0
    """
    # In float32, the logarithm of a probability that is too small would be infinite.
    answers = softmax(checked_logits(logits).astype("float64"))
    gained = _entropy(answers.mean(axis=0)) - _entropy(answers).mean()
    return max(0.0, float(gained))


def _entropy(answers):
    return -(answers * np.log(np.maximum(answers, 1e-300))).sum(axis=-1)
