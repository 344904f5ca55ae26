"""Promises about style transfer."""

import itertools
from dataclasses import replace

import keras
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from keras import ops

from keras_tl import errors
from keras_tl.data import pictures, splits
from keras_tl.methods import style
from keras_tl.models import image_transform, taps
from keras_tl.training import objectives, phases, placement


@pytest.fixture(scope="module")
def network():
    keras.utils.set_random_seed(0)
    layers = [
        keras.Input((32, 32, 3)),
        keras.layers.Rescaling(1 / 127.5, -1),
        keras.layers.Conv2D(8, 3, padding="same", activation="relu", name="fine"),
        keras.layers.MaxPooling2D(4),
        keras.layers.Conv2D(16, 3, padding="same", activation="relu", name="coarse"),
    ]
    return taps.maps(keras.Sequential(layers), ["fine", "coarse"])


@pytest.fixture(scope="module")
def objective(network):
    wanted = style.style_of(network, pictures.mosaic(48, seed=1), ["fine", "coarse"])
    return style.Objective(network, wanted, ["coarse"], style_weight=3.0)


@pytest.fixture(scope="module")
def photograph():
    return np.random.default_rng(0).integers(0, 256, (24, 32, 3)).astype("uint8")


@settings(deadline=None, max_examples=30)
@given(
    st.integers(1, 3),
    st.integers(1, 4),
    st.integers(1, 4),
    st.integers(1, 5),
    st.integers(0, 10**6),
)
def test_the_gram_matrix_is_that_of_the_paper_entry_by_entry(
    batch, rows, columns, channels, seed
):
    x = np.random.default_rng(seed).normal(size=(batch, rows, columns, channels))
    slow = np.zeros((batch, channels, channels))
    for n in range(batch):
        for i in range(channels):
            for j in range(channels):
                products = x[n, :, :, i] * x[n, :, :, j]
                slow[n, i, j] = products.sum() / (rows * columns * channels)
    computed = style.gram(ops.convert_to_tensor(x, "float32"))
    np.testing.assert_allclose(computed, slow, atol=1e-5)


def test_style_does_not_ask_where_and_content_does():
    keras.utils.set_random_seed(0)
    layer = keras.layers.Conv2D(6, 1, activation="relu", name="a")
    network = taps.maps(keras.Sequential([keras.Input((8, 8, 3)), layer]), ["a"])
    rng = np.random.default_rng(0)
    image = rng.integers(0, 256, (8, 8, 3))
    moved = rng.permutation(image.reshape(64, 3)).reshape(8, 8, 3)
    one = style.Objective(network, style.style_of(network, image, ["a"]), ["a"])
    measured = one.measure(moved, image)
    assert measured["style_loss"] < 1e-9
    assert measured["content_loss"] > 0.1
    assert one.measure(image, image)["objective"] < 1e-9


def test_the_objective_is_the_weighted_sum_of_the_means_over_layers(
    objective, photograph
):
    other = pictures.mosaic(32, seed=2)[:24]
    maps = objective.network(other[None].astype("float32"))
    wanted = objective.network(photograph[None].astype("float32"))
    apart = np.asarray(maps["coarse"]) - np.asarray(wanted["coarse"])
    content = np.square(apart).sum() / np.square(np.asarray(wanted["coarse"])).sum()
    costs = []
    for name, gram in objective.style.items():
        of_picture = np.asarray(style.gram(maps[name]))[0]
        costs.append(np.square(of_picture - gram).sum() / np.square(gram).sum())
    measured = objective.measure(other, photograph)
    assert measured["content_loss"] == pytest.approx(content, rel=1e-4)
    assert measured["style_loss"] == pytest.approx(np.mean(costs), rel=1e-4)
    total = content + 3 * np.mean(costs)
    assert measured["objective"] == pytest.approx(total, rel=1e-4)


def test_a_picture_gets_the_style_and_keeps_the_content(objective, photograph):
    before = objective.measure(photograph, photograph)
    picture, losses = style.optimize(objective, photograph, steps=40)
    after = objective.measure(picture, photograph)
    assert losses[0] == pytest.approx(before["objective"], rel=1e-4)
    assert losses[-1] == pytest.approx(after["objective"], rel=0.05)
    assert picture.shape == photograph.shape
    assert picture.dtype == np.uint8
    assert after["style_loss"] < 0.5 * before["style_loss"]
    # A picture of the style alone keeps less of the content.
    alone = replace(objective, style_weight=1000.0)
    other, _ = style.optimize(alone, photograph, steps=40)
    assert after["content_loss"] < objective.measure(other, photograph)["content_loss"]


