"""Draw the splits that are missing, in blocks that have to stay together."""

import hashlib
from collections import Counter, defaultdict
from collections.abc import Hashable, Mapping, Sequence

from keras_tl import errors


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
