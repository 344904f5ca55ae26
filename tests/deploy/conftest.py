from types import SimpleNamespace

import keras
import pytest

from keras_tl import files
from keras_tl.analysis import summary
from keras_tl.deploy import artifact
from keras_tl.models import heads


@pytest.fixture
def run(make_backbone, colours, tmp_path):
    folder = files.new_folder(tmp_path / "run")
    files.write_json(folder / "config.json", {"epochs": 2})
    keras.utils.set_random_seed(0)
    model = heads.attach(make_backbone(), 3)
    artifact.save(
        folder,
        model,
        recipe="test",
        settings=SimpleNamespace(seed=3, resume=None),
        data=colours,
        results=summary.test({"model": (model, colours.test)}, colours),
        histories={
            "head": {"loss": [0.1, 0.05], "accuracy": [0.5, 0.6]},
            "fine-tuning": {"loss": [0.04], "accuracy": [0.7]},
        },
        seconds=1.0,
    )
    return folder, model
