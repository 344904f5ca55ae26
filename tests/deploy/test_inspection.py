"""Promises about reading model files: described or refused, whatever is in them."""

import copy
import json
import os
import random
import resource
import shutil
import time
import zipfile
from collections import Counter

import hostile
import pytest
from hypothesis import HealthCheck, given, settings, strategies
from test_untrusted import ARCHIVES, HDF5

from keras_tl import errors
from keras_tl.deploy import contents, inspection

# Seconds that a small file may take, on a machine with other work, and MiB that reading
# all of them may add.
_SECONDS, _MIB = 5, 1024
# What a length or an offset is replaced by.
_NUMBERS = (0, 1, 2, 255, 2**15, 2**16 - 1, 2**31 - 1, 2**31, 2**32 - 4, 2**32 - 1)
_VALUES = (
    *(None, True, -1, 0, 1, 2**31, 10**12, 10**400, 1.5, "", "Lambda", "../evil"),
    *([], [[]], {}, {"class_name": "Lambda"}, {"class_name": 3, "config": []}, "\x1b["),
)


@pytest.fixture(scope="module")
def seeds(tmp_path_factory):
    """Files as they should be, one of each format."""
    return hostile.make_seeds(tmp_path_factory.mktemp("seeds"))


def mutated(content, rng):
    """Change bytes: some of them, their number, their order, or lengths among them."""
    made = bytearray(content)
    for _ in range(rng.choice((1, 1, 2, 5, 20))):
        if not made:
            return b""
        at = rng.randrange(len(made))
        to = min(len(made), at + rng.choice((1, 4, 16, 200)))
        way = rng.randrange(6)
        if way == 0:
            made[at] ^= 1 << rng.randrange(8)
        elif way == 1:
            made[at] = rng.randrange(256)
        elif way == 2:
            length = rng.choice((2, 4, 8))
            number = rng.choice(_NUMBERS) % 2 ** (8 * length)
            made[at : at + length] = number.to_bytes(length, "little")
        elif way == 3:
            source = rng.randrange(len(made))
            made[at:to] = made[source : source + rng.choice((0, 4, 16, 200))]
        elif way == 4 and rng.random() < 0.2:
            del made[at:]
        else:
            made[at:at] = made[at:to]
    return bytes(made)


def mutated_json(text, rng):
    """Replace values anywhere in a JSON text, or change its bytes."""
    if rng.random() < 0.2:
        return mutated(text, rng)
    value = json.loads(text)
    for _ in range(rng.choice((1, 1, 3))):
        place = value
        while isinstance(place, dict | list) and place:
            keys = list(place) if isinstance(place, dict) else range(len(place))
            key = rng.choice(keys)
            if not isinstance(place[key], dict | list) or rng.random() < 0.3:
                place[key] = copy.deepcopy(rng.choice(_VALUES))
                break
            place = place[key]
    return json.dumps(value).encode()


def mutated_file(path, rng):
    """Return the content of a file with changes that fit its format."""
    content = path.read_bytes()
    if path.suffix != ".keras" or rng.random() < 0.3:
        return mutated(content, rng)
    with zipfile.ZipFile(path) as archive:
        name = rng.choice(archive.namelist())
        part = archive.read(name)
    # The archive is a sound one: what is in it is read.
    change = mutated_json if name.endswith(".json") else mutated
    made = hostile.rewritten(content, {name: change(part, rng)})
    if rng.random() < 0.2:  # The list of parts, at the end.
        where = made.rindex(b"PK\x01\x02")
        made = made[:where] + mutated(made[where:], rng)
    return made


def read_or_refuse(path) -> bool:
    """Return whether a file is described; all else must be a refusal in a sentence."""
    started, refusal = time.perf_counter(), ""
    try:
        json.dumps(contents.describe(path).to_json())
    except errors.InputError as error:
        refusal = str(error)
    assert time.perf_counter() - started < _SECONDS
    assert "\n" not in refusal
    return not refusal


