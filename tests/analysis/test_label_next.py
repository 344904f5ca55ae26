"""Promises about what to label next."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from keras_tl import errors
from keras_tl.analysis import label_next
from keras_tl.data.splits import Split


def slow_core_set(labelled, pool, count):
    """The definition, distance by distance."""

    def cosine(a, b):
        return a @ b / (np.linalg.norm(a) * np.linalg.norm(b))

    known, chosen = list(labelled), []
    for _ in range(count):
        left = [n for n in range(len(pool)) if n not in chosen]
        nearest = [max(cosine(pool[n], one) for one in known) for n in left]
        best = left[int(np.argmin(nearest))]
        chosen.append(best)
        known.append(pool[best])
    return chosen


@settings(deadline=None, max_examples=30)
@given(st.integers(1, 4), st.integers(2, 10), st.integers(0, 10**6))
def test_the_core_set_is_that_of_its_definition(known, examples, seed):
    rng = np.random.default_rng(seed)
    labelled, pool = rng.normal(size=(known, 3)), rng.normal(size=(examples, 3))
    count = rng.integers(1, examples + 1)
    chosen = label_next.core_set(labelled, pool, count)
    assert chosen.tolist() == slow_core_set(labelled, pool, count)


@pytest.mark.parametrize("method", label_next.METHODS)
def test_an_order_names_different_examples_and_is_the_same_again(method):
    rng = np.random.default_rng(0)
    labelled = Split(rng.normal(size=(10, 4)), np.arange(10) % 2)
    pool = rng.normal(size=(30, 4))
    chosen = label_next.order(method, labelled, pool, 30, seed=3)
    assert sorted(chosen) == list(range(30))
    again = label_next.order(method, labelled, pool, 12, seed=3)
    np.testing.assert_array_equal(again, chosen[:12])


def test_what_lies_between_the_classes_is_labelled_first():
    rng = np.random.default_rng(0)
    x = rng.normal(scale=0.1, size=(60, 2))
    x[:, 0] = np.linspace(-3, 3, 60)
    ends = [*range(5), *range(55, 60)]
    labelled = Split(x[ends], [0] * 5 + [1] * 5)
    chosen = label_next.order("margin", labelled, x, 10)
    assert np.abs(x[chosen, 0]).mean() < 0.6 * np.abs(x[:, 0]).mean()


def test_a_kind_that_nothing_labelled_is_like_is_labelled_first():
    rng = np.random.default_rng(0)
    usual = np.array([5.0, 0, 0]) + rng.normal(size=(40, 3)) * 0.3
    rare = np.array([0, 5.0, 0]) + rng.normal(size=(3, 3)) * 0.3
    labelled = Split(usual[:6], np.arange(6) % 2)
    pool = np.concatenate([usual[6:], rare])
    assert label_next.order("core-set", labelled, pool, 1)[0] >= 34


def test_what_cannot_be_ordered_is_named():
    labelled = Split(np.zeros((2, 3)), [0, 1])
    with pytest.raises(errors.InputError, match="`count` must be in .1, 4."):
        label_next.order("random", labelled, np.zeros((4, 3)), 5)
    with pytest.raises(errors.InputError, match="Did you mean margin"):
        label_next.order("margins", labelled, np.zeros((4, 3)), 1)
    with pytest.raises(errors.InputError, match="two classes"):
        label_next.margin(np.ones((4, 1)))
