"""Promises about pseudo labels."""

from dataclasses import replace

import keras
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from keras import ops

from keras_tl import errors
from keras_tl.analysis import evaluation
from keras_tl.data import pipeline, splits
from keras_tl.data.splits import Split, Splits
from keras_tl.methods import fixmatch
from keras_tl.training import phases


def softmax(row):
    powers = np.exp(row - row.max())
    return powers / powers.sum()


@settings(deadline=None, max_examples=60)
@given(
    st.integers(1, 6),
    st.integers(2, 4),
    st.floats(0, 1),
    st.booleans(),
    st.integers(0, 10**6),
)
def test_the_loss_is_that_of_the_paper_image_by_image(
    images, classes, threshold, aligned, seed
):
    rng = np.random.default_rng(seed)
    logits = rng.normal(scale=3, size=(2 * images, classes)).astype("float32")
    labelled = rng.random(images) < 0.4
    costs, without = [], np.flatnonzero(~labelled)
    answers = np.array([softmax(logits[2 * n]) for n in without])
    if aligned and len(without):
        answers = answers / answers.mean(axis=0)
        answers = answers / answers.sum(axis=1, keepdims=True)
    for n, weak in zip(without, answers, strict=True):
        strong = softmax(logits[2 * n + 1])
        if abs(weak.max() - threshold) < 1e-5:
            return  # Either answer is right.
        sure = weak.max() >= threshold
        costs.append(-np.log(strong[weak.argmax()]) if sure else 0.0)
    computed = fixmatch.consistency_loss(
        ops.convert_to_tensor(logits),
        ops.convert_to_tensor(np.repeat(labelled, 2).astype("float32")),
        threshold,
        aligned,
    )
    np.testing.assert_allclose(computed, np.mean(costs or [0.0]), atol=1e-5)


def test_the_weak_view_is_taken_as_given():
    weights = ops.zeros(2)
    losses = [
        fixmatch.consistency_loss(ops.array([[weak, 0.0], [1.0, 0.0]]), weights)
        for weak in (9.0, 12.0)
    ]
    assert float(losses[0]) == float(losses[1]) > 0


def points(count, seed):
    """Images whose green tells the class, and whose red tells nothing."""
    rng = np.random.default_rng(seed)
    labels = np.arange(count) % 2
    images = rng.integers(0, 6, (count, 8, 8, 3))
    images[..., 0] += rng.integers(60, 160, count)[:, None, None]
    images[..., 1] += np.where(labels, 80, 160)[:, None, None]
    return Split(images.astype("uint8"), labels)


def data(count=120):
    parts = points(count, 0), points(40, 1), points(200, 2)
    return Splits(*parts, ["a", "b"], "A toy set.")


def redder(strength):
    def change(images, draws):
        import tensorflow as tf

        shift = (draws[:, 0] - 0.5) * strength
        shift = shift[:, None, None, None] * tf.constant([1.0, 0.0, 0.0])
        return tf.cast(images, "float32") + shift

    return pipeline.in_whole_numbers(change)


def test_rows_are_the_weak_and_the_strong_view_of_one_image_and_no_label_is_seen():
    whole = data()
    views = fixmatch.two_views(whole.train, redder(0), redder(80), seed=0, copies=2)
    labelled = splits.of_each(whole.train.labels, 2, seed=0)
    made = fixmatch.keep_labels(views, labelled, share=0.2)
    train = pipeline.Training(made, 10, seed=3, num_classes=2)
    few = {image.tobytes() for image in whole.train.read(labelled)}
    assert train.steps == 30  # (120 + 30) images, two rows each, ten in a batch.
    plain = {image.tobytes() for image in whole.train.read(range(120))}
    seen, known = [], 0
    for epoch in range(2):
        for x, y, weights in train.epoch(epoch):
            x = x.numpy()
            seen += [image.tobytes() for image in x[1::2]]
            for row in range(0, 10, 2):
                # The weak change is none here: it tells which image it is.
                assert x[row].tobytes() in plain
                assert weights[row] == weights[row + 1]
                assert (weights[row] > 0) == (y[row].numpy().sum() > 0)
                assert weights[row] == 0 or x[row].tobytes() in few
            known += int((weights.numpy() > 0).sum())
    assert known == 2 * 2 * 30
    # Each epoch has another strong copy.
    assert len({*seen}) > 230


@pytest.mark.slow
def test_images_without_labels_improve_the_answers(here):
    whole = data()
    # The only labels are of the least red of one class, and the reddest of the other.
    red = whole.train.read(range(120))[..., 0].mean((1, 2))
    first = np.argmin(np.where(whole.train.labels == 0, red, 999))
    second = np.argmax(np.where(whole.train.labels == 1, red, 0))
    views = fixmatch.two_views(whole.train, redder(10), redder(120), seed=0)
    made = replace(whole, train=fixmatch.keep_labels(views, [first, second]))
    accuracies = []
    for method in (None, fixmatch.fixmatch(threshold=0.8)):
        keras.utils.set_random_seed(0)
        image = keras.Input((8, 8, 3))
        x = keras.layers.Rescaling(1 / 64, -2)(image)
        x = keras.layers.GlobalAveragePooling2D(name="pool")(x)
        x = keras.layers.Dense(16, "tanh", name="hidden")(x)
        model = keras.Model(image, keras.layers.Dense(2, name="logits")(x))
        setup = replace(here, batch_size=32, choose_by="last")
        phases.fit(model, made, setup, phases.Phase(30, 0.01, method=method))
        accuracies.append(evaluation.accuracy(model, whole.test))
    without, with_them = accuracies
    assert with_them > without + 0.1


@pytest.mark.parametrize(
    ("options", "message"),
    [({"threshold": 1.5}, "threshold"), ({"weight": -1.0}, "weight")],
)
def test_values_out_of_range_are_named(options, message):
    with pytest.raises(errors.InputError, match=message):
        fixmatch.fixmatch(**options)
    with pytest.raises(errors.InputError, match="share"):
        fixmatch.keep_labels(points(20, 0), [0, 1], share=1.0)
    with pytest.raises(errors.InputError, match="labelled"):
        fixmatch.keep_labels(points(20, 0), [])
