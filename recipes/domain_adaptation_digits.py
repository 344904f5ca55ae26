"""Domain adaptation of digits: one handwriting is labelled, another is not.

Workflow: a small network learns from labelled digits, the source, and from the images
alone of other digits, the target: by DAN, Deep CORAL, DANN, CDAN+E and MCC. Below them
the network that learns from the source only, above them one that learns from the
target's labels. MNIST to USPS, USPS to MNIST, and MNIST to MNIST-M, digits over pieces
of colour photographs. A study that was killed continues with `--resume`.
What to learn from it: that images without labels can be worth nearly as much as their
labels; and that validation on the source, which is always high, cannot choose: the last
epoch is kept, and of several weights that whose answers for the unlabelled images are
most informative.

Source: DANN: Ganin et al., 2016, arXiv:1505.07818, with its network, but for 20 and 50
filters and one hidden layer of 500, as CDAN's authors have it; published with DANN and
all images (https://github.com/s-chh/PyTorch-DANN): MNIST to USPS .818 without and .884
with adaptation, USPS to MNIST .494 and .957, MNIST to MNIST-M .572 and .719. CDAN+E:
arXiv:1705.10667, .956 and .980. Here are 2,000 images of each, fewer steps, Adam, and
MNIST-M is made from other photographs.
Data: `--data FOLDER` with MNIST's four files in `mnist/`, as `train-images-idx3-ubyte
.gz` (http://yann.lecun.com/exdb/mnist), and `usps.h5`
(https://www.kaggle.com/datasets/bistaumanga/usps-dataset).
Expected:
    LeNet, mnist_usps, 2,000 train, 2,000 test:
      MNIST to USPS, source only (weight 0.0) 0.743 (0.733 to 0.758, 3 seeds), 11 s each
      MNIST to USPS, target labels (weight 0.0) 0.952 (0.949 to 0.954, 3 seeds), 9.9 s
        each
      MNIST to USPS, DAN (weight 1.0) 0.846 (0.838 to 0.861, 3 seeds), 13 s each
      MNIST to USPS, Deep CORAL (weight 1.0) 0.789 (0.782 to 0.795, 3 seeds), 15 s each
      MNIST to USPS, DANN (weight 1.0) 0.662 (0.603 to 0.755, 3 seeds), 13 s each
      818 s on 2 cores, AMD EPYC with avx512_bf16
      Keras 3.15.1, TensorFlow 2.21.0, 2026-11-30
    more in docs/results.md
Run:
    keras-tl run domain_adaptation_digits --data digits
    keras-tl run domain_adaptation_digits --data digits --methods DANN --epochs 50
"""

# %%
import functools
import gzip
import itertools
import time
from dataclasses import dataclass, replace
from pathlib import Path

import keras_tl.quiet  # noqa: F401  Before Keras.

import h5py
import keras
import numpy as np

from keras_tl import config, errors
from keras_tl.analysis import evaluation, figures, study, unlabelled
from keras_tl.config import RunSettings
from keras_tl.data import datasets, splits
from keras_tl.data.settings import FolderSettings
from keras_tl.methods import domain_adaptation
from keras_tl.models import backbones, catalog, heads
from keras_tl.training import phases, placement
from keras_tl.training.settings import ChooseBy, TrainingSettings

METHODS = ("DAN", "Deep CORAL", "DANN", "CDAN+E", "MCC")
TASKS = ("MNIST to USPS", "USPS to MNIST", "MNIST to MNIST-M")
SIDE = 28


@dataclass(frozen=True)
class Config(RunSettings, TrainingSettings, FolderSettings):
    """Domain adaptation of digits: one handwriting is labelled, another is not."""

    data: Path | None = None  # Folder with mnist/ and usps.h5.
    weights: Path | None = None  # A file of weights to begin with, .weights.h5.
    limit: int | None = 2000  # Keep at most this many images of each split.
    tasks: tuple[str, ...] = TASKS  # Sources and targets to compare.
    methods: tuple[str, ...] = METHODS  # Methods to compare, besides the two lines.
    term_weights: tuple[float, ...] = (1.0,)  # Weights of a method to try.
    epochs: int = 10  # Epochs of a trial; the last is kept.
    learning_rate: float = 1e-3  # Adam's learning rate.
    batch_size: int = 64  # Images per step: half of the source, half of the target.
    choose_by: ChooseBy = "last"  # Labels of the source cannot choose for the target.
    seeds: int = 3  # Trials of each setting, with seeds one after the other.

    def __post_init__(self):
        if self.data is None:
            raise errors.expected("data", "name a folder with mnist/ and usps.h5", None)
        super().__post_init__()
        if self.weights is not None:
            catalog.check_file(Path(self.weights))
        for name in ("epochs", "seeds"):
            errors.check_at_least(name, getattr(self, name), 1)
        errors.check_above("learning_rate", self.learning_rate, 0)
        errors.check_above("term_weights", min(self.term_weights, default=0), 0)
        for name, choices in (("tasks", TASKS), ("methods", METHODS)):
            for value in getattr(self, name):
                if value not in choices:
                    raise errors.unknown(name, value, choices)


# %% [markdown]
# ## Data
# Grey digits of 28 x 28 and of 16 x 16 pixels, and such over photographs: the absolute
# difference of digit and photograph, as MNIST-M has it.


# %%
def build_data(settings: Config) -> dict[str, splits.Splits]:
    folder = Path(settings.data)
    domains = {"MNIST": mnist(folder / "mnist", settings.seed)}
    domains["USPS"] = usps(folder / "usps.h5", settings.seed)
    domains = {
        name: splits.limit(domain, settings.limit, seed=settings.seed)
        .at_size(SIDE)
        .map(splits.read_once)
        for name, domain in domains.items()
    }
    domains["MNIST-M"] = over_photographs(domains["MNIST"], settings.seed)
    return domains


