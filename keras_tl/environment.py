"""What a result depends on besides its settings: versions and the machine."""

import datetime
import importlib.metadata
import os
import platform
from pathlib import Path

from keras_tl import __version__

VERSIONS = ("keras", "tensorflow", "numpy", "scikit-learn", "pillow", "optuna")


def run(recipe: str, settings, seconds: float) -> dict:
    """Give what the manifest of any run begins with.

    Args:
        recipe: Name of the recipe.
        settings: The recipe's settings, with the fields `seed` and `resume`.
        seconds: How long it took.
    """
    now = datetime.datetime.now(datetime.UTC)
    return {
        "recipe": recipe,
        "date": now.isoformat(timespec="seconds"),
        "seed": settings.seed,
        "seconds": round(seconds, 1),
        "resumed": settings.resume is not None,
        "machine": machine(),
        "versions": versions(),
    }


def versions() -> dict[str, str]:
    """Give the versions that a result depends on."""
    found = {"python": platform.python_version(), "keras_tl": __version__}
    for name in VERSIONS:
        try:
            found[name] = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            continue
    return found


def machine() -> dict[str, str | int]:
    """Describe the machine: operating system, processor, cores."""
    name = platform.processor() or platform.machine()
    cpuinfo = Path("/proc/cpuinfo")
    if cpuinfo.exists():
        lines = cpuinfo.read_text().splitlines()
        models = [line for line in lines if line.startswith("model name")]
        name = models[0].partition(":")[2].strip() if models else name
    return {
        "system": f"{platform.system()} {platform.machine()}",
        "processor": name,
        "cores": os.cpu_count() or 0,
    }
