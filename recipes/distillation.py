"""Distillation: a small network learns from a large one's answers.

Workflow: a pretrained backbone, the teacher, is fine-tuned on augmented copies of the
training images; its logits for each copy are computed once; a student, the backbone's
first blocks with a head of their own, learns from the logits and from the labels, on
smaller images. For comparison, the same student learns from the labels alone, on the
same copies in the same order. A study that was killed continues with `--resume`.
What to learn from it: how accurate a student of a few per cent of its teacher's size
can be, and that this depends on how well the teacher knows the copies it labels.

Source: Hinton et al., "Distilling the knowledge in a neural network", 2015,
arXiv:1503.02531; that the student should see many copies, labelled as what they are
then: Beyer et al., "Knowledge distillation: a good teacher is patient and consistent",
2021, arXiv:2106.05237; a student that begins as a part of its teacher: Sanh et al.,
"DistilBERT", 2019, arXiv:1910.01108.
Data: the CIFAR-10 sample inside the package, `--dataset digits`, any of TFDS, or
`--data FOLDER`.
Expected:
    efficientnet_lite0, 128 px, cifar10_sample, 2,000 train, 1,500 test:
      teacher 0.889, 88 s each
      labels alone 0.672 (0.652 to 0.689, 10 seeds), 80 s each
      distilled 0.690 (0.682 to 0.700, 10 seeds), 70 s each
      1502 s on 1 core, AMD EPYC with avx512_bf16
      Keras 3.15.1, TensorFlow 2.21.0, 2026-11-25
Run:
    keras-tl run distillation
    keras-tl run distillation --data my_photos --student-size 64
"""

# %%
import functools
import time
from dataclasses import dataclass, replace

import keras_tl.quiet  # noqa: F401  Before Keras.

import keras

from keras_tl import config, errors
from keras_tl.analysis import evaluation, figures, study
from keras_tl.config import RunSettings
from keras_tl.data import augment, datasets, splits
from keras_tl.data.settings import DataSettings
from keras_tl.methods import distillation
from keras_tl.models import backbones, freezing, heads, resizing, saving
from keras_tl.models.settings import BackboneSettings
from keras_tl.training import phases, placement
from keras_tl.training.settings import ChooseBy, TrainingSettings


@dataclass(frozen=True)
class Config(RunSettings, TrainingSettings, BackboneSettings, DataSettings):
    """Distillation: a small network learns from a large one's answers."""

    image_size: int = 128  # Side of the teacher's square images, in pixels.
    blocks: int = 8  # Blocks of the teacher that are fine-tuned, from the output back.
    teacher_epochs: int = 5  # Most epochs of each of the teacher's two phases.
    student_blocks: int = 8  # First blocks of the backbone that the student has.
    student_size: int = 32  # Side of the student's images, in pixels.
    copies: int = 4  # Augmented copies of each image that the teacher sees.
    epochs: int = 20  # Most epochs of the student.
    learning_rate: float = 1e-3  # Adam's learning rate for the student.
    temperature: float = 2.0  # Divides the logits; a higher one softens them.
    label_weight: float = 0.5  # Weight of the labels' loss, in [0, 1].
    choose_by: ChooseBy = "accuracy"  # Validation metric that selects the epoch.
    seeds: int = 3  # Students of each kind, with seeds one after the other.

    def __post_init__(self):
        super().__post_init__()
        for name in (
            *("blocks", "teacher_epochs", "student_blocks", "copies", "epochs"),
            "seeds",
        ):
            errors.check_at_least(name, getattr(self, name), 1)
        errors.check_at_least("student_size", self.student_size, 32)
        errors.check_above("learning_rate", self.learning_rate, 0)
        errors.check_above("temperature", self.temperature, 0)
        if not 0 <= self.label_weight <= 1:
            raise errors.expected("label_weight", "be in [0, 1]", self.label_weight)


# %% [markdown]
# ## Data


# %%
def build_data(settings: Config) -> splits.Splits:
    data = datasets.from_settings(settings)
    print(data)
    return data


# %% [markdown]
# ## Models
# The student has the first blocks of the backbone, pretrained as they are, and all of
# it trains.


# %%
def build_model(settings: Config, num_classes: int) -> keras.Model:
    model = heads.attach(backbones.from_settings(settings), num_classes)
    freezing.unfreeze_blocks(model, settings.blocks)
    return model


