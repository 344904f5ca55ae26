"""Every recipe, the whole way, at a tiny size."""

import csv
import dataclasses
import importlib
import itertools
import json
import re
import shutil
from pathlib import Path

import h5py
import keras
import numpy as np
import pytest
from PIL import Image

from benchmarks import tiny_recipes
from benchmarks.tiny_recipes import (
    EXPLAIN_SIZES,
    FOLDER_SIZES,
    PAINTING,
    PROBE_SIZES,
    SEARCH_SIZES,
    SENTENCES,
    SIZES,
    SOUND_SIZES,
    STUDIES,
    TEXT_SIZES,
    TRANSFER,
    UNSEEN_SIZES,
    digits,
)
from keras_tl import config, errors
from keras_tl.data import datasets, splits
from keras_tl.data.sources import read_all
from keras_tl.deploy import artifact, compiled, prediction
from keras_tl.models import audio_backbones, backbones
from keras_tl.training import placement

ROOT = Path(__file__).parents[1]
FILES = [
    *("model.keras", "classes.json", "config.json", "metrics.json", "history.csv"),
    *("manifest.json", "curves.png", "comparison.png", "confusion.png"),
    *("predictions.png", "predictions.csv", "slices.csv", "report.html"),
    *("answers.json", "examples.npz", "exemplars.zip"),
]

pytestmark = pytest.mark.filterwarnings("ignore::keras_tl.errors.InputWarning")


@pytest.mark.parametrize(
    "name",
    [
        # The slow ones are run by .ci/run.
        pytest.param(name, marks=() if name == "quickstart" else pytest.mark.slow)
        for name in sorted(SIZES)
    ],
)
def test_recipe_runs_and_leaves_what_it_promises(name, tmp_path, capsys):
    recipe = importlib.import_module(f"recipes.{name}")
    run = tmp_path / "run"
    metrics = recipe.main(recipe.Config(out=run, **SIZES[name]))
    assert sorted(path.name for path in run.iterdir()) == sorted(FILES)
    page = (run / "report.html").read_text()
    for section in ("Slices", "Confidence", "What looks alike to the model"):
        assert f"<h2>{section}</h2>" in page
    assert json.loads((run / "metrics.json").read_text()) == json.loads(
        json.dumps(metrics)
    )
    loaded = artifact.load(run)
    model = keras.models.load_model(run / "model.keras", custom_objects={})
    pixels = np.zeros((2, 32, 32, 3), "uint8")
    np.testing.assert_array_equal(model(pixels), loaded.model(pixels))
    assert loaded.manifest["recipe"] == name
    said = capsys.readouterr().out
    for part in ("train 40", "majority class", "batch 16", "parameters train"):
        assert part in said
    with pytest.raises(errors.InputError, match="does not exist yet"):
        recipe.main(recipe.Config(out=run, **SIZES[name]))


@pytest.mark.slow
def test_the_articles_augmentation_trains_the_whole_model(tmp_path):
    recipe = importlib.import_module("recipes.vgg16_cifar10")
    changes = {"augment": "image_data_generator", "limit": 20}
    sizes = SIZES["vgg16_cifar10"] | changes
    metrics = recipe.main(recipe.Config(out=tmp_path / "run", **sizes))
    assert "frozen" in metrics["models"]
    assert "fine-tuning" in (tmp_path / "run" / "history.csv").read_text()


@pytest.mark.slow
def test_a_finished_run_trains_on_where_it_ended(tmp_path):
    recipe = importlib.import_module("recipes.cnn_cifar10")
    sizes = SIZES["cnn_cifar10"]
    first = recipe.main(recipe.Config(out=tmp_path / "first", **sizes))
    # With a rate at which nothing is learned, what it began with is kept.
    more = sizes | {"start_from": tmp_path / "first", "learning_rate": 1e-12}
    second = recipe.main(recipe.Config(out=tmp_path / "second", **more))
    (ended,), (begun,) = first["models"].values(), second["models"].values()
    assert begun["cross_entropy"] == pytest.approx(ended["cross_entropy"], rel=1e-4)
    # Other splits: what was trained on would be tested on.
    with pytest.raises(errors.InputError, match="trained on other data"):
        recipe.main(recipe.Config(out=tmp_path / "third", **more | {"limit": 30}))
    assert not (tmp_path / "third").exists()
    with pytest.raises(errors.InputError, match="folder of a finished run"):
        recipe.Config(start_from=tmp_path / "absent")
    with pytest.raises(errors.InputError, match="another model"):
        recipe.main(recipe.Config(out=tmp_path / "fourth", **more | {"image_size": 40}))


@pytest.mark.slow
def test_a_backbone_that_has_been_fine_tuned_is_not_called_frozen(tmp_path):
    recipe = importlib.import_module("recipes.quickstart")
    sizes = SIZES["quickstart"] | {"scratch_epochs": 0}
    first = recipe.main(recipe.Config(out=tmp_path / "first", **sizes))
    more = sizes | {"start_from": tmp_path / "first", "epochs": 0}
    second = recipe.main(recipe.Config(out=tmp_path / "second", **more))
    *_, ended = first["models"].values()
    (name, begun), *_ = second["models"].items()
    assert name == "head trained on"
    assert begun["cross_entropy"] == pytest.approx(ended["cross_entropy"], rel=1e-4)
    model = {"image_size": 64, "backbone": "mobilenet", "weights": None}
    with pytest.raises(errors.InputError, match="another model"):
        recipe.main(recipe.Config(out=tmp_path / "third", **more | model))
    assert not (tmp_path / "third").exists()


@pytest.mark.slow
@pytest.mark.parametrize(
    "layers", [("block2b_add",), ("block1a_project_bn", "block2b_add")]
)
def test_the_best_probe_is_saved_as_a_plain_model(layers, tmp_path):
    recipe = importlib.import_module("recipes.feature_extraction")
    run, sizes = tmp_path / "run", PROBE_SIZES["feature_extraction"]
    metrics = recipe.main(recipe.Config(out=run, **sizes | {"layers": layers}))
    assert set(metrics["models"]) == {"k-NN", "SVM", "logistic regression"}
    made = {path.name for path in run.iterdir()}
    assert made == {*FILES, "layers.csv", "layers.png"} - {"curves.png", "history.csv"}
    rows = (run / "layers.csv").read_text().splitlines()
    assert len(rows) == 1 + 3 * (len(layers) + (len(layers) > 1))
    loaded = artifact.load(run)
    data = recipe.build_data(recipe.Config(**sizes))
    said = loaded.predict(read_all(data.test.inputs)).argmax(1)
    right = metrics["models"]["logistic regression"]["accuracy"]
    assert (said == data.test.labels).mean() == pytest.approx(right)


def study_of(name):
    # What it diagnoses by is tested for one fault in `analysis/test_planted_faults.py`.
    long = name == "which_part_fails"
    return pytest.param(
        name, marks=pytest.mark.exhaustive if long else pytest.mark.slow
    )


