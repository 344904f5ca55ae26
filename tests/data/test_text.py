import numpy as np
import pytest

from keras_tl import errors
from keras_tl.data import datasets, text


def table(folder, content, name="a.tsv", encoding="utf-8"):
    path = folder / name
    path.write_bytes(content.encode(encoding))
    return path


def test_a_table_has_a_column_of_labels_and_one_of_texts(tmp_path):
    texts, labels = text.from_table(
        table(tmp_path, 'label\tsentence\n1\ta "good\n0\tbad\n')
    )
    assert texts.texts == ('a "good', "bad")
    assert labels == ["1", "0"]
    path = table(tmp_path, 'text,label,id\n"a, b",x,1\n', "a.csv")
    texts, labels = text.from_table(path, "text")
    assert (texts.texts, labels) == (("a, b",), ["x"])


@pytest.mark.parametrize(
    ("content", "encoding", "message"),
    [
        ("label\ttext\n1\tgood\n0\t \n", "utf-8", "line 3: text and label"),
        ("label\ttext\n\tgood\n", "utf-8", "line 2: text and label"),
        ("labels\ttext\n1\tgood\n", "utf-8", "column 'label'. Received: labels, text"),
        ("label\ttext\tid\n1\tgood\t1\n", "utf-8", "one column besides"),
        ("label\ttext\n1\tcafé\n", "latin-1", "must be in UTF-8"),
    ],
)
def test_what_is_wrong_with_a_table_is_named(tmp_path, content, encoding, message):
    with pytest.raises(errors.InputError, match=message):
        text.from_table(table(tmp_path, content, encoding=encoding))


def test_a_table_that_is_not_there_is_named(tmp_path):
    with pytest.raises(errors.InputError, match="that exists"):
        text.from_table(tmp_path / "a.tsv")


def test_a_folder_of_texts_has_a_folder_for_each_class(tmp_path):
    for name in ("good", "bad"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "1.txt").write_text(f"a {name} film")
    texts, labels = text.from_folder(tmp_path)
    assert texts.texts == ("a bad film", "a good film")
    assert labels == ["bad", "good"]
    (tmp_path / "good" / "2.txt").write_text(" ")
    with pytest.raises(errors.InputError, match=r"2\.txt is empty"):
        text.from_folder(tmp_path)


def test_tables_become_three_splits(reviews):
    data = datasets.from_tables(reviews, seed=1)
    assert data.class_names == ("bad", "good")
    assert [len(split) for _, split in data.items()] == [72, 8, 20]
    for _, split in data.items():
        for shown, label in zip(
            split.inputs.preview(range(len(split))), split.labels, strict=True
        ):
            assert data.class_names[label] in shown
    assert "texts of 2 classes" in str(data)
    table(reviews, "label\ttext\nodd\tgood\n", "dev.tsv")
    with pytest.raises(errors.InputError, match="does not have: odd"):
        datasets.from_tables(reviews)


def test_a_table_without_labels_is_no_test_split(reviews):
    # GLUE's test.tsv has an index in their place.
    table(reviews, "index\tsentence\n0\ta good film\n", "test.tsv")
    data = datasets.from_tables(reviews)
    assert len(data.test) == 20
    assert "test is dev.tsv" in data.origin
    assert "without labels: test.tsv" in data.origin


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


def test_tokens_of_real_sentences_are_those_of_keras_hub(real_data):
    folder = real_data.parent / "minilm"
    if not folder.is_dir():
        pytest.skip("there is no folder minilm beside the real data")
    import keras_hub

    texts, _ = text.from_table(real_data / "sst2" / "dev.tsv")
    sentences = texts.preview(range(200))
    ours = text.Tokenizer.of_model(folder, 64).encode(sentences)
    theirs = keras_hub.tokenizers.BertTokenizer.from_preset(str(folder))
    for ids, sentence in zip(ours, sentences, strict=True):
        assert ids[ids > 0][1:-1].tolist() == np.asarray(theirs(sentence)).tolist()
