"""List the files of a folder with their splits and classes, and all the rest.

Whatever the folder holds is used, or listed with the reason why it is not.
"""

import os
import re
import unicodedata
from collections import defaultdict
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

from keras_tl import config, errors
from keras_tl.data import packs
from keras_tl.data.choices import NOUNS
from keras_tl.data.kinds import IMAGE, Kind

# Words that name the folder of a split.
SPLITS = {
    "train": ("train", "training", "trainval", "train val"),
    "validation": ("validation", "val", "valid", "dev", "eval", "evaluation"),
    "test": ("test", "testing", "holdout"),
}
# Examples without classes, which many datasets keep beside their splits.
UNLABELLED = "unlabelled"
_WORDS = {
    **{word: split for split, words in SPLITS.items() for word in words},
    **dict.fromkeys(
        ("unlabeled", "unlabelled", "unsup", "pred", "prediction", "predictions"),
        UNLABELLED,
    ),
}
# Words that add nothing to those above: training_set, TestImages, valdata.
_ADDED = (
    r"(?:sets?|data|datasets?|splits?|folders?|images?|imgs?|photos?|pictures?|audio|"
    r"sounds?|clips?|wavs?|recordings?)"
)
_NAME = re.compile(f"(?:{_ADDED} )*({'|'.join(_WORDS)}) ?(?:{_ADDED} ?)*")

# Levels that an archive adds at most.
_DEEPEST = 4

# Folders that are made by systems, not by people; those with a leading dot likewise.
_SYSTEM = ("__MACOSX", "@eaDir", "$RECYCLE.BIN", "lost+found")

_READ_ALREADY = "links to folders that are read already"
# Their figures are images, too.
_RUNS = "runs of keras-tl"


@dataclass(frozen=True)
class Layout:
    """The content of a folder of classes.

    Attributes:
        entries: Path, split and class of each file of its kind, sorted.
        bad: Path and problem of what cannot be read, as the rest of a sentence.
        left_out: Path and reason, a noun phrase, of all else that is not used. Hidden
            files and folders, and those of systems, are not listed.
    """

    entries: tuple[tuple[Path, str, str], ...]
    bad: tuple[tuple[Path, str], ...]
    left_out: tuple[tuple[Path, str], ...]


def files_in(folder: Path, kind: Kind = IMAGE) -> tuple[list[Path], list, list]:
    """List the files of a kind in a folder and those below it, or in a pack.

    Returns:
        The files, in a fixed order; path and problem of what cannot be read; path and
        reason of what is left out.
    """
    if packs.is_pack(folder):
        pack = packs.read(folder)
        if pack.about["kind"] != kind.name:
            nouns = NOUNS[pack.about["kind"]]
            return [], [], [(folder, f"packed {nouns}")]
        return [path for path, _ in pack.examples], [], []
    collected = _Collected(kind)
    paths = list(collected.files(folder, note=True))
    return paths, collected.bad, collected.left_out


def split_of(name: str) -> str | None:
    """Return the split that the name of a folder stands for, if it does.

    >>> split_of("Training"), split_of("test_set"), split_of("valImages2")
    ('train', 'test', 'validation')
    >>> split_of("test_tube") is None
    True
    """
    match = _NAME.fullmatch(_spelled(name))
    return None if match is None else _WORDS[match.group(1)]


def _spelled(name):
    """Spell a name as words in lower case, without numbers."""
    name = unicodedata.normalize("NFKC", name)
    name = re.sub(r"(?<=[a-z])(?=[A-Z])", " ", name)
    return " ".join(re.findall(r"[^\W\d_]+", name.casefold()))


def find(
    folder: Path, kind: Kind = IMAGE, label_of: Callable[[Path], str] | None = None
) -> Layout:
    """List what is in a folder of classes.

    The folders of splits are known by their names, in many spellings: `train`,
    `Training`, `training_set`, `seg_train` beside `seg_test`, and so on. A folder that
    holds nothing but one folder of folders stands for that, as archives unpack. Links
    are followed, once.

    Args:
        folder: The folder.
        kind: Kind of its files.
        label_of: Returns the class of a file; by default that is the folder in the
            folder of its split.

    Raises:
        InputError: The folder is absent or laid out otherwise.
    """
    if not folder.exists():
        raise errors.expected("data", "be a folder that exists", str(folder))
    if not folder.is_dir():
        raise errors.expected("data", f"be a folder: {kind.layout}", str(folder))
    collected = _Collected(kind, label_of)
    folder = _unpacked(folder, collected)
    children = collected.folders(folder)
    by_split = _by_split(children)
    if not by_split:
        collected.classes("train", folder, children)
    else:
        _check_splits(folder, by_split, kind)
        collected.loose(folder)
        _check_others(folder, by_split, children, collected)
        for split, (parent,) in by_split.items():
            parent = _unpacked(parent, collected, split)
            if split == UNLABELLED:
                collected.without_class(parent)
            else:
                collected.classes(split, parent, collected.folders(parent))
    if not collected.entries and not collected.bad:
        raise errors.expected(
            "data",
            f"hold {kind.nouns} as {kind.layout}",
            str(folder),
            _listed(collected.left_out, folder),
        )
    return Layout(
        tuple(sorted(collected.entries)),
        tuple(collected.bad),
        tuple(collected.left_out),
    )