@pytest.mark.parametrize("name", map(study_of, sorted(STUDIES)))
def test_study_runs_leaves_its_trials_and_goes_on_where_it_was_killed(
    name, tmp_path, capsys
):
    recipe = importlib.import_module(f"recipes.{name}")
    run = tmp_path / "run"
    settings = recipe.Config(out=run, **STUDIES[name])
    manifest = recipe.main(settings)
    trials = sorted((run / "trials").glob("*.json"))
    names = {row.get("trial", n) for n, row in enumerate(manifest["trials"])}
    assert len(trials) == len(names) > 1
    assert {"config.json", "trials.csv", "manifest.json"} <= {
        path.name for path in run.iterdir()
    }
    assert list(run.glob("*.png"))
    for row in manifest["trials"]:
        assert 0 <= row["accuracy"] <= 1
        assert row["seconds"] > 0
    # As if it had been killed in its first trial: the others are not run again.
    (run / "manifest.json").unlink()
    trials[0].unlink()
    capsys.readouterr()
    again = recipe.main(dataclasses.replace(settings, out=None, resume=run))
    assert capsys.readouterr().out.count("Trial ") == 1

    def measured(row):
        changes = ("seconds", "memory_mib", "peak_mib", "seconds_to_load")
        changes += ("milliseconds", "milliseconds_99")
        return {key: value for key, value in row.items() if key not in changes}

    assert list(map(measured, again["trials"])) == list(
        map(measured, manifest["trials"])
    )


@pytest.mark.slow
def test_a_search_keeps_its_trials_and_saves_the_best_as_a_plain_model(
    tmp_path, capsys, monkeypatch
):
    recipe = importlib.import_module("recipes.hyperparameter_search")
    run = tmp_path / "run"
    settings = recipe.Config(out=run, **SEARCH_SIZES["hyperparameter_search"])
    # The first trial, so that one trains on changed copies.
    monkeypatch.setitem(recipe.DEFAULTS, "copies", 4)

    def killed(rows, space):
        raise KeyboardInterrupt

    # When all trials have ended: what is left is done without any of them.
    with monkeypatch.context() as patch:
        patch.setattr(recipe.figures, "trials", killed)
        with pytest.raises(KeyboardInterrupt):
            recipe.main(settings)
    assert len(re.findall("^Trial . of 2: 0", capsys.readouterr().out, re.M)) == 2
    metrics = recipe.main(dataclasses.replace(settings, out=None, resume=run))
    assert "Trial 1 of 2" not in capsys.readouterr().out

    made = {path.name for path in run.iterdir()}
    assert made == {*FILES, "trials", "trials.csv", "trials.png"}
    with open(run / "trials.csv", newline="") as file:
        first, second = csv.DictReader(file)
    assert {name: float(first[name]) for name in recipe.SPACE} == recipe.DEFAULTS
    assert second["dropout"] != first["dropout"]
    assert list(metrics["models"]) == ["defaults", "best of 2 trials"]
    assert list(metrics["comparisons"]) == ["best of 2 trials against defaults"]
    # Trained on features, saved as a whole: it says of the images what was measured.
    loaded = artifact.load(run)
    data = recipe.build_data(settings)
    right = loaded.predict(read_all(data.test.inputs)).argmax(1) == data.test.labels
    measured = metrics["models"]["best of 2 trials"]["accuracy"]
    assert right.mean() == pytest.approx(measured)


def test_every_kind_of_trial_trains_what_its_settings_say():
    recipe = importlib.import_module("recipes.hyperparameter_search")
    settings = recipe.Config(**SEARCH_SIZES["hyperparameter_search"])
    for values in ({"blocks": 0, "hidden": 64}, {"blocks": 1, "hidden": 0}):
        model = recipe.build_model(settings, 10, recipe.DEFAULTS | values)
        trains = {weight.path.split("/")[0] for weight in model.trainable_weights}
        head = {"hidden_1", "logits"} if values["hidden"] else {"logits"}
        assert head <= trains
        pretrained = {name.partition("_")[0] for name in trains - head}
        assert pretrained == ({"block7a", "top"} if values["blocks"] else set())


@pytest.mark.slow
@pytest.mark.parametrize("method", ["L2-SP", "DELTA", "BSS"])
def test_every_penalty_trains(method, tmp_path):
    recipe = importlib.import_module("recipes.few_labels")
    settings = recipe.Config(**STUDIES["few_labels"])
    data = recipe.build_data(settings)
    run = config.Run("few_labels", settings, tmp_path, 0.0, splits.describe(data))
    place = placement.choose(["CPU:0"])
    row = recipe.trial(settings, data, place, run, "a trial", 2, method, 0)
    assert row["method"] == method
    assert 0 <= row["accuracy"] <= 1


def test_cross_validation_explains_every_row_of_its_table(tmp_path, capsys):
    recipe = importlib.import_module("recipes.cross_validation")
    names = ["head", "head, test", "head, leaving out 1 of 20", "fine-tuned"]
    measured = {"fold": 0, "images": 9, "right": 6, "accuracy": 0.67, "seconds": 1}
    recipe.show([measured | {"method": name} for name in names], tmp_path)
    lines = capsys.readouterr().out.splitlines()[-len(names) :]
    meanings = dict(line.split(": ", 1) for line in lines)
    assert list(meanings) == names
    assert len(set(meanings.values())) == len(names)


@pytest.mark.slow
def test_random_weights_are_the_same_when_cross_validation_goes_on(
    tmp_path, monkeypatch
):
    recipe = importlib.import_module("recipes.cross_validation")
    known, fit_heads = [], recipe.fit_heads

    def noted(inputs, *rest):
        known.append(inputs.read(range(5)))
        return fit_heads(inputs, *rest)

    monkeypatch.setattr(recipe, "fit_heads", noted)
    settings = STUDIES["cross_validation"] | {"weights": None, "fine_tune": False}
    for name in ("one", "other"):
        recipe.main(
            recipe.Config(out=tmp_path / name, **settings | {"leave_one_out": 0})
        )
    np.testing.assert_array_equal(known[0], known[-2])


@pytest.mark.exhaustive
def test_every_way_to_fine_tune_trains_as_long_and_as_much(tmp_path, capsys):
    recipe = importlib.import_module("recipes.gradual_unfreezing")
    settings = STUDIES["gradual_unfreezing"] | {"methods": recipe.METHODS}
    manifest = recipe.main(recipe.Config(out=tmp_path / "run", **settings))
    rows = manifest["trials"]
    assert [row["method"] for row in rows] == list(recipe.METHODS)
    assert {row["epochs"] for row in rows} == {4}
    # One cycle trains all blocks.
    assert len({row["trainable"] for row in rows if row["method"] != "one cycle"}) == 1
    assert "Gain over plain fine-tuning" in capsys.readouterr().out


