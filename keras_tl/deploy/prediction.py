"""Predict with a finished run, for the command `keras-tl predict`."""

import os
import sys
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Literal

import numpy as np
from rich.table import Table
from rich.text import Text

from keras_tl import errors, files, progress, quiet
from keras_tl.data import assembly, audio, layout, remote, tables, waves
from keras_tl.data.choices import NOUNS
from keras_tl.data.kinds import IMAGE, Kind
from keras_tl.data.sources import Source
from keras_tl.deploy import artifact, compiled, versions

# Most inputs that are listed with their problems.
MOST_LISTED = 20

# Kinds of inputs that are files.
FILES = {"image": IMAGE, "audio": audio.FILES}

# An input and why it cannot be used, as the rest of a sentence.
Problem = tuple[str, str]


def find(paths: Sequence[Path], kind: Kind = IMAGE) -> tuple[list[Path], list[Problem]]:
    """List the files of a kind among `paths` and in the folders among them, sorted.

    Other files are left out and counted; hidden ones, and those that systems add to
    archives, are not even counted. A file that is named itself is always tried.

    Returns:
        The files, and what does not exist or cannot be read.

    Raises:
        InputError: There is no file of the kind.
    """
    listed, problems, empty, left_out = [], [], [], 0
    for path in paths:
        if path.is_dir():
            within, bad, others = layout.files_in(path, kind)
            listed += within
            left_out += len(others)
            problems += [(str(name), problem) for name, problem in bad]
            if not within and not bad:
                empty.append((str(path), f"has no {kind.nouns}"))
        elif path.exists():
            listed.append(path)
        else:
            there = remote.address(path)
            reason = "does not exist" if there is None else "is not on this machine"
            problems.append((there or str(path), reason))
    if left_out:
        about = f"Left out, since they are no {kind.nouns}: {left_out:,}."
        print(about, file=sys.stderr)
    if not listed and not problems:
        raise errors.expected(
            kind.nouns,
            f"name at least one {kind.noun}, or a folder with one in it",
            [str(path) for path in paths],
        )
    return listed, [*problems, *empty]


def check_files(
    paths: Sequence[Path], kind: Kind = IMAGE, taken: dict | None = None
) -> list[Problem]:
    """Return the files that cannot be used, and warn of what is odd about others.

    Args:
        paths: The files.
        kind: Their kind.
        taken: What a model takes, see `Source.input_spec`; what of sound is changed for
            it is printed.
    """
    with ThreadPoolExecutor() as pool:
        results = pool.map(kind.check_file, paths)
        title = f"checking {kind.nouns}"
        checked = list(progress.track(results, title, len(paths)))
    usable = [
        assembly.File(assembly.Entry(path, "", ""), "", one)
        for path, one in zip(paths, checked, strict=True)
        if not one.problem
    ]
    reader = kind.reader([file.path for file in usable], assembly.Options())
    for about, odd, remedy in reader.remarks(usable):
        listed = f": {len(odd):,} ({assembly.some(odd, Path())})." if odd else ""
        errors.warn(f"{about}{listed} {remedy}")
    if kind.name == "audio" and taken is not None:
        (samples,) = taken["shape"]
        changes = waves.describe_changes(checked, taken["rate"], samples)
        print(changes, end="\n" * bool(changes), file=sys.stderr)
    return [
        (str(path), one.problem)
        for path, one in zip(paths, checked, strict=True)
        if one.problem
    ]


def _exists(text: object) -> bool:
    try:
        return isinstance(text, str | Path) and Path(text).exists()
    except (OSError, ValueError):  # A text that cannot be a path.
        return False


