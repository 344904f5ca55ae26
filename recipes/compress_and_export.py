"""Compress a classifier and export it: int8, pruned, and distilled.

Workflow: a pretrained backbone is fine-tuned, or taken from a finished run; its
smallest weights are set to zero in steps, with training after each; a student, the
backbone's first blocks, learns from its logits. Each of the three is exported for
LiteRT in float32 and in int8, and measured as a user has it: the size of its file, also
zipped, the test accuracy, the time of one image and the memory of the process. A study
that was killed continues with `--resume`.
What to learn from it: what each way costs in accuracy, and what it saves.

Source: int8: Jacob et al., "Quantization and training of neural networks for efficient
integer-arithmetic-only inference", 2018, arXiv:1712.05877; pruning in steps: Zhu and
Gupta, "To prune, or not to prune", 2017, arXiv:1710.01878; distillation: Hinton et al.,
2015, arXiv:1503.02531.
Data: the CIFAR-10 sample inside the package, `--dataset digits`, any of TFDS, or
`--data FOLDER`.
Expected:
    efficientnet_lite0, 96 px, cifar10_sample, 2,000 train, 1,500 test:
      original, float32 0.836 ± 0.019, 13.49 MB (12.46 zipped), 3.35 ms, 68 MiB
      original, int8 0.833 ± 0.019, 3.98 MB (3.29 zipped), 0.84 ms, 49 MiB
      pruned, float32 0.819 ± 0.019, 13.49 MB (8.23 zipped), 2.13 ms, 68 MiB
      pruned, int8 0.820 ± 0.019, 3.98 MB (2.55 zipped), 0.94 ms, 49 MiB
      student, float32 0.697 ± 0.023, 1.02 MB (0.94 zipped), 0.71 ms, 44 MiB
      788 s on 2 cores, AMD EPYC with avx512_bf16
      Keras 3.15.1, TensorFlow 2.21.0, 2026-11-29
    more in docs/results.md
Run:
    keras-tl run compress_and_export
    keras-tl run compress_and_export --data my_photos --start-from runs/my_photos
"""

# %%
import functools
import shutil
import time
from dataclasses import dataclass
from pathlib import Path

import keras_tl.quiet  # noqa: F401  Before Keras.

import keras

from keras_tl import config, errors
from keras_tl.analysis import evaluation, figures, study
from keras_tl.config import RunSettings
from keras_tl.data import augment, datasets, splits
from keras_tl.data.settings import DataSettings
from keras_tl.deploy import artifact, export, exported, run_folder
from keras_tl.methods import distillation, pruning
from keras_tl.models import backbones, freezing, heads
from keras_tl.models.settings import BackboneSettings
from keras_tl.training import phases, placement
from keras_tl.training.settings import StartSettings, TrainingSettings

MODELS = ("original", "pruned", "student")
FORMATS = {"litert": "float32", "litert-int8": "int8"}


@dataclass(frozen=True)
class Config(
    RunSettings, StartSettings, TrainingSettings, BackboneSettings, DataSettings
):
    """Compress a classifier and export it: int8, pruned, and distilled."""

    image_size: int = 96  # Side of the square images, in pixels.
    blocks: int = 8  # Blocks that are fine-tuned and pruned, from the output back.
    epochs: int = 30  # Most epochs for the head of the original.
    fine_tune_epochs: int = 4  # Most epochs of its fine-tuning.
    sparsity: float = 0.5  # Share of the weights that become zero, in [0, 1).
    prune_steps: int = 3  # Steps in which they do.
    prune_epochs: int = 2  # Most epochs after each step.
    student_blocks: int = 8  # First blocks of the backbone that the student has.
    student_epochs: int = 10  # Most epochs of the student.
    copies: int = 2  # Augmented copies of each image that the student learns from.
    temperature: float = 2.0  # Divides the logits; a higher one softens them.
    calls: int = 100  # Answers to one image whose time is taken.

    def __post_init__(self):
        super().__post_init__()
        for name in (
            *("blocks", "epochs", "fine_tune_epochs", "prune_steps", "prune_epochs"),
            *("student_blocks", "student_epochs", "copies", "calls"),
        ):
            errors.check_at_least(name, getattr(self, name), 1)
        errors.check_above("temperature", self.temperature, 0)
        if not 0 <= self.sparsity < 1:
            raise errors.expected("sparsity", "be in [0, 1)", self.sparsity)


# %% [markdown]
# ## Data


# %%
def build_data(settings: Config) -> splits.Splits:
    data = datasets.from_settings(settings)
    print(data)
    return data.at_size(settings.image_size)


# %% [markdown]
# ## Models
# The student has the first blocks of the backbone, pretrained as they are.


# %%
def build_model(settings: Config, num_classes: int) -> keras.Model:
    model = heads.attach(backbones.from_settings(settings), num_classes)
    freezing.unfreeze_blocks(model, settings.blocks)  # Raises now if there are fewer.
    freezing.unfreeze_head(model)
    return model


def build_student(settings: Config, num_classes: int) -> keras.Model:
    backbone = freezing.first_blocks(
        backbones.from_settings(settings), settings.student_blocks, "student_blocks"
    )
    student = heads.attach(backbone, num_classes)
    freezing.unfreeze(student)
    return student


