import csv
import os
import shutil
from dataclasses import replace

import numpy as np
import pytest
from PIL import Image

from keras_tl import errors, files
from keras_tl.data import text
from keras_tl.deploy import artifact, compiled, prediction


def save(path, seed=0):
    path.parent.mkdir(parents=True, exist_ok=True)
    pixels = np.random.default_rng(seed).integers(0, 256, (9, 9, 3), "uint8")
    Image.fromarray(pixels).save(path, "PNG")
    return path


@pytest.fixture
def photos(tmp_path):
    for index in range(4):
        save(tmp_path / "photos" / f"{index}.png", index)
    return tmp_path / "photos"


def rows_of(output):
    return [line.split("\t") for line in output.splitlines()]


def test_one_bad_file_does_not_keep_the_others_from_being_predicted(
    run, photos, capsys
):
    (photos / "empty.png").write_bytes(b"")
    (photos / "cut.jpg").write_bytes((photos / "0.png").read_bytes()[:60])
    (photos / "gone.png").symlink_to("nowhere")
    assert not prediction.predict(run[0], [str(photos)], 1, None)
    output = capsys.readouterr()
    names = [row[0] for row in rows_of(output.out)[1:]]
    assert names == [str(photos / f"{index}.png") for index in range(4)]
    assert "3 of 7 inputs cannot be used" in output.err
    for name in ("empty.png: is empty", "cut.jpg: cannot be", "gone.png: is a link"):
        assert name in output.err
    with pytest.raises(errors.InputError, match=r"3 of 7 inputs cannot be used"):
        prediction.predict(run[0], [str(photos)], 1, None, "error")


def test_only_bad_files_are_an_error(run, tmp_path):
    (tmp_path / "a.png").write_bytes(b"")
    with pytest.raises(errors.InputError, match=r"1 of 1 input .*\n.*a.png: is empty"):
        prediction.predict(run[0], [str(tmp_path / "a.png")], 1, None)


def test_an_input_without_an_answer_is_listed(run, photos, capsys, monkeypatch):
    right = artifact.Artifact.answer

    def some(self, inputs, **options):
        if len(inputs) == 4:
            error = artifact.NotFiniteError("The model returns NaN.")
            error.examples = (1,)
            raise error
        return right(self, inputs, **options)

    monkeypatch.setattr(artifact.Artifact, "answer", some)
    assert not prediction.predict(run[0], [str(photos)], 1, None)
    output = capsys.readouterr()
    names = [row[0] for row in rows_of(output.out)[1:]]
    assert names == [str(photos / f"{index}.png") for index in (0, 2, 3)]
    assert "1.png: has no answer" in output.err


def test_hidden_files_and_those_of_systems_are_not_tried(run, photos, capsys):
    for name in ("._0.png", "__MACOSX/0.png", ".ipynb_checkpoints/0.png"):
        save(photos / name)
    (photos / "notes.txt").write_text("No image.")
    save(photos / "nosuffix")
    save(photos / "UPPER.PNG")
    assert prediction.predict(run[0], [str(photos)], 1, None)
    output = capsys.readouterr()
    assert len(rows_of(output.out)) == 1 + 6
    assert "Left out, since they are no images: 1." in output.err
    assert prediction.predict(run[0], [str(photos / "._0.png")], 1, None)


@pytest.mark.parametrize("terminal", [False, True])
def test_names_are_shown_as_they_are(run, tmp_path, capsys, monkeypatch, terminal):
    names = [
        "[red]a.png",
        "[/red].png",
        ":smile:.png",
        "b [bold].png",
        "tab\tline\n.png",
    ]
    paths = [str(save(tmp_path / name, index)) for index, name in enumerate(names)]
    files.write_json(run[0] / "classes.json", ["[blue]x", "[blue]y", "[/blue]"])
    manifest = files.read_json(run[0] / "manifest.json")
    manifest["files_sha256"] = {}
    files.write_json(run[0] / "manifest.json", manifest)
    monkeypatch.setattr("keras_tl.progress.is_terminal", lambda: terminal)
    monkeypatch.setenv("COLUMNS", "500")
    assert prediction.predict(run[0], paths, 3, None)
    shown = capsys.readouterr().out
    for name in ["[red]a.png", "[/red].png", ":smile:.png", "b [bold].png"]:
        assert shown.count(name) == 3
    assert shown.count("tab\\tline\\n.png") == 3
    for name in ("[blue]x", "[blue]y", "[/blue]"):
        assert shown.count(name) == 5


def test_names_that_are_no_text_are_shown_and_written(run, tmp_path, capsys):
    path = save(tmp_path / os.fsdecode(b"caf\xe9.png"))
    assert prediction.predict(run[0], [str(path)], 1, None)
    assert "caf\\udce9.png" in capsys.readouterr().out
    assert prediction.predict(run[0], [str(path)], 1, tmp_path / "out.csv")
    with open(tmp_path / "out.csv", encoding="utf-8", newline="") as file:
        (row,) = csv.DictReader(file)
    assert row["image"].endswith("caf\\udce9.png")


