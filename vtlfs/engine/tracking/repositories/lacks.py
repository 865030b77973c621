"""Stripes that are known to lack something: parity that they were written without, or extents that are damaged."""

import json
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


@dataclass(frozen=True, slots=True)
class Damaged:
    """What verifications found damaged: stripes, the stored bytes of their data, sessions with headers, since when."""

    stripes: int
    bytes: int
    headers: int
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

    def forget(self, session: int) -> None:
        """Forget what a session lacks, for its extents are forgotten."""
        self._sql.execute("DELETE FROM lack WHERE session = ?", session)

    def note_damaged(self, session: int, stripes: Iterable[int], at: str) -> None:
        """Note that extents of stripes, their records, or headers (HEADERS) were found damaged.

        Stripes that are no longer there, for a repair has dealt them anew, lack nothing.
        """
        wanted = set(stripes)
        self._sql.execute(
            "INSERT INTO lack SELECT session, stripe, ?3, sum(stored), 0, 1 FROM extent WHERE session = ?1"
            " AND stripe IN (SELECT value FROM json_each(?2)) GROUP BY stripe ON CONFLICT DO UPDATE SET damaged = 1",
            *(session, json.dumps(sorted(wanted)), at),
        )
        if HEADERS in wanted:
            self._sql.execute(
                "INSERT INTO lack SELECT id, ?2, ?3, 0, 0, 1 FROM session WHERE id = ?1 AND NOT reclaimed"
                " ON CONFLICT DO UPDATE SET damaged = 1",
                *(session, HEADERS, at),
            )
        reached("tracking.damage_noted")

    def degraded(self) -> list[Degraded]:
        """Return what has too little parity, by how much; under 0, what has enough, but lost extents in a rebuild."""
        rows = self._sql.execute(
            "SELECT parity, count(*), sum(bytes), min(found_at) FROM lack"
            " WHERE stripe <> ? AND (parity > 0 OR damaged = 0) GROUP BY parity ORDER BY parity DESC",
            HEADERS,
        )
        return [Degraded(*row) for row in rows]

    def damaged(self) -> Damaged | None:
        """Return what verifications found damaged and nothing has mended; None where there is nothing."""
        row = self._sql.one(
            "SELECT count(*) FILTER (WHERE stripe <> ?1), coalesce(sum(bytes) FILTER (WHERE stripe <> ?1), 0),"
            " count(*) FILTER (WHERE stripe = ?1), min(found_at) FROM lack WHERE damaged = 1",
            HEADERS,
        )
        return None if row[3] is None else Damaged(*row)

    def exist(self) -> bool:
        """Tell whether any stripe lacks anything."""
        return self._sql.first("SELECT 1 FROM lack LIMIT 1") is not None

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

    def of_all(self, sessions: Sequence[int]) -> list[Lack]:
        """Return what some sessions lack, by session and stripe."""
        rows = self._sql.execute(
            "SELECT session, stripe, found_at, bytes, parity, damaged FROM lack"
            " WHERE session IN (SELECT value FROM json_each(?)) ORDER BY session, stripe",
            json.dumps(sessions),
        )
        return [Lack(*row) for row in rows]

    def of_stripes(self, session: int, stripes: Sequence[int]) -> list[Lack]:
        """Return what some stripes of a session lack."""
        rows = self._sql.execute(
            "SELECT session, stripe, found_at, bytes, parity, damaged FROM lack"
            " WHERE session = ? AND stripe IN (SELECT value FROM json_each(?))",
            *(session, json.dumps(stripes)),
        )
        return [Lack(*row) for row in rows]

    def total(self) -> int:
        """Return the stored bytes of the data of all stripes that lack something."""
        return int(self._sql.one("SELECT coalesce(sum(bytes), 0) FROM lack")[0])

    def are_of_tape_files(self) -> bool:
        """Tell whether stripes lack something that are not of open sessions only: those can be mended."""
        session = 0
        while True:
            found = self._sql.one("SELECT min(session) FROM lack WHERE session > ?", session)[0]
            if found is None:
                return False
            session = found
            if self._sql.first("SELECT 1 FROM session WHERE id = ? AND tape_file IS NOT NULL", session):
                return True

    def count(self) -> int:
        """Return how many stripes lack something."""
        return int(self._sql.one("SELECT count(*) FROM lack")[0])

    def note_mended(
        self, whole: Iterable[tuple[int, int, bool]], left: Iterable[tuple[int, int, int, int, bool, bool]], at: str
    ) -> None:
        """Forget stripes that are whole now; note what others still lack.

        `whole`: session, stripe, and whether the stripe was examined. `left`: session, stripe, stored bytes of its
        data, how many parity extents it lacks, whether an extent is damaged, and whether the stripe was examined.
        Damage that was noted meanwhile in a stripe that was not examined stays noted.
        """
        self._sql.execute_many("DELETE FROM lack WHERE session = ? AND stripe = ? AND damaged <= ?", whole)
        self._sql.execute_many(
            "INSERT INTO lack VALUES (?1, ?2, ?7, ?3, ?4, ?5) ON CONFLICT DO UPDATE SET bytes = ?3, parity = ?4,"
            " damaged = iif(?6, ?5, max(damaged, ?5))",
            [(*one, at) for one in left],
        )
        reached("tracking.lack_mended")

    def remove(self, session: int, stripes: Sequence[int]) -> None:
        """Forget stripes that are whole now."""
        self._sql.execute_many(
            "DELETE FROM lack WHERE session = ? AND stripe = ?", [(session, stripe) for stripe in stripes]
        )
        reached("tracking.lack_removed")
