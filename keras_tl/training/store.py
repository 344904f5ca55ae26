"""Features of frozen layers, kept on disk: each example runs through a stem once.

A stem has a folder, named by a hash of all that its output depends on; an image has a
row in it, found by a hash of its pixels as the stem gets them. Another size, another
preprocessing, other weights are another folder or another row: nothing stale can be
found. Rows come in shards, files that are written in one step and never changed, so
that a killed run leaves whole shards, and two processes can write at once.
"""

import contextlib
import errno
import hashlib
import itertools
import json
import math
import os
import tempfile
import time
import uuid
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from keras_tl import errors, files

HASH_BYTES = 16
# Changes with the content of the files, so that no version reads those of another.
FORMAT = 2
# A shard is written when it has so many bytes, or its first row is so old: a process
# that is killed loses no more than that.
SHARD_BYTES, SHARD_SECONDS = 64 * 2**20, 20


@dataclass
class Cache:
    """A folder of features, and how much of it a run has used.

    Attributes:
        folder: Made when something is written to it.
        found: Number of examples whose features were there.
        made: Number of examples whose features had to be computed.
        seconds: Time that computing and reading them took.
    """

    folder: Path = field(default_factory=files.cache_folder)
    found: int = 0
    made: int = 0
    seconds: float = 0.0


def hash_rows(array: np.ndarray) -> list[bytes]:
    """Hash each row of an array.

    >>> same, other, again = hash_rows(np.uint8([[1, 2], [1, 3], [1, 2]]))
    >>> same == again, same == other
    (True, False)
    """
    rows = np.ascontiguousarray(array)
    # Rows of other shape or type are other rows, also where their bytes are the same.
    kind = hashlib.blake2b(
        f"{rows.dtype} {rows.shape[1:]} ".encode(), digest_size=HASH_BYTES
    )
    hashes = []
    for row in rows:
        one = kind.copy()
        one.update(row.tobytes())
        hashes.append(one.digest())
    return hashes


def check_usable(folder: Path) -> None:
    """Raise `OSError` unless files can be written into a folder and read again."""
    Path(folder).mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryFile(dir=folder) as file:
        file.write(b"x")


class Store:
    """The rows of one stem.

    Args:
        folder: Folder of all stems; made when the first shard is written.
        stem: Hash of everything that the rows depend on.
        shape: Shape of a row.
        dtype: Type of its numbers, any that numpy has or ml_dtypes adds.
        about: Description of the stem, for `keras-tl cache list`.
        input_shape: Shape of an example that the stem takes, for the same.
    """

    def __init__(
        self,
        folder: Path,
        stem: str,
        shape: tuple[int, ...],
        dtype: np.dtype | str,
        about: str = "",
        input_shape: tuple[int, ...] = (),
    ):
        self.folder = Path(folder) / stem
        self.shape, self.dtype = tuple(shape), np.dtype(dtype)
        self.about, self.input_shape = about, tuple(input_shape)
        self.row_bytes = math.prod(self.shape) * self.dtype.itemsize
        self._shards: list[np.ndarray] = []
        self._places: dict[bytes, tuple[int, int]] = {}
        self._new_hashes: list[bytes] = []
        self._new_rows: list[np.ndarray] = []
        for path in _shards(self.folder):
            if self._is_sound(path):
                self._open(path)

    def __contains__(self, key: bytes) -> bool:
        return key in self._places

    def __len__(self) -> int:
        return len(self._places)

    def add(self, keys: Sequence[bytes], rows: np.ndarray) -> None:
        """Add rows; they can be read at once, and are on disk after `flush`."""
        if not self._new_rows:
            self._started = time.monotonic()
        for key, row in zip(keys, rows, strict=True):
            self._places[key] = (-1, len(self._new_rows))
            self._new_hashes.append(key)
            self._new_rows.append(np.asarray(row, self.dtype))
        large = len(self._new_rows) * self.row_bytes >= SHARD_BYTES
        if large or time.monotonic() - self._started >= SHARD_SECONDS:
            self.flush()

    def flush(self) -> None:
        """Write the rows that were added since the last shard.

        Raises:
            InputError: The disk is full, or the folder cannot be written to.
        """
        if not self._new_rows:
            return
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise errors.StorageError(
                f"Cannot make the folder {self.folder}: {error.strerror or error}."
            ) from error
        if not (self.folder / "stem.json").exists():
            about = {"about": self.about, "input_shape": self.input_shape}
            row = {"shape": self.shape, "dtype": self.dtype.name}
            files.write_json(self.folder / "stem.json", about | row)
        path = self.folder / f"{uuid.uuid4().hex}.shard"
        with files.atomic(path) as temporary, open(temporary, "wb") as file:
            hashed = hashlib.blake2b(digest_size=HASH_BYTES)
            rows = (row.tobytes() for row in self._new_rows)
            for piece in itertools.chain(self._new_hashes, rows):
                file.write(piece)
                hashed.update(piece)
            file.write(hashed.digest())
        self._new_hashes, self._new_rows = [], []
        self._open(path)

    def rows(self, keys: Sequence[bytes]) -> "Rows":
        """Return the rows of some examples; each is read from disk when it is used.

        Raises:
            KeyError: A row that is not there.
        """
        self.flush()
        # A lookup counts as use: `keras-tl cache list` shows when.
        with contextlib.suppress(OSError):
            os.utime(self.folder / "stem.json")
        places = np.array([self._places[key] for key in keys], "int64").reshape(-1, 2)
        return Rows(self._shards, places, self.shape, self.dtype)

    def _is_sound(self, path):
        """Return whether a shard is whole; remove one that is damaged."""
        row = HASH_BYTES + self.row_bytes
        try:
            if path.is_dir():
                raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR))
            count, rest = divmod(path.stat().st_size - HASH_BYTES, row)
            sound = count > 0 and not rest and _is_whole(path)
        except FileNotFoundError:
            return False  # Another process has just cleared the cache.
        except OSError as error:
            errors.warn(
                f"A file of kept features cannot be read: {path} "
                f"({error.strerror or error}). Its features are computed again."
            )
            return False
        if not sound:
            errors.warn(
                f"A file of kept features is damaged: {path}. It is removed, and its "
                "features are computed again."
            )
            with contextlib.suppress(OSError):
                path.unlink()
        return sound

    def _open(self, path):
        row = HASH_BYTES + self.row_bytes
        count = (path.stat().st_size - HASH_BYTES) // row
        with open(path, "rb") as file:
            hashes = file.read(count * HASH_BYTES)
        shard = np.memmap(
            path, self.dtype, "r", count * HASH_BYTES, (count, *self.shape)
        )
        for index in range(count):
            key = hashes[index * HASH_BYTES : (index + 1) * HASH_BYTES]
            self._places[key] = (len(self._shards), index)
        self._shards.append(shard)


