"""Update a finished run with more images of its classes, or with new classes.

What a run has learned is easily lost: a model that trains on new images alone answers
with the new classes. So an update is measured on the test images of the old run, class
by class and pair by pair, and refused where it has made them worse.
"""

import warnings
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from types import SimpleNamespace

import keras
import numpy as np

from keras_tl import config, errors, files
from keras_tl.analysis import evaluation, probe, records
from keras_tl.analysis.evaluation import Comparison, Evaluation
from keras_tl.data import assembly, datasets, duplicates, splits
from keras_tl.data.splits import Split, Splits
from keras_tl.deploy import artifact, exemplars, run_data
from keras_tl.deploy.artifact import Artifact
from keras_tl.methods import distillation, ewc
from keras_tl.models import freezing, heads
from keras_tl.training import optimizers, phases
from keras_tl.training.phases import History, Setup

# Different images that a new class needs: to learn from, to choose the epoch by, and to
# measure with.
FEWEST = 3


# %% Data


@dataclass(frozen=True)
class Old:
    """What is at hand of the data of a run.

    Attributes:
        splits: Its splits, or what it has kept of them.
        source: Where they come from, as the rest of a sentence.
    """

    splits: Splits
    source: str


@dataclass(frozen=True)
class Material:
    """Old and new images, with the classes of both.

    Attributes:
        old: Splits of the old classes.
        new: Name of the split -> new images, which may be none.
        class_names: The old classes, in their order, and then the new ones.
        notes: What was left out, as sentences.
    """

    old: Splits = field(repr=False)
    new: Mapping[str, Split] = field(repr=False)
    class_names: tuple[str, ...]
    notes: tuple[str, ...] = ()

    @property
    def new_classes(self) -> tuple[str, ...]:
        """The classes that the run did not know."""
        return self.class_names[len(self.old.class_names) :]

    def joined(self) -> Splits:
        """Return old and new images together, the old ones first."""
        origin = f"{self.old.origin} And new ones: {splits.counts(self.new)}."
        return Splits(
            **{n: splits.join(s, self.new[n]) for n, s in self.old.items()},
            class_names=self.class_names,
            origin=" ".join([origin, *self.notes]),
            task="single-label",
        )


def check_updatable(model: Artifact) -> None:
    """Raise `InputError` for a run that cannot be updated."""
    if model.kind != "image" or model.activation != "softmax":
        raise errors.expected(
            "run",
            "be of a classifier of images, one class for each",
            str(model.folder),
            f"Its examples are of the kind {model.kind!r}, its answers "
            f"{model.activation!r}. Train a new run on all data.",
        )
    if model.image_size is None:
        raise errors.expected(
            "run", "be of a model that takes images of one size", str(model.folder)
        )


def old_data(model: Artifact, of_each: int, *, seed: int = 0) -> Old:
    """Load the data of a run again; where they are gone, what it has kept of them.

    Args:
        model: The run.
        of_each: Most training images of each class.
        seed: Seed of the drawing of these.

    Raises:
        InputError: Neither is there: nothing could be said of the old classes.
    """
    source = "the data of the run, loaded again"
    try:
        loaded = data_of(model)
    except errors.InputError as error:
        loaded = exemplars.of_run(model)
        source = f"{exemplars.FILE} of the run, since {str(error).rstrip('.')}"
    if loaded is None:
        raise errors.InputError(
            f"{model.folder} cannot be updated: its data are not there any more, or "
            f"have changed, and it keeps no {exemplars.FILE} of them. So nothing could "
            "be said of the classes that it knows. Train a new run on all data."
        )
    kept = splits.of_each(loaded.train.labels, of_each, seed=seed)
    sized = replace(loaded, train=loaded.train.take(kept)).at_size(
        model.image_size, model.resize
    )
    return Old(sized.map(splits.read_once), source)


def data_of(model: Artifact) -> Splits:
    """Load the data of a run again: of an update those of the old run, and the new.

    Raises:
        InputError: They are not where they were, or are others now.
    """
    if "updated_from" not in model.manifest:
        return run_data.load(model)
    settings = files.read_json(model.folder / "config.json")
    settings = SimpleNamespace(**config.current(settings))
    with warnings.catch_warnings():
        # The update has warned of what is odd about them.
        warnings.simplefilter("ignore", errors.InputWarning)
        together, _ = load(artifact.load(settings.run), settings)
        data = together.joined()
    if splits.describe(data)["sha256"] != model.manifest["data"]["sha256"]:
        raise errors.InputError(
            f"the data that {model.folder / 'config.json'} names, and those of "
            f"{settings.run}, are not those that the run was trained on"
        )
    return data


def load(old_run: Artifact, settings: object) -> tuple[Material, str]:
    """Load old and new images, as the settings of an update name them.

    Args:
        old_run: The run that is updated.
        settings: Those of `keras-tl update`.

    Returns:
        The images, and where the old ones come from.

    Raises:
        InputError: See `old_data`, `new_data` and `material`.
    """
    options = datasets.options_of(settings, kind="image")
    class_names, new = new_data(settings.data, old_run, options)
    if settings.limit is not None:
        new = {
            name: split.take(
                splits.balanced(split.labels, settings.limit, settings.seed)
            )
            for name, split in new.items()
        }
    old = old_data(old_run, settings.exemplars, seed=settings.seed)
    return material(old.splits, class_names, new), old.source


