"""Load data of any kind: folders, tables, arrays, the embedded sample, TFDS."""

import contextlib
import functools
import json
import logging
import math
import urllib.parse
from dataclasses import replace
from pathlib import Path

import numpy as np
from PIL import Image

from keras_tl import errors
from keras_tl.data import assembly, folders, layout, tables, text
from keras_tl.data.images import to_rgb
from keras_tl.data.settings import DataSettings
from keras_tl.data.sources import ImageFiles
from keras_tl.data.splits import Split, Splits, copies, limit

SAMPLE = Path(__file__).parents[1] / "assets" / "cifar10_sample"
SAMPLE_NAME, DIGITS_NAME = "cifar10_sample", "digits"


def load(
    data: object = SAMPLE_NAME,
    *,
    columns: tables.Columns | None = None,
    count: int | None = None,
    **options,
) -> Splits:
    """Load data of any kind that keras-tl knows as three splits.

    Args:
        data: A folder of images, see `folders.read`; a table of images and labels, or a
            folder with one, see `tables.from_table`; a folder that Hugging Face's
            `datasets` has saved; the name of a dataset: "cifar10_sample", "digits", or
            one that `tensorflow_datasets` knows; a DataFrame; a pair of arrays, see
            `from_arrays`; or `Splits`, which are returned as they are.
        columns: Which columns of a table hold what.
        count: Keep at most this many examples of each split, evenly over the classes.
        **options: See `assembly.Options`; of data that are not in files, only `seed`
            matters.

    Raises:
        InputError: Data of another kind, or that cannot be used.

    >>> load(count=100).test.labels.size
    100
    """
    errors.check_options(options, load, assembly.Options)
    chosen = assembly.Options(**options)
    content = read(data, columns, chosen)
    if content is not None:
        splits = assembly.assemble(content, chosen)
    elif isinstance(data, Splits):
        splits = data
    elif isinstance(data, tuple | list):
        splits = from_arrays(data, seed=chosen.seed)
    elif is_hugging_face(data):
        splits = from_hugging_face(data, columns, seed=chosen.seed)
    elif str(data) == SAMPLE_NAME:
        splits = sample()
    elif str(data) == DIGITS_NAME:
        splits = digits(seed=chosen.seed)
    else:
        try:
            splits = from_tfds(str(data), seed=chosen.seed)
        except errors.InputError as error:
            raise errors.InputError(
                f"No folder or table is called {str(data)!r}, and as a dataset: {error}"
            ) from error
    return limit(splits, count, seed=chosen.seed)


def read(
    data: object, columns: tables.Columns | None, options: assembly.Options
) -> assembly.Content | None:
    """Read data that are in image files, each of which once.

    Args:
        data: See `load`.
        columns: See `load`.
        options: See `assembly.Options`.

    Returns:
        What the files hold; `None` for data that are not in files of their own.

    Raises:
        InputError: A path that does not exist, or files laid out otherwise.
    """
    columns = columns or tables.Columns()
    if hasattr(data, "columns") and hasattr(data, "iloc"):
        return tables.read(data, columns, options)
    if not isinstance(data, str | Path) or is_hugging_face(data):
        return None
    path = Path(data)
    if path.is_dir():
        table = tables.in_folder(path)
        if table is not None and not _has_classes(path):
            return tables.read(table, columns, options)
        return folders.read(path, options)
    if path.is_file():
        return tables.read(path, columns, options)
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
        settings.image_column,
        settings.label_column,
        settings.split_column,
        settings.task,
        settings.images,
    )
    return {
        "columns": columns,
        "seed": settings.seed,
        "bad_images": settings.bad_images,
        "groups": settings.groups,
        "leave_out": leave_out,
        "resize": settings.resize,
        **others,
    }


def _has_classes(folder) -> bool:
    """Return whether a folder has a folder of images for each class."""
    try:
        entries = layout.find(folder).entries
    except errors.InputError:
        return False
    return len({label for _, _, label in entries}) > 1


