"""Settings of a recipe: a frozen dataclass, its command line, and `config.json`."""

import contextlib
import dataclasses
import errno
import inspect
import io
import logging
import math
import numbers
import os
import shutil
import sys
import time
import types
import typing
import warnings
from collections.abc import Callable, Hashable
from pathlib import Path

import tyro

from keras_tl import cluster as clusters
from keras_tl import environment, errors, files

CONFIG_HELP = (
    "--config FILE starts from the settings in the config.json of a run.\n\n"
    "Options that are given as well replace those of the file."
)

# Settings of earlier versions: old name -> name now. Files that were saved with them
# are read as before.
RENAMED = {
    "one_out": "leave_one_out",
    "strength": "penalty_scale",
    "ways": "methods",
    "bad_images": "bad_files",
    "image_column": "input_column",
}
# Settings that change no result, and so can differ when a run is resumed.
FREE = ("cache",)
# Exit status where another machine was lost: EX_TEMPFAIL of sysexits.h, "try again".
LOST = 75
# Settings that only say where something is: a run that is resumed takes another place,
# where the data have the hash that they had.
PLACES = ("data", "root")
# Folder in that of a run, for what `--resume` needs.
STATE = "state"
# File in it that the process which works on the run has locked.
LOCK = "lock"
# Old value of a setting -> value now.
NEW_VALUES = {"augment": {True: "image_data_generator", False: "none"}}


@dataclasses.dataclass(frozen=True)
class Settings:
    """Base of all groups of settings.

    A group checks its values when it is made, without loading Keras; a recipe's
    `Config` inherits from the groups that it has, and adds settings of its own.
    """

    def __post_init__(self):
        """Raise `InputError` for values that cannot be used.

        Of any group: a number of another type, one that is not finite, or a word that
        is none of the choices.
        """
        for field in dataclasses.fields(self):
            _check_type(field.name, field.type, getattr(self, field.name))


def _check_type(name, kind, value):
    parts = typing.get_args(kind)
    if typing.get_origin(kind) is typing.Literal:
        if value not in parts:
            raise errors.unknown(name, str(value), parts)
    elif typing.get_origin(kind) is tuple:
        if not isinstance(value, tuple | list):
            raise errors.expected(name, "be a tuple", value)
        for one in value:
            _check_type(name, parts[0], one)
    elif types.NoneType in parts:
        if value is not None:
            _check_type(name, parts[0], value)
    elif kind is bool and not isinstance(value, bool):
        raise errors.expected(name, "be True or False", value)
    elif kind is int and not _is(numbers.Integral, value):
        raise errors.expected(name, "be a whole number", value)
    elif kind is float and not (_is(numbers.Real, value) and math.isfinite(value)):
        raise errors.expected(name, "be a finite number", value)


def _is(kind, value):
    # True and False are numbers to Python.
    return isinstance(value, kind) and not isinstance(value, bool)


@dataclasses.dataclass(frozen=True)
class RunSettings(Settings):
    """Settings of every run."""

    seed: int = 0  # Seed of weights, shuffling, augmentation and splits.
    out: Path | None = None  # New folder for the results; by default one in runs/.
    resume: Path | None = None  # Folder of an interrupted run to continue.

    def __post_init__(self):
        super().__post_init__()
        environment.check_keras()
        if not hasattr(self, "strategy"):
            clusters.check_alone()
        if not 0 <= self.seed < 2**31:
            raise errors.expected("seed", f"be in [0, {2**31 - 1}]", self.seed)


@dataclasses.dataclass(frozen=True)
class ScriptSettings(Settings):
    """A model trained by a script"""

    script: str  # File of the script; empty in an interactive session.


