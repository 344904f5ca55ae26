"""Load pretrained encoders of sound: Google's speech embedding, and Whisper's.

All models take waves, float32 `(batch, samples)` in [-1, 1] at 16 kHz, see
`data.waves`; everything else is inside them, see `log_mel`. They are of layers that
Keras has, so that a saved model needs nothing else.
"""

import re
from pathlib import Path

import keras
import numpy as np
from keras import layers, ops

from keras_tl import errors
from keras_tl.models import log_mel, whisper_weights
from keras_tl.models.freezing import FRONT_END
from keras_tl.models.log_mel import SAMPLES

# File of the speech embedding, in the folder that a user names.
FILE = "embedding_model.tflite"
# Channels of the convolutions of each of its blocks; size of the pooling behind them.
BLOCKS = (
    ((24, 24, 24), (2, 2)),
    ((48, 48, 48, 48), (1, 2)),
    ((72, 72, 72, 72), (2, 2)),
    ((96, 96, 96, 96), (1, 2)),
    ((96, 96, 96, 96), (2, 2)),
)


def log_mel_cnn(samples: int = SAMPLES) -> keras.Model:
    """Build a small CNN on the log-mel spectrogram, to train from scratch.

    Three convolutions of 16, 32 and 64 channels with ReLU, each followed by max
    pooling, on a spectrogram of mean 0 and deviation 1. Without BatchNormalization: the
    statistics of batches were too unstable with few clips.

    Args:
        samples: See `log_mel.google`.

    Returns:
        A model from waves `(batch, samples)` in [-1, 1] to a vector of features.

    >>> log_mel_cnn().output.shape
    (None, 2304)
    """
    front = log_mel.google(samples)
    # Clip by clip, so that neither loudness nor microphone matters much.
    x = layers.LayerNormalization(
        axis=(1, 2, 3), center=False, scale=False, name="normalize"
    )(front.output)
    for number, channels in enumerate((16, 32, 64), start=1):
        x = layers.Conv2D(
            channels, 3, padding="same", activation="relu", name=f"conv_{number}"
        )(x)
        x = layers.MaxPooling2D(name=f"conv_{number}_pool")(x)
    # Where a sound is in the clip and the spectrum matters: no average over both.
    x = layers.Flatten(name="features")(x)
    return keras.Model(front.input, x, name="log_mel_cnn")


def speech_embedding(
    weights: Path | str | None, *, name: str = "speech_embedding"
) -> keras.Model:
    """Load Google's speech embedding, which learned from spoken words.

    Args:
        weights: Folder with `embedding_model.tflite`, such as the models of
            https://github.com/dscripka/openWakeWord, which puts them under
            CC BY-NC-SA 4.0: not for commercial use. `None` draws random weights.
        name: Name of the model.

    Returns:
        A flat `keras.Model` from waves `(batch, 12512)` in [-1, 1] at 16 kHz, 0.78
        seconds, to features `(batch, 1, 1, 96)`; `log_mel.google` is its front end. Its
        blocks are `block1` to `block6`. Nothing else is frozen yet.

    Raises:
        InputError: The folder has no such file, LiteRT is not installed, or the file
            holds another model.

    Reference:
        Lin et al., "Training keyword spotters with limited and synthesized speech
        data", 2020, arXiv:2002.01322; https://www.kaggle.com/models/google/speech-embedding
    """
    constants = None if weights is None else _constants(check(weights))
    front = log_mel.google()
    x, convolutions = front.output, []
    for block, (channels, pool) in enumerate(BLOCKS, start=1):
        for number, filters in enumerate(channels, start=1):
            # Over time and bands first, then in turns over bands and over time.
            turn = (1, 3) if len(convolutions) % 2 else (3, 1)
            size = turn if convolutions else (3, 3)
            part = f"block{block}_{{}}{number}"
            if size[1] == 3:
                x = layers.ZeroPadding2D((0, 1), name=part.format("pad"))(x)
            conv = layers.Conv2D(filters, size, name=part.format("conv"))
            x = layers.LeakyReLU(0.2, name=part.format("relu"))(conv(x))
            x = ops.maximum(x, -0.4)
            convolutions.append(conv)
        x = layers.MaxPooling2D(pool, name=f"block{block}_pool")(x)
    last = layers.Conv2D(96, (3, 1), name="block6_conv")
    x = last(x)
    if constants is not None:
        _set_weights([*convolutions, last], constants, Path(weights) / FILE)
    return keras.Model(front.input, x, name=name)


def check(weights: Path | str) -> Path:
    """Return the file of the embedding, before anything is loaded.

    Raises:
        InputError: The folder has none, or LiteRT, which reads it, is not installed.
    """
    path = Path(weights) / FILE
    if not path.is_file():
        raise errors.expected("weights", f"be a folder that has {FILE}", str(weights))
    errors.check_installed("ai_edge_litert", extra="audio")
    return path


