"""Cut a functional model into a stem and a tail where one tensor crosses the cut."""

import re
import types
from collections import Counter

import keras

from keras_tl import errors


def cut_points(model: keras.Model) -> list[tuple[str, keras.KerasTensor]]:
    """Find every place where `model` can be cut in two.

    One sweep in execution order keeps the tensors that were made and are still needed;
    where only one is alive, every path from input to output passes through it. Time is
    linear in the number of layers.

    Args:
        model: A functional model or a built sequential one, with one output.

    Returns:
        Pairs of the operation's name and its output, input first; the inputs and the
        final output are left out. A layer that is used several times is on one side of
        each cut.

    Raises:
        InputError: A model without a graph, or with several outputs.

    >>> model = keras.Sequential([keras.Input((4,)), *map(keras.layers.Dense, (3, 2))])
    >>> [tensor.shape for _, tensor in cut_points(model)]
    [(None, 3)]
    """
    check_single_output(model)
    steps = nodes(model)
    last_use = {id(step[0]): index for index, step in enumerate(steps)}
    uses = Counter(id(tensor) for _, inputs, _ in steps for tensor in inputs)
    final = {id(tensor) for tensor in model.outputs}
    uses.update(final)
    # An input that is needed later crosses every cut before.
    alive = {id(tensor) for tensor in functional(model).inputs if uses[id(tensor)]}
    end, cuts = 0, []
    for index, (operation, inputs, outputs) in enumerate(steps):
        end = max(end, last_use[id(operation)])
        for tensor in inputs:
            uses[id(tensor)] -= 1
            if not uses[id(tensor)]:
                alive.discard(id(tensor))
        alive.update(id(tensor) for tensor in outputs if uses[id(tensor)])
        crossing = {id(outputs[0])} if len(outputs) == 1 else None
        if inputs and alive == crossing and not crossing & final and end == index:
            cuts.append((operation.name, outputs[0]))
    return cuts


def split_at(
    model: keras.Model, tensor: keras.KerasTensor
) -> tuple[keras.Model, keras.Model]:
    """Cut `model` at a tensor that `cut_points` returned.

    Args:
        model: See `cut_points`.
        tensor: One of its tensors.

    Returns:
        `stem` and `tail` with `tail(stem(x)) == model(x)`. They share the layers of
        `model`: what trains in one has trained in the other.
    """
    if not any(tensor is cut for _, cut in cut_points(model)):
        raise errors.expected(
            "tensor", f"be one that `cut_points({model.name})` gives", tensor
        )
    graph = functional(model)
    stem = keras.Model(inputs(model), tensor, name=f"{model.name}_stem")
    tail = keras.Model(tensor, graph.outputs[0], name=f"{model.name}_tail")
    return stem, tail


def frozen_cut(model: keras.Model) -> tuple[str, keras.KerasTensor] | None:
    """Find the deepest cut below which nothing trains and nothing is random.

    The layers below give the same output for the same image in every epoch, so that it
    needs to run only once.

    Returns:
        Name and tensor of the cut, or `None` when there is none above some weights,
        since preprocessing alone is not worth keeping, or when the model has several
        inputs or outputs.
    """
    if len(functional(model).inputs) > 1 or len(model.outputs) > 1:
        return None
    valid = {id(tensor): (name, tensor) for name, tensor in cut_points(model)}
    deepest, weighted = None, False
    for operation, inputs, outputs in nodes(model):
        if inputs and not _is_fixed(operation):
            break
        weighted = weighted or bool(getattr(operation, "weights", None))
        if weighted and len(outputs) == 1:
            deepest = valid.get(id(outputs[0]), deepest)
    return deepest


def _is_fixed(operation):
    if not isinstance(operation, keras.Layer):
        return True
    if operation.trainable_weights:
        return False
    # Statistics move with every batch, also without gamma and beta.
    return not any(
        is_random(layer)
        or (isinstance(layer, keras.layers.BatchNormalization) and layer.trainable)
        for layer in operation._flatten_layers()
    )


def is_random(layer: keras.Layer) -> bool:
    """Return whether a layer draws random numbers while training.

    Keras's layers hold a `keras.random.SeedGenerator`; of others, the code is searched
    for names with "random" as well. Layers within the layer are not considered. Dropout
    that `freezing` has silenced draws nothing.

    >>> is_random(keras.layers.RandomFlip()), is_random(keras.layers.Rescaling(2.0))
    (True, False)
    """
    if is_silent(layer):
        return False
    if layer._seed_generators:
        return True
    if type(layer).__module__.partition(".")[0] == "keras":
        function = getattr(layer, "function", None)
        return callable(function) and _names_random(function)
    return _names_random(type(layer))


def is_silent(layer: keras.Layer) -> bool:
    """Return whether `freezing` has switched a dropout layer off."""
    return SILENT in vars(layer)


# Attribute of the layers that `freezing` has switched off.
SILENT = "_keras_tl_silent"


