"""Layers that are random, that normalize, or that several models share."""

import keras
import numpy as np
import pytest
from keras import layers

from keras_tl.models import backbones, catalog, freezing, heads, splitting
from keras_tl.training import optimizers, phases


class OwnNoise(keras.Layer):
    def call(self, inputs, training=False):
        if training:
            return inputs + keras.random.normal(keras.ops.shape(inputs))
        return inputs


class OwnBlock(keras.Layer):
    """A block as a layer, as KerasHub's backbones and many ResNets have them."""

    def __init__(self, **options):
        super().__init__(**options)
        self.conv, self.norm = layers.Conv2D(4, 3), layers.BatchNormalization()
        self.drop = layers.Dropout(0.5)

    def build(self, shape):
        self.conv.build(shape)
        self.norm.build(self.conv.compute_output_shape(shape))

    def call(self, inputs, training=False):
        x = self.norm(self.conv(inputs), training=training)
        return self.drop(x, training=training)


def classifier(*middle, num_classes=3):
    image = x = keras.Input((8, 8, 3), name="image")
    for layer in middle:
        x = layer(x)
    x = layers.GlobalAveragePooling2D(name="pool")(x)
    return keras.Model(image, layers.Dense(num_classes, name="logits")(x))


@pytest.mark.parametrize(
    "random",
    [
        lambda: layers.RandomFlip("horizontal"),
        lambda: layers.RandomRotation(0.3),
        lambda: layers.RandomBrightness(0.5),
        lambda: layers.RandAugment(),
        lambda: layers.MixUp(),
        lambda: layers.GaussianNoise(0.1),
        lambda: keras.Sequential([layers.RandomTranslation(0.2, 0.2)]),
        lambda: layers.Pipeline([layers.RandomZoom(0.2)]),
        OwnNoise,
        lambda: layers.Lambda(lambda x: x + keras.random.normal((8, 8, 3))),
    ],
)
def test_nothing_behind_a_random_layer_runs_only_once(random):
    model = classifier(random(), layers.Conv2D(4, 3))
    freezing.freeze(model)
    freezing.unfreeze_head(model)
    # A layer before the frozen weights that drops is part of the frozen stem instead.
    if any(type(one) in freezing.DROPOUT for one in model._flatten_layers()):
        assert splitting.frozen_cut(model)[0] == "pool"
    else:
        assert splitting.frozen_cut(model) is None


def test_random_layers_change_what_the_head_trains_on(colours, here):
    model = classifier(layers.RandomBrightness(0.9), layers.Conv2D(4, 3))
    freezing.unfreeze_head(model)
    trained, *_ = phases.prepare(model, colours, here, phases.Phase(1))
    images = colours.train.read(range(4)).astype("float32")
    first, second = (np.array(trained(images, training=True)) for _ in range(2))
    assert not np.array_equal(first, second)


@pytest.mark.filterwarnings("ignore::keras_tl.errors.InputWarning")
def test_a_frozen_backbone_drops_nothing_in_training():
    keras.utils.set_random_seed(0)
    backbone = backbones.load("efficientnet_b0", weights=None, image_size=64)
    freezing.freeze(backbone)
    model = heads.attach(backbone, 3, dropout=0.5)
    freezing.unfreeze_head(model)
    assert splitting.frozen_cut(model)[0] == "pool"
    features = keras.Model(model.inputs[0], model.get_layer("pool").output)
    images = np.random.default_rng(0).uniform(0, 255, (2, 64, 64, 3)).astype("float32")
    one, other = (np.array(features(images, training=t)) for t in (True, False))
    np.testing.assert_array_equal(one, other)
    # The head still drops, and so does the backbone once it trains.
    assert not np.array_equal(model(images, training=True), model(images))
    freezing.unfreeze(model)
    assert not np.array_equal(features(images, training=True), one)


