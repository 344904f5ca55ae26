"""The notebooks are what notebooks/build.py makes of the recipes, and they run."""

import dataclasses
import importlib
import importlib.util
import json
import os
import sys
import types
from pathlib import Path

import nbformat
import pytest
from nbclient import NotebookClient

ROOT = Path(__file__).parents[1]
NOTEBOOKS = sorted((ROOT / "notebooks").glob("*.ipynb"))
# Settings of the last cell at which a notebook is run here.
SIZES = {
    "cnn_cifar10": {"dataset": "cifar10_sample"},
    "feature_extraction": {},
    "layer_freezing": {"sizes": (20,), "every": 8, "seeds": 1},
    "quickstart": {"fine_tune_epochs": 1, "scratch_epochs": 1},
    "vgg16_cifar10": {
        "dataset": "cifar10_sample",
        "backbone": "mobilenet",
        "weights": None,
        "fine_tune_epochs": 1,
        "unfreeze_from": "conv_dw_12",
    },
}


@pytest.fixture
def build():
    """The script notebooks/build.py, as a module."""
    spec = importlib.util.spec_from_file_location("build", ROOT / "notebooks/build.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_notebooks_are_current(build):
    build.main(["--check"])
    assert {path.stem for path in NOTEBOOKS} == {
        path.stem for path in (ROOT / "recipes").glob("[!_]*.py")
    }


def test_check_names_what_is_out_of_date_and_building_mends_it(
    build, monkeypatch, tmp_path
):
    monkeypatch.setattr(build, "NOTEBOOKS", tmp_path)
    with pytest.raises(SystemExit, match=r"quickstart\.ipynb, .*Run: python"):
        build.main(["--check"])
    assert not list(tmp_path.iterdir())
    build.main([])
    build.main(["--check"])
    changed = tmp_path / "vgg16_cifar10.ipynb"
    changed.write_text(changed.read_text().replace("frozen", "molten"))
    with pytest.raises(SystemExit, match=r"date: vgg16_cifar10\.ipynb\."):
        build.main(["--check"])
    build.main([])
    (tmp_path / "renamed.ipynb").write_text("{}")
    with pytest.raises(SystemExit, match=r"delete them: renamed\.ipynb"):
        build.main(["--check"])


def test_a_recipe_that_would_lose_code_is_refused(build, tmp_path):
    recipe = tmp_path / "recipe.py"
    recipe.write_text('"""One line."""\n\nimport keras\n\n# %%\nprint(keras)\n')
    with pytest.raises(SystemExit, match="nothing between"):
        build.notebook(recipe)


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_notebooks_read_well_and_hold_no_outputs(path):
    notebook = nbformat.read(path, as_version=4)
    nbformat.validate(notebook)
    first, note, *cells, last = notebook.cells
    assert first.cell_type == note.cell_type == "markdown"
    assert first.source.startswith("# ")
    assert first.source.count("```") % 2 == 0
    for part in ("Workflow:", "Source:", "Data:", "Expected:", "Run:"):
        assert f"\n**{part}**" in first.source
    assert "pip install -e ." in note.source
    assert last.source.endswith("metrics = main(Config())")
    for cell in cells:
        assert cell.source.strip()
        assert "__main__" not in cell.source
    for cell in notebook.cells:
        assert not cell.get("outputs")
        assert cell.get("execution_count") is None
    assert len({cell.id for cell in notebook.cells}) == len(notebook.cells)


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_the_cells_define_what_the_recipe_does(path, monkeypatch):
    # All but the last, which runs it: tests/test_recipes.py does that for recipes.
    module = types.ModuleType(f"notebook_{path.stem}")
    monkeypatch.setitem(sys.modules, module.__name__, module)
    notebook = nbformat.read(path, as_version=4)
    for cell in notebook.cells[:-1]:
        if cell.cell_type == "code":
            exec(cell.source, vars(module))
    recipe = importlib.import_module(f"recipes.{path.stem}")
    functions = {
        name: _shape(value)
        for name, value in vars(recipe).items()
        if isinstance(value, types.FunctionType) and value.__module__ == recipe.__name__
    }
    assert "main" in functions
    for name, shape in functions.items():
        assert _shape(vars(module)[name]) == shape


def _shape(function):
    code = function.__code__
    return code.co_names, code.co_varnames


# One recipe of each kind.
@pytest.mark.slow
@pytest.mark.parametrize(
    "name",
    [
        *("cnn_cifar10", "vgg16_cifar10", "feature_extraction", "layer_freezing"),
        "quickstart",
    ],
)
def test_a_notebook_runs_from_the_first_cell_to_the_last(name, monkeypatch, tmp_path):
    # The kernel is a process of its own: it leaves nothing in the user's folders.
    for variable in ("IPYTHONDIR", "JUPYTER_RUNTIME_DIR", "JUPYTER_CONFIG_DIR"):
        monkeypatch.setenv(variable, str(tmp_path / variable.lower()))
    monkeypatch.setenv("PYTHONPATH", str(ROOT), prepend=os.pathsep)
    notebook = nbformat.read(ROOT / "notebooks" / f"{name}.ipynb", as_version=4)
    run = tmp_path / "run"
    sizes = {"limit": 40, "image_size": 32, "epochs": 1, "batch_size": 16}
    config = importlib.import_module(f"recipes.{name}").Config
    known = {field.name for field in dataclasses.fields(config)}
    sizes = {key: value for key, value in sizes.items() if key in known}
    sizes |= {"out": str(run), **SIZES[name]}
    notebook.cells[-1].source = f"metrics = main(Config(**{sizes!r}))\nprint(metrics)"
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    NotebookClient(
        notebook,
        timeout=300,
        kernel_name="python3",
        resources={"metadata": {"path": str(elsewhere)}},
    ).execute()
    printed = "".join(o.get("text", "") for o in notebook.cells[-1].outputs)
    assert "Results go to" in printed
    assert json.loads((run / "manifest.json").read_text())["recipe"] == name
