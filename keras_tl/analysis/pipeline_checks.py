"""Checks of input pipelines: order, shuffling, augmentation, and what `fit` is given.

A pipeline is anything that can be iterated again and again over batches `(inputs,
labels)`: a `tf.data.Dataset`, a `keras.utils.PyDataset`, a list. Of a `tf.data.Dataset`
the steps are known as well, so that randomness before a cache is found without waiting
for an epoch to repeat.
"""

import hashlib
import numbers
from collections import Counter
from collections.abc import Iterable

import numpy as np

from keras_tl.analysis.findings import Finding, named
from keras_tl.errors import counted

# Most examples of a pass that are compared.
_MOST = 5_000
# Share of examples that two passes have in common, up to which all of them are changed.
_CHANGED = 0.05
# How many times as large the values of one pipeline may be as those of the other.
_SCALE = 8


def check(
    train: Iterable,
    validation: Iterable | None = None,
    *,
    augmented: bool | None = None,
    steps_per_epoch: object = None,
) -> list[Finding]:
    """Check the pipelines that `fit` is given.

    Args:
        train: Batches for training.
        validation: Batches for validation; `None` where there are none.
        augmented: Whether training is meant to be augmented; `None` where that is not
            known.
        steps_per_epoch: What `fit` is given as such; `None` where it is given none.
    """
    first, second = _Pass(train), _Pass(train)
    findings = [*_order(first, second, train, augmented), *_caches(train, "training")]
    if validation is None:
        findings.append(
            Finding(
                "no-validation",
                "warning",
                "There is no validation data: nothing says when to stop, and the last "
                "epoch is kept, not the best.",
                "Draw a validation split from train, and stop early on it.",
            )
        )
    else:
        findings += _validation(_Pass(validation), _Pass(validation), first)
    if steps_per_epoch is not None and not isinstance(
        steps_per_epoch, numbers.Integral
    ):
        findings.append(
            Finding(
                "steps-per-epoch",
                "error",
                f"`steps_per_epoch` is {steps_per_epoch!r}, no whole number.",
                "Leave it out, or round it up: `math.ceil(count / batch_size)`.",
            )
        )
    return findings


class _Pass:
    """One pass over a pipeline, of at most `_MOST` examples.

    Attributes:
        hashes: Hash of the inputs of each example, in their order.
        complete: Whether the pass came to its end.
        labels: Labels of the first batch.
        low: Smallest value of the inputs.
        high: Largest value of the inputs.
    """

    def __init__(self, batches: Iterable):
        self.hashes: list[bytes] = []
        self.complete = True
        self.labels = None
        self.low, self.high = np.inf, -np.inf
        for inputs, labels in _batches(batches):
            if self.labels is None:
                self.labels = labels
            if np.issubdtype(inputs.dtype, np.number) and inputs.size:
                self.low = min(self.low, float(inputs.min()))
                self.high = max(self.high, float(inputs.max()))
            self.hashes += [_hash(row) for row in inputs]
            if len(self.hashes) >= _MOST:
                self.complete = False
                break

    def in_common(self, other: "_Pass") -> float:
        """Return the share of examples that another pass has as well."""
        both = Counter(self.hashes) & Counter(other.hashes)
        return both.total() / max(len(self.hashes), 1)


def _batches(batches):
    # A PyDataset is a sequence without an end of its own.
    if hasattr(batches, "num_batches") and hasattr(batches, "__getitem__"):
        batches = (batches[index] for index in range(batches.num_batches))
    for batch in batches:
        inputs, labels = batch[:2] if isinstance(batch, tuple | list) else (batch, None)
        if isinstance(inputs, dict):
            inputs = next(iter(inputs.values()))
        yield np.asarray(inputs), None if labels is None else np.asarray(labels)


def _hash(row) -> bytes:
    return hashlib.blake2b(np.ascontiguousarray(row).tobytes(), digest_size=12).digest()


