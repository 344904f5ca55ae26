"""Judge sentiment from 72 sentences, as an article does, and judge the result.

Workflow: draw 62 sentences without labels, 8 with labels and 2 for the article's test;
learn word vectors from the 62 by skip-gram with negative sampling; a sentence is the
mean of its words; one hidden layer learns from the 8. The same layer learns from the
words alone, from pretrained vectors (GloVe) and from a pretrained encoder (MiniLM).
Each is judged on the 2 sentences, and on thousands of others; the last one is saved.
What to learn from it: 2 right answers of 2 tell next to nothing, and 62 sentences are
no data to pretrain on: what helps is what was learned from many texts.

Source: the example of https://blog.csdn.net/u012150360/article/details/70245734, which
reports 100 % on its 2 sentences; skip-gram: Mikolov et al., 2013, arXiv:1310.4546. Here
stop words stay, since `not` is one.
Data: `--data FOLDER` as for minilm_sentiment, such as SST-2 of GLUE. The 72 are whole
sentences of its table for the test; the others are of its training table. Many of these
are parts of one sentence, so that intervals are somewhat too narrow. Without `--glove
FILE` or `--weights FOLDER` that model is left out. `pip install "keras-tl[text]"`.
Expected:
    encoder, minilm, sst2, 8 train, 5,000 test:
      bag of words 0.502 ± 0.014 (0.491 to 0.515, 5 seeds)
      own vectors 0.490 ± 0.014 (0.465 to 0.504, 5 seeds)
      GloVe 0.537 ± 0.014 (0.482 to 0.580, 5 seeds)
      MiniLM 0.547 ± 0.014 (0.521 to 0.565, 5 seeds)
      55 s (features 12 s, MiniLM 5 s, 39 % of the features from the cache) on 2 cores,
        AMD EPYC with avx512_bf16
      Keras 3.15.1, TensorFlow 2.21.0, 2026-11-29
Run:
    keras-tl run sentiment_from_72_sentences --data SST-2
    keras-tl run sentiment_from_72_sentences --data SST-2 --glove glove.6B.50d.txt \
        --weights all-MiniLM-L6-v2
"""

# %%
import time
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import keras_tl.quiet  # noqa: F401  Before Keras.

import keras
import numpy as np

from keras_tl import config, errors, files
from keras_tl.analysis import summary
from keras_tl.config import RunSettings
from keras_tl.data import datasets, splits, text
from keras_tl.data.settings import TextSettings
from keras_tl.data.sources import read_all
from keras_tl.deploy import artifact, run_folder
from keras_tl.models import freezing, heads, text_backbones, word_vectors
from keras_tl.training import phases, placement
from keras_tl.training.settings import ChooseBy, TrainingSettings


@dataclass(frozen=True)
class Config(RunSettings, TextSettings, TrainingSettings):
    """Judge sentiment from 72 sentences, as an article does, and judge the result."""

    glove: Path | None = None  # File of pretrained word vectors.
    weights: Path | None = None  # Folder of an encoder, as Hugging Face lays it out.
    unlabelled: int = 62  # Sentences that word vectors are learned from.
    labels: int = 4  # Sentences of each class to learn from.
    limit: int = 5000  # Most test texts.
    words: int = 10  # Fewest words of a test text.
    skip_gram_epochs: int = 50  # Passes over the unlabelled sentences.
    hidden: int = 16  # Units of the hidden layer.
    epochs: int = 100  # Passes over the labelled sentences; the last one is kept.
    learning_rate: float = 3e-3  # Adam's learning rate for the hidden layer.
    choose_by: ChooseBy = "last"  # With 2 sentences there is nothing to select by.

    def __post_init__(self):
        super().__post_init__()
        counts = ("unlabelled", "labels", "limit", "words", "skip_gram_epochs")
        for name in (*counts, "hidden", "epochs"):
            errors.check_at_least(name, getattr(self, name), 1)
        errors.check_above("learning_rate", self.learning_rate, 0)


# %% [markdown]
# ## Data
# 8 sentences to learn from, 2 for the article's test, 62 without labels, and others.


