"""Every fault planted into clips is found by its code; clean clips raise nothing."""

import json
import re

import numpy as np
import pytest

from keras_tl import errors
from keras_tl.analysis import doctor, doctor_page, findings
from keras_tl.data import assembly, datasets, folders
from tests.analysis import planted

soundfile = pytest.importorskip("soundfile")

RATE = 8_000


def sound(seed, seconds=0.2, rate=RATE, lowest=200):
    """Tones of its own for each seed, one after the other, in slight noise."""
    rng = np.random.default_rng(seed)
    times = np.arange(round(seconds * rate)) / rate
    tones = np.repeat(rng.uniform(lowest, 3000, 4), -(-len(times) // 4))[: len(times)]
    swell = np.hanning(len(times)) * rng.uniform(0.3, 0.6)
    noise = rng.standard_normal(len(times)) * 1e-3
    return (np.sin(2 * np.pi * np.cumsum(tones) / rate) * swell + noise).astype("f4")


def save(path, samples, rate=RATE, **options):
    path.parent.mkdir(parents=True, exist_ok=True)
    soundfile.write(path, samples, rate, **options)
    return path


@pytest.fixture
def folder(tmp_path):
    """Clips of two words with splits of their own, without anything wrong."""
    seed = 0
    for split, count in (("train", 30), ("validation", 8), ("test", 8)):
        for word in ("no", "yes"):
            for _ in range(count):
                seed += 1
                length = np.random.default_rng(seed).uniform(0.15, 0.3)
                name = f"{chr(97 + seed % 26)}{chr(97 + seed // 26)}.wav"
                save(tmp_path / "words" / split / word / name, sound(seed, length))
    return tmp_path / "words"


def first(folder, name, index=0):
    return sorted((folder / name).iterdir())[index]


def codes(noticed, *severities):
    return {
        f.code for f in noticed if f.severity in (severities or findings.SEVERITIES)
    }


def findings_of(folder, **options):
    return doctor.check(folder, features=False, **options).findings


def truncated(folder):
    path = first(folder, "train/no")
    path.write_bytes(path.read_bytes()[:400])


def silent(folder):
    save(folder / "train/no/zz.wav", np.zeros(2_000, "float32"))


def empty(folder):
    save(folder / "train/no/zz.wav", np.zeros(0, "float32"))


def clipped(folder):
    for path in sorted((folder / "train/no").iterdir())[:5]:
        save(path, np.clip(soundfile.read(path)[0] * 20, -1, 1))


def short(folder):
    save(folder / "train/no/zz.wav", sound(900, 0.02))


def long(folder):
    save(folder / "train/no/zz.wav", sound(900, 2.0))


def of_other_rates(folder):
    save(folder / "train/no/zz.wav", sound(900, 0.2, 16_000), 16_000)


def stereo(folder):
    both = np.stack([sound(900), sound(900)], axis=1)
    save(folder / "train/no/zz.wav", both)


def misnamed(folder):
    path = first(folder, "train/no")
    samples, rate = soundfile.read(path)
    save(path, samples, rate, format="FLAC")


def copied(folder):
    samples, rate = soundfile.read(first(folder, "train/no"), dtype="int16")
    save(folder / "test/no/zz.flac", samples, rate)


def quieter(folder):
    samples, rate = soundfile.read(first(folder, "train/no"))
    save(folder / "test/no/zz.flac", 0.4 * samples, rate)


def under_two_labels(folder):
    samples, rate = soundfile.read(first(folder, "train/no"))
    save(folder / "train/yes/zz.wav", samples, rate)


def of_another_level(folder):
    for path in folder.rglob("no/*.wav"):
        save(path, soundfile.read(path)[0] * 0.02)


def of_another_length(folder):
    for path in folder.rglob("no/*.wav"):
        save(path, soundfile.read(path)[0][:1_000])


def unbalanced(folder):
    for path in sorted((folder / "train/yes").iterdir())[2:]:
        path.unlink()


PLANTED = {
    "unreadable-clip": (truncated,),
    "silent-clip": (silent, empty),
    "clipped-clip": (clipped,),
    "short-clip": (short,),
    "long-clip": (long,),
    "mixed-rates": (of_other_rates,),
    "mixed-channels": (stereo,),
    "wrong-extension": (misnamed,),
    "exact-copies-across-splits": (copied,),
    "near-copies-across-splits": (quieter,),
    "exact-copies-two-labels": (under_two_labels,),
    "label-in-file-properties": (of_another_level, of_another_length),
    "class-imbalance": (unbalanced,),
    "small-class": (unbalanced,),
}
# Faults that show themselves in a second way.
ALSO = {"class-imbalance", "small-class"}


@pytest.mark.parametrize(("code", "plant"), planted.cases(PLANTED))
def test_a_planted_fault_is_found_by_its_code_and_nothing_else_is(folder, code, plant):
    plant(folder)
    noticed = findings_of(folder)
    planted.assert_alone(noticed, code, ALSO)
    for one in noticed:
        assert "image" not in f"{one.message} {one.remedy}".replace("unlike-image", "")


def test_clean_clips_raise_nothing(folder):
    assert not codes(findings_of(folder))


def spoken(folder, speakers="abcdef", takes=8):
    """Words of speakers, each of whom has a pitch of their own, in one folder."""
    seed = 0
    for word in ("no", "yes"):
        for number, speaker in enumerate(speakers):
            tone = np.sin(np.arange(1_600) * 2 * np.pi * (300 + 400 * number) / RATE)
            for take in range(takes):
                seed += 1
                samples = 0.3 * tone * np.hanning(1_600) + 0.1 * sound(seed)
                save(folder / word / f"{word}_{speaker}_{take}.wav", samples)
    return folder


def test_speakers_are_found_in_the_names_and_their_pattern_is_right(tmp_path):
    folder = spoken(tmp_path / "words")
    save(folder / "no" / "other.wav", sound(999))
    (one,) = [f for f in findings_of(folder) if f.severity == "warning"]
    assert one.code == "named-group"
    pattern = re.search(r"`--groups '(.+?)'`", one.remedy).group(1)
    noticed = findings_of(folder, groups=pattern)
    assert not codes(noticed, "error", "warning")
    kinds = datasets.choices_of("audio")
    given = folders.read(folder, assembly.Options(groups=pattern), kinds)
    assert {file.entry.group for file in given.files} == {None, *"abcdef"}


def test_names_that_only_count_are_no_speakers(folder):
    for number, path in enumerate(sorted(folder.rglob("*.wav"))):
        path.rename(path.with_name(f"{path.parent.name}_{number % 3}_{number}.wav"))
    assert not codes(findings_of(folder))


def test_a_speaker_in_two_splits_is_an_error(tmp_path):
    folder = tmp_path / "words"
    for split in ("train", "test"):
        spoken(folder / split, "abc" if split == "train" else "cd")
    noticed = findings_of(folder, groups="_([a-z])_")
    assert "group-across-splits" in codes(noticed, "error")
    assert "no-splits" not in codes(noticed)
    (one,) = [f for f in noticed if f.code == "group-across-splits"]
    assert one.examples == ("c (train, test)",)


def test_without_the_clips_of_the_fix_list_nothing_is_wrong(folder, tmp_path):
    for plant in (truncated, copied, under_two_labels, short):
        plant(folder)
    noticed = findings_of(folder)
    assert findings.are_wrong(noticed)
    findings.write_fix_list(tmp_path / "fix.txt", noticed)
    left_out = (tmp_path / "fix.txt").read_text().splitlines()
    assert not codes(findings_of(folder, leave_out=left_out), "error", "warning")
    loaded = datasets.load(folder, leave_out=left_out)
    assert loaded.train.inputs.kind == "audio"


def test_the_page_shows_spectrograms_and_plays_small_clips(folder, tmp_path):
    short(folder)
    save(folder / "train/no/zy.wav", sound(901, 9.0))
    diagnosis = doctor.check(folder, features=False)
    page = tmp_path / "page.html"
    doctor_page.write(page, diagnosis.findings, diagnosis.records, "words")
    text = page.read_text()
    assert text.count("<audio") == 1
    assert text.count('<img src="data:image/') == 2
    assert "media-src data:" in text


def test_the_command_counts_clips(folder, call, capsys):
    long(folder)
    assert call("check", folder) == 0
    assert "93 clips checked" in capsys.readouterr().out
    assert call("check", folder, "--json") == 0
    (one,) = json.loads(capsys.readouterr().out)
    assert one["code"] == "long-clip"


def test_clips_in_memory_are_checked_for_copies(folder):
    loaded = datasets.load(folder)
    splits = datasets.Splits(
        loaded.train, loaded.validation, loaded.train.take(range(9)), ["no", "yes"], ""
    )
    assert "exact-copies-across-splits" in codes(doctor.check_splits(splits), "error")
    with pytest.raises(errors.InputError):
        doctor.check(folder / "nowhere")


@pytest.mark.real
def test_spoken_digits_raise_nothing_but_their_speakers(real_data):
    folder = real_data / "data/spoken_digits"
    labels, speakers = r"^([^_]+)_", r"_([^_]+)_"
    noticed = doctor.check(folder, labels=labels).findings
    assert codes(noticed, "error", "warning") == {"named-group"}
    noticed = doctor.check(folder, labels=labels, groups=speakers).findings
    assert not codes(noticed, "error", "warning")
