"""Recovery: find the mounts that died, and end their sessions.

A live mount holds a lease. Recovery removes the lease of a dead mount last, so that an interrupted recovery is found.
"""

import logging
from collections.abc import Iterable, Sequence
from functools import partial

from vtlfs.disks.base import Disk
from vtlfs.disks.headers import Ending
from vtlfs.disks.missing import MissingDisk
from vtlfs.engine import lease
from vtlfs.engine.lease import Leases
from vtlfs.engine.library import Library
from vtlfs.engine.reserve import essential
from vtlfs.engine.tracking.database import Tracking
from vtlfs.errors import LibraryError, VtlfsError
from vtlfs.model import MAX_SIZE, Access, Mount, Session, State, TapeFile, utc_now

log = logging.getLogger(__name__)


class PutOff(Exception):
    """Somebody is repairing: member files are trimmed after that."""


def dead_mounts(tracking: Tracking, leases: Leases, *, except_mount: int = 0) -> list[Mount]:
    """Return the dead mounts: recorded as live, and nobody holds their lease. `except_mount`: the caller's own."""
    return [mount for mount in tracking.mounts.live() if mount.id != except_mount and not leases.is_alive(mount.id)]


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


def trim(session: Session, file: TapeFile | None, ends: dict[int, int] | None, disks: Sequence[Disk]) -> None:
    """Cut off what a dead mount wrote to a session's member files and did not record, and finish their headers.

    May block. `file`: what it left on its medium. `ends`: on each disk, where the last recorded extent ends; None:
    nothing is cut off. What fails is logged: it costs space, not data.
    """
    assert session.released_at is not None  # it has ended
    number, start, size = (None, None, None) if file is None else (file.number, file.start, file.bytes)
    kept = None if file is None else file.retention
    end = (session.state, session.error, session.released_at)
    ending = Ending(*end, number, start, size, session.requests, kept)
    for disk in disks:
        try:
            member = disk.reopen(session.id, MAX_SIZE if ends is None else ends.get(disk.number, 0))
            if member is not None:
                member.finish(ending)
        except (VtlfsError, ValueError) as error:
            log.warning("session %d: trimming its member file: %s", session.id, error)


def trim_all(library: Library, tracking: Tracking, mounts: Iterable[int], disks: Sequence[Disk]) -> bool:
    """Trim the member files of dead mounts whose sessions were ended; tell whether their leases may go. May block.

    Trimmed are the sessions that the mount left open, and sessions that had ended shortly before its death: their
    headers were not finished, or not durable. Nothing is cut off where a rebuild has not found an extent, or parity: it
    may be on a disk that has come back. Nothing is trimmed while somebody repairs: what a repair appends to a member
    file is recorded later; raises PutOff. A disk that is missing is trimmed when it is back. Leases stay until then.
    """
    with lease.work(library.path, "repair") as mine:
        if not mine:
            raise PutOff
        for mount in mounts:
            for session in tracking.sessions.unfinished_of(mount, library.leases.finished_up_to(mount)):
                ends = tracking.extents.ends(session.id) if tracking.extents.is_found(session.id) else None
                trim(session, file_of(tracking, session), ends, disks)
    return not any(isinstance(disk, MissingDisk) for disk in disks)


def file_of(tracking: Tracking, session: Session) -> TapeFile | None:
    """Return the tape file that a session left on its medium; None without one."""
    if session.tape_file is None:
        return None
    return tracking.tape_files.get(session.medium, session.tape_file, volume=session.volume)


def left_leases(tracking: Tracking, leases: Leases) -> list[int]:
    """Return the ended mounts whose leases are still there: their recovery or their end was interrupted.

    Outside a transaction, a mount that is just beginning may be among them: it has its lease before it is recorded.
    """
    left = [number for number in leases.all() if not leases.is_alive(number)]
    # Asked last, for a mount gives up its lease after it has ended.
    mounted = {mount.id for mount in tracking.mounts.live()}
    return [number for number in left if number not in mounted]


def remove_leases(tracking: Tracking, leases: Leases, mounts: Iterable[int]) -> None:
    """Remove the leases of mounts whose member files were trimmed, as far as they are left.

    Call it inside a transaction. Another lease that is left meanwhile is that of a mount which somebody else recovers.
    """
    for number in set(mounts).intersection(left_leases(tracking, leases)):
        leases.remove(number)


def recover(library: Library) -> list[Session]:
    """End the sessions of all dead mounts of the library, and return them. Raises LibraryError.

    That needs the tracking database only. Member files are trimmed where all the disks are to be had; the leases
    of the mounts go last, so that what a crash leaves undone is done the next time.
    """
    tracking = library.tracking()
    try:
        ended: list[Session] = []
        dead = dead_mounts(tracking, library.leases)
        for mount in dead:
            ended += essential(library.path, tracking, partial(recover_mount, mount=mount, at=utc_now()))
        mounts = {mount.id for mount in dead}.union(left_leases(tracking, library.leases))
        try:
            disks = library.disks()
            if trim_all(library, tracking, sorted(mounts), disks):
                with tracking.transaction():
                    remove_leases(tracking, library.leases, mounts)
        except PutOff:
            log.info("a repair is under way: the member files of dead mounts are trimmed at the next mount")
        except LibraryError as error:
            log.warning("member files are not trimmed: %s", error)
        return ended
    finally:
        tracking.close()
