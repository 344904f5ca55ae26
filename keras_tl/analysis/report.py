"""A run on one page: an HTML file that needs nothing else, to read, print or send."""

import base64
import io
import itertools
from collections.abc import Mapping, Sequence
from pathlib import Path

import jinja2
import matplotlib
import numpy as np
from matplotlib.figure import Figure
from PIL import Image

from keras_tl import files
from keras_tl.analysis import evaluation, figures, gallery
from keras_tl.analysis.calibration import Judgement
from keras_tl.analysis.slices import Slices
from keras_tl.analysis.summary import Histories, Result, merge
from keras_tl.data.splits import NOUNS, Split, Splits
from keras_tl.models.freezing import Report

TEMPLATES = Path(__file__).parents[1] / "assets" / "report"

# Where `add` puts its sections in `page.html`.
PLACE = "<!-- further sections -->"
# Most mistakes shown, most pixels of a side of theirs, most characters of a text, and
# most classes for which the table of classes is not folded.
MOST_MISTAKES, MOST_PIXELS, MOST_CHARACTERS, MOST_OPEN = 12, 160, 300, 30
# Fewest and most examples of the map, and most classes that it names; its width and
# height, the side of an image in it, and the width of a point, in pixels.
FEWEST_PLACED, MOST_PLACED, MOST_NAMED = 10, 200, 20
_WIDTH, _HEIGHT, _SIDE, _DOT = 928, 640, 32, 10


def write(
    path: Path | str,
    *,
    command: str,
    settings: Mapping[str, object],
    data: Splits,
    results: Mapping[str, Result],
    histories: Histories,
    layers: Report,
    manifest: Mapping,
    judgement: Judgement | None = None,
    metric: str = "accuracy",
    pieces: Sequence[Sequence[tuple[str, float]]] | None = None,
    slices: Slices | None = None,
    seen: tuple[np.ndarray, np.ndarray] | None = None,
) -> None:
    """Write the settings and results of a run as a page, in one step.

    The file holds its pictures and its style, runs no scripts and loads nothing.

    Args:
        path: The file.
        command: Command that runs the same again.
        settings: The recipe's settings.
        data: The data; of its examples only those of the test split are shown.
        results: Name -> evaluation on the test split; the last is the run's own.
        histories: Phase -> history, of the phases of the run's own model.
        layers: The layers that trained, as `freezing.report` returns it.
        manifest: What `manifest.json` holds.
        judgement: How far the probabilities can be believed, of classifiers.
        metric: Metric of the curves, beside the loss.
        pieces: The texts of the mistakes in pieces, see `pieces_of`.
        slices: Results by groups of test examples.
        seen: Indices of test examples, at most `MOST_PLACED`, and what the classifier
            takes for each, `(count, features)`, for the map of a classifier.

    Raises:
        InputError: The disk is full, or the folder cannot be written to.
    """
    name, own = list(results.items())[-1]
    text = render(
        "page.html",
        command=command,
        settings=settings,
        data=data,
        noun=NOUNS.get(data.test.inputs.kind, "examples"),
        name=name,
        own=own,
        results=results,
        comparisons=_comparisons(results),
        curves=_curves(histories, metric),
        kept=_kept(histories),
        charts=[(svg(figure), about) for figure, about in own.charts()],
        class_rows=[
            (
                row["name"],
                *(f"{row[key]:.3f}" for key in ("precision", "recall", "f1")),
                f"{row['support']:,}",
            )
            for row in getattr(own, "per_class", [])
        ],
        most_open=MOST_OPEN,
        mistakes=_mistakes(own, data.test, pieces),
        slices=slices,
        placed=seen and _map(own, data, *seen),
        judgement=judgement,
        reliability=judgement and svg(figures.reliability(judgement.curves)),
        layers=layers,
        layer_rows=[
            (name, kind, f"{count:,}", "trains" if trains else "frozen")
            for name, kind, count, trains in layers.rows
        ],
        manifest=manifest,
        noticed=[
            finding
            for decision in manifest.get("decisions", ())
            for finding in decision.get("findings", ())
        ],
        date=str(manifest["date"]).replace("T", " ").replace("+00:00", " UTC"),
    )
    files.write_text(path, text)


