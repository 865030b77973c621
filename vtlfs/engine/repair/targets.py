"""The disks that can take extents of a repair, and how much room each has left. Used in the trio loop."""

from collections import Counter
from collections.abc import Collection, Iterable

from vtlfs import blame
from vtlfs.disks.pool import DiskPool, PooledDisk
from vtlfs.disks.records import BLOCK, padded
from vtlfs.engine.layout.dealer import Candidate
from vtlfs.engine.repair.stripes import Written
from vtlfs.errors import DiskError
from vtlfs.model import MIB

RESERVE = 32 * MIB  # that a repair leaves free on each disk, for streams that end, headers and copies
SMALL_PART = 64  # on a small disk, this part of the disk (1/64) is kept free instead
HEADER = 2 * BLOCK  # a member file's header, and its entry in a directory


class Targets:
    """The disks of a pool, except those that are `out`."""

    def __init__(self, pool: DiskPool, out: Collection[int]) -> None:
        self._pool = pool
        self._out = frozenset(out)
        self._planned: Counter[int] = Counter()  # bytes by device
        self.barred: set[tuple[int, int]] = set()  # (session, disk) whose member file can't be written

    def candidates(self, session: int, size: int) -> tuple[list[Candidate], bool]:
        """Return the disks that can take an extent of `size` bytes of a session, and whether others are full."""
        staying = [one for one in self._pool.staying if one.number not in self._out and one.disk.total]
        usable = [one for one in staying if one.usable and (session, one.number) not in self.barred]
        found = [
            Candidate(one.number, one.disk.device, one.disk.free - self._planned[one.disk.device])
            for one in usable
            if self._has_room(one, size)
        ]
        return found, len(found) < len(usable) or any(one.fault is not None and _is_full(one.fault) for one in staying)

    def _has_room(self, pooled: PooledDisk, size: int) -> bool:
        reserve = min(RESERVE, pooled.disk.total // SMALL_PART)
        free = pooled.disk.free - self._planned[pooled.disk.device]
        return free >= reserve + HEADER + BLOCK + padded(size)

    def take(self, extents: Iterable[Written]) -> Counter[int]:
        """Set room aside for extents; return the bytes by device, which `give` takes back when they are written."""
        taken: Counter[int] = Counter()
        devices = self.devices()
        for one in extents:
            taken[devices.get(one.row.disk, 0)] += HEADER + BLOCK + padded(one.row.stored)
        self._planned += taken
        return taken

    def give(self, taken: Counter[int]) -> None:
        """Give back room that was set aside. `free` of the disks has been measured again since."""
        self._planned -= taken

    def devices(self) -> dict[int, int]:
        """Return the device of each disk."""
        return {pooled.number: pooled.disk.device for pooled in self._pool.disks}


def _is_full(fault: DiskError) -> bool:
    return blame.fault_of(fault.errno) is blame.Fault.FULL
