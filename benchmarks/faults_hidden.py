"""Faults of runs of transfer learning, planted on clean data, with the part at fault.

Each fault is a run as somebody could have made it by mistake: data, a model trained on
frozen features of an ImageNet backbone, and the backbone as it was loaded. A diagnosis
is asked which part is at fault and scored by `Fault.verdict`. No threshold of a
diagnosis may be chosen on these faults: they are there to score it.

    FAULTS["half_of_the_links_are_dead"].plant(clean, seed=0)
"""

import math
from collections.abc import Callable, Sequence
from dataclasses import replace

import keras
import numpy as np
from keras import layers, ops
from PIL import Image, ImageDraw

from benchmarks.faults import BATCH, EPOCHS, RATE, SIZE, Fault, Planted
from keras_tl.data.sources import Arrays, read_all
from keras_tl.data.splits import Split, Splits
from keras_tl.models import (
    backbones,
    efficientnet_lite,
    freezing,
    heads,
    splitting,
)
from keras_tl.training import features

FAULTS: dict[str, Fault] = {}


def _fault(verdict: str, about: str):
    """Add the decorated function to `FAULTS` under its name."""

    def add(plant):
        FAULTS[plant.__name__] = Fault(verdict, about, plant)
        return plant

    return add


# The run of a user, as far as nothing goes wrong in it.


def _healthy_backbone() -> keras.Model:
    """Load the backbone with its weights and its own preprocessing."""
    return backbones.load("efficientnet_lite0", image_size=SIZE)


def _backbone_behind(front: Callable) -> keras.Model:
    """Build the backbone with its weights and preprocessing behind a step of a user.

    Args:
        front: From raw images, as a symbolic tensor, to what is preprocessed.
    """
    image = keras.Input((SIZE, SIZE, 3), name="image")
    x = backbones.preprocess(front(image), "lite")
    model = keras.Model(
        image, efficientnet_lite.efficientnet_lite0(x), name="efficientnet_lite0"
    )
    model.set_weights(_healthy_backbone().get_weights())
    return model


def _rate_of_a_healthy_run() -> keras.optimizers.Optimizer:
    """Make the optimizer of a healthy run."""
    return keras.optimizers.Adam(RATE)


def _run(
    data: Splits,
    seed: int,
    *,
    backbone: Callable = _healthy_backbone,
    head: Callable = heads.attach,
    optimizer: Callable = _rate_of_a_healthy_run,
    from_logits: bool = True,
    parts: Sequence[np.ndarray] | None = None,
    callbacks: Callable = list,
) -> Planted:
    """Train a head on the frozen features of a backbone.

    Args:
        data: What the run sees.
        seed: Decides all that is random.
        backbone: Loads the backbone.
        head: Attaches a new head to it, for a number of classes.
        optimizer: Makes the optimizer.
        from_logits: What the loss is told of the outputs.
        parts: Rows of the examples of each call of `fit`; by default one has them all.
        callbacks: Makes the callbacks of `fit`; with any, there is validation.
    """
    keras.utils.set_random_seed(seed)
    loaded, before = backbone(), backbone()
    before.set_weights(loaded.get_weights())
    freezing.freeze(loaded)
    model = head(loaded, len(data.class_names))
    tail = keras.Model(loaded.outputs[0], model.outputs[0])
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=from_logits)
    tail.compile(optimizer(), loss, metrics=["accuracy"])
    made, called = features.extract(loaded, data.train), callbacks()
    checked = features.extract(loaded, data.validation) if called else None
    for rows in parts or [np.arange(len(made))]:
        tail.fit(
            made.read(rows),
            made.labels[rows],
            batch_size=BATCH,
            epochs=EPOCHS,
            callbacks=called,
            validation_data=checked and (checked.inputs.in_memory(), checked.labels),
            verbose=0,
        )
    return Planted(model, data, before)


def _with_images(split: Split, images: np.ndarray) -> Split:
    """Return a split with other images and the same labels."""
    return replace(split, inputs=Arrays(images.astype("uint8"), split.inputs.kind))


def _changed(split: Split, function: Callable[[np.ndarray], np.ndarray]) -> Split:
    """Return a split each of whose images went through `function`."""
    images = [function(image) for image in read_all(split.inputs)]
    return _with_images(split, np.stack(images))


def _resized(image: np.ndarray, side: int, method=Image.Resampling.BILINEAR):
    """Resize an image to a square."""
    return np.asarray(Image.fromarray(image).resize((side, side), method))


