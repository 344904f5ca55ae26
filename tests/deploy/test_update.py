import io
import json
import shutil
import time
from dataclasses import dataclass
from types import SimpleNamespace

import keras
import numpy as np
import pytest
import scipy.special
from PIL import Image

from keras_tl import config, errors, files
from keras_tl.analysis import evaluation
from keras_tl.analysis.evaluation import Comparison
from keras_tl.config import RunSettings
from keras_tl.data import datasets
from keras_tl.data.settings import DataSettings
from keras_tl.data.splits import Split, Splits, describe
from keras_tl.deploy import (
    artifact,
    exemplars,
    run_folder,
    update,
    update_data,
    versions,
)
from keras_tl.models import heads
from keras_tl.training import phases, placement

pytestmark = pytest.mark.filterwarnings("ignore::keras_tl.errors.InputWarning")

COLOURS = {
    "blue": (2,),
    "green": (1,),
    "red": (0,),
    "yellow": (0, 1),
    "magenta": (0, 2),
}


@dataclass(frozen=True)
class Settings(RunSettings, DataSettings):
    """A run of the tests"""


def picture(colour, seed):
    """Draw a random picture in which a colour prevails."""
    rng = np.random.default_rng([*map(ord, colour), seed])
    coarse = rng.integers(0, 100, (8, 8, 3)).repeat(4, 0).repeat(4, 1)
    coarse[:, :, COLOURS[colour]] += 120
    return coarse.astype("uint8")


def write(folder, counts, first=0):
    """Write a folder of pictures; return it."""
    for name, count in counts.items():
        place = folder / name
        place.mkdir(parents=True, exist_ok=True)
        for seed in range(first, first + count):
            colour = name.strip().lower()
            colour = colour if colour in COLOURS else "yellow"
            Image.fromarray(picture(colour, seed)).save(place / f"{seed}.png")
    return folder


def write_wrong(folder):
    """Write green pictures that are called red, and none that keeps what green is."""
    (folder / "red").mkdir(parents=True)
    for seed in range(100, 140):
        path = folder / "red" / f"{seed}.png"
        Image.fromarray(picture("green", seed)).save(path)


@pytest.fixture(scope="session")
def made():
    """What `old` has made, for all tests."""
    return {}


@pytest.fixture
def old(made, make_backbone, tmp_path, tmp_path_factory, monkeypatch):
    """Return a folder of the test's own with a run that knows three colours."""
    monkeypatch.chdir(tmp_path)
    if not made:
        place = tmp_path_factory.mktemp("old")
        data_folder = write(place / "data", dict.fromkeys(("blue", "green", "red"), 50))
        settings = Settings(data=data_folder, out=place / "run")
        data = datasets.from_settings(settings)
        run = config.start_run("test", settings, time.perf_counter(), describe(data))
        keras.utils.set_random_seed(0)
        model = heads.attach(make_backbone(32), 3)
        sized = data.at_size(32)
        setup = phases.Setup(placement.choose(["CPU:0"]))
        phases.fit(model, sized, setup, phases.Phase(12, 0.03))
        run_folder.save(run, model, data=sized)
        made["folder"] = place
    shutil.copytree(made["folder"] / "run", tmp_path / "run")
    shutil.copytree(made["folder"] / "data", tmp_path / "data")
    settings = json.loads((tmp_path / "run" / "config.json").read_text())
    settings["data"] = str(tmp_path / "data")
    files.write_json(tmp_path / "run" / "config.json", settings)
    return tmp_path / "run"


@pytest.fixture
def new(tmp_path):
    """Return a folder with a new class, and more of a known one."""
    return write(tmp_path / "new", {"yellow": 24, "red": 10}, first=100)


def material_of(old, new, of_each=100):
    """Return a run, and the old and new images of an update."""
    run = artifact.load(old)
    class_names, parts = update_data.new_data(str(new), run, {})
    data = update_data.old_data(run, of_each).splits
    return run, update_data.material(data, class_names, parts)


# %% The whole way


