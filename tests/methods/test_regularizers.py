import keras
import numpy as np
import pytest

from keras_tl import errors
from keras_tl.methods import regularizers
from keras_tl.models import freezing, heads
from keras_tl.training import phases
from keras_tl.training.terms import TermModel


@pytest.fixture
def classifier(make_backbone):
    keras.utils.set_random_seed(0)
    backbone = make_backbone()
    freezing.freeze(backbone)
    model = heads.attach(backbone, 3, dropout=0.0)
    freezing.unfreeze_from(model, "block2")
    return model


def with_term(model, method):
    return TermModel(model, method(model, 10), num_labels=None, steps=10)


def terms(model, method, images, labels):
    """The difference between the loss of a training step and the plain one."""
    regularized = with_term(model, method)
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)

    def both(change):
        change()
        found = []
        for one in (regularized, model):
            one.compile("sgd", loss)
            y_pred = one(images)
            found.append(
                float(one.compute_loss(images, labels, y_pred, None, training=True))
            )
        y_pred = regularized(images)
        plain = regularized.compute_loss(images, labels, y_pred, None, training=False)
        assert float(plain) == pytest.approx(found[1], rel=1e-5)
        return found[0] - found[1]

    return both


def batch(colours):
    return colours.train.inputs.pixels[:6].astype("float32"), colours.train.labels[:6]


def test_l2_sp_is_the_distance_from_the_start_and_the_size_of_the_head(
    classifier, colours
):
    measure = terms(
        classifier, regularizers.l2_sp(alpha=0.3, beta=0.2), *batch(colours)
    )
    kernel = classifier.get_layer("block2_conv").kernel
    logits = classifier.get_layer("logits").kernel
    bias = classifier.get_layer("logits").bias
    head = (logits.numpy() ** 2).sum() + (bias.numpy() ** 2).sum()
    assert measure(lambda: None) == pytest.approx(0.1 * head, rel=1e-3)
    moved = measure(lambda: kernel.assign_add(np.full(kernel.shape, 0.5)))
    wanted = 0.15 * 0.25 * np.prod(kernel.shape) + 0.1 * head
    assert moved == pytest.approx(wanted, rel=1e-3)


def test_delta_is_the_distance_of_the_maps(classifier, colours):
    images, labels = batch(colours)
    measure = terms(
        classifier,
        regularizers.delta(["block2_conv"], alpha=0.3, beta=0),
        images,
        labels,
    )
    assert measure(lambda: None) == pytest.approx(0, abs=1e-5)
    bias = classifier.get_layer("block2_conv").bias
    # Every cell of every map moves by 0.5: 8 x 8 cells, 4 channels.
    moved = measure(lambda: bias.assign_add(np.full(4, 0.5)))
    assert moved == pytest.approx(0.15 * 0.25 * 8 * 8 * 4, rel=1e-3)


@pytest.mark.parametrize("count", [3, 6])
def test_bss_is_the_smallest_squared_singular_values(classifier, colours, count):
    images, labels = (part[:count] for part in batch(colours))
    measure = terms(classifier, regularizers.bss(eta=2.0, k=2), images, labels)
    pooled = keras.Model(classifier.inputs[0], classifier.get_layer("pool").output)
    features = keras.ops.convert_to_numpy(pooled(images))
    values = np.linalg.svd(features, compute_uv=False)
    wanted = 2.0 * (np.sort(values)[:2] ** 2).sum()
    assert measure(lambda: None) == pytest.approx(wanted, abs=1e-4)


def test_lwf_is_how_far_the_old_head_says_something_else(classifier, colours):
    images, labels = batch(colours)
    old_head = keras.layers.Dense(7)
    pooled = keras.Model(classifier.inputs[0], classifier.get_layer("pool").output)

    def softened():
        logits = keras.ops.convert_to_numpy(old_head(pooled(images))) / 3.0
        shares = np.exp(logits)
        return shares / shares.sum(1, keepdims=True)

    start = softened()
    measure = terms(
        classifier,
        regularizers.lwf(old_head, alpha=0.5, temperature=3.0),
        images,
        labels,
    )
    assert measure(lambda: None) == pytest.approx(0, abs=1e-5)
    kernel = classifier.get_layer("block2_conv").kernel
    moved = measure(lambda: kernel.assign(kernel * -20.0))
    divergence = (start * np.log(start / softened())).sum(1).mean()
    assert divergence > 0.01
    assert moved == pytest.approx(0.5 * 9.0 * divergence, rel=1e-3)


