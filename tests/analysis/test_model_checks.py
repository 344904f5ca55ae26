"""Each fault that is planted in a model or a pipeline is found by its code."""

import keras
import numpy as np
import pytest
from keras import layers

from keras_tl.analysis import doctor, preprocessing_checks
from keras_tl.models import backbones, freezing, heads

RAW = np.random.default_rng(0).integers(0, 256, (8, 96, 96, 3)).astype("uint8")
LABELS = np.arange(8) % 4


def codes(findings):
    return {finding.code for finding in findings}


def sparse(from_logits=True):
    return keras.losses.SparseCategoricalCrossentropy(from_logits=from_logits)


def vgg(size=96, **options):
    """A VGG16 in its first layers and names alone, with weights that are not fresh."""
    x = image = keras.Input((size, size, 3))
    for block in range(1, 6):
        x = layers.Conv2D(4, 3, padding="same", name=f"block{block}_conv1")(x)
        x = layers.MaxPooling2D(name=f"block{block}_pool")(x)
    model = keras.Model(image, x, name="vgg16")
    for layer in model.layers:
        if layer.weights:
            layer.bias.assign(layer.bias + 0.1)
    model.trainable = options.get("trainable", False)
    return model


def classifier(
    body=None,
    *,
    before=None,
    units=4,
    activation=None,
    loss=None,
    optimizer="adam",
    size=96,
    dtype=None,
    hidden=(),
    trainable=False,
):
    body = body or vgg(size, trainable=trainable)
    image = keras.Input((size, size, 3))
    x = body(before(image) if before is not None else image)
    x = layers.GlobalAveragePooling2D()(x)
    for width in hidden:
        x = layers.Dense(width, activation="relu")(x)
    x = layers.Dense(units, activation=activation, dtype=dtype)(x)
    model = keras.Model(image, x)
    model.compile(optimizer, loss or sparse())
    return model


def caffe(images):
    return images[..., ::-1].astype("float32") - [103.939, 116.779, 123.68]


def test_a_right_model_raises_nothing_and_is_left_as_it_is():
    model = classifier()
    optimizer = model.optimizer
    before = [np.array(v.numpy()) for v in model.variables]
    assert not codes(doctor.check_model(model, caffe(RAW), LABELS, raw=RAW))
    for old, variable in zip(before, model.variables, strict=True):
        np.testing.assert_array_equal(old, variable.numpy())
    assert model.optimizer is optimizer
    assert not optimizer.built or int(optimizer.iterations.numpy()) == 0


def test_our_own_models_raise_nothing():
    body = backbones.load("efficientnet_lite0", image_size=96)
    freezing.freeze(body)
    model = heads.attach(body, 4)
    model.compile("adam", sparse())
    assert not codes(doctor.check_model(model, RAW.astype("float32"), LABELS))
    scaled = doctor.check_model(model, RAW / 255.0, LABELS)
    assert codes(scaled) == {"pixel-range"}


def lambda_layer():
    return layers.Lambda(lambda x: x)


def changed():
    model = classifier()
    model.get_layer("vgg16").trainable = True
    return model


def nothing_trains():
    model = classifier()
    model.trainable = False
    model.compile("adam", sparse())
    return model


def moving_statistics():
    image = keras.Input((96, 96, 3))
    x = layers.Conv2D(4, 3, name="a")(image)
    x = layers.BatchNormalization(name="b")(x)
    body = keras.Model(image, x, name="mine")
    body.get_layer("a").trainable = False
    return classifier(body)


def softmax_layer_behind_softmax():
    model = classifier(activation="softmax")
    twice = keras.Model(model.input, layers.Softmax()(model.output))
    twice.compile("adam", sparse(False))
    return twice


@keras.saving.register_keras_serializable("test")
class Cut(keras.layers.Layer):
    """A layer through which no gradient comes."""

    def call(self, x):
        return keras.ops.stop_gradient(x)


@keras.saving.register_keras_serializable("test")
class Counting(keras.layers.Layer):
    """A layer that changes its weight, whatever its flag is."""

    def build(self, shape):
        self.count = self.add_weight(shape=(), initializer="zeros", trainable=False)

    def call(self, x):
        self.count.assign(self.count + 1)
        return x


