"""What `train` does with texts alone; see `train.KINDS`."""

from dataclasses import replace
from pathlib import Path

import keras
import numpy as np

from keras_tl import errors
from keras_tl.analysis import candidates, planner, ranking
from keras_tl.analysis.planner import Decision
from keras_tl.commands import deciding
from keras_tl.commands.deciding import Decisions
from keras_tl.commands.settings import WORD_VECTORS, Train
from keras_tl.data import splits, text
from keras_tl.data.sources import as_source, read_all
from keras_tl.data.splits import Split, Splits
from keras_tl.models import catalog, freezing, text_backbones, word_vectors
from keras_tl.training import speed, store

# The recipe with the same steps.
RECIPE = "minilm_sentiment"
DECIDED = ("freeze", "learning_rate")
MOST_EPOCHS = 10
# Most tokens of a text whose words have vectors.
_MOST_TOKENS = 512
# Most texts whose lengths are looked at.
_MOST_MEASURED = 10_000
# Most words that have a vector; and pairs of words that are learned from for each
# minute that is given, about a sixth of it: what was measured could not be repeated.
_MOST_WORDS, _PAIRS = 20_000, 600_000
_WINDOW, _PASSES = 5, 50
# What can stay frozen of word vectors.
_FREEZE = (None, "all", "none")


def check(settings: Train) -> None:
    """Raise `InputError` for an encoder that cannot be loaded."""
    errors.check_installed("tokenizers", extra="text")
    if settings.weights is not None:
        text_backbones.check(settings.weights, settings.sequence_length or 3)
        text.Tokenizer.of_model(settings.weights, 3)
    _check_freeze(settings)


def _check_freeze(settings: Train) -> None:
    if settings.backbone == WORD_VECTORS and settings.freeze not in _FREEZE:
        raise errors.expected(
            "freeze", "be all or none with word vectors", settings.freeze
        )


def prepare(
    settings: Train, loaded: Splits, end: float, decisions: Decisions
) -> tuple[Train, Splits]:
    """Choose the encoder, and length and number of the texts."""
    if settings.weights is None and settings.backbone is None:
        settings = choose_backbone(settings, loaded, decisions)
        _check_freeze(settings)
    settings = replace(settings, kind="text")
    settings, forward = choose_length(settings, loaded, end, decisions)
    settings, loaded = deciding.limited(settings, loaded, forward, end, decisions)
    tokenizer = tokenizer_of(settings, loaded)
    if decisions.value("sequence_length") is None:
        # The decision has said it.
        print(text.describe_lengths(tokenizer, loaded.train.inputs))
    return settings, text.tokenize_all(loaded, tokenizer)


def tokenizer_of(settings: Train, data: Splits) -> text.Tokenizer:
    """Return the tokenizer of the encoder, or one of words of the training texts."""
    length = settings.sequence_length
    if settings.backbone == WORD_VECTORS:
        return text.Tokenizer.of_words(words_of(data.train), length)
    if settings.weights is not None:
        return text.Tokenizer.of_model(settings.weights, length)
    return text.Tokenizer.of_word_pieces(
        *text_backbones.vocabulary(encoder_of(settings)), length
    )


def encoder_of(settings: Train) -> Path | str:
    """Return the folder of the encoder, or the name of its preset."""
    return settings.weights or settings.backbone.removeprefix(catalog.HUB)


def words_of(split: Split) -> list[str]:
    """List the words that get a vector: those that more than one text may share."""
    texts = text.as_written(split.inputs).texts
    words = text.vocabulary(texts, at_least=2) or text.vocabulary(texts)
    return words[:_MOST_WORDS]


def choose_backbone(settings: Train, data: Splits, decisions: Decisions) -> Train:
    """Choose the encoder, or word vectors where there is none on this machine."""
    folders = text_backbones.at_hand()
    missing = [m for m in ("keras_hub", "safetensors") if not errors.is_installed(m)]
    if not folders or missing:
        decisions.add(Decision("backbone", WORD_VECTORS, _why_words(folders, missing)))
        return replace(settings, backbone=WORD_VECTORS)
    chosen, reason = folders[0], "it is the only encoder on this machine"
    if len(folders) > 1 and data.task != "single-label":
        reason = "made for sentences or the smallest; others are ranked for classes"
    elif len(folders) > 1 and settings.minutes < deciding.RANKED:
        reason = (
            "made for sentences or the smallest; the others on this machine are ranked "
            f"from {deciding.RANKED:g} minutes on"
        )
    elif len(folders) > 1:
        some = splits.limit(data, deciding.MOST_RANKED, seed=settings.seed)
        encoders = [candidates.Encoder(folder) for folder in folders]
        cache = store.Cache() if settings.cache else None
        ranked = ranking.rank(encoders, some, cache=cache, seed=settings.seed)
        chosen, reason = ranked.best.candidate.folder, ranked.sentence()
    decisions.add(Decision("backbone", str(chosen), reason))
    return replace(settings, weights=chosen)


