"""Sound: clips decoded from files, resampled, and brought to one length.

Files are read by soundfile and resampled by soxr, of the extra `audio`; neither
TensorFlow nor Keras is needed for them.
"""

import contextlib
import hashlib
import io
import math
import os
import struct
from collections import Counter
from collections.abc import Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path

import numpy as np

from keras_tl import errors
from keras_tl.data import assembly, folders, images, kinds
from keras_tl.data.assembly import Options
from keras_tl.data.sources import Files, Indices
from keras_tl.data.splits import Splits

# A clip: the path of its file, the content of the file, or its samples.
Clip = str | os.PathLike | bytes | np.ndarray

# Usual suffixes of the formats that are read. Compare with a suffix in lower case.
EXTENSIONS = (
    *(".wav", ".flac", ".ogg", ".oga", ".opus", ".mp3"),
    *(".aif", ".aiff", ".aifc", ".au", ".w64", ".caf"),
)
# Suffixes of sound that libsndfile does not read.
UNREAD_EXTENSIONS = (".m4a", ".aac", ".wma", ".amr", ".ape", ".ra", ".mka", ".webm")

# Samples a second that most speech models take.
RATE = 16_000
# Deviation of the noise that fills up short clips: 10 steps of 16 bits, as quiet rooms
# have it. No model has heard digital silence, whose logarithm is far from all others.
NOISE = 3e-4
# Longest clip that is read, in seconds: their owners know where to cut recordings.
MOST_SECONDS = 600
# Longest input that is chosen for a model by the lengths of clips alone.
_MOST_CHOSEN = 10.0
_RATES, _MOST_CHANNELS = (1_000, 384_000), 32
# Samples of each channel that are decoded at a time.
_PART = 2**16
# Loudest sample, of 1, up to which a clip is silent: -70 dB.
_SILENT = 10 ** (-70 / 20)
# A clip is clipped where more than this share of its samples stand in a row at the
# largest value.
_LARGEST, _IN_A_ROW, _CLIPPED = 0.999, 3, 0.001


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
    _check(rate, samples, noise)
    sound, own = _load(clip, rate, most_seconds)
    return _fit(_resampled(sound, own, rate), samples, noise)


def _check(rate, samples, noise):
    for name, value in (("rate", rate), ("samples", samples)):
        if isinstance(value, bool) or int(value) != value:
            raise errors.expected(name, "be a whole number", value)
        errors.check_at_least(name, value, 1)
    errors.check_at_least("noise", noise, 0)


def _load(clip, rate, most_seconds=MOST_SECONDS) -> tuple[np.ndarray, int]:
    """Return a clip as one channel, and its rate."""
    if isinstance(clip, np.ndarray):
        return _mono(_of_array(clip)), rate
    errors.check_installed("soundfile", extra="audio")
    with _reading(clip) as content:
        sound, rate, _ = _decoded(content, most_seconds)
    return sound, rate


def _of_array(samples, name="clip") -> np.ndarray:
    """Return samples in memory as float32 `(count, channels)`."""
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


def _mono(sound) -> np.ndarray:
    return np.clip(sound.mean(axis=1, dtype="float32"), -1, 1)


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


def _decoded(content: bytes, most_seconds: float) -> tuple[np.ndarray, int, int]:
    """Decode the content of a file.

    Returns:
        float32 `(count,)`, the average of the channels; the rate; and the number of
        channels.
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
        parts.append(_mono(part))
        left -= len(part)
    return np.concatenate(parts)


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


def _check_sound(mono, channels):
    """Raise `InputError` for a clip that holds no sound."""
    if not len(mono):
        raise errors.InputError("holds no samples: its length is zero")
    if not np.isfinite(mono).all():
        raise errors.InputError("holds values that are no numbers")
    loudest = float(np.abs(mono - mono.mean()).max())
    if loudest <= _SILENT:
        averaged = ""
        if channels > 1:
            averaged = f", the average of its {channels} channels"
        level = "digital silence"
        if loudest > 1e-7:
            level = f"its loudest sample is at {20 * math.log10(loudest):.0f} dB"
        raise errors.InputError(f"is silent{averaged}: {level}")


def _is_clipped(mono) -> bool:
    """Return whether the tops of a clip's waves are cut off."""
    largest = np.abs(mono).max()
    if largest < _LARGEST:
        return False
    cut = np.concatenate([[0], np.abs(mono) >= _LARGEST, [0]]).astype("int8")
    starts, ends = (np.flatnonzero(np.diff(cut) == step) for step in (1, -1))
    lengths = ends - starts
    return lengths[lengths >= _IN_A_ROW].sum() > _CLIPPED * len(mono)


