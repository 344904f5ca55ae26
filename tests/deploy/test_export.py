"""An export says what its run says, alone; one that does not is not written."""

import io
import json
import os
import runpy
import shutil
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path

import keras
import numpy as np
import pytest
from PIL import Image

from keras_tl import cli, config, errors, files
from keras_tl.analysis import calibration
from keras_tl.commands import settings
from keras_tl.config import RunSettings
from keras_tl.data import datasets, images, splits
from keras_tl.data.settings import DataSettings
from keras_tl.deploy import (
    answers,
    artifact,
    conversion,
    exemplars,
    export,
    exported,
    run_folder,
)
from keras_tl.models import heads

FAST = ("litert", "onnx")
HEAVY = ("savedmodel", "keras")
# What `predict.py` of a format must not import.
NOT_NEEDED = {
    "litert": ("keras_tl", "keras", "tensorflow", "onnxruntime"),
    "litert-int8": ("keras_tl", "keras", "tensorflow", "onnxruntime"),
    "onnx": ("keras_tl", "keras", "tensorflow", "ai_edge_litert"),
    "savedmodel": ("keras_tl", "ai_edge_litert", "onnxruntime"),
    "keras": ("keras_tl", "ai_edge_litert", "onnxruntime"),
}


@dataclass(frozen=True)
class Settings(RunSettings, DataSettings):
    """A tiny run"""


@pytest.fixture(scope="module")
def saved(tmp_path_factory):
    """Return a folder with a run on the sample of CIFAR-10."""
    folder = tmp_path_factory.mktemp("saved") / "run"
    chosen = Settings(limit=60, out=folder)
    data = datasets.from_settings(chosen)
    run = config.start_run("tiny", chosen, time.perf_counter(), splits.describe(data))
    keras.utils.set_random_seed(0)
    image = keras.Input((16, 16, 3), name="image")
    x = keras.layers.Rescaling(1 / 64, -2)(image)
    for strides in (1, 2):
        x = keras.layers.Conv2D(8, 3, strides, padding="same")(x)
        x = keras.layers.BatchNormalization()(x)
        x = keras.layers.ReLU(6.0)(x)
    model = heads.attach(keras.Model(image, x), 10)
    # Answers that differ, without training.
    model.layers[-1].kernel.assign(8 * model.layers[-1].kernel)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("KERAS_TL_CACHE", str(folder.parent / "cache"))
        run_folder.save(run, model, data=data.at_size(16))
    return folder


@pytest.fixture
def run(saved, tmp_path):
    """Return a copy of the run of the test's own."""
    shutil.copytree(saved, tmp_path / "run")
    return tmp_path / "run"


def change(folder, rules=None, **manifest):
    """Change what a run says of itself, as if it had been saved so."""
    path = folder / "manifest.json"
    known = files.read_json(path)
    if rules is not None:
        kept = {**vars(rules), "abstain": rules.abstain and vars(rules.abstain)}
        files.write_json(folder / answers.RULES, kept)
        known["files_sha256"][answers.RULES] = files.sha256(folder / answers.RULES)
    files.write_json(path, {**known, **manifest})


@pytest.fixture(scope="module")
def photos(tmp_path_factory):
    """Return photos of every kind: turned, grey, CMYK, 16 bits, transparent, large."""
    folder = tmp_path_factory.mktemp("photos")
    tile = datasets.sample().test.inputs.pixels[:12].reshape(3, 4, 32, 32, 3)
    pixels = tile.swapaxes(1, 2).reshape(96, 128, 3)
    photo = Image.fromarray(pixels)
    photo.save(folder / "plain.jpg")
    photo.resize((1700, 1300), Image.Resampling.BICUBIC).save(folder / "large.jpg")
    photo.convert("L").save(folder / "grey.png")
    photo.convert("P").save(folder / "palette.png")
    photo.convert("CMYK").save(folder / "cmyk.jpg")
    deep = np.asarray(photo.convert("L")).astype("uint16") * 257
    Image.fromarray(deep).save(folder / "deep.png")
    clear = photo.convert("RGBA")
    clear.putalpha(photo.convert("L"))
    clear.save(folder / "clear.png")
    photo.crop((0, 0, 40, 96)).save(folder / "tall.png")
    for turn in range(1, 9):
        exif = Image.Exif()
        exif[0x0112] = turn
        photo.save(folder / f"turned{turn}.jpg", exif=exif)
    return sorted(folder.iterdir())


