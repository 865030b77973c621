"""The tracking database: every SQL statement of the product stands here, behind verbs that return frozen values.

A `Tracking` belongs to one thread at a time. Its methods are synchronous. Those that change something are to be called
inside `transaction()`, so that a caller can put several into one commit.
"""

import errno
import json
import os
import sqlite3
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any, cast

from vtlfs import blame
from vtlfs.durable import check_synced
from vtlfs.engine.tracking.connection import Connection, check_files, check_tables, set_journal, translated, unusable
from vtlfs.engine.tracking.migrations import has_table
from vtlfs.engine.tracking.rows import (
    check_follows,
    contradiction,
    medium_of,
    number_of,
    session_of,
    stripe_unit_of,
    tape_file_of,
)
from vtlfs.engine.tracking.schema import migrations
from vtlfs.engine.tracking.sqlite_tools import sqlite_utils
from vtlfs.errors import (
    LibraryError,
    MediumFull,
    NoSuchDrive,
    NoSuchMedium,
    NoSuchSession,
    NoSuchTapeFile,
    SessionEnded,
    TrackingError,
    UsageError,
)
from vtlfs.failpoints import reached
from vtlfs.model import (
    Access,
    DiskRecord,
    Drive,
    Medium,
    Mount,
    Opener,
    Session,
    State,
    StripeUnit,
    TapeFile,
    Watermark,
)

FILE_NAME = "tracking.db"
BUSY_SECONDS = 60.0
WATERMARK = (
    "commits, next_session, epoch, media, sessions, tape_files, bytes,"
    " (SELECT coalesce(max(id), 0) FROM snapshot) AS snapshot"
)  # what `Watermark` wants

_MEDIUM = "id, barcode, capacity, bytes, tape_files, reserved, added_at, written_at"
SESSION = (
    "id, mount, host, pid, uid, gid, program, access, drive, medium, state, error, opened_at, released_at, "
    "bytes, requests, reserved, stripe_unit, disks, tape_file"
)  # what `session_of` wants
_TAPE_FILE = (
    "tape_file.medium, number, session, start, tape_file.bytes, stripe_unit, tape_file.released_at, host,"
    " (session.medium, session.tape_file, session.bytes) IS (tape_file.medium, number, tape_file.bytes) "
    "FROM tape_file JOIN main.session AS session ON session.id = tape_file.session"  # these never change
)  # what `tape_file_of` wants


@dataclass(frozen=True, slots=True)
class SessionFilter:
    """Which sessions to list; None and False do not restrict. At most `limit`, the newest."""

    medium: str | None = None
    drive: int | None = None
    host: str | None = None
    open_only: bool = False
    limit: int | None = None


@dataclass(frozen=True, slots=True)
class Counters:
    """How much a library has; `bytes` are those in tape files."""

    media: int
    sessions: int
    tape_files: int
    bytes: int


