"""Find a learning rate: train some steps with growing rates, and observe the loss."""

import itertools
import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

import keras
import numpy as np

from keras_tl import errors, progress
from keras_tl.data.splits import Splits
from keras_tl.training import phases, schedules, workers

# fastai's: share of the past in the smoothed loss, and how often the smallest smoothed
# loss ends the test.
SMOOTHING, DIVERGED = 0.98, 4.0


@dataclass(frozen=True)
class RateTest:
    """Losses by learning rate, and the learning rates that they suggest.

    Attributes:
        rates: Learning rate of each step, growing.
        losses: Loss of each step's batch.
        smoothed: Running mean of the losses, corrected for its start.
        steepest: Rate at which the smoothed loss falls fastest.
        valley: Rate in the middle of the longest fall of the smoothed loss; usually the
            better choice, since it is less moved by single batches.
    """

    rates: np.ndarray
    losses: np.ndarray
    smoothed: np.ndarray
    steepest: float
    valley: float

    def __str__(self) -> str:
        return (
            f"Learning rate: valley {self.valley:.2g}, steepest {self.steepest:.2g}; "
            f"{len(self.rates)} steps, up to {self.rates[-1]:.2g}."
        )


def find(
    model: keras.Model,
    splits: Splits,
    setup: phases.Setup,
    phase: phases.Phase,
    *,
    lowest: float = 1e-7,
    highest: float = 10.0,
    steps: int = 100,
) -> RateTest:
    """Test learning rates on the training split, and leave the model as it was.

    The learning rate grows by the same factor in every step; the test ends early where
    the smoothed loss is above four times its smallest value, or not finite. The loss is
    the one that the phase minimizes; frozen layers run once, as in the phase.

    Args:
        model: A model with its layers frozen as they are to train.
        splits: Its data; only training and validation splits are read.
        setup: Settings that all phases share.
        phase: The phase whose optimizer and method are tested.
        lowest: Learning rate of the first step, above 0.
        highest: Learning rate of the last step, above `lowest`.
        steps: Largest number of steps, at least 20.

    Raises:
        InputError: A value out of range, nothing that trains, or a loss that is not
            finite before ten steps are done.

    Reference:
        Smith, "Cyclical learning rates", 2015, arXiv:1506.01186, section 3.3; smoothing
        and suggestions as in fastai's `lr_find`.
    """
    if not 0 < lowest < highest:
        raise errors.expected("lowest", f"be above 0 and below {highest:g}", lowest)
    errors.check_at_least("steps", steps, 20)
    tested = replace(phase, learning_rate=lowest, schedule=schedules.constant)
    rates = np.geomspace(lowest, highest, steps)
    with phases.rehearsal(model, splits, setup, tested) as (trainer, training):
        losses = _losses(trainer, training, rates)
    rates = rates[: len(losses)]
    if len(losses) < 10:
        raise errors.InputError(
            f"The loss was not finite after {len(losses)} steps, at a rate of "
            f"{rates[-1] if len(rates) else lowest:.2g}. Begin lower: `lowest`."
        )
    smoothed = smooth(losses)
    return RateTest(rates, losses, smoothed, *suggest(rates, smoothed))


def _losses(trainer, training, rates):
    dataset, set_epoch = training.epochs()
    losses = []

    def batches():
        # Without a batch that is filled up: its loss is smaller, by the rows that weigh
        # nothing.
        for epoch in range(math.ceil(len(rates) / training.full_steps)):
            set_epoch(epoch)
            yield from itertools.islice(dataset, training.full_steps)

    steps = progress.track(rates, "learning rates", len(rates))
    for rate, (x, y, weights) in zip(steps, batches(), strict=False):
        trainer.optimizer.learning_rate = rate
        trainer.reset_metrics()
        logs = trainer.train_on_batch(x, y, sample_weight=weights, return_dict=True)
        loss = workers.mean(float(logs["loss"]))
        if not math.isfinite(loss):
            break
        losses.append(loss)
        smoothed = smooth(losses)
        if smoothed[-1] > DIVERGED * smoothed.min():
            break
    return np.array(losses)


def smooth(losses: Sequence[float]) -> np.ndarray:
    """Compute the running mean of losses, corrected for its start at 0.

    >>> smooth(np.array([2.0, 2.0, 2.0]))
    array([2., 2., 2.])
    """
    mean, smoothed = 0.0, []
    for step, loss in enumerate(losses, start=1):
        mean = SMOOTHING * mean + (1 - SMOOTHING) * loss
        smoothed.append(mean / (1 - SMOOTHING**step))
    return np.array(smoothed)


def suggest(rates: np.ndarray, smoothed: np.ndarray) -> tuple[float, float]:
    """Return the rates `steepest` and `valley` of a test. See `RateTest`."""
    slope = np.diff(smoothed) / np.diff(np.log(rates))
    # Number of steps in the longest fall that ends at each step, rises left out.
    falls = np.ones(len(smoothed), int)
    for end in range(1, len(smoothed)):
        higher = falls[:end][smoothed[:end] > smoothed[end]]
        falls[end] += higher.max(initial=0)
    end = int(falls.argmax())
    return float(rates[slope.argmin()]), float(rates[end - falls[end] // 2])
