"""Models that might be trained on some data, to be ranked before one is.

A candidate knows which examples it takes and how to load its model for them. For every
kind of examples there are pretrained backbones; for texts and sound also what needs no
pretraining, as the base line.
"""

from collections.abc import Hashable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import ClassVar

import keras
import numpy as np
from keras import ops

from keras_tl import environment, errors
from keras_tl.analysis import transferability
from keras_tl.data import text
from keras_tl.data.splits import Split, Splits
from keras_tl.models import (
    audio_backbones,
    backbones,
    catalog,
    hub_backbones,
    log_mel,
    text_backbones,
    whisper_weights,
)

# Side of the images, where nothing else is wanted.
IMAGE_SIZE = 96
# Most tokens of a text, and the share of texts that are not cut, below that.
MOST_TOKENS, WHOLE = 128, 0.95
# Most words of a bag.
MOST_WORDS = 2000


class Candidate:
    """A model that might be trained, and what it is compared with.

    Attributes:
        name: Name for people, which tells it from others.
        kind: Kind of the examples that it takes, see `Source.kind`.
        is_baseline: Whether it is no pretrained model.
        imagenet_accuracy: Top-1 accuracy on ImageNet where it is stated, in [0, 1].
        form: What `prepare` depends on: what was prepared for one candidate serves the
            others of the same form.
    """

    name: str
    kind: ClassVar[str]
    is_baseline: ClassVar[bool] = False
    imagenet_accuracy: float | None = None
    form: Hashable

    def prepare(self, data: Splits) -> Splits:
        """Return data as the model takes them; only train and validation are used."""
        raise NotImplementedError

    def load(self, data: Splits) -> keras.Model:
        """Load the model, from examples that `prepare` has returned to its features.

        Raises:
            InputError: Weights that cannot be had or do not fit.
        """
        raise NotImplementedError

    def source_probabilities(self, train: Split) -> np.ndarray | None:
        """Predict the classes of the pretraining from features, where that is possible.

        Returns:
            See `transferability.leep`.
        """
        return None

    def flags(self) -> dict[str, object] | None:
        """Return the options of `keras-tl train` for it, if there are some."""
        return None


# %% Images


@dataclass(frozen=True)
class Images(Candidate):
    """A backbone for images.

    Attributes:
        backbone: A key of `catalog.BACKBONES`; or "hub:" and a preset of KerasHub or a
            folder with one, see `hub_backbones`.
        weights: "imagenet", `None` for random weights, or a file; see `backbones.load`.
        image_size: Side of the square images, in pixels.
        preprocessing: See `backbones.load`.
        alpha: See `backbones.load`.
        classifier: File of the same weights with their ImageNet classifier, which LEEP
            and NCE need; `None` looks for it in `weights`.
        accuracy: Top-1 accuracy on ImageNet, in [0, 1]; `None` takes that of the table
            for its ImageNet weights.
    """

    backbone: str
    weights: str | Path | None = "imagenet"
    image_size: int = IMAGE_SIZE
    preprocessing: str | None = None
    alpha: float | None = None
    classifier: Path | None = None
    accuracy: float | None = None

    kind: ClassVar[str] = "image"

    def __post_init__(self):
        if self.is_of_hub:
            hub_backbones.check(self.preset)
        catalog.check(self.backbone, self.weights, self.image_size, self.preprocessing)
        if self.classifier is not None:
            catalog.check_file(Path(self.classifier))

    @property
    def is_of_hub(self) -> bool:
        """Whether it is a preset of KerasHub."""
        return self.backbone.startswith(catalog.HUB)

    @property
    def preset(self) -> str:
        """Name or folder of the preset of KerasHub."""
        return self.backbone.removeprefix(catalog.HUB)

    @property
    def name(self) -> str:
        """Name for people, which tells it from others.

        >>> Images("mobilenet", alpha=0.25).name
        'mobilenet 0.25'
        >>> Images("efficientnet_lite0", None).name
        'efficientnet_lite0, random'
        """
        if self.is_of_hub:
            return Path(self.preset).name
        width = "" if self.alpha is None else f" {self.alpha:g}"
        if self.weights == "imagenet":
            return f"{self.backbone}{width}"
        if self.weights is None:
            return f"{self.backbone}{width}, random"
        file = Path(self.weights).name.removesuffix(".h5").removesuffix(".weights")
        return f"{self.backbone}{width}, {file}"

    @property
    def imagenet_accuracy(self) -> float | None:
        """Top-1 accuracy on ImageNet where it is stated, in [0, 1].

        >>> Images("vgg16", None).imagenet_accuracy
        0.001
        """
        if self.accuracy is not None or self.is_of_hub:
            return self.accuracy
        if self.weights is None:
            return 1 / backbones.CLASSES
        of_table = self.weights == "imagenet" and self.alpha in (None, 1.0)
        return catalog.find(self.backbone).accuracy if of_table else None

    @property
    def form(self) -> Hashable:
        """The side of the images."""
        return self.image_size

    def prepare(self, data: Splits) -> Splits:
        """Return images at the side that the backbone takes."""
        return data.at_size(self.image_size)

    def load(self, data: Splits) -> keras.Model:
        """Load the backbone."""
        return backbones.load(
            self.backbone,
            weights=self.weights,
            image_size=self.image_size,
            preprocessing=self.preprocessing,
            alpha=self.alpha,
        )

    def source_probabilities(self, train: Split) -> np.ndarray | None:
        """Predict ImageNet's classes from features, where the classifier is known."""
        path = self.classifier
        if path is None and self.weights not in ("imagenet", None):
            path = self.weights
        if path is None or self.is_of_hub:
            return None
        values = train.inputs.read(np.arange(len(train)))
        linear = backbones.classifier(path, values.shape[1])
        if linear is None:
            return None
        return transferability.source_probabilities(values, *linear)

    def flags(self) -> dict[str, object]:
        """Return the options that name backbone, weights and size."""
        width = "" if self.alpha is None else f":{self.alpha:g}"
        return {
            "--backbone": f"{self.backbone}{width}",
            "--weights": None if self.weights == "imagenet" else self.weights,
            "--preprocessing": self.preprocessing,
            "--image-size": self.image_size,
        }