def mnist(folder: Path, seed: int) -> splits.Splits:
    def read(name, header):
        path = folder / f"{name}-ubyte.gz"
        if not path.exists():
            raise errors.expected("data", "have the files of MNIST", str(path))
        with gzip.open(path) as file:
            return np.frombuffer(file.read(), "uint8", offset=header)

    def pair(name):
        pixels = read(f"{name}-images-idx3", 16).reshape(-1, 28, 28)
        return pixels, read(f"{name}-labels-idx1", 8)

    return datasets.from_arrays(pair("train"), pair("t10k"), seed=seed)


def usps(path: Path, seed: int) -> splits.Splits:
    if not path.exists():
        raise errors.expected("data", "have the file of USPS", str(path))

    def pair(group):
        grey = np.rint(255 * group["data"][:].reshape(-1, 16, 16))
        return grey.astype("uint8"), group["target"][:].astype("int64")

    with h5py.File(path) as file:
        return datasets.from_arrays(pair(file["train"]), pair(file["test"]), seed=seed)


def over_photographs(digits: splits.Splits, seed: int) -> splits.Splits:
    """Return digits over pieces of photographs, of CIFAR-10 and its own splits."""
    photographs = datasets.sample()

    def blend(split, others):
        rng = np.random.default_rng(seed)
        chosen = others.read(rng.integers(0, len(others), len(split)))
        top, left = rng.integers(0, 32 - SIDE, 2)
        pieces = chosen[:, top : top + SIDE, left : left + SIDE].astype("int16")
        pixels = np.abs(pieces - split.read(np.arange(len(split))))
        return replace(split, inputs=pixels.astype("uint8"))

    blended = {
        name: blend(split, getattr(photographs, name)) for name, split in digits.items()
    }
    origin = f"{digits.origin} Over photographs of the CIFAR-10 sample."
    return replace(digits, origin=origin, **blended)


# %% [markdown]
# ## Model


# %%
def build_model(settings: Config) -> keras.Model:
    layers = keras.layers
    image = keras.Input((SIDE, SIDE, 3), name="image")
    x = layers.Rescaling(1 / 127.5, -1.0, name="preprocess")(image)
    for number, filters in enumerate((20, 50), start=1):
        x = layers.Conv2D(filters, 5, activation="relu", name=f"conv_{number}")(x)
        x = layers.MaxPooling2D(name=f"pool_{number}")(x)
    model = heads.attach_mlp(keras.Model(image, x, name="lenet"), 10, hidden=(500,))
    if settings.weights is not None:
        backbones.load_weights(model, settings.weights)
    return model


# %% [markdown]
# ## A trial
# No label of the target gets into the training of a method, and none into what chooses:
# `validation` needs none.


# %%
def trial(settings, domains, place, run, name, task, method, weight, seed: int):
    source, target = (domains[one] for one in task.split(" to "))
    keras.utils.set_random_seed(seed)
    with place.scope():
        model = build_model(settings)
    data, term, rows = domain_adaptation.arrange(
        method, source, target, settings.batch_size, layer="hidden_1", weight=weight
    )
    options = {"trial": name, "seed": seed, "batch_size": rows}
    setup = phases.setup(settings, place, data, run, **options)
    phase = phases.Phase(
        settings.epochs,
        settings.learning_rate,
        method=term,
        patience=settings.epochs,
        name=method,
    )
    phases.fit(model, data, setup, phase)
    answers = evaluation.predict(model, target.train)
    return {
        **{"task": task, "method": method, "weight": weight, "seed": seed},
        "validation": unlabelled.information(answers),
        "accuracy": evaluation.accuracy(model, target.test),
    }


def plan(settings, domains, place, run) -> dict:
    """Name the trials: every task with every method, weight and seed."""
    lines = [(line, 0.0) for line in domain_adaptation.LINES]
    tried = list(itertools.product(settings.methods, settings.term_weights))
    seeds = range(settings.seed, settings.seed + settings.seeds)
    trials = {}
    for seed, task in itertools.product(seeds, settings.tasks):
        for method, weight in [*lines, *tried]:
            name = f"{task}-{method}-{weight:g}-seed-{seed}".replace(" ", "-")
            one = functools.partial(trial, settings, domains, place, run, name)
            trials[name] = functools.partial(one, task, method, weight, seed)
    return trials


# %% [markdown]
# ## Run


# %%
def main(settings: Config) -> dict:
    started = time.perf_counter()
    place, settings = placement.from_settings(settings)
    domains = build_data(settings)
    described = {name: splits.describe(domain) for name, domain in domains.items()}
    described = described["MNIST"] | {"domains": described}
    run = config.start_run("domain_adaptation_digits", settings, started, described)
    print(place.describe(settings.batch_size, settings.learning_rate))
    rows = study.run(run.folder, plan(settings, domains, place, run))
    chosen = study.choose(rows, ["task", "method"], ["weight"])
    summaries = study.summarize(chosen, ["task", "method", "weight"])
    study.show("Accuracy on the target", summaries)
    study.show("Gain", study.gains(chosen, ["task"], "method", "source only"))
    panels = {
        task: {
            row["method"]: (row["mean"], row["low"], row["high"])
            for row in summaries
            if row["task"] == task
        }
        for task in settings.tasks
    }
    figure = figures.panels(panels, "source only", "Accuracy on the target")
    figures.save(figure, run.folder / "domains.png")
    compared = {"by": ["task", "method"], "over": ["weight"], "base": "source only"}
    return study.save(run, rows=rows, network="LeNet", **compared)


# %% tags=["script"]
if __name__ == "__main__":
    config.run(main, Config)
