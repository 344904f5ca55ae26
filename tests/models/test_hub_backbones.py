"""KerasHub's encoders: small ones with random weights, saved as presets in the test."""

import os
import subprocess
import sys
from pathlib import Path

import keras
import numpy as np
import pytest

import keras_tl
from keras_tl import errors
from keras_tl.models import backbones, freezing, heads, hub_backbones, splitting

ROOT = Path(__file__).parents[2]
SIZE = 32


def vit(models, layers):
    backbone = models.ViTBackbone((SIZE, SIZE, 3), 8, 2, 2, 16, 32)
    return backbone, layers.ViTImageConverter(
        (SIZE, SIZE), [0.01, 0.02, 0.03], [-1] * 3
    )


def dinov2(models, layers):
    backbone = models.DINOV2Backbone(
        patch_size=8,
        num_layers=2,
        hidden_dim=16,
        num_heads=2,
        intermediate_dim=32,
        image_shape=(SIZE, SIZE, 3),
        position_embedding_shape=(SIZE, SIZE, 3),
    )
    return backbone, layers.DINOV2ImageConverter((SIZE, SIZE), 1 / 255, -0.5)


def dinov3(models, layers):
    backbone = models.DINOV3Backbone(
        patch_size=8,
        num_layers=2,
        hidden_dim=16,
        num_heads=2,
        intermediate_dim=32,
        image_shape=(SIZE, SIZE, 3),
    )
    return backbone, layers.DINOV3ImageConverter((SIZE, SIZE), 1 / 255)


def siglip(models, layers):
    sizes = {"hidden_dim": 16, "num_heads": 2, "intermediate_dim": 32}
    images = models.SigLIPVisionEncoder(
        patch_size=8, num_layers=2, image_shape=(SIZE, SIZE, 3), **sizes
    )
    texts = models.SigLIPTextEncoder(
        vocabulary_size=32,
        embedding_dim=16,
        num_layers=1,
        max_sequence_length=8,
        **sizes,
    )
    backbone = models.SigLIPBackbone(images, texts)
    return backbone, layers.SigLIPImageConverter((SIZE, SIZE), 1 / 127.5, -1)


def efficientnet_v2(models, layers):
    backbone = models.EfficientNetBackbone(
        stackwise_kernel_sizes=[3, 3],
        stackwise_num_repeats=[1, 2],
        stackwise_input_filters=[8, 8],
        stackwise_output_filters=[8, 16],
        stackwise_expansion_ratios=[1, 4],
        stackwise_squeeze_and_excite_ratios=[0, 0.25],
        stackwise_strides=[1, 2],
        stackwise_block_types=["fused", "unfused"],
        stackwise_force_input_filters=[0, 0],
        stackwise_nores_option=[False, False],
        width_coefficient=1.0,
        depth_coefficient=1.0,
    )
    return backbone, layers.EfficientNetImageConverter(None, 1 / 127.5, -1)


def mobilenet(models, layers):
    backbone = models.MobileNetBackbone(
        stackwise_expansion=[[40, 56], [64]],
        stackwise_num_blocks=[2, 1],
        stackwise_num_filters=[[16, 16], [24]],
        stackwise_kernel_size=[[3, 3], [3]],
        stackwise_num_strides=[[2, 1], [1]],
        stackwise_se_ratio=[[0.25, 0.25], [None]],
        stackwise_activation=[["relu", "relu"], ["hard_swish"]],
        stackwise_padding=[[1, 1], [1]],
        output_num_filters=32,
        depthwise_filters=8,
        depthwise_stride=2,
        depthwise_residual=False,
        last_layer_filter=32,
        squeeze_and_excite=0.5,
    )
    return backbone, layers.MobileNetImageConverter(None, 1 / 255)


# Function that makes one -> its blocks.
ENCODERS = {
    vit: ["transformer_block_1", "transformer_block_2"],
    dinov2: ["layers_0", "layers_1"],
    dinov3: ["layers_0", "layers_1"],
    siglip: ["encoder_block_0", "encoder_block_1"],
    efficientnet_v2: ["block1a", "block2a", "block2b"],
    mobilenet: ["block_0", "block_1", "block_2", "block_3"],
}


