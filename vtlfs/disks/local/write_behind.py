"""Write-behind: a limit on the bytes of a disk's large extents that are in the page cache and not yet on the device.

Left to itself, a kernel keeps gigabytes of written bytes in memory for half a minute: a slow disk looks like a quick
one until a sync, and a backup displaces the cached pages of other programs. So the write-out of each extent begins at
once, the writing thread waits when it is a few mebibytes ahead of the device, and pages that are on the device are
dropped.
"""

import ctypes
import os
from collections import deque
from typing import Protocol

from vtlfs.model import MIB

MOST_BEHIND = 4 * MIB  # of a disk, that is on its way to the device when one more extent is written
WAIT_BEFORE, WRITE, WAIT_AFTER = 1, 2, 4  # from fcntl.h

_sync_file_range = getattr(ctypes.CDLL(None), "sync_file_range", None)  # not every C library has it
if _sync_file_range is not None:
    _sync_file_range.argtypes = (ctypes.c_int, ctypes.c_int64, ctypes.c_int64, ctypes.c_uint)


class Extents(Protocol):
    """A member file, as far as this module wants to know it."""

    def drop(self, position: int, size: int) -> None:
        """Wait until an extent is on the device, and drop it from memory."""


class WriteBehind:
    """The large extents of one disk that are on their way to its device. The disk's writing thread uses it."""

    def __init__(self) -> None:
        self._extents: deque[tuple[Extents, int, int]] = deque()
        self._bytes = 0

    def written(self, member: Extents, descriptor: int, position: int, size: int) -> None:
        """Have an extent that was just written be written out. Waits for those before it that are too far behind."""
        os.posix_fadvise(descriptor, position, size, os.POSIX_FADV_DONTNEED)  # begins the write-out of dirty pages
        self._extents.append((member, position, size))
        self._bytes += size
        while self._bytes > MOST_BEHIND and len(self._extents) > 1:
            member, position, size = self._extents.popleft()
            self._bytes -= size
            member.drop(position, size)

    def forget(self, member: Extents) -> None:
        """Leave the extents of a member file to the kernel: the file is being closed."""
        self._extents = deque(entry for entry in self._extents if entry[0] is not member)
        self._bytes = sum(size for _, _, size in self._extents)


def drop(descriptor: int, offset: int, size: int) -> None:
    """Wait until a range of a file is on its device, and drop it from memory.

    Errors are not reported here. `descriptor` must be used for nothing else: the kernel reports a write error once for
    each open file description, and a sync of the member file's own descriptor still has to see it.
    """
    if _sync_file_range is not None:
        _sync_file_range(descriptor, offset, size, WAIT_BEFORE | WRITE | WAIT_AFTER)
    os.posix_fadvise(descriptor, offset, size, os.POSIX_FADV_DONTNEED)
