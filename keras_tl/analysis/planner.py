"""Decide how to train from what has been measured, and keep the reasons.

The quadrants of transfer learning are how many examples there are, and how similar they
are to those that the backbone has learned from. Here they decide the number of epochs
and the random changes of images. How much is fine-tuned is a matter of time: from the
head of a linear probe, with BatchNormalization frozen and at a small rate, training all
layers was best in every quadrant of the recipe `four_quadrants`. No penalty is planned:
`few_labels` has measured no gain that would be worth its time.
"""

import bisect
import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace

import keras
import numpy as np

from keras_tl import errors
from keras_tl.analysis import probe
from keras_tl.data import splits as data_splits
from keras_tl.data.sources import NOUNS, as_source
from keras_tl.data.splits import Split, Splits, balanced
from keras_tl.models import freezing, taps
from keras_tl.training import features

# Sides of images that are tried, the largest first.
SIZES = (224, 192, 160, 128, 96)
# Epochs of fine-tuning: fewer are not worth it, these are enough, and more rarely help.
FEWEST_EPOCHS, ENOUGH_EPOCHS, MOST_EPOCHS = 3, 6, 20
# Examples of each split that are used in any case; and how many times fewer of
# validation and test than of training, where a part is drawn.
FEWEST_EXAMPLES, _REST = 500, 4
# Steps of an epoch from which on a single one is worth it; and steps in all, which few
# examples have in more epochs.
_MANY_STEPS, _MOST_STEPS = 100, 300
# Share of the texts that are read to their end; fewest tokens where time is short, as
# the beginning of a text tells most; and what numbers of tokens are multiples of.
_WHOLE, _FEWEST_TOKENS, _TOKENS = 95, 64, 8
# Epochs from which on random changes of the images pay.
LONG_EPOCHS = 10
# A training step of a layer takes about three passes: forward, and backward twice.
_PASSES = 3
# Images that the size is chosen with: of more, a part is drawn rather than a smaller
# size taken.
_SIZED_WITH = 3000


