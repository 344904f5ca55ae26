"""Every fault planted into texts is found by its code; clean texts raise nothing."""

import dataclasses
import re

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from keras_tl.analysis import doctor, doctor_page, findings, text_checks
from keras_tl.data import datasets, duplicates
from keras_tl.data.splits import Split
from keras_tl.data.text import Texts
from tests.analysis import planted

WORDS = ["a", "the", "film", "plot", "actor", "scene", "story", "music", "end", "with"]
WORDS += ["of", "and", "was", "very", "quite"]
GOOD, BAD = ("good fine great clever moving", "bad dull poor weak boring")


def texts(count=200, seed=0):
    """Reviews of two classes, whose words overlap, without anything wrong."""
    rng = np.random.default_rng(seed)
    made, labels = [], []
    for index in range(count):
        label = index % 2
        telling = (GOOD if label else BAD).split()
        other = (BAD if label else GOOD).split()
        words = list(rng.choice(WORDS, rng.integers(8, 16)))
        words += [*rng.choice(telling, 2), rng.choice(other), f"no{index}"]
        rng.shuffle(words)
        made.append(" ".join(words).capitalize() + rng.choice([".", "!"]))
        labels.append(label)
    return made, np.array(labels)


@pytest.fixture
def data():
    """Three splits of them."""
    made, labels = texts()
    cuts = {
        "train": slice(0, 120),
        "validation": slice(120, 160),
        "test": slice(160, 200),
    }
    parts = {n: Split(Texts(tuple(made[c])), labels[c]) for n, c in cuts.items()}
    return datasets.Splits(**parts, class_names=["bad", "good"], origin="Reviews.")


def changed(data, change, split="train", labels=None):
    """Return the splits with other texts in one of them: `change` of text and label."""
    part = getattr(data, split)
    kept = part.inputs.preview(range(len(part)))
    made = tuple(
        change(text, label, index)
        for index, (text, label) in enumerate(zip(kept, part.labels, strict=True))
    )
    labels = part.labels if labels is None else labels
    return dataclasses.replace(data, **{split: Split(Texts(made), labels)})


def everywhere(data, change):
    for split in ("train", "validation", "test"):
        data = changed(data, change, split)
    return data


def at(number, change):
    return lambda text, label, index: change(text) if index == number else text


def codes(noticed, *severities):
    return {
        f.code for f in noticed if f.severity in (severities or findings.SEVERITIES)
    }


def findings_of(data, **options):
    return doctor.check(data, **options).findings


def wordless(data):
    return changed(data, at(3, lambda text: '?!... "--" <br/>&nbsp;'))


def wrongly_decoded(data):
    return changed(
        data, at(3, lambda text: f"{text} café, it\u2019s".encode().decode("cp1252"))
    )


def not_decoded(data):
    return changed(data, at(3, lambda text: f"{text} caf\ufffd"))


def tagged(data):
    return changed(data, at(3, lambda text: f"<p>{text}</p> &amp; so on"))


def long(data):
    return changed(data, at(3, lambda text: " ".join(texts(30, 9)[0])))


def copied(data):
    return changed(
        data, at(0, lambda _: f" {data.train.inputs.texts[0].upper()}"), "test"
    )


def nearly_copied(data):
    text = data.train.inputs.texts[0]
    return changed(data, at(0, lambda _: f"<i>{text[:-1]}</i>, ..."), "test")


def under_two_labels(data):
    return changed(data, at(1, lambda _: data.train.inputs.texts[0]))


def nearly_under_two_labels(data):
    return changed(data, at(1, lambda _: f"{data.train.inputs.texts[0][:-1]} ?"))


def doubled(data):
    return changed(data, at(2, lambda _: data.train.inputs.texts[0]))


def block(data):
    text = data.train.inputs.texts[0]
    return changed(data, lambda t, label, n: text if n % 2 == 0 and n < 14 else t)


def with_their_label(data):
    return everywhere(data, lambda text, label, n: f"{text} ({'+-'[label]}1)")


def of_a_source(data):
    return everywhere(data, lambda text, label, n: f"{'(Reuters) ' * label}{text}")


def half_of_a_source(data):
    return everywhere(
        data, lambda text, label, n: f"{text} via web" if label and n % 3 else text
    )


def longer(data):
    return everywhere(
        data, lambda text, label, n: " ".join([text[:-1]] * (1 + 2 * label))
    )


def in_capitals(data):
    return everywhere(data, lambda text, label, n: text.upper() if label else text)


def unbalanced(data):
    kept = [n for n, one in enumerate(data.train.labels) if one == 0 or n < 6]
    return dataclasses.replace(data, train=data.train.take(kept))


def of_another_topic(data):
    return changed(
        data,
        lambda text, label, n: (
            text.replace("film", "phone")
            .replace("plot", "battery")
            .replace("actor", "screen")
            .replace("story", "camera")
        ),
        "test",
    )


PLANTED = {
    "wordless-text": (wordless,),
    "wrongly-decoded-text": (wrongly_decoded, not_decoded),
    "markup-in-text": (tagged,),
    "long-text": (long,),
    "exact-copies-across-splits": (copied,),
    "near-copies-across-splits": (nearly_copied,),
    "exact-copies-two-labels": (under_two_labels,),
    "near-copies-two-labels": (nearly_under_two_labels,),
    "exact-copies": (doubled,),
    "block-of-exact-copies": (block,),
    "label-in-word": (with_their_label, of_a_source, half_of_a_source),
    "label-in-form": (longer, in_capitals),
    "class-imbalance": (unbalanced,),
    "small-class": (unbalanced,),
    "train-differs-from-test": (of_another_topic,),
}
# Faults that show themselves in a second way.
ALSO = {"class-imbalance", "small-class", "label-in-form"}


