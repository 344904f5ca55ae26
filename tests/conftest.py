import gc
import importlib.util
import os
import shutil
import sys
import time
from pathlib import Path

# TensorFlow's messages at start-up would drown pytest's.
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import keras
import numpy as np
import pytest
from keras import layers

from benchmarks import tiny_recipes
from keras_tl import config
from keras_tl.analysis import summary
from keras_tl.config import RunSettings
from keras_tl.data import audio, text
from keras_tl.data.splits import Split, Splits, describe
from keras_tl.deploy import artifact, run_folder
from keras_tl.models import heads
from keras_tl.training import phases, placement

ROOT = Path(__file__).parents[1]

# What was imported stays: it is neither collected again, nor searched for models.
gc.collect()
gc.freeze()


@pytest.fixture(autouse=True)
def cache(monkeypatch, tmp_path):
    """A cache of features of each test's own: none finds what another has made."""
    monkeypatch.setenv("KERAS_TL_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"


@pytest.fixture(autouse=True)
def single_steps(monkeypatch):
    """Training step by step: several in one call take longer to compile than to run.

    Equal results of both are a test of their own; resuming is tested with several.
    """
    monkeypatch.setattr(placement, "SMALL_STEP", 0)


@pytest.fixture
def colours():
    """A toy set that can be learned: three classes, each of its own colour."""

    def split(count, seed):
        rng = np.random.default_rng(seed)
        labels = np.arange(count) % 3
        images = rng.integers(0, 100, (count, 8, 8, 3))
        images[np.arange(count), :, :, labels] += 100
        return Split(images.astype("uint8"), labels)

    return Splits(
        split(50, 0), split(20, 1), split(31, 2), ["red", "green", "blue"], "A toy set."
    )


@pytest.fixture
def make_backbone():
    """A tiny backbone with what real ones have: convolution, normalization, a skip."""

    def make(image_size=8):
        image = keras.Input((image_size, image_size, 3), name="image")
        x = layers.Rescaling(1 / 127.5, -1, name="preprocess")(image)
        x = layers.Conv2D(4, 3, padding="same", name="block1_conv")(x)
        x = layers.BatchNormalization(name="block1_bn")(x)
        x = layers.ReLU(name="block1_relu")(x)
        skip = x
        x = layers.Conv2D(4, 3, padding="same", name="block2_conv")(x)
        x = layers.BatchNormalization(name="block2_bn")(x)
        x = layers.Add(name="block2_add")([x, skip])
        return keras.Model(image, x, name="tiny")

    return make


@pytest.fixture(scope="session")
def script():
    """Function that loads a script of the repository as a module, by its path."""

    def load(path):
        spec = importlib.util.spec_from_file_location(Path(path).stem, ROOT / path)
        module = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(module)
        return module

    return load


@pytest.fixture
def call(monkeypatch):
    """Function that runs the command line in this process, and returns its status."""
    from keras_tl import cli, quiet

    # Of the terminal the tests are started from.
    monkeypatch.delenv("COLUMNS", raising=False)

    def run(*arguments):
        # The minutes of a command count from the start of its process.
        monkeypatch.setattr(quiet, "STARTED", time.perf_counter())
        monkeypatch.setattr(sys, "argv", ["keras-tl", *map(str, arguments)])
        try:
            cli.main()
        except SystemExit as ended:
            return ended.code or 0
        return 0

    return run


@pytest.fixture
def here():
    """Training on one device."""
    return phases.Setup(placement.choose(["CPU:0"]))


@pytest.fixture
def real_data():
    """The folder of real data; the test is skipped where there is none.

    `KERAS_TL_TEST_DATA` names it; it holds `data`, `weights` and `prepare.py`.
    """
    folder = os.environ.get("KERAS_TL_TEST_DATA")
    if not folder:
        pytest.skip("KERAS_TL_TEST_DATA names no folder with real data and weights")
    return Path(folder)


@pytest.fixture
def real_model(real_data):
    """Function that returns the folder of a model by its name, or skips the test.

    They are what `prepare.py` has fetched into `KERAS_TL_REAL`.
    """
    cache = os.environ.get("KERAS_TL_REAL", "~/.cache/keras_tl_real")

    def find(name):
        folder = Path(cache).expanduser() / name
        if not folder.is_dir():
            pytest.skip(f"{folder} is not there: python prepare.py {name}")
        return folder

    return find


@pytest.fixture(scope="session")
def tiny_whisper(tmp_path_factory):
    """A folder with a random Whisper of two layers, as Hugging Face lays it out."""
    pytest.importorskip("safetensors.numpy")
    return tiny_recipes.whisper(tmp_path_factory.mktemp("whisper"))


@pytest.fixture(scope="session")
def tiny_bert(tmp_path_factory):
    """A folder with a random BERT of two layers, as Hugging Face lays it out."""
    pytest.importorskip("safetensors.numpy")
    pytest.importorskip("keras_hub")
    return tiny_recipes.bert(tmp_path_factory.mktemp("bert"))


@pytest.fixture
def reviews(tmp_path):
    """A folder of tables of good and bad reviews that can be told apart."""
    return tiny_recipes.reviews(tmp_path / "reviews")


@pytest.fixture(scope="session")
def saved_run():
    """What `run` has made, for all tests."""
    return {}


@pytest.fixture
def run(saved_run, make_backbone, colours, tmp_path, tmp_path_factory):
    """Return a folder of the test's own with a saved run, and the model of the run."""
    if not saved_run:
        folder = tmp_path_factory.mktemp("saved") / "run"
        settings = RunSettings(seed=3, out=folder)
        run = config.start_run("test", settings, time.perf_counter(), describe(colours))
        keras.utils.set_random_seed(0)
        model = heads.attach(make_backbone(), 3)
        run_folder.save(
            run,
            model,
            data=colours,
            results=summary.evaluate_models({"model": (model, colours.test)}, colours),
            histories={
                "head": {"loss": [0.1, 0.05], "accuracy": [0.5, 0.6]},
                "fine-tuning": {"loss": [0.04], "accuracy": [0.7]},
            },
        )
        saved_run.update(folder=folder, model=model)
    shutil.copytree(saved_run["folder"], tmp_path / "run")
    return tmp_path / "run", saved_run["model"]


@pytest.fixture(scope="session")
def tones(tmp_path_factory):
    """A folder of low and of high tones, at 8 kHz; every fourth high one is low."""
    soundfile = pytest.importorskip("soundfile")
    folder = tmp_path_factory.mktemp("tones")
    times = np.arange(1_200) / 8_000
    rng = np.random.default_rng(0)
    for name, span in (("low", (100, 400)), ("high", (1500, 3000))):
        (folder / name).mkdir()
        for take in range(60):
            pitch = rng.uniform(*((100, 400) if take % 4 == 0 else span))
            wave = np.sin(2 * np.pi * pitch * times + rng.uniform(0, 6))
            wave *= np.hanning(len(times)) * rng.uniform(0.3, 0.9)
            soundfile.write(folder / name / f"{take}.wav", wave, 8_000)
    return folder


@pytest.fixture(scope="session")
def saved_sound(tones, tmp_path_factory):
    """A saved and converted run of a tiny model that tells tones apart; the model."""
    keras.utils.set_random_seed(0)
    data = audio.from_folder(tones, rate=8_000, seconds=0.2)
    wave = keras.Input((1_600,), name="wave")
    x = layers.Reshape((100, 16, 1), name="frames")(wave)
    x = layers.Conv2D(8, (1, 16), activation="relu", name="block1_conv")(x)
    model = heads.attach(keras.Model(wave, x, name="tiny_sound"), 2)
    setup = phases.Setup(placement.choose(["CPU:0"]), batch_size=16)
    phase = phases.Phase(epochs=15, learning_rate=0.05)
    history = phases.fit(model, data, setup, phase)
    folder = tmp_path_factory.mktemp("saved") / "run"
    run_folder.save(folder, model, data=data, histories={"head": history})
    artifact.load(folder).convert()
    return folder, model


@pytest.fixture
def sound_run(saved_sound, tmp_path):
    """Return a folder of the test's own with a run that takes sound, and its model."""
    shutil.copytree(saved_sound[0], tmp_path / "run")
    return tmp_path / "run", saved_sound[1]


@pytest.fixture
def text_run(tmp_path, monkeypatch):
    """Return the folder of a saved run whose model takes texts."""
    tokenizers = pytest.importorskip("tokenizers")
    words = {"[UNK]": 0, "good": 1, "bad": 2, "film": 3}
    model = tokenizers.models.WordLevel(words, unk_token="[UNK]")
    tokenizer = tokenizers.Tokenizer(model)
    tokenizer.pre_tokenizer = tokenizers.pre_tokenizers.Whitespace()
    tokenizer = text.Tokenizer(tokenizer.to_str(), 4)
    texts = ("good", "bad", "good film", "bad film")
    inputs = text.tokenize(text.Texts(texts), tokenizer)
    split = Split(inputs, np.array([1, 0, 1, 0]))
    keras.utils.set_random_seed(0)
    ids = keras.Input((4,), dtype="int32")
    x = keras.layers.Embedding(4, 3, embeddings_initializer="normal")(ids)
    x = keras.layers.Flatten()(x)
    model = keras.Model(ids, keras.layers.Dense(2)(x))
    monkeypatch.setattr("sys.argv", ["script.py"])
    data = Splits(split, split, split, ["bad", "good"], "Texts.")
    run_folder.save(tmp_path / "text", model, data=data)
    return tmp_path / "text"