@dataclass(frozen=True)
class Decision:
    """A value that was decided, with its reason.

    Attributes:
        name: Name of the setting.
        value: Its value.
        reason: The reason, as a sentence without a capital letter.
        findings: What the check of the data has noticed: code, message and page of
            the documentation.
    """

    name: str
    value: object
    reason: str
    findings: Sequence[Mapping] = ()

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
        count: Number of images, of which about 70 % train; of very many, `limit`
            takes a part.
        own_side: Shorter side of an image in pixels: the median.
        smallest: Smallest side that suits the backbone.
        forward: Seconds of one image of 224 pixels through the backbone.
        seconds: Time that is left.

    Returns:
        One of `SIZES`, at most about 1.5 times the images' own size, as larger ones
        show no more; the smallest where not even that leaves enough time.
    """
    count = min(count, _SIZED_WITH)
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
        f"{ENOUGH_EPOCHS} epochs of {count:,} take about {needed:.0f} s"
    )
    return Decision("image_size", size, reason)


def tokens_of(lengths: np.ndarray, most: int) -> int:
    """Return a number of tokens that nearly all texts fit into.

    Args:
        lengths: Number of tokens of each text, int `(count,)`.
        most: Largest number that the backbone takes.

    >>> tokens_of(np.array([3, 5, 11]), most=512)
    16
    """
    enough = math.ceil(np.percentile(lengths, _WHOLE) / _TOKENS) * _TOKENS
    return min(max(enough, _TOKENS), most)


def sequence_length(
    count: int, lengths: np.ndarray, most: int, forward: float, seconds: float
) -> Decision:
    """Choose how many tokens of a text are read.

    Args:
        count: Number of texts, of which about 70 % train; of very many, `limit` takes a
            part.
        lengths: Number of tokens of each of some texts, int `(some,)`.
        most: Largest number of tokens that the backbone takes.
        forward: Seconds of one text of `tokens_of` tokens through the backbone.
        seconds: Time that is left.

    Returns:
        What 95 % of the texts fit into; where that leaves no time for enough epochs of
        fine-tuning, a half or a quarter of it and so on, but no fewer than 64 tokens.
    """
    count = min(count, _SIZED_WITH)
    wanted = chosen = tokens_of(lengths, most)

    def needed(tokens: int) -> float:
        # See `image_size`.
        each = 1.15 + ENOUGH_EPOCHS * (0.7 * _PASSES + 0.15)
        return forward * tokens / wanted * count * each

    while needed(chosen) > seconds and chosen // 2 >= _FEWEST_TOKENS:
        chosen //= 2
    cut = int((lengths > chosen).sum())
    reason = (
        f"the texts have {np.median(lengths):.0f} tokens in the median and "
        f"{lengths.max():,} at most"
    )
    if wanted == most:
        reason += f", of which the backbone takes {most:,}"
    if chosen < wanted:
        reason += f"; for {wanted:,} there is no time"
    return Decision(
        "sequence_length", chosen, f"{reason}; {cut / len(lengths):.1%} are cut"
    )


def limit(
    splits: Splits, forward: float, seconds: float, *, tunes: bool = True
) -> Decision | None:
    """Choose how many training examples there is time for, see `limited`.

    Args:
        splits: The data.
        forward: Seconds of one example through the backbone.
        seconds: Time that is left.
        tunes: Whether the backbone is fine-tuned; its upper half, for the fewest epochs
            that are worth it, is then counted.

    Returns:
        The number; `None` if there is time for all of them, or if they are few anyway.
    """
    epochs = FEWEST_EPOCHS if tunes else 0

    def needed(count: int) -> float:
        train = min(count, len(splits.train)) * (1 + epochs * _PASSES / 2)
        rest = _rest(count)
        validation = min(rest, len(splits.validation)) * (1 + (epochs + 1) / 2)
        test = min(rest, len(splits.test)) * (2 if tunes else 1)
        return forward * (train + validation + test)

    most = len(splits.train)
    if most <= FEWEST_EXAMPLES or needed(most) <= seconds:
        return None
    fitting = bisect.bisect_right(range(most), seconds, key=needed) - 1
    count = max(FEWEST_EXAMPLES, fitting)
    reason = f"all {most:,} training {_nouns(splits)} take {needed(most):.0f} s"
    return Decision("limit", count, f"{reason}, and {max(seconds, 0):.0f} s are left")


def limited(splits: Splits, count: int | None, *, seed: int) -> Splits:
    """Draw at most `count` training examples, and a quarter as many of other splits.

    Of those, 500 are kept in any case. The classes are balanced, see `splits.limit`.
    """
    if count is None:
        return splits
    rest = data_splits.limit(splits, _rest(count), seed=seed)
    train = data_splits.limit(splits, count, seed=seed).train
    return replace(rest, train=train)


def _rest(count: int) -> int:
    """Return how many examples of validation, and of test, go with the training."""
    return max(FEWEST_EXAMPLES, count // _REST)


def _nouns(splits: Splits) -> str:
    """Return the name of several examples, for people."""
    return NOUNS.get(splits.train.inputs.kind, "examples")


def full_epochs(splits: Splits, forward: float, left: float) -> float:
    """Estimate how many epochs with nothing frozen there is time for.

    Args:
        splits: The data.
        forward: Seconds of one example through the backbone.
        left: Seconds that are left.
    """
    count = sum(len(split) for _, split in splits.items()) + len(splits.test)
    epoch = forward * (len(splits.train) * _PASSES + len(splits.validation))
    return max(0.0, left - count * forward) / epoch


def epochs(
    left: float,
    epoch: float,
    start: float,
    *,
    steps: int = 20,
    most: int = MOST_EPOCHS,
    transfer: bool = True,
) -> Decision:
    """Choose how many epochs fit into the time that is left.

    Args:
        left: Seconds for these epochs, with their start.
        epoch: Seconds of one epoch.
        start: Seconds until the first step.
        steps: Number of steps of an epoch.
        most: Epochs that are enough; of few steps, more are.
        transfer: Whether the backbone is pretrained, and may stay frozen.
    """
    fewest = 1 if steps >= _MANY_STEPS else FEWEST_EPOCHS
    most = max(most, math.ceil(_MOST_STEPS / max(1, steps)))
    count = int(max(0.0, left - start) / max(epoch, 1e-6))
    count = min(count, most)
    timing = f"an epoch takes {epoch:.1f} s, and {max(left, 0):.0f} s are left"
    if count < fewest and transfer:
        count = 0
        timing += f", too few for {fewest}: the backbone stays frozen"
    elif count < fewest:
        count = fewest
        timing += f", too few; without transfer {fewest} are the least"
    elif count == most:
        timing += "; more rarely help"
    return Decision("epochs", count, timing)


# Share of the errors of a probe on the middle block that the last takes away, of images
# that are like those of the pre-training.
_HELPS = 0.1


@dataclass(frozen=True)
class Similarity:
    """How near the images are to those that a backbone has learned from, measured.

    Attributes:
        curve: Block -> validation accuracy of a linear probe on its pooled output, from
            the input to the output.
        flipped: Validation accuracy of the last probe on the same images mirrored.
    """

    curve: dict[str, float]
    flipped: float

    @property
    def last(self) -> float:
        """Accuracy of the probe on the last block."""
        return list(self.curve.values())[-1]

    @property
    def middle(self) -> float:
        """Accuracy of the probe on the block in the middle of the curve."""
        values = list(self.curve.values())
        return values[(len(values) - 1) // 2]

    @property
    def is_similar(self) -> bool:
        """Whether the last blocks take away a tenth of the errors of the middle one.

        They are the most specific to the images of the pre-training: where these are
        like the data, each block tells the classes better apart than those before.
        """
        return self.last - self.middle >= _HELPS * (1 - self.middle)

    @property
    def survives_flips(self) -> bool:
        """Whether mirrored images are recognized nearly as well."""
        return self.flipped > self.last - 0.05


# Examples that similarity is measured with, of training and of validation.
_MOST_EXAMPLES = (400, 200)
# Blocks whose probes are fitted, at most.
_MOST_TAPS = 5


def measure_similarity(
    backbone: keras.Model, splits: Splits, *, seed: int = 0
) -> Similarity:
    """Fit linear probes on several blocks of a backbone, and test them on flips.

    Args:
        backbone: A pretrained model with blocks, see `freezing.blocks`.
        splits: Data of single labels; of training and validation some hundred examples
            are read.
        seed: Seed of their drawing.

    Reference:
        Yosinski et al., "How transferable are features in deep neural networks?", 2014,
        arXiv:1411.1792; Alain and Bengio, "Understanding intermediate layers using
        linear classifier probes", 2016, arXiv:1610.01644.
    """
    train, validation = (
        split.take(balanced(split.labels, most, seed))
        for split, most in zip(
            (splits.train, splits.validation), _MOST_EXAMPLES, strict=True
        )
    )
    blocks = freezing.blocks(backbone)
    # Without the first, which does much the same for all images, unless it is the only.
    number = max(1, min(_MOST_TAPS, len(blocks) - 1))
    chosen = np.linspace(0, len(blocks) - 1, number + 1)[1:]
    names = [list(blocks)[round(place)] for place in chosen]
    stem, columns = taps.pooled(backbone, [blocks[name][-1] for name in names])
    learned = features.run(stem, train.inputs, title="similarity")
    tested = features.run(stem, validation.inputs)
    curve = {}
    for name, place in zip(names, columns.values(), strict=True):
        fitted = probe.fit_with(
            "logistic regression", 0.01, Split(learned[:, place], train.labels)
        )
        curve[name] = fitted.pipeline.score(tested[:, place], validation.labels)
    mirrored = validation.read(range(len(validation)))[:, :, ::-1]
    flipped = features.run(stem, as_source(np.ascontiguousarray(mirrored)))
    score = fitted.pipeline.score(flipped[:, place], validation.labels)
    return Similarity(curve, float(score))


def freeze_points(blocks: Mapping[str, list[str]]) -> dict[str, str]:
    """Return what the planner chooses from: what trains -> what stays frozen.

    Args:
        blocks: Blocks of the model, from the input to the output.

    Returns:
        Values of `freezing.unfreeze_above`, from the fewest layers to all.

    >>> freeze_points({"stem": [], "block1": [], "block2": [], "block3": []})
    {'last blocks': 'block1', 'upper half': 'block1', 'everything': 'none'}
    """
    names = list(blocks)
    return {
        "last blocks": names[max(0, len(names) - 3)],
        "upper half": names[max(0, len(names) // 2 - 1)],
        "everything": "none",
    }


def freeze(
    splits: Splits, blocks: Mapping[str, list[str]], full_epochs: float, like: str = ""
) -> Decision:
    """Decide what stays frozen: nothing, where there is time for enough epochs.

    Args:
        splits: The data.
        blocks: Blocks of the model, from the input to the output.
        full_epochs: Number of epochs with nothing frozen that there is time for.
        like: What else is known of the data, as the end of the reason.
    """
    noun = _nouns(splits).removesuffix("s")
    each = len(splits.train) // max(1, len(splits.class_names))
    size = f"{errors.counted(each, f'training {noun}')} a class"
    if splits.task != "single-label":
        size = errors.counted(len(splits.train), f"training {noun}")
    count = errors.counted(int(full_epochs), "epoch") if full_epochs >= 1 else "none"
    time = f"of the whole backbone there is time for {count}"
    frozen = "none"
    if full_epochs < ENOUGH_EPOCHS:
        frozen = freeze_points(blocks)["upper half"]
    about = f"{size}, {like}" if like else size
    return Decision("freeze", frozen, f"{time}; {about}")


def fine_tuning(
    splits: Splits,
    blocks: Mapping[str, list[str]],
    measured: Similarity | None,
    full_epochs: float,
) -> list[Decision]:
    """Decide of images what is fine-tuned, at which rate and with which augmentation.

    Args:
        splits: The data.
        blocks: Blocks of the model, from the input to the output.
        measured: How similar the data are to those of the pre-training; `None` where
            that was not measured.
        full_epochs: Number of epochs with nothing frozen that there is time for.

    Returns:
        Decisions of `freeze`, `augment` and `learning_rate`.
    """
    like = "how similar they are to those of ImageNet is not measured"
    flips = False
    if measured is not None:
        flips = measured.is_similar and measured.survives_flips
        like = (
            f"{'similar to' if measured.is_similar else 'unlike'} those of ImageNet: a "
            f"probe on the last block is right for {measured.last:.0%}, on the middle "
            f"one for {measured.middle:.0%}"
        )
    frozen = freeze(splits, blocks, full_epochs, like)
    if frozen.value != "none":
        change, because = "none", "frozen layers then run only once"
    elif full_epochs < LONG_EPOCHS:
        change, because = "none", f"changed images need {LONG_EPOCHS} epochs or more"
    elif flips:
        change = "zoom_and_flip"
        because = (
            f"mirrored images are recognized as well ({measured.flipped:.0%} and "
            f"{measured.last:.0%})"
        )
    else:
        change, because = "zoom", "whether they may be mirrored is not measured"
        if measured is not None:
            because = "mirrored, images unlike photographs may mean something else"
    return [
        frozen,
        Decision("augment", change, because),
        Decision("learning_rate", 2e-4, "a fifth of what a new head takes"),
    ]
