import numpy as np
import pytest

from keras_tl import errors
from keras_tl.data import datasets, tables, text
from keras_tl.data.assembly import Options, assemble


def table(folder, content, name="a.tsv", encoding="utf-8"):
    path = folder / name
    path.write_bytes(content.encode(encoding))
    return path


def pairs(path, **options):
    """Return the texts of a table, or a folder, with the name of the class of each."""
    chosen = Options(**options)
    columns = options.pop("columns", None)
    content = datasets.read(path, columns, chosen, datasets.choices_of("text"))
    if content.bad:
        assemble(content, chosen)
    return [(file.checked.text, file.label) for file in content.files]


def test_a_table_has_a_column_of_labels_and_one_of_texts(tmp_path):
    path = table(tmp_path, 'label\tsentence\n1\ta "good\n0\tbad\n')
    assert pairs(path) == [('a "good', "1"), ("bad", "0")]
    path = table(tmp_path, 'text,label,id\n"a, b",x,1\n', "a.csv")
    assert pairs(path) == [("a, b", "x")]
    quoted = table(tmp_path, '"label"\t"text"\n"1"\t"a\tb"\n', "b.tsv")
    assert pairs(quoted) == [("a\tb", "1")]


@pytest.mark.parametrize(
    ("content", "encoding", "message"),
    [
        ("label\ttext\n1\tgood\n0\t \n", "utf-8", r"a\.tsv:3: is empty"),
        ("label\ttext\n\tgood\n", "utf-8", "must have a label.*line 2"),
        ("id\ttext\tmood\n1\tgood\ta\n", "utf-8", "a column of labels.*id, text"),
        ("label\tone\ttwo\n1\ta b\tc d\n", "utf-8", "a column of texts.*one, two"),
        ("label\ttext\n1\tcafé\n", "latin-1", "line 2 is not: .* it reads .1.*café"),
    ],
)
def test_what_is_wrong_with_a_table_is_named(tmp_path, content, encoding, message):
    path = table(tmp_path, content, encoding=encoding)
    with pytest.raises(errors.InputError, match=message):
        datasets.load(path, kind="text")


@pytest.mark.parametrize("encoding", ["utf-8-sig", "utf-16", "utf-32"])
def test_a_mark_at_the_beginning_decides_the_encoding(tmp_path, encoding):
    path = table(tmp_path, "label\ttext\n1\tcafé\n", encoding=encoding)
    assert pairs(path) == [("café", "1")]


def test_an_encoding_can_be_named_and_is_checked(tmp_path):
    path = table(tmp_path, "label\ttext\n1\tcafé\n", encoding="cp1252")
    assert pairs(path, encoding="cp1252") == [("café", "1")]
    with pytest.raises(errors.InputError, match="one that Python knows"):
        pairs(path, encoding="utf9")
    (tmp_path / "good").mkdir()
    (tmp_path / "good" / "1.txt").write_bytes("two\ncafé".encode("cp1252"))
    path.unlink()
    with pytest.raises(errors.InputError, match=r"1\.txt: .* line 2 .*café"):
        datasets.load(tmp_path, kind="text")
    assert pairs(tmp_path, encoding="cp1252") == [("two\ncafé", "good")]


def test_a_line_of_json_is_an_example(tmp_path):
    lines = '{"text": "a\\nb", "label": 1}\n\n{"label": 2, "text": "c\u2028d"}\n'
    path = table(tmp_path, lines, "a.jsonl")
    assert pairs(path) == [("a\nb", "1"), ("c\u2028d", "2")]
    assert places(path) == [f"{path}:1", f"{path}:3"]


def places(path):
    content = datasets.read(path, None, Options(), datasets.choices_of("text"))
    return [str(file.path) for file in content.files]


