import itertools

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats
from sklearn.covariance import LedoitWolf
from sklearn.linear_model import BayesianRidge

from keras_tl import errors
from keras_tl.analysis import transferability
from keras_tl.data.splits import Split


def clouds(count=60, classes=3, width=5, seed=0, distance=2.0):
    """Features of classes that lie apart, or do not with a distance of 0."""
    rng = np.random.default_rng(seed)
    labels = np.arange(count) % classes
    features = rng.normal(size=(count, width))
    features[np.arange(count), labels % width] += distance
    return features, labels


def evidence(features, column, prior, noise):
    """Log probability of a column under weights and noise of these precisions."""
    covariance = features @ features.T / prior + np.eye(len(column)) / noise
    return stats.multivariate_normal(cov=covariance).logpdf(column) / len(column)


@pytest.mark.parametrize("shape", [(30, 4), (8, 20)])
def test_log_me_is_the_highest_evidence_on_a_grid(shape):
    features, labels = clouds(shape[0], 2, shape[1], distance=1.0)
    wanted = []
    for label in range(2):
        column = (labels == label).astype(float)
        grid = itertools.product(np.logspace(-3, 5, 50), np.logspace(-2, 4, 50))
        wanted.append(max(evidence(features, column, *pair) for pair in grid))
    score = transferability.log_me(features, labels)
    assert score == pytest.approx(np.mean(wanted), abs=5e-3)
    assert score >= np.mean(wanted) - 1e-6


@pytest.mark.parametrize("shape", [(80, 6), (30, 50)])
def test_log_me_is_the_evidence_of_scikit_learns_bayesian_ridge(shape):
    features, labels = clouds(shape[0], 3, shape[1], distance=1.0)
    wanted = []
    for label in range(3):
        # Without its priors on the variances, which LogME does not have.
        ridge = BayesianRidge(
            max_iter=5000,
            tol=1e-10,
            compute_score=True,
            fit_intercept=False,
            **dict.fromkeys(("alpha_1", "alpha_2", "lambda_1", "lambda_2"), 0.0),
        )
        ridge.fit(features, (labels == label).astype(float))
        wanted.append(ridge.scores_[-1] / len(labels))
    score = transferability.log_me(features, labels)
    assert score == pytest.approx(np.mean(wanted), abs=1e-4)


def test_log_me_of_one_feature_by_hand():
    # One example of each class and one feature: evidence of two normal numbers.
    features, labels = np.array([[1.0], [-1.0], [1.0], [-1.0]]), np.array([0, 1, 0, 1])
    column = (labels == 0).astype(float)
    ratio_grid = np.logspace(-3, 3, 400)
    by_hand = -np.inf
    for prior, noise in itertools.product(ratio_grid, ratio_grid):
        # Along the feature the variance is 4 / prior + 1 / noise, elsewhere 1 / noise.
        along, across = 4 / prior + 1 / noise, 1 / noise
        squared_along, squared = (features[:, 0] @ column) ** 2 / 4, column @ column
        value = -0.5 * (
            4 * np.log(2 * np.pi)
            + np.log(along)
            + 3 * np.log(across)
            + squared_along / along
            + (squared - squared_along) / across
        )
        by_hand = max(by_hand, value / 4)
    assert transferability.log_me(features, labels) == pytest.approx(by_hand, abs=1e-3)


def test_h_score_is_its_definition():
    features, labels = clouds(50, 3, 4)
    mean = features.mean(axis=0)
    covariance, between = np.zeros((4, 4)), np.zeros((4, 4))
    for row, label in zip(features, labels, strict=True):
        of_class = features[labels == label].mean(axis=0) - mean
        covariance += np.outer(row - mean, row - mean) / 50
        between += np.outer(of_class, of_class) / 50
    wanted = np.trace(np.linalg.inv(covariance) @ between)
    score = transferability.h_score(features, labels, shrinkage=0)
    assert score == pytest.approx(wanted)
    shrunk = 0.7 * covariance + 0.3 * np.trace(covariance) / 4 * np.eye(4)
    wanted = 0.7 * np.trace(np.linalg.inv(shrunk) @ between)
    score = transferability.h_score(features, labels, shrinkage=0.3)
    assert score == pytest.approx(wanted)


def test_the_h_score_is_shrunk_as_ledoit_and_wolf_do():
    features, labels = clouds(50, 3, 4)
    fitted = LedoitWolf().fit(features)
    means = np.stack([features[labels == label].mean(0) for label in labels])
    between = np.cov(means, rowvar=False, bias=True)
    wanted = np.trace(np.linalg.inv(fitted.covariance_) @ between)
    score = transferability.h_score(features, labels)
    assert score == pytest.approx((1 - fitted.shrinkage_) * wanted)


