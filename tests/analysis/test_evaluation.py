import dataclasses

import keras
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays
from scipy import stats
from sklearn import metrics

from keras_tl import errors
from keras_tl.analysis import evaluation
from keras_tl.data.splits import Split

NAMES = ("ant", "bee", "cat")


@st.composite
def answers(draw, classes=3):
    """Labels and logits; few values, so that ties occur."""
    count = draw(st.integers(1, 30))
    labels = draw(arrays.arrays("int32", count, elements=st.integers(0, classes - 1)))
    logits = draw(
        arrays.arrays("float32", (count, classes), elements=st.integers(-2, 2))
    )
    return labels, logits


@settings(deadline=None, max_examples=60)
@given(answers())
def test_metrics_equal_slow_loops(answer):
    labels, logits = answer
    result = evaluation.evaluate(labels, logits, NAMES)
    predictions = [max(range(3), key=lambda c, row=row: (row[c], -c)) for row in logits]
    pairs = list(zip(labels, predictions, strict=True))
    assert result.accuracy == pytest.approx(np.mean([a == b for a, b in pairs]))
    for true in range(3):
        for predicted in range(3):
            count = sum(pair == (true, predicted) for pair in pairs)
            assert result.confusion[true, predicted] == count
    for label, row in enumerate(result.per_class):
        hits = sum(pair == (label, label) for pair in pairs)
        named, there = predictions.count(label), list(labels).count(label)
        precision = hits / named if named else 0
        recall = hits / there if there else 0
        both = precision + recall
        assert row["name"] == NAMES[label]
        assert row["support"] == there
        assert row["precision"] == pytest.approx(precision)
        assert row["recall"] == pytest.approx(recall)
        assert row["f1"] == pytest.approx(2 * precision * recall / both if both else 0)
    for key in ("precision", "recall", "f1"):
        mean = np.mean([row[key] for row in result.per_class if row["support"]])
        assert result.macro[key] == pytest.approx(mean)
    assert result.top_k(1) == pytest.approx(result.accuracy)
    assert result.top_k(3) == 1
    likely = [
        sorted(range(3), key=lambda c, row=row: (-row[c], c))[:2] for row in logits
    ]
    hits = [label in pair for label, pair in zip(labels, likely, strict=True)]
    assert result.top_k(2) == pytest.approx(np.mean(hits))


def test_accuracy_is_the_share_of_examples_named_rightly():
    vectors = np.eye(3, dtype="float32")[[0, 1, 2, 2]]
    model = keras.Sequential([keras.Input((3,)), keras.layers.Activation("linear")])
    assert evaluation.accuracy(model, Split(vectors, [0, 1, 2, 0])) == 0.75


@given(answers())
def test_softmax_and_cross_entropy_equal_their_definitions(answer):
    labels, logits = answer
    probabilities = evaluation.softmax(logits)
    exact = [np.exp(row) / sum(np.exp(row)) for row in logits.astype("float64")]
    np.testing.assert_allclose(probabilities, exact, atol=1e-6)
    result = evaluation.evaluate(labels, logits, NAMES)
    loss = -np.mean([np.log(row[k]) for row, k in zip(exact, labels, strict=True)])
    assert result.cross_entropy == pytest.approx(loss)


def test_majority_baseline_names_the_commonest_training_class():
    result = evaluation.evaluate(
        [0, 1, 1, 1], np.zeros((4, 2)), "ab", train_labels=[0, 0, 0, 1]
    )
    assert result.majority_baseline == 0.25


@pytest.mark.parametrize(("right", "count"), [(30, 50), (90, 100), (400, 1000)])
def test_bootstrap_interval_is_the_exact_one_of_a_share(right, count):
    values = np.arange(count) < right
    low, high = evaluation.bootstrap_interval(values, resamples=20_000)
    # The bootstrap of a mean of zeros and ones is a binomial distribution.
    exact = stats.binom.ppf([0.025, 0.975], count, right / count) / count
    np.testing.assert_allclose([low, high], exact, atol=1.5 / count)


