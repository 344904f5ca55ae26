import json
import os
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from keras_tl import cli
from keras_tl.training import store

ROOT = Path(__file__).parents[1]


def keras_tl(*arguments, cwd=ROOT, **options):
    return subprocess.run(
        [sys.executable, "-m", "keras_tl", *map(str, arguments)],
        cwd=cwd,
        env={**os.environ, "PYTHONPATH": str(ROOT), "TF_CPP_MIN_LOG_LEVEL": "3"},
        capture_output=True,
        text=True,
        check=False,
        **options,
    )


def test_list_names_every_recipe_with_its_first_line(call, capsys):
    assert call("list") == 0
    shown = capsys.readouterr().out
    files = {path.stem for path in (ROOT / "recipes").glob("[!_]*.py")}
    assert {line.split()[0] for line in shown.splitlines()} == files
    assert "Fine-tune a pretrained EfficientNet-Lite0" in shown


def test_show_prints_the_file(call, capsys):
    assert call("show", "quickstart") == 0
    assert capsys.readouterr().out == (ROOT / "recipes/quickstart.py").read_text()


def test_copy_writes_a_file_once_and_never_over_another(call, capsys, tmp_path):
    target = tmp_path / "mine" / "quickstart.py"
    assert call("copy", "quickstart", target.parent) == 0
    assert target.read_text() == (ROOT / "recipes/quickstart.py").read_text()
    target.write_text("mine")
    assert call("copy", "quickstart", target.parent) == 2
    assert target.read_text() == "mine"
    assert "not overwritten" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["lsit"], "Did you mean list"),
        (["run", "quikstart"], "Did you mean quickstart?"),
        (["show", "vgg16"], "Did you mean vgg16_cifar10?"),
        (["predict", "absent", "absent.jpg"], "folder of a finished run"),
        (["predict", ".", "README.md"], "finished run"),
    ],
)
def test_a_wrong_name_ends_with_status_2_and_one_sentence(
    call, monkeypatch, capsys, arguments, said
):
    monkeypatch.chdir(ROOT)
    assert call(*arguments) == 2
    shown = capsys.readouterr().err
    assert said in shown
    assert "Traceback" not in shown


def test_usage_names_every_command(call, capsys):
    assert call() == 0
    shown = capsys.readouterr().out
    for command in ("list", "show", "copy", "run", "predict"):
        assert f"\n  {command} " in shown
        assert call(command, "--help") == 0