def at_hand(image_size: int | None = None) -> list[Images]:
    """List the candidates whose weights are on this machine already.

    The embedded backbone, and those whose ImageNet weights are in Keras's folder, by
    the names of the files there; nothing is downloaded.

    Args:
        image_size: Side of the images, see `named`; backbones that do not take it are
            left out.
    """
    folder = environment.keras_folder() / "models"
    listed = []
    for backbone in catalog.BACKBONES.values():
        if not backbone.has_imagenet:
            continue
        if image_size is not None and image_size < backbone.smallest_size:
            continue
        for alpha in backbone.alphas or (None,):
            own = backbone.constructor is None
            if own or (folder / backbone.file_name(alpha)).is_file():
                width = None if alpha == 1 else alpha
                listed.append(named(backbone.name, image_size, alpha=width))
    return listed


def named(name: str, image_size: int | None = None, **options) -> Images:
    """Return a candidate by its name, at a size that suits it.

    Args:
        name: See `Images.backbone`.
        image_size: Side of the images. `None` is 96 pixels, or as many as the last
            feature map needs for 3x3 cells (InceptionV3: 139); of a preset of KerasHub
            see `hub_backbones.size_of`.
        **options: Other attributes of `Images`.

    Raises:
        InputError: An unknown name, or options that do not go together.
    """
    errors.check_options(options, Images)
    if name.startswith(catalog.HUB):
        side = hub_backbones.size_of(name.removeprefix(catalog.HUB), image_size)
        return Images(name, image_size=side, **options)
    backbone = catalog.find(name)
    size = image_size or max(IMAGE_SIZE, backbone.roomy_size)
    if options.get("weights", "imagenet") == "imagenet" and backbone.file:
        file = backbone.file_name(options.get("alpha"), classifier=True)
        path = environment.keras_folder() / "models" / file
        options = {"classifier": path if path.is_file() else None, **options}
    return Images(name, image_size=size, **options)


# %% Texts


@dataclass(frozen=True)
class InFolder(Candidate):
    """A pretrained model whose weights are in a folder that is named.

    Attributes:
        folder: The folder.
    """

    folder: Path

    def flags(self) -> dict[str, object]:
        """Return the option that names the folder."""
        return {"--weights": self.folder}


@dataclass(frozen=True)
class Encoder(InFolder):
    """An encoder of texts.

    Attributes:
        folder: Its folder as Hugging Face lays it out, see `text_backbones`.
    """

    kind: ClassVar[str] = "text"

    def __post_init__(self):
        errors.check_folder("backbones", self.folder)
        text_backbones.check(self.folder, 3)

    @property
    def name(self) -> str:
        """Name of the folder."""
        return Path(self.folder).name

    @property
    def form(self) -> Hashable:
        """The tokenizer, which is that of the folder."""
        return str(self.folder)

    def prepare(self, data: Splits) -> Splits:
        """Return texts as token ids, as many as nearly all training texts have."""
        tokenizer = text.Tokenizer.of_model(self.folder, 3)
        return _tokenized(data, tokenizer)

    def load(self, data: Splits) -> keras.Model:
        """Load the encoder, for as many tokens."""
        (length,) = data.train.inputs.input_spec()["shape"]
        return text_backbones.load(self.folder, sequence_length=length)


