"""A folder of files, one sub-folder for each class, as three splits."""

from collections.abc import Sequence
from functools import partial
from pathlib import Path

from keras_tl import errors
from keras_tl.data import assembly, kinds, layout, packing, packs, splits
from keras_tl.data.assembly import Content, Entry, Options
from keras_tl.data.kinds import IMAGE, Kind
from keras_tl.data.splits import Split, Splits


def read(
    path: Path | str, options: Options, choices: Sequence[Kind] = (IMAGE,)
) -> Content:
    """Read all files of a folder, one sub-folder per class, once.

    The layout is `path/CLASS/image.jpg`, or `path/train/CLASS/image.jpg` with or
    without `validation` and `test` beside `train`, in many spellings, see
    `layout.find`. With `options.labels`, the names of the files hold their classes.

    Args:
        path: The folder; or a packed one, or its address, see `packs`.
        options: See `assembly.Options`.
        choices: Kinds that the files can have; they have that of most of them.

    Raises:
        InputError: The folder is absent, empty, or laid out otherwise.
    """
    if packs.is_pack(path):
        return packing.read(path, None, options, choices)
    folder = Path(path)
    kind = kinds.of_folder(folder, choices)
    label_of = None
    if options.labels is not None:
        label_of = partial(assembly.matched, "labels", options.labels, folder, kind)
    content = layout.find(folder, kind, label_of)
    return assembly.read(
        [Entry(*entry) for entry in content.entries],
        folder,
        f"Folder {folder.resolve().name}",
        options,
        bad=content.bad,
        left_out=content.left_out,
        columns=sorted({label for _, _, label in content.entries}),
        kind=kind,
    )


def from_folder(path: Path | str, **options) -> Splits:
    """Read a folder of images, one sub-folder per class, as three splits.

    See `read` for the layout, and `assembly.assemble` for how splits that are missing
    are drawn. What is left out, such as files that are no images, is in
    `Splits.origin`.

    Args:
        path: The folder.
        **options: See `assembly.Options`.

    Returns:
        Splits whose images are files; class names are sorted.

    Raises:
        InputError: The folder is absent, empty, laid out otherwise, has too few images
            of a class, or files that cannot be used.
    """
    errors.check_options(options, Options)
    chosen = Options(**options)
    return assembly.assemble(read(path, chosen), chosen)


def domains_from_folder(path: Path | str, **options) -> dict[str, Splits]:
    """Read a folder of domains, each with the same classes and split on its own.

    Args:
        path: The folder; each folder in it is a domain, laid out as for `from_folder`.
        **options: See `assembly.Options`.

    Returns:
        Name of the domain -> its splits, sorted by name.

    Raises:
        InputError: Fewer than two domains, or what `domains` refuses.
    """
    places = layout.subfolders(Path(path))
    if len(places) < 2:
        hint = "Each is a folder of classes."
        names = [place.name for place in places]
        raise errors.expected("data", "hold two domains or more", names, hint)
    return domains(places, **options)


def domains(places: Sequence[Path | str], **options) -> dict[str, Splits]:
    """Read several folders, each a domain with the same classes, split on its own.

    Args:
        places: The folders, each laid out as for `from_folder`.
        **options: See `assembly.Options`.

    Returns:
        Name of the folder -> its splits, in the order of `places`.

    Raises:
        InputError: Two folders of one name, other classes in one than in another, one
            image in two, or what `from_folder` refuses.
    """
    places = [Path(place) for place in places]
    names = [place.resolve().name for place in places]
    if len(set(names)) < len(names):
        raise errors.expected("domains", "have names of their own", names)
    by_name = {
        name: from_folder(place, **options)
        for name, place in zip(names, places, strict=True)
    }
    first, *others = by_name
    for name in others:
        check_classes(first, by_name[first], name, by_name[name])
    _check_apart(by_name)
    return by_name


def unlabelled(path: Path | str, class_names: Sequence[str] = (), **options) -> Split:
    """Read all images of a folder, and of those below it, without any label.

    Args:
        path: The folder.
        class_names: Classes of the data that the images go with.
        **options: See `assembly.Options`.

    Returns:
        The images as a training split, whose labels are not known.

    Raises:
        InputError: There is no image, one cannot be used, or a folder below is called
            as a class: whoever sorts images has labelled them.
    """
    errors.check_options(options, Options)
    chosen, folder = Options(**options), Path(path)
    paths, bad, left_out = layout.files_in(folder)
    if not paths:
        raise errors.expected("unlabelled", "be a folder of images", str(folder))
    below = {part for one in paths for part in one.relative_to(folder).parts[:-1]}
    classes = {name.casefold() for name in class_names}
    named = [name for name in below if name.casefold() in classes]
    if named:
        hint = "Images with labels belong to the data; those without, into one folder."
        raise errors.InputError(
            f"`unlabelled` must hold images without labels. Received: {folder}, with "
            f"folders that are called as classes: {_listed(named)}. {hint}"
        )
    entries = [Entry(one, "train", "") for one in paths]
    name = f"Folder {folder.resolve().name}"
    content = assembly.read(
        entries, folder, name, chosen, bad=bad, left_out=left_out, kind=IMAGE
    )
    parts = assembly.parts(content, [""], chosen, undivided=[""])
    return splits.unlabelled(parts["train"])


def check_classes(first: str, one: Splits, second: str, other: Splits) -> None:
    """Raise `InputError` unless two domains have the same classes.

    Args:
        first: Name of a domain.
        one: Its splits.
        second: Name of the other.
        other: Its splits.
    """
    if one.class_names == other.class_names:
        return
    common = set(one.class_names) & set(other.class_names)
    if not common:
        raise errors.InputError(
            f"The domains {first} and {second} have no class in common. Received: "
            f"{_listed(one.class_names)}; {_listed(other.class_names)}."
        )
    texts = [
        f"{_listed(set(has.class_names) - common)} only in {name}"
        for name, has in ((first, one), (second, other))
        if set(has.class_names) - common
    ]
    raise errors.InputError(
        "Two domains must have the same classes in each, in folders of the same names. "
        f"Received: {', '.join(texts)}."
    )


def _listed(names) -> str:
    return ", ".join(sorted(names))


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