@dataclasses.dataclass(frozen=True)
class Run:
    """A run of a recipe: its folder, and the first entries of its manifest.

    Attributes:
        recipe: Name of the recipe.
        settings: The recipe's settings.
        folder: The run's folder, which holds its `config.json`.
        started: Time of `time.perf_counter` when it began.
        data: What `splits.describe` returns of its data.
    """

    recipe: str
    settings: Settings
    folder: Path
    started: float
    data: dict

    @property
    def state(self) -> Path:
        """Folder of what `--resume` needs; a finished run has none."""
        return self.folder / STATE

    @property
    def command(self) -> str:
        """Command that does the same again."""
        if isinstance(self.settings, ScriptSettings):
            return f"python {self.settings.script}"
        saved = self.folder / "config.json"
        return f"{self.program} --config {files.quoted(saved)} --out NEW"

    @property
    def program(self) -> str:
        """Command that the settings are the options of."""
        return getattr(self.settings, "COMMAND", f"keras-tl run {self.recipe}")

    @property
    def tensorboard(self) -> Path:
        """Folder of TensorBoard's event files."""
        return self.folder / "tensorboard"

    def provenance(self) -> dict:
        """Return where a result comes from: recipe, date, machine, versions, time."""
        seconds = time.perf_counter() - self.started
        title = type(self.settings).__doc__.strip().splitlines()[0]
        return {
            **environment.provenance(self.recipe, self.settings, seconds),
            "title": title,
        }


def run(main: Callable, config: type) -> None:
    """Read `config` from the command line and call `main` with it.

    Every field is a flag, the comment behind it its help. `--config FILE` starts from
    the settings that a run saved; flags given as well win. `--resume RUN` goes on with
    those of an interrupted run.

    Errors that the user can correct end in one sentence and exit status 2, Ctrl-C in
    one on how to continue and exit status 130.
    """
    # Each phase trains a model of its own; TensorFlow warns that this is slow.
    logging.getLogger("tensorflow").setLevel(logging.ERROR)
    program = Path(sys.argv[0]).name
    with error_exit(program):
        main(parse(config, sys.argv[1:], program))


# Folders of the runs that this process has started, and whether it has resumed them.
_STARTED: list[tuple[Path, bool]] = []


class error_exit:
    """End the program with one sentence for errors that the user can correct.

    What is printed may hold names that the terminal's encoding lacks: they are printed
    as escape sequences. Each line is written at once, also to a file that somebody
    follows. Where nobody reads any more, as after `| head`, it ends too.
    """

    def __init__(self, program: str):
        self.program = program
        self._warnings = warnings.catch_warnings()
        self._shown = set()
        self._before = len(_STARTED)

    def __enter__(self):
        for stream in (sys.stdout, sys.stderr):
            if isinstance(stream, io.TextIOWrapper):
                stream.reconfigure(errors="backslashreplace", line_buffering=True)
        self._warnings.__enter__()
        warnings.showwarning = self._show
        warnings.simplefilter("always", errors.InputWarning)
        return self

    def __exit__(self, kind, error, traceback):
        self._warnings.__exit__(kind, error, traceback)
        try:
            self._end(error)
            if sys.stdout is not None:
                sys.stdout.flush()
        except BrokenPipeError:
            _discard_output()
            # As a shell reports of programs that end by SIGPIPE.
            raise SystemExit(141) from None

    def _end(self, error):
        if isinstance(error, BrokenPipeError):
            raise error
        if isinstance(error, errors.InputError):
            mendable = isinstance(error, errors.StorageError)
            advice = self._how_to_continue() if mendable else ""
            if not mendable:
                self._remove_untouched()
            print(f"{self.program}: error: {error}{advice}", file=sys.stderr)
            raise SystemExit(2) from None
        if error is not None and errors.is_out_of_memory(error):
            print(
                f"{self.program}: error: The memory is full: {errors.reason(error)}. "
                "A smaller batch_size, or smaller examples, need less."
                f"{self._how_to_continue()}",
                file=sys.stderr,
            )
            raise SystemExit(2) from None
        if isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT):
            where = f" {error.filename}" if error.filename else ""
            print(
                f"{self.program}: error: Cannot write{where}: {error.strerror}."
                f"{self._how_to_continue()}",
                file=sys.stderr,
            )
            raise SystemExit(2) from None
        if isinstance(error, KeyboardInterrupt):
            advice = f" {error}" if error.args else ""
            advice += self._how_to_continue()
            print(f"\n{self.program}: interrupted.{advice}", file=sys.stderr)
            raise SystemExit(130) from None
        if clusters.is_loss(error) and (cluster := clusters.from_environment()):
            lost = " and ".join(clusters.unreachable(cluster)) or "another worker"
            print(
                f"{self.program}: error: {lost} has ended, or cannot be reached any "
                f"more, so that {cluster.name()} ends too. Start all workers again."
                f"{self._how_to_continue()}",
                file=sys.stderr,
            )
            raise SystemExit(LOST) from None

    def _remove_untouched(self):
        """Remove the folders of runs that were refused before anything was computed."""
        for folder, resumed in _STARTED[self._before :]:
            if not resumed and _is_untouched(folder):
                shutil.rmtree(folder, ignore_errors=True)

    def _how_to_continue(self):
        """Return how to go on with a run that has ended too early, as a sentence."""
        started = _STARTED[self._before :]
        unfinished = [
            folder
            for folder, _ in started
            if (folder / STATE).is_dir() and not (folder / "manifest.json").exists()
        ]
        if not unfinished:
            return ""
        return f" Continue with --resume {files.quoted(unfinished[-1])}"

    def _show(self, message, category, filename, line, file=None, text=None):
        if issubclass(category, errors.InputWarning):
            # Once each: the fonts of every figure lack the same characters.
            if str(message) not in self._shown:
                print(f"{self.program}: warning: {message}", file=sys.stderr)
            self._shown.add(str(message))
        else:
            formatted = warnings.formatwarning(message, category, filename, line, text)
            print(formatted, end="", file=sys.stderr)


