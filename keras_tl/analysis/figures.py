"""Figures of a run: curves, confusion, predictions, comparison.

Each function takes plain values and returns a `matplotlib.figure.Figure`. Without
pyplot, no display is needed, and no figure stays in memory that is not used.
"""

import io
import itertools
import textwrap
import warnings
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
from matplotlib import colormaps, font_manager, offsetbox, ticker
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import Rectangle
from matplotlib.text import Text

from keras_tl import errors, files

# Told apart with every kind of colour vision: M. Okabe, K. Ito, Color Universal
# Design, 2008, https://jfly.uni-koeln.de/color/
BLUE, ORANGE, VERMILLION = "#0072B2", "#E69F00", "#D55E00"
GREEN, PURPLE, SKY = "#009E73", "#CC79A7", "#56B4E9"
INK, LINE = "#333333", "#DDDDDD"
# Colours, markers and lines of series that are drawn over one another.
STYLES = (
    (BLUE, "o", "-"),
    (ORANGE, "s", "--"),
    (VERMILLION, "^", "-."),
    (INK, "D", ":"),
    (GREEN, "v", "-"),
    (PURPLE, "P", "--"),
    (SKY, "X", "-."),
)
# Most classes for which a cell of the confusion matrix can hold a number, and for
# which a row can have a name.
MOST_NUMBERS, MOST_NAMES = 20, 100
# Most classes that a legend names.
MOST_DRAWN = 10


def curves(
    history: dict[str, list[float]],
    phases: Sequence[tuple[str, int]] | None = None,
    metric: str = "accuracy",
) -> Figure:
    """Draw a metric and the loss per epoch, training beside validation.

    Args:
        history: Any of the metric, `loss`, and both with the prefix `val_`; one number
            per epoch. A ring marks each epoch for which `kept` is 1.
        phases: Name and number of epochs of each phase, in order.
        metric: Name of the metric; an accuracy is drawn in percent.
    """
    figure = _figure(8, 3.2)
    left, right = figure.subplots(1, 2)
    if metric == "accuracy":
        left.yaxis.set_major_formatter(ticker.PercentFormatter(1, symbol=" %"))
    for axes, name in ((left, metric), (right, "loss")):
        _tidy(axes, "Epoch")
        axes.grid(axis="y", color=LINE, linewidth=0.8)
        axes.xaxis.set_major_locator(ticker.MaxNLocator(integer=True, min_n_ticks=1))
        for key, label, style in (
            (name, "training", {"color": ORANGE, "linestyle": "--"}),
            (f"val_{name}", "validation", {"color": BLUE}),
        ):
            values = np.asarray(history.get(key, []), float)
            epochs = np.arange(1, len(values) + 1)
            # One epoch is a point, not a line.
            marker = "o" if len(values) <= 30 else ""
            axes.plot(epochs, values, label=label, marker=marker, markersize=3, **style)
        values = np.asarray(history.get(f"val_{name}", []), float)
        kept = np.flatnonzero(np.asarray(history.get("kept", [])) == 1)
        if len(kept) and len(values):
            ring = {"facecolors": "none", "edgecolors": BLUE, "label": "kept"}
            axes.scatter(kept + 1, values[kept], s=60, **ring)
        rows = _mark_phases(axes, phases or [])
        title = name.replace("_", " ").capitalize()
        axes.set_title(title, loc="left", fontsize=10, color=INK, pad=6 + 11 * rows)
    handles, labels = left.get_legend_handles_labels()
    figure.legend(
        handles, labels, loc="outside lower center", ncols=3, frameon=False, fontsize=9
    )
    return figure


def curves_of_runs(
    histories: Mapping[str, Mapping[str, Sequence[float]]], metric: str = "accuracy"
) -> Figure:
    """Draw a metric and the loss on validation per epoch, a line for each run.

    Args:
        histories: Name of a run -> `val_loss` and the metric with the prefix `val_`,
            where it has them; one number per epoch. A ring marks each epoch for which
            `kept` is 1.
        metric: Name of the metric; an accuracy is drawn in percent.
    """
    errors.check_at_least("len(histories)", len(histories), 1)
    names = list(dict.fromkeys((metric, "loss")))
    figure = _figure(4 * len(names), 3.4)
    panels = figure.subplots(1, len(names), squeeze=False)[0]
    for axes, name in zip(panels, names, strict=True):
        _tidy(axes, "Epoch")
        axes.grid(axis="y", color=LINE, linewidth=0.8)
        axes.xaxis.set_major_locator(ticker.MaxNLocator(integer=True, min_n_ticks=1))
        title = f"Validation {name.replace('_', ' ')}"
        axes.set_title(title, loc="left", fontsize=10, color=INK)
        for (run, history), (color, marker, line) in zip(
            histories.items(), itertools.cycle(STYLES), strict=False
        ):
            values = np.asarray(history.get(f"val_{name}", []), float)
            epochs = np.arange(1, len(values) + 1)
            style = {"color": color, "marker": marker if len(values) <= 30 else ""}
            axes.plot(epochs, values, line, label=_short(run), markersize=3, **style)
            kept = np.flatnonzero(np.asarray(history.get("kept", [])) == 1)
            if len(values):
                ring = {"facecolors": "none", "edgecolors": color}
                axes.scatter(epochs[kept], values[kept], s=60, **ring)
    if metric == "accuracy":
        panels[0].yaxis.set_major_formatter(ticker.PercentFormatter(1, symbol=" %"))
    handles, labels = panels[0].get_legend_handles_labels()
    columns = min(len(histories), 2 * len(names))
    figure.legend(
        handles,
        labels,
        loc="outside lower center",
        ncols=columns,
        frameon=False,
        fontsize=9,
    )
    return figure


