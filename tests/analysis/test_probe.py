import numpy as np
import pytest

from keras_tl import errors
from keras_tl.analysis import probe
from keras_tl.data import text
from keras_tl.data.sources import read_all
from keras_tl.data.splits import Split


def clouds(count, classes, seed):
    """Features of classes that lie apart, on scales of their own."""
    rng = np.random.default_rng(seed)
    labels = np.arange(count) % classes
    features = rng.normal(size=(count, 6))
    features[np.arange(count), labels] += 4
    return Split((features * [1, 10, 100, 1, 1, 1] + 5).astype("float32"), labels)


@pytest.mark.parametrize("classes", [2, 4])
@pytest.mark.parametrize("kind", probe.KINDS)
def test_each_kind_learns_what_can_be_learned(kind, classes):
    fitted = probe.fit(kind, clouds(80, classes, 0), clouds(40, classes, 1))
    test = clouds(100, classes, 2)
    logits = fitted.logits(test.inputs.values)
    assert logits.shape == (100, classes)
    assert logits.dtype == "float32"
    assert (logits.argmax(1) == test.labels).mean() > 0.9
    predicted = fitted.pipeline.predict(test.inputs.values)
    np.testing.assert_array_equal(logits.argmax(1), predicted)
    assert fitted.setting in probe.KINDS[kind][1]


@pytest.mark.parametrize("classes", [2, 4])
def test_logistic_regression_is_one_dense_layer(classes):
    fitted = probe.fit(
        "logistic regression", clouds(80, classes, 0), clouds(40, classes, 1)
    )
    features = clouds(30, classes, 2).inputs.values
    kernel, bias = fitted.dense()
    np.testing.assert_allclose(
        features @ kernel + bias, fitted.logits(features), atol=1e-4
    )


def test_features_that_hardly_change_get_no_weight_that_overflows():
    """As of MiniLM, whose last normalization scales two outputs by 5e-33."""
    train, validation = clouds(80, 3, 0), clouds(40, 3, 1)
    still = {
        name: np.concatenate(
            [split.inputs.values, split.inputs.values[:, :2] * 1e-33], 1
        )
        for name, split in (("train", train), ("validation", validation))
    }
    fitted = probe.fit(
        "logistic regression",
        Split(still["train"], train.labels),
        Split(still["validation"], validation.labels),
    )
    kernel, bias = fitted.dense()
    assert np.abs(kernel).max() < 100
    np.testing.assert_allclose(
        still["validation"] @ kernel + bias,
        fitted.logits(still["validation"]),
        atol=1e-4,
    )


def test_validation_chooses_the_setting():
    train, validation = clouds(60, 3, 0), clouds(30, 3, 1)
    fitted = probe.fit("k-NN", train, validation)
    _, values, build = probe.KINDS["k-NN"]
    scaled = fitted.pipeline[0].transform
    scores = [
        build(value)
        .fit(scaled(train.inputs.values), train.labels)
        .score(scaled(validation.inputs.values), validation.labels)
        for value in values
    ]
    assert fitted.validation == max(scores)
    assert fitted.setting == values[int(np.argmax(scores))]


def test_few_examples_have_few_neighbours():
    fitted = probe.fit("k-NN", clouds(6, 3, 0), clouds(6, 3, 1))
    assert fitted.setting <= 5


def test_wrong_kinds_are_named():
    with pytest.raises(errors.InputError, match="logistic regression"):
        probe.fit("logistic", clouds(6, 3, 0), clouds(6, 3, 1))
    with pytest.raises(errors.InputError, match="kind"):
        probe.fit("k-NN", clouds(9, 3, 0), clouds(9, 3, 1)).dense()


def test_a_bag_of_words_learns_from_words_and_from_nothing_else():
    def split(words):
        texts = [f"the {word} film I saw" for word in words]
        return Split(text.Texts(tuple(texts)), [word == "good" for word in words])

    train = split(["good", "bad"] * 4)
    fitted = probe.fit("bag of words", train, split(["bad", "good"]))
    test = split(["good", "bad", "unheard"])
    logits = fitted.logits(read_all(test.inputs))
    assert logits.argmax(1)[:2].tolist() == [1, 0]
    assert fitted.setting in probe.KINDS_OF_TEXTS["bag of words"][1]
    words = fitted.pipeline[0].get_feature_names_out().tolist()
    assert words == ["bad", "film", "good", "i", "saw", "the"]