def _is_untouched(folder) -> bool:
    """Return whether a run has only what it begins with."""
    begins = {"config.json", "decisions.json", STATE}
    begins |= {str(Path(STATE, n)) for n in ("settings.json", "data.json", LOCK)}
    return {str(path.relative_to(folder)) for path in folder.rglob("*")} <= begins


def _discard_output():
    # Python would try to write what is left when it ends.
    for stream in (sys.stdout, sys.stderr):
        with contextlib.suppress(AttributeError, OSError, ValueError):
            os.dup2(os.open(os.devnull, os.O_WRONLY), stream.fileno())


def parse(config: type, arguments: list[str], program: str | None = None):
    """Build a `config` from a command line. See `run`.

    Raises:
        InputError: A value that `config` refuses, or a saved file that does not fit.
        SystemExit: A flag that does not exist (status 2), or `--help` (status 0).
    """
    for argument in arguments:
        if not argument or (argument[0] == "-" and argument[-1] == "="):
            raise errors.InputError(
                "An option has an empty value, as of a shell variable that is not set. "
                f"Received: {' '.join(map(repr, arguments))}"
            )
    arguments, saved = take(arguments, "--config")
    arguments, resumed = take(arguments, "--resume")
    places = {}
    if resumed is not None:
        arguments, places = _take_places(arguments, Path(resumed))
        free = {flag for name in FREE for flag in (f"--{name}", f"--no-{name}")}
        others = [argument for argument in arguments if argument not in free]
        if others or saved is not None:
            raise errors.InputError(
                "`--resume` continues with the settings of the interrupted run, so no "
                f"other flag can be given but {' and '.join(sorted(free))}. Received: "
                f"{' '.join(others) or saved}"
            )
        saved = Path(resumed) / "config.json"
    before = []
    if saved is not None:
        settings = _read_settings(saved)
        if resumed is None:
            # Where the other run was kept: this one needs a place of its own.
            settings.pop("out", None)
        before = to_arguments(config, settings | places)
    # The later flag wins.
    arguments = [*before, *arguments]
    if resumed is not None:
        arguments += ["--resume", str(resumed)]
    # tyro would put what `__post_init__` refuses into a box of its own words: so the
    # command line is read without it, and the values are checked after.
    check = getattr(config, "__post_init__", None)
    config.__post_init__ = lambda self: None
    try:
        settings = tyro.cli(
            config,
            args=arguments,
            prog=program,
            registry=optional_values(),
            description=f"{inspect.cleandoc(config.__doc__)}\n\n{CONFIG_HELP}",
        )
    finally:
        if check is None:
            del config.__post_init__
        else:
            config.__post_init__ = check
    settings = config(**vars(settings))
    # Said now, not when data and model have been loaded.
    if resumed is not None:
        _claim(Path(resumed))
    elif getattr(settings, "out", None) is not None:
        files.check_new(settings.out)
    return settings


