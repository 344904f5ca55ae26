"""What `train` does with sound alone; see `train.KINDS`."""

from dataclasses import replace
from pathlib import Path

import keras

from keras_tl import errors
from keras_tl.analysis import planner
from keras_tl.analysis.planner import Decision
from keras_tl.commands import deciding
from keras_tl.commands.deciding import Decisions
from keras_tl.commands.settings import LOG_MEL, SPEECH, WHISPER, Train
from keras_tl.data import audio, augment_audio
from keras_tl.data.splits import Splits
from keras_tl.models import audio_backbones, freezing, whisper_weights
from keras_tl.training import speed

# The recipe with the same steps.
RECIPE = "spoken_digits"
DECIDED = ("freeze", "augment", "learning_rate")
# Without transfer more epochs than in fine-tuning help.
MOST_EPOCHS = 60


def check(settings: Train) -> None:
    """Raise `InputError` for weights and settings that do not fit together."""
    if settings.weights is None:
        if settings.backbone in (SPEECH, WHISPER):
            wanted = f"be the folder of its weights for {settings.backbone}"
            raise errors.expected("weights", wanted, None)
        if settings.epochs == 0 or settings.freeze not in (None, "none"):
            name = "epochs" if settings.epochs == 0 else "freeze"
            raise errors.expected(
                name,
                "be left out for sound without --weights: nothing is pretrained",
                getattr(settings, name),
            )
        return
    if backbone_of(settings) == WHISPER:
        hint = f"Google's speech embedding would be in {audio_backbones.FILE}."
        whisper_weights.check(settings.weights, hint)
        return
    audio_backbones.check(settings.weights)
    own = audio_backbones.SAMPLES / audio.RATE
    if settings.seconds not in (None, own):
        raise errors.expected(
            "seconds", f"be left out: the embedding takes {own:g}", settings.seconds
        )


def window(settings: Train) -> dict:
    """Return rate and length of the clips, as `datasets.load` takes them."""
    seconds = settings.seconds
    if backbone_of(settings) == SPEECH:
        seconds = audio_backbones.SAMPLES / audio.RATE
    return {"rate": audio.RATE, "seconds": seconds}


def backbone_of(settings: Train) -> str:
    """Return the backbone that is named, or that the folder of weights holds."""
    if settings.backbone is not None:
        return settings.backbone
    if settings.weights is None:
        return LOG_MEL
    has_embedding = (Path(settings.weights) / audio_backbones.FILE).is_file()
    return SPEECH if has_embedding else WHISPER


def prepare(
    settings: Train, loaded: Splits, end: float, decisions: Decisions
) -> tuple[Train, Splits]:
    """Choose the backbone and the number of the clips."""
    spec = loaded.train.inputs.input_spec()
    samples, rate = spec["shape"][0], spec["rate"]
    if rate != audio.RATE:
        wanted = f"be of {audio.RATE:,} samples a second"
        raise errors.expected("data", wanted, rate)
    if settings.backbone is None:
        decision = choose_backbone(settings)
        decisions.add(decision)
        settings = replace(settings, backbone=decision.value)
    if settings.backbone == SPEECH and samples != audio_backbones.SAMPLES:
        wanted = f"be clips of {audio_backbones.SAMPLES:,} samples for the embedding"
        raise errors.expected("data", wanted, samples)
    if settings.seconds is None:
        reason = "the longest clip decides, up to 10 seconds"
        if settings.backbone == SPEECH:
            reason = "so much the embedding takes; of longer clips the loudest part"
        decisions.add(Decision("seconds", samples / rate, reason))
        settings = replace(settings, seconds=samples / rate)
    settings = replace(settings, kind="audio")
    forward = speed.forward(build(settings, loaded), loaded.train.inputs)
    return deciding.limited(settings, loaded, forward, end, decisions)


def choose_backbone(settings: Train) -> Decision:
    """Choose the backbone by the weights that are given."""
    name = backbone_of(settings)
    if name != LOG_MEL:
        reason = {SPEECH: "Google's speech embedding", WHISPER: "Whisper"}[name]
        reason += " is in the folder of --weights"
        return Decision("backbone", name, reason)
    return Decision(
        "backbone",
        LOG_MEL,
        "no pretrained weights are given, so that a small CNN on the log-mel "
        "spectrogram begins from scratch, without transfer; Whisper knows speech: put "
        "config.json and model.safetensors of "
        "https://huggingface.co/openai/whisper-tiny.en (MIT) into a folder and give "
        "--weights FOLDER",
    )


def transfers(settings: Train) -> bool:
    """Return whether the backbone is pretrained."""
    return settings.backbone != LOG_MEL


def build(settings: Train, data: Splits) -> keras.Model:
    """Load Whisper or the speech embedding, or build a CNN with random weights."""
    if settings.backbone == SPEECH:
        return audio_backbones.speech_embedding(settings.weights)
    (samples,) = data.train.inputs.input_spec()["shape"]
    if settings.backbone == WHISPER:
        return audio_backbones.whisper(settings.weights, samples=samples)
    return audio_backbones.log_mel_cnn(samples)


def decide(
    settings: Train, model: keras.Model, data: Splits, forward: float, end: float
) -> list[Decision]:
    """Decide what is fine-tuned, and how."""
    if not transfers(settings):
        return [
            Decision("freeze", "none", "nothing is pretrained"),
            Decision(
                "augment",
                "shift_and_noise",
                "a network that begins from scratch sees more than the clips have",
            ),
            Decision("learning_rate", 1e-3, "Adam's own, from scratch"),
        ]
    room = planner.full_epochs(data, forward, deciding.seconds_left(end))
    return [
        planner.freeze(data, freezing.blocks(model), room),
        Decision("augment", "none", "the backbone has heard noise and shifts"),
        Decision("learning_rate", 2e-4, "a fifth of what a new head takes"),
    ]


def changes(settings: Train, data: Splits) -> dict:
    """Return the random changes of the training clips, as `phases.Setup` has them."""
    rate = data.train.inputs.input_spec()["rate"]
    return {"augment": augment_audio.named(settings.augment, rate)}
