"""Decode image files to square uint8 RGB arrays, and check them."""

import contextlib
import hashlib
import importlib.util
import io
import struct
import warnings
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path

import imagehash
import numpy as np
from PIL import Image, ImageOps, UnidentifiedImageError

from keras_tl import errors, files
from keras_tl.data.choices import Resize

# Formats that are read. Pillow is held to them: some of its other readers start
# programs (EPS runs Ghostscript), whatever the file is called.
_FORMATS = ["AVIF", "BMP", "GIF", "JPEG", "PNG", "TIFF", "WEBP"]
# Usual suffixes of their files. Compare with a suffix in lower case.
EXTENSIONS = (
    *(".jpg", ".jpeg", ".jfif", ".jpe", ".png", ".webp"),
    *(".bmp", ".gif", ".tif", ".tiff", ".avif"),
)
# Suffixes of images that are not read; those of HEIC are, with the extra.
UNREAD_EXTENSIONS = (
    *(".heic", ".heif", ".hif", ".jp2", ".j2k", ".jxl", ".svg", ".psd", ".tga", ".ico"),
    *(".ppm", ".pgm", ".pnm", ".exr", ".hdr", ".dcm", ".eps", ".pdf"),
    *(".raw", ".dng", ".cr2", ".cr3", ".nef", ".arw", ".orf", ".rw2"),
)
if importlib.util.find_spec("pillow_heif") is not None:
    import pillow_heif

    pillow_heif.register_heif_opener()
    _FORMATS.append("HEIF")
    EXTENSIONS = (*EXTENSIONS, ".heic", ".heif", ".hif")

# Pillow warns of wrong EXIF tags without naming the file, which is used all the same.
warnings.filterwarnings("ignore", category=UserWarning, module=r"PIL\.")

_BOMBS = (Image.DecompressionBombError, Image.DecompressionBombWarning)

# How to turn an image upright, for each value of the EXIF tag "orientation".
_ORIENTATION = 0x0112
_UPRIGHT = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}


# How an image becomes a square, and what the manifest of a run calls it.
RESIZE = {
    "crop": "largest centred square, bilinear",
    "pad": "padded with grey to a square, bilinear",
    "stretch": "stretched to a square, bilinear",
}
# The middle of [0, 255], which most preprocessing maps near to zero.
_GREY = (127, 127, 127)

# Squares of up to this side are all made from one decoding of a JPEG.
_SHARED_SIDE = 256


@dataclass(frozen=True)
class Checked:
    """Result of decoding all pixels of an image file.

    Attributes:
        problem: Why the file cannot be used, as the rest of a sentence that starts with
            its name; `None` for a file that `decode` reads.
        hash: Hash of the upright RGB pixels, see `hash_pixels`, whatever the format of
            the file; empty where there is a problem. Of large JPEGs, it is the hash of
            the reduced image that `decode` makes squares of.
        size: Width and height in pixels; `(0, 0)` where there is a problem.
        highest: Largest value of an image of 16 bits, before it is scaled to 8 bits;
            `None` for all others.
        look: Perceptual hash of 64 bits, which hardly changes when an image is resized
            or compressed again; see `near`.
        thumbnail: uint8 RGB `(16, 16, 3)`, the whole image stretched to a square.
        example: The image as `decode` returns it for the size that was asked for;
            `None` where none was.
    """

    problem: str | None
    hash: bytes = b""
    size: tuple[int, int] = (0, 0)
    highest: int | None = None
    look: int = 0
    thumbnail: np.ndarray | None = field(default=None, repr=False)
    example: np.ndarray | None = field(default=None, repr=False)


