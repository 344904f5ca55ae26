"""Terms that a training method adds to the loss of the labels.

A method is a function from a model and the number of steps of its phase to a `Term`.
The model that is saved stays as it is and knows nothing of the term.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace

import keras
from keras import ops

from keras_tl import errors
from keras_tl.models import splitting
from keras_tl.training import gradients
from keras_tl.training.objectives import Direction

Tensor = keras.KerasTensor


@dataclass(frozen=True)
class Batch:
    """Values that a term can be computed from.

    Attributes:
        inputs: Examples as the model takes them.
        logits: Outputs of the model, `(batch, ...)`.
        outputs: Output of each layer and head that the term names.
        labels: Labels as the objective's loss takes them.
        targets: Further values to learn, float32 `(batch, n)`; `None` without any.
        sample_weight: Weight of each row, float32 `(batch,)`, or `None` for 1. Rows of
            weight 0 fill up a batch, or have no label that is known.
        progress: Share of the steps of the phase that are done, float32 in [0, 1];
            `None` for metrics.
    """

    inputs: Tensor
    logits: Tensor
    outputs: Mapping[str, Tensor]
    labels: Tensor
    targets: Tensor | None
    sample_weight: Tensor | None
    progress: Tensor | None

    def mean(self, costs: Tensor) -> Tensor:
        """Average a cost over the rows as Keras's losses do.

        Args:
            costs: One number for each row, `(batch,)`.

        Returns:
            float32 scalar: the sum of weight times cost, divided by the number of rows.
        """
        costs = ops.cast(costs, "float32")
        if self.sample_weight is not None:
            weights = ops.reshape(self.sample_weight, (-1,))
            costs = costs * ops.cast(weights, "float32")
        return ops.mean(costs)


@dataclass(frozen=True)
class Metric:
    """A metric of a term.

    Attributes:
        metric: A Keras metric; its name is that in the history.
        values: Function from a batch to the arguments of its `update_state`.
        direction: Whether a better epoch has a lower or a higher value.
    """

    metric: keras.metrics.Metric
    values: Callable[[Batch], Sequence]
    direction: Direction


@dataclass(frozen=True)
class Term:
    """A term of the loss, and what it needs of the model.

    Attributes:
        loss: Function from a batch to a float32 scalar.
        layers: Names of the layers whose outputs it needs.
        heads: Name -> layer that is trained along on the output of another layer, and
            the name of that; a name that the model does not have stands for its input,
            where all layers below were run before.
        trained: Further layers that train along: built ones, which the loss calls.
        label_weight: Weight of the loss of the labels.
        in_validation: Whether the validation loss contains the term.
        of_rows: Whether each row has a cost of its own, of which the loss is the mean
            over all rows. Otherwise each device computes the loss from the rows of all
            devices, but for `Batch.inputs`, which are its own.
        metrics: Metrics of the term, in training and validation.
    """

    loss: Callable[[Batch], Tensor]
    layers: Sequence[str] = ()
    heads: Mapping[str, tuple[keras.Layer, str]] = field(default_factory=dict)
    trained: Sequence[keras.Layer] = ()
    label_weight: float = 1.0
    in_validation: bool = False
    of_rows: bool = True
    metrics: Sequence[Metric] = ()


# From a model whose layers are frozen as they are to train, and the number of steps of
# the phase, to a term.
Method = Callable[[keras.Model, int], Term]

# Name of the logits among the outputs; no layer can have it.
_LOGITS = "/logits"


class TermModel(keras.Model):
    """A model that trains with a term in its loss; its layers are those of `model`.

    Args:
        model: Functional model that gives logits.
        term: The term.
        num_labels: Number of columns of the labels; what stands behind them are
            targets. `None` where labels have no columns, and there are no targets.
        steps: Number of steps of the phase.

    Raises:
        InputError: The term names a layer that the model does not have.
    """

    def __init__(
        self, model: keras.Model, term: Term, num_labels: int | None, steps: int
    ):
        known = splitting.outputs(model)
        for name in term.layers:
            if name not in known:
                raise errors.unknown("layers", name, known)
        outputs = {
            _LOGITS: model.outputs[0],
            **{name: known[name] for name in term.layers},
            **head_outputs(model, term.heads),
        }
        super().__init__(splitting.inputs(model), outputs, name=model.name)
        self._term, self._num_labels, self._steps = term, num_labels, steps
        self._trained = list(term.trained)  # As an attribute, their weights are known.
        # JAX cannot read the optimizer's own count within a loss.
        self.steps_done = self.add_weight(
            (),
            initializer="zeros",
            dtype="float32",
            trainable=False,
            aggregation="only_first_replica",
            name="steps_done",
        )

    def compute_loss(
        self, x=None, y=None, y_pred=None, sample_weight=None, training=True
    ):
        done = ops.minimum(self.steps_done / self._steps, 1.0)
        batch = self._batch(x, y, y_pred, sample_weight, done)
        loss = super().compute_loss(
            x, batch.labels, batch.logits, sample_weight, training
        )
        if training:
            self.steps_done.assign_add(1.0)
        elif not self._term.in_validation:
            return loss
        if not self._term.of_rows:
            batch = _of_all_devices(batch)
        # As Keras's own terms: divided by the number of devices, which are added up.
        term = self._aggregate_additional_loss(self._term.loss(batch))
        return self._term.label_weight * loss + term

    def compute_metrics(self, x, y, y_pred, sample_weight=None):
        batch = self._batch(x, y, y_pred, sample_weight)
        for metric in self._term.metrics:
            metric.metric.update_state(*metric.values(batch))
        return super().compute_metrics(x, batch.labels, batch.logits, sample_weight)

    @property
    def metrics(self) -> list[keras.metrics.Metric]:
        """All metrics: Keras reports and resets those of the term with its own."""
        return [*super().metrics, *(metric.metric for metric in self._term.metrics)]

    def _batch(self, x, y, y_pred, sample_weight, progress=None) -> Batch:
        count = self._num_labels
        labels = y if count is None else y[:, :count]
        has_targets = count is not None and y.shape[-1] > count
        return Batch(
            inputs=x,
            logits=y_pred[_LOGITS],
            outputs=y_pred,
            labels=labels,
            targets=y[:, count:] if has_targets else None,
            sample_weight=sample_weight,
            progress=progress,
        )


def _of_all_devices(batch):
    names = ("logits", "outputs", "labels", "targets", "sample_weight")
    own = {name: getattr(batch, name) for name in names}
    own = {name: value for name, value in own.items() if value is not None}
    return replace(batch, **gradients.rows_of_all(own))


def head_outputs(
    model: keras.Model, heads: Mapping[str, tuple[keras.Layer, str]]
) -> dict[str, Tensor]:
    """Return the output of each head on the layer that it belongs to.

    Args:
        model: Functional model.
        heads: See `Term`.

    Raises:
        InputError: A layer that is neither in the model nor, by its shape, its input.
    """
    known = splitting.outputs(model)
    outputs = {}
    for name, (head, layer) in heads.items():
        # Where all below the heads is frozen, what trains begins with the features.
        features = known.get(layer, model.inputs[0])
        wanted = head.get_build_config()["input_shape"][1:]
        if layer not in known and tuple(wanted) != tuple(features.shape[1:]):
            raise errors.unknown("layer", layer, known)
        outputs[name] = head(features)
    return outputs
