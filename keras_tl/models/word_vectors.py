"""Word vectors as a backbone: learned by skip-gram from few sentences, or pretrained.

The first kind of transfer for words: a vector for each word, learned from texts without
labels; a text is the mean of its words. Of a text, a model takes token ids: 0 fills up,
1 is a word without a vector, then come the words, see `data.text.Tokenizer.of_words`.
"""

from collections.abc import Sequence
from pathlib import Path

import keras
import numpy as np
from keras import ops

from keras_tl import errors

# Ids before that of the first word: one that fills up, and one for unknown words.
SPECIAL = 2


def build(
    vectors: np.ndarray, *, sequence_length: int = 64, name: str = "word_vectors"
) -> keras.Model:
    """Build a model from token ids to the mean of the vectors of their words.

    Args:
        vectors: float `(words, width)`; row n is the vector of the id n + 2.
        sequence_length: Number of tokens of a text, at least 1.
        name: Name of the model.

    Returns:
        A flat `keras.Model` from int32 token ids `(batch, sequence_length)` to features
        `(batch, width)`. Words without a vector are left out of the mean; a text of
        such words alone is 0. Its layers are `vectors` and `pool`. Nothing is frozen
        yet.

    Raises:
        InputError: Vectors of another shape.

    >>> model = build(np.array([[1.0, 0.0], [0.0, 3.0]]), sequence_length=4)
    >>> model(np.array([[2, 3, 1, 0], [1, 1, 0, 0]])).numpy().tolist()
    [[0.5, 1.5], [0.0, 0.0]]
    """
    vectors = np.asarray(vectors, "float32")
    if vectors.ndim != 2 or not vectors.size:
        raise errors.expected("vectors", "have shape (words, width)", vectors.shape)
    errors.check_at_least("sequence_length", sequence_length, 1)
    tokens = keras.Input((sequence_length,), dtype="int32", name="token_ids")
    known = ops.greater_equal(tokens, SPECIAL)
    # Without this a mean of nothing would be NaN; the vectors of the others are 0.
    unknown = ops.logical_not(ops.any(known, axis=1, keepdims=True))
    mask = ops.logical_or(known, unknown)
    table = keras.layers.Embedding(
        len(vectors) + SPECIAL, vectors.shape[1], name="vectors"
    )
    x = keras.layers.GlobalAveragePooling1D(name="pool")(table(tokens), mask=mask)
    zeros = np.zeros((SPECIAL, vectors.shape[1]), "float32")
    table.set_weights([np.concatenate([zeros, vectors])])
    return keras.Model(tokens, x, name=name)


def load(path: Path | str, most: int = 50_000) -> tuple[list[str], np.ndarray]:
    """Load pretrained vectors of words, such as GloVe's.

    Args:
        path: A text file with a line for each word, the word and its numbers with
            spaces between, as GloVe (https://nlp.stanford.edu/projects/glove/, Public
            Domain Dedication and License) and fastText have it; or a file `.npz` with
            the arrays `words` and `vectors`.
        most: Number of words to keep, the first; such files begin with the most
            frequent ones.

    Returns:
        Words, each once, and their vectors, float32 `(words, width)`.

    Raises:
        InputError: No such file, or one that holds something else.
    """
    path = Path(path)
    errors.check_at_least("most", most, 1)
    if not path.is_file():
        raise errors.expected("glove", "be a file that exists", str(path))
    try:
        read = _from_npz if path.suffix.lower() == ".npz" else _from_lines
        words, vectors = read(path, most)
    except (ValueError, KeyError, OSError) as error:
        raise errors.InputError(f"{path} holds no word vectors: {error}") from error
    place = {}
    for index, word in enumerate(words):
        place.setdefault(str(word), index)
    return list(place), np.asarray(vectors, "float32")[list(place.values())]


def _from_npz(path, most):
    with np.load(path) as arrays:
        words, vectors = arrays["words"][:most], arrays["vectors"][:most]
    if words.ndim != 1 or vectors.ndim != 2 or len(words) != len(vectors):
        raise ValueError(f"words {words.shape} and vectors {vectors.shape}.")
    return words, vectors


def _from_lines(path, most):
    words, rows = [], []
    with open(path, encoding="utf-8") as file:
        for number, line in enumerate(file, start=1):
            parts = line.rstrip().split(" ")
            if number == 1 and len(parts) == 2:
                continue  # fastText's first line: numbers of words and of columns.
            if len(parts) < 2 or (rows and len(parts) - 1 != len(rows[0])):
                raise ValueError(f"line {number} has {len(parts) - 1} numbers.")
            words.append(parts[0])
            rows.append(np.array(parts[1:], "float32"))
            if len(words) == most:
                break
    if not rows:
        raise ValueError("there is no line with a word.")
    return words, np.stack(rows)


