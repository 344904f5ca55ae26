import contextlib
import json
import socket
import threading
import time

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from benchmarks.clusters import free_addresses
from keras_tl import cluster
from keras_tl.cluster import Cluster
from keras_tl.errors import InputError


def described(monkeypatch, jobs, kind="worker", index=0):
    """Return the cluster that TF_CONFIG describes."""
    config = {"cluster": jobs, "task": {"type": kind, "index": index}}
    monkeypatch.setenv("TF_CONFIG", json.dumps(config))
    return cluster.from_environment()


def test_without_a_description_or_others_there_is_one_machine(monkeypatch):
    monkeypatch.delenv("TF_CONFIG", raising=False)
    assert cluster.from_environment() is None
    assert described(monkeypatch, {"worker": ["a:1"]}) is None


def test_the_chief_comes_before_the_workers(monkeypatch):
    jobs = {"worker": ["b:2", "c:3"], "chief": ["a:1"]}
    assert described(monkeypatch, jobs, "chief") == Cluster(("a:1", "b:2", "c:3"), 0)
    last = described(monkeypatch, jobs, "worker", 1)
    assert last.rank == 2
    assert not last.is_chief
    assert last.name() == "worker 2 (c:3)"


@pytest.mark.parametrize(
    ("jobs", "index", "problem"),
    [
        ({"worker": ["a:1"], "ps": ["b:1"]}, 0, "no parameter servers"),
        ({"worker": ["a:1", "b:1"], "evaluator": ["c:1"]}, 0, "no evaluators"),
        ({"worker": ["a:1", "b:1"]}, 2, "say in `task` which of the workers"),
        ({"worker": ["a:1", "b:1"]}, -1, "say in `task` which of the workers"),
        ({"worker": ["a:1", "b"]}, 0, 'addresses like "host:2222"'),
        ({"worker": ["a:1", "b:99999"]}, 0, 'addresses like "host:2222"'),
        ({"worker": ["a:1", "a:1"]}, 0, "name each address once"),
    ],
)
def test_a_cluster_that_cannot_be_is_refused_in_one_sentence(
    monkeypatch, jobs, index, problem
):
    with pytest.raises(InputError, match=problem) as refused:
        described(monkeypatch, jobs, index=index)
    assert "\n" not in str(refused.value)


def test_a_description_without_a_task_is_refused(monkeypatch):
    # TensorFlow would take each machine for the first.
    config = {"cluster": {"worker": ["a:1", "b:1"]}}
    monkeypatch.setenv("TF_CONFIG", json.dumps(config))
    with pytest.raises(InputError, match="which of the workers this is.*no task"):
        cluster.from_environment()


@given(st.recursive(st.none() | st.integers() | st.text(), st.lists, max_leaves=5))
@settings(deadline=None)
def test_no_description_ends_in_another_error(value):
    with pytest.MonkeyPatch.context() as patch:
        for text in (json.dumps(value), json.dumps({"cluster": value})):
            if "\0" not in text:
                patch.setenv("TF_CONFIG", text)
                with contextlib.suppress(InputError):
                    cluster.from_environment()


def meet_all(addresses, abouts, seconds=10.0, ranks=None):
    """Have workers meet; return the error of each, `None` where there is none."""
    ranks = range(len(addresses)) if ranks is None else ranks
    raised = {}

    def meet(rank):
        try:
            cluster.meet(Cluster(tuple(addresses), rank), abouts[rank], seconds)
            raised[rank] = None
        except InputError as error:
            raised[rank] = str(error)

    threads = [threading.Thread(target=meet, args=(rank,)) for rank in ranks]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(30)
    return raised


@pytest.mark.parametrize("count", [2, 3, 8])
def test_workers_that_do_the_same_meet_and_leave_their_ports_free(count):
    addresses = free_addresses(count)
    raised = meet_all(addresses, [{"keras": "3"}] * count)
    assert raised == dict.fromkeys(range(count))
    # Again at the same addresses, as TensorFlow takes them next.
    assert meet_all(addresses, [{"keras": "3"}] * count) == raised


def test_other_versions_are_refused_by_all_workers_in_the_same_sentence():
    addresses = free_addresses(3)
    abouts = [{"keras": "3.15.1"}, {"keras": "3.15.1"}, {"keras": "3.14.0"}]
    raised = meet_all(addresses, abouts)
    assert len(set(raised.values())) == 1
    assert raised[0] == (
        "All workers must have the same keras. Received: 3.15.1 on worker 0 "
        f"({addresses[0]}), 3.14.0 on worker 2 ({addresses[2]})."
    )


