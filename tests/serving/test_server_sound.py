"""A server of runs that take sound: files in, answers out, within limits."""

import base64
import io

import numpy as np
import pytest
from fastapi.testclient import TestClient

from keras_tl.data import audio
from keras_tl.deploy import artifact
from keras_tl.serving import server
from keras_tl.serving.uploads import Limits

soundfile = pytest.importorskip("soundfile")


@pytest.fixture
def client(sound_run, tmp_path):
    """A client of a server with a run that takes sound."""
    limits = Limits(body=200_000, clip_seconds=2)
    app = server.make_app(
        {"tones": sound_run[0]}, limits=limits, corrections=tmp_path / "kept"
    )
    with TestClient(app, "http://localhost", raise_server_exceptions=False) as client:
        yield client


def content(seconds=0.3, rate=16_000, pitch=2_500, **options):
    wave = 0.5 * np.sin(2 * np.pi * pitch * np.arange(round(seconds * rate)) / rate)
    buffer = io.BytesIO()
    soundfile.write(buffer, wave, rate, **{"format": "WAV", **options})
    return buffer.getvalue()


def post(client, *contents, path="/v1/predict", **fields):
    uploads = [("clips", (f"{n}.wav", one)) for n, one in enumerate(contents)]
    return client.post(path, files=uploads, data=fields)


def test_a_served_clip_is_prepared_exactly_as_by_the_artefact(client, sound_run):
    contents = [content(), content(format="FLAC"), content(pitch=200, rate=8_000)]
    response = post(client, *contents, nearest=2)
    assert response.status_code == 200, response.text
    results = response.json()["answers"][0]["results"]
    loaded = artifact.load(sound_run[0])
    for result, wanted in zip(results, loaded.predict(contents), strict=True):
        given = {one["name"]: one["probability"] for one in result["values"]}
        named = dict(zip(loaded.class_names, wanted.tolist(), strict=True))
        assert given == pytest.approx(named, abs=1e-6)
        assert len(result["nearest"]) == 2
        assert base64.b64decode(result["nearest"][0]["jpeg"])
    assert results[2]["values"][0]["name"] == "low"
    encoded = [base64.b64encode(one).decode() for one in contents]
    as_json = client.post("/v1/predict", json={"clips": encoded, "nearest": 2})
    assert as_json.json() == response.json()


def test_clients_are_told_what_sound_a_model_takes(client):
    described = client.get("/v1/models").json()
    (model,) = described["models"]
    assert (model["kind"], model["rate"], model["clip_seconds"]) == (
        "audio",
        8_000,
        0.2,
    )
    assert described["limits"]["clip_seconds"] == 2


@pytest.mark.parametrize(
    ("clip", "message"),
    [
        (b"", "The clip is empty (0 bytes)."),
        (b"no sound", "The clip cannot be decoded: "),
        (content(2.1, 8_000), "The clip is longer than 2 seconds; cut it into clips."),
        (content()[:500], "The clip is truncated: "),
    ],
    ids=["empty", "text", "long", "cut"],
)
def test_a_clip_that_cannot_be_used_is_refused_in_a_sentence(client, clip, message):
    response = post(client, clip)
    assert response.status_code == 422
    error = response.json()["error"]
    assert error.startswith(message)
    assert "0x" not in error
    results = post(client, clip, content()).json()["answers"][0]["results"]
    assert results[0]["error"] == error
    assert results[1]["answer"] == "high"


def test_other_inputs_are_refused_in_a_sentence(client):
    wrong = client.post("/v1/predict", files=[("images", ("a.png", b"x"))])
    assert wrong.status_code == 422
    assert wrong.json()["error"] == "The model takes clips, and images came."
    both = client.post("/v1/predict", json={"clips": ["aGk="], "texts": ["a"]})
    assert both.json()["error"] == "`clips` and `texts` cannot be given together."
    none = client.post("/v1/predict", json={})
    assert none.json()["error"].startswith("`images`, `clips` or `texts` must hold")
    large = post(client, content(10, 44_100))
    assert large.status_code == 413


def test_corrections_become_a_folder_that_training_takes(client, tmp_path):
    for number in range(4):
        for label, pitch in (("low", 200), ("high", 2_000)):
            clip = content(
                pitch=pitch * 1.2**number, format=("WAV", "FLAC")[number % 2]
            )
            assert post(client, clip, path="/v1/correct", label=label).is_success
    again = post(client, content(pitch=200), path="/v1/correct", label="high")
    assert again.json() == {"model": "tones", "kept": 8}
    kept = sorted(path.suffix for path in (tmp_path / "kept").rglob("*.*"))
    assert kept == [".flac"] * 4 + [".wav"] * 4
    data = audio.from_folder(tmp_path / "kept" / "tones", rate=8_000, seconds=0.2)
    assert data.class_names == ("high", "low")
