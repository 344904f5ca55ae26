import contextlib
import dataclasses
import errno
import functools
import importlib
import json
import os
import subprocess
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import hypothesis
import pytest
from hypothesis import strategies as st

from keras_tl import config, errors, files
from keras_tl.commands.settings import Curve, Train, Update
from keras_tl.training.settings import CacheSettings

ROOT = Path(__file__).parents[1]
RESULTS = sorted((ROOT / "results").glob("*/*.json"))
# What `splits.describe` returns of some data.
DATA = {"counts": {"train": 8, "test": 2}, "classes": ["a", "b"], "sha256": "0"}


@dataclass(frozen=True)
class Settings:
    """Settings of a test."""

    data: Path | None = None  # A folder.
    kind: Literal["a", "b"] = "a"  # A choice.
    weights: str | None = "imagenet"  # A file.
    rate: float = 0.1  # A rate.
    epochs: int = 3  # Epochs.
    switch: bool = False  # A switch.
    sizes: tuple[int, ...] = (1, 2)  # Some numbers.
    out: Path | None = None  # A folder.
    resume: Path | None = None  # A folder.

    def __post_init__(self):
        errors.check_at_least("epochs", self.epochs, 1)


def test_every_field_is_a_flag_and_its_comment_the_help(capsys):
    assert config.parse(Settings, ["--epochs", "5"]).epochs == 5
    assert config.parse(Settings, ["--switch"]).switch
    assert not config.parse(Settings, ["--no-switch"]).switch
    with pytest.raises(SystemExit) as ended:
        config.parse(Settings, ["--help"])
    assert ended.value.code == 0
    shown = capsys.readouterr().out
    for said in ("--weights", "A choice.", "Settings of a test.", "default: 0.1"):
        assert said in shown


def test_the_help_names_the_type_of_a_value_that_may_be_left_out(capsys):
    with pytest.raises(SystemExit):
        config.parse(Settings, ["--help"])
    shown = capsys.readouterr().out
    assert "--data PATH" in shown
    assert "--weights STR" in shown
    assert "{None}" not in shown
    assert config.parse(Settings, ["--data=None", "--weights", "None"]).weights is None


@pytest.mark.parametrize(
    "settings",
    [
        Settings(),
        Settings(Path("a b"), "b", None, 1e-5, 1),
        Settings(weights="--odd name"),
        Settings(switch=True, sizes=(3,)),
    ],
)
def test_saved_settings_give_the_same_settings(tmp_path, settings):
    files.write_json(tmp_path / "config.json", config.to_json(settings))
    read = config.parse(Settings, ["--config", str(tmp_path / "config.json")])
    assert read == settings
    same = config.parse(Settings, [f"--config={tmp_path / 'config.json'}"])
    assert same == settings


def test_a_repeated_run_gets_a_folder_of_its_own(tmp_path):
    settings = Settings(epochs=7, out=tmp_path)
    files.write_json(tmp_path / "config.json", config.to_json(settings))
    read = config.parse(Settings, ["--config", str(tmp_path / "config.json")])
    assert (read.epochs, read.out) == (7, None)


def test_a_folder_that_exists_is_refused_before_anything_is_loaded(tmp_path):
    with pytest.raises(errors.InputError, match="does not exist yet"):
        config.parse(Settings, ["--out", str(tmp_path)])


def test_flags_win_over_the_saved_settings(tmp_path):
    files.write_json(tmp_path / "c.json", config.to_json(Settings(epochs=7, rate=2)))
    read = config.parse(
        Settings, ["--epochs", "9", "--config", str(tmp_path / "c.json")]
    )
    assert (read.epochs, read.rate) == (9, 2)


def test_settings_of_another_recipe_are_refused_with_the_reason(tmp_path):
    files.write_json(tmp_path / "c.json", {"rounds": 3})
    with pytest.raises(errors.InputError, match=r"`rounds`.* of another recipe"):
        config.parse(Settings, ["--config", str(tmp_path / "c.json")])


@pytest.mark.parametrize(
    ("flags", "said"),
    [
        (["--epcohs", "3"], "--epochs"),
        (["--epochs", "three"], "three"),
        (["--kind", "c"], "c"),
    ],
)
def test_a_wrong_flag_ends_with_status_2_and_names_the_right_one(capsys, flags, said):
    with pytest.raises(SystemExit) as ended:
        config.parse(Settings, flags)
    assert ended.value.code == 2
    assert said in capsys.readouterr().err