@pytest.mark.slow
def test_an_update_is_a_run_that_knows_old_and_new_classes(
    old, new, call, tmp_path, capsys
):
    before = {path: path.read_bytes() for path in old.iterdir()}
    status = call("update", old, "--data", new, "--out", "v2", "--learning-rate", 0.03)
    assert status == 0
    updated = artifact.load("v2")
    assert updated.class_names == ("blue", "green", "red", "yellow")
    manifest = updated.manifest
    assert manifest["version"] == 2
    assert manifest["update"]["accepted"]
    sha256 = artifact.load(old).manifest["model_sha256"]
    assert manifest["updated_from"]["model_sha256"] == sha256
    accuracy = json.loads((tmp_path / "v2" / "metrics.json").read_text())["models"]
    assert accuracy["updated"]["accuracy"] > accuracy["before the update"]["accuracy"]
    rows = {(row["test"], row["class"]): row for row in manifest["update"]["classes"]}
    assert rows["new", "yellow"]["before"] is None
    assert rows["new", "yellow"]["after"] > 0.6
    assert {("old", name) for name in ("blue", "green", "red")} <= set(rows)
    for path, content in before.items():
        assert path.read_bytes() == content
    assert versions.current(old).folder.resolve() == (tmp_path / "v2").resolve()
    report = (tmp_path / "v2" / "report.html").read_text()
    assert "class by class" in report
    assert "new class" in report
    capsys.readouterr()
    assert call("predict", old, new / "yellow" / "100.png") == 0
    assert "the version in use is 2" in capsys.readouterr().err

    # And once more.
    more = write(tmp_path / "more", {"magenta": 12}, first=200)
    capsys.readouterr()
    assert call("update", "v2", "--data", more, "--out", "v3", "--margin", 1) == 0
    # Rehearsed are the images of both: those of the run, and of the update.
    assert "the data of the run, loaded again" in capsys.readouterr().out
    assert artifact.load("v3").manifest["version"] == 3
    splits = update_data.data_of(artifact.load("v3"))
    assert splits.class_names == ("blue", "green", "red", "yellow", "magenta")
    assert call("update", "v3", "--rollback") == 0
    assert versions.current(old).folder.name == "v2"


@pytest.mark.slow
def test_an_update_that_makes_old_classes_worse_is_rejected(
    old, tmp_path, call, capsys
):
    write_wrong(tmp_path / "wrong")
    options = ("--method", "naive", "--learning-rate", 0.1, "--out", "v2")
    assert call("update", old, "--data", tmp_path / "wrong", *options) == 1
    said = capsys.readouterr().out
    assert "rejected" in said
    assert "significantly worse" in said
    assert versions.current(old).folder.resolve() == old.resolve()
    # It can still be looked at, and used.
    manifest = artifact.load("v2").manifest
    assert not manifest["update"]["accepted"]
    worse = {
        row["class"]: row["difference"]
        for row in manifest["update"]["classes"]
        if row["test"] == "old"
    }
    assert worse["green"] < 0


@pytest.mark.slow
@pytest.mark.parametrize("method", ["lwf", "ewc"])
def test_other_methods_keep_more_of_the_old_classes_than_none(
    old, here, tmp_path, method
):
    wrong = tmp_path / "wrong"
    write_wrong(wrong)
    change = {}
    for one in ("naive", method):
        run, material = material_of(old, wrong)
        model = load(run)
        options = {"epochs": 15, "learning_rate": 0.3}
        updated = update.grow(model, material, here, one, **options)
        count = len(material.old.test)
        # What learning without forgetting keeps: the shares of the old classes.
        before = scipy.special.softmax(updated.before[:count], axis=1)
        after = scipy.special.softmax(updated.after[:count, :3], axis=1)
        change[one] = np.abs(after - before).mean()
    assert change[method] < change["naive"]


def load(run):
    return artifact.load_model(run.folder / "model.keras")


def test_the_model_of_before_is_compared_bit_for_bit(old, new, here):
    run, material = material_of(old, new)
    model = load(run)
    expected = evaluation.predict(model, material.joined().test)
    updated = update.grow(model, material, here, "rehearsal", epochs=1)
    np.testing.assert_array_equal(updated.before, expected)
    results = update.evaluations(
        updated, material.joined().test.labels, material.joined()
    )
    count = len(material.old.test)
    predictions = results["before the update"].predictions
    np.testing.assert_array_equal(predictions, expected.argmax(1))
    assert count < len(predictions)


