"""`keras-tl rank DATA`: rank models for data of one's own, without training them."""

import shutil
from pathlib import Path

import keras_tl.quiet  # noqa: F401  Before Keras.

from rich.table import Table

from keras_tl import config, environment, errors, files, progress
from keras_tl.analysis import candidates, figures, ranking
from keras_tl.analysis.candidates import Candidate
from keras_tl.commands.settings import SPEECH, WHISPER, Rank
from keras_tl.data import datasets, splits
from keras_tl.data.sources import NOUNS
from keras_tl.models import catalog, log_mel, text_backbones
from keras_tl.training import store

# Names of the pretrained models of sound that weights can be given for.
SOUND = {SPEECH: candidates.Speech, WHISPER: candidates.Whisper}


def main(settings: Rank) -> ranking.Ranking:
    """Load the data, rank the candidates, print the table and write the results."""
    # Clips have the length that the speech embedding takes, where it is ranked.
    embeds = any(Rank.split(one)[0] == SPEECH for one in settings.weights)
    seconds = log_mel.SAMPLES / log_mel.RATE if embeds else None
    options = datasets.options_of(settings, count=settings.limit, seconds=seconds)
    data = datasets.load(settings.data, **options)
    print(data)
    kind = data.train.inputs.kind
    ranked_ones = chosen(settings, kind)
    cache = store.Cache() if settings.cache else None
    folder = None if settings.out is None else files.new_folder(settings.out)
    try:
        ranked = ranking.rank(
            ranked_ones, data, cache=cache, decision=settings.score, seed=settings.seed
        )
    except BaseException:
        # Nothing is left behind of a ranking that was not made.
        if folder is not None:
            shutil.rmtree(folder, ignore_errors=True)
        raise
    rows = ranked.rows()
    progress.console().print(table(rows, settings.score, kind))
    print(ranked.sentence())
    print(baseline(rows) if kind == "image" else without_pretraining(rows, kind))
    if not ranked.best.candidate.is_baseline:
        print(next_step(ranked.best.candidate, settings.data))
    if folder is not None:
        save(folder, ranked, settings, data)
        print(f"Written to {files.quoted(folder)}.")
    return ranked


def chosen(settings: Rank, kind: str) -> list[Candidate]:
    """List the candidates that the settings name, else those at hand, and base lines.

    Args:
        settings: Those of the command.
        kind: Kind of the examples, see `Source.kind`.

    Raises:
        InputError: A backbone that does not exist, weights that do not go with it, or
            what means nothing for the kind.
    """
    if kind not in OF_KIND:
        raise errors.expected("data", "hold images, texts or clips", kind)
    if kind != "image" and settings.image_size is not None:
        raise errors.expected(
            "image_size", f"be left out for {NOUNS[kind]}", settings.image_size
        )
    return [*OF_KIND[kind](settings), *candidates.BASELINES[kind]]


def _images(settings) -> list[Candidate]:
    size = settings.image_size
    given = [
        candidates.named(name, size, weights=file, preprocessing=contract)
        for name, contract, file in map(Rank.split, settings.weights)
    ]
    named = [
        candidates.named(name, size, alpha=None if alpha == 1 else alpha)
        for name, alpha in map(catalog.width, settings.backbones)
    ]
    return [*(named or candidates.at_hand(size)), *given]


def _texts(settings) -> list[Candidate]:
    if settings.weights:
        hint = "Name the folders of encoders: --backbones FOLDER..."
        raise errors.expected(
            "weights", "be left out for texts", settings.weights, hint
        )
    folders = settings.backbones or text_backbones.at_hand()
    for folder in folders:
        if not Path(folder).is_dir():
            raise errors.expected(
                "backbones", "name folders of encoders for texts", str(folder)
            )
    return [candidates.Encoder(Path(folder)) for folder in folders]


def _clips(settings) -> list[Candidate]:
    if settings.backbones:
        raise errors.expected(
            "backbones",
            "be left out for clips",
            settings.backbones,
            f"Name their weights: --weights {SPEECH}=FOLDER {WHISPER}=FOLDER",
        )
    listed = []
    for name, _, folder in map(Rank.split, settings.weights):
        if name not in SOUND:
            wanted = f"be {' or '.join(f'{one}=FOLDER' for one in SOUND)} for clips"
            raise errors.expected("weights", wanted, name)
        listed.append(SOUND[name](Path(folder)))
    return listed


# Kind of the examples -> function from the settings to pretrained candidates; and what
# names some.
OF_KIND = {"image": _images, "text": _texts, "audio": _clips}
NAMED_BY = {"text": "--backbones FOLDER...", "audio": f"--weights {SPEECH}=FOLDER"}


