import dataclasses

import keras
import numpy as np
import pytest

from keras_tl import errors
from keras_tl.methods import distillation, regularizers
from keras_tl.models import freezing, heads
from keras_tl.training import phases, rate_finder, schedules

PHASE = phases.Phase(1)
SGD = phases.Phase(1, optimizer=keras.optimizers.SGD)


@pytest.fixture
def classifier(make_backbone):
    keras.utils.set_random_seed(0)
    backbone = make_backbone()
    freezing.freeze(backbone)
    return heads.attach(backbone, 3)


def test_the_model_is_as_it_was(classifier, colours, here):
    phases.fit(classifier, colours, here, phases.Phase(epochs=1))
    freezing.unfreeze(classifier)
    optimizer = keras.optimizers.Adam(0.5)
    classifier.compile(optimizer, "mse")
    before = [variable.numpy() for variable in classifier.variables]
    found = rate_finder.find(classifier, colours, here, PHASE, highest=100)
    assert classifier.optimizer is optimizer
    assert classifier.compiled
    for variable, value in zip(classifier.variables, before, strict=True):
        np.testing.assert_array_equal(variable.numpy(), value)
    assert (np.diff(found.rates) > 0).all()


@pytest.mark.slow
def test_the_suggested_rates_train(classifier, colours, here):
    found = rate_finder.find(classifier, colours, here, PHASE, highest=100)
    assert 1e-7 < found.valley < found.rates[-1]
    assert str(found).startswith("Learning rate: valley")
    history = phases.fit(
        classifier,
        colours,
        here,
        phases.Phase(epochs=30, learning_rate=found.valley, patience=30),
    )
    assert history["loss"][-1] < 0.8 * history["loss"][0]


def test_the_test_ends_where_the_loss_explodes(classifier, colours, here):
    found = rate_finder.find(classifier, colours, here, SGD, highest=1e6)
    assert len(found.rates) < 100
    assert found.smoothed[-1] > 4 * found.smoothed.min()
    assert np.isfinite(found.losses).all()


def test_a_last_batch_that_is_not_full_makes_no_dip(colours, here):
    # Equal logits: the loss of every image is the same.
    image = keras.Input((8, 8, 3))
    logits = keras.layers.Dense(3, kernel_initializer="zeros", name="logits")
    model = keras.Model(image, logits(keras.layers.Flatten()(image)))
    assert len(colours.train) % 16
    setup = dataclasses.replace(here, batch_size=16)
    tested = rate_finder.find(
        model, colours, setup, phases.Phase(1), lowest=1e-12, highest=1e-11, steps=20
    )
    np.testing.assert_allclose(tested.losses, tested.losses[0], rtol=1e-5)


def test_steepest_and_valley_are_those_of_fastai():
    # fastai.callback.schedule, `valley` and `steep`, on the smoothed losses.
    def valley(lrs, losses):
        n = len(losses)
        max_end = 0
        lds = [1] * n
        for i in range(1, n):
            for j in range(i):
                if losses[i] < losses[j] and lds[i] < lds[j] + 1:
                    lds[i] = lds[j] + 1
                if lds[max_end] < lds[i]:
                    max_end = i
        return max_end - lds[max_end], max_end

    def steep(lrs, losses):
        grads = np.diff(losses) / np.diff(np.log(lrs))
        return lrs[grads.argmin()]

    rng = np.random.default_rng(0)
    rates = np.geomspace(1e-6, 1, 60)
    curve = 1 - 1 / (1 + np.exp(-2 * (np.log10(rates) + 3))) + 50 * rates**3
    losses = rate_finder.smooth(curve + rng.normal(0, 0.05, 60))
    steepest, middle = rate_finder.suggest(rates, losses)
    assert steepest == steep(rates, losses)
    start, end = valley(rates, losses)
    # It takes a third and a sixth of the way, in whole steps each.
    step = (start + end) / 2
    assert abs(np.searchsorted(rates, middle) - step) <= 1


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"lowest": 0}, "lowest"),
        ({"lowest": 1.0, "highest": 0.1}, "lowest"),
        ({"steps": 5}, "steps"),
        ({"lowest": 1e30, "highest": 1e38}, "Begin lower"),
    ],
)
def test_what_cannot_work_is_said(classifier, colours, here, options, said):
    options = {"highest": 1e2} | options
    with pytest.raises(errors.InputError, match=said):
        rate_finder.find(classifier, colours, here, SGD, **options)


def test_a_frozen_model_is_refused(classifier, colours, here):
    freezing.freeze(classifier)
    with pytest.raises(errors.InputError, match="Nothing in"):
        rate_finder.find(classifier, colours, here, PHASE)


def distilled(splits):
    rng = np.random.default_rng(1)
    targets = rng.normal(size=(len(splits.train), 3)).astype("float32")
    return dataclasses.replace(
        splits, train=dataclasses.replace(splits.train, targets=targets)
    )


@pytest.mark.parametrize(
    ("options", "method", "change"),
    [
        ({"class_weights": [10.0, 0.1, 1.0]}, None, None),
        ({"label_smoothing": 0.4}, None, None),
        ({}, regularizers.l2_sp(alpha=0.3, beta=0.3), None),
        ({}, distillation.from_teacher(temperature=2.0), distilled),
    ],
)
def test_the_loss_is_the_one_that_training_minimizes(
    make_backbone, colours, here, options, method, change
):
    splits = change(colours) if change else colours
    plain = dataclasses.replace(here, batch_size=len(splits.train))
    setup = dataclasses.replace(plain, **options)
    phase = phases.Phase(1, 1e-6, schedule=schedules.constant, method=method)
    keras.utils.set_random_seed(0)
    model = heads.attach(make_backbone(), 3)
    freezing.freeze_up_to(model, "pool")
    start = model.get_weights()
    result = rate_finder.find(model, splits, setup, phase, lowest=1e-6, steps=20)
    # One step is an epoch: the loss of both is that of the weights they start with.
    history = phases.fit(model, splits, setup, phase)
    assert result.losses[0] == pytest.approx(history["loss"][0], rel=1e-5)
    model.set_weights(start)
    phase = dataclasses.replace(phase, method=None)
    other = phases.fit(model, colours, plain, phase)
    assert other["loss"][0] != pytest.approx(history["loss"][0], rel=1e-4)
