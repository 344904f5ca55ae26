import dataclasses
import json
import time
import warnings

import numpy as np
import pandas as pd
import pytest
from PIL import Image

import keras_tl
from keras_tl import cli, config, errors
from keras_tl.analysis import candidates, doctor, planner
from keras_tl.commands import deciding, train
from keras_tl.commands.settings import Train
from keras_tl.data import kinds
from keras_tl.data.splits import Split
from keras_tl.deploy import artifact
from keras_tl.training import phases, speed

# Small, and nothing is left to be decided by the speed of the machine.
SMALL = {"image_size": 96, "freeze": "block7a", "epochs": 1, "augment": "none"}


@pytest.fixture
def photos(tmp_path):
    """A folder of 48 small images of two classes that colours tell apart."""
    rng = np.random.default_rng(0)
    for number in range(48):
        label = number % 2
        pixels = rng.integers(0, 120, (20, 24, 3), dtype="uint8")
        pixels[:, :, label] += 120
        place = tmp_path / "photos" / ("red", "green")[label]
        place.mkdir(parents=True, exist_ok=True)
        Image.fromarray(pixels).save(place / f"{number}.png")
    return tmp_path / "photos"


@pytest.mark.slow
def test_a_folder_becomes_a_model_with_its_reasons_and_is_repeated_exactly(
    photos, tmp_path, call, capsys
):
    out = tmp_path / "run"
    flags = [f"--{name.replace('_', '-')}={value}" for name, value in SMALL.items()]
    assert call("train", photos, "--out", out, *flags) == 0
    shown = capsys.readouterr().out
    loaded = artifact.load(out)
    assert loaded.class_names == ("green", "red")
    manifest = loaded.manifest
    decided = {one["name"]: one for one in manifest["decisions"]}
    assert set(decided) == {"data", "backbone", "learning_rate", "model"}
    for one in decided.values():
        assert f"{one['value']}: {one['reason']}" in shown
    page = (out / "report.html").read_text()
    assert "Decisions" in page
    assert decided["model"]["reason"].split(" of ")[0] in page
    metrics = json.loads((out / "metrics.json").read_text())
    assert list(metrics["models"])[-1] == decided["model"]["value"]
    red = next((photos / "red").iterdir())
    assert loaded.predict(red)[0].argmax() == 1

    again = tmp_path / "again"
    arguments = ["--config", out / "config.json", "--out", again]
    assert call("train", *arguments) == 0
    assert (again / "metrics.json").read_text() == (out / "metrics.json").read_text()
    assert (again / "history.csv").read_text() == (out / "history.csv").read_text()


@pytest.mark.slow
def test_what_is_left_open_is_decided_and_kept_with_its_reason(photos, tmp_path, call):
    out = tmp_path / "run"
    assert call("train", photos, "--minutes", "1", "--out", out) == 0
    manifest = json.loads((out / "manifest.json").read_text())
    settings = json.loads((out / "config.json").read_text())
    for name in ("backbone", "image_size", "freeze", "epochs", "learning_rate"):
        assert settings[name] is not None
        assert name in {one["name"] for one in manifest["decisions"]}


@pytest.mark.slow
# All of a handful of test images right is not much better than chance.
@pytest.mark.filterwarnings("default:The model is not clearly better")
@pytest.mark.parametrize("task", ["multi-label", "regression"])
def test_several_labels_and_numbers_are_learned(photos, tmp_path, task):
    paths = sorted(photos.rglob("*.png"))
    if task == "multi-label":
        labels = ["warm|any" if path.parent.name == "red" else "any" for path in paths]
        labels[0] = ""
    else:
        labels = [0.5 + (path.parent.name == "red") for path in paths]
    frame = pd.DataFrame({"image": map(str, paths), "label": labels})
    model = keras_tl.train(frame, out=tmp_path / "run", seed=1, **SMALL)
    assert model.manifest["objective"] == task
    scores = json.loads((model.folder / "metrics.json").read_text())["models"]
    assert train.PROBE in scores
    assert model.predict(paths[:3]).shape == (3, len(model.class_names))


@pytest.mark.slow
def test_a_killed_run_goes_on_to_the_same_result(photos, tmp_path, call, monkeypatch):
    settings = dict(SMALL, data=str(photos), epochs=2)
    whole = train.train(Train(**settings, out=tmp_path / "whole"))
    fit = phases.fit

    def killed(model, data, setup, phase):
        if phase.name == "fine-tuning":
            raise KeyboardInterrupt
        return fit(model, data, setup, phase)

    monkeypatch.setattr(phases, "fit", killed)
    with pytest.raises(KeyboardInterrupt):
        train.train(Train(**settings, out=tmp_path / "killed"))
    monkeypatch.setattr(phases, "fit", fit)
    assert call("train", "--resume", tmp_path / "killed") == 0
    for name in ("metrics.json", "history.csv"):
        resumed = (tmp_path / "killed" / name).read_text()
        assert resumed == (whole / name).read_text()
    decisions = json.loads((tmp_path / "killed" / "decisions.json").read_text())
    names = [one["name"] for one in decisions]
    assert names == ["data", "backbone", "learning_rate", "model"]


