"""A finished run of images, loaded for the commands that look at it again."""

from pathlib import Path

import keras

from keras_tl import config, errors, files
from keras_tl.data.splits import Splits
from keras_tl.deploy import artifact, run_data
from keras_tl.deploy.artifact import Artifact
from keras_tl.models import backbones, catalog


def is_run(path: Path | str) -> bool:
    """Return whether a folder has the settings of a run."""
    return (Path(path) / "config.json").is_file()


def load(folder: Path | str) -> tuple[Artifact, Splits]:
    """Load a finished run and its data.

    Raises:
        InputError: A study, a run that is not finished, or one whose data are not
            there or are others now.
    """
    made = artifact.load(folder)
    try:
        return made, run_data.load(made)
    except errors.InputError as error:
        reason = str(error).rstrip(".")
        raise errors.InputError(
            f"The data of {folder} cannot be loaded: {reason}. In Python, a model and "
            "its data can be given: see `keras_tl.analysis`."
        ) from error


def backbone(made: Artifact) -> keras.Model | None:
    """Load the backbone of a run of images as it was before the run trained it.

    Returns:
        From raw images to features; `None` where the run names none.
    """
    saved = config.current(files.read_json(made.folder / "config.json"))
    if made.kind != "image" or saved.get("backbone") is None:
        return None
    name, alpha = catalog.width(saved["backbone"])
    weights = saved.get("weights")
    if made.manifest["recipe"] == "train":  # It decides for those of ImageNet.
        weights = weights or "imagenet"
    return backbones.load(
        name,
        weights=weights,
        image_size=made.image_size,
        preprocessing=saved.get("preprocessing"),
        alpha=alpha,
    )
