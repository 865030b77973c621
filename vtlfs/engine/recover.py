"""Closing the books of mounts that died: which mounts live, and what becomes of the sessions of those that don't.

A live mount holds a lock (flock) on a file of its own in the library. The kernel lets go of it when the process ends,
however it ends, so that nobody has to guess from process numbers. The file also says up to which tape file the headers
of the mount's member files are finished and durable, so that recovery knows which to look at.
"""

import fcntl
import logging
import os
from collections.abc import Iterable, Sequence
from pathlib import Path

from vtlfs.disks.base import Disk
from vtlfs.disks.headers import Ending
from vtlfs.engine.library import LIVE, MOUNTS, Library
from vtlfs.engine.tracking.database import Tracking
from vtlfs.errors import LibraryError, VtlfsError
from vtlfs.failpoints import reached
from vtlfs.model import Access, Mount, Session, State, utc_now

LOCK = ".lock"
ORDINAL_DIGITS = 20

log = logging.getLogger(__name__)


def lock_path(library: Path, mount: int) -> Path:
    return library / MOUNTS / f"{mount}{LOCK}"


def hold_lock(library: Path, mount: int, ordinal: int = 0) -> int:
    """Take the lock that shows that this process serves the mount; return its descriptor, to keep open.

    `ordinal`: of the last tape file before the mount.
    """
    if not (library / MOUNTS).is_dir():
        (library / MOUNTS).mkdir(mode=0o700, exist_ok=True)
        reached("lock.directory_made")
    descriptor = os.open(lock_path(library, mount), os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
    reached("lock.made")
    fcntl.flock(descriptor, fcntl.LOCK_EX)  # waits at most for somebody's `is_alive`
    note_finished(descriptor, ordinal)
    return descriptor


def note_finished(lock: int, ordinal: int) -> None:
    """Write into a mount's lock that its headers are finished and durable up to this tape file, of all media.

    Not synced: an older figure, or none, has recovery look at more headers than it must.
    """
    os.pwrite(lock, f"{ordinal:{ORDINAL_DIGITS}d}\n".encode(), 0)
    reached("lock.finished_noted")


def finished_up_to(library: Path, mount: int) -> int:
    """Return the ordinal in a mount's lock; 0 where there is none that can be read."""
    try:
        descriptor = os.open(lock_path(library, mount), os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW | os.O_NONBLOCK)
        try:
            said = os.read(descriptor, ORDINAL_DIGITS).strip()
        finally:
            os.close(descriptor)
    except OSError:
        return 0
    return int(said) if said.isdigit() else 0


def drop_lock(library: Path, mount: int, descriptor: int | None = None) -> None:
    """Remove the lock of a mount that has ended, and its figures."""
    (library / MOUNTS / f"{mount}{LIVE}").unlink(missing_ok=True)
    reached("lock.figures_removed")
    lock_path(library, mount).unlink(missing_ok=True)
    reached("lock.removed")
    if descriptor is not None:
        os.close(descriptor)


def is_alive(library: Path, mount: int) -> bool:
    """Tell whether a process serves the mount. One that can't be told about is taken to live."""
    try:
        descriptor = os.open(lock_path(library, mount), os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW | os.O_NONBLOCK)
    except FileNotFoundError:
        return False
    except OSError as error:
        log.warning("mount %d: its lock can't be looked at: %s", mount, error.strerror)
        return True
    try:
        fcntl.flock(descriptor, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except OSError:
        return True
    finally:
        os.close(descriptor)
    return False


def dead_mounts(tracking: Tracking, library: Path, *, except_mount: int = 0) -> list[Mount]:
    """Return the mounts that ended without saying so, without looking at one of them."""
    return [mount for mount in tracking.mounts.live() if mount.id != except_mount and not is_alive(library, mount.id)]


def recover_mount(tracking: Tracking, mount: Mount, at: str) -> list[Session]:
    """End the sessions of a dead mount: what they made durable becomes tape files. Return the sessions as they are now.

    Call it inside a transaction. Those who find the same mount dead at the same time find nothing left to do.
    """
    ended = []
    for session in tracking.sessions.open_of(mount.id):
        if session.access is Access.WRITE:
            tracking.sessions.release(session.id, State.RECOVERED, None, at)
        else:
            tracking.sessions.release_reader(session.id, State.RECOVERED, None, at, session.bytes, session.requests)
        ended.append(tracking.sessions.get(session.id))
    tracking.mounts.end(mount.id, "dead", at)
    return ended


def owes_headers(library: Path, mount: int) -> bool:
    """Tell whether recovery is still to finish the headers of a mount that died."""
    return lock_path(library, mount).exists() and not is_alive(library, mount)


def trim(session: Session, start: int | None, slots: dict[int, int], disks: Sequence[Disk]) -> None:
    """Cut off what a dead mount wrote to a session's member files and did not record, and finish their headers.

    May block. `slots`: the recorded slots on each disk. What fails is logged: it costs space, not data.
    """
    assert session.released_at is not None  # it has ended
    size = None if session.tape_file is None else session.bytes
    ending = Ending(session.state, session.error, session.released_at, session.tape_file, start, size, session.requests)
    for disk in disks:
        try:
            member = disk.reopen(session.id, session.stripe_unit, slots.get(disk.number, 0))
            if member is not None:
                member.finish(ending)
        except (VtlfsError, ValueError) as error:
            log.warning("session %d: trimming its member file: %s", session.id, error)


def trim_all(tracking: Tracking, library: Path, mounts: Iterable[int], disks: Sequence[Disk]) -> None:
    """Trim the member files of dead mounts whose books were closed. May block.

    They are those of the sessions that the mount left open, and of those that had ended only just before: their headers
    were not finished, or a power cut took that.
    """
    for mount in mounts:
        for session in tracking.sessions.unfinished_of(mount, finished_up_to(library, mount)):
            trim(session, start_of(tracking, session), tracking.stripe_units.slots(session.id), disks)


def start_of(tracking: Tracking, session: Session) -> int | None:
    """Return where on its medium a session's tape file begins; None without one."""
    return None if session.tape_file is None else tracking.tape_files.get(session.medium, session.tape_file).start


def left_locks(tracking: Tracking, library: Path) -> list[int]:
    """Return the mounts that have ended and whose locks are there: what comes after closing their books is not done.

    Inside a transaction no mount is just beginning, which has its lock before it is recorded. Of the two files of a
    mount a power cut may leave either.
    """
    files = [path for suffix in (LOCK, LIVE) for path in (library / MOUNTS).glob(f"*{suffix}")]
    there = {int(path.stem) for path in files if path.stem.isdecimal()}
    left = [number for number in sorted(there) if not is_alive(library, number)]
    mounted = {
        mount.id for mount in tracking.mounts.live()
    }  # asked last, for a mount gives up its lock after it has ended
    return [number for number in left if number not in mounted]


def remove_locks(tracking: Tracking, library: Path) -> None:
    """Remove the locks that are left. Call it inside a transaction."""
    for number in left_locks(tracking, library):
        drop_lock(library, number)


def recover(library: Library) -> list[Session]:
    """Close the books of all dead mounts of the library; return the sessions that this ended. Raises LibraryError.

    That needs the tracking database only. Member files are trimmed where all the disks are to be had; the locks of
    the mounts go last, so that what a crash leaves undone is done the next time.
    """
    tracking = library.tracking()
    try:
        ended: list[Session] = []
        dead = dead_mounts(tracking, library.path)
        for mount in dead:
            with tracking.transaction():
                ended += recover_mount(tracking, mount, utc_now())
        mounts = {mount.id for mount in dead}.union(left_locks(tracking, library.path))
        try:
            trim_all(tracking, library.path, sorted(mounts), library.disks())
            with tracking.transaction():
                remove_locks(tracking, library.path)
        except LibraryError as error:
            log.warning("member files are not trimmed: %s", error)
        return ended
    finally:
        tracking.close()
