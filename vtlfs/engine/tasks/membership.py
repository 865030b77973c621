"""Keeps the disks of a running mount those of the library: disks are added, leave, or are found again.

`Membership.run` is a task of the engine, in the trio loop. The catalogue says which disks there are; commands and other
mounts change it. Each disk is searched for by a thread of its own, because a directory may be on a device that hangs.
"""

import errno
import logging
from collections.abc import Awaitable, Callable, Collection

import outcome
import trio

from vtlfs.disks.base import Disk
from vtlfs.disks.executor import DiskExecutor
from vtlfs.disks.marks import MarkThreads
from vtlfs.disks.missing import MissingDisk
from vtlfs.engine.writing.context import WriteContext
from vtlfs.errors import VtlfsError
from vtlfs.model import DiskRecord, DiskState

Find = Callable[[DiskRecord, Collection[str]], Disk | None]
# `Library.find`: looks for a disk, but not at the given paths; returns the disk, measured, or None.

log = logging.getLogger(__name__)


class Membership:
    """See the module."""

    def __init__(
        self,
        find: Find,
        context: WriteContext,
        marks: MarkThreads,
        checkpoint: Callable[[], object],
        returned: Callable[[], Awaitable[None]],
    ) -> None:
        """`checkpoint` begins a checkpoint of all streams. `returned` is awaited when disks are new, or back."""
        self._find = find
        self._pool = context.pool
        self._memory = context.memory
        self._catalogue = context.catalogue
        self._committer = context.committer
        self._seconds = context.timing.probe
        self._marks = marks
        self._checkpoint = checkpoint
        self._returned = returned
        self._are_back = False  # a disk is new or has come back since `returned` was last awaited
        self._searching: dict[int, DiskExecutor] = {}  # by disk
        self._left: set[int] = set()  # disks that have retired
        self._told: set[str] = set()  # warnings that the log has

    async def run(self) -> None:
        """Compare the mount's disks with the catalogue now and then, until cancelled."""
        try:
            while True:
                await trio.sleep(self._seconds)
                try:
                    await self.look()
                except (VtlfsError, OSError) as error:
                    log.error("looking which disks the library has: %s; trying again", error)
        finally:
            for executor in self._searching.values():
                executor.close()

    async def look(self) -> None:
        """Compare the mount's disks with the catalogue once, and act on each difference. Raises VtlfsError."""
        for disk in await self._catalogue.read(lambda tracking: tracking.disks.ever()):
            if disk.state is DiskState.RETIRED:
                self._leave(disk)
            elif self._is_away(disk.number):
                self._search(disk)
            if disk.state is DiskState.RETIRING:
                self._begin_retiring(disk)
        if self._are_back:
            self._are_back = False
            await self._returned()

    def _is_away(self, number: int) -> bool:
        """Tell whether a disk has to be searched for: it is new or missing, or something else lies at its path."""
        if number not in self._pool:
            return True
        pooled = self._pool[number]
        return isinstance(pooled.disk, MissingDisk) or (pooled.fault is not None and pooled.fault.errno == errno.ENODEV)

    def _search(self, wanted: DiskRecord) -> None:
        """Begin a search for a disk, unless the last search for it is still running."""
        executor = self._searching.setdefault(wanted.number, DiskExecutor(f"disk{wanted.number}.find"))
        if executor.pending:
            return
        # The probes look at the paths of the disks in the pool, so the search passes those over.
        passed_over = {one.disk.path for one in self._pool.disks if not isinstance(one.disk, MissingDisk)}
        if wanted.number not in self._pool:  # a successor may lie at the path of the disk that it replaces
            passed_over.discard(wanted.path)

        def done(result: "outcome.Outcome[Disk | None]") -> None:
            if wanted.number in self._left:  # the search hung, and the disk has retired meanwhile
                return
            if isinstance(result, outcome.Error):
                self._tell(f"looking for disk {wanted.number}: {result.error}")
            elif (disk := result.unwrap()) is not None:
                self._take(disk)
            elif wanted.number not in self._pool:
                self._tell(
                    f"disk {wanted.number} was added to the library, but is not at {wanted.path}; mount it there"
                )

        executor.submit(done, self._find, wanted, passed_over)

    def _take(self, disk: Disk) -> None:
        """Put a disk that was found into the pool."""
        if disk.number in self._pool:
            self._pool[disk.number].take(disk)
            self._are_back = True
            log.warning("disk %d is back at %s; it is used again", disk.number, disk.path)
        else:
            self._pool.add(disk)
            self._memory.make_room_for(len(self._pool))
            self._are_back = True
            log.info("disk %d (%s) was added to the library; new stripes go there, too", disk.number, disk.path)
        self._marks.take(disk)
        self._committer.post(lambda tracking: tracking.disks.move(disk.number, disk.path))

    def _begin_retiring(self, disk: DiskRecord) -> None:
        """Send no new extents to a disk, and record at once the extents that streams have in flight to it.

        Thereby the catalogue shows for which streams the retirement of the disk waits.
        """
        if disk.number in self._pool and not self._pool[disk.number].leaving:
            self._pool[disk.number].leaving = True
            log.info("disk %d (%s) is retiring; nothing new goes there", disk.number, disk.path)
            self._checkpoint()

    def _leave(self, disk: DiskRecord) -> None:
        """Take a disk that has retired out of the pool."""
        self._left.add(disk.number)
        if disk.number in self._pool:
            self._pool.remove(disk.number)
            self._marks.leave(disk.number)
            log.info("disk %d (%s) has retired from the library", disk.number, disk.path)

    def _tell(self, warning: str) -> None:
        """Log a warning once only, because the search is repeated every second."""
        if warning not in self._told:
            self._told.add(warning)
            log.warning("%s", warning)