def test_resume_takes_the_settings_of_the_run(tmp_path):
    settings = Settings(out=tmp_path / "run", epochs=8)
    run = config.start_run("test", settings, 0.0, DATA).folder
    resumed = config.parse(Settings, ["--resume", str(run)])
    assert (resumed.epochs, resumed.resume) == (8, run)
    assert config.start_run("test", resumed, 0.0, DATA).folder == run
    with pytest.raises(errors.InputError, match="no other flag"):
        config.parse(Settings, ["--resume", str(run), "--epochs", "3"])
    other = dataclasses.replace(resumed, epochs=9)
    with pytest.raises(errors.InputError, match="other settings"):
        config.start_run("test", other, 0.0, DATA)
    files.write_json(run / "manifest.json", {})
    with pytest.raises(errors.InputError, match="It is complete"):
        config.start_run("test", resumed, 0.0, DATA)
    assert not (run / config.STATE).exists()
    with pytest.raises(errors.InputError, match=r"Cannot read .*config\.json"):
        config.parse(Settings, ["--resume", str(tmp_path / "absent")])


@pytest.fixture
def second_of_two(monkeypatch):
    """This process is the second of two workers."""
    workers = {"cluster": {"worker": ["a:1", "b:1"]}, "task": {"index": 1}}
    monkeypatch.setenv("TF_CONFIG", json.dumps(workers))


def test_a_worker_goes_on_from_all_that_the_run_has_kept(tmp_path, request):
    settings = Settings(out=tmp_path / "run")
    run = config.start_run("test", settings, 0.0, DATA).folder
    (run / "trials").mkdir()
    files.write_json(run / "trials" / "first.json", {"accuracy": 1})
    resumed = config.parse(Settings, ["--resume", str(run)])
    request.getfixturevalue("second_of_two")
    own = config.start_run("test", resumed, 0.0, DATA)
    assert own.folder != run
    assert files.read_json(own.folder / "trials" / "first.json") == {"accuracy": 1}
    files.write_json(own.folder / "trials" / "second.json", {})
    assert [path.name for path in (run / "trials").iterdir()] == ["first.json"]


@pytest.mark.usefixtures("second_of_two")
def test_what_runs_on_one_machine_refuses_several(tmp_path):
    update = functools.partial(Update, data=str(tmp_path), run=tmp_path)
    tuned_curve = functools.partial(Curve, str(tmp_path), fine_tune=True)
    for alone in (config.RunSettings, update, tuned_curve):
        with pytest.raises(errors.InputError, match="unset TF_CONFIG, and start it on"):
            alone()
    assert Train(str(tmp_path)).strategy == "auto"

    @dataclass(frozen=True)
    class Distributed(config.RunSettings):
        strategy: str = "auto"

    assert Distributed().seed == 0


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"counts": {"train": 9, "test": 2}}, "train had 8 examples and has 9"),
        ({"classes": ["a", "c"]}, "gone classes: b; new classes: c"),
        ({"sha256": "1"}, "the same numbers of examples, with other content"),
    ],
)
def test_other_data_are_not_resumed(tmp_path, change, message):
    settings = Settings(out=tmp_path / "run")
    run = config.start_run("test", settings, 0.0, DATA).folder
    resumed = config.parse(Settings, ["--resume", str(run)])
    with pytest.raises(errors.InputError, match=f"data have changed since.*{message}"):
        config.start_run("test", resumed, 0.0, DATA | change)
    again = config.start_run("test", resumed, 0.0, DATA | {"origin": "moved"})
    assert again.folder == run


JSON = st.recursive(
    st.none() | st.booleans() | st.integers(0, 20) | st.floats() | st.text(max_size=4),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(st.sampled_from([*DATA, "epochs", "augment"]), inner)
    ),
    max_leaves=5,
)


@hypothesis.settings(deadline=None, max_examples=300)
@hypothesis.given(st.data())
def test_a_damaged_file_of_an_interrupted_run_resumes_the_same_or_is_named(data):
    with tempfile.TemporaryDirectory() as parent:
        folder = Path(parent) / "run"
        config.start_run("test", Settings(out=folder, epochs=8), 0.0, DATA)
        wanted = config.parse(Settings, ["--resume", str(folder)])
        names = ["config.json", "config.json", "state/data.json", "state/settings.json"]
        path = folder / data.draw(st.sampled_from(names))
        content = path.read_bytes()
        place = data.draw(st.integers(0, len(content) - 1))
        changed = bytes([content[place] ^ data.draw(st.integers(1, 255))])
        damaged = {
            "cut": content[:place],
            "flip": content[:place] + changed + content[place + 1 :],
            "json": json.dumps(data.draw(JSON)).encode(),
        }
        path.write_bytes(damaged[data.draw(st.sampled_from([*damaged, "flip"]))])
        try:
            settings = config.parse(Settings, ["--resume", str(folder)])
            config.start_run("test", settings, 0.0, DATA)
        except errors.InputError:
            return
        assert settings == wanted


