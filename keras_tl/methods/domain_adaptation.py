"""Domain adaptation: labels of one domain, and examples without labels of another.

Rows of both domains are in every batch, see `adapt`. Each method adds a term to the
loss of the source's labels: `coral` and `dan` make the features of the two domains
alike by their statistics, `dann` and `cdan` by a classifier of domains that the
features learn to mislead, and `mcc` makes the answers for the target less confused.
Nothing here sees a label of the target.

Published accuracy, ResNet-50 on Office-31, mean of six pairs
(https://github.com/thuml/Transfer-Learning-Library): source only 79.5, DAN 83.7, DANN
86.1, CDAN 87.7, MCC 89.6; on Office-Home 58.4, 61.4, 65.2, 68.8, 72.4.
"""

from collections.abc import Sequence
from dataclasses import replace

import keras
from keras import ops

from keras_tl import errors
from keras_tl.data import folders, splits
from keras_tl.data.sources import read_all
from keras_tl.data.splits import Splits
from keras_tl.methods import importance
from keras_tl.models import splitting
from keras_tl.training.terms import Method, Term

# The lines below and above all methods: no adaptation, and labels of the target.
LINES = ("source only", "target labels")
# Learn from the source alone, with the weights of `importance.odds`.
WEIGHTING = "importance weighting"
# Name -> function from the layer of the features and the weight to a method. The paper
# of Deep CORAL wants its loss to end about as large as that of the labels: it is small.
METHODS = {
    "DAN": lambda layer, weight: dan(layer, weight=weight),
    "Deep CORAL": lambda layer, weight: coral(layer, weight=100 * weight),
    "DANN": lambda layer, weight: dann(layer, weight=weight),
    "CDAN+E": lambda layer, weight: cdan(layer, weight=weight),
    "MCC": lambda layer, weight: mcc(weight=weight),
}


def adapt(source: Splits, target: Splits) -> Splits:
    """Put the examples of a target domain, without their labels, beside a source.

    Args:
        source: Labelled domain to learn from.
        target: Domain to be right about, with the same classes. Of its training split
            the examples are used, and of its validation split nothing.

    Returns:
        Splits whose training batches have as many rows of the target as of the source,
        see `splits.beside`; validation is that of the source, test that of the target.

    Raises:
        InputError: The domains have different classes, no single one each, or other
            kinds of examples.
    """
    folders.check_classes("source", source, "target", target)
    if source.task != "single-label":
        raise errors.expected("source", "have one class for each example", source.task)
    return replace(
        source,
        train=splits.beside(source.train, target.train),
        test=target.test,
        origin=f"Source: {source.origin} Target, without labels: {target.origin}",
    )


