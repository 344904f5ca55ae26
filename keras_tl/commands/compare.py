"""Compare finished runs on one page."""

from collections.abc import Sequence
from pathlib import Path

import keras_tl.quiet  # noqa: F401  Before Keras.

from rich.table import Table

from keras_tl import files, progress
from keras_tl.analysis import comparison, comparison_page
from keras_tl.analysis.comparison import Finished, Pair
from keras_tl.commands.settings import Compare
from keras_tl.deploy import artifact


def main(settings: Compare) -> None:
    """Print the runs and their tests, and write the page.

    Raises:
        InputError: No finished runs of one task, or a file that exists.
    """
    path = settings.out or files.next_file("compare.html")
    files.check_new(path)
    runs = []
    for folder, name in zip(settings.runs, names_of(settings.runs), strict=True):
        made = artifact.load(folder)
        runs.append(comparison.read(folder, name, made.manifest, made.class_names))
    comparison.check_task(runs)
    pairs = comparison.against_first(runs)
    comparison_page.write(path, runs, pairs)
    console = progress.console()
    console.print(_table(runs))
    if any(pair.compared for pair in pairs):
        console.print(_tests(runs[0], pairs))
    for sentence in comparison_page.sentences(pairs):
        print(sentence)
    print(f"Page: {path}")


def names_of(folders: Sequence[str]) -> list[str]:
    """Return the names of folders, with all of the path where some have the same.

    >>> names_of(["runs/a", "runs/b/"]), names_of(["mine/a", "yours/a"])
    (['a', 'b'], ['mine/a', 'yours/a'])
    """
    names = [Path(folder).resolve().name for folder in folders]
    return names if len(set(names)) == len(names) else list(folders)


def _table(runs: Sequence[Finished]) -> Table:
    first = runs[0].result
    table = Table(title="Runs on their test examples", title_style="bold")
    table.add_column("run", overflow="fold")
    metric = first.metric.replace("_", " ")
    for name in (metric, "95 % interval", "seconds", "parameters"):
        table.add_column(name, justify="right", no_wrap=True)
    table.add_column("recipe", overflow="fold")
    for run in runs:
        low, high = map(first.format, run.result.interval)
        table.add_row(
            run.name,
            first.format(run.result.value),
            f"{low} to {high}",
            "" if run.seconds is None else f"{run.seconds:,.0f}",
            f"{run.parameters:,}",
            run.recipe,
        )
    return table


def _tests(first: Finished, pairs: Sequence[Pair]) -> Table:
    table = Table(title=f"Compared with {first.name}", title_style="bold")
    better = "right alone" if first.task == "single-label" else "better on"
    table.add_column("run", overflow="fold")
    table.add_column("difference")
    table.add_column(better, justify="right")
    table.add_column(f"{first.name} {better}", justify="right")
    table.add_column("verdict")
    for pair in pairs:
        if pair.compared:
            only = pair.compared.only_b, pair.compared.only_a
            counts = (f"{number:,}" for number in only)
            table.add_row(pair.name, pair.difference, *counts, pair.compared.verdict)
    return table
