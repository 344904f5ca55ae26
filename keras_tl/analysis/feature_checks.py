"""Checks on frozen features: wrong labels, odd images, splits that differ.

The features are those of `backbones.load` with a pooled head, kept in the same store as
those of training: what is computed here is not computed again there.

Wrong labels are found by confident learning in the form of a mixture: out-of-fold
probabilities `p` are taken as `(1 - e) softmax(b log p) + e / K`, whose share of noise
`e` and sharpness `b` have the highest likelihood; an example is suspected by its
posterior probability of noise. The filters of cleanlab take every contradiction by a
classifier for a candidate, and name 310 of the 4,000 images of the sample of CIFAR-10,
none of which was changed. The mixture names none of them, and most of the labels that
were changed: so cleanlab is no dependency.

Reference:
    Northcutt, Jiang and Chuang, "Confident Learning: Estimating Uncertainty in Dataset
    Labels", 2021, https://arxiv.org/abs/1911.00068
"""

from dataclasses import dataclass

import numpy as np
from threadpoolctl import threadpool_limits

from keras_tl import progress
from keras_tl.analysis.findings import Finding, named
from keras_tl.analysis.records import Records
from keras_tl.data.assembly import NAMES
from keras_tl.errors import counted

# Fewest examples in all, and of a class, for statistics to mean something.
_FEWEST, _FEWEST_OF_CLASS = 50, 5
# Principal components of the features, and neighbours that are looked at.
_COMPONENTS, _NEIGHBOURS = 128, 10
# Posterior probability from which on a label is suspected, and twice the logarithm of
# the likelihood ratio from which on there is noise for certain.
_SUSPECTED, CERTAIN = 0.5, 10.0
# Probabilities of another class, and of its own, by which a label is doubtful; and how
# many such labels, as a share of those that the classifier answers otherwise, are more
# than its own errors. Measured on eight clean datasets: 1 to 7 %; on five of them with
# 3 % of the labels moved to the next class 3 to 15 %, with 10 % of them 6 to 26 %.
_SURE, _UNSURE = 0.8, 0.1
_MANY_DOUBTFUL, _FEWEST_DOUBTFUL = 0.09, 5
# Distance from the others, in interquartile ranges above the upper quartile: from which
# on an image is shown, and warned of.
_UNLIKE, _FAR = 2.8, 6.0
# Area under the ROC curve from which on train and test differ, and standard errors that
# it has to be above 1/2.
_SHIFT, _ERRORS = 0.7, 5.0
# Examples that are looked at in one go.
_BLOCK = 1024


def check(features: np.ndarray, records: Records) -> list[Finding]:
    """Check labels, single images and splits by the features of all examples.

    Args:
        features: `(count, features)`, in the order of the records.
        records: What is known of the examples.
    """
    if len(records) < _FEWEST:
        return []
    features = np.asarray(features, "float32")
    checks = (labels, outliers, shift)
    return [
        finding
        for check in progress.track(checks, "checking images", len(checks))
        for finding in check(features, records)
    ]


