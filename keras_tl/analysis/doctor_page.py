"""The findings on one page, with the images, clips and texts that show them."""

import io
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image

from keras_tl import errors, files
from keras_tl.analysis import findings, report
from keras_tl.analysis.findings import Finding
from keras_tl.analysis.records import Records
from keras_tl.data import images, sound_files, spectrogram

# Most examples of a finding that are shown, pixels of the sides of pictures, and
# characters of texts.
_MOST, _SIDE, _CHARACTERS = 24, 128, 400
# Largest file of sound that can be listened to in the page, in bytes; and types of
# those that browsers play, by their suffixes.
_LARGEST_SOUND = 100_000
_TYPES = {
    ".wav": "audio/wav",
    ".flac": "audio/flac",
    ".mp3": "audio/mpeg",
    ".ogg": "audio/ogg",
    ".oga": "audio/ogg",
    ".opus": "audio/ogg",
}


@dataclass(frozen=True)
class Shown:
    """An example as the page shows it.

    Attributes:
        name: Its name.
        caption: Its label and split.
        picture: Address of its picture; empty for a text.
        sound: Address of its sound; empty where there is none to listen to.
        text: The beginning of a text.
    """

    name: str
    caption: str
    picture: str = ""
    sound: str = ""
    text: str = ""


def write(
    path: Path | str, noticed: Sequence[Finding], records: Records, name: str
) -> None:
    """Write findings as a page, in one step; it needs nothing besides the file.

    Args:
        path: A file that does not exist yet.
        noticed: The findings, worst first.
        records: The examples that `Finding.pictures` refer to.
        name: What the data are called.

    Raises:
        InputError: The file exists, or cannot be written.
    """
    findings.check_new(path, "page")
    groups = {
        severity: [
            (finding, _examples(finding, records))
            for finding in noticed
            if finding.severity == severity
        ]
        for severity in findings.SEVERITIES
    }
    text = report.render(
        "check.html",
        name=name,
        count=len(records),
        counted=errors.counted,
        groups=groups,
        most=_MOST,
        noun=records.noun,
        nouns=records.nouns,
        leave_out=findings.files_to_leave_out(noticed),
    )
    files.write_text(path, text)


def _examples(finding, records) -> list[Shown]:
    """Return the examples that show a finding, without those that cannot be shown."""
    examples = [_shown(records, index) for index in finding.pictures[:_MOST]]
    return [example for example in examples if example is not None]


def _shown(records, index) -> Shown | None:
    label = records.labels[index]
    text = label if isinstance(label, str) else ", ".join(map(str, label or ()))
    name, caption = records.names[index], f"{text} ({records.splits[index]})"
    if records.texts:
        whole = records.texts[index]
        cut = f"{whole[:_CHARACTERS]} ..." if len(whole) > _CHARACTERS else whole
        return Shown(name, caption, text=cut)
    pixels = _pixels(records, index)
    if pixels is None:
        return None
    sound = ""
    if records.kind == "audio" and records.paths:
        sound = _sound(records.paths[index])
    return Shown(name, caption, _embedded(pixels), sound)


def _pixels(records, index) -> np.ndarray | None:
    """Return the picture of an image, or the spectrogram of a clip."""
    if records.squares is not None and not records.paths:
        return records.squares[index]
    if not records.paths:
        pictures = records.source and records.source.preview([index], _SIDE)
        return None if pictures is None else pictures[0]
    try:
        if records.kind == "audio":
            return spectrogram.draw(*sound_files.load(records.paths[index]), _SIDE)
        return images.decode(records.paths[index], _SIDE, "pad")
    except errors.InputError:
        return None


def _sound(path) -> str:
    """Return the address of a small file of sound inside the page."""
    kind = _TYPES.get(path.suffix.lower())
    content = b"" if kind is None else files.content(path)
    return report.embedded(kind, content) if 0 < len(content) <= _LARGEST_SOUND else ""


def _embedded(pixels) -> str:
    buffer = io.BytesIO()
    # As JPEG where that is smaller: photos are, tiny images are not.
    kind = "jpeg" if len(pixels) >= _SIDE else "png"
    Image.fromarray(pixels).save(buffer, format=kind)
    return report.embedded(f"image/{kind}", buffer.getvalue())
