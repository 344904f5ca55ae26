"""Decode clips of sound to one channel, one rate and one length, and check them.

Clips are resampled by soxr, of the extra `audio`. Neither TensorFlow nor Keras is
needed.
"""

import hashlib
import math
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from keras_tl import errors, files
from keras_tl.data import images, sound_files, spectrogram
from keras_tl.data.sound_files import MOST_SECONDS

# Samples a second that most speech models take.
RATE = 16_000
# Deviation of the noise that fills up short clips: 10 steps of 16 bits, as quiet rooms
# have it. No model has heard digital silence, whose logarithm is far from all others.
NOISE = 3e-4
# A clip is clipped where more than this share of its samples stand in a row at the
# largest value.
_LARGEST, _IN_A_ROW, _CLIPPED = 0.999, 3, 0.001
# Of the spectrograms by which copies are recognized: the top frequency, which
# telephones have; and levels below the loudest, as compression changes what is quiet.
_TOP_OF_COPIES, _SPAN_OF_COPIES = 3_800.0, 50.0


@dataclass(frozen=True)
class Checked:
    """Result of decoding a clip.

    Attributes:
        problem: Why the file cannot be used, as the rest of a sentence that starts with
            its name; `None` for a file that `decode` reads.
        hash: Hash of its rate and samples, one channel of 16 bits, whatever the format
            of the file; empty where there is a problem.
        look: Perceptual hash of its spectrogram, which hardly changes when a clip is
            compressed or resampled; see `duplicates.near`.
        thumbnail: uint8 RGB `(16, 16, 3)`, its spectrogram.
        example: The clip as `decode` returns it; `None` where it was not asked for.
        seconds: Length in seconds.
        rate: Samples a second, of the file.
        channels: Number of channels, which are averaged.
        is_clipped: Whether it was too loud when it was recorded.
        level: Root mean square, in dB; 0 is the largest value.
    """

    problem: str | None
    hash: bytes = b""
    look: int = 0
    thumbnail: np.ndarray | None = field(default=None, repr=False)
    example: np.ndarray | None = field(default=None, repr=False)
    seconds: float = 0.0
    rate: int = 0
    channels: int = 0
    is_clipped: bool = False
    level: float = 0.0


def decode(
    clip: Path | str | bytes | np.ndarray,
    rate: int,
    samples: int,
    *,
    noise: float = NOISE,
    most_seconds: float = MOST_SECONDS,
) -> np.ndarray:
    """Decode a clip to one channel, one rate and one length.

    Channels are averaged. A longer clip is cut to its loudest part, a shorter one is
    put into the middle, and slight noise fills up the rest: always the same for the
    same clip.

    Args:
        clip: The file, or its content. The content decides how it is read, not the
            name. Or samples at `rate`: float in [-1, 1], or int16; `(count,)` or
            `(count, channels)`.
        rate: Samples a second of the result.
        samples: Number of samples of the result.
        noise: Standard deviation of the noise; 0 is digital silence, of which most
            models have heard nothing.
        most_seconds: Longest file that is read, in seconds.

    Returns:
        float32 `(samples,)` in [-1, 1].

    Raises:
        InputError: The file cannot be read, or holds no sound that can be used.

    >>> decode(np.full(100, 0.5, "float32"), 8_000, 300)[100:200].mean().item()
    0.5
    """
    check_length(rate, samples, noise)
    sound, own = load(clip, rate, most_seconds)
    return _fit(_resampled(sound, own, rate), samples, noise)


def check_length(rate: int, samples: int, noise: float) -> None:
    """Raise `InputError` for what `decode` cannot return."""
    for name, value in (("rate", rate), ("samples", samples)):
        if isinstance(value, bool) or int(value) != value:
            raise errors.expected(name, "be a whole number", value)
        errors.check_at_least(name, value, 1)
    errors.check_at_least("noise", noise, 0)


def load(
    clip: Path | str | bytes | np.ndarray,
    rate: int,
    most_seconds: float = MOST_SECONDS,
) -> tuple[np.ndarray, int]:
    """Return a clip at its own length as one channel, and its rate. See `decode`."""
    if isinstance(clip, np.ndarray):
        return sound_files.mono(of_array(clip)), rate
    return sound_files.load(clip, most_seconds)


def of_array(samples: np.ndarray, name: str = "clip") -> np.ndarray:
    """Return samples in memory as float32 `(count, channels)`.

    Raises:
        InputError: They are not as `decode` takes them; `name` names them.
    """
    rows = np.asarray(samples)
    if rows.dtype == np.int16:
        rows = rows / np.float32(2**15)
    if rows.dtype.kind != "f" or rows.ndim not in (1, 2) or not rows.size:
        raise errors.InputError(
            f"`{name}` must be float in [-1, 1] or int16, (samples,) or (samples, "
            f"channels). Received: {rows.dtype} {rows.shape}."
        )
    if not np.isfinite(rows).all() or np.abs(rows).max() > 2:
        raise errors.InputError(
            f"`{name}` must be in [-1, 1]. Received values from {rows.min():g} to "
            f"{rows.max():g}. Samples of 16 bits are divided by 32768."
        )
    return rows.reshape(len(rows), -1).astype("float32")