def _chosen(labels: np.ndarray, each: int, random: np.random.Generator) -> np.ndarray:
    """Choose a number of examples of each class, or all where there are fewer."""
    rows = [random.permutation(np.flatnonzero(labels == c)) for c in np.unique(labels)]
    return np.concatenate([of_class[:each] for of_class in rows])


def _variant(image: np.ndarray, random: np.random.Generator) -> np.ndarray:
    """Change an image as augmentation does: mirrored, cut a little, lit otherwise."""
    if random.random() < 0.5:
        image = image[:, ::-1]
    side = int(random.integers(80, SIZE + 1))
    top, left = random.integers(0, SIZE - side + 1, 2)
    cut = _resized(
        np.ascontiguousarray(image[top : top + side, left : left + side]), 96
    )
    light, lift = random.uniform(0.8, 1.2), random.uniform(-15, 15)
    return np.clip(cut * light + lift, 0, 255).astype("uint8")


def _variants(split: Split, rows: np.ndarray, count: int, random) -> Split:
    """Return `count` augmented variants of the examples at `rows`, in turns."""
    chosen = random.permutation(np.resize(rows, count))
    images = read_all(split.inputs)
    made = np.stack([_variant(images[row], random) for row in chosen])
    return Split(Arrays(made, split.inputs.kind), split.labels[chosen])


# Labels.