def render(template: str, **values: object) -> str:
    """Return the page that one of the templates makes of some values."""
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(TEMPLATES),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    return environment.get_template(template).render(**values)


def add(path: Path | str, name: str, **values: object) -> None:
    """Add a section to a page that is there, in place of one of that name.

    Args:
        path: A page that `write` has made; where there is none, nothing is done.
        name: Name of a template with one section, without `.html`.
        **values: Its values.

    Raises:
        InputError: The page cannot be written.
    """
    path = Path(path)
    if not path.is_file():
        return
    begin, end = f"<!-- {name} -->", f"<!-- end of {name} -->"
    text = path.read_text(encoding="utf-8")
    section = f"{begin}\n{render(f'{name}.html', **values).strip()}\n{end}\n"
    before, found, rest = text.partition(begin)
    if found:
        after = rest.partition(f"{end}\n")[2]
    else:
        # Reports of earlier versions have no place for them.
        place = PLACE if PLACE in text else "</main>"
        before, _, after = text.rpartition(place)
        after = f"{place}{after}"
    files.write_text(path, before + section + after)


def _comparisons(results: Mapping[str, Result]) -> list[tuple]:
    """Compare each model with the one before it, as texts."""
    rows = []
    for before, after in itertools.pairwise(results):
        compared = evaluation.compare(results[before], results[after])
        rows.append((before, after, compared, results[after].difference(compared)))
    return rows


def _curves(histories: Histories, metric: str) -> tuple[str, str] | None:
    """Draw the phases one after the other; return the picture and a description."""
    phases = [(name, len(history["loss"])) for name, history in histories.items()]
    if not sum(epochs for _, epochs in phases):
        return None
    merged = merge(histories)
    title = metric.replace("_", " ").capitalize()
    text = f"{title} and loss of training and validation, epoch by epoch: " + ", ".join(
        f"{epochs} of {name}" for name, epochs in phases
    )
    if f"val_{metric}" in merged:
        values = merged[f"val_{metric}"]
        text += f". Validation {metric} goes from {values[0]:.3f} to {values[-1]:.3f}"
    return svg(figures.curves(merged, phases, metric)), f"{text}."


def _kept(histories: Histories) -> str:
    """Name the epoch of each phase whose weights were kept."""
    parts = []
    for name, history in histories.items():
        kept = list(history.get("kept", []))
        if 1.0 in kept:
            parts.append(f"epoch {kept.index(1.0) + 1} of {len(kept)} of {name}")
        elif kept:
            parts.append(f"none of {name}, which was no better than its start")
    return f"Weights selected by validation: {'; '.join(parts)}." if parts else ""


def pieces_of(
    text: str, places: Sequence[tuple[int, int]], weights: Sequence[float]
) -> list[tuple[str, float]]:
    """Cut a text into tokens and what stands between them, each with a weight.

    Args:
        text: The text; what is behind the characters that are shown is left out.
        places: First character and end of each token, see `text.Tokenizer.places`.
        weights: Weight of each token, see `explain.token_weights`.

    Returns:
        Pieces that make up the text, and the weight of each divided by the largest of
        them, in [-1, 1]; 0 between tokens.

    >>> pieces_of("so good!", [(0, 0), (0, 2), (3, 7)], [9.0, -1.0, 2.0])
    [('so', -0.5), (' ', 0.0), ('good', 1.0), ('!', 0.0)]
    """
    shown, end, pieces = _shortened(text), 0, []
    kept = [
        (start, stop, float(weight))
        for (start, stop), weight in zip(places, weights, strict=True)
        if start < stop <= min(len(text), MOST_CHARACTERS)
    ]
    largest = max((abs(weight) for *_, weight in kept), default=0) or 1.0
    for start, stop, weight in kept:
        if start < end:
            continue
        pieces += [(shown[end:start], 0.0)] if end < start else []
        pieces.append((shown[start:stop], weight / largest))
        end = stop
    return pieces + ([(shown[end:], 0.0)] if end < len(shown) else [])