def new_data(
    data: str, model: Artifact, options: Mapping
) -> tuple[tuple[str, ...], dict[str, Split]]:
    """Load new images, as squares of the size that a run's model takes.

    Args:
        data: Folder, table or name of a dataset, see `datasets.load`.
        model: The run; the numbers of its classes stay.
        options: Arguments of `datasets.load`.

    Returns:
        All classes, those of the run first; and the splits. Of a known class with too
        few images to draw from, all train.

    Raises:
        InputError: Data that cannot be used, a class whose name is that of another but
            for capitals and spaces, or a new class with too few images.
    """
    options = {**options, "image_size": model.image_size, "resize": model.resize}
    columns, kind = options.pop("columns", None), options.pop("kind", "image")
    chosen = assembly.Options(**options)
    content = datasets.read(data, columns, chosen, datasets.choices_of(kind))
    if content is None:
        loaded = datasets.load(data, columns=columns, kind=kind, **options)
        _check_single(data, loaded.task)
        class_names = _all_classes(data, model, loaded.class_names)
        numbers = np.array([class_names.index(n) for n in loaded.class_names], "int32")
        parts = {
            name: replace(split, labels=numbers[split.labels])
            for name, split in loaded.items()
        }
    else:
        _check_single(data, content.task)
        class_names = _all_classes(data, model, {file.label for file in content.files})
        different = Counter(
            {file.checked.hash: file.label for file in content.files}.values()
        )
        few = {name for name, count in different.items() if count < FEWEST}
        given = {file.split for file in content.files} - {"train"}
        for name in class_names[len(model.class_names) :] if not given else ():
            _check_enough(data, name, different[name])
        known = few & set(model.class_names)
        parts = assembly.parts(content, class_names, chosen, undivided=known)
    sized = {
        name: splits.read_once(split.at_size(model.image_size, model.resize))
        for name, split in parts.items()
    }
    return class_names, sized


def _check_single(data, task):
    if task != "single-label":
        raise errors.expected(
            "data", "have one class for each image, as the run has", f"{data} ({task})"
        )


def _check_enough(data, name, count):
    if count < FEWEST:
        raise errors.InputError(
            f"The new class {name!r} has "
            f"{errors.counted(count, 'different image', 'different images')} in "
            f"{data}. It needs at least {FEWEST}: to learn from, to choose the epoch "
            "by, and to measure with."
        )


def _all_classes(data, model, names) -> tuple[str, ...]:
    """Return the classes of a run, and behind them the new ones of some data."""
    known = {_spelled(name): name for name in model.class_names}
    new = sorted(set(names) - set(model.class_names))
    for name in new:
        near = known.get(_spelled(name))
        if near is not None:
            raise errors.InputError(
                f"{data} has the class {name!r}, {model.folder} has {near!r}. Is it "
                f"the same? Then rename it to {near!r}; otherwise give it a name that "
                "differs by more than capitals, spaces and hyphens."
            )
    return (*model.class_names, *new)


def _spelled(name) -> str:
    return "".join(c for c in name.casefold() if not c.isspace() and c not in "-_")


def material(
    old: Splits, class_names: Sequence[str], new: Mapping[str, Split]
) -> Material:
    """Put old and new images together, without what would falsify the measurement.

    New images that are nearly the same as old test images do not train, and new test
    images that are nearly the same as old training images do not measure. An old
    training image with another label in the new ones is left out: the new label counts.

    Args:
        old: The old splits, at the size of the model.
        class_names: All classes, those of `old` first.
        new: The new splits, numbered by `class_names`.

    Raises:
        InputError: Nothing new is left to train on, or too little of a new class.
    """
    together = Material(old, new, tuple(class_names))
    seen = records.of_splits(together.joined())
    numbers = duplicates.blocks(list(seen.pixels), pairs=seen.near.tolist())
    counts = {name: (len(split), len(new[name])) for name, split in old.items()}
    is_new = np.concatenate([np.repeat([False, True], c) for c in counts.values()])
    of_test = seen.splits == "test"
    labels = np.array([str(label) for label in seen.labels])

    def also(chosen, others):
        return chosen & np.isin(numbers, numbers[others])

    old_test, old_rest = ~is_new & of_test, ~is_new & ~of_test
    leaks = also(is_new & ~of_test, old_test)
    known = also(is_new & of_test, old_rest) & ~also(is_new & of_test, old_test)
    # The same image with the same label, which the run has learned or is tested by.
    pairs = list(zip(seen.pixels, labels, strict=True))
    had = {pairs[index] for index in np.flatnonzero(~is_new)}
    again = is_new & [pair in had for pair in pairs] & ~leaks & ~known
    relabelled = np.zeros(len(seen), bool)
    trains = seen.splits == "train"
    for index in np.flatnonzero(also(~is_new & trains, is_new & trains & ~leaks)):
        same = is_new & trains & ~leaks & (numbers == numbers[index])
        relabelled[index] = (labels[same] != labels[index]).any()
    dropped = leaks | known | again | relabelled
    kept = {}
    start = 0
    for name, (first, second) in counts.items():
        keeps = ~dropped[start : start + first + second]
        kept[name] = np.flatnonzero(keeps[:first]), np.flatnonzero(keeps[first:])
        start += first + second
    names = [
        name
        for key, split in old.items()
        for side, one in (("old", split), ("new", new[key]))
        for name in _names(f"{side} {key}", one)
    ]
    notes = [
        _note([names[index] for index in np.flatnonzero(chosen)], text)
        for chosen, text in (
            (leaks, "of the new images, nearly the same as old test images"),
            (known, "of the new test images, nearly the same as old training images"),
            (again, "of the new images, which the run has with the same label"),
            (relabelled, "of the old training images, which have another label now"),
        )
        if chosen.any()
    ]
    result = Material(
        replace(old, **{name: s.take(kept[name][0]) for name, s in old.items()}),
        {name: new[name].take(kept[name][1]) for name in counts},
        tuple(class_names),
        tuple(notes),
    )
    _check_left(result)
    return result


