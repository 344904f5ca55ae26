"""Show progress: a bar in a terminal; lines in a notebook or a file."""

import os
import sys
import threading
import time
from collections.abc import Iterable, Iterator
from datetime import timedelta
from typing import TypeVar

from rich.console import Console
from rich.progress import track as draw

# Seconds until the first line, and between two lines.
FIRST, EVERY = 2, 15

# Columns of a table in a file: the most, and those of a table of sentences.
_LONGEST, SENTENCES = 500, 100

Item = TypeVar("Item")


def console(width: int = _LONGEST) -> Console:
    """Return a console for tables, on which names are printed as they are.

    A class can be called "[red]" or ":cat:", which rich would take for markup. Where
    there is no terminal, lines are as long as they are: rich would break them at 80.

    Args:
        width: Most columns of a table where there is no terminal.
    """
    own = None if is_terminal() or "COLUMNS" in os.environ else width
    return Console(markup=False, emoji=False, highlight=False, width=own)


def is_terminal() -> bool:
    """Return whether printed lines can be drawn again.

    A notebook cannot without packages that a user may not have; a file never can, also
    where FORCE_COLOR asks for colours, as notebooks do for what they start.
    """
    return sys.stdout.isatty() and Console().is_terminal


class Lines:
    """A clock that decides when the next line is due."""

    def __init__(self):
        self._start = time.monotonic()
        self._due = self._start + FIRST

    def due(self) -> bool:
        now = time.monotonic()
        if now < self._due:
            return False
        self._due = now + EVERY
        return True

    def __str__(self) -> str:
        return str(timedelta(seconds=int(time.monotonic() - self._start)))


def track(items: Iterable[Item], title: str, total: int) -> Iterator[Item]:
    """Yield the items of a loop, and show how many are done.

    Only the main thread draws a bar: a terminal has room for one.

    Args:
        items: Items of the loop.
        title: Title of the display.
        total: Number of items.

    >>> list(track("abc", "letters", 3))
    ['a', 'b', 'c']
    """
    if is_terminal() and threading.current_thread() is threading.main_thread():
        options = {"total": total, "transient": True, "console": Console()}
        yield from draw(items, f"{title:>15}", **options)
        return
    lines = Lines()
    for done, item in enumerate(items):
        if lines.due():
            print(f"{title:>15}  {done / total:.0%}  {lines}", flush=True)
        yield item