@contextlib.contextmanager
def _reading(clip: Path | str | bytes) -> Iterator[bytes]:
    """Yield the content of a file; an error in the block names the file."""
    name = "a clip" if isinstance(clip, bytes) else clip
    try:
        yield clip if isinstance(clip, bytes) else Path(clip).read_bytes()
    except (errors.InputError, OSError) as error:
        raise errors.InputError(f"Cannot use {name}: it {_reason(error)}.") from error


def _reason(error) -> str:
    """Return why a file cannot be used, as the rest of a sentence."""
    if isinstance(error, errors.InputError):
        return str(error)
    return f"cannot be read: {error.strerror or error}"


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

    is_content = isinstance(clip, bytes)
    try:
        return soundfile.info(io.BytesIO(clip) if is_content else str(clip))
    except soundfile.LibsndfileError as error:
        name = "a clip" if is_content else clip
        raise errors.InputError(
            f"Cannot use {name}: it cannot be decoded: {error.error_string}"
        ) from error


def is_sound(path: Path) -> bool:
    """Return whether a file holds sound, by its suffix."""
    return path.suffix.lower() in EXTENSIONS


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
        mono, own, channels = _decoded(content, MOST_SECONDS)
    except errors.InputError as error:
        return Checked(_reason(error))
    example = None
    if samples is not None:
        example = _fit(_resampled(mono, own, rate), samples, noise)
    picture = spectrogram(mono, own, 64, highest=_TOP_OF_COPIES, span=_SPAN_OF_COPIES)
    look, thumbnail = images.look(picture)
    return Checked(
        None,
        _hash(mono, own),
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
        return check(Path(path).read_bytes())
    except OSError as error:
        return Checked(_reason(error))


def seconds_of(clip: Path | str | bytes) -> float:
    """Return the length of a clip in seconds, by the header of its file.

    Raises:
        InputError: The file cannot be read.
    """
    return _header(clip).duration


def _hash(mono, rate) -> bytes:
    # 16 bits: formats of more, and of floats, then agree with those of fewer.
    steps = np.rint(mono * 32768).astype("int32")
    return images.hash_pixels(np.concatenate([[rate], steps]).astype("int32"))


# Dark to bright, as matplotlib's "magma": levels and their colours.
_LEVELS = (0.0, 0.25, 0.5, 0.75, 1.0)
_COLOURS = ((0, 0, 4), (81, 18, 124), (183, 55, 121), (252, 137, 97), (252, 253, 191))
# Levels below the loudest place that a spectrogram shows, in dB; and those by which
# copies are recognized, since compression changes what is quiet.
_SPAN, _SPAN_OF_COPIES = 80.0, 50.0
# Top frequency of spectrograms by which copies are recognized, which telephones have.
_TOP_OF_COPIES = 3_800.0


def spectrogram(
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
    >>> picture = spectrogram(tone, 16_000, 32).astype(int)
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


def picture(clip: Path | str | bytes, side: int = 128) -> np.ndarray:
    """Draw the spectrogram of a clip at its own rate and length, see `spectrogram`.

    Raises:
        InputError: The file cannot be read.
    """
    sound, rate = _load(clip, None)
    return spectrogram(sound, rate, side)


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


@dataclass(frozen=True, eq=False)
class Clips(Files):
    """Clips of sound, decoded each time they are read.

    Attributes:
        paths: One file for each clip, as its path or its content; or its samples at
            `rate`, see `decode`.
        rate: Samples a second of what `read` returns.
        samples: Number of samples of it.
        noise: Standard deviation of the noise that fills up short clips.
        known: See `sources.Files`.

    >>> clips = Clips((np.ones(4, "float32"), np.ones(9, "float32")), 8_000, 6)
    >>> clips.read([1, 0]).shape
    (2, 6)
    """

    paths: tuple[Path | bytes | np.ndarray, ...] = field(repr=False)
    rate: int
    samples: int
    noise: float = NOISE
    known: tuple[tuple[bytes, bytes], ...] | None = field(default=None, repr=False)
    kind = "audio"

    def __post_init__(self):
        _check(self.rate, self.samples, self.noise)

    def read(self, indices: Indices) -> np.ndarray:
        """Decode some clips, in the order of `indices`, float32 `(count, samples)`.

        Raises:
            InputError: A file cannot be used.
        """
        chosen = [self.paths[index] for index in indices]
        with ThreadPoolExecutor() as pool:
            clips = list(pool.map(self._decode, chosen))
        return np.array(clips, "float32").reshape(len(chosen), self.samples)

    def _decode(self, clip):
        return decode(clip, self.rate, self.samples, noise=self.noise)

    def hash_file(self, path: Path | bytes | np.ndarray) -> bytes:
        """Hash rate and samples of a clip at its own length."""
        return _hash(*_load(path, self.rate))

    def preview(self, indices: Indices, side: int = 128) -> np.ndarray:
        """Draw the spectrograms of some clips, uint8 RGB `(count, side, side, 3)`."""
        pictures = [spectrogram(row, self.rate, side) for row in self.read(indices)]
        return np.array(pictures, "uint8").reshape(len(pictures), side, side, 3)

    def input_spec(self) -> dict:
        """Describe the clips that a model takes, and how they are prepared."""
        return {
            "kind": "audio",
            "shape": [self.samples],
            "dtype": "float32",
            "rate": self.rate,
            "noise": self.noise,
            "preprocessing": (
                f"one channel in [-1, 1] at {self.rate:,} Hz, cut to the loudest "
                f"{self.samples / self.rate:.2f} seconds, or centred in noise of "
                f"{self.noise:g}; all else is inside the model"
            ),
        }


def of_clips(
    inputs: Clip | Iterable[Clip], rate: int, samples: int, noise: float = NOISE
) -> Clips:
    """Return a source of clips, in whichever form they are.

    Args:
        inputs: One clip or several, as any iterable. A clip is the path of a file, the
            content of one, or an array of samples at `rate`, see `decode`. Several of
            one length can be one array `(count, samples)`.
        rate: See `Clips`.
        samples: See `Clips`.
        noise: See `Clips`.

    Raises:
        InputError: Anything else.
    """
    if isinstance(inputs, (str, bytes, os.PathLike)) or (
        hasattr(inputs, "__array__")
        and np.asarray(inputs).dtype.kind in "fiu"
        and np.ndim(inputs) == 1
    ):
        inputs = [inputs]
    if not isinstance(inputs, Iterable):
        raise errors.InputError(
            f"`inputs` must be clips. Received: {type(inputs).__name__}."
        )
    each = tuple(_clip(f"inputs[{n}]", clip) for n, clip in enumerate(inputs))
    return Clips(each, rate, samples, noise)


def _clip(name, clip):
    """Return one clip as `Clips` has it."""
    if isinstance(clip, bytes):
        return clip
    if isinstance(clip, (str, os.PathLike)):
        return Path(clip)
    if hasattr(clip, "__array__"):
        return _of_array(clip, name)
    raise errors.InputError(
        f"`{name}` must be a clip: the path of a file, its content as bytes, or an "
        f"array. Received: {type(clip).__name__}."
    )


@dataclass(frozen=True)
class _Reader:
    """Reads files of sound, see `kinds.Reader`.

    Attributes:
        rate: See `Clips`.
        samples: See `Clips`.
        noise: See `Clips`.
        keeps: Whether clips are kept as they are read while they are checked.
    """

    rate: int
    samples: int
    noise: float
    keeps: bool

    def check(self, content):
        samples = self.samples if self.keeps else None
        return check(content, self.rate, samples, self.noise)

    def source(self, files):
        paths = tuple(file.path for file in files)
        clips = Clips(paths, self.rate, self.samples, self.noise, kinds.known(files))
        return kinds.kept(clips, files)

    def remarks(self, files):
        clipped = [file.path for file in files if file.checked.is_clipped]
        several = [file.path for file in files if file.checked.channels > 2]
        remarks = []
        if clipped:
            about = "Clips that are clipped, since they were too loud when recorded"
            remedy = "Record them again with less gain, if they sound distorted."
            remarks.append((about, clipped, remedy))
        if several:
            about = "Clips with more than two channels, all of which are averaged"
            remedy = "Keep the channel that matters, if it is one."
            remarks.append((about, several, remedy))
        return remarks

    def describe(self, files):
        if not files:
            return ""
        lengths = np.array([file.checked.seconds for file in files])
        wanted = self.samples / self.rate
        rates = Counter(file.checked.rate for file in files)
        counts = ", ".join(
            f"{rate:,} Hz" + (f" ({number:,})" if len(rates) > 1 else "")
            for rate, number in rates.most_common(5)
        )
        cut = int((lengths > wanted).sum())
        longer = f", which cuts {errors.counted(cut, 'clip')}" if cut else ""
        return (
            f"Length {lengths.min():.2f} to {lengths.max():.2f} seconds, median "
            f"{np.median(lengths):.2f}, at {counts}; read as {wanted:.2f} seconds at "
            f"{self.rate:,} Hz{longer}."
        )


def files(
    rate: int = RATE, seconds: float | None = None, noise: float = NOISE
) -> kinds.Kind:
    """Return the kind of files of sound, as `folders` and `tables` read them.

    Args:
        rate: Samples a second that the model takes.
        seconds: Length of what it takes; by default that of the longest clip, at most
            10 seconds.
        noise: See `decode`.

    Raises:
        InputError: A rate, length or deviation that is impossible.
    """
    _check(rate, 1 if seconds is None else round(seconds * rate), noise)

    def reader(paths, options):
        errors.check_installed("soundfile", extra="audio")
        length = _longest(paths) if seconds is None else seconds
        samples = max(1, round(length * rate))
        keeps = kinds.has_room(4 * samples * len(paths))
        return _Reader(rate, samples, noise, keeps)

    return kinds.Kind(
        "audio",
        "clip",
        "clip.wav",
        EXTENSIONS,
        UNREAD_EXTENSIONS,
        "WAV or FLAC",
        is_sound,
        check_file,
        reader,
    )


# For what needs no rate, such as listing a folder.
FILES = files()


def _longest(paths) -> float:
    lengths = [0.0]
    for path in paths:
        with contextlib.suppress(errors.InputError):
            lengths.append(seconds_of(path))
    return min(max(lengths) or 1.0, _MOST_CHOSEN)


def from_folder(
    path: Path | str,
    *,
    rate: int = RATE,
    seconds: float | None = None,
    noise: float = NOISE,
    **options,
) -> Splits:
    """Read a folder of sound, one sub-folder per class, as three splits.

    Args:
        path: The folder, laid out as `folders.read` has it.
        rate: See `files`.
        seconds: See `files`.
        noise: See `files`.
        **options: See `assembly.Options`. `groups` keeps the clips of a speaker in one
            split; `labels` takes the classes from the names of files.

    Returns:
        Splits of clips, see `Clips`; class names are sorted.

    Raises:
        InputError: The folder is absent, empty, laid out otherwise, has too few clips
            of a class, or files that cannot be used.
    """
    errors.check_options(options, Options)
    chosen = Options(**options)
    content = folders.read(path, chosen, (files(rate, seconds, noise),))
    return assembly.assemble(content, chosen)
