"""Room that is kept beside the tracking database for what must always work, in a file `reserve` that has no content.

When the library's file system is full, streams hear of it. Adding and erasing media, reclaiming, deleting a snapshot,
ending sessions and recovery give up some of the reserve, and go on in the room that it had. Mounts make it again when
there is room.
"""

import errno
import logging
import os
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

from vtlfs.durable import follow_owner
from vtlfs.errors import TrackingError
from vtlfs.failpoints import reached
from vtlfs.sizes import SIZES, Sizes

if TYPE_CHECKING:
    from vtlfs.engine.tracking.database import Tracking

FILE = "reserve"
SHARE = 4  # the reserve takes at most one part of so many of what is free
STEPS = 8  # one part of so many of what is left of it is given up at a time
LEAST = 64 << 10  # bytes free, for the files that SQLite makes beside the database
_FLAGS = os.O_RDWR | os.O_CLOEXEC | os.O_NOFOLLOW

T = TypeVar("T")
log = logging.getLogger(__name__)


class Reserve:
    """The reserve of the library in a directory. Any thread may use it; it blocks."""

    def __init__(self, library: Path, sizes: Sizes = SIZES) -> None:
        self._library = library
        self._path = library / FILE
        self._size = sizes.reserve

    def make(self) -> None:
        """Set room aside, where there is enough; what fails is tried again some time."""
        with suppress(OSError):
            found = os.statvfs(self._library)
            free = found.f_bavail * found.f_frsize
            descriptor = os.open(self._path, _FLAGS | os.O_CREAT, 0o600)
            try:
                follow_owner(descriptor, self._library)
                has = os.fstat(descriptor).st_blocks * 512
                wanted = min(self._size, (free + has) // SHARE)
                if wanted > has and has < self._size:
                    try:
                        os.posix_fallocate(descriptor, 0, wanted)
                    except OSError:
                        os.ftruncate(descriptor, has)
                    reached("reserve.made")
            finally:
                os.close(descriptor)

    def give_up(self) -> bool:
        """Give some of the reserve up; tell whether there was any."""
        try:
            descriptor = os.open(self._path, _FLAGS)
        except OSError:
            return False
        try:
            size = os.fstat(descriptor).st_size
            if not size:
                return False
            step = max(size // STEPS, LEAST)
            os.ftruncate(descriptor, max(0, size - step))
            reached("reserve.given_up")
        except OSError:
            return False
        finally:
            os.close(descriptor)
        log.warning("%s: no room is left for the tracking database; some of its reserve is given up", self._library)
        return True

    def open_with_room(self) -> None:
        """Give some of the reserve up where SQLite has no room for the files that it makes beside the database."""
        with suppress(OSError):
            found = os.statvfs(self._library)
            if found.f_bavail * found.f_frsize < LEAST:
                self.give_up()


def essential(library: Path, tracking: "Tracking", change: "Callable[[Tracking], T]") -> T:
    """Make a change that must be possible on a full file system, in a transaction. Raises what the change raises."""
    reserve = Reserve(library)
    while True:
        try:
            with tracking.transaction():
                return change(tracking)
        except TrackingError as error:
            if error.errno != errno.ENOSPC or not reserve.give_up():
                raise
