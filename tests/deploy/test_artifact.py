import json
import shutil
import tempfile
import zipfile
from pathlib import Path

import keras
import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from PIL import Image

from keras_tl import errors, files
from keras_tl.analysis import evaluation
from keras_tl.data import images
from keras_tl.deploy import artifact, compiled, run_folder
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
    """Write the archive again with one of its files changed, by default its config."""
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
        (lambda path: rezip(path, lambda old: b"{}"), "not the file this run"),
        (add_lambda, "holds a Lambda layer"),
        (lambda path: rezip(path, lambda old: old + b" "), "not the file this run"),
    ],
)
def test_a_damaged_or_hostile_model_file_is_one_clear_sentence(run, damage, message):
    damage(run[0] / "model.keras")
    with pytest.raises(errors.InputError, match=message) as raised:
        artifact.load(run[0])
    assert "model.keras" in str(raised.value)


def test_a_model_of_another_version_that_can_be_loaded_is_loaded(run):
    path = run[0] / "model.keras"
    rezip(path, lambda old: b'{"keras_version": "99.1.0"}', "metadata.json")
    np.testing.assert_array_equal(artifact.load_model(path)(PIXELS), run[1](PIXELS))


def test_a_file_that_holds_no_model_is_refused(run):
    path = run[0] / "model.keras"
    layer = keras.saving.serialize_keras_object(keras.layers.Flatten())
    rezip(path, lambda old: json.dumps(layer).encode())
    with pytest.raises(errors.InputError, match=r"holds no model|cannot be loaded"):
        artifact.load_model(path)


def with_new_model(folder, model):
    """Put another model into a run, with its hash."""
    saving.save(model, folder / "model.keras")
    change_manifest(folder, model_sha256=files.sha256(folder / "model.keras"))


def change_manifest(folder, **values):
    manifest = files.read_json(folder / "manifest.json")
    files.write_json(folder / "manifest.json", {**manifest, **values})


@pytest.mark.parametrize("litert", [True, False])
@pytest.mark.parametrize(
    ("shape", "outputs", "message"),
    [((9, 9, 3), 3, "takes .9, 9, 3."), ((8, 8, 3), 4, "3 names, and the model 4")],
)
def test_a_model_that_the_other_files_of_its_run_do_not_fit_is_refused(
    run, monkeypatch, litert, shape, outputs, message
):
    image = keras.Input(shape)
    logits = keras.layers.Dense(outputs)(keras.layers.Flatten()(image))
    with_new_model(run[0], keras.Model(image, logits))
    monkeypatch.setattr(compiled, "has_litert", lambda: litert)
    loaded = artifact.load(run[0])
    if litert:
        loaded.convert()
    with pytest.raises(errors.InputError, match=message):
        loaded.predict(PIXELS)


@pytest.mark.parametrize("inputs", [1, 2])
def test_a_model_of_several_inputs_or_outputs_is_refused(run, monkeypatch, inputs):
    monkeypatch.setattr(compiled, "has_litert", lambda: False)
    images = [keras.Input((8, 8, 3)) for _ in range(inputs)]
    rows = [keras.layers.Dense(3)(keras.layers.Flatten()(image)) for image in images]
    model = keras.Model(images, rows * (3 - inputs))
    with_new_model(run[0], model)
    with pytest.raises(errors.InputError, match="must have one input, and one output"):
        artifact.load(run[0]).predict(PIXELS)


# Name of a file -> what it holds instead, and the message.
OTHER_FILES = [
    ("manifest.json", [], "it is no object"),
    ("manifest.json", "trials", "it is no object"),
    ("manifest.json", {}, "model_sha256"),
    ("classes.json", {"red": 1, "green": 2, "blue": 3}, "not the file this run saved"),
    ("classes.json", ["red", "blue", "green"], "not the file this run saved"),
]


