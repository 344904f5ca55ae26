"""Studies: many small trainings, each of which is kept as soon as it ends."""

import functools
import hashlib
import itertools
import json
import shutil
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path

import keras
from matplotlib.figure import Figure
from rich.table import Table

from keras_tl import errors, files, progress
from keras_tl.analysis import figures
from keras_tl.analysis.evaluation import pairs_interval, seed_summary
from keras_tl.config import Run
from keras_tl.training import workers

Row = dict[str, str | int | float]


def grid(trial: Callable[..., Row], **axes: Iterable) -> dict[str, Callable[[], Row]]:
    """Name a trial for every combination of settings.

    Args:
        trial: Called with the name of the trial, and each setting by its name.
        **axes: Name of a setting -> its values; those of the last change fastest.

    >>> list(grid(print, seed=range(2), method=("plain", "no head")))[2:]
    ['seed-1-plain', 'seed-1-no-head']
    """
    trials = {}
    for values in itertools.product(*axes.values()):
        chosen = dict(zip(axes, values, strict=True))
        parts = [
            f"{axis}-{value}" if isinstance(value, int | float) else str(value)
            for axis, value in chosen.items()
        ]
        name = "-".join(parts).replace(" ", "-")
        trials[name] = functools.partial(trial, name, **chosen)
    return trials


def run(folder: Path, trials: Mapping[str, Callable[[], Row]]) -> list[Row]:
    """Run trials one after the other, and each only once.

    The result of a trial is written to `folder/trials/NAME.json` when it ends: a study
    that was killed continues with the trial it was killed in.

    Args:
        folder: The run's folder.
        trials: Name, which is also that of a file -> function that returns settings
            and measurements.

    Returns:
        Results of the trials, in their order, each with its `seconds`.
    """
    errors.check_at_least("len(trials)", len(trials), 1)
    rows = []
    for number, (name, trial) in enumerate(trials.items(), start=1):
        if not _kept(folder, name).exists():
            left = _left(rows, len(trials) - len(rows))
            print(f"Trial {number} of {len(trials)}{left}: {name}", flush=True)
        rows.append(run_once(folder, name, trial))
    return rows


def _left(rows: Sequence[Row], remaining: int) -> str:
    """Estimate how long the remaining trials take, from those that ended."""
    if not rows:
        return ""
    minutes = remaining * sum(row["seconds"] for row in rows) / len(rows) / 60
    return f", about {minutes:.0f} min left" if minutes >= 1.5 else ""


def run_once(folder: Path, name: str, trial: Callable[[], Row]) -> Row:
    """Run a trial, unless its result is kept, and return the result.

    Args:
        folder: The run's folder.
        name: Name of the trial, which is also that of a file.
        trial: Function that returns settings and measurements.

    Returns:
        Result of the trial, with its `seconds`.

    Raises:
        KeyboardInterrupt: Ctrl-C; the finished trials are kept.
        InputError: The trial raises it; the message names the trial.
    """
    path = _kept(folder, name)
    kept = workers.from_chief(_read(path))
    if kept is None:
        path.parent.mkdir(exist_ok=True)
        started = time.perf_counter()
        try:
            row = trial()
        except KeyboardInterrupt:
            # A phase would name the place of its weights, which a trial does not keep.
            raise KeyboardInterrupt("Finished trials are kept.") from None
        except errors.InputError as error:
            raise errors.InputError(
                f"The trial {name} cannot be done. {error} The trials before it are in "
                f"{path.parent}; run the study anew with other settings."
            ) from None
        row["seconds"] = round(time.perf_counter() - started, 2)
        files.write_json(path, row | {_CHECKSUM: _checksum(row)})
        # Otherwise the graphs of all trials stay in memory. The precision is forgotten
        # with them.
        policy = keras.config.dtype_policy()
        keras.backend.clear_session()
        keras.config.set_dtype_policy(policy)
        kept = _read(path)
    return kept


# What the file of a trial holds besides its result.
_CHECKSUM = "checksum"


def _checksum(row) -> str:
    # As JSON has it: what is read back has lists for tuples.
    return hashlib.sha256(json.dumps(row).encode()).hexdigest()[:16]


