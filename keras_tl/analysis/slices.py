"""Accuracy by groups of test examples: dark and bright images, short and long texts.

Only what the data have is looked at: examples in memory have no file, and so neither a
format nor a folder.
"""

import os
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
from scipy import stats

from keras_tl import errors
from keras_tl.analysis import evaluation
from keras_tl.analysis.summary import Result
from keras_tl.data import images, languages, sound_files
from keras_tl.data.splits import Split

# Fewest examples of a slice; most slices of a property that is a number, and of one
# that is a name; most examples that are looked at.
FEWEST, MOST_CUTS, MOST_NAMES, MOST = 10, 4, 8, 5_000
# Probability by chance below which a slice is said to differ, over all slices together.
LEVEL = 0.05
# Side of the pictures of which brightness and contrast are measured, in pixels, and
# shares of red, green and blue in brightness, of ITU-R BT.601.
_SIDE, _GREY = 32, (0.299, 0.587, 0.114)
_NO_CAMERA = "not noted"


@dataclass(frozen=True)
class Slice:
    """Test examples that have a property in common.

    Attributes:
        property: Name of the property, such as "brightness".
        group: The values of the slice, such as "12 to 34 %".
        count: Number of examples.
        value: Accuracy, or mean absolute error.
        interval: 95 % interval of the value over examples of the same kind.
        others: The same number for all other examples.
        p_value: Probability by chance of a difference as large as that between the two,
            corrected for the number of slices.
    """

    property: str
    group: str
    count: int
    value: float
    interval: tuple[float, float]
    others: float
    p_value: float

    @property
    def differs(self) -> bool:
        """Whether the slice differs from the other examples by more than chance."""
        return self.p_value < LEVEL

    @property
    def p_text(self) -> str:
        """The probability as text."""
        return f"{self.p_value:.3f}" if self.p_value >= 0.001 else "< 0.001"


@dataclass(frozen=True)
class Slices:
    """All slices of a test split.

    Attributes:
        rows: The slices, by property; at least two.
        metric: What their value is: "accuracy", "all labels correct" or "mean absolute
            error".
    """

    rows: tuple[Slice, ...]
    metric: str

    @property
    def worst(self) -> Slice:
        """The worst of the slices that differ, or of all where none does."""
        sign = -1 if self.metric == "mean absolute error" else 1
        differing = [row for row in self.rows if row.differs]
        return min(differing or self.rows, key=lambda row: sign * row.value)

    @property
    def sentence(self) -> str:
        """Whether some slice differs, and which is the worst, for people."""
        one, count = self.worst, sum(row.differs for row in self.rows)
        low, high = map(self.format, one.interval)
        about = (
            f"{one.property} {one.group}: {self.metric} {self.format(one.value)} on "
            f"{one.count:,} examples (95 % interval {low} to {high}), "
            f"{self.format(one.others)} on the others."
        )
        if not count:
            return (
                "No slice differs from the others by more than chance. The worst is "
                f"{about}"
            )
        found, which = errors.counted(count, "slice"), "the worst of them is "
        verb = "differs" if count == 1 else "differ"
        return (
            f"{found} {verb} from the others by more than chance: "
            f"{which if count > 1 else ''}{about}"
        )

    def format(self, value: float) -> str:
        """Return a value as text, accuracies in percent."""
        is_error = self.metric == "mean absolute error"
        return f"{value:.3f}" if is_error else f"{100 * value:.1f} %"

    def as_rows(self) -> list[dict[str, str | float]]:
        """Return one row for each slice, for `slices.csv`."""
        rows = []
        for row in self.rows:
            low, high = row.interval
            names = ("property", "group", "count", "value", "others", "p_value")
            values = {name: asdict(row)[name] for name in names}
            rows.append({**values, "low": low, "high": high, "metric": self.metric})
        return rows