@pytest.mark.slow
def test_sentences_are_classified_by_features_and_by_fine_tuning(
    tiny_bert, reviews, tmp_path, capsys
):
    recipe = importlib.import_module("recipes.minilm_sentiment")
    run, sizes = tmp_path / "run", TEXT_SIZES["minilm_sentiment"]
    folders = {"data": reviews, "weights": tiny_bert}
    metrics = recipe.main(recipe.Config(out=run, **folders, **sizes))
    # Validation may reject the fine-tuning.
    names = ["bag of words", "logistic regression", "frozen", "fine-tuning"]
    assert list(metrics["models"]) in (names, names[:3])
    made = {path.name for path in run.iterdir()}
    # All texts are of one length.
    assert made == {*FILES, "tokenizer.json"} - {"slices.csv"}
    # Mistakes are shown as texts.
    report = (run / "report.html").read_text()
    *_, own = metrics["models"].values()
    wrong = own["accuracy"] < 1
    assert ("<tr><td>" in report and 'class="for"' in report) == wrong
    capsys.readouterr()
    csv_file = tmp_path / "predictions.csv"
    texts = ["the good film", "the bad plot"]
    prediction.predict(run, texts, 2, csv_file)
    with open(csv_file) as file:
        rows = list(csv.DictReader(file))
    assert [row["text"] for row in rows] == [texts[0]] * 2 + [texts[1]] * 2
    answers = artifact.load(run).predict(texts)
    np.testing.assert_allclose(answers.sum(1), 1, atol=1e-6)
    with pytest.raises(errors.InputError, match="a folder that exists"):
        recipe.Config(data=reviews, **sizes)
    with pytest.raises(errors.InputError, match="number of blocks"):
        recipe.main(
            recipe.Config(out=tmp_path / "b", **folders, **sizes | {"blocks": 99})
        )
    assert not (tmp_path / "b").exists()


@pytest.fixture
def word_file(tmp_path):
    """Vectors of the names of the sample's classes, at random."""
    return tiny_recipes.words(tmp_path / "words.txt")


@pytest.mark.slow
def test_unseen_classes_are_named_and_the_study_goes_on_where_it_was_killed(
    word_file, tmp_path, capsys
):
    recipe = importlib.import_module("recipes.zero_shot_cifar10")
    run, sizes = tmp_path / "run", UNSEEN_SIZES["zero_shot_cifar10"]
    settings = recipe.Config(out=run, glove=word_file, **sizes)
    recipe.main(settings)
    printed = capsys.readouterr().out
    assert "two unseen classes" in printed
    made = {path.name for path in run.iterdir()}
    curves = {"curves.png", "history.csv"}
    assert made - {*FILES} == {"trials", "trials.csv", "zero_shot.png"}
    assert {*FILES} - made == curves
    rows = json.loads((run / "manifest.json").read_text())["trials"]
    assert [row["method"] for row in rows] == [*recipe.METHODS] * 2
    for row in rows:
        assert 0 <= row["low"] <= row["accuracy"] <= row["high"] <= 1
    weights = keras.models.load_model(run / "model.keras").get_weights()
    # As if it had been killed in a trial of DeViSE: the others are not run again.
    (run / "manifest.json").unlink()
    next((run / "trials").glob("DeViSE*")).unlink()
    recipe.main(dataclasses.replace(settings, out=None, resume=run))
    assert capsys.readouterr().out.count("Trial ") == 1
    again = json.loads((run / "manifest.json").read_text())["trials"]
    for row, other in zip(rows, again, strict=True):
        assert row | {"seconds": 0} == other | {"seconds": 0}
    new = keras.models.load_model(run / "model.keras").get_weights()
    for one, other in zip(weights, new, strict=True):
        np.testing.assert_array_equal(one, other)


@pytest.mark.slow
def test_a_class_without_an_image_becomes_an_answer(tmp_path, capsys):
    recipe = importlib.import_module("recipes.zero_shot_cifar10")
    names = [*datasets.sample().class_names, "zebra"]
    rows = np.random.default_rng(0).integers(0, 2, (len(names), 6))
    rows[:, :2] = np.arange(len(names))[:, None] // [1, 3] % 3
    described = tmp_path / "attributes.csv"
    lines = [
        ",".join([name, *map(str, row)]) for name, row in zip(names, rows, strict=True)
    ]
    described.write_text("\n".join(["class,a,b,c,d,e,f", *lines]))
    sizes = UNSEEN_SIZES["zero_shot_cifar10"] | {"pairs": 1, "methods": ()}
    run = tmp_path / "run"
    recipe.main(recipe.Config(out=run, classes=described, **sizes))
    assert json.loads((run / "classes.json").read_text()) == names
    model = artifact.load(run)
    assert model.predict(np.zeros((2, 32, 32, 3), "uint8")).shape == (2, 11)
    described.write_text("\n".join(["class,a,b,c,d,e,f", *lines[1:]]))
    with pytest.raises(errors.InputError, match="description of the class 'airplane'"):
        recipe.main(recipe.Config(out=tmp_path / "b", classes=described, **sizes))
    with pytest.raises(errors.InputError, match="name a file of word vectors"):
        recipe.Config(**sizes)
    with pytest.raises(errors.InputError, match="`classes` must be a table"):
        recipe.main(recipe.Config(out=tmp_path / "b", classes=Path("x.csv"), **sizes))
    with pytest.raises(errors.InputError, match="have 6 classes"):
        recipe.build_data(recipe.Config(classes=described, data=two_classes(tmp_path)))
    assert not (tmp_path / "b").exists()


def two_classes(folder):
    for name in ("cat", "dog"):
        (folder / "images" / name).mkdir(parents=True)
        for number in range(10):
            rng = np.random.default_rng((number, ord(name[0])))
            pixels = rng.integers(0, 256, (32, 32, 3))
            path = folder / "images" / name / f"{number}.png"
            Image.fromarray(pixels.astype("uint8")).save(path)
    return folder / "images"


@pytest.fixture
def recordings(tmp_path):
    """A folder of two words as three speakers say them: tones, high and low."""
    pytest.importorskip("soundfile")
    return tiny_recipes.recordings(tmp_path / "recordings")


@pytest.fixture
def tiny_embedding(monkeypatch, tmp_path):
    """A folder that is taken for one of Google's embedding; its weights are random."""
    monkeypatch.setattr(audio_backbones, "check", lambda weights: None)
    monkeypatch.setattr(audio_backbones, "_constants", lambda path: None)
    folder = tmp_path / "weights"
    folder.mkdir()
    return folder


