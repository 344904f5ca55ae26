import dataclasses

import keras
import numpy as np
import pytest

from keras_tl import errors
from keras_tl.data.splits import Split
from keras_tl.methods import multi_task
from keras_tl.models import freezing, heads
from keras_tl.training import phases
from keras_tl.training.terms import TermModel


@pytest.fixture
def classifier(make_backbone):
    keras.utils.set_random_seed(0)
    return heads.attach(make_backbone(), 3, dropout=0.0)


@pytest.fixture
def bright(colours):
    """The colours, and whether the upper half of each image is the brighter one."""

    def both(split, seed):
        labels = np.random.default_rng(seed).integers(0, 2, len(split))
        pixels = split.inputs.pixels.copy()
        pixels[labels == 1, :4] += 50
        pixels[labels == 0, 4:] += 50
        return multi_task.label(Split(pixels, split.labels), {"bright": (labels, 2)})

    found = {name: both(split, i) for i, (name, split) in enumerate(colours.items())}
    return dataclasses.replace(colours, **found)


def accuracy(logits, targets):
    return (logits.argmax(1) == targets.argmax(1)).mean()


def test_both_tasks_are_learned_in_one_pass_and_saved_as_a_plain_model(
    classifier, bright, here, tmp_path
):
    # The upper half cannot be told from pooled features: `flatten` shares the rows.
    image = keras.Input((8, 8, 3))
    x = keras.layers.Rescaling(1 / 127.5, -1)(image)
    x = keras.layers.AveragePooling2D(4)(x)
    x = keras.layers.Flatten(name="flatten")(x)
    model = keras.Model(image, keras.layers.Dense(3, name="logits")(x))
    tasks = multi_task.heads(model, {"bright": 2}, layer="flatten")
    history = phases.fit(
        model,
        bright,
        here,
        phases.Phase(
            epochs=30,
            learning_rate=0.05,
            patience=30,
            method=multi_task.learn(tasks, layer="flatten"),
        ),
    )
    assert {"accuracy", "bright_accuracy", "val_bright_accuracy"} <= set(history)
    both = multi_task.attach(model, tasks, layer="flatten")
    both.save(tmp_path / "m.keras")
    again = keras.models.load_model(tmp_path / "m.keras")
    said = again.predict(bright.test.inputs.pixels, verbose=0)
    assert (said["logits"].argmax(1) == bright.test.labels).mean() > 0.9
    assert accuracy(said["bright"], bright.test.targets) > 0.9
    # The best epoch's, not the last one's, as of the classifier's own weights.
    best = history["kept"].index(1)
    on_validation = both.predict(bright.validation.inputs.pixels, verbose=0)["bright"]
    assert history["val_bright_accuracy"][best] == pytest.approx(
        accuracy(on_validation, bright.validation.targets)
    )


def test_the_loss_is_the_weighted_sum_over_tasks_and_known_labels(classifier):
    rng = np.random.default_rng(0)
    tasks = multi_task.heads(classifier, {"a": 2, "b": 4})
    method = multi_task.learn(tasks, {"logits": 0.5, "b": 3.0})
    joint = TermModel(classifier, method(classifier, 10), num_labels=3, steps=10)
    joint.compile("sgd", keras.losses.CategoricalCrossentropy(from_logits=True))
    logits = {
        name: rng.normal(size=(5, count)).astype("float32")
        for name, count in (("logits", 3), ("a", 2), ("b", 4))
    }
    labels = {name: rng.integers(0, part.shape[1], 5) for name, part in logits.items()}
    labels["b"][:2] = -1
    split = Split(np.zeros((5, 1)), labels["logits"])
    others = {"a": (labels["a"], 2), "b": (labels["b"], 4)}
    y = np.concatenate(
        [np.eye(3)[labels["logits"]], multi_task.label(split, others).targets], axis=1
    ).astype("float32")

    def costs(name):
        likely = np.asarray(keras.ops.log_softmax(logits[name]))
        found = -likely[np.arange(5), labels[name]]
        return np.where(labels[name] < 0, 0, found)

    by_hand = 0.5 * costs("logits") + costs("a") + 3 * costs("b")
    given = {name: keras.ops.array(part) for name, part in logits.items()}
    given["/logits"] = given.pop("logits")
    assert float(joint.compute_loss(None, y, given)) == pytest.approx(
        by_hand.mean(), rel=1e-4
    )
    # The last two rows fill up a batch.
    weights = np.array([5 / 3, 5 / 3, 5 / 3, 0, 0], "float32")
    found = joint.compute_loss(None, y, given, keras.ops.array(weights))
    assert float(found) == pytest.approx(by_hand[:3].mean(), rel=1e-4)


def test_accuracies_are_over_known_labels(classifier, colours, here):
    labels = np.full(20, -1)
    labels[:4] = [0, 1, 1, 0]
    tasks = multi_task.heads(classifier, {"rare": 2})
    data = dataclasses.replace(
        colours,
        train=multi_task.label(colours.train, {"rare": (np.arange(50) % 2, 2)}),
        validation=multi_task.label(colours.validation, {"rare": (labels, 2)}),
    )
    history = phases.fit(
        classifier, data, here, phases.Phase(epochs=1, method=multi_task.learn(tasks))
    )
    both = multi_task.attach(classifier, tasks)
    said = both.predict(colours.validation.inputs.pixels, verbose=0)["rare"].argmax(1)
    wanted = (said[:4] == labels[:4]).mean()
    assert history["val_rare_accuracy"][0] == pytest.approx(wanted)


