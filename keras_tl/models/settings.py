"""Settings of the backbone that recipes have in common; no model is built here."""

from dataclasses import dataclass
from typing import Literal

from keras_tl.config import Settings
from keras_tl.models import catalog

# How the outputs of all tokens become one vector: their mean, the output of the first
# token, which is the one that begins every text, or the largest value of each feature.
Pooling = Literal["mean", "cls", "max"]


@dataclass(frozen=True)
class BackboneSettings(Settings):
    """Settings of a pretrained backbone; see `backbones.from_settings`."""

    backbone: str = "efficientnet_lite0"  # Name of the pretrained backbone.
    weights: str | None = "imagenet"  # "imagenet", a file, or None: random ones.
    # Scale of the pixels: tf, torch, caffe, lite or none. None: that of the backbone.
    preprocessing: str | None = None
    image_size: int = 96  # Side of the square images, in pixels.

    def __post_init__(self):
        super().__post_init__()
        catalog.check(self.backbone, self.weights, self.image_size, self.preprocessing)
