"""Kinds of files that hold one example each: how they are told apart and read.

Listing folders, reading tables and drawing splits ask a `Kind` for all that differs.
"""

import contextlib
import os
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

import numpy as np
import psutil

from keras_tl import errors
from keras_tl.data import images
from keras_tl.data.choices import Resize
from keras_tl.data.sources import NOUNS, ImageFiles, Source, Stored

if TYPE_CHECKING:
    from keras_tl.data.assembly import File, Options

# Files by which it is told what a folder holds.
_MOST_SEEN = 10_000


class Checked(Protocol):
    """Result of decoding a file, such as `images.Checked`.

    Attributes:
        problem: Why the file cannot be used, as the rest of a sentence that starts with
            its name; `None` for a file that can be used.
        hash: Hash of the example, whatever the format of the file.
        look: Perceptual hash of 64 bits, see `duplicates.near`.
        thumbnail: uint8 RGB `(16, 16, 3)`, see `duplicates.near`; `None` where only
            equal examples are copies.
        example: What is read for a model; `None` where it is decoded again later.
    """

    problem: str | None
    hash: bytes
    look: int
    thumbnail: np.ndarray | None
    example: np.ndarray | None


class Reader(Protocol):
    """How the files of a dataset are checked and read."""

    def check(self, content: bytes | str) -> Checked:
        """Check the content of a file, or of a cell with a text, by decoding it."""

    def source(self, files: "Sequence[File]") -> Source:
        """Return the examples of some files that have been checked."""

    def remarks(self, files: "Sequence[File]") -> list[tuple[str, list[Path], str]]:
        """Return what is probably not as intended.

        Returns:
            Description, the files, and a remedy, a sentence of its own; without files,
            the description is a sentence, too.
        """

    def describe(self, files: "Sequence[File]") -> str:
        """Describe the files for people, in sentences; mostly nothing."""


@dataclass(frozen=True)
class Kind:
    """A kind of files that hold one example each.

    Attributes:
        name: Kind of the examples, see `Source.kind`.
        noun: Name of one of them, for people.
        file: Name of a file, as an example.
        extensions: Suffixes of files that are read, in lower case.
        unread: Suffixes of files of the same kind that are not.
        format: Format to save those in.
        is_usable: Whether a file is one, by its name or first bytes.
        check_file: Decodes a file and returns its problems.
        reader: Returns how some files are read, under `assembly.Options`.
        is_unique: Whether equal examples under two labels, or in two splits, are a
            mistake: nobody takes the same photo twice, but many write the same words.
    """

    name: str
    noun: str
    file: str
    extensions: tuple[str, ...]
    unread: tuple[str, ...]
    format: str
    is_usable: Callable[[Path], bool]
    check_file: Callable[[Path], Checked]
    reader: "Callable[[Sequence[Path], Options], Reader]"
    is_unique: bool = True

    @property
    def nouns(self) -> str:
        """Name of several examples, for people."""
        return NOUNS[self.name]

    @property
    def layout(self) -> str:
        """How a folder of classes is laid out."""
        return (
            f"FOLDER/CLASS/{self.file}, or FOLDER/train/CLASS/{self.file} with or "
            "without validation/ and test/ beside train/"
        )


def most(kinds: Sequence[Kind], paths: Iterable[Path | str]) -> Kind:
    """Return the kind of most of some files, by their suffixes; else the first.

    Texts are only taken as examples where there is nothing else: notes and annotations
    often stand beside images.

    >>> most([IMAGE], ["a.txt", "b"]).name
    'image'
    """
    if len(kinds) == 1:
        return kinds[0]
    counts = Counter(os.path.splitext(path)[1].lower() for path in paths)

    def rank(kind):
        count = sum(counts[end] for end in kind.extensions)
        return count > 0 and kind.name != "text", count

    return max(kinds, key=rank)


def of_folder(folder: Path, kinds: Sequence[Kind]) -> Kind:
    """Return the kind of most files in a folder and those below it."""
    walk = os.walk(folder, followlinks=False)
    names = (name for _, _, names in walk for name in names if name[:1] != ".")
    return most(kinds, islice(names, _MOST_SEEN))


def has_room(size: int) -> bool:
    """Return whether a number of bytes fit into a quarter of the free memory."""
    return size <= 0.25 * psutil.virtual_memory().available


def kept(source: Source, files: "Sequence[File]") -> Source:
    """Return a source with the examples that were kept when its files were checked."""
    if not files or any(file.checked.example is None for file in files):
        return source
    return Stored(source, np.stack([f.checked.example for f in files]), source.kind)


def known(files: "Sequence[File]") -> tuple[tuple[bytes, bytes], ...]:
    """Return the hashes of files that have been checked; see `sources.Files`."""
    return tuple((bytes.fromhex(file.sha256), file.checked.hash) for file in files)


# Width of an image over its height, or the reverse, from which it is called narrow: the
# centred square is less than a quarter of it.
_NARROW = 4


@dataclass(frozen=True)
class _Images:
    """Reads image files, see `Reader`.

    Attributes:
        image_size: Side of the squares that are kept; `None` keeps none.
        resize: How an image becomes a square, see `images.decode`.
    """

    image_size: int | None
    resize: Resize

    def check(self, content):
        return images.check(content, self.image_size, self.resize)

    def source(self, files):
        paths = tuple(file.path for file in files)
        images = ImageFiles(paths, self.image_size, self.resize, known=known(files))
        return kept(images, files)

    def remarks(self, files):
        sides = [(file.path, file.checked.size) for file in files]
        narrow = [path for path, size in sides if max(size) > _NARROW * min(size)]
        remarks = []
        if narrow:
            about = (
                f"Images more than {_NARROW} times as long as wide, of which models "
                "see only the square in the middle"
            )
            remarks.append(
                (about, narrow, "Cut them into squares, if the rest matters.")
            )
        few_bits = images.few_bits([file.checked for file in files])
        if few_bits is not None:
            remarks.append((few_bits[0], [], few_bits[1]))
        return remarks

    def describe(self, files):
        return ""


def _images(paths, options) -> _Images:
    size = options.image_size
    if callable(size):
        size = size(len(paths), _shorter_side(paths))
    if size is not None and not has_room(len(paths) * size**2 * 3):
        size = None
    return _Images(size, options.resize)


def _shorter_side(paths, most=100) -> float:
    """Return the shorter side of images, the median over some of them."""
    sides = []
    for path in paths[:: max(1, len(paths) // most)]:
        with contextlib.suppress(errors.InputError):
            sides.append(min(images.size(path)))
    return float(np.median(sides)) if sides else 1.0


IMAGE = Kind(
    "image",
    "image",
    "image.jpg",
    images.EXTENSIONS,
    images.UNREAD_EXTENSIONS,
    "JPEG",
    images.is_image,
    images.check_file,
    _images,
)
