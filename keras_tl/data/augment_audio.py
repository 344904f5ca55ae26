"""Random changes of training clips of sound, on whole batches, after the cache.

As in `augment`, an augmentation draws nothing itself: the pipeline gives each clip a
row of uniform random numbers, made from (seed, epoch, example index).
"""

import math
import numbers

import numpy as np

from keras_tl import errors
from keras_tl.data.pipeline import Augmentation

# Samples of the noise that clips get excerpts of, where no other is given.
_NOISE_LENGTH = 2**18
# Seconds from one spectrum to the next, and how many of them overlap.
_HOP_SECONDS, _OVERLAP = 0.008, 4
# Factor of what is left out, -40 dB: no clip that was recorded has digital silence.
_LEFT = 0.01


def named(name: str | None, rate: int) -> Augmentation | None:
    """Return an augmentation by its name in `settings.AugmentSound`.

    Args:
        name: "shift_and_noise" shifts clips by up to a tenth and adds noise 10 to 40 dB
            below them; "spec_augment" besides leaves out up to a fifth of the time and
            of the frequencies; "none" or `None` is none.
        rate: Samples a second of the clips.

    Raises:
        InputError: Another name.

    >>> named("none", 16_000) is None
    True
    """
    masks = {
        "shift_and_noise": {},
        "spec_augment": {"time_mask": 0.2, "frequency_mask": 0.2},
    }
    if name in (None, "none"):
        return None
    if name not in masks:
        raise errors.unknown("augment", name, ["none", *masks])
    return change(rate=rate, shift=0.1, snr=(10.0, 40.0), **masks[name])


def change(
    *,
    rate: int,
    shift: float = 0.0,
    snr: tuple[float, float] | None = None,
    noises: np.ndarray | None = None,
    time_mask: float = 0.0,
    frequency_mask: float = 0.0,
) -> Augmentation:
    """Build an augmentation of clips: shifted, in noise, with parts left out.

    Args:
        rate: Samples a second of the clips.
        shift: Largest shift to either side, as a share of the clip, in [0, 0.5]. What
            leaves one end enters at the other, so that there is no digital silence.
        snr: Lowest and highest level of the clip above the noise that is added to it,
            in dB; `None` adds none.
        noises: float `(samples,)` in [-1, 1], recordings of what may be in the
            background, at the same rate and one after the other; by default white
            noise. Each clip gets an excerpt.
        time_mask: Largest share of the clip that is left out, in [0, 1).
        frequency_mask: Largest share of the frequencies, on the mel scale, that is left
            out, in [0, 1).

    Returns:
        Function from clips float `(batch, samples)` in [-1, 1] and draws `(batch, n)`
        with n >= 8 to float32 clips of the same shape in [-1, 1].

    Raises:
        InputError: A value out of range.

    Reference:
        Masks: Park et al., "SpecAugment", 2019, arXiv:1904.08779, one of each, on the
        waveform: the model computes its own spectrogram. Noise: Ko et al., "A study on
        data augmentation of reverberant speech", ICASSP 2017.
    """
    errors.check_at_least("rate", rate, 1)
    _check_share("shift", shift, 0.5)
    _check_share("time_mask", time_mask, 0.999)
    _check_share("frequency_mask", frequency_mask, 0.999)
    background = None if snr is None else _background(snr, noises)

    def augment(clips, draws):
        import tensorflow as tf

        clips = tf.cast(clips, tf.float32)
        # Each change has its own columns: one more leaves the others as they were.
        move, level, excerpt, sign, *masks = tf.unstack(draws[:, :8], num=8, axis=1)
        if shift:
            clips = _shifted(clips, (2 * move - 1) * shift)
        if time_mask or frequency_mask:
            clips = _masked(clips, rate, time_mask, frequency_mask, masks)
        if background is not None:
            ratio = snr[0] + level * (snr[1] - snr[0])
            clips = _in_noise(clips, background, ratio, excerpt, sign)
        return tf.clip_by_value(clips, -1.0, 1.0)

    return augment


