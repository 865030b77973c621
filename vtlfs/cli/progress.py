"""The progress bar of long work, where a person watches."""

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager


@contextmanager
def progress(name: str, total: int | None, done: int = 0) -> Iterator[Callable[[int], None]]:
    """Yield what to call with the bytes of each piece; a bar on standard error shows them if that is a terminal.

    `total` of None: nobody knows. `done`: bytes of it that were done before. Lines printed meanwhile stand above it.
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
