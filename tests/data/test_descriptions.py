import numpy as np
import pytest

from keras_tl import errors
from keras_tl.data import descriptions


def table(folder, text, name="classes.csv"):
    path = folder / name
    path.write_text(text, encoding="utf-8")
    return path


def test_words_and_attributes_are_told_apart(tmp_path):
    words = table(tmp_path, 'class,words\ncat,"a small, furry animal"\nship,a vessel\n')
    assert descriptions.load(words) == {
        "cat": "a small, furry animal",
        "ship": "a vessel",
    }
    numbers = table(tmp_path, "class\tfur\tsails\ncat\t1\t0\nship\t0\t.5\n", "a.tsv")
    loaded = descriptions.load(numbers)
    assert list(loaded) == ["cat", "ship"]
    np.testing.assert_array_equal(loaded["ship"], [0, 0.5])


def test_further_classes_come_behind_those_of_the_data(tmp_path):
    path = table(tmp_path, "class,words\nzebra,stripes\ncat,fur\nant,small\n")
    described = descriptions.of_classes(path, ["cat", "zebra"])
    assert list(described) == ["cat", "zebra", "ant"]


@pytest.mark.parametrize(
    ("text", "named"),
    [
        ("class\ncat\n", "a row for each class"),
        ("class,words\ncat,fur\ncat,claws\n", "'cat' stands twice"),
        ("class,words\ncat,fur\nship,\n", "'ship' has no words"),
        ("class,words\ncat,fur\nship,...\n", "'ship' has no words"),
        ("class,fur,sails\ncat,1,no\nship,0,1\n", "'sails' of the class 'cat'"),
        ("class,fur,sails\ncat,1,\nship,0,1\n", "'sails' of the class 'cat'"),
        ("class,words\ncat,fur\n", "no description of the class 'ship'"),
        ("", "empty"),
    ],
)
def test_what_is_wrong_with_descriptions_is_a_sentence(tmp_path, text, named):
    with pytest.raises(errors.InputError, match=named) as raised:
        descriptions.of_classes(table(tmp_path, text), ["cat", "ship"])
    assert "\n" not in str(raised.value)


def test_words_are_the_mean_of_those_that_have_a_vector():
    words, vectors = ["polar", "bear"], np.array([[3.0, 0.0], [0.0, 4.0]])
    rows = descriptions.vectors(
        {"polar_bear": "Polar bear!", "bear": "a bear"}, words, vectors
    )
    np.testing.assert_allclose(rows, [[0.6, 0.8], [0.0, 1.0]])


def test_attributes_count_alike_whatever_their_unit():
    rows = [
        descriptions.vectors(
            {"a": np.array([1.0, unit]), "b": np.array([0.0, 3 * unit])}, [], None
        )
        for unit in (1.0, 1000.0)
    ]
    np.testing.assert_allclose(*rows)
    np.testing.assert_allclose(np.linalg.norm(rows[0], axis=1), 1)


def test_classes_that_cannot_be_known_are_named():
    vectors = np.eye(2)
    with pytest.raises(errors.InputError, match="class 'ipod' has a vector"):
        descriptions.vectors({"cat": "cat", "ipod": "ipod"}, ["cat", "dog"], vectors)
    with pytest.raises(errors.InputError, match="'cat' and 'feline'"):
        descriptions.vectors({"cat": "cat", "feline": "cat"}, ["cat"], vectors[:1])
