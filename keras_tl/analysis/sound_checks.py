"""Checks of clips of sound: lengths, formats, levels, and speakers in their names."""

import re
from collections import Counter
from pathlib import Path

import numpy as np

from keras_tl.analysis import file_checks
from keras_tl.analysis.findings import Finding, named
from keras_tl.analysis.records import Records
from keras_tl.data import sound_files
from keras_tl.errors import counted

# A length is far from the usual one by this factor of the median, and by so many
# interquartile ranges of the logarithms.
_FACTOR, _RANGES = 4, 3.0
# Share of clips that are clipped, from which it is no accident.
_MANY_CLIPPED = 0.05
# Parts of names between these characters are fields, such as the speaker.
_SEPARATORS = r"[-_. ]+"
# Share of the names that must have as many fields as most, and of clips that must be in
# groups; and members of a group that are needed on average.
_MOST_NAMES, _MEMBERS = 0.9, 4


def lengths(records: Records) -> list[Finding]:
    """List clips that are far shorter, or far longer, than is usual."""
    if not records.checked:
        return []
    seconds = np.array([one.seconds for one in records.checked])
    short, long = far_from_usual(seconds, _FACTOR, _RANGES)
    usual = np.median(seconds)
    findings = []
    for indices, code, severity, text, remedy in (
        (
            short,
            "short-clip",
            "warning",
            f"less than 1/{_FACTOR} as long as",
            "Listen to them: something may have been cut off. Record them again, or "
            "leave them out.",
        ),
        (
            long,
            "long-clip",
            "note",
            f"more than {_FACTOR} times as long as",
            "Models see the loudest part alone: cut them to what matters.",
        ),
    ):
        if not len(indices):
            continue
        first = indices[0]
        findings.append(
            Finding(
                code,
                severity,
                f"{counted(len(indices), 'clip')} {text} is usual ({usual:.2f} "
                f"seconds): {records.names[first]} has {seconds[first]:.2f}.",
                remedy,
                records.named(indices),
                records.files(indices),
                tuple(indices.tolist()),
            )
        )
    return findings


def far_from_usual(
    sizes: np.ndarray, factor: float, ranges: float
) -> tuple[np.ndarray, np.ndarray]:
    """Find sizes that are far below, and far above, the others.

    Args:
        sizes: Positive `(count,)`.
        factor: How often the median fits into them, or they into it.
        ranges: Interquartile ranges of the logarithms outside of the quartiles.

    Returns:
        Indices of the small ones, the smallest first, and of the large ones, the
        largest first.

    >>> sizes = np.array([9.0, 10, 11, 10, 1000])
    >>> [found.tolist() for found in far_from_usual(sizes, 4, 3)]
    [[], [4]]
    """
    logarithms = np.log(np.maximum(sizes, 1e-9))
    low, middle, high = np.percentile(logarithms, [25, 50, 75])
    apart = ranges * max(high - low, 0.05)
    edge = np.log(factor)
    order = np.argsort(logarithms, kind="stable")
    small = (logarithms < low - apart) & (logarithms < middle - edge)
    large = (logarithms > high + apart) & (logarithms > middle + edge)
    return order[small[order]], order[::-1][large[order[::-1]]]


def formats(records: Records) -> list[Finding]:
    """Report several rates and numbers of channels, and names of another format."""
    findings = []
    for code, values, describe, consequence, remedy in (
        (
            "mixed-rates",
            [one.rate for one in records.checked],
            lambda rate: f"at {rate:,} Hz",
            "All are resampled to one; those of a lower rate keep no sound above half "
            "of it, which a network can hear.",
            "Record all classes at one rate, or resample all to the lowest.",
        ),
        (
            "mixed-channels",
            [one.channels for one in records.checked],
            lambda number: f"with {counted(number, 'channel')}",
            "Channels are averaged.",
            "Record all classes alike; keep the channel that matters, if it is one.",
        ),
    ):
        counts = Counter(values).most_common()
        if len(counts) < 2:
            continue
        others = [n for n, value in enumerate(values) if value != counts[0][0]]
        listed = named([f"{number:,} {describe(value)}" for value, number in counts])
        findings.append(
            Finding(
                code,
                "note",
                f"Clips of several kinds: {listed}. {consequence}",
                remedy,
                records.named(others),
                pictures=tuple(others),
            )
        )
    return [*findings, *_misnamed(records)]


# Suffixes of one format -> that which `sound_files.format_of` returns.
_SAME = {".oga": ".ogg", ".opus": ".ogg", ".aif": ".aiff", ".aifc": ".aiff"}
_SAME |= {".rf64": ".wav"}


