import inspect
import itertools

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from keras.src.legacy.preprocessing.image import ImageDataGenerator
from PIL import Image

from keras_tl import errors
from keras_tl.data import augment, pipeline, warp
from keras_tl.data.splits import Split

# Each shape is compiled once; square, wide, high, and with another depth.
SHAPES = [(16, 16, 3), (9, 14, 3), (20, 7, 1)]
# Parameters that change nothing.
STILL = {
    "theta": 0.0,
    "tx": 0.0,
    "ty": 0.0,
    "shear": 0.0,
    "zx": 1.0,
    "zy": 1.0,
    "flip_horizontal": False,
    "flip_vertical": False,
}
# The settings of the article that this project starts from.
ARTICLE = {
    "rotation_range": 15,
    "width_shift_range": 0.1,
    "height_shift_range": 0.1,
    "shear_range": 0.1,
    "zoom_range": 0.1,
    "horizontal_flip": True,
}

parameters = st.fixed_dictionaries(
    {
        "theta": st.floats(-180, 180),
        "tx": st.floats(-25, 25),
        "ty": st.floats(-25, 25),
        "shear": st.floats(-80, 80),
        "zx": st.floats(0.2, 3),
        "zy": st.floats(0.2, 3),
        "flip_horizontal": st.booleans(),
        "flip_vertical": st.booleans(),
    }
)


def random_images(count, shape, seed=0):
    rng = np.random.default_rng(seed)
    return rng.integers(0, 256, (count, *shape), dtype="uint8")


def random_draws(count, seed=0):
    rng = np.random.default_rng(seed)
    return rng.random((count, pipeline.DRAWS), dtype="float32")


def transform(images, each, **options):
    """Call `warp.transform` with a dictionary of parameters for each image."""
    vectors = {name: np.array([one[name] for one in each]) for name in STILL}
    return warp.transform(images, **vectors, **options).numpy()


def transform_one(image, **changes):
    return transform(image[None], [STILL | changes])[0]


def reference(image, one, **options):
    """What `ImageDataGenerator` makes of the parameters, turned around the centre.

    tx moves columns there too: what is swapped there is which range tx comes from. But
    of the centre it takes the row for the column, which for an image that is not square
    is another point. The shift is changed to make up for that.
    """
    height, width = image.shape[:2]
    theta, shear = np.deg2rad(one["theta"]), np.deg2rad(one["shear"])
    turn = np.array([[np.cos(theta), -np.sin(theta)], [np.sin(theta), np.cos(theta)]])
    shear = np.array([[1, -np.sin(shear)], [0, np.cos(shear)]])
    linear = turn @ shear @ np.diag([one["zx"], one["zy"]])
    off_centre = np.array([height - width, width - height]) / 2
    tx, ty = turn.T @ (linear - np.eye(2)) @ off_centre
    one = one | {"tx": one["tx"] + tx, "ty": one["ty"] + ty}
    generator = ImageDataGenerator(**options)
    return generator.apply_transform(image.astype("float32"), one)


@settings(max_examples=60, deadline=None)
@given(
    st.sampled_from(SHAPES),
    st.lists(parameters, min_size=3, max_size=3),
    st.integers(0, 99),
)
def test_transform_equals_image_data_generator(shape, each, seed):
    images = random_images(3, shape, seed)
    found = transform(images, each)
    assert found.dtype == "float32"
    for image, one, ours in zip(images, each, found, strict=True):
        np.testing.assert_allclose(ours, reference(image, one), rtol=0, atol=1e-3)


def places(shape, one):
    """Where the reference reads each pixel, as its matrix has it: rows, columns."""
    height, width = shape[:2]
    theta, shear = np.deg2rad(one["theta"]), np.deg2rad(one["shear"])
    matrix = (
        np.array([[np.cos(theta), -np.sin(theta)], [np.sin(theta), np.cos(theta)]])
        @ np.array([[1, -np.sin(shear)], [0, np.cos(shear)]])
        @ np.diag([one["zx"], one["zy"]])
    )
    turn = np.array([[np.cos(theta), -np.sin(theta)], [np.sin(theta), np.cos(theta)]])
    centre = np.array([(width - 1) / 2, (height - 1) / 2])
    columns, rows = np.meshgrid(np.arange(width), np.arange(height))
    if one["flip_horizontal"]:
        columns = width - 1 - columns
    if one["flip_vertical"]:
        rows = height - 1 - rows
    at = np.stack([columns, rows], -1) - centre
    x, y = np.moveaxis(at @ matrix.T + turn @ [one["tx"], one["ty"]] + centre, -1, 0)
    return y, x


