import dataclasses
import functools
import time
import warnings

import keras
import numpy as np
import pytest

from keras_tl import errors
from keras_tl.analysis import probe
from keras_tl.data import random_layers, splits
from keras_tl.data.splits import Split, Splits
from keras_tl.methods import regularizers
from keras_tl.models import freezing, heads
from keras_tl.training import features, phases, placement, schedules, store


@pytest.fixture
def classifier(make_backbone):
    keras.utils.set_random_seed(0)
    backbone = make_backbone()
    freezing.freeze(backbone)
    return heads.attach(backbone, 3)


def slow_reference(model, splits, setup, **options):
    """The same phase through the frozen stem, in every epoch."""
    setup = dataclasses.replace(setup, augment=lambda images, draws: images)
    return phases.fit(model, splits, setup, phases.Phase(**options))


def test_head_learns_what_can_be_learned(classifier, colours, here):
    history = phases.fit(
        classifier,
        colours,
        here,
        phases.Phase(epochs=40, learning_rate=0.05, patience=40),
    )
    assert max(history["val_accuracy"]) > 0.9
    assert set(history) == {
        *("loss", "accuracy", "val_loss", "val_accuracy", "kept", "seconds")
    }
    assert min(history["seconds"]) > 0


def test_cached_features_give_what_training_through_the_frozen_stem_gives(
    classifier, colours, here
):
    start = classifier.get_weights()
    setup = dataclasses.replace(here, batch_size=16, seed=1)
    classifier.get_layer("dropout").rate = 0.0
    cached = phases.fit(classifier, colours, setup, phases.Phase(epochs=3))
    weights = classifier.get_weights()
    classifier.set_weights(start)
    slow = slow_reference(classifier, colours, setup, epochs=3)
    for ours, theirs in zip(weights, classifier.get_weights(), strict=True):
        np.testing.assert_allclose(ours, theirs, atol=1e-5)
    for name in set(slow) - {"seconds"}:
        np.testing.assert_allclose(cached[name], slow[name], atol=1e-5)


def test_history_means_are_means_over_examples(classifier, colours, here):
    setup = dataclasses.replace(here, batch_size=16)
    history = phases.fit(classifier, colours, setup, phases.Phase(epochs=1))
    logits = keras.ops.convert_to_numpy(classifier(colours.validation.inputs.pixels))
    labels = colours.validation.labels
    exact = keras.losses.sparse_categorical_crossentropy(labels, logits, True)
    assert history["val_loss"][0] == pytest.approx(np.mean(exact), abs=1e-5)
    accuracy = (logits.argmax(1) == labels).mean()
    assert history["val_accuracy"][0] == pytest.approx(accuracy)


def test_model_ends_with_the_weights_of_its_best_epoch(classifier, colours, here):
    history = phases.fit(
        classifier,
        colours,
        here,
        phases.Phase(epochs=12, learning_rate=1.0, patience=12),
    )
    logits = keras.ops.convert_to_numpy(classifier(colours.validation.inputs.pixels))
    loss = keras.losses.sparse_categorical_crossentropy(
        colours.validation.labels, logits, True
    )
    assert np.mean(loss) == pytest.approx(min(history["val_loss"]), rel=1e-4)
    assert np.argmin(history["val_loss"]) == history["kept"].index(1)
    assert sum(history["kept"]) == 1


def test_a_phase_that_ends_early_says_so_and_what_it_kept(
    classifier, colours, here, capsys
):
    history = phases.fit(
        classifier,
        colours,
        here,
        phases.Phase(epochs=40, learning_rate=3.0, patience=1),
    )
    epoch = history["kept"].index(1) + 1
    said = f"kept epoch {epoch}, with the lowest validation loss; ended early"
    assert said in capsys.readouterr().out