def test_h_score_has_its_bounds():
    labels = np.repeat([0, 1, 2], 20)
    perfect = np.eye(3)[labels]
    assert transferability.h_score(perfect, labels, shrinkage=0) == pytest.approx(2)
    same = np.zeros((60, 3))
    same[:, 0] = np.tile(np.arange(20), 3)
    assert transferability.h_score(same, labels, shrinkage=0) == pytest.approx(0)


def test_more_features_than_examples_are_regularised():
    features, labels = clouds(30, 3, 100)
    noise, _ = clouds(30, 3, 100, seed=1, distance=0)
    # Without it, any features explain any labels.
    for values in (features, noise):
        score = transferability.h_score(values, labels, shrinkage=0)
        assert score == pytest.approx(2, abs=1e-6)
    scores = [transferability.h_score(values, labels) for values in (features, noise)]
    assert scores[0] > scores[1]


def test_leep_by_hand():
    # Two source classes, two labels, each label twice.
    source = np.array([[0.9, 0.1], [0.7, 0.3], [0.4, 0.6], [0.2, 0.8]])
    labels = np.array([0, 0, 1, 1])
    # P(label 0 | source 0) = 1.6 / 2.2, P(label 0 | source 1) = 0.4 / 1.8.
    first, second = 1.6 / 2.2, 0.4 / 1.8
    likelihoods = [
        0.9 * first + 0.1 * second,
        0.7 * first + 0.3 * second,
        0.4 * (1 - first) + 0.6 * (1 - second),
        0.2 * (1 - first) + 0.8 * (1 - second),
    ]
    score = transferability.leep(source, labels)
    assert score == pytest.approx(np.mean(np.log(likelihoods)))


def test_nce_by_hand():
    # Source class 0: three of label 0, one of label 1; source class 1: two of label 1.
    source, labels = np.array([0, 0, 0, 0, 1, 1]), np.array([0, 0, 0, 1, 1, 1])
    wanted = (3 * np.log(3 / 4) + np.log(1 / 4) + 2 * np.log(1)) / 6
    assert transferability.nce(source, labels) == pytest.approx(wanted)


def test_leep_of_certain_predictions_is_nce():
    rng = np.random.default_rng(0)
    source, labels = rng.integers(0, 4, 50), rng.integers(0, 3, 50)
    score = transferability.leep(np.eye(4)[source], labels)
    assert score == pytest.approx(transferability.nce(source, labels))


@settings(max_examples=25, deadline=None)
@given(st.integers(0, 10_000))
def test_no_score_depends_on_the_order_of_examples_or_the_names_of_classes(seed):
    rng = np.random.default_rng(seed)
    features, labels = clouds(30, 3, 6, seed=seed)
    source = rng.dirichlet(np.ones(4), 30)
    order, names = rng.permutation(30), rng.permutation(3) * 2
    for score, values in (
        (transferability.log_me, features),
        (transferability.h_score, features),
        (transferability.leep, source),
        (transferability.nce, source.argmax(axis=1)),
    ):
        changed = score(values[order], names[labels][order])
        assert changed == pytest.approx(score(values, labels), rel=1e-6)


@settings(max_examples=25, deadline=None)
@given(st.integers(0, 10_000))
def test_the_h_score_does_not_depend_on_an_invertible_linear_map(seed):
    rng = np.random.default_rng(seed)
    features, labels = clouds(40, 3, 4, seed=seed)
    matrix = rng.normal(size=(4, 4)) + 3 * np.eye(4)
    mapped = features @ matrix + rng.normal(size=4)
    score = transferability.h_score(features, labels, shrinkage=0)
    changed = transferability.h_score(mapped, labels, shrinkage=0)
    assert changed == pytest.approx(score, rel=1e-5)


@pytest.mark.parametrize("scale", [1e-9, 1e6])
def test_no_score_depends_on_the_unit_of_the_features(scale):
    features, labels = clouds(60, 3, 6)
    for score in (transferability.log_me, transferability.h_score):
        wanted = score(features, labels)
        assert score(scale * features, labels) == pytest.approx(wanted, rel=1e-4)


