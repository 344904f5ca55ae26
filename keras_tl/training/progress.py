"""Show how far training is: one line for each phase."""

import keras
from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn


class PhaseProgress(keras.callbacks.Callback):
    """A bar over all steps of a phase, with the latest accuracies behind it."""

    def __init__(self, phase: str, epochs: int, steps: int):
        super().__init__()
        self.phase, self.epochs, self.steps = phase, epochs, steps
        self._bar = None

    def on_train_begin(self, logs=None):
        self._bar = Progress(
            TextColumn("{task.description:>15}"),
            BarColumn(bar_width=16),
            TextColumn("{task.fields[said]}"),
            TimeElapsedColumn(),
        )
        self._task = self._bar.add_task(
            self.phase, total=self.epochs * self.steps, said=""
        )
        self._bar.start()

    def on_epoch_begin(self, epoch, logs=None):
        self._bar.update(self._task, completed=epoch * self.steps)

    def on_train_batch_end(self, batch, logs=None):
        self._bar.advance(self._task)

    def on_epoch_end(self, epoch, logs=None):
        said = f"epoch {epoch + 1}/{self.epochs}"
        if logs and "val_accuracy" in logs:
            said += (
                f"  accuracy {logs['accuracy']:.3f}"
                f"  validation {logs['val_accuracy']:.3f}"
            )
        self._bar.update(
            self._task, completed=(epoch + 1) * self.steps, said=said, refresh=True
        )

    def on_train_end(self, logs=None):
        self.close()

    def close(self) -> None:
        """Stop drawing, also when training was interrupted."""
        if self._bar is not None:
            self._bar.stop()
