"""Random changes of training images, on whole batches, after the cache.

An augmentation is a function `(images, draws) -> images`. `draws` are uniform random
numbers in [0, 1), one row for each image, made by the pipeline from (seed, epoch,
example index): the functions here draw nothing themselves.
"""

import math
import numbers
from collections.abc import Sequence
from typing import TYPE_CHECKING

from keras_tl import errors
from keras_tl.data import warp
from keras_tl.data.pipeline import Augmentation, Mixing
from keras_tl.data.settings import AugmentSettings

if TYPE_CHECKING:
    import tensorflow as tf

# Other arguments of ImageDataGenerator: the default, and where keras-tl does the same.
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
    "rescale": ((None, 0, 1), _PREPROCESSING),
    "preprocessing_function": ((None,), _PREPROCESSING),
    "data_format": ((None, "channels_last"), "Images are channels_last here."),
    "validation_split": (
        (0, 0.0),
        "`data.datasets` and `data.folders` draw the splits.",
    ),
    "interpolation_order": ((1,), "Pixels are sampled bilinearly, order 1."),
    "dtype": ((None, "float32"), "The result is float32."),
}


# Moderate ranges that many articles give to ImageDataGenerator.
MODERATE = {
    "rotation_range": 15,
    "width_shift_range": 0.1,
    "height_shift_range": 0.1,
    "shear_range": 0.1,
    "zoom_range": 0.1,
    "horizontal_flip": True,
    "fill_mode": "nearest",
}

# Shares of the area of an image that mild crops show.
MILD = (0.5, 1.0)


