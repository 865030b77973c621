"""Repair in a mount, in the background: a job of the mount's trio loop.

A repair is due when a disk is retiring, when a disk has been away for longer than `[repair] after`, when stripes are
known to lack something, and when a repair was interrupted. The lease `repair` decides which of the mounts does it.
"""

import logging
from collections.abc import Callable
from datetime import datetime

import trio

from vtlfs import blame
from vtlfs.disks.pool import PooledDisk
from vtlfs.engine.engine import Engine
from vtlfs.engine.jobs import background
from vtlfs.engine.jobs.background import Job
from vtlfs.engine.repair.repair import NAME, repair_all
from vtlfs.engine.tracking.database import Tracking
from vtlfs.model import DiskRecord, DiskState, format_size, utc_now
from vtlfs.sizes import SIZES

LOOK_SECONDS = 5.0  # between two looks whether a repair is due
AGAIN_SECONDS = 3600.0  # before stripes that could not be mended are tried again, if the disks stay as they are
WAITING_SECONDS = 30.0  # before another repair, for sessions that had just ended or were open

log = logging.getLogger(__name__)


class RepairJob(Job[list[DiskRecord]]):
    """See the module."""

    what = "repair"
    every = LOOK_SECONDS
    lease = NAME

    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        self._after = engine.library.config.repair_after
        self._not_before = 0.0  # trio's time before which no repair begins, while the disks are in the state `_tried`
        self._tried: tuple[object, ...] = ()  # the state of the disks, see `_state`, at the end of the last repair
        self._told: set[str] = set()  # lines that the log has since a repair last mended something

    def is_due(self, tracking: Tracking, at: str) -> bool:
        """Tell whether there is something to repair, and a repair may succeed where the last one did not."""
        disks = tracking.disks.all()
        if self._state(disks, at) == self._tried and trio.current_time() < self._not_before:
            return False
        if _leaving(disks) or self._away(disks, at) or tracking.lacks.are_of_tape_files():
            return True
        last = tracking.jobs.get(NAME)
        return last is not None and last.ended_at is None  # interrupted: its row has to be ended

    def claim(self, tracking: Tracking, at: str) -> list[DiskRecord]:
        """Return the disks. It is the lease that claims the work."""
        return tracking.disks.all()

    async def work(self, claim: list[DiskRecord]) -> None:
        """Repair, with the lease."""
        engine, at = self._engine, utc_now()
        leaving, away, limit = _leaving(claim), self._away(claim, at), engine.library.config.repair_limit
        self._tell_why(leaving, away, limit)
        engine.memory.take(2 * SIZES.repair_batch)  # about as much as one batch has in memory
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
        speed = "without a speed limit" if limit is None else f"with {format_size(limit)}/s at most"
        self._tell(logging.INFO, f"repair begins, {speed}: {'; '.join(why) or 'stripes are known to lack something'}")

    def _tell(self, level: int, line: str) -> None:
        """Log a line; on the level DEBUG if the log has it since a repair last mended something.

        While a repair waits for a stream to end, it begins again every WAITING_SECONDS.
        """
        log.log(logging.DEBUG if line in self._told else level, "%s", line)
        self._told.add(line)

    def _away(self, disks: list[DiskRecord], at: str) -> list[int]:
        """Return the disks that have been unusable for longer than `[repair] after`. A full disk is usable.

        The wall clock measures how long, because the time goes on when no mount runs. If that clock jumps, a repair
        begins too early or too late by as much; too early, it spends room on extents that a disk still has.
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
        """Return the state of the disks: where it changes, another repair may succeed."""
        pool, away = self._engine.pool, self._away(disks, at)
        return tuple(
            (disk.number, disk.state, disk.number in away, disk.number in pool and pool[disk.number].usable)
            for disk in disks
        )


def _leaving(disks: list[DiskRecord]) -> list[int]:
    return [disk.number for disk in disks if disk.state is DiskState.RETIRING]


def _is_left(tracking: Tracking, out: set[int]) -> bool:
    """Tell whether disks that are out still have extents, such as those of open streams, or stripes lack something."""
    stored = tracking.disks.stored()
    return any(number in stored and stored[number].extents for number in out) or tracking.lacks.are_of_tape_files()


def _is_out(pooled: PooledDisk) -> bool:
    is_full = pooled.fault is not None and blame.fault_of(pooled.fault.errno) is blame.Fault.FULL
    return not pooled.usable and not is_full


async def run(engine: Engine, clock: Callable[[], str] = utc_now) -> None:
    """Repair whenever a repair is due, until cancelled."""
    await background.run(engine, RepairJob(engine), clock)
