"""Hyper-parameter search: each trial is suggested from the results of earlier ones.

Optuna suggests, by its tree-structured Parzen estimator; this needs the extra `search`.
It keeps nothing from trial to trial: the earlier rows are added anew, and its random
numbers come from (seed, number of trials before). A search that was killed goes
on with the trials it would have had.

Reference:
    Watanabe, "Tree-structured Parzen estimator: understanding its algorithm components
    and their roles", 2023, arXiv:2304.11127; Akiba et al., "Optuna", 2019,
    arXiv:1907.10902.
"""

import functools
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from keras_tl import errors
from keras_tl.analysis import study

# Trials before the first suggestion of the estimator: the start, and others that are
# drawn at random.
STARTUP = 5

Value = str | int | float | bool


@dataclass(frozen=True)
class Range:
    """Numbers that a search may try.

    Attributes:
        low: The lowest, included. Whole numbers are tried where both ends are `int`.
        high: The highest, included.
        log: Whether factors count, as for learning rates, rather than differences.

    Raises:
        InputError: `high` is not above `low`, or `low` not above 0 with `log`.
    """

    low: float
    high: float
    log: bool = False

    def __post_init__(self):
        if self.high <= self.low:
            raise errors.expected("high", f"be greater than low={self.low}", self.high)
        if self.log and self.low <= 0:
            raise errors.expected("low", "be greater than 0 with `log`", self.low)

    def __contains__(self, value: float) -> bool:
        inside = self.low <= value <= self.high
        return inside and (not self.whole or value == int(value))

    @property
    def whole(self) -> bool:
        """Whether only whole numbers are tried."""
        return isinstance(self.low, int) and isinstance(self.high, int)


# Name -> range, or the values to choose from.
Space = Mapping[str, Range | Sequence[Value]]


def run(
    folder: Path,
    objective: Callable[[dict[str, Value]], study.Row],
    space: Space,
    *,
    start: Mapping[str, Value],
    trials: int,
    seed: int,
) -> list[study.Row]:
    """Try values of hyper-parameters, for the highest validation accuracy.

    Each trial is kept as those of `study.run` are. One that ends in an `InputError`,
    such as a loss that is no longer finite, counts as worse than all others.

    Args:
        folder: The run's folder.
        objective: Function from a value for each name in `space` to what was measured:
            `validation`, the larger the better, and what else is to be kept.
        space: The values to try.
        start: Values of the first trial: what one would have taken without a search.
        trials: Number of trials, with the first, at least 1.
        seed: What, with the rows so far, decides the suggestions.

    Returns:
        A row for each trial, in order: `trial`, its number from 1; its values; what
        `objective` gave, or `failed`, why there is nothing; and `seconds`.

    Raises:
        InputError: No trials, a start outside `space`, Optuna is not installed, or the
            first trial fails.
    """
    errors.check_installed("optuna", extra="search")
    errors.check_at_least("trials", trials, 1)
    _check_start(space, start)
    rows: list[study.Row] = []
    for number in range(1, trials + 1):
        trial = functools.partial(_trial, objective, space, start, rows, trials, seed)
        rows.append(study.run_once(folder, f"trial-{number:03}", trial))
    return rows


def suggest(space: Space, rows: Sequence[study.Row], seed: int) -> dict[str, Value]:
    """Suggest the values of the next trial.

    Args:
        space: The values to try.
        rows: The trials so far, see `run`; what they hold besides is ignored.
        seed: What, with the rows, decides.

    Returns:
        Name -> value, in the order of `space`.

    >>> suggest({"layers": (1, 2)}, [], seed=0)["layers"] in (1, 2)
    True
    """
    import optuna

    optuna.logging.set_verbosity(optuna.logging.WARNING)
    distributions = {name: _distribution(values) for name, values in space.items()}
    own = np.random.SeedSequence([seed, len(rows)]).generate_state(1)[0]
    sampler = optuna.samplers.TPESampler(n_startup_trials=STARTUP, seed=int(own))
    past = optuna.create_study(direction="maximize", sampler=sampler)
    for row in rows:
        failed = "failed" in row
        past.add_trial(
            optuna.create_trial(
                # The estimator leaves out FAIL; PRUNED it takes for the worst.
                state=optuna.trial.TrialState["PRUNED" if failed else "COMPLETE"],
                value=None if failed else row["validation"],
                params={name: row[name] for name in space},
                distributions=distributions,
            )
        )
    suggested = past.ask(distributions).params
    return {name: suggested[name] for name in space}


def best(rows: Sequence[study.Row]) -> study.Row:
    """Find the trial with the highest validation accuracy; of equal ones, the first.

    Raises:
        InputError: No trial is left to choose from: all have failed.

    >>> best([{"trial": n, "validation": n / 10} for n in (1, 2)])["trial"]
    2
    """
    left = [row for row in rows if "failed" not in row]
    if not left:
        reason = f" The first: {rows[0]['failed']}" if rows else ""
        raise errors.InputError(
            f"No trial is left to choose from: all {len(rows)} failed.{reason}"
        )
    return max(left, key=lambda row: row["validation"])


def show(rows: Sequence[study.Row], space: Space) -> None:
    """Print the trials as a table, the best first."""
    order = sorted(rows, key=lambda row: -row.get("validation", -math.inf))
    cells = [
        {
            "trial": row["trial"],
            "validation": _accuracy(row),
            "settings": _settings({name: row[name] for name in space}),
            "seconds": row["seconds"],
        }
        for row in order
    ]
    study.show(f"{errors.counted(len(rows), 'trial')}, by validation accuracy", cells)


def _trial(objective, space, start, rows, trials, seed):
    values = suggest(space, rows, seed) if rows else dict(start)
    row = {"trial": len(rows) + 1, **values}
    try:
        measured = objective(values)
        if not math.isfinite(measured["validation"]):
            raise errors.expected("validation", "be finite", measured["validation"])
        row |= measured
    except errors.InputError as error:
        if not rows:
            # There would be nothing to compare the others with.
            raise
        row["failed"] = str(error)
    first = best([*rows, row])
    print(
        f"Trial {row['trial']} of {trials}: {_accuracy(row)} (best so far: "
        f"{_accuracy(first)}, trial {first['trial']}): {_settings(values)}",
        flush=True,
    )
    return row


def describe(space: Space) -> dict[str, dict]:
    """Describe a space by plain values, for `figures.trials`.

    >>> describe({"layers": (1, 2)})
    {'layers': {'values': [1, 2]}}
    """
    return {
        name: {
            "low": values.low,
            "high": values.high,
            "log": values.log,
            "whole": values.whole,
        }
        if isinstance(values, Range)
        else {"values": list(values)}
        for name, values in space.items()
    }


def _distribution(values):
    import optuna

    if not isinstance(values, Range):
        return optuna.distributions.CategoricalDistribution(tuple(values))
    kind = "IntDistribution" if values.whole else "FloatDistribution"
    return getattr(optuna.distributions, kind)(values.low, values.high, log=values.log)


def _check_start(space, start):
    if set(start) != set(space):
        raise errors.expected(
            "start", f"have a value for each of {', '.join(space)}", dict(start)
        )
    for name, values in space.items():
        if start[name] not in values:
            raise errors.expected("start", f"be in {name}={values}", start[name])


def _accuracy(row):
    return "failed" if "failed" in row else f"{row['validation']:.3f}"


def _settings(values):
    return ", ".join(
        f"{name} {value:.2g}" if isinstance(value, float) else f"{name} {value}"
        for name, value in values.items()
    )
