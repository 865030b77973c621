"""Daemon threads that run blocking jobs for the event loop without keeping the program from ending.

The screens await them. asyncio's own pool is no alternative: the interpreter waits for its threads at exit, for ever if
a disk hangs, and a few threads that hang would leave none for the next job.
"""

import asyncio
from collections.abc import Callable
from threading import Thread
from time import monotonic
from typing import TypeVar

T = TypeVar("T")


class DaemonThreads:
    """Starts one thread for each job. Only the thread of the event loop may use this object."""

    def __init__(self) -> None:
        self._to_join: list[Thread] = []

    async def run(self, job: Callable[[], T], *, join: bool = False) -> T:
        """Return what the job returns, or raise what it raises.

        With `join`, the job has something to clean up, and `join()` waits for it at the end of the program.
        """
        loop = asyncio.get_running_loop()
        result: asyncio.Future[T] = loop.create_future()

        def set_result(value: T | None, error: BaseException | None) -> None:
            if result.cancelled():
                return
            if error is not None:
                result.set_exception(error)
            else:
                result.set_result(value)  # type: ignore[arg-type]

        def work() -> None:
            value: T | None = None
            error: BaseException | None = None
            try:
                value = job()
            except BaseException as raised:
                error = raised
            if not loop.is_closed():
                try:
                    loop.call_soon_threadsafe(set_result, value, error)
                except RuntimeError:
                    return  # the loop was closed after the check above: nobody awaits the result any more

        thread = Thread(target=work, daemon=True)
        if join:
            self._to_join.append(thread)
        thread.start()
        return await result

    def join(self, seconds: float) -> None:
        """Wait for the jobs that were started with `join`, for so many seconds in all at most."""
        deadline = monotonic() + seconds
        for thread in self._to_join:
            thread.join(max(0.0, deadline - monotonic()))
