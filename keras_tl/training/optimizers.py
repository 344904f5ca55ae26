"""Learning rates by layer: one optimizer, one rate, and a factor for each weight.

Keras's `keras.optimizers.MultiOptimizer` has no `learning_rate` to schedule,
and a pattern that matches nothing is silent there. Scaling gradients instead would do
nothing under Adam, which divides by their size.
"""

import functools
import re
from collections.abc import Callable, Mapping, Sequence

import keras
from keras import ops

from keras_tl import errors
from keras_tl.models import freezing
from keras_tl.training import schedules


class _Layerwise:
    """Multiply the learning rate of each variable by a factor of its own."""

    def __init__(
        self,
        *args,
        factors: Mapping[str, float] | None = None,
        otherwise: float = 1.0,
        **kwargs,
    ):
        super().__init__(*args, **kwargs)
        self.factors, self.otherwise = dict(factors or {}), otherwise
        for pattern, factor in {**self.factors, "otherwise": otherwise}.items():
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
        matched = match(self.factors, paths, self.otherwise)
        self._by_index = [matched[path] for path in paths]

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
        own = {"factors": self.factors, "otherwise": self.otherwise}
        return {**super().get_config(), **own}


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


# Paths of the weights of the layers that `models.heads` adds.
HEAD = r"(^|/)(hidden_\d+|logits)/"


def layerwise(
    name: str,
    factors: Mapping[str, float],
    *,
    otherwise: float = 1.0,
    **options: object,
) -> Callable[[schedules.Rate], keras.optimizers.Optimizer]:
    """Return an optimizer for a phase whose learning rate is multiplied by layer.

    Args:
        name: "sgd", "adam", "adamw" or "rmsprop".
        factors: Regular expression -> factor, at least 0. The first one that matches
            within the path of a weight ("block5_conv1/kernel") counts. Weight decay is
            multiplied as well.
        otherwise: Factor of weights that no pattern matches.
        **options: Other arguments of the Keras optimizer.

    Returns:
        Function from a learning rate, or a schedule of it, to a Keras optimizer, for
        `phases.Phase.optimizer`; the optimizer raises `InputError` when it is built for
        weights among which a pattern matches none.

    Raises:
        InputError: An unknown name.

    >>> layerwise("adam", {"block5": 0.3, "block": 0.1})(1e-3).factors
    {'block5': 0.3, 'block': 0.1}
    """
    if name not in OPTIMIZERS:
        raise errors.unknown("name", name, OPTIMIZERS)
    return functools.partial(
        OPTIMIZERS[name], factors=factors, otherwise=otherwise, **options
    )


def slow_backbone(
    factor: float, name: str = "adam", *, heads: Sequence[str] = (), **options: object
) -> Callable[[schedules.Rate], keras.optimizers.Optimizer]:
    """Return an optimizer with a smaller learning rate for all layers below the head.

    Args:
        factor: Factor of the learning rate for pretrained layers, at least 0.
        name: See `layerwise`.
        heads: Names of further heads that train at the full learning rate.
        **options: Other arguments of the Keras optimizer.

    Returns:
        For `phases.Phase.optimizer`, see `layerwise`.

    Raises:
        InputError: An unknown name, or a negative factor.

    >>> slow_backbone(0.1)(1e-3).otherwise
    0.1
    """
    errors.check_at_least("factor", factor, 0)
    others = {rf"(^|/){re.escape(head)}/": 1.0 for head in heads}
    return layerwise(name, {HEAD: 1.0, **others}, otherwise=factor, **options)


def match(
    factors: Mapping[str, float], paths: Sequence[str], otherwise: float = 1.0
) -> dict[str, float]:
    """Find the factor of each weight.

    Args:
        factors: See `layerwise`.
        paths: Paths of all weights that train.
        otherwise: See `layerwise`.

    Returns:
        Path -> factor.

    Raises:
        InputError: A pattern matches no path, or only those of an earlier one.

    >>> match({"block5": 0.3}, ["block5_conv1/kernel", "logits/kernel"])
    {'block5_conv1/kernel': 0.3, 'logits/kernel': 1.0}
    """
    matched, used = {}, set()
    for path in paths:
        pattern = next((p for p in factors if re.search(p, path)), None)
        used.add(pattern)
        matched[path] = float(factors.get(pattern, otherwise))
    for pattern in factors:
        if pattern not in used:
            layers = sorted({path.rpartition("/")[0] or path for path in paths})
            raise errors.expected(
                "factors",
                "have patterns that each decide for some weight that trains",
                pattern,
                f"The layers that train: {', '.join(layers[:20])}.",
            )
    return matched


def by_block(model: keras.Model, decay: float) -> dict[str, float]:
    """Compute factors of the learning rate that fall from block to block.

    The head has factor 1; the last block `decay`, with what lies between it and the
    head; the block before it `decay ** 2`, and so on; layers in front of the first
    block, the stem, one step more. Blocks in which nothing trains are counted and left
    out.

    Args:
        model: A classifier whose layers are frozen as they are to train.
        decay: Factor from block to block, in (0, 1].

    Returns:
        For `layerwise`.

    Raises:
        InputError: `decay` is out of range, or the blocks are not known.

    Reference:
        Howard and Ruder, "Universal language model fine-tuning", 2018,
        arXiv:1801.06146, section 3.2, whose decay is 1 / 2.6.

    >>> names = ("block1_a", "block2_a", "block2_b", "logits")
    >>> layers = [keras.layers.Dense(2, name=name) for name in names]
    >>> model = keras.Sequential([keras.Input((2,)), *layers])
    >>> by_block(model, 0.5)
    {'(^|/)(block1_a)/': 0.25, '(^|/)(block2_a|block2_b)/': 0.5}
    """
    if not 0 < decay <= 1:
        raise errors.expected("decay", "be in (0, 1]", decay)
    blocks = freezing.blocks(model)
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
