"""Writing behind: what of a disk's full slots is on its way from the page cache to the device, and no more than that.

Left to itself, a kernel keeps what is written in memory for half a minute, gigabytes of it: a slow disk looks like a
quick one until a sync, and a backup pushes out of memory what other programs have there. So writing out begins with
each slot, a thread that has written a few mebibytes more than its device waits for it, and what is on the device is
dropped from memory.
"""

import ctypes
import os
from collections import deque
from typing import Protocol

from vtlfs.model import MIB

MOST_BEHIND = 4 * MIB  # of a disk, that is on its way to the device when one more slot is written
WAIT_BEFORE, WRITE, WAIT_AFTER = 1, 2, 4  # from fcntl.h

_sync_file_range = getattr(ctypes.CDLL(None), "sync_file_range", None)  # not every C library has it
if _sync_file_range is not None:
    _sync_file_range.argtypes = (ctypes.c_int, ctypes.c_int64, ctypes.c_int64, ctypes.c_uint)


class Slots(Protocol):
    """A member file, as far as this module wants to know it."""

    def drop(self, slot: int) -> None:
        """Wait until a slot is on the device, and drop it from memory."""


class WriteBehind:
    """The full slots of one disk that are on their way to its device. The disk's writing thread uses it."""

    def __init__(self) -> None:
        self._slots: deque[tuple[Slots, int, int]] = deque()
        self._bytes = 0

    def written(self, member: Slots, slot: int, descriptor: int, offset: int, size: int) -> None:
        """Have a slot that was just written be written out. Waits for those before it that are too far behind."""
        os.posix_fadvise(descriptor, offset, size, os.POSIX_FADV_DONTNEED)  # which begins that, for what is dirty
        self._slots.append((member, slot, size))
        self._bytes += size
        while self._bytes > MOST_BEHIND and len(self._slots) > 1:
            member, slot, size = self._slots.popleft()
            self._bytes -= size
            member.drop(slot)

    def forget(self, member: Slots) -> None:
        """Leave what a member file has on its way to the kernel: the file is being closed."""
        self._slots = deque(entry for entry in self._slots if entry[0] is not member)
        self._bytes = sum(size for _, _, size in self._slots)


def drop(descriptor: int, offset: int, size: int) -> None:
    """Wait until a range of a file is on its device, and drop it from memory.

    What fails on the way is not told: `descriptor` is one of its own, so that the next sync by another one tells it.
    """
    if _sync_file_range is not None:
        _sync_file_range(descriptor, offset, size, WAIT_BEFORE | WRITE | WAIT_AFTER)
    os.posix_fadvise(descriptor, offset, size, os.POSIX_FADV_DONTNEED)
