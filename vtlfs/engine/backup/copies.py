"""Copies of the tracking database on the disks, for the day when it is lost.

The newest copy is the one with the highest number, whatever times say. This module makes copies, and decides which of
several mounts makes the next one; `copying` is the job of a mount that calls it. A copy is an SQLite database of its
own. A disk has a copy only when it is whole and durable.
"""

import errno
import os
from collections.abc import Callable
from datetime import datetime, timedelta
from pathlib import Path

from vtlfs.disks.base import Disk
from vtlfs.engine.tracking import files
from vtlfs.engine.tracking.database import FILE_NAME, Tracking
from vtlfs.engine.tracking.repositories.copies import LastCopy

REST = 20  # times as long as a copy took, no other is begun
STEP_PAGES = 1024  # that are copied between two looks whether to stop


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


def is_current(tracking: Tracking) -> bool:
    """Tell whether the last copy has all that is worth a copy."""
    return tracking.copies.last().state == tracking.copies.library_state()


def note(tracking: Tracking, number: int, took: float, *, made: bool) -> None:
    """Record that a copy has ended, after so many seconds of a monotonic clock; not `made`: the next is wanted too.

    The next copy waits REST times as long as this one took. Call inside a transaction. The wait is counted from the
    recorded beginning of the copy, and not from the present time: after a clock that was years ahead is put right, a
    wait from the wrong time would stop copies for years.
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


def make(
    library: Path,
    disk: Disk,
    number: int,
    stopped: Callable[[], bool] = lambda: False,
    step_pages: int = STEP_PAGES,
) -> None:
    """Copy the tracking database to a disk, as it stands now, and remove the copies before the last two there.

    May block; disturbs no stream: it reads one state of the database, step by step. `stopped` is asked between steps.
    Raises DiskError, with ECANCELED where it was stopped, and ENOSPC where the disk should be left to streams.
    """

    def look() -> None:
        if stopped():
            raise OSError(errno.ECANCELED, os.strerror(errno.ECANCELED))

    disk.put_copy(number, lambda file, check_room: files.copy(library / FILE_NAME, file, check_room, look, step_pages))
