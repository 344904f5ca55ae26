"""Promises about learning curves and their forecasts."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import optimize

from keras_tl import errors
from keras_tl.analysis import learning_curve
from keras_tl.data.splits import Split


def made(law, sizes, *, tests=400, repeats=5, spread=0.005, seed=0):
    """A curve whose error rates are those of a power law, a, b and c."""
    rng = np.random.default_rng(seed)
    a, b, c = law
    # Hard test examples are wrong at every size, as with real ones.
    hardness = rng.random(tests)
    correct = []
    for size in sizes:
        count = 1 if size == sizes[-1] else repeats
        rates = a + b * size**-c + rng.normal(0, spread, count)
        correct.append(hardness[None] >= rates[:, None])
    labels = np.arange(tests) % 4
    return learning_curve.Curve(
        tuple(sizes), tuple(correct), labels, ("a", "b", "c", "d"), (9,) * 4
    )


def blobs(train=120, classes=3, spread=1.5):
    """Features of classes that overlap, for training and validation."""
    rng = np.random.default_rng(0)
    centres = rng.normal(size=(classes, 8))

    def split(count):
        labels = np.arange(count) % classes
        return Split(centres[labels] + rng.normal(0, spread, (count, 8)), labels)

    return split(train), split(300), [f"class {n}" for n in range(classes)]


@settings(deadline=None, max_examples=40)
@given(
    st.lists(st.floats(0.01, 0.9), min_size=4, max_size=7),
    st.lists(st.integers(5, 5000), min_size=7, max_size=7, unique=True),
)
def test_a_power_law_is_the_best_that_a_slow_search_finds(rates, sizes):
    sizes = np.array(sorted(sizes)[: len(rates)], float)
    ((a, b, c),) = learning_curve.power_laws(sizes, np.array([rates]))
    weights = np.sqrt(sizes) / np.sqrt(sizes).sum()
    cost = weights @ (a + b * sizes**-c - rates) ** 2
    assert min(a, b) >= 0
    root = np.sqrt(weights)
    for exponent in learning_curve._EXPONENTS:
        columns = np.stack([np.ones(len(sizes)), sizes**-exponent], axis=1)
        _, residual = optimize.nnls(root[:, None] * columns, root * np.array(rates))
        assert cost <= residual**2 + 1e-9


@settings(deadline=None, max_examples=40)
@given(st.lists(st.integers(2, 40), min_size=2, max_size=6), st.integers(0, 100))
def test_every_beginning_of_an_order_has_the_classes_in_their_proportions(counts, seed):
    labels = np.repeat(np.arange(len(counts)), counts)
    order = learning_curve.drawing_order(labels, seed)
    assert sorted(order) == list(range(len(labels)))
    assert set(labels[order[: len(counts)]]) == set(range(len(counts)))
    for size in range(len(counts), len(labels) + 1):
        drawn = np.bincount(labels[order[:size]], minlength=len(counts))
        wanted = np.array(counts) * size / len(labels)
        # The first of each class stands before its turn.
        assert np.abs(drawn - wanted).max() <= len(counts) + 1


def test_sizes_double_and_end_with_all_examples():
    assert learning_curve.sizes_of(1600, 10) == (25, 50, 100, 200, 400, 800, 1600)
    assert learning_curve.sizes_of(60, 2)[-1] == 60
    assert learning_curve.sizes_of(60, 10)[0] == 20
    with pytest.raises(errors.InputError, match="at least 60 training examples"):
        learning_curve.sizes_of(59, 10)


def test_more_examples_are_measured_on_examples_that_are_in_no_draw():
    curve = learning_curve.measure(*blobs(), repeats=3, seed=1)
    rows = curve.rows()
    assert [row["draws"] for row in rows] == [3] * (len(rows) - 1) + [1]
    assert rows[-1]["accuracy"] > rows[0]["accuracy"] + 0.05
    assert curve.correct[0].shape == (3, 300)
    again = learning_curve.measure(*blobs(), repeats=3, seed=1)
    for one, other in zip(curve.correct, again.correct, strict=True):
        np.testing.assert_array_equal(one, other)


def test_a_class_that_has_nothing_to_learn_from_it_does_not_follow_chance():
    # Labels of training that say nothing about those of validation.
    train, validation, names = blobs()
    rng = np.random.default_rng(0)
    shuffled = Split(train.inputs, rng.permutation(train.labels))
    curve = learning_curve.measure(shuffled, validation, names)
    assert all(0.15 < row["accuracy"] < 0.5 for row in curve.rows())
    sentence = learning_curve.forecast(curve).sentence(0.95)
    assert "out of reach" in sentence or "more than" in sentence


@pytest.mark.parametrize(
    "law",
    [
        (0.05, 1.0, 0.5),
        pytest.param((0.0, 0.9, 0.3), marks=pytest.mark.slow),
        pytest.param((0.2, 2.0, 0.9), marks=pytest.mark.slow),
    ],
)
def test_the_interval_of_a_forecast_holds_what_was_hidden(law):
    sizes, held = (25, 50, 100, 200, 400, 800, 1600), 0
    for seed in range(40):
        curve = made(law, sizes, seed=seed)
        forecast = learning_curve.forecast(curve.until(800), seed=seed)
        _, low, high = forecast.accuracy(1600)
        held += low <= curve.correct[-1].mean() <= high
    assert held >= 34


def test_how_many_examples_an_accuracy_needs_is_found_where_the_law_is_known():
    # An error of 0.1 is that of (0.9 / 0.1)^2 = 81 times one example.
    curve = made((0.0, 0.9, 0.5), (20, 40, 80, 160, 320), tests=5000, spread=0.0)
    forecast = learning_curve.forecast(curve)
    middle, low, high = forecast.examples_for(1 - 0.03)
    assert low <= 900 <= high
    assert middle == pytest.approx(900, rel=0.15)
    assert "are reached with the 320 examples" in forecast.sentence(0.9)
    assert "90 % interval" in forecast.sentence(0.97)


def test_no_class_gains_more_than_it_lacks_and_words_agree_with_the_points():
    sizes = (25, 50, 100, 200, 400)
    curve = made((0.0, 1.0, 0.6), sizes, tests=400)
    perfect = (*curve.correct[:-1], np.ones((1, 400), bool))
    curve = learning_curve.Curve(
        sizes, perfect, curve.labels, curve.class_names, curve.counts
    )
    assert all(row["gain"] == row["high"] == 0 for row in learning_curve.classes(curve))
    assert "are reached with the 400" in learning_curve.forecast(curve).sentence(0.99)
    worse = (*curve.correct[:-1], curve.correct[0][:1])
    curve = learning_curve.Curve(
        sizes, worse, curve.labels, curve.class_names, curve.counts
    )
    forecast = learning_curve.forecast(curve)
    just_missed = float(np.floor(100 * forecast.reached) + 1) / 100
    assert "are reached" not in forecast.sentence(just_missed)


def test_an_accuracy_above_the_limit_of_the_law_is_out_of_reach():
    sizes = (25, 50, 100, 200, 400, 800)
    curve = made((0.3, 2.0, 1.0), sizes, tests=5000, spread=0.001)
    assert "out of reach" in learning_curve.forecast(curve).sentence(0.95)


def test_the_class_that_still_learns_is_named_first():
    sizes = (25, 50, 100, 200, 400)
    easy, hard = (0.02, 0.1, 1.0), (0.02, 2.0, 0.4)
    one, other = (made(law, sizes, tests=200) for law in (easy, hard))
    curve = learning_curve.Curve(
        sizes,
        tuple(
            np.concatenate(pair, axis=1)
            for pair in zip(one.correct, other.correct, strict=True)
        ),
        np.repeat([0, 1], 200),
        ("easy", "hard", "untested"),
        (200, 200, 3),
    )
    first, second, third = learning_curve.classes(curve)
    assert (first["class"], second["class"]) == ("hard", "easy")
    assert first["gain"] > 3 * second["gain"]
    assert first["low"] <= first["gain"] <= first["high"]
    assert third == {
        "class": "untested",
        "examples": 3,
        "accuracy": None,
        "gain": None,
        "low": None,
        "high": None,
    }


def test_data_without_a_curve_are_named():
    train, validation, names = blobs(6)
    with pytest.raises(errors.InputError, match="at least 18 training examples"):
        learning_curve.measure(train, validation, names)
    lonely = Split(np.zeros((41, 8)), [0] * 20 + [1] * 20 + [2])
    with pytest.raises(errors.InputError, match="'class 2' has 1"):
        learning_curve.measure(lonely, validation, names)
    numbers = Split(np.zeros((4, 8)), np.array([[0.5]] * 4))
    with pytest.raises(errors.InputError, match="one class each"):
        learning_curve.measure(numbers, numbers, ["y"])
    curve = made((0.1, 1.0, 0.5), (10, 20, 40))
    with pytest.raises(errors.InputError, match="at least 3"):
        learning_curve.forecast(curve.until(20))
    with pytest.raises(errors.InputError, match="`accuracy`"):
        learning_curve.forecast(curve).examples_for(1.0)
