import asyncio
import base64
import io
import json
import re
import shutil
import struct
import threading
import zlib

import numpy as np
import pytest
from fastapi.testclient import TestClient
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from PIL import Image

from keras_tl import errors, files
from keras_tl.data import datasets, tables
from keras_tl.deploy import artifact, compiled
from keras_tl.models import saving
from keras_tl.serving import corrections, guard, hosting, server
from keras_tl.serving.corrections import Corrections
from keras_tl.serving.uploads import Limits

TOKEN = "a-token-that-is-long"


def client_of(folder, name="tiny", **options):
    app = server.make_app({name: folder}, **options)
    return TestClient(app, "http://localhost", raise_server_exceptions=False)


@pytest.fixture
def client(served):
    """A client of a server with one small run."""
    with client_of(served) as client:
        yield client


def photo(height=20, width=30, seed=0):
    """Random pixels, coarse enough for JPEG."""
    pixels = np.random.default_rng(seed).integers(0, 256, (4, 5, 3), dtype="uint8")
    return Image.fromarray(pixels).resize((width, height))


def saved(image, kind="PNG", **options):
    file = io.BytesIO()
    image.save(file, kind, **options)
    return file.getvalue()


def turned():
    exif = Image.Exif()
    exif[0x0112] = 6
    return saved(photo(), "JPEG", exif=exif)


def deep():
    pixels = np.random.default_rng(1).integers(0, 65536, (9, 9), dtype="uint16")
    return saved(Image.fromarray(pixels))


KINDS = {
    "jpeg": saved(photo(), "JPEG"),
    "large jpeg": saved(photo(1200, 1600), "JPEG"),
    "cmyk": saved(photo().convert("CMYK"), "JPEG"),
    "turned": turned(),
    "png": saved(photo()),
    "transparent": saved(photo().convert("RGBA")),
    "palette": saved(photo().convert("P")),
    "grey": saved(photo().convert("L")),
    "16 bits": deep(),
    "webp": saved(photo(), "WEBP"),
    "tiff": saved(photo(), "TIFF"),
}


def post(client, *contents, **fields):
    """Ask for predictions with a form."""
    uploads = [("images", (f"{n}.png", one)) for n, one in enumerate(contents)]
    return client.post("/v1/predict", files=uploads, data=fields)


def values(response, model=0):
    assert response.status_code == 200, response.text
    rows = response.json()["answers"][model]["results"]
    return [{v["name"]: v["probability"] for v in row["values"]} for row in rows]


def expected(folder, inputs):
    loaded = artifact.load(folder)
    rows = loaded.predict(inputs)
    return [dict(zip(loaded.class_names, row.tolist(), strict=True)) for row in rows]


def test_a_served_image_is_prepared_exactly_as_by_the_artefact(client, served):
    contents = list(KINDS.values())
    assert values(post(client, *contents)) == expected(served, contents)


def test_a_form_and_base64_give_the_same(client):
    contents = [KINDS["jpeg"], KINDS["png"]]
    encoded = [base64.b64encode(one).decode() for one in contents]
    encoded[1] = f"data:image/png;base64,{encoded[1]}"
    as_json = client.post("/v1/predict", json={"images": encoded})
    assert values(as_json) == values(post(client, *contents))


def test_the_answer_is_the_likeliest_class_and_top_bounds_the_list(client):
    response = post(client, KINDS["jpeg"], top=2)
    (result,) = response.json()["answers"][0]["results"]
    shown = [one["probability"] for one in result["values"]]
    assert len(shown) == 2
    assert shown == sorted(shown, reverse=True)
    assert result["answer"] == result["values"][0]["name"]


def test_a_model_that_abstains_has_no_answer(served, change_rules):
    rule = {"precision": 0.95, "threshold": 0.9999, "coverage": 0.1}
    change_rules(served, abstain=rule)
    with client_of(served) as client:
        (result,) = post(client, KINDS["jpeg"]).json()["answers"][0]["results"]
    assert (result["answer"], result["is_sure"]) == (None, False)
    assert len(result["values"]) == 3


def test_a_model_with_a_rule_for_abstaining_says_that_it_is_sure(served, change_rules):
    change_rules(served, abstain={"precision": 0.95, "threshold": 0.0, "coverage": 1.0})
    with client_of(served) as client:
        (result,) = post(client, KINDS["jpeg"]).json()["answers"][0]["results"]
    assert result["is_sure"] is True
    assert result["answer"] == result["values"][0]["name"]


