"""Every planted fault is found by its code, and clean data raise nothing."""

import dataclasses
import hashlib
import json
import re
import shutil
from datetime import datetime, timedelta
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image, ImageDraw

from keras_tl import errors
from keras_tl.analysis import (
    doctor,
    doctor_page,
    feature_checks,
    findings,
    split_checks,
)
from keras_tl.analysis.findings import Finding
from keras_tl.analysis.records import Records
from keras_tl.data import assembly, datasets, folders
from keras_tl.data.assembly import NAMES
from keras_tl.data.splits import Split
from keras_tl.models import backbones, freezing, heads
from keras_tl.training import phases, placement, store
from tests.analysis import planted

DOCS = Path(__file__).parents[2] / "docs"


@pytest.fixture(scope="module")
def photos():
    """Images of two classes, 48 pixels a side, without anything wrong."""
    data = datasets.sample()
    chosen = np.isin(data.train.labels, (0, 1))
    images = data.train.read(np.flatnonzero(chosen))
    names = [data.class_names[label] for label in data.train.labels[chosen]]
    large = [np.array(Image.fromarray(one).resize((48, 48))) for one in images]
    return large, names


@pytest.fixture
def folder(tmp_path, photos):
    """A folder of them, with splits of its own."""
    counts = {}
    for image, name in zip(*photos, strict=True):
        number = counts[name] = counts.get(name, -1) + 1
        split = "train" if number < 30 else "val" if number < 40 else "test"
        if number >= 50:
            continue
        place = tmp_path / "photos" / split / name
        place.mkdir(parents=True, exist_ok=True)
        code = hashlib.md5(image.tobytes()).hexdigest()[:8]
        Image.fromarray(image).save(place / f"{code}.png")
    return tmp_path / "photos"


def first(folder, name, index=0):
    return sorted((folder / name).iterdir())[index]


def codes(noticed, *severities):
    return {
        one.code
        for one in noticed
        if one.severity in (severities or findings.SEVERITIES)
    }


def findings_of(folder, **options):
    options = {"features": False, **options}
    return doctor.check(folder, **options).findings


def truncated(folder):
    path = first(folder, "train/airplane", -1)
    path.write_bytes(path.read_bytes()[:400])


def empty(folder):
    (folder / "train/airplane/empty.jpg").touch()


def animated(folder):
    frames = [Image.new("RGB", (48, 48), color) for color in ("red", "blue")]
    path = folder / "train/airplane/film.gif"
    frames[0].save(path, save_all=True, append_images=frames[1:])


def tiny(folder):
    path = first(folder, "train/airplane")
    Image.open(path).resize((9, 9)).save(folder / "train/airplane/icon.png")


def narrow(folder):
    path = first(folder, "train/airplane")
    Image.open(path).resize((300, 48)).save(folder / "train/airplane/panorama.png")


def blank(folder):
    Image.new("RGB", (48, 48), "white").save(folder / "train/airplane/nothing.png")


def misnamed(folder):
    path = first(folder, "train/airplane")
    Image.open(path).save(path.with_suffix(".jpg"), format="png")
    path.unlink()


def unread(folder):
    (folder / "train/airplane/photo.psd").write_bytes(b"8BPS")


def copied(folder):
    shutil.copy(first(folder, "train/airplane"), folder / "test/airplane/again.png")


def recoded(folder):
    image = Image.open(first(folder, "train/airplane"))
    image.resize((96, 96)).save(folder / "test/airplane/again.jpg", quality=80)


def under_two_labels(folder):
    path = first(folder, "train/airplane", 1)
    shutil.copy(path, folder / "train/automobile/again.png")


def nearly_under_two_labels(folder):
    image = Image.open(first(folder, "train/airplane"))
    image.save(folder / "train/automobile/again.jpg", quality=80)


def spelled(folder):
    for place in list(folder.glob("*/airplane")):
        other = place.with_name("Airplane")
        other.mkdir()
        for path in sorted(place.iterdir())[::2]:
            path.rename(other / path.name)


def doubled(folder):
    shutil.copy(first(folder, "train/airplane"), folder / "train/airplane/again.png")


def block(folder):
    for number in range(6):
        path = folder / f"train/airplane/missing{number}x.png"
        shutil.copy(first(folder, "train/airplane"), path)


def nearly_block(folder):
    image = Image.open(first(folder, "train/airplane"))
    for quality in range(80, 92, 2):
        name = f"train/airplane/again{quality}x.jpg"
        image.save(folder / name, quality=quality)


