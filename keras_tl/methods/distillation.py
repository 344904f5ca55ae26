"""Distillation: a small model learns from the answers, or the features, of a large one.

`keras.distillation` runs the teacher in every step of every epoch. Here it runs once
over each image, or over each augmented copy of it, which the student then sees as well.
And its `LogitsDistillation`, in Keras 3.15 with the default loss, takes logits for
probabilities; with `loss=keras.losses.KLDivergence()` it is the loss computed here.
"""

from dataclasses import replace

import keras
import numpy as np
from keras import ops

from keras_tl import errors, progress
from keras_tl.data import images, pipeline
from keras_tl.data.sources import ImageArray
from keras_tl.data.splits import Split, Splits, read_once, without_labels
from keras_tl.models import splitting
from keras_tl.training import features, store
from keras_tl.training.terms import Method, Term

# Name of the head that predicts the teacher's features, which is not saved.
_PREDICTION = "/prediction"


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
    """Compute the teacher's logits for the training images, each once.

    Args:
        teacher: A functional classifier from images to logits.
        splits: The data, of whose training split the logits are computed.
        image_size: Side in pixels of the student's images. Those of all three splits
            are resized to the teacher's size first, augmented there where asked, and
            then resized to this one: the student is evaluated on images as sharp, or as
            blurred, as those it learns from.
        augment: Augments the images at the teacher's size, before teacher and student
            see them, as whole numbers in [0, 255]; the best students see many augmented
            copies, labelled as what they are then (Beyer et al., 2021,
            arXiv:2106.05237).
        copies: Number of augmented copies of each image, at least 1; each epoch uses
            the next.
        seed: Decides, with the number of the copy and the example, the augmentation.
        cache: See `features.extract`.

    Returns:
        The splits at `image_size`, the training split with the logits as its targets.

    Raises:
        InputError: The teacher has another number of classes, or none of a fixed size.
    """
    size, classes = teacher.input_shape[1], teacher.output_shape[-1]
    errors.check_at_least("copies", copies, 1)
    if classes != len(splits.class_names):
        raise errors.InputError(
            f"The teacher {teacher.name} has "
            f"{errors.counted(classes, 'class', 'classes')}, the data "
            f"{len(splits.class_names)}."
        )
    if size is None:
        raise errors.expected(
            "teacher", "take images of a fixed size", teacher.input_shape
        )
    data = splits.at_size(size)
    train = read_once(data.train)
    if augment is not None:
        whole = pipeline.in_whole_numbers(augment)
        train = pipeline.with_copies(train, whole, seed, copies)
    answers = features.extract(teacher, train, cache=cache, title="teacher")
    logits = np.asarray(answers.read(np.arange(len(answers))), "float32")
    small = replace(data, train=train).map(lambda split: _resized(split, image_size))
    return replace(small, train=replace(small.train, targets=logits))


def _resized(split, image_size) -> Split:
    """Resize the images that a split reads once more, into memory."""
    pixels = np.empty((len(split), image_size, image_size, 3), "uint8")
    blocks = range(0, len(split), 256)
    for start in progress.track(blocks, "student's images", len(blocks)):
        rows = np.arange(start, min(start + 256, len(split)))
        pixels[rows] = images.resize(split.read(rows), image_size)
    return replace(split, inputs=ImageArray(pixels))


