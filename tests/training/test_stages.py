import dataclasses

import keras
import numpy as np
import pytest

from keras_tl import errors
from keras_tl.models import freezing, heads
from keras_tl.training import stages

BLOCK = r"(block\d+)_"


@pytest.fixture
def classifier(make_backbone):
    keras.utils.set_random_seed(0)
    backbone = make_backbone()
    freezing.freeze(backbone)
    return heads.attach(backbone, 3)


@pytest.fixture
def small_batches(here):
    return dataclasses.replace(here, batch_size=8)


def moved(model, before):
    return {
        weight.path
        for weight in model.weights
        if not np.array_equal(before[weight.path], weight.numpy())
    }


def values(model):
    return {weight.path: weight.numpy() for weight in model.weights}


def test_each_stage_trains_one_block_more(classifier, colours, small_batches):
    before = values(classifier)
    found = stages.unfreeze_gradually(
        classifier, colours, small_batches, BLOCK, blocks=1, learning_rate=0.01
    )
    assert list(found) == ["last block"]
    assert moved(classifier, before) == {
        *("block2_conv/kernel", "block2_conv/bias"),
        *("logits/kernel", "logits/bias"),
    }
    found = stages.unfreeze_gradually(
        classifier, colours, small_batches, BLOCK, blocks=2, learning_rate=0.01
    )
    assert list(found) == ["last block", "last 2 blocks"]
    assert "block1_conv/kernel" in moved(classifier, before)
    # BatchNormalization is left alone, statistics and all.
    assert not any("bn" in path for path in moved(classifier, before))


def test_one_call_fits_the_head_and_then_everything(classifier, colours, small_batches):
    before = values(classifier)
    found = stages.fit_and_fine_tune(
        classifier,
        colours,
        small_batches,
        BLOCK,
        epochs=6,
        head_epochs=6,
        learning_rate=0.05,
    )
    assert {name: len(history["loss"]) for name, history in found.items()} == {
        "head": 6,
        "fine-tuning": 6,
    }
    assert max(found["fine-tuning"]["val_accuracy"]) > 0.9
    assert "block1_conv/kernel" in moved(classifier, before)


def test_wrong_numbers_are_refused(classifier, colours, here):
    with pytest.raises(errors.InputError, match="blocks"):
        stages.unfreeze_gradually(classifier, colours, here, BLOCK, blocks=0)
    with pytest.raises(errors.InputError, match="number of blocks"):
        stages.unfreeze_gradually(classifier, colours, here, BLOCK, blocks=3)
    with pytest.raises(errors.InputError, match="spread"):
        stages.fit_and_fine_tune(classifier, colours, here, BLOCK, epochs=1, spread=0.5)