def in_a_burst(folder):
    start = datetime(2024, 5, 1, 12)
    for number in range(4):
        exif = Image.Exif()
        exif[0x010F], exif[0x0110] = "Maker", "Camera"
        exif.get_ifd(0x8769)[0x9003] = (start + timedelta(seconds=number)).strftime(
            "%Y:%m:%d %H:%M:%S"
        )
        path = first(folder, "train/airplane", number)
        place = folder / ("train", "test")[number % 2] / f"airplane/x{number}photo.jpg"
        Image.open(path).save(place, exif=exif)
        path.unlink()


def in_named_groups(folder):
    for number in range(8):
        path = first(folder, "train/airplane", number)
        pixels = np.array(Image.open(path)).astype("int64")
        for frame in range(5):
            rolled = np.roll(pixels, 3 * frame, axis=1)
            place = folder / ("train", "test")[frame % 2] / "airplane"
            name = f"film{chr(97 + number)}_{frame:03}.png"
            Image.fromarray(rolled.astype("uint8")).save(place / name)
    for path in folder.rglob("*.png"):
        if "film" not in path.name and int(path.stem, 16) % 2:
            path.unlink()


def unbalanced(folder):
    for path in sorted((folder / "train/automobile").iterdir())[2:]:
        path.unlink()


def without_a_class(folder):
    shutil.rmtree(folder / "test/automobile")


def bordered(folder):
    for path in folder.rglob("airplane/*.png"):
        image = Image.open(path)
        draw = ImageDraw.Draw(image)
        draw.rectangle((0, 0, 48, 6), "black")
        draw.rectangle((0, 41, 48, 48), "black")
        image.save(path)


def stamped(folder):
    for path in folder.rglob("airplane/*.png"):
        image = Image.open(path)
        ImageDraw.Draw(image).rectangle((30, 38, 46, 46), "white")
        ImageDraw.Draw(image).text((31, 36), "web", "black")
        image.save(path)


def painted(folder):
    for path in folder.rglob("airplane/*.png"):
        image = Image.open(path)
        ImageDraw.Draw(image).rectangle((38, 38, 48, 48), "white")
        image.save(path)


def of_other_sizes(folder):
    for path in folder.rglob("airplane/*.png"):
        Image.open(path).resize((64, 48)).save(path.with_suffix(".jpg"))
        path.unlink()


def of_12_bits(folder):
    for number, path in enumerate(sorted(folder.rglob("*.png"))):
        grey = np.asarray(Image.open(path).convert("L"), "uint16") * 16
        grey[0, 0] = number
        Image.fromarray(grey).save(path)


PLANTED = {
    "few-bits": (of_12_bits,),
    "unreadable-image": (truncated, empty),
    "animated-image": (animated,),
    "tiny-image": (tiny,),
    "narrow-image": (narrow,),
    "blank-image": (blank,),
    "wrong-extension": (misnamed,),
    "unused-files": (unread,),
    "exact-copies-across-splits": (copied,),
    "near-copies-across-splits": (recoded,),
    "exact-copies-two-labels": (under_two_labels,),
    "near-copies-two-labels": (nearly_under_two_labels,),
    "exact-copies": (doubled,),
    "block-of-exact-copies": (block,),
    "block-of-near-copies": (nearly_block,),
    "burst-across-splits": (in_a_burst,),
    "named-group-across-splits": (in_named_groups,),
    "class-imbalance": (unbalanced,),
    "classes-spelled-alike": (spelled,),
    "small-class": (unbalanced,),
    "class-missing-in-test": (without_a_class,),
    "label-in-border": (bordered,),
    "label-in-mark": (stamped, painted),
    "label-in-file-properties": (of_other_sizes,),
}
# Faults that show themselves in a second way.
ALSO = {"near-copies", "blank-image", "class-imbalance", "small-class"}


@pytest.mark.parametrize(("copies", "severity"), [(1, "warning"), (5, "error")])
def test_copies_are_an_error_where_they_change_what_is_measured(copies, severity):
    labels = ("cat", "dog") * 700
    contents = [index.to_bytes(2, "big") for index in range(1400)]
    contents[1400 - 2 * copies :: 2] = contents[: 2 * copies : 2]
    splits = np.array(["train"] * 700 + ["validation"] * 100 + ["test"] * 600)
    names = tuple(map(str, range(1400)))
    examples = Records(names, splits, labels, "single-label", tuple(contents))
    (finding,) = split_checks.copies(examples)
    assert (finding.code, finding.severity) == ("exact-copies-across-splits", severity)


