"""Whisper's encoder is what it is elsewhere, in layers that train and are saved."""

import json
import math
import os
import struct
from pathlib import Path

import keras
import numpy as np
import pytest

from keras_tl import errors
from keras_tl.data import waves
from keras_tl.models import audio_backbones, freezing, heads, log_mel, splitting

SAMPLES = 3200


@pytest.fixture(scope="module")
def encoder(tiny_whisper):
    return audio_backbones.whisper(tiny_whisper, samples=SAMPLES)


def clips(count=2, samples=SAMPLES):
    rng = np.random.default_rng(0)
    return rng.normal(0, 0.1, (count, samples)).astype("float32")


def slow_log_mel(wave, bands):
    """Compute what Whisper takes frame by frame, by numpy's Fourier transform."""
    window = 0.5 - 0.5 * np.cos(2 * np.pi * np.arange(400) / 400)
    weights = log_mel.mel_bands(bands, low=0, high=8000, fft=400).astype("float64")
    padded = np.pad(wave.astype("float64"), 200, mode="reflect")
    frames = [padded[start : start + 400] for start in range(0, len(wave) - 159, 160)]
    rows = [np.abs(np.fft.rfft(frame * window)) ** 2 @ weights for frame in frames]
    logs = np.log10(np.maximum(rows, 1e-10))
    return (np.maximum(logs, logs.max() - 8) + 4) / 4


