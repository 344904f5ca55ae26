"""Models that a user may bring: each function works on them, or refuses in words."""

import contextlib

import keras
import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from keras import layers

from keras_tl import errors
from keras_tl.data.splits import Split, Splits
from keras_tl.methods import lora, regularizers
from keras_tl.models import freezing, heads, resizing, splitting
from keras_tl.training import optimizers, phases

RNG = np.random.default_rng(0)
SIDE = 8


def split(count):
    pixels = RNG.integers(0, 256, (count, SIDE, SIDE, 3), "uint8")
    return Split(pixels, np.arange(count) % 3)


DATA = Splits(split(12), split(6), split(6), tuple("abc"), "Noise.")


def two_inputs():
    first, second = keras.Input((SIDE, SIDE, 3)), keras.Input((4,))
    pooled = layers.GlobalAveragePooling2D()(layers.Conv2D(4, 3)(first))
    x = layers.Concatenate()([pooled, second])
    return keras.Model([first, second], layers.Dense(3)(layers.Dense(5)(x)))


def two_outputs():
    inputs = keras.Input((SIDE, SIDE, 3))
    x = layers.GlobalAveragePooling2D()(layers.Conv2D(4, 3)(inputs))
    return keras.Model(inputs, [layers.Dense(3)(x), layers.Dense(3)(x)])


def named_outputs():
    model = two_outputs()
    first, second = model.outputs
    return keras.Model(model.inputs, {"first": first, "second": second})


def shared():
    inputs = keras.Input((SIDE, SIDE, 3))
    twice = layers.Conv2D(3, 3, padding="same", name="twice")
    x = twice(layers.Dropout(0.2)(twice(inputs)))
    x = layers.GlobalAveragePooling2D(name="pool")(x)
    return keras.Model(inputs, layers.Dense(3, name="logits")(x))


class Subclassed(keras.Model):
    def __init__(self):
        super().__init__()
        self.convolution, self.dense = layers.Conv2D(4, 3), layers.Dense(3)

    def call(self, inputs):
        return self.dense(keras.ops.mean(self.convolution(inputs), (1, 2)))


def subclassed():
    model = Subclassed()
    model(np.zeros((1, SIDE, SIDE, 3), "float32"))
    return model


def not_built():
    return keras.Sequential([layers.Conv2D(4, 3), layers.Flatten(), layers.Dense(3)])


def fit(model, here, **options):
    phase = phases.Phase(1, **options)
    setup = phases.Setup(here.placement, batch_size=6)
    return phases.fit(model, DATA, setup, phase)


USES = {
    "replace": lambda model, here: heads.replace(model, 4),
    "attach": lambda model, here: heads.attach(model, 3),
    "attach_mlp": lambda model, here: heads.attach_mlp(model, 3, hidden=(4,)),
    "cut": lambda model, here: [
        splitting.split_at(model, tensor) for _, tensor in splitting.cut_points(model)
    ],
    "fit": fit,
    "freeze": lambda model, here: freezing.freeze(model),
    "unfreeze head": lambda model, here: freezing.unfreeze_head(model),
    "unfreeze blocks": lambda model, here: freezing.unfreeze_blocks(model, 1),
    "report": lambda model, here: str(freezing.report(model)),
    "LoRA": lambda model, here: lora.enable(model, rank=2),
    "by block": lambda model, here: optimizers.by_block(model, 0.5),
    "resize": lambda model, here: resizing.at_size(model, 2 * SIDE),
    "L2-SP": lambda model, here: fit(model, here, method=regularizers.l2_sp()),
    "BSS": lambda model, here: fit(model, here, method=regularizers.bss()),
    "slow backbone": lambda model, here: fit(
        model, here, optimizer=optimizers.slow_backbone(0.1)
    ),
}
# What has to work; the others may be refused, but in words.
WORKS = {
    two_inputs: ("replace", "attach", "cut", "freeze", "unfreeze head", "LoRA"),
    two_outputs: ("freeze", "report", "resize"),
    named_outputs: ("freeze", "report", "resize"),
    shared: ("replace", "attach", "cut", "fit", "freeze", "resize", "L2-SP"),
    subclassed: ("freeze", "unfreeze head", "report", "LoRA"),
    not_built: ("report",),
}


@pytest.mark.parametrize("build", WORKS, ids=lambda build: build.__name__)
@pytest.mark.parametrize("use", USES)
def test_each_function_works_or_refuses_in_words(build, use, here):
    keras.utils.set_random_seed(0)
    if use in WORKS[build]:
        USES[use](build(), here)
        return
    with contextlib.suppress(errors.InputError):
        USES[use](build(), here)


@pytest.mark.parametrize("build", [two_outputs, named_outputs])
@pytest.mark.parametrize("use", ["replace", "attach", "cut", "fit"])
def test_an_output_is_not_dropped_in_silence(build, use, here):
    with pytest.raises(errors.InputError, match="must have one output"):
        USES[use](build(), here)


