"""Show the progress of training, and stop it when its loss is not finite."""

import math
import time
from collections.abc import Callable

import keras
from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn

from keras_tl import progress
from keras_tl.training import workers

# Seconds between lines of progress within an epoch, where there is no bar.
LONG_EPOCH = 60

# Name of what `FollowProbe` measures, in the history of a phase.
PROBE = "probe"


class PhaseProgress(keras.callbacks.Callback):
    """A bar over all steps of a phase, with the latest values of a metric behind it.

    Where nothing can be redrawn, a line after an epoch: after each that is long, now
    and then where they are short, and after the last; and one a minute in an epoch.
    """

    def __init__(self, phase: str, epochs: int, steps: int, metric: str = "accuracy"):
        super().__init__()
        self.phase, self.epochs, self.steps = phase, epochs, steps
        self.metric = metric
        self._bar, self._text = None, ""

    def on_train_begin(self, logs=None):
        self._lines = progress.Lines()
        if not progress.is_terminal():
            return
        self._bar = Progress(
            TextColumn("{task.description:>15}", markup=False),
            BarColumn(bar_width=16),
            TextColumn("{task.fields[text]}", markup=False),
            TimeElapsedColumn(),
        )
        self._task = self._bar.add_task(
            self.phase, total=self.epochs * self.steps, text=""
        )
        self._bar.start()

    def on_epoch_begin(self, epoch, logs=None):
        self._epoch = epoch
        self._due = time.monotonic() + LONG_EPOCH

    def on_train_batch_end(self, batch, logs=None):
        # Of several steps that were one call, `batch` is the last.
        done = min(batch + 1, self.steps)
        if self._bar is not None:
            completed = self._epoch * self.steps + done
            self._bar.update(self._task, completed=completed)
        elif (now := time.monotonic()) >= self._due:
            self._due = now + LONG_EPOCH
            self._text = (
                f"epoch {self._epoch + 1}/{self.epochs}  {done / self.steps:.0%}"
            )
            self._print()

    def on_epoch_end(self, epoch, logs=None):
        self._text = f"epoch {epoch + 1}/{self.epochs}"
        if logs and self.metric == "loss":
            # What is without labels has no loss on validation.
            self._text += f"  loss {logs['loss']:.3f}"
        elif logs and f"val_{self.metric}" in logs:
            self._text += (
                f"  {self.metric} {logs[self.metric]:.3f}"
                f"  validation {logs[f'val_{self.metric}']:.3f}"
                f" (loss {logs['val_loss']:.3f})"
            )
        if logs and PROBE in logs:
            self._text += f"  {PROBE} {logs[PROBE]:.3f}"
        if self._bar is not None:
            self._bar.update(
                self._task,
                completed=(epoch + 1) * self.steps,
                text=self._text,
                refresh=True,
            )
        elif self._lines.due():
            self._print()

    def on_train_end(self, logs=None):
        self.close()

    def close(self) -> None:
        """Stop drawing, also when training was interrupted."""
        if self._bar is not None:
            self._bar.stop()
        elif self._text:
            self._print()

    def _print(self):
        print(f"{self.phase:>15}  {self._text}  {self._lines}", flush=True)
        # Values that were printed are not printed again at the end.
        self._text = ""


class FollowProbe(keras.callbacks.Callback):
    """Measure the model after each epoch, and write the number into the history."""

    def __init__(self, probe: Callable[[int], float]):
        super().__init__()
        self.probe = probe

    def on_epoch_end(self, epoch, logs=None):
        logs[PROBE] = float(self.probe(epoch))


class StopInTime(keras.callbacks.Callback):
    """Stop after the epoch that leaves no time for another as long as it."""

    def __init__(self, until: float):
        super().__init__()
        self.until = until

    def on_epoch_begin(self, epoch, logs=None):
        self._begin = time.perf_counter()

    def on_epoch_end(self, epoch, logs=None):
        now = time.perf_counter()
        if workers.from_chief(now + (now - self._begin) > self.until):
            self.model.stop_training = True


class WatchWorkers(keras.callbacks.Callback):
    """Warn, once a phase, where one worker is slower than the others.

    Training steps end at the same time for all; validation needs no other worker.
    """

    def __init__(self):
        super().__init__()
        self._warned = False

    def on_test_begin(self, logs=None):
        self._begin = self._end = time.perf_counter()

    def on_test_batch_end(self, batch, logs=None):
        self._end = time.perf_counter()

    def on_epoch_end(self, epoch, logs=None):
        if not self._warned:
            seconds = self._end - self._begin
            self._warned = workers.warn_of_slow(seconds, "the validation examples")


class StopOnNonFinite(keras.callbacks.Callback):
    """Raise `FloatingPointError` in the first step whose loss is NaN or infinite.

    Keras would continue to the end with weights that are all NaN. Of several workers,
    each knows its own loss of a step, and all have to stop at the same one: they do so
    at the end of the epoch.
    """

    def on_epoch_begin(self, epoch, logs=None):
        self._epoch = epoch

    def on_train_batch_end(self, batch, logs=None):
        # A mean over the epoch so far: one value that is not finite stays in it.
        loss = float(logs["loss"])
        if not math.isfinite(loss) and workers.current() is None:
            step = min(batch + 1, self.params["steps"])
            raise FloatingPointError(
                f"The loss was {loss} after step {step} of epoch {self._epoch + 1}."
            )

    def on_epoch_end(self, epoch, logs=None):
        loss = float(logs["loss"])
        if not math.isfinite(loss):
            raise FloatingPointError(f"The loss was {loss} in epoch {epoch + 1}.")
