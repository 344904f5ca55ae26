import csv
import json

import keras
import numpy as np
import pytest

from keras_tl import errors, progress
from keras_tl.analysis import ranking
from keras_tl.commands import rank
from keras_tl.commands.settings import Rank


@pytest.fixture
def empty_keras(tmp_path, monkeypatch):
    """A folder of Keras without weights: only the embedded backbone is at hand."""
    monkeypatch.setenv("KERAS_HOME", str(tmp_path / "keras"))


@pytest.fixture
def weights(tmp_path):
    """A file of random weights of MobileNet, without its classifier."""
    keras.utils.set_random_seed(0)
    shape = (32, 32, 3)
    model = keras.applications.MobileNet(
        include_top=False, weights=None, input_shape=shape
    )
    model.save_weights(tmp_path / "random.weights.h5")
    return tmp_path / "random.weights.h5"


@pytest.mark.filterwarnings("ignore::keras_tl.errors.InputWarning")
def test_it_ranks_prints_and_writes(empty_keras, weights, call, tmp_path, capsys):
    out = tmp_path / "ranked"
    flags = ("--limit", 60, "--image-size", 32, "--out", out, "--score", "ridge")
    status = call(
        "rank",
        "cifar10_sample",
        *flags,
        "--weights",
        f"mobilenet={weights}",
    )
    shown = capsys.readouterr().out
    assert status == 0
    assert "efficientnet_lite0 has the highest expected accuracy" in shown
    assert "Too few ImageNet accuracies" in shown
    title, _, caption = shown.partition("Expected accuracy on frozen features")
    # A file is no wider than the names in the table need.
    assert max(map(len, title.splitlines()[-8:])) <= 80
    assert "--out FOLDER writes all scores" in " ".join(caption.split())
    assert (
        "To train efficientnet_lite0: keras-tl train cifar10_sample "
        "--backbone efficientnet_lite0 --image-size 32\n"
    ) in shown
    result = json.loads((out / "ranking.json").read_text())
    assert result["choice"] == "efficientnet_lite0"
    assert result["decision"] == "ridge"
    assert result["settings"]["limit"] == 60
    assert {"machine", "versions", "date", "seed", "data"} <= set(result)
    with open(out / "ranking.csv", newline="") as file:
        rows = list(csv.DictReader(file))
    assert [row["name"] for row in rows] == [
        "efficientnet_lite0",
        "mobilenet, random",
    ]
    assert float(rows[0]["LogME"]) > float(rows[1]["LogME"])
    assert (out / "ranking.png").stat().st_size > 5000


def test_wrong_arguments_end_in_one_sentence_and_leave_nothing(call, tmp_path, capsys):
    out = tmp_path / "ranked"
    for flags, wanted in (
        (["--backbones", "mobilenet_v9"], "Did you mean mobilenet_v2"),
        (["--backbones", "mobilenet:0.3"], "mobilenet:0.25 or mobilenet:0.5"),
        (["--backbones", "vgg16:0.5"], "vgg16 has one width"),
        (["--weights", "vgg16"], "NAME=FILE"),
        (["--weights", "vgg16=absent.h5"], "an existing file"),
        (["--image-size", "8"], "at least 32"),
        (["--seed", "-1"], "seed"),
        (["--score", "guess"], "invalid choice"),
    ):
        status = call("rank", "digits", "--out", out, *flags)
        assert status == 2, flags
        ended = capsys.readouterr()
        assert wanted in ended.err + ended.out, flags
        assert not out.exists()


def test_what_is_named_replaces_what_is_at_hand(empty_keras, weights):
    def names(**options):
        return [
            one.name for one in rank.chosen(Rank(data="digits", **options), "image")
        ]

    assert names() == ["efficientnet_lite0"]
    assert names(backbones=("vgg16", "mobilenet:0.25", "mobilenet:1.0")) == [
        *("vgg16", "mobilenet 0.25", "mobilenet")
    ]
    assert names(weights=(f"mobilenet:torch={weights}",)) == [
        *("efficientnet_lite0", "mobilenet, random")
    ]
    given = rank.chosen(
        Rank(data="digits", weights=(f"mobilenet:torch={weights}",)), "image"
    )
    assert given[-1].preprocessing == "torch"