@pytest.mark.parametrize("activation", ["softmax", "sigmoid", "linear"])
def test_without_a_rule_for_abstaining_nothing_is_said_of_being_sure(
    served, change_rules, activation
):
    manifest = files.read_json(served / "manifest.json") | {"activation": activation}
    files.write_json(served / "manifest.json", manifest)
    change_rules(served, abstain=None)
    with client_of(served) as client:
        (result,) = post(client, KINDS["jpeg"]).json()["answers"][0]["results"]
    assert result["is_sure"] is None
    values = result["values"]
    likely = [one["name"] for one in values if one.get("probability", 0) >= 0.5]
    wanted = {"softmax": values[0]["name"], "sigmoid": likely, "linear": None}
    assert result["answer"] == wanted[activation]


def test_it_shows_what_the_artefact_says_of_an_image(client, served):
    response = post(client, KINDS["jpeg"], heat_map=True, nearest=2)
    (result,) = response.json()["answers"][0]["results"]
    model = artifact.load(served)
    answers = model.answer([KINDS["jpeg"]], feature_maps=True)
    assert result["unlike"] == pytest.approx(float(answers.unlike[0]), abs=1e-3)
    highest = answers.values.argmax(axis=1)
    maps = model.examples.heat_maps(answers.feature_maps, highest)
    np.testing.assert_allclose(result["heat_map"], maps[0], atol=1e-3)
    indices = model.examples.nearest(answers.embeddings, 2)[0]
    assert [one["name"] for one in result["nearest"]] == [
        model.examples.names[n] for n in indices
    ]
    jpegs = [base64.b64decode(one["jpeg"]) for one in result["nearest"]]
    assert jpegs == [model.examples.thumbnails[n] for n in indices]


@pytest.mark.slow
def test_texts_are_predicted_and_kept(text_run, tmp_path):
    with client_of(text_run, corrections=tmp_path / "kept") as client:
        response = client.post("/v1/predict", json={"texts": ["good film", "bad"]})
        assert values(response) == expected(text_run, ["good film", "bad"])
        assert post(client, KINDS["png"]).status_code == 422
        long = 'a "long",\nfilm'
        for text, label in ((long, "good"), ("bad", "bad"), (long, "bad")):
            given = {"texts": [text], "label": [label]}
            assert client.post("/v1/correct", json=given).status_code == 200
    kept = tables.load(tmp_path / "kept/tiny/labels.csv")
    assert dict(zip(kept.text, kept.label, strict=True)) == {long: "bad", "bad": "bad"}


def test_an_image_that_cannot_be_used_does_not_spoil_the_others(client, served):
    response = post(client, KINDS["jpeg"], b"no image", KINDS["png"])
    rows = response.json()["answers"][0]["results"]
    assert "holds none of" in rows[1]["error"]
    good = expected(served, [KINDS["jpeg"], KINDS["png"]])
    assert rows[0]["values"][0]["probability"] == max(good[0].values())
    assert rows[2]["values"][0]["probability"] == max(good[1].values())


def bomb():
    """A small PNG whose header promises 900 megapixels."""

    def chunk(kind, data):
        checked = kind + data
        return (
            struct.pack(">I", len(data))
            + checked
            + struct.pack(">I", zlib.crc32(checked))
        )

    header = struct.pack(">IIBBBBB", 30_000, 30_000, 8, 2, 0, 0, 0)
    data = zlib.compress(bytes(100_000))
    start = b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header)
    return start + chunk(b"IDAT", data) + chunk(b"IEND", b"")


def animated():
    frames = [photo(seed=n) for n in range(3)]
    return saved(frames[0], "GIF", save_all=True, append_images=frames[1:])


HOSTILE = {
    "nothing": (b"", "empty"),
    "bomb": (bomb(), "pixels"),
    "animated": (animated(), "3 frames"),
    "truncated": (KINDS["large jpeg"][:3000], "decoded"),
    "only a head": (KINDS["png"][:20], "damaged|decoded"),
    "svg": (b'<svg xmlns="http://www.w3.org/2000/svg"><script/></svg>', "none of"),
    "html": (b"<html><script>alert(1)</script></html>", "none of"),
    "path": (b"/etc/passwd", "none of"),
    "postscript": (b"%!PS-Adobe-3.0\n(ls) run", "none of"),
}


