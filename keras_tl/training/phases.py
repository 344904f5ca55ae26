"""Train a model in phases: first the head, then fine-tuning.

A phase compiles the model, with the flags of `trainable` as they are then, runs the
layers that cannot change once, trains the others with fresh callbacks, and leaves the
model with the weights of its best epoch.
"""

import contextlib
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

import keras

from keras_tl import cluster as clusters
from keras_tl import errors
from keras_tl.config import Run
from keras_tl.data import pipeline
from keras_tl.data.splits import Splits, class_weights, read_once
from keras_tl.models import freezing, saving, splitting
from keras_tl.training import (
    checks,
    features,
    schedules,
    selection,
    store,
    terms,
    workers,
)
from keras_tl.training.checkpoint import Checkpoint
from keras_tl.training.objectives import Objective, SingleLabel
from keras_tl.training.placement import (
    Placement,
    check_model,
    compile_options,
    prepare_layers,
    prepare_optimizer,
)
from keras_tl.training.progress import (
    FollowProbe,
    PhaseProgress,
    StopInTime,
    StopOnNonFinite,
    WatchWorkers,
)
from keras_tl.training.settings import TrainingSettings

History = dict[str, list[float]]
Optimizer = Callable[[schedules.Rate], keras.optimizers.Optimizer]


@dataclass(frozen=True)
class Setup:
    """Settings that all phases of a run share.

    Attributes:
        placement: Devices to train on; the models were built in its scope.
        batch_size: Examples per step, over all devices, at least 1.
        seed: Decides, with epoch and example, order and augmentation.
        objective: Loss and metrics of the labels.
        augment: See `pipeline.Training`. Without it and without `mix`, everything below
            the first layer that trains or is random runs only once over the data, where
            there is room.
        mix: See `pipeline.Training` and `data.random_layers`.
        label_smoothing: Share of each label, in [0, 1), spread over all classes.
        class_weights: See `pipeline.Training`; they weight the training loss and the
            training accuracy, not those of validation.
        choose_by: Metric of validation that selects the epoch whose weights are kept:
            one of the objective or of the method of a phase, or "last" for the last
            epoch. The loss is more sensitive where there are few examples; with many,
            and long training, it can rise while the accuracy still improves.
        augmented_copies: With `augment`, run it once over this many augmented copies of
            each training image; each epoch uses the next. 0 augments every image anew
            in every epoch, and runs the whole model on it.
        cache: Where features of frozen layers are kept for later runs; `None` keeps
            nothing.
        state: Folder of the checkpoints that `--resume` needs; `None` keeps nothing.
        tensorboard: Folder for TensorBoard's event files; `None` writes none.
    """

    placement: Placement
    batch_size: int = 64
    seed: int = 0
    objective: Objective = field(default_factory=SingleLabel)
    augment: pipeline.Augmentation | None = None
    mix: pipeline.Mixing | None = None
    label_smoothing: float = 0.0
    class_weights: Sequence[float] | None = None
    choose_by: str = "loss"
    augmented_copies: int = 0
    cache: store.Cache | None = None
    state: Path | None = None
    tensorboard: Path | None = None

    def __post_init__(self):
        if not isinstance(self.placement, Placement):
            hint = "It is what `placement.choose()` returns."
            raise errors.expected(
                "placement", "be of type Placement", self.placement, hint
            )
        if not 0 <= self.label_smoothing < 1:
            raise errors.expected(
                "label_smoothing", "be in [0, 1)", self.label_smoothing
            )
        if self.augment is None and self.augmented_copies:
            raise errors.expected(
                "augmented_copies",
                "be 0 without `augment`, which makes the copies",
                self.augmented_copies,
            )
        if self.mix is not None and self.augmented_copies:
            raise errors.expected(
                "augmented_copies",
                "be 0 with `mix`, which needs images",
                self.augmented_copies,
            )


