import os
import signal
import subprocess
import sys
import time

import pytest

from keras_tl import errors, files
from keras_tl.deploy import versions


def write_run(folder, *, model="a" * 64, updates=None, number=None):
    """Write the part of a run's folder that versions look at."""
    folder.mkdir(parents=True)
    manifest = {"model_sha256": model}
    if updates is not None:
        manifest |= {
            "version": number,
            "updated_from": versions.origin(updates, folder),
        }
    files.write_json(folder / "manifest.json", manifest)
    return folder


@pytest.fixture
def line(tmp_path):
    """Three runs, each an update of the one before, of which the last is in use."""
    runs = [write_run(tmp_path / "runs" / "v1", model="1" * 64)]
    for number in (2, 3):
        folder = tmp_path / "runs" / f"v{number}"
        write_run(folder, model=str(number) * 64, updates=runs[-1], number=number)
        versions.add(folder, use=True)
        runs.append(folder)
    return runs


def in_use(run):
    found = versions.current(run)
    return found.folder.name, found.number


def test_a_run_without_updates_is_the_version_in_use(tmp_path):
    run = write_run(tmp_path / "run")
    assert in_use(run) == ("run", 1)
    assert versions.next_number(run) == 2
    with pytest.raises(errors.InputError, match="none to go back to"):
        versions.roll_back(run)


def test_every_run_of_a_line_knows_the_version_in_use(line):
    for run in line:
        assert in_use(run) == ("v3", 3)


def test_going_back_goes_to_the_run_that_an_update_was_made_from(line):
    before, now = versions.roll_back(line[2])
    assert (before.number, now.number) == (3, 2)
    assert in_use(line[0]) == ("v2", 2)
    versions.roll_back(line[0])
    assert in_use(line[2]) == ("v1", 1)
    # Numbers are not given twice.
    assert versions.next_number(line[0]) == 4


def test_a_rejected_update_has_a_number_and_is_not_used(line, tmp_path):
    rejected = write_run(tmp_path / "runs" / "v4", updates=line[2], number=4)
    versions.add(rejected, use=False)
    assert in_use(rejected) == ("v3", 3)
    assert versions.next_number(line[0]) == 5


def test_the_folder_of_all_versions_can_move(line, tmp_path):
    (tmp_path / "runs").rename(tmp_path / "elsewhere")
    assert in_use(tmp_path / "elsewhere" / "v2") == ("v3", 3)


def test_a_version_that_is_gone_or_another_is_named(line):
    files.write_json(line[1] / "manifest.json", {"model_sha256": "9" * 64})
    with pytest.raises(errors.InputError, match="cannot be gone back to"):
        versions.roll_back(line[0])
    files.write_json(line[2] / "manifest.json", {"model_sha256": "9" * 64})
    with pytest.raises(errors.InputError):
        versions.current(line[0])
    (line[0] / versions.FILE).write_text("{}")
    with pytest.raises(errors.InputError, match="does not name the version in use"):
        versions.current(line[0])


SWITCHING = """
import sys
from keras_tl import files
from keras_tl.deploy import versions
runs = sys.argv[1:]
print("ready", flush=True)
while True:
    for run in runs:
        versions.add(run, use=True)
"""


def test_a_switch_that_is_killed_leaves_one_version_or_the_other(line):
    """Killed at any moment, with no message: the version in use can always be read."""
    for wait in (0.0, 0.003, 0.01, 0.03):
        process = subprocess.Popen(
            [sys.executable, "-c", SWITCHING, line[1], line[2]],
            stdout=subprocess.PIPE,
            env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)},
        )
        process.stdout.readline()
        time.sleep(wait)
        process.send_signal(signal.SIGKILL)
        process.wait()
        process.stdout.close()
        assert in_use(line[0]) in (("v2", 2), ("v3", 3))


def test_switching_loads_neither_keras_nor_tensorflow(line):
    code = (
        "import sys; from keras_tl.deploy import versions; "
        "versions.current(sys.argv[1]); "
        "print([m for m in ('keras', 'tensorflow') if m in sys.modules])"
    )
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    result = subprocess.run(
        [sys.executable, "-c", code, line[0]],
        env=environment,
        capture_output=True,
        text=True,
        check=True,
    )
    assert result.stdout.strip() == "[]"
