"""Look at examples: of each class, augmented, and those that a model gets wrong."""

import textwrap
from collections.abc import Mapping, Sequence

import numpy as np
from matplotlib import colormaps
from matplotlib.figure import Figure
from sklearn import manifold
from threadpoolctl import threadpool_limits

from keras_tl import errors
from keras_tl.analysis import figures
from keras_tl.analysis.evaluation import Evaluation
from keras_tl.data import pipeline
from keras_tl.data.splits import Split

SIDE = 128  # Largest side of a picture, in pixels.


def samples(split: Split, class_names: tuple[str, ...], *, count: int = 16) -> Figure:
    """Draw examples of a split, as many of each class as possible, with their labels.

    Args:
        split: Images or texts.
        class_names: One per class.
        count: Most examples to show.
    """
    order = np.argsort(split.labels, kind="stable")
    places = np.linspace(0, len(order) - 1, min(count, len(order))).astype(int)
    chosen = order[places]
    titles = [class_names[label] for label in split.labels[chosen]]
    columns = 4 if split.inputs.kind == "text" else 8
    return figures.grid(_preview(split, chosen), titles, columns=columns)


def augmented(
    split: Split,
    augment: pipeline.Augmentation,
    *,
    seed: int = 0,
    count: int = 3,
    epochs: int = 5,
) -> Figure:
    """Draw images as they are, and what the first epochs of training make of them.

    Args:
        split: Training images, at the size at which they are augmented.
        augment: See `pipeline.Training`.
        seed: Seed of the run.
        count: Number of images, of the first.
        epochs: Number of epochs.
    """
    few = split.take(range(min(count, len(split))))
    copies = pipeline.with_copies(few, augment, seed, epochs)
    # Copies stand one epoch after the other.
    changed = copies.read(range(len(copies))).clip(0, 255).astype("uint8")
    images, titles = [], []
    for row, image in enumerate(few.read(range(len(few)))):
        images += [image.clip(0, 255).astype("uint8"), *changed[row :: len(few)]]
        titles += ["as it is", *(f"epoch {epoch + 1}" for epoch in range(epochs))]
    return figures.grid(images, titles, columns=epochs + 1)


def predictions(result: Evaluation, split: Split, *, count: int = 12) -> Figure | None:
    """Draw examples from all over a split, with what a model answers.

    Args:
        result: Evaluation of the model on the split.
        split: The examples.
        count: Most examples to show.

    Returns:
        The figure; `None` where the examples cannot be shown to people.
    """
    # Folders come sorted by class.
    places = np.linspace(0, len(split) - 1, min(count, len(split)))
    return _answers(result, split, np.unique(places.astype(int)))


def mistakes(result: Evaluation, split: Split, *, count: int = 12) -> Figure | None:
    """Draw the most confident wrong predictions, the worst first.

    Args:
        result: Evaluation of the model on the split.
        split: The examples.
        count: Most examples to show.

    Returns:
        The figure; `None` where nothing is wrong, or cannot be shown to people.
    """
    chosen = [index for index, *_ in result.mistakes(count)]
    return _answers(result, split, chosen) if chosen else None


def explanations(
    images: np.ndarray,
    titles: Sequence[str],
    maps: Mapping[str, np.ndarray],
    neighbours: Sequence[tuple[np.ndarray, str]] = (),
) -> Figure:
    """Draw images, each with its heat maps over it and the training image like it.

    Args:
        images: uint8 RGB `(count, height, width, 3)`.
        titles: What the model answers, for each.
        maps: Name -> heat maps in [0, 1], `(count, height, width)`.
        neighbours: Picture and class of the nearest training image, of each.
    """
    pictures, texts = [], []
    for index, (image, title) in enumerate(zip(images, titles, strict=True)):
        pictures += [image, *(overlay(image, one[index]) for one in maps.values())]
        texts += [title, *(textwrap.fill(name, 16) for name in maps)]
        if neighbours:
            pictures.append(neighbours[index][0])
            texts.append(f"nearest:\n{neighbours[index][1]}")
    columns = 1 + len(maps) + bool(neighbours)
    # Two images side by side, where that fits.
    return figures.grid(pictures, texts, columns=columns * (2 if columns < 5 else 1))