def test_a_text_is_named_by_the_line_in_which_it_begins(tmp_path):
    path = table(tmp_path, "text,label\na b,1\n\nc d,2\n", "a.csv")
    assert places(path) == [f"{path}:2", f"{path}:4"]
    path = table(tmp_path, 'text,label\n"a\nb",1\nc d,2\n', "b.csv")
    assert places(path) == [f"{path}:2", f"{path}:4"]


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ('{"text": "b"', "line 2 is no JSON"),
        ('["b", 1]', "line 2 must be a JSON object"),
        ('{"text": "b"}', "must have a label"),
        ('{"text": null, "label": 1}', r"a\.jsonl:2: is empty"),
    ],
)
def test_what_is_wrong_with_a_line_of_json_is_named(tmp_path, line, message):
    path = table(tmp_path, f'{{"text": "a", "label": 1}}\n{line}\n', "a.jsonl")
    with pytest.raises(errors.InputError, match=message):
        datasets.load(path, kind="text")


def test_one_table_alone_is_split(tmp_path):
    lines = [
        f'{{"text": "{word} {n}", "label": "{word}"}}'
        for n in range(20)
        for word in ("good", "bad")
    ]
    data = datasets.from_tables(table(tmp_path, "\n".join(lines), "all.jsonl"))
    assert [len(split) for _, split in data.items()] == [28, 6, 6]
    (tmp_path / "all.jsonl").unlink()
    (tmp_path / "train.jsonl").write_text("\n".join(lines))
    again = datasets.from_tables(tmp_path)
    assert again.train.inputs.texts == data.train.inputs.texts


def test_strings_in_memory_are_texts():
    texts = [f"{word} number {n}" for n in range(20) for word in ("good", "bad")]
    labels = ["praise", "criticism"] * 20
    for given in (texts, np.array(texts), tuple(texts)):
        data = datasets.load((given, labels), seed=1)
        assert data.class_names == ("criticism", "praise")
        assert data.train.inputs.kind == "text"
        assert [len(split) for _, split in data.items()] == [30, 4, 6]
    test = (["a good one", "Bad  number 3"], ["praise", "criticism"])
    with pytest.warns(errors.InputWarning, match="1 training examples are test"):
        data = datasets.from_texts((texts, labels), test)
    assert "bad number 3" not in data.train.inputs.texts
    for bad, message in (
        (["good"], "a pair of texts"),
        ((["good", 1], [0, 1]), "a pair of texts"),
        ((["good", " "], [0, 1]), "not empty"),
        ((["good", "bad"], [0.5, 1.0]), "one for each text"),
        ((["good", "bad"], [0]), "have 2 entries"),
    ):
        with pytest.raises(errors.InputError, match=message):
            datasets.from_texts(bad)


def test_copies_differ_in_case_and_white_space_at_most():
    texts = text.Texts(
        (
            "A good\tfilm ",
            "a  Good film",
            "a good film.",
            "STRASSE",
            "straße",
            "a\ud800",
        )
    )
    first, second, other, *streets, _ = texts.hashes()
    assert first == second != other
    assert streets[0] == streets[1]


def test_how_many_texts_are_cut_is_a_sentence(tiny_bert):
    tokenizer = text.Tokenizer.of_model(tiny_bert, 5)
    short, long = text.Texts(("a good film",)), text.Texts(("a very good film",))
    assert text.describe_lengths(tokenizer, short).startswith("No text is longer")
    assert text.describe_lengths(tokenizer, short, short, long) == (
        "1 of 3 texts (33.3 %) is cut: longer than 5 tokens. Median 5, longest 6."
    )


def test_a_table_that_is_not_there_is_named(tmp_path):
    with pytest.raises(errors.InputError, match="that exists"):
        datasets.from_tables(tmp_path / "a.tsv")


def test_a_folder_of_texts_has_a_folder_for_each_class(tmp_path):
    for name in ("good", "bad"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "1.txt").write_text(f"a {name} film")
    assert pairs(tmp_path) == [("a bad film", "bad"), ("a good film", "good")]
    (tmp_path / "good" / "2.txt").write_text(" ")
    with pytest.raises(errors.InputError, match=r"2\.txt: is empty"):
        datasets.load(tmp_path)


