"""Sessions, from the open() that starts a session to the release that makes its bytes a tape file of the medium."""

import errno
import json
from collections.abc import Iterable
from dataclasses import dataclass

from vtlfs.engine.tracking.repositories.extents import Extents
from vtlfs.engine.tracking.repositories.lacks import Lacks
from vtlfs.engine.tracking.rows import SESSION, Row, left_by, number_of, session_of, text_of
from vtlfs.engine.tracking.statements import Repository, Statements
from vtlfs.errors import DiskError, NoSuchSession, SessionEnded
from vtlfs.failpoints import reached
from vtlfs.model import (
    Access,
    Extent,
    ImportedEnd,
    Opener,
    RetainMode,
    Retention,
    Session,
    State,
    TapeFile,
    later,
    utc_now,
)

_LEFT = "tape_file.start, tape_file.retain_mode, tape_file.retain_until"
_SESSION = ", ".join(f"session.{column.strip()}" for column in SESSION.split(","))  # beside another table's columns


@dataclass(frozen=True, slots=True)
class SessionFilter:
    """The sessions to list; None and False do not restrict. At most `limit` sessions, the newest.

    `no_idle`: without sessions that were opened for writing and ended without an error or a byte.
    """

    medium: str | None = None
    drive: int | None = None
    host: str | None = None
    open_only: bool = False
    limit: int | None = None
    no_idle: bool = False