def test_what_the_check_notices_is_refused_by_name(photos, call, monkeypatch, capsys):
    monkeypatch.chdir(photos.parent)
    first = photos / "red" / "2.png"
    (photos / "green" / "copy.png").write_bytes(first.read_bytes())
    (photos / "red" / "broken.png").write_bytes(first.read_bytes()[:50])
    assert call("train", "photos", "--image-size", "96") == 2
    shown = capsys.readouterr().err
    assert "exact-copies-two-labels" in shown
    assert "broken.png" in shown
    assert "keras-tl check photos" in shown
    assert not (photos.parent / "runs").exists()


def test_warnings_of_the_check_are_kept_for_the_report(photos):
    for path in sorted((photos / "red").iterdir())[:16]:
        path.unlink()
    decisions = train.Decisions()
    with pytest.warns(errors.InputWarning, match="fewer than 10 training examples"):
        train.load(Train(str(photos)), None, lambda count, side: 64, decisions)
    (decision,) = decisions.as_list()
    (finding,) = decision["findings"]
    assert finding["code"] == "small-class"
    assert finding["message"].startswith("Of 1 class there are fewer than 10")
    assert finding["page"].endswith("check_data.md#small-class")


@pytest.mark.slow
def test_arrays_are_trained_on_in_python(colours, tmp_path):
    inputs = colours.train.inputs.read(range(len(colours.train)))
    model = keras_tl.train(
        (inputs, colours.train.labels),
        out=tmp_path / "run",
        **dict(SMALL, epochs=0),
    )
    assert model.folder == tmp_path / "run"
    assert model.predict(inputs[:2]).shape == (2, 3)


BAD = {
    "absent folder": (["/absent/folder"], "folder or table that exists"),
    "absent name": (["absent_photos"], "No folder or table is called"),
    "no data": ([], "data"),
    "no time": (["photos", "--minutes", "0"], "`minutes` must be greater than 0"),
    "backbone": (["photos", "--backbone", "resnet51"], "Did you mean resnet50"),
    "block": (["photos", "--freeze", "blok3b", "--image-size", "64"], "block3b"),
    "weights": (["photos", "--weights", "photos"], "given together"),
    "size": (["photos", "--image-size", "0"], "image_size"),
    "leave out": (["photos", "--leave-out", "absent.txt"], "`leave_out` must exist"),
    "groups": (["photos", "--groups", "("], "regular expression"),
}


@pytest.mark.parametrize(
    # Blocks are known once a backbone is loaded.
    "case",
    [pytest.param(c, marks=pytest.mark.slow) if c == "block" else c for c in BAD],
)
def test_bad_input_ends_in_one_sentence_and_leaves_nothing(
    case, photos, call, monkeypatch, capsys
):
    arguments, message = BAD[case]
    monkeypatch.chdir(photos.parent)
    assert call("train", *arguments) == 2
    shown = capsys.readouterr().err
    assert message in shown
    assert "Traceback" not in shown
    assert not (photos.parent / "runs").exists()


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"freeze": "blok3b"}, "Did you mean block3b"),
        ({"freeze": "blok3", "backbone": "vgg16"}, "Did you mean block3"),
        ({"image_size": 31}, "at least 32, the smallest efficientnet_lite0 takes"),
        ({"image_size": 64, "backbone": "xception"}, "at least 71"),
    ],
)
def test_block_and_size_are_refused_before_an_image_is_read(
    settings, message, photos, monkeypatch
):
    monkeypatch.setattr(candidates, "at_hand", lambda size: ["the embedded one"])
    monkeypatch.setattr(doctor, "check", lambda *_, **__: pytest.fail("read"))
    with pytest.raises(errors.InputError, match=message):
        train.train(Train(str(photos), **settings))


def test_a_misspelled_option_is_named_with_the_right_one(photos):
    with pytest.raises(errors.InputError, match="='minuts'. Did you mean minutes?"):
        keras_tl.train(str(photos), minuts=2)


