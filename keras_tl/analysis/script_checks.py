"""Checks of a training script by its source, without running it.

What is looked for are the errors that many articles on transfer learning print, see
docs/vgg16_cifar10.md; each check reads calls and imports, and follows no variables.
"""

import ast
import io
import re
import tokenize
from dataclasses import dataclass
from pathlib import Path

from keras_tl import errors
from keras_tl.analysis.findings import Finding, Severity
from keras_tl.models import catalog

CONSTRUCTORS = {b.constructor for b in catalog.BACKBONES.values() if b.constructor}
# Models that scale pixels themselves.
_OWN_SCALE = {
    b.constructor for b in catalog.BACKBONES.values() if b.preprocessing == "none"
}
# Datasets of Keras: number of classes, and side of the images.
DATASETS = {
    "cifar10": (10, 32),
    "cifar100": (100, 32),
    "mnist": (10, 28),
    "fashion_mnist": (10, 28),
}
_FIT = ("fit", "fit_generator")
# Units of hidden layers that are meant for more than a million images.
_LARGE = 2048


@dataclass(frozen=True)
class Script:
    """A script, as its checks see it.

    Attributes:
        calls: Name and node of each call, in order; the name is the last one, such as
            "fit" of `model.fit(...)`.
        imports: Names of imported modules, and of what is imported from them.
        text: The source without comments and strings that stand alone.
        prose: Comments and docstrings.
    """

    calls: tuple[tuple[str, ast.Call], ...]
    imports: tuple[tuple[str, int], ...]
    text: str
    prose: tuple[tuple[str, int], ...]

    def named(self, *names: str) -> list[ast.Call]:
        """Return the calls of some functions."""
        return [call for name, call in self.calls if name in names]

    @property
    def backbones(self) -> list[tuple[str, ast.Call]]:
        """Calls of `keras.applications` with pretrained weights and without the top."""
        return [
            (name, call)
            for name, call in self.calls
            if name in CONSTRUCTORS
            and _value(call, "weights", "imagenet") is not None
            and _value(call, "include_top", True) is False
        ]

    @property
    def dataset(self) -> str | None:
        """Name of a dataset of Keras that is loaded; `None` where none is."""
        for call in self.named("load_data"):
            name = ast.unparse(call.func).split(".")[-2:-1]
            if name and name[0] in DATASETS:
                return name[0]
        return None


def check(path: Path | str) -> list[Finding]:
    """Check a Python file.

    Raises:
        InputError: It cannot be read, or is no Python.
    """
    try:
        source = Path(path).read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise errors.expected("script", "be a readable file", str(path)) from error
    return check_source(source, Path(path).name)


def check_source(source: str, name: str = "script") -> list[Finding]:
    """Check the source of a script.

    Args:
        source: The source.
        name: Name of the script in the findings.

    Raises:
        InputError: It is no Python.

    >>> [one.code for one in check_source("model.fit_generator(data, steps=2)")]
    ['fit-generator', 'no-validation', 'no-seed']
    """
    try:
        script = _read(source)
    except (SyntaxError, ValueError, tokenize.TokenError) as error:
        raise errors.expected("script", "be Python", name, f"{error}.") from error
    findings = []
    for rule in (_old_names, _model, _data, _training, _prose):
        for code, severity, line, message, remedy in rule(script):
            place = f"{name}, line {line}"
            findings.append(
                Finding(code, severity, f"{place}: {message}", remedy, (place,))
            )
    return findings


Row = tuple[str, Severity, int, str, str]


def _read(source) -> Script:
    tree = ast.parse(source)
    calls, imports, strings = [], [], []
    for node in ast.walk(tree):
        if isinstance(node, ast.Call):
            calls.append((ast.unparse(node.func).split(".")[-1], node))
        elif isinstance(node, ast.Import):
            imports += [(alias.name, node.lineno) for alias in node.names]
        elif isinstance(node, ast.ImportFrom) and node.module:
            imports += [(f"{node.module}.{a.name}", node.lineno) for a in node.names]
        elif isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant):
            strings.append((str(node.value.value), node.lineno))
    for token in tokenize.generate_tokens(io.StringIO(source).readline):
        if token.type == tokenize.COMMENT:
            strings.append((token.string, token.start[0]))
    calls.sort(key=lambda pair: (pair[1].lineno, pair[1].col_offset))
    return Script(tuple(calls), tuple(imports), ast.unparse(tree), tuple(strings))