@pytest.mark.slow
def test_on_a_frozen_backbone_the_heads_learn_from_features_made_once(
    classifier, colours, here
):
    freezing.unfreeze_head(classifier)
    tasks = multi_task.heads(classifier, {"red": 2})

    def both(split):
        return multi_task.label(split, {"red": (split.labels == 0, 2)})

    data = colours.map(both)
    train = phases.precompute_frozen(classifier, data, here)[1].train
    assert train.inputs.values.shape == (50, 4)
    phases.fit(
        classifier,
        data,
        here,
        phases.Phase(
            epochs=25, learning_rate=0.2, patience=25, method=multi_task.learn(tasks)
        ),
    )
    joined = multi_task.attach(classifier, tasks)
    said = joined.predict(colours.test.inputs.pixels, verbose=0)
    assert accuracy(said["red"], data.test.targets) > 0.9


def test_a_head_added_later_leaves_the_others_as_they_are(
    classifier, colours, here, tmp_path
):
    before = classifier.predict(colours.test.inputs.pixels, verbose=0)
    later = heads.replace(classifier, 2, at="pool")
    freezing.unfreeze_head(later)
    red = {name: Split(s.inputs.pixels, s.labels == 0) for name, s in colours.items()}
    data = dataclasses.replace(colours, class_names=["other", "red"], **red)
    phases.fit(later, data, here, phases.Phase(epochs=1))
    tasks = multi_task.heads(classifier, {"red": 2})
    tasks["red"].set_weights(later.get_layer("logits").get_weights())
    both = multi_task.attach(classifier, tasks)
    said = both.predict(colours.test.inputs.pixels, verbose=0)
    np.testing.assert_array_equal(said["logits"], before)
    alone = later.predict(colours.test.inputs.pixels, verbose=0)
    np.testing.assert_allclose(said["red"], alone, atol=1e-6)
    without = multi_task.attach(classifier, {})
    assert set(without.output) == {"logits"}


def test_changed_copies_keep_the_labels_of_all_tasks(classifier, bright, here):
    freezing.unfreeze_head(classifier)
    tasks = multi_task.heads(classifier, {"bright": 2})
    setup = dataclasses.replace(here, augment=lambda x, draws: x, augmented_copies=2)
    train = phases.precompute_frozen(classifier, bright, setup)[1].train
    np.testing.assert_array_equal(train.targets, np.tile(bright.train.targets, (2, 1)))
    learn = multi_task.learn(tasks)
    history = phases.fit(
        classifier, bright, setup, phases.Phase(epochs=2, method=learn)
    )
    assert len(history["bright_accuracy"]) == 2


def test_columns_are_the_models_in_whatever_order_predictions_come(classifier):
    # As under JAX, which sorts by name.
    tasks = multi_task.heads(classifier, {"b": 2, "a": 3})
    method = multi_task.learn(tasks)
    joint = TermModel(classifier, method(classifier, 10), num_labels=3, steps=10)
    joint.compile("sgd", keras.losses.CategoricalCrossentropy(from_logits=True))
    eyes = {"logits": np.eye(3), "b": np.eye(2)[[0, 1, 1]], "a": np.eye(3)[[2, 0, 1]]}
    y = np.concatenate(list(eyes.values()), axis=1).astype("float32")
    right = {name: keras.ops.array(9 * eyes[name], "float32") for name in sorted(eyes)}
    right["/logits"] = right.pop("logits")
    logs = joint.compute_metrics(None, y, right)
    assert float(logs["a_accuracy"]) == float(logs["b_accuracy"]) == 1
    assert float(joint.compute_loss(None, y, right)) < 0.01


def test_a_layer_that_does_not_exist_is_named(classifier, bright, here):
    tasks = multi_task.heads(classifier, {"bright": 2})
    learn = multi_task.learn(tasks, layer="pol")
    with pytest.raises(errors.InputError, match="Did you mean pool"):
        phases.fit(classifier, bright, here, phases.Phase(epochs=1, method=learn))
    with pytest.raises(errors.InputError, match="Did you mean pool"):
        multi_task.attach(classifier, tasks, layer="pol")


@pytest.mark.parametrize(
    ("call", "said"),
    [
        (lambda m: multi_task.heads(m, {"logits": 3}), "names that"),
        (lambda m: multi_task.heads(m, {"pool": 3}), "names that"),
        (lambda m: multi_task.heads(m, {"a": 1}), "at least 2"),
        (lambda m: multi_task.heads(m, {"a": 2}, layer="pol"), "Did you mean pool"),
        (lambda m: multi_task.learn({}, {"a": 1.0}), "weights"),
        (lambda m: multi_task.learn({}, {"logits": -1.0}), "not be negative"),
    ],
)
def test_what_cannot_work_is_said(classifier, call, said):
    with pytest.raises(errors.InputError, match=said):
        call(classifier)


@pytest.mark.parametrize(
    ("tasks", "said"),
    [
        ({}, "len"),
        ({"a": ([0, 1], 2)}, "3 labels, one for each image"),
        ({"a": ([0, 1, 2], 2)}, r"in \[-1, 1\]"),
        ({"a": ([0, 1, -2], 2)}, r"in \[-1, 1\]"),
    ],
)
def test_labels_that_do_not_fit_are_named(tasks, said):
    with pytest.raises(errors.InputError, match=said):
        multi_task.label(Split(np.zeros((3, 1)), [0, 1, 0]), tasks)


def test_a_split_without_the_other_labels_is_refused(classifier, colours, here):
    tasks = multi_task.heads(classifier, {"a": 2})
    with pytest.raises(errors.InputError, match="2 columns.*Received 0"):
        phases.fit(
            classifier,
            colours,
            here,
            phases.Phase(epochs=1, method=multi_task.learn(tasks)),
        )