def from_settings(settings: AugmentSettings) -> dict[str, Augmentation | Mixing | None]:
    """Return the augmentation that the settings of a recipe name.

    Returns:
        `augment`, `mix` and `augmented_copies`, as `phases.Setup` takes them.

    >>> from_settings(AugmentSettings())
    {'augment': None, 'mix': None, 'augmented_copies': 0}
    """
    from keras_tl.data import random_layers

    builders = {
        "flip_and_crop": lambda: flip_and_crop,
        "random_resized_crop": random_resized_crop,
        "zoom": lambda: random_resized_crop(scale=MILD, horizontal_flip=False),
        "zoom_and_flip": lambda: random_resized_crop(scale=MILD),
        "image_data_generator": lambda: image_data_generator(**MODERATE),
        "rand_augment": random_layers.rand_augment,
    }
    mixers = {"mix_up": random_layers.mix_up, "cut_mix": random_layers.cut_mix}
    name = settings.augment
    return {
        "augment": builders[name]() if name in builders else None,
        "mix": mixers[name]() if name in mixers else None,
        "augmented_copies": settings.augmented_copies,
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


def random_resized_crop(
    *,
    scale: tuple[float, float] = (0.08, 1.0),
    ratio: tuple[float, float] = (3 / 4, 4 / 3),
    horizontal_flip: bool = True,
) -> Augmentation:
    """Build the augmentation of ImageNet training: a part of the image, at full size.

    As torchvision's `RandomResizedCrop` and `RandomHorizontalFlip`, with one draw for
    each image: where the rectangle does not fit into the image, its long side is cut,
    while torchvision draws again.

    Args:
        scale: Lowest and highest share of the image's area, in (0, 1].
        ratio: Lowest and highest width of the part divided by its height, above 0;
            drawn on a logarithmic scale.
        horizontal_flip: Whether to swap left and right in half of the images.

    Returns:
        Function from images `(batch, height, width, channels)` in [0, 255], uint8 or
        float, and draws `(batch, n)` with n >= 5, to float32 images of the same shape.

    Raises:
        InputError: A value out of range.

    Reference:
        Szegedy et al., "Going deeper with convolutions", 2014, arXiv:1409.4842,
        section 6.
    """
    if not (_is_pair(scale) and scale[0] > 0 and scale[1] <= 1):
        raise errors.expected(
            "scale", "be two numbers: 0 < lowest <= highest <= 1", scale
        )
    if not (_is_pair(ratio) and ratio[0] > 0):
        raise errors.expected("ratio", "be two numbers: 0 < lowest <= highest", ratio)
    if not isinstance(horizontal_flip, bool):
        raise errors.expected("horizontal_flip", "be True or False", horizontal_flip)

    def augment(images, draws):
        import tensorflow as tf

        height, width = images.shape[1:3]
        area, shape, right, down, mirror = tf.unstack(draws[:, :5], num=5, axis=1)
        area = _between(*scale, area)
        shape = tf.exp(_between(*map(math.log, ratio), shape))
        # Of the image's own sides.
        wide = tf.minimum(tf.sqrt(area * shape * (height / width)), 1.0)
        high = tf.minimum(tf.sqrt(area / shape * (width / height)), 1.0)
        still = tf.zeros_like(area)
        return warp.transform(
            images,
            theta=still,
            # From the centre of the image to that of the part.
            tx=(right - 0.5) * (1 - wide) * width,
            ty=(down - 0.5) * (1 - high) * height,
            shear=still,
            zx=wide,
            zy=high,
            flip_horizontal=tf.logical_and(mirror < 0.5, horizontal_flip),
            flip_vertical=tf.zeros_like(area, tf.bool),
        )

    return augment


# Weights of red, green and blue in the brightness of a pixel, ITU-R BT.601.
_BRIGHTNESS = (0.299, 0.587, 0.114)
# To brightness and two differences of colour, which a turn of the hue rotates, after
# the NTSC.
_YIQ = (_BRIGHTNESS, (0.5959, -0.2746, -0.3213), (0.2115, -0.5227, 0.3112))


def crop_and_colour(
    *, strength: float = 0.5, scale: tuple[float, float] = (0.08, 1.0)
) -> Augmentation:
    """Build the augmentation of SimCLR: a part of the image, in other colours.

    First `random_resized_crop` with its flips; then, in 80 % of the images, brightness,
    contrast and saturation times a factor within 1 - 0.8 strength and 1 + 0.8 strength,
    and a turn of the hue by at most a fifth of the circle times the strength; and 20 %
    of the images lose their colour. As on CIFAR-10 in the paper, nothing is blurred.

    Args:
        strength: Strength of the changes of colour, in [0, 1].
        scale: See `random_resized_crop`.

    Returns:
        Function from images `(batch, height, width, 3)` in [0, 255], uint8 or float,
        and draws `(batch, n)` with n >= 11, to float32 images in [0, 255].

    Raises:
        InputError: A value out of range.

    Reference:
        Chen et al., "A simple framework for contrastive learning of visual
        representations", 2020, arXiv:2002.05709, appendix A.
    """
    if not 0 <= strength <= 1:
        raise errors.expected("strength", "be in [0, 1]", strength)
    crop = random_resized_crop(scale=scale)

    def augment(images, draws):
        import tensorflow as tf

        images = crop(images, draws)
        applied, *factors, hue, grey = tf.unstack(draws[:, 5:11], num=6, axis=1)
        applied = tf.where(applied < 0.8, strength, 0.0)
        bright, contrast, saturation = (
            (1 + 1.6 * applied * (factor - 0.5))[:, None, None] for factor in factors
        )
        saturation *= tf.where(grey < 0.2, 0.0, 1.0)[:, None, None]
        turn = 0.8 * math.pi * applied * (hue - 0.5)
        colours = _colour_matrix(turn, saturation)
        pixels = tf.clip_by_value(images * bright[..., None], 0.0, 255.0)
        weights = tf.constant(_BRIGHTNESS)
        mean = tf.reduce_mean(tf.tensordot(pixels, weights, 1), [1, 2])
        mean = mean[:, None, None, None]
        pixels = mean + (pixels - mean) * contrast[..., None]
        pixels = tf.einsum("bhwc,bdc->bhwd", tf.clip_by_value(pixels, 0, 255), colours)
        return tf.clip_by_value(pixels, 0.0, 255.0)

    return augment


def _colour_matrix(turn, saturation):
    """Return the matrix of each image that turns its hue and scales its saturation."""
    import tensorflow as tf

    to_yiq = tf.constant(_YIQ)
    nothing, one = tf.zeros_like(turn), tf.ones_like(turn)
    cosine, sine = tf.cos(turn), tf.sin(turn)
    rows = ((one, nothing, nothing), (nothing, cosine, -sine), (nothing, sine, cosine))
    rotation = tf.stack([tf.stack(row, axis=-1) for row in rows], axis=1)
    turned = tf.linalg.inv(to_yiq) @ rotation @ to_yiq
    grey = tf.tile(tf.constant(_BRIGHTNESS)[None, None], [tf.shape(turn)[0], 3, 1])
    return saturation * turned + (1 - saturation) * grey


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
        fill_mode: Pixels beyond the edge: "nearest", the pixel at the edge;
            "constant", `cval`; "reflect", the image mirrored (dcba|abcd|dcba); "wrap",
            the image again, its first pixel in the place of its last (abc|abcd|bcd).
        cval: Value beyond the edge for "constant", in [0, 255].
        horizontal_flip: Whether to swap left and right in half of the images.
        vertical_flip: Whether to swap top and bottom in half of the images.
        brightness_range: Lowest and highest factor of all pixels.
        legacy_axes: Whether to swap width and height and to miss the centre as the
            original does, to repeat what was measured with it.
        **elsewhere: Other arguments of `ImageDataGenerator`, at their defaults; an
            error names where else they are done.

    Returns:
        Function from images `(batch, height, width, channels)` in [0, 255], uint8 or
        float, and draws `(batch, n)` with n >= 10, to float32 images of the same shape
        in [0, 255].
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
    if fill_mode not in warp.FILL_MODES:
        raise errors.unknown("fill_mode", str(fill_mode), warp.FILL_MODES)
    if not (_is_number(cval) and 0 <= cval <= 255):
        raise errors.expected("cval", "be a number in [0, 255]", cval)
    if brightness_range is not None and not _is_pair(brightness_range):
        raise errors.expected(
            "brightness_range",
            "be None or two numbers: 0 <= lowest <= highest",
            brightness_range,
        )

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
        return warp.transform(
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

    return augment


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
