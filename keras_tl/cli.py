"""The command `keras-tl`: list, show, copy and run recipes, use their results."""

import ast
import builtins
import copy as copies
import dataclasses
import functools
import importlib
import shutil
import sys
import textwrap
import types
from datetime import datetime
from pathlib import Path
from typing import Annotated, Literal

import keras_tl.quiet  # noqa: F401  Before Keras.

import tyro

from keras_tl import config, errors, files, vendoring
from keras_tl.commands.settings import COMMANDS, ClusterRun
from keras_tl.config import Settings

RecipeName = Annotated[str, tyro.conf.Positional, tyro.conf.arg(metavar="NAME")]
USAGE = """\
usage: keras-tl COMMAND ...

Transfer-learning recipes for Keras 3 and TensorFlow.

commands:
  train DATA             train the best model for your images, texts or sound in
                         a given time
  plan DATA              decide how to train, and say why, without training
  rank DATA              rank pretrained models for your data without training
  curve DATA             say how many more examples an accuracy needs, and of
                         which classes
  diagnose RUN           find which part of a run costs the accuracy, and what
                         to try next
  list                   list every recipe with what it does
  show NAME              print a recipe
  copy NAME FOLDER       copy a recipe to change it; with --vendor also what it
                         needs of keras_tl
  run NAME [OPTIONS]     run a recipe; its results go to a new folder, the RUN
  check DATA             look for what is wrong with data, before training
  pack DATA              write data into a few large files, for network storage,
                         which every command takes as DATA
  predict RUN INPUT...   classify images, texts or sound, or folders of them
  compare RUN RUN...     say on one page which run is better, how they differ
  serve RUN...           let others use runs: a web page and an API
  export RUN             write a model for LiteRT, ONNX or TensorFlow, with a
                         program that needs nothing else
  update RUN             train a run on with new examples or classes; keep what
                         it knew, or say what got worse
  inspect FILE           show what is in a model file, and what of it could do
                         harm, without executing any of it
  cluster run RECIPE --workers N
                         train on several machines, or `cluster run train DATA`,
                         with workers that Ray starts, and starts again
  cache list             list the features that runs have kept for later ones
  cache clear            remove these, and copies of packed data

`keras-tl COMMAND --help` explains a command, `keras-tl run NAME --help` the
options of a recipe. Begin with: keras-tl run quickstart, or, with data of your
own: keras-tl train DATA, where DATA is a folder of images or sound, one
sub-folder for each class, or a table of texts or of paths.
"""


def main() -> None:
    """Run the command line."""
    commands = {
        "list": list_recipes,
        "show": show,
        "copy": copy,
        "run": run,
        "predict": predict,
        "cache": cache,
        "cluster": cluster,
        **{name: functools.partial(on_data, name) for name in COMMANDS},
    }
    arguments = sys.argv[1:]
    with config.error_exit("keras-tl"):
        if not arguments or arguments[0] in ("-h", "--help"):
            print(USAGE, end="")
            return
        if arguments[0] == "--version":
            from keras_tl import __version__

            print(f"keras-tl {__version__}")
            return
        if arguments[0] not in commands:
            raise errors.unknown("command", arguments[0], commands)
        commands[arguments[0]](arguments[1:])


def on_data(name: str, arguments: list[str]) -> None:
    """Run a command of `keras_tl.commands`."""
    settings = settings_on_data(name, *arguments)
    if importlib.import_module(f"keras_tl.commands.{name}").main(settings) is False:
        raise SystemExit(1)


def settings_on_data(name: str, *arguments: str) -> Settings:
    """Read the settings of such a command; DATA or RUN may stand before all flags."""
    first = getattr(COMMANDS[name], "POSITIONAL", "data")
    if first is None:  # The settings name what stands before the flags.
        return config.parse(COMMANDS[name], list(arguments), f"keras-tl {name}")
    if arguments and arguments[0][:1] != "-":
        arguments = (f"--{first}", *arguments)
    elif arguments and not {f"--{first}", "-h", "--help", "--config", "--resume"} & {
        one.partition("=")[0] for one in arguments
    }:
        raise errors.InputError(
            f"{first.upper()} must come before the options: keras-tl {name} "
            f"{first.upper()} {' '.join(arguments[:2])} ..."
        )
    program = f"keras-tl {name} {first.upper()}"
    return config.parse(COMMANDS[name], list(arguments), program)


def recipe_folder() -> Path:
    """Return the folder of the recipes, in the package or beside it in a checkout."""
    inside = Path(__file__).parent / "recipes"
    return inside if inside.is_dir() else Path(__file__).parents[1] / "recipes"


