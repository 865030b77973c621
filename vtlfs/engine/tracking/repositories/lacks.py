"""Stripes that are known to lack something: parity that they were written without, or extents that are damaged."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import groupby

from vtlfs.engine.tracking.statements import Repository
from vtlfs.failpoints import reached
from vtlfs.model import Extent

HEADERS = -1  # in the place of a stripe: headers of the session's member files


@dataclass(frozen=True, slots=True)
class Lack:
    """A stripe that lacks something. `parity`: extents that it was written without; `damaged`: 1 if one is."""

    session: int
    stripe: int
    found_at: str
    bytes: int
    parity: int
    damaged: int


@dataclass(frozen=True, slots=True)
class Degraded:
    """Stripes that lack so much `parity`: how many, the stored bytes of their data, and since when the oldest does."""

    parity: int
    stripes: int
    bytes: int
    since: str


class Lacks(Repository):
    """The rows of the table `lack`."""

    def note_written(self, session: int, rows: Iterable[Extent], parity: int, at: str) -> None:
        """Note which stripes that are being recorded have less than `parity` parity extents. `rows`: by stripe."""
        found = []
        for stripe, extents in groupby(rows, key=lambda row: row.stripe):
            members = list(extents)
            missing = parity - sum(one.is_parity for one in members)
            if missing > 0:
                found.append((session, stripe, at, sum(one.bytes for one in members), missing))
        if found:
            self._sql.execute_many("INSERT INTO lack VALUES (?, ?, ?, ?, ?, 0)", found)
            reached("tracking.lack_noted")

    def note_damaged(self, session: int, stripes: Iterable[int], at: str) -> None:
        """Note that extents of stripes, their records, or headers (HEADERS) were found damaged."""
        for stripe in set(stripes):
            self._sql.execute(
                "INSERT INTO lack SELECT ?1, ?2, ?3, coalesce(sum(stored), 0), 0, 1 FROM extent"
                " WHERE session = ?1 AND stripe = ?2 ON CONFLICT DO UPDATE SET damaged = 1",
                *(session, stripe, at),
            )
        reached("tracking.damage_noted")

    def degraded(self) -> list[Degraded]:
        """Return what was written with too little parity, by how much, and what was found damaged under parity 0."""
        rows = self._sql.execute(
            "SELECT parity, count(*), sum(bytes), min(found_at) FROM lack WHERE stripe <> ? GROUP BY parity"
            " ORDER BY parity DESC",
            HEADERS,
        )
        return [Degraded(*row) for row in rows]

    def of(self, session: int) -> list[Lack]:
        """Return what a session lacks, by stripe."""
        rows = self._sql.execute(
            "SELECT session, stripe, found_at, bytes, parity, damaged FROM lack WHERE session = ? ORDER BY stripe",
            session,
        )
        return [Lack(*row) for row in rows]

    def sessions(self, after: int, count: int) -> list[int]:
        """Return up to `count` sessions that lack something, behind one."""
        rows = self._sql.execute(
            "SELECT DISTINCT session FROM lack WHERE session > ? ORDER BY session LIMIT ?", after, count
        )
        return [row[0] for row in rows]

    def remove(self, session: int, stripes: Sequence[int]) -> None:
        """Forget stripes that are whole now."""
        self._sql.execute_many(
            "DELETE FROM lack WHERE session = ? AND stripe = ?", [(session, stripe) for stripe in stripes]
        )
        reached("tracking.lack_removed")
