"""Pre-train, fine-tune, apply: the phases of transfer learning, from nothing.

Workflow: a network with random weights is pre-trained on a source data set with all of
its labels, while a linear probe follows how good its features become for the target;
its weights are saved as a file that `--weights` takes; a head is fitted on the frozen
features of few target labels, then all of it is fine-tuned, and it is applied to new
images. Beside it the same network from scratch on the same labels. As many labels again
select the epochs. A run that was killed continues with `--resume`.
What to learn from it: what labels of other classes are worth where one's own are few;
and when more pre-training no longer helps, which the source's loss need not tell.

Source: the phases as articles describe them; features that transfer less the longer
they are trained on the source: Kornblith et al., "Why do better loss functions lead to
less transferable features?", 2021, arXiv:2010.16402.
Data: 8 classes of CIFAR-10 from `tensorflow_datasets` (160 MB download) and its two
others; or `--source` and `--target`, each a folder, a table or a TFDS data set, such as
`imagenet2012`, whose archives TFDS wants in its folder of manual downloads.
Expected:
    small_resnet, 32 px, cifar10, 100 train, 2,000 test:
      from scratch 0.640 ± 0.021 (0.616 to 0.662, 3 seeds)
      probe, the last epoch 0.699 ± 0.020 (0.672 to 0.729, 3 seeds)
      probe, the target's probe 0.684 ± 0.020 (0.659 to 0.717, 3 seeds)
      probe, the source's loss 0.700 ± 0.020 (0.674 to 0.731, 3 seeds)
      fine-tuned 0.726 ± 0.020 (0.707 to 0.739, 3 seeds)
      276 s (pre-training 200 s, fine-tuning 26 s) on 2 cores, AMD EPYC with avx512_bf16
      Keras 3.15.1, TensorFlow 2.21.0, 2026-11-30
Run:
    keras-tl run pretrain_then_transfer
    keras-tl run pretrain_then_transfer --source many_photos --target my_photos
    keras-tl train my_photos --backbone small_resnet --image-size 32 \
        --weights runs/pretrain_then_transfer/pretrained.weights.h5
"""

# %%
import shutil
import time
from dataclasses import dataclass

import keras_tl.quiet  # noqa: F401  Before Keras.

import keras
import numpy as np

from keras_tl import config, errors, files
from keras_tl.analysis import evaluation, figures, probe, stopping, summary
from keras_tl.config import RunSettings
from keras_tl.data import augment, datasets, splits
from keras_tl.data.choices import BadFiles
from keras_tl.deploy import artifact, run_folder
from keras_tl.models import backbones, freezing, heads
from keras_tl.models.settings import BackboneSettings
from keras_tl.training import phases, placement
from keras_tl.training.settings import ChooseBy, TrainingSettings


@dataclass(frozen=True)
class Config(RunSettings, TrainingSettings, BackboneSettings):
    """Pre-train, fine-tune, apply: the phases of transfer learning, from nothing."""

    source: str = "cifar10"  # Folder, table or TFDS data set to pre-train on.
    target: str | None = None  # The same, to fine-tune on; None: target_classes.
    # Classes of the source that are the target instead, where none is given.
    target_classes: tuple[str, ...] = ("automobile", "truck")
    bad_files: BadFiles = "error"  # Where images are broken: stop, or skip them.
    limit: int | None = 6_000  # Keep at most this many images of each source split.
    labels: int = 50  # Target images of each class to learn from; as many select.
    backbone: str = "small_resnet"  # Name of the network.
    weights: str | None = None  # None: random ones; or a file, or "imagenet".
    image_size: int = 32  # Side of the square images, in pixels.
    epochs: int = 12  # Epochs of pre-training.
    learning_rate: float = 1e-3  # Adam's learning rate of pre-training.
    fine_tune_epochs: int = 60  # Most epochs of fine-tuning, and of training it alone.
    fine_tune_learning_rate: float = 3e-4  # Adam's learning rate of fine-tuning.
    batch_size: int = 64  # Images per step, over all devices.
    choose_by: ChooseBy = "accuracy"  # Validation metric that selects the epoch.

    def __post_init__(self):
        super().__post_init__()
        for name in ("labels", "epochs", "fine_tune_epochs"):
            errors.check_at_least(name, getattr(self, name), 1)
        if self.limit is not None:
            errors.check_at_least("limit", self.limit, 1)
        for name in ("learning_rate", "fine_tune_learning_rate"):
            errors.check_above(name, getattr(self, name), 0)
        if self.target is None and len(set(self.target_classes)) < 2:
            expectation = "be two classes or more where no target is given"
            raise errors.expected("target_classes", expectation, self.target_classes)


# %% [markdown]
# ## Data
# Many images of the source; of the target, few labels to learn from, as many to select
# by, and all of its test images.


# %%
def build_data(settings: Config) -> tuple[splits.Splits, splits.Splits]:
    options = {"seed": settings.seed, "bad_files": settings.bad_files, "kind": "image"}
    source = datasets.load(settings.source, **options)
    if settings.target is not None:
        target = datasets.load(settings.target, **options)
    else:
        for name in settings.target_classes:
            if name not in source.class_names:
                raise errors.unknown("target_classes", name, source.class_names)
        chosen = np.isin(source.class_names, settings.target_classes)
        target = splits.of_classes(source, np.flatnonzero(chosen).tolist())
        source = splits.of_classes(source, np.flatnonzero(~chosen).tolist())
    source = splits.limit(source, settings.limit, seed=settings.seed)
    target = splits.few(target, settings.labels, seed=settings.seed)
    print(f"Source: {source}\nTarget: {target}")
    return source.at_size(settings.image_size), target.at_size(settings.image_size)


