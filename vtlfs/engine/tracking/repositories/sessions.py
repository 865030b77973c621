"""Sessions, from the open() that starts a session to the release that makes its bytes a tape file of the medium."""

import errno
import json
from collections.abc import Iterable
from dataclasses import dataclass

from vtlfs.engine.tracking.repositories.extents import Extents
from vtlfs.engine.tracking.repositories.lacks import Lacks
from vtlfs.engine.tracking.repositories.retentions import Retentions
from vtlfs.engine.tracking.rows import SESSION, number_of, session_of, text_of
from vtlfs.engine.tracking.statements import Repository, Statements
from vtlfs.errors import DiskError, NoSuchSession, SessionEnded
from vtlfs.failpoints import reached
from vtlfs.model import (
    Access,
    Extent,
    ImportedEnd,
    Opener,
    Retention,
    Session,
    State,
    TapeFile,
    utc_now,
)


@dataclass(frozen=True, slots=True)
class SessionFilter:
    """The sessions to list; None and False do not restrict. At most `limit` sessions, the newest.

    `no_idle`: without sessions that were opened for writing and ended without an error or a byte. `since`, `until`: a
    time as in the database; the sessions that were open at some moment between the two. `failed`: those that ended with
    an error, or by another process.
    """

    medium: str | None = None
    drive: int | None = None
    host: str | None = None
    open_only: bool = False
    limit: int | None = None
    no_idle: bool = False
    since: str | None = None
    until: str | None = None
    state: State | None = None
    failed: bool = False
    access: Access | None = None
    program: str | None = None
    uid: int | None = None


