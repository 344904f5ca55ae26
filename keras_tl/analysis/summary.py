"""The results of a run side by side: on the test split, as a table, as figures."""

import itertools
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Protocol, TypeVar

import keras
import numpy as np
from rich.table import Table

from keras_tl import progress
from keras_tl.analysis import evaluation, figures, gallery, multi_label, regression
from keras_tl.data.splits import NOUNS, Split, Splits
from keras_tl.training.objectives import Objective, SingleLabel

Histories = Mapping[str, Mapping[str, list[float]]]
Entry = TypeVar("Entry")


class Result(Protocol):
    """Common interface of all evaluations.

    Attributes:
        labels: Labels of the test examples.
        logits: Outputs of the model for them.
        class_names: Names of the outputs.
        metric: Name of the number that models are compared by.
        value: That number.
        interval: Its 95 % interval over test examples.
        baseline: The same number without a model, named by `baseline_name`.
        scores: One number for each example, the more the better.
        details: Further numbers for people: name -> text.
        notes: Sentences that belong to the numbers.
        mistakes_title: What `mistakes` lists.
    """

    labels: np.ndarray
    logits: np.ndarray
    class_names: tuple[str, ...]
    metric: str
    value: float
    interval: tuple[float, float]
    baseline: float | None
    baseline_name: str
    scores: np.ndarray
    details: Mapping[str, str]
    notes: Sequence[str]
    mistakes_title: str

    def as_dict(self) -> dict:
        """Return all numbers as plain values for JSON."""

    def answers(self) -> np.ndarray:
        """Return the answers of the model: probabilities, or numbers."""

    def format(self, value: float) -> str:
        """Return a value of the metric as text."""

    def difference(self, compared: evaluation.Comparison) -> str:
        """Return a difference from another model, with its interval, as text."""

    def headline(self, noun: str) -> str:
        """Return the numbers behind the metric as text."""

    def charts(self) -> list:
        """Draw figures, each with a description."""

    def mistakes(self, count: int) -> list[tuple[int, str, str]]:
        """Find the worst predictions: index, prediction and truth as texts."""


# How a model of each objective is evaluated.
EVALUATIONS = {
    "single-label": evaluation.evaluate,
    "multi-label": multi_label.evaluate,
    "regression": regression.evaluate,
}


def evaluate_models(
    models: Mapping[str, tuple[keras.Model, Split]],
    splits: Splits,
    objective: Objective | None = None,
) -> dict[str, Result]:
    """Evaluate models on the test split.

    Args:
        models: Name -> a model that gives logits, and the test split as it takes it:
            at its image size, or as the features of its frozen stem. The last is the
            run's own.
        splits: The data.
        objective: Objective of the training; a single label by default.

    Returns:
        Name -> evaluation, in the order of `models`.
    """
    objective = objective or SingleLabel()
    evaluate = EVALUATIONS[objective.name]
    results = {}
    for name, (model, split) in models.items():
        logits = evaluation.predict(model, split)
        objective.check_logits(model, logits)
        results[name] = evaluate(
            splits.test.labels,
            logits,
            splits.class_names,
            train_labels=splits.train.labels,
        )
    return results


def without_rejected(
    models: Mapping[str, Entry], histories: Histories
) -> dict[str, Entry]:
    """Leave out models of phases that were left out, or of which no epoch was kept.

    They are the models that the phase started with, and would be compared with
    themselves.

    Args:
        models: Name -> anything.
        histories: Names among those of `models` -> history of the phase.

    >>> without_rejected({"frozen": 1, "tuned": 2}, {"tuned": {"kept": [0.0, 0.0]}})
    {'frozen': 1}
    """
    rejected = {
        name for name, history in histories.items() if not any(history.get("kept", []))
    }
    return {name: entry for name, entry in models.items() if name not in rejected}