def _read(path) -> Row | None:
    """Read the result of a trial; `None` where there is none, or a damaged one."""
    if not path.exists():
        return None
    try:
        row = files.read_json(path)
    except errors.InputError as error:
        if isinstance(error.__cause__, OSError):
            raise
        row = None
    # Files of earlier versions have no checksum.
    if isinstance(row, dict) and "seconds" in row:
        kept = row.pop(_CHECKSUM, None)
        if kept in (None, _checksum(row)):
            return row
    errors.warn(f"The kept result {path} is damaged: its trial is run again.")
    return None


def _kept(folder, name):
    return folder / "trials" / f"{name}.json"


def summarize(
    rows: Sequence[Row],
    by: Sequence[str],
    value: str = "accuracy",
    *,
    over: str = "seeds",
) -> list[Row]:
    """Summarize trials that differ in their seed alone.

    Args:
        rows: Results of trials, see `run`.
        by: Names of the settings, and of what follows from them.
        value: Name of the measurement.
        over: What a seed stands for, such as a fold.

    Returns:
        One row for each setting, in the order of `rows`: the settings, `mean`, `low`
        and `high` of the value over its seeds, their number under the name `over`, and
        `seconds`, the median.

    >>> rows = [{"layers": n, "accuracy": a, "seconds": 1} for n, a in [(1, 0), (1, 1)]]
    >>> summarize(rows, ["layers"])[0]["mean"]
    0.5
    """
    groups: dict[tuple, list[Row]] = {}
    for row in rows:
        groups.setdefault(tuple(row[name] for name in by), []).append(row)
    summaries = []
    for key, members in groups.items():
        spread = seed_summary([row[value] for row in members])
        seconds = sorted(row["seconds"] for row in members)
        summaries.append(
            dict(zip(by, key, strict=True))
            | {"mean": spread["mean"], "low": spread["min"], "high": spread["max"]}
            | {over: spread["n"], "seconds": seconds[len(seconds) // 2]}
        )
    return summaries


def series(
    summaries: Sequence[Row], along: str, of: str
) -> dict[str, list[tuple[int, float, float, float]]]:
    """Turn summaries into the series of `figures.lines`.

    Args:
        summaries: Rows of `summarize`.
        along: Name of the setting on the horizontal axis.
        of: Name of the setting that has a line for each of its values.

    Returns:
        Value of `of` -> place among the values of `along`, mean, low and high.
    """
    places = list(dict.fromkeys(row[along] for row in summaries))
    lines: dict[str, list] = {}
    for row in summaries:
        point = (places.index(row[along]), row["mean"], row["low"], row["high"])
        lines.setdefault(str(row[of]), []).append(point)
    return lines


def chart(summaries: Sequence[Row], along: str, of: str, label: str) -> Figure:
    """Draw test accuracy, with a line for each value of a setting.

    Args:
        summaries: Rows of `summarize`.
        along: Name of the setting on the horizontal axis.
        of: Name of the setting that has a line for each of its values.
        label: Label of the horizontal axis.
    """
    names = list(dict.fromkeys(str(row[along]) for row in summaries))
    lines = series(summaries, along, of)
    return figures.lines(lines, names, label, "Test accuracy")


def gains(
    rows: Sequence[Row],
    by: Sequence[str],
    name: str,
    base: str | int | float,
    value: str = "accuracy",
) -> list[Row]:
    """Compare every method with one of them, seed by seed.

    Args:
        rows: Results of trials, see `run`.
        by: Names of the settings under which methods are compared.
        name: Name of the setting that holds the method of a trial.
        base: The method that others are compared with.
        value: Name of the measurement.

    Returns:
        One row for each setting and method but `base`, in the order of `rows`: the
        settings, `gain`, the mean of the differences between trials of one seed, `low`
        and `high`, their 95 % t-interval (`None` for one seed), and `seeds`.

    Raises:
        InputError: A trial of another method has none of `base` with its settings and
            seed.

    >>> trials = [("a", 0, 0.5), ("a", 1, 0.7), ("b", 0, 0.6), ("b", 1, 0.9)]
    >>> rows = [{"method": w, "seed": s, "accuracy": a} for w, s, a in trials]
    >>> round(gains(rows, [], "method", "a")[0]["gain"], 3)
    0.15
    """
    plain = {
        (*(row[setting] for setting in by), row["seed"]): row[value]
        for row in rows
        if row[name] == base
    }
    groups: dict[tuple, list[float]] = {}
    for row in rows:
        if row[name] == base:
            continue
        key = tuple(row[setting] for setting in by)
        if (*key, row["seed"]) not in plain:
            raise errors.InputError(
                f"There is no trial of {name}={base!r} with "
                f"{dict(zip([*by, 'seed'], [*key, row['seed']], strict=True))}."
            )
        differences = groups.setdefault((*key, row[name]), [])
        differences.append(row[value] - plain[(*key, row["seed"])])
    compared = []
    for key, differences in groups.items():
        over = seed_summary(differences)
        low, high = over["interval"] or (None, None)
        compared.append(
            dict(zip([*by, name], key, strict=True))
            | {"gain": over["mean"], "low": low, "high": high, "seeds": over["n"]}
        )
    return compared


def choose(
    rows: Sequence[Row],
    by: Sequence[str],
    over: Sequence[str],
    value: str = "validation",
) -> list[Row]:
    """Select the setting that is best on average over its seeds.

    Args:
        rows: Results of trials, see `run`.
        by: Names of what is compared: one setting is selected for each.
        over: Names of the settings to choose from; with none, all rows are kept.
        value: Name of the measurement that selects, not of the reported one; more is
            better.

    Returns:
        Those of `rows` with the chosen settings, in their order.

    >>> row = {"method": "a", "seconds": 1}
    >>> rows = [row | {"rate": rate, "validation": rate} for rate in (1, 2)]
    >>> [row["rate"] for row in choose(rows, ["method"], ["rate"])]
    [2]
    """
    if not over:
        return list(rows)
    best: dict[tuple, Row] = {}
    for row in summarize(rows, [*by, *over], value):
        key = tuple(row[name] for name in by)
        if key not in best or row["mean"] > best[key]["mean"]:
            best[key] = row
    return [
        row
        for row in rows
        if all(row[n] == best[tuple(row[m] for m in by)][n] for n in over)
    ]


def over_pairs(rows: Sequence[Row], name: str, chance: float) -> list[Row]:
    """Summarize trials each of which leaves out a pair of things.

    Args:
        rows: Results of trials, see `run`, with `pair`, the names with " and " between,
            `accuracy`, and `low` and `high`, its interval over examples.
        name: Name of the setting that holds the method of a trial.
        chance: Accuracy of guessing.

    Returns:
        One row for each method: its name, `mean`, `low` and `high` of the accuracy, see
        `evaluation.pairs_interval`, the number of `pairs`, of those `above` and `below`
        chance by their intervals, and the means of all further measurements.

    >>> row = {"method": "a", "low": 0.6, "high": 0.9, "seed": 0, "seconds": 1}
    >>> row["accuracy"] = 0.75
    >>> rows = [row | {"pair": pair} for pair in ("x and y", "z and w")]
    >>> summary = over_pairs(rows, "method", chance=0.5)[0]
    >>> summary["mean"], summary["pairs"], summary["above"]
    (0.75, 2, 2)
    """
    summaries = []
    for method in dict.fromkeys(row[name] for row in rows):
        members = [row for row in rows if row[name] == method]
        values = {tuple(r["pair"].split(" and ")): r["accuracy"] for r in members}
        mean, low, high = pairs_interval(values)
        above = sum(row["low"] > chance for row in members)
        below = sum(row["high"] < chance for row in members)
        summary = {name: method, "mean": mean, "low": low, "high": high}
        summary |= {"pairs": len(members), "above": above, "below": below}
        usual = {name, "pair", "accuracy", "low", "high", "seed", "seconds"}
        for other in [key for key in members[0] if key not in usual]:
            summary[other] = sum(row[other] for row in members) / len(members)
        summaries.append(summary)
    return summaries


def regrets(rows: Sequence[Row], by: str, name: str, plan: str) -> list[Row]:
    """Compare a method that was decided beforehand with trying all others.

    Args:
        rows: Results of trials, see `run`, with `validation`, `accuracy` and `seconds`.
        by: Name of the setting under which methods are compared.
        name: Name of the setting that holds the method of a trial.
        plan: The method that was decided beforehand.

    Returns:
        One row for each value of `by`: its `accuracy`, the mean over seeds; `tried`,
        the other method that validation selects, and `of_tried`, its accuracy; the
        `regret`, by how much the plan stays below it (negative where it is better);
        `best`, the highest accuracy of any other on the test images, which nobody can
        select by; and `cost`, the seconds of the plan as a share of those of all
        others.

    >>> row = {"data": "a", "seed": 0}
    >>> rows = [
    ...     row | {"method": m, "validation": a, "accuracy": a, "seconds": 1}
    ...     for m, a in [("plan", 0.75), ("x", 0.5), ("y", 1.0)]
    ... ]
    >>> [(r["tried"], r["regret"], r["cost"]) for r in regrets(rows, "data", "method",
    ...                                                        "plan")]
    [('y', 0.25, 0.5)]
    """
    table = []
    for value in dict.fromkeys(row[by] for row in rows):
        planned = [row for row in rows if row[by] == value and row[name] == plan]
        others = [row for row in rows if row[by] == value and row[name] != plan]
        (chosen,) = summarize(choose(others, [by], [name]), [name])
        (mean,) = summarize(planned, [name])
        best = max(row["mean"] for row in summarize(others, [name]))
        seconds = [sum(row["seconds"] for row in part) for part in (planned, others)]
        table.append(
            {
                by: value,
                "accuracy": mean["mean"],
                "tried": chosen[name],
                "of_tried": chosen["mean"],
                "regret": chosen["mean"] - mean["mean"],
                "best": best,
                "cost": seconds[0] / seconds[1],
            }
        )
    return table


# Meaning of the brackets behind a number.
CAPTIONS = {
    "mean": "In brackets: the lowest and the highest.",
    "gain": "In brackets: 95 % t-interval over seeds.",
}


def show(title: str, summaries: Sequence[Row], value: str = "accuracy") -> None:
    """Print summaries as a table, with the meaning of its brackets.

    Args:
        title: Title of the table.
        summaries: Rows of `summarize`, `gains` or `over_pairs`.
        value: Name of the measurement that they summarize.
    """
    table = Table(title=title, title_style="bold")
    for name in summaries[0]:
        if name not in ("low", "high"):
            table.add_column(value if name == "mean" else name)
    for row in summaries:
        cells = []
        for name, cell in row.items():
            if name == "mean":
                several = row["low"] != row["high"]
                among = f" ({row['low']:.3f} to {row['high']:.3f})" if several else ""
                table.caption = CAPTIONS[name] if several else table.caption
                cells.append(f"{cell:.3f}{among}")
            elif name == "gain":
                known = row["low"] is not None
                interval = (
                    f" ({row['low']:+.3f} to {row['high']:+.3f})" if known else ""
                )
                table.caption = CAPTIONS[name] if known else table.caption
                cells.append(f"{cell:+.3f}{interval}")
            elif name not in ("low", "high"):
                form = {int: ",", float: ".3g"}.get(type(cell), "")
                cells.append(f"{cell:{form}}")
        table.add_row(*cells)
    progress.console().print(table)


def save(
    run: Run,
    *,
    rows: list[Row],
    by: Sequence[str],
    over: Sequence[str] = (),
    base: str | None = None,
    network: str | None = None,
    value: str = "accuracy",
) -> dict:
    """Write the results of a study: `trials.csv`, and last `manifest.json`.

    Args:
        run: The run; what had been done before a kill is in the rows.
        rows: What `run` returned.
        by: Names of the settings that the study compares.
        over: Names of those that validation chooses from, see `choose`.
        base: The method that the others are compared with, if there is one.
        network: Name of the network, where no setting names a backbone.
        value: Name of the measurement that is reported, where it is no accuracy.

    Returns:
        What `manifest.json` holds.

    Raises:
        InputError: The disk is full, or the folder cannot be written to.
    """
    files.write_csv(run.folder / "trials.csv", rows)
    manifest = {
        **run.provenance(),
        "data": run.data,
        "by": list(by),
        "over": list(over),
        "compared": "method",
        "base": base,
        **({} if network is None else {"network": network}),
        **({} if value == "accuracy" else {"value": value}),
        "trials": rows,
    }
    files.write_json(run.folder / "manifest.json", manifest)
    shutil.rmtree(run.state, ignore_errors=True)
    return manifest