def test_fine_tuning_that_only_hurts_leaves_the_weights_at_the_start_and_says_so(
    classifier, colours, here, capsys
):
    phases.fit(classifier, colours, here, phases.Phase(epochs=30, learning_rate=0.05))
    freezing.unfreeze(classifier)
    before = classifier.get_weights()
    wrong = Split(colours.train.inputs.pixels, (colours.train.labels + 1) % 3)
    history = phases.fit(
        classifier,
        dataclasses.replace(colours, train=wrong),
        here,
        phases.fine_tuning(epochs=2),
    )
    assert len(history["loss"]) == 2
    assert history["kept"] == [0, 0]
    assert "kept the weights from before" in capsys.readouterr().out
    for ours, theirs in zip(before, classifier.get_weights(), strict=True):
        np.testing.assert_array_equal(ours, theirs)


def test_a_misspelled_option_is_named_with_the_right_one():
    with pytest.raises(errors.InputError, match="Did you mean optimizer"):
        phases.fine_tuning(3, optimiser=keras.optimizers.SGD)


def test_each_phase_trains_the_flags_as_they_are_then(classifier, colours, here):
    phases.fit(classifier, colours, here, phases.Phase(epochs=1))
    freezing.unfreeze_from(classifier, "block2")
    kernel = classifier.get_layer("block2_conv").kernel
    before = kernel.numpy().copy()
    phases.fit(
        classifier, colours, here, phases.fine_tuning(epochs=1, learning_rate=0.01)
    )
    assert not np.array_equal(before, kernel.numpy())


def test_the_test_split_is_not_read(classifier, colours, here):
    class Untouched(Split):
        def read(self, indices):
            raise AssertionError("The test split was read.")

    test = Untouched(colours.test.inputs.pixels, colours.test.labels)
    data = dataclasses.replace(colours, test=test)
    phases.fit(classifier, data, here, phases.Phase(epochs=1))
    phases.fit(classifier, data, here, phases.fine_tuning(epochs=1))


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"epochs": -1}, "`epochs` must be at least 0"),
        ({"epochs": -3}, "epochs=-3"),
        ({"epochs": 1, "learning_rate": 0}, "learning_rate=0"),
        ({"epochs": 1, "first_epoch": -1}, "first_epoch=-1"),
    ],
)
def test_values_out_of_range_are_named(classifier, colours, here, arguments, message):
    with pytest.raises(errors.InputError, match=message):
        phases.fit(classifier, colours, here, phases.Phase(**arguments))


def test_batch_size_must_be_positive(classifier, colours, here):
    setup = dataclasses.replace(here, batch_size=0)
    with pytest.raises(errors.InputError, match="batch_size=0"):
        phases.fit(classifier, colours, setup, phases.Phase(epochs=1))


def test_tensorboard_gets_event_files_of_its_phase(
    classifier, colours, here, tmp_path, monkeypatch
):
    setup = dataclasses.replace(here, tensorboard=tmp_path)
    phases.fit(classifier, colours, setup, phases.Phase(epochs=1))
    for part in ("train", "validation"):
        assert list((tmp_path / "head" / part).glob("events*"))
    monkeypatch.setattr(errors.importlib.util, "find_spec", lambda name: None)
    with pytest.raises(errors.InputError, match=r"pip install .keras-tl\[tensorboard"):
        phases.fit(classifier, colours, setup, phases.Phase(epochs=1))


def test_a_model_in_which_nothing_trains_is_refused(classifier, colours, here):
    freezing.freeze(classifier)
    with pytest.raises(errors.InputError, match="layers with weights, all frozen"):
        phases.fit(classifier, colours, here, phases.Phase(epochs=1))


def test_a_head_of_another_width_is_refused(make_backbone, colours, here):
    model = heads.attach(make_backbone(), 4)
    with pytest.raises(errors.InputError, match="4 logits.*3 classes.*num_classes=3"):
        phases.fit(model, colours, here, phases.Phase(epochs=1))


def test_where_there_is_no_room_for_features_the_stem_runs_in_every_epoch(
    classifier, colours, here, monkeypatch
):
    monkeypatch.setattr(features, "has_room", lambda *args: False)
    monkeypatch.setattr(
        features, "extract", lambda *args, **options: pytest.fail("extracted")
    )
    with pytest.warns(errors.InputWarning, match="run again in every epoch"):
        history = phases.fit(classifier, colours, here, phases.Phase(epochs=1))
    assert len(history["loss"]) == 1


