"""Sound becomes rows of one length, and folders and tables of it become splits."""

import io
import subprocess
import sys
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from keras_tl import errors
from keras_tl.data import (
    audio,
    datasets,
    duplicates,
    sound_files,
    sources,
    spectrogram,
    splits,
    tables,
    waves,
)
from keras_tl.data.clips import Clips
from keras_tl.data.tables import Columns

soundfile = pytest.importorskip("soundfile")

RATE = 8_000


def sound(seed=0, seconds=0.2, rate=RATE):
    """A chord of its own for each seed, that swells and fades."""
    rng = np.random.default_rng(seed)
    times = np.arange(round(seconds * rate)) / rate
    tones = rng.uniform(100, 3000, 3)[:, None] * 2 * np.pi * times
    swell = np.hanning(len(times))
    return (np.sin(tones).mean(axis=0) * swell * 0.8).astype("float32")


def content(samples, rate=RATE, **options):
    buffer = io.BytesIO()
    soundfile.write(buffer, samples, rate, **{"format": "WAV", **options})
    return buffer.getvalue()


def save(path, samples, rate=RATE, **options):
    path.parent.mkdir(parents=True, exist_ok=True)
    ends = {".wav": "WAV", ".flac": "FLAC", ".ogg": "OGG", ".mp3": "MP3"}
    format = ends[path.suffix]
    path.write_bytes(content(samples, rate, **{"format": format, **options}))
    return path


@pytest.fixture
def words(tmp_path):
    """Twelve clips of each of two words, by three speakers."""
    for seed, word in enumerate(["no", "yes"]):
        for take in range(12):
            name = f"{'abc'[take % 3]}_{take}.wav"
            samples = sound(100 * seed + take, 0.1 + 0.01 * take)
            save(tmp_path / word / name, samples)
    return tmp_path


@settings(deadline=None, max_examples=60)
@given(st.integers(1, 400), st.integers(1, 400), st.integers(0, 3))
def test_a_clip_is_in_the_middle_or_cut_and_never_digital_silence(
    length, samples, seed
):
    clip = sound(seed, length / RATE) + np.float32(0.01)
    made = waves.decode(clip, RATE, samples)
    assert made.dtype == "float32"
    assert made.shape == (samples,)
    assert np.abs(made).max() <= 1
    if length <= samples:
        start = (samples - length) // 2
        np.testing.assert_array_equal(made[start : start + length], clip)
        rest = np.delete(made, np.s_[start : start + length])
        assert not rest.size or 0 < np.abs(rest).max() < 10 * waves.NOISE
        assert (rest != 0).all()
    else:
        starts = range(length - samples + 1)
        energy = [np.square(clip[s : s + samples], dtype="f8").sum() for s in starts]
        assert np.square(made, dtype="f8").sum() >= max(energy) * (1 - 1e-5)
        assert any((clip[s : s + samples] == made).all() for s in starts)
    again = waves.decode(clip.copy(), RATE, samples)
    np.testing.assert_array_equal(again, made)


def test_noise_is_that_of_the_clip_and_has_the_wanted_level():
    first, second = (waves.decode(sound(s), RATE, 20_000) for s in (1, 2))
    assert not np.array_equal(first[:5000], second[:5000])
    assert np.std(first[:5000]) == pytest.approx(waves.NOISE, rel=0.1)
    assert not waves.decode(sound(1), RATE, 20_000, noise=0)[:5000].any()


def test_of_equally_loud_parts_the_middle_is_taken():
    clip = np.full(101, 0.5, "float32") * np.float32(-1) ** np.arange(101)
    marked = clip + np.linspace(0, 1e-9, 101, dtype="float32")
    assert waves._loudest(marked, 51) == 25