def _resampled(sound, own, rate) -> np.ndarray:
    if own == rate:
        return sound
    errors.check_installed("soxr", extra="audio")
    import soxr

    # Resampling can swing over the ends of the range.
    return np.clip(soxr.resample(sound, own, rate), -1, 1)


def _fit(sound, samples, noise) -> np.ndarray:
    """Cut a clip, or fill it up, to a number of samples."""
    if len(sound) > samples:
        start = _loudest(sound, samples)
        return np.ascontiguousarray(sound[start : start + samples])
    digest = hashlib.blake2b(np.ascontiguousarray(sound).data, digest_size=8).digest()
    rng = np.random.default_rng(int.from_bytes(digest, "little"))
    filled = rng.standard_normal(samples, "float32") * np.float32(noise)
    start = (samples - len(sound)) // 2
    filled[start : start + len(sound)] = sound
    return np.clip(filled, -1, 1)


def _loudest(sound, samples) -> int:
    """Return where the loudest part of a clip begins: that of the most energy.

    Of parts that are equally loud, the one nearest to the middle.
    """
    energy = np.concatenate([[0.0], np.cumsum(np.square(sound, dtype="float64"))])
    sums = energy[samples:] - energy[:-samples]
    best = np.flatnonzero(sums >= sums.max() * (1 - 1e-6))
    middle = (len(sound) - samples) / 2
    return int(best[np.abs(best - middle).argmin()])


def check(
    content: bytes,
    rate: int | None = None,
    samples: int | None = None,
    noise: float = NOISE,
) -> Checked:
    """Check a clip by decoding all of it, once.

    Args:
        content: The bytes of its file.
        rate: See `decode`.
        samples: See `decode`; `None` keeps no example.
        noise: See `decode`.
    """
    errors.check_installed("soundfile", extra="audio")
    try:
        mono, own, channels = sound_files.read(content)
    except errors.InputError as error:
        return Checked(sound_files.reason(error))
    example = None
    if samples is not None:
        example = _fit(_resampled(mono, own, rate), samples, noise)
    shown = {"highest": _TOP_OF_COPIES, "span": _SPAN_OF_COPIES}
    picture = spectrogram.draw(mono, own, 64, **shown)
    look, thumbnail = images.look(picture)
    return Checked(
        None,
        hash_of(mono, own),
        look,
        thumbnail,
        example,
        len(mono) / own,
        own,
        channels,
        _is_clipped(mono),
        10 * math.log10(float(np.square(mono, dtype="float64").mean())),
    )


def check_file(path: Path | str) -> Checked:
    """Read a file and check it. See `check`."""
    try:
        return check(files.content(path))
    except OSError as error:
        return Checked(sound_files.reason(error))


def hash_of(mono: np.ndarray, rate: int) -> bytes:
    """Hash the samples of a clip of one channel, and its rate."""
    # 16 bits: formats of more, and of floats, then agree with those of fewer.
    steps = np.rint(mono * 32768).astype("int32")
    return images.hash_pixels(np.concatenate([[rate], steps]).astype("int32"))


def _is_clipped(mono) -> bool:
    """Return whether the tops of a clip's waves are cut off."""
    largest = np.abs(mono).max()
    if largest < _LARGEST:
        return False
    cut = np.concatenate([[0], np.abs(mono) >= _LARGEST, [0]]).astype("int8")
    starts, ends = (np.flatnonzero(np.diff(cut) == step) for step in (1, -1))
    lengths = ends - starts
    return lengths[lengths >= _IN_A_ROW].sum() > _CLIPPED * len(mono)


def describe_changes(checked: Iterable[Checked], rate: int, samples: int) -> str:
    """Describe what a model does not hear of clips as they are, or nothing.

    Args:
        checked: Results of decoding the clips.
        rate: Samples a second that the model takes.
        samples: Number of samples that it takes.

    >>> clip = Checked(None, seconds=1.5, rate=44_100, channels=6)
    >>> print(describe_changes([clip], 16_000, 16_000))
    Resampled to 16,000 Hz: 1 clip. Cut to their loudest 1.00 seconds: 1 clip. All \
channels averaged: 1 clip.
    """
    checked = [one for one in checked if not one.problem]
    seconds = samples / rate
    counts = {
        f"Resampled to {rate:,} Hz": [one.rate != rate for one in checked],
        f"Cut to their loudest {seconds:.2f} seconds": [
            round(one.seconds * rate) > samples for one in checked
        ],
        "All channels averaged": [one.channels > 1 for one in checked],
    }
    return " ".join(
        f"{change}: {errors.counted(sum(clips), 'clip')}."
        for change, clips in counts.items()
        if any(clips)
    )
