"""Extents: where each piece of a session's stream lies, and the parity of its stripes."""

import json
from collections.abc import Iterable
from typing import Any

from vtlfs.disks.records import BLOCK
from vtlfs.engine.tracking.rows import EXTENT, PARITY, extent_of
from vtlfs.engine.tracking.statements import Repository
from vtlfs.model import MAX_SIZE, NOWHERE, Extent, Session

BEGIN = -MAX_SIZE - 1  # before the turn of any extent


def turn(extent: Extent) -> int:
    """Return the sort key of an extent among those of its session on one disk: first those at no known position."""
    return extent.position if extent.position != NOWHERE else (extent.offset or 0) - MAX_SIZE


class Extents(Repository):
    """The rows of the tables `extent` and `parity`."""

    def add(self, extents: Iterable[Extent]) -> set[int]:
        """Record extents that are on the disks; return the numbers of these disks."""
        data, parity, disks = [], [], set()
        for one in extents:
            disks.add(one.disk)
            where = (one.disk, one.position, one.stored, one.blake3)
            if one.is_parity:
                parity.append((one.session, one.stripe, one.place, *where))
            else:
                data.append((one.session, one.offset, one.bytes, one.stripe, one.place, one.codec, *where))
        self._sql.execute_many("INSERT INTO extent VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?)", data)
        if parity:
            self._sql.execute_many("INSERT INTO parity VALUES (?, ?, ?, ?, ?, ?, ?)", parity)
        self._count_stored([*data, *parity])
        return disks

    def _count_stored(self, rows: list[tuple[Any, ...]], sign: int = 1) -> None:
        """Add rows to the sums of the table `stored`; `sign` -1 subtracts. Their last four values are the place."""
        sums: dict[int, list[int]] = {}
        for *_, disk, _, stored, _ in rows:
            known = sums.setdefault(disk, [0, 0])
            known[0] += sign
            known[1] += sign * stored
        self._sql.execute_many(
            "INSERT INTO stored (disk, extents, bytes) VALUES (?, ?, ?) ON CONFLICT (disk) DO UPDATE SET"
            " extents = extents + excluded.extents, bytes = bytes + excluded.bytes",
            [(disk, *both) for disk, both in sums.items()],
        )

    def of(self, session: int, offset: int, count: int) -> list[Extent]:
        """Return up to `count` data extents of a session, from the one that has the byte at the offset."""
        rows = self._sql.execute(
            f"SELECT {EXTENT} FROM extent WHERE session = ?1 AND offset >= (SELECT coalesce(max(offset), 0) FROM extent"
            " WHERE session = ?1 AND offset <= ?2) ORDER BY offset LIMIT ?3",
            *(session, offset, count),
        )
        return [extent_of(row) for row in rows]

    def stripe(self, member: Extent, reach: int) -> list[Extent]:
        """Return all extents of the stripe of a data extent: its data by place, then its parity.

        `reach`: the bytes of the stream that a stripe has at most.
        """
        data = self._sql.execute(
            f"SELECT {EXTENT} FROM extent WHERE session = ? AND offset > ? AND offset < ? AND stripe = ?"
            " ORDER BY place",
            *(member.session, (member.offset or 0) - reach, (member.offset or 0) + reach, member.stripe),
        )
        parity = self._sql.execute(
            f"SELECT {PARITY} FROM parity WHERE session = ? AND stripe = ? ORDER BY place",
            *(member.session, member.stripe),
        )
        return [extent_of(row) for row in (*data, *parity)]

    def parity_of(self, extents: Iterable[Extent]) -> list[Extent]:
        """Return the parity of the stripes of some data extents of one session, by stripe and row."""
        stripes = {(one.session, one.stripe) for one in extents}
        rows = self._sql.execute(
            f"SELECT {PARITY} FROM parity WHERE (session, stripe) IN"
            " (SELECT value ->> 0, value ->> 1 FROM json_each(?)) ORDER BY session, stripe, place",
            json.dumps(sorted(stripes)),
        )
        return [extent_of(row) for row in rows]

    def begins(self, session: int, first: int, last: int) -> dict[int, int]:
        """Return where the stripes numbered `first` to `last` begin in the stream. Reads all rows of the session."""
        rows = self._sql.execute(
            "SELECT stripe, min(offset) FROM extent WHERE session = ? AND stripe BETWEEN ? AND ? GROUP BY stripe",
            *(session, first, last),
        )
        return dict(rows.fetchall())

    def on_disk(self, disk: int, session: int, after: int, count: int) -> list[Extent]:
        """Return up to `count` extents of a session on one disk, data and parity, in the order of `turn`, after a turn.

        Extents that a rebuild has not found come first. Reads all rows of the session.
        """
        rows = self._sql.execute(
            f"SELECT {EXTENT} FROM (SELECT {EXTENT}, iif(position = ?5, offset - ?6, position) AS turn FROM extent"
            f" WHERE session = ?1 AND disk = ?2 UNION ALL SELECT {PARITY}, position FROM parity"
            " WHERE session = ?1 AND disk = ?2) WHERE turn > ?3 ORDER BY turn LIMIT ?4",
            *(session, disk, after, count, NOWHERE, MAX_SIZE),
        )
        return [extent_of(row) for row in rows]

    def ends(self, session: int) -> dict[int, int]:
        """Return, by disk, where the last recorded extent in the session's member file ends."""
        return {disk: lengths[session] for disk, lengths in self.member_lengths(session, session).items()}

    def has_unknown(self) -> bool:
        """Tell whether an extent is at no known position, since a rebuild has not found it."""
        return self._sql.first("SELECT 1 FROM extent WHERE position = ? LIMIT 1", NOWHERE) is not None

    def is_found(self, session: int) -> bool:
        """Tell whether the position of each extent of a session is known, and each stripe has all its parity."""
        query = (
            "SELECT 1 FROM extent JOIN session ON id = session WHERE session = ?1 AND (position = ?2"
            " OR session.parity > (SELECT count(*) FROM parity WHERE session = ?1 AND stripe = extent.stripe)) LIMIT 1"
        )
        return self._sql.first(query, session, NOWHERE) is None

    def mapped_bytes(self, session: Session) -> int:
        """Return how many bytes of a session's stream are in extents on disks that the session's row names."""
        row = self._sql.one(
            "SELECT coalesce(sum(bytes), 0) FROM extent WHERE session = ? AND disk IN (SELECT value FROM json_each(?))",
            *(session.id, json.dumps(session.disks)),
        )
        return int(row[0])

    def member_lengths(self, first: int, last: int) -> dict[int, dict[int, int]]:
        """Return, by disk and session, the least length of each member file of the sessions `first` to `last`."""
        found: dict[int, dict[int, int]] = {}
        rows = self._sql.execute(
            "SELECT session, disk, max(position + ?3 + stored) FROM (SELECT session, disk, position, stored FROM extent"
            " WHERE session BETWEEN ?1 AND ?2 AND position <> ?4 UNION ALL SELECT session, disk, position, stored"
            " FROM parity WHERE session BETWEEN ?1 AND ?2) GROUP BY session, disk",
            *(first, last, BLOCK, NOWHERE),
        )
        for session, disk, length in rows:
            found.setdefault(disk, {})[session] = length
        return found