# %%
def build_data(settings: Config) -> tuple[splits.Splits, list[str]]:
    whole, seed = datasets.texts_from_settings(settings), settings.seed
    pool, others, classes = whole.test, whole.train, len(whole.class_names)
    count = (settings.labels + 1) * classes
    if len(pool) < count + settings.unlabelled:
        wanted = f"have {count + settings.unlabelled} texts to draw from"
        raise errors.expected("data", wanted, len(pool))
    labelled, rest = splits.divide(pool, count, seed)
    train, validation = splits.divide(labelled, count - classes, seed)
    order = np.random.default_rng(seed).permutation(len(rest))[: settings.unlabelled]
    lengths = [len(one.split()) for one in text.as_written(others.inputs).texts]
    others = others.take(np.flatnonzero(np.array(lengths) >= settings.words))
    test = others.take(splits.balanced(others.labels, settings.limit, seed=0))
    origin = (
        f"Sentences of {Path(settings.data).name}, seed {seed}, and {len(order)} more "
        f"without labels; the test are others of at least {settings.words} words."
    )
    data = replace(whole, train=train, validation=validation, test=test, origin=origin)
    print(data)
    return data, rest.inputs.preview(order)


# %% [markdown]
# ## What a sentence becomes
# Four backbones, the first of which is no transfer: the mean of vectors that have a 1
# for one word each, those of the labelled sentences, is a bag of words.


# %%
def backbones(settings, data, unlabelled) -> Iterator[tuple]:
    """Yield name, backbone and tokenizer, from no transfer to the most."""
    length = settings.sequence_length
    words = text.vocabulary(text.as_written(data.train.inputs).texts)
    vectors = {"bag of words": (words, np.eye(len(words)))}
    words, ids = text.numbered(unlabelled, length)
    epochs, seed = settings.skip_gram_epochs, settings.seed
    learned = word_vectors.learn(ids, len(words), epochs=epochs, seed=seed)
    vectors["own vectors"] = words, learned
    if settings.glove is not None:
        vectors["GloVe"] = word_vectors.load(settings.glove)
    for name, (words, rows) in vectors.items():
        backbone = word_vectors.build(rows, sequence_length=length)
        yield name, backbone, text.Tokenizer.of_words(words, length)
    if settings.weights is not None:
        encoder = text_backbones.load(settings.weights, sequence_length=length)
        yield "MiniLM", encoder, text.Tokenizer.of_model(settings.weights, length)


def build_model(settings, backbone, num_classes: int) -> keras.Model:
    freezing.freeze(backbone)
    hidden = (settings.hidden,)
    return heads.attach_mlp(backbone, num_classes, hidden=hidden, dropout=0.0)


# %% [markdown]
# ## One model, both judgements
# The backbone is frozen and runs once over all texts.


# %%
def fit(settings, data, place, setup, name, backbone, tokenizer):
    """Return the model with its data, the head with its inputs, and the history."""
    tokens = text.tokenize_all(data, tokenizer)
    ids = read_all(tokens.test.inputs)
    known = (ids >= word_vectors.SPECIAL).sum() / (ids > 0).sum()
    lengths = text.describe_lengths(tokenizer, data.test.inputs)
    print(f"{name}: {known:.0%} of the test tokens are known. {lengths}")
    keras.utils.set_random_seed(settings.seed)
    with place.scope():
        model = build_model(settings, backbone, len(data.class_names))
    head, inputs = phases.precompute_frozen(model, tokens, setup)
    epochs, rate = settings.epochs, settings.learning_rate
    phase = phases.Phase(epochs, rate, name=name, patience=epochs)
    return model, tokens, head, inputs, {name: phases.fit(head, inputs, setup, phase)}


# %% [markdown]
# ## Run


# %%
def main(settings: Config) -> dict:
    started = time.perf_counter()
    place, settings = placement.from_settings(settings)
    data, unlabelled = build_data(settings)
    made = list(backbones(settings, data, unlabelled))
    about = splits.describe(data)
    run = config.start_run("sentiment_from_72_sentences", settings, started, about)
    setup = phases.setup(settings, place, data, run)
    many, few = {}, {}
    for name, *one in made:
        done = fit(settings, data, place, setup, name, *one)
        model, tokens, head, inputs, histories = done
        many[name], few[name] = (head, inputs.test), (head, inputs.validation)
    results = summary.evaluate_models(many, data)
    summary.show(results, "text")
    metrics = run_folder.save(
        run, model, data=tokens, results=results, histories=histories, cache=setup.cache
    )
    few = summary.evaluate_models(few, replace(data, test=data.validation))
    metrics["few"] = summary.show_beside(results, few)
    files.write_json(run.folder / "metrics.json", metrics)

    # The saved model is used as anybody would use it.
    first = data.test.inputs.preview(range(3))
    summary.show_predictions(artifact.load(run.folder).predict(first), data)
    return metrics


# %% tags=["script"]
if __name__ == "__main__":
    config.run(main, Config)
