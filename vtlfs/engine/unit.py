"""A stripe unit in hand: what has come of it, in memory, until it is on its disk. Used in the trio loop."""

from bisect import insort

import trio

from vtlfs.engine.stripe import Coverage
from vtlfs.model import KIB

LARGE_PIECE = 64 * KIB  # from this size on, a piece of a stripe unit is not copied


class Buffers:
    """Spare stripe unit buffers. Using one again saves the kernel the work of finding fresh pages."""

    def __init__(self, size: int, spare: int) -> None:
        self._size = size
        self._spare = spare
        self._free: list[bytearray] = []

    def take(self) -> bytearray:
        """Return a buffer with arbitrary content."""
        return self._free.pop() if self._free else bytearray(self._size)

    def give(self, buffer: bytearray) -> None:
        """Take a buffer back."""
        if len(self._free) < self._spare:
            self._free.append(buffer)


class UnitInHand:
    """A stripe unit that is being collected.

    Large pieces are kept as they came, small ones are copied together: what the kernel gathers arrives in pieces of a
    mebibyte that begin anywhere, and a copy of every byte costs more than the hash.
    """

    __slots__ = (
        *("_buffer", "_pieces", "allocated", "coverage", "disk", "generation"),
        *("is_shared", "number", "owed", "sent", "slot"),
    )

    def __init__(self, number: int, disk: int, slot: int) -> None:
        self.number = number
        self.disk = disk
        self.slot = slot
        self.coverage = Coverage()
        self.allocated = False
        self.sent = 0  # bytes that are on the disk or on their way
        self.generation = 0  # how often it was sent
        self.owed: list[trio.Event] = []  # of those who wait for what was on its way to a place that it has left
        self.is_shared = False  # a thread that hangs may still read its bytes
        self._buffer: bytearray | None = None
        self._pieces: list[tuple[int, memoryview]] = []  # by offset, without overlaps; while there is no buffer

    @property
    def place(self) -> tuple[int, int]:
        """The unit's disk, and the slot there."""
        return self.disk, self.slot

    def move(self, disk: int, slot: int) -> None:
        """Take another place. Nothing of it has been sent there."""
        self.disk, self.slot = disk, slot
        self.allocated = False
        self.sent = self.generation = 0

    def put(self, start: int, data: memoryview, buffers: Buffers) -> None:
        """Take in bytes at `start` of the unit. `data` must never change."""
        if self._buffer is None and len(data) >= LARGE_PIECE and not self.coverage.overlaps(start, start + len(data)):
            insort(self._pieces, (start, data), key=lambda piece: piece[0])
        else:
            self._gather(buffers)[start : start + len(data)] = data
        self.coverage.add(start, start + len(data))

    def pieces(self) -> list[memoryview]:
        """Return what has come without a gap from the beginning. It stays as it is until `recycle`."""
        size = self.coverage.prefix
        if self._buffer is not None:
            return [memoryview(self._buffer)[:size]]
        return [data for start, data in self._pieces if start < size]

    @property
    def is_sent(self) -> bool:
        """Tell whether all that has come without a gap is on its way."""
        return self.sent == self.coverage.prefix

    def peek(self, start: int, size: int) -> bytes:
        """Return bytes that have come, also behind a gap."""
        if self._buffer is not None:
            return bytes(memoryview(self._buffer)[start : start + size])
        found = bytearray(size)
        for at, data in self._pieces:
            low, high = max(at, start), min(at + len(data), start + size)
            if low < high:
                found[low - start : high - start] = data[low - at : high - at]
        return bytes(found)

    def recycle(self, buffers: Buffers) -> None:
        """Let go of the bytes."""
        if self._buffer is not None and not self.is_shared:
            buffers.give(self._buffer)
        self._buffer, self._pieces = None, []

    def _gather(self, buffers: Buffers) -> bytearray:
        """Return the unit's buffer, with all that has come in it."""
        if self._buffer is None:
            self._buffer = buffers.take()
            for start, data in self._pieces:
                self._buffer[start : start + len(data)] = data
            self._pieces = []
        return self._buffer