def setup(
    settings: TrainingSettings,
    placement: Placement,
    splits: Splits,
    run: Run,
    *,
    trial: str | None = None,
    **options,
) -> Setup:
    """Build the setup of a run from the common settings of recipes.

    Args:
        settings: The recipe's settings.
        placement: See `Setup`.
        splits: The data, whose training labels class weights are computed from.
        run: The run, whose folder holds checkpoints and event files.
        trial: Name of a trial of a study, which has event files of its own, and no
            checkpoints: a trial that was killed begins again.
        **options: Other attributes of `Setup`, or other values than in `settings`.

    Raises:
        InputError: A value out of range, or other data on another worker.
    """
    errors.check_options(options, setup, Setup)
    workers.agree(content_of_the_data=run.data["sha256"][:12])
    weights = None
    if settings.class_weights:
        weights = class_weights(splits.train.labels, len(splits.class_names))
    folder = run.tensorboard / trial if trial else run.tensorboard
    common = {
        "batch_size": settings.batch_size,
        "seed": settings.seed,
        "class_weights": weights,
        "choose_by": settings.choose_by,
        "cache": store.Cache() if settings.cache else None,
        "state": None if trial else run.state,
        "tensorboard": folder if settings.tensorboard else None,
    }
    return Setup(placement, **{**common, **options})


@dataclass(frozen=True)
class Phase:
    """One phase of training.

    Attributes:
        epochs: Largest number of passes over the training split, at least 0; with 0
            the phase is left out.
        learning_rate: Largest learning rate of the optimizer, above 0.
        schedule: How the learning rate changes over the phase.
        optimizer: Function from a learning rate, or a schedule of it, to a Keras
            optimizer, such as `functools.partial(keras.optimizers.SGD, momentum=0.9)`.
            With its `use_ema=True`, validation sees the averaged weights, and they are
            kept.
        method: Adds a term to the loss, see `terms` and `methods`.
        patience: Number of epochs without a better one after which to stop.
        name: Name of the phase in the display, the history and the files in
            `Setup.state`.
        first_epoch: Number of the first epoch, for order and augmentation alone: a
            phase that continues after another of n epochs takes n, so that it draws
            what that has not drawn.
        keep_start: Whether the weights at the start count as an epoch: they stay where
            no epoch is better.
        probe: Function from the number of an epoch, the first being 0, to a number that
            tells what its weights are worth, such as one of `analysis.probe.follow`. It
            is called after each epoch, and its numbers are in the history as `probe`;
            they choose nothing.
        until: Time of `time.perf_counter` by which the phase has to end: it ends after
            the epoch that leaves no time for another; `None` sets no limit.
    """

    epochs: int
    learning_rate: float = 1e-3
    schedule: schedules.Schedule = schedules.cosine
    optimizer: Optimizer = keras.optimizers.Adam
    method: terms.Method | None = None
    patience: int = 5
    name: str = "head"
    first_epoch: int = 0
    keep_start: bool = False
    probe: Callable[[int], float] | None = None
    until: float | None = None

    def __post_init__(self):
        errors.check_at_least("epochs", self.epochs, 0)
        errors.check_at_least("first_epoch", self.first_epoch, 0)
        errors.check_above("learning_rate", self.learning_rate, 0)


def fine_tuning(
    epochs: int,
    learning_rate: float = 1e-4,
    *,
    patience: int = 3,
    name: str = "fine-tuning",
    **options,
) -> Phase:
    """Return a phase that trains pretrained layers on, at a small learning rate.

    The weights at the start count as an epoch, so that fine-tuning never leaves a model
    that is worse on validation. Unfreeze layers first, see `freezing`.

    Args:
        epochs: See `Phase`.
        learning_rate: See `Phase`.
        patience: See `Phase`.
        name: See `Phase`.
        **options: Other attributes of `Phase`.

    >>> fine_tuning(3).keep_start
    True
    """
    errors.check_options(options, Phase)
    return Phase(
        epochs,
        learning_rate,
        patience=patience,
        name=name,
        **{"keep_start": True, **options},
    )


