import dataclasses

import keras
import numpy as np
import pytest
from keras.distillation import LogitsDistillation

from keras_tl import errors
from keras_tl.data import augment, images, pipeline
from keras_tl.methods import distillation
from keras_tl.models import heads
from keras_tl.training import features, objectives, phases, store, terms
from keras_tl.training.terms import TermModel


@pytest.fixture
def teacher(make_backbone):
    keras.utils.set_random_seed(0)
    return heads.attach(make_backbone(16), 3)


@pytest.fixture
def student(make_backbone):
    keras.utils.set_random_seed(1)
    return heads.attach(make_backbone(), 3, dropout=0.0)


def given(logits):
    """Outputs of a model with a term, whose logits these are."""
    return {"/logits": keras.ops.convert_to_tensor(logits)}


def flip(pixels, draws):
    import tensorflow as tf

    return tf.where((draws[:, 0] < 0.5)[:, None, None, None], pixels, pixels[:, ::-1])


def test_the_loss_is_that_of_keras_distillation():
    rng = np.random.default_rng(0)
    taught, logits = rng.normal(size=(2, 8, 3)).astype("float32")
    labels = np.eye(3, dtype="float32")[rng.integers(0, 3, 8)]
    image = keras.Input((2,))
    model = keras.Model(image, keras.layers.Dense(3)(image))
    method = distillation.from_teacher(temperature=2.5, student_loss_weight=0.3)
    own = TermModel(model, method(model, 10), num_labels=3, steps=10)
    hard = keras.losses.CategoricalCrossentropy(from_logits=True)
    own.compile("sgd", hard)
    # By its name, "kl_divergence", Keras 3.15 takes logits for probabilities.
    divergence = LogitsDistillation(2.5, loss=keras.losses.KLDivergence())
    both = np.concatenate([labels, taught], axis=1)
    found = own.compute_loss(None, both, given(logits), None)
    soft = divergence.compute_loss(taught, logits)
    wanted = 0.3 * float(hard(labels, logits)) + 0.7 * float(soft)
    assert float(found) == pytest.approx(wanted, rel=1e-4)
    # Rows of weight 0, with which a batch is filled up, count for nothing.
    weights = np.array([2, 2, 2, 2, 0, 0, 0, 0], "float32")
    found = own.compute_loss(None, both, given(logits), keras.ops.array(weights))
    soft = divergence.compute_loss(taught[:4], logits[:4])
    wanted = 0.3 * float(hard(labels[:4], logits[:4])) + 0.7 * float(soft)
    assert float(found) == pytest.approx(wanted, rel=1e-4)
    # Validation has labels alone.
    found = own.compute_loss(None, labels, given(logits), training=False)
    assert float(found) == pytest.approx(float(hard(labels, logits)), rel=1e-5)


def test_the_teacher_says_of_each_image_what_it_predicts(teacher, colours):
    taught = distillation.teach(teacher, colours, 8)
    large = images.resize(colours.train.inputs.pixels, 16)
    wanted = teacher.predict(large, verbose=0)
    np.testing.assert_allclose(taught.train.targets, wanted, atol=1e-5)


def test_what_the_student_is_judged_on_went_the_way_of_what_it_learns_from(
    teacher, colours
):
    def same(pixels, draws):
        return pixels

    for change in (None, same):
        taught = distillation.teach(teacher, colours, 8, augment=change)
        for name, split in taught.items():
            original = dict(colours.items())[name].inputs.pixels
            there = images.resize(original, 16)
            np.testing.assert_array_equal(split.inputs.pixels, images.resize(there, 8))
            assert not np.array_equal(split.inputs.pixels, original)


def test_copies_in_floats_are_rounded_for_teacher_and_student_alike(teacher, colours):
    crop = augment.random_resized_crop(scale=(0.3, 1.0))

    def bright(pixels, draws):
        return 1.5 * crop(pixels, draws) - 20

    taught = distillation.teach(teacher, colours, 8, augment=bright, copies=2, seed=3)
    large = colours.train.at_size(16).inputs
    floats = pipeline.Augmented(large, bright, 3, 2).read(range(100))
    assert floats.min() < 0
    assert floats.max() > 255
    whole = np.clip(np.rint(floats), 0, 255).astype("uint8")
    wanted = teacher.predict(whole, verbose=0)
    np.testing.assert_allclose(taught.train.targets, wanted, atol=1e-5)
    np.testing.assert_array_equal(taught.train.inputs.pixels, images.resize(whole, 8))


