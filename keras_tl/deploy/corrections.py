"""Keep labelled examples that users of the server have corrected."""

import csv
import hashlib
import threading
from pathlib import Path

from keras_tl import errors, files
from keras_tl.data import images

# Most examples of a folder: whoever may correct cannot fill the disk.
MOST = 10_000
# Usual suffix of each format that is read.
_SUFFIXES = {"JPEG": ".jpg", "MPO": ".jpg", "TIFF": ".tif", "HEIF": ".heic"}


class Corrections:
    """A folder of corrected examples, which `--data` takes as it is.

    `labels.csv` has a row for each: the image, or the text, and its label; images are
    beside it, in `images`. An image is stored under the hash of its content, and one
    that is corrected again replaces its label. Each file is written in one step, the
    table last: a process that is killed leaves the table of before or after.

    Args:
        folder: Made with the first correction.
        kind: "image" or "text".
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
        self._lock = threading.Lock()

    @property
    def table(self) -> Path:
        """The table of the examples and their labels."""
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
                raise errors.InputError("`label` must be a class of the model.")

    def add(self, example: bytes | str, label: list[str]) -> int:
        """Keep an example with its label.

        Args:
            example: An image file that was decoded, or a text.
            label: See `check`.

        Returns:
            The number of examples that are kept now.

        Raises:
            InputError: A label that cannot be learned, a folder that is full or cannot
                be written to.
        """
        self.check(label)
        with self._lock:
            rows = self.read()
            if self.kind == "text":
                name = example
            else:
                name = f"images/{hashlib.sha256(example).hexdigest()[:32]}"
                name += _suffix(example)
            if name not in rows and len(rows) >= MOST:
                raise errors.InputError(f"{MOST:,} corrections are kept, and no more.")
            if self.kind == "image":
                self._write_image(self.folder / name, example)
            self.folder.mkdir(parents=True, exist_ok=True)
            columns = self._columns()
            values = label if self.activation == "linear" else ["|".join(label)]
            rows[name] = dict(zip(columns, [name, *values], strict=True))
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

    def _write_image(self, path, content):
        path.parent.mkdir(parents=True, exist_ok=True)
        if not path.exists():
            with files.atomic(path) as temporary:
                temporary.write_bytes(content)


def _is_number(text) -> bool:
    try:
        return abs(float(text)) < float("inf")
    except ValueError:
        return False


def _suffix(content) -> str:
    kind = images.header(content).format
    return _SUFFIXES.get(kind, f".{kind.lower()}")
