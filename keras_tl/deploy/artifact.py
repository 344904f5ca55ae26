"""What a run leaves behind, and how it is used again: the run folder."""

import json
import zipfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from scipy import special

from keras_tl import environment, errors, files, progress
from keras_tl.data import splits
from keras_tl.data.splits import Split, Splits
from keras_tl.deploy import compiled
from keras_tl.training import store

if TYPE_CHECKING:
    import keras

    from keras_tl.analysis import evaluation, summary


@dataclass(frozen=True)
class Artifact:
    """A trained classifier with all that is needed to use it.

    Attributes:
        folder: The run it is from.
        class_names: Names in the order of the logits.
        manifest: Versions, seed, data, and how the images were prepared.
    """

    folder: Path
    class_names: tuple[str, ...]
    manifest: dict

    @property
    def image_size(self) -> int:
        """Side in pixels of the square images that the model takes."""
        return self.manifest["input"]["shape"][0]

    @cached_property
    def model(self) -> "keras.Model":
        """From raw images `(batch, image_size, image_size, 3)` to logits."""
        return load_model(self.folder / "model.keras")

    @property
    def is_converted(self) -> bool:
        """Whether the run's folder has its model for LiteRT."""
        return compiled.converted(self.folder, self.manifest["model_sha256"])

    @cached_property
    def _logits(self) -> compiled.Logits:
        if self.is_converted and compiled.has_litert():
            return compiled.litert(self.folder)
        return compiled.frozen(self.model)

    def convert(self) -> None:
        """Convert the model for LiteRT, unless that was done; `predict` then uses it.

        Raises:
            InputError: LiteRT is not installed, or the folder cannot be written to.
        """
        errors.check_installed("ai_edge_litert", extra="export")
        if not self.is_converted:
            compiled.convert(self.model, self.folder, self.manifest["model_sha256"])
            self.__dict__.pop("_logits", None)

    def predict(
        self, images: np.ndarray | Sequence[Path | str], *, batch_size: int = 32
    ) -> np.ndarray:
        """Classify images.

        Args:
            images: uint8 RGB `(count, height, width, 3)` in [0, 255], or image files.
                The largest centred square of each is resized to `image_size`.
            batch_size: Images that are in memory at a time.

        Returns:
            Probabilities `(count, num_classes)`, float32; each row sums to 1.
        """
        if isinstance(images, np.ndarray):
            if images.ndim != 4 or images.shape[-1] != 3 or images.dtype != np.uint8:
                raise errors.InputError(
                    "`images` must be uint8 (count, height, width, 3), RGB in [0, 255]."
                    f" Received: {images.dtype} {images.shape}"
                )
        else:
            images = tuple(Path(path) for path in images)
        errors.check_at_least("batch_size", batch_size, 1)
        count = len(images)
        logits = np.zeros((count, len(self.class_names)), "float32")
        split = Split(images, np.zeros(count), self.image_size)
        steps = range(0, count, batch_size)
        for start in progress.track(steps, "predicting", len(steps)):
            rows = np.arange(start, min(start + batch_size, count))
            logits[rows] = self._logits(split.read(rows))
        if not np.isfinite(logits).all():
            raise errors.InputError(
                "The model gives NaN or infinity for some images: training diverged."
            )
        return special.softmax(logits, axis=-1)


def save(
    folder: Path,
    model: "keras.Model",
    *,
    recipe: str,
    settings,
    data: Splits,
    results: "Mapping[str, evaluation.Evaluation]",
    histories: "summary.Histories",
    seconds: float,
    cache: store.Cache | None = None,
) -> dict:
    """Write what a run has made into its folder, each file in one step.

    `model.keras`, `classes.json`, `metrics.json`, `history.csv`, figures,
    `report.html`, and last `manifest.json`, which is there only when everything else
    is.

    Args:
        folder: The run's folder, which holds its `config.json` already.
        model: The trained classifier; it is saved without its optimizer.
        recipe: Name of the recipe.
        settings: The recipe's settings, of which the manifest keeps the seed.
        data: What it was trained on.
        results: Name -> evaluation on the test split; the last is of `model`.
        histories: Phase -> history, of the phases of `model`; none where nothing was
            trained by epochs, and then no `history.csv` and no curves.
        seconds: How long the run took.
        cache: What the run had from earlier ones, which it took less time for.

    Returns:
        What `metrics.json` holds.

    Raises:
        InputError: The disk is full, or the folder cannot be written to.
    """
    # Not at the top: who only predicts needs neither Keras nor figures.
    from keras_tl.analysis import report, summary
    from keras_tl.models import freezing

    save_model(model, folder / "model.keras")
    files.write_json(folder / "classes.json", list(data.class_names))
    metrics = summary.metrics(results)
    files.write_json(folder / "metrics.json", metrics)
    if histories:
        files.write_csv(folder / "history.csv", summary.history_rows(histories))
    summary.save_figures(folder, results, histories, data.test)
    parts = {
        name: round(sum(history["seconds"]), 1)
        for name, history in histories.items()
        if "seconds" in history
    }
    features = None
    if cache:
        features = {"made": cache.made, "found": cache.found}
        parts = {"features": round(cache.seconds, 1), **parts}
    manifest = {
        **environment.run(recipe, settings, seconds),
        "seconds_of_parts": parts,
        "features": features,
        "data": splits.describe(data),
        "model_sha256": files.sha256(folder / "model.keras"),
        "input": {
            "shape": list(model.inputs[0].shape[1:]),
            "pixels": "RGB in [0, 255]",
            "resize": "largest centred square, bilinear",
            "preprocessing": "inside the model",
        },
        "output": "logits, in the order of classes.json",
    }
    saved = files.read_json(folder / "config.json")
    report.write(
        folder / "report.html",
        command=f"keras-tl run {recipe} --config {folder / 'config.json'} --out NEW",
        settings=saved,
        data=data,
        results=results,
        histories=histories,
        layers=freezing.report(model),
        manifest=manifest,
    )
    files.write_json(folder / "manifest.json", manifest)
    print(
        f"Report: {folder / 'report.html'}. "
        f"To classify images: keras-tl predict {folder} IMAGE..."
    )
    return metrics


def save_model(model: "keras.Model", path: Path) -> None:
    """Save a model in one step: an error leaves the old file as it was."""
    with files.atomic(path) as temporary:
        model.save(temporary, include_optimizer=False)


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
        # What is wrong with it is said where it can be.
        load_model(path)
        raise errors.InputError(
            f"{path} is not the file this run saved: its sha256 is not the one in "
            "manifest.json."
        )
    class_names = files.read_json(folder / "classes.json")
    return Artifact(folder, tuple(class_names), manifest)


def load_model(path: Path | str) -> "keras.Model":
    """Load a `.keras` file that may be damaged or hostile.

    Keras says "File not found" of files that are there but are no archive, and has six
    other errors for damaged ones. Code in a file (a Lambda layer) is never run.

    Raises:
        InputError: What is wrong with the file.
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

    try:
        return keras.models.load_model(path, compile=False)
    except Exception as error:  # Keras raises nearly any type on a damaged file.
        raise errors.InputError(
            f"The model file {path} cannot be loaded: {str(error).splitlines()[0]}"
        ) from error
