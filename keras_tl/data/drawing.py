"""Draw the splits that are missing, in blocks that have to stay together."""

import hashlib
import math
from collections import Counter, defaultdict
from collections.abc import Hashable, Mapping, Sequence

import numpy as np

from keras_tl import errors
from keras_tl.data import languages
from keras_tl.data.splits import Split, Splits, copies


def draw(
    keys: Sequence[str],
    strata: Sequence[Hashable],
    blocks: Sequence[int],
    shares: Mapping[str, float],
    seed: int,
) -> list[str]:
    """Draw splits of given shares, stratum by stratum, by a hash of seed and content.

    Names and the order of examples do not matter. A block is of the stratum that most
    of its examples are of; strata with too few blocks of their own are drawn together.

    Args:
        keys: Hash of the content of each example; equal ones count once.
        strata: What each split is to have its share of, such as the class.
        blocks: Number of the block of each example; a block is never split.
        shares: Name of a split -> its share of all examples, in (0, 1).
        seed: Seed of the drawing.

    Returns:
        For each example the name of a split: one of `shares`, or "train".

    >>> keys, strata = [f"{n:x}" for n in range(10)], ["a"] * 5 + ["b"] * 5
    >>> drawn = draw(keys, strata, range(10), {"test": 0.2}, seed=0)
    >>> drawn[:5].count("test"), drawn[5:].count("test")
    (1, 1)
    """
    members = defaultdict(list)
    for index, block in enumerate(blocks):
        members[block].append(index)
    pools = defaultdict(list)
    for indices in members.values():
        counts = Counter(strata[index] for index in indices)
        pools[max(sorted(counts), key=counts.get)].append(indices)
    needed = 1 + len(shares)
    few = [stratum for stratum, pool in pools.items() if len(pool) < needed]
    together = [indices for stratum in few for indices in pools.pop(stratum)]
    drawn = ["train"] * len(keys)
    for pool in (*pools.values(), together):
        _draw_from(pool, keys, shares, seed, drawn)
    return drawn


def _draw_from(pool, keys, shares, seed, drawn):
    """Enter the splits of the blocks of one stratum into `drawn`."""

    def place(indices):
        first = min(keys[index] for index in indices)
        return hashlib.sha256(f"{seed} {first}".encode()).digest()

    rest = sorted(pool, key=place)
    sizes = {id(block): len({keys[index] for index in block}) for block in rest}
    total = sum(sizes.values())
    for position, (name, share) in enumerate(shares.items()):
        # Train and the splits that are still to be drawn need a block each.
        most = len(rest) - (len(shares) - position)
        count = max(1, round(share * total))
        chosen, taken = [], 0
        for block in rest[: max(0, most)]:
            if taken + sizes[id(block)] / 2 <= count:
                chosen.append(block)
                taken += sizes[id(block)]
        if not chosen and most > 0:
            chosen = [min(rest, key=lambda block: sizes[id(block)])]
        for block in chosen:
            for index in block:
                drawn[index] = name
        taken = {id(block) for block in chosen}
        rest = [block for block in rest if id(block) not in taken]


def check_enough(
    strata: Sequence[Hashable], blocks: Sequence[int], needed: int, noun: str
) -> None:
    """Raise `InputError` unless every stratum has members in enough blocks.

    Args:
        strata: See `draw`.
        blocks: See `draw`.
        needed: Number of splits.
        noun: What the blocks are, in the plural.
    """
    seen = defaultdict(set)
    for stratum, block in zip(strata, blocks, strict=True):
        seen[stratum].add(block)
    for stratum in sorted(seen):
        if len(seen[stratum]) < needed:
            raise errors.InputError(
                f"Each class must have at least {needed} {noun}, one for each split "
                f"that has to be drawn. {stratum!r} has {len(seen[stratum])}."
            )


