"""What is lost when something fails: faults injected into real runs, one by one.

Runs of the command line are killed (SIGKILL), their disks are full or read-only, their
files damaged, their folders moved; then they are resumed, and compared with the same
run without a fault: weights and every number, bit for bit.

    python -m benchmarks.injected_faults                # all, about 20 minutes
    python -m benchmarks.injected_faults "full disks"   # one group
    python -m benchmarks.injected_faults --keep         # and write results and page

Disks are real ones, of a few KiB, in memory: that needs root, on Linux.
"""

import argparse
import contextlib
import io
import json
import os
import random
import re
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
import urllib.request
import zipfile
from collections.abc import Callable, Iterator
from pathlib import Path

import h5py
import numpy as np

from benchmarks import harness, pages

ROOT = Path(__file__).parents[1]
TINY = ["--limit", "40", "--epochs", "3", "--image-size", "32", "--batch-size", "16"]
# Command -> its options: some seconds each, most of them to load libraries.
RUNS = {
    "quickstart": [
        *TINY,
        *["--fine-tune-epochs", "2", "--scratch-epochs", "2", "--blocks", "1"],
    ],
    "vgg16_cifar10": [
        *TINY,
        *[
            "--dataset",
            "cifar10_sample",
            "--backbone",
            "mobilenet",
            "--weights",
            "None",
        ],
        *["--unfreeze-from", "conv_dw_13", "--fine-tune-epochs", "2"],
    ],
    "hyperparameter_search": [*TINY, "--trials", "2"],
}
# Read by Python when it starts: counts what is moved into place, kills the process at
# one of these moments, and changes its clock.
SITE = """
import json, os, signal, time
order = json.loads(os.environ.get("FAULT", "{}"))
moves, real = [], {"replace": os.replace, "rename": os.rename}
def moved(name):
    def move(source, target, **options):
        moves.append(str(target))
        last = len(moves) == order.get("move")
        if last and order["when"] == "before":
            os.kill(os.getpid(), signal.SIGKILL)
        real[name](source, target, **options)
        if "log" in order:
            with open(order["log"], "a") as file:
                print(target, file=file)
        if len(moves) == order.get("fill_after"):
            with open(order["fill"], "wb", buffering=0) as file:
                try:
                    while True:
                        file.write(bytes(2**12))
                except OSError:
                    pass
        if last:
            os.kill(os.getpid(), signal.SIGKILL)
    return move
if {"move", "log", "fill"} & set(order):
    os.replace, os.rename = moved("replace"), moved("rename")
if "clock" in order:
    now = time.time
    time.time = lambda: now() + order["clock"]
"""
YEAR = 365 * 24 * 3600


class Place:
    """A folder in which runs are made, with a cache of features of its own.

    Attributes:
        folder: The folder.
        changed: Variables of the environment that are changed; `None` removes one.
        before: Command line before that of Python.
    """

    def __init__(self, folder: Path):
        self.folder, self.changed, self.before = folder, {}, ()
        (folder / "site").mkdir()
        (folder / "site" / "sitecustomize.py").write_text(SITE)

    def start(self, *command: object, **fault: object) -> subprocess.Popen:
        """Start `keras-tl COMMAND` with a fault of `SITE`."""
        if {"move", "fill"} & set(fault):
            # The files that are counted are those of a run without features.
            shutil.rmtree(self.path("cache"), ignore_errors=True)
        environment = {
            **os.environ,
            "PYTHONPATH": f"{self.folder / 'site'}:{ROOT}",
            "PYTHONDONTWRITEBYTECODE": "1",
            "KERAS_TL_CACHE": str(self.folder / "cache"),
            "TF_CPP_MIN_LOG_LEVEL": "3",
            "FAULT": json.dumps(fault),
            **self.changed,
        }
        return subprocess.Popen(
            [*self.before, sys.executable, "-m", "keras_tl", *map(str, command)],
            cwd=self.folder,
            env={
                name: value for name, value in environment.items() if value is not None
            },
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )

    def run(self, *command: object, **fault: object) -> tuple[int, str]:
        """Run a command to its end; return its status, and the last line of errors."""
        process = self.start(*command, **fault)
        _, shown = process.communicate(timeout=300)
        lines = [
            line.partition(": ")[2]
            for line in shown.splitlines()
            if ("error: " in line or "warning: " in line) and "At 32 pixels" not in line
        ]
        if process.returncode > 0:
            lines = lines or shown.splitlines()
        return process.returncode, " ".join(lines[-2:])

    def path(self, name: str) -> Path:
        """Return a path in the folder."""
        return self.folder / name


