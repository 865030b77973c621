"""Extents: where each piece of a session's stream lies, and the parity of its stripes."""

import json
from collections.abc import Collection, Iterable, Sequence
from typing import Any

from vtlfs.disks.records import BLOCK
from vtlfs.engine.tracking.rows import EXTENT, PARITY, Row, extent_of
from vtlfs.engine.tracking.statements import Repository
from vtlfs.errors import TrackingError
from vtlfs.failpoints import reached
from vtlfs.model import MAX_SIZE, NOWHERE, Extent

BEGIN = -1  # before the turn of any extent

_PARITY_BESIDE = ", ".join(
    f"parity.{column}" if column.isidentifier() and column != "NULL" else column for column in PARITY.split(", ")
)  # beside another table's columns


def _where(row: Extent) -> tuple[Any, ...]:
    """Return what a row is recognised by; the last four values say where it is."""
    return row.session, row.offset, row.stripe, row.place, row.disk, row.position, row.stored, row.blake3


def _as_far_as_sound(rows: Iterable[Row]) -> list[Extent]:
    found: list[Extent] = []
    for row in rows:
        try:
            found.append(extent_of(row))
        except TrackingError:
            if not found:
                raise
            break
    return found


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

    def replace(self, old: Sequence[Extent], new: Sequence[Extent]) -> bool:
        """Put rows in the place of others; tell whether those were as they are said to be. Else call it off: roll back.

        Which disks the sessions have is for `Sessions.note_moved`.
        """
        data = [_where(one) for one in old if not one.is_parity]
        parity = [_where(one) for one in old if one.is_parity]
        found = self._sql.execute_many(
            "DELETE FROM extent WHERE session = ? AND offset = ? AND stripe = ? AND place = ? AND disk = ?"
            " AND position = ? AND stored = ? AND blake3 = ?",
            data,
        )
        found += self._sql.execute_many(
            "DELETE FROM parity WHERE session = ? AND ? IS NULL AND stripe = ? AND place = ? AND disk = ?"
            " AND position = ? AND stored = ? AND blake3 = ?",
            parity,
        )
        if found != len(old):
            return False
        self._count_stored([*data, *parity], -1)
        self.add(new)
        reached("tracking.extents_replaced")
        return True

    def _count_stored(self, rows: list[tuple[Any, ...]], sign: int = 1) -> None:
        """Add rows to the sums of the table `stored`, and to those of their volumes; `sign` -1 subtracts.

        The first value of a row is the session, the last four are the place. Of the 0.25 ms that a record of progress
        of one extent takes, the sum of the volume is 0.01 ms (measured): it is not worth adding up at the release.
        """
        sums: dict[int, list[int]] = {}
        sizes: dict[int, int] = {}
        for session, *_, disk, _, stored, _ in rows:
            known = sums.setdefault(disk, [0, 0])
            known[0] += sign
            known[1] += sign * stored
            sizes[session] = sizes.get(session, 0) + sign * stored
        self._sql.execute_many(
            "INSERT INTO stored (disk, extents, bytes) VALUES (?, ?, ?) ON CONFLICT (disk) DO UPDATE SET"
            " extents = extents + excluded.extents, bytes = bytes + excluded.bytes",
            [(disk, *both) for disk, both in sums.items()],
        )
        self._sql.execute_many(
            "UPDATE volume SET stored = volume.stored + ?1 FROM session WHERE session.id = ?2"
            " AND volume.medium = session.medium AND number = session.volume",
            [(size, session) for session, size in sizes.items()],
        )

    def forget(self, session: int) -> None:
        """Forget all extents of a session, which left nothing on its medium."""
        for table in ("extent", "parity"):
            rows = self._sql.execute(
                f"DELETE FROM {table} WHERE session = ? RETURNING session, disk, position, stored, blake3", session
            )
            self._count_stored(rows.fetchall(), -1)

    def give_up(self, disk: int, other: int) -> tuple[dict[int, set[int]], int]:
        """Record that what lies on a disk is lost for good: its data lies NOWHERE, its parity is not there.

        The rows name the disk `other` from now on. Return the stripes by session, and the lost bytes of the streams.
        """
        data = self._sql.execute(
            "SELECT session, stripe, offset, bytes, position, stored, blake3 FROM extent WHERE disk = ?", disk
        ).fetchall()
        parity = self._sql.execute(
            "DELETE FROM parity WHERE disk = ? RETURNING session, stripe, disk, position, stored, blake3", disk
        ).fetchall()
        self._sql.execute_many(
            "UPDATE extent SET disk = ?, position = ? WHERE session = ? AND offset = ?",
            [(other, NOWHERE, session, offset) for session, _, offset, *_ in data],
        )
        self._count_stored([(row[0], disk, *row[-3:]) for row in data] + parity, -1)
        self._count_stored([(row[0], other, *row[-3:]) for row in data])
        stripes: dict[int, set[int]] = {}
        for session, stripe, *_ in (*data, *parity):
            stripes.setdefault(session, set()).add(stripe)
        reached("tracking.extents_given_up")
        return stripes, sum(row[3] for row in data)

    def forget_last(self, session: int, most: int) -> tuple[int, int]:
        """Forget up to `most` extents of a reclaimed session, its parity first, and the last of each first.

        Return how many there were, and their stored bytes. So what is left is never a stripe with less data
        than its parity says.
        """
        for table, key in (("parity", "stripe, place"), ("extent", "offset")):
            rows = self._sql.execute(
                f"DELETE FROM {table} WHERE session = ?1 AND ({key}) IN (SELECT {key} FROM {table} WHERE session = ?1"
                f" ORDER BY {', '.join(f'{one} DESC' for one in key.split(', '))} LIMIT ?2)"
                " RETURNING session, disk, position, stored, blake3",
                *(session, most),
            ).fetchall()
            if rows:
                self._count_stored(rows, -1)
                reached("tracking.extents_reclaimed")
                return len(rows), sum(row[3] for row in rows)
        return 0, 0

    def of(self, session: int, offset: int, count: int) -> list[Extent]:
        """Return up to `count` data extents of a session, from the one that has the byte at the offset.

        They end before a damaged row; only where that is the first one is it an error: it is not read across.
        """
        rows = self._sql.execute(
            f"SELECT {EXTENT} FROM extent WHERE session = ?1 AND offset >= (SELECT coalesce(max(offset), 0) FROM extent"
            " WHERE session = ?1 AND offset <= ?2) ORDER BY offset LIMIT ?3",
            *(session, offset, count),
        )
        return _as_far_as_sound(rows)

    def of_all(self, sessions: Sequence[int], most: int) -> list[Extent]:
        """Return up to `most` data extents of some sessions, by session and offset."""
        rows = self._sql.execute(
            f"SELECT {EXTENT} FROM extent WHERE session IN (SELECT value FROM json_each(?)) ORDER BY session, offset"
            " LIMIT ?",
            *(json.dumps(sessions), most),
        )
        return [extent_of(row) for row in rows]

    def of_stripes(self, session: int, stripes: Iterable[int] | None, begin: int, end: int) -> list[Extent]:
        """Return the data extents of some stripes of a session between two offsets. Reads all rows between them.

        `stripes`: their numbers; None: those that are known to lack something.
        """
        if stripes is None:  # looked up one by one: a session may have millions
            which, values = "EXISTS (SELECT 1 FROM lack WHERE lack.session = ?1 AND lack.stripe = extent.stripe)", []
        else:
            which, values = "stripe IN (SELECT value FROM json_each(?4))", [json.dumps(list(stripes))]
        rows = self._sql.execute(
            f"SELECT {EXTENT} FROM extent WHERE session = ?1 AND offset >= ?2 AND offset < ?3 AND {which}"
            " ORDER BY offset",
            *(session, begin, end, *values),
        )
        return [extent_of(row) for row in rows]

    def last_stripe(self, session: int) -> int:
        """Return the highest number of a stripe of a session; -1 without any. Reads all rows of the session."""
        row = self._sql.one(
            "SELECT max(coalesce((SELECT max(stripe) FROM extent WHERE session = ?1), -1),"
            " coalesce((SELECT max(stripe) FROM parity WHERE session = ?1), -1))",
            session,
        )
        return int(row[0])

    def is_on(self, session: int, disk: int) -> bool:
        """Tell whether a disk has an extent of a session. Looks at the end of the stream first."""
        row = self._sql.one(
            "SELECT coalesce((SELECT 1 FROM extent WHERE session = ?1 AND disk = ?2 ORDER BY offset DESC LIMIT 1),"
            " (SELECT 1 FROM parity WHERE session = ?1 AND disk = ?2 ORDER BY stripe DESC LIMIT 1), 0)",
            *(session, disk),
        )
        return bool(row[0])

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

    def on_disk(self, disk: int, session: int, after: int, count: int) -> tuple[list[tuple[int, Extent]], int | None]:
        """Return a session's extents on one disk whose turn comes after one, by their turn; and after which to go on.

        The turn of data is its offset, that of parity the offset at which its stripe begins: on a disk, extents are
        written in that order, until a repair moves some. Looked at are up to `count` data extents, on whatever disk.
        None: these were the last.
        """
        following = self._sql.first(
            "SELECT offset FROM extent WHERE session = ? AND offset > ? ORDER BY offset LIMIT 1 OFFSET ?",
            *(session, after, count),
        )
        reach = (session, after, MAX_SIZE if following is None else following[0], disk)
        data = self._sql.execute(
            f"SELECT offset, {EXTENT} FROM extent WHERE session = ? AND offset > ? AND offset < ? AND disk = ?", *reach
        )
        parity = self._sql.execute(
            f"SELECT extent.offset, {_PARITY_BESIDE} FROM extent CROSS JOIN parity ON parity.session = extent.session"
            " AND parity.stripe = extent.stripe WHERE extent.session = ? AND extent.offset > ? AND extent.offset < ?"
            " AND extent.place = 0 AND parity.disk = ?",
            *reach,
        )
        found = [(int(turn), extent_of(tuple(row))) for turn, *row in (*data, *parity)]
        return sorted(found, key=lambda one: (one[0], one[1].is_parity)), None if following is None else following[
            0
        ] - 1

    def is_recorded(self, extent: Extent) -> bool:
        """Tell whether an extent is still recorded as it is said to be: a repair may have moved it meanwhile."""
        where = (extent.session, extent.stripe, extent.place, extent.disk, extent.position)
        known = "session = ? AND stripe = ? AND place = ? AND disk = ? AND position = ?"
        if extent.is_parity:
            return self._sql.first(f"SELECT 1 FROM parity WHERE {known}", *where) is not None
        return self._sql.first(f"SELECT 1 FROM extent WHERE {known} AND offset = ?", *where, extent.offset) is not None

    def lost_bytes(self, session: int, disks: Collection[int]) -> int:
        """Return how many bytes of a session's stream are lost without some disks, for too little parity is left."""
        row = self._sql.one(
            "SELECT coalesce(sum(lost), 0) FROM (SELECT sum(is_gone) AS gone, sum(is_gone * bytes) AS lost,"
            " (SELECT count(*) FROM parity WHERE session = ?1 AND parity.stripe = data.stripe"
            " AND disk NOT IN (SELECT value FROM json_each(?2))) AS there FROM (SELECT stripe, bytes,"
            " disk IN (SELECT value FROM json_each(?2)) AS is_gone FROM extent WHERE session = ?1) AS data"
            " GROUP BY stripe) WHERE gone > there",
            *(session, json.dumps(sorted(disks))),
        )
        return int(row[0])

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

    def mapped_bytes(self, session: int) -> int:
        """Return of how many bytes of a session's stream the place is recorded, on disks of it and of the library."""
        row = self._sql.one(
            "SELECT coalesce(sum(bytes), 0) FROM extent WHERE session = ?1 AND disk IN (SELECT value FROM json_each("
            "(SELECT disks FROM session WHERE id = ?1)) WHERE value IN"
            " (SELECT number FROM disk WHERE state <> 'retired'))",
            session,
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