@pytest.mark.parametrize(
    "record", [[], {}, DATA | {"counts": [8]}, DATA | {"classes": 2}]
)
def test_a_damaged_description_of_the_data_is_named(tmp_path, record):
    settings = Settings(out=tmp_path / "run")
    run = config.start_run("test", settings, 0.0, DATA).folder
    files.write_json(run / "state" / "data.json", record)
    resumed = config.parse(Settings, ["--resume", str(run)])
    with pytest.raises(errors.InputError, match=r"data\.json is damaged"):
        config.start_run("test", resumed, 0.0, DATA)


def test_settings_that_were_changed_after_the_start_are_named(tmp_path):
    settings = Settings(out=tmp_path / "run", epochs=8)
    run = config.start_run("test", settings, 0.0, DATA).folder
    saved = files.read_json(run / "config.json")
    files.write_json(run / "config.json", saved | {"epochs": 9, "rate": "fast"})
    with pytest.raises(errors.InputError, match="has changed .* in rate, epochs"):
        config.parse(Settings, ["--resume", str(run)])
    files.write_json(run / "config.json", [])
    with pytest.raises(errors.InputError, match=r"config\.json must be a JSON object"):
        config.parse(Settings, ["--resume", str(run)])


@pytest.mark.parametrize("value", [[], {}, [True], "other", None])
def test_settings_of_any_type_are_read_as_they_are(value):
    assert config.current({"augment": value}) == {"augment": value}


def test_the_cache_can_be_left_out_when_a_run_is_resumed(tmp_path):
    @dataclasses.dataclass(frozen=True)
    class Cached(CacheSettings, config.RunSettings):
        """Settings with a cache."""

    run = config.start_run("test", Cached(out=tmp_path / "run"), 0.0, DATA).folder
    resumed = config.parse(Cached, ["--resume", str(run), "--no-cache"])
    assert not resumed.cache
    assert config.start_run("test", resumed, 0.0, DATA).folder == run


def test_a_run_that_is_killed_while_it_begins_leaves_no_folder_or_all_of_it(
    tmp_path, monkeypatch
):
    folder, write = tmp_path / "runs" / "run", files.write_json

    def killed(path, value):
        write(path, value)
        assert not folder.exists()
        raise KeyError("killed")

    monkeypatch.setattr(files, "write_json", killed)
    with pytest.raises(KeyError):
        config.start_run("test", Settings(out=folder), 0.0, DATA)
    assert not os.listdir(tmp_path / "runs")
    monkeypatch.undo()
    config.start_run("test", Settings(out=folder), 0.0, DATA)
    assert sorted(os.listdir(folder / config.STATE)) == [
        *("data.json", "lock", "settings.json")
    ]


def test_a_run_on_which_another_process_works_is_not_resumed(tmp_path):
    folder = tmp_path / "run"
    program = (
        "import sys\n"
        "from pathlib import Path\n"
        "from keras_tl import config\n"
        "settings = config.RunSettings(out=Path(sys.argv[1]))\n"
        "config.start_run('test', settings, 0.0, {})\n"
        "sys.stdin.read()\n"
    )
    with subprocess.Popen(
        [sys.executable, "-c", program, str(folder)],
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    ) as owner:
        assert owner.stdout.readline() == f"Results go to {folder}.\n"
        running = f"nobody is working on.*still running, as process {owner.pid} on"
        with pytest.raises(errors.InputError, match=running):
            config.parse(config.RunSettings, ["--resume", str(folder)])
        resumed = config.RunSettings(resume=folder)
        with pytest.raises(errors.InputError, match=running):
            config.start_run("test", resumed, 0.0, {})
        owner.kill()
    again = config.parse(config.RunSettings, ["--resume", str(folder)])
    assert again.resume == folder


def test_a_run_goes_on_with_its_data_at_another_place(tmp_path):
    settings = Settings(data=Path("old/photos"), out=tmp_path / "run", epochs=8)
    config.start_run("test", settings, 0.0, DATA)
    run = (tmp_path / "run").rename(tmp_path / "moved")
    flags = ["--data", "new/photos", "--resume", str(run)]
    resumed = config.parse(Settings, flags)
    assert (resumed.data, resumed.epochs) == (Path("new/photos"), 8)
    with pytest.raises(errors.InputError, match="data have changed since"):
        config.start_run("test", resumed, 0.0, DATA | {"sha256": "1"})
    config.start_run("test", resumed, 0.0, DATA)
    # From now on they are there.
    assert config.parse(Settings, ["--resume", str(run)]) == resumed
    # What does not know its data by their content stays where it was.
    (run / config.STATE / "data.json").unlink()
    other = dataclasses.replace(resumed, data=Path("old"))
    with pytest.raises(errors.InputError, match="other settings: data"):
        config.start_run("test", other, 0.0, DATA)


