"""Style transfer: paint photographs in the style of a picture.

Workflow: the features of a pretrained VGG16 say what a photograph shows and what a
picture looks like. The pixels of the photograph are changed until they have the content
of the one and the style of the other; for comparison also with the features of the same
network with random weights. A small network is trained to do the same in one pass.
Previews are written on the way; a run that was killed continues with `--resume`.
What to learn from it: style is which features appear together, and it takes a network
that has learned to see; one that was trained for a style is fast, and less good.

Source: Gatys et al., "A neural algorithm of artistic style", 2015, arXiv:1508.06576;
Johnson et al., "Perceptual losses for real-time style transfer", 2016,
arXiv:1603.08155; from coarse to fine: Gatys et al., 2017, arXiv:1611.07865.
Data: `--content` and `--style` are files of images; without them, three photographs
that other libraries carry, and stained glass that is drawn, another for each seed.
`--data FOLDER` are photographs to train the network on; without it, squares of two of
the three. VGG16's weights are downloaded (59 MB).
Expected:
    vgg16, vgg16_torchvision_notop.weights.h5, 256 px, mixed_bfloat16, Two photographs,
        38 train, 4 test:
      portrait, photograph 19.693 (19.474 to 19.949, 3 seeds), 0.3 s each
      portrait, random network 17.736 (17.660 to 17.887, 3 seeds), 11 s each
      portrait, optimized 2.394 (2.297 to 2.467, 3 seeds), 10 s each
      portrait, feed-forward 7.228 (6.422 to 8.126, 3 seeds), 212 s each
      china, photograph 23.716 (23.558 to 23.800, 3 seeds), 0.3 s each
      760 s on 2 cores, AMD EPYC with avx512_bf16
      Keras 3.15.1, TensorFlow 2.21.0, 2026-11-30
    more in docs/results.md
Run:
    keras-tl run style_transfer --content my_photo.jpg --style painting.jpg
    keras-tl run style_transfer --content my_photo.jpg --style painting.jpg \
        --image-size 1024
    keras-tl run style_transfer --content my_photo.jpg --style painting.jpg \
        --methods feed-forward --data my_photos
"""

# %%
import functools
import math
import time
from dataclasses import dataclass, replace
from pathlib import Path

import keras_tl.quiet  # noqa: F401  Before Keras.

import keras
import numpy as np

from keras_tl import config, errors, files
from keras_tl.analysis import figures, study
from keras_tl.config import RunSettings
from keras_tl.data import augment, folders, images, pictures, splits
from keras_tl.data.settings import FolderSettings
from keras_tl.methods import style
from keras_tl.models import backbones, image_transform, taps
from keras_tl.models.settings import BackboneSettings
from keras_tl.training import objectives, phases, placement
from keras_tl.training.settings import ChooseBy, Precision, TrainingSettings

PHOTOGRAPH, RANDOM = "photograph", "random network"
OPTIMIZED, FEED_FORWARD = "optimized", "feed-forward"
METHODS = (RANDOM, OPTIMIZED, FEED_FORWARD)
SQUARE = 128  # Side of the squares that the feed-forward network is trained on.


