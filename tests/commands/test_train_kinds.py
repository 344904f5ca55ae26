"""Texts and sound are trained on as images are, with decisions of their own."""

import json
import shutil

import numpy as np
import pytest

import keras_tl
from keras_tl import errors
from keras_tl.analysis import planner
from keras_tl.commands import train, train_sound, train_texts
from keras_tl.commands.settings import Train
from keras_tl.data import text
from keras_tl.deploy import artifact
from keras_tl.models import audio_backbones, text_backbones


@pytest.fixture(autouse=True)
def no_encoder(monkeypatch, tmp_path):
    """No encoder is on this machine but those that a test puts there."""
    monkeypatch.setenv("KERAS_TL_MODELS", str(tmp_path / "encoders"))
    monkeypatch.setenv("HF_HUB_CACHE", str(tmp_path / "hub"))


@pytest.fixture
def encoders(tmp_path, tiny_bert):
    """Function that puts encoders of given names on this machine."""

    def put(*names):
        folders = [tmp_path / "encoders" / name for name in names]
        for folder in folders:
            shutil.copytree(tiny_bert, folder)
        return folders

    return put


def opinions(count=120):
    """Texts of two classes, each of which has two words of its own."""
    rng = np.random.default_rng(0)
    words = {"praise": ["good", "fine"], "criticism": ["bad", "dull"]}
    labels = ["praise" if number % 2 else "criticism" for number in range(count)]
    texts = [
        f"{' '.join(rng.choice(['a', 'film', 'plot', 'the', 'very'], 4))} "
        f"{rng.choice(words[label])} {number}"
        for number, label in enumerate(labels)
    ]
    return texts, labels


@pytest.fixture(scope="module")
def melodies(tmp_path_factory):
    """A folder of 60 clips of low and of high melodies, none like another."""
    soundfile = pytest.importorskip("soundfile")
    folder = tmp_path_factory.mktemp("melodies")
    rng = np.random.default_rng(0)
    for name, span in (("low", (100, 900)), ("high", (1500, 3800))):
        (folder / name).mkdir()
        for number in range(30):
            pitches = np.repeat(rng.uniform(*span, 12), 200)
            wave = 0.5 * np.sin(2 * np.pi * np.cumsum(pitches) / 16_000)
            wave *= np.repeat(rng.uniform(0, 1, 12) > 0.4, 200)
            soundfile.write(folder / name / f"{number}.wav", wave, 16_000)
    return folder


def decided(folder):
    decisions = json.loads((folder / "decisions.json").read_text())
    return {one["name"]: one for one in decisions}


def test_without_an_encoder_texts_learn_vectors_of_words_and_say_what_is_better(
    tmp_path, capsys
):
    model = keras_tl.train(opinions(), out=tmp_path / "run", epochs=30, minutes=0.2)
    made = decided(model.folder)
    assert made["backbone"]["value"] == "word_vectors"
    for name in ("all-MiniLM-L6-v2", "tokenizer.json", "--weights"):
        assert name in made["backbone"]["reason"]
    assert "image_size" not in made
    assert "augment" not in made
    shown = capsys.readouterr().out
    assert f"{made['backbone']['value']}: {made['backbone']['reason']}" in shown
    assert "120 texts of 2 classes" in shown
    assert "test split, 18 texts" in shown.lower()
    scores = json.loads((model.folder / "metrics.json").read_text())["models"]
    assert scores[train.TUNED]["accuracy"] > 0.9
    assert [row.argmax() for row in model.predict(["good plot", "dull film"])] == [1, 0]


def test_a_table_of_texts_becomes_a_model_that_its_config_repeats_exactly(
    tmp_path, call, monkeypatch, capsys
):
    monkeypatch.chdir(tmp_path)
    rows = [f"{label},{words}" for words, label in zip(*opinions(), strict=True)]
    (tmp_path / "reviews.csv").write_text("\n".join(["label,review", *rows]))
    flags = ["--minutes", "0.2", "--epochs", "20"]
    assert call("train", "reviews.csv", *flags, "--out", "run") == 0
    assert call("train", "--config", "run/config.json", "--out", "again") == 0
    for name in ("metrics.json", "history.csv"):
        again = (tmp_path / "again" / name).read_text()
        assert again == (tmp_path / "run" / name).read_text()
    assert call("plan", "reviews.csv", "--minutes", "2") == 0
    planned = json.loads((tmp_path / "plan.json").read_text())
    assert (planned["kind"], planned["backbone"]) == ("text", "word_vectors")
    assert planned["epochs"] > 0
    # A second plan is kept beside the first.
    capsys.readouterr()
    assert call("plan", "reviews.csv", "--epochs", "3") == 0
    assert "--config plan-2.json" in capsys.readouterr().out
    assert json.loads((tmp_path / "plan-2.json").read_text())["epochs"] == 3


