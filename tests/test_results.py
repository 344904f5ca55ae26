"""results/update.py says what the files in results/ hold, no more and no less."""

from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]


@pytest.fixture
def update(script):
    """The script results/update.py, as a module."""
    return script("results/update.py")


def trial(validation, accuracy, **settings):
    measured = {"validation": validation, "accuracy": accuracy, "seconds": 20.4}
    return settings | {"trainable": 7, "epochs": 3} | measured


def study(trials, by, over=()):
    return {"trials": trials, "by": by, "over": list(over), "compared": "way"}


def test_a_study_of_methods_has_a_row_for_each(update):
    trials = [
        trial(0.5, 0.40, way="plain", seed=0),
        trial(0.5, 0.60, way="plain", seed=1),
        trial(0.9, 0.55, way="gradual", seed=0),
    ]
    assert update.rows([study(trials, ["way"])]) == [
        ("plain", "0.500 (0.400 to 0.600, 2 seeds), 20 s each"),
        ("gradual", "0.550, 20 s each"),
    ]


def test_validation_chooses_the_other_settings_of_a_way(update):
    trials = [
        trial(0.5, 0.9, way="plain", rate=0.001, seed=0),
        trial(0.6, 0.8, way="plain", rate=0.01, seed=0),
        trial(0.7, 0.7, way="gradual", rate=0.001, seed=0),
        trial(0.6, 0.6, way="gradual", rate=0.01, seed=0),
    ]
    assert update.rows([study(trials, ["way"], ["rate"])]) == [
        ("plain (rate 0.01)", "0.800, 20 s each"),
        ("gradual (rate 0.001)", "0.700, 20 s each"),
    ]


def test_ways_under_several_settings_have_a_row_for_each(update):
    trials = [
        trial(0.5, 0.25 * number, labels=labels, way=way, seed=0)
        for number, (labels, way) in enumerate(
            (labels, way) for labels in (10, 1000) for way in ("probe", "tuned")
        )
    ]
    assert update.rows([study(trials, ["labels", "way"])]) == [
        ("10 labels, probe", "0.000, 20 s each"),
        ("10 labels, tuned", "0.250, 20 s each"),
        ("1,000 labels, probe", "0.500, 20 s each"),
        ("1,000 labels, tuned", "0.750, 20 s each"),
    ]


def test_settings_that_are_words_stand_alone(update):
    trials = [trial(0.5, 0.5, task="domain", way="alone", seed=0)]
    assert update.rows([study(trials, ["task", "way"])]) == [
        ("domain, alone", "0.500, 20 s each")
    ]


def test_gains_are_over_the_base_of_the_study_and_have_intervals(update):
    found = {"alone": (0.50, 0.60), "together": (0.55, 0.65)}
    trials = [
        trial(0.5, accuracy, task="class", way=way, seed=seed)
        for way, accuracies in found.items()
        for seed, accuracy in enumerate(accuracies)
    ]
    # One seed has no interval: it says nothing.
    trials.append(trial(0.5, 0.9, task="class", way="other", seed=0))
    record = {
        "trials": trials,
        "by": ["task", "way"],
        "over": [],
        "compared": "way",
        "base": "alone",
        "recipe": "a new recipe",
        "config": {"data": "pacs", "backbone": "vgg16", "image_size": 96},
        "data": {"counts": {"train": 8, "test": 4}},
        "seconds": 1.0,
        "date": "2026-01-01",
        "machine": {"cores": 1, "processor": "a processor"},
        "versions": {"keras": "3", "tensorflow": "2"},
    }
    table = update.gains([[record]])
    assert table.splitlines()[0] == "pacs, 8 train, 4 test; vgg16, 96 px; beside alone:"
    assert table.splitlines()[2:] == [
        "| task | method | gain | 95 % interval |",
        "| --- | --- | --- | --- |",
        "| class | together | +0.050 | +0.050 to +0.050 |",
    ]
    assert update.gains([]) == "Not measured yet.\n"


def test_a_result_names_its_data_and_the_cores_it_had(update):
    (record,) = update.load()["multi_task"][0]
    assert update.facts([record])["images"].startswith("pacs, ")
    one = record | {"machine": {"cores": 1, "processor": "a processor"}}
    assert update.facts([one])["machine"] == "1 core, a processor"


def test_folds_are_not_called_seeds(update):
    trials = [trial(None, value, way="head", fold=value) for value in (0.5, 0.7)]
    assert update.rows([study(trials, ["way"])]) == [
        ("head", "0.600 (0.500 to 0.700, 2 folds), 20 s each"),
    ]


def test_a_study_of_freeze_points_has_its_ends_and_what_validation_chose(update):
    trials = [
        trial(validation, accuracy, images=1000, blocks=blocks, seed=seed)
        for seed in (0, 1)
        for blocks, validation, accuracy in [
            (0, 0.5, 0.50),
            (1, 0.6, 0.61),
            (2, 0.9, 0.62),
            (3, 0.7, 0.63),
        ]
    ]
    by = ["images", "blocks"]
    assert update.rows([{"trials": trials, "by": by, "over": []}]) == [
        ("1,000 images: the head alone", "0.500 (0.500 to 0.500, 2 seeds)"),
        (
            "1,000 images: the last 2 blocks, chosen by validation",
            "0.620 (0.620 to 0.620, 2 seeds)",
        ),
        ("1,000 images: everything", "0.630 (0.630 to 0.630, 2 seeds)"),
    ]


