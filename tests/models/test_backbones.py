import hashlib
import importlib
import inspect
import os

import keras
import numpy as np
import pytest
from sklearn.datasets import load_sample_images

from keras_tl import errors, files
from keras_tl.data import images
from keras_tl.models import backbones, catalog, efficientnet_lite, freezing, splitting

NAMES = sorted(catalog.BACKBONES)
KERAS_NAMES = [name for name in NAMES if catalog.BACKBONES[name].constructor]


@pytest.mark.parametrize("name", KERAS_NAMES)
def test_preprocessing_is_what_keras_does(name):
    constructor = getattr(keras.applications, catalog.find(name).constructor)
    module = importlib.import_module(constructor.__module__)
    pixels = np.random.default_rng(0).uniform(0, 255, (2, 5, 5, 3)).astype("float32")
    image = keras.Input((5, 5, 3))
    ours = backbones.preprocess(image, catalog.find(name).preprocessing)
    np.testing.assert_allclose(
        keras.Model(image, ours)(pixels),
        module.preprocess_input(pixels.copy()),
        atol=1e-4,
    )


@pytest.mark.parametrize("mode", ["tf", "torch", "caffe"])
def test_contracts_are_those_of_imagenet_utils(mode):
    pixels = np.random.default_rng(0).uniform(0, 255, (2, 5, 5, 3)).astype("float32")
    image = keras.Input((5, 5, 3))
    ours = keras.Model(image, backbones.preprocess(image, mode))(pixels)
    theirs = keras.applications.imagenet_utils.preprocess_input(
        pixels.copy(), data_format="channels_last", mode=mode
    )
    np.testing.assert_allclose(ours, theirs, atol=1e-4)


FAST = ["efficientnet_lite0", "small_resnet", "vgg16"]
# One for each way to prepare pixels; the others are run after changes of backbones.
SLOW = ["resnet50", "mobilenet_v2", "densenet121", "efficientnet_b0", "convnext_tiny"]


def _mark(name):
    """Mark a test of a backbone by how often it is run."""
    if name in FAST:
        return ()
    return pytest.mark.slow if name in SLOW else pytest.mark.exhaustive


EACH = [pytest.param(name, marks=_mark(name)) for name in NAMES]


def test_every_constructor_of_keras_applications_is_in_the_table():
    constructors = {
        name
        for name in dir(keras.applications)
        if inspect.isfunction(getattr(keras.applications, name))
    }
    assert {b.constructor for b in catalog.BACKBONES.values()} == {
        *constructors,
        None,
    }


