"""Settings of the data that recipes have in common; nothing heavy is imported here."""

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from keras_tl import errors
from keras_tl.config import Settings
from keras_tl.data import remote
from keras_tl.data.choices import SAMPLE_NAME, BadFiles

Augment = Literal[
    "none",
    "flip_and_crop",
    "random_resized_crop",
    "zoom",
    "zoom_and_flip",
    "image_data_generator",
    "rand_augment",
    "mix_up",
    "cut_mix",
]
# Random changes of training clips, see `augment_audio.named`.
AugmentSound = Literal["none", "shift_and_noise", "spec_augment"]


@dataclass(frozen=True)
class FolderSettings(Settings):
    """Settings of images in a folder; see `folders.from_folder`."""

    # Folder of your own images, table of images and labels, or packed folder, in place
    # of the dataset.
    data: Path | None = None
    # What to do where images are broken: stop with an error, or skip them.
    bad_files: BadFiles = "error"
    limit: int | None = None  # Keep at most this many images of each split.

    def __post_init__(self):
        super().__post_init__()
        if self.limit is not None:
            errors.check_at_least("limit", self.limit, 1)
        here = remote.address(self.data) is None
        if self.data is not None and here and not Path(self.data).exists():
            expectation = "be a folder or a table that exists"
            raise errors.expected("data", expectation, str(self.data))


@dataclass(frozen=True)
class DataSettings(FolderSettings):
    """Settings of a dataset; see `datasets.from_settings`."""

    dataset: str = SAMPLE_NAME  # cifar10_sample, digits, or a TFDS dataset.


@dataclass(frozen=True)
class TextSettings(Settings):
    """Settings of texts in tables; see `datasets.texts_from_settings`."""

    data: Path | None = None  # Folder of tables with the columns label and text.
    encoding: str = "utf-8"  # Encoding of the tables.
    # What to do where texts are empty: stop with an error, or skip them.
    bad_files: BadFiles = "error"
    sequence_length: int = 48  # Tokens of a text; longer ones are cut.

    def __post_init__(self):
        super().__post_init__()
        if remote.address(self.data) is None:
            errors.check_folder("data", self.data, "See --help for what it holds.")
        errors.check_encoding(self.encoding)
        errors.check_at_least("sequence_length", self.sequence_length, 3)


@dataclass(frozen=True)
class AugmentSettings(Settings):
    """Settings of augmentation; see `augment.from_settings`."""

    augment: Augment = "none"  # Random changes of the training images.
    # Changed copies of each image, made once; 0 changes images anew in every epoch.
    augmented_copies: int = 0

    def __post_init__(self):
        super().__post_init__()
        errors.check_at_least("augmented_copies", self.augmented_copies, 0)
        without = ("none", "rand_augment", "mix_up", "cut_mix")
        if self.augmented_copies and self.augment in without:
            raise errors.expected(
                "augmented_copies",
                f"be 0 with --augment {self.augment}, which makes no copies",
                self.augmented_copies,
            )