def test_last_blocks_can_train_along(old, new, here):
    run, material = material_of(old, new)
    model = load(run)
    before = model.get_layer("block2_conv").get_weights()[0]
    first = model.get_layer("block1_conv").get_weights()[0]
    options = {"epochs": 2, "learning_rate": 0.05, "blocks": 1}
    updated = update.grow(model, material, here, "rehearsal", **options)
    after = updated.model.get_layer("block2_conv").get_weights()[0]
    assert np.abs(after - before).max() > 0
    kept = updated.model.get_layer("block1_conv").get_weights()[0]
    np.testing.assert_array_equal(kept, first)


@pytest.mark.slow
def test_another_backbone_is_compared_with_the_old_run(old, new, call):
    options = ("--backbone", "efficientnet_lite0", "--out", "v2")
    call("update", old, "--data", new, *options)
    manifest = artifact.load("v2").manifest
    assert manifest["model_name"] == "efficientnet_lite0"
    assert manifest["update"]["method"] == "backbone"
    assert "accuracy on the old test images" in manifest["update"]["reason"]


# %% What is kept of the old data


def test_exemplars_are_as_many_of_each_class(tmp_path):
    rng = np.random.default_rng(0)
    labels = np.repeat([0, 1, 2], [300, 60, 12])
    pixels = rng.integers(0, 256, (len(labels), 8, 8, 3), dtype="uint8")
    split = Split(pixels, labels)
    data = Splits(split, split, split, ["a", "b", "c"], "Noise.")
    about = exemplars.save(tmp_path, data, 8)
    run = SimpleNamespace(
        folder=tmp_path,
        manifest={"exemplars": about},
        class_names=("a", "b", "c"),
        kind="image",
        image_size=8,
        resize="crop",
    )
    kept = exemplars.of_run(run)
    for name, part in kept.items():
        of_each = exemplars.OF_EACH[name]
        counts = np.bincount(part.labels).tolist()
        assert counts == [min(of_each, n) for n in (300, 60, 12)]
    # The same data keep the same images.
    (tmp_path / "again").mkdir()
    assert exemplars.save(tmp_path / "again", data, 8) == about


def test_exemplars_are_those_of_their_labels(old):
    data = datasets.load(json.loads((old / "config.json").read_text())["data"])
    kept = exemplars.of_run(artifact.load(old))
    for name, split in kept.items():
        whole = getattr(data, name).at_size(32)
        pixels = whole.read(range(len(whole))).astype(int)
        for index, label in enumerate(split.labels):
            (one,) = split.read([index]).astype(int)
            apart = np.abs(pixels - one).mean(axis=(1, 2, 3))
            # JPEG changes them little.
            assert apart.min() < 3
            assert whole.labels[apart.argmin()] == label


def test_an_update_works_when_the_old_data_are_gone(old, new, call, tmp_path, capsys):
    shutil.rmtree(tmp_path / "data")
    arguments = ("--out", "v2", "--epochs", 2, "--margin", 1)
    assert call("update", old, "--data", new, *arguments) == 0
    assert "exemplars.zip of the run" in capsys.readouterr().out
    assert artifact.load("v2").class_names[-1] == "yellow"


def test_an_update_that_changes_nothing_says_so(old, call, tmp_path, capsys):
    """Here since its rate is next to nothing."""
    more = write(tmp_path / "more", {"red": 12}, first=200)
    arguments = ("--data", more, "--out", "v2", "--learning-rate", 1e-12)
    assert call("update", old, *arguments) == 1
    said = capsys.readouterr().out
    assert "no epoch was better on validation" in said
    assert "collect more of them" in said
    assert "--margin may do" not in said


@pytest.mark.slow
def test_an_update_is_exported_by_the_data_of_both(old, new, call, capsys):
    assert call("update", old, "--data", new, "--out", "v2", "--margin", 1) in (0, 1)
    capsys.readouterr()
    assert call("export", "v2", "--agreement", 0.5) == 0
    assert "Compared on the run's validation examples" in capsys.readouterr().out
    shutil.rmtree(new)
    arguments = ("--format", "litert-int8", "--agreement", 0.5)
    assert call("export", "v2", *arguments) == 0
    assert "Compared on images that the run has kept" in capsys.readouterr().out


def test_data_that_have_changed_since_are_not_taken_for_those_of_the_run(old, tmp_path):
    run = artifact.load(old)
    again = update_data.old_data(run, 100)
    assert again.source.startswith("the data of the run")
    assert [len(s) for _, s in again.splits.items()][1:] == [24, 24]
    next((tmp_path / "data" / "red").iterdir()).unlink()
    assert update_data.old_data(run, 100).source.startswith("exemplars.zip")
    (old / exemplars.FILE).write_bytes(b"damaged")
    with pytest.raises(errors.InputError, match="not the file this run saved"):
        update_data.old_data(run, 100)
    (old / exemplars.FILE).unlink()
    with pytest.raises(errors.InputError, match="keeps no exemplars"):
        update_data.old_data(run, 100)