def from_teacher(
    *, temperature: float = 4.0, student_loss_weight: float = 0.5
) -> Method:
    """Learn from the logits of a teacher, see `teach`, and from the labels.

    student_loss_weight * cross-entropy of the labels + (1 - student_loss_weight) *
    temperature^2 * KL(teacher, student), where both are the softmax of logits divided
    by `temperature`.

    Args:
        temperature: Greater than 0; a higher one gives unlikely classes more influence.
        student_loss_weight: In [0, 1].

    Returns:
        A method for `phases.Phase`. Validation losses are those of the labels.

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

    def soft_loss(batch):
        if batch.targets is None or batch.targets.shape[-1] != batch.logits.shape[-1]:
            raise errors.InputError(
                "The training images have no logits of a teacher: see "
                "`distillation.teach`."
            )
        distance = _divergence(batch, batch.targets, batch.logits, temperature)
        return (1 - student_loss_weight) * distance

    return lambda model, steps: Term(soft_loss, label_weight=student_loss_weight)


def teach_features(
    teacher: keras.Model, splits: Splits, *, cache: store.Cache | None = None
) -> Splits:
    """Compute the teacher's features for the training images, each once; no labels.

    Args:
        teacher: A functional model from images to vectors of features, such as
            `heads.pool` of a pretrained backbone. It sees the images at its own size.
        splits: Images, at the size of the student's; their labels do not matter.
        cache: See `features.extract`.

    Returns:
        The same images without labels; the targets of those of training are the
        features, each with mean 0, and all divided by one number, so that the mean of
        their squares is 1.

    Raises:
        InputError: The teacher has no fixed image size, or its output is no vector.
    """
    size = teacher.input_shape[1]
    if size is None or len(teacher.output_shape) != 2:
        shapes = f"{teacher.input_shape} to {teacher.output_shape}"
        expectation = "go from images of a fixed size to vectors of features"
        raise errors.expected("teacher", expectation, shapes)
    made = features.extract(
        teacher, read_once(splits.train.at_size(size)), cache=cache, title="teacher"
    )
    wanted = np.asarray(made.read(np.arange(len(made))), "float32")
    wanted -= wanted.mean(axis=0)
    wanted /= np.sqrt(np.square(wanted).mean()) + 1e-12
    without = without_labels(splits)
    return replace(without, train=replace(without.train, targets=wanted))


def from_features(width: int, layer: str = "pool") -> Method:
    """Learn from the features of a teacher, see `teach_features`, without labels.

    A dense layer W on the student's features f predicts those of the teacher, t; the
    loss is the mean over examples and columns of (W f - t)^2. W is not kept.

    Args:
        width: Number of the teacher's features.
        layer: Name of the layer whose output are the student's, `(batch, features)`.

    Returns:
        A method for `phases.Phase`, with `Setup(objective=Unlabelled(),
        choose_by="last")`.

    Raises:
        InputError: A width below 1, an unknown layer, or one whose output is no vector.

    Reference:
        Romero et al., "FitNets: Hints for thin deep nets", 2015, arXiv:1412.6550, with
        the pooled features of the last layer in place of an inner feature map.
    """
    errors.check_at_least("width", width, 1)

    def method(model, steps):
        splitting.check_vector(model, layer)
        predict = keras.layers.Dense(width, dtype="float32", name="prediction")
        predict.build((None, splitting.outputs(model)[layer].shape[-1]))

        def loss(batch):
            apart = ops.cast(batch.outputs[_PREDICTION], "float32") - batch.targets
            return batch.mean(ops.mean(ops.square(apart), axis=-1))

        return Term(loss, heads={_PREDICTION: (predict, layer)}, label_weight=0.0)

    return method


def old_answers(*, alpha: float = 1.0, temperature: float = 2.0) -> Method:
    """Keep the answers of a model for its old classes, as its head learns new ones.

    alpha * temperature^2 * KL(before, now), a mean over the batch, where both are the
    softmax of the logits of the old classes, the first ones, divided by `temperature`.
    Those of before are computed once: they are the targets of the training split.

    Args:
        alpha: Weight of the penalty, at least 0.
        temperature: Greater than 0; a higher one gives unlikely classes more influence.

    Returns:
        A method for `phases.Phase`. Validation losses are those of the labels.

    Raises:
        InputError: A value out of range, or training images without targets.

    Reference:
        Li and Hoiem, "Learning without forgetting", 2016, arXiv:1606.09282, with one
        head for old and new classes; `regularizers.lwf` has it for heads of their own.
    """
    errors.check_at_least("alpha", alpha, 0)
    errors.check_above("temperature", temperature, 0)

    def penalty(batch):
        if batch.targets is None or batch.targets.shape[-1] > batch.logits.shape[-1]:
            raise errors.InputError(
                "The training images have no logits of the model before, one for each "
                "of its classes, as their targets."
            )
        count = batch.targets.shape[-1]
        now = batch.logits[:, :count]
        return alpha * _divergence(batch, batch.targets, now, temperature)

    return lambda model, steps: Term(penalty)


def _divergence(batch, wanted, logits, temperature):
    """Return temperature^2 * KL(wanted, logits), the mean over a batch."""
    wanted, given = (
        ops.log_softmax(ops.cast(one, "float32") / temperature)
        for one in (wanted, logits)
    )
    each = ops.sum(ops.exp(wanted) * (wanted - given), axis=-1)
    return temperature**2 * batch.mean(each)
