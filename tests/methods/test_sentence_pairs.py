import keras
import numpy as np
import pytest

from keras_tl import errors
from keras_tl.data.splits import Split, Splits
from keras_tl.methods import sentence_pairs
from keras_tl.models import freezing, heads
from keras_tl.training import phases
from keras_tl.training.terms import TermModel


def slow_loss(vectors, labels, weights):
    """The mean over pairs of a class, and over the others, pair by pair."""
    same, different = [], []
    for one in range(len(vectors)):
        for other in range(one + 1, len(vectors)):
            if not weights[one] or not weights[other]:
                continue
            u, v = vectors[one], vectors[other]
            cosine = u @ v / np.linalg.norm(u) / np.linalg.norm(v)
            if labels[one] == labels[other]:
                same.append((1 - cosine) ** 2)
            else:
                different.append(cosine**2)
    return sum(np.mean(kind) / 2 for kind in (same, different) if kind)


@pytest.mark.parametrize("weights", [np.ones(7), np.array([1, 0, 1, 2, 0, 1, 1])])
def test_the_loss_is_that_of_all_pairs_of_rows_that_count(weights):
    rng = np.random.default_rng(0)
    vectors = rng.normal(size=(7, 3)).astype("float32")
    labels = np.array([0, 1, 0, 2, 1, 1, 0])
    loss = sentence_pairs.pair_loss(vectors, np.eye(3)[labels], weights)
    assert float(loss) == pytest.approx(slow_loss(vectors, labels, weights), rel=1e-5)


def test_without_a_pair_there_is_no_loss():
    vectors, labels = np.ones((2, 3), "float32"), np.eye(2, dtype="float32")
    assert float(sentence_pairs.pair_loss(vectors, labels, np.array([1, 0]))) == 0
    # A vector of length 0 has no direction, and its pairs a cosine of 0.
    assert float(sentence_pairs.pair_loss(0 * vectors, labels)) == 0


def build():
    keras.utils.set_random_seed(0)
    inputs = keras.Input((4,))
    x = keras.layers.Dense(8, "tanh", name="block1_dense")(inputs)
    x = keras.layers.Dense(3, name="pool")(x)
    model = heads.attach(keras.Model(inputs, x), 2, dropout=0.0)
    freezing.unfreeze(model)
    return model


def test_the_loss_of_the_labels_is_left_out_and_that_of_pairs_is_validated():
    model = build()
    term = sentence_pairs.cosine("pool")(model, 10)
    trained = TermModel(model, term, num_labels=2, steps=10)
    rng = np.random.default_rng(0)
    x, labels = rng.normal(size=(6, 4)).astype("float32"), np.array([0, 1] * 3)
    y = np.eye(2, dtype="float32")[labels]
    trained.compile("sgd", keras.losses.CategoricalCrossentropy(from_logits=True))
    vectors = keras.Model(model.inputs[0], model.get_layer("pool").output)(x)
    wanted = slow_loss(np.asarray(vectors), labels, np.ones(6))
    for training in (True, False):
        loss = trained.compute_loss(x, y, trained(x), None, training=training)
        assert float(loss) == pytest.approx(wanted, rel=1e-5)


def test_classes_move_apart_and_the_head_stays(here):
    def split(seed):
        rng = np.random.default_rng(seed)
        labels = np.arange(30) % 2
        x = rng.normal(size=(30, 4)).astype("float32")
        x[:, 0] += 2 * labels - 1
        return Split(x, labels)

    data = Splits(split(0), split(1), split(2), ["a", "b"], "A toy set.")
    model = build()
    before = [weight.numpy() for weight in model.layers[-1].weights]
    phase = phases.Phase(20, 0.01, method=sentence_pairs.cosine("pool"), patience=20)
    history = phases.fit(model, data, here, phase)
    assert min(history["val_loss"]) < 0.8 * history["val_loss"][0]
    for weight, value in zip(model.layers[-1].weights, before, strict=True):
        np.testing.assert_array_equal(weight, value)


def test_a_layer_that_gives_no_vector_is_named():
    model = build()
    with pytest.raises(errors.InputError, match="'pol'.*pool"):
        sentence_pairs.cosine("pol")(model, 10)
