"""Load data of any kind: folders, tables, arrays, the embedded sample, TFDS."""

import json
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
from PIL import Image

from keras_tl import errors
from keras_tl.data import (
    assembly,
    audio,
    drawing,
    folders,
    hugging_face,
    kinds,
    layout,
    packing,
    packs,
    stored,
    tables,
    text,
    text_files,
    tfds_data,
)
from keras_tl.data.choices import DIGITS_NAME, SAMPLE_NAME, FileKind
from keras_tl.data.images import to_rgb
from keras_tl.data.kinds import IMAGE, Kind
from keras_tl.data.settings import DataSettings, TextSettings
from keras_tl.data.splits import Split, Splits, limit

SAMPLE = Path(__file__).parents[1] / "assets" / "cifar10_sample"


def load(
    data: object = SAMPLE_NAME,
    *,
    columns: tables.Columns | None = None,
    count: int | None = None,
    kind: FileKind | None = None,
    rate: int = audio.RATE,
    seconds: float | None = None,
    **options,
) -> Splits:
    """Load data of any kind that keras-tl knows as three splits.

    Args:
        data: A folder of images, of sound or of texts, see `folders.read`; a table of
            texts or of such files with labels, or a folder with one or with one of each
            split, see `tables.from_table`; a folder that `keras-tl pack` has written,
            or its address, see `packs`; a folder that
            Hugging Face's `datasets` has saved; the name of a dataset:
            "cifar10_sample", "digits", or one that `tensorflow_datasets` knows; a
            DataFrame; a pair of arrays, see `from_arrays`, or of texts and labels, see
            `from_texts`; or `Splits`, which are returned as they are.
        columns: Which columns of a table hold what.
        count: Keep at most this many examples of each split, evenly over the classes.
        kind: Kind of the examples, "image", "audio" or "text"; by default as they look.
        rate: Samples a second of sound, see `audio.files`.
        seconds: Length of clips of sound, see `audio.files`.
        **options: See `assembly.Options`; of data that are not in files, only `seed`
            matters.

    Raises:
        InputError: Data of another kind, or that cannot be used.

    >>> load(count=100).test.labels.size
    100
    """
    errors.check_options(options, load, assembly.Options)
    chosen = assembly.Options(**options)
    content = read(data, columns, chosen, choices_of(kind, rate, seconds))
    reading = stored.Reading(kind, rate, seconds, chosen.bad_files, seed=chosen.seed)
    if content is not None:
        splits = assembly.assemble(content, chosen)
    elif isinstance(data, Splits):
        splits = data
    elif isinstance(data, tuple | list) and len(data) == 2 and _are_texts(data[0]):
        splits = from_texts(data, seed=chosen.seed)
    elif isinstance(data, tuple | list):
        splits = from_arrays(data, seed=chosen.seed)
    elif hugging_face.is_saved(data):
        splits = hugging_face.load(data, columns, reading)
    elif str(data) == SAMPLE_NAME:
        splits = sample()
    elif str(data) == DIGITS_NAME:
        splits = digits(seed=chosen.seed)
    else:
        try:
            reading = replace(reading, validation=0.1)
            splits = tfds_data.load(str(data), columns, reading)
        except errors.InputError as error:
            raise errors.InputError(
                f"No folder or table is called {str(data)!r}, and as a dataset: {error}"
            ) from error
    return limit(splits, count, seed=chosen.seed)


def choices_of(
    kind: FileKind | None = None,
    rate: int = audio.RATE,
    seconds: float | None = None,
) -> tuple[Kind, ...]:
    """Return the kinds that examples can have; see `load`.

    >>> [kind.name for kind in choices_of()]
    ['image', 'audio', 'text']
    """
    choices = (IMAGE, audio.files(rate, seconds), text_files.TEXT)
    names = [choice.name for choice in choices]
    if kind is None:
        return choices
    if kind not in names:
        raise errors.unknown("kind", str(kind), names)
    return (choices[names.index(kind)],)


