import numpy as np
import pytest

from keras_tl import errors, files
from keras_tl.analysis import unlike
from keras_tl.deploy import answers, artifact
from keras_tl.models import taps

PIXELS = np.random.default_rng(0).integers(0, 256, (5, 8, 8, 3), dtype="uint8")


def with_rules(folder, **rules):
    """Change the rules of a saved run."""
    path = folder / answers.RULES
    files.write_json(path, files.read_json(path) | rules)
    manifest = files.read_json(folder / "manifest.json")
    manifest["files_sha256"][answers.RULES] = files.sha256(path)
    files.write_json(folder / "manifest.json", manifest)
    return artifact.load(folder)


def test_probabilities_are_those_of_logits_divided_by_the_temperature(run):
    folder, model = run
    logits = model.predict_on_batch(PIXELS)
    for temperature in (0.5, 4.0):
        loaded = with_rules(folder, temperature=temperature)
        powers = np.exp(logits / temperature)
        expected = powers / powers.sum(axis=1, keepdims=True)
        np.testing.assert_allclose(loaded.predict(PIXELS), expected, atol=1e-5)


def test_the_model_is_sure_from_its_threshold_on(run):
    loaded = artifact.load(run[0])
    highest = loaded.predict(PIXELS).max(axis=1)
    middle = float(np.median(highest))
    kept = {"precision": 0.95, "threshold": middle, "coverage": 0.5}
    given = with_rules(run[0], abstain=kept).answer(PIXELS)
    np.testing.assert_array_equal(given.is_sure, highest >= middle)
    unsure = ["not sure" in note for note in given.notes]
    assert unsure == (~given.is_sure).tolist()


def test_an_example_far_from_the_training_examples_is_said_to_be_unlike_them(run):
    loaded = artifact.load(run[0])
    given = loaded.answer(PIXELS)
    distances = unlike.distance(given.embeddings, loaded.examples.embeddings)
    middle = float(np.median(distances))
    given = with_rules(run[0], unlike=middle).answer(PIXELS)
    np.testing.assert_allclose(given.unlike, distances / middle, rtol=1e-5)
    notes = ["unlike the training examples" in note for note in given.notes]
    assert notes == (given.unlike > 1).tolist()


def test_embeddings_and_feature_maps_are_those_of_the_model(run):
    folder, model = run
    outputs = taps.with_features(model)(PIXELS.astype("float32"))
    for loaded in (artifact.load(folder), converted(folder)):
        given = loaded.answer(PIXELS, batch_size=2, feature_maps=True)
        for name, values in (
            ("embedding", given.embeddings),
            ("feature_map", given.feature_maps),
        ):
            np.testing.assert_allclose(values, outputs[name], atol=1e-4)
        assert loaded.answer(PIXELS).feature_maps is None


def converted(folder):
    pytest.importorskip("ai_edge_litert")
    loaded = artifact.load(folder)
    loaded.convert()
    assert loaded.uses_litert
    return loaded


def test_a_run_keeps_training_examples_of_every_class(run, colours):
    kept = artifact.load(run[0]).examples
    assert set(kept.labels.tolist()) == {0, 1, 2}
    assert len(kept.names) == len(kept.labels) == len(kept.embeddings)
    assert all(picture.startswith(b"\xff\xd8") for picture in kept.thumbnails)


def test_the_nearest_training_example_of_one_of_them_is_itself(run):
    kept = artifact.load(run[0]).examples
    nearest = kept.nearest(kept.embeddings, 1)[:, 0]
    np.testing.assert_allclose(kept.embeddings[nearest], kept.embeddings, atol=1e-2)


def test_the_heat_maps_add_up_to_the_logit(run):
    folder, model = run
    loaded = artifact.load(folder)
    given = loaded.answer(PIXELS, feature_maps=True)
    kernel, bias = model.get_layer("logits").get_weights()
    np.testing.assert_array_equal(loaded.examples.kernel, kernel)
    raw = (given.feature_maps * kernel[:, 1]).sum(axis=-1)
    logits = model.predict_on_batch(PIXELS)[:, 1]
    np.testing.assert_allclose(raw.mean(axis=(1, 2)) + bias[1], logits, atol=1e-3)
    maps = loaded.examples.heat_maps(given.feature_maps, np.ones(5, int))
    positive = np.maximum(raw, 0)
    largest = positive.max(axis=(1, 2), keepdims=True)
    expected = np.divide(positive, largest, where=largest > 0, out=0 * positive)
    np.testing.assert_allclose(maps, expected, atol=1e-5)


def test_a_run_of_an_earlier_version_answers_without_judging(run):
    folder, _ = run
    manifest = files.read_json(folder / "manifest.json")
    for name in (answers.EXAMPLES, answers.RULES):
        (folder / name).unlink()
        del manifest["files_sha256"][name]
    files.write_json(folder / "manifest.json", manifest)
    given = artifact.load(folder).answer(PIXELS)
    assert given.is_sure.all()
    assert given.unlike is None
    assert given.notes == [""] * 5


@pytest.mark.parametrize("name", [answers.EXAMPLES, answers.RULES])
def test_changed_files_are_noticed_before_they_are_read(run, name):
    with (run[0] / name).open("ab") as file:
        file.write(b" ")
    with pytest.raises(errors.InputError, match="not the file this run saved"):
        artifact.load(run[0])


def test_texts_keep_their_training_examples_too(text_run):
    loaded = artifact.load(text_run)
    assert loaded.examples.names == ("good", "bad", "good film", "bad film")
    assert loaded.examples.thumbnails == ()
    assert loaded.answer(["good"]).embeddings.shape == (1, 12)
