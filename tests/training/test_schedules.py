import keras
import numpy as np
import pytest

from keras_tl import errors
from keras_tl.training import schedules

EPOCHS, STEPS, RATE = 6, 20, 0.4
ALL = {
    "constant": schedules.constant,
    "cosine": schedules.cosine,
    "warmup_cosine": schedules.warmup_cosine(),
    "one_cycle": schedules.one_cycle(),
    "step_decay": schedules.step_decay(every=2),
}


def rates(schedule, epochs=EPOCHS, steps=STEPS):
    """The rate that an optimizer has in each step."""
    optimizer = keras.optimizers.SGD(schedule(RATE, epochs, steps))
    variable = keras.Variable(0.0)
    optimizer.build([variable])
    found = []
    for _ in range(epochs * steps):
        found.append(float(optimizer.learning_rate))
        optimizer.apply([keras.ops.convert_to_tensor(0.0)])
    return np.array(found)


@pytest.mark.parametrize("name", ALL)
def test_the_largest_rate_is_the_one_that_was_asked_for(name):
    found = rates(ALL[name])
    assert found.max() == pytest.approx(RATE, rel=1e-4)
    assert found.min() >= 0


@pytest.mark.parametrize("name", ["cosine", "warmup_cosine", "one_cycle"])
def test_they_end_near_0(name):
    assert rates(ALL[name])[-1] < RATE / 1000


def test_one_cycle_is_what_fastai_computes():
    # fastai.callback.schedule: combined_cos(pct_start, lr/div, lr, lr/div_final).
    def sched_cos(start, end, pos):
        return start + (1 + np.cos(np.pi * (1 - pos))) * (end - start) / 2

    total = EPOCHS * STEPS
    wanted = [
        sched_cos(RATE / 25, RATE, step / total / 0.25)
        if step / total < 0.25
        else sched_cos(RATE, RATE / 1e5, (step / total - 0.25) / 0.75)
        for step in range(total)
    ]
    np.testing.assert_allclose(rates(ALL["one_cycle"]), wanted, atol=1e-6)


def test_step_decay_falls_at_the_start_of_an_epoch():
    found = rates(ALL["step_decay"]).reshape(EPOCHS, STEPS)
    for epoch, row in enumerate(found):
        np.testing.assert_allclose(row, RATE * 0.1 ** (epoch // 2), rtol=1e-5)


def test_step_decay_over_fewer_epochs_than_a_step_keeps_the_rate():
    assert set(rates(schedules.step_decay(every=7), epochs=3)) == {np.float32(RATE)}


def test_warm_up_is_a_line():
    found = rates(schedules.warmup_cosine(warmup=0.2))
    rising = EPOCHS * STEPS // 5
    wanted = RATE * np.arange(rising) / rising
    np.testing.assert_allclose(found[:rising], wanted, atol=1e-6)


@pytest.mark.parametrize("build", [schedules.warmup_cosine, schedules.one_cycle])
def test_two_steps_are_enough_to_rise_and_fall(build):
    first, second = rates(build(), epochs=1, steps=2)
    assert first < second == pytest.approx(RATE)


@pytest.mark.parametrize("name", ALL)
def test_they_are_saved_with_their_optimizer(name):
    schedule = ALL[name](RATE, EPOCHS, STEPS)
    if isinstance(schedule, float):
        return
    saved = keras.optimizers.schedules.serialize(schedule)
    again = keras.optimizers.schedules.deserialize(saved)
    assert [float(again(s)) for s in (0, 39, 100)] == [
        float(schedule(s)) for s in (0, 39, 100)
    ]


@pytest.mark.parametrize(
    ("build", "said"),
    [
        (lambda: schedules.warmup_cosine(warmup=0), "warmup"),
        (lambda: schedules.one_cycle(rise=1.0), "rise"),
        (lambda: schedules.one_cycle(start=0.5), "start"),
        (lambda: schedules.step_decay(every=0), "every"),
        (lambda: schedules.step_decay(factor=2), "factor"),
        (lambda: schedules.warmup_cosine()(0.1, 1, 1), "This phase has 1"),
        (lambda: schedules.one_cycle()(0.1, 1, 1), "needs two steps"),
    ],
)
def test_what_cannot_work_is_said(build, said):
    with pytest.raises(errors.InputError, match=said):
        build()
