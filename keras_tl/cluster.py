"""The machines of a run: who they are, by `TF_CONFIG`, and whether all are there.

Nothing heavy is loaded here. TensorFlow waits without a word, and without an end, for a
worker that does not come, and compares nothing: so the workers meet first, on the same
addresses, before TensorFlow starts.
"""

import contextlib
import errno
import functools
import json
import os
import socket
import threading
import time
from collections.abc import Mapping
from dataclasses import dataclass

from keras_tl import errors

# Seconds that workers wait for one another at the start, and until they name whom.
PATIENCE, SILENCE = 300.0, 5.0
# Seconds of one attempt to reach another worker, and between two of them.
_ATTEMPT, _PAUSE = 3.0, 0.2
_GREETING = "keras-tl"
# Names of what workers compare, and what to do where one of them differs.
INTERRUPTED = "files of the interrupted run"
_ADVICE = {
    INTERRUPTED: " Start each with --resume, on the same folder or on a copy of it.",
    "content of the data": " Copy the data from one machine to the others again.",
}


@dataclass(frozen=True)
class Cluster:
    """The workers of a run, and which of them this process is.

    Attributes:
        addresses: "host:port" of each worker; the first is the chief, which writes the
            results.
        rank: Place of this process in `addresses`.
    """

    addresses: tuple[str, ...]
    rank: int

    @property
    def is_chief(self) -> bool:
        """Whether this process writes the results."""
        return self.rank == 0

    def name(self, rank: int | None = None) -> str:
        """Return the name of a worker, by default of this one, for people.

        >>> Cluster(("10.0.0.1:2222", "10.0.0.2:2222"), rank=0).name(1)
        'worker 1 (10.0.0.2:2222)'
        """
        rank = self.rank if rank is None else rank
        return f"worker {rank} ({self.addresses[rank]})"


def from_environment() -> Cluster | None:
    """Read the cluster that `TF_CONFIG` describes; `None` for one machine.

    `TF_CONFIG` is `{"cluster": {"worker": ["host:port", ...]}, "task": {"type":
    "worker", "index": 0}}`, see
    https://www.tensorflow.org/guide/distributed_training#setting_up_the_tf_config. A
    chief, where there is one, comes before the workers.

    Raises:
        InputError: It cannot be read, or describes servers of parameters.
    """
    text = os.environ.get("TF_CONFIG")
    return None if text is None else _parse(text)


def is_chief() -> bool:
    """Return whether this process writes the results: on one machine, or as the chief.

    Raises:
        InputError: As `from_environment`.
    """
    cluster = from_environment()
    return cluster is None or cluster.is_chief


@functools.lru_cache(maxsize=1)
def _parse(text: str) -> Cluster | None:
    hint = "Unset TF_CONFIG to train on this machine alone."
    try:
        parsed = json.loads(text)
        jobs = {job: tuple(those) for job, those in parsed.get("cluster", {}).items()}
        task = parsed.get("task", {})
        kind, index = task.get("type", "worker"), int(task.get("index", -1))
    except (ValueError, AttributeError, TypeError):
        # TensorFlow would end in a JSONDecodeError that does not name the variable.
        valid = "be a JSON object as TensorFlow defines it"
        raise errors.expected("TF_CONFIG", valid, text, hint) from None
    others = sorted(job for job in {*jobs} - {"chief", "worker"} if jobs[job])
    if others:
        raise errors.expected(
            "TF_CONFIG",
            "describe workers only, all of which train",
            ", ".join(others),
            "Keras 3 has no parameter servers and no evaluators.",
        )
    addresses = (*jobs.get("chief", ()), *jobs.get("worker", ()))
    if len(addresses) < 2:
        return None
    own = jobs.get(kind, ())
    if not 0 <= index < len(own):
        raise errors.expected(
            "TF_CONFIG",
            "say in `task` which of the workers this is, such as "
            '{"type": "worker", "index": 0}, counted from 0',
            task or "no task",
        )
    for address in addresses:
        _split(address)
    if len(set(addresses)) < len(addresses):
        raise errors.expected("TF_CONFIG", "name each address once", list(addresses))
    return Cluster(addresses, addresses.index(own[index]))


