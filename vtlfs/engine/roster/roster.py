"""The roster of a library's disks: adding, replacing and retiring disks, up to the moment when one has left.

The catalogue decides which disks a library has. A new disk is labelled first, then recorded, then listed in
library.toml. When a disk leaves, its row is changed first, then library.toml, and its label is removed last. After a
crash in between, `tidy` does the rest; every command on disks begins with `tidy`.

Used by commands; mounts use only `finish_retiring` and `leave`.
"""

import logging
import os
from collections.abc import Iterator, Mapping, Sequence
from contextlib import closing, contextmanager, suppress
from datetime import datetime, timedelta
from pathlib import Path
from uuid import uuid4

from vtlfs import config as configuration
from vtlfs.config import ConfigError
from vtlfs.config_edit import change_disks
from vtlfs.disks import discovery
from vtlfs.disks.discovery import Label, NoDisk
from vtlfs.disks.headers import MAX_DISKS
from vtlfs.engine import lease
from vtlfs.engine.library import Library
from vtlfs.engine.roster import estimate
from vtlfs.engine.tracking.database import Tracking
from vtlfs.errors import LibraryError, UsageError
from vtlfs.model import DiskRecord, DiskState, local_time

NOTED = timedelta(seconds=10)  # after which every mount knows that a disk is retiring
FEWEST_DISKS = 2

log = logging.getLogger(__name__)


class NoSuchDisk(LibraryError):
    """The library has no disk of this number, or the disk has retired."""

    def __init__(self, number: int, retired_at: str | None = None) -> None:
        why = "no such disk in this library" if retired_at is None else f"has retired ({local_time(retired_at)})"
        super().__init__(f"disk {number}: {why}; `vtlfs disk list` shows the disks of a library")


# --- coming -----------------------------------------------------------------------------------------------------------


def add(library: Library, path: Path, at: str) -> DiskRecord:
    """Make a directory a disk of the library; running mounts use it within seconds. Raises LibraryError, UsageError."""
    with _alone(library), closing(library.tracking()) as tracking:
        disk = _check_new(library, tracking, path, at, None)
        _label(library, disk)
        with tracking.transaction():
            tracking.disks.add(disk)
        _list(library, add=[Path(disk.path)])
        return disk


def replace(library: Library, number: int, path: Path, at: str) -> DiskRecord:
    """Add a new disk in the place of another disk, dead or alive, which begins to retire. Return the new disk.

    The path may be that of the old disk, if another device is mounted there now. Raises LibraryError, UsageError.
    """
    with _alone(library), closing(library.tracking()) as tracking:
        old = _to_leave(tracking, number)
        disk = _check_new(library, tracking, path, at, old)
        estimate.check(library, tracking, old, Path(disk.path))
        _label(library, disk)
        with tracking.transaction():
            tracking.disks.add(disk)
            tracking.disks.begin_retiring(number, at, disk.number)
        _list(library, add=[Path(disk.path)])
        return disk


def _check_new(library: Library, tracking: Tracking, path: Path, at: str, replaced: DiskRecord | None) -> DiskRecord:
    """Check that a directory can become a disk; return the disk's row. Raises LibraryError, UsageError."""
    absolute, label = discovery.check_addition(path, library.config.uuid)
    own = Path(os.path.realpath(library.path))
    if own == absolute or own in absolute.parents:
        raise UsageError(f"disk {path}: is the library's own directory, or lies in it; give a directory elsewhere")
    ever = tracking.disks.ever()
    for disk in _not_retired(ever):
        if label is not None and label.disk == disk.uuid:
            raise UsageError(f"disk {path}: is disk {disk.number} of this library already; give another directory")
        if os.path.realpath(disk.path) == str(absolute) and disk != replaced:
            raise UsageError(
                f"disk {path}: disk {disk.number} lay there; `vtlfs disk replace` puts a new disk in its place"
            )
    discovery.check_has_no_members(absolute)
    number = tracking.disks.next_number()
    if number >= MAX_DISKS:
        raise LibraryError(f"{library.path}: has had {MAX_DISKS} disks, the most for one library; start a new one")
    return DiskRecord(number, str(uuid4()), str(absolute), at)


