"""A table of files, or of texts, and their labels as three splits.

CSV, TSV, Parquet and JSON-lines files, and DataFrames, are read by pandas.
"""

import contextlib
import csv
import io
import json
import re
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from keras_tl import errors
from keras_tl.data import assembly, kinds, layout, text
from keras_tl.data.assembly import Content, Entry, Options
from keras_tl.data.choices import Task
from keras_tl.data.kinds import IMAGE, Kind
from keras_tl.data.splits import Splits

if TYPE_CHECKING:
    import pandas as pd

# Suffixes of tables that are read.
SUFFIXES = (".csv", ".tsv", ".parquet", ".jsonl", ".ndjson")
# Of these, files with a JSON object in each line.
_LINES = SUFFIXES[3:]

# Usual names of columns, in the order in which they are looked for.
_USUAL = {
    "input": (
        *("image", "image_path", "path", "filepath", "file_path", "file", "filename"),
        *("file_name", "img", "audio", "audio_path", "clip", "wav", "sound"),
        *("recording", "image_id", "id"),
    ),
    "text": (
        *("text", "sentence", "review", "comment", "message", "content", "body"),
        *("tweet", "title", "question", "utterance", "document", "description"),
    ),
    "label": (
        *("label", "class", "target", "category", "labels", "classes", "tags", "y"),
        *("class_name", "label_name", "species", "breed"),
    ),
    "split": ("split", "subset", "fold_name", "partition"),
}
# Usual names of the table of a folder.
_TABLES = ("labels", "metadata", "annotations", "train", "data", "index")
# What may stand between the columns of a CSV file, the usual one first.
_DELIMITERS = ",;\t|"
# Words that cells have on average from which on they are sentences.
_WORDS = 2.0
# What may stand between the labels of an example in one cell.
_SEPARATORS = ("|", ";", ",", " ")
# Numbers with more different values than this are predicted, not told apart.
_MOST_WHOLE = 20


@dataclass(frozen=True)
class Columns:
    """Which columns of a table hold what.

    Attributes:
        input: The text, or the path of the file, absolute, or as seen from the table or
            from `root`.
        label: One column of classes, of several labels in one cell, or of a number; or
            several columns, separated by commas, each of 0 and 1, or of numbers.
        split: Name of the split of each row; without it, splits are drawn.
        task: See `Splits.task`; by default as the labels look.
        root: Folder that the paths are relative to.
    """

    input: str | None = None
    label: str | None = None
    split: str | None = None
    task: Task | None = None
    root: Path | None = None


def is_table(path: Path | str) -> bool:
    """Return whether a file is a table, by its suffix."""
    return Path(path).suffix.lower() in SUFFIXES


def in_folder(
    folder: Path,
    choices: Sequence[Kind] = (IMAGE,),
    columns: Columns | None = None,
    encoding: str = "utf-8",
) -> "Path | pd.DataFrame | None":
    """Find the table of a folder; several, named like splits, are joined.

    Those without labels, as the test of a competition, are left out with a warning.

    Args:
        folder: The folder.
        choices: See `read`.
        columns: See `read`.
        encoding: See `load`.

    Returns:
        The file of the only table, or of that with a usual name; the rows of
        `train.csv`, `test.csv` and the like, with a column `split`; or `None`.
    """
    columns = columns or Columns()
    paths = sorted(path for path in folder.iterdir() if is_table(path))
    by_split = {layout.split_of(path.stem): path for path in paths}
    if "train" in by_split and len(by_split) == len(paths) > 1:
        import pandas as pd

        named = {s: p for s, p in by_split.items() if s in assembly.NAMES}
        rows = {split: load(path, encoding) for split, path in named.items()}
        name = f"The table {named['train']}"
        kind = _kind(rows["train"], choices, columns, folder)
        column = _input_column(rows["train"], columns.input, folder, name, kind)
        usual = columns.label or _named(rows["train"], "label", None, name)
        for split in [s for s in rows if usual and usual not in rows[s]]:
            errors.warn(
                f"{named[split]} is left out, since it has no column {usual!r} of "
                "labels."
            )
            del rows[split]
        for split, part in rows.items():
            if kind.name == "text":
                own = _text_column(part, columns.input, f"The table {named[split]}")
                part = part.rename(columns={own: column})
            part.index = [f"{named[split]}:{line}" for line in part.index]
            rows[split] = part.assign(split=split)
        rows = pd.concat(rows.values())
        if kind.name != "text":
            rows[column] = [str(folder / str(cell)) for cell in rows[column]]
        return rows
    usual = [path for path in paths if path.stem.casefold() in _TABLES]
    only = usual or paths
    return only[0] if len(only) == 1 else None