@dataclass(frozen=True)
class Words(Candidate):
    """A bag of words: which of the frequent words of the training texts a text has.

    A rare word counts more, by the logarithm of the share of texts that have it.
    """

    name: ClassVar[str] = "bag of words"
    kind: ClassVar[str] = "text"
    is_baseline: ClassVar[bool] = True
    form: ClassVar[str] = "words"

    def prepare(self, data: Splits) -> Splits:
        """Return texts as the numbers of their words."""
        texts = data.train.inputs.preview(range(len(data.train)))
        words = text.vocabulary(texts)[:MOST_WORDS]
        return _tokenized(data, text.Tokenizer.of_words(words, 3))

    def load(self, data: Splits) -> keras.Model:
        """Build the model; its weights are how much each word counts."""
        ids = data.train.inputs.read(np.arange(len(data.train)))
        tokens = keras.Input(ids.shape[1:], dtype="int32", name="token_ids")
        # The numbers of no word, and of any other word, come first.
        first = len(text.SPECIAL)
        count = max(int(ids.max()) + 1, first + 1)
        x = keras.layers.CategoryEncoding(count, name="words")(tokens)[:, first:]
        # Not divided by the length of a text: a word of all texts would then tell of
        # its other words, and count most where features are scaled alike.
        weigh = keras.layers.EinsumDense("bw,w->bw", count - first, name="weigh")
        x = weigh(x)
        having = [np.unique(row) for row in ids]
        texts = np.bincount(np.concatenate(having), minlength=count)[first:]
        weigh.set_weights([1 + np.log((1 + len(ids)) / (1 + texts))])
        return keras.Model(tokens, x, name="bag_of_words")


def _tokenized(data: Splits, tokenizer: text.Tokenizer) -> Splits:
    """Return train and validation as token ids; the test split stays as it is."""
    lengths = tokenizer.lengths(data.train.inputs.preview(range(len(data.train))))
    wanted = int(np.ceil(np.quantile(lengths, WHOLE)))
    tokenizer = replace(tokenizer, sequence_length=int(np.clip(wanted, 3, MOST_TOKENS)))
    parts = {
        name: replace(part, inputs=text.tokenize(part.inputs, tokenizer))
        for name, part in data.items()
        if name != "test"
    }
    return replace(data, **parts)


# %% Sound


@dataclass(frozen=True)
class Speech(InFolder):
    """Google's speech embedding.

    Attributes:
        folder: Folder with its file, see `audio_backbones.speech_embedding`.
    """

    name: ClassVar[str] = "speech_embedding"
    kind: ClassVar[str] = "audio"
    form: ClassVar[str] = "clips"

    def __post_init__(self):
        audio_backbones.check(self.folder)

    def prepare(self, data: Splits) -> Splits:
        """Return the clips as they are."""
        return _checked_clips(data, audio_backbones.SAMPLES)

    def load(self, data: Splits) -> keras.Model:
        """Load the embedding."""
        return audio_backbones.speech_embedding(self.folder)


@dataclass(frozen=True)
class Whisper(InFolder):
    """The encoder of Whisper.

    Attributes:
        folder: Its folder, see `audio_backbones.whisper`.
    """

    name: ClassVar[str] = "whisper"
    kind: ClassVar[str] = "audio"
    form: ClassVar[str] = "clips"

    def __post_init__(self):
        whisper_weights.check(self.folder)

    def prepare(self, data: Splits) -> Splits:
        """Return the clips as they are."""
        return _checked_clips(data)

    def load(self, data: Splits) -> keras.Model:
        """Load the encoder for clips of this length."""
        (samples,) = data.train.inputs.input_spec()["shape"]
        return audio_backbones.whisper(self.folder, samples=samples)


@dataclass(frozen=True)
class LogMel(Candidate):
    """Mean and deviation of each band of the log-mel spectrogram of a clip."""

    name: ClassVar[str] = "log-mel statistics"
    kind: ClassVar[str] = "audio"
    is_baseline: ClassVar[bool] = True
    form: ClassVar[str] = "clips"

    def prepare(self, data: Splits) -> Splits:
        """Return the clips as they are."""
        return _checked_clips(data)

    def load(self, data: Splits) -> keras.Model:
        """Build the model; nothing of it trains."""
        (samples,) = data.train.inputs.input_spec()["shape"]
        front = log_mel.google(samples)
        bands = front.output[..., 0]
        parts = [ops.mean(bands, axis=1), ops.std(bands, axis=1)]
        joined = keras.layers.Concatenate(name="statistics")(parts)
        return keras.Model(front.input, joined, name="log_mel_statistics")


def _checked_clips(data: Splits, samples: int | None = None) -> Splits:
    spec = data.train.inputs.input_spec()
    wanted = samples or spec["shape"][0]
    if (spec["rate"], spec["shape"][0]) != (log_mel.RATE, wanted):
        raise errors.expected(
            "data",
            f"be clips of {wanted:,} samples at {log_mel.RATE:,} Hz",
            f"{spec['shape'][0]:,} samples at {spec['rate']:,} Hz",
        )
    return data


# Kind of the examples -> what the others are compared with.
BASELINES = {"image": (), "text": (Words(),), "audio": (LogMel(),)}
