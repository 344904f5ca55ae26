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
Data: `--data FOLDER` as for minilm_sentiment, such as SST-2 of GLUE. The 72 are drawn
from its table for the test, whose sentences are whole; the others are those of the
training table with at least `words` words, of other reviews. Many are parts of one
sentence, so that their intervals are somewhat too narrow. Without `--glove FILE` or
`--weights FOLDER` that model is left out. `pip install "keras-tl[text]"`.
Expected:
    encoder, minilm, sst2, 8 train, 5,000 test:
      bag of words 0.509 ± 0.014 (0.472 to 0.533, 5 seeds)
      own vectors 0.520 ± 0.014 (0.479 to 0.560, 5 seeds)
      GloVe 0.560 ± 0.014 (0.489 to 0.645, 5 seeds)
      MiniLM 0.594 ± 0.014 (0.555 to 0.638, 5 seeds)
      367 s (features 151 s, MiniLM 32 s, 30 % of the features from the cache) on 2
        cores, AMD EPYC with avx512_bf16
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
from keras_tl.analysis import evaluation, summary
from keras_tl.config import RunSettings
from keras_tl.data import datasets, splits, text
from keras_tl.data.sources import read_all
from keras_tl.deploy import artifact, run_folder
from keras_tl.models import freezing, heads, text_backbones, word_vectors
from keras_tl.training import phases, placement
from keras_tl.training.settings import ChooseBy, TrainingSettings


@dataclass(frozen=True)
class Config(RunSettings, TrainingSettings):
    """Judge sentiment from 72 sentences, as an article does, and judge the result."""

    data: Path | None = None  # Folder of tables with the columns label and text.
    glove: Path | None = None  # File of pretrained word vectors.
    weights: Path | None = None  # Folder of an encoder, as Hugging Face lays it out.
    unlabelled: int = 62  # Sentences that word vectors are learned from.
    labels: int = 4  # Sentences of each class to learn from.
    limit: int = 5000  # Most test texts.
    words: int = 10  # Fewest words of a test text.
    sequence_length: int = 48  # Tokens of a text; longer ones are cut.
    skip_gram_epochs: int = 50  # Passes over the unlabelled sentences.
    hidden: int = 16  # Units of the hidden layer.
    epochs: int = 100  # Passes over the labelled sentences; the last one is kept.
    learning_rate: float = 3e-3  # Adam's learning rate for the hidden layer.
    choose_by: ChooseBy = "last"  # With 2 sentences there is nothing to select by.

    def __post_init__(self):
        super().__post_init__()
        errors.check_folder("data", self.data, "See --help for what it holds.")
        for name in (
            *("unlabelled", "labels", "limit", "words", "hidden", "epochs"),
            "skip_gram_epochs",
        ):
            errors.check_at_least(name, getattr(self, name), 1)
        errors.check_at_least("sequence_length", self.sequence_length, 3)
        errors.check_above("learning_rate", self.learning_rate, 0)


# %% [markdown]
# ## Data
# 8 sentences to learn from and 2 as the article's test, as many of each class, 62
# without labels, and thousands of others.


# %%
def build_data(settings: Config) -> tuple[splits.Splits, list[str]]:
    whole = datasets.from_tables(settings.data, seed=settings.seed)
    pool, others, classes = whole.test, whole.train, len(whole.class_names)
    count = (settings.labels + 1) * classes
    if len(pool) < count + settings.unlabelled:
        wanted = f"have {count + settings.unlabelled} texts to draw from"
        raise errors.expected("data", wanted, len(pool))
    drawn = splits.balanced(pool.labels, count, settings.seed)
    rest = np.setdiff1d(np.arange(len(pool)), drawn)
    rest = np.random.default_rng(settings.seed).permutation(rest)[: settings.unlabelled]
    labelled = pool.take(drawn)
    train = splits.balanced(labelled.labels, count - classes, settings.seed)
    texts = others.inputs.preview(range(len(others)))
    long = [n for n, one in enumerate(texts) if len(one.split()) >= settings.words]
    others = others.take(long)
    data = replace(
        whole,
        train=labelled.take(train),
        validation=labelled.take(np.setdiff1d(np.arange(count), train)),
        test=others.take(splits.balanced(others.labels, settings.limit, seed=0)),
        origin=f"Sentences of {Path(settings.data).name}, seed {settings.seed}, and "
        f"{settings.unlabelled} more without labels; the test are others of at least "
        f"{settings.words} words.",
    )
    print(data)
    return data, pool.inputs.preview(rest)


# %% [markdown]
# ## What a sentence becomes
# Four backbones, the first of which is no transfer: the mean of vectors that have a 1
# for one word each, those of the labelled sentences, is a bag of words.