@settings(max_examples=60, deadline=None)
@given(
    st.sampled_from(SHAPES),
    st.sampled_from(["constant", "reflect", "wrap"]),
    st.lists(parameters, min_size=3, max_size=3),
    st.integers(0, 99),
)
def test_all_fill_modes_equal_those_of_image_data_generator(shape, mode, each, seed):
    images = random_images(3, shape, seed)
    found = transform(images, each, fill_mode=mode, cval=70.0)
    for image, one, ours in zip(images, each, found, strict=True):
        theirs = reference(image, one, fill_mode=mode, cval=70.0)
        # At an edge the value jumps, and rounding decides on which side a place is.
        sure = np.ones(shape[:2], bool)
        for place, length in zip(places(shape, one), shape[:2], strict=True):
            period = length - 1
            sure &= np.abs((place + period / 2) % period - period / 2) > 1e-5
        if mode == "reflect":
            sure[:] = True
        np.testing.assert_allclose(ours[sure], theirs[sure], rtol=0, atol=1e-3)


@pytest.mark.parametrize("mode", warp.FILL_MODES)
def test_no_fill_mode_touches_an_image_that_stays(mode):
    images = random_images(3, (9, 14, 3))
    found = transform(images, [STILL] * 3, fill_mode=mode, cval=70.0)
    np.testing.assert_array_equal(found, images)


def test_what_fill_modes_show_beyond_the_edge():
    image = np.arange(4, dtype="uint8").reshape(1, 4, 1).repeat(3, 0) * 10
    for mode, row in {
        "nearest": [30, 30, 30, 30],
        "constant": [7, 7, 7, 7],
        "reflect": [30, 20, 10, 0],
        "wrap": [10, 20, 0, 10],
    }.items():
        shifted = transform(
            image[None], [STILL | {"tx": 4.0}], fill_mode=mode, cval=7.0
        )
        assert shifted[0, 1, :, 0].tolist() == row, mode


@pytest.mark.parametrize("shift", [-300.0, -40.0, 25.0])
def test_channel_shift_equals_image_data_generator(shift):
    image = random_images(1, (9, 14, 3))[0] // 2 + 30
    one = STILL | {"theta": 20.0, "flip_horizontal": True}
    ours = transform(image[None], [one], channel_shift=np.array([shift]))[0]
    theirs = reference(image, one | {"channel_shift_intensity": shift})
    np.testing.assert_allclose(ours, theirs, rtol=0, atol=1e-3)


@settings(max_examples=20, deadline=None)
@given(st.sampled_from(SHAPES), parameters)
def test_the_legacy_centre_is_that_of_image_data_generator(shape, one):
    image = random_images(1, shape)[0]
    ours = transform(image[None], [one], legacy_centre=True)[0]
    theirs = ImageDataGenerator().apply_transform(image.astype("float32"), one)
    np.testing.assert_allclose(ours, theirs, rtol=0, atol=1e-3)


def test_legacy_axes_swap_the_shifts_as_the_reference_does(monkeypatch):
    ranges = {"width_shift_range": [4.0], "height_shift_range": 0.3}
    right = drawn(monkeypatch, **ranges)
    legacy = drawn(monkeypatch, **ranges, legacy_axes=True)
    assert set(np.unique(right["tx"])) == {-4, 4}
    np.testing.assert_array_equal(legacy["tx"], right["ty"])
    np.testing.assert_array_equal(legacy["ty"], right["tx"])


def test_a_sequence_of_shifts_gives_each_value_to_either_side(monkeypatch):
    found = drawn(monkeypatch, count=6000, width_shift_range=[0.1, 0.3, 0.2])["tx"]
    values, counts = np.unique(np.round(found, 4), return_counts=True)
    assert values.tolist() == [-12, -8, -4, 4, 8, 12]
    np.testing.assert_allclose(counts / 6000, 1 / 6, atol=0.03)