def fit(model: keras.Model, splits: Splits, setup: Setup, phase: Phase) -> History:
    """Train the layers of a model that are not frozen.

    Args:
        model: A functional model that gives logits.
        splits: Its training split is fitted, its validation split selects the epoch;
            the test split is not read.
        setup: Settings that all phases of a run share.
        phase: Length, learning rate and method of this one.

    Returns:
        Metric name -> one value per epoch: `loss` and the metrics of objective and
        method, the same of validation with the prefix `val_`, means over the examples
        of a split; `batch_size`, where the memory was too small for the one that was
        asked for; `kept`, 1 for the epoch whose weights the model has; `probe`, where
        the phase has one; and `seconds`, the duration of the epoch. Empty where the
        phase has no epochs.

    A batch for which the memory is too small is halved, with a warning: the phase goes
    on after the last epoch in `Setup.state`, or begins again.

    Raises:
        InputError: A value out of range, a model the placement cannot train, or a loss
            that is no longer finite; then `model` has its best weights so far.
        KeyboardInterrupt: Ctrl-C; `model` has its best weights so far, and the message
            names the file they were saved to.
    """
    _check_types(model, splits, setup, phase)
    if not phase.epochs:
        print(f"{phase.name:>15}  left out", flush=True)
        return {}
    checks.check(model, splits, setup, phase)
    checks.check_workers(model, splits, setup)
    checks.share_weights(model)
    layers = freezing.report(model)
    total = layers.trainable + layers.frozen
    print(f"{phase.name:>15}  {layers.trainable:,} of {total:,} parameters train")
    part, data = precompute_frozen(model, splits, setup, test=False)
    checks.check_logits(part, data, setup)
    asked, unit = setup.batch_size, checks.batch_unit(setup, splits)
    while True:
        try:
            return _fit(model, part, data, setup, phase, asked)
        except Exception as error:
            half = setup.batch_size // 2 // unit * unit
            # Of several workers, the others have more memory: all would have to agree.
            alone = workers.current() is None
            if not half or not alone or not errors.is_out_of_memory(error):
                raise
        kept = "begins again" if setup.state is None else "goes on after its last epoch"
        errors.warn(
            f"{phase.name}: the memory is too small for a batch of {setup.batch_size}. "
            f"The phase {kept} in batches of {half}, and its results differ from those "
            f"of {asked}. `batch_size={half}` avoids it from the start."
        )
        setup = replace(setup, batch_size=half)


def _fit(model, part, data, setup, phase, asked) -> History:
    """Train the part of a model that changes, in batches of `setup.batch_size`.

    Args:
        model: The whole model.
        part: What `precompute_frozen` returned of it.
        data: The same.
        setup: The setup, perhaps with a smaller batch than the one that was asked for.
        phase: The phase.
        asked: The batch size that was asked for.
    """
    training = _training(data, setup)
    trainer, directions = _compile(part, data, setup, phase, training.steps)
    validation = setup.placement.distribute(
        pipeline.evaluation(
            data.validation,
            setup.batch_size,
            training.num_classes,
            setup.placement.share,
        )
    )
    stopper = selection.stopper(setup, phase, directions)
    checkpoint = Checkpoint(_state_file(setup, phase), [stopper])
    if (checkpoint.batch_size or asked) < setup.batch_size:
        # Before it was killed, this phase has found the memory too small.
        setup = replace(setup, batch_size=checkpoint.batch_size)
        return _fit(model, part, data, setup, phase, asked)
    # With the seeds of random layers, which are no weights.
    start = [(v, keras.ops.convert_to_numpy(v)) for v in trainer.variables]
    checkpoint.set_model(trainer)
    checkpoint.restore(trainer)
    if checkpoint.finished:
        return checkpoint.history
    if setup.batch_size < (checkpoint.batch_size or asked):
        checkpoint.change_batch_size(asked, setup.batch_size, training.steps)
    if checkpoint.stopped or checkpoint.epoch >= phase.epochs:
        # Killed between the last epoch and the end of the phase.
        checkpoint.restore_callbacks()
        trainer.set_weights(stopper.best_weights)
    else:
        try:
            _run(trainer, training, validation, setup, phase, stopper, checkpoint)
        except (KeyboardInterrupt, FloatingPointError) as stopped:
            if stopper.best_weights is None:
                _assign(start)
            else:
                trainer.set_weights(stopper.best_weights)
            raise _interruption(stopped, phase, model, setup) from None
        except Exception as error:
            # Whoever begins again in smaller batches begins where this has.
            if errors.is_out_of_memory(error):
                _assign(start)
            raise
    kept = range(checkpoint.epoch)
    checkpoint.history["kept"] = [float(e == stopper.best_epoch) for e in kept]
    checkpoint.finished = True
    checkpoint.write()
    print(
        f"{phase.name:>15}  {selection.outcome(stopper, checkpoint, setup, phase)}",
        flush=True,
    )
    return checkpoint.history


def _assign(values):
    for variable, value in values:
        variable.assign(value)


