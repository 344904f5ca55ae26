# %% [markdown]
# # Few labels: which way to train on ten images of each class
#
# With few labels, the way of training and the choice of the images both decide how good
# a model becomes. This notebook compares ways of training, and shows how to tell what a
# method gains from what a lucky draw of images gains. Step by step you will
#
# 1. look at two draws of ten images of each class;
# 2. see what trains in a **linear probe**, in **fine-tuning**, and with **LoRA**;
# 3. train a probe and fine-tune it, on one draw;
# 4. compare four methods on several draws;
# 5. compute **paired gains**, which take the luck of the draw out of the comparison.
#
# If frozen layers and fine-tuning are new to you, begin with the notebook `quickstart`.
# The functions are those of the recipe, which `keras-tl show few_labels` prints.

# %%
import importlib.util

if importlib.util.find_spec("keras_tl") is None:
    raise SystemExit("Please install keras-tl in this kernel: pip install -e CHECKOUT")

# %%
# %matplotlib inline
import contextlib
import io
import logging
import math
import time

import keras_tl.quiet  # noqa: F401  Keeps away the start-up messages of TensorFlow.

import numpy as np
from IPython.display import display

from keras_tl import config
from keras_tl.analysis import figures, gallery, study, summary
from keras_tl.data import splits
from keras_tl.methods import lora
from keras_tl.models import freezing
from keras_tl.recipes import few_labels as recipe
from keras_tl.training import optimizers, phases, placement

# Each trial has a model of its own; TensorFlow would warn that this is slow.
logging.getLogger("tensorflow").setLevel(logging.ERROR)

# %% [markdown]
# ## Settings
# Every seed draws its own labels, so `seeds` is the number of draws. With so few labels
# there are none to spare for selecting an epoch: the last one is kept.

# %% tags=["parameters"]
settings = recipe.Config(
    labels=(10,),
    methods=("linear probe", "fine-tuning", "L2-SP", "LoRA"),
    limit=500,
    blocks=2,
    steps=60,
    learning_rate=2e-3,
    batch_size=16,
    choose_by="last",
    seeds=4,
)

# %% [markdown]
# ## 1. What ten labels of a class look like
# The images come from a sample of CIFAR-10 that is part of the package.

# %%
data = recipe.build_data(settings)

# %% [markdown]
# Here are ten images of each of the first three classes, drawn twice. They are all that
# a model learns of these classes. The test images are always the same.

# %%
for seed in (0, 1):
    drawn = splits.few(data, settings.labels[0], seed=seed).train
    chosen = [i for label in range(3) for i in np.flatnonzero(drawn.labels == label)]
    titles = [data.class_names[drawn.labels[i]] for i in chosen]
    pictures = drawn.inputs.preview(chosen)
    display(figures.grid(pictures, titles, columns=settings.labels[0]))

# %% [markdown]
# Would you recognize every bird, if those of the first draw were all that you had ever
# seen? And would those of the second draw teach you the same?

# %% [markdown]
# ## 2. What trains, and what is frozen
# A linear probe trains the head alone; the frozen backbone only computes the features.

# %%
model = recipe.build_model(settings, len(data.class_names), "linear probe")
figures.layers(freezing.report(model).rows)

# %% [markdown]
# Fine-tuning trains the last blocks as well, as many as `blocks` says.

# %%
freezing.unfreeze_blocks(model, settings.blocks)
figures.layers(freezing.report(model).rows)

# %% [markdown]
# LoRA, low-rank adaptation ([Hu et al., 2021](https://arxiv.org/abs/2106.09685)), keeps
# the kernels of the same blocks as they are. It adds to each kernel a change that is
# the product of two thin matrices, and trains only these.

# %%
print(lora.enable(model, rank=settings.rank))

# %% [markdown]
# ## 3. One draw in detail
# First the probe. Fine-tuning then begins with its head: a random head would send large
# gradients through the backbone and spoil its features
# ([Kumar et al., 2022](https://arxiv.org/abs/2202.10054)).

# %%
run = config.start_run(
    "few_labels", settings, time.perf_counter(), splits.describe(data)
)
place, settings = placement.from_settings(settings)
setup = phases.setup(settings, place, data, run)
drawn = splits.few(data, settings.labels[0], seed=0).at_size(settings.image_size)
model = recipe.build_model(settings, len(data.class_names), "fine-tuning")
part, features = phases.precompute_frozen(model, drawn, setup)

# %%
steps_per_epoch = math.ceil(len(drawn.train) / settings.batch_size)
epochs = math.ceil(settings.steps / steps_per_epoch)
freezing.unfreeze_head(part)
phase = phases.Phase(
    epochs, settings.learning_rate, patience=epochs, name="linear probe"
)
probe = phases.fit(part, features, setup, phase)

# %% [markdown]
# The pretrained layers train at a tenth of the rate of the head.