@_fault(
    "labels",
    "Folders of some classes exist in two spellings, and each example is in either.",
)
def classes_in_two_spellings(clean: Splits, seed: int) -> Planted:
    """Divide half of the classes at random into two of the same meaning."""
    random = np.random.default_rng(seed)
    count = len(clean.class_names)
    doubled = range((count + 1) // 2)

    def spell(split):
        other = (split.labels < len(doubled)) & (random.random(len(split)) < 0.5)
        return replace(
            split, labels=np.where(other, split.labels + count, split.labels)
        )

    names = [*clean.class_names, *(clean.class_names[c].upper() for c in doubled)]
    spelled = {name: spell(split) for name, split in clean.items()}
    return _run(replace(clean, **spelled, class_names=names), seed)


@_fault(
    "labels",
    "Labels missing in the table were filled with 0, which is the number of a class.",
)
def missing_labels_filled_with_zero(clean: Splits, seed: int) -> Planted:
    """Label 60 % of the training examples as the first class."""
    missing = np.random.default_rng(seed).random(len(clean.train)) < 0.6
    labels = np.where(missing, 0, clean.train.labels)
    return _run(replace(clean, train=replace(clean.train, labels=labels)), seed)


@_fault(
    "labels",
    "Training labels come from a crude program that goes by colours, unchecked.",
)
def labels_of_a_crude_program(clean: Splits, seed: int) -> Planted:
    """Label training images by a linear classifier of their colours in four fields."""
    from sklearn.linear_model import LogisticRegression
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    def colours(split):
        fields = read_all(split.inputs).reshape(len(split), 2, 48, 2, 48, 3)
        return fields.mean(axis=(2, 4)).reshape(len(split), -1)

    program = make_pipeline(StandardScaler(), LogisticRegression(C=0.1, max_iter=1000))
    program.fit(colours(clean.validation), clean.validation.labels)
    labels = program.predict(colours(clean.train))
    return _run(replace(clean, train=replace(clean.train, labels=labels)), seed)


@_fault(
    "labels",
    "Classes were numbered as the disk listed the training folders, but by their names "
    "in the other splits.",
)
def training_numbers_classes_in_another_order(clean: Splits, seed: int) -> Planted:
    """Number the classes of training one further than those of the other splits."""
    labels = (clean.train.labels + 1) % len(clean.class_names)
    return _run(replace(clean, train=replace(clean.train, labels=labels)), seed)


# Data.


def _dead_link() -> np.ndarray:
    """Draw what a site for photographs sends in the place of a deleted one."""
    picture = Image.new("RGB", (SIZE, SIZE), (238, 238, 238))
    draw = ImageDraw.Draw(picture)
    draw.rectangle((30, 18, 66, 44), outline=(170, 170, 170), width=2)
    draw.ellipse((42, 25, 54, 37), outline=(170, 170, 170), width=2)
    draw.text((14, 54), "This photo is", fill=(120, 120, 120))
    draw.text((6, 68), "not available.", fill=(120, 120, 120))
    return np.asarray(picture)


@_fault(
    "data",
    "Half of the links were dead, and the site's picture for them was downloaded.",
)
def half_of_the_links_are_dead(clean: Splits, seed: int) -> Planted:
    """Put one and the same picture in the place of half of the images."""
    random, picture = np.random.default_rng(seed), _dead_link()

    def download(split):
        dead = random.random(len(split)) < 0.5
        images = read_all(split.inputs)
        return _with_images(split, np.where(dead[:, None, None, None], picture, images))

    return _run(clean.map(download), seed)


@_fault(
    "data",
    "Downloads broke off, and the decoder filled the missing rows with grey.",
)
def files_cut_off(clean: Splits, seed: int) -> Planted:
    """Keep the first tenth to quarter of the rows of most images."""
    random = np.random.default_rng(seed)

    def cut(image):
        if random.random() < 0.15:
            return image
        image = image.copy()
        image[8 * int(random.integers(1, 4)) :] = 128
        return image

    return _run(clean.map(lambda split: _changed(split, cut)), seed)


@_fault(
    "data",
    "Objects were cut out by boxes in pixels of a smaller picture, so that each image "
    "shows an upper left corner.",
)
def boxes_of_another_scale(clean: Splits, seed: int) -> Planted:
    """Cut a corner of a fifth of the side out of each image."""

    def corner(image):
        return _resized(np.ascontiguousarray(image[:19, :19]), SIZE)

    return _run(clean.map(lambda split: _changed(split, corner)), seed)


@_fault(
    "data",
    "Few photographs were augmented first and divided into splits afterwards.",
)
def augmented_before_the_split(clean: Splits, seed: int) -> Planted:
    """Fill all three splits with variants of the same few photographs."""
    random = np.random.default_rng(seed)
    each = max(3, math.ceil(12 / len(clean.class_names)))
    rows = _chosen(clean.train.labels, each, random)
    sizes = {name: len(split) for name, split in clean.items()}
    everything = _variants(clean.train, rows, sum(sizes.values()), random)
    ends = np.cumsum([0, *sizes.values()])
    parts = {
        name: everything.take(np.arange(ends[n], ends[n + 1]))
        for n, name in enumerate(sizes)
    }
    return _run(replace(clean, **parts), seed)


# Backbone.


@_fault(
    "backbone",
    "The names of the later layers did not match those of the file of weights, and "
    "loading skipped them.",
)
def later_blocks_not_loaded(clean: Splits, seed: int) -> Planted:
    """Leave the weights of all layers after the third block as they were drawn."""

    def load():
        image = keras.Input((SIZE, SIZE, 3), name="image")
        x = backbones.preprocess(image, "lite")
        model = keras.Model(
            image, efficientnet_lite.efficientnet_lite0(x), name="efficientnet_lite0"
        )
        good = _healthy_backbone()
        for layer in model.layers:
            if layer.name.startswith(("stem", "block1", "block2", "block3")):
                layer.set_weights(good.get_layer(layer.name).get_weights())
        return model

    return _run(clean, seed, backbone=load)


@_fault(
    "backbone",
    "The conversion of the weights left out the statistics of batch normalization.",
)
def statistics_not_converted(clean: Splits, seed: int) -> Planted:
    """Reset the moving mean and variance of each BatchNormalization."""

    def load():
        model = _healthy_backbone()
        for layer in model.layers:
            if isinstance(layer, layers.BatchNormalization):
                layer.moving_mean.assign(ops.zeros_like(layer.moving_mean))
                layer.moving_variance.assign(ops.ones_like(layer.moving_variance))
        return model

    return _run(clean, seed, backbone=load)


@_fault(
    "backbone",
    "The conversion of the weights reshaped kernels where it had to transpose them.",
)
def kernels_reshaped_instead_of_transposed(clean: Splits, seed: int) -> Planted:
    """Read the kernels of layers of one pixel from the other order of their axes."""

    def load():
        model = _healthy_backbone()
        for layer in model.layers:
            if isinstance(layer, layers.Conv2D) and layer.kernel_size == (1, 1):
                kernel = layer.get_weights()[0]
                stored = kernel.transpose(3, 2, 0, 1)
                layer.set_weights([stored.reshape(kernel.shape)])
        return model

    return _run(clean, seed, backbone=load)


# Preprocessing.


@_fault(
    "preprocessing",
    "The model takes pixels as planes of colours, and its adapter reshapes where it "
    "had to transpose.",
)
def planes_by_reshape(clean: Splits, seed: int) -> Planted:
    """Reshape images to planes and transpose the planes back."""

    def front(image):
        planes = layers.Reshape((3, SIZE, SIZE), name="to_planes")(image)
        return layers.Permute((2, 3, 1), name="to_pixels")(planes)

    return _run(clean, seed, backbone=lambda: _backbone_behind(front))


@_fault(
    "preprocessing",
    "Pixels pass through signed bytes, in which those above 127 are negative.",
)
def signed_bytes(clean: Splits, seed: int) -> Planted:
    """Wrap the brighter half of the pixels below 0."""

    def front(image):
        return ops.where(image > 127.5, image - 256.0, image)

    return _run(clean, seed, backbone=lambda: _backbone_behind(front))


@_fault(
    "preprocessing",
    "A step that was kept from a model for thumbnails shrinks each image first.",
)
def shrunk_to_thumbnails(clean: Splits, seed: int) -> Planted:
    """Shrink images to 12 pixels and enlarge them again."""

    def front(image):
        small = layers.Resizing(12, 12, name="thumbnail")(image)
        return layers.Resizing(SIZE, SIZE, "nearest", name="enlarge")(small)

    return _run(clean, seed, backbone=lambda: _backbone_behind(front))


# Head.


@_fault("head", "Ten narrow layers of sigmoids stand between the features and logits.")
def many_sigmoids(clean: Splits, seed: int) -> Planted:
    """Attach a deep head through which hardly any gradient passes."""

    def attach(backbone, count):
        x = layers.GlobalAveragePooling2D(name="pool")(backbone.outputs[0])
        for number in range(1, 11):
            x = layers.Dense(32, activation="sigmoid", name=f"hidden_{number}")(x)
        x = layers.Dense(count, name="logits")(x)
        return keras.Model(backbone.inputs[0], x, name="classifier")

    return _run(clean, seed, head=attach)


@_fault(
    "head",
    "Pooling was told that channels come first, and averages over all of them.",
)
def pooled_over_channels(clean: Splits, seed: int) -> Planted:
    """Pool the features to one number for each row of the map."""

    def attach(backbone, count):
        pool = layers.GlobalAveragePooling2D(data_format="channels_first", name="pool")
        x = layers.Dropout(0.2, name="dropout")(pool(backbone.outputs[0]))
        x = layers.Dense(count, name="logits")(x)
        return keras.Model(backbone.inputs[0], x, name="classifier")

    return _run(clean, seed, head=attach)


@_fault("head", "The hidden layer of the head begins with weights of 0, under a ReLU.")
def hidden_layer_of_zeros(clean: Splits, seed: int) -> Planted:
    """Attach a hidden layer that neither answers nor gets a gradient."""

    def attach(backbone, count):
        x = layers.GlobalAveragePooling2D(name="pool")(backbone.outputs[0])
        hidden = layers.Dense(
            256, activation="relu", kernel_initializer="zeros", name="hidden"
        )
        x = layers.Dense(count, name="logits")(hidden(x))
        return keras.Model(backbone.inputs[0], x, name="classifier")

    return _run(clean, seed, head=attach)


# Optimisation.


@_fault(
    "optimisation",
    "The loss was told that the outputs are probabilities, and they are logits.",
)
def loss_of_probabilities_on_logits(clean: Splits, seed: int) -> Planted:
    """Train with a loss that does not apply softmax, nor does the model."""
    return _run(clean, seed, from_logits=False)


@_fault(
    "optimisation",
    "Images did not fit into memory, and thirds of the sorted folder were learned one "
    "after the other.",
)
def third_after_third(clean: Splits, seed: int) -> Planted:
    """Train on the first classes until the end, then on the next, then on the last."""
    order = np.argsort(clean.train.labels, kind="stable")
    data = replace(clean, train=clean.train.take(order))
    thirds = np.array_split(np.arange(len(order)), 3)
    return _run(data, seed, parts=thirds)


@_fault(
    "optimisation",
    "The rate was to fall by a fifth each epoch, and does so each step.",
)
def rate_falls_each_step(clean: Splits, seed: int) -> Planted:
    """Decay the rate before the head has learned anything."""

    def adam():
        schedule = keras.optimizers.schedules.ExponentialDecay
        return keras.optimizers.Adam(schedule(RATE, decay_steps=1, decay_rate=0.8))

    return _run(clean, seed, optimizer=adam)


@_fault(
    "optimisation",
    "Early stopping watches the accuracy as if less of it were better.",
)
def worst_epoch_kept(clean: Splits, seed: int) -> Planted:
    """Stop when the accuracy no longer falls, and go back to where it was lowest."""

    def stop():
        return [
            keras.callbacks.EarlyStopping(
                "val_accuracy", mode="min", patience=3, restore_best_weights=True
            )
        ]

    return _run(clean, seed, callbacks=stop)


@_fault(
    "optimisation",
    "Fine-tuning in batches of two at a careful rate left batch normalization to "
    "train, whose statistics became those of such batches.",
)
def statistics_of_batches_of_two(clean: Splits, seed: int) -> Planted:
    """Fine-tune the upper blocks for one epoch, with their BatchNormalization."""
    planted = _run(clean, seed)
    freezing.unfreeze_from(planted.model, "block5", batch_normalization=True)
    _, tensor = splitting.frozen_cut(planted.model)
    stem, tail = splitting.split_at(planted.model, tensor)
    made = features.extract(stem, clean.train)
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    tail.compile(keras.optimizers.Adam(1e-5), loss)
    tail.fit(made.inputs.in_memory(), made.labels, batch_size=2, epochs=1, verbose=0)
    return planted


# Too little data.


@_fault(
    "too little data",
    "The training split is large, but made of augmented variants of few photographs.",
)
def many_variants_of_few_photographs(clean: Splits, seed: int) -> Planted:
    """Fill training alone with variants of four photographs of each class."""
    random = np.random.default_rng(seed)
    rows = _chosen(clean.train.labels, 4, random)
    train = _variants(clean.train, rows, len(clean.train), random)
    return _run(replace(clean, train=train), seed)


@_fault(
    "too little data",
    "Half of the classes are rare: there are two training images of each.",
)
def half_of_the_classes_are_rare(clean: Splits, seed: int) -> Planted:
    """Keep two training images of every second class."""
    random = np.random.default_rng(seed)
    rare = clean.train.labels % 2 == 1
    few = np.flatnonzero(rare)[_chosen(clean.train.labels[rare], 2, random)]
    rows = np.sort(np.concatenate([np.flatnonzero(~rare), few]))
    return _run(replace(clean, train=clean.train.take(rows)), seed)


# Shift.


@_fault("shift", "Training has photographs, and the test split drawings.")
def test_of_drawings(clean: Splits, seed: int) -> Planted:
    """Turn the test images into drawings of their edges."""

    def draw(image):
        grey = image.mean(axis=-1)
        down, right = np.gradient(grey)
        ink = np.clip(4 * np.hypot(down, right), 0, 255)
        return np.repeat(255 - ink[..., None], 3, axis=-1).astype("uint8")

    return _run(replace(clean, test=_changed(clean.test, draw)), seed)


@_fault(
    "shift",
    "Validation and test images were taken from afar: what is to be seen is small.",
)
def taken_from_afar(clean: Splits, seed: int) -> Planted:
    """Shrink validation and test images to a quarter of the side, on grey."""

    def shrink(image):
        canvas = np.full_like(image, 114)
        canvas[36:60, 36:60] = _resized(image, 24)
        return canvas

    far = {
        name: _changed(getattr(clean, name), shrink) for name in ("validation", "test")
    }
    return _run(replace(clean, **far), seed)


@_fault("shift", "Test images were taken at night, under orange street lamps.")
def test_under_street_lamps(clean: Splits, seed: int) -> Planted:
    """Strengthen the red of the test images and take away most of their blue."""

    def light(image):
        return np.clip(image * np.array([1.3, 0.85, 0.2]), 0, 255).astype("uint8")

    return _run(replace(clean, test=_changed(clean.test, light)), seed)


@_fault(
    "shift",
    "Images were divided in the order of their collection, in which they changed.",
)
def divided_in_order_of_collection(clean: Splits, seed: int) -> Planted:
    """Divide each class along its main direction of variation, not at random."""
    parts = [split for _, split in clean.items()]
    images = np.concatenate([read_all(split.inputs) for split in parts])
    labels = np.concatenate([split.labels for split in parts])
    whole = Split(Arrays(images, clean.train.inputs.kind), labels)
    backbone = heads.pool(_healthy_backbone())
    made = features.extract(backbone, whole).inputs.in_memory()
    shares = np.cumsum([len(split) for split in parts]) / len(whole)
    rows = [[], [], []]
    for number in np.unique(whole.labels):
        of_class = np.flatnonzero(whole.labels == number)
        centred = made[of_class] - made[of_class].mean(axis=0)
        along = centred @ np.linalg.svd(centred, full_matrices=False)[2][0]
        # The sign of a direction is arbitrary: most of the class is in training.
        along = along if np.median(along) < along.mean() else -along
        ordered = of_class[np.argsort(along)]
        cuts = np.round(shares[:2] * len(ordered)).astype(int)
        for split, part in zip(rows, np.split(ordered, cuts), strict=True):
            split.extend(part)
    train, validation, test = (whole.take(np.sort(part)) for part in rows)
    return _run(replace(clean, train=train, validation=validation, test=test), seed)
