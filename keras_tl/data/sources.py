"""Sequences of examples that are read by index, whatever the examples are.

A `Source` reads examples, keeps some of them, hashes them, and knows what a model and a
person need to know of them. A change, such as another image size or augmentation, is a
source around a source; nobody asks a source for its class.
"""

import hashlib
import os
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Protocol

import numpy as np

from keras_tl import errors, files, progress
from keras_tl.data import images
from keras_tl.data.choices import NOUNS, Resize

# What `read` returns: one array, or one for each input of a model with several.
Examples = np.ndarray | dict[str, np.ndarray]
Indices = Sequence[int] | np.ndarray
# An image: the path of its file, the content of the file, or its pixels.
Image = str | os.PathLike | bytes | np.ndarray


class Source(Protocol):
    """A sequence of examples.

    Attributes:
        kind: Kind of the examples: "image", "audio", "text" or "features".
    """

    kind: str

    def __len__(self) -> int:
        """Return the number of examples."""

    def read(self, indices: Indices) -> Examples:
        """Read some examples, in the order of `indices`, as the model takes them."""

    def digest(self) -> str:
        """Hash the content of all examples, in their order, as hexadecimal digits."""

    def hashes(self) -> list[bytes]:
        """Hash the content of each example, in their order."""
        hashes = []
        for start in range(0, len(self), 256):
            count = min(256, len(self) - start)
            examples = self.read(range(start, start + count))
            hashes += [_hash(examples, index) for index in range(count)]
        return hashes

    def take(self, indices: Indices) -> "Source":
        """Keep only the examples at `indices`, in that order."""
        return Selection(self, np.asarray(indices, "int64"))

    def at_size(self, image_size: int, resize: Resize | None = None) -> "Source":
        """Return the same images, read as squares of `image_size` pixels.

        Args:
            image_size: Side of the squares.
            resize: How an image becomes a square, see `images.decode`; `None` leaves
                that as it is.

        Raises:
            InputError: The examples are no images.
        """
        raise errors.InputError(
            f"`image_size` sets the size of images. Received: examples of the kind "
            f"{self.kind!r}, which have none."
        )

    def in_memory(self) -> np.ndarray | None:
        """Return all examples as one array, as `read` would, if there is one."""
        return None

    def preview(self, indices: Indices, side: int = 128) -> Sequence | None:
        """Return some examples in a form that a report can show.

        Returns:
            uint8 images `(count, rows, columns, 3)` of at most `side` pixels a side, a
            list of texts, or `None` where there is nothing to look at.
        """
        return None

    def names(self, indices: Indices) -> list[str] | None:
        """Return the names of some examples, such as those of their files.

        Returns:
            One text for each of `indices`; `None` where examples have no names.
        """
        return None

    def files(self, indices: Indices) -> list[Path] | None:
        """Return the files of some examples, to be read with `files.content`.

        Returns:
            One path for each of `indices`; `None` where examples are in no files of
            their own.
        """
        return None

    def sizes(self, indices: Indices) -> list[tuple[int, int]] | None:
        """Return width and height of some images in pixels, before any resizing.

        Returns:
            One pair for each of `indices`; `None` where examples are no images.
        """
        return None

    def input_spec(self) -> dict:
        """Describe the input of a model for these examples, ready for JSON."""
        return {"kind": self.kind}

    def save(self, folder: Path) -> None:
        """Write what predictions need besides the model, such as a tokenizer."""


def _hash(examples, index) -> bytes:
    values = examples.values() if isinstance(examples, dict) else [examples]
    digest = hashlib.blake2b(digest_size=16)
    for value in values:
        row = np.asarray(value[index])
        # Strings have the width of the longest of their array.
        digest.update(
            str(row).encode("utf-8", "surrogatepass")
            if row.dtype.kind in "UO"
            else f"{row.dtype} {row.shape} ".encode() + row.tobytes()
        )
    return digest.digest()