@contextlib.contextmanager
def disk(folder: Path, kib: int) -> Iterator[Callable[[str], None]]:
    """Mount a disk of some KiB; yield a function that mounts it again with options."""
    folder.mkdir(exist_ok=True)

    def mount(*options):
        subprocess.run(["mount", *options, str(folder)], check=True)

    mount("-t", "tmpfs", "-o", f"size={kib}k,mode=777", "none")
    try:
        yield lambda options: mount("-o", f"remount,{options}")
    finally:
        subprocess.run(["umount", str(folder)], check=True)


def content(run: Path) -> dict:
    """Return everything of a run that must not depend on what happened on the way."""
    found = {"files": sorted(str(p.relative_to(run)) for p in run.rglob("*"))}
    if (run / "model.keras").exists():
        with zipfile.ZipFile(run / "model.keras") as archive:
            weights = io.BytesIO(archive.read("model.weights.h5"))
        with h5py.File(weights) as file:
            file.visititems(
                lambda name, item: (
                    found.update({name: np.asarray(item).tobytes()})
                    if isinstance(item, h5py.Dataset)
                    else None
                )
            )
    for name in ("metrics.json", "history.csv", "predictions.csv", "answers.json"):
        if (run / name).exists():
            # Where the examples are may differ, what they are may not.
            found[name] = re.sub(r"/\S*/", "", (run / name).read_text())
    trials = json.loads((run / "manifest.json").read_text()).get("trials", [])
    found["trials"] = [
        {key: value for key, value in row.items() if "second" not in key}
        for row in trials
    ]
    return found


def lost(run: Path, whole: Path) -> str:
    """Return what a run lacks beside the one without a fault: "nothing", if equal."""
    if not (run / "manifest.json").exists():
        return "**the run**"
    ours, theirs = content(run), content(whole)
    differ = [name for name in {**ours, **theirs} if ours.get(name) != theirs.get(name)]
    return f"**{', '.join(differ[:3])}**" if differ else "nothing"


def row(fault: str, happened: str, lost: str = "") -> dict:
    """Return a row of the table, and print it; `lost` is empty if not compared."""
    print(f"  {fault}: {happened}; lost: {lost}", flush=True)
    return {"fault": fault, "happened": happened, "lost": lost}


def whole_run(place: Place, name: str) -> Path:
    """Run a recipe without a fault, once; return its folder."""
    folder = place.path(f"whole-{name}")
    if not folder.exists():
        status, shown = place.run(
            "run",
            name,
            *RUNS[name],
            "--out",
            folder,
            log=str(place.path(f"{name}.log")),
        )
        assert status == 0, shown
    return folder


def move_of(place: Place, name: str, file: str) -> int:
    """Return which of all files a recipe writes is the last of a name."""
    whole_run(place, name)
    moves = place.path(f"{name}.log").read_text().splitlines()
    return max(n for n, path in enumerate(moves, start=1) if Path(path).match(file))


def finish(place: Place, name: str, run: Path, *options: object) -> tuple[str, str]:
    """Resume a run, or begin it anew where there is none; say how, and what is lost."""
    if (run / "manifest.json").exists():
        # It is complete: `--resume` says so, and removes what only resuming needs.
        place.run("run", name, "--resume", run)
        return "complete", lost(run, whole_run(place, name))
    if run.exists():
        how, command = "resumed", ["--resume", run, *options]
    else:
        how, command = "begun again", [*RUNS[name], "--out", run]
    status, shown = place.run("run", name, *command)
    if status:
        return f"{how}: {shown}", "**the run**"
    return how + (f" ({shown})" if shown else ""), lost(run, whole_run(place, name))


# %% Kills