def learning_rates(
    rates: np.ndarray,
    losses: np.ndarray,
    smoothed: np.ndarray,
    suggestions: Mapping[str, float],
) -> Figure:
    """Draw the loss of a test of learning rates, with the rates that it suggests.

    Args:
        rates: Learning rate of each step, `(steps,)`, growing.
        losses: Loss of each step's batch, `(steps,)`.
        smoothed: Running mean of the losses, `(steps,)`.
        suggestions: Name -> suggested learning rate.
    """
    figure = _figure(6, 3.2)
    axes = figure.subplots()
    _tidy(axes, "Learning rate", "Loss")
    axes.grid(axis="y", color=LINE, linewidth=0.8)
    axes.set_xscale("log")
    axes.plot(rates, losses, color=LINE, label="of a batch")
    axes.plot(rates, smoothed, color=BLUE, label="smoothed")
    for (name, rate), marker in zip(suggestions.items(), "os^D", strict=False):
        loss = smoothed[np.searchsorted(rates, rate)]
        label = f"{name}, {rate:.1e}"
        axes.plot(rate, loss, marker, color=VERMILLION, mfc="none", label=label)
    # Single batches, and the end where it explodes, would flatten the rest.
    low, high = min(losses.min(), smoothed.min()), smoothed.max()
    axes.set_ylim(low - 0.1 * (high - low), high + 0.1 * (high - low))
    figure.legend(loc="outside lower center", ncols=4, frameon=False, fontsize=9)
    return figure


def true_against_predicted(
    true: np.ndarray, predicted: np.ndarray, names: Sequence[str]
) -> Figure:
    """Draw predicted numbers against the true ones, a panel for each column.

    Args:
        true: `(count, columns)`.
        predicted: `(count, columns)`.
        names: Name of each column; the first four are drawn.
    """
    names = list(names)[:4]
    errors.check_at_least("len(names)", len(names), 1)
    figure = _figure(3.4 * len(names), 3.4)
    panels = figure.subplots(1, len(names), squeeze=False)[0]
    for column, (axes, name) in enumerate(zip(panels, names, strict=True)):
        _tidy(axes, f"True {_short(name)}", "Predicted")
        x, y = true[:, column], predicted[:, column]
        ends = [min(x.min(), y.min()), max(x.max(), y.max())]
        axes.plot(ends, ends, color=LINE)
        axes.plot(x, y, "o", color=BLUE, markersize=3, alpha=0.6)
    return figure


def _mark_phases(axes: Axes, phases: Sequence[tuple[str, int]]) -> int:
    """Draw the boundaries, name the phases above; return the rows of names."""
    total = sum(epochs for _, epochs in phases)
    # Right end of the last name in each row, as a share of the width of the axes.
    ends: list[float] = []
    start = 0
    axes.set_xlim(
        0.5, max(total, *(len(line.get_xdata()) for line in axes.lines)) + 0.5
    )
    for name, epochs in phases:
        if start:
            axes.axvline(start + 0.5, color=INK, linewidth=0.6, linestyle=":")
        left = start / max(total, 1)
        name = _short(name)
        # 0.022: a character of 8 points, over a width of 3.5 inches, and some air.
        row = next((i for i, end in enumerate(ends) if end <= left), len(ends))
        ends[row : row + 1] = [left + 0.022 * (len(name) + 1)]
        axes.annotate(
            name,
            (start + 0.5, 1),
            xycoords=("data", "axes fraction"),
            xytext=(0, 3 + 11 * row),
            textcoords="offset points",
            fontsize=8,
            color=INK,
            parse_math=False,
        )
        start += epochs
    return len(ends)


