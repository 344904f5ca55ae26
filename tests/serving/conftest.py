import pytest

from keras_tl.deploy import artifact


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