def read(
    data: object,
    columns: tables.Columns | None,
    options: assembly.Options,
    choices: Sequence[Kind] = (IMAGE,),
) -> assembly.Content | None:
    """Read data in files or tables, each example once.

    Args:
        data: See `load`.
        columns: See `load`.
        options: See `assembly.Options`.
        choices: Kinds that the examples can have; files have that of most of them.

    Returns:
        What they hold; `None` for data that are neither in files nor in a table.

    Raises:
        InputError: A path that does not exist, or files laid out otherwise.
    """
    columns = columns or tables.Columns()
    if hasattr(data, "columns") and hasattr(data, "iloc"):
        return tables.read(data, columns, options, choices)
    if packs.is_pack(data):
        return packing.read(data, columns, options, choices)
    if not isinstance(data, str | Path) or hugging_face.is_saved(data):
        return None
    path = Path(data)
    if path.is_dir():
        table = None
        if not _has_classes(path, choices):
            table = tables.in_folder(path, choices, columns, options.encoding)
        if table is not None:
            return tables.read(table, columns, options, choices, path)
        if columns.task not in (None, "single-label"):
            hint = "Several labels of an example, or numbers, stand in a table."
            raise errors.expected(
                "task", "be single-label for a folder of classes", columns.task, hint
            )
        return folders.read(path, options, choices)
    if path.is_file():
        return tables.read(path, columns, options, choices)
    # Names of datasets can have a slash and a dot: "imagenet_v2/matched:3.0.0".
    if path.is_absolute() or isinstance(data, Path) or tables.is_table(path):
        raise errors.expected(
            "data",
            "be a folder or table that exists, or the name of a dataset",
            str(data),
        )
    return None


def options_of(settings: object, **others) -> dict:
    """Return the arguments of `load` that the settings of a command stand for.

    Args:
        settings: The settings, see `commands.settings`; with a seed.
        **others: Further ones, such as `image_size`.
    """
    leave_out = ()
    if settings.leave_out is not None:
        lines = Path(settings.leave_out).read_text(encoding="utf-8").splitlines()
        leave_out = tuple(Path(line.strip()) for line in lines if line.strip())
    columns = tables.Columns(
        settings.input_column,
        settings.label_column,
        settings.split_column,
        settings.task,
        settings.root,
    )
    return {
        "columns": columns,
        "kind": settings.kind,
        "seed": settings.seed,
        "bad_files": settings.bad_files,
        "groups": settings.groups,
        "labels": settings.labels,
        "encoding": settings.encoding,
        "leave_out": leave_out,
        "resize": settings.resize,
        **others,
    }


def _has_classes(folder, choices) -> bool:
    """Return whether a folder has a folder of files for each class."""
    try:
        entries = layout.find(folder, kinds.of_folder(folder, choices)).entries
    except errors.InputError:
        return False
    return len({label for _, _, label in entries}) > 1


def from_settings(settings: DataSettings) -> Splits:
    """Load the images that the settings of a recipe name. See `load`."""
    return load(
        settings.dataset if settings.data is None else settings.data,
        kind="image",
        bad_files=settings.bad_files,
        count=settings.limit,
        seed=settings.seed,
    )


def texts_from_settings(settings: TextSettings) -> Splits:
    """Load the texts that the settings of a recipe name. See `from_tables`."""
    return from_tables(
        settings.data,
        bad_files=settings.bad_files,
        encoding=settings.encoding,
        seed=settings.seed,
    )


def sample() -> Splits:
    """Load the sample of CIFAR-10 that travels with the package.

    Returns:
        2,000 training, 500 validation and 1,500 test images of 32x32 pixels, balanced
        over 10 classes. `keras_tl/assets/cifar10_sample/README.md` says how they were
        drawn, and under which terms.

    Reference:
        Krizhevsky, "Learning multiple layers of features from tiny images", 2009.
    """
    record = json.loads((SAMPLE / "sample.json").read_text())

    def read(name):
        labels = record["splits"][name]["labels"]
        with Image.open(SAMPLE / f"{name}.webp") as sheet:
            pixels = np.asarray(sheet.convert("RGB"))
        rows, columns = pixels.shape[0] // 32, pixels.shape[1] // 32
        tiles = pixels.reshape(rows, 32, columns, 32, 3).swapaxes(1, 2)
        return Split(np.ascontiguousarray(tiles.reshape(-1, 32, 32, 3)), labels)

    return Splits(
        read("train"),
        read("validation"),
        read("test"),
        record["class_names"],
        "Sample of CIFAR-10: train and validation drawn from its official training "
        "split, test from its official test split.",
    )