@pytest.mark.parametrize("name", HOSTILE)
def test_what_is_no_image_is_refused_in_a_sentence(client, name):
    content, reason = HOSTILE[name]
    response = post(client, content)
    assert response.status_code == 422
    assert re.search(reason, response.json()["error"])
    assert "0x" not in response.text
    assert "Traceback" not in response.text


def test_what_does_not_fit_the_description_is_named(client):
    good = "aGk="
    for path, body, said in (
        ("predict", {"images": good}, "`images` must be a list, such as"),
        ("predict", {"images": [good], "model": "one"}, "`model` must be a list"),
        ("predict", {"image": [good]}, "none of images, clips, texts, model"),
        ("correct", {"images": [good], "label": ["zebra"]}, "keras-tl update"),
    ):
        response = client.post(f"/v1/{path}", json=body)
        assert response.status_code == 422
        assert said in response.json()["error"]
    assert "see /openapi.json" in client.get("/nothing").json()["error"]
    assert "another method" in client.get("/v1/predict").json()["error"]


def test_limits_on_bytes_pixels_and_count_are_held(served):
    limits = Limits(body=20_000, pixels=1000, count=2)
    with client_of(served, limits=limits) as client:
        assert post(client, KINDS["jpeg"]).status_code == 200
        larger = post(client, saved(photo(40, 30)))
        assert (larger.status_code, "1,000" in larger.text) == (422, True)
        assert post(client, *[KINDS["jpeg"]] * 3).status_code == 413
        assert post(client, bytes(30_000)).status_code == 413

        def parts():
            yield from [b"x" * 9000] * 4

        without_length = client.post(
            "/v1/predict", content=parts(), headers={"content-type": "application/json"}
        )
        assert without_length.status_code == 413


@pytest.mark.parametrize(
    ("body", "status"),
    [
        ({}, 422),
        ({"images": []}, 422),
        ({"images": ["%%%"]}, 422),
        ({"images": ["aGk="], "texts": ["a"]}, 422),
        ({"images": ["aGk="], "path": "/etc/passwd"}, 422),
        ({"images": ["/etc/passwd"]}, 422),
        ({"images": ["aGk="], "top": 0}, 422),
        ({"images": ["aGk="], "nearest": 1000}, 422),
        ({"images": ["aGk="], "model": ["../../run"]}, 404),
        ({"texts": ["good"]}, 422),
        ([], 422),
        ("[" * 100_000, 422),
    ],
)
def test_bodies_that_cannot_be_used_are_refused_in_a_sentence(client, body, status):
    content = body if isinstance(body, str) else json.dumps(body)
    response = client.post(
        "/v1/predict", content=content, headers={"content-type": "application/json"}
    )
    assert response.status_code == status
    assert response.json()["error"].endswith((".", "./v1/models"))


def test_other_types_of_bodies_are_refused(client):
    assert client.post("/v1/predict", content=b"x").status_code == 415
    head = {"content-type": "multipart/form-data"}
    assert client.post("/v1/predict", content=b"x", headers=head).status_code == 400
    assert client.get("/v1/predict").status_code == 405
    assert client.get("/../../etc/passwd").status_code == 404
    for path in ("/docs", "/serve.py", "/assets/serve/index.html"):
        assert client.get(path).status_code == 404


def test_where_there_is_no_room_it_says_when_to_try_again(served):
    with client_of(served, queue=2) as client:
        with client.app.state.service.room.take(2):
            response = post(client, KINDS["jpeg"])
        assert response.status_code == 429
        assert int(response.headers["retry-after"]) >= 1
        assert post(client, KINDS["jpeg"]).status_code == 200


def test_a_request_ends_at_its_time_and_frees_its_room(served, monkeypatch):
    go_on = threading.Event()
    compute = hosting._compute

    def wait(hosted, rows):
        go_on.wait(20)
        return compute(hosted, rows)

    monkeypatch.setattr(hosting, "_compute", wait)
    with client_of(served, limits=Limits(seconds=0.2)) as client:
        response = post(client, KINDS["jpeg"])
        assert response.status_code == 503
        assert "0.2 seconds" in response.json()["error"]
        assert client.app.state.service.room.inside == 0
        go_on.set()