@pytest.mark.parametrize(("code", "plant"), planted.cases(PLANTED))
def test_a_planted_fault_is_found_by_its_code_and_nothing_else_is(folder, code, plant):
    plant(folder)
    noticed = findings_of(folder)
    planted.assert_alone(noticed, code, ALSO)


def test_clean_files_raise_nothing(folder):
    assert not codes(findings_of(folder))


@pytest.mark.slow
@pytest.mark.parametrize("name", ["cifar10_sample", "digits"])
def test_clean_samples_raise_no_error_and_no_warning(name):
    data = datasets.load(name, count=1_000)
    assert not codes(doctor.check(data).findings, "error", "warning")


def test_tiny_images_that_are_enlarged_have_no_marks(tmp_path):
    digits = datasets.load("digits", count=300).train
    for index, label in enumerate(digits.labels):
        place = tmp_path / f"digit {label}"
        place.mkdir(exist_ok=True)
        Image.fromarray(digits.read([index])[0]).save(place / f"{index}.png")
    found = doctor.check(tmp_path, features=False, image_size=128).findings
    assert "label-in-mark" not in codes(found)


@pytest.mark.real
@pytest.mark.parametrize(
    "name",
    [
        "hymenoptera",
        *(f"pacs/{d}" for d in ("photo", "art_painting", "cartoon", "sketch")),
    ],
)
def test_clean_photos_and_drawings_raise_no_error_and_no_warning(name, real_data):
    diagnosis = doctor.check(real_data / "data" / name)
    assert not codes(diagnosis.findings, "error", "warning")
    if name == "hymenoptera":
        # Its picture that says that there is none is a note.
        (odd,) = [f for f in diagnosis.findings if f.code == "unlike-all-others"]
        assert odd.examples == ("train/ants/imageNotFound.gif",)


@pytest.mark.slow
def test_wrong_labels_are_found_and_right_ones_are_left(photos):
    images, names = photos
    labels = np.array([names.index(name) > 0 for name in names])
    wrong = np.arange(0, len(labels), 40)
    labels[wrong] = ~labels[wrong]
    data = datasets.from_arrays((np.stack(images), labels.astype(int)))
    diagnosis = doctor.check(data)
    (finding,) = [f for f in diagnosis.findings if f.code == "probable-label-error"]
    assert finding.severity == "warning"
    changed = {image.tobytes() for image in np.stack(images)[wrong]}
    suspected = [
        diagnosis.records.squares[index].tobytes() for index in finding.pictures
    ]
    right = sum(one in changed for one in suspected)
    assert right >= 0.6 * len(wrong)
    assert right >= 0.8 * len(suspected)


@pytest.mark.slow
def test_images_of_another_kind_are_unlike_all_others(photos):
    images, names = photos
    grid = np.zeros((48, 48, 3), "uint8")
    grid[::4] = 255
    images = np.stack([*images, grid])
    data = datasets.from_arrays((images, np.array([*names, names[0]])))
    diagnosis = doctor.check(data)
    (finding,) = [f for f in diagnosis.findings if f.code == "unlike-all-others"][:1]
    shown = diagnosis.records.squares[finding.pictures[0]]
    np.testing.assert_array_equal(shown, grid)


@pytest.mark.slow
def test_train_and_test_of_another_kind_differ(photos):
    images, names = photos
    labels = np.unique(names, return_inverse=True)[1]
    images = np.stack(images)
    dark = (images[200:] // 3 + 20).astype("uint8")
    dark[..., 2] //= 2
    data = datasets.from_arrays((images[:200], labels[:200]), (dark, labels[200:]))
    noticed = doctor.check(data).findings
    assert "train-differs-from-test" in codes(noticed, "warning")
    assert "train-differs-from-validation" not in codes(noticed)


def test_noise_is_estimated_as_it_was_made():
    rng = np.random.default_rng(0)
    right = rng.integers(0, 4, 4_000)
    logits = rng.normal(0, 1, (4_000, 4)) + 5 * np.eye(4)[right]
    probabilities = np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)
    drawn = (probabilities.cumsum(1) < rng.random((4_000, 1))).sum(axis=1)
    clean = feature_checks.suspected_noise(probabilities, drawn)
    assert clean.share < 0.01
    assert (clean.posterior > 0.8).mean() < 0.002
    noisy = drawn.copy()
    noisy[:400] = rng.integers(0, 4, 400)
    estimate = feature_checks.suspected_noise(probabilities, noisy)
    assert 0.07 < estimate.share < 0.13
    assert estimate.evidence > 10