class Tracking:
    """One connection to a library's tracking database.

    `on_commit` is called after each durable commit that has changed something, before `transaction` returns. `frozen`:
    transactions are not counted, since the database is older than the disks, and is to stay so for whoever looks next.
    """

    def __init__(self, library: Path, *, read_only: bool = False, name: str = FILE_NAME) -> None:
        """Open the database of the library. Raises LibraryError where it is missing, newer or not one of ours.

        An older one is brought up to date; with `read_only`, which never writes, it is a LibraryError too. `name`: of
        the file in that directory, where it is another one, such as an exported snapshot.
        """
        path = library / name
        check_files(path)
        try:
            connection = sqlite3.connect(path, timeout=BUSY_SECONDS, check_same_thread=False, factory=Connection)
        except sqlite3.DatabaseError as error:
            raise unusable(path, error) from None
        try:
            if read_only:
                connection.execute("PRAGMA query_only = ON")
            connection.execute("PRAGMA trusted_schema = OFF")
            connection.execute("PRAGMA cell_size_check = ON")
            _check(path, connection, read_only)
            check_tables(path, connection, exported=name != FILE_NAME and read_only)
            connection.execute("PRAGMA foreign_keys = ON")
            connection.execute("PRAGMA synchronous = FULL")
            connection.path = path
            if name == FILE_NAME and not read_only:
                set_journal(path, connection)
        except BaseException:
            connection.close()
            raise
        self._connection = connection
        self._path = path
        self._durable = True
        self._log: int | None = None  # a descriptor of the write-ahead log
        self.on_commit: Callable[[Watermark], object] | None = None
        self.frozen = False

    def close(self) -> None:
        """Close the connection."""
        log, self._log = self._log, None
        if log is not None:
            os.close(log)
        self._connection.close()

    @contextmanager
    def transaction(self, *, durable: bool = True) -> Iterator[None]:
        """Run the block in one transaction; it is committed at the end, and rolled back if the block raises.

        `durable`: the commit survives a power cut; it costs a sync of the write-ahead log. Nested, it is a savepoint.
        Raises TrackingError where SQLite can't commit.
        """
        try:
            if self.in_transaction:
                with self._savepoint():
                    yield
                return
            if durable != self._durable:
                self._connection.execute(f"PRAGMA synchronous = {'FULL' if durable else 'NORMAL'}")
                self._durable = durable
            self._connection.execute("BEGIN IMMEDIATE")
            try:
                before = self._connection.total_changes
                yield
                watermark = None if self._connection.total_changes == before else self._count_commit()
                reached("transaction.commit")
                self._connection.execute("COMMIT")
            except BaseException:
                self._connection.rollback()
                raise
            reached("transaction.committed")
            if durable:
                self._check_log()
            if durable and watermark is not None and self.on_commit is not None:
                self.on_commit(watermark)
        except sqlite3.DatabaseError as error:
            raise translated(error, self._path) from error

    @property
    def in_transaction(self) -> bool:
        """Tell whether a transaction is under way."""
        return self._connection.in_transaction

    def _check_log(self) -> None:
        """Raise TrackingError unless a commit that has just been synced can be believed.

        The descriptor is kept, since one may be hard to get later. Closing it costs SQLite no lock: those are on other
        files.
        """
        try:
            if self._log is None:
                self._log = os.open(self._log_path, os.O_RDONLY | os.O_CLOEXEC)
            check_synced(self._log)
        except FileNotFoundError:  # without one, as for a database that is thrown away where it fails
            pass
        except OSError as error:
            if not blame.is_limit(error.errno or errno.EIO):
                raise TrackingError(f"{self._log_path}: {error.strerror}", error.errno or errno.EIO) from error

    @property
    def _log_path(self) -> str:
        return f"{os.path.realpath(self._path)}-wal"  # where SQLite has it

    def _count_commit(self) -> Watermark | None:
        if self.frozen:
            return None
        row = self.one(f"UPDATE library SET commits = commits + 1 RETURNING {WATERMARK}")
        return Watermark(*row)

    def _savepoint(self) -> AbstractContextManager[object]:
        """Return what runs a block as a part of a transaction that leaves nothing behind if it raises."""
        database = sqlite_utils().Database(self._connection, execute_plugins=False)
        return cast(AbstractContextManager[object], database.atomic())

    # --- the library and its mounts ---------------------------------------------------------------------------------

    def library_uuid(self) -> str:
        """Return the library's UUID."""
        return str(self.one("SELECT uuid FROM library")[0])

    def watermark(self) -> Watermark:
        """Return how far the database has come."""
        return Watermark(*self.one(f"SELECT {WATERMARK} FROM library"))

    def journal_mode(self) -> str:
        """Return how SQLite keeps a transaction whole: `wal` in a library that is in order."""
        return str(self.one("PRAGMA journal_mode")[0])

    def epoch(self) -> int:
        """Return the current epoch: the number that the next snapshot gets."""
        return int(self.one("SELECT epoch FROM library")[0])

    def lease_sessions(self, count: int) -> range:
        """Take session identifiers that nobody else will ever get."""
        row = self.one("UPDATE library SET next_session = next_session + ? RETURNING next_session", count)
        reached("tracking.sessions_leased")
        return range(row[0] - count, row[0])

    def skip_sessions(self, first: int) -> None:
        """Give no session identifier below `first` any more: the disks know that they were given."""
        self.execute("UPDATE library SET next_session = ?1 WHERE next_session < ?1", first)
        reached("tracking.sessions_skipped")

    def return_sessions(self, unused: range) -> None:
        """Give back the unused end of a lease, if nobody has leased since."""
        self.execute("UPDATE library SET next_session = ? WHERE next_session = ?", unused.start, unused.stop)
        reached("tracking.sessions_returned")

    def add_mount(self, mount: Mount) -> int:
        """Record a mount; its `id` is ignored. Return the new one."""
        cursor = self.execute(
            "INSERT INTO mount (host, machine, pid, uid, mountpoint, options, state, mounted_at)"
            " VALUES (?, ?, ?, ?, ?, ?, ?, ?)",
            *(mount.host, mount.machine, mount.pid, mount.uid),
            *(_text(mount.mountpoint), _text(mount.options), mount.state, mount.mounted_at),
        )
        reached("tracking.mount_added")
        return int(cursor.lastrowid or 0)

    def end_mount(self, mount: int, state: str, at: str) -> None:
        """Record that a mount has ended, `unmounted` or `dead`. Does nothing for one that has ended before."""
        self.execute(
            "UPDATE mount SET state = ?, unmounted_at = ? WHERE id = ? AND state = 'mounted'",
            state,
            at,
            mount,
        )
        reached("tracking.mount_ended")

    def mounts(self, *, live_only: bool = True) -> list[Mount]:
        """Return the mounts in the order of mounting; `live_only`: those not known to have ended."""
        where = "WHERE state = 'mounted'" if live_only else ""
        return [
            Mount(*row)
            for row in self.execute(
                "SELECT id, host, machine, pid, uid, mountpoint, options, state, mounted_at, unmounted_at"
                f" FROM mount {where} ORDER BY id"
            )
        ]

    def disks(self) -> list[DiskRecord]:
        """Return the disks by number."""
        return [
            DiskRecord(*row)
            for row in self.execute(
                "SELECT number, uuid, path, added_at, total, free, seen_at, fault, fault_at FROM disk ORDER BY number"
            )
        ]

    def move_disk(self, number: int, path: str) -> None:
        """Record where a disk is now."""
        self.execute("UPDATE disk SET path = ? WHERE number = ? AND path <> ?", path, number, path)
        reached("tracking.disk_moved")

    def record_fill(self, number: int, total: int, free: int, at: str) -> None:
        """Record how full a disk is."""
        self.execute("UPDATE disk SET total = ?, free = ?, seen_at = ? WHERE number = ?", total, free, at, number)
        reached("tracking.fill_recorded")

    def record_fault(self, number: int, fault: str | None, at: str) -> None:
        """Record what keeps a disk from being used, None where nothing does."""
        self.execute(
            "UPDATE disk SET fault = ?, fault_at = ? WHERE number = ? AND fault IS NOT ?",
            *(fault, None if fault is None else at, number, fault),
        )
        reached("tracking.fault_recorded")

    # --- drives and media -------------------------------------------------------------------------------------------

    def drives(self) -> list[Drive]:
        """Return the drives by number."""
        return [Drive(*row) for row in self.execute("SELECT number, loaded, loaded_at FROM drive ORDER BY number")]

    def drive(self, number: int) -> Drive:
        """Return one drive. Raises NoSuchDrive."""
        row = self.first("SELECT number, loaded, loaded_at FROM drive WHERE number = ?", number)
        if row is None:
            raise NoSuchDrive(number, self.one("SELECT count(*) FROM drive")[0])
        return Drive(*row)

    def set_drives(self, count: int) -> None:
        """Have drives 0 to count - 1 at least; drives that sessions may name are never removed."""
        for number in range(count):
            self.execute("INSERT INTO drive (number) VALUES (?) ON CONFLICT DO NOTHING", number)
        reached("tracking.drives_set")

    def load(self, number: int, barcode: str, at: str) -> None:
        """Point a drive's `loaded` to a medium. Raises NoSuchDrive or NoSuchMedium."""
        self.drive(number)
        self.medium(barcode)
        self.execute("UPDATE drive SET loaded = ?, loaded_at = ? WHERE number = ?", barcode, at, number)
        reached("tracking.loaded")

    def unload(self, number: int) -> str | None:
        """Point a drive's `loaded` to nothing. Return what it pointed to. Raises NoSuchDrive."""
        loaded = self.drive(number).loaded
        if loaded is not None:
            self.execute("UPDATE drive SET loaded = NULL, loaded_at = NULL WHERE number = ?", number)
        reached("tracking.unloaded")
        return loaded

    def open_sessions_by_drive(self, *, except_mount: int = 0) -> dict[int, int]:
        """Return the number of open sessions for each drive that has one, without those of one mount."""
        return dict(
            self.execute(
                "SELECT drive, count(*) FROM session WHERE state = 'open' AND mount <> ? GROUP BY drive", except_mount
            )
        )

    def add_media(self, barcodes: Sequence[str], capacity: int | None, at: str) -> None:
        """Add empty media. Raises UsageError if one exists; then none is added."""
        for barcode in barcodes:
            try:
                self._connection.execute(
                    "INSERT INTO medium (barcode, capacity, added_at) VALUES (?, ?, ?)", (barcode, capacity, at)
                )
            except sqlite3.IntegrityError:
                raise UsageError(f"medium {barcode} exists already; nothing was added") from None
        reached("tracking.media_added")

    def medium(self, barcode: str) -> Medium:
        """Return one medium. Raises NoSuchMedium."""
        row = self.first(f"SELECT {_MEDIUM} FROM medium WHERE barcode = ?", barcode)
        if row is None:
            raise NoSuchMedium(barcode)
        return medium_of(row)

    def media(self) -> list[Medium]:
        """Return the media in the order of their barcodes."""
        return [medium_of(row) for row in self.execute(f"SELECT {_MEDIUM} FROM medium ORDER BY barcode")]

    def media_after(self, number: int, limit: int) -> list[Medium]:
        """Return the media that were added after the one with the id `number`, in that order: the first `limit`."""
        rows = self.execute(f"SELECT {_MEDIUM} FROM medium WHERE id > ? ORDER BY id LIMIT ?", number, limit)
        return [medium_of(row) for row in rows]

    def reserve(self, session: int, barcode: str, need: int, want: int) -> int:
        """Promise space on a medium with a capacity to an open session: `want` bytes more, or else `need`.

        Return how many. Raises MediumFull where not even `need` fit, SessionEnded where the session is not open.
        """
        for more in (want, need):
            cursor = self.execute(
                "UPDATE medium SET reserved = reserved + ?1"
                " WHERE barcode = ?2 AND bytes + reserved + ?1 <= coalesce(capacity, 1 << 62)",
                more,
                barcode,
            )
            if cursor.rowcount:
                told = self.execute(
                    "UPDATE session SET reserved = reserved + ? WHERE id = ? AND state = 'open'", more, session
                )
                if not told.rowcount:
                    raise SessionEnded(session)
                reached("tracking.space_reserved")
                return more
        raise MediumFull(barcode)

    # --- sessions ---------------------------------------------------------------------------------------------------

    def open_session(
        self,
        session: int,
        mount: int,
        opener: Opener,
        access: Access,
        drive: int,
        barcode: str,
        stripe_unit: int,
        at: str,
    ) -> None:
        """Record the session that an open() has started."""
        self.execute(
            "INSERT INTO session (id, mount, host, pid, uid, gid, program, access, drive, medium, state, opened_at,"
            " stripe_unit) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, 'open', ?, ?)",
            *(session, mount, opener.host, opener.pid, opener.uid, opener.gid, _text(opener.program)),
            *(str(access), drive, barcode, at, stripe_unit),
        )
        reached("tracking.session_opened")

    def record_progress(
        self, session: int, units: Iterable[StripeUnit], size: int, requests: int, flushed_at: str | None = None
    ) -> None:
        """Record stripe units that are on the disks, and the length of the stream that they make up.

        A unit that was recorded with fewer bytes is recorded anew, perhaps on another disk. `flushed_at`: a close(),
        or the first fsync(), is about to be answered, see `announce`. Raises SessionEnded.
        """
        disks: set[int] = set()
        rows = [(unit.session, unit.unit, unit.disk, unit.slot, unit.bytes, unit.blake3) for unit in units]
        disks.update(row[2] for row in rows)
        self._connection.executemany(
            "INSERT INTO stripe_unit (session, unit, disk, slot, bytes, blake3) VALUES (?, ?, ?, ?, ?, ?)"
            " ON CONFLICT DO UPDATE SET disk = excluded.disk, slot = excluded.slot,"
            " bytes = excluded.bytes, blake3 = excluded.blake3",
            rows,
        )
        row = self.first("SELECT disks FROM session WHERE id = ? AND state = 'open'", session)
        if row is None:
            raise SessionEnded(session)
        known = sorted(disks.union(json.loads(row[0])))
        self.execute(
            "UPDATE session SET bytes = ?, requests = ?, disks = ? WHERE id = ?",
            *(size, requests, json.dumps(known, separators=(",", ":")), session),
        )
        if flushed_at is not None:
            self.announce(session, flushed_at)
        reached("tracking.progress_recorded")

    def announce(self, session: int, at: str) -> None:
        """Record that a close() of the session has been answered, which may have been its last.

        Announcements are numbered in the whole library, so that who looks knows which are new without a clock.
        """
        self.execute("UPDATE library SET announced = announced + 1")
        self.execute(
            "UPDATE session SET flushed_at = ?, announced = (SELECT announced FROM library)"
            " WHERE id = ? AND state = 'open'",
            *(at, session),
        )
        reached("tracking.close_announced")

    def withdraw(self, session: int) -> None:
        """Record that the close() of the session that was announced was not its last."""
        self.execute("UPDATE session SET announced = NULL WHERE id = ? AND state = 'open'", session)
        reached("tracking.close_withdrawn")

    def has_concurrent_writers(self, session: int) -> bool:
        """Tell whether another open stream would become a tape file of the same medium if the power was cut now."""
        return bool(
            self.first(
                "SELECT 1 FROM session AS rival WHERE state = 'open' AND bytes > 0 AND access = 'write' AND id <> ?1"
                " AND medium = (SELECT medium FROM session WHERE id = ?1) LIMIT 1",
                session,
            )
        )

    def medium_and_closing(self, barcode: str, mount: int, after: int) -> tuple[Medium, int, int | None]:
        """Return one medium, and the numbers of two announcements of a close(): the last one in the library, and
        the earliest after number `after` of the sessions on the medium that are open in another mount than `mount`.

        Raises NoSuchMedium.
        """
        row = self.first(
            f"SELECT {_MEDIUM}, (SELECT announced FROM library), (SELECT min(announced) FROM session"
            " WHERE state = 'open' AND session.medium = medium.barcode AND mount <> ? AND announced > ?)"
            " FROM medium WHERE barcode = ?",
            *(mount, after, barcode),
        )
        if row is None:
            raise NoSuchMedium(barcode)
        closing = None if row[-1] is None else number_of(row[-1], "announcement")
        return medium_of(row[:-2]), number_of(row[-2], "announcement"), closing

    def last_announcement(self) -> int:
        """Return the number of the last announcement of a close()."""
        return number_of(self.one("SELECT announced FROM library")[0], "announcement")

    def is_closing(self, last: int) -> bool:
        """Tell whether a session is open that announced a close() last with a number up to `last`."""
        return bool(self.first("SELECT 1 FROM session WHERE state = 'open' AND announced <= ? LIMIT 1", last))

    def sync_log(self) -> None:
        """Make durable what earlier transactions have committed without waiting for it. Raises TrackingError."""
        try:
            descriptor = os.open(self._log_path, os.O_RDONLY)
            try:
                os.fsync(descriptor)
                reached("log.synced")
                check_synced(descriptor)
            finally:
                os.close(descriptor)
        except OSError as error:
            raise TrackingError(f"{self._log_path}: {error.strerror}", error.errno or errno.EIO) from error

    def release_session(
        self, session: int, state: State, error: str | None, at: str, requests: int | None = None
    ) -> TapeFile | None:
        """End a write session and put what was recorded of it on the medium, as the next tape file.

        Return the tape file; None if nothing was recorded. Raises SessionEnded.
        """
        row = self.first(
            "SELECT medium, bytes, reserved, stripe_unit, host FROM session WHERE id = ? AND state = 'open'",
            session,
        )
        if row is None:
            raise SessionEnded(session)
        barcode, size, reserved, stripe_unit, host = row
        tape_file = None
        if size:
            start, number = self.one("SELECT bytes, tape_files FROM medium WHERE barcode = ?", barcode)
            tape_file = TapeFile(barcode, number, session, start, size, stripe_unit, at, host)
            self.execute(
                "INSERT INTO tape_file (medium, number, session, start, bytes, released_at, epoch, ordinal)"
                " SELECT ?, ?, ?, ?, ?, ?, epoch, tape_files + 1 FROM library",
                *(barcode, number, session, start, size, at),
            )
        if size or reserved:
            self.execute(
                "UPDATE medium SET bytes = bytes + ?1, tape_files = tape_files + ?2, reserved = reserved - ?3,"
                " written_at = coalesce(?4, written_at) WHERE barcode = ?5",
                *(size, int(bool(size)), reserved, at if size else None, barcode),
            )
        self.execute(
            "UPDATE session SET state = ?, error = ?, released_at = ?, requests = coalesce(?, requests), reserved = 0,"
            " tape_file = ? WHERE id = ?",
            *(str(state), error, at, requests, tape_file.number if tape_file else None, session),
        )
        reached("tracking.session_released")
        return tape_file

    def release_reader(self, session: int, state: State, error: str | None, at: str, size: int, requests: int) -> None:
        """End a read session that handed out `size` bytes."""
        self.execute(
            "UPDATE session SET state = ?, error = ?, released_at = ?, bytes = ?, requests = ?"
            " WHERE id = ? AND state = 'open'",
            *(str(state), error, at, size, requests, session),
        )
        reached("tracking.reader_released")

    def open_sessions_of(self, mount: int) -> list[Session]:
        """Return the sessions of a mount that have not ended, in the order of their identifiers."""
        return self._sessions("WHERE state = 'open' AND mount = ? ORDER BY +id", mount)

    def unfinished_sessions_of(self, mount: int, ordinal: int) -> list[Session]:
        """Return the write sessions of a mount whose headers may not say how they ended.

        They were ended by somebody else, or left a tape file behind the one with this ordinal.
        """
        return self._sessions(
            "WHERE access = 'write' AND id IN (SELECT id FROM session WHERE state = 'recovered' AND mount = ?1 UNION"
            " SELECT session FROM tape_file JOIN session ON session.id = session WHERE ordinal > ?2 AND mount = ?1)"
            " ORDER BY +id",
            *(mount, ordinal),
        )

    def last_ordinal(self) -> int:
        """Return the ordinal of the newest tape file of all media; 0 before the first."""
        return int(self.one("SELECT tape_files FROM library")[0])

    def session(self, session: int) -> Session:
        """Return one session. Raises NoSuchSession."""
        found = self._sessions("WHERE id = ?", session)
        if not found:
            raise NoSuchSession(session)
        return found[0]

    def sessions(self, wanted: SessionFilter) -> list[Session]:
        """Return the sessions that are wanted, in the order of their identifiers."""
        where, values = _where(wanted)
        limit = "" if wanted.limit is None else f"LIMIT {int(wanted.limit)}"
        order = "+id" if wanted.open_only else "id"
        return self._sessions(f"{where} ORDER BY {order} DESC {limit}", *values)[::-1]

    def count_sessions(self, wanted: SessionFilter | None = None) -> int:
        """Return how many sessions there are, or of those that are wanted, without regard to `limit`.

        Those of a medium or a host are counted in an index, and all of them were counted when they came.
        """
        where, values = _where(wanted or SessionFilter())
        if not where:
            return self.counters().sessions
        return int(self.one(f"SELECT count(*) FROM session {where}", *values)[0])

    def open_session_ids(self) -> list[int]:
        """Return the identifiers of the open sessions."""
        return [row[0] for row in self.execute("SELECT id FROM session WHERE state = 'open' ORDER BY +id")]

    def counters(self) -> Counters:
        """Return how much the library has, which was counted when it came."""
        return Counters(*self.one("SELECT media, sessions, tape_files, bytes FROM library"))

    # --- tape files and stripe units --------------------------------------------------------------------------------

    def tape_files(self, barcode: str, first: int = 0, limit: int | None = None) -> list[TapeFile]:
        """Return the tape files of a medium from number `first` on, in order; at most `limit`. Raises NoSuchMedium."""
        self.medium(barcode)
        condition, most = "tape_file.medium = ? AND number >= ?", -1 if limit is None else limit
        rows = self.execute(f"SELECT {_TAPE_FILE} WHERE {condition} ORDER BY number LIMIT ?", barcode, first, most)
        found = [tape_file_of(row) for row in rows]
        if found and found[0].number != first:
            raise contradiction(f"tape file {first} of {barcode}")
        for file, following in pairwise(found):
            check_follows(file, following)
        return found

    def tape_files_between(self, after: int, epoch: int, limit: int | None = None) -> Iterator[TapeFile]:
        """Yield the tape files of all media that came after the epoch `after` and up to `epoch`, by medium and number.

        They are read as they are asked for. At most `limit`, the first.
        """
        order = "ORDER BY tape_file.medium, number LIMIT ?"
        most = -1 if limit is None else limit
        rows = self.execute(f"SELECT {_TAPE_FILE} WHERE epoch > ? AND epoch <= ? {order}", after, epoch, most)
        return (tape_file_of(row) for row in rows)

    def tape_file(self, barcode: str, number: int) -> TapeFile:
        """Return one tape file. Raises NoSuchTapeFile or NoSuchMedium."""
        row = self.first(f"SELECT {_TAPE_FILE} WHERE tape_file.medium = ? AND number = ?", barcode, number)
        if row is None:
            self.medium(barcode)
            raise NoSuchTapeFile(barcode, number)
        return tape_file_of(row)

    def tape_file_at(self, barcode: str, offset: int) -> TapeFile | None:
        """Return the tape file that holds the medium's byte at the offset; None past the end.

        Raises TrackingError where it does not begin where the one before it ends.
        """
        rows = self.execute(
            f"SELECT {_TAPE_FILE} WHERE tape_file.medium = ? AND start <= ? ORDER BY start DESC LIMIT 2",
            *(barcode, offset),
        )
        found = [tape_file_of(row) for row in rows]
        if not found or offset >= found[0].end:
            return None
        check_follows(found[1] if len(found) > 1 else None, found[0])
        return found[0]

    def check_length(self, barcode: str) -> None:
        """Raise TrackingError where a medium's length is not where its last tape file ends."""
        row = self.first(
            "SELECT (bytes, tape_files) IS (SELECT start + bytes, number + 1 FROM tape_file WHERE medium = barcode"
            " ORDER BY number DESC LIMIT 1) OR (bytes = 0 AND tape_files = 0 AND NOT EXISTS"
            " (SELECT 1 FROM tape_file WHERE medium = barcode)) FROM medium WHERE barcode = ?",
            barcode,
        )
        if row is not None and not row[0]:
            raise contradiction(f"medium {barcode}")

    def stripe_units(self, session: int, first: int, count: int) -> list[StripeUnit]:
        """Return up to `count` stripe units of a session from number `first`."""
        rows = self.execute(
            "SELECT session, unit, disk, slot, bytes, blake3 FROM stripe_unit"
            " WHERE session = ? AND unit >= ? ORDER BY unit LIMIT ?",
            *(session, first, count),
        )
        return [stripe_unit_of(row) for row in rows]

    def stripe_units_on(self, disk: int, session: int, after: int, count: int) -> list[StripeUnit]:
        """Return up to `count` stripe units of a session on one disk, behind number `after`."""
        rows = self.execute(
            "SELECT session, unit, disk, slot, bytes, blake3 FROM stripe_unit"
            " WHERE session = ? AND unit > ? AND disk = ? ORDER BY unit LIMIT ?",
            *(session, after, disk, count),
        )
        return [stripe_unit_of(row) for row in rows]

    def slots(self, session: int) -> dict[int, int]:
        """Return for each disk how many slots of the session's member file on it are recorded."""
        return dict(
            self.execute("SELECT disk, max(slot) + 1 FROM stripe_unit WHERE session = ? GROUP BY disk", session)
        )

    # --- plumbing ---------------------------------------------------------------------------------------------------

    def _sessions(self, rest: str, *values: object) -> list[Session]:
        return [session_of(row) for row in self.execute(f"SELECT {SESSION} FROM session {rest}", *values)]

    def execute(self, sql: str, *values: object) -> sqlite3.Cursor:
        """Run one statement. For the modules that hold SQL, here and in vtlfs.snap. Raises TrackingError."""
        try:
            return self._connection.execute(sql, values)
        except sqlite3.DatabaseError as error:
            raise translated(error, self._path) from error
        except OverflowError:
            raise TrackingError("a number in it is too large; `vtlfs check` tells more") from None

    def execute_many(self, sql: str, rows: Iterable[Sequence[object]]) -> None:
        """Run one statement for each row of values. Raises TrackingError."""
        try:
            self._connection.executemany(sql, rows)
        except sqlite3.DatabaseError as error:
            raise translated(error, self._path) from error

    def first(self, sql: str, *values: object) -> tuple[Any, ...] | None:
        """Run one statement and return its first row, None without one."""
        row: tuple[Any, ...] | None = self.execute(sql, *values).fetchone()
        return row

    def one(self, sql: str, *values: object) -> tuple[Any, ...]:
        """Run one statement and return its first row. Raises TrackingError without one."""
        row = self.first(sql, *values)
        if row is None:
            raise TrackingError(f"a row that must be there is not: {sql} {values}")
        return row


