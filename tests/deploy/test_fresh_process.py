"""Runs of the recipes of texts and sound, used where they have not been trained."""

import json
import os
import subprocess
import sys
from pathlib import Path

import keras
import numpy as np
import pytest

from keras_tl.data import clips, text
from keras_tl.data.splits import Split, Splits
from keras_tl.deploy import artifact, run_folder
from keras_tl.models import audio_backbones, heads, text_backbones, word_vectors

ROOT = Path(__file__).parents[2]
# What only training, data, reports, exports and servers need.
UNWANTED = [
    *("keras_hub", "safetensors", "py3langid", "tensorflow_datasets", "datasets"),
    *("pandas", "pyarrow", "sklearn", "matplotlib", "jinja2", "onnx"),
    *("onnxruntime", "tf2onnx", "optuna", "fastapi", "uvicorn", "tensorboard"),
]
TEXTS = ("a good film", "the very bad plot", "dull", "fine and good .")
PROGRAM = """
import json, sys
unwanted, run, inputs, saved, by_keras = json.loads(sys.argv[1])
for name in unwanted:
    sys.modules[name] = None  # Importing it fails, and it is not installed.
import numpy as np
from keras_tl.deploy import artifact
loaded = artifact.load(run)
source = loaded.source(inputs)
batch = source.read(range(len(source)))
logits = loaded.model(batch) if by_keras else loaded.outputs(batch)["logits"]
np.savez(saved, logits=np.asarray(logits), answers=loaded.predict(inputs))
"""


def save(folder, model, inputs, monkeypatch):
    monkeypatch.setattr("sys.argv", ["script.py"])
    split = Split(inputs, [0, 1, 0, 1])
    data = Splits(split, split, split, ["one", "two"], "Made.")
    run_folder.save(folder, model, data=data)
    return artifact.load(folder)


def compare(loaded, inputs, logits, unwanted, tmp_path, by_keras):
    """Compare logits and answers with those of a process without some modules."""
    saved = tmp_path / "saved.npz"
    inputs = [str(one) for one in inputs]
    given = [unwanted, str(loaded.folder), inputs, str(saved), by_keras]
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM, json.dumps(given)],
        env={**os.environ, "PYTHONPATH": str(ROOT), "TF_CPP_MIN_LOG_LEVEL": "3"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    theirs = np.load(saved)
    np.testing.assert_array_equal(theirs["logits"], logits)
    np.testing.assert_array_equal(theirs["answers"], loaded.predict(inputs))
    assert np.ptp(logits) > 0


@pytest.mark.slow
def test_word_vectors_need_nothing_but_a_tokenizer(tmp_path, monkeypatch):
    pytest.importorskip("tokenizers")
    words = text.vocabulary(TEXTS)
    vectors = np.random.default_rng(0).normal(size=(len(words), 6))
    backbone = word_vectors.build(vectors, sequence_length=8)
    model = heads.attach_mlp(backbone, 2, hidden=(4,), dropout=0.0)
    tokenizer = text.Tokenizer.of_words(words, 8)
    inputs = text.tokenize(text.Texts(TEXTS), tokenizer)
    loaded = save(tmp_path / "run", model, inputs, monkeypatch)
    logits = np.asarray(model(inputs.read(range(4))))
    unwanted = [*UNWANTED, "soundfile", "soxr", "ai_edge_litert"]
    compare(loaded, TEXTS, logits, unwanted, tmp_path, by_keras=True)


@pytest.mark.slow
def test_a_converted_encoder_needs_nothing_but_its_tokenizer(
    tiny_bert, tmp_path, monkeypatch
):
    pytest.importorskip("ai_edge_litert")
    encoder = text_backbones.load(tiny_bert, sequence_length=12)
    model = heads.attach(encoder, 2)
    tokenizer = text.Tokenizer.of_model(tiny_bert, 12)
    inputs = text.tokenize(text.Texts(TEXTS), tokenizer)
    loaded = save(tmp_path / "run", model, inputs, monkeypatch)
    loaded.convert()
    batch = inputs.read(range(4))
    logits = loaded.outputs(batch)["logits"]
    np.testing.assert_allclose(logits, model(batch), atol=1e-5)
    unwanted = [*UNWANTED, "soundfile", "soxr", "keras", "tensorflow"]
    compare(loaded, TEXTS, logits, unwanted, tmp_path, by_keras=False)


@pytest.mark.slow
def test_a_speech_embedding_needs_nothing_but_what_reads_sound(tmp_path, monkeypatch):
    soundfile = pytest.importorskip("soundfile")
    keras.utils.set_random_seed(0)
    model = heads.attach(audio_backbones.speech_embedding(None), 2)
    paths = [tmp_path / f"{number}.wav" for number in range(4)]
    for number, path in enumerate(paths):
        times = np.arange(8_000) / 16_000
        soundfile.write(path, 0.5 * np.sin(600 * (number + 1) * times), 16_000)
    sounds = clips.Clips(tuple(paths), 16_000, audio_backbones.SAMPLES)
    loaded = save(tmp_path / "run", model, sounds, monkeypatch)
    logits = np.asarray(model(sounds.read(range(4))))
    # The weights came from a file of LiteRT.
    unwanted = [*UNWANTED, "tokenizers", "ai_edge_litert"]
    compare(loaded, paths, logits, unwanted, tmp_path, by_keras=True)
