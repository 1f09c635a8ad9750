"""Progress on stderr: a bar for a person at a terminal, a plain line now and then for a batch job's log."""

from __future__ import annotations

import sys
import time
from collections.abc import Iterable, Iterator
from typing import TypeVar

Item = TypeVar("Item")
LINE_EVERY_S = 30.0


def note(message: str, quiet: bool = False) -> None:
    """One line on stderr."""
    if not quiet:
        print(message, file=sys.stderr, flush=True)


def track(items: Iterable[Item], total: int, label: str, quiet: bool = False) -> Iterator[Item]:
    """Yield `items`, showing how many of `total` are done.

    A rich bar where stderr is a terminal; else a line at most every 30 seconds and one at the end.
    """
    if quiet or total == 0:
        yield from items
    elif sys.stderr.isatty():
        yield from _bar(items, total, label)
    else:
        yield from _lines(items, total, label)


def _bar(items: Iterable[Item], total: int, label: str) -> Iterator[Item]:
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with Progress(*columns, console=Console(stderr=True)) as progress:
        yield from progress.track(items, total=total, description=label)


def _lines(items: Iterable[Item], total: int, label: str) -> Iterator[Item]:
    start = last = time.monotonic()
    for done, item in enumerate(items, 1):
        yield item
        now = time.monotonic()
        if now - last >= LINE_EVERY_S and done < total:
            left = (now - start) / done * (total - done)
            note(f"{label}: {done}/{total}, about {left:.0f} s left")
            last = now
    note(f"{label}: {total}/{total} in {time.monotonic() - start:.1f} s")
