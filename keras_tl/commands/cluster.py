"""`keras-tl cluster run RECIPE`: workers that Ray starts, and starts again.

Each worker is the command line that one would type on its machine, in a process of its
own, with the `TF_CONFIG` of Ray Train; see `keras_tl.cluster` for how they meet. Here
is what goes on around them: their output, failures, and the end.
"""

import contextlib
import logging
import os
import shutil
import socket
import subprocess
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from keras_tl import config, errors, files
from keras_tl.commands.settings import ClusterRun

# Seconds that the others have to end, once a worker has refused its input.
GRACE = 10.0
# Seconds within which a cluster of Ray is reached.
_REACHED = 10.0
# Bytes of memory for Ray's own objects: nothing large goes through them.
_OBJECTS = 100 * 2**20
# Exit status of a worker that starting again does not help.
_REFUSED = 2
# The program of a worker. Ray does not end the processes of its own that it kills.
_PROGRAM = (
    "from keras_tl import cli; from keras_tl.commands import cluster; "
    "cluster.end_with_parent(); cli.main()"
)


def main(settings: ClusterRun, command: list[str], run: config.RunSettings) -> int:
    """Run a command on workers of Ray until it is done.

    Args:
        settings: The workers.
        command: Arguments of `keras-tl`, such as `["run", "quickstart", "--limit=60"]`.
        run: The settings that these arguments have.

    Returns:
        Exit status of worker 0.

    Raises:
        InputError: Ray is not installed, cannot be reached, or has too few GPUs; or the
            batch cannot be divided.
    """
    if (batch_size := getattr(run, "batch_size", None)) is not None:
        from keras_tl.training import placement  # It loads numpy.

        devices = settings.workers * max(1, settings.gpus_per_worker)
        placement.check_share(batch_size, devices)
    errors.check_installed("ray", extra="ray")
    words = command[:2] if command[0] == "run" else command[:1]
    folder = Path(run.resume or run.out or files.next_file(Path("runs", words[-1])))
    if run.resume is None and run.out is None:
        command = [*command, "--out", str(folder)]
    logs = Path(f"{folder}-workers").absolute()
    if not logs.is_dir():
        files.new_folder(logs)
    others = "" if settings.workers == 1 else f"; that of the others goes to {logs}"
    print(f"The output of worker 0 follows{others}.", flush=True)
    task = {
        "command": command,
        "again": [*words, "--resume", str(folder)],
        "folder": str(folder.absolute()),
        "logs": str(logs),
        "directory": os.getcwd(),
    }
    try:
        _connect(settings)
        status = _watch(settings, task)
    except KeyboardInterrupt:
        raise KeyboardInterrupt(_how_to_continue(settings, task)) from None
    finally:
        _disconnect()
        # A mark of Ray Train's: the results are those of worker 0.
        shutil.rmtree(logs / "ray", ignore_errors=True)
        with contextlib.suppress(OSError):
            logs.rmdir()  # Where no other worker has begun.
    return status


def _connect(settings):
    """Connect with a cluster of Ray, or start one on this machine."""
    # Read when ray is imported.
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    import ray

    quiet = {"log_to_driver": False, "logging_level": logging.ERROR}
    address = settings.address or os.environ.get("RAY_ADDRESS")
    if not address:
        ray.init(
            "local",
            num_cpus=settings.workers * settings.cpus_per_worker,
            include_dashboard=False,
            object_store_memory=_OBJECTS,
            **quiet,
        )
    else:
        try:
            if address != "auto":
                # Ray itself would try for many minutes.
                host, _, port = address.rpartition(":")
                socket.create_connection((host, int(port)), timeout=_REACHED).close()
            ray.init(address, **quiet)
        except (OSError, ValueError, RuntimeError) as error:
            raise errors.expected(
                "address", "be that of a Ray cluster", address, errors.reason(error)
            ) from error
    there = ray.cluster_resources()
    for name, each in (
        ("CPU", settings.cpus_per_worker),
        ("GPU", settings.gpus_per_worker),
    ):
        number, needed = int(there.get(name, 0)), settings.workers * each
        message = f"The workers need {needed} {name}s, and Ray has {number}"
        if number < needed and address:
            errors.warn(f"{message}: they wait until it has more.")
        elif number < needed:
            raise errors.InputError(f"{message} on this machine.")


def _disconnect():
    ray = sys.modules.get("ray")
    if ray is not None:
        ray.shutdown()


