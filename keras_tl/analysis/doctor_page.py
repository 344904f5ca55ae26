"""The findings on one page, with the images that show them."""

import io
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from PIL import Image

from keras_tl import errors, files
from keras_tl.analysis import findings, report
from keras_tl.analysis.findings import Finding
from keras_tl.analysis.records import Records
from keras_tl.data import images

# Most images of a finding that are shown, and pixels of their sides.
_MOST, _SIDE = 24, 128


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
            (finding, _pictures(finding, records))
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
        leave_out=findings.files_to_leave_out(noticed),
    )
    files.write_text(path, text)


def _pictures(finding, records) -> list[tuple[str, str, str]]:
    """Return source, name and label of the images that show a finding."""
    pictures = []
    for index in finding.pictures[:_MOST]:
        pixels = _pixels(records, index)
        if pixels is not None:
            label = records.labels[index]
            text = label if isinstance(label, str) else ", ".join(map(str, label or ()))
            caption = f"{text} ({records.splits[index]})"
            pictures.append((_embedded(pixels), records.names[index], caption))
    return pictures


def _pixels(records, index) -> np.ndarray | None:
    if records.paths:
        try:
            return images.decode(records.paths[index], _SIDE, "pad")
        except errors.InputError:
            return None
    return None if records.squares is None else records.squares[index]


def _embedded(pixels) -> str:
    buffer = io.BytesIO()
    # As JPEG where that is smaller: photos are, tiny images are not.
    kind = "jpeg" if len(pixels) >= _SIDE else "png"
    Image.fromarray(pixels).save(buffer, format=kind)
    return report.embedded(f"image/{kind}", buffer.getvalue())