def _listed(left_out, folder):
    lines = [
        reason if path == folder else f"{path.relative_to(folder)}: {reason}"
        for path, reason in left_out[:5]
    ]
    if not lines:
        return "It holds none."
    hint = ""
    if any(path.is_file() for path, _ in left_out[:5]):
        hint = " Where names of files hold the classes: --labels REGEX."
    return f"It holds {'; '.join(lines)}.{hint}"


def _by_split(children) -> dict[str, list[Path]]:
    """Return the folders of splits among `children`, by split."""
    by_split, prefixed = defaultdict(list), defaultdict(list)
    for child in children:
        split = split_of(child.name)
        if split is not None:
            by_split[split].append(child)
            continue
        words = _spelled(child.name).split()
        splits = [word for word in words if word in _WORDS]
        if len(splits) == 1:
            words[words.index(splits[0])] = "*"
            prefixed[tuple(words)].append((_WORDS[splits[0]], child))
    # `seg_train` beside `seg_test` are splits; `bullet_train` alone is a class.
    for members in prefixed.values():
        splits = {split for split, _ in members}
        if "train" in splits and len(splits) > 1:
            for split, child in members:
                by_split[split].append(child)
    if set(by_split) == {UNLABELLED}:
        return {}
    return by_split


def _check_splits(folder, by_split, kind):
    for split, parents in by_split.items():
        if len(parents) > 1:
            names = ", ".join(parent.name for parent in parents)
            raise errors.InputError(
                f"{folder} has several {split} folders: {names}. Keep one, or join "
                "them."
            )
    if "train" not in by_split:
        names = ", ".join(parent.name for (parent,) in by_split.values())
        raise errors.InputError(
            f"{folder} has folders named like splits ({names}), and none called train. "
            f"Name the folder of the training {kind.nouns} train; a class whose name "
            "is that of a split needs another one."
        )


def _check_others(folder, by_split, children, collected):
    """Refuse files that stand beside the folders of splits; list other folders."""
    known = [parent for parents in by_split.values() for parent in parents]
    others = [child for child in children if child not in known]
    used = [child.name for child in others if any(collected.files(child))]
    if used:
        raise errors.InputError(
            f"{folder} has folders of splits ({', '.join(p.name for p in known)}) and "
            f"beside them others with {collected.kind.nouns}: {', '.join(used[:5])}. "
            "Move those into the folder of a split, if they are classes, or out of "
            "this one. A class whose name is that of a split needs another name."
        )
    collected.left_out += [(child, collected.without) for child in others]


def _unpacked(folder, collected, split=None) -> Path:
    """Descend while a folder holds no examples and but one folder of folders.

    In the folder of a split, that must be named like it: it could be its only class.
    """
    for _ in range(_DEEPEST):
        children = subfolders(folder)
        if len(children) != 1 or any(map(collected.is_usable, _files(folder))):
            return folder
        (child,) = children
        same = child.name.casefold() == folder.name.casefold()
        if split_of(child.name) != split and not (split and same):
            return folder
        if not subfolders(child):
            return folder
        collected.loose(folder)
        folder = child
    return folder


def _is_shown(name):
    return not name.startswith(".") and name not in _SYSTEM


def _is_run(folder):
    # Unlike those of `Path`, these are false where there is no permission to look.
    if not os.path.isfile(folder / "config.json"):
        return False
    return any(
        os.path.exists(folder / name) for name in ("manifest.json", config.STATE)
    )


def subfolders(folder: Path) -> list[Path]:
    """List the folders in a folder, sorted, without hidden ones.

    Raises:
        InputError: The folder cannot be read.
    """
    try:
        return sorted(
            child
            for child in folder.iterdir()
            if _is_shown(child.name) and child.is_dir()
        )
    except OSError as error:
        raise errors.InputError(
            f"The folder {folder} cannot be read: {error.strerror or error}."
        ) from error


def _files(folder) -> list[Path]:
    return sorted(
        child
        for child in folder.iterdir()
        if _is_shown(child.name) and not child.is_dir()
    )


