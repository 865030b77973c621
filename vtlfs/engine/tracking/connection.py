"""A connection to a tracking database that is checked before it is used.

Anybody who may write to the library or to a disk may have changed the database's tables and pages, and the files beside
it. An error of SQLite is a TrackingError, also an error that comes only when the next row is fetched.
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

_NOT_TEXT = "Could not decode to UTF-8"  # the beginning of Python's message about a text in a damaged page

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
    """A connection whose cursors raise TrackingErrors."""

    path: Path | None = None

    def execute(self, sql: str, parameters: Any = ()) -> sqlite3.Cursor:
        """Run one statement; return its cursor. Raises sqlite3.DatabaseError."""
        cursor: sqlite3.Cursor = self.cursor()
        try:
            return cursor.execute(sql, parameters)
        except UnicodeDecodeError:  # SQLite's message quotes bytes of a damaged page
            raise sqlite3.DatabaseError(f"{_NOT_TEXT}: a page is damaged") from None

    def cursor(self, factory: Any = Cursor) -> Any:
        """Return a cursor."""
        return super().cursor(factory)


def check_files(path: Path) -> None:
    """Raise LibraryError unless the database is a regular file, and so is each file beside it that SQLite opens."""
    if not path.is_file():
        raise LibraryError(f"{path}: the tracking database is missing; {REMEDY}")
    real = os.path.realpath(path)
    for suffix in BESIDE:
        try:
            mode = os.lstat(f"{real}{suffix}").st_mode
        except OSError:
            continue
        if not stat.S_ISREG(mode):
            raise LibraryError(f"{real}{suffix}: is no regular file, though SQLite would open it; move it away")


def check_tables(path: Path, connection: sqlite3.Connection, *, exported: bool) -> None:
    """Raise LibraryError unless the tables are those that vtlfs makes; an export has only some, and no triggers.

    Tables, indexes and views that a user has added do no harm. A foreign trigger is refused, since it changes rows.
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
    """Make the database keep a write-ahead log. Raises LibraryError.

    The database file keeps the mode. A copy of the database that a user has put in place has another mode, in which an
    open read transaction keeps writers out.
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
    """Return the tables, indexes, triggers and views of a new tracking database."""
    return _made_by(tuple(migrations.steps))


@lru_cache
def _made_by(names: tuple[str, ...]) -> Objects:
    with closing(sqlite3.connect(":memory:")) as connection:
        migrations.make(connection)
        return connection.execute(TABLES).fetchall()


def unusable(path: Path, error: sqlite3.DatabaseError) -> LibraryError:
    """Return the error of a database that can't be opened, with what to do about it."""
    code = getattr(error, "sqlite_errorcode", 0) & 0xFF
    if _is_damage(error) or code == sqlite3.SQLITE_ERROR:  # SQLITE_ERROR: a column is missing
        return LibraryError(f"{path}: {_first_line(error)}; {REMEDY}")
    if code in (sqlite3.SQLITE_CANTOPEN, sqlite3.SQLITE_READONLY, sqlite3.SQLITE_PERM):
        return LibraryError(f"{path}: {error}; {_what_it_needs(path.parent)}")
    if errno_of(error, path) == errno.ENOSPC:
        return LibraryError(f"{path}: {os.strerror(errno.ENOSPC)}; make room on the file system of the library")
    return LibraryError(f"{path}: {error}")


def _is_damage(error: sqlite3.DatabaseError) -> bool:
    """Tell whether the error is damage to the database. Python's error about undecodable text has no code."""
    code = getattr(error, "sqlite_errorcode", 0) & 0xFF
    return code in (sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB) or str(error).startswith(_NOT_TEXT)


def _first_line(error: sqlite3.DatabaseError) -> str:
    """Return the first line of an error's message, without the undecodable text, which may be long."""
    return _NOT_TEXT if str(error).startswith(_NOT_TEXT) else str(error).split("\n", 1)[0]


def translated(error: sqlite3.DatabaseError, path: Path | None = None) -> TrackingError:
    """Return the TrackingError of an SQLite error, with the errno that a program on the mount sees.

    `path`: of the database, if known; `errno_of` needs it to tell a file size limit from a fault of the disk.
    """
    remedy = f"; {REMEDY}" if _is_damage(error) else ""
    number = errno_of(error, path)
    what = os.strerror(number) if blame.is_limit(number) else f"{_first_line(error)}{remedy}"
    return TrackingError(what, number)


def errno_of(error: sqlite3.Error, path: Path | None = None) -> int:
    """Return the errno behind an SQLite error, which has none. `path`: of the database, if known."""
    code = getattr(error, "sqlite_errorcode", 0) & 0xFF
    files = [] if path is None else [path, *(path.with_name(f"{path.name}{suffix}") for suffix in BESIDE)]
    if code in (sqlite3.SQLITE_IOERR, sqlite3.SQLITE_FULL) and blame.meets_file_limit(files):
        return errno.EFBIG
    if code in (sqlite3.SQLITE_CANTOPEN, sqlite3.SQLITE_IOERR):
        try:
            os.close(os.open(os.devnull, os.O_RDONLY | os.O_CLOEXEC))
        except OSError as short:  # this process has no descriptor left, so SQLite had none
            return short.errno or errno.EIO
    is_full = code == sqlite3.SQLITE_FULL or (
        getattr(error, "sqlite_errorcode", 0) == sqlite3.SQLITE_IOERR_SHMSIZE and path is not None and _is_full(path)
    )
    return errno.ENOSPC if is_full else errno.EIO


def _what_it_needs(library: Path) -> str:
    """Return what a library needs that can't be opened or written, in words."""
    if is_read_only(library):
        return "its file system is read-only, and must be writable, also to look at the library"
    if library.stat().st_uid == os.geteuid():
        return "the library's owner needs to read and write it and its files: chmod -R u+rwX"
    return "only the library's owner can use it"


def is_read_only(path: Path) -> bool:
    """Tell whether a path's file system is mounted read-only."""
    try:
        return bool(os.statvfs(path).f_flag & os.ST_RDONLY)
    except OSError:
        return False


def _is_full(path: Path) -> bool:
    """Tell whether the file system of a file has no byte left."""
    try:
        return os.statvfs(path).f_bavail == 0
    except OSError:
        return False
