"""Save and restore the complete state of a training phase."""

import io
import json
import time
import zipfile
from pathlib import Path

import keras
import numpy as np

from keras_tl import errors, files
from keras_tl.training import workers

# Types of the plain values that Keras's callbacks hold besides weights.
_PLAIN = (bool, int, float, str, type(None), np.floating, np.integer)

# Attributes of a checkpoint that its file holds.
_RECORDED = ("history", "epoch", "stopped", "finished")


def read_arrays(content: bytes) -> dict[str, np.ndarray]:
    """Read all arrays of an `.npz` file, and notice whatever is damaged in them.

    Args:
        content: Content of the file.

    Raises:
        Exception: Of nearly any type, where it is damaged.
    """
    with zipfile.ZipFile(io.BytesIO(content)) as archive:
        # Read whole, a member is held to its checksum; numpy alone stops where the
        # shape in its header says, which may be damaged itself.
        return {
            name.removesuffix(".npy"): np.load(io.BytesIO(archive.read(name)))
            for name in archive.namelist()
        }


class Checkpoint(keras.callbacks.Callback):
    """Write the state of a phase after each epoch, and restore it before the first.

    Keras's `BackupAndRestore` keeps weights and optimizer, but neither the state of the
    other callbacks nor the history: a run that resumes from it may stop at another
    epoch and keep other weights (https://github.com/keras-team/keras/issues/17012).
    Here one file holds all of it, written in one step.

    It has to be the last callback of the list, so that it saves what the others did.

    Args:
        path: The file, `.npz`; `None` keeps nothing on disk.
        others: The callbacks whose plain attributes and `best_weights` are kept.

    Attributes:
        history: Metric name -> one value for each epoch of the phase; also `seconds`,
            the duration of the epoch with its validation.
        epoch: Number of epochs that are done.
        stopped: Whether a callback has asked to stop.
        finished: Whether the phase is over and its best weights are the model's.
        batch_size: The batch size of the next epochs, where it is smaller than the one
            that was asked for; `None` where it is that.

    Where the file is damaged, a warning says so, and the phase begins again.

    Raises:
        InputError: The file cannot be read at all, as without permission.
    """

    def __init__(self, path: Path | None, others: list[keras.callbacks.Callback]):
        super().__init__()
        self.path = path
        self.others = others
        self.history: dict[str, list[float]] = {}
        self.epoch = 0
        self.stopped = False
        self.finished = False
        self.batch_size: int | None = None
        self._saved: dict[str, np.ndarray] = {}
        self._callbacks: list[dict] = []
        self._paths: list[str] = []
        self._weights: list[str] = []
        content = None
        if path is not None and path.exists():
            content = _content(path)
        # Workers keep no state of their own: all go on from that of the chief.
        content = workers.bytes_from_chief(content)
        if content is not None:
            self._read(content)

    def _read(self, content):
        try:
            saved = read_arrays(content)
            record = json.loads(str(saved.pop("record")))
            own = {name: record[name] for name in _RECORDED}
            own["batch_size"] = record.get("batch_size")  # Earlier versions had none.
            callbacks = record["callbacks"]
            # Damage to the directory of an archive can hide a member. Files of earlier
            # versions do not name theirs.
            if sorted(record.get("arrays", saved)) != sorted(saved):
                raise ValueError("an array is missing")
            if len(callbacks) != len(self.others):
                number = errors.counted(len(callbacks), "callback")
                raise ValueError(f"it has {number}")
        except Exception as error:  # Nearly any type, for a damaged file.
            errors.warn(
                f"The saved state {self.path} is damaged ({errors.reason(error)}): "
                "this phase begins again, to the same result."
            )
            return
        self._saved = saved
        self._callbacks = callbacks
        self._paths, self._weights = (record.get(n, []) for n in ("paths", "weights"))
        vars(self).update(own)

    def restore(self, model: keras.Model) -> None:
        """Restore the variables of `model` and its optimizer, if there is a file.

        The model may have frozen layers that the other had not, or the reverse: they
        run beforehand where there is room for their features, which can change.

        Raises:
            InputError: The file is of another model.
        """
        if not self._saved:
            return
        for kind, variables in _variables(model).items():
            saved = self._list(kind)
            if kind == "model" and len(saved) != len(variables):
                by_path = _by_path(self._paths, saved)
                pairs = [(v, by_path[v.path]) for v in variables if v.path in by_path]
                if len(pairs) == min(len(saved), len(variables)):
                    variables, saved = zip(*pairs, strict=True)
            shapes = [tuple(variable.shape) for variable in variables]
            if [value.shape for value in saved] != shapes:
                raise errors.InputError(
                    f"The saved state {self.path} is of another model than this one. "
                    "Resume with the settings the run was started with."
                )
            for variable, value in zip(variables, saved, strict=True):
                variable.assign(value)

    def restore_callbacks(self) -> None:
        """Restore the state of the other callbacks, if there is a file."""
        for index, state in enumerate(self._callbacks):
            vars(self.others[index]).update(state)
            best = self._list(f"best_weights_{index}")
            if best and self.model is not None and len(best) != len(self.model.weights):
                by_path = _by_path(self._weights, best)
                best = [
                    by_path.get(weight.path, keras.ops.convert_to_numpy(weight))
                    for weight in self.model.weights
                ]
            if best:
                self.others[index].best_weights = best

    def change_batch_size(self, asked: int, batch_size: int, steps: int) -> None:
        """Go on in batches of another size, of which an epoch has another number.

        Call it after `restore`. What counts the steps of the phase, and with it the
        learning rate, stands where it would stand had all epochs so many.

        Args:
            asked: The batch size that was asked for.
            batch_size: That of the next epochs.
            steps: Number of steps of an epoch in batches of this size.
        """
        if self.epoch and "batch_size" not in self.history:
            self.history["batch_size"] = [float(asked)] * self.epoch
        self.batch_size = batch_size
        self.model.optimizer.iterations.assign(self.epoch * steps)
        count = getattr(self.model, "steps_done", None)
        if count is not None:
            count.assign(self.epoch * steps)

    def on_train_begin(self, logs=None):
        # The others have just been reset by their own on_train_begin.
        self.restore_callbacks()

    def on_epoch_begin(self, epoch, logs=None):
        self._started = time.perf_counter()

    def on_epoch_end(self, epoch, logs=None):
        seconds = time.perf_counter() - self._started
        own = {} if self.batch_size is None else {"batch_size": self.batch_size}
        for name, value in {**(logs or {}), **own, "seconds": seconds}.items():
            self.history.setdefault(name, []).append(float(value))
        self.epoch = epoch + 1
        self.stopped = self.model.stop_training
        self.write()

    def write(self) -> None:
        """Write the state as it is now, in one step."""
        if self.path is None:
            return
        arrays = {
            f"{kind}/{index}": keras.ops.convert_to_numpy(variable)
            for kind, variables in _variables(self.model).items()
            for index, variable in enumerate(variables)
        }
        for index, callback in enumerate(self.others):
            for i, value in enumerate(getattr(callback, "best_weights", None) or []):
                arrays[f"best_weights_{index}/{i}"] = np.asarray(value)
        record = {
            **{name: getattr(self, name) for name in (*_RECORDED, "batch_size")},
            "callbacks": [_plain_state(callback) for callback in self.others],
            "arrays": list(arrays),
            "paths": [variable.path for variable in _variables(self.model)["model"]],
            "weights": [weight.path for weight in self.model.weights],
        }
        with files.atomic(self.path) as temporary:
            np.savez(temporary, record=json.dumps(record), **arrays)

    def _list(self, kind):
        count = sum(name.startswith(f"{kind}/") for name in self._saved)
        return [self._saved[f"{kind}/{index}"] for index in range(count)]


def _content(path):
    try:
        return path.read_bytes()
    except OSError as error:
        raise errors.InputError(
            f"The saved state {path} cannot be read ({error.strerror}). Make it "
            "readable, or remove it to do this phase again from its start."
        ) from error


def _by_path(paths, arrays):
    """Name arrays by the paths of their variables; `{}` where these tell too little."""
    if len(paths) != len(arrays) or len(set(paths)) != len(paths):
        return {}
    return dict(zip(paths, arrays, strict=True))


def _variables(model):
    # `model.variables` holds the seeds of random layers as well, which `weights` and
    # Keras's own backup leave out.
    metrics = {id(variable) for variable in model.metrics_variables}
    return {
        "model": [v for v in model.variables if id(v) not in metrics],
        "optimizer": model.optimizer.variables,
    }


def _plain_state(callback):
    return {
        name: value.item() if isinstance(value, np.generic) else value
        for name, value in vars(callback).items()
        if not name.startswith("_") and isinstance(value, _PLAIN)
    }
