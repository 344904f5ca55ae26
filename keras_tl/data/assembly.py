"""Splits of files, wherever their labels come from: checked, and drawn."""

import hashlib
import re
from collections import Counter, defaultdict
from collections.abc import Callable, Collection, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np

from keras_tl import errors, progress
from keras_tl.data import drawing, duplicates, images, layout
from keras_tl.data.choices import BadFiles, Resize, Task
from keras_tl.data.kinds import IMAGE, Checked, Kind, Reader
from keras_tl.data.splits import Split, Splits

NAMES = ("train", "validation", "test")

# Splits that lose a copy to another: what reports wins over what chooses.
_RANK = {"train": 0, "validation": 1, "test": 2}

Label = str | tuple[str, ...] | tuple[float, ...]


@dataclass(frozen=True)
class Entry:
    """A file, or a text in a table, with what is known of it.

    Attributes:
        path: The file; of a text in a table, the table and its line, `reviews.csv:17`.
        split: "train", "validation" or "test".
        label: Name of its class; names of its labels; or its numbers.
        group: What it shares with the files that have to be in the same split, such as
            a patient or a speaker; `None` where it stands alone.
        text: The text; `None` where `path` is a file.
    """

    path: Path
    split: str
    label: Label
    group: str | None = None
    text: str | None = None


@dataclass(frozen=True)
class Options:
    """How files become splits.

    Attributes:
        seed: Seed of the drawing.
        bad_files: "error" lists everything that cannot be used in one error; "skip"
            leaves it out and counts it: what is empty, truncated, animated, silent or
            cannot be read, what stands in two splits, and what has two labels.
        validation: Share of train drawn for validation where there is none, in (0,
            0.5).
        test: Share of train drawn for test where there is none, in (0, 0.5).
        groups: Regular expression, of which the first group, or all that it matches,
            names the group of a file: files of a group stay in one split. It is
            searched for in the path below the folder. For a table, its column of that
            name.
        labels: Regular expression, of which the first group, or all that it matches,
            names the class of a file. It is searched for in the path below the folder,
            whose sub-folders then mean nothing. `None` takes those as classes.
        encoding: Encoding of tables and texts, see `text.read_file`.
        leave_out: Paths of files that are not used, such as `keras-tl check` lists.
        image_size: Side of the squares that images are decoded to while they are
            checked, so that they are read only once; or a function that returns it,
            from the number of images and their shorter side in pixels, the median of
            some of them. `None` decodes them again later.
        resize: How an image becomes a square, see `images.decode`.
    """

    seed: int = 0
    bad_files: BadFiles = "error"
    validation: float = 0.15
    test: float = 0.15
    groups: str | None = None
    labels: str | None = None
    encoding: str = "utf-8"
    leave_out: Sequence[Path] = ()
    image_size: int | Callable[[int, float], int] | None = None
    resize: Resize = "crop"

    def __post_init__(self):
        if self.bad_files not in ("error", "skip"):
            raise errors.unknown("bad_files", self.bad_files, ("error", "skip"))
        if self.resize not in images.RESIZE:
            raise errors.unknown("resize", self.resize, images.RESIZE)
        for name in ("validation", "test"):
            share = getattr(self, name)
            if not 0 < share < 0.5:
                raise errors.expected(name, "be in (0, 0.5)", share)
        if self.groups is not None:
            pattern("groups", self.groups)
        if self.labels is not None:
            pattern("labels", self.labels)
        errors.check_encoding(self.encoding)


def pattern(argument: str, expression: str) -> re.Pattern:
    """Compile the regular expression of an option.

    Raises:
        InputError: It is none.
    """
    try:
        return re.compile(expression)
    except re.error as error:
        column = "a column, or " if argument == "groups" else ""
        raise errors.expected(
            argument,
            f"be {column}a regular expression whose group names the "
            f"{argument.removesuffix('s')}",
            expression,
            f"It is no regular expression: {error}.",
        ) from error


