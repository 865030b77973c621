"""Writing whole stripe units past the page cache, with O_DIRECT.

What a backup writes is not read again soon. In the page cache it would cost a further copy and fresh memory for every
byte, and push out what other programs have there. The memory that O_DIRECT wants is aligned to pages, so what comes is
copied once, into a buffer that is used again and again.
"""

import errno
import mmap
import os
from collections.abc import Iterable

from vtlfs.model import KIB, MIB

SMALLEST = 256 * KIB  # of smaller stripe units, the page cache makes larger writes
PAGE = 4096
_AT_ONCE = MIB + PAGE


class DirectWriter:
    """Writes for one thread. Where a file system does not have O_DIRECT, `descriptor` says so, once and for good."""

    def __init__(self) -> None:
        self._works = True
        self._memory: mmap.mmap | None = None

    def descriptor(self, file: int) -> int | None:
        """Return a further descriptor of the open file, for `write`; None where that can't be had. Raises OSError."""
        if not self._works:
            return None
        try:
            return os.open(f"/proc/self/fd/{file}", os.O_WRONLY | os.O_DIRECT | os.O_CLOEXEC)
        except OSError as error:
            if error.errno not in (errno.EINVAL, errno.EOPNOTSUPP, errno.ENOENT):
                raise
            self._works = False
            return None

    def write(self, descriptor: int, pieces: Iterable[bytes | memoryview], offset: int) -> None:
        """Write the pieces one after the other at the offset; both it and their size are multiples of PAGE.

        Raises OSError.
        """
        if self._memory is None:
            self._memory = mmap.mmap(-1, _AT_ONCE)
        memory, filled = self._memory, 0
        for piece in map(memoryview, pieces):
            done = 0
            while done < len(piece):
                size = min(len(piece) - done, _AT_ONCE - filled)
                memory[filled : filled + size] = piece[done : done + size]
                done, filled = done + size, filled + size
                if filled == _AT_ONCE:
                    offset, filled = offset + _write_all(descriptor, memory, filled, offset), 0
        if filled:
            _write_all(descriptor, memory, filled, offset)


def _write_all(descriptor: int, memory: mmap.mmap, size: int, offset: int) -> int:
    with memoryview(memory) as view:
        done = 0
        while done < size:
            done += os.pwrite(descriptor, view[done:size], offset + done)
    return size
