import itertools
import math

import numpy as np
import pytest
from PIL import Image

from keras_tl.analysis import evaluation, multi_label, regression, slices
from keras_tl.data import clips, sources, text
from keras_tl.data.splits import Split

NAMES = ("ant", "bee")


def evaluated(right):
    """Return an evaluation whose answers are right where `right` says so."""
    labels = np.arange(len(right)) % 2
    answers = np.where(right, labels, 1 - labels)
    return evaluation.evaluate(labels, np.eye(2, dtype="float32")[answers], NAMES)


def images(count=200, seed=0):
    """Return images of all levels of brightness, in random order."""
    rng = np.random.default_rng(seed)
    levels = rng.permutation(np.linspace(20, 235, count)).astype("int64")
    noise = rng.integers(-20, 20, (count, 8, 8, 3))
    pixels = (levels[:, None, None, None] + noise).clip(0, 255).astype("uint8")
    return Split(sources.ImageArray(pixels), np.arange(count) % 2), levels


def test_answers_right_at_random_name_a_slice_in_at_most_the_nominal_share_of_draws():
    rng = np.random.default_rng(1)
    draws, named = 200, 0
    properties = {str(number): rng.random(80) for number in range(3)}
    for _ in range(draws):
        rows = slices.compare(rng.random(80) < 0.7, properties)
        assert len(rows) == 12
        named += slices.Slices(rows, "accuracy").worst.differs
    # 5 %, and what so many draws vary by.
    assert named / draws <= 0.05 + 2 * math.sqrt(0.05 * 0.95 / draws)


def test_dark_images_that_are_all_wrong_are_named():
    split, levels = images()
    found = slices.find(evaluated(levels > np.quantile(levels, 0.25)), split)
    worst = found.worst
    assert worst.differs
    assert worst.property == "brightness"
    assert (worst.count, worst.value, worst.others) == (50, 0.0, 1.0)
    assert worst.interval == evaluation.wilson_interval(0, 50)
    # The others are better than all that is not of them, for the same reason.
    assert found.sentence.startswith("4 slices differ from the others by more than")
    assert (
        f"worst of them is brightness {worst.group}: accuracy 0.0 % on 50 "
        in found.sentence
    )


def test_where_nothing_differs_the_sentence_says_so():
    split, _ = images()
    found = slices.find(evaluated(np.arange(200) % 5 > 0), split)
    assert found.sentence.startswith("No slice differs from the others by more than")
    assert not any(row.differs for row in found.rows)


@pytest.mark.parametrize("seed", range(20))
def test_equal_numbers_are_in_one_group_and_each_group_has_enough(seed):
    rng = np.random.default_rng(seed)
    count = int(rng.integers(1, 150))
    values = rng.integers(0, rng.integers(1, 60), count).astype("float64")
    groups = slices.groups(values)
    assert len(groups) in (0, 2, 3, 4)
    members = np.array(list(groups.values())).reshape(-1, count)
    assert (members.sum(axis=0) <= 1).all()
    assert (members.sum(axis=1) >= slices.FEWEST).all()
    for value in np.unique(values):
        same = members[:, values == value]
        assert (same == same[:, :1]).all()
    # From the smallest to the largest, without overlap.
    ends = [(values[one].min(), values[one].max()) for one in members]
    assert all(before[1] < after[0] for before, after in itertools.pairwise(ends))


def test_names_are_groups_of_their_own_and_an_empty_one_is_none():
    values = np.array(["JPEG"] * 30 + ["PNG"] * 12 + ["GIF"] * 9 + [""] * 20)
    groups = slices.groups(values)
    assert {name: one.sum() for name, one in groups.items()} == {"JPEG": 30, "PNG": 12}