def _compressed(features) -> np.ndarray:
    """Return scaled principal components."""
    from sklearn.decomposition import PCA
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    count = min(_COMPONENTS, len(features) // 4, features.shape[1])
    with threadpool_limits(1):
        pipeline = make_pipeline(StandardScaler(), PCA(count, random_state=0))
        return pipeline.fit_transform(features)


def labels(features: np.ndarray, records: Records) -> list[Finding]:
    """List examples whose label is probably wrong, the most certain first."""
    if records.task != "single-label":
        return []
    known = np.flatnonzero([label is not None for label in records.labels])
    names, numbers, counts = np.unique(
        [records.labels[index] for index in known],
        return_inverse=True,
        return_counts=True,
    )
    if len(names) < 2 or counts.min() < _FEWEST_OF_CLASS or len(known) < _FEWEST:
        return []
    probabilities = out_of_fold(features[known], numbers)
    noise = suspected_noise(probabilities, numbers)
    answers = probabilities.argmax(axis=1)
    suspects = np.flatnonzero((noise.posterior > _SUSPECTED) & (answers != numbers))
    suspects = suspects[np.argsort(-noise.posterior[suspects], kind="stable")]
    own = probabilities[np.arange(len(numbers)), numbers]
    contradicted = (probabilities.max(axis=1) >= _SURE) & (own <= _UNSURE)
    many = contradicted.sum() >= max(
        _FEWEST_DOUBTFUL, _MANY_DOUBTFUL * (answers != numbers).sum()
    )
    doubtful = np.setdiff1d(np.flatnonzero(contradicted), suspects)
    doubtful = doubtful[np.argsort(own[doubtful], kind="stable")]
    findings = []
    for code, severity, message, chosen in (
        (
            "probable-label-error",
            "warning" if many or noise.evidence >= CERTAIN else "note",
            f"Probably wrong: {counted(len(suspects), 'label')} of {len(known):,} "
            f"({noise.share:.1%} of all labels by estimate)",
            suspects,
        ),
        (
            "doubtful-label",
            "warning" if many else "note",
            f"In contradiction to a classifier that is sure of itself, which may be "
            f"its error: {counted(len(doubtful), 'label')} of {len(known):,}",
            doubtful,
        ),
    ):
        if not len(chosen):
            continue
        indices = known[chosen]
        listed = tuple(
            f"{records.names[index]}: {names[numbers[one]]}, looks like "
            f"{names[answers[one]]}"
            for one, index in zip(chosen, indices, strict=True)
        )
        findings.append(
            Finding(
                code,
                severity,
                f"{message}, {named(listed)}.",
                "Look at each, and move it to its class, or leave it out.",
                listed,
                records.files(indices),
                tuple(indices.tolist()),
            )
        )
    return findings


def out_of_fold(features: np.ndarray, numbers: np.ndarray) -> np.ndarray:
    """Predict each example by classifiers that were fitted without it.

    Args:
        features: `(count, features)`.
        numbers: int `(count,)`, the number of the class of each.

    Returns:
        Probabilities `(count, num_classes)`: the mean of logistic regression over five
        folds and of the shares of the nearest neighbours.
    """
    from sklearn.decomposition import PCA
    from sklearn.linear_model import LogisticRegression
    from sklearn.model_selection import StratifiedKFold, cross_val_predict
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    count = min(_COMPONENTS, len(features) // 4, features.shape[1])
    model = make_pipeline(
        StandardScaler(),
        PCA(count, random_state=0),
        LogisticRegression(C=0.01, max_iter=200),
    )
    folds = StratifiedKFold(5, shuffle=True, random_state=0)
    # As in `probe`: problems of this size are solved faster by one thread.
    with threadpool_limits(1):
        linear = cross_val_predict(
            model, features, numbers, cv=folds, method="predict_proba"
        )
    classes = linear.shape[1]
    values = _compressed(features)[:, :64]
    values /= np.maximum(np.linalg.norm(values, axis=1, keepdims=True), 1e-9)
    votes = np.zeros_like(linear)
    for start in range(0, len(values), _BLOCK):
        rows = np.arange(start, min(start + _BLOCK, len(values)))
        alike = values[rows] @ values.T
        alike[np.arange(len(rows)), rows] = -np.inf
        nearest = np.argpartition(-alike, _NEIGHBOURS, axis=1)[:, :_NEIGHBOURS]
        for number in range(classes):
            votes[rows, number] = (numbers[nearest] == number).sum(axis=1)
    return (linear + (votes + 1 / classes) / (_NEIGHBOURS + 1)) / 2


@dataclass(frozen=True)
class Noise:
    """Estimate of how many labels are wrong.

    Attributes:
        share: Share of labels that were drawn at random.
        evidence: Twice the logarithm of the likelihood ratio to no noise at all.
        posterior: For each example, the probability that its label was.
    """

    share: float
    evidence: float
    posterior: np.ndarray


def suspected_noise(probabilities: np.ndarray, numbers: np.ndarray) -> Noise:
    """Estimate which labels are noise, given probabilities from other examples.

    Args:
        probabilities: `(count, num_classes)`, see `out_of_fold`.
        numbers: int `(count,)`, the labels.

    >>> sure = np.repeat([[0.9, 0.1], [0.1, 0.9]], 50, axis=0)
    >>> right = np.repeat([0, 1], 50)
    >>> bool(suspected_noise(sure, right).posterior.max() < 0.5)
    True
    """
    from scipy.optimize import minimize
    from scipy.special import expit, log_softmax

    logarithms = np.log(np.maximum(probabilities, 1e-12))
    rows, classes = np.arange(len(numbers)), probabilities.shape[1]

    def likelihood(sharpness, share):
        own = np.exp(log_softmax(np.exp(sharpness) * logarithms, axis=1)[rows, numbers])
        return (1 - share) * own + share / classes

    def cost(values):
        share = expit(values[1]) if len(values) > 1 else 0.0
        return -np.log(np.maximum(likelihood(values[0], share), 1e-300)).sum()

    starts = [(sharpness, share) for sharpness in (0, -1) for share in (-3, -5)]
    runs = [minimize(cost, start, method="Nelder-Mead") for start in starts]
    best = min(runs, key=lambda run: run.fun)
    without = minimize(cost, [0.0], method="Nelder-Mead")
    share = float(expit(best.x[1]))
    posterior = share / classes / np.maximum(likelihood(best.x[0], share), 1e-300)
    return Noise(share, float(2 * (without.fun - best.fun)), posterior)


def outliers(features: np.ndarray, records: Records) -> list[Finding]:
    """List images that are unlike all others, in what they show or in how they look.

    The distance to the nearest neighbours is that of features, which know what is in
    photos, or that of colours, contrast and flat areas: a screenshot among photos has
    features that are near to all of them.
    """
    scores = _remoteness(np.sqrt(np.maximum(features, 0)))
    if records.squares is not None:
        scores = np.maximum(scores, _remoteness(_scaled(looks(records.squares))))
    far = np.flatnonzero(scores > _UNLIKE)
    if not len(far):
        return []
    far = far[np.argsort(-scores[far], kind="stable")]
    certain = far[scores[far] > _FAR]
    findings = []
    for severity, indices in (("warning", certain), ("note", far[len(certain) :])):
        if not len(indices):
            continue
        findings.append(
            Finding(
                "unlike-all-others",
                severity,
                f"Far from all others: {counted(len(indices), 'image')}, "
                f"{named(records.named(indices))}.",
                "Look at them: screenshots, pictures that say that there is none, or "
                "another kind of thing. Rare but right ones belong into the data.",
                records.named(indices),
                pictures=tuple(indices.tolist()),
            )
        )
    return findings


def _remoteness(values) -> np.ndarray:
    """Return how far each row is from its neighbours, in interquartile ranges."""
    values = values.astype("float32")
    squares = (values**2).sum(axis=1)
    count = min(_NEIGHBOURS, len(values) - 1)
    distances = np.empty(len(values))
    for start in range(0, len(values), _BLOCK):
        rows = np.arange(start, min(start + _BLOCK, len(values)))
        apart = squares[rows, None] + squares - 2 * values[rows] @ values.T
        apart[np.arange(len(rows)), rows] = np.inf
        nearest = np.partition(apart, count - 1, axis=1)[:, :count]
        distances[rows] = np.sqrt(np.maximum(nearest, 1e-9)).mean(axis=1)
    logarithms = np.log(distances)
    low, high = np.percentile(logarithms, [25, 75])
    return (logarithms - high) / max(high - low, 0.05)


def looks(squares: np.ndarray) -> np.ndarray:
    """Describe colours, contrast, saturation, edges and flat areas of images.

    Args:
        squares: uint8 `(count, side, side, 3)`.

    Returns:
        `(count, 10)`, on scales on which differences are comparable.
    """
    rows = []
    for start in range(0, len(squares), 256):
        values = squares[start : start + 256].astype("float32")
        grey = values.mean(axis=3)
        coarse = (squares[start : start + 256] // 8).astype("int32")
        coarse = coarse[..., 0] * 1024 + coarse[..., 1] * 32 + coarse[..., 2]
        flat = np.array([np.bincount(one.ravel()).max() for one in coarse])
        flat = flat / coarse[0].size
        equal = (np.abs(np.diff(grey, axis=2)) < 1).mean(axis=(1, 2))
        edges = np.abs(np.diff(grey, axis=2)).mean(axis=(1, 2))
        saturation = (values.max(axis=3) - values.min(axis=3)).mean(axis=(1, 2))
        shares = np.column_stack([flat, equal])
        rows.append(
            np.column_stack(
                [
                    values.mean(axis=(1, 2)),
                    values.std(axis=(1, 2)),
                    20 * np.log(saturation + 1),
                    20 * np.log(edges + 1),
                    20 * np.log((shares + 0.005) / (1.005 - shares)),
                ]
            )
        )
    return np.concatenate(rows)


def _scaled(values) -> np.ndarray:
    middle = np.median(values, axis=0)
    spread = 1.4826 * np.median(np.abs(values - middle), axis=0)
    return (values - middle) / (np.maximum(spread, values.std(axis=0) / 2) + 1e-6)


def shift(features: np.ndarray, records: Records) -> list[Finding]:
    """Compare the splits: a classifier tries to tell training from the others.

    Reference:
        Lopez-Paz and Oquab, "Revisiting Classifier Two-Sample Tests", 2017,
        https://arxiv.org/abs/1610.06545
    """
    findings = []
    train = np.flatnonzero(records.splits == "train")
    for split in NAMES[1:]:
        other = np.flatnonzero(records.splits == split)
        if min(len(train), len(other)) < _FEWEST // 2:
            continue
        area = separability(features[train], features[other])
        count = len(train) * len(other)
        # Of the Mann-Whitney statistic, where both are alike.
        error = np.sqrt((len(train) + len(other) + 1) / (12 * count))
        if area < max(_SHIFT, 0.5 + _ERRORS * error):
            continue
        shown = np.concatenate([train[:8], other[:8]])
        findings.append(
            Finding(
                f"train-differs-from-{split}",
                "warning",
                f"A classifier tells training {records.nouns} from those of {split}: "
                f"the area under its ROC curve is {area:.2f}, where 0.5 is chance. "
                f"Results on {split} will be worse than training lets expect, or "
                "measure something else.",
                f"Draw the splits from all {records.nouns} together, or train on "
                f"{records.nouns} like those that the model will meet.",
                (
                    f"train: {counted(len(train), records.noun)}",
                    f"{split}: {counted(len(other), records.noun)}",
                ),
                pictures=tuple(shown.tolist()),
            )
        )
    return findings


def separability(first, second) -> float:
    from sklearn.decomposition import PCA
    from sklearn.linear_model import LogisticRegression
    from sklearn.metrics import roc_auc_score
    from sklearn.model_selection import StratifiedKFold, cross_val_predict
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    values = np.concatenate([first, second])
    of_second = np.repeat([0, 1], [len(first), len(second)])
    count = min(64, len(values) // 4, values.shape[1])
    model = make_pipeline(
        StandardScaler(),
        PCA(count, random_state=0),
        LogisticRegression(C=0.01, max_iter=200, class_weight="balanced"),
    )
    folds = StratifiedKFold(5, shuffle=True, random_state=0)
    with threadpool_limits(1):
        scores = cross_val_predict(
            model, values, of_second, cv=folds, method="decision_function"
        )
    return float(roc_auc_score(of_second, scores))
