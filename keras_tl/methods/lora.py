"""LoRA: keep pretrained kernels as they are and train a low-rank change of each."""

import contextlib
from collections import Counter
from dataclasses import dataclass

import keras

from keras_tl import errors
from keras_tl.models import freezing


@dataclass(frozen=True)
class Report:
    """Which layers have a low-rank change, and which cannot have one.

    Attributes:
        rank: Rank of the changes.
        adapted: Paths of the layers that have one now; those inside of a composite
            layer, such as a block of a transformer, begin with its name.
        skipped: Name -> class of the layers that trained and are frozen now, since
            Keras has no such change for them.
        trainable: Number of parameters that train, those of the head among them.
        total: Number of parameters of the model without the changes.
    """

    rank: int
    adapted: tuple[str, ...]
    skipped: dict[str, str]
    trainable: int
    total: int

    def __str__(self) -> str:
        text = (
            f"LoRA of rank {self.rank} on "
            f"{errors.counted(len(self.adapted), 'layer')}; with the head, "
            f"{self.trainable:,} parameters train beside {self.total:,} that are there."
        )
        if self.skipped:
            kinds = Counter(self.skipped.values())
            kinds = ", ".join(f"{count} {kind}" for kind, count in kinds.items())
            text += f" Left frozen, since Keras has no LoRA for them: {kinds}."
        return text


def enable(model: keras.Model, *, rank: int = 4, alpha: float | None = None) -> Report:
    """Train low-rank changes in the place of the kernels that train now.

    A kernel W becomes W + alpha / rank * A B, where A has `rank` columns and B, all 0
    at first, `rank` rows: a model just adapted predicts as before. The head
    trains as it is; biases, and layers that cannot have such a change, are frozen.
    Where the functions of `models.freezing` unfreeze such a layer later, its change
    trains, and not its kernel.

    Args:
        model: A classifier on a backbone, whose layers are frozen as they are to train.
        rank: At least 1.
        alpha: Scale of the changes; `None` is `rank`, a factor of 1.

    Returns:
        A report of the layers, to be printed.

    Raises:
        InputError: A value out of range, a layer that is adapted already, or nothing
            behind the head trains that can be adapted: depthwise convolutions cannot.

    Reference:
        Hu et al., "LoRA: Low-rank adaptation of large language models", 2021,
        arXiv:2106.09685; https://keras.io/api/layers/core_layers/dense/,
        `enable_lora`.

    >>> layers = [keras.layers.Dense(8), keras.layers.Dense(2, name="logits")]
    >>> model = keras.Sequential([keras.Input((16,)), *layers])
    >>> print(enable(model, rank=2))
    LoRA of rank 2 on 1 layer; with the head, 66 parameters train beside 154 that \
are there.
    """
    errors.check_at_least("rank", rank, 1)
    if not model.built:
        raise errors.expected("model", "be built: call it on a batch", model.name)
    if alpha is not None and alpha <= 0:
        raise errors.expected("alpha", "be greater than 0", alpha)
    training = [layer for layer in freezing.leaves(model) if layer.trainable_weights]
    head = [layer for layer in freezing.head(model) if layer in training]
    total = model.count_params()
    able = {layer: _adaptable(layer) for layer in training if layer not in head}
    able = {layer: inner for layer, inner in able.items() if inner}
    if not able:
        names = [
            layer.name
            for layer in freezing.leaves(model)
            if any(hasattr(inner, "enable_lora") for inner in layer._flatten_layers())
        ]
        raise errors.InputError(
            f"No layer of {model.name} that trains can have a low-rank change, besides "
            f"the head. Unfreeze some that can: {', '.join(names[:20]) or 'none'}."
        )
    adapted = [layer for inner in able.values() for layer in inner]
    if any(layer.lora_enabled for layer in adapted):
        raise errors.InputError(
            f"{model.name} has low-rank changes already. Add them into its kernels "
            "first: `merge`."
        )
    with _scope(model):
        for layer in adapted:
            layer.enable_lora(rank, lora_alpha=alpha)
    freezing.train_only(model, [layer.name for layer in (*able, *head)])
    return Report(
        rank,
        tuple(layer.path for layer in adapted),
        {
            layer.name: type(layer).__name__
            for layer in training
            if layer not in head and layer not in able
        },
        freezing.report(model).trainable,
        total,
    )


def merge(model: keras.Model) -> keras.Model:
    """Return a plain model with the changes added into the kernels.

    Save this one: Keras saves the sums too, and makes new changes on loading
    that can no longer learn, since both of their factors are 0.

    Returns:
        An uncompiled model of the same layers with the same predictions, up to
        rounding.
    """

    def plain(layer):
        config = layer.get_config()
        config.pop("lora_rank", None)
        config.pop("lora_alpha", None)
        return type(layer).from_config(config)

    merged = keras.models.clone_model(model, clone_function=plain, recursive=True)
    for adapted, layer in zip(
        freezing.leaves(model), freezing.leaves(merged), strict=True
    ):
        _copy(adapted, layer)
    return merged


def _scope(model):
    """Return the scope of the devices that the model was built for."""
    strategy = getattr(model, "distribute_strategy", None)  # TensorFlow alone has it.
    return contextlib.nullcontext() if strategy is None else strategy.scope()


def _copy(adapted, plain):
    """Copy the weights of a layer, and of those it holds, as attention holds some."""
    pairs = zip(adapted._flatten_layers(), plain._flatten_layers(), strict=True)
    for one, other in pairs:
        # The values that Keras would write to a file: with LoRA, the sum.
        kept = {}
        one.save_own_variables(kept)
        other.load_own_variables(kept)


def _adaptable(layer) -> list[keras.Layer]:
    """List the layers, in a composite layer or itself, that can have a change."""
    return [
        inner
        for inner in layer._flatten_layers()
        # Keras refuses a kernel with a constraint.
        if hasattr(inner, "enable_lora")
        and inner.trainable_weights
        and not getattr(inner, "kernel_constraint", None)
    ]
