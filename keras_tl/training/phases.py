"""The phases of transfer learning: fit the head, then fine-tune.

A phase compiles the model, with the flags of `trainable` as they are then, runs the
part that cannot change once, trains the rest with fresh callbacks, and leaves the
model with the weights of its best epoch.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal

import keras

from keras_tl import errors, files
from keras_tl.data import pipeline
from keras_tl.data.splits import Split, Splits, read_once
from keras_tl.models import splitting
from keras_tl.training import features, schedules, store
from keras_tl.training.checkpoint import Checkpoint
from keras_tl.training.placement import (
    Placement,
    check_batch_size,
    check_model,
    compile_options,
)
from keras_tl.training.progress import PhaseProgress, StopOnNonFinite

History = dict[str, list[float]]
ChooseBy = Literal["loss", "accuracy"]
# What a better epoch does to each, and what the best has.
BETTER = {"loss": ("lowered", "lowest"), "accuracy": ("raised", "highest")}
Optimizer = Callable[[schedules.Rate], keras.optimizers.Optimizer]
Regularizer = Callable[[keras.Model], keras.Model]


@dataclass(frozen=True)
class Setup:
    """What the phases of a run have in common.

    Attributes:
        placement: Where to train; the models were built in its scope.
        batch_size: Examples per step, over all devices, at least 1.
        seed: What decides, with epoch and example, order and augmentation.
        augment: See `pipeline.Training`. Without it and without `mix`, everything below
            the first layer that trains or is random runs only once over the data, where
            there is room.
        mix: See `pipeline.Training` and `data.random_layers`.
        label_smoothing: Share of each label, in [0, 1), that all classes get alike.
        class_weights: See `pipeline.Training`; they weigh the training loss and the
            training accuracy, not those of validation.
        choose_by: What of validation chooses the epoch whose weights are kept. The loss
            tells more where there are few images; with many, and long training, it can
            rise while the accuracy still does.
        augmented_copies: With `augment`, run it once over this many changed copies of
            each training image; each epoch uses the next. 0 changes every image anew in
            every epoch, and runs the whole model on it.
        cache: Where what it gave is kept for later runs; `None` keeps nothing.
        state: Folder for what a resumed run needs; `None` keeps nothing.
        tensorboard: Folder for TensorBoard's event files; `None` writes none.
    """

    placement: Placement
    batch_size: int = 64
    seed: int = 0
    augment: pipeline.Augmentation | None = None
    mix: pipeline.Mixing | None = None
    label_smoothing: float = 0.0
    class_weights: Sequence[float] | None = None
    choose_by: ChooseBy = "loss"
    augmented_copies: int = 0
    cache: store.Cache | None = None
    state: Path | None = None
    tensorboard: Path | None = None

    def __post_init__(self):
        if self.choose_by not in BETTER:
            raise errors.unknown("choose_by", self.choose_by, BETTER)
        if not 0 <= self.label_smoothing < 1:
            raise errors.expected(
                "label_smoothing", "be in [0, 1)", self.label_smoothing
            )
        if self.augment is None and self.augmented_copies:
            raise errors.expected(
                "augmented_copies",
                "be 0 without `augment`, which changes the copies",
                self.augmented_copies,
            )
        if self.mix is not None and self.augmented_copies:
            raise errors.expected(
                "augmented_copies",
                "be 0 with `mix`, which needs images",
                self.augmented_copies,
            )


def fit_head(
    model: keras.Model,
    splits: Splits,
    setup: Setup,
    *,
    epochs: int,
    learning_rate: float = 1e-3,
    schedule: schedules.Schedule = schedules.cosine,
    optimizer: Optimizer = keras.optimizers.Adam,
    regularizer: Regularizer | None = None,
    patience: int = 5,
    phase: str = "head",
    first_epoch: int = 0,
) -> History:
    """Train what is not frozen, from a random head.

    Args:
        model: A functional classifier that gives logits.
        splits: Its training split is fitted, its validation split chooses the epoch;
            the test split is not touched.
        setup: What the phases of a run have in common.
        epochs: Largest number of passes over the training split, at least 1.
        learning_rate: The optimizer's largest rate.
        schedule: How it goes over the phase.
        optimizer: Function from a rate, or a schedule of rates, to a Keras optimizer,
            such as `functools.partial(keras.optimizers.SGD, momentum=0.9)`. With its
            `use_ema=True`, validation sees the averaged weights, and they are kept.
        regularizer: Function from the part that trains to a model with the same layers
            and another term in its loss, see `methods.regularizers`.
        patience: Epochs after which to stop that validation finds no better.
        phase: Name of the phase, for the display and the files in `setup.state`.
        first_epoch: Number of the first epoch, for order and augmentation alone: a
            phase that goes on where another of n epochs ended takes n, and sees what
            that has not.

    Returns:
        Metric name -> one value per epoch: `loss`, `accuracy`, `val_loss`,
        `val_accuracy`, means over the examples of a split; `kept`, 1 for the epoch
        whose weights the model has; and `seconds`, what each epoch took.

    Raises:
        InputError: A value out of range, a model the placement cannot train, or a loss
            that is no longer finite; then `model` has its best weights so far.
        KeyboardInterrupt: Ctrl-C; `model` has its best weights so far, and the message
            says where they were saved.
    """
    return _fit(
        model,
        splits,
        setup,
        epochs,
        learning_rate,
        schedule,
        optimizer,
        regularizer,
        patience,
        phase,
        first_epoch,
        start_counts=False,
    )


def fine_tune(
    model: keras.Model,
    splits: Splits,
    setup: Setup,
    *,
    epochs: int,
    learning_rate: float = 1e-4,
    schedule: schedules.Schedule = schedules.cosine,
    optimizer: Optimizer = keras.optimizers.Adam,
    regularizer: Regularizer | None = None,
    patience: int = 3,
    phase: str = "fine-tuning",
    first_epoch: int = 0,
) -> History:
    """Train on, with pretrained layers among what trains.

    As `fit_head`, but the weights at the start count as an epoch: where validation
    finds none better, they stay. Unfreeze first, see `freezing`.
    """
    return _fit(
        model,
        splits,
        setup,
        epochs,
        learning_rate,
        schedule,
        optimizer,
        regularizer,
        patience,
        phase,
        first_epoch,
        start_counts=True,
    )


def _fit(
    model,
    splits,
    setup,
    epochs,
    learning_rate,
    schedule,
    optimizer,
    regularizer,
    patience,
    phase,
    first_epoch,
    *,
    start_counts,
):
    placement, batch_size, state = setup.placement, setup.batch_size, setup.state
    errors.check_at_least("epochs", epochs, 1)
    errors.check_at_least("first_epoch", first_epoch, 0)
    check_batch_size(placement, batch_size)
    errors.check_above("learning_rate", learning_rate, 0)
    if not model.trainable_weights:
        raise errors.InputError(
            f"Nothing in {model.name} trains: every layer is frozen. Attach a head, or "
            "unfreeze some layers."
        )
    classes = model.outputs[0].shape[-1]
    if classes != len(splits.class_names):
        raise errors.InputError(
            f"The head of {model.name} has {classes} logits, the data "
            f"{len(splits.class_names)} classes. Build the head with "
            f"num_classes={len(splits.class_names)}."
        )

    if splits.train.targets is not None and regularizer is None:
        raise errors.InputError(
            "`regularizer` must be one of `methods.distillation` or "
            "`methods.multi_task`, where there is more to learn than the labels. "
            "Received: regularizer=None."
        )

    part, train, validation = prepare(model, splits, setup)
    training = pipeline.Training(
        train,
        batch_size,
        setup.seed,
        setup.augment,
        classes,
        setup.mix,
        setup.class_weights,
    )
    with placement.scope():
        if regularizer is not None:
            # It shares the variables: what trains in it has trained in `model`.
            part = regularizer(part)
        part.compile(
            optimizer=optimizer(schedule(learning_rate, epochs, training.steps)),
            loss=keras.losses.CategoricalCrossentropy(
                from_logits=True, label_smoothing=setup.label_smoothing
            ),
            weighted_metrics=[keras.metrics.CategoricalAccuracy(name="accuracy")],
            **compile_options(placement, batch_size * part.count_params()),
        )
        part.optimizer.build(part.trainable_variables)
    check_model(placement, part)

    validation_batches = pipeline.evaluation(validation, batch_size, classes)
    stopper = keras.callbacks.EarlyStopping(
        monitor=f"val_{setup.choose_by}",
        mode="min" if setup.choose_by == "loss" else "max",
        patience=patience,
        restore_best_weights=True,
    )
    batches, go_to = training.epochs()
    callbacks = [
        *_averaged(part.optimizer, stopper),
        keras.callbacks.LambdaCallback(
            on_epoch_begin=lambda epoch, logs: go_to(first_epoch + epoch)
        ),
    ]
    path = None
    if state is not None:
        Path(state).mkdir(parents=True, exist_ok=True)
        path = Path(state) / f"{phase.replace(' ', '-')}.npz"
    checkpoint = Checkpoint(path, [stopper])
    if start_counts and not checkpoint.epoch:
        start = part.evaluate(validation_batches, verbose=0, return_dict=True)
        callbacks.append(_StartCounts(stopper, start[setup.choose_by]))
    if setup.tensorboard is not None:
        errors.check_installed("tensorboard", extra="tensorboard")
        folder = Path(setup.tensorboard) / phase.replace(" ", "-")
        callbacks.append(keras.callbacks.TensorBoard(folder, write_graph=False))
    progress = PhaseProgress(phase, epochs, training.steps)
    start_weights = part.get_weights()
    checkpoint.set_model(part)
    checkpoint.restore(part)
    if checkpoint.finished:
        return checkpoint.history
    if checkpoint.stopped or checkpoint.epoch >= epochs:
        # Killed between the last epoch and the end of the phase.
        checkpoint.restore_callbacks()
        part.set_weights(stopper.best_weights)
    else:
        try:
            part.fit(
                batches,
                initial_epoch=checkpoint.epoch,
                epochs=epochs,
                validation_data=validation_batches,
                callbacks=[*callbacks, StopOnNonFinite(), progress, checkpoint],
                shuffle=False,
                verbose=0,
            )
        except (KeyboardInterrupt, FloatingPointError) as stopped:
            part.set_weights(stopper.best_weights or start_weights)
            raise _told(stopped, phase, model, setup) from None
        finally:
            progress.close()
    kept = range(checkpoint.epoch)
    checkpoint.history["kept"] = [float(e == stopper.best_epoch) for e in kept]
    checkpoint.finished = True
    checkpoint.write()
    said = _kept(stopper, checkpoint, epochs, setup.choose_by)
    print(f"{phase:>15}  {said}", flush=True)
    return checkpoint.history


def _kept(stopper, checkpoint, epochs, choose_by) -> str:
    """Say which weights a phase leaves, and why it ended."""
    verb, best = BETTER[choose_by]
    if stopper.best_epoch < 0:
        said = f"no epoch {verb} the validation {choose_by} of {stopper.best:.3f}: "
        said += "kept the weights from before"
    else:
        said = f"kept epoch {stopper.best_epoch + 1}, with the {best} validation "
        said += choose_by
    if checkpoint.epoch < epochs:
        said += f"; ended early, {stopper.patience} epochs after it"
    return f"{said}."


def _told(stopped, phase, model, setup) -> BaseException:
    """Say why a phase stopped, where its best weights are, and how to go on."""
    kept = "The model has its best weights so far."
    if setup.state is not None:
        path = Path(setup.state) / "interrupted.keras"
        with files.atomic(path) as temporary:
            model.save(temporary, include_optimizer=False)
        kept = f"The best weights so far are in {path}."
    if isinstance(stopped, KeyboardInterrupt):
        again = (
            f" Go on with --resume {Path(setup.state).parent}" if setup.state else ""
        )
        return KeyboardInterrupt(kept + again)
    advice = "Try a smaller learning_rate"
    if setup.placement.precision != "float32":
        advice += ", or float32 precision"
    return errors.InputError(f"{phase}: {stopped} {kept} {advice}.")


def _averaged(optimizer, stopper) -> list[keras.callbacks.Callback]:
    """Let `stopper` see the averaged weights, where the optimizer keeps some."""
    if not getattr(getattr(optimizer, "inner_optimizer", optimizer), "use_ema", False):
        return [stopper]
    swap = keras.callbacks.SwapEMAWeights(swap_on_epoch=True)
    back = keras.callbacks.LambdaCallback(
        # Before the state is written: a resumed run trains on from the others.
        on_epoch_end=lambda epoch, logs: swap.on_epoch_begin(epoch + 1)
    )
    return [swap, stopper, back]


class _StartCounts(keras.callbacks.Callback):
    """Let early stopping count the weights at the start as its best so far."""

    def __init__(self, stopper, value):
        super().__init__()
        self.stopper, self.value = stopper, value

    def on_train_begin(self, logs=None):
        self.stopper.best = self.value
        self.stopper.best_weights = self.model.get_weights()
        self.stopper.best_epoch = -1


def without_frozen_stem(
    model: keras.Model, splits: Splits, setup: Setup
) -> tuple[keras.Model, Splits]:
    """Run what is frozen over all three splits, for several phases and the test.

    A phase does as much by itself, for training and validation. Phases that unfreeze
    more and more share less: call this with everything unfrozen that any will unfreeze.

    Args:
        model: A functional model; what trains or is random now, and all above, is kept.
        splits: Its data.
        setup: What the phases have in common. Where it changes images anew in every
            epoch, nothing is cut off.

    Returns:
        A model that shares the layers of `model` above the cut, and the features it
        takes; `model` and images in memory, where nothing can be cut off.

    Raises:
        InputError: Neither memory nor cache has room for the features.
    """
    parts = _cut(model, splits, setup)
    if parts is None:
        return model, splits.map(read_once)
    stem, tail = parts
    splits = _with_copies(splits, setup)
    return tail, features.extract_all(stem, splits, cache=setup.cache)


def _with_copies(splits, setup):
    """Put changed copies in the place of the training split, where they are wanted."""
    wanted = setup.augment is not None and setup.augmented_copies
    if not wanted or splits.train.augmented_copies:
        return splits
    copies = pipeline.Augmented(
        splits.train, setup.augment, setup.seed, setup.augmented_copies
    )
    return replace(splits, train=copies)


def _cut(model, splits, setup) -> tuple[keras.Model, keras.Model] | None:
    copies = setup.augmented_copies or splits.train.augmented_copies
    if setup.mix is not None or (setup.augment is not None and not copies):
        return None
    cut = splitting.frozen_cut(model)
    if cut is None:
        return None
    stem, _ = splitting.split_at(model, cut[1])
    # The stem predicts on one device; made in the scope, it would give every row once
    # for each replica.
    with setup.placement.scope():
        _, tail = splitting.split_at(model, cut[1])
    return stem, tail


def prepare(
    model: keras.Model, splits: Splits, setup: Setup
) -> tuple[keras.Model, Split, Split]:
    """Give the part that trains, and what its frozen stem makes of the data.

    Returns:
        A model that shares the layers of `model`, and the training and validation
        splits as it takes them.
    """
    parts = _cut(model, splits, setup)
    if parts is None:
        return model, splits.train, splits.validation
    stem, tail = parts
    as_it_is, splits = splits, _with_copies(splits, setup)
    count = len(splits.train) + len(splits.validation)
    if not features.has_room(stem, count, setup.cache):
        errors.warn(
            f"The features of {count:,} images fit neither into the memory that is "
            "free nor into a cache: the frozen layers run again in every epoch."
        )
        return model, as_it_is.train, as_it_is.validation
    return (
        tail,
        features.extract(stem, splits.train, cache=setup.cache, what="features, train"),
        features.extract(
            stem, splits.validation, cache=setup.cache, what="features, validation"
        ),
    )
