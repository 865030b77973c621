"""Streams of pools in a rebuild: which sessions are their parts, and on which media the pools are.

`part_of` is a temporary table of `Scanned`: what the headers of sessions say. The database does not have its final name
yet: a power cut loses nothing.
"""

from collections.abc import Iterable
from dataclasses import dataclass, replace

from vtlfs.engine.tracking.statements import Repository


@dataclass(frozen=True, slots=True)
class FoundPart:
    """A part of a stream. `start`: its offset in the stream, None: no header says it; `bytes`: what it has left.

    `goes_on`: a header says that a further part follows.
    """

    session: int
    pool: str
    place: int
    start: int | None
    bytes: int
    goes_on: bool = False


class Rejoined(Repository):
    """See the module."""

    def join(self) -> list[int]:
        """Record the parts that the database does not know; return the streams that they are of.

        Of two sessions that claim the same place, the first one has it.
        """
        streams = self._sql.execute(
            "SELECT DISTINCT stream FROM part_of WHERE session IN (SELECT id FROM main.session WHERE access = 'write')"
            " AND session NOT IN (SELECT session FROM main.part) ORDER BY stream"
        ).fetchall()
        self._move_pools()
        self._sql.execute(
            "INSERT OR IGNORE INTO main.part (session, pool, stream, place) SELECT session, pool, stream, place"
            " FROM part_of WHERE session IN (SELECT id FROM main.session WHERE access = 'write') ORDER BY session"
        )
        return [int(row[0]) for row in streams]

    def _move_pools(self) -> None:
        """Have each pool be where its newest stream is, if the database does not know of that stream."""
        self._sql.execute(
            "INSERT INTO main.pool (name, medium, changed_at) SELECT pool, medium, opened_at FROM (SELECT pool, medium,"
            " opened_at, row_number() OVER (PARTITION BY pool ORDER BY commits DESC, part_of.session DESC) AS turn"
            " FROM part_of JOIN main.session ON id = part_of.session WHERE access = 'write'"
            " AND part_of.session NOT IN (SELECT session FROM main.part)) WHERE turn = 1"
            " ON CONFLICT (name) DO UPDATE SET medium = excluded.medium, is_full = 0, changed_at = excluded.changed_at"
            " WHERE medium IS NOT excluded.medium"
        )

    def parts(self, stream: int) -> list[FoundPart]:
        """Return the parts of a stream, in order."""
        rows = self._sql.execute(
            "SELECT part.session, part.pool, part.place, part_of.start, coalesce(tape_file.bytes, 0),"
            " coalesce(goes_on, 0) FROM main.part AS part LEFT JOIN part_of USING (session) LEFT JOIN tape_file"
            " ON tape_file.session = part.session WHERE part.stream = ? ORDER BY part.place",
            stream,
        )
        return [replace(FoundPart(*row), goes_on=bool(row[-1])) for row in rows]

    def number(self, parts: Iterable[FoundPart]) -> None:
        """Number the parts of a stream from 0: sessions that wrote nothing have left gaps."""
        self._sql.execute_many(
            "UPDATE main.part SET place = ? WHERE session = ?",
            ((place, part.session) for place, part in enumerate(parts) if part.place != place),
        )

    def take_apart(self, stream: int) -> None:
        """Forget a stream: its parts are tape files, each of its own."""
        self._sql.execute("DELETE FROM main.part WHERE stream = ?", stream)