def answers(
    model: artifact.Artifact, inputs: Sequence, top: int, source: Source | None = None
) -> tuple[list[tuple], list[Problem]]:
    """Return the answers of a model, and the inputs for which it has none.

    Args:
        model: The model.
        inputs: Files or texts, see `Artifact.source`.
        top: See `predict`.
        source: The same, as that function returns them, where they are prepared.

    Returns:
        Rows of input, name of the output, value and note: of several classes the `top`
        most likely ones, of several labels and of numbers, all. A note says where the
        model is not sure, where an input is unlike the training examples, and which
        of several labels are there.
    """
    problems = []
    source = model.source(inputs) if source is None else source
    try:
        given = model.answer(source)
    except artifact.NotFiniteError as error:
        if len(error.examples) == len(inputs):
            raise
        problems = [
            (str(inputs[index]), "has no answer: the model returns NaN or infinity")
            for index in error.examples
        ]
        kept = [n for n in range(len(inputs)) if n not in error.examples]
        inputs = [inputs[index] for index in kept]
        given = model.answer(source.take(kept))
    rows = []
    for example, values, note in zip(inputs, given.values, given.notes, strict=True):
        order, present = range(len(values)), np.zeros(len(values), bool)
        if model.activation == "softmax":
            order = values.argsort()[::-1][:top]
        elif model.activation == "sigmoid":
            present = model.rules.present(values)
        for n in order:
            there = ["yes"] * bool(present[n])
            shown = ", ".join([*there, note] if note else there)
            rows.append((str(example), model.class_names[n], float(values[n]), shown))
    return rows, problems


def predict(
    run: Path,
    inputs: Sequence[str],
    top: int,
    csv: Path | None,
    bad_files: Literal["skip", "error"] = "skip",
    precision: float | None = None,
    *,
    file: Path | None = None,
    column: str | None = None,
    encoding: str = "utf-8",
) -> bool:
    """Predict with a finished run; print a table, or write it as CSV.

    Args:
        run: Folder of the run.
        inputs: Files of images or of sound, or folders of them, or texts, as the run's
            model takes them.
        top: Number of classes to name for each input, the likeliest first.
        csv: New file to write the table to.
        bad_files: "skip" predicts the others and lists what cannot be used; "error"
            predicts nothing then.
        precision: Wanted share of right answers; the model is not sure of the others.
        file: Further texts, see `tables.texts`.
        column: Column of these texts.
        encoding: Encoding of that file, see `text.decode`.

    Returns:
        Whether all inputs could be predicted.

    Raises:
        InputError: Inputs, run or file that cannot be used.
    """
    errors.check_encoding(encoding)
    if csv is not None:
        _check_csv(csv)
    model = artifact.load(run)
    about = versions.about_use(run)
    if about is not None:
        print(about, file=sys.stderr)
    if not 1 <= top <= len(model.class_names):
        raise errors.expected(
            "top", f"be in [1, {len(model.class_names)}], the number of classes", top
        )
    if precision is not None:
        if not 0 < precision <= 1:
            raise errors.expected("precision_at_least", "be in (0, 1]", precision)
        model = model.with_precision(precision)
        abstain = model.rules.abstain
        print(
            f"Answers with a probability of at least {abstain.threshold:.2f}: on "
            f"validation {100 * abstain.coverage:.0f} % of them, of which "
            f"{100 * precision:g} % were right.",
            file=sys.stderr,
        )
    problems = []
    if file is not None:
        if model.kind != "text":
            raise errors.expected(
                "file", f"be left out: the run takes {NOUNS[model.kind]}", str(file)
            )
        given, problems = tables.texts(file, column, encoding=encoding)
        inputs = [*inputs, *given]
    elif model.kind == "text":
        paths = [text for text in inputs if text and _exists(text)]
        if paths:
            hint = "The texts in a table or a file .txt: --file FILE"
            raise errors.expected("inputs", "be texts", str(paths[0]), hint)
    count = len(inputs) + len(problems)
    if not count:
        raise errors.expected("inputs", "have at least one input", list(inputs))
    if "" in inputs:
        raise errors.expected("inputs", "not be empty", list(inputs))
    if model.kind in FILES:
        kind = FILES[model.kind]
        inputs, problems = find([Path(path) for path in inputs], kind)
        count = len(inputs) + len(problems)
        problems += check_files(inputs, kind, model.manifest["input"])
        bad = {name for name, _ in problems}
        inputs = [path for path in inputs if str(path) not in bad]
    if problems and (bad_files == "error" or not inputs):
        raise errors.InputError(_listed(problems, count))
    source = model.source(inputs)
    if model.kind == "text":
        _say_what_is_cut(model.tokenizer, inputs, source)
    _prepare(model)
    with quiet.start_up():  # LiteRT says how it computes.
        rows, without_answer = answers(model, inputs, top, source)
    problems += without_answer
    value = "value" if model.activation == "linear" else "probability"
    columns = (model.kind, "class", value, "note")
    if csv is not None:
        _write(csv, columns, rows)
    else:
        _show(columns, rows)
    if problems:
        print(_listed(problems, count), file=sys.stderr)
    return not problems


