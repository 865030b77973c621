"""Threads that answer questions, and that don't keep the program from ending.

Not asyncio's own pool: its threads are waited for at the end, for ever where a disk hangs, and a few that hang would
leave none for the next question.
"""

import asyncio
from collections.abc import Callable
from threading import Thread
from time import monotonic
from typing import TypeVar

T = TypeVar("T")


class Threads:
    """Starts a thread for each question. Belongs to the thread of the event loop."""

    def __init__(self) -> None:
        self._tidy: list[Thread] = []

    async def run(self, question: Callable[[], T], *, tidy: bool = False) -> T:
        """Return or raise what the question does. `tidy`: it has something to put away, see `finish`."""
        loop = asyncio.get_running_loop()
        answer: asyncio.Future[T] = loop.create_future()

        def set_result(value: T | None, error: BaseException | None) -> None:
            if answer.cancelled():
                return
            if error is not None:
                answer.set_exception(error)
            else:
                answer.set_result(value)  # type: ignore[arg-type]

        def work() -> None:
            value: T | None = None
            error: BaseException | None = None
            try:
                value = question()
            except BaseException as raised:
                error = raised
            if not loop.is_closed():
                try:
                    loop.call_soon_threadsafe(set_result, value, error)
                except RuntimeError:
                    return  # the loop was closed in between: nobody wants the answer any more

        thread = Thread(target=work, daemon=True)
        if tidy:
            self._tidy.append(thread)
        thread.start()
        return await answer

    def finish(self, seconds: float) -> None:
        """Wait for the threads that have something to put away, so long at most."""
        deadline = monotonic() + seconds
        for thread in self._tidy:
            thread.join(max(0.0, deadline - monotonic()))