def matched(
    argument: str, expression: str, folder: Path, kind: Kind, path: Path
) -> str:
    """Return what a regular expression names in the path of a file below a folder.

    Raises:
        InputError: It does not match.
    """
    match = pattern(argument, expression).search(short(path, folder))
    if match is None:
        raise errors.expected(
            argument,
            f"match the path of every {kind.noun}",
            expression,
            f"It does not match {short(path, folder)}.",
        )
    return _named_by(match)


def search(argument: str, expression: str, path: str) -> str | None:
    """Return what a regular expression names in a path; `None` if it does not match.

    >>> search("groups", "_([a-z]+)_", "yes/7_ann_3.wav")
    'ann'
    """
    match = pattern(argument, expression).search(path)
    return None if match is None else _named_by(match)


def _named_by(match: re.Match) -> str | None:
    return match.group(1 if match.re.groups else 0)


def is_column(groups: str) -> bool:
    """Return whether `groups` means the column of a table, not a regular expression.

    >>> is_column("patient"), is_column("([a-z]+)_")
    (True, False)
    """
    return re.fullmatch(r"[\w ]+", groups) is not None


@dataclass(frozen=True)
class File:
    """A file that has been read.

    Attributes:
        entry: Where it is, and what is known of it.
        sha256: Hash of its bytes, as hexadecimal digits.
        checked: Result of decoding it.
    """

    entry: Entry
    sha256: str
    checked: Checked

    @property
    def path(self) -> Path:
        """Where the file is."""
        return self.entry.path

    @property
    def split(self) -> str:
        """Name of its split."""
        return self.entry.split

    @property
    def label(self) -> Label:
        """Its class, labels or numbers."""
        return self.entry.label


Problem = tuple[Path, str]


@dataclass(frozen=True)
class Content:
    """Files of a dataset, all of which have been read once.

    Attributes:
        folder: The folder, or that of the table.
        name: What the data are called, such as "Folder flowers".
        task: See `Splits.task`.
        files: Those that can be decoded.
        bad: Path and problem of what cannot be used, as the rest of a sentence.
        left_out: Path and reason of what is not used.
        kind: Kind of the files.
        reader: How they are read.
        columns: Name of each number, where numbers are predicted.
        near: int `(pairs, 2)`, indices of files that are nearly the same, see
            `duplicates`.
    """

    folder: Path
    name: str
    task: Task
    files: tuple[File, ...]
    bad: tuple[Problem, ...]
    left_out: tuple[Problem, ...]
    kind: Kind
    reader: Reader
    columns: tuple[str, ...] = ()
    near: np.ndarray = field(default_factory=lambda: np.empty((0, 2), "int64"))


def read(
    entries: Sequence[Entry],
    folder: Path,
    name: str,
    options: Options,
    *,
    task: Task = "single-label",
    bad: Sequence[Problem] = (),
    left_out: Sequence[Problem] = (),
    columns: Sequence[str] = (),
    kind: Kind = IMAGE,
) -> Content:
    """Read every file once: hash it, check it, and decode it as a model takes it.

    Args:
        entries: The files.
        folder: See `Content`.
        name: See `Content`.
        options: See `Options`.
        task: See `Content`.
        bad: What is known to be unusable already.
        left_out: What is not used.
        columns: See `Content`.
        kind: Kind of the files.
    """
    unwanted = {Path(path).absolute() for path in options.leave_out}
    listed = [e.path for e in entries if e.path.absolute() in unwanted]
    entries = [e for e in entries if e.path.absolute() not in unwanted]
    met = {path.absolute() for path in listed}
    unknown = [path for path in unwanted - met if not path.exists()]
    if unknown:
        errors.warn(
            f"Files to leave out that do not exist: {len(unknown):,} "
            f"({some(sorted(unknown), folder)})."
        )
    if options.groups is not None:
        entries = [_grouped(e, options.groups, folder, kind) for e in entries]
    reader = kind.reader([entry.path for entry in entries], options)

    def check(entry):
        try:
            content = content_of(entry)
        except OSError as error:
            problem = images.Checked(f"cannot be read: {error.strerror or error}")
            return File(entry, "", problem)
        digest = hashlib.sha256(content).hexdigest()
        given = content if entry.text is None else entry.text
        return File(entry, digest, reader.check(given))

    with ThreadPoolExecutor() as pool:
        results = pool.map(check, entries)
        files = list(progress.track(results, f"reading {kind.nouns}", len(entries)))
    good = tuple(file for file in files if not file.checked.problem)
    near = np.empty((0, 2), "int64")
    if good and kind.name == "text":
        near = duplicates.near_texts([file.checked.text for file in good])
    elif good and good[0].checked.thumbnail is not None:
        near = duplicates.near(
            np.array([file.checked.look for file in good], "uint64"),
            np.stack([file.checked.thumbnail for file in good]),
        )
    return Content(
        folder,
        name,
        task,
        good,
        (*bad, *((f.path, f.checked.problem) for f in files if f.checked.problem)),
        (
            *left_out,
            *((path, "files that were named to be left out") for path in listed),
        ),
        kind,
        reader,
        tuple(columns),
        near,
    )


