"""Finished runs that answer together: loaded once, batched, replaced while in use."""

import base64
import dataclasses
import subprocess
import sys
import threading
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from keras_tl import errors, files
from keras_tl.data.sources import NOUNS
from keras_tl.deploy import artifact, compiled
from keras_tl.deploy.answers import Answers
from keras_tl.deploy.artifact import Artifact
from keras_tl.serving import stacked
from keras_tl.serving.batching import Batcher
from keras_tl.serving.corrections import Corrections
from keras_tl.serving.uploads import (
    Limits,
    Question,
    content_of,
    decode,
    decode_clip,
)

# Converts a run in a process of its own: this one never loads TensorFlow for it.
_CONVERT = (
    "import sys; import keras_tl.quiet; from keras_tl.deploy import artifact; "
    "artifact.load(sys.argv[1]).convert()"
)


@dataclass(frozen=True, eq=False)
class Hosted:
    """A run that is served.

    Attributes:
        name: Name by which clients ask for it.
        model: Its artefact.
        corrections: Where its corrected examples go.
        head: Its last layer, where it could share what is below with other runs.
        engine: The artefact that computes for it: its own, or that of a run with the
            same layers below the head.
    """

    name: str
    model: Artifact
    corrections: Corrections
    head: stacked.Head | None
    engine: Artifact

    @property
    def accepts(self) -> str:
        """What a request has for it: "images", "clips" or "texts"."""
        return NOUNS[self.model.kind]

    def can_compute_for(self, other: "Hosted") -> bool:
        """Return whether this run's own engine gives what another's head takes."""
        if self.engine is not self.model or None in (self.head, other.head):
            return False
        return self.head.below == other.head.below

    def describe(self) -> dict:
        """Return what clients are told of it; nothing of where it is."""
        model = self.model
        pixels, spec = model.kind == "image", model.manifest["input"]
        sound = model.kind == "audio"
        return {
            "name": self.name,
            "kind": model.kind,
            "class_names": list(model.class_names),
            "activation": model.activation,
            "image_size": model.image_size if pixels else None,
            "resize": model.resize if pixels else None,
            "rate": spec["rate"] if sound else None,
            "clip_seconds": spec["shape"][0] / spec["rate"] if sound else None,
            "sha256": model.manifest["model_sha256"],
            "has_examples": model.examples is not None,
        }

    def prepare(self, example: str | bytes, limits: Limits) -> np.ndarray:
        """Return an example as the model takes it: pixels, samples, or token ids.

        Raises:
            InputError: It cannot be used, in words that tell nothing of this machine.
        """
        model = self.model
        if model.kind == "text":
            return model.source([example]).read(np.zeros(1, int))[0]
        content = content_of(example)
        if model.kind == "audio":
            spec = model.manifest["input"]
            return decode_clip(content, spec, limits.clip_seconds)
        return decode(content, model.image_size, model.resize, limits.pixels)

    def judge(self, outputs: dict[str, np.ndarray]) -> Answers:
        """Return the answers that outputs of the engine mean."""
        if self.engine is not self.model:
            logits = self.head.logits(outputs["embedding"])
            outputs = {**outputs, "logits": logits.astype("float32")}
        return self.model.judge(outputs)


def load(name: str, run: Path, corrections: Path | None, *, alone: bool) -> Hosted:
    """Load a run.

    Args:
        name: Name by which clients ask for it.
        run: Its folder.
        corrections: Folder for those of all models; beside the run by default.
        alone: Whether there is no other run that it could share a backbone with.

    Raises:
        InputError: No finished run, or one that is damaged.
    """
    model = artifact.load(run)
    if model.kind == "audio":
        errors.check_installed("soundfile", extra="audio")
    whole = run.resolve()
    if corrections is None:
        folder = whole.parent / f"{whole.name}-corrections"
    else:
        folder = corrections.resolve() / name
    if folder.is_relative_to(whole):
        hint = "A run stays as it is: name a folder outside of it."
        raise errors.expected("corrections", "not be in a run", str(corrections), hint)
    kept = Corrections(folder, model.kind, model.class_names, model.activation)
    return Hosted(name, model, kept, None if alone else stacked.head(model), model)


def start(hosted: Hosted) -> None:
    """Make a run ready to answer: converted where that is possible, and loaded.

    Raises:
        InputError: Its model is damaged, or does not fit to its other files.
    """
    model = hosted.model
    if compiled.has_litert() and not model.is_converted:
        print(f"Converting {hosted.name} for LiteRT, once.", file=sys.stderr)
        command = [sys.executable, "-c", _CONVERT, str(model.folder)]
        done = subprocess.run(command, capture_output=True, text=True, errors="replace")
        if done.returncode:
            reason = (done.stderr.strip().splitlines() or ["unknown"])[-1]
            print(f"Not converted: {reason} TensorFlow is used.", file=sys.stderr)
    if model.kind == "text":
        model.answer(["a"])
    else:
        dtype = "uint8" if model.kind == "image" else "float32"
        model.answer(np.zeros((1, *model.manifest["input"]["shape"]), dtype))


