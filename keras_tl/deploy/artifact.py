"""Load the model of a finished run, and use it for predictions."""

import json
import math
import random
import threading
from collections.abc import Iterable, Mapping
from concurrent import futures
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from keras_tl import environment, errors, files, progress
from keras_tl.analysis import calibration, unlike
from keras_tl.analysis.calibration import ACTIVATIONS, Rules
from keras_tl.data import clips, images, sources, text
from keras_tl.data.choices import Resize
from keras_tl.data.sources import Image, Source
from keras_tl.deploy import answers, compiled
from keras_tl.deploy.answers import Answers, Examples
from keras_tl.models import untrusted

if TYPE_CHECKING:
    import keras

# Examples of one call from which on the time pays that `compiled.frozen` takes.
MANY = 512
# Weights that a model may declare without storing them.
_ROOM = 2**24

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
        """Kind of the examples that the model takes: "image", "audio" or "text"."""
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
        """The model, from raw images, samples or token ids to logits."""
        return load_model(self.folder / "model.keras")

    @property
    def is_converted(self) -> bool:
        """Whether the run's folder has its model for LiteRT."""
        return compiled.converted(self.folder, self.manifest["model_sha256"])

    @_built_once
    def rules(self) -> Rules:
        """How logits become answers: temperature and thresholds."""
        path = self.folder / answers.RULES
        return Rules.of(files.read_json(path)) if path.exists() else Rules()

    @_built_once
    def examples(self) -> Examples | None:
        """Training examples that the run has kept, if it has."""
        path = self.folder / answers.EXAMPLES
        return Examples.load(path) if path.exists() else None

    def with_precision(self, precision: float) -> "Artifact":
        """Return a model that is sure only where enough of its answers are right.

        Args:
            precision: Wanted share of right answers, in (0, 1].

        Raises:
            InputError: A precision that no answers of validation have, or a run that
                has kept no confidences of validation.
        """
        kept, abstain = self.examples, None
        if kept is not None and len(kept.confidence):
            abstain = calibration.abstain(kept.confidence, kept.correct, precision)
            if abstain is None:
                raise errors.expected(
                    "precision",
                    "be reached by the most confident answers of at least "
                    f"{calibration.FEWEST} validation examples",
                    precision,
                )
        if abstain is None:
            raise errors.InputError(
                f"{self.folder} has kept no confidences of validation examples: only "
                "runs of this version that classify have them."
            )
        made = replace(self)
        made.__dict__["rules"] = replace(self.rules, abstain=abstain)
        return made

    @_built_once
    def _compiled(self) -> compiled.Compiled:
        if self.uses_litert:
            return self._checked(compiled.litert(self.folder))
        return self._checked(compiled.traced(self.model))

    @_built_once
    def _compiled_for_many(self) -> compiled.Compiled:
        if self.uses_litert:
            return self._compiled
        return self._checked(compiled.frozen(self.model))

    def _checked(self, made):
        """Return a compiled model, after checking that it fits to the other files."""
        if made.num_outputs != len(self.class_names):
            raise errors.InputError(
                f"{self.folder / 'classes.json'} has "
                f"{errors.counted(len(self.class_names), 'name')}, and the model "
                f"{errors.counted(made.num_outputs, 'output')}."
            )
        shape, own = self.manifest["input"]["shape"], made.input_shape
        fits = [size in (None, n) for size, n in zip(shape, own, strict=False)]
        if len(shape) != len(own) or not all(fits):
            raise errors.InputError(
                f"{self.folder / 'manifest.json'} has inputs of the shape {shape}, and "
                f"the model takes {list(own)}."
            )
        return made

    @_built_once
    def uses_litert(self) -> bool:
        """Whether LiteRT computes the answers; TensorFlow otherwise."""
        return compiled.runtime() is not None and self.is_converted

    @property
    def runtime(self) -> str:
        """What computes the answers, the fastest at hand, for people."""
        return compiled.runtime() if self.uses_litert else "TensorFlow"

    def convert(self) -> None:
        """Convert the model for LiteRT, unless that was done; `predict` then uses it.

        Raises:
            InputError: LiteRT is not installed, or the folder cannot be written to.
        """
        if compiled.runtime() is None:
            errors.check_installed("ai_edge_litert", extra="export")
        with _BUILDING:
            if not self.is_converted:
                compiled.convert(self.model, self.folder, self.manifest["model_sha256"])
                for name in ("uses_litert", "_compiled", "_compiled_for_many"):
                    self.__dict__.pop(name, None)

    def source(self, inputs: Image | np.ndarray | Iterable[Image | str]) -> Source:
        """Prepare examples as the model takes them.

        Args:
            inputs: One example or several, as any iterable. Images: files or arrays as
                `sources.of_images` takes them; each becomes a square of `image_size`
                pixels as in training, see `resize`. Sound: files or samples as
                `clips.of_clips` takes them, brought to rate and length as in training.
                Texts: strings. What this function has returned is returned as it is.

        Raises:
            InputError: Examples of another kind or type.
        """
        if hasattr(inputs, "input_spec"):
            return inputs
        if self.kind == "image":
            return sources.of_images(inputs, self.image_size, self.resize)
        if self.kind == "audio":
            spec = self.manifest["input"]
            (samples,) = spec["shape"]
            return clips.of_clips(inputs, spec["rate"], samples, spec["noise"])
        if isinstance(inputs, str) or not isinstance(inputs, Iterable):
            inputs = [inputs]
        tokenizer = self.tokenizer
        return text.tokenize(text.Texts(tuple(inputs)), tokenizer)

    @_built_once
    def tokenizer(self) -> text.Tokenizer:
        """The tokenizer that was saved with the run, of a model that takes texts."""
        path = self.folder / text.FILE
        tokenizer = text.Tokenizer.load(path)
        if [tokenizer.sequence_length] != self.manifest["input"]["shape"]:
            raise errors.InputError(
                f"{path} makes {errors.counted(tokenizer.sequence_length, 'token')}, "
                f"and the model takes {self.manifest['input']['shape']}."
            )
        return tokenizer

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
            float32 `(count, outputs)`, also for one example: calibrated probabilities
            of the classes, whose rows sum to 1; of several labels, a probability of
            each; or the predicted numbers.

        Raises:
            NotFiniteError: The model returns NaN or infinity for some examples.
            InputError: Examples that cannot be used.
        """
        return self.answer(inputs, batch_size=batch_size).values

    def answer(
        self,
        inputs: Image | np.ndarray | Iterable[Image | str],
        *,
        batch_size: int = 32,
        feature_maps: bool = False,
    ) -> Answers:
        """Predict, and judge each prediction.

        Args:
            inputs: See `source`.
            batch_size: Examples that are in memory at a time.
            feature_maps: Whether the answers hold them, for `Examples.heat_maps`.

        Raises:
            NotFiniteError: The model returns NaN or infinity for some examples.
            InputError: Examples that cannot be used.
        """
        errors.check_at_least("batch_size", batch_size, 1)
        source = self.source(inputs)
        count, parts = len(source), []
        compute = self._compiled if count < MANY else self._compiled_for_many
        steps = range(0, count, batch_size)
        for start in progress.track(steps, "predicting", len(steps)):
            rows = np.arange(start, min(start + batch_size, count))
            made = compute(source.read(rows))
            if not feature_maps:
                made.pop("feature_map", None)
            parts.append(made)
        if not parts:
            return Answers(
                np.zeros((0, len(self.class_names)), "float32"), np.zeros(0, bool)
            )
        outputs = {
            name: np.concatenate([made[name] for made in parts]) for name in parts[0]
        }
        return self.judge(outputs)

    def outputs(self, batch: np.ndarray) -> dict[str, np.ndarray]:
        """Compute a batch of examples as the model takes them, see `source`.

        Returns:
            `logits`, and where the model has them `embedding` and `feature_map`.
        """
        return self._compiled(batch)

    def judge(self, outputs: dict[str, np.ndarray]) -> Answers:
        """Return the answers that outputs of the model mean.

        Raises:
            NotFiniteError: Logits that are NaN or infinity.
        """
        logits, embeddings = outputs["logits"], outputs.get("embedding")
        _check_finite(logits)
        values = self.rules.values(logits, self.activation)
        is_sure, far = np.ones(len(values), bool), None
        if self.rules.abstain is not None:
            is_sure = values.max(axis=1) >= self.rules.abstain.threshold
        if None not in (self.rules.unlike, self.examples) and embeddings is not None:
            distances = unlike.to_nearest(self.examples.cosines(embeddings))
            far = (distances / max(self.rules.unlike, 1e-6)).astype("float32")
        return Answers(values, is_sure, far, embeddings, outputs.get("feature_map"))


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
    manifest = read_manifest(folder)
    if "trials" in manifest and "model_name" not in manifest:
        raise errors.expected(
            "run",
            "name a run that saved one classifier",
            str(folder),
            "This is a study, whose trials are in trials.csv.",
        )
    problem = _problem(manifest)
    if problem:
        raise errors.InputError(f"{manifest_path} is not what a run saves: {problem}.")
    check_hash(folder / "model.keras", manifest["model_sha256"])
    for name, sha256 in manifest.get("files_sha256", {}).items():
        if name == Path(name).name:
            check_hash(folder / name, sha256)
    names = files.read_json(folder / "classes.json")
    if not isinstance(names, list) or not all(isinstance(n, str) for n in names):
        raise errors.InputError(
            f"{folder / 'classes.json'} must be a list of the names of the classes."
        )
    return Artifact(folder, tuple(names), manifest)


def read_manifest(folder: Path | str) -> dict:
    """Read the manifest of a finished run; only that it is an object is checked.

    Raises:
        InputError: There is none, or it holds something else.
    """
    path = Path(folder) / "manifest.json"
    if not path.exists():
        hint = ""
        if (Path(folder) / "contract.json").exists():
            program = files.quoted(Path(folder) / "predict.py")
            hint = f"This is an export, which needs no keras-tl: python {program} INPUT"
        raise errors.expected(
            "run",
            "name the folder of a finished run, with a manifest.json in it",
            str(folder),
            hint,
        )
    manifest = files.read_json(path)
    if not isinstance(manifest, dict):
        raise errors.InputError(f"{path} is not what a run saves: it is no object.")
    return manifest


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
    if not isinstance(manifest.get("model_sha256"), str):
        return "model_sha256 must be a hash"
    if not isinstance(manifest.get("files_sha256", {}), dict):
        return "files_sha256 must be an object"
    # The first runs had neither objective nor activation, and no kind of input.
    old = "objective" not in manifest
    if manifest.get("activation", "softmax" if old else None) not in list(ACTIVATIONS):
        return f"activation must be one of {', '.join(ACTIVATIONS)}"
    inputs = manifest.get("input")
    if not isinstance(inputs, dict):
        return "input must be an object"
    kind = inputs.get("kind", "image" if old else None)
    ranks = {"image": 3, "text": 1, "audio": 1}
    if kind not in list(ranks):  # Of a damaged file it can be anything.
        return f"the kind of input must be one of {', '.join(ranks)}"
    shape = inputs.get("shape")
    if not isinstance(shape, list) or len(shape) != ranks[kind]:
        return f"the shape of input must have {ranks[kind]} numbers"
    if not all(size is None or (type(size) is int and size > 0) for size in shape):
        return "the shape of input must have numbers that are at least 1"
    return _problem_of_audio(inputs) if kind == "audio" else None


def _problem_of_audio(inputs) -> str | None:
    if None in inputs["shape"]:
        return "the shape of input must have a number of samples"
    for name, lowest in (("rate", 1), ("noise", 0)):
        value = inputs.get(name)
        is_number = type(value) is int or (name == "noise" and type(value) is float)
        if not (is_number and lowest <= value < math.inf):
            return f"{name} of input must be a number that is at least {lowest}"
    return None


def check_hash(path: Path, sha256: str | None) -> None:
    """Raise `InputError` for a file that is missing, or not the one of a hash."""
    if not path.is_file() and path.name != "model.keras":
        raise errors.InputError(f"{path}, which this run saved, is missing.")
    if not path.is_file() or files.sha256(path) != sha256:
        if path.name == "model.keras":
            untrusted.check(path)  # Raises with the reason, where it is known.
        raise errors.InputError(
            f"{path} is not the file this run saved: its sha256 is not the one in "
            "manifest.json."
        )


def load_model(path: Path | str) -> "keras.Model":
    """Load a `.keras` file that may be damaged or hostile.

    Keras reports "File not found" for existing files that are no archive, and has six
    other errors for damaged ones. Code in a file (a Lambda layer) is never run, and
    nothing is made that is larger than what is stored, see `models.untrusted`.

    Raises:
        InputError: The file is damaged or cannot be loaded safely, or is of a version
            of Keras that this one cannot read.
    """
    path = Path(path)
    contents = untrusted.check(path)
    environment.check_keras()
    import keras

    environment.use_standard_keras()
    if "keras_hub" in json.dumps(contents.config):
        errors.check_installed("keras_hub", extra="text")
        import keras_hub  # noqa: F401  Its layers are known from then on.

    _check_size(path, contents)
    try:
        model = keras.models.load_model(path, compile=False)
    except Exception as error:  # Keras raises nearly any type on a damaged file.
        versions, version = "", contents.version
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


def _check_size(path, contents):
    """Refuse a model whose layers declare more than the file stores.

    Keras makes all weights before it reads any: the model is built without them.
    """
    # Layers without a seed draw one from it.
    state = random.getstate()
    try:
        # Keras keeps a list of weights to make later, for each thread.
        with futures.ThreadPoolExecutor(1) as thread:
            declared = thread.submit(_declared_weights, contents.config).result()
    except Exception:  # Loading it says why.
        return
    finally:
        random.setstate(state)
    if declared > max(_ROOM, 4 * contents.stored):
        raise errors.InputError(
            f"The model file {path} declares layers with {declared:,} weights, and "
            f"stores {contents.stored:,}. It is not loaded."
        )


def _declared_weights(config) -> int:
    import keras

    with keras.StatelessScope(initialize_variables=False):
        model = keras.saving.deserialize_keras_object(
            {**config, "compile_config": None}
        )
    return sum(math.prod(one.shape) for one in model.variables)


def uses_hub(path: Path | str) -> bool:
    """Return whether a `.keras` file has layers of KerasHub; it is not loaded.

    Raises:
        InputError: The file is damaged, or holds code.
    """
    return "keras_hub" in json.dumps(untrusted.check(path).config)
