"""A compiled classifier says what the model says, and is never another model's."""

import os
import subprocess
import sys
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


def test_a_frozen_function_gives_the_models_logits(run):
    logits = compiled.frozen(run[1])
    wanted = run[1].predict_on_batch(PIXELS)
    np.testing.assert_allclose(logits(PIXELS), wanted, atol=1e-5)
    np.testing.assert_allclose(logits(PIXELS[:1]), wanted[:1], atol=1e-5)


def test_litert_gives_the_models_logits(run):
    folder, model = run
    compiled.convert(model, folder, "hash")
    found = compiled.litert(folder)(PIXELS)
    np.testing.assert_allclose(found, model.predict_on_batch(PIXELS), atol=1e-5)


@pytest.mark.filterwarnings("ignore::keras_tl.errors.InputWarning")
@pytest.mark.parametrize(
    "precision",
    ["mixed_bfloat16", pytest.param("mixed_float16", marks=pytest.mark.slow)],
)
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
    found = compiled.litert(tmp_path)(images)
    wanted = model.predict_on_batch(images)
    assert np.abs(found - wanted).max() < 0.05 * np.abs(wanted).max() + 0.01


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
        (line,) = (line for line in ended.stdout.splitlines() if f" {name} " in line)
        assert f"{probability:.3f}" in line


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


def test_a_model_that_diverged_is_said(run):
    folder, _ = run
    loaded = artifact.load(folder)
    loaded.__dict__["_logits"] = lambda images: np.full((len(images), 3), np.nan)
    with pytest.raises(errors.InputError, match="training diverged"):
        loaded.predict(PIXELS)
