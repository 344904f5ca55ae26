"""Draw spectrograms of sound, for people."""

import math
from functools import cache

import numpy as np

# Dark to bright, as matplotlib's "magma": levels and their colours.
_LEVELS = (0.0, 0.25, 0.5, 0.75, 1.0)
_COLOURS = ((0, 0, 4), (81, 18, 124), (183, 55, 121), (252, 137, 97), (252, 253, 191))
# Levels below the loudest place that a spectrogram shows, in dB.
_SPAN = 80.0


def draw(
    sound: np.ndarray,
    rate: int,
    side: int = 128,
    *,
    highest: float | None = None,
    span: float = _SPAN,
) -> np.ndarray:
    """Draw the spectrogram of a clip, for people.

    Args:
        sound: float `(samples,)`.
        rate: Samples a second.
        side: Number of rows, frequencies on the mel scale, and of columns.
        highest: Frequency of the top row, in Hz; by default half of the rate.
        span: Levels below the loudest place that are shown, in dB.

    Returns:
        uint8 RGB `(side, side, 3)`: time from left to right, high frequencies at the
        top, the loudest place bright.

    >>> tone = np.sin(np.arange(16_000) * 2 * np.pi * 1_000 / 16_000)
    >>> picture = draw(tone, 16_000, 32).astype(int)
    >>> picture.shape, picture.sum(axis=(1, 2)).argmax().item()
    ((32, 32, 3), 20)
    """
    length = 2 * max(32, round(0.016 * rate))
    step = max(1, len(sound) / side)
    starts = (np.arange(side) * step + step / 2 - length / 2).astype("int64")
    padded = np.pad(sound.astype("float32"), length)
    frames = padded[starts[:, None] + length + np.arange(length)]
    power = np.abs(np.fft.rfft(frames * np.hanning(length).astype("float32"))) ** 2
    bins = _mel_rows(side, length, rate, highest or rate / 2)
    # A product as small as this takes longer on several threads, which wait for each
    # other.
    rows = np.maximum(np.einsum("tf,fr->tr", power, bins), 1e-12)
    decibels = 10 * np.log10(rows / rows.max())
    levels = np.clip(1 + decibels / span, 0, 1).T[::-1]
    colours = np.array(_COLOURS, "float32").T
    picture = [np.interp(levels, _LEVELS, channel) for channel in colours]
    return np.rint(np.stack(picture, axis=-1)).astype("uint8")


@cache
def _mel_rows(side, length, rate, highest) -> np.ndarray:
    """Compute which frequencies belong to each row, `(frequencies, side)`.

    Triangles on the mel scale of O'Shaughnessy, Speech Communication, 1987, none of
    them narrower than the distance of two frequencies.
    """
    spacing = rate / length
    frequencies = np.arange(length // 2 + 1) * spacing
    top = 2595 * math.log10(1 + highest / 700)
    edges = 700 * (10 ** (np.linspace(0, top, side + 2) / 2595) - 1)
    below = np.maximum(edges[1:-1] - edges[:-2], spacing)
    above = np.maximum(edges[2:] - edges[1:-1], spacing)
    apart = frequencies[:, None] - edges[1:-1]
    weights = np.maximum(0, 1 - np.where(apart < 0, -apart / below, apart / above))
    return (weights / np.maximum(weights.sum(axis=0), 1e-9)).astype("float32")
