"""The server as a process: what it loads, how it ends, what a kill leaves."""

import base64
import io
import os
import re
import signal
import socket
import subprocess
import sys
import threading
import time
from pathlib import Path

import httpx
import numpy as np
import pytest
from PIL import Image

from keras_tl.commands import serve
from keras_tl.serving.corrections import Corrections

ROOT = Path(__file__).parents[2]


def image(seed=0):
    pixels = np.random.default_rng(seed).integers(0, 256, (9, 9, 3), dtype="uint8")
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, "PNG")
    return file.getvalue()


def start(*command):
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "TF_CPP_MIN_LOG_LEVEL": "3"}
    return subprocess.Popen(
        [sys.executable, *map(str, command)],
        env=environment,
        text=True,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    )


@pytest.fixture
def server(served):
    """A process of `keras-tl serve`, and its address."""
    process = start("-m", "keras_tl", "serve", served, "--port", 0)
    address = re.search(r"http://\S+", process.stdout.readline())
    assert address, process.stderr.read()
    yield process, address.group()
    process.kill()
    process.communicate()


def test_with_litert_neither_tensorflow_nor_keras_is_loaded(served):
    script = """
import sys
from fastapi.testclient import TestClient
from keras_tl.serving import hosting, server
app = server.make_app(hosting.named([sys.argv[1]]))
with TestClient(app, "http://localhost") as client:
    files = {"images": open(sys.argv[2], "rb")}
    response = client.post("/v1/predict", files=files)
    assert response.status_code == 200, response.text
heavy = {"keras", "tensorflow", "matplotlib", "sklearn", "pandas"} & set(sys.modules)
assert not heavy, heavy
assert not [name for name in sys.modules if name.startswith("keras_tl.training")]
"""
    (served.parent / "image.png").write_bytes(image())
    process = start("-c", script, served, served.parent / "image.png")
    _, errors = process.communicate(timeout=120)
    assert process.returncode == 0, errors


def test_the_process_of_the_command_has_no_library_of_tensorflow(server):
    process, address = server
    libraries = Path(f"/proc/{process.pid}/maps")
    if not libraries.exists():
        pytest.skip("This system does not tell which libraries a process has loaded.")
    response = httpx.post(f"{address}/v1/predict", files={"images": image()})
    assert response.status_code == 200
    loaded = libraries.read_text()
    assert "ai_edge_litert" in loaded
    assert "/tensorflow/" not in loaded


def test_a_busy_port_is_said_before_anything_is_loaded(tmp_path, call, capsys):
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        assert call("serve", tmp_path, "--port", port) == 2
    error = capsys.readouterr().err
    assert "`port` must be free" in error
    assert len(error.strip().splitlines()) == 1


def test_answers_are_sent_at_once():
    # asyncio turns off Nagle's algorithm where a socket says that it is of TCP.
    with serve.bind("127.0.0.1", 0) as bound:
        assert bound.proto == socket.IPPROTO_TCP


def test_what_was_begun_is_answered_before_it_ends(server):
    process, address = server
    host, port = address.removeprefix("http://").split(":")
    body = b'{"images": ["' + base64.b64encode(image()) + b'"]}'
    head = (
        f"POST /v1/predict HTTP/1.1\r\nHost: {host}:{port}\r\n"
        f"Content-Type: application/json\r\nContent-Length: {len(body)}\r\n\r\n"
    )
    with socket.create_connection((host, int(port)), timeout=30) as connection:
        connection.sendall(head.encode() + body[:20])
        # An answer to another request: the first has been accepted by then.
        assert httpx.get(f"{address}/readyz").json() == {"status": "ready"}
        process.send_signal(signal.SIGTERM)
        until = time.monotonic() + 30
        while time.monotonic() < until:
            try:
                httpx.get(f"{address}/readyz")
            except httpx.TransportError:
                break
        connection.sendall(body[20:])
        answer = connection.recv(100_000)
    assert answer.startswith(b"HTTP/1.1 200"), answer
    assert process.wait(30) == 0


@pytest.mark.slow
def test_many_requests_at_once_are_all_answered_and_a_kill_leaves_the_run(
    server, served
):
    process, address = server
    before = {path: path.read_bytes() for path in served.iterdir()}
    statuses = []

    def ask(seed):
        with httpx.Client(timeout=60) as client:
            for _ in range(10):
                files = {"images": image(seed)}
                response = client.post(f"{address}/v1/predict", files=files)
                statuses.append(response.status_code)

    threads = [threading.Thread(target=ask, args=(seed,)) for seed in range(32)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert statuses == [200] * 320
    process.kill()
    process.wait()
    assert {path: path.read_bytes() for path in served.iterdir()} == before


@pytest.mark.slow
@pytest.mark.parametrize("activation", ["softmax", "sigmoid"])
def test_a_kill_while_corrections_are_written_leaves_whole_files(tmp_path, activation):
    script = f"""
import sys
sys.path.insert(0, {str(Path(__file__).parent)!r})
from pathlib import Path
from test_server_process import image
from keras_tl.serving.corrections import Corrections
kept = Corrections(Path(sys.argv[1]), "image", ("a", "b"), sys.argv[2])
for seed in range(int(sys.argv[3]), 10**6):
    print(kept.add(image(seed), ["ab"[seed % 2]]), flush=True)
"""
    folder, count = tmp_path / "kept", 0
    for number in range(8):
        process = start("-c", script, folder, activation, 1000 * number)
        while "0" not in process.stdout.readline():
            pass
        time.sleep(0.013 * number)
        process.kill()
        process.communicate()
        if activation == "softmax":
            found = list(folder.glob("*/[!.]*"))
        else:
            rows = Corrections(folder, "image", ("a", "b"), activation).read()
            assert {row["label"] for row in rows.values()} == {"a", "b"}
            found = [folder / name for name in rows]
        assert len(found) > count
        count = len(found)
        for path in found:
            Image.open(path).load()