def load(path: Path | str, encoding: str = "utf-8") -> "pd.DataFrame":
    """Load a table; cells of CSV and TSV stay texts.

    Args:
        path: A file with one of `SUFFIXES`. Quotation marks in a TSV file are part of
            its cells, unless the names of its columns have them as well.
        encoding: See `text.decode`.

    Returns:
        The rows, whose index is the line in which each of them begins; of Parquet, a
        number from 1 on.

    Raises:
        InputError: The file is absent, of another kind or encoding, or cannot be read.
    """
    import pandas as pd

    path = Path(path)
    suffix = path.suffix.lower()
    _check_file(path, "data", SUFFIXES)
    content = "" if suffix == ".parquet" else text.read_file(path, encoding)
    try:
        if suffix == ".parquet":
            rows = pd.read_parquet(path)
            rows.index = range(1, len(rows) + 1)
            return rows
        if suffix in _LINES:
            rows = pd.read_json(
                io.StringIO(content), lines=True, dtype=False, convert_dates=False
            )
            lines = enumerate(content.split("\n"), start=1)
            rows.index = [number for number, line in lines if line.strip()]
            return rows
        return _of_delimited(content, suffix)
    except Exception as error:  # pandas raises nearly any type.
        if not content.strip():
            raise errors.InputError(f"The table {path} is empty.") from error
        reason = _broken_line(content) if suffix in _LINES else _broken_row(error)
        raise errors.InputError(
            f"The table {path} cannot be read: {reason or errors.reason(error)}."
        ) from error


def _check_file(path, argument, suffixes) -> None:
    """Raise `InputError` for a path that is no file, or of no kind that is read."""
    if path.is_dir():
        raise errors.expected(argument, "be a file, not a folder", str(path))
    if not path.exists():
        raise errors.expected(argument, "be a file that exists", str(path))
    if path.suffix.lower() not in suffixes:
        wanted = f"be a file of a kind that is read, {', '.join(suffixes)}"
        raise errors.expected(argument, wanted, str(path))


def _of_delimited(content, suffix) -> "pd.DataFrame":
    import pandas as pd

    header = content.lstrip("\n\r").partition("\n")[0].strip()
    quoted = all(name[:1] == name[-1:] == '"' for name in header.split("\t"))
    # The separator that makes the most of the names of the columns.
    separator = max(
        _DELIMITERS, key=lambda one: len(next(csv.reader([header], delimiter=one)))
    )
    if suffix == ".tsv":
        separator = "\t"
    quoting = csv.QUOTE_MINIMAL
    if suffix == ".tsv" and not quoted:
        quoting = csv.QUOTE_NONE
    rows = pd.read_csv(
        io.StringIO(content),
        sep=separator,
        dtype=str,
        keep_default_na=False,
        quoting=quoting,
        index_col=False,
        on_bad_lines="error",
    )
    begins = _begins(content, delimiter=separator, quoting=quoting)[1:]
    rows.index = begins if len(begins) == len(rows) else range(2, len(rows) + 2)
    return rows


def _begins(content, **dialect) -> list[int]:
    """Return the line in which each row of a delimited file begins, its header's first.

    A cell can have several lines, and empty lines are no rows.
    """
    lines = content.split("\n")
    reader = csv.reader((f"{line}\n" for line in lines), **dialect)
    begins, last = [], 0
    with contextlib.suppress(csv.Error):  # A cell that is longer than it allows.
        for _ in reader:
            if lines[last].strip():
                begins.append(last + 1)
            last = reader.line_num
    return begins