@pytest.mark.slow
def test_words_are_learned_from_some_speakers_and_tested_on_others(
    recordings, tiny_embedding, tmp_path, capsys
):
    recipe = importlib.import_module("recipes.spoken_digits")
    run, sizes = tmp_path / "run", SOUND_SIZES["spoken_digits"]
    folders = {"data": recordings, "weights": tiny_embedding}
    recipe.main(recipe.Config(out=run, **folders, **sizes))
    made = {path.name for path in run.iterdir()}
    files = {*FILES}
    assert made - files == {"trials", "trials.csv", "spoken_digits.png"}
    manifest = json.loads((run / "manifest.json").read_text())
    rows = manifest["trials"]
    assert [(row["clips"], row["method"]) for row in rows] == [
        *itertools.product(sizes["clips"], recipe.METHODS)
    ]
    (pair,) = {row["pair"] for row in rows}
    # All clips of the two, and no other, are the test.
    with open(run / "predictions.csv") as file:
        tested = [row["file"] for row in csv.DictReader(file)]
    assert len(tested) == 32
    assert {Path(name).name.split("_")[1] for name in tested} == {*pair.split(" and ")}
    assert manifest["input"]["rate"] == 16_000
    clip = recordings / "high_ada_0.wav"
    answers = artifact.load(run).predict([clip])
    np.testing.assert_allclose(answers.sum(1), 1, atol=1e-6)
    with pytest.raises(errors.InputError, match="a folder that exists"):
        recipe.Config(data=recordings)
    for path in recordings.glob("*"):
        path.rename(path.with_name(path.name.replace("_", "-")))
    with pytest.raises(errors.InputError, match="`labels`"):
        recipe.main(recipe.Config(out=tmp_path / "b", **folders, **sizes))
    assert not (tmp_path / "b").exists()


@pytest.mark.slow
def test_whisper_learns_the_same_clips(recordings, tiny_whisper, tmp_path):
    recipe = importlib.import_module("recipes.spoken_digits")
    folders = {"data": recordings, "weights": tiny_whisper, "out": tmp_path / "run"}
    sizes = SOUND_SIZES["spoken_digits"] | {"methods": ("frozen", "fine-tuned")}
    recipe.main(recipe.Config(backbone="whisper", **folders, **sizes))
    manifest = json.loads((tmp_path / "run" / "manifest.json").read_text())
    assert manifest["base"] is None
    assert [(row["clips"], row["method"]) for row in manifest["trials"]] == [
        *itertools.product(sizes["clips"], sizes["methods"])
    ]
    clip = recordings / "high_ada_0.wav"
    answers = artifact.load(tmp_path / "run").predict([clip])
    np.testing.assert_allclose(answers.sum(1), 1, atol=1e-6)


def test_no_speaker_of_the_test_is_learned_from(recordings, tiny_embedding):
    recipe = importlib.import_module("recipes.spoken_digits")
    folders = {"data": recordings, "weights": tiny_embedding}
    settings = recipe.Config(**folders)
    data, pool, speakers = recipe.build_data(settings)
    pairs = recipe.pairs_of(speakers, settings)
    wanted = [("ada", "bob"), ("ada", "cleo"), ("bob", "cleo")]
    assert sorted(pairs.values()) == wanted
    for seed, pair in pairs.items():
        split = recipe.leave_out(data, pool, speakers, pair, 2, seed)
        for name, part in split.items():
            names = part.inputs.names(range(len(part)))
            heard = {Path(name).name.split("_")[1] for name in names}
            assert heard == ({*pair} if name == "test" else {*speakers} - {*pair})
        assert len(split.train) == len(split.validation) == 4


@pytest.mark.slow
@pytest.mark.parametrize(
    "method", [pytest.param("LoRA", marks=pytest.mark.slow), "sentence pairs"]
)
def test_sentences_are_classified_by_other_methods(
    method, tiny_bert, reviews, tmp_path
):
    recipe = importlib.import_module("recipes.minilm_sentiment")
    sizes = TEXT_SIZES["minilm_sentiment"] | {"method": method}
    settings = recipe.Config(
        out=tmp_path / "run", data=reviews, weights=tiny_bert, **sizes
    )
    metrics = recipe.main(settings)
    # Pairs are not rejected: no loss of labels tells whether they were better before.
    names = ["bag of words", "logistic regression", "frozen", method]
    assert list(metrics["models"]) == names or method == "LoRA"
    answers = artifact.load(tmp_path / "run").predict(["the good film"])
    np.testing.assert_allclose(answers.sum(1), 1, atol=1e-6)
    assert method in (tmp_path / "run" / "history.csv").read_text()


@pytest.mark.slow
def test_72_sentences_are_judged_twice(tiny_bert, reviews, tmp_path, capsys):
    recipe = importlib.import_module("recipes.sentiment_from_72_sentences")
    (tmp_path / "glove.txt").write_text("good 1 0\nbad 0 1\nfilm 0 0\n")
    run = tmp_path / "run"
    settings = {"data": reviews, "glove": tmp_path / "glove.txt", **SENTENCES}
    metrics = recipe.main(recipe.Config(out=run, **settings))
    assert list(metrics["models"]) == ["bag of words", "own vectors", "GloVe"]
    assert metrics["models"]["GloVe"]["count"] == 68
    assert metrics["few"]["GloVe"]["count"] == 2
    assert " of 2 right, so between " in capsys.readouterr().out
    # Learned from other sentences than are judged.
    assert json.loads((run / "metrics.json").read_text())["few"] == metrics["few"]
    prediction.predict(run, ["a good film", "an unheard-of word"], 1, None)
    assert "a good film" in capsys.readouterr().out
    with pytest.raises(errors.InputError, match="have 72 texts to draw from"):
        recipe.main(recipe.Config(out=tmp_path / "b", **settings | {"unlabelled": 62}))
    assert not (tmp_path / "b").exists()


def test_a_recipe_runs_where_no_cache_can_be_kept(tmp_path, monkeypatch):
    recipe = importlib.import_module("recipes.feature_extraction")
    (tmp_path / "file").touch()
    for name in ("HOME", "KERAS_HOME", "KERAS_TL_CACHE"):
        monkeypatch.setenv(name, str(tmp_path / "file" / name))
    sizes = PROBE_SIZES["feature_extraction"]
    with pytest.warns(errors.InputWarning, match="cache of features cannot be used"):
        recipe.main(recipe.Config(out=tmp_path / "run", **sizes))
    assert (tmp_path / "run" / "manifest.json").exists()


@pytest.mark.slow
def test_the_maps_of_a_classifier_are_drawn_and_compared(tmp_path):
    recipe = importlib.import_module("recipes.explain_predictions")
    run, sizes = tmp_path / "run", EXPLAIN_SIZES["explain_predictions"]
    metrics = recipe.main(recipe.Config(out=run, **sizes))
    made = {path.name for path in run.iterdir()}
    assert made == {*FILES, "maps.csv", "explanations.png", "embedding_map.png"}
    for row in metrics["maps"]:
        assert -1 <= row["low"] <= row["more"] <= row["high"] <= 1
    names = [row["map"] for row in metrics["maps"]]
    assert names == ["Grad-CAM", "integrated gradients", recipe.OTHER]


