# %% [markdown]
# # ResNet50 on ants and bees: what 153 test images can tell
#
# [PyTorch's tutorial](https://pytorch.org/tutorials/beginner/transfer_learning_tutorial.html)
# of transfer learning tells ants from bees, and many articles copy it. Its results,
# .948 with frozen features and .935 fine-tuned, are 145 and 143 of 153 images: two
# images apart. Here you will do the same with a ResNet50, in about two minutes, and
# find out what such numbers are worth. You will
#
# 1. look at a folder of photographs, and at its splits;
# 2. see the random crops that fine-tuning trains on;
# 3. use the frozen network as a **feature extractor**;
# 4. **fine-tune** all of it, except BatchNormalization, with SGD and step decay;
# 5. compare the two, with intervals and on the same images;
# 6. look at the mistakes, save the model and use it.
#
# If frozen layers and fine-tuning are new to you, begin with the notebook `quickstart`.

# %%
import importlib.util

if importlib.util.find_spec("keras_tl") is None:
    raise SystemExit("Please install keras-tl in this kernel: pip install -e CHECKOUT")

# %%
# %matplotlib inline
import time
from dataclasses import replace
from pathlib import Path

import keras_tl.quiet  # noqa: F401  Keeps away the start-up messages of TensorFlow.

from keras_tl import config
from keras_tl.analysis import evaluation, figures, gallery, summary
from keras_tl.data import augment, splits
from keras_tl.deploy import artifact, run_folder
from keras_tl.models import freezing
from keras_tl.recipes import resnet50_ants_bees as recipe
from keras_tl.training import optimizers, phases, placement, schedules

# %% [markdown]
# ## Settings
# Download
# [hymenoptera_data.zip](https://download.pytorch.org/tutorial/hymenoptera_data.zip) and
# unpack it where this notebook is, or name a folder of your own photographs with one
# sub-folder per class. Keras downloads the weights of ResNet50, 95 MB, unless a file of
# them is there. The recipe itself has 25 epochs at 224 pixels; these settings are for
# two minutes.

# %% tags=["parameters"]
photos, weights = "hymenoptera_data", "resnet50_notop.weights.h5"
if not Path(photos).is_dir():
    raise SystemExit(f"There is no folder {photos}: see the text above this cell.")
settings = recipe.Config(
    data=photos,
    weights=weights if Path(weights).exists() else "imagenet",
    image_size=128,
    augment="flip_and_crop",
    epochs=5,
    decay_every=3,
    batch_size=8,
)

# %% [markdown]
# ## 1. A folder of photographs
# The folder comes with two splits, `train` and `val`. The tutorial reports the best of
# 25 epochs on `val`: the same images choose the epoch and measure it, and the best of
# many numbers is too high on average. Here `val` becomes the test split and chooses
# nothing; the images that choose the epoch are drawn from `train`.

# %%
place, settings = placement.from_settings(settings)  # Sets the seed.
data = recipe.build_data(settings)

# %%
gallery.samples(data.train, data.class_names, count=8)

# %% [markdown]
# ## 2. Random changes of the training images
# In every epoch the tutorial trains on another part of each photograph, with 8 to 100
# percent of its area, scaled to full size and mirrored in half of the cases. Is the
# insect still there in each of them?

# %%
gallery.augmented(data.train, augment.random_resized_crop(), count=1)

# %% [markdown]
# Examples as hard as these take many epochs. This run has few, so it takes milder ones:
# images are mirrored, and shifted by a few pixels.

# %%
changes = augment.from_settings(settings)
gallery.augmented(data.train, changes["augment"], count=1, epochs=1)

# %% [markdown]
# ## 3. The network as feature extractor
# Everything is frozen but the new head, a linear layer on the 2,048 features of each
# photograph. They are computed once, from the photographs as they are; after that an
# epoch takes no time.

# %%
with place.scope():
    frozen = recipe.build_model(settings, len(data.class_names))
print(freezing.report(frozen))

# %% [markdown]
# The optimizer is that of the tutorial: SGD with a momentum of 0.9, and a learning rate
# that falls to a tenth every few epochs. While the rate is high, the weights move far
# and the loss is restless; after each fall they settle.

# %%
schedule = schedules.step_decay(every=settings.decay_every)
phase = phases.Phase(
    settings.epochs,
    settings.learning_rate,
    schedule=schedule,
    optimizer=optimizers.layerwise("sgd", {}, momentum=0.9),
    patience=settings.epochs,
    name="feature extractor",
)
rate = schedule(settings.learning_rate, settings.epochs, steps=1)
for epoch in range(settings.epochs):
    print(f"Epoch {epoch + 1}: learning rate {float(rate(epoch)):.0e}")

# %%
run = config.start_run(
    "resnet50_ants_bees", settings, time.perf_counter(), splits.describe(data)
)
setup = phases.setup(settings, place, data, run)
part, inputs = phases.precompute_frozen(frozen, data, setup)
extracted = phases.fit(part, inputs, setup, phase)