def test_transform_equals_image_data_generator_at_the_size_of_a_photo():
    images = random_images(2, (224, 224, 3))
    one = {"theta": 13.0, "tx": 21.5, "ty": -7.3, "shear": 0.1, "zx": 1.08, "zy": 0.93}
    each = [STILL | one, STILL | one | {"flip_horizontal": True, "theta": -9.0}]
    for image, one, ours in zip(images, each, transform(images, each), strict=True):
        np.testing.assert_allclose(ours, reference(image, one), rtol=0, atol=1e-3)


@pytest.mark.parametrize("kind", ["uint8", "float32"])
@pytest.mark.parametrize("shape", SHAPES)
def test_without_ranges_nothing_changes(shape, kind):
    images = random_images(3, shape).astype(kind)
    found = augment.image_data_generator()(images, random_draws(3)).numpy()
    assert found.dtype == "float32"
    np.testing.assert_array_equal(found, images)


@pytest.mark.parametrize("shape", SHAPES)
def test_directions_of_the_parameters(shape):
    image = random_images(1, shape)[0]
    height, width, _ = shape
    left = image[:, np.minimum(np.arange(width) + 2, width - 1)]
    up = image[np.minimum(np.arange(height) + 2, height - 1)]
    np.testing.assert_array_equal(transform_one(image, tx=2), left)
    np.testing.assert_array_equal(transform_one(image, ty=2), up)
    mirrored = transform_one(image, flip_horizontal=True)
    np.testing.assert_array_equal(mirrored, image[:, ::-1])
    upended = transform_one(image, flip_vertical=True)
    np.testing.assert_array_equal(upended, image[::-1])
    # The centre stays where it is, in an image that is not square as well.
    turned = transform_one(image, theta=180)
    np.testing.assert_allclose(turned, image[::-1, ::-1], rtol=0, atol=1e-3)
    if height == width:
        turned = transform_one(image, theta=90)
        np.testing.assert_allclose(turned, np.rot90(image), rtol=0, atol=1e-3)


def test_zoom_above_one_shows_more_columns_for_x_and_more_rows_for_y():
    image = np.zeros((21, 31, 1), "uint8")
    image[4:17, 6:25] = 255
    smaller = transform_one(image, zx=2) > 127
    assert smaller.any(axis=(0, 2)).sum() < 19
    assert smaller.any(axis=(1, 2)).sum() == 13
    smaller = transform_one(image, zy=2) > 127
    assert smaller.any(axis=(0, 2)).sum() == 19
    assert smaller.any(axis=(1, 2)).sum() < 13


@pytest.mark.parametrize("ours", ["width", "height"])
def test_shift_ranges_move_what_they_say_where_the_reference_swaps_them(ours):
    # All columns are alike, or all rows: a shift along the other axis changes nothing.
    ramp = np.linspace(0, 255, 16, dtype="float32")
    alike = {"width": ramp[:, None, None], "height": ramp[None, :, None]}[ours]
    images = np.broadcast_to(alike, (20, 16, 16, 3)).copy()
    swapped = {"width": "height", "height": "width"}[ours]

    def change(name):
        function = augment.image_data_generator(**{f"{name}_shift_range": 0.3})
        return np.abs(function(images, random_draws(20)).numpy() - images).max()

    def change_of_reference(name):
        generator = ImageDataGenerator(**{f"{name}_shift_range": [4.0]})
        return np.abs(generator.random_transform(images[0]) - images[0]).max()

    assert change(ours) < 1e-3 < 10 < change(swapped)
    assert change_of_reference(swapped) < 1e-3 < 10 < change_of_reference(ours)


@pytest.mark.parametrize("factor", [0.0, 0.3, 0.7, 1.0, 1.4, 3.0])
def test_brightness_is_within_one_level_of_the_reference(factor):
    image = random_images(1, (16, 16, 3))[0]
    found = transform(image[None], [STILL], brightness=np.array([factor]))[0]
    theirs = ImageDataGenerator().apply_transform(
        image.astype("float32"), {"brightness": factor}
    )
    np.testing.assert_allclose(found, theirs, rtol=0, atol=1)
    assert found.min() >= 0
    assert found.max() <= 255


def test_pixels_that_would_be_scaled_twice_are_refused():
    with pytest.raises(errors.InputError, match="Preprocessing belongs into the model"):
        augment.image_data_generator(**ARTICLE, rescale=1 / 255)