@pytest.mark.slow
def test_photographs_are_painted_and_the_study_goes_on_where_it_was_killed(
    photographs, tmp_path, capsys
):
    recipe = importlib.import_module("recipes.style_transfer")
    settings = recipe.Config(
        content=(photographs / "red" / "0.png",),
        style=photographs / "blue" / "1.png",
        data=photographs / "green",
        methods=recipe.METHODS,
        **PAINTING,
        out=tmp_path / "run",
    )
    manifest = recipe.main(settings)
    methods = ["photograph", *recipe.METHODS]
    assert [row["method"] for row in manifest["trials"]] == methods
    assert manifest["value"] == "objective"
    before, _random, optimized, _ = manifest["trials"]
    assert before["content_loss"] == 0
    assert optimized["objective"] < before["objective"]
    sizes = set()
    for row in manifest["trials"]:
        with Image.open(tmp_path / "run" / "pictures" / row["picture"]) as picture:
            sizes.add(picture.size)
    with Image.open(settings.content[0]) as content:
        wide, high = content.size
    longest = min(40, max(wide, high))
    assert {max(size) for size in sizes} == {longest}
    assert len(list((tmp_path / "run" / "previews").glob("*.jpg"))) == 2
    # A network that was trained goes on to paint; nothing is trained again.
    weights = next((tmp_path / "run" / "networks").glob("*.weights.h5"))
    kept = dataclasses.replace(
        settings, network=weights, methods=(), out=tmp_path / "again"
    )
    capsys.readouterr()
    again = recipe.main(kept)
    assert "parameters train" not in capsys.readouterr().out
    painted = manifest["trials"][-1]
    assert again["trials"][-1]["objective"] == painted["objective"]
    # As if it had been killed in its last trial but one.
    (tmp_path / "run" / "manifest.json").unlink()
    (
        tmp_path / "run" / "trials" / Path(optimized["picture"]).with_suffix(".json")
    ).unlink()
    resumed = recipe.main(
        dataclasses.replace(settings, out=None, resume=tmp_path / "run")
    )
    assert resumed["trials"][2]["objective"] == optimized["objective"]
    # Another style is another run.
    shutil.rmtree(tmp_path / "run" / "state", ignore_errors=True)
    interrupted = dataclasses.replace(settings, out=tmp_path / "third")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(recipe.study, "run", interrupt)
        with pytest.raises(KeyboardInterrupt):
            recipe.main(interrupted)
    shutil.copy(photographs / "red" / "2.png", settings.style)
    with pytest.raises(errors.InputError, match="other data|changed|differ"):
        recipe.main(dataclasses.replace(settings, out=None, resume=tmp_path / "third"))


def interrupt(*arguments):
    raise KeyboardInterrupt


@pytest.mark.slow
def test_pictures_that_cannot_be_painted_are_named(photographs, tmp_path):
    recipe = importlib.import_module("recipes.style_transfer")
    Image.fromarray(np.zeros((4, 4, 3), "uint8")).save(tmp_path / "tiny.png")
    (tmp_path / "broken.png").write_bytes(b"no image")
    for name, message in (("tiny.png", "4x4 pixels"), ("broken.png", "broken.png")):
        settings = recipe.Config(
            style=tmp_path / name, weights=None, out=tmp_path / "run"
        )
        with pytest.raises(errors.InputError, match=message):
            recipe.main(settings)
        assert not (tmp_path / "run").exists()
    with pytest.raises(errors.InputError, match="`content` must be a file"):
        recipe.Config(content=(tmp_path / "absent.png",))
    # What is no network is known before there is a run.
    keras.Sequential([keras.Input((2,)), keras.layers.Dense(2)]).save_weights(
        tmp_path / "other.weights.h5"
    )
    settings = recipe.Config(
        network=tmp_path / "other.weights.h5", weights=None, out=tmp_path / "run"
    )
    with pytest.raises(errors.InputError, match="must fit image_transform"):
        recipe.main(settings)
    assert not (tmp_path / "run").exists()


def test_every_recipe_trains_on_several_machines_or_refuses_them(monkeypatch):
    cluster = {"cluster": {"worker": ["a:1", "b:1"]}, "task": {"index": 0}}
    monkeypatch.setenv("TF_CONFIG", json.dumps(cluster))
    alone = set()
    for path in (ROOT / "recipes").glob("[!_]*.py"):
        recipe = importlib.import_module(f"recipes.{path.stem}")
        if not hasattr(recipe.Config, "strategy"):
            alone.add(path.stem)
            with pytest.raises(errors.InputError, match="runs on one machine"):
                recipe.Config()
        else:
            assert "placement.from_settings(settings)" in path.read_text()
    # They compute features and fit classifiers on them.
    assert alone == {"feature_extraction", "how_much_data"}


def test_every_recipe_is_run():
    assert {
        "sentiment_from_72_sentences",
        "pretrain_then_transfer",
        "style_transfer",
        *EXPLAIN_SIZES,
        *TEXT_SIZES,
        *SOUND_SIZES,
        *UNSEEN_SIZES,
        *SIZES,
        *FOLDER_SIZES,
        *PROBE_SIZES,
        *SEARCH_SIZES,
        *STUDIES,
    } == {path.stem for path in __import__("pathlib").Path("recipes").glob("[!_]*.py")}


@pytest.fixture
def photographs(tmp_path):
    """A folder of the user's own: three classes of noisy colours, odd sizes."""
    return tiny_recipes.photographs(tmp_path / "photographs")


@pytest.mark.parametrize(
    "augment",
    [
        pytest.param("cut_mix", marks=pytest.mark.exhaustive),
        pytest.param("mix_up", marks=pytest.mark.slow),
        pytest.param("rand_augment", marks=pytest.mark.exhaustive),
    ],
)
def test_quickstart_trains_with_each_augmentation(augment, tmp_path):
    quickstart = importlib.import_module("recipes.quickstart")
    sizes = SIZES["quickstart"] | {"augment": augment, "limit": 20, "epochs": 1}
    metrics = quickstart.main(quickstart.Config(out=tmp_path / "run", **sizes))
    # Validation may reject the fine-tuning.
    assert set(metrics["models"]) >= {"from scratch", "frozen"}
    assert "fine-tuning" in (tmp_path / "run" / "history.csv").read_text()


@pytest.mark.slow
def test_the_options_of_training_are_those_of_every_recipe(tmp_path):
    recipe = importlib.import_module("recipes.vgg16_cifar10")
    options = {"find_rate": True, "class_weights": True, "tensorboard": True}
    options |= {"choose_by": "last", "precision": "mixed_bfloat16"}
    run = tmp_path / "run"
    try:
        recipe.main(recipe.Config(out=run, **SIZES["vgg16_cifar10"] | options))
    finally:
        keras.config.set_dtype_policy("float32")
    assert (run / "learning_rates.png").exists()
    assert list((run / "tensorboard").rglob("events*"))
    with open(run / "history.csv", newline="") as file:
        assert [row["kept"] for row in csv.DictReader(file)] == ["1.0", "1.0"]