@pytest.mark.parametrize(("code", "plant"), planted.cases(PLANTED))
def test_a_planted_fault_is_found_by_its_code_and_nothing_else_is(data, code, plant):
    noticed = findings_of(plant(data), features=plant is of_another_topic)
    planted.assert_alone(noticed, code, ALSO)
    for one in noticed:
        assert "image" not in f"{one.message} {one.remedy}"


@pytest.mark.parametrize("seed", range(2))
def test_clean_texts_raise_nothing(seed):
    assert not codes(findings_of(datasets.from_texts(texts(seed=seed))))


@pytest.mark.parametrize("seed", range(2))
def test_of_many_words_that_mean_nothing_none_gives_a_label_away(seed):
    rng = np.random.default_rng(seed)
    labels = np.arange(80) % 2
    made = [
        " ".join(f"w{n}" for n in np.flatnonzero(rng.random(2_000) < 0.3))
        for _ in labels
    ]
    assert not codes(findings_of(datasets.from_texts((made, labels))))


@given(st.text(st.characters(max_codepoint=0x17F), max_size=40))
def test_texts_that_were_decoded_rightly_are_told_from_others(text):
    words = " ".join(re.findall(r"[a-zà-öø-ÿ]+", text))
    assert not text_checks._WRONG.search(words)
    for encoding in ("cp1252", "latin-1"):
        try:
            wrong = words.encode().decode(encoding)
        except UnicodeDecodeError:
            continue
        assert bool(text_checks._WRONG.search(wrong)) == (wrong != words)


@given(st.lists(st.text("ab .!", max_size=12), max_size=12))
def test_texts_of_the_same_words_are_near(lines):
    pairs = duplicates.near_texts(lines)
    words = [" ".join(re.findall(r"\w+", line)) for line in lines]
    numbers = duplicates.blocks(range(len(lines)), pairs=pairs) if lines else []
    for first in range(len(lines)):
        for second in range(first):
            same = words[first] == words[second] and len(words[first].split()) >= 4
            assert (numbers[first] == numbers[second]) == same


def test_the_page_shows_texts_as_texts(data, tmp_path):
    planted = changed(tagged(data), at(5, lambda _: "??"))
    diagnosis = doctor.check(planted)
    page = tmp_path / "page.html"
    doctor_page.write(page, diagnosis.findings, diagnosis.records, "reviews")
    text = page.read_text()
    assert "&lt;p&gt;" in text
    assert "<blockquote" in text
    assert "<img" not in text


def test_copies_in_memory_are_left_out(data):
    mended = doctor.without_errors(doctor.check(copied(data)))
    assert len(mended.train) == len(data.train) - 1
    assert not codes(findings_of(mended))


def table(folder, made, labels, name="reviews.csv"):
    """Write texts as a table, with a line break in the first of them."""
    rows = pd.DataFrame({"text": made, "label": labels})
    rows.loc[0, "text"] = rows.text[0].replace(" ", "\n", 1)
    rows.to_csv(folder / name, index=False)
    return folder / name


def test_without_the_lines_of_the_fix_list_nothing_is_wrong(tmp_path, call, capsys):
    made, labels = texts()
    made[9], made[12], made[15] = "  ", "?!", f"{made[5][:-1]} ???"
    labels = np.where(np.arange(200) == 15, 1 - labels, labels)
    path = table(tmp_path, made, labels)
    assert call("check", path, "--fix-list", tmp_path / "fix.txt") == 1
    text = capsys.readouterr().out
    assert "200 texts" not in text
    assert "199 texts checked: 1 error, 2 warnings" in text
    lines = (tmp_path / "fix.txt").read_text().splitlines()
    # The first text has two lines, below that with the names of the columns.
    expected = [f"{path}:{3 + index}" for index in (5, 9, 12, 15)]
    assert sorted(lines) == sorted(expected)
    left_out = ("--leave-out", tmp_path / "fix.txt")
    assert call("check", path, *left_out) == 0
    assert "196 texts checked: 0 errors, 0 warnings" in capsys.readouterr().out
    data = datasets.load(path, leave_out=lines)
    assert sum(len(split) for _, split in data.items()) == 196


def test_an_author_in_two_splits_is_an_error(tmp_path):
    made, labels = texts()
    rows = {"text": made, "label": labels, "split": ["train"] * 150 + ["test"] * 50}
    frame = pd.DataFrame(rows | {"author": [f"author {n // 7}" for n in range(200)]})
    frame.to_csv(tmp_path / "reviews.csv", index=False)
    noticed = findings_of(tmp_path / "reviews.csv", groups="author")
    assert codes(noticed, "error") == {"group-across-splits"}
    (one,) = [f for f in noticed if f.code == "group-across-splits"]
    assert one.examples == ("author 21 (train, test)",)


def test_near_copies_stay_in_one_split_when_splits_are_drawn(tmp_path):
    made, labels = texts(100)
    made += [f"{text[:-1]} ..." for text in made]
    data = datasets.load(table(tmp_path, made, [*labels, *labels]))
    noticed = doctor.check_splits(data)
    assert not {code for code in codes(noticed) if "across" in code}


@pytest.mark.real
def test_reviews_raise_only_what_is_true_of_them(real_data):
    dev = _of_sst2(real_data, "dev")
    assert not codes(doctor.check(dev).findings)


def _of_sst2(real_data, name):
    path = real_data / f"data/sst2/{name}.tsv"
    rows = [line.split("\t") for line in path.read_text("utf-8").splitlines()[1:]]
    return [row[1] for row in rows], [int(row[0]) for row in rows]