def decode(
    path: Path | str | bytes | np.ndarray,
    image_size: int | None,
    method: Resize = "crop",
) -> np.ndarray:
    """Decode an image file, turned upright by its EXIF orientation.

    Transparent parts become white; 16-bit grey is scaled to 8 bits.

    Args:
        path: The file, or its content. The content decides how it is read, not the
            name. Or pixels that are decoded already, uint8 `(height, width, 3)`.
        image_size: Side in pixels of the square that the image becomes. A JPEG of more
            than twice the side, and of more than 512 pixels, is decoded at 1/2, 1/4 or
            1/8 of its size, as `PIL.Image.thumbnail` does it: several times faster,
            and within some levels of what the whole image would give. `None` gives
            the whole image at its own size.
        method: "crop" cuts out the largest centred square and resizes it; "pad" adds
            grey borders to make the whole image a square; "stretch" changes its aspect
            ratio.

    Returns:
        uint8 RGB array `(image_size, image_size, 3)` in [0, 255], or
        `(height, width, 3)`.

    Raises:
        InputError: The file cannot be read, or holds no image that we can use.
    """
    if image_size is not None:
        image_size = errors.side("image_size", image_size)
    if isinstance(path, np.ndarray):
        return path if image_size is None else resize(path[None], image_size, method)[0]
    with _reading(path) as content:
        image = _to_rgb(_reduced(content, image_size))
    return np.array(image if image_size is None else _square(image, image_size, method))


def read(
    paths: Sequence[Path | str | bytes | np.ndarray],
    image_size: int | None,
    method: Resize = "crop",
) -> np.ndarray:
    """Decode several files at once, in threads. See `decode`.

    Returns:
        uint8 RGB array `(len(paths), image_size, image_size, 3)` in [0, 255], in the
        order of `paths`.

    Raises:
        InputError: A file cannot be used, or `image_size` is `None` and the images
            differ in size.
    """
    with ThreadPoolExecutor() as pool:
        decoded = list(pool.map(lambda path: decode(path, image_size, method), paths))
    if not decoded:
        side = image_size or 0
        return np.empty((0, side, side, 3), "uint8")
    if len({image.shape for image in decoded}) > 1:
        raise errors.expected(
            "image_size", "be a number of pixels where images differ in size", None
        )
    return np.stack(decoded)


