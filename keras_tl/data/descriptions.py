"""Descriptions of classes: words, or attributes, from which unseen ones are known."""

import re
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from keras_tl import errors
from keras_tl.data import tables

# Class -> its words, or a row of attributes, all of one length.
Descriptions = dict[str, str] | dict[str, np.ndarray]


def of_names(class_names: Sequence[str]) -> dict[str, str]:
    """Describe classes by the words of their names.

    >>> of_names(["polar_bear", "iPod"])
    {'polar_bear': 'polar bear', 'iPod': 'ipod'}
    """
    return {name: " ".join(_words(name)) for name in class_names}


def load(path: Path | str) -> Descriptions:
    """Load descriptions of classes from a table.

    Args:
        path: A table, see `tables.load`, with a row for each class: its name in the
            first column, then its words in one column, or numbers, its attributes, in
            one or more.

    Returns:
        Class -> words, or float64 attributes, in the order of the rows.

    Raises:
        InputError: No such table, no column besides the names, a class that stands
            there twice or without a description, or a cell that is no number.
    """
    if not Path(path).is_file():
        raise errors.expected("classes", "be a table that exists", str(path))
    rows = tables.load(path)
    if len(rows.columns) < 2 or not len(rows):
        raise errors.InputError(
            f"The table {path} must have a row for each class: its name, and then its "
            f"words or its attributes. Its columns: {', '.join(map(str, rows.columns))}"
        )
    names = [str(name).strip() for name in rows.iloc[:, 0]]
    for place, name in enumerate(names):
        if name in names[:place]:
            raise errors.InputError(f"The class {name!r} stands twice in {path}.")
    cells = rows.iloc[:, 1:].astype(str).map(str.strip)
    if len(cells.columns) == 1 and not all(map(_is_number, cells.iloc[:, 0])):
        described = dict(zip(names, cells.iloc[:, 0], strict=True))
        for name, words in described.items():
            if not _words(words) or words.lower() == "nan":
                raise errors.InputError(f"The class {name!r} has no words in {path}.")
        return described
    for column in cells:
        for name, cell in zip(names, cells[column], strict=True):
            if not _is_number(cell):
                raise errors.InputError(
                    f"The attribute {column!r} of the class {name!r} in {path} must be "
                    f"a number. Received: {cell!r}"
                )
    return dict(zip(names, cells.astype("float64").to_numpy(), strict=True))


def of_classes(path: Path | str | None, class_names: Sequence[str]) -> Descriptions:
    """Describe classes by a table, or by their names, and add what else it describes.

    Args:
        path: See `load`; `None` where the names are words.
        class_names: Classes that need a description.

    Returns:
        Class -> description, those of `class_names` first, in their order.

    Raises:
        InputError: What `load` raises, or a class that the table does not describe.

    >>> list(of_classes(None, ["polar_bear"]))
    ['polar_bear']
    """
    if path is None:
        return of_names(class_names)
    described = load(path)
    missing = [name for name in class_names if name not in described]
    if missing:
        noun = "class" if len(missing) == 1 else "classes"
        raise errors.InputError(
            f"There is no description of the {noun} {_listed(missing)} in {path}. "
            f"Described are: {_listed(described)}."
        )
    others = [name for name in described if name not in class_names]
    return {name: described[name] for name in [*class_names, *others]}


def vectors(
    described: Descriptions, words: Sequence[str], table: np.ndarray
) -> np.ndarray:
    """Turn descriptions into a vector of length 1 for each class.

    Words become the mean of the vectors of those that have one; attributes have their
    mean over the classes subtracted, and each is divided by its deviation.

    Args:
        described: What `load` or `of_names` returns.
        words: Words that have a vector; not needed for attributes.
        table: Their vectors, `(words, width)`, as `word_vectors.load` returns them.

    Returns:
        float64 `(classes, width)`, in the order of `described`.

    Raises:
        InputError: A class none of whose words has a vector, or that cannot be told
            from another one.

    >>> described = {"a": "big cat", "b": "cat"}
    >>> vectors(described, ["big", "cat"], np.eye(2)).round(2).tolist()
    [[0.71, 0.71], [0.0, 1.0]]
    """
    if any(isinstance(one, str) for one in described.values()):
        place = {word: number for number, word in enumerate(words)}
        rows = [
            _mean_of_words(name, text, place, table) for name, text in described.items()
        ]
        rows = np.stack(rows)
    else:
        rows = np.stack(list(described.values())).astype("float64")
        deviation = rows.std(axis=0)
        rows = (rows - rows.mean(axis=0)) / np.where(deviation > 1e-9, deviation, 1.0)
    lengths = np.linalg.norm(rows, axis=1, keepdims=True)
    rows = rows / np.where(lengths > 0, lengths, 1.0)
    names = list(described)
    for first, second in zip(*np.triu_indices(len(rows), k=1), strict=True):
        if np.allclose(rows[first], rows[second]):
            raise errors.InputError(
                f"The classes {names[first]!r} and {names[second]!r} cannot be told "
                "apart: their descriptions are the same."
            )
    return rows


def _mean_of_words(name, text, place, table):
    known = [table[place[word]] for word in _words(text) if word in place]
    if not known:
        raise errors.InputError(
            f"None of the words that describe the class {name!r} has a vector: "
            f"{text!r}. Describe it with `--classes` by other words."
        )
    return np.mean(known, axis=0, dtype="float64")


def _words(text) -> list[str]:
    return re.findall(r"[^\W_]+", text.lower())


def _is_number(cell) -> bool:
    try:
        return bool(np.isfinite(float(cell)))
    except ValueError:
        return False


def _listed(names) -> str:
    names = [repr(str(name)) for name in names]
    return ", ".join([*names[:12], "..."] if len(names) > 12 else names)
