"""Images as files of their own, and as a pack: from this disk, and from a server."""

import functools
import http.server
import os
import subprocess
import sys
import tempfile
import threading
import time
import urllib.request
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np

from benchmarks import folders, harness

COUNT, SIDES = 2_000, (256, 192)
# Seconds until the server answers, and requests that are under way at a time.
DELAY, THREADS = 0.02, 8


def _data() -> tuple[Path, list[Path]]:
    """Write images, and pack them; return the folder of both, and their paths."""
    folder = Path(tempfile.mkdtemp(prefix="packed-"))
    folders.photos(SIDES, COUNT).rename(folder / "files")
    command = ["keras_tl", "pack", str(folder / "files"), "--out", str(folder / "pack")]
    subprocess.run([sys.executable, "-m", *command], check=True, stdout=sys.stderr)
    return folder, sorted((folder / "files").rglob("*.jpg"))


def _read(paths, order) -> int:
    for index in order:
        paths[index].read_bytes()
    return len(paths)


def from_disk(*, packed: bool):
    """Read the bytes of all images in random order."""
    from keras_tl.data import packs

    folder, paths = _data()
    if packed:
        paths = [path for path, _ in packs.read(folder / "pack").examples]
    rng = np.random.default_rng(0)
    return lambda: _read(paths, rng.permutation(COUNT))


def _serve(folder):
    """Start a server in a process of its own; return its address."""
    process = subprocess.Popen(
        [sys.executable, "-m", "benchmarks.packed", str(folder)],
        # It ends with this process.
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    return process.stdout.readline().strip()


def _get(address):
    with urllib.request.urlopen(address) as answer:
        return answer.read()


def file_by_file():
    """Get each image by a request of its own."""
    folder, paths = _data()
    root = _serve(folder)
    addresses = [f"{root}/{path.relative_to(folder)}" for path in paths]

    def run():
        with ThreadPoolExecutor(THREADS) as pool:
            return sum(1 for _ in pool.map(_get, addresses))

    return run


def pack_at_address(*, first: bool):
    """Read all images of a pack, for the first time or from the cache."""
    from keras_tl import errors
    from keras_tl.data import packs

    if not errors.is_installed("aiohttp"):
        raise harness.MissingError("the extra remote is not installed")
    folder, _ = _data()
    address = f"{_serve(folder)}/pack"
    caches = Path(tempfile.mkdtemp(prefix="caches-"))
    number = 0

    def run():
        nonlocal number
        number += first
        os.environ["KERAS_TL_CACHE"] = str(caches / str(number))
        paths = [path for path, _ in packs.read(address).examples]
        return _read(paths, range(COUNT))

    return run


class _Late(http.server.SimpleHTTPRequestHandler):
    """Answers after `DELAY`."""

    def do_GET(self):
        """Answer a request."""
        time.sleep(DELAY)
        super().do_GET()

    def log_message(self, *_):
        """Print nothing."""


def main() -> None:
    """Be the server of a folder, until this process is ended."""
    handler = functools.partial(_Late, directory=sys.argv[1])
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    print(f"http://127.0.0.1:{server.server_address[1]}", flush=True)
    sys.stdin.read()


_ABOUT = f"{COUNT:,} JPEGs of {SIDES[0]} px"
BENCHMARKS = {
    "packed_disk": harness.Benchmark(
        title=f"Bytes of {_ABOUT} in random order, from a disk that is in memory",
        item="image",
        cases={
            "pack": functools.partial(from_disk, packed=True),
            "files": functools.partial(from_disk, packed=False),
        },
        ours="pack",
        ratio="a pack is so many times as fast",
        limit="a copy of the bytes",
        seconds=0.2,
    ),
    "packed_server": harness.Benchmark(
        title=f"Bytes of {_ABOUT} from a server that takes {DELAY * 1000:.0f} ms",
        item="image",
        cases={
            "pack, the first time": functools.partial(pack_at_address, first=True),
            "pack, later": functools.partial(pack_at_address, first=False),
            f"files, in {THREADS} threads": file_by_file,
        },
        ours="pack, the first time",
        ratio="a pack is the first time so many times as fast",
        limit="one request for all",
        seconds=10,
    ),
}

if __name__ == "__main__":
    main()