@dataclass(frozen=True)
class Config(RunSettings, TrainingSettings, BackboneSettings, FolderSettings):
    """Style transfer: paint photographs in the style of a picture."""

    content: tuple[Path, ...] = ()  # Files of photographs.
    style: Path | None = None  # File of the picture whose style they get.
    methods: tuple[str, ...] = ()  # Methods to compare; by default what is asked for.
    backbone: str = "vgg16"  # Network whose features are compared; vgg16 or vgg19.
    image_size: int = 256  # Longest side; smaller photographs stay as they are.
    style_weight: float = 30.0  # Weight of the style; that of the content is 1.
    steps: int = 100  # Steps of changing the pixels of a picture.
    training_steps: int = 800  # Steps of training the feed-forward network.
    learning_rate: float = 1e-3  # Adam's learning rate for its weights.
    batch_size: int = 4  # Squares per step of it, over all devices.
    network: Path | None = None  # Its weights, where an earlier run has trained it.
    precision: Precision = "auto"  # Numbers that layers compute with.
    choose_by: ChooseBy = "last"  # Validation metric that selects the epoch.
    # Trials, with seeds one after the other; by default 3, or 1 with your own style.
    seeds: int | None = None

    def __post_init__(self):
        super().__post_init__()
        errors.check_at_least("steps", self.steps, 1)
        errors.check_at_least("training_steps", self.training_steps, 1)
        errors.check_at_least("seeds", 1 if self.seeds is None else self.seeds, 1)
        errors.check_above("learning_rate", self.learning_rate, 0)
        errors.check_above("style_weight", self.style_weight, 0)
        if self.backbone not in ("vgg16", "vgg19"):
            raise errors.unknown("backbone", self.backbone, ["vgg16", "vgg19"])
        paths = [("content", path) for path in self.content]
        for name, path in (*paths, ("style", self.style), ("network", self.network)):
            if path is not None and not Path(path).is_file():
                raise errors.expected(name, "be a file", str(path))
        for method in set(self.methods) - set(METHODS):
            raise errors.unknown("methods", method, METHODS)


# %% [markdown]
# ## Data
# Photographs to paint, a picture, and squares of photographs to train a network on.


# %%
def build_data(settings: Config) -> splits.Splits:
    if settings.data is None:
        photographs = [pictures.samples()[name] for name in ("china", "flower")]
        cut = pictures.squares(photographs, SQUARE)
        pool, origin = splits.Split(cut, np.zeros(len(cut), int)), "Two photographs."
    else:
        pool = folders.unlabelled(settings.data, bad_files=settings.bad_files)
        pool, origin = pool.at_size(SQUARE), f"Folder {Path(settings.data).name}."
    pool = pool.take(range(min(len(pool), settings.limit or len(pool))))
    return splits.of_unlabelled(pool, origin, seed=settings.seed)


def read_contents(settings: Config) -> dict[str, np.ndarray]:
    """Return the photographs by their names, none larger than it will be painted."""
    read = pictures.read(settings.content)
    read = read or {name: pictures.samples()[name] for name in ("portrait", "china")}
    return {
        name: pictures.scaled(image, min(settings.image_size, max(image.shape)))
        for name, image in read.items()
    }


def read_style(settings: Config, seed: int) -> np.ndarray:
    if settings.style is None:
        return pictures.mosaic(settings.image_size, seed=seed)
    return images.decode(settings.style, None)


# %% [markdown]
# ## Model


# %%
def build_model(settings: Config) -> keras.Model:
    """Return what judges: feature maps of a frozen network."""
    layers = dict.fromkeys([*style.STYLE_LAYERS, *style.CONTENT_LAYERS])
    # The maps take images of any size; at this one no layer is too small for a cell.
    backbone = backbones.from_settings(replace(settings, image_size=224))
    return taps.maps(backbone, list(layers))


def objective(settings, model, picture: np.ndarray, side: int) -> style.Objective:
    """Return what a picture of a size has to be like, its style of the same size."""
    picture = pictures.scaled(picture, side)
    grams = style.style_of(model, picture)
    return style.Objective(model, grams, style_weight=settings.style_weight)


# %% [markdown]
# ## A network for one style


# %%
def train(settings, place, run, model, data, picture, seed: int) -> keras.Model:
    path = run.folder / "networks" / f"seed-{seed}.weights.h5"
    with place.scope():
        network = image_transform.load()
    kept = path if path.exists() else settings.network
    if kept is not None:
        backbones.load_weights(network, kept)
        return network
    trial = f"network-{seed}"
    options = {"trial": trial, "seed": seed, "state": run.state / trial}
    options |= {"objective": objectives.of(data), "augment": augment.flip_and_crop}
    setup = phases.setup(settings, place, data, run, **options)
    wanted = objective(settings, model, picture, settings.image_size)
    phase = phases.Phase(
        math.ceil(settings.training_steps * settings.batch_size / len(data.train)),
        settings.learning_rate,
        method=style.feed_forward(wanted),
        name=FEED_FORWARD,
    )
    phases.fit(network, data, setup, phase)
    with files.atomic(path) as temporary:
        network.save_weights(temporary)
    return network