class Rows:
    """Rows of shards that stay on disk, indexed as an array is by its first axis."""

    def __init__(self, shards, places, shape, dtype):
        self._shards, self._places = shards, places
        self.shape, self.dtype = (len(places), *shape), dtype

    def __len__(self) -> int:
        return len(self._places)

    def __getitem__(self, indices) -> np.ndarray:
        """Read rows into memory, in the order of `indices`: a slice or integers."""
        places = self._places[indices]
        rows = np.empty((len(places), *self.shape[1:]), self.dtype)
        for shard in np.unique(places[:, 0]):
            wanted = places[:, 0] == shard
            rows[wanted] = self._shards[shard][places[wanted, 1]]
        return rows


@dataclass(frozen=True)
class Kept:
    """Size and use of the features of one stem.

    Attributes:
        folder: Where it is.
        about: Description of the stem.
        input_shape: Shape of an example; `()` where an earlier version kept it.
        shape: Shape of a row.
        images: Number of rows.
        size: Bytes on disk.
        used: When it was last used, in seconds since 1970.
    """

    folder: Path
    about: str
    input_shape: tuple[int, ...]
    shape: tuple[int, ...]
    images: int
    size: int
    used: float


def kept(folder: Path) -> list[Kept]:
    """List the stems of the cache, the last used first."""
    stems = []
    for path in Path(folder).glob("*/stem.json"):
        # Where it is damaged, only the list lacks these features.
        with contextlib.suppress(
            OSError, ValueError, LookupError, TypeError, AttributeError, ArithmeticError
        ):
            stem = json.loads(path.read_text(encoding="utf-8"))
            row = math.prod(stem["shape"]) * _item_size(stem["dtype"]) + HASH_BYTES
            sizes = [shard.stat().st_size for shard in _shards(path.parent)]
            stems.append(
                Kept(
                    path.parent,
                    stem["about"],
                    tuple(stem.get("input_shape", ())),
                    tuple(stem["shape"]),
                    sum(max(0, size - HASH_BYTES) // row for size in sizes),
                    sum(sizes),
                    path.stat().st_mtime,
                )
            )
    return sorted(stems, key=lambda one: -one.used)


def clear(folder: Path) -> int:
    """Remove everything that is in the cache, and nothing else; return the bytes freed.

    A run that is going on writes what it still makes, and loses nothing it has read.
    """
    freed = 0
    for path in Path(folder).glob("*/stem.json"):
        # Unfinished files begin with a dot.
        for file in [*path.parent.glob("*.shard"), path]:
            with contextlib.suppress(OSError):
                size = file.stat().st_size
                file.unlink()
                freed += size
        with contextlib.suppress(OSError):
            path.parent.rmdir()
    return freed


def _shards(folder):
    # Names with a leading dot are unfinished files, perhaps of a killed process.
    return sorted(p for p in folder.glob("*.shard") if not p.name.startswith("."))


def _is_whole(path):
    """Return whether the content of a shard has the hash at its end."""
    hashed = hashlib.blake2b(digest_size=HASH_BYTES)
    left = path.stat().st_size - HASH_BYTES
    with open(path, "rb") as file:
        while left:
            piece = file.read(min(left, 2**20))
            if not piece:
                return False
            hashed.update(piece)
            left -= len(piece)
        return file.read() == hashed.digest()


def _item_size(dtype: str) -> int:
    # bfloat16 is no type of numpy's own.
    return 2 if dtype == "bfloat16" else np.dtype(dtype).itemsize