@pytest.mark.slow
def test_averaged_weights_are_another_model(tmp_path):
    recipe = importlib.import_module("recipes.cnn_cifar10")
    logits = []
    for average in (False, True):
        run = tmp_path / str(average)
        sizes = SIZES["cnn_cifar10"] | {"average_weights": average}
        recipe.main(recipe.Config(out=run, **sizes))
        pixels = np.full((1, 32, 32, 3), 99, "uint8")
        logits.append(np.asarray(artifact.load(run).model(pixels)))
    assert not np.array_equal(*logits)


@pytest.mark.slow
@pytest.mark.parametrize("report_on", ["validation", "test"])
def test_ants_and_bees_are_reported_on_images_that_chose_nothing(
    report_on, photographs, tmp_path
):
    recipe = importlib.import_module("recipes.resnet50_ants_bees")
    shutil.copytree(photographs, tmp_path / "data" / "train")
    for name in ("red", "green", "blue"):
        given = tmp_path / "data" / "val" / name
        given.mkdir(parents=True)
        pixels = np.full((40, 40, 3), 10 + len(name), "uint8")
        Image.fromarray(pixels).save(given / "a.png")
    run = tmp_path / "run"
    settings = FOLDER_SIZES["resnet50_ants_bees"] | {"report_on": report_on}
    metrics = recipe.main(recipe.Config(data=tmp_path / "data", out=run, **settings))
    assert set(metrics["models"]) == {"feature extractor", "fine-tuned"}
    counts = json.loads((run / "manifest.json").read_text())["data"]["counts"]
    # `val` has 3 images; 2 of each class of train are drawn.
    given, drawn = ("test", "validation")[:: 1 if report_on == "validation" else -1]
    assert (counts[given], counts[drawn]) == (3, 6)


@pytest.mark.slow
def test_two_tasks_are_learned_together_and_apart(photographs, tmp_path, capsys):
    recipe = importlib.import_module("recipes.multi_task")
    for name in ("paintings", "photos"):
        shutil.copytree(photographs, tmp_path / "data" / name)
    for path in (tmp_path / "data" / "paintings").rglob("*.png"):
        Image.open(path).rotate(180).save(path)
    for name in (".cache", "__MACOSX"):
        (tmp_path / "data" / name).mkdir()
    run, sizes = tmp_path / "run", FOLDER_SIZES["multi_task"]
    settings = recipe.Config(data=tmp_path / "data", out=run, **sizes)
    manifest = recipe.main(settings)
    assert {(row["task"], row["method"]) for row in manifest["trials"]} == {
        (task, method)
        for task in ("class", "domain")
        for method in ("alone", "together")
    }
    assert manifest["data"]["domains"] == ["paintings", "photos"]
    model = keras.models.load_model(run / "model.keras")
    said = model.predict(np.zeros((1, 32, 32, 3)), verbose=0)
    assert {name: part.shape for name, part in said.items()} == {
        "logits": (1, 3),
        "domain": (1, 2),
    }
    size = {row["method"]: row["parameters"] for row in manifest["trials"]}
    assert size["together"] == model.count_params()
    too_many = dataclasses.replace(settings, blocks=99, out=tmp_path / "other")
    with pytest.raises(errors.InputError, match="number of blocks"):
        recipe.main(too_many)
    assert not (tmp_path / "other").exists()
    # As if it had been killed in its first trial.
    (run / "trials" / "class-alone-seed-0.json").unlink()
    (run / "manifest.json").unlink()
    capsys.readouterr()
    recipe.main(dataclasses.replace(settings, out=None, resume=run))
    assert capsys.readouterr().out.count("Trial ") == 1
    photo, copy = (tmp_path / "data" / name / "red" for name in ("photos", "paintings"))
    shutil.copy(photo / "0.png", copy / "copy.png")
    with pytest.raises(errors.InputError, match=r"0\.png is the same image as.*copy"):
        recipe.build_data(settings)
    (copy / "copy.png").unlink()
    shutil.rmtree(tmp_path / "data" / "photos" / "red")
    with pytest.raises(errors.InputError, match="the same classes in each"):
        recipe.build_data(settings)


def without_seconds(rows):
    return [{k: v for k, v in row.items() if k != "seconds"} for row in rows]


@pytest.mark.slow
def test_every_pair_of_domains_is_adapted_and_two_folders_of_ones_own(
    photographs, tmp_path, capsys
):
    recipe = importlib.import_module("recipes.domain_adaptation_pacs")
    source, target = tmp_path / "data" / "photos", tmp_path / "data" / "sketches"
    for folder in (source, target):
        shutil.copytree(photographs, folder)
    for path in target.rglob("*.png"):
        Image.open(path).rotate(180).save(path)
    run, sizes = tmp_path / "run", FOLDER_SIZES["domain_adaptation_pacs"]
    settings = recipe.Config(data=tmp_path / "data", out=run, **sizes)
    rows = recipe.main(settings)["trials"]
    methods = ["source only", "target labels", "importance weighting", "DANN", "MCC"]
    assert [(row["pair"], row["method"], row["seed"]) for row in rows] == [
        (pair, method, seed)
        for seed, pair in enumerate(["photos to sketches", "sketches to photos"])
        for method in methods
    ]
    # Weighted, the source is worth no more examples than it has.
    sizes_of = [row["effective"] for row in rows if row["method"] == methods[2]]
    assert all(1 <= size <= 36 for size in sizes_of)
    assert len(sizes_of) == 2
    assert {path.name for path in run.glob("*.png")} == {"features.png", "pairs.png"}
    # As if it had been killed in its last trial.
    (run / "trials" / "sketches-to-photos-MCC-1-0.json").unlink()
    (run / "manifest.json").unlink()
    capsys.readouterr()
    again = recipe.main(dataclasses.replace(settings, out=None, resume=run))
    assert capsys.readouterr().out.count("Trial ") == 1
    assert without_seconds(again["trials"]) == without_seconds(rows)

    own = {"source": source, "target": target, "methods": ("MCC",)}
    own = recipe.Config(out=tmp_path / "own", **sizes | own)
    rows = recipe.main(own)["trials"]
    assert {row["pair"] for row in rows} == {"photos to sketches"}
    model = keras.models.load_model(tmp_path / "own" / "MCC.keras")
    assert model.predict(np.zeros((1, 32, 32, 3)), verbose=0).shape == (1, 3)
    for name in ("red", "green", "blue"):
        (target / name).rename(target / f"{name} lines")
    with pytest.raises(errors.InputError, match="no class in common"):
        recipe.main(dataclasses.replace(own, out=tmp_path / "other"))
    shutil.rmtree(target)
    target.mkdir()
    with pytest.raises(errors.InputError, match="sketches"):
        recipe.main(dataclasses.replace(own, out=tmp_path / "other"))
    assert not (tmp_path / "other").exists()