def test_a_long_path_is_one_line_where_there_is_no_terminal(run, tmp_path, capsys):
    path = save(tmp_path / ("deep" * 20) / ("name" * 20 + ".png"))
    assert prediction.predict(run[0], [str(path)], 1, None)
    header, row = rows_of(capsys.readouterr().out)
    assert header == ["image", "class", "probability", "note"]
    assert row[0] == str(path)
    assert 0 <= float(row[2]) <= 1


def test_a_run_whose_folder_cannot_be_written_to_is_predicted(
    run, photos, capsys, monkeypatch
):
    def refuse(*arguments):
        raise errors.InputError("Cannot write model.tflite: Read-only file system.")

    monkeypatch.setattr(compiled, "has_litert", lambda: True)
    monkeypatch.setattr(compiled, "convert", refuse)
    assert prediction.predict(run[0], [str(photos)], 1, None)
    output = capsys.readouterr()
    assert "Not converted: Cannot write model.tflite: Read-only" in output.err
    assert len(rows_of(output.out)) == 5


def test_an_interrupted_run_is_told_how_to_go_on(tmp_path):
    files.write_json(tmp_path / "config.json", {})
    with pytest.raises(errors.InputError, match=f"--resume {tmp_path}"):
        artifact.load(tmp_path)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda folder: folder / "absent" / "out.csv", "in a folder that exists"),
        (lambda folder: folder, "not there yet"),
        (lambda folder: save(folder / "a.csv"), "not there yet"),
    ],
)
def test_a_table_that_cannot_be_written_is_refused_before_anything_is_predicted(
    run, photos, tmp_path, monkeypatch, make, message
):
    monkeypatch.setattr(artifact, "load", lambda folder: pytest.fail("too late"))
    with pytest.raises(errors.InputError, match=message):
        prediction.predict(run[0], [str(photos)], 1, make(tmp_path))


def test_a_folder_without_permission_is_refused_for_a_table(
    run, photos, tmp_path, monkeypatch
):
    monkeypatch.setattr(os, "access", lambda path, mode: mode != os.W_OK)
    with pytest.raises(errors.InputError, match="can be written to"):
        prediction.predict(run[0], [str(photos)], 1, tmp_path / "out.csv")


def test_nothing_of_the_run_or_the_images_is_changed(run, photos):
    shutil.copytree(photos, photos.parent / "before")
    assert prediction.predict(run[0], [str(photos)], 1, None)
    for path in photos.iterdir():
        assert path.read_bytes() == (photos.parent / "before" / path.name).read_bytes()


def test_a_file_that_does_not_exist_keeps_nobody_from_an_answer(run, photos, capsys):
    inputs = [str(photos / "0.png"), str(photos / "absent.png")]
    assert not prediction.predict(run[0], inputs, 1, None)
    output = capsys.readouterr()
    assert [row[0] for row in rows_of(output.out)[1:]] == inputs[:1]
    assert "absent.png: does not exist" in output.err
    inputs = [str(photos / "0.png"), "https://example.org/photo.png"]
    assert not prediction.predict(run[0], inputs, 1, None)
    problem = "https://example.org/photo.png: is not on this machine"
    assert problem in capsys.readouterr().err
    with pytest.raises(errors.InputError, match="not be empty"):
        prediction.predict(run[0], [""], 1, None)


def test_images_that_are_nearly_black_are_named(run, tmp_path):
    Image.fromarray(np.full((9, 9), 200, "uint16")).save(tmp_path / "a.png")
    with pytest.warns(errors.InputWarning, match="use only 8 bits"):
        prediction.predict(run[0], [str(tmp_path / "a.png")], 1, None)


def test_a_wanted_precision_decides_what_the_model_is_not_sure_of(
    run, photos, capsys, monkeypatch
):
    kept = artifact.load(run[0]).examples
    confidence = np.linspace(0, 1, 40)
    kept = replace(kept, confidence=confidence, correct=confidence > 0.5)
    monkeypatch.setattr(artifact.Examples, "load", lambda path: kept)
    assert prediction.predict(run[0], [str(photos)], 1, None, precision=1.0)
    output = capsys.readouterr()
    assert "at least 0.51: on validation 50 % of them" in output.err
    for _, _, probability, note in rows_of(output.out)[1:]:
        assert ("not sure" in note) == (float(probability) < 0.51)
    kept = replace(kept, correct=np.zeros(40, bool))
    with pytest.raises(errors.InputError, match="`precision` must be reached by"):
        prediction.predict(run[0], [str(photos)], 1, None, precision=0.9)
    kept = replace(kept, confidence=np.zeros(0))
    with pytest.raises(errors.InputError, match="has kept no confidences"):
        prediction.predict(run[0], [str(photos)], 1, None, precision=0.9)