# %% What is measured


def jpeg(pixels, quality=80):
    buffer = io.BytesIO()
    Image.fromarray(pixels).resize((48, 48)).save(buffer, "jpeg", quality=quality)
    return buffer.getvalue()


def test_old_test_images_never_train_also_not_compressed_again(old, new):
    data = update_data.old_data(artifact.load(old), 100).splits
    copies = [jpeg(pixels) for pixels in data.test.read(range(4))]
    for index, content in enumerate(copies):
        (new / "yellow" / f"leak{index}.jpg").write_bytes(content)
    # One that is too small to be compared like that does not keep others from it.
    Image.fromarray(picture("red", 500)[:16, :16]).save(new / "red" / "small.png")
    _, material = material_of(old, new)
    (note,) = [note for note in material.notes if "old test images" in note]
    assert "nearly the same" in note
    pixels = material.old.test.read(range(4)).astype(int)
    for name in ("train", "validation"):
        split = material.new[name]
        learned = split.read(range(len(split))).astype(int)
        apart = np.abs(learned[:, None] - pixels[None]).mean(axis=(2, 3, 4))
        assert apart.min() > 10


def test_old_training_images_do_not_measure_what_is_new(old, new):
    data = update_data.old_data(artifact.load(old), 100).splits
    for index, pixels in enumerate(data.train.read(range(30))):
        Image.fromarray(pixels).save(new / "red" / f"known{index}.png")
    _, material = material_of(old, new)
    assert any("of the new test images" in note for note in material.notes)
    test = material.new["test"]
    measured = {row.tobytes() for row in test.read(range(len(test)))}
    learned = {row.tobytes() for row in data.train.read(range(len(data.train)))}
    assert not measured & learned


def test_a_corrected_label_counts(old, tmp_path):
    data = update_data.old_data(artifact.load(old), 100).splits
    index = int(np.flatnonzero(data.train.labels == 0)[0])
    (pixels,) = data.train.read([index])
    (tmp_path / "corrections" / "red").mkdir(parents=True)
    Image.fromarray(pixels).save(tmp_path / "corrections" / "red" / "one.png")
    _, material = material_of(old, tmp_path / "corrections")
    assert len(material.old.train) == len(data.train) - 1
    assert material.new["train"].labels.tolist() == [2]
    assert any("another label now" in note for note in material.notes)


def test_a_single_correction_of_a_known_class_trains(old, tmp_path):
    corrections = write(tmp_path / "corrections", {"red": 1}, first=300)
    _, material = material_of(old, corrections)
    counts = {name: len(split) for name, split in material.new.items()}
    assert counts == {"train": 1, "validation": 0, "test": 0}


def logits_of(predictions, classes):
    return np.eye(classes, dtype="float32")[np.asarray(predictions)]


def test_an_update_is_rejected_for_what_is_significant_and_above_the_margin():
    labels = np.arange(400) % 2
    before = logits_of(labels, 2)
    few, many = labels.copy(), labels.copy()
    few[:4] = 2
    many[:40] = 2
    names = ["a", "b", "c"]
    small = update.compare(labels, before, logits_of(few, 3), names)
    large = update.compare(labels, before, logits_of(many, 3), names)
    assert (small.difference, large.difference) == (-0.01, -0.1)
    assert update.decide(small, 0.02).accepted
    assert not update.decide(large, 0.02).accepted
    # A larger loss can be accepted, and one that is not significant is.
    assert update.decide(large, 0.1).accepted
    assert update.decide(Comparison(-0.1, (-0.3, 0.1), 3, 1, 0.6), 0.02).accepted
    assert "points" in update.decide(large, 0.02).reason


