import dataclasses

import keras
import numpy as np
import pytest

from keras_tl import errors
from keras_tl.data.sources import ImageArray
from keras_tl.data.splits import Split
from keras_tl.models import freezing, heads
from keras_tl.training import optimizers, phases, stages


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
    stage = phases.Phase(1, 0.01, name="")
    found = stages.unfreeze_gradually(
        classifier, colours, small_batches, stage, blocks=1
    )
    assert list(found) == ["last block"]
    assert moved(classifier, before) == {
        *("block2_conv/kernel", "block2_conv/bias"),
        *("logits/kernel", "logits/bias"),
    }
    found = stages.unfreeze_gradually(
        classifier, colours, small_batches, stage, blocks=2
    )
    assert list(found) == ["last block", "last 2 blocks"]
    assert "block1_conv/kernel" in moved(classifier, before)
    # BatchNormalization is left alone, statistics and all.
    assert not any("bn" in path for path in moved(classifier, before))


def test_blocks_train_together_at_rates_that_fall(
    make_backbone, colours, small_batches
):
    # Without dropout, whose masks are new in each phase.
    classifier = heads.attach(make_backbone(), 3, dropout=0)
    start = values(classifier)
    settings = {"epochs": 2, "learning_rate": 0.01}
    phase = phases.fine_tuning(**settings)
    stages.fine_tune_blocks(
        classifier, colours, small_batches, phase, blocks=2, decay=0.5
    )
    found = values(classifier)
    classifier.set_weights(list(start.values()))
    freezing.unfreeze_blocks(classifier, 2)
    by_hand = {"block2_": 0.5, "block1_": 0.25}
    phases.fit(
        classifier,
        colours,
        small_batches,
        phases.fine_tuning(
            optimizer=optimizers.layerwise("adam", by_hand),
            **settings,
        ),
    )
    assert "block1_conv/kernel" in moved(classifier, start)
    for path, value in values(classifier).items():
        np.testing.assert_array_equal(value, found[path])


@pytest.mark.slow
def test_a_stage_that_made_it_worse_is_not_taken_back(
    classifier, colours, small_batches
):
    head = {"epochs": 20, "learning_rate": 0.05}
    before = phases.fit(classifier, colours, small_batches, phases.Phase(**head))[
        "val_loss"
    ]
    fitted = classifier.get_layer("logits").kernel.numpy()
    found = stages.unfreeze_gradually(
        classifier, colours, small_batches, phases.Phase(1, 10.0), blocks=1
    )
    (stage,) = found.values()
    assert stage["val_loss"][0] > min(before)
    assert stage["kept"] == [1.0]
    assert not np.array_equal(classifier.get_layer("logits").kernel.numpy(), fitted)


@pytest.fixture
def orders(colours, here, monkeypatch):
    """Data and setup, and what an epoch of training reads, one list for each."""
    seen = []

    class Watched(ImageArray):
        def in_memory(self):
            # Not from TensorFlow's memory.
            return None

        def read(self, indices):
            if len(indices) == len(self):
                seen.append(np.asarray(indices).tolist())
            return super().read(indices)

    # Otherwise they would be read once.
    monkeypatch.setattr(phases, "read_once", lambda split: split)
    watched = Watched(colours.train.inputs.pixels, image_size=8)
    train = Split(watched, colours.train.labels)
    return (
        dataclasses.replace(colours, train=train),
        dataclasses.replace(
            here, batch_size=len(train), augment=lambda images, draws: images
        ),
        seen,
    )


@pytest.mark.slow
def test_a_stage_goes_on_in_the_order_of_the_one_before(classifier, orders):
    data, setup, seen = orders
    phases.fit(classifier, data, setup, phases.Phase(epochs=5))
    one_phase = seen.copy()
    assert len({tuple(order) for order in one_phase}) == 5
    seen.clear()
    stage, last = phases.Phase(2), phases.fine_tuning(1, first_epoch=4)
    stages.unfreeze_gradually(classifier, data, setup, stage, blocks=2)
    stages.fine_tune_blocks(classifier, data, setup, last, blocks=2)
    assert seen == one_phase
    seen.clear()
    stages.fit_and_fine_tune(classifier, data, setup, epochs=2, head_epochs=3)
    assert seen == one_phase


@pytest.mark.slow
def test_a_second_call_trains_on_under_a_name_of_its_own(
    classifier, colours, small_batches, tmp_path
):
    setup = dataclasses.replace(small_batches, state=tmp_path)
    for call in ("small", "large"):
        before = values(classifier)
        found = stages.unfreeze_gradually(
            classifier, colours, setup, phases.Phase(1, name=call), blocks=1
        )
        assert list(found) == [f"{call} last block"]
        assert moved(classifier, before)
        before = values(classifier)
        phase = phases.fine_tuning(1, 0.01, name=call)
        stages.fine_tune_blocks(classifier, colours, setup, phase, blocks=2)
        assert moved(classifier, before)
    assert {path.name for path in tmp_path.iterdir()} == {
        *("small-last-block.npz", "large-last-block.npz", "small.npz", "large.npz")
    }


def test_the_head_is_fitted_before_anything_of_the_backbone_moves(
    make_backbone, colours, small_batches, monkeypatch
):
    backbone = make_backbone()
    # As the last convolution of EfficientNet, it is in no block.
    top = keras.layers.Conv2D(4, 1, name="top_conv")(backbone.output)
    model = heads.attach(keras.Model(backbone.input, top), 3)
    before, moved_in_head = values(model), []
    fit = phases.fit

    def then(model, splits, setup, phase):
        if phase.name == "fine-tuning":
            moved_in_head.extend(moved(model, before))
        return fit(model, splits, setup, phase)

    monkeypatch.setattr(phases, "fit", then)
    stages.fit_and_fine_tune(model, colours, small_batches, epochs=1)
    assert set(moved_in_head) == {"logits/kernel", "logits/bias"}


def test_one_call_fits_the_head_and_then_everything(classifier, colours, small_batches):
    before = values(classifier)
    found = stages.fit_and_fine_tune(
        classifier,
        colours,
        small_batches,
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
    phase = phases.Phase(1)
    with pytest.raises(errors.InputError, match="blocks"):
        stages.unfreeze_gradually(classifier, colours, here, phase, blocks=0)
    with pytest.raises(errors.InputError, match="number of blocks"):
        stages.unfreeze_gradually(classifier, colours, here, phase, blocks=3)
    with pytest.raises(errors.InputError, match="number of blocks"):
        stages.fine_tune_blocks(classifier, colours, here, phase, blocks=3)
    with pytest.raises(errors.InputError, match="spread"):
        stages.fit_and_fine_tune(classifier, colours, here, epochs=1, spread=0.5)
