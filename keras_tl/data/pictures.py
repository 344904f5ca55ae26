"""Pictures of any shape: read, scaled, written, cut into squares, and some at hand."""

import hashlib
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from PIL import Image

from keras_tl import errors, files
from keras_tl.data import images

# What the pieces of `mosaic` are coloured with, RGB, and how often.
_GLASS = ((196, 38, 46), (245, 196, 60), (24, 84, 160), (16, 128, 110), (240, 236, 214))
_OFTEN = (0.22, 0.24, 0.28, 0.16, 0.1)
_LEAD = (25, 22, 20)


def read(paths: Sequence[Path]) -> dict[str, np.ndarray]:
    """Read image files at their own sizes, by the names of the files without suffix.

    Files of one name, from several folders, get a number behind it.

    Returns:
        Name -> uint8 RGB `(height, width, 3)`, in the order of `paths`.

    Raises:
        InputError: A file cannot be used.
    """
    stems = [Path(path).stem for path in paths]
    names = [
        stem if stems.count(stem) == 1 else f"{stem}-{number}"
        for number, stem in enumerate(stems, start=1)
    ]
    return {
        name: images.decode(path, None) for name, path in zip(names, paths, strict=True)
    }


def digest(pictures: Sequence[np.ndarray], other: str = "") -> str:
    """Hash pictures, and another hash with them, as hexadecimal digits."""
    parts = [other.encode(), *map(images.hash_pixels, pictures)]
    return hashlib.sha256(b"".join(parts)).hexdigest()


def scaled(image: np.ndarray, longest: int) -> np.ndarray:
    """Scale an image so that its longest side has a number of pixels.

    Args:
        image: uint8 RGB `(height, width, 3)`.
        longest: Pixels of the longest side, at least 1.

    Returns:
        uint8 RGB; the ratio of its sides stays, to a pixel.

    >>> scaled(np.zeros((100, 200, 3), "uint8"), 50).shape
    (25, 50, 3)
    """
    errors.check_at_least("longest", longest, 1)
    ratio = longest / max(image.shape[:2])
    return resized(image, [max(1, round(side * ratio)) for side in image.shape[:2]])


def resized(image: np.ndarray, shape: Sequence[int]) -> np.ndarray:
    """Scale an image to a height and a width in pixels."""
    height, width = shape[:2]
    if image.shape[:2] == (height, width):
        return image
    made = Image.fromarray(image).resize((width, height), Image.Resampling.LANCZOS)
    return np.asarray(made)


def write(path: Path, image: np.ndarray) -> None:
    """Write an image in one step; the suffix decides the format.

    Args:
        path: The file.
        image: uint8 RGB `(height, width, 3)`.
    """
    with files.atomic(path) as temporary:
        Image.fromarray(image).save(temporary)


def squares(pictures: Sequence[np.ndarray], side: int) -> np.ndarray:
    """Cut pictures into overlapping squares, at three scales.

    Args:
        pictures: uint8 RGB `(height, width, 3)`, of any sizes.
        side: Side of the squares in pixels.

    Returns:
        uint8 `(count, side, side, 3)`: of each picture, scaled so that its shortest
        side has 1, 1.5 and 2 times the side, squares at every half of the side.

    >>> squares([np.zeros((40, 60, 3), "uint8")], 20).shape
    (23, 20, 20, 3)
    """
    side = errors.side("side", side)
    cut = []
    for picture in pictures:
        for factor in (1, 1.5, 2):
            height, width = picture.shape[:2]
            ratio = factor * side / min(height, width)
            image = resized(picture, [round(height * ratio), round(width * ratio)])
            for top in range(0, image.shape[0] - side + 1, side // 2):
                for left in range(0, image.shape[1] - side + 1, side // 2):
                    cut.append(image[top : top + side, left : left + side])
    return np.stack(cut)


def samples() -> dict[str, np.ndarray]:
    """Return three photographs that other libraries carry, by their names.

    Returns:
        Name -> uint8 RGB `(height, width, 3)`: "china" and "flower" of scikit-learn
        (Creative Commons BY 2.0, flickr.com/photos/danielbuechele and
        flickr.com/photos/vultilion), and "portrait", Grace Hopper in 1984, of
        matplotlib (public domain, U.S. Navy).

    Raises:
        InputError: An installation without the photograph of matplotlib.
    """
    from matplotlib import cbook
    from sklearn.datasets import load_sample_image

    try:
        path = cbook.get_sample_data("grace_hopper.jpg", asfileobj=False)
        portrait = images.decode(str(path), None)
    except (OSError, errors.InputError) as error:
        raise errors.InputError(
            f"matplotlib has no sample data here: {errors.reason(error)}. Give "
            "photographs of your own."
        ) from error
    of_sklearn = {n: load_sample_image(f"{n}.jpg") for n in ("china", "flower")}
    return {"portrait": portrait} | of_sklearn


def mosaic(side: int, *, seed: int, pieces: int = 150) -> np.ndarray:
    """Draw a stained glass window: coloured pieces, and lead between them.

    Args:
        side: Side of the square picture in pixels.
        seed: Seed of the places of the pieces and their colours.
        pieces: Number of pieces.

    Returns:
        uint8 RGB `(side, side, 3)`; one seed gives the same picture at every size, but
        for the fineness of its lines.

    >>> mosaic(64, seed=0).shape
    (64, 64, 3)
    """
    from scipy.spatial import KDTree

    side = errors.side("side", side)
    rng = np.random.default_rng(seed)
    centres = rng.random((pieces, 2))
    for _ in range(2):  # Pieces of similar sizes: each centre to the middle of its own.
        grid = _grid(64)
        nearest = KDTree(centres).query(grid)[1]
        counts = np.maximum(np.bincount(nearest, minlength=pieces), 1)
        sums = [np.bincount(nearest, grid[:, axis], pieces) for axis in (0, 1)]
        centres = np.stack(sums, axis=-1) / counts[:, None]
    colours = np.array(_GLASS, float)[rng.choice(len(_GLASS), pieces, p=_OFTEN)]
    colours = colours * rng.uniform(0.75, 1.1, (pieces, 1))
    distances, nearest = KDTree(centres).query(_grid(side), k=2)
    from_lead = (distances[:, 1] - distances[:, 0]) * 256
    glass = np.clip((from_lead - 1.5) / 2, 0, 1)[:, None]
    picture = colours[nearest[:, 0]] * glass + np.array(_LEAD) * (1 - glass)
    return picture.clip(0, 255).astype("uint8").reshape(side, side, 3)


def _grid(side):
    """Return the middles of the pixels of a square, in [0, 1], `(side * side, 2)`."""
    places = (np.arange(side) + 0.5) / side
    return np.stack(np.meshgrid(places, places, indexing="ij"), -1).reshape(-1, 2)
