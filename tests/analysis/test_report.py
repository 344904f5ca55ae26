import html.parser
import re

import numpy as np
import pytest

from keras_tl import errors
from keras_tl.analysis import evaluation, findings, report, slices
from keras_tl.analysis.findings import Finding
from keras_tl.analysis.planner import Decision
from keras_tl.data.splits import Split, Splits
from keras_tl.models.freezing import Report

HOSTILE = '<script>alert("1")</script> & co'
VOID = {"meta", "img", "br"}
RNG = np.random.default_rng(0)
SEEN = (np.arange(0, 60, 2), RNG.normal(size=(30, 4)).astype("float32"))


def made(path, *, right=0.5, classes=3, count=60, options=None, **manifest):
    """Write a report of made-up answers; give its text and the evaluation."""
    rng = np.random.default_rng(0)
    labels = np.arange(count) % classes
    predicted = np.where(rng.random(count) < right, labels, (labels + 1) % classes)
    logits = rng.normal(size=(count, classes)) + 9 * np.eye(classes)[predicted]
    names = [HOSTILE, *(f"class {index}" for index in range(1, classes))]
    images = rng.integers(0, 256, (count, 8, 8, 3), dtype="uint8")
    split = Split(images, labels)
    data = Splits(split, split, split, names, "Made up.")
    own = evaluation.evaluate(labels, logits, names, train_labels=labels)
    before = evaluation.evaluate(labels, -logits, names, train_labels=labels)
    report.write(
        path,
        command="keras-tl run test --config 'a & b.json'",
        settings={"weights": HOSTILE, "epochs": 3},
        data=data,
        results={"frozen": before, "fine-tuned": own},
        histories={
            "head": {
                name: [0.5, 0.6]
                for name in ("accuracy", "val_accuracy", "loss", "val_loss")
            }
        },
        layers=Report([("logits", "Dense", 30, True)], 30, 0, 30),
        manifest={
            "recipe": "test",
            "date": "2026-01-01T00:00:00+00:00",
            "seconds": 12.5,
            "seed": 7,
            "machine": {"cores": 2},
            "versions": {"keras": "3"},
            "data": {"sha256": "0" * 64},
            "model_sha256": "1" * 64,
            **manifest,
        },
        **(options or {}),
    )
    return path.read_text(), own


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
        assert self.open.pop() == tag


def test_page_is_whole_and_needs_nothing_else(tmp_path):
    text, _ = made(tmp_path / "report.html", options={"seen": SEEN})
    parser = Balanced()
    parser.feed(text)
    assert not parser.open
    assert "script" not in parser.seen
    for reference in re.findall(r'(?:src|href)="([^"]*)"', text):
        assert reference.startswith(("data:", "#"))
    assert "@import" not in text
    assert len(list(tmp_path.iterdir())) == 1


def test_the_map_shows_each_example_once_and_tells_wrong_answers_apart(tmp_path):
    text, own = made(tmp_path / "report.html", options={"seen": SEEN})
    _, _, picture = text.partition("<h2>What looks alike to the model</h2>")
    picture, _, _ = picture.partition("</section>")
    groups = re.findall(r"<g( class=.wrong.)?><title>(.*?)</title>", picture, re.S)
    assert picture.count("<image ") == len(groups) == 30
    expected = {f"example {index}": own.correct[index] for index in SEEN[0]}
    told = {about.splitlines()[-1]: not wrong for wrong, about in groups}
    assert told == expected
    assert "but is" in picture
    # The wrong ones lie on top.
    assert list(told.values()) == sorted(told.values(), reverse=True)
    places = re.findall(r'<image [^>]*x="([\d.]+)" y="([\d.]+)"', picture)
    corners = np.array(places, float)
    assert (corners >= 0).all()
    assert (corners <= (928 - 32, 640 - 32)).all()
    assert len(text) < 200_000


@pytest.mark.parametrize(
    "seen",
    [
        (np.arange(9), np.random.default_rng(0).normal(size=(9, 4))),
        (np.arange(30), np.zeros((30, 4))),
        (np.arange(30), np.arange(30.0)[:, None]),
    ],
    ids=["few", "equal", "one-feature"],
)
def test_what_cannot_be_placed_has_no_map(tmp_path, seen):
    text, _ = made(tmp_path / "report.html", options={"seen": seen})
    assert "What looks alike" not in text


def test_slices_are_listed_and_those_that_differ_stand_out(tmp_path):
    numbers = np.arange(60.0)
    rows = slices.compare(numbers >= 15, {f"length {HOSTILE}, words": numbers})
    found = slices.Slices(rows, "accuracy")
    text, _ = made(tmp_path / "report.html", options={"slices": found})
    _, _, section = text.partition("<h2>Slices</h2>")
    section, _, _ = section.partition("</section>")
    listed = section.partition("<tbody>")[2].split("<tr")[1:]
    assert len(listed) == len(rows) == 4
    for row, line in zip(rows, listed, strict=True):
        assert line.startswith(' class="differs"') == row.differs
        assert f"<td>{row.group}</td><td>15</td>" in line
    assert rows[0].differs
    assert "the worst of them is length" in section
    without, _ = made(tmp_path / "without.html")
    assert "Slices" not in without