def _watch(settings, task):
    """Start the workers, show what they report, and return the status of worker 0."""
    from ray import train
    from ray.train.tensorflow import TensorflowTrainer
    from ray.util.queue import Empty, Queue

    events = Queue(actor_options={"num_cpus": 0})
    trainer = TensorflowTrainer(
        _work,
        train_loop_config={**task, "events": events},
        scaling_config=train.ScalingConfig(
            num_workers=settings.workers,
            use_gpu=settings.gpus_per_worker > 0,
            resources_per_worker={
                "CPU": settings.cpus_per_worker,
                "GPU": settings.gpus_per_worker,
            },
            # TensorFlow uses all processors of a machine: one worker on each, if Ray
            # has as many.
            placement_strategy="SPREAD",
        ),
        run_config=train.RunConfig(
            name="ray",
            storage_path=task["logs"],
            failure_config=train.FailureConfig(max_failures=settings.restarts),
        ),
    )
    # Apart from the main thread, which Ctrl-C interrupts.
    running = ThreadPoolExecutor(1).submit(trainer.fit)
    statuses, starts, until = {}, 0, float("inf")
    while time.monotonic() < until:
        try:
            kind, rank, value = events.get(timeout=0.5)
        except Empty:
            if running.done():
                break
            continue
        if kind == "line":
            print(value, end="", flush=True)
        elif kind == "start":
            starts += 1
            if starts > 1:
                again = f"restart {starts - 1} of {settings.restarts}"
                print(f"All workers start again: {again}.", flush=True)
        else:
            statuses[rank] = value
            if value:
                _report(rank, value, task)
            if value == _REFUSED:
                until = min(until, time.monotonic() + GRACE)
    return _status(settings, task, running, statuses)


def _report(rank, status, task):
    where = f"; its output is in {_log(task, rank)}" if rank else ""
    print(
        f"keras-tl: worker {rank} has ended with status {status}{where}.",
        file=sys.stderr,
        flush=True,
    )


def _status(settings, task, running, statuses):
    """Return the exit status of the run; raise what failed in Ray itself."""
    from ray import train

    if _REFUSED in statuses.values():
        return statuses.get(0) or _REFUSED
    try:
        running.result()
    except train.WorkerGroupError:
        print(
            f"keras-tl: error: {errors.counted(settings.restarts, 'restart')} did not "
            f"help. {_how_to_continue(settings, task)}",
            file=sys.stderr,
        )
        return statuses.get(0) or config.LOST
    return 0


def _how_to_continue(settings, task):
    """Return how to go on with a run that has ended too early, as a sentence."""
    if not Path(task["folder"], config.STATE).is_dir():
        return ""
    words = [*task["again"][:-1], files.quoted(task["again"][-1])]
    return (
        f"Continue with keras-tl cluster run {' '.join(words[words[0] == 'run' :])} "
        f"--workers {settings.workers}"
    )


def _log(task, rank):
    return Path(task["logs"], f"worker-{rank}.log")


def _work(task: dict) -> None:
    """Run a worker in a process of its own; Ray calls this on the worker's machine.

    Raises:
        RuntimeError: It has failed, so that Ray starts all of them again.
    """
    from ray import train

    rank, events = train.get_context().get_world_rank(), task["events"]
    folder = Path(task["folder"])
    if (folder / "manifest.json").exists():
        return  # Another worker has failed after the results were written.
    if rank == 0:
        events.put(("start", rank, None))
    if not Path(task["logs"]).is_dir():
        events.put(
            (
                "line",
                rank,
                f"worker {rank} ({socket.gethostname()}) does not see {folder.parent}: "
                "all machines must share it.\n",
            )
        )
        events.put(("end", rank, _REFUSED))
        return
    resumed = (folder / config.STATE).is_dir()
    # Ray sets the last for Keras 2.
    environment = {**os.environ, "PYTHONUNBUFFERED": "1"}
    environment.pop("TF_USE_LEGACY_KERAS", None)
    log = os.devnull if rank == 0 else _log(task, rank)
    with (
        open(log, "ab") as file,
        subprocess.Popen(
            [sys.executable, "-c", _PROGRAM, *task["again" if resumed else "command"]],
            cwd=task["directory"],
            env=environment,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE if rank == 0 else file,
            stderr=subprocess.STDOUT,
        ) as process,
    ):
        for line in process.stdout or ():
            events.put(("line", rank, line.decode(errors="backslashreplace")))
        status = process.wait()
    # As a shell has that of a program which a signal ends.
    status = status if status >= 0 else 128 - status
    events.put(("end", rank, status))
    if status not in (0, _REFUSED):
        raise RuntimeError(f"worker {rank} has ended with status {status}")


def end_with_parent() -> None:
    """End this process when the one that started it does, however that ends.

    The other holds the end of a pipe, our input, which closes with it.
    """

    def watch():
        # Not by way of `sys.stdin`, whose lock Python wants when it ends.
        while os.read(0, 1):
            pass
        os._exit(config.LOST)

    threading.Thread(target=watch, daemon=True).start()