def recipe_names() -> list[str]:
    """Return the names of all recipes: the files in their folder."""
    return sorted(p.stem for p in recipe_folder().glob("*.py") if p.stem[0] != "_")


def recipe_path(name: str) -> Path:
    """Find the file of a recipe.

    Raises:
        InputError: There is none of that name; the nearest are named.
    """
    if name not in recipe_names():
        raise errors.unknown("recipe", name, recipe_names())
    return recipe_folder() / f"{name}.py"


def list_recipes(arguments: list[str]) -> None:
    """Print the name of every recipe and the first line of its docstring."""
    tyro.cli(_nothing, args=arguments, prog="keras-tl list")
    width = max(map(len, recipe_names()))
    # Elsewhere each stays on its line, for `grep`.
    columns = shutil.get_terminal_size().columns if sys.stdout.isatty() else sys.maxsize
    for name in recipe_names():
        tree = ast.parse(recipe_path(name).read_text(encoding="utf-8"))
        line = f"{name:<{width}}  {(ast.get_docstring(tree) or '').splitlines()[0]}"
        print(textwrap.fill(line, columns, subsequent_indent=" " * (width + 2)))


def _nothing() -> None:
    """List every recipe with its description.

    `keras-tl show NAME` prints one, `keras-tl run NAME` runs it.
    """


def show(arguments: list[str]) -> None:
    """Print a recipe."""

    def parse(name: RecipeName) -> str:
        """Print a recipe, a Python file, as it is.

        Args:
            name: Name of a recipe; `keras-tl list` lists them.
        """
        return name

    name = tyro.cli(parse, args=arguments, prog="keras-tl show")
    print(recipe_path(name).read_text(encoding="utf-8"), end="")


def copy(arguments: list[str]) -> None:
    """Copy a recipe into a folder; nothing is ever overwritten."""

    def parse(
        name: RecipeName,
        folder: Annotated[Path, tyro.conf.Positional, tyro.conf.arg(metavar="FOLDER")],
        vendor: Annotated[bool, tyro.conf.FlagCreatePairsOff] = False,
    ) -> tuple[str, Path, bool]:
        """Copy a recipe to change it; nothing is ever overwritten.

        Args:
            name: Name of a recipe; `keras-tl list` lists them.
            folder: Folder to put it into; made when it is not there.
            vendor: Also copy what it needs of keras_tl, to run where that is not
                installed.
        """
        return name, folder, vendor

    name, folder, vendor = tyro.cli(parse, args=arguments, prog="keras-tl copy")
    recipe = recipe_path(name)
    core = vendoring.core(recipe) if vendor else {}
    vendoring.copy({recipe.name: recipe, **core}, folder)
    target = folder / recipe.name
    print(target)
    if vendor:
        number = sum(path.suffix == ".py" for path in core.values())
        modules = errors.counted(number, "module")
        print(f"{folder / 'keras_tl'} ({modules} and their assets)")
        if "keras_tl/LICENSE" not in core:
            print("keras-tl's own licence, Apache-2.0, was not found; add its text.")
    print(f"Change it, then run: python {target}")


def run(arguments: list[str]) -> None:
    """Run a recipe with the flags that follow its name."""
    if not arguments or arguments[0] in ("-h", "--help"):
        names = f"Recipes: {', '.join(recipe_names())}."
        print(
            "usage: keras-tl run NAME [OPTIONS]\n\n"
            "Run a recipe. Its results go to the folder of --out, or to "
            "runs/NAME.\n\n"
            f"{textwrap.fill(names, 79)}\n\n"
            "`keras-tl list` says what each does, `keras-tl run NAME --help` has the "
            "options."
        )
        raise SystemExit(0 if arguments else 2)
    path = recipe_path(arguments[0])
    sys.argv = [f"keras-tl run {path.stem}", *arguments[1:]]
    # Help and wrong flags are answered before the recipe loads Keras.
    with config.error_exit(sys.argv[0]):
        recipe_settings(path, arguments[1:])
    print("Loading Keras and TensorFlow.", file=sys.stderr)
    _execute(ast.parse(path.read_text(encoding="utf-8")), path)


def recipe_settings(path: Path, arguments: list[str]) -> Settings | None:
    """Read the settings of a recipe from its flags, without loading Keras.

    Returns:
        The settings; `None` where they need more than imports and constants.
    """
    light = _settings_alone(ast.parse(path.read_text(encoding="utf-8")))
    if light is None:
        return None
    program = f"keras-tl run {path.stem}"
    return config.parse(_execute(light, path)["Config"], arguments, program)