def test_what_users_write_is_text_not_markup(tmp_path):
    text, _ = made(tmp_path / "report.html", options={"seen": SEEN})
    assert "<script" not in text
    assert "&lt;script&gt;" in text
    assert "&#39;a &amp; b.json&#39;" in text


def test_warnings_of_the_check_are_listed_with_their_pages(tmp_path):
    finding = Finding("small-class", "warning", f"Few of {HOSTILE}.", "More.")
    noticed = [{"code": finding.code, "message": finding.message, "page": finding.page}]
    decision = Decision("data", "0 errors, 1 warning, 0 notes", "see check", noticed)
    text, _ = made(tmp_path / "report.html", decisions=[decision.as_dict()])
    _, _, table = text.partition("<h2>Check of the data</h2>")
    for cell in (finding.code, "Few of &lt;script&gt;", f"{findings.PAGE}#small-class"):
        assert cell in table.partition("</table>")[0]
    without, _ = made(tmp_path / "without.html", decisions=[])
    assert "Check of the data" not in without


def test_numbers_are_those_of_the_evaluation(tmp_path):
    text, own = made(tmp_path / "report.html")
    low, high = own.accuracy_interval
    for number in (own.accuracy, own.majority_baseline):
        assert f"{number:.1%}".replace("%", " %").replace("\u00a0", " ") in text
    assert f"{100 * low:.1f} % to {100 * high:.1f} %" in text
    for row in own.per_class:
        assert f"{row['precision']:.3f}" in text
        assert f"{row['recall']:.3f}" in text


def test_the_most_confident_mistakes_are_shown(tmp_path):
    text, own = made(tmp_path / "report.html")
    wrong = [
        (max(np.exp(row) / np.exp(row).sum()), index)
        for index, (row, label) in enumerate(zip(own.logits, own.labels, strict=True))
        if row.argmax() != label
    ]
    expected = [index for _, index in sorted(wrong, reverse=True)[:12]]
    assert [index for index, *_ in own.mistakes(12)] == expected
    assert text.count("<figure") + text.count("<li><img") >= 12


@pytest.mark.parametrize("right", [0.0, 1.0])
def test_no_mistakes_or_nothing_but_mistakes_are_fine(tmp_path, right):
    text, own = made(tmp_path / "report.html", right=right)
    assert own.accuracy in (0, 1)
    assert "mistake" in text


@pytest.mark.parametrize("classes", [2, 40])
def test_few_and_many_classes_are_fine(tmp_path, classes):
    text, _ = made(tmp_path / "report.html", classes=classes, count=200)
    assert f"class {classes - 1}" in text


def test_a_report_that_cannot_be_written_is_said(tmp_path):
    with pytest.raises(errors.InputError, match="Cannot write"):
        made(tmp_path / "absent" / "report.html")


def test_pieces_make_up_the_text_and_what_is_cut_stays_away():
    text = "x" * 290 + " good film, again"
    places = [(0, 290), (291, 295), (296, 300), (300, 301), (302, 307)]
    pieces = report.pieces_of(text, places, [0.0, 2.0, -1.0, 9.0, 9.0])
    assert "".join(piece for piece, _ in pieces) == text[:300] + "..."
    assert ("good", 1.0) in pieces
    assert ("film", -0.5) in pieces
    # Two tokens of one character, as some tokenizers make them: it is shown once.
    pieces = report.pieces_of("ab", [(0, 1), (0, 1), (1, 2)], [1.0, 1.0, 1.0])
    assert pieces == [("a", 1.0), ("b", 1.0)]


def test_a_section_is_added_once_and_replaced_when_it_is_added_again(tmp_path):
    path = tmp_path / "report.html"
    before, _ = made(path)
    figure = report.embedded("image/png", b"")
    for sentences in (["Two sentences.", "Here."], ["One sentence."]):
        report.add(path, "curve", figure=figure, sentences=sentences)
    text = path.read_text()
    assert text.count("<h2>More data</h2>") == 1
    assert "One sentence." in text
    assert "Two sentences." not in text
    begin, end = (text.index(f"<!-- {mark}curve -->") for mark in ("", "end of "))
    rest = text[end:].partition("\n")[2]
    assert text[:begin] + rest == before
    assert text[end:].index("</main>") > 0


def test_a_section_for_a_page_that_is_not_there_writes_none(tmp_path):
    report.add(tmp_path / "report.html", "curve", figure="", sentences=[])
    assert not list(tmp_path.iterdir())