def _broken_row(error) -> str | None:
    """Return what is wrong with a delimited file that pandas cannot read."""
    message = str(error)
    if unclosed := re.search(r"EOF inside string starting at row (\d+)", message):
        return (
            f"the quotation mark that begins a cell in row {int(unclosed[1]) + 1}, the "
            "names of the columns being row 1, is never closed"
        )
    if fields := re.search(r"Expected (\d+) fields in line (\d+), saw (\d+)", message):
        return (
            f"line {fields[2]} has {fields[3]} cells, and there are {fields[1]} "
            "columns; a cell with a separator in it needs quotation marks"
        )
    return None


def _broken_line(content) -> str | None:
    """Name the first line of a file of JSON lines that is no JSON object."""
    for number, line in enumerate(content.split("\n"), start=1):
        try:
            row = json.loads(line.strip() or "{}")
        except json.JSONDecodeError as error:
            where = f"line {number} is no JSON from column {error.colno} on"
            return f"{where}: {error.msg}"
        if not isinstance(row, dict):
            return (
                f'line {number} must be a JSON object, such as {{"text": "good", '
                f'"label": "1"}}, and is {line.strip()[:40]}'
            )
    return None


def from_table(
    table: "Path | str | pd.DataFrame",
    columns: Columns | None = None,
    *,
    choices: Sequence[Kind] = (IMAGE,),
    **options,
) -> Splits:
    """Read files that a table names, or texts in it, with their labels, as splits.

    Columns that are not named are found by their usual names, such as `image`, `path`
    `file_name` or `text` and `label`, `class` or `target`, or since their cells are
    paths of files or sentences, and as the only other column.

    Args:
        table: A file, see `load`, or a DataFrame.
        columns: Which columns hold what.
        choices: See `read`.
        **options: See `assembly.Options`; `groups` can be a column as well.

    Returns:
        Splits; labels are classes, rows of 0 and 1, or numbers, see `Splits.task`.

    Raises:
        InputError: No table, a column that is missing or means nothing, a file that
            does not exist, or what `assembly.assemble` refuses.
    """
    errors.check_options(options, from_table, Options)
    chosen = Options(**options)
    content = read(table, columns or Columns(), chosen, choices)
    return assembly.assemble(content, chosen)


def read(
    table: "Path | str | pd.DataFrame",
    columns: Columns,
    options: Options,
    choices: Sequence[Kind] = (IMAGE,),
    folder: Path | None = None,
) -> Content:
    """Read all files that a table names, or texts in it, once; see `from_table`.

    Args:
        table: See `from_table`.
        columns: See `from_table`.
        options: See `assembly.Options`.
        choices: Kinds that the examples can have; files have that of most names.
        folder: Folder of the tables whose rows `in_folder` has joined.

    Raises:
        InputError: As `from_table`.
    """
    path = Path(table) if isinstance(table, str | Path) else None
    rows = table if path is None else load(path, options.encoding)
    name = "The table" if path is None else f"Table {path.name}"
    if folder is not None and path is None:
        name = f"Tables in {folder.resolve().name}"
    if not len(rows):
        raise errors.InputError(f"{name} has no rows.")
    root = Path(columns.root or (path.parent if path else folder or ""))
    rows = rows.rename(columns=str)
    kind = _kind(rows, choices, columns, root)
    _check_names(rows, root, name, kind)
    image = _input_column(rows, columns.input, root, name, kind)
    split = _named(rows, "split", columns.split, name)
    groups = options.groups if options.groups in rows else None
    if groups is None and assembly.is_column(options.groups or ""):
        _column(rows, "groups", options.groups, name)  # It means a column: raises.
    others = {image, split, groups}
    labels = _label_columns(rows, columns.label, others, name)
    if kind.name != "text" and not isinstance(rows[image].iloc[0], str):
        raise errors.InputError(
            f"Each {kind.noun} must be the path of a file. {name} has in the column "
            f"{image!r}: {rows[image].iloc[0]!r}."
        )
    task, values = _labels(rows, labels, columns.task, name)
    if task == "single-label" and labels[0] in values:
        errors.warn(
            f"The name of the column of labels, {labels[0]!r}, is one of its labels as "
            f"well: does {_within(name)} begin without the names of its columns?"
        )
    if options.labels is not None:
        raise errors.expected(
            "labels",
            "be left out of a table, a column of which has the labels",
            options.labels,
        )
    splits = ["train"] * len(rows) if split is None else _splits(rows[split], name)
    together = [None] * len(rows)
    if groups is not None:
        together = [str(value) for value in rows[groups]]
        options = replace(options, groups=None)
    if kind.name == "text":
        paths = [_place(path, line) for line in rows.index]
        texts = ["" if _is_empty(cell) else str(cell) for cell in rows[image]]
        entries = map(Entry, paths, splits, values, together, texts)
        entries, bad, again = list(entries), [], []
    else:
        paths = _paths(rows[image], root, kind)
        every = map(Entry, paths, splits, values, together)
        entries, bad, again = _of_files(list(every), image, name, kind)
    return assembly.read(
        entries,
        root,
        name,
        options,
        task=task,
        bad=bad,
        left_out=again,
        columns=labels if task == "regression" else (),
        kind=kind,
    )


