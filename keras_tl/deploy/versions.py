"""The line of a run and its updates: which version is in use, and the way back.

An update is a run of its own, whose manifest names the run that it updates. The first
run of such a line has one further file, `current.json`, that names the version in use.
It is replaced in one step: whoever reads it finds the version of before or the new one.
"""

import os
from dataclasses import dataclass
from pathlib import Path

from keras_tl import errors, files
from keras_tl.deploy import artifact

FILE = "current.json"


@dataclass(frozen=True)
class Version:
    """A version of a line of runs.

    Attributes:
        folder: Folder of the run.
        number: 1 for the first run; each update has a number of its own.
    """

    folder: Path
    number: int


def first(run: Path | str) -> Path:
    """Return the first run of the line that a run belongs to.

    Raises:
        InputError: No finished run.
    """
    run = Path(run)
    origin = _origin(artifact.read_manifest(run))
    return run if origin is None else _beside(run, origin["first"])


def current(run: Path | str) -> Version:
    """Return the version in use of the line that a run belongs to.

    Args:
        run: Folder of any run of the line; of a run without updates, it is that.

    Raises:
        InputError: No finished run, or the version in use is not where it was.
    """
    start = first(run)
    state = _state(start)
    folder = _beside(start, state["run"])
    sha256 = artifact.read_manifest(folder).get("model_sha256")
    if state["model_sha256"] not in (None, sha256):
        raise errors.InputError(
            f"{start / FILE} names {folder} as the version in use, and another model "
            "is there now."
        )
    return Version(folder, state["version"])


def other_in_use(run: Path | str) -> Version | None:
    """Return the version in use where it is another one than a run; else `None`.

    Raises:
        InputError: See `current`.
    """
    used = current(run)
    return None if used.folder.resolve() == Path(run).resolve() else used


def about_use(run: Path | str) -> str | None:
    """Return a sentence on the version in use where it is another one; else `None`."""
    try:
        used = other_in_use(run)
    except errors.InputError:
        return None
    return used and (
        f"{run} is what is used here; the version in use is {used.number}, "
        f"{os.path.relpath(used.folder)}."
    )


def next_number(run: Path | str) -> int:
    """Return the number that the next update of a line gets."""
    return _state(first(run))["latest"] + 1


def origin(run: Path | str, new: Path | str) -> dict:
    """Describe the run that an update begins with, for the manifest of the update.

    Args:
        run: Folder of the run that is updated.
        new: Folder of the update; paths are relative to it, so that both can move.
    """
    return {
        "run": _relative(run, new),
        "first": _relative(first(run), new),
        "model_sha256": artifact.read_manifest(Path(run)).get("model_sha256"),
    }


def add(run: Path | str, *, use: bool) -> None:
    """Add an update to its line.

    Args:
        run: Folder of the update, whose manifest is written.
        use: Whether it becomes the version in use.

    Raises:
        InputError: No update, or the folder of the first run cannot be written to.
    """
    run = Path(run)
    manifest = artifact.read_manifest(run)
    if _origin(manifest) is None:
        raise errors.expected("run", "be an update of another run", str(run))
    start = first(run)
    state = _state(start)
    number = manifest["version"]
    state["latest"] = max(state["latest"], number)
    if use:
        state |= _entry(start, run, number)
    files.write_json(start / FILE, state)


def roll_back(run: Path | str) -> tuple[Version, Version]:
    """Go back from the version in use to the one that it was made from.

    Args:
        run: Folder of any run of the line.

    Returns:
        The version that was in use, and the one that is now.

    Raises:
        InputError: The first version is in use, or the one before is not there.
    """
    before = current(run)
    start = first(run)
    made_from = _origin(artifact.read_manifest(before.folder))
    if made_from is None:
        raise errors.InputError(
            f"{before.folder} is the first version and the one in use: there is none "
            "to go back to."
        )
    folder = _beside(before.folder, made_from["run"])
    manifest = artifact.read_manifest(folder)
    if manifest.get("model_sha256") != made_from["model_sha256"]:
        raise errors.InputError(
            f"{folder} has another model than the one that {before.folder} was made "
            "from: it cannot be gone back to."
        )
    number = manifest.get("version", 1)
    files.write_json(start / FILE, _state(start) | _entry(start, folder, number))
    return before, Version(folder, number)


def _entry(start, run, number) -> dict:
    return {
        "run": _relative(run, start),
        "version": number,
        "model_sha256": artifact.read_manifest(run).get("model_sha256"),
    }


def _state(start) -> dict:
    """Read `current.json`; without it the first run is in use."""
    path = start / FILE
    if not path.exists():
        return {"run": ".", "version": 1, "latest": 1, "model_sha256": None}
    state = files.read_json(path)
    kinds = {"run": str, "version": int, "latest": int}
    if not isinstance(state, dict) or not all(
        isinstance(state.get(name), kind) for name, kind in kinds.items()
    ):
        raise errors.InputError(
            f"{path} does not name the version in use. Remove it to use {start} again."
        )
    return {"model_sha256": None, **state}


def _origin(manifest) -> dict | None:
    made_from = manifest.get("updated_from")
    if made_from is None:
        return None
    names = ("run", "first", "model_sha256")
    if not isinstance(made_from, dict) or not all(
        isinstance(made_from.get(name), str) for name in names
    ):
        raise errors.InputError(
            "The manifest of an update must name the run that it was made from."
        )
    return made_from


def _relative(run, folder) -> str:
    return Path(os.path.relpath(Path(run).resolve(), Path(folder).resolve())).as_posix()


def _beside(run, relative) -> Path:
    """Return a folder that is named as seen from that of a run."""
    return Path(os.path.relpath((Path(run).resolve() / relative).resolve()))