def _misnamed(records) -> list[Finding]:
    """Report files of another format than their names say."""
    wrong, others = [], []
    for index, path in enumerate(records.paths):
        format = sound_files.format_of(path)
        suffix = _suffix(path)
        if _SAME.get(format, format) != _SAME.get(suffix, suffix):
            wrong.append(index)
            others.append(format.removeprefix(".").upper())
    return file_checks.wrong_extensions(records, wrong, others)


def clipped(records: Records) -> list[Finding]:
    """List clips that were too loud when they were recorded."""
    indices = [n for n, one in enumerate(records.checked) if one.is_clipped]
    if not indices:
        return []
    many = len(indices) >= _MANY_CLIPPED * len(records)
    return [
        Finding(
            "clipped-clip",
            "warning" if many else "note",
            f"{counted(len(indices), 'clip')} of {len(records):,} with the tops of "
            "their waves cut off, since they were too loud when recorded: "
            f"{named(records.named(indices))}.",
            "Record them again with less gain, if they sound distorted.",
            records.named(indices),
            pictures=tuple(indices),
        )
    ]


def names(records: Records) -> list[Finding]:
    """Find speakers, or other groups, in the fields of the names of files.

    Names such as `7_jackson_32.wav` have three fields. A field is a group where each of
    its values occurs often and with several labels, and where clips of one value are
    more alike than others of their label.
    """
    if records.grouped or not records.paths or records.thumbnails is None:
        return []
    fields = [re.split(_SEPARATORS, path.stem) for path in records.paths]
    width, count = Counter(map(len, fields)).most_common(1)[0]
    best, place = file_checks.ALIKE, None
    for number in range(
        width if width > 1 and count >= _MOST_NAMES * len(fields) else 0
    ):
        blocks = _members(records, _values(fields, width, number))
        alike = file_checks.alikeness(records, blocks) if blocks else 0.0
        if alike >= best:
            best, place = alike, number
    if place is None:
        return file_checks.names(records)
    groups = {}
    for index, value in enumerate(_values(fields, width, place)):
        if value is not None:
            groups.setdefault(value, []).append(index)
    expression = _pattern(place) + ("" if count == len(fields) else "|$")
    return file_checks.groups(
        records,
        list(groups.values()),
        "named-group",
        f"whose names have the same word in one place ({named(sorted(groups))}), and "
        "which are more alike than others of their class: speakers, perhaps",
        f"Keep each group in one split: `--groups '{expression}'`, or a pattern of "
        "your own.",
    )


def _values(fields, width, place) -> list[str | None]:
    """Return a field of each name; `None` for names of fewer or more fields."""
    return [row[place] if len(row) == width else None for row in fields]


def _members(records, values) -> list[list[int]] | None:
    """Return the clips of each value and label; `None` where values are no groups."""
    labels, blocks = {}, {}
    for index, (value, label) in enumerate(zip(values, records.labels, strict=True)):
        if value is not None:
            labels.setdefault(value, set()).add(label)
            blocks.setdefault((value, label), []).append(index)
    several = sum(len(each) > 1 for each in labels.values())
    # A number that counts takes has as many values as takes, and few clips of each.
    if len(labels) < 2 or several < _MOST_NAMES * len(labels):
        return None
    large = [block for block in blocks.values() if len(block) >= 2]
    inside = sum(map(len, large))
    if inside < _MOST_NAMES * len(records) or inside < _MEMBERS * len(large):
        return None
    return large


def _pattern(place: int) -> str:
    """Return a regular expression for a field of the name of a file.

    >>> re.search(_pattern(1), "some-where/7_jackson_32.wav").group(1)
    'jackson'
    """
    times = f"{{{place}}}" if place > 1 else ""
    before = f"(?:[^-_. /]+{_SEPARATORS}){times}" if place else ""
    return rf"(?:^|/){before}([^-_. /]+)[^/]*\.\w+$"


def usual(records: Records, indices: np.ndarray) -> str:
    """Describe the files of some clips: length, level, rate and format."""
    checked = [records.checked[index] for index in indices]
    seconds = np.median([one.seconds for one in checked])
    level = np.median([one.level for one in checked])
    rate = Counter(one.rate for one in checked).most_common(1)[0][0]
    channels = Counter(one.channels for one in checked).most_common(1)[0][0]
    ends = Counter(_suffix(records.paths[n]) for n in indices).most_common(1)[0][0]
    return (
        f"mostly {seconds:.2f} seconds, {level:.0f} dB, {rate:,} Hz, "
        f"{counted(channels, 'channel')}, {ends}"
    )


def _suffix(path: Path) -> str:
    return path.suffix.lower()