def test_a_loss_that_is_not_finite_stops_the_run_and_keeps_good_weights(
    classifier, colours, here, tmp_path
):
    images = colours.train.inputs.pixels.astype("float32")
    setup = dataclasses.replace(here, batch_size=50, state=tmp_path / "run" / "state")
    phases.fit(classifier, colours, setup, phases.Phase(epochs=1, name="good"))
    good = classifier.get_weights()
    images[7] = np.inf
    bad = dataclasses.replace(colours, train=Split(images, colours.train.labels))
    message = r"head: The loss was nan after step \d+ of epoch 1\. .*interrupted\.keras"
    with pytest.raises(errors.InputError, match=message):
        phases.fit(classifier, bad, setup, phases.Phase(epochs=3))
    saved = keras.models.load_model(tmp_path / "run" / "state" / "interrupted.keras")
    for model in (classifier, saved):
        for before, after in zip(good, model.get_weights(), strict=True):
            np.testing.assert_array_equal(before, after)


def test_weights_of_the_best_epoch_are_kept_when_a_later_one_diverges(
    classifier, colours, here
):
    setup = dataclasses.replace(here, batch_size=50, augment=Diverging(2))
    with pytest.raises(errors.InputError, match=r"after step 1 of epoch 3\..*rate"):
        phases.fit(classifier, colours, setup, phases.Phase(epochs=5))
    assert all(np.isfinite(weight).all() for weight in classifier.get_weights())


class Diverging:
    """An augmentation that gives infinite images after some batches."""

    def __init__(self, good):
        import tensorflow as tf

        self.left = tf.Variable(good, dtype=tf.int32)

    def __call__(self, images, draws):
        import tensorflow as tf

        factor = tf.where(self.left > 0, 1.0, np.inf)
        with tf.control_dependencies([self.left.assign_sub(1)]):
            return tf.cast(images, tf.float32) * factor


def test_several_steps_in_one_call_give_what_single_steps_give(
    classifier, colours, here, monkeypatch
):
    # Its random numbers would go on from one run to the other.
    classifier.get_layer("dropout").rate = 0.0
    start, found = classifier.get_weights(), []
    for small in (0, 10**7):
        monkeypatch.setattr(placement, "SMALL_STEP", small)
        keras.utils.set_random_seed(0)
        classifier.set_weights(start)
        # 7 steps an epoch: the last call has fewer than 32.
        setup = dataclasses.replace(here, batch_size=8)
        history = phases.fit(classifier, colours, setup, phases.Phase(epochs=3))
        found.append((history, classifier.get_weights()))
    (one, weights), (other, many) = found
    assert set(one) == set(other)
    for name in set(one) - {"seconds"}:
        np.testing.assert_allclose(one[name], other[name], rtol=1e-5)
    for ours, theirs in zip(weights, many, strict=True):
        np.testing.assert_allclose(ours, theirs, atol=1e-6)


def test_mixing_sees_images_in_every_epoch_and_learns(classifier, colours, here):
    seen, mix_up = [], random_layers.mix_up(alpha=0.2)

    def mix(images, labels, draws):
        seen.append((images.shape, labels.shape))
        return mix_up(images, labels, draws)

    setup = dataclasses.replace(here, mix=mix)
    history = phases.fit(
        classifier,
        colours,
        setup,
        phases.Phase(epochs=25, learning_rate=0.05, patience=25),
    )
    assert seen
    assert seen[0][0][1:] == colours.train.inputs.pixels.shape[1:]
    assert max(history["val_accuracy"]) > 0.9


def test_label_smoothing_reaches_the_loss(classifier, colours, here):
    setup = dataclasses.replace(here, label_smoothing=0.3)
    history = phases.fit(classifier, colours, setup, phases.Phase(epochs=1))
    logits = keras.ops.convert_to_numpy(classifier(colours.validation.inputs.pixels))
    likely = np.asarray(keras.ops.log_softmax(logits))
    labels = colours.validation.labels
    of_label = likely[np.arange(len(labels)), labels]
    by_hand = -(0.7 * of_label + 0.3 * likely.mean(1)).mean()
    assert history["val_loss"][0] == pytest.approx(by_hand, abs=1e-5)