def find(own: Result, split: Split) -> Slices | None:
    """Compare groups of test examples, by each property that is known of them.

    Args:
        own: Evaluation on the test split. Of several labels, an example is right where
            all of them are.
        split: The test examples; of more than 5,000, as many are taken evenly.

    Returns:
        The slices; `None` where nothing is known by which examples could be told apart,
        or where there are too few.
    """
    chosen = np.arange(len(split))
    if len(split) > MOST:
        chosen = np.linspace(0, len(split) - 1, MOST).astype("int64")
        split = split.take(chosen)
    scores, metric = own.scores[chosen], "mean absolute error"
    if own.metric == "accuracy":
        several = own.labels.ndim == 2
        scores, metric = scores == 1, "all labels correct" if several else "accuracy"
    rows = compare(scores, properties(split))
    return Slices(rows, metric) if rows else None


def compare(
    scores: np.ndarray, properties: Mapping[str, np.ndarray]
) -> tuple[Slice, ...]:
    """Compare the results of each group of examples with those of all others.

    The number of right answers by the exact test of R. A. Fisher, see A. Agresti,
    Categorical Data Analysis, 2002, section 3.5; absolute errors by that of H. B. Mann
    and D. R. Whitney, 1947, https://doi.org/10.1214/aoms/1177730491; both two-sided,
    corrected by `evaluation.holm` for the number of groups: where there is no
    difference at all, at most 5 % of runs have a slice that differs.

    Args:
        scores: Whether each example is right, bool; or negative absolute errors, float;
            `(count,)`.
        properties: Name, and behind a comma the unit -> numbers or texts, `(count,)`,
            see `groups`.

    Returns:
        The slices, by property.

    >>> slices = compare(np.arange(40) >= 10, {"length, words": np.arange(40)})
    >>> [(one.group, one.value, one.differs) for one in slices[:2]]
    [('0 to 9 words', 0.0, True), ('10 to 19 words', 1.0, False)]
    """
    members = [
        (name, f"{group} {unit}".rstrip(), inside)
        for (name, _, unit), values in zip(
            (key.partition(", ") for key in properties),
            properties.values(),
            strict=True,
        )
        for group, inside in groups(values).items()
    ]
    measure = _shares if scores.dtype == bool else _errors
    measured = [measure(scores[inside], scores[~inside]) for *_, inside in members]
    if not measured:
        return ()
    corrected = evaluation.holm([p_value for *_, p_value in measured])
    return tuple(
        Slice(name, group, int(inside.sum()), *values, float(p_value))
        for (name, group, inside), (*values, _), p_value in zip(
            members, measured, corrected, strict=True
        )
    )


def _shares(inside, outside) -> tuple:
    """Return share of right answers, interval, that of the others, and probability."""
    counts = [[one.sum(), (~one).sum()] for one in (inside, outside)]
    interval = evaluation.wilson_interval(int(inside.sum()), len(inside))
    p_value = stats.fisher_exact(counts).pvalue
    return float(inside.mean()), interval, float(outside.mean()), p_value


def _errors(inside, outside) -> tuple:
    """Return mean error, interval, that of the others, and probability."""
    interval = evaluation.bootstrap_interval(-inside)
    p_value = stats.mannwhitneyu(inside, outside).pvalue
    # Errors that are all equal have none.
    p_value = 1.0 if np.isnan(p_value) else p_value
    return float(-inside.mean()), interval, float(-outside.mean()), p_value