class _Collected:
    """What has been seen of a folder so far; see `Layout`."""

    def __init__(self, kind, label_of=None):
        self.kind: Kind = kind
        self.label_of = label_of
        self.without = folders_without(kind)
        self.entries: list[tuple[Path, str, str]] = []
        self.bad: list[tuple[Path, str]] = []
        self.left_out: list[tuple[Path, str]] = []

    def is_usable(self, path: Path) -> bool:
        """Return whether a file is of the kind."""
        return path.is_file() and self.kind.is_usable(path)

    def folders(self, folder: Path) -> list[Path]:
        """List the folders in a folder; none of one that cannot be read."""
        try:
            children = subfolders(folder)
        except errors.InputError:
            self.bad.append((folder, "cannot be read: it is a folder without access"))
            return []
        place = Path(os.path.realpath(folder))
        up = {place, *place.parents}
        links = [child for child in children if Path(os.path.realpath(child)) in up]
        self.left_out += [(child, _READ_ALREADY) for child in links]
        runs = [child for child in children if _is_run(child)]
        self.left_out += [(child, _RUNS) for child in runs]
        return [child for child in children if child not in (*links, *runs)]

    def classes(self, split: str, parent: Path, children: list[Path]) -> None:
        """Add the files of the classes in the folder of a split."""
        if self.label_of is not None:
            files = self.files(parent, note=True)
            self.entries += [(path, split, self.label_of(path)) for path in files]
            return
        seen = len(self.left_out)
        self.loose(parent)
        if not children and len(self.left_out) == seen:
            self.left_out.append((parent, self.without))
        for child in children:
            entries, left_out = len(self.entries), len(self.left_out)
            for path in self.files(child, note=True):
                self.entries.append((path, split, _class_name(child)))
            if len(self.entries) > entries:
                continue
            of_child = self.left_out[left_out:]
            if {reason for _, reason in of_child} == {_RUNS}:
                continue
            suffixes = {path.suffix.lower() for path, _ in of_child}
            unread = sorted(suffixes & set(self.kind.unread))
            if unread:
                problem = (
                    f"holds no {self.kind.nouns} but {', '.join(unread)}; save them as "
                    f"{self.kind.format}"
                )
                self.bad.append((child, problem))
            else:
                self.left_out.append((child, self.without))

    def loose(self, folder: Path) -> None:
        """List the files that are in a folder of folders, and so of no class."""
        try:
            paths = _files(folder)
        except OSError:
            return  # Listed by `folders`.
        for path in paths:
            usable = self.is_usable(path)
            reason = in_no_class(self.kind) if usable else self._about(path)
            self.left_out.append((path, reason))

    def without_class(self, folder: Path) -> None:
        """List the files of a folder without classes."""
        reason = f"unlabelled {self.kind.nouns}"
        self.left_out += [(path, reason) for path in self.files(folder, note=True)]

    def files(self, folder: Path, note: bool = False) -> Iterator[Path]:
        """Yield the files of the kind in a folder and those below it, in a fixed order.

        Args:
            folder: The folder of a class.
            note: Whether to list what is of no such kind, or cannot be read.
        """
        seen = {Path(os.path.realpath(folder))}
        above = set(Path(os.path.realpath(folder)).parents)
        problems = []
        walk = os.walk(folder, followlinks=True, onerror=problems.append)
        for place, names, file_names in walk:
            if note and not names and not file_names and Path(place) != folder:
                self.left_out.append((Path(place), "empty folders"))
            followed = []
            for name in sorted(filter(_is_shown, names)):
                target = Path(os.path.realpath(os.path.join(place, name)))
                if target in seen or target in above:
                    if note:
                        self.left_out.append((Path(place, name), _READ_ALREADY))
                    continue
                if _is_run(target):
                    if note:
                        self.left_out.append((Path(place, name), _RUNS))
                    continue
                seen.add(target)
                followed.append(name)
            names[:] = followed
            for name in sorted(filter(_is_shown, file_names)):
                path = Path(place, name)
                if self.is_usable(path):
                    yield path
                elif note and path.is_symlink() and not path.exists():
                    self.bad.append((path, "is a link to a file that does not exist"))
                elif note:
                    self.left_out.append((path, self._about(path)))
        if note:
            for error in problems:
                path = Path(error.filename)
                self.bad.append((path, f"cannot be read: {error.strerror}"))

    def _about(self, path) -> str:
        """Return what a file is that is not of the kind, in the plural."""
        suffix = path.suffix.lower()
        if not path.is_file():
            return "things that are no files"
        if suffix:
            return f"{suffix} files"
        return f"files without suffix that are no {self.kind.nouns}"


def folders_without(kind: Kind) -> str:
    """Return the reason to leave out a folder in which there is nothing of a kind."""
    return f"folders without {kind.nouns}"


def in_no_class(kind: Kind) -> str:
    """Return the reason to leave out a file that is in no folder of a class."""
    return f"{kind.nouns} in no folder of a class"


def _class_name(folder) -> str:
    """Return the name of a class, in the one Unicode form for all systems."""
    try:
        folder.name.encode()
    except UnicodeEncodeError as error:
        raise errors.InputError(
            f"The name of the folder {str(folder)!r} is not UTF-8. Rename it: it is "
            "the name of a class."
        ) from error
    return unicodedata.normalize("NFC", folder.name)
