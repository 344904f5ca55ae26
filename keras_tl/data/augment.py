"""Random changes of training images, on whole batches, after the cache.

An augmentation is a function `(images, draws) -> images`. `draws` are uniform random
numbers in [0, 1), one row for each image, made by the pipeline from (seed, epoch,
example index): the functions here draw nothing themselves.
"""

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import tensorflow as tf


def flip_and_crop(
    images: "tf.Tensor", draws: "tf.Tensor", *, padding: int = 4
) -> "tf.Tensor":
    """Flip every second image left to right, and shift each by up to `padding` pixels.

    The usual augmentation of CIFAR-10: zeros around the image, then a crop of the old
    size at a random place.

    Args:
        images: `(batch, height, width, channels)`, any dtype.
        draws: Float `(batch, n)` in [0, 1) with n >= 3: flip, rows, columns.
        padding: Largest shift in pixels, to each side.

    Reference:
        He et al., "Deep residual learning", 2015, arXiv:1512.03385, section 4.2.
    """
    import tensorflow as tf

    height, width = images.shape[1:3]
    flip = draws[:, 0] < 0.5
    images = tf.where(flip[:, None, None, None], images[:, :, ::-1], images)
    images = tf.pad(images, [[0, 0], [padding, padding], [padding, padding], [0, 0]])
    steps = tf.cast(2 * padding + 1, draws.dtype)
    top = tf.cast(draws[:, 1] * steps, tf.int32)
    left = tf.cast(draws[:, 2] * steps, tf.int32)
    rows = top[:, None] + tf.range(height)
    columns = left[:, None] + tf.range(width)
    images = tf.gather(images, rows, axis=1, batch_dims=1)
    return tf.gather(images, columns, axis=2, batch_dims=1)