# %%
def learn_vectors(settings: Config, sentences: list[str]):
    words = text.vocabulary(sentences)
    tokenizer = text.Tokenizer.of_words(words, settings.sequence_length)
    ids = [row[row > 1] - word_vectors.SPECIAL for row in tokenizer.encode(sentences)]
    epochs, seed = settings.skip_gram_epochs, settings.seed
    return words, word_vectors.learn(ids, len(words), epochs=epochs, seed=seed)


def backbones(settings, data, unlabelled) -> Iterator[tuple]:
    """Yield name, backbone and tokenizer, from no transfer to the most."""
    length = settings.sequence_length
    words = text.vocabulary(data.train.inputs.preview(range(len(data.train))))
    vectors = {"bag of words": (words, np.eye(len(words)))}
    vectors["own vectors"] = learn_vectors(settings, unlabelled)
    if settings.glove is not None:
        vectors["GloVe"] = word_vectors.load(settings.glove)
    for name, (words, rows) in vectors.items():
        backbone = word_vectors.build(rows, sequence_length=length)
        yield name, backbone, text.Tokenizer.of_words(words, length)
    if settings.weights is not None:
        encoder = text_backbones.load(settings.weights, sequence_length=length)
        tokenizer = text.Tokenizer.of_model(settings.weights, length)
        yield "MiniLM", encoder, tokenizer


def build_model(settings, backbone, num_classes: int) -> keras.Model:
    freezing.freeze(backbone)
    return heads.attach_mlp(
        backbone, num_classes, hidden=(settings.hidden,), dropout=0.0
    )


# %% [markdown]
# ## One model, both judgements
# The backbone is frozen and runs once over all texts.


# %%
def fit(settings, data, place, setup, name, backbone, tokenizer):
    """Return the model, the data as it takes them, history, and both results."""
    tokens = data.map(
        lambda split: replace(split, inputs=text.tokenize(split.inputs, tokenizer))
    )
    ids = read_all(tokens.test.inputs)
    known = (ids >= word_vectors.SPECIAL).sum() / (ids > 0).sum()
    lengths = text.describe_lengths(tokenizer, data.test.inputs)
    print(f"{name}: {known:.0%} of the test tokens are known. {lengths}")
    keras.utils.set_random_seed(settings.seed)
    with place.scope():
        model = build_model(settings, backbone, len(data.class_names))
    part, inputs = phases.precompute_frozen(model, tokens, setup)
    phase = phases.Phase(
        settings.epochs, settings.learning_rate, name=name, patience=settings.epochs
    )
    history = phases.fit(part, inputs, setup, phase)
    result = summary.evaluate_models({name: (part, inputs.test)}, data)
    few = summary.evaluate_models(
        {name: (part, inputs.validation)}, replace(data, test=data.validation)
    )
    return model, tokens, {name: history}, result, few


def show_both(results: dict, few: dict) -> dict:
    """Print what 2 sentences say of each model, beside what thousands say."""
    both = {}
    for name, result in results.items():
        right, count = int(few[name].scores.sum()), len(few[name].scores)
        low, high = evaluation.exact_interval(right, count)
        print(
            f"{name:>14}: {right} of {count} right, so between {low:.1%} and {high:.1%}"
            f"; of {len(result.labels):,} others {result.value:.1%} "
            f"({result.interval[0]:.1%} to {result.interval[1]:.1%})"
        )
        both[name] = {"right": right, "count": count, "interval": [low, high]}
    return both


# %% [markdown]
# ## Run


# %%
def main(settings: Config) -> dict:
    started = time.perf_counter()
    place, settings = placement.from_settings(settings)
    data, unlabelled = build_data(settings)
    about = splits.describe(data)
    run = config.start_run("sentiment_from_72_sentences", settings, started, about)
    setup = phases.setup(settings, place, data, run)
    results, few = {}, {}
    for one in backbones(settings, data, unlabelled):
        model, tokens, histories, *both = fit(settings, data, place, setup, *one)
        results |= both[0]
        few |= both[1]
    summary.show(results, "text")
    metrics = run_folder.save(
        run,
        model,
        data=tokens,
        results=results,
        histories=histories,
        cache=setup.cache,
    )
    metrics["few"] = show_both(results, few)
    files.write_json(run.folder / "metrics.json", metrics)

    # The saved model is used as anybody would use it.
    first = data.test.inputs.preview(range(3))
    summary.show_predictions(artifact.load(run.folder).predict(first), data)
    return metrics


# %% tags=["script"]
if __name__ == "__main__":
    config.run(main, Config)
