import json

import numpy as np
import pandas as pd
import pytest
from PIL import Image

from keras_tl import errors
from keras_tl.data import datasets, folders, tables
from keras_tl.data.tables import Columns


@pytest.fixture
def photos(tmp_path):
    """40 images of noise in one folder, and a frame with their paths and classes."""
    rng = np.random.default_rng(0)
    (tmp_path / "images").mkdir()
    rows = []
    for number in range(40):
        name = f"images/{number:02}.png"
        pixels = rng.integers(0, 256, (8, 8, 3), dtype="uint8")
        Image.fromarray(pixels).save(tmp_path / name)
        rows.append({"image": name, "label": ("cat", "dog")[number % 2]})
    return tmp_path, pd.DataFrame(rows)


def write(frame, path):
    if path.suffix == ".parquet":
        frame.to_parquet(path)
    elif path.suffix == ".jsonl":
        frame.to_json(path, orient="records", lines=True)
    else:
        frame.to_csv(path, sep="\t" if path.suffix == ".tsv" else ",", index=False)
    return path


def labelled(split):
    return {
        path.stem: label
        for path, label in zip(split.inputs.paths, split.labels.tolist(), strict=True)
    }


def names(split):
    return sorted(path.stem for path in split.inputs.paths)


@pytest.mark.parametrize("suffix", [".csv", ".tsv", ".parquet", ".jsonl"])
def test_a_table_gives_what_folders_of_classes_give(photos, suffix):
    folder, frame = photos
    data = tables.from_table(write(frame, folder / f"labels{suffix}"))
    for row in frame.itertuples():
        place = folder / "sorted" / row.label
        place.mkdir(parents=True, exist_ok=True)
        (place / f"{row.image[7:]}").write_bytes((folder / row.image).read_bytes())
    same = folders.from_folder(folder / "sorted")
    assert data.class_names == same.class_names
    for (_, one), (_, other) in zip(data.items(), same.items(), strict=True):
        assert labelled(one) == labelled(other)


def test_a_frame_with_absolute_paths_needs_no_file(photos):
    folder, frame = photos
    frame["image"] = [str(folder / name) for name in frame["image"]]
    data = datasets.load(frame)
    assert data.task == "single-label"
    assert sum(len(split) for _, split in data.items()) == 40


def test_columns_of_other_names_are_recognized_by_what_they_hold(photos):
    folder, frame = photos
    frame = frame.rename(columns={"image": "where", "label": "animal"})
    data = tables.from_table(write(frame, folder / "a.csv"))
    assert data.class_names == ("cat", "dog")


def test_a_suffix_may_be_left_out(photos):
    folder, frame = photos
    frame["id"] = [f"images/{n:02}" for n in range(40)]
    frame = frame[["id", "label"]]
    data = tables.from_table(write(frame, folder / "a.csv"))
    assert sum(len(split) for _, split in data.items()) == 40


@pytest.mark.parametrize("separator", ["|", ";", ", "])
def test_several_labels_in_a_cell_are_rows_of_0_and_1(photos, separator):
    folder, frame = photos
    tags = [["red"], ["red", "round"], ["round"], []]
    frame["label"] = [separator.join(tags[n % 4]) for n in range(40)]
    path = write(frame, folder / "a.csv")
    # A comma is part of the name of many a class.
    columns = Columns(task="multi-label") if separator == ", " else None
    data = tables.from_table(path, columns)
    assert data.task == "multi-label"
    assert data.class_names == ("red", "round")
    for path, row in zip(data.train.inputs.paths, data.train.labels, strict=True):
        wanted = tags[int(path.stem) % 4]
        assert row.tolist() == ["red" in wanted, "round" in wanted]


def test_lists_and_columns_of_0_and_1_mean_the_same(photos):
    folder, frame = photos
    tags = [["red"], ["red", "round"], ["round"], []]
    frame["label"] = [tags[n % 4] for n in range(40)]
    listed = tables.from_table(write(frame, folder / "a.jsonl"))
    wide = frame[["image"]].assign(
        red=[int("red" in tags[n % 4]) for n in range(40)],
        round=[int("round" in tags[n % 4]) for n in range(40)],
    )
    columns = tables.from_table(write(wide, folder / "b.csv"))
    assert listed.task == columns.task == "multi-label"
    np.testing.assert_array_equal(listed.train.labels, columns.train.labels)


def test_numbers_are_predicted_and_whole_ones_are_classes(photos):
    folder, frame = photos
    frame["label"] = np.linspace(0.5, 9.7, 40)
    data = tables.from_table(write(frame, folder / "a.csv"))
    assert data.task == "regression"
    assert data.class_names == ("label",)
    # All splits have small and large numbers.
    for _, split in data.items():
        assert split.labels.min() < 4 < 6 < split.labels.max()
    frame["label"] = [n % 3 for n in range(40)]
    data = tables.from_table(write(frame, folder / "b.csv"))
    assert data.task == "single-label"
    assert data.class_names == ("0", "1", "2")
    chosen = Columns(task="regression")
    assert tables.from_table(folder / "b.csv", chosen).task == "regression"