# Of each kind of graph one; the others are run with the slow tests of `.ci/run`.
FAST = (vit, dinov2, efficientnet_v2)
EACH = [
    pytest.param(
        function,
        id=function.__name__,
        marks=() if function in FAST else pytest.mark.slow,
    )
    for function in ENCODERS
]


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """Function that returns folder, backbone and converter of a small encoder."""
    import keras_hub

    presets = {}

    def make(function):
        if function not in presets:
            keras.utils.set_random_seed(0)
            backbone, converter = function(keras_hub.models, keras_hub.layers)
            folder = tmp_path_factory.mktemp("presets") / f"tiny_{function.__name__}"
            backbone.save_to_preset(folder)
            converter.save_to_preset(folder)
            presets[function] = folder, backbone, converter
        return presets[function]

    return make


@pytest.fixture(scope="module")
def pixels():
    rng = np.random.default_rng(0)
    return rng.integers(0, 256, (2, SIZE, SIZE, 3)).astype("float32")


@pytest.mark.parametrize("function", EACH)
def test_it_gives_what_keras_hub_gives_for_its_preprocessing(function, made, pixels):
    folder, backbone, converter = made(function)
    encoder = getattr(backbone, "vision_encoder", backbone)
    images = converter(pixels)
    if isinstance(encoder.input, dict):
        images = dict.fromkeys(encoder.input, images)
    wanted = keras.ops.convert_to_numpy(encoder(images))
    # Of transformers the class token, which is the first.
    wanted = wanted[:, 0] if wanted.ndim == 3 else wanted
    model = hub_backbones.load(folder, image_size=SIZE)
    np.testing.assert_allclose(model(pixels), wanted, atol=1e-5)
    assert model.name == folder.name


@pytest.mark.parametrize("function", EACH)
def test_it_can_be_frozen_by_blocks_cut_saved_and_loaded(
    function, made, pixels, tmp_path
):
    folder, _, _ = made(function)
    model = hub_backbones.load(folder, image_size=SIZE)
    assert list(freezing.blocks(model)) == ENCODERS[function]
    freezing.freeze(model)
    classifier = heads.attach(model, 3)
    _, tensor = splitting.frozen_cut(classifier)
    stem, tail = splitting.split_at(classifier, tensor)
    wanted = keras.ops.convert_to_numpy(classifier(pixels))
    np.testing.assert_allclose(tail(stem(pixels)), wanted, atol=1e-5)
    freezing.unfreeze_blocks(classifier, 1)
    trains = {layer.name for layer in classifier.layers if layer.trainable_weights}
    assert "logits" in trains
    first = freezing.blocks(classifier)[ENCODERS[function][0]]
    assert not trains & set(first)
    classifier.save(tmp_path / "model.keras")
    loaded = keras.models.load_model(tmp_path / "model.keras")
    np.testing.assert_array_equal(loaded(pixels), classifier(pixels))


# Of DINOv2, the token of masked patches is not used, and so not trained.
@pytest.mark.filterwarnings("default:Gradients do not exist")
@pytest.mark.parametrize(
    "function",
    [
        pytest.param(vit, marks=pytest.mark.slow),
        pytest.param(dinov2, marks=pytest.mark.exhaustive),
    ],
)
def test_train_takes_a_preset_at_its_own_size(function, made, tmp_path, monkeypatch):
    monkeypatch.setenv("KERAS_TL_CACHE", str(tmp_path / "cache"))
    folder, _, _ = made(function)
    labels = np.arange(60) % 3
    images = np.random.default_rng(0).integers(0, 80, (60, 40, 40, 3), "uint8")
    images[..., :] += np.uint8(60) * labels[:, None, None, None].astype("uint8")
    saved = keras_tl.train(
        (images, labels), backbone=f"hub:{folder}", minutes=0.5, out=tmp_path / "run"
    )
    assert saved.image_size == SIZE
    assert saved.predict(images[:2]).shape == (2, 3)