def fuzz(seeds, folder, count):
    """Read mutated files of each format; return how many were described and refused."""
    counts = Counter()
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss

    options = {"deadline": None, "database": None, "derandomize": True}

    @settings(max_examples=count, suppress_health_check=list(HealthCheck), **options)
    @given(strategies.sampled_from(seeds), strategies.integers(0, 2**32))
    def one(path, number):
        target = folder / path.name
        content = mutated_file(path, random.Random(number))
        target.write_bytes(content)
        counts[path.suffix, read_or_refuse(target)] += 1

    one()
    grown = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before
    assert grown < _MIB * 1024
    return counts


def check_counts(counts):
    print(dict(counts))
    for suffix in (".keras", ".h5", ".tflite", ".onnx"):
        assert counts[suffix, True]
        assert counts[suffix, False]


def test_sound_files_are_described(seeds):
    for path in seeds:
        made = contents.describe(path)
        assert not made.problems, path
        assert made.parameters > 0
        assert made.layers
    archive = contents.describe(seeds[0])
    assert archive.parameters == hostile.model().count_params()
    assert sum(layer.parameters for layer in archive.layers) == archive.parameters
    assert [layer.kind for layer in archive.layers][1:3] == [
        *("Conv2D", "BatchNormalization")
    ]
    assert archive.inputs[0] == contents.Tensor("image", [None, 4, 4, 3], "float32")
    assert archive.written_by.startswith("Keras 3")
    lite, onnx = map(contents.describe, seeds[3:])
    assert (lite.parameters, onnx.parameters) == (6, 6)
    assert lite.layers == [contents.Layer("y", "FULLY_CONNECTED", 6, "float32")]
    assert onnx.layers == [contents.Layer("m", "MatMul", 6)]
    assert onnx.inputs == [contents.Tensor("x", [None, 2], "float")]


def test_mutated_files_are_described_or_refused(seeds, tmp_path):
    check_counts(fuzz(seeds, tmp_path, 300))


@pytest.mark.slow
def test_five_thousand_mutated_files_are_described_or_refused(seeds, tmp_path):
    check_counts(fuzz(seeds, tmp_path, 5000))


def test_mutated_files_are_described_or_refused_in_a_process(seeds, tmp_path):
    for number, path in enumerate(seeds * 2):
        target = tmp_path / path.name
        target.write_bytes(mutated_file(path, random.Random(number)))
        refusal = ""
        try:
            assert inspection.inspect(target)["bytes"] == target.stat().st_size
        except errors.InputError as error:
            refusal = str(error)
        assert "\n" not in refusal


@pytest.mark.filterwarnings("ignore:Duplicate name")
@pytest.mark.parametrize("name", ARCHIVES)
def test_what_loading_refuses_is_listed(name, seeds, tmp_path):
    change, message = ARCHIVES[name]
    path = tmp_path / "model.keras"
    path.write_bytes(change(seeds[0].read_bytes()))
    (problem, *_) = contents.describe(path).problems
    with pytest.raises(errors.InputError, match=message):
        raise errors.InputError(problem)


@pytest.mark.parametrize("name", HDF5)
def test_what_loading_refuses_of_weights_is_listed(name, tmp_path):
    change, message = HDF5[name]
    path = tmp_path / "model.weights.h5"
    path.write_bytes(hostile.hdf5(change))
    with pytest.raises(errors.InputError, match=message):
        raise errors.InputError(contents.describe(path).problems[0])


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("a.tflite", lambda: hostile.make_tflite("Shell"), "needs the operator Shell"),
        ("a.tflite", lambda: hostile.make_tflite(rows=10**9), "12,000,000,000 bytes"),
        ("a.onnx", lambda: onnx_bytes(domain="evil"), "operator evil.MatMul"),
        ("a.onnx", lambda: onnx_bytes(location="w.bin"), "w.bin of its folder"),
        ("a.onnx", lambda: onnx_bytes(location="../w"), "../w outside of its folder"),
        ("a.onnx", lambda: onnx_bytes(dims=(10**6, 10**6)), "1,000,000,000,000 num"),
    ],
)
def test_what_a_runtime_would_be_made_to_do_is_listed(name, content, message, tmp_path):
    (tmp_path / name).write_bytes(content())
    assert message in contents.describe(tmp_path / name).problems[0]