@pytest.mark.slow
# Nothing is learned from an encoder of random weights.
@pytest.mark.filterwarnings("default:The model is not clearly better")
def test_an_encoder_at_hand_is_taken_and_repeated_by_the_settings_of_its_run(
    tmp_path, encoders
):
    (folder,) = encoders("tiny")
    model = keras_tl.train(opinions(), out=tmp_path / "run", epochs=1, freeze="none")
    made = decided(model.folder)
    assert made["backbone"]["value"] == str(folder)
    assert made["sequence_length"]["value"] <= text_backbones.most_tokens(folder) == 16
    settings = json.loads((model.folder / "config.json").read_text())
    assert settings["weights"] == str(folder)
    assert settings["kind"] == "text"
    assert settings["learning_rate"] == made["learning_rate"]["value"]
    assert model.predict(["the film is good"]).shape == (1, 2)


def test_encoders_at_hand_are_those_of_bert_the_ones_for_sentences_first(
    tmp_path, encoders, monkeypatch
):
    assert text_backbones.at_hand() == []
    first, second, broken, other = encoders("b", "a", "broken", "other")
    (second / "modules.json").write_text("[]")
    (broken / "config.json").write_text("[")
    (other / "config.json").write_text('{"model_type": "whisper"}')
    assert text_backbones.at_hand() == [second, first]
    # A folder of an encoder itself, and one that was downloaded.
    monkeypatch.setenv("KERAS_TL_MODELS", str(first))
    snapshot = tmp_path / "hub" / "models--org--name" / "snapshots" / "12ab"
    shutil.copytree(first, snapshot)
    assert text_backbones.at_hand() == sorted([first, snapshot])


def test_of_several_encoders_a_probe_chooses_where_there_is_time(encoders, capsys):
    one, two = encoders("one", "two")
    data = train.datasets.load(opinions())
    for minutes, possible in ((4, {one}), (5, {one, two})):
        settings = Train("texts", minutes=minutes)
        made = train.Decisions()
        assert train_texts.choose_backbone(settings, data, made).weights in possible
    shown = capsys.readouterr().out
    assert "the others on this machine are ranked from 5 minutes on" in shown
    assert "has the highest expected accuracy" in shown


def test_pieces_of_words_make_the_tokenizer_that_hugging_face_has(tiny_bert):
    given = text.Tokenizer.of_model(tiny_bert, 8)
    pieces = json.loads(given.specification)["model"]["vocab"]
    own = text.Tokenizer.of_word_pieces(sorted(pieces, key=pieces.get), True, 8)
    texts = ["A very GOOD film.", "films and plots", "unknown"]
    np.testing.assert_array_equal(own.encode(texts), given.encode(texts))
    with pytest.raises(errors.InputError, match="begin with"):
        text.Tokenizer.of_word_pieces(["a"], True, 8)


@pytest.mark.slow
@pytest.mark.filterwarnings("default:The model is not clearly better")
def test_a_preset_of_kerashub_has_its_own_tokenizer(tiny_bert, tmp_path):
    import keras_hub

    folder = tmp_path / "preset"
    keras_hub.models.BertBackbone.from_preset(str(tiny_bert)).save_to_preset(folder)
    given = text.Tokenizer.of_model(tiny_bert, 8)
    pieces = json.loads(given.specification)["model"]["vocab"]
    pieces = sorted(pieces, key=pieces.get)
    # KerasHub's asks for a token of masks.
    pieces[-1] = "[MASK]"
    keras_hub.models.BertTokenizer(pieces, lowercase=True).save_to_preset(folder)
    assert text_backbones.vocabulary(folder) == (pieces, True)
    assert text_backbones.most_tokens(folder) == 16
    model = keras_tl.train(
        opinions(), backbone=f"hub:{folder}", out=tmp_path / "run", epochs=0
    )
    assert model.predict(["good"]).shape == (1, 2)


def test_tokens_are_as_many_as_nearly_all_texts_have_and_there_is_time_for():
    lengths = np.concatenate([np.full(96, 250), np.full(4, 900)])
    assert planner.tokens_of(lengths, most=512) == 256
    assert planner.tokens_of(lengths, most=100) == 100
    chosen = [
        planner.sequence_length(1000, lengths, 512, 0.01, seconds)
        for seconds in (1, 100, 10_000)
    ]
    assert [one.value for one in chosen] == [64, 128, 256]
    assert chosen[-1].reason.endswith("4.0% are cut")
    assert "there is no time" in chosen[0].reason


@pytest.mark.slow
def test_sound_without_weights_begins_from_scratch_and_says_what_is_better(
    melodies, tmp_path
):
    model = keras_tl.train(str(melodies), out=tmp_path / "run", epochs=2)
    made = decided(model.folder)
    assert made["backbone"]["value"] == "log_mel_cnn"
    assert "without transfer" in made["backbone"]["reason"]
    assert "openai/whisper-tiny.en" in made["backbone"]["reason"]
    assert made["seconds"]["value"] == pytest.approx(0.15)
    assert made["augment"]["value"] != "none"
    assert "image_size" not in made
    scores = json.loads((model.folder / "metrics.json").read_text())["models"]
    assert {train.PROBE, train.SCRATCH} <= set(scores)
    clip = next((melodies / "low").iterdir())
    assert model.predict(clip).shape == (1, 2)
    settings = json.loads((model.folder / "config.json").read_text())
    assert (settings["kind"], settings["seconds"]) == ("audio", 0.15)