def test_accuracy_chooses_the_epoch_and_the_loss_among_equal_ones(
    classifier, colours, here
):
    setup = dataclasses.replace(here, choose_by="accuracy")
    history = phases.fit(
        classifier,
        colours,
        setup,
        phases.Phase(epochs=12, learning_rate=1.0, patience=12),
    )
    pairs = list(zip(history["val_accuracy"], history["val_loss"], strict=True))
    highest = max(history["val_accuracy"])
    losses = [loss for accuracy, loss in pairs if accuracy == highest]
    assert max(losses) - min(losses) > 0.1
    accuracy, loss = pairs[history["kept"].index(1)]
    assert accuracy == highest
    assert loss < min(losses) + 0.01
    logits = keras.ops.convert_to_numpy(classifier(colours.validation.inputs.pixels))
    accuracy = (logits.argmax(1) == colours.validation.labels).mean()
    assert accuracy == pytest.approx(max(history["val_accuracy"]))


def test_class_weights_reach_the_loss(classifier, colours, here):
    weights = [0.5, 1.0, 3.0]
    classifier.get_layer("dropout").rate = 0.0
    # One step sees all examples with the weights at the start.
    setup = dataclasses.replace(here, batch_size=50, class_weights=weights)
    logits = keras.ops.convert_to_numpy(classifier(colours.train.inputs.pixels))
    history = phases.fit(classifier, colours, setup, phases.Phase(epochs=1))
    labels = colours.train.labels
    losses = keras.losses.sparse_categorical_crossentropy(labels, logits, True)
    by_hand = np.mean(np.take(weights, labels) * np.asarray(losses))
    assert history["loss"][0] == pytest.approx(by_hand, rel=1e-4)


def test_a_rare_class_is_learned_with_class_weights(classifier, here):
    # Without colours to tell them apart, the frequent class is always the better guess.
    rng = np.random.default_rng(0)
    grey = rng.integers(0, 256, (60, 8, 8, 3)).astype("uint8")
    rare = Split(grey, np.arange(60) % 15 == 0)
    data = Splits(rare, rare, rare, ["frequent", "rare"], "Grey noise.")
    backbone = keras.Model(classifier.inputs[0], classifier.get_layer("pool").input)
    shares = {}
    for name, weights in (("plain", None), ("weighted", [1.0, 30.0])):
        keras.utils.set_random_seed(0)
        model = heads.attach(backbone, 2)
        setup = dataclasses.replace(here, class_weights=weights)
        phases.fit(model, data, setup, phases.Phase(epochs=5, learning_rate=0.05))
        shares[name] = model.predict(grey, verbose=0).argmax(1).mean()
    assert shares["plain"] < 0.1
    assert shares["weighted"] > 0.5


def test_a_phase_ends_when_no_time_is_left_for_another_epoch(
    classifier, colours, here, capsys
):
    phase = phases.Phase(50, patience=50, until=time.perf_counter())
    history = phases.fit(classifier, colours, here, phase)
    assert len(history["loss"]) == 1
    assert "ended for lack of time" in capsys.readouterr().out
    assert sum(history["kept"]) == 1


