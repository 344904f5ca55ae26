"""Check that a known backbone gets the pixels that its weights were trained on.

The range and the order of channels are read where the first layer gets them, so that it
does not matter whether the model or the input pipeline prepares the images.
"""

from collections.abc import Iterator

import keras
import numpy as np

from keras_tl.analysis.findings import Finding
from keras_tl.models import catalog, splitting

# Range of what the first layer of a backbone gets, by contract: lowest and highest
# value, the largest that the lowest can be, and the smallest that the highest can be.
_RANGES = {
    "tf": (-1.05, 1.05, -0.05, 0.0),
    "lite": (-1.05, 1.05, -0.05, 0.0),
    "torch": (-2.3, 2.8, -0.05, 0.0),
    "caffe": (-124.0, 152.0, -1.0, 3.0),
    "none": (-1.0, 256.0, 255.0, 3.0),
}
_WORDS = {
    "tf": "RGB in [-1, 1]",
    "lite": "RGB in [-1, 1]",
    "torch": "RGB in [0, 1], normalized by the mean and deviation of ImageNet",
    "caffe": "BGR in [0, 255] minus the mean of ImageNet",
    "none": "RGB in [0, 255]",
}


def check(
    model: keras.Model, inputs: np.ndarray, raw: np.ndarray | None = None
) -> list[Finding]:
    """Compare what reaches a known backbone with what its weights were trained on.

    The input of its first layer is computed for a batch, whatever stands before it.
    """
    match = _first_input(model, np.asarray(inputs))
    if match is None:
        return []
    name, contract, values = match
    lowest, highest, needed, reached = _RANGES[contract]
    low, high = float(values.min()), float(values.max())
    if low < lowest or high > highest or low > needed or high < reached:
        return [
            Finding(
                "pixel-range",
                "error",
                f"{name} was trained on {_WORDS[contract]}; its first layer gets "
                f"values in [{low:.3g}, {high:.3g}].",
                "Use its own `preprocess_input` on pixels in [0, 255], or "
                "`backbones.load`, which has it inside.",
            )
        ]
    reference = inputs if raw is None else raw
    order = _order(np.asarray(reference), values)
    wanted = [2, 1, 0] if contract == "caffe" else [0, 1, 2]
    if order is None or order == wanted or (raw is None and np.min(inputs) < 0):
        return []
    return [
        Finding(
            "channel-order",
            "error",
            f"{name} was trained on {_WORDS[contract]}; its first layer gets the "
            f"channels in the order {''.join('RGB'[channel] for channel in order)}.",
            "Read the images as RGB, and use the backbone's own `preprocess_input`.",
        )
    ]


def _first_input(model, inputs):
    """Return name and contract of a backbone, and what its first layer gets."""
    for backbone, contract, outer in _backbones(model):
        values = (
            inputs
            if outer is None
            else _run(splitting.functional(model), outer, inputs)
        )
        graph = splitting.functional(backbone)
        names = [operation.name for operation, _, _ in splitting.nodes(graph)]
        if "preprocess" in names:
            # That of `backbones.load`, which changes what it gets itself.
            return backbone.name, "none", values
        if contract != "none":
            values = _run(graph, before_weights(graph), values)
        return backbone.name, contract, values
    return None


def _backbones(model) -> Iterator[tuple]:
    """Yield known backbones: the model itself, or a model inside it, and its input."""
    for operation, inputs, _ in splitting.nodes(model):
        if isinstance(operation, keras.Model) and splitting.has_graph(operation):
            contract = contract_of(operation)
            if contract and len(inputs) == 1:
                yield operation, contract, inputs[0]
    if len(splitting.functional(model).inputs) == 1:
        contract = contract_of(model)
        if contract:
            yield model, contract, None


def _run(graph, tensor, values):
    if any(tensor is own for own in graph.inputs):
        return values
    part = keras.Model(splitting.inputs(graph), tensor)
    return keras.ops.convert_to_numpy(part(values, training=False))


def before_weights(graph):
    """Return the tensor that the first layer with weights takes, before its padding."""
    before = {id(graph.inputs[0]): graph.inputs[0]}
    for operation, inputs, outputs in splitting.nodes(graph):
        if type(operation).__name__ == "ZeroPadding2D":
            before[id(outputs[0])] = before.get(id(inputs[0]), inputs[0])
        elif inputs and getattr(operation, "weights", None):
            return before.get(id(inputs[0]), inputs[0])
    return graph.inputs[0]


# Layers that only backbones of one contract have, in the order in which they are tried.
_SIGNATURES = (
    ("block1_conv1_bn", "tf"),  # Xception
    ("block1_conv1", "caffe"),  # VGG
    ("post_bn", "tf"),  # ResNet v2
    ("pool2_conv", "torch"),  # DenseNet
    ("conv2_block1_add", "caffe"),  # ResNet
    ("conv_dw_1", "tf"),  # MobileNet
    ("expanded_conv_1_expand", "none"),  # MobileNet v3
    ("expanded_conv_depthwise", "tf"),  # MobileNet v2
    ("stem_conv", "none"),  # EfficientNet
    ("mixed10", "tf"),  # Inception v3
    ("mixed_7a", "tf"),  # Inception-ResNet v2
    ("stem_conv1", "tf"),  # NASNet
)


def contract_of(model: keras.Model) -> str | None:
    """Return the preprocessing that the weights of a known backbone were trained with.

    Args:
        model: A model of `keras.applications` or `backbones.load`, or one with all of
            its layers.

    Returns:
        A key of `catalog.PREPROCESSING`; `None` for a model that is not known.

    >>> contract_of(keras.Sequential([keras.Input((4,)), keras.layers.Dense(2)]))
    """
    if model.name in catalog.BACKBONES:
        return catalog.BACKBONES[model.name].preprocessing
    names = {layer.name for layer in model.layers}
    return next((contract for name, contract in _SIGNATURES if name in names), None)


def _order(reference, values) -> list[int] | None:
    """Return which channel of some RGB images each channel of the values comes from."""
    if reference.shape != values.shape or values.shape[-1] != 3:
        return None
    first = reference.reshape(-1, 3).astype("float64")
    second = values.reshape(-1, 3).astype("float64")
    # Of grey images, all orders are the same.
    if np.abs(first[:, 0] - first[:, 2]).mean() < 0.01 * max(np.ptp(first), 1e-9):
        return None
    alike = np.corrcoef(first.T, second.T)[:3, 3:]
    order = alike.argmax(axis=0).tolist()
    sure = alike.max(axis=0).min() > 0.99 and sorted(order) == [0, 1, 2]
    return order if sure else None