@pytest.mark.parametrize("shape", SHAPES)
def test_an_image_depends_on_its_own_draws_alone(shape):
    images, draws = random_images(11, shape), random_draws(11)
    function = augment.image_data_generator(
        **ARTICLE, vertical_flip=True, brightness_range=(0.5, 1.5)
    )
    together = function(images, draws).numpy()
    np.testing.assert_array_equal(function(images, draws), together)
    assert (together != images).any(axis=(1, 2, 3)).all()
    for rows in [slice(0, 1), slice(10, 11), slice(3, 8)]:
        np.testing.assert_array_equal(
            function(images[rows], draws[rows]), together[rows]
        )


def drawn(monkeypatch, count=2000, shape=(10, 40, 3), **ranges):
    """The parameters that come of random draws, and of the smallest and largest."""
    seen = {}
    monkeypatch.setattr(
        warp, "transform", lambda images, **each: seen.update(each) or images
    )
    draws = random_draws(count)
    draws[0], draws[1] = 0, np.nextafter(np.float32(1), np.float32(0))
    augment.image_data_generator(**ranges)(np.zeros((count, *shape)), draws)
    return {name: each.numpy() for name, each in seen.items() if hasattr(each, "numpy")}


@pytest.mark.parametrize(
    ("argument", "value", "parameter", "low", "high"),
    [
        ("rotation_range", 15, "theta", -15, 15),
        ("shear_range", 0.1, "shear", -0.1, 0.1),
        ("width_shift_range", 0.1, "tx", -4, 4),
        ("height_shift_range", 0.1, "ty", -1, 1),
        ("width_shift_range", 2.5, "tx", -2.5, 2.5),
        ("height_shift_range", 1.0, "ty", -1, 1),
        ("brightness_range", (0.2, 1.5), "brightness", 0.2, 1.5),
    ],
)
def test_each_range_fills_its_bounds(
    monkeypatch, argument, value, parameter, low, high
):
    found = drawn(monkeypatch, **{argument: value})
    assert found[parameter].min() == pytest.approx(low, rel=0.01)
    assert found[parameter].max() == pytest.approx(high, rel=0.01)
    assert found[parameter].mean() == pytest.approx((low + high) / 2, abs=high / 10)
    for other, still in STILL.items():
        if other != parameter:
            assert (found[other] == still).all(), other


@pytest.mark.parametrize(
    ("value", "low", "high"), [(0.1, 0.9, 1.1), ((0.5, 1.0), 0.5, 1.0), ([1, 2], 1, 2)]
)
def test_zoom_is_drawn_apart_for_columns_and_rows(monkeypatch, value, low, high):
    found = drawn(monkeypatch, zoom_range=value)
    for parameter in ["zx", "zy"]:
        assert found[parameter].min() == pytest.approx(low, rel=0.01)
        assert found[parameter].max() == pytest.approx(high, rel=0.01)
    assert abs(np.corrcoef(found["zx"][2:], found["zy"][2:])[0, 1]) < 0.1


def test_an_int_shifts_whole_pixels_as_often_as_the_reference(monkeypatch):
    found = drawn(monkeypatch, count=6000, width_shift_range=3)["tx"]
    values, counts = np.unique(found, return_counts=True)
    assert values.tolist() == [-2, -1, 0, 1, 2]
    np.testing.assert_allclose(counts / 6000, np.array([1, 1, 2, 1, 1]) / 6, atol=0.03)


def test_flips_change_half_of_the_images_and_only_when_asked(monkeypatch):
    found = drawn(monkeypatch, horizontal_flip=True)
    assert 0.45 < found["flip_horizontal"].mean() < 0.55
    assert not found["flip_vertical"].any()
    both = drawn(monkeypatch, horizontal_flip=True, vertical_flip=True)
    assert 0.45 < both["flip_vertical"].mean() < 0.55
    assert (both["flip_horizontal"] != both["flip_vertical"]).any()


def test_a_range_leaves_the_draws_of_the_others_alone(monkeypatch):
    all_of_them = drawn(monkeypatch, **ARTICLE)
    found = drawn(monkeypatch, **ARTICLE | {"rotation_range": 0})
    for name in ["tx", "ty", "shear", "zx", "zy", "flip_horizontal"]:
        np.testing.assert_array_equal(found[name], all_of_them[name])


