"""Random changes of training images, on whole batches, after the cache.

An augmentation is a function `(images, draws) -> images`. `draws` are uniform random
numbers in [0, 1), one row for each image, made by the pipeline from (seed, epoch,
example index): the functions here draw nothing themselves.
"""

import functools
import math
import numbers
from typing import TYPE_CHECKING

from keras_tl import errors
from keras_tl.data.pipeline import Augmentation

if TYPE_CHECKING:
    import tensorflow as tf

# What ImageDataGenerator knows; of these, only "nearest" is done here.
FILL_MODES = ("constant", "nearest", "reflect", "wrap")


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


def image_data_generator(
    *,
    rotation_range: float = 0.0,
    width_shift_range: float = 0.0,
    height_shift_range: float = 0.0,
    shear_range: float = 0.0,
    zoom_range: float | tuple[float, float] = 0.0,
    horizontal_flip: bool = False,
    vertical_flip: bool = False,
    fill_mode: str = "nearest",
    brightness_range: tuple[float, float] | None = None,
    rescale: float | None = None,
) -> Augmentation:
    """Build the augmentation that Keras's `ImageDataGenerator` does with these ranges.

    The arguments mean what they mean there, with two exceptions. There,
    `height_shift_range` moves columns and `width_shift_range` rows (keras #17398), and
    an image that is not square turns around a point beside its centre. Here, width is
    along the columns, height along the rows, and the centre is the centre. Where the
    numbers come from differs too: each image has its own, from the row of draws that
    the pipeline gives it.

    Args:
        rotation_range: Largest turn in degrees, to either side.
        width_shift_range: Largest shift along the columns, to either side: below 1 a
            share of the width, else pixels. An int n gives whole pixels, fewer than n.
        height_shift_range: The same along the rows, as a share of the height.
        shear_range: Largest shear angle in degrees, to either side.
        zoom_range: Lowest and highest factor, drawn apart for columns and rows; above 1
            shows more of the image, smaller. A number z means (1 - z, 1 + z).
        horizontal_flip: Whether to swap left and right in half of the images.
        vertical_flip: Whether to swap top and bottom in half of the images.
        fill_mode: What is beyond the edge: "nearest", the pixel at the edge.
        brightness_range: Lowest and highest factor of all pixels.
        rescale: Factor of the result. Models of this project preprocess [0, 255]
            themselves: normally `None`.

    Returns:
        Function from images `(batch, height, width, channels)` in [0, 255], uint8 or
        float, and draws `(batch, n)` with n >= 9, to float32 images of the same shape
        in [0, 255], times `rescale`.
    """
    _check_limit("rotation_range", rotation_range)
    _check_limit("width_shift_range", width_shift_range)
    _check_limit("height_shift_range", height_shift_range)
    _check_limit("shear_range", shear_range)
    zoom = zoom_range
    if _is_number(zoom_range):
        zoom = (1 - zoom_range, 1 + zoom_range)
    if not _is_pair(zoom) or zoom[0] <= 0:
        raise errors.expected(
            "zoom_range",
            "be a number of at least 0 and below 1, or two: 0 < lowest <= highest",
            zoom_range,
        )
    for argument, value in [
        ("horizontal_flip", horizontal_flip),
        ("vertical_flip", vertical_flip),
    ]:
        if not isinstance(value, bool):
            raise errors.expected(argument, "be True or False", value)
    if fill_mode not in FILL_MODES:
        raise errors.unknown("fill_mode", str(fill_mode), FILL_MODES)
    if fill_mode != "nearest":
        raise errors.expected(
            "fill_mode", "be 'nearest'", fill_mode, "Others are not supported yet."
        )
    if brightness_range is not None and not _is_pair(brightness_range):
        raise errors.expected(
            "brightness_range",
            "be None or two numbers: 0 <= lowest <= highest",
            brightness_range,
        )
    if rescale is not None and not (_is_number(rescale) and rescale > 0):
        raise errors.expected("rescale", "be None or a number above 0", rescale)

    def augment(images, draws):
        import tensorflow as tf

        height, width = images.shape[1:3]
        # Each parameter has its own column: changing one range leaves the others'
        # numbers as they were.
        turn, right, down, shear, zoom_x, zoom_y, mirror, upend, light = tf.unstack(
            draws[:, :9], num=9, axis=1
        )
        brightness = None
        if brightness_range is not None:
            brightness = _between(*brightness_range, light)
        images = transform(
            images,
            theta=_between(-rotation_range, rotation_range, turn),
            tx=_shift(width_shift_range, width, right),
            ty=_shift(height_shift_range, height, down),
            shear=_between(-shear_range, shear_range, shear),
            zx=_between(*zoom, zoom_x),
            zy=_between(*zoom, zoom_y),
            flip_horizontal=tf.logical_and(mirror < 0.5, horizontal_flip),
            flip_vertical=tf.logical_and(upend < 0.5, vertical_flip),
            brightness=brightness,
        )
        return images if rescale is None else images * float(rescale)

    return augment


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
    brightness: "tf.Tensor | None",
) -> "tf.Tensor":
    """Change each image as its parameters say, sampling its pixels once.

    The parameters have the names, signs and order of those of
    `ImageDataGenerator.apply_transform`: turn, shift, shear and zoom around the centre,
    then flips, then brightness. x is along the columns, y along the rows. All are
    vectors `(batch,)`.

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
        brightness: Factor of all pixels, clipped to [0, 255]; `None` changes nothing.
            The reference cuts the fractions off, before and after multiplying: for
            whole pixels less than one level below the result here.

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
        brightness,
    )


@functools.cache
def _compiled_transform():
    import tensorflow as tf

    # XLA makes one loop of it: four to six times as fast on a CPU.
    return tf.function(_transform, jit_compile=True, autograph=False)


def _transform(
    images, theta, tx, ty, shear, zx, zy, flip_horizontal, flip_vertical, brightness
):
    import tensorflow as tf

    height, width, channels = images.shape[1:]

    # In float64, which takes no longer: in float32 the places in an image of 224 pixels
    # would be off by some 0.00003 pixels, and its values by up to 0.01.
    def per_image(values):
        return tf.cast(values, tf.float64)[:, None, None]

    def flipped(places, flip):
        return tf.where(flip[:, None, None], -places, places)

    turn = per_image(theta) * (math.pi / 180)
    sheared = turn + per_image(shear) * (math.pi / 180)
    # From a place in the result to its place in the image, both from the centre. The
    # product of the reference's four matrices, written out: turn, shift, shear, zoom.
    centre_x, centre_y = (width - 1) / 2, (height - 1) / 2
    columns = tf.range(width, dtype=tf.float64)[None, :] - centre_x
    rows = tf.range(height, dtype=tf.float64)[:, None] - centre_y
    columns = flipped(columns, flip_horizontal) * per_image(zx) + per_image(tx)
    rows = flipped(rows, flip_vertical) * per_image(zy)
    x = tf.cos(turn) * columns - tf.sin(sheared) * rows - tf.sin(turn) * per_image(ty)
    y = tf.sin(turn) * columns + tf.cos(sheared) * rows + tf.cos(turn) * per_image(ty)
    x = tf.clip_by_value(x + centre_x, 0, width - 1)
    y = tf.clip_by_value(y + centre_y, 0, height - 1)

    left, top = tf.floor(x), tf.floor(y)
    to_right = tf.cast(x - left, tf.float32)[..., None]
    to_bottom = tf.cast(y - top, tf.float32)[..., None]
    left, top = tf.cast(left, tf.int32), tf.cast(top, tf.int32)
    right, bottom = tf.minimum(left + 1, width - 1), tf.minimum(top + 1, height - 1)
    pixels = tf.reshape(images, [-1, height * width, channels])

    def read(row, column):
        found = tf.gather(pixels, row * width + column, axis=1, batch_dims=1)
        return tf.cast(found, tf.float32)

    above = read(top, left) * (1 - to_right) + read(top, right) * to_right
    below = read(bottom, left) * (1 - to_right) + read(bottom, right) * to_right
    images = above * (1 - to_bottom) + below * to_bottom
    if brightness is not None:
        factor = tf.cast(brightness, tf.float32)[:, None, None, None]
        images = tf.clip_by_value(images * factor, 0, 255)
    return images


def _between(low, high, draws):
    return float(low) + draws * float(high - low)


def _shift(limit, side, draws):
    if isinstance(limit, numbers.Integral) and limit > 0:
        import tensorflow as tf

        # Whole numbers from -n to n - 1, then the negative ones one up: as in the
        # reference, 0 comes twice as often as each of the others.
        pixels = tf.floor(draws * float(2 * limit)) - float(limit)
        return tf.where(pixels < 0, pixels + 1, pixels)
    if limit < 1:
        limit = limit * side
    return _between(-limit, limit, draws)


def _is_number(value):
    return (
        isinstance(value, numbers.Real)
        and not isinstance(value, bool)
        and math.isfinite(value)
    )


def _is_pair(value):
    return (
        isinstance(value, tuple | list)
        and len(value) == 2
        and all(map(_is_number, value))
        and 0 <= value[0] <= value[1]
    )


def _check_limit(argument, value):
    if not _is_number(value):
        raise errors.expected(argument, "be a number", value)
    errors.check_at_least(argument, value, 0)
