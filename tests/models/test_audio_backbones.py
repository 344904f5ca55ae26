import keras
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from keras_tl import errors
from keras_tl.data import waves
from keras_tl.models import audio_backbones, freezing, heads, log_mel, splitting

SAMPLES = audio_backbones.SAMPLES


@pytest.fixture(scope="module")
def embedding():
    """The architecture with random weights."""
    return audio_backbones.speech_embedding(None)


@pytest.fixture(scope="module")
def front():
    return log_mel.google(1000)


def slow_log_mel(wave, bands=32):
    """Compute the log-mel spectrogram frame by frame, by numpy's Fourier transform."""
    window = 0.5 - 0.5 * np.cos(2 * np.pi * np.arange(400) / 400)
    weights = log_mel.mel_bands(bands).astype("float64")
    rows = []
    for start in range(0, len(wave) - 512 + 1, 160):
        frame = 32768 * wave[start + 56 : start + 456].astype("float64") * window
        rows.append(np.abs(np.fft.rfft(frame, 512)) ** 2 @ weights)
    decibels = 10 * np.log10(np.maximum(rows, 1e-10))
    return np.maximum(decibels, decibels.max() - 80) / 10 + 2


@settings(max_examples=20, deadline=None)
@given(st.integers(0, 2**32 - 1), st.sampled_from([1e-4, 0.03, 0.9]))
def test_log_mel_is_what_numpy_computes_frame_by_frame(front, seed, loudness):
    rng = np.random.default_rng(seed)
    wave = rng.uniform(-loudness, loudness, 1000).astype("float32")
    ours = np.asarray(front(wave[None]))[0, ..., 0]
    np.testing.assert_allclose(ours, slow_log_mel(wave), atol=1e-4)


def test_a_clip_does_not_depend_on_the_others_of_its_batch(front):
    rng = np.random.default_rng(0)
    waves = rng.normal(0, [[0.3], [1e-5]], (2, 1000)).clip(-1, 1).astype("float32")
    both, alone = front(waves), front(waves[1:])
    np.testing.assert_allclose(both[1:], alone, atol=1e-5)


def test_mel_bands_are_triangles_of_area_one():
    weights = log_mel.mel_bands(32)
    hertz = np.linspace(0, 8000, 257)
    inside = hertz[weights.any(axis=1)]
    assert inside.min() > 60
    assert inside.max() < 3800
    peaks = weights.argmax(axis=0)
    assert (np.diff(peaks) > 0).all()
    np.testing.assert_allclose(weights.sum(axis=0) * 8000 / 256, 1, atol=0.03)


def test_the_front_end_stays_frozen_and_float32(front):
    keras.config.set_dtype_policy("mixed_float16")
    try:
        model = heads.attach(audio_backbones.speech_embedding(None), 3)
        halves = log_mel.google(1000)
    finally:
        keras.config.set_dtype_policy("float32")
    freezing.unfreeze(model)
    frozen = {layer.name for layer in model.layers if layer.weights}
    frozen -= {layer.name for layer in model.layers if layer.trainable_weights}
    assert frozen == {"log_mel_spectrum", "log_mel_mel"}
    wave = np.random.default_rng(0).normal(0, 0.1, (1, 1000)).astype("float32")
    np.testing.assert_array_equal(halves(wave), front(wave))


def test_the_embedding_has_blocks_that_can_be_cut_and_unfrozen(embedding):
    assert embedding.output.shape == (None, 1, 1, 96)
    names = [f"block{number}" for number in range(1, 7)]
    assert list(freezing.blocks(embedding)) == names
    model = heads.attach(embedding, 3)
    freezing.unfreeze_blocks(model, 2)
    trains = {weight.path.split("_")[0] for weight in model.trainable_weights}
    assert trains == {"block5", "block6", "logits/kernel", "logits/bias"}
    waves = np.random.default_rng(0).normal(0, 0.1, (2, SAMPLES)).astype("float32")
    _, cut = splitting.frozen_cut(model)
    stem, tail = splitting.split_at(model, cut)
    np.testing.assert_allclose(tail(stem(waves)), model(waves), atol=1e-5)


def test_saved_and_loaded_it_is_bit_equal_without_code_of_ours(embedding, tmp_path):
    embedding.save(tmp_path / "model.keras")
    loaded = keras.models.load_model(tmp_path / "model.keras", custom_objects={})
    waves = np.random.default_rng(0).normal(0, 0.1, (2, SAMPLES)).astype("float32")
    np.testing.assert_array_equal(loaded(waves), embedding(waves))


@pytest.mark.slow
@pytest.mark.parametrize("build", ["embedding", "log_mel_cnn"])
def test_litert_computes_the_same(embedding, tmp_path, build):
    interpreter = pytest.importorskip("ai_edge_litert.interpreter")
    model = embedding if build == "embedding" else audio_backbones.log_mel_cnn()
    model.export(tmp_path / "model.tflite", format="litert", verbose=False)
    waves = np.random.default_rng(0).normal(0, 0.1, (1, SAMPLES)).astype("float32")
    ours = np.asarray(model(waves))
    theirs = run(interpreter.Interpreter(str(tmp_path / "model.tflite")), waves)
    np.testing.assert_allclose(theirs, ours, atol=1e-3 * np.abs(ours).max())


def run(model, values):
    model.resize_tensor_input(model.get_input_details()[0]["index"], values.shape)
    model.allocate_tensors()
    model.set_tensor(model.get_input_details()[0]["index"], values)
    model.invoke()
    return model.get_tensor(model.get_output_details()[0]["index"])


@pytest.mark.real
def test_the_embedding_equals_googles(real_data, real_model):
    interpreter = pytest.importorskip("ai_edge_litert.interpreter")
    pytest.importorskip("soundfile")
    folder = real_model("speech")
    mel, embedding = (
        interpreter.Interpreter(str(folder / f"{name}.tflite"))
        for name in ("melspectrogram", "embedding_model")
    )
    ours = audio_backbones.speech_embedding(folder)
    front = log_mel.google()
    clips = sorted((real_data / "data" / "spoken_digits").glob("*.wav"))[::500]
    for clip in clips:
        wave = waves.decode(clip, log_mel.RATE, SAMPLES)[None]
        wanted = run(mel, 32768 * wave)[0] / 10 + 2
        np.testing.assert_allclose(front(wave)[..., 0], wanted, atol=1.5e-4)
        features = run(embedding, wanted[..., None])
        np.testing.assert_allclose(ours(wave), features, atol=1.5e-4)


def test_what_cannot_be_loaded_is_one_sentence(tmp_path, monkeypatch):
    with pytest.raises(errors.InputError, match="folder that has embedding_model"):
        audio_backbones.speech_embedding(tmp_path)
    pytest.importorskip("ai_edge_litert")
    (tmp_path / audio_backbones.FILE).write_bytes(b"no model")
    with pytest.raises(errors.InputError, match="cannot be read"):
        audio_backbones.speech_embedding(tmp_path)
    monkeypatch.setattr(audio_backbones, "_constants", lambda path: {})
    with pytest.raises(errors.InputError, match="not Google's speech embedding"):
        audio_backbones.speech_embedding(tmp_path)
    with pytest.raises(errors.InputError, match="samples"):
        log_mel.google(511)
