"""A disk executor: threads that do one kind of a disk's blocking work, and hand the outcome back to the trio loop.

Made for calls by the thousand a second, where trio's own worker threads cost several times as much per call. They are
daemon threads: one that hangs in a dead disk does not keep the process from ending.
"""

import queue
import threading
from collections.abc import Callable
from time import monotonic
from typing import Any, TypeVar, TypeVarTuple

import outcome
import trio

from vtlfs.errors import NoThread
from vtlfs.histogram import Histogram

T = TypeVar("T")
Ts = TypeVarTuple("Ts")
Done = Callable[["outcome.Outcome[Any]"], None]
Finished = Callable[["outcome.Outcome[Any]", float], None]


class DiskExecutor:
    """Jobs are started in the order in which they were submitted, by `threads` threads. Call from the trio loop."""

    def __init__(self, name: str, threads: int = 1) -> None:
        self._name = name
        self._threads = threads
        self._started = 0
        self._pending = 0
        self._progress = 0.0
        self._jobs: queue.SimpleQueue[tuple[Callable[[], Any], Finished] | None] = queue.SimpleQueue()
        self._token = trio.lowlevel.current_trio_token()

    def submit(self, done: Done, function: Callable[[*Ts], Any], *args: *Ts, timed: Histogram | None = None) -> None:
        """Have a thread call the function; `done` is called in the trio loop with the outcome.

        `timed` counts how long the call took, without the wait for a thread.
        """

        def finished(result: "outcome.Outcome[Any]", seconds: float) -> None:
            if timed is not None:
                timed.observe(seconds)
            self._pending -= 1
            self._progress = monotonic()
            done(result)

        if self._pending == 0:
            self._progress = monotonic()
        self._pending += 1
        if self._started < min(self._threads, self._pending):
            try:
                threading.Thread(target=self._work, name=f"{self._name}.{self._started + 1}", daemon=True).start()
                self._started += 1
            except RuntimeError as error:  # the process may have no more threads: those that there are do the work
                if not self._started:
                    self._token.run_sync_soon(finished, outcome.Error(NoThread(str(error))), 0.0)
                    return
        self._jobs.put((lambda: function(*args), finished))

    async def run(self, function: Callable[[*Ts], T], *args: *Ts, timed: Histogram | None = None) -> T:
        """Have a thread call the function and return what it returns. Cancelling waits for the thread."""
        task = trio.lowlevel.current_task()

        def abort(_: Any) -> trio.lowlevel.Abort:
            return trio.lowlevel.Abort.FAILED

        self.submit(lambda result: trio.lowlevel.reschedule(task, result), function, *args, timed=timed)
        value: T = await trio.lowlevel.wait_task_rescheduled(abort)
        return value

    @property
    def pending(self) -> int:
        """Jobs that were submitted and have not ended."""
        return self._pending

    @property
    def stalled_seconds(self) -> float:
        """Seconds for which there has been work and none of it was finished."""
        return monotonic() - self._progress if self._pending else 0.0

    def close(self) -> None:
        """Let the threads end when they have done what was submitted."""
        for _ in range(self._started):
            self._jobs.put(None)

    def _work(self) -> None:
        while (job := self._jobs.get()) is not None:
            function, finished = job
            begun = monotonic()
            result = outcome.capture(function)
            seconds = monotonic() - begun
            del job, function
            try:
                self._token.run_sync_soon(finished, result, seconds)
            except trio.RunFinishedError:
                return
            del result, finished
