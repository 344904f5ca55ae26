"""Settings that the commands have in common; nothing heavy is imported here."""

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from keras_tl import environment, errors, files
from keras_tl.config import Settings
from keras_tl.models import catalog
from keras_tl.training.settings import CacheSettings

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
class Rank(CacheSettings, OwnDataSettings):
    """Rank backbones for your images without training them."""

    # Backbones to rank: names of keras.applications, as `mobilenet_v2` or
    # `mobilenet:0.25` with a width, or KerasHub presets and folders, as
    # `hub:vit_base_patch16_224_imagenet`. By default those whose weights are on this
    # machine.
    backbones: tuple[str, ...] = ()
    # Files of weights, as NAME=FILE, or NAME:PREPROCESSING=FILE where they were trained
    # under another scale of the pixels: tf, torch, caffe, lite or none.
    weights: tuple[str, ...] = ()
    # Side of the square images, in pixels. By default 96, or what a backbone needs.
    image_size: int | None = None
    score: Literal["logistic", "ridge", "neighbours"] = "logistic"  # What decides.
    limit: int | None = 2000  # Keep at most this many images of each split.
    seed: int = 0  # Seed of splits, probes and intervals.
    out: Path | None = None  # New folder for table, figure and numbers.

    def __post_init__(self):
        super().__post_init__()
        environment.check_keras()
        if not 0 <= self.seed < 2**31:
            raise errors.expected("seed", f"be in [0, {2**31 - 1}]", self.seed)
        if self.image_size is not None:
            errors.check_at_least("image_size", self.image_size, 32)
        for one in self.backbones:
            self.width(one)
        for one in self.weights:
            name, contract, file = self.split(one)
            smallest = catalog.find(name).smallest_size
            catalog.check(name, file, self.image_size or smallest, contract)
        if self.out is not None:
            files.check_new(self.out)

    @staticmethod
    def width(name: str) -> tuple[str, float | None]:
        """Take the width from the name of a backbone, where it has one.

        >>> Rank.width("mobilenet:0.25"), Rank.width("hub:folder")
        (('mobilenet', 0.25), ('hub:folder', None))
        """
        if name.startswith(catalog.HUB):
            return name, None
        base, colon, width = name.partition(":")
        backbone = catalog.find(base)
        if not colon:
            return base, None
        if width not in map(str, backbone.alphas):
            hint = f"{base} has one width." if not backbone.alphas else ""
            known = " or ".join(f"{base}:{one}" for one in backbone.alphas) or base
            raise errors.expected("backbones", f"be {known}", name, hint)
        return base, float(width)

    @staticmethod
    def split(text: str) -> tuple[str, str | None, str]:
        """Split NAME=FILE, or NAME:PREPROCESSING=FILE.

        >>> Rank.split("vgg16:torch=a/vgg16.weights.h5")
        ('vgg16', 'torch', 'a/vgg16.weights.h5')
        """
        name, equals, file = text.partition("=")
        if not equals or not file:
            raise errors.expected("weights", "be NAME=FILE", text)
        name, _, contract = name.partition(":")
        return name, contract or None, file


# Name of a command -> its settings.
COMMANDS: dict[str, type[OwnDataSettings]] = {"rank": Rank}
