import math
from dataclasses import replace

import keras
import numpy as np
import pytest
from keras import ops

from keras_tl import errors
from keras_tl.data import pipeline
from keras_tl.data.splits import Split, Splits
from keras_tl.methods import domain_adaptation as adaptation
from keras_tl.models import heads
from keras_tl.training import phases
from keras_tl.training.terms import Batch, TermModel


def two_domains(shift=2.0, count=120):
    """Two classes at -2 and 2; in the target, both stand `shift` further right.

    A boundary at 1 is right for both domains; labels of the source put it at 0.
    """

    def split(seed, shift):
        rng = np.random.default_rng(seed)
        labels = np.arange(count) % 2
        x = rng.normal(0, 0.3, (count, 2)).astype("float32")
        x[:, 0] += 4 * labels - 2 + shift
        return Split(x, labels)

    def domain(first, shift):
        parts = [split(first + n, shift) for n in range(3)]
        return Splits(*parts, ["a", "b"], "A toy set.")

    return domain(0, 0.0), domain(3, shift)


def build(width=2):
    image = keras.Input((width,))
    x = keras.layers.Dense(16, "relu", name="block1_dense")(image)
    x = keras.layers.Dense(8, "relu", name="pool")(x)
    return heads.attach(keras.Model(image, x), 2, dropout=0.0)


def batch_of(labels, logits, features, weights=None, progress=1.0):
    count = logits.shape[-1]
    y = np.where(np.array(labels)[:, None] == np.arange(count), 1.0, 0.0)
    return Batch(
        inputs=None,
        logits=ops.convert_to_tensor(logits),
        outputs={"pool": ops.convert_to_tensor(features)},
        labels=ops.convert_to_tensor(y.astype("float32")),
        targets=None,
        sample_weight=None if weights is None else ops.convert_to_tensor(weights),
        progress=ops.convert_to_tensor(progress),
    )


def entropy(p):
    return -(p * np.log(p)).sum(-1)


def softmax(logits):
    p = np.exp(logits)
    return p / p.sum(-1, keepdims=True)


# ------------------------------------------------------------------ data


def test_batches_hold_as_many_of_either_domain_and_no_label_of_the_target():
    source, target = two_domains(shift=100.0, count=20)
    data = adaptation.adapt(source, target)
    batches = pipeline.Training(data.train, 8, seed=0, num_classes=2)
    seen = []
    for epoch in (0, 1, 0):
        rows = [[part.numpy() for part in batch] for batch in batches.epoch(epoch)]
        for x, y, weights in rows:
            of_target = x[:, 0] > 50
            assert of_target.sum() == 4
            assert not y[of_target].any()
            assert not weights[of_target].any()
        seen.append(np.concatenate([x for x, _, _ in rows]))
    np.testing.assert_array_equal(seen[0], seen[2])
    assert not np.array_equal(seen[0], seen[1])


@pytest.mark.parametrize("method", adaptation.METHODS)
def test_no_label_of_the_target_is_given_to_a_method(method):
    source, target = two_domains(count=16)
    data, _, _ = adaptation.arrange(method, source, target, 8)
    np.testing.assert_array_equal(data.train.labels[:16], source.train.labels)
    assert (data.train.labels[16:] == -1).all()
    assert data.train.targets is None
    assert data.validation is source.validation


def test_labels_of_the_target_change_nothing(here):
    weights, method = [], "CDAN+E"
    for swapped in (False, True):
        source, target = two_domains(count=16)
        if swapped:
            wrong = {"labels": 1 - target.train.labels}
            target = replace(target, train=replace(target.train, **wrong))
            wrong = {"labels": 1 - target.validation.labels}
            target = replace(target, validation=replace(target.validation, **wrong))
        data, term, rows = adaptation.arrange(method, source, target, 8)
        keras.utils.set_random_seed(0)
        model = build()
        setup = replace(here, batch_size=rows, choose_by="last")
        phases.fit(model, data, setup, phases.Phase(2, 1e-2, method=term))
        weights.append(model.get_weights())
    for one, other in zip(*weights, strict=True):
        np.testing.assert_array_equal(one, other)


def test_the_test_split_is_that_of_the_target_and_validation_of_the_source():
    source, target = two_domains()
    for method in (*adaptation.LINES, *adaptation.METHODS):
        data, term, rows = adaptation.arrange(method, source, target, 8)
        assert data.test is target.test
        learned = target if method == "target labels" else source
        assert data.validation is learned.validation
        assert (term is not None) == (method in adaptation.METHODS)
        assert rows == (8 if term else 4)