def _constants(path) -> dict[int, dict[int, np.ndarray]]:
    """Read the constants of the convolutions: number -> rank -> kernel or bias."""
    from ai_edge_litert.interpreter import Interpreter

    try:
        model = Interpreter(str(path))
        details = model.get_tensor_details()
    except (ValueError, RuntimeError) as error:
        raise errors.InputError(
            f"{path} cannot be read: {errors.reason(error)}."
        ) from error
    constants = {}
    for tensor in details:
        shape = tensor["shape"]
        # A bias has the name of the normalization that it took in. Of a batch size of
        # 1 are the outputs of layers.
        match = re.match(
            r"model/(?:conv2d|batch_normalization)(?:_(\d+))?/", tensor["name"]
        )
        if match and len(shape) in (1, 4) and shape[0] > 1:
            value = model.get_tensor(tensor["index"])
            constants.setdefault(int(match[1] or 0), {})[len(shape)] = value
    return constants


def _set_weights(convolutions, constants, path):
    for number, conv in enumerate(convolutions):
        own = constants.get(number, {})
        kernel, bias = own.get(4, np.empty((0,) * 4)), own.get(1, np.empty(0))
        kernel = kernel.transpose(1, 2, 3, 0)
        if (kernel.shape, bias.shape) != (conv.kernel.shape, conv.bias.shape):
            raise errors.InputError(
                f"{path} is not Google's speech embedding: its convolution {number} "
                f"has a kernel of shape {kernel.shape}, not {conv.kernel.shape}."
            )
        conv.set_weights([kernel, bias])


# Most samples that Whisper takes: 30 seconds.
MOST_SAMPLES = 480_000


def whisper(
    weights: Path | str,
    *,
    samples: int = SAMPLES,
    name: str = "whisper",
) -> keras.Model:
    """Load the encoder of Whisper, which learned to transcribe speech from the web.

    Whisper itself fills every clip up to 30 seconds. Here a clip stays as long as it
    is, with the first of the positions, which takes a fraction of the time.

    Args:
        weights: Folder with `config.json` and `model.safetensors`, as Hugging Face lays
            out https://huggingface.co/openai/whisper-tiny.en (MIT) and other sizes; or
            a preset of KerasHub, its name or a folder, such as `whisper_tiny_en`, which
            needs the extra `hub`.
        samples: Length of a clip at 16 kHz, from 640 samples to 30 seconds.
        name: Name of the model.

    Returns:
        A flat `keras.Model` from waves `(batch, samples)` in [-1, 1] at 16 kHz to
        features `(batch, width)`, the mean over the clip; `log_mel.whisper` is its
        front end. Its blocks are `block1` and so on, one for each layer of the encoder;
        its last layer is `pool`. Nothing else is frozen yet.

    Raises:
        InputError: There are no such weights, what reads them is not installed, they
            are of another model, or a number is out of range.

    Reference:
        Radford et al., "Robust speech recognition via large-scale weak supervision",
        2022, arXiv:2212.04356.
    """
    errors.check_at_least("samples", samples, 640)
    if samples > MOST_SAMPLES:
        raise errors.expected("samples", f"be at most {MOST_SAMPLES:,}", samples)
    sizes, values = whisper_weights.read(weights)
    front = log_mel.whisper(samples, bands=sizes.bands)
    x = _whisper_stem(front.output, sizes.width)
    for number in range(1, sizes.blocks + 1):
        x = _whisper_block(x, f"block{number}_{{}}", sizes)
    x = layers.LayerNormalization(epsilon=1e-5, name="last_norm")(x)
    x = layers.GlobalAveragePooling1D(name="pool")(x)
    model = keras.Model(front.input, x, name=name)
    variables = model.variables[len(front.variables) :]
    _set_whisper_weights(variables, values, weights)
    return model


def _whisper_stem(x, width):
    for number, strides in ((1, 1), (2, 2)):
        x = layers.ZeroPadding1D(1, name=f"stem_pad{number}")(x)
        part = f"stem_conv{number}"
        x = layers.Conv1D(width, 3, strides, activation="gelu", name=part)(x)
    # The place of each output: the number of those before it.
    place = ops.cumsum(ops.ones_like(x[..., 0], dtype="int32"), axis=1) - 1
    # Sines and cosines, a formula as the spectrogram is.
    positions = layers.Embedding(
        x.shape[1], width, trainable=False, name=f"{FRONT_END}positions"
    )
    return layers.Add(name="stem_add")([x, positions(place)])


def _whisper_block(x, part, sizes):
    y = layers.LayerNormalization(epsilon=1e-5, name=part.format("attention_norm"))(x)
    attention = layers.MultiHeadAttention(
        sizes.heads, sizes.width // sizes.heads, name=part.format("attention")
    )
    x = layers.Add(name=part.format("attention_add"))([x, attention(y, y)])
    y = layers.LayerNormalization(epsilon=1e-5, name=part.format("mlp_norm"))(x)
    name = part.format("mlp_in")
    y = layers.Dense(sizes.hidden, activation="gelu", name=name)(y)
    y = layers.Dense(sizes.width, name=part.format("mlp_out"))(y)
    return layers.Add(name=part.format("mlp_add"))([x, y])


def _set_whisper_weights(variables, values, weights):
    for variable in variables:
        path, shape = variable.path, variable.shape
        try:
            # Keys have no bias: it would not change what is attended to.
            value = np.zeros(shape) if "key/bias" in path else values[path]
            if path.endswith("embeddings"):
                value = value[: shape[0]]
            # Heads stand behind each other.
            variable.assign(value.reshape(shape))
        except (KeyError, ValueError) as error:
            raise errors.InputError(
                f"{weights} is not Whisper as its configuration has it: {path} is "
                "missing, or of another shape."
            ) from error