def alone(folder, inputs, hidden):
    """Run `predict.py` in a process of its own that cannot import `hidden`."""
    code = (
        "import runpy, sys\n"
        f"sys.modules.update(dict.fromkeys({hidden!r}))\n"
        f"sys.argv = ['predict.py', *{[str(one) for one in inputs]!r}]\n"
        f"runpy.run_path({str(folder / 'predict.py')!r}, run_name='__main__')\n"
    )
    ended = subprocess.run(
        [sys.executable, "-I", "-c", code],
        cwd=folder.parent,
        capture_output=True,
        text=True,
        env={**os.environ, "TF_CPP_MIN_LOG_LEVEL": "3"},
        check=False,
    )
    assert ended.returncode == 0, ended.stderr
    return [line.split("\t") for line in ended.stdout.splitlines()]


def export_unsure(run, format, out, inputs):
    """Export a run that is sure of some of the inputs, and to which some are unlike."""
    change(run, calibration.Rules(1.7, unlike=1.0))
    given = artifact.load(run).answer(inputs)
    low, high = np.unique(given.values.max(axis=1).round(3))[[0, -1]]
    limit = calibration.Abstaining(0.95, float(low + high) / 2, 0.5)
    far = float(given.unlike.min() + given.unlike.max()) / 2
    change(run, calibration.Rules(1.7, limit, unlike=far))
    return export.export(run, format, out)


def check_alone(run, out, format, inputs):
    """Compare what `predict.py` prints with what the run answers."""
    model = artifact.load(run)
    given = model.answer(inputs)
    rows = alone(out, inputs, NOT_NEEDED[format])
    assert [row[0] for row in rows] == [str(one) for one in inputs]
    for row, values, note in zip(rows, given.values, given.notes, strict=True):
        assert row[1] == model.class_names[values.argmax()]
        assert float(row[2]) == pytest.approx(values.max(), abs=1e-4)
        assert row[3] == note
    assert 0 < given.is_sure.sum() < len(inputs)
    assert 0 < (given.unlike > 1).sum() < len(inputs)


@pytest.mark.parametrize("format", FAST)
def test_an_export_answers_alone_what_its_run_answers(run, photos, format, tmp_path):
    contract = export_unsure(run, format, tmp_path / "new", photos)
    check_alone(run, tmp_path / "new", format, photos)
    assert contract == files.read_json(tmp_path / "new/contract.json")
    assert contract["parity"]["agreement"] == 1
    assert contract["parity"]["examples"] == 60
    assert contract["parity"]["origin"] == "validation examples of the run"
    assert contract["parity"]["difference"] < 1e-4 * contract["parity"]["largest"]
    assert contract["class_names"] == files.read_json(run / "classes.json")
    assert contract["run"]["model_sha256"] == files.sha256(run / "model.keras")
    assert contract["input"]["shape"] == [16, 16, 3]
    for name, one in contract["files"].items():
        assert files.sha256(tmp_path / "new" / name) == one["sha256"]
    assert oct((tmp_path / "new").stat().st_mode & 0o777) == oct(0o777 & ~umask())


def umask():
    mask = os.umask(0)
    os.umask(mask)
    return mask


@pytest.mark.slow
@pytest.mark.parametrize("format", HEAVY)
def test_so_does_one_that_needs_tensorflow(run, photos, format, tmp_path):
    export_unsure(run, format, tmp_path / "new", photos)
    check_alone(run, tmp_path / "new", format, photos)


