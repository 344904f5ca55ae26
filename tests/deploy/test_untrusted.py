"""Promises about model files from strangers: what loading refuses."""

import ast
import json
import random
import zipfile
from pathlib import Path

import hostile
import keras
import numpy as np
import pytest
from hostile import hdf5, layer_of, rewritten, with_layer

from keras_tl import errors
from keras_tl.deploy import artifact
from keras_tl.models import backbones, untrusted

# What is done to a `.keras` file, and what the refusal says.
ARCHIVES = {
    "a Lambda layer": (
        lambda old: with_layer(old, layer_of("Lambda")),
        "holds a Lambda layer",
    ),
    "a lambda as an activation": (
        lambda old: with_layer(
            old, layer_of("Dense", activation={"class_name": "__lambda__"})
        ),
        "holds a __lambda__ layer",
    ),
    "a TensorFlow program": (
        lambda old: with_layer(old, layer_of("TFSMLayer", filepath="/tmp")),
        "holds a TFSMLayer layer",
    ),
    "a module of PyTorch": (
        lambda old: with_layer(old, layer_of("TorchModuleWrapper")),
        "pickled Python objects",
    ),
    "a class of another module": (
        lambda old: with_layer(old, layer_of("Popen", "subprocess")),
        "needs subprocess.Popen",
    ),
    "a class of another package": (
        lambda old: with_layer(old, layer_of("Mine", registered="theirs>Mine")),
        "needs theirs>Mine",
    ),
    "a function of another module": (
        lambda old: with_layer(
            old,
            layer_of(
                "Dense",
                activation={
                    "module": "os",
                    "class_name": "function",
                    "config": "system",
                    "registered_name": "function",
                },
            ),
        ),
        "needs os.system",
    ),
    "a file to read": (
        lambda old: with_layer(old, layer_of("StringLookup", vocabulary="/etc/passwd")),
        "read the file /etc/passwd",
    ),
    "a layer of 10**12 units": (
        lambda old: with_layer(old, layer_of("Dense", units=10**12)),
        "units=1,000,000,000,000",
    ),
    "a path upwards": (
        lambda old: rewritten(old, more=[("../evil", b"x")]),
        "path ../evil, which leaves",
    ),
    "a path upwards on Windows": (
        lambda old: rewritten(old, more=[("assets\\..\\..\\evil", b"x")]),
        "which leaves the archive",
    ),
    "an absolute path": (
        lambda old: rewritten(old, more=[("/etc/evil", b"x")]),
        "path /etc/evil, which leaves",
    ),
    "a path with a drive": (
        lambda old: rewritten(old, more=[("C:/evil", b"x")]),
        "path C:/evil, which leaves",
    ),
    "a link": (
        lambda old: rewritten(old, more=[(link("assets/link"), b"/etc/passwd")]),
        "holds the link assets/link",
    ),
    "two parts of one name": (
        lambda old: rewritten(old, more=[("metadata.json", b"{}")]),
        "several parts of one name",
    ),
    "a zip bomb": (hostile.bomb, "zip bomb: assets/zeros.bin"),
    "a zip bomb by its header": (hostile.declared_bomb, "zip bomb.*3,000,000,000"),
    "parts over one another": (hostile.overlapping, "zip bomb: its parts are larger"),
    "a pickle among the parts": (
        lambda old: rewritten(old, more=[("assets/a.bin", hostile.PICKLE)]),
        "holds the pickle assets/a.bin",
    ),
    "pickled arrays": (
        lambda old: rewritten(
            old,
            more=[("model.weights.npz", hostile.npz(np.array([hostile.Evil()])))],
        ),
        "pickled objects in the array array.npy",
    ),
    "an array of 10**12 numbers": (
        lambda old: rewritten(
            old, {"model.weights.h5": hdf5(hostile.large_array)}.items()
        ),
        "4,000,000,000,000 bytes, and stores 0",
    ),
}
# What is done to an HDF5 file, and what the refusal says.
HDF5 = {
    "a link to another file": (hostile.external_link, "to another file, /etc/passwd"),
    "a link": (hostile.soft_link, "links /layers/other to /layers/dense"),
    "an array in another file": (hostile.external_array, "in another file"),
    "an array of other files": (hostile.virtual_array, "from other files"),
    "an array of 10**12 numbers": (hostile.large_array, "4,000,000,000,000 bytes"),
    "many large arrays": (hostile.large_arrays, "bytes together"),
}


def link(name):
    """Return an entry of an archive that is a symbolic link."""
    made = zipfile.ZipInfo(name)
    made.external_attr = 0o120777 << 16
    return made


@pytest.fixture(scope="module")
def archive(tmp_path_factory):
    """The content of a file that is as it should be."""
    path = tmp_path_factory.mktemp("sound") / "model.keras"
    hostile.model().save(path)
    return path.read_bytes()


@pytest.mark.filterwarnings("ignore:Duplicate name")
@pytest.mark.parametrize("name", ARCHIVES)
def test_loading_a_hostile_model_is_refused_in_one_sentence(
    name, archive, tmp_path, capsys, monkeypatch
):
    change, message = ARCHIVES[name]
    path = tmp_path / "model.keras"
    path.write_bytes(change(archive))
    monkeypatch.setattr(keras.models, "load_model", None)  # It is not reached.
    with pytest.raises(errors.InputError, match=message) as raised:
        artifact.load_model(path)
    assert "It is not loaded" in str(raised.value)
    assert "\n" not in str(raised.value)
    assert "executed" not in capsys.readouterr().out
    assert [one.name for one in tmp_path.iterdir()] == ["model.keras"]


