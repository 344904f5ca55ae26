import json
import os
import runpy
import subprocess
import sys
import tempfile
from pathlib import Path

import keras
import numpy as np
import pytest

from keras_tl import environment, errors, files
from keras_tl.config import RunSettings
from keras_tl.deploy import artifact
from keras_tl.models import backbones, heads, small_cnn
from keras_tl.training import placement

ROOT = Path(__file__).parents[1]


def run(*arguments, cwd=ROOT, **variables):
    """Run Python on a machine with other settings."""
    environ = {k: v for k, v in os.environ.items() if not k.startswith("TF_")}
    return subprocess.run(
        [sys.executable, *map(str, arguments)],
        cwd=cwd,
        env={**environ, "PYTHONPATH": str(ROOT), **variables},
        capture_output=True,
        text=True,
        check=False,
    )


@pytest.fixture
def keras_json(tmp_path, monkeypatch):
    """Write a `keras.json`, for a process in which Keras has not been loaded."""

    def write(text):
        (tmp_path / "keras.json").write_text(text)
        monkeypatch.setenv("KERAS_HOME", str(tmp_path))
        monkeypatch.delenv("KERAS_BACKEND", raising=False)
        monkeypatch.delitem(sys.modules, "keras")

    return write


@pytest.mark.parametrize("backend", ["jax", "torch", "nonsense"])
def test_another_backend_is_refused_before_keras_is_loaded(backend, tmp_path):
    ended = run("-m", "keras_tl", "run", "quickstart", KERAS_BACKEND=backend)
    assert ended.returncode == 2
    assert f"with '{backend}'. Set KERAS_BACKEND=tensorflow" in ended.stderr
    assert "Loading" not in ended.stderr
    assert len(ended.stderr.splitlines()) == 1


def test_another_backend_is_refused_in_python_too(monkeypatch):
    monkeypatch.setattr(keras.config, "backend", lambda: "jax")
    with pytest.raises(errors.InputError, match="Keras has been loaded with 'jax'"):
        RunSettings()


@pytest.mark.parametrize(
    ("saved", "message"),
    [
        ({"backend": "torch"}, r"keras\.json was written with 'torch'"),
        ({"floatx": "complex"}, r"`floatx` must be one of float16.*keras\.json"),
        ({"image_data_format": "NCHW"}, "`image_data_format` must be one of"),
        ({"epsilon": 1}, "`epsilon`"),
        ([], r"keras\.json must hold a JSON object"),
    ],
)
def test_a_keras_json_that_keras_fails_on_is_named(keras_json, saved, message):
    keras_json(json.dumps(saved))
    with pytest.raises(errors.InputError, match=message):
        environment.check_keras()


def test_a_keras_json_that_keras_takes_is_no_error(keras_json):
    for text in ("{}", "no JSON", '{"floatx": "float64", "backend": "tensorflow"}'):
        keras_json(text)
        environment.check_keras()
        sys.modules["keras"] = keras


def test_a_keras_json_that_cannot_be_read_is_named(tmp_path, monkeypatch):
    (tmp_path / "keras.json").mkdir()
    monkeypatch.setenv("KERAS_HOME", str(tmp_path))
    with pytest.raises(errors.InputError, match=r"cannot read .*keras\.json"):
        environment.check_keras()


@pytest.fixture
def channels_first():
    """Keras as a `keras.json` sets it for GPUs of long ago."""
    keras.config.set_image_data_format("channels_first")
    keras.config.set_floatx("float16")
    yield
    keras.config.set_image_data_format("channels_last")
    keras.config.set_floatx("float32")


@pytest.mark.parametrize(
    "build",
    [
        lambda: small_cnn.small_cnn(image_size=32),
        lambda: backbones.load("mobilenet", weights=None, image_size=96),
    ],
)
def test_models_are_channels_last_and_float32_whatever_keras_is_set_to(
    channels_first, build
):
    with pytest.warns(errors.InputWarning, match=r"channels_first and floatx=float16"):
        model = heads.attach(build(), 3)
    assert {tensor.dtype for tensor in model.inputs + model.outputs} == {"float32"}
    names = {"channels_last", None}
    assert {getattr(layer, "data_format", None) for layer in model.layers} == names


def test_choosing_where_to_train_sets_keras_once(channels_first, recwarn):
    for _ in range(2):
        placement.choose(["CPU:0"])
    assert keras.config.image_data_format() == "channels_last"
    assert keras.config.floatx() == "float32"
    assert len(recwarn) == 1


def test_a_saved_model_is_loaded_whatever_keras_is_set_to(
    channels_first, make_backbone, tmp_path
):
    keras.config.set_image_data_format("channels_last")
    model = make_backbone()
    model.save(tmp_path / "a.keras")
    keras.config.set_image_data_format("channels_first")
    with pytest.warns(errors.InputWarning, match="channels_first"):
        loaded = artifact.load_model(tmp_path / "a.keras")
    images = np.zeros((1, 8, 8, 3), "float32")
    np.testing.assert_array_equal(model(images), loaded(images))


