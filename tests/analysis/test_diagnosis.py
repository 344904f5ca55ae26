"""A diagnosis names the part of a run that costs most, and what it rests on."""

import dataclasses

import keras
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from keras_tl import errors
from keras_tl.analysis import diagnosis, ladder
from keras_tl.analysis.diagnosis import SAMPLES, Part
from keras_tl.data.sources import Arrays
from keras_tl.data.splits import Split, Splits


def part(name: str, cost: float, spread: float = 0.0) -> Part:
    noise = spread * np.random.default_rng(0).standard_normal(SAMPLES)
    return Part(name, cost + noise, "Measured.", f"Mend {name}.")


def rungs(**accuracies: float) -> ladder.Ladder:
    """Make a ladder of 100 validation examples from names of rungs and accuracies."""
    made = {}
    for name, accuracy in accuracies.items():
        name = name.replace("_", " ")
        correct = np.arange(100) < round(100 * accuracy)
        made[name] = ladder.Rung(name, correct, f"the {name}")
    return ladder.Ladder(made, None, None, 1.0, np.ones(10, bool))


def costs(climbed: ladder.Ladder) -> dict[str, float]:
    made = diagnosis._of_rungs(climbed, np.random.default_rng(0))
    return {one.name: one.cost for one in made}


def test_the_most_expensive_part_is_the_verdict():
    made = diagnosis.judge([part("head", 0.1), part("labels", 0.3)], rungs(run=0.5))
    assert (made.verdict, made.confidence) == ("labels", 1.0)
    assert made.advice == "Mend labels."
    assert [one.name for one in made.parts] == ["labels", "head"]
    assert "labels" in made.sentence()


def test_nothing_is_the_verdict_where_no_part_costs_much():
    made = diagnosis.judge([part("head", 0.02), part("labels", 0.01)], rungs(run=0.9))
    assert (made.verdict, made.confidence) == ("nothing", 1.0)
    assert "No part" in made.sentence()


def test_a_cost_that_may_be_chance_is_no_verdict():
    made = diagnosis.judge([part("shift", 0.06, spread=0.1)], rungs(run=0.9))
    assert made.verdict == "nothing"
    assert made.confidence < 0.9


def test_two_parts_that_cost_the_same_share_the_confidence():
    rng = np.random.default_rng(1)
    either = [
        Part(name, 0.2 + 0.05 * rng.standard_normal(SAMPLES), "", "")
        for name in ("head", "backbone")
    ]
    assert 0.4 < diagnosis.judge(either, rungs(run=0.5)).confidence < 0.6


def test_of_two_costs_of_one_part_the_higher_counts():
    made = diagnosis.judge([part("labels", 0.1), part("labels", 0.3)], rungs(run=0.5))
    assert [round(one.cost, 3) for one in made.parts] == [0.3]


def test_what_a_part_costs_is_what_its_replacement_gains():
    trained_badly = rungs(run=0.2, same_head=0.9, linear_probe=0.9)
    assert costs(trained_badly) == pytest.approx(
        {"optimisation": 0.7, "head": 0}, abs=0.02
    )
    wrong_head = rungs(run=0.2, same_head=0.2, linear_probe=0.9)
    assert costs(wrong_head) == pytest.approx(
        {"optimisation": 0, "head": 0.7}, abs=0.02
    )
    destroyed = rungs(run=0.2, same_head=0.3, linear_probe=0.3, frozen_backbone=0.9)
    assert costs(destroyed)["optimisation"] == pytest.approx(0.7, abs=0.02)


@settings(deadline=None)
@given(st.lists(st.floats(0, 1), min_size=7, max_size=7))
def test_costs_add_up_to_what_the_best_rung_gains(accuracies):
    names = [ladder.RUN, *(name for _, name in diagnosis._CHAIN)][:7]
    made = rungs(**dict(zip(names, accuracies, strict=True)))
    best = max(rung.accuracy for rung in made.rungs.values())
    gained = best - made.rungs[ladder.RUN].accuracy
    assert sum(costs(made).values()) == pytest.approx(gained, abs=0.03)


@settings(deadline=None)
@given(st.permutations(range(5)))
def test_outputs_in_another_order_are_put_right(order):
    labels = np.arange(5)
    logits = np.eye(5)[np.array(order)[labels]]
    assert (ladder.reordered(logits, labels)[logits.argmax(axis=1)] == labels).all()


def test_outputs_that_are_right_keep_their_order():
    logits = np.zeros((6, 3))
    assert ladder.reordered(logits, np.array([1, 1, 2, 2, 0, 0])).tolist() == [0, 1, 2]


def test_black_images_and_noise_are_empty_and_pictures_are_not():
    rng = np.random.default_rng(0)
    edge = np.zeros((1, 32, 32, 3), "uint8")
    edge[:, :, 16:] = 200
    ramp = np.tile(np.linspace(0, 255, 32), (32, 1))[None, ..., None]
    noisy = (ramp + rng.normal(0, 30, (1, 32, 32, 3))).clip(0, 255)
    assert not diagnosis.is_empty(np.concatenate([edge, noisy])).any()
    noise = rng.integers(0, 256, (2, 32, 32, 3))
    assert diagnosis.is_empty(np.concatenate([noise, 0 * noise])).all()