def test_averaged_weights_are_validated_and_kept(classifier, colours, here):
    classifier.get_layer("dropout").rate = 0.0
    start = classifier.get_weights()
    options = {
        "epochs": 4,
        "learning_rate": 0.5,
        "schedule": schedules.constant,
        "patience": 4,
    }
    # One step an epoch.
    setup = dataclasses.replace(here, batch_size=50)
    after_steps = []

    class Note(keras.callbacks.Callback):
        def on_train_batch_end(self, batch, logs=None):
            after_steps.append(self.model.get_weights())

    fit = keras.Model.fit

    def noted(self, *args, callbacks, **others):
        return fit(self, *args, callbacks=[*callbacks, Note()], **others)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(keras.Model, "fit", noted)
        phases.fit(
            classifier,
            colours,
            setup,
            phases.Phase(optimizer=keras.optimizers.SGD, **options),
        )
    averaged, wanted = after_steps[0], []
    for weights in after_steps:
        pairs = zip(averaged, weights, strict=True)
        averaged = [0.7 * a + 0.3 * w for a, w in pairs]
        classifier.get_layer("logits").set_weights(averaged[-2:])
        logits = keras.ops.convert_to_numpy(
            classifier(colours.validation.inputs.pixels)
        )
        loss = keras.losses.sparse_categorical_crossentropy(
            colours.validation.labels, logits, True
        )
        wanted.append((float(np.mean(loss)), averaged[-2:]))

    classifier.set_weights(start)
    ema = functools.partial(keras.optimizers.SGD, use_ema=True, ema_momentum=0.7)
    history = phases.fit(
        classifier, colours, setup, phases.Phase(optimizer=ema, **options)
    )
    losses = [loss for loss, _ in wanted]
    np.testing.assert_allclose(history["val_loss"], losses, rtol=1e-4)
    best = wanted[int(np.argmin(losses))][1]
    for ours, theirs in zip(
        classifier.get_layer("logits").get_weights(), best, strict=True
    ):
        np.testing.assert_allclose(ours, theirs, atol=1e-5)


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"label_smoothing": 1.0}, "label_smoothing"),
        ({"mix": random_layers.mix_up(), "augmented_copies": 2}, "augmented_copies"),
    ],
)
def test_settings_that_contradict_each_other_are_refused(here, options, said):
    with pytest.raises(errors.InputError, match=said):
        dataclasses.replace(here, **options)


def test_an_unknown_metric_is_named_before_anything_runs(classifier, colours, here):
    setup = dataclasses.replace(here, choose_by="f1")
    with pytest.raises(errors.InputError, match="choose_by.*accuracy, last, loss"):
        phases.fit(classifier, colours, setup, phases.Phase(epochs=1))


@pytest.mark.parametrize(
    ("weights", "said"), [([1, 1], "3 classes"), ([1, 1, -1], "not be negative")]
)
def test_class_weights_that_do_not_fit_are_refused(
    classifier, colours, here, weights, said
):
    setup = dataclasses.replace(here, class_weights=weights)
    with pytest.raises(errors.InputError, match=said):
        phases.fit(classifier, colours, setup, phases.Phase(epochs=1))


@pytest.mark.parametrize(
    ("build", "message"),
    [
        (lambda backbone: backbone, "layers with weights, all frozen. Attach a h"),
        (
            lambda backbone: heads.attach(backbone, 3),
            r"those of the head \(logits\) among them. `freezing.unfreeze_head`",
        ),
        (
            lambda backbone: heads.attach_mlp(backbone, 3, hidden=(4,)),
            r"those of the head \(hidden_1, logits\) among them",
        ),
    ],
)
def test_a_model_in_which_nothing_trains_is_told_what_is_frozen(
    build, message, make_backbone, colours, here
):
    model = build(make_backbone())
    freezing.freeze(model)
    with pytest.raises(errors.InputError, match=message):
        phases.fit(model, colours, here, phases.Phase(1))


def test_each_phase_says_how_much_it_trains(classifier, colours, here, capsys):
    phases.fit(classifier, colours, here, phases.Phase(epochs=1))
    logits = classifier.get_layer("logits").count_params()
    line = f"head  {logits} of {classifier.count_params()} parameters train"
    assert line in capsys.readouterr().out


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda m, d, s, p: (m, d, p, s), "`setup` must be of type Setup.*: Phase"),
        (lambda m, d, s, p: (m, (1, 2), s, p), "`splits` must be .*: tuple"),
        (lambda m, d, s, p: (m, d.at_size(9), s, p), r"`splits.at_size\(8\)`"),
    ],
)
def test_arguments_that_do_not_fit_are_named(
    classifier, colours, here, change, message
):
    arguments = change(classifier, colours, here, phases.Phase(epochs=1))
    for function in (phases.fit, phases.prepare):
        with pytest.raises(errors.InputError, match=message):
            function(*arguments)