@pytest.mark.parametrize(("name", "content", "message"), OTHER_FILES)
def test_another_file_of_a_run_is_refused(run, name, content, message):
    files.write_json(run[0] / name, content)
    with pytest.raises(errors.InputError, match=message):
        artifact.load(run[0])


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"activation": "tanh"}, "activation must be one of softmax"),
        ({"activation": ["softmax"]}, "activation must be one of softmax"),
        ({"activation": None}, "activation must be one of softmax"),
        ({"input": [8, 8, 3]}, "input must be an object"),
        ({"input": {"kind": "sound", "shape": [8, 8, 3]}}, "one of image, text, audio"),
        ({"input": {"shape": [8, 8, 3]}}, "one of image, text, audio"),
        ({"input": {"kind": "image"}}, "3 numbers"),
        ({"input": {"kind": "image", "shape": [8, 8]}}, "3 numbers"),
        ({"input": {"kind": "image", "shape": ["8", 8, 3]}}, "at least 1"),
        ({"input": {"kind": "image", "shape": [True, True, 3]}}, "at least 1"),
        ({"input": {"kind": "image", "shape": [0, 8, 3]}}, "at least 1"),
        ({"input": {"kind": "text", "shape": [8]}}, "tokenizer.json"),
        ({"model_sha256": None}, "model_sha256 must be a hash"),
        ({"model_sha256": "0"}, "model.keras is not the file this run saved"),
        ({"files_sha256": ["classes.json"]}, "files_sha256 must be an object"),
    ],
)
def test_a_manifest_that_no_run_saves_is_refused(run, values, message):
    change_manifest(run[0], **values)
    with pytest.raises(errors.InputError, match=message):
        artifact.load(run[0]).predict(PIXELS)


def test_runs_of_earlier_versions_are_loaded(run):
    wanted = artifact.load(run[0]).predict(PIXELS)
    manifest = files.read_json(run[0] / "manifest.json")
    for name in ("objective", "activation", "files_sha256"):
        del manifest[name]
    del manifest["input"]["kind"]
    files.write_json(run[0] / "manifest.json", manifest)
    np.testing.assert_array_equal(artifact.load(run[0]).predict(PIXELS), wanted)
    files.write_json(run[0] / "classes.json", {"red": 1})
    with pytest.raises(errors.InputError, match="list of the names"):
        artifact.load(run[0])


def test_arrays_in_arrays_without_end_are_no_valid_json(run):
    (run[0] / "manifest.json").write_text("[" * 100_000)
    with pytest.raises(errors.InputError, match="no valid JSON"):
        artifact.load(run[0])


JSON = st.recursive(
    st.none() | st.booleans() | st.integers(-2, 99) | st.floats() | st.text(max_size=5),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(st.sampled_from(["input", "kind", "shape", "x"]), inner)
    ),
    max_leaves=5,
)


def places(value, path=()):
    """Return the path of every value within a JSON value."""
    if isinstance(value, (dict, list)):
        keys = value if isinstance(value, dict) else range(len(value))
        for key in list(keys):
            yield (*path, key)
            yield from places(value[key], (*path, key))


def damage(path, draw):
    """Cut a file, change a byte of it, or put something else into its place."""
    content = path.read_bytes()
    place = draw(st.integers(0, len(content) - 1))
    kinds = ["cut", "flip", "zeros", "bytes", "json", "absent"]
    if path.suffix == ".json":
        kinds += ["remove", "replace", "flip", "flip"]
    match draw(st.sampled_from(kinds)):
        case "cut":
            path.write_bytes(content[:place])
        case "flip":
            changed = content[place] ^ draw(st.integers(1, 255))
            path.write_bytes(content[:place] + bytes([changed]) + content[place + 1 :])
        case "zeros":
            path.write_bytes(content[:place] + bytes(len(content) - place))
        case "bytes":
            path.write_bytes(draw(st.binary(max_size=99)))
        case "json":
            path.write_text(json.dumps(draw(JSON)))
        case "absent":
            path.unlink()
        case kind:
            value = inner = json.loads(content)
            *outer, last = draw(st.sampled_from(list(places(value))))
            for key in outer:
                inner = inner[key]
            if kind == "remove":
                del inner[last]
            else:
                inner[last] = draw(JSON)
            path.write_text(json.dumps(value))


@pytest.mark.slow
@settings(
    deadline=None,
    max_examples=150,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)
