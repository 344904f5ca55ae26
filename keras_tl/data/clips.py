"""Clips of sound, decoded to one length each time they are read."""

import os
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from keras_tl import errors
from keras_tl.data import spectrogram, waves
from keras_tl.data.sources import Files, Indices, one_of_files

# A clip: the path of its file, the content of the file, or its samples.
Clip = str | os.PathLike | bytes | np.ndarray


@dataclass(frozen=True, eq=False)
class Clips(Files):
    """Clips of sound, decoded each time they are read.

    Attributes:
        paths: One file for each clip, as its path or its content; or its samples at
            `rate`, see `waves.decode`.
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
    noise: float = waves.NOISE
    known: tuple[tuple[bytes, bytes], ...] | None = field(default=None, repr=False)
    kind = "audio"

    def __post_init__(self):
        waves.check_length(self.rate, self.samples, self.noise)

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
        return waves.decode(clip, self.rate, self.samples, noise=self.noise)

    def hash_file(self, path: Path | bytes | np.ndarray) -> bytes:
        """Hash rate and samples of a clip at its own length."""
        return waves.hash_of(*waves.load(path, self.rate))

    def preview(self, indices: Indices, side: int = 128) -> np.ndarray:
        """Draw the spectrograms of some clips, uint8 RGB `(count, side, side, 3)`."""
        pictures = [
            spectrogram.draw(row, self.rate, side) for row in self.read(indices)
        ]
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
    inputs: Clip | Iterable[Clip], rate: int, samples: int, noise: float = waves.NOISE
) -> Clips:
    """Return a source of clips, in whichever form they are.

    Args:
        inputs: One clip or several, as any iterable. A clip is the path of a file, the
            content of one, or an array of samples at `rate`, see `waves.decode`.
            Several of one length can be one array `(count, samples)`.
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
    return one_of_files(name, clip, "a clip", waves.of_array)
