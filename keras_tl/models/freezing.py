"""Freeze and unfreeze layers in a way that holds, and report which layers train.

Each function sets `trainable` on the layers themselves and leaves the model
uncompiled: Keras reads the flags when a model is compiled, and a change after that is
a silent no-op. With no compiled state left, `fit` raises Keras's own error instead.

BatchNormalization stays frozen unless it is asked for, also inside other layers.
Calling a backbone with `training=False` does not hold under `fit` once its weights are
trainable (https://github.com/keras-team/keras/issues/20285); `trainable=False` on the
layer does: it then normalizes by its moving statistics and leaves them alone. Dropout
and stochastic depth between frozen layers are switched off, so that a frozen backbone
has the same output in training as in prediction. The front end of a model of sound is a
formula, see `models.audio_backbones`: its layers are never unfrozen.
"""

import gc
import re
from collections.abc import Collection, Iterator
from dataclasses import dataclass

import keras

from keras_tl import errors
from keras_tl.models import catalog, splitting

# Prefix of the names of layers that compute a formula: their weights never train.
FRONT_END = "log_mel_"


def freeze(model: keras.Model) -> None:
    """Freeze every layer of `model`.

    >>> model = keras.Sequential([keras.Input((4,)), keras.layers.Dense(2)])
    >>> freeze(model)
    >>> model.trainable_weights
    []
    """
    _apply(model, {id(layer): False for layer in leaves(model)})


def freeze_up_to(model: keras.Model, name: str) -> None:
    """Freeze all layers up to and including a layer or block; leave the others.

    Args:
        model: Any functional or sequential model.
        name: A layer's name, or the part of layer names that a block shares: "block4"
            for VGG16's `block4_conv1` to `block4_pool`.

    Raises:
        InputError: No layer or block is called `name`; the nearest are named.
    """
    layers = leaves(model)
    last = _members(model, name)[-1]
    _apply(model, {id(layer): False for layer in layers[: last + 1]})


def unfreeze_from(
    model: keras.Model, name: str, *, batch_normalization: bool = False
) -> None:
    """Unfreeze all layers from a layer or block on, up to the output.

    Args:
        model: Any functional or sequential model.
        name: A layer's name, or the part of layer names that a block shares.
        batch_normalization: Whether BatchNormalization trains as well. Its statistics
            then move with every batch, which small batches and small data bear badly.

    Raises:
        InputError: No layer or block is called `name`; the nearest are named.
    """
    first = _members(model, name)[0]
    _train(model, leaves(model)[first:], batch_normalization)


def unfreeze(model: keras.Model, *, batch_normalization: bool = False) -> None:
    """Unfreeze all layers; BatchNormalization only when asked."""
    _train(model, leaves(model), batch_normalization)


def unfreeze_head(model: keras.Model) -> None:
    """Unfreeze the head, see `head`, and freeze everything else.

    >>> layers = [keras.layers.Dense(2, name=name) for name in ("top_conv", "logits")]
    >>> model = keras.Sequential([keras.Input((4,)), *layers])
    >>> unfreeze_head(model)
    >>> report(model).trainable, report(model).frozen
    (6, 10)
    """
    _train_alone(model, head(model), False)


def unfreeze_blocks(
    model: keras.Model, count: int, *, batch_normalization: bool = False
) -> None:
    """Unfreeze the last blocks and all layers above them, and freeze the others.

    Args:
        model: A model on a backbone, see `blocks`.
        count: Number of blocks, from the output back. 0 unfreezes the head alone;
            layers between it and the last block are unfrozen with that block.
        batch_normalization: Whether to unfreeze BatchNormalization among them as well.

    Raises:
        InputError: More blocks than there are, or blocks of a model that has none that
            are known.
    """
    if count == 0:  # Also of a model whose blocks are not known.
        unfreeze_head(model)
        return
    names = blocks(model)
    if not 0 <= count <= len(names):
        raise errors.expected(
            "blocks", f"be in [0, {len(names)}], the number of blocks", count
        )
    layers = leaves(model)
    first = names[list(names)[-count]][0]
    start = next(i for i, layer in enumerate(layers) if layer.name == first)
    _train_alone(model, layers[start:], batch_normalization)