@given(st.data())
def test_a_damaged_run_gives_the_same_answers_or_says_so(run, text_run, data):
    good, inputs = data.draw(st.sampled_from([(run[0], PIXELS), (text_run, ["bad"])]))
    if not compiled.has_litert():
        pytest.skip("Loading each model with Keras takes too long.")
    loaded = artifact.load(good)
    loaded.convert()
    wanted = loaded.predict(inputs)
    with tempfile.TemporaryDirectory() as parent:
        folder = Path(parent) / "run"
        shutil.copytree(good, folder)
        names = ["manifest.json", "classes.json", "model.keras", "tokenizer.json"]
        names += ["manifest.json", compiled.LITERT, f"{compiled.LITERT}.json"]
        names += ["answers.json", "examples.npz"]
        name = data.draw(st.sampled_from([n for n in names if (good / n).exists()]))
        damage(folder / name, data.draw)
        try:
            damaged = artifact.load(folder)
            answers = damaged.predict(inputs)
        except errors.InputError:
            return
        np.testing.assert_allclose(answers, wanted, atol=1e-6)
        assert damaged.class_names == loaded.class_names


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


def with_png(folder):
    """Write the first of PIXELS to a file, and return its path."""
    path = folder / "x.png"
    Image.fromarray(PIXELS[0]).save(path)
    return path


# Name -> inputs made of the path of a file with the first of PIXELS, and the number of
# examples in them; all are PIXELS in their order.
FORMS = {
    "path as text": (str, 1),
    "path": (lambda path: path, 1),
    "path as numpy text": (lambda path: np.str_(path), 1),
    "content": (lambda path: path.read_bytes(), 1),
    "array of one": (lambda path: PIXELS[0], 1),
    "paths": (lambda path: [path], 1),
    "paths in an array": (lambda path: np.array([str(path)]), 1),
    "paths in an array of objects": (lambda path: np.array([path], object), 1),
    "contents": (lambda path: (path.read_bytes(),), 1),
    "array": (lambda path: PIXELS, 5),
    "arrays": (lambda path: list(PIXELS), 5),
    "generator": (lambda path: (pixels for pixels in PIXELS), 5),
    "mixture": (lambda path: [str(path), PIXELS[1], PIXELS[2]], 3),
    "mixture of sizes": (
        lambda path: [path.read_bytes(), PIXELS[1].repeat(2, 0), path],
        None,
    ),
    "nothing": (lambda path: [], 0),
    "no paths": (lambda path: iter(()), 0),
    "no array": (lambda path: np.array([]), 0),
    "no images": (lambda path: PIXELS[:0], 0),
    "no grey images": (lambda path: PIXELS[:0, ..., 0], 0),
}


@pytest.mark.parametrize("form", FORMS)
def test_images_are_taken_in_every_form_and_give_a_row_each(run, tmp_path, form):
    make, count = FORMS[form]
    loaded = artifact.load(run[0])
    answers = loaded.predict(make(with_png(tmp_path)))
    assert answers.dtype == np.float32
    if count is None:
        assert answers.shape == (3, 3)
        np.testing.assert_array_equal(answers[0], answers[2])
        return
    assert answers.shape == (count, 3)
    wanted = loaded.predict(PIXELS)[:count]
    np.testing.assert_allclose(answers, wanted, atol=1e-6)


@pytest.mark.parametrize("shape", [(8, 8), (8, 8, 1), (5, 8, 8, 1)])
def test_grey_images_are_taken_as_rgb(run, shape):
    grey = PIXELS[..., 0].reshape(-1)[: np.prod(shape)].reshape(shape)
    loaded = artifact.load(run[0])
    rgb = np.stack([grey.reshape(-1, 8, 8)] * 3, axis=-1)
    wanted = loaded.predict(rgb)
    np.testing.assert_array_equal(loaded.predict(grey), wanted)
    many = list(grey) if grey.ndim == 4 else [grey]
    np.testing.assert_allclose(loaded.predict(many), wanted, atol=1e-6)


def test_several_grey_images_may_lack_the_axis_of_channels(run):
    loaded = artifact.load(run[0])
    grey = PIXELS[..., 0]
    np.testing.assert_array_equal(loaded.predict(grey), loaded.predict(grey[..., None]))


