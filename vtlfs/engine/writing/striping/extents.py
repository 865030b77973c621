"""The bytes of one extent of a stream in memory: collected as they come, sealed, written, and given back.

Used in the trio loop. A disk's thread sees only the pieces of a sealed extent, which don't change.
"""

from bisect import insort

from vtlfs.engine.layout.intervals import IntervalSet
from vtlfs.engine.memory import SMALLEST_BUFFER, Account
from vtlfs.model import KIB

LARGE_PIECE = 64 * KIB  # from this size on, a piece of an extent is not copied


class ExtentBuffer:
    """An extent that is in hand, or sealed and in memory until its stripe needs it no more.

    The extent has the stream's bytes from `offset` on, which may be in the middle of a stripe unit, up to the end of
    the stripe unit at most. Large pieces are kept as they came, and small ones are copied into a buffer: the kernel's
    page cache sends pieces of a mebibyte that begin anywhere, and copying every byte would cost more than the hash. The
    buffer of a stream's first extent, or of an extent after a flush, begins small and is doubled when it is full; other
    buffers have the full size at once.
    """

    __slots__ = (
        *("_account", "_buffer", "_coverage", "_held", "_pieces", "_stripe_unit"),
        *("is_shared", "most", "offset", "size"),
    )

    def __init__(self, offset: int, stripe_unit: int, account: Account) -> None:
        """`account` is the stream's."""
        self.offset = offset
        self.most = stripe_unit - offset % stripe_unit
        self.size: int | None = None  # in bytes; None: it is not sealed
        self.is_shared = False  # a thread may still read the bytes
        self._coverage = IntervalSet()
        self._stripe_unit = stripe_unit
        self._account = account
        self._held = 0  # bytes that are on the account
        self._buffer: bytearray | None = None
        self._pieces: list[tuple[int, memoryview]] = []  # by offset, without overlaps; while there is no buffer

    def put(self, start: int, data: memoryview) -> None:
        """Take in bytes at `start` of the extent, which is not sealed. `data` must never change."""
        end = start + len(data)
        if self._takes_whole(start, end):
            insort(self._pieces, (start, data), key=lambda piece: piece[0])
            self._hold(memoryview(data.obj).nbytes)
        else:
            self._gather(end)[start:end] = data
        self._coverage.add(start, end)

    def needs(self, start: int, size: int) -> int:
        """Return how much more memory the extent needs for `size` bytes at `start`."""
        if self._takes_whole(start, start + size):
            return size
        have = 0 if self._buffer is None else len(self._buffer)
        return max(0, self._capacity(max(start + size, self._coverage.end)) - have)

    def seal(self) -> "ExtentBuffer | None":
        """End the extent at its first gap. Return a new extent with the bytes after the gap; None without a gap."""
        self.size = self._coverage.prefix
        if not self.has_gap:
            return None
        rest = ExtentBuffer(self.offset + self.size, self._stripe_unit, self._account)
        for start, end in self._coverage.intervals():
            if start > self.size:
                rest.put(start - self.size, memoryview(self.peek(start, end - start)))
        return rest

    def pieces(self) -> list[memoryview]:
        """Return the bytes of the sealed extent, which don't change until `recycle`."""
        assert self.size is not None
        if self._buffer is not None:
            return [memoryview(self._buffer)[: self.size]]
        return [data for start, data in self._pieces if start < self.size]

    @property
    def is_empty(self) -> bool:
        """Tell whether there is no byte to seal: none has come, or the first one is missing."""
        return not self._coverage.prefix

    @property
    def is_full(self) -> bool:
        """Tell whether all bytes up to the end of the stripe unit have come."""
        return self._coverage.prefix == self.most

    @property
    def has_gap(self) -> bool:
        """Tell whether a byte is missing before others that have come."""
        return self._coverage.end > self._coverage.prefix

    @property
    def is_here(self) -> bool:
        """Tell whether the bytes are in memory."""
        return self._buffer is not None or bool(self._pieces)

    def peek(self, start: int, size: int) -> bytes:
        """Return bytes that have come, also bytes after a gap."""
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
        """Give the memory back. A buffer that a thread may still read is not used for other bytes."""
        buffer, self._buffer, self._pieces = self._buffer, None, []
        self._account.give(self._held)
        self._held = 0
        if buffer is not None and not self.is_shared:
            self._account.budget.buffers.give(buffer)

    def shrink(self) -> bool:
        """Move an extent in hand to a smaller buffer, if it is small; tell whether that freed memory."""
        end = self._coverage.end
        if end > self._account.budget.sizes.small_extent or self._held <= self._size_for(end):
            return False
        data = self.peek(0, end)
        self.recycle()
        self._buffer = bytearray(self._size_for(end))
        self._buffer[:end] = data
        self._hold(len(self._buffer))
        return True

    def _takes_whole(self, start: int, end: int) -> bool:
        return self._buffer is None and end - start >= LARGE_PIECE and not self._coverage.overlaps(start, end)

    def _gather(self, end: int) -> bytearray:
        """Return a buffer for bytes up to `end`, into which all bytes that have come are copied."""
        old = self._buffer
        if old is None or len(old) < end:
            size = self._capacity(max(end, self._coverage.end))
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
        begins_small = self.offset == 0 or self.offset % self._stripe_unit
        return self._size_for(end) if begins_small else self._account.budget.buffers.size

    def _size_for(self, end: int) -> int:
        size = SMALLEST_BUFFER
        while size < end:
            size *= 2
        return min(size, self._account.budget.buffers.size)

    def _hold(self, more: int) -> None:
        self._held += more
        self._account.take(more)
