"""Read what `.keras` and HDF5 files declare, and find what makes them unsafe to load.

Nothing of a file is executed, and neither Keras nor TensorFlow is imported. All loading
of files of models and weights goes through `check`; `keras-tl inspect` shows `read`.
"""

import io
import json
import math
import mmap
import posixpath
import re
import stat
import struct
import sys
import zipfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

import h5py
import numpy as np

from keras_tl import errors, files

# What may unpack to more than this must be stored with a hundredth of it at least.
# Keras writes everything as it is.
_FLOOR, _EXPANSION = 2**26, 100
# Most bytes of a JSON text, and most objects in an HDF5 file.
_LONGEST_TEXT, _MOST_OBJECTS = 2**26, 200_000
# Most problems that are described of a file; the others are counted.
_MOST_PROBLEMS = 50
# Classes that hold Python code or a program, and run it.
_CODE = {
    "Lambda": "Python code that would run here",
    "__lambda__": "Python code that would run here",
    "TFSMLayer": "a TensorFlow program from another folder",
    "TorchModuleWrapper": "pickled Python objects, which run code when they are read",
    "JaxLayer": "Python code that would run here",
    "FlaxLayer": "Python code that would run here",
}
# Packages whose classes are known: those that Keras loads, and ours.
_KNOWN = {"keras", "builtins", "keras_hub", "keras_nlp", "keras_cv", "keras_tl"}
# Entries of a layer's configuration that are the size of one of its weights.
_SIZES = ("units", "filters", "input_dim", "output_dim", "vocabulary_size")
# Entries that name a file to read, where they are texts.
_FILES = ("vocabulary", "idf_weights")
# How a heap of texts begins in HDF5.
_HEAP = b"GCOL\x01"
_PICKLE = re.compile(rb"\x80[\x02-\x05]")
_PICKLE_SUFFIXES = (".pkl", ".pickle", ".pt", ".pth", ".joblib")


@dataclass(frozen=True)
class Array:
    """An array in a file.

    Attributes:
        name: Its path in the file.
        shape: The declared shape.
        dtype: Name of its type.
        stored: Bytes that the file has of it.
    """

    name: str
    shape: tuple[int, ...]
    dtype: str
    stored: int

    @property
    def size(self) -> int:
        """Declared number of elements."""
        return math.prod(self.shape)


@dataclass(frozen=True)
class Contents:
    """What a file declares.

    Attributes:
        config: The configuration of its model; `None` of a file of weights, or where it
            was not unpacked.
        metadata: What else the file says of itself: version of Keras, date.
        arrays: Its arrays.
        parts: Name of each file in an archive -> its size in bytes when unpacked.
        problems: What loading refuses, each as the end of a sentence that begins with
            the file.
    """

    config: dict | None
    metadata: dict
    arrays: tuple[Array, ...]
    parts: dict[str, int]
    problems: tuple[str, ...]

    @property
    def stored(self) -> int:
        """Number of elements of all arrays."""
        return sum(array.size for array in self.arrays)

    @property
    def version(self) -> str | None:
        """Version of Keras that wrote the file, where it says so."""
        # What a damaged file has there is not repeated.
        version = str(self.metadata.get("keras_version"))
        return version if re.fullmatch(r"\d[\w.+-]{0,19}", version) else None


def shown(text: object) -> str:
    """Return a text of a file as it can be printed: short, in one line, no controls.

    >>> shown("a\\x1b[2Jb")
    'a\\\\x1b[2Jb'
    """
    text = str(text)[:200]
    shown = "".join(
        c if c.isprintable() else c.encode("unicode_escape").decode() for c in text
    )
    return shown if len(shown) <= 80 else f"{shown[:77]}..."


def check(path: Path | str) -> Contents:
    """Read a `.keras` or HDF5 file, and refuse it where it is unsafe to load.

    Args:
        path: The file.

    Returns:
        What it declares.

    Raises:
        InputError: The file is damaged, or holds code, foreign classes, arrays that are
            larger than what is stored of them, or paths that leave it.
    """
    contents = read(path)
    if contents.problems:
        raise errors.InputError(
            f"The model file {path} {contents.problems[0]}. It is not loaded; "
            "`keras-tl inspect` shows what is in it."
        )
    return contents


