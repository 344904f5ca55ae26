"""Run folders, atomic writes, fingerprints, and where caches are."""

import atexit
import contextlib
import csv
import errno
import hashlib
import io
import itertools
import json
import os
import shlex
import shutil
import socket
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import BinaryIO

from keras_tl import errors

# Begins the names of files and folders until they are done.
_UNFINISHED = ".unfinished-"


@contextlib.contextmanager
def atomic(path: Path | str) -> Iterator[Path]:
    """Yield a temporary path that becomes `path` only if no error occurs.

    A reader sees the old file or the new one, never a part: the bytes are flushed
    to disk and moved into place in one step. On any error the temporary file is
    removed and the old file stays.

    Raises:
        StorageError: The disk is full, or the folder cannot be written to.

    >>> with tempfile.TemporaryDirectory() as folder:
    ...     with atomic(Path(folder) / "a.txt") as temporary:
    ...         _ = temporary.write_text("whole")
    ...     (Path(folder) / "a.txt").read_text()
    'whole'
    """
    path = Path(path)
    try:
        # The suffixes are kept, such as .weights.h5: Keras chooses the format by them.
        suffix = "".join(path.suffixes)
        handle, name = tempfile.mkstemp(
            prefix=f"{_UNFINISHED}{path.name.removesuffix(suffix)}-",
            suffix=suffix,
            dir=path.parent,
        )
        os.close(handle)
    except OSError as error:
        raise errors.StorageError(_cannot_write(path, error)) from error
    temporary = Path(name)
    try:
        yield temporary
        with open(temporary, "rb+") as file:
            os.fsync(file.fileno())
        # mkstemp makes files for the owner alone; give them the usual mode.
        umask = os.umask(0)
        os.umask(umask)
        os.chmod(temporary, 0o666 & ~umask)
        os.replace(temporary, path)
    except OSError as error:
        raise errors.StorageError(_cannot_write(path, error)) from error
    finally:
        temporary.unlink(missing_ok=True)


@contextlib.contextmanager
def atomic_folder(path: Path | str) -> Iterator[Path]:
    """Yield a temporary folder that becomes the new folder `path` if no error occurs.

    On any error it is removed, and `path` does not exist.

    Raises:
        InputError: `path` exists already or cannot be made, or the disk is full.

    >>> with tempfile.TemporaryDirectory() as parent:
    ...     with atomic_folder(Path(parent) / "new") as temporary:
    ...         _ = (temporary / "a.txt").write_text("whole")
    ...     os.listdir(parent), os.listdir(Path(parent) / "new")
    (['new'], ['a.txt'])
    """
    path = Path(path)
    check_new(path)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        prefix = f"{_UNFINISHED}{path.name}-"
        temporary = Path(tempfile.mkdtemp(prefix=prefix, dir=path.parent))
    except OSError as error:
        raise errors.StorageError(_cannot_write(path, error)) from error
    try:
        yield temporary
        umask = os.umask(0)
        os.umask(umask)
        os.chmod(temporary, 0o777 & ~umask)
        check_new(path)
        os.rename(temporary, path)
    except OSError as error:
        if error.errno in (errno.EEXIST, errno.ENOTEMPTY):
            check_new(path)  # Of two at the same moment, one is the first.
        raise errors.StorageError(_cannot_write(path, error)) from error
    except errors.StorageError as error:
        # Nobody knows the folder by that name.
        message = str(error).replace(str(temporary), str(path))
        raise errors.StorageError(message) from error
    finally:
        shutil.rmtree(temporary, ignore_errors=True)


def remove_unfinished(folder: Path | str) -> None:
    """Remove what `atomic` was writing into a folder when its process was killed.

    Nobody else may be writing there: see `lock`.
    """
    for path in Path(folder).rglob(f"{_UNFINISHED}*"):
        with contextlib.suppress(OSError):
            path.unlink()


# Open files of the locks of this process, which has them until it ends.
_LOCKS: list[int] = []