@pytest.mark.parametrize(
    ("format", "subtype", "tolerance"),
    [
        ("WAV", "PCM_16", 1e-4),
        ("WAV", "PCM_U8", 0.01),
        ("WAV", "FLOAT", 0),
        ("FLAC", "PCM_16", 1e-4),
        ("OGG", "VORBIS", 0.1),
        ("MP3", None, 0.1),
    ],
)
def test_formats_are_read_alike(format, subtype, tolerance):
    clip = sound(3, 0.5, 16_000)
    file = content(clip, 16_000, format=format, subtype=subtype)
    made = waves.decode(file, 16_000, 12_000, noise=0)
    wanted = waves.decode(clip, 16_000, 12_000, noise=0)
    close = np.abs(made - wanted)
    assert close.mean() <= tolerance
    checked = waves.check(file)
    assert checked.problem is None
    assert checked.seconds == pytest.approx(0.5, abs=0.1)
    assert (checked.rate, checked.channels) == (16_000, 1)


def test_channels_are_averaged_and_other_rates_resampled():
    left, right = sound(1), sound(2)
    both = content(np.stack([left, right], axis=1), subtype="FLOAT")
    wanted = waves.decode((left + right) / 2, RATE, 1_600)
    np.testing.assert_allclose(waves.decode(both, RATE, 1_600), wanted, atol=1e-6)
    tone = np.sin(np.arange(16_000) * 2 * np.pi * 440 / 16_000) * 0.5
    other = np.sin(np.arange(44_100) * 2 * np.pi * 440 / 44_100) * 0.5
    file = content(other, 44_100, subtype="FLOAT")
    made = waves.decode(file, 16_000, 16_000)
    np.testing.assert_allclose(made[200:-200], tone[200:-200], atol=1e-3)


def test_samples_in_memory_are_floats_or_16_bits():
    steps = np.rint(sound(1) * 2**15).astype("int16")
    floats = steps / np.float32(2**15)
    made = [
        waves.decode(clip, RATE, 2_000) for clip in (steps, floats, floats[:, None])
    ]
    np.testing.assert_array_equal(made[0], made[1])
    np.testing.assert_array_equal(made[0], made[2])
    for wrong in (
        steps.astype("float32"),
        np.zeros((2, 2, 2)),
        np.int32([1]),
        sound()[:0],
    ):
        with pytest.raises(errors.InputError, match=r"`clip` must be (float )?in \[-1"):
            waves.decode(wrong, RATE, 10)


def header(size):
    """A WAV that says that it holds so many bytes."""
    whole = bytearray(content(sound(1), subtype="PCM_16"))
    place = whole.index(b"data") + 4
    whole[place : place + 4] = size.to_bytes(4, "little")
    return bytes(whole)


@pytest.mark.parametrize(
    ("file", "problem"),
    [
        (b"", "is empty (0 bytes)"),
        (content(np.zeros(0)), "holds no samples: its length is zero"),
        (content(np.full(1, 0.3)), "is too short: it has 1 sample"),
        (content(np.zeros(900)), "is silent: digital silence"),
        (content(np.full(900, 0.3)), "is silent: digital silence"),
        (content(sound() * 1e-4), "is silent: its loudest sample is at -8"),
        (
            content(np.stack([sound(1), -sound(1)], 1), subtype="FLOAT"),
            "is silent, the average of its 2 channels: digital silence",
        ),
        (
            content(sound() * np.nan, subtype="FLOAT"),
            "holds values that are no numbers",
        ),
        (b"<html>not found</html>", "cannot be decoded: "),
        (content(sound())[:2000], "is truncated: 1,"),
        (header(100_000), "is truncated: 96,800 of its 100,000 bytes"),
        (content(sound(seconds=1), format="FLAC")[:3000], "is truncated"),
        (content(sound(), 100), "has an impossible rate of 100 Hz"),
        (content(np.ones((9, 40)) / 2), "has 40 channels; save it with 32 at most"),
    ],
    ids=lambda value: value[:30] if isinstance(value, str) else None,
)
def test_what_is_wrong_with_a_file_is_named(tmp_path, file, problem):
    found = waves.check(file).problem
    assert found.startswith(problem) or (problem == "is truncated" and found)
    path = tmp_path / "a.wav"
    path.write_bytes(file)
    with pytest.raises(errors.InputError) as raised:
        waves.decode(path, RATE, 100)
    assert str(raised.value) == f"Cannot use {path}: it {found}."