def unfreeze_above(model: keras.Model, name: str) -> None:
    """Unfreeze all layers above a block, and freeze it and those below.

    Args:
        model: A model on a backbone, see `blocks`.
        name: Name of the block; "all" leaves the head alone to train, "none" all
            layers. BatchNormalization stays frozen.

    Raises:
        InputError: The model has no block of this name.
    """
    if name == "all":
        unfreeze_head(model)
    elif name == "none":
        unfreeze(model)
    else:
        names = list(blocks(model))
        if name not in names:
            raise errors.unknown("freeze", name, ["all", "none", *names])
        unfreeze_blocks(model, len(names) - 1 - names.index(name))


def train_only(model: keras.Model, names: Collection[str]) -> None:
    """Unfreeze the named layers and freeze all others.

    Raises:
        InputError: No layer has one of the names.

    >>> model = keras.Sequential([keras.Input((4,)), keras.layers.Dense(2, name="a")])
    >>> train_only(model, ["a"])
    >>> len(model.trainable_weights)
    2
    """
    layers = leaves(model)
    known = {layer.name for layer in layers}
    for name in names:
        if name not in known:
            raise errors.unknown("names", name, known)
    _apply(model, {id(layer): layer.name in names for layer in layers})


def blocks(model: keras.Model) -> dict[str, list[str]]:
    """Group the layers of `model` into the blocks of its backbone.

    Args:
        model: A backbone of `catalog`, what was built on one, or a model whose layers
            are named in the same way, such as `block1_conv`, `block2_conv`.

    Returns:
        Name of the block -> names of its layers, in the order of the model. Layers
        without the name of a block, such as transitions, belong to the next block;
        those of the stem, before the first, and of the head to none.

    Raises:
        InputError: No layer has the name of a block.

    >>> layers = [keras.layers.Dense(2, name=f"block{n}_fc") for n in (1, 2)]
    >>> blocks(keras.Sequential([keras.Input((4,)), *layers]))
    {'block1': ['block1_fc'], 'block2': ['block2_fc']}
    """
    names = [layer.name for layer in leaves(model)]
    pattern = catalog.block_pattern(model.name, names)
    matches = [pattern and re.match(pattern, name) for name in names]
    named = [i for i, match in enumerate(matches) if match]
    first = _end_of_stem(model, names[: named[0]]) if named else 0
    grouped = {}
    # A layer without the name of a block leads to the next block.
    for index in named:
        members = names[first : index + 1]
        grouped.setdefault(matches[index].group(1), []).extend(members)
        first = index + 1
    if not grouped:
        raise errors.InputError(
            f"The blocks of {model.name} are not known: its layers have names of no "
            "backbone in `catalog`. Name the layers to train: `unfreeze_from`, "
            "`train_only`."
        )
    return grouped


def first_blocks(backbone: keras.Model, count: int, argument: str) -> keras.Model:
    """Build a model of the first blocks of a backbone, whose layers it shares.

    Args:
        backbone: See `blocks`.
        count: Number of blocks.
        argument: Name of the setting that `count` comes from, for the error.

    Raises:
        InputError: The backbone has fewer blocks.
    """
    members = list(blocks(backbone).values())
    if count > len(members):
        raise errors.expected(
            argument, f"be at most {len(members)}, the number of blocks", count
        )
    last = backbone.get_layer(members[count - 1][-1])
    return keras.Model(backbone.input, last.output)


def _end_of_stem(model, names):
    """Count the layers before the first block: up to the last place to cut there."""
    try:
        cuts = {name for name, _ in splitting.cut_points(model)}
    except errors.InputError:
        return len(names)
    ends = [index for index, name in enumerate(names, start=1) if name in cuts]
    return ends[-1] if ends else len(names)


# Names that `models.heads` gives its layers; with `new_` where they are taken.
HEAD_LAYERS = r"(?:pool|flatten|hidden_\d+|dropout|logits)"


def head(model: keras.Model) -> list[keras.Layer]:
    """List the layers of a classifier's head.

    Returns:
        The layers named as `models.heads` names its own; where none of those has
        weights, the last layer that has.

    >>> names = ("body", "dropout", "logits")
    >>> layers = [keras.layers.Dense(2, name=name) for name in names]
    >>> [layer.name for layer in head(keras.Sequential([keras.Input((4,)), *layers]))]
    ['dropout', 'logits']
    """
    layers = leaves(model)
    named = [layer for layer in layers if is_of_head(layer)]
    # Of a backbone with such names, those of the head begin with `new_`.
    newest = max((_news(layer.name) for layer in named if layer.weights), default=0)
    named = [layer for layer in named if _news(layer.name) >= newest]
    if any(layer.weights for layer in named):
        return named
    return [layer for layer in layers if layer.weights][-1:]


