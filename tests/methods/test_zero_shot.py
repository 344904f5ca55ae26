import keras
import numpy as np
import pytest

from keras_tl import errors
from keras_tl.data import splits
from keras_tl.data.splits import Split, Splits
from keras_tl.methods import zero_shot
from keras_tl.training import phases
from keras_tl.training.terms import TermModel


@pytest.fixture
def attributes():
    """Eight classes: all combinations of three attributes."""
    return np.array([[i >> n & 1 for n in range(3)] for i in range(8)]) * 2.0 - 1


@pytest.fixture
def described(attributes):
    """Features that depend on the attributes of a class alone, and noise."""
    mix = np.random.default_rng(0).standard_normal((3, 12))

    def split(count, seed):
        rng = np.random.default_rng(seed)
        labels = np.arange(count) % 8
        values = attributes[labels] @ mix + 0.3 * rng.standard_normal((count, 12))
        return Split(values.astype("float32"), labels)

    return Splits(split(160, 0), split(80, 1), split(80, 2), list("abcdefgh"), "Made.")


def test_eszsl_is_what_a_calculation_by_hand_gives():
    # X'X + 2 I = diag(3, 6), X'Y = [[1, -1], [-2, 2]], S'S + 3 I = 8.
    solved = zero_shot.eszsl(
        [[1.0, 0.0], [0.0, 2.0]], [0, 1], [[1.0], [2.0]], gamma=2.0, lam=3.0
    )
    # (X'X + gamma I)^-1 X'Y S = [(1 - 2) / 3, (-2 + 4) / 6].
    np.testing.assert_allclose(solved, [[-1 / 24], [1 / 24]])


def test_eszsl_minimizes_what_its_paper_says(described, attributes):
    x = described.train.inputs.values[:20].astype("float64")
    labels, s = described.train.labels[:20], attributes
    y = np.where(labels[:, None] == np.arange(8), 1.0, -1.0)
    gamma, lam = 0.7, 0.3

    def cost(w):
        parts = (x @ w @ s.T - y, gamma**0.5 * w @ s.T, lam**0.5 * x @ w)
        return sum((one**2).sum() for one in (*parts, (gamma * lam) ** 0.5 * w))

    best = zero_shot.eszsl(x, labels, s, gamma=gamma, lam=lam)
    rng = np.random.default_rng(0)
    for _ in range(20):
        step = 1e-2 * rng.standard_normal(best.shape)
        assert cost(best) < cost(best + step)


def test_solving_for_some_classes_is_solving_from_their_examples(described):
    solve = zero_shot.solver(described)
    classes = (0, 2, 3, 5, 7)
    part = splits.of_classes(described, classes)
    count = len(part.train)
    values = part.train.inputs.values.astype("float64")
    mean, deviation = values.mean(axis=0), values.std(axis=0)
    wanted = zero_shot.ridge(
        (values - mean) / deviation, part.train.labels, 5, gamma=0.5 * count
    )
    solved, scores = solve(classes, 0.5)
    np.testing.assert_allclose(solved[:-1], wanted / deviation[:, None], atol=1e-8)
    validation = described.validation.inputs.values
    wanted = (validation - mean) / deviation @ wanted
    np.testing.assert_allclose(scores, wanted, atol=1e-6)


@pytest.mark.parametrize("pair", [(0, 7), (1, 2), (3, 6)])
def test_unseen_classes_are_known_by_their_attributes(described, attributes, pair):
    seen = tuple(one for one in range(8) if one not in pair)
    solve = zero_shot.solver(described)
    chosen = zero_shot.learn(solve, described.validation.labels, seen, attributes)
    test = described.test
    scores = zero_shot.with_one(test.inputs.values) @ chosen.mapped @ attributes.T
    assert zero_shot.among(scores, test.labels, range(8), pair) > 0.95
    assert chosen.validation > 0.8
    is_seen = ~np.isin(np.arange(8), pair)
    both = zero_shot.generalized(scores, test.labels, is_seen, chosen.subtract)
    assert both.harmonic > 0.9


def test_no_example_of_an_unseen_class_is_read(described, attributes):
    spoiled = described.train.inputs.values.copy()
    spoiled[described.train.labels == 7] = 1e3
    other = Splits(
        Split(spoiled, described.train.labels),
        described.validation,
        described.test,
        described.class_names,
        "Made.",
    )
    seen, labels = tuple(range(7)), described.validation.labels
    chosen = [
        zero_shot.learn(zero_shot.solver(data), labels, seen, attributes)
        for data in (described, other)
    ]
    assert chosen[0].gamma == chosen[1].gamma
    assert chosen[0].validation == chosen[1].validation
    assert chosen[0].subtract == pytest.approx(chosen[1].subtract, abs=1e-4)


