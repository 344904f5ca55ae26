"""Old and new examples of an update, without what would falsify its measurement.

What differs by the kind of the examples is how they are prepared, see `run_data`, and
when two are nearly the same, see `_alike`.
"""

import functools
import warnings
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from types import SimpleNamespace

import numpy as np

from keras_tl import config, errors, files
from keras_tl.analysis import records
from keras_tl.data import assembly, datasets, duplicates, images, splits, text
from keras_tl.data.sources import NOUNS, Source
from keras_tl.data.splits import Split, Splits
from keras_tl.deploy import artifact, exemplars, run_data
from keras_tl.deploy.artifact import Artifact

# Different examples that a new class needs: to learn from, to choose the epoch by, and
# to measure with.
FEWEST = 3
# Correlation of waves from which on one clip is a copy of another: compressed ones are
# above it, words that a speaker says again below.
_SAME = 0.9
# Bands of frequencies by which pairs are told that can be copies at all.
_BANDS = 1024


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
    """Old and new examples, with the classes of both.

    Attributes:
        old: Splits of the old classes.
        new: Name of the split -> new examples, which may be none.
        class_names: The old classes, in their order, and then the new ones.
        notes: What was left out, as sentences.
    """

    old: Splits = field(repr=False)
    new: Mapping[str, Split] = field(repr=False)
    class_names: tuple[str, ...]
    notes: tuple[str, ...] = ()

    @property
    def nouns(self) -> str:
        """Name of the examples, for people."""
        return NOUNS[self.old.train.inputs.kind]

    @property
    def new_classes(self) -> tuple[str, ...]:
        """The classes that the run did not know."""
        return self.class_names[len(self.old.class_names) :]

    def joined(self) -> Splits:
        """Return old and new examples together, the old ones first."""
        origin = f"{self.old.origin} And new ones: {splits.counts(self.new)}."
        return Splits(
            **{n: splits.join(s, self.new[n]) for n, s in self.old.items()},
            class_names=self.class_names,
            origin=" ".join([origin, *self.notes]),
            task="single-label",
        )


def check_updatable(model: Artifact) -> None:
    """Raise `InputError` for a run that cannot be updated."""
    if model.activation != "softmax":
        raise errors.expected(
            "run",
            "be of a classifier with one class for each example",
            str(model.folder),
            f"Its answers are {model.activation!r}. Train a new run on all data.",
        )
    if model.kind == "image" and model.image_size is None:
        raise errors.expected(
            "run", "be of a model that takes images of one size", str(model.folder)
        )


