"""How long training takes on this machine, measured on a few batches; and its end."""

import itertools
import time
from dataclasses import dataclass, replace

import keras
import numpy as np

from keras_tl.data.sources import Source
from keras_tl.data.splits import Splits
from keras_tl.training import phases, schedules, workers


@dataclass(frozen=True)
class Speed:
    """Seconds that a phase takes on this machine.

    Attributes:
        start: Seconds until the first step and the first evaluation are done: Keras
            traces both.
        train: Seconds of one training example in an epoch.
        evaluate: Seconds of one validation example in an epoch.
    """

    start: float
    train: float
    evaluate: float

    def epoch(self, splits: Splits) -> float:
        """Return the seconds of an epoch over some data."""
        return len(splits.train) * self.train + len(splits.validation) * self.evaluate


def forward(
    model: keras.Model, inputs: Source | None = None, *, examples: int = 32
) -> float:
    """Measure the seconds that a model takes for one example, without training.

    Args:
        model: A functional model.
        inputs: Examples of what it takes, at least one; by default a model of images
            sees noise.
        examples: Number of examples of the batch that is timed.
    """
    if inputs is None:
        shape = (examples, *model.inputs[0].shape[1:])
        batch = np.random.default_rng(0).integers(0, 256, shape, "uint8")
    else:
        batch = inputs.read(np.arange(examples) % len(inputs))
    model.predict_on_batch(batch)
    started = time.perf_counter()
    model.predict_on_batch(batch)
    return workers.from_chief((time.perf_counter() - started) / examples)


def measure(
    model: keras.Model,
    splits: Splits,
    setup: phases.Setup,
    phase: phases.Phase,
    *,
    steps: int = 4,
) -> Speed:
    """Measure a phase on its first batches, and leave the model as it was.

    Args:
        model: A model with its layers frozen as they are to train.
        splits: Its data; only a few examples of training and validation are read.
        setup: Settings that all phases share.
        phase: The phase.
        steps: Number of steps that are timed, after the first.

    Raises:
        InputError: As `phases.fit`.
    """
    count = min(len(splits.train), (steps + 1) * setup.batch_size)
    few = replace(
        splits,
        train=splits.train.take(range(count)),
        validation=splits.validation.take(range(min(len(splits.validation), count))),
    )
    tested = replace(phase, epochs=1, schedule=schedules.constant)
    setup = replace(setup, state=None)
    with phases.rehearsal(model, few, setup, tested) as (trainer, training):
        dataset, set_epoch = training.epochs()
        set_epoch(0)
        started = time.perf_counter()
        batches = itertools.cycle(list(itertools.islice(dataset, training.steps)))
        trainer.train_on_batch(*next(batches))
        x, y, weights = next(batches)
        trainer.test_on_batch(x, y, weights)
        ready = time.perf_counter()
        # The batches are made again: in training, that is part of a step.
        set_epoch(1)
        again = itertools.cycle(iter(dataset))
        for _ in range(steps):
            trainer.train_on_batch(*next(again))
        trained = time.perf_counter()
        trainer.test_on_batch(x, y, weights)
        evaluated = time.perf_counter()
    rows = steps * setup.batch_size
    evaluate = (evaluated - trained) / len(weights)
    # All workers have to plan the same.
    return Speed(
        *workers.from_chief([ready - started, (trained - ready) / rows, evaluate])
    )
