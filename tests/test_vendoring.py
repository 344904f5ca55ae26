"""`keras-tl copy --vendor`: a folder that runs where keras-tl is not installed."""

import ast
import os
import subprocess
import sys
from importlib import metadata
from pathlib import Path

import pytest

from keras_tl import errors, vendoring

ROOT = Path(__file__).parents[1]
CORE = ROOT / "keras_tl"
RECIPES = sorted((ROOT / "recipes").glob("[!_]*.py"))


def contents(folder):
    return {path.relative_to(folder).as_posix() for path in folder.rglob("*")}


# Runs a script as `python FILE` does, with no way to an installed keras_tl.
ALONE = """
import pathlib, runpy, sys
root, script, *arguments = sys.argv[1:]
here = pathlib.Path.cwd()
sys.meta_path[:] = [
    f for f in sys.meta_path if "__editable__" not in getattr(f, "__module__", "")
]
sys.path[:] = [p for p in sys.path if pathlib.Path(p).resolve() != pathlib.Path(root)]
sys.path[0] = str(here)
sys.argv = [script, *arguments]
runpy.run_path(script, run_name="__main__")
loaded = {n: m for n, m in sys.modules.items() if n.split(".")[0] == "keras_tl"}
assert "keras_tl.models.backbones" in loaded
for name, module in loaded.items():
    assert here in pathlib.Path(module.__file__).parents, (name, module.__file__)
"""


