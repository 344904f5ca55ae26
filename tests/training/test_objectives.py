"""Whatever is learned from labels: trained, resumed, evaluated and saved alike."""

import dataclasses
import json
from dataclasses import dataclass

import keras
import numpy as np
import pytest
from keras import ops

from keras_tl import config, errors
from keras_tl.analysis import evaluation, summary
from keras_tl.config import RunSettings
from keras_tl.data import pipeline, splits
from keras_tl.data.splits import Split, Splits
from keras_tl.deploy import artifact, run_folder
from keras_tl.models import freezing, heads
from keras_tl.training import objectives, phases
from keras_tl.training.objectives import (
    MultiLabel,
    Objective,
    Regression,
    SingleLabel,
)
from keras_tl.training.terms import Term


def several(colours):
    """Two labels of each image: whether it is red, and whether it is not blue."""

    def change(split):
        rows = np.stack([split.labels == 0, split.labels != 2], axis=1)
        return dataclasses.replace(split, labels=rows.astype("float32"))

    names = ("red", "warm")
    return _relabelled(colours, change, names)


def numbers(colours):
    """One number to be predicted of each image."""

    def change(split):
        return dataclasses.replace(split, labels=np.float32([0, 1, 3])[split.labels])

    return _relabelled(colours, change, ("hue",))


def _relabelled(data, change, names):
    changed = {name: change(split) for name, split in data.items()}
    return Splits(**changed, class_names=names, origin="A toy set.")


def focal(labels, logits):
    """Lin et al., 2017, arXiv:1708.02002, with gamma = 2."""
    logs = ops.log_softmax(logits)
    return -ops.sum(labels * (1 - ops.exp(logs)) ** 2 * logs, axis=-1)


CASES = {
    "own loss": (SingleLabel(own_loss=focal), lambda colours: colours),
    "multi-label": (MultiLabel(), several),
    "regression": (Regression(), numbers),
}


# Own losses and numbers go the same way through the code that trains.
FAST = "multi-label"


@pytest.fixture(
    params=[
        pytest.param(name, marks=() if name == FAST else pytest.mark.slow)
        for name in CASES
    ]
)
def case(request, colours, here):
    objective, change = CASES[request.param]
    data = change(colours)
    return data, dataclasses.replace(here, objective=objective, batch_size=16)


def build(make_backbone, data):
    keras.utils.set_random_seed(0)
    backbone = make_backbone()
    x = keras.layers.Flatten(name="flatten")(backbone.output)
    model = heads.classify(backbone, x, len(data.class_names), dropout=0.0)
    # BatchNormalization stays frozen: it would see all rows, whatever they weigh.
    freezing.unfreeze(model)
    return model


class Killed(Exception):
    """Ends a phase as a kill does: nothing is cleaned up."""


def killed_after(epochs):
    def on_epoch_end(epoch, logs):
        if epoch + 1 == epochs:
            raise Killed

    return keras.callbacks.LambdaCallback(on_epoch_end=on_epoch_end)


def fit_with(monkeypatch, callback):
    fit = keras.Model.fit

    def with_callback(self, *arguments, callbacks, **options):
        return fit(self, *arguments, callbacks=[*callbacks, callback], **options)

    monkeypatch.setattr(keras.Model, "fit", with_callback)


def same(one, other):
    return all(map(np.array_equal, one.get_weights(), other.get_weights()))


def without_time(history):
    return {name: values for name, values in history.items() if name != "seconds"}


def test_it_learns_is_evaluated_saved_and_loaded(case, make_backbone, tmp_path):
    data, setup = case
    model = build(make_backbone, data)
    phase = phases.Phase(30, 0.02, patience=30)
    history = phases.fit(model, data, setup, phase)
    metric = setup.objective.metric
    assert {"loss", metric, f"val_{metric}", "kept"} <= set(history)
    results = summary.evaluate_models(
        {"start": (build(make_backbone, data), data.test), "model": (model, data.test)},
        data,
        setup.objective,
    )
    own = results["model"]
    gain = own.value - own.baseline
    assert (gain if metric == "accuracy" else -gain) > 0.1
    low, high = own.interval
    assert low <= own.value <= high
    compared = evaluation.compare(results["start"], own)
    assert compared.verdict.startswith("significantly better")

    settings = RunSettings(out=tmp_path / "run")
    run = config.start_run("test", settings, 0.0, splits.describe(data))
    run_folder.save(
        run,
        model,
        data=data,
        results=results,
        histories={"head": history},
        objective=setup.objective,
    )
    manifest = json.loads((run.folder / "manifest.json").read_text())
    assert manifest["objective"] == setup.objective.name
    assert own.format(own.value) in (run.folder / "report.html").read_text()
    pixels = data.test.inputs.pixels
    loaded = artifact.load(run.folder)
    wanted = loaded.rules.values(own.logits, setup.objective.activation)
    np.testing.assert_allclose(loaded.predict(pixels), wanted, atol=1e-5)


