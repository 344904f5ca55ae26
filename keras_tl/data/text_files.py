"""Texts in files of their own, and in the rows of tables, as a kind of examples."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from keras_tl import errors, files
from keras_tl.data import languages, text
from keras_tl.data.kinds import Kind
from keras_tl.data.text import Texts

if TYPE_CHECKING:
    from keras_tl.data.assembly import File


@dataclass(frozen=True)
class Checked:
    """Result of reading a text.

    Attributes:
        problem: Why the text cannot be used, as the rest of a sentence that starts with
            its name; `None` for a text that can be used.
        text: The text.
        hash: Hash of the text; equal are those that differ in case and white space
            alone.
    """

    problem: str | None
    text: str = field(default="", repr=False)
    hash: bytes = b""

    # Copies of texts are equal texts: nothing else is compared.
    look = 0
    thumbnail = None
    example = None


def check(content: bytes | str, encoding: str = "utf-8") -> Checked:
    """Check a text.

    Args:
        content: The text, or the content of a file with nothing else in it.
        encoding: See `text.read_file`.

    >>> check("good").problem, check(b" ").problem
    (None, 'is empty')
    """
    if isinstance(content, bytes):
        try:
            content = text.decode(content, encoding)
        except errors.InputError as error:
            return Checked(str(error).rstrip("."))
    if not content.strip():
        return Checked("is empty")
    return Checked(None, content, text.hash_of(content))


def check_file(path: Path | str) -> Checked:
    """Check a file of one text. See `check`."""
    try:
        return check(files.content(path))
    except OSError as error:
        return Checked(f"cannot be read: {error.strerror or error}")


@dataclass(frozen=True)
class _Reader:
    """Reads texts, see `kinds.Reader`."""

    encoding: str

    def check(self, content):
        return check(content, self.encoding)

    def source(self, files):
        texts = tuple(file.checked.text for file in files)
        return Texts(texts, tuple(str(file.path) for file in files))

    def remarks(self, files):
        return []

    def describe(self, files: "Sequence[File]") -> str:
        return languages.describe([file.checked.text for file in files])


TEXT = Kind(
    "text",
    "text",
    "text.txt",
    (".txt",),
    (".doc", ".docx", ".odt", ".pdf", ".rtf"),
    "plain text",
    lambda path: path.suffix.lower() == ".txt",
    check_file,
    lambda paths, options: _Reader(options.encoding),
    is_unique=False,
)
