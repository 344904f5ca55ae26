"""A run on one page: an HTML file that needs nothing else, to read, print or send."""

import base64
import io
import itertools
from collections.abc import Iterator, Mapping
from dataclasses import replace
from pathlib import Path

import jinja2
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

PAGE = Path(__file__).parents[1] / "assets" / "report"

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
    name, own = list(results.items())[-1]
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(PAGE),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters.update(percent=_percent, span=_span, points=_points)
    text = environment.get_template("page.html").render(
        command=command,
        settings=settings,
        data=data,
        name=name,
        own=own,
        results=results,
        comparisons=[
            (before, after, evaluation.compare(results[before], results[after]))
            for before, after in itertools.pairwise(results)
        ],
        curves=_curves(histories),
        kept=_kept(histories),
        confusion=_svg(figures.confusion(own)),
        confused=_most_confused(own),
        class_rows=[
            (
                row["name"],
                *(f"{row[key]:.3f}" for key in ("precision", "recall", "f1")),
                f"{row['support']:,}",
            )
            for row in own.per_class
        ],
        most_open=MOST_OPEN,
        mistakes=list(_mistakes(own, data.test)),
        layers=layers,
        layer_rows=[
            (name, kind, f"{count:,}", "trains" if trains else "frozen")
            for name, kind, count, trains in layers.rows
        ],
        manifest=manifest,
        date=str(manifest["date"]).replace("T", " ").replace("+00:00", " UTC"),
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


def _curves(histories: Histories) -> tuple[str, str] | None:
    """Draw the phases one after the other; give the picture and what it shows."""
    phases = [(name, len(history["loss"])) for name, history in histories.items()]
    if not sum(epochs for _, epochs in phases):
        return None
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
        said += f". Validation accuracy goes from {_span(ends)}"
    return _svg(figures.curves(merged, phases)), f"{said}."


def _kept(histories: Histories) -> str:
    """Say which epoch of each phase gave its weights."""
    parts = []
    for name, history in histories.items():
        kept = list(history.get("kept", []))
        if 1.0 in kept:
            parts.append(f"epoch {kept.index(1.0) + 1} of {len(kept)} of {name}")
        elif kept:
            parts.append(f"none of {name}, which was no better than what it began with")
    said = "The weights that validation chose: "
    return f"{said}{'; '.join(parts)}." if parts else ""


def _most_confused(own: Evaluation) -> str:
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
    return f"Most often confused: {confused or 'nothing'}."


def _mistakes(own: Evaluation, split: Split) -> Iterator[dict]:
    indices = most_confident_mistakes(own)
    if not len(indices):
        return
    side = MOST_PIXELS
    if isinstance(split.images, np.ndarray):
        side = min(side, *split.images.shape[1:3])
    images = replace(split, image_size=side).read(indices)
    sure = evaluation.softmax(own.logits[indices].astype("float64")).max(axis=1)
    for index, image, probability in zip(indices, images, sure, strict=True):
        yield {
            "index": index,
            "source": _png(image),
            "said": own.class_names[own.predictions[index]],
            "probability": probability,
            "truth": own.class_names[own.labels[index]],
        }


def _percent(share: float) -> str:
    return f"{100 * share:.1f} %"


def _span(ends: tuple[float, float]) -> str:
    return f"{100 * ends[0]:.1f} to {_percent(ends[1])}"


def _points(difference: float) -> str:
    return f"{100 * difference:+.1f}"


def _svg(figure: Figure) -> str:
    """Embed a figure as SVG without a background, so that the page's shows."""
    buffer = io.BytesIO()
    # A fixed salt and no date: same figure, same bytes.
    with matplotlib.rc_context({"svg.hashsalt": "keras_tl"}):
        metadata = dict.fromkeys(("Creator", "Date", "Format", "Type"))
        figure.savefig(buffer, format="svg", transparent=True, metadata=metadata)
    return _embedded("image/svg+xml", buffer.getvalue())


def _png(pixels: np.ndarray) -> str:
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, format="png")
    return _embedded("image/png", buffer.getvalue())


def _embedded(kind: str, content: bytes) -> str:
    return f"data:{kind};base64,{base64.b64encode(content).decode()}"
