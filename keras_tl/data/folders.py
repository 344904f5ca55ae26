"""A folder of image files as three splits."""

import hashlib
from collections import defaultdict
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal

import numpy as np

from keras_tl import errors, progress
from keras_tl.data import images
from keras_tl.data.splits import Split, Splits

# Accepted names of the folder of a split.
NAMES = {
    "train": ("train", "training"),
    "validation": ("validation", "val", "valid", "dev"),
    "test": ("test",),
}
LAYOUT = "FOLDER/CLASS/image.jpg, or FOLDER/train/CLASS/image.jpg with or without \
validation/ and test/ beside train/"
# Splits that lose a copy to another: what reports wins over what chooses.
_RANK = {"train": 0, "validation": 1, "test": 2}


@dataclass(frozen=True)
class _File:
    """One image file: its path, split, class, content hash and problem."""

    path: Path
    split: str
    label: str
    sha256: str
    problem: str | None


def from_folder(
    path: Path | str,
    *,
    seed: int = 0,
    bad_images: Literal["error", "skip"] = "error",
    validation: float = 0.15,
    test: float = 0.15,
) -> Splits:
    """Read a folder of images, one sub-folder per class.

    The layout is `path/CLASS/image.jpg`, or `path/train/CLASS/image.jpg` with or
    without `validation` (`val`, `valid`, `dev`) and `test` beside `train`. A split that
    is missing is drawn from train, class by class, in the order of a hash of seed and
    content: names, dates and the order of files do not matter, and copies of one image
    stay in one split.

    Args:
        path: The folder.
        seed: Seed of the drawing.
        bad_images: "error" lists every file that cannot be used in one error; "skip"
            leaves them out and counts them. Such are: empty, truncated, animated or
            mislabelled files, images that stand in two splits, and images that stand
            under two classes.
        validation: Part of train drawn for validation where there is none, in (0, 1).
        test: Part of train drawn for test where there is none, in (0, 1).

    Returns:
        Splits whose images are paths; class names are sorted.

    Raises:
        InputError: The folder is absent, empty, laid out otherwise, has too few images
            of a class, or files that cannot be used.
    """
    if bad_images not in ("error", "skip"):
        raise errors.unknown("bad_images", bad_images, ("error", "skip"))
    for name, share in (("validation", validation), ("test", test)):
        if not 0 < share < 0.5:
            raise errors.expected(name, "be in (0, 0.5)", share)
    folder = Path(path)
    entries = _find(folder)
    given = {split for _, split, _ in entries}
    class_names = sorted({label for _, split, label in entries if split == "train"})
    extra = sorted({label for _, _, label in entries} - set(class_names))
    if extra:
        raise errors.InputError(
            f"Every class must have training images. Without any in {folder}: "
            f"{', '.join(extra[:5])}."
        )
    files = _check(entries)
    bad = [(file.path, file.problem) for file in files if file.problem]
    bad += _copies([file for file in files if not file.problem], folder)
    if bad and bad_images == "error":
        raise errors.InputError(_list(bad, folder, len(files)))
    skipped = {file_path for file_path, _ in bad}
    files = [file for file in files if file.path not in skipped]

    shares = {"validation": validation, "test": test}
    drawn = {name: share for name, share in shares.items() if name not in given}
    files = _draw(files, class_names, drawn, seed)
    how = "the splits of its subfolders"
    if drawn:
        how = (
            f"{' and '.join(drawn)} drawn from the training images by content hash, "
            f"class by class, seed {seed}"
        )
    count = len(skipped)
    skipped_text = f" {count} bad image{'s' * (count > 1)} skipped." if skipped else ""
    splits = {name: _split(files, name, class_names) for name in NAMES}
    return Splits(
        **splits,
        class_names=class_names,
        origin=f"Folder {folder.name}: {how}.{skipped_text}",
    )


def domains_from_folder(
    path: Path | str,
    *,
    seed: int = 0,
    bad_images: Literal["error", "skip"] = "error",
) -> dict[str, Splits]:
    """Read a folder of domains, each with the same classes and split on its own.

    Args:
        path: The folder; each folder in it is a domain, laid out as for `from_folder`.
        seed: See `from_folder`.
        bad_images: See `from_folder`.

    Returns:
        Name of the domain -> its splits, sorted by name.

    Raises:
        InputError: Fewer than two domains, other classes in one than in another, one
            image in two, or what `from_folder` refuses.
    """
    domains = {
        place.name: from_folder(place, seed=seed, bad_images=bad_images)
        for place in _folders(Path(path))
    }
    classes = {domain.class_names for domain in domains.values()}
    if len(domains) < 2 or len(classes) > 1:
        raise errors.expected(
            "data",
            "hold two domains or more, with the same classes in each",
            f"domains {list(domains)}, classes {sorted(classes)}",
        )
    _check_apart(domains)
    return domains