def slow_encoder(tensors, config, mel):
    """Compute the mean of Whisper's outputs step by step, for one clip."""
    width, heads_count = config["d_model"], config["encoder_attention_heads"]
    tensors = {
        name.split("encoder.")[-1]: value.astype("float64")
        for name, value in tensors.items()
        if ".encoder." in name
    }

    def linear(x, name):
        bias = tensors.get(f"{name}.bias", 0)
        return x @ tensors[f"{name}.weight"].T + bias

    def norm(x, name):
        centred = x - x.mean(-1, keepdims=True)
        scaled = centred / np.sqrt(x.var(-1, keepdims=True) + 1e-5)
        return scaled * tensors[f"{name}.weight"] + tensors[f"{name}.bias"]

    def gelu(x):
        return x * (1 + np.vectorize(math.erf)(x / math.sqrt(2))) / 2

    def convolve(x, name, step):
        kernel = tensors[f"{name}.weight"]
        x = np.pad(x, [(1, 1), (0, 0)])
        rows = [
            np.einsum("kc,ock->o", x[start : start + 3], kernel)
            for start in range(0, len(x) - 2, step)
        ]
        return gelu(np.array(rows) + tensors[f"{name}.bias"])

    x = convolve(convolve(mel, "conv1", 1), "conv2", 2)
    x = x + tensors["embed_positions.weight"][: len(x)]
    for index in range(config["encoder_layers"]):
        part = f"layers.{index}"
        y = norm(x, f"{part}.self_attn_layer_norm")
        q, k, v = (
            linear(y, f"{part}.self_attn.{one}_proj").reshape(len(y), heads_count, -1)
            for one in "qkv"
        )
        scores = np.einsum("qhd,khd->hqk", q, k) / math.sqrt(width // heads_count)
        shares = np.exp(scores - scores.max(-1, keepdims=True))
        shares /= shares.sum(-1, keepdims=True)
        y = np.einsum("hqk,khd->qhd", shares, v).reshape(len(y), width)
        x = x + linear(y, f"{part}.self_attn.out_proj")
        y = gelu(linear(norm(x, f"{part}.final_layer_norm"), f"{part}.fc1"))
        x = x + linear(y, f"{part}.fc2")
    return norm(x, "layer_norm").mean(axis=0)


def slow_features(folder, wave):
    from safetensors.numpy import load_file

    config = json.loads((folder / "config.json").read_text())
    mel = slow_log_mel(wave, config["num_mel_bins"])
    return slow_encoder(load_file(folder / "model.safetensors"), config, mel)


def test_the_encoder_is_what_numpy_computes_step_by_step(encoder, tiny_whisper):
    wanted = [slow_features(tiny_whisper, wave) for wave in clips()]
    np.testing.assert_allclose(encoder(clips()), wanted, atol=1e-4)


@pytest.mark.parametrize("samples", [640, 3359])
def test_the_spectrogram_is_what_numpy_computes_at_any_length(samples):
    (wave,) = clips(1, samples)
    ours = log_mel.whisper(samples, bands=80)(wave[None])[0]
    np.testing.assert_allclose(ours, slow_log_mel(wave, 80), atol=1e-4)


def test_weights_of_keras_hub_give_what_keras_hub_computes(tmp_path):
    keras_hub = pytest.importorskip("keras_hub")
    theirs = keras_hub.models.WhisperBackbone(
        vocabulary_size=5,
        num_layers=2,
        num_heads=2,
        hidden_dim=8,
        intermediate_dim=16,
        num_mels=10,
        max_encoder_sequence_length=100,
        max_decoder_sequence_length=4,
    )
    rng = np.random.default_rng(0)
    for variable in theirs.variables:
        variable.assign(rng.normal("gamma" in variable.path, 0.3, variable.shape))
    theirs.save_to_preset(str(tmp_path))
    ours = audio_backbones.whisper(tmp_path, samples=SAMPLES)
    mel = np.asarray(log_mel.whisper(SAMPLES, bands=10)(clips()))
    tokens = np.ones((2, 4), "int32")
    inputs = {"encoder_features": mel, "decoder_token_ids": tokens}
    inputs["decoder_padding_mask"] = tokens
    wanted = np.asarray(theirs(inputs)["encoder_sequence_output"]).mean(axis=1)
    np.testing.assert_allclose(ours(clips()), wanted, atol=1e-4)


def test_its_blocks_train_and_its_formulas_never_do(encoder):
    assert list(freezing.blocks(encoder)) == ["block1", "block2"]
    model = heads.attach(encoder, 3)
    freezing.unfreeze_blocks(model, 1)
    trains = {weight.path.split("_")[0] for weight in model.trainable_weights}
    assert trains == {"block2", "last", "logits/kernel", "logits/bias"}
    _, cut = splitting.frozen_cut(model)
    stem, tail = splitting.split_at(model, cut)
    np.testing.assert_allclose(tail(stem(clips())), model(clips()), atol=1e-5)
    freezing.unfreeze(model)
    frozen = {weight.path.split("/")[0] for weight in model.non_trainable_weights}
    assert frozen == {"log_mel_spectrum", "log_mel_mel", "log_mel_positions"}


def test_saved_and_loaded_it_is_bit_equal_without_code_of_others(encoder, tmp_path):
    encoder.save(tmp_path / "model.keras")
    loaded = keras.models.load_model(tmp_path / "model.keras", custom_objects={})
    np.testing.assert_array_equal(loaded(clips()), encoder(clips()))
    modules = {type(layer).__module__.split(".")[0] for layer in loaded.layers}
    assert modules == {"keras"}


@pytest.mark.slow
def test_litert_computes_the_same(encoder, tmp_path):
    interpreter = pytest.importorskip("ai_edge_litert.interpreter")
    encoder.export(tmp_path / "model.tflite", format="litert", verbose=False)
    model = interpreter.Interpreter(str(tmp_path / "model.tflite"))
    place = model.get_input_details()[0]["index"]
    model.resize_tensor_input(place, (1, SAMPLES))
    model.allocate_tensors()
    model.set_tensor(place, clips(1))
    model.invoke()
    ours = np.asarray(encoder(clips(1)))
    theirs = model.get_tensor(model.get_output_details()[0]["index"])
    np.testing.assert_allclose(theirs, ours, atol=1e-3 * np.abs(ours).max())


def test_what_cannot_be_loaded_is_one_sentence(tiny_whisper, tmp_path):
    from safetensors.numpy import load_file, save_file

    load = audio_backbones.whisper
    with pytest.raises(errors.InputError, match=r"folder that has config\.json and"):
        load(tmp_path)
    config = json.loads((tiny_whisper / "config.json").read_text())
    (tmp_path / "config.json").write_text("{")
    with pytest.raises(errors.InputError, match="cannot be read"):
        load(tmp_path)
    (tmp_path / "config.json").write_text(json.dumps(config | {"model_type": "bert"}))
    with pytest.raises(errors.InputError, match="of Whisper"):
        load(tmp_path)
    (tmp_path / "config.json").write_text(json.dumps(config))
    with pytest.raises(errors.InputError, match=r"that has model\.safetensors"):
        load(tmp_path)
    (tmp_path / "model.safetensors").write_bytes(b"no tensors")
    with pytest.raises(errors.InputError, match="cannot be read"):
        load(tmp_path)
    tensors = load_file(tiny_whisper / "model.safetensors")
    name = "model.encoder.layers.1.fc1.weight"
    for wrong in ({}, {name: np.ones((3, 3), "float32")}):
        others = {key: value for key, value in tensors.items() if key != name}
        save_file(others | wrong, tmp_path / "model.safetensors")
        with pytest.raises(errors.InputError, match="block2_mlp_in/kernel is missing"):
            load(tmp_path)
    for samples, message in ((639, "at least 640"), (480_001, "at most 480,000")):
        with pytest.raises(errors.InputError, match=message):
            load(tiny_whisper, samples=samples)


def test_keras_hub_names_what_it_cannot_load(tmp_path):
    pytest.importorskip("keras_hub")
    with pytest.raises(errors.InputError, match="Whisper cannot be loaded from"):
        audio_backbones.whisper(tmp_path / "absent")


def of_ctranslate2(path):
    """Read `model.bin` of CTranslate2, version 6, as Hugging Face lays Whisper out."""
    data, place = path.read_bytes(), 0

    def number(kind):
        nonlocal place
        (value,) = struct.unpack_from(f"<{kind}", data, place)
        place += struct.calcsize(f"<{kind}")
        return value

    def text():
        nonlocal place
        length = number("H")
        place += length
        return data[place - length : place].rstrip(b"\0").decode()

    dtypes = {0: "float32", 1: "int8", 2: "int16", 3: "int32", 4: "float16"}
    number("I"), text(), number("I")
    tensors = {}
    for _ in range(number("I")):
        name = text()
        shape = [number("I") for _ in range(number("B"))]
        dtype = np.dtype(dtypes[number("B")])
        size = number("I")
        values = np.frombuffer(data, dtype, size // dtype.itemsize, place)
        place += size
        tensors |= renamed(name, values.reshape(shape))
    return tensors


def renamed(name, value):
    names = {
        "layer_": "layers.",
        "self_attention/layer_norm": "self_attn_layer_norm",
        "self_attention/linear_0": "self_attn.qkv",
        "self_attention/linear_1": "self_attn.out_proj",
        "ffn/layer_norm": "final_layer_norm",
        "ffn/linear_0": "fc1",
        "ffn/linear_1": "fc2",
        "position_encodings/encodings": "embed_positions.weight",
        "gamma": "weight",
        "beta": "bias",
    }
    for theirs, ours in sorted(names.items(), key=lambda pair: -len(pair[0])):
        name = name.replace(theirs, ours)
    name = f"model.{name}".replace("layers.norm", "layer_norm").replace("/", ".")
    if ".encoder." not in name or name.endswith("num_heads"):
        return {}
    if ".qkv." not in name:
        return {name: value}
    each = zip("qkv", np.split(value, 3), strict=True)
    parts = {name.replace("qkv", f"{one}_proj"): part for one, part in each}
    return {k: v for k, v in parts.items() if not k.endswith("k_proj.bias")}


def save_real(source, folder):
    """Save Whisper tiny.en as Hugging Face lays it out."""
    from safetensors.numpy import save_file

    tensors = {k: np.ascontiguousarray(v) for k, v in of_ctranslate2(source).items()}
    save_file(tensors, folder / "model.safetensors")
    config = {
        "model_type": "whisper",
        "d_model": 384,
        "encoder_layers": 4,
        "encoder_attention_heads": 6,
        "encoder_ffn_dim": 1536,
        "num_mel_bins": 80,
    }
    (folder / "config.json").write_text(json.dumps(config))
    return folder


@pytest.mark.real
def test_tiny_en_is_what_numpy_computes(real_data, tmp_path):
    pytest.importorskip("soundfile")
    cache = os.environ.get("KERAS_TL_REAL", "~/.cache/keras_tl_real")
    source = Path(cache).expanduser() / "whisper_tiny_en" / "model.bin"
    if not source.is_file():
        pytest.skip(f"{source} is not there: python prepare.py whisper")
    folder = save_real(source, tmp_path)
    encoder = audio_backbones.whisper(folder)
    for clip in sorted((real_data / "data" / "spoken_digits").glob("*.wav"))[::1500]:
        wave = waves.decode(clip, log_mel.RATE, log_mel.SAMPLES)
        wanted = slow_features(folder, wave)
        np.testing.assert_allclose(encoder(wave[None])[0], wanted, atol=1e-3)
