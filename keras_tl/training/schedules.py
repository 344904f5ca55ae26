"""Schedules of the learning rate over a phase.

A schedule is a function from the largest learning rate, the number of epochs and the
steps of an epoch to the `learning_rate` of a Keras optimizer. The phases call it, since
they know the number of steps.
"""

import math
from collections.abc import Callable

import keras
from keras import ops

from keras_tl import errors

Rate = float | keras.optimizers.schedules.LearningRateSchedule
Schedule = Callable[[float, int, int], Rate]


def constant(learning_rate: float, epochs: int, steps: int) -> Rate:
    """Return a constant learning rate."""
    return learning_rate


def cosine(learning_rate: float, epochs: int, steps: int) -> Rate:
    """Return a learning rate that falls to 0 along half a cosine.

    Reference:
        Loshchilov and Hutter, "SGDR", 2016, arXiv:1608.03983.
    """
    return keras.optimizers.schedules.CosineDecay(learning_rate, epochs * steps)


def warmup_cosine(*, warmup: float = 0.1) -> Schedule:
    """Build a schedule that rises from 0 linearly, then falls to 0 along a cosine.

    Args:
        warmup: Share of all steps in which it rises, in (0, 1), at least one step.

    Raises:
        InputError: `warmup` is out of range, or, when the schedule is asked for its
            rate, there is only one step.

    >>> schedule = warmup_cosine(warmup=0.25)(0.1, epochs=2, steps=10)
    >>> [round(float(schedule(step)), 3) for step in (0, 5, 20)]
    [0.0, 0.1, 0.0]
    """
    _check_share("warmup", warmup)

    def schedule(learning_rate, epochs, steps):
        rise = _whole("warmup", warmup, epochs * steps)
        return keras.optimizers.schedules.CosineDecay(
            0.0,
            epochs * steps - rise,
            warmup_target=learning_rate,
            warmup_steps=rise,
        )

    return schedule


def one_cycle(*, rise: float = 0.25, start: float = 25.0, end: float = 1e5) -> Schedule:
    """Build a schedule that rises and falls once, both along half a cosine.

    As fastai's `fit_one_cycle`, without its cycle of the momentum.

    Args:
        rise: Share of all steps in which it rises, in (0, 1).
        start: Factor by which the first rate is smaller than the largest, at least 1.
        end: Factor by which the last is smaller, at least 1.

    Raises:
        InputError: A value out of range, or, when the schedule is asked for its rate,
            only one step.

    Reference:
        Smith and Topin, "Super-convergence", 2017, arXiv:1708.07120.

    >>> schedule = one_cycle()(0.1, epochs=4, steps=5)
    >>> [round(float(schedule(step)), 4) for step in (0, 5, 20)]
    [0.004, 0.1, 0.0]
    """
    _check_share("rise", rise)
    errors.check_at_least("start", start, 1)
    errors.check_at_least("end", end, 1)

    def schedule(learning_rate, epochs, steps):
        up = _whole("rise", rise, epochs * steps)
        return OneCycle(learning_rate, up, epochs * steps, start, end)

    return schedule


def step_decay(*, every: int = 7, factor: float = 0.1) -> Schedule:
    """Build a schedule that is multiplied by a factor every few epochs.

    Args:
        every: Number of epochs, at least 1.
        factor: In (0, 1].

    Raises:
        InputError: A value out of range.

    Reference:
        https://pytorch.org/tutorials/beginner/transfer_learning_tutorial.html, whose
        `StepLR(step_size=7, gamma=0.1)` it is.

    >>> schedule = step_decay(every=2)(1.0, epochs=6, steps=10)
    >>> [round(float(schedule(step)), 4) for step in (19, 20, 45)]
    [1.0, 0.1, 0.01]
    """
    errors.check_at_least("every", every, 1)
    if not 0 < factor <= 1:
        raise errors.expected("factor", "be in (0, 1]", factor)

    def schedule(learning_rate, epochs, steps):
        falls = range(1, math.ceil(epochs / every))
        if not falls:
            return learning_rate
        return keras.optimizers.schedules.PiecewiseConstantDecay(
            # A boundary is the last step of the rate before it.
            [every * steps * n - 1 for n in falls],
            [learning_rate * factor**n for n in (0, *falls)],
        )

    return schedule


@keras.saving.register_keras_serializable("keras_tl")
class OneCycle(keras.optimizers.schedules.LearningRateSchedule):
    """The learning rates of `one_cycle`.

    Args:
        learning_rate: The largest rate.
        rise: Steps until it is reached.
        steps: All steps.
        start: See `one_cycle`.
        end: See `one_cycle`.
    """

    def __init__(
        self, learning_rate: float, rise: int, steps: int, start: float, end: float
    ):
        super().__init__()
        self.learning_rate, self.rise, self.steps = learning_rate, rise, steps
        self.start, self.end = start, end

    def __call__(self, step):
        step = ops.cast(step, "float32")
        # 0 at the start, 1 at the top; then 0 at the top, 1 at the end.
        up = step / self.rise
        down = ops.clip((step - self.rise) / max(self.steps - self.rise, 1), 0.0, 1.0)
        low, high, last = (
            self.learning_rate / self.start,
            self.learning_rate,
            self.learning_rate / self.end,
        )
        rising = low + (high - low) * (1 - ops.cos(math.pi * up)) / 2
        falling = last + (high - last) * (1 + ops.cos(math.pi * down)) / 2
        return ops.where(step < self.rise, rising, falling)

    def get_config(self):
        return {
            "learning_rate": self.learning_rate,
            "rise": self.rise,
            "steps": self.steps,
            "start": self.start,
            "end": self.end,
        }


def _check_share(argument, value):
    if not 0 < value < 1:
        raise errors.expected(argument, "be in (0, 1)", value)


def _whole(argument, share, steps):
    """Turn a share of all steps into whole ones: at least one, and not all."""
    if steps < 2:
        raise errors.InputError(
            f"`{argument}` needs two steps, one to rise in and one to fall. This phase "
            f"has {steps}: train more epochs, or choose a schedule without it."
        )
    return min(max(1, round(share * steps)), steps - 1)