def _say_what_is_cut(tokenizer, inputs, source):
    """Print how many texts are longer than the model takes."""
    tokens = source.read(np.arange(len(source)))
    # Only texts that fill all places can be longer than these.
    full = [inputs[index] for index in np.flatnonzero(tokens[:, -1])]
    cut = int((tokenizer.lengths(full) > tokenizer.sequence_length).sum())
    if cut:
        print(
            f"{cut:,} of {errors.counted(len(inputs), 'text')} "
            f"{'is' if cut == 1 else 'are'} cut: longer than "
            f"{tokenizer.sequence_length} tokens.",
            file=sys.stderr,
        )


def _prepare(model):
    """Convert a model for LiteRT, where that is possible; say what takes long."""
    if compiled.runtime() is None:
        print("Loading the model.", file=sys.stderr)
    elif not model.is_converted:
        print(
            "Converting the model for LiteRT, once: the next call is fast.",
            file=sys.stderr,
        )
        try:
            model.convert()
        except errors.InputError as error:
            print(f"Not converted: {error}", file=sys.stderr)
    faster = "" if compiled.has_litert() else ' Faster: pip install "keras-tl[export]"'
    print(f"Computed with {model.runtime}.{faster}", file=sys.stderr)


def _check_csv(path):
    """Refuse a file that could not be written, before anything is predicted."""
    if os.path.lexists(path):
        raise errors.expected("csv", "name a file that is not there yet", str(path))
    folder = path.absolute().parent
    if not folder.is_dir():
        raise errors.expected("csv", "be in a folder that exists", str(path))
    if not os.access(folder, os.W_OK):
        raise errors.expected("csv", "be in a folder that can be written to", str(path))


def _listed(problems, count) -> str:
    lines = [f"  {name}: {problem}" for name, problem in problems[:MOST_LISTED]]
    if len(problems) > MOST_LISTED:
        lines.append(f"  and {len(problems) - MOST_LISTED} more")
    listing = "\n".join(lines)
    inputs = errors.counted(count, "input")
    return f"{len(problems)} of {inputs} cannot be used:\n{listing}"


def _show(columns, rows):
    """Print a table; where there is no terminal, lines with tabs for other programs."""
    if not progress.is_terminal():
        lines = [(e, name, f"{number:.6f}", note) for e, name, number, note in rows]
        for row in [columns, *lines]:
            print("\t".join(_on_one_line(cell) for cell in row))
        return
    table = Table()
    table.add_column(columns[0], overflow="fold")
    table.add_column(columns[1])
    table.add_column(columns[2], justify="right")
    table.add_column(columns[3])
    for example, name, number, note in rows:
        cells = map(_on_one_line, (example, name, f"{number:.3f}", note))
        table.add_row(*map(Text, cells))
    progress.console().print(table)


def _on_one_line(cell) -> str:
    """Escape what would break a line or a column: a name can hold any character."""
    text = files.printable(cell)
    return "".join(
        c if c.isprintable() else c.encode("unicode_escape").decode() for c in text
    )


def _write(path, columns, rows):
    table = [
        dict(zip(columns, (e, name, f"{number:.6f}", note), strict=True))
        for e, name, number, note in rows
    ]
    files.write_csv(path, table)
    print(f"{path}: {errors.counted(len(rows), 'row')}")
