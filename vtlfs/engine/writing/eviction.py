"""Putting one idle stream away: all its bytes go to the disks, as in a flush, so that their memory becomes free.

`MemoryBudget` calls it while memory is short. Used in the trio loop.
"""

from vtlfs.disks.pool import DiskPool
from vtlfs.engine.writing.lazy_lock import LazyLock
from vtlfs.engine.writing.striping.durability import Durability
from vtlfs.engine.writing.striping.pipeline import WritePipeline
from vtlfs.engine.writing.striping.stripes import Stripes


class Eviction:
    """See the module. One write session has one, which the memory budget knows by the session's account."""

    __slots__ = ("_durability", "_flushing", "_pipeline", "_pool", "_stripes")

    def __init__(
        self, pool: DiskPool, stripes: Stripes, pipeline: WritePipeline, durability: Durability, flushing: LazyLock
    ) -> None:
        """`flushing`: the session's lock, which keeps a flush and the release from running while memory is freed."""
        self._pool = pool
        self._stripes = stripes
        self._pipeline = pipeline
        self._durability = durability
        self._flushing = flushing

    def can_give(self, *, may_open: bool = True) -> bool:
        """Tell whether `give_back` can free memory now; it can't while a flush or the release runs.

        `may_open`: it may also make member files on disks where the stream has none, which takes descriptors.
        """
        in_hand = self._stripes.all_in_hand
        if self._flushing.locked() or any(extent.has_gap for extent in in_hand):
            return False
        may_send = may_open or all(one.number in self._pipeline.members for one in self._pool.staying)
        has_more = bool(in_hand) or self._stripes.open is not None  # whose bytes are kept for its parity
        return self._stripes.has_kept or (has_more and may_send and not self._pool.stalled)

    async def give_back(self) -> None:
        """Free memory: shrink the buffers of small extents; if there are none, send all extents to the disks and sync.

        Nothing is recorded. Bytes that come meanwhile stay in memory. An error fails the stream, as in a flush.
        """
        async with self._flushing:
            if sum(extent.shrink() for extent in self._stripes.all_in_hand):
                return
            await self._pipeline.send(flush=True)
            await self._pipeline.drain()
            if self._stripes.keeps:
                await self._durability.sync()