class Wrapper(Source):
    """A source around another source, with the same behaviour unless overridden.

    Attributes:
        source: The examples inside.
    """

    source: Source

    @property
    def kind(self) -> str:
        """Kind of the examples."""
        return self.source.kind

    def digest(self) -> str:
        """Return the hash of the examples inside."""
        return self.source.digest()

    def input_spec(self) -> dict:
        """Return the description of the examples inside."""
        return self.source.input_spec()

    def save(self, folder: Path) -> None:
        """Write the files that the examples inside need."""
        self.source.save(folder)


@dataclass(frozen=True, eq=False)
class Arrays(Source):
    """Rows of an array, read as they are: features, token ids, any numbers.

    Attributes:
        values: Array `(count, ...)`, or what is indexed like one along its first axis,
            such as the rows of a cache that stay on disk.
        kind: Kind of the rows.

    >>> Arrays(np.arange(6).reshape(3, 2)).read([2, 0]).tolist()
    [[4, 5], [0, 1]]
    """

    values: np.ndarray = field(repr=False)
    kind: str = "features"

    def __len__(self) -> int:
        return len(self.values)

    def read(self, indices: Indices) -> np.ndarray:
        """Read some rows, in the order of `indices`."""
        return self.values[np.asarray(indices, "int64")]

    def take(self, indices: Indices) -> "Arrays":
        """Keep only the rows at `indices`, in that order."""
        return replace(self, values=self.read(indices))

    def digest(self) -> str:
        """Hash type, shape and content."""
        return _hash_array(self.values[:])

    def in_memory(self) -> np.ndarray | None:
        """Return the array, unless its rows are on disk."""
        return self.values if isinstance(self.values, np.ndarray) else None

    def input_spec(self) -> dict:
        """Describe shape and type of a row."""
        shape = list(self.values.shape[1:])
        return {"kind": self.kind, "shape": shape, "dtype": str(self.values.dtype)}


@dataclass(frozen=True, eq=False)
class _Images(Source):
    """Common behaviour of sources of images.

    Attributes:
        image_size: Side in pixels of the squares that `read` returns. `None` returns
            images at their own size, which must then be the same for all.
        resize: How an image becomes a square, see `images.decode`.
    """

    kind = "image"

    def at_size(self, image_size: int, resize: Resize | None = None) -> Source:
        """Return the same images, read as squares of `image_size` pixels."""
        return replace(
            self,
            image_size=errors.side("image_size", image_size),
            resize=resize or self.resize,
        )

    def input_spec(self) -> dict:
        """Describe the images that a model takes, and how they are prepared."""
        shape = [self.image_size, self.image_size, 3]
        return {
            "kind": "image",
            "shape": shape if self.image_size else [None, None, 3],
            "pixels": "RGB in [0, 255]",
            "resize": images.RESIZE[self.resize],
            "preprocessing": "inside the model",
        }


@dataclass(frozen=True, eq=False)
class ImageArray(_Images):
    """Images in one array.

    Attributes:
        pixels: uint8 RGB `(count, height, width, 3)` in [0, 255].
        image_size: Side in pixels of the squares that `read` returns; `None` returns
            the rows as they are.
        resize: How an image becomes a square, see `images.decode`.

    >>> ImageArray(np.zeros((5, 8, 8, 3), "uint8"), image_size=4).read([0, 3]).shape
    (2, 4, 4, 3)
    """

    pixels: np.ndarray = field(repr=False)
    image_size: int | None = None
    resize: Resize = "crop"

    def __len__(self) -> int:
        return len(self.pixels)

    def read(self, indices: Indices) -> np.ndarray:
        """Read some images, in the order of `indices`."""
        rows = self.pixels[np.asarray(indices, "int64")]
        if self.image_size is None:
            return rows
        return images.resize(rows, self.image_size, self.resize)

    def take(self, indices: Indices) -> "ImageArray":
        """Keep only the images at `indices`, in that order."""
        return replace(self, pixels=self.pixels[np.asarray(indices, "int64")])

    def digest(self) -> str:
        """Hash shape and pixels."""
        return _hash_array(self.pixels)

    def in_memory(self) -> np.ndarray | None:
        """Return the pixels, where they have the wanted size already."""
        size = self.image_size
        wanted = size is None or self.pixels.shape[1:3] == (size, size)
        return self.pixels if wanted else None

    def sizes(self, indices: Indices) -> list[tuple[int, int]]:
        """Return width and height of some images, which is that of all."""
        return [(self.pixels.shape[2], self.pixels.shape[1]) for _ in indices]

    def preview(self, indices: Indices, side: int = 128) -> np.ndarray:
        """Return some images, no larger than they are or are read."""
        own = (self.image_size or side, *self.pixels.shape[1:3])
        return replace(self, image_size=min(side, *own)).read(indices)


