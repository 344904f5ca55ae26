"""Learning rates by layer: one optimizer, one rate, and a factor for each weight.

Keras's own way, `keras.optimizers.MultiOptimizer`, has no `learning_rate` to schedule,
and a pattern that matches nothing is silent there. Scaling gradients instead would do
nothing under Adam, which divides by their size.
"""

import re
from collections.abc import Mapping, Sequence

import keras
from keras import ops

from keras_tl import errors
from keras_tl.models import freezing


class _Layerwise:
    """What the classes below add to a Keras optimizer."""

    def __init__(self, *args, factors: Mapping[str, float] | None = None, **kwargs):
        super().__init__(*args, **kwargs)
        self.factors = dict(factors or {})
        for pattern, factor in self.factors.items():
            if factor < 0:
                raise errors.expected(
                    "factors", "not be negative", factor, f"Pattern: {pattern!r}."
                )
        self._by_index = []

    def build(self, variables):
        """Find the factor of each variable.

        Raises:
            InputError: A pattern matches no variable.
        """
        super().build(variables)
        paths = [variable.path for variable in variables]
        found = match(self.factors, paths)
        self._by_index = [found[path] for path in paths]

    def _apply_weight_decay(self, variables):
        # Done in `update_step`, where the factor is known.
        pass

    def update_step(self, gradient, variable, learning_rate):
        rate = learning_rate * self._by_index[self._get_variable_index(variable)]
        if self.weight_decay is not None and self._use_weight_decay(variable):
            decay = ops.cast(self.weight_decay, variable.dtype)
            step = ops.cast(rate, variable.dtype)
            self.assign_sub(variable, variable * decay * step)
        super().update_step(gradient, variable, rate)

    def get_config(self):
        return {**super().get_config(), "factors": self.factors}


def _layerwise(base):
    name = f"Layerwise{base.__name__}"
    own = type(name, (_Layerwise, base), {"__module__": __name__})
    own.__doc__ = f"`keras.optimizers.{base.__name__}` with a factor for each weight."
    return keras.saving.register_keras_serializable("keras_tl", name)(own)


LayerwiseSGD = _layerwise(keras.optimizers.SGD)
LayerwiseAdam = _layerwise(keras.optimizers.Adam)
LayerwiseAdamW = _layerwise(keras.optimizers.AdamW)
LayerwiseRMSprop = _layerwise(keras.optimizers.RMSprop)

OPTIMIZERS = {
    "sgd": LayerwiseSGD,
    "adam": LayerwiseAdam,
    "adamw": LayerwiseAdamW,
    "rmsprop": LayerwiseRMSprop,
}


def layerwise(
    name: str,
    learning_rate: float | keras.optimizers.schedules.LearningRateSchedule,
    factors: Mapping[str, float],
    **options: object,
) -> keras.optimizers.Optimizer:
    """Build an optimizer whose learning rate is multiplied by layer.

    Args:
        name: "sgd", "adam", "adamw" or "rmsprop".
        learning_rate: Rate, or schedule, of weights whose factor is 1.
        factors: Regular expression -> factor, at least 0. The first that is found in a
            weight's path ("block5_conv1/kernel") counts; weights that none is found in
            have factor 1. Weight decay is multiplied with the rate.
        **options: Other arguments of the Keras optimizer.

    Returns:
        A Keras optimizer, which raises `InputError` when it is built for weights among
        which a pattern matches none.

    Raises:
        InputError: An unknown name, or a negative factor.

    >>> layerwise("adam", 1e-3, {"block5": 0.3, "block": 0.1}).factors
    {'block5': 0.3, 'block': 0.1}
    """
    if name not in OPTIMIZERS:
        raise errors.unknown("name", name, OPTIMIZERS)
    return OPTIMIZERS[name](learning_rate, factors=factors, **options)


def match(factors: Mapping[str, float], paths: Sequence[str]) -> dict[str, float]:
    """Find the factor of each weight.

    Args:
        factors: See `layerwise`.
        paths: Paths of all weights that train.

    Returns:
        Path -> factor.

    Raises:
        InputError: A pattern is found in no path, or only where an earlier one is.

    >>> match({"block5": 0.3}, ["block5_conv1/kernel", "logits/kernel"])
    {'block5_conv1/kernel': 0.3, 'logits/kernel': 1.0}
    """
    found, used = {}, set()
    for path in paths:
        pattern = next((p for p in factors if re.search(p, path)), None)
        used.add(pattern)
        found[path] = 1.0 if pattern is None else float(factors[pattern])
    for pattern in factors:
        if pattern not in used:
            layers = sorted({path.rpartition("/")[0] or path for path in paths})
            raise errors.expected(
                "factors",
                "have patterns that each decide for some weight that trains",
                pattern,
                f"The layers that train: {', '.join(layers[:20])}.",
            )
    return found


def by_block(model: keras.Model, pattern: str, decay: float) -> dict[str, float]:
    """Let the rate fall from block to block, from the output back.

    The head has factor 1; the last block `decay`, with what lies between it and the
    head; the block before it `decay ** 2`, and so on; layers in front of the first
    block, the stem, one step more. Blocks in which nothing trains are counted and left
    out.

    Args:
        model: A classifier whose layers are frozen as they are to train.
        pattern: Regular expression whose first group names a layer's block, such as
            `backbones.find("vgg16").block`.
        decay: Factor from block to block, in (0, 1].

    Returns:
        For `layerwise`.

    Raises:
        InputError: `decay` is out of range, or no layer matches `pattern`.

    Reference:
        Howard and Ruder, "Universal language model fine-tuning", 2018,
        arXiv:1801.06146, section 3.2, whose decay is 1 / 2.6.

    >>> names = ("b1_a", "b2_a", "b2_b", "logits")
    >>> layers = [keras.layers.Dense(2, name=name) for name in names]
    >>> model = keras.Sequential([keras.Input((2,)), *layers])
    >>> by_block(model, "(b[0-9])_", 0.5)
    {'(^|/)(b1_a)/': 0.25, '(^|/)(b2_a|b2_b)/': 0.5}
    """
    if not 0 < decay <= 1:
        raise errors.expected("decay", "be in (0, 1]", decay)
    blocks = freezing.blocks(model, pattern)
    layers = freezing.leaves(model)
    names = [layer.name for layer in layers]
    first = min(names.index(members[0]) for members in blocks.values())
    *others, last = blocks.values()
    of_head = {layer.name for layer in freezing.head(model)}
    behind = [n for n in names[names.index(last[-1]) + 1 :] if n not in of_head]
    groups = [names[:first], *others, [*last, *behind]]
    trains = {layer.name for layer in layers if layer.trainable_weights}
    factors = {}
    for depth, members in zip(range(len(groups), 0, -1), groups, strict=True):
        wanted = [re.escape(name) for name in members if name in trains]
        if wanted:
            # Depth 1 is the last block; the stem is one beyond the first.
            factors[f"(^|/)({'|'.join(wanted)})/"] = decay**depth
    return factors
