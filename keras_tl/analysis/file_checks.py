"""Checks of files: what cannot be used, and what stands in names and headers."""

import re
from collections import Counter, defaultdict
from concurrent.futures import ThreadPoolExecutor
from datetime import datetime

import numpy as np

from keras_tl.analysis.findings import Finding, named
from keras_tl.analysis.records import Records
from keras_tl.data import assembly, images
from keras_tl.errors import counted

# Shortest side in pixels below which an image is called tiny, where it is also less
# than a quarter of the usual side of its dataset.
_TINY, _FRACTION = 32, 4
# Levels of 255 within which all of a thumbnail is, for an image to be called blank.
_BLANK = 2
# Width over height, or the reverse, from which an image is called narrow.
_NARROW = 4
# Seconds between two photos of a burst.
_BURST = 2
# Names show groups where so much of the images is in groups of two or more, of which
# there are so many, and where the members of a group are more alike than those of a
# class: by so many standard deviations of what groups drawn at random would give.
_SHARE_IN_GROUPS, _FEWEST_GROUPS, ALIKE = 0.2, 5, 5.0
_DRAWS = 50


# Kind of files -> what the reason begins with, code and remedy of what cannot be used
# for that reason.
_REASONS = {
    "image": (
        (
            r"holds \d+ frames or pages",
            "animated-image",
            "Save the frame that you want by itself, or leave these out.",
        ),
    ),
    "audio": (
        (
            r"is silent|holds no samples|is empty",
            "silent-clip",
            "Record these again, or leave them out.",
        ),
    ),
    "text": (
        (
            r".*\b(empty|blank)\b",
            "empty-text",
            "Fill them in, or leave them out.",
        ),
    ),
}


def unusable(content: assembly.Content) -> list[Finding]:
    """List what cannot be read: broken files, animations, silence, empty texts."""
    noun, by_code = content.kind.noun, defaultdict(list)
    remedies = {
        f"unreadable-{noun}": "Repair or replace these files, or leave them out."
    }
    reasons = _REASONS.get(content.kind.name, ())
    for path, problem in content.bad:
        code = f"unreadable-{noun}"
        for pattern, other, remedy in reasons:
            if re.match(pattern, problem):
                code, remedies[other] = other, remedy
        by_code[code].append((path, problem))
    findings = []
    for code, problems in by_code.items():
        listed = tuple(
            f"{assembly.short(path, content.folder)} {problem}"
            for path, problem in problems
        )
        names = "file or folder", "files or folders"
        if content.kind.name == "text":
            names = "text or file", "texts or files"
        # A text of a table has a name, and no file of its own.
        is_virtual = content.kind.name == "text"
        findings.append(
            Finding(
                code,
                "error",
                f"{counted(len(problems), *names)} cannot be used: {named(listed)}.",
                remedies[code],
                listed,
                tuple(p for p, _ in problems if is_virtual or p.is_file()),
            )
        )
    return findings


def unused(content: assembly.Content) -> list[Finding]:
    """List files that are left out though they were probably meant as examples."""
    lost = [
        (path, reason)
        for path, reason in content.left_out
        if assembly.is_lost(path, reason, content.kind)
    ]
    if not lost:
        return []
    listed = [
        f"{assembly.short(path, content.folder)} ({reason})" for path, reason in lost
    ]
    return [
        Finding(
            "unused-files",
            "warning",
            f"Left out, and perhaps meant as {content.kind.nouns}: "
            f"{counted(len(lost), 'file or folder', 'files or folders')}, "
            f"{named(listed)}.",
            "Move them into the folder of a class, or save them as "
            f"{content.kind.format}.",
            tuple(listed),
        )
    ]