@pytest.mark.parametrize("format", HEAVY)
def test_logits_of_all_formats_are_those_of_the_model(run, format, tmp_path):
    contract = export.export(run, format, tmp_path / "new")
    assert contract["parity"]["agreement"] == 1
    assert contract["parity"]["difference"] < 1e-4 * contract["parity"]["largest"]


@pytest.mark.parametrize("rule", images.RESIZE)
def test_the_program_prepares_every_image_as_training_did(
    run, photos, rule, tmp_path, monkeypatch
):
    spec = files.read_json(run / "manifest.json")["input"]
    change(run, input={**spec, "resize": images.RESIZE[rule]})
    # What it is prepared for does not matter here.
    export.export(run, "litert", tmp_path / "new")
    prepare = runpy.run_path(str(tmp_path / "new/predict.py"))["prepare"]
    for photo in photos:
        found = prepare(photo)
        assert found.dtype == np.float32
        np.testing.assert_array_equal(found, images.decode(photo, 16, rule))


def test_a_model_that_the_runtime_refuses_is_named(tmp_path):
    (tmp_path / "predict.py").write_text("raise RuntimeError('no such node 7')")
    with pytest.raises(errors.InputError, match="cannot run the model in .*node 7"):
        exported.load(tmp_path)


@pytest.mark.slow
def test_the_programs_are_short_and_need_nothing_of_ours(run, tmp_path):
    for format in export.FORMATS:
        export.export(run, format, tmp_path / format, agreement=0.5)
        program = (tmp_path / format / "predict.py").read_text()
        code = [line for line in program.splitlines() if line.strip()]
        assert len(code) < 90
        assert max(map(len, code)) <= 88
        assert "keras_tl" not in program


def test_a_bad_file_keeps_the_program_from_no_other_answer(run, photos, tmp_path):
    export.export(run, "litert", tmp_path / "new", agreement=0.5)
    (tmp_path / "bad.jpg").write_text("no image")
    good = photos[0]
    program = [sys.executable, tmp_path / "new" / "predict.py"]
    ended = subprocess.run(
        [*program, tmp_path / "bad.jpg", good], capture_output=True, text=True
    )
    assert ended.returncode == 1
    assert ended.stdout.startswith(f"{good}\t")
    assert "bad.jpg: cannot identify" in ended.stderr
    assert "Traceback" not in ended.stderr
    ended = subprocess.run(program, capture_output=True, text=True)
    assert ended.returncode == 1
    assert "python predict.py photo.jpg" in ended.stderr


def test_int8_is_calibrated_on_training_images_and_tested_beside_float(
    run, tmp_path, capsys
):
    contract = export.export(run, "litert-int8", tmp_path / "new", agreement=0.7)
    from ai_edge_litert.interpreter import Interpreter

    interpreter = Interpreter(str(tmp_path / "new/model.tflite"))
    kernels = [
        details
        for details in interpreter.get_tensor_details()
        if details["dtype"] == np.int8 and len(details["shape"]) == 4
    ]
    per_channel = [len(k["quantization_parameters"]["scales"]) for k in kernels]
    assert 8 in per_channel
    measured = contract["accuracy"]
    assert measured["test_examples"] == 60
    gain = measured["comparison"]["difference"]
    assert gain == pytest.approx(measured["int8"]["value"] - measured["float"]["value"])
    assert "test examples: float" in capsys.readouterr().out


def test_int8_judges_by_what_int8_itself_makes_of_training_images(run, tmp_path):
    contract = export.export(run, "litert-int8", tmp_path / "new", agreement=0.7)
    program = runpy.run_path(str(tmp_path / "new/predict.py"))
    data = datasets.from_settings(Settings(limit=60)).at_size(16)
    train, validation = (
        program["outputs"](split.read(range(60)).astype("float32"))["embedding"]
        for split in (data.train, data.validation)
    )
    known = np.load(tmp_path / "new" / contract["unlike"]["examples"])
    np.testing.assert_allclose(np.sort(known, 0), np.sort(train, 0), atol=2e-3)
    # As many validation examples are within as `unlike.threshold` promises.
    assert np.mean(program["are_unlike"](validation)) == pytest.approx(0.05, abs=0.02)


