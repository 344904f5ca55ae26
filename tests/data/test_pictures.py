"""Promises about pictures of any shape."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from keras_tl import errors
from keras_tl.data import images, pictures


@settings(deadline=None)
@given(st.integers(1, 90), st.integers(1, 90), st.integers(1, 120))
def test_scaling_keeps_the_ratio_of_the_sides(height, width, longest):
    made = pictures.scaled(np.zeros((height, width, 3), "uint8"), longest)
    assert max(made.shape[:2]) == longest
    ratio = longest / max(height, width)
    assert abs(made.shape[0] - max(1, height * ratio)) <= 0.5 + 1e-9
    assert abs(made.shape[1] - max(1, width * ratio)) <= 0.5 + 1e-9


@settings(deadline=None, max_examples=40)
@given(st.integers(2, 60), st.integers(2, 60), st.integers(2, 16))
def test_every_picture_gives_squares_of_every_scale(height, width, side):
    cut = pictures.squares([np.full((height, width, 3), 7, "uint8")], side)
    assert cut.shape[1:] == (side, side, 3)
    assert (cut == 7).all()
    assert len(cut) >= 3


def test_a_file_that_was_written_is_read_as_it_was(tmp_path):
    image = pictures.mosaic(40, seed=0)[:30]
    pictures.write(tmp_path / "a.png", image)
    np.testing.assert_array_equal(images.decode(tmp_path / "a.png", None), image)


def test_files_of_one_name_are_all_read(tmp_path):
    paths = []
    for folder, name in (("a", "x.png"), ("b", "x.jpg"), ("b", "y.png")):
        (tmp_path / folder).mkdir(exist_ok=True)
        paths.append(tmp_path / folder / name)
        pictures.write(paths[-1], pictures.mosaic(32, seed=len(paths)))
    assert list(pictures.read(paths)) == ["x-1", "x-2", "y"]


def test_a_hash_of_pictures_changes_with_any_of_them():
    one, other = (pictures.mosaic(32, seed=seed) for seed in (0, 1))
    hashes = [
        pictures.digest([one, other]),
        pictures.digest([other, one]),
        pictures.digest([one]),
        pictures.digest([one, other], "a"),
    ]
    assert len(set(hashes)) == 4
    assert pictures.digest([one, other]) == hashes[0]


def test_each_seed_has_a_mosaic_of_its_own_which_is_the_same_at_every_size():
    one, other = (pictures.mosaic(64, seed=seed).astype(float) for seed in (0, 1))
    assert np.abs(one - other).mean() > 30
    np.testing.assert_array_equal(pictures.mosaic(64, seed=0), one)
    # But for the lines between pieces.
    large = pictures.mosaic(128, seed=0)[::2, ::2].astype(float)
    assert np.median(np.abs(large - one)) <= 1


def test_the_photographs_are_at_hand():
    read = pictures.samples()
    assert list(read) == ["portrait", "china", "flower"]
    assert all(image.dtype == np.uint8 and image.ndim == 3 for image in read.values())


def test_photographs_that_are_missing_are_named(monkeypatch):
    from matplotlib import cbook

    def missing(*arguments, **options):
        raise FileNotFoundError("no such file")

    monkeypatch.setattr(cbook, "get_sample_data", missing)
    with pytest.raises(errors.InputError, match="photographs of your own"):
        pictures.samples()
