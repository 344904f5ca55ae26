"""Checks of a Keras model before training: its input, its head, its loss, its flags.

Any functional or sequential model will do, compiled or not, however it was built. The
model is as it was afterwards, also where a step was tried.
"""

import contextlib
import re
import warnings
from collections.abc import Iterator

import keras
import numpy as np

from keras_tl.analysis import preprocessing_checks
from keras_tl.analysis.findings import Finding, named
from keras_tl.errors import counted
from keras_tl.models import freezing, splitting

# Weights of a head from which on it is called large.
_LARGE = 1_000_000
# Learning rates from which on pretrained weights are overwritten rather than adapted.
_HIGHEST = {"sgd": 0.05}
_HIGHEST_ADAPTIVE = 5e-4


def check(
    model: keras.Model,
    inputs: np.ndarray | None = None,
    labels: np.ndarray | None = None,
    *,
    raw: np.ndarray | None = None,
    num_classes: int | None = None,
    step: bool = True,
) -> list[Finding]:
    """Check a model, and what it is to be trained with.

    Args:
        model: A functional or sequential model, compiled or not.
        inputs: A batch as the model gets it in training, `(count, height, width, 3)`.
        labels: Its labels, as the loss gets them.
        raw: The same images as uint8 RGB in [0, 255], before any preprocessing; without
            them, the order of channels is known only where the model itself changes it.
        num_classes: Number of classes of the data; by default as the labels have it.
        step: Whether to try one step of training, where the model is compiled and
            inputs and labels are given. All weights are put back.

    Returns:
        The findings; of a model without a graph only those that need none.
    """
    findings = [*flags(model), *precision(model), *layers(model)]
    if splitting.has_graph(model):
        findings += [*feature_map(model), *head(model, labels, num_classes)]
        if inputs is not None:
            findings += preprocessing_checks.check(model, inputs, raw)
    if getattr(model, "compiled", False):
        findings += [*activation(model, inputs), *learning_rate(model)]
        if labels is not None:
            findings += loss(model, labels)
        serious = any(finding.severity == "error" for finding in findings)
        if step and inputs is not None and labels is not None and not serious:
            findings += moves(model, inputs, labels)
    return findings


def flags(model: keras.Model) -> list[Finding]:
    """Compare what trains with what was compiled, and with what is pretrained."""
    findings = []
    before = getattr(model, "_compiled_trainable_state", {})
    changed = [
        layer.name
        for layer in model._flatten_layers()
        if layer.weights and before.get(layer, layer.trainable) != layer.trainable
    ]
    if changed and model.compiled:
        findings.append(
            Finding(
                "flags-changed-after-compile",
                "error",
                f"`trainable` of {counted(len(changed), 'layer')} was changed after "
                f"`compile`, which read it: {named(changed)}.",
                "Call `compile` again after every change of `trainable`.",
                tuple(changed),
            )
        )
    if model.weights and not model.trainable_weights:
        findings.append(
            Finding(
                "nothing-trains",
                "error",
                freezing.why_nothing_trains(model),
                "Unfreeze the head: `freezing.unfreeze_head(model)`.",
            )
        )
        return findings
    body, top = _parts(model)
    normalizations = [
        layer for layer in body if isinstance(layer, keras.layers.BatchNormalization)
    ]
    others = [la for la in body if la.weights and la not in normalizations]
    if others and top and all(layer.trainable_weights for layer in others):
        if _is_pretrained(body):
            findings.append(
                Finding(
                    "nothing-frozen",
                    "warning",
                    f"All {len(others)} pretrained layers train together with the head "
                    f"({named([layer.name for layer in top])}). If that is new, its "
                    "random gradients go through the pretrained weights from the first "
                    "step on.",
                    "Freeze the backbone, train the head, and unfreeze the last blocks "
                    "after it at a small learning rate.",
                )
            )
    elif others and not any(layer.trainable_weights for layer in others):
        moving = [layer.name for layer in normalizations if layer.trainable]
        if moving:
            findings.append(
                Finding(
                    "batch-normalization-trains",
                    "error",
                    f"The backbone is frozen, but {len(moving)} of its "
                    "BatchNormalization layers are not: their statistics move with "
                    f"every batch ({named(moving)}).",
                    "Freeze them too: `freezing.freeze(backbone)`.",
                    tuple(moving),
                )
            )
    return findings