def test_the_header_alone_tells_length_and_format(tmp_path):
    for format, suffix in (("WAV", ".wav"), ("FLAC", ".flac"), ("OGG", ".ogg")):
        file = content(sound(seconds=0.25), format=format)
        (tmp_path / "a").write_bytes(file)
        assert (
            sound_files.seconds_of(file)
            == sound_files.seconds_of(tmp_path / "a")
            == 0.25
        )
        assert sound_files.format_of(file) == suffix
    for wrong in (b"no sound", b"", tmp_path / "absent.wav"):
        with pytest.raises(errors.InputError, match="it cannot be (decoded|read): "):
            sound_files.seconds_of(wrong)


def test_a_size_that_no_program_knew_is_no_fault():
    assert waves.check(header(2**32 - 1)).problem is None


def test_a_recording_that_is_too_long_is_refused():
    waves.decode(content(sound(seconds=1)), RATE, 10, most_seconds=1)
    with pytest.raises(errors.InputError, match="is longer than 1 seconds; cut it"):
        waves.decode(content(sound(seconds=1.1)), RATE, 10, most_seconds=1)


def test_a_file_that_is_not_there_is_named(tmp_path):
    with pytest.raises(
        errors.InputError, match=r"absent\.wav: it cannot be read: No su"
    ):
        waves.decode(tmp_path / "absent.wav", RATE, 10)
    assert "No such file" in waves.check_file(tmp_path / "absent.wav").problem


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"rate": 0}, "`rate` must be at least 1"),
        ({"rate": 1.5}, "`rate` must be a whole number"),
        ({"samples": 0}, "`samples` must be at least 1"),
        ({"noise": -1}, "`noise` must be at least 0"),
    ],
)
def test_impossible_settings_are_refused(options, message):
    with pytest.raises(errors.InputError, match=message):
        waves.decode(sound(), **{"rate": RATE, "samples": 10, **options})


def test_clipped_recordings_are_told_from_loud_ones():
    loud = sound(1) / np.abs(sound(1)).max()
    assert not waves.check(content(loud)).is_clipped
    assert waves.check(content(np.clip(3 * loud, -1, 1))).is_clipped


@pytest.mark.parametrize("chosen", [[], [2], [1, 0, 1]])
def test_clips_read_what_decode_gives(tmp_path, chosen):
    path = save(tmp_path / "a.wav", sound(0))
    paths = (path, content(sound(1)), sound(2))
    clips = Clips(paths, RATE, 1_000)
    wanted = [waves.decode(paths[n], RATE, 1_000) for n in chosen]
    read = clips.read(chosen)
    assert (read.shape, read.dtype) == ((len(chosen), 1_000), np.float32)
    np.testing.assert_array_equal(read, np.reshape(wanted, read.shape))
    np.testing.assert_array_equal(clips.take(chosen).read(range(len(chosen))), read)
    pictures = clips.preview(chosen, 32)
    assert (pictures.shape, pictures.dtype) == ((len(chosen), 32, 32, 3), np.uint8)
    assert clips.names(chosen) is None
    assert clips.take([0]).names([0]) == [str(path)]


def test_clips_describe_what_a_model_takes():
    spec = Clips((sound(),), 16_000, 12_512).input_spec()
    assert spec["kind"] == "audio"
    assert (spec["shape"], spec["dtype"], spec["rate"]) == ([12_512], "float32", 16_000)
    assert spec["noise"] == waves.NOISE
    assert "16,000 Hz, cut to the loudest 0.78 seconds" in spec["preprocessing"]


