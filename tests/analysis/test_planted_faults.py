"""A diagnosis names faults that were planted into real trainings."""

import pytest

from benchmarks import faults
from keras_tl.analysis import diagnosis
from keras_tl.data import datasets, splits
from keras_tl.training import store

# One fault of each part in a run of `-m exhaustive`; all are in `benchmarks.diagnosis`.
FAULTS = ["all labels shuffled", "rate too low", "dark test images"]


@pytest.fixture(scope="module")
def data():
    few = splits.limit(datasets.load("cifar10_sample"), 200, seed=0)
    return few.at_size(faults.SIZE).map(splits.read_once)


@pytest.fixture(scope="module")
def cache(tmp_path_factory):
    return store.Cache(tmp_path_factory.mktemp("cache"))


@pytest.mark.parametrize(
    "name",
    [
        pytest.param("scaled twice", marks=pytest.mark.slow),
        *(pytest.param(name, marks=pytest.mark.exhaustive) for name in FAULTS),
    ],
)
def test_the_part_at_fault_is_named(name, data, cache):
    fault = faults.FAULTS[name]
    planted = fault.plant(data, 0)
    verdict = diagnosis.diagnose(
        planted.model, planted.data, before=planted.before, cache=cache
    )
    assert verdict.verdict == fault.verdict
    assert verdict.confidence > 0.5
