"""Run requests that come together as one batch, in one thread."""

import collections
import contextlib
import math
import threading
import time
from collections.abc import Callable, Hashable, Iterator, Sequence
from concurrent.futures import Future
from dataclasses import dataclass, field

# Most examples of a batch: more gain nothing, and make the next request wait.
MOST = 32


class FullError(Exception):
    """There is no room for what came."""


class Room:
    """A bound on what is inside at a time, of any unit; threads can share it.

    >>> room = Room(2)
    >>> with room.take(2):
    ...     room.inside
    2
    >>> room.inside
    0
    """

    def __init__(self, size: int):
        self.size = size
        self.inside = 0
        self._lock = threading.Lock()

    @contextlib.contextmanager
    def take(self, count: int) -> Iterator[None]:
        """Hold room for `count` within the block.

        Raises:
            FullError: So much is not free.
        """
        with self._lock:
            if self.inside + count > self.size:
                raise FullError
            self.inside += count
        try:
            yield
        finally:
            with self._lock:
                self.inside -= count


@dataclass
class _Request:
    key: Hashable
    rows: Sequence
    future: Future = field(default_factory=Future)


class Batcher:
    """Computes the rows of requests in one thread; requests that wait are one batch.

    A request never waits for others to come: while one batch is computed, the next one
    gathers. So a single request is as fast as it can be, and many share a call.

    Args:
        compute: From a key and the rows of one or several requests to their results:
            a value that can be sliced by rows.
        observe: Called with the number of rows of each batch.

    >>> batcher = Batcher(lambda key, rows: [key * row for row in rows])
    >>> batcher.submit(2, [3, 4]).result()
    [6, 8]
    >>> batcher.close()
    """

    def __init__(
        self,
        compute: Callable[[Hashable, list], Sequence],
        observe: Callable[[int], None] = lambda count: None,
    ):
        self._compute, self._observe = compute, observe
        self._waiting = collections.deque()
        self._changed = threading.Condition()
        self._closed = False
        self._seconds_of_a_row = 0.01
        self._thread = threading.Thread(target=self._work, name="batcher", daemon=True)
        self._thread.start()

    def submit(self, key: Hashable, rows: Sequence) -> Future:
        """Compute the rows of a request.

        Args:
            key: What they are computed with; equal keys can share a batch.
            rows: One or more.

        Returns:
            Their results, in order; cancelled in time, they are not computed.

        Raises:
            FullError: The batcher is closed.
        """
        request = _Request(key, rows)
        with self._changed:
            if self._closed:
                raise FullError
            self._waiting.append(request)
            self._changed.notify()
        return request.future

    def seconds_for(self, rows: int) -> int:
        """Estimate in how many seconds so many rows are computed; at least 1."""
        return max(1, math.ceil(rows * self._seconds_of_a_row))

    def close(self) -> None:
        """Compute what waits, and end the thread."""
        with self._changed:
            self._closed = True
            self._changed.notify()
        self._thread.join()

    def _work(self):
        while batch := self._next():
            started = time.perf_counter()
            rows = [row for request in batch for row in request.rows]
            try:
                results = self._compute(batch[0].key, rows)
                start = 0
                for request in batch:
                    end = start + len(request.rows)
                    request.future.set_result(results[start:end])
                    start = end
            except Exception as error:  # Whatever it is, those who wait are told.
                for request in batch:
                    if not request.future.done():
                        request.future.set_exception(error)
            seconds = (time.perf_counter() - started) / len(rows)
            self._seconds_of_a_row += 0.1 * (seconds - self._seconds_of_a_row)
            self._observe(len(rows))

    def _next(self) -> list[_Request]:
        """Wait for requests, and take the oldest with those that can go with it.

        Returns:
            None only where the batcher is closed and nothing waits.
        """
        with self._changed:
            while True:
                self._changed.wait_for(lambda: self._waiting or self._closed)
                batch, others, count = [], [], 0
                while self._waiting and count < MOST:
                    request = self._waiting.popleft()
                    if batch and (
                        request.key != batch[0].key or count + len(request.rows) > MOST
                    ):
                        others.append(request)
                    elif request.future.set_running_or_notify_cancel():
                        batch.append(request)
                        count += len(request.rows)
                self._waiting.extendleft(reversed(others))
                if batch or self._closed:
                    return batch
