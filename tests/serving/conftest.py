import pytest

from keras_tl import files
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


@pytest.fixture
def change_rules():
    """Function that changes how logits become answers, as an update of the run does."""

    def change(folder, **changes):
        files.write_json(
            folder / "answers.json", files.read_json(folder / "answers.json") | changes
        )
        manifest = files.read_json(folder / "manifest.json")
        manifest["files_sha256"]["answers.json"] = files.sha256(folder / "answers.json")
        files.write_json(folder / "manifest.json", manifest)

    return change
