"""`keras-tl inspect FILE`: what is in a model file, without executing any of it."""

import json

from rich.table import Table

from keras_tl import errors, progress
from keras_tl.commands.settings import Inspect
from keras_tl.deploy import inspection


def main(settings: Inspect) -> bool:
    """Print what a file holds, and what of it loading would refuse or run.

    Returns:
        Whether there is nothing to refuse.

    Raises:
        InputError: The file cannot be read, or not within the limits.
    """
    about = inspection.inspect(
        settings.file, seconds=settings.seconds, megabytes=settings.megabytes
    )
    if settings.json:
        print(json.dumps(about, indent=2))
    else:
        _print(about, settings.layers)
    return not about["problems"]


def _print(about, most) -> None:
    console = progress.console()
    console.print(_facts(about))
    if about["layers"] and most:
        console.print(_layers(about["layers"][:most]))
        left = len(about["layers"]) - most
        if left > 0:
            print(f"{errors.counted(left, 'further layer')}: --layers {most + left}")
    if not about["problems"]:
        print("What loading would refuse or run: nothing was found.")
        return
    print("What loading would refuse or run:")
    for problem in about["problems"]:
        print(f"- The file {problem}.")


def _facts(about) -> Table:
    table = Table(show_header=False)
    table.add_column("what", no_wrap=True)
    table.add_column("value", overflow="fold")
    rows = {
        "file": about["file"],
        "format": about["format"],
        "size": f"{about['bytes']:,} bytes",
        "SHA-256": about["sha256"],
        "written by": about["written_by"] or "not said",
        "date": about["date"] or "not said",
        "parameters": f"{about['parameters']:,}",
        "layers": f"{len(about['layers']):,}",
    }
    for name, value in rows.items():
        table.add_row(name, value)
    for kind in ("input", "output"):
        for one in about[f"{kind}s"]:
            table.add_row(kind, _tensor(one))
    for name, value in about["metadata"].items():
        table.add_row(name, value)
    for name, size in list(about["parts"].items())[:20]:
        table.add_row("part", f"{name}, {size:,} bytes")
    return table


def _tensor(one) -> str:
    """Write an input or output in words.

    >>> _tensor({"name": "image", "shape": [None, 32, 32, 3], "dtype": "float32"})
    'image, ? x 32 x 32 x 3, float32'
    """
    parts = [one["name"]]
    if one["shape"]:
        parts.append(" x ".join("?" if n is None else str(n) for n in one["shape"]))
    return ", ".join([*parts, *([one["dtype"]] if one["dtype"] else [])])


def _layers(layers) -> Table:
    table = Table(title="Layers", title_style="bold")
    table.add_column("name", overflow="fold")
    table.add_column("class", overflow="fold")
    table.add_column("parameters", justify="right")
    table.add_column("type")
    for one in layers:
        count = one["parameters"]
        shown = "?" if count is None else f"{count:,}"
        table.add_row(one["name"], one["kind"], shown, one["dtype"] or "")
    return table