# %% [markdown]
# ## A trial


# %%
def trial(
    settings, place, run, model, data, contents, name, seed: int, content, method
):
    picture, photograph = read_style(settings, seed), contents[content]
    keras.utils.set_random_seed(seed)
    made, losses = photograph, []
    preview_path = run.folder / "previews" / f"{name}.jpg"
    if method == FEED_FORWARD:
        network = train(settings, place, run, model, data, picture, seed)
        made = image_transform.apply(network, photograph)
    elif method != PHOTOGRAPH:
        known = settings if method == OPTIMIZED else replace(settings, weights=None)
        made, losses = style.coarse_to_fine(
            functools.partial(objective, settings, build_model(known), picture),
            photograph,
            steps=settings.steps,
            state=run.state / name,
            follow=lambda step, preview, value: pictures.write(preview_path, preview),
        )
    pictures.write(run.folder / "pictures" / f"{name}.png", made)
    # Whatever made the picture, the pretrained network judges it.
    wanted = objective(settings, model, picture, max(photograph.shape))
    row = {"content": content, "method": method, "seed": seed}
    row |= wanted.measure(made, photograph)
    if method == OPTIMIZED:  # Some of the way, to compare the network with.
        row |= {
            f"after_{n}": loss for n, loss in enumerate(losses) if n in (10, 20, 50)
        }
    return row | {"picture": f"{name}.png"}


def usual(settings) -> tuple[str, ...]:
    """Return the method that files of one's own ask for, or all without any."""
    if settings.network is not None:
        return (FEED_FORWARD,)
    return METHODS if settings.style is None else (OPTIMIZED,)


def show(settings, rows, folder) -> None:
    summaries = study.summarize(rows, ["content", "method"], "objective")
    study.show("Objective, the lower the better", summaries, "objective")
    drawn, methods = [], {row["method"] for row in rows}
    for row in [row for row in rows if row["seed"] == settings.seed]:
        if row["method"] == PHOTOGRAPH:  # Each line begins with the style.
            drawn.append(("style", read_style(settings, settings.seed)))
        made = images.decode(folder / "pictures" / row["picture"], None)
        drawn.append((f"{row['content']}, {row['method']}", made))
    titles, made = zip(*drawn, strict=True)
    figure = figures.grid(made, titles, columns=len(methods) + 1)
    figures.save(figure, folder / "style_transfer.png")


# %% [markdown]
# ## Run


# %%
def main(settings: Config) -> dict:
    started = time.perf_counter()
    place, settings = placement.from_settings(settings)
    data, contents = build_data(settings), read_contents(settings)
    model = build_model(settings)
    pictured = [*contents.values(), read_style(settings, settings.seed)]
    for image in pictured:
        style.check_size(model, image)
    if settings.network is not None:
        backbones.load_weights(image_transform.load(), settings.network)
    print(f"Photographs: {', '.join(contents)}.")
    described = splits.describe(data)
    described["sha256"] = pictures.digest(pictured, described["sha256"])
    run = config.start_run("style_transfer", settings, started, described)
    for name in ("pictures", "previews", "networks"):
        (run.folder / name).mkdir(exist_ok=True)
    one = functools.partial(trial, settings, place, run, model, data, contents)
    methods = (PHOTOGRAPH, *(settings.methods or usual(settings)))
    count = settings.seeds or (3 if settings.style is None else 1)
    seeds = range(settings.seed, settings.seed + count)
    plan = study.grid(one, seed=seeds, content=contents, method=methods)
    rows = study.run(run.folder, plan)
    show(settings, rows, run.folder)
    options = {"by": ["content", "method"], "value": "objective"}
    base = RANDOM if RANDOM in methods else PHOTOGRAPH
    return study.save(run, rows=rows, base=base, **options)


# %% tags=["script"]
if __name__ == "__main__":
    config.run(main, Config)
