import hashlib
import os
import re
import shutil
import string

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from PIL import Image

from keras_tl import errors
from keras_tl.data import folders, layout, sources


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
    assert "its own splits" in data.origin


def test_hidden_files_and_those_of_systems_are_not_even_listed(tmp_path):
    make(tmp_path, {"a": 5, "b": 5})
    save(tmp_path / "a" / ".hidden.png", 900)
    save(tmp_path / "__MACOSX" / "a.png", 901)
    save(tmp_path / "lost+found" / "a.png", 904)
    save(tmp_path / ".cache" / "a.png", 902)
    save(tmp_path / "a" / "@eaDir" / "a.png", 903)
    data = folders.from_folder(tmp_path)
    assert sum(len(split) for _, split in data.items()) == 10
    assert "Left out" not in data.origin


def test_other_files_are_counted_and_named(tmp_path):
    make(tmp_path, {"a": 5, "b": 5})
    (tmp_path / "a" / "notes.txt").write_text("no image")
    (tmp_path / "a" / "Thumbs.db").write_bytes(b"x")
    data = folders.from_folder(tmp_path)
    assert sum(len(split) for _, split in data.items()) == 10
    assert data.origin.endswith(
        "Left out: .db files 1 (a/Thumbs.db); .txt files 1 (a/notes.txt)."
    )


def spoil(folder):
    """Five images that cannot be used, of five kinds."""
    good = (folder / "a" / "0.png").read_bytes()
    (folder / "a" / "empty.jpg").write_bytes(b"")
    (folder / "a" / "cut.png").write_bytes(good[:-30])
    (folder / "a" / "page.jpg").write_text("<html>not found</html>")
    (folder / "b" / "header.bmp").write_bytes(b"BM")
    frames = [Image.new("RGB", (4, 4), color) for color in ("red", "blue")]
    frames[0].save(folder / "b" / "moves.gif", save_all=True, append_images=frames[1:])


def test_all_bad_files_are_found_up_front_and_listed_in_one_error(tmp_path):
    make(tmp_path, {"a": 6, "b": 6})
    spoil(tmp_path)
    with pytest.raises(errors.InputError) as raised:
        folders.from_folder(tmp_path)
    message = str(raised.value)
    assert message.startswith("5 images in")
    for name in (
        "a/empty.jpg",
        "a/cut.png",
        "a/page.jpg",
        "b/header.bmp",
        "b/moves.gif",
    ):
        assert f"  {name}: " in message
    assert "--bad-files skip" in message
    data = folders.from_folder(tmp_path, bad_files="skip")
    assert sum(len(split) for _, split in data.items()) == 12
    assert (
        "Left out: bad images 5 (a/cut.png, a/empty.jpg, a/page.jpg and 2"
        in data.origin
    )


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
    data = folders.from_folder(tmp_path, bad_files="skip")
    assert len(data.test) == 6
    assert not set(contents(data.test)) & set(contents(data.train))


def test_one_image_under_two_classes_is_wrong_in_one(tmp_path):
    make(tmp_path, {"a": 6, "b": 6})
    shutil.copy(tmp_path / "a/0.png", tmp_path / "b/same.png")
    with pytest.raises(errors.InputError) as raised:
        folders.from_folder(tmp_path)
    assert "a/0.png: is the same image as b/same.png" in str(raised.value)
    data = folders.from_folder(tmp_path, bad_files="skip")
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
        (
            lambda f: (make(f / "train", {"a": 9}), make(f / "Train", {"a": 9}, 50)),
            "several train folders: Train, train",
        ),
        (
            lambda f: (make(f / "train", {"a": 9, "b": 9}), make(f, {"c": 9}, 50)),
            r"folders of splits \(train\) and beside them others with images: c",
        ),
        (lambda f: make(f, {"test": 9, "b": 9}), "named like splits .test., and none"),
        (
            lambda f: (save(f / "train/1.png", 1), save(f / "test/1.png", 2)),
            "images in no folder of a class",
        ),
        (
            lambda f: (
                make(f, {"a": 9, "b": 9}),
                (f / "c").mkdir(),
                (f / "c" / "photo.jxl").write_bytes(b"x"),
            ),
            r"c: holds no images but \.jxl; save them as JPEG",
        ),
        (
            lambda f: (make(f, {"a": 9, "b": 9}), (f / "a/x.png").symlink_to("gone")),
            "a/x.png: is a link to a file that does not exist",
        ),
        (
            lambda f: make(f, {"a": 9, os.fsdecode(b"caf\xe9"): 9}),
            "not UTF-8. Rename it",
        ),
    ],
)
def test_a_folder_that_cannot_be_used_says_what_is_expected(tmp_path, prepare, message):
    folder = tmp_path / "photos"
    folder.mkdir()
    prepare(folder)
    with pytest.raises(errors.InputError, match=message):
        folders.from_folder(folder)