def test_domains_without_common_classes_and_unknown_methods_are_refused():
    source, target = two_domains()
    with pytest.raises(errors.InputError, match="no class in common.*a, b; c, d"):
        adaptation.adapt(source, replace(target, class_names=("c", "d")))
    with pytest.raises(errors.InputError, match="b only in source, c only in target"):
        adaptation.adapt(source, replace(target, class_names=("a", "c")))
    with pytest.raises(errors.InputError, match="Did you mean DANN"):
        adaptation.arrange("DANNN", source, target, 8)
    numbers = source.map(lambda split: replace(split, labels=split.read(range(120))))
    with pytest.raises(errors.InputError, match="one class for each example"):
        adaptation.adapt(
            replace(numbers, task=None), replace(target, class_names=("a", "b"))
        )


# ------------------------------------------------------------------ terms


def test_reversal_changes_the_gradient_alone():
    x = keras.Variable([1.5, -2.0, 0.0])
    np.testing.assert_allclose(adaptation.reverse(x, 0.7), [1.5, -2.0, 0.0], rtol=1e-6)
    # The step of an optimizer is the gradient, whatever the backend.
    image = keras.Input((3,))
    model = keras.Model(image, keras.layers.Dense(1, use_bias=False)(image))

    class Reversed(keras.layers.Layer):
        def call(self, inputs):
            return adaptation.reverse(inputs, 0.7)

    start = model.get_weights()[0].copy()
    trained = keras.Model(image, Reversed()(model.output))
    trained.compile(keras.optimizers.SGD(1.0), lambda y, y_pred: ops.mean(y_pred))
    rows = np.float32([[1.0, 2.0, 3.0]])
    trained.train_on_batch(rows, np.zeros((1, 1)))
    moved = model.get_weights()[0] - start
    np.testing.assert_allclose(moved[:, 0], 0.7 * rows[0], rtol=1e-5)


def test_rows_that_fill_up_a_batch_are_of_no_domain():
    batch = batch_of(
        [0, -1, 1, -1, 1, -1],
        np.zeros((6, 2), "float32"),
        np.zeros((6, 1), "float32"),
        np.float32([2, 0, 2, 0, 0, 0]),
    )
    source, target = adaptation.domains(batch)
    assert ops.convert_to_numpy(source).tolist() == [1, 0, 1, 0, 0, 0]
    assert ops.convert_to_numpy(target).tolist() == [0, 1, 0, 1, 0, 1]


def test_covariances_are_those_of_numpy():
    rng = np.random.default_rng(0)
    features = rng.normal(size=(9, 4)).astype("float32")
    source = np.float32([1, 0, 1, 0, 1, 0, 0, 1, 1])
    ignored = np.float32([1, 1, 1, 1, 1, 1, 0, 1, 1])
    one, other = features[source == 1], features[(source == 0) & (ignored == 1)]
    apart = np.cov(one, rowvar=False) - np.cov(other, rowvar=False)
    wanted = (apart**2).sum() / (4 * 4**2)
    loss = adaptation.coral_loss(features, source, ignored * (1 - source))
    assert float(loss) == pytest.approx(wanted, rel=1e-4)


def slow_mmd(one, other, scales):
    rows = np.concatenate([one, other])
    distances = ((rows[:, None] - rows[None]) ** 2).sum(-1)
    total = 0.0
    for scale in scales:
        kernel = np.exp(-distances / (2 * scale * distances.mean()))
        n = len(one)
        total += kernel[:n, :n].mean() + kernel[n:, n:].mean()
        total -= 2 * kernel[:n, n:].mean()
    return total


def test_the_discrepancy_is_that_of_all_pairs_and_zero_for_one_domain():
    rng = np.random.default_rng(0)
    one = rng.normal(size=(5, 3)).astype("float32")
    other = rng.normal(1, 2, size=(4, 3)).astype("float32")
    source = np.float32([1] * 5 + [0] * 4)
    features = np.concatenate([one, other])
    loss = adaptation.mmd_loss(features, source, 1 - source, (0.5, 2.0))
    assert float(loss) == pytest.approx(slow_mmd(one, other, (0.5, 2.0)), rel=1e-4)
    twice = np.concatenate([one, one])
    source = np.float32([1] * 5 + [0] * 5)
    assert float(adaptation.mmd_loss(twice, source, 1 - source)) == pytest.approx(
        0, abs=1e-6
    )
    # All rows equal: no distance to scale by.
    assert float(adaptation.mmd_loss(0 * twice, source, 1 - source)) == pytest.approx(
        0, abs=1e-6
    )


def test_confusion_is_that_of_the_paper():
    logits = np.float32([[1.0, 0.0, -1.0], [0.5, 2.0, 0.0], [9.0, 9.0, 9.0]])
    rows = np.float32([1, 1, 0])
    p = softmax(logits[:2] / 2.5)
    weights = 1 + np.exp(-entropy(p))
    confused = p.T @ np.diag(2 * weights / weights.sum()) @ p
    confused /= confused.sum(1, keepdims=True)
    wanted = (confused.sum() - np.trace(confused)) / 3
    loss = adaptation.confusion_loss(logits, rows, 2.5)
    assert float(loss) == pytest.approx(wanted, rel=1e-5)


