import importlib.util

import numpy as np
import pytest

from keras_tl.data import datasets, languages

ENGLISH = "The film is as good as the book that I read last summer."
FRENCH = "J'ai vu ce film hier soir avec mes parents et mes amis."
CHINESE = "我昨天晚上和我的朋友们一起看了这部非常精彩的电影"


def test_lengths_and_languages_are_a_sentence_each():
    pytest.importorskip("py3langid")
    texts = [ENGLISH] * 97 + [FRENCH] * 3
    assert languages.describe(texts) == (
        "Length 12 to 13 words, median 13. Languages: English 97 %, French 3 %."
    )
    assert languages.describe([CHINESE, CHINESE[:12]]) == (
        "Length 12 to 24 characters, median 18. Language: Chinese."
    )
    assert languages.describe([]) == ""


def test_nothing_is_said_of_texts_that_are_too_short_or_none():
    for texts in (["good", "bad", "a plot"], ["12 7", "!!!"], ["a\ud800"], [""]):
        assert "Language" not in languages.describe(texts)
    mixed = languages.describe(["good", "ok", ENGLISH])
    assert mixed.endswith("Language: English.")


def test_a_language_that_is_hardly_there_is_not_named():
    pytest.importorskip("py3langid")
    texts = [ENGLISH] * 499 + [FRENCH]
    assert languages.describe(texts).endswith("Language: English.")


def test_500_texts_are_looked_at_wherever_they_stand(monkeypatch):
    pytest.importorskip("py3langid")
    seen = []
    monkeypatch.setattr(languages, "language_of", lambda text: seen.append(text))
    texts = [str(number) for number in range(2_000)]
    languages.describe(texts)
    first = list(seen)
    languages.describe(texts)
    assert len(set(first)) == 500
    assert seen == first * 2
    assert abs(np.mean([int(text) for text in first]) - 1_000) < 100


def test_without_the_library_lengths_alone_are_described(monkeypatch):
    find = importlib.util.find_spec
    monkeypatch.setattr(
        "importlib.util.find_spec",
        lambda name: None if name == "py3langid" else find(name),
    )
    assert languages.describe([ENGLISH]) == "Each text has 13 words."


def test_texts_in_memory_are_described():
    texts = [f"{ENGLISH} {number}" for number in range(40)]
    data = datasets.load((texts, [0, 1] * 20))
    assert "Each text has 14 words." in data.origin
