"""See what a classifier looks at, and whether the picture of it is true.

Workflow: train a new head on a frozen backbone; for some test images, the worst
mistakes first, draw Grad-CAM, integrated gradients and the nearest training image;
place the training images where the model sees them; and take away the fifth of each
image that a map calls the most important: what the model uses should cost it more than
the fifth that the map of another image names.
What to learn from it: a heat map is a claim about the model, and can be tested. And a
mistake is often explained by the training images that look like it.

Source: Grad-CAM, https://keras.io/examples/vision/grad_cam/ and arXiv:1610.02391;
integrated gradients, https://keras.io/examples/vision/integrated_gradients/ and
arXiv:1703.01365; the test by deletion, arXiv:1806.07421.
Data: the CIFAR-10 sample inside the package, `--dataset digits`, any of TFDS, or
`--data FOLDER`.
Expected:
    efficientnet_lite0, 128 px, cifar10_sample, 2,000 train, 1,500 test:
      frozen 0.813 ± 0.020 (0.809 to 0.816, 3 seeds)
      125 s (features 0 s, head 4 s, 100 % of the features from the cache) on 2 cores,
        AMD EPYC with avx512_bf16
      Keras 3.15.1, TensorFlow 2.21.0, 2026-11-29
    more in docs/results.md
Run:
    keras-tl run explain_predictions
    keras-tl run explain_predictions --data my_photos --image-size 160
"""

# %%
import io
import time
from dataclasses import dataclass

import keras_tl.quiet  # noqa: F401  Before Keras.

import keras
import numpy as np
from PIL import Image
from rich.table import Table

from keras_tl import config, errors, files, progress
from keras_tl.analysis import evaluation, explain, figures, gallery, summary
from keras_tl.config import RunSettings
from keras_tl.data import datasets, splits
from keras_tl.data.settings import DataSettings
from keras_tl.deploy import artifact, run_folder
from keras_tl.models import backbones, freezing, heads
from keras_tl.models.settings import BackboneSettings
from keras_tl.training import phases, placement
from keras_tl.training.settings import TrainingSettings

# What a map has to do better than.
OTHER = "Grad-CAM of another image"


@dataclass(frozen=True)
class Config(RunSettings, TrainingSettings, BackboneSettings, DataSettings):
    """See what a classifier looks at, and whether the picture of it is true."""

    image_size: int = 128  # Side of the square images, in pixels.
    epochs: int = 20  # Most epochs for the new head.
    explained: int = 100  # Test images whose maps are tested.
    shown: int = 8  # Of these, how many are drawn.
    placed: int = 250  # Training images in the map of the embedding, at most.
    steps: int = 16  # Images between black and each image, for integrated gradients.
    share: float = 0.2  # Share of each image that the test takes away.

    def __post_init__(self):
        super().__post_init__()
        for name in ("epochs", "shown", "steps"):
            errors.check_at_least(name, getattr(self, name), 1)
        errors.check_at_least("explained", self.explained, 2)
        errors.check_at_least("placed", self.placed, 5)
        if not 0 < self.share < 1:
            raise errors.expected("share", "be in (0, 1)", self.share)


# %% [markdown]
# ## Data


# %%
def build_data(settings: Config) -> splits.Splits:
    data = datasets.from_settings(settings)
    print(data)
    return data.at_size(settings.image_size).map(splits.read_once)


# %% [markdown]
# ## Model


# %%
def build_model(settings: Config, num_classes: int) -> keras.Model:
    backbone = backbones.from_settings(settings)
    freezing.freeze(backbone)
    return heads.attach(backbone, num_classes)


# %% [markdown]
# ## Maps
# Each explains the class that the model answers, right or wrong.


