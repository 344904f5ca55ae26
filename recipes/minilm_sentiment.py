"""Classify sentences with MiniLM: frozen features, then fine-tuning.

Workflow: sentences become token ids by the tokenizer that is saved with the run; what
their words alone tell is a bag of words; a frozen encoder with mean pooling runs once
over them, and a logistic regression and a head are fitted on its features; then one of
three methods trains the last layers: `fine-tuning` at learning rates that fall from
block to block, `LoRA`, or `sentence pairs`, the contrastive stage of SetFit for few
labels, with a logistic regression after it; all are evaluated on the test sentences.

Source: Wang et al., "MiniLM", 2020, arXiv:2002.10957, in the form of all-MiniLM-L6-v2
(https://huggingface.co/sentence-transformers/all-MiniLM-L6-v2, Apache-2.0). Published:
SetFit with this encoder on SST-2, 32 labels, 0.751 (Tunstall et al., 2022,
arXiv:2209.11055), its pairs drawn at random, its epochs without validation.
Data: `--data FOLDER` with `train.tsv` and, for the test, `dev.tsv` or `test.tsv` (also
`.csv`): a column `label` and one of text, such as SST-2 (Socher et al., 2013) of GLUE.
`--weights FOLDER` is the encoder as Hugging Face lays it out; `pip install
"keras-tl[text]"`.
Expected:
    encoder, minilm, sst2, 320 train, 872 test:
      bag of words 0.625 ± 0.032 (0.610 to 0.649, 3 seeds)
      logistic regression 0.742 ± 0.029 (0.720 to 0.755, 3 seeds)
      frozen 0.761 ± 0.028 (0.753 to 0.775, 3 seeds)
      fine-tuning 0.789 ± 0.027 (0.788 to 0.790, 3 seeds)
      96 s (features 0 s, head 1 s, fine-tuning 63 s, 100 % of the features from the
        cache) on 2 cores, AMD EPYC with avx512_bf16
      Keras 3.15.1, TensorFlow 2.21.0, 2026-11-29
    more in docs/results.md
Run:
    keras-tl run minilm_sentiment --data SST-2 --weights all-MiniLM-L6-v2
    keras-tl run minilm_sentiment --data SST-2 --weights all-MiniLM-L6-v2 --labels 16 \
        --method "sentence pairs" --batch-size 16 --fine-tune-epochs 40
    keras-tl run minilm_sentiment --data my_texts --weights all-MiniLM-L6-v2 \
        --method LoRA
"""

# %%
import time
from dataclasses import dataclass, replace
from pathlib import Path
from types import MappingProxyType
from typing import Literal

import keras_tl.quiet  # noqa: F401  Before Keras.

import keras

from keras_tl import config, errors
from keras_tl.analysis import evaluation, probe, summary
from keras_tl.config import RunSettings
from keras_tl.data import datasets, splits, text
from keras_tl.data.settings import TextSettings
from keras_tl.data.sources import read_all
from keras_tl.deploy import artifact, run_folder
from keras_tl.methods import lora, sentence_pairs
from keras_tl.models import freezing, heads, text_backbones
from keras_tl.models.settings import Pooling
from keras_tl.training import phases, placement, stages
from keras_tl.training.settings import ChooseBy, StartSettings, TrainingSettings

# Method -> largest learning rate, where no other is given. LoRA's changes begin at 0
# and have further to go.
RATES = {"fine-tuning": 1e-4, "LoRA": 1e-3, "sentence pairs": 1e-4}


@dataclass(frozen=True)
class Config(RunSettings, TextSettings, StartSettings, TrainingSettings):
    """Classify sentences with MiniLM: frozen features, then fine-tuning."""

    weights: Path | None = None  # Folder of the encoder, as Hugging Face lays it out.
    # Sentences of each class to learn from; as many select. None is all, of which a
    # tenth select.
    labels: int | None = 160
    limit: int | None = None  # Keep at most this many sentences of each split.
    pooling: Pooling = "mean"  # How the outputs of all tokens become one vector.
    epochs: int = 60  # Most epochs for the new head.
    learning_rate: float = 3e-3  # Adam's learning rate for the new head.
    # How the last layers are trained.
    method: Literal["fine-tuning", "LoRA", "sentence pairs"] = "fine-tuning"
    blocks: int = 6  # Layers of the encoder that train, from the output back.
    fine_tune_epochs: int = 6  # Most epochs of the method; 0 leaves it out.
    fine_tune_learning_rate: float | None = None  # Largest one; None is that of RATES.
    decay: float = 0.8  # Fine-tuning's factor of the rate from block to block.
    rank: int = 8  # Rank of LoRA's low-rank changes of the kernels.
    choose_by: ChooseBy = "accuracy"  # Validation metric that selects the epoch.

    # Phase -> setting of its length.
    LENGTHS = MappingProxyType(
        {
            "head": "epochs",
            "fine-tuning": "fine_tune_epochs",
            "LoRA": "fine_tune_epochs",
            "sentence pairs": "fine_tune_epochs",
        }
    )

    def __post_init__(self):
        super().__post_init__()
        errors.check_folder("weights", self.weights, "See --help for what it holds.")
        for name in ("blocks", "rank"):
            errors.check_at_least(name, getattr(self, name), 1)
        errors.check_at_least("epochs", self.epochs, int(self.start_from is None))
        errors.check_at_least("fine_tune_epochs", self.fine_tune_epochs, 0)
        for name in ("labels", "limit"):
            if getattr(self, name) is not None:
                errors.check_at_least(name, getattr(self, name), 1)
        errors.check_above("learning_rate", self.learning_rate, 0)
        if self.fine_tune_learning_rate is not None:
            errors.check_above(
                "fine_tune_learning_rate", self.fine_tune_learning_rate, 0
            )
        if not 0 < self.decay <= 1:
            raise errors.expected("decay", "be in (0, 1]", self.decay)


