"""Which sessions have extents on which disks, for repair and the roster: the column `disks` of the table `session`."""

import json
from collections.abc import Iterable

from vtlfs.engine.tracking.repositories.extents import Extents
from vtlfs.engine.tracking.rows import SESSION, Row, left_by, session_of
from vtlfs.engine.tracking.statements import Repository, Statements
from vtlfs.failpoints import reached
from vtlfs.model import Session, TapeFile

_LEFT = "tape_file.start, tape_file.retain_mode, tape_file.retain_until"
_SESSION = ", ".join(f"session.{column.strip()}" for column in SESSION.split(","))  # beside another table's columns


class SessionDisks(Repository):
    """See the module."""

    def __init__(self, sql: Statements, extents: Extents) -> None:
        super().__init__(sql)
        self._extents = extents

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


def _with_tape_file(row: Row) -> tuple[Session, TapeFile, int]:
    """Return a session, its tape file and the ordinal, of the columns _LEFT, ordinal and _SESSION."""
    start, mode, until, ordinal, *columns = row
    session = session_of(tuple(columns))
    return session, left_by(session, start, mode, until), ordinal
