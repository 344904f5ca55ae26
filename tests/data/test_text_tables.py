"""Tables and folders of texts: what they hold, and how they become splits."""

import tempfile
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from keras_tl import errors
from keras_tl.data import datasets, tables
from keras_tl.data.assembly import Options
from keras_tl.data.tables import Columns


@pytest.fixture
def frame():
    words = ["good", "bad"] * 20
    return pd.DataFrame(
        {
            "review": [f"a {word} film, number {n}" for n, word in enumerate(words)],
            "label": words,
            "author": [f"author {n // 4}" for n in range(40)],
            "stars": [n % 7 + 0.5 for n in range(40)],
            "tags": ["long;slow" if n % 3 else "slow" for n in range(40)],
            "split": ["train"] * 24 + ["val"] * 8 + ["test"] * 8,
        }
    )


def shown(data):
    return {
        name: split.inputs.preview(range(len(split))) for name, split in data.items()
    }


@pytest.mark.parametrize("name", ["a.csv", "a.tsv", "a.jsonl", "a.parquet"])
def test_a_table_of_sentences_holds_texts_in_every_format(tmp_path, frame, name):
    path = tmp_path / name
    if name.endswith("jsonl"):
        frame.to_json(path, orient="records", lines=True)
    elif name.endswith("parquet"):
        frame.to_parquet(path)
    else:
        frame.to_csv(path, index=False, sep="\t" if "tsv" in name else ",")
    data = datasets.load(path, seed=1)
    assert data.train.inputs.kind == "text"
    assert shown(data) == {
        "train": frame.review[:24].tolist(),
        "validation": frame.review[24:32].tolist(),
        "test": frame.review[32:].tolist(),
    }
    of_frame = datasets.load(frame)
    assert shown(of_frame) == shown(data)


CELLS = st.text(st.sampled_from(' ab",\n'), min_size=1, max_size=5).filter(str.strip)


@settings(max_examples=100, deadline=None)
@given(st.lists(st.tuples(CELLS, st.integers(0, 2)), min_size=1, max_size=6))
def test_a_row_is_named_by_the_line_in_which_it_begins(rows):
    """Whatever lines and quotation marks its cells have, and lines that are empty."""
    content, begins = ["text,number\n"], []
    for cell, empty in rows:
        content.append("\n" * empty)
        begins.append(1 + "".join(content).count("\n"))
        quoted = cell.replace('"', '""')
        content.append(f'"{quoted}",1\n')
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "a.csv"
        path.write_text("".join(content))
        loaded = tables.load(path)
    assert loaded.index.tolist() == begins
    assert loaded.text.tolist() == [cell for cell, _ in rows]


def test_a_table_without_the_names_of_its_columns_is_warned_of(tmp_path, frame):
    path = tmp_path / "a.csv"
    frame[["review", "label"]].to_csv(path, index=False, header=False)
    names = Columns(input=frame.review[0], label="good")
    with pytest.warns(errors.InputWarning, match="'good', is one of its labels"):
        datasets.load(path, columns=names)


def test_a_pattern_of_labels_is_refused_for_a_table(tmp_path, frame):
    frame.to_csv(tmp_path / "a.csv", index=False)
    with pytest.raises(errors.InputError, match="`labels` must be left out of a table"):
        datasets.load(tmp_path / "a.csv", labels="(.)")


