"""A compiled classifier says what the model says, and is never another model's."""

import os
import pickle
import subprocess
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import keras
import numpy as np
import pytest
from PIL import Image

from keras_tl import errors, files
from keras_tl.deploy import artifact, compiled
from keras_tl.models import backbones, heads

ROOT = Path(__file__).parents[2]
PIXELS = np.random.default_rng(0).integers(0, 256, (5, 8, 8, 3), dtype="uint8")


@pytest.mark.parametrize("build", [compiled.traced, compiled.frozen])
def test_a_compiled_function_gives_the_models_logits(run, build):
    run_compiled = build(run[1])
    wanted = run[1].predict_on_batch(PIXELS)
    for count in (5, 1):
        logits = run_compiled(PIXELS[:count])["logits"]
        np.testing.assert_allclose(logits, wanted[:count], atol=1e-5)


def test_litert_gives_the_models_logits(run):
    folder, model = run
    compiled.convert(model, folder, "hash")
    logits = compiled.litert(folder)(PIXELS)["logits"]
    np.testing.assert_allclose(logits, model.predict_on_batch(PIXELS), atol=1e-5)


@pytest.mark.filterwarnings("ignore::keras_tl.errors.InputWarning")
@pytest.mark.slow
@pytest.mark.parametrize("precision", ["mixed_bfloat16", "mixed_float16"])
def test_a_model_of_16_bits_is_converted_to_one_of_32(precision, tmp_path):
    # With what is odd in backbones: depthwise kernels, relu6, preprocessing.
    keras.utils.set_random_seed(0)
    before = keras.config.dtype_policy()
    keras.config.set_dtype_policy(precision)
    try:
        backbone = backbones.load("mobilenet_v2", weights=None, image_size=32)
        model = heads.attach(backbone, 3)
    finally:
        keras.config.set_dtype_policy(before)
    compiled.convert(model, tmp_path, "hash")
    images = np.random.default_rng(0).integers(0, 256, (5, 32, 32, 3), dtype="uint8")
    logits = compiled.litert(tmp_path)(images)["logits"]
    wanted = model.predict_on_batch(images)
    assert np.abs(logits - wanted).max() < 0.05 * np.abs(wanted).max() + 0.01


def test_a_converted_run_is_used_without_tensorflow_and_keras(run, tmp_path):
    folder, _ = run
    loaded = artifact.load(folder)
    before = loaded.predict(PIXELS)
    assert not loaded.is_converted
    loaded.convert()
    assert loaded.is_converted
    np.testing.assert_allclose(loaded.predict(PIXELS), before, atol=1e-5)
    Image.fromarray(PIXELS[0]).save(tmp_path / "one.png")
    code = (
        "import sys; from keras_tl import cli\n"
        f"sys.argv = ['keras-tl', 'predict', {str(folder)!r}, 'one.png', '--top=3']\n"
        "cli.main()\n"
        "assert not {'tensorflow', 'keras', 'sklearn'} & set(sys.modules)"
    )
    ended = subprocess.run(
        [sys.executable, "-c", code],
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=False,
    )
    assert ended.returncode == 0, ended.stderr
    for name, probability in zip(loaded.class_names, before[0], strict=True):
        rows = [line.split("\t") for line in ended.stdout.splitlines()]
        (value,) = (row[2] for row in rows if row[1] == name)
        assert float(value) == pytest.approx(probability, abs=1e-5)


def test_without_litert_tensorflow_runs_the_converted_model(run, monkeypatch):
    folder, model = run
    monkeypatch.setattr(compiled, "has_litert", lambda: False)
    loaded = artifact.load(folder)
    assert loaded.runtime == "TensorFlow"
    loaded.convert()
    again = artifact.load(folder)
    assert again.runtime == "the LiteRT in TensorFlow"
    wanted = again.rules.values(model.predict_on_batch(PIXELS), "softmax")
    np.testing.assert_allclose(again.predict(PIXELS), wanted, atol=1e-5)
    # Keras has not loaded the model.
    assert "model" not in again.__dict__


def test_a_conversion_of_another_model_is_not_used(run):
    folder, model = run
    compiled.convert(model, folder, "hash")
    assert compiled.converted(folder, "hash")
    assert not compiled.converted(folder, "another")
    content = (folder / compiled.LITERT).read_bytes()
    (folder / compiled.LITERT).write_bytes(content[:-1])
    assert not compiled.converted(folder, "hash")
    assert not artifact.load(folder).is_converted


