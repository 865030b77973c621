"""What a rebuilt tracking database begins with: the newest copy on the disks that is in order, or an empty database."""

import os
import sqlite3
from collections.abc import Sequence
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path

from vtlfs.engine import copies, tracking
from vtlfs.engine.connection import TABLES, fresh_tables
from vtlfs.engine.tracking import Tracking
from vtlfs.errors import LibraryError, UsageError, VtlfsError
from vtlfs.model import DiskRecord, check_barcode

NO_COPY = (
    "no copy of the tracking database is on the disks: media that nobody wrote to, capacities, loaded drives, sessions"
    " that read, mounts and snapshots can't come back"
)
NO_DRIVES = 0


@dataclass(frozen=True, slots=True)
class Base:
    """The copy that a database was begun with: on which disk, its number, and when it was made."""

    path: Path
    number: int
    made_at: str


def begin(
    temporary: Path, uuid: str, disks: dict[int, Path], records: Sequence[DiskRecord]
) -> tuple[Base | None, list[str]]:
    """Put the newest copy that is in order at `temporary`, or an empty database with the `records` of the disks.

    Return which copy, None without one, and what is wrong with newer ones.
    """
    refused: list[str] = []
    found: list[tuple[int, int]] = []
    for disk, path in disks.items():
        try:
            found += [(number, disk) for number in copies.numbers(path)]
        except OSError as error:
            refused.append(f"disk {disk} ({path}): {copies.DIRECTORY}: {error.strerror}")
    newest = max(found, default=(0, 0))[0]
    for number, disk in sorted(found, key=lambda one: (-one[0], one[1])):
        path = copies.path_of(disks[disk], number)
        try:
            _fetch(disks[disk], number, temporary)
            made_at = _check(temporary, uuid)
        except (VtlfsError, OSError, sqlite3.Error, UsageError) as error:
            why = error.strerror if isinstance(error, OSError) else str(error).removeprefix(f"{temporary}: ")
            refused.append(f"{path}: not used: {why}")
            continue
        _count_on(temporary, newest)
        return Base(path, number, made_at), refused
    remove(temporary)
    tracking.create(temporary.parent, uuid, records, NO_DRIVES, records[0].added_at, name=temporary.name)
    _count_on(temporary, newest)
    return None, [*refused, NO_COPY]


def remove(temporary: Path) -> None:
    """Remove a database that was not finished."""
    for suffix in ("", "-wal", "-shm", "-journal"):
        temporary.with_name(f"{temporary.name}{suffix}").unlink(missing_ok=True)


def _fetch(disk: Path, number: int, temporary: Path) -> None:
    remove(temporary)
    descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW, 0o600)
    try:
        copies.fetch(disk, number, descriptor)
    finally:
        os.close(descriptor)


def _check(file: Path, uuid: str) -> str:
    """Return when a copy was made. Raises LibraryError where it is not in order, to the last row."""
    with closing(sqlite3.connect(file)) as connection:
        connection.execute("PRAGMA trusted_schema = OFF")
        if connection.execute("PRAGMA integrity_check").fetchall() != [("ok",)]:
            raise LibraryError("it is damaged")
        if connection.execute("PRAGMA foreign_key_check").fetchone():
            raise LibraryError("its tables do not fit together")
    with closing(Tracking(file.parent, name=file.name)) as copy:
        if copy.library_uuid() != uuid:
            raise LibraryError(f"it is of another library ({copy.library_uuid()})")
        if copy.execute(TABLES).fetchall() != fresh_tables():
            raise LibraryError("its tables are not those of this vtlfs")
        for (barcode,) in copy.execute("SELECT barcode FROM medium"):
            check_barcode(barcode)
        return str(copy.one("SELECT coalesce(begun_at, created_at) FROM copy, library")[0])


def _count_on(temporary: Path, newest: int) -> None:
    """Have the next copy be newer than any on the disks, and made soon."""
    with closing(sqlite3.connect(temporary)) as connection, connection:
        connection.execute(
            "UPDATE copy SET number = max(number, ?), begun_at = NULL, again_at = NULL, state = NULL", (newest,)
        )


class Ended:
    """Asks which sessions have ended, in a thread of its own, while nobody changes the database."""

    def __init__(self, file: Path) -> None:
        self._connection = sqlite3.connect(f"{file.as_uri()}?mode=ro", uri=True, check_same_thread=False)

    def among(self, first: int, last: int) -> set[int]:
        """Return those of the sessions `first` to `last` that have ended."""
        rows = self._connection.execute(
            "SELECT id FROM session WHERE id BETWEEN ? AND ? AND state <> 'open'", (first, last)
        )
        return {row[0] for row in rows}

    def close(self) -> None:
        """Close the connection."""
        self._connection.close()


def add_disks(database: Tracking, records: Sequence[DiskRecord]) -> None:
    """Add the disks that the database does not know."""
    for disk in records:
        database.execute(
            "INSERT INTO disk (number, uuid, path, added_at) VALUES (?, ?, ?, ?) ON CONFLICT DO NOTHING",
            *(disk.number, disk.uuid, disk.path, disk.added_at),
        )


def finish(database: Tracking) -> None:
    """Look once more whether all of it fits together, and give it the form that mounts want. Raises LibraryError."""
    if database.first("PRAGMA foreign_key_check"):
        raise LibraryError("the rebuilt tracking database does not fit together; nothing was changed")
    database.execute("PRAGMA journal_mode = WAL")
