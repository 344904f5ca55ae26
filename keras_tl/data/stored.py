"""Datasets that other libraries store, of images, texts or sound, as three splits."""

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np

from keras_tl import errors
from keras_tl.data import audio, drawing, text
from keras_tl.data.choices import BadFiles, FileKind
from keras_tl.data.sources import NOUNS
from keras_tl.data.splits import Split, Splits
from keras_tl.data.waves import RATE

# Names of features that are taken before others.
USUAL = ("image", "audio", "text", "sentence")


@dataclass(frozen=True)
class Reading:
    """How the examples of a stored dataset are read.

    Attributes:
        kind: Kind of the examples; `None` takes what there is.
        rate: Samples a second of sound, see `audio.files`.
        seconds: Length of clips of sound, see `audio.files`.
        bad_files: "error" raises for an example that cannot be used, "skip" leaves it
            out: an empty text, a clip that is silent.
        validation: Share of the training examples drawn for validation, in (0, 1).
        seed: Seed of the drawing.
    """

    kind: FileKind | None = None
    rate: int = RATE
    seconds: float | None = None
    bad_files: BadFiles = "error"
    validation: float = 0.15
    seed: int = 0


def choose(
    dataset: str,
    kinds: Mapping[str, FileKind],
    wanted: str | None,
    usual: Sequence[str] = USUAL,
    kind: FileKind | None = None,
) -> str:
    """Choose the feature that holds the examples.

    Args:
        dataset: Name of the dataset, for people.
        kinds: Name of each feature that holds images, texts or sound -> its kind.
        wanted: Its name; `None` is the first of `usual`, or the only one.
        usual: Names to look for.
        kind: Kind that it must have; `None` is any.

    Raises:
        InputError: There is no such feature, or there are several.

    >>> choose("tiny", {"title": "text", "text": "text"}, None)
    'text'
    """
    nouns = NOUNS[kind] if kind else "images, texts or clips"
    of_kind = [name for name in kinds if kind in (None, kinds[name])]
    listed = f"Those that hold {nouns}: {', '.join(of_kind) or 'none'}."
    if wanted is not None:
        if wanted not in of_kind:
            expectation = f"be a feature of {dataset} that holds {nouns}"
            raise errors.expected("input_column", expectation, wanted, listed)
        return wanted
    chosen = [name for name in usual if name in of_kind][:1] or of_kind
    if len(chosen) != 1:
        hint = f"{listed} Name one: `input_column` (on the command line: "
        raise errors.expected(
            "dataset",
            f"have one feature of {nouns}, and one of the class",
            dataset,
            f"{hint}--input-column)." if of_kind else listed,
        )
    return chosen[0]


def make(
    name: str,
    kind: FileKind,
    given: Collection[str],
    read: Callable[[str], tuple[Sequence, np.ndarray]],
    class_names: Sequence[str],
    reading: Reading,
) -> Splits:
    """Make three splits of the examples of a stored dataset.

    Its test split is the test split; where there is none, or none with labels, its
    validation split; else a part is drawn from train. Validation is drawn from train.

    Args:
        name: What the dataset is called, for people.
        kind: Kind of the examples.
        given: Names of its splits: "train", and maybe "test" or "validation".
        read: Returns examples and labels of a split, the number of the class of each,
            -1 where it is not known. Examples are images as `Split` takes them,
            strings, or contents of files of sound.
        class_names: Names of the classes.
        reading: See `Reading`.

    Raises:
        InputError: There is no training split, an example that cannot be used, or too
            few examples of a class.
    """
    if "train" not in given:
        raise errors.expected("data", "have a split called train", list(given))
    parts, official = {"train": read("train")}, None
    for split in ("test", "validation"):
        if split in given and official is None:
            part = read(split)
            # The labels of a competition's test stay with those who hold it.
            if len(part[1]) and min(part[1]) >= 0:
                parts[split], official = part, split
    examples, about = _examples(
        kind, {split: examples for split, (examples, _) in parts.items()}, reading
    )
    made = {
        split: Split(inputs, parts[split][1][used])
        for split, (inputs, used) in examples.items()
    }
    splits = drawing.complete(
        made["train"],
        made.get(official),
        class_names,
        reading.validation,
        0.15,
        reading.seed,
    )
    test = f"test is its official {official} split, " if official else ""
    origin = f"{name}: {test}{splits.origin}{f' {about}' if about else ''}"
    return replace(splits, origin=origin)


def _examples(kind, parts, reading):
    """Return source and used indices of each part, and what is said of all."""
    if kind == "audio":
        rate, seconds = reading.rate, reading.seconds
        return audio.of_contents(parts, rate, seconds, bad_files=reading.bad_files)
    if kind == "image":
        return {name: (part, np.arange(len(part))) for name, part in parts.items()}, ""
    used = {
        name: np.array([n for n, one in enumerate(part) if one.strip()], "int64")
        for name, part in parts.items()
    }
    empty = {
        name: sorted({*range(len(part))} - {*used[name].tolist()})
        for name, part in parts.items()
    }
    about, count = "", sum(map(len, empty.values()))
    if count:
        name = next(name for name, indices in empty.items() if indices)
        counted = errors.counted(count, "text")
        first = f"the first number {empty[name][0]} of {name}"
        if reading.bad_files == "error":
            raise errors.InputError(
                f"{counted} cannot be used, {first}: it is empty. Leave them out with "
                "`bad_files='skip'` (on the command line: --bad-files skip)."
            )
        about = f"Left out: {counted} that cannot be used, {first}."
    made = {
        name: (text.Texts(tuple(part[n] for n in used[name])), used[name])
        for name, part in parts.items()
    }
    return made, about
