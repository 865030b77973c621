"""The bytes of one stream that is still written, wherever they are: in memory, or on the disks.

Used in the trio loop. `read_back` is also how a stripe unit that was put away comes back into memory.
"""

from vtlfs.engine.stripe import cut
from vtlfs.engine.writing.context import WriteContext
from vtlfs.engine.writing.pipeline import WritePipeline
from vtlfs.engine.writing.units import StripeUnits
from vtlfs.engine.writing.verdict import Verdict


class OwnBytes:
    """See the module. One write session has one."""

    __slots__ = ("_context", "_pipeline", "_session", "_stripe_unit", "_units", "_verdict")

    def __init__(
        self,
        session: int,
        stripe_unit: int,
        units: StripeUnits,
        pipeline: WritePipeline,
        context: WriteContext,
        verdict: Verdict,
    ) -> None:
        self._session = session
        self._stripe_unit = stripe_unit
        self._units = units
        self._pipeline = pipeline
        self._context = context
        self._verdict = verdict

    async def read(self, offset: int, size: int) -> bytes:
        """Return bytes of the stream, all of which have come."""
        parts: list[bytes] = []
        for piece in cut(offset, size, self._stripe_unit):
            unit = self._units.in_hand(piece.unit)
            if unit is not None and not unit.away:
                parts.append(unit.peek(piece.start, piece.size))
            else:
                whole = await self.read_back(piece.unit)
                parts.append(whole[piece.start : piece.start + piece.size])
        return b"".join(parts)

    async def read_back(self, number: int) -> bytes:
        """Read the bytes of a unit that is full or put away from its disk. Raises the stream's first error."""
        await self._pipeline.drain()
        self._verdict.raise_error()
        row = self._units.row(number, durable=False)
        if row is None:
            # A recorded unit keeps its slot, so the row can't become stale.
            [row] = await self._context.catalogue.read(
                lambda tracking: tracking.stripe_units.of(self._session, number, 1)
            )
        return await self._context.pool.read_extent(row, self._stripe_unit)