def content_of(entry: Entry) -> bytes:
    """Return the content of a file, or a text in a table as bytes."""
    if entry.text is not None:
        return entry.text.encode("utf-8", "surrogatepass")
    return entry.path.read_bytes()


def without(content: Content, paths: Iterable[Path]) -> Content:
    """Return the same content without some files, such as a check has named."""
    unwanted = set(paths)
    kept = [n for n, file in enumerate(content.files) if file.path not in unwanted]
    place = {n: position for position, n in enumerate(kept)}
    pairs = [(place[a], place[b]) for a, b in content.near if {a, b} <= set(place)]
    return replace(
        content,
        files=tuple(content.files[n] for n in kept),
        left_out=(
            *content.left_out,
            *(
                (f.path, "found by the check")
                for f in content.files
                if f.path in unwanted
            ),
        ),
        near=np.array(pairs, "int64").reshape(-1, 2),
    )


def renamed(content: Content, split: str, name: str) -> Content:
    """Return the same content with another name of one of its splits."""
    files = tuple(
        replace(file, entry=replace(file.entry, split=name))
        if file.split == split
        else file
        for file in content.files
    )
    return replace(content, files=files)


def grouped(content: Content, groups: str) -> Content:
    """Return the same content with the groups that the names of some files hold.

    Args:
        content: The files.
        groups: Regular expression, see `Options`; a file that it does not match stands
            alone.
    """
    files = tuple(
        replace(file, entry=replace(file.entry, group=group))
        for file in content.files
        for group in [search("groups", groups, short(file.path, content.folder))]
    )
    return replace(content, files=files)


def _grouped(entry, groups, folder, kind) -> Entry:
    if entry.text is not None:
        raise errors.expected("groups", "be a column of the table", groups)
    return replace(entry, group=matched("groups", groups, folder, kind, entry.path))


def assemble(content: Content, options: Options) -> Splits:
    """Make three splits of files that have been read.

    A split that is missing is drawn from train, class by class, in the order of a hash
    of seed and content: names, dates and the order of files do not matter. Files of
    the same content, such as the same pixels, whatever their format, stay in one split,
    and count once in a split that is drawn: the others are left out of it. Those that
    are nearly the same, and those of a group, stay in one split as well.

    Raises:
        InputError: Files that cannot be used, a group in several of the given splits,
            or too few examples of a class.
    """
    folder = content.folder
    used, unused = _usable(content, options)
    _check_groups(content, used)
    files = [content.files[n] for n in used]
    class_names = _class_names(content, files)
    given = {file.split for file in files}
    drawn = _missing(files, options)
    again = []
    if drawn:
        files, again = _draw(content, used, drawn, options)
    left_out = [
        *content.left_out,
        *unused,
        *((file.path, f"copies of drawn {content.kind.nouns}") for file in again),
    ]
    _warn(content, files)
    _warn_of_missing(content, given, files, class_names)
    return Splits(
        **{name: _split(content, files, name, class_names) for name in NAMES},
        class_names=class_names,
        origin=f"{content.name}: {_how(content, drawn, options)}"
        f"{_about(content, files)}{_left_out(left_out, folder)}",
        task=content.task,
    )


