"""Putting the engine of a mount together: disks, budgets, catalogue and tasks; and taking it down again.

`running` is used by the daemon and by tests. Everything runs in the trio loop that calls it.
"""

import os
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import replace
from functools import partial

import trio

from vtlfs.disks.base import Disk
from vtlfs.disks.pool import DiskPool
from vtlfs.engine.connections import Connections, connected
from vtlfs.engine.engine import Engine
from vtlfs.engine.layout import isal
from vtlfs.engine.lease import Lease
from vtlfs.engine.library import Library
from vtlfs.engine.memory import MemoryBudget
from vtlfs.engine.tasks import degraded, heap, publishing
from vtlfs.engine.tasks.membership import Find, Membership
from vtlfs.engine.tracking.database import Tracking
from vtlfs.engine.tracking.port import Catalogue
from vtlfs.engine.writing.announcements import OwnAnnouncements
from vtlfs.engine.writing.context import WriteContext
from vtlfs.engine.writing.dirty import DirtyBudget
from vtlfs.errors import DiskError, DiskMissing
from vtlfs.model import DiskState, Mount
from vtlfs.sizes import SIZES, Sizes
from vtlfs.timing import DEFAULT, Timing


@asynccontextmanager
async def running(
    library: Library,
    mount: Mount,
    *,
    durable_close: bool = True,
    check: bool = True,
    disks: list[Disk] | None = None,
    at_end: Callable[["Engine"], Awaitable[None]] | None = None,
    behind: bool = False,
    find: Find | None = None,
    timing: Timing = DEFAULT,
    sizes: Sizes = SIZES,
) -> AsyncIterator[Engine]:
    """Run the engine of a mount; `mount.id` is ignored. Raises LibraryError where the library is not in order.

    At the end, every open session is ended, state `failed` unless a close() was answered. `check`: reading compares
    BLAKE3s. `disks` replaces the library's own, and `find` its search for one that is new or comes back, for tests.
    `at_end` is called after all sessions have ended, while the mount still holds its lease.
    `behind`: the tracking database may be older than the disks. Then dead mounts are not recovered: recovery would cut
    off extents that this database does not know.
    """
    if library.config.parity:
        isal.check()
    found: list[Disk] = disks if disks is not None else [*library.disks(check=check)]
    memory = MemoryBudget(library.config.memory_limit, library.config.stripe_unit, len(found), timing, sizes)
    async with (
        connected(library, found, behind=behind, sizes=sizes) as at,
        _pool(library, at.catalogue, found, memory.queued, timing) as pool,
    ):
        number, lease = await at.committer.call(
            lambda tracking: _register(tracking, library, mount, found), is_essential=True
        )
        async with trio.open_nursery() as nursery:
            dirty = DirtyBudget(memory.kept, nursery)
            context = _context(library, pool, at, memory, dirty, timing, durable_close=durable_close)
            engine = Engine(library, replace(mount, id=number), context, lease, nursery)
            engine.is_behind = at.is_behind
            engine.at_end = None if at.is_behind else at_end
            membership = Membership(
                find or partial(library.find, check=check),
                *(context, at.marks, engine.checkpoint_all, engine.health.disks_are_back),
            )
            await _start(engine, context, membership, lease, nursery)
            try:
                yield engine
            finally:
                nursery.cancel_scope.cancel()
                with trio.CancelScope(shield=True):
                    await engine.end()


def _context(
    library: Library,
    pool: DiskPool,
    at: Connections,
    memory: MemoryBudget,
    dirty: DirtyBudget,
    timing: Timing,
    *,
    durable_close: bool,
) -> WriteContext:
    config = library.config
    return WriteContext(
        *(pool, at.committer, at.catalogue, memory, dirty),
        *(config.low_space, config.parity, OwnAnnouncements(timing.closing_round)),
        durable_close=durable_close,
        timing=timing,
    )


@asynccontextmanager
async def _pool(
    library: Library, catalogue: Catalogue, found: list[Disk], queued: int, timing: Timing
) -> AsyncIterator[DiskPool]:
    """Have the disks with their threads, looked at once. `queued`: bytes that may be on their way to all disks."""
    pool = DiskPool(found, library.config.stripe_unit, queued, timing)
    try:
        for disk in await catalogue.read(lambda tracking: tracking.disks.all()):
            if disk.number in pool:  # else it was added just now, and `Membership` takes it in
                pool[disk.number].leaving = disk.state is DiskState.RETIRING
        await _measure(pool, library.config.parity)
        yield pool
    finally:
        pool.close()


async def _measure(pool: DiskPool, spare: int) -> None:
    """Look at all disks. Raises DiskError where more of them fail than `spare`.

    Disks that are missing do not count, nor do those that are retiring.
    """
    failed = 0
    for pooled in pool.disks:
        try:
            await pooled.reading.run(pooled.disk.measure)
        except DiskError as error:
            failed += not isinstance(error, DiskMissing) and not pooled.leaving
            if failed > spare or not pooled.note_fault(error):
                raise


async def _start(
    engine: Engine, context: WriteContext, membership: Membership, lease: Lease, nursery: trio.Nursery
) -> None:
    """Recover dead mounts, and start the tasks of a mount."""
    health, timing = engine.health, context.timing
    tasks = [engine.checkpoints, context.announcements.run, health.probe_disks, health.note_fill, context.memory.run]
    tasks.append(membership.run)
    if not engine.is_behind:
        await health.reap_dead_mounts()
        await health.tidy_up()
        tasks += [health.watch_mounts, partial(health.note_finished, lease), partial(health.note_closed, lease)]
        tasks.append(health.remember)
        tasks.append(partial(degraded.watch, context.catalogue, timing.watch))
    await membership.look()
    await engine.begin()
    for task in tasks:
        nursery.start_soon(task)
    nursery.start_soon(heap.run, context.memory, engine.cache)
    nursery.start_soon(publishing.publish, engine.library.path, engine.mount.id, engine.figures, timing.figures)


def _register(tracking: Tracking, library: Library, mount: Mount, disks: list[Disk]) -> tuple[int, Lease]:
    """Record the mount, with its lease taken before anybody can see it; return its number and the lease."""
    number = tracking.mounts.add(mount)
    lease = library.leases.take(number, tracking.library.last_ordinal())
    try:
        tracking.drives.ensure(library.config.drives)
        for disk in disks:
            tracking.disks.move(disk.number, os.fspath(disk.path))
    except BaseException:
        lease.end()
        raise
    return number, lease
