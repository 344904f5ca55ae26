"""Versions, machine and settings of Keras, on which a result depends too."""

import datetime
import importlib.metadata
import json
import os
import platform
import sys
from pathlib import Path

from keras_tl import __version__, errors

VERSIONS = ("keras", "tensorflow", "numpy", "scikit-learn", "pillow", "optuna")


def provenance(recipe: str, settings, seconds: float) -> dict:
    """Return where a result comes from: recipe, date, machine, versions, time.

    Args:
        recipe: Name of the recipe.
        settings: The recipe's settings; `seed` and `resume` are read where they exist.
        seconds: Duration of the run.
    """
    now = datetime.datetime.now(datetime.UTC)
    return {
        "recipe": recipe,
        "date": now.isoformat(timespec="seconds"),
        "seed": getattr(settings, "seed", None),
        "seconds": round(seconds, 1),
        "resumed": getattr(settings, "resume", None) is not None,
        "machine": machine(),
        "versions": versions(),
    }


def versions() -> dict[str, str]:
    """Return the versions that a result depends on."""
    known = {"python": platform.python_version(), "keras_tl": __version__}
    return known | {name: found for name in VERSIONS if (found := version(name))}


def version(package: str) -> str | None:
    """Return the version of a package, `None` where it is not installed.

    >>> version("no-such-package") is None
    True
    """
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return None


# Instruction sets by which processors compute with wide vectors, the fastest first.
INSTRUCTIONS = ("amx_bf16", "avx512_bf16", "avx512f", "avx2")


def machine() -> dict[str, str | int]:
    """Describe the machine: system, processor, its instructions, usable cores."""
    flags = ""
    name = platform.processor() or platform.machine()
    cpuinfo = Path("/proc/cpuinfo")
    if cpuinfo.exists():
        lines = cpuinfo.read_text().splitlines()
        models = [line for line in lines if line.startswith("model name")]
        name = models[0].partition(":")[2].strip() if models else name
        flags = next((line for line in lines if line.startswith("flags")), "")
    instructions = [name for name in INSTRUCTIONS if name in flags.split()]
    # A process may be kept to some of the cores, by `taskset` or a batch system.
    allowed = getattr(os, "sched_getaffinity", None)
    cores = len(allowed(0)) if allowed else os.cpu_count() or 0
    return {
        "system": f"{platform.system()} {platform.machine()}",
        "processor": name,
        "instructions": instructions[0] if instructions else "",
        "cores": cores,
    }


def keras_folder() -> Path:
    """Return the folder of `keras.json` and of downloaded weights, as Keras finds it.

    It need not exist, nor be one that can be written to.
    """
    if "KERAS_HOME" in os.environ:
        return Path(os.path.expanduser(os.environ["KERAS_HOME"]))
    home = os.path.expanduser("~")
    return Path(home if os.access(home, os.W_OK) else "/tmp", ".keras")


# Settings that keras.json can have: the values that Keras itself takes.
KERAS_VALUES = {
    "floatx": ("float16", "float32", "float64"),
    "image_data_format": ("channels_last", "channels_first"),
}


def check_keras() -> None:
    """Raise `InputError` for settings of Keras under which no recipe and no run works.

    Keras is not loaded for it: what KERAS_BACKEND and `keras.json` say is read.
    """
    path = keras_folder() / "keras.json"
    saved = _keras_json(path)
    for name, known in KERAS_VALUES.items():
        if saved.get(name, known[0]) not in known:
            raise errors.expected(
                name, f"be one of {', '.join(known)} in {path}", saved[name]
            )
    if not isinstance(saved.get("epsilon", 1e-7), float):
        raise errors.expected("epsilon", f"be 1e-7 or so in {path}", saved["epsilon"])
    if "keras" in sys.modules:
        backend, where = sys.modules["keras"].config.backend(), "Keras has been loaded"
    elif os.environ.get("KERAS_BACKEND"):
        backend, where = os.environ["KERAS_BACKEND"], "KERAS_BACKEND is set"
    else:
        backend, where = saved.get("backend", "tensorflow"), f"{path} was written"
    if backend != "tensorflow":
        raise errors.InputError(
            f"Recipes and saved runs need Keras's backend tensorflow, and {where} with "
            f"{backend!r}. Set KERAS_BACKEND=tensorflow before Python starts."
        )


def _keras_json(path: Path) -> dict:
    try:
        saved = json.loads(path.read_text(encoding="utf-8"))
    except (FileNotFoundError, NotADirectoryError, ValueError):
        # Keras uses its own values then.
        return {}
    except OSError as error:
        raise errors.InputError(
            f"Keras cannot read {path}: {error.strerror}. Make it readable, or set "
            "KERAS_HOME to another folder."
        ) from error
    if not isinstance(saved, dict):
        raise errors.InputError(
            f"{path} must hold a JSON object. Mend it, or remove it: Keras makes a new "
            "one."
        )
    return saved


def use_standard_keras() -> None:
    """Set Keras to what all models here are made in: channels_last and float32.

    A machine's `keras.json` can say otherwise; a warning names what is changed. It
    holds until Python ends.
    """
    import keras

    changed = []
    if keras.config.image_data_format() != "channels_last":
        changed.append(f"image_data_format={keras.config.image_data_format()}")
        keras.config.set_image_data_format("channels_last")
    if keras.config.floatx() != "float32":
        changed.append(f"floatx={keras.config.floatx()}")
        keras.config.set_floatx("float32")
    if changed:
        errors.warn(
            f"Keras is set to {' and '.join(changed)}; models here are made in "
            "channels_last and float32, to which it is set now."
        )
