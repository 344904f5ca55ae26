"""Load pretrained encoders of sound, and compute log-mel spectrograms inside a model.

All models take waves, float32 `(batch, samples)` in [-1, 1] at 16 kHz, see
`data.waves`; everything else is inside them. The log-mel front end is a formula: its
layers are float32 in any precision, and `freezing` never unfreezes them.
"""

import re
from pathlib import Path

import keras
import numpy as np
from keras import layers, ops

from keras_tl import environment, errors
from keras_tl.models.freezing import FRONT_END

# Samples per second, and of the window that the speech embedding takes: 76 frames.
RATE, SAMPLES = 16_000, 12_512
# Its file, in the folder that a user names.
FILE = "embedding_model.tflite"
# Channels of the convolutions of each of its blocks; size of the pooling behind them.
BLOCKS = (
    ((24, 24, 24), (2, 2)),
    ((48, 48, 48, 48), (1, 2)),
    ((72, 72, 72, 72), (2, 2)),
    ((96, 96, 96, 96), (1, 2)),
    ((96, 96, 96, 96), (2, 2)),
)
# A frame is 25 ms long, one begins every 10 ms, and its spectrum has 257 frequencies.
_FRAME, _STEP, _FFT = 400, 160, 512


def log_mel(samples: int = SAMPLES, *, bands: int = 32) -> keras.Model:
    """Build the log-mel spectrogram of a wave, of layers that Keras has.

    The power spectrum of frames of 25 ms, one every 10 ms, under a Hann window; its sum
    in triangular bands between 60 and 3800 Hz, equally wide on the mel scale of Slaney
    (1998) and of equal area; in decibels of 16-bit steps, at least 80 below the loudest
    of the clip; divided by 10, plus 2. That is what Google's speech embedding takes.

    Args:
        samples: Length of a clip at 16 kHz, at least 512.
        bands: Number of bands, at least 1.

    Returns:
        A model from waves `(batch, samples)` in [-1, 1] to `(batch, frames, bands, 1)`,
        about -6 to 13. All of it is float32, and nothing of it trains.

    Raises:
        InputError: A number out of range.

    >>> log_mel().output.shape
    (None, 76, 32, 1)
    """
    errors.check_at_least("samples", samples, _FFT)
    errors.check_at_least("bands", bands, 1)
    environment.use_standard_keras()
    wave = keras.Input((samples,), name="wave", dtype="float32")
    # In steps of 16 bits.
    x = layers.Rescaling(32768.0, name=f"{FRONT_END}scale", dtype="float32")(wave)
    x = layers.Reshape((samples, 1), name=f"{FRONT_END}reshape", dtype="float32")(x)
    # The window is in the middle of the samples that its spectrum has.
    side = (_FFT - _FRAME) // 2
    x = layers.Cropping1D(side, name=f"{FRONT_END}crop", dtype="float32")(x)
    power = layers.STFTSpectrogram(
        mode="psd",
        frame_length=_FRAME,
        frame_step=_STEP,
        fft_length=_FFT,
        trainable=False,
        name=f"{FRONT_END}power",
        dtype="float32",
    )
    x = power(x)
    # Keras's own are rounded so coarsely that a pure tone has others beside it.
    power.set_weights(_fourier())
    mel = layers.Dense(
        bands, use_bias=False, trainable=False, name=f"{FRONT_END}mel", dtype="float32"
    )
    x = mel(x)
    # Keras counts frequencies twice, but for the first and the last, which no band has.
    mel.set_weights([mel_bands(bands) / 2])
    decibels = 10 * ops.log10(ops.maximum(x, 1e-10))
    loudest = ops.max(decibels, axis=(1, 2), keepdims=True)
    x = ops.maximum(decibels, loudest - 80.0) / 10 + 2
    x = layers.Reshape((*x.shape[1:], 1), name=f"{FRONT_END}image", dtype="float32")(x)
    return keras.Model(wave, x, name="log_mel")


def _fourier() -> list[np.ndarray]:
    """Compute a periodic Hann window times cosine and sine of every frequency."""
    time, frequency = np.arange(_FRAME)[:, None, None], np.arange(_FFT // 2 + 1)
    window = 0.5 - 0.5 * np.cos(2 * np.pi * time / _FRAME)
    angle = 2 * np.pi * (time * frequency % _FFT) / _FFT
    return [window * np.cos(angle), window * np.sin(angle)]


def mel_bands(bands: int, *, low: float = 60.0, high: float = 3800.0) -> np.ndarray:
    """Compute the weights of triangular bands that are equally wide on the mel scale.

    Args:
        bands: Number of bands.
        low: Lower end of the first, in Hz.
        high: Upper end of the last, in Hz.

    Returns:
        float32 `(257, bands)`, weights of the frequencies 0 to 8000 Hz; each band has
        the area 1.

    Reference:
        Slaney, "Auditory Toolbox", 1998,
        https://engineering.purdue.edu/~malcolm/interval/1998-010/
    """
    # Linear up to 1000 Hz, which is 15 mel; from there on 27 mel are a factor of 6.4.
    step = np.log(6.4) / 27

    def mel(hertz):
        return hertz * 3 / 200 if hertz < 1000 else 15 + np.log(hertz / 1000) / step

    mels = np.linspace(mel(low), mel(high), bands + 2)
    edges = np.where(mels < 15, mels * 200 / 3, 1000 * np.exp(step * (mels - 15)))
    hertz = np.linspace(0, RATE / 2, _FFT // 2 + 1)[:, None]
    rise = (hertz - edges[:-2]) / (edges[1:-1] - edges[:-2])
    fall = (edges[2:] - hertz) / (edges[2:] - edges[1:-1])
    triangles = np.maximum(0, np.minimum(rise, fall))
    return (triangles * 2 / (edges[2:] - edges[:-2])).astype("float32")


def log_mel_cnn(samples: int = SAMPLES) -> keras.Model:
    """Build a small CNN on the log-mel spectrogram, to train from scratch.

    Three convolutions of 16, 32 and 64 channels with ReLU, each followed by max
    pooling, on a spectrogram of mean 0 and deviation 1. Without BatchNormalization: the
    statistics of batches were too unstable with few clips.

    Args:
        samples: See `log_mel`.

    Returns:
        A model from waves `(batch, samples)` in [-1, 1] to a vector of features.

    >>> log_mel_cnn().output.shape
    (None, 2304)
    """
    front = log_mel(samples)
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
        seconds, to features `(batch, 1, 1, 96)`; `log_mel` is its front end. Its blocks
        are `block1` to `block6`. Nothing else is frozen yet.

    Raises:
        InputError: The folder has no such file, LiteRT is not installed, or the file
            holds another model.

    Reference:
        Lin et al., "Training keyword spotters with limited and synthesized speech
        data", 2020, arXiv:2002.01322; https://www.kaggle.com/models/google/speech-embedding
    """
    constants = None if weights is None else _constants(check(weights))
    front = log_mel()
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