def kills(place: Place, name: str) -> list[dict]:
    """Kill a recipe at random times, and at each kind of file that it writes."""
    started = time.perf_counter()
    whole_run(place, name)
    seconds = time.perf_counter() - started
    moves = place.path(f"{name}.log").read_text().splitlines()
    rows, rng = [], random.Random(0)
    shutil.rmtree(place.path("cache"), ignore_errors=True)
    times = [rng.uniform(0.3, 1.0) * seconds for _ in range(3)]
    rows.append(killed(place, name, f"at {len(times)} random times", times))
    of_kind: dict[str, list[int]] = {}
    for number, target in enumerate(moves, start=1):
        path = Path(target)
        kind = "a file of the finished run"
        if path.suffix == ".shard":
            kind = "a file of features"
        elif path.parent.name == "state" and path.suffix == ".npz":
            kind = "the state of a phase"
        elif path.parent.name == "state":
            kind = "its settings, before it has a folder"
        elif path.parent.name == "trials":
            kind = "the result of a trial"
        elif path == place.path(f"whole-{name}"):
            kind = "the folder of the run"
        elif path.name in ("model.keras", "manifest.json"):
            kind = path.name
        of_kind.setdefault(kind, []).append(number)
    for index, (kind, numbers) in enumerate(of_kind.items()):
        # Before the file is in place, or after.
        fault = {"move": rng.choice(numbers), "when": ("before", "after")[index % 2]}
        rows.append(killed(place, name, f"as it writes {kind}", [fault]))
    return rows


def killed(place: Place, name: str, moment: str, faults: list) -> dict:
    """Kill a recipe with each fault, resume it, and return what happened in a row.

    Args:
        place: Where it runs.
        name: Name of the recipe.
        moment: When it is killed, for people.
        faults: Seconds, or faults of `SITE`.
    """
    hows, losses = [], []
    for number, fault in enumerate(faults):
        run = place.path(f"{name}-{moment}-{number}".replace(" ", "-"))
        shutil.rmtree(place.path("cache"), ignore_errors=True)
        options = ["run", name, *RUNS[name], "--out", run]
        if isinstance(fault, dict):
            status, _ = place.run(*options, **fault)
        else:
            process = place.start(*options)
            with contextlib.suppress(subprocess.TimeoutExpired):
                process.communicate(timeout=fault)
            process.kill()
            process.communicate()
            status = process.returncode
        if status == 0:
            hows.append("had ended")
            losses.append(lost(run, whole_run(place, name)))
            continue
        assert status == -signal.SIGKILL, status
        how, loss = finish(place, name, run)
        hows.append(how)
        losses.append(loss)
        shutil.rmtree(run, ignore_errors=True)
    counts = {how: hows.count(how) for how in hows}
    happened = ", ".join(f"{how} {count}x" for how, count in counts.items())
    wrong = sorted(set(losses) - {"nothing"})
    return row(f"`{name}` is killed {moment}", happened, ", ".join(wrong) or "nothing")


# %% Disks


def full_disks(place: Place) -> list[dict]:
    """Fill the disks of runs, cache and temporary files."""
    name, rows = "quickstart", []
    whole = whole_run(place, name)
    moves = [Path(path).name for path in place.path(f"{name}.log").read_text().split()]
    for when, file in (
        ("as it begins", None),
        ("in a phase", "from-scratch.npz"),
        ("as it saves the model", "model.keras"),
        ("as it saves the report", "report.html"),
    ):
        with disk(place.path("small"), 4 if file is None else 80_000):
            run, filler = (place.path("small") / part for part in ("run", "filler"))
            fault = {"fill": str(filler), "fill_after": file and moves.index(file)}
            status, shown = place.run("run", name, *RUNS[name], "--out", run, **fault)
            assert status, shown
            filler.unlink(missing_ok=True)
            if file is None:
                subprocess.run(
                    ["mount", "-o", "remount,size=80m", str(run.parent)], check=True
                )
            _, loss = finish(place, name, run)
            happened = shown.replace(str(place.path("small")), "RUNS")
            rows.append(row(f"disk of the run full {when}", happened, loss))
    for variable, what in (("KERAS_TL_CACHE", "the cache"), ("TMPDIR", "`TMPDIR`")):
        with disk(place.path("small"), 16):
            place.changed = {variable: str(place.path("small"))}
            run = place.path(f"full-{variable}")
            status, shown = place.run("run", name, *RUNS[name], "--out", run)
            shown = shown.replace(str(place.path("small")), "FOLDER")
            rows.append(
                row(f"disk of {what} full", _how(status, shown), lost(run, whole))
            )
            place.changed = {}
    return rows


