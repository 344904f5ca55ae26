"""Distillation: a small network learns from a large one's answers.

Workflow: a pretrained backbone is fine-tuned on changed copies of the training images;
it says what it sees in each copy, once; a student, the backbone's first blocks with a
head of their own, learns from its answers and from the labels, on smaller images.
Beside it the same student learns from the labels alone, on the same copies in the same
order. A killed study goes on where it was.
What to learn from it: how far a student of a few per cent of its teacher's size comes,
and that a teacher is worth what it knows of the copies that it labels.

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
from pathlib import Path
from typing import Literal

import keras

from keras_tl import config, errors, files
from keras_tl.analysis import evaluation, figures, study
from keras_tl.data import augment, sources, splits
from keras_tl.methods import distillation
from keras_tl.models import backbones, freezing, heads, resizing
from keras_tl.training import phases, placement, store


@dataclass(frozen=True)
class Config:
    """Distillation: a small network learns from a large one's answers."""

    dataset: str = "cifar10_sample"  # cifar10_sample, digits, or a name of TFDS.
    data: Path | None = None  # Folder of your own images, in place of the dataset.
    bad_images: Literal["error", "skip"] = "error"  # What to do with broken files.
    backbone: str = "efficientnet_lite0"  # Name of the teacher's pretrained backbone.
    weights: str | None = "imagenet"  # "imagenet", a file, or None: random ones.
    preprocessing: str | None = None  # Contract of the weights, if not the backbone's.
    image_size: int = 128  # Side of the teacher's square images, in pixels.
    blocks: int = 8  # Blocks of the teacher that are fine-tuned, from the output back.
    teacher_epochs: int = 5  # Most epochs of each of the teacher's two phases.
    student_blocks: int = (
        8  # Blocks of the backbone, from the input on, of the student.
    )
    student_size: int = 32  # Side of the student's images, in pixels.
    copies: int = 4  # Changed copies of each image that the teacher sees.
    epochs: int = 20  # Most epochs of the student.
    learning_rate: float = 1e-3  # Adam's rate for the student.
    temperature: float = 2.0  # Divides the logits; the higher, the softer.
    label_weight: float = 0.5  # Weight of the labels, in [0, 1]; the rest is taught.
    batch_size: int = 32  # Images per step, over all devices.
    seeds: int = 3  # Students of each kind, with seeds one after the other.
    limit: int | None = None  # Keep at most this many images of each split.
    cache: bool = True  # Keep the teacher's answers, on disk, for later runs.
    seed: int = 0  # Seed of the teacher, the first students and the splits.
    out: Path | None = None  # New folder for the results; runs/distillation if None.
    resume: Path | None = None  # Folder of an interrupted run to go on with.

    def __post_init__(self):
        backbones.check(self.backbone, self.weights, self.image_size)
        for name in (
            *("blocks", "teacher_epochs", "student_blocks", "copies", "epochs"),
            *("batch_size", "seeds"),
        ):
            errors.check_at_least(name, getattr(self, name), 1)
        errors.check_at_least("student_size", self.student_size, 32)
        errors.check_above("learning_rate", self.learning_rate, 0)
        taught(self)


def taught(settings: Config):
    return distillation.from_teacher(
        temperature=settings.temperature, student_loss_weight=settings.label_weight
    )


# %% [markdown]
# ## Data


# %%
def build_data(settings: Config) -> splits.Splits:
    data = sources.load(
        settings.dataset,
        folder=settings.data,
        bad_images=settings.bad_images,
        count=settings.limit,
        seed=settings.seed,
    )
    print(data)
    return data


# %% [markdown]
# ## Models
# The student is what the backbone begins with, pretrained as that is, and all of it
# trains.


# %%
def build_backbone(settings: Config) -> keras.Model:
    return backbones.load(
        settings.backbone,
        weights=settings.weights,
        preprocessing=settings.preprocessing,
        image_size=settings.image_size,
    )


def build_model(settings: Config, num_classes: int) -> keras.Model:
    model = heads.attach(build_backbone(settings), num_classes)
    pattern = backbones.find(settings.backbone).block
    freezing.unfreeze_blocks(model, settings.blocks, pattern)
    return model


