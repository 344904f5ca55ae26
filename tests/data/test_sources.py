"""Every source reads what a slow loop over its examples reads."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from keras_tl import errors
from keras_tl.data import images, pipeline, sources, text
from keras_tl.data.sources import Arrays, ImageArray, Stored

PIXELS = np.random.default_rng(0).integers(0, 256, (7, 9, 6, 3), dtype="uint8")
indices = st.lists(st.integers(0, 6), max_size=9)


def files(folder):
    paths = []
    for index, pixels in enumerate(PIXELS):
        paths.append(folder / f"{index}.png")
        Image.fromarray(pixels).save(paths[-1])
    return tuple(paths)


@pytest.fixture(scope="module")
def kinds(tmp_path_factory):
    """Name -> a source of seven examples, and the examples as one array."""
    paths = files(tmp_path_factory.mktemp("images"))
    squares = images.resize(PIXELS, 4)
    numbers = np.arange(21.0).reshape(7, 3)
    pixels = ImageArray(PIXELS, 4)
    joined = sources.concatenate(pixels.take([0, 1]), pixels.take([2, 3, 4, 5, 6]))
    return {
        "array": (Arrays(numbers), numbers),
        "pixels": (pixels, squares),
        "files": (sources.ImageFiles(paths, 4), squares),
        "stored": (Stored(sources.ImageFiles(paths), squares, "image"), squares),
        "selection": (sources.Selection(pixels, np.arange(7)), squares),
        "concatenation": (joined, squares),
    }


NAMES = ["array", "pixels", "files", "stored", "selection", "concatenation"]


@pytest.mark.parametrize("name", NAMES)
@settings(deadline=None, max_examples=20)
@given(chosen=indices, again=st.data())
def test_reading_what_was_taken_is_reading_it_at_once(kinds, name, chosen, again):
    source, values = kinds[name]
    np.testing.assert_array_equal(source.read(chosen), values[chosen])
    taken = source.take(chosen)
    assert len(taken) == len(chosen)
    assert taken.kind == source.kind
    places = again.draw(st.lists(st.integers(0, max(len(chosen) - 1, 0)), max_size=5))
    if chosen:
        np.testing.assert_array_equal(taken.read(places), values[chosen][places])


@pytest.mark.parametrize("name", NAMES)
def test_the_digest_is_that_of_the_content_in_its_order(kinds, name):
    source, _ = kinds[name]
    assert source.digest() == source.digest()
    assert source.take([1, 0, 2]).digest() != source.take([0, 1, 2]).digest()


def test_what_is_kept_of_images_is_hashed_as_the_images(kinds):
    pixels = kinds["pixels"][0]
    features = Stored(pixels, np.zeros((7, 2)))
    assert features.digest() == pixels.digest()
    assert features.kind == "features"
    assert features.input_spec()["shape"] == [2]
    np.testing.assert_array_equal(features.preview([3], 4), pixels.read([3]))


@pytest.mark.parametrize("name", ["pixels", "files", "stored", "concatenation"])
def test_images_are_read_at_any_size_and_shown_small(kinds, name):
    source, _ = kinds[name]
    wanted = images.resize(PIXELS, 5)
    np.testing.assert_array_equal(source.at_size(5).read(range(7)), wanted)
    shown = np.stack(source.at_size(5).preview([0, 6], 3))
    assert shown.shape == (2, 3, 3, 3)
    assert source.input_spec()["pixels"] == "RGB in [0, 255]"


def test_files_keep_their_names_whatever_is_taken_of_them(tmp_path):
    paths = [tmp_path / f"{index}.png" for index in range(4)]
    for path in paths:
        Image.fromarray(np.zeros((4, 4, 3), "uint8")).save(path)
    source = sources.as_source(paths).at_size(4)
    names = [str(path) for path in paths]
    assert source.names([2, 0]) == [names[2], names[0]]
    assert source.take([3, 1]).names([1]) == [names[1]]
    kept = sources.Stored(source, source.read(range(4)), "image")
    assert kept.take([2, 3]).names([1]) == [names[3]]
    both = sources.concatenate(source, source.take([0]))
    assert both.names([4, 1]) == [names[0], names[1]]
    assert sources.Selection(source, np.array([3])).names([0]) == [names[3]]
    assert sources.as_source([paths[0].read_bytes()]).names([0]) is None
    assert sources.as_source(np.zeros((2, 3), "float32")).names([0]) is None


@pytest.mark.parametrize("size", [None, 5])
def test_pixels_of_different_sizes_are_images_like_files(tmp_path, size):
    rng = np.random.default_rng(1)
    arrays = [rng.integers(0, 256, (s, 7, 3), dtype="uint8") for s in (5, 6, 9)]
    paths = [tmp_path / f"{index}.png" for index in range(3)]
    for path, pixels in zip(paths, arrays, strict=True):
        Image.fromarray(pixels).save(path)
    mixed = sources.of_images([arrays[0], str(paths[1]), arrays[2]], size)
    plain = sources.of_images(paths, size)
    for index in range(3):
        np.testing.assert_array_equal(mixed.read([index]), plain.read([index]))
        np.testing.assert_array_equal(mixed.preview([index]), plain.preview([index]))
    assert mixed.hashes() == plain.hashes()
    assert mixed.names([0]) is None
    assert mixed.digest() != mixed.take([2, 1, 0]).digest()
    assert len(sources.as_source(arrays)) == 3


def test_only_images_have_a_size():
    with pytest.raises(errors.InputError, match="kind 'features', which have none"):
        Arrays(np.zeros((3, 2))).at_size(8)


def test_sources_of_different_kinds_are_not_concatenated(kinds):
    with pytest.raises(errors.InputError, match="be of one kind"):
        sources.concatenate(kinds["array"][0], kinds["pixels"][0])


def test_augmented_copies_can_be_taken_one_by_one(kinds):
    def brighter(pixels, draws):
        import tensorflow as tf

        return tf.cast(pixels, tf.float32) * draws[:, :1, None, None]

    source = pipeline.Augmented(kinds["pixels"][0], brighter, 3, 2)
    every = source.read(range(14))
    np.testing.assert_array_equal(source.take([9, 2]).read([0, 1]), every[[9, 2]])
    np.testing.assert_array_equal(source.preview([9], 4), kinds["pixels"][1][[2]])


def test_texts_are_what_they_are():
    texts = text.Texts(("good", "bad", "a film"))
    assert texts.take([2, 0]).read([1]).tolist() == ["good"]
    assert texts.preview([2]) == ["a film"]
    with pytest.raises(errors.InputError, match="number 2: ' '"):
        text.Texts(("good", " "))


def test_images_of_which_some_have_no_name_have_none_together(tmp_path):
    path = tmp_path / "a.png"
    Image.fromarray(np.zeros((8, 8, 3), "uint8")).save(path)
    named, content = (
        sources.of_images([path], 8),
        sources.of_images([path.read_bytes()], 8),
    )
    assert sources.concatenate(named, named).names([1]) == [str(path)]
    assert sources.concatenate(named, content).names([0, 1]) is None