def optional_values() -> tyro.constructors.ConstructorRegistry:
    """Return tyro's rules, with helps that name the type of a value that may be None.

    Its own say `{None}|INT`. A command line may still say `--limit=None`, which is how
    `to_arguments` writes it.
    """
    constructors = tyro.constructors
    registry = constructors.ConstructorRegistry()

    @registry.primitive_rule
    def optional(info):
        types = set(typing.get_args(info.type))
        if type(None) not in types or len(types) != 2:
            return None
        (inner,) = types - {type(None)}
        spec = registry.get_primitive_spec(
            constructors.PrimitiveTypeInfo.make(inner, info.markers)
        )
        if getattr(spec, "nargs", None) != 1:
            return None
        return dataclasses.replace(
            spec,
            instance_from_str=lambda texts: (
                None if texts == ["None"] else spec.instance_from_str(texts)
            ),
            is_instance=lambda value: value is None or spec.is_instance(value),
            str_from_instance=lambda value: (
                ["None"] if value is None else spec.str_from_instance(value)
            ),
            choices=spec.choices and (*spec.choices, "None"),
        )

    return registry


def _claim(folder):
    """Make an interrupted run that of this process.

    Raises:
        InputError: It is complete, or another process works on it.
    """

    def check():
        if (folder / "manifest.json").exists():
            # It may have been killed just before it removed this.
            shutil.rmtree(folder / STATE, ignore_errors=True)
            raise errors.expected(
                "resume", "name an interrupted run", str(folder), "It is complete."
            )

    check()
    if not clusters.is_chief():
        return  # It only reads the settings: the run is that of the chief.
    try:
        (folder / STATE).mkdir(exist_ok=True)
    except OSError as error:
        reason = error.strerror or error
        raise errors.InputError(f"Cannot write to {folder}: {reason}.") from error
    owner = files.lock(folder / STATE / LOCK)
    if owner is not None:
        raise errors.expected(
            "resume",
            "name a run that nobody is working on",
            str(folder),
            f"This one is still running, as {owner}: let it end, or end it.",
        )
    check()  # It may just have ended.


def take(arguments: list[str], flag: str) -> tuple[list[str], str | None]:
    """Remove `flag` and its value from a command line.

    >>> take(["--limit", "60", "--workers", "2"], "--workers")
    (['--limit', '60'], '2')
    """
    for index, argument in enumerate(arguments):
        name, equals, value = argument.partition("=")
        if name == flag:
            if not equals:
                if index + 1 == len(arguments):
                    raise errors.InputError(f"`{flag}` must be followed by a value.")
                value = arguments[index + 1]
            return arguments[:index] + arguments[index + 1 + (not equals) :], value
    return arguments, None


def _take_places(arguments, folder):
    """Take data and run of an interrupted run, which may be named once more.

    Returns:
        The other arguments, and the settings that say where the data are now.
    """
    given = {}
    for name in (*PLACES, "run"):
        arguments, value = take(arguments, f"--{name}")
        if value is not None:
            given[name] = value
    saved = _started_with(folder, given)
    places = {}
    for name, value in given.items():
        own = saved.get(name)
        if own is not None and Path(value).resolve() == Path(own).resolve():
            continue
        if name not in PLACES or own is None:
            raise errors.expected(
                name,
                f"be left out with `--resume`, or be that of the interrupted run, "
                f"{own}",
                value,
            )
        places[name] = value
    return arguments, places