def test_what_a_killed_process_has_left_half_written_is_removed(tmp_path):
    run = config.start_run("test", Settings(out=tmp_path / "run"), 0.0, DATA).folder
    (run / ".unfinished-model-abcd_123.keras").touch()
    resumed = config.parse(Settings, ["--resume", str(run)])
    config.start_run("test", resumed, 0.0, DATA)
    assert sorted(os.listdir(run)) == ["config.json", config.STATE]


def test_runs_that_begin_at_the_same_moment_get_folders_of_their_own(
    tmp_path, monkeypatch
):
    monkeypatch.chdir(tmp_path)
    atomic_folder, late = files.atomic_folder, []

    @contextlib.contextmanager
    def overtaken(folder):
        with atomic_folder(folder) as temporary:
            yield temporary
            if not late:
                late.append("begun")
                late.append(config.start_run("test", Settings(), 0.0, DATA).folder)

    monkeypatch.setattr(files, "atomic_folder", overtaken)
    assert config.start_run("test", Settings(), 0.0, DATA).folder == Path("runs/test-2")
    assert late[1:] == [Path("runs/test")]


def test_a_folder_of_runs_that_cannot_be_made_is_named(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "runs").touch()
    with pytest.raises(errors.InputError, match="Cannot write runs/test: "):
        config.start_run("test", Settings(), 0.0, DATA)


def test_runs_without_a_name_never_share_a_folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    folders = [config.start_run("test", Settings(), 0.0, DATA).folder for _ in range(2)]
    assert folders == [Path("runs/test"), Path("runs/test-2")]
    saved = files.read_json(folders[1] / "config.json")
    assert saved["out"] == "runs/test-2"


def test_a_setting_that_is_newer_than_the_run_has_its_default(tmp_path):
    settings = Settings(out=tmp_path / "run", epochs=8)
    run = config.start_run("test", settings, 0.0, DATA).folder
    saved = files.read_json(run / "config.json")
    del saved["rate"]
    files.write_json(run / "config.json", saved)
    resumed = config.parse(Settings, ["--resume", str(run)])
    assert config.start_run("test", resumed, 0.0, DATA).folder == run


def recipe(path):
    return importlib.import_module(f"recipes.{path.parent.name}").Config


@pytest.mark.parametrize("path", RESULTS, ids=lambda path: path.stem)
def test_committed_settings_are_read_under_the_names_they_had(path, tmp_path):
    saved = files.read_json(path)["config"]
    # Results name files and folders without their place, and these must exist.
    for name in ("data", "weights"):
        value = saved.get(name)
        if value and value != "imagenet":
            place = tmp_path / value
            # The folder of a model can have a dot in its name.
            is_file = place.suffix not in ("", ".en")
            place.write_bytes(b"") if is_file else place.mkdir()
            saved[name] = str(place)
    files.write_json(tmp_path / "config.json", saved)
    settings = config.parse(recipe(path), ["--config", str(tmp_path / "config.json")])
    read = config.to_json(settings)
    for name, value in config.current(saved).items():
        assert read[name] == value


@pytest.mark.parametrize(
    ("error", "status", "said"),
    [
        (errors.InputError("too small"), 2, "prog: error: too small\n"),
        (KeyboardInterrupt(), 130, "\nprog: interrupted.\n"),
        (
            OSError(errno.ENOSPC, "No space left on device", "runs/a"),
            2,
            "prog: error: Cannot write runs/a: No space left on device.\n",
        ),
        (BrokenPipeError(), 141, ""),
        (
            MemoryError("Cannot allocate 9 GiB"),
            2,
            "prog: error: The memory is full: Cannot allocate 9 GiB. A smaller "
            "batch_size, or smaller examples, need less.\n",
        ),
    ],
)
def test_what_the_user_can_mend_is_one_sentence(capsys, error, status, said):
    with pytest.raises(SystemExit) as ended, config.error_exit("prog"):
        raise error
    assert ended.value.code == status
    assert capsys.readouterr().err == said


def test_a_bug_of_ours_keeps_its_traceback():
    with pytest.raises(ValueError, match="ours"), config.error_exit("prog"):
        raise ValueError("ours")


