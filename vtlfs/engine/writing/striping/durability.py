"""Making the bytes of one stream durable: it syncs the stream's disks, and saves the bytes after a failed sync.

A kernel forgets the pages that a sync could not write, and the next sync succeeds without them. So after a failed sync
the stripes with unsynced extents on that disk are dealt anew over other disks, and synced there; where that fails, the
stream has failed. Used in the trio loop; the disks' executors sync.
"""

from collections import defaultdict
from collections.abc import Callable, Collection

import trio

from vtlfs.disks.pool import DiskPool
from vtlfs.engine.writing.lazy_lock import LazyLock
from vtlfs.engine.writing.striping.pipeline import WritePipeline
from vtlfs.engine.writing.striping.stripes import Stripes
from vtlfs.errors import VtlfsError


class Durability:
    """See the module. One write session has one."""

    __slots__ = ("_failed", "_pipeline", "_pool", "_stripes", "_syncing")

    def __init__(
        self, pool: DiskPool, stripes: Stripes, pipeline: WritePipeline, failed: Callable[[BaseException], object]
    ) -> None:
        """`failed` is called with an error that has cost the stream bytes."""
        self._pool = pool
        self._stripes = stripes
        self._pipeline = pipeline
        self._failed = failed
        self._syncing: defaultdict[int, LazyLock] = defaultdict(LazyLock)  # by disk

    async def sync(self, *, recorded: bool = False) -> None:
        """Sync the changed member files on all disks at once, so that all extents that are written now become durable.

        After a failed sync, the unsynced stripes of the disk are dealt anew, written to other disks and synced there,
        or the stream has failed. `recorded`: the stripes are in the database already, with their present places, so
        they can't move. Bytes that come meanwhile are left to the next sync.
        """
        end = self._stripes.sealed
        disks = self._stripes.disks_to_sync(end)
        if recorded:  # recorded stripes are forgotten, so all unsynced disks are synced
            disks |= {*self._stripes.unsynced, *(disk for disk, lock in self._syncing.items() if lock.locked())}
        while disks:
            await self._sync_all(disks, recorded=recorded)
            await self._pipeline.drain(end)  # a sync of another task may have failed, and dealt stripes anew
            wanting = self._stripes.disks_to_sync(end)
            disks = {disk for disk in wanting if disk in self._stripes.unsynced or self._syncing[disk].locked()}
            for disk in wanting - disks:  # cannot happen; if it does, no later sync would include these extents
                self._lose_disk(disk, VtlfsError(f"disk {disk}: extents of the stream may be unsynced there"))

    async def writeback(self, least: int) -> None:
        """Sync the disks for which at least `least` bytes are kept; 0: close the open stripe first, so that it counts.

        A sync under way is not waited for. A writeback disturbs no flush: a flush waits for a running sync of the same
        disk, and for the evacuation after a failed sync.
        """
        if not least:
            self._pipeline.close_stripe()
            await self._pipeline.drain()
        disks = {disk for disk, size in self._stripes.waiting_on().items() if size >= least} & self._stripes.unsynced
        await self._sync_all({disk for disk in disks if not self._syncing[disk].locked()})

    async def _sync_all(self, disks: Collection[int], *, recorded: bool = False) -> None:
        if len(disks) == 1:  # a nursery costs more than the rest of this call, and most short streams have one disk
            (disk,) = disks
            await self._sync(disk, recorded)
            return
        async with trio.open_nursery() as nursery:
            for disk in disks:
                nursery.start_soon(self._sync, disk, recorded)

    async def _sync(self, disk: int, recorded: bool) -> None:
        """Sync one disk, and evacuate it where the sync fails, before another sync of it may begin."""
        async with self._syncing[disk]:
            if disk not in self._stripes.unsynced:
                return
            pooled, fragments = self._pool[disk], self._stripes.begin_sync(disk)
            try:
                await pooled.syncing.run(self._pipeline.members[disk].sync, timed=pooled.sync_seconds)
            except Exception as error:
                with trio.CancelScope(shield=True):  # a cancelled evacuation would leave stripes neither moved nor lost
                    is_trouble = self._pipeline.placement.record_failure(disk, error)
                    if recorded or not is_trouble or not await self._evacuate(disk):
                        self._lose_disk(disk, error)
            else:
                self._stripes.synced(fragments)

    async def _evacuate(self, disk: int) -> bool:
        """Deal the unsynced stripes of a disk anew; tell whether all are written elsewhere.

        Stripes with extents in flight to the disk are dealt anew, too: the kernel may have forgotten their pages.
        """
        while stripes := self._stripes.on_disk(disk):  # again, since parity of a closed stripe may go to this disk
            if not all(self._pipeline.redeal(stripe) for stripe in stripes):
                return False
            await self._pipeline.drain()
        return True

    def _lose_disk(self, disk: int, error: BaseException) -> None:
        """Lose the unsynced stripes of a disk, and those in flight to it: a failed sync may concern them, too."""
        for stripe in self._stripes.on_disk(disk):
            self._pipeline.lose(stripe, error)
        self._failed(error)