@dataclass(frozen=True, eq=False)
class Files(Source):
    """Common behaviour of sources of files, decoded each time they are read.

    Attributes:
        paths: One file for each example, as its path or its content; or the example as
            it is decoded, as examples of different sizes can be given.
        known: For each file the hashes of its bytes, SHA-256, and of what it decodes
            to, as `hashes` returns it, where they have been computed already.
    """

    def __len__(self) -> int:
        return len(self.paths)

    def take(self, indices: Indices) -> "Files":
        """Keep only the files at `indices`, in that order."""
        known = self.known and tuple(self.known[index] for index in indices)
        paths = tuple(self.paths[index] for index in indices)
        return replace(self, paths=paths, known=known)

    def digest(self) -> str:
        """Hash the content of all files."""
        total = hashlib.sha256()
        if self.known is not None:
            total.update(b"".join(sha256 for sha256, _ in self.known))
            return total.hexdigest()
        title = f"hashing {NOUNS[self.kind]}"
        for path in progress.track(self.paths, title, len(self.paths)):
            if isinstance(path, np.ndarray):
                total.update(bytes.fromhex(_hash_array(path)))
                continue
            total.update(hashlib.sha256(files.content(path)).digest())
        return total.hexdigest()

    def hashes(self) -> list[bytes]:
        """Hash what each file decodes to, whatever the format."""
        if self.known is not None:
            return [decoded for _, decoded in self.known]
        with ThreadPoolExecutor() as pool:
            hashes = pool.map(self.hash_file, self.paths)
            title = f"comparing {NOUNS[self.kind]}"
            return list(progress.track(hashes, title, len(self.paths)))

    def hash_file(self, path: Path | bytes | np.ndarray) -> bytes:
        """Hash what one file decodes to."""
        raise NotImplementedError

    def names(self, indices: Indices) -> list[str] | None:
        """Return the paths of some files; `None` where some have none."""
        paths = self.files(indices)
        return None if paths is None else [str(path) for path in paths]

    def files(self, indices: Indices) -> list[Path] | None:
        """Return the paths of some files; `None` where some have none."""
        # Of all files, also of those that are not asked for: an answer for none of
        # them tells whether there are paths.
        if any(isinstance(path, (bytes, np.ndarray)) for path in self.paths):
            return None
        return [self.paths[index] for index in indices]