@pytest.mark.slow
def test_images_of_ones_own_serve_where_the_data_are_gone(
    run, photos, tmp_path, call, capsys
):
    changed = files.read_json(run / "config.json")
    files.write_json(run / "config.json", {**changed, "data": "gone"})
    (run / exemplars.FILE).unlink()
    assert call("export", run, "--format", "litert-int8") == 2
    said = capsys.readouterr().err
    assert "needs representative examples" in said
    assert "--examples" in said
    assert sorted(os.listdir(tmp_path)) == ["run"]
    flags = ("--examples", photos[0].parent, "--agreement", 0.5)
    assert call("export", run, "--format", "litert-int8", *flags) == 0
    contract = files.read_json(tmp_path / "run-litert-int8/contract.json")
    assert contract["parity"]["origin"].startswith("images of photos")
    # Without data there is no test split.
    assert "accuracy" not in contract
    assert call("export", run) == 0
    assert "sample of CIFAR-10" in capsys.readouterr().out


@pytest.mark.parametrize("format", ["litert", "litert-int8", "onnx"])
def test_an_export_that_differs_is_not_written(run, format, tmp_path, monkeypatch):
    real = getattr(conversion, format.partition("-")[0])

    def broken(model, *arguments):
        other = keras.models.clone_model(model)
        real(other, *arguments)

    monkeypatch.setattr(conversion, format.partition("-")[0], broken)
    before = sorted(os.listdir(tmp_path))
    with pytest.raises(errors.InputError, match="differs from its model") as raised:
        export.export(run, format, tmp_path / "new")
    assert "60 examples" in str(raised.value)
    assert sorted(os.listdir(tmp_path)) == before


def test_a_tolerance_decides_what_is_written(run, tmp_path, call, capsys):
    assert call("export", run, "--tolerance", "1e-30") == 2
    assert "at most" in capsys.readouterr().err
    assert sorted(os.listdir(tmp_path)) == ["run"]


def test_nothing_is_left_of_an_export_that_was_stopped(run, tmp_path, monkeypatch):
    def stopped(model, path, sample=None):
        path.write_bytes(b"half")
        raise KeyboardInterrupt

    monkeypatch.setattr(conversion, "litert", stopped)
    with pytest.raises(KeyboardInterrupt):
        export.export(run, "litert", tmp_path / "new")
    assert sorted(os.listdir(tmp_path)) == ["run"]


