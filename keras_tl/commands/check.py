"""Check data, and a model for them, before training."""

import contextlib
import json
import sys
import warnings
from pathlib import Path

import numpy as np

from keras_tl import errors, progress
from keras_tl.analysis import doctor, doctor_page, findings, script_checks
from keras_tl.analysis.findings import Finding
from keras_tl.commands.settings import Check
from keras_tl.data import datasets
from keras_tl.models import untrusted
from keras_tl.training import store

# Examples on which a model is checked, and names that are listed for each finding.
_BATCH, _NAMED = 32, 5


def main(settings: Check) -> bool:
    """Check data, print the findings, and write the files that were asked for.

    Returns:
        Whether nothing is wrong.

    Raises:
        InputError: Data that cannot be read at all, or a file that exists already.
    """
    # Standard output is for the JSON alone.
    with contextlib.redirect_stdout(sys.stderr if settings.json else sys.stdout):
        diagnosis = doctor.check(
            settings.data,
            count=settings.limit,
            features=settings.features,
            cache=store.Cache() if settings.cache else None,
            **datasets.options_of(settings, bad_files="skip"),
        )
        noticed = list(diagnosis.findings)
        if settings.script is not None:
            noticed += script_checks.check(Path(settings.script))
        if settings.model is not None:
            noticed += check_model(settings.model, diagnosis.splits)
        noticed = findings.ordered(noticed)
    if settings.page is not None:
        doctor_page.write(settings.page, noticed, diagnosis.records, settings.data)
    listed = 0
    if settings.fix_list is not None:
        listed = findings.write_fix_list(settings.fix_list, noticed)
    if settings.json:
        print(json.dumps([finding.to_json() for finding in noticed], indent=2))
    else:
        _print(settings, noticed, diagnosis.records, listed)
    return not findings.are_wrong(noticed)


def check_model(path: Path, splits) -> list[Finding]:
    """Check a saved model with a batch of training examples, as they are in files.

    Raises:
        InputError: The file holds no model.
    """
    import keras

    try:
        with warnings.catch_warnings():
            # Of an optimizer that has not trained, which matters to no check.
            warnings.simplefilter("ignore")
            untrusted.check(path)
            model = keras.saving.load_model(path)
    except Exception as error:  # Keras raises nearly any type.
        raise errors.expected(
            "model", "be a file that Keras can load", str(path), errors.reason(error)
        ) from error
    if splits is None:
        return doctor.check_model(model)
    train = splits.train
    side = (model.inputs[0].shape[1:3] or (None,))[0]
    if train.inputs.kind == "image":
        train = train.at_size(side or doctor.IMAGE_SIZE)
    chosen = np.unique(np.linspace(0, len(train) - 1, _BATCH).astype(int))
    labels = train.labels[chosen]
    loss = str(getattr(model, "loss", "")).lower().replace("_", "")
    if labels.ndim == 1 and "categorical" in loss and "sparse" not in loss:
        labels = np.eye(len(splits.class_names), dtype="float32")[labels]
    return doctor.check_model(
        model,
        train.read(chosen).astype("float32"),
        labels,
        num_classes=len(splits.class_names) if splits.task != "regression" else None,
    )


def _print(settings, noticed, records, listed) -> None:
    """Print the findings as a table, and what to do next."""
    from rich.table import Table

    number = {
        severity: sum(finding.severity == severity for finding in noticed)
        for severity in findings.SEVERITIES
    }
    if noticed:
        table = Table(show_lines=True)
        table.add_column("finding", no_wrap=True)
        table.add_column("evidence", overflow="fold", ratio=3)
        table.add_column("remedy", overflow="fold", ratio=2)
        for one in noticed:
            shown = findings.named(one.examples, _NAMED)
            evidence = (
                f"{one.message}\n{shown}" if len(one.examples) > 3 else one.message
            )
            table.add_row(f"{one.severity}\n{one.code}", evidence, one.remedy)
        progress.console(progress.SENTENCES).print(table)
    counts = ", ".join(
        errors.counted(number[severity], severity) for severity in findings.SEVERITIES
    )
    print(f"{errors.counted(len(records), records.noun)} checked: {counts}.")
    if noticed:
        print(f"{findings.PAGE} explains each finding, by its name.")
    if settings.page is not None:
        print(f"Page: {settings.page}")
    elif any(finding.pictures for finding in noticed):
        print(f"--page check.html shows the {records.nouns}.")
    if settings.fix_list is not None and not listed:
        print(f"{settings.fix_list} is empty: there is nothing to leave out.")
    elif settings.fix_list is not None:
        print(
            f"{settings.fix_list} lists {errors.counted(listed, records.noun)} to "
            f"leave out: --leave-out {settings.fix_list}"
        )
