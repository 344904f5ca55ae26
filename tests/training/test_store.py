"""What frozen layers gave is found again, whole, and only where it belongs."""

import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path

import ml_dtypes
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from keras_tl import errors, files
from keras_tl.training import store

ROOT = Path(__file__).parents[2]


def keys(*names):
    return [f"{name:>16}".encode() for name in names]


def rows(count, first=0):
    return np.arange(first, first + 2 * count, dtype="float32").reshape(count, 2)


def test_what_was_written_is_found_by_another_process(tmp_path):
    one = store.Store(tmp_path, "stem", (2,), "float32", about="vgg16 to block4")
    one.add(keys("a", "b"), rows(2))
    one.flush()
    one.add(keys("c"), rows(1, first=9))
    assert one.rows(keys("c", "a", "c"))[:].tolist() == [[9, 10], [0, 1], [9, 10]]
    code = (
        "import pathlib, sys; from keras_tl.training import store\n"
        "other = store.Store(pathlib.Path(sys.argv[1]), 'stem', (2,), 'float32')\n"
        "keys = [f'{name:>16}'.encode() for name in 'cab']\n"
        "print(other.rows(keys)[:].tolist())"
    )
    ended = subprocess.run(
        [sys.executable, "-c", code, str(tmp_path)],
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        check=True,
    )
    assert json.loads(ended.stdout) == [[9, 10], [0, 1], [2, 3]]


def test_another_stem_finds_nothing(tmp_path):
    one = store.Store(tmp_path, "stem", (2,), "float32")
    one.add(keys("a"), rows(1))
    one.flush()
    assert keys("a")[0] in store.Store(tmp_path, "stem", (2,), "float32")
    assert keys("a")[0] not in store.Store(tmp_path, "other", (2,), "float32")


def test_an_unfinished_file_of_a_killed_process_is_not_read(tmp_path):
    one = store.Store(tmp_path, "stem", (2,), "float32")
    one.add(keys("a", "b"), rows(2))
    one.flush()
    (whole,) = one.folder.glob("*.shard")
    whole.rename(one.folder / ".one-abc.shard")
    assert not len(store.Store(tmp_path, "stem", (2,), "float32"))
    store.clear(tmp_path)
    assert not list(tmp_path.iterdir())


@given(data=st.data())
@settings(max_examples=50, deadline=None)
def test_any_damage_is_noticed_and_the_rows_are_made_again(data):
    with tempfile.TemporaryDirectory() as folder:
        one = store.Store(Path(folder), "stem", (2,), "float32")
        one.add(keys("a", "b", "c"), rows(3))
        one.flush()
        (path,) = one.folder.glob("*.shard")
        content = bytearray(path.read_bytes())
        if data.draw(st.booleans(), label="truncate"):
            del content[data.draw(st.integers(0, len(content) - 1)) :]
        else:
            place = data.draw(st.integers(0, len(content) - 1))
            content[place] ^= 1 << data.draw(st.integers(0, 7))
        path.write_bytes(content)
        with pytest.warns(errors.InputWarning, match="damaged"):
            again = store.Store(Path(folder), "stem", (2,), "float32")
        assert not len(again)
        assert not path.exists()


def test_a_shard_that_cannot_be_read_is_left_out(tmp_path):
    one = store.Store(tmp_path, "stem", (2,), "float32")
    for key in "ab":
        one.add(keys(key), rows(1))
        one.flush()
    path = next(one.folder.glob("*.shard"))
    path.unlink()
    path.mkdir()
    with pytest.warns(errors.InputWarning, match=r"cannot be read.*Is a directory"):
        assert len(store.Store(tmp_path, "stem", (2,), "float32")) == 1


@given(
    content=st.sampled_from(["", "[]", "null", '{"about": 1}', "\x00"])
    | st.fixed_dictionaries(
        {
            name: st.none() | st.integers() | st.lists(st.none() | st.integers())
            for name in ("about", "shape", "dtype", "input_shape")
        }
    ).map(json.dumps)
)
@settings(deadline=None)
def test_a_damaged_description_of_a_stem_costs_nothing_but_its_row(content):
    with tempfile.TemporaryDirectory() as folder:
        one = store.Store(Path(folder), "stem", (2,), "float32")
        one.add(keys("a"), rows(1))
        one.flush()
        (one.folder / "stem.json").write_text(content)
        assert len(store.kept(Path(folder))) <= 1
        assert len(store.Store(Path(folder), "stem", (2,), "float32")) == 1


def test_rows_of_another_shape_or_type_are_other_rows():
    flat = np.zeros((1, 4), "uint8")
    hashes = [
        store.hash_rows(array)[0]
        for array in (flat, flat.reshape(1, 2, 2), flat.view("float32"))
    ]
    assert len(set(hashes)) == 3


