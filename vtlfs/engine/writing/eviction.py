"""What frees the memory of one stream that is idle: its stripe units are put away, to be read back when they grow.

`MemoryBudget` asks while memory is short. Used in the trio loop.
"""

from vtlfs.disks.pool import DiskPool
from vtlfs.engine.writing.buffer import StripeBuffer
from vtlfs.engine.writing.durability import Durability
from vtlfs.engine.writing.lazy_lock import LazyLock
from vtlfs.engine.writing.pipeline import WritePipeline
from vtlfs.engine.writing.units import StripeUnits


class Eviction:
    """See the module. One write session has one; it is what the session's account knows as its stream."""

    __slots__ = ("_durability", "_flushing", "_pipeline", "_pool", "_units", "pinned")

    def __init__(
        self, pool: DiskPool, units: StripeUnits, pipeline: WritePipeline, durability: Durability, flushing: LazyLock
    ) -> None:
        """`flushing` is the session's lock: neither a flush nor the release runs while units are put away."""
        self._pool = pool
        self._units = units
        self._pipeline = pipeline
        self._durability = durability
        self._flushing = flushing
        self.pinned = 0  # writes that need their stripe units in memory now, and the release

    def can_give(self, *, may_open: bool = True) -> bool:
        """Tell whether `give_back` may free memory now: not while a write, a flush or the release is at work."""
        if self.pinned or self._flushing.locked():
            return False
        return self._units.has_kept or any(
            not self._pool[unit.disk].stalled and (may_open or unit.disk in self._pipeline.members)
            for unit in self._unfinished()
        )

    async def give_back(self) -> None:
        """Free memory: shrink the buffers of small units; else put unfinished units away; else sync disks.

        An unfinished unit goes to its disk as with a flush. Where full units are kept until a sync, the disk is synced
        before the unit is put away: else a dying disk would lose bytes that memory could still have given to another
        disk. Nothing is recorded. A unit that grows meanwhile stays in memory. An error is the stream's, as with a
        flush.
        """
        async with self._flushing:
            units = self._unfinished()
            if sum(unit.shrink() for unit in units if self._units.is_idle(unit)):
                return
            if units:
                await self._write_unfinished(units)
            else:
                await self._durability.writeback(0)
            for unit in units:
                is_there = unit.is_sent and self._units.is_idle(unit) and self._units.is_safe(unit)
                if is_there and not self.pinned and not unit.away:
                    unit.put_away()

    async def _write_unfinished(self, units: list[StripeBuffer]) -> None:
        """Write unfinished units to their disks, synced where full units are kept until a sync."""
        await self._pipeline.send([unit for unit in units if not unit.is_sent])
        await self._pipeline.drain()
        if self._units.keeps:
            await self._durability.sync()

    def _unfinished(self) -> list[StripeBuffer]:
        """Return the unfinished units with bytes in memory; not those with a gap, which can't be sent whole."""
        return [unit for unit in self._units.all_in_hand() if not unit.away and unit.coverage.end and not unit.has_gap]
