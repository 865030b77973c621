"""The disks of a running mount: each with its executors and its bounded queue of extents on their way to it.

Disks come and go while the mount runs. A disk that has left stays known by its number to streams that have a member
there; nothing new begins on it.
"""

import errno
import logging
from time import monotonic

import outcome

from vtlfs import blame
from vtlfs.disks.base import Disk
from vtlfs.disks.executor import DiskExecutor
from vtlfs.disks.semaphore import FairSemaphore
from vtlfs.errors import DamagedExtent, DiskError, VtlfsError
from vtlfs.histogram import Histogram
from vtlfs.model import MIB, Extent
from vtlfs.timing import DEFAULT, Timing

QUEUED_BYTES = 32 * MIB  # of extents on their way to all disks together, where nobody says
MIN_QUEUED_UNITS = 2  # a disk, so that one is written while the next is fetched
SYNC_THREADS = 4  # syncs that wait at the same time share one commit of the file system's journal
READ_THREADS = 2
LAGGING_WRITES = 4  # that a disk has to do more than another, to be passed over

log = logging.getLogger(__name__)


class PooledDisk:
    """One disk and the threads that work for it. A disk that hangs blocks these threads and no others."""

    def __init__(self, disk: Disk, queued_units: int, timing: Timing = DEFAULT) -> None:
        name = f"disk{disk.number}"
        self._timing = timing
        self.disk = disk
        self.number = disk.number
        self.writing = DiskExecutor(f"{name}.write")
        self.syncing = DiskExecutor(f"{name}.sync", SYNC_THREADS)
        self.reading = DiskExecutor(f"{name}.read", READ_THREADS)
        self._probing = DiskExecutor(f"{name}.probe")
        self.queue = FairSemaphore(queued_units)
        self.written = self.read = 0  # stored bytes of extents, since the mount began; the trio loop's
        self.reconstructed = 0  # extents of this disk that were computed for readers, since the mount began
        self.write_seconds, self.sync_seconds, self.read_seconds = Histogram(), Histogram(), Histogram()  # of extents
        self.faults = 0  # errors that were the disk's own fault, since the mount began
        self.fault: DiskError | None = None
        self.leaving = False  # it is retiring: nothing new goes there where two other disks work
        self._tried_at = 0.0
        self._hung = False  # and it was said

    @property
    def stalled(self) -> bool:
        """Tell whether the disk has been given work and has done none of it for a while."""
        return (
            max(self.writing.stalled_seconds, self.syncing.stalled_seconds, self._probing.stalled_seconds)
            > self._timing.stalled
        )

    @property
    def hangs(self) -> bool:
        """Tell whether writes or syncs have waited for so long that writes had better go to another disk."""
        return max(self.writing.stalled_seconds, self.syncing.stalled_seconds) > self._timing.hangs

    @property
    def works(self) -> bool:
        """Tell whether the disk can be written to as far as one knows."""
        return self.fault is None and not self.hangs

    @property
    def usable(self) -> bool:
        """Tell whether extents are to go to the disk: it works, and stays in the library."""
        return self.works and not self.leaving

    @property
    def reads_hang(self) -> bool:
        """Tell whether reads have waited for so long that further ones had better not wait."""
        return self.reading.stalled_seconds > self._timing.reading

    def note_reconstructed(self) -> None:
        """Count an extent that can't be read here and was computed; the log says so once."""
        if not self.reconstructed:
            log.warning(
                "disk %d (%s): extents that can't be read there are computed from the rest of their stripes",
                *(self.number, self.disk.path),
            )
        self.reconstructed += 1

    def note_fault(self, error: DiskError) -> bool:
        """Have extents avoid the disk until it has been tried out; False where it is no fault of the disk."""
        if not blame.is_disks(error.errno):
            return False
        self.faults += 1
        if self.fault is None:
            level = logging.WARNING if blame.fault_of(error.errno) is blame.Fault.FULL else logging.ERROR
            if self.leaving:  # perhaps it has left just now, with its label
                level = logging.DEBUG if error.errno == errno.ENODEV else logging.INFO
            log.log(level, "%s; it is avoided, as far as that is possible, until it works again", error)
            self._tried_at = monotonic()
        self.fault = error
        return True

    @property
    def trouble(self) -> str | None:
        """What keeps extents from going to the disk; None while nothing does."""
        return self.fault.reason if self.fault is not None else blame.HANGS if self.hangs else None

    def probe(self) -> None:
        """Have the disk looked at, or tried out after a fault, unless it has not answered the last time yet."""
        if self.hangs != self._hung:
            self._hung = self.hangs
            says = "does not answer; it is avoided, as far as that is possible" if self._hung else "answers again"
            log.warning("disk %d (%s) %s", self.number, self.disk.path, says)
        if self._probing.stalled_seconds:
            return
        if self.fault is None:
            self._probing.submit(self._measured, self.disk.measure)
        elif monotonic() - self._tried_at > self._timing.trial:
            self._tried_at = monotonic()
            gone = self.fault.errno == errno.ENODEV  # the label tells whether the right disk is back
            self._probing.submit(self._tried_out, self.disk.measure if gone else self.disk.try_out)

    def _measured(self, result: "outcome.Outcome[None]") -> None:
        error = result.error if isinstance(result, outcome.Error) else None
        if isinstance(error, VtlfsError) and not (isinstance(error, DiskError) and self.note_fault(error)):
            log.warning("looking at the disks: %s", error)

    def _tried_out(self, result: "outcome.Outcome[None]") -> None:
        error = result.error if isinstance(result, outcome.Error) else None
        if error is None:
            log.warning("disk %d (%s) works again", self.number, self.disk.path)
            self.fault = None
        elif isinstance(error, DiskError) and blame.is_disks(error.errno):  # else nobody knows yet
            self.fault = error

    def take(self, disk: Disk) -> None:
        """Go on with the same disk where it was found again; it was measured there."""
        self.disk = disk
        self.fault = None

    def close(self) -> None:
        """Let the threads end."""
        for executor in (self.writing, self.syncing, self.reading, self._probing):
            executor.close()


