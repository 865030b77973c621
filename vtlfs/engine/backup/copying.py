"""The job of a mount that keeps copies of the tracking database on the disks, and makes a last one when the mount ends.

One of the mounts of a library makes each copy. The job runs in the mount's trio loop; a thread for each disk writes the
copy there. A disk that hangs keeps its thread, and nothing else.
"""

import logging
import threading
from collections.abc import Callable

import trio

from vtlfs import blame
from vtlfs.disks.pool import PooledDisk
from vtlfs.engine.backup import copies
from vtlfs.engine.engine import Engine
from vtlfs.engine.jobs import background
from vtlfs.engine.jobs.background import Job
from vtlfs.engine.tracking.database import FILE_NAME, Tracking
from vtlfs.errors import DiskError, VtlfsError
from vtlfs.model import MIB, utc_now

PATIENCE_SECONDS = 1800.0  # for one disk
END_BYTES = 64 * MIB  # the largest database of which a copy is made while somebody waits for the end
END_SECONDS = 5.0  # ... at the end of a mount

log = logging.getLogger(__name__)


class Copying(Job[int]):
    """The job of copying the database to all disks. `at_end`: of the mount, when somebody waits for it."""

    what = "copying the tracking database"

    def __init__(self, engine: Engine, every: float, *, at_end: bool = False) -> None:
        self._engine = engine
        self.every = every
        self._at_end = at_end

    def is_due(self, tracking: Tracking, at: str) -> bool:
        """Tell whether a copy is wanted, and it is time."""
        return copies.is_wanted(tracking, at)

    def claim(self, tracking: Tracking, at: str) -> int | None:
        """Return the number of the copy that this mount is to make."""
        return copies.claim(tracking, at, self.every, early=self._at_end)

    async def work(self, claim: int) -> None:
        """Copy the database to all disks at once, and record how long that took."""
        engine, began = self._engine, trio.current_time()
        made: list[int] = []

        async def copy(pooled: PooledDisk) -> None:
            if await _to_disk(engine, pooled, claim, END_SECONDS if self._at_end else PATIENCE_SECONDS):
                made.append(pooled.number)

        async with trio.open_nursery() as nursery:
            for pooled in engine.pool.disks:
                nursery.start_soon(copy, pooled)
        took = trio.current_time() - began
        await engine.change(lambda tracking: copies.note(tracking, claim, took, made=bool(made)))
        if made:
            disks = ", ".join(map(str, sorted(made)))
            log.debug("copy %d of the tracking database is on disks %s", claim, disks)


async def run(engine: Engine, clock: Callable[[], str] = utc_now) -> None:
    """Make copies for as long as the mount lasts; returns at once where library.toml wants none."""
    every = engine.library.config.copy_every
    if every is not None:
        await background.run(engine, Copying(engine, every), clock)


async def at_end(engine: Engine) -> None:
    """Make a copy at the end of a mount, when its sessions have ended, unless that would take long."""
    every = engine.library.config.copy_every
    try:
        if every is None or (engine.library.path / FILE_NAME).stat().st_size > END_BYTES:
            return
        await background.run_once(engine, Copying(engine, every, at_end=True))
    except (VtlfsError, OSError) as error:
        log.error("copying the tracking database: %s", error)


async def _to_disk(engine: Engine, pooled: PooledDisk, number: int, seconds: float) -> bool:
    """Copy the database to one disk, in so many seconds at most; tell whether it is there.

    What fails is logged: the other disks have theirs.
    """
    if pooled.stalled or not pooled.usable or not pooled.disk.total:
        return False
    stop = threading.Event()

    def make() -> None:
        pooled.disk.measure()  # is it still this disk that is mounted there?
        copies.make(engine.library.path, pooled.disk, number, stop.is_set)

    try:
        with trio.move_on_after(seconds) as patience:
            await trio.to_thread.run_sync(make, abandon_on_cancel=True)
    except DiskError as error:
        level = logging.INFO if blame.fault_of(error.errno) is blame.Fault.FULL else logging.WARNING
        log.log(level, "copying the tracking database: %s", error)
        return False
    finally:
        stop.set()
    if patience.cancelled_caught:
        log.warning("copying the tracking database: disk %d (%s) does not answer", pooled.number, pooled.disk.path)
    return not patience.cancelled_caught
