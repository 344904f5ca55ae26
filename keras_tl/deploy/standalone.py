"""The program `predict.py` that goes with an exported model.

It needs the runtime of the format, numpy and Pillow, for sound `soundfile` and `soxr`,
or for texts `tokenizers`; nothing of keras-tl. It prepares images as
`data.images.decode` does, and sound as `data.waves.decode`.
"""

from collections.abc import Mapping, Sequence
from string import Template

from keras_tl.data import images

# Format -> the packages and the import of its runtime, and how the program computes
# the named outputs of a batch with it.
RUNTIMES = {
    "litert": (
        "ai-edge-litert",
        "from ai_edge_litert.interpreter import Interpreter",
        """\
interpreter = Interpreter(str(FOLDER / contract["model"]))
targets = interpreter.get_signature_runner().get_output_details()
interpreter.allocate_tensors()
source = interpreter.get_input_details()[0]["index"]


def of_one(example):
    interpreter.set_tensor(source, example[None])
    interpreter.invoke()
    return {n: interpreter.get_tensor(t["index"])[0] for n, t in targets.items()}


def outputs(batch):
    rows = [of_one(example) for example in batch]
    return {name: np.stack([row[name] for row in rows]) for name in targets}
""",
    ),
    "onnx": (
        "onnxruntime",
        "import onnxruntime",
        """\
session = onnxruntime.InferenceSession(FOLDER / contract["model"])


def outputs(batch):
    names = [output.name for output in session.get_outputs()]
    return dict(zip(names, session.run(names, {"inputs": batch})))
""",
    ),
    "savedmodel": (
        "tensorflow",
        "import tensorflow as tf",
        """\
loaded = tf.saved_model.load(FOLDER / contract["model"])


def outputs(batch):
    made = loaded.signatures["serving_default"](inputs=tf.constant(batch))
    return {name: values.numpy() for name, values in made.items()}
""",
    ),
    "keras": (
        "keras tensorflow",
        "import keras",
        """\
model = keras.saving.load_model(FOLDER / contract["model"], compile=False)


def outputs(batch):
    made = model.predict_on_batch(batch)
    return made if isinstance(made, dict) else {"logits": made}
""",
    ),
}
RUNTIMES["litert-int8"] = RUNTIMES["litert"]

_HEAD = '''\
"""Predict with the model beside this file, which contract.json describes.

    pip install $packages
    python predict.py $example
"""

${standard}import json
import sys
from pathlib import Path

$imports

FOLDER = Path(__file__).resolve().parent
contract = json.loads((FOLDER / "contract.json").read_text(encoding="utf-8"))
'''

_IMAGE = """\
def prepare(path):
    image = Image.open(path)
    turn = image.getexif().get(274)
    image.draft(None, ($draft, $draft))
    if turn in range(2, 9):
        image = image.transpose([0, 3, 1, 5, 4, 6, 2][turn - 2])
    if image.mode.startswith("I"):  # 16 bits
        image = Image.fromarray(np.rint(np.asarray(image) / 257).astype("uint8"))
    if image.has_transparency_data:
        white = Image.new("RGBA", image.size, "white")
        image = Image.alpha_composite(white, image.convert("RGBA"))
    image = image.convert("RGB")
$square
    return np.asarray(image, "$dtype")
"""

# Lines that make a square as `data.images` does.
_SQUARE = {
    "crop": """\
    side = min(image.size)
    left, top = (image.width - side) // 2, (image.height - side) // 2
    image = image.crop((left, top, left + side, top + side))
    image = image.resize(($side, $side), Image.Resampling.BILINEAR)""",
    "pad": """\
    size, grey = ($side, $side), (127, 127, 127)
    image = ImageOps.pad(image, size, Image.Resampling.BILINEAR, color=grey)""",
    "stretch": """\
    image = image.resize(($side, $side), Image.Resampling.BILINEAR)""",
}

_TEXT = """\
tokenizer = Tokenizer.from_file(str(FOLDER / "tokenizer.json"))


def prepare(text):
    if not text.strip():
        raise ValueError("the text is empty")
    return np.array(tokenizer.encode(text).ids, "$dtype")
"""

_SOUND = """\
def prepare(path):
    sound, rate = soundfile.read(path, dtype="float32", always_2d=True)
    if not len(sound):
        raise ValueError("the clip holds no samples")
    sound = np.clip(sound.mean(axis=1, dtype="float32"), -1, 1)
    if rate != $rate:
        sound = np.clip(soxr.resample(sound, rate, $rate), -1, 1)
    if len(sound) > $samples:  # The loudest part.
        energy = np.concatenate([[0.0], np.cumsum(np.square(sound, dtype="float64"))])
        sums = energy[$samples:] - energy[:-$samples]
        best = np.flatnonzero(sums >= sums.max() * (1 - 1e-6))
        start = best[np.abs(best - (len(sound) - $samples) / 2).argmin()]
        return sound[start : start + $samples]
    digest = hashlib.blake2b(np.ascontiguousarray(sound).data, digest_size=8).digest()
    rng = np.random.default_rng(int.from_bytes(digest, "little"))
    filled = rng.standard_normal($samples, "float32") * np.float32($noise)
    start = ($samples - len(sound)) // 2
    filled[start : start + len(sound)] = sound
    return np.clip(filled, -1, 1)
"""

# Kind of the examples -> the packages that prepare them, and an example.
_PREPARED_BY = {
    "image": (["pillow"], "photo.jpg"),
    "audio": (["soundfile", "soxr"], "clip.wav"),
    "text": (["tokenizers"], '"some text"'),
}

