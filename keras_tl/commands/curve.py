"""`keras-tl curve DATA`: how many more examples an accuracy needs."""

import io
import logging
import shutil
import time
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace

import keras_tl.quiet as quiet  # Before Keras.

import keras
import numpy as np
from rich.table import Table

from keras_tl import config, environment, errors, files, progress
from keras_tl.analysis import (
    candidates,
    evaluation,
    figures,
    label_next,
    learning_curve,
    ranking,
    report,
)
from keras_tl.commands import rank, runs
from keras_tl.commands.settings import SPEECH, Curve, Rank
from keras_tl.data import datasets, folders, splits
from keras_tl.data.sources import read_all
from keras_tl.data.splits import Split, Splits
from keras_tl.models import catalog, log_mel
from keras_tl.training import features, phases, placement, store

# Loads a backbone, with the same weights each time.
Load = Callable[[], keras.Model]
# Most classes whose gain is printed.
MOST_CLASSES = 10


def main(settings: Curve) -> learning_curve.Forecast:
    """Measure the curve, print table and forecast, and write the results."""
    load, data = of_run(settings) if runs.is_run(settings.data) else of_data(settings)
    if data.task != "single-label":
        raise errors.expected("data", "have one class for each example", data.task)
    data = splits.limit(data, settings.limit, seed=settings.seed)
    print(data)
    # Raises for what cannot be used before anything is computed.
    learning_curve.sizes_of(len(data.train), len(data.class_names))
    pool = unlabelled(settings, data)
    folder = None if settings.out is None else files.new_folder(settings.out)
    try:
        cache = store.Cache() if settings.cache else None
        stem = ranking.pooled(load(), len(data.class_names))
        train, validation = ranking.features_of(stem, data, cache=cache)
        curve = measure(settings, load, data, (train, validation), cache)
        forecast = learning_curve.forecast(curve, seed=settings.seed)
        of_classes = learning_curve.classes(curve, seed=settings.seed)
        if pool is not None:
            made = features.extract(stem, pool, cache=cache)
            write_next(settings, folder, pool, made, train, validation)
        if folder is not None:
            save(folder, curve, forecast, of_classes, settings, data)
    except BaseException:
        # Nothing is left behind of a curve that was not measured.
        if folder is not None:
            shutil.rmtree(folder, ignore_errors=True)
        raise
    progress.console().print(table(curve, forecast))
    progress.console().print(table_of_classes(of_classes))
    print(forecast.sentence(settings.accuracy))
    print(twice(curve, forecast))
    if folder is not None:
        print(f"Written to {files.quoted(folder)}.")
    if runs.is_run(settings.data):
        add_to_report(Path(settings.data), curve, forecast, settings)
    return forecast


def measure(settings, load, data, made, cache) -> learning_curve.Curve:
    """Measure the curve, on features, or by fine-tuning for each size."""
    chosen = {"seed": settings.seed}
    if not settings.fine_tune:
        chosen["repeats"] = settings.repeats or learning_curve.REPEATS
        return learning_curve.measure(*made, data.class_names, **chosen)
    if data.train.inputs.kind != "image":
        kind = data.train.inputs.kind
        raise errors.expected("fine_tune", f"be left out of data of {kind}", True)
    # Several models are traced; TensorFlow warns that this is slow.
    logging.getLogger("tensorflow").setLevel(logging.ERROR)
    setup = phases.Setup(
        placement.choose(), batch_size=32, seed=settings.seed, cache=cache
    )
    print(
        "What the lines below call validation are training images that are in no draw; "
        "the table is of the validation split."
    )
    learn = learning_curve.fine_tuned(load, data.validation, data.class_names, setup)
    return learning_curve.measure(
        data.train,
        data.validation,
        data.class_names,
        repeats=settings.repeats or 2,
        learn=learn,
        **chosen,
    )


def unlabelled(settings: Curve, data: Splits) -> Split | None:
    """Load the images without labels of which some are to be labelled."""
    if settings.unlabelled is None:
        return None
    if data.train.inputs.kind != "image":
        kind = data.train.inputs.kind
        raise errors.expected("unlabelled", f"be left out of data of {kind}", kind)
    pool = folders.unlabelled(
        settings.unlabelled, data.class_names, bad_files=settings.bad_files
    )
    return pool.at_size(data.train.inputs.input_spec()["shape"][0])


def write_next(settings: Curve, folder: Path, pool, made, train, validation) -> None:
    """Write which images to label next, and print what that has gained so far."""
    count = min(settings.label, len(made))
    chosen = label_next.order(
        settings.method, train, read_all(made.inputs), count, seed=settings.seed
    )
    names = pool.inputs.names(chosen) or [str(index) for index in chosen]
    rows = [{"place": n, "file": name} for n, name in enumerate(names, start=1)]
    files.write_csv(folder / "label_next.csv", rows)
    print(
        f"To label next, by {settings.method}: {count:,} of {len(made):,} images, in "
        "label_next.csv."
    )
    gains = label_next.gains(settings.method, train, validation)
    gained = evaluation.seed_summary(gains)
    changed = evaluation.in_points(gained["mean"], gained["interval"])
    print(
        "On the images with labels, choosing some of them so rather than at random "
        f"changes the accuracy by {changed}."
    )


def add_to_report(run: Path, curve, forecast, settings: Curve) -> None:
    """Add the curve to the report of a run."""
    figure = io.BytesIO()
    ahead = forecast.ahead(curve.sizes[0])
    drawn = figures.learning_curve(curve.rows(), ahead, settings.accuracy)
    figures.render(drawn, figure, format="png", dpi=150)
    report.add(
        run / "report.html",
        "curve",
        figure=report.embedded("image/png", figure.getvalue()),
        sentences=[forecast.sentence(settings.accuracy), twice(curve, forecast)],
    )
    print(f"Added to {files.quoted(run / 'report.html')}.")