def _label(library: Library, disk: DiskRecord) -> None:
    """Label a new disk. If it has a label of this library already, an interrupted command has left it: replace it."""
    discovery.unlabel([Path(disk.path)], library.config.uuid)
    discovery.label_new(disk, library.config.uuid, {})


# --- leaving ----------------------------------------------------------------------------------------------------------


def retire(library: Library, number: int, at: str) -> DiskRecord:
    """Begin to empty a disk, which leaves the library when it is empty.

    Raises LibraryError if the other disks are too few or have no room.
    """
    with _alone(library), closing(library.tracking()) as tracking:
        disk = _to_leave(tracking, number)
        parity = library.config.parity
        left = [one for one in tracking.disks.all() if one.state is DiskState.IN_USE and one.number != number]
        if len(left) < FEWEST_DISKS:
            raise LibraryError(
                f"disk {number} can't retire: a library has two disks or more; `vtlfs disk replace` puts another in its"
                " place"
            )
        if len(left) <= parity:
            raise LibraryError(
                f"disk {number} can't retire: {len(left)} disks would be left, and parity {parity} needs {parity + 1};"
                " `vtlfs disk add` adds one; or lower `parity` in library.toml, for sessions that begin after the next"
                " mount"
            )
        estimate.check(library, tracking, disk)
        with tracking.transaction():
            tracking.disks.begin_retiring(number, at)
        return disk


def give_up(library: Library, number: int, at: str) -> int:
    """Record as lost for good what a repair could not move off a retiring disk; the disk leaves with it.

    Return the lost bytes of streams. Raises LibraryError where streams write to the disk, or a repair is under way.
    """
    with lease.work(library.path, "repair") as mine, closing(library.tracking()) as tracking:
        if not mine:
            raise LibraryError(f"{library.path}: a repair is under way; wait for its end, `vtlfs status` shows how far")
        with tracking.transaction():
            disks = {disk.number: disk for disk in tracking.disks.all()}
            if number not in disks or disks[number].state is not DiskState.RETIRING:
                raise NoSuchDisk(number)
            if tracking.session_disks.is_written_to(number):
                raise LibraryError(f"disk {number}: streams are writing that have extents there; wait for their end")
            other = min(one.number for one in disks.values() if one.state is DiskState.IN_USE)
            stripes, lost = tracking.extents.give_up(number, other)
            for session, some in stripes.items():
                tracking.session_disks.note_moved(session, {other}, {number})
                tracking.lacks.note_damaged(session, some, at)
            if stripes:
                tracking.library.count_move()
            finish_retiring(tracking, number, at)
    leave(library, number, label_of(library, number))
    return lost


def finish_retiring(tracking: Tracking, number: int, at: str) -> bool:
    """Record that a retiring disk has left, if nothing needs it any more; tell whether it has left. In a transaction.

    Until every mount knows that the disk is retiring, a stream may have unrecorded extents there. So the disk stays for
    the time NOTED. If the wall clock jumps meanwhile, the disk leaves too late or too early; too early, the stream
    fails with an error: see `Sessions.record_progress`.
    """
    disk = next((one for one in tracking.disks.ever() if one.number == number), None)
    if disk is None or disk.state is DiskState.IN_USE:
        return False
    if disk.state is DiskState.RETIRED:
        return True
    if _has_extents(tracking, number):
        tracking.session_disks.forget_extents_without_tape_file(number)
    if _has_extents(tracking, number) or tracking.session_disks.is_written_to(number):
        return False
    began_at = disk.state_at or at
    until_at = (datetime.fromisoformat(began_at) + NOTED).strftime("%Y-%m-%dT%H:%M:%S.%fZ")
    if began_at <= at < until_at and tracking.mounts.live():
        return False
    tracking.disks.retire(number, at)
    return True


