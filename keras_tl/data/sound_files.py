"""Files of sound: which are read, what they hold, and what is wrong with one.

They are read by soundfile, of the extra `audio`.
"""

import io
import math
import struct
from pathlib import Path

import numpy as np

from keras_tl import errors, files

# Usual suffixes of the formats that are read. Compare with a suffix in lower case.
EXTENSIONS = (
    *(".wav", ".flac", ".ogg", ".oga", ".opus", ".mp3"),
    *(".aif", ".aiff", ".aifc", ".au", ".w64", ".caf"),
)
# Suffixes of sound that libsndfile does not read.
UNREAD_EXTENSIONS = (".m4a", ".aac", ".wma", ".amr", ".ape", ".ra", ".mka", ".webm")

# Longest clip that is read, in seconds: their owners know where to cut recordings.
MOST_SECONDS = 600
_RATES, _MOST_CHANNELS = (1_000, 384_000), 32
# Samples of each channel that are decoded at a time.
_PART = 2**16
# Loudest sample, of 1, up to which a clip is silent: -70 dB.
_SILENT = 10 ** (-70 / 20)
# Fewest samples of a clip, a thousandth of a second at the usual rate.
_FEWEST = 16


def is_sound(path: Path) -> bool:
    """Return whether a file holds sound, by its suffix."""
    return path.suffix.lower() in EXTENSIONS


def load(
    clip: Path | str | bytes, most_seconds: float = MOST_SECONDS
) -> tuple[np.ndarray, int]:
    """Read a file, or its content, as one channel.

    Returns:
        float32 `(count,)` in [-1, 1], and samples a second.

    Raises:
        InputError: The file cannot be read, or holds no sound that can be used; the
            sentence names it.
    """
    errors.check_installed("soundfile", extra="audio")
    name = "a clip" if isinstance(clip, bytes) else clip
    try:
        sound, rate, _ = read(files.content(clip), most_seconds)
    except (errors.InputError, OSError) as error:
        raise errors.InputError(f"Cannot use {name}: it {reason(error)}.") from error
    return sound, rate


def reason(error) -> str:
    """Return why a file cannot be used, as the rest of a sentence."""
    if isinstance(error, errors.InputError):
        return str(error)
    return f"cannot be read: {error.strerror or error}"


def read(
    content: bytes, most_seconds: float = MOST_SECONDS
) -> tuple[np.ndarray, int, int]:
    """Read the content of a file.

    Returns:
        float32 `(count,)` in [-1, 1], the average of the channels; samples a second;
        and the number of channels.

    Raises:
        InputError: Why it cannot be used, as the rest of a sentence that starts with
            the name of the file.
    """
    import soundfile

    if not content:
        raise errors.InputError("is empty (0 bytes)")
    _check_length(content)
    try:
        with soundfile.SoundFile(io.BytesIO(content)) as file:
            rate, channels, announced = file.samplerate, file.channels, file.frames
            if not _RATES[0] <= rate <= _RATES[1]:
                raise errors.InputError(f"has an impossible rate of {rate:,} Hz")
            if channels > _MOST_CHANNELS:
                raise errors.InputError(
                    f"has {channels:,} channels; save it with {_MOST_CHANNELS} at most"
                )
            most = int(most_seconds * rate)
            sound = _read_mono(file, most + 1)
            # The number of an MP3 is estimated.
            is_cut = file.format != "MP3" and len(sound) < min(announced, most)
    except soundfile.LibsndfileError as error:
        raise errors.InputError(
            f"cannot be decoded: {error.error_string.rstrip('.')}"
        ) from error
    if len(sound) > most:
        raise errors.InputError(
            f"is longer than {most_seconds:g} seconds; cut it into clips"
        )
    if is_cut:
        raise errors.InputError(
            f"is truncated: it ends after {len(sound) / rate:.2f} of "
            f"{announced / rate:.2f} seconds"
        )
    _check_sound(sound, channels)
    return sound, rate, channels


