"""Reclaiming: volumes that have ended and are not reclaimed yet, what holds them, and what is left of them on disks.

A volume is held while a snapshot shows it or an open session reads it. To reclaim a session: it is marked, and a row
of `leftover` for each disk notes that a member of it may be there; the rows of its extents go; its members are removed;
and the rows of `leftover` go. So at any moment each row that tells of bytes has them, and bytes without a row are
noted.
"""

import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from vtlfs.engine.tracking.repositories.extents import Extents
from vtlfs.engine.tracking.statements import Repository, Statements
from vtlfs.failpoints import reached

_UNRECLAIMED = "ended IS NOT NULL AND reclaimed_at IS NULL"
_NOT_SHOWN = "NOT EXISTS (SELECT 1 FROM snapshot WHERE id >= volume.begun AND id < volume.ended)"


@dataclass(frozen=True, slots=True)
class EndedVolume:
    """A volume that has ended and has not been reclaimed. `bytes`: in its tape files; `stored`: on the disks.

    `begun` and `ended` are epochs; snapshot S shows the volume if begun <= S < ended.
    """

    medium: str
    number: int
    begun: int
    ended: int
    ended_at: str
    bytes: int
    tape_files: int
    stored: int

    @property
    def key(self) -> tuple[str, int]:
        """What names it."""
        return self.medium, self.number


@dataclass(frozen=True, slots=True)
class Reader:
    """An open session that reads a volume, and its mount, which may be dead."""

    session: int
    mount: int
    host: str
    program: str
    pid: int


@dataclass(frozen=True, slots=True)
class Usage:
    """Stored bytes, parity included: of current volumes; of ended ones that snapshots show; and of the other ended."""

    current: int
    shown: int
    others: int

    @property
    def total(self) -> int:
        """All of them."""
        return self.current + self.shown + self.others


