"""The notebooks teach step by step, are stored executed, and run anywhere."""

import ast
import importlib
import importlib.util
import re
import shutil
from pathlib import Path

import nbformat
import numpy as np
import pytest
from PIL import Image

from keras_tl import cli

ROOT = Path(__file__).parents[1]
NOTEBOOKS = sorted((ROOT / "notebooks").glob("*.ipynb"))


@pytest.fixture(scope="module")
def build(script):
    """The script notebooks/build.py, as a module."""
    return script("notebooks/build.py")


def code(notebook):
    return [cell for cell in notebook.cells if cell.cell_type == "code"]


def test_every_recipe_has_a_notebook_that_is_current_and_executed(build):
    build.main(["--check"])
    names = {path.stem for path in NOTEBOOKS}
    assert names == {*cli.recipe_names(), "from_photos_to_server"}


def test_check_names_what_is_stale_and_why(build, monkeypatch, tmp_path):
    shutil.copytree(ROOT / "notebooks", tmp_path / "notebooks")
    monkeypatch.setattr(build, "NOTEBOOKS", tmp_path / "notebooks")

    def change(name, how):
        path = tmp_path / f"notebooks/{name}.ipynb"
        notebook = nbformat.read(path, as_version=4)
        how(notebook)
        nbformat.write(notebook, path)

    def forget(notebook):
        code(notebook)[2].execution_count = None

    def edit(notebook):
        notebook.cells[3].source += "\n# changed"

    change("quickstart", edit)
    change("cnn_cifar10", forget)
    (tmp_path / "notebooks/multi_task.ipynb").unlink()
    with pytest.raises(SystemExit) as stopped:
        build.main(["--check"])
    message = str(stopped.value)
    assert "quickstart.ipynb differs from its source." in message
    assert "cnn_cifar10.ipynb was not executed" in message
    assert "multi_task.ipynb is missing." in message
    assert "python notebooks/build.py" in message


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_a_notebook_goes_step_by_step_and_shows_figures(path):
    notebook = nbformat.read(path, as_version=4)
    nbformat.validate(notebook)
    assert notebook.cells[0].source.startswith("# ")
    headings = re.findall(
        r"^## (.*)",
        "\n".join(c.source for c in notebook.cells if c.cell_type == "markdown"),
        re.MULTILINE,
    )
    assert len(headings) >= 5
    assert headings[-1] == "What to try next"
    outputs = [output for cell in code(notebook) for output in cell.outputs]
    assert sum("image/png" in output.get("data", {}) for output in outputs) >= 3
    for output in outputs:
        assert output.output_type != "error"
        # Neither warnings nor the messages of a library.
        assert output.get("name") != "stderr", output["text"]
    # It uses the functions of the recipe instead of repeating them.
    imported = f"from keras_tl.recipes import {path.stem} as recipe"
    is_of_recipe = path.stem in cli.recipe_names()
    assert any(imported in cell.source for cell in code(notebook)) == is_of_recipe
    for cell in code(notebook):
        assert not cell.source.startswith("def build_")


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_without_the_project_a_notebook_stops_with_one_sentence(path, monkeypatch):
    first = code(nbformat.read(path, as_version=4))[0]
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(SystemExit, match=r"install keras-tl .*: pip install"):
        exec(first.source, {})


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_what_a_notebook_imports_exists(path):
    for cell in code(nbformat.read(path, as_version=4)):
        source = re.sub(r"^%.*", "", cell.source, flags=re.MULTILINE)
        for node in ast.walk(ast.parse(source)):
            if isinstance(node, ast.ImportFrom) and node.module.startswith("keras_tl"):
                # The wheel has the recipes as `keras_tl.recipes`.
                name = re.sub(r"^keras_tl\.recipes", "recipes", node.module)
                for alias in node.names:
                    module = importlib.import_module(name)
                    if not hasattr(module, alias.name):
                        importlib.import_module(f"{name}.{alias.name}")


def test_a_cell_that_fails_fails_the_build(build, monkeypatch, tmp_path, capsys):
    def failing(name):
        cells = [nbformat.v4.new_code_cell("1 / 0")]
        return nbformat.v4.new_notebook(cells=cells)

    monkeypatch.setattr(build, "unexecuted", failing)
    monkeypatch.setattr(build, "NOTEBOOKS", tmp_path)
    with pytest.raises(SystemExit, match="Failed: quickstart"):
        build.main(["quickstart"])
    assert "ZeroDivisionError" in capsys.readouterr().err
    assert not list(tmp_path.iterdir())


def test_a_name_that_is_no_notebook_is_refused(build, capsys):
    with pytest.raises(SystemExit, match="2"):
        build.main(["quickstrat"])
    assert "no notebook called quickstrat" in capsys.readouterr().err


@pytest.fixture
def domains(tmp_path):
    """A folder called pacs, of two domains with two classes each."""
    rng = np.random.default_rng(0)
    for domain in ("photo", "sketch"):
        for label in ("dog", "horse"):
            folder = tmp_path / "pacs" / domain / label
            folder.mkdir(parents=True)
            for number in range(8):
                pixels = rng.integers(0, 256, (32, 32, 3), dtype="uint8")
                Image.fromarray(pixels).save(folder / f"{number}.png")
    return tmp_path


# Their data and weights are not the package's.
NEED_WEIGHTS = {"sentiment_from_72_sentences", "spoken_digits", "zero_shot_cifar10"}
NEED_WEIGHTS |= {"domain_adaptation_digits"}


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore::keras_tl.errors.InputWarning")
def test_the_notebooks_of_the_template_work_up_to_the_run(build, domains, monkeypatch):
    # The run itself is that of the recipe, see tests/test_recipes.py.
    monkeypatch.chdir(domains)
    for name in build.SHORT.keys() - NEED_WEIGHTS:
        names = {}
        for cell in code(build.unexecuted(name)):
            source = re.sub(r"^%.*", "", cell.source, flags=re.MULTILINE)
            source = source.replace("keras_tl.recipes", "recipes")
            if "recipe.main(" in source:
                break
            exec(source, names)
        assert names["layers"].rows, name
        assert "data" in names
