"""Examples that are nearly the same, and blocks that have to stay together."""

import html
import itertools
import re
import unicodedata
from collections.abc import Iterable, Sequence

import numpy as np

# Bits of two perceptual hashes that may differ, and how far two thumbnails may be from
# each other: mean difference, in levels of 255, and in parts of their contrast. Copies
# that were resized and compressed again are within all three.
_BITS = 3
_LEVELS = 6.0
_CONTRAST = 0.15
# Words from which on texts of the same words are copies: "No." is none of "No?".
_WORDS = 4
_TAG = re.compile(r"</?[a-zA-Z][^<>]*>")


def near(looks: np.ndarray, thumbnails: np.ndarray) -> np.ndarray:
    """Find the pairs of images that are nearly the same.

    A copy that was resized, compressed again or converted is found; a crop, a turned
    copy, or another photo of the same thing is not.

    Args:
        looks: uint64 `(count,)`, perceptual hashes as `images.check` computes them.
        thumbnails: uint8 `(count, 16, 16, 3)`, see `images.check`.

    Returns:
        int64 `(pairs, 2)`, two indices in each row, the smaller first, sorted.

    >>> same = np.tile(np.arange(256, dtype="uint8").reshape(16, 16, 1), (3, 1, 1, 3))
    >>> near(np.uint64([5, 7, 2**40 - 1]), same).tolist()
    [[0, 1]]
    """
    looks = np.asarray(looks, "uint64")
    pairs = set()
    # Hashes that differ in at most 3 of 64 bits agree in one of four quarters.
    for shift in (0, 16, 32, 48):
        quarter = (looks >> np.uint64(shift)) & np.uint64(0xFFFF)
        order = np.argsort(quarter, kind="stable")
        ends = np.flatnonzero(np.diff(quarter[order])) + 1
        for bucket in np.split(order, ends):
            for position, first in enumerate(bucket[:-1]):
                others = bucket[position + 1 :]
                differing = np.bitwise_count(looks[first] ^ looks[others])
                for other in others[differing <= _BITS]:
                    pairs.add((min(first, other), max(first, other)))
    if not pairs:
        return np.empty((0, 2), "int64")
    pairs = np.array(sorted(pairs), "int64")
    first, second = (thumbnails[pairs[:, i]].astype("float32") for i in (0, 1))
    apart = np.abs(first - second).mean(axis=(1, 2, 3))
    contrast = np.minimum(first.std(axis=(1, 2, 3)), second.std(axis=(1, 2, 3)))
    return pairs[(apart <= _LEVELS) & (apart <= _CONTRAST * np.maximum(contrast, 1))]


def near_texts(texts: Sequence[str]) -> np.ndarray:
    """Find the pairs of texts that have the same words, in the same order.

    They may differ in case, white space, punctuation, and tags and entities of HTML.
    Texts of fewer than four words are not compared.

    Args:
        texts: Any texts.

    Returns:
        int64 `(pairs, 2)`, two indices in each row, the smaller first, sorted; of
        several copies, each with the next one.

    >>> near_texts(["It isn't a good film", "<p>It isn't a GOOD film!", "No", "No."])
    array([[0, 1]])
    """
    by_words = {}
    for index, text in enumerate(texts):
        plain = html.unescape(_TAG.sub(" ", text))
        words = re.findall(r"\w+", unicodedata.normalize("NFKC", plain).casefold())
        if len(words) >= _WORDS:
            by_words.setdefault(" ".join(words), []).append(index)
    pairs = [
        pair for members in by_words.values() for pair in itertools.pairwise(members)
    ]
    return np.array(sorted(pairs), "int64").reshape(-1, 2)


def blocks(*keys: Sequence, pairs: Iterable[tuple[int, int]] = ()) -> np.ndarray:
    """Number the blocks of examples that are linked, directly or through others.

    Args:
        keys: Sequences with one value for each example; examples of an equal value in
            one of them are linked. `None` links nothing.
        pairs: Further links, as pairs of indices.

    Returns:
        int64 `(count,)`, the number of the block of each example.

    >>> blocks(["a", "b", "a", None], pairs=[(1, 3)]).tolist()
    [0, 1, 0, 1]
    """
    from scipy.sparse import coo_array
    from scipy.sparse.csgraph import connected_components

    count = len(keys[0])
    links = [(int(first), int(second)) for first, second in pairs]
    for values in keys:
        seen = {}
        for index, value in enumerate(values):
            if value is not None:
                links.append((seen.setdefault(value, index), index))
    rows, columns = np.array(links, "int64").reshape(-1, 2).T
    graph = coo_array((np.ones(len(rows)), (rows, columns)), shape=(count, count))
    _, numbers = connected_components(graph, directed=False)
    return numbers.astype("int64")
