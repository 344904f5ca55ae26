# %% [markdown]
# # VGG16 on CIFAR-10: replace the head, then fine-tune the last block
#
# Many articles show transfer learning with VGG16 and CIFAR-10, often with the same
# errors, which `docs/vgg16_cifar10.md` lists. This notebook does their steps correctly,
# with 320 images, in about two minutes on a laptop's processor. You will
#
# 1. choose the size at which images of 32 pixels enter a network made for 224;
# 2. see which pixels the network expects, and what augmentation does to images;
# 3. replace the head, and mark the block that will be fine-tuned;
# 4. run the frozen layers once, for all phases;
# 5. find a learning rate for the head, and train it;
# 6. fine-tune the last block, compare, and use the result.
#
# If frozen layers and fine-tuning are new to you, begin with the notebook `quickstart`.

# %%
import importlib.util

if importlib.util.find_spec("keras_tl") is None:
    raise SystemExit("Please install keras-tl in this kernel: pip install -e CHECKOUT")

# %%
# %matplotlib inline
import time
from pathlib import Path

import keras_tl.quiet  # noqa: F401  Keeps away the start-up messages of TensorFlow.

import keras

from keras_tl import config, errors
from keras_tl.analysis import figures, gallery, summary
from keras_tl.data import augment, splits
from keras_tl.deploy import artifact, run_folder
from keras_tl.models import freezing, heads
from keras_tl.recipes import vgg16_cifar10 as recipe
from keras_tl.training import phases, placement, rate_finder

# %% [markdown]
# ## Settings
# The images are a sample of CIFAR-10 that travels with the package. Keras downloads the
# weights of VGG16, 59 MB. If the folder of this notebook holds torchvision's weights of
# the same network, those are used instead, as for the results that are stored here.

# %% tags=["parameters"]
file = "vgg16_torchvision_notop.weights.h5"
found = Path(file).exists()
settings = recipe.Config(
    dataset="cifar10_sample",
    weights=file if found else "imagenet",
    preprocessing="torch" if found else None,
    limit=320,
    augment="image_data_generator",
    augmented_copies=3,
    epochs=20,
    learning_rate=3e-3,
    fine_tune_epochs=4,
)

# %% [markdown]
# ## 1. Small images in a large network

# %%
place, settings = placement.from_settings(settings)  # Sets the seed.
data = recipe.build_data(settings)

# %%
gallery.samples(data.at_size(32).train, data.class_names)

# %% [markdown]
# VGG16 halves rows and columns five times, so that one cell of its last feature map
# stands for a square of 32 by 32 pixels. The head takes the mean over these cells. The
# lines show them for one image, scaled up to four sizes. At 32 pixels there is a single
# cell, and where something is in the image is lost. At 224 pixels, the size VGG16 was
# trained with, there are 49, at 49 times the cost. This run takes 96 pixels: 9 cells.

# %%
enlarged, titles = [], []
for size in (32, 64, 96, 224):
    image = data.train.at_size(size).read([0])[0].astype("uint8")
    image[::32] = image[:, ::32] = 255
    enlarged.append(image)
    titles.append(f"{size} pixels: {size // 32} x {size // 32} cells")
figures.grid(enlarged, titles)

# %% [markdown]
# ## 2. The pixels that the network expects
# Pixels go into the model as they are, from 0 to 255. Its first layer turns them into
# what the pretrained weights have seen in their own training. For the weights of Keras,
# that is blue, green and red minus the mean of ImageNet; for those of torchvision, red,
# green and blue with mean 0 and standard deviation 1. Pixels divided by 255, which many
# articles have, are right for neither. A layer of the model cannot be forgotten when
# the model is used; at the end you will see what that would cost.

# %%
with place.scope():
    model = recipe.build_model(settings, len(data.class_names))
images = data.train.read(range(8))
print(f"Pixels from {images.min():.0f} to {images.max():.0f}, as the model takes them")
scaling = keras.Model(model.inputs, model.get_layer("preprocess").output)
scaled = scaling.predict(images, verbose=0)
print(f"Behind its layer `preprocess`: from {scaled.min():.1f} to {scaled.max():.1f}")

# %% [markdown]
# ### Augmentation
# These are the ranges that the articles give to Keras's `ImageDataGenerator`: small
# turns, shifts and zooms, and the mirror image. They change training images alone.
# `shear_range` is an angle in degrees: the usual 0.1 cannot be seen.

# %%
print(augment.MODERATE)
changes = augment.from_settings(settings)
gallery.augmented(
    data.train, changes["augment"], count=2, epochs=settings.augmented_copies
)

# %% [markdown]
# Images that differ in every epoch would have to run through the whole network in every
# epoch. `augmented_copies` is between that and no augmentation: each image is changed a
# few times beforehand, and each epoch uses the next of these copies.

# %% [markdown]
# ## 3. Replace the head
# `include_top=False` leaves out the three dense layers of VGG16, whose last one answers
# for the 1,000 classes of ImageNet. Many articles put two new layers of 4,096 units in
# their place. The recipe takes the mean over the cells and one linear layer. Compare
# how many weights 320 images would have to determine:

# %%
backbone = keras.Model(model.inputs, model.get_layer("pool").input, name="vgg16")
for name, head in {
    "two dense layers of 4,096": heads.attach_mlp(backbone, len(data.class_names)),
    "mean and one linear layer": model,
}.items():
    print(f"{name}: {freezing.report(head).head:,} weights")