def label_of(library: Library, number: int) -> Label | None:
    """Return the label in the directory where a disk was last; None if there is none. May block."""
    with suppress(NoDisk):
        return discovery.label_at(_place_of(_ever(library), number))
    return None


def leave(library: Library, number: int, label: Label | None) -> None:
    """Take a retired disk out of library.toml, and remove its label. Raises LibraryError.

    `label`: the label at the disk's path; None if there is none, or the disk does not answer.
    """
    ever = _ever(library)
    _keep_in_step(library, ever, {_place_of(ever, number): label})


def _ever(library: Library) -> list[DiskRecord]:
    with closing(library.tracking(read_only=True)) as tracking:
        return tracking.disks.ever()


def _place_of(ever: Sequence[DiskRecord], number: int) -> Path:
    return next(Path(disk.path) for disk in ever if disk.number == number)


def _has_extents(tracking: Tracking, number: int) -> bool:
    stored = tracking.disks.stored().get(number)
    return stored is not None and stored.extents > 0


def _to_leave(tracking: Tracking, number: int) -> DiskRecord:
    """Return the disk of this number, which can begin to retire. Raises LibraryError."""
    disk = next((one for one in tracking.disks.ever() if one.number == number), None)
    if disk is None or disk.state is DiskState.RETIRED:
        raise NoSuchDisk(number, disk.state_at if disk else None)
    if disk.state is DiskState.RETIRING:
        raise LibraryError(f"disk {number}: is retiring already; `vtlfs disk repair` goes on emptying it")
    return disk


# --- after a crash ----------------------------------------------------------------------------------------------------


def tidy(library: Library) -> None:
    """Make library.toml and the labels agree with the catalogue, as a crash may have come between. Raises LibraryError.

    Does nothing while another process changes the roster. For commands only: reading the labels forks.
    """
    with closing(library.tracking(read_only=True)) as tracking, lease.roster(library.path) as mine:
        if mine:
            ever = tracking.disks.ever()
            paths = [*configuration.load(library.path).disks, *(Path(disk.path) for disk in ever)]
            _keep_in_step(library, ever, discovery.labels_at(paths))


def _keep_in_step(library: Library, ever: Sequence[DiskRecord], labels: Mapping[Path, Label | None]) -> None:
    """Make library.toml list the disks that have not retired, and remove the labels of those that have.

    `labels`: the labels found, by path. A path without a label may be that of a dead disk, so library.toml keeps it,
    unless it is the path of a retired disk and of no other.
    """
    left = {disk.uuid: Path(disk.path) for disk in _not_retired(ever)}
    retired = {disk.uuid: Path(disk.path) for disk in ever if disk.state is DiskState.RETIRED}
    listed = configuration.load(library.path).disks
    lying = {path: label.disk for path, label in labels.items() if label is not None}
    found = {lying[path] for path in listed if path in lying}
    add = [path for path, disk in lying.items() if left.get(disk) == path and disk not in found]
    away = [path for path, disk in lying.items() if disk in retired]
    dead = [path for path in retired.values() if path in labels and path not in lying and path not in left.values()]
    _list(library, add, [*away, *dead])
    for path in away:
        try:
            discovery.unlabel([path], library.config.uuid)
        except (LibraryError, OSError) as error:
            log.warning(
                "%s: was a disk that has retired; its label can't be removed: %s; remove it by hand", path, error
            )


def _list(library: Library, add: Sequence[Path], remove: Sequence[Path] = ()) -> None:
    """Change which disks library.toml lists. If that fails, log it: the catalogue has the paths, too."""
    try:
        change_disks(library.path, add=add, remove=remove)
    except ConfigError as error:
        log.warning("%s", error)


def _not_retired(ever: Sequence[DiskRecord]) -> list[DiskRecord]:
    return [disk for disk in ever if disk.state is not DiskState.RETIRED]


@contextmanager
def _alone(library: Library) -> Iterator[None]:
    """Hold the lease on the roster. Raises LibraryError if another process holds it."""
    with lease.roster(library.path) as mine:
        if not mine:
            raise LibraryError(f"{library.path}: another process is changing its disks just now; try again")
        yield
