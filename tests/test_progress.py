import io
import sys
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest

from keras_tl import progress
from keras_tl.training.progress import PhaseProgress


@pytest.fixture
def clock(monkeypatch):
    """A clock that each look puts on by the seconds in it."""
    times = {"now": 0.0, "step": 1.0}

    def monotonic():
        times["now"] += times["step"]
        return times["now"]

    monkeypatch.setattr(progress.time, "monotonic", monotonic)
    return times


def test_where_nothing_is_redrawn_lines_come_now_and_then(clock, capsys):
    assert list(progress.track(range(40), "features", 40)) == list(range(40))
    lines = capsys.readouterr().out.splitlines()
    assert [line.split() for line in lines] == [
        ["features", share, time]
        for share, time in [
            ("2%", "0:00:03"),
            ("38%", "0:00:18"),
            ("72%", "0:00:33"),
        ]
    ]


def test_what_is_over_soon_says_nothing(capsys):
    assert list(progress.track(range(40), "features", 40)) == list(range(40))
    assert not capsys.readouterr().out


class Terminal(io.StringIO):
    """A standard output that says that it is a terminal."""

    def isatty(self):
        return True


def test_a_terminal_gets_a_bar(monkeypatch):
    monkeypatch.setattr(sys, "stdout", Terminal())
    assert list(progress.track(range(4), "features", 4)) == list(range(4))
    assert "features" in sys.stdout.getvalue()


def test_a_file_gets_lines_also_where_colours_are_asked_for(monkeypatch):
    monkeypatch.setenv("FORCE_COLOR", "1")
    assert not progress.is_terminal()


def test_loops_in_threads_leave_the_terminal_to_the_main_thread(monkeypatch):
    monkeypatch.setattr(sys, "stdout", Terminal())
    bars = []
    monkeypatch.setattr(progress, "draw", lambda *_, **__: bars.append(1) or iter("ab"))
    with ThreadPoolExecutor(1) as pool:
        task = pool.submit(lambda: list(progress.track("ab", "predicting", 2)))
    assert task.result() == ["a", "b"]
    assert not bars
    assert list(progress.track("ab", "predicting", 2)) == ["a", "b"]
    assert bars


@pytest.mark.parametrize("step", [0, 20], ids=["short epochs", "long epochs"])
def test_a_phase_says_how_it_goes_and_how_it_ended(step, clock, capsys):
    clock["step"] = step
    shown = PhaseProgress("head", epochs=3, steps=2)
    shown.on_train_begin()
    for epoch in range(3):
        shown.on_epoch_begin(epoch)
        shown.on_train_batch_end(0)
        logs = {"accuracy": 0.5, "val_accuracy": epoch / 4, "val_loss": 2.0}
        shown.on_epoch_end(epoch, logs)
    shown.on_train_end()
    shown.close()
    lines = capsys.readouterr().out.splitlines()
    wanted = range(3) if step else [2]
    assert [line.strip()[:35] for line in lines] == [
        f"head  epoch {n + 1}/3  accuracy 0.500  va" for n in wanted
    ]


def test_a_long_epoch_says_how_far_it_is(clock, capsys):
    clock["step"] = 25
    shown = PhaseProgress("head", epochs=1, steps=8)
    shown.on_train_begin()
    shown.on_epoch_begin(0)
    for step in range(8):
        shown.on_train_batch_end(step)
    lines = capsys.readouterr().out.splitlines()
    assert [line.split()[:4] for line in lines] == [
        ["head", "epoch", "1/1", share] for share in ("38%", "62%", "88%")
    ]


def test_an_interrupted_phase_says_where(capsys):
    shown = PhaseProgress("head", epochs=3, steps=2)
    shown.on_train_begin()
    logs = {"accuracy": np.float32(0.25), "val_accuracy": 0.5, "val_loss": 1.25}
    shown.on_epoch_end(0, logs)
    shown.close()
    said = "epoch 1/3  accuracy 0.250  validation 0.500 (loss 1.250)"
    assert said in capsys.readouterr().out
