"""A run on one page: an HTML file that needs nothing else, to read, print or send."""

import base64
import html
import io
import itertools
from collections.abc import Iterable, Mapping
from dataclasses import replace
from pathlib import Path

import matplotlib
import numpy as np
from matplotlib.figure import Figure
from PIL import Image

from keras_tl import files
from keras_tl.analysis import evaluation, figures
from keras_tl.analysis.evaluation import Evaluation
from keras_tl.analysis.summary import Histories
from keras_tl.data.splits import Split, Splits
from keras_tl.models.freezing import Report

# Most mistakes shown, most pixels of a side of theirs, and most classes for which the
# table of classes is not folded.
MOST_MISTAKES, MOST_PIXELS, MOST_OPEN = 12, 160, 30


def write(
    path: Path | str,
    *,
    command: str,
    settings: Mapping[str, object],
    data: Splits,
    results: Mapping[str, Evaluation],
    histories: Histories,
    layers: Report,
    manifest: Mapping,
) -> None:
    """Write what a run was and what came out of it, in one step.

    The file holds its pictures and its style, runs no scripts and loads nothing.

    Args:
        path: The file.
        command: What to type to run it again.
        settings: The recipe's settings.
        data: What it was trained on; of its images only test images are shown.
        results: Name -> evaluation on the test split; the last is the run's own.
        histories: Phase -> history, of the phases of the run's own model.
        layers: What trained, as `freezing.report` says it.
        manifest: What `manifest.json` holds.

    Raises:
        InputError: The disk is full, or the folder cannot be written to.
    """
    own = list(results.values())[-1]
    text = _page(
        manifest["recipe"],
        _header(manifest, data),
        _section("Result", *_result(results)),
        _section("Training", *_training(histories)),
        _section("Classes", *_classes(own)),
        _section("Most confident mistakes", *_mistakes(own, data.test)),
        _section("Layers", *_layers(layers)),
        _section(
            "Circumstances",
            _tag(
                "div",
                _pairs("Settings", settings),
                _pairs("Versions", manifest["versions"]),
                _pairs("Machine", manifest["machine"]),
                class_="columns",
            ),
            _pairs(
                "SHA-256",
                {"data": manifest["data"]["sha256"], "model": manifest["model_sha256"]},
            ),
        ),
        _section("Run it again", _tag("pre", _tag("code", command))),
    )
    # File names that are no text, which Python reads as lone surrogates.
    files.write_text(path, text.encode("utf-8", "replace").decode("utf-8"))


def most_confident_mistakes(own: Evaluation, count: int = MOST_MISTAKES) -> np.ndarray:
    """Find the wrong predictions with the highest probability, the highest first.

    Returns:
        Indices of at most `count` examples.
    """
    wrong = np.flatnonzero(~own.correct)
    # In float32 many would be exactly 1.
    sure = evaluation.softmax(own.logits[wrong].astype("float64")).max(axis=1)
    return wrong[np.argsort(-sure, kind="stable")[:count]]


class _Html(str):
    """Text that is HTML already; `_tag` escapes all other text."""


def _tag(name: str, /, *children: object, **attributes: object) -> _Html:
    """Build an element; `class_` stands for `class`, `aria_label` for `aria-label`."""
    opening = "".join(
        f' {key.rstrip("_").replace("_", "-")}="{html.escape(str(value))}"'
        for key, value in attributes.items()
    )
    inside = "".join(
        child if isinstance(child, _Html) else html.escape(str(child))
        for child in children
    )
    closing = "" if name in ("img", "meta", "br") else f"{inside}</{name}>"
    return _Html(f"<{name}{opening}>{closing}")


def _page(title: str, *parts: _Html) -> str:
    policy = "default-src 'none'; img-src data:; style-src 'unsafe-inline'"
    head = _tag(
        "head",
        _tag("meta", charset="utf-8"),
        # Whatever a name in it may hold: nothing runs, nothing is loaded.
        _tag("meta", http_equiv="Content-Security-Policy", content=policy),
        _tag("meta", name="viewport", content="width=device-width, initial-scale=1"),
        _tag("title", title),
        _tag("style", _Html(_STYLE)),
    )
    body = _tag("body", _tag("main", *(_Html(f"{part}\n") for part in parts)))
    return f"<!doctype html>\n{_tag('html', head, body, lang='en')}\n"