def learn(
    sentences: Sequence[Sequence[int]],
    words: int,
    *,
    width: int = 50,
    window: int = 5,
    negatives: int = 5,
    epochs: int = 50,
    learning_rate: float = 0.05,
    batch_size: int = 64,
    seed: int = 0,
) -> np.ndarray:
    """Learn vectors of words from sentences alone: skip-gram with negative sampling.

    A word is to tell the words around it from words that are drawn at random: each pair
    of a word and one at most `window` places away adds
    -log s(v . u) - sum log s(-v . u_n), where s is the sigmoid, v the vector of the
    word, u the second vector of its neighbour, and u_n are those of `negatives` words,
    drawn by their frequency to the power of 3/4.

    Args:
        sentences: Numbers of the words of each sentence, in [0, words).
        words: Number of different words.
        width: Width of the vectors.
        window: Largest distance of two words that are a pair, at least 1.
        negatives: Words drawn for each pair, at least 1.
        epochs: Passes over all pairs.
        learning_rate: Of plain gradient descent on the sum over a batch; it falls to 0.
        batch_size: Pairs per step.
        seed: Seed of the first vectors, of the order and of the drawing.

    Returns:
        float32 `(words, width)`.

    Raises:
        InputError: A value out of range, or sentences without a pair of words.

    Reference:
        Mikolov et al., "Distributed representations of words and phrases and their
        compositionality", 2013, arXiv:1310.4546.
    """
    for name, value in (("window", window), ("negatives", negatives)):
        errors.check_at_least(name, value, 1)
    errors.check_at_least("epochs", epochs, 0)
    pairs = pairs_of(sentences, window)
    if not len(pairs):
        raise errors.expected(
            "sentences", "have at least one of two words", len(sentences)
        )
    counts = np.bincount(np.concatenate([*map(np.asarray, sentences)]), minlength=words)
    share = counts**0.75 / (counts**0.75).sum()
    rng = np.random.default_rng(seed)
    vectors = rng.uniform(-0.5 / width, 0.5 / width, (words, width))
    seconds = np.zeros_like(vectors)
    for epoch in range(epochs):
        # A function of seed and epoch, as all that is random here.
        rng = np.random.default_rng((seed, epoch))
        order = rng.permutation(len(pairs))
        drawn = rng.choice(words, (len(pairs), negatives), p=share)
        rate = learning_rate * (1 - epoch / epochs)
        for start in range(0, len(pairs), batch_size):
            chosen = order[start : start + batch_size]
            first, others = pairs[chosen, 0], pairs[chosen, 1:]
            others = np.concatenate([others, drawn[chosen]], axis=1)
            _, of_first, of_others = loss(vectors[first], seconds[others])
            np.add.at(vectors, first, -rate * of_first)
            np.add.at(seconds, others, -rate * of_others)
    return vectors.astype("float32")


def pairs_of(sentences: Sequence[Sequence[int]], window: int) -> np.ndarray:
    """List the pairs of a word and one near it, in both directions.

    Returns:
        int64 `(pairs, 2)`.

    >>> pairs_of([[5, 6, 7]], window=1).tolist()
    [[5, 6], [6, 5], [6, 7], [7, 6]]
    """
    steps = np.concatenate([np.arange(-window, 0), np.arange(1, window + 1)])
    pairs = [np.empty((0, 2), "int64")]
    for sentence in map(np.asarray, sentences):
        others = np.arange(len(sentence))[:, None] + steps
        places, columns = np.nonzero((others >= 0) & (others < len(sentence)))
        if len(places):
            near = sentence[others[places, columns]]
            pairs.append(np.stack([sentence[places], near], axis=1))
    return np.concatenate(pairs).astype("int64")


def loss(first: np.ndarray, others: np.ndarray) -> tuple[float, np.ndarray, np.ndarray]:
    """Compute the loss of skip-gram with negative sampling, and its gradients.

    Args:
        first: Vectors of words, `(pairs, width)`.
        others: Second vectors of the true neighbour of each, and behind it of the words
            that were drawn, `(pairs, 1 + negatives, width)`.

    Returns:
        The sum over the pairs, see `learn`, and its gradients with respect to `first`
        and `others`.
    """
    scores = np.einsum("pw,pnw->pn", first, others)
    truth = np.zeros_like(scores)
    truth[:, 0] = 1
    errors_of = 1 / (1 + np.exp(-scores)) - truth
    value = np.sum(np.logaddexp(0, scores) - truth * scores)
    return (
        float(value),
        np.einsum("pn,pnw->pw", errors_of, others),
        errors_of[..., None] * first[:, None],
    )
