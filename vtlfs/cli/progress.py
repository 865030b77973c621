"""The progress bar of long work, shown if standard error is a terminal."""

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from rich.progress import Progress, TaskID


@contextmanager
def progress(name: str, total: int | None, done: int = 0) -> Iterator[Callable[[int], None]]:
    """Yield a function to call with the size of each piece; a bar on standard error shows the sum, if it is a terminal.

    `total`: None if it is unknown. `done`: bytes that were done before. Lines printed meanwhile stand above the bar.
    """
    with _bar(name, total, done) as bar:
        yield (lambda _: None) if bar is None else partial(bar[0].advance, bar[1])


@contextmanager
def follow(name: str) -> Iterator[Callable[[int, int], None]]:
    """Yield what to call with the bytes that are done and those in total, which may change; otherwise as `progress`."""
    with _bar(name, None, 0) as bar:
        yield lambda done, total: None if bar is None else bar[0].update(bar[1], completed=done, total=total)


@contextmanager
def _bar(name: str, total: int | None, done: int) -> Iterator["tuple[Progress, TaskID] | None"]:
    if sys.stderr is None or not sys.stderr.isatty():
        yield None
        return
    from rich.console import Console
    from rich.progress import BarColumn, DownloadColumn, Progress, TimeRemainingColumn, TransferSpeedColumn

    columns = (BarColumn(), DownloadColumn(binary_units=True), TransferSpeedColumn(), TimeRemainingColumn())
    above = sys.stdout is not None and sys.stdout.isatty()
    console = Console(stderr=True, highlight=False)
    with Progress("{task.description}", *columns, console=console, redirect_stdout=above) as bar:
        yield bar, bar.add_task(name, total=total, completed=done)
