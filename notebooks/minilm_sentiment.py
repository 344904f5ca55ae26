# %% [markdown]
# # Sentences: what a frozen encoder knows of them, and what fine-tuning adds
#
# An encoder that was trained on more than a billion pairs of sentences
# ([model card](https://huggingface.co/sentence-transformers/all-MiniLM-L6-v2)) turns a
# sentence into a vector. Here it learns to tell praise from criticism in sentences
# about films, from 320 of them. Step by step you will
#
# 1. read the sentences, and see what the **tokenizer** makes of one;
# 2. run the frozen encoder once, and see which sentences get similar vectors;
# 3. train a **head** on its vectors, a **logistic regression** beside it, and one on
#    the **words** alone, without transfer;
# 4. **fine-tune** the encoder, at learning rates that fall from layer to layer;
# 5. compare, read the most confident mistakes, save the model, and use it.
#
# If heads and fine-tuning are new to you, begin with the notebook `quickstart`. The
# functions are those of the recipe, which `keras-tl show minilm_sentiment` prints.
#
# Two folders have to be beside this notebook. `SST-2` is the
# [Stanford Sentiment Treebank](https://aclanthology.org/D13-1170/) as the benchmark
# GLUE has it; its `test.tsv`, without labels, is left out. `all-MiniLM-L6-v2` is
# the encoder, under the licence Apache-2.0.
#
# ```
# curl -O https://dl.fbaipublicfiles.com/glue/data/SST-2.zip
# unzip SST-2.zip
# pip install huggingface_hub
# hf download sentence-transformers/all-MiniLM-L6-v2 --local-dir all-MiniLM-L6-v2
# ```

# %%
import importlib.util

if not all(map(importlib.util.find_spec, ("keras_tl", "keras_hub", "tokenizers"))):
    raise SystemExit(
        "Please install keras-tl with its extra for texts in this kernel: "
        'pip install -e "CHECKOUT[text]"'
    )

# %%
# %matplotlib inline
import time
import warnings
from dataclasses import replace
from pathlib import Path

import keras_tl.quiet  # noqa: F401  Keeps away the start-up messages of TensorFlow.

import keras
import numpy as np
import tokenizers

from keras_tl import config, errors
from keras_tl.analysis import figures, gallery, summary
from keras_tl.data import sources, splits, text
from keras_tl.deploy import artifact, run_folder
from keras_tl.models import freezing
from keras_tl.recipes import minilm_sentiment as recipe
from keras_tl.training import optimizers, phases, placement

# KerasHub shows its progress with widgets, which not every Jupyter has.
warnings.filterwarnings("ignore", message="IProgress not found")

# %% [markdown]
# ## Settings
# For texts of your own, put a table `train.csv` with the columns `label` and `text` in
# a folder, and name that folder in the place of `SST-2`. The loss on validation chooses
# the epoch; with so few sentences it is a finer measure than their accuracy.

# %% tags=["parameters"]
tables, encoder = "SST-2", "all-MiniLM-L6-v2"
for folder in (tables, encoder):
    if not Path(folder).is_dir():
        raise SystemExit(
            f"There is no folder {folder} here: the top of this notebook says where to "
            "get it."
        )
settings = recipe.Config(
    data=tables, weights=encoder, choose_by="loss", fine_tune_epochs=4
)

# %% [markdown]
# ## 1. From sentences to numbers
# The training sentences are a small part of the table, as many of each class; as many
# others select the epoch.

# %%
with warnings.catch_warnings(record=True) as notes:
    warnings.simplefilter("always", errors.InputWarning)
    data = recipe.build_data(settings)
for note in notes:
    print(f"Note: {note.message}")

# %% [markdown]
# The labels of SST-2 are 0 and 1; here they get names. Many examples are phrases out of
# a sentence, since the treebank has labels for each part of it.

# %%
names = {"0": "negative", "1": "positive"}
data = replace(data, class_names=[names.get(name, name) for name in data.class_names])
gallery.samples(data.train, data.class_names)

# %% [markdown]
# The encoder reads numbers. The tokenizer has a list of words and of parts of words,
# and a rare word becomes several parts: all but the first begin with `##`. A sentence
# begins with `[CLS]` and ends with `[SEP]`; what is longer than `sequence_length` is
# cut, and what is shorter is filled up with 0.

# %%
tokenizer = text.Tokenizer.of_model(settings.weights, settings.sequence_length)
words = tokenizers.Tokenizer.from_file(f"{settings.weights}/tokenizer.json")
ids = tokenizer.encode(["A charming, unpretentious film."])[0]
for number in ids[ids > 0]:
    print(f"{number:>6}  {words.id_to_token(int(number))}")
print(f"     0  {(ids == 0).sum()} times")

# %%
for name, split in data.items():
    lengths = (sources.read_all(split.inputs) > 0).sum(axis=1)
    full = (lengths == settings.sequence_length).mean()
    print(
        f"{name:>10}: median {np.median(lengths):2.0f} tokens; {full:4.1%} fill all "
        f"{settings.sequence_length} places, or are cut"
    )

# %% [markdown]
# The test examples are longer: they are whole sentences, and many of those to learn
# from are phrases. Expect the accuracy on the test sentences to be lower than the one
# on validation, which is drawn from the same table as the training examples.

# %% [markdown]
# ## 2. What the frozen encoder knows
# The vector of a sentence is the mean of the encoder's outputs for its tokens. Only the
# head, one linear layer, trains for now.

# %%
place, settings = placement.from_settings(settings)
model = recipe.build_model(settings, len(data.class_names))
layers = freezing.report(model)
print(layers)
figures.layers(layers.rows)