# Activation -> the function from logits to rows of name, value and remark.
_ANSWERS = {
    "softmax": """\
def answer(row):
    powers = np.exp((row - row.max()) / contract["temperature"])
    values, abstain = powers / powers.sum(), contract["abstain"]
    best = values.argmax()
    sure = abstain is None or values[best] >= abstain["threshold"]
    remark = "" if sure else "not sure"
    return [(contract["class_names"][best], values[best], remark)]
""",
    "sigmoid": """\
def answer(row):
    values = 1 / (1 + np.exp(-row / contract["temperature"]))
    names = contract["class_names"]
    limits = contract["thresholds"] or [0.5] * len(names)
    there = ["yes" if v >= t else "" for v, t in zip(values, limits)]
    return list(zip(names, values, there))
""",
    "linear": """\
def answer(row):
    return [(name, value, "") for name, value in zip(contract["class_names"], row)]
""",
}

_PREDICT = """\
def predict(inputs):
    made = outputs(np.stack([prepare(one) for one in inputs]))
    return [answer(row) for row in made["logits"].astype("float64")]
"""

# The same where the run knows how unlike its training examples an example is, as
# `analysis.unlike` computes it.
_PREDICT_UNLIKE = """\
def directions(rows):
    return rows / np.maximum(np.linalg.norm(rows, axis=1, keepdims=True), 1e-12)


@functools.cache
def known():
    return directions(np.load(FOLDER / "examples.npy").astype("float32"))


def are_unlike(embeddings):
    limits, cosines = contract["unlike"], directions(embeddings) @ known().T
    nearest = np.sort(cosines)[:, -limits["neighbours"] :][:, 0]
    far = np.sqrt(np.maximum(0, 2 - 2 * nearest)) > limits["threshold"]
    return far.tolist()


def predict(inputs):
    made = outputs(np.stack([prepare(one) for one in inputs]))
    answers = [answer(row) for row in made["logits"].astype("float64")]
    for rows, is_unlike in zip(answers, are_unlike(made["embedding"])):
        also = ["unlike the training examples"] * is_unlike
        yield [(n, v, ", ".join([r] * bool(r) + also)) for n, v, r in rows]
"""

_END = """\
if __name__ == "__main__":
    if len(sys.argv) == 1:
        sys.exit(__doc__)
    failed = False
    for one in sys.argv[1:]:
        try:
            (rows,) = predict([one])
        except Exception as error:
            print(f"{one}: {error}", file=sys.stderr)
            failed = True
            continue
        for name, value, remark in rows:
            print(one, name, f"{value:.6f}", remark, sep="\\t")
    sys.exit(failed)
"""


def requirements(format: str, kind: str, needs: Sequence[str] = ()) -> list[str]:
    """List the packages that `predict.py` needs.

    Args:
        format: A key of `RUNTIMES`.
        kind: Kind of the examples, "image", "audio" or "text".
        needs: Further modules that have to be imported before the model is loaded.

    >>> requirements("onnx", "image")
    ['onnxruntime', 'numpy', 'pillow']
    """
    libraries, _ = _PREPARED_BY[kind]
    others = [name.replace("_", "-") for name in needs]
    return [*RUNTIMES[format][0].split(), "numpy", *libraries, *others]


def example(kind: str) -> str:
    """Return an example of what `predict.py` takes on its command line.

    >>> example("audio")
    'clip.wav'
    """
    return _PREPARED_BY[kind][1]


def program(contract: Mapping, needs: Sequence[str] = ()) -> str:
    """Return the text of `predict.py` for an export.

    As a program it prints for each input a line of input, name, value and a remark,
    separated by tabs. Of several classes the likeliest, with the remark "not sure"
    where the model abstains; of several labels all, with "yes" for those that are
    there. A further remark is "unlike the training examples", where the run can tell.
    Imported, it has `prepare`, `outputs` and `predict`.

    Args:
        contract: What `contract.json` holds, see `export.export`.
        needs: Further modules that have to be imported before the model is loaded.
    """
    _, runtime, code = RUNTIMES[contract["format"]]
    spec, kind = contract["input"], contract["kind"]
    values = {"dtype": spec["dtype"]}
    imports = [runtime, "import numpy as np", *(f"import {name}" for name in needs)]
    if kind == "image":
        preparation = _IMAGE
        side, rule = spec["shape"][0], spec["resize"]
        imports.append("from PIL import Image" + ", ImageOps" * (rule == "pad"))
        values["square"] = Template(_SQUARE[rule]).substitute(side=side)
        values["draft"] = images.draft_side(side)
    elif kind == "audio":
        preparation = _SOUND
        imports += ["import soundfile", "import soxr"]
        (values["samples"],) = spec["shape"]
        values |= {name: spec[name] for name in ("rate", "noise")}
    else:
        preparation = _TEXT
        imports.append("from tokenizers import Tokenizer")
    # `import` before `from`, then by name, as ruff sorts them.
    imports.sort(key=lambda line: (line.startswith("from"), line.split()[1].lower()))
    head = {
        "packages": " ".join(requirements(contract["format"], kind, needs)),
        "example": example(kind),
        "standard": "import functools\n" * bool(contract["unlike"])
        + "import hashlib\n" * (kind == "audio"),
        "imports": "\n".join(imports),
    }
    first = Template(_HEAD).substitute(head).rstrip("\n") + "\n" + code
    preparation = Template(preparation).substitute(values)
    predict = _PREDICT_UNLIKE if contract["unlike"] else _PREDICT
    parts = (first, preparation, _ANSWERS[contract["activation"]], predict, _END)
    return "\n\n".join(parts)
