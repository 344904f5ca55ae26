"""`keras-tl rank DATA`: rank backbones for data of one's own, without training them."""

import shutil
from pathlib import Path

import keras_tl.quiet  # noqa: F401  Before Keras.

from rich.table import Table

from keras_tl import config, environment, files, progress
from keras_tl.analysis import figures, ranking
from keras_tl.commands.settings import Rank
from keras_tl.data import datasets, splits
from keras_tl.models import catalog
from keras_tl.training import store


def main(settings: Rank) -> ranking.Ranking:
    """Load the data, rank the candidates, print the table and write the results."""
    options = datasets.options_of(settings, count=settings.limit, kind="image")
    data = datasets.load(settings.data, **options)
    print(data)
    candidates = chosen(settings)
    cache = store.Cache() if settings.cache else None
    folder = None if settings.out is None else files.new_folder(settings.out)
    try:
        ranked = ranking.rank(
            candidates, data, cache=cache, decision=settings.score, seed=settings.seed
        )
    except BaseException:
        # Nothing is left behind of a ranking that was not made.
        if folder is not None:
            shutil.rmtree(folder, ignore_errors=True)
        raise
    rows = ranked.rows()
    progress.console().print(table(rows, settings.score))
    print(ranked.sentence())
    print(baseline(rows))
    print(next_step(ranked.best.candidate, settings.data))
    if folder is not None:
        save(folder, ranked, settings, data)
        print(f"Written to {files.quoted(folder)}.")
    return ranked


def chosen(settings: Rank) -> list[ranking.Candidate]:
    """List the candidates that the settings name, else those at hand, and the files.

    Raises:
        InputError: A backbone that does not exist, or weights that do not go with it.
    """
    given = [
        ranking.named(name, settings.image_size, weights=file, preprocessing=contract)
        for name, contract, file in map(Rank.split, settings.weights)
    ]
    named = [
        ranking.named(name, settings.image_size, alpha=None if alpha == 1 else alpha)
        for name, alpha in map(catalog.width, settings.backbones)
    ]
    return [*(named or ranking.at_hand(settings.image_size)), *given]


def table(rows: list[dict], score: str) -> Table:
    """Make the table of a ranking, for 80 columns: the best candidate first.

    What it leaves out is in the files of `--out`.
    """
    made = Table(title="Backbones, the best first", title_style="bold")
    made.add_column("backbone", overflow="fold")
    for head in ("accuracy", "interval", "ImageNet", "MB", "seconds"):
        made.add_column(head, justify="right")
    for row in rows:
        tied = "= " if row["tied_with_first"] else ""
        made.add_row(
            row["name"],
            tied + _percent(row, "expected_accuracy"),
            f"{_percent(row, 'low')} to {_percent(row, 'high')}",
            _imagenet(row),
            f"{row['megabytes']:,.0f}",
            f"{row['seconds']:,.0f}",
        )
    made.caption = (
        f"Expected accuracy on frozen features in percent, {NAMES[score]}, with its "
        "95 % bootstrap interval; =, tied with the first. ImageNet: stated accuracy, "
        "and the place by it. --out FOLDER writes all scores."
    )
    return made


# What the scores that can decide are.
NAMES = {
    "logistic": "logistic regression, on validation",
    "ridge": "ridge classifier, each image left out in turn",
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


def next_step(candidate: ranking.Candidate, data: str) -> str:
    """Return the command that trains a candidate, where a recipe can."""
    width = "" if candidate.alpha is None else f":{candidate.alpha:g}"
    flags = {
        "--backbone": files.quoted(f"{candidate.backbone}{width}"),
        "--weights": None,
        "--preprocessing": candidate.preprocessing,
        "--image-size": candidate.image_size,
    }
    if candidate.weights != "imagenet":
        flags["--weights"] = files.quoted(candidate.weights)
    given = " ".join(f"{k} {v}" for k, v in flags.items() if v is not None)
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
