"""Load pretrained encoders of text, of the BERT family, through KerasHub.

Needs the extra `text`. Of a text, a model takes token ids, see `data.text`; it knows by
their value 0 which of them only fill up a short text.
"""

from pathlib import Path
from typing import get_args

import keras
from keras import ops

from keras_tl import environment, errors
from keras_tl.models.settings import Pooling

# Files that a folder of a model has, as Hugging Face lays it out.
FILES = ("config.json", "model.safetensors")


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
        weights: A folder of a model of the BERT family, as Hugging Face lays it out, or
            the name of a preset of KerasHub, which is then downloaded.
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
    environment.use_standard_keras()
    import keras_hub

    try:
        bert = keras_hub.models.BertBackbone.from_preset(str(weights), dropout=0.0)
    except Exception as error:  # KerasHub raises nearly any type.
        reason = str(error).strip().splitlines() or [type(error).__name__]
        raise errors.InputError(
            f"The encoder {weights} cannot be loaded: {reason[0]}"
        ) from error
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
    if folder.is_dir() and missing:
        raise errors.expected(
            "weights",
            f"be a folder that has {' and '.join(FILES)}",
            str(weights),
            f"Missing: {', '.join(missing)}.",
        )


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
