"""Execute the notebooks and store them with their figures, or check the stored ones.

    python notebooks/build.py                     those whose source has changed
    python notebooks/build.py NAME...             these
    python notebooks/build.py --check             exit 1 where a stored one is stale
    python notebooks/build.py NAME... --only-run  store nothing; exit 1 where one fails

Each `NAME.ipynb` companions the recipe NAME. Its source is `NAME.py`, in jupytext's
percent format, or `template.py`, filled for the recipe.
"""

import argparse
import ast
import os
import sys
import tempfile
import time
from pathlib import Path

import jupytext
import nbformat
from nbclient import NotebookClient
from nbclient.exceptions import CellExecutionError

ROOT = Path(__file__).parents[1]
RECIPES = ROOT / "recipes"
NOTEBOOKS = ROOT / "notebooks"
MOST_BYTES = 1_000_000
# Settings in the notebooks that are made from the template.
SMALL: dict[str, str] = {}
# Settings instead of those in a notebook, where its data or weights would have to be
# downloaded; for `--only-run`.
OFFLINE: dict[str, str] = {}


def names() -> list[str]:
    """List the recipes."""
    return sorted(path.stem for path in RECIPES.glob("[!_]*.py"))


def unexecuted(name: str) -> nbformat.NotebookNode:
    """Return the notebook of a recipe as its source has it, without outputs."""
    path = NOTEBOOKS / f"{name}.py"
    if path.exists():
        source = path.read_text(encoding="utf-8")
    else:
        recipe = (RECIPES / f"{name}.py").read_text(encoding="utf-8")
        title, *_ = ast.get_docstring(ast.parse(recipe)).splitlines()
        source = (NOTEBOOKS / "template.py").read_text(encoding="utf-8")
        for key, value in {
            "NAME": name,
            "TITLE": title.rstrip("."),
            "SETTINGS": SMALL[name],
        }.items():
            source = source.replace(f"__{key}__", value)
    cells = []
    for number, cell in enumerate(jupytext.reads(source, fmt="py:percent").cells):
        new = getattr(nbformat.v4, f"new_{cell.cell_type}_cell")(cell.source)
        new["id"] = f"cell-{number}"
        if "tags" in cell.metadata:
            new.metadata["tags"] = cell.metadata["tags"]
        cells.append(new)
    kernel = {"display_name": "Python 3", "language": "python", "name": "python3"}
    metadata = {"kernelspec": kernel, "language_info": {"name": "python"}}
    notebook = nbformat.v4.new_notebook(cells=cells, metadata=metadata)
    # Otherwise the newest minor version that the installed nbformat knows.
    notebook.nbformat_minor = 5
    nbformat.validate(notebook)
    return notebook


def execute(notebook: nbformat.NotebookNode, folder: Path) -> None:
    """Run the cells from first to last, in `folder`; the outputs go into them."""
    with tempfile.TemporaryDirectory() as temporary:
        # The kernel is a process of its own: it leaves nothing in the user's folders.
        for variable in ("IPYTHONDIR", "JUPYTER_RUNTIME_DIR", "JUPYTER_CONFIG_DIR"):
            os.environ[variable] = str(Path(temporary, variable.lower()))
        NotebookClient(
            notebook,
            timeout=1200,
            kernel_name="python3",
            resources={"metadata": {"path": str(folder)}},
        ).execute()
    for cell in notebook.cells:
        cell.metadata.pop("execution", None)  # When each cell ran.


def replace_settings(notebook: nbformat.NotebookNode, arguments: str) -> None:
    """Add a cell behind the settings of a notebook that replaces some of them."""
    place = next(
        index
        for index, cell in enumerate(notebook.cells)
        if "parameters" in cell.metadata.get("tags", [])
    )
    source = (
        "import dataclasses\n\n"
        f"settings = dataclasses.replace(settings, **dict({arguments}))"
    )
    notebook.cells.insert(place + 1, nbformat.v4.new_code_cell(source))


def stale() -> dict[str, str]:
    """Find the stored notebooks that are not as they should be: name -> why."""
    reasons = {}
    for name in names():
        path = NOTEBOOKS / f"{name}.ipynb"
        if not path.exists():
            reasons[name] = "is missing"
            continue
        stored = nbformat.read(path, as_version=4)
        code = [cell for cell in stored.cells if cell.cell_type == "code"]
        counts = [cell.execution_count for cell in code]
        if contents(stored) != contents(unexecuted(name)):
            reasons[name] = "differs from its source"
        elif counts != [*range(1, len(code) + 1)]:
            reasons[name] = "was not executed from first to last cell"
        elif path.stat().st_size > MOST_BYTES:
            reasons[name] = f"is larger than {MOST_BYTES / 1e6:g} MB"
    for path in NOTEBOOKS.glob("*.ipynb"):
        if path.stem not in names():
            reasons[path.stem] = "has no recipe; delete it"
    return reasons


def contents(notebook: nbformat.NotebookNode) -> list[tuple]:
    """Return what the source of a notebook decides: everything but the outputs."""
    return [
        (cell.cell_type, cell.id, cell.source, cell.metadata.get("tags"))
        for cell in notebook.cells
    ]


def main(arguments: list[str] | None = None) -> None:
    """Execute notebooks, or check the stored ones."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("names", nargs="*", metavar="NAME", help="recipe")
    parser.add_argument("--check", action="store_true", help="execute nothing")
    parser.add_argument("--only-run", action="store_true", help="store nothing")
    parser.add_argument(
        "--folder", type=Path, help="where to run them: the folder with their data"
    )
    options = parser.parse_args(arguments)
    unknown = set(options.names) - set(names())
    if unknown:
        parser.error(f"there is no recipe called {', '.join(sorted(unknown))}")
    if options.check:
        reasons = stale()
        if reasons:
            lines = [f"{name}.ipynb {reason}." for name, reason in reasons.items()]
            sys.exit("\n".join([*lines, "Run: python notebooks/build.py"]))
        return
    failed = []
    for name in options.names or [n for n in stale() if n in names()]:
        notebook = unexecuted(name)
        if options.only_run and name in OFFLINE:
            replace_settings(notebook, OFFLINE[name])
        started = time.perf_counter()
        with tempfile.TemporaryDirectory() as temporary:
            try:
                execute(notebook, options.folder or Path(temporary))
            except CellExecutionError as error:
                print(error, file=sys.stderr)
                failed.append(name)
                continue
        if not options.only_run:
            text = nbformat.writes(notebook).rstrip("\n") + "\n"
            (NOTEBOOKS / f"{name}.ipynb").write_text(text, encoding="utf-8")
        print(f"{name}: {time.perf_counter() - started:.0f} s", flush=True)
    if failed:
        sys.exit(f"Failed: {', '.join(failed)}")


if __name__ == "__main__":
    main()