def test_everything_wrong_is_listed_at_once_and_no_file_is_changed(folder, tmp_path):
    for plant in (truncated, animated, copied, under_two_labels, blank):
        plant(folder)
    before = {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()}
    diagnosis = doctor.check(folder, features=False)
    doctor_page.write(
        tmp_path / "page.html", diagnosis.findings, diagnosis.records, "photos"
    )
    findings.write_fix_list(tmp_path / "fix.txt", diagnosis.findings)
    after = {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()}
    assert before == after
    assert {
        "unreadable-image",
        "animated-image",
        "exact-copies-across-splits",
        "exact-copies-two-labels",
        "blank-image",
    } <= codes(diagnosis.findings)


def test_without_the_files_of_the_fix_list_nothing_is_wrong(folder, tmp_path):
    for plant in (truncated, animated, copied, under_two_labels, blank, recoded):
        plant(folder)
    noticed = findings_of(folder)
    assert findings.are_wrong(noticed)
    with pytest.raises(errors.InputError):
        folders.from_folder(folder)
    findings.write_fix_list(tmp_path / "fix.txt", noticed)
    lines = (tmp_path / "fix.txt").read_text().splitlines()
    left_out = tuple(map(Path, lines))
    assert not codes(findings_of(folder, leave_out=left_out), "error", "warning")
    assert len(folders.from_folder(folder, leave_out=left_out).train)


@pytest.mark.slow
def test_features_of_the_check_are_found_by_training(folder, cache):
    doctor.check(folder, cache=store.Cache())
    splits = folders.from_folder(folder, image_size=96)
    body = backbones.load("efficientnet_lite0", image_size=96)
    freezing.freeze(body)
    kept = store.Cache()
    setup = phases.Setup(placement.choose(["CPU:0"]), cache=kept)
    phases.precompute_frozen(heads.attach(body, 2), splits, setup)
    assert kept.made == 0
    assert kept.found == 100


@given(
    st.lists(
        st.tuples(st.integers(0, 4), st.sampled_from("ab"), st.sampled_from(NAMES)),
        min_size=1,
        max_size=20,
    )
)
def test_without_the_fix_list_each_image_is_left_once_per_split_and_label(rows):
    def records(rows):
        return Records(
            tuple(name for name, _ in rows),
            np.array([split for _, (_, _, split) in rows], "U10"),
            tuple(label for _, (_, label, _) in rows),
            "single-label",
            tuple(bytes([pixels]) for _, (pixels, _, _) in rows),
            paths=tuple(Path(name) for name, _ in rows),
        )

    rows = [(f"{index}.png", row) for index, row in enumerate(rows)]
    noticed = split_checks.copies(records(rows))
    # Notes too: copies within a split are left out as well.
    unwanted = {path.name for one in noticed for path in one.leave_out}
    rest = [row for row in rows if row[0] not in unwanted]
    assert not rest or not codes(split_checks.copies(records(rest)))
    for pixels in {row[0] for _, row in rows}:
        labels = {label for _, (p, label, _) in rows if p == pixels}
        left = sum(p == pixels for _, (p, _, _) in rest)
        assert left == (1 if len(labels) == 1 else 0)


def test_groups_that_are_named_are_no_leak(folder):
    in_named_groups(folder)
    pattern = r"(film\w)_|([^/]+)$"
    content = folders.read(folder, assembly.Options(groups=pattern))
    assert content.files
    for path in folder.rglob("test/*/film*"):
        path.rename(folder / "train" / path.parent.name / path.name)
    noticed = findings_of(folder, groups=pattern)
    assert not {code for code in codes(noticed) if "group" in code}


def test_a_group_in_two_splits_is_an_error_with_its_name(folder):
    in_named_groups(folder)
    noticed = findings_of(folder, groups=r"(film\w)_|([^/]+)$")
    assert codes(noticed, "error") == {"group-across-splits"}
    (one,) = [f for f in noticed if f.code == "group-across-splits"]
    assert one.examples[0] == "filma (train, test)"


def test_one_class_is_one_error(folder):
    for split in ("train", "val", "test"):
        for place in (folder / split).iterdir():
            if place.name != "airplane":
                shutil.rmtree(place)
    assert codes(findings_of(folder), "error") == {"one-class"}


@pytest.mark.parametrize("kind", ["exact", "near"])
def test_the_fix_list_keeps_the_copy_of_the_last_split(kind, folder):
    image = Image.open(first(folder, "train/airplane"))
    for split, quality in (("val", 80), ("test", 70)):
        name = "again.png" if kind == "exact" else "again.jpg"
        image.save(folder / split / "airplane" / name, quality=quality)
    noticed = findings_of(folder)
    assert codes(noticed, "error") == {f"{kind}-copies-across-splits"}
    left_out = findings.files_to_leave_out(noticed)
    listed = {path.relative_to(folder) for path in left_out}
    earlier = [first(folder, "train/airplane"), next(folder.glob("val/*/again.*"))]
    assert listed == {path.relative_to(folder) for path in earlier}


