"""A packed folder gives what the data gave that it was made of, or is refused."""

import json
import os
import pickle
import re
import signal
import subprocess
import sys
import tarfile
import tempfile
import textwrap
import threading
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from keras_tl import errors, files
from keras_tl.analysis import doctor, slices
from keras_tl.config import RunSettings
from keras_tl.data import (
    assembly,
    datasets,
    folders,
    packing,
    packs,
    remote,
    shards,
    splits,
)
from keras_tl.data.settings import DataSettings, TextSettings
from keras_tl.data.tables import Columns

# Bytes of a shard, so that a few small files make several.
SMALL = 0.01


@dataclass(frozen=True)
class Recipe(RunSettings, DataSettings):
    """Settings as a recipe has them."""


@pytest.fixture
def photos(tmp_path):
    """A folder of 20 images of each of two classes, by four people each."""
    rng = np.random.default_rng(0)
    for name in ("ant", "bee"):
        (tmp_path / "photos" / name).mkdir(parents=True)
        for number in range(20):
            pixels = rng.integers(0, 256, (9, 12, 3)).astype("uint8")
            suffix = ("png", "JPG")[number % 2]
            path = tmp_path / "photos" / name / f"p{number % 4}_{number}.{suffix}"
            format = {"png": "png", "JPG": "jpeg"}[suffix]
            Image.fromarray(pixels).save(path, format=format)
    return tmp_path / "photos"


def pack(data, out, columns=None, kind=None, megabytes=SMALL, **options) -> Path:
    """Pack data as the command does."""
    chosen = assembly.Options(**options)
    content = datasets.read(data, columns, chosen, datasets.choices_of(kind))
    packing.write(assembly.usable(content, chosen), chosen, out, megabytes)
    return out


def check_same(data: splits.Splits, packed: splits.Splits) -> None:
    """Check that two loads hold the same examples, in every respect."""
    assert splits.describe(packed) == splits.describe(data)
    assert packed.task == data.task
    for (_, one), (_, other) in zip(data.items(), packed.items(), strict=True):
        every = np.arange(len(one))
        np.testing.assert_array_equal(one.labels, other.labels)
        # By these, features are found again in the cache.
        assert one.inputs.hashes() == other.inputs.hashes()
        names, others = one.inputs.names(every), other.inputs.names(every)
        assert [Path(n).name for n in names] == [Path(n).name for n in others]
        assert one.inputs.sizes(every) == other.inputs.sizes(every)


@settings(deadline=None, max_examples=30)
@given(
    st.lists(st.tuples(st.binary(max_size=2000), st.text(max_size=20)), max_size=12),
    st.floats(1, 20_000),
    st.randoms(),
)
def test_any_contents_come_back_in_any_order_from_shards_of_any_size(
    examples, most_bytes, random
):
    with tempfile.TemporaryDirectory() as folder:
        rows = [(".bin", {"name": name}, content) for content, name in examples]
        count = packs.write(Path(folder), {"kind": "image"}, rows, most_bytes)
        pack = packs.read(folder)
        assert [row["name"] for _, row in pack.examples] == [n for _, n in examples]
        assert len(list(Path(folder).glob("*.tar"))) == count
        order = list(range(len(examples))) * 2
        random.shuffle(order)
        for index in order:
            path, _ = pack.examples[index]
            assert path.read_bytes() == examples[index][0]
        # Those that stand together are in one shard, and shards as large as allowed.
        numbers = [path.place.shard for path, _ in pack.examples]
        assert numbers == sorted(numbers)
        for number in range(count):
            held = [
                content
                for content, n in zip(examples, numbers, strict=True)
                if n == number
            ]
            size = sum(len(content) for content, _ in held)
            assert len(held) == 1 or size <= most_bytes


def test_a_folder_and_its_pack_give_the_same(photos, tmp_path):
    (photos / "notes.md").write_text("hello")
    packed = pack(photos, tmp_path / "packed")
    assert len(list(packed.glob("*.tar"))) > 2
    for options in (
        {},
        {"seed": 3, "count": 12},
        {"groups": "(p[0-9])_"},
        {"labels": "(p[0-9])_"},
    ):
        check_same(datasets.load(photos, **options), datasets.load(packed, **options))
    check_same(folders.from_folder(photos), folders.from_folder(packed))
    # Packed again, in other shards.
    check_same(datasets.load(photos), datasets.load(pack(packed, tmp_path / "one")))
    settings = Recipe(data=packed, limit=10)
    expected = datasets.from_settings(replace(settings, data=photos))
    check_same(expected, datasets.from_settings(settings))


