"""Repair as a command does it, in a trio run of its own."""

import os
import resource
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, closing
from dataclasses import dataclass
from functools import partial

import trio

from vtlfs import blame
from vtlfs.disks.base import Disk
from vtlfs.disks.marks import MarkThreads
from vtlfs.disks.pool import DiskPool
from vtlfs.engine import lease
from vtlfs.engine.layout import isal
from vtlfs.engine.library import Library
from vtlfs.engine.repair import disk_jobs
from vtlfs.engine.repair.repair import NAME, Change, Progress, repair_all
from vtlfs.engine.repair.result import RepairResult
from vtlfs.engine.stopping import until_stopped
from vtlfs.engine.tracking.committer import GroupCommitter
from vtlfs.engine.tracking.port import Catalogue
from vtlfs.errors import DiskError, first_of
from vtlfs.model import DiskState, utc_now

LOOK_SECONDS = 0.5  # between two looks at the repair of somebody else
DESCRIPTORS = 16 << 10
WAIT_SECONDS = 2.0  # before another look at what live mounts still have in their hands


def repair(library: Library, *, limit: int | None, progress: Progress) -> RepairResult:
    """Mend all that lacks something, and empty the disks that are retiring; those that are away now count as lost.

    Where a mount or another command is repairing, follow it until it is done, and then do what is left. SIGINT,
    SIGTERM and SIGHUP stop it: the result says which. Raises LibraryError, TrackingError.
    """
    if library.config.parity:
        isal.check()
    result = RepairResult()
    try:
        result.interrupted = trio.run(until_stopped, partial(_until_done, library, limit, progress, result))
    except BaseExceptionGroup as group:
        raise first_of(group) from None
    return result


async def _until_done(library: Library, limit: int | None, progress: Progress, result: RepairResult) -> None:
    """Repair until nothing is left that only waits for something; bring the result up to date."""
    told: dict[int, DiskError] = {}
    while True:
        with lease.work(library.path, NAME) as mine:
            if mine:
                is_done = await _once(library, limit, progress, result, told)
                if is_done:
                    return
            else:
                result.followed = await _look(library, progress)
        await trio.sleep(WAIT_SECONDS if mine else LOOK_SECONDS)


async def _look(library: Library, progress: Progress) -> str | None:
    """Tell of the repair of somebody else; return what came of the last one, in words."""
    with closing(library.tracking(read_only=True)) as tracking:
        job = tracking.jobs.get(NAME)
    if job is None:
        return None
    if job.ended_at is None:
        progress(job.done, job.total)
    return job.result


@dataclass(frozen=True, slots=True)
class Workshop:
    """What a repair in a command works with. `out`: disks that can't be used now."""

    pool: DiskPool
    catalogue: Catalogue
    change: Change
    out: set[int]


@asynccontextmanager
async def workshop(library: Library, told: dict[int, DiskError] | None = None) -> AsyncIterator[Workshop]:
    """Have the disks that are there now, their threads, and connections to the tracking database.

    `told`: faults of disks that were logged the last time; it is brought up to date. The process may have more open
    files from then on, as far as it is allowed to: a shell's limit is for programs that have few.
    """
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = DESCRIPTORS if hard == resource.RLIM_INFINITY else min(hard, DESCRIPTORS)
    if soft != resource.RLIM_INFINITY and soft < wanted:
        resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))
    disks: list[Disk] = [*library.disks_that_answer()]
    reading = library.tracking(read_only=True)
    marks = MarkThreads(disks)
    writing = library.tracking(marks=marks)
    committer = GroupCommitter(lambda: writing)
    pool = DiskPool(disks, library.config.stripe_unit)
    try:
        yield Workshop(pool, Catalogue(reading), committer.call, await _out(pool, {} if told is None else told))
    finally:
        with trio.CancelScope(shield=True):
            await committer.close()
            await trio.to_thread.run_sync(marks.close)
        pool.close()
        reading.close()


async def _once(
    library: Library, limit: int | None, progress: Progress, result: RepairResult, told: dict[int, DiskError]
) -> bool:
    """Repair once, with the disks that are there now; tell whether that was all there is to do."""
    by = f"a command (pid {os.getpid()})"
    async with workshop(library, told) as at:
        await _forget_faults(library, at)
        work = (library, at.pool, at.catalogue, at.change)
        found = await repair_all(*work, out=at.out, by=by, limit=limit, progress=progress)
        result.add(found)
        reading = at.catalogue.tracking
        left = [disk for disk in reading.disks.all() if disk.state is DiskState.RETIRING]
        stored = reading.disks.stored()
        are_waiting = any(disk.number not in stored or not stored[disk.number].extents for disk in left)
        are_written = any(reading.sessions.is_written_to(disk.number) for disk in left)
        return not (found.postponed or are_waiting or are_written)


async def _forget_faults(library: Library, at: Workshop) -> None:
    """Forget the faults that the last mount has recorded of disks that work now, unless a live mount knows better."""
    disks, mounts = await at.catalogue.read(lambda tracking: (tracking.disks.all(), tracking.mounts.live()))
    if any(library.leases.is_alive(mount.id) for mount in mounts):
        return
    for disk in disks:
        if disk.fault is not None and disk.number in at.pool and at.pool[disk.number].works:
            await at.change(lambda tracking, disk=disk: tracking.disks.record_fault(disk.number, None, utc_now()))  # type: ignore[misc]


async def _out(pool: DiskPool, told: dict[int, DiskError]) -> set[int]:
    """Return the disks that can't be used, or do not answer; all are looked at. A disk that is full can be used."""
    out: set[int] = set()

    async def look(number: int) -> None:
        pooled = pool[number]
        pooled.fault = told.pop(number, None)
        try:
            await disk_jobs.run(pooled.reading, lambda: pooled.reads_hang, pooled.disk.measure)
            await disk_jobs.run(pooled.writing, lambda: pooled.hangs, pooled.disk.try_out)
            pooled.fault = None
        except disk_jobs.NoAnswer:
            out.add(number)
        except DiskError as error:
            if not pooled.note_fault(error):
                raise
            told[number] = error
            if blame.fault_of(error.errno) is not blame.Fault.FULL:
                out.add(number)

    async with trio.open_nursery() as nursery:
        for pooled in pool.disks:
            nursery.start_soon(look, pooled.number)
    return out
