"""A folder of image files as three splits."""

import hashlib
from collections import defaultdict
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal

from keras_tl import errors, progress
from keras_tl.data import images, layout
from keras_tl.data.sources import ImageFiles
from keras_tl.data.splits import Split, Splits

# Splits that lose a copy to another: what reports wins over what chooses.
_RANK = {"train": 0, "validation": 1, "test": 2}


@dataclass(frozen=True)
class _File:
    """One image file.

    Attributes:
        path: Where it is.
        split: Name of its split.
        label: Name of its class.
        sha256: Hash of its bytes.
        image: Result of decoding it.
    """

    path: Path
    split: str
    label: str
    sha256: str
    image: images.Checked


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
    without `validation` and `test` beside `train`, in many spellings, see
    `layout.find`. A split that is missing is drawn from train, class by class, in the
    order of a hash of seed and content: names, dates and the order of files do not
    matter. Images of the same pixels, whatever their format, stay in one split, and
    count once in a split that is drawn: the others are left out of it.

    What is left out, such as files that are no images, is in `Splits.origin`.

    Args:
        path: The folder.
        seed: Seed of the drawing.
        bad_images: "error" lists everything that cannot be used in one error; "skip"
            leaves it out and counts it: what is empty, truncated, animated or cannot be
            read, images that stand in two splits, and images that stand under two
            classes.
        validation: Share of train drawn for validation where there is none, in (0, 1).
        test: Share of train drawn for test where there is none, in (0, 1).

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
    content = layout.find(folder)
    files = _check(content.entries)
    bad = [*content.bad, *((f.path, f.image.problem) for f in files if f.image.problem)]
    files = [file for file in files if not file.image.problem]
    bad += _copies(files, folder)
    if bad and bad_images == "error":
        raise errors.InputError(_list(bad, folder))
    skipped = {file_path for file_path, _ in bad}
    files = [file for file in files if file.path not in skipped]
    class_names = _class_names(files, content.entries, folder)

    given = {file.split for file in files}
    shares = {"validation": validation, "test": test}
    drawn = {name: share for name, share in shares.items() if name not in given}
    files, again = _draw(files, class_names, drawn, seed)
    how = "the splits of its subfolders."
    if drawn:
        how = (
            f"{' and '.join(drawn)} drawn from the training images by content hash, "
            f"class by class, seed {seed}."
        )
    left_out = [
        *content.left_out,
        *((path, "bad images") for path in skipped),
        *((file.path, "copies of drawn images") for file in again),
    ]
    _warn(folder, files, content)
    _warn_of_missing(given, files, class_names)
    return Splits(
        **{name: _split(files, name, class_names) for name in layout.SPLITS},
        class_names=class_names,
        origin=f"Folder {folder.resolve().name}: {how}{_left_out(left_out, folder)}",
    )


def _class_names(files, entries, folder) -> list[str]:
    """Return the classes of the training images, sorted."""
    class_names = sorted({file.label for file in files if file.split == "train"})
    every = {label for _, _, label in entries}
    extra = sorted(every - set(class_names))
    if extra:
        raise errors.InputError(
            f"Every class must have training images. Without any that can be used in "
            f"{folder}: {', '.join(extra[:5])}."
        )
    return class_names


# Width of an image over its height, or the reverse, from which it is called narrow: the
# centred square is less than a quarter of it.
_NARROW = 4


def _warn(folder, files, content):
    """Warn of what is probably not as intended."""
    lost = [
        path
        for path, reason in content.left_out
        if path.suffix.lower() in images.UNREAD_EXTENSIONS
        or reason in ("folders without images", "images in no folder of a class")
    ]
    if lost:
        errors.warn(
            f"Files or folders of {folder} that are left out and may have been meant "
            f"as images: {len(lost):,} ({_some(lost, folder)})."
        )
    narrow = [f.path for f in files if max(f.image.size) > _NARROW * min(f.image.size)]
    if narrow:
        errors.warn(
            f"Images more than {_NARROW} times as long as wide, of which models see "
            f"only the square in the middle: {len(narrow):,} "
            f"({_some(narrow, folder)}). Cut them into squares, if the rest matters."
        )
    images.warn_of_dark([file.image for file in files])


