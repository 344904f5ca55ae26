"""Describe Python code and the values that it reads, so that a change is noticed."""

import functools
import hashlib
import inspect
import sys
import sysconfig
import types
import uuid
from collections.abc import Mapping
from pathlib import Path

import numpy as np

_LIBRARIES = tuple(
    sysconfig.get_paths()[name] for name in ("purelib", "platlib", "stdlib")
)


def describe(value: object) -> object:
    """Describe a function, a class or a value by plain values.

    Functions and classes of installed libraries are described by their name and the
    version of the library; others by their code and by everything that it reads:
    globals, closures, defaults, helper functions and base classes.

    Returns:
        Lists and texts for JSON. A value that cannot be described gives a text that
        never occurs again.

    >>> scale = 1.0
    >>> def double(x):
    ...     return 2 * scale * x
    >>> before = describe(double)
    >>> before == describe(double)
    True
    >>> scale = 3.0
    >>> double.__globals__["scale"] = 3.0
    >>> before == describe(double)
    False
    """
    return _describe(value, {})


def _describe(value, seen):
    if isinstance(value, (bool, int, float, complex, str, bytes, type(None), slice)):
        return repr(value)
    if isinstance(value, (list, tuple, set, frozenset)):
        each = [_describe(one, seen) for one in value]
        ordered = isinstance(value, (list, tuple))
        return [type(value).__name__, each if ordered else sorted(each, key=str)]
    if isinstance(value, (dict, types.MappingProxyType, Mapping)):
        return [[repr(key), _describe(one, seen)] for key, one in value.items()]
    if isinstance(value, types.ModuleType):
        return _version(value.__name__)
    if isinstance(value, types.CodeType):
        constants = [_describe(constant, seen) for constant in value.co_consts]
        return [value.co_code.hex(), list(value.co_names), constants]
    if id(value) in seen:
        return f"value {seen[id(value)][0]}"
    # The value is kept, so that no other one gets its id while this goes on.
    seen[id(value)] = len(seen), value
    if isinstance(value, functools.partial):
        inner = (value.func, value.args, value.keywords)
        return ["partial", *(_describe(one, seen) for one in inner)]
    if isinstance(value, types.MethodType):
        return [_describe(value.__func__, seen), _describe(value.__self__, seen)]
    if isinstance(value, (types.FunctionType, type)) and _is_installed(value):
        return f"{value.__module__}.{value.__qualname__} {_version(value.__module__)}"
    if isinstance(value, types.FunctionType):
        return _function(value, seen)
    if isinstance(value, type):
        return _class(value, seen)
    if isinstance(value, (staticmethod, classmethod)):
        return _describe(value.__func__, seen)
    if isinstance(value, property):
        return [_describe(one, seen) for one in (value.fget, value.fset)]
    return _object(value, seen)


def _function(function, seen):
    code = function.__code__
    names = {name for one in _codes(code) for name in one.co_names}
    read = {
        name: function.__globals__[name]
        for name in sorted(names)
        if name in function.__globals__
    }
    cells = [_cell(cell) for cell in function.__closure__ or ()]
    parts = (code, read, cells, function.__defaults__, function.__kwdefaults__)
    return [_describe(one, seen) for one in parts]


def _codes(code):
    """List the code of a function and of the functions within."""
    inner = [c for c in code.co_consts if isinstance(c, types.CodeType)]
    return [code, *(one for each in inner for one in _codes(each))]


def _cell(cell):
    try:
        return cell.cell_contents
    except ValueError:
        return None


def _class(kind, seen):
    skipped = ("__dict__", "__weakref__", "__module__", "__doc__", "__firstlineno__")
    members = {
        name: member
        for name, member in vars(kind).items()
        if name not in skipped and not name.startswith("_abc_")
    }
    bases = [_describe(base, seen) for base in kind.__bases__]
    return [kind.__qualname__, _describe(members, seen), bases]


def _object(value, seen):
    if hasattr(value, "__array__"):
        array = np.ascontiguousarray(value)
        if array.dtype != object:
            digest = hashlib.blake2b(array.tobytes(), digest_size=16).hexdigest()
            return [str(array.dtype), list(array.shape), digest]
    if isinstance(value, (types.BuiltinFunctionType, np.ufunc, np.dtype)):
        return repr(getattr(value, "__qualname__", value))
    if hasattr(value, "get_config"):
        return [_describe(type(value), seen), _describe(value.get_config(), seen)]
    if inspect.isdatadescriptor(value) or inspect.ismemberdescriptor(value):
        return type(value).__name__
    state = getattr(value, "__dict__", None)
    if state and not _is_installed(type(value)):
        return [_describe(type(value), seen), _describe(state, seen)]
    return uuid.uuid4().hex


def _is_installed(value):
    module = sys.modules.get(value.__module__)
    file = getattr(module, "__file__", None)
    if file is None:
        # Built in; what is typed into an interpreter has no file either.
        return value.__module__ in sys.builtin_module_names
    if file.startswith(_LIBRARIES):
        return True
    name = value.__module__.partition(".")[0]
    top = sys.modules.get(name)
    places = [*getattr(top, "__path__", ()), getattr(top, "__file__", None) or file]
    home = Path(places[0]).parent
    return _is_of_distribution(name, home)


@functools.cache
def _is_of_distribution(name, home):
    """Return whether pip has installed a package into a folder of the user's choice.

    `pip install --user` and `--target` do.
    """
    starts = (f"{name}/", f"{name}.py,")
    for record in home.glob("*.dist-info/RECORD"):
        with open(record, encoding="utf-8") as file:
            if any(line.startswith(starts) for line in file):
                return True
    return False


def _version(module):
    package = module.partition(".")[0]
    return f"{module} {getattr(sys.modules.get(package), '__version__', '')}"