def test_each_epoch_shows_other_copies_with_what_the_teacher_said_of_those(
    teacher, colours
):
    taught = distillation.teach(teacher, colours, 8, augment=flip, copies=2, seed=3)
    large = colours.train.at_size(16).inputs
    changed = pipeline.Augmented(large, flip, 3, 2).read(range(100))
    assert (changed[:50] != changed[50:]).any()
    wanted = teacher.predict(changed, verbose=0)
    np.testing.assert_allclose(taught.train.targets, wanted, atol=1e-5)
    small = images.resize(changed, 8)
    np.testing.assert_array_equal(taught.train.inputs.pixels, small)
    said = {small[i].tobytes(): wanted[i] for i in range(100)}
    training = pipeline.Training(taught.train, 10, seed=0, num_classes=3)
    for epoch in range(2):
        for x, y, _ in training.epoch(epoch):
            for pixels, both in zip(x.numpy(), y.numpy(), strict=True):
                np.testing.assert_allclose(both[3:], said[pixels.tobytes()], atol=1e-5)
                assert pixels.tobytes() in {
                    row.tobytes() for row in small[50 * epoch : 50 * epoch + 50]
                }


def test_a_second_run_asks_the_teacher_nothing(teacher, colours, tmp_path):
    first, again = store.Cache(tmp_path), store.Cache(tmp_path)
    one = distillation.teach(teacher, colours, 8, cache=first)
    other = distillation.teach(teacher, colours, 8, cache=again)
    assert (first.made, again.made, again.found) == (50, 0, 50)
    np.testing.assert_array_equal(one.train.targets, other.train.targets)


@pytest.mark.slow
def test_a_student_follows_its_teacher_against_the_labels(student, colours, here):
    wrong = (colours.train.labels + 1) % 3
    train = dataclasses.replace(
        colours.train,
        labels=wrong,
        targets=10 * np.eye(3, dtype="float32")[colours.train.labels],
    )
    data = dataclasses.replace(colours, train=train)
    phases.fit(
        student,
        data,
        here,
        phases.Phase(
            epochs=40,
            learning_rate=0.02,
            patience=40,
            method=distillation.from_teacher(student_loss_weight=0.0),
        ),
    )
    right = student.predict(colours.test.inputs.pixels, verbose=0).argmax(1)
    assert (right == colours.test.labels).mean() > 0.9


def test_what_is_saved_is_a_plain_model(student, teacher, colours, here, tmp_path):
    taught = distillation.teach(teacher, colours, 8)
    taught_by = distillation.from_teacher()
    phases.fit(student, taught, here, phases.Phase(epochs=1, method=taught_by))
    student.save(tmp_path / "m.keras")
    again = keras.models.load_model(tmp_path / "m.keras")
    assert type(again) is type(student)
    pixels = colours.test.inputs.pixels
    np.testing.assert_array_equal(
        again.predict(pixels, verbose=0), student.predict(pixels, verbose=0)
    )


def test_examples_keep_what_was_said_of_them(teacher, student, colours):
    taught = distillation.teach(teacher, colours, 8).train
    some = taught.take([4, 1])
    np.testing.assert_array_equal(some.targets, taught.targets[[4, 1]])
    stem = keras.Model(student.inputs[0], student.get_layer("pool").output)
    through = features.extract(stem, some)
    np.testing.assert_array_equal(through.targets, some.targets)


@pytest.mark.parametrize(
    ("call", "said"),
    [
        (lambda: distillation.from_teacher(temperature=0), "temperature"),
        (lambda: distillation.from_teacher(student_loss_weight=1.5), r"in \[0, 1\]"),
    ],
)
def test_values_out_of_range_are_named(call, said):
    with pytest.raises(errors.InputError, match=said):
        call()


