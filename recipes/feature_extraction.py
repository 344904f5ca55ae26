"""Use a frozen network for features: which layer, and which simple classifier.

Workflow: the images run once through a frozen backbone; the pooled output of every
block goes into k nearest neighbours, a support vector machine and logistic regression;
validation chooses the layer and the setting of each, the test images are read at the
end. Logistic regression is saved as a plain Keras model: one dense layer, whose outputs
are probabilities.
What to learn from it: a head of some thousand weights, fitted in seconds, beside the
millions of fine-tuning; and that the last layer is not always the best.

Source: the feature-extraction section of many articles, one of which sets a head of
4,098 weights against the 138 million of VGG16. Layers are compared as in Yosinski et
al., 2014, arXiv:1411.1792.
Data: the CIFAR-10 sample inside the package, `--dataset digits`, any of TFDS, or
`--data FOLDER`.
Expected:
    efficientnet_lite0, 128 px, cifar10_sample, 2,000 train, 1,500 test:
      k-NN 0.801 ± 0.020
      SVM 0.839 ± 0.019
      logistic regression 0.837 ± 0.019
      75 s on 2 cores, AMD EPYC with avx512_bf16
      Keras 3.15.1, TensorFlow 2.21.0, 2026-11-27
Run:
    keras-tl run feature_extraction
    keras-tl run feature_extraction --data my_photos --layers block5_add top_relu
"""

# %%
import time
from dataclasses import dataclass, replace

import keras_tl.quiet  # noqa: F401  Before Keras.

import keras
from rich.table import Table

from keras_tl import config, files, progress
from keras_tl.analysis import evaluation, figures, probe, summary
from keras_tl.config import RunSettings
from keras_tl.data import datasets, splits
from keras_tl.data.settings import DataSettings
from keras_tl.data.sources import Arrays, read_all
from keras_tl.deploy import run_folder
from keras_tl.models import backbones, freezing, taps
from keras_tl.models.settings import BackboneSettings
from keras_tl.training import features, store
from keras_tl.training.settings import CacheSettings

TOGETHER = "all together"


@dataclass(frozen=True)
class Config(RunSettings, CacheSettings, BackboneSettings, DataSettings):
    """Use a frozen network for features: which layer, and which simple classifier."""

    image_size: int = 128  # Side of the square images, in pixels.
    layers: tuple[str, ...] = ()  # Layers to try; by default the last of each block.


# %% [markdown]
# ## Data


# %%
def build_data(settings: Config) -> splits.Splits:
    data = datasets.from_settings(settings)
    print(data)
    return data.at_size(settings.image_size).map(splits.read_once)


# %% [markdown]
# ## Model
# One pass computes the features of all layers, side by side; together they are one more
# choice.


# %%
def build_model(settings: Config) -> tuple[keras.Model, list[str]]:
    backbone = backbones.from_settings(settings)
    freezing.freeze(backbone)
    names = list(settings.layers)
    if not names:
        names = [layers[-1] for layers in freezing.blocks(backbone).values()]
        last = freezing.leaves(backbone)[-1].name
        names += [] if last in names else [last]
    return backbone, names


# %% [markdown]
# ## Probes
# Each classifier on each layer. Validation chooses the layer and the setting of each.


# %%
def fit_probes(inputs: splits.Splits, columns: dict) -> list[dict]:
    table = Table(title="Validation accuracy", title_style="bold")
    for name in ("layer", "features", *probe.KINDS):
        table.add_column(name)
    values = {name: read_all(split.inputs) for name, split in inputs.items()}
    rows = []
    for layer, place in columns.items():
        of_layer = {
            name: replace(split, inputs=Arrays(values[name][:, place]))
            for name, split in inputs.items()
        }
        row = {"layer": layer, "test": of_layer["test"]}
        for kind in probe.KINDS:
            row[kind] = probe.fit(kind, of_layer["train"], of_layer["validation"])
        accuracies = [f"{row[kind].validation:.3f}" for kind in probe.KINDS]
        table.add_row(layer, str(row["test"].inputs.values.shape[1]), *accuracies)
        rows.append(row)
    progress.console().print(table)
    return rows


def choose(rows: list[dict]) -> dict[str, dict]:
    """Return the row of the layer that validation chooses, for each classifier."""
    best = {
        kind: max(rows, key=lambda row, kind=kind: row[kind].validation)
        for kind in probe.KINDS
    }
    for kind, row in best.items():
        print(f"{kind}: {row['layer']}, validation {row[kind].validation:.3f}.")
    highest = max(best, key=lambda kind: best[kind][kind].validation)
    print("The logistic regression is saved: it is one layer, with probabilities.")
    if highest != "logistic regression":
        print(f"On validation, {highest} is better.")
    return best


def save_table(folder, rows: list[dict]) -> None:
    """Write `layers.csv` and `layers.png`: every classifier on every layer."""
    cells = [
        {
            "layer": row["layer"],
            "classifier": kind,
            "setting": row[kind].setting,
            "validation": row[kind].validation,
        }
        for row in rows
        for kind in probe.KINDS
    ]
    files.write_csv(folder / "layers.csv", cells)
    series = {
        kind: [(place, *[row[kind].validation] * 3) for place, row in enumerate(rows)]
        for kind in probe.KINDS
    }
    names = [row["layer"] for row in rows]
    figure = figures.lines(series, names, "Layer", "Validation accuracy")
    figures.save(figure, folder / "layers.png")


# %% [markdown]
# ## Run


# %%
def main(settings: Config) -> dict:
    started = time.perf_counter()
    data = build_data(settings)
    backbone, names = build_model(settings)
    stem, columns = taps.pooled(backbone, names)
    layers = {name: [name] for name in names}
    if len(names) > 1:
        columns[TOGETHER], layers[TOGETHER] = slice(None), names
    run = config.start_run(
        "feature_extraction", settings, started, splits.describe(data)
    )
    cache = store.Cache() if settings.cache else None
    inputs = features.extract_all(stem, data, cache=cache)

    rows = fit_probes(inputs, columns)
    save_table(run.folder, rows)
    best = choose(rows)
    results = {
        kind: evaluation.evaluate(
            data.test.labels,
            row[kind].logits(row["test"].inputs.values),
            data.class_names,
            train_labels=data.train.labels,
        )
        for kind, row in best.items()
    }
    summary.show(results)

    chosen = best["logistic regression"]
    kernel, bias = chosen["logistic regression"].dense()
    model = taps.classifier(backbone, layers[chosen["layer"]], kernel, bias)
    print(freezing.report(model))
    return run_folder.save(
        run, model, data=data, results=results, histories={}, cache=cache
    )


# %% tags=["script"]
if __name__ == "__main__":
    config.run(main, Config)