# %% [markdown]
# ## Data
# As many sentences of each class to learn from as there are labels, and as many again
# to select by. The test sentences are all of the test table.


# %%
def build_data(settings: Config) -> splits.Splits:
    data = datasets.texts_from_settings(settings)
    if settings.labels is not None:
        data = splits.few(data, settings.labels, seed=settings.seed)
    data = splits.limit(data, settings.limit, seed=settings.seed)
    tokenizer = text.Tokenizer.of_model(settings.weights, settings.sequence_length)
    print(data)
    print(text.describe_lengths(tokenizer, *(part.inputs for _, part in data.items())))
    return text.tokenize_all(data, tokenizer)


# %% [markdown]
# ## Model
# The encoder is frozen; a linear classifier takes its pooled outputs.


# %%
def build_model(settings: Config, num_classes: int) -> keras.Model:
    encoder = text_backbones.load(
        settings.weights,
        sequence_length=settings.sequence_length,
        pooling=settings.pooling,
    )
    model = heads.attach(encoder, num_classes)
    freezing.unfreeze_blocks(model, settings.blocks)  # Raises now if there are fewer.
    freezing.unfreeze_head(model)
    return model


# %% [markdown]
# ## Baselines
# A logistic regression on the same frozen features; and, without transfer, one on the
# words of the sentences.


# %%
def fit_baseline(kind: str, inputs: splits.Splits) -> evaluation.Evaluation:
    fitted = probe.fit(kind, inputs.train, inputs.validation)
    return evaluation.evaluate(
        inputs.test.labels,
        fitted.logits(read_all(inputs.test.inputs)),
        inputs.class_names,
        train_labels=inputs.train.labels,
    )


def fit_words(data: splits.Splits) -> evaluation.Evaluation:
    words = data.map(lambda split: replace(split, inputs=text.as_written(split.inputs)))
    return fit_baseline("bag of words", words)


# %% [markdown]
# ## The last layers
# LoRA's changes are added into the kernels in the end. Sentence pairs train the encoder
# alone, so that the head is fitted anew; no loss of labels tells whether it was better
# before.


# %%
def train_last_layers(settings, model, data, setup):
    """Train by the method of the settings; return the model, and the history."""
    method = settings.method
    rate = settings.fine_tune_learning_rate or RATES[method]
    phase = phases.fine_tuning(settings.fine_tune_epochs, rate, name=method)
    freezing.unfreeze_blocks(model, settings.blocks)
    if method == "fine-tuning":
        blocks, decay = settings.blocks, settings.decay
        history = stages.fine_tune_blocks(
            model, data, setup, phase, blocks=blocks, decay=decay
        )
    elif method == "LoRA":
        print(lora.enable(model, rank=settings.rank))
        history = phases.fit(model, data, setup, phase)
        model = lora.merge(model)
    else:
        phase = replace(phase, method=sentence_pairs.cosine("pool"), keep_start=False)
        by_pairs = replace(setup, choose_by="loss")
        history = phases.fit(model, data, by_pairs, phase)
        freezing.unfreeze_head(model)
        probe.fit_head(*phases.precompute_frozen(model, data, setup, test=False))
    return model, history


# %% [markdown]
# ## Run


# %%
def main(settings: Config) -> dict:
    started = time.perf_counter()
    place, settings = placement.from_settings(settings)
    data = build_data(settings)
    with place.scope():
        model = build_model(settings, len(data.class_names))
    about = splits.describe(data)
    if settings.start_from is not None:
        artifact.copy_weights(settings.start_from, model, about)
    run = config.start_run("minilm_sentiment", settings, started, about)
    print(place.describe(settings.batch_size, settings.learning_rate))
    setup = phases.setup(settings, place, data, run)
    results = {"bag of words": fit_words(data)}

    # Frozen: the encoder runs once over all sentences.
    print(f"Head: {freezing.report(model)}")
    part, inputs = phases.precompute_frozen(model, data, setup)
    results["logistic regression"] = fit_baseline("logistic regression", inputs)
    phase = phases.Phase(
        settings.epochs,
        settings.learning_rate,
        keep_start=settings.start_from is not None,
    )
    head = phases.fit(part, inputs, setup, phase)
    frozen = keras.models.clone_model(part)
    frozen.set_weights(part.get_weights())

    model, trained = train_last_layers(settings, model, data, setup)
    print(f"{settings.method}: {freezing.report(model)}")
    models = {
        settings.before_tuning: (frozen, inputs.test),
        settings.method: (model, data.test),
    }
    models = summary.without_rejected(models, {settings.method: trained})
    results |= summary.evaluate_models(models, data)
    summary.show(results, "text")
    metrics = run_folder.save(
        run,
        model,
        data=data,
        results=results,
        histories={"head": head, settings.method: trained},
        cache=setup.cache,
    )

    # The saved model is used as anybody would use it.
    first = data.test.inputs.preview(range(min(5, len(data.test))))
    summary.show_predictions(artifact.load(run.folder).predict(first), data)
    return metrics


# %% tags=["script"]
if __name__ == "__main__":
    config.run(main, Config)