def test_what_does_not_fit_together_is_said(student, teacher, colours, here):
    with pytest.raises(errors.InputError, match="copies=0"):
        distillation.teach(teacher, colours, 8, copies=0)
    two = dataclasses.replace(colours, class_names=["a", "b", "c", "d"])
    with pytest.raises(errors.InputError, match="3 classes, the data 4"):
        distillation.teach(teacher, two, 8)
    any_size = keras.Input((None, None, 3))
    pooled = keras.layers.GlobalAveragePooling2D()(any_size)
    with pytest.raises(errors.InputError, match="fixed size"):
        distillation.teach(keras.Model(any_size, pooled), colours, 8)
    taught = distillation.teach(teacher, colours, 8)
    with pytest.raises(errors.InputError, match="methods.distillation"):
        phases.fit(student, taught, here, phases.Phase(epochs=1))
    with pytest.raises(errors.InputError, match="no logits of a teacher"):
        phases.fit(
            student,
            colours,
            here,
            phases.Phase(epochs=1, method=distillation.from_teacher()),
        )
    with pytest.raises(errors.InputError, match="does not mix"):
        pipeline.Training(taught.train, 8, 0, None, 3, lambda x, y, draws: (x, y))


def pooled(size, seed, name="pool"):
    keras.utils.set_random_seed(seed)
    layers = [
        keras.Input((size, size, 3)),
        keras.layers.Rescaling(1 / 255),
        keras.layers.Conv2D(6, 3, activation="relu"),
        keras.layers.GlobalAveragePooling2D(name=name),
    ]
    return keras.Sequential(layers)


def test_features_of_a_teacher_are_targets_without_labels(colours):
    taught = distillation.teach_features(pooled(12, 0), colours)
    assert taught.task == "unlabelled"
    targets = taught.train.targets
    assert targets.shape == (len(colours.train), 6)
    np.testing.assert_allclose(targets.mean(axis=0), 0, atol=1e-5)
    assert np.square(targets).mean() == pytest.approx(1, rel=1e-4)
    # Each is that of its own image, at the teacher's size.
    images = colours.train.at_size(12).read(range(len(colours.train)))
    wanted = pooled(12, 0).predict(images.astype("float32"), verbose=0)
    wanted = wanted - wanted.mean(axis=0)
    wanted = wanted / np.sqrt(np.square(wanted).mean())
    np.testing.assert_allclose(targets, wanted, atol=1e-3)


@pytest.mark.slow
def test_a_student_learns_the_features(colours, here):
    taught = distillation.teach_features(pooled(12, 0), colours)
    student = pooled(8, 1)
    setup = dataclasses.replace(here, objective=objectives.of(taught), choose_by="last")
    method = distillation.from_features(6)
    history = phases.fit(
        student, taught, setup, phases.Phase(20, 5e-2, method=method, name="taught")
    )
    assert history["loss"][-1] < 0.5
    # What was predicted with is not in the student.
    assert {weight.name for weight in student.weights} == {"kernel", "bias"}


def test_teachers_and_students_of_features_that_do_not_fit_are_named(colours):
    flat = keras.Sequential([keras.Input((8, 8, 3)), keras.layers.Conv2D(2, 3)])
    with pytest.raises(errors.InputError, match="vectors of features"):
        distillation.teach_features(flat, colours)
    with pytest.raises(errors.InputError, match="`width`"):
        distillation.from_features(0)
    with pytest.raises(errors.InputError, match="layer"):
        distillation.from_features(3, "pol")(pooled(8, 0), 1)


def test_the_loss_of_features_is_their_mean_squared_error():
    model = pooled(8, 0)
    term = distillation.from_features(2)(model, 1)
    ((name, (_, layer)),) = term.heads.items()
    assert layer == "pool"
    batch = terms.Batch(
        inputs=None,
        logits=None,
        outputs={name: keras.ops.array([[1.0, 2.0], [0.0, 0.0]])},
        labels=None,
        targets=keras.ops.array([[1.0, 0.0], [1.0, 1.0]]),
        sample_weight=keras.ops.array([1.0, 0.0]),
        progress=None,
    )
    # (0 + 4) / 2 for the first row; the second fills up the batch.
    assert float(term.loss(batch)) == pytest.approx(1.0)