def is_of_head(layer: keras.Layer, prefix: str = "(?:new_)*") -> bool:
    """Return whether a layer has name and kind of those of `models.heads`.

    >>> is_of_head(keras.layers.Dense(2, name="logits"))
    True
    """
    if not re.fullmatch(f"{prefix}{HEAD_LAYERS}", layer.name):
        return False
    return isinstance(layer, keras.layers.Dense) or not layer.weights


def _news(name) -> int:
    """Count how often a name begins with `new_`."""
    return 1 + _news(name[4:]) if name.startswith("new_") else 0


def leaves(model: keras.Model) -> list[keras.Layer]:
    """List all layers, those of nested models in place of the models, input first."""

    def walk(layers) -> Iterator[keras.Layer]:
        for layer in layers:
            if isinstance(layer, keras.Model):
                yield from walk(layer.layers)
            else:
                yield layer

    return list(walk(model.layers))


@dataclass(frozen=True)
class Report:
    """The layers that train in a model, and their number of parameters.

    Attributes:
        rows: Layer name, class, number of parameters, whether they train; layers
            without weights are left out.
        trainable: Number of parameters that train.
        frozen: Number of parameters that do not.
        head: Number of parameters of the new head, the layers behind the backbone.
    """

    rows: list[tuple[str, str, int, bool]]
    trainable: int
    frozen: int
    head: int

    def __str__(self) -> str:
        total = self.trainable + self.frozen
        if not total:
            return "There are no parameters."
        return (
            f"{self.trainable:,} of {total:,} parameters train "
            f"({self.trainable / total:.2%}); the head alone has {self.head:,}, "
            f"training everything would move {total:,}."
        )


def report(model: keras.Model) -> Report:
    """Report which layers train, from the flags that Keras itself uses.

    >>> model = keras.Sequential(
    ...     [keras.Input((4,)), keras.layers.Dense(2, name="logits")]
    ... )
    >>> print(report(model))
    10 of 10 parameters train (100.00%); the head alone has 10, training everything \
would move 10.
    """
    training = {id(weight) for weight in model.trainable_weights}
    rows = []
    for layer in leaves(model):
        count = layer.count_params() if layer.weights else 0
        if count:
            trains = any(id(weight) in training for weight in layer.weights)
            rows.append((layer.name, type(layer).__name__, count, trains))
    trainable = sum(_size(weight) for weight in model.trainable_weights)
    total = sum(_size(weight) for weight in model.weights)
    of_head = sum(layer.count_params() for layer in head(model) if layer.weights)
    return Report(rows, trainable, total - trainable, of_head)


def why_nothing_trains(model: keras.Model) -> str:
    """Return what is frozen in a model without trainable weights, and what to do.

    >>> layer = keras.layers.Dense(2, name="logits")
    >>> model = keras.Sequential([keras.Input((4,)), layer], name="small")
    >>> freeze(model)
    >>> why_nothing_trains(model)[:59]
    'Nothing in small trains: 1 layer with weights, all frozen, '
    """
    count = sum(bool(layer.weights) for layer in leaves(model))
    if not count:
        return (
            f"Nothing in {model.name} trains: no layer has weights. Attach a head with "
            "`heads.attach`."
        )
    layers = errors.counted(count, "layer")
    text = f"Nothing in {model.name} trains: {layers} with weights, all frozen"
    of_head = [layer for layer in head(model) if layer.weights]
    if any(map(is_of_head, of_head)):
        names = [layer.name for layer in of_head]
        return (
            f"{text}, those of the head ({', '.join(names)}) among them. "
            "`freezing.unfreeze_head` trains the head, `freezing.unfreeze_blocks` the "
            "last blocks as well."
        )
    return (
        f"{text}. Attach a head with `heads.attach`, or unfreeze some of them, see "
        "`models.freezing`."
    )


def _size(weight):
    size = 1
    for length in weight.shape:
        size *= length
    return size