def prepare(
    model: keras.Model, splits: Splits, setup: Setup, phase: Phase
) -> tuple[keras.Model, pipeline.Training]:
    """Return a compiled model for a phase, and its batches, without training it.

    Raises:
        InputError: As `fit`.
    """
    _check_types(model, splits, setup, phase)
    checks.check(model, splits, setup, phase)
    part, data = precompute_frozen(model, splits, setup, test=False)
    checks.check_logits(part, data, setup)
    training = _training(data, setup)
    trainer, _ = _compile(part, data, setup, phase, training.steps)
    return trainer, training


@contextlib.contextmanager
def rehearsal(
    model: keras.Model, splits: Splits, setup: Setup, phase: Phase
) -> Iterator[tuple[keras.Model, pipeline.Training]]:
    """Yield what `prepare` returns, to train on; afterwards `model` is as it was.

    Raises:
        InputError: As `fit`.
    """
    # A model of its own over the same layers: the compiled state of `model`, its
    # optimizer with it, is not touched.
    with setup.placement.scope():
        own = keras.Model(splitting.inputs(model), model.outputs[0], name=model.name)
    trainer, training = prepare(own, splits, setup, phase)
    start = [(variable, keras.ops.copy(variable)) for variable in trainer.variables]
    try:
        yield trainer, training
    finally:
        _assign(start)


def _training(splits, setup) -> pipeline.Training:
    return pipeline.Training(
        splits.train,
        setup.batch_size,
        setup.seed,
        setup.augment,
        setup.objective.num_classes(splits),
        setup.mix,
        setup.class_weights,
        setup.objective.weights(splits.train),
        setup.placement.share,
    )


def precompute_frozen(
    model: keras.Model, splits: Splits, setup: Setup, *, test: bool = True
) -> tuple[keras.Model, Splits]:
    """Run the layers of a model that cannot change once over all three splits.

    A phase does as much by itself, for training and validation. Phases that unfreeze
    more and more layers share fewer: call this first, with everything unfrozen that any
    of them will unfreeze, and pass its result to all of them.

    Args:
        model: A functional model; the first layer that trains or is random now, and all
            above it, are kept.
        splits: Its data.
        setup: Settings that all phases share. Where it augments images anew in every
            epoch, nothing can be run beforehand.
        test: Whether to run over the test split too.

    Returns:
        A model that shares the layers of `model` above the cut, and the data with
        features in place of its inputs; `model` and its inputs in memory, where there
        is nothing to cut, or, with a warning, no room for the features.
    """
    names = ("train", "validation", "test") if test else ("train", "validation")
    cut = _frozen_cut(model, splits, setup)
    if cut is not None:
        stem, _ = splitting.split_at(model, cut)
        copied = _with_copies(splits, setup)
        count = sum(len(getattr(copied, name)) for name in names)
        if features.has_room(stem, count, setup.cache):
            # The stem predicts on one device; built in the scope, it would return every
            # row once for each replica.
            with setup.placement.scope():
                _, tail = splitting.split_at(model, cut)
            try:
                extracted = {
                    name: features.extract(
                        stem,
                        getattr(copied, name),
                        cache=setup.cache,
                        title=f"features, {name}",
                    )
                    for name in names
                }
            except (OSError, errors.StorageError) as error:
                reason = f"cannot be kept ({errors.reason(error)})"
            else:
                return tail, replace(copied, **extracted)
        else:
            reason = "fit neither into the free memory nor into a cache"
        errors.warn(
            f"The features of {count:,} examples {reason}: the frozen layers run again "
            "in every epoch."
        )
    return model, replace(
        splits, **{name: read_once(getattr(splits, name)) for name in names}
    )


def _frozen_cut(model, splits, setup):
    """Return the tensor up to which a model can run beforehand, or `None`."""
    copies = setup.augmented_copies or splits.train.copies > 1
    if setup.mix is not None or (setup.augment is not None and not copies):
        return None
    cut = splitting.frozen_cut(model)
    return None if cut is None else cut[1]


def _with_copies(splits, setup):
    """Replace the training images by augmented copies, where they are wanted."""
    wanted = setup.augment is not None and setup.augmented_copies
    if not wanted or splits.train.copies > 1:
        return splits
    train = pipeline.with_copies(
        splits.train, setup.augment, setup.seed, setup.augmented_copies
    )
    return replace(splits, train=train)