class DiskPool:
    """The disks of a library by number; `disks` are those that have not left, in the order of their numbers.

    To be made in the trio loop, and changed there.
    """

    def __init__(
        self, disks: list[Disk], stripe_unit: int, queued: int = QUEUED_BYTES, timing: Timing = DEFAULT
    ) -> None:
        """`queued`: bytes that may be on their way to all disks together."""
        self._units = max(MIN_QUEUED_UNITS, queued // stripe_unit // len(disks))
        self.timing = timing
        self.disks: list[PooledDisk] = []
        self._ever: dict[int, PooledDisk] = {}  # by number, with those that have left
        self._left: set[int] = set()
        for disk in disks:
            self.add(disk)

    def __len__(self) -> int:
        return len(self.disks)

    def __contains__(self, number: int) -> bool:
        return number in self._ever and number not in self._left

    def __getitem__(self, number: int) -> PooledDisk:
        """Return a disk by its number, also one that has left."""
        return self._ever[number]

    # --- coming and going -------------------------------------------------------------------------------------------

    def add(self, disk: Disk) -> PooledDisk:
        """Take in one disk more."""
        pooled = self._ever[disk.number] = PooledDisk(disk, self._units, self.timing)
        self.disks = sorted([*self.disks, pooled], key=lambda one: one.number)
        return pooled

    def remove(self, number: int) -> None:
        """Leave out a disk that has left the library."""
        self._ever[number].leaving = True
        self._left.add(number)
        self.disks = [pooled for pooled in self.disks if pooled.number != number]

    @property
    def staying(self) -> list[PooledDisk]:
        """The disks that are not about to leave."""
        return [pooled for pooled in self.disks if not pooled.leaving]

    # --- asking for disks ---------------------------------------------------------------------------------------------

    def disk_of(self, row: Extent) -> PooledDisk:
        """Return the disk that has an extent. Raises DamagedExtent where there is no such disk."""
        if row.disk not in self:
            raise DamagedExtent(row.session, row.offset, row.disk, "the library has no such disk")
        return self[row.disk]

    def lagging(self) -> set[int]:
        """Return the disks that have several writes more before them than the least busy one."""
        least = min((pooled.writing.pending for pooled in self.disks if pooled.usable), default=0)
        return {pooled.number for pooled in self.disks if pooled.writing.pending >= least + LAGGING_WRITES}

    def busy(self) -> set[int]:
        """Return the disks that lag, or whose queue has no place for more."""
        return self.lagging().union(pooled.number for pooled in self.disks if not pooled.queue.value)

    def short_of(self, room: int) -> set[int]:
        """Return the disks that have less than so many bytes free."""
        return {pooled.number for pooled in self.disks if pooled.disk.free < room}

    @property
    def stalled(self) -> bool:
        """Tell whether a disk does not answer."""
        return any(pooled.stalled for pooled in self.disks)

    @property
    def free_to_stripe(self) -> int:
        """Free bytes of the usable disk with the second most: striping needs two disks."""
        free = sorted((pooled.disk.free for pooled in self.disks if pooled.usable), reverse=True)
        return free[1] if len(free) > 1 else 0

    def close(self) -> None:
        """Let all threads end."""
        for pooled in self._ever.values():
            pooled.close()
