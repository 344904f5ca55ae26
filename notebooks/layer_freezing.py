# %% [markdown]
# # Which layers to freeze: what each freeze point gains, and what it costs
#
# Which layers of a pretrained network should stay frozen, and which should train on?
# There is no rule for every case, so this notebook does the experiment: the same
# network is trained with different **freeze points**, on few images and on more. Step
# by step you will
#
# 1. see what a freeze point is, layer by layer;
# 2. train with one of them, and look at its curves;
# 3. plan a **study**: freeze points, numbers of images, and seeds;
# 4. read its result: what is gained, how far the seeds are apart, what it costs.
#
# If frozen layers and fine-tuning are new to you, begin with the notebook `quickstart`.
# The functions are those of the recipe, which `keras-tl show layer_freezing` prints.

# %%
import importlib.util

if importlib.util.find_spec("keras_tl") is None:
    raise SystemExit("Please install keras-tl in this kernel: pip install -e CHECKOUT")

# %%
# %matplotlib inline
import contextlib
import io
import logging
import time
from dataclasses import replace

import keras_tl.quiet  # noqa: F401  Keeps away the start-up messages of TensorFlow.

from IPython.display import display

from keras_tl import config
from keras_tl.analysis import figures, gallery, study
from keras_tl.data import splits
from keras_tl.models import freezing
from keras_tl.recipes import layer_freezing as recipe
from keras_tl.training import optimizers, phases, placement

# Each trial has a model of its own; TensorFlow would warn that this is slow.
logging.getLogger("tensorflow").setLevel(logging.ERROR)

# %% [markdown]
# ## Settings
# `sizes` are the numbers of training images to compare. Two seeds are the fewest that
# show a spread. A batch has eight images, so that 40 images are five steps an epoch.

# %% tags=["parameters"]
settings = recipe.Config(
    limit=200,
    sizes=(40, 200),
    seeds=2,
    epochs=5,
    batch_size=8,
    learning_rate=2e-3,
)

# %% [markdown]
# ## The data
# A sample of CIFAR-10 that comes with the package. Each training set is a part of the
# larger ones; validation and test are the same for all, so that results can be
# compared. Of the validation images, 100 choose the epoch.

# %%
data = recipe.build_data(settings)
chosen = splits.balanced(data.validation.labels, 100, settings.seed)
data = replace(data, validation=data.validation.take(chosen))
fewest = splits.balanced(data.train.labels, min(settings.sizes), settings.seed)
gallery.samples(data.train.take(fewest), data.class_names, count=len(fewest))

# %% [markdown]
# These are all images of the smaller training set. Could you tell a cat from a dog, if
# you had only these to learn from?

# %% [markdown]
# ## 1. What a freeze point is
# The backbone consists of blocks of layers, from the input to the output. The head
# always trains. A freeze point says how many of the last blocks train with it.

# %%
model = recipe.build_model(settings, len(data.class_names), 0)
blocks = list(freezing.blocks(model))
print(f"{len(blocks)} blocks: {', '.join(blocks)}")

# %% [markdown]
# Three freeze points: the head alone, the last two blocks, and everything (one more
# than there are blocks: the layers in front of the first block train as well). Note the
# logarithmic axis: the last blocks hold most of the parameters.

# %%
everything = len(blocks) + 1
for count in (0, 2, everything):
    model = recipe.build_model(settings, len(data.class_names), count)
    display(figures.layers(freezing.report(model).rows))

# %% [markdown]
# In the last figure some layers are still frozen: those of BatchNormalization. They
# keep the statistics of ImageNet, since batches of a few images would give poor ones.

# %% [markdown]
# ## 2. One freeze point in detail
# The last two blocks train, on all images. Their layers have learned something already,
# so they get a tenth of the learning rate of the head, which begins with random
# weights. Below the freeze point nothing changes from epoch to epoch: this part runs
# once, and the rest trains on its outputs.

# %%
run = config.start_run(
    "layer_freezing", settings, time.perf_counter(), splits.describe(data)
)
place, settings = placement.from_settings(settings)
setup = phases.setup(settings, place, data, run)
model = recipe.build_model(settings, len(data.class_names), 2)
part, features = phases.precompute_frozen(model, data, setup)
print(f"Instead of an image, the part takes {features.train.read([0]).shape[1:]}.")

