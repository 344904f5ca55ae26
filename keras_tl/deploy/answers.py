"""Answers of a model, and what is needed to judge them."""

import io
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path

import numpy as np
from PIL import Image

from keras_tl import errors, files
from keras_tl.analysis import unlike
from keras_tl.data.splits import Split

RULES, EXAMPLES = "answers.json", "examples.npz"
# Side of the small pictures, in pixels.
_SIDE = 96


@dataclass(frozen=True, eq=False)
class Answers:
    """Answers of a model for some examples.

    Attributes:
        values: Calibrated probabilities, or numbers, float32 `(count, outputs)`.
        is_sure: Whether the model answers, `(count,)`; where not, its highest
            probability is too low for the wanted precision.
        unlike: How unlike the training examples each is, float32 `(count,)`: above 1
            it is farther from them than 95 % of the validation examples. `None` where
            the run has kept no training examples.
        embeddings: What the classifier takes, float32 `(count, features)`; `None` where
            the last layer is no Dense layer.
        feature_maps: What `embeddings` are the averages of, float32
            `(count, rows, columns, features)`; `None` where they are of nothing, or
            were not asked for.
    """

    values: np.ndarray
    is_sure: np.ndarray
    unlike: np.ndarray | None = None
    embeddings: np.ndarray | None = None
    feature_maps: np.ndarray | None = None

    @cached_property
    def notes(self) -> list[str]:
        """For each example what is to be said of its answer; mostly nothing."""
        strange = self.unlike > 1 if self.unlike is not None else ~self.is_sure & False
        return [
            ", ".join(
                ["not sure"] * (not sure) + ["unlike the training examples"] * far
            )
            for sure, far in zip(self.is_sure, strange.tolist(), strict=True)
        ]


@dataclass(frozen=True, eq=False)
class Examples:
    """Training examples that a run keeps, as many of each class as possible.

    Attributes:
        embeddings: What the classifier takes, `(count, features)`.
        labels: Classes, rows of labels, or numbers.
        names: Files, or texts.
        thumbnails: Small JPEG files; none of texts.
        kernel: Weights of the classifier, `(features, outputs)`.
        confidence: Highest probability of each of the validation examples.
        correct: Whether that class is the right one.
    """

    embeddings: np.ndarray
    labels: np.ndarray
    names: tuple[str, ...]
    thumbnails: tuple[bytes, ...]
    kernel: np.ndarray
    confidence: np.ndarray = field(default_factory=lambda: np.zeros(0, "float32"))
    correct: np.ndarray = field(default_factory=lambda: np.zeros(0, bool))

    @classmethod
    def of(cls, kept: Split, embeddings: np.ndarray, kernel: np.ndarray) -> "Examples":
        """Return examples with their names and small pictures.

        Args:
            kept: The examples.
            embeddings: What the classifier takes, of each.
            kernel: Weights of the classifier.
        """
        every = range(len(kept))
        shown = kept.inputs.preview(every, _SIDE)
        is_text = kept.inputs.kind == "text"
        names = shown if is_text else kept.inputs.names(every)
        if names is None:
            names = [f"example {index}" for index in every]
        if not is_text:  # The folder of a file says its class, those above are private.
            names = ["/".join(Path(name).parts[-2:]) for name in names]
        pictures = [] if is_text or shown is None else map(thumbnail, shown)
        return cls(embeddings, kept.labels, tuple(names), tuple(pictures), kernel)

    def save(self, path: Path) -> None:
        """Write the examples to a file, in one step.

        Raises:
            InputError: The disk is full, or the folder cannot be written to.
        """
        lengths = [len(thumbnail) for thumbnail in self.thumbnails]
        joined = np.frombuffer(b"".join(self.thumbnails), "uint8")
        with files.atomic(path) as temporary, open(temporary, "wb") as file:
            np.savez_compressed(
                file,
                embeddings=self.embeddings.astype("float16"),
                labels=self.labels,
                names=np.array(self.names, "U"),
                thumbnails=joined,
                lengths=np.array(lengths, "int64"),
                kernel=self.kernel.astype("float32"),
                confidence=self.confidence.astype("float32"),
                correct=self.correct,
            )

    @classmethod
    def load(cls, path: Path) -> "Examples":
        """Read the examples of a run; nothing in the file is run."""
        with np.load(path, allow_pickle=False) as kept:
            ends = np.cumsum(kept["lengths"])
            joined = kept["thumbnails"].tobytes()
            return cls(
                kept["embeddings"].astype("float32"),
                kept["labels"],
                tuple(kept["names"].tolist()),
                tuple(
                    joined[end - length : end]
                    for end, length in zip(ends, kept["lengths"], strict=True)
                ),
                *(kept[name] for name in ("kernel", "confidence", "correct")),
            )

    @cached_property
    def _directions(self) -> np.ndarray:
        return unlike.normalized(self.embeddings)

    def cosines(self, embeddings: np.ndarray) -> np.ndarray:
        """Return the cosines of embeddings with those of the examples."""
        return unlike.normalized(embeddings) @ self._directions.T

    def nearest(self, embeddings: np.ndarray, count: int = 3) -> np.ndarray:
        """Return the indices of the nearest examples, `(len(embeddings), count)`."""
        errors.check_at_least("count", count, 1)
        cosines = self.cosines(embeddings)
        return np.argsort(-cosines, axis=1, kind="stable")[:, :count]

    def heat_maps(self, feature_maps: np.ndarray, outputs: np.ndarray) -> np.ndarray:
        """Compute which places of an image speak for an output.

        Class activation maps of Zhou et al., Learning Deep Features for Discriminative
        Localization, 2016, arXiv:1512.04150, without what speaks against it. For a
        Dense layer on an average they are those of Grad-CAM, arXiv:1610.02391.

        Args:
            feature_maps: `(count, rows, columns, features)`.
            outputs: Index of the output, for each, `(count,)`.

        Returns:
            float32 `(count, rows, columns)`, in [0, 1]; each has its maximum at 1,
            unless nothing speaks for the output.
        """
        weights = self.kernel[:, outputs].T[:, None, None, :]
        maps = np.maximum((feature_maps * weights).sum(axis=-1), 0)
        highest = maps.max(axis=(1, 2), keepdims=True)
        return maps / np.where(highest > 0, highest, 1)


def thumbnail(pixels: np.ndarray) -> bytes:
    """Return an image, uint8 `(rows, columns, 3)`, as a small JPEG file."""
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, format="jpeg", quality=80)
    return buffer.getvalue()