def test_texts_come_from_a_file_and_go_into_one(text_run, tmp_path, call, capsys):
    (tmp_path / "in.csv").write_text('label,text\n1,good film\n0,"bad, bad"\n')
    out = tmp_path / "out.csv"
    assert call("predict", text_run, "--file", tmp_path / "in.csv", "--csv", out) == 0
    with open(out) as file:
        rows = list(csv.DictReader(file))
    assert [row["text"] for row in rows] == ["good film", "bad, bad"]
    (tmp_path / "in.txt").write_text("good\nbad film good film bad\n\n")
    capsys.readouterr()
    assert call("predict", text_run, "one more", "--file", tmp_path / "in.txt") == 0
    shown = capsys.readouterr()
    lines = shown.out.splitlines()[1:]
    assert [line.split("\t")[0] for line in lines] == [
        "one more",
        "good",
        "bad film good film bad",
    ]
    assert "1 of 3 texts is cut: longer than 4 tokens" in shown.err


@pytest.mark.parametrize(
    ("content", "options", "message"),
    [
        ("a,b\n1,2\n", {}, "a column of texts. Its columns are a, b.*--column"),
        ("a,b\n1,2\n", {"column": "c"}, "`column` must be a column of table in.csv"),
        ("text,b\n,2\n", {}, r"1 of 1 input.*\n.*in\.csv:2: is empty"),
        ('text\n"a\n', {}, "row 2.*is never closed"),
        ("text,b\ngood\na,b,c\n", {}, "line 3 has 3 cells, and there are 2 columns"),
        ("text\n", {}, "at least one input"),
    ],
)
def test_a_file_without_texts_is_named(text_run, tmp_path, content, options, message):
    (tmp_path / "in.csv").write_text(content)
    with pytest.raises(errors.InputError, match=message):
        prediction.predict(text_run, [], 1, None, file=tmp_path / "in.csv", **options)


def test_empty_texts_are_listed_and_the_others_answered(
    text_run, tmp_path, call, capsys
):
    (tmp_path / "in.csv").write_text('text\n"two\nlines"\n\n" "\ngood\n')
    (tmp_path / "in.txt").write_text("good\n\nbad\n")
    for name, place, count in (("in.csv", "in.csv:5", 3), ("in.txt", "in.txt:2", 3)):
        capsys.readouterr()
        assert call("predict", text_run, "--file", tmp_path / name) == 1
        output = capsys.readouterr()
        assert f"1 of {count} inputs cannot be used" in output.err
        assert f"{place}: is empty" in output.err
        assert "good" in output.out
        strict = ("--bad-files", "error")
        assert call("predict", text_run, "--file", tmp_path / name, *strict) == 2
        assert not capsys.readouterr().out


def test_a_folder_or_file_is_no_text(text_run, tmp_path, call, capsys):
    (tmp_path / "in.txt").write_text("good\n")
    for path in (tmp_path, tmp_path / "in.txt"):
        assert call("predict", text_run, path) == 2
        assert "`inputs` must be texts" in capsys.readouterr().err
    assert call("predict", text_run, "--file", tmp_path) == 2
    assert "`file` must be a file, not a folder" in capsys.readouterr().err


def test_texts_become_tokens_once_and_their_file_may_have_any_encoding(
    text_run, tmp_path, call, capsys, monkeypatch
):
    encoded, encode = [], text.Tokenizer.encode
    monkeypatch.setattr(
        text.Tokenizer,
        "encode",
        lambda self, texts: encoded.extend(texts) or encode(self, texts),
    )
    path = tmp_path / "in.csv"
    path.write_bytes("text\nçgood film\n".encode("cp1252"))
    assert call("predict", text_run, "--file", path) == 2
    assert "--encoding cp1252" in capsys.readouterr().err
    encoded.clear()
    assert call("predict", text_run, "--file", path, "--encoding", "cp1252") == 0
    assert "çgood film" in capsys.readouterr().out
    # Loading the tokenizer tries it with no text.
    assert encoded == ["çgood film"]


def test_a_folder_without_images_is_named_among_other_inputs(run, photos, capsys):
    empty = photos / "empty"
    empty.mkdir()
    inputs = [str(photos / "0.png"), str(empty)]
    assert not prediction.predict(run[0], inputs, 1, None)
    output = capsys.readouterr()
    assert len(rows_of(output.out)) == 1 + 1
    assert "1 of 2 inputs cannot be used" in output.err
    assert f"{empty}: has no images" in output.err


def test_an_export_is_told_from_a_run(run, tmp_path):
    (tmp_path / "contract.json").write_text("{}")
    with pytest.raises(errors.InputError, match=r"This is an export.*predict\.py"):
        prediction.predict(tmp_path, ["a.png"], 1, None)


def test_a_run_that_takes_images_takes_no_file_of_texts(run, tmp_path):
    with pytest.raises(errors.InputError, match="the run takes images"):
        prediction.predict(run[0], [], 1, None, file=tmp_path / "in.csv")
