import csv
import html.parser
import json
import re
from dataclasses import replace

import keras
import numpy as np
import pytest
from scipy import stats

from keras_tl import errors
from keras_tl.analysis import comparison, comparison_page, evaluation
from keras_tl.analysis.summary import EVALUATIONS
from keras_tl.models import saving

HOSTILE = '<script>alert("1")</script>'
NAMES = ["cat", "dog", HOSTILE]
LABELS = np.arange(60) % 3
# Tens of examples that the second run answers worse: a label that is 0 stays below.
WRONG = {"regression": 2, "multi-label": 1}
VOID = {"meta", "img", "br", "line", "circle"}


@pytest.fixture(scope="module")
def model_file(tmp_path_factory):
    path = tmp_path_factory.mktemp("model") / "model.keras"
    image = keras.Input((4,))
    x = keras.layers.Dropout(0.5, seed=0)(image)
    saving.save(keras.Model(image, keras.layers.Dense(3)(x)), path)
    return path


@pytest.fixture
def made(tmp_path, model_file):
    """Function that reads a made-up run, which answers wrongly at some places."""

    def make(name, wrong=(), *, key="file", data="0", order=None, settings=None):
        folder = tmp_path / name
        folder.mkdir()
        (folder / "model.keras").symlink_to(model_file)
        answers = LABELS.copy()
        answers[list(wrong)] = (answers[list(wrong)] + 1) % 3
        write(folder, key, LABELS, answers, order)
        (folder / "config.json").write_text(json.dumps(settings or {"seed": 0}))
        (folder / "metrics.json").write_text('{"models": {"frozen": {}, "tuned": {}}}')
        (folder / "history.csv").write_text(
            "phase,epoch,val_accuracy,val_loss,kept\nhead,1,0.5,1.0,0.0\n"
            "head,2,0.625,0.5,1.0\ntuning,1,,0.25,1.0\n"
        )
        manifest = {
            "recipe": "test",
            "input": {"kind": "image"},
            "data": {"sha256": data},
            "seconds_of_parts": {"features": 1.5, "head": 2.0},
        }
        return comparison.read(folder, name, manifest, NAMES)

    return make