@dataclass(frozen=True, eq=False)
class ImageFiles(Files, _Images):
    """Image files, decoded each time they are read.

    Attributes:
        paths: One file for each image, as its path or its content; or its pixels, uint8
            `(height, width, 3)`, as images of different sizes can have them.
        image_size: Side in pixels of the squares that `read` returns.
        resize: How an image becomes a square, see `images.decode`.
        known: See `Files`; images are hashed at their own size.
    """

    paths: tuple[Path | bytes | np.ndarray, ...] = field(repr=False)
    image_size: int | None = None
    resize: Resize = "crop"
    known: tuple[tuple[bytes, bytes], ...] | None = field(default=None, repr=False)

    def read(self, indices: Indices) -> np.ndarray:
        """Decode some images, in the order of `indices`.

        Raises:
            InputError: A file cannot be used.
        """
        paths = [self.paths[index] for index in indices]
        return images.read(paths, self.image_size, self.resize)

    def hash_file(self, path: Path | bytes | np.ndarray) -> bytes:
        """Hash the pixels of an image at its own size."""
        return images.hash_file(path)

    def sizes(self, indices: Indices) -> list[tuple[int, int]]:
        """Return width and height of some images, from the headers of their files."""
        return [images.size(self.paths[index]) for index in indices]

    def preview(self, indices: Indices, side: int = 128) -> np.ndarray:
        """Decode some images at `side` pixels, or at their smaller `image_size`."""
        size = min(side, self.image_size or side)
        return replace(self, image_size=size).read(indices)


@dataclass(frozen=True, eq=False)
class Stored(Wrapper):
    """Rows that were read or computed from the examples of a source, and kept.

    Attributes:
        source: The examples themselves, which people are still shown.
        values: One row for each of them, as an array in memory, or as what is indexed
            like one, such as the rows of a cache that stay on disk.
        kind: Kind of the rows: that of the source, or "features".
    """

    source: Source
    values: np.ndarray = field(repr=False)
    kind: str = "features"

    def __len__(self) -> int:
        return len(self.values)

    def read(self, indices: Indices) -> np.ndarray:
        """Read some rows, in the order of `indices`."""
        return self.values[np.asarray(indices, "int64")]

    def take(self, indices: Indices) -> "Stored":
        """Keep only the rows at `indices`, in that order."""
        return replace(
            self, source=self.source.take(indices), values=self.read(indices)
        )

    def at_size(self, image_size: int, resize: Resize | None = None) -> Source:
        """Return the images, read as squares of `image_size` pixels.

        These are the rows that are kept already, where those are squares like that.
        """
        wanted = self.source.at_size(image_size, resize)
        same = wanted.input_spec() == self.input_spec()
        return replace(self, source=wanted) if same else wanted

    def in_memory(self) -> np.ndarray | None:
        """Return the rows, unless they are on disk."""
        return self.values if isinstance(self.values, np.ndarray) else None

    def names(self, indices: Indices) -> list[str] | None:
        """Return the names that the examples have in the source inside."""
        return self.source.names(indices)

    def files(self, indices: Indices) -> list[Path] | None:
        """Return the files that the examples have in the source inside."""
        return self.source.files(indices)

    def sizes(self, indices: Indices) -> list[tuple[int, int]] | None:
        """Return the sizes that the images have in the source inside."""
        return self.source.sizes(indices)

    def preview(self, indices: Indices, side: int = 128) -> Sequence | None:
        """Return the examples as the source inside shows them."""
        return self.source.preview(indices, side)

    def input_spec(self) -> dict:
        """Describe the rows: as the source does where they are of its kind."""
        if self.kind == self.source.kind:
            return self.source.input_spec()
        return Arrays(self.values, self.kind).input_spec()


@dataclass(frozen=True, eq=False)
class Selection(Wrapper):
    """Some examples of a source that cannot be cut itself.

    Attributes:
        source: The examples to select from.
        indices: Which of them, int64 `(count,)`.
    """

    source: Source
    indices: np.ndarray = field(repr=False)

    def __len__(self) -> int:
        return len(self.indices)

    def read(self, indices: Indices) -> Examples:
        """Read some of the selected examples, in the order of `indices`."""
        return self.source.read(self.indices[np.asarray(indices, "int64")])

    def digest(self) -> str:
        """Hash the source and which of its examples are selected."""
        return _hash_texts(self.source.digest(), _hash_array(self.indices))

    def at_size(self, image_size: int, resize: Resize | None = None) -> Source:
        """Return the same images, read as squares of `image_size` pixels."""
        return replace(self, source=self.source.at_size(image_size, resize))

    def names(self, indices: Indices) -> list[str] | None:
        """Return the names of some of the selected examples."""
        return self.source.names(self.indices[np.asarray(indices, "int64")])

    def files(self, indices: Indices) -> list[Path] | None:
        """Return the files of some of the selected examples."""
        return self.source.files(self.indices[np.asarray(indices, "int64")])

    def sizes(self, indices: Indices) -> list[tuple[int, int]] | None:
        """Return the sizes of some of the selected images."""
        return self.source.sizes(self.indices[np.asarray(indices, "int64")])

    def preview(self, indices: Indices, side: int = 128) -> Sequence | None:
        """Return the selected examples as the source shows them."""
        return self.source.preview(self.indices[np.asarray(indices, "int64")], side)