def test_files_are_stored_as_they_are_and_other_programs_read_them(photos, tmp_path):
    packed = pack(photos, tmp_path / "packed")
    stored = {}
    for path in sorted(packed.glob("*.tar")):
        with tarfile.open(path) as archive:
            for member in archive:
                key, _, suffix = member.name.partition(".")
                content = archive.extractfile(member).read()
                stored.setdefault(key, {})[suffix] = content
    assert len(stored) == 40
    for one in stored.values():
        known = json.loads(one.pop("json"))
        ((suffix, content),) = one.items()
        assert content == (photos / known["name"]).read_bytes()
        assert known["name"].lower().endswith(suffix)
        assert known["label"] == known["name"].split("/")[0]
    hugging_face = pytest.importorskip("datasets")
    for path in photos.rglob("*.JPG"):
        path.unlink()
    webdataset = pack(photos, tmp_path / "of one suffix")
    rows = hugging_face.load_dataset(
        "webdataset",
        data_files=str(webdataset / "*.tar"),
        cache_dir=str(tmp_path / "hf"),
        streaming=True,
        split="train",
    )
    assert {row["json"]["label"] for row in rows} == {"ant", "bee"}


def official(tmp_path):
    rng = np.random.default_rng(1)
    for split, count in (("training", 12), ("val", 3), ("test", 4)):
        for name in ("ant", "bee"):
            for number in range(count):
                path = tmp_path / "data" / split / name / f"{number}.png"
                path.parent.mkdir(parents=True, exist_ok=True)
                pixels = rng.integers(0, 256, (9, 12, 3)).astype("uint8")
                Image.fromarray(pixels).save(path)
    return tmp_path / "data", {}


def table(columns, rows):
    """Function that writes a table of images, and returns it."""

    def write(tmp_path):
        rng = np.random.default_rng(2)
        (tmp_path / "images").mkdir()
        lines = [f"image,{columns}"]
        for number in range(60):
            name = f"images/{number}.png"
            pixels = rng.integers(0, 256, (9, 12, 3)).astype("uint8")
            Image.fromarray(pixels).save(tmp_path / name)
            lines.append(f"{name},{rows(number)}")
        (tmp_path / "table.csv").write_text("\n".join(lines))
        return tmp_path / "table.csv", {}

    return write


def patients(tmp_path):
    write = table("label,patient", lambda n: f"{'ab'[n % 2]},{n // 4}")
    path, _ = write(tmp_path)
    return path, {"groups": "patient"}


def reviews(tmp_path):
    words = ("bad", "good")
    lines = [f"{words[n % 2]},the {words[n % 2]} café {n}" for n in range(40)]
    content = "\n".join(["label,text", *lines])
    (tmp_path / "reviews.csv").write_bytes(content.encode("cp1252"))
    return tmp_path / "reviews.csv", {"encoding": "cp1252"}


def letters(tmp_path):
    for number in range(40):
        word = ("bad", "good")[number % 2]
        path = tmp_path / "letters" / word / f"{number}.txt"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(f"a {word} café, number {number}".encode("cp1252"))
    return tmp_path / "letters", {"encoding": "cp1252"}


def clips(tmp_path):
    soundfile = pytest.importorskip("soundfile")
    rng = np.random.default_rng(3)
    for number in range(24):
        path = tmp_path / "clips" / ("no", "yes")[number % 2] / f"{number}.wav"
        path.parent.mkdir(parents=True, exist_ok=True)
        soundfile.write(path, rng.normal(0, 0.1, 900 + 10 * number), 8_000)
    return tmp_path / "clips", {}


KINDS = {
    "official splits": official,
    "a split column": table(
        "label,split", lambda n: f"{'ab'[n % 2]},{('train', 'test')[n % 5 == 3]}"
    ),
    "several labels": table("tags", lambda n: ("red|round", "red", "round")[n % 3]),
    "numbers": table("y", lambda n: n * 0.1),
    "a column of groups": patients,
    "texts of a table": reviews,
    "files of texts": letters,
    "sound": clips,
}


@pytest.mark.parametrize("kind", KINDS)
def test_data_of_every_kind_are_the_same_when_packed(tmp_path, kind):
    data, given = KINDS[kind](tmp_path)
    packed = pack(data, tmp_path / "packed", megabytes=0.003, **given)
    assert len(list(packed.glob("*.tar"))) > 2
    expected = datasets.load(data, **given)
    check_same(expected, datasets.load(packed))
    check_same(expected, datasets.load(packed, **given))