def test_columns_and_groups_mean_what_they_mean_for_files(tmp_path, frame):
    path = tmp_path / "a.csv"
    frame.drop(columns="split").to_csv(path, index=False)
    data = datasets.load(path, groups="author")
    numbers = [
        {int(text.rpartition(" ")[2]) // 4 for text in texts}
        for texts in shown(data).values()
    ]
    assert sum(map(len, numbers)) == len(set.union(*numbers)) == 10
    tagged = datasets.load(path, columns=Columns(label="tags"))
    assert tagged.task == "multi-label"
    assert tagged.class_names == ("long", "slow")
    rated = datasets.load(path, columns=Columns(label="stars"))
    assert rated.task == "regression"
    with pytest.warns(errors.InputWarning, match="different labels.*40 texts"):
        other = datasets.load(path, columns=Columns(input="author", label="label"))
    assert shown(other)["train"][0].startswith("author")
    with pytest.raises(errors.InputError, match="`input_column` must be a column"):
        datasets.load(path, columns=Columns(input="words"), kind="text")


def test_what_is_left_out_is_named_by_its_line(tmp_path, frame):
    frame.loc[3, "review"] = "  "
    path = tmp_path / "a.csv"
    frame.to_csv(path, index=False)
    with pytest.raises(errors.InputError, match=r"a\.csv:5: is empty"):
        datasets.load(path)
    data = datasets.load(path, bad_files="skip", leave_out=[tmp_path / "a.csv:2"])
    assert "bad texts 1 (a.csv:5)" in data.origin
    assert "named to be left out 1 (a.csv:2)" in data.origin
    assert len(data.train) == 22
    assert data.train.inputs.names([0]) == [f"{path}:3"]


def test_a_text_of_two_splits_counts_for_the_later_one(tmp_path, frame):
    frame.loc[0, "review"] = frame.review[39].upper()
    frame.loc[2, ["review", "label"]] = frame.review[3], "good"
    path = tmp_path / "a.csv"
    frame.to_csv(path, index=False)
    with pytest.warns(errors.InputWarning) as warned:
        data = datasets.load(path)
    messages = " ".join(str(one.message) for one in warned)
    assert "stand in a later split as well: 1 text (a.csv:2)." in messages
    assert "different labels, and used as they are: 4 texts (a.csv:2" in messages
    assert len(data.train) == 23


def test_texts_beside_images_are_no_examples(tmp_path):
    for name in ("cat", "dog"):
        (tmp_path / name).mkdir()
        for number in range(4):
            pixels = np.full((8, 8, 3), 20 * number + len(name[0]), "uint8")
            pixels[:, : number + 1] = 99 if name == "cat" else 7
            Image.fromarray(pixels).save(tmp_path / name / f"{number}.png")
            for other in ("notes", "boxes"):
                (tmp_path / name / f"{number}-{other}.txt").write_text("0 1 2 3")
    assert datasets.load(tmp_path).train.inputs.kind == "image"
    with (
        pytest.warns(errors.InputWarning, match="different labels"),
        pytest.raises(errors.InputError, match="at least 3 different texts"),
    ):
        datasets.load(tmp_path, kind="text")


def test_a_folder_of_text_files_is_known_by_itself(tmp_path):
    for name in ("spam", "ham"):
        (tmp_path / name).mkdir()
        for number in range(5):
            path = tmp_path / name / f"{number}.txt"
            path.write_text(f"{name} of day {number}\n", encoding="utf-8")
    data = datasets.load(tmp_path)
    assert data.class_names == ("ham", "spam")
    assert "Each text has 4 words." in data.origin


@settings(max_examples=50, deadline=None)
@given(st.data())
def test_a_table_that_was_written_is_read_as_it_was(tmp_path_factory, data):
    cell = st.text(
        st.characters(exclude_categories=["Cs", "Cc"], include_characters='\n\t,;"'),
        min_size=1,
        max_size=20,
    ).filter(str.strip)
    rows = data.draw(st.lists(cell, min_size=1, max_size=8))
    path = tmp_path_factory.mktemp("tables") / data.draw(
        st.sampled_from(["a.csv", "a.jsonl"])
    )
    frame = pd.DataFrame({"text": rows, "label": ["x"] * len(rows)})
    if path.suffix == ".csv":
        frame.to_csv(path, index=False)
    else:
        frame.to_json(path, orient="records", lines=True, force_ascii=False)
    assert tables.load(path).text.tolist() == rows
    content = datasets.read(path, None, Options(), datasets.choices_of("text"))
    assert [file.checked.text for file in content.files] == rows
    places = [int(str(file.path).rpartition(":")[2]) for file in content.files]
    before = np.cumsum([0, *(1 + row.count("\n") for row in rows)])[:-1]
    expected = 2 + before if path.suffix == ".csv" else 1 + np.arange(len(rows))
    assert places == expected.tolist()