# %%
figures.curves(extracted)

# %% [markdown]
# ## 4. Fine-tune all layers
# A second model, again with a new head; now the convolutions train as well, at a tenth
# of the head's rate. BatchNormalization does not. In training it would normalize each
# batch by the mean and variance of these few photographs, which are noise, and would
# move the statistics of ImageNet towards them. Frozen, it computes in training what it
# will compute in use.

# %%
with place.scope():
    model = recipe.build_model(settings, len(data.class_names))
freezing.unfreeze(model)
layers = freezing.report(model)
print(layers)
trains = [row[3] for row in layers.rows if row[1] == "BatchNormalization"]
print(f"BatchNormalization: {len(trains)} layers, of which {sum(trains)} train")
figures.layers(layers.rows)

# %%
tuned = phases.fit(
    model,
    data,
    replace(setup, **changes),
    replace(
        phase,
        optimizer=optimizers.slow_backbone(settings.backbone_rate, "sgd", momentum=0.9),
        name="fine-tuning",
    ),
)

# %%
figures.curves(tuned)

# %% [markdown]
# The validation split is even smaller than the test split: one image more or less is a
# visible step in its accuracy. The loss, which chooses the epoch, is finer.

# %% [markdown]
# ## 5. How certain is the result?
# The test images are read now, for the first time.

# %%
results = summary.evaluate_models(
    {"feature extractor": (part, inputs.test), "fine-tuned": (model, data.test)}, data
)
summary.show(results)

# %% [markdown]
# ### Intervals
# If you took 153 other photographs of the same kind, the accuracy would be another one.
# The interval, by Wilson's formula, says where the accuracy on very many photographs
# would lie: of 100 such intervals, about 95 contain it. Above yours are the published
# results of a ResNet18 at 224 pixels, and the .961 of another run of the tutorial.

# %%
published = {
    "published, frozen": 145,
    "published, fine-tuned": 143,
    "published, another run": 147,
}
rows = [
    (name, right / 153, evaluation.wilson_interval(right, 153))
    for name, right in published.items()
]
rows += [(name, result.value, result.interval) for name, result in results.items()]
figures.comparison(rows)

# %% [markdown]
# ### The same model on thirds of the test images
# Nothing is trained here: the differences come only from which photographs happen to
# be in a third. Four times as many images halve an interval.

# %%
right = results["feature extractor"].correct
thirds = [right[start::3] for start in range(3)]
rows = [
    (
        f"third {number}, {len(third)} images",
        third.mean(),
        evaluation.wilson_interval(int(third.sum()), len(third)),
    )
    for number, third in enumerate(thirds, start=1)
]
figures.comparison(rows)

# %% [markdown]
# ### Two models on the same images
# Overlapping intervals do not say that two models are equally good: both were tested on
# the same images, and the hard ones are hard for both. What tells them apart are the
# images that only one of them gets right. If the models were equally good, each of
# these would be the toss of a coin; p is the probability that the tosses divide at
# least as unevenly (McNemar's test).

# %%
paired = evaluation.compare(results["feature extractor"], results["fine-tuned"])
print(f"Only the feature extractor is right: {paired.only_a} images")
print(f"Only the fine-tuned model is right: {paired.only_b} images")
low, high = paired.interval
print(f"Difference: {paired.difference:+.3f}, 95 % interval {low:+.3f} to {high:+.3f}")
print(f"Fine-tuned: {paired.verdict}")

# %% [markdown]
# "No significant difference" does not mean "no difference": with so few images only a
# large one can be seen. Nor does the test know that another seed gives another model.

# %% [markdown]
# ## 6. Where is it wrong?

# %%
result = results["fine-tuned"]
figures.confusion(result.confusion, result.class_names)

# %% [markdown]
# What else is in these photographs that the answer could come from?

# %%
gallery.mistakes(result, data.test, count=3)

# %% [markdown]
# ## 7. Save it and use it
# The folder has the model, its settings, every number, and `report.html`.

# %%
metrics = run_folder.save(
    run,
    model,
    data=data,
    results=results,
    histories={"fine-tuning": tuned},
    cache=setup.cache,
)

# %%
classifier = artifact.load(run.folder)
summary.show_predictions(classifier.predict(data.test.read(range(5))), data)

# %% [markdown]
# ## What to try next
# - **Another seed**: `seed=1`. Are the two models in the same order?
# - **As published**: leave out all settings but `data` and `weights`. How far apart are
#   the two after 25 epochs at 224 pixels, and is it more than the intervals allow?
# - **The tutorial's crops**: `augment="random_resized_crop"`. How do the curves change?
# - **BatchNormalization**: `freezing.unfreeze(model, batch_normalization=True)`. How
#   does the validation loss behave?
# - **Another network**: `backbone="efficientnet_lite0", weights="imagenet"`, whose
#   weights travel with the package.
# - **In a terminal**: `keras-tl run resnet50_ants_bees --data hymenoptera_data`.