def test_the_same_recording_is_one_whatever_the_format(tmp_path):
    paths = [
        save(tmp_path / "a.wav", sound(1), subtype="PCM_16"),
        tmp_path / "b.flac",
        tmp_path / "c.wav",
        save(tmp_path / "d.wav", sound(2)),
        save(tmp_path / "e.wav", sound(1), 2 * RATE),
    ]
    steps, _ = soundfile.read(paths[0], dtype="float32")
    save(paths[1], np.rint(steps * 2**15).astype("int16"), subtype="PCM_16")
    save(paths[2], np.stack([steps] * 2, 1), subtype="FLOAT")
    clips = Clips(tuple(paths), RATE, 500)
    hashes = clips.hashes()
    assert len(set(hashes[:3])) == 1
    assert len(set(hashes)) == 3
    assert hashes == [waves.check_file(path).hash for path in paths]
    digests = {clips.digest(), clips.take([1, 0, 2, 3, 4]).digest()}
    assert len(digests) == 2
    one = splits.Split(clips, [0] * 5)
    assert splits.copies(one)[0].tolist() == [0, 0, 0, 1, 2]


def test_copies_in_other_formats_and_rates_look_alike():
    import soxr

    def word(seed):
        """Bands of noise, each at a time of its own."""
        rng = np.random.default_rng(seed)
        bands = rng.normal(size=(8, 8)) * rng.uniform(0, 1, (8, 8)) ** 2
        levels = np.kron(bands, np.ones((1_000, 1)))
        times = np.arange(8_000)[:, None] / 16_000
        phases = rng.uniform(0, 2 * np.pi, (8, 12, 1, 1))
        made = 0
        for band in range(8):
            tones = 150 + 440 * band + rng.uniform(0, 440, 12)
            waves = np.sin(2 * np.pi * times * tones + phases[band, :, 0, 0])
            made = made + levels[:, band] * waves.sum(axis=1)
        return (made / np.abs(made).max() * 0.9).astype("float32")

    originals = [word(seed) for seed in range(8)]
    copies = [
        content(soxr.resample(clip, 16_000, 44_100) * 0.7, 44_100, format=format)
        for clip in originals
        for format in ("OGG", "WAV")
    ]
    checked = [waves.check(content(clip, 16_000)) for clip in originals]
    checked += map(waves.check, copies)
    pairs = duplicates.near(
        np.array([one.look for one in checked], "uint64"),
        np.stack([one.thumbnail for one in checked]),
    )
    numbers = duplicates.blocks(list(range(24)), pairs=pairs)
    assert len(set(numbers[:8])) == 8
    assert (numbers[8:] == np.repeat(numbers[:8], 2)).mean() > 0.8


def test_a_spectrogram_shows_time_and_frequency():
    times = np.arange(RATE) / RATE
    low_then_high = np.sin(2 * np.pi * np.where(times < 0.5, 300, 3000) * times)
    picture = spectrogram.draw(low_then_high, RATE, 40).astype(int).sum(axis=2)
    left, right = picture[:, :18].mean(axis=1), picture[:, 22:].mean(axis=1)
    assert left.argmax() > 25
    assert right.argmax() < 10
    quiet = spectrogram.draw(np.zeros(10), RATE, 16)
    assert quiet.shape == (16, 16, 3)


def test_a_folder_of_sound_is_split_in_three(words):
    data = audio.from_folder(words, rate=RATE, seconds=0.15)
    assert data.class_names == ("no", "yes")
    assert sum(len(split) for _, split in data.items()) == 24
    assert data.train.read([0]).shape == (1, 1_200)
    assert "24 clips of 2 classes" in str(data)
    assert (
        "Length 0.10 to 0.21 seconds, median 0.15, at 8,000 Hz; read as 0.15 seconds "
        "at 8,000 Hz, which cuts 12 clips." in data.origin
    )
    for _, split in data.items():
        decoded = Clips(split.inputs.source.paths, RATE, 1_200)
        every = range(len(split))
        np.testing.assert_array_equal(split.read(every), decoded.read(every))
        assert split.inputs.input_spec() == decoded.input_spec()
        assert split.inputs.hashes() == sources.Source.hashes(split.inputs)
        assert split.inputs.preview(every, 16).shape[1:] == (16, 16, 3)


