"""Sound: folders and tables of it as splits of clips of one length."""

import contextlib
import hashlib
from collections import Counter
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from keras_tl import errors, progress
from keras_tl.data import assembly, folders, kinds, sound_files, waves
from keras_tl.data.assembly import Options
from keras_tl.data.choices import BadFiles
from keras_tl.data.clips import Clips
from keras_tl.data.sources import Source
from keras_tl.data.splits import Splits
from keras_tl.data.waves import NOISE, RATE

# Longest input that is chosen for a model by the lengths of clips alone.
_MOST_CHOSEN = 10.0


@dataclass(frozen=True)
class _Reader:
    """Reads files of sound, see `kinds.Reader`.

    Attributes:
        rate: See `clips.Clips`.
        samples: See `clips.Clips`.
        noise: See `clips.Clips`.
        keeps: Whether clips are kept as they are read while they are checked.
    """

    rate: int
    samples: int
    noise: float
    keeps: bool

    def check(self, content):
        samples = self.samples if self.keeps else None
        return waves.check(content, self.rate, samples, self.noise)

    def source(self, files):
        paths = tuple(file.path for file in files)
        shape = self.rate, self.samples, self.noise
        return kinds.kept(Clips(paths, *shape, kinds.known(files)), files)

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
        rate = f"{self.rate:,} Hz"
        read = f"read as {wanted:.2f} seconds at {rate}"
        if set(rates) != {self.rate}:
            read = f"resampled to {rate} and read as {wanted:.2f} seconds"
        return (
            f"Length {lengths.min():.2f} to {lengths.max():.2f} seconds, median "
            f"{np.median(lengths):.2f}, at {counts}; {read}{longer}."
        )


def files(
    rate: int = RATE, seconds: float | None = None, noise: float = NOISE
) -> kinds.Kind:
    """Return the kind of files of sound, as `folders` and `tables` read them.

    Args:
        rate: Samples a second that the model takes.
        seconds: Length of what it takes; by default that of the longest clip, at most
            10 seconds.
        noise: See `waves.decode`.

    Raises:
        InputError: A rate, length or deviation that is impossible.
    """
    waves.check_length(rate, 1 if seconds is None else round(seconds * rate), noise)

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
        sound_files.EXTENSIONS,
        sound_files.UNREAD_EXTENSIONS,
        "WAV or FLAC",
        sound_files.is_sound,
        waves.check_file,
        reader,
    )


# For what needs no rate, such as listing a folder.
FILES = files()


def of_contents(
    parts: Mapping[str, Sequence[bytes]],
    rate: int = RATE,
    seconds: float | None = None,
    *,
    bad_files: BadFiles = "error",
) -> tuple[dict[str, tuple[Source, np.ndarray]], str]:
    """Read clips that are in memory as the contents of files, all to one length.

    Args:
        parts: Name of a split -> its clips.
        rate: See `files`.
        seconds: See `files`.
        bad_files: "error" raises for a clip that cannot be used, "skip" leaves it out.

    Returns:
        Name of a split -> its clips, and the indices of those that can be used; and a
        sentence or two about their lengths and rates.

    Raises:
        InputError: A clip cannot be used, with its split and its index.
    """
    options = Options(bad_files=bad_files)
    contents = [content for part in parts.values() for content in part]
    reader = files(rate, seconds).reader(contents, options)
    with ThreadPoolExecutor() as pool:
        checked = pool.map(reader.check, contents)
        title = "reading clips"
        checked = list(progress.track(checked, title, len(contents)))
    bad, good, made, start = [], [], {}, 0
    for name, part in parts.items():
        of_part = checked[start : start + len(part)]
        start += len(part)
        used = [n for n, one in enumerate(of_part) if not one.problem]
        bad += [(name, n, one.problem) for n, one in enumerate(of_part) if one.problem]
        # In the place of a path stands the content, which is read alike.
        clips = [
            assembly.File(
                assembly.Entry(part[n], name, ""),
                hashlib.sha256(part[n]).hexdigest(),
                of_part[n],
            )
            for n in used
        ]
        good += clips
        made[name] = reader.source(clips), np.array(used, "int64")
    about = reader.describe(good)
    if bad:
        name, index, problem = bad[0]
        counted = errors.counted(len(bad), "clip")
        first = f"the first number {index} of {name}"
        if bad_files == "error":
            raise errors.InputError(
                f"{counted} of {len(contents):,} cannot be used, {first}: it {problem}."
                " Leave them out with `bad_files='skip'` (on the command line: "
                "--bad-files skip)."
            )
        about += f" Left out: {counted} that cannot be used, {first}."
    for remark, clips, remedy in reader.remarks(good):
        errors.warn(f"{remark}: {len(clips):,}. {remedy}")
    return made, about


def _longest(paths) -> float:
    lengths = [0.0]
    for path in paths:
        with contextlib.suppress(errors.InputError):
            lengths.append(sound_files.seconds_of(path))
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
        Splits of clips, see `clips.Clips`; class names are sorted.

    Raises:
        InputError: The folder is absent, empty, laid out otherwise, has too few clips
            of a class, or files that cannot be used.
    """
    errors.check_options(options, Options)
    chosen = Options(**options)
    content = folders.read(path, chosen, (files(rate, seconds, noise),))
    return assembly.assemble(content, chosen)
