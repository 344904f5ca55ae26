"""Runs that take clips or texts: their data again, and updates of them."""

import io
import shutil
import time
from pathlib import Path

import keras
import numpy as np
import pytest

from keras_tl import config, errors, files
from keras_tl.commands.settings import Train
from keras_tl.data import assembly, datasets, splits
from keras_tl.data.clips import Clips
from keras_tl.data.splits import Split, Splits
from keras_tl.deploy import artifact, exemplars, run_data, run_folder, update_data
from keras_tl.models import heads

RATE = 8_000


def write_tones(folder, low, high, count, seed):
    """Write clips of tones between two frequencies."""
    soundfile = pytest.importorskip("soundfile")
    folder.mkdir(parents=True)
    rng = np.random.default_rng(seed)
    times = np.arange(1_200) / RATE
    for take in range(count):
        wave = np.sin(2 * np.pi * rng.uniform(low, high) * times + rng.uniform(0, 6))
        wave *= np.hanning(len(times)) * rng.uniform(0.3, 0.9)
        soundfile.write(folder / f"{take}.wav", wave, RATE)


@pytest.fixture
def clips(tmp_path):
    """A folder of clips with a class that `sound_run` does not know."""
    write_tones(tmp_path / "new" / "very high", 3_700, 3_900, 30, 5)
    write_tones(tmp_path / "new" / "low", 100, 400, 6, 6)
    return tmp_path / "new"


@pytest.mark.slow
def test_a_run_of_sound_is_updated_with_a_new_class(
    sound_run, clips, call, tmp_path, capsys, monkeypatch
):
    monkeypatch.chdir(tmp_path)
    run, _ = sound_run
    flags = ("--learning-rate", 0.05, "--out", "v2", "--margin", 1)
    assert call("update", run, "--data", clips, *flags) == 0
    output = capsys.readouterr().out
    assert "exemplars.zip of the run" in output
    assert "Test clips of the run, and new ones" in output
    assert "image" not in output.replace("image/", "")
    updated = artifact.load("v2")
    assert updated.class_names == ("high", "low", "very high")
    rows = updated.manifest["update"]["classes"]
    (row,) = [row for row in rows if row["class"] == "very high"]
    assert row["after"] > 0.6
    given = updated.predict(sorted((clips / "very high").iterdir())[:8])
    assert (given.argmax(1) == 2).mean() > 0.6
    assert updated.manifest["exemplars"]["counts"]["train"] > 40


def test_clips_that_the_run_has_are_told_in_any_lossless_form(
    sound_run, tones, clips, tmp_path
):
    """Its own files, of which it has kept what its model takes."""
    soundfile = pytest.importorskip("soundfile")
    run = artifact.load(sound_run[0])
    data = datasets.load(tones, kind="audio", rate=RATE, seconds=0.2)
    for name, part in (("test", data.test), ("train", data.train)):
        for index, path in enumerate(part.inputs.names(range(4))):
            wave, rate = soundfile.read(path)
            place = clips / "very high" / f"{name}{index}.flac"
            soundfile.write(place, wave, rate, subtype="PCM_16")
    names, new = update_data.new_data(str(clips), run, {})
    old = update_data.old_data(run, 100)
    assert old.source.startswith("exemplars.zip")
    material = update_data.material(old.splits, names, new)
    notes = " ".join(material.notes)
    assert "of the new clips, nearly the same as old test clips" in notes
    assert "of the old training clips, which have another label now" in notes
    kept = {
        name.rsplit("/", 1)[-1]
        for part in material.new.values()
        for name in part.inputs.names(range(len(part)))
    }
    assert not [name for name in kept if name.startswith("test")]


def test_compressed_copies_of_old_test_clips_do_not_train():
    soundfile = pytest.importorskip("soundfile")
    rng = np.random.default_rng(0)
    times = np.arange(RATE) / RATE

    def word():
        """Some tones that come and go."""
        tones = np.sin(2 * np.pi * rng.uniform(150, 3_000, (6, 1)) * times)
        knots = rng.uniform(-0.2, 0.3, (6, 7)).clip(0)
        swell = [np.interp(times, np.linspace(0, 1, 7), row) for row in knots]
        noise = rng.normal(0, 0.01, RATE)
        return ((tones * swell).sum(axis=0) + noise).astype("float32")

    def compressed(wave):
        buffer = io.BytesIO()
        soundfile.write(buffer, wave, RATE, format="OGG")
        return buffer.getvalue()

    def split(sounds):
        return Split(Clips(tuple(sounds), RATE, RATE), np.arange(len(sounds)) % 2)

    parts = {name: [word() for _ in range(8)] for name in ("train", "validation")}
    tested = [word() for _ in range(8)]
    old = Splits(*map(split, (*parts.values(), tested)), ["a", "b"], "Words.")
    copies = [compressed(wave) for wave in tested]
    others = [word() for _ in range(8)]
    new = {"train": split([*copies, *others]), "validation": split([])}
    material = update_data.material(old, ["a", "b"], {**new, "test": split([])})
    (note,) = material.notes
    assert "of the new clips, nearly the same as old test clips" in note
    left = material.new["train"].inputs.read(range(len(material.new["train"])))
    # All copies are told, and nothing else.
    np.testing.assert_allclose(left, np.clip(others, -1, 1), atol=1e-6)


