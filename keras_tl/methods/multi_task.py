"""Several tasks on the same images: one backbone, one pass, a head for each.

The labels of a classifier are its own task. Other tasks have further labels, see
`label`, and heads of their own, which train along in any phase, see `learn`. A head is
a layer on the features that all tasks share: it can be added later, or left out.
"""

from collections.abc import Mapping
from dataclasses import replace

import keras
import numpy as np
from keras import ops

from keras_tl import errors
from keras_tl.data.splits import Split
from keras_tl.models import splitting
from keras_tl.training.terms import Method, Metric, Term, head_outputs

# Name of the classifier's own task.
OWN = "logits"


def label(split: Split, tasks: Mapping[str, tuple[np.ndarray, int]]) -> Split:
    """Add the labels of other tasks to a split, as its targets.

    Args:
        split: The examples, with the labels of the classifier's own task.
        tasks: Name -> labels, int `(count,)`, each in [0, num_classes) or -1 where it
            is not known, and the number of classes.

    Returns:
        The split with the labels of all tasks, one-hot and side by side, as its
        targets; a label that is not known has no effect.

    Raises:
        InputError: No tasks, or labels of another number or out of range.

    >>> split = Split(np.zeros((3, 8, 8, 3), "uint8"), [0, 1, 1])
    >>> label(split, {"domain": ([1, 0, -1], 2)}).targets.tolist()
    [[0.0, 1.0], [1.0, 0.0], [0.0, 0.0]]
    """
    errors.check_at_least("len(tasks)", len(tasks), 1)
    columns = []
    for name, (labels, num_classes) in tasks.items():
        labels = np.asarray(labels, "int64")
        if labels.shape != (len(split),):
            raise errors.expected(
                name,
                f"have {errors.counted(len(split), 'label')}, one for each image",
                labels.shape,
            )
        if labels.min() < -1 or labels.max() >= num_classes:
            raise errors.expected(
                name,
                f"have labels in [-1, {num_classes - 1}]",
                (int(labels.min()), int(labels.max())),
            )
        # The last row is that of an unknown label.
        columns.append(np.eye(num_classes + 1, num_classes, dtype="float32")[labels])
    return replace(split, targets=np.concatenate(columns, axis=1))


def heads(
    model: keras.Model, num_classes: Mapping[str, int], *, layer: str = "pool"
) -> dict[str, keras.Layer]:
    """Build a linear head for each of several other tasks.

    Args:
        model: A classifier, whose features they share.
        num_classes: Name of the task -> number of its classes.
        layer: Name of the layer that gives the features, `(batch, features)`.

    Returns:
        Name -> a built layer from those features to float32 logits.

    Raises:
        InputError: An unknown layer, a name that the model has already, or fewer than
            two classes.
    """
    outputs = splitting.outputs(model)
    if layer not in outputs:
        raise errors.unknown("layer", layer, outputs)
    built = {}
    for name, count in num_classes.items():
        if name in (*outputs, OWN):
            raise errors.expected(
                "num_classes", f"have names that {model.name} has no layer of", name
            )
        errors.check_at_least("num_classes", count, 2)
        built[name] = keras.layers.Dense(count, name=name, dtype="float32")
        built[name].build(outputs[layer].shape)
    return built


def learn(
    tasks: Mapping[str, keras.Layer],
    weights: Mapping[str, float] | None = None,
    *,
    layer: str = "pool",
) -> Method:
    """Train the heads of other tasks together with a classifier.

    The loss is the weighted sum of the cross-entropies of all tasks, in training and
    validation; each task has an accuracy of its own, over the examples whose label is
    known.

    Args:
        tasks: Heads that `heads` built, in the order of the labels, see `label`.
        weights: Name -> weight of the task in the loss; the classifier's own task is
            "logits". 1 for those that have no entry.
        layer: See `heads`.

    Returns:
        A method for `phases.Phase`; its metrics are `NAME_accuracy` of each task.

    Raises:
        InputError: A weight of an unknown task, or a negative one.

    Reference:
        Caruana, "Multitask learning", 1997, https://doi.org/10.1023/A:1007379606734.
    """
    weights = dict(weights or {})
    for name, weight in weights.items():
        if name not in (*tasks, OWN):
            raise errors.unknown("weights", name, (*tasks, OWN))
        if weight < 0:
            raise errors.expected("weights", "not be negative", weights)

    def method(model, steps):
        def loss(batch):
            total = 0.0
            for name, labels in _labels(batch, tasks).items():
                # An unknown label is a row of zeros, and costs nothing.
                logits = ops.cast(batch.outputs[name], "float32")
                costs = -ops.sum(labels * ops.log_softmax(logits), axis=-1)
                total = total + weights.get(name, 1.0) * batch.mean(costs)
            return total

        return Term(
            loss,
            heads={name: (head, layer) for name, head in tasks.items()},
            label_weight=weights.get(OWN, 1.0),
            in_validation=True,
            metrics=[_accuracy(name, tasks) for name in tasks],
        )

    return method


def _accuracy(name, tasks) -> Metric:
    """Build the accuracy of a task over the examples whose label is known."""

    def values(batch):
        labels = _labels(batch, tasks)[name]
        known = ops.sum(labels, axis=-1)
        if batch.sample_weight is not None:
            known = known * ops.reshape(batch.sample_weight, (-1,))
        return labels, batch.outputs[name], known

    metric = keras.metrics.CategoricalAccuracy(name=f"{name}_accuracy")
    return Metric(metric, values, "max")


def _labels(batch, tasks):
    """Return the one-hot labels of each task, from the columns of the targets."""
    widths = {name: head.units for name, head in tasks.items()}
    columns = 0 if batch.targets is None else batch.targets.shape[-1]
    if columns != sum(widths.values()):
        raise errors.InputError(
            "The targets must have "
            f"{errors.counted(sum(widths.values()), 'column')}: {widths}. Received "
            f"{columns}. Add the labels of all tasks to the training and validation "
            "splits, see `multi_task.label`."
        )
    ends = np.cumsum(list(widths.values()))
    return {
        name: batch.targets[:, end - width : end]
        for (name, width), end in zip(widths.items(), ends, strict=True)
    }


def attach(
    model: keras.Model, tasks: Mapping[str, keras.Layer], *, layer: str = "pool"
) -> keras.Model:
    """Build one model with all heads: one pass gives the logits of every task.

    A head that comes later is trained as a classifier of its own on the same features,
    `heads.replace(model, num_classes, at="pool")` with everything else frozen; give its
    weights to one that `heads` builds here.

    Args:
        model: The classifier that was trained.
        tasks: What `heads` built; those that are left out are removed.
        layer: See `heads`.

    Returns:
        A plain functional model from images to `{"logits": ..., name: ...}`.

    >>> image = keras.Input((8,))
    >>> pool = keras.layers.Dense(4, name="pool")(image)
    >>> model = keras.Model(image, keras.layers.Dense(3, name="logits")(pool))
    >>> both = attach(model, heads(model, {"domain": 2}))
    >>> {name: output.shape for name, output in both.output.items()}
    {'logits': (None, 3), 'domain': (None, 2)}
    """
    outputs = head_outputs(model, {name: (h, layer) for name, h in tasks.items()})
    return keras.Model(
        model.inputs[0], {OWN: model.outputs[0], **outputs}, name=model.name
    )
