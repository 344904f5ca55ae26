"""Shards: examples in a few large files, read by their place in any order.

A shard is a tar archive, not compressed, so that `tar` and whatever reads WebDataset
read it too: a member with the content of each example, byte for byte, and beside it,
under the same number, one with what is known of it, as JSON.
"""

import contextlib
import functools
import io
import json
import os
import tarfile
import threading
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

from keras_tl import errors, files
from keras_tl.data import remote

# Bytes of a block of a tar archive.
_BLOCK = 512
# Suffix of the members with what is known of an example.
ABOUT = ".json"
# Most shards of a folder that are open at a time: systems allow a process 256 or more.
MOST_OPEN = 64


@dataclass(frozen=True)
class Shard:
    """A file with examples.

    Attributes:
        file: Its name in the folder.
        bytes: Its size.
        sha256: Hash of its bytes, as hexadecimal digits.
    """

    file: str
    bytes: int
    sha256: str


@dataclass(frozen=True)
class Place:
    """Where an example stands.

    Attributes:
        shard: Number of its shard.
        offset: Where its content begins.
        size: Bytes of its content.
    """

    shard: int
    offset: int
    size: int


def write(
    folder: Path, examples: Iterable[tuple[str, dict, bytes]], most_bytes: float
) -> tuple[list[Shard], list[Place]]:
    """Write examples into shards, in their order.

    Args:
        folder: Folder that exists, without shards.
        examples: Suffix of each, but `ABOUT`; what is known of it, for JSON; and its
            content.
        most_bytes: Size of a shard that is not exceeded, unless by a single example.

    Returns:
        The shards, and the place of each example.

    Raises:
        InputError: The disk is full, or the folder cannot be written to.
    """
    shards, places = [], []
    examples = enumerate(examples)
    following = next(examples, None)
    while following is not None:
        path = folder / file_name(len(shards))
        with (
            files.atomic(path) as temporary,
            tarfile.open(temporary, "w", format=tarfile.USTAR_FORMAT) as archive,
        ):
            total = 0
            while following is not None:
                number, (suffix, about, content) = following
                known = json.dumps(about).encode()
                size = sum(map(_stored, (content, known)))
                if total and total + size > most_bytes:
                    break
                _add(archive, f"{number:08d}{suffix}", content)
                _add(archive, f"{number:08d}{ABOUT}", known)
                total += size
                following = next(examples, None)
        places += _places(path, len(shards))
        shards.append(Shard(path.name, path.stat().st_size, files.sha256(path)))
    return shards, places


def file_name(number: int) -> str:
    """Return the name of the file of a shard.

    >>> file_name(0)
    'shard-00000.tar'
    """
    return f"shard-{number:05d}.tar"


def _stored(content) -> int:
    """Return the bytes that a member takes, with its header."""
    return _BLOCK + -(-len(content) // _BLOCK) * _BLOCK


def _add(archive, name, content) -> None:
    member = tarfile.TarInfo(name)
    member.size = len(content)
    archive.addfile(member, io.BytesIO(content))


def _places(path, number) -> list[Place]:
    with tarfile.open(path, "r:") as archive:
        return [
            Place(number, member.offset_data, member.size)
            for member in archive
            if not member.name.endswith(ABOUT)
        ]


class Shards:
    """The shards of a folder, for several threads; each is checked when it is opened.

    Args:
        folder: The folder, a path or an address. A shard at an address is copied, once,
            into the cache on this machine, see `files.cache_folder`.
        shards: What `write` returned.
    """

    def __init__(self, folder: str, shards: tuple[Shard, ...]):
        self.folder, self.shards = folder, shards
        self._locks = [threading.Lock() for _ in shards]
        self._paths: dict[int, Path] = {}
        self._open = functools.lru_cache(MOST_OPEN)(self._opened)

    def __reduce__(self):
        return Shards, (self.folder, self.shards)

    def read(self, place: Place) -> bytes:
        """Return the content of an example.

        Raises:
            InputError: Its shard is absent, or is not the one that was written.
        """
        content = self._open(place.shard).read(place.size, place.offset)
        if len(content) < place.size:
            raise self._damaged(self.shards[place.shard])
        return content

    def _opened(self, number) -> "_Descriptor":
        with self._locks[number]:
            path = self._paths.get(number)
            if path is None or not path.is_file():  # Also where the cache was cleared.
                path = self._paths[number] = self._checked(self.shards[number])
            return _Descriptor(path)

    def _checked(self, shard) -> Path:
        """Return the file of a shard, on this machine, once its hash is right."""
        if remote.address(self.folder) is not None:
            return self._fetched(shard)
        path = Path(self.folder, shard.file)
        if not path.is_file():
            raise errors.InputError(
                f"The shard {path} is missing: copy it, or pack the data again."
            )
        if path.stat().st_size != shard.bytes or files.sha256(path) != shard.sha256:
            raise self._damaged(shard)
        return path

    def _fetched(self, shard) -> Path:
        path = _cache() / f"{shard.sha256}.tar"
        if path.is_file() and files.sha256(path) == shard.sha256:
            return path
        with contextlib.suppress(OSError):  # Said by the next line.
            path.parent.mkdir(parents=True, exist_ok=True)
        with files.atomic(path) as temporary:
            remote.fetch(self.folder, shard.file, temporary)
            if files.sha256(temporary) != shard.sha256:
                raise self._damaged(shard)
        return path

    def _damaged(self, shard) -> errors.InputError:
        return errors.InputError(
            f"The shard {self.folder}/{shard.file} is damaged, or of another pack: its "
            "SHA-256 is another one than when it was written. Copy it again, or pack "
            "the data again."
        )


def fetched() -> list[Path]:
    """List the shards that were copied from addresses into the cache."""
    # Names with a leading dot are unfinished files, perhaps of a killed process.
    return sorted(p for p in _cache().glob("*.tar") if not p.name.startswith("."))


def _cache() -> Path:
    return files.cache_folder() / "shards"


class _Descriptor:
    """An open file that is closed when no thread uses it any more."""

    def __init__(self, path):
        self._number = os.open(path, os.O_RDONLY)

    def read(self, size, offset) -> bytes:
        return os.pread(self._number, size, offset)

    def __del__(self):
        if hasattr(self, "_number"):
            os.close(self._number)


class Packed(type(Path())):
    """The path of an example in a pack: that of a file, but read from a shard."""

    __slots__ = ("_shards", "place")

    @classmethod
    def of(cls, path: Path, shards: Shards, place: Place) -> "Packed":
        """Return the path of the example at a place in some shards."""
        packed = cls(path)
        packed._shards, packed.place = shards, place
        return packed

    def __reduce__(self):
        return Packed.of, (Path(self), self._shards, self.place)

    def read_bytes(self) -> bytes:
        """Return the content of the example."""
        return self._shards.read(self.place)

    def open(self, mode: str = "r", **options) -> BinaryIO:
        """Open the example, to read bytes from it."""
        if mode != "rb" or options:
            raise ValueError(f"An example in a pack is read as bytes, not as {mode!r}.")
        return io.BytesIO(self.read_bytes())
