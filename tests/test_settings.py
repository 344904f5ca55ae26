"""What the settings of every recipe promise: values are checked, options explained."""

import dataclasses
import importlib
import math
import re
import typing
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from keras_tl import config, errors
from keras_tl.data.settings import AugmentSettings

ROOT = Path(__file__).parents[1]
RECIPES = sorted(path.stem for path in (ROOT / "recipes").glob("[!_]*.py"))
# Settings for which 0 has a meaning: none of it.
ZERO = {"seed", "augmented_copies", "leave_one_out", "penalty_scale", "label_weight"}
ZERO |= {"backbone_rate", "domain_weight", "fine_tune_epochs", "scratch_epochs"}
ZERO |= {"sparsity", "threshold", "update_blocks"}
# Recipes with a folder as a setting without a default.
FOLDERS = {
    "domain_adaptation_digits": ("data",),
    "domain_adaptation_pacs": ("data",),
    "minilm_sentiment": ("data", "weights"),
    "multi_task": ("data",),
    "resnet50_ants_bees": ("data",),
    "spoken_digits": ("data", "weights"),
    "sentiment_from_72_sentences": ("data",),
    "zero_shot_cifar10": ("glove",),
}


def load(name):
    return importlib.import_module(f"recipes.{name}").Config


def folders(name):
    return dict.fromkeys(FOLDERS.get(name, ()), ROOT)


def numbers_of(kind):
    """Return int or float, and whether a tuple of them is wanted, of a setting."""
    parts = typing.get_args(kind)
    for plain in (int, float):
        if kind is plain or plain in parts:
            return plain, typing.get_origin(kind) is tuple
    return None, False


def bad_values(name, field):
    number, several = numbers_of(field.type)
    values = {None: [], int: [-1, 1.5, "3", True], float: [-1.0, math.nan, math.inf]}
    values = list(values[number])
    # No block at all is fine-tuned in a fold: the head alone.
    alone = ("cross_validation", "pseudo_labels")
    of_none = field.name == "blocks" and name in alone
    if values and field.name not in ZERO and not of_none:
        values.append(0)
    return [(value,) if several else value for value in values]


BAD = [
    (name, field.name, value)
    for name in RECIPES
    for field in dataclasses.fields(load(name))
    for value in bad_values(name, field)
]


@pytest.mark.parametrize(("name", "setting", "value"), BAD)
def test_numbers_that_cannot_be_used_are_refused_by_the_settings(name, setting, value):
    with pytest.raises(errors.InputError, match=f"`{setting}`"):
        load(name)(**folders(name) | {setting: value})


def test_the_table_of_bad_numbers_is_about_every_recipe():
    assert {name for name, *_ in BAD} == set(RECIPES)
    assert len({setting for _, setting, _ in BAD}) > 30


@pytest.mark.parametrize(
    ("name", "setting", "value"),
    [
        ("distillation", "label_weight", 1.1),
        ("gradual_unfreezing", "decay", 1.1),
        ("minilm_sentiment", "decay", 1.1),
        ("quickstart", "seed", 2**31),
        ("quickstart", "choose_by", "f1"),
        ("quickstart", "precision", "float8"),
        ("quickstart", "augment", "flip"),
        ("quickstart", "bad_files", "ignore"),
        ("how_much_data", "labels", (20, 40)),
        ("how_much_data", "labels", (10, 40)),
        ("which_part_fails", "faults", ("none", "sabotage")),
        ("style_transfer", "backbone", "resnet50"),
        ("quickstart", "cache", "no"),
        ("gradual_unfreezing", "rates", 1e-3),
        ("resnet50_ants_bees", "report_on", "train"),
        ("cnn_cifar10", "weights", Path("absent.weights.h5")),
    ],
)
def test_other_values_that_cannot_be_used_are_refused_too(name, setting, value):
    with pytest.raises(errors.InputError, match=f"`{setting}`"):
        load(name)(**folders(name) | {setting: value})


@given(st.integers(-3, 3) | st.floats(-3, 3) | st.sampled_from([math.nan, math.inf]))
def test_a_count_is_taken_if_and_only_if_it_is_a_whole_number_of_its_range(value):
    fits = isinstance(value, int) and value >= 0
    try:
        taken = AugmentSettings("flip_and_crop", value)
    except errors.InputError:
        assert not fits
    else:
        assert fits
        assert taken.augmented_copies == value


def test_a_bad_number_on_the_command_line_leaves_no_folder(
    tmp_path, call, monkeypatch, capsys
):
    monkeypatch.chdir(tmp_path)
    for name in RECIPES:
        flags = [f"--{flag}={path}" for flag, path in folders(name).items()]
        assert call("run", name, *flags, "--seed=-1") == 2
        shown = capsys.readouterr().err
        assert "`seed` must be in [0, 2147483647]. Received: seed=-1" in shown
        assert "Loading" not in shown
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("name", RECIPES)
def test_every_option_has_a_help_text(name, capsys, monkeypatch):
    monkeypatch.setenv("COLUMNS", "100")
    with pytest.raises(SystemExit):
        config.parse(load(name), ["--help"])
    shown = re.sub(r"\x1b\[[0-9;]*m|[│|]", " ", capsys.readouterr().out)
    # An option, and all that stands before the next one.
    pieces = re.split(r"\n\s+(?=--)", shown)[1:]
    helps = {re.match(r"--([\w-]+)", piece).group(1): piece for piece in pieces}
    for field in dataclasses.fields(load(name)):
        text = helps[field.name.replace("_", "-")]
        words = re.sub(r"--[\w-]+|\([^)]*\)|\{[^}]*\}|\b[A-Z\[\]{}|]+\b", " ", text)
        assert re.search(r"[a-z]{3,}", words), f"--{field.name} of {name}: {text!r}"