def _names(side, split) -> list[str]:
    names = split.inputs.names(range(len(split)))
    return names or [f"{side}[{index}]" for index in range(len(split))]


def _note(names, text) -> str:
    more = f" and {len(names) - 3:,} more" if len(names) > 3 else ""
    return f"Left out: {len(names):,} {text} ({', '.join(names[:3])}{more})."


def _check_left(material):
    left_out = " ".join(material.notes)
    if not len(material.new["train"]):
        raise errors.InputError(
            f"There are no new images to train on. {left_out}".strip()
        )
    for number, name in enumerate(material.old.class_names):
        if not (material.old.train.labels == number).any():
            raise errors.InputError(
                f"No training image of {name!r} is left: all have another label in the "
                f"new images. {left_out}".strip()
            )
    for number in range(len(material.old.class_names), len(material.class_names)):
        for name, split in material.new.items():
            if not (split.labels == number).any():
                raise errors.InputError(
                    f"The new class {material.class_names[number]!r} has no {name} "
                    f"images. It needs some in each split. {left_out}".strip()
                )


# %% Training


@dataclass(frozen=True)
class Updated:
    """The model of an update, beside that of before.

    Attributes:
        model: The new model.
        before: Logits of the old model for the test images, old ones first,
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
        material: Old and new images.
        setup: Settings of the phase.
        method: "rehearsal" trains on old and new images, all classes weighted alike,
            so that the answers for the old classes stay (Rebuffi et al., "iCaRL", 2017,
            arXiv:1611.07725, with a linear head); "lwf" the same on the new images
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
    wider = heads.widen(model, len(data.class_names))
    freezing.unfreeze_blocks(wider, blocks)
    part, inputs = phases.precompute_frozen(wider, data, setup)
    # The wider head has the old logits, bit for bit.
    before = evaluation.predict(part, inputs.test)[:, :known]
    term, train, validation = None, inputs.train, inputs.validation
    if method != "rehearsal":
        train = _last(inputs.train, len(material.new["train"]))
        # What sees no old images cannot choose by them.
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
        material: Old and new images.
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


def decide(comparison: Comparison, margin: float) -> Verdict:
    """Decide whether an update is accepted, by what it does to the old test images.

    It is rejected where the accuracy on them is significantly lower, at the 5 % level
    of the paired test, and by more than `margin`.

    Args:
        comparison: The update compared with the old run on the old test images.
        margin: Loss of accuracy that is accepted for what is new, in [0, 1].

    >>> decide(Comparison(-0.2, (-0.3, -0.1), 20, 0, 1e-6), 0.02).accepted
    False
    >>> decide(Comparison(-0.01, (-0.02, 0.0), 3, 1, 0.6), 0.02).accepted
    True
    """
    low, high = comparison.interval
    text = (
        f"accuracy on the old test images {100 * comparison.difference:+.1f} points "
        f"(95 % interval {100 * low:+.1f} to {100 * high:+.1f}), "
        f"{comparison.verdict}; a loss is accepted up to {100 * margin:g} points, or "
        "where chance could explain it"
    )
    worse = comparison.p_value < 0.05 and comparison.difference < -margin
    return Verdict(not worse, text)


def compare(
    labels: np.ndarray, before: np.ndarray, after: np.ndarray, names: Sequence[str]
) -> Comparison:
    """Compare an update with the old run on images of the old classes, pair by pair.

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
        labels: Classes of the test images.
        before: See `compare`.
        after: See `compare`.
        names: All classes, the old ones first.

    Returns:
        Rows with `class`, `images`, `before`, `after`, and of the old classes
        `difference`, `low` and `high`, its 95 % interval, and `p_value`. Of a new class
        `before` is `None`, and the interval that of `after`.
    """
    rows = []
    for number in np.unique(labels):
        chosen = labels == number
        row = {"class": names[number], "images": int(chosen.sum())}
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
    """Evaluate both models on all test images, for the report of the new run.

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
