"""The data and the transfer, checked before training.

`check` reads data of any kind once and runs every check of data over it; `check_model`
and `check_pipeline` check Keras code of one's own. Each returns findings, worst first;
docs/how_to/check_data.md has a section for each of their codes.
"""

import warnings
from dataclasses import dataclass, field, replace

import numpy as np

from keras_tl import errors
from keras_tl.analysis import (
    feature_checks,
    file_checks,
    findings,
    model_checks,
    pipeline_checks,
    records,
    shortcut_checks,
    sound_checks,
    split_checks,
    text_checks,
)
from keras_tl.analysis.findings import Finding
from keras_tl.analysis.records import Records
from keras_tl.data import assembly, audio, datasets, splits, tables
from keras_tl.data.choices import FileKind
from keras_tl.data.splits import Splits

# The backbone whose features are looked at, and the side of the images for it. Those
# are the defaults of recipes, which find the features in the store.
BACKBONE, IMAGE_SIZE = "efficientnet_lite0", 96
# Most examples whose features are computed: about a minute on two cores.
MOST = 8_000

# Kind of examples -> the checks of what is known of each. Those of copies, splits and
# classes are for all kinds.
CHECKS = {
    "image": (
        file_checks.sizes,
        file_checks.few_bits,
        file_checks.blank,
        file_checks.headers,
        file_checks.names,
        shortcut_checks.properties,
        shortcut_checks.marks_of_images,
    ),
    "audio": (
        sound_checks.lengths,
        sound_checks.clipped,
        sound_checks.formats,
        sound_checks.names,
        shortcut_checks.properties,
    ),
    "text": (
        text_checks.wordless,
        text_checks.decoding,
        text_checks.markup,
        text_checks.lengths,
        shortcut_checks.form,
        shortcut_checks.words,
    ),
}

check_model = model_checks.check
check_pipeline = pipeline_checks.check


@dataclass(frozen=True)
class Diagnosis:
    """The findings of a check, and the data they are of.

    Attributes:
        findings: The findings, worst first.
        records: The examples, to which `Finding.pictures` refer.
        splits: The data as training will get them, without what cannot be used; `None`
            where that leaves too little.
        content: The files, all of which were read; `None` of data that are not in
            files.
        options: How they become splits.
    """

    findings: tuple[Finding, ...]
    records: Records = field(repr=False)
    splits: Splits | None = field(default=None, repr=False)
    content: assembly.Content | None = field(default=None, repr=False)
    options: assembly.Options | None = field(default=None, repr=False)

    def named(self, severity: findings.Severity) -> list[Finding]:
        """Return the findings of one severity."""
        return [one for one in self.findings if one.severity == severity]


def check(
    data: object,
    *,
    columns: tables.Columns | None = None,
    kind: FileKind | None = None,
    count: int | None = None,
    features: bool = True,
    backbone: str = BACKBONE,
    cache: object = None,
    rate: int = audio.RATE,
    seconds: float | None = None,
    **options,
) -> Diagnosis:
    """Check data of any kind; nothing is changed, and all that is wrong is listed.

    Args:
        data: See `datasets.load`.
        columns: See `datasets.load`.
        kind: See `datasets.load`.
        count: Check at most this many examples of each split of data that are not in
            files, and compute the features of at most as many of all.
        features: Whether to compute features, for the checks in `feature_checks`.
        backbone: Name of the backbone whose features they are.
        cache: A `store.Cache`, where features are kept for training; `None` keeps none.
        rate: See `datasets.load`.
        seconds: See `datasets.load`.
        **options: See `assembly.Options`; `bad_files` does not matter.

    Raises:
        InputError: Data that cannot be read at all.

    >>> diagnosis = check("digits", features=False)
    >>> [finding.code for finding in diagnosis.findings]
    []
    """
    errors.check_options(options, check, assembly.Options)
    chosen = assembly.Options(**{"image_size": IMAGE_SIZE, **options})
    chosen = replace(chosen, bad_files="skip")
    content = datasets.read(
        data, columns, chosen, datasets.choices_of(kind, rate, seconds)
    )
    if content is None:
        loaded = datasets.load(data, columns=columns, kind=kind, count=count, **options)
        seen, noticed, problems = records.of_splits(loaded), [], []
    else:
        seen = records.of_content(content)
        noticed = [*file_checks.unusable(content), *file_checks.unused(content)]
        loaded, problems = _assembled(content, chosen)
    of_splits = split_checks.check(seen)
    # Why there are no splits is a finding of its own.
    if not {"group-across-splits", "one-class"} & {one.code for one in of_splits}:
        noticed += problems
    noticed += of_splits
    if len(seen):
        noticed += [one for run in CHECKS.get(seen.kind, ()) for one in run(seen)]
    if features and loaded is not None and seen.kind in ("image", "text"):
        noticed += _check_features(seen, loaded, backbone, cache, count)
    return Diagnosis(tuple(findings.ordered(noticed)), seen, loaded, content, chosen)