def test_a_failure_tells_the_client_nothing(client, monkeypatch):
    def fail(*arguments):
        raise RuntimeError("secret of /home/somebody")

    monkeypatch.setattr(hosting, "results", fail)
    response = post(client, KINDS["jpeg"])
    assert response.status_code == 500
    assert response.json() == {"error": "The server has failed; its log says why."}
    monkeypatch.undo()
    assert post(client, KINDS["jpeg"]).status_code == 200


def test_a_token_is_needed_where_one_is_set(served):
    with client_of(served, token=TOKEN) as client:
        for path in ("/v1/models", "/metrics"):
            assert client.get(path).status_code == 401
        assert post(client, KINDS["jpeg"]).status_code == 401
        for wrong in ("Bearer x", TOKEN, f"Bearer {TOKEN}x", "Bearer ä"):
            head = {"authorization": wrong.encode()}
            assert client.get("/v1/models", headers=head).status_code == 401
        for path in ("/", "/healthz", "/readyz"):
            assert client.get(path).status_code == 200
        client.headers["authorization"] = f"Bearer {TOKEN}"
        assert post(client, KINDS["jpeg"]).status_code == 200


def test_pages_of_other_servers_cannot_use_it(client):
    for origin in ("http://evil.example", "null", "http://localhost:9"):
        client.headers["origin"] = origin
        assert post(client, KINDS["jpeg"]).status_code == 403
    client.headers["origin"] = "http://localhost"
    assert post(client, KINDS["jpeg"]).status_code == 200
    # A name of theirs that leads here.
    client.headers["host"] = "evil.example"
    assert client.get("/v1/models").status_code == 421


def test_hosts_are_free_where_the_server_listens_elsewhere(served):
    with client_of(served, hosts=guard.hosts("0.0.0.0")) as client:
        assert client.get("/", headers={"host": "laptop.local"}).status_code == 200


@pytest.mark.parametrize(
    "path", ["/", "/serve.js", "/v1/models", "/healthz", "/metrics", "/missing"]
)
def test_every_answer_has_the_headers_of_safety(client, path):
    headers = client.get(path).headers
    assert "default-src 'none'" in headers["content-security-policy"]
    assert "unsafe" not in headers["content-security-policy"]
    assert headers["x-content-type-options"] == "nosniff"
    assert headers["referrer-policy"] == "no-referrer"
    assert "server" not in headers


def test_the_page_needs_nothing_from_elsewhere_and_holds_no_script(client):
    page = client.get("/").text
    assert re.findall(r"<script(?! src=\"serve\.js\" defer></script>)", page) == []
    assert "style=" not in page
    assert not re.search(r"\son\w+=", page)
    for path in ("/", "/serve.js", "/serve.css"):
        content = client.get(path).text
        assert not re.search(r"https?://|//cdn|@import|url\(|eval\(|innerHTML", content)


def test_the_api_describes_itself(client):
    paths = client.get("/openapi.json").json()["paths"]
    assert {"/v1/predict", "/v1/correct", "/v1/models", "/healthz", "/readyz"} <= set(
        paths
    )
    body = paths["/v1/predict"]["post"]["requestBody"]["content"]
    assert set(body) == {"application/json", "multipart/form-data"}
    (model,) = client.get("/v1/models").json()["models"]
    assert model["class_names"] == ["red", "green", "blue"]
    assert model["name"] == "tiny"


def test_metrics_count_requests_images_and_batches(client):
    post(client, KINDS["jpeg"], KINDS["png"])
    client.get("/no/such/path")
    text = client.get("/metrics").text
    assert 'keras_tl_requests_total{path="/v1/predict",status="200"} 1.0' in text
    assert 'keras_tl_requests_total{path="other",status="404"} 1.0' in text
    assert "keras_tl_batch_examples_sum 2.0" in text
    assert "keras_tl_examples_inside 0.0" in text


@pytest.mark.slow
def test_several_runs_are_served_by_name(served, text_run):
    runs = hosting.named([str(served), f"words={text_run}"])
    app = server.make_app(runs)
    with TestClient(app, "http://localhost") as client:
        names = [one["name"] for one in client.get("/v1/models").json()["models"]]
        assert names == ["run", "words"]
        good = client.post("/v1/predict", json={"model": ["words"], "texts": ["good"]})
        assert values(good) == expected(text_run, ["good"])
        assert post(client, KINDS["png"]).status_code == 200
    with pytest.raises(errors.InputError, match="differ"):
        hosting.named([str(served), str(served)])
    with pytest.raises(errors.InputError, match="names that folders can have"):
        hosting.named([f"..={served}"])


