"""Spoken digits of speakers never heard before: a speech embedding, and none.

Workflow: clips are resampled to 16 kHz and centred in slight noise; two speakers are
left out, few clips of the others learned from, and as many again select the epoch. A
logistic regression on the frozen embedding; from there, its last blocks fine-tuned; a
small CNN on the same log-mel spectrogram from scratch. That for every pair of speakers;
the method that is best on validation is kept as a model. A study that was killed
continues with `--resume`.
What to learn from it: what an embedding that knows speech is worth with 1 clip of each
digit and with 160, and how much depends on who is left out. Validation, on speakers
that were heard, promises more than the test keeps.

Source: Lin et al., "Training keyword spotters with limited and synthesized speech
data", 2020, arXiv:2002.01322; the free spoken digit dataset, 3,000 clips of 6 speakers,
https://github.com/Jakobovski/free-spoken-digit-dataset, CC BY-SA 4.0, whose own test
clips are of speakers that are learned from.
Data: `--data FOLDER` of sound, each file named `LABEL_SPEAKER_NUMBER.wav`; `--weights
FOLDER` with `embedding_model.tflite`, see `audio_backbones.speech_embedding`: its
licence forbids commercial use. `pip install "keras-tl[audio]"`.
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
    keras-tl run spoken_digits --data words --weights openwakeword --clips 10 --pairs 3
"""

# %%
import functools
import itertools
import math
import time
from dataclasses import dataclass, replace
from pathlib import Path

import keras_tl.quiet  # noqa: F401  Before Keras.

import keras
import numpy as np

from keras_tl import config, errors, files
from keras_tl.analysis import evaluation, figures, probe, study, summary
from keras_tl.config import RunSettings
from keras_tl.data import audio, splits
from keras_tl.deploy import run_folder
from keras_tl.models import audio_backbones, freezing, heads
from keras_tl.training import phases, placement
from keras_tl.training.settings import ChooseBy, TrainingSettings

METHODS = ("from scratch", "frozen", "fine-tuned")
# How a name gives the label: LABEL_SPEAKER_NUMBER.wav.
NAME = r"^([^_]+)_[^_]+_"


@dataclass(frozen=True)
class Config(RunSettings, TrainingSettings):
    """Spoken digits of speakers never heard before: a speech embedding, and none."""

    data: Path | None = None  # Folder of files LABEL_SPEAKER_NUMBER.wav.
    weights: Path | None = None  # Folder with embedding_model.tflite.
    limit: int | None = None  # Keep at most this many clips of each drawn split.
    clips: tuple[int, ...] = (1, 6, 40, 160)  # Numbers of clips of each digit to try.
    pairs: int = 15  # Most pairs of speakers to leave out, one after the other.
    blocks: int = 2  # Blocks of the embedding to fine-tune, from the output back.
    steps: int = 300  # Steps of each phase,
    epochs: int = 40  # but at most this many epochs.
    learning_rate: float = 3e-3  # Adam's learning rate for the small CNN.
    fine_tune_learning_rate: float = 2e-4  # Of fine-tuning.
    choose_by: ChooseBy = "loss"  # Validation metric that selects the epoch.

    def __post_init__(self):
        super().__post_init__()
        for name in ("data", "weights"):
            hint = "See --help for what it holds."
            errors.check_folder(name, getattr(self, name), hint)
        for name in ("pairs", "blocks", "steps", "epochs"):
            errors.check_at_least(name, getattr(self, name), 1)
        if self.limit is not None:
            errors.check_at_least("limit", self.limit, 1)
        errors.check_at_least("clips", min(self.clips, default=0), 1)
        for name in ("learning_rate", "fine_tune_learning_rate"):
            errors.check_above(name, getattr(self, name), 0)


# %% [markdown]
# ## Data
# All clips are read once; who is left out, and what is learned from, is chosen anew for
# every trial.


# %%
def build_data(settings: Config) -> splits.Splits:
    data = audio.from_folder(
        settings.data,
        labels=NAME,
        rate=audio_backbones.RATE,
        seconds=audio_backbones.SAMPLES / audio_backbones.RATE,
        seed=settings.seed,
    )
    print(data)
    return splits.limit(data, settings.limit, seed=settings.seed)


def build_pool(data: splits.Splits) -> tuple[splits.Split, np.ndarray]:
    """Return all clips together, and the speaker of each."""
    pool = splits.join(splits.join(data.train, data.validation), data.test)
    names = pool.inputs.names(range(len(pool)))
    speakers = [Path(name).name.split("_")[1] for name in names]
    return splits.read_once(pool), np.array(speakers)


def pairs_of(speakers: np.ndarray, settings: Config) -> list[tuple[str, ...]]:
    """Return pairs of speakers to leave out, in an order that is drawn."""
    names = np.unique(speakers).tolist()
    errors.check_at_least("len(speakers)", len(names), 3)
    pairs = list(itertools.combinations(names, 2))
    order = np.random.default_rng(settings.seed).permutation(len(pairs))
    return [pairs[index] for index in order[: settings.pairs]]