def _names_random(value):
    """Return whether the code of a function, or of a class, names "random"."""
    if isinstance(value, type):
        own = [c for c in value.__mro__ if c.__module__.partition(".")[0] != "keras"]
        functions = [one for c in own for one in vars(c).values()]
        return any(
            _names_random(one)
            for one in functions
            if isinstance(one, types.FunctionType)
        )
    if isinstance(value, types.FunctionType):
        return _names_random(value.__code__)
    if isinstance(value, types.CodeType):
        named = any("random" in name for name in value.co_names)
        return named or any(_names_random(constant) for constant in value.co_consts)
    return False


def has_graph(model: keras.Model) -> bool:
    """Return whether a model is functional, or a sequential one that is built."""
    return hasattr(getattr(model, "_functional", None) or model, "_nodes_by_depth")


def functional(model: keras.Model) -> keras.Model:
    """Return the functional graph of `model`, also of a built sequential one.

    Raises:
        InputError: There is none.
    """
    if not has_graph(model):
        raise errors.InputError(
            f"{model.name} has no graph to cut, train or resize: it must be a "
            "functional model, or a sequential one that was called once or begins with "
            "`keras.Input`. Of a subclassed model, build one around it: "
            "`inputs = keras.Input(...); keras.Model(inputs, model(inputs))`."
        )
    return getattr(model, "_functional", None) or model


def check_single_output(model: keras.Model) -> None:
    """Raise `InputError` unless `model` has a graph with one tensor as its output."""
    graph = functional(model)
    if len(graph.outputs) != 1 or isinstance(graph.output, dict):
        names = [tensor.name for tensor in graph.outputs]
        raise errors.InputError(
            f"{model.name} must have one output. Received: {len(names)} of them, "
            f"{', '.join(names)}. Take the one that is meant: "
            "`keras.Model(model.inputs, model.outputs[0])`."
        )


def inputs(model: keras.Model) -> keras.KerasTensor | dict | list:
    """Return the inputs of a model as it was built: one tensor, or several."""
    graph = functional(model)
    return graph.inputs[0] if len(graph.inputs) == 1 else graph.input


def nodes(
    model: keras.Model,
) -> list[tuple[keras.Operation, list[keras.KerasTensor], list[keras.KerasTensor]]]:
    """List operation, inputs and outputs of each step, in the order they run."""
    model = functional(model)
    return [
        (
            node.operation,
            [] if node.is_input else list(node.arguments.keras_tensors),
            list(node.outputs),
        )
        for depth in sorted(model._nodes_by_depth, reverse=True)
        for node in model._nodes_by_depth[depth]
    ]


def producers(
    model: keras.Model,
) -> dict[int, tuple[keras.Operation, list[keras.KerasTensor]]]:
    """Return the operation and the inputs that make each tensor, by its id."""
    return {
        id(tensor): (operation, inputs)
        for operation, inputs, tensors in nodes(model)
        for tensor in tensors
    }


# Operations that change the shape of their input at most.
_PASSING = ("Reshape", "Flatten", "Permute", "Squeeze", "Dropout", "Identity", "Cast")


def ends_in(model: keras.Model, activations: tuple[str, ...]) -> str | None:
    """Return the activation that the output of a model comes from, if it is listed.

    Args:
        model: A functional or sequential model with one output.
        activations: Names, such as "sigmoid". They are known as the activation of a
            layer, as a layer or an operation of its own, and in models inside;
            not in the code of a layer of one's own.

    >>> layers = [keras.Input((4,)), keras.layers.Dense(2, "sigmoid")]
    >>> ends_in(keras.Sequential(layers), ("sigmoid",))
    'sigmoid'
    """
    made_by = producers(model)
    operation, inputs = made_by[id(functional(model).outputs[0])]
    while operation.__class__.__name__ in _PASSING and inputs:
        operation, inputs = made_by[id(inputs[0])]
    if isinstance(operation, keras.Model):
        return ends_in(operation, activations)
    operation = getattr(operation, "layer", operation)  # That of a wrapper.
    activation = getattr(operation, "activation", None)
    names = (getattr(activation, "__name__", None), _spelled(operation))
    return next((name for name in names if name in activations), None)


def _spelled(operation):
    """Spell the name of a class as that of a function: HardSigmoid, hard_sigmoid."""
    return re.sub(r"(?<=[a-z])(?=[A-Z])", "_", type(operation).__name__).lower()


def outputs(model: keras.Model) -> dict[str, keras.KerasTensor]:
    """Return the output of each step by its name, in this model's own graph.

    A layer that is shared between models has an output in each; `layer.output` is that
    of the first.
    """
    return {operation.name: tensors[0] for operation, _, tensors in nodes(model)}


def check_vector(model: keras.Model, layer: str) -> None:
    """Raise `InputError` unless a layer's output is one vector for each example.

    Args:
        model: A functional model.
        layer: Name of the layer.
    """
    known = outputs(model)
    if layer not in known:
        raise errors.unknown("layer", layer, known)
    shape = known[layer].shape
    if len(shape) != 2:
        raise errors.expected(
            "layer", "have outputs (batch, features)", f"{layer} {shape}"
        )
