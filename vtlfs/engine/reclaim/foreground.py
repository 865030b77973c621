"""Reclaiming as a command does it, in a trio run of its own."""

import os
import signal
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from functools import partial

import trio

from vtlfs.disks.base import Disk
from vtlfs.disks.marks import MarkThreads
from vtlfs.engine import lease
from vtlfs.engine.library import Library
from vtlfs.engine.reclaim.outlook import look
from vtlfs.engine.reclaim.reclaim import LEASE, Change, Progress, Reclaim, Reclaimed
from vtlfs.engine.reserve import Reserve
from vtlfs.engine.stopping import until_stopped
from vtlfs.engine.tracking.committer import GroupCommitter
from vtlfs.engine.tracking.port import Catalogue
from vtlfs.engine.tracking.repositories.events import this_command
from vtlfs.errors import first_of
from vtlfs.sizes import SIZES, Sizes
from vtlfs.timing import DEFAULT, Timing

LOOK_SECONDS = 0.5  # between two looks whether a repair has ended


@dataclass
class Outcome:
    """What came of the command. `interrupted`: the signal that stopped it, if one did."""

    reclaimed: Reclaimed = field(default_factory=Reclaimed)
    interrupted: signal.Signals | None = None


def reclaim(
    library: Library,
    *,
    limit: int | None,
    progress: Progress,
    waits: Callable[[], object] = lambda: None,
    timing: Timing = DEFAULT,
    sizes: Sizes = SIZES,
) -> Outcome:
    """Reclaim what nothing holds. `waits` is called where a repair is under way, whose end is waited for.

    SIGINT, SIGTERM and SIGHUP stop it. Raises LibraryError, TrackingError.
    """
    outcome = Outcome()
    work = partial(_work, library, limit, progress, waits, timing, sizes, outcome)
    try:
        outcome.interrupted = trio.run(until_stopped, work)
    except BaseExceptionGroup as group:
        raise first_of(group) from None
    return outcome


async def _work(
    library: Library,
    limit: int | None,
    progress: Progress,
    waits: Callable[[], object],
    timing: Timing,
    sizes: Sizes,
    outcome: Outcome,
) -> None:
    async with connected(library) as (disks, catalogue, change):
        seen = await catalogue.read(lambda tracking: look(library, tracking).reclaimable)
        mounts = await catalogue.read(lambda tracking: tracking.mounts.live())
        if seen and any(library.leases.is_alive(mount.id) for mount in mounts):
            await trio.sleep(timing.reclaim)  # a reader's row may come a moment after its open()
        is_told = False
        while True:
            with lease.work(library.path, LEASE) as mine:
                if mine:
                    break_after = {volume.key for volume in seen}
                    found = await catalogue.read(lambda tracking: look(library, tracking).reclaimable)
                    run = Reclaim(
                        *(library, disks, catalogue, change),
                        actor=this_command(),
                        by=f"a command (pid {os.getpid()})",
                        limit=limit,
                        progress=progress,
                        timing=timing,
                        sizes=sizes,
                    )
                    outcome.reclaimed = run.result
                    try:
                        await run.run([volume for volume in found if volume.key in break_after])
                    finally:
                        run.close()
                    return
            if not is_told:
                waits()
                is_told = True
            await trio.sleep(LOOK_SECONDS)


@asynccontextmanager
async def connected(library: Library) -> AsyncIterator[tuple[dict[int, Disk], Catalogue, Change]]:
    """Have the disks that answer now, and connections to the tracking database."""
    disks: list[Disk] = [*library.disks_that_answer()]
    reading = library.tracking(read_only=True)
    try:
        marks = MarkThreads(disks)
        writing = library.tracking(marks=marks)
        committer = GroupCommitter(lambda: writing, Reserve(library.path).give_up)
        try:
            change = partial(committer.call, is_essential=True)
            yield {disk.number: disk for disk in disks}, Catalogue(reading), change
        finally:
            with trio.CancelScope(shield=True):
                await committer.close()
                await trio.to_thread.run_sync(marks.close)
    finally:
        reading.close()
