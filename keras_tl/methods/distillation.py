"""Distillation: a small model learns what a large one says, beside the labels.

`keras.distillation` runs the teacher in every step of every epoch. Here it runs once
over each image, or over each changed copy of it, which the student then sees too. And
its `LogitsDistillation`, in Keras 3.15 and with its default loss, takes logits for
probabilities: given `loss=keras.losses.KLDivergence()`, it is what is computed here.
"""

import functools
from collections.abc import Callable
from dataclasses import replace

import keras
import numpy as np
from keras import ops

from keras_tl import errors, progress
from keras_tl.data import images, pipeline
from keras_tl.data.splits import Split, Splits, read_once
from keras_tl.methods.regularizers import mean_over_rows
from keras_tl.training import features, store


def teach(
    teacher: keras.Model,
    splits: Splits,
    image_size: int,
    *,
    augment: pipeline.Augmentation | None = None,
    copies: int = 1,
    seed: int = 0,
    cache: store.Cache | None = None,
) -> Splits:
    """Let a teacher say what it sees in the training images, each once.

    Args:
        teacher: A functional classifier that takes images and gives logits.
        splits: The data, of which the training split is shown.
        image_size: Side in pixels of the images that the student sees. Those of all
            three splits are resized to the teacher's size first, changed there where
            they are to be, and from there to this one: the student is judged on
            images that are as sharp, or blurred, as those it learns from.
        augment: Changes the images, in the teacher's size, before both see them, as
            whole numbers in [0, 255]; the best students see many changed copies,
            labelled as what they are then (Beyer et al., 2021, arXiv:2106.05237).
        copies: Number of changed copies of each image, at least 1; each epoch uses the
            next.
        seed: What, with the copy and the example, decides the changes.
        cache: See `features.extract`.

    Returns:
        The splits in `image_size`, the training split with what the teacher said.

    Raises:
        InputError: The teacher has another number of classes, or none of a fixed size.
    """
    size, classes = teacher.input_shape[1], teacher.output_shape[-1]
    errors.check_at_least("copies", copies, 1)
    if classes != len(splits.class_names):
        raise errors.InputError(
            f"The teacher {teacher.name} has {classes} classes, the data "
            f"{len(splits.class_names)}."
        )
    if size is None:
        raise errors.expected(
            "teacher", "take images of a fixed size", teacher.input_shape
        )
    shown = splits.at_size(size)
    train = read_once(shown.train)
    if augment is not None:
        whole = pipeline.in_whole_numbers(augment)
        train = pipeline.Augmented(train, whole, seed, copies)
    said = features.extract(teacher, train, cache=cache, what="teacher")
    small = replace(shown, train=train).map(lambda split: _resized(split, image_size))
    targets = np.asarray(said.images[:], "float32")
    return replace(small, train=replace(small.train, targets=targets))


def _resized(split, image_size) -> Split:
    """Resize what a split gives, once more, into memory."""
    pixels = np.empty((len(split), image_size, image_size, 3), "uint8")
    blocks = range(0, len(split), 256)
    for start in progress.track(blocks, "student's images", len(blocks)):
        rows = np.arange(start, min(start + 256, len(split)))
        pixels[rows] = images.resize(split.read(rows), image_size)
    return Split(
        pixels,
        split.labels,
        augmented_copies=split.augmented_copies,
        targets=split.targets,
    )


def from_teacher(
    *, temperature: float = 4.0, student_loss_weight: float = 0.5
) -> Callable[[keras.Model], keras.Model]:
    """Learn from what a teacher said, see `teach`, and from the labels.

    student_loss_weight * cross-entropy of the labels + (1 - student_loss_weight) *
    temperature^2 * KL(teacher, student), where both are softmax of logits divided by
    `temperature`.

    Args:
        temperature: Greater than 0; the higher, the more the unlikely classes tell.
        student_loss_weight: In [0, 1].

    Returns:
        A `regularizer` for the phases. Validation losses are those of the labels.

    Raises:
        InputError: A value out of range.

    Reference:
        Hinton et al., "Distilling the knowledge in a neural network", 2015,
        arXiv:1503.02531; the loss is that of `keras.distillation`.
    """
    errors.check_above("temperature", temperature, 0)
    if not 0 <= student_loss_weight <= 1:
        raise errors.expected(
            "student_loss_weight", "be in [0, 1]", student_loss_weight
        )
    return functools.partial(
        Student, temperature=temperature, student_loss_weight=student_loss_weight
    )


class Student(keras.Model):
    """A classifier that learns from labels with a teacher's logits behind them.

    Args:
        model: Functional classifier; its layers are shared.
        temperature: See `from_teacher`.
        student_loss_weight: See `from_teacher`.
    """

    def __init__(
        self, model: keras.Model, temperature: float, student_loss_weight: float
    ):
        super().__init__(model.inputs[0], model.outputs[0], name=model.name)
        self._temperature, self._share = temperature, student_loss_weight

    def compute_loss(
        self, x=None, y=None, y_pred=None, sample_weight=None, training=True
    ):
        classes = y_pred.shape[-1]
        loss = super().compute_loss(x, y[:, :classes], y_pred, sample_weight, training)
        if not training:
            return loss
        if y.shape[-1] != 2 * classes:
            raise errors.InputError(
                "No teacher has labelled these images: see `distillation.teach`."
            )
        teacher, student = (
            ops.log_softmax(ops.cast(logits, "float32") / self._temperature)
            for logits in (y[:, classes:], y_pred)
        )
        apart = ops.sum(ops.exp(teacher) * (teacher - student), axis=-1)
        soft = self._temperature**2 * mean_over_rows(apart, sample_weight)
        # As Keras's own: divided by the number of devices, which are added up.
        soft = self._aggregate_additional_loss(soft)
        return self._share * loss + (1 - self._share) * soft

    def compute_metrics(self, x, y, y_pred, sample_weight=None):
        y = y[:, : y_pred.shape[-1]]
        return super().compute_metrics(x, y, y_pred, sample_weight)
