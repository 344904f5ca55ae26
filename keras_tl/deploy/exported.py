"""Use and measure an export: accuracy, size, latency, memory."""

import io
import json
import os
import runpy
import subprocess
import sys
import zipfile
from collections.abc import Callable
from pathlib import Path

import numpy as np

from keras_tl import errors, files, progress, quiet
from keras_tl.data.sources import Source

# Runs in a process of its own that loads the program of an export.
_MEASURE = """
import json, os, pathlib, resource, runpy, sys, time
started = time.perf_counter()
program = runpy.run_path(sys.argv[1])
loaded = time.perf_counter() - started
import numpy as np
spec = program["contract"]["input"]
example = np.zeros((1, *spec["shape"]), spec["dtype"])
seconds = []
for _ in range(int(sys.argv[2])):
    before = time.perf_counter()
    program["outputs"](example)
    seconds.append(time.perf_counter() - before)
status = pathlib.Path("/proc/self/status")
if status.exists():  # Linux, whose getrusage counts what the parent had.
    lines = dict(line.split(":", 1) for line in status.read_text().splitlines())
    peak = int(lines["VmHWM"].split()[0]) / 2**10
else:  # macOS, in bytes
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20
print(json.dumps({"loaded": loaded, "seconds": seconds, "peak": peak}))
"""
# Calls before times are taken: some runtimes prepare in them.
_WARM = 5


def load(
    folder: Path | str, output: str = "logits"
) -> Callable[[np.ndarray], np.ndarray]:
    """Load an export as its `predict.py` does.

    Args:
        folder: The export.
        output: Name of the output that is wanted.

    Returns:
        A function from a batch of inputs, as `contract.json` describes them, to that
        output.

    Raises:
        InputError: The folder is no export, or its runtime cannot run the model.
    """
    program = Path(folder) / "predict.py"
    if not program.is_file():
        raise errors.expected("folder", "be an export", str(folder))
    try:
        with quiet.start_up():  # LiteRT says how it computes.
            outputs = runpy.run_path(str(program))["outputs"]
    except (RuntimeError, ValueError) as error:  # As LiteRT and ONNX Runtime raise.
        raise errors.InputError(
            f"The runtime cannot run the model in {folder}: {errors.reason(error)}."
        ) from error
    return lambda batch: outputs(batch)[output]


def run(
    compute: Callable[[np.ndarray], np.ndarray],
    source: Source,
    dtype: str,
    batch_size: int = 32,
) -> np.ndarray:
    """Compute an output of an export, or of a model, for examples.

    Args:
        compute: See `load`.
        source: The examples, as the model takes them.
        dtype: Type of its inputs.
        batch_size: Examples that are in memory at a time.

    Returns:
        float32 `(len(source), outputs)`.
    """
    rows = []
    starts = range(0, len(source), batch_size)
    for start in progress.track(starts, "predicting", len(starts)):
        indices = range(start, min(start + batch_size, len(source)))
        rows.append(np.asarray(compute(source.read(indices).astype(dtype)), "float32"))
    return np.concatenate(rows)


def size(folder: Path | str) -> int:
    """Return the size in bytes of the model of an export."""
    return sum(path.stat().st_size for path in _model_files(folder))


def zipped_size(folder: Path | str) -> int:
    """Return the size in bytes of the model of an export as a zip file.

    Weights that are zero, see `methods.pruning`, take next to no space in it.
    """
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as archive:
        for path in _model_files(folder):
            archive.write(path, path.name)
    return buffer.getbuffer().nbytes


def _model_files(folder) -> list[Path]:
    model = Path(folder) / files.read_json(Path(folder) / "contract.json")["model"]
    return [path for path in (model, *model.rglob("*")) if path.is_file()]


def measure(folder: Path | str, *, calls: int = 50) -> dict[str, float]:
    """Measure how fast an export answers, in a process of its own.

    Args:
        folder: The export.
        calls: Number of answers to one example each, at least 1; five more come before.

    Returns:
        `milliseconds`, the median of one answer, without preparing the input;
        `milliseconds_99`, its 99th percentile; `seconds_to_load`; and `peak_mib`, the
        most memory that the process has had, with Python and the runtime.

    Raises:
        InputError: The program cannot be run here.
    """
    errors.check_at_least("calls", calls, 1)
    program = Path(folder) / "predict.py"
    ended = subprocess.run(
        [sys.executable, "-I", "-c", _MEASURE, str(program), str(calls + _WARM)],
        capture_output=True,
        text=True,
        env={**os.environ, "TF_CPP_MIN_LOG_LEVEL": "3"},
        check=False,
    )
    if ended.returncode:
        last = ended.stderr.strip().splitlines()[-1:]
        raise errors.InputError(f"{program} cannot be run: {''.join(last)}")
    measured = json.loads(ended.stdout.splitlines()[-1])
    milliseconds = 1000 * np.array(measured["seconds"][_WARM:])
    return {
        "milliseconds": float(np.median(milliseconds)),
        "milliseconds_99": float(np.quantile(milliseconds, 0.99)),
        "seconds_to_load": measured["loaded"],
        "peak_mib": measured["peak"],
    }