def _mistakes(own: Result, split: Split, pieces=None) -> list[dict]:
    """Describe the largest mistakes: images for the gallery, texts for the table."""
    mistakes = own.mistakes(MOST_MISTAKES)
    examples = split.inputs.preview([index for index, *_ in mistakes], MOST_PIXELS)
    names = split.inputs.names([index for index, *_ in mistakes])
    if names is None:
        names = [f"example {index}" for index, *_ in mistakes]
    if examples is None:
        examples = names
    rows = []
    for number, ((_, predicted, true), name, example) in enumerate(
        zip(mistakes, names, examples, strict=True)
    ):
        is_image = isinstance(example, np.ndarray)
        rows.append(
            {
                "path": name,
                "name": "/".join(Path(name).parts[-2:]),
                "image": _picture(example) if is_image else "",
                "pieces": pieces[number]
                if pieces
                else [("" if is_image else _shortened(example), 0.0)],
                "predicted": predicted,
                "true": true,
            }
        )
    return rows


def _map(own: Result, data: Splits, indices, embeddings) -> dict | None:
    """Describe test examples at places where what the model takes for alike is close.

    Returns:
        `points`, the wrong ones last, which lie on top, and `titles`, the names of the
        classes; `None` of numbers, of few examples, and of those that look the same.
    """
    alike = len(np.unique(embeddings, axis=0)) < 3 or embeddings.shape[1] < 2
    if own.metric != "accuracy" or len(indices) < FEWEST_PLACED or alike:
        return None
    places = gallery.places(embeddings)
    places = (places - places.min(axis=0)) / np.ptp(places, axis=0).clip(min=1e-9)
    places = places * (_WIDTH - _SIDE, _HEIGHT - _SIDE) + _SIDE / 2
    source, labels = data.test.inputs, own.labels[indices]
    examples = source.preview(indices, _SIDE)
    pictures = examples is not None and not isinstance(examples[0], str)
    places = gallery.apart(places, 1.1 * _SIDE if pictures else _DOT)
    names = source.names(indices) or [f"example {index}" for index in indices]
    points = []
    for number, (index, (x, y)) in enumerate(zip(indices, places, strict=True)):
        example = "" if examples is None else examples[number]
        lines = [
            _answer(own, index),
            "/".join(Path(names[number]).parts[-2:]),
            "" if pictures else _shortened(example),
        ]
        points.append(
            {
                "x": x,
                "y": y,
                "image": _picture(example, "jpeg") if pictures else "",
                "right": own.scores[index] == 1,
                "about": "\n".join(filter(None, lines)),
            }
        )
    titles = []
    if labels.ndim == 1 and len(own.class_names) <= MOST_NAMED:
        for label in np.unique(labels):
            x, y = np.median(places[labels == label], axis=0)
            name = own.class_names[label]
            # About the half of its width: a name at the edge stays inside.
            half = min(6 * len(name), _WIDTH / 2)
            x = np.clip(x, half, _WIDTH - half)
            titles.append({"x": x, "y": y, "name": name})
    points.sort(key=lambda point: point["right"], reverse=True)
    size = {"width": _WIDTH, "height": _HEIGHT, "side": _SIDE}
    return {"points": points, "titles": titles, **size}


def _answer(own, index) -> str:
    """Return the answer of a classifier for an example, and the truth, as text."""
    if own.labels.ndim == 2:
        return ""
    answer = own.class_names[own.logits[index].argmax()]
    truth = own.class_names[own.labels[index]]
    return answer if answer == truth else f"{answer}, but is {truth}"


def _shortened(text: str) -> str:
    cut = text[:MOST_CHARACTERS]
    return f"{cut}..." if len(cut) < len(text) else text


def svg(figure: Figure) -> str:
    """Return the address of a figure inside the page, which shows behind it."""
    buffer = io.BytesIO()
    # A fixed salt and no date: same figure, same bytes.
    with matplotlib.rc_context({"svg.hashsalt": "keras_tl"}):
        metadata = dict.fromkeys(("Creator", "Date", "Format", "Type"))
        options = {"transparent": True, "metadata": metadata}
        figures.render(figure, buffer, format="svg", **options)
    return embedded("image/svg+xml", buffer.getvalue())


def _picture(pixels: np.ndarray, kind: str = "png") -> str:
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, format=kind)
    return embedded(f"image/{kind}", buffer.getvalue())


def embedded(kind: str, content: bytes) -> str:
    """Return the address of a picture that is inside the page itself."""
    return f"data:{kind};base64,{base64.b64encode(content).decode()}"
