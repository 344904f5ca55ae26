import csv
import errno
import os

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


def test_a_folder_for_runs_that_cannot_be_made_is_named(tmp_path):
    (tmp_path / "runs").touch()
    with pytest.raises(errors.InputError, match="Cannot make the folder .*runs"):
        files.next_folder(tmp_path / "runs", "run")


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


def test_next_folder_counts_up(tmp_path):
    names = [files.next_folder(tmp_path, "run").name for _ in range(3)]
    assert names == ["run", "run-2", "run-3"]


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
