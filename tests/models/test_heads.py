import keras
import numpy as np
import pytest

from keras_tl import errors
from keras_tl.models import heads


def test_head_pools_drops_and_gives_logits(make_backbone):
    model = heads.attach(make_backbone(), 5, dropout=0.3)
    assert [layer.name for layer in model.layers[-3:]] == ["pool", "dropout", "logits"]
    assert model.output.shape == (None, 5)
    assert model.get_layer("dropout").rate == 0.3
    assert model.get_layer("logits").activation is keras.activations.linear


def test_logits_are_float32_under_every_precision(make_backbone):
    keras.config.set_dtype_policy("mixed_bfloat16")
    try:
        model = heads.attach(make_backbone(), 5)
        assert model.get_layer("block1_conv").compute_dtype == "bfloat16"
        assert model(np.zeros((1, 8, 8, 3), "uint8")).dtype == "float32"
    finally:
        keras.config.set_dtype_policy("float32")


def test_mlp_head_has_the_hidden_layers_asked_for(make_backbone):
    model = heads.attach_mlp(make_backbone(), 5, hidden=(7, 6), dropout=0)
    names = [layer.name for layer in model.layers[-4:]]
    assert names == ["flatten", "hidden_1", "hidden_2", "logits"]
    assert model.get_layer("hidden_1").kernel.shape == (8 * 8 * 4, 7)
    assert model.get_layer("hidden_2").kernel.shape == (7, 6)


def test_head_and_backbone_share_their_layers(make_backbone):
    backbone = make_backbone()
    model = heads.attach(backbone, 5)
    assert model.get_layer("block1_conv") is backbone.get_layer("block1_conv")
    assert not model.compiled


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"num_classes": 1}, "at least 2"),
        ({"num_classes": 3, "dropout": 1.0}, r"in \[0, 1\)"),
        ({"num_classes": 3, "dropout": -0.1}, "dropout=-0.1"),
    ],
)
def test_bad_input_is_named(make_backbone, arguments, message):
    with pytest.raises(errors.InputError, match=message):
        heads.attach(make_backbone(), **arguments)
    with pytest.raises(errors.InputError, match="hidden"):
        heads.attach_mlp(make_backbone(), 3, hidden=[0])