@pytest.mark.slow
def test_killed_and_resumed_it_is_what_it_would_have_been(
    case, make_backbone, tmp_path, monkeypatch
):
    data, setup = case
    phase = phases.Phase(4, 0.01)
    straight = build(make_backbone, data)
    history = phases.fit(straight, data, setup, phase)
    setup = dataclasses.replace(setup, state=tmp_path)
    with monkeypatch.context() as patch:
        fit_with(patch, killed_after(2))
        with pytest.raises(Killed):
            phases.fit(build(make_backbone, data), data, setup, phase)
    resumed = build(make_backbone, data)
    again = phases.fit(resumed, data, setup, phase)
    assert without_time(again) == without_time(history)
    assert same(resumed, straight)


@pytest.mark.parametrize("weights", [None, [3.0, 1.0, 0.5]])
def test_a_loss_of_ones_own_is_what_training_minimizes(
    weights, make_backbone, colours, here
):
    model = build(make_backbone, colours)
    # One batch is an epoch: its loss is that of the weights at the start.
    setup = dataclasses.replace(
        here,
        objective=SingleLabel(own_loss=focal),
        batch_size=len(colours.train),
        class_weights=weights,
    )
    logits = model.predict(colours.train.inputs.pixels, verbose=0)
    one_hot = np.eye(3, dtype="float32")[colours.train.labels]
    of_each = np.asarray(focal(one_hot, logits))
    own = np.ones(3) if weights is None else np.array(weights)
    history = phases.fit(model, colours, setup, phases.Phase(1))
    by_hand = np.mean(of_each * own[colours.train.labels])
    assert history["loss"][0] == pytest.approx(by_hand, rel=1e-4)


@pytest.mark.parametrize("kind", [SingleLabel, MultiLabel, Regression])
def test_a_loss_of_ones_own_smooths_its_labels_itself(kind):
    with pytest.raises(errors.InputError, match="label_smoothing"):
        kind(own_loss=focal).loss(label_smoothing=0.1)


def test_the_values_are_those_computed_by_hand():
    labels = np.float32([[1, 0], [0, 1], [1, 1], [0, 0]])
    logits = np.float32([[2, -1], [-1, -2], [3, 1], [1, -4]])
    own = summary.EVALUATIONS["multi-label"](
        labels, logits, ["a", "b"], train_labels=labels[[0, 2]]
    )
    assert own.value == 6 / 8
    assert own.exact == 2 / 4
    # Training has `a` always and `b` in half: a is predicted, b is not.
    assert own.baseline == (2 + 2) / 8
    assert [index for index, *_ in own.mistakes(9)] == [1, 3]
    own = summary.EVALUATIONS["regression"](
        labels, logits, ["a", "b"], train_labels=labels
    )
    assert own.value == pytest.approx(np.abs(labels - logits).mean())
    assert own.baseline == 0.5
    assert own.mistakes(1)[0][0] == 3


@pytest.mark.parametrize(
    ("objective", "change", "message"),
    [
        (MultiLabel(), lambda d: d, "a row of 0 and 1"),
        (Regression(), lambda d: d, "a number or a row of numbers"),
        (objectives.SingleLabel(), numbers, "the number of a class"),
        (MultiLabel(), numbers, "be 0 or 1 in the train split"),
        (Regression(), several, "1 logit, the data 2 columns"),
    ],
)
def test_labels_that_do_not_fit_the_objective_are_refused(
    objective, change, message, make_backbone, colours, here
):
    data = change(colours)
    names = data.class_names if message != "1 logit, the data 2 columns" else ["a"]
    model = build(make_backbone, dataclasses.replace(colours, class_names=["a"] * 3))
    if len(names) != 3:
        backbone = make_backbone()
        x = keras.layers.Flatten()(backbone.output)
        out = keras.layers.Dense(1 if len(names) == 1 else 2, name="logits")(x)
        model = keras.Model(backbone.input, out)
    setup = dataclasses.replace(here, objective=objective)
    with pytest.raises(errors.InputError, match=message):
        phases.fit(model, data, setup, phases.Phase(1))