def test_classes_that_are_told_apart_are_not_mixed():
    rng = np.random.default_rng(0)
    labels = np.repeat(np.arange(3), 40)
    logits = rng.normal(0, 1, (120, 3)) + 2 * np.eye(3)[labels]
    shares = np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)
    assert diagnosis.mixed(shares, labels) == []
    # The classes 0 and 1 exchanged for half of their examples.
    exchanged = np.where((labels < 2) & (rng.random(120) < 0.5), 1 - labels, labels)
    assert diagnosis.mixed(shares, exchanged) == [(0, 1)]


def test_a_model_is_cut_where_its_head_begins():
    image = keras.Input((16, 16, 3))
    x = keras.layers.Rescaling(1 / 255)(image)
    x = keras.layers.Conv2D(4, 3, name="last")(x)
    x = keras.layers.GlobalAveragePooling2D()(x)
    x = keras.layers.Dense(1, name="hidden_1")(x)
    model = keras.Model(image, keras.layers.Dense(3, name="logits")(x))
    stem, tail = ladder.cut(model)
    assert stem.layers[-1].name == "last"
    inputs = np.random.default_rng(0).random((2, 16, 16, 3), "float32")
    np.testing.assert_allclose(tail(stem(inputs)), model(inputs), rtol=1e-5)


def test_a_model_without_a_feature_map_is_refused():
    model = keras.Sequential([keras.Input((4,)), keras.layers.Dense(2)])
    with pytest.raises(errors.InputError, match="feature map"):
        ladder.cut(model)


def features(count: int, seed: int, scale: float = 3.0) -> Split:
    rng = np.random.default_rng(seed)
    labels = np.arange(count) % 3
    return Split(
        Arrays(rng.normal(0, 1, (count, 8)) + scale * np.eye(3, 8)[labels]), labels
    )


def test_a_head_is_trained_again_from_fresh_weights():
    data = Splits(features(90, 0), features(30, 1), features(30, 2), "abc", "Made.")
    head = keras.Sequential([keras.Input((8,)), keras.layers.Dense(3)])
    head.set_weights([np.full(one.shape, np.nan) for one in head.get_weights()])
    answers, accuracies = ladder.retrained(head, data, 1e-2, 0)
    assert (answers == data.validation.labels).mean() > 0.8
    assert accuracies[-1] == pytest.approx((answers == data.validation.labels).mean())
    assert np.isnan(head.get_weights()[0]).all()  # The run's own is left alone.


def test_few_examples_of_hard_classes_cost_accuracy_and_many_of_easy_ones_do_not():
    few, held = features(9, 0, scale=1.5), features(300, 1, scale=1.5)
    gain = diagnosis.amount(few, held, ("a", "b", "c"), 0).mean()
    assert gain > 0.05
    many, held = features(300, 0, scale=6.0), features(300, 1, scale=6.0)
    assert diagnosis.amount(many, held, ("a", "b", "c"), 0).mean() < 0.01


@pytest.mark.parametrize("counts", [(1, 5), (0, 5)])
def test_a_class_with_one_training_example_is_refused(counts):
    labels = np.repeat([0, 1], counts)
    images = np.zeros((len(labels), 8, 8, 3), "uint8")
    split = Split(images, labels)
    data = Splits(split, split, split, ("cat", "dog"), "Made.")
    with pytest.raises(errors.InputError, match="at least 2 training examples.*'cat'"):
        diagnosis.check(data)


def test_features_without_images_are_refused():
    split = features(30, 0)
    data = Splits(split, split, split, ("a", "b", "c"), "Made.")
    with pytest.raises(errors.InputError, match="images with one class each"):
        diagnosis.check(data)


def test_a_part_tells_its_interval():
    one = dataclasses.replace(part("head", 0.2), samples=np.linspace(0, 1, SAMPLES))
    assert one.interval == pytest.approx((0.05, 0.95), abs=0.01)


def test_pixels_that_are_prepared_otherwise_are_found():
    keras.utils.set_random_seed(0)
    rng = np.random.default_rng(0)
    labels = np.arange(120) % 2
    images = rng.integers(0, 60, (120, 16, 16, 3))
    images[labels == 1, 4:12, 4:12] += 120
    split = Split(images.astype("uint8"), labels)
    data = Splits(split, split, split, ("dark", "bright"), "Made.")
    image = keras.Input((16, 16, 3))
    # Its one filter counts what is above 1: nothing, where pixels are divided twice.
    kernel = keras.initializers.Constant(1 / 27)
    low = keras.initializers.Constant(-0.45)
    scaled = keras.layers.Rescaling(1 / 255**2)(image)
    x = keras.layers.Conv2D(
        1, 3, activation="relu", kernel_initializer=kernel, bias_initializer=low
    )(scaled)
    wrong = keras.Model(image, x)
    name, right = ladder.other_preprocessing(wrong, data, None, 0)
    assert name in dict(ladder._ways())
    values = [
        made.predict(images, verbose=0).mean((1, 2, 3)) for made in (wrong, right)
    ]
    assert np.ptp(values[0]) == 0
    apart = [values[1][labels == label] for label in (0, 1)]
    assert min(map(max, apart)) < max(map(min, apart))
    assert ladder.other_preprocessing(right, data, None, 0) is None
