"""A dataset of `tensorflow_datasets` as three splits."""

import contextlib
import functools
import logging
import urllib.parse
from dataclasses import replace

import numpy as np

from keras_tl import errors
from keras_tl.data import drawing
from keras_tl.data.choices import DIGITS_NAME, SAMPLE_NAME
from keras_tl.data.images import to_rgb
from keras_tl.data.splits import Split, Splits

# Seconds in which the host of a dataset has to answer, and most times to ask again.
PATIENCE, RETRIES = 10, 2


def load(name: str, *, validation: float = 0.1, seed: int = 0) -> Splits:
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
    splits = drawing.complete(
        Split(*read("train")),
        Split(*read(official)) if official else None,
        features["label"].names,
        validation,
        0.15,
        seed,
    )
    test = f"test is the official {official} split, " if official else ""
    return replace(splits, origin=f"TFDS's {name}: {test}{splits.origin}")


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