def test_bad_files_are_an_error_or_left_out_by_name(photos, tmp_path):
    (photos / "ant" / "broken.jpg").write_bytes(b"no image")
    again = photos / "bee" / "again.png"
    again.write_bytes((photos / "ant" / "p0_0.png").read_bytes())
    with pytest.raises(
        errors.InputError, match=r"(?s)3 images .*broken.jpg: holds none"
    ):
        pack(photos, tmp_path / "packed")
    assert not (tmp_path / "packed").exists()
    packed = pack(photos, tmp_path / "packed", bad_files="skip")
    expected = datasets.load(photos, bad_files="skip")
    assert "bad images 3 (ant/broken.jpg, ant/p0_0.png, bee/again.png)" in (
        expected.origin
    )
    check_same(expected, datasets.load(packed))


def test_a_check_and_slices_see_in_a_pack_what_they_see_in_the_folder(photos, tmp_path):
    for number in range(3):
        name = photos / "ant" / f"p0_{number * 4}.png"
        with Image.open(name) as image:
            image.resize((90, 120)).save(photos / "ant" / f"near_{number}.png")
    (photos / "bee" / "really_jpeg.png").write_bytes(
        (photos / "bee" / "p1_1.JPG").read_bytes()
    )
    packed = pack(photos, tmp_path / "packed")
    one, other = (doctor.check(data, features=False) for data in (photos, packed))
    codes = [finding.code for finding in one.findings]
    assert "wrong-extension" in codes
    assert [f.message for f in other.findings] == [f.message for f in one.findings]
    # Those that are to be left out are left out of the pack by their names in it.
    without = datasets.load(packed, leave_out=[packed / "bee" / "really_jpeg.png"])
    assert "named to be left out 1 (bee/really_jpeg.png)" in without.origin
    measured = [
        slices.properties(splits.limit(datasets.load(data), 9, seed=0).test)
        for data in (photos, packed)
    ]
    assert {"format", "camera"} <= measured[0].keys() == measured[1].keys()
    for name, values in measured[0].items():
        np.testing.assert_array_equal(values, measured[1][name])
    # What is in memory knows its files, too.
    loaded = datasets.load(packed)
    assert doctor.check(loaded, features=False).findings


def test_images_without_labels_can_be_packed(photos, tmp_path):
    packed = pack(photos, tmp_path / "packed")
    one, other = (folders.unlabelled(folder) for folder in (photos, packed))
    assert one.inputs.hashes() == other.inputs.hashes()
    with pytest.raises(errors.InputError, match="called as classes: ant"):
        folders.unlabelled(packed, ["ant"])


def test_a_pack_that_is_killed_leaves_nothing_under_its_name(photos, tmp_path):
    program = f"""
        import os, signal
        from keras_tl.data import assembly, datasets, packing, shards

        def kill(path, number, places=shards._places):
            if number == 2:
                os.kill(os.getpid(), signal.SIGKILL)
            return places(path, number)

        shards._places = kill
        options = assembly.Options()
        content = datasets.read({str(photos)!r}, None, options)
        packing.write(content, options, {str(tmp_path / "packed")!r}, {SMALL})
    """
    ended = subprocess.run([sys.executable, "-c", textwrap.dedent(program)])
    assert ended.returncode == -signal.SIGKILL
    assert not (tmp_path / "packed").exists()
    check_same(datasets.load(photos), datasets.load(pack(photos, tmp_path / "packed")))


def test_a_file_that_changes_while_it_is_packed_is_named(photos, tmp_path):
    options = assembly.Options()
    content = datasets.read(photos, None, options)
    (photos / "bee" / "p1_1.JPG").write_bytes(b"another one")
    with pytest.raises(errors.InputError, match=r"bee/p1_1.JPG was changed while"):
        packing.write(content, options, tmp_path / "packed", SMALL)
    assert not (tmp_path / "packed").exists()


def damage(path):
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)


def truncate(path):
    path.write_bytes(path.read_bytes()[:-1000])