def _execute(source: ast.Module, path: Path) -> dict:
    """Run a source as `python FILE` does, with the arguments in `sys.argv`."""
    module = types.ModuleType("__main__")
    module.__file__ = str(path)
    sys.modules["__main__"] = module
    exec(compile(source, str(path), "exec"), module.__dict__)
    return module.__dict__


def _settings_alone(source: ast.Module) -> ast.Module | None:
    """Extract `Config` and its dependencies from a recipe, without loading Keras.

    Its checks are kept where they need light modules alone. `None` where its fields
    need more than imports and constants.
    """
    classes = [n for n in source.body if getattr(n, "name", None) == "Config"]
    if len(classes) != 1 or not isinstance(classes[0], ast.ClassDef):
        return None
    (config_class,) = classes
    for keep_checks in (True, False):
        settings = copies.deepcopy(config_class)
        if not keep_checks:
            settings.body = [
                n for n in settings.body if not isinstance(n, ast.FunctionDef)
            ]
        body = _definitions(source, _names(settings))
        if body is not None and (not keep_checks or all(map(_is_light, body))):
            return ast.Module([*body, settings], type_ignores=[])
    return None


def _names(node: ast.AST) -> set[str]:
    """Collect the names that a class uses and does not define itself."""
    names = [n for n in ast.walk(node) if isinstance(n, ast.Name)]
    own = {n.id for n in names if isinstance(n.ctx, ast.Store)}
    own |= {n.arg for n in ast.walk(node) if isinstance(n, ast.arg)}
    return {n.id for n in names} - own - set(dir(builtins)) - {node.name}


def _definitions(source: ast.Module, needed: set[str]) -> list[ast.stmt] | None:
    """Select imports and constants of a module; `None` where others are needed."""
    body = []
    for node in source.body:
        if isinstance(node, ast.Assign) and _is_constant(node):
            named = {target.id for target in node.targets}
            body += [node] if named & needed else []
            needed = needed - named
        if isinstance(node, ast.Import | ast.ImportFrom):
            node = copies.copy(node)
            node.names = [n for n in node.names if (n.asname or n.name) in needed]
            needed = needed - {n.asname or n.name for n in node.names}
            body += [node] if node.names else []
    return None if needed else body


# Modules that load neither Keras nor TensorFlow, besides those called `settings`.
LIGHT = {
    *("dataclasses", "math", "pathlib", "types", "typing", "keras_tl.config"),
    *("keras_tl.errors", "keras_tl.files", "keras_tl.models.catalog"),
}


def _is_light(node: ast.stmt) -> bool:
    """Return whether a statement loads neither Keras nor TensorFlow."""
    if isinstance(node, ast.Import):
        return all(name.name in LIGHT for name in node.names)
    if isinstance(node, ast.ImportFrom):
        return all(
            node.module in LIGHT
            or node.module.endswith(".settings")
            or f"{node.module}.{name.name}" in LIGHT
            for name in node.names
        )
    return True


def _is_constant(node: ast.Assign) -> bool:
    """Return whether the value is written out, such as a tuple of words."""
    plain = ast.Constant | ast.Tuple | ast.List | ast.Starred | ast.Load
    return all(isinstance(target, ast.Name) for target in node.targets) and all(
        isinstance(part, plain) for part in ast.walk(node.value)
    )


def predict(arguments: list[str]) -> None:
    """Classify images, sound or texts with a finished run."""

    def parse(
        run: Annotated[Path, tyro.conf.Positional, tyro.conf.arg(metavar="RUN")],
        inputs: Annotated[
            tuple[str, ...],
            tyro.conf.Positional,
            tyro.conf.arg(metavar="INPUT [INPUT ...]"),
        ] = (),
        top: int = 1,
        file: Annotated[Path | None, tyro.conf.arg(metavar="TABLE")] = None,
        column: str | None = None,
        encoding: str = "utf-8",
        csv: Annotated[Path | None, tyro.conf.arg(metavar="FILE")] = None,
        bad_files: Literal["skip", "error"] = "skip",
        precision_at_least: float | None = None,
    ) -> tuple:
        """Classify images, sound or texts with a finished run.

        Prints a table; where the output is no terminal, lines whose columns are
        separated by tabs. Ends with status 1 where some inputs could not be used.

        Args:
            run: Folder of a finished run.
            inputs: Files of images or of sound, or folders of them; or texts, each in
                quotation marks. Names that begin with a dash come after `--`.
            top: Number of classes to name for each input, the likeliest first.
            file: Further inputs: a table of texts, .csv, .tsv or .jsonl, or a file .txt
                with a text in each line.
            column: Column of the texts in that table. Without it, the only one, or the
                one that is called text.
            encoding: Encoding of that table or file, such as cp1252.
            csv: New file to write the table to: input, class, probability, note.
            bad_files: "skip" predicts the others and lists what cannot be used, at
                the end; "error" predicts nothing then, and ends with status 2.
            precision_at_least: Share of right answers that is wanted: other answers
                are marked as "not sure". Without it, the one that the run chose.
        """
        given = run, inputs, top, csv, bad_files, precision_at_least
        return given, {"file": file, "column": column, "encoding": encoding}

    parsed, more = tyro.cli(
        parse,
        args=_without_dashes(arguments),
        prog="keras-tl predict",
        registry=config.optional_values(),
    )
    from keras_tl.deploy import prediction

    if not prediction.predict(*parsed, **more):
        raise SystemExit(1)


