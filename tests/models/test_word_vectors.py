import keras
import numpy as np
import pytest

from keras_tl import errors
from keras_tl.data import text
from keras_tl.models import heads, splitting, word_vectors


def test_the_loss_of_a_pair_is_that_of_the_paper():
    first = np.array([[1.0, 2.0]])
    others = np.array([[[0.5, 0.0], [0.0, -1.0], [1.0, 1.0]]])
    sigmoid = [1 / (1 + np.exp(-score)) for score in (0.5, -2.0, 3.0)]
    value, of_first, of_others = word_vectors.loss(first, others)
    wanted = -np.log(sigmoid[0]) - np.log(1 - sigmoid[1]) - np.log(1 - sigmoid[2])
    assert value == pytest.approx(wanted)
    slopes = [sigmoid[0] - 1, sigmoid[1], sigmoid[2]]
    np.testing.assert_allclose(
        of_first[0], [slopes[0] * 0.5 + slopes[2], -slopes[1] + slopes[2]]
    )
    np.testing.assert_allclose(of_others[0], [[s * 1, s * 2] for s in slopes])


def test_learning_is_gradient_descent_pair_by_pair():
    sentences, words, width, seed = [[0, 1, 2], [2, 0]], 3, 2, 5
    options = {"epochs": 2, "negatives": 2, "learning_rate": 0.5, "batch_size": 1}
    learned = word_vectors.learn(sentences, words, width=width, seed=seed, **options)
    # The same in single steps, each on the numbers of one pair.
    v = np.random.default_rng(seed).uniform(-0.25, 0.25, (words, width))
    u = np.zeros((words, width))
    pairs = word_vectors.pairs_of(sentences, window=5)
    share = np.array([2, 1, 2]) ** 0.75
    for epoch, rate in enumerate((0.5, 0.25)):
        rng = np.random.default_rng((seed, epoch))
        order = rng.permutation(len(pairs))
        drawn = rng.choice(words, (len(pairs), 2), p=share / share.sum())
        for index in order:
            word, neighbour = pairs[index]
            others = [(neighbour, 1), *((one, 0) for one in drawn[index])]
            slopes = [1 / (1 + np.exp(-v[word] @ u[n])) - true for n, true in others]
            of_word = sum(s * u[n] for s, (n, _) in zip(slopes, others, strict=True))
            before = v[word].copy()
            for slope, (n, _) in zip(slopes, others, strict=True):
                u[n] -= rate * slope * before
            v[word] -= rate * of_word
    np.testing.assert_allclose(learned, v, rtol=1e-5)


def test_words_of_the_same_company_get_similar_vectors():
    rng = np.random.default_rng(0)
    # Words 0 and 1 stand among 4 to 7, words 2 and 3 among 8 to 11.
    sentences = [
        [word, *rng.permutation(np.arange(4) + 4 + 4 * (word // 2))]
        for word in rng.integers(0, 4, 200)
    ]
    vectors = word_vectors.learn(sentences, 12, width=8, epochs=20)
    rows = vectors / np.linalg.norm(vectors, axis=1, keepdims=True)
    alike = rows @ rows.T
    assert min(alike[0, 1], alike[2, 3]) > 0.5 + max(alike[0, 2], alike[1, 3])
    again = word_vectors.learn(sentences, 12, width=8, epochs=20)
    np.testing.assert_array_equal(vectors, again)


def test_a_text_is_the_mean_of_the_words_that_have_a_vector():
    vectors = np.array([[1.0, 2.0], [3.0, -4.0]])
    model = word_vectors.build(vectors, sequence_length=5)
    tokenizer = text.Tokenizer.of_words(["good", "film"], 5)
    tokens = tokenizer.encode(["a Good film!", "film film good", "nothing known"])
    wanted = [[2, -1], [7 / 3, -2], [0, 0]]
    np.testing.assert_allclose(model.predict(tokens, verbose=0), wanted, rtol=1e-6)
    classifier = heads.attach_mlp(model, 2, hidden=(4,))
    model.trainable = False
    assert splitting.frozen_cut(classifier)[0] in ("pool", "flatten")


def test_its_saved_model_predicts_the_same(tmp_path):
    model = word_vectors.build(np.eye(3), sequence_length=4)
    model.save(tmp_path / "model.keras")
    tokens = np.array([[2, 4, 1, 0], [1, 1, 1, 1]], "int32")
    again = keras.models.load_model(tmp_path / "model.keras")
    np.testing.assert_array_equal(again(tokens), model(tokens))


def test_pretrained_vectors_are_read_from_lines_and_from_arrays(tmp_path):
    (tmp_path / "glove.txt").write_text("the 1 2\n. 3 4\nthe 5 6\nfilm 7 8\n")
    words, vectors = word_vectors.load(tmp_path / "glove.txt")
    assert words == ["the", ".", "film"]
    np.testing.assert_array_equal(vectors, [[1, 2], [3, 4], [7, 8]])
    # fastText's files begin with their size.
    (tmp_path / "fast.vec").write_text("2 2\nthe 1 2\n. 3 4\n")
    assert word_vectors.load(tmp_path / "fast.vec", most=1)[0] == ["the"]
    np.savez(tmp_path / "a.npz", words=np.array(["a", "b"]), vectors=np.eye(2))
    words, vectors = word_vectors.load(tmp_path / "a.npz", most=1)
    assert words == ["a"]
    assert vectors.tolist() == [[1, 0]]


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("a.txt", "the 1 2\n. 3\n", "line 2 has 1 numbers"),
        ("a.txt", "the one two\n", "could not convert"),
        ("a.txt", "", "no line with a word"),
        ("a.npz", "no archive", "holds no word vectors"),
    ],
)
def test_a_file_that_holds_no_vectors_is_named(tmp_path, name, content, message):
    (tmp_path / name).write_text(content)
    with pytest.raises(errors.InputError, match=message):
        word_vectors.load(tmp_path / name)
    with pytest.raises(errors.InputError, match="a file that exists"):
        word_vectors.load(tmp_path / "absent")


def test_what_cannot_be_learned_from_is_one_sentence():
    with pytest.raises(errors.InputError, match="one of two words"):
        word_vectors.learn([[0], []], 2)
    with pytest.raises(errors.InputError, match="window=0"):
        word_vectors.learn([[0, 1]], 2, window=0)
    with pytest.raises(errors.InputError, match="have shape"):
        word_vectors.build(np.zeros(3))