@pytest.mark.slow
def test_runs_over_one_backbone_are_one_forward_pass(served, tmp_path, monkeypatch):
    def another(name, change):
        folder = tmp_path / name
        shutil.copytree(served, folder)
        model = artifact.load_model(folder / "model.keras")
        change(model)
        saving.save(model, folder / "model.keras")
        manifest = files.read_json(folder / "manifest.json")
        manifest["model_sha256"] = files.sha256(folder / "model.keras")
        files.write_json(folder / "manifest.json", manifest)
        return folder

    def change(layer):
        layer.set_weights([weights + 0.1 for weights in layer.get_weights()])

    head = another("head", lambda model: change(model.layers[-1]))
    backbone = another("backbone", lambda model: change(model.layers[2]))
    app = server.make_app({"first": served, "head": head, "backbone": backbone})
    host = app.state.service.host
    engines = [host.find(name).engine for name in host.names]
    assert engines[0] is engines[1]
    assert engines[2] is host.find("backbone").model
    ran = []
    run = compiled.Compiled.__call__

    def count(self, inputs):
        ran.append(len(inputs))
        return run(self, inputs)

    monkeypatch.setattr(compiled.Compiled, "__call__", count)
    contents = [KINDS["jpeg"], KINDS["png"]]
    with TestClient(app, "http://localhost") as client:
        both = post(client, *contents, model=["first", "head"])
        assert ran == [2]
        other = post(client, *contents, model=["backbone"])
        assert ran == [2, 2]
    monkeypatch.undo()
    assert values(both) == expected(served, contents)
    for response, number, folder in ((both, 1, head), (other, 0, backbone)):
        for row, right in zip(
            values(response, number), expected(folder, contents), strict=True
        ):
            assert row == pytest.approx(right, abs=1e-6)
    assert values(both, 1) != values(both, 0)


def test_one_without_a_finite_answer_does_not_spoil_the_others(client, monkeypatch):
    compute = artifact.Artifact.outputs

    def some(self, batch):
        outputs = compute(self, batch)
        outputs["logits"][(batch == 7).all(axis=(1, 2, 3))] = np.nan
        return outputs

    monkeypatch.setattr(artifact.Artifact, "outputs", some)
    sevens = saved(Image.fromarray(np.full((8, 8, 3), 7, "uint8")))
    rows = post(client, KINDS["png"], sevens, KINDS["jpeg"]).json()["answers"][0]
    assert [("error" in one) for one in rows["results"]] == [False, True, False]
    assert post(client, sevens).status_code == 422


def test_corrections_become_a_folder_that_training_takes(served):
    before = sorted(path.name for path in served.iterdir())
    pictures = [saved(photo(seed=seed)) for seed in range(12)]
    labels = ["red", "green", "blue"] * 4
    with client_of(served) as client:

        def correct(content, label):
            form = {"files": [("images", content)], "data": {"label": label}}
            response = client.post("/v1/correct", **form)
            assert response.status_code == 200, response.text
            return response.json()["kept"]

        # Of the first one, the last label counts.
        kept = [correct(*one) for one in zip(pictures, labels, strict=True)]
        assert kept == list(range(1, 13))
        assert correct(pictures[0], "blue") == 12
        assert correct(KINDS["jpeg"], "green") == 13
    assert sorted(path.name for path in served.iterdir()) == before
    folder = served.parent / "run-corrections"
    given = dict(zip(pictures, ["blue", *labels[1:]], strict=True))
    given[KINDS["jpeg"]] = "green"
    found = {path.read_bytes(): path.parent.name for path in folder.glob("*/*")}
    assert found == given
    assert len(list(folder.glob("*/*.jpg"))) == 1
    data = datasets.load(str(folder), image_size=8)
    assert sorted(data.class_names) == ["blue", "green", "red"]
    assert sum(len(split) for _, split in data.items()) == 13