def test_what_got_worse_comes_first_with_its_interval():
    labels = np.repeat([0, 1, 2], 20)
    before = logits_of(np.repeat([0, 0, 1], 20), 2)
    after = logits_of(np.repeat([2, 1, 2], 20), 3)
    rows = update.by_class(labels, before, after, ["a", "b", "new"])
    assert [row["class"] for row in rows] == ["a", "b", "new"]
    assert [row["difference"] for row in rows] == [-1.0, 1.0, None]
    assert rows[0]["low"] == -1.0
    assert -1 < rows[0]["high"] < -0.7  # All of 20: of others some may be right.
    assert rows[2]["before"] is None
    assert rows[2]["after"] == 1
    assert rows[2]["low"] < 1


# %% What cannot be done


def test_a_new_class_with_one_image_is_named(old, tmp_path):
    folder = write(tmp_path / "few", {"yellow": 1, "red": 5}, first=100)
    with pytest.raises(errors.InputError, match=r"'yellow' has 1 different image in"):
        update_data.new_data(str(folder), artifact.load(old), {})


@pytest.mark.parametrize("name", ["Red", " red", "r-ed"])
def test_a_class_that_is_spelled_otherwise_is_asked_about(old, tmp_path, name):
    folder = write(tmp_path / "new", {name: 9, "yellow": 9}, first=100)
    with pytest.raises(errors.InputError, match=r"rename it to 'red'"):
        update_data.new_data(str(folder), artifact.load(old), {})


def test_nothing_is_written_for_what_cannot_be_updated(
    old, new, call, tmp_path, capsys, text_run
):
    (tmp_path / "study").mkdir()
    files.write_json(tmp_path / "study" / "manifest.json", {"trials": []})
    shutil.copytree(old, tmp_path / "damaged")
    model = tmp_path / "damaged" / "model.keras"
    model.write_bytes(model.read_bytes()[:1000])
    for run, sentence in (
        ("study", "This is a study"),
        ("damaged", "damaged"),
        (new, "finished run"),
        ("absent", "be the folder of a run"),
    ):
        assert call("update", run, "--data", new, "--out", "v2") == 2
        said = capsys.readouterr().err.strip()
        assert sentence in said
        assert "Traceback" not in said
        assert not (tmp_path / "v2").exists()
    assert call("update", old, "--out", "v2") == 2
    assert call("update", old, "--rollback", "--data", new) == 2
    assert call("update", old, "--rollback") == 2
    assert "none to go back to" in capsys.readouterr().err
    assert call("update", old, "--data", new, "--blocks", 9, "--out", "v2") == 2
    assert "number of blocks" in capsys.readouterr().err
    assert not (tmp_path / "v2").exists()
    assert not (old / versions.FILE).exists()


@pytest.mark.slow
def test_an_update_that_is_killed_is_no_version(old, new, call, monkeypatch):
    """Whatever it has written: without the manifest it is none, and can go on."""
    write_json = files.write_json

    def killed(path, value):
        if path.name == "manifest.json":
            raise KeyboardInterrupt
        write_json(path, value)

    with monkeypatch.context() as patch:
        patch.setattr(run_folder.files, "write_json", killed)
        assert call("update", old, "--data", new, "--out", "v2", "--epochs", 2) == 130
    assert versions.current(old).number == 1
    with pytest.raises(errors.InputError, match="finished run"):
        artifact.load("v2")
    assert call("update", "v2", "--resume", "v2") == 2
    # The run may be named once more.
    assert call("update", old, "--resume", "v2") in (0, 1)
    assert artifact.load("v2").manifest["version"] == 2


def test_old_images_are_limited_evenly(old):
    run = artifact.load(old)
    data = update_data.old_data(run, 5).splits
    assert np.bincount(data.train.labels).tolist() == [5, 5, 5]
    whole = update_data.old_data(run, 100).splits
    assert len(data.test) == len(whole.test)


def test_the_data_of_the_run_again_are_no_new_images(old, call, tmp_path, capsys):
    again = json.loads((old / "config.json").read_text())["data"]
    assert call("update", old, "--data", again, "--out", "again") == 2
    output = capsys.readouterr().err
    assert "no new images to train on" in output
    assert "which the run has with the same label" in output
    assert not (tmp_path / "again").exists()


@pytest.mark.slow
def test_another_version_than_the_one_in_use_is_not_updated(
    old, new, call, tmp_path, capsys
):
    options = ("--data", new, "--learning-rate", 0.03)
    assert call("update", old, *options, "--out", "v2") == 0
    assert call("update", old, *options, "--out", "v3") == 2
    assert "`run` must be the version in use" in capsys.readouterr().err
    assert not (tmp_path / "v3").exists()
