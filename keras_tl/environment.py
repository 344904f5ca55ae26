"""Versions and machine, on which a result depends besides its settings."""

import datetime
import importlib.metadata
import os
import platform
from pathlib import Path

from keras_tl import __version__

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
    for name in VERSIONS:
        try:
            known[name] = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            continue
    return known


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
