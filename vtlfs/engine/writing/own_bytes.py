"""Reading the bytes of one stream that is still written, from memory or from the disks.

A write session uses it to compare bytes that come twice, and for read-write handles. Used in the trio loop.
"""

from vtlfs.engine.reading import stored
from vtlfs.engine.writing.context import WriteContext
from vtlfs.engine.writing.striping.pipeline import WritePipeline
from vtlfs.engine.writing.striping.stripes import Stripes
from vtlfs.engine.writing.verdict import Verdict


class OwnBytes:
    """See the module. One write session has one."""

    __slots__ = ("_context", "_pipeline", "_session", "_stripe_unit", "_stripes", "_verdict")

    def __init__(
        self,
        session: int,
        stripe_unit: int,
        stripes: Stripes,
        pipeline: WritePipeline,
        context: WriteContext,
        verdict: Verdict,
    ) -> None:
        self._session = session
        self._stripe_unit = stripe_unit
        self._stripes = stripes
        self._pipeline = pipeline
        self._context = context
        self._verdict = verdict

    async def read(self, offset: int, size: int) -> bytes:
        """Return bytes of the stream. All of them must have come."""
        parts: list[bytes] = []
        end = offset + size
        while offset < end:
            part = self._peek(offset, end - offset) or await self._read_back(offset, end - offset)
            parts.append(part)
            offset += len(part)
        return b"".join(parts)

    def _peek(self, offset: int, size: int) -> bytes | None:
        """Return the first of the bytes asked for, as many as one buffer in memory has; None if it is in no buffer."""
        if offset >= self._stripes.sealed:
            extent = self._stripes.in_hand(offset // self._stripe_unit)
            size = min(size, self._stripe_unit - offset % self._stripe_unit)
            return bytes(size) if extent is None else extent.peek(offset - extent.offset, size)
        fragment = self._stripes.find(offset)
        if fragment is None or fragment.buffer is None or not fragment.buffer.is_here:
            return None
        start = offset - fragment.buffer.offset
        return fragment.buffer.peek(start, min(size, (fragment.buffer.size or 0) - start))

    async def _read_back(self, offset: int, size: int) -> bytes:
        """Read the first of the bytes asked for, as many as their extent on a disk has. Raises the first error."""
        await self._pipeline.drain()
        self._verdict.raise_error()
        fragment = self._stripes.find(offset)
        row = None if fragment is None else fragment.row
        if row is None:
            # A recorded extent keeps its place in the stream, so the row can't become wrong during the wait.
            [row] = await self._context.catalogue.read(lambda tracking: tracking.extents.of(self._session, offset, 1))
        start = offset - (row.offset or 0)
        return (await stored.read(self._context.pool, row))[start : start + size]
