import hashlib
import os
import shutil
import string

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from PIL import Image

from keras_tl import errors
from keras_tl.data import folders


def save(path, value):
    """A small image of its own for each value."""
    path.parent.mkdir(parents=True, exist_ok=True)
    pixels = np.random.default_rng(value).integers(0, 256, (6, 5, 3), dtype="uint8")
    Image.fromarray(pixels).save(path)


def make(folder, counts, start=0):
    """`counts`: class -> number of images, all different."""
    for label, count in counts.items():
        for index in range(count):
            start += 1
            save(folder / label / f"{index}.png", start)
    return folder


def contents(split):
    return [
        hashlib.sha256(path.read_bytes()).hexdigest() for path in split.inputs.paths
    ]


def test_one_folder_is_split_in_three_with_every_class_in_each(tmp_path):
    data = folders.from_folder(make(tmp_path, {"b": 20, "a": 40, "c": 3}))
    assert data.class_names == ("a", "b", "c")
    counts = [np.bincount(split.labels).tolist() for _, split in data.items()]
    assert counts == [[28, 14, 1], [6, 3, 1], [6, 3, 1]]
    assert "drawn from the training images by content hash" in data.origin
    for _, split in data.items():
        for path, label in zip(split.inputs.paths, split.labels, strict=True):
            assert path.parent.name == data.class_names[label]


@settings(
    max_examples=15,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)
@given(
    st.lists(st.integers(0, 30), min_size=12, max_size=25),
    st.integers(0, 2),
    st.randoms(use_true_random=False),
)
def test_copies_stay_together_and_names_do_not_matter(tmp_path, values, seed, random):
    folder = tmp_path / "".join(random.choices(string.ascii_letters, k=20))
    names = [f"{random.random()}.png" for _ in values]
    for label, offset in (("a", 0), ("b", 100)):
        for name, value in zip(names, [*values, *range(3)], strict=False):
            save(folder / label / name, value + offset)
        for extra in range(3):
            save(folder / label / f"extra{extra}.png", 50 + extra + offset)
    first = folders.from_folder(folder, seed=seed)
    seen = [set(contents(split)) for _, split in first.items()]
    assert sum(map(len, seen)) == len(set.union(*seen))
    for label in ("a", "b"):
        for path in list((folder / label).iterdir()):
            path.rename(path.with_name(f"{random.random()}{path.name}"))
            os.utime(folder / label, (1, 1))
    again = folders.from_folder(folder, seed=seed)
    assert [set(contents(split)) for _, split in again.items()] == seen


def test_the_seed_decides_the_splits(tmp_path):
    make(tmp_path, {"a": 30, "b": 30})
    one, same, other = (folders.from_folder(tmp_path, seed=s) for s in (0, 0, 1))
    assert one.test.inputs.paths == same.test.inputs.paths
    assert one.test.inputs.paths != other.test.inputs.paths


@pytest.mark.parametrize("name", ["validation", "val", "valid", "Val"])
def test_given_splits_are_kept_and_the_missing_one_is_drawn(tmp_path, name):
    make(tmp_path / "train", {"a": 20, "b": 20})
    make(tmp_path / name, {"a": 2, "b": 3}, start=100)
    data = folders.from_folder(tmp_path)
    assert [len(split) for _, split in data.items()] == [34, 5, 6]
    assert data.origin.startswith(f"Folder {tmp_path.name}: test drawn")
    make(tmp_path / "test", {"a": 4, "b": 4}, start=200)
    data = folders.from_folder(tmp_path)
    assert [len(split) for _, split in data.items()] == [40, 5, 8]
    assert "the splits of its subfolders" in data.origin


def test_hidden_and_other_files_are_no_images(tmp_path):
    make(tmp_path, {"a": 5, "b": 5})
    (tmp_path / "a" / "notes.txt").write_text("no image")
    (tmp_path / "a" / "Thumbs.db").write_bytes(b"x")
    save(tmp_path / "a" / ".hidden.png", 900)
    save(tmp_path / "__MACOSX" / "a.png", 901)
    save(tmp_path / ".cache" / "a.png", 902)
    data = folders.from_folder(tmp_path)
    assert sum(len(split) for _, split in data.items()) == 10


