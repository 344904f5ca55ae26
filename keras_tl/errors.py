"""Errors and warnings that name the expected value, the one received and a remedy."""

import codecs
import difflib
import importlib.util
import inspect
import math
import numbers
import warnings
from collections.abc import Callable, Iterable
from pathlib import Path

# Largest side of images, in pixels: a batch of larger ones fills the memory.
_LARGEST_SIDE = 2048


class InputError(ValueError):
    """An input of the user cannot be used.

    The command line prints it as one line and ends with exit status 2; any other
    exception is a bug of ours and keeps its traceback.
    """


class StorageError(InputError):
    """A file or folder cannot be written: with room or permission, a run goes on."""


class InputWarning(UserWarning):
    """An input of the user works, but probably not as intended."""


def warn(message: str) -> None:
    """Warn of something the user can act on."""
    warnings.warn(message, InputWarning, stacklevel=3)


def expected(argument: str, expectation: str, received: object, hint: str = ""):
    """Build the error for a value that is not what was expected.

    Args:
        argument: Name of the argument, as the user typed it.
        expectation: The expected value; the sentence continues after "must".
        received: The value that was received.
        hint: A remedy, as a sentence of its own.

    Returns:
        An `InputError`, to be raised by the caller.

    >>> print(expected("epochs", "be at least 1", 0))
    `epochs` must be at least 1. Received: epochs=0
    """
    message = f"`{argument}` must {expectation}. Received: {argument}={received!r}"
    return InputError(f"{message}. {hint}" if hint else message)


# Most names that an error lists.
MOST_NAMED = 60


def unknown(argument: str, received: str, known: Iterable[str]):
    """Build the error for a name that does not exist, with the nearest that do.

    >>> print(unknown("backbone", "vgg61", ["resnet50", "vgg16"]))
    `backbone` must be one of: resnet50, vgg16. Received: backbone='vgg61'. \
Did you mean vgg16?
    """
    known = sorted(known)
    near = difflib.get_close_matches(received, known, n=3, cutoff=0.5)
    hint = f"Did you mean {' or '.join(near)}?" if near else ""
    names = f"one of: {', '.join(known)}"
    if len(known) > MOST_NAMED:
        names = f"one of {len(known):,} names"
        hint = hint or f"Some of them: {', '.join(known[:: len(known) // 10])}."
    return expected(argument, f"be {names}", received, hint)


def check_options(options: Iterable[str], *takers: Callable) -> None:
    """Raise `InputError` for a keyword that none of some functions and classes takes.

    >>> check_options(["minimun"], side)
    Traceback (most recent call last):
        ...
    keras_tl.errors.InputError: `option` must be one of: argument, minimum, value. \
Received: option='minimun'. Did you mean minimum?
    """
    known = {
        name
        for taker in takers
        for name, parameter in inspect.signature(taker).parameters.items()
        if parameter.kind is not parameter.VAR_KEYWORD
    }
    for name in options:
        if name not in known:
            raise unknown("option", name, known)


def counted(number: int, singular: str, plural: str | None = None) -> str:
    """Count things in words.

    >>> counted(1, "image"), counted(1200, "image"), counted(2, "copy", "copies")
    ('1 image', '1,200 images', '2 copies')
    """
    name = singular if number == 1 else plural or f"{singular}s"
    return f"{number:,} {name}"


def reason(error: BaseException) -> str:
    """Return the first line of an error's message, or its name where it has none.

    >>> reason(OSError("no network.\\nTraceback")), reason(AssertionError())
    ('no network', 'AssertionError')
    """
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return lines[0].rstrip(".") if lines else type(error).__name__


# What libraries say where memory cannot be had: TensorFlow, its XLA and JAX, and CUDA.
_OUT_OF_MEMORY = ("RESOURCE_EXHAUSTED", "OOM when allocating", "out of memory")


def is_out_of_memory(error: BaseException) -> bool:
    """Return whether an error, of any library, says that the memory is full.

    >>> is_out_of_memory(MemoryError()), is_out_of_memory(ValueError("a memory"))
    (True, False)
    """
    if isinstance(error, MemoryError):
        return True
    # TensorFlow and JAX are not imported for it.
    text = str(error).lower()
    return type(error).__name__ == "ResourceExhaustedError" or (
        isinstance(error, Exception)
        and not isinstance(error, InputError | OSError)
        and any(words.lower() in text for words in _OUT_OF_MEMORY)
    )


def check_at_least(argument: str, value: float, minimum: float) -> None:
    """Raise `InputError` unless `value` is a finite number, `minimum` or more."""
    if not isinstance(value, numbers.Real) or not minimum <= value < math.inf:
        raise expected(argument, f"be at least {minimum}", value)


def check_above(argument: str, value: float, bound: float) -> None:
    """Raise `InputError` unless `value` is a finite number greater than `bound`."""
    if not isinstance(value, numbers.Real) or not bound < value < math.inf:
        raise expected(argument, f"be greater than {bound}", value)


def side(argument: str, value: object, minimum: int = 1) -> int:
    """Return the side of square images, which a pair of equal numbers is too.

    >>> side("image_size", (96, 96))
    96
    """
    if isinstance(value, tuple | list) and len(set(value)) == 1 and len(value) == 2:
        value = value[0]
    if isinstance(value, bool) or not isinstance(value, numbers.Integral):
        hint = "Images are squares: other shapes are not supported."
        raise expected(argument, "be a whole number of pixels", value, hint)
    check_at_least(argument, value, minimum)
    if value > _LARGEST_SIDE:
        raise expected(argument, f"be at most {_LARGEST_SIDE:,} pixels", value)
    return int(value)


def check_encoding(encoding: str) -> None:
    """Raise `InputError` unless Python knows an encoding by that name.

    >>> check_encoding("cp1252")
    """
    try:
        codecs.lookup(encoding)
    except LookupError:
        raise expected(
            "encoding", "be one that Python knows, such as utf-8 or cp1252", encoding
        ) from None


def check_folder(argument: str, value: Path | str | None, hint: str = "") -> None:
    """Raise `InputError` unless `value` is a folder that exists.

    >>> check_folder("data", ".")
    """
    if value is None or not Path(value).is_dir():
        received = None if value is None else str(value)
        raise expected(argument, "be a folder that exists", received, hint)


def is_installed(module: str) -> bool:
    """Return whether a module is installed, without importing it.

    >>> is_installed("numpy")
    True
    """
    return importlib.util.find_spec(module) is not None


def check_installed(module: str, *, extra: str) -> None:
    """Raise `InputError` when a module of an extra is not installed."""
    if not is_installed(module):
        raise InputError(
            f'This needs {module}, which is not installed: pip install "keras-tl'
            f'[{extra}]"'
        )
