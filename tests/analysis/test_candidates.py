import keras
import numpy as np
import pytest

from keras_tl import errors
from keras_tl.analysis import candidates, ranking
from keras_tl.data import datasets
from keras_tl.data.sources import read_all
from keras_tl.models import audio_backbones, log_mel
from keras_tl.training import store


@pytest.fixture
def texts(reviews):
    return datasets.load(reviews, kind="text")


@pytest.fixture
def clips():
    """Noise of two colours, at the rate and length of the speech embedding."""
    from keras_tl.data.clips import Clips
    from keras_tl.data.splits import Split, Splits

    def split(count, seed):
        rng = np.random.default_rng(seed)
        labels = np.arange(count) % 2
        waves = rng.normal(0, 0.1, (count, audio_backbones.SAMPLES)).astype("float32")
        waves[labels == 1] = (
            waves[labels == 1] + np.roll(waves[labels == 1], 1, 1)
        ) / 2
        rate, samples = log_mel.RATE, audio_backbones.SAMPLES
        return Split(Clips(tuple(waves), rate, samples), labels)

    return Splits(split(24, 0), split(12, 1), split(4, 2), ["white", "dull"], "Noise.")


def test_texts_are_ranked_by_encoders_and_a_bag_of_words(texts, tiny_bert, cache):
    both = [candidates.Encoder(tiny_bert), *candidates.BASELINES["text"]]
    ranked = ranking.rank(both, texts, cache=store.Cache(cache))
    rows = {row["name"]: row for row in ranked.rows()}
    assert set(rows) == {tiny_bert.name, "bag of words"}
    assert rows["bag of words"]["is_baseline"]
    # One word tells them apart.
    assert rows["bag of words"]["expected_accuracy"] == 1
    assert rows["bag of words"]["imagenet_accuracy"] is None


def test_a_bag_of_words_is_that_of_scikit_learn(texts):
    from sklearn.feature_extraction.text import TfidfVectorizer

    from keras_tl.data import text

    words = candidates.Words()
    prepared = words.prepare(texts)
    model = words.load(prepared)
    made = model.predict(read_all(prepared.validation.inputs), verbose=0)
    given = [
        part.inputs.preview(range(len(part)))
        for part in (texts.train, texts.validation)
    ]
    vectorizer = TfidfVectorizer(
        token_pattern=text.WORD,
        binary=True,
        norm=None,
        vocabulary=text.vocabulary(given[0]),
    ).fit(given[0])
    wanted = vectorizer.transform(given[1]).toarray()
    np.testing.assert_allclose(made, wanted, atol=1e-6)


def test_texts_become_as_many_tokens_as_nearly_all_have(texts, tiny_bert):
    prepared = candidates.Encoder(tiny_bert).prepare(texts)
    tokens = read_all(prepared.train.inputs)
    assert (tokens[:, -1] == 0).mean() >= 0.95 or tokens.shape[1] <= 16
    assert prepared.test is texts.test


def test_sound_is_ranked_by_an_embedding_and_statistics(clips, monkeypatch):
    monkeypatch.setattr(audio_backbones, "check", lambda folder: folder)
    embedding = audio_backbones.speech_embedding
    monkeypatch.setattr(
        audio_backbones, "speech_embedding", lambda folder: embedding(None)
    )
    keras.utils.set_random_seed(0)
    both = [candidates.Speech("weights"), *candidates.BASELINES["audio"]]
    ranked = ranking.rank(both, clips)
    rows = {row["name"]: row for row in ranked.rows()}
    assert set(rows) == {"speech_embedding", "log-mel statistics"}
    assert rows["log-mel statistics"]["expected_accuracy"] == 1


def test_the_statistics_are_mean_and_deviation_over_time(clips):
    model = candidates.LogMel().load(clips)
    waves = clips.train.inputs.read(range(3))
    bands = log_mel.google().predict(waves, verbose=0)[..., 0]
    wanted = np.concatenate([bands.mean(axis=1), bands.std(axis=1)], axis=1)
    np.testing.assert_allclose(model.predict(waves, verbose=0), wanted, atol=1e-4)


def test_candidates_of_another_kind_are_refused(texts, tiny_bert, tmp_path):
    with pytest.raises(errors.InputError, match="take the kind 'text'"):
        ranking.rank(candidates.BASELINES["audio"], texts)
    with pytest.raises(errors.InputError, match="be a folder that exists"):
        candidates.Encoder(tmp_path / "absent")
    with pytest.raises(errors.InputError, match=r"model\.safetensors"):
        candidates.Encoder(tmp_path)
