import re
import subprocess
import sys
import textwrap
from pathlib import Path

import keras_tl
from keras_tl import cli

ROOT = Path(__file__).parents[1]
README = (ROOT / "README.md").read_text()
PAGES = [
    *(ROOT / "README.md", ROOT / "CONTRIBUTING.md", *ROOT.glob("docs/*.md")),
    *ROOT.glob("docs/how_to/*.md"),
]
TEXTS = [*PAGES, *ROOT.glob("recipes/*.py")]


def test_numbers_agree_with_the_result_files():
    ended = subprocess.run(
        [sys.executable, "results/update.py", "--check"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    assert ended.returncode == 0, ended.stderr


def test_every_command_that_is_shown_exists():
    found = 0
    for path in TEXTS:
        for command, name in re.findall(
            r"^(?:    )?(?:pip install -e \. && )?keras-tl (\w+) (\S+)",
            path.read_text(),
            re.MULTILINE,
        ):
            found += 1
            if command in ("run", "show", "copy"):
                assert name in cli.recipe_names(), f"{path}: keras-tl {command} {name}"
            else:
                others = {"list", "predict", "cache", "cluster"}
                assert command in {*cli.COMMANDS, *others}, f"{path}: {command}"
    assert found >= 6


def test_the_shortest_way_in_python_is_that_of_the_package():
    code = re.search(r"```python\n(from keras_tl\.data.*?)```", README, re.DOTALL)
    shown = textwrap.indent(code.group(1), "    ")
    assert shown in keras_tl.__doc__


def test_every_module_of_the_core_is_on_the_map():
    page = (ROOT / "docs/core.md").read_text()
    for path in (ROOT / "keras_tl").glob("*/[!_]*.py"):
        room = path.parent.name
        row = next(
            line
            for line in page.splitlines()
            if line.startswith(f"| `keras_tl.{room}`")
        )
        if path.stem not in ("images", "progress"):
            assert f"`{path.stem}`" in row, f"{room}.{path.stem} is not in docs/core.md"


def test_nothing_tells_of_the_machine_it_was_written_on():
    pattern = re.compile(r"/(?:work|root|home|tmp)/[a-z]")
    for path in [*TEXTS, *ROOT.glob("keras_tl/**/*.py"), *ROOT.glob("results/**/*.*")]:
        if "__pycache__" not in path.parts:
            assert not pattern.search(path.read_text()), path


def test_every_link_between_pages_leads_somewhere():
    for path in PAGES:
        for target in re.findall(r"\]\(([^)#:]+)\)", path.read_text()):
            assert (path.parent / target).exists(), f"{path.name}: {target}"


def test_each_page_that_says_how_answers_a_question_of_the_index():
    index = (ROOT / "docs/how_to/index.md").read_text()
    for path in ROOT.glob("docs/how_to/*.md"):
        assert path.stem == "index" or f"]({path.name})" in index, path.name


def test_each_recipe_is_an_answer_to_what_somebody_wants():
    page = (ROOT / "docs/recipes.md").read_text()
    for name in cli.recipe_names():
        assert f"[{name}](../recipes/{name}.py)" in page
