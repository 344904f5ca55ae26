"""Describe a model file in a process of its own, with limits of time and memory.

A file from a stranger can make a library that reads it crash, hang or fill the memory;
here that ends in one sentence.
"""

import contextlib
import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path

from keras_tl import errors, files
from keras_tl.deploy import contents

# The process imports what this one would, but nothing from the folder it is in.
_PROGRAM = """
import json, sys
sys.path[:] = json.loads(sys.argv[1])
from keras_tl.deploy import inspection
inspection.answer(*sys.argv[2:])
"""
# Largest answer, and so the largest file that the process can write, in bytes.
_LONGEST = 2**26


def inspect(
    path: Path | str, *, seconds: float = 60.0, megabytes: float = 2048.0
) -> dict:
    """Describe a model file without executing anything of it.

    Args:
        path: File that ends in .keras, .h5, .hdf5, .tflite or .onnx.
        seconds: Time that reading it may take.
        megabytes: Memory that reading it may take, besides twice the size of the file.
            Systems that have no such limit, such as Windows, ignore it.

    Returns:
        Its `file`, `bytes` and `sha256`, and what `contents.Description` has.

    Raises:
        InputError: It cannot be read, or not within the limits.
    """
    path = Path(path)
    # The process cannot read everything that a path can be, such as a pipe.
    contents.check(path)
    size = path.stat().st_size
    answer = _ask(path, seconds, int(megabytes * 2**20) + 2 * size)
    if "refused" in answer:
        raise errors.InputError(answer["refused"])
    about = {"file": str(path), "bytes": size, "sha256": files.sha256(path)}
    return about | answer


def _ask(path, seconds, memory) -> dict:
    """Start the process, and return its answer."""
    paths = json.dumps([one for one in sys.path if one])
    command = [sys.executable, "-B", "-P", "-c", _PROGRAM, paths]
    command += [str(path), str(seconds), str(memory)]
    # Threads of linear algebra would reserve memory each.
    one_thread = {"OPENBLAS_NUM_THREADS": "1", "OMP_NUM_THREADS": "1"}
    with tempfile.TemporaryFile() as output:
        try:
            status = subprocess.run(
                command,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.DEVNULL,
                env={**os.environ, **one_thread},
                timeout=seconds,
                check=False,
            ).returncode
        except subprocess.TimeoutExpired:
            raise errors.InputError(
                f"Reading {path} took longer than {seconds:g} seconds. Where you trust "
                "it, allow more with --seconds."
            ) from None
        output.seek(0)
        text = output.read(_LONGEST)
    with contextlib.suppress(ValueError):
        answer = json.loads(text)
        if isinstance(answer, dict):
            return answer
    raise errors.InputError(
        f"The model file {path} is damaged or hostile: the process that read it ended "
        f"with status {status} and no answer."
    )


def answer(path: str, seconds: str, memory: str) -> None:
    """Print the description of a file as JSON, within limits, in a process for it."""
    _limit(float(seconds), int(memory))
    try:
        made = contents.describe(path).to_json()
    except errors.InputError as error:
        made = {"refused": str(error)}
    except MemoryError:
        made = None
    # Outside of the handler, whose traceback still holds the memory.
    if made is None:
        more = f"{int(memory) / 2**20:,.0f} MiB"
        made = {
            "refused": f"Reading {path} takes more memory than {more}. Where you trust "
            "it, allow more with --megabytes."
        }
    print(json.dumps(made))


def _limit(seconds, memory) -> None:
    try:
        import resource
    except ImportError:  # Windows has none: the time is limited from outside.
        return
    wanted = {
        "RLIMIT_AS": memory,
        "RLIMIT_CPU": int(seconds) + 1,
        "RLIMIT_FSIZE": _LONGEST,
        "RLIMIT_CORE": 0,
    }
    for name, value in wanted.items():
        # macOS refuses that of memory.
        with contextlib.suppress(ValueError, OSError):
            resource.setrlimit(getattr(resource, name), (value, value))