def lock(path: Path | str) -> str | None:
    """Lock a file for this process until it ends, in whatever way.

    The system releases the lock of a process that was killed, also on another machine.
    Where the file system has no locks, nothing is locked.

    Args:
        path: The file; made where it does not exist.

    Returns:
        `None`, or the process that has the lock, for people.

    >>> with tempfile.TemporaryDirectory() as folder:
    ...     lock(Path(folder) / "lock"), lock(Path(folder) / "lock")
    (None, None)
    """
    try:
        import fcntl
    except ImportError:  # Windows has another kind.
        return None
    try:
        handle = os.open(path, os.O_RDWR | os.O_CREAT, 0o666)
    except OSError as error:
        raise errors.StorageError(_cannot_write(Path(path), error)) from error
    try:
        # Of the process, not of the open file: it may lock the file twice.
        fcntl.lockf(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except (BlockingIOError, PermissionError):
        owner = os.read(handle, 200).decode(errors="replace").strip()
        os.close(handle)
        return owner or "another process"
    except OSError:
        os.close(handle)
        return None
    _LOCKS.append(handle)
    with contextlib.suppress(OSError):
        owner = f"process {os.getpid()} on {socket.gethostname()}\n".encode()
        os.pwrite(handle, owner, 0)
        os.truncate(handle, len(owner))
    return None


def _cannot_write(path: Path, error: OSError) -> str:
    kept = " The file that was there is unchanged." if path.exists() else ""
    return f"Cannot write {path}: {error.strerror or error}.{kept}"


def printable(name: str) -> str:
    """Return a name as every file can hold it.

    Python reads the bytes of a file's name that are no UTF-8 as lone surrogates, which
    cannot be written; they become their escape sequences, as in the JSON files.

    >>> printable("caf\\udce9")
    'caf\\\\udce9'
    """
    return str(name).encode("utf-8", "backslashreplace").decode("utf-8")


def quoted(path: Path | str) -> str:
    """Return a path as it is typed in a shell.

    >>> quoted("my photos/run")
    "'my photos/run'"
    """
    return shlex.quote(printable(path))


def write_text(path: Path | str, text: str) -> None:
    """Write `text` as UTF-8 to `path` in one step. See `atomic` and `printable`."""
    with atomic(path) as temporary:
        temporary.write_text(text, encoding="utf-8", errors="backslashreplace")


def write_json(path: Path | str, value: object) -> None:
    """Write `value` as indented JSON to `path` in one step. See `atomic`."""
    write_text(path, json.dumps(value, indent=2) + "\n")


def write_csv(path: Path | str, rows: Sequence[Mapping]) -> None:
    """Write `rows` as CSV to `path` in one step. See `atomic`.

    The columns are all names in the rows, in the order of their first appearance; what
    a row lacks is empty.
    """
    columns = list(dict.fromkeys(name for row in rows for name in row))
    with (
        atomic(path) as temporary,
        open(
            temporary, "w", newline="", encoding="utf-8", errors="backslashreplace"
        ) as file,
    ):
        writer = csv.DictWriter(file, columns)
        writer.writeheader()
        writer.writerows(rows)


def read_json(path: Path | str):
    """Read a JSON file.

    Raises:
        InputError: The file is absent or holds no JSON.
    """
    try:
        return json.loads(Path(path).read_text(encoding="utf-8"))
    except OSError as error:
        reason = error.strerror or error
        raise errors.InputError(f"Cannot read {path}: {reason}.") from error
    # Python gives up on arrays within arrays at some depth.
    except (ValueError, RecursionError) as error:
        raise errors.InputError(f"{path} holds no valid JSON: {error}.") from error


def new_folder(path: Path | str) -> Path:
    """Make a folder that did not exist; nothing is ever overwritten.

    Raises:
        InputError: `path` exists already, or cannot be made.
    """
    path = Path(path)
    check_new(path)
    try:
        path.mkdir(parents=True, exist_ok=False)
    except FileExistsError:
        check_new(path)
    except OSError as error:
        raise errors.InputError(
            f"Cannot make the folder {path}: {error.strerror or error}."
        ) from error
    return path


def check_new(path: Path | str) -> None:
    """Raise `InputError` when `path` exists already."""
    if os.path.lexists(path):
        raise errors.expected(
            "out",
            "name what does not exist yet",
            str(path),
            "Nothing is overwritten: choose another name, or move that one away.",
        )


def scratch_folder() -> Path:
    """Make a temporary folder that is removed when the program ends.

    Raises:
        InputError: It cannot be made.
    """
    try:
        folder = Path(tempfile.mkdtemp(prefix="keras_tl-"))
    except OSError as error:
        raise errors.InputError(
            f"Cannot make a temporary folder: {error.strerror or error}."
        ) from error
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    return folder


def copy_folder(source: Path | str, target: Path) -> None:
    """Copy all files of a folder into another, but those that vanish meanwhile.

    Raises:
        InputError: A file cannot be read or written.
    """

    def copy(one, other):
        with contextlib.suppress(FileNotFoundError):
            shutil.copy2(one, other)

    try:
        shutil.copytree(source, target, copy_function=copy, dirs_exist_ok=True)
    except OSError as error:
        raise errors.InputError(f"Cannot copy {source}: {error}.") from error


def fingerprint_of_folder(folder: Path | str) -> str:
    """Return the number of files in a folder, and a hash of their names and sizes.

    >>> fingerprint_of_folder("no_such_folder")
    '0 files, 71857576257465c7'
    """
    folder = Path(folder)
    sizes = sorted(
        (path.relative_to(folder).as_posix(), path.stat().st_size)
        for path in folder.rglob("*")
        if path.is_file()
    )
    digest = hashlib.blake2b(repr(sizes).encode(), digest_size=8).hexdigest()
    return f"{errors.counted(len(sizes), 'file')}, {digest}"


def next_file(path: Path | str) -> Path:
    """Return the first of `plan.json`, `plan-2.json`, ... that does not exist.

    The name may be that of a folder.

    >>> next_file("no_such_folder/plan.json").name
    'plan.json'
    """
    return next(_numbered(Path(path)))


def _numbered(path: Path) -> Iterator[Path]:
    """Yield a path, and the same with the numbers from 2 on, where none exists."""
    numbers = (f"-{number}" for number in itertools.count(2))
    for number in itertools.chain([""], numbers):
        numbered = path.with_name(f"{path.stem}{number}{path.suffix}")
        if not os.path.lexists(numbered):
            yield numbered


def content(file: Path | str | bytes) -> bytes:
    """Return the content of a file, given as its path, or as the content itself.

    >>> content(b"abc")
    b'abc'
    """
    if isinstance(file, bytes):
        return file
    # Not all paths are those of files: see `data.shards.Packed`.
    return (file if isinstance(file, Path) else Path(file)).read_bytes()


def opened(file: Path | str | bytes) -> BinaryIO:
    """Open a file, given as its path, or as its content, to read bytes from it.

    >>> with opened(b"abc") as file:
    ...     file.read(2)
    b'ab'
    """
    if isinstance(file, bytes):
        return io.BytesIO(file)
    return (file if isinstance(file, Path) else Path(file)).open("rb")


def cache_folder() -> Path:
    """Return `$KERAS_TL_CACHE`, or a folder in the user's cache, for what is kept."""
    if "KERAS_TL_CACHE" in os.environ:
        return Path(os.environ["KERAS_TL_CACHE"])
    if os.environ.get("XDG_CACHE_HOME"):
        return Path(os.environ["XDG_CACHE_HOME"], "keras_tl")
    home = os.path.expanduser("~")
    # A user of a container may have no home at all.
    parent = tempfile.gettempdir() if home == "~" else Path(home, ".cache")
    return Path(parent, "keras_tl")


def sha256(path: Path | str) -> str:
    """Hash the bytes of a file, as 64 hexadecimal digits.

    Raises:
        InputError: The file cannot be read.
    """
    try:
        with open(path, "rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()
    except OSError as error:
        reason = error.strerror or error
        raise errors.InputError(f"Cannot read {path}: {reason}.") from error