def test_clips_that_do_not_fit_into_memory_are_read_again(words, monkeypatch):
    kept = audio.from_folder(words, rate=RATE)
    monkeypatch.setattr(audio.kinds, "has_room", lambda size: False)
    again = audio.from_folder(words, rate=RATE)
    assert again.train.inputs.in_memory() is None
    every = range(len(kept.train))
    np.testing.assert_array_equal(kept.train.read(every), again.train.read(every))
    assert splits.describe(kept)["sha256"] == splits.describe(again)["sha256"]
    assert kept.train.read([0]).shape == (1, round(0.21 * RATE))


@pytest.mark.parametrize("given", [None, "audio"])
def test_data_of_sound_are_recognized(words, given):
    (words / "no" / "cover.jpg").write_bytes(b"no image")
    data = datasets.load(words, kind=given, rate=RATE, seconds=0.1)
    assert data.train.inputs.kind == "audio"
    assert "Left out: .jpg files 1 (no/cover.jpg)." in data.origin
    (words / "no" / "cover.jpg").unlink()
    with pytest.raises(errors.InputError, match="hold images as FOLDER/CLASS/image"):
        datasets.load(words, kind="image")
    with pytest.raises(errors.InputError, match="`kind` must be one of: audio, image"):
        datasets.load(words, kind="sound")


def test_recipes_for_images_say_that_sound_is_none(words):
    given = SimpleNamespace(data=words, bad_files="error", limit=None, seed=0)
    with pytest.raises(
        errors.InputError, match=r"hold images as .* It holds no/a_0\.wav"
    ):
        datasets.from_settings(given)


def test_speakers_stay_in_one_split(words):
    data = audio.from_folder(words, rate=RATE, groups=r"/([abc])_")
    speakers = [
        {path.name[0] for path in split.inputs.source.paths}
        for _, split in data.items()
    ]
    assert sorted(map(len, speakers)) == [1, 1, 1]
    assert set.union(*speakers) == set("abc")
    with pytest.raises(errors.InputError, match="match the path of every clip"):
        audio.from_folder(words, rate=RATE, groups=r"/([ab])_")


def test_a_speaker_in_two_given_splits_is_refused(tmp_path):
    for split, speaker in (("train", "a"), ("train", "b"), ("test", "b")):
        for seed, word in enumerate(["no", "yes"]):
            for take in range(4):
                seed = 100 * seed + 10 * "ab".index(speaker) + take
                samples = sound(seed + 50 * (split == "test"))
                save(tmp_path / split / word / f"{speaker}_{take}.wav", samples)
    audio.from_folder(tmp_path, rate=RATE)
    with pytest.raises(errors.InputError) as raised:
        audio.from_folder(tmp_path, rate=RATE, groups=r"/([ab])_\d")
    assert str(raised.value).startswith(
        "Every group must be in one split. 'b' has clips in test (test/no/b_0.wav) and "
        "in train (train/no/b_0.wav)."
    )


def test_classes_can_stand_in_the_names_of_files(tmp_path):
    for index in range(24):
        save(tmp_path / f"{index % 2}_{'abc'[index % 3]}_{index}.wav", sound(index))
    data = audio.from_folder(tmp_path, rate=RATE, labels=r"^(\d)_", groups=r"_([abc])_")
    assert data.class_names == ("0", "1")
    for _, split in data.items():
        for path, label in zip(split.inputs.source.paths, split.labels, strict=True):
            assert path.name[0] == data.class_names[label]
    with pytest.raises(
        errors.InputError, match="`labels` must match the path of every"
    ):
        audio.from_folder(tmp_path, rate=RATE, labels="^(0)_")
    with pytest.raises(
        errors.InputError, match="`labels` must be a regular expression"
    ):
        audio.from_folder(tmp_path, rate=RATE, labels="(")
    with pytest.raises(
        errors.InputError, match=r"hold clips as FOLDER/CLASS/clip\.wav"
    ):
        audio.from_folder(tmp_path, rate=RATE)


