"""Changes of clips are those of slow references, and of a row of draws alone."""

import numpy as np
import pytest
import tensorflow as tf
from hypothesis import given, settings
from hypothesis import strategies as st

from keras_tl import errors
from keras_tl.data import augment_audio, clips, pipeline
from keras_tl.data.splits import Split

RATE, SAMPLES = 8_000, 1_700
CLIPS = np.random.default_rng(0).uniform(-0.5, 0.5, (6, SAMPLES)).astype("float32")


def random_draws(count, seed=0):
    rng = np.random.default_rng(seed)
    return rng.random((count, pipeline.DRAWS), dtype="float32")


def changed(draws, clips=CLIPS, **options):
    augment = augment_audio.change(rate=RATE, **options)
    return augment(tf.constant(clips), tf.constant(draws)).numpy()


everything = {
    "shift": 0.2,
    "snr": (0, 30),
    "time_mask": 0.3,
    "frequency_mask": 0.3,
}


@pytest.mark.parametrize("name", [*everything, "all"])
@settings(deadline=None, max_examples=10)
@given(seed=st.integers(0, 10_000))
def test_a_clip_keeps_shape_and_range_whatever_the_others_are(name, seed):
    options = everything if name == "all" else {name: everything[name]}
    draws = random_draws(6, seed)
    made = changed(draws, **options)
    assert (made.shape, made.dtype) == (CLIPS.shape, np.float32)
    assert np.isfinite(made).all()
    assert np.abs(made).max() <= 1
    alone = changed(draws[2:3], CLIPS[2:3], **options)
    np.testing.assert_allclose(alone[0], made[2], atol=1e-5)
    assert not np.allclose(made, CLIPS, atol=1e-3)


def test_without_a_range_nothing_changes():
    np.testing.assert_array_equal(changed(random_draws(6)), CLIPS)


@settings(deadline=None, max_examples=20)
@given(st.floats(0.01, 0.5), st.integers(0, 1_000))
def test_a_shift_is_that_of_numpy(share, seed):
    draws = random_draws(6, seed)
    made = changed(draws, shift=share)
    for row, clip, draw in zip(made, CLIPS, draws[:, 0], strict=True):
        steps = np.float32((2 * draw - 1) * np.float32(share)) * np.float32(SAMPLES)
        rolled = [np.roll(clip, round(float(steps)) + near) for near in (-1, 0, 1)]
        assert any((row == one).all() for one in rolled)


@pytest.mark.parametrize("ratio", [0, 10, 30])
@pytest.mark.parametrize("own", [False, True])
def test_noise_has_the_wanted_level(ratio, own):
    noises = None
    if own:
        noises = np.random.default_rng(1).normal(0, 0.01, 5_000).astype("float32")
    draws = random_draws(6)
    added = changed(draws, CLIPS / 4, snr=(ratio, ratio), noises=noises) - CLIPS / 4
    levels = 10 * np.log10(
        np.square(CLIPS / 4).mean(axis=1) / np.square(added).mean(axis=1)
    )
    np.testing.assert_allclose(levels, ratio, atol=0.6)
    assert abs(np.corrcoef(added)[0, 1:]).max() < 0.2


def test_masks_leave_out_a_span_of_time_and_of_frequencies():
    draws = random_draws(6)
    # A mask of the whole of its largest width, in the middle.
    draws[:, 4:8] = [1, 0.5, 1, 0.5]
    draws[:, 4:8] *= 0.999999
    made = changed(draws, time_mask=0.4)
    inside = made[:, SAMPLES * 3 // 8 : SAMPLES * 5 // 8]
    assert 0 < np.abs(inside).max() < 0.01
    np.testing.assert_allclose(made[:, :200], CLIPS[:, :200], atol=1e-4)
    np.testing.assert_allclose(made[:, -200:], CLIPS[:, -200:], atol=1e-4)
    made = changed(draws, frequency_mask=0.4)
    top = np.log1p(4_000 / 700)
    frequencies = np.fft.rfftfreq(SAMPLES, 1 / RATE)
    mel = np.log1p(frequencies / 700) / top
    power, before = (np.abs(np.fft.rfft(rows)) ** 2 for rows in (made, CLIPS))
    gone, stays = (mel > 0.35) & (mel < 0.65), (mel < 0.25) | (mel > 0.75)
    assert power[:, gone].sum() < 0.01 * before[:, gone].sum()
    assert power[:, stays].sum() > 0.95 * before[:, stays].sum()


def test_a_mask_of_no_width_changes_nothing():
    draws = random_draws(6)
    draws[:, [4, 6]] = 0
    made = changed(draws, time_mask=0.4, frequency_mask=0.4)
    np.testing.assert_allclose(made, CLIPS, atol=1e-5)


def test_epochs_differ_and_can_be_made_again():
    split = Split(clips.Clips(tuple(CLIPS), RATE, SAMPLES), [0, 1] * 3)
    augment = augment_audio.change(rate=RATE, **everything)
    training = pipeline.Training(split, 4, seed=3, augment=augment)
    first, second, again = (
        np.concatenate([x.numpy() for x, _, _ in training.epoch(n)]) for n in (0, 1, 0)
    )
    np.testing.assert_array_equal(first, again)
    assert not np.allclose(np.sort(first[:6, 0]), np.sort(second[:6, 0]))
    copies = pipeline.with_copies(split, augment, 3, 2)
    assert copies.read([0, 11]).shape == (2, SAMPLES)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"rate": 0}, "`rate` must be at least 1"),
        ({"shift": 0.6}, r"`shift` must be in \[0, 0.5\]"),
        ({"time_mask": 1}, "`time_mask` must be in"),
        ({"frequency_mask": -0.1}, "`frequency_mask` must be in"),
        ({"snr": 10}, "`snr` must be two numbers"),
        ({"snr": (20, 10)}, "`snr` must be two numbers"),
        ({"snr": (0, 10), "noises": np.zeros(9)}, "and not silent"),
        ({"snr": (0, 10), "noises": np.ones(9, int)}, r"be float \(samples,\)"),
    ],
)
def test_values_out_of_range_are_refused(options, message):
    with pytest.raises(errors.InputError, match=message):
        augment_audio.change(**{"rate": RATE, **options})