@dataclass(frozen=True)
class Contrastive(Objective):
    """Two views of one image are to be near each other, and far from other images.

    A made objective: it has no classes, no labels and no metric but its loss.
    """

    name = "contrastive"
    activation = "linear"
    metric = "loss"
    directions = {"loss": "min"}  # noqa: RUF012

    def loss(self, label_smoothing=0.0):
        class InfoNCE(keras.losses.Loss):
            def call(self, y_true, y_pred):
                first, second = (ops.normalize(y_pred[:, n], axis=-1) for n in (0, 1))
                alike = ops.matmul(first, ops.transpose(second)) / 0.2
                return -ops.diagonal(ops.log_softmax(alike, axis=-1))

        return InfoNCE()


def two_views(pixels, draws):
    """Stack two views of each image: as it is, and with other brightness."""
    pixels = ops.cast(pixels, "float32")
    return ops.stack([pixels, pixels * (0.5 + draws[:, :1, None, None])], axis=1)


@pytest.fixture
def views(colours):
    """Images in two views, without labels."""

    def change(split):
        pixels = split.inputs.pixels
        stacked = np.stack([pixels, pixels], axis=1).astype("float32")
        return Split(stacked, np.zeros((len(split), 0)))

    return _relabelled(colours, change, ())


def build_embedding():
    keras.utils.set_random_seed(0)
    image = keras.Input((2, 8, 8, 3), name="image")
    x = keras.layers.Rescaling(1 / 127.5, -1)(image)
    x = keras.layers.Reshape((2, 8 * 8 * 3))(x)
    return keras.Model(image, keras.layers.Dense(4, name="embedding")(x))


@pytest.mark.parametrize("choose_by", ["loss", "last"])
def test_training_without_classes_needs_no_special_case(
    choose_by, views, here, tmp_path, monkeypatch
):
    def brighter(stacked, draws):
        return two_views(stacked[:, 0], draws)

    setup = dataclasses.replace(
        here,
        objective=Contrastive(),
        augment=brighter,
        batch_size=16,
        choose_by=choose_by,
    )
    straight = build_embedding()
    history = phases.fit(straight, views, setup, phases.Phase(4, 0.01))
    assert history["loss"][-1] < history["loss"][0]
    assert sum(history["kept"]) == 1
    if choose_by == "last":
        assert history["kept"][-1] == 1
    setup = dataclasses.replace(setup, state=tmp_path)
    with monkeypatch.context() as patch:
        fit_with(patch, killed_after(2))
        with pytest.raises(Killed):
            phases.fit(build_embedding(), views, setup, phases.Phase(4, 0.01))
    resumed = build_embedding()
    phases.fit(resumed, views, setup, phases.Phase(4, 0.01))
    assert same(resumed, straight)


def other_images(colours, count=11):
    rng = np.random.default_rng(9)
    return Split(rng.integers(0, 256, (count, 8, 8, 3), dtype="uint8"), [0] * count)


def test_a_batch_has_as_many_rows_of_either_in_turns(colours):
    first = colours.train.take(range(10))
    both = splits.beside(first, other_images(colours))
    training = pipeline.Training(both, 8, 0, num_classes=3)
    assert training.steps == 3
    own = [pixels.tobytes() for pixels in first.inputs.pixels]
    others = [pixels.tobytes() for pixels in both.inputs.sources[1].pixels]
    orders = []
    for epoch in (0, 1, 2):
        weights, seen, beside = [], [], []
        for x, y, w in training.epoch(epoch):
            rows = [row.numpy().tobytes() for row in x]
            seen += [own.index(row) for row in rows[::2]]
            beside += [others.index(row) for row in rows[1::2]]
            np.testing.assert_array_equal(y[1::2], 0)
            np.testing.assert_array_equal(w[1::2], 0)
            weights += w[::2].numpy().tolist()
        # One pass over the labelled examples, which carry all of the weight.
        assert sorted(seen[:10]) == list(range(10))
        assert sum(weights) == pytest.approx(24)
        assert weights[:10] == [pytest.approx(2.4)] * 10
        assert weights[10:] == [0, 0]
        orders += beside
    # Three epochs of twelve rows: passes of eleven, each in an order of its own.
    assert sorted(orders[:11]) == sorted(orders[11:22]) == list(range(11))
    assert orders[:11] != orders[11:22]