def test_batch_normalization_inside_layers_stays_frozen_unless_asked_for(colours, here):
    for build in (
        OwnBlock,
        lambda: layers.TimeDistributed(layers.BatchNormalization()),
    ):
        middle = [layers.Conv2D(4, 3), build()] if build is not OwnBlock else [build()]
        model = classifier(*middle, num_classes=len(colours.class_names))
        norms = [
            one for one in model._flatten_layers() if freezing._is_normalization(one)
        ]
        freezing.freeze(model)
        freezing.unfreeze(model)
        assert [norm.trainable for norm in norms] == [False]
        before = np.array(norms[0].moving_mean)
        phases.fit(model, colours, here, phases.Phase(1))
        np.testing.assert_array_equal(norms[0].moving_mean, before)
        freezing.unfreeze_from(model, model.layers[1].name)
        assert not norms[0].trainable
        freezing.unfreeze(model, batch_normalization=True)
        assert norms[0].trainable
        freezing.freeze_up_to(model, model.layers[1].name)
        assert norms[0].trainable == (build is not OwnBlock)


def test_batch_normalization_without_weights_that_is_asked_for_moves(colours, here):
    norm = layers.BatchNormalization(center=False, scale=False, name="norm")
    model = classifier(layers.Conv2D(4, 3), norm, num_classes=len(colours.class_names))
    freezing.freeze(model)
    freezing.unfreeze_from(model, "norm", batch_normalization=True)
    before = np.array(norm.moving_mean)
    phases.fit(model, colours, here, phases.Phase(1))
    assert not np.array_equal(norm.moving_mean, before)


class Subclassed(keras.Model):
    def __init__(self, backbone):
        super().__init__()
        self.backbone, self.top = backbone, layers.Dense(3)

    def call(self, inputs):
        return self.top(keras.ops.mean(self.backbone(inputs), (1, 2)))


def nested(backbone):
    image = keras.Input((8, 8, 3))
    x = layers.GlobalAveragePooling2D()(backbone(image))
    return keras.Model(image, layers.Dense(3, name="logits")(x))


@pytest.mark.parametrize(
    "build",
    [lambda b: heads.attach(b, 3), nested, Subclassed],
    ids=lambda b: b.__name__,
)
def test_a_change_through_the_backbone_is_no_silent_no_op(build):
    image = keras.Input((8, 8, 3))
    backbone = keras.Model(image, layers.Conv2D(4, 3, name="block1_conv")(image))
    freezing.freeze(backbone)
    model = build(backbone)
    rng = np.random.default_rng(0)
    x, y = rng.normal(size=(8, 8, 8, 3)).astype("float32"), np.arange(8) % 3
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    model.compile("sgd", loss)
    model.fit(x, y, verbose=0)
    freezing.unfreeze(backbone)
    with pytest.raises(ValueError, match="compile"):
        model.fit(x, y, verbose=0)


SLOW = ["resnet50", "mobilenet_v2", "convnext_tiny", "nasnet_mobile"]
EXHAUSTIVE = [
    "resnet50_v2",
    "mobilenet",
    "mobilenet_v3_small",
    "efficientnet_b0",
    "efficientnet_v2_b0",
    "densenet121",
    "xception",
    "inception_resnet_v2",
]


@pytest.mark.filterwarnings("ignore::keras_tl.errors.InputWarning")
@pytest.mark.parametrize(
    "name",
    ["efficientnet_lite0", "vgg16", "inception_v3"]
    + [pytest.param(name, marks=pytest.mark.slow) for name in SLOW]
    + [pytest.param(name, marks=pytest.mark.exhaustive) for name in EXHAUSTIVE],
)
def test_every_layer_of_a_backbone_is_of_a_block_or_the_stem(name):
    size = max(96, catalog.find(name).smallest_size)
    model = heads.attach(backbones.load(name, weights=None, image_size=size), 3)
    freezing.unfreeze(model)
    paths = [weight.path for weight in model.trainable_weights]
    factors = optimizers.match(optimizers.by_block(model, 0.5), paths)
    full = {path.split("/")[0] for path in paths if factors[path] == 1}
    assert full == {"logits"}
    members = [name for names in freezing.blocks(model).values() for name in names]
    assert len(members) == len(set(members))
    freezing.unfreeze_blocks(model, 1)
    trained = {weight.path.split("/")[0] for weight in model.trainable_weights}
    assert len(trained) > 1
    freezing.unfreeze_blocks(model, len(freezing.blocks(model)))
    sizes = {
        layer.name: layer.count_params() for layer in model.layers if layer.weights
    }
    stem = set(sizes) - set(members) - {"logits"}
    assert sum(sizes[name] for name in stem) < 0.5 * sum(sizes.values())
