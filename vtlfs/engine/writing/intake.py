"""What a write needs before a byte of it is taken: room on the medium, memory, and its stripe units in memory.

Used in the trio loop. One write session has one `Intake`.
"""

from vtlfs.engine.stripe import Piece
from vtlfs.engine.writing.buffer import StripeBuffer
from vtlfs.engine.writing.context import WriteContext
from vtlfs.engine.writing.lazy_lock import LazyLock
from vtlfs.engine.writing.own_bytes import OwnBytes
from vtlfs.engine.writing.pipeline import WritePipeline
from vtlfs.engine.writing.recording import Recording
from vtlfs.engine.writing.reservation import Reservation
from vtlfs.engine.writing.units import StripeUnits


class Intake:
    """See the module."""

    __slots__ = ("_allocating", "_context", "_own", "_pipeline", "_recording", "_reservation", "_units")

    def __init__(
        self,
        context: WriteContext,
        units: StripeUnits,
        pipeline: WritePipeline,
        own: OwnBytes,
        recording: Recording,
        reservation: Reservation | None,
    ) -> None:
        """`reservation`: of a medium with a capacity."""
        self._context = context
        self._units = units
        self._pipeline = pipeline
        self._own = own
        self._recording = recording
        self._reservation = reservation
        self._allocating = LazyLock()

    async def make_room(self, end: int, pieces: list[Piece]) -> None:
        """Reserve room on the medium up to `end`, and wait for memory for the pieces. Raises MediumFull."""
        if self._reservation is not None:
            await self._reservation.reserve(end)
        memory = self._context.memory
        if memory.is_short:
            units = [(piece, self._units.in_hand(piece.unit)) for piece in pieces]
            # A write that may close a gap never waits: the bytes behind the gap can't leave memory before it.
            if not any(unit and unit.has_gap for _, unit in units):
                await memory.room(
                    sum(unit.needs(piece.start, piece.size) if unit else piece.size for piece, unit in units)
                )

    async def prepare(self, pieces: list[Piece]) -> None:
        """Bring the stripe units into memory, and allocate slots on disks short of room."""
        tight: list[StripeBuffer] = []
        for piece in pieces:
            unit = self._units.in_hand(piece.unit)
            if unit is None and piece.unit >= self._recording.next and self._units.get(piece.unit) is None:
                unit = self._pipeline.deal(piece.unit)
            if unit is not None and not unit.allocated and self._is_tight(unit.disk):
                tight.append(unit)
            if unit is not None and unit.away:
                data = await self._own.read_back(unit.number)
                if unit.away:  # another write may have put it back meanwhile
                    unit.put_back(data)
        if tight:
            async with self._allocating:
                for unit in tight:
                    await self._pipeline.allocate(unit)

    def _is_tight(self, disk: int) -> bool:
        return self._context.pool[disk].disk.free < self._context.low_space