def without_gradient():
    body = vgg(trainable=True)
    x = Cut()(body.output)
    x = layers.Dense(4)(layers.GlobalAveragePooling2D()(x))
    model = keras.Model(body.input, x)
    model.compile(keras.optimizers.Adam(1e-5), sparse())
    return model


def counting():
    body = vgg()
    layer = Counting()
    x = layers.GlobalAveragePooling2D()(layer(body.output))
    model = keras.Model(body.input, layers.Dense(4)(x))
    layer.trainable = False
    model.compile("adam", sparse())
    return model


def open_shape():
    x = image = keras.Input((None, None, 3))
    x = layers.Conv2D(4, 3, name="block1_conv1")(x)
    return keras.Model(image, x)


def swapped():
    return caffe(RAW)[..., ::-1]


# Code -> model, and what differs from (preprocessed images, labels).
PLANTED = {
    "pixel-range": (classifier, {"inputs": RAW / 255.0}),
    "channel-order": (classifier, {"inputs": swapped()}),
    "large-head": (lambda: classifier(hidden=(1024, 1024)), {}),
    "unused-outputs": (lambda: classifier(units=1000), {"num_classes": 4}),
    "labels-do-not-fit-head": (lambda: classifier(units=3), {}),
    "labels-do-not-fit-loss": (
        lambda: classifier(loss="categorical_crossentropy", activation="softmax"),
        {"labels": LABELS[:, None]},
    ),
    "softmax-twice": (lambda: classifier(activation="softmax"), {}),
    "softmax-of-one": (
        lambda: classifier(units=1, activation="softmax", loss="binary_crossentropy"),
        {"labels": LABELS % 2},
    ),
    "logits-as-probabilities": (
        lambda: classifier(loss="sparse_categorical_crossentropy"),
        {},
    ),
    "tiny-feature-map": (
        lambda: classifier(size=32),
        {"inputs": caffe(RAW[:, :32, :32]), "raw": RAW[:, :32, :32]},
    ),
    "nothing-frozen": (
        lambda: classifier(trainable=True, optimizer=keras.optimizers.Adam(1e-5)),
        {},
    ),
    "high-learning-rate": (
        lambda: classifier(trainable=True, optimizer="rmsprop"),
        {},
    ),
    "flags-changed-after-compile": (changed, {}),
    "nothing-trains": (nothing_trains, {}),
    "batch-normalization-trains": (moving_statistics, {}),
    "trainable-layer-stays": (without_gradient, {}),
    "frozen-layer-moves": (counting, {}),
    "half-precision-head": (lambda: classifier(dtype="float16"), {}),
    "augmentation-in-model": (lambda: classifier(before=layers.RandomFlip()), {}),
    "code-in-model": (lambda: classifier(before=lambda_layer()), {}),
    "open-input-shape": (open_shape, {}),
}
ALSO = {
    "nothing-frozen",
    "high-learning-rate",
}


@pytest.mark.parametrize("code", PLANTED)
def test_a_planted_fault_is_found_by_its_code_and_nothing_else_is(code):
    build, others = PLANTED[code]
    given = {"inputs": caffe(RAW), "labels": LABELS, "raw": RAW, **others}
    noticed = codes(doctor.check_model(build(), **given))
    assert code in noticed
    assert noticed <= {code} | ALSO


def test_softmax_behind_softmax_is_found():
    noticed = doctor.check_model(softmax_layer_behind_softmax(), caffe(RAW), LABELS)
    assert "softmax-twice" in codes(noticed)


@pytest.mark.parametrize(
    ("constructor", "options", "contract"),
    [
        ("VGG16", {}, "caffe"),
        ("ResNet50", {}, "caffe"),
        ("ResNet50V2", {}, "tf"),
        ("MobileNet", {"alpha": 0.25}, "tf"),
        ("MobileNetV2", {"alpha": 0.35}, "tf"),
        ("MobileNetV3Small", {}, "none"),
        ("DenseNet121", {}, "torch"),
        ("EfficientNetB0", {}, "none"),
        ("EfficientNetV2B0", {}, "none"),
        ("Xception", {}, "tf"),
        ("InceptionV3", {}, "tf"),
        ("NASNetMobile", {}, "tf"),
        ("ConvNeXtTiny", {}, "none"),
    ],
)
def test_the_contract_of_a_model_of_keras_is_known(constructor, options, contract):
    build = getattr(keras.applications, constructor)
    shape = (96, 96, 3)
    model = build(weights=None, include_top=False, input_shape=shape, **options)
    assert preprocessing_checks.contract_of(model) == contract


