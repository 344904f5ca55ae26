"""The data of a finished run, loaded again by its settings, as its model takes them."""

import warnings
from collections.abc import Iterator
from dataclasses import replace
from types import SimpleNamespace
from typing import TYPE_CHECKING

from keras_tl import config, errors, files
from keras_tl.analysis import planner
from keras_tl.data import datasets, splits, text
from keras_tl.data.splits import Split, Splits

if TYPE_CHECKING:
    from keras_tl.deploy.artifact import Artifact


def load(artifact: "Artifact") -> Splits:
    """Load the splits of a run again, as its model takes them.

    Args:
        artifact: The run, whose `config.json` names the data.

    Returns:
        The same examples in the same splits, by their hash in `manifest.json`.

    Raises:
        InputError: The run names no data, as that of a script; they are not where they
            were; or they, or their splits, are others now.
    """
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
                return data.map(lambda part: prepare(artifact, part))
    raise errors.InputError(
        f"the data that {artifact.folder / 'config.json'} names are not those that the "
        "run was trained on, or are split otherwise"
    )


def options(artifact: "Artifact") -> dict:
    """Return the arguments of `datasets.load` for examples like those of a run."""
    chosen = {"kind": artifact.kind}
    if artifact.kind == "image":
        chosen |= {"image_size": artifact.image_size, "resize": artifact.resize}
    elif artifact.kind == "audio":
        spec = artifact.manifest["input"]
        chosen |= {"rate": spec["rate"], "seconds": spec["shape"][0] / spec["rate"]}
    return chosen


def prepare(artifact: "Artifact", part: Split) -> Split:
    """Return examples of a run's kind as its model takes them.

    Args:
        artifact: The run.
        part: Images, which are read at the model's size; clips of its rate and length;
            or texts, which become token ids.
    """
    if artifact.kind == "image":
        return part.at_size(artifact.image_size, artifact.resize)
    if artifact.kind == "text" and "tokenizer" not in part.inputs.input_spec():
        return replace(part, inputs=text.tokenize(part.inputs, artifact.tokenizer))
    return part


def _candidates(artifact, settings) -> Iterator[Splits]:
    """Yield the splits that commands and recipes make of the data that they are given.

    Raises:
        InputError: There are none: a recipe has drawn them in a way of its own.
    """
    if hasattr(settings, "input_column"):  # `keras-tl train`
        # Runs from before there were these settings have images.
        since = {"kind": "image", "root": None, "labels": None, "encoding": "utf-8"}
        settings = SimpleNamespace(**since | vars(settings))
        given = datasets.options_of(settings, **options(artifact))
        data = datasets.load(settings.data, **given)
        yield planner.limited(data, settings.limit, seed=settings.seed)
    elif artifact.kind == "text":
        yield _texts(settings)
    elif artifact.kind == "image":
        settings = SimpleNamespace(**{"dataset": None, "limit": None, **vars(settings)})
        data = datasets.from_settings(settings)
        yield data
        # A recipe that reports on validation, as its article does.
        yield replace(data, validation=data.test, test=data.validation)
    else:
        recipe = artifact.manifest.get("recipe")
        raise errors.InputError(f"the recipe {recipe} draws its splits itself")


def _texts(settings) -> Splits:
    # Runs from before there were these settings.
    since = {"encoding": "utf-8", "bad_files": "error", "labels": None}
    settings = SimpleNamespace(**since | vars(settings))
    data = datasets.texts_from_settings(settings)
    if settings.labels is not None:
        data = splits.few(data, settings.labels, seed=settings.seed)
    return splits.limit(data, settings.limit, seed=settings.seed)