def of_run(settings: Curve) -> tuple[Load, Splits]:
    """Return how to load the backbone of a run as it was before, and its data.

    The trained one has seen the labels of all training examples: on its features, few
    of them would seem to be enough.

    Raises:
        InputError: A study, a run whose data are not there, one of texts or sound, or
            one that has no pretrained backbone.
    """
    for name in ("backbone", "weights", "image_size"):
        if getattr(settings, name) is not None:
            raise errors.expected(
                name,
                "be left out for a run, which has its own",
                getattr(settings, name),
            )
    made, data = runs.load(settings.data)
    backbone = runs.backbone(made)
    if backbone is None:
        raise errors.InputError(
            f"`data` can name a run of images with a pretrained backbone. Received: "
            f"{settings.data}. Give its data and --backbone or --weights instead."
        )
    print(f"Features: {backbone.name}, before the run trained it.")
    return lambda: runs.backbone(made), data


def of_data(settings: Curve) -> tuple[Load, Splits]:
    """Return how to load a backbone, and the data for it."""
    embeds = settings.weights is not None and Rank.split(settings.weights)[0] == SPEECH
    seconds = log_mel.SAMPLES / log_mel.RATE if embeds else None
    options = datasets.options_of(settings, count=settings.limit, seconds=seconds)
    data = datasets.load(settings.data, **options)
    chosen = candidate(settings, data.train.inputs.kind)
    print(f"Features: {chosen.name}.")
    prepared = chosen.prepare(data)
    return lambda: chosen.load(prepared), prepared


def candidate(settings: Curve, kind: str) -> candidates.Candidate:
    """Return the backbone that the settings name, or what needs no weights."""
    if settings.backbone is None and settings.weights is None:
        if kind == "image":
            name = catalog.find("efficientnet_lite0").name
            return candidates.named(name, settings.image_size)
        return candidates.BASELINES[kind][0]
    of_rank = SimpleNamespace(
        backbones=() if settings.backbone is None else (settings.backbone,),
        weights=() if settings.weights is None else (settings.weights,),
        image_size=settings.image_size,
    )
    return rank.OF_KIND[kind](of_rank)[-1]


def table(curve: learning_curve.Curve, forecast: learning_curve.Forecast) -> Table:
    """Make the table of the sizes that were measured, and of the forecast."""
    made = Table(title="Accuracy by training examples", title_style="bold")
    for name in ("examples", "accuracy", "range"):
        made.add_column(name, justify="right")
    for row in curve.rows():
        several = row["draws"] > 1
        ends = f"{_percent(row['low'])} to {_percent(row['high'])}" if several else ""
        made.add_row(f"{row['examples']:,}", _percent(row["accuracy"]), ends)
    made.add_section()
    for times in (2, 4, 10):
        examples = times * curve.sizes[-1]
        middle, low, high = forecast.accuracy(examples)
        ends = f"{_percent(low)} to {_percent(high)}"
        made.add_row(f"{examples:,}", _percent(middle), ends)
    made.caption = (
        "In percent, on validation; the range is that of the draws. Below the line a "
        "forecast with its 90 % interval."
    )
    return made


def table_of_classes(rows: list[dict]) -> Table:
    """Make the table of the classes that gain most from more examples."""
    made = Table(title="What twice the examples would add", title_style="bold")
    made.add_column("class", overflow="fold")
    for name in ("examples", "accuracy", "points", "90 % interval"):
        made.add_column(name, justify="right")
    known = [row for row in rows if row["gain"] is not None]
    for row in known[:MOST_CLASSES]:
        made.add_row(
            files.printable(row["class"]),
            f"{row['examples']:,}",
            _percent(row["accuracy"]),
            f"{100 * row['gain']:+.1f}",
            f"{100 * row['low']:+.1f} to {100 * row['high']:+.1f}",
        )
    left = len(rows) - len(known[:MOST_CLASSES])
    if left:
        made.caption = f"{left} further classes are in classes.csv of --out FOLDER."
    return made


def twice(curve, forecast) -> str:
    """Return a sentence that names what twice the examples would give."""
    middle, low, high = forecast.accuracy(2 * curve.sizes[-1])
    now = forecast.reached
    ends = f"(90 % interval {_percent(low)} to {_percent(high)})"
    if middle <= now:
        return f"Twice the examples would add nothing to {_percent(now)} % {ends}."
    return (
        f"Twice the examples would give {_percent(middle)} % {ends}; now it is "
        f"{_percent(now)} %."
    )


def _percent(share) -> str:
    return f"{100 * share:.1f}"


def save(folder, curve, forecast, of_classes, settings, data) -> None:
    """Write `curve.csv`, `classes.csv`, `curve.png` and, last, `curve.json`."""
    rows = curve.rows()
    files.write_csv(folder / "curve.csv", rows)
    files.write_csv(folder / "classes.csv", of_classes)
    ahead = forecast.ahead(curve.sizes[0])
    figure = figures.learning_curve(rows, ahead, settings.accuracy)
    figures.save(figure, folder / "curve.png")
    middle, low, high = forecast.examples_for(settings.accuracy)
    needed = {"examples": middle, "low": low, "high": high}
    seconds = time.perf_counter() - quiet.STARTED
    never = {name: None if np.isinf(one) else one for name, one in needed.items()}
    result = {
        **environment.provenance("curve", settings, seconds),
        "settings": config.to_json(settings),
        "data": splits.describe(data),
        "curve": rows,
        "wanted": settings.accuracy,
        "needed": never,
        "sentence": forecast.sentence(settings.accuracy),
        "classes": of_classes,
    }
    files.write_json(folder / "curve.json", result)