@pytest.mark.slow
def test_a_folder_without_labels_trains_a_network_of_imagenet_on(
    photographs, tmp_path, capsys
):
    recipe = importlib.import_module("recipes.self_supervised_cifar10")
    pool = tmp_path / "pool"
    pool.mkdir()
    for path in photographs.rglob("*.png"):
        # Half of them are those of the data, which are tested on as well.
        image = Image.open(path)
        if int(path.stem) % 2:
            image = image.rotate(90)
        image.save(pool / f"{path.parent.name}-{path.name}")
    sizes = STUDIES["self_supervised_cifar10"] | {
        "dataset": "cifar10",
        "data": photographs,
        "unlabelled": pool,
        "backbone": "efficientnet_lite0",
        "weights": "imagenet",
        "methods": ("SimCLR",),
    }
    settings = recipe.Config(out=tmp_path / "run", **sizes)
    data, apart = recipe.build_data(settings)
    tested = {*data.test.inputs.hashes(), *data.validation.inputs.hashes()}
    assert not tested & {*apart.inputs.hashes()}
    assert 0 < len(apart) < 36
    rows = recipe.main(settings)["trials"]
    assert [row["method"] for row in rows] == ["as pretrained", "SimCLR"]
    assert "  probe " in capsys.readouterr().out
    for name in ("red", "green"):
        (pool / name).mkdir()
        shutil.copy(pool / f"{name}-0.png", pool / name)
    with pytest.raises(errors.InputError, match="called as classes: green, red"):
        recipe.main(dataclasses.replace(settings, out=tmp_path / "other"))
    assert not (tmp_path / "other").exists()


@pytest.mark.slow
def test_three_phases_from_nothing_and_killed_they_go_on_to_the_same_weights(
    tmp_path, monkeypatch, capsys
):
    recipe = importlib.import_module("recipes.pretrain_then_transfer")
    run = tmp_path / "run"
    metrics = recipe.main(recipe.Config(out=run, **TRANSFER))
    made = {path.name for path in run.iterdir()}
    assert made == {*FILES, "pretrained.weights.h5", "stopping.png"}
    assert "pre-training" in capsys.readouterr().out
    named = json.loads((run / "manifest.json").read_text())["stopping"]
    assert {"the last epoch", "the source's loss", "the target's probe"} < {*named}
    assert set(metrics["models"]) >= {"from scratch", "probe, the target's probe"}
    # The same epoch is the same model, also where one of them was fine-tuned then.
    by_epoch = {}
    for rule in ("the last epoch", "the source's loss", "the target's probe"):
        accuracy = metrics["models"][f"probe, {rule}"]["accuracy"]
        assert by_epoch.setdefault(named[rule], accuracy) == accuracy
    with h5py.File(run / "pretrained.weights.h5") as file:
        assert file.keys()
    backbones.load("small_resnet", weights=run / "pretrained.weights.h5", image_size=32)

    fit, killed = keras.Model.fit, tmp_path / "killed"

    class Kill(keras.callbacks.Callback):
        def on_epoch_begin(self, epoch, logs=None):
            if epoch == 2:
                raise KeyError("killed")

    def fit_until_killed(self, *args, callbacks, **options):
        return fit(self, *args, callbacks=[Kill(), *callbacks], **options)

    with monkeypatch.context() as patch:
        patch.setattr(keras.Model, "fit", fit_until_killed)
        with pytest.raises(KeyError, match="killed"):
            recipe.main(recipe.Config(out=killed, **TRANSFER))
    again = recipe.main(recipe.Config(resume=killed, **TRANSFER))
    assert again["models"] == metrics["models"]
    ours, theirs = (artifact.load(one).model.get_weights() for one in (run, killed))
    for one, other in zip(ours, theirs, strict=True):
        np.testing.assert_array_equal(one, other)


@pytest.mark.slow
def test_digits_are_adapted_and_the_weight_is_chosen_without_labels(tmp_path, capsys):
    recipe = importlib.import_module("recipes.domain_adaptation_digits")
    digits(tmp_path / "data")
    run, sizes = tmp_path / "run", FOLDER_SIZES["domain_adaptation_digits"]
    settings = recipe.Config(data=tmp_path / "data", out=run, **sizes)
    manifest = recipe.main(settings)
    assert [(row["method"], row["weight"]) for row in manifest["trials"]] == [
        ("source only", 0.0),
        ("target labels", 0.0),
        ("CDAN+E", 0.5),
        ("CDAN+E", 1.0),
    ]
    assert manifest["over"] == ["weight"]
    assert (run / "domains.png").exists()
    domains = recipe.build_data(settings)
    colour = domains["MNIST-M"].train.read([0])[0]
    assert np.ptp(colour, axis=-1).max() > 0
    for name in ("usps.h5", "mnist/train-labels-idx1-ubyte.gz"):
        (tmp_path / "data" / name).unlink()
        with pytest.raises(errors.InputError, match="have the file"):
            recipe.main(dataclasses.replace(settings, out=tmp_path / "other"))
    assert not (tmp_path / "other").exists()


@pytest.mark.slow
def test_quickstart_does_the_same_on_a_folder_of_ones_own(
    photographs, tmp_path, capsys, monkeypatch
):
    # Converting takes as long as all else, and has tests of its own.
    monkeypatch.setattr(compiled, "has_litert", lambda: False)
    quickstart = importlib.import_module("recipes.quickstart")
    sizes = SIZES["quickstart"] | {"limit": None, "epochs": 30}
    # Phases that are not wanted are left out.
    sizes |= {"fine_tune_epochs": 0, "scratch_epochs": 0}
    run = tmp_path / "run"
    metrics = quickstart.main(quickstart.Config(data=photographs, out=run, **sizes))
    assert set(metrics["models"]) == {"frozen"}
    assert capsys.readouterr().out.count("left out\n") == 2
    rows = (run / "history.csv").read_text().splitlines()
    assert {row.partition(",")[0] for row in rows[1:]} == {"head"}
    assert artifact.load(run).class_names == ("blue", "green", "red")
    out = tmp_path / "predictions.csv"
    prediction.predict(run, [photographs], 2, out)
    with open(out) as file:
        rows = list(csv.DictReader(file))
    assert len(rows) == 2 * 36
    best = rows[::2]
    assert all(0 <= float(row["probability"]) <= 1 for row in rows)
    right = [row["class"] in row["image"].split("/")[-2] for row in best]
    assert np.mean(right) > 0.6
    with pytest.raises(errors.InputError, match="not there yet"):
        prediction.predict(run, [photographs], 1, out)
    with pytest.raises(errors.InputError, match=r"in \[1, 3\]"):
        prediction.predict(run, [photographs], 4, None)
    (photographs / "red" / "broken.png").write_bytes(b"")
    with pytest.raises(errors.InputError, match=r"1 of 37 inputs.*\n.*broken\.png"):
        prediction.predict(run, [photographs], 1, None, "error")


