import struct
import zlib

import numpy as np
import pytest
from PIL import Image

from keras_tl import errors
from keras_tl.data import images

RNG = np.random.default_rng(0)
# Smooth, so that lossy formats come close, and different in every corner.
ROWS, COLUMNS = np.mgrid[0:24, 0:16]
TRUTH = np.stack([ROWS * 10, COLUMNS * 15, 255 - ROWS * 5 - COLUMNS * 5], -1)
TRUTH = TRUTH.clip(0, 255).astype("uint8")
GREY = np.repeat(TRUTH[..., :1], 3, axis=-1)


def decoded(image, path, **options):
    image.save(path, **options)
    assert images.problem(path) is None
    result = images.decode(path, None).astype(int)
    assert result.dtype == int
    return result


def test_rgb_comes_out_as_it_went_in(tmp_path):
    for suffix in (".png", ".bmp", ".tif"):
        out = decoded(Image.fromarray(TRUTH), tmp_path / f"a{suffix}")
        np.testing.assert_array_equal(out, TRUTH)
    out = decoded(Image.fromarray(TRUTH), tmp_path / "a.webp", lossless=True)
    np.testing.assert_array_equal(out, TRUTH)
    out = decoded(Image.fromarray(TRUTH), tmp_path / "A.JPG", quality=98, subsampling=0)
    np.testing.assert_allclose(out, TRUTH, atol=6)


@pytest.mark.parametrize("mode", ["L", "LA", "1"])
def test_grey_comes_out_as_three_equal_channels(tmp_path, mode):
    source = Image.fromarray(GREY[..., 0])
    if mode == "1":
        source = source.point(lambda value: 255 * (value > 100))
        expected = np.where(GREY > 100, 255, 0)
    else:
        expected = GREY
    out = decoded(source.convert(mode), tmp_path / "a.png")
    np.testing.assert_array_equal(out, expected)


def test_palette_comes_out_in_its_colours(tmp_path):
    image = Image.fromarray(TRUTH).quantize(256, dither=Image.Dither.NONE)
    expected = np.asarray(image.convert("RGB"))
    np.testing.assert_array_equal(decoded(image, tmp_path / "a.png"), expected)
    np.testing.assert_array_equal(decoded(image, tmp_path / "a.gif"), expected)


def test_cmyk_comes_out_in_its_colours(tmp_path):
    image = Image.fromarray(TRUTH).convert("CMYK")
    out = decoded(image, tmp_path / "a.jpg", quality=98, subsampling=0)
    np.testing.assert_allclose(out, TRUTH, atol=8)


def test_transparent_parts_are_white(tmp_path):
    alpha = np.full((*TRUTH.shape[:2], 1), 255, "uint8")
    alpha[:12] = 0
    out = decoded(
        Image.fromarray(np.concatenate([TRUTH, alpha], -1)), tmp_path / "a.png"
    )
    np.testing.assert_array_equal(out[:12], 255)
    np.testing.assert_array_equal(out[12:], TRUTH[12:])


@pytest.mark.parametrize("suffix", [".png", ".tif"])
def test_sixteen_bits_are_scaled_not_clipped(tmp_path, suffix):
    deep = Image.fromarray(GREY[..., 0].astype("uint16") * 257)
    np.testing.assert_array_equal(decoded(deep, tmp_path / f"a{suffix}"), GREY)


@pytest.mark.parametrize("orientation", range(1, 9))
def test_exif_rotation_is_applied(tmp_path, orientation):
    exif = Image.Exif()
    exif[0x0112] = orientation
    undo = {
        1: lambda a: a,
        2: lambda a: a[:, ::-1],
        3: lambda a: a[::-1, ::-1],
        4: lambda a: a[::-1],
        5: lambda a: a.swapaxes(0, 1),
        6: lambda a: np.rot90(a),
        7: lambda a: a[::-1, ::-1].swapaxes(0, 1),
        8: lambda a: np.rot90(a, -1),
    }[orientation]
    stored = Image.fromarray(np.ascontiguousarray(undo(TRUTH)))
    out = decoded(stored, tmp_path / "a.png", exif=exif)
    np.testing.assert_array_equal(out, TRUTH)


def test_an_array_and_a_file_of_the_same_pixels_give_the_same(tmp_path):
    pixels = RNG.integers(0, 256, (3, 21, 17, 3), dtype="uint8")
    paths = [tmp_path / f"{index}.png" for index in range(3)]
    for path, image in zip(paths, pixels, strict=True):
        Image.fromarray(image).save(path)
    for size in (8, 17, 40):
        np.testing.assert_array_equal(
            images.read(paths, size), images.resize(pixels, size)
        )