@dataclass(frozen=True, eq=False)
class Concatenation(Wrapper):
    """The examples of several sources, one source after the other.

    Attributes:
        sources: At least one, of the same kind, whose examples have the same shape.
    """

    sources: tuple[Source, ...]

    @property
    def source(self) -> Source:
        """The first of the sources, whose kind and size are those of all."""
        return self.sources[0]

    def __len__(self) -> int:
        return sum(len(source) for source in self.sources)

    def read(self, indices: Indices) -> np.ndarray:
        """Read some examples, in the order of `indices`."""
        rows = self._rows("read", indices)
        return np.stack(rows) if rows else self.sources[0].read([])

    def digest(self) -> str:
        """Hash all sources in their order."""
        return _hash_texts(*(source.digest() for source in self.sources))

    def at_size(self, image_size: int, resize: Resize | None = None) -> Source:
        """Return the same images, read as squares of `image_size` pixels."""
        sources = tuple(s.at_size(image_size, resize) for s in self.sources)
        return Concatenation(sources)

    def names(self, indices: Indices) -> list[str] | None:
        """Return the names that some examples have in their sources."""
        if any(source.names([]) is None for source in self.sources):
            return None
        return self._rows("names", indices)

    def files(self, indices: Indices) -> list[Path] | None:
        """Return the files that some examples have in their sources."""
        if any(source.files([]) is None for source in self.sources):
            return None
        return self._rows("files", indices)

    def sizes(self, indices: Indices) -> list[tuple[int, int]] | None:
        """Return the sizes that some images have in their sources."""
        if any(source.sizes([]) is None for source in self.sources):
            return None
        return self._rows("sizes", indices)

    def preview(self, indices: Indices, side: int = 128) -> Sequence | None:
        """Return some examples as their sources show them."""
        if any(source.preview([], side) is None for source in self.sources):
            return None
        return self._rows("preview", indices, side)

    def _rows(self, method, indices, *options) -> list:
        """Call a method of each source on its share of `indices`; keep their order."""
        indices = np.asarray(indices, "int64")
        ends = np.cumsum([len(source) for source in self.sources])
        owners = np.searchsorted(ends, indices, side="right")
        rows = [None] * len(indices)
        for owner in np.unique(owners):
            places = np.flatnonzero(owners == owner)
            source = self.sources[owner]
            local = indices[places] - (ends[owner] - len(source))
            values = getattr(source, method)(local, *options)
            for place, value in zip(places, values, strict=True):
                rows[place] = value
        return rows


