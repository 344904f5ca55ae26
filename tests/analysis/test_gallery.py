import numpy as np
import pytest
from matplotlib.text import Text

from keras_tl import errors
from keras_tl.analysis import evaluation, gallery
from keras_tl.data import augment, sources
from keras_tl.data.splits import Split

NAMES = ("ant", "bee")


@pytest.fixture
def split():
    """Six images of two classes, sorted by class as folders have them."""
    images = np.arange(6, dtype="uint8").reshape(6, 1, 1, 1) * 40
    images = np.broadcast_to(images, (6, 8, 8, 3))
    return Split(sources.ImageArray(images), np.array([0, 0, 0, 0, 1, 1]))


def titles(figure):
    return [text.get_text() for text in figure.findobj(Text) if text.get_text()]


def pictures(figure):
    return [axes.images[0].get_array() for axes in figure.axes if axes.images]


def test_samples_are_of_every_class(split):
    shown = titles(gallery.samples(split, NAMES, count=3))
    assert shown == ["ant", "ant", "bee"]


def test_samples_of_features_are_refused():
    features = Split(sources.Arrays(np.zeros((2, 4), "float32")), np.array([0, 1]))
    with pytest.raises(errors.InputError, match="images or texts"):
        gallery.samples(features, NAMES)


def test_augmented_images_stand_beside_the_image_as_it_is(split):
    def brighter(images, draws):
        return images + 1

    shown = pictures(gallery.augmented(split, brighter, count=2, epochs=3))
    assert [int(image.max()) for image in shown] == [0, 1, 1, 1, 40, 41, 41, 41]


def test_augmented_images_are_those_of_the_epochs_of_training(split):
    shown = pictures(gallery.augmented(split, augment.flip_and_crop, epochs=2))
    again = pictures(gallery.augmented(split, augment.flip_and_crop, epochs=3))
    np.testing.assert_array_equal(shown[1], again[1])
    np.testing.assert_array_equal(shown[2], again[2])


def test_mistakes_are_the_most_confident_wrong_answers_first(split):
    logits = np.array([[9, 0], [0, 2], [0, 5], [9, 0], [0, 9], [9, 8]], "float32")
    result = evaluation.evaluate(split.labels, logits, NAMES)
    figure = gallery.mistakes(result, split)
    assert [int(image.max()) for image in pictures(figure)] == [80, 40, 200]
    assert all("wrong" in title for title in titles(figure))


def test_without_a_mistake_there_is_no_picture_of_mistakes(split):
    logits = np.eye(2, dtype="float32")[split.labels]
    result = evaluation.evaluate(split.labels, logits, NAMES)
    assert gallery.mistakes(result, split) is None
    assert len(pictures(gallery.predictions(result, split, count=4))) == 4


def test_pictures_that_would_overlap_are_moved_apart_inside_their_rectangle():
    rng = np.random.default_rng(0)
    dense = rng.normal(size=(100, 2)) * 5 + (100, 100)
    places = np.vstack([dense, [[0, 0], [600, 400]]])
    moved = gallery.apart(places, 30)
    apart = np.linalg.norm(moved[:, None] - moved, axis=2)
    np.fill_diagonal(apart, np.inf)
    assert apart.min() > 0.8 * 30
    assert (moved >= 0).all()
    assert (moved <= (600, 400)).all()
    np.testing.assert_array_equal(moved[-1], places[-1])
    # What has room stays where it is.
    corners = np.array([[0.0, 0.0], [50.0, 0.0], [0.0, 50.0]])
    np.testing.assert_array_equal(gallery.apart(corners, 30), corners)
