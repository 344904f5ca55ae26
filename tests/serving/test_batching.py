import threading

import pytest

from keras_tl.serving.batching import MOST, Batcher, FullError, Room


class Slow:
    """A computation that waits until it may go on, and notes its batches."""

    def __init__(self):
        self.begun, self.go_on = threading.Event(), threading.Event()
        self.batches = []

    def __call__(self, key, rows):
        self.batches.append((key, list(rows)))
        self.begun.set()
        assert self.go_on.wait(20)
        return [key + row for row in rows]


@pytest.fixture
def slow():
    """A slow computation."""
    return Slow()


@pytest.fixture
def busy(slow):
    """A batcher that computes one row, and goes on when `slow` may."""
    batcher = Batcher(slow)
    first = batcher.submit("a", ["0"])
    assert slow.begun.wait(20)
    yield batcher
    slow.go_on.set()
    batcher.close()
    assert first.result(20) == ["a0"]


def test_requests_that_come_meanwhile_are_one_batch(busy, slow):
    futures = [busy.submit("a", rows) for rows in (["1"], ["2", "3"], ["4"])]
    slow.go_on.set()
    assert [f.result(20) for f in futures] == [["a1"], ["a2", "a3"], ["a4"]]
    assert slow.batches == [("a", ["0"]), ("a", ["1", "2", "3", "4"])]


def test_those_of_other_models_keep_their_order(busy, slow):
    futures = [busy.submit(key, [row]) for key, row in ("a1", "b2", "a3", "b4")]
    slow.go_on.set()
    assert [f.result(20) for f in futures] == [["a1"], ["b2"], ["a3"], ["b4"]]
    assert slow.batches[1:] == [("a", ["1", "3"]), ("b", ["2", "4"])]


def test_a_batch_is_bounded_but_for_a_single_large_request(busy, slow):
    large = busy.submit("a", ["x"] * (MOST + 5))
    small = [busy.submit("a", ["y"] * (MOST - 1)) for _ in range(2)]
    slow.go_on.set()
    assert len(large.result(20)) == MOST + 5
    assert [len(f.result(20)) for f in small] == [MOST - 1] * 2
    assert [len(rows) for _, rows in slow.batches] == [1, MOST + 5, MOST - 1, MOST - 1]


def test_a_request_that_nobody_waits_for_is_not_computed(busy, slow):
    given_up, kept = busy.submit("a", ["1"]), busy.submit("a", ["2"])
    assert given_up.cancel()
    slow.go_on.set()
    assert kept.result(20) == ["a2"]
    assert slow.batches[1:] == [("a", ["2"])]


def test_an_error_reaches_all_who_wait_and_the_next_are_computed():
    def compute(key, rows):
        return [1 / row for row in rows]

    batcher = Batcher(compute)
    with pytest.raises(ZeroDivisionError):
        batcher.submit(None, [1, 0]).result(20)
    assert batcher.submit(None, [2]).result(20) == [0.5]
    batcher.close()


def test_what_waits_is_computed_before_it_closes(busy, slow):
    waiting = [busy.submit("a", [str(n)]) for n in range(5)]
    closing = threading.Thread(target=busy.close)
    closing.start()
    slow.go_on.set()
    closing.join(20)
    assert [f.result(0) for f in waiting] == [[f"a{n}"] for n in range(5)]
    with pytest.raises(FullError):
        busy.submit("a", ["late"])


def test_a_room_is_never_overfull():
    room = Room(3)
    with room.take(2), pytest.raises(FullError), room.take(2):
        pass
    with room.take(3):
        assert room.inside == 3
    assert room.inside == 0


def test_it_says_for_how_long_to_wait():
    batcher = Batcher(lambda key, rows: rows)
    assert batcher.seconds_for(0) == 1
    assert batcher.seconds_for(1000) >= batcher.seconds_for(10)
    batcher.close()
