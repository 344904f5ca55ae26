import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from keras_tl import errors
from keras_tl.data import drawing

SHARES = {"validation": 0.15, "test": 0.15}
EXAMPLES = st.lists(
    st.tuples(st.integers(0, 10**6), st.sampled_from("abc"), st.integers(0, 12)),
    min_size=1,
    max_size=80,
    unique_by=lambda example: example[0],
)


def draw(examples, seed=0):
    keys, strata, blocks = zip(*examples, strict=True)
    return drawing.draw([f"{k:x}" for k in keys], strata, blocks, SHARES, seed)


@given(EXAMPLES, st.integers(0, 3))
def test_a_block_is_never_split(examples, seed):
    drawn = draw(examples, seed)
    assert set(drawn) <= {"train", *SHARES}
    for block in {block for _, _, block in examples}:
        members = [i for i, (_, _, one) in enumerate(examples) if one == block]
        assert len({drawn[i] for i in members}) == 1


@given(EXAMPLES, st.randoms(use_true_random=False))
def test_the_order_of_examples_does_not_matter(examples, random):
    shuffled = random.sample(examples, len(examples))
    before = dict(zip(examples, draw(examples), strict=True))
    assert dict(zip(shuffled, draw(shuffled), strict=True)) == before


@given(st.integers(9, 200), st.integers(0, 3))
def test_single_examples_have_exactly_their_share_of_each_class(count, seed):
    strata = ["ab"[n % 2] for n in range(count)]
    keys = [f"{n:x}" for n in range(count)]
    drawn = np.array(drawing.draw(keys, strata, range(count), SHARES, seed))
    for stratum in "ab":
        of_stratum = drawn[np.array(strata) == stratum]
        wanted = max(1, round(0.15 * len(of_stratum)))
        assert [(of_stratum == name).sum() for name in SHARES] == [wanted, wanted]


def test_three_blocks_give_every_split_one():
    drawn = drawing.draw("abcdef", "xxxxxx", [0, 0, 1, 1, 2, 2], SHARES, 0)
    assert set(drawn) == {"train", "validation", "test"}


def test_too_few_blocks_of_a_class_are_named():
    with pytest.raises(errors.InputError, match="at least 3 groups.*'b' has 1"):
        drawing.check_enough("aaab", [0, 1, 2, 2], 3, "groups")