def _check(path: Path, connection: sqlite3.Connection, read_only: bool) -> None:
    """Raise LibraryError unless it is a tracking database of this version; bring an older one up to date."""
    try:
        if not has_table(connection, "library"):
            raise LibraryError(f"{path}: not a tracking database; `vtlfs rebuild` makes a new one from the disks")
        if migrations.is_newer(connection):
            raise LibraryError(f"{path}: made by a newer vtlfs than this one; use that one")
        if migrations.pending(connection):
            if read_only:
                raise LibraryError(
                    f"{path}: made by an older vtlfs than this one; `vtlfs recover` brings a library up to date,"
                    " a snapshot is exported again"
                )
            migrations.apply(connection)
    except sqlite3.DatabaseError as error:
        raise unusable(path, error) from None


def create(
    library: Path, uuid: str, disks: Sequence[DiskRecord], drives: int, at: str, *, name: str = FILE_NAME
) -> None:
    """Make the tracking database of a new library, which must not have one."""
    connection = sqlite3.connect(library / name)
    try:
        connection.execute("PRAGMA journal_mode = WAL")
        reached("create.made")
        migrations.apply(connection)
        reached("create.described")
        with connection:
            connection.execute(
                "INSERT INTO library (uuid, created_at, epoch, next_session) VALUES (?, ?, 1, 1)", (uuid, at)
            )
            for disk in disks:
                connection.execute(
                    "INSERT INTO disk (number, uuid, path, added_at) VALUES (?, ?, ?, ?)",
                    (disk.number, disk.uuid, disk.path, disk.added_at),
                )
            for number in range(drives):
                connection.execute("INSERT INTO drive (number) VALUES (?)", (number,))
            reached("create.filled")
        reached("create.committed")
    except sqlite3.DatabaseError as error:
        raise translated(error) from error
    finally:
        connection.close()


def _where(wanted: SessionFilter) -> tuple[str, list[object]]:
    """Return the condition of a filter, with a WHERE before it if there is one, and its values."""
    conditions = {
        "medium = ?": wanted.medium,
        "drive = ?": wanted.drive,
        "host = ?": wanted.host,
    }
    chosen = {condition: value for condition, value in conditions.items() if value is not None}
    terms = [*chosen, *(["state = 'open'"] if wanted.open_only else [])]
    return f"WHERE {' AND '.join(terms)}" if terms else "", list(chosen.values())


def _text(name: str) -> str:
    """Return a name that need not be UTF-8 as text that the database takes."""
    return name.encode(errors="backslashreplace").decode()
