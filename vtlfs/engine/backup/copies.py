"""Copies of the tracking database on the disks, for the day when it is lost. docs/format.md says where they lie.

    DISK/tracking/000000000012.db        the twelfth copy

The newest is the one with the highest number, whatever times say. Here is how a copy is made, and which of several
mounts is to make it; `copying` is the task that does so. A copy is an SQLite database of its own. It has its name only
when it is whole and durable.
"""

import errno
import os
import re
import stat
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from datetime import datetime, timedelta
from pathlib import Path

from vtlfs.engine.tracking import files
from vtlfs.engine.tracking.database import FILE_NAME, Tracking
from vtlfs.engine.tracking.repositories.copies import LastCopy
from vtlfs.errors import DiskError
from vtlfs.failpoints import reached
from vtlfs.model import MIB

DIRECTORY = "tracking"
KEPT = 2  # copies on each disk
LEFT_FREE = 64 * MIB  # what a copy leaves free on a disk at least: the rest is for streams
REST = 20  # times as long as a copy took, no other is begun

_NAME = re.compile(r"[0-9]{12,18}\.db")
_TEMPORARY = re.compile(r"\.[0-9]{12,18}\.db\.tmp(-journal)?")


def path_of(disk: Path, number: int) -> Path:
    """Return where a copy lies on a disk."""
    return disk / DIRECTORY / f"{number:012d}.db"


# --- whose turn it is -----------------------------------------------------------------------------------------------


def claim(tracking: Tracking, at: str, every: float, *, early: bool = False) -> int | None:
    """Return the number of the copy that the caller is to make now; None: none is due. Call inside a transaction.

    One is due when something has changed since the last, and that was long enough ago by the clock, see `_is_time`.
    `early`: however long ago it was.
    """
    last = tracking.copies.last()
    if not (_is_time(last, at) or early) or last.state == (now := tracking.copies.library_state()):
        return None
    tracking.copies.begin(last.number + 1, at, _later(at, every), now)
    return last.number + 1


def is_wanted(tracking: Tracking, at: str) -> bool:
    """Tell whether `claim` is worth a transaction."""
    last = tracking.copies.last()
    return _is_time(last, at) and last.state != tracking.copies.library_state()


def note(tracking: Tracking, number: int, took: float, *, made: bool) -> None:
    """Record that a copy has ended, after so many seconds of a monotonic clock; not `made`: the next is wanted too.

    The next one waits until copying has taken a twentieth of the time at most. Call inside a transaction. The wait is
    counted from the time at which the copy was begun: what the clock says now may be years ahead of that, and when it
    was put right nothing would be copied for years.
    """
    begun_at = tracking.copies.last().begun_at
    if begun_at is not None:
        tracking.copies.end(number, _later(begun_at, (1 + REST) * took), made=made)


def _is_time(last: LastCopy, at: str) -> bool:
    """Tell whether a copy may be begun at the time `at`: after the wait since the last one, or before that began.

    A clock that jumps does little harm. Ahead of the wait, or behind the last beginning, one copy comes too early; to
    within the wait, the next one comes by that much later, and never by more than the wait is long.
    """
    return last.begun_at is None or last.again_at is None or not last.begun_at <= at < last.again_at


def _later(at: str, seconds: float) -> str:
    return (datetime.fromisoformat(at) + timedelta(seconds=seconds)).strftime("%Y-%m-%dT%H:%M:%S.%fZ")


# --- making one -----------------------------------------------------------------------------------------------------


def make(library: Path, disk: Path, disk_number: int, number: int, stopped: Callable[[], bool] = lambda: False) -> None:
    """Copy the tracking database to a disk, as it stands now, and remove the copies before the last two there.

    May block; disturbs no stream: it reads one state of the database, step by step. `stopped` is asked between steps.
    Raises DiskError, with ECANCELED where it was stopped, and ENOSPC where the disk should be left to streams.
    """
    try:
        with _opened(disk, create=True) as directory:
            _remove(directory, [name for name in os.listdir(directory) if _TEMPORARY.fullmatch(name)])
            name = path_of(disk, number).name
            temporary = f".{name}.tmp"
            os.close(os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW, 0o600, dir_fd=directory))
            reached("copy.begun")
            try:
                # By way of the descriptor, so that it is this directory whatever becomes of its name.
                _copy(library, f"/proc/self/fd/{directory}/{temporary}", directory, stopped)
                _sync(temporary, directory)
                os.rename(temporary, name, src_dir_fd=directory, dst_dir_fd=directory)
                reached("copy.named")
            except BaseException:
                _remove(directory, [temporary, f"{temporary}-journal"])
                raise
            os.fsync(directory)
            reached("copy.kept")
            _remove(directory, _names(directory)[KEPT:])
        descriptor = os.open(disk, os.O_RDONLY | os.O_DIRECTORY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
    except OSError as error:
        raise DiskError(disk_number, str(disk), error) from error


def _copy(library: Path, target: str, directory: int, stopped: Callable[[], bool]) -> None:
    def look() -> None:
        if stopped():
            raise OSError(errno.ECANCELED, os.strerror(errno.ECANCELED))

    def check_room(size: int) -> None:
        free = os.fstatvfs(directory)
        if free.f_bavail * free.f_frsize - size < LEFT_FREE:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    files.copy(library / FILE_NAME, target, check_room, look)


def _sync(name: str, directory: int) -> None:
    descriptor = os.open(name, os.O_RDWR | os.O_NOFOLLOW, dir_fd=directory)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
    reached("copy.synced")


# --- finding them ---------------------------------------------------------------------------------------------------


def numbers(disk: Path) -> list[int]:
    """Return the numbers of the copies on a disk, the newest first. Raises OSError."""
    try:
        with _opened(disk) as directory:
            return [int(name.removesuffix(".db")) for name in _names(directory)]
    except FileNotFoundError:
        return []


def fetch(disk: Path, number: int, target: int) -> None:
    """Copy a copy's bytes from a disk into an open file. Raises OSError. No symbolic link is followed."""
    with _opened(disk) as directory:
        name = path_of(disk, number).name
        source = os.open(name, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK, dir_fd=directory)
        try:
            if not stat.S_ISREG(os.fstat(source).st_mode):
                raise OSError(errno.EINVAL, "not a regular file")
            while data := os.read(source, MIB):
                view = memoryview(data)
                while view:
                    view = view[os.write(target, view) :]
        finally:
            os.close(source)


@contextmanager
def _opened(disk: Path, *, create: bool = False) -> Iterator[int]:
    """Open a disk's directory of copies, which must not be a symbolic link."""
    root = os.open(disk, os.O_RDONLY | os.O_DIRECTORY)
    try:
        if create:
            with suppress(FileExistsError):
                os.mkdir(DIRECTORY, 0o700, dir_fd=root)
                reached("copy.directory_made")
        directory = os.open(DIRECTORY, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW, dir_fd=root)
    finally:
        os.close(root)
    try:
        yield directory
    finally:
        os.close(directory)


def _names(directory: int) -> list[str]:
    """Return the names of the copies in a directory, the newest first."""
    found = [name for name in os.listdir(directory) if _NAME.fullmatch(name)]
    return sorted(found, key=lambda name: int(name.removesuffix(".db")), reverse=True)


def _remove(directory: int, names: list[str]) -> None:
    for name in names:
        with suppress(FileNotFoundError):
            os.unlink(name, dir_fd=directory)
            reached("copy.removed")