def resize(images: np.ndarray, image_size: int, method: Resize = "crop") -> np.ndarray:
    """Make a square of each image, and resize it.

    The same pixels give the same result here and, from a file, in `decode`, large JPEGs
    excepted.

    Args:
        images: uint8 RGB `(count, height, width, 3)`.
        image_size: Side in pixels of the squares.
        method: See `decode`.

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
    image_size = errors.side("image_size", image_size)
    if images.shape[1:3] == (image_size, image_size):
        return images
    resized = np.empty((len(images), image_size, image_size, 3), "uint8")
    for row, image in zip(resized, images, strict=True):
        row[...] = _square(Image.fromarray(image), image_size, method)
    return resized


def to_rgb(
    pixels: np.ndarray, name: str = "images", *, single: bool = False
) -> np.ndarray:
    """Return images in one array as RGB; grey ones get three equal channels.

    Args:
        pixels: uint8 in [0, 255]: RGB `(count, height, width, 3)`, or grey
            `(count, height, width, 1)` or `(count, height, width)`.
        name: Name of the images in an error.
        single: Whether it is one image, without the axis `count`.

    Returns:
        uint8 `(count, height, width, 3)`; `pixels` itself where it is that already.

    Raises:
        InputError: Another type or shape, such as floats or images with transparency.

    >>> to_rgb(np.zeros((2, 6, 8), "uint8")).shape
    (2, 6, 8, 3)
    """
    try:
        given = np.asarray(pixels)
    except ValueError as error:
        raise errors.InputError(
            f"`{name}` must be one array, of images of one size: {error}"
        ) from error
    axes = "height, width" if single else "count, height, width"
    rank = 3 if single else 4
    pixels = given[..., None] if given.ndim == rank - 1 else given
    count, channels = pixels.shape[:-3], pixels.shape[-1:]
    if pixels.dtype != np.uint8:
        hint = (
            "Do not rescale them: the model does its own preprocessing. Values in "
            '[0, 1] become uint8 by np.rint(255 * images).astype("uint8").'
        )
    elif pixels.ndim == rank and channels == (4,):
        hint = "Leave out the channel of transparency: images[..., :3]."
    elif pixels.ndim != rank or channels not in ((1,), (3,)):
        hint = "The channels come last; several grey images are images[..., None]."
    elif not pixels.size and 0 not in count:
        hint = "An image without pixels cannot be used."
    else:
        return np.repeat(pixels, 3, axis=-1) if channels == (1,) else pixels
    raise errors.InputError(
        f"`{name}` must be uint8 in [0, 255], RGB ({axes}, 3) or grey ({axes}, 1). "
        f"Received: {given.dtype} {given.shape}. {hint}"
    )


def is_image(path: Path) -> bool:
    """Return whether a file is an image, by its suffix, or else by its first bytes."""
    if path.suffix.lower() in EXTENSIONS:
        return True
    try:
        with Image.open(path, formats=_FORMATS):
            return True
    except Exception:  # Pillow's readers raise nearly any type of error.
        return False


def check(
    content: bytes, image_size: int | None = None, method: Resize = "crop"
) -> Checked:
    """Check an image by decoding all of its pixels, once.

    Args:
        content: The bytes of its file.
        image_size: Side in pixels of the square to keep; `None` keeps none.
        method: See `decode`.
    """
    try:
        image = _reduced(content, _SHARED_SIDE)
        _check_single(image)
        highest = image.getextrema()[1] if _is_deep(image) else None
        size = _upright_size(_open(content))
        image = _to_rgb(image)
        square = None
        if image_size is not None:
            larger = image_size > _SHARED_SIDE
            whole = _to_rgb(_reduced(content, image_size)) if larger else image
            square = np.array(_square(whole, image_size, method))
    except Exception as error:
        return Checked(_reason(error, content))
    return Checked(
        None,
        hash_pixels(np.asarray(image)),
        size,
        highest,
        *_look(image),
        square,
    )


def _check_single(image: Image.Image) -> None:
    """Raise `InputError` for an animation, or a file of several pages."""
    # Cameras add a preview or a depth map behind a JPEG; Pillow then calls the file
    # MPO. Its first image is the photo, and every JPEG reader takes that. Phones do the
    # same in HEIF.
    single = image.format in ("MPO", "HEIF")
    frames = 1 if single else getattr(image, "n_frames", 1)
    if frames > 1:
        raise errors.InputError(
            f"holds {frames} frames or pages; save the one you want by itself"
        )


def check_header(content: bytes, most_pixels: int) -> tuple[int, int]:
    """Check an image by its header, before time and memory are spent on its pixels.

    Args:
        content: The bytes of its file.
        most_pixels: Largest number of pixels that it may have.

    Returns:
        Its width and height in pixels, upright.

    Raises:
        InputError: It is no image, has more pixels, or several frames or pages.
    """
    with _reading(content):
        image = _open(content)
        if image.width * image.height > most_pixels:
            raise errors.InputError(
                f"has {image.width:,} x {image.height:,} pixels, and {most_pixels:,} "
                "are taken; save it smaller"
            )
        _check_single(image)
        return _upright_size(image)


def size(path: Path | str | bytes | np.ndarray) -> tuple[int, int]:
    """Return width and height of an image in pixels, of a file by its header.

    Raises:
        InputError: The file cannot be used.
    """
    if isinstance(path, np.ndarray):
        return path.shape[1], path.shape[0]
    with _reading(path) as content:
        return _upright_size(_open(content))


def _upright_size(image: Image.Image) -> tuple[int, int]:
    turned = _orientation(image) in (5, 6, 7, 8)
    return image.size[::-1] if turned else image.size


def look(pixels: np.ndarray) -> tuple[int, np.ndarray]:
    """Return `look` and `thumbnail` of an image in memory, as `Checked` has them.

    Args:
        pixels: uint8 RGB `(height, width, 3)`.
    """
    return _look(Image.fromarray(pixels))


def _look(image: Image.Image) -> tuple[int, np.ndarray]:
    small = image.resize((16, 16), Image.Resampling.BILINEAR, reducing_gap=2)
    return int(str(imagehash.phash(image)), 16), np.array(small)


@dataclass(frozen=True)
class Header:
    """What stands in an image file besides its pixels.

    Attributes:
        format: Format that its content has, such as "JPEG"; empty where it has none.
        camera: Maker and model of the camera; empty where they are not noted.
        taken: Date and time at which the photo was taken, as EXIF has it
            ("2024:05:01 12:00:00"); empty where it is not noted.
    """

    format: str = ""
    camera: str = ""
    taken: str = ""


# EXIF: maker, model, the directory of the camera's settings, and the time in it.
_MAKE, _MODEL, _SETTINGS, _TAKEN = 0x010F, 0x0110, 0x8769, 0x9003


def header(path: Path | str | bytes) -> Header:
    """Read the header of an image file, or of its content; nothing is decoded."""
    try:
        with files.opened(path) as file, Image.open(file, formats=_FORMATS) as image:
            exif = image.getexif()
            names = (str(exif.get(tag, "")).strip("\0 ") for tag in (_MAKE, _MODEL))
            taken = str(exif.get_ifd(_SETTINGS).get(_TAKEN, "")).strip("\0 ")
            return Header(image.format or "", " ".join(filter(None, names)), taken)
    except Exception:  # Pillow's readers raise nearly any type of error.
        return Header()


def format_of(suffix: str) -> str | None:
    """Return the format that a suffix stands for; `None` for an unknown one.

    >>> format_of(".jpg"), format_of(".JFIF"), format_of(".xyz")
    ('JPEG', 'JPEG', None)
    """
    return Image.registered_extensions().get(suffix.lower())


def hash_pixels(pixels: np.ndarray) -> bytes:
    """Hash an array with its type and shape."""
    head = f"{pixels.dtype} {pixels.shape} ".encode()
    digest = hashlib.blake2b(head, digest_size=16)
    digest.update(np.ascontiguousarray(pixels).data)
    return digest.digest()


def hash_file(path: Path | str | bytes | np.ndarray) -> bytes:
    """Hash the pixels of an image as `check` does.

    Raises:
        InputError: The file cannot be used.
    """
    if isinstance(path, np.ndarray):
        return hash_pixels(path)
    with _reading(path) as content:
        return hash_pixels(np.asarray(_to_rgb(_reduced(content, _SHARED_SIDE))))


def check_file(path: Path | str) -> Checked:
    """Read an image file and check it. See `check`."""
    try:
        return check(files.content(path))
    except OSError as error:
        return Checked(_reason(error))


def few_bits(checked: Sequence[Checked]) -> tuple[str, str] | None:
    """Describe images of 16 bits that use few of them, which are nearly black.

    Returns:
        What they are, and what to do about it; `None` where there are none.
    """
    highest = [one.highest for one in checked if one.highest is not None]
    # No camera has more than 14 bits.
    if not highest or not 0 < max(highest) < 2**14:
        return None
    bits = max(highest).bit_length()
    return (
        f"16-bit images that use only {errors.counted(bits, 'bit')}: "
        f"{len(highest):,}, with a largest value of {max(highest):,}. They are "
        "read as values in [0, 65535], and so are nearly black.",
        f"Multiply them by {2 ** (16 - bits)} before, here and wherever the model "
        "predicts.",
    )


def _open(content: bytes) -> Image.Image:
    """Read the header of an image."""
    if not content:
        raise errors.InputError("is empty (0 bytes)")
    image = Image.open(io.BytesIO(content), formats=_FORMATS)
    # Pillow warns from this size on and raises from twice of it; one limit is clearer.
    if image.width * image.height > (Image.MAX_IMAGE_PIXELS or float("inf")):
        raise Image.DecompressionBombError
    return image


@contextlib.contextmanager
def _reading(path: Path | str | bytes) -> Iterator[bytes]:
    """Yield the content of an image file; an error in the block names the file."""
    content, name = path, "an image"
    try:
        if not isinstance(path, bytes):
            content, name = b"", path
            content = files.content(path)
        yield content
    # Pillow's readers raise nearly any type of error on a damaged file.
    except Exception as error:
        reason = _reason(error, content)
        raise errors.InputError(f"Cannot use {name}: it {reason}.") from error


def _reduced(content: bytes, image_size: int | None) -> Image.Image:
    """Read the header of an image, and let a JPEG be decoded at a part of its size."""
    image = _open(content)
    if image_size is not None:
        side = draft_side(image_size)
        image.draft(None, (side, side))
    return image


def draft_side(image_size: int) -> int:
    """Return the side in pixels down to which a JPEG is decoded at a part of its size.

    >>> draft_side(96), draft_side(300)
    (512, 600)
    """
    return 2 * max(image_size, _SHARED_SIDE)


def _is_deep(image: Image.Image) -> bool:
    """Return whether an image has one channel of 16 or 32 bits."""
    return image.mode.startswith("I")


def _orientation(image: Image.Image) -> int | None:
    """Return the EXIF orientation, in [1, 8]; `None` where none can be read."""
    with contextlib.suppress(Exception):  # Damaged EXIF raises nearly any type.
        return int(image.getexif()[_ORIENTATION])
    # Pillow gives up at the first tag whose value lies behind the end. The orientation
    # stands in the directory itself: entries of 12 bytes, of tag, type, count, value.
    with contextlib.suppress(struct.error, KeyError):
        data = (image.info.get("exif") or b"").removeprefix(b"Exif\0\0")
        order = {b"II": "<", b"MM": ">"}[data[:2]]
        (start,) = struct.unpack_from(f"{order}I", data, 4)
        (count,) = struct.unpack_from(f"{order}H", data, start)
        for position in range(start + 2, start + 2 + 12 * count, 12):
            tag, _, _, value = struct.unpack_from(f"{order}HHIH", data, position)
            if tag == _ORIENTATION:
                return value
    return None


def _to_rgb(image: Image.Image) -> Image.Image:
    """Load all pixels, upright, as 8-bit RGB on white."""
    # Not by `ImageOps.exif_transpose`: it writes all tags anew, and fails where any of
    # them has a wrong type.
    orientation = _orientation(image)
    image.load()
    if orientation in _UPRIGHT:
        image = image.transpose(_UPRIGHT[orientation])
    if _is_deep(image):
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


def _square(image: Image.Image, image_size: int, method: Resize) -> Image.Image:
    """Make a square of an image and resize it, antialiased when shrinking."""
    size = (image_size, image_size)
    if method == "pad":
        return ImageOps.pad(image, size, Image.Resampling.BILINEAR, color=_GREY)
    if method == "crop":
        side = min(image.size)
        left, top = (image.width - side) // 2, (image.height - side) // 2
        image = image.crop((left, top, left + side, top + side))
    return image.resize(size, Image.Resampling.BILINEAR)


def _reason(error: Exception, content: bytes = b"") -> str:
    """Return why a file cannot be used, as the rest of a sentence."""
    if isinstance(error, errors.InputError):
        return str(error)
    if isinstance(error, _BOMBS):
        return f"has more than {Image.MAX_IMAGE_PIXELS:,} pixels; save it smaller"
    if isinstance(error, UnidentifiedImageError):
        return _unidentified(content)
    if isinstance(error, OSError) and error.strerror:
        return f"cannot be read: {error.strerror}"
    return f"cannot be decoded: {error or type(error).__name__}"


def _unidentified(content: bytes) -> str:
    """Return why Pillow knows no image in the content of a file."""
    if content[4:8] == b"ftyp" and content[8:11] in (b"hei", b"hev", b"mif", b"msf"):
        return 'is HEIC; save it as JPEG, or pip install "keras-tl[heic]"'
    for name in _FORMATS:
        _, accepts = Image.OPEN[name]
        if accepts is not None and accepts(content[:32]) is True:
            return (
                f"is a damaged {name}, or of a kind that Pillow cannot read, such as "
                "one of five channels; save it as RGB with 8 bits per channel"
            )
    return f"holds none of {', '.join(_FORMATS)}"
