"""Load pretrained encoders of text, of the BERT family, through KerasHub.

Needs the extra `text`. Of a text, a model takes token ids, see `data.text`; it knows by
their value 0 which of them only fill up a short text.
"""

import json
import os
from pathlib import Path
from typing import get_args

import keras
from keras import ops

from keras_tl import environment, errors, files
from keras_tl.models import untrusted
from keras_tl.models.settings import Pooling

# Files that a folder of a model has, as Hugging Face lays it out.
FILES = ("config.json", "model.safetensors")
# File of the weights of a folder that KerasHub's `save_to_preset` wrote.
OF_PRESET = "model.weights.h5"
# Environment variable that names folders of encoders, or folders of such folders.
MODELS = "KERAS_TL_MODELS"


def load(
    weights: Path | str,
    *,
    sequence_length: int = 64,
    pooling: Pooling = "mean",
    name: str = "encoder",
) -> keras.Model:
    """Load an encoder with its pooled output.

    Tokens that fill up a text are left out. Their mean is a better representation of a
    sentence than the output of the first token, unless the model is fine-tuned on much
    data (Reimers and Gurevych, 2019, arXiv:1908.10084).
    Dropout is 0, so that frozen layers return the same for the same text.

    Args:
        weights: A folder of a model of the BERT family, as Hugging Face or KerasHub
            lays it out, or the name of a preset of KerasHub, which is then downloaded.
        sequence_length: Number of tokens of a text, at least 3.
        pooling: How the outputs of all tokens become one vector, see `Pooling`.
        name: Name of the model.

    Returns:
        A flat `keras.Model` from int32 token ids `(batch, sequence_length)` to features
        `(batch, width)`. Its blocks are its layers `transformer_layer_0` and so on, its
        last layer is `pool`. Nothing is frozen yet.

    Raises:
        InputError: KerasHub is not installed, the model cannot be loaded, or it takes
            fewer tokens.
    """
    errors.check_installed("keras_hub", extra="text")
    errors.check_installed("safetensors", extra="text")
    check(weights, sequence_length)
    bert = _of_preset("BertBackbone", weights, dropout=0.0)
    if sequence_length > bert.max_sequence_length:
        raise errors.expected(
            "sequence_length",
            f"be at most {bert.max_sequence_length}, the most that {weights} takes",
            sequence_length,
        )
    return pooled(bert, sequence_length, name, pooling)


def check(weights: Path | str, sequence_length: int) -> None:
    """Raise `InputError` for arguments that `load` would refuse, before it loads."""
    errors.check_at_least("sequence_length", sequence_length, 3)
    folder = Path(weights)
    missing = [name for name in FILES if not (folder / name).is_file()]
    if (folder / OF_PRESET).is_file():
        missing = []
    if folder.is_dir() and missing:
        raise errors.expected(
            "weights",
            f"be a folder that has {' and '.join(FILES)}",
            str(weights),
            f"Missing: {', '.join(missing)}.",
        )


def at_hand() -> list[Path]:
    """List the folders of encoders of the BERT family on this machine.

    Those that the environment variable `KERAS_TL_MODELS` names, each an encoder or a
    folder of encoders, and those that Hugging Face's libraries have downloaded; nothing
    is downloaded.

    Returns:
        Folders with `tokenizer.json`, `model.safetensors` and a `config.json` of the
        type bert. First come those made for whole sentences, which have a
        `modules.json` (Reimers and Gurevych, 2019, arXiv:1908.10084), and of each kind
        the smallest.
    """
    places = [Path(one) for one in os.environ.get(MODELS, "").split(os.pathsep) if one]
    home = Path(os.environ.get("HF_HOME", os.path.expanduser("~/.cache/huggingface")))
    hub = Path(os.environ.get("HF_HUB_CACHE", home / "hub"))
    folders = [*places, *(below for place in places for below in place.glob("*/"))]
    folders += hub.glob("models--*/snapshots/*/")
    kept = {folder.resolve(): folder for folder in folders if _is_encoder(folder)}
    return sorted(kept.values(), key=_suitability)


def _is_encoder(folder: Path) -> bool:
    names = (*FILES, "tokenizer.json")
    if not all((folder / name).is_file() for name in names):
        return False
    try:
        config = json.loads((folder / "config.json").read_text(encoding="utf-8"))
    except (ValueError, OSError):
        return False
    return isinstance(config, dict) and config.get("model_type") == "bert"