def test_files_are_told_apart_by_size_shape_format_camera_and_folder(tmp_path):
    exif = Image.Exif()
    exif[0x0110] = "K-1"
    paths = []
    for name in ("photo/ant", "photo/bee", "sketch/ant", "sketch/bee"):
        (tmp_path / name).mkdir(parents=True)
        kind, style = ("jpg", {"exif": exif}) if "photo" in name else ("png", {})
        size = (40, 20) if "photo" in name else (30, 60)
        for number in range(10):
            paths.append(tmp_path / name / f"{number}.{kind}")
            Image.new("RGB", size, (9 * number,) * 3).save(paths[-1], **style)
    labels = np.repeat([0, 1, 0, 1], 10)
    split = Split(sources.ImageFiles(tuple(paths), 16), labels)
    found = slices.properties(split)
    first = {name: values[[0, -1]].tolist() for name, values in found.items()}
    assert first["shorter side, pixels"] == [20, 30]
    assert first["width / height"] == [2, 0.5]
    assert first["format"] == ["JPEG", "PNG"]
    assert first["camera"] == ["K-1", "not noted"]
    # The folders of classes are left out: the table of classes has them.
    assert first["folder"] == ["photo", "sketch"]
    assert sum("folder" in name for name in found) == 1
    whole = slices.properties(split.take(range(20)))
    assert not any("folder" in name for name in whole)


def test_images_in_memory_have_brightness_contrast_and_no_file():
    split, levels = images()
    found = slices.properties(split)
    assert {*found} == {
        *("brightness, %", "contrast, %", "shorter side, pixels", "width / height")
    }
    np.testing.assert_allclose(found["brightness, %"], levels / 2.55, atol=2)


def test_texts_are_told_apart_by_their_length():
    texts = tuple("word " * (1 + number) for number in range(80))
    split = Split(text.Texts(texts), np.arange(80) % 2)
    found = slices.find(evaluated(np.arange(80) < 60), split)
    assert {row.property for row in found.rows} == {"length"}
    assert (found.worst.group, found.worst.value) == ("61 to 80 words", 0.0)


def test_clips_are_told_apart_by_length_and_loudness(tmp_path):
    soundfile = pytest.importorskip("soundfile")
    paths = []
    for number in range(4):
        paths.append(tmp_path / f"{number}.wav")
        wave = 0.1 * (1 + number) * np.sin(np.arange(800 * (1 + number)))
        soundfile.write(paths[-1], wave, 8_000)
    source = clips.Clips(tuple(paths), 8_000, 800)
    found = slices.properties(Split(source, [0, 1, 0, 1]))
    np.testing.assert_allclose(found["length, s"], [0.1, 0.2, 0.3, 0.4])
    rows = sources.Stored(source, source.read(range(4)), "audio")
    found = slices.properties(Split(rows, [0, 1, 0, 1]))
    expected = 20 * np.log10([0.1, 0.2, 0.3, 0.4]) - 3.01
    np.testing.assert_allclose(found["loudness, dB"], expected, atol=0.1)


def test_of_several_labels_an_example_is_right_where_all_are():
    split, levels = images()
    labels = np.ones((200, 3), "float32")
    logits = np.ones((200, 3), "float32")
    logits[levels < np.quantile(levels, 0.25), 2] = -1
    found = slices.find(multi_label.evaluate(labels, logits, "abc"), split)
    assert found.worst.differs
    assert (found.worst.value, found.worst.others) == (0, 1)
    assert "all labels correct 0.0 %" in found.sentence


def test_numbers_are_compared_by_their_absolute_errors():
    split, levels = images()
    dark = levels < np.quantile(levels, 0.25)
    errors = np.where(dark, 3.0, 1.0)[:, None]
    found = slices.find(regression.evaluate(0 * errors, errors, ["age"]), split)
    assert (found.worst.value, found.worst.others) == (3, 1)
    assert found.worst.differs
    assert "mean absolute error 3.000" in found.sentence
    same = slices.find(regression.evaluate(0 * errors, 1 + 0 * errors, ["age"]), split)
    assert not any(row.differs for row in same.rows)


def test_features_and_few_examples_have_no_slices():
    features = Split(sources.Arrays(np.zeros((200, 4), "float32")), np.arange(200) % 2)
    assert slices.find(evaluated(np.arange(200) % 5 > 0), features) is None
    split, _ = images(count=19)
    assert slices.find(evaluated(np.arange(19) % 5 > 0), split) is None


def test_of_very_many_examples_some_are_looked_at(monkeypatch):
    monkeypatch.setattr(slices, "MOST", 100)
    split, levels = images()
    found = slices.find(evaluated(levels > np.quantile(levels, 0.25)), split)
    assert sum(row.count for row in found.rows if row.property == "brightness") == 100
    assert found.worst.differs
    assert found.worst.property == "brightness"