def digits(*, test_share: float = 0.5, seed: int = 0) -> Splits:
    """Load scikit-learn's handwritten digits: small, grey, far from photographs.

    Args:
        test_share: Part of all examples drawn for the test split, in (0, 1).
        seed: Seed of the drawing.

    Returns:
        1,797 images of 8x8 pixels and 10 classes.

    Reference:
        https://scikit-learn.org/stable/modules/generated/sklearn.datasets.load_digits.html
    """
    from sklearn import datasets

    digits = datasets.load_digits()
    # Their grey is in [0, 16], ink is high.
    pixels = np.rint(digits.images * (255 / 16)).astype("uint8")
    splits = from_arrays((pixels, digits.target), test_share=test_share, seed=seed)
    return replace(splits, origin=f"scikit-learn's digits: {splits.origin}")


def from_arrays(
    train: tuple[np.ndarray, np.ndarray],
    test: tuple[np.ndarray, np.ndarray] | None = None,
    *,
    class_names: list[str] | None = None,
    validation: float = 0.1,
    test_share: float = 0.15,
    seed: int = 0,
) -> Splits:
    """Make three stratified splits of arrays in memory; copies stay in one split.

    Args:
        train: Images uint8 in [0, 255], RGB `(count, height, width, 3)` or grey
            `(count, height, width)` or `(count, height, width, 1)`, and labels
            `(count,)` or `(count, 1)`: integers, strings or booleans.
        test: The same for a test split that is given; otherwise it is drawn. Images of
            it that are also in `train` are left out there, with a warning.
        class_names: Names of the labels 0, 1, ...; by default each label that occurs in
            `train` is a class, named after itself, in sorted order.
        validation: Part of the training examples drawn for validation, in (0, 1).
        test_share: Part drawn for the test split when none is given, in (0, 1).
        seed: Seed of the drawing.

    >>> images = np.arange(40 * 192).reshape(40, 8, 8, 3).astype("uint8")
    >>> images[:, 0, 0, 0] = labels = np.arange(40)
    >>> labels = labels % 2
    >>> [len(split) for _, split in from_arrays((images, labels)).items()]
    [30, 4, 6]

    Raises:
        InputError: Images or labels of another kind, a label without a name or, in
            `test`, without training images, or too few images of a class.
    """
    shares = validation, test_share
    return _of_pairs(_check_arrays, train, test, class_names, shares, seed)


def from_texts(
    train: tuple[Sequence[str], Sequence],
    test: tuple[Sequence[str], Sequence] | None = None,
    *,
    class_names: Sequence[str] | None = None,
    validation: float = 0.1,
    test_share: float = 0.15,
    seed: int = 0,
) -> Splits:
    """Make three stratified splits of texts in memory; copies stay in one split.

    Copies are equal up to case and white space.

    Args:
        train: Texts, strings that are not empty, and as many labels: integers, strings
            or booleans.
        test: The same for a test split that is given; otherwise it is drawn. Training
            texts that are also in it are left out, with a warning.
        class_names: See `from_arrays`.
        validation: Share of the training texts drawn for validation, in (0, 1).
        test_share: Share drawn for the test split when none is given, in (0, 1).
        seed: Seed of the drawing.

    Raises:
        InputError: Texts or labels of another kind, a text that is empty, or too few
            texts of a class.

    >>> texts = [f"{word} number {n}" for n in range(10) for word in ("good", "bad")]
    >>> data = from_texts((texts, ["praise", "criticism"] * 10))
    >>> data.class_names, [len(split) for _, split in data.items()]
    (('criticism', 'praise'), [15, 2, 3])
    """
    shares = validation, test_share
    return _of_pairs(_check_texts, train, test, class_names, shares, seed)