def confusion(counts: np.ndarray, class_names: Sequence[str]) -> Figure:
    """Draw a confusion matrix.

    Colours are shares of a row, so that rare classes show as well as frequent ones;
    numbers are counts; the recall of each class, the share on the diagonal, stands
    on the right.

    Args:
        counts: Number of examples, `(num_classes, num_classes)`; row = true class,
            column = predicted class.
        class_names: One per class.
    """
    count = len(class_names)
    support = counts.sum(axis=1, keepdims=True)
    shares = counts / np.maximum(support, 1)
    side = min(max(0.45 * count, 1.2), 9 if count <= 50 else 15)
    size = min(9.0, max(4.0, 45 * side / count))
    figure = _figure(side + 2.2, side + 1.6)
    axes = figure.subplots()
    image = axes.imshow(shares, cmap="Blues", vmin=0, vmax=1)
    _tidy(axes, "Predicted", "True")
    if count <= MOST_NAMES:
        names = [_short(name, 24) for name in class_names]
        style = {"fontsize": size, "parse_math": False}
        axes.set_yticks(range(count), names, **style)
        axes.set_xticks(
            range(count),
            names,
            rotation=45,
            ha="right",
            rotation_mode="anchor",
            **style,
        )
        above = {"fontsize": size, "color": INK, "va": "center"}
        for row in range(count):
            recall = f"{shares[row, row]:.0%}" if support[row, 0] else "no data"
            axes.text(count - 0.5 + 0.1, row, f" {recall}", **above)
        axes.text(count - 0.4, -1, " recall", **above)
    if count > MOST_NUMBERS:
        bar = figure.colorbar(image, ax=axes, shrink=0.5, aspect=30, pad=0.04)
        bar.outline.set_visible(False)
        bar.set_label("Share of the true class", fontsize=9, color=INK)
        return figure
    for row, column in np.ndindex(count, count):
        color = "white" if shares[row, column] > 0.55 else INK
        cell = {"ha": "center", "va": "center", "fontsize": size, "color": color}
        if counts[row, column]:
            axes.text(column, row, str(counts[row, column]), **cell)
    return figure


