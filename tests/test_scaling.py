"""The arithmetic and the simulation of many GPUs agree with what is known exactly."""

import dataclasses
import json
import math

import keras
import numpy as np
import pytest

from benchmarks import pages, scaling, scaling_page, stragglers
from benchmarks.stragglers import constant, exponential, step_time

RESULT = json.loads((pages.RESULTS / "scaling" / "scaling.json").read_text())
GIVEN = scaling.Assumptions(**RESULT["assumptions"])


def test_the_page_is_what_the_results_say():
    text = scaling_page.PAGE.read_text()
    assert scaling_page.filled(text) == text
    shown = {(m["result"], m["table"]) for m in scaling_page.MARKER.finditer(text)}
    made = {(r, t) for r, tables in scaling_page.RESULTS.items() for t in tables}
    assert shown == made


def test_the_result_is_what_its_assumptions_come_to():
    models = [scaling.Model(**model) for model in RESULT["models"]]
    rows = scaling.compute(models, GIVEN)
    assert len(rows) == len(RESULT["rows"])
    for row, kept in zip(rows, RESULT["rows"], strict=True):
        assert row["waits_for"] == kept["waits_for"]
        assert row["seconds"] == pytest.approx(kept["seconds"])
    assert scaling.vision_transformer() == models[-1]


def test_what_the_page_concludes_follows():
    text = scaling_page.summary(RESULT)
    by_key = {(r["model"], r["task"], r["gpus"], r["slow"]): r for r in RESULT["rows"]}
    kept = by_key["VGG16", "last block on features", 64, False]
    again = by_key["VGG16", "last block", 64, False]
    assert kept["seconds"] > again["seconds"]
    assert "slower to read than to compute again" in text
    first, last = (by_key["ResNet50", "all of it", n, False] for n in (8, 512))
    assert last["waits_for"] == "reading"
    assert first["seconds"] / last["seconds"] < 64
    assert last["dollars"] > first["dollars"]
    assert by_key["ViT-B/16", "all of it", 512, True]["waits_for"] == "network"


def test_devices_differ_by_rounding_alone():
    path = pages.RESULTS / "equality" / "equality.json"
    for row in json.loads(path.read_text())["rows"]:
        assert row["weights"] < 10 * max(row["nudged"], 1e-6), row
        share = 0.3 if "bfloat16" in row["model"] else 0.01
        assert row["weights"] < share * row["moved"], row
        assert row["losses"] < 1e-3, row


def test_multiplications_are_those_of_a_count_by_hand():
    image = keras.Input((8, 8, 6))
    x = keras.layers.Conv2D(10, 3, strides=2, padding="same")(image)
    x = keras.layers.DepthwiseConv2D(3, padding="same")(x)
    x = keras.layers.GlobalAveragePooling2D()(x)
    model = keras.Model(image, keras.layers.Dense(5)(x))
    wanted = 16 * 9 * 6 * 10 + 16 * 9 * 10 + 10 * 5
    assert scaling.multiplications(model) == wanted


def test_counts_are_those_of_the_papers():
    models = {model["name"]: model for model in RESULT["models"]}
    # Multiplications with their additions, as the papers of ResNet, EfficientNet and
    # DeiT have them; of VGG16 without its dense layers.
    for name, billions in (
        ("VGG16", 15.3),
        ("ResNet50", 3.8),
        ("EfficientNetB0", 0.39),
        ("ViT-B/16", 17.6),
    ):
        assert models[name]["flops"] / 2e9 == pytest.approx(billions, rel=0.03)


def test_a_ring_moves_each_byte_twice_but_for_one_share():
    assert scaling.all_reduce(1e9, 2, 1e9, 0) == 1
    assert scaling.all_reduce(1e9, 512, 1e9, 0) == pytest.approx(2 * 511 / 512)
    assert scaling.all_reduce(0, 512, 1e9, 1e-6) == pytest.approx(1022e-6)