def _how(status, shown) -> str:
    return f"status {status}: {shown}" if status or shown else "ends as always"


def unusable_folders(place: Place) -> list[dict]:
    """Take away the right to write, and the folders themselves."""
    name, rows = "quickstart", []
    whole = whole_run(place, name)
    with disk(place.path("fixed"), 1_000) as remount:
        remount("ro")
        run = place.path("fixed") / "run"
        status, shown = place.run("run", name, *RUNS[name], "--out", run)
        shown = shown.replace(str(place.path("fixed")), "RUNS")
        rows.append(row("runs on a read-only disk", _how(status, shown)))
        fixed = str(place.path("fixed"))
        none = str(place.path("none") / "at" / "all")
        for fault, changed in {
            "cache on a read-only disk": {"KERAS_TL_CACHE": fixed},
            "cache below a file": {"KERAS_TL_CACHE": str(place.path("file") / "cache")},
            "`HOME` on a read-only disk": {"HOME": fixed, "KERAS_TL_CACHE": None},
            "`HOME` does not exist": {"HOME": none, "KERAS_TL_CACHE": None},
            "`HOME` is not set": {"HOME": None, "KERAS_TL_CACHE": None},
            "`TMPDIR` does not exist": {"TMPDIR": none},
            "`TMPDIR` on a read-only disk": {"TMPDIR": fixed},
        }.items():
            place.path("file").touch()
            place.changed = changed
            run = place.path(f"run-{len(rows)}")
            status, shown = place.run("run", name, *RUNS[name], "--out", run)
            for path in (fixed, str(place.folder)):
                shown = shown.replace(path, "FOLDER")
            rows.append(row(fault, _how(status, shown), lost(run, whole)))
        place.changed = {"HOME": fixed, "MPLCONFIGDIR": None}
        place.before = ("setpriv", "--reuid=65534", "--regid=65534", "--clear-groups")
        place.folder.chmod(0o755)
        status, shown = place.run("run", name, *RUNS[name])
        shown = shown.replace(str(place.folder), "FOLDER")
        fault = "a user who may write nowhere but `TMPDIR`"
        rows.append(row(fault, _how(status, shown)))
        place.changed, place.before = {}, ()
    return rows


# %% Damage


def _flip(path):
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(data)


