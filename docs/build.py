"""Build the documentation site in docs/_site; warnings are errors.

    python docs/build.py

Needs `pip install -e ".[docs]"`. Pages in docs/ are written by hand. Those of recipes
and modules are generated here, and notebooks and the pages of other folders are copied,
into places that git ignores.
"""

import ast
import os
import re
import runpy
import shutil
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import keras_tl.quiet  # noqa: F401  Before Keras.

import numpy as np
from sphinx.cmd.build import main as sphinx_build

from keras_tl import cli
from keras_tl.analysis import figures, study

DOCS = Path(__file__).parent
ROOT = DOCS.parent
update = SimpleNamespace(**runpy.run_path(str(ROOT / "results/update.py")))
# Page of the site -> file of the repository.
COPIES = {
    "benchmarks.md": "benchmarks/README.md",
    "contributing.md": "CONTRIBUTING.md",
    "changelog.md": "CHANGELOG.md",
}

RECIPE = """\
# {name}

{title}

{text}

**Step by step**, with figures: [the notebook](../notebooks/{name}.ipynb).

## Results

{results}

± is half of the 95 % interval over the test images; in brackets is the range over seeds
or folds.

## Settings

```text
{help}
```

## Source

`keras-tl show {name}` prints it, `keras-tl copy {name} FOLDER` copies it.

```{{literalinclude}} ../../recipes/{name}.py
:language: python
```

```{{toctree}}
:hidden:

../notebooks/{name}
```
"""


def write_recipes() -> None:
    """Write a page for each recipe: its docstring, settings, results and source."""
    folder = fresh("recipes")
    results = update.load()
    for name in cli.recipe_names():
        groups, recipe = results.get(name, []), cli.recipe_path(name).read_text()
        title, *lines = ast.get_docstring(ast.parse(recipe)).splitlines()
        shown = "Not measured yet."
        if groups:
            shown = update.tables(groups)
        # Of a study that reports no accuracy, the table says it.
        if groups and update.measurement(update.leading(groups)[0]) == "accuracy":
            figures.save(draw(groups), folder / f"{name}.png")
            shown = f"![Test accuracies.]({name}.png)\n\n{shown}"
        text = RECIPE.format(
            name=name,
            title=title,
            text=markdown(lines),
            results=shown,
            help=help_of(name),
        )
        (folder / f"{name}.md").write_text(text)


def markdown(lines: list[str]) -> str:
    """Turn the sections of a recipe's docstring into Markdown, without its results."""
    text = []
    for line in lines:
        section = re.match(r"([A-Z][a-z ]+):(.*)", line)
        if section and section[1] == "Expected":
            text.append("")
            break
        text.append(f"\n**{section[1]}:**{section[2]}" if section else line)
    run = lines.index("Run:")
    commands = [line.strip() for line in lines[run + 1 :] if line.strip()]
    return "\n".join(["```shell", *commands, "```", *text]).strip()


def draw(groups: list[list[dict]]):
    """Draw the leading results of a recipe, models or trials."""
    records = update.leading(groups)
    first = records[0]
    if "trials" not in first:
        rows = []
        for model in first["metrics"]["models"]:
            of_model = [record["metrics"]["models"][model] for record in records]
            mean = np.mean([result["accuracy"] for result in of_model])
            interval = np.mean([r["accuracy_interval"] for r in of_model], axis=0)
            rows.append((model, mean, tuple(interval)))
        return figures.comparison(rows)
    by, compared = first["by"], first.get("compared", first["by"][0])
    along = [name for name in by if name != compared]
    chosen = study.choose(first["trials"], by, first.get("over", []))
    summaries = study.summarize(chosen, by)
    if not along:
        return figures.comparison(
            [
                (row[compared], row["mean"], (row["low"], row["high"]))
                for row in summaries
            ]
        )
    lines = study.series(summaries, along[0], compared)
    if compared == by[0]:
        lines = {f"{value} {compared}": line for value, line in lines.items()}
    places = [str(place) for place in dict.fromkeys(row[along[0]] for row in summaries)]
    return figures.lines(lines, places, along[0].capitalize(), "Test accuracy")


def help_of(name: str) -> str:
    """Return the help of a recipe, as the command line prints it."""
    command = [sys.executable, "-m", "keras_tl", "run", name, "--help"]
    environment = os.environ | {"COLUMNS": "80", "NO_COLOR": "1"}
    shown = subprocess.run(
        command, cwd=ROOT, env=environment, capture_output=True, text=True, check=True
    )
    return shown.stdout.strip()


def write_modules() -> None:
    """Write a page for each room of the core, and one for each of its modules."""
    folder = fresh("api")
    rooms = []
    for path in sorted(ROOT.glob("keras_tl/*/__init__.py")):
        room = f"keras_tl.{path.parent.name}"
        rooms.append(room)
        modules = {
            module.stem: f"{room}.{module.stem}"
            for module in sorted(path.parent.glob("[!_]*.py"))
        }
        named = [f"{name} <{module}>" for name, module in modules.items()]
        write_module(folder, room, named)
        for module in modules.values():
            write_module(folder, module)
    text = f"# API\n\nThe rooms of the core; [their map](../core.md).\n\n{tree(rooms)}"
    (folder / "index.md").write_text(text)


def write_module(folder: Path, name: str, modules: list[str] | None = None) -> None:
    """Write the page of a module, or of a room with its modules."""
    lines = ["```{eval-rst}", f".. automodule:: {name}", "   :members:", "```"]
    text = "\n".join([f"# {name}", "", *lines, "", tree(modules) if modules else ""])
    (folder / f"{name}.md").write_text(text.rstrip() + "\n")


def tree(pages: list[str]) -> str:
    """Return a table of contents."""
    return "\n".join(["```{toctree}", ":maxdepth: 1", "", *pages, "```"])


def copy_notebooks() -> None:
    """Copy the executed notebooks."""
    folder = fresh("notebooks")
    for path in sorted((ROOT / "notebooks").glob("*.ipynb")):
        shutil.copy(path, folder)


def fresh(name: str) -> Path:
    """Return an empty folder for pages that are not written by hand."""
    folder = DOCS / name
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir()
    return folder


def main() -> None:
    """Generate the pages and build the site."""
    write_recipes()
    write_modules()
    copy_notebooks()
    folder = fresh("project")
    for page, source in COPIES.items():
        shutil.copy(ROOT / source, folder / page)
    shutil.rmtree(DOCS / "_site", ignore_errors=True)
    options = ["-W", "--keep-going", "-q", "-j", "2"]
    status = sphinx_build([*options, str(DOCS), str(DOCS / "_site")])
    # What myst-nb keeps of notebooks between builds.
    shutil.rmtree(DOCS / "jupyter_execute", ignore_errors=True)
    print(DOCS / "_site" / "index.html")
    sys.exit(status)


if __name__ == "__main__":
    main()