def test_copies_in_memory_are_left_out_and_other_errors_are_not(colours):
    copied = colours.train.inputs.read([0, 1])
    images = np.concatenate([colours.test.inputs.read([0]), copied])
    labels = np.concatenate([colours.test.labels[:1], colours.train.labels[:2]])
    data = dataclasses.replace(colours, test=Split(images, labels))
    diagnosis = doctor.check(data, features=False)
    assert codes(diagnosis.findings, "error") == {"exact-copies-across-splits"}
    mended = doctor.without_errors(diagnosis)
    assert len(mended.train) == len(colours.train) - 2
    assert mended.test.labels.tolist() == labels.tolist()
    assert not codes(doctor.check(mended, features=False).findings, "error")
    alone = Split(images, np.zeros(3, "int64"))
    one = dataclasses.replace(colours, train=alone, validation=alone, test=alone)
    with pytest.raises(errors.InputError, match="one class|several splits"):
        doctor.without_errors(doctor.check(one, features=False))


def test_the_command_ends_with_status_1_where_something_is_wrong(
    folder, tmp_path, call, capsys
):
    assert call("check", folder, "--no-features") == 0
    assert "0 errors" in capsys.readouterr().out
    copied(folder)
    outputs = ["--page", tmp_path / "a.html", "--fix-list", tmp_path / "fix.txt"]
    assert call("check", folder, "--no-features", *outputs) == 1
    text = capsys.readouterr().out
    assert "exact-copies-across-splits" in text
    # A table of sentences is folded in a file as well.
    assert max(map(len, text.partition(" checked: ")[0].splitlines())) <= 100
    assert "again.png" in (tmp_path / "a.html").read_text()
    assert "train/airplane" in (tmp_path / "fix.txt").read_text()
    # Nothing is overwritten.
    assert call("check", folder, "--no-features", *outputs) == 2
    assert "exist" in capsys.readouterr().err
    left_out = ("--leave-out", tmp_path / "fix.txt")
    assert call("check", folder, "--no-features", *left_out) == 0


def test_json_is_all_that_is_printed(folder, call, capsys):
    copied(folder)
    assert call("check", folder, "--no-features", "--json") == 1
    (finding,) = json.loads(capsys.readouterr().out)
    assert finding["code"] == "exact-copies-across-splits"
    assert finding["page"].endswith("#exact-copies-across-splits")


def test_data_that_cannot_be_read_end_with_status_2(tmp_path, call, capsys):
    assert call("check", tmp_path / "nowhere", "--no-features") == 2
    assert "nowhere" in capsys.readouterr().err


def test_several_labels_numbers_and_features_are_checked_too():
    rng = np.random.default_rng(0)
    images = rng.integers(0, 256, (60, 32, 32, 3)).astype("uint8")
    rows = (rng.random((60, 3)) < 0.5).astype("float32")
    for labels in (rows, rng.random((60, 1)).astype("float32")):
        split = Split(images[:40], labels[:40])
        data = datasets.Splits(
            split,
            Split(images[40:50], labels[40:50]),
            Split(
                np.concatenate([images[50:], images[:1]]),
                np.r_[labels[50:], labels[:1]],
            ),
            ["a", "b", "c"][: labels.shape[1]],
            "A toy set.",
        )
        assert codes(doctor.check_splits(data), "error") == {
            "exact-copies-across-splits"
        }


def test_a_misspelled_option_is_named_with_the_right_one():
    with pytest.raises(errors.InputError, match="Did you mean features"):
        doctor.check("digits", feature=False)


def test_a_finding_of_another_severity_is_refused():
    with pytest.raises(errors.InputError, match="severity"):
        Finding("code", "serious", "", "")


def test_each_code_has_a_section_in_the_documentation():
    page = (DOCS / "how_to/check_data.md").read_text()
    sections = set(re.findall(r"^### (.+)$", page, re.MULTILINE))
    modules = sorted(Path(doctor.__file__).parent.glob("*_checks.py"))
    text = "".join(module.read_text() for module in modules)
    written = set(re.findall(r'"([a-z0-9]+(?:-[a-z0-9]+)+)"', text))
    assert set(PLANTED) <= sections
    # Suffixes and prefixes of codes, and what is no code.
    assert written - sections <= {"-across-splits", "single-label", "utf-8"}