def of_images(
    inputs: Image | np.ndarray | Iterable[Image],
    image_size: int | None = None,
    resize: Resize = "crop",
) -> Source:
    """Return a source of images, in whichever form they are.

    Args:
        inputs: One image or several, as any iterable. An image is the path of a file,
            the content of one, or an array uint8 in [0, 255]: RGB `(height, width, 3)`
            or grey `(height, width)` or `(height, width, 1)`. Several of one size can
            be one array `(count, height, width, 3)`, or grey `(count, height, width)`
            or `(count, height, width, 1)`.
        image_size: Side in pixels of the squares that are read; `None` reads images at
            their own size.
        resize: How an image becomes a square, see `images.decode`.

    Raises:
        InputError: Anything else, such as floats or images with transparency.

    >>> grey = np.zeros((6, 8), "uint8")
    >>> of_images([grey, np.zeros((5, 4, 3), "uint8")], 4).read([0, 1]).shape
    (2, 4, 4, 3)
    """
    if hasattr(inputs, "__array__"):
        array = np.asarray(inputs)
        if array.dtype.kind in "OSU" or (array.ndim and not len(array)):
            inputs = array.reshape(-1).tolist()
        elif array.ndim > 3 or (array.ndim == 3 and array.shape[-1] not in (1, 3, 4)):
            # Three axes whose last is none of channels: several grey images.
            return ImageArray(images.to_rgb(array, "inputs"), image_size, resize)
        else:
            inputs = [array]
    elif isinstance(inputs, (str, bytes, os.PathLike)) or not isinstance(
        inputs, Iterable
    ):
        inputs = [inputs]
    each = tuple(_image(f"inputs[{n}]", image) for n, image in enumerate(inputs))
    return ImageFiles(each, image_size, resize)


def _image(name, image):
    """Return one image as `ImageFiles` has it."""
    one = partial(images.to_rgb, single=True)
    return one_of_files(name, image, "an image", one)


def one_of_files(
    name: str, given: object, noun: str, of_array: Callable[[np.ndarray, str], object]
) -> object:
    """Return one example as `Files` has it.

    Args:
        name: Name of the argument.
        given: The path of a file, its content as bytes, or an array.
        noun: What it must be, with its article, such as "an image".
        of_array: Checks an array of the name `name`.

    Raises:
        InputError: Anything else.
    """
    if isinstance(given, bytes):
        return given
    if isinstance(given, (str, os.PathLike)):
        return given if isinstance(given, Path) else Path(given)
    if hasattr(given, "__array__"):
        return of_array(given, name)
    raise errors.InputError(
        f"`{name}` must be {noun}: the path of a file, its content as bytes, or an "
        f"array. Received: {type(given).__name__}."
    )


def as_source(inputs: Source | np.ndarray | Iterable[Image]) -> Source:
    """Return a source for arrays or image files.

    Args:
        inputs: A source, which is returned as it is; an array: images if uint8
            `(count, height, width, 3)`, else features; or images, see `of_images`.

    >>> as_source(np.zeros((2, 8, 8, 3), "uint8")).kind
    'image'
    """
    if hasattr(inputs, "input_spec"):
        return inputs
    if not hasattr(inputs, "dtype"):
        return of_images(inputs)
    shape = inputs.shape
    if inputs.dtype == np.uint8 and len(shape) == 4 and shape[-1] == 3:
        return ImageArray(inputs)
    return Arrays(inputs)


def concatenate(*sources: Source) -> Source:
    """Return the examples of several sources of one kind, one after the other.

    Raises:
        InputError: The kinds differ.

    >>> one = as_source(np.zeros((2, 8, 8, 3), "uint8"))
    >>> len(concatenate(one, one, one))
    6
    """
    kinds = {source.kind for source in sources}
    if len(kinds) > 1:
        raise errors.expected("sources", "be of one kind", sorted(kinds))
    return Concatenation(tuple(sources))


def read_all(source: Source) -> np.ndarray:
    """Return all examples of a source of single arrays as one array in memory."""
    values = source.in_memory()
    return source.read(np.arange(len(source))) if values is None else values


def _hash_array(array) -> str:
    digest = hashlib.sha256(f"{array.dtype} {array.shape}".encode())
    # As bytes: bfloat16 is no type that hashlib can read from.
    digest.update(np.ascontiguousarray(array).reshape(-1).view("uint8").data)
    return digest.hexdigest()


def _hash_texts(*texts: str) -> str:
    return hashlib.sha256(" ".join(texts).encode()).hexdigest()
