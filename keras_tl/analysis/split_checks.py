"""Checks of examples of any kind: copies, leaks between splits, sizes of classes."""

from collections import Counter, defaultdict

from keras_tl.analysis.findings import Finding, named
from keras_tl.analysis.records import Records
from keras_tl.data import duplicates
from keras_tl.data.assembly import NAMES
from keras_tl.errors import counted

# From so many copies of an example on, and so many of all, it is no accident.
_BLOCK, _SHARE = 5, 0.1
# Share of a split, or of all examples, from which on wrong ones change what is measured
# or learned; a few among many thousands, as in CIFAR-10, do not.
_MATERIAL = 0.005
# Largest class over smallest, from which numbers and training suffer.
_IMBALANCE = 10
# Training examples below which a class is learned, and measured, badly.
_SMALL = 10


def check(records: Records) -> list[Finding]:
    """Check the examples of a dataset by their content and labels alone."""
    return [*groups(records), *copies(records), *classes(records)]


def groups(records: Records) -> list[Finding]:
    """Report groups, such as speakers, that are in several splits."""
    splits = defaultdict(list)
    for index, group in enumerate(records.groups):
        if group is not None:
            splits[group].append(index)
    across = {g: m for g, m in splits.items() if len(set(records.splits[m])) > 1}
    if not across:
        return []
    members = [index for group in across.values() for index in group]
    listed = tuple(
        f"{group} ({', '.join(n for n in NAMES if n in set(records.splits[indices]))})"
        for group, indices in sorted(across.items())
    )
    return [
        Finding(
            "group-across-splits",
            "error",
            f"{counted(len(across), 'group')} with {records.nouns} in several splits: "
            f"{named(listed)}. What was learned of a group is measured.",
            f"Move the {records.nouns} of each group into one split.",
            listed,
            pictures=tuple(members),
        )
    ]


def copies(records: Records) -> list[Finding]:
    """List copies: across splits, under two labels, and blocks of them.

    Exact copies have the same pixels, samples or words, in whatever format; near ones
    were resized or compressed again, or have other punctuation, see `duplicates`.
    """
    exact = _blocks(duplicates.blocks(records.pixels)) if len(records) else []
    pairs = [
        (first, second)
        for first, second in records.near.tolist()
        if records.pixels[first] != records.pixels[second]
    ]
    numbers = duplicates.blocks([None] * len(records), pairs=pairs) if pairs else []
    near = _blocks(numbers)
    return [
        *_two_labels(records, exact, "exact"),
        *_two_labels(records, near, "near"),
        *_across(records, exact, "exact"),
        *_across(records, near, "near"),
        *_within(records, exact, "exact"),
        *_within(records, near, "near"),
    ]


def _blocks(numbers) -> list[list[int]]:
    members = defaultdict(list)
    for index, number in enumerate(numbers):
        members[number].append(index)
    return [block for block in members.values() if len(block) > 1]


# Kind of examples -> what exact and near copies have in common, and what blocks of them
# often are.
_EXACT = {
    "image": "the same in every pixel",
    "audio": "the same in every sample",
    "text": "the same up to case and white space",
}
_NEAR = {
    "audio": "nearly the same (compressed again, resampled or converted)",
    "text": "the same words with other punctuation or markup",
}
_BLOCKS = {
    "image": 'placeholders such as "no image available", or a film that stands still',
    "audio": "placeholders, or one recording under many names",
    "text": 'placeholders such as "no comment", or boilerplate',
}


def _alike(records, kind) -> str:
    if kind == "exact":
        return _EXACT.get(records.kind, "the same in every number")
    return _NEAR.get(
        records.kind, "nearly the same (resized, compressed again or converted)"
    )


def _two_labels(records, blocks, kind) -> list[Finding]:
    blocks = [b for b in blocks if len({records.labels[i] for i in b} - {None}) > 1]
    if not blocks or records.task == "regression":
        return []
    members = [index for block in blocks for index in block]
    share = len(members) / len(records)
    first = [
        f"{records.names[index]} ({_label(records.labels[index])})"
        for index in blocks[0]
    ]
    return [
        Finding(
            f"{kind}-copies-two-labels",
            # Many write the same few words, and mean something else by them.
            "warning" if records.kind == "text" else _severity(share),
            f"{counted(len(blocks), records.noun)} under two labels, "
            f"{_alike(records, kind)}: {named(first)}.",
            "Keep each under its right label, or leave out all of them.",
            records.named(members),
            records.files(members),
            tuple(members),
            tuple(members),
        )
    ]


def _severity(share: float) -> str:
    return "error" if share >= _MATERIAL else "warning"


def _label(label) -> str:
    return label if isinstance(label, str) else ", ".join(map(str, label or ("?",)))


def _across(records, blocks, kind) -> list[Finding]:
    """Report copies in several splits; the copy of the last split is kept."""
    labelled = [b for b in blocks if len({records.labels[i] for i in b} - {None}) < 2]
    if records.task == "regression":
        labelled = blocks
    leaking = [b for b in labelled if len(set(records.splits[b])) > 1]
    if not leaking:
        return []
    members, surplus, measured = [], [], Counter()
    for block in leaking:
        rank = {index: NAMES.index(records.splits[index]) for index in block}
        last = max(rank.values())
        members += sorted(block, key=rank.get)
        surplus += [index for index in block if rank[index] < last]
        measured[NAMES[last]] += 1
    sizes = Counter(records.splits)
    share = max(count / sizes[name] for name, count in measured.items())
    example = named(records.named(sorted(leaking[0])))
    left_out = kind == "exact" and records.kind == "text" and bool(records.checked)
    consequence = "What was trained on is measured."
    if left_out:
        consequence = "They count for the last of these alone."
    return [
        Finding(
            f"{kind}-copies-across-splits",
            "warning" if left_out else _severity(share),
            f"{counted(len(leaking), records.noun)} in several splits, "
            f"{_alike(records, kind)}: {example}. {consequence}",
            "Leave out the copies in the earlier split; the fix list has them.",
            records.named(members),
            records.files(surplus),
            tuple(members),
            tuple(surplus),
        )
    ]


