"""Finished runs side by side: paired tests, settings that differ, classes."""

import csv
import itertools
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from keras_tl import config, errors, files
from keras_tl.analysis import evaluation, multi_label
from keras_tl.analysis.evaluation import Comparison
from keras_tl.analysis.summary import EVALUATIONS, Result
from keras_tl.data.splits import NOUNS
from keras_tl.models import saving

# Files that are read of a run, besides the model and its manifest.
NEEDED = ("config.json", "metrics.json", "predictions.csv")
# Settings that say where a run is, not what it does.
PLACES = ("out", "resume")
# Columns that name an example by what it is, and not by its place alone.
_NAMES = ("file", "text")


@dataclass(frozen=True, eq=False)
class Finished:
    """What a finished run has saved about itself, to be compared with others.

    Attributes:
        name: What it is called here.
        recipe: Recipe or command that made it.
        model: Which of the models that it trained it has kept.
        task: Objective of the training, such as "single-label".
        settings: Its `config.json`.
        result: Its answers for its test examples. They come from `predictions.csv`,
            which has no logits: those of `result` give the same answers, not the same
            probabilities.
        examples: Files or texts of the test examples; `None` where they have no names.
        data: Hash of the data with their splits, if it is known.
        nouns: What the examples are called.
        history: Metric -> a number for each epoch, of all phases.
        seconds: Time for the features and the epochs of its model, if it is known.
        parameters: Number of parameters of its model.
    """

    name: str
    recipe: str
    model: str
    task: str
    settings: Mapping[str, object]
    result: Result
    examples: Sequence[str] | None
    data: str | None
    nouns: str
    history: Mapping[str, Sequence[float]]
    seconds: float | None
    parameters: int


def read(
    folder: Path | str, name: str, manifest: Mapping, class_names: Sequence[str]
) -> Finished:
    """Read what a finished run has saved about itself.

    Args:
        folder: Folder of the run, with its model.
        name: What to call it.
        manifest: Its `manifest.json`.
        class_names: Names of the outputs of its model.

    Raises:
        InputError: A file is missing, as of an earlier version, or is damaged.
    """
    folder = Path(folder)
    for file in NEEDED:
        if not (folder / file).is_file():
            raise errors.expected(
                "run",
                f"hold {file}",
                str(folder),
                "It was removed, or the run is of an earlier version: run it anew.",
            )
    task = manifest.get("objective", "single-label")
    result, examples = _answers(folder / "predictions.csv", task, class_names)
    metrics, settings = (files.read_json(folder / file) for file in NEEDED[1::-1])
    models = metrics.get("models") if isinstance(metrics, dict) else None
    if not models or not isinstance(models, dict) or not isinstance(settings, dict):
        raise errors.InputError(
            f"{folder} is not what a run saves: config.json must hold the settings, "
            "metrics.json the models."
        )
    data, parts = manifest.get("data"), manifest.get("seconds_of_parts")
    return Finished(
        name=name,
        recipe=str(manifest.get("recipe")),
        model=list(models)[-1],
        task=task,
        settings=config.current(settings),
        result=result,
        examples=examples,
        data=data["sha256"] if isinstance(data, dict) and "sha256" in data else None,
        nouns=NOUNS.get(manifest["input"].get("kind", "image"), "examples"),
        history=_history(folder / "history.csv"),
        seconds=sum(parts.values()) if parts else None,
        parameters=saving.count_parameters(folder / "model.keras"),
    )


def _answers(path, task, class_names) -> tuple[Result, list[str] | None]:
    """Read `predictions.csv`: the answers, and the names of the examples."""
    columns = _columns(path)
    key = next(iter(columns), "")
    # As they were written.
    names = [files.printable(name) for name in class_names]
    try:
        if task == "single-label":
            number = {name: index for index, name in enumerate(names)}
            labels = np.array([number[label] for label in columns["label"]])
            given = [number[answer] for answer in columns["prediction"]]
            logits = np.eye(len(names), dtype="float32")[given]
        else:
            labels = np.array([columns[name] for name in names], "float32").T
            answers = [columns[f"{name}, predicted"] for name in names]
            logits = np.array(answers, "float32").T
        if task == "multi-label":
            logits = logits - 0.5  # Above 0 where the label is predicted.
        result = EVALUATIONS[task](labels, logits, class_names)
    except (KeyError, ValueError) as error:
        raise errors.InputError(
            f"{path} is not what a run saves: it must have a label and an answer for "
            "each test example, of the classes that the run knows."
        ) from error
    return result, columns[key] if key in _NAMES else None


def _columns(path) -> dict[str, list[str]]:
    """Read a CSV file: name of a column -> its cells."""
    try:
        with open(path, newline="", encoding="utf-8") as file:
            head, *rows = csv.reader(file)
        return dict(zip(head, map(list, zip(*rows, strict=True)), strict=True))
    except (OSError, ValueError, csv.Error) as error:
        raise errors.InputError(
            f"{path} is not what a run saves: it must be a table with rows."
        ) from error


def _history(path) -> dict[str, list[float]]:
    """Read `history.csv`; a run that trained nothing by epochs has none."""
    if not path.exists():
        return {}
    try:
        return {
            name: [float(cell or "nan") for cell in cells]
            for name, cells in _columns(path).items()
            if name != "phase"
        }
    except ValueError as error:
        raise errors.InputError(
            f"{path} is not what a run saves: it must hold numbers for each epoch."
        ) from error


