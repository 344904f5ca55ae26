"""Values that the settings of data take; nothing heavy is imported here."""

from typing import Literal

# How an image becomes a square: `images.RESIZE` describes each.
Resize = Literal["crop", "pad", "stretch"]
# What is learned, which `training.objectives` has the losses of.
Task = Literal["single-label", "multi-label", "regression"]
# Kind of the examples, see `kinds`.
FileKind = Literal["image", "audio", "text"]
# Name of several examples of a kind, for people.
NOUNS = {"image": "images", "text": "texts", "audio": "clips"}
# What to do where files are broken: stop with an error, or skip them.
BadFiles = Literal["error", "skip"]

# Names of the datasets that need no download.
SAMPLE_NAME, DIGITS_NAME = "cifar10_sample", "digits"