def _within(records, blocks, kind) -> list[Finding]:
    """Report copies in one split: a note, or a warning where there are many."""
    inside = []
    for block in blocks:
        for split in NAMES:
            same = [index for index in block if records.splits[index] == split]
            if len(same) > 1:
                inside.append(same)
    findings = []
    large = [block for block in inside if len(block) >= _BLOCK]
    if large:
        members = [index for block in large for index in block]
        findings.append(
            Finding(
                f"block-of-{kind}-copies",
                "warning",
                f"{counted(len(large), records.noun)} with {_BLOCK} copies or more, "
                f"{_alike(records, kind)}, {len(members):,} in all: "
                f"{named(records.named(large[0]))}. Such blocks are often "
                f"{_BLOCKS.get(records.kind, 'placeholders')}.",
                "Keep one of each block, or none; the fix list keeps one.",
                records.named(members),
                records.files([i for block in large for i in block[1:]]),
                tuple(members),
            )
        )
    small = [block for block in inside if len(block) < _BLOCK]
    if small:
        surplus = [index for block in small for index in block[1:]]
        many = len(surplus) > _SHARE * len(records)
        members = [index for block in small for index in block]
        findings.append(
            Finding(
                f"{kind}-copies",
                "warning" if many else "note",
                f"{counted(len(surplus), 'copy', 'copies')} within a split, "
                f"{_alike(records, kind)}: {named(records.named(small[0]))}. They "
                "count twice, in training and in results.",
                "Leave out all but one of each.",
                records.named(members),
                records.files(surplus),
                tuple(members),
            )
        )
    return findings


def classes(records: Records) -> list[Finding]:
    """Check the sizes of classes, and whether each split has examples of all."""
    if records.task == "regression" or not len(records):
        return []
    counts = {
        split: Counter(
            name
            for label, own in zip(records.labels, records.splits, strict=True)
            if own == split and label is not None
            for name in ((label,) if isinstance(label, str) else label)
        )
        for split in NAMES
    }
    every = sorted(set().union(*counts.values()))
    findings = [
        *_missing(records, counts, every),
        *_small(counts["train"], every),
        *_imbalanced(counts["train"], records.task),
        *_spelled_alike(every),
    ]
    if len(every) < 2 and records.task == "single-label":
        findings.append(
            Finding(
                "one-class",
                "error",
                f"All examples are of one class, {named(every)}: there is nothing to "
                "learn.",
                "Give one folder, or one label, for each class.",
                tuple(every),
            )
        )
    return findings


def _spelled_alike(every) -> list[Finding]:
    """Report classes whose names differ by capitals and spaces alone."""
    by_spelling = defaultdict(list)
    for name in every:
        by_spelling["".join(str(name).casefold().split())].append(str(name))
    alike = [names for names in by_spelling.values() if len(names) > 1]
    if not alike:
        return []
    return [
        Finding(
            "classes-spelled-alike",
            "warning",
            f"{counted(len(alike), 'class', 'classes')} in several spellings: "
            f"{named([' and '.join(names) for names in alike])}. Each spelling is a "
            "class of its own.",
            "Give each class one spelling, if they are meant to be the same.",
            tuple(name for names in alike for name in names),
        )
    ]


def _missing(records, counts, every) -> list[Finding]:
    findings = []
    for split in NAMES:
        present = counts[split]
        if split not in set(records.splits) or len(present) == len(every):
            continue
        missing = tuple(name for name in every if not present[name])
        consequence = {
            "train": "they cannot be learned",
            "validation": "the epoch is chosen without them",
            "test": "nothing is measured of them",
        }[split]
        findings.append(
            Finding(
                f"class-missing-in-{split}",
                "error" if split == "train" else "warning",
                f"The {split} split has no examples of {len(missing)} of "
                f"{len(every)} classes ({named(missing)}): {consequence}.",
                f"Add examples of these classes to {split}, or remove the classes.",
                missing,
            )
        )
    return findings


def _small(counts, every) -> list[Finding]:
    small = tuple(name for name in every if 0 < counts[name] < _SMALL)
    if not small:
        return []
    listed = tuple(f"{name} ({counts[name]})" for name in small)
    return [
        Finding(
            "small-class",
            "warning",
            f"Of {counted(len(small), 'class', 'classes')} there are fewer than "
            f"{_SMALL} training examples: {named(listed)}.",
            "Collect more of them, merge classes, or see the recipe few_labels.",
            listed,
        )
    ]


def _imbalanced(counts, task) -> list[Finding]:
    if len(counts) < 2:
        return []
    (largest, most), (smallest, fewest) = (
        counts.most_common()[0],
        counts.most_common()[-1],
    )
    ratio = most / fewest
    if ratio < _IMBALANCE / 2:
        return []
    says = "A high accuracy says little"
    remedy = "Read recall and F1 of each class"
    if task == "single-label":
        says += (
            f": {most / counts.total():.0%} is what answering {largest} always gives"
        )
        remedy = "Use `--class-weights`, and read recall and F1 of each class"
    return [
        Finding(
            "class-imbalance",
            "warning" if ratio >= _IMBALANCE else "note",
            f"{largest} has {ratio:.0f} times as many training examples as {smallest} "
            f"({most:,} and {fewest:,}). {says}.",
            f"{remedy}.",
            (f"{largest} ({most:,})", f"{smallest} ({fewest:,})"),
        )
    ]