def groups(values: np.ndarray) -> dict[str, np.ndarray]:
    """Divide examples by a property: numbers into quarters, names as they are.

    Args:
        values: Numbers, or texts, of which an empty one is of no group; `(count,)`.

    Returns:
        Name of the group -> which examples are in it, bool `(count,)`; numbers from the
        smallest to the largest, at most four groups, equal ones in the same group;
        names by frequency, at most eight. Groups of fewer than 10 examples are left
        out, and a property of which one group is left has none.

    >>> {name: int(one.sum()) for name, one in groups(np.arange(40)).items()}
    {'0 to 9': 10, '10 to 19': 10, '20 to 29': 10, '30 to 39': 10}
    """
    found, inverse, counts = np.unique(values, return_inverse=True, return_counts=True)
    if values.dtype.kind in "US":
        order = np.argsort(-counts, kind="stable")
        members = {
            str(found[place]): inverse == place for place in order if found[place]
        }
        limit = MOST_NAMES
    else:
        limit = min(MOST_CUTS, len(values) // FEWEST)
        # A value is of the part in which the middle of its examples is.
        middle = np.cumsum(counts) - counts / 2
        part = (middle * limit / len(values)).astype("int64")[inverse]
        members = {_span(values[part == n]): part == n for n in np.unique(part)}
    large = {name: one for name, one in members.items() if one.sum() >= FEWEST}
    large = dict(list(large.items())[:limit])
    return large if len(large) > 1 else {}


def _span(numbers) -> str:
    low, high = (
        f"{end:,.0f}" if abs(end) >= 100 else f"{end:.3g}"
        for end in (numbers.min(), numbers.max())
    )
    return low if low == high else f"{low} to {high}"


def properties(split: Split) -> dict[str, np.ndarray]:
    """Measure what is known of examples besides their labels; each is read once.

    Args:
        split: Images: brightness, contrast, size, shape and, of files, format and
            camera. Texts: length. Clips of sound: length, of files, and loudness, of
            those in memory. Of all files: their folders.

    Returns:
        Name of the property, and behind a comma its unit -> numbers or texts,
        `(count,)`; none of examples that cannot be looked at.
    """
    source, every = split.inputs, np.arange(len(split))
    names, files = source.names(every), source.files(every)
    if source.kind == "text":
        texts = source.preview(every)
        measured = _of_texts(texts) if texts is not None else {}
    elif source.kind == "audio":
        measured = _of_sound(source.in_memory(), files)
    elif source.sizes(every[:1]) is not None:
        measured = _of_images(source, every, files)
    else:
        return {}
    folders = _folders(names, split.labels) if names and source.kind != "text" else {}
    return {**measured, **folders}


def _of_texts(texts) -> dict:
    lengths, unit = languages.lengths(texts)
    return {f"length, {unit}": lengths}


def _of_sound(values, files) -> dict:
    measured = {}
    if files and errors.is_installed("soundfile"):
        measured["length, s"] = np.array([*map(sound_files.seconds_of, files)])
    if values is not None and values.ndim == 2:
        power = np.mean(np.square(values, dtype="float32"), axis=1)
        measured["loudness, dB"] = 10 * np.log10(np.maximum(power, 1e-10))
    return measured


def _of_images(source, every, files) -> dict:
    pixels = source.in_memory() if source.kind == "image" else None
    if pixels is not None and pixels.dtype == np.uint8:
        pictures = images.resize(pixels, _SIDE)
    else:
        pictures = source.preview(every, _SIDE)
    grey = [picture @ np.array(_GREY) / 2.55 for picture in pictures]
    width, height = np.array(source.sizes(every), "float64").T
    measured = {
        "brightness, %": np.array([one.mean() for one in grey]),
        "contrast, %": np.array([one.std() for one in grey]),
        "shorter side, pixels": np.minimum(width, height),
        "width / height": width / height,
    }
    if files:
        with ThreadPoolExecutor() as pool:
            headers = list(pool.map(images.header, files))
        measured["format"] = np.array([header.format for header in headers])
        cameras = [header.camera or _NO_CAMERA for header in headers]
        measured["camera"] = np.array(cameras)
    return measured


def _folders(names: list[str], labels: np.ndarray) -> Mapping[str, np.ndarray]:
    """Return the folders of files, level by level, where they say more than a class."""
    parents = [Path(name).parent for name in names]
    if len({*parents}) < 2 or len({parent.anchor for parent in parents}) > 1:
        return {}
    top = Path(os.path.commonpath(parents))
    parts = [parent.relative_to(top).parts for parent in parents]
    found = {}
    for level in range(max(map(len, parts))):
        folders = np.array([one[level] if level < len(one) else "" for one in parts])
        if labels.ndim == 1 and all(
            len(np.unique(labels[folders == one])) == 1 for one in np.unique(folders)
        ):
            continue
        name = "folder" if not found else f"folder {level + 1}"
        found[name] = folders
    return found
