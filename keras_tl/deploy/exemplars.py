"""Examples that a run keeps of its data, so that it can be updated when they are gone.

`exemplars.zip` in the run's folder: images as JPEG at the side that the model takes,
clips as WAV at its rate and length, texts as they are; at most so many of each class of
each split. Only updates and exports use it; it can be deleted.
"""

import io
import wave
import zipfile
from collections import defaultdict
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image

from keras_tl import files
from keras_tl.data import splits
from keras_tl.data.sources import ImageFiles, Source
from keras_tl.data.splits import Split, Splits
from keras_tl.deploy import artifact

FILE = "exemplars.zip"
# Examples of each class that are kept, and most of all classes: some to rehearse and to
# choose the epoch by, more to notice what an update has made worse.
OF_EACH = {"train": 20, "validation": 10, "test": 50}
MOST = {"train": 1000, "validation": 500, "test": 2500}
# Most bytes of clips, of all splits together.
MOST_BYTES = 64e6
# Of JPEG, without reduced colours: what a model answers hardly changes.
_QUALITY = 95


def save(folder: Path, data: Splits, image_size: int | None) -> dict | None:
    """Write the exemplars of a run, in one step.

    Args:
        folder: The run's folder.
        data: The data that its model was trained on.
        image_size: Side of the images that the model takes, if it takes such.

    Returns:
        What the manifest says of them: hash, and the number of each split; `None` where
        the examples are not of one class each, or of no kind that is kept, and nothing
        is written.

    Raises:
        InputError: The disk is full, or the folder cannot be written to.
    """
    kind = data.train.inputs.kind
    same = all(split.inputs.kind == kind for _, split in data.items())
    if not same or kind not in _FORMS or data.task != "single-label":
        return None
    if kind == "image":
        if image_size is None:
            return None
        data = data.at_size(image_size)
    form, counts = _FORMS[kind], {}
    with (
        files.atomic(folder / FILE) as temporary,
        zipfile.ZipFile(temporary, "w", form.compression) as archive,
    ):
        for name, split in data.items():
            kept = chosen(name, split, len(data.class_names))
            counts[name] = len(kept)
            for start in range(0, len(kept), 256):
                rows = kept[start : start + 256]
                contents = form.encode(split.inputs, rows)
                for index, content in zip(rows, contents, strict=True):
                    label = split.labels[index]
                    # A date of its own would give every file another hash.
                    place = f"{name}/{label}/{index:07}{form.suffix}"
                    entry = zipfile.ZipInfo(place)
                    archive.writestr(entry, content, form.compression)
    return {"counts": counts, "sha256": files.sha256(folder / FILE)}


def chosen(name: str, split: Split, classes: int) -> np.ndarray:
    """Choose the examples of a split that are kept: the same number of each class.

    Args:
        name: Name of the split.
        split: The split; examples whose label is not known are left out.
        classes: Number of classes.

    Returns:
        Sorted indices.
    """
    known = np.flatnonzero(split.known)
    # Copies of an example, and examples beside the others, come after them.
    known = known[known < len(split) // split.copies]
    most = MOST[name]
    if split.inputs.kind == "audio":
        share = MOST_BYTES * most / sum(MOST.values())
        most = min(most, share / (2 * split.inputs.input_spec()["shape"][0]))
    count = min(OF_EACH[name], max(1, int(most) // classes))
    return known[splits.of_each(split.labels[known], count, seed=0)]


def of_run(model: artifact.Artifact) -> Splits | None:
    """Load the exemplars of a run, as its model takes them.

    Returns:
        Splits of its classes; `None` where it keeps none.

    Raises:
        InputError: The file is not the one that the run saved.
    """
    path, about = model.folder / FILE, model.manifest.get("exemplars")
    if about is None or not path.is_file():
        return None
    artifact.check_hash(path, about.get("sha256") if isinstance(about, dict) else None)
    contents, labels = defaultdict(list), defaultdict(list)
    with zipfile.ZipFile(path) as archive:
        for name in sorted(archive.namelist()):
            split, label, _ = name.split("/")
            contents[split].append(archive.read(name))
            labels[split].append(int(label))
    form = _FORMS[model.kind]
    kept = {
        name: Split(form.decode(model, contents[name]), np.array(labels[name], "int32"))
        for name in OF_EACH
    }
    return Splits(
        **kept,
        class_names=model.class_names,
        origin="The examples that the run kept.",
        task="single-label",
    )


# %% Forms


def _jpegs(inputs, rows):
    for pixels in inputs.read(rows):
        buffer = io.BytesIO()
        image = Image.fromarray(pixels)
        image.save(buffer, "jpeg", quality=_QUALITY, subsampling=0)
        yield buffer.getvalue()


def _images(model, contents):
    return ImageFiles(tuple(contents), model.image_size, model.resize)


def steps(sounds: np.ndarray) -> np.ndarray:
    """Return samples in [-1, 1] in steps of 16 bits, int16, as they are kept."""
    return np.clip(np.rint(sounds * 2**15), -(2**15), 2**15 - 1).astype("<i2")


def _waves(inputs, rows):
    rate = inputs.input_spec()["rate"]
    for samples in steps(inputs.read(rows)):
        buffer = io.BytesIO()
        with wave.open(buffer, "wb") as file:
            file.setparams((1, 2, rate, len(samples), "NONE", ""))
            file.writeframes(samples.tobytes())
        yield buffer.getvalue()


def _clips(model, contents):
    sounds = []
    for content in contents:
        with wave.open(io.BytesIO(content)) as file:
            samples = np.frombuffer(file.readframes(file.getnframes()), "<i2")
            sounds.append(samples.astype("int16"))
    return model.source(sounds)


def _texts(inputs, rows):
    return [text.encode("utf-8", "surrogatepass") for text in inputs.preview(rows)]


def _of_texts(model, contents):
    return model.source([text.decode("utf-8", "surrogatepass") for text in contents])


@dataclass(frozen=True)
class _Form:
    """How examples of a kind are kept.

    Attributes:
        suffix: Of the name of each.
        encode: Returns the contents of files for some examples of a source.
        decode: Returns a source of such contents, as the model of a run takes them.
        compression: Of the archive.
    """

    suffix: str
    encode: Callable[[Source, Sequence[int]], Sequence[bytes]]
    decode: Callable[[artifact.Artifact, Sequence[bytes]], Source]
    compression: int = zipfile.ZIP_DEFLATED


# Kind of the examples -> how they are kept.
_FORMS = {
    "image": _Form(".jpg", _jpegs, _images, zipfile.ZIP_STORED),
    "audio": _Form(".wav", _waves, _clips),
    "text": _Form(".txt", _texts, _of_texts),
}