def _suitability(folder: Path) -> tuple:
    size = (folder / FILES[1]).stat().st_size
    return not (folder / "modules.json").is_file(), size, str(folder)


def most_tokens(weights: Path | str) -> int:
    """Return the number of tokens that an encoder takes at most, without its weights.

    Raises:
        InputError: The configuration cannot be read.
    """
    check(weights, 3)
    path = Path(weights) / "config.json"
    config = files.read_json(path) if path.is_file() else {}
    known = config.get("max_position_embeddings")
    if known is None:
        known = _of_preset("BertBackbone", weights, load_weights=False)
        known = known.max_sequence_length
    return int(known)


def vocabulary(preset: Path | str) -> tuple[list[str], bool]:
    """Return the pieces of words that an encoder of KerasHub knows, by their ids.

    Args:
        preset: Name of the preset, or a folder that `save_to_preset` wrote.

    Returns:
        The pieces, and whether texts become lower case.

    Raises:
        InputError: KerasHub is not installed, or the preset has no such tokenizer.
    """
    tokenizer = _of_preset("BertTokenizer", preset)
    pieces = [str(piece) for piece in tokenizer.get_vocabulary()]
    return pieces, bool(tokenizer.get_config()["lowercase"])


def _of_preset(kind, preset, **options):
    """Load an object of KerasHub."""
    errors.check_installed("keras_hub", extra="text")
    environment.use_standard_keras()
    import keras_hub

    untrusted.check_preset(preset)
    try:
        return getattr(keras_hub.models, kind).from_preset(str(preset), **options)
    except Exception as error:  # KerasHub raises nearly any type.
        raise errors.InputError(
            f"The encoder {preset} cannot be loaded: {errors.reason(error)}."
        ) from error


def pooled(
    bert: keras.Model, sequence_length: int, name: str, pooling: Pooling = "mean"
) -> keras.Model:
    """Build a flat model with one input on the layers of a KerasHub `BertBackbone`.

    Args:
        bert: The backbone; its layers are shared.
        sequence_length: Number of tokens of a text.
        name: Name of the model.
        pooling: See `load`.
    """
    tokens = keras.Input((sequence_length,), dtype="int32", name="token_ids")
    mask = ops.not_equal(tokens, 0)
    embedded = bert.token_embedding(tokens)
    position = bert.position_embedding(embedded)
    # All tokens are of the first of two segments.
    segment = bert.segment_embedding(ops.zeros_like(tokens))
    x = bert.embeddings_add((embedded, position, segment))
    x = bert.embeddings_layer_norm(x)
    for layer in bert.transformer_layers:
        x = layer(x, padding_mask=mask)
    return keras.Model(tokens, pool(x, mask, pooling), name=name)


def pool(
    x: keras.KerasTensor, mask: keras.KerasTensor, pooling: Pooling = "mean"
) -> keras.KerasTensor:
    """Pool the outputs of all tokens; the last layer is called `pool`.

    Args:
        x: `(batch, tokens, width)`.
        mask: bool `(batch, tokens)`, at least one `True` in each row.
        pooling: See `Pooling`.

    Returns:
        `(batch, width)`.

    Raises:
        InputError: Another pooling.

    >>> x = ops.array([[[1.0, 5.0], [3.0, 4.0], [9.0, 9.0]]])
    >>> mask = ops.array([[True, True, False]])
    >>> [pool(x, mask, how).numpy().tolist() for how in ("mean", "cls", "max")]
    [[[2.0, 4.5]], [[1.0, 5.0]], [[3.0, 5.0]]]
    """
    if pooling == "mean":
        return keras.layers.GlobalAveragePooling1D(name="pool")(x, mask=mask)
    if pooling == "cls":
        return keras.layers.Identity(name="pool")(x[:, 0])
    if pooling == "max":
        # Far below any output, and a number in half precision, too.
        x = ops.where(mask[..., None], x, ops.cast(-1e4, x.dtype))
        return keras.layers.GlobalMaxPooling1D(name="pool")(x)
    raise errors.unknown("pooling", pooling, get_args(Pooling))