# %% [markdown]
# ## Pre-training
# The weights of each epoch are kept until one of them is chosen.


# %%
def pretrain(settings, source, target, place, setup, folder) -> phases.History:
    with place.scope():
        backbone = backbones.from_settings(settings)
        model = heads.attach(backbone, len(source.class_names))
    freezing.unfreeze(model, batch_normalization=True)
    accuracy_of = probe.follow(heads.pool(backbone), target)
    folder.mkdir(exist_ok=True)

    def keep(epoch):
        with files.atomic(folder / f"{epoch}.weights.h5") as temporary:
            backbone.save_weights(temporary)
        return accuracy_of(epoch)

    phase = phases.Phase(
        settings.epochs,
        settings.learning_rate,
        patience=settings.epochs,
        name="pre-training",
        probe=keep,
    )
    return phases.fit(model, source, setup, phase)


# %% [markdown]
# ## When to stop
# Three rules choose an epoch, none of which sees the target's test images.


# %%
def epochs_of(history: phases.History) -> dict[str, int]:
    return {
        "the last epoch": len(history["loss"]) - 1,
        "the target's probe": int(np.argmax(history["probe"])),
        "the source's loss": int(np.argmin(history["val_loss"])),
    }


def chart(history: phases.History, count: int):
    series = {"source, validation": "val_accuracy", "target, probe": "probe"}
    points = {
        name: [
            (epoch, value, *evaluation.wilson_interval(round(value * count), count))
            if key == "probe"
            else (epoch, value, value, value)
            for epoch, value in enumerate(history[key])
        ]
        for name, key in series.items()
    }
    names = [str(epoch + 1) for epoch in range(len(history["loss"]))]
    return figures.lines(points, names, "Epoch of pre-training", "Accuracy")


# %% [markdown]
# ## Transfer


# %%
def build_model(settings, place, num_classes: int, weights=None) -> keras.Model:
    with place.scope():
        backbone = backbones.from_settings(settings)
        if weights is not None:
            backbones.load_weights(backbone, weights)
        return heads.attach(backbone, num_classes)


def fit_probe(model, target, setup):
    """Fit the head on frozen features; return a copy, and the test split for it."""
    freezing.unfreeze_head(model)
    part, features = phases.precompute_frozen(model, target, setup)
    probe.fit_head(part, features)
    # Fine-tuning will change the layers of the model, and a copy stays as it is.
    copy = keras.models.clone_model(part)
    copy.set_weights(part.get_weights())
    return copy, features.test


def train_alone(settings, target, place, setup):
    """Train the network from scratch on the target's labels."""
    keras.utils.set_random_seed(settings.seed)
    model = build_model(settings, place, len(target.class_names))
    freezing.unfreeze(model, batch_normalization=True)
    phase = phases.Phase(
        settings.fine_tune_epochs,
        settings.learning_rate,
        patience=settings.fine_tune_epochs,
        name="from scratch",
    )
    phases.fit(model, target, setup, phase)
    return model


# %% [markdown]
# ## Run


# %%
def main(settings: Config) -> dict:
    started = time.perf_counter()
    place, settings = placement.from_settings(settings)
    source, target = build_data(settings)
    about = splits.describe(target) | {"pretrained on": source.origin}
    run = config.start_run("pretrain_then_transfer", settings, started, about)
    print(place.describe(settings.batch_size, settings.learning_rate))
    kept, weights = run.folder / "epochs", run.folder / "pretrained.weights.h5"
    setup = phases.setup(settings, place, source, run, augment=augment.flip_and_crop)
    history = pretrain(settings, source, target, place, setup, kept)

    of_target = phases.setup(settings, place, target, run)
    changed = phases.setup(settings, place, target, run, augment=augment.flip_and_crop)
    alone = train_alone(settings, target, place, changed)
    models = {"from scratch": (alone, target.test)}
    for rule, epoch in epochs_of(history).items():
        print(f"Epoch of {rule}: {epoch + 1}.")
        model = build_model(
            settings, place, len(target.class_names), kept / f"{epoch}.weights.h5"
        )
        models[f"probe, {rule}"] = fit_probe(model, target, of_target)
    enough = stopping.enough(history["probe"], len(target.validation))
    print(enough.sentence())

    # The model of the last rule, which needs no label of the target, goes on.
    with files.atomic(weights) as temporary:
        shutil.copyfile(kept / f"{epoch}.weights.h5", temporary)
    freezing.unfreeze(model)
    phase = phases.fine_tuning(
        settings.fine_tune_epochs, settings.fine_tune_learning_rate, patience=20
    )
    tuned = phases.fit(model, target, changed, phase)
    models["fine-tuned"] = (model, target.test)
    models = summary.without_rejected(models, {"fine-tuned": tuned})
    results = summary.evaluate_models(models, target)
    summary.show(results)
    figures.save(chart(history, len(target.validation)), run.folder / "stopping.png")
    metrics = run_folder.save(
        run,
        model,
        data=target,
        results=results,
        histories={"pre-training": history, "fine-tuning": tuned},
        further={"stopping": {"sentence": enough.sentence(), **epochs_of(history)}},
    )
    shutil.rmtree(kept)

    # Applied, as anybody would use it.
    first = target.test.inputs.preview(range(min(5, len(target.test))))
    summary.show_predictions(artifact.load(run.folder).predict(first), target)
    return metrics


# %% tags=["script"]
if __name__ == "__main__":
    config.run(main, Config)