def test_values_of_another_type_are_named():
    with pytest.raises(errors.InputError, match=r"placement.choose\(\)"):
        phases.Setup("CPU:0")
    with pytest.raises(errors.InputError, match="epochs='3'"):
        phases.Phase(epochs="3")
    with pytest.raises(errors.InputError, match="num_classes"):
        heads.attach(keras.Sequential([keras.Input((4,))]), ["a", "b"])


def test_a_probe_follows_the_backbone_while_the_phase_trains_it(
    make_backbone, colours, here
):
    keras.utils.set_random_seed(0)
    x = make_backbone()
    pooled = keras.layers.GlobalAveragePooling2D(name="pool")(x.output)
    backbone = keras.Model(x.input, pooled, name="tiny")
    model = heads.attach(backbone, 3)
    freezing.unfreeze(model, batch_normalization=True)
    few = splits.few(colours, 4, seed=0)
    measured, follow = [], probe.follow(backbone, few)

    def at(epoch):
        measured.append((epoch, follow(epoch)))
        return measured[-1][1]

    phase = phases.Phase(epochs=3, learning_rate=0.01, patience=3, probe=at)
    history = phases.fit(model, colours, here, phase)
    assert [epoch for epoch, _ in measured] == [0, 1, 2]
    assert history["probe"] == [value for _, value in measured]
    features = few.map(
        lambda split: dataclasses.replace(
            split, inputs=backbone.predict(split.read(range(len(split))), verbose=0)
        )
    )
    if history["kept"][-1]:
        fitted = probe.linear(features.train, features.validation, few.task)
        assert history["probe"][-1] == fitted.validation


def small_memory(monkeypatch, largest, epochs=0):
    """Let training in batches of more than `largest` fail after some epochs."""
    fit, sizes = keras.Model.fit, []

    class Fail(keras.callbacks.Callback):
        def on_train_batch_begin(self, batch, logs=None):
            if epochs <= self.epoch:
                raise MemoryError("Cannot allocate 9 GiB")

        def on_epoch_begin(self, epoch, logs=None):
            self.epoch = epoch

    def limited(self, batches, *args, callbacks, **options):
        size = batches.element_spec[1].shape[0]
        sizes.append((size, options["initial_epoch"]))
        further = [Fail()] if size > largest else []
        return fit(self, batches, *args, callbacks=[*further, *callbacks], **options)

    monkeypatch.setattr(keras.Model, "fit", limited)
    return sizes


def test_a_batch_for_which_the_memory_is_too_small_is_halved(
    make_backbone, colours, here, monkeypatch
):
    """Without a state, the phase begins again: to what half of the batch gives."""

    def train(batch_size):
        keras.utils.set_random_seed(0)
        model = heads.attach(make_backbone(), 3)
        setup = dataclasses.replace(here, batch_size=batch_size)
        history = phases.fit(model, colours, setup, phases.Phase(3))
        return model.get_weights(), history["loss"], history.get("batch_size")

    wanted = train(8)
    sizes = small_memory(monkeypatch, 8, epochs=2)
    with pytest.warns(errors.InputWarning, match="begins again in batches of") as shown:
        halved = train(32)
    assert sizes == [(32, 0), (16, 0), (8, 0)]
    warned = [str(one.message) for one in shown if one.category == errors.InputWarning]
    assert "batches of 8, and its results differ from those of 32" in warned[1]
    for ours, theirs in zip(halved[0], wanted[0], strict=True):
        np.testing.assert_array_equal(ours, theirs)
    assert halved[1:] == (wanted[1], [8, 8, 8])
    small_memory(monkeypatch, 0)
    with pytest.raises(MemoryError, match="9 GiB"):
        train(1)