def test_bootstrap_interval_covers_the_truth_about_as_often_as_it_says():
    rng = np.random.default_rng(0)
    covered = 0
    for trial in range(300):
        values = rng.random(100) < 0.7
        low, high = evaluation.bootstrap_interval(values, seed=trial, resamples=300)
        covered += low <= 0.7 <= high
    assert 0.90 <= covered / 300 <= 0.98


def test_the_interval_of_a_paired_difference_covers_the_truth_at_least_as_it_says():
    rng = np.random.default_rng(0)
    for count, only_a, only_b in [(20, 0.05, 0.1), (50, 0.02, 0.02), (100, 0, 0.03)]:
        cells = rng.multinomial(count, [only_a, only_b, 1 - only_a - only_b], 2000)
        ends = [evaluation.difference_interval(a, b, count) for a, b, _ in cells]
        truth = only_b - only_a
        covered = np.mean([low <= truth <= high for low, high in ends])
        assert covered >= 0.94


def test_models_that_never_differ_still_have_an_interval_of_their_difference():
    same = with_so_many_right(18, 20)
    low, high = evaluation.compare(same, same).interval
    # Many more examples say more.
    many = with_so_many_right(1800, 2000)
    assert low < -0.08
    assert high > 0.08
    assert np.abs(evaluation.compare(many, many).interval).max() < 0.001


def with_so_many_right(right, count):
    predicted = (np.arange(count) >= right).astype(int)
    return evaluation.evaluate(np.zeros(count, int), np.eye(2)[predicted], "ab")


def test_all_right_still_has_an_interval():
    low, high = with_so_many_right(20, 20).accuracy_interval
    assert high == 1
    # Wilson's: n / (n + z^2).
    assert low == pytest.approx(20 / (20 + 1.959964**2))


@pytest.mark.parametrize(
    ("right", "interval"),
    [(143, (0.884, 0.964)), (145, (0.900, 0.973)), (147, (0.917, 0.982))],
)
def test_the_intervals_of_the_published_ants_and_bees_overlap(right, interval):
    measured = with_so_many_right(right, 153).accuracy_interval
    assert measured == pytest.approx(interval, abs=5e-4)


def test_seeds_are_summarised_with_their_spread():
    summary = evaluation.seed_summary([0.80, 0.82, 0.84])
    assert summary["mean"] == pytest.approx(0.82)
    assert summary["sd"] == pytest.approx(0.02)
    half = 4.302653 * 0.02 / np.sqrt(3)
    np.testing.assert_allclose(summary["interval"], [0.82 - half, 0.82 + half])
    assert evaluation.seed_summary([0.8])["interval"] is None


def told(labels, right):
    """An evaluation that is right where `right` says so."""
    labels = np.asarray(labels)
    predicted = np.where(right, labels, 1 - labels)
    return evaluation.evaluate(labels, np.eye(2)[predicted], "ab")


def test_paired_comparison_is_mcnemars_exact_test():
    labels = np.zeros(40, int)
    a, b = np.ones(40, bool), np.ones(40, bool)
    a[:9] = False
    b[9:11] = False
    result = evaluation.compare(told(labels, a), told(labels, b))
    assert (result.only_a, result.only_b) == (2, 9)
    assert result.difference == pytest.approx(7 / 40)
    two_sided = 2 * sum(stats.binom.pmf(k, 11, 0.5) for k in range(3))
    assert result.p_value == pytest.approx(two_sided)
    assert result.verdict == "no significant difference (p = .065)"
    low, high = result.interval
    assert low <= 7 / 40 <= high


def test_paired_comparison_says_what_is_better():
    labels = np.zeros(40, int)
    all_right, half = np.ones(40, bool), np.arange(40) % 2 == 0
    better = evaluation.compare(told(labels, half), told(labels, all_right))
    worse = evaluation.compare(told(labels, all_right), told(labels, half))
    same = evaluation.compare(told(labels, half), told(labels, half))
    assert better.verdict == "significantly better (p < .001)"
    assert worse.verdict == "significantly worse (p < .001)"
    assert same.p_value == 1