def test_resume_takes_the_data_of_the_run_and_refuses_others(
    photos, tmp_path, call, monkeypatch, capsys
):
    settings = Train(str(photos), out=tmp_path / "run", epochs=3)
    run = config.start_run("train", settings, 0.0, {}).folder
    capsys.readouterr()
    monkeypatch.chdir(photos.parent)
    resumed = cli.settings_on_data("train", "photos", "--resume", str(run))
    assert resumed == dataclasses.replace(settings, resume=run)
    assert call("train", "others", "--resume", run) == 2
    assert "No folder or table is called 'others'" in capsys.readouterr().err
    (tmp_path / "others").symlink_to(photos)
    moved = cli.settings_on_data(
        "train", str(tmp_path / "others"), "--resume", str(run)
    )
    assert moved == dataclasses.replace(resumed, data=str(photos))
    assert call("train", "photos", "--resume", run, "--epochs", "4") == 2
    assert "no other flag can be given" in capsys.readouterr().err
    changed = dataclasses.replace(resumed, epochs=4, seed=1)
    with pytest.raises(errors.InputError, match=r"other settings: seed, epochs\."):
        config.start_run("train", changed, 0.0, {})


@pytest.mark.parametrize(
    "content", ["", "[{}]", "{}", '[{"name": [], "value": 1, "reason": ""}]']
)
def test_damaged_decisions_cost_a_warning(content, tmp_path):
    run = config.start_run("train", config.RunSettings(out=tmp_path / "run"), 0.0, {})
    resumed = dataclasses.replace(run, settings=config.RunSettings(resume=run.folder))
    (run.folder / "decisions.json").write_text(content)
    decisions = train.Decisions()
    decisions.add(planner.Decision("model", "frozen", "it is the best"))
    if content == "{}":
        decisions.keep(resumed)
    else:
        with pytest.warns(errors.InputWarning, match=r"decisions\.json is damaged"):
            decisions.keep(resumed)
    kept = json.loads((run.folder / "decisions.json").read_text())
    assert [one["name"] for one in kept] == ["model"]


@pytest.mark.parametrize("count", [0, 1, 2])
def test_data_that_are_too_few_are_refused(count, tmp_path, call, monkeypatch, capsys):
    place = tmp_path / "photos" / "only"
    place.mkdir(parents=True)
    for number in range(count):
        Image.fromarray(np.full((9, 9, 3), number * 9, "uint8")).save(
            place / f"{number}.png"
        )
    monkeypatch.chdir(tmp_path)
    assert call("train", "photos", "--image-size", "64") == 2
    assert "error: " in capsys.readouterr().err
    assert not (tmp_path / "runs").exists()


def test_the_image_size_is_the_largest_there_is_time_for():
    sizes = [
        planner.image_size(1000, 400, 96, 0.02, seconds).value
        for seconds in (1, 60, 200, 400, 10_000)
    ]
    assert sizes == sorted(sizes)
    assert sizes[0] == 96
    assert sizes[-1] == 224
    # Larger than they are, small images show no more.
    assert planner.image_size(1000, 32, 96, 0.02, 10_000).value == 128


def test_epochs_fill_the_time_and_are_left_out_where_it_is_short():
    assert planner.epochs(100, 9.9, 0).value == 10
    assert planner.epochs(100, 9.9, 20).value == 8
    assert planner.epochs(20, 9.9, 0).value == 0
    # Few images, of which an epoch has few steps, are seen more often.
    assert planner.epochs(1e6, 9.9, 0, steps=3).value == 100
    # An epoch of many steps is worth it by itself.
    assert planner.epochs(20, 9.9, 0, steps=200).value == 2
    assert planner.epochs(-5, 9.9, 0).value == 0
    assert planner.epochs(1e6, 9.9, 0).value == planner.MOST_EPOCHS


def test_of_more_images_than_there_is_time_for_a_part_is_drawn(colours):
    assert planner.limit(colours, 0.001, 1000) is None
    assert planner.limit(colours, 100, 1) is None
    pixels = np.zeros((20_000, 1, 1, 1), "uint8")
    large = Split(pixels, np.arange(20_000) % 3)
    data = dataclasses.replace(colours, train=large)
    decided = [planner.limit(data, 0.01, seconds).value for seconds in (60, 120, 600)]
    assert planner.FEWEST_EXAMPLES <= decided[0] < decided[1] < decided[2] < 20_000
    # Twice the time for twice the images, where the other splits are all used.
    assert decided[1] == pytest.approx(2 * decided[0], rel=0.05)
    drawn = planner.limited(data, decided[0], seed=0)
    assert len(drawn.train) == decided[0]
    assert drawn.test is colours.test or len(drawn.test) == len(colours.test)
    frozen = planner.limit(data, 0.01, 60, tunes=False).value
    assert frozen > 4 * decided[0]