class Sessions(Repository):
    """The rows of the table `session`. Verbs also change the extents of a session, and at the release its medium."""

    def __init__(self, sql: Statements, extents: Extents, lacks: Lacks, retentions: Retentions) -> None:
        super().__init__(sql)
        self._extents = extents
        self._lacks = lacks
        self._retentions = retentions

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
            " stripe_unit, parity, volume, origin, sequence)"
            " SELECT ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, 'open', ?, ?, ?, coalesce(?, volume), ?, (SELECT sessions + 1 FROM"
            " library) FROM medium"
            " WHERE barcode = ?10 RETURNING volume",
            *(session, mount, opener.host, opener.pid, opener.uid, opener.gid, text_of(opener.program)),
            *(str(access), drive, barcode, at, stripe_unit, parity, volume, origin),
        )
        reached("tracking.session_opened")
        return int(row[0])

    def note_program(self, session: int, program: str) -> None:
        """Record which program writes, where it is not the one that opened the file."""
        self._sql.execute("UPDATE session SET program = ? WHERE id = ? AND state = 'open'", text_of(program), session)
        reached("tracking.program_noted")

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
                now, least = (at, None) if imported is None else (imported.now, imported.retention)
                retention = self._retentions.retain(barcode, volume, now, least)
            tape_file = TapeFile(barcode, number, session, start, size, stripe_unit, at, host, volume, retention)
            self._add_tape_file(tape_file)
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

    def _add_tape_file(self, file: TapeFile) -> None:
        kept = (None, None) if file.retention is None else (str(file.retention.mode), file.retention.until)
        self._sql.execute(
            "INSERT INTO tape_file (medium, volume, number, session, start, bytes, released_at, epoch, ordinal,"
            " retain_mode, retain_until) SELECT ?, ?, ?, ?, ?, ?, ?, epoch, tape_files + 1, ?, ? FROM library",
            *(file.medium, file.volume, file.number, file.session, file.start, file.bytes, file.released_at, *kept),
        )

    def _forget_stream(self, session: int) -> None:
        """Forget what is recorded of the stream of an imported session, which leaves nothing on its medium."""
        self._extents.forget(session)
        self._lacks.forget(session)
        self._sql.execute("UPDATE session SET bytes = 0, disks = '[]' WHERE id = ?", session)
        reached("tracking.import_forgotten")

    def release_reader(self, session: int, state: State, error: str | None, at: str, size: int, requests: int) -> None:
        """End a read session that handed out `size` bytes."""
        self._sql.execute(
            "UPDATE session SET state = ?, error = ?, released_at = ?, bytes = ?, requests = ?"
            " WHERE id = ? AND state = 'open'",
            *(str(state), error, at, size, requests, session),
        )
        reached("tracking.reader_released")

    # --- looking at them --------------------------------------------------------------------------------------------

    def get(self, session: int) -> Session:
        """Return one session. Raises NoSuchSession."""
        found = self._select("WHERE id = ?", session)
        if not found:
            raise NoSuchSession(session)
        return found[0]

    def find(self, wanted: SessionFilter) -> list[Session]:
        """Return the sessions of a filter, in the order of opening."""
        where, values = _where(wanted)
        limit = "" if wanted.limit is None else f"LIMIT {int(wanted.limit)}"
        by = (
            "+sequence" if wanted.open_only or wanted.state is State.OPEN else "sequence"
        )  # open sessions are few: found by their index, then sorted
        rows = (
            self._sql.execute(  # `sequence` is selected, since SQLite merges the parts of a snapshot's view only then
                f"SELECT {SESSION}, sequence FROM session {where} ORDER BY {by} DESC, id DESC {limit}", *values
            )
        )
        return [session_of(row[:-1]) for row in rows][::-1]

    def count(self, wanted: SessionFilter | None = None) -> int:
        """Return how many sessions a filter has, without regard to its `limit`; of all sessions without a filter.

        The sessions of a medium or a host are counted in an index; the library's row has the number of all.
        """
        where, values = _where(wanted or SessionFilter())
        if not where:
            return int(self._sql.one("SELECT sessions FROM library")[0])
        return int(self._sql.one(f"SELECT count(*) FROM session {where}", *values)[0])

    def open_ids(self) -> list[int]:
        """Return the identifiers of the open sessions, in their own order."""
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

    def known(self, first: int, last: int) -> set[int]:
        """Return which of the sessions `first` to `last` are recorded."""
        return {row[0] for row in self._sql.execute("SELECT id FROM session WHERE id BETWEEN ? AND ?", first, last)}

    def groups(self, size: int) -> set[int]:
        """Return the quotients `identifier / size` of all recorded sessions."""
        return {row[0] for row in self._sql.execute("SELECT DISTINCT id / ? FROM session WHERE id > 0", size)}

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


_FAILED = "(error IS NOT NULL OR state IN ('failed', 'recovered'))"
_NO_IDLE = "NOT (access = 'write' AND bytes = 0 AND state = 'released' AND error IS NULL)"


def _where(wanted: SessionFilter) -> tuple[str, list[object]]:
    """Return the condition of a filter, with a WHERE before it if there is one, and its values."""
    conditions = {
        "medium = ?": wanted.medium,
        "drive = ?": wanted.drive,
        "host = ?": wanted.host,
        "program = ?": wanted.program,
        "uid = ?": wanted.uid,
        "access = ?": None if wanted.access is None else str(wanted.access),
        # Times are compared for people only: a session that was open while the clock was wrong stands where it says.
        "coalesce(released_at, '9') >= ?": wanted.since,
        "opened_at < ?": wanted.until,
        "state = ?": None if wanted.state in (None, State.OPEN) else str(wanted.state),
    }
    chosen = {condition: value for condition, value in conditions.items() if value is not None}
    # Literally as in the index of open sessions, so that SQLite uses it.
    is_open = ["state = 'open'"] if wanted.open_only or wanted.state is State.OPEN else []
    terms = [*chosen, *is_open, *([_FAILED] if wanted.failed else []), *([_NO_IDLE] if wanted.no_idle else [])]
    return f"WHERE {' AND '.join(terms)}" if terms else "", list(chosen.values())