def _cut(path):
    os.truncate(path, path.stat().st_size // 2)


def _empty(path):
    os.truncate(path, 0)


def _folder(path):
    path.unlink()
    path.mkdir()


DAMAGE = {"a bit flipped": _flip, "cut off": _cut, "empty": _empty, "a folder": _folder}


def damaged_files(place: Place) -> list[dict]:
    """Damage files of features, states of phases and results of trials."""
    name, rows = "quickstart", []
    whole = whole_run(place, name)
    for kind, damage in DAMAGE.items():
        for path in place.path("cache").glob("*/*.shard"):
            damage(path) if path.is_file() else None
        run = place.path(f"damaged-{kind}".replace(" ", "-"))
        status, shown = place.run("run", name, *RUNS[name], "--out", run)
        shown = _short(shown, place)
        rows.append(
            row(f"files of features: {kind}", _how(status, shown), lost(run, whole))
        )
    shutil.rmtree(place.path("cache"))
    for name, file in (
        ("quickstart", "state/head.npz"),
        ("hyperparameter_search", "trials/*"),
    ):
        whole = whole_run(place, name)
        after = move_of(place, name, file)
        for kind, damage in list(DAMAGE.items())[:2]:
            run = place.path(f"damaged-{name}-{kind}".replace(" ", "-"))
            fault = {"move": after, "when": "after"}
            place.run("run", name, *RUNS[name], "--out", run, **fault)
            damage(next(run.glob(file)))
            happened, loss = finish(place, name, run)
            rows.append(row(f"`{file}`: {kind}", _short(happened, place), loss))
    return rows


def _short(shown, place):
    for path in (place.path("cache"), place.folder):
        shown = shown.replace(str(path), "FOLDER")
    shown = re.sub(r"[0-9a-f]{32}", "HASH", shown)
    return shown.replace(socket.gethostname(), "HOST")


# %% Two at once, clocks and moves


def two_at_once(place: Place) -> list[dict]:
    """Begin and resume one run twice at the same moment."""
    name, rows = "quickstart", []
    whole = whole_run(place, name)
    run = place.path("twice")
    both = [place.start("run", name, *RUNS[name], "--out", run) for _ in range(2)]
    shown = [process.communicate()[1] for process in both]
    statuses = sorted(process.returncode for process in both)
    refused = _short(max(shown, key=lambda one: "error" in one).splitlines()[-1], place)
    happened = f"statuses {statuses}: {refused}"
    rows.append(row("two runs into one folder", happened, lost(run, whole)))
    run = place.path("resumed-twice")
    head = move_of(place, name, "head.npz")
    place.run("run", name, *RUNS[name], "--out", run, move=head, when="after")
    both = [place.start("run", name, "--resume", run) for _ in range(2)]
    shown = [process.communicate()[1] for process in both]
    statuses = sorted(process.returncode for process in both)
    refused = _short(max(shown, key=lambda one: "error" in one).splitlines()[-1], place)
    happened = f"statuses {statuses}: {refused}"
    rows.append(row("two `--resume` of one run", happened, lost(run, whole)))
    return rows


def clocks(place: Place) -> list[dict]:
    """Set the clock between a kill and what follows, and the times of all files."""
    name, rows = "quickstart", []
    head = move_of(place, name, "head.npz")
    for fault, change in (("back", -YEAR), ("forward", YEAR)):
        run = place.path(f"clock-{fault}")
        place.run("run", name, *RUNS[name], "--out", run, move=head, when="after")
        for path in [*run.rglob("*"), *place.path("cache").rglob("*")]:
            os.utime(path, (time.time() - change, time.time() - change))
        status, shown = place.run("run", name, "--resume", run, clock=change)
        happened = f"clock and times of files a year apart; {_how(status, shown)}"
        loss = lost(run, whole_run(place, name))
        rows.append(row(f"clock set {fault} before `--resume`", happened, loss))
    return rows


def moved_folders(place: Place) -> list[dict]:
    """Move a killed run and its data, and a finished run."""
    from PIL import Image

    from keras_tl.data import datasets

    name, rows = "quickstart", []
    data = datasets.load()
    head = move_of(place, name, "head.npz")
    for index in range(80):
        label = data.train.labels[index] % 2
        folder = place.path("photos") / f"class_{label}"
        folder.mkdir(parents=True, exist_ok=True)
        Image.fromarray(data.train.read([index])[0]).save(folder / f"{index}.png")
    options = [*RUNS[name], "--data", place.path("photos")]
    whole, run = place.path("whole-moved"), place.path("stays")
    status, shown = place.run("run", name, *options, "--out", whole)
    assert status == 0, shown
    place.run("run", name, *options, "--out", run, move=head, when="after")
    elsewhere = place.path("elsewhere")
    elsewhere.mkdir()
    run = run.rename(elsewhere / "run")
    photos = place.path("photos").rename(elsewhere / "pictures")
    shutil.rmtree(place.path("cache"), ignore_errors=True)
    status, shown = place.run("run", name, "--resume", run)
    rows.append(row("run and data moved, `--resume` alone", _short(shown, place)))
    status, shown = place.run("run", name, "--resume", run, "--data", photos)
    rows.append(
        row("the same with `--data NEW`", _how(status, shown), lost(run, whole))
    )
    moved = whole.rename(elsewhere / "finished")
    picture = next(photos.rglob("*.png"))
    for command in (
        ("predict", moved, picture),
        ("export", moved, "--out", elsewhere / "export"),
    ):
        status, shown = place.run(*command)
        what = f"finished run moved: `keras-tl {command[0]}`"
        rows.append(row(what, _how(status, _short(shown, place))))
    process = place.start("serve", moved, "--port", 0)
    address = next(
        word for word in process.stdout.readline().split() if word.startswith("http")
    )
    with urllib.request.urlopen(address.rstrip(".")) as page:
        happened = f"answers with status {page.status}"
    process.terminate()
    process.communicate()
    rows.append(row("finished run moved: `keras-tl serve`", happened))
    return rows


# %% Memory

# A layer whose memory grows with the fourth power of the batch: 10 GB for 64 examples,
# 0.6 for 32, in a process that may have only 6 more than it has.
SMALL_MEMORY = """
import resource
import keras, numpy as np, psutil
from keras_tl.data.splits import Split, Splits
from keras_tl.training import features, phases, placement
class Crowd(keras.layers.Layer):
    def call(self, x):
        rows = keras.ops.mean(x, axis=1)
        pairs = rows[:, None] * rows[None]
        fours = pairs[:, :, None, None] * pairs[None, None]
        wide = fours[..., None] * keras.ops.ones(150)
        return x + keras.ops.mean(wide)
wide = keras.Input((100,))
crowd = Crowd()(keras.layers.Dense(100)(wide))
model = keras.Model(wide, keras.layers.Dense(2, name="logits")(crowd))
values = np.random.default_rng(0).random((64, 100), "float32")
split = Split(values, np.arange(64) % 2)
data = Splits(split, split, split, ["a", "b"], "Noise.")
place = placement.choose(["CPU:0"])
limit = psutil.Process().memory_info().vms + 6 * 10**9
resource.setrlimit(resource.RLIMIT_AS, (limit, limit))
assert features.run(model, split.inputs, batch_size=64).shape == (64, 2)
history = phases.fit(model, data, phases.Setup(place, batch_size=64), phases.Phase(2))
print("trained in batches of", history.get("batch_size"))
"""


def small_memories(place: Place) -> list[dict]:
    """Run a model that needs more memory than its process may have."""
    ended = subprocess.run(
        [sys.executable, "-c", SMALL_MEMORY],
        env={
            **os.environ,
            "PYTHONPATH": str(ROOT),
            "TF_CPP_MIN_LOG_LEVEL": "3",
            # What each thread sets aside counts as memory here.
            "MALLOC_ARENA_MAX": "1",
        },
        capture_output=True,
        text=True,
        check=False,
    )
    shown = "".join(ended.stdout.splitlines()[-1:])
    halved = ended.stderr.count("InputWarning: ")
    happened = f"status {ended.returncode}, {halved} times halved; {shown}"
    loss = "the batch that was asked for: results differ from those of 64"
    if not shown.startswith("trained in"):
        loss = "**the run**"
    return [row("6 GB of memory, and batches of 64 that need 10", happened, loss)]


GROUPS = {
    **{
        f"kills of {name}": lambda place, name=name: kills(place, name) for name in RUNS
    },
    "full disks": full_disks,
    "unusable folders": unusable_folders,
    "damaged files": damaged_files,
    "two at once": two_at_once,
    "clocks": clocks,
    "moved folders": moved_folders,
    "small memories": small_memories,
}


def main() -> None:
    """Inject the faults of all groups, or of those that are named."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.injected_faults")
    parser.add_argument("groups", nargs="*", help=f"among: {', '.join(GROUPS)}")
    parser.add_argument("--keep", action="store_true", help="write results and page")
    given = parser.parse_args()
    path = pages.RESULTS / "injected_faults" / "injected_faults.json"
    groups = json.loads(path.read_text())["groups"] if path.exists() else {}
    for name in given.groups or GROUPS:
        print(name, flush=True)
        with tempfile.TemporaryDirectory() as folder:
            groups[name] = GROUPS[name](Place(Path(folder)))
    if given.keep:
        ordered = {name: groups[name] for name in GROUPS if name in groups}
        pages.keep("injected_faults", {"groups": ordered, **harness.machine()})


if __name__ == "__main__":
    main()