@pytest.mark.parametrize("name", HDF5)
def test_loading_hostile_weights_is_refused_in_one_sentence(
    name, tmp_path, make_backbone
):
    change, message = HDF5[name]
    path = tmp_path / "model.weights.h5"
    path.write_bytes(hdf5(change))
    with pytest.raises(errors.InputError, match=message):
        backbones.load_weights(make_backbone(), path)
    with pytest.raises(errors.InputError, match=message):
        backbones.classifier(path, 8)


def test_a_pickle_called_weights_is_refused(tmp_path, make_backbone, capsys):
    path = tmp_path / "model.weights.h5"
    path.write_bytes(hostile.PICKLE)
    with pytest.raises(errors.InputError, match="is a pickle"):
        backbones.load_weights(make_backbone(), path)
    assert "executed" not in capsys.readouterr().out


def test_layers_whose_weights_are_not_stored_are_refused_before_they_are_made(
    tmp_path, monkeypatch
):
    # Each number is stored somewhere: the weights of the two layers are not.
    model = keras.Sequential([keras.Input((4,)), keras.layers.Dense(4)])
    path = tmp_path / "model.keras"
    model.save(path)
    with zipfile.ZipFile(path) as saved:
        config = json.loads(saved.read("config.json"))
    for number in range(2):
        one = layer_of("Dense", units=10**6, dtype="float32")
        one["config"]["name"] = f"added_{number}"
        one["build_config"] = {"input_shape": [None, [4, 10**6][number]]}
        config["config"]["layers"].insert(1 + number, one)
    config["config"]["layers"] = config["config"]["layers"][:3]
    changed = {"config.json": json.dumps(config).encode()}
    path.write_bytes(rewritten(path.read_bytes(), changed.items()))
    assert not untrusted.read(path).problems
    monkeypatch.setattr(keras.models, "load_model", None)
    with pytest.raises(errors.InputError, match="layers with 1,000,00.*stores 20"):
        artifact.load_model(path)


def test_the_check_of_sizes_draws_no_random_number(tmp_path, archive):
    path = tmp_path / "model.keras"
    path.write_bytes(archive)
    random.seed(0)
    keras.models.load_model(path, compile=False)
    wanted = random.random()
    random.seed(0)
    artifact.load_model(path)
    assert random.random() == wanted


def test_a_class_that_the_program_has_registered_is_loaded(tmp_path):
    @keras.saving.register_keras_serializable("theirs")
    class Doubled(keras.layers.Layer):
        def call(self, x):
            return 2 * x

    try:
        image = keras.Input((4,))
        path = tmp_path / "model.keras"
        keras.Model(image, Doubled()(image)).save(path)
        made = artifact.load_model(path)
        np.testing.assert_array_equal(made(np.ones((1, 4))), 2 * np.ones((1, 4)))
    finally:
        keras.saving.get_custom_objects().pop("theirs>Doubled")
    with pytest.raises(errors.InputError, match="needs theirs>Doubled"):
        artifact.load_model(path)


def test_quantized_models_and_nested_ones_are_loaded(tmp_path, archive):
    image = keras.Input((4, 4, 3))
    pooled = keras.layers.GlobalAveragePooling2D()(image)
    inner = keras.Model(image, keras.layers.Dense(8)(pooled))
    outer = keras.Sequential([keras.Input((4, 4, 3)), inner, keras.layers.Dense(3)])
    pixels = np.ones((1, 4, 4, 3))
    outer.layers[0].layers[-1].quantize("int8")
    for mode in (None, "int4"):
        if mode:
            outer.layers[-1].quantize(mode)
        outer.save(tmp_path / "model.keras")
        made = artifact.load_model(tmp_path / "model.keras")
        np.testing.assert_allclose(made(pixels), outer(pixels), atol=1e-5)


def test_whatever_loads_a_file_of_a_model_checks_it():
    core, loading = Path(untrusted.__file__).parents[1], set()
    for path in core.rglob("*.py"):
        nodes = list(ast.walk(ast.parse(path.read_text())))
        names = {node.attr for node in nodes if isinstance(node, ast.Attribute)}
        if names & {"load_model", "load_weights", "from_preset"}:
            loading.add(path.stem)
            assert names & {"check", "check_preset"}, path
            assert "untrusted" in path.read_text(), path
    assert {"artifact", "backbones", "check", "hub_backbones"} <= loading
    assert {"text_backbones", "whisper_weights"} <= loading


def test_a_preset_with_foreign_classes_is_refused(tmp_path):
    layer = layer_of("Popen", "subprocess")
    (tmp_path / "config.json").write_text(json.dumps(layer))
    with pytest.raises(errors.InputError, match=r"config.json needs subprocess.Popen"):
        untrusted.check_preset(tmp_path)


def test_what_is_printed_of_a_file_moves_no_cursor(tmp_path, archive):
    path = tmp_path / "model.keras"
    layer = layer_of("Evil\x1b[2J\n\u202e", "os")
    path.write_bytes(with_layer(archive, layer))
    with pytest.raises(errors.InputError) as raised:
        artifact.load_model(path)
    assert str(raised.value).isprintable()
    assert "os.Evil\\x1b[2J" in str(raised.value)
