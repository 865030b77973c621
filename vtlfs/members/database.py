"""The member index's own database, `members.db` beside the catalogue: made, looked at, filled.

SQL is here, in `filling` and in `finding`. A `MemberIndex` belongs to one thread at a time, and blocks. One process at
a time writes (the lease `index`); any number read meanwhile. What is wrong with the database is an `IndexDamaged`,
never an error of the library: whoever writes makes it anew.
"""

import os
import sqlite3
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing, contextmanager, suppress
from pathlib import Path
from typing import Any, TypeVar

from vtlfs.durable import follow_owner
from vtlfs.errors import IndexDamaged, IndexUnusable, NoIndex
from vtlfs.failpoints import reached
from vtlfs.members.tables import TABLES, VERSION
from vtlfs.members.values import ArchiveMember, Entry, IndexedStream, Kind, StreamState

FILE_NAME = "members.db"
LEASE = "index"  # of the one who writes
BUSY_SECONDS = 60.0
CACHE_KIB = 16 * 1024
_BESIDE = ("", "-wal", "-shm", "-journal")

MEMBER = (
    "member.id, archive.stream, directory.path || path.name, member.kind, member.size, member.mtime, member.link,"
    " member.start, member.length, archive.start, archive.format, archive.compression"
)
OF_MEMBER = (
    "JOIN path ON path.id = member.path JOIN directory ON directory.id = path.directory"
    " JOIN archive ON archive.id = (SELECT id FROM archive WHERE first <= member.id ORDER BY first DESC LIMIT 1)"
)
_OF_PATH = "path CROSS JOIN directory ON directory.id = path.directory CROSS JOIN member ON member.path = path.id"
T = TypeVar("T")
_STREAM = "SELECT session, bytes, state, members, note FROM stream"