@pytest.mark.parametrize("shape", [(24, 5), (24, 60)])
def test_each_example_of_the_ridge_is_predicted_without_it(shape):
    features, labels = clouds(shape[0], 2, shape[1], distance=1.0)
    columns = np.eye(2)[labels]
    scaled = (features - features.mean(0)) / features.std(0)
    width = shape[1]

    def left_out(row, strength):
        rows = np.delete(np.arange(24), row)
        mean, centre = columns[rows].mean(0), scaled[rows].mean(0)
        x = scaled[rows] - centre
        inverse = np.linalg.inv(x.T @ x + strength * width * np.eye(width))
        weights = inverse @ x.T @ (columns[rows] - mean)
        return (scaled[row] - centre) @ weights + mean

    # The slow way: a fit without each example, for each strength.
    predicted = {
        strength: np.stack([left_out(row, strength) for row in range(24)])
        for strength in transferability.STRENGTHS
    }
    best = min(predicted, key=lambda s: ((predicted[s] - columns) ** 2).mean())
    scores = transferability.ridge(features, labels)
    np.testing.assert_allclose(scores, predicted[best], atol=1e-6)


@pytest.mark.parametrize("width", [5, 400])
def test_a_ridge_on_noise_is_no_better_than_chance(width):
    # With more features than examples, a label that is not quite left out would show.
    noise, labels = clouds(150, 3, width, distance=0)
    right = transferability.ridge(noise, labels).argmax(1) == labels
    assert right.mean() < 0.42


@pytest.mark.parametrize("scale", [1.0, 1e-12])
def test_a_ridge_on_tiny_features_sees_them(scale):
    good, labels = clouds(150, 3, 5, distance=3.0)
    scores = transferability.ridge(scale * good, labels)
    assert (scores.argmax(1) == labels).mean() > 0.9


def splits_of(distance, seed=0):
    features, labels = clouds(150, 3, 8, seed=seed, distance=distance)
    return Split(features[:90], labels[:90]), Split(features[90:], labels[90:])


def test_every_score_sees_that_features_are_better_than_noise():
    source = np.random.default_rng(0).dirichlet(np.ones(5), 90)
    good, _ = transferability.measure(*splits_of(3.0))
    bad, _ = transferability.measure(*splits_of(0.0))
    assert {*transferability.DECISIONS, "LogME", "H-score"} == set(good)
    assert all(good[name] > bad[name] for name in good)
    scores, correct = transferability.measure(*splits_of(3.0), source)
    assert {"LEEP", "NCE"} <= set(scores)
    assert len(correct["logistic"]) == 60
    assert len(correct["ridge"]) == 150


def test_a_class_without_training_examples_shifts_no_other():
    train, validation = splits_of(8.0)
    labels = {0: 1, 1: 3, 2: 4}

    def renamed(split):
        numbers = np.array([labels[label] for label in split.labels])
        return Split(split.inputs, numbers)

    plain, _ = transferability.measure(train, validation)
    moved, _ = transferability.measure(renamed(train), renamed(validation))
    assert moved == pytest.approx(plain)
    assert min(moved[name] for name in transferability.DECISIONS) > 0.9


def test_a_better_one_is_first_and_equal_ones_are_tied():
    rng = np.random.default_rng(0)
    good, bad = rng.random(300) < 0.9, rng.random(300) < 0.5
    # Three predictions differ: no difference at all on 300 examples.
    near = good.copy()
    near[np.flatnonzero(good)[:3]] = False
    near[np.flatnonzero(~good)[:2]] = True
    ordered = transferability.order({"bad": bad, "near": near, "good": good})
    assert [place.name for place in ordered.places] == ["good", "near", "bad"]
    assert ordered.tied == ["good", "near"]
    first, second, third = ordered.places
    assert first.rank_interval == second.rank_interval == (1, 2)
    assert third.rank_interval == (3, 3)
    assert first.interval[0] < first.value < first.interval[1]


def test_where_all_examples_are_right_the_interval_has_a_width():
    (place,) = transferability.order({"perfect": np.ones(40)}).places
    low, high = place.interval
    assert 0.9 < low < 0.95
    assert high == 1.0


def test_an_order_is_the_same_for_the_same_seed():
    rng = np.random.default_rng(0)
    values = {name: rng.random(80) < 0.6 for name in "abc"}
    one, two = (transferability.order(values, seed=3) for _ in range(2))
    assert one.places == two.places


@pytest.mark.parametrize("score", ["log_me", "h_score", "leep"])
def test_bad_input_is_named(score):
    function = getattr(transferability, score)
    features = np.full((4, 2), 0.5)
    with pytest.raises(errors.InputError, match="two classes"):
        function(features, np.zeros(4, int))
    with pytest.raises(errors.InputError, match="one for each of 4"):
        function(features, np.array([0, 1]))
    with pytest.raises(errors.InputError, match="finite"):
        function(np.full((4, 2), np.nan), np.array([0, 1, 0, 1]))
    with pytest.raises(errors.InputError, match="rows sum to 1"):
        transferability.leep(2 * features, np.array([0, 1, 0, 1]))
    with pytest.raises(errors.InputError, match="same examples"):
        transferability.order({"a": np.ones(3), "b": np.ones(4)})
