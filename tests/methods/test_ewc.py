from dataclasses import replace

import keras
import numpy as np
import pytest
from keras import layers

from keras_tl import errors
from keras_tl.data.splits import Split, Splits
from keras_tl.methods import distillation, ewc
from keras_tl.models import heads
from keras_tl.training import phases, terms

X = np.array([[1.0, 2.0], [0.5, -1.0], [2.0, 0.0]], "float32")


def linear(classes=3):
    features = keras.Input((2,))
    model = keras.Model(features, layers.Dense(classes, name="logits")(features))
    rng = np.random.default_rng(0)
    kernel = rng.normal(size=(2, classes)).astype("float32")
    model.set_weights([kernel, np.zeros(classes, "float32")])
    return model


def softmax(logits):
    powers = np.exp(logits - logits.max(1, keepdims=True))
    return powers / powers.sum(1, keepdims=True)


def test_the_fisher_information_of_a_linear_classifier_is_computed_by_hand():
    """Of w_jk it is the mean of x_j^2 p_k (1 - p_k); of the bias, of p_k (1 - p_k)."""
    model = linear()
    before = model.get_weights()
    kernel, bias = ewc.fisher(model, Split(X, [0, 1, 2]))
    p = softmax(X @ before[0])
    spread = p * (1 - p)
    np.testing.assert_allclose(bias, spread.mean(0), rtol=1e-4)
    by_hand = np.mean(X[:, :, None] ** 2 * spread[:, None], axis=0)
    np.testing.assert_allclose(kernel, by_hand, rtol=1e-4)
    for old, new in zip(before, model.get_weights(), strict=True):
        np.testing.assert_array_equal(old, new)


def test_it_is_that_of_prediction_where_layers_differ_in_training():
    x = image = keras.Input((2,))
    x = layers.Dropout(0.9)(x)
    dropping = keras.Model(image, layers.Dense(3)(x))
    dropping.set_weights(linear().get_weights())
    for one, other in zip(
        ewc.fisher(dropping, Split(X, [0, 1, 2])),
        ewc.fisher(linear(), Split(X, [0, 1, 2])),
        strict=True,
    ):
        np.testing.assert_allclose(one, other, rtol=1e-5)


def test_the_penalty_is_computed_by_hand_and_new_classes_are_free():
    model = heads.widen(linear(), 4)
    information = ewc.fisher(model, Split(X, [0, 1, 2]), 3)
    plain = ewc.fisher(linear(), Split(X, [0, 1, 2]))
    np.testing.assert_allclose(information[0][:, :3], plain[0], rtol=1e-5)
    np.testing.assert_array_equal(information[0][:, 3], 0)
    information = [np.full((2, 4), 2.0), np.array([1.0, 0.0, 3.0, 0.0])]
    information[0][:, 3] = 0
    term = ewc.ewc(information, strength=10.0)(model, 1)
    batch = terms.Batch(None, None, {}, None, None, None, None)
    assert float(term.loss(batch)) == 0
    kernel, bias = model.get_weights()
    model.set_weights([kernel + 0.5, bias + 2.0])
    # 10 / 2 * (6 weights * 2 * 0.25 + (1 + 3) * 4)
    assert float(term.loss(batch)) == pytest.approx(95.0)


def test_it_keeps_what_a_phase_would_have_changed(here):
    rng = np.random.default_rng(1)
    features = rng.normal(size=(40, 2)).astype("float32")
    split = Split(features, rng.integers(0, 3, 40))
    data = Splits(split, split, split, ["a", "b", "c"], "Noise.")
    moved = {}
    for strength in (0.0, 100.0):
        model = linear()
        before = model.get_weights()[0]
        information = ewc.fisher(model, split)
        method = ewc.ewc(information, strength=strength)
        phase = phases.Phase(
            10, 0.05, optimizer=keras.optimizers.SGD, method=method, patience=10
        )
        phases.fit(model, data, replace(here, choose_by="last"), phase)
        moved[strength] = np.abs(model.get_weights()[0] - before).max()
    assert moved[100.0] < 0.5 * moved[0.0]


def test_information_of_other_weights_is_named():
    for shapes in ([(2, 3)], [(2, 5), (5,)]):
        with pytest.raises(errors.InputError, match="of its shape"):
            ewc.ewc([np.zeros(shape) for shape in shapes])(linear(), 1)
    with pytest.raises(errors.InputError, match=r"classes=4"):
        ewc.fisher(linear(), Split(X, [0, 1, 2]), 4)
    model = linear()
    model.trainable = False
    with pytest.raises(errors.InputError, match="weights that train"):
        ewc.fisher(model, Split(X, [0, 1, 2]))


def test_the_answers_of_before_are_compared_with_the_old_classes_alone():
    term = distillation.old_answers(alpha=2.0, temperature=1.0)(None, 1)

    def cost(targets, logits):
        arrays = (np.array(a, "float32") for a in (logits, targets))
        logits, targets = map(keras.ops.convert_to_tensor, arrays)
        batch = terms.Batch(None, logits, {}, None, targets, None, None)
        return float(term.loss(batch))

    assert cost([[1.0, 2.0]], [[1.0, 2.0, 9.0]]) == pytest.approx(0, abs=1e-6)
    # KL of (1/2, 1/2) from (1/4, 3/4): log 2 - log 3 / 2.
    by_hand = 2 * (np.log(2) - np.log(3) / 2)
    assert cost([[0, 0]], [[0, np.log(3), 5.0]]) == pytest.approx(by_hand, rel=1e-5)
    batch = terms.Batch(None, np.zeros((1, 2)), {}, None, None, None, None)
    with pytest.raises(errors.InputError, match="logits of the model before"):
        term.loss(batch)
