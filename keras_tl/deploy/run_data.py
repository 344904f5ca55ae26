"""The data of a finished run, loaded again by its settings."""

import warnings
from collections.abc import Iterator
from dataclasses import replace
from types import SimpleNamespace
from typing import TYPE_CHECKING

from keras_tl import config, errors, files
from keras_tl.analysis import planner
from keras_tl.data import datasets, splits, text
from keras_tl.data.splits import Splits

if TYPE_CHECKING:
    from keras_tl.deploy.artifact import Artifact


def load(artifact: "Artifact") -> Splits:
    """Load the splits of a run again, as its model takes them.

    Args:
        artifact: The run, whose `config.json` names the data.

    Returns:
        The same examples in the same splits, by their hash in `manifest.json`; images
        at the model's size.

    Raises:
        InputError: The run names no data, as that of a script; they are not where they
            were; or they, or their splits, are others now.
    """
    if artifact.kind == "audio":
        raise errors.InputError("data of a run that takes sound are not loaded again")
    settings = files.read_json(artifact.folder / "config.json")
    if not isinstance(settings, dict) or not {"data", "dataset"} & set(settings):
        raise errors.InputError(
            f"{artifact.folder / 'config.json'} names no data: a script made the run"
        )
    settings = SimpleNamespace(**config.current(settings))
    wanted = artifact.manifest.get("data", {}).get("sha256")
    with warnings.catch_warnings():
        # The run has warned of what is odd about them.
        warnings.simplefilter("ignore", errors.InputWarning)
        for data in _candidates(artifact, settings):
            if splits.describe(data)["sha256"] == wanted:
                return sized(artifact, data)
    raise errors.InputError(
        f"the data that {artifact.folder / 'config.json'} names are not those that the "
        "run was trained on, or are split otherwise"
    )


def sized(artifact: "Artifact", data: Splits) -> Splits:
    """Return splits as the model takes them: images at its size."""
    if artifact.kind == "image":
        return data.at_size(artifact.image_size, artifact.resize)
    return data


def _candidates(artifact, settings) -> Iterator[Splits]:
    """Yield the splits that recipes make of the data that their settings name."""
    if artifact.kind == "text":
        yield _texts(artifact, settings)
        return
    if hasattr(settings, "input_column"):  # `keras-tl train`
        # Runs from before there were these settings have images.
        since = {"kind": "image", "root": None, "labels": None, "encoding": "utf-8"}
        settings = SimpleNamespace(**since | vars(settings))
        data = datasets.load(settings.data, **datasets.options_of(settings))
        yield planner.limited(data, settings.limit, seed=settings.seed)
        return
    settings = SimpleNamespace(**{"dataset": None, "limit": None, **vars(settings)})
    data = datasets.from_settings(settings)
    yield data
    # A recipe that reports on validation, as its article does.
    yield replace(data, validation=data.test, test=data.validation)


def _texts(artifact, settings) -> Splits:
    # Runs from before there were these settings.
    since = {"encoding": "utf-8", "bad_files": "error"}
    settings = SimpleNamespace(**since | vars(settings))
    data = datasets.texts_from_settings(settings)
    if settings.labels is not None:
        data = splits.few(data, settings.labels, seed=settings.seed)
    data = splits.limit(data, settings.limit, seed=settings.seed)
    tokenizer = text.Tokenizer.load(artifact.folder / text.FILE)
    return text.tokenize_all(data, tokenizer)