def test_a_step_waits_for_the_slowest_part():
    task = scaling.Task(
        flops=1e9, read=1e5, reduced=4e6, decodes=True, batch=100, share=0.1
    )
    plenty = dataclasses.replace(
        GIVEN, store=1e15, store_port=1e15, decoded_per_second=1e9
    )
    one, eight = (scaling.epoch(task, gpus, plenty) for gpus in (1, 8))
    assert one["step"] == 100 * 1e9 / (GIVEN.peak * 0.1)
    assert one["efficiency"] == 1
    ring = scaling.all_reduce(4e6, 8, GIVEN.nvlink * GIVEN.network_share, GIVEN.latency)
    assert eight["step"] == pytest.approx(one["step"] + ring)
    assert eight["seconds"] == pytest.approx(eight["step"] * GIVEN.images / 800)
    for name, field in (
        ("reading", "store"),
        ("reading", "store_port"),
        ("decoding", "decoded_per_second"),
    ):
        scarce = dataclasses.replace(plenty, **{field: 1e3})
        assert scaling.epoch(task, 8, scarce)["waits_for"] == name
    # Reading is shared by all: more GPUs are not faster.
    scarce = dataclasses.replace(plenty, store=1e3)
    some, more = (scaling.epoch(task, gpus, scarce)["seconds"] for gpus in (8, 512))
    assert some == pytest.approx(more) == pytest.approx(1e5 * GIVEN.images / 1e3)
    # A port of each machine is not: eight machines read eight times as fast.
    scarce = dataclasses.replace(plenty, store_port=1e3)
    some, more = (scaling.epoch(task, gpus, scarce)["seconds"] for gpus in (8, 64))
    assert some == pytest.approx(8 * more)


@pytest.mark.parametrize(("readers", "depth"), [(1, 1), (4, 2), (4, 8), (8, 8), (3, 0)])
@pytest.mark.parametrize("read", [0.5, 3.0, 20.0])
def test_without_variance_a_step_takes_exactly_what_it_takes(readers, depth, read):
    step = step_time(
        5,
        840,
        constant(1.0),
        reduce=0.25,
        read=constant(read),
        readers=readers,
        depth=depth,
    )
    # With nothing ahead one waits for the other; else the slower of them counts.
    ahead = max(1.25, read / min(readers, depth)) if depth else 1.25 + read
    assert step == pytest.approx(ahead, rel=0.02)


@pytest.mark.parametrize("gpus", [1, 8, 64])
def test_the_largest_of_exponential_times_is_the_harmonic_number(gpus):
    steps = 20_000
    wanted = sum(1 / k for k in range(1, gpus + 1))
    error = math.sqrt(sum(1 / k**2 for k in range(1, gpus + 1)) / (0.75 * steps))
    assert abs(step_time(gpus, steps, exponential(1.0)) - wanted) < 4 * error


def test_rare_stragglers_are_met_in_every_step_of_many():
    draw = stragglers.with_stragglers(constant(1.0), 0.01, 5.0)
    met = 1 - 0.99**100
    error = 4 * math.sqrt(met * (1 - met) / 7_500)
    assert abs(step_time(100, 10_000, draw) - (1 + 4 * met)) < 4 * error


def test_one_batch_ahead_hides_reading_that_is_shorter_than_a_step():
    # The mean of the larger of 1 and an exponential time of mean m.
    for mean in (0.3, 1.0, 2.0):
        step = step_time(1, 40_000, constant(1.0), read=exponential(mean), depth=1)
        wanted = 1 + mean * math.exp(-1 / mean)
        assert step == pytest.approx(wanted, abs=4 * mean / math.sqrt(30_000))


def test_reading_ahead_never_gives_more_than_what_is_read():
    for row in RESULT["simulated"]["reads"]:
        if row["times"] == "too slow":
            assert row["step"] > 0.98 * 10 / stragglers.READERS


def test_the_same_seed_gives_the_same_times():
    (kept,) = (
        row
        for row in RESULT["simulated"]["steps"]
        if (row["times"], row["gpus"]) == ("lognormal, 20 %", 64)
    )
    draw, _ = stragglers.STEPS["lognormal, 20 %"]
    assert step_time(64, 2000, draw) == pytest.approx(kept["step"])
    assert step_time(64, 2000, draw, seed=1) != step_time(64, 2000, draw)


def test_draws_have_the_mean_that_they_are_given():
    rng = np.random.default_rng(0)
    assert stragglers.lognormal(4.0, 0.5)(rng, 10**6).mean() == pytest.approx(
        4, rel=0.01
    )
