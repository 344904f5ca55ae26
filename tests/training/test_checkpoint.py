import csv
import dataclasses
import functools
import os
import re
import signal
import subprocess
import sys
import tempfile
import time
import warnings
from pathlib import Path

import keras
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from keras_tl import errors
from keras_tl.models import freezing, heads
from keras_tl.training import phases, placement
from keras_tl.training.checkpoint import Checkpoint

EPOCHS = 6


@pytest.fixture(autouse=True)
def several_steps(single_steps, monkeypatch):
    """Training with several steps in one call, as small models train."""
    monkeypatch.setattr(placement, "SMALL_STEP", 10**7)


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
        pytest.param(1, 2, {}, marks=pytest.mark.exhaustive),
        pytest.param(2, 1, {}, marks=pytest.mark.slow),
        pytest.param(1, 0, {}, marks=pytest.mark.slow),
        pytest.param(2, 3, {}, marks=pytest.mark.exhaustive),
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


@pytest.mark.slow
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


@pytest.mark.slow
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
def test_a_phase_whose_state_is_damaged_begins_again(
    make_backbone, colours, here, tmp_path, content
):
    (tmp_path / "head.npz").write_bytes(content)
    with pytest.warns(errors.InputWarning, match=r"head\.npz is .*begins again"):
        again = train(make_backbone, colours, here, tmp_path)
    whole = train(make_backbone, colours, here, None)
    for ours, theirs in zip(again[0], whole[0], strict=True):
        np.testing.assert_array_equal(ours, theirs)
    assert again[1:] == whole[1:]


def test_a_state_that_cannot_be_read_at_all_is_named(tmp_path):
    (tmp_path / "head.npz").mkdir()
    with pytest.raises(errors.InputError, match=r"head\.npz cannot be read \(Is a dir"):
        Checkpoint(tmp_path / "head.npz", [])


def small_phase(path):
    """Return a checkpoint, its model and its stopper, as a phase has them."""
    keras.utils.set_random_seed(0)
    model = keras.Sequential([keras.Input((2,)), keras.layers.Dense(2)])
    model.compile(keras.optimizers.Adam(), "mse")
    model.optimizer.build(model.trainable_variables)
    stopper = keras.callbacks.EarlyStopping(restore_best_weights=True)
    checkpoint = Checkpoint(path, [stopper])
    checkpoint.set_model(model)
    return checkpoint, model, stopper


def restored(path, model):
    """Return all that is restored from a file, as plain values."""
    stopper = keras.callbacks.EarlyStopping(restore_best_weights=True)
    checkpoint = Checkpoint(path, [stopper])
    checkpoint.restore(model)
    stopper.on_train_begin()
    checkpoint.restore_callbacks()
    arrays = [*model.get_weights(), *map(np.asarray, model.optimizer.variables)]
    arrays += stopper.best_weights or []
    return (
        [array.tolist() for array in arrays],
        [stopper.wait, stopper.best, stopper.best_epoch],
        [checkpoint.history, checkpoint.epoch],
        [checkpoint.stopped, checkpoint.finished],
    )


@pytest.fixture(scope="module")
def kept_phase(tmp_path_factory):
    """The content of a file of state, a model to restore, and what is restored."""
    path = tmp_path_factory.mktemp("kept") / "head.npz"
    checkpoint, model, stopper = small_phase(path)
    stopper.best_weights = [w + 1 for w in model.get_weights()]
    stopper.wait, stopper.best, stopper.best_epoch = 2, 0.25, 1
    checkpoint.history, checkpoint.epoch = {"loss": [0.5, 0.25, 0.3, 0.4]}, 4
    checkpoint.write()
    return path.read_bytes(), model, restored(path, model)


@settings(deadline=None, max_examples=400)
@given(st.data())
def test_a_damaged_state_restores_the_same_or_nothing(kept_phase, data):
    content, model, wanted = kept_phase
    # Half of the damage goes to the directory of the archive, at its end.
    start = data.draw(st.sampled_from([0, content.index(b"PK\x01\x02")]))
    place = data.draw(st.integers(start, len(content) - 1))
    damaged = {
        "cut": content[:place],
        "flip": content[:place]
        + bytes([content[place] ^ data.draw(st.integers(1, 255))])
        + content[place + 1 :],
        "zeros": content[:place] + bytes(len(content) - place),
        "hole": content[:place] + content[place + data.draw(st.integers(1, 99)) :],
        "other": data.draw(st.binary(max_size=200)),
    }[data.draw(st.sampled_from(["cut", "flip", "flip", "zeros", "hole", "other"]))]
    for variable in model.variables:
        variable.assign(variable * 0 + 7)
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "head.npz"
        path.write_bytes(damaged)
        with warnings.catch_warnings(record=True) as shown:
            warnings.simplefilter("always")
            again = restored(path, model)
    if any(issubclass(one.category, errors.InputWarning) for one in shown):
        assert again[2] == [{}, 0]
        assert all((weights == 7).all() for weights in model.get_weights())
    else:
        assert again == wanted


def test_a_header_that_hides_a_part_of_its_array_is_found_out(tmp_path):
    # The checksum of a member is compared only where all of it is read.
    path = tmp_path / "head.npz"
    checkpoint, model, stopper = small_phase(path)
    stopper.best_weights = [np.ones((2, 9000), "float32")]
    checkpoint.write()
    content = path.read_bytes()
    assert content.count(b"(2, 9000)") == 1
    path.write_bytes(content.replace(b"(2, 9000)", b"(2, 1000)"))
    with pytest.warns(errors.InputWarning, match=r"head\.npz is damaged"):
        restored(path, model)


def test_a_directory_that_hides_an_array_is_found_out(kept_phase, tmp_path):
    content, model, _ = kept_phase
    *_, last, end = (found.start() for found in re.finditer(b"PK\x01\x02", content))
    # The last entry becomes a comment on the one before it.
    length = content.index(b"PK\x05\x06") - end
    comment = content[: last + 32] + bytes([length, 0]) + content[last + 34 :]
    (tmp_path / "head.npz").write_bytes(comment)
    with pytest.warns(errors.InputWarning, match="an array is missing"):
        restored(tmp_path / "head.npz", model)


def test_a_state_of_other_callbacks_is_named(kept_phase, tmp_path):
    path = tmp_path / "head.npz"
    path.write_bytes(kept_phase[0])
    with pytest.warns(errors.InputWarning, match=r"head\.npz is damaged"):
        Checkpoint(path, [])


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
