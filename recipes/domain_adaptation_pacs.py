"""Domain adaptation: labels of one kind of image, and another kind without any.

Workflow: features of a frozen backbone, computed once; a head with a bottleneck learns
from the labels of one domain, the source, and from the images alone of another, the
target: by importance weighting, DAN, Deep CORAL, DANN, CDAN+E and MCC. Below them a
head that learns from the source only, above them one that learns from the target's
labels. For every ordered pair of domains, or for two folders of your own. A study that
was killed continues with `--resume`.
What to learn from it: how much images without labels are worth, and that nothing may be
chosen by the target's labels: the last epoch is kept, and the weight of a method is
that whose answers for the unlabelled images are most informative.

Source: DAN: arXiv:1502.02791; Deep CORAL: arXiv:1607.01719; DANN: arXiv:1505.07818;
CDAN+E: arXiv:1705.10667; MCC: arXiv:1912.03699. A published comparison with ResNet-50
on Office-Home, all of it fine-tuned at 224 px, mean of 12 pairs: source only 58.4, DAN
61.4, DANN 65.2, CDAN 68.8, MCC 72.4
(https://github.com/thuml/Transfer-Learning-Library).
Data: `--data FOLDER`, folders of folders of images, FOLDER/DOMAIN/CLASS/image.jpg, with
the same classes in every domain, such as PACS (Li et al., 2017, arXiv:1710.03077); or
`--source FOLDER --target FOLDER`. The target's labels are used for the test alone.
Expected:
    efficientnet_lite0, 160 px, pacs, 1,826 train, 996 test:
      source only (weight 0.0) 0.504 (0.292 to 0.901, 36 pairs), 2.8 s each
      target labels (weight 0.0) 0.859 (0.775 to 0.972, 36 pairs), 2.7 s each
      DAN (weight 0.3) 0.598 (0.333 to 0.917, 36 pairs), 3.0 s each
      Deep CORAL (weight 0.3) 0.563 (0.357 to 0.905, 36 pairs), 3.0 s each
      DANN (weight 1.0) 0.501 (0.230 to 0.913, 36 pairs), 2.9 s each
      1346 s on 2 cores, AMD EPYC with avx512_bf16
      Keras 3.15.1, TensorFlow 2.21.0, 2026-11-30
    more in docs/results.md
Run:
    keras-tl run domain_adaptation_pacs --data pacs
    keras-tl run domain_adaptation_pacs --source my_photos --target my_sketches
"""

# %%
import functools
import itertools
import time
from dataclasses import dataclass
from pathlib import Path

import keras_tl.quiet  # noqa: F401  Before Keras.

import keras
import numpy as np
from sklearn import manifold

from keras_tl import config, errors
from keras_tl.analysis import evaluation, figures, study, unlabelled
from keras_tl.config import RunSettings
from keras_tl.data import folders, splits
from keras_tl.data.settings import FolderSettings
from keras_tl.methods import domain_adaptation, importance
from keras_tl.models import backbones, freezing, heads, saving
from keras_tl.models.settings import BackboneSettings
from keras_tl.training import phases, placement
from keras_tl.training.settings import ChooseBy, TrainingSettings

METHODS = ("importance weighting", "DAN", "Deep CORAL", "DANN", "CDAN+E", "MCC")


@dataclass(frozen=True)
class Config(RunSettings, TrainingSettings, BackboneSettings, FolderSettings):
    """Domain adaptation: labels of one kind of image, and another kind without any."""

    data: Path | None = None  # Folder of domains, each a folder of classes.
    source: Path | None = None  # Folder of classes to learn from, in place of data.
    target: Path | None = None  # Folder of the same classes to be right about.
    image_size: int = 160  # Side of the square images, in pixels.
    methods: tuple[str, ...] = METHODS  # Methods to compare, besides the two lines.
    term_weights: tuple[float, ...] = (0.3, 1.0)  # Weights of a method to try.
    bottleneck: int = 256  # Width of the layer whose features are made alike.
    epochs: int = 20  # Epochs of a trial; the last is kept.
    learning_rate: float = 1e-3  # Adam's learning rate.
    batch_size: int = 64  # Images per step: half of the source, half of the target.
    choose_by: ChooseBy = "last"  # Labels of the source cannot choose for the target.
    seeds: int = 3  # Trials of each setting, with seeds one after the other.

    def __post_init__(self):
        super().__post_init__()
        own = (self.source is not None) + (self.target is not None)
        if own != (2 if self.data is None else 0):
            layout = "FOLDER/DOMAIN/CLASS/image.jpg"
            hint = "Or give both --source and --target, without --data."
            raise errors.expected(
                "data", f"name a folder of domains, {layout}", self.data, hint
            )
        for name in ("bottleneck", "epochs", "seeds"):
            errors.check_at_least(name, getattr(self, name), 1)
        errors.check_above("learning_rate", self.learning_rate, 0)
        errors.check_above("term_weights", min(self.term_weights, default=0), 0)
        for method in self.methods:
            if method not in METHODS:
                raise errors.unknown("methods", method, METHODS)


# %% [markdown]
# ## Data
# Each domain is split on its own. A third is its test, which is read for no choice.


# %%
def build_data(settings: Config) -> dict[str, splits.Splits]:
    options = {"seed": settings.seed, "bad_files": settings.bad_files, "test": 0.3}
    if settings.data is not None:
        domains = folders.domains_from_folder(settings.data, **options)
    else:
        domains = folders.domains([settings.source, settings.target], **options)
    limited = {
        name: splits.limit(domain, settings.limit, seed=settings.seed)
        for name, domain in domains.items()
    }
    for domain in limited.values():
        print(domain)
    return limited


