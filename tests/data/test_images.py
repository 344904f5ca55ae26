import io
import struct
import zlib

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from keras_tl import errors
from keras_tl.data import images
from keras_tl.data.splits import Split
from keras_tl.models import backbones, small_cnn

RNG = np.random.default_rng(0)
# Smooth, so that lossy formats come close, and different in every corner.
ROWS, COLUMNS = np.mgrid[0:24, 0:16]
TRUTH = np.stack([ROWS * 10, COLUMNS * 15, 255 - ROWS * 5 - COLUMNS * 5], -1)
TRUTH = TRUTH.clip(0, 255).astype("uint8")
GREY = np.repeat(TRUTH[..., :1], 3, axis=-1)


def decoded(image, path, **options):
    image.save(path, **options)
    assert images.check_file(path).problem is None
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


def tiff_entry(tag, kind, count, value, order="<"):
    return struct.pack(f"{order}HHI", tag, kind, count) + value.ljust(4, b"\0")


def with_tags(pixels, tags):
    """A JPEG with an EXIF directory as it is, right or wrong."""
    body = b"II*\0" + struct.pack("<IH", 8, len(tags)) + b"".join(tags) + bytes(4)
    file = io.BytesIO()
    photo = Image.fromarray(np.ascontiguousarray(pixels))
    photo.save(file, "JPEG", quality=98, subsampling=0, exif=b"Exif\0\0" + body)
    return file.getvalue()


TURNED = tiff_entry(0x0112, 3, 1, struct.pack("<H", 6))


@pytest.mark.parametrize(
    "tag",
    [
        tiff_entry(0x011A, 2, 4, b"72\0\0"),  # A resolution that is text.
        tiff_entry(0x0132, 3, 1, struct.pack("<H", 2024)),  # A date that is a number.
        tiff_entry(0x010F, 5, 1, struct.pack("<I", 10**9)),  # A maker behind the end.
        tiff_entry(0x8825, 4, 1, struct.pack("<I", 10**9)),  # A place behind the end.
        tiff_entry(0x8769, 7, 3, b"xyz"),  # A directory that is none.
        tiff_entry(0x0131, 99, 1, b"abcd"),  # A type that does not exist.
    ],
)
def test_one_wrong_tag_does_not_keep_a_photo_from_standing_upright(tag):
    content = with_tags(np.rot90(TRUTH), sorted([TURNED, tag]))
    assert images.check(content).problem is None
    np.testing.assert_allclose(images.decode(content, None), TRUTH, atol=8)


@settings(max_examples=60, deadline=None)
@given(st.binary(max_size=60))
def test_any_bytes_for_its_tags_leave_a_photo_usable(tags):
    file = io.BytesIO()
    Image.fromarray(TRUTH).save(file, "JPEG", exif=b"Exif\0\0II*\0\x08\0\0\0" + tags)
    assert images.check(file.getvalue()).problem is None
    assert sorted(images.decode(file.getvalue(), None).shape) == [3, 16, 24]


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


def five_bands():
    """A TIFF of 4x4 pixels with five channels of 8 bits, as satellites make them."""
    data = bytes(80)
    end = 8 + len(data) + 10
    entries = [
        tiff_entry(256, 3, 1, struct.pack("<H", 4)),
        tiff_entry(257, 3, 1, struct.pack("<H", 4)),
        tiff_entry(258, 3, 5, struct.pack("<I", 8 + len(data))),
        tiff_entry(259, 3, 1, struct.pack("<H", 1)),
        tiff_entry(262, 3, 1, struct.pack("<H", 1)),
        tiff_entry(273, 4, 1, struct.pack("<I", 8)),
        tiff_entry(277, 3, 1, struct.pack("<H", 5)),
        tiff_entry(278, 3, 1, struct.pack("<H", 4)),
        tiff_entry(279, 4, 1, struct.pack("<I", len(data))),
        tiff_entry(338, 3, 4, struct.pack("<I", 8 + len(data))),
    ]
    directory = struct.pack("<H", len(entries)) + b"".join(entries) + bytes(4)
    bits = struct.pack("<5H", *[8] * 5)
    return b"II*\0" + struct.pack("<I", end) + data + bits + directory


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (lambda png: b"", "is empty"),
        (lambda png: png[: len(png) // 2], "cannot be decoded"),
        (lambda png: b"<html></html>", "holds none of AVIF, BMP, GIF"),
        (lambda png: b"BM and no bitmap", "is a damaged BMP"),
        (lambda png: b"\x89PNG\r\n\x1a\n", "is a damaged PNG"),
        (
            lambda png: five_bands(),
            "is a damaged TIFF, or of a kind that Pillow cannot",
        ),
        (lambda png: png_of(60_000, 60_000), "pixels; save it smaller"),
    ],
)
def test_the_problem_with_a_file_is_named(tmp_path, content, reason):
    Image.fromarray(TRUTH).save(tmp_path / "good.png")
    path = tmp_path / "a.png"
    path.write_bytes(content((tmp_path / "good.png").read_bytes()))
    assert reason in images.check_file(path).problem
    with pytest.raises(errors.InputError, match=r"Cannot use .*a\.png") as raised:
        images.decode(path, 8)
    assert reason in str(raised.value)