@pytest.mark.parametrize(
    ("train", "validation", "test"),
    [
        ("Training", None, "Testing"),
        ("training_set", None, "test_set"),
        ("seg_train", None, "seg_test"),
        ("TrainingSet", "ValidationSet", "TestSet"),
        ("trainset", "valset", "testset"),
        ("train_images", "val_images", "test_images"),
        ("images-train", "images-val", "images-test"),
        ("Train data", "Dev data", "Test data"),
        ("flowers_train", "flowers_valid", "flowers_test"),
        ("TRAIN", "EVAL", "HOLDOUT"),
        ("train1", None, "test1"),
    ],
)
@pytest.mark.parametrize("nested", [False, True])
def test_folders_of_splits_are_known_by_many_names(
    tmp_path, train, validation, test, nested
):
    names = {"train": train, "validation": validation, "test": test}
    for start, name in enumerate(names.values()):
        if name is not None:
            folder = tmp_path / "set" / name / (name if nested else "")
            make(folder, {"a": 9 - start, "b": 9 - start}, start=100 * start)
    data = folders.from_folder(tmp_path / "set")
    assert data.class_names == ("a", "b")
    for split, name in names.items():
        paths = getattr(data, split).inputs.paths
        inside = {path.relative_to(tmp_path / "set").parts[0] for path in paths}
        assert inside == {name or train}


def test_what_a_name_only_contains_is_a_class(tmp_path):
    names = ["bullet_train", "test_tube", "dev_board", "validated", "contest", "trains"]
    data = folders.from_folder(make(tmp_path, dict.fromkeys(names, 4)))
    assert data.class_names == tuple(sorted(names))


def test_an_unpacked_archive_is_the_folder_in_it(tmp_path):
    make(tmp_path / "archive" / "flowers", {"a": 9, "b": 9})
    (tmp_path / "archive" / "LICENSE.txt").write_text("Free.")
    data = folders.from_folder(tmp_path / "archive")
    assert data.class_names == ("a", "b")
    assert data.origin.endswith("Left out: .txt files 1 (LICENSE.txt).")


def test_images_without_labels_beside_the_splits_are_named(tmp_path):
    make(tmp_path / "seg_train", {"a": 9, "b": 9})
    make(tmp_path / "seg_test", {"a": 3, "b": 3}, start=100)
    make(tmp_path / "seg_pred", {"seg_pred": 5}, start=200)
    data = folders.from_folder(tmp_path)
    assert len(data.test) == 6
    assert "Left out: unlabelled images 5 (seg_pred/seg_pred/0.png" in data.origin


@pytest.mark.filterwarnings("ignore:.*may have been meant")
def test_a_test_folder_without_classes_is_named_and_test_is_drawn(tmp_path):
    make(tmp_path / "train", {"a": 9, "b": 9})
    make(tmp_path, {"test": 4}, start=100)
    data = folders.from_folder(tmp_path)
    assert "Left out: images in no folder of a class 4 (test/0.png" in data.origin
    assert "validation and test drawn" in data.origin


def test_an_empty_folder_of_a_class_is_named(tmp_path):
    make(tmp_path, {"a": 9, "b": 9})
    (tmp_path / "c" / "empty").mkdir(parents=True)
    with pytest.warns(errors.InputWarning, match="may have been meant as images: 1 .c"):
        data = folders.from_folder(tmp_path)
    assert "folders without images 1 (c)" in data.origin


def test_images_that_cannot_be_read_are_named(tmp_path):
    make(tmp_path, {"a": 9, "b": 9})
    (tmp_path / "a" / "photo.jxl").write_bytes(b"x")
    with pytest.warns(errors.InputWarning, match="meant as images: 1 .a/photo.jxl"):
        folders.from_folder(tmp_path)


def test_links_are_followed_once(tmp_path):
    make(tmp_path / "data", {"a": 9, "b": 9})
    make(tmp_path / "other", {"more": 3, "c": 9}, start=100)
    (tmp_path / "data" / "a" / "more").symlink_to(tmp_path / "other" / "more")
    (tmp_path / "data" / "c").symlink_to(tmp_path / "other" / "c")
    (tmp_path / "data" / "a" / "up").symlink_to(tmp_path / "data")
    (tmp_path / "data" / "a" / "again").symlink_to(tmp_path / "other" / "more")
    data = folders.from_folder(tmp_path / "data")
    assert data.class_names == ("a", "b", "c")
    assert sum(len(split) for _, split in data.items()) == 30
    assert "Left out: links to folders that are read already 2 (a/" in data.origin


