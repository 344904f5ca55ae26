"""Promises about when pre-training is enough."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from keras_tl import errors
from keras_tl.analysis import stopping

SHARES = st.integers(0, 50).map(lambda right: right / 50)


@settings(deadline=None)
@given(st.lists(SHARES, min_size=1, max_size=12))
def test_no_later_epoch_is_better_beyond_chance_and_every_earlier_one_has_a_better(
    accuracies,
):
    stop = stopping.enough(accuracies, 50)
    for later in accuracies[stop.epoch :]:
        low, _ = stopping.unpaired_interval(accuracies[stop.epoch], later, 50)
        assert low <= 0
    for earlier in range(stop.epoch):
        best = max(accuracies[earlier:])
        assert stopping.unpaired_interval(accuracies[earlier], best, 50)[0] > 0
    assert stop.gain >= 0
    assert stop.best >= stop.epoch
    assert stop.interval[0] <= stop.gain <= stop.interval[1]


def test_the_interval_covers_the_truth_at_about_its_level():
    rng = np.random.default_rng(0)
    first, second = rng.binomial(60, 0.7, 2000) / 60, rng.binomial(60, 0.8, 2000) / 60
    covered = [
        low <= 0.1 <= high
        for a, b in zip(first, second, strict=True)
        for low, high in [stopping.unpaired_interval(a, b, 60)]
    ]
    assert 0.93 < np.mean(covered) < 0.98


def test_more_examples_notice_a_smaller_gain():
    accuracies = [0.6, 0.68, 0.70, 0.71]
    assert [stopping.enough(accuracies, n).epoch for n in (50, 500, 50_000)] == [
        0,
        1,
        3,
    ]


@pytest.mark.parametrize("accuracies", [[], [0.5, 1.5]])
def test_what_is_no_accuracy_is_refused(accuracies):
    with pytest.raises(errors.InputError, match="accuracies"):
        stopping.enough(accuracies, 10)