def overlay(image: np.ndarray, heat_map: np.ndarray) -> np.ndarray:
    """Return an image with a heat map over it, uint8 RGB.

    Args:
        image: uint8 RGB `(height, width, 3)`.
        heat_map: In [0, 1], `(height, width)`: 0 is dark and grey, 1 bright.
    """
    grey = image.mean(axis=-1, keepdims=True)
    colours = 255 * colormaps["inferno"](heat_map)[..., :3]
    return (0.45 * grey + 0.55 * colours).clip(0, 255).astype("uint8")


def embedding_map(
    embeddings: np.ndarray,
    labels: np.ndarray,
    class_names: Sequence[str],
    pictures: Sequence[np.ndarray],
    *,
    seed: int = 0,
) -> Figure:
    """Draw examples where a model sees them: what it takes for alike is close.

    Args:
        embeddings: `(count, features)`, placed in the plane by t-SNE, van der Maaten
            and Hinton, 2008, https://jmlr.org/papers/v9/vandermaaten08a.html.
        labels: Class of each.
        class_names: One per class.
        pictures: Image of each, uint8 RGB.
        seed: Seed of the placing.
    """
    return figures.thumbnails(places(embeddings, seed), pictures, labels, class_names)


def places(embeddings: np.ndarray, seed: int = 0) -> np.ndarray:
    """Place examples in the plane by t-SNE, see `embedding_map`.

    Args:
        embeddings: `(count, features)`, of at least 5 examples.
        seed: Seed of the placing.

    Returns:
        `(count, 2)`: what is alike is close; directions and scale mean nothing.
    """
    errors.check_at_least("len(embeddings)", len(embeddings), 5)
    perplexity = min(30.0, (len(embeddings) - 1) / 3)
    placing = manifold.TSNE(perplexity=perplexity, random_state=seed, init="pca")
    # Each thread has next to nothing to do, and waiting for the others takes seconds
    # where something else runs on the machine.
    with threadpool_limits(1):
        return placing.fit_transform(embeddings)


def apart(places: np.ndarray, side: float, rounds: int = 200) -> np.ndarray:
    """Push places apart that are closer than a distance, little by little.

    Args:
        places: `(count, 2)`.
        side: Least distance, where there is room.
        rounds: Most times that all places are looked at.

    Returns:
        `(count, 2)`, in the rectangle that the places fill.

    >>> apart(np.array([[0.0, 0.0], [4.0, 0.0], [5.0, 0.0], [9.0, 0.0]]), 2).tolist()
    [[0.0, 0.0], [3.5, 0.0], [5.5, 0.0], [9.0, 0.0]]
    """
    low, high = places.min(axis=0), places.max(axis=0)
    places = places.astype("float64")
    random = np.random.default_rng(0)
    for _ in range(rounds):
        ways = places[:, None] - places
        # Of two at the same place, or pushed into the same corner, each has a way.
        same = (ways == 0).all(axis=2)
        ways[same] = random.normal(size=(same.sum(), 2))
        lengths = np.linalg.norm(ways, axis=2)
        short = np.maximum(0, side - np.where(same, 0, lengths))
        np.fill_diagonal(short, 0)
        if not short.any():
            break
        steps = ((short / 2 / lengths)[..., None] * ways).sum(axis=1)
        # Many neighbours together would throw one out of the rectangle.
        places = (places + steps.clip(-side / 4, side / 4)).clip(low, high)
    return places


def _answers(result, split, chosen):
    examples = split.inputs.preview(chosen, SIDE)
    if examples is None:
        return None
    return figures.predictions(
        examples, result.answers()[chosen], result.class_names, result.labels[chosen]
    )


def _preview(split, chosen):
    examples = split.inputs.preview(chosen, SIDE)
    if examples is None:
        raise errors.expected("split", "hold images or texts", split.inputs.kind)
    return examples
