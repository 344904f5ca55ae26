"""When more pre-training no longer helps the task that it is for."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

from keras_tl import errors
from keras_tl.analysis.evaluation import in_points, wilson_interval


@dataclass(frozen=True)
class Stop:
    """The epoch after which pre-training gained no more than chance.

    Attributes:
        epoch: Its number, the first being 0.
        best: Number of the epoch with the highest accuracy after it, or its own.
        gain: Accuracy of `best` minus that of `epoch`, at least 0.
        interval: 95 % interval of the gain, see `unpaired_interval`.
        epochs: Number of epochs that there were.
    """

    epoch: int
    best: int
    gain: float
    interval: tuple[float, float]
    epochs: int

    def sentence(self) -> str:
        """Return what was gained by going on, as a sentence."""
        at = f"epoch {self.epoch + 1} of {self.epochs}"
        if self.epoch == self.epochs - 1:
            return (
                "The accuracy on the target still rises at the last epoch: more "
                "pre-training may help."
            )
        return (
            f"After {at}, pre-training gains no more on the target than chance: at "
            f"most {in_points(self.gain, self.interval)}, in epoch {self.best + 1}."
        )


def enough(accuracies: Sequence[float], count: int) -> Stop:
    """Find the first epoch after which no other is better by more than chance.

    For the accuracies of a probe on the target's validation examples, epoch by epoch,
    as `phases.Phase(probe=...)` leaves them in the history. It is told afterwards: the
    interval is that of one comparison, and the best of many later epochs is chosen, so
    that it is found late rather than early.

    Args:
        accuracies: In [0, 1], one for each epoch, at least one.
        count: Number of the examples that they are of.

    Raises:
        InputError: There is no accuracy, or one out of range.

    >>> enough([0.5, 0.7, 0.82, 0.83, 0.81], 400).epoch
    2
    >>> enough([0.5, 0.7, 0.9], 400).sentence()[:51]
    'The accuracy on the target still rises at the last '
    """
    errors.check_at_least("len(accuracies)", len(accuracies), 1)
    errors.check_at_least("count", count, 1)
    if not all(0 <= value <= 1 for value in accuracies):
        raise errors.expected("accuracies", "be in [0, 1]", list(accuracies))
    for epoch in range(len(accuracies)):
        best = max(range(epoch, len(accuracies)), key=accuracies.__getitem__)
        interval = unpaired_interval(accuracies[epoch], accuracies[best], count)
        # The last epoch is its own best, with a gain of 0.
        if interval[0] <= 0:
            break
    gain = accuracies[best] - accuracies[epoch]
    return Stop(epoch, best, gain, interval, len(accuracies))


def unpaired_interval(first: float, second: float, count: int) -> tuple[float, float]:
    """Compute the 95 % interval of the difference of two accuracies.

    That of R. G. Newcombe, Interval estimation for the difference between independent
    proportions, method 10, 1998,
    https://doi.org/10.1002/(SICI)1097-0258(19980430)17:8<873::AID-SIM779>3.0.CO;2-I.
    It takes the two as of examples of their own; for the same examples it is wider than
    need be, see `evaluation.compare`.

    Args:
        first: In [0, 1].
        second: In [0, 1].
        count: Number of examples of each.

    Returns:
        The ends of the interval of the second minus the first.

    >>> [round(end, 4) for end in unpaired_interval(48 / 80, 56 / 80, 80)]
    [-0.0472, 0.2414]
    """
    (low, high), (low_2, high_2) = (
        wilson_interval(round(value * count), count) for value in (first, second)
    )
    difference = second - first
    return (
        difference - math.hypot(second - low_2, high - first),
        difference + math.hypot(high_2 - second, first - low),
    )
