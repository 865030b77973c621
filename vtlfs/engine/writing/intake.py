"""The waits of a write before its bytes are taken: for room on the medium, memory, and room on disks with low space.

Used in the trio loop. One write session has one `Intake`.
"""

from vtlfs.engine.layout.intervals import cut
from vtlfs.engine.writing.context import WriteContext
from vtlfs.engine.writing.lazy_lock import LazyLock
from vtlfs.engine.writing.reservation import Reservation
from vtlfs.engine.writing.striping.pipeline import WritePipeline
from vtlfs.engine.writing.striping.stripes import Stripes


class Intake:
    """See the module."""

    __slots__ = ("_allocating", "_context", "_pipeline", "_reservation", "_stripe_unit", "_stripes")

    def __init__(
        self,
        context: WriteContext,
        stripe_unit: int,
        stripes: Stripes,
        pipeline: WritePipeline,
        reservation: Reservation | None,
    ) -> None:
        """`reservation`: that of the stream on a medium with a capacity; None without a capacity."""
        self._context = context
        self._stripe_unit = stripe_unit
        self._stripes = stripes
        self._pipeline = pipeline
        self._reservation = reservation
        self._allocating = LazyLock()

    def begin_volume(self) -> None:
        """Note that the stream goes on in another volume of the medium."""
        if self._reservation is not None:
            self._reservation.begin_volume()

    async def reserve(self, end: int) -> None:
        """Reserve the medium's room for the stream up to `end`. Raises MediumFull."""
        if self._reservation is not None:
            await self._reservation.reserve(end)

    async def prepare(self, offset: int, size: int) -> None:
        """Wait until `size` bytes at the offset can be taken. Raises MediumFull, or DiskError with ENOSPC."""
        await self.reserve(offset + size)
        memory = self._context.memory
        # A write that may close a gap never waits: the bytes behind the gap can't leave memory before it.
        if memory.is_short and not any(extent.has_gap for extent in self._stripes.all_in_hand):
            await memory.room(self._needs(offset, size))
        if any(one.usable and one.disk.free < self._context.low_space for one in self._context.pool.disks):
            async with self._allocating:
                await self._pipeline.allocate(self._stripes.count_with(offset, size))

    def _needs(self, offset: int, size: int) -> int:
        """Return how much more memory a write takes."""
        needs = 0
        for piece in cut(offset, size, self._stripe_unit):
            extent = self._stripes.in_hand(piece.unit)
            start = piece.unit * self._stripe_unit + piece.start - (extent.offset if extent else 0)
            needs += piece.size if extent is None or start < 0 else extent.needs(start, piece.size)
        return needs
