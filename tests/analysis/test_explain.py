import keras
import numpy as np
import pytest

from keras_tl import errors
from keras_tl.analysis import explain
from keras_tl.models import heads, taps, text_backbones, word_vectors

IMAGES = np.random.default_rng(0).uniform(0, 255, (3, 16, 16, 3)).astype("float32")
CHOSEN = np.array([0, 1, 2])


@pytest.fixture
def model(make_backbone):
    keras.utils.set_random_seed(0)
    return heads.attach(make_backbone(), 3)


def nested(model):
    """Put a model into another one, as many scripts do."""
    image = keras.Input(model.input_shape[1:])
    backbone = keras.Model(
        model.inputs, taps.with_features(model).output["feature_map"]
    )
    x = keras.layers.GlobalAveragePooling2D()(backbone(image))
    return keras.Model(image, model.get_layer("logits")(x))


def images_of(model):
    return np.asarray(keras.ops.image.resize(IMAGES, model.input_shape[1:3]))


def test_grad_cam_of_an_average_is_the_class_activation_map(model):
    images = images_of(model)
    features = taps.with_features(model)(images)["feature_map"].numpy()
    kernel = model.get_layer("logits").get_weights()[0]
    expected = np.maximum(np.einsum("nhwc,cn->nhw", features, kernel[:, CHOSEN]), 0)
    highest = expected.max(axis=(1, 2), keepdims=True)
    expected = expected / np.where(highest > 0, highest, 1)
    maps = explain.grad_cam(model, images, CHOSEN)
    np.testing.assert_allclose(maps, expected, atol=1e-5)


def test_a_backbone_inside_a_model_has_the_same_maps(model):
    images = images_of(model)
    np.testing.assert_allclose(
        explain.grad_cam(nested(model), images, CHOSEN),
        explain.grad_cam(model, images, CHOSEN),
        atol=1e-5,
    )


def test_tokens_of_patches_are_a_square():
    image = keras.Input((16, 16, 3))
    patches = keras.layers.Conv2D(4, 4, strides=4)(image)
    tokens = keras.layers.Reshape((16, 4))(patches)
    x = keras.layers.Dense(4, activation="gelu", name="mixed")(tokens)
    logits = keras.layers.Dense(3)(keras.layers.Flatten()(x))
    maps = explain.grad_cam(keras.Model(image, logits), IMAGES, CHOSEN, at="mixed")
    assert maps.shape == (3, 4, 4)


def test_integrated_gradients_add_up_to_the_difference_of_the_logits(model):
    images = images_of(model)
    added = explain.integrated_gradients(model, images, CHOSEN, steps=100)
    assert added.shape == images.shape
    logits = model.predict_on_batch(images) - model.predict_on_batch(0 * images)
    wanted = logits[np.arange(3), CHOSEN]
    np.testing.assert_allclose(added.sum(axis=(1, 2, 3)), wanted, atol=2e-2)


def test_explaining_changes_nothing_of_the_model(model):
    before = [weight.copy() for weight in model.get_weights()]
    trains = [layer.trainable for layer in model.layers]
    explain.grad_cam(model, images_of(model), CHOSEN)
    explain.integrated_gradients(model, images_of(model), CHOSEN, steps=2)
    for old, new in zip(before, model.get_weights(), strict=True):
        np.testing.assert_array_equal(old, new)
    assert [layer.trainable for layer in model.layers] == trains


def test_deleting_what_the_model_looks_at_costs_more_than_deleting_the_rest():
    # The logit is the brightness of the upper half.
    image = keras.Input((8, 8, 3))
    upper = keras.layers.Cropping2D(((0, 4), (0, 0)))(image)
    x = keras.layers.Rescaling(1 / 64)(keras.layers.GlobalAveragePooling2D()(upper))
    layer = keras.layers.Dense(2)
    model = keras.Model(image, layer(x))
    layer.set_weights([np.array([[1, -1]] * 3) / 3, np.zeros(2)])
    images = np.full((2, 8, 8, 3), 200.0, "float32")
    maps = np.zeros((2, 8, 8))
    maps[:, :4] = 1
    fell = [
        explain.deletion(model, images, [0, 0], one, share=0.5, blocks=4, fill=0)
        for one in (maps, 1 - maps)
    ]
    assert (fell[0] > 0.4).all()
    np.testing.assert_allclose(fell[1], 0, atol=1e-6)


def test_an_unknown_layer_and_a_model_without_feature_maps_are_refused(model):
    with pytest.raises(errors.InputError, match="`at`"):
        explain.grad_cam(model, images_of(model), CHOSEN, at="nothing")
    flat = keras.Sequential([keras.Input((4,)), keras.layers.Dense(3)])
    with pytest.raises(errors.InputError, match="feature map"):
        explain.grad_cam(flat, np.zeros((3, 4)), CHOSEN)
    with pytest.raises(errors.InputError, match="one index for each example"):
        explain.grad_cam(model, images_of(model), CHOSEN[:2])


@pytest.mark.slow
def test_weights_of_tokens_add_up_to_what_the_text_changes(tiny_bert):
    encoder = text_backbones.load(tiny_bert, sequence_length=6)
    keras.utils.set_random_seed(0)
    model = heads.attach(encoder, 3)
    ids = np.array([[2, 4, 5, 7, 3, 0], [2, 6, 3, 0, 0, 0]])
    weights = explain.token_weights(model, ids, np.array([0, 2]), steps=64)
    # The other text has the same places that fill up, and no words in the others.
    embedding = next(one for one in model.layers if "token_embedding" in one.name)
    table = embedding.get_weights()[0].copy()
    before = np.asarray(model(ids))
    embedding.set_weights([np.tile(table[:1], (len(table), 1))])
    after = np.asarray(model(ids))
    change = (before - before.mean(1, keepdims=True)) - (
        after - after.mean(1, keepdims=True)
    )
    np.testing.assert_allclose(
        weights.sum(1), change[[0, 1], [0, 2]], rtol=0.02, atol=1e-3
    )
    assert weights[0, 5] == 0
    assert not weights[1, 3:].any()


def test_weights_of_words_in_a_linear_model_are_those_of_their_vectors():
    vectors = np.array([[1.0, 0.0], [0.0, 2.0]])
    model = heads.attach(word_vectors.build(vectors, sequence_length=4), 2)
    kernel = model.layers[-1].get_weights()[0]
    weights = explain.token_weights(model, np.array([[2, 3, 0, 0]]), np.array([1]))
    scores = vectors @ kernel / 2
    centred = scores[:, 1] - scores.mean(axis=1)
    np.testing.assert_allclose(weights[0], [*centred, 0, 0], rtol=1e-5, atol=1e-7)


def test_without_vectors_of_tokens_there_are_no_weights():
    inputs = keras.Input((4,))
    model = keras.Model(inputs, keras.layers.Dense(2)(inputs))
    assert explain.token_weights(model, np.ones((1, 4), int), np.array([0])) is None