def photo(side):
    blurred = Image.fromarray(TRUTH).resize((side, side), Image.Resampling.BICUBIC)
    grain = RNG.normal(0, 8, (side, side, 1))
    return Image.fromarray((blurred + grain).clip(0, 255).astype("uint8"))


def test_a_large_jpeg_gives_nearly_what_its_whole_image_gives(tmp_path):
    photo(1600).save(tmp_path / "large.jpg", quality=90)
    whole = images.decode(tmp_path / "large.jpg", None)
    exact = images.resize(whole[None], 96)[0].astype(int)
    given = images.decode(tmp_path / "large.jpg", 96).astype(int)
    assert given.shape == (96, 96, 3)
    assert abs(given - exact).mean() < 1
    assert abs(given - exact).max() < 8


def test_a_jpeg_of_up_to_twice_the_size_is_decoded_whole(tmp_path):
    photo(190).save(tmp_path / "small.jpg", quality=90)
    whole = images.decode(tmp_path / "small.jpg", None)
    np.testing.assert_array_equal(
        images.decode(tmp_path / "small.jpg", 96), images.resize(whole[None], 96)[0]
    )


def test_the_largest_centred_square_is_kept():
    wide = np.zeros((1, 4, 10, 3), "uint8")
    wide[:, :, 3:7] = 200
    np.testing.assert_array_equal(images.resize(wide, 4), 200)


def test_shrinking_averages_instead_of_skipping_pixels():
    stripes = np.zeros((1, 64, 64, 3), "uint8")
    stripes[:, :, ::2] = 255
    assert abs(images.resize(stripes, 8).astype(int) - 127).max() < 10


def png_of(width, height):
    """A PNG header that claims a size, with hardly any data behind it."""

    def chunk(kind, data):
        check = struct.pack(">I", zlib.crc32(kind + data))
        return struct.pack(">I", len(data)) + kind + data + check

    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", b"")


@pytest.mark.parametrize(
    ("name", "content", "said"),
    [
        ("a.png", lambda png: b"", "is empty"),
        ("a.png", lambda png: png[: len(png) // 2], "cannot be decoded"),
        ("a.png", lambda png: b"<html></html>", "holds none of BMP, GIF"),
        ("a.jpg", lambda png: png, "is named .jpg but holds PNG; rename it to .png"),
        ("a.png", lambda png: png_of(60_000, 60_000), "pixels; save it smaller"),
    ],
)
def test_what_is_wrong_with_a_file_is_said(tmp_path, name, content, said):
    Image.fromarray(TRUTH).save(tmp_path / "good.png")
    path = tmp_path / name
    path.write_bytes(content((tmp_path / "good.png").read_bytes()))
    assert said in images.problem(path)
    if "renam" not in said:
        with pytest.raises(errors.InputError, match=r"Cannot use .*a\.png"):
            images.decode(path, 8)


@pytest.mark.parametrize("suffix", [".gif", ".webp", ".png", ".tif"])
def test_several_frames_or_pages_are_a_problem(tmp_path, suffix):
    frames = [Image.fromarray(TRUTH), Image.fromarray(TRUTH[::-1].copy())]
    path = tmp_path / f"a{suffix}"
    frames[0].save(path, save_all=True, append_images=frames[1:])
    assert "holds 2 frames or pages" in images.problem(path)


def test_floating_point_pixels_are_a_problem(tmp_path):
    Image.fromarray(TRUTH[..., 0].astype("float32")).save(tmp_path / "a.tif")
    assert "floating-point" in images.problem(tmp_path / "a.tif")


def test_an_absent_file_is_a_problem(tmp_path):
    assert "No such file" in images.problem(tmp_path / "absent.png")


def test_images_of_other_types_are_refused():
    with pytest.raises(errors.InputError, match=r"uint8 RGB.*float64"):
        images.resize(np.zeros((1, 4, 4, 3)), 2)


def test_decoding_needs_no_tensorflow():
    import subprocess
    import sys

    script = """
import sys
from keras_tl.data import folders, images, splits
from keras_tl.analysis import evaluation
assert not {"tensorflow", "keras"} & set(sys.modules)
"""
    subprocess.run([sys.executable, "-c", script], check=True)
