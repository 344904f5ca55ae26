"""Compute log-mel spectrograms inside a model.

They are a formula: their layers are float32 in any precision, and `freezing` never
unfreezes them.
"""

import keras
import numpy as np
from keras import layers, ops

from keras_tl import environment, errors
from keras_tl.models.freezing import FRONT_END

# Samples per second, and of the window that Google's speech embedding takes: 76 frames.
RATE, SAMPLES = 16_000, 12_512
# A frame is 25 ms long, one begins every 10 ms, and its spectrum has 257 frequencies.
_FRAME, _STEP, _FFT = 400, 160, 512


def google(samples: int = SAMPLES, *, bands: int = 32) -> keras.Model:
    """Build the log-mel spectrogram that Google's embedding takes, of Keras's layers.

    The power spectrum of frames of 25 ms, one every 10 ms, under a Hann window; its sum
    in triangular bands between 60 and 3800 Hz, equally wide on the mel scale of Slaney
    (1998) and of equal area; in decibels of 16-bit steps, at least 80 below the loudest
    of the clip; divided by 10, plus 2.

    Args:
        samples: Length of a clip at 16 kHz, at least 512.
        bands: Number of bands, at least 1.

    Returns:
        A model from waves `(batch, samples)` in [-1, 1] to `(batch, frames, bands, 1)`,
        about -6 to 13. All of it is float32, and nothing of it trains.

    Raises:
        InputError: A number out of range.

    >>> google().output.shape
    (None, 76, 32, 1)
    """
    errors.check_at_least("samples", samples, _FFT)
    errors.check_at_least("bands", bands, 1)
    environment.use_standard_keras()
    wave = keras.Input((samples,), name="wave", dtype="float32")
    # In steps of 16 bits.
    x = layers.Rescaling(32768.0, name=f"{FRONT_END}scale", dtype="float32")(wave)
    x = layers.Reshape((samples, 1), name=f"{FRONT_END}reshape", dtype="float32")(x)
    # The window is in the middle of the samples that its spectrum has.
    side = (_FFT - _FRAME) // 2
    x = layers.Cropping1D(side, name=f"{FRONT_END}crop", dtype="float32")(x)
    x = _log_of_bands(x, _FFT, mel_bands(bands)) + 2
    x = layers.Reshape((*x.shape[1:], 1), name=f"{FRONT_END}image", dtype="float32")(x)
    return keras.Model(wave, x, name="log_mel")


def whisper(samples: int, *, bands: int = 80) -> keras.Model:
    """Build the log-mel spectrogram that Whisper takes, of Keras's layers.

    As `google`, with other numbers: the wave is mirrored at both ends, so that a frame
    stands around every 10 ms; its spectrum has 201 frequencies, and bands reach from 0
    to 8000 Hz. It is not filled up to 30 seconds.

    Args:
        samples: Length of a clip at 16 kHz, at least 400.
        bands: Number of bands, 80 for most sizes of Whisper.

    Returns:
        A model from waves `(batch, samples)` in [-1, 1] to `(batch, samples // 160,
        bands)`, about -1.5 to 2. All of it is float32, and nothing of it trains.

    Raises:
        InputError: A number out of range.

    Reference:
        Radford et al., "Robust speech recognition via large-scale weak supervision",
        2022, arXiv:2212.04356; https://github.com/openai/whisper, `audio.py`.

    >>> whisper(16_000).output.shape
    (None, 100, 80)
    """
    errors.check_at_least("samples", samples, _FRAME)
    errors.check_at_least("bands", bands, 1)
    environment.use_standard_keras()
    wave = keras.Input((samples,), name="wave", dtype="float32")
    x = layers.Reshape((samples, 1), name=f"{FRONT_END}reshape", dtype="float32")(wave)
    side = _FRAME // 2
    x = ops.pad(x, ((0, 0), (side, side), (0, 0)), mode="reflect")
    # The last frame is left out.
    x = x[:, : _FRAME + (samples // _STEP - 1) * _STEP]
    x = _log_of_bands(x, _FRAME, mel_bands(bands, low=0.0, high=RATE / 2, fft=_FRAME))
    return keras.Model(wave, x / 4 + 1, name="log_mel")


def _log_of_bands(x, fft, bands):
    """Compute the log10 of the power in bands, at most 8 below the largest of a clip.

    Args:
        x: Waves `(batch, samples, 1)`.
        fft: Number of samples that a spectrum has; those beside the frame are 0.
        bands: See `mel_bands`.
    """
    frozen = {"use_bias": False, "trainable": False, "dtype": "float32"}
    waves = _fourier(fft)
    spectrum = layers.Conv1D(
        waves.shape[-1], _FRAME, _STEP, name=f"{FRONT_END}spectrum", **frozen
    )
    mel = layers.Dense(bands.shape[1], name=f"{FRONT_END}mel", **frozen)
    x = mel(ops.square(spectrum(x)))
    spectrum.set_weights([waves])
    # Of each frequency, there are a cosine and a sine.
    mel.set_weights([np.concatenate([bands, bands])])
    logs = ops.log10(ops.maximum(x, 1e-10))
    return ops.maximum(logs, ops.max(logs, axis=(1, 2), keepdims=True) - 8.0)


def _fourier(fft) -> np.ndarray:
    """Compute a periodic Hann window times cosine and sine of every frequency.

    Keras's own, in `STFTSpectrogram`, are rounded so coarsely that a pure tone has
    others beside it.
    """
    time, frequency = np.arange(_FRAME)[:, None, None], np.arange(fft // 2 + 1)
    window = 0.5 - 0.5 * np.cos(2 * np.pi * time / _FRAME)
    angle = 2 * np.pi * (time * frequency % fft) / fft
    return window * np.concatenate([np.cos(angle), np.sin(angle)], axis=-1)


def mel_bands(
    bands: int, *, low: float = 60.0, high: float = 3800.0, fft: int = _FFT
) -> np.ndarray:
    """Compute the weights of triangular bands that are equally wide on the mel scale.

    Args:
        bands: Number of bands.
        low: Lower end of the first, in Hz.
        high: Upper end of the last, in Hz.
        fft: Number of samples of a spectrum.

    Returns:
        float32 `(fft // 2 + 1, bands)`, weights of the frequencies 0 to 8000 Hz; each
        band has the area 1.

    Reference:
        Slaney, "Auditory Toolbox", 1998,
        https://engineering.purdue.edu/~malcolm/interval/1998-010/
    """
    # Linear up to 1000 Hz, which is 15 mel; from there on 27 mel are a factor of 6.4.
    step = np.log(6.4) / 27

    def mel(hertz):
        return hertz * 3 / 200 if hertz < 1000 else 15 + np.log(hertz / 1000) / step

    mels = np.linspace(mel(low), mel(high), bands + 2)
    edges = np.where(mels < 15, mels * 200 / 3, 1000 * np.exp(step * (mels - 15)))
    hertz = np.linspace(0, RATE / 2, fft // 2 + 1)[:, None]
    rise = (hertz - edges[:-2]) / (edges[1:-1] - edges[:-2])
    fall = (edges[2:] - hertz) / (edges[2:] - edges[1:-1])
    triangles = np.maximum(0, np.minimum(rise, fall))
    return (triangles * 2 / (edges[2:] - edges[:-2])).astype("float32")