# %% [markdown]
# `recipe.build_model` has frozen everything and then unfrozen what fine-tuning will
# train: `block5`, the last three convolutions, and the head. The first four blocks
# stay frozen from beginning to end.

# %%
layers = freezing.report(model)
print(layers)
figures.layers(layers.rows)

# %% [markdown]
# ## 4. Run the frozen blocks once
# What the first four blocks make of an image is the same in every epoch of both phases,
# so they run once, over all copies. What is left is a small model: it takes their
# feature maps in place of images. It shares its layers with the whole model, which
# therefore learns with it. The features are kept on disk for the next run.

# %%
run = config.start_run(
    "vgg16_cifar10", settings, time.perf_counter(), splits.describe(data)
)
setup = phases.setup(settings, place, data, run, **changes)
part, inputs = phases.precompute_frozen(model, data, setup)

# %%
print(f"{len(data.train)} images, each {data.train.read([0]).shape[1:]}")
print(f"{len(inputs.train)} feature maps, each {inputs.train.read([0]).shape[1:]}")
print(f"Parameters of the whole model: {model.count_params():,}")
print(f"Parameters of the model that is left: {part.count_params():,}")

# %% [markdown]
# ## 5. Train the head
# For the first phase `block5` is frozen too, so that the random weights of the new head
# do not spoil it.

# %%
freezing.freeze_up_to(model, "pool")
print(freezing.report(model))

# %% [markdown]
# ### Which learning rate?
# The recipe's 1e-3 is for thousands of images; here an epoch has only five steps. The
# learning-rate finder trains one step at each of many growing rates, and then restores
# the weights. A good rate lies where the loss begins to fall: where it is lowest, just
# before training fails, the rate is too high already. With features in place of images
# this takes seconds. The smoothed curve lags behind.

# %%
phase = phases.Phase(settings.epochs, settings.learning_rate)
tested = rate_finder.find(part, inputs, setup, phase)
figures.learning_rates(
    tested.rates,
    tested.losses,
    tested.smoothed,
    {"suggested": tested.valley, "of the settings": settings.learning_rate},
)

# %%
head = phases.fit(part, inputs, setup, phase)

# %%
figures.curves(head)

# %% [markdown]
# A copy of the model as it is now, to compare with later:

# %%
frozen = keras.models.clone_model(part)
frozen.set_weights(part.get_weights())

# %% [markdown]
# ## 6. Fine-tune `block5`
# Later blocks know more of whole things than of edges and textures. So the last block
# depends most on the classes it was trained for, and has most to gain from new ones. It
# trains at a small rate, with the head. The weights from before stay where no epoch
# lowers the validation loss. In VGG16 there is no BatchNormalization to care for.

# %%
freezing.unfreeze_from(model, settings.unfreeze_from)
print(freezing.report(model))
tuned = phases.fit(
    part,
    inputs,
    setup,
    phases.fine_tuning(settings.fine_tune_epochs, settings.fine_tune_learning_rate),
)

# %%
histories = {"head": head, "fine-tuning": tuned}
lengths = [(name, len(history["loss"])) for name, history in histories.items()]
figures.curves(summary.merge(histories), lengths)

# %% [markdown]
# ## 7. Compare on the test images
# 320 test images leave an interval of several points around each accuracy. The
# comparison of the two models can be sharper than their intervals, since both answer
# the same images: it counts those that only one of them gets right.

# %%
results = summary.evaluate_models(
    {"frozen": (frozen, inputs.test), "fine-tuned": (part, inputs.test)}, data
)
summary.show(results)
figures.comparison(
    [(name, result.value, result.interval) for name, result in results.items()]
)

# %%
result = results["fine-tuned"]
figures.confusion(result.confusion, result.class_names)

# %% [markdown]
# The most confident mistakes:

# %%
gallery.mistakes(result, data.test, count=8)

# %% [markdown]
# ## 8. Save it and use it
# The whole model is saved, not the part that was trained: it takes images.

# %%
metrics = run_folder.save(
    run, model, data=data, results=results, histories=histories, cache=setup.cache
)

# %% [markdown]
# What was saved takes raw pixels, and refuses others. The bare Keras model takes
# anything: with pixels divided by 255 there is no error, but most answers are wrong.

# %%
classifier = artifact.load(run.folder)
few = data.test.take(range(min(100, len(data.test))))
images = few.read(range(len(few)))
answers = {"raw": classifier.predict(images)}
try:
    classifier.predict(images / 255)
except errors.InputError as error:
    print(error)
answers["divided by 255"] = model.predict(images / 255, verbose=0)
for pixels, answer in answers.items():
    right = (answer.argmax(axis=1) == few.labels).sum()
    print(f"Pixels {pixels}: {right} of {len(few)} right")

# %% [markdown]
# ## What to try next
# - **Other sizes**: `image_size=32`, `64` and `128`. What does a single cell cost?
# - **More images**: `limit=None` takes all 2,000, `dataset="cifar10"` the 60,000 of the
#   original, with a download of 160 MB.
# - **Augmentation**: `augment="none", augmented_copies=0`. Which curves differ most?
# - **More layers**: `unfreeze_from="block4"`. Fewer layers are frozen then: which parts
#   of the run take longer?
# - **The head of the articles**: `heads.attach_mlp` in place of `heads.attach`.
# - **In a terminal**: `keras-tl run vgg16_cifar10 --dataset cifar10_sample`, with
#   `--find-rate` for a test of the rates of fine-tuning.