def _parts(model) -> tuple[list, list]:
    """Divide the layers into those up to the last feature map, and those behind it."""
    leaves = freezing.leaves(model)
    maps = [index for index, layer in enumerate(leaves) if len(_shape(layer)) == 4]
    last = maps[-1] + 1 if maps else 0
    return leaves[:last], [layer for layer in leaves[last:] if layer.weights]


def _shape(layer) -> tuple:
    with contextlib.suppress(AttributeError, ValueError, RuntimeError):
        return tuple(layer.output.shape)
    return ()


def _is_pretrained(layers) -> bool:
    """Return whether some layers have other values than fresh ones would have."""
    for layer in layers:
        for name in ("moving_mean", "bias"):
            value = getattr(layer, name, None)
            if value is not None and np.any(keras.ops.convert_to_numpy(value)):
                return True
    return False


def precision(model: keras.Model) -> list[Finding]:
    """Check that the outputs are float32."""
    kinds = {str(tensor.dtype) for tensor in getattr(model, "outputs", None) or ()}
    halves = sorted(kinds & {"float16", "bfloat16"})
    if not halves:
        return []
    return [
        Finding(
            "half-precision-head",
            "error" if "float16" in halves else "warning",
            f"The outputs of {model.name} are {halves[0]}: the loss of these has three "
            "digits, and float16 overflows beyond 65,504.",
            'Build the last layer with `dtype="float32"`.',
        )
    ]


def layers(model: keras.Model) -> list[Finding]:
    """List layers that do not belong into a model that is cut, saved and shipped."""
    leaves = freezing.leaves(model)
    random = [
        layer.name
        for layer in leaves
        if not layer.weights
        and type(layer) not in freezing.DROPOUT
        and re.match(r"Random|RandAugment|MixUp|CutMix|AugMix", type(layer).__name__)
    ]
    code = [layer.name for layer in leaves if type(layer).__name__ == "Lambda"]
    findings = []
    if random:
        findings.append(
            Finding(
                "augmentation-in-model",
                "warning",
                f"{counted(len(random), 'layer')} of augmentation in the model: "
                f"{named(random)}. Everything behind them runs again in every epoch, "
                "and they leave the house with the model.",
                "Augment in the input pipeline, after the cache, in training alone.",
                tuple(random),
            )
        )
    if code:
        findings.append(
            Finding(
                "code-in-model",
                "warning",
                f"{counted(len(code), 'layer')} of Python code in the model "
                f"({named(code)}): Keras refuses to load it in safe mode.",
                "Use layers of Keras, `keras.ops`, or a registered layer of your own.",
                tuple(code),
            )
        )
    return findings


def feature_map(model: keras.Model) -> list[Finding]:
    """Check the size of the last feature map."""
    body, _ = _parts(model)
    if not body or len(splitting.functional(model).inputs) != 1:
        return []
    shape = _shape(body[-1])[1:3]
    side = splitting.functional(model).inputs[0].shape[1:3]
    if None in shape:
        return [
            Finding(
                "open-input-shape",
                "warning",
                f"{model.name} takes images of any size, {tuple(side)}: `Flatten` "
                "behind its feature map has no size, and a Dense layer behind that "
                "cannot be built.",
                "Build it with `input_shape=(height, width, 3)`, or pool globally.",
            )
        ]
    pooled = any("Pooling" in type(layer).__name__ for layer in body[-1:])
    if min(shape) > 1 or None in side or min(side) < 2 or (pooled and _keeps(body[-1])):
        return []
    return [
        Finding(
            "tiny-feature-map",
            "warning",
            f"At {side[0]} x {side[1]} pixels the last feature map, of "
            f"{body[-1].name}, has {shape[0]} x {shape[1]} cells: the layout of the "
            "image is gone.",
            "Scale the images up, to 96 pixels or more, and build the model for that.",
        )
    ]


def _keeps(layer) -> bool:
    return bool(getattr(layer, "keepdims", False))


def head(
    model: keras.Model, labels: np.ndarray | None, num_classes: int | None = None
) -> list[Finding]:
    """Compare the outputs with the classes, and the head with the backbone."""
    findings = []
    outputs = splitting.functional(model).outputs
    width = outputs[0].shape[-1] if len(outputs) == 1 else None
    if labels is not None and width is not None and len(outputs[0].shape) == 2:
        findings += _width(model, width, np.asarray(labels), num_classes)
    body, top = _parts(model)
    inside = sum(layer.count_params() for layer in body if layer.weights)
    size = sum(layer.count_params() for layer in top)
    if inside and size >= _LARGE and size > 0.5 * inside:
        findings.append(
            Finding(
                "large-head",
                "warning",
                f"The head has {size:,} weights, its backbone {inside:,}: it is the "
                "part without pretrained weights, and learns a small dataset by heart.",
                "Pool the feature map, and use one Dense layer: `heads.attach`.",
                tuple(layer.name for layer in top),
            )
        )
    return findings


