import numpy as np
import pytest

from keras_tl import errors
from keras_tl.data import pipeline, random_layers
from keras_tl.data.splits import Split

CLASSES, COUNT, SIDE = 5, 40, 16
LABELS = np.arange(COUNT) % CLASSES
# Every image of a class has one colour: what is mixed can be read off the pixels.
COLOURS = np.float32([0, 60, 120, 180, 240])
PLAIN = Split(
    np.broadcast_to(
        COLOURS[LABELS].astype("uint8")[:, None, None, None], (COUNT, SIDE, SIDE, 3)
    ).copy(),
    LABELS,
)
PHOTOS = Split(
    np.random.default_rng(0).integers(0, 256, (COUNT, SIDE, SIDE, 3)).astype("uint8"),
    LABELS,
)


def epoch(split, number=0, seed=3, **options):
    training = pipeline.Training(split, 8, seed, num_classes=CLASSES, **options)
    return [[part.numpy() for part in batch] for batch in training.epoch(number)]


def same(these, those):
    return all(
        np.array_equal(this, that)
        for mine, yours in zip(these, those, strict=True)
        for this, that in zip(mine, yours, strict=True)
    )


WAYS = {
    "rand_augment": {"augment": random_layers.rand_augment()},
    "mix_up": {"mix": random_layers.mix_up(alpha=1.0)},
    "cut_mix": {"mix": random_layers.cut_mix()},
}


@pytest.mark.parametrize("way", WAYS)
def test_seed_and_epoch_alone_say_what_an_epoch_looks_like(way):
    first = epoch(PHOTOS, **WAYS[way])
    assert same(first, epoch(PHOTOS, **WAYS[way]))
    assert not same(first, epoch(PHOTOS, number=1, **WAYS[way]))
    assert not same(first, epoch(PHOTOS, seed=4, **WAYS[way]))
    assert not same(first, epoch(PHOTOS))


@pytest.mark.parametrize("way", WAYS)
def test_batches_of_an_epoch_are_changed_in_different_ways(way):
    still = Split(np.repeat(PHOTOS.inputs.pixels[:1], 16, 0), LABELS[:16])
    one, other = epoch(still, **WAYS[way])
    assert not same([one], [other])


@pytest.mark.parametrize("way", WAYS)
def test_images_keep_shape_and_range_and_labels_sum_to_1(way):
    for x, y, _ in epoch(PHOTOS, **WAYS[way]):
        assert x.dtype == "float32"
        assert x.shape == (8, SIDE, SIDE, 3)
        assert x.min() >= 0
        assert x.max() <= 255
        np.testing.assert_allclose(y.sum(1), 1, rtol=1e-6)


def test_mix_up_mixes_labels_as_it_mixes_pixels():
    for x, y, _ in epoch(PLAIN, mix=random_layers.mix_up(alpha=1.0)):
        wanted = (y * COLOURS).sum(1)
        pixels = np.broadcast_to(wanted[:, None, None, None], x.shape)
        np.testing.assert_allclose(x, pixels, atol=1e-3)


def test_cut_mix_mixes_labels_by_the_area_it_pastes():
    for x, y, _ in epoch(PLAIN, mix=random_layers.cut_mix()):
        assert set(np.unique(x)) <= set(COLOURS)
        # The rectangle has fractions of pixels, of which a side loses or gains one.
        share = np.stack([(x[..., 0] == c).mean((1, 2)) for c in COLOURS], 1)
        np.testing.assert_allclose(share, y, atol=2 / SIDE + 1 / SIDE**2)


@pytest.mark.parametrize(
    ("build", "said"),
    [
        (lambda: random_layers.rand_augment(num_ops=0), "num_ops"),
        (lambda: random_layers.rand_augment(factor=1.5), "factor"),
        (lambda: random_layers.mix_up(alpha=0), "alpha"),
        (lambda: random_layers.cut_mix(factor=0), "factor"),
        (lambda: pipeline.Training(PLAIN, 8, 0, mix=WAYS["mix_up"]["mix"]), "classes"),
    ],
)
def test_what_cannot_work_is_said(build, said):
    with pytest.raises(errors.InputError, match=said):
        build()