def _section(title: str, *parts: _Html) -> _Html:
    return _tag("section", _tag("h2", title), *parts)


def _table(
    columns: Iterable[str], rows: Iterable[Iterable[object]], label: str
) -> _Html:
    """Build a table whose first column names the row; it scrolls where it must."""
    body = (
        _tag("tr", _tag("th", first, scope="row"), *(_tag("td", cell) for cell in rest))
        for first, *rest in rows
    )
    head = _tag("tr", *(_tag("th", column, scope="col") for column in columns))
    table = _tag("table", _tag("thead", head), _tag("tbody", *body))
    return _scroll(table, label)


def _scroll(content: _Html, label: str) -> _Html:
    # With a tab stop, so that it can be scrolled without a mouse.
    return _tag(
        "div", content, class_="scroll", role="region", aria_label=label, tabindex=0
    )


def _folded(title: str, content: _Html) -> _Html:
    return _tag("details", _tag("summary", title), content)


def _pairs(title: str, values: Mapping[str, object]) -> _Html:
    rows = (
        _tag("tr", _tag("th", key, scope="row"), _tag("td", value))
        for key, value in values.items()
    )
    return _tag("table", _tag("caption", title), _tag("tbody", *rows), class_="pairs")


def _header(manifest: Mapping, data: Splits) -> _Html:
    date = str(manifest["date"]).replace("T", " ").replace("+00:00", " UTC")
    return _tag(
        "header",
        _tag("h1", manifest["recipe"]),
        _tag("p", str(data)),
        _tag("p", f"{date}, {manifest['seconds']:,.0f} s", class_="muted"),
    )


def _result(results: Mapping[str, Evaluation]) -> list[_Html]:
    name, own = list(results.items())[-1]
    right, count = int(own.correct.sum()), len(own.labels)
    headline = _tag(
        "p",
        _tag("strong", _percent(own.accuracy)),
        _tag(
            "span",
            f"accuracy of {name}: {right:,} of {count:,} test images. "
            f"95 % interval {_range(own.accuracy_interval)}.",
        ),
        class_="headline",
    )
    rows = []
    if own.majority_baseline is not None:
        baseline = own.majority_baseline
        rows.append(("majority class", _percent(baseline), "", _mark(baseline), "", ""))
    rows += [
        (
            name,
            _percent(result.accuracy),
            _range(result.accuracy_interval),
            _mark(result.accuracy, result.accuracy_interval),
            f"{result.macro['f1']:.3f}",
            f"{result.cross_entropy:.3f}",
        )
        for name, result in results.items()
    ]
    columns = ("Model", "Accuracy", "95 % interval", "0 to 100 %", "Macro F1", "Loss")
    parts = [headline, _table(columns, rows, "Accuracy of each model")]
    compared = [_compared(*pair) for pair in itertools.pairwise(results.items())]
    if compared:
        parts.append(_tag("ul", *compared))
    note = (
        "The intervals and the tests say what other test images would change, not what "
        "another training run would."
    )
    return [*parts, _tag("p", note, class_="muted")]


def _compared(before: tuple[str, Evaluation], after: tuple[str, Evaluation]) -> _Html:
    found = evaluation.compare(before[1], after[1])
    low, high = (f"{100 * end:+.1f}" for end in found.interval)
    return _tag(
        "li",
        _tag("b", f"{after[0]} against {before[0]}: {found.verdict}."),
        f" {100 * found.difference:+.1f} points of accuracy (95 % interval {low} to "
        f"{high}); {found.only_b:,} images only {after[0]} gets right, "
        f"{found.only_a:,} only {before[0]}.",
    )


def _mark(value: float, interval: tuple[float, float] | None = None) -> _Html:
    """Draw a value in [0, 1], and its interval, on a line from 0 to 1."""

    def line(start, end, name):
        ends = {"x1": f"{start:.2f}", "x2": f"{end:.2f}", "y1": 8, "y2": 8}
        return _tag("line", **ends, class_=name)

    return _tag(
        "svg",
        line(5, 115, "axis"),
        *([line(*(5 + 110 * end for end in interval), "interval")] if interval else []),
        _tag("circle", cx=f"{5 + 110 * value:.2f}", cy=8, r=4),
        viewBox="0 0 120 16",
        aria_hidden="true",
    )