def check_preset(folder: Path | str) -> None:
    """Refuse a folder of KerasHub whose files are unsafe to load; names are let pass.

    Args:
        folder: Folder that `save_to_preset` wrote, or the name of a preset.

    Raises:
        InputError: As `check`.

    >>> check_preset("bert_tiny_en_uncased")
    """
    for path in sorted(Path(folder).glob("*.h5")):
        check(path)
    for path in sorted(Path(folder).glob("*.json")):
        for problem in _problems_of_config(files.read_json(path), math.inf):
            raise errors.InputError(
                f"The preset file {path} {problem}. It is not loaded."
            )


def check_is_file(path: Path) -> None:
    """Raise `InputError` unless there is a file, with something in it.

    >>> check_is_file(Path("."))
    Traceback (most recent call last):
        ...
    keras_tl.errors.InputError: The model file . is a folder.
    """
    if path.is_dir():
        hint = ""
        if (path / "model.keras").is_file():
            hint = f" The model in it is {path / 'model.keras'}."
        raise errors.InputError(f"The model file {path} is a folder.{hint}")
    if not path.is_file():
        raise errors.InputError(f"There is no model file {path}.")
    if not path.stat().st_size:
        raise errors.InputError(f"The model file {path} is empty.")
    with open(path, "rb") as file:
        if _PICKLE.match(file.read(2)):
            raise errors.InputError(
                f"The model file {path} is a pickle, which runs code when it is read."
            )


def read(path: Path | str) -> Contents:
    """Read what a `.keras` or HDF5 file declares; nothing is executed.

    Args:
        path: The file. One whose name ends in .h5 or .hdf5 is read as HDF5.

    Raises:
        InputError: There is no such file, or it is damaged.
    """
    path = Path(path)
    check_is_file(path)
    is_hdf5 = path.suffix.lower() in (".h5", ".hdf5")
    try:
        contents = _of_hdf5_file(path) if is_hdf5 else _of_archive(path)
    except (errors.InputError, MemoryError):
        raise
    except Exception as error:  # Readers raise nearly any type on a damaged file.
        kind = "HDF5" if is_hdf5 else ".keras"
        raise errors.InputError(
            f"The model file {path} is truncated, damaged or no {kind} file: "
            f"{shown(errors.reason(error))}."
        ) from error
    return contents


def _of_archive(path) -> Contents:
    with zipfile.ZipFile(path) as archive:
        members = archive.infolist()
        parts = {shown(one.filename): one.file_size for one in members}
        problems = [text for one in members for text in _problems_of_part(one)]
        if len({one.filename for one in members}) < len(members):
            problems.append("has several parts of one name")
        bomb = _bomb(members, path.stat().st_size)
        if bomb is not None:
            return Contents(None, {}, (), parts, (bomb, *problems[:_MOST_PROBLEMS]))
        damaged = archive.testzip()
        if damaged is not None:
            raise errors.InputError(
                f"The model file {path} is damaged, in {shown(damaged)}."
            )
        for one in members:
            with archive.open(one) as part:
                if _PICKLE.match(part.read(2)):
                    problems.append(f"holds the pickle {shown(one.filename)}")
        config = json.loads(archive.read("config.json"))
        metadata = json.loads(archive.read("metadata.json"))
        arrays = []
        for one in members:
            if one.filename.endswith(".h5"):
                content = archive.read(one)
                _check_hdf5(content)
                with h5py.File(io.BytesIO(content)) as file:
                    _add_arrays(file, arrays, problems)
            elif one.filename.endswith(".npz"):
                content = io.BytesIO(archive.read(one))
                _add_arrays_of_npz(content, arrays, problems)
    return _contents(config, metadata, arrays, parts, problems)


def _of_hdf5_file(path) -> Contents:
    arrays, problems = [], []
    with open(path, "rb") as file:
        _check_hdf5(mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ))
    with h5py.File(path, "r") as file:
        _add_arrays(file, arrays, problems)
        metadata = {
            name: _attribute(file, name)
            for name in ("keras_version", "backend")
            if name in file.attrs
        }
        config = None
        if "model_config" in file.attrs:
            config = json.loads(_attribute(file, "model_config"))
    return _contents(config, metadata, arrays, {}, problems)


