"""Whether time and memory of one image depend on how many there are.

Features of a frozen EfficientNet-Lite0, 96 px, made into a cache on disk and read back
in training order, as often as a short training does. Each number of images has a
process of its own; memory is what the process cannot give back (`RssAnon`): pages of
files can be dropped at any time.

    python -m benchmarks.growth            # measure and show, some minutes
    python -m benchmarks.growth --keep     # and write results/growth/growth.json
"""

import json
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path

import numpy as np

from benchmarks import harness, pages

COUNTS, ROUNDS, SIZE, BATCH = (1000, 5000, 20000, 50000), 3, 96, 64
EPOCHS = 10


class Made:
    """So many images that are made when they are read, and never kept."""

    dtype = np.dtype("uint8")

    def __init__(self, count):
        self.shape = (count, SIZE, SIZE, 3)

    def __len__(self):
        return self.shape[0]

    def __getitem__(self, indices):
        """Return images that differ in all of their pixels."""
        pixels = np.arange(SIZE * SIZE * 3, dtype="uint32")
        rows = np.asarray(indices, "uint32")[:, None] * np.uint32(2654435761)
        mixed = (pixels * np.uint32(40503) + rows) >> np.uint32(13)
        return mixed.astype("uint8").reshape(-1, SIZE, SIZE, 3)


class Watch:
    """Notes the most memory a process had, while it is open."""

    def __enter__(self):
        self.peak, self._open = 0, True
        self._thread = threading.Thread(target=self._look, daemon=True)
        self._thread.start()
        return self

    def _look(self):
        while self._open:
            status = Path("/proc/self/status").read_text()
            line = next(li for li in status.splitlines() if li.startswith("RssAnon"))
            self.peak = max(self.peak, int(line.split()[1]) / 1024)
            time.sleep(0.05)

    def __exit__(self, *error):
        self._open = False
        self._thread.join()


def one(count: int) -> dict:
    """Make and read the features of so many images, in this process."""
    from keras_tl.data import pipeline
    from keras_tl.data.splits import Split
    from keras_tl.models import backbones
    from keras_tl.training import features, store

    stem = backbones.load("efficientnet_lite0", image_size=SIZE)
    split = Split(Made(count), np.arange(count) % 10)
    with tempfile.TemporaryDirectory() as folder:
        # What is traced and set up once.
        features.extract(stem, Split(Made(BATCH), np.zeros(BATCH)), batch_size=BATCH)
        features._fit_in_memory = lambda stem, count: False
        with Watch() as watch:
            before = time.process_time()
            kept = features.extract(
                stem, split, cache=store.Cache(Path(folder)), batch_size=BATCH
            )
            made = time.process_time()
            batches, go_to = pipeline.Training(kept, BATCH, seed=0).epochs()
            for epoch in range(EPOCHS):
                go_to(epoch)
                for _ in batches:
                    pass
            read = time.process_time()
    return {
        "made_ms": (made - before) / count * 1000,
        "read_ms": (read - made) / count * 1000,
        "peak_mib": watch.peak,
    }


def main() -> None:
    """Measure every number of images in each round."""
    if "--one" in sys.argv:
        print(json.dumps(one(int(sys.argv[-1]))))
        return
    rounds = {str(count): [] for count in COUNTS}
    for number in range(ROUNDS):
        for count in COUNTS:
            ended = subprocess.run(
                [sys.executable, "-m", "benchmarks.growth", "--one", str(count)],
                cwd=harness.ROOT,
                capture_output=True,
                text=True,
                check=True,
            )
            rounds[str(count)].append(json.loads(ended.stdout.splitlines()[-1]))
            print(
                f"round {number + 1}, {count:,}: {rounds[str(count)][-1]}", flush=True
            )
    if "--keep" in sys.argv:
        about = {"counts": rounds, **harness.machine()}
        pages.keep("growth", about)


if __name__ == "__main__":
    main()
