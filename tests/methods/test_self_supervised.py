from dataclasses import replace

import keras
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from keras import ops

from keras_tl import errors
from keras_tl.data import pipeline
from keras_tl.data.splits import Split, Splits
from keras_tl.methods import self_supervised
from keras_tl.training import objectives, phases


def images_of(count, seed=0):
    rng = np.random.default_rng(seed)
    return rng.integers(0, 256, (count, 8, 8, 3), "uint8")


def photographs(count=20):
    parts = [Split(images_of(count, seed), np.arange(count) % 2) for seed in range(3)]
    return Splits(*parts, ["a", "b"], "A toy set.")


def cosine(a, b):
    return float(a @ b / np.linalg.norm(a) / np.linalg.norm(b))


def contrastive(vectors, numbers, weights, temperature):
    """Compute the loss of SimCLR view by view, as the paper has it."""
    rows = [i for i, weight in enumerate(weights) if weight]
    costs = []
    for i in rows:
        others = [k for k in rows if k != i]
        parts = {
            k: np.exp(cosine(vectors[i], vectors[k]) / temperature) for k in others
        }
        for j in others:
            if numbers[j] == numbers[i]:
                costs.append(-np.log(parts[j] / sum(parts.values())))
    return np.mean(costs)


# ------------------------------------------------------------------ losses


@settings(deadline=None, max_examples=60)
@given(st.integers(1, 5), st.integers(0, 2), st.floats(0.1, 2.0), st.integers(0, 10**6))
def test_the_contrastive_loss_is_that_of_the_paper_view_by_view(
    images, filled, temperature, seed
):
    rng = np.random.default_rng(seed)
    vectors = rng.normal(size=(2 * (images + filled), 4)).astype("float32")
    numbers = np.repeat(np.minimum(np.arange(images + filled), images - 1), 2)
    weights = np.repeat([1.0] * images + [0.0] * filled, 2).astype("float32")
    computed = self_supervised.contrastive_loss(
        *map(ops.convert_to_tensor, (vectors, numbers.astype("float32"), weights)),
        temperature,
    )
    expected = contrastive(vectors, numbers, weights, temperature)
    assert float(computed) == pytest.approx(expected, rel=1e-3, abs=1e-4)


@settings(deadline=None, max_examples=60)
@given(st.integers(4, 8), st.integers(0, 2), st.integers(0, 10**6))
def test_correlations_are_those_of_numpy(images, filled, seed):
    rng = np.random.default_rng(seed)
    pairs = rng.normal(size=(images + filled, 2, 3)).astype("float32")
    weights = np.repeat([1.0] * images + [0.0] * filled, 2).astype("float32")
    computed = self_supervised.correlation_loss(
        ops.convert_to_tensor(pairs.reshape(-1, 3)),
        None,
        ops.convert_to_tensor(weights),
    )
    first, second = pairs[:images, 0], pairs[:images, 1]
    matrix = np.corrcoef(first.T, second.T)[:3, 3:]
    wanted = ((1 - np.diag(matrix)) ** 2).sum()
    wanted += 5e-3 * ((matrix**2).sum() - (np.diag(matrix) ** 2).sum())
    assert float(computed) == pytest.approx(wanted / 3, rel=0.01, abs=1e-2)


def test_equal_views_with_independent_columns_cost_nothing():
    views = np.array([[1, 1], [1, -1], [-1, 1], [-1, -1]], "float32").repeat(2, 0)
    loss = self_supervised.correlation_loss(
        ops.convert_to_tensor(views), None, ops.ones(8)
    )
    assert float(loss) == pytest.approx(0, abs=1e-4)


# ------------------------------------------------------------------ data


def test_both_views_of_an_image_are_in_one_batch_changed_by_draws_of_their_own():
    data = self_supervised.in_views(photographs())
    plain = data.train.read(range(20))

    def brighter(images, draws):
        import tensorflow as tf

        return tf.cast(images, "float32") + draws[:, :1, None, None]

    batches = pipeline.Training(data.train, 8, 0, brighter)
    assert batches.steps == 5
    seen = []
    for epoch in (0, 1, 0):
        rows = [[part.numpy() for part in batch] for batch in batches.epoch(epoch)]
        changes = []
        for x, y, weights in rows:
            numbers = y[:, 0].astype(int)
            np.testing.assert_array_equal(numbers[::2], numbers[1::2])
            assert weights.all()
            changes.append((x - plain[numbers]).mean((1, 2, 3)))
        seen.append(np.concatenate(changes))
        assert sorted(n for _, y, _ in rows for n in y[::2, 0]) == list(range(20))
    first, second, again = seen
    np.testing.assert_array_equal(first, again)
    assert (np.abs(first[::2] - first[1::2]) > 1e-4).mean() > 0.9
    assert (np.abs(first - second) > 1e-4).mean() > 0.9