def sizes(records: Records) -> list[Finding]:
    """List images that are far smaller than the others, or far longer than wide."""
    if not len(records.sizes):
        return []
    short, long = records.sizes.min(axis=1), records.sizes.max(axis=1)
    usual = np.median(short)
    tiny = np.flatnonzero((short < _TINY) & (short * _FRACTION < usual))
    narrow = np.flatnonzero(long > _NARROW * short)
    findings = []
    if len(tiny):
        width, height = records.sizes[tiny[0]]
        findings.append(
            Finding(
                "tiny-image",
                "warning",
                f"{counted(len(tiny), 'image')} of fewer than {_TINY} pixels a side, "
                f"where {usual:.0f} are usual: {records.names[tiny[0]]} has {width} x "
                f"{height}. Such images are probably icons or previews.",
                "Replace them by the images in full size, or leave them out.",
                records.named(tiny),
                records.files(tiny),
                tuple(tiny.tolist()),
            )
        )
    if len(narrow):
        findings.append(
            Finding(
                "narrow-image",
                "note",
                f"{counted(len(narrow), 'image')} more than {_NARROW} times as long as "
                "wide: of these, the centred square that a model sees is less than a "
                "quarter.",
                "Cut them into squares, or use `--resize pad`, if the rest matters.",
                records.named(narrow),
                pictures=tuple(narrow.tolist()),
            )
        )
    return findings


def few_bits(records: Records) -> list[Finding]:
    """Report images of 16 bits that are nearly black."""
    texts = images.few_bits(records.checked)
    if texts is None:
        return []
    indices = _of_16_bits(records)
    names = records.named(indices)
    return [Finding("few-bits", "warning", *texts, names, pictures=tuple(indices))]


def _of_16_bits(records) -> list[int]:
    return [n for n, one in enumerate(records.checked) if one.highest is not None]


def blank(records: Records) -> list[Finding]:
    """List images of one colour; those that only seem so, see `few_bits`, are not."""
    if records.thumbnails is None or not len(records):
        return []
    flat = records.thumbnails.reshape(len(records), -1, 3).astype("int16")
    spread = (flat.max(axis=1) - flat.min(axis=1)).max(axis=1)
    indices = np.flatnonzero(spread <= _BLANK)
    if images.few_bits(records.checked) is not None:
        indices = np.setdiff1d(indices, _of_16_bits(records))
    if not len(indices):
        return []
    return [
        Finding(
            "blank-image",
            "warning",
            f"{counted(len(indices), 'image')} of a single colour: "
            f"{named(records.named(indices))}.",
            "Leave them out: there is nothing to learn from them.",
            records.named(indices),
            records.files(indices),
            tuple(indices.tolist()),
        )
    ]


def headers(records: Records) -> list[Finding]:
    """Compare headers: formats with suffixes, and cameras with times for bursts."""
    if not records.paths:
        return []
    with ThreadPoolExecutor() as pool:
        headers = list(pool.map(images.header, records.paths))
    wrong = [
        index
        for index, (path, header) in enumerate(zip(records.paths, headers, strict=True))
        if header.format
        and images.format_of(path.suffix) not in (header.format, None)
        and not {header.format, images.format_of(path.suffix)} <= {"MPO", "JPEG"}
    ]
    formats = [headers[index].format for index in wrong]
    return [*wrong_extensions(records, wrong, formats), *_bursts(records, headers)]


def wrong_extensions(
    records: Records, wrong: list[int], formats: list[str]
) -> list[Finding]:
    """Report files of another format than their names say."""
    if not wrong:
        return []
    suffix = records.paths[wrong[0]].suffix
    return [
        Finding(
            "wrong-extension",
            "note",
            f"{counted(len(wrong), 'file')} of another format than the name says: "
            f"{records.names[wrong[0]]} is {formats[0]}, not {suffix}. They are read "
            "by their content here; other programs may not do so.",
            "Rename them.",
            records.named(wrong),
        )
    ]


def _bursts(records, headers) -> list[Finding]:
    """Find photos that one camera took within seconds of each other."""
    if records.grouped:
        return []
    by_camera = defaultdict(list)
    for index, header in enumerate(headers):
        time = _time(header.taken)
        if header.camera and time is not None:
            by_camera[header.camera].append((time, index))
    bursts = []
    for photos in by_camera.values():
        photos.sort()
        burst = [photos[0]]
        for photo in photos[1:]:
            if photo[0] - burst[-1][0] > _BURST:
                bursts.append(burst)
                burst = []
            burst.append(photo)
        bursts.append(burst)
    blocks = [[index for _, index in burst] for burst in bursts if len(burst) > 1]
    return groups(
        records,
        blocks,
        "burst",
        f"taken by one camera within {_BURST} seconds of each other",
        "Name the bursts, in a column or in the names of files, and give `--groups`.",
    )


