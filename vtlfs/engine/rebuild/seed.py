"""What a rebuilt tracking database begins with: the old one or a copy, the newest that is in order; or nothing."""

import os
import shutil
from collections.abc import Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass, replace
from pathlib import Path

from vtlfs.disks import values
from vtlfs.disks.base import Disk
from vtlfs.engine.scrub.soundness import cut_short
from vtlfs.engine.tracking import database, files, invariants
from vtlfs.engine.tracking.database import Tracking
from vtlfs.errors import DiskError, LibraryError, VtlfsError
from vtlfs.model import DiskRecord, Watermark, check_barcode

NO_COPY = (
    "no copy of the tracking database is on the disks: media that nobody wrote to, capacities, loaded drives, sessions"
    " that read, mounts and snapshots can't come back"
)
NO_DRIVES = 0


@dataclass(frozen=True, slots=True)
class Base:
    """What a database was begun with: the old one, or a copy, with its number and when it was made."""

    where: str
    number: int
    made_at: str
    commits: int
    moves: int
    is_whole: bool  # it knows where every extent lies, which after a rebuild without a disk it does not
    is_old: bool = False


@dataclass(frozen=True, slots=True)
class Begun:
    """With what a database was begun, None: with nothing; what is wrong with copies; why the old one is not used.

    `moves`: how often extents have moved, as far as the disks and the databases on them know.
    """

    base: Base | None
    moves: int
    refused: list[str]
    notes: list[str]


def begin(
    library: Path,
    temporary: Path,
    uuid: str,
    disks: Mapping[int, Disk],
    records: Sequence[DiskRecord],
    *,
    complete: bool,
    moves: int,
) -> Begun:
    """Put the newest database that is in order at `temporary`: the old one or a copy; or else an empty one.

    `records`: the rows of the disks for an empty database. `complete`: all disks are there. Then a database that was
    rebuilt without a disk is not the first choice: an older one can take in the extents of the disk that is back, if no
    extents were moved since. `moves`: how often the disks know that some were. The old database and the copies stay as
    they are.
    """
    refused: list[str] = []
    found: list[tuple[int, int]] = []
    for disk in disks.values():
        try:
            found += [(number, disk.number) for number in disk.copies()]
        except DiskError as error:
            refused.append(f"{error}; its copies are not used")
    newest = max(found, default=(0, 0))[0]
    kept = temporary.with_name(f"{temporary.name}.old")
    old, notes = _old(library / database.FILE_NAME, kept, uuid)
    moves = max(moves, old.moves if old is not None else 0)
    places = [(number, disks[disk]) for number, disk in sorted(found, key=lambda one: (-one[0], one[1]))]
    for wants_whole in (True, False) if complete else (False,):
        wrong: list[str] = []
        base = _newest_copy(temporary, uuid, places, wrong, moves if wants_whole else None)
        is_wanted = old is not None and (not wants_whole or (old.is_whole and old.moves >= moves))
        if old is not None and is_wanted and (base is None or old.commits >= base.commits):
            remove(temporary)
            kept.rename(temporary)
            base = old
        if base is not None:
            break
    remove(kept)
    if base is None:
        remove(temporary)
        database.create(temporary.parent, uuid, records, NO_DRIVES, records[0].added_at, name=temporary.name)
        wrong.append(NO_COPY)
    files.count_copies_on(temporary, newest)
    return Begun(base, moves, [*refused, *wrong], notes)


def _newest_copy(
    temporary: Path, uuid: str, places: list[tuple[int, Disk]], refused: list[str], moves: int | None
) -> Base | None:
    """Put the first copy that is in order at `temporary`; note what is wrong with those before it.

    `moves`: it is to know where everything lies after so many moves; None: it need not.
    """
    for number, disk in places:
        where = disk.where_copy(number)
        try:
            _fetch(disk, number, temporary)
            found = _check(temporary, uuid, Base(where, number, "", 0, 0, is_whole=False))
        except _REFUSED as error:
            refused.append(f"{where}: not used: {_why(error, temporary)}")
            continue
        if moves is None or (found.is_whole and found.moves >= moves):
            return found
    return None