class Reclaiming(Repository):
    """The rows of the table `leftover`, and what reclaiming changes in those of `volume` and `session`."""

    def __init__(self, sql: Statements, extents: Extents) -> None:
        super().__init__(sql)
        self._extents = extents

    # --- what there is, and what holds it ---------------------------------------------------------------------------

    def ended(self, *, is_shown: bool, limit: int | None = None) -> list[EndedVolume]:
        """Return ended volumes that are not reclaimed, the oldest first: those that snapshots show, or the others."""
        rows = self._sql.execute(
            "SELECT medium, number, begun, ended, ended_at, bytes, tape_files, stored FROM volume"
            f" WHERE {_UNRECLAIMED} AND {'NOT ' if is_shown else ''}{_NOT_SHOWN}"
            " ORDER BY ended, medium, number LIMIT ?",
            -1 if limit is None else limit,
        )
        return [EndedVolume(*row) for row in rows]

    def snapshots(self, volume: EndedVolume) -> list[tuple[int, str | None]]:
        """Return the numbers and names of the snapshots that show a volume."""
        rows = self._sql.execute(
            "SELECT id, name FROM snapshot WHERE id >= ? AND id < ? ORDER BY id", volume.begun, volume.ended
        )
        return [(row[0], row[1]) for row in rows]

    def readers(self, medium: str, number: int) -> list[Reader]:
        """Return the open sessions that read a volume."""
        rows = self._sql.execute(
            "SELECT id, mount, host, program, pid FROM session WHERE state = 'open' AND medium = ? AND volume = ?"
            " ORDER BY +id",
            *(medium, number),
        )
        return [Reader(*row) for row in rows]

    def is_shown(self, medium: str, number: int) -> bool:
        """Tell whether a snapshot shows a volume, or it has not ended."""
        row = self._sql.first(
            f"SELECT 1 FROM volume WHERE medium = ? AND number = ? AND ended IS NOT NULL AND {_NOT_SHOWN}",
            *(medium, number),
        )
        return row is None

    def usage(self) -> Usage:
        """Return what the volumes take on the disks. Reads all volumes."""
        row = self._sql.one(
            "SELECT coalesce(sum(iif(ended IS NULL, stored, 0)), 0), coalesce(sum(iif(ended IS NOT NULL AND shown,"
            " stored, 0)), 0), coalesce(sum(iif(ended IS NOT NULL AND NOT shown, stored, 0)), 0)"
            f" FROM (SELECT ended, stored, NOT {_NOT_SHOWN} AS shown FROM volume WHERE stored > 0)"
        )
        return Usage(*row)

    # --- a volume ---------------------------------------------------------------------------------------------------

    def sessions(self, medium: str, number: int, after: int, most: int) -> list[tuple[int, int, int, int]]:
        """Return sessions of an ended volume whose stored bytes are there, by identifier, from after `after` on.

        With each: its mount, the ordinal of its tape file, and the bytes of that.
        """
        rows = self._sql.execute(
            "SELECT session.id, session.mount, ordinal, tape_file.bytes FROM tape_file JOIN session"
            " ON session.id = tape_file.session WHERE tape_file.medium = ? AND tape_file.volume = ?"
            " AND session.id > ? AND NOT session.reclaimed ORDER BY session.id LIMIT ?",
            *(medium, number, after, most),
        )
        return rows.fetchall()

    def mark(self, sessions: Sequence[int]) -> None:
        """Mark sessions as reclaimed, and note that a member of each may be on any disk: a repair moves extents."""
        which = json.dumps(list(sessions))
        self._sql.execute(
            "UPDATE session SET reclaimed = 1, disks = '[]' WHERE id IN (SELECT value FROM json_each(?))", which
        )
        for table in ("lack", "hurt"):
            self._sql.execute(f"DELETE FROM {table} WHERE session IN (SELECT value FROM json_each(?))", which)
        self._sql.execute(
            "INSERT OR IGNORE INTO leftover SELECT number, value FROM disk, json_each(?) WHERE state <> 'retired'",
            which,
        )
        reached("tracking.session_reclaimed")

    def forget_extents(self, sessions: Iterable[int], most: int) -> tuple[int, bool]:
        """Forget up to `most` extents of marked sessions; return their stored bytes, and whether all are gone."""
        size = 0
        for session in sessions:
            while most > 0:
                rows, stored = self._extents.forget_last(session, most)
                if not rows:
                    break
                self._sql.execute(
                    "UPDATE volume SET deleted = deleted + ?1 FROM session WHERE session.id = ?2"
                    " AND volume.medium = session.medium AND number = session.volume",
                    *(stored, session),
                )
                most -= rows
                size += stored
            if most <= 0:
                return size, False
        return size, True

    def end(self, medium: str, number: int, at: str) -> int | None:
        """Record that a volume is reclaimed, if that is so; return how many stored bytes it had, None if it is not.

        Members of streams that left no tape file, which have headers only, are noted as left.
        """
        row = self._sql.first(
            "UPDATE volume SET reclaimed_at = ?1 WHERE medium = ?2 AND number = ?3 AND stored = 0"
            f" AND {_UNRECLAIMED} AND NOT EXISTS (SELECT 1 FROM tape_file JOIN session"
            " ON session.id = tape_file.session WHERE tape_file.medium = ?2 AND tape_file.volume = ?3"
            " AND NOT session.reclaimed) RETURNING deleted",
            *(at, medium, number),
        )
        if row is None:
            return None
        self._sql.execute(
            "INSERT OR IGNORE INTO leftover SELECT disk.number, session.id FROM session, disk WHERE session.medium = ?"
            " AND session.volume = ? AND access = 'write' AND session.state <> 'open' AND tape_file IS NULL"
            " AND disk.state <> 'retired'",
            *(medium, number),
        )
        reached("tracking.volume_reclaimed")
        return int(row[0])

    def is_reclaimed(self, session: int) -> bool:
        """Tell whether a session is marked as reclaimed, also in a view of a snapshot that shows it as it was."""
        return bool(self._sql.one("SELECT reclaimed FROM main.session WHERE id = ?", session)[0])

    # --- leftovers --------------------------------------------------------------------------------------------------

    def marked(self, after: int, most: int) -> list[int]:
        """Return the sessions of which something may be left on a disk, by identifier, from after `after` on."""
        rows = self._sql.execute(
            "SELECT DISTINCT session FROM leftover WHERE session > ? ORDER BY session LIMIT ?", after, most
        )
        return [row[0] for row in rows]

    def left_on(self, disk: int, first: int, last: int, most: int) -> list[int]:
        """Return which of the sessions `first` to `last` may have a member left on a disk; the first `most`."""
        rows = self._sql.execute(
            "SELECT session FROM leftover WHERE disk = ? AND session BETWEEN ? AND ? ORDER BY session LIMIT ?",
            *(disk, first, last, most),
        )
        return [row[0] for row in rows]

    def is_left_on(self, disk: int) -> bool:
        """Tell whether members may be left on a disk."""
        return self._sql.first("SELECT 1 FROM leftover WHERE disk = ? LIMIT 1", disk) is not None

    def note_removed(self, disk: int, sessions: Sequence[int]) -> None:
        """Note that nothing of some sessions is left on a disk."""
        self._sql.execute(
            "DELETE FROM leftover WHERE disk = ? AND session IN (SELECT value FROM json_each(?))",
            *(disk, json.dumps(list(sessions))),
        )
        reached("tracking.leftovers_removed")

    def forget_retired(self) -> None:
        """Forget what is left on disks that have left the library."""
        gone = self._sql.execute("DELETE FROM leftover WHERE disk IN (SELECT number FROM disk WHERE state = 'retired')")
        if gone.rowcount:
            reached("tracking.leftovers_forgotten")

    # --- how fast space goes and comes back -------------------------------------------------------------------------

    def written(self, since: str) -> tuple[int, str | None]:
        """Return the bytes of tape files that were released since a time, and when the first one of all was."""
        size = self._sql.one(
            "SELECT coalesce(sum(bytes), 0) FROM session WHERE tape_file IS NOT NULL AND released_at >= ?", since
        )[0]
        first = self._sql.one("SELECT min(released_at) FROM session WHERE tape_file IS NOT NULL")[0]
        return int(size), first

    def reclaimed(self, since: str) -> int:
        """Return the bytes of tape files whose volumes were reclaimed since a time."""
        row = self._sql.one(
            "SELECT coalesce(sum(details ->> 'data'), 0) FROM event WHERE what = 'reclaimed' AND at >= ?", since
        )
        return int(row[0])
