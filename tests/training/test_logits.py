"""A model that returns probabilities is refused wherever logits are expected."""

import keras
import numpy as np
import pytest
from keras import layers

from keras_tl import errors
from keras_tl.analysis import summary
from keras_tl.data.splits import Split, Splits
from keras_tl.training import objectives, phases, rate_finder

RNG = np.random.default_rng(0)


def data(labels):
    inputs = RNG.integers(0, 256, (24, 8, 8, 3), "uint8")
    split = Split(inputs, labels)
    return Splits(split, split, split, ("a", "b", "c"), "drawn")


CLASSES = data(np.arange(24) % 3)
LABELS = data(RNG.integers(0, 2, (24, 3)).astype("float32"))


@keras.saving.register_keras_serializable()
class Own(layers.Layer):
    """A layer whose code alone tells that it returns probabilities."""

    def call(self, inputs):
        return keras.ops.softmax(inputs)


def nested(tensor):
    inputs = keras.Input(tensor.shape[1:])
    return keras.Model(inputs, layers.Softmax()(inputs))(tensor)


ENDS = {
    "activation of the last layer": layers.Dense(3, "softmax"),
    "layer": lambda x: layers.Softmax()(layers.Dense(3)(x)),
    "activation layer": lambda x: layers.Activation("softmax")(layers.Dense(3)(x)),
    "operation": lambda x: keras.ops.softmax(layers.Dense(3)(x)),
    "own layer": lambda x: Own()(layers.Dense(3)(x)),
    "model inside": lambda x: nested(layers.Dense(3)(x)),
    "reshaped": lambda x: layers.Reshape((3,))(layers.Dense(3, "softmax")(x)),
    "sigmoid": layers.Dense(3, "sigmoid"),
    "hard sigmoid": lambda x: layers.Dense(3, "hard_sigmoid")(x),
}


def build(end):
    keras.utils.set_random_seed(0)
    inputs = keras.Input((8, 8, 3))
    features = layers.Flatten()(layers.Rescaling(1 / 255)(inputs))
    return keras.Model(inputs, end(layers.Dense(8, "relu")(features)))


@pytest.mark.parametrize("name", ENDS)
@pytest.mark.parametrize("splits", [CLASSES, LABELS], ids=["classes", "labels"])
def test_probabilities_are_refused(name, splits, here):
    objective = objectives.SingleLabel()
    if splits is LABELS:
        objective = objectives.MultiLabel()
    model = build(ENDS[name])
    setup = phases.Setup(here.placement, batch_size=8, objective=objective)
    phase = phases.Phase(1)
    with pytest.raises(errors.InputError, match="must return logits"):
        phases.fit(model, splits, setup, phase)
    with pytest.raises(errors.InputError, match="must return logits"):
        rate_finder.find(model, splits, setup, phase, steps=20)
    with pytest.raises(errors.InputError, match="must return logits"):
        summary.evaluate_models({"model": (model, splits.test)}, splits, objective)


@pytest.mark.parametrize(
    "end", [layers.Dense(3, "relu"), lambda x: layers.ReLU()(layers.Dense(3)(x))]
)
def test_outputs_that_are_never_negative_are_refused(end, here):
    setup = phases.Setup(here.placement, batch_size=8)
    with pytest.raises(errors.InputError, match="positive and negative"):
        phases.fit(build(end), CLASSES, setup, phases.Phase(1))


@pytest.mark.parametrize(
    "end",
    [
        layers.Dense(3),
        layers.Dense(3, kernel_initializer="zeros"),
        lambda x: layers.Dense(3)(layers.Softmax()(x)),
        lambda x: layers.Dense(3)(layers.Dense(4, "sigmoid")(x)),
        layers.Dense(3, "tanh"),
        lambda x: layers.Dense(3, bias_initializer=keras.initializers.Constant(5))(x),
    ],
)
def test_logits_are_accepted(end, here):
    setup = phases.Setup(here.placement, batch_size=8)
    assert phases.fit(build(end), CLASSES, setup, phases.Phase(1))["loss"]


def test_a_regression_may_end_in_any_activation(here):
    splits = data(RNG.uniform(size=(24, 3)).astype("float32"))
    objective = objectives.Regression()
    setup = phases.Setup(here.placement, batch_size=8, objective=objective)
    model = build(layers.Dense(3, "sigmoid"))
    assert phases.fit(model, splits, setup, phases.Phase(1))["loss"]