class Host:
    """The runs that are served, by their names.

    Runs with the same layers below their heads are computed by one of them, in one
    batch.

    Args:
        runs: Name -> folder of the run, the first the default.
        corrections: See `load`.
        observe: Called with the number of rows of each batch.

    Raises:
        InputError: A run that cannot be used.
    """

    def __init__(
        self,
        runs: Mapping[str, Path],
        corrections: Path | None = None,
        observe: Callable[[int], None] = lambda count: None,
    ):
        self._runs, self._corrections = dict(runs), corrections
        self._hosted: dict[str, Hosted] = {}
        for name in runs:
            self._hosted[name] = self._load(name)
        self._loading = threading.Lock()
        self.batcher = Batcher(_compute, observe)

    def _load(self, name) -> Hosted:
        alone = len(self._runs) == 1
        new = load(name, self._runs[name], self._corrections, alone=alone)
        for other in self._hosted.values():
            if other.name != name and other.can_compute_for(new):
                return dataclasses.replace(new, engine=other.model)
        start(new)
        return new

    @property
    def names(self) -> list[str]:
        """Names of the runs."""
        return list(self._hosted)

    def find(self, name: str) -> Hosted | None:
        """Return the run of a name, as it is now."""
        return self._hosted.get(name)

    def reload(self, name: str) -> Hosted:
        """Load a run again from its folder, and answer with it from then on.

        The old one answers until the new one is ready, and what it has begun; runs that
        it computes for keep it.

        Raises:
            InputError: The folder has no finished run any more; the old one stays.
        """
        with self._loading:
            new = self._load(name)
            self._hosted[name] = new
        return new

    def close(self) -> None:
        """Answer what waits, and stop."""
        self.batcher.close()


def _compute(engine: Artifact, rows: list[np.ndarray]) -> "Outputs":
    """Compute a batch, whose rows may be of several requests and runs."""
    return Outputs(engine.outputs(np.stack(rows)))


@dataclass(frozen=True)
class Outputs:
    """Named outputs of a model for some rows, which can be sliced."""

    values: dict[str, np.ndarray]

    def __getitem__(self, rows) -> "Outputs":
        return Outputs({name: value[rows] for name, value in self.values.items()})


def results(hosted: Hosted, question: Question, outputs: Outputs) -> list[dict]:
    """Return the answers to a request as JSON has them, one for each row."""
    finite = np.isfinite(outputs.values["logits"]).all(axis=1)
    answers = hosted.judge(outputs[finite].values) if finite.any() else None
    made, row = [], 0
    for is_finite in finite:
        if is_finite:
            made.append(_result(hosted.model, question, answers, row))
            row += 1
        else:
            made.append({"error": "The model returns NaN or infinity for it."})
    return made


def _result(model, question, answers, row) -> dict:
    values, is_sure = answers.values[row], None
    if model.rules.abstain is not None:
        is_sure = bool(answers.is_sure[row])
    result = {
        "answer": _answer(model, values, is_sure),
        "is_sure": is_sure,
        "values": _values(model, values, question.top),
        "unlike": None if answers.unlike is None else _short(answers.unlike[row]),
    }
    rows = slice(row, row + 1)
    if question.heat_map:
        result["heat_map"] = _heat_map(model, answers, rows)
    if question.nearest:
        result["nearest"] = _nearest(model, answers, rows, question.nearest)
    return result


def _answer(model, values, is_sure) -> str | list[str] | None:
    """Return the class, the labels that are present, or nothing of numbers."""
    if model.activation == "linear" or is_sure is False:
        return None
    if model.activation == "softmax":
        return model.class_names[int(values.argmax())]
    return [model.class_names[n] for n in np.flatnonzero(model.rules.present(values))]


def _values(model, values, top) -> list[dict]:
    """Return names with their values: the likeliest first, numbers in their order."""
    order: Sequence[int] = range(len(values))
    if model.activation != "linear":
        order = np.argsort(-values, kind="stable")[:top].tolist()
    key = "value" if model.activation == "linear" else "probability"
    return [{"name": model.class_names[n], key: float(values[n])} for n in order]


def _heat_map(model, answers, rows) -> list[list[float]] | None:
    if answers.feature_maps is None or model.examples is None:
        return None
    outputs = answers.values[rows].argmax(axis=1)
    maps = model.examples.heat_maps(answers.feature_maps[rows], outputs)
    return np.round(maps[0].astype("float64"), 3).tolist()


def _nearest(model, answers, rows, count) -> list[dict] | None:
    if answers.embeddings is None or model.examples is None:
        return None
    examples = model.examples
    shown = []
    for n in examples.nearest(answers.embeddings[rows], count)[0].tolist():
        one = {"name": examples.names[n], "label": _label(model, examples.labels[n])}
        if examples.thumbnails:
            one["jpeg"] = base64.b64encode(examples.thumbnails[n]).decode()
        shown.append(one)
    return shown


def _label(model, label) -> str:
    """Return the label of a training example in words."""
    if model.activation == "softmax":
        return model.class_names[int(label)]
    pairs = zip(model.class_names, np.atleast_1d(label), strict=True)
    if model.activation == "sigmoid":
        return ", ".join(name for name, present in pairs if present)
    return ", ".join(f"{name} {value:.4g}" for name, value in pairs)


def _short(value) -> float:
    return round(float(value), 4)


def named(runs: Sequence[str]) -> dict[str, Path]:
    """Return the name of each run, given as FOLDER or NAME=FOLDER.

    Raises:
        InputError: No such folder, or two of one name.

    >>> named(["my=."])
    {'my': PosixPath('.')}
    """
    folders = {}
    for text in runs:
        name, equals, folder = text.partition("=")
        # A folder may have such a sign in its name.
        if not equals or Path(text).is_dir():
            name, folder = Path(text).resolve().name, text
        if not Path(folder).is_dir():
            raise errors.expected("runs", "be folders of finished runs", text)
        if name[:1] in ("", ".") or set(name) & set("/\\") or not name.isprintable():
            raise errors.expected("runs", "have names that folders can have", text)
        if name in folders:
            hint = f"Give one a name of its own: {name}-2={files.quoted(folder)}"
            raise errors.expected("runs", "have names that differ", text, hint)
        folders[name] = Path(folder)
    return folders
