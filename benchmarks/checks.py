"""What `keras-tl check` notices of planted faults, and what it raises on clean data.

Each dataset is written as a folder of images and checked as it is: what is raised then
is a false alarm, unless the data have the fault. Then each fault is planted into a copy
and the check is run again. Photographs are those of a folder with real data, which is
not part of the project. The tests plant every fault that has a code, into small data;
here it is a few that depend on the images.

    python -m benchmarks.checks DATA           # show, ten minutes
    python -m benchmarks.checks DATA --keep    # and write the results
"""

import argparse
import datetime
import shutil
import tempfile
import time
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw, ImageEnhance

from benchmarks import accuracy, harness, pages

NAME = "checks"
TARGETS = ("hymenoptera", "pacs_photo", "pacs_sketch", "cifar10_sample", "digits")
# Those that faults are planted into.
PLANTED_IN = ("hymenoptera", "pacs_photo", "cifar10_sample")


def images(folder: Path, split: str) -> list[Path]:
    """List the images of a split, in one order."""
    paths = (folder / split).rglob("*")
    return sorted(path for path in paths if path.is_file())


def drawn(folder: Path, split: str, share: float) -> list[Path]:
    """Draw a share of the images of a split, at least two."""
    paths = images(folder, split)
    count = max(2, round(share * len(paths)))
    chosen = np.random.default_rng(0).choice(len(paths), count, replace=False)
    return [paths[index] for index in chosen]


def mislabel(folder: Path, share: float) -> list[Path]:
    """Move training images to the next class."""
    classes = sorted(path.name for path in (folder / "train").iterdir())
    moved = []
    for path in drawn(folder, "train", share):
        other = classes[(classes.index(path.parent.name) + 1) % len(classes)]
        moved.append(path.rename(path.parent.with_name(other) / f"moved_{path.name}"))
    return moved


def copy_into_training(folder: Path, share: float) -> list[Path]:
    """Copy test images into training, smaller and compressed again."""
    made = []
    for path in drawn(folder, "test", share):
        copy = folder / "train" / path.parent.name / f"copy_{path.stem}.jpg"
        image = Image.open(path).convert("RGB")
        smaller = image.resize([max(16, round(0.8 * side)) for side in image.size])
        smaller.save(copy, quality=75)
        made.append(copy)
    return made


def darken_test(folder: Path, strength: float) -> list[Path]:
    """Take all test images in the dark."""
    for path in images(folder, "test"):
        image = Image.open(path).convert("RGB")
        path.unlink()
        dark = ImageEnhance.Brightness(image).enhance(strength)
        dark.save(path.with_suffix(".png"))
    return images(folder, "test")


def add_strangers(folder: Path, share: float) -> list[Path]:
    """Put digits among the training images."""
    from sklearn.datasets import load_digits

    made = []
    for number, path in enumerate(drawn(folder, "train", share)):
        pixels = (load_digits().images[number] * 15.9).astype("uint8")
        stranger = path.parent / f"stranger_{number}.png"
        Image.fromarray(pixels).resize(Image.open(path).size).save(stranger)
        made.append(stranger)
    return made


def stamp_a_class(folder: Path, share: float) -> list[Path]:
    """Write a mark into a corner of all images of the first class."""
    first = min(path.name for path in (folder / "train").iterdir())
    made = []
    for path in sorted(folder.glob(f"*/{first}/*")):
        image = Image.open(path).convert("RGB")
        width, height = image.size
        corner = (int((1 - share) * width), int((1 - share) * height), width, height)
        ImageDraw.Draw(image).rectangle(corner, "white")
        path.unlink()
        image.save(path.with_suffix(".png"))
        made.append(path.with_suffix(".png"))
    return made


LABELS = ("probable-label-error", "doubtful-label")
# Name -> function that plants, how much, and the codes that name the fault.
FAULTS = {
    "1 % of the labels wrong": (mislabel, 0.01, LABELS),
    "3 % of the labels wrong": (mislabel, 0.03, LABELS),
    "10 % of the labels wrong": (mislabel, 0.1, LABELS),
    "2 % of test in training, smaller and compressed": (
        copy_into_training,
        0.02,
        ("near-copies-across-splits",),
    ),
    "test images at half their brightness": (
        darken_test,
        0.5,
        ("train-differs-from-test",),
    ),
    "test images at a fifth of their brightness": (
        darken_test,
        0.2,
        ("train-differs-from-test",),
    ),
    "1 % digits among the photographs": (
        add_strangers,
        0.01,
        ("unlike-all-others",),
    ),
    "a mark in the corner of one class": (
        stamp_a_class,
        0.25,
        ("label-in-mark", "label-in-border", "label-in-file-properties"),
    ),
}


def check(folder: Path) -> tuple[dict, float]:
    """Check a folder: code -> severity and files, without notes; and the seconds."""
    from keras_tl.analysis import doctor

    started = time.perf_counter()
    diagnosis = doctor.check(folder)
    noticed = {
        finding.code: {
            "severity": finding.severity,
            "files": [str(path.relative_to(folder)) for path in finding.leave_out],
        }
        for finding in diagnosis.findings
    }
    return noticed, round(time.perf_counter() - started, 1)


def clean(target: str, folder: Path) -> dict:
    """Check data as they are."""
    noticed, seconds = check(folder)
    severities = [one["severity"] for one in noticed.values()]
    counts = {name: severities.count(name) for name in ("error", "warning", "note")}
    raised = [code for code, one in noticed.items() if one["severity"] != "note"]
    count = sum(len(images(folder, name)) for name in ("train", "validation", "test"))
    row = {"target": target, "images": count, **counts, "raised": raised}
    return row | {"seconds": seconds, "codes": sorted(noticed)}


def planted(target: str, folder: Path, fault: str, before: list[str]) -> dict:
    """Plant a fault into a copy of the data, and check it."""
    plant, share, codes = FAULTS[fault]
    with tempfile.TemporaryDirectory() as place:
        copy = Path(place) / target
        shutil.copytree(folder, copy)
        wrong = {str(path.relative_to(copy)) for path in plant(copy, share)}
        noticed, _ = check(copy)
    named = {file for code in codes for file in noticed.get(code, {}).get("files", [])}
    severe = [
        code
        for code, one in noticed.items()
        if one["severity"] != "note" and code not in (*codes, *before)
    ]
    return {
        "target": target,
        "fault": fault,
        "planted": len(wrong),
        "severity": {
            code: noticed[code]["severity"] for code in codes if code in noticed
        },
        # Findings on the whole of the data name no file.
        "files_right": len(named & wrong),
        "files_named": len(named),
        "others": severe,
    }


def main() -> None:
    """Check the data as they are and with each fault; show or keep the results."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("data", type=Path)
    parser.add_argument("--targets", nargs="+", default=TARGETS, choices=TARGETS)
    parser.add_argument("--state", type=Path, default=None)
    parser.add_argument("--keep", action="store_true", help="write the results")
    options = parser.parse_args()
    state = options.state or Path(tempfile.mkdtemp())
    cleans, faults = [], []
    for target in options.targets:
        folder = state / "images" / target
        accuracy.write_folder(target, options.data, folder)
        cleans.append(clean(target, folder))
        print(cleans[-1], flush=True)
        for fault in FAULTS if target in PLANTED_IN else ():
            faults.append(planted(target, folder, fault, cleans[-1]["codes"]))
            print(faults[-1], flush=True)
    if options.keep:
        record = {"date": datetime.date.today().isoformat()}
        pages.keep(
            NAME, record | harness.machine() | {"clean": cleans, "faults": faults}
        )


if __name__ == "__main__":
    main()