def test_two_forms_of_one_unicode_name_are_one_class(tmp_path):
    composed, decomposed = "caf\u00e9", "cafe\u0301"
    make(tmp_path / "train", {composed: 9, "b": 9})
    make(tmp_path / "train", {decomposed: 4}, start=50)
    make(tmp_path / "test", {decomposed: 4, "b": 4}, start=100)
    data = folders.from_folder(tmp_path)
    assert data.class_names == ("b", composed)
    assert np.bincount(data.test.labels).tolist() == [4, 4]
    assert len(data.train) + len(data.validation) == 22


def test_copies_in_another_format_are_copies(tmp_path):
    make(tmp_path / "train", {"a": 6, "b": 6})
    make(tmp_path / "test", {"a": 3, "b": 3}, start=100)
    with Image.open(tmp_path / "test/a/0.png") as image:
        image.save(tmp_path / "train/a/copy.bmp")
    with pytest.raises(errors.InputError, match="train/a/copy.bmp: is the same image"):
        folders.from_folder(tmp_path)


@pytest.mark.parametrize("seed", range(6))
def test_a_block_of_copies_counts_once_in_a_drawn_split(tmp_path, seed):
    make(tmp_path, {"a": 40, "b": 40})
    for index in range(10):
        shutil.copy(tmp_path / "a/0.png", tmp_path / f"a/black{index}.png")
    data = folders.from_folder(tmp_path, seed=seed)
    counts = [np.bincount(split.labels).tolist() for _, split in data.items()]
    assert counts[1:] == [[6, 6], [6, 6]]
    if counts[0] == [28, 28]:
        assert "Left out: copies of drawn images 10 (a/" in data.origin
    else:
        assert counts[0] == [38, 28]


def test_hashes_that_are_known_are_those_of_the_files(tmp_path):
    data = folders.from_folder(make(tmp_path, {"a": 9, "b": 9}))
    for _, split in data.items():
        read = sources.ImageFiles(split.inputs.paths)
        assert split.inputs.digest() == read.digest()
        assert split.inputs.hashes() == read.hashes()
        assert split.inputs.take([1]).hashes() == read.take([1]).hashes()
    pixels = sources.as_source(read.read(range(len(read))))
    assert pixels.hashes() == read.hashes()


def test_narrow_images_are_named(tmp_path):
    make(tmp_path, {"a": 9, "b": 9})
    strip = np.random.default_rng(0).integers(0, 256, (1, 50, 3), dtype="uint8")
    Image.fromarray(strip).save(tmp_path / "a" / "strip.png")
    with pytest.warns(errors.InputWarning, match=r"see only the square.*a/strip.png"):
        folders.from_folder(tmp_path)


@pytest.mark.parametrize(("bits", "factor"), [(8, 256), (12, 16), (14, 4)])
def test_sixteen_bits_that_are_not_used_are_named(tmp_path, bits, factor):
    rng = np.random.default_rng(0)
    for label in "ab":
        (tmp_path / label).mkdir()
        for index in range(5):
            pixels = rng.integers(0, 2**bits, (6, 6), dtype="uint16")
            pixels[0, 0] = 2**bits - 1
            Image.fromarray(pixels).save(tmp_path / label / f"{index}.png")
    message = f"16-bit images that use only {bits} bits.*Multiply them by {factor} "
    with pytest.warns(errors.InputWarning, match=message):
        folders.from_folder(tmp_path)


def write_text(path, value):
    path.write_text(f"text {value}")


def write_link(path, value):
    path.symlink_to(f"absent{value}")


def write_folder(path, value):
    path.mkdir()
    if value % 2:
        save(path / "inside.png", value)