@pytest.mark.slow
def test_a_vendored_recipe_runs_alone(call, tmp_path, capsys):
    folder = tmp_path / "new" / "mine"
    assert call("copy", "vgg16_cifar10", folder, "--vendor") == 0
    assert str(folder / "keras_tl") in capsys.readouterr().out
    sizes = ["--limit=40", "--image-size=32", "--epochs=1", "--fine-tune-epochs=1"]
    sizes += ["--dataset=cifar10_sample", "--backbone=efficientnet_lite0"]
    sizes += ["--unfreeze-from=block7a"]
    environment = {k: v for k, v in os.environ.items() if k != "PYTHONPATH"}
    ended = subprocess.run(
        [sys.executable, "-c", ALONE, ROOT, "vgg16_cifar10.py", *sizes],
        cwd=folder,
        env={**environment, "TF_CPP_MIN_LOG_LEVEL": "3"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert ended.returncode == 0, ended.stderr
    assert (folder / "runs" / "vgg16_cifar10" / "manifest.json").exists()


def test_what_is_vendored_is_what_the_recipe_needs():
    core = vendoring.core(ROOT / "recipes/vgg16_cifar10.py")
    names = {name.removeprefix("keras_tl/") for name in core}
    assert {
        *("__init__.py", "config.py", "errors.py", "files.py", "LICENSE"),
        *("data/__init__.py", "data/sources.py", "data/images.py", "data/splits.py"),
        *("models/__init__.py", "models/backbones.py", "models/efficientnet_lite.py"),
        *("training/phases.py", "training/checkpoint.py", "training/placement.py"),
        *("deploy/run_folder.py", "analysis/evaluation.py", "analysis/figures.py"),
        *("assets/efficientnet_lite0/weights.npz", "assets/efficientnet_lite0/LICENSE"),
        *("assets/efficientnet_lite0/README.md", "assets/cifar10_sample/README.md"),
        *("assets/cifar10_sample/sample.json", "assets/cifar10_sample/train.webp"),
    } <= names
    assert not names & {
        *("cli.py", "__main__.py", "vendoring.py", "models/small_cnn.py"),
        *("deploy/prediction.py", "analysis/probe.py", "analysis/study.py"),
        *("assets/efficientnet_lite0/make_weights.py", "assets/cifar10_sample/draw.py"),
    }
    assert "models/small_cnn.py" in {
        name.removeprefix("keras_tl/")
        for name in vendoring.core(ROOT / "recipes/quickstart.py")
    }


@pytest.mark.parametrize(
    "recipe",
    [
        pytest.param(path, marks=() if path.stem == "quickstart" else pytest.mark.slow)
        for path in RECIPES
    ],
    ids=lambda path: path.stem,
)
def test_a_vendored_copy_lacks_nothing_and_changes_nothing(recipe, call, tmp_path):
    assert call("copy", recipe.stem, tmp_path, "--vendor") == 0
    core = vendoring.core(recipe)
    folders = {str(parent) for name in core for parent in Path(name).parents} - {"."}
    assert contents(tmp_path) == {recipe.name, *core, *folders}
    assert not any("__pycache__" in name for name in core)
    for name, source in {recipe.name: recipe, **core}.items():
        assert (tmp_path / name).read_bytes() == source.read_bytes()
    # Each import that exists in the package exists in the copy.
    for path in tmp_path.rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.ImportFrom) and node.module.startswith("keras_tl"):
                inner = Path(*node.module.split("."))
                for name in [inner, *(inner / alias.name for alias in node.names)]:
                    if (ROOT / name).with_suffix(".py").exists():
                        assert (tmp_path / name).with_suffix(".py").exists()


def test_imports_are_found_wherever_and_however_they_are_written(tmp_path):
    recipe = tmp_path / "recipe.py"
    recipe.write_text(
        "from typing import TYPE_CHECKING\n"
        "import numpy, keras_tl.data.augment as augmenting\n"
        "from keras_tl import __version__\n"
        "if TYPE_CHECKING:\n"
        "    from keras_tl.models.heads import attach\n"
        "def function():\n"
        "    from keras_tl.training import features as late\n"
        "    from keras_tl_other import config\n"
    )
    found = {path.relative_to(CORE).as_posix() for path in vendoring.modules(recipe)}
    assert {"data/augment.py", "models/heads.py", "training/features.py"} < found
    assert {"__init__.py", "data/__init__.py", "training/__init__.py"} < found
    assert "models/splitting.py" in found  # Imported by heads.
    assert "cli.py" not in found


def test_every_asset_is_found_by_the_module_that_uses_it():
    named = set()
    for path in CORE.rglob("*.py"):
        tree = ast.parse(path.read_text())
        names = vendoring.asset_names(tree)
        named |= names
        mentions = [
            node
            for node in ast.walk(tree)
            if isinstance(node, ast.Constant) and node.value == "assets"
        ]
        if path.stem != "vendoring" and "assets" not in path.parts:
            assert len(mentions) == len(names), f'{path}: write / "assets" / "NAME"'
    folders = {path.name for path in (CORE / "assets").glob("[!_]*")}
    assert named == folders


@pytest.mark.parametrize("taken", ["quickstart.py", "keras_tl", "keras_tl/errors.py"])
def test_when_anything_is_there_nothing_is_written(taken, call, tmp_path, capsys):
    path = tmp_path / taken
    path.parent.mkdir(exist_ok=True)
    path.write_text("mine")
    before = contents(tmp_path)
    assert call("copy", "quickstart", tmp_path, "--vendor") == 2
    assert path.read_text() == "mine"
    assert contents(tmp_path) == before
    shown = capsys.readouterr().err
    assert str(tmp_path / Path(taken).parts[0]) in shown
    assert "not overwritten" in shown


def test_a_link_that_leads_nowhere_is_not_overwritten(call, tmp_path):
    (tmp_path / "keras_tl").symlink_to(tmp_path / "absent")
    assert call("copy", "quickstart", tmp_path, "--vendor") == 2
    assert contents(tmp_path) == {"keras_tl"}


def test_a_failed_copy_leaves_nothing(monkeypatch, tmp_path):
    real, copied = vendoring.shutil.copyfile, []

    def full(source, target):
        copied.append(source)
        if len(copied) == 5:
            raise OSError(28, "No space left on device")
        real(source, target)

    monkeypatch.setattr(vendoring.shutil, "copyfile", full)
    targets = vendoring.core(ROOT / "recipes/quickstart.py")
    with pytest.raises(errors.InputError, match="No space left"):
        vendoring.copy(targets, tmp_path / "mine")
    assert not list((tmp_path / "mine").iterdir())


@pytest.fixture
def wheel(monkeypatch, tmp_path):
    """What pip makes of the wheel: the recipes inside, the licence in the dist-info."""
    site = tmp_path / "site-packages"
    info = site / "keras_tl-9.9.9.dist-info"
    for name in (
        "keras_tl/recipes/quickstart.py",
        "LICENSE",
        f"{info.name}/licenses/keras_tl/assets/efficientnet_lite0/LICENSE",
        f"{info.name}/licenses/LICENSE",
    ):
        (site / name).parent.mkdir(parents=True, exist_ok=True)
        (site / name).write_text(f"this is {name}")
    (info / "METADATA").write_text("Name: keras-tl\nVersion: 9.9.9\n")
    (info / "RECORD").write_text(
        "".join(f"{p.relative_to(site)},,\n" for p in sorted(info.rglob("LICENSE")))
    )
    monkeypatch.setattr(vendoring, "PACKAGE", site / "keras_tl")
    monkeypatch.syspath_prepend(site)
    return info


def test_the_licence_of_an_installed_package_is_its_own(wheel):
    assert vendoring.licence() == wheel / "licenses" / "LICENSE"


def test_without_its_licence_the_copy_is_made_and_says_so(
    wheel, call, monkeypatch, tmp_path, capsys
):
    (wheel / "licenses" / "LICENSE").unlink()
    assert vendoring.licence() is None

    def absent(name):
        raise metadata.PackageNotFoundError(name)

    monkeypatch.setattr(metadata, "files", absent)
    assert vendoring.licence() is None
    monkeypatch.undo()
    monkeypatch.setattr(vendoring, "licence", lambda: None)
    folder = tmp_path / "mine"
    assert call("copy", "quickstart", folder, "--vendor") == 0
    assert "licence" in capsys.readouterr().out
    assert not (folder / "keras_tl/LICENSE").exists()


def test_a_vendoring_copy_imports_neither_tensorflow_nor_keras(tmp_path):
    script = f"""
import sys
from keras_tl import cli
sys.argv = ["keras-tl", "copy", "quickstart", {str(tmp_path)!r}, "--vendor"]
cli.main()
heavy = {{"tensorflow", "keras", "numpy"}} & set(sys.modules)
assert not heavy, heavy
"""
    ended = subprocess.run(
        [sys.executable, "-c", script],
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert ended.returncode == 0, ended.stderr