class MemberIndex:
    """See the module. Close it after use."""

    def __init__(self, connection: sqlite3.Connection, path: Path) -> None:
        self._connection = connection
        self.path = path

    @classmethod
    def open(cls, library: Path, uuid: str) -> "MemberIndex":
        """Open the index of a library for reading. `library`: its directory; `uuid`: its own.

        Raises NoIndex where there is none yet, IndexDamaged.
        """
        path = library / FILE_NAME
        if not path.is_file():
            raise NoIndex(str(library))
        return cls._opened(path, uuid, read_only=True)

    @classmethod
    def make(cls, library: Path, uuid: str, *, anew: bool = False) -> "MemberIndex":
        """Open the index of a library for writing; make it where there is none, or it is damaged. Holds the lease.

        `anew`: also where it is sound. Raises IndexUnusable where that fails.
        """
        path = library / FILE_NAME
        if not anew and path.exists():
            with suppress(IndexDamaged):
                return cls._opened(path, uuid, read_only=False)
        try:
            _create(path, uuid)
        except OSError as error:
            raise IndexUnusable(f"{path}: {error.strerror}") from None
        return cls._opened(path, uuid, read_only=False)

    @classmethod
    def _opened(cls, path: Path, uuid: str, *, read_only: bool) -> "MemberIndex":
        connection = _connect(path, read_only=read_only)
        try:
            version = connection.execute("PRAGMA user_version").fetchone()[0]
            if version != VERSION:
                raise IndexDamaged(str(path), f"it is of version {version}, not {VERSION}")
            found = connection.execute("SELECT uuid FROM catalogue").fetchone()
            if found != (uuid,):
                raise IndexDamaged(str(path), "it is of another library")
        except sqlite3.DatabaseError as error:
            connection.close()
            raise _translated(error, path) from None
        except BaseException:
            connection.close()
            raise
        return cls(connection, path)

    def close(self) -> None:
        """Close the connection."""
        self._connection.close()

    # --- looking at streams -----------------------------------------------------------------------------------------

    def stream(self, session: int) -> IndexedStream | None:
        """Return what is known of a stream, by the identifier of its first session; None: nothing yet."""
        return next(self._streams(f"{_STREAM} WHERE session = ?", session), None)

    def streams(self) -> Iterator[IndexedStream]:
        """Yield all streams, by identifier."""
        return self._streams(f"{_STREAM} ORDER BY session")

    def pending(self, limit: int | None = None) -> list[int]:
        """Return the identifiers of streams that are to be indexed, the oldest first."""
        rows = self.rows(
            "SELECT session FROM stream WHERE state = 'pending' ORDER BY session LIMIT ?",
            -1 if limit is None else limit,
        )
        return [row[0] for row in rows]

    def counts(self) -> dict[StreamState, int]:
        """Return how many streams there are of each state."""
        found = dict(self.made(_count_of, "SELECT state, count(*) FROM stream GROUP BY 1"))
        return {state: found.get(state, 0) for state in StreamState}

    def count_members(self) -> int:
        """Return how many members there are in all streams."""
        return int(next(self.rows("SELECT coalesce(sum(members), 0) FROM stream"))[0])

    def position(self) -> tuple[int, int, int]:
        """Return up to which tape file streams are known, by ordinal and session; and up to which event."""
        ordinal, session, event = next(self.rows("SELECT ordinal, session, event FROM catalogue"))
        return ordinal, session, event

    def note_event(self, number: int) -> None:
        """Note that volumes that were reclaimed up to this event are forgotten."""
        self.run("UPDATE catalogue SET event = ?", number)

    # --- looking at members -----------------------------------------------------------------------------------------

    def member(self, number: int) -> ArchiveMember | None:
        """Return a member by its `id`; None: there is none. Identifiers change when the index is made anew."""
        return next(self._members("member.id = ?", number), None)

    def named(self, session: int, path: str) -> list[ArchiveMember]:
        """Return the members of a stream with exactly this path, in the order of the archive: the last one counts."""
        directory, name = split(path)
        first, last = self._range(session)
        found = self._members(
            "member.path = (SELECT path.id FROM path JOIN directory ON directory.id = path.directory"
            " WHERE directory.path = CAST(? AS TEXT) AND name = CAST(? AS TEXT)) AND member.id BETWEEN ? AND ?",
            *(raw_bytes(directory), raw_bytes(name), first, last),
        )
        return sorted(found, key=lambda member: member.id)

    def members(self, session: int) -> Iterator[ArchiveMember]:
        """Yield all members of a stream, in the order of the archive."""
        return self._members("member.id BETWEEN ? AND ? ORDER BY member.id", *self._range(session))

    def below(self, session: int, path: str) -> Iterator[ArchiveMember]:
        """Yield the member of a path in a stream, and all that lie in it, in the order of the archive."""
        base = path.rstrip("/") if path.strip("/") else path
        yield from self._members(
            "member.id BETWEEN ?1 AND ?2 AND (directory.path || path.name = CAST(?3 AS TEXT) OR"
            " substr(directory.path, 1, length(CAST(?4 AS TEXT))) = CAST(?4 AS TEXT)) ORDER BY member.id",
            *(*self._range(session), raw_bytes(base), raw_bytes(_as_directory(base))),
        )

    def listing(self, session: int, path: str = "") -> list[Entry]:
        """Return what lies in a directory of a stream, by name: the root has the path ''.

        The root has an entry `/` where paths are absolute. Of members of the same path, the last one counts.
        """
        directory = raw_bytes(_as_directory(path))
        first, last = self._range(session)
        found: dict[str, Entry] = {}
        for (inside,) in self.rows(
            "SELECT below.path FROM directory AS here JOIN directory AS below ON below.parent = here.id"
            " JOIN occurrence ON occurrence.directory = below.id AND occurrence.stream = ?"
            " WHERE here.path = CAST(? AS TEXT)",
            *(session, directory),
        ):
            name = inside if inside == "/" else inside[:-1]
            found[name] = Entry(name, True, None)
        for member in self._members(
            "path.directory = (SELECT id FROM directory WHERE path = CAST(? AS TEXT)) AND member.id BETWEEN ? AND ?"
            " ORDER BY member.id",
            *(directory, first, last),
            order=_OF_PATH,
        ):
            known = found.get(member.path)
            is_directory = member.kind is Kind.DIRECTORY or (known is not None and known.is_directory)
            if member.path:
                found[member.path] = Entry(member.path, is_directory, member)
        return [found[name] for name in sorted(found)]

    def holders(self, path: str) -> set[int]:
        """Return the streams that have a member of exactly this path, or any that lies in it."""
        directory, name = split(path)
        found = self.rows(
            "SELECT DISTINCT archive.stream FROM path JOIN directory ON directory.id = path.directory"
            " JOIN member ON member.path = path.id JOIN archive ON archive.id ="
            " (SELECT id FROM archive WHERE first <= member.id ORDER BY first DESC LIMIT 1)"
            " WHERE directory.path = CAST(?1 AS TEXT) AND name = CAST(?2 AS TEXT)"
            " UNION SELECT occurrence.stream FROM directory JOIN occurrence ON occurrence.directory = directory.id"
            " WHERE directory.path = CAST(?3 AS TEXT)",
            *(raw_bytes(directory), raw_bytes(name), raw_bytes(_as_directory(path))),
        )
        return {row[0] for row in found}

    def _range(self, session: int) -> tuple[int, int]:
        row = next(self.rows("SELECT first, last FROM stream WHERE session = ?", session), None)
        return (0, -1) if row is None else (row[0], row[1])

    def _members(self, where: str, *values: object, order: str | None = None) -> Iterator[ArchiveMember]:
        tables = f"member {OF_MEMBER}" if order is None else f"{order} {OF_MEMBER[OF_MEMBER.index('JOIN archive') :]}"
        return self.made(member_of, f"SELECT {MEMBER} FROM {tables} WHERE {where}", *values)

    def _streams(self, sql: str, *values: object) -> Iterator[IndexedStream]:
        return self.made(_stream_of, sql, *values)

    # --- statements -------------------------------------------------------------------------------------------------

    def rows(self, sql: str, *values: object) -> Iterator[tuple[Any, ...]]:
        """Yield the rows of a statement. For this package only. Raises IndexDamaged."""
        try:
            for row in self._connection.execute(sql, values):  # noqa: UP028  would close it after the connection
                yield row
        except sqlite3.DatabaseError as error:
            raise _translated(error, self.path) from None

    def made(self, make: Callable[[tuple[Any, ...]], T], sql: str, *values: object) -> Iterator[T]:
        """Yield what the rows of a statement mean. For this package only. Raises IndexDamaged."""
        for row in self.rows(sql, *values):
            try:
                found = make(row)
            except (ValueError, TypeError):
                raise IndexDamaged(str(self.path), "a row makes no sense") from None
            yield found

    def run(self, sql: str, *values: object) -> int:
        """Run a statement that changes rows; return how many. For this package only. Raises IndexDamaged."""
        try:
            return self._connection.execute(sql, values).rowcount
        except sqlite3.DatabaseError as error:
            raise _translated(error, self.path) from None

    def run_many(self, sql: str, values: Sequence[Sequence[object]]) -> None:
        """Run a statement for each row of values. For this package only. Raises IndexDamaged."""
        try:
            self._connection.executemany(sql, values)
        except sqlite3.DatabaseError as error:
            raise _translated(error, self.path) from None

    @contextmanager
    def transaction(self) -> Iterator[None]:
        """Run the block in one transaction, rolled back where the block raises. Raises IndexDamaged."""
        self.run("BEGIN IMMEDIATE")
        try:
            yield
            self.run("COMMIT")
        except BaseException:
            with suppress(sqlite3.DatabaseError):
                self._connection.rollback()
            raise
        reached("members.committed")