def table(rows: list[dict], score: str, kind: str = "image") -> Table:
    """Make the table of a ranking, for 80 columns: the best candidate first.

    What it leaves out is in the files of `--out`.
    """
    of_images = kind == "image"
    made = Table(title="The best first", title_style="bold")
    made.add_column("backbone", overflow="fold")
    for head in ("accuracy", "interval", *["ImageNet"] * of_images, "MB", "seconds"):
        made.add_column(head, justify="right")
    for row in rows:
        tied = "= " if row["tied_with_first"] else ""
        made.add_row(
            row["name"],
            tied + _percent(row, "expected_accuracy"),
            f"{_percent(row, 'low')} to {_percent(row, 'high')}",
            *[_imagenet(row)] * of_images,
            f"{row['megabytes']:,.0f}",
            f"{row['seconds']:,.0f}",
        )
    made.caption = (
        f"Expected accuracy on frozen features in percent, {NAMES[score]}, with its "
        "95 % interval; =, tied with the first. "
    )
    if of_images:
        made.caption += "ImageNet: stated accuracy, and the place by it. "
    made.caption += "--out FOLDER writes all scores."
    return made


# What the scores that can decide are.
NAMES = {
    "logistic": "logistic regression, on validation",
    "ridge": "ridge classifier, each example left out in turn",
    "neighbours": "vote of nearest neighbours, on validation",
}


def _percent(row, name) -> str:
    return f"{100 * row[name]:.1f}"


def _imagenet(row) -> str:
    if row["imagenet_accuracy"] is None:
        return ""
    return f"{_percent(row, 'imagenet_accuracy')} ({row['imagenet_rank']})"


def baseline(rows: list[dict]) -> str:
    """Return whether the order of ImageNet accuracies would have chosen the same."""
    known = [row for row in rows if row["imagenet_rank"]]
    if len(known) < 2:
        return "Too few ImageNet accuracies are stated to compare with their order."
    best = min(known, key=lambda row: row["imagenet_rank"])
    if best["rank"] == 1:
        return f"The order of ImageNet accuracies begins with {best['name']} as well."
    lost = rows[0]["expected_accuracy"] - best["expected_accuracy"]
    chance = ", within chance" if best["tied_with_first"] else ""
    return (
        f"The order of ImageNet accuracies would have chosen {best['name']}: "
        f"{100 * lost:.1f} points less{chance}."
    )


def without_pretraining(rows: list[dict], kind: str) -> str:
    """Return what the best pretrained model is worth beside none."""
    base = next(row for row in rows if row["is_baseline"])
    others = [row for row in rows if not row["is_baseline"]]
    if not others:
        return (
            f"Nothing pretrained was ranked. To name some: keras-tl rank ... "
            f"{NAMED_BY[kind]}"
        )
    best = others[0]
    gain = 100 * (best["expected_accuracy"] - base["expected_accuracy"])
    tied = best["tied_with_first"] and base["tied_with_first"]
    reached = _percent(base, "expected_accuracy")
    return (
        f"Without pretraining, {base['name']} reaches {reached} %: {best['name']} is "
        f"worth {gain:+.1f} points{', within chance' * tied}."
    )


def next_step(candidate: Candidate, data: str) -> str:
    """Return the command that trains a candidate."""
    given = " ".join(
        f"{flag} {files.quoted(str(value))}"
        for flag, value in candidate.flags().items()
        if value is not None
    )
    return f"To train {candidate.name}: keras-tl train {files.quoted(data)} {given}"


def save(
    folder: Path, ranked: ranking.Ranking, settings: Rank, data: splits.Splits
) -> None:
    """Write `ranking.csv`, `ranking.png` and, last, `ranking.json`."""
    rows = ranked.rows()
    files.write_csv(folder / "ranking.csv", rows)
    points = [
        (
            row["name"],
            row["megabytes"],
            row["expected_accuracy"],
            (row["low"], row["high"]),
        )
        for row in rows
    ]
    figures.save(figures.size_and_accuracy(points), folder / "ranking.png")
    seconds = sum(row["seconds"] for row in rows)
    about = environment.provenance("rank", settings, seconds)
    result = {
        **about,
        "settings": config.to_json(settings),
        "data": splits.describe(data),
        "decision": ranked.decision,
        "choice": ranked.best.name,
        "tied": ranked.order.tied,
        "sentence": ranked.sentence(),
        "candidates": rows,
    }
    files.write_json(folder / "ranking.json", result)