def test_bad_clips_are_listed_and_odd_ones_warned_of(words):
    loud = np.clip(9 * sound(900), -1, 1)
    save(words / "no" / "loud.wav", loud)
    save(words / "no" / "six.wav", np.stack([sound(s) for s in range(901, 907)], 1))
    (words / "yes" / "empty.wav").write_bytes(b"")
    save(words / "yes" / "silent.flac", np.zeros(100))
    save(words / "yes" / "other.wav", sound(907, rate=44_100), 44_100)
    (words / "yes" / "phone.m4a").write_bytes(b"x")
    with pytest.raises(errors.InputError) as raised:
        audio.from_folder(words, rate=RATE)
    message = str(raised.value)
    assert message.startswith("2 clips in")
    assert "yes/empty.wav: is empty (0 bytes)" in message
    assert "yes/silent.flac: is silent: digital silence" in message
    with pytest.warns(errors.InputWarning) as caught:
        data = audio.from_folder(words, rate=RATE, bad_files="skip")
    texts = sorted(str(one.message) for one in caught)
    assert len(texts) == 3
    assert (
        "more than two channels, all of which are averaged: 1 (no/six.wav)" in texts[1]
    )
    assert (
        "clipped, since they were too loud when recorded: 1 (no/loud.wav)" in texts[0]
    )
    assert "meant as clips: 1 (yes/phone.m4a)" in texts[2]
    assert (
        "at 8,000 Hz (26), 44,100 Hz (1); resampled to 8,000 Hz and read as 0.21 s"
        in data.origin
    )
    assert "bad clips 2 (yes/empty.wav, yes/silent.flac)" in data.origin


def test_a_table_names_clips_with_labels_and_speakers(words):
    paths = sorted(words.rglob("*.wav"))
    frame = pd.DataFrame(
        {
            "path": [path.relative_to(words).as_posix() for path in paths],
            "word": [path.parent.name for path in paths],
            "speaker": [path.name[0] for path in paths],
        }
    )
    frame.to_csv(words / "labels.csv", index=False)
    columns = Columns(label="word")
    data = datasets.load(
        words / "labels.csv", columns=columns, rate=RATE, groups="speaker"
    )
    assert data.train.inputs.kind == "audio"
    assert data.class_names == ("no", "yes")
    speakers = [
        {path.name[0] for path in split.inputs.source.paths}
        for _, split in data.items()
    ]
    assert sorted(map(len, speakers)) == [1, 1, 1]
    only_images = {"columns": columns, "choices": datasets.choices_of("image")}
    with pytest.raises(errors.InputError, match="a damaged|holds none|cannot be used"):
        tables.from_table(words / "labels.csv", **only_images)


def test_reading_sound_needs_neither_tensorflow_nor_keras(tmp_path):
    path = save(tmp_path / "a.wav", sound())
    program = (
        "import sys; from keras_tl.data import waves; "
        f"print(waves.decode({str(path)!r}, 16000, 100).shape); "
        "assert not {'tensorflow', 'keras'} & set(sys.modules)"
    )
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True
    )
    assert done.stdout.strip() == "(100,)", done.stderr


def test_without_the_extra_it_is_named(words, monkeypatch):
    find = errors.importlib.util.find_spec
    monkeypatch.setattr(
        "importlib.util.find_spec",
        lambda name: None if name == "soundfile" else find(name),
    )
    with pytest.raises(errors.InputError, match=r'pip install "keras-tl\[audio\]"'):
        audio.from_folder(words, rate=RATE)


@pytest.mark.real
def test_real_spoken_digits_are_read(real_data):
    data = audio.from_folder(
        real_data / "data" / "spoken_digits",
        rate=16_000,
        seconds=0.782,
        labels=r"^(\d)_",
        groups=r"^\d_(\w+)_",
    )
    assert len(data.class_names) == 10
    counts = [len(split) for _, split in data.items()]
    assert sum(counts) == 3_000
    assert all(count % 500 == 0 for count in counts)
    assert "which cuts 70 clips" in data.origin