def member_of(row: tuple[Any, ...]) -> ArchiveMember:
    """Return a row of the columns MEMBER as a value."""
    number, session, path, kind, size, mtime, link, start, length, archive_start, form, compression = row
    end = start + length
    return ArchiveMember(
        number, session, path, Kind(kind), size, mtime, link, start, end, archive_start, form, compression
    )


def _stream_of(row: tuple[Any, ...]) -> IndexedStream:
    session, size, state, members, note = row
    return IndexedStream(session, size, StreamState(state), members, note)


def _count_of(row: tuple[Any, ...]) -> tuple[StreamState, int]:
    return StreamState(row[0]), int(row[1])


def split(path: str) -> tuple[str, str]:
    """Return the directory of a path, with the slash at its end, and the last component."""
    if not path.strip("/"):
        return path, ""
    directory, slash, name = path.rstrip("/").rpartition("/")
    return directory + slash, name


def parent(directory: str) -> str | None:
    """Return the directory in which a directory lies, both with the slash at their ends; None for the root, ''."""
    if not directory:
        return None
    return split(directory)[0] if directory.strip("/") else ""


def _as_directory(path: str) -> str:
    return path if not path or path.endswith("/") else path + "/"


def raw_bytes(text: str) -> bytes:
    """Return a text as SQLite is given it: its own bytes, which need not be UTF-8."""
    return text.encode("utf-8", "surrogateescape")


