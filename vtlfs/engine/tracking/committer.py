"""The group committer: the one thread of a mount that changes the tracking database.

All changes that wait at the same moment go into one transaction, so that a hundred sessions that close together share
one sync of the database. Each change is a savepoint of its own: one that fails does not undo the others.

Where there is no room for a transaction, essential changes of it are made again, in room that is given up for them.
"""

import errno
import logging
import queue
import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from time import monotonic
from typing import Any, TypeVar

import outcome
import trio

from vtlfs.engine.tracking.database import Tracking
from vtlfs.errors import TrackingError
from vtlfs.histogram import Histogram

T = TypeVar("T")
MAX_BATCH = 256

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class _Job:
    """A change, and what to call with its outcome."""

    change: Callable[[Tracking], Any]
    durable: bool
    done: Callable[["outcome.Outcome[Any]"], None]
    is_essential: bool = False


class GroupCommitter:
    """Owns a connection and the thread that uses it. Its methods are called in the trio loop."""

    def __init__(self, open_tracking: Callable[[], Tracking], make_room: Callable[[], bool] = lambda: False) -> None:
        """`open_tracking` opens the connection. It is called here, so that its error ends a mount that begins.

        `make_room` makes room where the file system of the database is full, and tells whether it could.
        """
        self._tracking = open_tracking()
        self._make_room = make_room
        self.seconds = {durable: Histogram() for durable in (False, True)}  # of transactions: not synced, synced
        self._token = trio.lowlevel.current_trio_token()
        self._jobs: queue.SimpleQueue[_Job | None] = queue.SimpleQueue()
        self._thread = threading.Thread(target=self._work, name="committer", daemon=True)
        self._thread.start()

    async def call(self, change: Callable[[Tracking], T], *, durable: bool = True, is_essential: bool = False) -> T:
        """Run the change in a transaction, wait for the commit, and return the change's result.

        `durable`: wait until the commit survives a power cut, too. `is_essential`: it must be possible on a full file
        system. A cancelled task waits for the commit all the same.
        Raises what the change raises, and TrackingError.
        """
        task = trio.lowlevel.current_task()

        def abort(_: Any) -> trio.lowlevel.Abort:
            return trio.lowlevel.Abort.FAILED

        self._jobs.put(
            _Job(change, durable, lambda result: trio.lowlevel.reschedule(task, result), is_essential=is_essential)
        )
        value: T = await trio.lowlevel.wait_task_rescheduled(abort)
        return value

    def post(self, change: Callable[[Tracking], object]) -> None:
        """Run the change soon, without waiting for it and without a sync. A failure is logged."""
        self._jobs.put(_Job(change, False, _log_failure))

    @property
    def waiting(self) -> int:
        """Changes that wait for a transaction."""
        return self._jobs.qsize()

    async def close(self) -> None:
        """Commit the changes that wait, end the thread, and close the connection."""
        await self.call(lambda _: None)
        self._jobs.put(None)
        await trio.to_thread.run_sync(self._thread.join)
        self._tracking.close()

    def _work(self) -> None:
        while self._work_once():
            pass

    def _work_once(self) -> bool:
        """Commit the changes that wait, and hand their results to the waiting tasks. Return False at the end.

        A function of its own: local variables of an endless loop would keep sessions in memory until the next change.
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
        begun = monotonic()
        results = self._commit(batch)
        seconds, histogram = monotonic() - begun, self.seconds[any(one.durable for one in batch)]
        for place, one in enumerate(batch):
            while one.is_essential and _lacks_room(results[place]) and self._make_room():
                results[place] = self._commit([one])[0]
        try:
            self._token.run_sync_soon(histogram.observe, seconds)
            for one, result in zip(batch, results, strict=True):
                self._token.run_sync_soon(one.done, result)
        except trio.RunFinishedError:
            return False
        return True

    def _commit(self, batch: Sequence[_Job]) -> list["outcome.Outcome[Any]"]:
        results: list[outcome.Outcome[Any]] = []
        try:
            with self._tracking.transaction(durable=any(one.durable for one in batch)):
                if len(batch) == 1:  # no savepoint is needed where there is no other change
                    return [outcome.Value(batch[0].change(self._tracking))]
                for one in batch:
                    results.append(outcome.capture(self._savepoint, one.change))
                    if not self._tracking.in_transaction:  # SQLite rolls the whole transaction back after some errors
                        results[-1].unwrap()
        except Exception as error:
            return [outcome.Error(error) for _ in batch]  # an outcome can be unwrapped only once, so one for each
        return results

    def _savepoint(self, change: Callable[[Tracking], T]) -> T:
        with self._tracking.transaction():
            return change(self._tracking)


def _lacks_room(result: "outcome.Outcome[Any]") -> bool:
    error = result.error if isinstance(result, outcome.Error) else None
    return isinstance(error, TrackingError) and error.errno == errno.ENOSPC


def _log_failure(result: "outcome.Outcome[Any]") -> None:
    if isinstance(result, outcome.Error):
        log.error("tracking database: %s", result.error)