def _order(first, second, train, augmented) -> list[Finding]:
    """Compare two epochs of training, and look at the first batch."""
    findings = []
    if first.hashes == second.hashes and len(first.hashes) > 1:
        findings.append(
            Finding(
                "identical-epochs",
                "error" if augmented else "warning",
                "Two epochs of training are identical, in every pixel and in their "
                "order: nothing is shuffled"
                f"{', and the augmentation is drawn once only' if augmented else ''}.",
                "Cache first, then shuffle, then augment: `.cache().shuffle(...)"
                ".batch(...).map(augment)`.",
            )
        )
    elif augmented and first.complete and first.in_common(second) == 1:
        findings.append(
            Finding(
                "augmentation-repeats",
                "error",
                "Two epochs of training have the same images, in another order: the "
                "augmentation is drawn once, and replayed in every epoch.",
                "Put the augmentation behind the cache, and give it no fixed seed.",
            )
        )
    if first.labels is not None and len(first.labels) >= 8:
        rows = first.labels.reshape(len(first.labels), -1)
        if len(np.unique(rows, axis=0)) == 1:
            findings.append(
                Finding(
                    "sorted-by-label",
                    "warning",
                    f"All {len(rows)} examples of the first batch have the same label: "
                    "training is sorted, or shuffled in too small a buffer.",
                    "Shuffle over the whole split before batching.",
                )
            )
    return findings


def _validation(first, second, train) -> list[Finding]:
    """Compare two passes over validation, and validation with training."""
    findings = []
    in_order = first.hashes == second.hashes
    if not in_order and (first.complete or first.in_common(second) <= _CHANGED):
        if first.in_common(second) < 1:
            findings.append(
                Finding(
                    "augmentation-in-validation",
                    "error",
                    "Two passes over validation differ in their images: they are "
                    "augmented, or drawn anew, and no two epochs can be compared.",
                    "Augment training alone.",
                )
            )
        else:
            findings.append(
                Finding(
                    "validation-is-shuffled",
                    "warning",
                    "Validation is shuffled: labels and predictions that are read in "
                    "two passes do not belong together.",
                    "Leave `shuffle` out of validation and test.",
                )
            )
    shared = set(first.hashes) & set(train.hashes)
    if shared:
        findings.append(
            Finding(
                "training-in-validation",
                "error",
                f"In training as well: {counted(len(shared), 'example')} of "
                "validation.",
                "Split by a list of examples, not by `take` and `skip` behind "
                "`shuffle`.",
            )
        )
    sizes = [max(abs(each.low), abs(each.high)) for each in (train, first)]
    if np.isfinite(sizes).all() and max(sizes) > _SCALE * max(min(sizes), 1e-9):
        findings.append(
            Finding(
                "scales-differ",
                "error",
                f"Training has values in [{train.low:.3g}, {train.high:.3g}], "
                f"validation in [{first.low:.3g}, {first.high:.3g}].",
                "Apply the same preprocessing to both, best inside the model.",
            )
        )
    return findings


def _caches(dataset, name) -> list[Finding]:
    """Find a cache behind something random, in the steps of a `tf.data.Dataset`."""
    steps = list(_steps(dataset))
    random = [index for index, step in enumerate(steps) if _is_random(step)]
    # From the end to the source.
    caches = [index for index, step in enumerate(steps) if "Cache" in _kind(step)]
    if not random or not caches or min(caches) > max(random):
        return []
    last = named([_kind(steps[i]) for i in (max(random), min(caches))])
    return [
        Finding(
            "augmentation-before-cache",
            "error",
            f"The {name} pipeline caches what is drawn at random ({last}): the first "
            "epoch is replayed in all others.",
            "Put `cache` before the augmentation.",
        )
    ]


def _kind(step) -> str:
    return type(step).__name__.strip("_")


def _steps(dataset):
    """Yield the steps of a `tf.data.Dataset`, the last first; nothing of others."""
    waiting = [dataset] if hasattr(dataset, "element_spec") else []
    seen = 0
    while waiting and seen < 200:
        step = waiting.pop(0)
        seen += 1
        yield step
        inner = getattr(step, "_input_dataset", None) or getattr(step, "_dataset", None)
        if inner is not None:
            waiting.append(inner)


def _is_random(step) -> bool:
    """Return whether the function of a step draws random numbers."""
    function = getattr(getattr(step, "_map_func", None), "function", None)
    graphs = [getattr(function, "graph", None)]
    while graphs:
        graph = graphs.pop()
        if graph is None:
            continue
        if any("Random" in op.type for op in graph.get_operations()):
            return True
        graphs += [
            getattr(inner, "graph", None)
            for inner in getattr(graph, "_functions", {}).values()
        ]
    return False