# Things that can be in a folder of images: suffix, and how to make one.
THINGS = [
    (".png", save),
    (".JPG", save),
    (".webp", save),
    (".png", write_text),
    (".txt", write_text),
    (".heic", write_text),
    ("", write_text),
    (".npy", lambda path, value: np.save(path, np.arange(value))),
    (".jpeg", write_link),
    ("", write_folder),
    (".jpg", write_folder),
    ("", lambda path, value: os.mkfifo(path)),
    ("", lambda path, value: path.symlink_to("..")),
]
NAMES = st.text(
    st.characters(exclude_characters="/\0", exclude_categories=["Cs"]),
    min_size=1,
    max_size=12,
).filter(lambda name: name[0] != "." and len(name.encode()) < 60)
CLASSES = st.dictionaries(
    st.sampled_from(
        ["a", "b", "c", "test", "Train", "caf\u00e9", "cafe\u0301", "\u732b"]
    ),
    st.dictionaries(NAMES, st.sampled_from(range(len(THINGS))), max_size=5),
    max_size=4,
)


@settings(
    max_examples=60,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)
@given(st.dictionaries(st.sampled_from(["", "train", "test", "Val"]), CLASSES))
def test_everything_in_a_folder_is_used_or_named_or_the_folder_is_refused(
    tmp_path_factory, content
):
    folder = tmp_path_factory.mktemp("data")
    value = 0
    for split, classes in content.items():
        for label, members in classes.items():
            place = folder / split / label
            place.mkdir(parents=True, exist_ok=True)
            for name, kind in members.items():
                suffix, write = THINGS[kind]
                value += 1
                if not (place / f"{name}{suffix}").exists():
                    write(place / f"{name}{suffix}", value)
    everything = {
        path
        for path in folder.rglob("*")
        if not path.is_dir() or path.is_symlink() or not any(path.iterdir())
    }
    try:
        listed = layout.find(folder)
    except errors.InputError:
        return
    named = {path for path, *_ in (*listed.entries, *listed.bad, *listed.left_out)}
    for path in everything:
        assert path in named or named & set(path.parents), path


def test_wrong_options_are_named(tmp_path):
    with pytest.raises(errors.InputError, match="Did you mean skip"):
        folders.from_folder(tmp_path, bad_files="skipp")
    with pytest.raises(errors.InputError, match=r"in \(0, 0.5\).*test=0.9"):
        folders.from_folder(tmp_path, test=0.9)


@pytest.mark.real
def test_ants_and_bees_load_as_they_are(real_data):
    data = folders.from_folder(real_data / "data" / "hymenoptera")
    assert data.class_names == ("ants", "bees")
    assert len(data.validation) == 153
    assert len(data.train) + len(data.test) == 245


@pytest.mark.parametrize("place", ["runs/quickstart", "runs", "a/runs/mine"])
def test_the_figures_of_a_run_are_no_images_to_learn_from(tmp_path, place):
    folder = make(tmp_path, {"a": 20, "b": 20})
    save(tmp_path / place / "curves.png", 99)
    (tmp_path / place / "config.json").touch()
    (tmp_path / place / "manifest.json").touch()
    data = folders.from_folder(folder)
    assert data.class_names == ("a", "b")
    assert sum(len(split) for _, split in data.items()) == 40
    assert f"runs of keras-tl 1 ({place})" in data.origin
    inside, _, left_out = layout.files_in(folder)
    assert len(inside) == 40
    assert left_out == [(tmp_path / place, "runs of keras-tl")]


def test_a_class_without_images_of_a_given_split_is_named(tmp_path):
    make(tmp_path / "train", {"a": 20, "b": 20})
    make(tmp_path / "val", {"a": 5}, 100)
    with pytest.warns(errors.InputWarning, match=r"validation .* no images of 1 of 2"):
        folders.from_folder(tmp_path)


def test_a_folder_without_labels_is_read_whole_and_its_labels_are_unknown(tmp_path):
    folder = tmp_path / "pool"
    (folder / "monday").mkdir(parents=True)
    for number in range(4):
        save(folder / ("monday" if number % 2 else ".") / f"{number}.png", number)
    split = folders.unlabelled(folder, ["cat", "dog"], image_size=8)
    assert len(split) == 4
    assert not split.known.any()


@pytest.mark.parametrize(
    ("files", "message"),
    [
        ([], "must be a folder of images"),
        (["Cat/1.png", "2.png"], "folders that are called as classes: Cat"),
        (["broken.png"], "broken.png: "),
    ],
)
def test_a_folder_without_labels_that_has_some_or_no_images_is_refused(
    tmp_path, files, message
):
    for number, name in enumerate(files):
        path = tmp_path / name
        path.parent.mkdir(exist_ok=True)
        save(path, number)
        if name.startswith("broken"):
            path.write_bytes(path.read_bytes()[:40])
    with pytest.raises(errors.InputError, match=re.escape(message)):
        folders.unlabelled(tmp_path, ["cat", "dog"])
