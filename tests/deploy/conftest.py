import time

import keras
import pytest

from keras_tl import config
from keras_tl.analysis import summary
from keras_tl.config import RunSettings
from keras_tl.data.splits import describe
from keras_tl.deploy import run_folder
from keras_tl.models import heads


@pytest.fixture
def run(make_backbone, colours, tmp_path):
    settings = RunSettings(seed=3, out=tmp_path / "run")
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
    return run.folder, model
