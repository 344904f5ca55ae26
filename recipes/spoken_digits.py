"""Spoken digits of speakers never heard before: pretrained on speech, and not.

Workflow: every pair of speakers is left out once; of the others, few clips are learned
from, and as many select the epoch. A logistic regression on a frozen backbone; from
there, its last blocks fine-tuned; a small CNN from scratch. `--resume` continues.
What to learn from it: what a backbone that knows speech is worth with 1 clip of each
digit and with 160. Validation, on speakers that were heard, promises too much.

Source: Lin et al., 2020, arXiv:2002.01322, Google's speech embedding; Radford et al.,
2022, arXiv:2212.04356, Whisper: it learned from 680,000 hours of the web, these
recordings perhaps among them. Free spoken digit dataset, 3,000 clips of 6 speakers,
https://github.com/Jakobovski/free-spoken-digit-dataset, CC BY-SA 4.0, whose own test
clips are of speakers that are learned from.
Data: `--data FOLDER` of sound, each file named `LABEL_SPEAKER_NUMBER.wav`; `--weights
FOLDER` of the backbone, see `audio_backbones`: `embedding_model.tflite`, whose licence
forbids commercial use, or a Whisper as Hugging Face lays it out, such as tiny.en (MIT).
`pip install "keras-tl[audio]"`.
Expected:
    speech_embedding, openwakeword, spoken_digits, 1,600 train, 1,000 test:
      1 clips, from scratch 0.208 (0.085 to 0.331, 15 pairs), 3.4 s each
      1 clips, frozen 0.661 (0.475 to 0.827, 15 pairs), 0.8 s each
      1 clips, fine-tuned 0.670 (0.533 to 0.831, 15 pairs), 4.2 s each
      6 clips, from scratch 0.477 (0.266 to 0.665, 15 pairs), 4.6 s each
      6 clips, frozen 0.869 (0.766 to 0.946, 15 pairs), 0.8 s each
      706 s (features 0 s, fine-tuned 3 s, 100 % of the features from the cache) on 2
        cores, AMD EPYC with avx512_bf16
      Keras 3.15.1, TensorFlow 2.21.0, 2026-11-29
    more in docs/results.md
Run:
    keras-tl run spoken_digits --data recordings --weights openwakeword
    keras-tl run spoken_digits --data recordings --weights tiny.en --backbone whisper
"""

# %%
import functools
import itertools
import math
import time
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal

import keras_tl.quiet  # noqa: F401  Before Keras.

import keras
import numpy as np

from keras_tl import config, errors, files
from keras_tl.analysis import evaluation, figures, probe, study, summary
from keras_tl.config import RunSettings
from keras_tl.data import audio, splits, waves
from keras_tl.deploy import run_folder
from keras_tl.models import audio_backbones, freezing, heads
from keras_tl.training import phases, placement
from keras_tl.training.settings import TrainingSettings

METHODS = ("from scratch", "frozen", "fine-tuned")


@dataclass(frozen=True)
class Config(RunSettings, TrainingSettings):
    """Spoken digits of speakers never heard before: pretrained on speech, and not."""

    data: Path | None = None  # Folder of files LABEL_SPEAKER_NUMBER.wav.
    backbone: Literal["speech_embedding", "whisper"] = "speech_embedding"  # Encoder.
    weights: Path | None = None  # Folder with the weights of the backbone.
    methods: tuple[Literal[METHODS], ...] = METHODS  # Methods to compare.
    limit: int | None = None  # Keep at most this many clips of each drawn split.
    clips: tuple[int, ...] = (1, 6, 40, 160)  # Numbers of clips of each digit to try.
    pairs: int = 15  # Most pairs of speakers to leave out, one after the other.
    blocks: int = 2  # Blocks of the backbone to fine-tune, from the output back.
    steps: int = 300  # Steps of each phase,
    epochs: int = 40  # but at most this many epochs.
    learning_rate: float = 3e-3  # Adam's learning rate for the small CNN.
    fine_tune_learning_rate: float = 2e-4  # Of fine-tuning.

    def __post_init__(self):
        super().__post_init__()
        for name in ("data", "weights"):
            errors.check_folder(
                name, getattr(self, name), "See --help for what it holds."
            )
        for name in ("pairs", "blocks", "steps", "epochs"):
            errors.check_at_least(name, getattr(self, name), 1)
        errors.check_at_least("limit", 1 if self.limit is None else self.limit, 1)
        errors.check_at_least("clips", min(self.clips, default=0), 1)
        for name in ("learning_rate", "fine_tune_learning_rate"):
            errors.check_above(name, getattr(self, name), 0)


# %% [markdown]
# ## Data
# All clips are read once; who is left out is chosen anew for every trial.


# %%
def build_data(settings: Config) -> tuple[splits.Splits, splits.Split, np.ndarray]:
    """Return the data, all of its clips together, and the speaker of each."""
    seconds = audio_backbones.SAMPLES / waves.RATE
    labels, seed = r"^([^_]+)_[^_]+_", settings.seed
    data = audio.from_folder(settings.data, labels=labels, seconds=seconds, seed=seed)
    data = splits.limit(data, settings.limit, seed=seed)
    print(data)
    pool = splits.join(splits.join(data.train, data.validation), data.test)
    names = pool.inputs.names(range(len(pool)))
    speakers = [Path(name).name.split("_")[1] for name in names]
    return data, splits.read_once(pool), np.array(speakers)


