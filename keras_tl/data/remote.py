"""Folders at an address, such as s3://bucket/folder: their files, by fsspec."""

import contextlib
import re
from collections.abc import Iterator
from pathlib import Path

from keras_tl import errors

_ADDRESS = re.compile(r"((?:[\w+.-]+::)*[a-z][\w+.-]+):/+(.+)", re.IGNORECASE)
# Protocols of files on this machine, whose paths begin with a slash.
_LOCAL = ("file", "local")


def address(place: object) -> str | None:
    """Return the address that a place has; `None` for a path on this machine.

    A `Path` has lost one of the two slashes, which is put back.

    >>> address(Path("s3://bucket/folder")), address("photos"), address("C:/photos")
    ('s3://bucket/folder', None, None)
    """
    match = None
    if isinstance(place, str | Path):
        match = _ADDRESS.fullmatch(str(place))
    if match is None:
        return None
    protocol, rest = match.groups()
    root = "/" if protocol.rpartition("::")[2] in _LOCAL else ""
    return f"{protocol}://{root}{rest.rstrip('/')}"


def read(folder: str, name: str) -> bytes:
    """Return the content of a file in a folder at an address.

    Raises:
        InputError: It is not there, or cannot be read; or fsspec, or what it needs for
            the protocol, is not installed.
    """
    with _file(folder, name) as (system, path):
        return system.cat_file(path)


def fetch(folder: str, name: str, target: Path) -> None:
    """Copy a file in a folder at an address to `target`. See `read`."""
    with _file(folder, name) as (system, path):
        system.get_file(path, str(target))


@contextlib.contextmanager
def _file(folder, name) -> Iterator[tuple]:
    """Yield the file system of an address and the path of a file there."""
    errors.check_installed("fsspec", extra="remote")
    import fsspec

    where = f"{folder}/{name}"
    try:
        yield fsspec.core.url_to_fs(where)
    except FileNotFoundError as error:
        raise errors.InputError(
            f"There is no file {where}: an address must be that of the whole folder "
            "that `keras-tl pack` has written."
        ) from error
    except Exception as error:  # Each protocol raises errors of its own.
        raise errors.InputError(
            f"Cannot read {where}: {errors.reason(error)}."
        ) from error