def test_the_articles_settings_in_the_pipeline():
    split = Split(random_images(12, (16, 16, 3)), np.arange(12))

    def seen(epoch, batch_size=5):
        function = augment.image_data_generator(**ARTICLE)
        training = pipeline.Training(split, batch_size, 3, function)
        return {
            int(label): pixels
            for x, y, _ in training.epoch(epoch)
            for pixels, label in zip(x.numpy(), y.numpy(), strict=True)
        }

    first, second = seen(0), seen(1)
    assert sorted(first) == sorted(second) == list(range(12))
    for label, pixels in first.items():
        assert pixels.dtype == "float32"
        assert pixels.shape == (16, 16, 3)
        assert pixels.min() >= 0
        assert pixels.max() <= 255
        assert not np.array_equal(pixels, second[label])
    for one, other in itertools.combinations([first, seen(0), seen(0, 4)], 2):
        for label in one:
            np.testing.assert_array_equal(one[label], other[label])


@pytest.mark.parametrize(
    ("argument", "value"),
    [
        ("rotation_range", -1),
        ("rotation_range", "15"),
        ("rotation_range", float("nan")),
        ("width_shift_range", -0.1),
        ("width_shift_range", []),
        ("width_shift_range", [1, "2"]),
        ("channel_shift_range", -1),
        ("cval", 256),
        ("legacy_axes", 1),
        ("zca_whitening", True),
        ("samplewise_center", True),
        ("preprocessing_function", abs),
        ("data_format", "channels_first"),
        ("validation_split", 0.2),
        ("interpolation_order", 3),
        ("dtype", "float64"),
        ("height_shift_range", True),
        ("height_shift_range", float("inf")),
        ("shear_range", None),
        ("zoom_range", 1),
        ("zoom_range", -0.1),
        ("zoom_range", (0, 1)),
        ("zoom_range", (1.2, 0.8)),
        ("zoom_range", (1, 2, 3)),
        ("zoom_range", "0.1"),
        ("horizontal_flip", "yes"),
        ("vertical_flip", 1),
        ("brightness_range", 0.5),
        ("brightness_range", (-1, 1)),
        ("brightness_range", (1.5, 0.5)),
        ("rescale", "1/255"),
    ],
)
def test_bad_values_name_the_argument(argument, value):
    with pytest.raises(errors.InputError, match=f"^`{argument}` must be"):
        augment.image_data_generator(**{argument: value})


def test_every_argument_of_image_data_generator_is_known():
    arguments = inspect.signature(ImageDataGenerator).parameters
    defaults = {name: each.default for name, each in arguments.items()}
    images = random_images(2, (9, 14, 3))
    found = augment.image_data_generator(**defaults)(images, random_draws(2))
    np.testing.assert_array_equal(found, images)
    with pytest.raises(errors.InputError, match="Did you mean rotation_range"):
        augment.image_data_generator(rotation=15)


def test_an_unknown_fill_mode_names_the_nearest():
    with pytest.raises(errors.InputError, match="Did you mean nearest"):
        augment.image_data_generator(fill_mode="neares")
    with pytest.raises(errors.InputError, match="fill_mode"):
        augment.image_data_generator(fill_mode=None)


@settings(max_examples=20, deadline=None)
@given(st.sampled_from(SHAPES[:2]), st.integers(0, 10**6))
def test_a_random_part_is_what_pillow_cuts_and_scales(shape, seed):
    height, width, _ = shape
    images, draws = random_images(4, shape, seed), random_draws(4, seed)
    crop = augment.random_resized_crop(scale=(0.2, 0.9), horizontal_flip=False)
    found = crop(images, draws).numpy()
    for image, row, result in zip(images, draws.astype(float), found, strict=True):
        area = 0.2 + 0.7 * row[0]
        ratio = 0.75 * (16 / 9) ** row[1]
        wide = min((area * height * width * ratio) ** 0.5, width)
        high = min((area * height * width / ratio) ** 0.5, height)
        left, top = row[2] * (width - wide), row[3] * (height - high)
        box = (left, top, left + wide, top + high)
        wanted = Image.fromarray(image).resize(
            (width, height), Image.Resampling.BILINEAR, box
        )
        # Pillow rounds to whole levels, its weights too, and keeps inside the box.
        inner = (slice(2, -2), slice(2, -2))
        np.testing.assert_allclose(
            result[inner], np.asarray(wanted, float)[inner], atol=4
        )