@pytest.mark.slow
def test_the_speech_embedding_is_transferred_where_its_weights_are(
    melodies, tmp_path, monkeypatch
):
    folder = tmp_path / "speech"
    folder.mkdir()
    (folder / audio_backbones.FILE).write_bytes(b"")
    embedding = audio_backbones.speech_embedding
    monkeypatch.setattr(audio_backbones, "check", lambda weights: None)
    monkeypatch.setattr(
        audio_backbones, "speech_embedding", lambda weights: embedding(None)
    )
    settings = {"weights": folder, "limit": 40, "freeze": "block5", "epochs": 1}
    model = keras_tl.train(str(melodies), out=tmp_path / "run", **settings)
    made = decided(model.folder)
    assert made["backbone"]["value"] == "speech_embedding"
    assert made["seconds"]["value"] == 0.782
    assert made["augment"]["value"] == "none"
    assert model.manifest["input"]["shape"] == [audio_backbones.SAMPLES]
    # What was decided is what a repetition takes.
    config = json.loads((model.folder / "config.json").read_text())
    repeated = Train(**{**config, "weights": folder, "out": None})
    train_sound.check(repeated)
    assert train_sound.window(repeated)["seconds"] == 0.782


REFUSED = {
    "size of texts": ({"kind": "text", "image_size": 64}, "left out of texts"),
    "changes of texts": ({"kind": "text", "augment": "zoom"}, "left out of texts"),
    "tokens of sound": ({"kind": "audio", "sequence_length": 9}, "left out of clips"),
    "borders of sound": ({"kind": "audio", "resize": "pad"}, "left out of clips"),
    "seconds of images": ({"kind": "image", "seconds": 1.0}, "left out of images"),
    "noise of images": ({"augment": "spec_augment"}, "`augment` must be one of"),
    "changes of sound": ({"kind": "audio", "augment": "zoom"}, "spec_augment"),
    "backbone": ({"kind": "text", "backbone": "vgg16"}, "word_vectors"),
    "folder": ({"kind": "audio", "weights": "absent"}, "folder that exists"),
    "both": ({"kind": "text", "backbone": "word_vectors", "weights": "."}, "left out"),
    "no tokens": ({"kind": "text", "sequence_length": 2}, "at least 3"),
    "no seconds": ({"kind": "audio", "seconds": 0.0}, "greater than 0"),
}


@pytest.mark.parametrize("case", REFUSED)
def test_settings_that_mean_nothing_for_a_kind_are_refused_in_one_sentence(case):
    settings, message = REFUSED[case]
    with pytest.raises(errors.InputError, match=message):
        Train("data", **settings)


def test_settings_of_another_kind_are_refused_once_the_data_are_known(melodies):
    with pytest.raises(errors.InputError, match="left out of texts"):
        train.train(Train("texts", image_size=64), opinions())
    with pytest.raises(errors.InputError, match="left out of clips"):
        train.train(Train(str(melodies), image_size=64))


def test_weights_of_another_kind_are_refused_before_anything_is_read(
    melodies, tmp_path, monkeypatch
):
    monkeypatch.setattr(train, "load", lambda *_: pytest.fail("read"))
    (tmp_path / "config.json").write_text("{}")
    with pytest.raises(errors.InputError, match=r"embedding_model\.tflite"):
        train.train(Train(str(melodies), weights=tmp_path))
    with pytest.raises(errors.InputError, match=r"model\.safetensors"):
        train.train(Train("texts", kind="text", weights=tmp_path))
    with pytest.raises(errors.InputError, match="nothing is pretrained"):
        train.train(Train(str(melodies), epochs=0))


@pytest.mark.real
def test_minilm_learns_sentiment_from_320_sentences(real_data, real_model, tmp_path):
    rows = {}
    for name in ("train", "dev"):
        path = real_data / "data" / "sst2" / f"{name}.tsv"
        lines = path.read_text(encoding="utf-8").splitlines()[1:]
        rows[name] = [line.split("\t") for line in lines]
    given = (
        ([words for _, words in part], [label for label, _ in part])
        for part in (rows["train"][:356], rows["dev"])
    )
    splits = train.datasets.from_texts(*given)
    weights = real_model("minilm")
    model = keras_tl.train(splits, weights=weights, out=tmp_path / "run", epochs=0)
    _accuracy_above(0.7, model)


@pytest.mark.real
def test_the_embedding_learns_spoken_digits(real_data, real_model, tmp_path):
    model = keras_tl.train(
        str(real_data / "data" / "spoken_digits"),
        labels="^([^_]+)_",
        groups="_([^_]+)_",
        weights=real_model("speech"),
        limit=400,
        epochs=0,
        out=tmp_path / "run",
    )
    _accuracy_above(0.7, model)


def _accuracy_above(least, model):
    assert isinstance(model, artifact.Artifact)
    scores = json.loads((model.folder / "metrics.json").read_text())["models"]
    assert list(scores.values())[-1]["accuracy"] > least