def _of_pairs(check, train, test, class_names, shares, seed) -> Splits:
    """Make splits of examples and labels in memory, which `check` returns."""
    inputs, labels = check("train", train)
    classes = np.unique(labels) if class_names is None else np.arange(len(class_names))
    given = Split(inputs, _numbers("train", labels, classes))
    if test is not None:
        inputs, labels = check("test", test)
        test = Split(inputs, _numbers("test", labels, classes))
    if class_names is None:
        class_names = [str(label) for label in classes]
    return drawing.complete(given, test, class_names, *shares, seed)


def _are_texts(values) -> bool:
    """Return whether examples are strings, and so texts rather than images."""
    values = values.tolist() if hasattr(values, "tolist") else values
    return (
        isinstance(values, Sequence)
        and not isinstance(values, str)
        and bool(values)
        and all(isinstance(value, str) for value in values)
    )


def _check_texts(name, pair):
    if not isinstance(pair, tuple | list) or len(pair) != 2 or not _are_texts(pair[0]):
        raise errors.InputError(
            f"`{name}` must be a pair of texts and labels, as in "
            '`from_texts((["good", "bad"], [1, 0]))`. Received: '
            f"{type(pair).__name__}."
        )
    return text.Texts(tuple(map(str, pair[0]))), _check_labels(name, pair[1], "text")


def from_tables(path: Path | str, **options) -> Splits:
    """Read texts in a table, or in those of a folder, whose test split reports.

    As `load`, but where there is a validation table and none for the test, such as
    `dev.tsv` of GLUE, whose `test.tsv` has no labels, it is the test split, and
    validation is drawn from train.

    Args:
        path: A table, or a folder with `train.tsv` and others, see `tables.from_table`.
        **options: See `assembly.Options`.

    Returns:
        Splits of texts; class names are the sorted labels.

    Raises:
        InputError: See `load`.
    """
    errors.check_options(options, assembly.Options)
    chosen = assembly.Options(**options)
    content = read(path, None, chosen, choices_of("text"))
    if content is None:
        raise errors.expected("data", "be a table, or a folder with one", str(path))
    if all(file.split != "test" for file in content.files):
        content = assembly.renamed(content, "validation", "test")
    return assembly.assemble(content, chosen)


def _check_arrays(name, arrays):
    if not isinstance(arrays, tuple | list) or len(arrays) != 2:
        raise errors.InputError(
            f"`{name}` must be a pair of images and labels, as in "
            f"`from_arrays((images, labels))`. Received: {type(arrays).__name__}"
        )
    images, labels = arrays
    return to_rgb(images, name), _check_labels(name, labels, "image")


def _check_labels(name, labels, noun) -> np.ndarray:
    labels = np.asarray(labels)
    if labels.dtype.kind not in "iubUS":
        raise errors.InputError(
            f"The {name} labels must be integers, strings or booleans, one for each "
            f"{noun}. Received: {labels.dtype} {labels.shape}. One-hot labels become "
            "integers by labels.argmax(axis=1), whole numbers by labels.astype(int)."
        )
    labels = labels.reshape(-1)
    if not len(labels):
        raise errors.InputError(f"The {name} split is empty.")
    return labels


def _numbers(name, labels, classes) -> np.ndarray:
    """Return the place of each label in `classes`, which is sorted."""
    unknown = np.setdiff1d(labels, classes)
    if len(unknown):
        raise errors.InputError(
            f"The {name} labels must be among {_listed(classes)}, the labels of the "
            f"classes. Received also: {_listed(unknown)}."
        )
    return np.searchsorted(classes, labels)


def _listed(values) -> str:
    texts = [str(value) for value in values]
    if len(texts) > 10:
        texts = [*texts[:8], "...", texts[-1]]
    return ", ".join(texts)
