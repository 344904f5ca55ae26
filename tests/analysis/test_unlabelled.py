import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from keras_tl import errors
from keras_tl.analysis import unlabelled


@settings(deadline=None, max_examples=60)
@given(
    st.integers(1, 8), st.integers(2, 5), st.floats(0.01, 1000), st.integers(0, 10**6)
)
def test_information_is_the_mutual_information_of_example_and_answer(
    count, classes, scale, seed
):
    logits = scale * np.random.default_rng(seed).normal(size=(count, classes))
    answers = np.exp(logits - logits.max(1, keepdims=True))
    joint = answers / answers.sum(1, keepdims=True) / count
    apart = joint.sum(1, keepdims=True) * joint.sum(0, keepdims=True)
    expected = stats.entropy(joint.ravel(), apart.ravel())
    # As models answer: in float32.
    computed = unlabelled.information(logits.astype("float32"))
    assert computed == pytest.approx(expected, abs=1e-4)


def test_certain_answers_have_information_however_large_their_logits_are():
    logits = np.array([[900, 0], [0, 900]], "float32")
    assert unlabelled.information(logits) == pytest.approx(np.log(2))


def test_logits_that_are_not_finite_are_refused():
    with pytest.raises(errors.InputError):
        unlabelled.information(np.array([[np.nan, 0.0]]))