def test_other_examples_cannot_be_compared():
    with pytest.raises(errors.InputError, match="same examples"):
        evaluation.compare(told([0, 1], [True, True]), told([1, 1], [True, True]))


def test_everything_in_the_dictionary_is_plain_json():
    import json

    result = evaluation.evaluate([0, 1, 2], np.eye(3), NAMES, train_labels=[0, 1])
    assert json.loads(json.dumps(result.as_dict())) == result.as_dict()
    assert result.as_dict()["top_k"]["k"] == 2
    compared = evaluation.compare(result, result).as_dict()
    assert json.loads(json.dumps(compared)) == compared


@pytest.mark.parametrize(
    ("labels", "logits", "message"),
    [
        ([0, 3], np.zeros((2, 3)), r"in \[0, 2\].*from 0 to 3"),
        ([-1, 0], np.zeros((2, 3)), "from -1 to 0"),
        ([0.0, 1], np.zeros((2, 3)), "must be integers"),
        ([], np.zeros((0, 3)), "must be integers"),
        ([0, 1], np.zeros((2, 4)), r"shape \(2, 3\).*\(2, 4\)"),
        ([0, 1], np.full((2, 3), np.nan), "NaN or infinity in 2 of 2 rows"),
    ],
)
def test_what_cannot_be_evaluated_is_named(labels, logits, message):
    with pytest.raises(errors.InputError, match=message):
        evaluation.evaluate(labels, logits, NAMES)


class Steady:
    """A model that wants full batches, and says of each row what is in it."""

    def __init__(self, batch_size):
        self.batch_size, self.seen = batch_size, 0

    def predict_on_batch(self, rows):
        assert len(rows) == self.batch_size
        self.seen += len(rows)
        return rows[:, :3] * 1.0


@pytest.mark.parametrize(("count", "batch_size"), [(1, 4), (4, 4), (10, 4)])
def test_prediction_is_one_pass_in_order_with_full_batches(count, batch_size):
    rows = np.random.default_rng(0).normal(size=(count, 5)).astype("float32")
    model = Steady(batch_size)
    split = Split(rows, np.zeros(count))
    logits = evaluation.predict(model, split, batch_size=batch_size)
    np.testing.assert_array_equal(logits, rows[:, :3])
    assert logits.dtype == np.float32
    assert model.seen == -(-count // batch_size) * batch_size


def test_prediction_refuses_what_is_not_finite():
    split = Split(np.full((3, 3), np.inf, "float32"), np.zeros(3))
    with pytest.raises(errors.InputError, match="must be finite"):
        evaluation.predict(Steady(2), split, batch_size=2)
    with pytest.raises(errors.InputError, match="batch_size"):
        evaluation.predict(Steady(2), split, batch_size=0)


def test_an_evaluation_cannot_be_changed():
    result = evaluation.evaluate([0, 1, 2], np.eye(3), NAMES)
    with pytest.raises(dataclasses.FrozenInstanceError):
        result.labels = [1]


def test_a_class_without_test_examples_is_left_out_of_macro_averages_and_named():
    logits = 9 * np.eye(3, dtype="float32")[[0, 0, 1, 1]]
    result = evaluation.evaluate([0, 0, 1, 1], logits, "abc")
    assert result.macro == {"precision": 1.0, "recall": 1.0, "f1": 1.0}
    assert "macro averages: c." in result.notes[0]
    wrong = evaluation.evaluate([0, 0, 1, 1], logits[[0, 0, 2, 2]], "abc")
    expected = metrics.f1_score([0, 0, 1, 1], [0, 0, 1, 1], average="macro")
    assert result.macro["f1"] == expected
    recall = metrics.recall_score(
        [0, 0, 1, 1], wrong.predictions, average="macro", labels=[0, 1]
    )
    assert wrong.macro["recall"] == pytest.approx(recall)
    assert not evaluation.evaluate([0, 1], logits[[0, 2]][:, :2], "ab").notes
