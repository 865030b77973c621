"""The group committer: the one thread of a mount that changes the tracking database.

Everything that waits at the same moment goes into one commit, so that a hundred sessions that close together share one
sync of the database. Each call is a savepoint of its own: one that fails takes nothing else with it.
"""

import logging
import queue
import threading
from collections.abc import Callable
from typing import Any, TypeVar

import outcome
import trio

from vtlfs.engine.tracking.database import Tracking

T = TypeVar("T")
MAX_BATCH = 256

log = logging.getLogger(__name__)

_Job = tuple[Callable[[Tracking], Any], bool, Callable[["outcome.Outcome[Any]"], None]]


class GroupCommitter:
    """Owns a connection and the thread that uses it. Call from the trio loop."""

    def __init__(self, open_tracking: Callable[[], Tracking]) -> None:
        """`open_tracking` is called here, so that a database that can't be opened is an error at once."""
        self._tracking = open_tracking()
        self._token = trio.lowlevel.current_trio_token()
        self._jobs: queue.SimpleQueue[_Job | None] = queue.SimpleQueue()
        self._thread = threading.Thread(target=self._work, name="committer", daemon=True)
        self._thread.start()

    async def call(self, change: Callable[[Tracking], T], *, durable: bool = True) -> T:
        """Make the change and return what it returned, when it is committed.

        `durable`: also when it would survive a power cut. Cancelling waits for the commit.
        """
        task = trio.lowlevel.current_task()

        def abort(_: Any) -> trio.lowlevel.Abort:
            return trio.lowlevel.Abort.FAILED

        self._jobs.put((change, durable, lambda result: trio.lowlevel.reschedule(task, result)))
        value: T = await trio.lowlevel.wait_task_rescheduled(abort)
        return value

    def post(self, change: Callable[[Tracking], object]) -> None:
        """Make the change some time soon, not durably; nobody waits for it. A failure is logged."""
        self._jobs.put((change, False, _log_failure))

    async def close(self) -> None:
        """Commit what is waiting, end the thread and close the connection."""
        await self.call(lambda _: None)
        self._jobs.put(None)
        await trio.to_thread.run_sync(self._thread.join)
        self._tracking.close()

    def _work(self) -> None:
        while self._work_once():
            pass

    def _work_once(self) -> bool:
        """Take what waits, commit it and tell those who wait; False at the end.

        A function of its own, so that nothing of it, such as the sessions that the jobs are about, stays in memory
        until the next job comes.
        """
        if (job := self._jobs.get()) is None:
            return False
        batch = [job]
        while len(batch) < MAX_BATCH and not self._jobs.empty():
            following = self._jobs.get()
            if following is None:
                self._jobs.put(None)
                break
            batch.append(following)
        results = self._commit(batch)
        try:
            for (_, _, done), result in zip(batch, results, strict=True):
                self._token.run_sync_soon(done, result)
        except trio.RunFinishedError:
            return False
        return True

    def _commit(self, batch: list[_Job]) -> list["outcome.Outcome[Any]"]:
        results: list[outcome.Outcome[Any]] = []
        try:
            with self._tracking.transaction(durable=any(durable for _, durable, _ in batch)):
                if len(batch) == 1:  # which needs no savepoint, for there is nothing that it could take with it
                    return [outcome.Value(batch[0][0](self._tracking))]
                for change, _, _ in batch:
                    results.append(outcome.capture(self._savepoint, change))
                    if not self._tracking.in_transaction:  # SQLite takes all of it back after some errors
                        results[-1].unwrap()
        except Exception as error:
            return [outcome.Error(error) for _ in batch]  # one for each, for an outcome can be asked but once
        return results

    def _savepoint(self, change: Callable[[Tracking], T]) -> T:
        with self._tracking.transaction():
            return change(self._tracking)


def _log_failure(result: "outcome.Outcome[Any]") -> None:
    if isinstance(result, outcome.Error):
        log.error("tracking database: %s", result.error)
