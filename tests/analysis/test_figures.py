import matplotlib as mpl
import numpy as np
import pytest
from PIL import Image

from keras_tl import errors
from keras_tl.analysis import evaluation, figures
from keras_tl.training import rate_finder


def texts(figure):
    return " ".join(
        text.get_text()
        for text in figure.findobj(match=mpl.text.Text)
        if text.get_visible()
    )


def random_evaluation(classes, count=200):
    rng = np.random.default_rng(0)
    labels = rng.integers(0, classes, count)
    logits = rng.normal(size=(count, classes)) + 2 * np.eye(classes)[labels]
    names = [f"class {index}" for index in range(classes)]
    return evaluation.evaluate(labels, logits, names, train_labels=labels)


def random_confusion():
    result = random_evaluation(3)
    return figures.confusion(result.confusion, result.class_names)


def test_curves_show_every_epoch_of_both_splits_and_name_the_phases():
    history = {
        "accuracy": [0.1, 0.2, 0.3],
        "val_accuracy": [0.2, 0.2, 0.4],
        "loss": [3, 2, 1],
        "val_loss": [3, 3, 2],
    }
    figure = figures.curves(history, [("head", 2), ("fine-tuning", 1)])
    drawn = [
        line.get_ydata().tolist()
        for axes in figure.axes
        for line in axes.lines
        if len(line.get_ydata()) == 3
    ]
    assert sorted(drawn) == sorted(map(list, history.values()))
    for text in ("head", "fine-tuning", "training", "validation"):
        assert text in texts(figure)


def test_a_ring_marks_the_epochs_whose_weights_were_kept():
    history = {"val_accuracy": [0.1, 0.5, 0.3], "val_loss": [3.0, 1.0, 2.0]}
    left, right = figures.curves(history | {"kept": [0.0, 1.0, 0.0]}).axes
    for axes, value in ((left, 0.5), (right, 1.0)):
        (ring,) = axes.collections
        assert ring.get_offsets().tolist() == [[2, value]]
    assert "kept" in texts(left.figure)
    assert "kept" not in texts(figures.curves(history))


def test_a_test_of_learning_rates_names_what_it_suggests():
    rates = np.geomspace(1e-6, 1, 50)
    losses = 1 + np.cos(np.linspace(0, 4, 50))
    smoothed = rate_finder.smooth(losses)
    suggested = rate_finder.suggest(rates, smoothed)
    suggestions = dict(zip(("steepest", "valley"), suggested, strict=True))
    shown = texts(figures.learning_rates(rates, losses, smoothed, suggestions))
    for name, rate in suggestions.items():
        assert f"{name}, {rate:.1e}" in shown


@pytest.mark.parametrize("classes", [2, 10, 30])
def test_confusion_shows_counts_where_there_is_room(classes):
    result = random_evaluation(classes)
    shown = texts(figures.confusion(result.confusion, result.class_names)).split()
    largest = str(result.confusion.max())
    if classes <= 20:
        assert largest in shown
    assert "recall" in shown


def test_right_and_wrong_differ_by_more_than_colour():
    images = np.zeros((3, 8, 8, 3), "uint8")
    probabilities = np.array([[0.9, 0.1], [0.2, 0.8], [0.6, 0.4]])
    shown = texts(figures.predictions(images, probabilities, "ab", [0, 0, 0]))
    assert shown.count("right") == 2
    assert shown.count("wrong") == 1
    assert "right" not in texts(figures.predictions(images, probabilities, "ab"))


def test_comparison_shows_every_model_with_its_interval():
    rows = [("majority class", 0.1, None), ("frozen", 0.815, (0.795, 0.833))]
    shown = texts(figures.comparison(rows))
    for text in ("majority class", "frozen", "81.5", "79.5", "83.3"):
        assert text in shown


def test_saved_figure_is_a_picture_of_a_useful_size(tmp_path):
    figures.save(random_confusion(), tmp_path / "a.png")
    with Image.open(tmp_path / "a.png") as image:
        assert image.format == "PNG"
        assert min(image.size) > 200
    assert len(list(tmp_path.iterdir())) == 1