def test_a_warning_is_one_sentence(capsys):
    with config.error_exit("prog"):
        errors.warn("small")
    assert capsys.readouterr().err == "prog: warning: small\n"


def test_the_same_warning_is_printed_once(capsys):
    with config.error_exit("prog"):
        for message in ("small", "small", "large"):
            errors.warn(message)
    shown = capsys.readouterr().err
    assert shown == "prog: warning: small\nprog: warning: large\n"


NAMES = r"""
import warnings
from rich.table import Table
from keras_tl import config, errors, progress
with config.error_exit("prog"):
    table = Table("[red] :cat: $a$")
    table.add_row("\u65e5\u672c caf\udce9 [/b]")
    progress.console().print(table)
    print("\u65e5\u672c \udce9")
    errors.warn("\u65e5\u672c \udce9")
    raise errors.InputError("\u65e5\u672c \udce9")
"""


@pytest.mark.parametrize("flags", [["--out="], ["--out", ""]])
def test_an_empty_value_is_no_folder(flags):
    with pytest.raises(errors.InputError, match="a shell variable that is not set"):
        config.parse(Settings, flags)


@pytest.mark.parametrize(
    ("error", "status"),
    [
        (KeyboardInterrupt(), 130),
        (OSError(28, "No space"), 2),
        (errors.StorageError("Cannot write a.txt."), 2),
        (MemoryError(), 2),
    ],
)
def test_whenever_a_run_ends_too_early_it_says_how_to_go_on(
    tmp_path, capsys, error, status
):
    folder = tmp_path / "my run"

    def start_and_end():
        with config.error_exit("prog"):
            config.start_run("test", config.RunSettings(out=folder), 0.0, {})
            raise error

    with pytest.raises(SystemExit) as ended:
        start_and_end()
    assert ended.value.code == status
    assert f"Continue with --resume '{folder}'" in capsys.readouterr().err
    # A run that has ended is not to be continued.
    files.write_json(folder / "manifest.json", {})
    with pytest.raises(SystemExit), config.error_exit("prog"):
        raise KeyboardInterrupt
    assert "--resume" not in capsys.readouterr().err


def test_a_run_that_is_refused_before_its_first_result_leaves_no_folder(tmp_path):
    def start(folder, resume=None, *, result=False):
        settings = config.RunSettings(out=None if resume else folder, resume=resume)
        data = {"sha256": "a", "classes": [], "counts": {}}
        with config.error_exit("prog"):
            run = config.start_run("test", settings, 0.0, data)
            if result:
                (run.state / "head.npz").write_bytes(b"")
            raise errors.InputError("Bad data.")

    def refused(*arguments, **options):
        with pytest.raises(SystemExit):
            start(*arguments, **options)

    refused(tmp_path / "new")
    assert not (tmp_path / "new").exists()
    # What was computed is kept, and so is a run that was there before.
    refused(tmp_path / "begun", result=True)
    assert (tmp_path / "begun" / "state" / "head.npz").exists()
    (tmp_path / "begun" / "state" / "head.npz").unlink()
    refused(tmp_path / "begun", resume=tmp_path / "begun")
    assert (tmp_path / "begun" / "config.json").exists()


def test_who_follows_the_log_of_a_run_sees_each_line_at_once(monkeypatch, tmp_path):
    with (tmp_path / "log.txt").open("w") as log:
        monkeypatch.setattr("sys.stdout", log)
        with config.error_exit("prog"):
            print("Trial 1 of 3")
            assert (tmp_path / "log.txt").read_text() == "Trial 1 of 3\n"


@pytest.mark.parametrize("encoding", ["ascii", "cp1252", "utf-8"])
def test_names_that_the_terminal_cannot_show_are_escaped(encoding):
    ended = subprocess.run(
        [sys.executable, "-c", NAMES],
        env={**os.environ, "PYTHONPATH": str(ROOT), "PYTHONIOENCODING": encoding},
        capture_output=True,
        check=False,
    )
    shown = ended.stdout.decode(encoding), ended.stderr.decode(encoding)
    name = "\u65e5\u672c" if encoding == "utf-8" else r"\u65e5\u672c"
    assert ended.returncode == 2
    assert "[red] :cat: $a$" in shown[0]
    assert rf"{name} caf\udce9 [/b]" in shown[0]
    assert rf"{name} \udce9" in shown[0]
    assert shown[1].split("\n")[:2] == [
        rf"prog: warning: {name} \udce9",
        rf"prog: error: {name} \udce9",
    ]