def exchange(path):
    path.write_bytes((path.parent / "shard-00000.tar").read_bytes())


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        (damage, "shard-00001.tar is damaged, or of another pack"),
        (truncate, "shard-00001.tar is damaged, or of another pack"),
        (exchange, "shard-00001.tar is damaged, or of another pack"),
        (Path.unlink, "shard-00001.tar is missing: copy it"),
    ],
)
@pytest.mark.parametrize("bad_files", ["error", "skip"])
def test_a_damaged_missing_or_foreign_shard_is_named(
    photos, tmp_path, change, reason, bad_files
):
    packed = pack(photos, tmp_path / "packed")
    change(packed / "shard-00001.tar")
    with pytest.raises(errors.InputError, match=reason) as raised:
        datasets.load(packed, bad_files=bad_files)
    assert "\n" not in str(raised.value)


def test_a_list_or_index_that_is_damaged_is_refused(photos, tmp_path):
    packed = pack(photos, tmp_path / "packed")
    index = (packed / "pack.json").read_text()
    for changed in (
        *("", "[]", "{}", "[" * 100_000, index[:300], '{"format": "x"}'),
        *(index.replace('"shards"', '"other"'), index.replace('"kind"', '"other"')),
        index.replace('"shard-00000.tar"', '"../../etc/passwd"'),
        index.replace('"sha256"', '"other"'),
        re.sub('(.*"sha256": ")[0-9a-f]*', r"\1../../evil", index, flags=re.DOTALL),
    ):
        (packed / "pack.json").write_text(changed)
        with pytest.raises(errors.InputError, match="is not as `keras-tl pack` writes"):
            datasets.load(packed)
    (packed / "pack.json").write_text(index.replace('"format": 1', '"format": 2'))
    with pytest.raises(errors.InputError, match="of a newer format"):
        datasets.load(packed)
    (packed / "pack.json").write_text(index)
    damage(packed / "examples.jsonl")
    with pytest.raises(errors.InputError, match=r"examples.jsonl is damaged"):
        datasets.load(packed)
    before = json.loads(index)
    for line in (
        *('{"shard": 99, "offset": 0', '{"shard": 0, "offset": -1', "[", "[]", "1"),
        '{"shard": 0, "offset": 1000000',
    ):
        (packed / "examples.jsonl").write_text(f'{line}, "size": 1, "name": "a"}}')
        before["examples"]["sha256"] = files.sha256(packed / "examples.jsonl")
        files.write_json(packed / "pack.json", before)
        with pytest.raises(errors.InputError, match=r"examples.jsonl is not as"):
            datasets.load(packed)


def test_what_must_be_given_when_data_are_packed_is_refused_later(photos, tmp_path):
    packed = pack(photos, tmp_path / "packed")
    for options, name in (
        ({"encoding": "cp1252"}, "encoding"),
        ({"columns": Columns(label="species")}, "label_column"),
        ({"columns": Columns(root=tmp_path)}, "root"),
        ({"columns": Columns(task="regression")}, "task"),
    ):
        with pytest.raises(errors.InputError, match=f"`{name}` must be left out for"):
            datasets.load(packed, **options)
    with pytest.raises(errors.InputError, match="`kind` must be image for"):
        datasets.load(packed, kind="text")
    datasets.load(packed, columns=Columns(task="single-label"), encoding="utf-8")
    table, given = reviews(tmp_path)
    of_texts = pack(table, tmp_path / "of texts", **given)
    with pytest.raises(errors.InputError, match="`labels` must be left out for"):
        datasets.load(of_texts, labels="([a-z]+)")


def test_threads_read_many_shards_with_few_open_files(tmp_path, monkeypatch):
    monkeypatch.setattr(shards, "MOST_OPEN", 8)
    contents = [bytes([number % 256]) * (number + 1) for number in range(150)]
    packs.write(
        tmp_path,
        {"kind": "image"},
        ((".bin", {"name": str(n)}, one) for n, one in enumerate(contents)),
        1,
    )
    assert len(list(tmp_path.glob("*.tar"))) == 150
    paths = [path for path, _ in packs.read(tmp_path).examples]
    opened = os.listdir("/proc/self/fd") if os.path.isdir("/proc/self/fd") else []
    order = np.random.default_rng(0).integers(0, 150, 3000)
    most = []

    def read(index):
        if opened and index % 10 == 0:
            most.append(len(os.listdir("/proc/self/fd")))
        return paths[index].read_bytes() == contents[index]

    with ThreadPoolExecutor(16) as pool:
        assert all(pool.map(read, order))
    # Each thread may still read from one that is closed next, and lists the folder.
    assert not opened or max(most) <= len(opened) + 8 + 2 * 16
    # Other processes get the same examples.
    (again,) = pickle.loads(pickle.dumps(paths[70:71]))
    assert again == paths[70]
    assert again.read_bytes() == contents[70]