def _place(path, line) -> Path:
    """Return where a text stands, in the way of compilers."""
    if path is not None:
        return Path(f"{path}:{line}")
    return Path(f"row {line}" if isinstance(line, int) else str(line))


def _of_files(every, column, name, kind):
    """Return the files that exist, each once; what is bad; and what repeats others."""
    paths = [entry.path for entry in every]
    missing = [path for path in paths if not path.is_file()]
    if missing and len(missing) == len(paths):
        raise errors.InputError(
            f"No {kind.noun} that {name} names in the column {column!r} exists, such "
            f"as {missing[0]}. Paths are relative to the table, or to --root."
        )
    bad = [(path, "does not exist, and the table names it") for path in missing]
    repeated = _repeated(paths, [entry.label for entry in every])
    bad += [(path, "stands in the table with two labels") for path in repeated]
    unusable = {*missing, *repeated}
    entries, seen, again = [], set(), []
    for entry in every:
        if entry.path in seen:
            again.append((entry.path, "rows that repeat a file"))
        elif entry.path not in unusable:
            seen.add(entry.path)
            entries.append(entry)
    return sorted(entries, key=lambda entry: entry.path), bad, again


def texts(
    path: Path | str, column: str | None = None, *, encoding: str = "utf-8"
) -> tuple[list[str], list[tuple[str, str]]]:
    """Read texts without labels, from a table or from the lines of a file.

    Args:
        path: A table, see `load`, or a file `.txt` with a text in each line.
        column: Name of the column of the texts; by default it is looked for, see
            `from_table`.
        encoding: See `text.decode`.

    Returns:
        The texts in their order, and where one is empty, with that as the rest of a
        sentence; lines of a file `.txt` that are empty at its end are left out.

    Raises:
        InputError: No such file, another encoding, or no such column.
    """
    path = Path(path)
    _check_file(path, "file", (*SUFFIXES, ".txt"))
    if path.suffix.lower() == ".txt":
        lines = text.read_file(path, encoding).rstrip().splitlines()
        cells = list(enumerate(lines, start=1))
    else:
        rows = load(path, encoding).rename(columns=str)
        column = _text_column(rows, column, f"Table {path.name}", "column")
        cells = list(rows[column].items())
    empty = [(f"{path}:{line}", "is empty") for line, cell in cells if _is_empty(cell)]
    return [str(cell) for _, cell in cells if not _is_empty(cell)], empty


