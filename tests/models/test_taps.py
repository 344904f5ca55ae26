import keras
import numpy as np
import pytest

from keras_tl import errors
from keras_tl.models import taps


def test_each_layer_has_its_columns_and_gives_what_it_gives_alone(make_backbone):
    model = make_backbone()
    names = ["block1_relu", "block2_add"]
    whole, columns = taps.pooled(model, names)
    images = np.random.default_rng(0).integers(0, 256, (5, 8, 8, 3)).astype("uint8")
    together = keras.ops.convert_to_numpy(whole(images))
    assert together.shape == (5, 8)
    for name in names:
        alone = keras.Model(model.inputs[0], model.get_layer(name).output)(images)
        mean = keras.ops.convert_to_numpy(alone).mean((1, 2))
        np.testing.assert_allclose(together[:, columns[name]], mean, rtol=1e-5)


def test_flat_features_stay_as_they_are():
    image = keras.Input((8, 8, 3))
    x = keras.layers.Flatten(name="flat")(image)
    model = keras.Model(image, keras.layers.Dense(7, name="dense")(x))
    whole, columns = taps.pooled(model, ["flat", "dense"])
    assert columns == {"flat": slice(0, 192), "dense": slice(192, 199)}
    assert whole.output_shape == (None, 199)


@pytest.mark.parametrize("names", [[], ["block1_rleu"], ["block1_bn", "block1_bn"]])
def test_names_that_cannot_be_are_refused(make_backbone, names):
    with pytest.raises(errors.InputError, match="names"):
        taps.pooled(make_backbone(), names)


def test_given_weights_make_a_classifier(make_backbone, tmp_path):
    model, rng = make_backbone(), np.random.default_rng(0)
    names = ["block1_relu", "block2_add"]
    kernel = rng.random((8, 3)).astype("float32")
    bias = rng.random(3).astype("float32")
    made = taps.classifier(model, names, kernel, bias)
    images = rng.integers(0, 256, (5, 8, 8, 3)).astype("uint8")
    features = keras.ops.convert_to_numpy(taps.pooled(model, names)[0](images))
    logits = keras.ops.convert_to_numpy(made(images))
    np.testing.assert_allclose(logits, features @ kernel + bias, rtol=1e-5)
    made.save(tmp_path / "m.keras")
    again = keras.models.load_model(tmp_path / "m.keras")
    np.testing.assert_array_equal(keras.ops.convert_to_numpy(again(images)), logits)
    with pytest.raises(errors.InputError, match="kernel"):
        taps.classifier(model, names, kernel[:2], bias)