def build_student(settings: Config, num_classes: int) -> keras.Model:
    backbone = build_backbone(settings)
    pattern = backbones.find(settings.backbone).block
    blocks = list(freezing.blocks(backbone, pattern).values())
    if settings.student_blocks > len(blocks):
        raise errors.expected(
            "student_blocks",
            f"be at most {len(blocks)}, the number of blocks",
            settings.student_blocks,
        )
    last = backbone.get_layer(blocks[settings.student_blocks - 1][-1])
    student = heads.attach(keras.Model(backbone.input, last.output), num_classes)
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
def fit_teacher(settings, data, setup, run: Path) -> study.Row:
    keras.utils.set_random_seed(settings.seed)
    with setup.placement.scope():
        model = build_model(settings, len(data.class_names))
    copies = settings.copies
    setup = replace(setup, augment=change(settings), augmented_copies=copies)
    sized = data.at_size(settings.image_size).map(splits.read_once)
    part, inputs = phases.without_frozen_stem(model, sized, setup)
    epochs = settings.teacher_epochs
    freezing.unfreeze_head(part)
    phases.fit_head(part, inputs, setup, epochs=epochs)
    pattern = backbones.find(settings.backbone).block
    freezing.unfreeze_blocks(part, settings.blocks, pattern)
    phases.fine_tune(part, inputs, setup, epochs=epochs, learning_rate=2e-4)
    with files.atomic(run / "teacher.keras") as temporary:
        model.save(temporary, include_optimizer=False)
    return judge("teacher", settings.seed, model, part, inputs)


def fit_student(settings, data, setup, run: Path, way: str, seed: int) -> study.Row:
    keras.utils.set_random_seed(seed)
    setup = replace(setup, seed=seed)
    with setup.placement.scope():
        model = build_student(settings, len(data.class_names))
    if way == "labels alone":
        data = replace(data, train=replace(data.train, targets=None))
    phases.fit_head(
        model,
        data,
        setup,
        epochs=settings.epochs,
        learning_rate=settings.learning_rate,
        regularizer=taught(settings) if way == "distilled" else None,
        patience=settings.epochs,
        phase=way,
    )
    if way == "distilled" and seed == settings.seed:
        with files.atomic(run / "student.keras") as temporary:
            model.save(temporary, include_optimizer=False)
    return judge(way, seed, model, model, data)


def judge(way, seed, model, part, inputs) -> study.Row:
    return {
        "way": way,
        "parameters": model.count_params(),
        "seed": seed,
        "validation": evaluation.accuracy(part, inputs.validation),
        "accuracy": evaluation.accuracy(part, inputs.test),
    }


# %% [markdown]
# ## Run


# %%
def main(settings: Config) -> dict:
    started = time.perf_counter()
    place = placement.choose()
    data = build_data(settings)
    # Both raise now rather than in a trial.
    build_model(settings, len(data.class_names))
    build_student(settings, len(data.class_names))
    run = config.start_run("distillation", settings)
    said = place.describe(settings.batch_size, settings.learning_rate)
    print(f"Results go to {run}. {said}")
    cache = store.Cache() if settings.cache else None
    setup = phases.Setup(
        place,
        batch_size=settings.batch_size,
        seed=settings.seed,
        choose_by="accuracy",
        cache=cache,
    )
    first = functools.partial(fit_teacher, settings, data, setup, run)
    rows = study.run(run, {"teacher": first})
    teacher = keras.models.load_model(run / "teacher.keras")
    shown = distillation.teach(
        teacher,
        data,
        settings.student_size,
        augment=change(settings),
        copies=settings.copies,
        seed=settings.seed,
        cache=setup.cache,
    )
    one = functools.partial(fit_student, settings, shown, setup, run)
    students = {
        f"{way.replace(' ', '-')}-seed-{seed}": functools.partial(one, way, seed)
        for seed in range(settings.seed, settings.seed + settings.seeds)
        for way in ("labels alone", "distilled")
    }
    rows += study.run(run, students)
    found = study.summarize(rows, ["way", "parameters"])
    study.show("Test accuracy", found)
    study.show("Gain", study.gains(rows[1:], [], "way", "labels alone"))
    bars = [(row["way"], row["mean"], (row["low"], row["high"])) for row in found]
    figures.save(figures.comparison(bars), run / "distillation.png")
    return study.save(
        run,
        recipe="distillation",
        settings=settings,
        data=splits.describe(data),
        rows=rows,
        by=["way"],
        seconds=time.perf_counter() - started,
    )


# %% tags=["script"]
if __name__ == "__main__":
    config.run(main, Config)