def to_arguments(config: type, saved: dict) -> list[str]:
    """Turn saved settings into the arguments of a command line.

    Raises:
        InputError: A setting that this `config` does not have.
    """
    known = {field.name for field in dataclasses.fields(config)}
    arguments = []
    for name, value in current(saved).items():
        if name not in known:
            raise errors.InputError(
                f"The saved settings have `{name}`, which this recipe does not: they "
                "are of another recipe, or of another version of it."
            )
        flag = f"--{name.replace('_', '-')}"
        if isinstance(value, bool):
            arguments.append(flag if value else flag.replace("--", "--no-", 1))
        elif isinstance(value, list):
            arguments += [flag, *map(str, value)]
        else:
            arguments.append(f"{flag}={value}")
    return arguments


def current(saved: dict) -> dict:
    """Return saved settings under the names and with the values they have now.

    >>> current({"strength": 0.5, "augment": True})
    {'penalty_scale': 0.5, 'augment': 'image_data_generator'}
    """
    renamed = {RENAMED.get(name, name): value for name, value in saved.items()}
    return {
        name: NEW_VALUES[name].get(value, value)
        # Lists, which a setting can have too, are no keys.
        if name in NEW_VALUES and isinstance(value, Hashable)
        else value
        for name, value in renamed.items()
    }


def _read_settings(path) -> dict:
    settings = files.read_json(path)
    if not isinstance(settings, dict):
        raise errors.InputError(f"The saved settings {path} must be a JSON object.")
    return settings


def _started_with(folder, places=()) -> dict:
    """Return the settings that an interrupted run was started with.

    Args:
        folder: The run.
        places: Names of settings that are given anew.

    Raises:
        InputError: Its `config.json` has changed since, or cannot be read.
    """
    saved = current(_read_settings(folder / "config.json"))
    path = folder / STATE / "settings.json"
    if not path.exists():
        return saved  # A run of an earlier version.
    before = current(_read_settings(path))
    changed = [
        name
        for name, value in saved.items()
        if name not in places and (name not in before or before[name] != value)
    ]
    if changed:
        raise errors.InputError(
            f"{folder / 'config.json'} has changed since the run was started, in "
            f"{', '.join(changed[:5])}. Restore it from {path}, or start a new run."
        )
    return before


def to_json(settings) -> dict:
    """Return the settings as JSON has them: paths as text, tuples as lists."""

    def plain(value):
        if isinstance(value, tuple):
            return [plain(item) for item in value]
        return str(value) if isinstance(value, Path) else value

    return {n: plain(value) for n, value in dataclasses.asdict(settings).items()}


def start_run(recipe: str, settings: RunSettings, started: float, data: dict) -> Run:
    """Make the folder of a run, with its `config.json`, or open it again.

    Call it when data and models have been built: what raises before leaves no folder.

    Of several workers, see `cluster`, the chief has that folder; the others have one
    that is removed when they end.

    Args:
        recipe: Name of the recipe. Without `settings.out` the folder is the first of
            `runs/NAME`, `runs/NAME-2`, ... that is free.
        settings: The recipe's settings.
        started: Time of `time.perf_counter` when the recipe began.
        data: What `splits.describe` returns of the data.

    Raises:
        InputError: `out` exists, nothing is to be resumed, or settings or data differ
            from those that the run was started with.
    """
    if settings.resume is not None:
        folder = Path(settings.resume)
        _resume(folder, settings, data)
    cluster = clusters.from_environment()
    if cluster is not None and not cluster.is_chief:
        folder = files.scratch_folder()
        chief = cluster.name(0)
        if settings.resume is not None:
            # What the run has so far: the chief does not do it again either.
            files.copy_folder(settings.resume, folder)
        (folder / STATE).mkdir(exist_ok=True)
        files.write_json(folder / "config.json", to_json(settings))
        print(f"This is {cluster.name()}; the results are written by {chief}.")
        return Run(recipe, settings, folder, started, data)
    if settings.resume is None:
        folder = _new_run(recipe, settings, data)
    _STARTED.append((folder, settings.resume is not None))
    print(f"Results go to {folder}.")
    return Run(recipe, settings, folder, started, data)


