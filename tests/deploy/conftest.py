import shutil
import time

import keras
import numpy as np
import pytest

from keras_tl import config
from keras_tl.analysis import summary
from keras_tl.config import RunSettings
from keras_tl.data import text
from keras_tl.data.splits import Split, Splits, describe
from keras_tl.deploy import artifact, run_folder
from keras_tl.models import heads


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


@pytest.fixture
def served(run, saved_run):
    """Return the folder of a run that LiteRT can serve; converted once."""
    folder, _ = run
    names = ("model.tflite", "model.tflite.json")
    if "converted" not in saved_run:
        artifact.load(folder).convert()
        saved_run["converted"] = [(folder / name).read_bytes() for name in names]
    for name, content in zip(names, saved_run["converted"], strict=True):
        (folder / name).write_bytes(content)
    return folder
