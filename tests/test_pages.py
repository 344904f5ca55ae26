"""The code on the pages of the documentation is run, and its commands are read."""

import configparser
import importlib
import re
import shlex
import shutil
import sys
from pathlib import Path

import keras
import numpy as np
import pytest
import soundfile
from PIL import Image

from keras_tl import cli, config, errors
from keras_tl.data import datasets
from keras_tl.models import freezing, heads
from keras_tl.training import phases, placement
from recipes import quickstart

pytestmark = [
    pytest.mark.slow,
    pytest.mark.filterwarnings("ignore::keras_tl.errors.InputWarning"),
]
ROOT = Path(__file__).parents[1]
PAGES = [
    ROOT / "README.md",
    *sorted(ROOT.glob("docs/*.md")),
    *sorted(ROOT.glob("docs/how_to/*.md")),
]
BLOCK = re.compile(r"^```(\w+)\n(.*?)^```", re.MULTILINE | re.DOTALL)


def name_of(path):
    return path.relative_to(ROOT).as_posix()


def blocks(path, language):
    """Return the blocks of code of one language on a page."""
    found = BLOCK.findall(path.read_text(encoding="utf-8"))
    return [code for kind, code in found if kind == language]


def commands():
    """Return every command on the pages, with its page."""
    for path in PAGES:
        for code in blocks(path, "shell"):
            for line in code.replace("\\\n", " ").splitlines():
                for command in line.split(" && "):
                    yield pytest.param(command, id=f"{name_of(path)}: {command}")


@pytest.fixture(scope="module")
def images_and_labels():
    """Images of two classes that can be told apart."""
    labels = np.arange(80) % 2
    images = np.random.default_rng(0).integers(0, 100, (80, 32, 32, 3))
    return (images + 100 * labels[:, None, None, None]).astype("uint8"), labels


def seven_blocks():
    """A small backbone with seven blocks."""
    x = image = keras.Input((96, 96, 3))
    for number in range(1, 8):
        strides = 2 if number < 6 else 1
        convolution = keras.layers.Conv2D(
            4, 3, strides, "same", name=f"block{number}_conv"
        )
        x = convolution(x)
        x = keras.layers.BatchNormalization(name=f"block{number}_bn")(x)
    return keras.Model(image, x)


@pytest.fixture(scope="module")
def folder(tmp_path_factory, images_and_labels):
    """A folder with what the pages name: photos, and a run."""
    folder = tmp_path_factory.mktemp("pages")
    images, labels = images_and_labels
    for number, (image, label) in enumerate(zip(images, labels, strict=True)):
        of_class = folder / "my_photos" / ("cats", "dogs")[label]
        of_class.mkdir(parents=True, exist_ok=True)
        Image.fromarray(image).save(of_class / f"{number}.png")
    for number in range(12):
        of_class = folder / "my_sounds" / ("no", "yes")[number % 2]
        of_class.mkdir(parents=True, exist_ok=True)
        wave = np.random.default_rng(number).uniform(-0.5, 0.5, 4_000)
        soundfile.write(of_class / f"{'abc'[number % 3]}_{number}.wav", wave, 8_000)
    shutil.copy(folder / "my_photos/cats/0.png", folder / "photo.jpg")
    shutil.copy(folder / "my_photos/cats/0.png", folder / "new_photo.jpg")
    for name in ("openwakeword/embedding_model.tflite", "whisper-tiny.en/config.json"):
        (folder / name).parent.mkdir()
        (folder / name).touch()
    for name in ("vgg16.weights.h5", "vgg16_notop.weights.h5", "scans.csv"):
        (folder / name).touch()
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("KERAS_TL_CACHE", str(folder / "cache"))
        patch.chdir(folder)
        quickstart.main(
            quickstart.Config(
                limit=40, image_size=32, epochs=1, fine_tune_epochs=0, scratch_epochs=0
            )
        )
        # The first prediction converts the model.
        patch.setattr(
            sys, "argv", ["keras-tl", "predict", "runs/quickstart", "photo.jpg"]
        )
        cli.main()
        for name in ("quickstart-2", "train"):
            shutil.copytree("runs/quickstart", f"runs/{name}")
    return folder


@pytest.mark.parametrize(
    "path", [path for path in PAGES if blocks(path, "python")], ids=name_of
)
def test_the_python_of_a_page_runs(
    path, folder, images_and_labels, tmp_path, monkeypatch
):
    shutil.copytree(folder, tmp_path / "here")
    monkeypatch.chdir(tmp_path / "here")
    images, labels = images_and_labels
    names = {"images": images, "labels": labels}
    if path.parent.name == "how_to":
        # As docs/start.md has it, with a backbone that is built in a second.
        data = datasets.from_arrays((images, labels)).at_size(96)
        backbone = seven_blocks()
        freezing.freeze(backbone)
        model = heads.attach(backbone, len(data.class_names))
        setup = phases.Setup(placement.choose())
        names |= {"data": data, "backbone": backbone, "model": model, "setup": setup}
    for code in blocks(path, "python"):
        exec(compile(code, name_of(path), "exec"), names)


@pytest.mark.parametrize("command", commands())
def test_a_command_of_a_page_is_one_that_works(
    command, folder, tmp_path, monkeypatch, capsys, request
):
    program, *arguments = shlex.split(command)
    if program in ("pip", "pytest"):
        known = configparser.ConfigParser()
        known.read(ROOT / "setup.cfg")
        for extras in re.findall(r"\[([\w,]+)\]", command):
            assert set(extras.split(",")) <= set(known["options.extras_require"])
        return
    assert program == "keras-tl"
    shutil.copytree(folder, tmp_path / "here")
    monkeypatch.chdir(tmp_path / "here")
    if "all-MiniLM-L6-v2" in arguments:
        encoder = request.getfixturevalue("tiny_bert")
        (tmp_path / "here/all-MiniLM-L6-v2").symlink_to(encoder)
        shutil.copytree(request.getfixturevalue("reviews"), tmp_path / "here/my_texts")
    if arguments[0] in cli.COMMANDS:
        # Likewise; tests/commands runs them.
        cli.settings_on_data(*arguments)
        return
    if arguments[0] == "cluster":
        cli.cluster_settings(arguments[1:])
        return
    if arguments[0] != "run":
        monkeypatch.setattr(sys, "argv", ["keras-tl", *arguments])
        cli.main()
        return
    # Its settings are made, with all their checks; tests/test_recipes.py runs recipes.
    if "--resume" in arguments:
        (tmp_path / "here/runs/quickstart/manifest.json").unlink()
    recipe = importlib.import_module(f"recipes.{arguments[1]}")
    if "--help" in arguments:
        with pytest.raises(SystemExit, match="0"):
            config.parse(recipe.Config, arguments[2:])
        assert "--limit" in capsys.readouterr().out
        return
    config.parse(recipe.Config, arguments[2:])


def test_a_flag_that_does_not_exist_would_be_found(folder, monkeypatch):
    monkeypatch.chdir(folder)
    with pytest.raises(SystemExit, match="2"):
        config.parse(quickstart.Config, ["--fine-tune-epoch", "3"])
    with pytest.raises(errors.InputError, match="exists"):
        config.parse(quickstart.Config, ["--data", "not_there"])
