import keras
import numpy as np
import pytest

from keras_tl import errors
from keras_tl.models import freezing, heads
from keras_tl.training import optimizers, phases, schedules

PLAIN = {
    "sgd": (keras.optimizers.SGD, {"momentum": 0.9}),
    "adam": (keras.optimizers.Adam, {}),
    "adamw": (keras.optimizers.AdamW, {"weight_decay": 0.1}),
    "rmsprop": (keras.optimizers.RMSprop, {"weight_decay": 0.1}),
}
RNG = np.random.default_rng(0)
X, Y = RNG.random((32, 6), "float32"), RNG.integers(0, 3, 32)


def build():
    """Two blocks of a backbone, and a head."""
    keras.utils.set_random_seed(0)
    layers = [
        keras.layers.Dense(5, "relu", name="block1_a"),
        keras.layers.Dense(4, "relu", name="block2_a"),
        keras.layers.Dense(3, name="logits"),
    ]
    return keras.Sequential([keras.Input((6,)), *layers])


def fit(model, optimizer, epochs=3):
    if optimizer is not None:
        loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
        model.compile(optimizer, loss)
    model.fit(X, Y, batch_size=8, epochs=epochs, shuffle=False, verbose=0)
    return model.get_weights()


# One with, one without a state of its own; the others in slow tests only.
EACH = [
    pytest.param(name, marks=() if name in ("adamw", "sgd") else pytest.mark.slow)
    for name in PLAIN
]


def same(these, those):
    return all(map(np.array_equal, these, those))


@pytest.mark.parametrize("name", EACH)
def test_with_factors_of_1_nothing_changes(name):
    base, options = PLAIN[name]
    plain = fit(build(), base(0.01, **options))
    ours = fit(build(), optimizers.layerwise(name, {"block1": 1}, **options)(0.01))
    assert same(ours, plain)


@pytest.mark.parametrize("name", EACH)
def test_a_factor_for_all_is_another_learning_rate(name):
    base, options = PLAIN[name]
    plain = fit(build(), base(0.003, **options))
    ours = fit(build(), optimizers.layerwise(name, {".": 0.3}, **options)(0.01))
    for our, other in zip(ours, plain, strict=True):
        np.testing.assert_allclose(our, other, atol=2e-6)


@pytest.mark.parametrize("name", EACH)
def test_one_step_moves_each_layer_by_its_own_rate(name):
    base, options = PLAIN[name]
    start = build().get_weights()
    factors = {"block1": 0.0, "block2": 0.1}
    slow = build()
    optimizer = optimizers.layerwise(name, factors, **options)(0.01)
    optimizer.build(slow.trainable_variables)
    plain = build()
    other = base(0.01, **options)
    other.build(plain.trainable_variables)
    gradients = [keras.ops.convert_to_tensor(0.5 + weight) for weight in start]
    optimizer.apply(gradients)
    other.apply(gradients)
    for index, factor in enumerate([0, 0, 0.1, 0.1, 1, 1]):
        ours = slow.get_weights()[index] - start[index]
        wanted = plain.get_weights()[index] - start[index]
        np.testing.assert_allclose(ours, factor * wanted, atol=1e-7)


def test_the_first_pattern_that_is_found_counts():
    paths = ["block5_conv1/kernel", "block4_conv1/kernel", "logits/bias"]
    found = optimizers.match({"block5": 0.5, "block": 0.1}, paths)
    assert list(found.values()) == [0.5, 0.1, 1.0]


@pytest.mark.parametrize("factors", [{"blokc1": 0.1}, {"block": 0.1, "block1": 0.2}])
def test_a_pattern_that_decides_nothing_is_an_error(factors):
    with pytest.raises(errors.InputError, match=r"block1_a.* Received|Received.*block"):
        fit(build(), optimizers.layerwise("adam", factors)(0.01))


@pytest.mark.parametrize(
    ("arguments", "said"),
    [(("adamax", {}), "adamw"), (("adam", {"a": -1}), "not be negative")],
)
def test_wrong_arguments_are_named(arguments, said):
    with pytest.raises(errors.InputError, match=said):
        optimizers.layerwise(*arguments)(0.01)


@pytest.mark.parametrize("name", EACH)
def test_saved_and_loaded_it_goes_on_as_if_nothing_had_happened(name, tmp_path):
    _, options = PLAIN[name]

    def optimizer():
        schedule = keras.optimizers.schedules.CosineDecay(0.01, 24)
        return optimizers.layerwise(name, {"block1": 0.2}, **options)(schedule)

    straight = fit(build(), optimizer(), epochs=6)
    model = build()
    fit(model, optimizer())
    model.save(tmp_path / "half.keras")
    assert same(fit(keras.models.load_model(tmp_path / "half.keras"), None), straight)