@pytest.mark.parametrize("suffix", [".jpg", ".tif", "", ".txt"])
def test_the_content_of_a_file_decides_not_its_name(tmp_path, suffix):
    Image.fromarray(TRUTH).save(tmp_path / "a.png")
    path = (tmp_path / "a.png").rename(tmp_path / f"b{suffix}")
    assert images.is_image(path)
    assert images.check_file(path).problem is None
    np.testing.assert_array_equal(images.decode(path, None), TRUTH)


def test_a_text_is_no_image(tmp_path):
    (tmp_path / "a.txt").write_text("BM is how a bitmap starts")
    assert not images.is_image(tmp_path / "a.txt")


def test_avif_and_heic_are_read(tmp_path):
    pillow_heif = pytest.importorskip("pillow_heif", reason="extra heic")
    large = Image.fromarray(TRUTH).resize((64, 96))
    for suffix in (".avif", ".heic"):
        large.save(tmp_path / f"a{suffix}", quality=95)
        assert images.check_file(tmp_path / f"a{suffix}").problem is None
        out = images.decode(tmp_path / f"a{suffix}", None).astype(int)
        np.testing.assert_allclose(out, np.asarray(large), atol=16)
    assert pillow_heif.is_supported(tmp_path / "a.heic")


def test_without_its_extra_heic_names_it(monkeypatch):
    formats = [name for name in images._FORMATS if name != "HEIF"]
    monkeypatch.setattr(images, "_FORMATS", formats)
    problem = images.check(b"\0\0\0\x18ftypheic" + bytes(40)).problem
    assert problem == 'is HEIC; save it as JPEG, or pip install "keras-tl[heic]"'


def test_equal_pixels_have_equal_hashes_whatever_their_format(tmp_path):
    hashes = set()
    for suffix in (".png", ".bmp", ".tif"):
        Image.fromarray(TRUTH).save(tmp_path / f"a{suffix}")
        checked = images.check((tmp_path / f"a{suffix}").read_bytes())
        assert checked.size == (16, 24)
        hashes.add(checked.hash)
    assert len(hashes) == 1
    Image.fromarray(TRUTH.reshape(16, 24, 3)).save(tmp_path / "b.png")
    assert images.check((tmp_path / "b.png").read_bytes()).hash not in hashes


def test_the_largest_value_of_sixteen_bits_is_told():
    deep = io.BytesIO()
    Image.fromarray(np.full((4, 4), 4095, "uint16")).save(deep, "PNG")
    assert images.check(deep.getvalue()).highest == 4095
    usual = io.BytesIO()
    Image.fromarray(TRUTH).save(usual, "PNG")
    assert images.check(usual.getvalue()).highest is None


@pytest.mark.parametrize("suffix", [".gif", ".webp", ".png", ".tif"])
def test_several_frames_or_pages_are_a_problem(tmp_path, suffix):
    frames = [Image.fromarray(TRUTH), Image.fromarray(TRUTH[::-1].copy())]
    path = tmp_path / f"a{suffix}"
    frames[0].save(path, save_all=True, append_images=frames[1:])
    assert "holds 2 frames or pages" in images.check_file(path).problem