def test_what_means_nothing_for_sound_is_refused(sound_run, clips, call, capsys):
    run, _ = sound_run
    for flags, sentence in (
        (("--backbone", "mobilenet_v2"), "The run takes clips"),
        (("--kind", "image"), "`kind` must be audio, as the run has"),
        (("--blocks", "9"), "blocks"),
    ):
        assert call("update", run, "--data", clips, "--out", "v2", *flags) == 2
        assert sentence in capsys.readouterr().err


def test_exemplars_of_sound_are_what_the_model_takes(sound_run, tones, monkeypatch):
    run, _ = sound_run
    kept = exemplars.of_run(artifact.load(run))
    data = datasets.load(tones, kind="audio", rate=RATE, seconds=0.2)
    for name, part in kept.items():
        whole = getattr(data, name)
        sounds = whole.inputs.read(range(len(whole)))
        for row, label in zip(part.inputs.read(range(4)), part.labels, strict=False):
            apart = np.abs(sounds - row).max(axis=1)
            assert apart.min() <= 0.5 / 2**15 + 1e-7
            assert whole.labels[apart.argmin()] == label
    # Long clips are fewer, so that they do not fill the disk.
    monkeypatch.setattr(exemplars, "MOST_BYTES", 1_600 * 2 * 80)
    assert len(exemplars.chosen("test", data.test, 2)) <= 50


def test_exemplars_of_texts_are_the_texts(text_run):
    kept = exemplars.of_run(artifact.load(text_run))
    texts = [*kept.test.inputs.preview(range(4))]
    assert sorted(texts) == ["bad", "bad film", "good", "good film"]
    assert [text.startswith("good") for text in texts] == kept.test.labels.tolist()
    assert kept.test.read([0]).shape == (1, 4)


@pytest.fixture
def trained(tones, tmp_path):
    """Return the folder of a run as `keras-tl train` makes one of a folder of sound."""
    shutil.copytree(tones, tmp_path / "data")
    settings = Train(data=str(tmp_path / "data"), out=tmp_path / "run", limit=60)
    data = datasets.load(tmp_path / "data", kind="audio", rate=RATE, seconds=0.2)
    data = run_data.planner.limited(data, 60, seed=0)
    about = splits.describe(data)
    run = config.start_run("train", settings, time.perf_counter(), about)
    keras.utils.set_random_seed(0)
    wave = keras.Input((1_600,), name="wave")
    x = keras.layers.Reshape((100, 16, 1))(wave)
    x = keras.layers.Conv2D(2, (1, 16), activation="relu", name="block1_conv")(x)
    run_folder.save(run, heads.attach(keras.Model(wave, x), 2), data=data)
    return tmp_path / "run"


@pytest.mark.slow
def test_the_clips_of_a_run_are_loaded_again_as_its_model_takes_them(
    trained, call, capsys
):
    model = artifact.load(trained)
    data = run_data.load(model)
    assert data.train.read([0]).shape == (1, 1_600)
    assert splits.describe(data)["sha256"] == model.manifest["data"]["sha256"]
    assert call("export", trained, "--format", "litert-int8", "--agreement", 0.5) == 0
    assert "Compared on the run's validation examples" in capsys.readouterr().out
    contract = files.read_json(trained.with_name("run-litert-int8") / "contract.json")
    assert contract["accuracy"]["test_examples"] == len(data.test)
    # Others are not taken for them.
    next((trained.parent / "data" / "low").iterdir()).unlink()
    with pytest.raises(errors.InputError, match="not those that the run"):
        run_data.load(model)


# %% Texts


@pytest.fixture
def table(tmp_path):
    """A table of texts with a class that `text_run` does not know."""
    rows = [f"film number {n},neutral" for n in range(24)]
    rows += [f"Good  film {n},good" for n in range(6)]
    path = tmp_path / "more.csv"
    path.write_text("\n".join(["text,label", *rows, "GOOD  film,good"]) + "\n")
    return path


