"""Several tasks on the same images: one backbone, one pass, a head for each.

The labels of a classifier are its own task. Other tasks have labels beside them, see
`label`, and heads of their own, which learn along in any phase, see `learn`. A head is
a layer on the features that all tasks share: it can be added later, and left out.
"""

import functools
from collections.abc import Callable, Mapping
from dataclasses import replace

import keras
import numpy as np
from keras import ops

from keras_tl import errors
from keras_tl.data.splits import Split
from keras_tl.methods.regularizers import mean_over_rows
from keras_tl.models import splitting

# Name of the classifier's own task.
OWN = "logits"


def label(split: Split, tasks: Mapping[str, tuple[np.ndarray, int]]) -> Split:
    """Give the examples of a split the labels of other tasks.

    Args:
        split: The examples, with the labels of the classifier's own task.
        tasks: Name -> labels, int `(count,)`, each in [0, num_classes) or -1 where it
            is not known, and the number of classes.

    Returns:
        The split with the labels of all tasks, one-hot and side by side, as its
        targets; where a label is not known, nothing is learnt.

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
                name, f"have one label for each of {len(split)} images", labels.shape
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
    found = splitting.outputs(model)
    if layer not in found:
        raise errors.unknown("layer", layer, found)
    built = {}
    for name, count in num_classes.items():
        if name in (*found, OWN):
            raise errors.expected(
                "num_classes", f"have names that {model.name} has no layer of", name
            )
        errors.check_at_least("num_classes", count, 2)
        built[name] = keras.layers.Dense(count, name=name, dtype="float32")
        built[name].build(found[layer].shape)
    return built


def learn(
    tasks: Mapping[str, keras.Layer],
    weights: Mapping[str, float] | None = None,
    *,
    layer: str = "pool",
) -> Callable[[keras.Model], keras.Model]:
    """Let other heads learn along with a classifier.

    The loss is the weighted sum of the cross-entropies of all tasks, in training and
    validation; each task has an accuracy of its own, over the examples whose label is
    known.

    Args:
        tasks: What `heads` built, in the order of the labels, see `label`.
        weights: Name -> how much a task counts; the classifier's own is "logits". 1 for
            those that have no entry.
        layer: See `heads`.

    Returns:
        A `regularizer` for the phases.

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
    return functools.partial(Joint, tasks=tasks, weights=weights, layer=layer)


class Joint(keras.Model):
    """A classifier that trains together with the heads of other tasks.

    Args:
        model: Functional classifier; its layers are shared.
        tasks: See `learn`.
        weights: See `learn`.
        layer: See `heads`.
    """

    def __init__(self, model: keras.Model, tasks, weights, layer):
        outputs = _outputs(model, tasks, layer)
        super().__init__(model.inputs[0], outputs, name=model.name)
        self._weights_of = {name: weights.get(name, 1.0) for name in outputs}
        self._accuracies = {
            name: keras.metrics.CategoricalAccuracy(name=f"{name}_accuracy")
            for name in tasks
        }

    def compute_loss(
        self, x=None, y=None, y_pred=None, sample_weight=None, training=True
    ):
        parts = self._parts(y, y_pred)
        loss = self._weights_of[OWN] * super().compute_loss(
            x, parts[OWN], y_pred[OWN], sample_weight, training
        )
        for name in self._accuracies:
            # An unknown label is a row of zeros, and costs nothing.
            likely = ops.log_softmax(ops.cast(y_pred[name], "float32"))
            costs = -ops.sum(parts[name] * likely, axis=-1)
            cost = self._weights_of[name] * mean_over_rows(costs, sample_weight)
            # As Keras's own: divided by the number of devices, which are added up.
            loss = loss + self._aggregate_additional_loss(cost)
        return loss

    def compute_metrics(self, x, y, y_pred, sample_weight=None):
        parts = self._parts(y, y_pred)
        for name, accuracy in self._accuracies.items():
            known = ops.sum(parts[name], axis=-1)
            if sample_weight is not None:
                known = known * ops.reshape(sample_weight, (-1,))
            accuracy.update_state(parts[name], y_pred[name], known)
        logs = super().compute_metrics(x, parts[OWN], y_pred[OWN], sample_weight)
        # Keras has put those of `self.metrics` among them, these too.
        return logs | {m.name: m.result() for m in self._accuracies.values()}

    def _parts(self, y, y_pred):
        """Take apart the columns of the labels, by task."""
        # JAX gives `y_pred` in the order of the alphabet.
        widths = {name: y_pred[name].shape[-1] for name in self._weights_of}
        wanted = sum(widths.values())
        if y.shape[-1] != wanted:
            raise errors.InputError(
                f"The labels must have {wanted} columns, {widths}. Received: "
                f"{y.shape[-1]}. Give the training and validation splits the labels of "
                "all tasks: see `multi_task.label`."
            )
        ends = np.cumsum(list(widths.values()))
        starts = ends - list(widths.values())
        return {
            name: y[:, start:end]
            for name, start, end in zip(widths, starts, ends, strict=True)
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
    return keras.Model(model.inputs[0], _outputs(model, tasks, layer), name=model.name)


def _outputs(model, tasks, layer):
    found = splitting.outputs(model)
    # Where all below the heads is frozen, what trains begins with the features.
    features = found.get(layer, model.inputs[0])
    if layer not in found and not all(_takes(h, features) for h in tasks.values()):
        raise errors.unknown("layer", layer, found)
    outputs = {name: head(features) for name, head in tasks.items()}
    return {OWN: model.outputs[0], **outputs}


def _takes(head, features):
    return head.get_build_config()["input_shape"][1:] == features.shape[1:]
