"""Promises about the network that paints."""

import keras
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from keras_tl.models import image_transform


@pytest.fixture(scope="module")
def model():
    keras.utils.set_random_seed(0)
    return image_transform.load(width=2, blocks=1)


@settings(deadline=None, max_examples=15)
@given(st.integers(17, 40), st.integers(17, 40))
def test_a_picture_has_the_size_of_the_image_whatever_that_is(model, height, width):
    image = np.random.default_rng(0).integers(0, 256, (height, width, 3))
    picture = image_transform.apply(model, image.astype("uint8"))
    assert picture.shape == (height, width, 3)
    assert picture.dtype == np.uint8


def test_an_image_does_not_change_with_those_beside_it(model):
    images = np.random.default_rng(0).integers(0, 256, (3, 24, 24, 3)).astype("uint8")
    together = model.predict(images, verbose=0)
    alone = model.predict(images[1:2], verbose=0)
    np.testing.assert_allclose(together[1], alone[0], atol=1e-2)