def _time(taken):
    try:
        return datetime.strptime(taken, "%Y:%m:%d %H:%M:%S").timestamp()
    except (ValueError, OverflowError, OSError):
        return None


# What numbers the members of a group, at the end of a name: `_12`, `-003`, ` (2)`,
# `_BURST004`, `_frame17`; and what names the group.
GROUP = (
    r"([^/]+?)[-_. ]?(?:burst|frame|img|image|copy|crop|view|take|part)?"
    r"[-_. ]?\(?\d{1,6}\)?\.\w+$"
)


def names(records: Records) -> list[Finding]:
    """Find groups in the names of files, such as patients, bursts and films.

    Names are evidence only where the examples agree with them: the members of a group
    have to be more alike than others of their class.
    """
    if records.grouped or not records.paths or records.thumbnails is None:
        return []
    folders = defaultdict(list)
    for index, path in enumerate(records.paths):
        match = re.search(GROUP, path.as_posix(), re.IGNORECASE)
        if match is not None:
            folders[(records.labels[index], match.group(1).lower())].append(index)
    blocks = [block for block in folders.values() if len(block) > 1]
    of_label = Counter(label for label, _ in folders)
    inside = sum(map(len, blocks))
    if inside < _SHARE_IN_GROUPS * len(records) or len(blocks) < _FEWEST_GROUPS:
        return []
    # A name that all examples of a class have in common is that of the class.
    if np.median([of_label[label] for label in records.labels]) < 3:
        return []
    if alikeness(records, blocks) < ALIKE:
        return []
    return groups(
        records,
        blocks,
        "named-group",
        "whose names differ in a last number alone, and which are more alike than "
        "others of their class",
        f"Keep each group in one split: `--groups '{GROUP}'`, or a pattern of your "
        "own.",
    )


def alikeness(records: Records, blocks: list[list[int]]) -> float:
    """Compare likeness within groups with that of groups drawn at random.

    Returns:
        Standard deviations by which members of a group are nearer to each other than
        examples of the same class that are drawn at random.
    """
    rng = np.random.default_rng(0)
    values = records.thumbnails.reshape(len(records), -1).astype("float32")
    by_label = defaultdict(list)
    for block in blocks:
        by_label[records.labels[block[0]]] += block

    def distance(members):
        first = np.array([group[0] for group in members])
        second = np.array([group[1] for group in members])
        return np.abs(values[first] - values[second]).mean()

    def drawn():
        shuffled = {label: rng.permutation(all_) for label, all_ in by_label.items()}
        taken, members = Counter(), []
        for block in blocks:
            label = records.labels[block[0]]
            members.append(shuffled[label][taken[label] : taken[label] + 2])
            taken[label] += 2
        return distance(members)

    random = np.array([drawn() for _ in range(_DRAWS)])
    return (random.mean() - distance(blocks)) / max(random.std(), 1e-6)


def groups(
    records: Records, blocks: list[list[int]], code: str, description: str, remedy: str
) -> list[Finding]:
    """Report groups: those that are in several splits, else those that may come to be.

    Groups whose members are nearly the same stay together when splits are drawn.
    """
    linked = {tuple(sorted(pair)) for pair in records.near.tolist()}
    apart = [
        block
        for block in blocks
        if not all(
            pair in linked
            for pair in zip(sorted(block)[:-1], sorted(block)[1:], strict=True)
        )
    ]
    across = [b for b in blocks if len(set(records.splits[b])) > 1]
    findings = []
    for suffix, noticed, consequence in (
        ("-across-splits", across, "with members in several splits, which leaks"),
        ("", [] if across or not records.drawn else apart, "may come apart"),
    ):
        if not noticed:
            continue
        members = [index for block in noticed for index in block]
        findings.append(
            Finding(
                f"{code}{suffix}",
                "warning",
                f"{counted(len(noticed), 'group')} of {records.nouns} "
                f"({len(members):,} in all) "
                f"{description}, {consequence}"
                f"{'' if suffix else ' when splits are drawn'}: "
                f"{named(records.named(noticed[0]))}.",
                remedy,
                records.named(members),
                pictures=tuple(members),
            )
        )
    return findings