@pytest.fixture
def bucket(photos, tmp_path):
    """A pack in fsspec's memory, and how often each of its files was read."""
    fsspec = pytest.importorskip("fsspec")
    packed = pack(photos, tmp_path / "packed")
    system = fsspec.filesystem("memory")
    system.put(str(packed), "/bucket", recursive=True)
    yield system
    system.rm("/bucket", recursive=True)


def test_a_pack_at_an_address_is_read_and_each_shard_fetched_once(
    photos, bucket, monkeypatch, cache
):
    fetched = []
    fetch, lock = remote.fetch, threading.Lock()

    def counted(folder, name, target):
        with lock:
            fetched.append(name)
        fetch(folder, name, target)

    monkeypatch.setattr(remote, "fetch", counted)
    paths = [path for path, _ in packs.read("memory://bucket").examples]
    assert fetched == []
    with ThreadPoolExecutor(8) as pool:
        list(pool.map(Path.read_bytes, [paths[-1]] * 8))
        list(pool.map(lambda path: path.read_bytes(), [paths[-1]] * 8))
    assert fetched == [f"shard-{paths[-1].place.shard:05d}.tar"]
    check_same(datasets.load(photos), datasets.load("memory://bucket"))
    assert len(fetched) == len(set(fetched)) == len(list(cache.rglob("*.tar")))
    # As settings of recipes have it: `Path` takes one slash away.
    settings = Recipe(data=Path("memory://bucket"))
    check_same(datasets.load(photos), datasets.from_settings(settings))
    assert TextSettings(data=Path("memory://bucket")).data == Path("memory:/bucket")
    assert len(fetched) == len(set(fetched))
    # A copy that was damaged, or cleared away, is fetched again.
    damage(shards.fetched()[0])
    check_same(datasets.load(photos), datasets.load("memory://bucket"))
    assert len(fetched) == len(set(fetched)) + 1
    data = datasets.load("memory://bucket")
    for path in shards.fetched():
        path.unlink()
    data.map(lambda split: split.at_size(8)).train.read([0, 1])


@pytest.mark.parametrize("name", ["pack.json", "examples.jsonl"])
def test_a_pack_that_was_copied_without_a_file_names_it(photos, tmp_path, name):
    packed = pack(photos, tmp_path / "packed")
    (packed / name).unlink()
    with pytest.raises(errors.InputError, match=f"{name} is missing: copy the whole"):
        datasets.load(packed)


def test_a_shard_that_is_damaged_on_its_way_is_not_kept(bucket):
    content = bucket.cat_file("/bucket/shard-00000.tar")
    bucket.pipe_file("/bucket/shard-00000.tar", content[:-1] + b"x")
    with pytest.raises(errors.InputError, match=r"shard-00000.tar is damaged"):
        datasets.load("memory://bucket")
    assert all(files.sha256(path) == path.stem for path in shards.fetched())
    bucket.rm("/bucket/shard-00000.tar")
    with pytest.raises(errors.InputError, match=r"no file memory://bucket/shard-00000"):
        datasets.load("memory://bucket")


def test_other_addresses_are_read_or_refused_in_a_sentence(photos, tmp_path):
    pytest.importorskip("fsspec")
    packed = pack(photos, tmp_path / "packed")
    check_same(datasets.load(photos), datasets.load(f"file://{packed}"))
    settings = Recipe(data=Path(f"file://{packed}"))
    check_same(datasets.load(photos), datasets.from_settings(settings))
    for wrong, reason in (
        (
            "memory://nothing",
            "There is no file memory://nothing/pack.json: an address must be that",
        ),
        ("nonsense://a/b", "Cannot read nonsense://a/b/pack.json: Protocol not known"),
    ):
        with pytest.raises(errors.InputError, match=reason):
            datasets.load(wrong)


def test_without_fsspec_the_extra_is_named(monkeypatch):
    monkeypatch.setattr(errors, "is_installed", lambda module: module != "fsspec")
    with pytest.raises(errors.InputError, match=r'pip install "keras-tl\[remote\]"'):
        datasets.load("s3://bucket/packed")


def test_fsspec_and_tensorflow_are_not_loaded_for_a_pack_on_this_machine(
    photos, tmp_path
):
    packed = pack(photos, tmp_path / "packed")
    program = (
        "import sys; from keras_tl.data import datasets; "
        f"datasets.load({str(packed)!r}); "
        "print({'fsspec', 'tensorflow'} & set(sys.modules))"
    )
    printed = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=True
    )
    assert printed.stdout == "set()\n"
