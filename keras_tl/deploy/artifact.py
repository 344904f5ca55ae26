"""Load the model of a finished run, and use it for predictions."""

import json
import threading
import zipfile
from collections.abc import Iterable
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from scipy import special

from keras_tl import errors, files, progress
from keras_tl.data import sources, text
from keras_tl.data.sources import Image, Source
from keras_tl.deploy import compiled

if TYPE_CHECKING:
    import keras

# How logits become an answer, by the activation that the manifest names.
ANSWERS = {
    "softmax": lambda logits: special.softmax(logits, axis=-1),
    "sigmoid": special.expit,
    "linear": lambda logits: logits,
}

# Examples of one call from which on the time pays that `compiled.frozen` takes.
MANY = 512

_BUILDING = threading.RLock()


class _built_once(cached_property):
    """A `cached_property` that several threads can ask for and one thread builds."""

    def __get__(self, instance, owner=None):
        with _BUILDING:
            return super().__get__(instance, owner)


class NotFiniteError(errors.InputError):
    """The model returns NaN or infinity for some examples.

    Attributes:
        examples: The index of each of them; the others can be predicted.
    """

    examples: tuple[int, ...] = ()


@dataclass(frozen=True)
class Artifact:
    """A trained model with all that is needed to use it; threads can share it.

    Attributes:
        folder: The run it was saved by.
        class_names: Names in the order of the logits.
        manifest: Versions, seed, data, and how inputs are prepared.
    """

    folder: Path
    class_names: tuple[str, ...]
    manifest: dict

    @property
    def kind(self) -> str:
        """Kind of the examples that the model takes: "image" or "text"."""
        # Runs that were saved before there were others have none.
        return self.manifest["input"].get("kind", "image")

    @property
    def activation(self) -> str:
        """Function from logits to answers: "softmax", "sigmoid" or "linear"."""
        return self.manifest.get("activation", "softmax")

    @property
    def image_size(self) -> int:
        """Side in pixels of the square images that the model takes."""
        return self.manifest["input"]["shape"][0]

    @_built_once
    def model(self) -> "keras.Model":
        """The model, from raw images or token ids to logits."""
        return load_model(self.folder / "model.keras")

    @property
    def is_converted(self) -> bool:
        """Whether the run's folder has its model for LiteRT."""
        return compiled.converted(self.folder, self.manifest["model_sha256"])

    @_built_once
    def _logits(self) -> compiled.Logits:
        if self._uses_litert:
            return compiled.litert(self.folder)
        return compiled.traced(self.model)

    @_built_once
    def _logits_of_many(self) -> compiled.Logits:
        return self._logits if self._uses_litert else compiled.frozen(self.model)

    @_built_once
    def _uses_litert(self) -> bool:
        return compiled.has_litert() and self.is_converted

    def convert(self) -> None:
        """Convert the model for LiteRT, unless that was done; `predict` then uses it.

        Raises:
            InputError: LiteRT is not installed, or the folder cannot be written to.
        """
        errors.check_installed("ai_edge_litert", extra="export")
        with _BUILDING:
            if not self.is_converted:
                compiled.convert(self.model, self.folder, self.manifest["model_sha256"])
                for name in ("_uses_litert", "_logits", "_logits_of_many"):
                    self.__dict__.pop(name, None)

    def source(self, inputs: Image | np.ndarray | Iterable[Image | str]) -> Source:
        """Prepare examples as the model takes them.

        Args:
            inputs: One example or several, as any iterable. Images: files or arrays as
                `sources.of_images` takes them, of each of which the largest centred
                square is resized to `image_size`. Texts: strings.

        Raises:
            InputError: Examples of another kind or type.
        """
        if self.kind == "image":
            return sources.of_images(inputs, self.image_size)
        if isinstance(inputs, str) or not isinstance(inputs, Iterable):
            inputs = [inputs]
        tokenizer = text.Tokenizer.load(self.folder / text.FILE)
        return text.tokenize(text.Texts(tuple(inputs)), tokenizer)

    def predict(
        self,
        inputs: Image | np.ndarray | Iterable[Image | str],
        *,
        batch_size: int = 32,
    ) -> np.ndarray:
        """Predict the answers of the model.

        Args:
            inputs: See `source`.
            batch_size: Examples that are in memory at a time.

        Returns:
            float32 `(count, outputs)`, also for one example: probabilities of the
            classes, whose rows sum to 1; of several labels, a probability of each; or
            the predicted numbers.

        Raises:
            NotFiniteError: The model returns NaN or infinity for some examples.
            InputError: Examples that cannot be used.
        """
        errors.check_at_least("batch_size", batch_size, 1)
        source = self.source(inputs)
        count = len(source)
        logits = np.zeros((count, len(self.class_names)), "float32")
        steps = range(0, count, batch_size)
        for start in progress.track(steps, "predicting", len(steps)):
            rows = np.arange(start, min(start + batch_size, count))
            compute = self._logits if count < MANY else self._logits_of_many
            logits[rows] = compute(source.read(rows))
        _check_finite(logits)
        return ANSWERS[self.activation](logits)