def test_runs_of_different_sizes_have_files_of_their_own(update):
    names = {
        update.variant({"config": {"backbone": "vgg16", "images": images}})
        for images in (500, 2000)
    }
    assert names == {"vgg16-500", "vgg16-2000"}


def test_every_committed_result_says_what_it_is(update):
    for groups in update.load().values():
        for records in groups:
            for record in records:
                assert record["title"].endswith(".")
                assert update.settings(record)


def test_markers_decide_which_tables_a_page_has(update):
    results = update.load()
    page = "a\n<!-- gains: few_labels -->\nold\n<!-- /gains -->\nb\n"
    text = update.filled(page, results)
    assert text.startswith("a\n<!-- gains: few_labels -->\ncifar10_sample")
    assert text.endswith("<!-- /gains -->\nb\n")
    assert "old" not in text
    assert update.filled(text, results) == text


@pytest.mark.parametrize(
    ("marker", "message"), [("gians: few_labels", "gians"), ("gains: many", "many")]
)
def test_a_marker_that_is_not_known_is_named(update, marker, message):
    kind = marker.partition(":")[0]
    with pytest.raises(SystemExit, match=message):
        update.filled(f"<!-- {marker} -->\n<!-- /{kind} -->", update.load())


def run(accuracy, seconds=60.0, seed=0, **config):
    result = {"accuracy": accuracy, "accuracy_interval": [accuracy, accuracy]}
    metrics = {"majority_baseline": 0.1, "models": {"frozen": result, "tuned": result}}
    return {
        "metrics": metrics,
        "seconds": seconds,
        "seed": seed,
        "date": "2026-01-02",
        "config": {"backbone": "tiny", "dataset": "digits", **config},
        "data": {"counts": {"train": 8, "test": 4}},
        "machine": {"processor": "CPU", "cores": 2},
        "versions": {"keras": "3", "tensorflow": "2"},
    }


def test_the_headline_is_what_a_recipe_ends_with_at_its_usual_settings(update):
    usual = [run(0.5, seconds) for seconds in (50.0, 290.0, 310.0)]
    other = [run(0.9, precision="mixed_bfloat16") for _ in range(3)]
    assert update.headline([other, usual]) == ("0.500 ± 0.000, tuned", "5")
    assert update.headline([[run(0.9)], usual])[0] == "0.500 ± 0.000, tuned"
    assert update.headline([]) == ("not measured", "")
    # The number of settings decides, not the length of their names.
    sample = run(0.4) | {"config": {"backbone": "tiny", "dataset": "cifar10_sample"}}
    assert update.headline([[sample], [run(0.9)]])[0] == "0.400 ± 0.000, tuned"


def test_a_recipe_says_the_first_of_its_results_and_where_the_others_are(update):
    shown = update.expected([[run(0.5)], [run(0.9, precision="mixed_bfloat16")]])
    assert "frozen 0.500" in shown
    assert "majority class" not in shown
    assert "0.900" not in shown
    assert shown.endswith("more in docs/results.md")
    assert "more in" not in update.expected([[run(0.5)]])
    many = [trial(0.5, 0.5, way=f"way {n}", seed=0) for n in range(9)]
    record = run(0.5) | study(many, ["way"])
    del record["metrics"]
    assert update.expected([[record]]).count("way") == update.MOST_EXPECTED


def sentences(seed, accuracies, **config):
    """A record of a run of minilm_sentiment, as far as the tables look at it."""
    models = {
        name: {"accuracy": value, "accuracy_interval": [value - 0.1, value + 0.1]}
        for name, value in accuracies.items()
    }
    return {
        "recipe": "minilm_sentiment",
        "seed": seed,
        "config": config,
        "metrics": {"majority_baseline": 0.5, "models": models},
    }


def test_a_phase_that_validation_rejected_counts_as_the_model_before_it(update):
    records = [
        sentences(0, {"frozen": 0.6, "fine-tuning": 0.8}),
        sentences(1, {"frozen": 0.7}),
    ]
    for given in (records, records[::-1]):
        assert update.rows(given) == [
            ("majority class", "0.500"),
            ("frozen", "0.650 ± 0.100 (0.600 to 0.700, 2 seeds)"),
            ("fine-tuning", "0.750 ± 0.100 (0.700 to 0.800, 2 seeds)"),
        ]


def test_labels_and_method_name_a_file_where_they_are_not_the_usual_ones(update):
    usual = {"data": "sst2", "labels": 160, "method": "fine-tuning"}
    assert update.variant(sentences(0, {}, **usual)) == "sst2"
    other = usual | {"labels": 16, "method": "sentence pairs"}
    assert update.variant(sentences(0, {}, **other)) == "sst2-16-sentence_pairs"
    every = sentences(0, {}, **usual | {"labels": None})
    assert update.variant(every) == "sst2-all"
    study = sentences(0, {}, data="a", labels=[10, 25]) | {"recipe": "few_labels"}
    assert update.variant(study) == "a"


def test_models_judged_twice_have_a_row_for_each_seed(update):
    record = sentences(3, {"GloVe": 0.6})
    few = {"right": 2, "count": 2, "interval": [0.158, 1.0]}
    record["metrics"]["few"] = {"GloVe": few}
    *_, row = update.judged_twice([[record]]).splitlines()
    assert row == ("| 3 | GloVe | 2 of 2 | 0.158 to 1.000 | 0.600 | 0.500 to 0.700 |")