def _check_share(argument, value, most):
    number = isinstance(value, numbers.Real) and not isinstance(value, bool)
    if not number or not 0 <= value <= most:
        raise errors.expected(argument, f"be in [0, {most}]", value)


def _background(snr, noises) -> np.ndarray:
    """Return the noise, with a mean square of 1."""
    if not (
        isinstance(snr, tuple | list)
        and len(snr) == 2
        and all(isinstance(value, numbers.Real) for value in snr)
        and -math.inf < snr[0] <= snr[1] < math.inf
    ):
        raise errors.expected("snr", "be two numbers: lowest <= highest", snr)
    if noises is None:
        rng = np.random.default_rng(0)
        return rng.standard_normal(_NOISE_LENGTH, "float32")
    noises = np.asarray(noises)
    power = np.square(noises, dtype="float64").mean() if noises.size else 0
    if noises.ndim != 1 or noises.dtype.kind != "f" or not 0 < power < math.inf:
        raise errors.expected(
            "noises",
            "be float (samples,), and not silent",
            f"{noises.dtype} {noises.shape}",
        )
    return (noises / math.sqrt(power)).astype("float32")


def _shifted(clips, shares):
    import tensorflow as tf

    samples = tf.shape(clips)[1]
    steps = tf.cast(tf.round(shares * tf.cast(samples, tf.float32)), tf.int32)
    places = (tf.range(samples) - steps[:, None]) % samples
    return tf.gather(clips, places, axis=1, batch_dims=1)


def _in_noise(clips, background, ratio, excerpt, sign):
    """Add an excerpt of the noise to each clip, so much below its own level."""
    import tensorflow as tf

    samples, length = tf.shape(clips)[1], len(background)
    start = tf.cast(excerpt * float(length), tf.int32)
    places = (start[:, None] + tf.range(samples)) % length
    noise = tf.gather(tf.constant(background), places)
    # One excerpt is two: upside down it sounds alike.
    noise *= tf.where(sign < 0.5, 1.0, -1.0)[:, None]
    own = tf.sqrt(tf.reduce_mean(tf.square(clips), axis=1))
    return clips + noise * (own * 10.0 ** (-ratio / 20.0))[:, None]


def _masked(clips, rate, time_mask, frequency_mask, draws):
    """Leave out a span of time, and one of frequencies, of each clip."""
    import tensorflow as tf

    hop = max(16, round(_HOP_SECONDS * rate))
    length = _OVERLAP * hop
    samples = tf.shape(clips)[1]
    # Whole windows over both ends: there too, windows add up to 1.
    behind = length + (-samples) % hop
    padded = tf.pad(clips, [[0, 0], [length, behind]])
    spectra = tf.signal.stft(padded, length, hop, fft_length=length)
    frames = tf.range(tf.shape(spectra)[1])
    times = (tf.cast(frames * hop - length // 2, tf.float32)) / tf.cast(
        samples, tf.float32
    )
    frequencies = np.arange(length // 2 + 1) * rate / length
    mel = np.log1p(frequencies / 700) / math.log1p(rate / 2 / 700)
    kept = _outside(times, time_mask, *draws[:2])[:, :, None]
    kept *= _outside(tf.constant(mel, tf.float32), frequency_mask, *draws[2:])[:, None]
    inverse = tf.signal.inverse_stft(
        spectra * tf.cast(kept, tf.complex64),
        length,
        hop,
        fft_length=length,
        window_fn=tf.signal.inverse_stft_window_fn(hop),
    )
    return inverse[:, length : length + samples]


def _outside(places, share, width, start):
    """Return the factor of each place: low in a span drawn for each clip, else 1."""
    import tensorflow as tf

    width = (width * share)[:, None]
    start = start[:, None] * (1 - width)
    inside = (places >= start) & (places < start + width)
    return tf.where(inside, _LEFT, 1.0)