def test_rates_fall_from_block_to_block():
    model = build()
    factors = optimizers.by_block(model, 0.5)
    found = optimizers.match(factors, [w.path for w in model.trainable_weights])
    assert list(found.values()) == [0.25, 0.25, 0.5, 0.5, 1, 1]


def test_what_lies_between_the_last_block_and_the_head_has_its_rate():
    names = ("block1_a", "block2_a", "top", "logits")
    found = [keras.layers.Dense(2, name=name) for name in names]
    model = keras.Sequential([keras.Input((2,)), *found])
    factors = optimizers.by_block(model, 0.5)
    found = optimizers.match(factors, [w.path for w in model.trainable_weights])
    assert list(found.values()) == [0.25, 0.25, 0.5, 0.5, 0.5, 0.5, 1, 1]


def test_frozen_blocks_are_counted_and_left_out():
    model = build()
    model.get_layer("block2_a").trainable = False
    factors = optimizers.by_block(model, 0.5)
    found = optimizers.match(factors, [w.path for w in model.trainable_weights])
    assert list(found.values()) == [0.25, 0.25, 1, 1]


def test_layers_in_front_of_the_blocks_are_one_step_slower():
    names = ("stem", "block1_a", "logits")
    named = [keras.layers.Dense(2, name=name) for name in names]
    model = keras.Sequential([keras.Input((2,)), *named])
    factors = optimizers.by_block(model, 0.5)
    found = optimizers.match(factors, [w.path for w in model.trainable_weights])
    assert list(found.values()) == [0.25, 0.25, 0.5, 0.5, 1, 1]
    with pytest.raises(errors.InputError, match="decay"):
        optimizers.by_block(model, 1.5)


def test_a_slow_backbone_is_all_but_the_head():
    model = build()
    optimizer = optimizers.slow_backbone(0.1, heads=["block2_a"])(0.01)
    optimizer.build(model.trainable_weights)
    assert optimizer._by_index == [0.1, 0.1, 1, 1, 1, 1]
    model.get_layer("block1_a").trainable = False
    # All below the head may be frozen.
    optimizer = optimizers.slow_backbone(0.1, heads=["block2_a"])(0.01)
    optimizer.build(model.trainable_weights)
    with pytest.raises(errors.InputError, match="factor"):
        optimizers.slow_backbone(-1)


@pytest.mark.parametrize("policy", ["mixed_bfloat16", "mixed_float16"])
def test_factors_hold_in_mixed_precision(policy):
    keras.config.set_dtype_policy(policy)
    try:
        model, start = build(), build().get_weights()
        fit(model, optimizers.layerwise("adam", {"block1": 0.0})(0.01))
    finally:
        keras.config.set_dtype_policy("float32")
    moved = [
        not np.array_equal(now, before)
        for now, before in zip(model.get_weights(), start, strict=True)
    ]
    assert moved == [False, False, True, True, True, True]


def test_a_phase_trains_with_the_optimizer_and_the_schedule_it_is_given(
    make_backbone, colours, here
):
    backbone = make_backbone()
    freezing.freeze(backbone)
    model = heads.attach(backbone, 3)
    freezing.unfreeze_from(model, "block1")
    factors = {"block1": 0.0, "block2": 0.1}
    before = {weight.path: weight.numpy() for weight in model.weights}
    phases.fit(
        model,
        colours,
        here,
        phases.fine_tuning(
            epochs=3,
            learning_rate=0.01,
            schedule=schedules.one_cycle(rise=0.4),
            optimizer=optimizers.layerwise("sgd", factors),
        ),
    )
    moved = {
        weight.path
        for weight in model.weights
        if not np.array_equal(before[weight.path], weight.numpy())
    }
    assert {"block2_conv/kernel", "logits/kernel"} <= moved
    assert "block1_conv/kernel" not in moved


def test_a_phase_says_which_layers_train_when_a_pattern_matches_none(
    make_backbone, colours, here
):
    backbone = make_backbone()
    freezing.freeze(backbone)
    model = heads.attach(backbone, 3)
    slow = optimizers.layerwise("adam", {"block2": 0.1})
    with pytest.raises(errors.InputError, match="The layers that train: logits"):
        phases.fit(model, colours, here, phases.Phase(epochs=1, optimizer=slow))
