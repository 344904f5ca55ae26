"""Update a finished run with more examples, or with new classes."""

import os
import time
from collections.abc import Sequence
from pathlib import Path

import keras_tl.quiet as quiet  # Before Keras.

import keras
from rich.table import Table

from keras_tl import config, errors, files, progress
from keras_tl.analysis.planner import Decision
from keras_tl.commands.settings import Update
from keras_tl.data import splits
from keras_tl.data.sources import NOUNS
from keras_tl.deploy import artifact, run_folder, update, update_data, versions
from keras_tl.deploy.artifact import Artifact
from keras_tl.deploy.update import Updated, Verdict
from keras_tl.deploy.update_data import Material
from keras_tl.models import backbones, freezing, heads
from keras_tl.training import phases, placement, store

# Seconds for measuring, the figures, the report and the saved model.
RESERVE = 20.0


def main(settings: Update) -> bool:
    """Update a run, or go back to the version before; time counts from the start.

    Returns:
        Whether the update is accepted.

    Raises:
        InputError: A run or data that cannot be used.
    """
    if settings.rollback:
        before, now = versions.roll_back(settings.run)
        print(
            f"Version {now.number} is in use again, {now.folder}; version "
            f"{before.number}, {before.folder}, is kept."
        )
        return True
    return run(settings, started=quiet.STARTED)


def run(settings: Update, started: float | None = None) -> bool:
    """Update a run. See `main`."""
    started = time.perf_counter() if started is None else started
    keras.utils.set_random_seed(settings.seed)
    place = placement.choose()
    old_run = artifact.load(settings.run)
    update_data.check_updatable(old_run)
    check_backbone(settings, old_run)
    number = versions.next_number(settings.run)
    check_in_use(settings.run)
    material, source = update_data.load(old_run, settings)
    decisions = [
        Decision(f"old {material.nouns}", splits.counts(material.old), source),
        *map(left_out, material.notes),
    ]
    data = material.joined()
    with place.scope():
        model = old_run.model
        backbone = build(settings, old_run, len(data.class_names))
    print(data)
    for note in material.notes:
        errors.warn(note)
    new_run = config.start_run("update", settings, started, splits.describe(data))
    setup = phases.Setup(
        place,
        settings.batch_size,
        settings.seed,
        choose_by="accuracy",
        cache=store.Cache() if settings.cache else None,
        state=new_run.state,
    )
    if backbone is not None:
        updated = update.refit(model, backbone, material, setup)
    else:
        updated = update.grow(
            model,
            material,
            setup,
            settings.method,
            blocks=settings.blocks,
            epochs=settings.epochs,
            learning_rate=settings.learning_rate,
            until=started + 60 * settings.minutes - RESERVE,
        )
    verdict, report = measure(updated, material, settings.margin)
    kept = updated.histories.get("update", {}).get("kept", [True])
    gained = bool(material.new_classes) or any(kept)
    if not gained:
        verdict = Verdict(
            False, "no epoch was better on validation: the model is what it was"
        )
    decisions.append(
        Decision("update", ("rejected", "accepted")[verdict.accepted], verdict.reason)
    )
    for decision in decisions:
        print(decision)
    files.write_csv(new_run.folder / "update.csv", report)
    run_folder.save(
        new_run,
        updated.model,
        data=data,
        results=update.evaluations(updated, data.test.labels, data),
        histories=updated.histories,
        cache=setup.cache,
        decisions=[decision.as_dict() for decision in decisions],
        further={
            "version": number,
            "updated_from": versions.origin(settings.run, new_run.folder),
            "update": {
                "accepted": verdict.accepted,
                "reason": verdict.reason,
                "method": settings.method if backbone is None else "backbone",
                "new_classes": list(material.new_classes),
                "classes": report,
            },
        },
    )
    versions.add(new_run.folder, use=verdict.accepted)
    show_outcome(settings.run, new_run.folder, number, verdict, gained)
    return verdict.accepted


def left_out(note: str) -> Decision:
    """Return a note of what was left out as a decision."""
    count, _, rest = note.removeprefix("Left out: ").partition(" ")
    return Decision("left out", count, rest)


def check_in_use(run: Path) -> None:
    """Raise `InputError` where another version than the one to be updated is in use."""
    used = versions.other_in_use(run)
    if used is not None:
        raise errors.expected(
            "run",
            "be the version in use, so that nothing that it has learned is lost",
            str(run),
            f"In use is version {used.number}: keras-tl update "
            f"{files.quoted(os.path.relpath(used.folder))} ..., or go back first: "
            f"keras-tl update {files.quoted(run)} --rollback",
        )


def check_backbone(settings: Update, old_run: Artifact) -> None:
    """Raise `InputError` where a backbone is named for a run of other kinds."""
    if settings.backbone is not None and old_run.kind != "image":
        hint = f"The run takes {NOUNS[old_run.kind]}."
        raise errors.expected(
            "backbone", "be left out but for images", settings.backbone, hint
        )


def build(settings: Update, old_run: Artifact, classes: int):
    """Build the backbone that is asked for; raise now for what cannot be done."""
    if settings.backbone is None:
        # The model stays as it is: both are done again where it is trained.
        freezing.unfreeze_blocks(heads.widen(old_run.model, classes), settings.blocks)
        return None
    return backbones.named(settings, old_run.image_size)


def measure(
    updated: Updated, material: Material, margin: float
) -> tuple[Verdict, list[dict]]:
    """Compare the update with the old run, print it class by class, and decide."""
    names, count = material.class_names, len(material.old.test)
    old = material.old.test.labels, updated.before[:count], updated.after[:count]
    new = (
        material.new["test"].labels,
        updated.before[count:],
        updated.after[count:],
    )
    report = []
    for part, values in (("old", old), ("new", new)):
        if len(values[0]):
            rows = update.by_class(*values, names)
            report += [{"test": part, **row} for row in rows]
    show(report, material.nouns)
    compared = update.compare(*old, names)
    return update.decide(compared, margin, material.nouns), report


def show(rows: Sequence[dict], nouns: str) -> None:
    """Print what got worse and what got better, class by class."""
    table = Table(title=f"Test {nouns} of the run, and new ones", title_style="bold")
    table.caption = "In brackets: 95 % interval, of each class by itself."
    for name in ("test", "class", nouns, "before", "after", "difference"):
        table.add_column(name)
    for row in rows:
        interval = f"({row['low']:+.3f} to {row['high']:+.3f})"
        after, difference = f"{row['after']:.3f}", ""
        if row["before"] is None:
            after += f" ({row['low']:.3f} to {row['high']:.3f})"
        else:
            difference = f"{row['difference']:+.3f} {interval}"
        before = "" if row["before"] is None else f"{row['before']:.3f}"
        name = files.printable(row["class"])
        table.add_row(
            row["test"], name, f"{row['examples']:,}", before, after, difference
        )
    progress.console().print(table)


def show_outcome(
    old: Path, new: Path, number: int, verdict: Verdict, gained: bool
) -> None:
    """Print which version is in use, and how to change that."""
    if verdict.accepted:
        print(
            f"Version {number} is in use, {new}. To go back: keras-tl update "
            f"{files.quoted(new)} --rollback"
        )
    else:
        used = versions.current(old)
        advice = "More --exemplars, another --method or a larger --margin may do."
        if not gained:
            advice = (
                "Few examples seldom change a model: collect more of them, or train "
                "more of it with --blocks 2."
            )
        print(
            f"The update is rejected, {verdict.reason.partition(';')[0]}. Version "
            f"{used.number}, {used.folder}, stays in use; {new} is kept. {advice}"
        )