def loss_of(method, batch, weights):
    """Compute the loss of a method whose classifier of domains has these weights."""
    model = build()
    term = method(model, 10)
    (domain,) = term.trained
    domain.set_weights(weights)
    return float(term.loss(batch))


@pytest.mark.parametrize("conditional", [False, True])
def test_the_loss_of_the_domains_is_that_of_their_classifier(conditional):
    rng = np.random.default_rng(0)
    features = rng.normal(size=(6, 8)).astype("float32")
    logits = rng.normal(size=(6, 2)).astype("float32")
    labels = [0, -1, 1, -1, 1, -1]
    batch = batch_of(labels, logits, features)
    counts = np.ones(6)
    if conditional:
        p = softmax(logits)
        inputs = (p[:, :, None] * features[:, None, :]).reshape(6, -1)
        counts = 1 + np.exp(-entropy(p))
        method = adaptation.cdan("pool", weight=3.0, hidden=[])
    else:
        inputs, method = features, adaptation.dann("pool", weight=3.0, hidden=[])
    kernel = rng.normal(size=(inputs.shape[1], 1)).astype("float32")
    said = 1 / (1 + np.exp(-(inputs @ kernel)[:, 0]))
    of_source, of_target = -np.log(said), -np.log(1 - said)
    wanted = (
        np.average(of_source[::2], weights=counts[::2])
        + np.average(of_target[1::2], weights=counts[1::2])
    ) / 2
    loss = loss_of(method, batch, [kernel, np.zeros(1)])
    assert loss == pytest.approx(3.0 * wanted, rel=1e-4)


@pytest.mark.parametrize(("progress", "wanted"), [(0.0, 0.0), (0.5, 0.98661), (1, 1)])
def test_the_reversal_grows_as_in_the_paper(progress, wanted):
    batch = batch_of([0], np.zeros((1, 2)), np.zeros((1, 8)), progress=float(progress))
    strength = float(adaptation._strength(batch, 10.0))
    assert strength == pytest.approx(wanted, abs=1e-4)
    assert strength == pytest.approx(2 / (1 + math.exp(-10 * progress)) - 1, abs=1e-6)


def test_the_classifier_of_domains_trains_along_and_is_not_in_the_model():
    model = build()
    term = adaptation.dann("pool", hidden=[5])(model, 10)
    trained = TermModel(model, term, num_labels=2, steps=10)
    extra = 8 * 5 + 5 + 5 + 1
    assert sum(np.prod(w.shape) for w in trained.trainable_weights) == (
        model.count_params() + extra
    )


@pytest.mark.parametrize(
    ("method", "options", "message"),
    [
        ("dann", {"weight": -1.0}, "weight=-1"),
        ("dann", {"gamma": 0.0}, "gamma=0"),
        ("cdan", {"weight": -1.0}, "weight=-1"),
        ("coral", {"weight": -1.0}, "weight=-1"),
        ("dan", {"weight": -1.0}, "weight=-1"),
        ("mcc", {"temperature": 0.0}, "temperature=0"),
        ("dan", {"layer": "pol"}, "Did you mean pool"),
        ("dann", {"layer": "absent"}, "layer"),
    ],
)
def test_values_out_of_range_are_named(method, options, message):
    with pytest.raises(errors.InputError, match=message):
        getattr(adaptation, method)(**options)(build(), 10)


# ------------------------------------------------------------------ at work


def coloured(count=240):
    """Two classes that shape and colour tell apart; in the target, all have one colour.

    The first column is the shape, the second the colour: a model that learns from the
    source alone looks at both, one that is to see no difference of the domains at the
    shape.
    """

    def split(seed, target):
        rng = np.random.default_rng(seed)
        labels = np.arange(count) % 2
        sign = 2 * labels - 1
        x = rng.normal(0, 0.3, (count, 4)).astype("float32")
        x[:, 0] += sign
        x[:, 1] += -1 if target else 1.5 * sign
        return Split(x, labels)

    def domain(first, target):
        parts = [split(first + n, target) for n in range(3)]
        return Splits(*parts, ["a", "b"], "A toy set.")

    return domain(0, False), domain(3, True)


def accuracy(method, here, weight=1.0):
    source, target = coloured()
    data, term, rows = adaptation.arrange(method, source, target, 32, weight=weight)
    keras.utils.set_random_seed(0)
    model = build(4)
    setup = replace(here, batch_size=rows, choose_by="last")
    phases.fit(model, data, setup, phases.Phase(20, 1e-2, method=term, patience=20))
    logits = model.predict(target.test.read(range(240)), verbose=0)
    return (logits.argmax(1) == target.test.labels).mean()


@pytest.mark.slow
def test_every_method_is_right_about_a_domain_without_labels(here):
    assert accuracy("source only", here) < 0.7
    # A strong term can make all features alike, also those of different classes.
    weights = {"DAN": 0.1, "DANN": 0.5, "CDAN+E": 0.5}
    for method in adaptation.METHODS:
        assert accuracy(method, here, weights.get(method, 1.0)) > 0.9, method