def build_student(settings: Config, num_classes: int) -> keras.Model:
    backbone = freezing.first_blocks(
        backbones.from_settings(settings), settings.student_blocks, "student_blocks"
    )
    student = heads.attach(backbone, num_classes)
    freezing.unfreeze(student)
    return resizing.at_size(student, settings.student_size)


# %% [markdown]
# ## Trials
# The teacher is the first; it is kept in the run's folder. It learns from the copies
# that it is going to label.


# %%
def change(settings: Config):
    return functools.partial(augment.flip_and_crop, padding=settings.image_size // 8)


# %%
def fit_teacher(settings, data, place, run) -> study.Row:
    keras.utils.set_random_seed(settings.seed)
    with place.scope():
        model = build_model(settings, len(data.class_names))
    copies = {"augment": change(settings), "augmented_copies": settings.copies}
    setup = phases.setup(settings, place, data, run, trial="teacher", **copies)
    sized = data.at_size(settings.image_size).map(splits.read_once)
    part, inputs = phases.precompute_frozen(model, sized, setup)
    freezing.unfreeze_head(part)
    phases.fit(part, inputs, setup, phases.Phase(settings.teacher_epochs))
    freezing.unfreeze_blocks(part, settings.blocks)
    phases.fit(part, inputs, setup, phases.fine_tuning(settings.teacher_epochs, 2e-4))
    saving.save(model, run.folder / "teacher.keras")
    return measure("teacher", settings.seed, model, part, inputs)


def fit_student(settings, data, place, run, name: str, method: str, seed: int):
    keras.utils.set_random_seed(seed)
    with place.scope():
        model = build_student(settings, len(data.class_names))
    teacher = distillation.from_teacher(
        temperature=settings.temperature, student_loss_weight=settings.label_weight
    )
    distilled = method == "distilled"
    if not distilled:
        data = replace(data, train=replace(data.train, targets=None))
    setup = phases.setup(settings, place, data, run, trial=name, seed=seed)
    phase = phases.Phase(
        settings.epochs,
        settings.learning_rate,
        method=teacher if distilled else None,
        patience=settings.epochs,
        name=method,
    )
    phases.fit(model, data, setup, phase)
    if distilled and seed == settings.seed:
        saving.save(model, run.folder / "student.keras")
    return measure(method, seed, model, model, data)


def measure(method, seed, model, part, inputs) -> study.Row:
    return {
        "method": method,
        "parameters": model.count_params(),
        "seed": seed,
        "validation": evaluation.accuracy(part, inputs.validation),
        "accuracy": evaluation.accuracy(part, inputs.test),
    }


def plan(settings, data, place, run) -> dict:
    """Name the trials of students."""
    teacher = keras.models.load_model(run.folder / "teacher.keras")
    taught = distillation.teach(
        teacher,
        data,
        settings.student_size,
        augment=change(settings),
        copies=settings.copies,
        seed=settings.seed,
        cache=phases.setup(settings, place, data, run).cache,
    )
    trials = {}
    for seed in range(settings.seed, settings.seed + settings.seeds):
        for method in ("labels alone", "distilled"):
            name = f"{method.replace(' ', '-')}-seed-{seed}"
            one = functools.partial(fit_student, settings, taught, place, run)
            trials[name] = functools.partial(one, name, method, seed)
    return trials


# %% [markdown]
# ## Run


# %%
def main(settings: Config) -> dict:
    started = time.perf_counter()
    place, settings = placement.from_settings(settings)
    data = build_data(settings)
    # Both raise now rather than in a trial.
    build_model(settings, len(data.class_names))
    build_student(settings, len(data.class_names))
    run = config.start_run("distillation", settings, started, splits.describe(data))
    print(place.describe(settings.batch_size, settings.learning_rate))
    first = functools.partial(fit_teacher, settings, data, place, run)
    rows = study.run(run.folder, {"teacher": first})
    rows += study.run(run.folder, plan(settings, data, place, run))
    summaries = study.summarize(rows, ["method", "parameters"])
    study.show("Test accuracy", summaries)
    study.show("Gain", study.gains(rows[1:], [], "method", "labels alone"))
    bars = [(r["method"], r["mean"], (r["low"], r["high"])) for r in summaries]
    figures.save(figures.comparison(bars), run.folder / "distillation.png")
    return study.save(run, rows=rows, by=["method"], base="labels alone")


# %% tags=["script"]
if __name__ == "__main__":
    config.run(main, Config)