def test_two_writers_at_once_lose_nothing(tmp_path):
    one = store.Store(tmp_path, "stem", (2,), "float32")
    two = store.Store(tmp_path, "stem", (2,), "float32")
    one.add(keys("a", "b"), rows(2))
    two.add(keys("b", "c"), rows(2, first=2))
    one.flush()
    two.flush()
    both = store.Store(tmp_path, "stem", (2,), "float32")
    assert both.rows(keys("a", "b", "c"))[:].tolist() == [[0, 1], [2, 3], [4, 5]]


@given(
    places=st.lists(st.integers(0, 29), max_size=40),
    cuts=st.sets(st.integers(1, 29), max_size=5),
)
@settings(deadline=None, max_examples=30)
def test_rows_of_shards_are_those_of_one_array(places, cuts, tmp_path_factory):
    folder = tmp_path_factory.mktemp("cache")
    names, whole = keys(*range(30)), rows(30)
    one = store.Store(folder, "stem", (2,), "float32")
    for start, end in zip([0, *sorted(cuts)], [*sorted(cuts), 30], strict=True):
        one.add(names[start:end], whole[start:end])
        one.flush()
    found = one.rows(names)
    assert found.shape == whole.shape
    assert len(list(one.folder.glob("*.shard"))) == len(cuts) + 1
    np.testing.assert_array_equal(found[np.array(places, int)], whole[places])
    np.testing.assert_array_equal(found[3:7], whole[3:7])


def test_a_shard_is_written_as_soon_as_it_is_large(tmp_path, monkeypatch):
    monkeypatch.setattr(store, "SHARD_BYTES", 3 * 8)
    one = store.Store(tmp_path, "stem", (2,), "float32")
    one.add(keys("a", "b"), rows(2))
    assert not one.folder.exists()
    one.add(keys("c"), rows(1))
    assert len(store.Store(tmp_path, "stem", (2,), "float32")) == 3


def test_a_shard_is_written_as_soon_as_it_is_old(tmp_path, monkeypatch):
    now = [0.0]
    monkeypatch.setattr(store.time, "monotonic", lambda: now[0])
    one = store.Store(tmp_path, "stem", (2,), "float32")
    one.add(keys("a"), rows(1))
    now[0] = store.SHARD_SECONDS - 1
    one.add(keys("b"), rows(1))
    assert not one.folder.exists()
    now[0] += 1
    one.add(keys("c"), rows(1))
    assert len(store.Store(tmp_path, "stem", (2,), "float32")) == 3
    one.add(keys("d"), rows(1))
    assert len(store.Store(tmp_path, "stem", (2,), "float32")) == 3


@pytest.mark.parametrize("dtype", ["float32", "float16", "bfloat16"])
def test_numbers_keep_their_type(dtype, tmp_path):
    values = np.array([[1.5, -2], [0.25, 3]], ml_dtypes.bfloat16).astype(dtype)
    one = store.Store(tmp_path, "stem", (2,), dtype)
    one.add(keys("a", "b"), values)
    found = one.rows(keys("b", "a"))[:]
    assert found.dtype == values.dtype
    assert found.tolist() == values[::-1].tolist()
    assert store.kept(tmp_path)[0].images == 2


def test_the_list_says_what_is_kept_and_clearing_removes_only_that(tmp_path):
    assert store.kept(tmp_path / "absent") == []
    assert store.clear(tmp_path / "absent") == 0
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "file").write_text("mine")
    one = store.Store(tmp_path, "stem", (2,), "float32", about="vgg16 to block4")
    one.add(keys("a", "b"), rows(2))
    one.flush()
    (one.folder / "notes").write_text("mine")
    (kept,) = store.kept(tmp_path)
    assert (kept.about, kept.shape, kept.images) == ("vgg16 to block4", (2,), 2)
    assert kept.size == 2 * (16 + 8) + 16
    assert store.clear(tmp_path) > kept.size
    assert {path.name for path in tmp_path.rglob("*") if path.is_file()} == {
        "file",
        "notes",
    }


def test_what_was_read_survives_clearing(tmp_path):
    one = store.Store(tmp_path, "stem", (2,), "float32")
    one.add(keys("a", "b"), rows(2))
    found = one.rows(keys("a", "b"))
    store.clear(tmp_path)
    assert found[:].tolist() == rows(2).tolist()
    one.add(keys("c"), rows(1))
    one.flush()
    assert len(store.Store(tmp_path, "stem", (2,), "float32")) == 1


def test_a_folder_that_cannot_be_written_to_is_said(tmp_path):
    (tmp_path / "file").write_text("")
    one = store.Store(tmp_path / "file", "stem", (2,), "float32")
    one.add(keys("a"), rows(1))
    with pytest.raises(errors.InputError, match="Cannot make the folder"):
        one.flush()


def test_the_folder_is_the_users_choice(monkeypatch, tmp_path):
    monkeypatch.setenv("KERAS_TL_CACHE", str(tmp_path / "chosen"))
    assert files.cache_folder() == tmp_path / "chosen"
    monkeypatch.delenv("KERAS_TL_CACHE")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    assert files.cache_folder() == tmp_path / "keras_tl"