def test_a_worker_that_does_not_come_is_named(capsys, monkeypatch):
    monkeypatch.setattr(cluster, "SILENCE", 0.0)
    addresses = free_addresses(3)
    raised = meet_all(addresses, [{}] * 3, 1.0, ranks=[0, 1])
    for rank in (0, 1):
        assert raised[rank].startswith(
            f"Not all workers came within 1 s. worker 2 ({addresses[2]}): connection "
            "refused."
        )
    assert f"Waiting for worker 2 ({addresses[2]})." in capsys.readouterr().out


def test_an_address_that_is_no_machine_is_named():
    own, other = free_addresses(1)[0], "no-such-host.invalid:2222"
    raised = meet_all([own, other], [{}] * 2, 0.5, ranks=[0])
    assert f"worker 1 ({other}): " in raised[0]


def test_a_port_that_is_taken_is_refused_at_once():
    with socket.socket() as other:
        other.bind(("", 0))
        other.listen()
        port = other.getsockname()[1]
        started = time.monotonic()
        raised = meet_all([f"127.0.0.1:{port}", "a:1"], [{}] * 2, ranks=[0])
    assert time.monotonic() - started < 2
    assert raised[0].startswith(f"The port {port} of worker 0")
    assert "is taken by another program" in raised[0]


def test_another_program_at_the_address_of_a_worker_is_named():
    with socket.socket() as other:
        other.bind(("127.0.0.1", 0))
        other.listen()

        def answer():
            with contextlib.suppress(OSError):
                while True:
                    connection, _ = other.accept()
                    connection.recv(1000)
                    connection.sendall(b"HTTP/1.1 400 Bad Request\r\n\r\n")
                    connection.close()

        threading.Thread(target=answer, daemon=True).start()
        addresses = [free_addresses(1)[0], f"127.0.0.1:{other.getsockname()[1]}"]
        raised = meet_all(addresses, [{}] * 2, 0.1, ranks=[0])
    assert "something else answers at this address" in raised[0]


def test_a_worker_with_the_number_of_another_is_named():
    first, second = free_addresses(2)
    raised = {}

    def meet(place, addresses, rank):
        try:
            cluster.meet(Cluster(addresses, rank), {}, 10.0)
        except InputError as error:
            raised[place] = str(error)

    # The second machine lists the addresses in another order.
    threads = [
        threading.Thread(target=meet, args=(0, (first, second), 0)),
        threading.Thread(target=meet, args=(1, (second, first), 0)),
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(30)
    assert "answers worker 0" in raised[0]
    assert "answers worker 0" in raised[1]


def test_what_is_not_the_protocol_does_not_stop_a_worker():
    addresses = free_addresses(2)

    def disturb():
        host, port = addresses[0].split(":")
        for content in (b"\n", b"[]\n", b"\xff\n", b"{}\n", b""):
            for _ in range(50):
                try:
                    with socket.create_connection((host, int(port)), 1) as connection:
                        connection.sendall(content)
                    break
                except OSError:
                    time.sleep(0.02)

    thread = threading.Thread(target=disturb)
    thread.start()
    late = threading.Timer(
        1.0, lambda: raised.update(meet_all(addresses, [{}] * 2, ranks=[1]))
    )
    raised = {}
    late.start()
    raised.update(meet_all(addresses, [{}] * 2, ranks=[0]))
    late.join()
    thread.join()
    assert raised == {0: None, 1: None}


def test_machines_that_have_ended_are_named():
    listening, gone = free_addresses(2)
    with socket.socket() as server:
        host, port = listening.split(":")
        server.bind((host, int(port)))
        server.listen()
        assert cluster.unreachable(Cluster(("a:1", listening, gone), 0)) == [
            f"worker 2 ({gone})"
        ]


@pytest.mark.parametrize("text", ["0", "-1", "soon", "inf"])
def test_patience_is_a_number_of_seconds(monkeypatch, text):
    monkeypatch.setenv("KERAS_TL_PATIENCE", text)
    with pytest.raises(InputError, match="`KERAS_TL_PATIENCE` must be a number"):
        cluster.patience()