@pytest.mark.parametrize("name", EACH)
def test_backbone_is_flat_true_to_its_facts_and_loads_without_our_code(name, tmp_path):
    backbone = catalog.find(name)
    size = backbone.roomy_size
    model = backbones.load(name, weights=None, image_size=size, **_narrow(name))
    assert model.name == name
    # ConvNeXt's stem and downsampling are small Sequential models in Keras itself.
    nested = [layer for layer in model.layers if isinstance(layer, keras.Model)]
    assert not nested or name.startswith("convnext")
    layers = freezing.leaves(model)
    assert not any(isinstance(layer, keras.layers.Lambda) for layer in layers)
    assert model.output.shape[1] >= 3
    assert model.output.shape[1] == model.output.shape[2]
    assert backbone.licence
    assert backbone.source
    assert backbone.smallest_size <= backbone.roomy_size <= backbone.native_size

    # Every block can be a freeze point, and more blocks mean more that trains.
    blocks = freezing.blocks(model)
    assert len(blocks) >= (5 if backbone.has_imagenet else 3)
    counts = []
    for first, *_ in blocks.values():
        freezing.freeze(model)
        freezing.unfreeze_from(model, first)
        counts.append(freezing.report(model).trainable)
    assert counts == sorted(counts, reverse=True)
    assert len(set(counts)) >= len(blocks) - 2

    # What follows our preprocessing is what Keras built; the preprocessing itself is
    # compared above.
    pixels = np.random.default_rng(0).integers(0, 256, (1, size, size, 3), "uint8")
    features = keras.ops.convert_to_numpy(model(pixels))
    cuts = splitting.cut_points(model)
    for _, tensor in (cuts[0], cuts[len(cuts) // 2], cuts[-1]):
        stem, tail = splitting.split_at(model, tensor)
        np.testing.assert_allclose(tail(stem(pixels)), features, rtol=1e-4, atol=1e-4)
    if backbone.constructor:
        module = importlib.import_module(
            getattr(keras.applications, backbone.constructor).__module__
        )
        prepared = module.preprocess_input(pixels.astype("float32"))
        start = (
            model.input
            if backbone.preprocessing == "none"
            else model.get_layer("preprocess").output
        )
        rest = keras.Model(start, model.output)
        np.testing.assert_allclose(rest(prepared), features, rtol=1e-3, atol=1e-3)

    model.save(tmp_path / "model.keras")
    loaded = keras.models.load_model(tmp_path / "model.keras", custom_objects={})
    np.testing.assert_array_equal(loaded(pixels), features)


def test_a_map_of_a_single_cell_is_allowed_and_warned_of():
    with pytest.warns(errors.InputWarning, match="1x1 cells; images of 96 pixels"):
        model = backbones.load("vgg16", weights=None, image_size=32)
    assert model.output.shape == (None, 1, 1, 512)


def _narrow(name):
    alphas = catalog.find(name).alphas
    return {"alpha": alphas[0]} if alphas else {}


@pytest.fixture(autouse=True)
def _no_warning_of_small_maps(recwarn):
    """Small images keep these tests fast; their warning has a test of its own."""
    import warnings

    warnings.filterwarnings("ignore", category=errors.InputWarning)


def test_embedded_weights_are_the_recorded_ones():
    digest = hashlib.sha256(efficientnet_lite.ASSET.read_bytes()).hexdigest()
    assert digest == "24113b702cb9aac2f288d22fbaf02805c56e99e48c1ab92b23f4d3500a8b7b99"
    readme = efficientnet_lite.ASSET.with_name("README.md").read_text()
    assert digest in readme
    assert efficientnet_lite.ASSET.stat().st_size < 7_000_000


def test_embedded_features_of_two_photographs_are_the_recorded_ones():
    model = backbones.load("efficientnet_lite0", image_size=224)
    photographs = np.concatenate(
        [images.resize(photo[None], 224) for photo in load_sample_images().images]
    )
    features = keras.ops.convert_to_numpy(model(photographs)).mean((1, 2))
    for row, recorded in zip(features, RECORDED, strict=True):
        assert set(row.argsort()[-6:]) == set(recorded)
        np.testing.assert_allclose(
            row[list(recorded)], list(recorded.values()), atol=0.02
        )


# The six strongest of 1,280 channels, averaged over the image, of china.jpg and
# flower.jpg: recorded on 2026-11-21 from a network with the checkpoint's own float32
# weights. Rounding the weights to float16 moves them by up to 0.017.
RECORDED = [
    {702: 3.019, 164: 2.887, 1190: 2.453, 1136: 2.428, 891: 2.089, 929: 2.078},
    {303: 3.518, 354: 3.125, 1212: 2.736, 439: 2.709, 486: 2.580, 726: 2.348},
]


def test_every_layer_of_the_embedded_backbone_gets_its_weights():
    random = backbones.load("efficientnet_lite0", weights=None, image_size=64)
    loaded = backbones.load("efficientnet_lite0", image_size=64)
    assert loaded.count_params() == 3_413_024
    for before, after in zip(random.weights, loaded.weights, strict=True):
        assert not np.array_equal(before, after), after.path


def test_weights_from_a_file_are_used(tmp_path):
    saved = backbones.load("mobilenet", weights=None, image_size=64, alpha=0.25)
    saved.save_weights(tmp_path / "own.weights.h5")
    loaded = backbones.load(
        "mobilenet", weights=tmp_path / "own.weights.h5", image_size=64, alpha=0.25
    )
    for before, after in zip(saved.weights, loaded.weights, strict=True):
        np.testing.assert_array_equal(before, after)


def test_weights_of_another_shape_are_refused_in_one_sentence(tmp_path):
    wide = backbones.load("mobilenet", weights=None, image_size=64, alpha=0.5)
    wide.save_weights(tmp_path / "wide.weights.h5")
    with pytest.raises(errors.InputError, match=r"must fit mobilenet.*wide.weights.h5"):
        backbones.load(
            "mobilenet", weights=tmp_path / "wide.weights.h5", image_size=64, alpha=0.25
        )


@pytest.mark.parametrize("content", [b"", b"no weights", b"\x89HDF\r\n\x1a\n" * 9])
def test_a_file_that_holds_no_weights_is_refused(tmp_path, content):
    path = tmp_path / "broken.weights.h5"
    path.write_bytes(content)
    with pytest.raises(errors.InputError, match=r"broken\.weights\.h5"):
        backbones.load("mobilenet", weights=path, image_size=64)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"name": "vgg61"}, "Did you mean .*vgg16"),
        ({"name": "vgg16", "image_size": 31}, "at least 32.*image_size=31"),
        ({"name": "vgg16", "preprocessing": "touch"}, "Did you mean torch"),
        ({"name": "vgg16", "alpha": 0.5}, "`alpha` must be left out"),
        ({"name": "mobilenet", "alpha": 0.3}, r"one of \(0.25, 0.5"),
        ({"name": "vgg16", "weights": "absent.h5"}, "existing file.*absent.h5"),
        ({"name": "vgg16", "weights": "setup.cfg"}, "ends in .weights.h5"),
    ],
)
def test_bad_input_names_the_argument_and_what_to_do(arguments, message):
    with pytest.raises(errors.InputError, match=message):
        backbones.load(**arguments)