@pytest.mark.slow
def test_without_style_noise_becomes_the_photograph(photograph):
    layer = keras.layers.Rescaling(1 / 255, name="a")
    network = taps.maps(keras.Sequential([keras.Input((8, 8, 3)), layer]), ["a"])
    grams = style.style_of(network, photograph, ["a"])
    content = style.Objective(network, grams, ["a"], style_weight=0.0)
    noise = np.full_like(photograph, 127)
    picture, _ = style.optimize(content, photograph, steps=150, start=noise)
    assert np.abs(picture.astype(int) - photograph).max() <= 2


def test_a_picture_that_was_interrupted_becomes_the_same_bit_for_bit(
    objective, photograph, tmp_path
):
    whole, losses = style.optimize(objective, photograph, steps=12)
    state = tmp_path / "state.npz"

    def stop(step, picture, value):
        if step == 6:
            raise KeyboardInterrupt

    options = {"steps": 12, "every": 3, "state": state}
    with pytest.raises(KeyboardInterrupt):
        style.optimize(objective, photograph, follow=stop, **options)
    steps = []
    resumed, all_losses = style.optimize(
        objective, photograph, follow=lambda step, *_: steps.append(step), **options
    )
    np.testing.assert_array_equal(resumed, whole)
    assert all_losses == losses
    assert steps == [9, 12]


@pytest.mark.slow
def test_a_network_learns_to_paint_photographs_that_it_has_not_seen(objective):
    rng = np.random.default_rng(0)
    blocks = rng.integers(0, 256, (40, 4, 4, 3)).repeat(8, axis=1).repeat(8, axis=2)
    split = splits.Split(blocks.astype("uint8"), np.zeros(40, int))
    data = splits.of_unlabelled(split, "Made.", seed=0)
    keras.utils.set_random_seed(0)
    model = image_transform.load(width=4, blocks=1)
    setup = phases.Setup(
        placement.choose(),
        batch_size=8,
        objective=objectives.of(data),
        choose_by="last",
    )
    phase = phases.Phase(8, 1e-2, method=style.feed_forward(objective))
    history = phases.fit(model, data, setup, phase)
    unseen = data.test.read([0])[0]
    as_it_is = objective.measure(unseen, unseen)["objective"]
    painted = objective.measure(image_transform.apply(model, unseen), unseen)
    assert painted["objective"] < 0.7 * as_it_is
    # What was trained is the network alone, and validation follows the same loss.
    assert history["val_loss"][-1] < history["val_loss"][0]


def test_input_that_cannot_be_used_is_named(objective, network, photograph, tmp_path):
    with pytest.raises(errors.InputError, match="`layers` must be one of.*coarse"):
        style.style_of(network, photograph, ["corse"])
    with pytest.raises(errors.InputError, match="`layers` must be one of"):
        replace(objective, content_layers=["block9"])
    with pytest.raises(errors.InputError, match="`start` must be"):
        style.optimize(objective, photograph, start=photograph[:10])
    with pytest.raises(errors.InputError, match="fine, coarse.*of 40x3 pixels"):
        style.check_size(network, photograph[:3].repeat(2, axis=1)[:, :40])
    style.check_size(network, photograph[:4])
    state = tmp_path / "state.npz"
    state.write_bytes(b"damaged")
    with pytest.warns(errors.InputWarning, match="state of such a picture.*anew"):
        again, _ = style.optimize(objective, photograph, state=state, steps=2)
    whole, _ = style.optimize(objective, photograph, steps=2)
    np.testing.assert_array_equal(again, whole)


def test_a_large_picture_is_painted_from_coarse_to_fine_and_goes_on_where_it_was(
    network, photograph, tmp_path
):
    glass = pictures.mosaic(64, seed=1)
    asked = []

    def objective_of(side):
        asked.append(side)
        grams = style.style_of(network, pictures.scaled(glass, side), ["fine"])
        return style.Objective(network, grams, ["coarse"])

    large = photograph.repeat(4, axis=0).repeat(4, axis=1)
    options = {"steps": 20, "smallest": 32, "state": tmp_path / "a"}
    picture, losses = style.coarse_to_fine(objective_of, large, **options)
    assert asked == [32, 64, 128]
    assert picture.shape == large.shape
    assert len(losses) == 10
    # What was made small is what the large picture begins with.
    alone = objective_of(128).measure(large, large)["objective"]
    assert losses[0] < 0.7 * alone
    (tmp_path / "a-128.npz").unlink()
    again, _ = style.coarse_to_fine(objective_of, large, **options)
    np.testing.assert_array_equal(again, picture)


@settings(deadline=None)
@given(st.integers(1, 5000))
def test_sizes_double_up_to_that_of_the_picture(longest):
    made = style.sides(longest)
    assert made[-1] == longest
    assert all(b in (2 * a, 2 * a + 1) for a, b in itertools.pairwise(made))
    assert made[0] < 512