def pairs_of(speakers: np.ndarray, settings: Config) -> dict[int, tuple[str, ...]]:
    """Draw pairs of speakers to leave out: each stands for a seed."""
    names = np.unique(speakers).tolist()
    errors.check_at_least("len(speakers)", len(names), 3)
    pairs = list(itertools.combinations(names, 2))
    order = np.random.default_rng(settings.seed).permutation(len(pairs))
    drawn = [pairs[index] for index in order[: settings.pairs]]
    return dict(enumerate(drawn, start=settings.seed))


def leave_out(data, pool, speakers, pair, clips: int, seed: int) -> splits.Splits:
    """Split the pool: a pair of speakers is the test, the others learn and select."""
    unheard = np.isin(speakers, pair)
    test, heard = (pool.take(np.flatnonzero(each)) for each in (unheard, ~unheard))
    # As many again select, or what is left, where that is less.
    left = max(1, int(np.bincount(heard.labels).min()) - clips)
    chosen = splits.of_each(heard.labels, min(clips, left), seed=seed)
    train = heard.take(np.delete(np.arange(len(heard)), chosen))
    origin = f"{data.origin} Then anew: the test is {' and '.join(pair)}, alone."
    parts = replace(data, train=train, validation=heard.take(chosen), test=test)
    return splits.few(replace(parts, origin=origin), clips, seed=seed)


# %% [markdown]
# ## Model
# Fine-tuning begins with a logistic regression on the backbone.


# %%
def build_model(settings: Config, num_classes: int, method: str) -> keras.Model:
    if method == "from scratch":
        return heads.attach(audio_backbones.log_mel_cnn(), num_classes, dropout=0.2)
    backbone = getattr(audio_backbones, settings.backbone)(settings.weights)
    model = heads.attach(backbone, num_classes)
    freezing.unfreeze_blocks(model, settings.blocks if method == "fine-tuned" else 0)
    return model


def train(settings, data, place, setup, method: str):
    """Return a model trained by a method, its part that trains, data and history."""
    keras.utils.set_random_seed(setup.seed)
    with place.scope():
        model = build_model(settings, len(data.class_names), method)
    part, inputs = phases.precompute_frozen(model, data, setup)
    steps = math.ceil(len(data.train) / settings.batch_size)
    epochs = min(settings.epochs, math.ceil(settings.steps / steps))
    phase = phases.Phase(epochs, settings.learning_rate, patience=epochs, name=method)
    if method != "from scratch":
        freezing.unfreeze_head(part)
        probe.fit_head(*phases.precompute_frozen(part, inputs, setup, test=False))
        if method == "frozen":
            return model, part, inputs, {}
        freezing.unfreeze_blocks(part, settings.blocks)
        # Where no epoch does better on validation, the logistic regression stays.
        rate = settings.fine_tune_learning_rate
        phase = replace(phase, learning_rate=rate, keep_start=True)
    return model, part, inputs, phases.fit(part, inputs, setup, phase)


# %% [markdown]
# ## Trials
# Each pair of speakers has a draw of its own, which all methods share.


# %%
def trial(settings, material, pairs, place, run, name, seed, clips: int, method: str):
    data = leave_out(*material, pairs[seed], clips, seed)
    setup = phases.setup(settings, place, data, run, trial=name, seed=seed)
    _, part, inputs, _ = train(settings, data, place, setup, method)
    pair = " and ".join(pairs[seed])
    return {
        **{"clips": clips, "method": method, "pair": pair, "seed": seed},
        "validation": evaluation.accuracy(part, inputs.validation),
        "accuracy": evaluation.accuracy(part, inputs.test),
    }


def main(settings: Config) -> dict:
    """Run all trials; then train once more what validation selects, as a model."""
    started = time.perf_counter()
    place, settings = placement.from_settings(settings)
    material = build_data(settings)
    pairs = pairs_of(material[-1], settings)
    # Both raise now rather than in a trial.
    seed = settings.seed
    most = leave_out(*material, pairs[seed], max(settings.clips), seed)
    build_model(settings, len(most.class_names), "fine-tuned")
    run = config.start_run("spoken_digits", settings, started, splits.describe(most))
    one = functools.partial(trial, settings, material, pairs, place, run)
    axes = {"seed": pairs, "clips": settings.clips, "method": settings.methods}
    rows = study.run(run.folder, study.grid(one, **axes))
    table = study.summarize(rows, ["clips", "method"], over="pairs")
    study.show("Test accuracy on speakers that were never heard", table)
    figure = study.chart(table, "clips", "method", "Clips of each digit")
    figures.save(figure, run.folder / "spoken_digits.png")
    last = [row for row in rows if row["clips"] == max(settings.clips)]
    (best,) = {row["method"] for row in study.choose(last, ["clips"], ["method"])}
    print(f"Kept is a model of the method that validation selects: {best}.")
    setup = phases.setup(settings, place, most, run)
    model, part, inputs, history = train(settings, most, place, setup, best)
    results = summary.evaluate_models({best: (part, inputs.test)}, most)
    files.write_csv(run.folder / "trials.csv", rows)
    about = {"by": ["clips", "method"], "over": [], "compared": "method"}
    about["base"] = METHODS[0] if METHODS[0] in settings.methods else None
    return run_folder.save(
        run,
        model,
        data=most,
        results=results,
        histories={best: history},
        cache=setup.cache,
        further={**about, "trials": rows},
    )


# %% tags=["script"]
if __name__ == "__main__":
    config.run(main, Config)
