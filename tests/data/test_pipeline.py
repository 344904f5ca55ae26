import dataclasses
import functools

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from keras_tl import errors
from keras_tl.data import augment, pipeline, random_layers
from keras_tl.data.splits import Split

flip_and_crop = functools.partial(augment.flip_and_crop, padding=2)


def numbered(count):
    """Examples whose single pixel says which they are."""
    images = np.zeros((count, 4, 4, 3), "uint8")
    images += np.arange(count, dtype="uint8")[:, None, None, None]
    return Split(images, np.arange(count) % 3)


def batches(dataset):
    return [[part.numpy() for part in batch] for batch in dataset]


def order(dataset):
    """Indices of the examples, in order, without the filling of the last batch."""
    return [
        int(pixels[0, 0, 0])
        for x, _, w in batches(dataset)
        for pixels, weight in zip(x, w, strict=True)
        if weight
    ]


@settings(max_examples=15, deadline=None)
@given(st.integers(1, 40), st.integers(1, 16), st.integers(0, 3))
def test_every_epoch_has_every_example_once_in_full_batches(count, batch_size, seed):
    training = pipeline.Training(numbered(count), batch_size, seed)
    found = batches(training.epoch(seed))
    assert len(found) == training.steps
    assert all(len(x) == len(y) == len(w) == batch_size for x, y, w in found)
    assert sorted(order(training.epoch(seed))) == list(range(count))
    weights = np.concatenate([w for _, _, w in found])
    assert weights.sum() == pytest.approx(training.steps * batch_size)
    assert len(set(weights[weights > 0])) == 1


def test_labels_stay_with_their_images():
    for x, y, _ in batches(pipeline.Training(numbered(23), 5, 0).epoch(0)):
        np.testing.assert_array_equal(x[:, 0, 0, 0] % 3, y)


def test_an_epoch_depends_on_seed_and_number_alone():
    training = pipeline.Training(numbered(30), 8, 7, flip_and_crop)
    dataset, go_to = training.epochs()
    for epoch in (0, 1, 2):
        # As `fit` does, which begins the next pass when one has ended.
        begun = iter(dataset)
        go_to(epoch)
        passed = batches(begun)
    again = batches(training.epoch(2))
    assert len(passed) == training.steps == dataset.cardinality()
    for ours, theirs in zip(passed, again, strict=True):
        for one, other in zip(ours, theirs, strict=True):
            np.testing.assert_array_equal(one, other)


def test_epochs_and_seeds_differ_in_order():
    training = pipeline.Training(numbered(30), 8, 0)
    other = pipeline.Training(numbered(30), 8, 1)
    orders = [order(training.epoch(0)), order(training.epoch(1)), order(other.epoch(0))]
    assert len({tuple(found) for found in orders}) == 3


def test_two_epochs_of_an_augmented_pipeline_differ_for_the_same_image():
    images = np.random.default_rng(0).integers(0, 256, (1, 8, 8, 3), dtype="uint8")
    training = pipeline.Training(Split(images, [0]), 1, 0, flip_and_crop)
    seen = {batches(training.epoch(epoch))[0][0].tobytes() for epoch in range(10)}
    assert len(seen) > 5


def test_augmentation_of_an_example_does_not_depend_on_batch_size():
    images = np.random.default_rng(0).integers(0, 256, (12, 8, 8, 3), dtype="uint8")
    split = Split(images, np.arange(12))

    def seen(batch_size):
        training = pipeline.Training(split, batch_size, 3, flip_and_crop)
        return {
            int(label): pixels.tobytes()
            for x, y, _ in batches(training.epoch(1))
            for pixels, label in zip(x, y, strict=True)
        }

    assert seen(4) == seen(5)


def test_changed_copies_keep_their_targets():
    split = numbered(3)
    copies = pipeline.with_copies(split, flip_and_crop, 0, 2)
    assert copies.targets is None
    split = dataclasses.replace(split, targets=np.arange(6.0).reshape(3, 2))
    copies = pipeline.with_copies(split, flip_and_crop, 0, 2)
    np.testing.assert_array_equal(copies.targets[3:], split.targets)
    assert len(copies.targets) == len(copies)