# %% [markdown]
# The first bar is the table that has a vector for each token of the list: it holds
# about half of all parameters. It stays frozen throughout. Frozen layers give the same
# for a sentence in every epoch, so they run once.

# %%
run = config.start_run(
    "minilm_sentiment", settings, time.perf_counter(), splits.describe(data)
)
setup = phases.setup(settings, place, data, run)
part, vectors = phases.precompute_frozen(model, data, setup)
print(f"A sentence is {vectors.train.read([0]).shape[1]} numbers now.")

# %% [markdown]
# The encoder was trained to give similar vectors to sentences that mean similar things.
# How similar are these four? 1 is the same direction.

# %%
sentences = [
    "I loved the costumes.",
    "I hated the costumes.",
    "I loved the ending.",
    "I hated the ending.",
]
encode = keras.Model(model.inputs, model.get_layer("pool").output)
rows = encode.predict(tokenizer.encode(sentences), verbose=0)
rows /= np.linalg.norm(rows, axis=1, keepdims=True)
for sentence, row in zip(sentences, rows @ rows.T, strict=True):
    print(f"{sentence:22}", *(f"{value:5.2f}" for value in row))

# %% [markdown]
# Two sentences on one **topic** are more similar than two of one **opinion**. The
# opinion is in the vectors too, but it is not what the encoder was trained for. This is
# why a head alone may not be enough, and why fine-tuning may help.

# %% [markdown]
# ## 3. A head, and two logistic regressions beside it
# Both are linear classifiers of the same vectors. The head is trained step by step
# until validation improves no more; the logistic regression of scikit-learn is solved
# at once, and validation chooses how much it is regularized. They should be about
# equally good: if one is much worse, something is wrong with its training. Without
# transfer there are the words alone: how often each occurs in a sentence.

# %%
head = phases.fit(
    part, vectors, setup, phases.Phase(settings.epochs, settings.learning_rate)
)
results = {
    "bag of words": recipe.fit_words(data),
    "logistic regression": recipe.fit_baseline("logistic regression", vectors),
}

# %%
figures.curves(head)

# %%
frozen = keras.models.clone_model(part)
frozen.set_weights(part.get_weights())

# %% [markdown]
# ## 4. Fine-tune, with learning rates that fall from layer to layer
# Layers near the input hold what is general, layers near the output what belongs to the
# task that they were trained for. So the rate falls from the head towards the input, by
# the factor `decay` for each layer
# ([Howard and Ruder, 2018](https://arxiv.org/abs/1801.06146)).

# %%
freezing.unfreeze_blocks(model, settings.blocks)
layers = freezing.report(model)
print(layers)
rates = optimizers.by_block(model, settings.decay)
largest = recipe.RATES[settings.method]
for name, *_, trains in reversed(layers.rows):
    if trains:
        factor = next((f for pattern, f in rates.items() if name in pattern), 1.0)
        print(f"  {name:20} {factor * largest:.1e}")

# %%
model, tuned = recipe.train_last_layers(settings, model, data, setup)

# %%
histories = {"head": head, "fine-tuning": tuned}
figures.curves(tuned, [("fine-tuning", len(tuned["loss"]))])

# %% [markdown]
# With 320 sentences and ten million parameters that train, the training accuracy soon
# leaves that of validation behind. The ring marks the epoch whose weights are kept; if
# there is none, no epoch was better than the head alone, and the encoder is as it was.

# %% [markdown]
# ## 5. The result
# Now the test sentences are read. Each model is compared with the one above it on the
# same sentences.

# %%
models = {"frozen": (frozen, vectors.test), "fine-tuning": (model, data.test)}
models = summary.without_rejected(models, {"fine-tuning": tuned})
results |= summary.evaluate_models(models, data)
summary.show(results, "text")

# %%
figures.comparison(
    [(name, result.value, result.interval) for name, result in results.items()]
)

# %%
*_, result = results.values()
figures.confusion(result.confusion, result.class_names)

# %% [markdown]
# ### The most confident mistakes
# Is one of the two classes missed more often? Then look for the reason in the mistakes:
# negation, irony, praise and criticism in one sentence, words that are praise only for
# some kinds of films, and labels that you would not have given.

# %%
gallery.mistakes(result, data.test)

# %% [markdown]
# ### Save it and use it
# The tokenizer is saved with the model, so that the saved run takes texts. Write
# sentences of your own: can you find one that is answered wrongly?

# %%
metrics = run_folder.save(
    run, model, data=data, results=results, histories=histories, cache=setup.cache
)

# %%
classifier = artifact.load(run.folder)
sentences = [
    "I would watch it again tomorrow.",
    "I would not watch it again if you paid me.",
    "Not bad at all.",
    "Two hours that I will never get back.",
]
for sentence, row in zip(sentences, classifier.predict(sentences), strict=True):
    print(f"{classifier.class_names[row.argmax()]} {row.max():.2f}  {sentence}")

# %% [markdown]
# ## What to try next
# - **More labels**: `labels=1000` in the settings. Which of the models gains most?
# - **Few labels**: `labels=16, method="sentence pairs", fine_tune_epochs=40,
#   batch_size=16` trains on pairs of sentences. **Fewer parameters**: `method="LoRA"`.
# - **One rate for all layers**: `decay=1.0`. Does validation still improve?
# - **Fewer layers**: `blocks=2` fine-tunes the last two.
# - **Your own texts**: `keras-tl run minilm_sentiment --data my_texts --weights
#   all-MiniLM-L6-v2`.