def test_tables_become_three_splits(reviews):
    data = datasets.from_tables(reviews, seed=1)
    assert data.class_names == ("bad", "good")
    assert [len(split) for _, split in data.items()] == [68, 12, 20]
    for _, split in data.items():
        for shown, label in zip(
            split.inputs.preview(range(len(split))), split.labels, strict=True
        ):
            assert data.class_names[label] in shown
    assert "texts of 2 classes" in str(data)
    table(reviews, "label\ttext\nodd\tgood\n", "dev.tsv")
    with pytest.raises(errors.InputError, match="training texts. Without.*: odd"):
        datasets.from_tables(reviews)


def test_a_table_without_labels_is_no_test_split(reviews):
    # GLUE's test.tsv has an index in their place.
    table(reviews, "index\tsentence\n0\ta good film\n", "test.tsv")
    with pytest.warns(errors.InputWarning, match=r"test\.tsv is left out.*'label'"):
        data = datasets.from_tables(reviews)
    assert len(data.test) == 20


def test_tokens_are_cut_and_filled_up_and_saved_with_the_run(tiny_bert, tmp_path):
    tokenizer = text.Tokenizer.of_model(tiny_bert, 6)
    ids = tokenizer.encode(["A good film", "bad", "the very very very dull plot"])
    np.testing.assert_array_equal(ids[0], [2, 4, 5, 7, 3, 0])
    np.testing.assert_array_equal(ids[1], [2, 6, 3, 0, 0, 0])
    assert ids[2].tolist() == [2, 14, 9, 9, 9, 3]
    assert ids.dtype == "int32"
    texts = text.tokenize(text.Texts(("A good film", "bad")), tokenizer)
    np.testing.assert_array_equal(texts.read([1, 0]), ids[[1, 0]])
    assert texts.preview([1]) == ["bad"]
    assert texts.take([1]).read([0]).tolist() == ids[[1]].tolist()
    assert texts.input_spec()["shape"] == [6]
    texts.save(tmp_path)
    again = text.Tokenizer.load(tmp_path / text.FILE)
    np.testing.assert_array_equal(again.encode(["a dull film"]), [[2, 4, 10, 7, 3, 0]])
    (tmp_path / text.FILE).write_text("{}")
    with pytest.raises(errors.InputError, match="no tokenizer of a run"):
        text.Tokenizer.load(tmp_path / text.FILE)
    with pytest.raises(errors.InputError, match="a folder with a tokenizer.json"):
        text.Tokenizer.of_model(tmp_path / "absent", 6)


@pytest.mark.parametrize(
    "content",
    [
        "[]",
        '"tokenizer"',
        '{"tokenizer": {}}',
        '{"tokenizer": {}, "sequence_length": "8"}',
        '{"tokenizer": {}, "sequence_length": 8}',
        '{"tokenizer": {"model": {"type": "x"}}, "sequence_length": 8}',
    ],
)
def test_a_file_that_holds_no_tokenizer_is_named(tmp_path, content):
    pytest.importorskip("tokenizers")
    (tmp_path / text.FILE).write_text(content)
    with pytest.raises(errors.InputError, match=r"tokenizer\.json holds no tokenizer"):
        text.Tokenizer.load(tmp_path / text.FILE)


@pytest.mark.real
def test_tokens_of_real_sentences_are_those_of_keras_hub(real_data, real_model):
    folder = real_model("minilm")
    keras_hub = pytest.importorskip("keras_hub")
    path = real_data / "data" / "sst2" / "dev.tsv"
    sentences = tables.texts(path)[0][:200]
    ours = text.Tokenizer.of_model(folder, 64).encode(sentences)
    theirs = keras_hub.tokenizers.BertTokenizer.from_preset(str(folder))
    for ids, sentence in zip(ours, sentences, strict=True):
        assert ids[ids > 0][1:-1].tolist() == np.asarray(theirs(sentence)).tolist()