def parts(
    content: Content,
    class_names: Sequence[str],
    options: Options,
    *,
    undivided: Collection[str] = (),
) -> dict[str, Split]:
    """Make splits of files whose classes are some of those that are known already.

    As `assemble`, but a split may be empty, and any number of classes will do.

    Args:
        content: The files, each of exactly one class.
        class_names: Names of all classes, in the order of their numbers.
        options: How they become splits.
        undivided: Classes with too few examples to draw from, all of which train.

    Returns:
        Name of the split -> the examples, which may be none.

    Raises:
        InputError: Files that cannot be used, or too few examples of another class.
    """
    used, _ = _usable(content, options)
    whole = [n for n in used if content.files[n].label in undivided]
    rest = [n for n in used if content.files[n].label not in undivided]
    files = [content.files[n] for n in rest]
    drawn = _missing(files, options)
    if files and drawn:
        files, _ = _draw(content, rest, drawn, options)
    files = sorted(
        [*files, *(content.files[n] for n in whole)], key=lambda file: file.path
    )
    return {name: _split(content, files, name, class_names) for name in NAMES}


def _usable(content, options) -> tuple[list[int], list[Problem]]:
    """Return the indices of the files that are used; path and reason of the others."""
    left_out = _bad(content, options)
    if not content.kind.is_unique:
        reason = f"{content.kind.nouns} of another split"
        left_out += [(path, reason) for path in _recurring(content)]
    unused = {path for path, _ in left_out}
    used = [n for n, file in enumerate(content.files) if file.path not in unused]
    return used, left_out


def usable(content: Content, options: Options) -> Content:
    """Return the same content without the files that cannot be used, left out of it.

    Raises:
        InputError: There are some, and `options` do not skip them.
    """
    left_out = _bad(content, options)
    unused = {path for path, _ in left_out}
    kept = tuple(file for file in content.files if file.path not in unused)
    left_out = (*content.left_out, *left_out)
    return replace(content, files=kept, bad=(), left_out=left_out)


def _bad(content, options) -> list[Problem]:
    """Return path and reason of the files that cannot be used; or raise them."""
    unique = content.kind.is_unique
    bad = [*content.bad, *(conflicts(content) if unique else ())]
    if bad and options.bad_files == "error":
        raise errors.InputError(_list(bad, content))
    return [(path, f"bad {content.kind.nouns}") for path, _ in bad]


def _recurring(content) -> list[Path]:
    """List the examples that stand in another split, too, which keeps them.

    Warns of them, and of equal examples with different labels, which are used.
    """
    again, differ = [], []
    for same in _copies(content):
        last = max(same, key=lambda file: _RANK[file.split])
        again += [file.path for file in same if file.split != last.split]
        if len({file.label for file in same}) > 1:
            differ += [file.path for file in same]
    noun, nouns, folder = content.kind.noun, content.kind.nouns, content.folder
    if again:
        errors.warn(
            f"Left out of training, or of validation, since they stand in a later "
            f"split as well: {errors.counted(len(again), noun, nouns)} "
            f"({some(again, folder)})."
        )
    if differ:
        errors.warn(
            f"Equal, with different labels, and used as they are: {len(differ):,} "
            f"{nouns} ({some(differ, folder)})."
        )
    return again


def _missing(files, options) -> dict[str, float]:
    """Return the splits that have no files, with the shares to draw for them."""
    given = {file.split for file in files}
    shares = {"validation": options.validation, "test": options.test}
    return {name: share for name, share in shares.items() if name not in given}


def _how(content, drawn, options) -> str:
    if not drawn:
        return "its own splits."
    by = "class by class" if content.task == "single-label" else "stratified"
    grouped = any(file.entry.group is not None for file in content.files)
    return (
        f"{' and '.join(drawn)} drawn from the training {content.kind.nouns} by "
        f"content hash, {by}, "
        f"{'groups kept together, ' if grouped else ''}seed {options.seed}."
    )