def _split(address):
    host, _, port = str(address).rpartition(":")
    if not host or not port.isdigit() or not 0 < int(port) < 65536:
        raise errors.expected("TF_CONFIG", 'have addresses like "host:2222"', address)
    return host.strip("[]"), int(port)


def check_alone() -> None:
    """Raise `InputError` where `TF_CONFIG` names several machines.

    For what runs on one: started on several, each would do all of it.
    """
    if from_environment() is not None:
        raise errors.InputError(
            "This runs on one machine, and TF_CONFIG names several, each of which "
            "would do all of it: unset TF_CONFIG, and start it on one. What trains on "
            "several has the option --strategy."
        )


def patience() -> float:
    """Return the seconds that workers wait for one another at the start.

    They are 300, or what the environment variable `KERAS_TL_PATIENCE` says.

    Raises:
        InputError: It is no number above 0.
    """
    text = os.environ.get("KERAS_TL_PATIENCE", "")
    try:
        seconds = float(text) if text else PATIENCE
    except ValueError:
        seconds = 0.0
    if not 0 < seconds < float("inf"):
        raise errors.expected("KERAS_TL_PATIENCE", "be a number of seconds", text)
    return seconds


def meet(cluster: Cluster, about: Mapping[str, str], seconds: float) -> None:
    """Wait until all workers are there, and compare what they are about to do.

    Each listens at its own address, asks all the others, and answers all of them. When
    it returns, the address is free again for TensorFlow.

    Args:
        cluster: The workers.
        about: What has to be the same for all of them, such as versions: name -> value.
        seconds: Longest time to wait.

    Raises:
        InputError: The port of this worker is taken, another does not answer, or is
            about to do something else; the others raise it as well.
    """
    others = [rank for rank in range(len(cluster.addresses)) if rank != cluster.rank]
    answered: dict[int, dict] = {}
    served: set[int] = set()
    stop = threading.Event()
    with _listen(cluster) as server:
        own = {"greeting": _GREETING, "rank": cluster.rank, "about": dict(about)}
        thread = threading.Thread(
            target=_answer, args=(server, own, served, stop), daemon=True
        )
        thread.start()
        try:
            _ask_all(cluster, others, own, answered, served, seconds)
        finally:
            stop.set()
            thread.join()
    answered[cluster.rank] = own
    _compare(cluster, answered)


# TensorFlow's errors where a worker is gone: when it is waited for, and after that.
_LOSSES = (
    "UnavailableError",
    "AbortedError",
    "CancelledError",
    "DeadlineExceededError",
)


def is_loss(error: BaseException | None) -> bool:
    """Return whether an error of TensorFlow tells that another worker is gone."""
    kind = type(error)
    return kind.__module__.startswith("tensorflow") and kind.__name__ in _LOSSES


def unreachable(cluster: Cluster) -> list[str]:
    """Return the names of the other workers at whose address nobody listens."""
    names = []
    for rank, address in enumerate(cluster.addresses):
        if rank != cluster.rank:
            try:
                socket.create_connection(_split(address), timeout=_ATTEMPT).close()
            except OSError:
                names.append(cluster.name(rank))
    return names


def _listen(cluster):
    """Open the port of this worker, on all of its interfaces as TensorFlow does."""
    host, port = _split(cluster.addresses[cluster.rank])
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    server = socket.socket(family, socket.SOCK_STREAM)
    server.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        server.bind(("", port))
        server.listen(len(cluster.addresses))
    except OSError as error:
        server.close()
        taken = error.errno == errno.EADDRINUSE
        reason = "is taken by another program" if taken else f"fails: {error.strerror}"
        raise errors.InputError(
            f"The port {port} of {cluster.name()} {reason}. Name another in TF_CONFIG, "
            "for all workers."
        ) from None
    server.settimeout(_PAUSE)
    return server


