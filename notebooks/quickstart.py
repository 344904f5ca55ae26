# %% [markdown]
# # Quickstart: a pretrained network learns ten new classes
#
# A network that was trained on a million photographs already knows edges, textures and
# shapes. Here it learns ten new classes from 600 images, on a laptop's processor, in
# about two minutes. Step by step you will
#
# 1. look at the data before anything is trained on it;
# 2. train a new **head** on the **frozen** network, and see what that alone achieves;
# 3. **fine-tune** the last blocks at a small learning rate;
# 4. compare both with a small network trained from scratch;
# 5. find out where the result is wrong, save it, and use it.
#
# The functions are those of the recipe: `keras-tl show quickstart` prints it,
# `keras-tl run quickstart` runs it with 2,000 images.

# %%
import importlib.util

if importlib.util.find_spec("keras_tl") is None:
    raise SystemExit("Please install keras-tl in this kernel: pip install -e CHECKOUT")

# %%
# %matplotlib inline
import time

import keras_tl.quiet  # noqa: F401  Keeps away the start-up messages of TensorFlow.

import keras

from keras_tl import config
from keras_tl.analysis import figures, gallery, summary
from keras_tl.data import augment, splits
from keras_tl.deploy import artifact, run_folder
from keras_tl.models import freezing
from keras_tl.recipes import quickstart as recipe
from keras_tl.training import phases, placement

# %% [markdown]
# ## Settings
# `Config` names all that can be changed. For images of your own, in one sub-folder per
# class, add `data="my_photos"`.

# %% tags=["parameters"]
settings = recipe.Config(
    limit=600, image_size=96, epochs=15, fine_tune_epochs=3, scratch_epochs=10
)

# %% [markdown]
# ## 1. Look at the data
# There are three splits with three jobs: **train** fits the weights, **validation**
# selects the epoch, and **test** is read once, at the end. No image is in two of them.

# %%
data = recipe.build_data(settings)

# %%
gallery.samples(data.train, data.class_names)

# %% [markdown]
# CIFAR-10 has 32 pixels a side. The backbone was trained on larger photographs, so the
# images are scaled up to `image_size`; the network cannot see detail that is not there,
# but its filters meet shapes of the size they were made for.

# %%
sized = data.at_size(settings.image_size)
sized = sized.map(splits.read_once)  # Keeps the scaled images in memory.

# %% [markdown]
# ### What augmentation would do
# Random changes are further examples for free, as long as the class stays what it was.
# Look before you use one: a mirrored cat is a cat, a mirrored letter is another letter.
# This run does without, so that the frozen network has to see each image only once.

# %%
changes = augment.image_data_generator(**augment.MODERATE)
gallery.augmented(sized.train, changes)

# %% [markdown]
# ## 2. A new head on a frozen backbone
# The ImageNet classifier is left out and a new one takes its place. Its weights are
# random at first, and their large gradients would spoil the pretrained ones: so
# everything below it is frozen, with the statistics of its BatchNormalization.

# %%
place, settings = placement.from_settings(settings)  # Sets the seed, too.
with place.scope():
    model = recipe.build_model(settings, len(data.class_names))
layers = freezing.report(model)
print(layers)
figures.layers(layers.rows)

# %% [markdown]
# What is frozen computes the same for an image in every epoch. So it runs once, and the
# epochs of the head take a fraction of a second each. Training stops when the loss on
# the validation images no longer falls, at the latest after `epochs`; the ring in the
# figure marks the epoch whose weights are kept.

# %%
# The folder of the results, and what all phases share.
run = config.start_run(
    "quickstart", settings, time.perf_counter(), splits.describe(data)
)
setup = phases.setup(settings, place, data, run)
head = phases.fit(model, sized, setup, phases.Phase(settings.epochs))

# %%
figures.curves(head)

# %% [markdown]
# A copy of the model as it is now, to compare with later:

# %%
frozen = keras.models.clone_model(model)
frozen.set_weights(model.get_weights())

# %% [markdown]
# ## 3. Fine-tune the last blocks
# Now that the head gives useful gradients, the last blocks may follow, at a learning
# rate a fifth as high. The first blocks stay frozen: their edges and textures serve any
# photograph. BatchNormalization stays frozen too; its statistics would otherwise drift
# towards the small batches seen here.

# %%
freezing.unfreeze_blocks(model, settings.blocks)
layers = freezing.report(model)
print(layers)
figures.layers(layers.rows)

# %%
tuned = phases.fit(
    model, sized, setup, phases.fine_tuning(settings.fine_tune_epochs, 2e-4)
)

# %%
histories = {"head": head, "fine-tuning": tuned}
lengths = [(name, len(history["loss"])) for name, history in histories.items()]
figures.curves(summary.merge(histories), lengths)

# %% [markdown]
# ## 4. Was it worth it?
# A small network, trained from scratch on the same images, says what the pretrained one
# adds.

# %%
scratch, _ = recipe.train_from_scratch(settings, data, setup)

# %% [markdown]
# Only now is the test split read. Each accuracy comes with the interval in which it
# would probably lie on other images of the same kind, and each model is compared with
# the one above it, image by image: p is how often chance alone would give a difference
# as large. Is the gain of fine-tuning certain with so few images?

# %%
models = {
    "from scratch": (scratch, data.test.at_size(32)),
    "frozen": (frozen, sized.test),
    "fine-tuned": (model, sized.test),
}
results = summary.evaluate_models(models, data)
summary.show(results)

# %%
figures.comparison(
    [(name, result.value, result.interval) for name, result in results.items()]
)

# %% [markdown]
# ## 5. Where is it wrong?
# Each row of the confusion matrix is a true class, each column an answer. Which classes
# are mixed up, and would you have known better?

# %%
result = results["fine-tuned"]
figures.confusion(result.confusion, result.class_names)

# %% [markdown]
# These are the mistakes that the model is most sure of. Look for wrong labels, for two
# things in one image, and for what the crop has cut off.

# %%
gallery.mistakes(result, data.test)

# %% [markdown]
# ## 6. Save it and use it
# The folder has the model, its settings, every number, and `report.html`, one page to
# send to others.

# %%
metrics = run_folder.save(
    run, model, data=sized, results=results, histories=histories, cache=setup.cache
)

# %%
classifier = artifact.load(run.folder)
summary.show_predictions(classifier.predict(sized.test.read(range(5))), data)

# %% [markdown]
# ## What to try next
# - **More images**: `limit=None` takes all 2,000. Which of the three models gains most?
# - **More detail**: `image_size=128`, as the recipe has it.
# - **More blocks**: `blocks=16`. The notebook of `layer_freezing` compares them all.
# - **Augmentation**: `phases.setup(..., augment=changes)` in step 2.
# - **Your own images**: `data="my_photos"` in the settings, or `keras-tl run quickstart
#   --data my_photos`.