def check_task(runs: Sequence[Finished]) -> None:
    """Raise `InputError` unless all runs learned the same kind of label."""
    first = runs[0]
    for run in runs[1:]:
        if run.task != first.task:
            raise errors.InputError(
                "Runs of different tasks cannot be compared. Received: "
                f"{first.name}, which is {first.task}, and {run.name}, which is "
                f"{run.task}."
            )


@dataclass(frozen=True)
class Pair:
    """A run compared with the first one.

    Attributes:
        name: The run.
        compared: The test; `None` where the two have other test examples.
        difference: Its difference with its interval, as text.
        reason: Why there is no test, as a sentence.
    """

    name: str
    compared: Comparison | None
    difference: str = ""
    reason: str = ""


def against_first(runs: Sequence[Finished]) -> list[Pair]:
    """Compare each run with the first one, on the same test examples.

    The p-values are corrected for their number, see `evaluation.holm`.

    Args:
        runs: At least two, of one task.
    """
    first, *others = runs
    pairs = [_pair(first, run) for run in others]
    tested = [pair for pair in pairs if pair.compared]
    if len(tested) < 2:
        return pairs
    corrected = iter(evaluation.holm([pair.compared.p_value for pair in tested]))
    return [
        replace(pair, compared=replace(pair.compared, p_value=next(corrected)))
        if pair.compared
        else pair
        for pair in pairs
    ]


def _pair(first, run) -> Pair:
    both = same_examples(first, run)
    if both is None:
        return Pair(run.name, None, reason=_why_not(first, run))
    compared = evaluation.compare(*both)
    return Pair(run.name, compared, run.result.difference(compared))


def same_examples(a: Finished, b: Finished) -> tuple[Result, Result] | None:
    """Return the results of two runs on the same test examples in the same order.

    They are the same where the data with their splits have the same hash, or where
    their files or texts have the same names and the same labels.

    Returns:
        `None` where they are not.
    """
    if a.result.class_names != b.result.class_names:
        return None
    labels = a.result.labels, b.result.labels
    if a.data is not None and a.data == b.data and np.array_equal(*labels):
        return a.result, b.result
    if a.examples is None or b.examples is None:
        return None
    if Counter(_labelled(a)) != Counter(_labelled(b)):
        return None
    return _ordered(a), _ordered(b)


def _labelled(run) -> list[tuple]:
    rows = run.result.labels.reshape(len(run.examples), -1).tolist()
    return [(name, *row) for name, row in zip(run.examples, rows, strict=True)]


def _ordered(run) -> Result:
    """Return the result with the examples in the order of their names and labels."""
    keys = _labelled(run)
    order = sorted(range(len(keys)), key=keys.__getitem__)
    own = run.result
    return replace(own, labels=own.labels[order], logits=own.logits[order])


def _why_not(first, run) -> str:
    known = {*first.result.class_names} == {*run.result.class_names}
    what = "on other examples" if known else "on other classes"
    common = ""
    if None not in (first.examples, run.examples):
        number = len({*first.examples} & {*run.examples})
        common = f" ({number:,} of its {len(run.examples):,} are among those)"
    return (
        f"{run.name} was tested {what} than {first.name}{common}: there is no paired "
        "test, and part of the difference comes from the examples."
    )


def differences(runs: Sequence[Finished]) -> list[tuple[str, list[str]]]:
    """Return the settings in which runs differ, with the value of each run.

    Returns:
        Name of the setting and one text for each run, empty where it has no such
        setting; not those that say where the run is.
    """
    names = dict.fromkeys(itertools.chain.from_iterable(run.settings for run in runs))
    rows = []
    for name in names:
        values = [run.settings.get(name) for run in runs]
        if name not in PLACES and any(value != values[0] for value in values):
            texts = [
                _text(value) if name in run.settings else ""
                for run, value in zip(runs, values, strict=True)
            ]
            rows.append((name, texts))
    return rows


def _text(value) -> str:
    if value is None:
        return "none"
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, list):
        return ", ".join(map(_text, value)) or "none"
    return str(value)


@dataclass(frozen=True)
class ClassRow:
    """A class in several runs.

    Attributes:
        name: The class.
        counts: Number of its test examples in each run.
        accuracies: Share of them that are right in each run; NaN of none.
    """

    name: str
    counts: Sequence[int]
    accuracies: Sequence[float]

    @property
    def gap(self) -> float:
        """Largest difference from the first run, with its sign; 0 without examples."""
        gaps = np.nan_to_num(np.subtract(self.accuracies[1:], self.accuracies[0]))
        return float(gaps[np.abs(gaps).argmax()])


def classes(runs: Sequence[Finished]) -> list[ClassRow]:
    """Return the accuracy of each class in each run, largest differences first.

    Of several labels for each example, each label is right or wrong in all examples.

    Returns:
        Nothing where the classes differ, or the task has none.
    """
    first = runs[0].result
    if runs[0].task not in ("single-label", "multi-label"):
        return []
    if any(run.result.class_names != first.class_names for run in runs):
        return []
    columns = [_of_classes(run.result) for run in runs]
    rows = [
        ClassRow(name, *zip(*(column[place] for column in columns), strict=True))
        for place, name in enumerate(first.class_names)
    ]
    return sorted(rows, key=lambda row: -abs(row.gap))


def _of_classes(result) -> list[tuple[int, float]]:
    """Return the number of test examples, and the accuracy, of each class."""
    if isinstance(result, multi_label.Evaluation):
        right = (result.logits > 0) == (result.labels > 0.5)
        return [(len(right), float(share)) for share in right.mean(axis=0)]
    return [
        (row["support"], row["recall"] if row["support"] else np.nan)
        for row in result.per_class
    ]