def _resume(folder, settings, data):
    """Open a run again, in the same settings and for the same data."""
    _claim(folder)
    saved = _started_with(folder, PLACES)
    wanted = to_json(dataclasses.replace(settings, resume=None, out=folder))
    # A setting that is newer than the run has its default, and one that changes no
    # result can be another.
    same = {name: wanted[name] for name in FREE if name in wanted}
    places = {name: wanted[name] for name in PLACES if name in wanted}
    before = {**wanted, **saved, **same, "out": str(folder)}
    differ = [n for n in before if n not in wanted or before[n] != wanted[n]]
    moved = [name for name in differ if name in places]
    if differ != moved or (moved and not (folder / STATE / "data.json").exists()):
        raise errors.InputError(
            f"{folder} was started with other settings: {', '.join(differ)}."
        )
    _check_data(folder, data)
    if not clusters.is_chief():
        return
    files.remove_unfinished(folder)
    if moved:
        # Whoever looks for the data of the run later has to find them.
        for path in (folder / STATE / "settings.json", folder / "config.json"):
            files.write_json(path, saved | places)


def _new_run(recipe, settings, data) -> Path:
    """Make the folder of a run, in one step."""
    while True:
        folder = Path(settings.out or files.next_file(Path("runs", recipe)))
        try:
            with files.atomic_folder(folder) as temporary:
                saved = to_json(dataclasses.replace(settings, out=folder))
                files.write_json(temporary / "config.json", saved)
                (temporary / STATE).mkdir()
                files.write_json(temporary / STATE / "settings.json", saved)
                files.write_json(temporary / STATE / "data.json", data)
                files.lock(temporary / STATE / LOCK)
            return folder
        except errors.InputError:
            # Another run may just have taken the name: this one takes the next.
            if settings.out is not None or not os.path.lexists(folder):
                raise


def start_script(folder: Path | str, data: dict) -> Run:
    """Make the folder of a run that is no recipe's, but of a script of your own.

    Args:
        folder: A folder that does not exist yet.
        data: See `start_run`.

    Raises:
        InputError: The folder exists, or cannot be made.
    """
    settings = ScriptSettings(sys.argv[0])
    folder = files.new_folder(folder)
    files.write_json(folder / "config.json", to_json(settings))
    name = Path(settings.script).stem or "script"
    return Run(name, settings, folder, time.perf_counter(), data)


def _describes_data(record) -> bool:
    """Return whether a record has what `splits.describe` returns, by its types."""
    return (
        isinstance(record, dict)
        and isinstance(record.get("sha256"), str)
        and isinstance(record.get("classes"), list)
        and all(isinstance(name, str) for name in record["classes"])
        and isinstance(record.get("counts"), dict)
        and all(isinstance(count, int) for count in record["counts"].values())
    )


def _check_data(folder, data):
    """Refuse to go on with other data: its splits would mix with those of before."""
    path = folder / STATE / "data.json"
    if not path.exists():
        return  # Runs of earlier versions have none.
    before = files.read_json(path)
    if not _describes_data(before):
        raise errors.InputError(f"{path} is damaged: start a new run.")
    if all(before[name] == data[name] for name in ("sha256", "classes", "counts")):
        return
    changes = [
        f"{name} had {errors.counted(count, 'example')} and has "
        f"{data['counts'].get(name, 0):,}"
        for name, count in before["counts"].items()
        if count != data["counts"].get(name)
    ]
    for verb, classes, others in (
        ("gone", before["classes"], data["classes"]),
        ("new", data["classes"], before["classes"]),
    ):
        names = [name for name in classes if name not in others]
        if names:
            changes.append(f"{verb} classes: {', '.join(names[:5])}")
    raise errors.InputError(
        f"The data have changed since {folder} was started: "
        f"{'; '.join(changes) or 'the same numbers of examples, with other content'}. "
        "Restore them, or start a new run."
    )