def arrange(
    method: str,
    source: Splits,
    target: Splits,
    batch_size: int,
    *,
    layer: str = "pool",
    weight: float = 1.0,
) -> tuple[Splits, Method | None, int]:
    """Return what a phase needs for a method, or for one of the lines around them.

    Args:
        method: One of `METHODS`, `WEIGHTING`, for which the examples are vectors of
            features, or `LINES`: "source only" learns from the source's labels, "target
            labels" from the target's, which no method sees.
        source: See `adapt`.
        target: See `adapt`.
        batch_size: Examples per step, half of them of the target; without those, a
            step has the other half.
        layer: Name of the layer whose outputs are the features.
        weight: Weight of the term; that of Deep CORAL is 100 times as large. For
            `WEIGHTING` the exponent of `importance.flattened`.

    Returns:
        The data; the method, `None` for the lines; and the batch size.

    Raises:
        InputError: An unknown method, or domains of different classes.
    """
    data = adapt(source, target)
    if method in METHODS:
        return data, METHODS[method](layer, weight), batch_size
    rows = max(1, batch_size // 2)
    if method == LINES[1]:
        return target, None, rows
    alone = replace(source, test=target.test)
    if method == LINES[0]:
        return alone, None, rows
    if method != WEIGHTING:
        raise errors.unknown("method", method, [*METHODS, WEIGHTING, *LINES])
    vectors = [read_all(domain.train.inputs) for domain in (source, target)]
    folds = min(5, *map(len, vectors))
    odds = importance.odds(*vectors, seed=0, folds=folds)
    weights = importance.flattened(odds, weight)
    train = replace(source.train, targets=weights[:, None])
    return replace(alone, train=train), importance.weighted(), rows


def dann(
    layer: str = "pool",
    *,
    weight: float = 1.0,
    gamma: float = 10.0,
    hidden: Sequence[int] = (100,),
) -> Method:
    """Learn features from which a classifier of domains cannot tell them apart.

    weight * (mean over source of -log d(R(f)) + mean over target of -log(1 - d(R(f))))
    / 2. R is the reversal of gradients, see `reverse`, whose strength grows with the
    share p of steps that are done: 2 / (1 + exp(-gamma p)) - 1.

    Args:
        layer: Name of the layer whose output are the features f, `(batch, features)`.
        weight: Weight of the term, at least 0.
        gamma: How fast the reversal grows; greater than 0.
        hidden: Width of each hidden layer of the classifier of domains, d.

    Returns:
        A method for `phases.Phase`. Validation losses are those of the labels.

    Raises:
        InputError: A value out of range, an unknown layer, or one whose output is no
            vector.

    Reference:
        Ganin et al., "Domain-adversarial training of neural networks", 2016,
        arXiv:1505.07818.
    """
    errors.check_at_least("weight", weight, 0)
    errors.check_above("gamma", gamma, 0)

    def method(model, steps):
        splitting.check_vector(model, layer)
        width = splitting.outputs(model)[layer].shape[-1]
        domain = _domain_classifier(width, hidden)

        def loss(batch):
            reversed_ = reverse(batch.outputs[layer], _strength(batch, gamma))
            return weight * domain_loss(domain(reversed_)[:, 0], *domains(batch))

        return Term(loss, layers=[layer], trained=[domain], of_rows=False)

    return method


def cdan(
    layer: str = "pool",
    *,
    weight: float = 1.0,
    gamma: float = 10.0,
    hidden: Sequence[int] = (100,),
    entropy: bool = True,
) -> Method:
    """Learn as `dann`, where the classifier of domains sees the answers as well.

    It takes the products of all features with all probabilities, `(batch, features *
    num_classes)`. With `entropy`, CDAN+E, an example counts 1 + exp(-H), where H is the
    entropy of its answer, so that examples whose class is clear count most. Neither
    probabilities nor weights pass a gradient on, as in the authors' code.

    Args:
        layer: See `dann`.
        weight: See `dann`.
        gamma: See `dann`.
        hidden: See `dann`.
        entropy: Whether examples are weighted.

    Returns:
        A method for `phases.Phase`. Validation losses are those of the labels.

    Raises:
        InputError: As `dann`.

    Reference:
        Long et al., "Conditional adversarial domain adaptation", 2018,
        arXiv:1705.10667.
    """
    errors.check_at_least("weight", weight, 0)
    errors.check_above("gamma", gamma, 0)

    def method(model, steps):
        splitting.check_vector(model, layer)
        width = splitting.outputs(model)[layer].shape[-1]
        domain = _domain_classifier(width * model.output_shape[-1], hidden)

        def loss(batch):
            features = ops.cast(batch.outputs[layer], "float32")
            answers = ops.stop_gradient(ops.softmax(ops.cast(batch.logits, "float32")))
            products = answers[:, :, None] * features[:, None, :]
            products = ops.reshape(products, (-1, domain.input_shape[-1]))
            source, target = domains(batch)
            if entropy:
                certain = certainty(answers)
                source, target = source * certain, target * certain
            logits = domain(reverse(products, _strength(batch, gamma)))[:, 0]
            return weight * domain_loss(logits, source, target)

        return Term(loss, layers=[layer], trained=[domain], of_rows=False)

    return method


def coral(layer: str = "pool", *, weight: float = 1.0) -> Method:
    """Make the covariance of the features the same in both domains: Deep CORAL.

    weight * sum (C_source - C_target)^2 / (4 d^2), for features of d columns, of which
    C is the covariance matrix in a batch.

    Args:
        layer: Name of the layer whose output are the features, `(batch, d)`.
        weight: Weight of the term, at least 0.

    Returns:
        A method for `phases.Phase`. Validation losses are those of the labels.

    Raises:
        InputError: A value below 0, an unknown layer, or one whose output is no vector.

    Reference:
        Sun and Saenko, "Deep CORAL: Correlation alignment for deep domain adaptation",
        2016, arXiv:1607.01719.
    """
    return _statistic(layer, weight, coral_loss)


def dan(layer: str = "pool", *, weight: float = 1.0) -> Method:
    """Make the distribution of the features the same in both domains, by kernels.

    weight * MMD^2, see `mmd_loss`. In the paper it stands on several layers, and the
    weights of the kernels are learned; here it stands on one, and they are equal.

    Args:
        layer: Name of the layer whose output are the features, `(batch, features)`.
        weight: Weight of the term, at least 0.

    Returns:
        A method for `phases.Phase`. Validation losses are those of the labels.

    Raises:
        InputError: A value below 0, an unknown layer, or one whose output is no vector.

    Reference:
        Long et al., "Learning transferable features with deep adaptation networks",
        2015, arXiv:1502.02791.
    """
    return _statistic(layer, weight, mmd_loss)


def mcc(*, weight: float = 1.0, temperature: float = 2.5) -> Method:
    """Make the answers for the target less confused: minimum class confusion.

    weight * the confusion of the target's logits, see `confusion_loss`.

    Args:
        weight: Weight of the term, at least 0.
        temperature: Divides the logits; greater than 0.

    Returns:
        A method for `phases.Phase`. Validation losses are those of the labels.

    Raises:
        InputError: A value out of range.

    Reference:
        Jin et al., "Minimum class confusion for versatile domain adaptation", 2020,
        arXiv:1912.03699.
    """
    errors.check_at_least("weight", weight, 0)
    errors.check_above("temperature", temperature, 0)

    def loss(batch):
        _, target = domains(batch)
        return weight * confusion_loss(batch.logits, target, temperature)

    return lambda model, steps: Term(loss, of_rows=False)


def reverse(x, strength):
    """Return `x` as it is, with its gradient multiplied by `-strength`.

    Args:
        x: Any tensor of floats.
        strength: Number, or scalar tensor, at least 0.
    """
    return ops.stop_gradient(x * (1 + strength)) - strength * x


def domains(batch):
    """Return which rows of a batch are of the source and which of the target.

    Args:
        batch: A `terms.Batch` whose labels are one-hot, or all 0 in the target.

    Returns:
        Two float32 tensors `(batch,)` of 0 and 1. Source rows of weight 0, which fill
        up a batch, are in neither.
    """
    labelled = ops.cast(ops.any(batch.labels != 0, axis=-1), "float32")
    source = labelled
    if batch.sample_weight is not None:
        weights = ops.reshape(batch.sample_weight, (-1,))
        source = labelled * ops.cast(weights != 0, "float32")
    return source, 1 - labelled


def domain_loss(logits, source, target):
    """Compute the loss of a classifier of domains: the mean of those of the domains.

    Args:
        logits: float32 `(batch,)`; above 0 where an example seems to be of the source.
        source: Weight of each row as one of the source, `(batch,)`, at least 0.
        target: The same for the target.

    Returns:
        float32 scalar, log 2 where all logits are 0.

    >>> ones = ops.ones(2)
    >>> round(float(domain_loss(ops.zeros(2), ones, ones)), 3)
    0.693
    """
    of_source = ops.sum(_shares(source) * ops.softplus(-logits))
    of_target = ops.sum(_shares(target) * ops.softplus(logits))
    return (of_source + of_target) / 2


def coral_loss(features, source, target):
    """Compute the distance of two covariance matrices, see `coral`.

    Args:
        features: float32 `(batch, d)`.
        source: 1 for rows of the source, 0 for others, `(batch,)`.
        target: The same for the target.

    >>> features = ops.array([[0.0], [2.0], [0.0], [0.0]])
    >>> rows = ops.array([1.0, 1.0, 0.0, 0.0])
    >>> float(coral_loss(features, rows, 1 - rows))  # (2 - 0)^2 / 4
    1.0
    """

    def covariance(rows):
        centred = features - ops.sum(features * _shares(rows)[:, None], axis=0)
        scattered = ops.matmul(ops.transpose(centred * rows[:, None]), centred)
        return scattered / ops.maximum(ops.sum(rows) - 1, 1.0)

    apart = covariance(source) - covariance(target)
    return ops.sum(ops.square(apart)) / (4 * features.shape[-1] ** 2)


def mmd_loss(features, source, target, scales=(0.125, 0.25, 0.5, 1.0, 2.0)):
    """Compute the squared maximum mean discrepancy of two domains in a batch.

    The sum over kernels k of mean k(s, s') + mean k(t, t') - 2 mean k(s, t), over all
    pairs of rows, each with itself too, so that it is never below 0. A kernel is
    exp(-d / (2 scale D)), where d is the squared distance of two rows, and D its mean
    over all pairs.

    Args:
        features: float32 `(batch, d)`.
        source: 1 for rows of the source, 0 for others, `(batch,)`.
        target: The same for the target.
        scales: Scale of each kernel, greater than 0.

    Returns:
        float32 scalar in [0, 2 * len(scales)].

    >>> rows = ops.array([1.0, 0.0])
    >>> features = ops.array([[0.0], [2.0]])
    >>> round(float(mmd_loss(features, rows, 1 - rows, [1.0])), 3)  # 2 - 2 exp(-1)
    1.264
    """
    shares = _shares(source) - _shares(target)
    lengths = ops.sum(ops.square(features), axis=-1)
    products = ops.matmul(features, ops.transpose(features))
    distances = lengths[:, None] + lengths[None, :] - 2 * products
    distances = ops.maximum(distances, 0.0)
    rows = _shares(source + target)
    mean = ops.sum(rows[:, None] * rows[None, :] * distances)
    mean = ops.maximum(ops.stop_gradient(mean), 1e-12)
    kernels = sum(ops.exp(-distances / (2 * scale * mean)) for scale in scales)
    return ops.sum(shares[:, None] * shares[None, :] * kernels)


def confusion_loss(logits, target, temperature=2.5):
    """Compute how much the answers for some rows confuse pairs of classes.

    From the probabilities Y, the softmax of logits / temperature, the matrix Y' W Y is
    computed and its rows are divided by their sums; the loss is the sum of what is off
    its diagonal, divided by the number of classes. W weighs a row by 1 + exp(-H), H the
    entropy of its answer, and passes no gradient on.

    Args:
        logits: `(batch, num_classes)`.
        target: 1 for rows of the target, 0 for others, `(batch,)`.
        temperature: Greater than 0.

    Returns:
        float32 scalar in [0, 1].

    >>> float(confusion_loss(ops.zeros((3, 2)), ops.ones(3)))
    0.5
    """
    answers = ops.softmax(ops.cast(logits, "float32") / temperature)
    weights = target * ops.stop_gradient(certainty(answers))
    confused = ops.matmul(ops.transpose(answers * _shares(weights)[:, None]), answers)
    sums = ops.maximum(ops.sum(confused, axis=1, keepdims=True), 1e-12)
    confused = confused / sums
    count = logits.shape[-1]
    return (ops.sum(confused) - ops.sum(ops.diagonal(confused))) / count


def certainty(answers):
    """Return 1 + exp(-H) of each row of probabilities, H its entropy in nats.

    >>> [round(float(one), 3) for one in certainty(ops.array([[1.0, 0], [0.5, 0.5]]))]
    [2.0, 1.5]
    """
    logarithms = ops.log(ops.maximum(answers, 1e-12))
    return 1 + ops.exp(ops.sum(answers * logarithms, axis=-1))


def _statistic(layer, weight, loss_of) -> Method:
    """Return a method whose term compares the features of the two domains."""
    errors.check_at_least("weight", weight, 0)

    def method(model, steps):
        splitting.check_vector(model, layer)

        def loss(batch):
            features = ops.cast(batch.outputs[layer], "float32")
            return weight * loss_of(features, *domains(batch))

        return Term(loss, layers=[layer], of_rows=False)

    return method


def _domain_classifier(width, hidden) -> keras.Model:
    """Build a classifier of domains from vectors to one logit, float32."""
    layers = [keras.layers.Dense(units, activation="relu") for units in hidden]
    last = keras.layers.Dense(1, dtype="float32")
    return keras.Sequential([keras.Input((width,)), *layers, last])


def _strength(batch, gamma):
    """Return the paper's strength of the reversal at this step, in [0, 1)."""
    return 2 / (1 + ops.exp(-gamma * batch.progress)) - 1


def _shares(weights):
    """Divide weights by their sum, where that is not 0."""
    return weights / ops.maximum(ops.sum(weights), 1e-12)
