"""A connection to a tracking database, of which nothing is believed before it was looked at.

Whoever could write to the library or to a disk may have made it what it is: its tables, its pages, and the files beside
it. What SQLite finds wrong is a TrackingError also where it comes to light only when the next row is asked for.
"""

import errno
import os
import sqlite3
import stat
from collections.abc import Iterator
from contextlib import closing
from functools import lru_cache
from pathlib import Path
from typing import Any

from vtlfs import blame
from vtlfs.engine.tracking.schema.steps import migrations
from vtlfs.errors import LibraryError, TrackingError

TABLES = "SELECT type, name, sql FROM sqlite_master WHERE name NOT LIKE 'sqlite_stat%' ORDER BY type, name"
BESIDE = ("-wal", "-shm", "-journal")  # files that SQLite opens by itself
REMEDY = "`vtlfs rebuild` makes a new one from the disks"

_NOT_TEXT = "Could not decode to UTF-8"  # how Python's message begins then

Objects = list[tuple[str, str, str | None]]


class Cursor(sqlite3.Cursor):
    """A cursor whose errors are TrackingErrors."""

    connection: "Connection"

    def __iter__(self) -> Iterator[Any]:  # type: ignore[override]
        try:
            while (row := super().fetchone()) is not None:
                yield row
        except sqlite3.DatabaseError as error:
            raise translated(error, self.connection.path) from error

    def fetchone(self) -> Any:
        """Return the next row, None without one."""
        try:
            return super().fetchone()
        except sqlite3.DatabaseError as error:
            raise translated(error, self.connection.path) from error

    def fetchall(self) -> list[Any]:
        """Return all rows."""
        try:
            return super().fetchall()
        except sqlite3.DatabaseError as error:
            raise translated(error, self.connection.path) from error


class Connection(sqlite3.Connection):
    """A connection with such cursors."""

    path: Path | None = None

    def execute(self, sql: str, parameters: Any = ()) -> sqlite3.Cursor:
        """Run one statement; return its cursor. Raises sqlite3.DatabaseError."""
        cursor: sqlite3.Cursor = self.cursor()
        try:
            return cursor.execute(sql, parameters)
        except UnicodeDecodeError:  # SQLite's own message has bytes of a damaged page in it
            raise sqlite3.DatabaseError(f"{_NOT_TEXT}: a page is damaged") from None

    def cursor(self, factory: Any = Cursor) -> Any:
        """Return a cursor."""
        return super().cursor(factory)


def check_files(path: Path) -> None:
    """Raise LibraryError unless the database is a file, and so are those beside it that SQLite would open."""
    if not path.is_file():
        raise LibraryError(f"{path}: the tracking database is missing; {REMEDY}")
    real = os.path.realpath(path)
    for suffix in BESIDE:
        try:
            mode = os.lstat(f"{real}{suffix}").st_mode
        except OSError:
            continue
        if not stat.S_ISREG(mode):
            raise LibraryError(f"{real}{suffix}: no regular file is in its place; move it away")


def check_tables(path: Path, connection: sqlite3.Connection, *, exported: bool) -> None:
    """Raise LibraryError unless the tables are those that vtlfs makes. An export has but some, and no triggers.

    What somebody has added for queries of his own is no harm, but a trigger would change something by itself.
    """
    found = {(kind, name): text for kind, name, text in connection.execute(TABLES)}
    known = {(kind, name): text for kind, name, text in fresh_tables()}
    if exported:
        names = {name for kind, name in known if kind == "table"}
        wrong = [name for kind, name in found if kind == "trigger" or (kind == "view" and name in names)]
    else:
        wrong = [name for (kind, name), text in known.items() if kind == "table" and found.get((kind, name)) != text]
        wrong += [name for (kind, name), text in found.items() if kind == "trigger" and known.get((kind, name)) != text]
    if wrong:
        raise LibraryError(f"{path}: {min(wrong)} in it is not as vtlfs makes it; move the file away, and {REMEDY}")


def set_journal(path: Path, connection: sqlite3.Connection) -> None:
    """Have the database keep a write-ahead log. Raises LibraryError.

    The mode is kept in the file: a copy that somebody puts in its place has another one, with which a reader that has a
    transaction open keeps writers out.
    """
    try:
        if connection.execute("PRAGMA journal_mode").fetchone()[0] == "wal":
            return
        (mode,) = connection.execute("PRAGMA journal_mode = WAL").fetchone()
    except sqlite3.DatabaseError as error:
        raise unusable(path, error) from None
    if mode != "wal":
        raise LibraryError(f"{path}: SQLite keeps no write-ahead log here; its file system must allow shared memory")


def fresh_tables() -> Objects:
    """Return what a new tracking database is made of."""
    return _made_by(tuple(migrations.steps))


@lru_cache
def _made_by(names: tuple[str, ...]) -> Objects:
    with closing(sqlite3.connect(":memory:")) as connection:
        migrations.make(connection)
        return connection.execute(TABLES).fetchall()


def unusable(path: Path, error: sqlite3.DatabaseError) -> LibraryError:
    """Return the error of a database that can't be opened, with what to do about it."""
    code = getattr(error, "sqlite_errorcode", 0) & 0xFF
    if _is_damage(error) or code == sqlite3.SQLITE_ERROR:  # the latter: it has other columns than it is to have
        return LibraryError(f"{path}: {_first_line(error)}; {REMEDY}")
    if code in (sqlite3.SQLITE_CANTOPEN, sqlite3.SQLITE_READONLY, sqlite3.SQLITE_PERM):
        return LibraryError(
            f"{path}: {error}; only the library's owner can use it, on a file system that can be written"
        )
    return LibraryError(f"{path}: {error}")


def _is_damage(error: sqlite3.DatabaseError) -> bool:
    """Tell whether the database is damaged. Python gives no code where a text in it can't be decoded."""
    code = getattr(error, "sqlite_errorcode", 0) & 0xFF
    return code in (sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB) or str(error).startswith(_NOT_TEXT)


def _first_line(error: sqlite3.DatabaseError) -> str:
    """Return an error's message; not the text that could not be decoded, which may be long."""
    return _NOT_TEXT if str(error).startswith(_NOT_TEXT) else str(error).split("\n", 1)[0]


def translated(error: sqlite3.DatabaseError, path: Path | None = None) -> TrackingError:
    """Name SQLite's error by the errno that a program should see: a full disk is not a broken one.

    `path` is the database's, if known, for a limit of this process is not the disk's fault either.
    """
    remedy = f"; {REMEDY}" if _is_damage(error) else ""
    number = errno_of(error, path)
    what = os.strerror(number) if blame.is_limit(number) else f"{_first_line(error)}{remedy}"
    return TrackingError(what, number)


def errno_of(error: sqlite3.Error, path: Path | None = None) -> int:
    """Return the errno behind an error of SQLite, which tells none: of the database `path` and the files beside it."""
    code = getattr(error, "sqlite_errorcode", 0) & 0xFF
    files = [] if path is None else [path, *(path.with_name(f"{path.name}{suffix}") for suffix in BESIDE)]
    if code in (sqlite3.SQLITE_IOERR, sqlite3.SQLITE_FULL) and blame.meets_file_limit(files):
        return errno.EFBIG
    if code in (sqlite3.SQLITE_CANTOPEN, sqlite3.SQLITE_IOERR):
        try:
            os.close(os.open(os.devnull, os.O_RDONLY | os.O_CLOEXEC))
        except OSError as short:  # of descriptors, as SQLite was
            return short.errno or errno.EIO
    return errno.ENOSPC if code == sqlite3.SQLITE_FULL else errno.EIO
