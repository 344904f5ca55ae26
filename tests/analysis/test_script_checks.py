"""The errors that articles print are found in the source of a script."""

import pytest

from keras_tl import errors
from keras_tl.analysis import script_checks

# The code as many articles have it; each line that is wrong is named below.
ARTICLE = '''\
"""We pre-train a VGG16 on ImageNet. Keras supports Theano."""
from keras.preprocessing.image import ImageDataGenerator
from keras.applications import VGG16
from keras.layers import Dense, Flatten
from keras.datasets import cifar10
from tensorflow.keras.models import Model, load_model

(x_train, y_train), (x_test, y_test) = cifar10.load_data()
x_train = x_train / 255
base = VGG16(weights="imagenet", include_top=False)
x = Flatten()(base.output)
x = Dense(4096, activation="relu")(x)
x = Dense(4096, activation="relu")(x)
model = Model(base.input, Dense(1000, activation="softmax")(x))
model.compile(loss="categorical_crossentropy", optimizer="rmsprop")
generator = ImageDataGenerator(rotation_range=15).flow(x_train, y_train)
model.fit_generator(generator, steps_per_epoch=len(x_train) / 32)
model = load_model("model.h5")
'''
# Number in docs/vgg16_cifar10.md -> code.
SIXTEEN = {
    1: "image-data-generator",
    2: "open-input-shape",
    3: "large-head",
    4: "unused-outputs",
    5: "labels-do-not-fit-loss",
    6: "pixel-range",
    7: "nothing-frozen",
    8: "high-learning-rate",
    9: "fit-generator",
    10: "steps-per-epoch",
    11: "no-validation",
    12: "never-saved",
    13: "tiny-feature-map",
    14: "no-seed",
    15: "claims-pretraining",
    16: "mixed-keras",
}
# The same without the error.
RIGHT = {
    1: [("from keras.preprocessing.image import ImageDataGenerator\n", "")],
    2: [("include_top=False)", "include_top=False, input_shape=(96, 96, 3))")],
    3: [("Dense(4096", "Dense(64")],
    4: [("Dense(1000", "Dense(10")],
    5: [("categorical_cross", "sparse_categorical_cross")],
    6: [("x_train / 255", "preprocess_input(x_train)")],
    7: [("x = Flatten", "base.trainable = False\nx = Flatten")],
    8: [('optimizer="rmsprop"', "optimizer=Adam(1e-5)")],
    9: [("fit_generator", "fit")],
    10: [("len(x_train) / 32", "len(x_train) // 32")],
    11: [("len(x_train) / 32)", "len(x_train) / 32, validation_data=validation)")],
    12: [("model = load_model", 'model.save("model.h5")\nmodel = load_model')],
    13: [("x_train / 255", "resize(x_train / 255, (96, 96))")],
    14: [("base =", "set_random_seed(0)\nbase =")],
    15: [("We pre-train a VGG16 on ImageNet.", "VGG16 was trained on ImageNet.")],
    16: [("tensorflow.keras", "keras"), ("Keras supports Theano.", "")],
}


def codes(source):
    return {finding.code for finding in script_checks.check_source(source)}


@pytest.mark.parametrize("number", SIXTEEN)
def test_each_error_of_the_article_is_found_and_its_remedy_is_not(number):
    assert SIXTEEN[number] in codes(ARTICLE)
    source = ARTICLE
    for wrong, right in RIGHT[number]:
        assert wrong in source
        source = source.replace(wrong, right)
    assert SIXTEEN[number] not in codes(source)


def test_the_article_has_these_sixteen_and_no_other():
    assert codes(ARTICLE) == set(SIXTEEN.values())
    messages = [finding.message for finding in script_checks.check_source(ARTICLE)]
    assert any("2 hidden layers of 4,096 units" in message for message in messages)


def test_a_script_without_them_raises_nothing():
    source = """\
import keras
from keras.applications.vgg16 import VGG16, preprocess_input

keras.utils.set_random_seed(0)
base = VGG16(weights="imagenet", include_top=False, input_shape=(96, 96, 3))
base.trainable = False
train = train.map(lambda x, y: (preprocess_input(x), y))
x = keras.layers.GlobalAveragePooling2D()(base.output)
model = keras.Model(base.input, keras.layers.Dense(10)(x))
loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
model.compile(keras.optimizers.Adam(1e-3), loss)
model.fit(train, validation_data=validation, epochs=10)
model.save("model.keras")
"""
    assert not codes(source)


def test_what_is_no_python_is_refused(tmp_path):
    path = tmp_path / "train.py"
    path.write_text("def (")
    with pytest.raises(errors.InputError, match="Python"):
        script_checks.check(path)
