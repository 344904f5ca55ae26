"""Which room may import which, read from the source; design in CONTRIBUTING.md."""

import ast
import dataclasses
import importlib
import os
import subprocess
import sys
import textwrap
from pathlib import Path

import keras
import pytest

ROOT = Path(__file__).parents[1]
CORE = ROOT / "keras_tl"
BASE = {"cluster", "config", "environment", "files", "errors", "progress", "quiet"}
# What a room may import besides itself and BASE.
MAY_IMPORT = {
    "data": set(),
    "models": set(),
    "training": {"data", "models"},
    "methods": {"data", "models", "training"},
    "analysis": {"data", "models", "training"},
    "deploy": {"data", "models", "training", "methods", "analysis"},
    "serving": {"data", "deploy"},
    "assets": set(),
    "vendoring": set(),
    "commands": {
        *("data", "models", "training", "methods", "analysis", "deploy", "serving"),
    },
    "cli": {
        *("vendoring", "data", "models", "training", "methods", "analysis", "deploy"),
        *("serving", "commands"),
    },
    "__main__": {"cli"},
    "__init__": {"deploy"},
    **{name: set() for name in BASE},
}
MAY_USE_TENSORFLOW = (
    "data/",
    "deploy/",
    "training/gradients.py",
    "training/placement.py",
    "training/workers.py",
)
MODULES = sorted(CORE.rglob("*.py"))
RECIPES = sorted((ROOT / "recipes").glob("[!_]*.py"))


def imports(path):
    """Dotted names that a file imports, and whether at the top of the file."""
    tree = ast.parse(path.read_text())
    top = {
        id(node)
        for statement in tree.body
        if not isinstance(statement, (ast.FunctionDef, ast.ClassDef, ast.If))
        for node in ast.walk(statement)
    }
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            for alias in node.names:
                yield alias.name, id(node) in top
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: imports are absolute"
            for alias in node.names:
                yield f"{node.module}.{alias.name}", id(node) in top


def room(path):
    return path.relative_to(CORE).parts[0].removesuffix(".py")


@pytest.mark.parametrize("path", MODULES, ids=lambda p: str(p.relative_to(CORE)))
def test_imports_point_one_way(path):
    own = room(path)
    for name, _ in imports(path):
        parts = name.split(".")
        if parts[0] != "keras_tl" or name == "keras_tl.__version__":
            continue
        assert parts[1:], f"{path}: `import keras_tl` hides what is used"
        assert parts[1] != "recipes"
        assert parts[1] in {own} | BASE | MAY_IMPORT[own], f"{path} imports {name}"


@pytest.mark.parametrize("path", MODULES, ids=lambda p: str(p.relative_to(CORE)))
def test_tensorflow_stays_in_its_rooms_and_inside_functions(path):
    for name, at_top in imports(path):
        if name.split(".")[0] in ("tensorflow", "tensorflow_datasets"):
            where = path.relative_to(CORE).as_posix()
            assert where.startswith(MAY_USE_TENSORFLOW) or room(path) == "assets"
            assert not at_top, f"{where} imports TensorFlow at its top"


@pytest.mark.parametrize(
    "path", sorted(CORE.glob("*/__init__.py")), ids=lambda p: p.parent.name
)
def test_the_init_of_a_room_is_a_docstring_that_lists_its_modules(path):
    tree = ast.parse(path.read_text())
    assert len(tree.body) == 1
    docstring = ast.get_docstring(tree)
    for module in path.parent.glob("[!_]*.py"):
        assert f"\n- `{module.stem}`: " in docstring
    whole = ast.get_docstring(ast.parse((CORE / "__init__.py").read_text()))
    assert f"\n- `{path.parent.name}`: {docstring[:20]}" in whole


def test_the_docstring_of_the_package_names_its_modules():
    docstring = ast.get_docstring(ast.parse((CORE / "__init__.py").read_text()))
    for module in CORE.glob("[!_]*.py"):
        assert f"`{module.stem}`" in docstring