def grid(
    examples: np.ndarray | Sequence[str],
    titles: Sequence[str],
    framed: Sequence[bool] | None = None,
    columns: int = 4,
) -> Figure:
    """Draw examples in a grid, row by row.

    Args:
        examples: Images, uint8 RGB `(n, height, width, 3)`, or texts.
        titles: Text above each example, `(n,)`.
        framed: Whether each example gets a thick dashed frame, `(n,)`.
        columns: Most examples beside each other.
    """
    count = len(examples)
    errors.check_at_least("len(examples)", count, 1)
    columns = min(columns, count)
    rows = -(-count // columns)
    width = height = min(1.9, 9.6 / columns)
    if isinstance(examples[0], str):
        width, height = 2.4, 1.2  # Inches: a text is wide, not high.
    figure = _figure(width * columns, (height + 0.25) * rows)
    panels = figure.subplots(rows, columns, squeeze=False).flat
    for axes in panels:
        axes.set_axis_off()
    for index, (axes, title) in enumerate(zip(panels[:count], titles, strict=True)):
        _show(axes, examples[index])
        axes.set(xticks=[], yticks=[])
        axes.spines[:].set_visible(False)
        if framed is not None and framed[index]:
            style = {"color": VERMILLION, "linewidth": 2.5, "linestyle": "--"}
            axes.spines[:].set(visible=True, **style)
        axes.set_title(title, fontsize=8.5, color=INK, parse_math=False)
    return figure


def predictions(
    examples: np.ndarray | Sequence[str],
    probabilities: np.ndarray,
    class_names: Sequence[str],
    labels: np.ndarray | None = None,
    count: int = 12,
) -> Figure:
    """Draw examples with the predicted class and its probability.

    Args:
        examples: Images, uint8 RGB `(n, height, width, 3)`, or texts.
        probabilities: `(n, num_classes)`.
        class_names: One per class.
        labels: `(n,)`. Wrong predictions get a thick dashed frame and the true name.
        count: Most examples to show, of the first.
    """
    count = min(count, len(examples))
    errors.check_at_least("count", count, 1)
    best = probabilities[:count].argmax(axis=1)
    titles = [
        f"{_short(class_names[label], 18)} {probabilities[row, label]:.0%}"
        for row, label in enumerate(best)
    ]
    if labels is None:
        return grid(examples[:count], titles)
    wrong = best != np.asarray(labels[:count])
    for row, label in enumerate(labels[:count]):
        truth = (
            f"wrong, it is {_short(class_names[label], 16)}" if wrong[row] else "right"
        )
        titles[row] += f"\n{truth}"
    return grid(examples[:count], titles, wrong)


def thumbnails(
    places: np.ndarray,
    pictures: Sequence[np.ndarray],
    labels: np.ndarray,
    class_names: Sequence[str],
) -> Figure:
    """Draw small pictures at places in the plane, framed in the colour of their class.

    Args:
        places: `(count, 2)`.
        pictures: uint8 RGB, one for each place.
        labels: Class of each.
        class_names: One per class.
    """
    figure = _figure(9, 7.5)
    axes = figure.subplots()
    axes.set_axis_off()
    colours = colormaps["tab10" if len(class_names) <= 10 else "tab20"]
    for number, name in enumerate(class_names[: colours.N]):
        axes.scatter([], [], color=colours(number), label=_short(name))
    axes.scatter(*places.T, s=0)
    for place, picture, label in zip(places, pictures, labels, strict=True):
        zoom = 22 / max(picture.shape[:2])
        style = {"edgecolor": colours(label % colours.N), "linewidth": 1.5}
        image = offsetbox.OffsetImage(picture, zoom=zoom)
        box = offsetbox.AnnotationBbox(image, place, pad=0.05, bboxprops=style)
        axes.add_artist(box)
    figure.legend(loc="outside lower center", ncols=5, frameon=False, fontsize=9)
    return figure


def _show(axes, example):
    """Draw an image, or a text with line breaks."""
    axes.set_axis_on()
    if not isinstance(example, str):
        axes.imshow(example, interpolation="nearest")
        return
    lines = textwrap.wrap(files.printable(example), 33, max_lines=7, placeholder=" ...")
    style = {"va": "center", "ha": "center", "fontsize": 7.5, "color": INK}
    axes.text(0.5, 0.5, "\n".join(lines), parse_math=False, **style)
    axes.set(xlim=(0, 1), ylim=(0, 1))


def comparison(
    rows: Sequence[tuple[str, float, tuple[float, float] | None]],
    metric: str = "accuracy",
) -> Figure:
    """Draw a metric of several models, each with its interval.

    Args:
        rows: Name, value and interval, or `None`; drawn top down. An interval that is
            one value is none.
        metric: Name of the metric; an accuracy, in [0, 1], is drawn in percent.
    """
    percent = metric == "accuracy"
    errors.check_at_least("len(rows)", len(rows), 1)
    figure = _figure(7, 0.9 + 0.36 * len(rows))
    axes = figure.subplots()
    _tidy(axes, metric.replace("_", " ").capitalize())
    axes.grid(axis="x", color=LINE, linewidth=0.8)
    if percent:
        axes.xaxis.set_major_formatter(ticker.PercentFormatter(1, symbol=" %"))
    axes.xaxis.set_major_locator(ticker.MaxNLocator(6))
    names = [_short(name, 32) for name, _, _ in rows]
    axes.set_yticks(range(len(rows)), names, fontsize=9, parse_math=False)
    axes.set_ylim(len(rows) - 0.5, -0.5)
    for row, (_, value, interval) in enumerate(rows):
        style = ".1%" if percent else ".3g"
        text = f"{value:{style}}"
        if interval is not None and interval[0] < interval[1]:
            axes.hlines(row, *interval, color=BLUE, linewidth=2)
            text += f"  [{interval[0]:{style}}, {interval[1]:{style}}]"
        axes.plot(value, row, "o", color=BLUE, markersize=6)
        axes.annotate(
            text,
            (1.02, row),
            xycoords=("axes fraction", "data"),
            va="center",
            fontsize=8.5,
            color=INK,
        )
    return figure


def reliability(
    curves: Mapping[str, tuple[np.ndarray, np.ndarray, np.ndarray]],
) -> Figure:
    """Draw how often answers are right against their confidence.

    Args:
        curves: Name -> mean confidence, share of right answers, and number of answers,
            each `(bins,)`; large points have many answers.
    """
    figure = _figure(4.6, 3.8)
    axes = figure.subplots()
    _tidy(axes, "Confidence", "Right answers")
    axes.plot([0, 1], [0, 1], color=LINE, label="calibrated")
    styles = ((ORANGE, "--", "s"), (BLUE, "-", "o"))
    for (name, (confidence, accuracy, count)), (color, line, marker) in zip(
        curves.items(), styles, strict=False
    ):
        axes.plot(confidence, accuracy, color=color, linestyle=line, label=name)
        sizes = 8 + 150 * count / count.sum()
        options = {"color": color, "marker": marker, "linewidths": 0, "alpha": 0.7}
        axes.scatter(confidence, accuracy, sizes, **options)
    for axis in (axes.xaxis, axes.yaxis):
        axis.set_major_formatter(ticker.PercentFormatter(1, symbol=" %"))
    axes.set_aspect("equal")
    figure.legend(loc="outside lower center", ncols=3, frameon=False, fontsize=9)
    return figure


def size_and_accuracy(
    points: Sequence[tuple[str, float, float, tuple[float, float]]],
) -> Figure:
    """Draw the expected accuracy of backbones against their size.

    A step joins those that no smaller one reaches.

    Args:
        points: Name, size in MB, accuracy in [0, 1] and its interval. What has next to
            no size is drawn as 0.001 MB.
    """
    errors.check_at_least("len(points)", len(points), 1)
    points = [(name, max(size, 0.001), *others) for name, size, *others in points]
    figure = _figure(7, 4)
    axes = figure.subplots()
    _tidy(axes, "Size of the weights, MB", "Expected accuracy")
    axes.grid(axis="y", color=LINE, linewidth=0.8)
    axes.set_xscale("log")
    axes.margins(x=0.25)
    axes.xaxis.set_major_formatter(ticker.FormatStrFormatter("%g"))
    axes.xaxis.set_minor_formatter(ticker.NullFormatter())
    axes.yaxis.set_major_formatter(ticker.PercentFormatter(1, symbol=" %"))
    by_size = sorted(points, key=lambda point: (point[1], -point[2]))
    highest = itertools.accumulate((point[2] for point in by_size), max)
    sizes = [point[1] for point in by_size]
    axes.step(sizes, list(highest), where="post", color=ORANGE, linestyle="--")
    middle = (sizes[0] * sizes[-1]) ** 0.5
    if sizes[0] == sizes[-1]:
        axes.set_xlim(middle / 2, middle * 2)
    for name, size, value, (low, high) in points:
        # Names of large ones are on the left, where there is room.
        right = size <= middle
        axes.vlines(size, low, high, color=BLUE, linewidth=1.5)
        axes.plot(size, value, "o", color=BLUE, markersize=6)
        axes.annotate(
            _short(name),
            (size, value),
            xytext=(6 if right else -6, 4),
            textcoords="offset points",
            ha="left" if right else "right",
            fontsize=8.5,
            color=INK,
            parse_math=False,
        )
    return figure


def lines(
    series: Mapping[str, Sequence[tuple[int, float, float, float]]],
    names: Sequence[str],
    xlabel: str,
    ylabel: str,
) -> Figure:
    """Draw the results of a study: a line for each series, with the range over seeds.

    Args:
        series: Name -> place in `names`, mean, lowest and highest value, in [0, 1].
        names: Names of the places, from left to right.
        xlabel: Label of the horizontal axis.
        ylabel: Label of the vertical axis.
    """
    errors.check_at_least("len(series)", len(series), 1)
    figure = _figure(max(6, 1.5 + 0.6 * len(names)), 3.6)
    axes = figure.subplots()
    _tidy(axes, xlabel, ylabel)
    axes.grid(axis="y", color=LINE, linewidth=0.8)
    axes.yaxis.set_major_formatter(ticker.PercentFormatter(1, symbol=" %"))
    axes.set_xticks(
        range(len(names)),
        [_short(name) for name in names],
        rotation=30 if len(names) > 6 else 0,
        ha="right" if len(names) > 6 else "center",
        parse_math=False,
    )
    for (name, points), (color, marker, line) in zip(
        series.items(), itertools.cycle(STYLES), strict=False
    ):
        place, mean, low, high = np.array(points, float).T
        axes.fill_between(place, low, high, color=color, alpha=0.15, linewidth=0)
        axes.plot(place, mean, line, color=color, marker=marker, label=_short(name))
    figure.legend(
        loc="outside lower center", ncols=min(len(series), 4), frameon=False, fontsize=9
    )
    return figure


def learning_curve(
    rows: Sequence[Mapping],
    ahead: Sequence[tuple[float, float, float, float]],
    wanted: float,
) -> Figure:
    """Draw accuracy by the number of training examples, and its forecast.

    Args:
        rows: `examples`, `accuracy`, `low` and `high` of each size.
        ahead: Number of examples, forecast accuracy, and the ends of its interval.
        wanted: Accuracy that is wanted, drawn as a line.
    """
    figure = _figure(7, 3.8)
    axes = figure.subplots()
    _tidy(axes, "Training examples", "Accuracy on validation")
    axes.grid(axis="y", color=LINE, linewidth=0.8)
    axes.yaxis.set_major_formatter(ticker.PercentFormatter(1, symbol=" %"))
    axes.set_xscale("log")
    axes.xaxis.set_major_formatter(ticker.StrMethodFormatter("{x:,.0f}"))
    examples, middle, low, high = np.array(ahead, float).T
    axes.fill_between(examples, low, high, color=ORANGE, alpha=0.2, linewidth=0)
    axes.plot(examples, middle, "--", color=ORANGE, label="forecast, 90 % interval")
    sizes = [row["examples"] for row in rows]
    means = np.array([row["accuracy"] for row in rows])
    ends = [[row["low"] for row in rows], [row["high"] for row in rows]]
    apart = np.abs(np.array(ends) - means)
    axes.errorbar(
        sizes, means, apart, fmt="o", color=BLUE, label="measured, lowest to highest"
    )
    axes.axhline(wanted, color=INK, linewidth=0.8, linestyle=":", label="wanted")
    figure.legend(loc="outside lower center", ncols=3, frameon=False, fontsize=9)
    return figure


def costs(
    rows: Mapping[str, Sequence[float]],
    columns: Sequence[str],
    marked: Mapping[str, str],
) -> Figure:
    """Draw what each part costs in several runs, a row for each.

    Args:
        rows: Name of the run -> cost of each part, in [0, 1].
        columns: The parts.
        marked: Name of the run -> the part that is framed.
    """
    errors.check_at_least("len(rows)", len(rows), 1)
    values = 100 * np.array(list(rows.values()))
    figure = _figure(2.5 + 0.75 * len(columns), 1.6 + 0.34 * len(rows))
    axes = figure.subplots()
    _tidy(axes, "Points of accuracy that the part costs")
    axes.imshow(values, cmap="Blues", vmin=0, vmax=100, aspect="auto")
    names = [_short(name) for name in rows]
    axes.set_yticks(range(len(rows)), names, parse_math=False)
    axes.set_xticks(range(len(columns)), columns, rotation=30, ha="right")
    for (row, column), value in np.ndenumerate(values):
        color = "white" if value > 55 else INK
        cell = {"ha": "center", "va": "center", "fontsize": 9, "color": color}
        axes.text(column, row, f"{value:.0f}", **cell)
    for row, name in enumerate(rows):
        if marked.get(name) in columns:
            place = (list(columns).index(marked[name]) - 0.5, row - 0.5)
            frame = Rectangle(place, 1, 1, fill=False, edgecolor=VERMILLION, lw=2)
            axes.add_patch(frame)
    return figure


def panels(
    rows: Mapping[str, Mapping[str, tuple[float, float, float]]],
    marked: str,
    xlabel: str,
) -> Figure:
    """Draw the results of the same methods on several datasets, a panel for each.

    Args:
        rows: Name of the panel -> method -> mean, lowest and highest value, in [0, 1].
        marked: The method that is drawn as a line, to compare all others with.
        xlabel: Label of the horizontal axes.
    """
    errors.check_at_least("len(rows)", len(rows), 1)
    names = list(next(iter(rows.values())))
    figure = _figure(1.8 + 2.2 * len(rows), 1.2 + 0.3 * len(names))
    for axes, (title, values) in zip(
        figure.subplots(1, len(rows), sharey=True, squeeze=False)[0],
        rows.items(),
        strict=True,
    ):
        _tidy(axes, xlabel)
        axes.grid(axis="x", color=LINE, linewidth=0.8)
        axes.xaxis.set_major_locator(ticker.MaxNLocator(3))
        axes.xaxis.set_major_formatter(ticker.PercentFormatter(1, symbol=" %"))
        axes.set_title(title, fontsize=10, parse_math=False)
        axes.axvline(values[marked][0], color=ORANGE, linewidth=1.5)
        for place, name in enumerate(names):
            mean, low, high = values[name]
            color = ORANGE if name == marked else BLUE
            axes.plot([low, high], [place, place], color=color, linewidth=2, alpha=0.5)
            axes.plot(mean, place, "o", color=color)
        axes.set_yticks(range(len(names)), names, parse_math=False)
    axes.invert_yaxis()  # Of all panels.
    return figure


def layers(rows: Sequence[tuple[str, str, int, bool]]) -> Figure:
    """Draw the layers of a model, from input to output: which train, which are frozen.

    Args:
        rows: Name, class, number of parameters and whether it trains, of each layer, as
            `freezing.report(model).rows` has them.
    """
    errors.check_at_least("len(rows)", len(rows), 1)
    figure = _figure(8, 2.6)
    axes = figure.subplots()
    _tidy(axes, "Layer, from input to output", "Parameters")
    axes.set_yscale("log")
    axes.xaxis.set_major_locator(ticker.MaxNLocator(integer=True))
    counts = np.array([count for _, _, count, _ in rows])
    trains = np.array([trains for _, _, _, trains in rows])
    places = np.arange(1, len(rows) + 1)
    for name, chosen, style in (
        ("frozen", ~trains, {"color": LINE, "edgecolor": "#999999"}),
        ("trains", trains, {"color": BLUE}),
    ):
        layers = errors.counted(chosen.sum(), "layer")
        parameters = errors.counted(counts[chosen].sum(), "parameter")
        label = f"{name}: {layers}, {parameters}"
        axes.bar(places[chosen], counts[chosen], width=0.8, label=label, **style)
    figure.legend(loc="outside lower center", ncols=2, frameon=False, fontsize=9)
    return figure


def trials(rows: Sequence[Mapping], space: Mapping[str, Mapping]) -> Figure:
    """Draw the trials of a search: in their order, and by each setting.

    The panel of a setting shows the trials, in which all others changed too, not the
    effect of that setting alone.

    Args:
        rows: One for each trial: `trial`, its number; its settings; `validation`, its
            accuracy, or `failed`. Trials that failed are crosses at the bottom.
        space: Name of a setting -> its `values`, or `low`, `high`, `log` and `whole`,
            as `search.describe` returns it.
    """
    errors.check_at_least("len(rows)", len(rows), 1)
    columns = min(4, len(space))
    lines = -(-len(space) // columns)
    figure = _figure(9, 3 + 2.1 * lines)
    grid = figure.add_gridspec(1 + lines, columns)
    top = figure.add_subplot(grid[0, :])
    _tidy(top, "Trial", "Validation accuracy")
    _scatter(top, rows, [row["trial"] for row in rows])
    values = [row.get("validation", 0) for row in rows]
    so_far = list(itertools.accumulate(values, max))
    style = {"color": INK, "linewidth": 1, "where": "post", "label": "best so far"}
    top.step([row["trial"] for row in rows], so_far, **style)
    top.xaxis.set_major_locator(ticker.MaxNLocator(integer=True, min_n_ticks=1))
    for index, (name, tried) in enumerate(space.items()):
        axes = figure.add_subplot(
            grid[1 + index // columns, index % columns], sharey=top
        )
        _tidy(axes, _short(name))
        axes.tick_params(labelleft=index % columns == 0)
        places = _place(axes, tried, [row[name] for row in rows])
        _scatter(axes, rows, places)
    top.yaxis.set_major_formatter(ticker.PercentFormatter(1, symbol=" %"))
    handles, labels = top.get_legend_handles_labels()
    figure.legend(
        handles, labels, loc="outside lower center", ncols=5, frameon=False, fontsize=9
    )
    return figure


def _place(axes, tried, values):
    """Prepare the axis of a setting; return the place of each value on it."""
    if "values" not in tried:
        axes.set_xscale("log" if tried["log"] else "linear")
        axes.set_xlim(tried["low"], tried["high"])
        axes.xaxis.set_minor_formatter(ticker.NullFormatter())
        if tried["whole"]:
            axes.xaxis.set_major_locator(ticker.MaxNLocator(integer=True))
        return values
    choices = list(tried["values"])
    names = [_short(str(value)) for value in choices]
    axes.set_xticks(range(len(choices)), names, parse_math=False)
    axes.set_xlim(-0.5, len(choices) - 0.5)
    return [choices.index(value) for value in values]


def _scatter(axes, rows, places):
    """Draw the accuracy of each trial of a search at its place."""
    axes.grid(axis="y", color=LINE, linewidth=0.8)
    best = max(rows, key=lambda row: row.get("validation", -1))
    points = {"trial": [], "start": [], "failed": []}
    for index, (place, row) in enumerate(zip(places, rows, strict=True)):
        if "failed" in row:
            points["failed"].append((place, 0.03))
            continue
        points["start" if index == 0 else "trial"].append((place, row["validation"]))
        if row is best:
            ring = {
                "mfc": "none",
                "mec": VERMILLION,
                "markersize": 11,
                "clip_on": False,
            }
            axes.plot(place, row["validation"], "o", label="best", **ring)
    for name, marker, color in (
        ("trial", "o", BLUE),
        ("start", "s", ORANGE),
        ("failed", "x", INK),
    ):
        if points[name]:
            # Failed trials have no accuracy: they stand on the lower edge.
            edge = {"transform": axes.get_xaxis_transform()} if name == "failed" else {}
            style = {"color": color, "markersize": 5, "alpha": 0.8, "clip_on": False}
            place = zip(*points[name], strict=True)
            axes.plot(*place, marker, label=name, **style, **edge)


def scatter(
    panels: Mapping[str, np.ndarray],
    labels: np.ndarray,
    second: np.ndarray,
    groups: tuple[str, str],
    class_names: Sequence[str],
) -> Figure:
    """Draw points of several classes and two groups, once for each panel.

    Args:
        panels: Name of the panel -> points, float `(count, 2)`.
        labels: Class of each point, int `(count,)`; the colour.
        second: Whether each point is of the second group, bool `(count,)`; the marker.
        groups: Names of the two groups.
        class_names: Names of the classes.
    """
    errors.check_at_least("len(panels)", len(panels), 1)
    columns = min(len(panels), 4)
    rows = -(-len(panels) // columns)
    figure = _figure(2.6 * columns, 0.8 + 2.6 * rows)
    grid = list(figure.subplots(rows, columns, squeeze=False).flat)
    count = len(class_names)
    named = colormaps["tab10" if count <= 10 else "turbo"]
    colours = named(np.arange(count) / max(10, count - 1))
    of_points = colours[np.asarray(labels)]
    for axes, (title, points) in zip(grid, panels.items(), strict=False):
        axes.set_title(_short(title), fontsize=10, parse_math=False)
        for group, marker in ((~second, "o"), (second, "x")):
            style = {"c": of_points[group], "marker": marker, "linewidths": 1}
            axes.scatter(*points[group].T, s=14, alpha=0.7, **style)
    for axes in grid:
        axes.set_axis_off()
    handles = [
        Line2D([], [], color=INK, marker=marker, ls="", label=_short(name))
        for name, marker in zip(groups, "ox", strict=True)
    ] + [
        Line2D([], [], color=colour, marker="s", ls="", label=_short(name))
        for name, colour in zip(class_names[:MOST_DRAWN], colours, strict=False)
    ]
    figure.legend(
        handles=handles, loc="outside lower center", ncols=5, frameon=False, fontsize=9
    )
    return figure


def save(figure: Figure, path: Path | str) -> None:
    """Write `figure` as PNG, in one step; same figure, same bytes."""
    with files.atomic(path) as temporary:
        # Without the version of matplotlib that is there by default.
        metadata = {"Software": None}
        render(figure, temporary, format="png", dpi=150, metadata=metadata)


# Fonts of the common systems for scripts that matplotlib's own font lacks.
FONTS = (
    *("Noto Sans CJK SC", "Noto Sans CJK JP", "Noto Sans CJK KR", "Noto Sans SC"),
    *("Noto Sans JP", "Noto Sans KR", "Source Han Sans SC", "WenQuanYi Zen Hei"),
    *("WenQuanYi Micro Hei", "Droid Sans Fallback", "Arial Unicode MS"),
    *("Hiragino Sans", "Hiragino Sans GB", "PingFang SC", "Apple SD Gothic Neo"),
    *("Microsoft YaHei", "SimHei", "Yu Gothic", "Meiryo", "Malgun Gothic"),
    *("Noto Sans", "Noto Sans Devanagari", "Noto Sans Bengali", "Noto Sans Tamil"),
    *("Noto Sans Thai", "Noto Sans Ethiopic", "Nirmala UI", "Leelawadee UI", "Ebrima"),
    *("FreeSans", "Unifont"),
)
# Part of matplotlib's warning of a character, of which there is one for each.
MISSING = "missing from font"


def render(figure: Figure, file: Path | io.BytesIO, **options) -> None:
    """Write a figure, with fonts for all scripts that the machine has fonts for.

    Args:
        figure: Figure whose texts take their fonts from here.
        file: Where to write.
        **options: Arguments of `Figure.savefig`.
    """
    installed = set(font_manager.get_font_names())
    family = ["DejaVu Sans", *(name for name in FONTS if name in installed)]
    for text in figure.findobj(Text):
        text.set_fontfamily(family)
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        figure.savefig(file, **options)
    missing = [one for one in caught if MISSING in str(one.message)]
    for one in caught:
        if one not in missing:
            warnings.warn_explicit(one.message, one.category, one.filename, one.lineno)
    if missing:
        errors.warn(
            "No font of this machine has some characters of the names, which are "
            "squares in the figures. With a font such as Noto Sans CJK they are drawn."
        )


def _figure(width: float, height: float) -> Figure:
    return Figure(figsize=(width, height), layout="constrained", facecolor="white")


def _tidy(axes: Axes, xlabel: str, ylabel: str = "") -> None:
    axes.set_axisbelow(True)
    axes.spines[:].set_visible(False)
    axes.tick_params(which="both", length=0, labelsize=9, labelcolor=INK)
    axes.set_xlabel(xlabel, fontsize=9, color=INK)
    axes.set_ylabel(ylabel, fontsize=9, color=INK)


def _short(name: str, length: int = 24) -> str:
    """Shorten a long name in the middle: its end distinguishes it from others."""
    name = " ".join(files.printable(name).split())
    half = (length - 1) // 2
    return name if len(name) <= length else f"{name[:half]}…{name[-half:]}"
