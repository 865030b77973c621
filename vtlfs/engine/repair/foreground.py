"""Repair in a command (`vtlfs disk repair`, `replace`, `retire`), in a trio run of its own."""

import os
import resource
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, closing
from dataclasses import dataclass
from functools import partial

import trio

from vtlfs import blame
from vtlfs.disks.base import Disk
from vtlfs.disks.pool import DiskPool
from vtlfs.engine import lease
from vtlfs.engine.connections import connected
from vtlfs.engine.jobs import foreground
from vtlfs.engine.layout import isal
from vtlfs.engine.library import Library
from vtlfs.engine.repair import disk_jobs
from vtlfs.engine.repair.repair import NAME, Change, Progress, repair_all
from vtlfs.engine.repair.result import RepairResult
from vtlfs.engine.tracking.port import Catalogue
from vtlfs.errors import DiskError
from vtlfs.model import DiskState, utc_now

LOOK_SECONDS = 0.5  # between two looks at a repair that another process runs
DESCRIPTORS = 16 << 10  # open files that a repair may have, if the process is allowed so many
WAIT_SECONDS = 2.0  # before another repair, if the last one had to leave something to live mounts


def repair(library: Library, *, limit: int | None, progress: Progress) -> RepairResult:
    """Mend every stripe that lacks something, and empty the retiring disks. Disks that are away now count as lost.

    If a mount or another command is repairing, follow that repair until it has ended, and then do what is left.
    `limit`: bytes a second. SIGINT, SIGTERM and SIGHUP stop the repair; the result names the signal. Raises
    LibraryError, TrackingError.
    """
    if library.config.parity:
        isal.check()
    result = RepairResult()
    result.interrupted = foreground.run(partial(_until_done, library, limit, progress, result))
    return result


async def _until_done(library: Library, limit: int | None, progress: Progress, result: RepairResult) -> None:
    """Repair until nothing is left to do but what needs another disk or is lost; keep `result` up to date."""
    told: dict[int, DiskError] = {}
    while True:
        with lease.work(library.path, NAME) as mine:
            if mine:
                is_done = await _once(library, limit, progress, result, told)
                if is_done:
                    return
            else:
                result.followed = await _follow(library, progress)
        await trio.sleep(WAIT_SECONDS if mine else LOOK_SECONDS)


async def _follow(library: Library, progress: Progress) -> str | None:
    """Show how far the repair of another process is; return the outcome of the last ended repair, in words."""
    with closing(library.tracking(read_only=True)) as tracking:
        job = tracking.jobs.get(NAME)
    if job is None:
        return None
    if job.ended_at is None:
        progress(job.done, job.total)
    return job.result


@dataclass(frozen=True, slots=True)
class Workshop:
    """The disks and connections with which a command repairs. `out`: disks that can't be used now."""

    pool: DiskPool
    catalogue: Catalogue
    change: Change
    out: set[int]


@asynccontextmanager
async def workshop(library: Library, told: dict[int, DiskError] | None = None) -> AsyncIterator[Workshop]:
    """Open the disks that answer now, with their threads, and connections to the tracking database.

    `told`: the faults of disks that the log has already; this function updates it. The soft limit of open files is
    raised to DESCRIPTORS and stays raised, because the usual 1024 are too few for the member files of a repair.
    """
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = DESCRIPTORS if hard == resource.RLIM_INFINITY else min(hard, DESCRIPTORS)
    if soft != resource.RLIM_INFINITY and soft < wanted:
        resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))
    disks: list[Disk] = [*library.disks_that_answer()]
    async with connected(library, disks) as at:
        pool = DiskPool(disks, library.config.stripe_unit)
        try:
            yield Workshop(pool, at.catalogue, at.committer.call, await _out(pool, {} if told is None else told))
        finally:
            pool.close()


async def _once(
    library: Library, limit: int | None, progress: Progress, result: RepairResult, told: dict[int, DiskError]
) -> bool:
    """Repair once, with the disks that answer now; tell whether another repair right after it has nothing to do."""
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
        are_written = any(reading.session_disks.is_written_to(disk.number) for disk in left)
        return not (found.postponed or are_waiting or are_written)


async def _forget_faults(library: Library, at: Workshop) -> None:
    """Clear the recorded faults of disks that work now, unless a mount lives: that one records faults itself."""
    disks, mounts = await at.catalogue.read(lambda tracking: (tracking.disks.all(), tracking.mounts.live()))
    if any(library.leases.is_alive(mount.id) for mount in mounts):
        return
    for disk in disks:
        if disk.fault is not None and disk.number in at.pool and at.pool[disk.number].works:
            await at.change(lambda tracking, disk=disk: tracking.disks.record_fault(disk.number, None, utc_now()))  # type: ignore[misc]


async def _out(pool: DiskPool, told: dict[int, DiskError]) -> set[int]:
    """Try all disks; return those that fail or do not answer. A disk that is full can be used."""
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