def old_data(model: Artifact, of_each: int, *, seed: int = 0) -> Old:
    """Load the data of a run again; where they are gone, what it has kept of them.

    Args:
        model: The run.
        of_each: Most training examples of each class.
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
    some = replace(loaded, train=loaded.train.take(kept))
    return Old(some.map(splits.read_once), source)


def data_of(model: Artifact) -> Splits:
    """Load the data of a run again: of an update those of the old run, and the new.

    Raises:
        InputError: They are not where they were, or are others now.
    """
    if "updated_from" not in model.manifest:
        return run_data.load(model)
    settings = SimpleNamespace(**_saved(model.folder))
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
    """Load old and new examples, as the settings of an update name them.

    Args:
        old_run: The run that is updated.
        settings: Those of `keras-tl update`.

    Returns:
        The examples, and where the old ones come from.

    Raises:
        InputError: See `old_data`, `new_data` and `material`.
    """
    options, groups = datasets.options_of(settings), settings.groups
    inherited = groups_of(old_run.folder) if groups is None else None
    class_names, new = new_data(settings.data, old_run, options, groups=inherited)
    if settings.limit is not None:
        new = {
            name: split.take(
                splits.balanced(split.labels, settings.limit, settings.seed)
            )
            for name, split in new.items()
        }
    old = old_data(old_run, settings.exemplars, seed=settings.seed)
    folders = [
        Path(one) for one in (_saved(old_run.folder).get("data"), settings.data) if one
    ]
    new = with_old_groups(old.splits, new, groups or inherited, folders)
    return material(old.splits, class_names, new), old.source


def groups_of(run: Path) -> str | None:
    """Return the regular expression by which a run names its groups, if it has one.

    That of an update is that of the run before. A column of a table is none: other data
    need not have it.
    """
    saved = _saved(run)
    groups = saved.get("groups")
    if groups is not None:
        return None if assembly.is_column(groups) else groups
    return groups_of(Path(saved["run"])) if saved.get("run") else None


def _saved(run: Path) -> dict:
    """Return the settings of a run, under the names that they have now."""
    path = run / "config.json"
    saved = files.read_json(path) if path.is_file() else {}
    return config.current(saved) if isinstance(saved, dict) else {}


def with_old_groups(
    old: Splits,
    new: Mapping[str, Split],
    groups: str | None,
    folders: Sequence[Path],
) -> dict[str, Split]:
    """Move new examples of groups that the run knows into the split of these.

    Otherwise a model could learn from a speaker, or a patient, that tests it.

    Args:
        old: The splits of the run.
        new: Name of the split -> new examples.
        groups: Regular expression that names the group of a file, see
            `assembly.Options`; `None` where nothing belongs together, and the column of
            a table changes nothing.
        folders: Those of the data, below which groups have their names.
    """
    if groups is None or assembly.is_column(groups):
        return dict(new)
    known = {
        group: name
        for name, split in old.items()
        for group in _groups(split, groups, folders)
        if group is not None
    }
    if not known:
        errors.warn(
            "Which groups the run has learned from is not known any more: new examples "
            "of one that tests it may train."
        )
    moved = {
        name: np.array(
            [known.get(group, name) for group in _groups(split, groups, folders)],
            "U10",
        )
        for name, split in new.items()
    }
    together = {}
    for name in new:
        parts = [new[one].take(np.flatnonzero(moved[one] == name)) for one in new]
        together[name] = functools.reduce(splits.join, parts)
    return together


def _groups(split, groups, folders) -> list[str | None]:
    """Return the group that the path of each example names, if it has one."""
    names = split.inputs.names(range(len(split))) or [""] * len(split)
    named = []
    for path in map(Path, names):
        inside = [one for one in folders if path.is_relative_to(one)]
        below = assembly.short(path, inside[0]) if inside else path.name
        named.append(assembly.search("groups", groups, below))
    return named


def new_data(
    data: str, model: Artifact, options: Mapping, *, groups: str | None = None
) -> tuple[tuple[str, ...], dict[str, Split]]:
    """Load new examples, as a run's model takes them.

    Args:
        data: Folder, table or name of a dataset, see `datasets.load`.
        model: The run; the numbers of its classes stay.
        options: Arguments of `datasets.load`.
        groups: See `assembly.grouped`, for files that may have no group.

    Returns:
        All classes, those of the run first; and the splits. Of a known class with too
        few examples to draw from, all train.

    Raises:
        InputError: Data that cannot be used, examples of another kind, a class whose
            name is that of another but for capitals and spaces, or a new class with too
            few examples.
    """
    if options.get("kind") not in (None, model.kind):
        raise errors.expected(
            "kind", f"be {model.kind}, as the run has", options["kind"]
        )
    options = {**options, **run_data.options(model)}
    columns = options.pop("columns", None)
    of_kind = {n: options.pop(n) for n in ("kind", "rate", "seconds") if n in options}
    chosen = assembly.Options(**options)
    content = datasets.read(data, columns, chosen, datasets.choices_of(**of_kind))
    if content is None:
        loaded = datasets.load(data, columns=columns, **of_kind, **options)
        _check_single(data, loaded.task)
        if loaded.train.inputs.kind != model.kind:
            nouns = NOUNS[model.kind]
            raise errors.expected("data", f"hold {nouns}, as the run takes", str(data))
        class_names = _all_classes(data, model, loaded.class_names)
        numbers = np.array([class_names.index(n) for n in loaded.class_names], "int32")
        parts = {
            name: replace(split, labels=numbers[split.labels])
            for name, split in loaded.items()
        }
    else:
        _check_single(data, content.task)
        if groups is not None:
            content = assembly.grouped(content, groups)
        class_names = _all_classes(data, model, {file.label for file in content.files})
        different = Counter(
            {file.checked.hash: file.label for file in content.files}.values()
        )
        few = {name for name, count in different.items() if count < FEWEST}
        given = {file.split for file in content.files} - {"train"}
        for name in class_names[len(model.class_names) :] if not given else ():
            _check_enough(data, name, different[name], content.kind)
        known = few & set(model.class_names)
        parts = assembly.parts(content, class_names, chosen, undivided=known)
    prepared = {
        name: splits.read_once(run_data.prepare(model, part))
        for name, part in parts.items()
    }
    return class_names, prepared


def _check_single(data, task):
    if task != "single-label":
        raise errors.expected(
            "data",
            "have one class for each example, as the run has",
            f"{data} ({task})",
        )


def _check_enough(data, name, count, kind):
    if count < FEWEST:
        raise errors.InputError(
            f"The new class {name!r} has "
            f"{errors.counted(count, f'different {kind.noun}')} in {data}. It needs at "
            f"least {FEWEST}: to learn from, to choose the epoch by, and to measure "
            "with."
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
    """Put old and new examples together, without what would falsify the measurement.

    New examples that are nearly the same as old test examples do not train, and new
    test examples that are nearly the same as old training examples do not measure. An
    old training example with another label in the new ones is left out: the new label
    counts.

    Args:
        old: The old splits, as the model takes them.
        class_names: All classes, those of `old` first.
        new: The new splits, numbered by `class_names`.

    Raises:
        InputError: Nothing new is left to train on, or too little of a new class.
    """
    together = Material(old, new, tuple(class_names))
    joined, nouns = together.joined(), together.nouns
    hashes, near = _alike(joined)
    numbers = duplicates.blocks(hashes, pairs=near.tolist())
    counts = {name: (len(split), len(new[name])) for name, split in old.items()}
    is_new = np.concatenate([np.repeat([False, True], c) for c in counts.values()])
    split_of = np.repeat(list(counts), [sum(pair) for pair in counts.values()])
    of_test, trains = split_of == "test", split_of == "train"
    labels = np.concatenate([part.labels for _, part in joined.items()])

    def also(chosen, others):
        return chosen & np.isin(numbers, numbers[others])

    old_test, old_rest = ~is_new & of_test, ~is_new & ~of_test
    leaks = also(is_new & ~of_test, old_test)
    known = also(is_new & of_test, old_rest) & ~also(is_new & of_test, old_test)
    # The same example with the same label, which the run has learned or is tested by.
    pairs = list(zip(hashes, labels.tolist(), strict=True))
    had = {pairs[index] for index in np.flatnonzero(~is_new)}
    again = is_new & [pair in had for pair in pairs] & ~leaks & ~known
    relabelled = np.zeros(len(labels), bool)
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
            (leaks, f"of the new {nouns}, nearly the same as old test {nouns}"),
            (
                known,
                f"of the new test {nouns}, nearly the same as old training {nouns}",
            ),
            (again, f"of the new {nouns}, which the run has with the same label"),
            (relabelled, f"of the old training {nouns}, which have another label now"),
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


def _alike(data: Splits) -> tuple[list[bytes], np.ndarray]:
    """Return which examples are the same, and which are nearly the same, to a model.

    Returns:
        A hash of each, and pairs of indices, int64 `(pairs, 2)`.
    """
    parts = [part.inputs for _, part in data.items()]
    none = np.empty((0, 2), "int64")
    if data.train.inputs.kind == "image":
        seen = records.of_splits(data)
        return list(seen.pixels), seen.near
    if data.train.inputs.kind == "audio":
        sounds = [sound for part in parts for sound in _heard(part)]
        return [images.hash_pixels(sound) for sound in sounds], _same_sounds(sounds)
    # Equal texts, not texts of equal tokens.
    return [one for part in parts for one in text.as_written(part).hashes()], none


def _heard(clips: Source) -> Iterator[np.ndarray]:
    """Yield clips at the rate and length of the model, as exemplars hold them."""
    for start in range(0, len(clips), 256):
        rows = range(start, min(start + 256, len(clips)))
        yield from exemplars.steps(clips.read(rows))


def _same_sounds(sounds) -> np.ndarray:
    """Return the pairs of clips whose waves correlate, shifted or not.

    What two clips have in common in each band of frequencies is at least that: only
    pairs that have much in common there are correlated.
    """
    bands = np.stack([_bands(sound) for sound in sounds])
    pairs = []
    for start in range(0, len(bands), 512):
        rows, others = np.nonzero(bands[start : start + 512] @ bands.T > _SAME)
        rows += start
        pairs += zip(rows[rows < others], others[rows < others], strict=True)
    same = [pair for pair in pairs if _correlation(*(sounds[n] for n in pair)) > _SAME]
    return np.array(same, "int64").reshape(-1, 2)


def _bands(sound) -> np.ndarray:
    """Return the root of a clip's energy in each of many bands, of length 1."""
    energy = np.abs(_spectrum(sound)) ** 2
    starts = np.linspace(0, len(energy), min(_BANDS, len(energy)), endpoint=False)
    roots = np.sqrt(np.add.reduceat(energy, starts.astype("int64")))
    return (roots / max(np.linalg.norm(roots), 1e-9)).astype("float32")


def _correlation(first, second) -> float:
    """Return the largest correlation of two clips over all shifts, in [0, 1]."""
    spectra = _spectrum(first), _spectrum(second)
    products = np.fft.irfft(spectra[0] * spectra[1].conj())
    scale = np.linalg.norm(first / 2**15) * np.linalg.norm(second / 2**15)
    return float(np.abs(products).max() / max(scale, 1e-9))


def _spectrum(sound) -> np.ndarray:
    # As much silence behind it keeps one end from the other.
    return np.fft.rfft(sound / 2**15, 2 * len(sound))


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
            f"There are no new {material.nouns} to train on. {left_out}".strip()
        )
    for number, name in enumerate(material.old.class_names):
        if not (material.old.train.labels == number).any():
            raise errors.InputError(
                f"No old training {material.nouns} of {name!r} are left: all have "
                f"another label in the new ones. {left_out}".strip()
            )
    for number in range(len(material.old.class_names), len(material.class_names)):
        for name, split in material.new.items():
            if not (split.labels == number).any():
                raise errors.InputError(
                    f"The new class {material.class_names[number]!r} has no {name} "
                    f"{material.nouns}. It needs some in each split. "
                    f"{left_out}".strip()
                )
