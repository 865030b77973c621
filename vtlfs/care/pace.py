"""Giving way to streams: how long the care of a library waits, while its mounts are busy and while somebody else wants
to verify. Used in the child process, in its only thread.
"""

import threading
from contextlib import closing
from time import monotonic

from vtlfs.engine import live
from vtlfs.engine.library import Library

LOOK_SECONDS = 1.0  # between two looks at what the mounts do
BUSY_SECONDS = 5.0  # after its last read or write, for which a mount counts as busy
SHARE = 10  # of its speed, that is left meanwhile
SLOW = 10_000_000  # bytes a second, where it has no limit
STEP_SECONDS = 0.5  # of one sleep


class GivenWay(Exception):
    """Somebody else wants to do the work."""


class Pace:
    """See the module. Mounts publish what their disks have read and written."""

    def __init__(
        self, library: Library, limit: int | None, *, reads: bool = True, stop: threading.Event | None = None
    ) -> None:
        """`limit`: bytes a second; None: no limit. `reads`: a mount that only reads is busy, too. `stop`: to stop."""
        self._stop = stop or threading.Event()
        self._library = library
        self._limit = limit
        self._reads = reads
        self._slow = SLOW if limit is None else max(1, limit // SHARE)
        self._seen = -1
        self._looked = self._busy_until = 0.0
        self._free_at = monotonic()

    @property
    def is_busy(self) -> bool:
        """Whether a mount of the library reads or writes."""
        now = monotonic()
        if now - self._looked >= LOOK_SECONDS:
            self._looked = now
            total = self._total()
            if self._seen not in (-1, total):
                self._busy_until = now + BUSY_SECONDS
            self._seen = total
        return now < self._busy_until

    def take(self, size: int) -> None:
        """Wait for as long as reading so many bytes is to take. Raises GivenWay."""
        rate = self._slow if self.is_busy else self._limit
        if rate is None:
            if self._stop.is_set():
                raise GivenWay
            return
        self._free_at = max(self._free_at, monotonic() - STEP_SECONDS) + size / rate
        while (left := self._free_at - monotonic()) > 0:
            if self._stop.wait(min(left, STEP_SECONDS)):
                raise GivenWay
            if not self.is_busy and rate == self._slow:  # the streams have ended: the rest of the wait is not needed
                self._free_at = monotonic()

    def _total(self) -> int:
        """Return the bytes that the mounts have written, and read, since they began."""
        with closing(self._library.tracking(read_only=True)) as tracking:
            mounts = [mount.id for mount in tracking.mounts.live()]
        found = [live.read(self._library.path, mount) for mount in mounts]
        pairs = [pair for figures in found if figures is not None for pair in figures.disks.values()]
        return sum(written + (read if self._reads else 0) for written, read in pairs)
