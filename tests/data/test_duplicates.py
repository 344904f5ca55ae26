import io

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image
from sklearn.datasets import load_sample_images

from keras_tl.data import duplicates, folders, images

CHINA, FLOWER = load_sample_images().images


def saved(pixels, **options):
    file = io.BytesIO()
    pixels.save(file, **options)
    return file.getvalue()


def near(*contents):
    checked = [images.check(content) for content in contents]
    looks = np.array([one.look for one in checked], "uint64")
    return duplicates.near(looks, np.stack([one.thumbnail for one in checked])).tolist()


@pytest.mark.parametrize("pixels", [CHINA, FLOWER], ids=["china", "flower"])
@pytest.mark.parametrize(
    "change",
    [
        lambda image: saved(image, format="JPEG", quality=40),
        lambda image: saved(image, format="PNG"),
        lambda image: saved(image.resize((320, 213)), format="JPEG", quality=80),
        lambda image: saved(image.resize((160, 107)), format="WEBP"),
    ],
    ids=["low quality", "lossless", "half", "quarter"],
)
def test_a_copy_that_was_resized_or_compressed_again_is_near(pixels, change):
    image = Image.fromarray(pixels)
    assert near(saved(image, format="JPEG", quality=95), change(image)) == [[0, 1]]


def test_other_images_are_not_near():
    image = Image.fromarray(CHINA)
    others = [
        Image.fromarray(FLOWER),
        image.transpose(Image.Transpose.FLIP_LEFT_RIGHT),
        image.crop((100, 50, 500, 350)),
        image.transpose(Image.Transpose.ROTATE_180),
    ]
    contents = [saved(one, format="PNG") for one in (image, *others)]
    assert near(*contents) == []


def test_flat_images_of_other_colours_are_not_near():
    contents = [
        saved(Image.new("RGB", (40, 40), colour), format="PNG")
        for colour in ("white", "black", "red")
    ]
    assert near(*contents) == []


@given(st.lists(st.integers(0, 2**64 - 1), max_size=40), st.data())
def test_no_pair_within_three_bits_is_missed(values, data):
    flipped = []
    for value in values[:10]:
        bits = data.draw(st.sets(st.integers(0, 63), max_size=3))
        flipped.append(value ^ sum(1 << bit for bit in bits))
    looks = np.array([*values, *flipped], "uint64")
    wanted = [
        [i, j]
        for i in range(len(looks))
        for j in range(i + 1, len(looks))
        if int(looks[i] ^ looks[j]).bit_count() <= 3
    ]
    same = np.zeros((len(looks), 16, 16, 3), "uint8")
    assert duplicates.near(looks, same).tolist() == wanted


@given(
    st.lists(st.one_of(st.none(), st.sampled_from("abcd")), min_size=1, max_size=20),
    st.lists(st.tuples(st.integers(0, 19), st.integers(0, 19)), max_size=10),
)
def test_blocks_are_what_a_walk_over_the_links_reaches(keys, pairs):
    pairs = [pair for pair in pairs if max(pair) < len(keys)]
    numbers = duplicates.blocks(keys, pairs=pairs)

    def linked(i, j):
        return (keys[i] is not None and keys[i] == keys[j]) or (
            (i, j) in pairs or (j, i) in pairs
        )

    for start in range(len(keys)):
        reached, rest = {start}, [start]
        while rest:
            one = rest.pop()
            new = {j for j in range(len(keys)) if linked(one, j)} - reached
            reached |= new
            rest += new
        assert set(np.flatnonzero(numbers == numbers[start])) == reached


def test_near_copies_come_into_one_split(tmp_path):
    rng = np.random.default_rng(0)
    for number in range(20):
        place = tmp_path / ("a", "b")[number % 2]
        place.mkdir(exist_ok=True)
        small = rng.integers(0, 256, (6, 6, 3), dtype="uint8")
        image = Image.fromarray(small).resize((240, 240), Image.Resampling.BICUBIC)
        for copy in range(3):
            size = (240, 160, 120)[copy]
            image.resize((size, size)).save(place / f"{number}-{copy}.jpg", quality=90)
    for seed in range(3):
        data = folders.from_folder(tmp_path, seed=seed)
        stems = [
            {p.stem.split("-")[0] for p in s.inputs.paths} for _, s in data.items()
        ]
        assert sum(map(len, stems)) == len(set.union(*stems)) == 20