def _read_mono(file, most) -> np.ndarray:
    """Read at most so many samples; a small file can be huge, and is read in parts."""
    parts, left = [np.zeros(0, "float32")], most
    while left > 0:
        part = file.read(min(_PART, left), dtype="float32", always_2d=True)
        if not len(part):
            break
        parts.append(mono(part))
        left -= len(part)
    return np.concatenate(parts)


def mono(sound: np.ndarray) -> np.ndarray:
    """Average the channels of `(count, channels)`."""
    return np.clip(sound.mean(axis=1, dtype="float32"), -1, 1)


def _check_length(content):
    """Raise `InputError` for a WAV that ends before its samples do.

    libsndfile reads what is there, without a word.
    """
    if content[:4] != b"RIFF" or content[8:12] != b"WAVE":
        return
    place = 12
    while place + 8 <= len(content):
        name, size = struct.unpack_from("<4sI", content, place)
        place += 8
        if name == b"data":
            missing = place + size - len(content)
            # Programs that write into a pipe do not know the size.
            if missing > 0 and size < 2**31 - 2**16:
                raise errors.InputError(
                    f"is truncated: {missing:,} of its {size:,} bytes of sound are "
                    "missing"
                )
            return
        place += size + size % 2


def _check_sound(sound, channels):
    """Raise `InputError` for a clip that holds no sound."""
    if not len(sound):
        raise errors.InputError("holds no samples: its length is zero")
    if len(sound) < _FEWEST:
        raise errors.InputError(
            f"is too short: it has {errors.counted(len(sound), 'sample')}"
        )
    if not np.isfinite(sound).all():
        raise errors.InputError("holds values that are no numbers")
    loudest = float(np.abs(sound - sound.mean()).max())
    if loudest <= _SILENT:
        averaged = ""
        if channels > 1:
            averaged = f", the average of its {channels} channels"
        level = "digital silence"
        if loudest > 1e-7:
            level = f"its loudest sample is at {20 * math.log10(loudest):.0f} dB"
        raise errors.InputError(f"is silent{averaged}: {level}")


def seconds_of(clip: Path | str | bytes) -> float:
    """Return the length of a clip in seconds, by the header of its file.

    Raises:
        InputError: The file cannot be read.
    """
    return _header(clip).duration


def wave_file(samples: np.ndarray, rate: int) -> bytes:
    """Return samples as the content of a WAV file of 16 bits.

    Args:
        samples: Whole numbers of 16 bits, or float in [-1, 1]; `(count,)` or `(count,
            channels)`.
        rate: Samples a second.

    Raises:
        InputError: Larger numbers.

    >>> len(wave_file(np.zeros(100, "int64"), 8_000))
    244
    """
    errors.check_installed("soundfile", extra="audio")
    import soundfile

    if samples.dtype.kind in "iu":
        if samples.size and np.abs(samples).max() > 2**15:
            raise errors.InputError(
                f"Samples must have 16 bits. Received: {np.abs(samples).max():,}."
            )
        samples = np.clip(samples, -(2**15), 2**15 - 1).astype("int16")
    buffer = io.BytesIO()
    soundfile.write(buffer, samples, rate, format="WAV", subtype="PCM_16")
    return buffer.getvalue()


def format_of(clip: Path | bytes) -> str:
    """Return the usual suffix of the format that a file of sound, or its content, has.

    Raises:
        InputError: It is no sound.
    """
    format = _header(clip).format
    return ".wav" if format.startswith("WAV") else f".{format.lower()}"


def _header(clip):
    """Read the header of a file alone."""
    errors.check_installed("soundfile", extra="audio")
    import soundfile

    name = "a clip" if isinstance(clip, bytes) else clip
    try:
        with files.opened(clip) as file:
            return soundfile.info(file)
    except OSError as error:
        raise errors.InputError(f"Cannot use {name}: it {reason(error)}") from error
    except soundfile.LibsndfileError as error:
        raise errors.InputError(
            f"Cannot use {name}: it cannot be decoded: {error.error_string}"
        ) from error