def test_labels_that_are_no_folders_or_several_become_a_table(tmp_path):
    for activation, label, cell in (
        ("softmax", ["a/b"], "a/b"),
        ("sigmoid", ["a/b", "c"], "a/b|c"),
    ):
        kept = Corrections(tmp_path / activation, "image", ("a/b", "c"), activation)
        for number, kind in enumerate(("jpeg", "png", "jpeg")):
            assert kept.add(KINDS[kind], label) == min(number + 1, 2)
        rows = kept.read()
        assert [row["label"] for row in rows.values()] == [cell] * 2
        contents = [(kept.folder / name).read_bytes() for name in rows]
        assert contents == [KINDS["jpeg"], KINDS["png"]]
    numbers = Corrections(tmp_path / "linear", "text", ("x", "y"), "linear")
    assert numbers.add("some text", ["1.5", "-2"]) == 1
    assert numbers.table.read_text().splitlines() == ["text,x,y", "some text,1.5,-2"]
    for wrong in (["1"], ["1", "nan"], ["1", "two"]):
        with pytest.raises(errors.InputError, match="a number for each of x, y"):
            numbers.add("some text", wrong)


def test_a_folder_of_corrections_can_be_full(tmp_path, monkeypatch):
    monkeypatch.setattr(corrections, "MOST", 1)
    kept = Corrections(tmp_path, "image", ("a", "b"), "softmax")
    kept.add(KINDS["jpeg"], ["a"])
    with pytest.raises(errors.InputError, match="no more"):
        kept.add(KINDS["png"], ["a"])
    assert kept.add(KINDS["jpeg"], ["b"]) == 1


@pytest.mark.parametrize(
    ("content", "label"),
    [
        (KINDS["png"], ["../../evil"]),
        (KINDS["png"], ["red", "green"]),
        (KINDS["png"], []),
        (b"no image", ["red"]),
    ],
)
def test_a_correction_that_cannot_be_learned_leaves_nothing(
    client, served, content, label
):
    form = {"files": [("images", content)], "data": {"label": label}}
    assert client.post("/v1/correct", **form).status_code == 422
    assert not (served.parent / "run-corrections").exists()


def test_corrections_that_cannot_be_written_tell_no_path(served, tmp_path, capsys):
    (tmp_path / "kept").mkdir()
    (tmp_path / "kept/tiny").write_text("a file where a folder has to be")
    with client_of(served, corrections=tmp_path / "kept") as client:
        form = {"files": [("images", KINDS["png"])], "data": {"label": "red"}}
        response = client.post("/v1/correct", **form)
    assert response.status_code == 507
    assert str(tmp_path) not in response.text
    assert str(tmp_path) in capsys.readouterr().err


def test_corrections_never_go_into_a_run(served):
    with pytest.raises(errors.InputError, match="outside"):
        server.make_app({"tiny": served}, corrections=served)


def test_a_model_is_replaced_without_a_lost_request(served, change_rules):
    with client_of(served, token=TOKEN) as client:
        client.headers["authorization"] = f"Bearer {TOKEN}"
        statuses, stop = [], threading.Event()

        def ask():
            while not stop.is_set():
                statuses.append(post(client, KINDS["jpeg"]).status_code)

        threads = [threading.Thread(target=ask) for _ in range(2)]
        for thread in threads:
            thread.start()
        for _ in range(3):
            assert client.post("/v1/models/tiny/reload").status_code == 200
        change_rules(served, temperature=100.0)
        assert client.post("/v1/models/tiny/reload").status_code == 200
        (served / "manifest.json").unlink()
        broken = client.post("/v1/models/tiny/reload")
        assert broken.status_code == 409
        assert str(served) not in broken.text
        stop.set()
        for thread in threads:
            thread.join()
        assert set(statuses) == {200}
        (new,) = values(post(client, KINDS["jpeg"]))
    assert max(new.values()) < 0.35


def test_a_model_is_not_replaced_without_a_token(client):
    assert client.post("/v1/models/tiny/reload").status_code == 403


JSON = st.recursive(
    st.none() | st.booleans() | st.floats() | st.integers() | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
    max_leaves=8,
)
NAMES = st.sampled_from(
    ["images", "texts", "model", "top", "heat_map", "nearest", "label", "x"]
)
BODIES = st.one_of(
    st.binary(max_size=200),
    st.dictionaries(NAMES, JSON).map(lambda body: json.dumps(body).encode()),
    st.lists(st.text().map(lambda s: base64.b64encode(s.encode()).decode())).map(
        lambda images: json.dumps({"images": images}).encode()
    ),
)
FORMS = st.lists(
    st.tuples(
        NAMES | st.text(max_size=5),
        st.text(max_size=20),
        st.none() | st.text(max_size=10),
    ),
    max_size=5,
)