class Sessions(Repository):
    """The rows of the table `session`. Verbs also change the extents of a session, and at the release its medium."""

    def __init__(self, sql: Statements, extents: Extents, lacks: Lacks) -> None:
        super().__init__(sql)
        self._extents = extents
        self._lacks = lacks

    # --- one stream, from its beginning to its end ------------------------------------------------------------------

    def open(
        self,
        session: int,
        mount: int,
        opener: Opener,
        access: Access,
        drive: int,
        barcode: str,
        stripe_unit: int,
        at: str,
        *,
        parity: int = 0,
        volume: int | None = None,
        origin: str | None = None,
    ) -> int:
        """Record the session that an open() has started; return the number of its volume.

        `volume`: of the medium; None: the current one. Whether it may be written to is for `Media.check_writable`.
        `origin`: of an imported session, see `Session.origin`.
        """
        row = self._sql.one(
            "INSERT INTO session (id, mount, host, pid, uid, gid, program, access, drive, medium, state, opened_at,"
            " stripe_unit, parity, volume, origin)"
            " SELECT ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, 'open', ?, ?, ?, coalesce(?, volume), ? FROM medium"
            " WHERE barcode = ?10 RETURNING volume",
            *(session, mount, opener.host, opener.pid, opener.uid, opener.gid, text_of(opener.program)),
            *(str(access), drive, barcode, at, stripe_unit, parity, volume, origin),
        )
        reached("tracking.session_opened")
        return int(row[0])

    def record_progress(
        self, session: int, extents: Iterable[Extent], size: int, requests: int, flushed_at: str | None = None
    ) -> None:
        """Record the extents of stripes that are on the disks, and the recorded length `size` of the stream.

        `flushed_at`: a close(), or the first fsync(), is about to be answered, see `announce`. Raises SessionEnded;
        DiskError where a disk has retired meanwhile.
        """
        rows = list(extents)
        disks = self._extents.add(rows)
        self._check_not_retired(disks)
        row = self._sql.first("SELECT disks, parity FROM session WHERE id = ? AND state = 'open'", session)
        if row is None:
            raise SessionEnded(session)
        if row[1]:
            self._lacks.note_written(session, rows, row[1], utc_now())
        known = sorted(disks.union(json.loads(row[0])))
        self._sql.execute(
            "UPDATE session SET bytes = ?, requests = ?, disks = ? WHERE id = ?",
            *(size, requests, json.dumps(known, separators=(",", ":")), session),
        )
        if flushed_at is not None:
            self.announce(session, flushed_at)
        reached("tracking.progress_recorded")

    def _check_not_retired(self, disks: set[int]) -> None:
        """Raise DiskError where a disk has left the library: a mount that hung for long did not notice."""
        for number, path in self._sql.execute("SELECT number, path FROM disk WHERE state = 'retired'"):
            if number in disks:
                raise DiskError(number, path, OSError(errno.ENODEV, "has retired from the library"))

    def announce(self, session: int, at: str) -> None:
        """Record that a close() of the session, perhaps its last, is about to be answered.

        Announcements are numbered in the whole library, so that a mount recognises new ones without a clock.
        """
        self._sql.execute("UPDATE library SET announced = announced + 1")
        self._sql.execute(
            "UPDATE session SET flushed_at = ?, announced = (SELECT announced FROM library)"
            " WHERE id = ? AND state = 'open'",
            *(at, session),
        )
        reached("tracking.close_announced")

    def withdraw(self, session: int) -> None:
        """Record that the announced close() of the session was not its last."""
        self._sql.execute("UPDATE session SET announced = NULL WHERE id = ? AND state = 'open'", session)
        reached("tracking.close_withdrawn")

    def release(
        self,
        session: int,
        state: State,
        error: str | None,
        at: str,
        requests: int | None = None,
        *,
        retention: Retention | None = None,
        by_rule: bool = True,
        imported: ImportedEnd | None = None,
    ) -> TapeFile | None:
        """End a write session; its recorded bytes become the next tape file of its volume, which is the current one.

        An imported session, one with an origin, leaves a tape file only where it is told how it ends: `imported`.
        Otherwise its bytes are not known to be right; they are forgotten, also where the number of its tape file is
        taken. Return the tape file, retained as the volume says; not `by_rule`: as `retention` says, for a rebuild,
        which has retained the volume already. None if there is none. Raises SessionEnded.
        """
        row = self._sql.first(
            "SELECT medium, bytes, reserved, stripe_unit, host, volume, origin FROM session"
            " WHERE id = ? AND state = 'open'",
            session,
        )
        if row is None:
            raise SessionEnded(session)
        barcode, size, reserved, stripe_unit, host, volume, origin = row
        tape_file = None
        start, number = self._sql.one("SELECT bytes, tape_files FROM medium WHERE barcode = ?", barcode)
        if origin is not None and (imported is None or imported.number not in (None, number)):
            self._forget_stream(session)
            size = 0
        if size:
            if by_rule:
                now = at if imported is None else imported.now
                retention = self._retain(barcode, volume, now, None if imported is None else imported.retention)
            kept = (None, None) if retention is None else (str(retention.mode), retention.until)
            tape_file = TapeFile(barcode, number, session, start, size, stripe_unit, at, host, volume, retention)
            self._sql.execute(
                "INSERT INTO tape_file (medium, volume, number, session, start, bytes, released_at, epoch, ordinal,"
                " retain_mode, retain_until) SELECT ?, ?, ?, ?, ?, ?, ?, epoch, tape_files + 1, ?, ? FROM library",
                *(barcode, volume, number, session, start, size, at, *kept),
            )
        if size or reserved:
            self._sql.execute(
                "UPDATE medium SET bytes = bytes + ?1, tape_files = tape_files + ?2, reserved = reserved - ?3,"
                " written_at = coalesce(?4, written_at) WHERE barcode = ?5",
                *(size, int(bool(size)), reserved, at if size else None, barcode),
            )
        self._sql.execute(
            "UPDATE session SET state = ?, error = ?, released_at = ?, requests = coalesce(?, requests), reserved = 0,"
            " tape_file = ? WHERE id = ?",
            *(str(state), error, at, requests, tape_file.number if tape_file else None, session),
        )
        reached("tracking.session_released")
        return tape_file

    def _forget_stream(self, session: int) -> None:
        """Forget what is recorded of the stream of an imported session, which leaves nothing on its medium."""
        self._extents.forget(session)
        self._lacks.forget(session)
        self._sql.execute("UPDATE session SET bytes = 0, disks = '[]' WHERE id = ?", session)
        reached("tracking.import_forgotten")

    def _retain(self, barcode: str, volume: int, at: str, least: Retention | None = None) -> Retention | None:
        """Retain a volume for the tape file that it gets at the time `at`; return the retention of that.

        It is counted from the highest time that was ever recorded, as a clock may have been set back. `least`: at least
        so strictly and for so long.
        """
        if least is not None:
            self._retain_as(barcode, volume, least)
        mode, seconds, known = self._sql.one(
            "SELECT retain_mode, retain_seconds, retain_until FROM volume WHERE medium = ? AND number = ?",
            *(barcode, volume),
        )
        self._sql.execute("UPDATE library SET latest = ?1 WHERE latest < ?1", at)
        if mode is None:
            return None
        if mode == RetainMode.WORM:
            return Retention(RetainMode.WORM, None)
        until = known or ""  # a time that `vtlfs media set`, or an import, has named for the whole volume
        if seconds:
            until = later(self._sql.one("SELECT latest FROM library")[0], seconds)
        if least is not None and least.until is not None:
            until = max(until, least.until)
        if not until:
            return None
        self._sql.execute(
            "UPDATE volume SET retain_until = ?1 WHERE medium = ?2 AND number = ?3 AND coalesce(retain_until, '') < ?1",
            *(until, barcode, volume),
        )
        reached("tracking.retained")
        return Retention(RetainMode(mode), until)

    def _retain_as(self, barcode: str, volume: int, least: Retention) -> None:
        """Retain a volume at least as strictly and as long as another one. It never makes retention less."""
        mode, seconds = self._sql.one(
            "SELECT retain_mode, retain_seconds FROM volume WHERE medium = ? AND number = ?", barcode, volume
        )
        known = least.mode if mode is None else RetainMode(mode)
        strictest = max(known, least.mode, key=lambda one: one.strictness)
        period = None if strictest is RetainMode.WORM else seconds or 0
        self._sql.execute(
            "UPDATE volume SET retain_mode = ?, retain_seconds = ? WHERE medium = ? AND number = ?",
            *(str(strictest), period, barcode, volume),
        )

    def release_reader(self, session: int, state: State, error: str | None, at: str, size: int, requests: int) -> None:
        """End a read session that handed out `size` bytes."""
        self._sql.execute(
            "UPDATE session SET state = ?, error = ?, released_at = ?, bytes = ?, requests = ?"
            " WHERE id = ? AND state = 'open'",
            *(str(state), error, at, size, requests, session),
        )
        reached("tracking.reader_released")

    def note_moved(self, session: int, gained: set[int], left: set[int]) -> None:
        """Record which disks hold extents of a session, of which rows were replaced.

        `gained`: disks that have got extents; `left`: that have got fewer.
        """
        row = self._sql.one("SELECT disks FROM session WHERE id = ?", session)
        gone = {disk for disk in left - gained if not self._extents.is_on(session, disk)}
        known = json.dumps(sorted(gained.union(json.loads(row[0])) - gone), separators=(",", ":"))
        if known != row[0]:
            self._sql.execute("UPDATE session SET disks = ? WHERE id = ?", known, session)
            reached("tracking.disks_noted")

    # --- looking at them --------------------------------------------------------------------------------------------

    def get(self, session: int) -> Session:
        """Return one session. Raises NoSuchSession."""
        found = self._select("WHERE id = ?", session)
        if not found:
            raise NoSuchSession(session)
        return found[0]

    def find(self, wanted: SessionFilter) -> list[Session]:
        """Return the sessions of a filter, in the order of their identifiers."""
        where, values = _where(wanted)
        limit = "" if wanted.limit is None else f"LIMIT {int(wanted.limit)}"
        order = "+id" if wanted.open_only else "id"
        return self._select(f"{where} ORDER BY {order} DESC {limit}", *values)[::-1]

    def count(self, wanted: SessionFilter | None = None) -> int:
        """Return how many sessions a filter has, without regard to its `limit`; of all sessions without a filter.

        The sessions of a medium or a host are counted in an index; the library's row has the number of all.
        """
        where, values = _where(wanted or SessionFilter())
        if not where:
            return int(self._sql.one("SELECT sessions FROM library")[0])
        return int(self._sql.one(f"SELECT count(*) FROM session {where}", *values)[0])

    def open_ids(self) -> list[int]:
        """Return the identifiers of the open sessions."""
        return [row[0] for row in self._sql.execute("SELECT id FROM session WHERE state = 'open' ORDER BY +id")]

    def open_of(self, mount: int) -> list[Session]:
        """Return the sessions of a mount that have not ended, in the order of their identifiers."""
        return self._select("WHERE state = 'open' AND mount = ? ORDER BY +id", mount)

    def count_open_by_drive(self, *, except_mount: int = 0) -> dict[int, int]:
        """Return the number of open sessions for each drive that has one, without those of one mount."""
        return dict(
            self._sql.execute(
                "SELECT drive, count(*) FROM session WHERE state = 'open' AND mount <> ? GROUP BY drive", except_mount
            )
        )

    def unfinished_of(self, mount: int, ordinal: int) -> list[Session]:
        """Return the write sessions of a mount whose headers may not say how they ended.

        These are the sessions that another process has ended, and those of tape files after the one with `ordinal`.
        """
        return self._select(
            "WHERE access = 'write' AND id IN (SELECT id FROM session WHERE state = 'recovered' AND mount = ?1 UNION"
            " SELECT session FROM tape_file JOIN session ON session.id = session WHERE ordinal > ?2 AND mount = ?1)"
            " ORDER BY +id",
            *(mount, ordinal),
        )

    def to_repair(self, first: int, end: int, out: Iterable[int], last: int) -> list[tuple[Session, TapeFile, int]]:
        """Return those sessions from `first` to before `end` that left a tape file, and may lack something.

        They have extents on a disk that is `out`, or something is known that they lack; ordinals are up to `last`. With
        each: its tape file, and the ordinal.
        """
        rows = self._sql.execute(
            f"SELECT {_LEFT}, tape_file.ordinal, {_SESSION} FROM session CROSS JOIN tape_file"
            " ON tape_file.session = session.id WHERE session.id >= ?1 AND session.id < ?4"
            " AND session.tape_file IS NOT NULL AND NOT session.reclaimed AND tape_file.ordinal <= ?2"
            " AND (session.id IN (SELECT session FROM lack)"
            " OR EXISTS (SELECT 1 FROM json_each(session.disks) WHERE value IN (SELECT value FROM json_each(?3))))"
            " ORDER BY session.id",
            *(first, last, json.dumps(sorted(out)), end),
        )
        return [_with_tape_file(row) for row in rows]

    def with_tape_files(self, sessions: Iterable[int]) -> list[tuple[Session, TapeFile, int]]:
        """Return those of some sessions that left a tape file, as `to_repair` does."""
        rows = self._sql.execute(
            f"SELECT {_LEFT}, tape_file.ordinal, {_SESSION} FROM session CROSS JOIN tape_file"
            " ON tape_file.session = session.id WHERE session.id IN (SELECT value FROM json_each(?))"
            " AND session.tape_file IS NOT NULL AND NOT session.reclaimed ORDER BY session.id",
            json.dumps(sorted(sessions)),
        )
        return [_with_tape_file(row) for row in rows]

    def known(self, first: int, last: int) -> set[int]:
        """Return which of the sessions `first` to `last` are recorded."""
        return {row[0] for row in self._sql.execute("SELECT id FROM session WHERE id BETWEEN ? AND ?", first, last)}

    def groups(self, size: int) -> set[int]:
        """Return the quotients `identifier / size` of all recorded sessions."""
        return {row[0] for row in self._sql.execute("SELECT DISTINCT id / ? FROM session WHERE id > 0", size)}

    def is_written_to(self, disk: int) -> bool:
        """Tell whether a session that has not ended has extents on a disk."""
        return bool(
            self._sql.first(
                "SELECT 1 FROM session WHERE state = 'open' AND EXISTS (SELECT 1 FROM json_each(disks) WHERE value = ?)"
                " LIMIT 1",
                disk,
            )
        )

    def spread(self, disk: int) -> list[tuple[int, set[int], int]]:
        """Return, of the tape files with extents on a disk, parity, disks and bytes, summed up. Reads all sessions."""
        rows = self._sql.execute(
            "SELECT parity, disks, sum(bytes) FROM session WHERE tape_file IS NOT NULL"
            " AND EXISTS (SELECT 1 FROM json_each(disks) WHERE value = ?) GROUP BY parity, disks",
            disk,
        )
        return [(parity, set(json.loads(disks)), size) for parity, disks, size in rows]

    def forget_extents_without_tape_file(self, disk: int) -> None:
        """Forget the extents of sessions on a disk that have ended and left nothing on their medium."""
        rows = self._sql.execute(
            "SELECT id FROM session WHERE tape_file IS NULL AND state <> 'open'"
            " AND EXISTS (SELECT 1 FROM json_each(disks) WHERE value = ?)",
            disk,
        )
        for (session,) in rows.fetchall():
            self._extents.forget(session)
            self._sql.execute("UPDATE session SET disks = '[]' WHERE id = ?", session)
            reached("tracking.extents_forgotten")

    def last_layout(self) -> tuple[int, int] | None:
        """Return the stripe unit and the parity of the last write session; None without one."""
        return self._sql.first(
            "SELECT stripe_unit, parity FROM session WHERE access = 'write' ORDER BY id DESC LIMIT 1"
        )

    def has_concurrent_writers(self, session: int) -> bool:
        """Tell whether another open stream of the medium has recorded bytes: a power cut would make it a tape file."""
        return bool(
            self._sql.first(
                "SELECT 1 FROM session AS rival WHERE state = 'open' AND bytes > 0 AND access = 'write' AND id <> ?1"
                " AND medium = (SELECT medium FROM session WHERE id = ?1) LIMIT 1",
                session,
            )
        )

    def last_announcement(self) -> int:
        """Return the number of the last announcement of a close()."""
        return number_of(self._sql.one("SELECT announced FROM library")[0], "announcement")

    def is_closing(self, last: int) -> bool:
        """Tell whether an open session has an announced close() with a number up to `last`."""
        return bool(self._sql.first("SELECT 1 FROM session WHERE state = 'open' AND announced <= ? LIMIT 1", last))

    def _select(self, rest: str, *values: object) -> list[Session]:
        return [session_of(row) for row in self._sql.execute(f"SELECT {SESSION} FROM session {rest}", *values)]


def _with_tape_file(row: Row) -> tuple[Session, TapeFile, int]:
    """Return a session, its tape file and the ordinal, of the columns _LEFT, ordinal and _SESSION."""
    start, mode, until, ordinal, *columns = row
    session = session_of(tuple(columns))
    return session, left_by(session, start, mode, until), ordinal


_NO_IDLE = "NOT (access = 'write' AND bytes = 0 AND state = 'released' AND error IS NULL)"


def _where(wanted: SessionFilter) -> tuple[str, list[object]]:
    """Return the condition of a filter, with a WHERE before it if there is one, and its values."""
    conditions = {
        "medium = ?": wanted.medium,
        "drive = ?": wanted.drive,
        "host = ?": wanted.host,
    }
    chosen = {condition: value for condition, value in conditions.items() if value is not None}
    terms = [*chosen, *(["state = 'open'"] if wanted.open_only else []), *([_NO_IDLE] if wanted.no_idle else [])]
    return f"WHERE {' AND '.join(terms)}" if terms else "", list(chosen.values())