def test_the_shortest_way_in_python_makes_a_classifier(tmp_path, monkeypatch, colours):
    docstring = ast.get_docstring(ast.parse((CORE / "__init__.py").read_text()))
    _, blocks = docstring.split("With the building blocks")
    lines = [line for line in blocks.splitlines() if line.startswith("    ")]
    code = textwrap.dedent("\n".join(lines))
    assert "import" in code
    monkeypatch.chdir(tmp_path)
    keras.utils.set_random_seed(0)
    train = colours.train
    images, labels = train.read(range(len(train))), train.labels
    exec(code, {"images": images, "labels": labels})
    model = keras.models.load_model(tmp_path / "model.keras")
    resized = keras.ops.image.resize(images.astype("float32"), (96, 96))
    right = model.predict(resized, verbose=0).argmax(1) == labels
    assert right.mean() > 0.6


def test_figures_take_plain_values_alone():
    own = {name for name, _ in imports(CORE / "analysis/figures.py")}
    ours = {name for name in own if name.startswith("keras_tl")}
    assert ours == {"keras_tl.errors", "keras_tl.files"}


def test_an_artefact_is_loaded_without_training_and_figures():
    script = """
import sys
from keras_tl.deploy import artifact
heavy = {"keras", "matplotlib", "tensorflow", "sklearn"} & set(sys.modules)
assert not heavy, heavy
rooms = ("keras_tl.training", "keras_tl.analysis.figures")
assert not [name for name in sys.modules if name.startswith(rooms)]
"""
    subprocess.run(
        [sys.executable, "-c", script],
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        check=True,
    )


@pytest.mark.parametrize("path", RECIPES, ids=lambda p: p.stem)
def test_the_run_of_a_recipe_is_read_in_one_breath(path):
    tree = ast.parse(path.read_text())
    main = next(n for n in tree.body if getattr(n, "name", "") == "main")
    assert main.end_lineno - main.lineno + 1 <= 60


def test_no_layer_runs_code_from_a_file():
    for path in [*MODULES, *RECIPES]:
        calls = [
            node.attr
            for node in ast.walk(ast.parse(path.read_text()))
            if isinstance(node, ast.Attribute)
        ]
        assert "Lambda" not in calls, path


def test_recipes_import_public_names_of_the_core_and_never_one_another():
    assert RECIPES
    for path in RECIPES:
        for name, _ in imports(path):
            parts = name.split(".")
            assert parts[0] != "recipes"
            assert not any(part.startswith("_") for part in parts)
            assert parts[0] != "tensorflow"


@pytest.mark.parametrize("path", RECIPES, ids=lambda p: p.stem)
def test_recipes_have_the_same_shape(path):
    tree = ast.parse(path.read_text())
    names = [
        n.name for n in tree.body if isinstance(n, (ast.ClassDef, ast.FunctionDef))
    ]
    assert names[0] == "Config"
    assert names[-1] == "main"
    assert {"build_data", "build_model"} <= set(names)
    docstring = ast.get_docstring(tree)
    for part in ("Workflow:", "Source:", "Data:", "Expected:", "Run:"):
        assert part in docstring
    assert f"keras-tl run {path.stem}" in docstring
    config = importlib.import_module(f"recipes.{path.stem}").Config
    fields = {field.name for field in dataclasses.fields(config)}
    wanted = {"weights", "limit", "seed", "out", "resume", "cache"}
    if "keras_tl.training.phases" in {name for name, _ in imports(path)}:
        wanted |= {"batch_size", "precision", "tensorboard", "class_weights"}
        assert {"epochs", "steps"} & fields
    assert wanted <= fields
    assert config.__doc__ == docstring.splitlines()[0]
    # What results/update.py fills in is not for the writer to shorten.
    measured = docstring.partition("\nExpected:")[2].partition("\nRun:")[0]
    written = path.read_text().replace(measured, "")
    assert len(written.splitlines()) <= 270