def test_the_whole_image_is_a_part_that_changes_nothing():
    images, draws = random_images(4, (9, 14, 3)), random_draws(4)
    # A ratio as wide as the image is, so that its whole area fits.
    ratio = (14 / 9, 14 / 9)
    whole = augment.random_resized_crop(
        scale=(1, 1), ratio=ratio, horizontal_flip=False
    )
    np.testing.assert_allclose(whole(images, draws), images, atol=1e-3)
    flip = augment.random_resized_crop(scale=(1, 1), ratio=ratio)
    flipped = flip(images, draws).numpy()
    for image, row, result in zip(images, draws, flipped, strict=True):
        wanted = image[:, ::-1] if row[4] < 0.5 else image
        np.testing.assert_allclose(result, wanted, atol=1e-3)


@pytest.mark.parametrize(
    "options",
    [
        {"scale": (0, 1)},
        {"scale": (0.5, 1.5)},
        {"scale": 0.5},
        {"ratio": (2, 1)},
        {"ratio": (0, 1)},
        {"horizontal_flip": 1},
    ],
)
def test_a_part_that_cannot_be_is_refused(options):
    with pytest.raises(errors.InputError, match=next(iter(options))):
        augment.random_resized_crop(**options)


# ------------------------------------------------------------------ colours


def still(count=4):
    """Return draws that show the whole image, as it is."""
    draws = np.full((count, 16), 0.5, "float32")
    draws[:, 0] = 1.0
    return draws


def pictures(count=4):
    rng = np.random.default_rng(0)
    return rng.integers(30, 200, (count, 8, 8, 3)).astype("float32")


def test_colours_stay_where_nothing_is_drawn():
    changed = augment.crop_and_colour()(pictures(), still()).numpy()
    np.testing.assert_allclose(changed, pictures(), atol=0.01)


def test_grey_images_have_the_brightness_of_the_coloured_ones():
    draws = still()
    draws[:, 10] = 0.1
    changed = augment.crop_and_colour()(pictures(), draws).numpy()
    expected = pictures() @ np.array([0.299, 0.587, 0.114])
    np.testing.assert_allclose(changed, expected[..., None].repeat(3, -1), atol=0.05)


def test_a_turn_of_the_hue_keeps_the_brightness_and_changes_the_colour():
    draws = still()
    draws[:, 5], draws[:, 9] = 0.1, 0.7
    changed = augment.crop_and_colour()(pictures() / 2 + 60, draws).numpy()
    weights = np.array([0.299, 0.587, 0.114])
    before = pictures() / 2 + 60
    np.testing.assert_allclose(changed @ weights, before @ weights, atol=0.1)
    assert np.abs(changed - before).mean() > 2


@pytest.mark.parametrize(("column", "factor"), [(6, 1.4), (7, 1.4), (8, 1.4)])
def test_brightness_contrast_and_saturation_are_factors(column, factor):
    draws = still()
    draws[:, 5], draws[:, column] = 0.1, 1.0
    images = pictures() / 4 + 60
    changed = augment.crop_and_colour()(images, draws).numpy()
    weights = np.array([0.299, 0.587, 0.114])
    grey = (images @ weights)[..., None]
    around = {6: 0.0, 7: grey.mean((1, 2), keepdims=True), 8: grey}[column]
    np.testing.assert_allclose(changed, around + factor * (images - around), atol=0.1)


@given(st.integers(0, 10**6))
@settings(max_examples=20, deadline=None)
def test_a_view_depends_on_its_own_draws_alone_and_stays_in_range(seed):
    rng = np.random.default_rng(seed)
    images = rng.integers(0, 256, (5, 8, 8, 3), "uint8")
    draws = rng.random((5, 16), "float32")
    change = augment.crop_and_colour(strength=1.0)
    together = change(images, draws).numpy()
    assert together.min() >= 0
    assert together.max() <= 255
    alone = change(images[2:3], draws[2:3]).numpy()
    np.testing.assert_allclose(alone[0], together[2], atol=0.01)


def test_a_strength_out_of_range_is_named():
    with pytest.raises(errors.InputError, match="strength"):
        augment.crop_and_colour(strength=1.5)