def without_errors(diagnosis: Diagnosis) -> Splits:
    """Return the splits without the files, or the examples, that the errors name.

    Raises:
        InputError: Too few of some class are left, or leaving out is no remedy.
    """
    if diagnosis.content is None:
        return _without_surplus(diagnosis)
    unwanted = findings.files_to_leave_out(diagnosis.named("error"))
    content = assembly.without(diagnosis.content, unwanted)
    return assembly.assemble(content, diagnosis.options)


def _without_surplus(diagnosis: Diagnosis) -> Splits:
    """Return splits that are not in files without the copies that errors name."""
    for error in diagnosis.named("error"):
        if not error.surplus:
            raise errors.InputError(f"{error.message} {error.remedy}")
    unwanted = {index for one in diagnosis.named("error") for index in one.surplus}
    first, kept = 0, {}
    for name, split in diagnosis.splits.items():
        rows = [row for row in range(len(split)) if first + row not in unwanted]
        kept[name] = split.take(rows)
        first += len(split)
    return replace(diagnosis.splits, **kept)


def check_splits(data: Splits, *, features: bool = False, **options) -> list[Finding]:
    """Check three splits in memory. See `check`."""
    return list(check(data, features=features, **options).findings)


def _assembled(content, options) -> tuple[Splits | None, list[Finding]]:
    """Make splits of what can be used; or report why there are none."""
    try:
        with warnings.catch_warnings():
            # Each of them is a finding.
            warnings.simplefilter("ignore", errors.InputWarning)
            return assembly.assemble(content, options), []
    except errors.InputError as error:
        return None, [
            Finding(
                "no-splits",
                "error",
                f"Without what cannot be used, there are no three splits: {error}",
                f"Repair the files, or give more {content.kind.nouns} of each class.",
            )
        ]


def _check_features(seen, loaded, backbone, cache, count) -> list[Finding]:
    """Compute the features of the examples, and check them."""
    most = min(count or MOST, MOST)
    chosen = np.arange(len(seen))
    notes = []
    sought = "Wrong labels, images unlike the others and splits that differ"
    if seen.kind == "text":
        sought = "Splits that differ"
    if len(seen) > most:
        every = [str(label) for label in seen.labels]
        labels = np.unique(every, return_inverse=True)[1]
        chosen = splits.balanced(labels, most, 0)
        notes.append(
            Finding(
                "features-of-a-part",
                "note",
                f"{sought} were looked for in {most:,} of {len(seen):,} {seen.nouns}.",
                "Give `--limit` to look at more or fewer.",
            )
        )
    part = records.take(seen, chosen)
    if seen.kind == "text":
        noticed = text_checks.shift(part)
    else:
        values = _features(part, loaded, chosen, backbone, cache)
        noticed = feature_checks.check(values, part)
    return notes + [
        replace(one, pictures=tuple(int(chosen[index]) for index in one.pictures))
        for one in noticed
    ]


def _features(part, loaded, chosen, backbone, cache) -> np.ndarray:
    """Return the pooled features of some images, in their order."""
    from keras_tl.analysis import ranking
    from keras_tl.models import backbones
    from keras_tl.training import features

    if part.squares is not None:
        source = part.squares
    elif part.paths:
        source = part.paths
    else:
        every = splits.join(splits.join(loaded.train, loaded.validation), loaded.test)
        source = every.take(chosen).inputs
    split = splits.Split(source, np.zeros(len(part), "int32")).at_size(IMAGE_SIZE)
    # What training would run once, so that its store holds the same.
    stem = ranking.pooled(backbones.load(backbone, image_size=IMAGE_SIZE), 2)
    extracted = features.extract(stem, split, cache=cache, title="features")
    return extracted.inputs.read(np.arange(len(part)))
