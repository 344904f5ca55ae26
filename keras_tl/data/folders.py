"""A folder of files, one sub-folder for each class, as three splits."""

from collections.abc import Sequence
from functools import partial
from pathlib import Path

from keras_tl import errors
from keras_tl.data import assembly, kinds, layout
from keras_tl.data.assembly import Content, Entry, Options
from keras_tl.data.kinds import IMAGE, Kind
from keras_tl.data.splits import Splits


def read(
    path: Path | str, options: Options, choices: Sequence[Kind] = (IMAGE,)
) -> Content:
    """Read all files of a folder, one sub-folder per class, once.

    The layout is `path/CLASS/image.jpg`, or `path/train/CLASS/image.jpg` with or
    without `validation` and `test` beside `train`, in many spellings, see
    `layout.find`. With `options.labels`, the names of the files hold their classes.

    Args:
        path: The folder.
        options: See `assembly.Options`.
        choices: Kinds that the files can have; they have that of most of them.

    Raises:
        InputError: The folder is absent, empty, or laid out otherwise.
    """
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
        InputError: Fewer than two domains, other classes in one than in another, one
            image in two, or what `from_folder` refuses.
    """
    domains = {
        place.name: from_folder(place, **options)
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