def test_bad_input_ends_in_a_sentence_and_leaves_nothing(
    run, tmp_path, call, capsys, monkeypatch
):
    (tmp_path / "there").mkdir()
    (tmp_path / "empty").mkdir()
    files.write_json(tmp_path / "there" / "manifest.json", {"trials": []})
    shutil.copytree(run, tmp_path / "damaged")
    content = bytearray((run / "model.keras").read_bytes())
    content[len(content) // 2] ^= 255
    (tmp_path / "damaged/model.keras").write_bytes(content)
    before = sorted(os.listdir(tmp_path))
    for arguments, said in {
        (run, "--format", "tflite"): "Did you mean litert",
        (tmp_path / "nothing",): "name the folder of a finished run",
        (tmp_path / "there",): "This is a study",
        (tmp_path / "damaged",): "model.keras",
        (run, "--out", tmp_path / "there"): "what does not exist yet",
        (run, "--examples", tmp_path / "empty"): "at least one image",
        (run, "--examples", tmp_path / "gone"): "must exist",
        (run, "--agreement", "2"): "be in [0, 1]",
        (run, "--tolerance", "0"): "be greater than 0",
    }.items():
        assert call("export", *arguments) == 2, arguments
        printed = capsys.readouterr().err.strip()
        assert said in printed
        assert "\n" not in printed
        assert sorted(os.listdir(tmp_path)) == before
    monkeypatch.setattr(errors.importlib.util, "find_spec", lambda name: None)
    for format in ("litert", "onnx"):
        assert call("export", run, "--format", format) == 2
        assert 'pip install "keras-tl[export]"' in capsys.readouterr().err


def test_the_command_offers_the_formats_that_there_are():
    assert tuple(export.FORMATS) == settings.EXPORT_FORMATS
    chosen = cli.settings_on_data("export", "a/run", "--format", "onnx")
    assert chosen.folder.name == "run-onnx"


def test_tensorflow_serving_finds_a_signature_with_named_tensors(run, tmp_path):
    import tensorflow as tf

    contract = export.export(run, "savedmodel", tmp_path / "new")
    # A folder of versions, as --model_base_path takes it.
    assert contract["model"] == "saved_model/1"
    serve = tf.saved_model.load(tmp_path / "new/saved_model/1").signatures[
        "serving_default"
    ]
    _, inputs = serve.structured_input_signature
    assert {name: one.shape.as_list() for name, one in inputs.items()} == {
        "inputs": [None, 16, 16, 3]
    }
    assert sorted(serve.structured_outputs) == ["embedding", "logits"]
    pixels = datasets.sample().at_size(16).test.read(range(5)).astype("float32")
    found = serve(inputs=tf.constant(pixels))["logits"]
    wanted = artifact.load(run).model.predict_on_batch(pixels)
    np.testing.assert_allclose(found, wanted, rtol=1e-4, atol=1e-4)


@pytest.mark.slow
def test_several_labels_and_numbers_are_answered_as_by_the_run(run, photos, tmp_path):
    limits = np.linspace(0.2, 0.8, 10).tolist()
    change(
        run,
        calibration.Rules(1.3, None, limits, unlike=0.0),  # Everything is unlike.
        activation="sigmoid",
        objective="multi-label",
    )
    out = tmp_path / "labels"
    assert export.export(run, "litert", out)["parity"]["agreement"] == 1
    wanted = artifact.load(run).predict(photos)
    found = np.array(
        [[float(v) for _, v, _ in row] for row in predict(out, photos)], "float32"
    )
    np.testing.assert_allclose(found, wanted, atol=1e-4)
    remarks = [[y.split(", ") for *_, y in row] for row in predict(out, photos)]
    there = np.array([["yes" in remark for remark in row] for row in remarks])
    assert (there == (wanted >= limits)).all()
    for row in remarks:
        assert {remark[-1] for remark in row} == {"unlike the training examples"}
    change(run, calibration.Rules(), activation="linear", objective="regression")
    out = tmp_path / "numbers"
    assert export.export(run, "litert", out)["parity"]["agreement"] is None
    found = [[v for _, v, _ in row] for row in predict(out, photos)]
    wanted = artifact.load(run).predict(photos)
    np.testing.assert_allclose(found, wanted, rtol=1e-4, atol=1e-4)


def predict(folder, inputs):
    """Call the program of an export in this process."""
    return list(runpy.run_path(str(folder / "predict.py"))["predict"](inputs))


@pytest.mark.parametrize("format", ["litert", "onnx", "keras"])
def test_texts_bring_their_tokenizer(text_run, format, tmp_path):
    contract = export.export(text_run, format, tmp_path / "new")
    assert "tokenizers" in contract["requirements"]
    texts = ["good film", "bad", "a film that nobody knows, good or bad"]
    wanted = artifact.load(text_run).predict(texts)
    for ((name, value, _),), values in zip(
        predict(tmp_path / "new", texts), wanted, strict=True
    ):
        assert name == ("bad", "good")[values.argmax()]
        assert value == pytest.approx(values.max(), abs=1e-4)
    assert contract["parity"]["origin"] == "validation texts that the run has kept"
    with pytest.raises(ValueError, match="the text is empty"):
        predict(tmp_path / "new", [" \n"])


@pytest.mark.slow
def test_texts_of_ones_own_are_compared_and_calibrate(text_run, tmp_path, call, capsys):
    table = tmp_path / "more.csv"
    texts = [f"{word} film number {n}" for n in range(9) for word in ("good", "bad")]
    table.write_text("text\n" + "\n".join(texts) + "\n")
    (tmp_path / "folder").mkdir()
    for number, one in enumerate(texts):
        (tmp_path / "folder" / f"{number}.txt").write_text(one)
    for examples in (table, tmp_path / "folder"):
        out = tmp_path / f"of-{examples.name}"
        flags = ("--examples", examples, "--out", out, "--agreement", 0.5)
        assert call("export", text_run, *flags) == 0
        parity = files.read_json(out / "contract.json")["parity"]
        assert parity["origin"] == f"texts of {examples.name}"
        assert parity["examples"] == 9
    (tmp_path / "few.txt").write_text("good film\n")
    capsys.readouterr()
    flags = ("--examples", tmp_path / "few.txt", "--out", tmp_path / "few")
    assert call("export", text_run, *flags) == 2
    assert "at least 10 texts that can be used" in capsys.readouterr().err
    # What the run has kept is not needed for it, and without it there is something.
    (text_run / exemplars.FILE).unlink()
    assert call("export", text_run, "--out", tmp_path / "own") == 0
    assert "sentences of keras-tl's own" in capsys.readouterr().out


def test_a_layer_without_a_litert_operation_is_named_before_converting(
    monkeypatch,
):
    image = keras.Input((8, 8, 3))
    x = keras.layers.Resizing(4, 4, "bicubic", name="shrink")(image)
    x = keras.layers.Flatten()(x)
    model = keras.Model(image, keras.layers.Dense(2)(x))
    with pytest.raises(errors.InputError, match="ResizeBicubic in shrink"):
        conversion.check_litert(model)


def test_16_bits_are_said_before_and_exported_as_32(saved, tmp_path, capsys):
    assert conversion.layers_of_16_bits(artifact.load(saved).model) is None
    image = keras.Input((8, 8, 3))
    x = keras.layers.Conv2D(4, 3, dtype="mixed_bfloat16")(image)
    x = keras.layers.GlobalAveragePooling2D(dtype="mixed_bfloat16")(x)
    model = keras.Model(image, keras.layers.Dense(2, dtype="float32")(x))
    assert conversion.layers_of_16_bits(model) == "bfloat16"
    plain = conversion.in_float32(model)
    assert conversion.layers_of_16_bits(plain) is None
    conversion.litert(plain, tmp_path / "model.tflite")
    assert (tmp_path / "model.tflite").stat().st_size


def test_an_export_is_measured_in_a_process_of_its_own(run, tmp_path):
    export.export(run, "litert", tmp_path / "new")
    here = exported.measure(tmp_path / "new", calls=3)
    assert 0 < here["milliseconds"] <= here["milliseconds_99"]
    # Without Keras and TensorFlow, which this process has.
    assert 10 < here["peak_mib"] < 250
    assert exported.size(tmp_path / "new") == (
        (tmp_path / "new/model.tflite").stat().st_size
    )
    assert exported.zipped_size(tmp_path / "new") < exported.size(tmp_path / "new")
    with pytest.raises(errors.InputError, match="be an export"):
        exported.load(run)


def test_a_run_that_was_changed_is_not_compared_on_other_data(run):
    changed = files.read_json(run / "config.json")
    files.write_json(run / "config.json", {**changed, "limit": 61})
    from keras_tl.deploy import run_data

    with pytest.raises(errors.InputError, match="are not those that the run"):
        run_data.load(artifact.load(run))


def test_the_contract_is_plain_json(run, tmp_path):
    export.export(run, "litert", tmp_path / "new")
    content = (tmp_path / "new/contract.json").read_text()
    assert "NaN" not in content
    assert str(Path.home()) not in content
    assert json.loads(content)["versions"]["ai_edge_litert"]
    assert io.StringIO(content).readline() == "{\n"