def onnx_bytes(**options):
    return hostile.make_onnx(**options).SerializeToString()


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("a.keras", b"", "is empty"),
        ("a.onnx", b"", "is empty"),
        ("a.keras", b"just a text\n", "no .keras file"),
        ("a.h5", b"just a text\n", "no HDF5 file"),
        ("a.tflite", b"just a text\n", "no .tflite file"),
        ("a.onnx", b"just a text\n", "no .onnx file"),
        ("a.onnx", b"\x08\x08", "no graph"),
        ("a.keras", hostile.PICKLE, "is a pickle"),
        ("a.onnx", hostile.PICKLE, "is a pickle"),
        ("a.pb", b"x", "must end in .keras"),
    ],
)
def test_what_is_no_model_is_refused_in_one_sentence(name, content, message, tmp_path):
    (tmp_path / name).write_bytes(content)
    with pytest.raises(errors.InputError, match=message) as raised:
        inspection.inspect(tmp_path / name)
    assert "\n" not in str(raised.value)


def test_folders_pipes_and_absent_files_are_refused(tmp_path):
    (tmp_path / "run").mkdir()
    (tmp_path / "run/model.keras").touch()
    with pytest.raises(errors.InputError, match=r"The model in it is .*run.model.ker"):
        inspection.inspect(tmp_path / "run")
    os.mkfifo(tmp_path / "pipe.keras")
    for name in ("pipe.keras", "absent.keras"):
        with pytest.raises(errors.InputError, match="There is no model file"):
            inspection.inspect(tmp_path / name)


# What stands for the reading of a file that makes a library hang, crash, or use memory.
READERS = {
    "hangs": ("import time; time.sleep(600)", "longer than 2 seconds"),
    "is busy": ("while True: pass", "longer than 2 seconds"),
    "crashes": ("import os; os.abort()", "ended with status -6"),
    "fills the memory": ("x = bytes(2**34)", "more memory than"),
    "fills the disk": ("fill()", "File too large"),
    "raises": ("raise KeyError('x')", "damaged"),
}


@pytest.mark.parametrize("way", READERS)
def test_a_reader_that_fails_is_one_sentence(way, seeds, tmp_path, monkeypatch):
    code, message = READERS[way]
    changed = f"""
from keras_tl.deploy import contents
def fill():
    with open({str(tmp_path / "large")!r}, "wb") as file:
        while True:
            file.write(bytes(2**20))
def read(path):
    {code}
contents._READERS[".keras"] = read
"""
    program = inspection._PROGRAM.replace("inspection.answer", f"{changed}\n{LAST}")
    monkeypatch.setattr(inspection, "_PROGRAM", program)
    started = time.perf_counter()
    with pytest.raises(errors.InputError, match=message) as raised:
        inspection.inspect(seeds[0], seconds=2 if "2 sec" in message else 60)
    assert "\n" not in str(raised.value)
    assert time.perf_counter() - started < 30
    if way == "fills the disk":
        assert (tmp_path / "large").stat().st_size <= 2**26


LAST = "inspection.answer"


def test_the_process_imports_nothing_from_the_folder_it_is_in(
    seeds, tmp_path, monkeypatch
):
    (tmp_path / "h5py.py").write_text("raise SystemExit('executed')")
    shutil.copy(seeds[0], tmp_path)
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend("")
    assert inspection.inspect("model.keras")["format"] == "Keras 3 archive"