def _training(histories: Histories) -> list[_Html]:
    phases = [(name, len(history["loss"])) for name, history in histories.items()]
    total = sum(epochs for _, epochs in phases)
    if not total:
        return [_tag("p", "No epoch was trained.")]
    names = sorted({name for history in histories.values() for name in history})
    merged = {
        name: [
            value
            for history in histories.values()
            for value in history.get(name, [np.nan] * len(history["loss"]))
        ]
        for name in names
    }
    said = "Accuracy and loss of training and validation, epoch by epoch: " + ", ".join(
        f"{epochs} of {name}" for name, epochs in phases
    )
    if "val_accuracy" in merged:
        ends = (merged["val_accuracy"][0], merged["val_accuracy"][-1])
        said += f". Validation accuracy goes from {_range(ends)}"
    return [_chart(figures.curves(merged, phases), f"{said}.")]


def _classes(own: Evaluation) -> list[_Html]:
    names, counts = own.class_names, own.confusion
    wrong = counts * (1 - np.eye(len(names), dtype=counts.dtype))
    order = np.argsort(-wrong, axis=None, kind="stable")[:3]
    pairs = [np.unravel_index(index, wrong.shape) for index in order]
    confused = "; ".join(
        f"{names[true]} taken for {names[said]}, {wrong[true, said]:,} of "
        f"{counts[true].sum():,}"
        for true, said in pairs
        if wrong[true, said]
    )
    sentence = f"Most often confused: {confused or 'nothing'}."
    rows = [
        (
            row["name"],
            *(f"{row[key]:.3f}" for key in ("precision", "recall", "f1")),
            f"{row['support']:,}",
        )
        for row in own.per_class
    ]
    columns = ("Class", "Precision", "Recall", "F1", "Test images")
    table = _table(columns, rows, "Precision, recall and F1 of each class")
    if len(names) > MOST_OPEN:
        table = _folded(f"Each of {len(names)} classes", table)
    return [
        _chart(figures.confusion(own), f"Confusion matrix. {sentence}"),
        _tag("p", sentence),
        table,
    ]


def _mistakes(own: Evaluation, split: Split) -> list[_Html]:
    indices = most_confident_mistakes(own)
    count = len(own.labels)
    if not len(indices):
        return [_tag("p", f"None: all of {count:,} test images are right.")]
    side = MOST_PIXELS
    if isinstance(split.images, np.ndarray):
        side = min(side, *split.images.shape[1:3])
    images = replace(split, image_size=side).read(indices)
    sure = evaluation.softmax(own.logits[indices].astype("float64")).max(axis=1)
    items = []
    for index, image, probability in zip(indices, images, sure, strict=True):
        said = own.class_names[own.predictions[index]]
        truth = own.class_names[own.labels[index]]
        caption = _tag(
            "figcaption",
            _tag("b", f"{said} {_percent(probability)}"),
            _tag("br"),
            f"is {truth}",
        )
        alt = f"Test image {index}, of class {truth}"
        items.append(_tag("figure", _image(image, alt), caption))
    wrong = int((~own.correct).sum())
    return [
        _tag("p", f"{len(items)} of {wrong:,} mistakes on {count:,} test images."),
        _tag("div", *items, class_="gallery"),
    ]


def _layers(layers: Report) -> list[_Html]:
    rows = [
        (name, kind, f"{count:,}", "trains" if trains else "frozen")
        for name, kind, count, trains in layers.rows
    ]
    columns = ("Layer", "Class", "Parameters", "State")
    return [
        _tag("p", str(layers)),
        _folded(
            f"Each of {len(rows)} layers with parameters",
            _table(columns, rows, "What trains, layer by layer"),
        ),
    ]


def _percent(share: float) -> str:
    return f"{100 * share:.1f} %"


def _range(ends: tuple[float, float]) -> str:
    return f"{100 * ends[0]:.1f} to {_percent(ends[1])}"


def _chart(figure: Figure, alt: str) -> _Html:
    """Embed a figure as SVG without a background, so that the page's shows."""
    buffer = io.BytesIO()
    # A fixed salt and no date: same figure, same bytes.
    with matplotlib.rc_context({"svg.hashsalt": "keras_tl"}):
        metadata = dict.fromkeys(("Creator", "Date", "Format", "Type"))
        figure.savefig(buffer, format="svg", transparent=True, metadata=metadata)
    source = _embedded("image/svg+xml", buffer.getvalue())
    return _scroll(_tag("img", src=source, alt=alt, class_="chart"), alt)


