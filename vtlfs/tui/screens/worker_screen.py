"""The base of all screens that query a library: queries run in threads, so the window never waits for one."""

import logging
from collections.abc import Callable
from typing import Any, TypeVar

from textual.screen import Screen
from textual.worker import WorkType

from vtlfs.errors import VtlfsError
from vtlfs.tui.format import printable
from vtlfs.tui.source import Source
from vtlfs.tui.threads import DaemonThreads

T = TypeVar("T")
log = logging.getLogger(__name__)


class WorkerScreen(Screen[Any]):
    """A screen that runs queries in threads. If a query fails, its error is shown, and the screen stays as it was."""

    def __init__(self, source: Source, threads: DaemonThreads) -> None:
        super().__init__()
        self.source = source
        self.threads = threads

    @property
    def is_ready(self) -> bool:
        """Whether the screen has its widgets. Timers and results still arrive while the screen is being removed."""
        return self.is_mounted and self.is_attached and self.display

    def run_query(
        self,
        query: Callable[[], T],
        on_result: Callable[[T], object],
        group: str,
        on_error: Callable[[], object] | None = None,
    ) -> None:
        """Run `query` in a thread, then `on_result` with its result, or `on_error`, in the event loop.

        A new query replaces an older one of the same group, whose result is then ignored. No function is called if the
        screen has been removed in the meantime.
        """

        async def run() -> None:
            try:
                result = await self.threads.run(query)
                if self.is_ready:
                    on_result(result)
            except Exception as error:  # no error of a query may end the program
                if self.is_ready:
                    self.show_error(error)
                    if on_error is not None:
                        on_error()

        # Not `run()`: a worker that is cancelled before it starts would never await the coroutine.
        work: WorkType[None] = run
        self.run_worker(work, group=group, exclusive=True, exit_on_error=False)

    def refresh_every(self, seconds: float, refresh: Callable[[], object]) -> None:
        """Call `refresh` periodically, while this is the screen on top."""
        self.set_interval(seconds, lambda: refresh() if self.is_ready and self.is_current else None)

    def show_error(self, error: Exception) -> None:
        """Show an error; if it is unexpected, log its traceback."""
        is_expected = isinstance(error, (VtlfsError, OSError))
        message = str(error) if is_expected else f"unexpected {type(error).__name__}: {error}"
        if not is_expected:
            log.error("unexpected error in the terminal UI", exc_info=error)
        self.notify(printable(message), title="Error", severity="error", timeout=10, markup=False)