# %%
phase = phases.Phase(
    settings.epochs,
    settings.learning_rate,
    optimizer=optimizers.slow_backbone(settings.backbone_rate),
    name="last 2 blocks",
)
history = phases.fit(part, features, setup, phase)
figures.curves(history)

# %% [markdown]
# Compare the accuracy on the training images with the one on validation images. With
# millions of parameters and few images, a network can learn its training images by
# heart. Unfreezing gives it even more freedom to do so, which is why more layers are
# not always better.

# %% [markdown]
# ## 3. The study
# One such training says little: with other random numbers the head would begin with
# other weights, and the images would come in another order. A study repeats every
# combination with several seeds. To save time, everything trains on the smaller number
# of images alone.

# %%
trials = recipe.plan(settings, data, place, run, [0, 2, 6])
small = replace(settings, sizes=(min(settings.sizes),))
trials |= recipe.plan(small, data, place, run, [everything])
print(len(trials), "trials, of which the first is", next(iter(trials)))


# %% [markdown]
# Every trial writes its result to a file when it ends. If you interrupt the next cell
# and run it again, it continues with the trial that was interrupted. The lines that the
# phases would print are left out.


# %%
def quiet(trial):
    """Return a trial that prints nothing."""

    def run_quietly():
        with contextlib.redirect_stdout(io.StringIO()):
            return trial()

    return run_quietly


rows = study.run(run.folder, {name: quiet(trial) for name, trial in trials.items()})

# %% [markdown]
# ## 4. The result
# `blocks` is the number of blocks that train, and `trainable` the number of parameters
# that do. `seconds` is the shortest time of the trials: the first one at a freeze point
# also runs the frozen layers, whose outputs the later ones find in a cache.

# %%
summaries = study.summarize(rows, ["images", "blocks", "trainable"])
for summary in summaries:
    trained = (summary["images"], summary["blocks"])
    times = [r["seconds"] for r in rows if (r["images"], r["blocks"]) == trained]
    summary["seconds"] = min(times)
study.show("Test accuracy by number of blocks that train", summaries)

# %%
lines = study.series(summaries, "blocks", "images")
figures.lines(
    {f"{images} images": line for images, line in lines.items()},
    ["head alone", "last 2 blocks", "last 6 blocks", "everything"],
    "Layers that train",
    "Test accuracy",
)

# %% [markdown]
# A line is the mean over the seeds, the band around it goes from the lowest to the
# highest. Read the figure with three questions:
#
# - **What is gained?** Follow a line from the left to the right. From which point on
#   does it no longer rise by more than its band is wide? Layers below that point can
#   stay frozen.
# - **How far are the seeds apart?** A difference between two freeze points that is
#   smaller than the bands could be reversed with other seeds.
# - **What do more images give?** Compare the distance between the two lines with what
#   any freeze point gains.
#
# And what does it cost? The gain of each freeze point over the head alone, and how many
# times as long it takes:

# %%
for images in settings.sizes:
    head, *others = (row for row in summaries if row["images"] == images)
    for row in others:
        gain = 100 * (row["mean"] - head["mean"])
        print(
            f"{images:>4} images, {row['blocks']:>2} blocks: {gain:+5.1f} points in "
            f"{row['seconds'] / head['seconds']:4.1f} times the time"
        )

# %% [markdown]
# The head alone is fast because the frozen layers run once. The more layers train, the
# more of the network runs in every step. A freeze point is a good choice where the
# accuracy no longer rises and only the time does.
#
# Validation images, not test images, have to choose the freeze point of your own
# project: a choice by the test images would make their accuracy too good. `study.save`
# writes every trial, with both accuracies, to `trials.csv`.

# %%
manifest = study.save(run, rows=rows, by=["images", "blocks"])

# %% [markdown]
# ## What to try next
# - **The whole study**: `keras-tl run layer_freezing --every 2` takes 200 and 2,000
#   images and three seeds. `docs/layer_freezing.md` has its result, and the published
#   curve of [Yosinski et al., 2014](https://arxiv.org/abs/1411.1792), beside it.
# - **Images unlike photographs**: `dataset="digits"` has handwritten digits. Should
#   more layers train, or fewer?
# - **The learning rate**: with `backbone_rate=1.0` pretrained layers learn as fast as
#   the head. What happens to the right end of the lines?
# - **More seeds**: with `seeds=5`, which differences are left?