@pytest.mark.filterwarnings("ignore::keras_tl.errors.InputWarning")
def test_a_saved_model_is_checked_by_the_command(tmp_path, call, capsys):
    body = backbones.load("efficientnet_lite0", weights=None, image_size=32)
    freezing.freeze(body)
    model = heads.attach(body, 7)
    model.compile("adam", sparse())
    model.save(tmp_path / "model.keras")
    arguments = ["cifar10_sample", "--limit", "100", "--no-features", "--json"]
    arguments += ["--model", str(tmp_path / "model.keras")]
    assert call("check", *arguments) == 1
    text = capsys.readouterr().out
    assert "labels-do-not-fit-head" in text
    assert "tiny-feature-map" in text


def pipelines():
    tf = pytest.importorskip("tensorflow")
    images = RAW[:, :16, :16]
    other = np.random.default_rng(1).integers(0, 256, images.shape).astype("uint8")
    flip = layers.RandomFlip(seed=1)

    def augment(x, y):
        return flip(tf.cast(x, "float32"), training=True), y

    train = tf.data.Dataset.from_tensor_slices((images, LABELS))
    validation = tf.data.Dataset.from_tensor_slices((other, LABELS))
    return train, validation, augment


def test_a_right_pipeline_raises_nothing():
    train, validation, augment = pipelines()
    train = train.cache().shuffle(8).batch(4).map(augment)
    assert not doctor.check_pipeline(train, validation.batch(4), augmented=True)


def faulty():
    train, validation, augment = pipelines()
    shuffled, batches = train.shuffle(8).batch(4), validation.batch(4)
    scaled = validation.map(lambda x, y: (x / 255, y)).batch(4)
    return {
        "augmentation-before-cache": (
            train.map(augment).cache().shuffle(8).batch(4),
            batches,
        ),
        "augmentation-in-validation": (shuffled, validation.map(augment).batch(4)),
        "validation-is-shuffled": (shuffled, validation.shuffle(8).batch(1)),
        "identical-epochs": (train.batch(4), batches),
        "sorted-by-label": (
            train.map(lambda x, y: (x, 0 * y)).shuffle(8).batch(8),
            batches,
        ),
        "training-in-validation": (
            shuffled,
            validation.concatenate(train.take(1)).batch(4),
        ),
        "scales-differ": (shuffled, scaled),
        "no-validation": (shuffled, None),
    }


@pytest.mark.parametrize("code", list(faulty()))
def test_a_faulty_pipeline_is_found_by_its_code_and_nothing_else_is(code):
    keras.utils.set_random_seed(0)
    assert codes(doctor.check_pipeline(*faulty()[code])) == {code}


def test_augmentation_that_repeats_is_found_in_any_iterable():
    rng = np.random.default_rng(0)
    replayed = [(RAW[rows], LABELS[rows]) for rows in (range(4), range(4, 8))]

    class Shuffled:
        def __iter__(self):
            return iter([replayed[i] for i in rng.permutation([0, 1])])

    validation = [(255 - RAW, LABELS)]
    noticed = set()
    for _ in range(8):
        noticed |= codes(doctor.check_pipeline(Shuffled(), validation, augmented=True))
    assert "augmentation-repeats" in noticed
    assert noticed <= {"augmentation-repeats", "identical-epochs"}


@pytest.mark.parametrize("steps", [1562.5, "10"])
def test_steps_that_are_no_whole_number_are_found(steps):
    train, validation, _ = pipelines()
    noticed = doctor.check_pipeline(
        train.shuffle(8).batch(4), validation.batch(4), steps_per_epoch=steps
    )
    assert codes(noticed) == {"steps-per-epoch"}