def write(folder, key, labels, answers, order=None):
    """Write `predictions.csv`."""
    with open(folder / "predictions.csv", "w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow((key, "label", "prediction", "probability"))
        for place in range(len(labels)) if order is None else order:
            name = place if key == "index" else f"photos/{place}.png"
            row = (name, NAMES[labels[place]], NAMES[answers[place]], 0.9)
            writer.writerow(row)


def test_a_run_is_read_as_it_was_saved(made):
    run = made("a", wrong=[0, 1, 2])
    assert run.result.value == 57 / 60
    assert run.result.interval == evaluation.wilson_interval(57, 60)
    assert (run.recipe, run.model, run.task) == ("test", "tuned", "single-label")
    assert run.seconds == 3.5
    # Neither the state of the dropout nor anything else but kernel and bias.
    assert run.parameters == 4 * 3 + 3
    assert run.history["val_loss"] == [1.0, 0.5, 0.25]
    assert np.isnan(run.history["val_accuracy"][2])


def test_parameters_are_counted_without_an_optimizer(tmp_path):
    image = keras.Input((4, 4, 3))
    inner = keras.Sequential(
        [keras.layers.Conv2D(2, 3), keras.layers.BatchNormalization()]
    )
    x = keras.layers.Flatten()(inner(image))
    model = keras.Model(image, keras.layers.Dense(8)(x))
    model.compile("adam", "mse")
    model.optimizer.build(model.trainable_variables)
    model.save(tmp_path / "model.keras")  # With its optimizer.
    assert saving.count_parameters(tmp_path / "model.keras") == model.count_params()


def test_the_test_is_that_of_the_examples_that_one_run_alone_has_right(made):
    a, b = made("a", wrong=range(12)), made("b", wrong=range(10, 14))
    (pair,) = comparison.against_first([a, b])
    assert (pair.compared.only_a, pair.compared.only_b) == (2, 10)
    assert pair.compared.p_value == pytest.approx(stats.binomtest(2, 12).pvalue)
    assert pair.compared.difference == pytest.approx(8 / 60)
    assert pair.difference == pair.compared.in_points()


@pytest.mark.parametrize("tests", [1, 2, 4])
def test_p_values_are_corrected_for_the_number_of_tests(made, tests):
    wrong = [range(7), range(20), range(3, 9), range(30, 44)][:tests]
    runs = [made("first"), *(made(f"{n}", wrong=w) for n, w in enumerate(wrong))]
    alone = [evaluation.compare(runs[0].result, run.result).p_value for run in runs[1:]]
    pairs = comparison.against_first(runs)
    found = [pair.compared.p_value for pair in pairs]
    # The definition: the k-th smallest is multiplied by the number of those not below.
    expected = dict.fromkeys(range(tests), 0.0)
    largest = 0
    for rank, place in enumerate(sorted(range(tests), key=alone.__getitem__)):
        largest = max(largest, min(1, (tests - rank) * alone[place]))
        expected[place] = largest
    assert found == pytest.approx([*expected.values()])
    said = " ".join(comparison_page.sentences(pairs))
    assert (f"{tests} tests were made" in said) == (tests > 1)


def test_the_same_files_are_compared_whatever_their_order(made):
    rng = np.random.default_rng(0)
    a = made("a", wrong=range(12))
    b = made("b", wrong=range(10, 14), data="1", order=rng.permutation(60))
    (pair,) = comparison.against_first([a, b])
    assert (pair.compared.only_a, pair.compared.only_b) == (2, 10)


def test_other_test_examples_are_said_and_not_tested(made):
    a, b = made("a"), made("b", data="1", order=range(50))
    (pair,) = comparison.against_first([a, b])
    assert pair.compared is None
    assert pair.reason.startswith(
        "b was tested on other examples than a (50 of its 50 are among those)"
    )


def test_examples_without_names_are_the_same_only_with_the_same_data(made):
    a = made("a", key="index")
    (pair,) = comparison.against_first([a, made("b", key="index", data="1")])
    assert pair.compared is None
    (pair,) = comparison.against_first([a, made("c", key="index")])
    assert pair.compared is not None


def test_the_same_files_with_other_labels_are_other_examples(made, tmp_path):
    a, b = made("a"), made("b", data="1")
    write(tmp_path / "b", "file", (LABELS + 1) % 3, LABELS)
    result, examples = comparison._answers(
        tmp_path / "b" / "predictions.csv", "single-label", NAMES
    )
    assert a.examples == examples
    relabelled = replace(b, result=result)
    assert comparison.same_examples(a, relabelled) is None
    assert comparison.same_examples(a, b) is not None


def test_only_settings_that_differ_are_listed_and_no_folders(made):
    runs = [
        made("a", settings={"seed": 0, "rate": 0.1, "out": "a", "strength": 2}),
        made("b", settings={"seed": 0, "rate": None, "out": "b", "penalty_scale": 2}),
        made("c", settings={"seed": 0, "rate": 0.1, "penalty_scale": 2, "cut": [1]}),
    ]
    assert comparison.differences(runs) == [
        ("rate", ["0.1", "none", "0.1"]),
        ("cut", ["", "", "1"]),
    ]


def test_classes_are_in_the_order_of_their_largest_differences(made):
    dogs = np.flatnonzero(LABELS == 1)
    runs = [made("a", wrong=[0]), made("b", wrong=dogs[:8]), made("c", wrong=dogs[:2])]
    first, second, third = comparison.classes(runs)
    assert (first.name, first.accuracies) == ("dog", (1.0, 0.6, 0.9))
    assert first.gap == pytest.approx(-0.4)
    assert (second.name, second.gap) == ("cat", pytest.approx(0.05))
    assert (third.name, third.gap, third.counts) == (HOSTILE, 0, (20, 20, 20))


def test_numbers_and_several_labels_are_compared_too(tmp_path):
    path = tmp_path / "predictions.csv"
    rows = 'index,x,"x, predicted",y,"y, predicted"\n0,1,0.9,0,0.75\n1,0,0.1,1,0.6\n'
    path.write_text(rows)
    several, examples = comparison._answers(path, "multi-label", ["x", "y"])
    assert examples is None
    assert several.scores.tolist() == [0.5, 1.0]
    numbers, _ = comparison._answers(path, "regression", ["x", "y"])
    assert numbers.value == pytest.approx((0.1 + 0.75 + 0.1 + 0.4) / 4)


@pytest.mark.parametrize("task", ["regression", "multi-label"])
def test_the_page_of_numbers_and_of_several_labels_says_who_is_nearer(
    made, tmp_path, task
):
    labels = np.tile([[0.0, 1.0], [1.0, 0.0]], (30, 1)).astype("float32")
    runs = []
    for name, shift in (("a", 0.0), ("b", 0.75)):
        logits = labels - 0.5 if task == "multi-label" else labels.copy()
        logits[:20, 0] -= shift
        result = EVALUATIONS[task](labels, logits, ["x", "y"])
        runs.append(replace(made(name), task=task, result=result))
    (pair,) = comparison.against_first(runs)
    assert (pair.compared.only_a, pair.compared.only_b) == (10 * WRONG[task], 0)
    text = page(tmp_path, runs)
    assert f"<td>{pair.difference}</td><td>0</td><td>{10 * WRONG[task]}</td>" in text
    assert "answers better than the other" in text
    assert ("Accuracy of each class" in text) == (task == "multi-label")


@pytest.mark.parametrize("file", comparison.NEEDED)
def test_a_file_that_a_run_lacks_is_named(made, tmp_path, file):
    made("a")
    (tmp_path / "a" / file).unlink()
    with pytest.raises(errors.InputError, match=f"`run` must hold {file}"):
        comparison.read(tmp_path / "a", "a", {"input": {}}, NAMES)


@pytest.mark.parametrize(
    ("file", "content"),
    [
        ("predictions.csv", ""),
        ("predictions.csv", "file,label\na,cat\n"),
        ("predictions.csv", "file,label,prediction\na,cat,cow\n"),
        ("predictions.csv", "file,label,prediction\na,cat\n"),
        ("predictions.csv", b"\xff\xfe"),
        ("metrics.json", "[]"),
        ("config.json", "3"),
        ("history.csv", "phase,val_loss\nhead,much\n"),
    ],
)
def test_a_damaged_file_is_named(made, tmp_path, file, content):
    made("a")
    content = content if isinstance(content, bytes) else content.encode()
    (tmp_path / "a" / file).write_bytes(content)
    with pytest.raises(errors.InputError, match="is not what a run saves") as raised:
        comparison.read(tmp_path / "a", "a", {"input": {}}, NAMES)
    assert file in str(raised.value)


class Balanced(html.parser.HTMLParser):
    """Fails on a tag that is not closed, or closed twice."""

    def __init__(self):
        super().__init__()
        self.open, self.seen = [], set()

    def handle_starttag(self, tag, attributes):
        self.seen.add(tag)
        if tag not in VOID:
            self.open.append(tag)

    def handle_endtag(self, tag):
        if tag not in VOID:
            assert self.open.pop() == tag


def page(tmp_path, runs):
    path = tmp_path / "compare.html"
    comparison_page.write(path, runs, comparison.against_first(runs))
    return path.read_text()


def test_the_page_is_whole_needs_nothing_else_and_shows_names_as_text(made, tmp_path):
    text = page(tmp_path, [made("a"), made("b & co", wrong=range(9))])
    parser = Balanced()
    parser.feed(text)
    assert not parser.open
    assert "script" not in parser.seen
    assert "&lt;script&gt;" in text
    assert "b &amp; co" in text
    for reference in re.findall(r'(?:src|href)="([^"]*)"', text):
        assert reference.startswith("data:")


def test_the_page_shows_the_numbers_of_the_runs(made, tmp_path):
    settings = {"seed": 0, "rate": 0.25}
    runs = [made("a"), made("b", wrong=range(9), settings=settings)]
    text = page(tmp_path, runs)
    low, high = evaluation.wilson_interval(51, 60)
    assert f"<td>85.0 %</td><td>{100 * low:.1f} % to {100 * high:.1f} %</td>" in text
    (pair,) = comparison.against_first(runs)
    verdict = pair.compared.verdict
    wanted = f"<td>{verdict}</td><td>{pair.difference}</td><td>0</td><td>9</td>"
    assert wanted in text
    assert '<th scope="row">rate</th><td></td><td>0.25</td>' in text
    assert '<th scope="row">seed</th>' not in text
    assert "of a goes from 0.500" in text


def test_a_page_without_differences_curves_or_tests_says_so(made, tmp_path):
    runs = [replace(made(name, key="index", data=name), history={}) for name in "ab"]
    text = page(tmp_path, runs)
    assert "None: what differs comes from" in text
    assert "No run was trained by epochs" in text
    assert "b was tested on other examples than a" in text
    assert "Verdict" not in text


def test_many_classes_are_folded(made, tmp_path):
    assert "<details>" not in page(tmp_path, [made("a"), made("b")])
    names = [f"class {index}" for index in range(40)]
    result = evaluation.evaluate(np.arange(40), np.eye(40), names)
    runs = [
        replace(run, result=result, examples=None) for run in (made("c"), made("d"))
    ]
    (tmp_path / "compare.html").unlink()
    text = page(tmp_path, runs)
    assert "<details><summary>Each of 40 classes</summary>" in text
    assert text.count("class 39</th>") == 1
    assert text.count("class 0</th>") == 2