def _value(call, name, default=None):
    """Return an argument that is written out, or its source."""
    for keyword in call.keywords:
        if keyword.arg == name:
            try:
                return ast.literal_eval(keyword.value)
            except ValueError:
                return ast.unparse(keyword.value)
    return default


def _has(call, *names) -> bool:
    return any(keyword.arg in (*names, None) for keyword in call.keywords)


def _old_names(script) -> list[Row]:
    rows = []
    for name, line in script.imports:
        if name.endswith("preprocessing.image.ImageDataGenerator"):
            rows.append(
                (
                    "image-data-generator",
                    "error",
                    line,
                    "`ImageDataGenerator` is gone from `keras.preprocessing.image`.",
                    "Use `augment.image_data_generator`, or Keras's random layers in "
                    "the input pipeline.",
                )
            )
    for call in script.named("fit_generator", "evaluate_generator"):
        rows.append(
            (
                "fit-generator",
                "error",
                call.lineno,
                f"`{ast.unparse(call.func).split('.')[-1]}` is gone from Keras 3.",
                "Call `fit` or `evaluate`, which take generators.",
            )
        )
    kinds = {"tf.keras": None, "keras": None, "theano": None}
    for name, line in script.imports:
        first = name.split(".")[0]
        if name.startswith("tensorflow.keras"):
            kinds["tf.keras"] = line
        elif first in kinds:
            kinds[first] = line
    theano = kinds["theano"] or ("theano" in script.text.lower() and 1)
    if theano or (kinds["tf.keras"] and kinds["keras"]):
        rows.append(
            (
                "mixed-keras",
                "error",
                int(theano or kinds["tf.keras"]),
                "Theano is no backend of Keras 3."
                if theano
                else "`keras` and `tensorflow.keras` are imported side by side: they "
                "can be two packages, whose layers do not fit together.",
                "Import `keras` alone.",
            )
        )
    return rows


def _model(script) -> list[Row]:
    rows = []
    for name, call in script.backbones:
        if script.named("Flatten") and not _has(call, "input_shape", "input_tensor"):
            rows.append(
                (
                    "open-input-shape",
                    "error",
                    call.lineno,
                    f"`{name}` without `input_shape` takes images of any size, and "
                    "`Flatten` behind it has no size.",
                    "Give `input_shape=(height, width, 3)`, or use "
                    "GlobalAveragePooling2D.",
                )
            )
        if ".trainable" not in script.text:
            rows.append(
                (
                    "nothing-frozen",
                    "error",
                    call.lineno,
                    f"The pretrained layers of `{name}` are never frozen: gradients "
                    "of a random head go through them from the first step.",
                    "Freeze it, train the head, and unfreeze the last blocks after it.",
                )
            )
        resized = re.search(r"resiz|upsampl|zoom|image_size", script.text, re.I)
        side = DATASETS[script.dataset][1] if script.dataset else None
        if side and not resized:
            rows.append(
                (
                    "tiny-feature-map",
                    "warning",
                    call.lineno,
                    f"Images of {side} x {side} pixels give `{name}` a feature map of "
                    "1 x 1 cells.",
                    "Scale them up, to 96 pixels or more.",
                )
            )
    if script.backbones:
        dense = [c for c in script.named("Dense") if _units(c) >= _LARGE]
        if dense:
            rows.append(
                (
                    "large-head",
                    "warning",
                    dense[0].lineno,
                    f"The head has {errors.counted(len(dense), 'hidden layer')} of "
                    f"{errors.counted(_units(dense[0]), 'unit')}.",
                    "Pool the feature map, and use one Dense layer.",
                )
            )
    if script.dataset:
        classes = DATASETS[script.dataset][0]
        for call in script.named("Dense"):
            softmax = "softmax" in ast.unparse(call)
            if softmax and _units(call) > classes:
                rows.append(
                    (
                        "unused-outputs",
                        "error",
                        call.lineno,
                        f"The head has {_units(call):,} outputs for the {classes} "
                        f"classes of {script.dataset}.",
                        f"Build it with {classes} outputs.",
                    )
                )
    return rows


def _units(call) -> int:
    values = [*call.args[:1], *(k.value for k in call.keywords if k.arg == "units")]
    if values and isinstance(values[0], ast.Constant):
        value = values[0].value
        return value if isinstance(value, int) else 0
    return 0