def _warn_of_missing(given, files, class_names):
    """Warn of classes that a given split has no images of."""
    for split in sorted(given - {"train"}):
        present = {file.label for file in files if file.split == split}
        missing = [name for name in class_names if name not in present]
        if missing:
            use = "nothing is measured of them"
            if split == "validation":
                use = "the epoch is chosen without them"
            errors.warn(
                f"The {split} split has no images of {len(missing)} of "
                f"{len(class_names)} classes ({', '.join(missing[:5])}): {use}."
            )


def _some(paths, folder) -> str:
    """Name the first of some paths."""
    names = ", ".join(_short(path, folder) for path in sorted(paths)[:3])
    return names if len(paths) <= 3 else f"{names} and {len(paths) - 3:,} more"


def _left_out(left_out, folder) -> str:
    """Describe what is not used, as a sentence, or as nothing."""
    by_reason = defaultdict(list)
    for path, reason in left_out:
        by_reason[reason].append(path)
    listed = [
        f"{reason} {len(paths):,} ({_some(paths, folder)})"
        for reason, paths in sorted(by_reason.items())
    ]
    return f" Left out: {'; '.join(listed)}." if listed else ""


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
        for place in layout.subfolders(Path(path))
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
        for _, split in domain.items():
            for path, pixels in zip(
                split.inputs.paths, split.inputs.hashes(), strict=True
            ):
                other, first = seen.setdefault(pixels, (name, path))
                if other != name:
                    raise errors.InputError(
                        f"{path} is the same image as {first}, in another domain. "
                        "Remove one of them, or both."
                    )


def _check(entries) -> list[_File]:
    """Read every file once: hash and check it."""

    def check(entry):
        path, split, label = entry
        try:
            content = path.read_bytes()
        except OSError as error:
            problem = images.Checked(f"cannot be read: {error.strerror or error}")
            return _File(path, split, label, "", problem)
        digest = hashlib.sha256(content).hexdigest()
        return _File(path, split, label, digest, images.check(content))

    with ThreadPoolExecutor() as pool:
        results = pool.map(check, entries)
        return list(progress.track(results, "checking images", len(entries)))


def _copies(files: Sequence[_File], folder: Path) -> list[tuple[Path, str]]:
    """List the images that must not be used, since they are in two places."""
    by_pixels = defaultdict(list)
    for file in files:
        by_pixels[file.image.pixels].append(file)
    bad = []
    for same in by_pixels.values():
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


def _list(bad, folder):
    lines = [f"  {_short(path, folder)}: {problem}" for path, problem in bad[:20]]
    if len(bad) > 20:
        lines.append(f"  and {len(bad) - 20} more")
    listing = "\n".join(lines)
    return (
        f"{len(bad)} images or folders in {folder} cannot be used:\n{listing}\n"
        "Remove or repair them, or leave them out with `bad_images='skip'` "
        "(on the command line: --bad-images skip)."
    )


def _draw(files, class_names, shares, seed) -> tuple[list[_File], list[_File]]:
    """Move training files to the splits in `shares`, class by class.

    Returns:
        The files of all splits, and those left out: copies of files that were moved.
    """
    moved = [file for file in files if file.split != "train"]
    left_out = []
    for label in class_names:
        by_pixels = defaultdict(list)
        for file in files:
            if file.split == "train" and file.label == label:
                by_pixels[file.image.pixels].append(file)
        blocks = [
            sorted(block, key=lambda file: (file.sha256, file.path))
            for block in by_pixels.values()
        ]
        blocks.sort(
            key=lambda block: hashlib.sha256(
                f"{seed} {block[0].sha256}".encode()
            ).digest()
        )
        needed = 1 + len(shares)
        if len(blocks) < needed:
            raise errors.InputError(
                f"Each class must have at least {needed} different images that can be "
                f"used, one for each split that has to be drawn. {label!r} has "
                f"{len(blocks)}."
            )
        start = 0
        for split, share in shares.items():
            count = max(1, round(share * len(blocks)))
            for first, *others in blocks[start : start + count]:
                moved.append(replace(first, split=split))
                left_out += others
            start += count
        for block in blocks[start:]:
            moved += block
    return sorted(moved, key=lambda file: file.path), left_out


def _split(files, name, class_names) -> Split:
    numbers = {label: number for number, label in enumerate(class_names)}
    chosen = [file for file in files if file.split == name]
    inputs = ImageFiles(
        tuple(file.path for file in chosen),
        known=tuple((bytes.fromhex(f.sha256), f.image.pixels) for f in chosen),
    )
    return Split(inputs, [numbers[file.label] for file in chosen])
