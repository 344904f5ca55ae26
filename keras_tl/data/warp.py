"""Turn, shift, shear, zoom and flip whole batches of images, sampling pixels once."""

import functools
import math
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import tensorflow as tf

FILL_MODES = ("constant", "nearest", "reflect", "wrap")


def transform(
    images: "tf.Tensor",
    *,
    theta: "tf.Tensor",
    tx: "tf.Tensor",
    ty: "tf.Tensor",
    shear: "tf.Tensor",
    zx: "tf.Tensor",
    zy: "tf.Tensor",
    flip_horizontal: "tf.Tensor",
    flip_vertical: "tf.Tensor",
    channel_shift: "tf.Tensor | None" = None,
    brightness: "tf.Tensor | None" = None,
    fill_mode: str = "nearest",
    cval: float = 0.0,
    legacy_centre: bool = False,
) -> "tf.Tensor":
    """Transform each image by its parameters, sampling its pixels once.

    The parameters have the names, signs and order of those of
    `ImageDataGenerator.apply_transform`: turn, shift, shear and zoom around the centre,
    then the channels, then flips, then brightness. x is along the columns, y along the
    rows. All are vectors `(batch,)`.

    Args:
        images: `(batch, height, width, channels)` in [0, 255], uint8 or float.
        theta: Degrees, positive is counter-clockwise.
        tx: Pixels, positive is to the left (before the turn).
        ty: Pixels, positive is up (before the turn).
        shear: Degrees; at 90 the rows would be flat.
        zx: Factor of what the width shows: 2 halves everything in it.
        zy: The same of the height.
        flip_horizontal: Whether to swap left and right.
        flip_vertical: Whether to swap top and bottom.
        channel_shift: Added to all pixels, then clipped to the lowest and highest of
            the image; `None` adds nothing.
        brightness: Factor of all pixels, clipped to [0, 255]; `None` changes nothing.
            The reference cuts the fractions off, before and after multiplying: for
            whole pixels less than one level below the result here.
        fill_mode: One of `FILL_MODES`.
        cval: Value beyond the edge for "constant".
        legacy_centre: Whether to turn an image that is not square around the point that
            has row and column swapped, as the reference does.

    Returns:
        float32 images of the same shape. An image's result does not depend on the
        others in the batch.
    """
    return _compiled_transform()(
        images,
        theta,
        tx,
        ty,
        shear,
        zx,
        zy,
        flip_horizontal,
        flip_vertical,
        channel_shift,
        brightness,
        fill_mode=fill_mode,
        cval=float(cval),
        legacy_centre=legacy_centre,
    )


@functools.cache
def _compiled_transform():
    import tensorflow as tf

    # XLA makes one loop of it: four to six times as fast on a CPU.
    return tf.function(_transform, jit_compile=True, autograph=False)


def _transform(
    images,
    theta,
    tx,
    ty,
    shear,
    zx,
    zy,
    flip_horizontal,
    flip_vertical,
    channel_shift,
    brightness,
    *,
    fill_mode,
    cval,
    legacy_centre,
):
    import tensorflow as tf

    height, width, channels = images.shape[1:]

    # In float64, which takes no longer: in float32 the places in an image of 224 pixels
    # would be off by some 0.00003 pixels, and its values by up to 0.01.
    def per_image(values):
        return tf.cast(values, tf.float64)[:, None, None]

    def flipped(places, length, flip):
        return tf.where(flip[:, None, None], length - 1 - places, places)

    turn = per_image(theta) * (math.pi / 180)
    sheared = turn + per_image(shear) * (math.pi / 180)
    # From a place in the result to its place in the image, both from the centre. The
    # product of the reference's four matrices, written out: turn, shift, shear, zoom.
    centre_x, centre_y = (width - 1) / 2, (height - 1) / 2
    if legacy_centre:
        centre_x, centre_y = centre_y, centre_x
    columns = tf.range(width, dtype=tf.float64)[None, None, :]
    rows = tf.range(height, dtype=tf.float64)[None, :, None]
    columns = flipped(columns, width, flip_horizontal) - centre_x
    rows = flipped(rows, height, flip_vertical) - centre_y
    columns = columns * per_image(zx) + per_image(tx)
    rows = rows * per_image(zy)
    x = tf.cos(turn) * columns - tf.sin(sheared) * rows - tf.sin(turn) * per_image(ty)
    y = tf.sin(turn) * columns + tf.cos(sheared) * rows + tf.cos(turn) * per_image(ty)
    left, right, to_right, inside_x = _neighbours(x + centre_x, width, fill_mode)
    top, bottom, to_bottom, inside_y = _neighbours(y + centre_y, height, fill_mode)
    pixels = tf.reshape(images, [-1, height * width, channels])

    def read(row, column):
        values = tf.gather(pixels, row * width + column, axis=1, batch_dims=1)
        return tf.cast(values, tf.float32)

    above = read(top, left) * (1 - to_right) + read(top, right) * to_right
    below = read(bottom, left) * (1 - to_right) + read(bottom, right) * to_right
    images = above * (1 - to_bottom) + below * to_bottom
    if fill_mode == "constant":
        inside = tf.logical_and(inside_x, inside_y)[..., None]
        images = tf.where(inside, images, tf.constant(cval, tf.float32))
    if channel_shift is not None:
        added = tf.cast(channel_shift, tf.float32)[:, None, None, None]
        low = tf.reduce_min(images, axis=(1, 2, 3), keepdims=True)
        high = tf.reduce_max(images, axis=(1, 2, 3), keepdims=True)
        images = tf.clip_by_value(images + added, low, high)
    if brightness is not None:
        factor = tf.cast(brightness, tf.float32)[:, None, None, None]
        images = tf.clip_by_value(images * factor, 0, 255)
    return images


def _neighbours(places, length, fill_mode):
    """Find the two pixels around each place on an axis, as scipy.ndimage does.

    Returns:
        Index of the one before and the one behind, weight of the latter in [0, 1), and
        whether the place is on the image.
    """
    import tensorflow as tf

    last = length - 1
    # Places on the edge itself that rounding has put a hair beside it are on the image.
    inside = tf.logical_and(places >= -1e-6, places <= last + 1e-6)
    if fill_mode == "wrap":
        # The first pixel is the last one too: the image has one pixel less than it has.
        period = max(last, 1)
        below = places + period * (tf.floor(-places / period) + 1)
        above = places - period * tf.floor(places / period)
        wrapped = tf.where(places < 0, below, tf.where(places > last, above, places))
        places = tf.where(inside, places, wrapped)
    if fill_mode != "reflect":
        places = tf.clip_by_value(places, 0, last)
    before = tf.floor(places)
    weight = tf.cast(places - before, tf.float32)[..., None]
    before = tf.cast(before, tf.int32)
    behind = before + 1
    if fill_mode == "reflect":
        before, behind = (
            tf.minimum(index % (2 * length), 2 * length - 1 - index % (2 * length))
            for index in (before, behind)
        )
    return before, tf.minimum(behind, last), weight, inside
