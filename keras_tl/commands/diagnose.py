"""`keras-tl diagnose RUN`: which part of a run costs the accuracy."""

import time
from pathlib import Path

import keras_tl.quiet as quiet  # Before Keras.

import numpy as np
from rich.table import Table

from keras_tl import config, environment, errors, files, progress
from keras_tl.analysis import diagnosis, figures, planner, report
from keras_tl.analysis.diagnosis import Diagnosis
from keras_tl.commands import runs
from keras_tl.commands.settings import Diagnose
from keras_tl.data import splits
from keras_tl.data.splits import Splits
from keras_tl.training import store


def main(settings: Diagnose) -> Diagnosis:
    """Diagnose a run, print tables and verdict, and add them to the run."""
    made, data = runs.load(settings.run)
    diagnosis.check(data)
    data = planner.limited(data, settings.limit, seed=settings.seed)
    if np.bincount(data.train.labels).min() < 2:
        wanted = "leave at least 2 training examples of each class"
        raise errors.expected("limit", wanted, settings.limit)
    print(data)
    result = diagnosis.diagnose(
        made.model,
        data,
        before=runs.backbone(made),
        cache=store.Cache() if settings.cache else None,
        seed=settings.seed,
    )
    progress.console().print(table_of_rungs(result))
    progress.console().print(table_of_parts(result))
    print(result.sentence())
    print(f"To try next: {result.advice}")
    save(made.folder, result, settings, data)
    print(
        f"Written to {files.quoted(made.folder / 'diagnosis.json')}, and added to "
        f"{files.quoted(made.folder / 'report.html')}."
    )
    return result


def table_of_rungs(result: Diagnosis) -> Table:
    """Make the table of the runs that were made."""
    made = Table(title="Accuracy on validation", title_style="bold")
    for name in ("run", "what it is"):
        made.add_column(name, overflow="fold")
    made.add_column("accuracy", justify="right")
    for rung in result.ladder.rungs.values():
        made.add_row(rung.name, rung.about, f"{100 * rung.accuracy:.1f}")
    trained = 100 * result.ladder.train_accuracy
    made.caption = (
        f"In percent. The run as it is answers {trained:.1f} of the training examples "
        "correctly."
    )
    return made


def table_of_parts(result: Diagnosis) -> Table:
    """Make the table of what each part costs."""
    made = Table(title="What each part costs", title_style="bold")
    made.add_column("part")
    for name in ("points", "90 % interval"):
        made.add_column(name, justify="right")
    for part in result.parts:
        low, high = part.interval
        made.add_row(
            part.name, f"{100 * part.cost:.1f}", f"{100 * low:.1f} to {100 * high:.1f}"
        )
    return made


def save(folder: Path, result: Diagnosis, settings: Diagnose, data: Splits) -> None:
    """Write `diagnosis.png`, the section of the report and, last, `diagnosis.json`."""
    figure = figures.comparison(
        [
            (
                part.name,
                round(100 * part.cost, 1),
                tuple(round(100 * end, 1) for end in part.interval),
            )
            for part in result.parts
        ],
        "points_of_accuracy",
    )
    figures.save(figure, folder / "diagnosis.png")
    report.add(
        folder / "report.html",
        "diagnosis",
        result=result,
        rung_rows=[
            (rung.name, rung.about, f"{100 * rung.accuracy:.1f} %")
            for rung in result.ladder.rungs.values()
        ],
        figure=report.embedded("image/png", (folder / "diagnosis.png").read_bytes()),
    )
    seconds = time.perf_counter() - quiet.STARTED
    about = {
        **environment.provenance("diagnose", settings, seconds),
        "settings": config.to_json(settings),
        "data": splits.describe(data),
        "verdict": result.verdict,
        "confidence": result.confidence,
        "sentence": result.sentence(),
        "advice": result.advice,
        "parts": diagnosis.rows(result),
        "runs": [
            {"name": rung.name, "about": rung.about, "accuracy": rung.accuracy}
            for rung in result.ladder.rungs.values()
        ],
        "train_accuracy": result.ladder.train_accuracy,
    }
    files.write_json(folder / "diagnosis.json", about)