def test_no_figure_stays_behind():
    import matplotlib.pyplot as plt

    random_confusion()
    assert not plt.get_fignums()


def test_predicted_numbers_stand_against_the_true_ones_for_each_column():
    true = np.array([[1.0, 5.0], [2.0, 6.0]])
    figure = figures.true_against_predicted(true, true + 1, ["age", "height"])
    assert [axes.get_xlabel() for axes in figure.axes] == ["True age", "True height"]
    points = figure.axes[0].lines[-1]
    assert points.get_xdata().tolist() == [1.0, 2.0]
    assert points.get_ydata().tolist() == [2.0, 3.0]


def test_texts_are_shown_as_images_are():
    probabilities = np.array([[0.9, 0.1]])
    assert "a good film" in texts(
        figures.predictions(["a good film"], probabilities, "ab")
    )


def test_a_long_text_stays_inside_its_panel():
    long = "the plot of this film , which took me two hours , was dull " * 9
    figure = figures.grid([long, "short"], ["negative", "positive"])
    figure.draw_without_rendering()
    panel = figure.axes[0]
    (text,) = panel.texts
    assert text.get_text().endswith("...")
    around, inside = panel.get_window_extent(), text.get_window_extent()
    assert around.x0 < inside.x0 < inside.x1 < around.x1
    assert around.y0 < inside.y0 < inside.y1 < around.y1


def test_a_metric_that_is_no_accuracy_is_not_in_percent():
    rows = [("small", 2.5, (2.0, 3.0))]
    shown = texts(figures.comparison(rows, "mean_absolute_error"))
    assert "2.5  [2, 3]" in shown
    assert "Mean absolute error" in shown


def test_names_in_any_script_are_drawn_and_missing_fonts_named_once(tmp_path):
    names = ["caf\udce9", "$a$ _b", "日本"]
    result = random_evaluation(3)
    with pytest.warns(errors.InputWarning, match="squares in the figures") as caught:
        figures.save(figures.confusion(result.confusion, names), tmp_path / "a.png")
    assert len(caught) == 1
    # DejaVu Sans, which matplotlib brings, has these.
    figures.save(
        figures.confusion(result.confusion, ["Кошка", "γάτα", names[0]]),
        tmp_path / "b.png",
    )


def test_fonts_of_the_machine_are_taken_for_what_matplotlib_lacks(
    tmp_path, monkeypatch
):
    installed = ["DejaVu Sans", "Noto Sans CJK JP", "Comic Neue"]
    monkeypatch.setattr(figures.font_manager, "get_font_names", lambda: installed)
    figure = random_confusion()
    monkeypatch.setattr(figure, "savefig", lambda file, **options: None)
    figures.render(figure, tmp_path / "a.png")
    families = {tuple(t.get_fontfamily()) for t in figure.findobj(mpl.text.Text)}
    assert families == {("DejaVu Sans", "Noto Sans CJK JP")}


def test_the_picture_of_layers_tells_what_trains_from_what_is_frozen():
    rows = [("a", "Dense", 300, False), ("b", "Dense", 20, True)]
    shown = texts(figures.layers(rows))
    assert "frozen: 1 layer, 300 parameters" in shown
    assert "trains: 1 layer, 20 parameters" in shown


def test_size_and_accuracy_has_a_point_and_a_name_for_each_backbone():
    points = [("small", 1.0, 0.6, (0.5, 0.7)), ("large", 90.0, 0.8, (0.75, 0.85))]
    figure = figures.size_and_accuracy(points)
    (axes,) = figure.axes
    assert {text.get_text() for text in axes.texts} == {"small", "large"}
    assert axes.get_xscale() == "log"
    with pytest.raises(errors.InputError):
        figures.size_and_accuracy([])


def test_costs_of_parts_are_numbers_in_cells_and_the_part_at_fault_is_framed():
    rows = {"dark test": [0.0, 0.41], "none": [0.02, 0.0]}
    figure = figures.costs(rows, ("head", "shift"), {"dark test": "shift"})
    (axes,) = figure.axes
    shown = texts(figure).split()
    assert {"41", "2", "head", "shift"} <= set(shown)
    (frame,) = axes.patches
    assert frame.get_xy() == (0.5, -0.5)
