"""Random changes of training images, on whole batches, after the cache.

An augmentation is a function `(images, draws) -> images`. `draws` are uniform random
numbers in [0, 1), one row for each image, made by the pipeline from (seed, epoch,
example index): the functions here draw nothing themselves.
"""

import functools
import math
import numbers
from collections.abc import Sequence
from typing import TYPE_CHECKING

from keras_tl import errors
from keras_tl.data.pipeline import Augmentation

if TYPE_CHECKING:
    import tensorflow as tf

FILL_MODES = ("constant", "nearest", "reflect", "wrap")

# What ImageDataGenerator takes besides: its default, and where that is done here.
_PREPROCESSING = (
    "Preprocessing belongs into the model, where prediction finds it too: build the "
    "backbone with its own, or put keras.layers.Normalization in front."
)
_ELSEWHERE = {
    **dict.fromkeys(
        (
            "featurewise_center",
            "samplewise_center",
            "featurewise_std_normalization",
            "samplewise_std_normalization",
            "zca_whitening",
        ),
        ((False,), _PREPROCESSING),
    ),
    "zca_epsilon": ((1e-6,), _PREPROCESSING),
    "preprocessing_function": ((None,), _PREPROCESSING),
    "data_format": ((None, "channels_last"), "Images are channels_last here."),
    "validation_split": (
        (0, 0.0),
        "`data.sources` and `data.folders` draw the splits.",
    ),
    "interpolation_order": ((1,), "Pixels are sampled bilinearly, order 1."),
    "dtype": ((None, "float32"), "The result is float32."),
}


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
    width_shift_range: float | Sequence[float] = 0.0,
    height_shift_range: float | Sequence[float] = 0.0,
    shear_range: float = 0.0,
    zoom_range: float | tuple[float, float] = 0.0,
    channel_shift_range: float = 0.0,
    fill_mode: str = "nearest",
    cval: float = 0.0,
    horizontal_flip: bool = False,
    vertical_flip: bool = False,
    brightness_range: tuple[float, float] | None = None,
    rescale: float | None = None,
    legacy_axes: bool = False,
    **elsewhere: object,
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
            share of the width, else pixels. An int n gives whole pixels, fewer than n;
            a sequence gives one of its values, to either side.
        height_shift_range: The same along the rows, as a share of the height.
        shear_range: Largest shear angle in degrees, to either side.
        zoom_range: Lowest and highest factor, drawn apart for columns and rows; above 1
            shows more of the image, smaller. A number z means (1 - z, 1 + z).
        channel_shift_range: Largest number added to all pixels, of either sign; what
            leaves the range of the image's pixels is clipped.
        fill_mode: What is beyond the edge: "nearest", the pixel at the edge;
            "constant", `cval`; "reflect", the image mirrored (dcba|abcd|dcba); "wrap",
            the image again, its first pixel in the place of its last (abc|abcd|bcd).
        cval: Value beyond the edge for "constant", in [0, 255].
        horizontal_flip: Whether to swap left and right in half of the images.
        vertical_flip: Whether to swap top and bottom in half of the images.
        brightness_range: Lowest and highest factor of all pixels.
        rescale: Factor of the result. Models of this project preprocess [0, 255]
            themselves: normally `None`.
        legacy_axes: Whether to swap width and height and to miss the centre as the
            original does, to repeat what was measured with it.
        **elsewhere: Other arguments of `ImageDataGenerator`, at their defaults; an
            error says where else they are done.

    Returns:
        Function from images `(batch, height, width, channels)` in [0, 255], uint8 or
        float, and draws `(batch, n)` with n >= 10, to float32 images of the same shape
        in [0, 255], times `rescale`.
    """
    for name, value in elsewhere.items():
        if name not in _ELSEWHERE:
            own = image_data_generator.__kwdefaults__
            raise errors.unknown("argument", name, [*own, *_ELSEWHERE])
        allowed, reason = _ELSEWHERE[name]
        if value not in allowed:
            raise errors.expected(name, f"be {allowed[0]!r}", value, reason)
    _check_limit("rotation_range", rotation_range)
    _check_shift("width_shift_range", width_shift_range)
    _check_shift("height_shift_range", height_shift_range)
    _check_limit("shear_range", shear_range)
    _check_limit("channel_shift_range", channel_shift_range)
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
        ("legacy_axes", legacy_axes),
    ]:
        if not isinstance(value, bool):
            raise errors.expected(argument, "be True or False", value)
    if fill_mode not in FILL_MODES:
        raise errors.unknown("fill_mode", str(fill_mode), FILL_MODES)
    if not (_is_number(cval) and 0 <= cval <= 255):
        raise errors.expected("cval", "be a number in [0, 255]", cval)
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
        turn, right, down, shear, zoom_x, zoom_y, mirror, upend, light, tint = (
            tf.unstack(draws[:, :10], num=10, axis=1)
        )
        tx = _shift(width_shift_range, width, right)
        ty = _shift(height_shift_range, height, down)
        images = transform(
            images,
            theta=_between(-rotation_range, rotation_range, turn),
            tx=ty if legacy_axes else tx,
            ty=tx if legacy_axes else ty,
            shear=_between(-shear_range, shear_range, shear),
            zx=_between(*zoom, zoom_x),
            zy=_between(*zoom, zoom_y),
            flip_horizontal=tf.logical_and(mirror < 0.5, horizontal_flip),
            flip_vertical=tf.logical_and(upend < 0.5, vertical_flip),
            channel_shift=_between(-channel_shift_range, channel_shift_range, tint)
            if channel_shift_range
            else None,
            brightness=_between(*brightness_range, light) if brightness_range else None,
            fill_mode=fill_mode,
            cval=cval,
            legacy_centre=legacy_axes,
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
    channel_shift: "tf.Tensor | None" = None,
    brightness: "tf.Tensor | None" = None,
    fill_mode: str = "nearest",
    cval: float = 0.0,
    legacy_centre: bool = False,
) -> "tf.Tensor":
    """Change each image as its parameters say, sampling its pixels once.

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
        found = tf.gather(pixels, row * width + column, axis=1, batch_dims=1)
        return tf.cast(found, tf.float32)

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


def _between(low, high, draws):
    return float(low) + draws * float(high - low)


def _shift(limit, side, draws):
    if _is_sequence(limit):
        import tensorflow as tf

        # Each value once to either side.
        values = [sign * value for value in limit for sign in (1, -1)]
        chosen = tf.gather(
            tf.constant(values, draws.dtype),
            tf.cast(draws * float(len(values)), tf.int32),
        )
        return chosen * side if max(limit) < 1 else chosen
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


def _is_sequence(value):
    return isinstance(value, Sequence) and not isinstance(value, str)


def _check_shift(argument, value):
    if not _is_sequence(value):
        _check_limit(argument, value)
    elif not (len(value) and all(map(_is_number, value))):
        raise errors.expected(argument, "be a number, or some", value)


def _check_limit(argument, value):
    if not _is_number(value):
        raise errors.expected(argument, "be a number", value)
    errors.check_at_least(argument, value, 0)