def metrics(results: Mapping[str, Result]) -> dict:
    """Collect what `metrics.json` holds about the test split.

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
        "majority_baseline": next(iter(results.values())).baseline,
        "models": {name: result.as_dict() for name, result in results.items()},
        "comparisons": comparisons,
    }


def show(results: Mapping[str, Result], kind: str = "image") -> None:
    """Print the results with their intervals, and which differ significantly.

    Args:
        results: Name -> evaluation.
        kind: Kind of the examples.
    """
    first = next(iter(results.values()))
    title = f"Test split, {len(first.labels):,} {NOUNS.get(kind, 'examples')}"
    table = Table(title=title, title_style="bold")
    table.add_column("model")
    detail = next(iter(first.details))
    for name in (first.metric.replace("_", " "), "95 % interval", detail):
        table.add_column(name, justify="right")
    table.add_column("compared with the one above")
    baseline = "" if first.baseline is None else f"{first.baseline:.3f}"
    table.add_row(first.baseline_name, baseline, "", "", "")
    before = None
    for name, result in results.items():
        low, high = result.interval
        verdict = "" if before is None else evaluation.compare(before, result).verdict
        table.add_row(
            name,
            f"{result.value:.3f}",
            f"{low:.3f} to {high:.3f}",
            result.details[detail],
            verdict,
        )
        before = result
    progress.console().print(table)
    for note in first.notes:
        print(note)


def show_beside(
    results: Mapping[str, Result], few: Mapping[str, Result]
) -> dict[str, dict]:
    """Print what few test examples say of each model, beside what many say.

    Args:
        results: Name -> evaluation on many examples.
        few: The same of few, of which even the interval is exact.

    Returns:
        Name -> `right`, `count` and `interval` of the few, ready for JSON.
    """
    about = {}
    for name, result in results.items():
        right, count = int(few[name].scores.sum()), len(few[name].scores)
        low, high = evaluation.exact_interval(right, count)
        print(
            f"{name:>14}: {right} of {count} right, so between {low:.1%} and {high:.1%}"
            f"; of {len(result.labels):,} others {result.value:.1%} "
            f"({result.interval[0]:.1%} to {result.interval[1]:.1%})"
        )
        about[name] = {"right": right, "count": count, "interval": [low, high]}
    return about


def prediction_rows(own: Result, test_split: Split) -> list[dict[str, str | float]]:
    """Return one row for each test example, for `predictions.csv`.

    Args:
        own: Evaluation on the test split.
        test_split: The test examples.

    Returns:
        The file of an example, or its number in the split, or its text; then `label`,
        `prediction` and `probability`; or, of several outputs, the label and the
        answer of each.
    """
    indices = range(len(test_split))
    source = test_split.inputs
    if source.kind == "text":
        key, names = "text", source.preview(indices)
    else:
        key, names = "file", source.names(indices)
    if names is None:
        key, names = "index", indices
    rows = []
    for name, label, answer in zip(names, own.labels, own.answers(), strict=True):
        if own.labels.ndim == 1:
            best = answer.argmax()
            values = {
                "label": own.class_names[label],
                "prediction": own.class_names[best],
                "probability": f"{answer[best]:.6f}",
            }
        else:
            values = {}
            for index, output in enumerate(own.class_names):
                values[output] = f"{label[index]:g}"
                values[f"{output}, predicted"] = f"{answer[index]:.6g}"
        rows.append({key: name, **values})
    return rows


def show_predictions(probabilities: np.ndarray, splits: Splits) -> None:
    """Print the predictions of a model for the first test examples, and the labels."""
    print("The saved model, loaded again, on the first test examples:")
    for row, label in zip(probabilities, splits.test.labels, strict=False):
        predicted, true = splits.class_names[row.argmax()], splits.class_names[label]
        mark = "right" if predicted == true else f"wrong, it is {true}"
        print(f"  {predicted} {row.max():.2f} ({mark})")


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
    results: Mapping[str, Result],
    histories: Histories,
    test_split: Split,
    metric: str = "accuracy",
) -> None:
    """Draw a run as PNG files: curves, comparison, confusion, predictions.

    Args:
        folder: Where to write.
        results: Name -> evaluation on the test split; the last is the run's own.
        histories: Phase -> history, of the phases of the run's own model.
        test_split: The test examples.
        metric: Metric of the curves, beside the loss.
    """
    first, *_ = results.values()
    *_, own = results.values()
    rows = [(name, result.value, result.interval) for name, result in results.items()]
    if first.baseline is not None:
        rows.insert(0, (first.baseline_name, first.baseline, None))
    drawn = {"comparison": figures.comparison(rows, first.metric)}
    if histories:
        phases = [(name, len(history["loss"])) for name, history in histories.items()]
        drawn["curves"] = figures.curves(merge(histories), phases, metric)
    if own.labels.ndim == 1:
        drawn["confusion"] = figures.confusion(own.confusion, own.class_names)
        drawn["predictions"] = gallery.predictions(own, test_split)
    elif own.charts():
        drawn["predictions"] = own.charts()[0][0]
    for name, figure in drawn.items():
        if figure is not None:
            figures.save(figure, folder / f"{name}.png")


def merge(histories: Histories) -> dict[str, list[float]]:
    """Join the histories of phases, in order; NaN where a phase lacks a metric."""
    names = sorted({name for history in histories.values() for name in history})
    return {
        name: [
            value
            for history in histories.values()
            for value in history.get(name, [np.nan] * len(history["loss"]))
        ]
        for name in names
    }
