from dataclasses import asdict

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import special

from keras_tl import errors
from keras_tl.analysis import calibration
from keras_tl.analysis.calibration import Rules

RNG = np.random.default_rng(0)


def labels_of(logits):
    """Draw labels from the probabilities of logits."""
    chances = special.softmax(logits, axis=1)
    return np.array([RNG.choice(len(row), p=row) for row in chances])


def test_the_temperature_undoes_logits_that_are_too_large():
    logits = RNG.normal(size=(3000, 4)) * 2
    labels = labels_of(logits)
    assert calibration.fit_temperature(logits, labels) == pytest.approx(1, abs=0.1)
    assert calibration.fit_temperature(3 * logits, labels) == pytest.approx(3, abs=0.3)


def test_the_temperature_of_several_labels_undoes_logits_that_are_too_large():
    logits = RNG.normal(size=(3000, 3)) * 2
    labels = (RNG.random(logits.shape) < special.expit(logits)).astype("float32")
    assert calibration.fit_temperature(2 * logits, labels) == pytest.approx(2, abs=0.2)


@given(count=st.integers(1, 12), right=st.booleans())
def test_a_handful_of_examples_changes_little(count, right):
    logits = np.array([[2.0, -2.0]] * count)
    labels = np.zeros(count, int) if right else np.ones(count, int)
    temperature = calibration.fit_temperature(logits, labels)
    assert 0.3 < temperature < 10
    assert (temperature < 1) == right


def test_the_calibration_error_is_that_of_a_table_computed_by_hand():
    confidence = np.array([0.95, 0.95, 0.95, 0.95, 0.55, 0.55])
    correct = np.array([1, 1, 1, 0, 0, 1], bool)
    measured = calibration.reliability(confidence, correct, bins=10)
    assert measured.count.tolist() == [2, 4]
    assert measured.error == pytest.approx((2 * 0.05 + 4 * 0.2) / 6)


@given(
    st.lists(st.tuples(st.floats(0, 1), st.booleans()), min_size=20, max_size=60),
    st.sampled_from([0.5, 0.8, 0.95, 1.0]),
)
def test_the_threshold_reaches_the_precision_and_no_lower_one_does(pairs, precision):
    confidence, correct = map(np.array, zip(*pairs, strict=True))
    chosen = calibration.abstain(confidence, correct, precision)
    reached = {
        cut: correct[confidence >= cut].mean() >= precision
        for cut in np.unique(confidence)
    }
    if chosen is None:
        assert not any(reached.values())
        return
    answered = confidence >= chosen.threshold
    assert correct[answered].mean() >= precision
    assert chosen.coverage == pytest.approx(answered.mean())
    assert not any(right for cut, right in reached.items() if cut < chosen.threshold)


def test_nothing_is_said_of_fewer_than_twenty_examples():
    assert calibration.abstain(np.ones(19), np.ones(19, bool), 0.9) is None


@pytest.mark.parametrize("precision", [0, -1, 1.01])
def test_a_precision_outside_its_range_is_refused(precision):
    with pytest.raises(errors.InputError, match=r"`precision` must be in \(0, 1\]"):
        calibration.abstain(np.ones(30), np.ones(30, bool), precision)


def test_each_label_gets_the_threshold_with_the_best_f1():
    probabilities = RNG.random((200, 2)).astype("float32")
    labels = probabilities > np.array([0.3, 0.8])
    low, high = calibration.label_thresholds(probabilities, labels)
    assert low == pytest.approx(0.3, abs=0.03)
    assert high == pytest.approx(0.8, abs=0.03)
    labels[:, 1] = False
    labels[:4, 1] = True
    assert calibration.label_thresholds(probabilities, labels)[1] == 0.5


def test_the_judgement_counts_answers_and_right_ones():
    logits = np.array([[3.0, 0.0], [0.2, 0.0], [0.0, 3.0], [0.0, 0.1]])
    labels = np.array([0, 1, 1, 1])
    rules = Rules(2.0, calibration.Abstaining(0.9, 0.7, 0.5))
    judged = calibration.judge(rules, logits, labels)
    assert (judged.count, judged.answered, judged.right) == (4, 2, 2)
    assert judged.as_dict()["precision"] == 1
    assert "answers 2 of 4 test examples" in " ".join(judged.sentences)


def test_rules_read_what_they_have_written_and_nothing_else():
    rules = Rules(1.5, calibration.Abstaining(0.95, 0.7, 0.8), unlike=0.4)
    kept = {
        "temperature": 1.5,
        "abstain": {"precision": 0.95, "threshold": 0.7, "coverage": 0.8},
        "thresholds": None,
        "unlike": 0.4,
    }
    assert asdict(rules) == kept
    assert Rules.of(kept) == rules
    for bad in ("text", {"temperature": 0}, {"temperature": "a"}, {"other": 1}):
        with pytest.raises(errors.InputError, match="must be what a run saves"):
            Rules.of(bad)