def form(fields):
    """Return the body of a form, in which names can break the format."""
    parts = []
    for name, value, filename in fields:
        head = f'form-data; name="{name}"'
        head += "" if filename is None else f'; filename="{filename}"'
        parts.append(f"--b\r\nContent-Disposition: {head}\r\n\r\n{value}\r\n")
    return "".join(parts).encode("utf-8", "replace") + b"--b--\r\n"


def malformed(client, path, body, content_type):
    response = client.post(path, content=body, headers={"content-type": content_type})
    assert response.status_code < 500, response.text
    if response.status_code != 200:
        assert set(response.json()) == {"error"}


REQUESTS = st.tuples(
    st.sampled_from(["/v1/predict", "/v1/correct"]),
    st.one_of(
        st.tuples(BODIES, st.just("application/json")),
        st.tuples(
            FORMS.map(form) | st.binary(max_size=200),
            st.sampled_from(
                [
                    "multipart/form-data; boundary=b",
                    "multipart/form-data; boundary=",
                    "multipart/form-data; boundary=b; charset=utf-7",
                    "multipart/form-data; boundary=b; charset=none",
                ]
            ),
        ),
    ),
)
DAMAGED = st.tuples(
    st.sampled_from(sorted(KINDS)),
    st.lists(st.tuples(st.integers(0, 400), st.integers(0, 255)), max_size=6),
    st.integers(0, 3000),
)


def damage(case):
    """Return an image with some bytes of its head replaced, and cut off."""
    kind, changes, length = case
    content = bytearray(KINDS[kind][: length + 10])
    for place, byte in changes:
        content[place % len(content)] = byte
    return bytes(content)


ONE_CLIENT = [HealthCheck.function_scoped_fixture, HealthCheck.too_slow]


@settings(max_examples=60, deadline=None, suppress_health_check=ONE_CLIENT)
@given(request=REQUESTS, case=DAMAGED)
def test_malformed_bodies_are_refused(client, request, case):
    path, (body, content_type) = request
    malformed(client, path, body, content_type)
    assert post(client, damage(case)).status_code in (200, 422)


@pytest.mark.slow
@settings(max_examples=2000, deadline=None, suppress_health_check=ONE_CLIENT)
@given(request=REQUESTS, case=DAMAGED)
def test_two_thousand_malformed_bodies_are_refused(client, request, case):
    path, (body, content_type) = request
    malformed(client, path, body, content_type)
    assert post(client, damage(case)).status_code in (200, 422)


def test_a_body_that_never_ends_is_given_up(served):
    app = server.make_app({"tiny": served}, limits=Limits(seconds=0.2))
    sent = []

    async def receive():
        await asyncio.sleep(0.05)
        return {"type": "http.request", "body": b" ", "more_body": True}

    async def send(message):
        sent.append(message)

    scope = {
        "type": "http",
        "method": "POST",
        "path": "/v1/predict",
        "query_string": b"",
        "headers": [(b"host", b"localhost"), (b"content-type", b"application/json")],
    }
    asyncio.run(app(scope, receive, send))
    assert sent[0]["status"] == 503
    app.state.service.close()


def test_without_the_extra_it_is_named(call, served, monkeypatch, capsys):
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    assert call("serve", served) == 2
    assert "keras-tl[serve]" in capsys.readouterr().err


def test_what_is_no_run_ends_in_a_sentence(call, served, tmp_path, capsys):
    shutil.copytree(served, tmp_path / "damaged")
    (tmp_path / "damaged/model.keras").write_bytes(b"x")
    (tmp_path / "empty").mkdir()
    for arguments, said in (
        (["missing"], "folders of finished runs"),
        ([tmp_path / "empty", "--port", 0], "finished run"),
        ([tmp_path / "damaged", "--port", 0], "model.keras"),
        ([served, "--token", "short"], "16 characters"),
        ([served, "--host", "192.0.2.1", "--port", 0], "address of this machine"),
        ([served, "--queue", 1], "queue"),
    ):
        assert call("serve", *arguments) == 2
        assert said in capsys.readouterr().err
