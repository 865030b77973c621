"""WorkerScreen questions that take time without holding up the window; what goes wrong is shown and ends nothing."""

import logging
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, TypeVar

from textual.screen import Screen
from textual.worker import WorkType

from vtlfs.errors import VtlfsError
from vtlfs.tui.format import printable

if TYPE_CHECKING:
    from vtlfs.tui.app import Browser

T = TypeVar("T")
log = logging.getLogger(__name__)


class WorkerScreen(Screen[Any]):
    """A screen that asks in threads. Of the questions of one group only the last one's answer is used."""

    @property
    def browser(self) -> "Browser":
        """The application."""
        from vtlfs.tui.app import Browser

        assert isinstance(self.app, Browser)
        return self.app

    @property
    def is_whole(self) -> bool:
        """Tell whether the screen has its widgets. While it is taken down, timers and answers still come."""
        return self.is_mounted and self.is_attached and self.display

    def ask(
        self,
        question: Callable[[], T],
        answered: Callable[[T], object],
        group: str,
        failed: Callable[[], object] | None = None,
    ) -> None:
        """Have a thread answer the question, and then call `answered` here with it; `failed` after an error.

        Neither is called when the screen has gone meanwhile.
        """

        async def run() -> None:
            try:
                answer = await self.browser.threads.run(question)
                if self.is_whole:
                    answered(answer)
            except Exception as error:  # whatever it is, the window goes on
                if self.is_whole:
                    self.complain(error)
                    if failed is not None:
                        failed()

        # the function, not its coroutine: a worker that is cancelled before it began would leave that unawaited
        work: WorkType[None] = run
        self.run_worker(work, group=group, exclusive=True, exit_on_error=False)

    def every(self, seconds: float, action: Callable[[], object]) -> None:
        """Call `action` again and again, while this is the screen that is seen."""
        self.set_interval(seconds, lambda: action() if self.is_whole and self.is_current else None)

    def push(self, screen: Screen[Any]) -> None:
        """Show an answer that is a screen, unless the person has gone elsewhere meanwhile."""
        if self.is_current:
            self.app.push_screen(screen)

    def complain(self, error: Exception) -> None:
        """Show an error."""
        expected = isinstance(error, (VtlfsError, OSError))
        words = str(error) if expected else f"unexpected {type(error).__name__}: {error}"
        if not expected:
            log.error("unexpected", exc_info=error)
        self.notify(printable(words), title="Error", severity="error", timeout=10, markup=False)