def cluster(arguments: list[str]) -> None:
    """Run a recipe, or `train`, on workers of Ray."""
    workers, command, settings = cluster_settings(arguments)
    from keras_tl.commands import cluster

    status = cluster.main(workers, command, settings)
    if status:
        raise SystemExit(status)


def cluster_settings(arguments: list[str]) -> tuple[ClusterRun, list[str], Settings]:
    """Read what `keras-tl cluster` is given, all of it before Ray starts.

    Returns:
        The workers, the arguments of `keras-tl` for each of them, and their settings.
    """
    program = "keras-tl cluster run RECIPE"
    action, *options = arguments or ["--help"]
    if action in ("-h", "--help") or (action == "run" and not options):
        options = ["--help"]
    elif action != "run":
        raise errors.unknown("action", action, ["run"])
    if options[0] in ("-h", "--help"):
        config.parse(ClusterRun, ["--help"], program)
    name, *options = options
    path = None if name == "train" else recipe_path(name)
    own = []
    for field in dataclasses.fields(ClusterRun):
        flag = f"--{field.name.replace('_', '-')}"
        options, value = config.take(options, flag)
        own += [] if value is None else [flag, value]
    workers = config.parse(ClusterRun, own, program)
    if path is None:
        return workers, ["train", *options], settings_on_data("train", *options)
    return workers, ["run", name, *options], recipe_settings(path, options)


def _without_dashes(arguments: list[str]) -> list[str]:
    """Mark files whose names begin with a dash, as a shell's `*` lists them."""
    if "--" in arguments:
        return arguments
    return [
        f"./{argument}" if argument[:1] == "-" and Path(argument).exists() else argument
        for argument in arguments
    ]


def cache(arguments: list[str]) -> None:
    """List or clear what runs keep: features, and copies of packed data."""

    def parse(action: Annotated[Literal["list", "clear"], tyro.conf.Positional]) -> str:
        """List or remove features of frozen layers, and copies of packed data.

        They are in the folder that KERAS_TL_CACHE names, or in the user's cache.

        Args:
            action: "list" prints what is kept, "clear" removes all of it.
        """
        return action

    from keras_tl.data import shards
    from keras_tl.training import store

    action = tyro.cli(parse, args=arguments, prog="keras-tl cache")
    folder = files.cache_folder()
    copied = shards.fetched()
    size = sum(path.stat().st_size for path in copied)
    if action == "clear":
        for path in copied:
            path.unlink()
        size += store.clear(folder)
        print(f"Removed {size / 2**20:,.1f} MiB from {folder}.")
        return
    kept = store.kept(folder)
    if copied:
        number = errors.counted(len(copied), "shard")
        print(f"Copies of packed data: {number}, {size / 2**20:,.1f} MiB, in {folder}.")
    elif not kept:
        print(f"Nothing is kept in {folder}.")
    if not kept:
        return

    from rich.table import Table

    from keras_tl import progress

    table = Table()
    table.add_column("frozen layers", min_width=18, overflow="fold")
    for name in ("input", "output", "examples", "MiB", "last used"):
        table.add_column(name)
    for one in kept:
        table.add_row(
            # The folder distinguishes layers that only their weights do.
            f"{one.about} ({one.folder.name[:6]})",
            # Earlier versions did not note it.
            " x ".join(map(str, one.input_shape)) or "?",
            " x ".join(map(str, one.shape)),
            f"{one.images:,}",
            f"{one.size / 2**20:,.1f}",
            datetime.fromtimestamp(one.used).isoformat(" ", "minutes"),
        )
    progress.console().print(table)
    print(f"Together {sum(one.size for one in kept) / 2**20:,.1f} MiB, in {folder}.")
    print("In brackets: the folder of the features; other weights have another one.")
