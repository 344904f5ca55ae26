"""Keras's RandAugment, MixUp and CutMix, with the random numbers of the pipeline.

Keras's layers take their numbers from a state that changes with every call, and
RandAugment ignores the seed it is given: a run that is resumed after a kill would see
other images. Here the numbers come from the draws of the batch's first image, so that
(seed, epoch, step) determines a batch. Operations and partners are those of
a batch: an image alone cannot be made again, its batch can.
"""

from typing import TYPE_CHECKING

import keras

from keras_tl import errors
from keras_tl.data.pipeline import Augmentation, Mixing

if TYPE_CHECKING:
    import tensorflow as tf


def rand_augment(*, num_ops: int = 2, factor: float = 0.5) -> Augmentation:
    """Build an augmentation by operations chosen at random from eleven.

    Shear, shift, turn, brightness, colour, contrast, sharpness, posterize, solarize,
    auto-contrast, equalize; all images of a batch get the same operations, each with
    strengths of its own where the operation has some.

    Args:
        num_ops: Operations one after the other, at least 1.
        factor: Strength of each, in [0, 1].

    Returns:
        Function from images `(batch, height, width, 3)` in [0, 255] to float32 ones.

    Raises:
        InputError: A value out of range.

    Reference:
        Cubuk et al., "RandAugment", 2019, arXiv:1909.13719; `keras.layers.RandAugment`.
    """
    errors.check_at_least("num_ops", num_ops, 1)
    _check_share("factor", factor)
    layer = keras.layers.RandAugment(num_ops=num_ops, factor=factor)

    def augment(images, draws):
        layer.build(images.shape)
        seeds = _Seeds(draws)
        # How the layer asks for its seeds: it passes none of what it is given on.
        layer._get_seed_generator = lambda backend=None: seeds
        changes = layer.get_random_transformation(images)
        return layer.transform_images(images, changes)

    return augment


def mix_up(*, alpha: float = 0.2) -> Mixing:
    """Build the mixing of each image and label with those of another of its batch.

    Args:
        alpha: Both parameters of the Beta distribution that shares are drawn from,
            above 0; 1 makes all shares as likely, small values leave most images nearly
            as they are.

    Returns:
        Function from images, labels `(batch, num_classes)` that sum to 1, and draws, to
        float32 images and labels.

    Raises:
        InputError: `alpha` is not above 0.

    Reference:
        Zhang et al., "mixup", 2017, arXiv:1710.09412; `keras.layers.MixUp`.
    """
    errors.check_above("alpha", alpha, 0)
    return _mixing(keras.layers.MixUp(alpha=alpha))


def cut_mix(*, factor: float = 1.0) -> Mixing:
    """Build the mixing that pastes a rectangle of another image of the batch.

    Labels are mixed by the share of the area.

    Args:
        factor: Both parameters of the Beta distribution that shares are drawn from, in
            (0, 1].

    Returns:
        As `mix_up`.

    Raises:
        InputError: A value out of range.

    Reference:
        Yun et al., "CutMix", 2019, arXiv:1905.04899; `keras.layers.CutMix`.
    """
    if not 0 < factor <= 1:
        raise errors.expected("factor", "be in (0, 1]", factor)
    # A pair is a range that Keras draws the parameter from.
    return _mixing(keras.layers.CutMix(factor=(factor, factor)))


def _mixing(layer):
    def mix(images, labels, draws):
        import tensorflow as tf

        images = tf.cast(images, "float32")
        changes = layer.get_random_transformation(images, seed=_Seeds(draws))
        return (
            layer.transform_images(images, changes),
            layer.transform_labels(labels, changes),
        )

    return mix


class _Seeds(keras.random.SeedGenerator):
    """Seeds computed from the draws of a batch and the number of seeds before.

    Keras's own has a variable, which would be a state.
    """

    def __init__(self, draws: "tf.Tensor"):
        import tensorflow as tf

        # float32 has 24 bits between 0 and 1.
        self.key = tf.cast(draws[0, 0] * float(2**24), tf.int32)
        self.count = 0

    def next(self, ordered=True):
        import tensorflow as tf

        self.count += 1
        return tf.stack([self.key, tf.constant(self.count)])


def _check_share(argument, value):
    if not 0 <= value <= 1:
        raise errors.expected(argument, "be in [0, 1]", value)
