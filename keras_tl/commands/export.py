"""`keras-tl export RUN`: write the model of a run for another runtime."""

import keras_tl.quiet  # noqa: F401  Before Keras.

from keras_tl import errors, files
from keras_tl.commands.settings import Export
from keras_tl.deploy import export, standalone, versions


def main(settings: Export) -> dict:
    """Export, and say what was written and how to use it."""
    files.check_new(settings.folder)
    inside = settings.folder.resolve().is_relative_to(settings.run.resolve())
    if inside:
        hint = "A run stays as it is: name a folder outside of it."
        raise errors.expected("out", "not be in the run", str(settings.folder), hint)
    about = versions.about_use(settings.run)
    if about is not None:
        print(about)
    contract = export.export(
        settings.run,
        settings.format,
        settings.folder,
        sample=settings.examples,
        tolerance=settings.tolerance,
        agreement=settings.agreement,
    )
    size = sum(
        one["bytes"]
        for name, one in contract["files"].items()
        if name.startswith(contract["model"])
    )
    folder = files.quoted(settings.folder)
    print(
        f"Written to {folder}: the model, {size / 1e6:.2f} MB, contract.json and "
        "predict.py."
    )
    example = standalone.example(contract["kind"])
    print(
        f"To use it: pip install {' '.join(contract['requirements'])}; "
        f"python {folder}/predict.py {example}"
    )
    return contract