def from_settings(settings: DataSettings) -> Splits:
    """Load the data that the settings of a recipe name. See `load`."""
    return load(
        settings.dataset if settings.data is None else settings.data,
        bad_images=settings.bad_images,
        count=settings.limit,
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
    images, labels = _check_arrays("train", train)
    classes = np.unique(labels) if class_names is None else np.arange(len(class_names))
    given = Split(images, _numbers("train", labels, classes))
    if test is not None:
        images, labels = _check_arrays("test", test)
        test = Split(images, _numbers("test", labels, classes))
    if class_names is None:
        class_names = [str(label) for label in classes]
    return _three(given, test, class_names, validation, test_share, seed)


# Accepted names of the table of a split, without `.csv` or `.tsv`.
TABLES = {
    "train": ("train", "training"),
    "test": ("test", "dev", "validation"),
}


def from_tables(
    folder: Path | str, *, validation: float = 0.1, seed: int = 0
) -> Splits:
    """Make three stratified splits of texts in tables; see `text.from_table`.

    Args:
        folder: Holds `train.tsv` and, for the test, `test.tsv` or `dev.tsv`, or the
            same as `.csv`. One without labels, as `test.tsv` of GLUE, is left out;
            without a table for the test, it is drawn from train.
        validation: Share of the training texts drawn for validation, in (0, 1).
        seed: Seed of the drawing.

    Returns:
        Splits of texts; class names are the sorted labels.

    Raises:
        InputError: No table of training texts, what `text.from_table` refuses, or a
            label of the test that training does not have.
    """
    paths = {name: _tables(Path(folder), names) for name, names in TABLES.items()}
    if not paths["train"]:
        raise errors.expected(
            "data", "be a folder with train.tsv or train.csv in it", str(folder)
        )
    labelled = [path for path in paths["test"] if "label" in text.columns(path)]
    left_out = [path.name for path in paths["test"] if path not in labelled]
    paths = {"train": paths["train"][0], "test": next(iter(labelled), None)}
    tables = {n: text.from_table(path) for n, path in paths.items() if path}
    class_names = sorted(set(tables["train"][1]))
    extra = sorted(set(tables.get("test", ((), ()))[1]) - set(class_names))
    if extra:
        raise errors.InputError(
            f"{paths['test']} has labels that {paths['train']} does not have: "
            f"{', '.join(extra[:5])}."
        )
    given = {
        name: Split(texts, np.array([class_names.index(label) for label in labels]))
        for name, (texts, labels) in tables.items()
    }
    splits = _three(
        given["train"], given.get("test"), class_names, validation, 0.15, seed
    )
    test = f"test is {paths['test'].name}, " if paths["test"] else ""
    origin = f"Tables in {Path(folder).name}: {test}{splits.origin}"
    if left_out:
        origin += f" Left out, since without labels: {', '.join(left_out)}."
    return replace(splits, origin=origin)


def _tables(folder, names) -> list[Path]:
    """List the tables of some names, in the order of the names."""
    paths = [folder / f"{name}{end}" for name in names for end in text.DELIMITERS]
    return [path for path in paths if path.is_file()]


def _three(given, test, class_names, validation, test_share, seed) -> Splits:
    """Draw the splits that are missing from the examples that are given.

    Copies of an example come into one split, and only one of them into a split that is
    drawn: the others are left out.
    """
    numbers, *of_test = copies(given, *([] if test is None else [test]))
    _warn_of_contradictions(numbers, given.labels)
    rest, drawn = np.arange(len(given)), "validation"
    if test is None:
        rest, chosen = _draw(rest, given.labels, numbers, test_share, seed)
        test, drawn = given.take(chosen), "validation and test"
        before = len(given) - len(chosen)
    else:
        rest = _without_test(rest, numbers, *of_test)
        before = len(rest)
    rest, chosen = _draw(rest, given.labels, numbers, validation, seed)
    origin = f"{drawn} drawn from the training examples, stratified, seed {seed}."
    left_out = before - len(rest) - len(chosen)
    if left_out:
        origin += f" Left out: copies of drawn examples {left_out:,}."
    return Splits(given.take(rest), given.take(chosen), test, class_names, origin)


def _warn_of_contradictions(numbers, labels):
    order = np.lexsort((labels, numbers))
    same = numbers[order][1:] == numbers[order][:-1]
    differ = same & (labels[order][1:] != labels[order][:-1])
    if differ.any():
        first, other = order[:-1][differ][0], order[1:][differ][0]
        count = np.isin(numbers, numbers[order][1:][differ]).sum()
        errors.warn(
            f"{count:,} training examples equal another that has another label, such "
            f"as those at index {min(first, other)} and {max(first, other)}: one label "
            "of them is wrong. They are used as they are."
        )


def _without_test(indices, numbers, of_test):
    """Leave out the training examples that are test examples too."""
    both = np.isin(numbers[indices], of_test)
    if both.all():
        raise errors.InputError("All training examples are test examples as well.")
    if both.any():
        errors.warn(
            f"{both.sum():,} training examples are test examples as well, the first at "
            f"index {indices[both][0]}. They are left out of training."
        )
    return indices[~both]


def _check_arrays(name, arrays):
    if not isinstance(arrays, tuple | list) or len(arrays) != 2:
        raise errors.InputError(
            f"`{name}` must be a pair of images and labels, as in "
            f"`from_arrays((images, labels))`. Received: {type(arrays).__name__}"
        )
    images, labels = arrays
    images, labels = to_rgb(images, name), np.asarray(labels)
    if labels.dtype.kind not in "iubUS":
        raise errors.InputError(
            f"The {name} labels must be integers, strings or booleans, one for each "
            f"image. Received: {labels.dtype} {labels.shape}. One-hot labels become "
            "integers by labels.argmax(axis=1), whole numbers by labels.astype(int)."
        )
    labels = labels.reshape(-1)
    if not len(labels):
        raise errors.InputError(f"The {name} split is empty.")
    return images, labels


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


def _draw(indices, labels, numbers, share, seed):
    """Split `indices` in two, stratified: the remaining ones and the drawn ones.

    `numbers` are those of `splits.copies`: one example of each is drawn, and the others
    are in neither.
    """
    from sklearn.model_selection import train_test_split

    _, first = np.unique(numbers[indices], return_index=True)
    distinct = indices[np.sort(first)]
    drawn = math.ceil(share * len(distinct))
    classes, counts = np.unique(labels[distinct], return_counts=True)
    if counts.min() < 2 or min(drawn, len(distinct) - drawn) < len(classes):
        raise errors.InputError(
            "There are too few examples to draw splits with every class in each: "
            f"{len(distinct):,} different ones of {len(classes)} classes, "
            f"{counts.min()} of the rarest, of which {drawn} are to be drawn. Give at "
            "least 2 of each class, and more of all."
        )
    try:
        _, chosen = train_test_split(
            distinct, test_size=share, stratify=labels[distinct], random_state=seed
        )
    except ValueError as error:
        raise errors.InputError(
            f"The examples cannot be split with every class in each part: {error}"
        ) from error
    drawn = np.isin(numbers[indices], numbers[chosen])
    return indices[~drawn], np.sort(chosen)


def from_tfds(name: str, *, validation: float = 0.1, seed: int = 0) -> Splits:
    """Load an image classification dataset from `tensorflow_datasets`.

    The official test split is the test split (where there is none: the official
    validation split, else a part drawn from train). Validation is drawn from train.

    Args:
        name: A name that `tfds.load` takes, such as "cifar10". Downloaded, the first
            time, to where TFDS keeps its data.
        validation: Part of the training examples drawn for validation, in (0, 1).
        seed: Seed of the drawing.

    Raises:
        InputError: An unknown name, a download that failed, or a dataset that has no
            images with single labels.
    """
    import tensorflow_datasets as tfds

    try:
        builder = tfds.builder(name)
    except (tfds.core.registered.DatasetNotFoundError, ValueError) as error:
        known = [
            SAMPLE_NAME,
            DIGITS_NAME,
            *tfds.list_builders(with_community_datasets=False),
        ]
        raise errors.unknown("dataset", name, known) from error
    features = builder.info.features or {}
    if not {"image", "label"} <= set(features) or not builder.info.supervised_keys:
        raise errors.expected(
            "dataset", "have the features 'image' and 'label'", name, "See its page."
        )
    try:
        with _impatient():
            builder.download_and_prepare()
    except Exception as error:  # Network, disk, manual downloads: TFDS names it.
        raise errors.InputError(
            f"The dataset {name!r} is not in {builder.data_dir} and could not be "
            f"fetched: {errors.reason(error)}. The dataset {SAMPLE_NAME} needs no "
            "download."
        ) from error

    # Images of different sizes stay encoded: decoded they would take the memory of the
    # largest, before they are cut to one size.
    varied = None in features["image"].shape
    decoders = {"image": tfds.decode.SkipDecoding()} if varied else None

    def read(split):
        pairs = list(
            tfds.as_numpy(
                builder.as_dataset(split=split, decoders=decoders, as_supervised=True)
            )
        )
        labels = np.array([label for _, label in pairs], "int32")
        if varied:
            return tuple(image for image, _ in pairs), labels
        return to_rgb(np.stack([image for image, _ in pairs])), labels

    official = next((s for s in ("test", "validation") if s in builder.info.splits), "")
    splits = _three(
        Split(*read("train")),
        Split(*read(official)) if official else None,
        features["label"].names,
        validation,
        0.15,
        seed,
    )
    test = f"test is the official {official} split, " if official else ""
    return replace(splits, origin=f"TFDS's {name}: {test}{splits.origin}")


def is_hugging_face(data: object) -> bool:
    """Return whether a folder is one that Hugging Face's `datasets` has saved."""
    if not isinstance(data, str | Path):
        return False
    names = ("dataset_dict.json", "dataset_info.json")
    return any(Path(data, name).is_file() for name in names)


def from_hugging_face(
    path: Path | str, columns: tables.Columns | None = None, *, seed: int = 0
) -> Splits:
    """Load a dataset of images that Hugging Face's `datasets` has saved to a folder.

    Args:
        path: Folder that `Dataset.save_to_disk` or `DatasetDict.save_to_disk` wrote.
        columns: Names of the columns of images and labels, by default "image" and
            "label".
        seed: Seed of the drawing of splits that are missing.

    Raises:
        InputError: The extra `hf` is not installed, the columns are missing, or the
            labels are no classes.
    """
    errors.check_installed("datasets", extra="hf")
    import datasets

    columns = columns or tables.Columns()
    image, label = columns.image or "image", columns.label or "label"
    stored = datasets.load_from_disk(str(path))
    if not isinstance(stored, datasets.DatasetDict):
        stored = {"train": stored}
    by_split = {layout.split_of(name) or name: part for name, part in stored.items()}
    features = next(iter(by_split.values())).features
    for argument, name in (("image", image), ("label", label)):
        if name not in features:
            raise errors.expected(
                f"{argument}_column",
                f"be a column of {path}",
                name,
                f"Its columns are {', '.join(features)}.",
            )
    if "train" not in by_split:
        raise errors.expected("data", "have a split called train", list(stored))
    names = getattr(features[label], "names", None)
    if names is None:
        names = sorted({str(value) for value in by_split["train"][label]})

    def split_of(part):
        part = part.cast_column(image, datasets.Image(decode=False))
        content = [
            cell["bytes"] or Path(cell["path"]).read_bytes() for cell in part[image]
        ]
        labels = [
            value if isinstance(value, int) else names.index(str(value))
            for value in part[label]
        ]
        return Split(ImageFiles(tuple(content)), np.array(labels, "int32"))

    official = next((s for s in ("test", "validation") if s in by_split), None)
    splits = _three(
        split_of(by_split["train"]),
        split_of(by_split[official]) if official else None,
        names,
        0.15,
        0.15,
        seed,
    )
    test = f"test is its {official} split, " if official else ""
    origin = f"Hugging Face dataset {Path(path).name}: {test}{splits.origin}"
    return replace(splits, origin=origin)


# Seconds in which the host of a dataset has to answer, and most times to ask again.
PATIENCE, RETRIES = 10, 2


@contextlib.contextmanager
def _impatient():
    """Have TFDS fail in seconds where there is no network: it tries for minutes."""
    import requests
    from tensorflow_datasets.core.download import downloader

    get, retries = requests.Session.get, downloader.MAX_RETRIES
    logger = logging.getLogger("urllib3")
    level = logger.level
    try:
        downloader.MAX_RETRIES = RETRIES
        requests.Session.get = functools.partialmethod(get, timeout=PATIENCE)
        logger.setLevel(logging.ERROR)
        yield
    except requests.ConnectionError as error:
        host = urllib.parse.urlsplit(error.request.url).netloc if error.request else "?"
        raise OSError(
            f"{host} cannot be reached; check the network, and HTTPS_PROXY behind a "
            "proxy"
        ) from error
    finally:
        downloader.MAX_RETRIES, requests.Session.get = retries, get
        logger.setLevel(level)