# %%
def choose(result: evaluation.Evaluation, count: int) -> np.ndarray:
    """Return test images: the most confident mistakes, and as many from all over."""
    mistakes = [index for index, *_ in result.mistakes(count // 2)]
    others = np.linspace(0, len(result.labels) - 1, count).astype(int).tolist()
    return np.array(list(dict.fromkeys([*mistakes, *others]))[:count])


def explain_images(
    settings: Config, model: keras.Model, images: np.ndarray, answers: np.ndarray
) -> dict[str, np.ndarray]:
    added = explain.integrated_gradients(model, images, answers, steps=settings.steps)
    strength = np.abs(added).sum(axis=-1)
    highest = np.quantile(strength, 0.99, axis=(1, 2), keepdims=True)
    maps = explain.grad_cam(model, images, answers)
    maps = explain.resized(maps, images.shape[1:3])
    return {
        "Grad-CAM": maps,
        "integrated gradients": (strength / np.maximum(highest, 1e-12)).clip(0, 1),
        OTHER: np.roll(maps, 1, axis=0),
    }


# %% [markdown]
# ## Test
# How far the probability of the answer falls without the places of the highest values.


# %%
def compare_maps(settings: Config, model, images, answers, maps) -> list[dict]:
    falls = {
        name: explain.deletion(model, images, answers, one, share=settings.share)
        for name, one in maps.items()
    }
    table = Table(
        title=f"Fall of the probability without {settings.share:.0%} of each image",
        title_style="bold",
    )
    for column in ("map", "mean fall", "more than the last", "95 % interval"):
        table.add_column(column)
    rows = []
    for name, fell in falls.items():
        more = fell - falls[OTHER]
        low, high = evaluation.bootstrap_interval(more, seed=settings.seed)
        rows.append({"map": name, "fall": float(fell.mean())})
        rows[-1] |= {"more": float(more.mean()), "low": low, "high": high}
        cells = [f"{rows[-1]['more']:+.3f}", f"{low:+.3f} to {high:+.3f}"]
        table.add_row(name, f"{fell.mean():.3f}", *(cells if name != OTHER else []))
    progress.console().print(table)
    return rows


# %% [markdown]
# ## Figures


# %%
def draw(settings, folder, data, chosen, answers, maps) -> None:
    """Write `explanations.png` and `embedding_map.png` into the run's folder."""
    loaded = artifact.load(folder)
    kept = loaded.examples
    first = chosen[: settings.shown]
    pixels = data.test.read(first).clip(0, 255).astype("uint8")
    nearest = kept.nearest(loaded.answer(pixels).embeddings, 1)[:, 0]
    pictures = [np.asarray(Image.open(io.BytesIO(one))) for one in kept.thumbnails]
    names, truth = data.class_names, data.test.labels[first]
    titles = [
        f"{names[row.argmax()]} {row.max():.0%}\nis {names[label]}"
        for row, label in zip(answers, truth, strict=False)
    ]
    figure = gallery.explanations(
        pixels,
        titles,
        {name: one for name, one in maps.items() if name != OTHER},
        [(pictures[index], names[kept.labels[index]]) for index in nearest],
    )
    figures.save(figure, folder / "explanations.png")
    some = splits.balanced(kept.labels, settings.placed, settings.seed)
    pictures = [pictures[index] for index in some]
    figure = gallery.embedding_map(
        kept.embeddings[some], kept.labels[some], names, pictures
    )
    figures.save(figure, folder / "embedding_map.png")
    print(f"{folder / 'explanations.png'}, {folder / 'embedding_map.png'}")


# %% [markdown]
# ## Run


# %%
def main(settings: Config) -> dict:
    started = time.perf_counter()
    place, settings = placement.from_settings(settings)
    data = build_data(settings)
    with place.scope():
        model = build_model(settings, len(data.class_names))
    run = config.start_run(
        "explain_predictions", settings, started, splits.describe(data)
    )
    setup = phases.setup(settings, place, data, run)
    history = phases.fit(model, data, setup, phases.Phase(settings.epochs))
    results = summary.evaluate_models({"frozen": (model, data.test)}, data)
    summary.show(results)
    chosen = choose(results["frozen"], settings.explained)
    images = data.test.read(chosen).astype("float32")
    answers = results["frozen"].answers()[chosen]
    maps = explain_images(settings, model, images, answers.argmax(axis=1))
    rows = compare_maps(settings, model, images, answers.argmax(axis=1), maps)

    metrics = run_folder.save(
        run,
        model,
        data=data,
        results=results,
        histories={"head": history},
        cache=setup.cache,
    )
    draw(settings, run.folder, data, chosen, answers, maps)
    files.write_csv(run.folder / "maps.csv", rows)
    metrics["maps"] = rows
    files.write_json(run.folder / "metrics.json", metrics)
    return metrics


# %% tags=["script"]
if __name__ == "__main__":
    config.run(main, Config)