def _width(model, width, labels, num_classes) -> list[Finding]:
    columns = labels.shape[1] if labels.ndim == 2 else 1
    if columns > 1:
        if columns == width:
            return []
        classes = columns
    elif labels.dtype.kind not in "iub" and not _are_whole(labels):
        return []
    else:
        classes = num_classes or int(labels.max()) + 1
    if width == 1 and classes <= 2:
        return []
    if classes > width or (columns > 1 and classes != width):
        return [
            Finding(
                "labels-do-not-fit-head",
                "error",
                f"The head of {model.name} has {counted(width, 'output')}, the labels "
                f"{classes} classes.",
                f"Build the head with {classes} outputs.",
            )
        ]
    if width >= 2 * classes or (num_classes and width > num_classes):
        return [
            Finding(
                "unused-outputs",
                "warning",
                f"The head has {width:,} outputs for {classes} classes: "
                f"{width - classes:,} are never the right answer.",
                f"Build the head with {classes} outputs.",
            )
        ]
    return []


def _are_whole(labels) -> bool:
    return labels.dtype.kind == "f" and bool(np.all(labels == np.rint(labels)))


def _loss(model) -> tuple[str, bool]:
    """Return the name of the loss, in the spelling of a function, and `from_logits`."""
    given = getattr(model, "loss", None)
    if isinstance(given, str):
        given = keras.losses.get(given)
    name = getattr(given, "__name__", "") or type(given).__name__
    name = re.sub(r"(?<=[a-z])(?=[A-Z])", "_", name).lower()
    config = given.get_config() if hasattr(given, "get_config") else {}
    return name.replace("cross_entropy", "crossentropy"), bool(
        config.get("from_logits", False)
    )


def loss(model: keras.Model, labels: np.ndarray) -> list[Finding]:
    """Compare the form of the labels with what the loss takes."""
    name, _ = _loss(model)
    labels = np.asarray(labels)
    one_hot = labels.ndim == 2 and labels.shape[1] > 1
    problem = remedy = None
    if name == "categorical_crossentropy" and not one_hot:
        problem = f"integer labels {labels.shape}"
        remedy = "Use SparseCategoricalCrossentropy, or one-hot labels."
    elif name == "sparse_categorical_crossentropy" and one_hot:
        problem = f"one-hot labels {labels.shape}"
        remedy = "Use CategoricalCrossentropy, or `labels.argmax(axis=1)`."
    elif name == "binary_crossentropy" and labels.size and labels.max() > 1:
        problem = f"labels up to {labels.max()}"
        remedy = "Use SparseCategoricalCrossentropy with an output for each class."
    if problem is None:
        return []
    return [
        Finding(
            "labels-do-not-fit-loss",
            "error",
            f"The loss {name} gets {problem}.",
            remedy,
        )
    ]


def activation(model: keras.Model, inputs: np.ndarray | None = None) -> list[Finding]:
    """Check that softmax or sigmoid are applied once, by the model or by the loss."""
    name, from_logits = _loss(model)
    if not splitting.has_graph(model) or len(model.outputs) != 1:
        return []
    last = splitting.ends_in(model, ("softmax", "sigmoid"))
    if last and (from_logits or _twice(model, last)):
        return [
            Finding(
                "softmax-twice",
                "error",
                f"The model ends in {last}, and "
                f"{'the loss' if from_logits else 'a layer before it'} applies it as "
                "well: gradients are flattened, and probabilities are never sure.",
                "Build the last layer without an activation, and keep "
                "`from_logits=True`.",
            )
        ]
    width = model.outputs[0].shape[-1]
    if last == "softmax" and width == 1:
        return [
            Finding(
                "softmax-of-one",
                "error",
                "The model ends in softmax over one output, which is always 1.",
                "Use one output with sigmoid, or an output for each class.",
            )
        ]
    if last is None and "crossentropy" in name and not from_logits:
        if inputs is not None and _are_probabilities(model, inputs):
            return []
        return [
            Finding(
                "logits-as-probabilities",
                "error",
                f"The model returns logits, and the loss {name} takes them for "
                "probabilities: it clips them to [0, 1].",
                "Give the loss `from_logits=True`.",
            )
        ]
    return []


