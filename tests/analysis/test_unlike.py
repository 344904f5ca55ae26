import numpy as np
import pytest
from scipy.spatial import distance as reference

from keras_tl.analysis import unlike

RNG = np.random.default_rng(0)


@pytest.mark.parametrize("neighbours", [1, 3, 50])
def test_the_distance_is_that_to_the_nearest_neighbour_by_the_slow_way(neighbours):
    embeddings, references = RNG.normal(size=(7, 5)), RNG.normal(size=(20, 5))
    lengths = [
        np.linalg.norm(x, axis=1, keepdims=True) for x in (embeddings, references)
    ]
    pairs = reference.cdist(embeddings / lengths[0], references / lengths[1])
    expected = np.sort(pairs, axis=1)[:, min(neighbours, 20) - 1]
    measured = unlike.distance(embeddings, references, neighbours)
    np.testing.assert_allclose(measured, expected, atol=1e-7)


def test_an_embedding_of_zeros_has_a_distance():
    assert np.isfinite(unlike.distance(np.zeros((1, 3)), np.ones((2, 3)))).all()


def test_95_of_100_validation_examples_are_within_the_threshold():
    distances = RNG.random(100)
    assert (distances <= unlike.threshold(distances)).sum() == 95


def test_confident_logits_have_the_lower_energy_and_large_ones_do_not_overflow():
    sure, unsure, large = unlike.energy(np.array([[9.0, 0], [0, 0], [2000, 0]]))
    assert large < sure < unsure
    assert np.isfinite(large)