def test_the_table_fits_into_80_columns(monkeypatch, capsys):
    names = {"inception_resnet_v2": 0.803, "hub:vit_base_patch16_224_imagenet": None}
    numbers = {"low": 0.95, "high": 1.0, "megabytes": 1343.2, "seconds": 3600.5}
    rows = [
        row(name, 1, 1.0, 10, imagenet_accuracy=accuracy, **numbers)
        for name, accuracy in names.items()
    ]
    monkeypatch.setenv("COLUMNS", "80")
    progress.console().print(rank.table(rows, "logistic"))
    lines = capsys.readouterr().out.splitlines()
    assert max(map(len, lines)) <= 80
    for cell in ("inception_resnet_v2", "100.0", "95.0 to 100.0", "80.3 (10)", "1,343"):
        assert any(f" {cell} " in line for line in lines), cell


def row(name, rank, accuracy, imagenet, **others):
    return {
        "name": name,
        "rank": rank,
        "expected_accuracy": accuracy,
        "imagenet_rank": imagenet,
        "tied_with_first": False,
        **others,
    }


def test_the_baseline_is_compared():
    rows = [row("a", 1, 0.9, 2), row("b", 2, 0.8, 1)]
    assert "would have chosen b: 10.0 points less." in rank.baseline(rows)
    rows = [row("a", 1, 0.9, 1), row("b", 2, 0.8, 2)]
    assert "begins with a as well" in rank.baseline(rows)
    rows = [row("a", 1, 0.9, 2), row("b", 2, 0.89, 1, tied_with_first=True)]
    assert "within chance" in rank.baseline(rows)


def test_a_preset_of_keras_hub_is_a_candidate(tmp_path):
    import keras_hub

    backbone = keras_hub.models.ViTBackbone((32, 32, 3), 8, 1, 2, 16, 32)
    backbone.save_to_preset(tmp_path / "tiny_vit")
    converter = keras_hub.layers.ViTImageConverter((32, 32), 1 / 255)
    converter.save_to_preset(tmp_path / "tiny_vit")
    settings = Rank(data="digits", backbones=(f"hub:{tmp_path / 'tiny_vit'}",))
    (candidate,) = rank.chosen(settings, "image")
    assert (candidate.name, candidate.image_size) == ("tiny_vit", 32)
    assert candidate.imagenet_accuracy is None
    model = ranking.pooled(candidate.load(None), 10)
    assert model(np.zeros((1, 32, 32, 3))).shape == (1, 16)
    with pytest.raises(errors.InputError, match=r"config\.json"):
        rank.chosen(Rank(data="digits", backbones=(f"hub:{tmp_path}",)), "image")


def test_texts_are_ranked_on_the_command_line(
    reviews, tiny_bert, call, capsys, tmp_path
):
    out = tmp_path / "ranked"
    flags = ("--backbones", tiny_bert, "--out", out)
    assert call("rank", reviews, *flags) == 0
    shown = " ".join(capsys.readouterr().out.split())
    assert "bag of words has the highest expected accuracy: 100.0 %" in shown
    assert "Without pretraining, bag of words reaches 100.0 %" in shown
    assert "ImageNet" not in shown
    assert (out / "ranking.png").stat().st_size > 5000
    rows = json.loads((out / "ranking.json").read_text())["candidates"]
    assert [row["is_baseline"] for row in rows] == [True, False]


def test_what_means_nothing_for_texts_or_sound_is_named(
    reviews, tones, tiny_bert, call, capsys
):
    for data, flags, sentence in (
        (reviews, ("--image-size", 64), "be left out for texts"),
        (reviews, ("--weights", f"speech_embedding={tiny_bert}"), "--backbones FOLDER"),
        (tones, ("--backbones", tiny_bert), "--weights speech_embedding=FOLDER"),
        (tones, ("--weights", f"vgg16={tiny_bert}"), "be speech_embedding=FOLDER"),
    ):
        assert call("rank", data, *flags) == 2
        assert sentence in capsys.readouterr().err
    assert call("rank", reviews) == 0
    assert "Nothing pretrained was ranked" in capsys.readouterr().out
