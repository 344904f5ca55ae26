"""Read the weights of Whisper's encoder, as Hugging Face or as KerasHub keeps them."""

import json
import re
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from keras_tl import environment, errors
from keras_tl.models import untrusted
from keras_tl.models.freezing import FRONT_END

# Files of a folder as Hugging Face lays it out; KerasHub's has the first one, too.
CONFIG, WEIGHTS = "config.json", "model.safetensors"


@dataclass(frozen=True)
class Sizes:
    """Sizes of an encoder.

    Attributes:
        width: Number of channels.
        blocks: Number of transformer layers.
        heads: Number of attention heads of each.
        hidden: Width of the hidden layer of each.
        bands: Number of bands of the spectrogram that it takes.
    """

    width: int
    blocks: int
    heads: int
    hidden: int
    bands: int


def check(folder: Path | str, hint: str = "") -> None:
    """Raise `InputError` unless a folder is one of Whisper, before it is read.

    Args:
        folder: The folder.
        hint: Further sentence of the message.

    Raises:
        InputError: It has no `config.json`, or that of another model.
    """
    config = {}
    if (Path(folder) / CONFIG).is_file():
        config = _config(folder)
    if config.get("model_type") != "whisper" and "class_name" not in config:
        expected = f"be a folder that has {CONFIG} and {WEIGHTS} of Whisper"
        raise errors.expected("weights", expected, str(folder), hint)


def _config(folder) -> dict:
    try:
        return json.loads((Path(folder) / CONFIG).read_text(encoding="utf-8"))
    except (ValueError, OSError) as error:
        raise _unreadable(folder, error) from error


def read(weights: Path | str) -> tuple[Sizes, dict[str, np.ndarray]]:
    """Read sizes and weights of an encoder.

    Args:
        weights: See `audio_backbones.whisper`.

    Returns:
        The sizes; and path of a variable of `audio_backbones.whisper` -> its value,
        with axes in Keras's order. Some of those may still have to be split, as heads
        are, or cut.

    Raises:
        InputError: There are no such weights, or what reads them is not installed.
    """
    folder = Path(weights)
    config = {}
    if folder.is_dir():
        check(folder)
        config = _config(folder)
    of_keras_hub = not config or "class_name" in config
    return _of_keras_hub(weights) if of_keras_hub else _of_hugging_face(folder, config)


def _unreadable(weights, error):
    return errors.InputError(f"{weights} cannot be read: {errors.reason(error)}.")


# Names of layers as Hugging Face has them -> as we do; of blocks, without their number.
_HUGGING_FACE = {
    "conv1": "stem_conv1",
    "conv2": "stem_conv2",
    "embed_positions": f"{FRONT_END}positions",
    "self_attn_layer_norm": "attention_norm",
    "self_attn.q_proj": "attention/query",
    "self_attn.k_proj": "attention/key",
    "self_attn.v_proj": "attention/value",
    "self_attn.out_proj": "attention/attention_output",
    "final_layer_norm": "mlp_norm",
    "fc1": "mlp_in",
    "fc2": "mlp_out",
    "layer_norm": "last_norm",
}
# The same for KerasHub.
_KERAS_HUB = {
    "encoder_token_embedding_conv_layer_1": "stem_conv1",
    "encoder_token_embedding_conv_layer_2": "stem_conv2",
    "encoder_position_embedding": f"{FRONT_END}positions",
    "self_attention_layer_norm": "attention_norm",
    "self_attention_layer": "attention",
    "feedforward_layer_norm": "mlp_norm",
    "feedforward_intermediate_dense": "mlp_in",
    "feedforward_output_dense": "mlp_out",
    "encoder_layer_norm": "last_norm",
}


def _of_hugging_face(folder, config):
    if not (folder / WEIGHTS).is_file():
        raise errors.expected("weights", f"be a folder that has {WEIGHTS}", str(folder))
    errors.check_installed("safetensors", extra="audio")
    import safetensors

    names = ("d_model", "encoder_layers", "encoder_attention_heads", "encoder_ffn_dim")
    try:
        sizes = Sizes(*(config[name] for name in (*names, "num_mel_bins")))
        with safetensors.safe_open(folder / WEIGHTS, "numpy") as file:
            # With or without `model.` before them.
            pattern = re.compile(
                r"^(?:model\.)?encoder\.(?:layers\.(\d+)\.)?(.+)\.(\w+)$"
            )
            matches = filter(None, map(pattern.match, file.keys()))
            tensors = dict(_keras_variable(file, match) for match in matches)
    except (KeyError, ValueError, OSError, safetensors.SafetensorError) as error:
        raise _unreadable(folder, error) from error
    return sizes, tensors


def _keras_variable(file, match):
    """Return path and value of a variable that a file of safetensors has."""
    block, source, part = match.groups()
    layer = _HUGGING_FACE.get(source, source)
    if layer.endswith("norm"):
        part = {"weight": "gamma", "bias": "beta"}[part]
    elif part == "weight":
        part = "embeddings" if source == "embed_positions" else "kernel"
    value = file.get_tensor(match.string)
    # Of convolutions and dense layers, inputs stand before outputs in Keras.
    value = value.T if part == "kernel" else value
    return f"{_prefix(block)}{layer}/{part}", value


def _prefix(block: str | None) -> str:
    """Return how the names of a block's layers begin, which we count from 1."""
    return "" if block is None else f"block{int(block) + 1}_"


def _of_keras_hub(preset):
    errors.check_installed("keras_hub", extra="hub")
    environment.use_standard_keras()
    import keras_hub

    untrusted.check_preset(preset)
    try:
        model = keras_hub.models.WhisperBackbone.from_preset(str(preset))
    except Exception as error:  # KerasHub raises nearly any type.
        raise errors.InputError(
            f"Whisper cannot be loaded from {preset}: {errors.reason(error)}."
        ) from error
    tensors = {}
    for variable in model.variables:
        pattern = r"(?:transformer_encoder_layer_(\d+)/)?(\w+)/(.+)"
        block, layer, part = re.match(pattern, variable.path).groups()
        if layer in _KERAS_HUB:
            path = f"{_prefix(block)}{_KERAS_HUB[layer]}/{part}"
            tensors[path] = np.asarray(variable)
    sizes = Sizes(
        model.hidden_dim,
        model.num_layers,
        model.num_heads,
        model.intermediate_dim,
        model.num_mels,
    )
    return sizes, tensors
