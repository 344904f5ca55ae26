"""Predict with a finished run, for the command `keras-tl predict`."""

import os
from collections.abc import Sequence
from pathlib import Path

from rich.table import Table

from keras_tl import errors, files, progress
from keras_tl.data import images as image_files
from keras_tl.deploy import artifact, compiled


def find(paths: Sequence[Path]) -> list[Path]:
    """List the image files among `paths` and in the folders among them, sorted.

    Raises:
        InputError: A path that does not exist, or no image.
    """
    images = []
    for path in paths:
        if path.is_dir():
            images += sorted(
                file
                for file in path.rglob("*")
                if file.suffix.lower() in image_files.EXTENSIONS and file.is_file()
            )
        elif path.exists():
            images.append(path)
        else:
            raise errors.expected("images", "be files or folders that exist", str(path))
    if not images:
        raise errors.expected(
            "images",
            "name at least one image, or a folder with one in it",
            [str(path) for path in paths],
        )
    return images


def check_images(paths: Sequence[Path]) -> None:
    """Raise `InputError` where some images cannot be used, with all reasons."""
    problems = [(path, image_files.problem(path)) for path in paths]
    bad = [f"{path}: {problem}" for path, problem in problems if problem]
    if bad:
        more = f"\n  and {len(bad) - 20} more" if len(bad) > 20 else ""
        raise errors.InputError(
            f"{len(bad)} of {len(paths)} images cannot be used:\n  "
            + "\n  ".join(bad[:20])
            + more
        )


def answers(model: artifact.Artifact, inputs: Sequence, top: int) -> list[tuple]:
    """Return the answers of a model as rows: input, name of the output, value.

    Of several classes these are the `top` most likely ones; of several labels and of
    numbers, all.
    """
    rows = []
    for example, values in zip(inputs, model.predict(inputs), strict=True):
        order = range(len(values))
        if model.activation == "softmax":
            order = values.argsort()[::-1][:top]
        rows += [(str(example), model.class_names[n], float(values[n])) for n in order]
    return rows


def predict(run: Path, inputs: Sequence[str], top: int, csv: Path | None) -> None:
    """Predict with a finished run; print a table, or write it as CSV.

    Args:
        run: Folder of the run.
        inputs: Image files or folders of them, or texts, as the run's model takes them.
        top: Number of classes to name for each input, the likeliest first.
        csv: New file to write the table to.

    Raises:
        InputError: Inputs, run or file that cannot be used.
    """
    if csv is not None and os.path.lexists(csv):
        raise errors.expected("csv", "name a file that is not there yet", str(csv))
    model = artifact.load(run)
    if not 1 <= top <= len(model.class_names):
        raise errors.expected(
            "top", f"be in [1, {len(model.class_names)}], the number of classes", top
        )
    if model.kind == "image":
        inputs = find([Path(path) for path in inputs])
        check_images(inputs)
    if model.kind == "image" and compiled.has_litert() and not model.is_converted:
        print("Converting the model for LiteRT; next time this is done.")
        model.convert()
    rows = answers(model, inputs, top)
    value = "value" if model.activation == "linear" else "probability"
    columns = (model.kind, "class", value)
    if csv is not None:
        _write(csv, columns, rows)
        return
    table = Table()
    table.add_column(columns[0], overflow="fold")
    table.add_column(columns[1])
    table.add_column(columns[2], justify="right")
    for example, name, number in rows:
        table.add_row(example, name, f"{number:.3f}")
    progress.console().print(table)


def _write(path, columns, rows):
    table = [
        dict(zip(columns, (e, name, f"{number:.6f}"), strict=True))
        for e, name, number in rows
    ]
    files.write_csv(path, table)
    print(f"{path}: {len(rows)} rows")