def test_what_needs_no_model_imports_neither_tensorflow_nor_keras(tmp_path):
    script = f"""
import sys
from keras_tl import cli
from keras_tl.training import store
recipes = cli.recipe_names()
for arguments in (["--help"], ["list"], ["show", "quickstart"],
                  ["copy", "quickstart", {str(tmp_path)!r}], ["run"], ["run", "x"],
                  *(["run", name, "--help"] for name in recipes),
                  *(["run", name, "--no-such-flag"] for name in recipes)):
    sys.argv = ["keras-tl", *arguments]
    try:
        cli.main()
    except SystemExit:
        pass
heavy = {{"tensorflow", "keras", "sklearn"}} & set(sys.modules)
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


def test_a_recipe_whose_settings_need_more_than_constants_still_runs(
    call, monkeypatch, capsys, tmp_path
):
    (tmp_path / "own.py").write_text(
        "import argparse\n"
        "from dataclasses import dataclass\n"
        "from keras_tl import config\n"
        "EPOCHS = int('3')\n"
        "@dataclass(frozen=True)\n"
        "class Config:\n"
        '    """Own."""\n'
        "    epochs: int = EPOCHS\n"
        "def main(settings):\n"
        "    print(settings.epochs)\n"
        "if __name__ == '__main__':\n"
        "    config.run(main, Config)\n"
    )
    monkeypatch.setattr(cli, "recipe_folder", lambda: tmp_path)
    assert call("run", "own", "--epochs", "4") == 0
    assert capsys.readouterr().out == "4\n"


@pytest.mark.slow
def test_a_copied_recipe_runs_from_an_empty_folder(call, tmp_path):
    assert call("copy", "vgg16_cifar10", tmp_path) == 0
    ended = subprocess.run(
        [sys.executable, "vgg16_cifar10.py", "--help"],
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert ended.returncode == 0, ended.stderr
    assert "--backbone" in ended.stdout


@pytest.mark.slow
def test_a_recipe_runs_alike_as_file_as_module_and_by_the_command():
    ended = []
    for command in (
        ["recipes/quickstart.py"],
        ["-m", "recipes.quickstart"],
        ["-m", "keras_tl", "run", "quickstart"],
    ):
        process = subprocess.run(
            [sys.executable, *command, "--help"],
            cwd=ROOT,
            env={**os.environ, "PYTHONPATH": str(ROOT), "TF_CPP_MIN_LOG_LEVEL": "3"},
            capture_output=True,
            text=True,
            check=False,
        )
        # The first line names the command itself.
        ended.append((process.returncode, process.stdout.partition("\n")[2]))
    assert ended[0] == ended[1] == ended[2]
    assert ended[0][0] == 0


def test_the_cache_is_listed_and_cleared(call, monkeypatch, capsys, cache):
    assert call("cache", "list") == 0
    assert "Nothing is kept in" in capsys.readouterr().out
    for stem, size in (("0a1b2c3d", 96), ("4e5f6a7b", 96), ("8c9d0e1f", 128)):
        about = {"about": "vgg16 to block3_pool", "input_shape": (size, size, 3)}
        kept = store.Store(cache, stem, (3, 4), "float32", **about)
        kept.add([bytes(16), bytes([1] * 16)], np.zeros((2, 3, 4), "float32"))
        kept.flush()
    # As an earlier version wrote it.
    path = cache / "4e5f6a7b" / "stem.json"
    about = {"about": "vgg16_stem", "shape": [3, 4], "dtype": "float32"}
    path.write_text(json.dumps(about))
    for stem in cache.iterdir():
        os.utime(stem / "stem.json", (0, 0))
    monkeypatch.setenv("COLUMNS", "200")
    assert call("cache", "list") == 0
    shown = capsys.readouterr().out
    rows = [re.split(r"[│|]", line)[1:-1] for line in shown.splitlines()]
    rows = sorted([cell.strip() for cell in row[:4]] for row in rows if len(row) > 4)
    assert rows == [
        ["vgg16 to block3_pool (0a1b2c)", "96 x 96 x 3", "3 x 4", "2"],
        ["vgg16 to block3_pool (8c9d0e)", "128 x 128 x 3", "3 x 4", "2"],
        ["vgg16_stem (4e5f6a)", "?", "3 x 4", "2"],
    ]
    assert str(cache) in shown
    assert call("cache", "clear") == 0
    assert "Removed 0.0 MiB" in capsys.readouterr().out
    assert not list(cache.iterdir())
    assert call("cache", "burn") == 2


def test_listing_the_cache_imports_neither_tensorflow_nor_keras(tmp_path):
    code = (
        "import sys; from keras_tl import cli\n"
        "sys.argv = ['keras-tl', 'cache', 'list']\n"
        "cli.main()\n"
        "assert not {'tensorflow', 'keras', 'sklearn'} & set(sys.modules)"
    )
    ended = subprocess.run(
        [sys.executable, "-c", code],
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert ended.returncode == 0, ended.stderr


@pytest.mark.parametrize(
    "arguments",
    [["list"], ["show", "few_labels"], ["run", "few_labels", "--help"], ["--help"]],
)
def test_output_that_nobody_reads_any_more_is_no_error(arguments):
    reader, writer = os.pipe()
    os.close(reader)
    ended = subprocess.run(
        [sys.executable, "-m", "keras_tl", *arguments],
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        stdout=writer,
        stderr=subprocess.PIPE,
        check=False,
    )
    os.close(writer)
    assert (ended.returncode, ended.stderr) == (141, b"")


def test_ctrl_c_while_keras_is_loading_shows_no_traceback(tmp_path):
    (tmp_path / "keras.py").write_text("raise KeyboardInterrupt\n")
    ended = subprocess.run(
        [sys.executable, ROOT / "recipes" / "quickstart.py"],
        env={**os.environ, "PYTHONPATH": os.pathsep.join([str(tmp_path), str(ROOT)])},
        capture_output=True,
        text=True,
        check=False,
    )
    assert ended.returncode != 0
    assert ended.stderr == "\ninterrupted.\n"


def test_help_fits_into_80_columns(call, monkeypatch, capsys):
    monkeypatch.setenv("COLUMNS", "80")
    for command in ("", "list", "show", "copy", "cache", "run", "run quickstart"):
        assert call(*command.split(), "--help") == 0
        shown = capsys.readouterr().out
        assert max(map(len, shown.splitlines())) <= 80, command


def test_list_wraps_in_a_terminal_and_nowhere_else(call, monkeypatch, capsys):
    monkeypatch.setenv("COLUMNS", "80")
    call("list")
    lines = capsys.readouterr().out.splitlines()
    monkeypatch.setattr(sys.stdout, "isatty", lambda: True)
    call("list")
    wrapped = capsys.readouterr().out.splitlines()
    assert max(map(len, wrapped)) <= 80 < max(map(len, lines))
    joined = "".join(f"\n{w}" if w[0] != " " else f" {w.strip()}" for w in wrapped)
    assert joined.splitlines()[1:] == lines