def test_after_its_last_epoch_a_phase_goes_on_in_smaller_batches(
    make_backbone, colours, here, monkeypatch, tmp_path
):
    """The rate goes on where it would be, and so does a run that is killed then."""

    def train(state):
        keras.utils.set_random_seed(0)
        model = heads.attach(make_backbone(), 3)
        setup = dataclasses.replace(here, batch_size=16, state=state)
        phase = phases.Phase(5, method=regularizers.l2_sp())
        history = phases.fit(model, colours, setup, phase)
        return model.get_weights(), {**history, "seconds": None}

    with monkeypatch.context() as patch:
        sizes = small_memory(patch, 8, epochs=2)
        with pytest.warns(errors.InputWarning, match="goes on after its last epoch"):
            whole = train(tmp_path / "whole")
    assert sizes == [(16, 0), (8, 2)]
    assert whole[1]["batch_size"] == [16, 16, 8, 8, 8]

    with monkeypatch.context() as patch:
        small_memory(patch, 8, epochs=2)
        write = phases.Checkpoint.write

        def killed(self):
            write(self)
            # 50 images are 7 batches of 8, whatever the first epochs had.
            assert self.epoch < 3 or self.model.optimizer.iterations == 7 * self.epoch
            if self.epoch == 4:
                raise KeyError("killed")

        patch.setattr(phases.Checkpoint, "write", killed)
        with pytest.warns(errors.InputWarning), pytest.raises(KeyError):
            train(tmp_path / "killed")
    sizes = small_memory(monkeypatch, 8)
    resumed = train(tmp_path / "killed")
    assert sizes == [(8, 4)]
    for ours, theirs in zip(resumed[0], whole[0], strict=True):
        np.testing.assert_array_equal(ours, theirs)
    assert resumed[1] == whole[1]


@pytest.mark.parametrize("first", ["with room", "without room"])
def test_a_phase_goes_on_where_the_memory_has_another_size(
    first, make_backbone, colours, here, monkeypatch, tmp_path
):
    """On another machine, say: the frozen layers run beforehand, or in every epoch."""

    def train(has_room, state):
        keras.utils.clear_session()  # A process of its own numbers its layers anew.
        keras.utils.set_random_seed(0)
        model = heads.attach(make_backbone(), 3)
        freezing.unfreeze_head(model)
        setup = dataclasses.replace(here, state=state, batch_size=16)
        with monkeypatch.context() as patch:
            patch.setattr(features, "has_room", lambda *_: has_room)
            with warnings.catch_warnings():
                warnings.simplefilter("ignore", errors.InputWarning)
                phases.fit(model, colours, setup, phases.Phase(4, 0.1))
        return model.get_weights()

    class Killed(Exception):
        """Ends a phase as a kill does."""

    write = phases.Checkpoint.write

    def killed(self):
        write(self)
        if self.epoch == 2:
            raise Killed

    wanted = train(True, None)
    with monkeypatch.context() as patch:
        patch.setattr(phases.Checkpoint, "write", killed)
        with pytest.raises(Killed):
            train(first == "with room", tmp_path)
    resumed = train(first != "with room", tmp_path)
    for ours, theirs in zip(resumed, wanted, strict=True):
        np.testing.assert_allclose(ours, theirs, rtol=1e-4, atol=1e-5)
    again = train(first == "with room", tmp_path)
    for ours, theirs in zip(again, resumed, strict=True):
        np.testing.assert_array_equal(ours, theirs)


def test_features_for_which_the_disk_becomes_full_cost_time_and_no_run(
    make_backbone, colours, here, monkeypatch, cache
):
    def train(kept):
        keras.utils.set_random_seed(0)
        model = heads.attach(make_backbone(), 3)
        freezing.unfreeze_head(model)
        setup = dataclasses.replace(here, cache=store.Cache() if kept else None)
        phases.fit(model, colours, setup, phases.Phase(2))
        return model.get_weights()

    wanted = train(False)
    monkeypatch.setattr(features, "_fits_in_memory", lambda *_: False)

    def full(self):
        raise errors.StorageError("Cannot write a.shard: No space left on device.")

    monkeypatch.setattr(store.Store, "flush", full)
    with pytest.warns(errors.InputWarning, match="kept .*No space left.*run again in"):
        made = train(True)
    for ours, theirs in zip(made, wanted, strict=True):
        np.testing.assert_allclose(ours, theirs, rtol=1e-4, atol=1e-5)
