"""Decisions of a run with their reasons, and the time that is left for it."""

import time
from collections.abc import Iterable
from dataclasses import replace

import numpy as np

from keras_tl import config, errors, files
from keras_tl.analysis import planner
from keras_tl.analysis.planner import Decision
from keras_tl.commands.settings import Train
from keras_tl.data import splits
from keras_tl.data.splits import Splits
from keras_tl.training import workers

# Seconds for the figures, the report and the saved model.
RESERVE = 12.0
# Seconds for measuring, the classifiers on features, and tracing.
LEARNING = 15.0
# Part of the time that is planned for: machines are not as steady as a clock.
PLANNED = 0.95
# Minutes from which on the backbones at hand are ranked, on how many examples.
RANKED, MOST_RANKED = 5.0, 400


class Decisions:
    """The decisions of a run: printed, and kept in its folder."""

    def __init__(self):
        self._made: list[Decision] = []

    def add(self, decision: Decision) -> None:
        """Print a decision and keep it."""
        print(decision, flush=True)
        self._made.append(decision)

    def extend(self, decisions: Iterable[Decision]) -> None:
        """Print several decisions and keep them."""
        for decision in decisions:
            self.add(decision)

    def value(self, name: str) -> object | None:
        """Return what was decided for a setting; `None` if nothing was."""
        return {one.name: one.value for one in self._made}.get(name)

    def keep(self, run: config.Run) -> None:
        """Write the decisions to the folder of a run, after those that it has."""
        path = run.folder / "decisions.json"
        if run.settings.resume is not None and path.exists():
            try:
                before = [Decision(**one) for one in files.read_json(path)]
                # Those that are made again take the place of the earlier ones.
                made = {one.name: one for one in (*before, *self._made)}
                self._made = list(made.values())
            except (TypeError, errors.InputError):
                errors.warn(f"{path} is damaged: the earlier decisions are not listed.")
        files.write_json(path, self.as_list())

    def as_list(self) -> list[dict]:
        """Return all decisions ready for JSON."""
        return [decision.as_dict() for decision in self._made]


def end_of(settings: Train, started: float) -> float:
    """Return the time of `time.perf_counter` that is planned for the end."""
    return started + PLANNED * 60 * settings.minutes


def seconds_left(end: float) -> float:
    """Return the seconds until the end, without those for the report."""
    return workers.from_chief(end - time.perf_counter() - RESERVE)


def limited(
    settings: Train, data: Splits, forward: float, end: float, decisions: Decisions
) -> tuple[Train, Splits]:
    """Take a part of the data where that is wanted, or all take too long.

    Args:
        settings: Where `limit` is `None`, it is decided.
        data: The data.
        forward: Seconds of one example through the backbone.
        end: See `end_of`.
        decisions: Where a decision is kept.
    """
    if settings.limit is None and not settings.epochs:
        tunes = settings.epochs is None and settings.freeze != "all"
        left = seconds_left(end) - LEARNING
        decision = planner.limit(data, forward, left, tunes=tunes)
        if decision is not None:
            decisions.add(decision)
            settings = replace(settings, limit=decision.value)
    classes = np.unique(data.train.labels) if data.task == "single-label" else ()
    data = planner.limited(data, settings.limit, seed=settings.seed)
    if len(classes) and len(np.unique(data.train.labels)) < len(classes):
        raise errors.expected(
            "limit",
            f"leave training examples of each of the {len(classes)} classes",
            settings.limit,
        )
    if settings.limit is not None:
        print(f"Of these are used: {splits.counts(data)}.")
    return settings, data