def test_devise_costs_what_a_calculation_by_hand_gives():
    start = keras.Input((2,))
    model = zero_shot.attach(
        keras.Model(start, keras.layers.Identity()(start)),
        np.array([[1.0, 0.0], [0.0, 1.0], [0.6, 0.8]]),
    )
    model.get_layer("semantic").set_weights([np.eye(2), np.zeros(2)])
    features = np.array([[0.5, 0.2], [0.1, 0.3]], "float32")
    # Logits .5, .2, .46 and .1, .3, .3; the right ones are 0 and 2, the margin .1.
    wanted = ((0.1 - 0.5 + 0.46) + (0.1 - 0.3 + 0.3)) / 2
    term = zero_shot.devise(margin=0.1)(model, 1)
    for labels, loss in (
        (np.array([0, 2]), keras.losses.SparseCategoricalCrossentropy(True)),
        (np.eye(3)[[0, 2]], keras.losses.CategoricalCrossentropy(True)),
    ):
        trainer = TermModel(model, term, num_labels=None, steps=1)
        trainer.compile("sgd", loss)
        value = trainer.compute_loss(features, labels, trainer(features), None)
        assert float(value) == pytest.approx(wanted, abs=1e-6)
    assert [w.path for w in model.trainable_weights] == [
        "semantic/kernel",
        "semantic/bias",
    ]


def test_devise_learns_a_map_that_knows_unseen_classes(described, attributes, here):
    keras.utils.set_random_seed(0)
    pair, unit = (1, 6), attributes / 3**0.5
    seen = [one for one in range(8) if one not in pair]
    part = splits.of_classes(described, seen)
    model = zero_shot.attach_scaled(part.train.inputs.values, unit[seen])
    phase = phases.Phase(20, 0.02, method=zero_shot.devise())
    phases.fit(model, part, here, phase)
    np.testing.assert_allclose(
        model.get_layer("logits").kernel.numpy(), unit[seen].T, rtol=1e-6
    )
    values, mapped = described.test.inputs.values, zero_shot.mapped_by(model)
    scores = zero_shot.with_one(values) @ mapped @ unit.T
    logits = np.asarray(model(values))
    np.testing.assert_allclose(scores[:, seen], logits, atol=1e-4)
    assert zero_shot.among(scores, described.test.labels, range(8), pair) > 0.95


def test_calibration_is_the_best_of_all_values():
    rng = np.random.default_rng(3)
    seen = np.array([True, True, False, True, False])
    labels = rng.integers(0, 5, 80)
    scores = rng.normal(size=(80, 5)) + 1.5 * np.eye(5)[labels] + 2 * seen
    chosen = zero_shot.calibration(scores, labels, seen)
    best = zero_shot.generalized(scores, labels, seen, chosen).harmonic
    tried = [
        zero_shot.generalized(scores, labels, seen, value).harmonic
        for value in np.linspace(-5, 8, 2000)
    ]
    assert best >= max(tried) - 1e-12
    assert best > zero_shot.generalized(scores, labels, seen).harmonic


def test_generalized_accuracies_are_means_over_classes():
    scores = np.array([[3, 1, 0], [3, 1, 0], [0, 1, 3], [2, 1, 1.5]])
    labels, seen = np.array([0, 0, 2, 2]), np.array([True, True, False])
    both = zero_shot.generalized(scores, labels, seen)
    assert (both.seen, both.unseen) == (1.0, 0.5)
    assert both.harmonic == pytest.approx(2 / 3)
    assert zero_shot.generalized(scores, labels, seen, 1.0).unseen == 1.0


@pytest.mark.parametrize(
    ("call", "named"),
    [
        (lambda: zero_shot.ridge(np.ones((2, 2)), [0], 2, gamma=1), "labels"),
        (lambda: zero_shot.ridge(np.ones((1, 2)), [5], 2, gamma=1), "labels"),
        (lambda: zero_shot.ridge(np.ones((1, 2)), [0], 2, gamma=0), "gamma"),
        (lambda: zero_shot.eszsl([[np.nan]], [0], [[1.0]]), "features"),
        (lambda: zero_shot.through(np.ones((2, 3)), np.eye(2), lam=1), "vectors"),
        (lambda: zero_shot.devise(margin=-1), "margin"),
        (
            lambda: zero_shot.calibration(np.eye(2), np.array([0, 0]), [True, False]),
            "seen and of unseen",
        ),
    ],
)
def test_what_cannot_be_used_is_named(call, named):
    with pytest.raises(errors.InputError, match=named):
        call()
