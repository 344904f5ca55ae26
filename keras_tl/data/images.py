"""Decode image files to square uint8 RGB arrays, and check them."""

import io
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
from PIL import Image, ImageOps, UnidentifiedImageError

from keras_tl import errors

# The format of the files with each suffix. Pillow is held to these formats: some of its
# other readers start programs (EPS runs Ghostscript), whatever the file is called.
_FORMATS = {
    ".jpg": "JPEG",
    ".jpeg": "JPEG",
    ".png": "PNG",
    ".webp": "WEBP",
    ".bmp": "BMP",
    ".gif": "GIF",
    ".tif": "TIFF",
    ".tiff": "TIFF",
}
EXTENSIONS = tuple(_FORMATS)  # Compare with a suffix in lower case.

_BOMBS = (Image.DecompressionBombError, Image.DecompressionBombWarning)


def decode(path: Path | str | bytes, image_size: int | None) -> np.ndarray:
    """Decode an image file, turned upright by its EXIF orientation.

    Transparent parts become white; 16-bit grey is scaled to 8 bits.

    Args:
        path: The file, or its content. The content decides how it is read, not the
            name.
        image_size: Side in pixels. The largest centred square is cut out and
            resized to it. A JPEG of more than twice the side is decoded at 1/2, 1/4 or
            1/8 of its size, as `PIL.Image.thumbnail` does it: several times faster,
            and within some levels of what the whole image would give. `None` gives
            the whole image at its own size.

    Returns:
        uint8 RGB array `(image_size, image_size, 3)` in [0, 255], or
        `(height, width, 3)`.

    Raises:
        InputError: The file cannot be read, or holds no image that we can use.
    """
    try:
        content = path if isinstance(path, bytes) else Path(path).read_bytes()
        image = _open(content)
        if image_size is not None:
            image.draft(None, (2 * image_size, 2 * image_size))
        image = _to_rgb(image)
    # Pillow's readers raise nearly any type of error on a damaged file.
    except Exception as error:
        name = "an image" if isinstance(path, bytes) else path
        raise errors.InputError(f"Cannot use {name}: it {_reason(error)}.") from error
    return np.array(image if image_size is None else _square(image, image_size))


def read(paths: Sequence[Path | str | bytes], image_size: int | None) -> np.ndarray:
    """Decode several files at once, in threads. See `decode`.

    Returns:
        uint8 RGB array `(len(paths), image_size, image_size, 3)` in [0, 255], in the
        order of `paths`.

    Raises:
        InputError: A file cannot be used, or `image_size` is `None` and the images
            differ in size.
    """
    with ThreadPoolExecutor() as pool:
        decoded = list(pool.map(lambda path: decode(path, image_size), paths))
    if not decoded:
        side = image_size or 0
        return np.empty((0, side, side, 3), "uint8")
    if len({image.shape for image in decoded}) > 1:
        raise errors.expected(
            "image_size", "be a number of pixels where images differ in size", None
        )
    return np.stack(decoded)


def resize(images: np.ndarray, image_size: int) -> np.ndarray:
    """Cut the largest centred square out of each image and resize it.

    The same pixels give the same result here and, from a file, in `decode`, large JPEGs
    excepted.

    Args:
        images: uint8 RGB `(count, height, width, 3)`.
        image_size: Side in pixels of the squares.

    Returns:
        uint8 RGB array `(count, image_size, image_size, 3)`; `images` itself when it
        has that size already.

    >>> resize(np.full((2, 6, 8, 3), 7, "uint8"), 4).shape
    (2, 4, 4, 3)
    """
    if images.dtype != np.uint8 or images.ndim != 4 or images.shape[3] != 3:
        raise errors.expected(
            "images",
            "be uint8 RGB, (count, height, width, 3)",
            f"{images.dtype} {images.shape}",
        )
    if images.shape[1:3] == (image_size, image_size):
        return images
    resized = np.empty((len(images), image_size, image_size, 3), "uint8")
    for row, image in zip(resized, images, strict=True):
        row[...] = _square(Image.fromarray(image), image_size)
    return resized


def problem(path: Path | str, content: bytes | None = None) -> str | None:
    """Check an image file by decoding all of its pixels.

    Args:
        path: The file.
        content: Its bytes, where they have been read already.

    Returns:
        The problem, as the rest of a sentence that starts with the file's name;
        `None` for a file that `decode` reads and whose name tells its format.
    """
    path = Path(path)
    try:
        image = _open(path.read_bytes() if content is None else content)
        # Cameras add a preview or a depth map behind a JPEG; Pillow then calls the
        # file MPO. Its first image is the photo, and every JPEG reader takes that.
        held = "JPEG" if image.format == "MPO" else image.format
        named = path.suffix.lower()
        if _FORMATS.get(named, held) != held:
            right = next(suffix for suffix in EXTENSIONS if _FORMATS[suffix] == held)
            return f"is named {named} but holds {held}; rename it to {right}"
        frames = 1 if image.format == "MPO" else getattr(image, "n_frames", 1)
        if frames > 1:
            return f"holds {frames} frames or pages; save the one you want by itself"
        _to_rgb(image)
    except Exception as error:
        return _reason(error)
    return None


def _open(content: bytes) -> Image.Image:
    """Read the header of an image."""
    if not content:
        raise errors.InputError("is empty (0 bytes)")
    image = Image.open(io.BytesIO(content), formats=sorted(set(_FORMATS.values())))
    # Pillow warns from this size on and raises from twice of it; one limit is clearer.
    if image.width * image.height > (Image.MAX_IMAGE_PIXELS or float("inf")):
        raise Image.DecompressionBombError
    return image


def _to_rgb(image: Image.Image) -> Image.Image:
    """Load all pixels, upright, as 8-bit RGB on white."""
    image = ImageOps.exif_transpose(image)
    if image.mode.startswith("I"):  # One channel of 16 or 32 bits.
        values = np.asarray(image)
        if values.min() < 0 or values.max() > 65535:
            raise errors.InputError(
                "holds values outside of [0, 65535]; save it with 8 bits per channel"
            )
        # Pillow's own conversion clips at 255 instead.
        image = Image.fromarray(np.rint(values / 257).astype("uint8"))
    elif image.mode == "F":
        raise errors.InputError(
            "holds floating-point values; save it with 8 bits per channel"
        )
    if image.has_transparency_data:
        image = image.convert("RGBA")
        white = Image.new("RGBA", image.size, "white")
        image = Image.alpha_composite(white, image)
    return image.convert("RGB")


def _square(image: Image.Image, image_size: int) -> Image.Image:
    """Cut out the largest centred square and resize it, antialiased when shrinking."""
    side = min(image.size)
    left, top = (image.width - side) // 2, (image.height - side) // 2
    image = image.crop((left, top, left + side, top + side))
    return image.resize((image_size, image_size), Image.Resampling.BILINEAR)


def _reason(error: Exception) -> str:
    """Return why a file cannot be used, as the rest of a sentence."""
    if isinstance(error, errors.InputError):
        return str(error)
    if isinstance(error, _BOMBS):
        return f"has more than {Image.MAX_IMAGE_PIXELS:,} pixels; save it smaller"
    if isinstance(error, UnidentifiedImageError):
        return f"holds none of {', '.join(sorted(set(_FORMATS.values())))}"
    if isinstance(error, OSError) and error.strerror:
        return f"cannot be read: {error.strerror}"
    return f"cannot be decoded: {error or type(error).__name__}"
