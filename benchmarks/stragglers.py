"""Simulate synchronous training: many GPUs wait for the slowest, in every step.

Each GPU has readers of its own that read batches ahead, in order, and a buffer that
bounds how far. A step begins on a GPU once its batch is there, takes as long as it
takes, and ends for all when the last is done and the gradients are added. Times are in
units of the mean step. `tests/test_scaling.py` checks it against closed forms.
"""

from collections.abc import Callable

import numpy as np

# From a generator and a number to so many random times.
Draw = Callable[[np.random.Generator, int], np.ndarray]


def constant(value: float) -> Draw:
    """Return times that do not vary."""
    return lambda rng, count: np.full(count, value)


def exponential(mean: float) -> Draw:
    """Return exponential times."""
    return lambda rng, count: rng.exponential(mean, count)


def lognormal(mean: float, sigma: float) -> Draw:
    """Return lognormal times; `sigma` is the standard deviation of their logarithm."""
    return lambda rng, count: mean * rng.lognormal(-(sigma**2) / 2, sigma, count)


def with_stragglers(draw: Draw, share: float, times: float) -> Draw:
    """Return times of which some, a share at random, are so many times as long."""

    def drawn(rng, count):
        return draw(rng, count) * np.where(rng.random(count) < share, times, 1.0)

    return drawn


def step_time(
    gpus: int,
    steps: int,
    compute: Draw,
    *,
    reduce: float = 0.0,
    read: Draw | None = None,
    readers: int = 1,
    depth: int = 1,
    seed: int = 0,
) -> float:
    """Simulate training and return the mean time of a step, the first quarter left out.

    Args:
        gpus: Number of GPUs.
        steps: Number of steps.
        compute: Times of a step on a GPU.
        reduce: Time to add the gradients.
        read: Times to read a batch; `None` has all batches there.
        readers: Number of batches that a GPU's processors read at the same time.
        depth: Number of batches that are read ahead of the step that runs; with 0 the
            reading of a batch begins when the step before it has ended.
        seed: Of the random times.

    >>> step_time(4, 100, constant(1.0), reduce=0.5)
    1.5
    """
    rng = np.random.default_rng(seed)
    every = np.arange(gpus)
    free = np.zeros((gpus, readers))
    taken = np.zeros((max(depth, 1), gpus))
    ended, after = 0.0, 0.0
    for step in range(steps):
        begins = np.full(gpus, ended)
        if read is not None:
            # Its place in the buffer is free once the batch before it was taken.
            place = taken[step % len(taken)] if depth else begins
            reader = free.argmin(1)
            ready = np.maximum(free[every, reader], place) + read(rng, gpus)
            free[every, reader] = ready
            begins = np.maximum(begins, ready)
            taken[step % len(taken)] = begins
        ended = float((begins + compute(rng, gpus)).max()) + reduce
        if step == steps // 4 - 1:
            after = ended
    return (ended - after) / (steps - steps // 4)


# Name -> times of a step on a GPU, and the mean of the largest of so many where it is
# known.
STEPS = {
    "no variance": (constant(1.0), lambda gpus: 1.0),
    "lognormal, 5 %": (lognormal(1.0, 0.05), None),
    "lognormal, 20 %": (lognormal(1.0, 0.2), None),
    "1 of 1,000 takes 3 times as long": (
        with_stragglers(constant(1.0), 0.001, 3.0),
        lambda gpus: 1 + 2 * (1 - 0.999**gpus),
    ),
    "exponential": (
        exponential(1.0),
        lambda gpus: sum(1 / k for k in range(1, gpus + 1)),
    ),
}
# Name -> times to read a batch, with 8 readers for each GPU.
READERS = 8
READS = {
    "even": lognormal(4.0, 0.1),
    "uneven": lognormal(4.0, 0.5),
    "uneven, 1 of 100 takes 10 times as long": with_stragglers(
        lognormal(4.0, 0.5), 0.01, 10.0
    ),
    "too slow": lognormal(10.0, 0.5),
}
GPUS, DEPTHS = (8, 64, 512), (0, 1, 2, 4, 8, 16, 32, 64, 128)


def scenarios(steps: int = 2000) -> dict[str, list[dict]]:
    """Simulate uneven steps, and uneven reading with more and more of it ahead."""
    return {
        "steps": [
            {
                "times": name,
                "gpus": gpus,
                "step": step_time(gpus, steps, draw),
                "closed_form": exact(gpus) if exact else None,
            }
            for name, (draw, exact) in STEPS.items()
            for gpus in GPUS
        ],
        "reads": [
            {
                "times": name,
                "gpus": gpus,
                "depth": depth,
                "step": step_time(
                    gpus,
                    steps,
                    constant(1.0),
                    read=draw,
                    readers=READERS,
                    depth=depth,
                ),
            }
            for name, draw in READS.items()
            for gpus in GPUS
            for depth in DEPTHS
        ],
    }