def _check_types(model, splits, setup, phase):
    for name, value, kind in (
        ("model", model, keras.Model),
        ("splits", splits, Splits),
        ("setup", setup, Setup),
        ("phase", phase, Phase),
    ):
        if not isinstance(value, kind):
            raise errors.InputError(
                f"`{name}` must be of type {kind.__name__}: `fit(model, splits, setup, "
                f"phase)`. Received: {type(value).__name__}"
            )


def _compile(model, splits, setup, phase, steps):
    """Compile a model for a phase; return it, and the directions of its metrics."""
    objective, placement = setup.objective, setup.placement
    directions = dict(objective.directions)
    with placement.scope():
        if phase.method is not None:
            term = phase.method(model, phase.epochs * steps)
            directions |= {m.metric.name: m.direction for m in term.metrics}
            # It shares the variables: what trains in it has trained in `model`.
            model = terms.TermModel(
                model, term, _label_columns(splits, objective), phase.epochs * steps
            )
        prepare_layers(placement, model)
        model.compile(
            optimizer=phase.optimizer(
                phase.schedule(phase.learning_rate, phase.epochs, steps)
            ),
            loss=objective.loss(setup.label_smoothing),
            weighted_metrics=objective.metrics(),
            **compile_options(placement, setup.batch_size * model.count_params()),
        )
        prepare_optimizer(placement, model.optimizer)
        check_model(placement, model)
        model.optimizer.build(model.trainable_variables)
    checks.check_choice(setup, directions)
    return model, directions


def _label_columns(splits, objective):
    labels = splits.train.labels
    return labels.shape[1] if labels.ndim == 2 else objective.num_classes(splits)


def _run(trainer, training, validation, setup, phase, stopper, checkpoint):
    """Run the epochs of a phase that are not done yet."""
    batches, set_epoch = training.epochs()
    callbacks = [
        *selection.callbacks(trainer, validation, setup, phase, stopper, checkpoint),
        keras.callbacks.LambdaCallback(
            on_epoch_begin=lambda epoch, logs: set_epoch(phase.first_epoch + epoch)
        ),
    ]
    if setup.tensorboard is not None:
        errors.check_installed("tensorboard", extra="tensorboard")
        folder = Path(setup.tensorboard) / phase.name.replace(" ", "-")
        callbacks.append(keras.callbacks.TensorBoard(folder, write_graph=False))
    progress = PhaseProgress(
        phase.name, phase.epochs, training.steps, setup.objective.metric
    )
    # With the number of steps, Keras begins one pass an epoch over the dataset, without
    # it two. It begins the pass before the epoch is set, which is read with the first
    # batch; several devices read ahead at once.
    alone = not setup.placement.mirrored
    try:
        trainer.fit(
            setup.placement.distribute(batches),
            initial_epoch=checkpoint.epoch,
            epochs=phase.epochs,
            steps_per_epoch=training.steps if alone else None,
            validation_data=validation,
            callbacks=[
                *callbacks,
                *([] if phase.probe is None else [FollowProbe(phase.probe)]),
                *([] if phase.until is None else [StopInTime(phase.until)]),
                *([] if workers.current() is None else [WatchWorkers()]),
                *(StopOnNonFinite(), progress, checkpoint),
            ],
            shuffle=False,
            verbose=0,
        )
    finally:
        progress.close()


def _state_file(setup, phase):
    if setup.state is None:
        return None
    Path(setup.state).mkdir(parents=True, exist_ok=True)
    return Path(setup.state) / f"{phase.name.replace(' ', '-')}.npz"


def _interruption(stopped, phase, model, setup) -> BaseException:
    """Build the error that names why a phase stopped and where its weights are."""
    kept = "The model has its best weights so far."
    # The folders of other workers are removed when they end.
    if setup.state is not None and clusters.is_chief():
        path = Path(setup.state) / "interrupted.keras"
        saving.save(model, path)
        kept = f"The best weights so far are in {path}."
    if isinstance(stopped, KeyboardInterrupt):
        return KeyboardInterrupt(kept)
    advice = "Try a smaller learning_rate"
    if setup.placement.precision != "float32":
        advice += ", or float32 precision"
    return errors.InputError(f"{phase.name}: {stopped} {kept} {advice}.")