def test_splits_of_a_column_are_kept(photos):
    folder, frame = photos
    frame["split"] = ["train"] * 24 + ["val"] * 8 + ["Test"] * 8
    data = tables.from_table(write(frame, folder / "a.csv"))
    assert names(data.validation) == [f"{n:02}" for n in range(24, 32)]
    assert names(data.test) == [f"{n:02}" for n in range(32, 40)]


def test_tables_named_like_splits_are_joined(photos):
    folder, frame = photos
    write(frame[:30], folder / "train.csv")
    write(frame[30:], folder / "test.csv")
    data = datasets.load(folder)
    assert names(data.test) == [f"{n:02}" for n in range(30, 40)]
    assert len(data.train) + len(data.validation) == 30


def test_the_table_of_a_folder_is_used_unless_it_has_folders_of_classes(photos):
    folder, frame = photos
    write(frame, folder / "labels.csv")
    assert datasets.load(folder).class_names == ("cat", "dog")
    for name in ("x", "y"):
        (folder / name).mkdir()
    for number in range(40):
        name = f"{number:02}.png"
        (folder / "images" / name).rename(folder / ("x", "y")[number % 2] / name)
    (folder / "images").rmdir()
    assert datasets.load(folder).class_names == ("x", "y")


@pytest.mark.parametrize("kind", ["column", "pattern"])
def test_a_group_is_never_split(photos, kind):
    folder, frame = photos
    frame["patient"] = [f"p{n // 4}" for n in range(40)]
    frame["label"] = [("cat", "dog")[n // 4 % 2] for n in range(40)]
    groups = "patient"
    if kind == "pattern":
        groups = r"images/(\d)"  # Ten at a time: both classes in each.
    data = tables.from_table(write(frame, folder / "a.csv"), groups=groups)
    member = {
        f"{n:02}": f"p{n // 4}" if kind == "column" else str(n // 10) for n in range(40)
    }
    seen = [{member[name] for name in names(split)} for _, split in data.items()]
    assert all(seen)
    assert sum(map(len, seen)) == len(set.union(*seen))
    assert "groups kept together" in data.origin


def test_nothing_of_the_user_is_changed(photos):
    folder, frame = photos
    path = write(frame, folder / "a.csv")

    def content():
        return {p: p.read_bytes() for p in folder.rglob("*") if p.is_file()}

    before = content()
    tables.from_table(path)
    assert content() == before


BAD = {
    "no such column": (Columns(label="colour"), {}, "column of Table a.csv.*colour"),
    "row number": (
        Columns(label="number"),
        {"number": range(40)},
        "shared by several examples.*number",
    ),
    "no label": (None, {"label": ["cat", ""] * 20}, "must have a label.*20 rows"),
    "splits": (None, {"split": ["train", "other"] * 20}, "column of splits.*other"),
    "names of a split": (
        None,
        {"split": ["train", "test", "holdout", "Test"] * 10},
        "several names for the test split: Test, holdout",
    ),
    "numbers": (Columns(task="regression"), {}, "must hold numbers.*row 1"),
    "no images": (
        None,
        {"image": [f"{n}.png" for n in range(40)]},
        "No image that Table a.csv",
    ),
    "groups": (None, {}, "regular expression"),
    "mixed": (None, {"extra": range(40), "label2": 1}, None),
}


@pytest.mark.parametrize("case", [name for name in BAD if BAD[name][2]])
def test_a_table_that_means_nothing_ends_in_one_sentence(photos, case):
    folder, frame = photos
    columns, changes, message = BAD[case]
    path = write(frame.assign(**changes), folder / "a.csv")
    options = {"groups": "("} if case == "groups" else {}
    with pytest.raises(errors.InputError, match=f"(?i){message}") as raised:
        tables.from_table(path, columns, **options)
    assert "\n" not in str(raised.value)


def test_labels_of_mixed_types_are_refused(photos):
    folder, frame = photos
    frame["image"] = [str(folder / name) for name in frame["image"]]
    frame["label"] = ["cat", 3] * 20
    with pytest.raises(errors.InputError, match="of one type.*int, str"):
        datasets.load(frame)


def test_a_table_without_a_column_of_images_shows_what_it_has(photos):
    folder, frame = photos
    path = write(frame[["label"]].assign(n=range(40)), folder / "a.csv")
    with pytest.raises(errors.InputError, match="Its columns are label, n, such as"):
        tables.from_table(path)


def test_images_that_are_missing_are_all_named(photos):
    folder, frame = photos
    path = write(frame, folder / "a.csv")
    (folder / "images" / "03.png").unlink()
    (folder / "images" / "05.png").unlink()
    with pytest.raises(errors.InputError, match="(?s)2 images.*03.png.*05.png"):
        tables.from_table(path)
    data = tables.from_table(path, bad_files="skip")
    assert sum(len(split) for _, split in data.items()) == 38


def test_an_image_with_two_labels_is_named(photos):
    folder, frame = photos
    frame.loc[1, "image"] = frame.loc[0, "image"]
    with pytest.raises(errors.InputError, match="00.png: stands in the table with two"):
        tables.from_table(write(frame, folder / "a.csv"))


def test_counts_agree_in_number_with_what_is_counted(photos):
    folder, frame = photos
    with pytest.raises(errors.InputError, match="'label' of 1 row, the first"):
        tables.from_table(
            write(frame.assign(label=["", *frame.label[1:]]), folder / "a.csv")
        )
    (folder / "images" / "03.png").write_bytes(b"")
    with pytest.raises(errors.InputError, match="^1 image in "):
        tables.from_table(write(frame, folder / "b.csv"))
    (folder / "images" / "03.png").unlink()
    frame = frame.drop(3).assign(label=np.linspace(0.5, 9.7, 39))
    data = tables.from_table(write(frame, folder / "c.csv"))
    assert "39 images with 1 number each to be predicted" in str(data)


def test_a_file_that_is_no_table_is_named(tmp_path):
    path = tmp_path / "labels.xlsx"
    path.write_text("x")
    with pytest.raises(errors.InputError, match=r"kind that is read, .csv"):
        datasets.load(path)
    path = tmp_path / "labels.jsonl"
    path.write_text("{not json\n" + json.dumps({"a": 1}))
    with pytest.raises(errors.InputError, match="cannot be read"):
        datasets.load(path)


@pytest.mark.parametrize(
    ("line", "column"), [('{"image": "a.png" "label": 1}', 19), ('{"image": "a.p', 11)]
)
def test_a_broken_line_of_json_is_named_by_its_number(line, column, tmp_path):
    right = json.dumps({"image": "a.png", "label": 1})
    path = tmp_path / "labels.jsonl"
    path.write_text(f"{right}\n\n{line}\n{right}\n")
    message = (
        rf"labels\.jsonl cannot be read: line 3 is no JSON from column {column} on"
    )
    with pytest.raises(errors.InputError, match=message):
        datasets.load(path)


def test_a_dataset_of_hugging_face_is_loaded_from_its_folder(photos):
    datasets_of_hf = pytest.importorskip("datasets")
    folder, frame = photos
    features = datasets_of_hf.Features(
        image=datasets_of_hf.Image(), label=datasets_of_hf.ClassLabel(names=["a", "b"])
    )
    rows = {
        "image": [str(folder / name) for name in frame["image"]],
        "label": [n % 2 for n in range(40)],
    }
    stored = datasets_of_hf.Dataset.from_dict(rows, features=features)
    stored.save_to_disk(folder / "saved")
    data = datasets.load(folder / "saved")
    assert data.class_names == ("a", "b")
    assert sum(len(split) for _, split in data.items()) == 40
    assert data.at_size(8).train.read([0]).shape == (1, 8, 8, 3)


def test_a_table_without_names_of_columns_is_refused(photos):
    folder, frame = photos
    frame.to_csv(folder / "a.csv", header=False, index=False)
    with pytest.raises(errors.InputError, match="must name its columns"):
        tables.from_table(folder / "a.csv")


def test_tables_as_spreadsheets_write_them_are_read(photos):
    folder, frame = photos
    frame["label"] = [f"{n / 7:.2f}".replace(".", ",") for n in range(40)]
    frame["image"] = [name.replace("/", "\\") for name in frame["image"]]
    frame.to_csv(
        folder / "a.csv",
        sep=";",
        index=False,
        encoding="utf-8-sig",
        lineterminator="\r\n",
    )
    data = tables.from_table(folder / "a.csv")
    assert data.task == "regression"
    assert 5 < data.train.labels.max() < 6


def test_other_encodings_and_empty_files_are_named(photos):
    folder, frame = photos
    frame["label"] = ["Löwe", "Bär"] * 20
    frame.to_csv(folder / "a.csv", index=False, encoding="latin-1")
    with pytest.raises(errors.InputError, match="must be in utf-8, and line 2 is not"):
        tables.from_table(folder / "a.csv")
    (folder / "b.csv").touch()
    with pytest.raises(errors.InputError, match="is empty"):
        tables.from_table(folder / "b.csv")


def test_a_column_of_groups_that_does_not_exist_is_named(photos):
    folder, frame = photos
    path = write(frame, folder / "a.csv")
    with pytest.raises(errors.InputError, match="`groups` must be a column.*image, la"):
        tables.from_table(path, groups="patient")


def test_rows_that_repeat_an_image_are_counted(photos):
    folder, frame = photos
    frame = pd.concat([frame, frame[:3]])
    data = tables.from_table(write(frame, folder / "a.csv"))
    assert sum(len(split) for _, split in data.items()) == 40
    assert "rows that repeat a file 3" in data.origin


def test_the_folder_of_the_images_can_be_a_text(photos):
    folder, frame = photos
    data = tables.from_table(frame, Columns(root=str(folder)))
    assert sum(len(split) for _, split in data.items()) == 40


def test_numbers_among_which_is_a_word_are_refused_with_its_row(photos):
    folder, frame = photos
    frame["label"] = [f"{number / 7:.3f}" for number in range(40)]
    frame.loc[3, "label"] = "n/a"
    with pytest.raises(errors.InputError, match="'n/a' in line 5") as error:
        datasets.load(write(frame, folder / "prices.csv"))
    assert "39 numbers" in str(error.value)