@pytest.mark.parametrize("weighted", [False, True])
@pytest.mark.parametrize("name", ["pool", "flatten", "dropout", "hidden_1", "logits"])
@pytest.mark.parametrize("mlp", [False, True])
def test_a_backbone_with_names_of_a_head_stays_a_backbone(name, weighted, mlp):
    inputs = keras.Input((SIDE, SIDE, 3))
    own = layers.Conv2D(4, 3, name=name) if weighted else layers.ReLU(name=name)
    outputs = own(layers.Conv2D(4, 3, name="stem")(inputs))
    backbone = keras.Model(inputs, outputs)
    attach = heads.attach_mlp if mlp else heads.attach
    model = attach(backbone, 3, **({"hidden": (5,)} if mlp else {}))
    head = {layer.name for layer in freezing.head(model)}
    assert not head & {layer.name for layer in backbone.layers if layer.weights}
    freezing.unfreeze_head(model)
    assert not backbone.trainable_weights
    again = heads.replace(model, 4)
    freezing.unfreeze_head(again)
    assert not backbone.trainable_weights
    assert again.output_shape == (None, 4)


def convolution(x, number):
    return layers.Conv2D(3, 3, padding="same")(x)


def normalization(x, number):
    return layers.BatchNormalization()(x)


def random(x, number):
    return layers.RandomFlip()(x)


def dropout(x, number):
    return layers.Dropout(0.3)(x)


def residual(x, number):
    y = layers.Conv2D(x.shape[-1], 1)(layers.BatchNormalization()(x))
    return layers.Add()([x, y])


def nested(x, number):
    inputs = keras.Input(x.shape[1:])
    y = layers.BatchNormalization()(layers.Conv2D(3, 1)(inputs))
    return keras.Model(inputs, y, name=f"inner_{number}")(x)


def wrapped(x, number):
    inner = keras.Sequential([layers.Conv1D(3, 1), layers.BatchNormalization()])
    return layers.TimeDistributed(inner)(x)


def operation(x, number):
    return keras.ops.relu(x) + 1.0


STEPS = [
    *(convolution, normalization, random, dropout),
    *(residual, nested, wrapped, operation),
]


def build(steps, repeat):
    """A functional model of these steps; `repeat` uses one layer at both its ends."""
    keras.utils.set_random_seed(1)
    inputs = x = keras.Input((SIDE, SIDE, 3))
    twice = layers.Conv2D(3, 1, name="twice")
    x = twice(x) if repeat else x
    for number, step in enumerate(steps):
        x = step(x, number)
    x = twice(x) if repeat and x.shape[-1] == 3 else x
    return keras.Model(inputs, x)


@settings(
    max_examples=15,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)
@given(st.lists(st.sampled_from(STEPS), max_size=5), st.booleans())
def test_the_halves_of_any_model_give_what_the_whole_gives(steps, repeat):
    model = build([*steps, convolution], repeat)
    pixels = DATA.test.inputs.pixels.astype("float32")
    whole = model(pixels, training=False)
    for _, tensor in splitting.cut_points(model):
        stem, tail = splitting.split_at(model, tensor)
        np.testing.assert_allclose(
            tail(stem(pixels, training=False), training=False),
            whole,
            rtol=1e-5,
            atol=1e-4,
        )


@pytest.mark.slow
@settings(
    max_examples=25,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)
@given(st.lists(st.sampled_from(STEPS), max_size=4), st.booleans(), st.integers(0, 3))
def test_in_any_model_frozen_layers_stay_and_the_others_train(
    here, steps, repeat, unfrozen
):
    frozen_layers_stay(here, steps, repeat, unfrozen)


@pytest.mark.parametrize("unfrozen", [0, 2])
def test_frozen_layers_stay_and_the_others_train(here, unfrozen):
    frozen_layers_stay(here, [residual, nested, wrapped, random], True, unfrozen)


def frozen_layers_stay(here, steps, repeat, unfrozen):
    model = heads.attach(build(steps, repeat), 3, dropout=0.0)
    leaves = [layer for layer in freezing.leaves(model) if layer.weights]
    freezing.freeze(model)
    freezing.train_only(model, [layer.name for layer in leaves[-1 - unfrozen :]])
    may_move = {id(w) for layer in leaves[-1 - unfrozen :] for w in layer.weights}
    before = {id(weight): np.array(weight) for weight in model.weights}
    history = fit(model, here, learning_rate=0.1)
    assert np.isfinite(history["loss"]).all()
    for weight in model.weights:
        if id(weight) not in may_move:
            np.testing.assert_array_equal(before[id(weight)], weight, weight.path)
    kept = freezing.head(model)[-1].kernel
    assert not np.array_equal(before[id(kept)], kept)
