import csv
import errno
import os
import subprocess
import sys
from pathlib import Path

import pytest

from keras_tl import errors, files


def write_half(path, error):
    with files.atomic(path) as temporary:
        temporary.write_text("half")
        raise error


def test_a_failed_write_leaves_the_old_file_and_no_other(tmp_path):
    path = tmp_path / "a.txt"
    files.write_text(path, "old")
    with pytest.raises(RuntimeError):
        write_half(path, RuntimeError())
    assert path.read_text() == "old"
    assert os.listdir(tmp_path) == ["a.txt"]


def test_disk_full_is_said_and_the_old_file_survives(tmp_path):
    path = tmp_path / "a.txt"
    files.write_text(path, "old")
    with pytest.raises(errors.InputError, match=r"No space left.*unchanged"):
        write_half(path, OSError(errno.ENOSPC, os.strerror(errno.ENOSPC)))
    assert path.read_text() == "old"
    assert os.listdir(tmp_path) == ["a.txt"]


NAMES = ["日本", "caf\udce9", "a;b,c", 'quoted "so"', "<b>"]


def test_names_that_are_no_utf8_are_written_alike_in_every_file(tmp_path):
    files.write_json(tmp_path / "a.json", NAMES)
    files.write_text(tmp_path / "a.txt", "\n".join(NAMES))
    files.write_csv(tmp_path / "a.csv", [{"name": name} for name in NAMES])
    assert files.read_json(tmp_path / "a.json") == NAMES
    readable = ["日本", r"caf\udce9", *NAMES[2:]]
    assert [files.printable(name) for name in NAMES] == readable
    assert (tmp_path / "a.txt").read_text("utf-8").splitlines() == readable
    with open(tmp_path / "a.csv", newline="", encoding="utf-8") as file:
        assert [row["name"] for row in csv.DictReader(file)] == readable


def test_of_two_folders_made_at_the_same_moment_one_is_the_first(tmp_path):
    def both():
        with files.atomic_folder(tmp_path / "a") as late:
            (late / "late").touch()
            with files.atomic_folder(tmp_path / "a") as early:
                (early / "early").touch()

    with pytest.raises(errors.InputError, match="does not exist yet"):
        both()
    assert os.listdir(tmp_path) == ["a"]
    assert os.listdir(tmp_path / "a") == ["early"]


def test_what_a_killed_write_has_left_is_removed_and_nothing_else(tmp_path):
    (tmp_path / "in").mkdir()
    (tmp_path / ".hidden-settings").touch()
    for path in (tmp_path / "model.keras", tmp_path / "in" / "head.weights.h5"):
        with files.atomic(path) as temporary:
            pass
        temporary.touch()
    assert len(list(tmp_path.rglob(".unfinished-*"))) == 2
    files.remove_unfinished(tmp_path)
    found = {str(path.relative_to(tmp_path)) for path in tmp_path.rglob("*")}
    assert found == {".hidden-settings", "in", "in/head.weights.h5", "model.keras"}


LOCKING = """
import sys
from keras_tl import files
print(files.lock(sys.argv[1]), flush=True)
sys.stdin.read()
"""


def locking(path):
    return subprocess.Popen(
        [sys.executable, "-c", LOCKING, str(path)],
        env={**os.environ, "PYTHONPATH": str(Path(__file__).parents[1])},
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )


def test_a_lock_names_its_process_and_ends_with_it(tmp_path):
    owner = locking(tmp_path / "lock")
    assert owner.stdout.readline() == "None\n"
    assert f"process {owner.pid} on " in files.lock(tmp_path / "lock")
    owner.kill()
    owner.communicate()
    assert files.lock(tmp_path / "lock") is None


def test_a_new_folder_is_never_an_old_one(tmp_path):
    assert files.new_folder(tmp_path / "a" / "b").is_dir()
    with pytest.raises(errors.InputError, match="does not exist yet.*choose another"):
        files.new_folder(tmp_path / "a" / "b")
    (tmp_path / "file").touch()
    with pytest.raises(errors.InputError, match="Cannot make the folder"):
        files.new_folder(tmp_path / "file" / "b")


def test_the_next_file_is_the_first_that_does_not_exist(tmp_path):
    names = []
    for _ in range(3):
        path = files.next_file(tmp_path / "plan.json")
        path.touch()
        names.append(path.name)
    assert names == ["plan.json", "plan-2.json", "plan-3.json"]


def test_written_files_have_the_usual_mode(tmp_path):
    (tmp_path / "plain").touch()
    files.write_text(tmp_path / "ours", "")
    modes = {(tmp_path / name).stat().st_mode for name in ("plain", "ours")}
    assert len(modes) == 1


@pytest.mark.parametrize("content", ["", "{", "\x00"])
def test_what_is_no_json_is_named(tmp_path, content):
    (tmp_path / "a.json").write_text(content)
    with pytest.raises(errors.InputError, match=r"a\.json holds no valid JSON"):
        files.read_json(tmp_path / "a.json")
    with pytest.raises(errors.InputError, match=r"Cannot read .*b\.json"):
        files.read_json(tmp_path / "b.json")
