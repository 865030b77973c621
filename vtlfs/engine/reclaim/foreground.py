"""Reclaiming as a command does it, in a trio run of its own."""

import os
import signal
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial

import trio

from vtlfs.disks.base import Disk
from vtlfs.engine.connections import connected
from vtlfs.engine.jobs import foreground
from vtlfs.engine.library import Library
from vtlfs.engine.reclaim.outlook import look
from vtlfs.engine.reclaim.reclaim import LEASE, Progress, Reclaim, Reclaimed
from vtlfs.engine.tracking.repositories.events import this_command
from vtlfs.sizes import SIZES, Sizes
from vtlfs.timing import DEFAULT, Timing


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
    outcome.interrupted = foreground.run(work)
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
    disks: list[Disk] = [*library.disks_that_answer()]
    async with connected(library, disks) as at:
        catalogue = at.catalogue
        seen = await catalogue.read(lambda tracking: look(library, tracking).reclaimable)
        mounts = await catalogue.read(lambda tracking: tracking.mounts.live())
        if seen and any(library.leases.is_alive(mount.id) for mount in mounts):
            await trio.sleep(timing.reclaim)  # a reader's row may come a moment after its open()
        async with foreground.turn(library.path, LEASE, waits):
            wanted = {volume.key for volume in seen}
            found = await catalogue.read(lambda tracking: look(library, tracking).reclaimable)
            run = Reclaim(
                *(library, {disk.number: disk for disk in disks}),
                *(catalogue, partial(at.committer.call, is_essential=True)),
                actor=this_command(),
                by=f"a command (pid {os.getpid()})",
                limit=limit,
                progress=progress,
                timing=timing,
                sizes=sizes,
            )
            outcome.reclaimed = run.result
            try:
                await run.run([volume for volume in found if volume.key in wanted])
            finally:
                run.close()
