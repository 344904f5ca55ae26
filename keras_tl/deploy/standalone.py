"""The program `predict.py` that goes with an exported model.

It needs the runtime of the format, numpy and Pillow, or for texts `tokenizers`; nothing
of keras-tl. It prepares images as `data.images.decode` does.
"""

from collections.abc import Mapping, Sequence
from string import Template

from keras_tl.data import images

# Format -> the packages and the import of its runtime, and how the program computes
# the logits of a batch with it.
RUNTIMES = {
    "litert": (
        "ai-edge-litert",
        "from ai_edge_litert.interpreter import Interpreter",
        """\
interpreter = Interpreter(str(FOLDER / contract["model"]))
interpreter.allocate_tensors()
source = interpreter.get_input_details()[0]["index"]
target = interpreter.get_output_details()[0]["index"]


def one_row(example):
    interpreter.set_tensor(source, example[None])
    interpreter.invoke()
    return interpreter.get_tensor(target)[0]


def logits(batch):
    return np.stack([one_row(example) for example in batch])
""",
    ),
    "onnx": (
        "onnxruntime",
        "import onnxruntime",
        """\
session = onnxruntime.InferenceSession(FOLDER / contract["model"])


def logits(batch):
    return session.run(["logits"], {"inputs": batch})[0]
""",
    ),
    "savedmodel": (
        "tensorflow",
        "import tensorflow as tf",
        """\
loaded = tf.saved_model.load(FOLDER / contract["model"])


def logits(batch):
    serve = loaded.signatures["serving_default"]
    return serve(inputs=tf.constant(batch))["logits"].numpy()
""",
    ),
    "keras": (
        "keras tensorflow",
        "import keras",
        """\
model = keras.saving.load_model(FOLDER / contract["model"], compile=False)


def logits(batch):
    return np.asarray(model.predict_on_batch(batch))
""",
    ),
}
RUNTIMES["litert-int8"] = RUNTIMES["litert"]

_HEAD = '''\
"""Predict with the model beside this file, which contract.json describes.

    pip install $packages
    python predict.py $example
"""

import json
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
    return np.array(tokenizer.encode(text).ids, "$dtype")
"""

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

_END = """\
def predict(inputs):
    return map(answer, logits(np.stack(list(map(prepare, inputs)))).astype("float64"))


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
        kind: Kind of the examples, "image" or "text".
        needs: Further modules that have to be imported before the model is loaded.

    >>> requirements("onnx", "image")
    ['onnxruntime', 'numpy', 'pillow']
    """
    library = {"image": "pillow", "text": "tokenizers"}[kind]
    others = [name.replace("_", "-") for name in needs]
    return [*RUNTIMES[format][0].split(), "numpy", library, *others]


def program(contract: Mapping, needs: Sequence[str] = ()) -> str:
    """Return the text of `predict.py` for an export.

    As a program it prints for each input a line of input, name, value and a remark,
    separated by tabs. Of several classes the likeliest, with the remark "not sure"
    where the model abstains; of several labels all, with "yes" for those that are
    there. Imported, it has `prepare`, `logits` and `predict`.

    Args:
        contract: What `contract.json` holds, see `export.export`.
        needs: Further modules that have to be imported before the model is loaded.
    """
    _, runtime, code = RUNTIMES[contract["format"]]
    spec, image = contract["input"], contract["kind"] == "image"
    values = {"dtype": spec["dtype"]}
    imports = [runtime, "import numpy as np", *(f"import {name}" for name in needs)]
    if image:
        side, rule = spec["shape"][0], spec["resize"]
        imports.append("from PIL import Image" + ", ImageOps" * (rule == "pad"))
        values["square"] = Template(_SQUARE[rule]).substitute(side=side)
        values["draft"] = images.draft_side(side)
    else:
        imports.append("from tokenizers import Tokenizer")
    # `import` before `from`, then by name, as ruff sorts them.
    imports.sort(key=lambda line: (line.startswith("from"), line.split()[1].lower()))
    head = {
        "packages": " ".join(requirements(contract["format"], contract["kind"], needs)),
        "example": "photo.jpg" if image else '"some text"',
        "imports": "\n".join(imports),
    }
    first = Template(_HEAD).substitute(head).rstrip("\n") + "\n" + code
    preparation = Template(_IMAGE if image else _TEXT).substitute(values)
    parts = (first, preparation, _ANSWERS[contract["activation"]], _END)
    return "\n\n".join(parts)