def test_examples_beside_change_nothing_of_what_is_learned_from_labels(
    make_backbone, colours, here
):
    histories = []
    for data, batch_size in (
        (colours, 8),
        (
            dataclasses.replace(
                colours, train=splits.beside(colours.train, other_images(colours))
            ),
            16,
        ),
    ):
        setup = dataclasses.replace(here, batch_size=batch_size)
        model = build(make_backbone, data)
        freezing.unfreeze(model)
        histories.append(phases.fit(model, data, setup, phases.Phase(3)))
    for name in without_time(histories[0]):
        np.testing.assert_allclose(histories[0][name], histories[1][name], atol=1e-4)


def nearer(model, steps):
    """A method that looks at the other images: their mean features, and progress."""

    def loss(batch):
        features = batch.outputs["flatten"]
        apart = ops.mean(features[::2], axis=0) - ops.mean(features[1::2], axis=0)
        return batch.progress * ops.sum(ops.square(apart))

    return Term(loss, layers=["flatten"])


@pytest.mark.slow
@pytest.mark.parametrize("frozen", [False, True])
def test_a_method_sees_both_and_resumes(
    frozen, make_backbone, colours, here, tmp_path, monkeypatch
):
    train = splits.beside(colours.train, other_images(colours))
    data = dataclasses.replace(colours, train=train)
    setup = dataclasses.replace(here, batch_size=16)
    phase = phases.Phase(4, 0.01, method=nearer, patience=9)

    def fresh():
        model = build(make_backbone, data)
        (freezing.unfreeze_head if frozen else freezing.unfreeze)(model)
        if frozen:
            freezing.unfreeze_from(model, "block2_conv")
        return model

    straight = fresh()
    history = phases.fit(straight, data, setup, phase)
    plain = fresh()
    phases.fit(plain, data, setup, dataclasses.replace(phase, method=None))
    assert not same(plain, straight)
    setup = dataclasses.replace(setup, state=tmp_path)
    with monkeypatch.context() as patch:
        fit_with(patch, killed_after(2))
        with pytest.raises(Killed):
            phases.fit(fresh(), data, setup, phase)
    resumed = fresh()
    again = phases.fit(resumed, data, setup, phase)
    assert without_time(again) == without_time(history)
    assert same(resumed, straight)


def test_an_odd_batch_cannot_be_shared(make_backbone, colours, here):
    train = splits.beside(colours.train, other_images(colours))
    data = dataclasses.replace(colours, train=train)
    setup = dataclasses.replace(here, batch_size=7)
    with pytest.raises(errors.InputError, match="multiple of 2"):
        phases.fit(build(make_backbone, data), data, setup, phases.Phase(1))


def test_unknown_labels_cost_nothing_and_count_in_no_accuracy(
    make_backbone, colours, here
):
    labels = colours.train.labels.copy()
    labels[::5] = splits.UNKNOWN
    some = dataclasses.replace(colours.train, labels=labels)
    known = some.take(np.flatnonzero(labels >= 0))
    setup = dataclasses.replace(here, batch_size=64)
    histories = []
    for train in (some, known):
        data = dataclasses.replace(colours, train=train)
        model = build(make_backbone, data)
        histories.append(phases.fit(model, data, setup, phases.Phase(3)))
    for name in without_time(histories[0]):
        np.testing.assert_allclose(histories[0][name], histories[1][name], atol=1e-4)
    for name in ("validation", "test"):
        with pytest.raises(errors.InputError, match=f"{name} split must have a label"):
            dataclasses.replace(colours, **{name: some})
    data = dataclasses.replace(colours, train=splits.unlabelled(colours.train))
    model = build(make_backbone, data)
    with pytest.raises(errors.InputError, match="there is nothing to learn"):
        phases.fit(model, data, setup, phases.Phase(1))
