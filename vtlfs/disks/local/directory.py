"""The directory that is a disk, as far as the disk, its member files and whoever examines them share it.

Used by the threads of the disk's executors; what they share is written in one step, and at worst a little old.
"""

import errno
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from vtlfs.disks.local import label as labels
from vtlfs.disks.local.opening import NotAFile, read_small
from vtlfs.disks.local.write_behind import WriteBehind
from vtlfs.disks.records import Owner
from vtlfs.errors import DiskError, LibraryError

DURABLE_DIRECTORIES = 8  # that a disk remembers; more than there are with new streams at the same time


class Directory:
    """A disk's directory. `number` is the disk's, `library` the UUID of its library."""

    def __init__(self, number: int, path: Path, library: str) -> None:
        self.number = number
        self.path = str(path)
        self.free = self.total = self.reserved = self.device = 0
        self.root = path
        self.library = library
        self.write_behind = WriteBehind()
        # The latest directories whose names this process has made durable. To forget one costs a sync; to keep all,
        # memory: each is small, and lies among the objects of the thousand sessions of its time.
        self.durable: tuple[str, ...] = ()

    def owner(self, session: int) -> Owner:
        """Return whose a session's member file on this disk is."""
        return Owner(self.library, self.number, session)

    def check_label(self) -> None:
        """Raise OSError where the disk's label is not there."""
        try:
            label = labels.parse(read_small(self.root / labels.FILE_NAME))
            ours = (label.library, label.number) == (self.library, self.number)
        except (FileNotFoundError, NotAFile, LibraryError):
            ours = False
        if not ours:
            raise OSError(errno.ENODEV, "its label is not there; is the right device mounted?")

    def check_here(self) -> None:
        """Raise OSError where another device is mounted: a new member file would lie on the wrong one."""
        if self.device and os.stat(self.root).st_dev != self.device:
            raise OSError(errno.ENODEV, "another device is mounted there")

    def note_durable(self, *directories: Path) -> None:
        """Remember that the names of directories are durable. Called by any thread; at worst, one is forgotten."""
        new = tuple(str(path) for path in directories if str(path) not in self.durable)
        if new:
            self.durable = (*self.durable, *new)[-DURABLE_DIRECTORIES:]

    @contextmanager
    def errors(self) -> Iterator[None]:
        """Have an OSError in the block be the disk's error: DiskError."""
        try:
            yield
        except OSError as error:
            raise DiskError(self.number, self.path, error) from error

    def note_space(self, status: os.statvfs_result) -> None:
        """Remember how much is free."""
        self.free = status.f_bavail * status.f_frsize
        self.total = status.f_blocks * status.f_frsize
        self.reserved = (status.f_bfree - status.f_bavail) * status.f_frsize
