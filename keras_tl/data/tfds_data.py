"""A dataset of `tensorflow_datasets` as three splits."""

import contextlib
import functools
import logging
import urllib.parse
from collections.abc import Sequence

import numpy as np

from keras_tl import errors
from keras_tl.data import sound_files, stored, tables
from keras_tl.data.choices import DIGITS_NAME, SAMPLE_NAME
from keras_tl.data.images import to_rgb
from keras_tl.data.splits import Splits
from keras_tl.data.stored import Reading

# Seconds in which the host of a dataset has to answer, and most times to ask again.
PATIENCE, RETRIES = 10, 2


def load(
    name: str, columns: tables.Columns | None = None, reading: Reading | None = None
) -> Splits:
    """Load images, texts or sound with classes from `tensorflow_datasets`.

    The official test split is the test split (where there is none, or none with labels:
    the official validation split, else a part drawn from train). Validation is drawn
    from train.

    Args:
        name: A name that `tfds.load` takes, such as "cifar10", "glue/sst2" or
            "speech_commands". Downloaded, the first time, to where TFDS keeps its data.
        columns: Names of the features of examples and classes, by default those that
            the dataset is made for.
        reading: How examples are read; by default a tenth of train is drawn for
            validation.

    Raises:
        InputError: An unknown name, a download that failed, a dataset that has no
            images, texts or sound with single labels, or an example that cannot be
            used.
    """
    import tensorflow_datasets as tfds

    reading = reading or Reading(validation=0.1)
    try:
        builder = tfds.builder(name)
    except (tfds.core.registered.DatasetNotFoundError, ValueError) as error:
        known = [
            SAMPLE_NAME,
            DIGITS_NAME,
            *tfds.list_builders(with_community_datasets=False),
        ]
        raise errors.unknown("dataset", name, known) from error
    key, label, kind = _choose(name, builder.info, columns or tables.Columns(), reading)
    try:
        with _impatient():
            builder.download_and_prepare()
    except Exception as error:  # Network, disk, manual downloads: TFDS names it.
        raise errors.InputError(
            f"The dataset {name!r} is not in {builder.data_dir} and could not be "
            f"fetched: {errors.reason(error)}. The dataset {SAMPLE_NAME} needs no "
            "download."
        ) from error

    def read(split):
        return _read(builder, split, key, label, kind)

    names = builder.info.features[label].names
    splits = list(builder.info.splits)
    return stored.make(f"TFDS's {name}", kind, splits, read, names, reading)


def _choose(name, info, columns, reading) -> tuple[str, str, str]:
    """Return the names of the features of examples and classes, and their kind."""
    import tensorflow_datasets as tfds

    types = {
        "image": tfds.features.Image,
        "audio": tfds.features.Audio,
        "text": tfds.features.Text,
    }
    features = dict(info.features or {})
    kinds = {
        key: kind
        for key, feature in features.items()
        for kind, one in types.items()
        if isinstance(feature, one)
    }
    made_for = info.supervised_keys
    if not made_for or len(made_for) != 2 or not {*made_for} <= {*features}:
        made_for = (None, "label")
    usual = [key for key in made_for[:1] if key] or stored.USUAL
    key = stored.choose(name, kinds, columns.input, usual, reading.kind)
    label = columns.label or made_for[1]
    if not isinstance(features.get(label), tfds.features.ClassLabel):
        classes = [
            key
            for key, feature in features.items()
            if isinstance(feature, tfds.features.ClassLabel)
        ]
        raise errors.expected(
            "label_column",
            f"be a feature of {name} that holds classes",
            label,
            f"Those that do: {', '.join(classes) or 'none'}.",
        )
    if kinds[key] == "audio" and features[key].sample_rate is None:
        raise errors.expected("dataset", "say the rate of its sound", name)
    return key, label, kinds[key]


def _read(builder, split, key, label, kind) -> tuple[Sequence, np.ndarray]:
    """Read examples and labels of an official split."""
    import tensorflow_datasets as tfds

    feature = builder.info.features[key]
    # Images of different sizes stay encoded: decoded they would take the memory of the
    # largest, before they are cut to one size.
    varied = kind == "image" and None in feature.shape
    decoders = tfds.decode.PartialDecoding(
        [key, label], {key: tfds.decode.SkipDecoding()} if varied else None
    )
    rows = tfds.as_numpy(builder.as_dataset(split=split, decoders=decoders))
    examples, labels = [], []
    for row in rows:
        example = row[key]
        if kind == "audio":
            example = sound_files.wave_file(example, int(feature.sample_rate))
        elif kind == "text":
            example = example.decode("utf-8", "replace")
        examples.append(example)
        labels.append(row[label])
    if kind == "image" and not varied:
        examples = to_rgb(np.stack(examples))
    return examples, np.array(labels, "int32")


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
