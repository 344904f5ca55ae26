import csv
import dataclasses
import functools
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import keras
import numpy as np
import pytest

from keras_tl import errors
from keras_tl.models import freezing, heads
from keras_tl.training import phases

EPOCHS = 6


class Kill(Exception):
    """Stands for the end of the process."""


class KillAt(keras.callbacks.Callback):
    """End training in the middle of an epoch, without a chance to clean up."""

    def __init__(self, epoch):
        super().__init__()
        self.at, self.now = epoch, 0

    def on_epoch_begin(self, epoch, logs=None):
        self.now = epoch

    def on_train_batch_end(self, batch, logs=None):
        if self.now == self.at and batch >= 1:
            raise Kill


def train(make_backbone, data, here, state, augment=None, patience=3, **adam):
    """Both phases, with dropout and, if given, augmentation; the final weights."""
    optimizer = functools.partial(keras.optimizers.Adam, **adam)
    keras.utils.set_random_seed(0)
    backbone = make_backbone()
    freezing.freeze(backbone)
    model = heads.attach(backbone, 3, dropout=0.4)
    setup = dataclasses.replace(here, batch_size=16, state=state)
    options = {"epochs": EPOCHS, "patience": patience, "optimizer": optimizer}
    head = phases.fit(model, data, setup, phases.Phase(learning_rate=0.3, **options))
    freezing.unfreeze_from(model, "block2")
    setup = dataclasses.replace(setup, augment=augment)
    tuned = phases.fit(
        model, data, setup, phases.fine_tuning(learning_rate=0.03, **options)
    )
    for history in (head, tuned):
        del history["seconds"]  # The only thing that may differ.
    return model.get_weights(), head, tuned


@pytest.mark.parametrize(
    ("phase", "epoch", "adam"),
    [
        (1, 0, {}),
        (1, 2, {}),
        (2, 1, {}),
        (2, 3, {}),
        # Validation sees other weights than training goes on from.
        (2, 3, {"use_ema": True, "ema_momentum": 0.8}),
    ],
)
def test_killed_and_resumed_equals_uninterrupted_bit_for_bit(
    make_backbone, colours, here, tmp_path, monkeypatch, phase, epoch, adam
):
    adam = {"patience": EPOCHS, **adam}

    def flip(images, draws):
        import tensorflow as tf

        return tf.where(
            (draws[:, 0] < 0.5)[:, None, None, None], images, images[:, ::-1]
        )

    uninterrupted = train(make_backbone, colours, here, None, flip, **adam)
    fit, calls = keras.Model.fit, []

    def fit_until_killed(self, *args, callbacks, **options):
        calls.append(self)
        if len(calls) == phase:
            callbacks = [KillAt(epoch), *callbacks]
        return fit(self, *args, callbacks=callbacks, **options)

    monkeypatch.setattr(keras.Model, "fit", fit_until_killed)
    with pytest.raises(Kill):
        train(make_backbone, colours, here, tmp_path, flip, **adam)
    monkeypatch.undo()
    resumed = train(make_backbone, colours, here, tmp_path, flip, **adam)
    for ours, theirs in zip(resumed[0], uninterrupted[0], strict=True):
        np.testing.assert_array_equal(ours, theirs)
    assert resumed[1:] == uninterrupted[1:]


def test_early_stopping_goes_on_counting_where_it_was(
    make_backbone, colours, here, tmp_path, monkeypatch
):
    # The better the training labels are learned, the worse these look.
    wrong = (colours.validation.labels + 1) % 3
    validation = dataclasses.replace(colours.validation, labels=wrong)
    data = dataclasses.replace(colours, validation=validation)
    uninterrupted = train(make_backbone, data, here, None, patience=2)
    assert len(uninterrupted[1]["loss"]) < EPOCHS
    fit = keras.Model.fit
    monkeypatch.setattr(
        keras.Model,
        "fit",
        lambda self, *args, callbacks, **options: fit(
            self, *args, callbacks=[KillAt(2), *callbacks], **options
        ),
    )
    with pytest.raises(Kill):
        train(make_backbone, data, here, tmp_path, patience=2)
    monkeypatch.undo()
    resumed = train(make_backbone, data, here, tmp_path, patience=2)
    assert resumed[1:] == uninterrupted[1:]