def _check_hdf5(content) -> None:
    """Raise `ValueError` where the HDF5 library would not come to an end.

    It reads the texts of a heap one after the other, and stays at an entry whose size,
    with its header, is 0.
    """
    if content[:8] != b"\x89HDF\r\n\x1a\n":
        raise ValueError("it does not begin as such a file")
    first = 13 if content[8] < 2 else 9
    if content[first : first + 2] != b"\x08\x08":
        raise ValueError("its addresses and lengths have no 8 bytes")
    start, texts = content.find(_HEAP), 0
    while start >= 0:
        (size,) = struct.unpack_from("<Q", content, start + 8)
        place, end = start + 16, start + size
        while place + 16 <= min(end, len(content)):
            number, length = struct.unpack_from("<H6xQ", content, place)
            # The entry of number 0 is free space, whose size includes its header.
            step = length if number == 0 else 16 + -(-length // 8) * 8
            texts += 1
            # Heaps that lie over one another are read again and again.
            if not 0 < step <= end - place or texts > _MOST_OBJECTS:
                raise ValueError("a heap of texts in it is damaged")
            place += step
        start = content.find(_HEAP, start + 1)


def _attribute(file, name) -> str:
    """Read a text that is kept as an attribute."""
    about = file.attrs.get_id(name)
    if about.shape != () or about.get_storage_size() > _LONGEST_TEXT:
        raise ValueError(f"the attribute {name} is no text")
    value = file.attrs[name]
    return value.decode() if isinstance(value, bytes) else str(value)


def _contents(config, metadata, arrays, parts, problems) -> Contents:
    metadata = metadata if isinstance(metadata, dict) else {}
    if config is not None:
        stored = sum(array.size for array in arrays)
        problems = [*_problems_of_config(config, stored), *problems]
        config = config if isinstance(config, dict) else {}
    unique = list(dict.fromkeys(problems))
    if len(unique) > _MOST_PROBLEMS:
        more = len(unique) - _MOST_PROBLEMS
        unique[_MOST_PROBLEMS:] = [f"has {errors.counted(more, 'further problem')}"]
    return Contents(config, metadata, tuple(arrays), parts, tuple(unique))


def _bomb(members, size) -> str | None:
    """Return why an archive is unsafe to unpack, if it is."""
    for one in members:
        name = shown(one.filename)
        if one.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
            return f"packs {name} by a method that Keras does not use"
        if _is_bomb(one.file_size, one.compress_size):
            return (
                f"is a zip bomb: {name} unpacks {one.compress_size:,} bytes to "
                f"{one.file_size:,}"
            )
        is_text = one.filename in ("config.json", "metadata.json")
        if is_text and one.file_size > _LONGEST_TEXT:
            return f"has {one.file_size:,} bytes in {name}"
    # Parts that lie over one another are counted several times.
    if sum(one.compress_size for one in members) > size:
        return "is a zip bomb: its parts are larger than the file"
    total = sum(one.file_size for one in members)
    if _is_bomb(total, size):
        return f"is a zip bomb: it unpacks {size:,} bytes to {total:,}"
    return None


def _is_bomb(declared, stored) -> bool:
    return declared > _FLOOR and declared > _EXPANSION * stored


def _problems_of_part(one) -> Iterator[str]:
    name = one.filename
    # As Windows would read it as well.
    path = PurePosixPath(name.replace("\\", "/"))
    outside = posixpath.normpath(str(path)).split("/")[0] == ".."
    drive = re.match(r"[A-Za-z]:", name)
    if path.is_absolute() or outside or drive or ".." in path.parts:
        yield f"holds the path {shown(name)}, which leaves the archive"
    if stat.S_ISLNK(one.external_attr >> 16):
        yield f"holds the link {shown(name)}"
    if name.lower().endswith(_PICKLE_SUFFIXES):
        yield f"holds the pickle {shown(name)}"


def _add_arrays(file, arrays, problems) -> None:
    """Add the arrays of an HDF5 file, and what is wrong with them."""
    groups, known = [file], set()
    for group in groups:
        for name in group:
            path = shown(f"{group.name}/{name}".replace("//", "/"))
            link = group.get(name, getlink=True)
            if isinstance(link, h5py.ExternalLink):
                other = shown(link.filename)
                problems.append(f"links {path} to another file, {other}")
                continue
            if isinstance(link, h5py.SoftLink):
                problems.append(f"links {path} to {shown(link.path)}")
                continue
            item = group[name]
            about = h5py.h5o.get_info(item.id)
            if (about.fileno, about.addr) in known:
                continue  # A group can hold itself.
            known.add((about.fileno, about.addr))
            if len(known) > _MOST_OBJECTS:
                raise ValueError(f"it has more than {_MOST_OBJECTS:,} objects")
            if isinstance(item, h5py.Group):
                groups.append(item)
            elif isinstance(item, h5py.Dataset):
                problems += _problems_of_dataset(item, path)
                if item.shape is not None:
                    stored = item.id.get_storage_size()
                    array = Array(path, item.shape, str(item.dtype), stored)
                    arrays.append(array)
    total = sum(array.stored for array in arrays)
    declared = sum(one.size * _width(one.dtype) for one in arrays)
    if not problems and _is_bomb(declared, total):
        problems.append(
            f"declares arrays of {declared:,} bytes together, and stores {total:,}"
        )


def _width(dtype: str) -> int:
    """Return the bytes of an element; at least 1, also of types that are no numbers.

    >>> _width("float32"), _width("object of our own")
    (4, 1)
    """
    try:
        return max(1, np.dtype(dtype).itemsize)
    except TypeError:
        return 1


def _problems_of_dataset(item, path) -> Iterator[str]:
    if item.external:
        other = shown(item.external[0][0])
        yield f"keeps the array {path} in another file, {other}"
    if item.is_virtual:
        yield f"takes the array {path} from other files"
    if item.shape is None:
        return
    declared = math.prod(item.shape) * item.dtype.itemsize
    stored = item.id.get_storage_size()
    if _is_bomb(declared, stored):
        yield (
            f"declares the array {path} with {declared:,} bytes, and stores {stored:,}"
        )


def _add_arrays_of_npz(content, arrays, problems) -> None:
    """Add the arrays of a NumPy archive, and what is wrong with them."""
    readers = {
        (1, 0): np.lib.format.read_array_header_1_0,
        (2, 0): np.lib.format.read_array_header_2_0,
    }
    with zipfile.ZipFile(content) as archive:
        members = archive.infolist()
        bomb = _bomb(members, len(content.getbuffer()))
        if bomb is not None:
            problems.append(f"has an archive in it that {bomb}")
            return
        for one in members:
            with archive.open(one) as part:
                version = np.lib.format.read_magic(part)
                shape, _, dtype = readers[version](part)
            name = shown(one.filename)
            if dtype.hasobject:
                problems.append(f"holds pickled objects in the array {name}")
            elif _is_bomb(math.prod(shape) * dtype.itemsize, one.compress_size):
                problems.append(
                    f"declares the array {name} with the shape {shape}, and stores "
                    f"{one.compress_size:,} bytes"
                )
            arrays.append(Array(name, shape, str(dtype), one.compress_size))


def _problems_of_config(config, stored) -> Iterator[str]:
    waiting = [config]
    while waiting:
        one = waiting.pop()
        if isinstance(one, dict):
            yield from _problems_of_object(one, stored)
            # The first entry is looked at first.
            waiting += reversed(one.values())
        elif isinstance(one, list):
            waiting += reversed(one)


def _problems_of_object(one, stored) -> Iterator[str]:
    name, inner = one.get("class_name"), one.get("config")
    if not isinstance(name, str):
        return
    foreign = _foreign(one, name, inner)
    if name in _CODE:
        yield f"holds a {name} layer: {_CODE[name]}"
    elif foreign is not None:
        yield (
            f"needs {shown(foreign)}, which is of neither Keras, KerasHub nor keras-tl "
            "and was not registered"
        )
    if not isinstance(inner, dict):
        return
    label = shown(inner.get("name", name))
    for key in _FILES:
        if isinstance(inner.get(key), str):
            yield f"has {label} read the file {shown(inner[key])}"
    for key in _SIZES:
        value = inner.get(key)
        if isinstance(value, int) and value > max(stored, _FLOOR):
            declared = f"{key}={value:,}"
            yield f"declares {label} with {declared}, and stores {stored:,} numbers"


def _foreign(one, name, inner) -> str | None:
    """Return the name of a class or function that is not known, as it is written."""
    module, registered = one.get("module"), one.get("registered_name")
    if name == "function":
        name = inner if isinstance(inner, str) else name
    package = None
    if isinstance(registered, str) and ">" in registered:
        package = registered.split(">")[0]
        name = registered
    elif isinstance(module, str):
        package = module.split(".")[0]
    elif ">" in name:  # As HDF5 files have it.
        package = name.split(">")[0]
    if package is None or package in _KNOWN or _is_registered(name):
        return None
    return name if ">" in name else f"{module}.{name}"


def _is_registered(name) -> bool:
    """Return whether this program has registered a class or function with Keras."""
    keras = sys.modules.get("keras")
    return keras is not None and keras.saving.get_registered_object(name) is not None
