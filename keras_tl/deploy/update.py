"""Update a finished run with more examples of its classes, or with new classes.

What a run has learned is easily lost: a model that trains on new examples alone answers
with the new classes. So an update is measured on the test examples of the old run,
class by class and pair by pair, and refused where it has made them worse.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field, replace

import keras
import numpy as np

from keras_tl.analysis import evaluation, probe
from keras_tl.analysis.evaluation import Comparison, Evaluation
from keras_tl.data import splits
from keras_tl.data.splits import Split, Splits
from keras_tl.deploy.update_data import Material
from keras_tl.methods import distillation, ewc
from keras_tl.models import freezing, heads
from keras_tl.training import optimizers, phases
from keras_tl.training.phases import History, Setup

# %% Training


@dataclass(frozen=True)
class Updated:
    """The model of an update, beside that of before.

    Attributes:
        model: The new model.
        before: Logits of the old model for the test examples, old ones first,
            `(count, old classes)`.
        after: Logits of the new one, `(count, classes)`.
        histories: Phase -> history.
    """

    model: keras.Model
    before: np.ndarray = field(repr=False)
    after: np.ndarray = field(repr=False)
    histories: dict[str, History] = field(repr=False)


def grow(
    model: keras.Model,
    material: Material,
    setup: Setup,
    method: str,
    *,
    blocks: int = 0,
    epochs: int = 30,
    learning_rate: float = 1e-3,
    until: float | None = None,
) -> Updated:
    """Train a model on, its head widened by the new classes.

    Args:
        model: The model of the old run, whose layers train.
        material: Old and new examples.
        setup: Settings of the phase.
        method: "rehearsal" trains on old and new examples, all classes weighted alike,
            so that the answers for the old classes stay (Rebuffi et al., "iCaRL", 2017,
            arXiv:1611.07725, with a linear head); "lwf" the same on the new ones
            alone, see `distillation.old_answers`; "ewc" on the new ones, so that
            weights that the old classes depend on stay, see `methods.ewc`; "naive" on
            the new ones.
        blocks: Blocks of the backbone that train, from the output back; 0 trains the
            head alone. They move at a tenth of the learning rate.
        epochs: Most epochs.
        learning_rate: Largest learning rate of the head.
        until: See `phases.Phase`.

    Raises:
        InputError: A model whose head cannot be widened, or blocks that it lacks.
    """
    data = material.joined()
    known = len(material.old.class_names)
    with setup.placement.scope():
        wider = heads.widen(model, len(data.class_names))
    freezing.unfreeze_blocks(wider, blocks)
    part, inputs = phases.precompute_frozen(wider, data, setup)
    # The wider head has the old logits, bit for bit.
    before = evaluation.predict(part, inputs.test)[:, :known]
    term, train, validation = None, inputs.train, inputs.validation
    if method != "rehearsal":
        train = _last(inputs.train, len(material.new["train"]))
        # What sees no old examples cannot choose by them.
        if len(material.new["validation"]):
            validation = _last(validation, len(material.new["validation"]))
    if method in ("rehearsal", "lwf"):
        targets = evaluation.predict(part, train)[:, :known]
        train, term = replace(train, targets=targets), distillation.old_answers()
    elif method == "ewc":
        first = inputs.train.take(np.arange(len(material.old.train)))
        information = ewc.fisher(part, first, known, seed=setup.seed)
        term = ewc.ewc(information)
    weights = None
    if method == "rehearsal":
        weights = splits.class_weights(train.labels, len(data.class_names))
    phase = phases.fine_tuning(
        epochs,
        learning_rate,
        optimizer=optimizers.slow_backbone(0.1) if blocks else keras.optimizers.Adam,
        method=term,
        patience=5,
        name="update",
        until=until,
    )
    history = phases.fit(
        part,
        replace(inputs, train=train, validation=validation),
        replace(setup, class_weights=weights),
        phase,
    )
    after = evaluation.predict(part, inputs.test)
    return Updated(wider, before, after, {"update": history})


def refit(
    model: keras.Model, backbone: keras.Model, material: Material, setup: Setup
) -> Updated:
    """Put a linear classifier on another backbone, fitted on its features.

    Args:
        model: The model of the old run, which it is compared with.
        backbone: A backbone for images of the same size.
        material: Old and new examples.
        setup: Settings of the placement, and where features are kept.
    """
    data = material.joined()
    better = heads.attach(backbone, len(data.class_names))
    freezing.unfreeze_head(better)
    part, inputs = phases.precompute_frozen(better, data, setup)
    probe.fit_head(better, inputs)
    before = evaluation.predict(model, data.test)
    return Updated(better, before, evaluation.predict(part, inputs.test), {})


def _last(split, count) -> Split:
    return split.take(np.arange(len(split) - count, len(split)))


# %% Comparison


@dataclass(frozen=True)
class Verdict:
    """Whether an update is accepted.

    Attributes:
        accepted: Whether it may be used in place of the old run.
        reason: Why, as a sentence without a capital letter.
    """

    accepted: bool
    reason: str


def decide(comparison: Comparison, margin: float, nouns: str = "examples") -> Verdict:
    """Decide whether an update is accepted, by what it does to the old test examples.

    It is rejected where the accuracy on them is significantly lower, at the 5 % level
    of the paired test, and by more than `margin`.

    Args:
        comparison: The update compared with the old run on the old test examples.
        margin: Loss of accuracy that is accepted for what is new, in [0, 1].
        nouns: Name of the examples, for people.

    >>> decide(Comparison(-0.2, (-0.3, -0.1), 20, 0, 1e-6), 0.02).accepted
    False
    >>> decide(Comparison(-0.01, (-0.02, 0.0), 3, 1, 0.6), 0.02).accepted
    True
    """
    text = (
        f"accuracy on the old test {nouns} {comparison.in_points()}, "
        f"{comparison.verdict}; a loss is accepted up to {100 * margin:g} points, or "
        "where chance could explain it"
    )
    worse = comparison.p_value < 0.05 and comparison.difference < -margin
    return Verdict(not worse, text)


def compare(
    labels: np.ndarray, before: np.ndarray, after: np.ndarray, names: Sequence[str]
) -> Comparison:
    """Compare an update with the old run on examples of the old classes, in pairs.

    Args:
        labels: Their classes.
        before: Logits of the old run `(count, old classes)`.
        after: Logits of the update `(count, classes)`; an answer with a new class is
            wrong.
        names: All classes.
    """
    old = evaluation.evaluate(labels, before, names[: before.shape[1]])
    return evaluation.compare(old, evaluation.evaluate(labels, after, names))


def by_class(
    labels: np.ndarray, before: np.ndarray, after: np.ndarray, names: Sequence[str]
) -> list[dict]:
    """Compare an update with the old run class by class, what got worse first.

    Args:
        labels: Classes of the test examples.
        before: See `compare`.
        after: See `compare`.
        names: All classes, the old ones first.

    Returns:
        Rows with `class`, `examples`, `before`, `after`, and of the old classes
        `difference`, `low` and `high`, its 95 % interval, and `p_value`. Of a new class
        `before` is `None`, and the interval that of `after`.
    """
    rows = []
    for number in np.unique(labels):
        chosen = labels == number
        row = {"class": names[number], "examples": int(chosen.sum())}
        right = after[chosen].argmax(1) == number
        if number < before.shape[1]:
            compared = compare(labels[chosen], before[chosen], after[chosen], names)
            row |= {
                "before": float((before[chosen].argmax(1) == number).mean()),
                "after": float(right.mean()),
                "difference": compared.difference,
                "low": compared.interval[0],
                "high": compared.interval[1],
                "p_value": compared.p_value,
            }
        else:
            low, high = evaluation.wilson_interval(int(right.sum()), len(right))
            row |= {"before": None, "after": float(right.mean()), "difference": None}
            row |= {"low": low, "high": high, "p_value": None}
        rows.append(row)
    return sorted(
        rows, key=lambda r: (r["difference"] is None, r["difference"] or 0, r["class"])
    )


def evaluations(
    updated: Updated, labels: np.ndarray, data: Splits
) -> dict[str, Evaluation]:
    """Evaluate both models on all test examples, for the report of the new run.

    The old run never answers with a new class.
    """
    missing = len(data.class_names) - updated.before.shape[1]
    lowest = updated.before.min(axis=1, keepdims=True) - 1
    padded = np.hstack([updated.before, np.repeat(lowest, missing, axis=1)])
    return {
        name: evaluation.evaluate(
            labels, logits, data.class_names, train_labels=data.train.labels
        )
        for name, logits in (
            ("before the update", padded),
            ("updated", updated.after),
        )
    }