def _check_apart(domains):
    """Refuse an image in two domains: it has no right one, and could be tested on."""
    seen = {}
    for name, domain in domains.items():
        for path in [
            path for _, split in domain.items() for path in split.inputs.paths
        ]:
            digest = hashlib.sha256(path.read_bytes()).digest()
            other, first = seen.setdefault(digest, (name, path))
            if other != name:
                raise errors.InputError(
                    f"{path} is the same image as {first}, in another domain. Remove "
                    "one of them, or both."
                )


def _find(folder):
    """List path, split and class of each image file, sorted."""
    if not folder.exists():
        raise errors.expected("data", "be a folder that exists", str(folder))
    if not folder.is_dir():
        raise errors.expected("data", f"be a folder: {LAYOUT}", str(folder))
    children = {child.name.lower(): child for child in _folders(folder)}
    by_split = {
        split: [children[name] for name in names if name in children]
        for split, names in NAMES.items()
    }
    if not by_split["train"]:
        by_split = {"train": [folder]}
    entries = []
    for split, parents in by_split.items():
        if len(parents) > 1:
            names = ", ".join(parent.name for parent in parents)
            raise errors.InputError(f"{folder} has several {split} folders: {names}.")
        for parent in parents:
            for child in _folders(parent):
                entries += [(path, split, child.name) for path in _images(child)]
    if not entries:
        loose = " There are images in it, but in no folder of a class." * bool(
            [path for path in folder.glob("*") if _is_image(path)]
        )
        raise errors.expected(
            "data", f"hold images as {LAYOUT}", str(folder), loose.strip()
        )
    return sorted(entries)


def _folders(folder):
    return sorted(
        child
        for child in folder.iterdir()
        if child.is_dir() and not child.name.startswith((".", "__MACOSX"))
    )


def _images(folder):
    return [
        path
        for path in folder.rglob("*")
        if _is_image(path)
        and not any(
            part.startswith((".", "__MACOSX"))
            for part in path.relative_to(folder).parts
        )
    ]


def _is_image(path):
    return path.suffix.lower() in images.EXTENSIONS and path.is_file()


def _check(entries) -> list[_File]:
    """Read every file once: hash and check it."""

    def check(entry):
        path, split, label = entry
        try:
            content = path.read_bytes()
        except OSError as error:
            return _File(path, split, label, str(path), f"cannot be read: {error}")
        digest = hashlib.sha256(content).hexdigest()
        return _File(path, split, label, digest, images.problem(path, content))

    with ThreadPoolExecutor() as pool:
        results = pool.map(check, entries)
        return list(progress.track(results, "checking images", len(entries)))


def _copies(files: Sequence[_File], folder: Path) -> list[tuple[Path, str]]:
    """List the images that must not be used, since they are in two places."""
    by_content = defaultdict(list)
    for file in files:
        by_content[file.sha256].append(file)
    bad = []
    for same in by_content.values():
        if len({file.label for file in same}) > 1:
            for file in same:
                other = next(o for o in same if o.label != file.label)
                bad.append(
                    (file.path, f"is the same image as {_short(other.path, folder)}")
                )
            continue
        last = max(same, key=lambda file: _RANK[file.split])
        bad += [
            (file.path, f"is the same image as {_short(last.path, folder)}")
            for file in same
            if file.split != last.split
        ]
    return bad


def _short(path, folder):
    return path.relative_to(folder).as_posix()


def _list(bad, folder, count):
    lines = [f"  {_short(path, folder)}: {problem}" for path, problem in bad[:20]]
    if len(bad) > 20:
        lines.append(f"  and {len(bad) - 20} more")
    listing = "\n".join(lines)
    return (
        f"{len(bad)} of {count} images in {folder} cannot be used:\n{listing}\n"
        "Remove or repair them, or leave them out with `bad_images='skip'` "
        "(on the command line: --bad-images skip)."
    )


def _draw(files, class_names, shares, seed) -> list[_File]:
    """Move training files to the splits in `shares`, class by class."""
    moved = [file for file in files if file.split != "train"]
    for label in class_names:
        by_content = defaultdict(list)
        for file in files:
            if file.split == "train" and file.label == label:
                by_content[file.sha256].append(file)
        order = sorted(
            by_content,
            key=lambda digest: hashlib.sha256(f"{seed} {digest}".encode()).digest(),
        )
        needed = 1 + len(shares)
        if len(order) < needed:
            raise errors.InputError(
                f"Each class must have at least {needed} different images that can be "
                f"used, one for each split that has to be drawn. {label!r} has "
                f"{len(order)}."
            )
        start = 0
        for split, share in shares.items():
            count = max(1, round(share * len(order)))
            for digest in order[start : start + count]:
                moved += [replace(file, split=split) for file in by_content[digest]]
            start += count
        for digest in order[start:]:
            moved += by_content[digest]
    return sorted(moved, key=lambda file: file.path)


def _split(files, name, class_names) -> Split:
    numbers = {label: number for number, label in enumerate(class_names)}
    chosen = [file for file in files if file.split == name]
    return Split(
        tuple(file.path for file in chosen),
        np.array([numbers[file.label] for file in chosen], "int32"),
    )
