"""How many streams a mount takes at a time: as many as there are descriptors for until all of them have ended.

An open stream needs up to two descriptors on each disk, at a moment that cannot be foreseen. A stream that finds no
descriptor left loses its data, so an open() beyond the number of streams with descriptors is refused. Reading needs no
admission: the descriptors of the reading threads are reserved. Used in the trio loop; an open() costs one system call.
"""

import logging
import os
import resource

from vtlfs.disks.pool import READ_THREADS, SYNC_THREADS, DiskPool
from vtlfs.errors import TooManyStreams

A_STREAM_A_DISK = 2  # its member file, and a second descriptor of that, see `LocalMember.drop`
# Descriptors for one disk at the same moment: each reading thread has a directory and a file, each syncing thread a
# directory; making a member file and trying the disk out; a copy of the tracking database, and descriptors that SQLite
# keeps from older copies.
A_DISK = 2 * READ_THREADS + SYNC_THREADS + 2 + 2 + 8
# The FUSE device, the log, identifying openers, figures, scrapes, unmounting, recovery, and SQLite's temporary files.
OTHERS = 32
FEW = 1000  # streams; a mount that can admit fewer logs so when it begins

log = logging.getLogger(__name__)


class Admission:
    """Counts the streams of a mount. To be made after the library is open: it counts the open descriptors."""

    def __init__(self, pool: DiskPool) -> None:
        self.streams = 0
        self._pool = pool
        self._others = _open_now() + OTHERS
        limit, most = self._most()
        if most < FEW:
            log.info("at most %d streams are written at the same time: this process has %d descriptors", most, limit)

    def admit(self) -> None:
        """Count one stream more. Raises TooManyStreams; one stream is always possible."""
        limit, most = self._most()
        if self.streams >= most:
            error = TooManyStreams(self.streams, limit)
            log.warning("refusing to open: %s", error)
            raise error
        self.streams += 1

    def leave(self) -> None:
        """Count one stream less."""
        self.streams -= 1

    def _most(self) -> tuple[int, int]:
        """Return the limit of descriptors, and the most streams that may be open under this limit."""
        limit, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
        reserve = self._others + A_DISK * len(self._pool)
        # A disk that hangs has yet to close the member files of streams that have ended.
        held = sum(disk.writing.pending for disk in self._pool.disks if disk.stalled) * A_STREAM_A_DISK
        return limit, max(1, (limit - reserve - held) // (A_STREAM_A_DISK * len(self._pool)))


def _open_now() -> int:
    try:
        return len(os.listdir("/proc/self/fd"))
    except FileNotFoundError:  # no /proc
        return OTHERS