def _check_finite(logits):
    bad = np.flatnonzero(~np.isfinite(logits).all(axis=1)).tolist()
    if not bad:
        return
    which = f"{len(bad)} of {len(logits)} examples, those with the index "
    which += ", ".join(map(str, bad[:5])) + (", ..." if len(bad) > 5 else "")
    everything = "all examples: training diverged"
    error = NotFiniteError(
        "The model returns NaN or infinity for "
        f"{everything if len(bad) == len(logits) else which}."
    )
    error.examples = tuple(bad)
    raise error


def load(folder: Path | str) -> Artifact:
    """Load the artefact that a run has saved.

    Raises:
        InputError: The folder is no finished run, or a file in it is damaged.
    """
    folder = Path(folder)
    manifest_path = folder / "manifest.json"
    if not manifest_path.exists():
        raise errors.expected(
            "run",
            "name the folder of a finished run, with a manifest.json in it",
            str(folder),
        )
    manifest = files.read_json(manifest_path)
    if "trials" in manifest:
        raise errors.expected(
            "run",
            "name a run that saved one classifier",
            str(folder),
            "This is a study, whose trials are in trials.csv.",
        )
    path = folder / "model.keras"
    if not path.is_file() or files.sha256(path) != manifest.get("model_sha256"):
        # Raises with what is wrong with it, where that can be told.
        load_model(path)
        raise errors.InputError(
            f"{path} is not the file this run saved: its sha256 is not the one in "
            "manifest.json."
        )
    class_names = files.read_json(folder / "classes.json")
    return Artifact(folder, tuple(class_names), manifest)


def load_model(path: Path | str) -> "keras.Model":
    """Load a `.keras` file that may be damaged or hostile.

    Keras reports "File not found" for existing files that are no archive, and has six
    other errors for damaged ones. Code in a file (a Lambda layer) is never run.

    Raises:
        InputError: The file is damaged or cannot be loaded safely.
    """
    path = Path(path)
    if not path.is_file():
        raise errors.InputError(f"There is no model file {path}.")
    if not path.stat().st_size:
        raise errors.InputError(f"The model file {path} is empty.")
    try:
        with zipfile.ZipFile(path) as archive:
            damaged = archive.testzip()
            layers = json.loads(archive.read("config.json"))
    except (zipfile.BadZipFile, KeyError, ValueError, OSError) as error:
        raise errors.InputError(
            f"The model file {path} is truncated, damaged or no .keras file: {error}."
        ) from error
    if damaged is not None:
        raise errors.InputError(f"The model file {path} is damaged, in {damaged}.")
    if '"class_name": "Lambda"' in json.dumps(layers):
        raise errors.InputError(
            f"The model file {path} holds a Lambda layer: Python code that would run "
            "here. It is not loaded; ask for the model with registered layers instead."
        )
    import keras

    if "keras_hub" in json.dumps(layers):
        errors.check_installed("keras_hub", extra="text")
        import keras_hub  # noqa: F401  Its layers are known from then on.

    try:
        return keras.models.load_model(path, compile=False)
    except Exception as error:  # Keras raises nearly any type on a damaged file.
        raise errors.InputError(
            f"The model file {path} cannot be loaded: {str(error).splitlines()[0]}"
        ) from error
