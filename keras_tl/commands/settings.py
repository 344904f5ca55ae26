"""Settings that the commands have in common; nothing heavy is imported here."""

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from keras_tl import errors
from keras_tl.config import Settings

Resize = Literal["crop", "pad", "stretch"]
Task = Literal["single-label", "multi-label", "regression"]


@dataclass(frozen=True)
class OwnDataSettings(Settings):
    """Settings of data of one's own; see `datasets.load`."""

    # Folder of images, table of images and labels, or name of a dataset.
    data: str
    image_column: str | None = None  # Column of a table with the paths of the images.
    # Column of a table with the labels; several are separated by commas.
    label_column: str | None = None
    split_column: str | None = None  # Column of a table that names the splits.
    images: Path | None = None  # Folder that the paths in a table are relative to.
    # Column of a table, or regular expression on the paths of images whose group names
    # what belongs together: images of a patient, of a burst. Groups are never split.
    groups: str | None = None
    # What the labels are; by default as they look.
    task: Task | None = None
    # How an image becomes a square: its middle, all of it with borders, or all of it
    # distorted.
    resize: Resize = "crop"
    # What to do where images are broken: stop with an error, or skip them.
    bad_images: Literal["error", "skip"] = "error"
    # File with one path in each line, of images to leave out, as `check` writes it.
    leave_out: Path | None = None
    limit: int | None = None  # Keep at most this many images of each split.

    def __post_init__(self):
        super().__post_init__()
        if not self.data:
            raise errors.expected("data", "name a folder, a table or a dataset", "")
        if self.limit is not None:
            errors.check_at_least("limit", self.limit, 1)
        for name in ("images", "leave_out"):
            path = getattr(self, name)
            if path is not None and not Path(path).exists():
                raise errors.expected(name, "exist", str(path))


@dataclass(frozen=True)
class Check(OwnDataSettings):
    """Check data before training; ends with status 1 where something is wrong."""

    seed: int = 0  # Seed with which splits that are missing are drawn.
    # Whether to look for wrong labels, odd images and splits that differ, by the
    # features of a pretrained backbone.
    features: bool = True
    cache: bool = True  # Keep the features for training.
    model: Path | None = None  # File of a Keras model to check with the data.
    script: Path | None = None  # Python file whose calls of Keras are checked.
    page: Path | None = None  # New HTML file with the findings and their pictures.
    # New file for the paths of the images to leave out, for --leave-out.
    fix_list: Path | None = None
    json: bool = False  # Print the findings as JSON, and nothing else.

    def __post_init__(self):
        super().__post_init__()
        for name in ("model", "script"):
            path = getattr(self, name)
            if path is not None and not Path(path).is_file():
                raise errors.expected(name, "be a file that exists", str(path))
        for name in ("page", "fix_list"):
            path = getattr(self, name)
            if path is not None and Path(path).exists():
                raise errors.expected(
                    name,
                    "name a file that does not exist yet",
                    str(path),
                    "Nothing is overwritten: choose another name, or move that one "
                    "away.",
                )


# Name of a command -> its settings.
COMMANDS: dict[str, type[OwnDataSettings]] = {"check": Check}
