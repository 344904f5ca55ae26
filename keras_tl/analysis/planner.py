"""Decide how to train from what has been measured, and keep the reasons.

The rules follow the four quadrants of transfer learning: how many images there are, and
how similar they are to those that the backbone has learned from; and the time there is.
"""

from collections.abc import Mapping
from dataclasses import asdict, dataclass

import numpy as np

from keras_tl.data.splits import Splits

# Sides of images that are tried, the largest first.
SIZES = (224, 192, 160, 128, 96)
# Epochs of fine-tuning: fewer are not worth it, these are enough, and more rarely help.
FEWEST_EPOCHS, ENOUGH_EPOCHS, MOST_EPOCHS = 3, 8, 20
# A training step of a layer takes about three passes: forward, and backward twice.
_PASSES = 3


@dataclass(frozen=True)
class Decision:
    """A value that was decided, with its reason.

    Attributes:
        name: Name of the setting.
        value: Its value.
        reason: The reason, as a sentence without a capital letter.
    """

    name: str
    value: object
    reason: str

    def __str__(self) -> str:
        return f"{self.name.replace('_', ' '):>15}  {self.value}: {self.reason}"

    def as_dict(self) -> dict:
        """Return the decision ready for JSON."""
        return asdict(self)


def image_size(
    count: int, own_side: float, smallest: int, forward: float, seconds: float
) -> Decision:
    """Choose the largest image size at which fine-tuning has enough epochs.

    Args:
        count: Number of images, of which about 70 % train.
        own_side: Shorter side of an image in pixels: the median.
        smallest: Smallest side that suits the backbone.
        forward: Seconds of one image of 224 pixels through the backbone.
        seconds: Time that is left.

    Returns:
        One of `SIZES`, at most about 1.5 times the images' own size, as larger ones
        show no more; the smallest where not even that leaves enough time.
    """
    bound = max(128, 1.5 * own_side)
    sizes = [size for size in SIZES if smallest <= size <= bound] or [smallest]
    for size in sizes:
        one = forward * (size / 224) ** 2
        epoch = count * one * (0.7 * _PASSES + 0.15)
        needed = 1.15 * count * one + ENOUGH_EPOCHS * epoch
        if needed <= seconds:
            break
    reason = (
        f"the images have {own_side:.0f} pixels a side, and features and "
        f"{ENOUGH_EPOCHS} epochs take about {needed:.0f} s"
    )
    return Decision("image_size", size, reason)


def epochs(left: float, epoch: float, start: float) -> Decision:
    """Choose how many epochs of fine-tuning fit into the time that is left.

    Args:
        left: Seconds for fine-tuning, with its start.
        epoch: Seconds of one epoch.
        start: Seconds until the first step.
    """
    count = int(max(0.0, left - start) / max(epoch, 1e-6))
    count = min(count, MOST_EPOCHS)
    if count < FEWEST_EPOCHS:
        count = 0
    timing = f"an epoch takes {epoch:.1f} s, and {max(left, 0):.0f} s are left"
    if count == MOST_EPOCHS:
        timing += "; more rarely help"
    elif not count:
        timing += f", too few for {FEWEST_EPOCHS}: the backbone stays frozen"
    return Decision("epochs", count, timing)


def fine_tuning(splits: Splits, blocks: Mapping[str, list[str]]) -> list[Decision]:
    """Decide what is fine-tuned, at which rate and with which augmentation.

    Args:
        splits: The data.
        blocks: Blocks of the model, from the input to the output.

    Returns:
        Decisions of `freeze`, `learning_rate` and `augment`.
    """
    names = list(blocks)
    each = len(splits.train) // max(1, len(splits.class_names))
    last = names[len(names) // 2 - 1]
    return [
        Decision(
            "freeze", last, f"the half next to the input stays, {each} images each"
        ),
        Decision("learning_rate", 2e-4, "a tenth of what a new head takes"),
        Decision("augment", "none", "frozen layers then run only once"),
    ]


def describe_balance(splits: Splits) -> str | None:
    """Return a sentence on classes that are rare, or `None`."""
    if splits.task != "single-label":
        return None
    counts = np.bincount(splits.train.labels, minlength=len(splits.class_names))
    rare, common = counts.argmin(), counts.argmax()
    if counts[common] < 4 * counts[rare]:
        return None
    return (
        f"Of {splits.class_names[rare]} there are {counts[rare]:,} training images, of "
        f"{splits.class_names[common]} {counts[common]:,}: with --class-weights they "
        "count alike."
    )