@pytest.mark.parametrize(
    ("inputs", "message"),
    [
        (PIXELS / 255, r"uint8.*Received: float64 \(5, 8, 8, 3\)\. Do not rescale"),
        ([PIXELS[0], PIXELS[1] / 255], r"`inputs\[1\]`.*Received: float64 \(8, 8, 3\)"),
        (PIXELS.astype("int64"), "uint8.*Received: int64"),
        (PIXELS > 9, "uint8.*Received: bool"),
        (PIXELS[..., [0, 1, 2, 2]], r"images\[\.\.\., :3\]"),
        (PIXELS[0][..., [0, 1, 2, 2]], r"images\[\.\.\., :3\]"),
        (PIXELS[..., :2], r"Received: uint8 \(5, 8, 8, 2\)"),
        (PIXELS[None], r"Received: uint8 \(1, 5, 8, 8, 3\)"),
        ([PIXELS, PIXELS], r"`inputs\[0\]`.*Received: uint8 \(5, 8, 8, 3\)"),
        (PIXELS.transpose(0, 3, 1, 2), "channels come last"),
        (PIXELS[:, :0], "without pixels"),
        (PIXELS[0, 0, 0], r"Received: uint8 \(3,\)"),
        (PIXELS[0].tolist(), r"`inputs\[0\]` must be an image.*Received: list"),
        (None, "Received: NoneType"),
        (3, "Received: int"),
        (bytearray(b"abc"), "Received: int"),
        (Image.fromarray(PIXELS[0]), r"must be an image.*Received: Image"),
        (b"no image", "Cannot use an image"),
        ("missing.png", "Cannot use missing.png: it cannot be read"),
        ([PIXELS[0], "missing.png"], "Cannot use missing.png"),
    ],
)
def test_images_of_another_kind_are_refused_in_words(run, inputs, message):
    with pytest.raises(errors.InputError, match=message):
        artifact.load(run[0]).predict(inputs)


def test_texts_are_taken_in_every_form_and_give_a_row_each(text_run):
    loaded = artifact.load(text_run)
    many = ["good film", "bad", "good"]
    wanted = loaded.predict(many)
    assert wanted.shape == (3, 2)
    assert len(np.unique(wanted, axis=0)) == 3
    for one in ("good film", np.str_("good film"), ["good film"]):
        np.testing.assert_allclose(loaded.predict(one), wanted[:1], atol=1e-6)
    for form in (tuple(many), iter(many), np.array(many), np.array(many, object)):
        np.testing.assert_array_equal(loaded.predict(form), wanted)
    assert loaded.predict([]).shape == (0, 2)
    for refused in (b"good", None, 3, ["good", 3], "", ["good", " "]):
        with pytest.raises(errors.InputError, match="must be a string"):
            loaded.predict(refused)


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
    logits = model.predict(pixels) / loaded.rules.temperature
    expected = evaluation.softmax(logits)
    np.testing.assert_allclose(loaded.predict(pixels), expected, atol=1e-5)
    report = (tmp_path / "new" / "run" / "report.html").read_text()
    assert "python my_script.py" in report
    with pytest.raises(errors.InputError, match="does not exist yet"):
        run_folder.save(tmp_path / "new" / "run", model, data=colours)


def test_a_worker_whose_folder_is_removed_names_nothing_in_it(
    make_backbone, colours, tmp_path, monkeypatch, capsys
):
    cluster = {"worker": ["127.0.0.1:1", "127.0.0.1:2"]}
    for rank in (0, 1):
        task = {"type": "worker", "index": rank}
        monkeypatch.setenv("TF_CONFIG", json.dumps({"cluster": cluster, "task": task}))
        model = heads.attach(make_backbone(), 3)
        run_folder.save(tmp_path / str(rank), model, data=colours)
        # The chief alone says where the report is, and how to predict.
        assert (str(tmp_path) in capsys.readouterr().out) == (rank == 0)


@pytest.mark.parametrize("resize", ["crop", "pad", "stretch"])
def test_a_run_prepares_images_as_in_training(
    resize, make_backbone, colours, here, tmp_path
):
    model = heads.attach(make_backbone(), 3)
    saved = run_folder.save(
        tmp_path / "run", model, data=colours.at_size(8, resize), objective=None
    )
    assert saved
    loaded = artifact.load(tmp_path / "run")
    wide = np.random.default_rng(0).integers(0, 256, (1, 10, 30, 3), "uint8")
    prepared = images.resize(wide, 8, resize)
    np.testing.assert_array_equal(loaded.source(wide).read([0]), prepared)
