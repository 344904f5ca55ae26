"""The folder that `keras-tl pack` writes: shards, a list of examples, and an index.

`pack.json` says what the data are and has the hash of each other file; each line of
`examples.jsonl` names an example, its split, its label and its place in a shard.
"""

import hashlib
import json
import re
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path

from keras_tl import errors, files
from keras_tl.data import remote, shards
from keras_tl.data.shards import Packed, Place, Shard, Shards

INDEX, EXAMPLES = "pack.json", "examples.jsonl"
# Changes with the content of the files.
VERSION = 1


@dataclass(frozen=True)
class Pack:
    """A packed folder.

    Attributes:
        folder: The folder; of one at an address, the address.
        about: What `write` was given.
        examples: The path of each example, below `folder`, and what is known of it.
    """

    folder: Path
    about: Mapping
    examples: tuple[tuple[Packed, Mapping], ...]


def is_pack(place: object) -> bool:
    """Return whether data are a packed folder; at an address there is nothing else.

    >>> is_pack("no_such_folder")
    False
    """
    if not isinstance(place, str | Path):
        return False
    # Also one that was copied without its index, which `read` names.
    names = (INDEX,), (EXAMPLES, shards.file_name(0))
    return remote.address(place) is not None or any(
        all(Path(place, name).is_file() for name in those) for those in names
    )


def write(
    folder: Path,
    about: Mapping,
    examples: Iterable[tuple[str, Mapping, bytes]],
    most_bytes: float,
) -> int:
    """Write a pack into an empty folder.

    Args:
        folder: The folder.
        about: What the data are, for JSON.
        examples: Suffix of each example, what is known of it, with its `name`, for
            JSON; and its content.
        most_bytes: See `shards.write`.

    Returns:
        Number of shards.

    Raises:
        InputError: The disk is full, or the folder cannot be written to.
    """
    known = []

    def noted():
        for suffix, row, content in examples:
            known.append(row)
            yield suffix, row, content

    written, places = shards.write(folder, noted(), most_bytes)
    rows = [row | asdict(place) for row, place in zip(known, places, strict=True)]
    lines = "".join(f"{json.dumps(row)}\n" for row in rows)
    files.write_text(folder / EXAMPLES, lines)
    index = {
        "format": VERSION,
        **about,
        "count": len(rows),
        "examples": {"file": EXAMPLES, "sha256": files.sha256(folder / EXAMPLES)},
        "shards": [asdict(shard) for shard in written],
    }
    files.write_json(folder / INDEX, index)
    return len(written)


def read(place: Path | str) -> Pack:
    """Read the index of a pack, and its list of examples.

    Args:
        place: The folder, or its address.

    Raises:
        InputError: It is no pack, of a newer format, or damaged.
    """
    folder = remote.address(place) or str(place)
    index = _index(folder)
    listed = _content(folder, EXAMPLES)
    if hashlib.sha256(listed).hexdigest() != index["examples"]["sha256"]:
        raise errors.InputError(
            f"{folder}/{EXAMPLES} is damaged, or of another pack: its SHA-256 is not "
            f"the one in {INDEX}. Copy it again, or pack the data again."
        )
    opened = Shards(folder, tuple(Shard(**shard) for shard in index["shards"]))
    try:
        examples = tuple(_example(folder, opened, line) for line in listed.splitlines())
    except (ValueError, KeyError, TypeError, IndexError) as error:
        raise errors.InputError(
            f"{folder}/{EXAMPLES} is not as `keras-tl pack` writes it: pack the data "
            "again."
        ) from error
    return Pack(Path(folder), index, examples)


def _example(folder, opened, line) -> tuple[Packed, dict]:
    row = json.loads(line)
    place = Place(row.pop("shard"), row.pop("offset"), row.pop("size"))
    if min(place.shard, place.offset, place.size) < 0:
        raise ValueError("A place is not negative.")
    if place.offset + place.size > opened.shards[place.shard].bytes:
        raise ValueError("An example stands in its shard.")
    return Packed.of(Path(folder, row["name"]), opened, place), row


def kind_of(place: Path | str) -> str:
    """Return the kind of the examples of a pack, see `kinds.Kind`.

    Raises:
        InputError: See `read`.
    """
    return _index(remote.address(place) or str(place))["kind"]


def _index(folder) -> dict:
    path = f"{folder}/{INDEX}"
    damaged = errors.InputError(
        f"{path} is not as `keras-tl pack` writes it: copy it again, or pack the data "
        "again."
    )
    try:
        index = json.loads(_content(folder, INDEX))
        if index["format"] > VERSION:
            raise errors.InputError(
                f"{path} is of a newer format than this version of keras-tl reads."
            )
        for shard in index["shards"]:
            # They become names of files here, and an index may be a stranger's.
            plain = Path(Shard(**shard).file).name == shard["file"]
            if not plain or not re.fullmatch("[0-9a-f]{64}", shard["sha256"]):
                raise damaged
        if not {"kind", "count"} <= set(index) or not index["examples"]["sha256"]:
            raise damaged
    except (ValueError, KeyError, TypeError, RecursionError) as error:
        if isinstance(error, errors.InputError):
            raise
        raise damaged from error
    return index


def _content(folder, name) -> bytes:
    if remote.address(folder) is not None:
        return remote.read(folder, name)
    try:
        return Path(folder, name).read_bytes()
    except FileNotFoundError as error:
        raise errors.InputError(
            f"{Path(folder, name)} is missing: copy the whole folder that `keras-tl "
            "pack` has written, or pack the data again."
        ) from error
    except OSError as error:
        raise errors.InputError(
            f"Cannot read {Path(folder, name)}: {error.strerror or error}."
        ) from error
