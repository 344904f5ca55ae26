import json
import zipfile

import keras
import numpy as np
import pytest

from keras_tl import errors, files
from keras_tl.analysis import evaluation
from keras_tl.deploy import artifact, run_folder
from keras_tl.models import heads, saving

PIXELS = np.random.default_rng(0).integers(0, 256, (5, 8, 8, 3), dtype="uint8")


def test_a_study_is_no_classifier(tmp_path):
    files.write_json(tmp_path / "manifest.json", {"recipe": "few_labels", "trials": []})
    with pytest.raises(errors.InputError, match=r"study.*trials\.csv"):
        artifact.load(tmp_path)


def test_loaded_model_predicts_bit_equal(run):
    folder, model = run
    loaded = artifact.load(folder)
    np.testing.assert_array_equal(
        loaded.model.predict_on_batch(PIXELS), model.predict_on_batch(PIXELS)
    )
    assert loaded.class_names == ("red", "green", "blue")
    assert loaded.image_size == 8


def test_plain_keras_can_load_the_model_too(run):
    folder, model = run
    plain = keras.saving.load_model(folder / "model.keras", custom_objects={})
    np.testing.assert_array_equal(plain(PIXELS), model(PIXELS))


def test_probabilities_are_those_of_the_logits_for_images_of_any_size(run):
    loaded = artifact.load(run[0])
    probabilities = loaded.predict(PIXELS, batch_size=2)
    assert probabilities.shape == (5, 3)
    np.testing.assert_allclose(probabilities.sum(1), 1, atol=1e-6)
    logits = keras.ops.convert_to_numpy(run[1](PIXELS))
    np.testing.assert_array_equal(probabilities.argmax(1), logits.argmax(1))
    large = np.repeat(np.repeat(PIXELS, 3, axis=1), 3, axis=2)
    assert loaded.predict(large).shape == (5, 3)
    assert loaded.predict(PIXELS[:0]).shape == (0, 3)


def test_run_folder_holds_what_is_needed_to_trust_it(run):
    folder, _ = run
    manifest = json.loads((folder / "manifest.json").read_text())
    assert manifest["seed"] == 3
    assert manifest["model_sha256"] == files.sha256(folder / "model.keras")
    assert {"date", "machine", "versions", "input", "output"} <= set(manifest)
    lines = (folder / "history.csv").read_text().splitlines()
    assert lines[0] == "phase,epoch,loss,accuracy"
    assert len(lines) == 4


def test_without_a_manifest_the_run_is_not_finished(run):
    (run[0] / "manifest.json").unlink()
    with pytest.raises(errors.InputError, match="finished run"):
        artifact.load(run[0])


def rezip(path, change, name="config.json"):
    """Write the archive again with a part of it changed."""
    with zipfile.ZipFile(path) as archive:
        parts = {name: archive.read(name) for name in archive.namelist()}
    parts[name] = change(parts[name])
    with zipfile.ZipFile(path, "w") as archive:
        for part, content in parts.items():
            archive.writestr(part, content)


@pytest.mark.parametrize(
    ("saved_by", "named"),
    [("99.1.0", True), (keras.__version__, False), ("; rm", False)],
)
def test_a_file_of_another_keras_that_cannot_be_loaded_names_both_versions(
    run, saved_by, named
):
    path = run[0] / "model.keras"
    metadata = json.dumps({"keras_version": saved_by}).encode()
    rezip(path, lambda old: metadata, "metadata.json")
    # As a newer Keras may write: it loads where nothing is unknown.
    assert artifact.load_model(path).count_params()
    rezip(path, lambda old: old.replace(b'"Dense"', b'"Denser"'))
    with pytest.raises(errors.InputError, match="cannot be loaded") as raised:
        artifact.load_model(path)
    versions = f"saved by Keras {saved_by}, and this is Keras {keras.__version__}"
    assert (versions in str(raised.value)) == named
    assert ("pip install" in str(raised.value)) == named


def truncate(path):
    path.write_bytes(path.read_bytes()[:-200])


def flip_a_bit(path):
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(bytes(content))


def add_lambda(path):
    model = keras.Sequential([keras.Input((2,)), keras.layers.Lambda(lambda x: x)])
    model.save(path)


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (truncate, "truncated, damaged or no .keras file"),
        (lambda path: path.write_bytes(b""), "is empty"),
        (lambda path: path.write_bytes(b"no zip"), "no .keras file"),
        (lambda path: path.unlink(), "There is no model file"),
        (flip_a_bit, "is damaged"),
        (lambda path: rezip(path, lambda old: b"{"), "damaged"),
        (lambda path: rezip(path, lambda old: b"{}"), "cannot be loaded"),
        (add_lambda, "holds a Lambda layer"),
        (lambda path: rezip(path, lambda old: old + b" "), "not the file this run"),
    ],
)
def test_a_damaged_or_hostile_model_file_is_one_clear_sentence(run, damage, message):
    damage(run[0] / "model.keras")
    with pytest.raises(errors.InputError, match=message) as raised:
        artifact.load(run[0])
    assert "model.keras" in str(raised.value)


def test_disk_full_while_saving_leaves_the_old_model(run, monkeypatch):
    folder, model = run
    before = files.sha256(folder / "model.keras")

    def full(self, path, **options):
        path.write_bytes(b"half")
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(keras.Model, "save", full)
    with pytest.raises(errors.InputError, match=r"No space left.*unchanged"):
        saving.save(model, folder / "model.keras")
    assert files.sha256(folder / "model.keras") == before
    assert not list(folder.glob(".model*"))


def test_images_of_another_kind_are_refused(run):
    loaded = artifact.load(run[0])
    with pytest.raises(errors.InputError, match=r"uint8.*Received: float64"):
        loaded.predict(PIXELS / 255)


def test_a_script_of_ones_own_saves_a_model_with_its_data_and_a_folder(
    make_backbone, colours, tmp_path, monkeypatch
):
    monkeypatch.setattr("sys.argv", ["my_script.py"])
    model = heads.attach(make_backbone(), 3)
    metrics = run_folder.save(tmp_path / "new" / "run", model, data=colours)
    assert set(metrics["models"]) == {"model"}
    loaded = artifact.load(tmp_path / "new" / "run")
    assert loaded.manifest["recipe"] == "my_script"
    pixels = colours.test.inputs.pixels
    np.testing.assert_allclose(
        loaded.predict(pixels), evaluation.softmax(model.predict(pixels)), atol=1e-5
    )
    report = (tmp_path / "new" / "run" / "report.html").read_text()
    assert "python my_script.py" in report
    with pytest.raises(errors.InputError, match="does not exist yet"):
        run_folder.save(tmp_path / "new" / "run", model, data=colours)
