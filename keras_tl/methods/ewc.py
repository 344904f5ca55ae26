"""Elastic weight consolidation: weights that the old classes depend on move little.

`fisher` measures how much they depend on each weight, `ewc` adds the penalty;
`regularizers.l2_sp` penalizes all weights alike.
"""

from collections.abc import Sequence

import keras
import numpy as np
from keras import ops
from scipy import special

from keras_tl import errors, progress
from keras_tl.data.splits import Split
from keras_tl.models import splitting
from keras_tl.training.terms import Method, Term

# Gradients that `fisher` computes at most: one for each example and class.
MOST = 1600


def fisher(
    model: keras.Model, split: Split, classes: int | None = None, *, seed: int = 0
) -> list[np.ndarray]:
    """Compute the diagonal of the Fisher information of the weights that train.

    The mean over examples x of sum_c p(c | x) (d log p(c | x) / d w)^2, where p is the
    softmax of the model's own logits: the labels do not matter. Of more examples than
    `MOST` gradients are enough for, a part is drawn.

    Args:
        model: A functional classifier, at the weights that the old classes were learned
            with; it is left as it is.
        split: Examples of the old classes, as the model takes them, such as features.
        classes: Number of the old classes, the first ones; all by default. Weights of
            other classes have no information.
        seed: Seed of the drawing.

    Returns:
        An array for each of `model.trainable_weights`, of its shape.

    Raises:
        InputError: Nothing of the model trains, or it has fewer classes.

    Reference:
        Kirkpatrick et al., "Overcoming catastrophic forgetting in neural networks",
        2017, arXiv:1612.00796.
    """
    if not model.trainable_weights:
        raise errors.expected("model", "have weights that train", model.name)
    errors.check_at_least("len(split)", len(split), 1)
    outputs = model.output_shape[-1]
    classes = outputs if classes is None else classes
    if not 1 <= classes <= outputs:
        raise errors.expected("classes", f"be in [1, {outputs}]", classes)
    count = min(len(split), max(1, MOST // classes))
    rows = np.random.default_rng(seed).permutation(len(split))[:count]
    # A copy: the compiled state of `model` stays, and where several devices train it,
    # each would have to take part in every one of these steps.
    copy = keras.models.clone_model(model)
    copy.set_weights(model.get_weights())
    own = _AsInPrediction(
        splitting.inputs(copy), copy.outputs[0][:, :classes], name=model.name
    )
    squares = _Squares()
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    own.compile(squares, loss, jit_compile=False)
    for row in progress.track(rows, "Fisher information", count):
        example = split.read([row])
        logits = ops.convert_to_numpy(own(example, training=False))[0]
        chances = special.softmax(logits.astype("float64"))
        for label in range(classes):
            # The weight is squared with the gradient.
            weight = np.sqrt(chances[label : label + 1]).astype("float32")
            own.train_on_batch(example, np.array([label]), sample_weight=weight)
    return [ops.convert_to_numpy(total) / count for total in squares.totals]


def ewc(information: Sequence[np.ndarray], *, strength: float = 100.0) -> Method:
    """Penalize the change of weights by how much the old classes depend on them.

    strength / 2 * sum F (w - w_start)^2, over all weights that train when the phase
    begins. The weights of new classes, of which F is 0, are free.

    Args:
        information: F for each of these weights, see `fisher`.
        strength: Weight of the penalty, at least 0.

    Returns:
        A method for `phases.Phase`. Validation losses are without the penalty.

    Raises:
        InputError: A value out of range, or, when a phase begins, other weights.

    Reference:
        See `fisher`.
    """
    errors.check_at_least("strength", strength, 0)

    def method(model, steps):
        weights = list(model.trainable_weights)
        shapes = [tuple(weight.shape) for weight in weights]
        if [one.shape for one in information] != shapes:
            raise errors.expected(
                "information",
                "have an array for each weight that trains, of its shape",
                [one.shape for one in information],
            )
        fixed = [ops.convert_to_tensor(one, "float32") for one in information]
        start = [ops.copy(weight) for weight in weights]

        def penalty(batch):
            costs = (
                ops.sum(one * ops.square(ops.cast(w - s, "float32")))
                for one, w, s in zip(fixed, weights, start, strict=True)
            )
            return strength / 2 * sum(costs, start=0.0)

        return Term(penalty)

    return method


class _Squares(keras.optimizers.Optimizer):
    """An optimizer that moves nothing, and adds up the squares of gradients."""

    def __init__(self):
        super().__init__(learning_rate=1.0, name="squares")

    def build(self, variables):
        super().build(variables)
        self.totals = self.add_optimizer_variables(variables, "total")

    def update_step(self, gradient, variable, learning_rate):
        total = self.totals[self._get_variable_index(variable)]
        self.assign_add(total, ops.square(ops.cast(gradient, total.dtype)))


class _AsInPrediction(keras.Model):
    """A functional model that computes in training as in prediction."""

    def call(self, inputs, training=None, mask=None):
        return super().call(inputs, training=False, mask=mask)