@pytest.mark.slow
def test_a_run_of_texts_is_updated_with_a_new_class(
    text_run, table, call, tmp_path, capsys, monkeypatch
):
    monkeypatch.chdir(tmp_path)
    flags = ("--learning-rate", 0.1, "--out", "v2", "--margin", 1)
    assert call("update", text_run, "--data", table, *flags) == 0
    output = capsys.readouterr()
    assert "exemplars.zip of the run" in output.out
    assert "Test texts of the run, and new ones" in output.out
    # Equal but for case and white space to one that the run was tested with.
    assert "more.csv:32" in output.out + output.err
    updated = artifact.load("v2")
    assert updated.class_names == ("bad", "good", "neutral")
    rows = updated.manifest["update"]["classes"]
    assert {(row["test"], row["class"]) for row in rows} >= {
        *(("old", "bad"), ("old", "good"), ("new", "neutral"))
    }
    assert (tmp_path / "v2" / "tokenizer.json").exists()
    # The data of an update are those of both, as long as they are there.
    assert "neutral" in update_data.data_of(updated).class_names
    assert call("predict", "v2", "film number 99") == 0
    assert call("update", "v2", "--rollback") == 0


def test_the_texts_of_a_run_are_loaded_again_as_tokens(text_run, tmp_path, call):
    words = ("good", "bad")
    rows = [f"{word} film {n},{word}" for n in range(20) for word in words]
    path = tmp_path / "reviews.csv"
    path.write_text("\n".join(["text,label", *rows]) + "\n")
    settings = Train(data=str(path), out=tmp_path / "run")
    model = artifact.load(text_run)
    data = datasets.load(path, kind="text")
    data = data.map(lambda part: run_data.prepare(model, part))
    about = splits.describe(data)
    run = config.start_run("train", settings, time.perf_counter(), about)
    run_folder.save(run, model.model, data=data)
    again = run_data.load(artifact.load(tmp_path / "run"))
    for (_, one), (_, other) in zip(again.items(), data.items(), strict=True):
        np.testing.assert_array_equal(
            one.read(range(len(one))), other.read(range(len(other)))
        )
    assert call("export", tmp_path / "run", "--out", tmp_path / "out") == 0
    parity = files.read_json(tmp_path / "out" / "contract.json")["parity"]
    assert parity["origin"] == "validation examples of the run"


def test_a_new_clip_of_a_speaker_that_tests_the_run_does_not_train(tmp_path):
    def part(*names):
        paths = tuple(tmp_path / "data" / name for name in names)
        return Split(Clips(paths, 8_000, 100), np.zeros(len(names), "int32"))

    old = Splits(part("a_ann_1"), part("a_bob_1"), part("a_cy_1"), ("a", "b"), "")
    new = {
        "train": part("a_cy_2", "a_ann_2", "a_new_1"),
        "validation": part("a_ann_3"),
        "test": part("a_new_2", "a_bob_2"),
    }
    moved = update_data.with_old_groups(old, new, "_([a-z]+)_", [tmp_path / "data"])
    shown = {
        name: [Path(one).name for one in split.inputs.names(range(len(split)))]
        for name, split in moved.items()
    }
    assert shown == {
        "train": ["a_ann_2", "a_new_1", "a_ann_3"],
        "validation": ["a_bob_2"],
        "test": ["a_cy_2", "a_new_2"],
    }
    for groups in (None, "a", "a_ann"):
        # The last two would be columns of a table.
        assert update_data.with_old_groups(old, new, groups, []) == new
    with pytest.warns(errors.InputWarning, match="not known any more"):
        update_data.with_old_groups(old, new, "-(x)-", [tmp_path / "data"])


def test_the_groups_of_a_run_are_those_of_its_updates(tmp_path):
    saved = {"first": {"groups": "_([a-z]+)_"}, "table": {"groups": "speaker"}}
    saved |= {"second": {"groups": None, "run": str(tmp_path / "first")}}
    saved |= {"third": {"groups": None, "run": str(tmp_path / "second")}, "none": {}}
    for name, settings in saved.items():
        (tmp_path / name).mkdir()
        files.write_json(tmp_path / name / "config.json", settings)
    for name in ("first", "second", "third"):
        assert update_data.groups_of(tmp_path / name) == "_([a-z]+)_"
    # The column of a table is none of other data.
    assert update_data.groups_of(tmp_path / "table") is None
    assert update_data.groups_of(tmp_path / "none") is None
    assert update_data.groups_of(tmp_path / "absent") is None


def test_new_files_without_the_name_of_a_group_stand_alone(tmp_path):
    for name in ("low", "high"):
        write_tones(tmp_path / name, 300, 900, 6, seed=len(name))
    kinds = datasets.choices_of("audio", rate=RATE, seconds=0.1)
    content = datasets.read(tmp_path, None, assembly.Options(), kinds)
    first = assembly.short(content.files[0].path, tmp_path)
    grouped = assembly.grouped(content, f"({first})")
    assert [file.entry.group for file in grouped.files] == [first, *[None] * 11]