def complete(
    given: Split,
    test: Split | None,
    class_names: Sequence[str],
    validation: float,
    test_share: float,
    seed: int,
) -> Splits:
    """Draw validation, and test where it is missing, from the training examples.

    Copies of an example come into one split, and only one of them into a split that is
    drawn: the others are left out.

    Args:
        given: The training examples, with the numbers of their classes as labels.
        test: The test split, `None` where it has to be drawn.
        class_names: Names of the classes.
        validation: Share of the training examples drawn for validation, in (0, 1).
        test_share: Share drawn for the test split where it is missing, in (0, 1).
        seed: Seed of the drawing.

    Raises:
        InputError: Too few examples of a class, or training examples that are all test
            examples as well.
    """
    parts = [given] if test is None else [given, test]
    numbers, *of_test = copies(*parts)
    _warn_of_contradictions(numbers, given.labels)
    rest, drawn = np.arange(len(given)), "validation"
    if test is None:
        rest, chosen = _draw_stratified(rest, given.labels, numbers, test_share, seed)
        test, drawn = given.take(chosen), "validation and test"
        before = len(given) - len(chosen)
    else:
        rest = _without_test(rest, numbers, *of_test)
        before = len(rest)
    rest, chosen = _draw_stratified(rest, given.labels, numbers, validation, seed)
    origin = f"{drawn} drawn from the training examples, stratified, seed {seed}."
    left_out = before - len(rest) - len(chosen)
    if left_out:
        origin += f" Left out: copies of drawn examples {left_out:,}."
    if given.inputs.kind == "text":
        texts = [one for part in parts for one in part.inputs.preview(range(len(part)))]
        origin += f" {languages.describe(texts)}"
    return Splits(given.take(rest), given.take(chosen), test, class_names, origin)


def _warn_of_contradictions(numbers, labels):
    order = np.lexsort((labels, numbers))
    same = numbers[order][1:] == numbers[order][:-1]
    differ = same & (labels[order][1:] != labels[order][:-1])
    if differ.any():
        first, other = order[:-1][differ][0], order[1:][differ][0]
        count = np.isin(numbers, numbers[order][1:][differ]).sum()
        errors.warn(
            f"{count:,} training examples equal another that has another label, such "
            f"as those at index {min(first, other)} and {max(first, other)}: one label "
            "of them is wrong. They are used as they are."
        )


def _without_test(indices, numbers, of_test):
    """Leave out the training examples that are test examples too."""
    both = np.isin(numbers[indices], of_test)
    if both.all():
        raise errors.InputError("All training examples are test examples as well.")
    if both.any():
        errors.warn(
            f"{both.sum():,} training examples are test examples as well, the first at "
            f"index {indices[both][0]}. They are left out of training."
        )
    return indices[~both]


def _draw_stratified(indices, labels, numbers, share, seed):
    """Split `indices` in two, stratified: the remaining ones and the drawn ones.

    `numbers` are those of `splits.copies`: one example of each is drawn, and the others
    are in neither.
    """
    from sklearn.model_selection import train_test_split

    _, first = np.unique(numbers[indices], return_index=True)
    distinct = indices[np.sort(first)]
    drawn = math.ceil(share * len(distinct))
    classes, counts = np.unique(labels[distinct], return_counts=True)
    if counts.min() < 2 or min(drawn, len(distinct) - drawn) < len(classes):
        raise errors.InputError(
            "There are too few examples to draw splits with every class in each: "
            f"{len(distinct):,} different ones of {len(classes)} classes, "
            f"{counts.min()} of the rarest, of which {drawn} are to be drawn. Give at "
            "least 2 of each class, and more of all."
        )
    try:
        _, chosen = train_test_split(
            distinct, test_size=share, stratify=labels[distinct], random_state=seed
        )
    except ValueError as error:
        raise errors.InputError(
            f"The examples cannot be split with every class in each part: {error}"
        ) from error
    drawn = np.isin(numbers[indices], numbers[chosen])
    return indices[~drawn], np.sort(chosen)