def _members(model, name):
    """Positions of the layers that are `name`, or whose names begin with it."""
    names = [layer.name for layer in leaves(model)]
    if name in names:
        return [names.index(name)]
    # No digit or letter may follow: "block1" is not in "block10_conv".
    start = re.compile(re.escape(name) + r"(?=_|[a-z]_|$)")
    members = [i for i, layer_name in enumerate(names) if start.match(layer_name)]
    if not members:
        prefixes = {layer_name.split("_")[0] for layer_name in names}
        raise errors.unknown("name", name, {*names, *prefixes})
    return members


def _train(model, layers, batch_normalization):
    _apply(model, _flags(layers, batch_normalization), batch_normalization)


def _train_alone(model, layers, batch_normalization):
    frozen = {id(layer): False for layer in leaves(model)}
    flags = frozen | _flags(layers, batch_normalization)
    _apply(model, flags, batch_normalization)


def _flags(layers, batch_normalization):
    return {
        id(layer): not layer.name.startswith(FRONT_END)
        and (batch_normalization or not _is_normalization(layer))
        for layer in layers
    }


def _apply(model, flags, batch_normalization=False):
    # A nested model that is frozen itself would hide the flags of its layers, and
    # setting its flag sets theirs: so containers first, then the layers.
    layers = leaves(model)
    wanted = {id(layer): layer.trainable for layer in layers} | flags
    # BatchNormalization inside a layer has a flag of its own, which that of the layer
    # would set: it trains where both do.
    inner = {
        id(one): batch_normalization if id(layer) in flags else one.trainable
        for layer in layers
        for one in layer._flatten_layers(include_self=False)
        if _is_normalization(one)
    }
    before = {id(weight) for weight in model.trainable_weights}
    containers = [model]
    for container in containers:
        containers += [
            layer for layer in container.layers if isinstance(layer, keras.Model)
        ]
    if not all(container.trainable for container in containers):
        for container in containers:
            container.trainable = True
    for layer in layers:
        layer.trainable = wanted[id(layer)]
        parts = layer._flatten_layers()
        for one in parts:
            if id(one) in inner:
                one.trainable = layer.trainable and inner[id(one)]
        if any(getattr(one, "lora_enabled", False) for one in parts):
            # The flag of a layer sets that of each of its weights, also of the kernels
            # that LoRA leaves as they are, in this layer or in those it holds.
            for weight in layer.weights:
                weight.trainable = layer.trainable and "lora_" in weight.name
    _silence(layers)
    _uncompile(model)
    if before != {id(weight) for weight in model.trainable_weights}:
        for other in _models_that_share(layers):
            _uncompile(other)


def _is_normalization(layer):
    return isinstance(layer, keras.layers.BatchNormalization)


def _uncompile(model):
    # Without this, `fit` would continue with the flags of the last compile.
    model.compiled = False
    model.train_function = None


def _models_that_share(layers):
    """Find the other models, compiled already, that have one of the layers."""
    changed = {id(layer) for layer in layers if layer.weights}
    objects = gc.get_objects()
    kinds = {type(one) for one in objects}
    models = {kind for kind in kinds if issubclass(kind, keras.Model)}
    return [
        one
        for one in objects
        if type(one) in models
        and getattr(one, "compiled", False)
        and any(id(layer) in changed for layer in one._flatten_layers())
    ]


# Layers that do nothing but drop or disturb values in training.
DROPOUT = (
    keras.layers.Dropout,
    keras.layers.SpatialDropout1D,
    keras.layers.SpatialDropout2D,
    keras.layers.SpatialDropout3D,
    keras.layers.AlphaDropout,
    keras.layers.GaussianDropout,
    keras.layers.GaussianNoise,
)


def _unchanged(inputs, training=False):
    return inputs


def _silence(layers):
    """Switch off dropout between frozen layers, and on again where layers train.

    A frozen backbone then has the outputs of prediction, as the Keras guide has it by
    `training=False`. Dropout behind the last frozen weights belongs to the head.
    """
    weighted = [i for i, layer in enumerate(layers) if layer.weights]
    frozen = [i for i in weighted if not layers[i].trainable_weights]
    last = max(frozen, default=-1)
    for index, layer in enumerate(layers):
        silent = index <= last and not layer.trainable
        for one in layer._flatten_layers():
            if type(one) not in DROPOUT or silent == splitting.is_silent(one):
                continue
            if silent:
                one.call = _unchanged
                setattr(one, splitting.SILENT, True)
            else:
                del one.call
                delattr(one, splitting.SILENT)