def _kind(rows, choices, columns, root) -> Kind:
    """Return the kind of the files that a table names, or that of its texts."""
    of_files = [kind for kind in choices if kind.name != "text"]
    of_texts = [kind for kind in choices if kind.name == "text"]
    if not (of_files and of_texts):
        cells = rows.head(50).to_numpy().ravel()
        names = [*rows.columns, *(cell for cell in cells if isinstance(cell, str))]
        return kinds.most(choices, map(str, names))
    suffixes = {end for kind in of_files for end in kind.extensions}
    looked_at = rows if columns.input not in rows else rows[[columns.input]]
    for column in looked_at:
        cells = _strings(rows, column)
        named = [Path(cell).suffix.lower() in suffixes for cell in cells]
        if cells and (sum(named) > len(cells) / 2 or (root / cells[0]).is_file()):
            return kinds.most(of_files, cells)
    if any(Path(column).suffix.lower() in suffixes for column in rows.columns):
        return kinds.most(of_files, rows.columns)
    others = [column for column in looked_at if column != columns.label]
    usual = _named(looked_at, "text", None, "") is not None
    if usual or any(_are_sentences(rows, column) for column in others):
        return of_texts[0]
    return of_files[0]


def _strings(rows, column) -> list[str]:
    """Return the first cells of a column, of those that are texts and not empty."""
    return [cell for cell in rows[column].head(50) if isinstance(cell, str) and cell]


def _are_sentences(rows, column) -> bool:
    cells = _strings(rows, column)
    return bool(cells) and np.mean([len(cell.split()) for cell in cells]) >= _WORDS


def _check_names(rows, root, name, kind):
    """Refuse a first row of files in place of the names of columns."""
    if kind.name == "text":
        return
    for column in rows.columns:
        if Path(column).suffix.lower() in kind.extensions or (root / column).is_file():
            raise errors.InputError(
                f"The first row of {name} must name its columns, such as "
                f"{kind.noun},label. Received: {', '.join(rows.columns)}."
            )


def _column(rows, argument, column, name):
    if column not in rows:
        raise errors.expected(
            argument,
            f"be a column of {_within(name)}",
            column,
            f"Its columns are {', '.join(rows.columns)}.",
        )
    return rows[column]


def _named(rows, kind, column, name) -> str | None:
    """Return a column that is named, or has a usual name."""
    if column is not None:
        _column(rows, f"{kind}_column", column, name)
        return column
    by_name = {str(c).strip().casefold(): c for c in rows.columns}
    return next((by_name[word] for word in _USUAL[kind] if word in by_name), None)


def _text_column(rows, column, name, argument="input_column") -> str:
    """Return the column of texts: that named, a usual one, or the only one."""
    if column is not None:
        _column(rows, argument, column, name)
        return column
    usual = _named(rows, "text", None, name)
    if usual is not None:
        return usual
    label = _named(rows, "label", None, name)
    others = [
        one
        for one in rows.columns
        if one not in (label, _named(rows, "split", None, name))
    ]
    sentences = [one for one in others if _are_sentences(rows, one)]
    for candidates in (others, sentences):
        if len(candidates) == 1:
            return candidates[0]
    raise errors.InputError(
        f"{name} must have a column of texts. Its columns are "
        f"{', '.join(rows.columns)}, such as {_first_row(rows)}. Name it with "
        f"--{argument.replace('_', '-')}."
    )


def _input_column(rows, column, root, name, kind) -> str:
    if kind.name == "text":
        return _text_column(rows, column, name)
    if column is not None:
        return _named(rows, "input", column, name)
    for candidate in rows.columns:
        cells = _strings(rows, candidate)
        suffixes = [Path(cell).suffix.lower() in kind.extensions for cell in cells]
        if cells and (all(suffixes) or (root / cells[0]).is_file()):
            return candidate
    usual = _named(rows, "input", None, name)
    if usual is None:
        raise errors.InputError(
            f"{name} must have a column with the paths of {kind.nouns}. Its columns "
            f"are {', '.join(rows.columns)}, such as {_first_row(rows)}. Name it with "
            "--input-column."
        )
    return usual


def _first_row(rows) -> str:
    return ", ".join(f"{c}={rows[c].iloc[0]!r}" for c in rows.columns[:6])


def _label_columns(rows, wanted, others, name) -> list[str]:
    if wanted is not None:
        columns = [wanted] if wanted in rows else wanted.split(",")
        for column in columns:
            _column(rows, "label_column", column, name)
        return columns
    usual = _named(rows, "label", None, name)
    if usual is not None and usual not in others:
        return [usual]
    rest = [column for column in rows.columns if column not in others]
    if len(rest) == 1:
        return rest
    if len(rest) > 1 and all(_is_binary(rows[column]) for column in rest):
        return rest
    raise errors.InputError(
        f"{name} must have a column of labels. Its columns are "
        f"{', '.join(rows.columns)}, such as {_first_row(rows)}. Name it with "
        "--label-column; several are separated by commas."
    )


