"""The progress bar of long work, shown if standard error is a terminal."""

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager


@contextmanager
def progress(name: str, total: int | None, done: int = 0) -> Iterator[Callable[[int], None]]:
    """Yield a function to call with the size of each piece; a bar on standard error shows the sum, if it is a terminal.

    `total`: None if it is unknown. `done`: bytes that were done before. Lines printed meanwhile stand above the bar.
    """
    if sys.stderr is None or not sys.stderr.isatty():
        yield lambda _: None
        return
    from rich.console import Console
    from rich.progress import BarColumn, DownloadColumn, Progress, TimeRemainingColumn, TransferSpeedColumn

    columns = (BarColumn(), DownloadColumn(binary_units=True), TransferSpeedColumn(), TimeRemainingColumn())
    above = sys.stdout is not None and sys.stdout.isatty()
    console = Console(stderr=True, highlight=False)
    with Progress("{task.description}", *columns, console=console, redirect_stdout=above) as bar:
        task = bar.add_task(name, total=total, completed=done)
        yield lambda size: bar.advance(task, size)
