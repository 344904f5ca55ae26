"""Settings of the backbone that recipes have in common; no model is built here."""

from dataclasses import dataclass

from keras_tl.config import Settings
from keras_tl.models import catalog


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