def _is_binary(column) -> bool:
    return {str(cell) for cell in column} <= {"0", "1", "0.0", "1.0", "True", "False"}


def _labels(rows, columns, task, name) -> tuple[str, list]:
    """Return the task and the label of each row, as `Entry` has it."""
    cells = rows[columns[0]].tolist()
    if len(columns) > 1:
        if task is None:
            binary = all(_is_binary(rows[column]) for column in columns)
            task = "multi-label" if binary else "regression"
        if task == "single-label":
            raise errors.expected(
                "task", "be 'multi-label' or 'regression' with several columns", task
            )
        if task == "multi-label":
            on = [[str(c) in ("1", "1.0", "True") for c in rows[n]] for n in columns]
            pairs = (zip(columns, row, strict=True) for row in zip(*on, strict=True))
            return task, [tuple(n for n, there in row if there) for row in pairs]
    if task == "regression" or (task is None and _is_measured(cells)):
        numbers = [_numbers(rows[column], column, name) for column in columns]
        return "regression", list(zip(*numbers, strict=True))
    several = [_listed(cell) for cell in cells]
    if task == "multi-label" or (task is None and any(map(np.iterable, several))):
        separator = _separator(cells)
        return "multi-label", [_label_names(cell, separator) for cell in cells]
    empty = [n for n, cell in enumerate(cells) if _is_empty(cell)]
    if empty:
        raise errors.InputError(
            f"Every row must have a label. {name} has none in the column "
            f"{columns[0]!r} of {errors.counted(len(empty), 'row')}, the first being "
            f"{_where(rows, empty[0], name)}."
        )
    kinds = {type(cell).__name__ for cell in cells}
    if len(kinds) > 1:
        raise errors.InputError(
            f"The labels must be of one type. {name} has in the column {columns[0]!r}: "
            f"{', '.join(sorted(kinds))}."
        )
    if task is None:
        _check_mixed(rows, columns[0], name)
    classes = set(map(str, cells))
    if len(cells) > 3 and len(classes) == len(cells):
        raise errors.InputError(
            f"The label must be shared by several examples. In the column "
            f"{columns[0]!r} of {_within(name)} every row has another one, such as "
            f"{cells[0]!r}, {cells[1]!r}: it numbers or names the rows. Name another "
            "with --label-column."
        )
    return "single-label", [str(cell).strip() for cell in cells]


def _where(rows, number, name) -> str:
    """Return where a row stands: its line in a file, else its number."""
    line = rows.index[number]
    if isinstance(line, str):
        return line
    if name == "The table":
        return f"row {number + 1} below the names of the columns"
    return f"line {line}"


def _within(name: str) -> str:
    """Return the name of a table as it stands within a sentence."""
    return f"{name[:1].lower()}{name[1:]}"


def _check_mixed(rows, column, name) -> None:
    """Raise `InputError` for labels most of which are numbers that are measured."""
    cells = rows[column].tolist()
    numbers = [n for n, cell in enumerate(cells) if _is_number(cell)]
    if len(numbers) in (0, len(cells)) or not _is_measured([cells[n] for n in numbers]):
        return
    others = sorted(set(range(len(cells))) - set(numbers))
    raise errors.InputError(
        f"The labels must all be numbers, or all names of classes. The column "
        f"{column!r} of {_within(name)} has "
        f"{errors.counted(len(numbers), 'number')}, such as "
        f"{cells[numbers[0]]!r}, and {errors.counted(len(others), 'other')}, the first "
        f"being {cells[others[0]]!r} in {_where(rows, others[0], name)}. --task "
        "single-label takes all as names."
    )


def _is_number(cell) -> bool:
    try:
        return bool(np.isfinite(float(_point(cell))))
    except (TypeError, ValueError):
        return False