@pytest.mark.parametrize(
    ("name", "file", "checked"),
    [
        (
            "vgg16",
            "vgg16_weights_tf_dim_ordering_tf_kernels_notop.h5",
            "md5 6d6bbae143d832006294945121d1f1fc",
        ),
        (
            "mobilenet_v3_small",
            "weights_mobilenet_v3_small_224_1.0_float_no_top_v2",
            "(",
        ),
        (
            "resnet50_v2",
            "resnet50v2_weights_tf_dim_ordering_tf_kernels_notop.h5",
            "md5",
        ),
        (
            "convnext_tiny",
            "convnext_tiny_notop.h5",
            "(sha256 d547c096cabd03329d7be5562c5e14798aa39ed24b474157cef5e85ab9e49ef1)",
        ),
    ],
)
def test_failed_download_says_which_file_to_put_where(
    monkeypatch, tmp_path, name, file, checked
):
    monkeypatch.setenv("KERAS_HOME", str(tmp_path))

    def no_network(*args, **options):
        raise OSError("no network")

    module = inspect.getmodule(keras.utils.get_file)
    monkeypatch.setattr(module, "get_file", no_network)
    with pytest.raises(errors.InputError) as raised:
        backbones.load(name)
    message = str(raised.value)
    assert file in message
    assert checked in message
    assert str(tmp_path / "models") in message
    assert "efficientnet_lite0 needs no download" in message
    assert module.get_file is no_network


@pytest.mark.parametrize("sound", [True, False])
def test_weights_in_a_folder_that_cannot_be_written_to_are_used(
    monkeypatch, tmp_path, make_backbone, sound
):
    model = make_backbone()
    (tmp_path / "models").mkdir()
    path = tmp_path / "models" / "tiny.weights.h5"
    model.save_weights(path)
    file_hash = files.sha256(path) if sound else "0" * 64

    def build(weights, input_shape):
        # As the constructors of Keras fetch them.
        get_file = inspect.getmodule(keras.utils.get_file).get_file
        origin = "http://localhost:0/tiny.weights.h5"
        folder, name = "models", path.name
        found = get_file(name, origin, cache_subdir=folder, file_hash=file_hash)
        loaded = make_backbone()
        loaded.load_weights(found)
        return loaded

    monkeypatch.setenv("KERAS_HOME", str(tmp_path))
    monkeypatch.setattr(os, "access", lambda path, mode: False)
    if not sound:
        with pytest.raises(errors.InputError, match=r"put the file tiny\.weights\.h5"):
            backbones._imagenet_weights("vgg16", build)
        return
    for own, loaded in zip(
        model.get_weights(), backbones._imagenet_weights("vgg16", build), strict=True
    ):
        np.testing.assert_array_equal(own, loaded)


@pytest.mark.real
def test_torchvision_vgg16_knows_its_classes_by_the_torch_contract(real_data):
    path = real_data / "weights" / "vgg16_torchvision_notop.weights.h5"
    ours = backbones.load("vgg16", weights=path, preprocessing="torch", image_size=64)
    theirs = keras.applications.VGG16(
        include_top=False, weights=None, input_shape=(64, 64, 3)
    )
    theirs.load_weights(path)
    photo = images.resize(load_sample_images().images[0][None], 64)
    prepared = keras.applications.imagenet_utils.preprocess_input(
        photo.astype("float32"), mode="torch"
    )
    np.testing.assert_allclose(ours(photo), theirs(prepared), atol=1e-4)


@pytest.mark.real
def test_keras_own_weight_files_load(real_data):
    path = real_data / "weights" / "mobilenet_2_5_224_tf_no_top.h5"
    model = backbones.load("mobilenet", weights=path, alpha=0.25, image_size=96)
    assert model.count_params() == 218_544


@pytest.mark.real
def test_embedded_weights_are_the_checkpoint_rounded(real_data):
    from keras_tl.assets.efficientnet_lite0 import make_weights

    path = real_data / "weights" / "efficientnet_lite0_torch_layout.npz"
    with np.load(path) as arrays:
        wanted = make_weights.convert(
            {n: arrays[n] for n in arrays.files if "num_batches" not in n}
        )
    with np.load(efficientnet_lite.ASSET) as ours:
        assert set(ours.files) == set(wanted)
        for name in ours.files:
            np.testing.assert_array_equal(ours[name], wanted[name])


@pytest.mark.parametrize(
    "name",
    [pytest.param(name, marks=_mark(name)) for name in KERAS_NAMES],
)
def test_the_table_has_the_names_of_the_files_that_keras_looks_for(name, monkeypatch):
    backbone = catalog.find(name)
    constructor = getattr(keras.applications, backbone.constructor)
    asked = []

    def get_file(file_name, *arguments, **options):
        asked.append(file_name)
        raise LookupError

    monkeypatch.setattr(inspect.getmodule(keras.utils.get_file), "get_file", get_file)
    side = backbone.native_size
    width = {"alpha": backbone.alphas[0]} if backbone.alphas else {}
    for top in (False, True):
        with pytest.raises(LookupError):
            constructor(include_top=top, input_shape=(side, side, 3), **width)
        wanted = backbone.file_name(width.get("alpha"), classifier=top)
        assert asked.pop() == wanted
