"""Promises about importance weighting."""

from dataclasses import replace

import keras
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from keras import ops
from sklearn.linear_model import LogisticRegression

from keras_tl import errors
from keras_tl.data.splits import Split, Splits
from keras_tl.methods import domain_adaptation, importance
from keras_tl.training import phases, placement, terms


def gaussians(count=2000, shift=1.0, seed=0):
    rng = np.random.default_rng(seed)
    target = rng.normal(size=(count, 2))
    target[:, 0] += shift
    return rng.normal(size=(count, 2)), target


def test_the_weights_are_the_ratio_of_the_densities():
    source, target = gaussians()
    weights = importance.odds(source, target, seed=0)
    true = np.exp(source[:, 0] - 0.5)  # Of two normal densities, one shifted by 1.
    assert np.corrcoef(np.log(weights), np.log(true))[0, 1] > 0.99
    assert weights.mean() == pytest.approx(1, abs=1e-5)
    # Weighted, the source has the mean of the target.
    assert (weights * source[:, 0]).mean() == pytest.approx(1, abs=0.15)


def test_domains_alike_have_weights_alike():
    source, target = gaussians(shift=0.0)
    weights = importance.odds(source, target, seed=0)
    assert importance.effective_sample_size(weights) > 0.98 * len(source)


@settings(deadline=None)
@given(st.lists(st.floats(0.01, 1e3), min_size=1, max_size=30), st.floats(0.1, 100))
def test_the_effective_size_is_between_one_and_all(weights, factor):
    size = importance.effective_sample_size(np.array(weights))
    assert 1 - 1e-9 <= size <= len(weights) + 1e-9
    scaled = importance.effective_sample_size(factor * np.array(weights))
    assert scaled == pytest.approx(size)
    # Weights that differ less are worth more examples.
    flat = importance.effective_sample_size(
        importance.flattened(np.array(weights), 0.5)
    )
    assert flat >= size - 1e-6


def test_each_example_counts_as_its_weight_says():
    logits = np.array([[2.0, 0.0], [0.0, 1.0], [1.0, 1.0]], "float32")
    labels = np.array([[1, 0], [1, 0], [0, 1]], "float32")
    weights = np.array([[2.0], [0.5], [0.0]], "float32")
    batch = terms.Batch(
        inputs=None,
        logits=ops.convert_to_tensor(logits),
        outputs={},
        labels=ops.convert_to_tensor(labels),
        targets=ops.convert_to_tensor(weights),
        sample_weight=ops.ones(3),
        progress=None,
    )
    chances = np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)
    costs = -np.log((chances * labels).sum(axis=1))
    term = importance.weighted()(None, 1)
    wanted = (2 * costs[0] + 0.5 * costs[1]) / 3
    assert float(term.loss(batch)) == pytest.approx(wanted, rel=1e-5)
    assert term.label_weight == 0


def crooked(count=400):
    """Two domains of one rule that no line follows; the target is at its right end."""

    def split(seed, centre):
        rng = np.random.default_rng(seed)
        x = rng.normal(size=(count, 2)).astype("float32")
        x[:, 0] += centre
        x[:, 1] *= 2
        above = x[:, 1] > x[:, 0] ** 2 - 1
        return Split(x, above.astype(int))

    def domain(first, centre):
        parts = [split(first + n, centre) for n in range(3)]
        return Splits(*parts, ["below", "above"], "Made.")

    return domain(0, 0.0), domain(3, 1.5)


def accuracy(method, exponent):
    source, target = crooked()
    data, term, rows = domain_adaptation.arrange(
        method, source, target, 128, weight=exponent
    )
    keras.utils.set_random_seed(0)
    layers = [keras.Input((2,)), keras.layers.Dense(2, name="logits")]
    model = keras.Sequential(layers)
    setup = phases.Setup(placement.choose(), batch_size=rows, choose_by="last")
    phases.fit(model, data, setup, phases.Phase(10, 0.05, method=term))
    logits = model.predict(target.test.read(range(len(target.test))), verbose=0)
    return (logits.argmax(axis=1) == target.test.labels).mean()


@pytest.mark.slow
def test_a_model_learns_where_the_target_is():
    weighted = accuracy("importance weighting", 1.0)
    assert weighted > accuracy("source only", 0.0) + 0.05


def test_no_label_of_the_target_changes_the_weights():
    source, target = crooked(60)
    wrong = replace(target.train, labels=1 - target.train.labels)
    weights = [
        domain_adaptation.arrange("importance weighting", source, one, 8)[0]
        for one in (target, replace(target, train=wrong))
    ]
    np.testing.assert_array_equal(weights[0].train.targets, weights[1].train.targets)
    assert weights[0].test is target.test
    np.testing.assert_array_equal(weights[0].train.labels, source.train.labels)


def test_weights_are_of_examples_that_the_classifier_has_not_seen():
    # In many dimensions any two sets can be told apart by whoever has seen them.
    rng = np.random.default_rng(0)
    source, target = rng.normal(size=(2, 60, 200))
    both = np.concatenate([source, target])
    seen = LogisticRegression(C=1.0).fit(both, np.repeat([0, 1], 60))
    assert seen.predict_proba(source)[:, 1].mean() < 0.05
    weights = importance.odds(source, target, seed=0)
    assert importance.effective_sample_size(weights) > 0.9 * len(source)


def test_examples_that_cannot_be_weighted_are_named():
    source, target = gaussians(count=4)
    with pytest.raises(errors.InputError, match="`folds` must be in .2, 4."):
        importance.odds(source, target, seed=0)
    for one, other in ((source, target[:, :1]), (source[..., None], target[..., None])):
        with pytest.raises(errors.InputError, match="vectors of one length"):
            importance.odds(one, other, seed=0, folds=2)
    with pytest.raises(errors.InputError, match="`exponent`"):
        importance.flattened(np.ones(3), -1)