def _translated(error: sqlite3.DatabaseError, path: Path) -> IndexUnusable:
    """Return the error of an SQLite error: damaged, or of no use just now."""
    code = getattr(error, "sqlite_errorcode", sqlite3.SQLITE_CORRUPT) & 0xFF
    said = str(error).split("\n", 1)[0]
    if code in (sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB, sqlite3.SQLITE_ERROR):  # SQLITE_ERROR: no such table
        return IndexDamaged(str(path), said)
    return IndexUnusable(f"{path}: {said}")


def _create(path: Path, uuid: str) -> None:
    """Make an empty index under a temporary name, and put it into the place of the one that is there. Raises OSError.

    So whoever reads meanwhile finds the old one, none, or the new one as a whole.
    """
    new = path.with_name(f"{path.name}.new")
    for suffix in _BESIDE:
        new.with_name(new.name + suffix).unlink(missing_ok=True)
    descriptor = os.open(new, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
    try:
        follow_owner(descriptor, path.parent)  # SQLite gives the files that it makes beside the database to its owner
    finally:
        os.close(descriptor)
    try:
        with closing(_connect(new, read_only=False)) as connection:
            connection.executescript(f"BEGIN; {TABLES}; PRAGMA user_version = {VERSION}; COMMIT")
            connection.execute("INSERT INTO catalogue VALUES (?, 0, 0, 0)", (uuid,))
            connection.execute("INSERT INTO directory VALUES (0, NULL, '')")
            connection.execute("PRAGMA journal_mode = WAL")
    except sqlite3.DatabaseError as error:
        raise _translated(error, new) from None
    for suffix in _BESIDE:
        path.with_name(path.name + suffix).unlink(missing_ok=True)
    reached("members.removed")
    new.rename(path)
    reached("members.made")


def _connect(path: Path, *, read_only: bool) -> sqlite3.Connection:
    try:
        connection = sqlite3.connect(
            f"{path.absolute().as_uri()}?mode=rw",  # never makes one
            uri=True,
            timeout=BUSY_SECONDS,
            check_same_thread=False,
            isolation_level=None,
        )
    except sqlite3.DatabaseError as error:
        raise _translated(error, path) from None
    connection.text_factory = lambda raw: raw.decode("utf-8", "surrogateescape")
    try:
        for pragma in (
            "trusted_schema = OFF",
            "cell_size_check = ON",
            f"query_only = {'ON' if read_only else 'OFF'}",
            "synchronous = NORMAL",
            f"cache_size = -{CACHE_KIB}",
            "temp_store = MEMORY",
        ):
            connection.execute(f"PRAGMA {pragma}")
    except sqlite3.DatabaseError as error:
        connection.close()
        raise _translated(error, path) from None
    return connection
