# %% [markdown]
# # Style transfer: paint photographs in the style of a picture
#
# A network that has learned to name what photographs show also knows what a picture
# looks like. In this notebook you will
#
# 1. see what the layers of VGG16 keep of a photograph: its content;
# 2. see that style is which features appear together, wherever they are;
# 3. change the pixels of a photograph until it has the style of stained glass;
# 4. do the same with a network that has learned nothing, and with one that was trained
#    to do it in one pass.
#
# `keras-tl run style_transfer` does it for your own files. Its measured results are in
# `docs/results.md`.

# %%
import importlib.util

if importlib.util.find_spec("keras_tl") is None:
    raise SystemExit("Please install keras-tl in this kernel: pip install -e CHECKOUT")

# %%
# %matplotlib inline
from pathlib import Path

import keras_tl.quiet  # noqa: F401  Keeps away the start-up messages of TensorFlow.

import numpy as np
from IPython.display import Image, display

from keras_tl.analysis import figures
from keras_tl.data import pictures
from keras_tl.methods import style
from keras_tl.recipes import style_transfer as recipe

# %% [markdown]
# ## Settings
# Keras downloads the weights of VGG16, 59 MB. If the folder of this notebook holds
# torchvision's weights of the same network, those are used instead, as for the results
# that are stored here.

# %% tags=["parameters"]
file = "vgg16_torchvision_notop.weights.h5"
is_here = Path(file).exists()
settings = recipe.Config(
    weights=file if is_here else "imagenet",
    preprocessing="torch" if is_here else None,
    image_size=192,
    steps=60,
    training_steps=120,
    seeds=1,
)

# %% [markdown]
# ## 1. Content and style

# %%
photograph = recipe.read_contents(settings)["portrait"]
glass = recipe.read_style(settings, seed=0)
figures.grid([photograph, glass], ["the photograph", "the picture: stained glass"])

# %% [markdown]
# The network has a map of features in each layer, here the mean over the channels of
# four of them. Deeper maps are coarser, and know more of what is there than of colours
# and edges. The content of a photograph are the features of one deep layer, position by
# position.

# %%
model = recipe.build_model(settings)
maps = model(photograph[None].astype("float32"))
means = [np.asarray(maps[name])[0].mean(axis=-1) for name in style.STYLE_LAYERS]
grey = [np.uint8(255 * x / x.max())[..., None].repeat(3, axis=-1) for x in means]
figures.grid(grey, style.STYLE_LAYERS)

# %% [markdown]
# Style is the Gram matrix of a layer: for each two of its features, how strongly they
# appear at the same positions, whatever these are. Another window with other pieces has
# nearly the same style, the photograph has not. A loss of 0 is the same style.

# %%
glass_style = style.style_of(model, glass)
others = {"another window": pictures.mosaic(192, seed=1), "the photograph": photograph}
for name, image in others.items():
    features = model(image[None].astype("float32"))
    losses = [style.style_loss(features[n], g)[0] for n, g in glass_style.items()]
    print(f"{name:>14}: {np.mean([float(loss) for loss in losses]):.3f}")

# %% [markdown]
# ## 2. Change the pixels
# What is to become smaller is the loss of content plus 30 times that of style. Each
# step computes its gradient with respect to every pixel, and Adam changes them.

# %%
objective = style.Objective(model, glass_style, style_weight=settings.style_weight)
seen, titles = [photograph], ["the photograph"]


def keep(step, picture, value):
    seen.append(picture)
    titles.append(f"step {step}: {value:.2f}")


picture, losses = style.optimize(
    objective, photograph, steps=settings.steps, follow=keep
)
figures.grid(seen, titles)

# %% [markdown]
# ## 3. More style, or more of the photograph
# The weight of the style is a matter of taste.

# %%
drawn, titles = [], []
for weight in (1, 10, 100):
    weighted = style.Objective(model, glass_style, style_weight=weight)
    drawn.append(style.optimize(weighted, photograph, steps=40)[0])
    titles.append(f"style_weight={weight}")
figures.grid(drawn, titles)

# %% [markdown]
# ## 4. The recipe
# It compares three ways, for two photographs: the features of a network with random
# weights, those of the pretrained one, and a small network that was trained to paint in
# one pass. The pretrained network judges them all. With 120 steps, as here, the small
# network has only begun to learn; the recipe takes 800.

# %%
results = recipe.main(settings)

# %%
run = max(
    Path("runs").glob("style_transfer*"), key=lambda folder: folder.stat().st_mtime
)
display(Image(filename=run / "style_transfer.png", width=900))

# %% [markdown]
# ## What to try next
# Your own files: `content=("my_photo.jpg",)`, `style="painting.jpg"`. A large picture
# is painted from coarse to fine: `image_size=1024`. The network that paints in one pass
# gets better with more photographs and steps: `data="my_photos"` and
# `training_steps=2000`; its weights are in the folder of the run, and `network=...`
# takes them.
