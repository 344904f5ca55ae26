import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from sklearn.linear_model import LogisticRegression
from sklearn.preprocessing import StandardScaler

from keras_tl import errors
from keras_tl.analysis import folds, probe
from keras_tl.data.splits import Split


@given(
    counts=st.lists(st.integers(4, 12), min_size=2, max_size=4),
    count=st.integers(2, 4),
    seed=st.integers(0, 5),
)
def test_every_example_is_judged_once_by_a_fold_that_did_not_learn_it(
    counts, count, seed
):
    labels = np.repeat(np.arange(len(counts)), counts)
    pairs = folds.split(labels, count, seed=seed)
    assert len(pairs) == count
    judged = np.concatenate([part for _, part in pairs])
    assert sorted(judged) == list(range(len(labels)))
    for learnt, part in pairs:
        assert not set(learnt) & set(part)
        assert len(learnt) + len(part) == len(labels)
        assert set(labels[learnt]) == set(labels)
        # The same share of each class, up to one example.
        for label, size in enumerate(counts):
            assert abs((labels[part] == label).sum() - size / count) < 1


@given(seed=st.integers(0, 20))
def test_no_group_is_learnt_and_judged_in_the_same_fold(seed):
    rng = np.random.default_rng(seed)
    groups = np.repeat(np.arange(12), rng.integers(2, 5, 12))
    labels = groups % 3
    for pairs in (
        folds.split(labels, 3, groups=groups, seed=seed),
        folds.leave_one_out(labels, groups=groups),
    ):
        judged = np.concatenate([part for _, part in pairs])
        assert sorted(judged) == list(range(len(labels)))
        for learnt, part in pairs:
            assert not set(groups[learnt]) & set(groups[part])


def test_leaving_one_out_has_a_fold_for_each_example():
    pairs = folds.leave_one_out(np.array([0, 1, 0, 1, 1]))
    assert [part.tolist() for _, part in pairs] == [[0], [1], [2], [3], [4]]


@pytest.fixture
def features():
    rng = np.random.default_rng(0)
    labels = np.arange(60) % 3
    return Split(rng.normal(labels[:, None], 1.5, (60, 5)).astype("float32"), labels)


def test_the_logits_are_those_of_a_classifier_fitted_by_hand_on_the_rest(features):
    pairs = folds.split(features.labels, 4)
    logits = folds.predict(features, pairs, setting=0.1)
    for learnt, judged in pairs:
        scaler = StandardScaler().fit(features.inputs.values[learnt])
        linear = LogisticRegression(C=0.1, max_iter=300)
        linear.fit(
            scaler.transform(features.inputs.values[learnt]), features.labels[learnt]
        )
        wanted = linear.decision_function(
            scaler.transform(features.inputs.values[judged])
        )
        np.testing.assert_allclose(logits[judged], wanted, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("kind", probe.KINDS)
def test_labels_may_have_gaps_and_folds_may_lack_a_class(features, kind):
    # Classes 0, 2 and 5; no fold learns 5, which is judged all the same.
    labels = np.array([0, 2, 5])[features.labels]
    moved = Split(features.inputs.values, labels)
    seen, new = np.flatnonzero(labels < 5), np.flatnonzero(labels == 5)
    setting = probe.KINDS[kind][1][0]
    logits = folds.predict(moved, [(seen, new)], kind=kind, setting=setting)
    assert logits.shape == (60, 6)
    assert np.isnan(logits[seen]).all()
    assert np.isneginf(logits[new][:, [1, 3, 4, 5]]).all()
    fitted = probe.fit_with(kind, setting, moved.take(seen))
    wanted = fitted.logits(moved.inputs.values[new])
    np.testing.assert_array_equal(logits[new][:, [0, 2]], wanted)


def test_features_without_meaning_score_no_better_than_chance():
    rng = np.random.default_rng(0)
    labels = np.arange(300) % 3
    noise = Split(rng.normal(size=(300, 200)).astype("float32"), labels)
    logits = folds.predict(noise, folds.split(labels, 5), setting=1.0)
    assert abs((logits.argmax(1) == labels).mean() - 1 / 3) < 0.1
    # Learnt and judged on the same examples, it would look like a success.
    fitted = probe.fit_with("logistic regression", 1.0, noise)
    assert (fitted.logits(noise.inputs.values).argmax(1) == labels).mean() > 0.95


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: folds.split([0, 0, 0, 1, 1], 3), "at most 2, .*class 1"),
        (lambda: folds.split([0, 0, 1, 1], 1), "folds=1"),
        (lambda: folds.split([0, 1] * 4, 3, groups=[0, 1] * 4), "at most 2, .*groups"),
        (lambda: folds.split([0, 1] * 4, 2, groups=[0]), "8 labels"),
        (lambda: folds.split([0, 0, 1, 1], 2, groups=[0, 0, 1, 1]), "one fold only"),
        (lambda: folds.leave_one_out([0, 0, 1]), "Class 1"),
        (lambda: folds.leave_one_out([0]), "len.labels.=1"),
        (lambda: folds.leave_one_out([0, 1], groups=[0, 0]), "at least two"),
    ],
)
def test_what_cannot_be_divided_is_said(make, message):
    with pytest.raises(errors.InputError, match=message):
        make()


def test_a_fold_of_one_class_is_said(features):
    with pytest.raises(errors.InputError, match="class 0 alone"):
        folds.predict(features, [([0, 3, 6], [1])])


def test_an_unknown_kind_is_named(features):
    with pytest.raises(errors.InputError, match="kind"):
        folds.predict(features, folds.split(features.labels, 2), kind="forest")