@pytest.mark.slow
@pytest.mark.parametrize(
    "command", [["recipes/layer_freezing.py"], ["-m", "keras_tl", "run"]]
)
def test_tensorflow_says_nothing_when_it_starts(command, tmp_path):
    name = [] if "recipes" in command[0] else ["layer_freezing"]
    flags = ["--sizes", "5000", "--image-size", "32", "--out", tmp_path / "run"]
    ended = run(*command, *name, *flags)
    *before, error = ended.stderr.splitlines()
    assert "`sizes` must be at most 2000" in error
    assert before == (["Loading Keras and TensorFlow."] if name else [])


FAILS = """
import os
import runpy
os.write(2, b"I0000 00:00:1 port.cc:1] oneDNN\\nF0000 No AVX here.\\n")
"""


@pytest.mark.parametrize(
    ("ends", "last"),
    [
        (
            "raise ImportError('libcudart is missing')",
            "ImportError: libcudart is missi",
        ),
        ("os.abort()", "F0000 No AVX here."),
    ],
)
def test_why_tensorflow_cannot_start_is_shown(ends, last, tmp_path):
    (tmp_path / "tensorflow.py").write_text(f"{FAILS}{ends}\n")
    code = f"import sys; sys.path.insert(0, {str(tmp_path)!r}); import keras_tl.quiet\n"
    ended = run("-c", f"{code}import tensorflow")
    assert ended.returncode != 0
    assert ended.stderr.startswith("F0000 No AVX here.\n")
    assert ended.stderr.splitlines()[-1].startswith(last)
    shown = run("-c", f"{code}import tensorflow", TF_CPP_MIN_LOG_LEVEL="0")
    assert shown.stderr.startswith("I0000")


def test_tensorflow_says_nothing_also_after_it_was_asked_for(tmp_path):
    """As `compiled.runtime` asks whether it is there, without loading it."""
    (tmp_path / "tensorflow.py").write_text(FAILS)
    ended = run(
        "-c",
        f"import sys; sys.path.insert(0, {str(tmp_path)!r}); import keras_tl.quiet\n"
        "import importlib.util\n"
        "assert importlib.util.find_spec('tensorflow') is not None\n"
        "import tensorflow",
    )
    assert ended.stderr == "F0000 No AVX here.\n"


@pytest.mark.parametrize("variable", ["HOME", "KERAS_HOME", "KERAS_TL_CACHE"])
def test_commands_that_write_nothing_need_no_folder_to_write_to(variable, tmp_path):
    (tmp_path / "file").touch()
    folder = {"HOME": str(tmp_path / "home"), variable: str(tmp_path / "file" / "x")}
    for command in (["list"], ["show", "quickstart"], ["cache", "list"]):
        ended = run("-m", "keras_tl", *command, **folder)
        assert (ended.returncode, ended.stderr) == (0, "")
    copied = run("-m", "keras_tl", "copy", "quickstart", tmp_path / "file" / "x")
    assert copied.returncode == 2
    assert "Cannot write to" in copied.stderr
    assert not (tmp_path / "home").exists()


def test_a_user_without_a_home_has_a_cache(monkeypatch):
    monkeypatch.delenv("KERAS_TL_CACHE")
    monkeypatch.delenv("XDG_CACHE_HOME", raising=False)
    # As for a user of a container that has no entry in /etc/passwd.
    monkeypatch.setattr(os.path, "expanduser", lambda path: path)
    assert files.cache_folder() == Path(tempfile.gettempdir(), "keras_tl")
    monkeypatch.undo()
    monkeypatch.delenv("KERAS_TL_CACHE", raising=False)
    monkeypatch.delenv("XDG_CACHE_HOME", raising=False)
    monkeypatch.setenv("HOME", "/somebody")
    assert files.cache_folder() == Path("/somebody/.cache/keras_tl")


def test_the_folder_of_keras_is_the_one_that_keras_takes(monkeypatch, tmp_path):
    module = Path(keras.__file__).parent / "src" / "backend" / "config.py"
    (tmp_path / "file").touch()
    for name, value in (
        ("KERAS_HOME", tmp_path / "keras"),
        ("HOME", tmp_path),
        ("HOME", tmp_path / "file" / "x"),
    ):
        with monkeypatch.context() as patch:
            patch.delenv("KERAS_HOME", raising=False)
            patch.setenv(name, str(value))
            # Keras decides when this module is loaded.
            theirs = runpy.run_path(str(module))["keras_home"]()
            assert theirs == str(environment.keras_folder())
