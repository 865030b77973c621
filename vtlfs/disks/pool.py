"""The disks of a running mount: each with its lanes and its bounded queue of stripe units on their way to it."""

import logging
from collections import Counter

import trio

from vtlfs.disks.base import Disk
from vtlfs.disks.lane import Lane
from vtlfs.errors import DiskError
from vtlfs.model import MIB

QUEUED_BYTES = 32 * MIB  # of stripe units on their way to all disks together
MIN_QUEUED_UNITS = 2  # a disk, so that one is written while the next is fetched
SYNC_THREADS = 4  # syncs that wait at the same time share one commit of the file system's journal
READ_THREADS = 2
STALLED_SECONDS = 2.0

log = logging.getLogger(__name__)


class PooledDisk:
    """One disk and the threads that work for it. A disk that hangs blocks these threads and no others."""

    def __init__(self, disk: Disk, queued_units: int) -> None:
        name = f"disk{disk.number}"
        self.disk = disk
        self.number = disk.number
        self.writing = Lane(f"{name}.write")
        self.syncing = Lane(f"{name}.sync", SYNC_THREADS)
        self.reading = Lane(f"{name}.read", READ_THREADS)
        self._probing = Lane(f"{name}.probe")
        self.queue = trio.Semaphore(queued_units)
        self.written = self.read = 0  # bytes of stripe units, since the mount began; the trio loop's

    @property
    def stalled(self) -> bool:
        """Tell whether the disk has been given work and has done none of it for a while."""
        return max(self.writing.stalled, self.syncing.stalled, self._probing.stalled) > STALLED_SECONDS

    def probe(self) -> None:
        """Have the disk's free space looked at, unless it has not answered the last time yet."""
        if self._probing.stalled == 0:
            self._probing.submit(lambda outcome: None, self._measure)

    def _measure(self) -> None:
        try:
            self.disk.measure()
        except DiskError as error:
            log.warning("%s", error)

    def close(self) -> None:
        """Let the threads end."""
        for lane in (self.writing, self.syncing, self.reading, self._probing):
            lane.close()


class DiskPool:
    """The disks of a library by number. To be made in the trio loop."""

    def __init__(self, disks: list[Disk], stripe_unit: int) -> None:
        units = max(MIN_QUEUED_UNITS, QUEUED_BYTES // stripe_unit // len(disks))
        self.disks = [PooledDisk(disk, units) for disk in disks]

    def __len__(self) -> int:
        return len(self.disks)

    def __getitem__(self, number: int) -> PooledDisk:
        return self.disks[number]

    @property
    def total(self) -> int:
        """Bytes that the disks have, each device counted once."""
        return sum({pooled.disk.device: pooled.disk.total for pooled in self.disks}.values())

    @property
    def free(self) -> int:
        """Bytes that are free, each device counted once."""
        return sum({pooled.disk.device: pooled.disk.free for pooled in self.disks}.values())

    @property
    def available(self) -> int:
        """Bytes that can be written: striping ends when the fullest disk is full."""
        sharing = Counter(pooled.disk.device for pooled in self.disks)
        return len(self.disks) * min(pooled.disk.free // sharing[pooled.disk.device] for pooled in self.disks)

    @property
    def stalled(self) -> bool:
        """Tell whether a disk does not answer."""
        return any(pooled.stalled for pooled in self.disks)

    def lowest_free(self) -> int:
        """Bytes that are free on the fullest disk."""
        return min(pooled.disk.free for pooled in self.disks)

    def close(self) -> None:
        """Let all threads end."""
        for pooled in self.disks:
            pooled.close()