# %% [markdown]
# ## Training
# Each model is kept as a run of its own, in the folder of this one.


# %%
def fit_original(settings, data, place, run) -> keras.Model:
    with place.scope():
        model = build_model(settings, len(data.class_names))
    if settings.start_from is not None:
        artifact.copy_weights(settings.start_from, model, run.data)
        return model
    setup = phases.setup(settings, place, data, run, trial="original")
    phases.fit(model, data, setup, phases.Phase(settings.epochs))
    freezing.unfreeze_blocks(model, settings.blocks)
    tuning = phases.fine_tuning(settings.fine_tune_epochs, 2e-4)
    phases.fit(model, data, setup, tuning)
    return model


def fit_pruned(settings, data, place, run) -> keras.Model:
    with place.scope():
        model = build_model(settings, len(data.class_names))
    artifact.copy_weights(run.folder / "original", model, run.data)
    freezing.unfreeze_blocks(model, settings.blocks)
    setup = phases.setup(settings, place, data, run, trial="pruned")
    for sparsity in pruning.schedule(settings.sparsity, settings.prune_steps):
        pruning.prune(model, sparsity)
        name = f"{100 * sparsity:.0f} % zeros"
        phase = phases.Phase(settings.prune_epochs, 2e-4, name=name)
        phases.fit(model, data, setup, phase)
    print(f"Zeros: {100 * pruning.sparsity_of(model):.1f} % of what was pruned.")
    return model


def fit_student(settings, data, place, run) -> keras.Model:
    with place.scope():
        student = build_student(settings, len(data.class_names))
    teacher = artifact.load(run.folder / "original").model
    setup = phases.setup(settings, place, data, run, trial="student")
    padding = settings.image_size // 8
    taught = distillation.teach(
        teacher,
        data,
        settings.image_size,
        augment=functools.partial(augment.flip_and_crop, padding=padding),
        copies=settings.copies,
        seed=settings.seed,
        cache=setup.cache,
    )
    method = distillation.from_teacher(temperature=settings.temperature)
    phase = phases.Phase(settings.student_epochs, method=method, name="student")
    phases.fit(student, taught, setup, phase)
    return student


def trained(settings, data, place, run, name: str) -> Path:
    folder = run.folder / name
    if not (folder / "manifest.json").exists():
        # What a killed study has left of it.
        shutil.rmtree(folder, ignore_errors=True)
        keras.utils.set_random_seed(settings.seed)
        fit = {"original": fit_original, "pruned": fit_pruned, "student": fit_student}
        model = fit[name](settings, data, place, run)
        run_folder.save(folder, model, data=data)
    return folder


# %% [markdown]
# ## Measurement
# Of the file and the program that a user gets, in a process of its own.


# %%
def measure(settings, data, place, run, name: str, format: str) -> study.Row:
    model = trained(settings, data, place, run, name)
    folder = run.folder / f"{name}-{format}"
    shutil.rmtree(folder, ignore_errors=True)
    # Whatever int8 loses is what is to be seen here.
    allowed = {"agreement": 0.0} if format == "litert-int8" else {}
    contract = export.export(model, format, folder, data=data, **allowed)
    compute, dtype = exported.load(folder), contract["input"]["dtype"]
    results = [
        evaluation.evaluate(
            split.labels, exported.run(compute, split.inputs, dtype), data.class_names
        )
        for split in (data.validation, data.test)
    ]
    return {
        "method": f"{name}, {FORMATS[format]}",
        "seed": settings.seed,
        "validation": results[0].accuracy,
        "accuracy": results[1].accuracy,
        "interval": list(results[1].interval),
        "megabytes": exported.size(folder) / 1e6,
        "zipped_megabytes": exported.zipped_size(folder) / 1e6,
        **exported.measure(folder, calls=settings.calls),
    }


def as_table(rows) -> list[dict]:
    return [
        {
            "model": row["method"],
            "MB": row["megabytes"],
            "zipped": row["zipped_megabytes"],
            "test accuracy": "{:.3f} ({:.3f} to {:.3f})".format(
                row["accuracy"], *row["interval"]
            ),
            "ms": row["milliseconds"],
            "MiB": f"{row['peak_mib']:.0f}",
        }
        for row in rows
    ]


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
    about = splits.describe(data)
    run = config.start_run("compress_and_export", settings, started, about)
    print(place.describe(settings.batch_size, 1e-3))
    read = data.map(splits.read_once)
    one = functools.partial(measure, settings, read, place, run)
    trials = {
        f"{name}-{format}": functools.partial(one, name, format)
        for name in MODELS
        for format in FORMATS
    }
    rows = study.run(run.folder, trials)
    study.show("Exports; one image at a time", as_table(rows))
    points = [
        (row["method"], row["megabytes"], row["accuracy"], tuple(row["interval"]))
        for row in rows
    ]
    figures.save(figures.size_and_accuracy(points), run.folder / "exports.png")
    return study.save(run, rows=rows, by=["method"], base="original, float32")


# %% tags=["script"]
if __name__ == "__main__":
    config.run(main, Config)
