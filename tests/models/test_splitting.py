import keras
import numpy as np
import pytest

from keras_tl import errors
from keras_tl.models import backbones, freezing, heads, splitting


def test_cuts_lie_where_one_tensor_crosses(make_backbone):
    names = [name for name, _ in splitting.cut_points(make_backbone())]
    # Not inside the skip connection of block 2.
    assert names == ["preprocess", "block1_conv", "block1_bn", "block1_relu"]


@pytest.mark.parametrize(
    ("name", "count"), [("vgg16", 19), ("resnet50", 39), ("mobilenet_v2", 74)]
)
def test_number_of_cuts_of_known_networks(name, count):
    model = heads.attach(backbones.load(name, weights=None, image_size=96), 10)
    assert abs(len(splitting.cut_points(model)) - count) <= 3


def test_stem_and_tail_together_are_the_model(make_backbone):
    model = heads.attach(make_backbone(), 3)
    pixels = np.random.default_rng(0).integers(0, 256, (4, 8, 8, 3), dtype="uint8")
    whole = model.predict_on_batch(pixels)
    cuts = splitting.cut_points(model)
    assert len(cuts) >= 6
    for _, tensor in cuts:
        stem, tail = splitting.split_at(model, tensor)
        np.testing.assert_allclose(
            tail.predict_on_batch(stem.predict_on_batch(pixels)), whole, atol=1e-5
        )


def test_frozen_cut_is_the_deepest_below_which_nothing_trains(make_backbone):
    model = heads.attach(make_backbone(), 3)
    freezing.freeze(model)
    freezing.unfreeze_from(model, "logits")
    # Dropout is random, so the cut lies before it.
    assert splitting.frozen_cut(model)[0] == "pool"
    freezing.unfreeze_from(model, "block2")
    assert splitting.frozen_cut(model)[0] == "block1_relu"
    freezing.unfreeze(model)
    assert splitting.frozen_cut(model) is None


def test_a_trainable_batch_normalization_is_never_below_the_cut(make_backbone):
    model = heads.attach(make_backbone(), 3)
    freezing.freeze(model)
    model.get_layer("block1_bn").trainable = True
    assert splitting.frozen_cut(model)[0] == "block1_conv"


def test_a_model_without_a_graph_is_refused():
    class Subclassed(keras.Model):
        def call(self, x):
            return x

    with pytest.raises(errors.InputError, match="no graph to cut, train or resize"):
        splitting.cut_points(Subclassed())