def leave_out(data, pool, speakers, pair, clips: int, seed: int) -> splits.Splits:
    """Split the pool: a pair of speakers is the test, the others learn and select."""
    unheard = np.isin(speakers, pair)
    heard = np.flatnonzero(~unheard)
    # As many again select, or what is left, where that is less.
    left = np.bincount(pool.labels[heard]).min() - clips
    count = max(1, min(clips, int(left)))
    chosen = splits.of_each(pool.labels[heard], count, seed=seed)
    parts = {
        "train": pool.take(np.delete(heard, chosen)),
        "validation": pool.take(heard[chosen]),
        "test": pool.take(np.flatnonzero(unheard)),
    }
    origin = f"{data.origin} Then anew: the test is {' and '.join(pair)}, alone."
    return splits.few(replace(data, **parts, origin=origin), clips, seed=seed)


# %% [markdown]
# ## Model
# Both networks take waves, and begin with the same log-mel spectrogram. The head on the
# embedding is a logistic regression, with which fine-tuning begins.


# %%
def build_model(settings: Config, num_classes: int, method: str) -> keras.Model:
    if method == "from scratch":
        return heads.attach(audio_backbones.log_mel_cnn(), num_classes, dropout=0.2)
    embedding = audio_backbones.speech_embedding(settings.weights)
    model = heads.attach(embedding, num_classes)
    freezing.unfreeze_blocks(model, settings.blocks if method == "fine-tuned" else 0)
    return model


def train(settings, data, place, setup, method: str):
    """Return a model trained by a method, its part that trains, data and history."""
    keras.utils.set_random_seed(setup.seed)
    with place.scope():
        model = build_model(settings, len(data.class_names), method)
    part, inputs = phases.precompute_frozen(model, data, setup)
    rate = settings.learning_rate
    if method != "from scratch":
        freezing.unfreeze_head(part)
        probe.fit_head(*phases.precompute_frozen(part, inputs, setup, test=False))
    if method == "frozen":
        return model, part, inputs, {}
    if method == "fine-tuned":
        freezing.unfreeze_blocks(part, settings.blocks)
        rate = settings.fine_tune_learning_rate
    steps = math.ceil(len(data.train) / settings.batch_size)
    epochs = min(settings.epochs, math.ceil(settings.steps / steps))
    # Where no epoch of fine-tuning does better on validation, the first head stays.
    keep = method == "fine-tuned"
    phase = phases.Phase(epochs, rate, patience=epochs, name=method, keep_start=keep)
    history = phases.fit(part, inputs, setup, phase)
    return model, part, inputs, history


# %% [markdown]
# ## Trials
# A pair of speakers that is left out counts as a seed: it has a draw of its own.


# %%
def trial(settings, material, pair, place, run, name, clips: int, method: str, seed):
    data = leave_out(*material, pair, clips, seed)
    setup = phases.setup(settings, place, data, run, trial=name, seed=seed)
    _, part, inputs, _ = train(settings, data, place, setup, method)
    return {
        **{"clips": clips, "method": method, "pair": " and ".join(pair), "seed": seed},
        "validation": evaluation.accuracy(part, inputs.validation),
        "accuracy": evaluation.accuracy(part, inputs.test),
    }


def plan(settings, material, pairs, place, run) -> dict:
    """Name the trials: every method, number of clips and pair of speakers."""
    trials = {}
    for seed, pair in enumerate(pairs, start=settings.seed):
        for clips, method in itertools.product(settings.clips, METHODS):
            name = f"{clips}-clips-{method.replace(' ', '-')}-{'-'.join(pair)}"
            one = functools.partial(trial, settings, material, pair, place, run, name)
            trials[name] = functools.partial(one, clips, method, seed)
    return trials


def show(rows, folder) -> None:
    summaries = study.summarize(rows, ["clips", "method"])
    for row in summaries:
        row["pairs"] = row.pop("seeds")
    study.show("Test accuracy on speakers that were never heard", summaries)
    figure = figures.lines(
        study.series(summaries, "clips", "method"),
        list(dict.fromkeys(str(row["clips"]) for row in summaries)),
        "Clips of each digit",
        "Test accuracy",
    )
    figures.save(figure, folder / "spoken_digits.png")


# %% [markdown]
# ## Run


# %%
def main(settings: Config) -> dict:
    started = time.perf_counter()
    place, settings = placement.from_settings(settings)
    data = build_data(settings)
    material = data, *build_pool(data)
    pairs = pairs_of(material[-1], settings)
    # Both raise now rather than in a trial.
    most = leave_out(*material, pairs[0], max(settings.clips), settings.seed)
    build_model(settings, len(data.class_names), "fine-tuned")
    run = config.start_run("spoken_digits", settings, started, splits.describe(most))
    print(place.describe(settings.batch_size, settings.learning_rate))
    rows = study.run(run.folder, plan(settings, material, pairs, place, run))
    show(rows, run.folder)

    # The method that validation selects, once more, as a model to use.
    last = [row for row in rows if row["clips"] == max(settings.clips)]
    (best,) = {row["method"] for row in study.choose(last, ["clips"], ["method"])}
    print(f"Kept is a model of the method that validation selects: {best}.")
    setup = phases.setup(settings, place, most, run)
    model, part, inputs, history = train(settings, most, place, setup, best)
    results = summary.evaluate_models({best: (part, inputs.test)}, most)
    files.write_csv(run.folder / "trials.csv", rows)
    about = {"by": ["clips", "method"], "compared": "method", "base": "from scratch"}
    return run_folder.save(
        run,
        model,
        data=most,
        results=results,
        histories={best: history},
        cache=setup.cache,
        further={**about, "over": [], "trials": rows},
    )


# %% tags=["script"]
if __name__ == "__main__":
    config.run(main, Config)