@pytest.mark.parametrize(
    ("name", "settings", "message"),
    [
        ("quickstart", {"image_size": 31}, "at least 32"),
        ("quickstart", {"epochs": 0}, "epochs=0"),
        ("quickstart", {"blocks": 99}, "number of blocks"),
        ("quickstart", {"fine_tune_epochs": -1}, "fine_tune_epochs=-1"),
        ("quickstart", {"batch_size": 0}, "batch_size=0"),
        ("quickstart", {"limit": 0}, "limit=0"),
        ("quickstart", {"weights": "absent.h5"}, "weights='absent.h5'"),
        ("vgg16_cifar10", {"backbone": "vgg61"}, "Did you mean .*vgg16"),
        ("vgg16_cifar10", {"dataset": "cifar_10"}, "Did you mean"),
        ("vgg16_cifar10", {"augmented_copies": 2}, "0 with --augment none"),
        ("vgg16_cifar10", {"preprocessing": "touch"}, "Did you mean torch"),
        ("multi_task", {"data": None}, "a folder of domains"),
        ("multi_task", {"data": Path("."), "learning_rate": 0.0}, "learning_rate=0"),
        ("multi_task", {"data": Path("."), "backbone_rate": -1.0}, "backbone_rate=-1"),
        ("domain_adaptation_digits", {"data": None}, r"mnist/ and usps\.h5"),
        (
            "domain_adaptation_digits",
            {"data": Path("."), "tasks": ("MNIST to SVHN",)},
            "tasks",
        ),
        ("domain_adaptation_pacs", {"data": None}, "a folder of domains"),
        ("domain_adaptation_pacs", {"source": Path(".")}, "--source and --target"),
        (
            "domain_adaptation_pacs",
            {"data": Path("."), "source": Path("."), "target": Path(".")},
            "without --data",
        ),
        (
            "domain_adaptation_pacs",
            {"data": Path("."), "term_weights": ()},
            "term_weights",
        ),
        (
            "domain_adaptation_pacs",
            {"data": Path("."), "methods": ("DAN", "CORAL")},
            "Did you mean Deep CORAL",
        ),
        ("self_supervised_cifar10", {"methods": ("SimCRL",)}, "Did you mean SimCLR"),
        ("self_supervised_cifar10", {"labels": ()}, "labels"),
        (
            "self_supervised_cifar10",
            {"unlabelled": Path("absent")},
            "`unlabelled` must be a folder that exists",
        ),
        ("pseudo_labels", {"threshold": 1.5}, "threshold"),
        ("pseudo_labels", {"labels": (99,)}, "at most 4"),
        ("pretrain_then_transfer", {"weights": "imagenet"}, "be a file or None"),
        ("pretrain_then_transfer", {"target_classes": ("cat",)}, "two classes"),
        ("resnet50_ants_bees", {"data": None}, "hymenoptera_data"),
        (
            "resnet50_ants_bees",
            {"data": Path("absent")},
            "a folder or a table that exists",
        ),
        ("feature_extraction", {"layers": ("block1",)}, "names"),
        ("cross_validation", {"folds": 1}, "folds=1"),
        ("cross_validation", {"leave_one_out": 1}, "`leave_one_out`.*at least 20"),
        ("cross_validation", {"leave_one_out": 19}, "`leave_one_out`.*at least 20"),
        ("cross_validation", {"blocks": 99}, "number of blocks"),
        ("compress_and_export", {"sparsity": 1.0}, r"be in \[0, 1\)"),
        ("compress_and_export", {"student_blocks": 99}, "number of blocks"),
        ("compress_and_export", {"prune_steps": 0}, "prune_steps=0"),
        ("distillation", {"label_weight": 2.0}, "label_weight"),
        ("distillation", {"copies": 0}, "copies=0"),
        ("distillation", {"blocks": 99}, "number of blocks"),
        ("distillation", {"student_blocks": 99}, "number of blocks"),
        ("distillation", {"blocks": 0}, "blocks=0"),
        ("distillation", {"learning_rate": 0.0}, "learning_rate=0"),
        ("few_labels", {"labels": (7,)}, "at most 6"),
        ("few_labels", {"labels": ()}, "labels=0"),
        ("explain_predictions", {"share": 1}, "share"),
        ("four_quadrants", {"few": 20, "many": 10}, "at least 20"),
        ("four_quadrants", {"steps": 0}, "steps=0"),
        ("four_quadrants", {"many": 99, "limit": None}, "at most 78"),
        ("few_labels", {"methods": ("fine_tuning",)}, "Did you mean fine-tuning"),
        ("few_labels", {"blocks": 99}, "number of blocks"),
        ("few_labels", {"learning_rate": 0.0}, "learning_rate=0"),
        ("few_labels", {"backbone_rate": -0.1}, "backbone_rate=-0.1"),
        ("gradual_unfreezing", {"methods": ("gradul",)}, "Did you mean gradual"),
        ("gradual_unfreezing", {"methods": ()}, "methods"),
        ("gradual_unfreezing", {"decay": 0.0}, r"in \(0, 1\]"),
        ("layer_freezing", {"learning_rate": 0.0}, "learning_rate=0"),
        ("gradual_unfreezing", {"rates": ()}, "rates"),
        ("gradual_unfreezing", {"rates": (0.0,)}, "greater than 0"),
        ("gradual_unfreezing", {"small_size": 31}, "at least 32"),
        ("gradual_unfreezing", {"methods": ("gradual",), "blocks": 3}, "at least 4"),
        ("gradual_unfreezing", {"methods": ("resizing",), "epochs": 1}, "at least 2"),
        ("gradual_unfreezing", {"blocks": 17, "epochs": 18}, r"in \[0, 13\]"),
        ("layer_freezing", {"sizes": (50,)}, "at most 40"),
        ("layer_freezing", {"sizes": ()}, "sizes=0"),
        ("layer_freezing", {"every": 0}, "every=0"),
        ("hyperparameter_search", {"trials": 0}, "trials=0"),
    ],
)
def test_bad_settings_are_named_and_nothing_is_written(
    name, settings, message, tmp_path, monkeypatch
):
    monkeypatch.chdir(tmp_path)
    recipe = importlib.import_module(f"recipes.{name}")
    known = {**SIZES, **FOLDER_SIZES, **PROBE_SIZES, **SEARCH_SIZES, **STUDIES}
    known |= EXPLAIN_SIZES | {"pretrain_then_transfer": TRANSFER}
    sizes = known[name] | settings
    with pytest.raises(errors.InputError, match=message):
        recipe.main(recipe.Config(**sizes))
    assert not list(tmp_path.iterdir())


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore::keras_tl.errors.InputWarning")
def test_there_are_no_more_folds_than_images_of_the_rarest_class(tmp_path, capsys):
    recipe = importlib.import_module("recipes.cross_validation")
    recipe.main(
        recipe.Config(
            limit=40, image_size=32, folds=9, leave_one_out=0, out=tmp_path / "run"
        )
    )
    printed = capsys.readouterr().out
    assert "8 folds, since airplane has 8 images in them." in printed
    assert re.search(r"head: \d+ of 80 right, 0\.\d+, 95 % interval 0\.", printed)