def _is_empty(cell) -> bool:
    return cell is None or cell != cell or (isinstance(cell, str) and not cell.strip())


def _is_measured(cells) -> bool:
    """Return whether cells are numbers that are measured, rather than classes."""
    try:
        numbers = np.array([_point(cell) for cell in cells], "float64")
    except (TypeError, ValueError):
        return False
    if np.isnan(numbers).any() or isinstance(cells[0], bool):
        return False
    distinct = len(np.unique(numbers))
    whole = (numbers == np.rint(numbers)).all()
    repeats = distinct < len(numbers)
    return not whole or (
        distinct > _MOST_WHOLE and repeats and distinct > len(cells) / 5
    )


def _point(cell):
    """Return a number with a decimal comma as one with a point."""
    if isinstance(cell, str) and re.fullmatch(r"\s*-?\d+,\d+\s*", cell):
        return cell.replace(",", ".")
    return cell


def _numbers(cells, column, name) -> list[float]:
    values = []
    for row, cell in enumerate(cells, start=1):
        try:
            values.append(float(_point(cell)))
        except (TypeError, ValueError):
            values.append(float("nan"))
        if not np.isfinite(values[-1]):
            raise errors.InputError(
                f"The column {column!r} of {name} must hold numbers. Row {row} below "
                f"the names of the columns has {cell!r}."
            )
    return values


def _listed(cell):
    """Return the list that a cell is, or stands for, or the cell itself as a scalar."""
    if isinstance(cell, str):
        if cell.strip().startswith("["):
            try:
                return json.loads(cell.replace("'", '"'))
            except ValueError:
                return 0
        return ["several"] if any(s in cell for s in _SEPARATORS[:2]) else 0
    return list(cell) if np.iterable(cell) else 0


def _separator(cells) -> str:
    texts = [cell for cell in cells if isinstance(cell, str)]
    for separator in _SEPARATORS:
        if any(separator in text for text in texts):
            return separator
    return "|"


def _label_names(cell, separator) -> tuple[str, ...]:
    if isinstance(cell, str) and cell.strip().startswith("["):
        cell = _listed(cell) or ()
    elif isinstance(cell, str):
        cell = cell.split(separator)
    elif not np.iterable(cell):
        cell = () if _is_empty(cell) else (cell,)
    names = (str(name).strip() for name in cell)
    return tuple(sorted({name for name in names if name}))


def _paths(cells: Sequence[str], root: Path, kind: Kind) -> list[Path]:
    """Return the file of each row; a suffix that is left out is looked for."""
    paths = [root / str(cell).strip() for cell in cells]
    if paths and "\\" in str(cells.iloc[0]) and not paths[0].exists():
        # As Windows writes them.
        paths = [root / str(cell).strip().replace("\\", "/") for cell in cells]
    if paths and not paths[0].suffix and not paths[0].exists():
        for suffix in kind.extensions:
            if paths[0].with_name(paths[0].name + suffix).exists():
                return [path.with_name(path.name + suffix) for path in paths]
    return paths


def _splits(cells, name) -> list[str]:
    splits = [layout.split_of(str(cell)) for cell in cells]
    unknown = sorted({str(c) for c, s in zip(cells, splits, strict=True) if s is None})
    if unknown or "train" not in splits:
        raise errors.InputError(
            f"The column of splits of {name} must name train, validation or test in "
            f"each row, and train in some. Received: "
            f"{', '.join(unknown[:5]) or splits[0]}."
        )
    names = {}
    for cell, split in zip(cells, splits, strict=True):
        names.setdefault(split, {})[str(cell).strip().casefold()] = str(cell)
    for split, spelled in names.items():
        if len(spelled) > 1:
            raise errors.InputError(
                f"The column of splits of {name} has several names for the {split} "
                f"split: {', '.join(spelled.values())}. Keep the rows of one, or give "
                "all of them one name."
            )
    return splits


def _repeated(paths, values) -> list[Path]:
    """List the files that stand in the table with different labels."""
    seen, repeated = {}, []
    for path, value in zip(paths, values, strict=True):
        if seen.setdefault(path, value) != value and path not in repeated:
            repeated.append(path)
    return repeated
