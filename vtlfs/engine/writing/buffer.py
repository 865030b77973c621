"""A stripe buffer: the bytes of one stripe unit of a stream, in memory, until they are on the unit's disk.

Used in the trio loop. The state, and the rows `written` and `durable`, are changed by `StripeUnits` only.
"""

from bisect import insort
from enum import Enum, auto

import trio

from vtlfs.engine.memory import SMALLEST_BUFFER, Account
from vtlfs.engine.stripe import IntervalSet
from vtlfs.model import KIB, StripeUnit

LARGE_PIECE = 64 * KIB  # from this size on, a piece of a stripe unit is not copied


class UnitState(Enum):
    """How far the bytes of a stripe unit have come; the table of transitions is in `StripeUnits`."""

    FILLING = auto()
    QUEUED = auto()
    WRITING = auto()
    WRITTEN = auto()
    DURABLE = auto()
    RECORDED = auto()
    LOST = auto()


class StripeBuffer:
    """A stripe unit that is being collected.

    Large pieces are kept as they came, small ones are copied together: what the kernel gathers arrives in pieces of a
    mebibyte that begin anywhere, and a copy of every byte costs more than the hash. The buffer of a stream's first unit
    begins small and is doubled; those of the following ones are whole from the beginning.

    A unit that is `away` has no bytes in memory: all its bytes are on its disk. They are read back before the unit
    grows, for the BLAKE3 in a record is that of the whole unit.
    """

    __slots__ = (
        *("_account", "_buffer", "_held", "_pieces", "allocated", "away", "coverage", "disk", "durable", "generation"),
        *("is_kept", "is_shared", "number", "owed", "sent", "slot", "state", "written"),
    )

    def __init__(self, number: int, disk: int, slot: int, account: Account) -> None:
        """`account` is the stream's."""
        self.number = number
        self.disk = disk
        self.slot = slot
        self.state = UnitState.FILLING
        self.written: StripeUnit | None = None  # the row of the newest bytes on a disk, not synced and not recorded yet
        self.durable: StripeUnit | None = None  # the row of the newest bytes that were synced, not recorded yet
        self.is_kept = False  # full, written, and in memory until its disk is synced
        self.coverage = IntervalSet()
        self.allocated = False
        self.away = False
        self.sent = 0  # bytes that are on the disk or on their way
        self.generation = 0  # how often the unit was sent to its present place
        self.owed: list[trio.Event] = []  # events of sendings to a place that the unit has left
        self.is_shared = False  # a thread that hangs may still read its bytes
        self._account = account
        self._held = 0  # bytes that are on the account
        self._buffer: bytearray | None = None
        self._pieces: list[tuple[int, memoryview]] = []  # by offset, without overlaps; while there is no buffer

    @property
    def place(self) -> tuple[int, int]:
        """The unit's disk, and the slot there."""
        return self.disk, self.slot

    def move(self, disk: int, slot: int) -> None:
        """Take another place, to which no bytes of the unit have been sent."""
        self.disk, self.slot = disk, slot
        self.allocated = False
        self.sent = self.generation = 0

    def put(self, start: int, data: memoryview) -> None:
        """Take in bytes at `start` of the unit, which is not away. `data` must never change."""
        end = start + len(data)
        if self._takes_whole(start, end):
            insort(self._pieces, (start, data), key=lambda piece: piece[0])
            self._hold(memoryview(data.obj).nbytes)
        else:
            self._gather(end)[start:end] = data
        self.coverage.add(start, end)

    def needs(self, start: int, size: int) -> int:
        """Return how much more memory the unit needs to take `size` bytes at `start`."""
        if self._takes_whole(start, start + size) and not self.away:
            return size
        have = 0 if self._buffer is None else len(self._buffer)
        return max(0, self._capacity(max(start + size, self.coverage.end)) - have)

    def pieces(self) -> list[memoryview]:
        """Return the bytes up to the first gap. They don't change until `recycle`."""
        size = self.coverage.prefix
        if self._buffer is not None:
            return [memoryview(self._buffer)[:size]]
        return [data for start, data in self._pieces if start < size]

    @property
    def is_sent(self) -> bool:
        """Tell whether all bytes up to the first gap are on the disk or on their way."""
        return self.sent == self.coverage.prefix

    @property
    def has_gap(self) -> bool:
        """Tell whether bytes are missing before some that have come."""
        return self.coverage.end > self.coverage.prefix

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

    # --- memory -----------------------------------------------------------------------------------------------------

    def recycle(self) -> None:
        """Let go of the bytes."""
        buffer, self._buffer, self._pieces = self._buffer, None, []
        self._account.give(self._held)
        self._held = 0
        if buffer is not None and not self.is_shared:
            self._account.budget.buffers.give(buffer)

    def put_away(self) -> None:
        """Let go of the bytes, all of which are on the unit's disk."""
        self.recycle()
        self.is_shared = False
        self.away = True

    def put_back(self, data: bytes) -> None:
        """Take in again the bytes that were put away."""
        assert self.away
        assert len(data) == self.coverage.end
        self.away = False
        self._gather(len(data))[: len(data)] = data

    def shrink(self) -> bool:
        """Move a small unit to a smaller buffer; tell whether that freed memory. No bytes may be on their way."""
        end = self.coverage.end
        if end > self._account.budget.sizes.small_unit or self._held <= self._size_for(end):
            return False
        data = self.peek(0, end)
        self.recycle()
        self.is_shared = False
        self._buffer = bytearray(self._size_for(end))
        self._buffer[:end] = data
        self._hold(len(self._buffer))
        return True

    def _takes_whole(self, start: int, end: int) -> bool:
        return self._buffer is None and end - start >= LARGE_PIECE and not self.coverage.overlaps(start, end)

    def _gather(self, end: int) -> bytearray:
        """Return a buffer for bytes up to `end`, with all that has come in it."""
        old = self._buffer
        if old is None or len(old) < end:
            size = self._capacity(max(end, self.coverage.end))
            buffer = self._buffer = self._account.budget.buffers.take(size)
            if old is not None:
                buffer[: len(old)] = old
            for start, data in self._pieces:
                buffer[start : start + len(data)] = data
            self._pieces = []
            self._hold(size - self._held)
        assert self._buffer is not None
        return self._buffer

    def _capacity(self, end: int) -> int:
        """Return the size of the buffer for bytes up to `end`."""
        return self._size_for(end) if self.number == 0 else self._account.budget.buffers.size

    def _size_for(self, end: int) -> int:
        size = SMALLEST_BUFFER
        while size < end:
            size *= 2
        return min(size, self._account.budget.buffers.size)

    def _hold(self, more: int) -> None:
        self._held += more
        self._account.take(more)
