"""Promises about the evaluation of predicted numbers."""

import re

import numpy as np
import pytest

from keras_tl.analysis import evaluation, regression

LABELS = np.array([[1.0], [2.0], [3.0], [4.0]], "float32")


def of(*errors):
    return regression.evaluate(LABELS, LABELS + np.array(errors)[:, None], ["age"])


def test_errors_are_those_that_a_person_would_compute():
    result = of(0.5, -1.5, 0, 2)
    assert result.value == pytest.approx(1.0)
    assert result.root_mean_squared_error == pytest.approx(np.sqrt(6.5 / 4))
    assert result.r2 == pytest.approx(1 - 6.5 / 5)
    assert result.mistakes(1) == [(3, "6", "4")]


def test_a_smaller_error_is_better_and_its_interval_goes_up():
    before, after = of(1, 2, 1, 2), of(0.5, 1, 0.25, 1.75)
    compared = evaluation.compare(before, after)
    assert compared.only_b == 4
    text = after.difference(compared)
    change, low, high = map(float, re.findall(r"[+-]\d+\.\d+", text))
    assert text.startswith("error -0.625 (95 % interval -")
    assert low <= change <= high < 0