REGULARIZERS = {
    "lwf": regularizers.lwf(keras.layers.Dense(7)),
    "l2_sp": regularizers.l2_sp(alpha=100.0),
    "delta": regularizers.delta(["block2_add"], alpha=1.0),
    "bss": regularizers.bss(),
}


@pytest.mark.parametrize(
    "method",
    [
        regularizers.l2_sp(),
        regularizers.delta(["block2_add"], alpha=1.0),
        regularizers.lwf(keras.layers.Dense(7)),
        regularizers.bss(eta=1.0, k=2),
        regularizers.bss(eta=1.0, k=9),
    ],
)
@pytest.mark.parametrize("count", [3, 5])
def test_copies_that_fill_up_a_batch_count_for_nothing(
    method, count, classifier, colours
):
    # Four features: with 3 rows they are more than those, with 5 fewer.
    images, labels = (part[:count] for part in batch(colours))
    model = with_term(classifier, method)
    model.compile("sgd", keras.losses.SparseCategoricalCrossentropy(from_logits=True))
    kernel = classifier.get_layer("block2_conv").kernel
    kernel.assign(kernel * -3.0)

    def loss(rows, weights):
        x, y = images[rows], labels[rows]
        return float(model.compute_loss(x, y, model(x), weights))

    alone = loss(np.arange(count), None)
    rows = np.minimum(np.arange(8), count - 1)
    weights = np.where(np.arange(8) < count, 8 / count, 0).astype("float32")
    filled = loss(rows, keras.ops.array(weights))
    assert filled == pytest.approx(alone, rel=1e-4)


def test_squares_are_added_in_single_precision():
    # 2,048 is where float16 stops to count by ones.
    many = keras.ops.ones((70_000,), "float16")
    assert float(regularizers._squares([many])) == 70_000
    assert regularizers._squares([many]).dtype == "float32"


@pytest.mark.parametrize("name", REGULARIZERS)
def test_a_phase_trains_with_it_and_saves_a_plain_model(
    name, classifier, colours, here, tmp_path
):
    phases.fit(
        classifier,
        colours,
        here,
        phases.fine_tuning(epochs=3, learning_rate=0.01, method=REGULARIZERS[name]),
    )
    classifier.save(tmp_path / "m.keras")
    again = keras.models.load_model(tmp_path / "m.keras")
    assert type(again) is type(classifier)
    images = colours.test.inputs.pixels
    np.testing.assert_array_equal(again.predict(images), classifier.predict(images))


def test_a_strong_l2_sp_keeps_the_weights_where_they_were(classifier, colours, here):
    start = classifier.get_layer("block2_conv").get_weights()[0]
    distance = {}
    for name, regularizer in (("plain", None), ("held", REGULARIZERS["l2_sp"])):
        classifier.get_layer("block2_conv").kernel.assign(start)
        phases.fit(
            classifier,
            colours,
            here,
            phases.fine_tuning(epochs=10, learning_rate=0.01, method=regularizer),
        )
        kernel = classifier.get_layer("block2_conv").get_weights()[0]
        distance[name] = abs(kernel - start).max()
    assert distance["held"] < distance["plain"] / 2


@pytest.mark.parametrize(
    ("build", "said"),
    [
        (lambda model: with_term(model, regularizers.l2_sp(alpha=-1)), "alpha"),
        (lambda model: with_term(model, regularizers.delta([])), "layers"),
        (lambda model: with_term(model, regularizers.delta(["block9"])), "layers"),
        (lambda model: with_term(model, regularizers.bss("pol")), "Did you mean pool"),
        (
            lambda model: with_term(model, regularizers.bss("block2_add")),
            "batch, features",
        ),
        (lambda model: with_term(model, regularizers.bss(k=0)), "k=0"),
        (
            lambda model: with_term(model, regularizers.lwf(None, temperature=0)),
            "temperature",
        ),
    ],
)
def test_what_cannot_work_is_said(classifier, build, said):
    with pytest.raises(errors.InputError, match=said):
        build(classifier)