def test_rows_that_fill_up_a_batch_weigh_nothing_in_either_view():
    data = self_supervised.in_views(photographs(5))
    *_, (_, _, weights) = pipeline.Training(data.train, 8, 0).epoch(0)
    np.testing.assert_array_equal(weights.numpy() > 0, [1, 1, 0, 0, 0, 0, 0, 0])


def test_no_label_is_given_to_a_method():
    data = self_supervised.in_views(photographs())
    assert data.task == "unlabelled"
    assert all(split.labels.shape == (20, 0) for _, split in data.items())
    assert "train 20" in str(data)
    assert "without labels" in str(data)


def test_rotations_are_those_of_numpy_with_their_number_as_the_label():
    data = photographs(3)
    turned = self_supervised.rotations(data)
    originals = data.train.read(range(3))
    for index, picture in enumerate(turned.train.read(range(12))):
        place, turn = divmod(index, 4)
        np.testing.assert_array_equal(picture, np.rot90(originals[place], turn))
        assert turned.train.labels[index] == turn
    some = turned.train.take([7, 2])
    np.testing.assert_array_equal(some.read([0])[0], np.rot90(originals[1], 3))
    assert turned.at_size(4).train.read([5]).shape == (1, 4, 4, 3)


# ------------------------------------------------------------------ at work


def shapes(count, seed):
    """Draw stripes: their direction is the class, phase and colour are chance."""
    rng = np.random.default_rng(seed)
    labels = np.arange(count) % 2
    x = np.arange(16)
    waves = np.sin(x[None] * 1.2 + rng.uniform(0, 6.28, (count, 1)))
    pictures = np.where(
        labels[:, None, None] == 0, waves[:, None, :], waves[:, :, None]
    ) * np.ones((count, 16, 16))
    # What chance decides is far larger than what the classes differ in.
    base, colours = (
        rng.uniform(*span, (count, 1, 1, 3)) for span in ((90, 170), (20, 50))
    )
    noise = rng.normal(0, 10, (count, 16, 16, 3))
    pictures = base + pictures[..., None] * colours + noise
    return Split(np.clip(pictures, 0, 255).astype("uint8"), labels)


def network(seed):
    keras.utils.set_random_seed(seed)
    image = keras.Input((16, 16, 3))
    x = keras.layers.Rescaling(1 / 127.5, -1)(image)
    x = keras.layers.Conv2D(16, 3, 2, activation="relu", name="block1_conv")(x)
    x = keras.layers.Conv2D(16, 3, 2, activation="relu", name="block2_conv")(x)
    pooled = keras.layers.GlobalAveragePooling2D(name="pool")(x)
    return keras.Model(image, pooled)


def of_the_same_class(model, split):
    """Return how often the nearest other example by features has the same label."""
    vectors = model.predict(split.read(range(len(split))), verbose=0)
    vectors = vectors - vectors.mean(0)
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    similar = vectors @ vectors.T - 9 * np.eye(len(vectors))
    return (split.labels[similar.argmax(1)] == split.labels).mean()


def shaken(images, draws):
    """Shift the colours and the place of each image."""
    import tensorflow as tf

    images = tf.cast(images, "float32")
    images += 100 * draws[:, None, None, :3] - 50
    return tf.roll(images, tf.cast(draws[0, 3:5] * 16, "int32"), [1, 2])


@pytest.mark.slow
@pytest.mark.parametrize(
    "method", [self_supervised.simclr(), self_supervised.barlow_twins(widths=(32, 32))]
)
def test_features_tell_classes_apart_that_no_label_has_named(here, method):
    data = Splits(*(shapes(128, seed) for seed in range(3)), ["across", "down"], "Toy.")
    model = network(0)
    before = of_the_same_class(model, data.test)
    setup = replace(
        here,
        batch_size=64,
        augment=shaken,
        objective=objectives.Unlabelled(),
        choose_by="last",
    )
    phase = phases.Phase(25, 5e-3, method=method, name="pretraining")
    history = phases.fit(model, self_supervised.in_views(data), setup, phase)
    assert history["loss"][-1] < history["loss"][0]
    after = of_the_same_class(model, data.test)
    assert after > 0.9
    assert after > before + 0.1


@pytest.mark.parametrize(
    ("method", "options", "message"),
    [
        ("simclr", {"temperature": 0.0}, "temperature"),
        ("simclr", {"widths": ()}, "widths"),
        ("barlow_twins", {"off_diagonal": -1.0}, "off_diagonal"),
        ("barlow_twins", {"widths": (0,)}, "widths"),
    ],
)
def test_values_out_of_range_are_named(method, options, message):
    with pytest.raises(errors.InputError, match=message):
        getattr(self_supervised, method)(**options)


def test_labels_are_refused_where_nothing_is_labelled(here):
    setup = replace(here, objective=objectives.Unlabelled(), choose_by="last")
    phase = phases.Phase(1, method=self_supervised.simclr())
    with pytest.raises(errors.InputError, match="have no labels"):
        phases.fit(network(0), photographs().at_size(16), setup, phase)