def _twice(model, last) -> bool:
    """Return whether the last activation is applied to its own output."""
    graph = splitting.functional(model)
    producers = {
        id(t): (op, ins) for op, ins, outs in splitting.nodes(graph) for t in outs
    }
    _, inputs = producers[id(graph.outputs[0])]
    if not inputs or not producers[id(inputs[0])][1]:
        return False
    return splitting.ends_in(keras.Model(graph.inputs, inputs[0]), (last,)) is not None


def _are_probabilities(model, inputs) -> bool:
    values = keras.ops.convert_to_numpy(model(inputs[:8], training=False))
    return bool((values >= 0).all() and (values <= 1).all())


def learning_rate(model: keras.Model) -> list[Finding]:
    """Check the learning rate of pretrained layers that train."""
    body, _ = _parts(model)
    training = [layer for layer in body if layer.trainable_weights]
    if not training or not _is_pretrained(body):
        return []
    given = getattr(model.optimizer, "_learning_rate", None)
    if isinstance(given, keras.optimizers.schedules.LearningRateSchedule):
        return []
    rate = float(keras.ops.convert_to_numpy(model.optimizer.learning_rate))
    kind = type(model.optimizer).__name__.lower()
    if rate < _HIGHEST.get(kind, _HIGHEST_ADAPTIVE):
        return []
    return [
        Finding(
            "high-learning-rate",
            "warning",
            f"{type(model.optimizer).__name__} trains {len(training)} pretrained "
            f"layers at a learning rate of {rate:g}: they are overwritten, not "
            "adapted.",
            "Use 1e-5 to 1e-4 for pretrained layers, and 1e-3 for a new head.",
            tuple(layer.name for layer in training),
        )
    ]


def moves(model: keras.Model, inputs: np.ndarray, labels: np.ndarray) -> list[Finding]:
    """Try one step of training, compare what moved with the flags, and put all back.

    Args:
        model: A compiled model.
        inputs: A batch as the model gets it in training.
        labels: Its labels, as the loss gets them.
    """
    owned = [
        (layer, layer._trainable_variables + layer._non_trainable_variables)
        for layer in model._flatten_layers(include_self=False)
        if not isinstance(layer, keras.Model)
    ]
    owned = [(layer, weights) for layer, weights in owned if weights]
    with _put_back(model):
        before = [[_value(weight) for weight in weights] for _, weights in owned]
        with warnings.catch_warnings():
            # Keras names variables without gradients, and so do the findings.
            warnings.simplefilter("ignore")
            model.train_on_batch(inputs, labels)
        after = [[_value(weight) for weight in weights] for _, weights in owned]
    moved = [
        [not np.array_equal(*pair) for pair in zip(old, new, strict=True)]
        for old, new in zip(before, after, strict=True)
    ]
    trainable = {id(weight) for weight in model.trainable_weights}
    frozen, staying = [], []
    for (layer, weights), flags in zip(owned, moved, strict=True):
        own = [id(weight) in trainable for weight in weights]
        # Statistics are no weights that train, but move where their layer trains.
        if any(flags) and not any(own) and not layer.trainable:
            frozen.append(layer.name)
        if any(own) and not any(m for m, o in zip(flags, own, strict=True) if o):
            staying.append(layer.name)
    findings = []
    if frozen:
        findings.append(
            Finding(
                "frozen-layer-moves",
                "error",
                f"One step of training moved {counted(len(frozen), 'layer')} whose "
                f"`trainable` is False: {named(frozen)}.",
                "Look for `assign` in the code of these layers, and guard it by "
                "`self.trainable`.",
                tuple(frozen),
            )
        )
    if staying:
        findings.append(
            Finding(
                "trainable-layer-stays",
                "error",
                f"One step of training moved nothing of "
                f"{counted(len(staying), 'layer')} that should train: "
                f"{named(staying)}.",
                "Look for what cuts their gradient: stop_gradient, a branch that the "
                "loss does not see, a layer whose outputs are all 0.",
                tuple(staying),
            )
        )
    return findings


def _value(weight):
    return np.array(keras.ops.convert_to_numpy(weight))


@contextlib.contextmanager
def _put_back(model) -> Iterator[None]:
    """Restore a model, with its optimizer and weights, after it has trained."""
    values = [(variable, _value(variable)) for variable in model.variables]
    optimizer, function = model.optimizer, model.train_function
    model.optimizer = type(optimizer).from_config(optimizer.get_config())
    model.train_function = None
    try:
        yield
    finally:
        model.optimizer, model.train_function = optimizer, function
        for variable, value in values:
            variable.assign(value)
        model.reset_metrics()
