import keras
import numpy as np
import pytest
from keras import layers

from keras_tl import errors
from keras_tl.models import backbones, catalog, freezing, heads, resizing

pytestmark = pytest.mark.filterwarnings("ignore::keras_tl.errors.InputWarning")


def images(size):
    return np.random.default_rng(0).integers(0, 256, (2, size, size, 3), "uint8")


# Every other way to preprocess and to pad is in slow tests only, once.
FAST = ["efficientnet_lite0", "vgg16"]
SLOW = ["mobilenet_v3_small", "resnet50", "convnext_tiny", "nasnet_mobile"]
EXHAUSTIVE = [
    *("mobilenet", "mobilenet_v2", "densenet121", "efficientnet_b0"),
    *("efficientnet_v2_b0", "xception"),
]


@pytest.mark.parametrize(
    "name",
    [
        *FAST,
        *(pytest.param(name, marks=pytest.mark.slow) for name in SLOW),
        *(pytest.param(name, marks=pytest.mark.exhaustive) for name in EXHAUSTIVE),
    ],
)
def test_it_gives_what_a_model_built_at_that_size_gives(name, tmp_path):
    size = catalog.find(name).roomy_size

    def build(image_size):
        backbone = backbones.load(name, weights=None, image_size=image_size)
        return heads.attach(backbone, 3)

    resized = resizing.at_size(build(size), size + 32)
    built = build(size + 32)
    built.set_weights(resized.get_weights())
    pixels = images(size + 32)
    expected = keras.ops.convert_to_numpy(built(pixels))
    np.testing.assert_allclose(resized(pixels), expected, rtol=1e-4, atol=1e-5)
    resized.save(tmp_path / "model.keras")
    loaded = keras.models.load_model(tmp_path / "model.keras", custom_objects={})
    np.testing.assert_array_equal(loaded(pixels), resized(pixels))


def test_layers_are_shared_and_train_as_they_did(make_backbone):
    small = heads.attach(make_backbone(8), 3)
    freezing.unfreeze_from(small, "block2")
    freezing.freeze_up_to(small, "block1")
    small.compile("sgd", "mse")
    large = resizing.at_size(small, 12)
    assert not large.compiled
    assert large.name == small.name
    assert large.input.dtype == small.input.dtype
    assert large.input_shape == (None, 12, 12, 3)
    assert [layer.name for layer in large.layers] == [
        layer.name for layer in small.layers
    ]
    assert all(a is b for a, b in zip(large.weights, small.weights, strict=True))
    trainable = [weight.path for weight in large.trainable_weights]
    assert trainable == [weight.path for weight in small.trainable_weights]
    assert "block2_conv/kernel" in trainable
    assert not any("block1" in path for path in trainable)
    # The model it came from still takes its own size, and back is the way it came.
    small_again = resizing.at_size(large, 8)
    np.testing.assert_array_equal(small_again(images(8)), small(images(8)))


def test_layers_of_ones_own_and_models_within_are_shared_too():
    class Halved(layers.Layer):
        def call(self, x):
            return x / 2

    inner = keras.Sequential([layers.Conv2D(4, 3), layers.ReLU()])
    image = keras.Input((8, 8, 3), dtype="uint8")
    x = inner(Halved()(image))
    model = keras.Model(image, layers.GlobalAveragePooling2D()(x))
    large = resizing.at_size(model, 10)
    assert large.input.dtype == "uint8"
    pixels = images(10)
    expected = inner(pixels / np.float32(2)).numpy().mean((1, 2))
    np.testing.assert_allclose(large(pixels), expected, rtol=1e-5)


@pytest.mark.parametrize("nested", [False, True])
def test_all_outputs_are_kept(nested):
    image = keras.Input((8, 8, 3))
    maps = layers.Conv2D(4, 3)(image)
    pooled = layers.GlobalAveragePooling2D()(maps)
    model = keras.Model(image, {"maps": maps, "pooled": pooled})
    if nested:
        outer = keras.Input((8, 8, 3))
        found = model(outer)
        model = keras.Model(outer, [found["pooled"], found["maps"] * 2])
    shapes = keras.tree.map_structure(
        lambda tensor: tensor.shape, resizing.at_size(model, 10)(images(10))
    )
    maps, pooled = (2, 8, 8, 4), (2, 4)
    assert shapes == ([pooled, maps] if nested else {"maps": maps, "pooled": pooled})


def test_a_head_on_a_flattened_map_is_refused(make_backbone):
    model = heads.attach_mlp(make_backbone(8), 3, hidden=[4])
    with pytest.raises(errors.InputError, match=r"12 pixels.*`heads.attach` pools"):
        resizing.at_size(model, 12)


def test_images_too_small_for_the_layers_are_refused():
    model = keras.Sequential([keras.Input((8, 8, 3)), layers.Conv2D(4, 7)])
    with pytest.raises(errors.InputError, match=r"6 pixels: Computed output size"):
        resizing.at_size(model, 6)


@pytest.mark.parametrize("nested", [False, True])
def test_what_is_padded_for_even_maps_is_refused_for_odd_ones(nested):
    model = backbones.load("mobilenet_v2", weights=None, image_size=64)
    if nested:
        image = keras.Input((64, 64, 3))
        model = keras.Model(image, model(image))
    # 64 pixels give maps of 4x4 to the last padding, 80 of 5x5.
    with pytest.raises(errors.InputError, match=r"block_13_pad.*multiples of 32"):
        resizing.at_size(model, 80)


def test_what_has_no_images_or_no_graph_is_refused():
    vector = keras.Sequential([keras.Input((4,)), layers.Dense(2)])
    with pytest.raises(errors.InputError, match="take images"):
        resizing.at_size(vector, 8)
    with pytest.raises(errors.InputError, match="no graph to cut, train or resize"):
        resizing.at_size(keras.Sequential([layers.Dense(2)]), 8)
    with pytest.raises(errors.InputError, match="image_size=0"):
        resizing.at_size(vector, 0)
