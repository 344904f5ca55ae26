"""Runs whose model takes sound: trained, saved, predicted from files, reported."""

import os
import runpy
import subprocess
import sys
from pathlib import Path

import keras
import numpy as np
import pytest

from keras_tl import errors, files
from keras_tl.data import clips
from keras_tl.deploy import artifact, exemplars, export, prediction

soundfile = pytest.importorskip("soundfile")

ROOT = Path(__file__).parents[2]
RATE, SAMPLES = 8_000, 1_600


def tone(seed, low, high, seconds, rate):
    """A tone of a frequency drawn between two."""
    rng = np.random.default_rng(seed)
    times = np.arange(round(seconds * rate)) / rate
    return 0.5 * np.sin(2 * np.pi * rng.uniform(low, high) * times)


def rows_of(output):
    return [line.split("\t") for line in output.splitlines()]


def test_a_run_of_sound_predicts_files_in_any_form(sound_run, tones):
    run, model = sound_run
    loaded = artifact.load(run)
    assert loaded.kind == "audio"
    assert loaded.manifest["input"]["rate"] == RATE
    paths = sorted(tones.rglob("*.wav"))[::20]
    source = clips.Clips(tuple(paths), RATE, SAMPLES)
    wanted = keras.ops.softmax(model.predict(source.read(range(len(paths))), verbose=0))
    waves = [soundfile.read(path, dtype="float32")[0] for path in paths]
    temperature = loaded.rules.temperature
    assert temperature > 0
    given = loaded.predict(paths)
    np.testing.assert_allclose(given.sum(axis=1), 1, atol=1e-5)
    np.testing.assert_array_equal(given.argmax(1), np.argmax(wanted, 1))
    for same in (map(str, paths), [p.read_bytes() for p in paths], waves):
        np.testing.assert_array_equal(loaded.predict(same), given)
    np.testing.assert_allclose(loaded.predict(paths[0]), given[:1], atol=1e-6)
    np.testing.assert_allclose(loaded.predict(waves[0]), given[:1], atol=1e-6)
    with pytest.raises(errors.InputError, match="must be a clip"):
        loaded.predict([3])


def test_the_report_shows_spectrograms_of_the_mistakes(sound_run):
    run, _ = sound_run
    page = (run / "report.html").read_text()
    assert "data:image/png;base64," in page
    assert "120 clips of 2 classes" in page
    assert "high/" in page
    for name in ("predictions.csv", "examples.npz", "answers.json"):
        assert (run / name).exists()
    loaded = artifact.load(run)
    assert len(loaded.examples.thumbnails) == len(loaded.examples.names)
    assert loaded.examples.names[0].split("/")[0] in ("low", "high")


def test_files_and_folders_are_predicted_on_the_command_line(
    sound_run, tones, call, capsys, tmp_path
):
    run, _ = sound_run
    folder = tmp_path / "new"
    folder.mkdir()
    other = tone(1, 2000, 2500, 0.3, 44_100)
    soundfile.write(folder / "a.flac", other, 44_100)
    soundfile.write(folder / "b.ogg", np.stack([other, other], 1), 44_100)
    (folder / "notes.txt").write_text("No sound.")
    (folder / "c.wav").write_bytes(b"")
    soundfile.write(folder / "d.wav", np.zeros(99), RATE)
    one = tones / "low" / "1.wav"
    assert call("predict", run, folder, one) == 1
    output = capsys.readouterr()
    head, *rows = rows_of(output.out)
    assert head == ["audio", "class", "probability", "note"]
    names = [str(folder / "a.flac"), str(folder / "b.ogg"), str(one)]
    assert [row[0] for row in rows] == names
    assert [row[1] for row in rows] == ["high", "high", "low"]
    assert "Left out, since they are no clips: 1." in output.err
    assert "2 of 5 inputs cannot be used" in output.err
    assert "c.wav: is empty" in output.err
    assert "d.wav: is silent" in output.err
    (tmp_path / "empty").mkdir()
    with pytest.raises(errors.InputError, match="name at least one clip"):
        prediction.find([tmp_path / "empty"], prediction.FILES["audio"])


def test_a_fresh_process_predicts_without_what_only_training_needs(sound_run, tones):
    run, _ = sound_run
    pytest.importorskip("ai_edge_litert")
    loaded = artifact.load(run)
    assert loaded.is_converted
    path = tones / "high" / "1.wav"
    program = (
        "import sys; from keras_tl import cli\n"
        f"sys.argv = ['keras-tl', 'predict', {str(run)!r}, {str(path)!r}, '--top=2']\n"
        "cli.main()\n"
        "unwanted = {'tensorflow', 'keras', 'keras_hub', 'sklearn'}\n"
        "assert not unwanted & set(sys.modules)"
    )
    done = subprocess.run(
        [sys.executable, "-c", program],
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    values = loaded.predict(path)[0]
    shown = {row[1]: row[2] for row in rows_of(done.stdout)[1:]}
    for name, value in zip(loaded.class_names, values, strict=True):
        assert shown[name] == f"{value:.6f}"


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"rate": None}, "rate of input must be a number"),
        ({"rate": "8000"}, "rate of input must be a number"),
        ({"noise": -1}, "noise of input must be a number"),
        ({"shape": [None]}, "must have a number of samples"),
        ({"kind": "video"}, "must be one of image, text, audio"),
    ],
)
def test_a_manifest_without_what_sound_needs_is_named(sound_run, changed, message):
    run, _ = sound_run
    manifest = files.read_json(run / "manifest.json")
    manifest["input"] |= changed
    files.write_json(run / "manifest.json", manifest)
    with pytest.raises(errors.InputError, match=message):
        artifact.load(run)


@pytest.mark.parametrize(
    "format", ["litert", pytest.param("onnx", marks=pytest.mark.slow)]
)
def test_an_export_of_sound_needs_nothing_of_keras_tl(
    sound_run, tones, tmp_path, format, capsys
):
    run, _ = sound_run
    pytest.importorskip("onnxruntime")
    contract = export.export(run, format, tmp_path / "out")
    assert "Compared on clips that the run has kept" in capsys.readouterr().out
    assert contract["input"]["rate"] == RATE
    assert contract["requirements"][1:] == ["numpy", "soundfile", "soxr"]
    high = tone(1, 2000, 2500, 0.3, 44_100)
    soundfile.write(tmp_path / "new.flac", np.stack([high, high], 1), 44_100)
    paths = [tones / "low" / "1.wav", tones / "high" / "1.wav", tmp_path / "new.flac"]
    done = subprocess.run(
        [sys.executable, "predict.py", *map(str, paths)],
        cwd=tmp_path / "out",
        env={**os.environ, "PYTHONPATH": ""},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    loaded = artifact.load(run)
    for row, wanted in zip(rows_of(done.stdout), loaded.predict(paths), strict=True):
        assert row[1] == loaded.class_names[wanted.argmax()]
        assert float(row[2]) == pytest.approx(wanted.max(), abs=1e-4)
    soundfile.write(tmp_path / "empty.wav", np.zeros(0, "float32"), 16_000)
    prepare = runpy.run_path(str(tmp_path / "out" / "predict.py"))["prepare"]
    with pytest.raises(ValueError, match="holds no samples"):
        prepare(tmp_path / "empty.wav")
    (run / exemplars.FILE).unlink()
    with pytest.raises(errors.InputError, match="Name some with --examples PATH"):
        export.export(run, "litert-int8", tmp_path / "int8")
    made = export.export(run, format, tmp_path / "other", sample=tones)
    assert made["parity"]["origin"].startswith("clips of tones")