def _old(file: Path, temporary: Path, uuid: str) -> tuple[Base | None, list[str]]:
    """Put what the old database has at `temporary`, if it is in order to the last row; else tell why it is not used."""
    if not file.exists():
        return None, []
    try:
        remove(temporary)
        if (problem := cut_short(file.parent)) is not None:  # SQLite would read zeros there
            raise LibraryError(problem)
        for suffix in ("", "-wal"):
            if Path(f"{file}{suffix}").is_file():
                shutil.copyfile(f"{file}{suffix}", f"{temporary}{suffix}")
        files.fold_log(temporary)
        found = _check(temporary, uuid, Base(str(file), 0, "", 0, 0, is_whole=False, is_old=True))
        with closing(Tracking(temporary.parent, name=temporary.name)) as old:
            for rule in invariants.rules(old):
                for problem in invariants.broken(old, rule):
                    raise LibraryError(problem)
    except _REFUSED as error:
        remove(temporary)
        return None, [f"{file}: not used: {_why(error, temporary)}"]
    return found, []


_REFUSED = (VtlfsError, OSError, UnicodeDecodeError)  # the last: of a damaged text


def _why(error: BaseException, temporary: Path) -> str:
    if isinstance(error, OSError):
        return error.strerror or str(error)
    if isinstance(error, DiskError):  # the place is told already
        return error.reason
    return str(error).removeprefix(f"{temporary}: ")


def remove(temporary: Path) -> None:
    """Remove a database that was not finished."""
    for suffix in ("", "-wal", "-shm", "-journal"):
        temporary.with_name(f"{temporary.name}{suffix}").unlink(missing_ok=True)


def _fetch(disk: Disk, number: int, temporary: Path) -> None:
    remove(temporary)
    descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW, 0o600)
    with open(descriptor, "wb") as target:
        for piece in disk.read_copy(number):
            target.write(piece)


def _check(file: Path, uuid: str, base: Base) -> Base:
    """Return a base with what its database says of itself. Raises LibraryError where that is not in order."""
    files.check_integrity(file)
    with closing(Tracking(file.parent, name=file.name)) as copy:
        if copy.library.uuid() != uuid:
            raise LibraryError(f"it is of another library ({copy.library.uuid()})")
        if not copy.is_as_made():
            raise LibraryError("its tables are not those of this vtlfs")
        for barcode in copy.media.barcodes():
            check_barcode(barcode)
        _check_time(copy.library.watermark().latest)
        made_at, commits = copy.copies.age()
        moves, is_whole = copy.library.watermark().moves, not copy.extents.has_unknown()
        return replace(base, made_at=made_at, commits=commits, moves=moves, is_whole=is_whole)


def _check_time(latest: str) -> None:
    try:
        if latest:
            values.time(latest)
    except (TypeError, VtlfsError):
        raise LibraryError("the highest time that it has is not a time") from None


def missed(database: Tracking, mark: Watermark) -> tuple[list[str], list[str]]:
    """Return what the disks know that the library had and a rebuilt database has not: losses, and what is no harm."""
    have = database.library.watermark()
    losses = []
    if (files := mark.tape_files - have.tape_files) > 0:
        erased = "; those of erased media may have been reclaimed" if database.relived.has_ended_volumes() else ""
        losses.append(f"{files:,} tape files that the library had, of which nothing was found{erased}")
    elif (size := mark.bytes - have.bytes) > 0:
        losses.append(f"{size:,} bytes of tape files that the library had were not found")
    if (media := mark.media - have.media) > 0:
        losses.append(f"{media:,} media that nobody wrote to; `vtlfs media add` adds them again")
    if mark.snapshot > have.snapshot:
        losses.append(f"snapshots from {have.snapshot + 1} to {mark.snapshot}, as far as they were not pruned")
    sessions = mark.sessions - have.sessions
    return losses, [f"{sessions:,} sessions that read, or wrote nothing, left no trace"] if sessions > 0 else []


def lacks_files(database: Tracking, mark: Watermark) -> bool:
    """Tell whether the library had more on tape, as its disks know, than a rebuilt database has."""
    have = database.library.watermark()
    return (have.tape_files, have.bytes) < (mark.tape_files, mark.bytes)


def finish(database: Tracking) -> None:
    """Look once more whether all of it fits together, and give it the form that mounts want. Raises LibraryError."""
    if not database.is_consistent():
        raise LibraryError("the rebuilt tracking database does not fit together; nothing was changed")
    database.set_journal_mode("WAL")
