"""How many images `keras-tl serve` answers a second, and how long each one waits.

A run with EfficientNet-Lite0 at 224 px is served by a process of its own, with LiteRT.
Clients send one JPEG of 640 x 480 in each request, over connections that stay open, the
next one when the last is answered. They run on the same cores.

    python -m benchmarks.serving           # measure and show, two minutes
    python -m benchmarks.serving --keep    # and write the results
"""

import argparse
import asyncio
import contextlib
import datetime
import io
import os
import re
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
import psutil
from PIL import Image

from benchmarks import harness, pages

NAME = "serving"
CONNECTIONS = (1, 8, 64)
SIZE = 224
BOUNDARY = "a1b2c3"


def save_run(folder: Path) -> None:
    """Save a run whose head is random; what it answers is not the matter."""
    from keras_tl.data.splits import Split, Splits
    from keras_tl.deploy import artifact, run_folder
    from keras_tl.models import backbones, heads

    labels = np.arange(20) % 2
    pixels = np.random.default_rng(0).integers(0, 256, (20, SIZE, SIZE, 3), "uint8")
    split = Split(pixels, labels)
    data = Splits(split, split, split, ["a", "b"], "Noise.")
    backbone = backbones.load("efficientnet_lite0", image_size=SIZE)
    run_folder.save(folder, heads.attach(backbone, 2), data=data)
    artifact.load(folder).convert()


def photo() -> bytes:
    """Return a JPEG of 640 x 480, of about the size that a photo has."""
    pixels = np.random.default_rng(0).integers(0, 256, (60, 80, 3), dtype="uint8")
    file = io.BytesIO()
    Image.fromarray(pixels).resize((640, 480)).save(file, "JPEG", quality=90)
    return file.getvalue()


@contextlib.contextmanager
def serving(folder: Path):
    """Serve a run; yields the process, its port, and the seconds until it answers."""
    started = time.perf_counter()
    process = subprocess.Popen(
        [sys.executable, "-m", "keras_tl", "serve", str(folder), "--port", "0"],
        stdout=subprocess.PIPE,
        text=True,
    )
    try:
        port = int(re.search(r":(\d+) ", process.stdout.readline())[1])
        asyncio.run(client(port, request("GET", "/readyz"), 0, []))
        yield psutil.Process(process.pid), port, time.perf_counter() - started
    finally:
        process.terminate()
        process.wait()


def request(method: str, path: str, content: bytes | None = None) -> bytes:
    """Return a request as it is sent: of an image, a form with one file."""
    head = f"{method} {path} HTTP/1.1\r\nHost: localhost\r\n"
    if content is None:
        return f"{head}\r\n".encode()
    body = (
        f"--{BOUNDARY}\r\nContent-Disposition: form-data; "
        'name="images"; filename="a.jpg"\r\n\r\n'
    ).encode()
    body += content + f"\r\n--{BOUNDARY}--\r\n".encode()
    head += f"Content-Type: multipart/form-data; boundary={BOUNDARY}\r\n"
    return f"{head}Content-Length: {len(body)}\r\n\r\n".encode() + body


async def client(port: int, sent: bytes, seconds: float, answers: list) -> None:
    """Send a request again and again; appends status and time of each answer."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    until = time.perf_counter() + seconds
    while True:
        started = time.perf_counter()
        writer.write(sent)
        head = (await reader.readuntil(b"\r\n\r\n")).decode()
        await reader.readexactly(int(re.search(r"content-length: (\d+)", head)[1]))
        now = time.perf_counter()
        answers.append((int(head.split()[1]), now - started))
        if now >= until:
            break
    writer.close()


def load(port: int, connections: int, seconds: float) -> dict:
    """Measure a number of connections at a time."""
    sent = request("POST", "/v1/predict", photo())

    async def every():
        answers = []
        clients = [client(port, sent, seconds, answers) for _ in range(connections)]
        started = time.perf_counter()
        await asyncio.gather(*clients)
        return answers, time.perf_counter() - started

    answers, wall = asyncio.run(every())
    times = [1000 * duration for _, duration in answers]
    return {
        "connections": connections,
        "requests": len(answers),
        "images_per_second": round(len(answers) / wall, 1),
        "p50_ms": round(float(np.percentile(times, 50)), 1),
        "p99_ms": round(float(np.percentile(times, 99)), 1),
        "errors": sum(status != 200 for status, _ in answers),
    }


def main() -> None:
    """Measure each number of connections; show or keep the results."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--seconds", type=float, default=20.0)
    parser.add_argument("--keep", action="store_true", help="write the results")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as place:
        folder = Path(place) / "run"
        # What saving loads would stay in the memory of the clients.
        command = [sys.executable, "-m", "benchmarks.serving", "save", str(folder)]
        subprocess.run(command, check=True)
        result = {"date": datetime.date.today().isoformat(), **harness.machine()}
        with serving(folder) as (process, port, ready):
            load(port, 8, 2)
            rows = [load(port, number, options.seconds) for number in CONNECTIONS]
            mib = process.memory_info().rss / 2**20
    for row in rows:
        print(row)
    result |= {"rows": rows, "ready_seconds": round(ready, 2), "mib": round(mib)}
    print(f"ready in {ready:.2f} s, {mib:.0f} MiB, {os.cpu_count()} cores")
    if options.keep:
        pages.keep(NAME, result)


if __name__ == "__main__":
    if sys.argv[1:2] == ["save"]:
        save_run(Path(sys.argv[2]))
    else:
        main()