def spoil(folder):
    """Five images that cannot be used, of five kinds."""
    good = (folder / "a" / "0.png").read_bytes()
    (folder / "a" / "empty.jpg").write_bytes(b"")
    (folder / "a" / "cut.png").write_bytes(good[:-30])
    (folder / "a" / "page.jpg").write_text("<html>not found</html>")
    (folder / "b" / "named.jpg").write_bytes(good + b"")
    frames = [Image.new("RGB", (4, 4), color) for color in ("red", "blue")]
    frames[0].save(folder / "b" / "moves.gif", save_all=True, append_images=frames[1:])


def test_all_bad_images_are_found_up_front_and_listed_in_one_error(tmp_path):
    make(tmp_path, {"a": 6, "b": 6})
    spoil(tmp_path)
    with pytest.raises(errors.InputError) as raised:
        folders.from_folder(tmp_path)
    message = str(raised.value)
    assert message.startswith("5 of 17 images")
    for name in (
        "a/empty.jpg",
        "a/cut.png",
        "a/page.jpg",
        "b/named.jpg",
        "b/moves.gif",
    ):
        assert f"  {name}: " in message
    assert "--bad-images skip" in message
    data = folders.from_folder(tmp_path, bad_images="skip")
    assert sum(len(split) for _, split in data.items()) == 12
    assert "5 bad images skipped" in data.origin


def test_only_the_first_twenty_are_listed(tmp_path):
    make(tmp_path, {"a": 6, "b": 6})
    for index in range(25):
        (tmp_path / "a" / f"empty{index}.png").touch()
    with pytest.raises(errors.InputError, match="and 5 more"):
        folders.from_folder(tmp_path)


def test_a_copy_in_two_splits_is_a_leak(tmp_path):
    make(tmp_path / "train", {"a": 6, "b": 6})
    make(tmp_path / "test", {"a": 3, "b": 3}, start=100)
    shutil.copy(tmp_path / "test/a/0.png", tmp_path / "train/a/copy.png")
    with pytest.raises(errors.InputError, match="train/a/copy.png: is the same image"):
        folders.from_folder(tmp_path)
    data = folders.from_folder(tmp_path, bad_images="skip")
    assert len(data.test) == 6
    assert not set(contents(data.test)) & set(contents(data.train))


def test_one_image_under_two_classes_is_wrong_in_one(tmp_path):
    make(tmp_path, {"a": 6, "b": 6})
    shutil.copy(tmp_path / "a/0.png", tmp_path / "b/same.png")
    with pytest.raises(errors.InputError) as raised:
        folders.from_folder(tmp_path)
    assert "a/0.png: is the same image as b/same.png" in str(raised.value)
    data = folders.from_folder(tmp_path, bad_images="skip")
    assert sum(len(split) for _, split in data.items()) == 11


@pytest.mark.parametrize(
    ("prepare", "message"),
    [
        (lambda f: f.rmdir(), "`data` must be a folder that exists"),
        (lambda f: (f.rmdir(), f.write_text("x")), "must be a folder: FOLDER/CLASS"),
        (lambda f: None, "must hold images as FOLDER/CLASS/image.jpg"),
        (lambda f: save(f / "a.png", 1), "in no folder of a class"),
        (lambda f: make(f, {"a": 9}), "at least two classes"),
        (lambda f: make(f, {"a": 9, "b": 2}), "at least 3 different images.*'b' has 2"),
        (
            lambda f: (
                make(f / "train", {"a": 9, "b": 9}),
                make(f / "test", {"c": 9}, 50),
            ),
            "Without any.*: c",
        ),
        (
            lambda f: (
                make(f / "train", {"a": 9, "b": 9}),
                make(f / "val", {"a": 9}, 50),
                make(f / "valid", {"a": 9}, 90),
            ),
            "several validation folders: val, valid",
        ),
    ],
)
def test_a_folder_that_cannot_be_used_says_what_is_expected(tmp_path, prepare, message):
    folder = tmp_path / "photos"
    folder.mkdir()
    prepare(folder)
    with pytest.raises(errors.InputError, match=message):
        folders.from_folder(folder)


def test_wrong_options_are_named(tmp_path):
    with pytest.raises(errors.InputError, match="Did you mean skip"):
        folders.from_folder(tmp_path, bad_images="skipp")
    with pytest.raises(errors.InputError, match=r"in \(0, 0.5\).*test=0.9"):
        folders.from_folder(tmp_path, test=0.9)


@pytest.mark.real
def test_ants_and_bees_load_as_they_are(real_data):
    data = folders.from_folder(real_data / "data" / "hymenoptera")
    assert data.class_names == ("ants", "bees")
    assert len(data.validation) == 153
    assert len(data.train) + len(data.test) == 245
