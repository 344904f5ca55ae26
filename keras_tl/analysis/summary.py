"""The results of a run side by side: on the test split, as a table, as figures."""

import itertools
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

import keras
import numpy as np
from rich.console import Console
from rich.table import Table

from keras_tl.analysis import evaluation, figures
from keras_tl.data.splits import Split, Splits

Histories = Mapping[str, Mapping[str, list[float]]]


def test(
    models: Mapping[str, tuple[keras.Model, Split]], splits: Splits
) -> dict[str, evaluation.Evaluation]:
    """Evaluate models on the test split.

    Args:
        models: Name -> a classifier that gives logits, and the test split as it takes
            it: its image size, or the features its frozen stem gave. The last is the
            run's own.
        splits: The data.

    Returns:
        Name -> evaluation, in the order of `models`.
    """
    return {
        name: evaluation.evaluate(
            splits.test.labels,
            evaluation.predict(model, split),
            splits.class_names,
            train_labels=splits.train.labels,
        )
        for name, (model, split) in models.items()
    }


def metrics(results: Mapping[str, evaluation.Evaluation]) -> dict:
    """Collect what `metrics.json` says of the test split.

    Returns:
        `majority_baseline`, one entry per model under `models`, and each model
        compared with the one before it under `comparisons`.
    """
    comparisons = {
        f"{name} against {before}": evaluation.compare(
            results[before], results[name]
        ).as_dict()
        for before, name in itertools.pairwise(results)
    }
    return {
        "majority_baseline": next(iter(results.values())).majority_baseline,
        "models": {name: result.as_dict() for name, result in results.items()},
        "comparisons": comparisons,
    }


def show(results: Mapping[str, evaluation.Evaluation]) -> None:
    """Print the accuracies with their intervals, and what differs significantly."""
    first = next(iter(results.values()))
    table = Table(title=f"Test split, {len(first.labels):,} images", title_style="bold")
    table.add_column("model")
    table.add_column("accuracy", justify="right")
    table.add_column("95 % interval", justify="right")
    table.add_column("macro F1", justify="right")
    table.add_column("against the one above")
    table.add_row("majority class", f"{first.majority_baseline:.3f}", "", "", "")
    before = None
    for name, result in results.items():
        low, high = result.accuracy_interval
        verdict = "" if before is None else evaluation.compare(before, result).verdict
        table.add_row(
            name,
            f"{result.accuracy:.3f}",
            f"{low:.3f} to {high:.3f}",
            f"{result.macro['f1']:.3f}",
            verdict,
        )
        before = result
    Console().print(table)


def show_predictions(probabilities: np.ndarray, splits: Splits) -> None:
    """Print what a model says of the first test images, and what they are."""
    print("The saved model, loaded again, on the first test images:")
    for row, label in zip(probabilities, splits.test.labels, strict=False):
        said, truth = splits.class_names[row.argmax()], splits.class_names[label]
        mark = "right" if said == truth else f"wrong, it is {truth}"
        print(f"  {said} {row.max():.2f} ({mark})")


def history_rows(histories: Histories) -> list[dict[str, str | int | float]]:
    """Merge the histories of several phases into one row for each epoch.

    Without its seconds: a run that is done again has the same rows.
    """
    return [
        {"phase": phase, "epoch": epoch + 1}
        | {name: values[epoch] for name, values in history.items() if name != "seconds"}
        for phase, history in histories.items()
        for epoch in range(len(next(iter(history.values()), [])))
    ]


def save_figures(
    folder: Path,
    results: Mapping[str, evaluation.Evaluation],
    histories: Histories,
    test_split: Split,
) -> None:
    """Draw a run as PNG files: curves, comparison, confusion, predictions.

    Args:
        folder: Where to write.
        results: Name -> evaluation on the test split; the last is the run's own.
        histories: Phase -> history, of the phases of the run's own model.
        test_split: The test images.
    """
    names = {name for history in histories.values() for name in history}
    merged = {
        name: [value for history in histories.values() for value in history[name]]
        for name in sorted(names)
    }
    phases = [(name, len(history["loss"])) for name, history in histories.items()]
    own = list(results.values())[-1]
    rows = [("majority class", own.majority_baseline, None)] + [
        (name, result.accuracy, result.accuracy_interval)
        for name, result in results.items()
    ]
    # From all over it: folders come sorted by class.
    count = len(test_split)
    shown = np.unique(np.linspace(0, count - 1, min(12, count)).astype(int))
    images = replace(test_split, image_size=test_split.image_size or 128).read(shown)
    curves = {"curves": figures.curves(merged, phases)} if phases else {}
    for name, figure in {
        **curves,
        "comparison": figures.comparison(rows),
        "confusion": figures.confusion(own),
        "predictions": figures.predictions(
            images,
            evaluation.softmax(own.logits[shown]),
            own.class_names,
            own.labels[shown],
        ),
    }.items():
        figures.save(figure, folder / f"{name}.png")
