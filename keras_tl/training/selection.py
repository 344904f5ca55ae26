"""Select the epoch of a phase whose weights are kept, and describe the choice."""

import keras

from keras_tl import errors

# How a better epoch changes a metric, and the name of its best value.
_BETTER = {"min": ("lowered", "lowest"), "max": ("raised", "highest")}
# In place of a metric: keep the weights of the last epoch.
LAST = "last"


def stopper(setup, phase, directions):
    """Build the callback that stops a phase and knows its best epoch."""
    if setup.choose_by == LAST:
        return _KeepLast("epoch", mode="max", restore_best_weights=True)
    kind = (
        _ByAccuracy if setup.choose_by == "accuracy" else keras.callbacks.EarlyStopping
    )
    return kind(
        monitor=f"val_{setup.choose_by}",
        mode=directions[setup.choose_by],
        patience=phase.patience,
        restore_best_weights=True,
    )


# What a unit of the loss counts, as accuracy: nine are less than an image of ten
# thousand. Keras compares with 32 bits, which have no room for less.
_TIE, _LARGEST_LOSS = 1e-5, 9.0


class _ByAccuracy(keras.callbacks.EarlyStopping):
    """Of epochs with the same accuracy, take the one with the lowest loss.

    Few validation images have few accuracies: without it, the first of many equal
    epochs would be kept, which is the least trained one.
    """

    def get_monitor_value(self, logs):
        value = super().get_monitor_value(logs)
        if value is None:
            return None
        return value - _TIE * min(logs["val_loss"], _LARGEST_LOSS)


class _KeepLast(keras.callbacks.EarlyStopping):
    """Count every epoch as the best so far."""

    def on_epoch_end(self, epoch, logs=None):
        super().on_epoch_end(epoch, {"epoch": epoch})


class _KeepStart(keras.callbacks.Callback):
    """Count the weights at the start as the best so far."""

    def __init__(self, stopper, value):
        super().__init__()
        self.stopper, self.value = stopper, value

    def on_train_begin(self, logs=None):
        self.stopper.best = self.value
        self.stopper.best_weights = self.model.get_weights()
        self.stopper.best_epoch = -1


def callbacks(trainer, validation, setup, phase, stopper, checkpoint):
    """Build the callbacks that select the epoch whose weights are kept."""
    built = _averaged(trainer.optimizer, stopper)
    # A resumed phase restores the weights of its start as well.
    if phase.keep_start and not checkpoint.epoch and setup.choose_by != LAST:
        start = trainer.evaluate(validation, verbose=0, return_dict=True)
        logs = {f"val_{name}": value for name, value in start.items()}
        built.append(_KeepStart(stopper, stopper.get_monitor_value(logs)))
    return built


def _averaged(optimizer, stopper) -> list[keras.callbacks.Callback]:
    """Show `stopper` the averaged weights, where the optimizer keeps some."""
    if not getattr(getattr(optimizer, "inner_optimizer", optimizer), "use_ema", False):
        return [stopper]
    swap = keras.callbacks.SwapEMAWeights(swap_on_epoch=True)
    back = keras.callbacks.LambdaCallback(
        # Before the state is written: a resumed run trains on from the others.
        on_epoch_end=lambda epoch, logs: swap.on_epoch_begin(epoch + 1)
    )
    return [swap, stopper, back]


def outcome(stopper, checkpoint, setup, phase) -> str:
    """Describe which weights a phase kept, and why it ended."""
    name = setup.choose_by
    if name == LAST:
        return f"kept the last epoch, {checkpoint.epoch}."
    verb, best = _BETTER[stopper.mode]
    if stopper.best_epoch < 0:
        text = f"no epoch {verb} the validation {name} of {stopper.best:.3f}: "
        text += "kept the weights from before"
    else:
        text = f"kept epoch {stopper.best_epoch + 1}, with the {best} validation {name}"
    if checkpoint.epoch < phase.epochs:
        after = checkpoint.epoch - stopper.best_epoch - 1
        late = after < stopper.patience
        reason = "for lack of time" if late else "early"
        text += f"; ended {reason}"
        text += f", {errors.counted(after, 'epoch')} later" if after else ""
    elif stopper.best_epoch + 1 == phase.epochs:
        text += "; it was the last: more epochs may do better"
    return f"{text}."