def test_a_finished_phase_is_not_trained_again(
    make_backbone, colours, here, tmp_path, monkeypatch
):
    first = train(make_backbone, colours, here, tmp_path)
    monkeypatch.setattr(keras.Model, "fit", lambda *a, **o: pytest.fail("trained"))
    second = train(make_backbone, colours, here, tmp_path)
    for ours, theirs in zip(first[0], second[0], strict=True):
        np.testing.assert_array_equal(ours, theirs)
    assert first[1:] == second[1:]


def test_interrupt_leaves_the_best_weights_so_far(
    make_backbone, colours, here, tmp_path
):
    class Interrupt(keras.callbacks.Callback):
        def on_epoch_end(self, epoch, logs=None):
            if epoch == 3:
                raise KeyboardInterrupt

    model = heads.attach(make_backbone(), 3)
    setup = dataclasses.replace(here, state=tmp_path)
    fit, best = keras.Model.fit, {}

    def interrupted(self, *args, callbacks, **options):
        best["stopper"] = callbacks[0]
        return fit(self, *args, callbacks=[*callbacks, Interrupt()], **options)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(keras.Model, "fit", interrupted)
        with pytest.raises(KeyboardInterrupt, match="best weights so far are in"):
            phases.fit(model, colours, setup, phases.Phase(epochs=9, learning_rate=1.0))
    part = best["stopper"].model
    assert part.get_weights()
    for ours, theirs in zip(
        part.get_weights(), best["stopper"].best_weights, strict=True
    ):
        np.testing.assert_array_equal(ours, theirs)
    assert model.optimizer.variables, "The whole model has trained."
    saved = keras.models.load_model(tmp_path / "interrupted.keras")
    assert not saved.compiled
    for ours, theirs in zip(saved.get_weights(), model.get_weights(), strict=True):
        np.testing.assert_array_equal(ours, theirs)


def test_state_of_another_model_is_refused(make_backbone, colours, here, tmp_path):
    setup = dataclasses.replace(here, state=tmp_path)
    phases.fit(heads.attach(make_backbone(), 3), colours, setup, phases.Phase(epochs=1))
    other = heads.attach_mlp(make_backbone(), 3, hidden=[5])
    with pytest.raises(errors.InputError, match="another model"):
        phases.fit(other, colours, setup, phases.Phase(epochs=1))


@pytest.mark.parametrize("content", [b"", b"no archive", b"PK\x03\x04cut"])
def test_damaged_state_is_named(make_backbone, colours, here, tmp_path, content):
    (tmp_path / "head.npz").write_bytes(content)
    model = heads.attach(make_backbone(), 3)
    with pytest.raises(errors.InputError, match=r"head\.npz cannot be read"):
        phases.fit(
            model,
            colours,
            dataclasses.replace(here, state=tmp_path),
            phases.Phase(epochs=1),
        )


@pytest.mark.slow
def test_a_run_that_is_really_killed_goes_on_to_the_same_result(tmp_path):
    """The whole way: SIGKILL to the command, then `--resume`."""
    command = [sys.executable, "-m", "keras_tl", "run", "vgg16_cifar10"]
    size = ["--dataset", "cifar10_sample", "--limit", "40", "--image-size", "32"]
    size += ["--backbone", "mobilenet", "--weights", "None"]
    size += ["--unfreeze-from", "conv_dw_13", "--fine-tune-epochs", "1"]
    size += ["--epochs", "30", "--batch-size", "16"]
    quiet = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
    environment = {**os.environ, "PYTHONPATH": str(Path(__file__).parents[2])}

    def start(*flags):
        return subprocess.Popen(
            [*command, *flags], cwd=tmp_path, env=environment, **quiet
        )

    killed = start(*size, "--out", "killed")
    deadline = time.monotonic() + 120
    while not (tmp_path / "killed" / "state" / "head.npz").exists():
        assert killed.poll() is None, "The run ended before it could be killed."
        assert time.monotonic() < deadline
        time.sleep(0.01)
    killed.send_signal(signal.SIGKILL)
    killed.wait()
    straight = start(*size, "--out", "straight")
    assert straight.wait(timeout=120) == 0
    assert start("--resume", "killed").wait(timeout=120) == 0

    def history(run):
        with open(tmp_path / run / "history.csv") as file:
            return list(csv.reader(file))

    assert history("killed") == history("straight")
    one, other = (
        keras.models.load_model(tmp_path / run / "model.keras").get_weights()
        for run in ("killed", "straight")
    )
    for ours, theirs in zip(one, other, strict=True):
        np.testing.assert_array_equal(ours, theirs)
    assert not (tmp_path / "killed" / "state").exists()