def _class_names(content, files) -> list[str]:
    """Return the classes, or labels, of the training examples, sorted."""
    if content.task == "regression":
        return list(content.columns)
    every = {name for file in content.files for name in _names(file.label)}
    class_names = sorted(
        {name for f in files if f.split == "train" for name in _names(f.label)}
    )
    every |= set(content.columns)
    extra = sorted(every - set(class_names))
    if extra:
        raise errors.InputError(
            f"Every class must have training {content.kind.nouns}. Without any that "
            f"can be used in {content.folder}: {', '.join(extra[:5])}."
        )
    return class_names


def _names(label) -> tuple[str, ...]:
    return (label,) if isinstance(label, str) else label


def _check_groups(content, used):
    """Refuse a group in several of the splits that are given."""
    first = {}
    for file in (content.files[n] for n in used):
        group = file.entry.group
        other = first.setdefault(group, file)
        if group is not None and other.split != file.split:
            raise errors.InputError(
                f"Every group must be in one split. {group!r} has {content.kind.nouns} "
                f"in {other.split} ({short(other.path, content.folder)}) and in "
                f"{file.split} ({short(file.path, content.folder)}). Move them into "
                "one, or leave out `groups`."
            )


def _about(content, files) -> str:
    about = content.reader.describe(files)
    return f" {about}" if about else ""


def _warn(content, files):
    """Warn of what is probably not as intended."""
    folder = content.folder
    lost = [
        path for path, reason in content.left_out if is_lost(path, reason, content.kind)
    ]
    if lost:
        errors.warn(
            f"Files or folders of {folder} that are left out and may have been meant "
            f"as {content.kind.nouns}: {len(lost):,} ({some(lost, folder)})."
        )
    for about, paths, remedy in content.reader.remarks(files):
        listed = f": {len(paths):,} ({some(paths, folder)})." if paths else ""
        errors.warn(f"{about}{listed} {remedy}")


def is_lost(path: Path, reason: str, kind: Kind) -> bool:
    """Return whether what is left out may have been meant as an example."""
    reasons = (layout.folders_without(kind), layout.in_no_class(kind))
    return path.suffix.lower() in kind.unread or reason in reasons


def _warn_of_missing(content, given, files, class_names):
    """Warn of classes that a given split has no examples of."""
    if content.task == "regression":
        return
    for split in sorted(given - {"train"}):
        present = {name for f in files if f.split == split for name in _names(f.label)}
        missing = [name for name in class_names if name not in present]
        if missing:
            use = "nothing is measured of them"
            if split == "validation":
                use = "the epoch is chosen without them"
            errors.warn(
                f"The {split} split has no {content.kind.nouns} of {len(missing)} of "
                f"{len(class_names)} classes ({', '.join(missing[:5])}): {use}."
            )


def some(paths: Sequence[Path], folder: Path) -> str:
    """Name the first of some paths."""
    names = ", ".join(short(path, folder) for path in sorted(paths)[:3])
    return names if len(paths) <= 3 else f"{names} and {len(paths) - 3:,} more"


def short(path: Path, folder: Path) -> str:
    """Return a path as seen from a folder."""
    inside = path.is_relative_to(folder)
    return (path.relative_to(folder) if inside else path).as_posix()


def about_left_out(content: Content) -> str:
    """Describe what is not used of some files, as a sentence, or as nothing."""
    return _left_out(content.left_out, content.folder)


def _left_out(left_out, folder) -> str:
    """Describe what is not used, as a sentence, or as nothing."""
    by_reason = defaultdict(list)
    for path, reason in left_out:
        by_reason[reason].append(path)
    listed = [
        f"{reason} {len(paths):,} ({some(paths, folder)})"
        for reason, paths in sorted(by_reason.items())
    ]
    return f" Left out: {'; '.join(listed)}." if listed else ""


def conflicts(content: Content) -> list[Problem]:
    """List the files that must not be used, since they are in two places.

    These are examples of the same content under two labels, and all but one of those
    in several splits.
    """
    bad, noun = [], content.kind.noun
    for same in _copies(content):
        if len({file.label for file in same}) > 1:
            for file in same:
                other = next(o for o in same if o.label != file.label)
                name = short(other.path, content.folder)
                bad.append((file.path, f"is the same {noun} as {name}"))
            continue
        last = max(same, key=lambda file: _RANK[file.split])
        bad += [
            (file.path, f"is the same {noun} as {short(last.path, content.folder)}")
            for file in same
            if file.split != last.split
        ]
    return bad


