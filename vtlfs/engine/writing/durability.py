"""Which bytes of one stream are durable: syncs of its disks, and what becomes of the bytes where a sync fails.

A kernel forgets the pages that a sync could not write, and the next sync succeeds without them. So after a failed sync
the unsynced units of that disk are written to other disks and synced there; where that fails, the stream has failed.
Used in the trio loop; the disks' executors sync.
"""

import logging
from collections import defaultdict
from collections.abc import Callable, Collection

import trio

from vtlfs.disks.pool import DiskPool
from vtlfs.engine.writing.buffer import StripeBuffer
from vtlfs.engine.writing.lazy_lock import LazyLock
from vtlfs.engine.writing.pipeline import WritePipeline
from vtlfs.engine.writing.units import StripeUnits
from vtlfs.errors import VtlfsError
from vtlfs.model import StripeUnit

log = logging.getLogger(__name__)


class Durability:
    """See the module. One write session has one."""

    __slots__ = ("_failed", "_pipeline", "_pool", "_stripe_unit", "_syncing", "_units")

    def __init__(
        self,
        stripe_unit: int,
        pool: DiskPool,
        units: StripeUnits,
        pipeline: WritePipeline,
        failed: Callable[[BaseException], object],
    ) -> None:
        """`failed` is called with an error that has cost the stream bytes."""
        self._stripe_unit = stripe_unit
        self._pool = pool
        self._units = units
        self._pipeline = pipeline
        self._failed = failed
        self._syncing: defaultdict[int, LazyLock] = defaultdict(LazyLock)  # by disk

    async def sync(self, *, recorded: bool = False) -> None:
        """Sync the member files that have changed, all disks at once: bytes that are written now become durable.

        After a failed sync, the unsynced units of the disk are written to other disks, and synced there, or the stream
        has failed. `recorded`: the units are in the database already, with their present places, so they can't move.
        Bytes that come meanwhile are left to the next sync.
        """
        wanted = self._units.unsynced_rows()
        disks = {*self._units.unsynced, *(disk for disk, lock in self._syncing.items() if lock.locked())}
        while disks:
            await self._sync_all(disks, recorded=recorded)
            to_sync = {disk for row in wanted if (disk := self._units.disk_to_sync(row)) is not None}
            disks = {disk for disk in to_sync if disk in self._units.unsynced or self._syncing[disk].locked()}
            for disk in to_sync - disks:  # cannot happen; if it does, no later sync would notice it
                self._units.lose_disk(disk)
                self._failed(VtlfsError(f"disk {disk}: nobody knows whether what was written there was synced"))

    async def writeback(self, least: int) -> None:
        """Sync those disks for which at least so many bytes are kept. A sync under way is not waited for.

        A writeback disturbs no flush: a flush waits for a running sync of the same disk, and for its evacuation.
        """
        disks = {disk for disk, size in self._units.kept_on().items() if size >= least} & self._units.unsynced
        await self._sync_all({disk for disk in disks if not self._syncing[disk].locked()})

    async def _sync_all(self, disks: Collection[int], *, recorded: bool = False) -> None:
        if len(disks) == 1:  # as for a short stream, which is spared a nursery
            (disk,) = disks
            await self._sync(disk, recorded)
            return
        async with trio.open_nursery() as nursery:
            for disk in disks:
                nursery.start_soon(self._sync, disk, recorded)

    async def _sync(self, disk: int, recorded: bool) -> None:
        """Sync one disk, and evacuate it where the sync fails, before another sync of it may begin."""
        async with self._syncing[disk]:
            if disk not in self._units.unsynced:
                return
            rows = self._units.begin_sync(disk)
            try:
                await self._pool[disk].syncing.run(self._pipeline.members[disk].sync)
            except Exception as error:
                with trio.CancelScope(shield=True):  # cut off half-way, units would be neither moved nor lost
                    is_trouble = self._pipeline.placement.record_failure(disk, error)
                    is_elsewhere = is_trouble and not recorded and await self._evacuate(disk)
                if not is_elsewhere:
                    self._units.lose_disk(disk)
                    self._failed(error)
            else:
                self._units.synced(rows)

    async def _evacuate(self, disk: int) -> bool:
        """Write the unsynced units of a disk to other disks; tell whether all of them are written there.

        Units in flight to the disk go elsewhere, too: their bytes may be in pages that the kernel has forgotten.
        """
        self._pipeline.send_elsewhere(disk)
        if self._units.on_their_way(disk):
            return False
        rows = self._units.unsynced_rows(disk)
        units: list[StripeBuffer] = []
        for row in rows:
            unit = self._units.get(row.unit)
            if unit is None or (unit.away and not await self._fetch(unit, row)):
                return False
            if unit.disk == disk and not self._pipeline.reassign(unit):
                return False
            units.append(unit)
        await self._pipeline.send(units)
        await self._pipeline.drain()
        return not any(self._units.is_written(row) for row in rows)

    async def _fetch(self, unit: StripeBuffer, row: StripeUnit) -> bool:
        """Read back an unsynced unit that is not in memory: the kernel may still have its pages."""
        try:
            data = await self._pool.read_extent(row, self._stripe_unit)
        except VtlfsError as error:
            log.error("session %d: what disk %d has not synced can't be read back: %s", row.session, row.disk, error)
            return False
        if unit.away and len(data) == unit.coverage.end:
            unit.put_back(data)
        return not unit.away