def _data(script) -> list[Row]:
    rows = []
    scaled = re.search(r"/=? *255|rescale *= *1|Rescaling\(1", script.text)
    for name, call in script.backbones:
        if scaled and "preprocess_input" not in script.text:
            wanted = "pixels in [0, 255]" if name in _OWN_SCALE else "its own scale"
            rows.append(
                (
                    "pixel-range",
                    "error",
                    call.lineno,
                    f"Pixels are divided by 255, and `{name}` wants {wanted}.",
                    "Use `preprocess_input` of its module, on pixels in [0, 255].",
                )
            )
    one_hot = re.search(r"to_categorical|one_hot|categorical'|np\.eye", script.text)
    for call in script.named("compile"):
        loss = str(_value(call, "loss", ""))
        sparse = script.dataset and not one_hot
        if loss in ("categorical_crossentropy", "CategoricalCrossentropy") and sparse:
            rows.append(
                (
                    "labels-do-not-fit-loss",
                    "error",
                    call.lineno,
                    f"The loss {loss} gets the integer labels of {script.dataset}.",
                    "Use SparseCategoricalCrossentropy.",
                )
            )
    return rows


def _training(script) -> list[Row]:
    rows = []
    for call in script.named("compile"):
        optimizer = _value(call, "optimizer")
        if optimizer is None and call.args:
            optimizer = ast.unparse(call.args[0]).strip("'\"")
        default = re.fullmatch(
            r"(?:\w+\.)*(rmsprop|adam\w*|nadam)(?:\(\))?", str(optimizer), re.I
        )
        if default and script.backbones and ".trainable" not in script.text:
            rows.append(
                (
                    "high-learning-rate",
                    "warning",
                    call.lineno,
                    f"{optimizer} trains pretrained layers at its default learning "
                    "rate of 1e-3: they are overwritten, not adapted.",
                    "Use 1e-5 to 1e-4 for pretrained layers.",
                )
            )
    for call in script.named(*_FIT):
        steps = next(
            (k.value for k in call.keywords if k.arg == "steps_per_epoch"), None
        )
        if isinstance(steps, ast.BinOp) and isinstance(steps.op, ast.Div):
            rows.append(
                (
                    "steps-per-epoch",
                    "error",
                    call.lineno,
                    f"`steps_per_epoch={ast.unparse(steps)}` is no whole number.",
                    "Leave it out, or round it up with `math.ceil`.",
                )
            )
        if not _has(call, "validation_data", "validation_split"):
            rows.append(
                (
                    "no-validation",
                    "warning",
                    call.lineno,
                    "Training without validation data: nothing says when to stop.",
                    "Draw a validation split from train, and stop early on it.",
                )
            )
    saved = {
        ast.unparse(argument)
        for call in script.named("save", "ModelCheckpoint", "save_model")
        for argument in [*call.args, *(k.value for k in call.keywords)]
    }
    for call in script.named("load_model"):
        if call.args and ast.unparse(call.args[0]) not in saved and script.named(*_FIT):
            rows.append(
                (
                    "never-saved",
                    "error",
                    call.lineno,
                    f"{ast.unparse(call.args[0])} is loaded, and saved nowhere.",
                    'Save it first: `model.save("model.keras")`.',
                )
            )
    fits = script.named(*_FIT)
    if fits and not re.search(r"seed", script.text):
        rows.append(
            (
                "no-seed",
                "note",
                fits[0].lineno,
                "Nothing is seeded: every run is another run.",
                "Begin with `keras.utils.set_random_seed(0)`.",
            )
        )
    return rows


def _prose(script) -> list[Row]:
    if not script.backbones or script.named("fit", "fit_generator") == []:
        return []
    for text, line in script.prose:
        claim = re.search(
            r"\bwe (?:will )?pre-?train|pre-?training (?:it|the model|on ImageNet)",
            text,
            re.I,
        )
        theano = re.search(r"theano", text, re.I)
        if claim:
            return [
                (
                    "claims-pretraining",
                    "note",
                    line,
                    "The text says that a model is pretrained here; its weights are "
                    "downloaded.",
                    "Say where the weights come from, and under which licence.",
                )
            ]
        if theano:
            return [
                (
                    "mixed-keras",
                    "note",
                    line,
                    "The text names Theano, which is no backend of Keras 3.",
                    "Name TensorFlow, JAX or PyTorch.",
                )
            ]
    return []