def _copies(content) -> Iterable[list[File]]:
    """Return the files of each content."""
    by_content = defaultdict(list)
    for file in content.files:
        by_content[file.checked.hash].append(file)
    return by_content.values()


def _list(bad, content):
    folder, kind = content.folder, content.kind
    lines = [f"  {short(path, folder)}: {problem}" for path, problem in bad[:20]]
    if len(bad) > 20:
        lines.append(f"  and {len(bad) - 20} more")
    listing = "\n".join(lines)
    names = kind.noun, kind.nouns
    if any(path.is_dir() for path, _ in bad):
        names = f"{kind.noun} or folder", f"{kind.nouns} or folders"
    return (
        f"{errors.counted(len(bad), *names)} in {folder} cannot be used:\n{listing}\n"
        "Remove or repair them, or leave them out with `bad_files='skip'` "
        "(on the command line: --bad-files skip)."
    )


def _draw(content, used, shares, options) -> tuple[list[File], list[File]]:
    """Move training files to the splits in `shares`.

    Returns:
        The files of all splits, and those left out: copies of files that were moved.
    """
    train = [n for n in used if content.files[n].split == "train"]
    files = [content.files[n] for n in train]
    place = {n: position for position, n in enumerate(train)}
    pairs = [(place[a], place[b]) for a, b in content.near if a in place and b in place]
    hashes = [file.checked.hash for file in files]
    groups = [file.entry.group for file in files]
    blocks = duplicates.blocks(hashes, groups, pairs=pairs)
    strata = _strata(content, files)
    if content.task == "single-label":
        grouped = any(group is not None for group in groups)
        different = f"different {content.kind.nouns} that can be used"
        noun = "groups" if grouped else different
        drawing.check_enough(strata, blocks, 1 + len(shares), noun)
    # The same content counts once, whatever the bytes of their files.
    first = {}
    for file in sorted(files, key=lambda file: (file.sha256, file.path)):
        first.setdefault(file.checked.hash, file)
    keys = [first[one].sha256 for one in hashes]
    drawn = drawing.draw(keys, strata, blocks, shares, options.seed)
    moved = [content.files[n] for n in used if content.files[n].split != "train"]
    left_out = []
    for file, name in zip(files, drawn, strict=True):
        if name != "train" and file is not first[file.checked.hash]:
            left_out.append(file)
        else:
            moved.append(replace(file, entry=replace(file.entry, split=name)))
    return sorted(moved, key=lambda file: file.path), left_out


def _strata(content, files) -> list:
    """Return what the drawn splits are to have in equal shares, for each file."""
    if content.task == "single-label":
        return [file.label for file in files]
    if content.task == "multi-label":
        counts = Counter(name for file in files for name in file.label)
        return [min(file.label, key=counts.get, default="") for file in files]
    values = np.array([file.label[0] for file in files])
    ranks = np.argsort(np.argsort(values, kind="stable"), kind="stable")
    return (ranks * min(5, len(files)) // max(1, len(files))).tolist()


def _split(content, files, name, class_names) -> Split:
    chosen = [file for file in files if file.split == name]
    labels = _encoded(content, chosen, class_names)
    return Split(content.reader.source(chosen), labels)


def _encoded(content, files, class_names) -> np.ndarray:
    """Return the labels of some files as `Split` has them."""
    numbers = {label: number for number, label in enumerate(class_names)}
    if content.task == "single-label":
        return np.array([numbers[file.label] for file in files], "int32")
    if content.task == "multi-label":
        rows = np.zeros((len(files), len(class_names)), "float32")
        for row, file in zip(rows, files, strict=True):
            row[[numbers[name] for name in file.label]] = 1
        return rows
    rows = np.array([file.label for file in files], "float32")
    return rows.reshape(len(files), len(class_names))
