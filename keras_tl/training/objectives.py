"""Objectives of training: loss, metrics and evaluation for each kind of labels.

An `Objective` holds in one place what the training loop, the test of learning rates,
evaluation, report and saved model have to agree on: loss, metrics, which of them select
an epoch, and how logits become an answer.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Literal, Protocol

import keras
import numpy as np

from keras_tl import errors
from keras_tl.data.splits import Split, Splits
from keras_tl.models import splitting

# A loss of Keras, or a function of labels and logits: the loss of each example.
OwnLoss = keras.losses.Loss | Callable

# Activations that turn logits into probabilities.
PROBABILITIES = ("softmax", "sigmoid", "hard_sigmoid")
# Activations without negative values.
POSITIVE = ("relu", "relu6", "re_lu", "softplus")

Direction = Literal["min", "max"]


class Objective(Protocol):
    """Loss, metrics and evaluation for one kind of labels.

    Attributes:
        name: Name in manifests and reports.
        activation: Turns logits into an answer: "softmax", "sigmoid" or "linear".
        metric: The metric that people are shown while a model trains, beside the loss.
        directions: Metric -> whether a better epoch has a lower ("min") or a higher
            ("max") value of it; these can select the epoch.
    """

    name: str
    activation: str
    metric: str
    directions: Mapping[str, Direction]

    def check(self, model: keras.Model, splits: Splits) -> None:
        """Raise `InputError` where outputs of `model` and labels do not go together."""

    def check_logits(self, model: keras.Model, logits: np.ndarray) -> None:
        """Raise `InputError` where outputs of a model for examples are no logits."""

    def num_classes(self, splits: Splits) -> int | None:
        """Return the width of one-hot labels; `None` leaves labels as they are."""
        return None

    def weights(self, split: Split) -> np.ndarray | None:
        """Return a weight for each training example, float32 `(len(split),)`.

        `None` is 1 where the label is known and 0 where it is not.
        """
        return None

    def loss(self, label_smoothing: float = 0.0) -> OwnLoss:
        """Build the loss, a function of labels and logits."""

    def metrics(self) -> list[keras.metrics.Metric]:
        """Build the metrics, functions of labels and logits; none by default."""
        return []


@dataclass(frozen=True)
class SingleLabel(Objective):
    """Each example is of exactly one class: softmax and cross-entropy.

    Attributes:
        own_loss: Another loss in place of the cross-entropy: of Keras, or a function of
            one-hot labels `(count, num_classes)` and logits that returns the loss of
            each example, `(count,)`. Class weights multiply it; it has to do its own
            label smoothing.

    >>> focal = keras.losses.CategoricalFocalCrossentropy(from_logits=True)
    >>> SingleLabel(own_loss=focal).loss().name
    'categorical_focal_crossentropy'
    """

    own_loss: OwnLoss | None = None

    name = "single-label"
    activation = "softmax"
    metric = "accuracy"
    directions = MappingProxyType({"loss": "min", "accuracy": "max"})

    def check(self, model: keras.Model, splits: Splits) -> None:
        """Raise `InputError` unless there is a logit for each class."""
        _check_labels(self, splits, ndim=1, valid="the number of a class")
        _check_outputs(model, splits, "class", "classes")

    def check_logits(self, model: keras.Model, logits: np.ndarray) -> None:
        """Raise `InputError` for probabilities, of which softmax would be too flat."""
        _check_logits(model, logits)

    def num_classes(self, splits: Splits) -> int:
        """Return the number of classes."""
        return len(splits.class_names)

    def loss(self, label_smoothing: float = 0.0) -> OwnLoss:
        """Build the cross-entropy of softmax, or return the loss of one's own.

        Raises:
            InputError: `label_smoothing` is not 0 with a loss of one's own.
        """
        if self.own_loss is not None:
            return _own(self.own_loss, label_smoothing)
        return keras.losses.CategoricalCrossentropy(
            from_logits=True, label_smoothing=label_smoothing
        )

    def metrics(self) -> list[keras.metrics.Metric]:
        """Build the accuracy: the share of examples whose class has the top logit."""
        return [keras.metrics.CategoricalAccuracy(name="accuracy")]


@dataclass(frozen=True)
class MultiLabel(Objective):
    """Each example has any number of labels: sigmoid and binary cross-entropy.

    Labels are rows of 0 and 1, one column for each class name.

    Attributes:
        own_loss: Another loss in place of the cross-entropy, see `SingleLabel`; its
            labels are the rows of 0 and 1.
    """

    own_loss: OwnLoss | None = None

    name = "multi-label"
    activation = "sigmoid"
    metric = "accuracy"
    directions = MappingProxyType({"loss": "min", "accuracy": "max"})

    def check(self, model: keras.Model, splits: Splits) -> None:
        """Raise `InputError` unless labels are 0 or 1, with a logit for each column."""
        _check_labels(self, splits, ndim=2, valid="a row of 0 and 1")
        for name, split in splits.items():
            known = split.labels[split.known]
            if not np.isin(known, (0, 1)).all():
                raise errors.expected(
                    "labels", f"be 0 or 1 in the {name} split", np.unique(known)[:5]
                )
        _check_outputs(model, splits, "label")

    def check_logits(self, model: keras.Model, logits: np.ndarray) -> None:
        """Raise `InputError` for probabilities, of which sigmoid would be too flat."""
        _check_logits(model, logits)

    def loss(self, label_smoothing: float = 0.0) -> OwnLoss:
        """Build the mean cross-entropy of the sigmoids, or return one's own loss.

        Raises:
            InputError: `label_smoothing` is not 0 with a loss of one's own.
        """
        if self.own_loss is not None:
            return _own(self.own_loss, label_smoothing)
        return keras.losses.BinaryCrossentropy(
            from_logits=True, label_smoothing=label_smoothing
        )

    def metrics(self) -> list[keras.metrics.Metric]:
        """Build the accuracy: the share of all labels that are predicted correctly."""
        return [keras.metrics.BinaryAccuracy(name="accuracy", threshold=0.0)]


@dataclass(frozen=True)
class Unlabelled(Objective):
    """There are no labels: the loss is that of a method alone, such as `simclr`.

    A method has to be given, and the last epoch is kept: `choose_by="last"`.
    """

    name = "unlabelled"
    activation = "linear"
    metric = "loss"
    directions = MappingProxyType({"loss": "min"})

    def check(self, model: keras.Model, splits: Splits) -> None:
        """Raise `InputError` where there are labels to learn from."""
        if splits.task != "unlabelled":
            raise errors.expected("splits", "have no labels", splits.task)

    def loss(self, label_smoothing: float = 0.0) -> OwnLoss:
        """Return a loss that is 0 for each example, whatever the outputs are."""

        def nothing(labels, outputs):
            axes = tuple(range(1, len(outputs.shape)))
            return 0.0 * keras.ops.sum(outputs, axis=axes)

        return nothing


@dataclass(frozen=True)
class Regression(Objective):
    """Each example has one number or several to be predicted: mean squared error.

    Attributes:
        own_loss: Another loss in place of the squared error, see `SingleLabel`; its
            labels are the numbers, `(count, n)`.
    """

    own_loss: OwnLoss | None = None

    name = "regression"
    activation = "linear"
    metric = "mean_absolute_error"
    directions = MappingProxyType({"loss": "min", "mean_absolute_error": "min"})

    def check(self, model: keras.Model, splits: Splits) -> None:
        """Raise `InputError` unless labels are numbers, with an output for each."""
        _check_labels(self, splits, ndim=2, valid="a number or a row of numbers")
        _check_outputs(model, splits, "column of labels", "columns of labels")

    def loss(self, label_smoothing: float = 0.0) -> OwnLoss:
        """Build the mean squared error, or return the loss of one's own.

        Raises:
            InputError: `label_smoothing` is not 0: it is for classes.
        """
        if label_smoothing:
            raise errors.expected(
                "label_smoothing", "be 0 for a regression", label_smoothing
            )
        return self.own_loss or keras.losses.MeanSquaredError()

    def metrics(self) -> list[keras.metrics.Metric]:
        """Build the mean absolute error, in the unit of the labels."""
        return [keras.metrics.MeanAbsoluteError(name="mean_absolute_error")]


def of(splits: Splits) -> Objective:
    """Return the objective for the labels of some data, see `Splits.task`."""
    kinds = (SingleLabel, MultiLabel, Regression, Unlabelled)
    return {kind.name: kind for kind in kinds}[splits.task]()


def _own(loss, label_smoothing):
    if label_smoothing:
        raise errors.expected(
            "label_smoothing", "be 0 with a loss of your own", label_smoothing
        )
    return loss


def _check_logits(model, logits):
    """Refuse what is no logits, by the last operation and softmax by the numbers."""
    activation = None
    if splitting.has_graph(model):
        activation = splitting.ends_in(model, (*PROBABILITIES, *POSITIVE))
    if activation in POSITIVE:
        raise errors.InputError(
            f"The model must return logits, positive and negative numbers; it ends in "
            f"{activation}. Build its last layer without an activation."
        )
    # Half precision has three digits.
    inside = (logits >= 0).all() and (logits <= 1).all() and logits.shape[-1] > 1
    if activation is None and inside and np.allclose(logits.sum(-1), 1, atol=0.01):
        activation = "softmax"
    if activation is not None:
        raise errors.InputError(
            f"The model returns probabilities, those of {activation}. It must return "
            "logits: build its last layer without an activation, or replace it with "
            "`heads.replace`. The loss and the saved run apply softmax or sigmoid "
            "themselves."
        )


def _check_labels(objective, splits, ndim, valid):
    for name, split in splits.items():
        if split.labels.ndim != ndim:
            raise errors.InputError(
                f"The label of each example must be {valid}, for the objective "
                f"{objective.name!r}. Received, in the {name} split: "
                f"{split.labels.dtype} {split.labels.shape}."
            )


def _check_outputs(model, splits, *names):
    outputs, wanted = model.outputs[0].shape[-1], len(splits.class_names)
    if outputs != wanted:
        raise errors.InputError(
            f"The head of {model.name} has {errors.counted(outputs, 'logit')}, the "
            f"data {errors.counted(wanted, *names)}. Build the head with "
            f"num_classes={wanted}."
        )