def test_evaluation_is_in_order_and_never_changed():
    split = numbered(11)
    dataset = pipeline.evaluation(split, 4)
    assert order(dataset) == list(range(11))
    assert order(dataset) == list(range(11))
    x = np.concatenate([x for x, _, _ in batches(dataset)])
    np.testing.assert_array_equal(x[:11], split.inputs.pixels)


def test_weighted_mean_over_batches_is_the_mean_over_examples():
    values = np.random.default_rng(0).uniform(size=11)
    dataset = pipeline.evaluation(numbered(11), 4)
    means = [(w * values[x[:, 0, 0, 0]]).mean() for x, _, w in batches(dataset)]
    assert np.mean(means) == pytest.approx(values.mean())


def test_batch_size_must_be_positive():
    with pytest.raises(errors.InputError, match="batch_size=0"):
        pipeline.Training(numbered(3), 0, 0)
    with pytest.raises(errors.InputError, match="batch_size=-1"):
        pipeline.evaluation(numbered(3), -1)


def test_flip_and_crop_equals_a_slow_loop():
    rng = np.random.default_rng(0)
    images = rng.integers(0, 256, (20, 6, 5, 3), dtype="uint8")
    draws = rng.uniform(size=(20, 3)).astype("float32")
    expected = []
    for image, (flip, top, left) in zip(images, draws, strict=True):
        image = image[:, ::-1] if flip < 0.5 else image
        padded = np.pad(image, [(2, 2), (2, 2), (0, 0)])
        row, column = int(top * 5), int(left * 5)
        expected.append(padded[row : row + 6, column : column + 5])
    np.testing.assert_array_equal(flip_and_crop(images, draws), expected)


@pytest.mark.parametrize(
    ("shape", "image_size"), [((5,), None), ((8, 8, 3), 8), ((8, 8, 3), 4)]
)
def test_rows_come_from_the_graph_as_they_come_from_python(
    monkeypatch, shape, image_size
):
    rows = np.random.default_rng(0).integers(0, 256, (23, *shape), dtype="uint8")
    split = Split(rows, np.arange(23))
    split = split.at_size(image_size) if image_size else split
    training = pipeline.Training(split, 4, 1)
    in_graph = batches(training.epoch(3))
    monkeypatch.setattr(pipeline, "IN_GRAPH", 0)
    for ours, theirs in zip(in_graph, batches(training.epoch(3)), strict=True):
        for one, other in zip(ours, theirs, strict=True):
            np.testing.assert_array_equal(one, other)


AUGMENTATIONS = {
    "flip_and_crop": flip_and_crop,
    "random_resized_crop": augment.random_resized_crop(),
    "image_data_generator": augment.image_data_generator(
        rotation_range=30, zoom_range=0.2, horizontal_flip=True
    ),
}


@settings(max_examples=12, deadline=None)
@given(
    st.sampled_from(sorted(AUGMENTATIONS)),
    st.lists(st.integers(0, 19), min_size=1, max_size=6),
    st.integers(0, 5),
)
def test_a_copy_made_alone_is_the_one_made_among_others(name, chosen, seed):
    pixels = np.random.default_rng(0).integers(0, 256, (10, 12, 12, 3), "uint8")
    split = Split(pixels, np.zeros(10, int))
    copies = pipeline.with_copies(split, AUGMENTATIONS[name], seed, 2)
    together = copies.read(chosen)
    for row, index in zip(together, chosen, strict=True):
        np.testing.assert_allclose(copies.read([index])[0], row, atol=1e-3)


def test_copies_by_an_augmentation_of_whole_batches_are_refused():
    pixels = np.random.default_rng(0).integers(0, 256, (10, 12, 12, 3), "uint8")
    split = Split(pixels, np.zeros(10, int))

    def neighbours(images, draws):
        return (images + images[::-1]) / 2

    for change in (random_layers.rand_augment(), neighbours):
        with pytest.raises(errors.InputError, match="by its own draws alone"):
            pipeline.with_copies(split, change, 0, 2)