def test_what_is_converted_is_not_converted_again(run, monkeypatch):
    loaded = artifact.load(run[0])
    loaded.convert()
    before = files.sha256(run[0] / compiled.LITERT)
    monkeypatch.setattr(compiled, "convert", lambda *_: pytest.fail("converted"))
    artifact.load(run[0]).convert()
    assert files.sha256(run[0] / compiled.LITERT) == before


def test_without_litert_it_is_said_what_to_install(run, monkeypatch):
    monkeypatch.setattr(errors.importlib.util, "find_spec", lambda name: None)
    with pytest.raises(errors.InputError, match=r"pip install .keras-tl\[export"):
        artifact.load(run[0]).convert()
    assert not compiled.has_litert()
    assert artifact.load(run[0]).predict(PIXELS).shape == (5, 3)


def with_bad_examples(folder, bad):
    """Load a run whose model returns NaN for images that begin with one of `bad`."""
    loaded = artifact.load(folder)
    run_compiled = loaded._compiled

    def some_are_bad(images):
        outputs = run_compiled(images)
        logits = outputs["logits"].copy()
        logits[np.isin(images[:, 0, 0, 0], bad), 1] = np.inf
        return {**outputs, "logits": logits}

    loaded.__dict__["_compiled"] = some_are_bad
    return loaded


def test_examples_without_an_answer_are_named_and_the_others_can_be_predicted(run):
    images = np.tile(PIXELS[:1], (70, 1, 1, 1))
    images[:, 0, 0, 0] = np.arange(70)
    loaded = with_bad_examples(run[0], [2, 40, 41, 42, 50, 60, 69])
    message = r"7 of 70 examples, those with the index 2, 40, 41, 42, 50, \.\.\.\.$"
    with pytest.raises(artifact.NotFiniteError, match=message) as raised:
        loaded.predict(images)
    assert "diverged" not in str(raised.value)
    assert raised.value.examples == (2, 40, 41, 42, 50, 60, 69)
    rest = loaded.predict(np.delete(images, raised.value.examples, axis=0))
    assert np.isfinite(rest).all()
    copied = pickle.loads(pickle.dumps(raised.value))
    assert copied.examples == raised.value.examples


def test_a_model_that_returns_no_number_at_all_has_diverged(run):
    loaded = with_bad_examples(run[0], PIXELS[:, 0, 0, 0])
    with pytest.raises(artifact.NotFiniteError, match="training diverged") as raised:
        loaded.predict(PIXELS)
    assert raised.value.examples == (0, 1, 2, 3, 4)


@pytest.mark.parametrize("with_litert", [True, False])
def test_threads_share_a_model_that_one_of_them_loads(run, monkeypatch, with_litert):
    if with_litert:
        artifact.load(run[0]).convert()
    else:
        monkeypatch.setattr(compiled, "has_litert", lambda: False)
    images = np.random.default_rng(1).integers(0, 256, (48, 4, 8, 8, 3), dtype="uint8")
    alone = artifact.load(run[0])
    wanted = [alone.predict(four) for four in images]
    loads, load_model = [], artifact.load_model

    def slow_load(path):
        loads.append(path)
        time.sleep(0.1)
        return load_model(path)

    monkeypatch.setattr(artifact, "load_model", slow_load)
    shared, start = artifact.load(run[0]), threading.Barrier(16)

    def predict(part):
        start.wait()
        return [shared.predict(four) for four in part]

    with ThreadPoolExecutor(16) as pool:
        parts = list(pool.map(predict, np.split(images, 16)))
    np.testing.assert_allclose(np.concatenate(parts), wanted, atol=1e-6)
    assert len(loads) == (0 if with_litert else 1)


def test_weights_become_constants_only_where_many_images_are_predicted(
    run, monkeypatch
):
    monkeypatch.setattr(compiled, "has_litert", lambda: False)
    frozen, calls = compiled.frozen, []
    monkeypatch.setattr(compiled, "frozen", lambda m: calls.append(m) or frozen(m))
    loaded = artifact.load(run[0])
    few = loaded.predict(PIXELS)
    assert not calls
    many = np.tile(PIXELS, (artifact.MANY // 5 + 1, 1, 1, 1))
    for _ in range(2):
        np.testing.assert_allclose(loaded.predict(many)[:5], few, atol=1e-6)
    assert len(calls) == 1


def test_conversion_serves_the_next_prediction_of_the_same_artefact(run, monkeypatch):
    loaded = artifact.load(run[0])
    loaded.predict(PIXELS)
    loaded.convert()
    opened, litert = [], compiled.litert
    monkeypatch.setattr(compiled, "litert", lambda f: opened.append(f) or litert(f))
    loaded.predict(PIXELS)
    assert opened == [run[0]]