def pairs(settings: Config, domains) -> list[tuple[str, str]]:
    """Return the pairs of source and target to compare."""
    return list(itertools.permutations(domains, 2))[: 1 if settings.source else None]


# %% [markdown]
# ## Model
# Only the bottleneck and the logits train. What is below runs once, over all domains.


# %%
def build_model(settings: Config, num_classes: int) -> keras.Model:
    pooled = heads.pool(backbones.from_settings(settings))
    model = heads.attach_mlp(pooled, num_classes, hidden=(settings.bottleneck,))
    freezing.unfreeze_head(model)
    return model


# %% [markdown]
# ## A trial
# The head begins anew in each. No label of the target gets into the training of a
# method, and none into what chooses: `validation` needs none.


# %%
def trial(settings, tail, domains, place, run, name, pair, method, weight, seed: int):
    """Train a head; a pair of domains counts as a seed: it has a draw of its own."""
    source, target = (domains[one] for one in pair)
    keras.utils.set_random_seed(seed)
    with place.scope():
        part = keras.models.clone_model(tail)
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
    phases.fit(part, data, setup, phase)
    row = {"method": method, "weight": weight, "pair": " to ".join(pair), "seed": seed}
    if data.train.targets is not None:  # Weights: as many examples as they are worth.
        row["effective"] = importance.effective_sample_size(data.train.targets)
    if seed == settings.seed:
        (run.folder / "heads").mkdir(exist_ok=True)
        saving.save(part, run.folder / "heads" / file_of(row))
    return row | {
        "validation": unlabelled.information(evaluation.predict(part, target.train)),
        "accuracy": evaluation.accuracy(part, target.test),
    }


def plan(settings, tail, domains, place, run) -> dict:
    """Name the trials: every pair with every method, weight and seed."""
    lines = [(line, 0.0) for line in domain_adaptation.LINES]
    tried = list(itertools.product(settings.methods, settings.term_weights))
    draws = itertools.product(range(settings.seeds), pairs(settings, domains))
    trials = {}
    for seed, (number, pair) in enumerate(draws, start=settings.seed):
        for method, weight in [*lines, *tried]:
            name = f"{'-to-'.join(pair)}-{method.replace(' ', '-')}-{weight:g}-{number}"
            one = functools.partial(trial, settings, tail, domains, place, run, name)
            trials[name] = functools.partial(one, pair, method, weight, seed)
    return trials


# %% [markdown]
# ## Results
# Every method has the weight that was chosen for it, over all pairs. The features of
# the first pair are looked at, without adaptation and with it.


# %%
def show(rows, folder) -> None:
    study.show("Accuracy on the target", study.summarize(rows, ["method", "weight"]))
    study.show("Gain", study.gains(rows, [], "method", "source only"))
    weighted = [row for row in rows if "effective" in row]
    if weighted:
        sizes = study.summarize(weighted, ["pair"], "effective")
        study.show("As many examples as the weighted source is worth", sizes, "size")
    by_pair = study.summarize(rows, ["pair", "method"])
    names = list(dict.fromkeys(row["pair"] for row in rows))
    series = study.series(by_pair, "pair", "method")
    figure = figures.lines(series, names, "Source and target", "Accuracy on the target")
    figures.save(figure, folder / "pairs.png")


def look(settings, rows, model, tail, domains, folder) -> None:
    """Draw the features of the first pair; of one's own folders, save the models."""
    names = pairs(settings, domains)[0]
    tests = [domains[name].test for name in names]
    planes = {}
    for row in rows:
        if row["seed"] != settings.seed:
            continue
        head = keras.models.load_model(folder / "heads" / file_of(row))
        inner = keras.Model(head.inputs[0], head.get_layer("hidden_1").output)
        vectors = np.concatenate([evaluation.predict(inner, test) for test in tests])
        perplexity = min(30, (len(vectors) - 1) / 3)
        plane = manifold.TSNE(perplexity=perplexity, random_state=settings.seed)
        planes[row["method"]] = plane.fit_transform(vectors)
        if settings.source is not None:
            tail.set_weights(head.get_weights())
            saving.save(model, folder / f"{row['method']}.keras")
    labels = np.concatenate([test.labels for test in tests])
    of_target = np.arange(len(labels)) >= len(tests[0])
    class_names = domains[names[0]].class_names
    figure = figures.scatter(planes, labels, of_target, names, class_names)
    figures.save(figure, folder / "features.png")


def file_of(row) -> str:
    return f"{row['method']}-{row['weight']:g}.keras"


# %% [markdown]
# ## Run


# %%
def main(settings: Config) -> dict:
    started = time.perf_counter()
    place, settings = placement.from_settings(settings)
    domains = build_data(settings)
    first = next(iter(domains.values()))
    with place.scope():
        model = build_model(settings, len(first.class_names))
    each = {name: splits.describe(domain) for name, domain in domains.items()}
    described = splits.describe(first) | {"domains": each}
    described["counts"] = {
        name: sum(one["counts"][name] for one in each.values())
        for name in described["counts"]
    }
    run = config.start_run("domain_adaptation_pacs", settings, started, described)
    print(place.describe(settings.batch_size, settings.learning_rate))
    parts = {}
    for name, domain in domains.items():
        setup = phases.setup(settings, place, domain, run)
        sized = domain.at_size(settings.image_size)
        tail, parts[name] = phases.precompute_frozen(model, sized, setup)
    rows = study.run(run.folder, plan(settings, tail, parts, place, run))
    chosen = study.choose(rows, ["method"], ["weight"])
    show(chosen, run.folder)
    look(settings, chosen, model, tail, parts, run.folder)
    return study.save(
        run, rows=rows, by=["method"], over=["weight"], base="source only"
    )


# %% tags=["script"]
if __name__ == "__main__":
    config.run(main, Config)