def _why_words(folders, missing) -> str:
    """Return why word vectors are learned, and what would be better."""
    if folders:
        return (
            f"{folders[0]} needs {' and '.join(missing)}: pip install "
            '"keras-tl[text]"; until then, vectors of words are learned from the '
            "training texts"
        )
    return (
        "no encoder of texts is on this machine, so that vectors of words are learned "
        "from the training texts alone; an encoder knows far more: put "
        f"{', '.join(text_backbones.FILES)} and tokenizer.json of "
        "https://huggingface.co/sentence-transformers/all-MiniLM-L6-v2 into a folder "
        "and give --weights FOLDER"
    )


def choose_length(
    settings: Train, data: Splits, end: float, decisions: Decisions
) -> tuple[Train, float]:
    """Choose how many tokens of a text are read, and measure the time of one text.

    Returns:
        The settings, and the seconds of one text through the backbone; 0 for word
        vectors, whose time does not matter.
    """
    most = _MOST_TOKENS
    if settings.backbone != WORD_VECTORS:
        most = text_backbones.most_tokens(encoder_of(settings))
    wanted = settings.sequence_length
    if wanted is None:
        every = 1 + len(data.train) // _MOST_MEASURED
        some = data.train.inputs.preview(range(0, len(data.train), every))
        longest = replace(settings, sequence_length=most)
        lengths = tokenizer_of(longest, data).lengths(some)
        wanted = planner.tokens_of(lengths, most)
    forward = 0.0
    if settings.backbone != WORD_VECTORS:
        measured = replace(settings, sequence_length=wanted)
        few = tokenizer_of(measured, data).encode(data.train.inputs.preview(range(1)))
        encoder = text_backbones.load(encoder_of(settings), sequence_length=wanted)
        forward = speed.forward(encoder, as_source(few))
    if settings.sequence_length is None:
        left = deciding.seconds_left(end)
        count = sum(len(split) for _, split in data.items())
        decision = planner.sequence_length(count, lengths, most, forward, left)
        decisions.add(decision)
        forward *= decision.value / wanted
        settings = replace(settings, sequence_length=decision.value)
    return settings, forward


def transfers(settings: Train) -> bool:
    """Return whether the backbone is pretrained: word vectors are, by skip-gram."""
    return True


def build(settings: Train, data: Splits) -> keras.Model:
    """Load the encoder, or learn vectors of words from the training texts."""
    length = settings.sequence_length
    if settings.backbone != WORD_VECTORS:
        return text_backbones.load(encoder_of(settings), sequence_length=length)
    return word_vectors.build(vectors_of(settings, data.train), sequence_length=length)


def vectors_of(settings: Train, split: Split) -> np.ndarray:
    """Learn vectors of words by skip-gram, from so many texts as the minutes allow."""
    ids = read_all(split.inputs)
    order = np.random.default_rng(settings.seed).permutation(len(ids))
    most = _PAIRS * settings.minutes
    sentences, pairs = [], 0
    for row in ids[order]:
        if pairs >= most:
            break
        sentences.append(row[row >= word_vectors.SPECIAL] - word_vectors.SPECIAL)
        pairs += 2 * _WINDOW * len(sentences[-1])
    passes = int(np.clip(most // max(1, pairs), 1, _PASSES))
    count = len(words_of(split))
    print(
        f"Vectors of {count:,} words are learned from {len(sentences):,} texts.",
        flush=True,
    )
    return word_vectors.learn(
        sentences, count, window=_WINDOW, epochs=passes, seed=settings.seed
    )


def decide(
    settings: Train, model: keras.Model, data: Splits, forward: float, end: float
) -> list[Decision]:
    """Decide what is fine-tuned, and at which rate."""
    if settings.backbone == WORD_VECTORS:
        return [
            Decision("freeze", "none", "the vectors are no deep network"),
            Decision(
                "learning_rate", 1e-2, "a word occurs in few texts, and moves rarely"
            ),
        ]
    room = planner.full_epochs(data, forward, deciding.seconds_left(end))
    return [
        planner.freeze(data, freezing.blocks(model), room),
        Decision("learning_rate", 1e-4, "a tenth of what a new head takes"),
    ]


def changes(settings: Train, data: Splits) -> dict:
    """Return no random changes: what a text means hangs on each word."""
    return {}
