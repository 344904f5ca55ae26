import os
import subprocess
import sys
from pathlib import Path

import keras
import numpy as np
import pytest

from keras_tl import errors
from keras_tl.models import freezing, heads, splitting, text_backbones

ROOT = Path(__file__).parents[2]
TOKENS = np.array([[2, 4, 5, 7, 3, 0], [2, 6, 3, 0, 0, 0]], "int32")


@pytest.fixture(scope="module")
def encoder(tiny_bert):
    return text_backbones.load(tiny_bert, sequence_length=6)


def test_it_is_the_mean_of_keras_hubs_outputs_without_those_that_fill_up(
    encoder, tiny_bert
):
    import keras_hub

    bert = keras_hub.models.BertBackbone.from_preset(str(tiny_bert))
    mask = TOKENS != 0
    given = {"token_ids": TOKENS, "padding_mask": mask, "segment_ids": 0 * TOKENS}
    outputs = np.asarray(bert.predict(given, verbose=0)["sequence_output"])
    wanted = (outputs * mask[..., None]).sum(1) / mask.sum(1)[:, None]
    np.testing.assert_allclose(encoder.predict(TOKENS, verbose=0), wanted, atol=1e-5)


@pytest.mark.parametrize("pooling", ["cls", "max"])
def test_other_poolings_leave_out_what_fills_up_as_well(pooling, tiny_bert):
    import keras_hub

    bert = keras_hub.models.BertBackbone.from_preset(str(tiny_bert))
    mask = TOKENS != 0
    given = {"token_ids": TOKENS, "padding_mask": mask, "segment_ids": 0 * TOKENS}
    outputs = np.asarray(bert.predict(given, verbose=0)["sequence_output"])
    rows = [row[kept] for row, kept in zip(outputs, mask, strict=True)]
    wanted = [row[0] if pooling == "cls" else row.max(axis=0) for row in rows]
    encoder = text_backbones.load(tiny_bert, sequence_length=6, pooling=pooling)
    np.testing.assert_allclose(encoder.predict(TOKENS, verbose=0), wanted, atol=1e-5)
    freezing.freeze(encoder)
    model = heads.attach(encoder, 2)
    assert splitting.frozen_cut(model)[0] == "pool"
    assert model.get_layer("pool").output.shape == (None, 8)


def test_a_text_is_what_it_is_however_far_it_is_filled_up(encoder, tiny_bert):
    longer = text_backbones.load(tiny_bert, sequence_length=12)
    padded = np.pad(TOKENS, [(0, 0), (0, 6)])
    np.testing.assert_allclose(
        longer.predict(padded, verbose=0),
        encoder.predict(TOKENS, verbose=0),
        atol=1e-5,
    )


def test_its_blocks_are_its_layers_and_a_frozen_one_is_cut_off(encoder):
    assert list(freezing.blocks(encoder)) == [
        "transformer_layer_0",
        "transformer_layer_1",
    ]
    freezing.freeze(encoder)
    model = heads.attach(encoder, 2)
    assert model.get_layer("transformer_layer_1")
    name, tensor = splitting.frozen_cut(model)
    assert name == "pool"
    stem, tail = splitting.split_at(model, tensor)
    np.testing.assert_allclose(tail(stem(TOKENS)), model(TOKENS), atol=1e-6)
    freezing.unfreeze_blocks(model, 1)
    trains = {weight.path.split("/")[0] for weight in model.trainable_weights}
    assert trains == {"transformer_layer_1", "logits"}


@pytest.mark.slow
def test_saved_and_loaded_in_another_process_it_is_bit_equal(encoder, tmp_path):
    model = heads.attach(encoder, 2)
    model.save(tmp_path / "model.keras")
    np.save(tmp_path / "wanted.npy", model(TOKENS))
    script = f"""
import numpy as np
from keras_tl.deploy import artifact
model = artifact.load_model({str(tmp_path / "model.keras")!r})
tokens = np.array({TOKENS.tolist()}, "int32")
wanted = np.load({str(tmp_path / "wanted.npy")!r})
np.testing.assert_array_equal(model(tokens), wanted)
"""
    subprocess.run(
        [sys.executable, "-c", script],
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        check=True,
    )


def test_heads_pool_by_the_rank_of_what_they_get():
    for shape in ((4, 5, 3), (7, 3), (3,)):
        x = keras.Input(shape)
        assert heads.attach(keras.Model(x, x), 2).output.shape == (None, 2)


def test_what_cannot_be_loaded_is_one_sentence(tiny_bert, tmp_path, monkeypatch):
    with pytest.raises(errors.InputError, match="at most 16"):
        text_backbones.load(tiny_bert, sequence_length=17)
    with pytest.raises(errors.InputError, match="sequence_length=2"):
        text_backbones.load(tiny_bert, sequence_length=2)
    with pytest.raises(errors.InputError, match="pooling"):
        text_backbones.load(tiny_bert, sequence_length=6, pooling="sum")
    with pytest.raises(errors.InputError, match="Missing: config.json, model"):
        text_backbones.load(tmp_path)
    (tmp_path / "config.json").write_text("{}")
    (tmp_path / "model.safetensors").write_bytes(b"")
    with pytest.raises(errors.InputError, match="cannot be loaded"):
        text_backbones.load(tmp_path)
