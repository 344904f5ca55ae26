"""Finished runs side by side on one page."""

import math
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from keras_tl import files
from keras_tl.analysis import comparison, figures, report
from keras_tl.analysis.comparison import Finished, Pair


def write(path: Path | str, runs: Sequence[Finished], pairs: Sequence[Pair]) -> None:
    """Write a comparison of runs as a page, in one step.

    The file holds its pictures and its style, runs no scripts and loads nothing.

    Args:
        path: The file.
        runs: At least two, of one task.
        pairs: Each but the first compared with it, see `comparison.against_first`.

    Raises:
        InputError: The disk is full, or the folder cannot be written to.
    """
    rows = comparison.classes(runs)
    text = report.render(
        "compare.html",
        runs=runs,
        first=runs[0],
        pairs=pairs,
        sentences=sentences(pairs),
        differences=comparison.differences(runs),
        curves=_curves(runs),
        class_rows=[_class_row(row) for row in rows],
        most_open=report.MOST_OPEN,
    )
    files.write_text(path, text)


def sentences(pairs: Sequence[Pair]) -> list[str]:
    """Return what is to be known of the tests, as sentences.

    Args:
        pairs: Each run but the first compared with it.
    """
    reasons = [pair.reason for pair in pairs if not pair.compared]
    tests = sum(pair.compared is not None for pair in pairs)
    if tests > 1:
        reasons.append(
            f"{tests} tests were made: their p-values are corrected for it (Holm), "
            "the intervals are not: each holds by itself."
        )
    if tests:
        reasons.append(
            "Intervals and tests describe the variation over test examples, not over "
            "training runs: another seed gives another difference."
        )
    return reasons


def _curves(runs) -> tuple[str, str, list[str]] | None:
    """Draw the curves; return the picture, a description, and the runs without any."""
    metric = runs[0].result.metric
    drawn = {run.name: run.history for run in runs if "val_loss" in run.history}
    if not drawn:
        return None
    texts = []
    for name, history in drawn.items():
        values = np.asarray(history.get(f"val_{metric}", history["val_loss"]))
        texts.append(f"of {name} goes from {values[0]:.3f} to {values[-1]:.3f}")
    shown = metric.replace("_", " ")
    about = (
        f"{shown.capitalize()} and loss on validation, epoch by epoch. "
        f"The {shown} {'; that '.join(texts)}."
    )
    without = [run.name for run in runs if run.name not in drawn]
    return report.svg(figures.curves_of_runs(drawn, metric)), about, without


def _class_row(row) -> tuple[str, ...]:
    """Return a class as texts: its name, number of examples, accuracies, difference."""
    counts = dict.fromkeys(f"{count:,}" for count in row.counts)
    return (
        row.name,
        " / ".join(counts if len(counts) == 1 else map("{:,}".format, row.counts)),
        *("" if math.isnan(a) else f"{100 * a:.1f} %" for a in row.accuracies),
        f"{100 * row.gap:+.1f}",
    )