def _image(pixels: np.ndarray, alt: str) -> _Html:
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, format="png")
    return _tag("img", src=_embedded("image/png", buffer.getvalue()), alt=alt)


def _embedded(kind: str, content: bytes) -> str:
    return f"data:{kind};base64,{base64.b64encode(content).decode()}"


_STYLE = """
:root { color-scheme: light dark; --ink: #1f2328; --muted: #59636e; --line: #d8dde3;
  --page: #fff; --box: #f4f6f8; --accent: #0072b2; }
@media screen and (prefers-color-scheme: dark) {
  :root { --ink: #e2e5e9; --muted: #a3abb5; --line: #363c44; --page: #15181c;
    --box: #1f242a; --accent: #6cb6e8; }
  /* Black on white becomes white on black, and hues stay what they are. */
  .chart { filter: invert(1) hue-rotate(180deg); }
}
* { box-sizing: border-box; }
body { margin: 0; background: var(--page); color: var(--ink);
  font: 1rem/1.55 system-ui, sans-serif; overflow-wrap: anywhere; }
main { max-width: 58rem; margin: 0 auto; padding: 2rem 1.25rem 4rem; }
h1 { font-size: 1.9rem; line-height: 1.2; margin: 0 0 .5rem; }
h2 { font-size: 1.2rem; margin: 2.75rem 0 .75rem; padding-bottom: .3rem;
  border-bottom: 1px solid var(--line); }
p, ul { margin: .5rem 0; max-width: 44rem; }
ul { padding-left: 1.2rem; }
b, th { font-weight: 600; }
.muted { color: var(--muted); font-size: .9rem; }
.headline { display: flex; flex-wrap: wrap; align-items: baseline; gap: .2rem 1rem; }
.headline strong { font-size: 2.6rem; line-height: 1.2; color: var(--accent);
  white-space: nowrap; }
.scroll { overflow-x: auto; margin: .75rem 0; }
table { border-collapse: collapse; font-size: .92rem;
  font-variant-numeric: tabular-nums; overflow-wrap: normal; }
th, td { padding: .3rem 1.1rem .3rem 0; border-bottom: 1px solid var(--line);
  text-align: right; white-space: nowrap; }
th:first-child { text-align: left; white-space: normal; min-width: 7rem;
  max-width: 22rem; overflow-wrap: anywhere; }
thead th { color: var(--muted); font-weight: 500; vertical-align: bottom; }
tbody th { font-weight: 500; }
td svg { display: block; width: 7.5rem; height: 1rem; }
.axis { stroke: var(--line); }
.interval { stroke: var(--accent); stroke-width: 3; }
circle { fill: var(--accent); }
.columns { display: grid; gap: 1rem 2.5rem;
  grid-template-columns: repeat(auto-fit, minmax(min(16rem, 100%), 1fr)); }
.pairs { width: 100%; align-self: start; margin-bottom: 1rem; }
.pairs caption { text-align: left; font-weight: 600; padding-bottom: .2rem; }
.pairs th { color: var(--muted); font-weight: 400; min-width: 0; vertical-align: top; }
.pairs td { text-align: left; white-space: normal; overflow-wrap: anywhere; width: 65%;
  padding-right: 0; }
.chart { display: block; max-width: max(100%, 40rem); height: auto; }
.gallery { display: grid; gap: 1.25rem 1rem; margin-top: .75rem;
  grid-template-columns: repeat(auto-fill, minmax(8rem, 1fr)); }
figure { margin: 0; break-inside: avoid; }
figure img { display: block; width: 100%; aspect-ratio: 1; }
figcaption { font-size: .85rem; line-height: 1.4; margin-top: .35rem; }
summary { cursor: pointer; }
:focus-visible { outline: 2px solid var(--accent); outline-offset: 2px; }
pre { background: var(--box); padding: .8rem 1rem; border-radius: 4px;
  white-space: pre-wrap; font-size: .9rem; }
@media print {
  body { font-size: .8rem; }
  main { max-width: none; padding: 0; }
  .scroll { overflow: visible; }
  .chart { max-width: 100%; }
  .gallery { grid-template-columns: repeat(6, 1fr); }
  tr, h2, pre { break-inside: avoid; }
  h2 { break-after: avoid; }
}
"""
