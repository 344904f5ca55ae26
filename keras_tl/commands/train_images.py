"""What `train` does with images alone; see `train.KINDS`."""

import functools
from collections.abc import Callable
from dataclasses import replace

import keras
import numpy as np

from keras_tl.analysis import candidates, planner, ranking
from keras_tl.analysis.planner import Decision
from keras_tl.commands import deciding
from keras_tl.commands.deciding import Decisions
from keras_tl.commands.settings import Train
from keras_tl.data import augment, splits
from keras_tl.data.settings import AugmentSettings
from keras_tl.data.splits import Splits
from keras_tl.models import backbones, catalog, freezing, hub_backbones
from keras_tl.training import speed, store, workers

# The recipe with the same steps.
RECIPE = "quickstart"
DECIDED = ("freeze", "augment", "learning_rate")
MOST_EPOCHS = planner.MOST_EPOCHS


def check(settings: Train) -> None:
    """Raise `InputError` for an unknown block, where the backbone is known already."""
    known = (
        settings.backbone is not None
        or settings.minutes < deciding.RANKED
        or len(candidates.at_hand(settings.image_size)) == 1
    )
    if known and settings.freeze not in (None, "all", "none"):
        backbone = untrained(settings.backbone or catalog.EMBEDDED)
        freezing.unfreeze_above(backbone, settings.freeze)


def side_chooser(
    settings: Train, end: float, decisions: Decisions
) -> Callable[[int, float], int]:
    """Return the function that chooses the side of images by their number and size."""
    backbone = settings.backbone or catalog.EMBEDDED

    def choose(count: int, side: float) -> int:
        if backbone.startswith(catalog.HUB):
            return native_size(backbone, settings.image_size)
        # Decided once, though it may be asked for before and after reading.
        chosen = settings.image_size or decisions.value("image_size")
        if chosen is None:
            count = min(count, settings.limit or count)
            smallest = catalog.find(catalog.width(backbone)[0]).roomy_size
            forward = forward_of(backbone, 224)
            left = deciding.seconds_left(end)
            size = planner.image_size(count, side, smallest, forward, left)
            decisions.add(size)
            chosen = size.value
        return chosen

    return choose


def prepare(
    settings: Train, loaded: Splits, end: float, decisions: Decisions
) -> tuple[Train, Splits]:
    """Choose the size and number of the images, and the backbone."""
    choose = side_chooser(settings, end, decisions)
    count = sum(len(split) for _, split in loaded.items())
    some = loaded.train.inputs.sizes(range(0, len(loaded.train), 1 + count // 100))
    side = choose(count, float(np.median([min(pair) for pair in some])))
    settings = replace(settings, image_size=side)
    sized = loaded.at_size(settings.image_size, settings.resize)
    if settings.backbone is None:
        settings = choose_backbone(settings, sized, decisions)
    forward = forward_of(settings.backbone, settings.image_size)
    return deciding.limited(settings, sized, forward, end, decisions)


def forward_of(name: str, image_size: int) -> float:
    """Estimate the seconds of one image through a backbone, by those of a pixel."""
    return seconds_of_a_pixel(name) * image_size**2


@functools.cache
def seconds_of_a_pixel(name: str) -> float:
    """Measure a backbone at the size that it was trained on, once."""
    backbone = untrained(name)
    return speed.forward(backbone) / backbone.input_shape[1] ** 2


def untrained(name: str) -> keras.Model:
    """Load a backbone with random weights, at the size that it was trained on."""
    name, alpha = catalog.width(name)
    side = native_size(name)
    return backbones.load(name, weights=None, image_size=side, alpha=alpha)


def native_size(name: str, image_size: int | None = None) -> int:
    """Return the side of images that a backbone was trained on.

    Args:
        name: Name of the backbone, without a width.
        image_size: The side that is wanted, of a preset of KerasHub that may take it.
    """
    if name.startswith(catalog.HUB):
        return hub_backbones.size_of(name.removeprefix(catalog.HUB), image_size)
    return catalog.find(name).native_size


def choose_backbone(settings: Train, data: Splits, decisions: Decisions) -> Train:
    """Rank the backbones whose weights are on this machine, and choose the best."""
    at_hand = candidates.at_hand(settings.image_size)
    workers.agree(backbones_at_hand=", ".join(one.name for one in at_hand))
    chosen, reason = catalog.EMBEDDED, "it is the only one on this machine"
    if len(at_hand) > 1 and data.task != "single-label":
        reason = "it travels with the package, and others are ranked for classes alone"
    elif len(at_hand) > 1 and settings.minutes < deciding.RANKED:
        reason = f"the others at hand are ranked from {deciding.RANKED:g} minutes on"
    elif len(at_hand) > 1:
        some = splits.limit(data, deciding.MOST_RANKED, seed=settings.seed)
        cache = store.Cache() if settings.cache else None
        ranked = ranking.rank(at_hand, some, cache=cache, seed=settings.seed)
        best = ranked.strongest.candidate
        chosen = (
            best.backbone if best.alpha is None else f"{best.backbone}:{best.alpha}"
        )
        reason = ranked.sentence()
        if ranked.strongest is not ranked.best:
            reason += f" {chosen} has the highest accuracy on ImageNet of these."
    decisions.add(Decision("backbone", chosen, reason))
    return replace(settings, backbone=chosen)


def transfers(settings: Train) -> bool:
    """Return whether the backbone is pretrained."""
    return True


def build(settings: Train, data: Splits) -> keras.Model:
    """Load the pretrained backbone."""
    return backbones.named(settings, settings.image_size)


def decide(
    settings: Train, model: keras.Model, data: Splits, forward: float, end: float
) -> list[Decision]:
    """Decide what is fine-tuned, and how, by how similar the images are to others."""
    measured = None
    if data.task == "single-label":
        measured = planner.measure_similarity(model, data, seed=settings.seed)
    room = planner.full_epochs(data, forward, deciding.seconds_left(end))
    return planner.fine_tuning(data, freezing.blocks(model), measured, room)


def changes(settings: Train, data: Splits) -> dict:
    """Return the random changes of the training images, as `phases.Setup` has them."""
    return augment.from_settings(AugmentSettings(augment=settings.augment or "none"))
