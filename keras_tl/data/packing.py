"""Pack a data set into a few large files, and read it again as it was."""

from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, replace
from hashlib import sha256
from pathlib import Path

from keras_tl import errors, files, progress
from keras_tl.data import assembly, packs
from keras_tl.data.assembly import Content, Entry, File, Options
from keras_tl.data.kinds import Kind

# Files that are read at a time, while those before are written.
_AHEAD = 64
# Suffix of contents whose files have none, or one that is none of their kind.
_UNKNOWN = ".bin"


def write(content: Content, options: Options, out: Path, megabytes: float) -> int:
    """Write files that have been read once to a new folder, see `packs`.

    Args:
        content: The files, all of which can be used, see `assembly.usable`.
        options: How they were read.
        out: The new folder.
        megabytes: Size of a shard.

    Returns:
        Number of shards.

    Raises:
        InputError: A file has changed meanwhile; or `out` exists, or cannot be written
            to.
    """
    about = {
        "name": content.name,
        "kind": content.kind.name,
        "task": content.task,
        "columns": content.columns,
        "in_table": any(file.entry.text is not None for file in content.files),
        "encoding": options.encoding,
        "groups": options.groups,
        "left_out": [
            (assembly.short(path, content.folder), reason)
            for path, reason in content.left_out
        ],
    }
    if not content.files:
        raise errors.InputError(
            f"There is nothing to pack: no {content.kind.noun} of {content.folder} can "
            "be used."
        )
    title = f"packing {content.kind.nouns}"
    examples = progress.track(_examples(content), title, len(content.files))
    with files.atomic_folder(out) as temporary:
        return packs.write(temporary, about, examples, megabytes * 1e6)


def _examples(content) -> Iterator[tuple[str, dict, bytes]]:
    """Yield suffix, what is known, and content of each file."""
    with ThreadPoolExecutor() as pool:
        for start in range(0, len(content.files), _AHEAD):
            some = content.files[start : start + _AHEAD]
            for file, data in zip(some, pool.map(_read, some), strict=True):
                suffix = file.path.suffix.lower()
                if file.entry.text is not None:
                    suffix = ".txt"
                elif suffix not in content.kind.extensions:
                    suffix = _UNKNOWN
                known = {
                    "name": assembly.short(file.path, content.folder),
                    "split": file.split,
                    "label": file.label,
                    "group": file.entry.group,
                }
                yield suffix, known, data


def _read(file: File) -> bytes:
    try:
        data = assembly.content_of(file.entry)
    except OSError as error:
        raise errors.InputError(
            f"Cannot read {file.path}: {error.strerror or error}."
        ) from error
    if sha256(data).hexdigest() != file.sha256:
        raise errors.InputError(
            f"{file.path} was changed while the data were packed: pack them again."
        )
    return data


def read(
    place: Path | str, columns: object, options: Options, choices: Sequence[Kind]
) -> Content:
    """Read the files of a pack once, as `folders.read` and `tables.read` do.

    Args:
        place: The folder, or its address.
        columns: A `tables.Columns`, which a pack has no use for; `None` is none.
        options: See `assembly.Options`.
        choices: Kinds that the files may have.

    Returns:
        What the data that were packed would give; paths are below `place`.

    Raises:
        InputError: It is no pack, is damaged, or holds files of another kind; or an
            option that must be given when data are packed.
    """
    pack = packs.read(place)
    about, folder = pack.about, pack.folder
    by_name = {kind.name: kind for kind in choices}
    if about["kind"] not in by_name:
        names = " or ".join(by_name)
        raise errors.expected("kind", f"be {about['kind']} for {place}", names)
    kind, columns_of = by_name[about["kind"]], about["columns"]
    _check(place, about, columns, options)
    options = replace(options, encoding=about["encoding"])
    if options.groups == about["groups"]:
        options = replace(options, groups=None)  # They are listed.
    entries = [
        Entry(
            path,
            row["split"],
            _label(row["label"], path, folder, kind, options),
            row["group"],
            _text(path) if about["in_table"] else None,
        )
        for path, row in pack.examples
    ]
    if options.labels is not None:
        columns_of = sorted({entry.label for entry in entries})
    return assembly.read(
        entries,
        folder,
        about["name"],
        options,
        task=about["task"],
        left_out=[(folder / name, reason) for name, reason in about["left_out"]],
        columns=columns_of,
        kind=kind,
    )


def _label(label, path, folder, kind, options) -> str | tuple:
    """Return the label that was packed, or that the name of the file holds."""
    if options.labels is not None:
        return assembly.matched("labels", options.labels, folder, kind, path)
    return label if isinstance(label, str) else tuple(label)


def _text(path) -> str:
    return path.read_bytes().decode("utf-8", "surrogatepass")


def _check(place, about, columns, options) -> None:
    """Raise `InputError` for what must be given when data are packed."""
    given = {} if columns is None else asdict(columns)
    given |= {"encoding": options.encoding}
    if about["in_table"] or about["task"] != "single-label":
        given |= {"labels": options.labels}
    known = {"task": about["task"], "encoding": about["encoding"]}
    for name, value in given.items():
        if value not in (None, known.get(name), getattr(Options, name, None)):
            raise errors.expected(
                f"{name}_column" if name in ("input", "label", "split") else name,
                f"be left out for {place}, which is packed: `keras-tl pack` takes it",
                str(value),
            )
