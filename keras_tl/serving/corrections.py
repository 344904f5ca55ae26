"""Keep labelled examples that users of the server have corrected."""

import csv
import hashlib
import os
import threading
from pathlib import Path

from keras_tl import errors, files
from keras_tl.data import images, sound_files
from keras_tl.data.sources import NOUNS

# Most examples of a folder: whoever may correct cannot fill the disk.
MOST = 10_000
# Most classes that a refusal names.
_MOST_NAMED = 20
# Usual suffix of each format that is read.
_SUFFIXES = {"JPEG": ".jpg", "MPO": ".jpg", "TIFF": ".tif", "HEIF": ".heic"}


class Corrections:
    """A folder of corrected examples, which `--data` takes as it is.

    Images of one class each are `CLASS/HASH.jpg`, clips `CLASS/HASH.wav`, by the hash
    of their content; one that is corrected again moves to the folder of its new class.
    Other examples are rows of `labels.csv`: the image, in `images`, the clip, in
    `clips`, or the text, and its label. Each file
    is written in one step, the table last: a process that is killed leaves what was
    before or after.

    Args:
        folder: Made with the first correction.
        kind: "image", "audio" or "text".
        class_names: Labels that may be given.
        activation: That of the model: with "softmax" an example has one label, with
            "sigmoid" one or more, with "linear" a number for each name.
    """

    def __init__(
        self, folder: Path, kind: str, class_names: tuple[str, ...], activation: str
    ):
        self.folder = folder
        self.kind = kind
        self.class_names = class_names
        self.activation = activation
        self._in_folders = (
            kind != "text" and activation == "softmax" and _are_folders(class_names)
        )
        self._lock = threading.Lock()

    @property
    def table(self) -> Path:
        """The table of the examples, where they are not in folders."""
        return self.folder / "labels.csv"

    def check(self, label: list[str]) -> None:
        """Raise `InputError` for a label that the model cannot learn."""
        if self.activation == "linear":
            if len(label) != len(self.class_names) or not all(map(_is_number, label)):
                names = ", ".join(self.class_names)
                raise errors.InputError(
                    f"`label` must be a number for each of {names}."
                )
            return
        if self.activation == "softmax" and len(label) != 1:
            raise errors.InputError("`label` must be one class.")
        for one in label:
            if one not in self.class_names:
                names = ", ".join(self.class_names[:_MOST_NAMED])
                more = ", ..." if len(self.class_names) > _MOST_NAMED else ""
                raise errors.InputError(
                    f"`label` must be a class of the model ({names}{more}); a new one "
                    "needs keras-tl update."
                )

    def add(self, example: bytes | str, label: list[str]) -> int:
        """Keep an example with its label.

        Args:
            example: A file of an image or a clip that was decoded, or a text.
            label: See `check`.

        Returns:
            The number of examples that are kept now.

        Raises:
            InputError: A label that cannot be learned, a folder that is full or cannot
                be written to.
        """
        self.check(label)
        with self._lock:
            if self._in_folders:
                return self._add_to_folder(example, *label)
            return self._add_to_table(example, label)

    def _add_to_folder(self, content, label) -> int:
        name = self._name(content)
        kept = {path.name: path for path in self.folder.glob("*/[!.]*")}
        _check_room(name, kept)
        place = self.folder / label / name
        _make(place.parent)
        if name in kept:
            os.replace(kept[name], place)
        else:
            with files.atomic(place) as temporary:
                temporary.write_bytes(content)
        return len(kept | {name: place})

    def _add_to_table(self, example, label) -> int:
        rows = self.read()
        name, folder = example, NOUNS[self.kind]
        if self.kind != "text":
            name = f"{folder}/{self._name(example)}"
        _check_room(name, rows)
        _make(self.folder)
        if self.kind != "text":
            _make(self.folder / folder)
            with files.atomic(self.folder / name) as temporary:
                temporary.write_bytes(example)
        values = label if self.activation == "linear" else ["|".join(label)]
        rows[name] = dict(zip(self._columns(), [name, *values], strict=True))
        files.write_csv(self.table, list(rows.values()))
        return len(rows)

    def read(self) -> dict[str, dict[str, str]]:
        """Return the rows of the table by their example.

        Raises:
            InputError: The table is of another model, or cannot be read.
        """
        if not self.table.exists():
            return {}
        columns = self._columns()
        with open(self.table, newline="", encoding="utf-8") as file:
            reader = csv.DictReader(file)
            if reader.fieldnames != columns:
                raise errors.InputError(
                    f"{self.table} must have the columns {', '.join(columns)}."
                )
            return {row[columns[0]]: row for row in reader}

    def _columns(self) -> list[str]:
        labels = self.class_names if self.activation == "linear" else ["label"]
        return [self.kind, *labels]

    def _name(self, content) -> str:
        """Return the name of a file: the hash of its content, and its usual suffix."""
        if self.kind == "audio":
            suffix = sound_files.format_of(content)
        else:
            format = images.header(content).format
            suffix = _SUFFIXES.get(format, f".{format.lower()}")
        return f"{hashlib.sha256(content).hexdigest()[:32]}{suffix}"


def _are_folders(class_names) -> bool:
    """Return whether each name can be that of a folder, and of one alone."""
    plain = [
        name[:1] not in ("", ".")
        and not set(name) & set('/\\:*?"<>|\0')
        # Most file systems have names of up to 255 bytes.
        and len(name.encode("utf-8", "replace")) < 200
        and name.isprintable()
        for name in class_names
    ]
    return all(plain) and len({name.casefold() for name in class_names}) == len(plain)


def _check_room(name, kept):
    if name not in kept and len(kept) >= MOST:
        raise errors.InputError(f"{MOST:,} corrections are kept, and no more.")


def _make(folder):
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        reason = error.strerror or error
        raise errors.InputError(f"Cannot make {folder}: {reason}.") from error


def _is_number(text) -> bool:
    try:
        return abs(float(text)) < float("inf")
    except ValueError:
        return False
