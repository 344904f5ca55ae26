"""The results of a run side by side."""

import numpy as np
import pytest
from PIL import Image

from keras_tl.analysis import evaluation, multi_label, summary
from keras_tl.data.splits import Split
from keras_tl.data.text import Texts


def test_predictions_carry_the_names_of_their_files(tmp_path):
    paths = [tmp_path / f"{index}.png" for index in range(2)]
    for path in paths:
        Image.fromarray(np.zeros((4, 4, 3), "uint8")).save(path)
    split = Split(paths, [0, 1])
    own = evaluation.evaluate([0, 1], [[np.log(3), 0], [np.log(3), 0]], ["a", "b"])
    assert summary.prediction_rows(own, split) == [
        {
            "file": str(path),
            "label": label,
            "prediction": "a",
            "probability": "0.750000",
        }
        for path, label in zip(paths, ["a", "b"], strict=True)
    ]


def test_predictions_of_several_labels_have_a_pair_of_columns_for_each():
    labels = np.float32([[1, 0], [0, 1]])
    split = Split(Texts(("good", "bad")), labels)
    own = multi_label.evaluate(labels, np.float32([[9, 0], [-9, 0]]), ["x", "y"])
    first, second = summary.prediction_rows(own, split)
    assert first["text"] == "good"
    assert (first["x"], first["y"], first["y, predicted"]) == ("1", "0", "0.5")
    assert float(second["x, predicted"]) == pytest.approx(1 / (1 + np.exp(9)), rel=1e-4)


def test_what_validation_rejected_is_not_compared_with_itself():
    models = {"scratch": 0, "frozen": 1, "tuned": 2}
    kept, rejected = {"kept": [0.0, 1.0]}, {"kept": [0.0, 0.0]}
    assert summary.without_rejected(models, {"scratch": kept, "tuned": kept}) == models
    left = summary.without_rejected(models, {"scratch": {}, "tuned": rejected})
    assert left == {"frozen": 1}


def test_labels_that_are_all_right_are_not_said_to_be_so_for_certain():
    labels = np.float32([[1, 0], [0, 1]] * 10)
    result = multi_label.evaluate(labels, 18 * labels - 9, ["x", "y"])
    low, high = result.interval
    assert (result.value, high) == (1, 1)
    # One wrong image of twenty would not be surprising.
    assert 0.8 < low < 0.9
