"""Check that model, data and settings of a phase go together, before it trains."""

import keras
import numpy as np

from keras_tl import errors
from keras_tl.models import freezing, splitting
from keras_tl.training import workers
from keras_tl.training.placement import check_batch_size
from keras_tl.training.selection import LAST


def check(model, splits, setup, phase) -> None:
    """Raise `InputError` unless the arguments of `phases.fit` go together."""
    check_batch_size(setup.placement, setup.batch_size)
    unit = batch_unit(setup, splits)
    if setup.batch_size % unit:
        raise errors.expected(
            "batch_size",
            f"be a multiple of {unit}, so that each device has "
            "as many examples of either kind, or both views of each",
            setup.batch_size,
        )
    splitting.check_single_output(model)
    _check_inputs(model, splits)
    if not model.trainable_weights:
        raise errors.InputError(freezing.why_nothing_trains(model))
    setup.objective.check(model, splits)
    if phase.method is None:
        check_choice(setup, setup.objective.directions)
    if splits.train.targets is not None and phase.method is None:
        raise errors.InputError(
            "`method` must be one of `methods.distillation` or `methods.multi_task`, "
            "where there is more to learn than the labels. Received: method=None."
        )


def check_workers(model, splits, setup) -> None:
    """Raise `InputError` unless all workers have the same data, model and settings."""
    workers.agree(
        seed=setup.seed,
        batch_size=setup.batch_size,
        labels_of_the_training_split=splits.train.labels,
        labels_of_the_validation_split=splits.validation.labels,
        number_of_parameters=model.count_params(),
        trainable_layers=freezing.report(model),
    )


def batch_unit(setup, splits) -> int:
    """Return the number of which any batch size of a phase has to be a multiple."""
    in_turns = splits.train.beside or splits.train.views == 2
    return setup.placement.replicas * (2 if in_turns else 1)


def share_weights(model) -> None:
    """Set the weights of a model to those that the chief has, on all workers.

    Classifiers of scikit-learn, random numbers and files can differ between machines,
    and training would keep the difference.
    """
    if workers.current() is None:
        return
    own = model.get_weights()
    if workers.all_equal(b"".join(map(_bytes, own))):
        return
    content = workers.bytes_from_chief(b"".join(map(_bytes, own)))
    ends = np.cumsum([array.nbytes for array in own])
    model.set_weights(
        [
            np.frombuffer(content[end - array.nbytes : end], array.dtype).reshape(
                array.shape
            )
            for array, end in zip(own, ends, strict=True)
        ]
    )


def _bytes(array):
    return np.ascontiguousarray(array).tobytes()


def _check_inputs(model, splits):
    example = splits.train.read([0])
    inputs = splitting.functional(model).inputs
    wanted = len(inputs)
    received = len(example) if isinstance(example, dict) else 1
    if wanted != received:
        raise errors.expected(
            "model",
            f"take as many inputs as an example has, {received}",
            model.name,
            f"It takes {wanted}.",
        )
    if wanted > 1:
        return
    (array,) = example.values() if isinstance(example, dict) else (example,)
    shape, own = array.shape[1:], tuple(inputs[0].shape[1:])
    fits = len(shape) == len(own)
    if not fits or any(b not in (None, a) for a, b in zip(shape, own, strict=True)):
        hint = ""
        if splits.train.inputs.kind == "image" and len(own) == 3:
            hint = f"Read the images at its size: `splits.at_size({own[0]})`."
        raise errors.expected("splits", f"have inputs of shape {own}", shape, hint)


# Number of examples on which outputs are checked to be logits.
_CHECKED = 16


def check_logits(part, data, setup) -> None:
    """Raise `InputError` where outputs for some validation examples are no logits."""
    inputs = data.validation.read(range(min(_CHECKED, len(data.validation))))
    logits = part(inputs, training=False)
    setup.objective.check_logits(part, keras.ops.convert_to_numpy(logits))


def check_choice(setup, directions) -> None:
    """Raise `InputError` unless the epoch is chosen by a metric that there is."""
    if setup.choose_by not in (*directions, LAST):
        raise errors.unknown("choose_by", setup.choose_by, [*directions, LAST])
