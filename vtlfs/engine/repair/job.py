"""Repair as a mount does it by itself, in the background: a job of the mount's trio loop.

It is due when a disk is retiring, when a disk has been away for longer than `[repair] after`, when stripes are known to
lack something, and when a repair was interrupted. Which of the mounts does it the lease decides that a repair holds.
"""

import logging
from collections.abc import Callable
from datetime import datetime

import trio

from vtlfs import blame
from vtlfs.disks.pool import PooledDisk
from vtlfs.engine import jobs, lease
from vtlfs.engine.engine import Engine
from vtlfs.engine.repair.repair import NAME, repair_all
from vtlfs.engine.tracking.database import Tracking
from vtlfs.model import DiskRecord, DiskState, format_size, utc_now
from vtlfs.sizes import SIZES

LOOK_SECONDS = 5.0  # between two looks whether a repair is due
AGAIN_SECONDS = 3600.0  # before what could not be mended is tried again on the same disks
WAITING_SECONDS = 30.0  # before another look at sessions that had just ended, or were open

log = logging.getLogger(__name__)


class RepairJob:
    """See the module."""

    what = "repair"
    every = LOOK_SECONDS

    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        self._after = engine.library.config.repair_after
        self._not_before = 0.0  # by trio's clock: that holds while the disks stay as they were
        self._tried: tuple[object, ...] = ()  # what the disks were like when that was set
        self._told: set[str] = set()  # what the log has about the disks as they are

    def is_due(self, tracking: Tracking, at: str) -> bool:
        """Tell whether there is something to repair that may come to something."""
        disks = tracking.disks.all()
        if self._state(disks, at) == self._tried and trio.current_time() < self._not_before:
            return False
        if _leaving(disks) or self._away(disks, at) or tracking.lacks.are_of_tape_files():
            return True
        last = tracking.jobs.get(NAME)
        return last is not None and last.ended_at is None  # it was interrupted, and is to be ended

    def claim(self, tracking: Tracking, at: str) -> list[DiskRecord]:
        """Return the disks. It is the lease that claims a repair."""
        return tracking.disks.all()

    async def work(self, engine: Engine, claim: list[DiskRecord]) -> None:
        """Repair, unless somebody else does."""
        with lease.work(engine.library.path, NAME) as mine:
            if mine:
                await self._repair(engine, claim, utc_now())

    async def _repair(self, engine: Engine, disks: list[DiskRecord], at: str) -> None:
        leaving, away, limit = _leaving(disks), self._away(disks, at), engine.library.config.repair_limit
        self._tell_why(leaving, away, limit)
        engine.memory.take(2 * SIZES.repair_batch)  # about what it has in memory
        try:
            result = await repair_all(
                *(engine.library, engine.pool, engine.catalogue, engine.change),
                out={*leaving, *away},
                by=f"mount {engine.mount.id}",
                limit=limit,
                at_once=1,
            )
        finally:
            engine.memory.give(2 * SIZES.repair_batch)
        is_hopeless = bool(result.needs_disk or result.no_room or result.lost)
        self._tell(logging.WARNING if is_hopeless else logging.INFO, f"repair has ended: {result.in_words()}")
        if result.stripes or result.emptied:
            self._told.clear()
        disks = await engine.catalogue.read(lambda tracking: tracking.disks.all())
        is_left = await engine.catalogue.read(lambda tracking: _is_left(tracking, {*_leaving(disks), *away}))
        self._tried = self._state(disks, at)
        seconds = AGAIN_SECONDS if is_hopeless else WAITING_SECONDS if result.postponed or is_left else 0.0
        self._not_before = trio.current_time() + seconds

    def _tell_why(self, leaving: list[int], away: list[int], limit: int | None) -> None:
        why = [f"disk {number} is retiring" for number in leaving]
        why += [f"disk {number} is away" for number in away if number not in leaving]
        speed = "as fast as it goes" if limit is None else f"with {format_size(limit)}/s at most"
        self._tell(logging.INFO, f"repair begins, {speed}: {'; '.join(why) or 'stripes are known to lack something'}")

    def _tell(self, level: int, what: str) -> None:
        """Log something once, until a repair comes to something: while it waits for a stream, it looks often."""
        log.log(logging.DEBUG if what in self._told else level, "%s", what)
        self._told.add(what)

    def _away(self, disks: list[DiskRecord], at: str) -> list[int]:
        """Return the disks that can't be used, and could not for a while; those that are full can.

        The wall clock tells for how long, as it has to be told beyond the end of a mount. If it jumps, a repair begins
        too early, which costs room and moves extents that a disk still has, or too late, by as much as the jump.
        """
        pool, after = self._engine.pool, self._after
        if after is None:
            return []
        return [
            disk.number
            for disk in disks
            if disk.fault_at is not None
            and disk.number in pool
            and _is_out(pool[disk.number])
            and (datetime.fromisoformat(at) - datetime.fromisoformat(disk.fault_at)).total_seconds() >= after
        ]

    def _state(self, disks: list[DiskRecord], at: str) -> tuple[object, ...]:
        """Return what may make a difference to a repair."""
        pool, away = self._engine.pool, self._away(disks, at)
        return tuple(
            (disk.number, disk.state, disk.number in away, disk.number in pool and pool[disk.number].usable)
            for disk in disks
        )


def _leaving(disks: list[DiskRecord]) -> list[int]:
    return [disk.number for disk in disks if disk.state is DiskState.RETIRING]


def _is_left(tracking: Tracking, out: set[int]) -> bool:
    """Tell whether something lies on disks that are out, as open streams have something there, or lacks something."""
    stored = tracking.disks.stored()
    return any(number in stored and stored[number].extents for number in out) or tracking.lacks.are_of_tape_files()


def _is_out(pooled: PooledDisk) -> bool:
    is_full = pooled.fault is not None and blame.fault_of(pooled.fault.errno) is blame.Fault.FULL
    return not pooled.usable and not is_full


async def run(engine: Engine, clock: Callable[[], str] = utc_now) -> None:
    """Repair whenever that is due, for as long as the mount lasts."""
    await jobs.run(engine, RepairJob(engine), clock)