@pytest.mark.slow
def test_another_process_loads_what_was_saved(made, pixels, tmp_path):
    folder, _, _ = made(vit)
    model = heads.attach(hub_backbones.load(folder), 3)
    model.save(tmp_path / "model.keras")
    np.save(tmp_path / "pixels.npy", pixels)
    np.save(tmp_path / "wanted.npy", model.predict(pixels, verbose=0))
    script = (
        "import keras, keras_hub, numpy as np, sys\n"
        "folder = sys.argv[1]\n"
        "model = keras.models.load_model(folder + '/model.keras')\n"
        "given = model.predict(np.load(folder + '/pixels.npy'), verbose=0)\n"
        "np.testing.assert_array_equal(given, np.load(folder + '/wanted.npy'))\n"
    )
    subprocess.run(
        [sys.executable, "-c", script, str(tmp_path)],
        env={**os.environ, "TF_CPP_MIN_LOG_LEVEL": "3"},
        check=True,
    )


def test_the_size_is_that_which_the_encoder_takes(made):
    assert hub_backbones.size_of(made(vit)[0], 64) == SIZE
    assert hub_backbones.size_of(made(vit)[0]) == SIZE
    # In steps of its patches of 8 pixels.
    assert hub_backbones.size_of(made(dinov2)[0], 44) == 48
    assert hub_backbones.size_of(made(efficientnet_v2)[0], 44) == 44
    assert hub_backbones.load(made(dinov2)[0], image_size=48).input.shape[1] == 48


def test_a_preset_without_preprocessing_needs_one_to_be_named(made, tmp_path):
    _, backbone, _ = made(efficientnet_v2)
    folder = tmp_path / "bare"
    backbone.save_to_preset(folder)
    with pytest.raises(errors.InputError, match="no preprocessing"):
        hub_backbones.load(folder, image_size=SIZE)
    model = hub_backbones.load(folder, image_size=SIZE, preprocessing="tf")
    assert model.get_layer("preprocess").offset == -1


def test_what_is_no_preset_is_refused(tmp_path):
    with pytest.raises(errors.InputError, match=r"config\.json"):
        hub_backbones.load(tmp_path)
    with pytest.raises(errors.InputError, match="cannot be loaded"):
        hub_backbones.load(tmp_path / "absent")


def test_an_encoder_that_cannot_be_saved_is_refused(tmp_path):
    import keras_hub

    backbone = keras_hub.models.DeiTBackbone((SIZE, SIZE, 3), 8, 1, 2, 16, 32)
    backbone.save_to_preset(tmp_path / "deit")
    keras_hub.layers.DeiTImageConverter((SIZE, SIZE), 1 / 255).save_to_preset(
        tmp_path / "deit"
    )
    with pytest.raises(errors.InputError, match="DeiTEncoder does not describe itself"):
        hub_backbones.load(tmp_path / "deit")


def test_a_text_model_is_no_encoder_of_images(tmp_path):
    import keras_hub

    keras_hub.models.BertBackbone(30, 1, 2, 16, 32).save_to_preset(tmp_path / "bert")
    with pytest.raises(errors.InputError, match="no encoder of RGB images"):
        hub_backbones.load(tmp_path / "bert")


def test_a_preset_is_loaded_by_its_name_as_any_backbone(made, pixels):
    name = f"hub:{made(vit)[0]}"
    model = backbones.load(name, image_size=SIZE)
    wanted = hub_backbones.load(made(vit)[0])
    np.testing.assert_array_equal(model(pixels), wanted(pixels))
    with pytest.raises(errors.InputError, match="`image_size` must be 32 with"):
        backbones.load(name, image_size=64)
    with pytest.raises(errors.InputError, match="left out"):
        backbones.load(name, image_size=SIZE, alpha=0.5)
    with pytest.raises(errors.InputError, match="a preset with weights"):
        backbones.load(name, image_size=SIZE, weights="other.weights.h5")
