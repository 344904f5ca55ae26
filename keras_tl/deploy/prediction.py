"""Classify image files with a finished run: what `keras-tl predict` does."""

import csv as csv_files
import os
from collections.abc import Iterator, Sequence
from pathlib import Path

from rich.console import Console
from rich.table import Table

from keras_tl import errors, files
from keras_tl.data import images as image_files
from keras_tl.deploy import artifact, compiled


def find(paths: Sequence[Path]) -> list[Path]:
    """List the image files among `paths` and in the folders among them, sorted.

    Raises:
        InputError: A path that does not exist, or nothing to classify.
    """
    found = []
    for path in paths:
        if path.is_dir():
            found += sorted(
                file
                for file in path.rglob("*")
                if file.suffix.lower() in image_files.EXTENSIONS and file.is_file()
            )
        elif path.exists():
            found.append(path)
        else:
            raise errors.expected("images", "be files or folders that exist", str(path))
    if not found:
        raise errors.expected(
            "images",
            "name at least one image, or a folder with one in it",
            [str(path) for path in paths],
        )
    return found


def classify(
    model: artifact.Artifact, paths: Sequence[Path], top: int
) -> Iterator[tuple[Path, str, float]]:
    """Give for each image its `top` likeliest classes, with their probabilities."""
    for path, row in zip(paths, model.predict(paths), strict=True):
        for label in row.argsort()[::-1][:top]:
            yield path, model.class_names[label], float(row[label])


def predict(run: Path, images: Sequence[Path], top: int, csv: Path | None) -> None:
    """Classify images with a finished run; print a table, or write it as CSV.

    Raises:
        InputError: Anything that cannot be used: see what it says.
    """
    if csv is not None and os.path.lexists(csv):
        raise errors.expected("csv", "name a file that is not there yet", str(csv))
    paths = find(images)
    model = artifact.load(run)
    if not 1 <= top <= len(model.class_names):
        raise errors.expected(
            "top", f"be in [1, {len(model.class_names)}], the number of classes", top
        )
    problems = [(path, image_files.problem(path)) for path in paths]
    bad = [f"{path}: {problem}" for path, problem in problems if problem]
    if bad:
        more = f"\n  and {len(bad) - 20} more" if len(bad) > 20 else ""
        raise errors.InputError(
            f"{len(bad)} of {len(paths)} images cannot be used:\n  "
            + "\n  ".join(bad[:20])
            + more
        )
    if compiled.has_litert() and not model.is_converted:
        print("Converting the model for LiteRT; next time this is done.")
        model.convert()
    rows = list(classify(model, paths, top))
    if csv is None:
        table = Table()
        table.add_column("image", overflow="fold")
        table.add_column("class")
        table.add_column("probability", justify="right")
        for path, name, probability in rows:
            table.add_row(str(path), name, f"{probability:.3f}")
        Console().print(table)
        return
    with (
        files.atomic(csv) as temporary,
        open(temporary, "w", newline="", encoding="utf-8") as file,
    ):
        writer = csv_files.writer(file)
        writer.writerow(["image", "class", "probability"])
        writer.writerows((str(p), name, f"{x:.6f}") for p, name, x in rows)
    print(f"{csv}: {len(rows)} rows")
