"""`keras-tl pack`: what it writes, prints and refuses."""

import json

import numpy as np
import pytest
from PIL import Image


@pytest.fixture
def photos(tmp_path, monkeypatch):
    """A folder of images that can be told apart, and one that cannot be read."""
    monkeypatch.chdir(tmp_path)
    rng = np.random.default_rng(0)
    for name, shade in (("dark", 60), ("light", 200)):
        (tmp_path / "photos" / name).mkdir(parents=True)
        for number in range(20):
            pixels = rng.integers(shade - 50, shade + 50, (32, 32, 3)).astype("uint8")
            Image.fromarray(pixels).save(tmp_path / "photos" / name / f"{number}.png")
    (tmp_path / "photos" / "dark" / "broken.png").write_bytes(b"no image")
    return tmp_path / "photos"


def test_commands_read_a_pack_as_the_folder_it_was_made_of(photos, call, capsys):
    assert call("pack", "photos", "--out=packed", "--shard-size=0.05") == 2
    assert "dark/broken.png: holds none" in capsys.readouterr().err
    skipped = ("--shard-size=0.05", "--bad-files=skip")
    assert call("pack", "photos", "--out=packed", *skipped) == 0
    printed = capsys.readouterr().out
    assert "Packed 40 images into 4 shards" in printed
    assert "Left out: bad images 1 (dark/broken.png)." in printed
    (photos / "dark" / "broken.png").unlink()
    found = []
    for data in ("photos", "packed"):
        assert call("check", data, "--json", "--no-features") == 0
        found.append(json.loads(capsys.readouterr().out))
    assert found[0] == found[1]


@pytest.mark.slow
def test_training_on_a_pack_is_training_on_the_folder(photos, call, capsys, cache):
    (photos / "dark" / "broken.png").unlink()
    assert call("pack", "photos", "--out=packed", "--shard-size=0.05") == 0
    runs = [photos.parent / f"run_{data}" for data in ("photos", "packed")]
    for data in ("photos", "packed"):
        # There is time to spare: the clock decides nothing.
        options = ("--minutes=2", "--epochs=1", "--limit=30", f"--out=run_{data}")
        assert call("train", data, *options) == 0
    about = [json.loads((run / "manifest.json").read_text()) for run in runs]
    assert about[0]["data"] == about[1]["data"]
    for name in ("metrics.json", "history.csv", "answers.json", "exemplars.zip"):
        assert (runs[0] / name).read_bytes() == (runs[1] / name).read_bytes()
    # The features of the frozen layers are found again.
    assert about[1]["features"]["made"] == 0


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (("photos", "--out=photos"), "`out` must name what does not exist yet"),
        (("photos", "--out=photos/packed"), "`out` must not be in the data"),
        (("photos", "--out=s3://bucket/packed"), "`out` must be on this machine"),
        (("photos", "--out=a", "--shard-size=0"), "`shard_size` must be greater than"),
        (("./nothing", "--out=a"), "`data` must be a folder or table that exists"),
        (("nothing", "--out=a"), "`data` must be a folder or table that exists"),
        (("digits", "--out=a"), "Datasets that have names"),
        (("photos", "--out=a", "--kind=audio"), "`data` must hold clips"),
        (
            ("memory://nothing", "--out=a"),
            "There is no file memory://nothing/pack.json",
        ),
    ],
)
def test_what_cannot_be_packed_is_refused_in_a_sentence(
    photos, call, capsys, arguments, sentence
):
    assert call("pack", *arguments) == 2
    error = capsys.readouterr().err
    assert sentence in error
    assert "Traceback" not in error
    assert not (photos.parent / "a").exists()


def test_copies_of_packed_data_are_listed_and_cleared(photos, call, capsys):
    pytest.importorskip("fsspec")
    (photos / "dark" / "broken.png").unlink()
    assert call("pack", "photos", "--out=packed", "--shard-size=0.05") == 0
    address = f"file://{photos.parent / 'packed'}"
    assert call("check", address, "--no-features") == 0
    capsys.readouterr()
    call("cache", "list")
    assert "Copies of packed data: 4 shards, 0.2 MiB" in capsys.readouterr().out
    call("cache", "clear")
    call("cache", "list")
    assert "Nothing is kept" in capsys.readouterr().out