def _answer(server, own, served, stop):
    """Answer everybody who asks what this worker is about to do, until `stop`."""
    while not stop.is_set():
        try:
            connection, _ = server.accept()
        except OSError:
            continue
        with connection, contextlib.suppress(OSError, ValueError, KeyError, TypeError):
            connection.settimeout(_ATTEMPT)
            with connection.makefile("rw", encoding="utf-8") as stream:
                asked = json.loads(stream.readline(1000))
                stream.write(json.dumps(own) + "\n")
                stream.flush()
                # The other has read all of it.
                if asked["greeting"] == _GREETING and stream.readline(1000):
                    served.add(int(asked["rank"]))


def _ask_all(cluster, others, own, answered, served, seconds):
    """Ask all the others until they have answered, and have asked themselves."""
    started, told = time.monotonic(), False
    reasons: dict[int, str] = {}
    while True:
        for rank in others:
            if rank not in answered:
                reasons[rank] = _ask(cluster, rank, own, answered)
        missing = [rank for rank in others if rank not in answered]
        waiting = missing
        # Counted, since one with a wrong number is served too.
        if not missing and len(served) < len(others):
            waiting = [rank for rank in others if rank not in served]
        if not waiting:
            return
        passed = time.monotonic() - started
        if passed > seconds and missing:
            names = "; ".join(f"{cluster.name(r)}: {reasons[r]}" for r in missing)
            raise errors.InputError(
                f"Not all workers came within {seconds:g} s. {names}. Start the same "
                "command on each machine; KERAS_TL_PATIENCE sets the seconds to wait."
            )
        if passed > seconds:
            names = ", ".join(map(cluster.name, waiting))
            raise errors.InputError(
                f"{names} did not ask {cluster.name()} within {seconds:g} s: is this "
                "address right in TF_CONFIG, and the port open to the others?"
            )
        if passed > SILENCE and not told:
            names = ", ".join(map(cluster.name, waiting))
            print(f"Waiting for {names}.", flush=True)
            told = True
        time.sleep(_PAUSE)


def _ask(cluster, rank, own, answered) -> str:
    """Ask a worker what it is about to do; return why it has not answered."""
    try:
        with socket.create_connection(
            _split(cluster.addresses[rank]), timeout=_ATTEMPT
        ) as connection:
            connection.settimeout(_ATTEMPT)
            with connection.makefile("rw", encoding="utf-8") as stream:
                greeting = {"greeting": _GREETING, "rank": own["rank"]}
                stream.write(json.dumps(greeting) + "\n")
                stream.flush()
                other = json.loads(stream.readline(100_000))
                if other["greeting"] != _GREETING:
                    raise ValueError
                stream.write("read\n")
                stream.flush()
    except TimeoutError:
        return "does not answer"
    except OSError as error:
        return (error.strerror or str(error)).lower()
    except (ValueError, KeyError, TypeError):
        return "something else answers at this address"
    answered[rank] = other
    return ""


def _compare(cluster, answered):
    for rank, other in sorted(answered.items()):
        if other["rank"] != rank:
            raise errors.InputError(
                f"At the address of {cluster.name(rank)} answers worker "
                f"{other['rank']}: `task` in TF_CONFIG has the wrong index there."
            )
    refuse_differences(cluster, [answered[rank]["about"] for rank in sorted(answered)])


def refuse_differences(cluster: Cluster, abouts: list[Mapping[str, str]]) -> None:
    """Raise `InputError` unless all workers have the same values.

    Args:
        cluster: The workers.
        abouts: For each worker: name -> value.

    >>> cluster = Cluster(("a:1", "b:1"), rank=0)
    >>> refuse_differences(cluster, [{"keras": "3.15.1"}, {"keras": "3.14.0"}])
    Traceback (most recent call last):
    keras_tl.errors.InputError: All workers must have the same keras. Received: \
3.15.1 on worker 0 (a:1), 3.14.0 on worker 1 (b:1).
    """
    for name in abouts[0]:
        values = [about.get(name) for about in abouts]
        other = next((r for r, value in enumerate(values) if value != values[0]), None)
        if other is not None:
            raise errors.InputError(
                f"All workers must have the same {name}. Received: {values[0]} on "
                f"{cluster.name(0)}, {values[other]} on {cluster.name(other)}."
                f"{_ADVICE.get(name, '')}"
            )
