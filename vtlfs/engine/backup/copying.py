"""The task of a mount that keeps copies of the tracking database on the disks, and the last copy when it ends.

However many mounts a library has, one of them makes each copy: all ask in a transaction whether one is due. The task
runs in the mount's trio loop, each copy in a thread of its own that a hanging disk may keep.
"""

import logging
import threading
from collections.abc import Callable

import trio

from vtlfs import blame
from vtlfs.disks.pool import PooledDisk
from vtlfs.engine.backup import copies
from vtlfs.engine.engine import Engine
from vtlfs.engine.tracking.database import FILE_NAME
from vtlfs.errors import DiskError, VtlfsError
from vtlfs.model import MIB, utc_now

LOOK_SECONDS = 10.0  # at most, between two looks
PATIENCE_SECONDS = 1800.0  # for one disk
END_BYTES = 64 * MIB  # the largest database of which a copy is made while somebody waits for the end
END_SECONDS = 5.0  # ... at the end of a mount

log = logging.getLogger(__name__)


async def run(engine: Engine, clock: Callable[[], str] = utc_now) -> None:
    """Make copies for as long as the mount lasts; returns at once where library.toml wants none."""
    every = engine.library.config.copy_every
    if every is None:
        return
    while True:
        await trio.sleep(min(every, LOOK_SECONDS))
        try:
            if copies.is_wanted(engine.tracking, clock()):  # a look that disturbs nobody
                await _copy(engine, every, clock)
        except VtlfsError as error:
            log.error("copying the tracking database: %s; trying again", error)


async def at_end(engine: Engine) -> None:
    """Make a copy at the end of a mount, when its sessions have ended, unless that would take long."""
    every = engine.library.config.copy_every
    try:
        if every is None or (engine.library.path / FILE_NAME).stat().st_size > END_BYTES:
            return
        await _copy(engine, every, utc_now, at_end=True)
    except (VtlfsError, OSError) as error:
        log.error("copying the tracking database: %s", error)


async def _copy(engine: Engine, every: float, clock: Callable[[], str], *, at_end: bool = False) -> None:
    """Copy the database to all disks at once, if a copy is due and no other mount makes it."""
    number = await engine.change(lambda tracking: copies.claim(tracking, clock(), every, early=at_end))
    if number is None:
        return
    began = trio.current_time()
    made: list[int] = []

    async def copy(pooled: PooledDisk) -> None:
        if await _to_disk(engine, pooled, number, END_SECONDS if at_end else PATIENCE_SECONDS):
            made.append(pooled.number)

    async with trio.open_nursery() as nursery:
        for pooled in engine.pool.disks:
            nursery.start_soon(copy, pooled)
    took = trio.current_time() - began
    await engine.change(lambda tracking: copies.note(tracking, number, took, made=bool(made)))
    if made:
        log.debug("copy %d of the tracking database is on disks %s", number, ", ".join(map(str, sorted(made))))


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
