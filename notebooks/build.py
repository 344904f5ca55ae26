"""Write notebooks/NAME.ipynb from recipes/NAME.py, or check that they are current.

python notebooks/build.py           # write them
python notebooks/build.py --check   # change nothing, exit 1 if one is out of date
"""

import argparse
import ast
import re
import sys
from pathlib import Path

import jupytext
import nbformat

ROOT = Path(__file__).parents[1]
RECIPES = ROOT / "recipes"
NOTEBOOKS = ROOT / "notebooks"

NOTE = """\
This notebook needs keras-tl: `pip install -e .` in a checkout of it. It is made
from the recipe `{name}`: `keras-tl run {name}` does the same."""
LAST = """\
# Other settings are arguments, as in Config(limit=500, epochs=2).
metrics = main(Config())"""


def notebook(recipe: Path) -> str:
    """Make the notebook of a recipe: no outputs, the same cell ids every time."""
    source = recipe.read_text(encoding="utf-8")
    docstring = ast.get_docstring(ast.parse(source), clean=False)
    first, *cells = jupytext.reads(source, fmt="py:percent").cells
    if docstring is None or first.source.strip() != f'"""{docstring}"""':
        sys.exit(f"{recipe} must begin with a docstring and `# %%`, nothing between.")
    made = [
        nbformat.v4.new_markdown_cell(markdown(docstring)),
        nbformat.v4.new_markdown_cell(NOTE.format(name=recipe.stem)),
    ]
    for cell in cells:
        # In a notebook `__name__` is "__main__" too, and there is no command line.
        if "script" not in cell.metadata.get("tags", []):
            new = getattr(nbformat.v4, f"new_{cell.cell_type}_cell")
            made.append(new(cell.source))
    made.append(nbformat.v4.new_code_cell(LAST))
    for number, cell in enumerate(made):
        cell["id"] = f"cell-{number}"
    metadata = {
        "kernelspec": {
            "display_name": "Python 3",
            "language": "python",
            "name": "python3",
        },
        "language_info": {"name": "python"},
    }
    whole = nbformat.v4.new_notebook(cells=made, metadata=metadata)
    # Otherwise the newest minor version that the installed nbformat knows.
    whole.nbformat_minor = 5
    nbformat.validate(whole)
    return nbformat.writes(whole).rstrip("\n") + "\n"


def markdown(docstring: str) -> str:
    """Turn a recipe's docstring into Markdown: a title, bold names, fenced blocks."""
    title, *lines = docstring.splitlines()
    text = [f"# {title.rstrip('.')}"]
    inside = False
    for line in [*lines, ""]:
        block = line.startswith("    ")
        if block != inside:
            text += ["```"] if inside else ["", "```text"]
            inside = block
        named = re.match(r"([A-Z][a-z]+):(.*)", line)
        if named:
            text += ["", f"**{named[1]}:**{named[2]}"]
        else:
            text.append(line.removeprefix("    "))
    return re.sub(r"\n{3,}", "\n\n", "\n".join(text)).strip()


def stale() -> dict[Path, str]:
    """Find the notebooks that are out of date, with what they have to hold."""
    wanted = {
        NOTEBOOKS / f"{recipe.stem}.ipynb": notebook(recipe)
        for recipe in sorted(RECIPES.glob("[!_]*.py"))
    }
    strangers = set(NOTEBOOKS.glob("*.ipynb")) - set(wanted)
    if strangers:
        names = ", ".join(sorted(path.name for path in strangers))
        sys.exit(f"No recipe is called like these notebooks; delete them: {names}")
    return {
        path: text
        for path, text in wanted.items()
        if not path.exists() or path.read_bytes() != text.encode()
    }


def main(arguments: list[str] | None = None) -> None:
    """Write the notebooks, or with `--check` name those that are out of date."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--check", action="store_true", help="write nothing")
    found = stale()
    if parser.parse_args(arguments).check:
        if found:
            names = ", ".join(path.name for path in found)
            sys.exit(f"Out of date: {names}. Run: python notebooks/build.py")
        return
    for path, text in found.items():
        path.write_bytes(text.encode())
        print(path)


if __name__ == "__main__":
    main()