def test_a_limit_that_leaves_a_class_without_examples_is_refused(colours):
    settings = Train("data", limit=2)
    with pytest.raises(errors.InputError, match="each of the 3 classes"):
        deciding.limited(settings, colours, 0.001, 1e9, train.Decisions())
    _, data = deciding.limited(
        dataclasses.replace(settings, limit=3), colours, 0.001, 1e9, train.Decisions()
    )
    assert len(np.unique(data.train.labels)) == 3


@pytest.mark.parametrize("rare", [60, 10, 5])
def test_rare_classes_are_named_with_what_helps(colours, rare, capsys, recwarn):
    labels = np.repeat([0, 1, 2], [60, 60, rare])
    images = np.random.default_rng(0).integers(0, 256, (len(labels), 8, 8, 3), "uint8")
    data = dataclasses.replace(colours, train=Split(images, labels))
    train.load(Train("data"), data, lambda count, side: 96, train.Decisions())
    shown = capsys.readouterr().out + str([one.message for one in recwarn])
    assert ("--class-weights" in shown) == (rare < 60)
    assert (f"60 and {rare}" in shown) == (rare < 60)


def test_rare_classes_that_are_weighted_need_no_note(colours, capsys):
    labels = np.repeat([0, 1, 2], [60, 60, 10])
    images = np.random.default_rng(0).integers(0, 256, (130, 8, 8, 3), "uint8")
    data = dataclasses.replace(colours, train=Split(images, labels))
    settings = Train("data", class_weights=True)
    train.load(settings, data, lambda count, side: 96, train.Decisions())
    assert "--class-weights" not in capsys.readouterr().out


def test_where_no_epoch_fits_no_decision_speaks_of_fine_tuning(
    colours, here, monkeypatch
):
    measured = speed.Speed(start=1.0, train=0.01, evaluate=0.01)
    monkeypatch.setattr(speed, "measure", lambda *given: measured)
    monkeypatch.setattr(speed, "forward", lambda *given: 0.001)
    settings = Train("data", minutes=0.01, kind="image")
    decisions = train.Decisions()
    end = train.end_of(settings, time.perf_counter())
    settings, data = train.prepare_data(settings, colours, end, decisions)
    model = train.build_model(settings, data)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", errors.InputWarning)
        settings = train.plan(settings, model, data, here.placement, end, decisions)
    assert (settings.epochs, settings.freeze) == (0, "all")
    assert decisions.value("freeze") == "all"
    assert decisions.value("learning_rate") is None


def test_settings_are_checked_before_anything_is_loaded():
    with pytest.raises(errors.InputError, match="epochs"):
        Train("photos", epochs=-1)
    with pytest.raises(errors.InputError, match="learning_rate"):
        Train("photos", learning_rate=0.0)


@pytest.mark.slow
def test_a_plan_is_what_train_would_do(photos, tmp_path, call, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    flags = ["--freeze", "block7a", "--augment", "none", "--image-size", "96"]
    assert call("plan", photos, *flags) == 0
    planned = json.loads((tmp_path / "plan.json").read_text())
    assert planned["epochs"] > 0
    assert planned["freeze"] == "block7a"
    assert not (tmp_path / "runs").exists()
    arguments = ["--config", "plan.json", "--epochs", "1", "--out", "run"]
    assert call("train", *arguments) == 0
    settings = json.loads((tmp_path / "run" / "config.json").read_text())
    same = {**settings, "epochs": planned["epochs"], "out": None}
    assert same == planned
    assert call("plan", photos, "--out", "plan.json") == 2
    assert "does not exist yet" in capsys.readouterr().err


def test_validation_chooses_by_accuracy_then_by_loss(colours, here):
    labels = colours.validation.labels
    right = 5 * np.eye(3)[labels]
    wrong = right.copy()
    wrong[0] = right[0][::-1] if labels[0] != 1 else 5 * np.eye(3)[0]
    outputs = {"sure": right, "wrong": 9 * wrong, "surer": 2 * right}
    outputs = {name: {"validation": logits} for name, logits in outputs.items()}
    assert train.best(outputs, colours, here) == "surer"
    del outputs["surer"]
    assert train.best(outputs, colours, here) == "sure"
    outputs["the same"] = outputs["sure"]
    assert train.best(outputs, colours, here) == "sure"
    assert "sure 1.000 (0.0" in train.reason_of(outputs, colours, here)


def test_images_that_do_not_fit_into_memory_have_a_size(photos, monkeypatch):
    monkeypatch.setattr(kinds, "has_room", lambda size: False)
    settings = Train(str(photos), backbone="efficientnet_lite0")
    end = time.perf_counter() + 600
    settings, data = train.prepare_data(settings, None, end, train.Decisions())
    assert settings.image_size in planner.SIZES
    side = settings.image_size
    assert data.train.read([0]).shape == (1, side, side, 3)
