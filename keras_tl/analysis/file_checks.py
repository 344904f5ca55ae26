"""Checks of image files: what cannot be used, and what stands in names and headers."""

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
_SHARE_IN_GROUPS, _FEWEST_GROUPS, _ALIKE = 0.2, 5, 5.0
_DRAWS = 50


def check(content: assembly.Content, records: Records) -> list[Finding]:
    """Check the files of a dataset, apart from what their images show.

    Args:
        content: The files, all of which have been read.
        records: What `records.of_content` returns of them.
    """
    return [
        *unusable(content),
        *unused(content),
        *sizes(records),
        *few_bits(content, records),
        *blank(content, records),
        *headers(records),
        *names(records),
    ]


def unusable(content: assembly.Content) -> list[Finding]:
    """List what cannot be decoded: broken files, animations, folders without access."""
    by_code = defaultdict(list)
    for path, problem in content.bad:
        animated = re.match(r"holds \d+ frames or pages", problem)
        by_code["animated-image" if animated else "unreadable-image"].append(
            (path, problem)
        )
    remedies = {
        "animated-image": "Save the frame that you want by itself, or leave these out.",
        "unreadable-image": "Repair or replace these files, or leave them out.",
    }
    findings = []
    for code, problems in by_code.items():
        listed = tuple(
            f"{assembly.short(path, content.folder)} {problem}"
            for path, problem in problems
        )
        number = counted(len(problems), "file or folder", "files or folders")
        findings.append(
            Finding(
                code,
                "error",
                f"{number} cannot be used: {named(listed)}.",
                remedies[code],
                listed,
                tuple(path for path, _ in problems if path.is_file()),
            )
        )
    return findings


def unused(content: assembly.Content) -> list[Finding]:
    """List files that are left out though they were probably meant as images."""
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
            "Left out, and perhaps meant as images: "
            f"{counted(len(lost), 'file or folder', 'files or folders')}, "
            f"{named(listed)}.",
            "Move them into the folder of a class, or save them as JPEG or PNG.",
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


def few_bits(content: assembly.Content, records: Records) -> list[Finding]:
    """Report images of 16 bits that are nearly black."""
    texts = images.few_bits([file.checked for file in content.files])
    if texts is None:
        return []
    indices = _of_16_bits(content, records)
    names = records.named(indices)
    return [Finding("few-bits", "warning", *texts, names, pictures=tuple(indices))]


def _of_16_bits(content, records) -> list[int]:
    paths = {f.entry.path for f in content.files if f.checked.highest is not None}
    return [index for index, path in enumerate(records.paths) if path in paths]


def blank(content: assembly.Content, records: Records) -> list[Finding]:
    """List images of one colour; those that only seem so, see `few_bits`, are not."""
    if records.thumbnails is None or not len(records):
        return []
    flat = records.thumbnails.reshape(len(records), -1, 3).astype("int16")
    spread = (flat.max(axis=1) - flat.min(axis=1)).max(axis=1)
    indices = np.flatnonzero(spread <= _BLANK)
    if images.few_bits([file.checked for file in content.files]) is not None:
        indices = np.setdiff1d(indices, _of_16_bits(content, records))
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
    findings = []
    if wrong:
        first = records.paths[wrong[0]]
        findings.append(
            Finding(
                "wrong-extension",
                "note",
                f"{counted(len(wrong), 'file')} of another format than the name says: "
                f"{records.names[wrong[0]]} is {headers[wrong[0]].format}, not "
                f"{first.suffix}. They are read by their content here; other programs "
                "may not do so.",
                "Rename them.",
                records.named(wrong),
            )
        )
    return findings + _bursts(records, headers)


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
    return _groups(
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
    r"([^/]+?)[-_. ]?(?:burst|frame|img|image|copy|crop|view)?"
    r"[-_. ]?\(?\d{1,6}\)?\.\w+$"
)


def names(records: Records) -> list[Finding]:
    """Find groups in the names of files, such as patients, bursts and films.

    Names are evidence only where the images agree with them: the members of a group
    have to be more alike than other images of their class.
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
    # A name that all images of a class have in common is that of the class.
    if np.median([of_label[label] for label in records.labels]) < 3:
        return []
    if _alikeness(records, blocks) < _ALIKE:
        return []
    return _groups(
        records,
        blocks,
        "named-group",
        "whose names differ in a last number alone, and which look more alike than "
        "others of their class",
        f"Keep each group in one split: `--groups '{GROUP}'`, or a pattern of your "
        "own.",
    )


def _alikeness(records, blocks) -> float:
    """Compare likeness within groups with that of groups drawn at random.

    Returns:
        Standard deviations by which members of a group are nearer to each other than
        images of the same class that are drawn at random.
    """
    rng = np.random.default_rng(0)
    values = records.thumbnails.reshape(len(records), -1).astype("float32")
    by_label = defaultdict(list)
    for block in blocks:
        by_label[records.labels[block[0]]] += block

    def distance(groups):
        first = np.array([group[0] for group in groups])
        second = np.array([group[1] for group in groups])
        return np.abs(values[first] - values[second]).mean()

    def drawn():
        shuffled = {label: rng.permutation(all_) for label, all_ in by_label.items()}
        taken, groups = Counter(), []
        for block in blocks:
            label = records.labels[block[0]]
            groups.append(shuffled[label][taken[label] : taken[label] + 2])
            taken[label] += 2
        return distance(groups)

    random = np.array([drawn() for _ in range(_DRAWS)])
    return (random.mean() - distance(blocks)) / max(random.std(), 1e-6)


def _groups(records, blocks, code, description, remedy) -> list[Finding]:
    """Report groups: those that are in several splits, else those that may come to be.

    Groups whose images are nearly the same stay together when splits are drawn.
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
                f"{counted(len(noticed), 'group')} of images ({len(members):,} in all) "
                f"{description}, {consequence}"
                f"{'' if suffix else ' when splits are drawn'}: "
                f"{named(records.named(noticed[0]))}.",
                remedy,
                records.named(members),
                pictures=tuple(members),
            )
        )
    return findings