# %%
freezing.unfreeze_blocks(part, settings.blocks)
phase = phases.fine_tuning(
    epochs,
    settings.learning_rate,
    optimizer=optimizers.slow_backbone(settings.backbone_rate),
    patience=epochs,
    first_epoch=epochs,
)
tuned = phases.fit(part, features, setup, phase)

# %%
histories = {"linear probe": probe, "fine-tuning": tuned}
lengths = [(name, len(history["loss"])) for name, history in histories.items()]
figures.curves(summary.merge(histories), lengths)

# %% [markdown]
# A network of this size learns so few images by heart: the training accuracy says
# nothing any more. The validation accuracy comes from as many other images, and with so
# few it is a rough measure. The test images give a better one, and these are the
# mistakes among them that the model is most sure of:

# %%
results = summary.evaluate_models({"fine-tuned": (part, features.test)}, drawn)
gallery.mistakes(results["fine-tuned"], drawn.test)

# %% [markdown]
# ## 4. Four methods on the same draws
# The fourth method, **L2-SP** ([Li et al., 2018](https://arxiv.org/abs/1802.01483)), is
# fine-tuning with a **penalty** in the loss: the squared distance of the weights to
# their pretrained values. Few labels then cannot pull the network far away from what it
# has learned.
#
# The methods that fine-tune train the same blocks for the same number of steps, at one
# learning rate that was searched for none of them. If you interrupt the next cell and
# run it again, it continues with the trial that was interrupted. The lines that the
# phases would print are left out.


# %%
def quiet(trial):
    """Return a trial that prints nothing."""

    def run_quietly():
        with contextlib.redirect_stdout(io.StringIO()):
            return trial()

    return run_quietly


trials = recipe.plan(settings, data, place, run)
rows = study.run(run.folder, {name: quiet(trial) for name, trial in trials.items()})

# %%
summaries = study.summarize(rows, ["method", "trainable"])
study.show("Test accuracy over the draws", summaries)

# %% [markdown]
# The brackets show how much the accuracy depends on the draw. In the next figure every
# place on the horizontal axis is one draw, on which all methods trained.

# %%
by_draw = study.summarize(rows, ["seed", "method"])
figures.lines(
    study.series(by_draw, "seed", "method"),
    [f"draw {number + 1}" for number in range(settings.seeds)],
    "The same labels for all methods",
    "Test accuracy",
)

# %% [markdown]
# ## 5. Paired gains
# Where a draw is good for all methods, their lines rise together. A comparison draw by
# draw leaves this part out: here is the difference of each method to plain fine-tuning
# on the same images, in points of accuracy.

# %%
accuracy = {(row["method"], row["seed"]): row["accuracy"] for row in rows}
others = [m for m in settings.methods if m != "fine-tuning"]
seeds = sorted({row["seed"] for row in rows})
print(" " * 14, *(f"{f'draw {number + 1}':>7}" for number in range(settings.seeds)))
for method in others:
    gains = [accuracy[method, s] - accuracy["fine-tuning", s] for s in seeds]
    print(f"{method:>14}", *(f"{100 * gain:+7.1f}" for gain in gains))

# %% [markdown]
# **A single draw proves nothing.** Where a method has gains of both signs, one draw
# would have made it the winner and another one the loser. The mean over the draws, with
# its 95 % interval, says what is known. Where the interval holds 0, it is not known
# whether the method gains or loses.

# %%
gains = study.gains(rows, [], "method", "fine-tuning")
figure = figures.comparison(
    [
        (row["method"], 100 * row["gain"], (100 * row["low"], 100 * row["high"]))
        for row in gains
    ],
    "gain over fine-tuning, in points of accuracy",
)
figure.axes[0].axvline(0, color=figures.INK, linewidth=0.8)
display(figure)

# %% [markdown]
# Compare the width of these intervals with the ranges in the table above: the pairing
# removes what the methods have in common, the luck of the draw. It cannot make up for
# few draws. And for the probe a part of the difference is time: it trains for `steps`
# steps, and the others for as many more.

# %%
manifest = study.save(run, rows=rows, by=["labels", "method"], base="fine-tuning")

# %% [markdown]
# ## What to try next
# - **The whole study**: `keras-tl run few_labels --labels 10 25 100 --seeds 5`.
#   `docs/studies.md` has its result, beside published ones.
# - **More labels**: `labels=(50,)`. Does the probe fall further behind?
# - **More draws**: `seeds=8`. Which intervals still hold 0?
# - **The penalty**: `penalty_scale=100.0`. From which weight on does it show, and does
#   it help?
# - **Other methods**: `"BSS"` and `"DELTA"` are two more penalties, and
#   `"from scratch"` is a small network without pretraining.
# - **Your own images**: `data="my_photos"`, with one sub-folder per class.
