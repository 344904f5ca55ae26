"""Load the model of a finished run, and use it for predictions."""

import json
import re
import threading
import zipfile
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from scipy import special

from keras_tl import environment, errors, files, progress
from keras_tl.data import images, sources, text
from keras_tl.data.images import Resize
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

    @property
    def resize(self) -> Resize:
        """How an image becomes a square, see `images.decode`."""
        described = self.manifest["input"].get("resize")
        return next(
            (n for n, text in images.RESIZE.items() if text == described), "crop"
        )

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
            return self._checked(compiled.litert(self.folder))
        return self._checked(compiled.traced(self.model))

    @_built_once
    def _logits_of_many(self) -> compiled.Logits:
        if self._uses_litert:
            return self._logits
        return self._checked(compiled.frozen(self.model))

    def _checked(self, logits):
        """Return `logits`, after checking that they fit to the other files."""
        if logits.outputs != len(self.class_names):
            raise errors.InputError(
                f"{self.folder / 'classes.json'} has "
                f"{errors.counted(len(self.class_names), 'name')}, and the model "
                f"{errors.counted(logits.outputs, 'output')}."
            )
        shape, own = self.manifest["input"]["shape"], logits.input_shape
        fits = [size in (None, n) for size, n in zip(shape, own, strict=False)]
        if len(shape) != len(own) or not all(fits):
            raise errors.InputError(
                f"{self.folder / 'manifest.json'} has inputs of the shape {shape}, and "
                f"the model takes {list(own)}."
            )
        return logits

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
                `sources.of_images` takes them; each becomes a square of `image_size`
                pixels as in training, see `resize`. Texts: strings.

        Raises:
            InputError: Examples of another kind or type.
        """
        if self.kind == "image":
            return sources.of_images(inputs, self.image_size, self.resize)
        if isinstance(inputs, str) or not isinstance(inputs, Iterable):
            inputs = [inputs]
        path = self.folder / text.FILE
        tokenizer = text.Tokenizer.load(path)
        if [tokenizer.sequence_length] != self.manifest["input"]["shape"]:
            raise errors.InputError(
                f"{path} makes {errors.counted(tokenizer.sequence_length, 'token')}, "
                f"and the model takes {self.manifest['input']['shape']}."
            )
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
    if not manifest_path.exists() and (folder / "config.json").exists():
        raise errors.expected(
            "run",
            "name a finished run",
            str(folder),
            f"This one was interrupted: continue its command with --resume {folder}",
        )
    if not manifest_path.exists():
        raise errors.expected(
            "run",
            "name the folder of a finished run, with a manifest.json in it",
            str(folder),
        )
    manifest = files.read_json(manifest_path)
    if isinstance(manifest, dict) and "trials" in manifest:
        raise errors.expected(
            "run",
            "name a run that saved one classifier",
            str(folder),
            "This is a study, whose trials are in trials.csv.",
        )
    problem = _problem(manifest)
    if problem:
        raise errors.InputError(f"{manifest_path} is not what a run saves: {problem}.")
    _check_hash(folder / "model.keras", manifest["model_sha256"])
    for name, sha256 in manifest.get("files_sha256", {}).items():
        if name == Path(name).name:
            _check_hash(folder / name, sha256)
    names = files.read_json(folder / "classes.json")
    if not isinstance(names, list) or not all(isinstance(n, str) for n in names):
        raise errors.InputError(
            f"{folder / 'classes.json'} must be a list of the names of the classes."
        )
    return Artifact(folder, tuple(names), manifest)


def copy_weights(run: Path | str, model: "keras.Model", data: Mapping) -> None:
    """Copy the weights of a finished run into a model, which trains on from them.

    Args:
        run: Folder of the finished run.
        model: A model of the same architecture.
        data: What `splits.describe` returns of the data that it trains on.

    Raises:
        InputError: No finished run, another architecture, or other data: those that the
            run was trained on could be among the test examples now.
    """
    finished = load(run)
    before = finished.manifest["data"]
    if any(before[name] != data[name] for name in ("classes", "sha256")):
        raise errors.InputError(
            f"{run} was trained on other data, or on other splits of them: what it was "
            "trained on could be tested on here. Take the same data and seed."
        )
    weights = finished.model.get_weights()
    if [w.shape for w in weights] != [tuple(w.shape) for w in model.weights]:
        raise errors.InputError(
            f"{run} has another model than this one. Take the same backbone, head and "
            "image size."
        )
    model.set_weights(weights)


def _problem(manifest) -> str | None:
    """Return what is wrong with a manifest, if anything is."""
    if not isinstance(manifest, dict):
        return "it is no object"
    if not isinstance(manifest.get("model_sha256"), str):
        return "model_sha256 must be a hash"
    if not isinstance(manifest.get("files_sha256", {}), dict):
        return "files_sha256 must be an object"
    # The first runs had neither objective nor activation, and no kind of input.
    old = "objective" not in manifest
    if manifest.get("activation", "softmax" if old else None) not in list(ANSWERS):
        return f"activation must be one of {', '.join(ANSWERS)}"
    inputs = manifest.get("input")
    if not isinstance(inputs, dict):
        return "input must be an object"
    kind = inputs.get("kind", "image" if old else None)
    if kind not in ("image", "text"):
        return "the kind of input must be image or text"
    shape = inputs.get("shape")
    ranks = {"image": 3, "text": 1}
    if not isinstance(shape, list) or len(shape) != ranks[kind]:
        return f"the shape of input must have {ranks[kind]} numbers"
    if not all(size is None or (type(size) is int and size > 0) for size in shape):
        return "the shape of input must have numbers that are at least 1"
    return None


def _check_hash(path, sha256):
    if not path.is_file() or files.sha256(path) != sha256:
        if path.name == "model.keras":
            _read_archive(path)  # Raises with the reason, where it is known.
        raise errors.InputError(
            f"{path} is not the file this run saved: its sha256 is not the one in "
            "manifest.json."
        )


def load_model(path: Path | str) -> "keras.Model":
    """Load a `.keras` file that may be damaged or hostile.

    Keras reports "File not found" for existing files that are no archive, and has six
    other errors for damaged ones. Code in a file (a Lambda layer) is never run.

    Raises:
        InputError: The file is damaged or cannot be loaded safely, or is of a version
            of Keras that this one cannot read.
    """
    path = Path(path)
    layers, version = _read_archive(path)
    environment.check_keras()
    import keras

    environment.use_standard_keras()
    if "keras_hub" in layers:
        errors.check_installed("keras_hub", extra="text")
        import keras_hub  # noqa: F401  Its layers are known from then on.

    try:
        model = keras.models.load_model(path, compile=False)
    except Exception as error:  # Keras raises nearly any type on a damaged file.
        versions = ""
        if version not in (None, keras.__version__):
            versions = (
                f" It was saved by Keras {version}, and this is Keras "
                f'{keras.__version__}. To load it: pip install "keras=={version}"'
            )
        raise errors.InputError(
            f"The model file {path} cannot be loaded: {errors.reason(error)}.{versions}"
        ) from error
    if not isinstance(model, keras.Model):
        raise errors.InputError(
            f"The model file {path} holds no model, but a {type(model).__name__}."
        )
    return model


def _read_archive(path) -> tuple[str, str | None]:
    """Check a `.keras` file without loading it.

    Returns:
        Its layers as JSON, and the version of Keras that saved it, if it is named.

    Raises:
        InputError: The file is damaged, or holds code.
    """
    if not path.is_file():
        raise errors.InputError(f"There is no model file {path}.")
    if not path.stat().st_size:
        raise errors.InputError(f"The model file {path} is empty.")
    try:
        with zipfile.ZipFile(path) as archive:
            damaged = archive.testzip()
            layers = json.dumps(json.loads(archive.read("config.json")))
            metadata = json.loads(archive.read("metadata.json"))
    except Exception as error:  # Readers raise nearly any type on a damaged file.
        raise errors.InputError(
            f"The model file {path} is truncated, damaged or no .keras file: {error}."
        ) from error
    if damaged is not None:
        raise errors.InputError(f"The model file {path} is damaged, in {damaged}.")
    if '"class_name": "Lambda"' in layers:
        raise errors.InputError(
            f"The model file {path} holds a Lambda layer: Python code that would run "
            "here. It is not loaded; ask for the model with registered layers instead."
        )
    version = metadata.get("keras_version") if isinstance(metadata, dict) else None
    # What a damaged file has there is not repeated.
    return layers, version if re.fullmatch(r"[\w.]{1,20}", str(version)) else None