def test_floating_point_pixels_are_a_problem(tmp_path):
    Image.fromarray(TRUTH[..., 0].astype("float32")).save(tmp_path / "a.tif")
    assert "floating-point" in images.check_file(tmp_path / "a.tif").problem


def test_an_absent_file_is_a_problem(tmp_path):
    assert "No such file" in images.check_file(tmp_path / "absent.png").problem


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


@pytest.mark.parametrize("side", [(4, 4), [4, 4], np.int64(4)])
def test_a_pair_of_equal_numbers_is_the_side_of_a_square(side):
    pixels = RNG.integers(0, 256, (2, 9, 7, 3), "uint8")
    wanted = images.resize(pixels, 4)
    np.testing.assert_array_equal(images.resize(pixels, side), wanted)
    split = Split(pixels, [0, 1]).at_size(side)
    np.testing.assert_array_equal(split.read([0, 1]), wanted)
    file = io.BytesIO()
    Image.fromarray(pixels[0]).save(file, "PNG")
    np.testing.assert_array_equal(images.decode(file.getvalue(), side), wanted[0])
    assert small_cnn.small_cnn(image_size=(8, 8)).input_shape == (None, 8, 8, 3)


@pytest.mark.parametrize("side", [(4, 5), (4,), 4.0, "4", True, (4, 4, 3), 0, -1])
@pytest.mark.parametrize(
    "use",
    [
        lambda side: images.resize(np.zeros((1, 8, 8, 3), "uint8"), side),
        lambda side: images.decode(b"", side),
        lambda side: Split(np.zeros((1, 8, 8, 3), "uint8"), [0]).at_size(side),
        lambda side: backbones.load("mobilenet", weights=None, image_size=side),
        lambda side: small_cnn.small_cnn(image_size=side),
    ],
)
def test_other_sizes_are_refused_in_words(side, use):
    with pytest.raises(errors.InputError, match="`image_size` must be"):
        use(side)


def jpeg(width, height, seed=0):
    small = np.random.default_rng(seed).integers(0, 256, (9, 12, 3), dtype="uint8")
    image = Image.fromarray(small).resize((width, height), Image.Resampling.BICUBIC)
    file = io.BytesIO()
    image.save(file, format="JPEG")
    return file.getvalue()


@pytest.mark.parametrize("size", [64, 224, 256, 300])
@pytest.mark.parametrize("method", ["crop", "pad", "stretch"])
@pytest.mark.parametrize("shape", [(90, 70), (1300, 1700), (2400, 700)])
def test_the_square_of_a_check_is_what_decoding_gives(shape, method, size):
    content = jpeg(*shape)
    checked = images.check(content, size, method)
    np.testing.assert_array_equal(checked.example, images.decode(content, size, method))
    assert checked.size == shape
    assert checked.hash == images.hash_file(content)


def test_padding_shows_all_of_an_image_and_stretching_too():
    pixels = np.zeros((1, 10, 40, 3), "uint8")
    pixels[:, :, :10], pixels[:, :, 30:] = (255, 0, 0), (0, 0, 255)
    cropped, padded, stretched = (
        images.resize(pixels, 20, method)[0] for method in ("crop", "pad", "stretch")
    )
    assert not cropped[5:15, 5:15].any()
    for whole in (padded, stretched):
        assert whole[10, 1, 0] > 200
        assert whole[10, -2, 2] > 200
    assert (padded[:6] == 127).all()
    assert (padded[-6:] == 127).all()
    # Nothing is distorted: a quarter of the height is the image.
    assert (padded[:, 10] != 127).any(axis=-1).sum() == 5
    assert (stretched[0, 1] == stretched[-1, 1]).all()


def test_a_large_jpeg_is_decoded_once_for_check_hash_and_square(monkeypatch):
    content, calls = jpeg(1600, 1200), []
    load = images._to_rgb
    monkeypatch.setattr(images, "_to_rgb", lambda image: calls.append(1) or load(image))
    images.check(content, 224)
    assert len(calls) == 1
